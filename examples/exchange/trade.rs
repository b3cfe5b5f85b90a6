//! Random orders, and a trader that places many at a time.

use std::time::{Duration, Instant};

use freehold::{AskError, Handle};

use super::{Exchange, Place, SYMBOLS, Side, Symbol, USERS, User};

/// How often it says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(100);

/// A random order.
pub(super) fn any_order(random: &mut u64, symbols: Symbol, users: User) -> Place {
    let mut below = |max: u64| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) % max
    };
    Place {
        symbol: below(u64::from(symbols)) as Symbol,
        user: below(users),
        side: if below(2) == 0 { Side::Buy } else { Side::Sell },
        price: 90 + below(21),
        quantity: 1 + below(20),
    }
}

/// Places random orders, many at a time, and says how far it is. How many were taken, and how many
/// refused.
pub(super) fn trade(exchange: &Handle<Exchange>, orders: u64, seed: u64) -> (usize, usize) {
    let (mut taken, mut refused, mut random) = (0, 0, seed);
    let mut said = Instant::now();
    for begin in (0..orders).step_by(512) {
        let batch: Vec<_> =
            (begin..orders.min(begin + 512)).map(|_| any_order(&mut random, SYMBOLS, USERS)).collect();
        for placed in exchange.call_all(batch).wait() {
            match placed {
                Ok(_) => taken += 1,
                Err(AskError::Aborted(_)) => refused += 1,
                Err(failed) => panic!("an order was neither taken nor refused: {failed}"),
            }
        }
        if said.elapsed() >= SAY_EVERY {
            println!("so far: {taken} orders taken, {refused} refused");
            said = Instant::now();
        }
    }
    (taken, refused)
}
