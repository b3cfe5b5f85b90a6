//! Orders of an exchange: on Freehold, by an engine written by hand, and in redb, in one run.
//!
//! ```text
//! cargo bench -p freehold-peers --bench exchange
//! FREEHOLD_RESTING=10000 cargo bench -p freehold-peers --bench exchange
//! ```
//! All place the same orders, in the same order: eight books with some 500 orders on each side, or
//! one of so many on both together; a thousand users. On Freehold an order that rests has a second
//! order, by price and time. An order holds cash or shares, trades with the best that wait, and
//! rests. All is on one thread or one shard; Freehold's clients are another. In memory, and on a
//! disk: there 512 orders are made durable together, or each by itself.
//!
//! The engines take turns. What each order traded is compared, and nothing may be made or lost.

#[path = "by_hand.rs"]
mod by_hand;
#[path = "freehold.rs"]
mod freehold_engine;
mod market;
#[path = "redb.rs"]
mod redb_engine;
#[path = "../../../benches/workload/report.rs"]
#[allow(dead_code, reason = "a bench uses a part of it")]
mod report;

use std::error::Error;
use std::fs::File;
use std::time::Instant;

use by_hand::ByHand;
use freehold_engine::Freehold;
use market::{CASH, Engine, Orders, SHARES, Traded, USERS, depth, symbols};
use redb_engine::Redb;
use report::{Conditions, Spread};

/// Orders that are placed together.
const TOGETHER: usize = 512;

/// All cash and all shares.
fn total() -> (u64, u64) {
    (USERS * CASH, USERS * u64::from(symbols()) * SHARES)
}

/// An engine with the orders that it is still to place.
struct Run<E> {
    engine: E,
    orders: Orders,
    traded: Vec<Traded>,
    /// Orders of a round, and thousands a second of each round.
    count: usize,
    together: usize,
    rates: Vec<f64>,
}

impl<E: Engine> Run<E> {
    /// Fills the books, before anything is measured.
    fn new(mut engine: E, warm_up: usize, count: usize, together: usize) -> Self {
        let (mut orders, mut traded) = (Orders::new(), Vec::new());
        orders.take(warm_up).chunks(TOGETHER).for_each(|some| engine.place(some, &mut traded));
        Run { engine, orders, traded, count, together, rates: Vec::new() }
    }

    fn round(&mut self) {
        let orders = self.orders.take(self.count);
        let begin = Instant::now();
        orders.chunks(self.together).for_each(|some| self.engine.place(some, &mut self.traded));
        self.rates.push(self.count as f64 / begin.elapsed().as_secs_f64() / 1e3);
    }

    fn say(&self, name: &str) {
        let Spread { median, lowest, highest } = Spread::of(self.rates.iter().copied());
        println!("{name:<44}{median:>10.1}   ({lowest:.1} to {highest:.1})");
    }
}

/// What each order traded is the same, as far as both have come.
fn agree(one: &[Traded], other: &[Traded]) {
    assert!(one.iter().zip(other).all(|(one, other)| one == other), "the engines disagree");
    assert!(one.iter().flatten().sum::<u64>() > 0, "something was traded");
}

/// How much is done.
struct Work {
    rounds: usize,
    warm_up: usize,
    /// Orders of a round in memory: of the fast engines, and of redb.
    fast: usize,
    slow: usize,
    /// The same of those that wait for a disk with each order.
    each: usize,
}

fn in_memory(work: &Work) -> Result<(), Box<dyn Error>> {
    let mut hand = Run::new(ByHand::new(None), work.warm_up, work.fast, TOGETHER);
    let mut freehold = Run::new(Freehold::open(None)?, work.warm_up, work.fast, TOGETHER);
    let redb = |together| -> Result<_, Box<dyn Error>> {
        let mut engine = Redb::open(None)?;
        engine.together = TOGETHER;
        let mut run = Run::new(engine, work.warm_up, work.slow, TOGETHER);
        run.engine.together = together;
        Ok(run)
    };
    let (mut grouped, mut single) = (redb(TOGETHER)?, redb(1)?);
    for _ in 0..work.rounds {
        hand.round();
        freehold.round();
        grouped.round();
        single.round();
    }
    hand.say("in memory: by hand");
    freehold.say("in memory: Freehold");
    grouped.say("in memory: redb, 512 orders a transaction");
    single.say("in memory: redb, a transaction each");
    agree(&hand.traded, &freehold.traded);
    agree(&hand.traded, &grouped.traded);
    agree(&hand.traded, &single.traded);
    assert_eq!(
        (freehold.engine.total(), grouped.engine.total()?, single.engine.total()?),
        (total(), total(), total())
    );
    Ok(())
}

fn on_disk(work: &Work) -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let at = |name: &str| place.path().join(name);
    let hand = |name: &str, count, together| -> Result<_, Box<dyn Error>> {
        Ok(Run::new(ByHand::new(Some(File::create(at(name))?)), work.warm_up, count, together))
    };
    let freehold = |name: &str, count, together| -> Result<_, Box<dyn Error>> {
        Ok(Run::new(Freehold::open(Some(&at(name)))?, work.warm_up, count, together))
    };
    let redb = |name: &str, count, together| -> Result<_, Box<dyn Error>> {
        let mut engine = Redb::open(Some(&at(name)))?;
        engine.together = TOGETHER;
        let mut run = Run::new(engine, work.warm_up, count, together);
        run.engine.together = together;
        Ok(run)
    };
    let mut hands = [hand("hand", work.fast, TOGETHER)?, hand("hand-1", work.each, 1)?];
    let mut freeholds = [freehold("freehold", work.fast, TOGETHER)?, freehold("freehold-1", work.each, 1)?];
    let mut redbs = [redb("redb", work.slow, TOGETHER)?, redb("redb-1", work.each, 1)?];
    let log_before = freeholds[0].engine.log_bytes();
    for _ in 0..work.rounds {
        for way in 0..2 {
            hands[way].round();
            freeholds[way].round();
            redbs[way].round();
        }
    }
    for (way, name) in ["512 at a time", "one at a time"].into_iter().enumerate() {
        hands[way].say(&format!("on disk, {name}: by hand"));
        freeholds[way].say(&format!("on disk, {name}: Freehold"));
        redbs[way].say(&format!("on disk, {name}: redb"));
    }
    let log_bytes = freeholds[0].engine.log_bytes() - log_before;
    println!(
        "bytes of log an order, 512 at a time: {:.1}",
        log_bytes as f64 / (work.rounds * work.fast) as f64
    );
    for way in 0..2 {
        agree(&hands[0].traded, &hands[way].traded);
        agree(&hands[0].traded, &freeholds[way].traded);
        agree(&hands[0].traded, &redbs[way].traded);
        assert_eq!((freeholds[way].engine.total(), redbs[way].engine.total()?), (total(), total()));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let work = if std::env::args().any(|argument| argument == "--bench") {
        // So many that the books are full.
        let warm_up = (20 * depth() as usize).max(30_000);
        Work { rounds: 9, warm_up, fast: 200_000, slow: 20_000, each: 500 }
    } else {
        Work { rounds: 2, warm_up: 600, fast: 600, slow: 600, each: 3 }
    };
    println!("{}\n\nthousands of orders a second, median of {} rounds\n", Conditions::now(), work.rounds);
    in_memory(&work)?;
    on_disk(&work)?;
    println!("\nchecked: every order traded the same everywhere, and nothing was made or lost");
    Ok(())
}
