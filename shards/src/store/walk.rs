//! The way of a checkpoint through a shard's objects, while messages run.
//!
//! A checkpoint writes every object as it was at the start of one epoch. It goes through the slots
//! in order and is *past* those it has written. Each object is written once, by one of three rules:
//!
//! 1. Past its slot, nothing of it is needed any more: its first write since the epoch began leaves
//!    nothing.
//! 2. Ahead of the walk, its first write since leaves the state before. That is *put aside* here:
//!    moved, not copied. What was put aside is written and let go of before the walk goes on. When
//!    the walk comes to the slot, it sees that the object was written since, and that no snapshot
//!    keeps an older state: there is nothing left to write.
//! 3. If a snapshot needs the state before as well, it becomes a version, as always, and the walk
//!    writes it from there. If no snapshot needs it any more before the walk has come, it is put
//!    aside.
//!
//! So nothing is kept longer for a checkpoint than until it is written, and an object that is
//! written early only changes the order. Versions are kept for snapshots alone, which alone are
//! revoked if there are too many. A shard that has put too much aside takes no messages from
//! outside until the walk has written it
//! ([`Shard::checkpoint_backlog`](crate::Shard::checkpoint_backlog)): the walk ends whatever is
//! written.
//!
//! Invariant *no-slot-moves*: an object that existed when the epoch began keeps its slot until it
//! is removed. If the slot is taken by another object then, that one came to exist since, and has
//! nothing to be written. New slots, too, are of objects that came to exist since.
//!
//! What was cleared of a collection stays in its slots until the walk has ended, if it began
//! before: then it writes the entries from there. So clearing many puts nothing aside.
//!
//! A write counts by the epoch it commits in, not by the time it is applied. Of what was in doubt
//! when the epoch began, something may be applied later and belong to the time before: it leaves
//! nothing here, and the walk, which begins when nothing is in doubt any more, finds it in its
//! slot.

use std::collections::VecDeque;

use crate::epoch::{Epoch, EpochState, NO_CHECKPOINT};
use crate::fault::{self, Fault};
use crate::object::Ownership;
use crate::store::slot::SlotIndex;

/// An object as a checkpoint is to write it.
type Aside<I, S> = (I, Ownership, S);

/// States in a chunk: so many are dropped at a turn, if the checkpoint they are for was given up.
const CHUNK: usize = 256;

/// Where a checkpoint is in a shard.
pub(crate) struct Walk<I, S> {
    /// As of the start of which epoch; that of [`EpochState::checkpoint`] as of when this was last
    /// looked at.
    snapshot: Epoch,
    /// Slots before this one are passed.
    cursor: SlotIndex,
    /// Put aside and not written yet, in no particular order. All chunks but the last are full,
    /// none is empty.
    aside: Vec<Vec<Aside<I, S>>>,
    len: usize,
    /// What was put aside for a checkpoint that was given up.
    stale: Vec<Vec<Aside<I, S>>>,
    /// The collections that were cleared, and when, about in that order; of each what of it is not
    /// freed yet.
    cleared: VecDeque<(Epoch, I)>,
    /// How many entries those had, and have not been freed.
    cleared_len: usize,
    /// Both together: all that is here and that is dropped some at a time.
    waste: usize,
}

impl<I, S> Walk<I, S> {
    /// No checkpoint.
    pub(crate) fn new() -> Self {
        Walk {
            snapshot: NO_CHECKPOINT,
            cursor: 0,
            aside: Vec::new(),
            len: 0,
            stale: Vec::new(),
            cleared: VecDeque::new(),
            cleared_len: 0,
            waste: 0,
        }
    }

    /// Begins anew if there is another checkpoint than before, or none any more. What is asked of
    /// the walk is asked after this.
    #[inline]
    pub(crate) fn follow(&mut self, epoch_state: &EpochState) {
        if self.snapshot != epoch_state.checkpoint {
            self.begin(epoch_state.checkpoint);
        }
    }

    #[cold]
    fn begin(&mut self, snapshot: Epoch) {
        (self.snapshot, self.cursor) = (snapshot, 0);
        self.waste += std::mem::take(&mut self.len);
        self.stale.append(&mut self.aside);
    }

