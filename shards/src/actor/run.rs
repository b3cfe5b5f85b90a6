//! What `receive` may reach: the objects of the shard, and what the running message has done so
//! far.
//!
//! [`Objects`](crate::Objects) borrows a [`RunState`] and the engine owns it. Between messages
//! everything that is the running message's is empty.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::actor::addressees::{ADDRESSEES_MAX, Addressees, Target};
use crate::actor::limits::Limits;
use crate::actor::told::Told;
use crate::actor::{AccessError, Actor};
use crate::counters::Counters;
use crate::epoch::{EpochState, TransactionId};
use crate::log::record::SendId;
use crate::object::{Access, ObjectId, OwnerId, Ownership};
use crate::placement::{Router, ShardIndex};
use crate::store::id_range::{IdBounds, RangeEnd};
use crate::store::index::IdHash;
use crate::store::partition::Partition;
use crate::store::slot::{NO_SLOT, Slot, SlotIndex};
use crate::time::Time;

/// What `receive` may reach.
pub(crate) struct RunState<A: Actor> {
    pub(crate) shard: ShardIndex,
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) now: Time,
    /// What this shard knows of epochs and snapshots. Everything it runs now, it runs in this
    /// epoch.
    pub(crate) epoch_state: EpochState,
    pub(crate) partition: Partition<A::Id, A::State>,
    pub(crate) counters: Counters,
    /// How many messages that the shard told itself wait: as many as the engine has.
    pub(crate) own_waiting: usize,
    /// The wall clock when this shard's time was 0: how long after the beginning of 1970.
    pub(crate) wall_clock_began: Duration,
    /// How many messages wait for their time: as many as the engine has.
    pub(crate) timers_waiting: usize,
    /// How many actions this shard owes: as many as the engine has.
    pub(crate) actions_owed: usize,
    /// Whether there is somebody to perform them.
    pub(crate) has_performer: bool,
    /// For routing what is told; kept for its memory.
    pub(crate) scratch: RefCell<Addressees<A::Id>>,
    /// Of each object that the running message wrote but the first. Empty between messages.
    pub(crate) before: Vec<BeforeImage<A>>,
    /// What the running message needs and cannot have now.
    pub(crate) missing: Missing<A::Id>,
    /// The collections that are at home elsewhere, and of which the running message has entries.
    pub(crate) guests: Vec<Guest<A::Id>>,
    /// What there is to do when the running message has succeeded.
    pub(crate) commit_work: CommitWork,
    /// Whether the transaction that ran last wrote its first object.
    pub(crate) first_saved: bool,
    /// What the running message tells, and which timers it cancels. Empty between messages.
    pub(crate) told: RefCell<Told<A>>,
    /// The number of the next message that is told by this shard and has one. Modulo the number of
    /// shards it is this shard's.
    pub(crate) next_number: Cell<u64>,
    /// What the runtime was started with.
    pub(crate) context: Arc<dyn Any + Send + Sync>,
    /// What the running message publishes, or, without a state, makes private again or removes.
    /// Empty between messages.
    pub(crate) to_publish: Vec<Publication<A>>,
}

impl<A: Actor> RunState<A> {
    /// Nothing runs yet, and there are no objects. `table_seed` keys their table.
    pub(crate) fn new(
        shard: ShardIndex,
        router: Router,
        limits: Limits,
        table_seed: u64,
        epoch_state: EpochState,
    ) -> Self {
        RunState {
            shard,
            router,
            limits,
            now: Time(0),
            wall_clock_began: Duration::ZERO,
            epoch_state,
            partition: Partition::new(table_seed),
            counters: Counters::default(),
            own_waiting: 0,
            timers_waiting: 0,
            actions_owed: 0,
            has_performer: false,
            scratch: RefCell::new(Addressees::new()),
            before: Vec::with_capacity(8),
            missing: Missing {
                first: Cell::new(None),
                others: RefCell::new(Vec::new()),
                pieces: RefCell::new(Vec::new()),
            },
            guests: Vec::new(),
            commit_work: CommitWork::NONE,
            first_saved: false,
            told: RefCell::new(Told::new(router.shards())),
            next_number: Cell::new(u64::from(shard.0)),
            context: Arc::new(()),
            to_publish: Vec::new(),
        }
    }

