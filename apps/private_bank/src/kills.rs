//! When the ledger is killed, and with how many shards it is opened then.

use std::time::Duration;

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// The most shards that the ledger is opened with.
const SHARDS_MAX: u64 = 4;
/// A kill comes at most so long after the payment that it waits for: a start and a few payments.
const DELAY_MAX_US: u64 = 60_000;

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// After so many payments.
    pub paid: u64,
    /// And so long.
    pub delay: Duration,
    /// The shards of the ledger that is started then.
    pub shards: usize,
}

/// After each third of the payments.
pub fn two(payments: u64) -> Vec<Kill> {
    let kill = |paid, shards| Kill { paid, delay: Duration::ZERO, shards };
    vec![kill(payments / 3, 3), kill(2 * payments / 3, 2)]
}

/// At moments drawn from `seed`, in order. Where more than one waits for a payment, the ledger is
/// often killed while it starts.
pub fn drawn(kills: u64, payments: u64, seed: u64) -> Vec<Kill> {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut draw = |below: u64| random.next_u64() % below;
    let mut paid: Vec<_> = (0..kills).map(|_| draw(payments)).collect();
    paid.sort_unstable();
    let mut shards = 1;
    let kill = |paid| {
        // Another number than before.
        shards = (shards + draw(SHARDS_MAX - 1)) % SHARDS_MAX + 1;
        Kill { paid, delay: Duration::from_micros(draw(DELAY_MAX_US)), shards: shards as usize }
    };
    paid.into_iter().map(kill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_when_and_the_number_of_shards_changes_each_time() {
        let kills = drawn(300, 90, 7);
        assert_eq!(kills, drawn(300, 90, 7));
        assert_ne!(kills, drawn(300, 90, 8));
        assert!(kills.is_sorted_by_key(|kill| kill.paid) && kills.iter().all(|kill| kill.paid < 90));
        let shards: Vec<_> = std::iter::once(1).chain(kills.iter().map(|kill| kill.shards)).collect();
        assert!(shards.windows(2).all(|two| two[0] != two[1]), "{shards:?}");
        assert!((1..=4).all(|number| shards.contains(&number)) && shards.iter().all(|it| *it <= 4));
    }
}
