//! One object and its header, in the place it keeps as long as it lives.
//!
//! The header is as small as it can be: slots lie side by side, and on the fast path one is all the
//! memory that is touched. What few objects have, waiters and old versions, is elsewhere and has a
//! number here. The *lock word* says in one comparison that the object is free for the fast path:
//! it holds who has locked it, a bit for a shared object, which only transactions use, and one for
//! an object that is watched.
//!
//! A header takes 24 bytes. It took 32, with the number of its newest old version and a longer lock
//! word: an entry of a collection takes a twelfth less now.

use crate::epoch::{Epoch, EpochState};
use crate::fault::{self, Fault};
use crate::in_place::take_into;
use crate::object::{Access, ObjectId, OwnerId, Ownership};

/// The number of a slot.
pub(crate) type SlotIndex = u32;
/// In place of a slot number: there is none.
pub(crate) const NO_SLOT: SlotIndex = SlotIndex::MAX;

/// Where an entry's slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryPlace {
    /// Among those that exist.
    Live,
    /// Among those that only snapshots see.
    Apart,
    /// Among those that the running message has removed.
    Removed,
}

/// In place of the number of a queue: nobody waits.
pub(crate) const NO_QUEUE: u32 = u32::MAX;

/// What one wait adds to an object's heat; a use without one takes 1 away.
const HEAT_OF_WAIT: u8 = 4;
/// Of the uses of a hot object, one in so many counts.
const COOLS_ONE_IN: u64 = 64;
/// From here on it is hot. (The simulator's worlds are small, and are to have hot objects, too.)
const HOT: u8 = if cfg!(test) { 8 } else { 128 };

/// In the lock word: nobody holds the object but, if at all, one that may write.
const EXCLUSIVE: u16 = (1 << 14) - 1;
/// So many transactions may hold an object shared. One more waits until one of them is done. (The
/// simulator's worlds are small, and some of their transactions are to wait for that, too.)
const READERS_MAX: u16 = if cfg!(test) { 3 } else { EXCLUSIVE - 1 };
/// In the lock word: somebody watches the object, so its writes are more than changes of its state.
const WATCHED: u16 = 1 << 14;
/// In the lock word: the object is shared.
const SHARED: u16 = 1 << 15;
/// What is in the lock word beside locks.
const MARKS: u16 = SHARED | WATCHED;

/// Of a slot: it is in the index. A free slot keeps its last id, so the id alone does not say.
const LIVE: u8 = 1;
/// Of a slot: nobody writes its object, ever again.
const IMMUTABLE: u8 = 1 << 1;
/// Of a slot: old versions of its object may be kept.
const HAS_VERSION: u8 = 1 << 2;

/// One object, its header first.
pub(crate) struct Slot<I, S> {
    pub(crate) id: I,
    /// [`SHARED`] and [`WATCHED`]; and 0 if nobody holds the object, else how many transactions
    /// hold it shared, or [`EXCLUSIVE`].
    lock: u16,
    /// [`LIVE`], [`IMMUTABLE`] and [`HAS_VERSION`].
    flags: u8,
    /// How often somebody waited for it lately: see [`Slot::is_hot`]. Nobody waits for an entry of
    /// a collection: there it says which [place](Slot::place) it has.
    heat: u8,
    owner: OwnerId,
    /// When it was last written, or earlier: while no snapshot needs to know, it is left as it is.
    /// Of an object that does not exist: never.
    epoch: Epoch,
    /// Those who wait for it, or [`NO_QUEUE`]. There is a queue only while there is a lock. Nobody
    /// waits for an entry of a collection: see [`Slot::image`].
    pub(crate) queue: u32,
    /// `None` while the object does not exist: it is about to be inserted, was removed by the
    /// running message, or is still seen by a snapshot.
    pub(crate) state: Option<S>,
}

const _: () = assert!(
    size_of::<Slot<u64, Box<u64>>>() == 24 + size_of::<(u64, Box<u64>)>(),
    "a header is as small as it can be"
);

/// When an object was last written that does not exist: before all snapshots, so that whatever
/// brings it about is more than a change of its state.
const NEVER: Epoch = Epoch(0);

impl<I: ObjectId, S> Slot<I, S> {
    /// The place of an object that does not exist yet.
    pub(crate) fn empty(id: I, ownership: Ownership) -> Self {
        let mut slot = Slot {
            id,
            epoch: NEVER,
            owner: OwnerId::default(),
            lock: 0,
            queue: NO_QUEUE,
            flags: LIVE,
            heat: 0,
            state: None,
        };
        slot.set_ownership(ownership);
        slot
    }