    /// Names a message's objects and looks each up. The first is returned by value: stored in the
    /// list and loaded again a moment later, in other pieces, it would make the processor wait.
    #[inline(always)]
    pub(crate) fn find(
        &self,
        message: &A::Message,
        targets: &mut Addressees<A::Id>,
    ) -> Option<Target<A::Id>> {
        A::addressees(message, targets);
        for target in targets.others.as_mut_slice() {
            self.find_one(target);
        }
        let named = targets.first.as_ref()?;
        Some(self.found(named.id, named.access))
    }

    /// Looks an object up.
    #[inline(always)]
    pub(crate) fn found(&self, id: A::Id, access: Access) -> Target<A::Id> {
        let hash = self.partition.hash(&id);
        let (slot, is_reserved) = self.partition.find(hash, &id);
        Target { id, hash: Some(hash), slot, access, is_reserved, saved: false }
    }

    /// The same for an object of a pair; with whether somebody waited for it lately.
    #[inline(always)]
    pub(crate) fn found_of_pair(&self, id: A::Id, access: Access) -> (Target<A::Id>, bool) {
        let hash = self.partition.hash(&id);
        let (slot, is_reserved, is_warm) = self.partition.find_of_pair(hash, &id);
        (Target { id, hash: Some(hash), slot, access, is_reserved, saved: false }, is_warm)
    }

    #[inline(always)]
    pub(crate) fn find_one(&self, target: &mut Target<A::Id>) {
        let hash = self.partition.hash(&target.id);
        target.hash = Some(hash);
        (target.slot, target.is_reserved) = self.partition.find(hash, &target.id);
    }

    /// The hash and slot of an id the message did not declare; `None` if it cannot be had at once.
    #[cold]
    pub(crate) fn look_up(&self, id: A::Id) -> Option<(IdHash, SlotIndex)> {
        let hash = self.partition.hash(&id);
        let (slot, is_reserved) = self.partition.find(hash, &id);
        let is_here = slot != NO_SLOT || self.router.home(&id) == self.shard;
        (is_here && !is_reserved).then_some((hash, slot))
    }

    /// Gives `target`, which has no slot, one without a state, and remembers that there was none.
    #[cold]
    pub(crate) fn appear(&mut self, target: Target<A::Id>, sender: OwnerId) -> SlotIndex {
        let ownership = Ownership::Owned(sender);
        let hash = target.hash.expect("a target without a slot was looked up");
        let slot = self.partition.insert(hash, target.id, ownership);
        self.before.push(BeforeImage { slot, ownership, state: None });
        // Should the caller survive a panic of what makes the state, the slot is released.
        self.commit_work.add(CommitWork::CHANGES);
        slot
    }

    /// A number for a message that this shard tells.
    pub(crate) fn number(&self) -> SendId {
        let number = self.next_number.get();
        self.next_number.set(number + self.router.shards() as u64);
        SendId(number)
    }

    /// Which shard has given this number, or has taken over what an earlier run gave it: it keeps
    /// the message.
    pub(crate) fn keeper(&self, number: SendId) -> ShardIndex {
        ShardIndex((number.0 % self.router.shards() as u64) as u16)
    }

    /// The name of the running message, if it takes effect.
    #[inline]
    pub(crate) fn transaction_id(&self) -> TransactionId {
        let Counters { fast, consensus, aborted, panicked, .. } = self.counters;
        TransactionId {
            epoch: self.epoch_state.epoch,
            shard: self.shard,
            sequence: fast + consensus + aborted + panicked,
        }
    }
}

/// How many messages wait for each other shard: all that a message which tells has to know of them.
pub(crate) trait Outboxes {
    /// How many wait for `shard`, and were not taken by its lane.
    fn waiting_for(&self, shard: ShardIndex) -> usize;
}

/// What an object was before the running message first wrote it.
pub(crate) struct BeforeImage<A: Actor> {
    pub(crate) slot: SlotIndex,
    pub(crate) ownership: Ownership,
    /// `None` if the object did not exist.
    pub(crate) state: Option<A::State>,
}

