//! Time, as a shard knows it: it has no clock, and is told.

use std::time::Duration;

/// A time: nanoseconds since the runtime started; with a log, that its database has been running,
/// in all its runs. Comes from outside; a shard has no clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// The time `delay` later; the end of time if that is beyond it.
    #[must_use]
    pub fn after(self, delay: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }
}
