//! Does a shard still take turns: a word that its pump moves, and who looks at it.
//!
//! A `receive` that does not end, or a task that blocks its thread, stops a shard without a word:
//! no statistics move, answers do not come, and a shutdown waits. So the pump of each shard moves
//! its *pulse* at every step, and says when a turn began. A thread of the runtime looks now and
//! then and warns *while* a shard stands still; a shutdown leaves behind what does not move any
//! more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A shard's pulse. Written by its pump, alone on its line.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    beats: AtomicU64,
    /// When the turn began that goes on, in nanoseconds of the runtime's time and not 0; 0 between
    /// turns.
    turn_began: AtomicU64,
}

impl Pulse {
    /// The pump is awake. (Plain numbers: it alone writes them.)
    #[inline]
    pub(crate) fn beat(&self) {
        self.beats.store(self.beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn turn_begins(&self, now_ns: u64) {
        self.turn_began.store(now_ns.max(1), Ordering::Relaxed);
    }

    /// It has ended.
    #[inline]
    pub(crate) fn turn_ends(&self) {
        self.turn_began.store(0, Ordering::Relaxed);
    }

    /// How often it has beaten.
    pub(crate) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// When the turn began that goes on, in nanoseconds of the runtime's time.
    pub(crate) fn turn_began(&self) -> Option<u64> {
        Some(self.turn_began.load(Ordering::Relaxed)).filter(|began| *began > 0)
    }
}

/// Finds out for how long a shard has not moved.
#[derive(Debug)]
pub(crate) struct Standstill {
    beats: u64,
    since: Instant,
    /// Warned of when it has lasted for so long.
    next_warning: Duration,
}

impl Standstill {
    pub(crate) fn new(now: Instant) -> Self {
        Standstill { beats: u64::MAX, since: now, next_warning: Duration::ZERO }
    }

    /// Looks at the pulse of a shard. For how long it has stood still.
    pub(crate) fn look(&mut self, pulse: &Pulse, now: Instant) -> Duration {
        if pulse.beats() != self.beats {
            self.excuse(pulse, now);
        }
        now.saturating_duration_since(self.since)
    }

    /// Up to now the shard has not stood still: it is parked, say, waits for others, and is woken
    /// by them.
    pub(crate) fn excuse(&mut self, pulse: &Pulse, now: Instant) {
        (self.beats, self.since) = (pulse.beats(), now);
    }

    /// Whether a standstill of `still` is to be warned of, the first time after `first` and then
    /// each time it has lasted twice as long.
    pub(crate) fn warns(&mut self, still: Duration, first: Duration) -> bool {
        if still < first {
            self.next_warning = first;
            return false;
        }
        let warns = still >= self.next_warning;
        if warns {
            self.next_warning = still * 2;
        }
        warns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_is_warned_of_while_it_lasts_and_seldom() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        let mut standstill = Standstill::new(begun);
        let mut warned = Vec::new();
        for second in 0..100 {
            let now = begun + Duration::from_secs(second);
            // It stands still from the tenth second on.
            if second <= 10 {
                pulse.beat();
            }
            let still = standstill.look(&pulse, now);
            if standstill.warns(still, Duration::from_secs(2)) {
                warned.push(still.as_secs());
            }
        }
        assert_eq!(warned, [2, 4, 8, 16, 32, 64]);
        // It moves again, and another one is warned of anew.
        pulse.beat();
        let now = begun + Duration::from_secs(200);
        let still = standstill.look(&pulse, now);
        assert!(still.is_zero() && !standstill.warns(still, Duration::from_secs(2)));
        let still = standstill.look(&pulse, now + Duration::from_secs(3));
        assert!(standstill.warns(still, Duration::from_secs(2)));
        // One that is parked waits for others.
        standstill.excuse(&pulse, now + Duration::from_secs(50));
        assert!(standstill.look(&pulse, now + Duration::from_secs(50)).is_zero());
    }

    #[test]
    fn a_turn_says_since_when_it_goes_on() {
        let pulse = Pulse::default();
        assert_eq!(pulse.turn_began(), None);
        pulse.turn_begins(0);
        assert_eq!(pulse.turn_began(), Some(1));
        pulse.turn_ends();
        assert_eq!(pulse.turn_began(), None);
    }
}
