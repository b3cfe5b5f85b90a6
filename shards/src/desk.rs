//! Where one message at a time is worked on: found, run, and then kept or undone.
//!
//! Invariant *all-or-nothing*: after [`Desk::execute`] either everything a message did stands (its writes, what it removed, what it
//! told), or nothing of it is left. The before-images are what makes the second possible; they exist only while a message runs.

use std::cell::Cell;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::actor::{AccessError, Actor};
use crate::addressees::{ADDRESSEES_MAX, Access, Addressees, Rest, Target};
use crate::batches::Batches;
use crate::index::IdHash;
use crate::locks::Locks;
use crate::message::{AskError, Envelope, Outcome, ReturnAddress};
use crate::object::{OwnerId, Ownership};
use crate::objects::Objects;
use crate::partition::{NO_SLOT, Partition, Slot, SlotIndex};
use crate::router::{Destination, Router, ShardIndex};
use crate::shard::{Effects, Limits, Prefetch, Time};
use crate::statistics::Counters;
use crate::timer::Timer;
use crate::transaction::Transaction;

/// What an object was before the running message first wrote it.
pub(crate) struct BeforeImage<A: Actor> {
    pub(crate) slot: SlotIndex,
    pub(crate) ownership: Ownership,
    /// `None` if the object did not exist.
    pub(crate) state: Option<A::State>,
}

impl<A: Actor> Slot<A> {
    /// What this object, in slot `slot`, is before `sender` writes it, if it may.
    #[inline]
    pub(crate) fn before_image(
        &self,
        slot: SlotIndex,
        sender: OwnerId,
    ) -> Result<BeforeImage<A>, AccessError<A::Id>> {
        match self.ownership {
            Ownership::Owned(owner) if owner == sender => {}
            Ownership::Shared => {}
            // What does not exist belongs to nobody; it has a slot to be locked.
            _ if self.state.is_none() => {}
            Ownership::Owned(owner) => return Err(AccessError::NotOwner { id: self.id, owner, sender }),
            Ownership::Immutable => return Err(AccessError::Immutable { id: self.id }),
        }
        Ok(BeforeImage { slot, ownership: self.ownership, state: self.state.clone() })
    }
}

/// A message the running message sends if it succeeds.
pub(crate) struct Told<A: Actor> {
    pub(crate) message: A::Message,
    pub(crate) to: ShardIndex,
    /// When, if later.
    pub(crate) due: Option<Time>,
}

/// What came of running a message.
pub(crate) enum Step<A: Actor> {
    Done(Outcome<A>),
    /// Nothing: it needs this object as well.
    Missing(A::Id, Access),
}

/// What becomes of a message that is not plainly to be run.
pub(crate) enum Considered<A: Actor> {
    /// It is to be run all the same.
    Runs,
    Refused(AskError<A::Error>),
    /// It is to become a transaction.
    Later(Reason),
}

/// Why a message takes the consensus path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its objects live on several shards.
    Spans,
    /// One of its objects is locked by a transaction.
    Locked,
    /// It touched an object which it had not declared and cannot have at once.
    Undeclared,
}

/// The objects of a shard and everything a running message may reach.
pub(crate) struct Desk<A: Actor> {
    pub(crate) shard: ShardIndex,
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) now: Time,
    pub(crate) partition: Partition<A>,
    pub(crate) counters: Counters,
    /// Of the running message: of each object it wrote but the first. Empty between messages.
    pub(crate) before: Vec<BeforeImage<A>>,
    /// An object the running message needs and cannot have now: it is undone, and runs again with it.
    pub(crate) missing: Cell<Option<(A::Id, Access)>>,
    /// Why the message that was last found to need the consensus path does. Here, and not with what [`Shard::turn`](crate::Shard::turn)
    /// hears of a message: that is passed on for every message, and being larger it cost the fast path 4 of 24 ns.
    pub(crate) reason: Reason,
    /// Whether the message that ran last wrote its first object.
    pub(crate) first_saved: bool,
    /// Of the running message; empty between messages.
    pub(crate) told: Vec<Told<A>>,
    /// Messages the shard sent to itself.
    pub(crate) own: VecDeque<Envelope<A>>,
    /// Messages that wait for their time.
    pub(crate) timers: BinaryHeap<Timer<A>>,
    timers_set: u64,
    pub(crate) locks: Locks<A>,
    /// Transactions that began here and have not come back.
    pub(crate) in_flight: usize,
    /// Boxes of transactions that came back, kept for their memory.
    pub(crate) spare: Vec<Box<Transaction<A>>>,
    /// Batches with messages that became transactions.
    pub(crate) batches: Batches<A>,
    /// The objects of a transaction at its lock point; kept for its memory.
    pub(crate) targets: Addressees<A::Id>,
    /// For routing what is told; kept for its memory.
    pub(crate) scratch: Addressees<A::Id>,
}

