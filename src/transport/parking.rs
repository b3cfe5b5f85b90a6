//! Waiting for work and waiting for room: the two places where a thread may sleep because of what
//! another thread has yet to do.
//!
//! **Waiting for work.** A shard with nothing to do parks; a sender that finds it parked rings its
//! doorbell. One word per shard says which it is:
//!
//! ```text
//! sender   publish to a queue of the shard ── fence ── look at the word:  AWAKE   nothing to do
//!                                                                         PARKED  swap to AWAKE; the winner rings
//!                                                                         CLOSED  the sender sweeps the queue itself
//! shard    word = PARKED ── fence ── look at all queues once more:        empty   wait for the doorbell
//!                                                                         else    word = AWAKE, go on
//! shard    word = CLOSED ── fence ── sweep the queue, and leave
//! ```
//!
//! Invariant *no-lost-wake*: of the two fences one comes first in the single order of `SeqCst`
//! fences. If it is the sender's, the shard's second look sees what was published; if it is the
//! shard's, the sender sees `PARKED` (or `CLOSED`) and acts. The fence is paid once per flush,
//! whatever the number of messages and of shards. Invariant *nobody-is-left-behind*: by the same
//! argument an entry published while the shard closes is swept by the shard or by its sender, and
//! as taking an entry from a queue is exclusive, by one of them only.
//!
//! **Waiting for room.** The other way round: a sender that finds a queue full registers, fences
//! and tries once more; the shard takes entries, fences and looks for registered senders. Invariant
//! *no-lost-room*.
//!
//! All three are checked by loom in the package `models`, which includes this very file: `cargo
//! test -p freehold-models --release`.

use std::collections::BTreeMap;

use super::sync::{AtomicU32, AtomicUsize, Mutex, Ordering, fence};

const AWAKE: u32 = 0;
const PARKED: u32 = 1;
const CLOSED: u32 = 2;

/// Makes what this thread has published to any queue visible before what it reads next. Once per
/// flush, between publishing and [`Parking::duty`] or [`Room::is_wanted`].
#[inline]
pub(crate) fn publish() {
    fence(Ordering::SeqCst);
}

/// What a sender owes a shard it has published something to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Duty {
    /// The shard is awake and will look.
    Nothing,
    /// The shard waits for its doorbell, and it falls to this sender to ring it.
    Ring,
    /// The shard has left: the sender answers what lies in the queue.
    Sweep,
}

/// Whether a shard looks at its queues by itself, must be rung for, or has left.
#[derive(Debug)]
pub(crate) struct Parking {
    word: AtomicU32,
}

impl Parking {
    /// A shard that is awake.
    pub(crate) fn new() -> Self {
        Parking { word: AtomicU32::new(AWAKE) }
    }

    /// What the sender owes this shard, after [`publish`].
    #[inline]
    pub(crate) fn duty(&self) -> Duty {
        match self.word.load(Ordering::Relaxed) {
            AWAKE => Duty::Nothing,
            _ => self.take_duty(),
        }
    }

    #[cold]
    fn take_duty(&self) -> Duty {
        match self.word.compare_exchange(PARKED, AWAKE, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Duty::Ring,
            Err(CLOSED) => Duty::Sweep,
            // Another sender won, or the shard woke by itself. Either way it looks at its queues,
            // or parks anew, after this load.
            Err(_) => Duty::Nothing,
        }
    }

    /// The shard wants to wait. `is_idle` looks at every queue once more; the answer is whether the
    /// shard may wait. If so, it calls [`Parking::awake`] when it is done waiting, for whatever
    /// reason.
    pub(crate) fn park(&self, is_idle: impl FnOnce() -> bool) -> bool {
        self.word.swap(PARKED, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if is_idle() {
            return true;
        }
        self.awake();
        false
    }

    /// Whether the shard waits, as far as can be seen from outside.
    pub(crate) fn is_parked(&self) -> bool {
        self.word.load(Ordering::Relaxed) == PARKED
    }

    /// The shard is awake again.
    pub(crate) fn awake(&self) {
        // Fails if a sender has set it already; then the doorbell was rung and the shard finds it
        // so the next time it waits.
        let _ = self.word.compare_exchange(PARKED, AWAKE, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The shard leaves and looks at no queue again, but for one sweep after this call.
    pub(crate) fn close(&self) {
        // A swap and not a store, like every change of the word: then each change follows the one
        // it has read.
        self.word.swap(CLOSED, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }
}

/// The senders that wait for room in a queue, each by a number of its own.
#[derive(Debug)]
pub(crate) struct Room<W> {
    /// How many entries `waiting` has, so that a shard need not take the lock to see that nobody
    /// waits.
    wanted: AtomicUsize,
    waiting: Mutex<BTreeMap<u64, W>>,
}

impl<W> Room<W> {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Room { wanted: AtomicUsize::new(0), waiting: Mutex::new(BTreeMap::new()) }
    }

    /// The sender of this number waits from now on, and is woken by `wake`; it must try the queue
    /// once more after this call. It may be woken though it found room then.
    pub(crate) fn wait(&self, number: u64, wake: W) {
        let mut waiting = self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let replaced = waiting.insert(number, wake);
        self.wanted.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        fence(Ordering::SeqCst);
        // A waker may be anyone's code.
        drop(replaced);
    }

    /// The sender of this number waits no longer, if it did.
    pub(crate) fn leave(&self, number: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let left = waiting.remove(&number);
        self.wanted.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        drop(left);
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Whether anyone waits. To be asked after making room and then [`publish`].
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Everyone who waits, by their numbers; nobody does afterwards.
    pub(crate) fn take(&self) -> Vec<W> {
        let mut waiting = self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.wanted.store(0, Ordering::Relaxed);
        std::mem::take(&mut *waiting).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sync::explore;
    use super::*;

    #[test]
    fn only_the_winner_rings_for_a_parked_shard() {
        explore(|| {
            let parking = Parking::new();
            assert_eq!(parking.duty(), Duty::Nothing);
            assert!(parking.park(|| true));
            assert_eq!(parking.duty(), Duty::Ring);
            assert_eq!(parking.duty(), Duty::Nothing);
            parking.awake();
            assert_eq!(parking.duty(), Duty::Nothing);
        });
    }

    #[test]
    fn a_shard_that_finds_work_does_not_park() {
        explore(|| {
            let parking = Parking::new();
            assert!(!parking.park(|| false));
            assert_eq!(parking.duty(), Duty::Nothing);
        });
    }

    #[test]
    fn a_closed_shard_stays_closed() {
        explore(|| {
            let parking = Parking::new();
            assert!(parking.park(|| true));
            parking.close();
            parking.awake();
            assert_eq!(parking.duty(), Duty::Sweep);
            assert_eq!(parking.duty(), Duty::Sweep);
        });
    }

    #[test]
    fn those_who_wait_for_room_are_taken_once() {
        explore(|| {
            let room = Room::new();
            assert!(!room.is_wanted());
            for (number, wake) in [(1, "a"), (2, "b"), (1, "c"), (3, "d")] {
                room.wait(number, wake);
            }
            room.leave(3);
            assert!(room.is_wanted());
            assert_eq!(room.take(), ["c", "b"]);
            room.wait(4, "e");
            room.leave(4);
            assert!(!room.is_wanted());
            assert!(room.take().is_empty());
        });
    }
}
