//! Epochs: the time unit that all shards share, and which snapshots are open in it.
//!
//! There is one epoch at a time. Opening a snapshot ends it, and so does a log that closes it. A
//! shard takes the epoch over from the [`EpochState`], which it loads *after* it has taken what
//! arrived and before it runs any of it. Invariant *load-after-dequeue*: so a message runs in an
//! epoch at least that of everything that ended before the message was sent. A transaction commits
//! in the largest epoch among its participants, the same on every shard.
//!
//! A snapshot is the state at the *start* of its epoch. It sees all that was committed in earlier
//! epochs, and nothing else.
//!
//! The state is three atomic words, written under a lock, in an order that the readers' order
//! answers. Opening a snapshot stores the newest snapshot before the epoch that it begins. Closing
//! one stores the watermark before the newest snapshot. A reader loads in the order of the fields.
//! So a shard that sees the epoch of a snapshot sees that there is a snapshot to keep old states
//! for. And a shard that keeps them no longer sees that the snapshot may not be read any more. The
//! package `models` runs both through loom.
//!
//! A checkpoint sees what a snapshot of its epoch would see, and is none: a shard hands it what is
//! overwritten instead of keeping that, so nothing revokes it (`walk`). There is one at a time, in
//! a word of its own that is stored before its epoch begins.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::{self, Fault};
use crate::placement::ShardIndex;
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::time::Time;

/// A span of time that all shards agree on. They count from 1; 0 is before everything.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Epoch(pub u64);

/// The first of them.
const FIRST: Epoch = Epoch(1);
/// In place of the epoch of a checkpoint: none is being made.
pub(crate) const NO_CHECKPOINT: Epoch = Epoch(0);

impl Epoch {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "epoch {}", self.0)
    }
}

/// The name of a message that took effect; no two that did have the same, as long as the runtime
/// lives.
///
/// Numbers of their own for each shard and epoch, so that no counter is shared. It says nothing
/// about the order of two messages: that is decided by epochs and locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    /// In which it ran.
    pub epoch: Epoch,
    /// Where it ran.
    pub shard: ShardIndex,
    /// Which of the messages that ran there it was.
    pub sequence: u64,
}

/// What every shard is to know of epochs and snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochState {
    /// The epoch now.
    pub epoch: Epoch,
    /// The newest open snapshot; the first epoch, in which none can be open, if there is none. One
    /// that is closed already costs memory and no more.
    pub newest_snapshot: Epoch,
    /// The oldest epoch a snapshot is open in; the next one, if none is. It never goes back.
    /// Snapshots before it may not be read.
    pub watermark: Epoch,
    /// The epoch as of whose start a checkpoint is being made; epoch 0 if none is.
    pub checkpoint: Epoch,
    /// A state of an earlier epoch is needed by a snapshot or by the checkpoint: the newer of the
    /// two.
    pub(crate) needs_before: Epoch,
}

impl EpochState {
    /// Whether there is something to keep old states for: a snapshot or a checkpoint.
    #[inline]
    pub fn needs_old(&self) -> bool {
        self.needs_before != FIRST
    }

    /// Whether a checkpoint is being made, and sees what was before a change in `epoch`.
    #[inline]
    pub(crate) fn checkpoint_sees_before(&self, epoch: Epoch) -> bool {
        self.checkpoint != NO_CHECKPOINT && self.checkpoint <= epoch
    }
}

/// The epoch, and the snapshots that are open. One for all shards.
#[derive(Debug)]
pub struct Epochs {
    words: EpochWords,
    /// By the epoch they began; with when that was.
    open: Mutex<BTreeMap<Epoch, Time>>,
}

/// The state, for many to read; alone on its cache lines, as it hardly ever changes.
#[derive(Debug)]
#[repr(align(128))]
struct EpochWords {
    epoch: AtomicU64,
    newest_snapshot: AtomicU64,
    watermark: AtomicU64,
    checkpoint: AtomicU64,
    /// When the oldest open snapshot was opened; the end of time if none is.
    oldest: AtomicU64,
}

impl Default for Epochs {
    fn default() -> Self {
        Epochs::new()
    }
}

impl Epochs {
    /// The first epoch, and no snapshots.
    pub fn new() -> Self {
        Epochs::starting_in(FIRST)
    }

    /// No snapshots, and a database that has been through the epochs before this one.
    pub fn starting_in(epoch: Epoch) -> Self {
        Epochs {
            words: EpochWords {
                epoch: AtomicU64::new(epoch.0),
                newest_snapshot: AtomicU64::new(FIRST.0),
                watermark: AtomicU64::new(epoch.0 + 1),
                checkpoint: AtomicU64::new(NO_CHECKPOINT.0),
                oldest: AtomicU64::new(u64::MAX),
            },
            open: Mutex::new(BTreeMap::new()),
        }
    }