impl<A: Actor> Desk<A> {
    pub(crate) fn new(shard: ShardIndex, router: Router, limits: Limits, table_seed: u64) -> Self {
        Desk {
            shard,
            router,
            limits,
            now: Time(0),
            partition: Partition::new(table_seed),
            counters: Counters::default(),
            before: Vec::with_capacity(8),
            missing: Cell::new(None),
            reason: Reason::Spans,
            first_saved: false,
            told: Vec::new(),
            own: VecDeque::new(),
            timers: BinaryHeap::new(),
            timers_set: 0,
            locks: Locks::new(),
            in_flight: 0,
            spare: Vec::new(),
            batches: Batches::new(),
            targets: Addressees::new(),
            scratch: Addressees::new(),
        }
    }

    /// Names a message's objects and looks each up. The first is returned by value: stored in the list and loaded again a moment
    /// later, in other pieces, it would make the processor wait.
    #[inline]
    pub(crate) fn find(
        &self,
        message: &A::Message,
        targets: &mut Addressees<A::Id>,
    ) -> Option<Target<A::Id>> {
        A::addressees(message, targets);
        for target in targets.rest.as_mut_slice() {
            self.find_one(target);
        }
        let named = targets.first.as_ref()?;
        let hash = self.partition.hash(&named.id);
        let (slot, is_locked) = self.partition.find(hash, &named.id);
        Some(Target { id: named.id, hash: Some(hash), slot, access: named.access, is_locked, saved: false })
    }

    #[inline(always)]
    fn find_one(&self, target: &mut Target<A::Id>) {
        let hash = self.partition.hash(&target.id);
        target.hash = Some(hash);
        (target.slot, target.is_locked) = self.partition.find(hash, &target.id);
    }

    /// First stage: names a message's objects, and prefetches where the index has them.
    #[inline]
    pub(crate) fn name<P: Prefetch>(&self, message: &A::Message, targets: &mut Addressees<A::Id>) {
        targets.clear();
        A::addressees(message, targets);
        for target in targets.first.iter_mut().chain(targets.rest.as_mut_slice()) {
            let hash = self.partition.hash(&target.id);
            target.hash = Some(hash);
            self.partition.prefetch_index::<P>(hash);
        }
    }

    /// Second stage: finds where the objects should be, and prefetches them.
    #[inline]
    pub(crate) fn seek<P: Prefetch>(&self, targets: &mut Addressees<A::Id>) {
        for target in targets.first.iter_mut().chain(targets.rest.as_mut_slice()) {
            if let Some(hash) = target.hash {
                target.slot = self.partition.seek::<P>(hash);
            }
        }
    }

    /// Last stage: makes sure that each object is where [`Desk::seek`] said, and looks it up if not. Messages run since may have
    /// inserted or removed it, and two ids may share a hash.
    #[inline]
    pub(crate) fn find_again(&self, targets: &mut Addressees<A::Id>) {
        for target in targets.first.iter_mut().chain(targets.rest.as_mut_slice()) {
            if target.slot == NO_SLOT || !self.partition.holds(target.slot, &target.id) {
                self.find_one(target);
            }
        }
    }

