//! What time it is on a shard, and what reading it costs: nothing while nothing depends on it.

use std::time::{Duration, Instant};

use freehold_shard::Time;

/// The shard's time. Real time, less what passed while it stood still.
///
/// `ask_now` is not to pay for a clock that nothing depends on. While no message waits for its
/// time, a task's message sees the time of the last turn, however long ago; if it is the first to
/// set a timer, time simply goes on from there, so that no timer is early. While one does wait, the
/// clock is read.
pub(crate) struct Clock {
    started: Instant,
    /// The time then: of a database, what it had been running.
    began: Time,
    stood_still: Duration,
    /// When it was last read.
    pub(crate) last: Instant,
    /// The time as of then.
    pub(crate) now: Time,
}

impl Clock {
    pub(crate) fn new(started: Instant, began: Time) -> Self {
        Clock { started, began, stood_still: Duration::ZERO, last: started, now: began }
    }

    #[inline]
    pub(crate) fn read(&mut self) -> Time {
        self.last = Instant::now();
        let since = self.last.saturating_duration_since(self.started).saturating_sub(self.stood_still);
        self.now = self.began.after(since);
        self.now
    }

    /// Real time since the runtime started, as of when it was last read.
    pub(crate) fn real(&self) -> Time {
        Time(nanoseconds(self.last.saturating_duration_since(self.started)))
    }

    /// Nothing depended on the time since it was last read: it stood still. Returns for how long.
    #[cold]
    pub(crate) fn stand_still(&mut self) -> Duration {
        let was = self.now;
        let is = self.read();
        let stood = Duration::from_nanos(is.0.saturating_sub(was.0));
        self.stood_still += stood;
        self.now = was;
        stood
    }
}

fn nanoseconds(span: Duration) -> u64 {
    span.as_secs() * 1_000_000_000 + u64::from(span.subsec_nanos())
}
