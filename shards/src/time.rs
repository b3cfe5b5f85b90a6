//! Time, as a shard knows it: it has no clock, and is told.

use std::time::Duration;

/// A time: nanoseconds since the runtime started; with a log, that its database has been running,
/// in all its runs. Comes from outside; a shard has no clock.
///
/// The upper half are times of the wall clock, which goes on while nothing runs: see
/// [`Time::wall_clock`]. Only a message that was told for such a time has one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// The first time of the wall clock: 1970. All others come before.
    pub(crate) const WALL_CLOCK: Time = Time(1 << 63);

    /// The time `delay` later; the end of time if that is beyond it.
    #[must_use]
    pub fn after(self, delay: Duration) -> Time {
        Time(self.0.saturating_add(nanoseconds(delay)))
    }

    /// A time of the wall clock, so long after the beginning of 1970; 2262 if it is later.
    pub(crate) fn of_wall_clock(since_1970: Duration) -> Time {
        Time(Self::WALL_CLOCK.0 | nanoseconds(since_1970).min(Self::WALL_CLOCK.0 - 1))
    }

    /// Of a time of the wall clock: how long after the beginning of 1970 it is.
    pub fn wall_clock(self) -> Option<Duration> {
        (self >= Self::WALL_CLOCK).then(|| Duration::from_nanos(self.0 - Self::WALL_CLOCK.0))
    }

    /// When that is for a shard whose time was 0 so long after the beginning of 1970, for any time.
    pub(crate) fn in_run(self, began: Duration) -> Time {
        match self.wall_clock() {
            None => self,
            Some(since_1970) => Time(nanoseconds(since_1970.saturating_sub(began))),
        }
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