    /// Runs a message whose objects are here and its own to use.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        message: &A::Message,
        sender: OwnerId,
        first: Option<Target<A::Id>>,
        rest: &mut Rest<A::Id>,
        effects: &mut Effects<A>,
    ) -> Step<A> {
        let Some(first) = first else { return Step::Done(Err(AskError::Unaddressed)) };
        let mut objects =
            Objects { desk: self, effects, sender, first, rest, first_before: None, removed: false };
        let result = catch_unwind(AssertUnwindSafe(|| A::receive(message, &mut objects)));
        // By reference: moving the before-image would load what was stored a moment ago, in other pieces, and wait for it.
        let Objects { first, first_before, removed, .. } = &mut objects;
        let removed = *removed;
        self.first_saved = first.saved;
        if let Some((id, access)) = self.missing.get() {
            self.missing.set(None);
            self.undo(first_before.take());
            // Neither a result nor a panic counts: it ran without what it needs.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(result)));
            return Step::Missing(id, access);
        }
        Step::Done(match result {
            Ok(Ok(reply)) => {
                if removed {
                    self.release_removed(first_before.take());
                }
                self.before.clear();
                if !self.told.is_empty() {
                    self.send_told(sender, effects);
                }
                self.counters.fast += 1;
                Ok(reply)
            }
            Ok(Err(error)) => {
                self.undo(first_before.take());
                self.counters.aborted += 1;
                Err(AskError::Aborted(error))
            }
            Err(payload) => {
                self.undo(first_before.take());
                self.counters.panicked += 1;
                // What a panic carries may itself panic when dropped.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
                Err(AskError::Panicked)
            }
        })
    }

    /// What becomes of a message some of whose objects are absent or locked, or that names none or too many.
    #[cold]
    pub(crate) fn consider(
        &mut self,
        message: &A::Message,
        first: Option<Target<A::Id>>,
        rest: &Rest<A::Id>,
        too_many: bool,
    ) -> Considered<A> {
        if too_many {
            self.counters.aborted += 1;
            let error = AccessError::TooManyObjects { max: ADDRESSEES_MAX };
            return Considered::Refused(AskError::Aborted(error.into()));
        }
        // What is in the partition is at home here; only what is not may be at home elsewhere.
        let is_elsewhere =
            |target: &Target<A::Id>| target.slot == NO_SLOT && self.router.home(&target.id) != self.shard;
        if first.as_ref().is_none_or(is_elsewhere) || rest.iter().any(is_elsewhere) {
            return match self.router.destination::<A>(message, &mut self.scratch) {
                Destination::Nowhere => {
                    self.counters.unaddressed += 1;
                    Considered::Refused(AskError::Unaddressed)
                }
                Destination::One(home) => {
                    self.counters.elsewhere += 1;
                    Considered::Refused(AskError::Elsewhere { home })
                }
                Destination::Several(_) => Considered::Later(Reason::Spans),
            };
        }
        // Who only reads goes together with others who only read.
        let may_run = |target: &Target<A::Id>| {
            target.slot == NO_SLOT
                || !target.is_locked
                || self.partition.slot(target.slot).may_lock(target.access)
        };
        if first.iter().chain(rest).all(may_run) {
            Considered::Runs
        } else {
            Considered::Later(Reason::Locked)
        }
    }

    /// The running message needs an object that it cannot have now.
    #[cold]
    pub(crate) fn miss(&self, id: A::Id, access: Access) -> AccessError<A::Id> {
        self.missing.set(Some((id, access)));
        AccessError::Undeclared { id }
    }

    /// The hash and slot of an id the message did not declare; `None` if it cannot be had at once.
    #[cold]
    pub(crate) fn look_up(&self, id: A::Id) -> Option<(IdHash, SlotIndex)> {
        let hash = self.partition.hash(&id);
        let (slot, is_locked) = self.partition.find(hash, &id);
        let is_here = slot != NO_SLOT || self.router.home(&id) == self.shard;
        (is_here && !is_locked).then_some((hash, slot))
    }

    /// Gives `target`, which has no slot, one without a state, and remembers that there was none.
    #[cold]
    pub(crate) fn appear(&mut self, target: Target<A::Id>, sender: OwnerId) -> SlotIndex {
        let ownership = Ownership::Owned(sender);
        let hash = target.hash.expect("a target without a slot was looked up");
        let slot = self.partition.insert(hash, target.id, ownership);
        self.before.push(BeforeImage { slot, ownership, state: None });
        slot
    }

    /// Frees the slots of what the message removed.
    #[cold]
    fn release_removed(&mut self, first_before: Option<BeforeImage<A>>) {
        for before in first_before.iter().chain(&self.before) {
            if self.partition.slot(before.slot).is_left() {
                self.partition.release(before.slot);
            }
        }
    }

    /// Puts everything back as it was before the message.
    #[cold]
    fn undo(&mut self, first_before: Option<BeforeImage<A>>) {
        self.told.clear();
        for before in first_before.into_iter().chain(self.before.drain(..)) {
            let slot = self.partition.slot_mut(before.slot);
            slot.ownership = before.ownership;
            slot.state = before.state;
            if slot.is_left() {
                self.partition.release(before.slot);
            }
        }
    }

    #[cold]
    fn send_told(&mut self, sender: OwnerId, effects: &mut Effects<A>) {
        for Told { message, to, due } in self.told.drain(..) {
            let envelope = Envelope::Message { message, sender, answer_to: ReturnAddress::Nobody };
            self.counters.told += 1;
            match due {
                Some(due) => {
                    self.timers_set += 1;
                    self.timers.push(Timer { due, set: self.timers_set, to, envelope });
                }
                None if to == self.shard => self.own.push_back(envelope),
                None => effects.outboxes[to.index()].push_back(envelope),
            }
        }
    }
}