    /// The epoch now.
    #[inline]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.words.epoch.load(Ordering::Acquire))
    }

    /// What shards are to know now.
    #[inline]
    pub fn state(&self) -> EpochState {
        let epoch = self.epoch();
        // One that begins a later epoch needs nothing of this one.
        let newest_snapshot = Epoch(self.words.newest_snapshot.load(Ordering::Acquire)).min(epoch);
        let watermark = Epoch(self.words.watermark.load(Ordering::Acquire));
        let checkpoint = Epoch(self.words.checkpoint.load(Ordering::Acquire));
        // Nor does a checkpoint that is about to begin a later one.
        let checkpoint = if checkpoint > epoch { NO_CHECKPOINT } else { checkpoint };
        EpochState {
            epoch,
            newest_snapshot,
            watermark,
            checkpoint,
            needs_before: newest_snapshot.max(checkpoint),
        }
    }

    /// Whether `snapshot` may still be read.
    #[inline]
    pub fn is_open(&self, snapshot: Epoch) -> bool {
        Epoch(self.words.watermark.load(Ordering::Acquire)) <= snapshot
    }

    /// Whether a snapshot has been open for `age_max`.
    #[inline]
    pub fn has_older(&self, now: Time, age_max: Duration) -> bool {
        Time(self.words.oldest.load(Ordering::Relaxed)).after(age_max) <= now
    }

    /// How many snapshots are open, and when the oldest of them was opened.
    pub fn snapshots(&self) -> (usize, Option<Time>) {
        let open = self.lock();
        (open.len(), open.values().next().copied())
    }

    /// Ends the epoch and opens a snapshot as of the start of the next, which is returned.
    pub fn open(&self, now: Time) -> Epoch {
        let mut open = self.lock();
        let snapshot = self.epoch().next();
        // Threads look at their clocks before they come here: as opened, snapshots are in the order
        // of their epochs, so that the old ones are the first ones.
        let now = open.values().next_back().map_or(now, |last| now.max(*last));
        open.insert(snapshot, now);
        if open.len() == 1 {
            self.words.oldest.store(now.0, Ordering::Relaxed);
        }
        // Without another snapshot the watermark is this one already.
        self.words.newest_snapshot.store(snapshot.0, Ordering::Release);
        self.words.epoch.store(snapshot.0, Ordering::Release);
        snapshot
    }

    /// Ends the epoch and begins a checkpoint as of the start of the next, which is returned.
    /// Nothing revokes it. The one before must have ended.
    pub fn begin_checkpoint(&self) -> Epoch {
        let open = self.lock();
        let snapshot = self.epoch().next();
        let before = self.words.checkpoint.load(Ordering::Relaxed);
        assert!(before == NO_CHECKPOINT.0, "one-checkpoint-at-a-time: that of epoch {before} has not ended");
        self.words.checkpoint.store(snapshot.0, Ordering::Release);
        if open.is_empty() {
            self.words.watermark.store(snapshot.0 + 1, Ordering::Release);
        }
        self.words.epoch.store(snapshot.0, Ordering::Release);
        snapshot
    }

    /// Ends the checkpoint of this epoch, whatever came of it.
    pub fn end_checkpoint(&self, snapshot: Epoch) {
        let _open = self.lock();
        if self.words.checkpoint.load(Ordering::Relaxed) == snapshot.0 {
            self.words.checkpoint.store(NO_CHECKPOINT.0, Ordering::Release);
        }
    }

    /// Ends `epoch`, if it is the one that is now: a log is to close it.
    pub fn advance(&self, epoch: Epoch) {
        // Under the lock, so that no snapshot is just being opened in the next one.
        let open = self.lock();
        if self.epoch() == epoch {
            if open.is_empty() {
                self.words.watermark.store(epoch.0 + 2, Ordering::Release);
            }
            self.words.epoch.store(epoch.next().0, Ordering::Release);
        }
    }

    /// Closes a snapshot, if it is still open.
    pub fn close(&self, snapshot: Epoch) {
        self.change(|open| {
            open.remove(&snapshot);
        });
    }

    /// Closes all snapshots up to this one, and says how many that were. Their holders get an error
    /// from now on.
    pub fn revoke(&self, through: Epoch) -> usize {
        if fault::is_on(Fault::RevokeCheckpoint) {
            self.words.checkpoint.store(NO_CHECKPOINT.0, Ordering::Release);
        }
        self.change(|open| *open = open.split_off(&through.next()))
    }

    /// Closes the snapshots that have been open for `age_max`, and says how many that were.
    pub fn revoke_old(&self, now: Time, age_max: Duration) -> usize {
        // The first ones are the oldest.
        self.change(|open| {
            while open.first_entry().is_some_and(|first| first.get().after(age_max) <= now) {
                open.pop_first();
            }
        })
    }

    /// Takes snapshots away, and says how many. What it costs is not to grow with how many there
    /// are: thousands may be closed one by one.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<Epoch, Time>)) -> usize {
        let mut open = self.lock();
        let before = open.len();
        change(&mut open);
        let watermark = open.keys().next().copied().unwrap_or(self.epoch().next());
        let newest = open.keys().next_back().copied().unwrap_or(FIRST);
        let oldest = open.values().next().copied().unwrap_or(Time(u64::MAX));
        self.words.watermark.store(watermark.0, Ordering::Release);
        self.words.newest_snapshot.store(newest.0, Ordering::Release);
        self.words.oldest.store(oldest.0, Ordering::Relaxed);
        before - open.len()
    }

    fn lock(&self) -> impl std::ops::DerefMut<Target = BTreeMap<Epoch, Time>> + '_ {
        // Nothing in here panics while it is locked; and the state is as good as the last store.
        match self.open.lock() {
            Ok(open) => open,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_bounds_the_open_snapshots() {
        crate::sync::explore(|| {
            let epochs = Epochs::new();
            let state = |epoch, newest, watermark| EpochState {
                epoch: Epoch(epoch),
                newest_snapshot: Epoch(newest),
                watermark: Epoch(watermark),
                checkpoint: NO_CHECKPOINT,
                needs_before: Epoch(newest),
            };
            assert_eq!(epochs.state(), state(1, 1, 2));
            assert_eq!(epochs.open(Time(10)), Epoch(2));
            assert_eq!(epochs.state(), state(2, 2, 2));
            assert_eq!(epochs.open(Time(20)), Epoch(3));
            assert_eq!(epochs.open(Time(30)), Epoch(4));
            epochs.close(Epoch(3));
            assert_eq!(epochs.state(), state(4, 4, 2));
            let age_max = Duration::from_nanos(5);
            assert!(!epochs.has_older(Time(14), age_max));
            assert_eq!(epochs.revoke_old(Time(14), age_max), 0);
            assert!(epochs.has_older(Time(15), age_max) && epochs.is_open(Epoch(2)));
            assert_eq!(epochs.revoke_old(Time(15), age_max), 1);
            assert!(!epochs.has_older(Time(15), age_max) && !epochs.is_open(Epoch(2)));
            assert_eq!(epochs.state(), state(4, 4, 4));
            epochs.close(Epoch(2));
            // A thread that looked at its clock earlier comes later: of two snapshots it is not the
            // older one.
            assert_eq!(epochs.open(Time(25)), Epoch(5));
            assert_eq!(epochs.revoke_old(Time(31), age_max), 0);
            assert_eq!(epochs.revoke(Epoch(5)), 2);
            assert_eq!(epochs.state(), state(5, 1, 6));
            assert!(!epochs.has_older(Time(u64::MAX - 1), age_max));
        });
    }

    /// A checkpoint was a snapshot, and was revoked when shards kept much for it. It stays whatever
    /// becomes of snapshots.
    #[test]
    fn nothing_revokes_a_checkpoint() {
        crate::sync::explore(|| {
            let epochs = Epochs::new();
            let older = epochs.open(Time(10));
            let checkpoint = epochs.begin_checkpoint();
            let newer = epochs.open(Time(20));
            assert_eq!((older, checkpoint, newer), (Epoch(2), Epoch(3), Epoch(4)));
            let state = |newest, watermark, checkpoint, needs_before| EpochState {
                epoch: Epoch(4),
                newest_snapshot: Epoch(newest),
                watermark: Epoch(watermark),
                checkpoint: Epoch(checkpoint),
                needs_before: Epoch(needs_before),
            };
            assert_eq!(epochs.state(), state(4, 2, 3, 4));
            assert_eq!(epochs.revoke(older), 1);
            assert_eq!(epochs.state(), state(4, 4, 3, 4));
            assert_eq!(epochs.revoke_old(Time(u64::MAX), Duration::ZERO), 1);
            assert_eq!(epochs.state(), state(1, 5, 3, 3));
            epochs.end_checkpoint(checkpoint);
            assert_eq!(epochs.state(), state(1, 5, 0, 1));
            // No snapshot is open: what it sees is kept for nobody else.
            let next = epochs.begin_checkpoint();
            assert_eq!(
                (next, epochs.state().watermark, epochs.state().checkpoint),
                (Epoch(5), Epoch(6), next)
            );
        });
    }
}
