//! Where one message at a time is worked on: found, run, and then kept or undone.
//!
//! Invariant *all-or-nothing*: after [`Desk::execute`] either everything a message did stands (its writes, what it removed, what it
//! told), or nothing of it is left. The before-images are what makes the second possible; they exist only while a message runs.

use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::actor::{AccessError, Actor};
use crate::addressees::{ADDRESSEES_MAX, Addressees, Rest, Target};
use crate::index::IdHash;
use crate::message::{AskError, Envelope, Outcome, ReturnAddress};
use crate::object::{OwnerId, Ownership};
use crate::objects::Objects;
use crate::partition::{NO_SLOT, Partition, Slot, SlotIndex};
use crate::router::{Destination, Router, ShardIndex};
use crate::shard::{Effects, Limits, Prefetch, Time};
use crate::statistics::Counters;
use crate::timer::Timer;

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
    /// Of the running message; empty between messages.
    pub(crate) told: Vec<Told<A>>,
    /// Messages the shard sent to itself.
    pub(crate) own: VecDeque<Envelope<A>>,
    /// Messages that wait for their time.
    pub(crate) timers: BinaryHeap<Timer<A>>,
    timers_set: u64,
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
            told: Vec::new(),
            own: VecDeque::new(),
            timers: BinaryHeap::new(),
            timers_set: 0,
            scratch: Addressees::new(),
        }
    }

    /// Names a message's objects and looks each up.
    #[inline]
    pub(crate) fn find(&self, message: &A::Message, targets: &mut Addressees<A::Id>) {
        A::addressees(message, targets);
        if let Some(first) = &mut targets.first {
            self.find_one(first);
        }
        for target in targets.rest.as_mut_slice() {
            self.find_one(target);
        }
    }

    #[inline(always)]
    fn find_one(&self, target: &mut Target<A::Id>) {
        let hash = self.partition.hash(&target.id);
        target.hash = Some(hash);
        target.slot = self.partition.find(hash, &target.id);
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

    /// Runs a message whose objects were looked up.
    #[inline]
    pub(crate) fn execute(
        &mut self,
        message: &A::Message,
        sender: OwnerId,
        targets: &mut Addressees<A::Id>,
        effects: &mut Effects<A>,
    ) -> Outcome<A> {
        let Some(first) = targets.first else {
            self.counters.unaddressed += 1;
            return Err(AskError::Unaddressed);
        };
        let absent = first.slot == NO_SLOT || targets.rest.iter().any(|target| target.slot == NO_SLOT);
        if (absent || targets.too_many)
            && let Some(error) = self.refusal(message, first, &targets.rest, targets.too_many)
        {
            return Err(error);
        }
        let mut objects = Objects {
            desk: self,
            effects,
            sender,
            first,
            rest: &mut targets.rest,
            first_before: None,
            removed: false,
        };
        let result = catch_unwind(AssertUnwindSafe(|| A::receive(message, &mut objects)));
        let Objects { first_before, removed, .. } = objects;
        match result {
            Ok(Ok(reply)) => {
                if removed {
                    self.release_removed(first_before);
                }
                self.before.clear();
                if !self.told.is_empty() {
                    self.send_told(sender, effects);
                }
                self.counters.fast += 1;
                Ok(reply)
            }
            Ok(Err(error)) => {
                self.undo(first_before);
                self.counters.aborted += 1;
                Err(AskError::Aborted(error))
            }
            Err(payload) => {
                self.undo(first_before);
                self.counters.panicked += 1;
                // What a panic carries may itself panic when dropped.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
                Err(AskError::Panicked)
            }
        }
    }

    /// Why a message with absent objects or too many is not run here, if so.
    #[cold]
    fn refusal(
        &mut self,
        message: &A::Message,
        first: Target<A::Id>,
        rest: &Rest<A::Id>,
        too_many: bool,
    ) -> Option<AskError<A::Error>> {
        if too_many {
            self.counters.aborted += 1;
            return Some(AskError::Aborted(AccessError::TooManyObjects { max: ADDRESSEES_MAX }.into()));
        }
        // What is in the partition is at home here; only what is not may be at home elsewhere.
        let elsewhere =
            |target: &Target<A::Id>| target.slot == NO_SLOT && self.router.home(&target.id) != self.shard;
        if !elsewhere(&first) && !rest.iter().any(elsewhere) {
            return None;
        }
        self.counters.elsewhere += 1;
        match self.router.destination::<A>(message, &mut self.scratch) {
            Destination::Nowhere => Some(AskError::Unaddressed),
            Destination::One(home) => Some(AskError::Elsewhere { home }),
            Destination::Several { id, home, first } => {
                Some(AskError::Aborted(AccessError::SpansShards { id, home, first }.into()))
            }
        }
    }

    /// The hash and slot of an id the message did not declare.
    #[cold]
    pub(crate) fn look_up(&self, id: A::Id) -> Result<(IdHash, SlotIndex), AccessError<A::Id>> {
        let hash = self.partition.hash(&id);
        let slot = self.partition.find(hash, &id);
        let home = self.router.home(&id);
        if slot == NO_SLOT && home != self.shard {
            return Err(AccessError::SpansShards { id, home, first: self.shard });
        }
        Ok((hash, slot))
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
            if self.partition.slot(before.slot).state.is_none() {
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
            if slot.state.is_none() {
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