    /// Whether this is the walk of the checkpoint as of `snapshot`.
    pub(crate) fn is_of(&self, snapshot: Epoch) -> bool {
        self.snapshot == snapshot
    }

    /// Whether the walk has yet to write what the object in this slot was from epoch `from` until
    /// its write in `until`.
    #[inline]
    pub(crate) fn has_ahead(&self, slot: SlotIndex, from: Epoch, until: Epoch) -> bool {
        let cursor = self.cursor.saturating_add(fault::is_on(Fault::PassEarly).into());
        from < self.snapshot && self.snapshot <= until && cursor <= slot
    }

    /// Puts aside what an object was.
    pub(crate) fn set_aside(&mut self, id: I, ownership: Ownership, state: S) {
        if self.aside.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.aside.push(Vec::with_capacity(CHUNK));
        }
        self.aside.last_mut().expect("one was just made sure of").push((id, ownership, state));
        self.len += 1;
    }

    /// Takes one of those that were put aside.
    pub(crate) fn take_aside(&mut self) -> Option<Aside<I, S>> {
        let chunk = self.aside.last_mut()?;
        let aside = chunk.pop().expect("no chunk is empty");
        if chunk.is_empty() {
            self.aside.pop();
        }
        self.len -= 1;
        Some(aside)
    }

    /// The walk goes on with this slot, or has passed all.
    pub(crate) fn pass(&mut self, next: Option<SlotIndex>) {
        self.cursor = next.unwrap_or(SlotIndex::MAX);
    }

    /// Up to which slot the walk of the checkpoint as of `snapshot` has come.
    pub(crate) fn passed(&self, snapshot: Epoch) -> SlotIndex {
        if self.is_of(snapshot) { self.cursor } else { 0 }
    }

    /// How many states are put aside for the checkpoint that is being made.
    #[inline]
    pub(crate) fn backlog(&self, epoch_state: &EpochState) -> usize {
        if self.snapshot == epoch_state.checkpoint { self.len } else { 0 }
    }

    /// How many states there are here.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len + self.waste
    }

    /// Whether something is left of a checkpoint that was given up, or of a collection that was
    /// cleared and that nobody sees any more.
    pub(crate) fn has_waste(&self, epoch_state: &EpochState) -> bool {
        self.waste > 0 && self.can_drop(epoch_state)
            || self.len > 0 && self.snapshot != epoch_state.checkpoint
    }

    #[cold]
    fn can_drop(&self, epoch_state: &EpochState) -> bool {
        !self.stale.is_empty() || self.unseen(epoch_state).is_some()
    }

    /// A collection was cleared in `epoch`, of so many entries.
    pub(crate) fn add_cleared(&mut self, epoch: Epoch, collection: I, entries: usize) {
        self.cleared.push_back((epoch, collection));
        self.cleared_len += entries;
        self.waste += entries;
    }

    /// The collection that was cleared first, if no snapshot and no checkpoint sees what it had.
    pub(crate) fn unseen(&self, epoch_state: &EpochState) -> Option<&I> {
        let (epoch, collection) = self.cleared.front()?;
        let is_seen = *epoch >= epoch_state.watermark || epoch_state.checkpoint_sees_before(*epoch);
        (!is_seen || fault::is_on(Fault::FreeEarly)).then_some(collection)
    }

    /// An entry of it was freed.
    pub(crate) fn freed(&mut self) {
        self.cleared_len -= 1;
        self.waste -= 1;
    }

    /// Its last entry was freed.
    pub(crate) fn freed_all(&mut self) {
        self.cleared.pop_front();
    }

    /// How many entries there are that were cleared.
    pub(crate) fn cleared_len(&self) -> usize {
        self.cleared_len
    }

    /// The last snapshot that sees what was cleared first.
    pub(crate) fn first_cleared(&self) -> Option<Epoch> {
        self.cleared.front().map(|(epoch, _)| *epoch)
    }

    /// Drops some of it.
    pub(crate) fn drop_stale(&mut self) {
        if let Some(chunk) = self.stale.pop() {
            self.waste -= chunk.len();
        }
    }
}