impl<A: Actor> BeforeImage<A> {
    /// Who may write the object in `slot`, if `sender` may.
    #[inline(always)]
    pub(crate) fn may_write(slot: &ObjectSlot<A>, sender: OwnerId) -> Result<Ownership, AccessError<A::Id>> {
        let ownership = slot.ownership();
        match ownership {
            Ownership::Owned(owner) if owner == sender => {}
            Ownership::Shared => {}
            // What does not exist belongs to nobody; it has a slot to be locked.
            _ if slot.state.is_none() => {}
            Ownership::Owned(owner) => return Err(AccessError::NotOwner { id: slot.id, owner, sender }),
            Ownership::Immutable => return Err(AccessError::Immutable { id: slot.id }),
        }
        Ok(ownership)
    }

    /// Which object it is of, and whether that existed.
    #[inline]
    pub(crate) fn written(&self) -> Written {
        (self.slot, self.state.is_some())
    }
}

/// What a message wrote: where it is, and whether it was there before.
pub(crate) type Written = (SlotIndex, bool);

/// The slot of an object of the actor's.
pub(crate) type ObjectSlot<A> = Slot<<A as Actor>::Id, <A as Actor>::State>;

/// An object with the state anyone may read of it from now on, if any.
pub(crate) type Publication<A> = (<A as Actor>::Id, Option<Arc<<A as Actor>::State>>);

/// What the commit of the running message has to do beyond changed states. One word, so that a
/// message that has nothing of it pays for one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitWork(u8);

impl CommitWork {
    pub(crate) const NONE: CommitWork = CommitWork(0);
    /// The message may have done more than change states.
    pub(crate) const CHANGES: CommitWork = CommitWork(1);
    /// There is a log.
    pub(crate) const RECORDS: CommitWork = CommitWork(2);

    #[inline]
    pub(crate) fn add(&mut self, work: CommitWork) {
        self.0 |= work.0;
    }

    /// Adds `work` if `is_needed`, without a branch.
    #[inline]
    pub(crate) fn add_if(&mut self, is_needed: bool, work: CommitWork) {
        self.0 |= u8::from(is_needed) * work.0;
    }

    pub(crate) fn has(self, work: CommitWork) -> bool {
        self.0 & work.0 != 0
    }
}

/// A range of a collection that a message needs, from the end it begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need<Id> {
    pub(crate) bounds: IdBounds<Id>,
    pub(crate) end: RangeEnd,
}

/// A range of a collection that the running message did not take along.
pub(crate) struct MissedRange<Id> {
    pub(crate) collection: Id,
    pub(crate) need: Need<Id>,
    /// How many of its entries it wants, if it has not taken any along for this need.
    pub(crate) at_first: usize,
}

/// A collection that is at home elsewhere, and what is known of it here.
pub(crate) struct Guest<Id> {
    pub(crate) collection: Id,
    /// The ranges all of whose entries are here.
    pub(crate) known: Vec<IdBounds<Id>>,
    /// How many entries the collection has at home.
    pub(crate) len: usize,
    /// How many of them were lent.
    pub(crate) lent: usize,
    /// The message has cleared it, and succeeded.
    pub(crate) is_cleared: bool,
    /// Where among what is lent the record of that is.
    pub(crate) clear_record: Range<usize>,
}

/// The objects that a message misses: it is undone, and runs again with them.
pub(crate) struct Missing<Id> {
    /// The first, which it has when it runs again.
    pub(crate) first: Cell<Option<(Id, Access)>>,
    /// The others, of which it has as many as it may. Empty unless there is a first, or the message
    /// is about to become a transaction.
    pub(crate) others: RefCell<Vec<(Id, Access)>>,
    /// Ranges of collections that are at home elsewhere. Empty unless there is a first.
    pub(crate) pieces: RefCell<Vec<MissedRange<Id>>>,
}

impl<Id: ObjectId> Missing<Id> {
    /// The running message needs an object that it cannot have now.
    #[cold]
    pub(crate) fn miss(&self, id: Id, access: Access) -> AccessError<Id> {
        match self.first.get() {
            None => self.first.set(Some((id, access))),
            Some(_) => self.also_want(id, access),
        }
        AccessError::Undeclared { id }
    }

    /// The running message, which begins anew, is to have this object then, too.
    #[cold]
    pub(crate) fn also_want(&self, id: Id, access: Access) {
        let mut others = self.others.borrow_mut();
        match others.iter().position(|(other, _)| *other == id) {
            Some(at) => others[at].1 = others[at].1.max(access),
            None if others.len() < ADDRESSEES_MAX => others.push((id, access)),
            None => {}
        }
    }
}
