//! How long the log is, how long it may become, and what that asks of checkpoints and of messages.
//!
//! The promise: since the last checkpoint began there are at most `checkpoint_bytes` of log, and
//! during the next one as much again, or as much as the last one was large, if that is more
//! (*bound*). It holds as long as checkpoints do not fail. Three things see to it, each when the
//! one before does not do:
//!
//! 1. A checkpoint begins when the log has `checkpoint_bytes` (*due*).
//! 2. While it is written the log may grow: at first by half of the room that is left, and by all
//!    of it as the walk comes to its end (*limit*). The nearer the log is to its limit, the shorter
//!    the walk pauses and the longer its slices are (*effort*).
//! 3. At the limit messages from outside wait, as they do when the disk is behind. The walk goes on
//!    and moves the limit.
//!
//! A checkpoint that fails moves due and limit on, because waiting for a disk that has no room
//! helps nobody. Each failure in a row makes the next attempt come sooner and work harder.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::demands::Checkpoint;

/// Warnings about the same thing come at most so often.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// After so many failures in a row a checkpoint is written as fast as the shards can, and tried
/// again after the least of log.
const FAILURES_MAX: u32 = 4;
/// In place of a limit: nothing waits.
const NO_LIMIT: u64 = u64::MAX;
/// A walk that is so near to its limit, in parts of the whole room, does not pause.
const TIGHT: f64 = 0.25;

/// What the log has, and what its checkpoints have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Bytes of log since the last checkpoint began, in the logs of all shards. A segment that is
    /// left for the next one counts in full.
    pub bytes: u64,
    /// How many there may be, as long as checkpoints do not fail.
    pub bytes_max: u64,
    /// Checkpoints made by this runtime.
    pub checkpoints: u64,
    /// Checkpoints given up.
    pub failed: u64,
    /// Checkpoints, made or given up, that messages from outside had to wait for, so that the log
    /// did not become longer.
    pub held: u64,
    /// The last checkpoint that this runtime made.
    pub last: Option<Checkpoint>,
    /// How long ago it ended.
    pub last_age: Option<Duration>,
}

/// How long the log is and may become. All shards count here, and the thread that sees to
/// checkpoints.
pub(crate) struct Growth {
    checkpoint_bytes: u64,
    /// Bytes of log since the last checkpoint began.
    bytes: AtomicU64,
    /// When there are so many, a checkpoint is to begin.
    due: AtomicU64,
    /// When there are more, messages from outside wait. Never less than `due`, or nothing would end
    /// that.
    limit: AtomicU64,
    state: Mutex<GrowthState>,
}

#[derive(Default)]
struct GrowthState {
    /// How large the last checkpoint was, of this run or one before.
    last_bytes: u64,
    made: u64,
    failed: u64,
    failed_in_a_row: u32,
    held: u64,
    last: Option<(Checkpoint, Instant)>,
    course: Option<Course>,
    warned: Option<Instant>,
    warned_of_failure: Option<Instant>,
    is_over: bool,
}

/// A checkpoint under way.
struct Course {
    /// How much log there was when it began, and how much there may be when it ends.
    from: u64,
    to: u64,
    /// By shard: which part of its objects is written, 0 to 1.
    passed: Vec<f64>,
    is_held: bool,
}

impl Course {
    /// How much log there may be when this part of the objects is written.
    fn limit(&self, passed: f64) -> u64 {
        let room = self.to.saturating_sub(self.from) as f64;
        self.from + (room * (1.0 + passed) / 2.0) as u64
    }
}

/// Whether a warning is due, after one then.
fn warns(last: &mut Option<Instant>) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() >= WARN_EVERY);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

impl Growth {
    /// There are so many bytes of log, and a checkpoint of this size, or none.
    pub(crate) fn new(checkpoint_bytes: u64, bytes: u64, last_bytes: u64) -> Self {
        let growth = Growth {
            checkpoint_bytes,
            bytes: AtomicU64::new(bytes),
            due: AtomicU64::new(checkpoint_bytes),
            limit: AtomicU64::new(NO_LIMIT),
            state: Mutex::new(GrowthState { last_bytes, ..GrowthState::default() }),
        };
        growth.idle(&growth.lock());
        growth
    }

