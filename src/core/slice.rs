//! A slice of what a shard does beside its messages: it ends after a time, whatever its steps cost.
//!
//! A slice used to be a number of objects. With states of 1 MiB, 512 of them kept a read waiting
//! for 1.6 seconds. Now the clock decides. It is not read after each step: a read costs 25 ns, as
//! much as two small objects. While steps are short it is read more seldom, and as soon as one is
//! not, again after each. So a slice takes too long by the longest step it meets, and, where steps
//! become long all at once, by at most [`STRIDE_MAX`] of those.

use std::time::{Duration, Instant};

/// How long a slice takes.
pub(crate) const SLICE: Duration = Duration::from_micros(100);

/// The most steps between two looks at the clock.
const STRIDE_MAX: u32 = 32;

/// A slice that has begun.
#[derive(Debug)]
pub(crate) struct Slice {
    began: Instant,
    lasts: Duration,
    looked: Duration,
    stride: u32,
    left: u32,
}

impl Slice {
    /// Begins now.
    pub(crate) fn begin() -> Slice {
        Slice::stretched(1.0)
    }

    /// Begins now, and takes so many times as long as one does otherwise.
    pub(crate) fn stretched(times: f64) -> Slice {
        let lasts = SLICE.mul_f64(times);
        Slice { began: Instant::now(), lasts, looked: Duration::ZERO, stride: 1, left: 1 }
    }

    /// After a step: whether there is time for another.
    #[inline]
    pub(crate) fn goes_on(&mut self) -> bool {
        self.left -= 1;
        self.left > 0 || self.look(self.began.elapsed())
    }

    fn look(&mut self, now: Duration) -> bool {
        let since = now - self.looked;
        self.looked = now;
        self.stride = if since < SLICE / 16 { (2 * self.stride).min(STRIDE_MAX) } else { 1 };
        self.left = self.stride;
        now < self.lasts
    }

    /// How long it has taken.
    pub(crate) fn took(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many steps of so many nanoseconds a slice has, and how often it looks at the clock,
    /// which is made up.
    fn steps(mut step_ns: impl FnMut(u32) -> u64) -> (u32, u32) {
        let (mut slice, mut now, mut steps, mut looks) = (Slice::begin(), 0, 0, 0);
        loop {
            now += step_ns(steps);
            steps += 1;
            slice.left -= 1;
            if slice.left == 0 {
                looks += 1;
                if !slice.look(Duration::from_nanos(now)) {
                    return (steps, looks);
                }
            }
        }
    }

    // The story is above: 512 states of 1 MiB were one slice.
    #[test]
    fn a_slice_ends_by_time_and_not_by_count() {
        assert_eq!(steps(|_| 3_000_000), (1, 1), "one state of 1 MiB is more than enough");
        assert_eq!(steps(|_| 30_000), (4, 4));
        let (small, looks) = steps(|_| 20);
        assert!(small >= 5_000 && looks < small / 25, "{small} small objects, {looks} looks");
        // Large ones among small ones.
        let (mixed, _) = steps(|at| if at > 200 { 200_000 } else { 20 });
        assert!(mixed <= 200 + STRIDE_MAX, "{mixed}");
    }
}
