//! How long things took, counted in buckets whose bounds never change, so that the counts of
//! shards, processes and versions add up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many buckets have an upper bound.
const BOUNDED: usize = 22;

/// How many things took how long.
///
/// ```
/// use freehold::Distribution;
///
/// let mut all = Distribution::default();
/// assert_eq!(all.count(), 0);
/// all.add(&Distribution::default());
/// assert_eq!(Distribution::BOUNDS.len() + 1, all.counts.len());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// How many took at most [`Distribution::BOUNDS`] at this place, and more than the bound
    /// before. The last counts those that took more than every bound.
    pub counts: [u64; BOUNDED + 1],
    /// How long all of them took together.
    pub sum: Duration,
}

impl Distribution {
    /// What at most the things of each bucket took: 1, 2.5 and 5 in each decade, from a microsecond
    /// to ten seconds.
    pub const BOUNDS: [Duration; BOUNDED] = bounds();

    /// How many things there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Another took so long.
    pub fn note(&mut self, took: Duration) {
        self.counts[Distribution::BOUNDS.partition_point(|bound| *bound < took)] += 1;
        self.sum += took;
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Distribution) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }
}

const fn bounds() -> [Duration; BOUNDED] {
    let mut bounds = [Duration::ZERO; BOUNDED];
    let (mut at, mut decade) = (0, 1_000);
    while at < BOUNDED {
        let nanoseconds = match at % 3 {
            0 => decade,
            1 => decade * 5 / 2,
            _ => decade * 5,
        };
        bounds[at] = Duration::from_nanos(nanoseconds);
        if at % 3 == 2 {
            decade *= 10;
        }
        at += 1;
    }
    bounds
}

/// A [`Distribution`] that one thread adds to while others read it: plain stores, no lock.
#[derive(Default)]
pub(crate) struct SharedDistribution {
    counts: [AtomicU64; BOUNDED + 1],
    sum_ns: AtomicU64,
}

impl SharedDistribution {
    /// `count` more took so long each. One thread at a time calls this.
    pub(crate) fn record(&self, took: Duration, count: u64) {
        let bucket = &self.counts[Distribution::BOUNDS.partition_point(|bound| *bound < took)];
        bucket.store(bucket.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        let more = (took.as_nanos() as u64).saturating_mul(count);
        self.sum_ns.store(self.sum_ns.load(Ordering::Relaxed).saturating_add(more), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Distribution {
        Distribution {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_ascend_from_a_microsecond_to_ten_seconds() {
        let bounds = Distribution::BOUNDS;
        assert!(bounds.is_sorted());
        assert_eq!((bounds[0], bounds[4]), (Duration::from_micros(1), Duration::from_micros(25)));
        assert_eq!(bounds[BOUNDED - 1], Duration::from_secs(10));
    }

    #[test]
    fn what_takes_a_bound_exactly_is_below_it_and_distributions_add_up() {
        let shared = SharedDistribution::default();
        shared.record(Duration::from_micros(1), 2);
        shared.record(Duration::from_nanos(1_001), 3);
        shared.record(Duration::from_secs(60), 1);
        let mut all = shared.read();
        assert_eq!((all.counts[0], all.counts[1], all.counts[BOUNDED]), (2, 3, 1));
        all.add(&shared.read());
        let mut noted = Distribution::default();
        for micros in [1, 1, 60_000_000] {
            noted.note(Duration::from_micros(micros));
        }
        assert_eq!((noted.counts[0], noted.counts[BOUNDED], noted.count()), (2, 1, 3));
        assert_eq!(noted.sum, Duration::from_micros(60_000_002));
        assert_eq!(all.count(), 12);
        assert_eq!(all.sum, Duration::from_nanos(2 * (2_000 + 3_003) + 120_000_000_000));
    }
}