    fn lock(&self) -> MutexGuard<'_, GrowthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bound(&self, state: &GrowthState) -> u64 {
        self.checkpoint_bytes + self.checkpoint_bytes.max(state.last_bytes)
    }

    /// Bytes of log since the last checkpoint began.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// So many bytes are about to be written. Says whether a checkpoint has become due by them.
    pub(crate) fn count(&self, bytes: u64) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let due = self.due.load(Ordering::Relaxed);
        before < due && before + bytes >= due
    }

    /// Whether there is enough log for a checkpoint.
    pub(crate) fn is_due(&self) -> bool {
        self.bytes() >= self.due.load(Ordering::Relaxed)
    }

    /// Whether messages from outside wait until a checkpoint is further: `waiting` bytes more would
    /// make the log too long.
    #[inline]
    pub(crate) fn is_full(&self, waiting: u64) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_add(waiting) > self.limit.load(Ordering::Relaxed)
    }

    /// No checkpoint is under way.
    fn idle(&self, state: &GrowthState) {
        let due = self.due.load(Ordering::Relaxed);
        let limit = self.bound(state).max(due + self.checkpoint_bytes);
        self.limit.store(if state.is_over { NO_LIMIT } else { limit }, Ordering::Relaxed);
    }

    /// A checkpoint begins. Returns how much log there is.
    pub(crate) fn begin(&self, shards: usize) -> u64 {
        let mut state = self.lock();
        let from = self.bytes();
        let to = self.bound(&state).max(self.due.load(Ordering::Relaxed) + self.checkpoint_bytes);
        let course = Course { from, to, passed: vec![0.0; shards], is_held: false };
        if !state.is_over {
            self.limit.store(course.limit(0.0), Ordering::Relaxed);
        }
        state.course = Some(course);
        from
    }

    /// The walk of the checkpoint that is under way has passed this part of a shard's objects, and
    /// `crowded` says how much it has yet to write of what was put aside, in parts of what may be.
    /// Returns the effort it is to make, 0 to 1.
    pub(crate) fn passed(&self, shard: usize, part: f64, crowded: f64) -> f64 {
        let mut guard = self.lock();
        let state = &mut *guard;
        let bytes = self.bytes();
        let Some(course) = &mut state.course else { return 1.0 };
        course.passed[shard] = part;
        let all = course.passed.iter().copied().fold(1.0, f64::min);
        let limit = course.limit(all);
        if !state.is_over {
            self.limit.store(limit, Ordering::Relaxed);
        }
        let room = course.to.saturating_sub(course.from).max(1) as f64;
        // As if all were where this shard is: others do their part themselves.
        let left = course.limit(part).saturating_sub(bytes) as f64 / room;
        let is_held = bytes >= limit && !state.is_over;
        if is_held {
            state.held += u64::from(!std::mem::replace(&mut course.is_held, true));
            let bytes_max = course.to;
            if warns(&mut state.warned) {
                tracing::warn!(
                    bytes,
                    bytes_max,
                    "messages from outside wait for a checkpoint, or the log would become too long: with a larger `checkpoint_bytes` they would not"
                );
            }
        }
        let failures = f64::from(state.failed_in_a_row) / f64::from(FAILURES_MAX);
        (1.0 - left / TIGHT).max(2.0 * crowded).max(failures).clamp(0.0, 1.0)
    }

    /// The checkpoint that began when there were `before` bytes was made.
    pub(crate) fn made(&self, before: u64, made: Checkpoint) {
        let mut state = self.lock();
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        state.made += 1;
        (state.last, state.last_bytes) = (Some((made, Instant::now())), made.bytes);
        (state.failed_in_a_row, state.course) = (0, None);
        self.due.store(self.checkpoint_bytes, Ordering::Relaxed);
        self.idle(&state);
    }

    /// A checkpoint was given up. Says whether a warning is due.
    pub(crate) fn gave_up(&self) -> bool {
        let mut state = self.lock();
        state.failed += 1;
        state.failed_in_a_row = (state.failed_in_a_row + 1).min(FAILURES_MAX);
        state.course = None;
        // Not again at once.
        let pause = self.checkpoint_bytes >> state.failed_in_a_row;
        self.due.store(self.checkpoint_bytes.max(self.bytes() + pause), Ordering::Relaxed);
        self.idle(&state);
        warns(&mut state.warned_of_failure)
    }

    /// There are no more checkpoints: nothing is to wait for one.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        self.limit.store(NO_LIMIT, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> LogStats {
        let state = self.lock();
        LogStats {
            bytes: self.bytes(),
            bytes_max: self.bound(&state),
            checkpoints: state.made,
            failed: state.failed,
            held: state.held,
            last: state.last.map(|(last, _)| last),
            last_age: state.last.map(|(_, ended)| ended.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use freehold_shard::Epoch;

    use super::*;

    fn checkpoint(bytes: u64) -> Checkpoint {
        Checkpoint { epoch: Epoch(7), bytes, took: Duration::from_secs(1) }
    }

    #[test]
    fn the_limit_moves_with_the_walk_and_ends_at_the_bound() {
        let growth = Growth::new(1000, 0, 0);
        assert!(!growth.count(999) && !growth.is_due());
        assert!(growth.count(1) && growth.is_due(), "it becomes due once");
        assert!(!growth.count(0));
        assert_eq!(growth.begin(2), 1000);
        assert!(!growth.is_full(500) && growth.is_full(501), "half of the room");
        assert_eq!(growth.passed(0, 1.0, 0.0), 0.0);
        assert!(growth.is_full(501), "the slowest shard counts");
        assert_eq!(growth.passed(1, 0.5, 0.0), 0.0);
        assert!(!growth.is_full(750) && growth.is_full(751));
        growth.count(750);
        assert_eq!(growth.passed(1, 0.5, 0.0), 1.0, "at its limit it works as hard as it can");
        assert_eq!(growth.stats().held, 1);
        let effort = growth.passed(1, 0.75, 0.0);
        assert!(0.4 < effort && effort < 0.6, "{effort}");
        growth.passed(1, 1.0, 0.0);
        assert!(!growth.is_full(250) && growth.is_full(251), "twice `checkpoint_bytes` in all");
        growth.made(1000, checkpoint(5000));
        assert_eq!(growth.bytes(), 750);
        assert!(!growth.is_full(5250) && growth.is_full(5251), "a large checkpoint has more room");
        let LogStats { bytes_max, checkpoints, failed, held, .. } = growth.stats();
        assert_eq!((bytes_max, checkpoints, failed, held), (6000, 1, 0, 1));
    }

    #[test]
    fn a_walk_works_harder_for_what_is_put_aside() {
        let growth = Growth::new(1000, 1000, 0);
        growth.begin(1);
        assert_eq!([0.0, 0.25, 0.5, 1.5].map(|crowded| growth.passed(0, 0.0, crowded)), [0.0, 0.5, 1.0, 1.0]);
    }

    // A disk without room for a checkpoint is not to stop messages for ever.
    #[test]
    fn failures_move_the_limit_and_make_the_next_come_sooner_and_work_harder() {
        let growth = Growth::new(1600, 1600, 0);
        let mut pauses = Vec::new();
        for failures in 0..6 {
            growth.begin(1);
            let effort = growth.passed(0, 0.0, 0.0);
            assert_eq!(effort, f64::from(failures.min(4)) / 4.0);
            growth.gave_up();
            let pause = (0..).find(|bytes| growth.count(u64::from(*bytes > 0))).expect("it is due again");
            assert!(!growth.is_full(1600), "messages go on");
            pauses.push(pause);
        }
        assert_eq!(pauses, [800, 400, 200, 100, 100, 100]);
        assert_eq!((growth.stats().failed, growth.stats().held), (6, 0));
        let before = growth.begin(1);
        growth.made(before, checkpoint(10));
        assert_eq!(growth.passed(0, 0.0, 0.0), 1.0, "no checkpoint is under way");
        growth.begin(1);
        assert_eq!(growth.passed(0, 0.0, 0.0), 0.0, "it is forgotten");
    }

    #[test]
    fn nothing_waits_for_a_checkpoint_that_will_not_come() {
        let growth = Growth::new(1000, 5000, 0);
        assert!(growth.is_full(0));
        growth.begin(1);
        growth.end();
        assert!(!growth.is_full(1 << 60));
        growth.passed(0, 0.5, 0.0);
        growth.gave_up();
        assert!(!growth.is_full(1 << 60));
    }
}