    /// The place of an object that is at home elsewhere and lent to a transaction, which runs in
    /// `epoch`.
    pub(crate) fn lent(id: I, epoch: Epoch, ownership: Ownership, state: Option<S>) -> Self {
        let mut slot = Slot::empty(id, ownership);
        slot.lend(id, epoch, ownership, state);
        slot
    }

    /// Makes a free slot that place.
    #[inline]
    pub(crate) fn lend(&mut self, id: I, epoch: Epoch, ownership: Ownership, state: Option<S>) {
        debug_assert!(self.state.is_none(), "only-the-absent-are-released: a free slot has no state");
        (self.id, self.epoch, self.owner) = (id, epoch, OwnerId::default());
        (self.lock, self.queue, self.flags, self.heat) = (EXCLUSIVE, NO_QUEUE, 0, 0);
        self.set_ownership(ownership);
        self.state = state;
    }

    /// Lends a slot again that was taken back. Nothing else has used it.
    #[inline]
    pub(crate) fn lend_again(&mut self, id: I, epoch: Epoch, ownership: Ownership, state: &mut Option<S>) {
        debug_assert!(
            !self.is_live() && self.state.is_none() && self.lock & !SHARED == EXCLUSIVE,
            "one-slot-per-object: a guest's slot is nobody else's"
        );
        debug_assert!(!self.has_version() && self.queue == NO_QUEUE, "nobody waits for a guest, or reads it");
        (self.id, self.epoch) = (id, epoch);
        self.set_ownership(ownership);
        take_into(state, &mut self.state);
    }

    /// Who may write it.
    #[inline]
    pub(crate) fn ownership(&self) -> Ownership {
        if self.lock & SHARED == 0 && self.flags & IMMUTABLE == 0 {
            Ownership::Owned(self.owner)
        } else {
            self.no_ones()
        }
    }

    #[cold]
    fn no_ones(&self) -> Ownership {
        if self.flags & IMMUTABLE != 0 { Ownership::Immutable } else { Ownership::Shared }
    }

    #[inline]
    pub(crate) fn set_ownership(&mut self, ownership: Ownership) {
        (self.flags, self.lock) = (self.flags & !IMMUTABLE, self.lock & !SHARED);
        match ownership {
            Ownership::Owned(owner) => self.owner = owner,
            Ownership::Shared => self.lock |= SHARED,
            Ownership::Immutable => self.flags |= IMMUTABLE,
        }
    }

    /// Whether the slot is in the index.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.flags & LIVE != 0
    }

    /// The slot is in the index no more.
    #[inline]
    pub(crate) fn let_go(&mut self) {
        self.flags &= !LIVE;
    }

    /// Whether transactions hold it.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.lock & !MARKS != 0
    }

    /// Whether somebody watches it.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.lock & WATCHED != 0
    }

    pub(crate) fn set_watched(&mut self, is_watched: bool) {
        self.lock &= !WATCHED;
        self.lock |= u16::from(is_watched) * WATCHED;
    }

    /// Whether its writes are more than changes of its state, whoever holds it: it is shared, or
    /// watched.
    #[inline]
    pub(crate) fn is_marked(&self) -> bool {
        self.lock & MARKS != 0
    }

    /// Whether it is not simply free: a transaction holds it, or it is shared, which only
    /// transactions use, or it is watched.
    #[inline]
    pub(crate) fn is_reserved(&self) -> bool {
        self.lock != 0 && !fault::is_on(Fault::IgnoreLocks)
    }

    /// Whether a lock for `access` goes together with those that are held.
    #[inline]
    pub(crate) fn is_compatible(&self, access: Access) -> bool {
        match access {
            Access::Write if !fault::is_on(Fault::LockTwice) => !self.is_held(),
            // An exclusive lock counts as more readers than may be.
            _ => self.lock & !MARKS < READERS_MAX,
        }
    }

    /// Whether a newcomer may have the lock at once: nobody waits, and it goes together with those
    /// that are held.
    #[inline]
    pub(crate) fn may_lock(&self, access: Access) -> bool {
        self.queue == NO_QUEUE && self.is_compatible(access)
    }

    #[inline]
    pub(crate) fn lock(&mut self, access: Access) {
        match access {
            Access::Read => self.lock += 1,
            Access::Write => self.lock |= EXCLUSIVE,
        }
    }

    /// Gives back one lock.
    #[inline]
    pub(crate) fn unlock(&mut self) {
        if self.lock & !MARKS == EXCLUSIVE { self.lock &= MARKS } else { self.lock -= 1 }
    }

    /// Gives back one lock, and says whether that matters to others: somebody waits, or the slot
    /// was only there to be locked. Then [`Locks::grant`](crate::transaction::locks::Locks::grant)
    /// is to be called.
    #[inline(always)]
    pub(crate) fn unlock_for_next(&mut self) -> bool {
        self.unlock();
        self.queue != NO_QUEUE || self.is_left()
    }

    /// A transaction has to wait for it.
    pub(crate) fn heat_up(&mut self) {
        let heat = self.heat.saturating_add(HEAT_OF_WAIT);
        self.heat = if heat < HOT { heat } else { u8::MAX };
    }

    /// A pair uses it and did not wait, the `nth` transaction of this shard. What is hot cools
    /// slowly: it has to wait no more because it is known to be hot.
    #[inline]
    pub(crate) fn cool_down(&mut self, nth: u64) {
        if self.heat != 0 && (self.heat < HOT || nth.is_multiple_of(COOLS_ONE_IN)) {
            self.heat -= 1;
        }
    }

    /// Whether somebody waited for it, and it has not cooled down since.
    #[inline]
    pub(crate) fn is_warm(&self) -> bool {
        self.heat != 0
    }

    /// Whether many had to wait for it lately: for a while, more than one in five. (At 16 for each
    /// wait one in seventeen was enough, and a crowd at one object heated those it paid to.)
    #[inline]
    pub(crate) fn is_hot(&self) -> bool {
        self.heat >= HOT
    }

    /// Of an entry: where among the before-images of the running message its own may be. If there
    /// is another object's or none, the message has not written it.
    #[inline]
    pub(crate) fn image(&self) -> usize {
        self.queue as usize
    }

    /// Of an entry that is lent: whether the message that it is lent to has written it.
    pub(crate) fn has_image(&self) -> bool {
        self.queue != NO_QUEUE
    }

    /// Of an entry: its before-image is kept there. No message has as many as 2^32.
    #[inline]
    pub(crate) fn set_image(&mut self, image: usize) {
        self.queue = image as u32;
    }

    /// Of an entry: where in the order of its collection it is.
    #[inline]
    pub(crate) fn place(&self) -> EntryPlace {
        match self.heat {
            0 => EntryPlace::Live,
            1 => EntryPlace::Apart,
            _ => EntryPlace::Removed,
        }
    }

    pub(crate) fn set_place(&mut self, place: EntryPlace) {
        self.heat = place as u8;
    }

    /// When it was last written, as far as a snapshot needs to know; never, if it does not exist.
    #[inline]
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether its next write is more than a change of its state: it comes to exist by it, or what
    /// it is now may have to be kept. (The line is looked at first: while nothing is kept that
    /// spares a look at the slot, 2 ns of 24.)
    #[inline]
    pub(crate) fn needs_commit(&self, epoch_state: &EpochState) -> bool {
        self.state.is_none() || epoch_state.needs_old() && self.epoch < epoch_state.needs_before
    }

    /// It was written in `epoch`, whatever became of it.
    pub(crate) fn stamp(&mut self, epoch: Epoch) {
        self.epoch = if self.state.is_some() { epoch } else { NEVER };
    }

    /// Whether old versions of it may be kept: [`Versions`](crate::store::version::Versions) has the
    /// number of the newest.
    pub(crate) fn has_version(&self) -> bool {
        self.flags & HAS_VERSION != 0
    }

    pub(crate) fn set_has_version(&mut self, has_version: bool) {
        self.flags &= !HAS_VERSION;
        self.flags |= u8::from(has_version) * HAS_VERSION;
    }

    /// Whether the slot is to be released: the object does not exist, nobody holds or watches it,
    /// and no snapshot sees what it was.
    pub(crate) fn is_left(&self) -> bool {
        let is_seen = self.has_version() && !fault::is_on(Fault::ForgetRemoved);
        self.is_live() && self.lock & !SHARED == 0 && self.state.is_none() && !is_seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One more reader would have counted as a writer, and the first that was done would have let
    // all others go.
    #[test]
    fn a_reader_too_many_waits_until_another_is_done() {
        for is_watched in [false, true] {
            let mut slot = Slot::<u64, u64>::empty(7, Ownership::Shared);
            slot.set_watched(is_watched);
            for _ in 0..READERS_MAX {
                assert!(slot.may_lock(Access::Read) && slot.is_held() == (slot.lock & !MARKS > 0));
                slot.lock(Access::Read);
                assert!(!slot.may_lock(Access::Write));
            }
            assert!(!slot.may_lock(Access::Read), "there are as many as may be");
            slot.unlock();
            assert!(slot.may_lock(Access::Read) && !slot.may_lock(Access::Write));
            (1..READERS_MAX).for_each(|_| slot.unlock());
            assert!(slot.may_lock(Access::Write) && slot.is_watched() == is_watched);
            assert_eq!(slot.ownership(), Ownership::Shared);
        }
    }
}
