//! Where one message at a time is worked on: found, run, and then kept or undone.
//!
//! Invariant *all-or-nothing*: after [`Desk::execute`] either everything a message did stands (its writes, what it removed, what it
//! told), or nothing of it is left. The before-images are what makes the second possible; they exist only while a message runs.

use std::cell::Cell;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::actor::addressees::{ADDRESSEES_MAX, Addressees, Rest, Target};
use crate::actor::objects::Objects;
use crate::actor::{AccessError, Actor};
use crate::counters::Counters;
use crate::epoch::published::Mvcc;
use crate::epoch::{Epoch, Line, TransactionId};
use crate::log::record::Debt;
use crate::object::{Access, ObjectId, OwnerId, Ownership};
use crate::placement::{Router, ShardIndex};
use crate::prefetch::Prefetch;
use crate::shard::batches::Batches;
use crate::shard::journal::Journal;
use crate::shard::recording::Written;
use crate::shard::timers::Timer;
use crate::shard::{Effects, Limits, Place};
use crate::store::home::Home;
use crate::store::index::IdHash;
use crate::store::partition::Partition;
use crate::store::slot::{NO_SLOT, Slot, SlotIndex};
use crate::store::version::Versions;
use crate::store::walk::Walk;
use crate::time::Time;
use crate::transaction::Transaction;
use crate::transaction::locks::Locks;
use crate::transaction::message::{AskError, Envelope, Outcome, ReturnAddress};

/// What an object was before the running message first wrote it.
pub(crate) struct BeforeImage<A: Actor> {
    pub(crate) slot: SlotIndex,
    pub(crate) ownership: Ownership,
    /// `None` if the object did not exist.
    pub(crate) state: Option<A::State>,
}

impl<A: Actor> BeforeImage<A> {
    /// Which object it is of, and whether that existed.
    #[inline]
    pub(crate) fn written(&self) -> Written {
        (self.slot, self.state.is_some())
    }
}

impl<A: Actor> BeforeImage<A> {
    /// What the object in `slot`, number `index`, is before `sender` writes it, if it may.
    #[inline]
    pub(crate) fn of(
        slot: &Slot<A::Id, A::State>,
        index: SlotIndex,
        sender: OwnerId,
    ) -> Result<BeforeImage<A>, AccessError<A::Id>> {
        let ownership = slot.ownership();
        match ownership {
            Ownership::Owned(owner) if owner == sender => {}
            Ownership::Shared => {}
            // What does not exist belongs to nobody; it has a slot to be locked.
            _ if slot.state.is_none() => {}
            Ownership::Owned(owner) => return Err(AccessError::NotOwner { id: slot.id, owner, sender }),
            Ownership::Immutable => return Err(AccessError::Immutable { id: slot.id }),
        }
        Ok(BeforeImage { slot: index, ownership, state: slot.state.clone() })
    }
}

/// An object with the state anyone may read of it from now on, if any.
type Publication<A> = (<A as Actor>::Id, Option<Arc<<A as Actor>::State>>);

/// A message the running message sends if it succeeds.
pub(crate) struct Told<A: Actor> {
    pub(crate) message: A::Message,
    pub(crate) to: ShardIndex,
    pub(crate) sender: OwnerId,
    /// When, if later.
    pub(crate) due: Option<Time>,
    /// While it is staged for the log: its number, and it in bytes.
    pub(crate) owed: Option<(Debt, Box<[u8]>)>,
    /// Its number in the log.
    pub(crate) debt: Option<Debt>,
}

/// In [`Desk::unsealed`]: the running message may have done more than change states.
pub(crate) const MORE: u8 = 1;
/// In [`Desk::unsealed`]: there is a log.
pub(crate) const LOGGED: u8 = 2;

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
    /// One of its objects is shared.
    Shared,
    /// It touched an object which it had not declared and cannot have at once.
    Undeclared,
}

/// The objects of a shard and everything a running message may reach.
pub(crate) struct Desk<A: Actor> {
    pub(crate) shard: ShardIndex,
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) now: Time,
    /// What this shard knows of epochs and snapshots. Everything it runs now, it runs in this epoch.
    pub(crate) line: Line,
    /// Shared by all shards.
    pub(crate) mvcc: Arc<Mvcc<A>>,
    /// This shard's side of its log, if it has one.
    pub(crate) journal: Option<Box<Journal<A>>>,
    pub(crate) partition: Partition<A::Id, A::State>,
    pub(crate) counters: Counters,
    /// Of the running message: of each object it wrote but the first. Empty between messages.
    pub(crate) before: Vec<BeforeImage<A>>,
    /// An object the running message needs and cannot have now: it is undone, and runs again with it.
    pub(crate) missing: Cell<Option<(A::Id, Access)>>,
    /// Why the message that was last found to need the consensus path does. Here, and not with what [`Shard::turn`](crate::Shard::turn)
    /// hears of a message: that is passed on for every message, and being larger it cost the fast path 4 of 24 ns.
    pub(crate) reason: Reason,
    /// [`MORE`] if the running message may have done more than change states, and [`LOGGED`]: see [`Desk::seal`]. One word, so that a
    /// message that did neither pays for one comparison.
    pub(crate) unsealed: u8,
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
    /// Transactions that this shard passed on and that have not come back, counted by the epoch it was then; oldest first.
    pub(crate) in_doubt: VecDeque<(Epoch, usize)>,
    /// Old states of objects.
    pub(crate) versions: Versions<A::State>,
    /// The way of a checkpoint through the objects.
    pub(crate) walk: Walk<A::Id, A::State>,
    /// How often this shard has published something.
    pub(crate) publications: u64,
    /// What the running message publishes, or, without a state, makes private again or removes. Empty between messages.
    pub(crate) to_publish: Vec<Publication<A>>,
    /// Published objects with versions to be trimmed when the watermark has passed an epoch.
    pub(crate) to_trim: VecDeque<(Epoch, A::Id)>,
    /// Transactions that began here and have not come back.
    pub(crate) in_flight: usize,
    /// Boxes of transactions that came back, kept for their memory.
    pub(crate) spare: Vec<Box<Transaction<A>>>,
    /// Batches with messages that became transactions.
    pub(crate) batches: Batches<A>,
    /// The objects of a transaction at its lock point; kept for its memory.
    pub(crate) targets: Option<Box<Addressees<A::Id>>>,
    /// A box for the message that was last found to become a transaction, until it begins.
    pub(crate) prepared: Option<Box<Transaction<A>>>,
    /// For routing what is told; kept for its memory.
    pub(crate) scratch: Addressees<A::Id>,
}

/// The running message needs an object that it cannot have now.
#[cold]
pub(crate) fn miss<Id: ObjectId>(
    missing: &Cell<Option<(Id, Access)>>,
    id: Id,
    access: Access,
) -> AccessError<Id> {
    missing.set(Some((id, access)));
    AccessError::Undeclared { id }
}

/// Drops a user's value, or what a panic carries, which may itself panic when dropped.
#[cold]
pub(crate) fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

impl<A: Actor> Desk<A> {
    pub(crate) fn new(
        shard: ShardIndex,
        router: Router,
        limits: Limits,
        table_seed: u64,
        mvcc: Arc<Mvcc<A>>,
    ) -> Self {
        Desk {
            line: mvcc.epochs().line(),
            mvcc,
            shard,
            router,
            limits,
            now: Time(0),
            partition: Partition::new(table_seed),
            counters: Counters::default(),
            before: Vec::with_capacity(8),
            missing: Cell::new(None),
            reason: Reason::Spans,
            unsealed: 0,
            journal: None,
            first_saved: false,
            told: Vec::new(),
            own: VecDeque::new(),
            timers: BinaryHeap::new(),
            timers_set: 0,
            locks: Locks::new(),
            in_doubt: VecDeque::new(),
            versions: Versions::new(),
            walk: Walk::new(),
            publications: 0,
            to_publish: Vec::new(),
            to_trim: VecDeque::new(),
            in_flight: 0,
            spare: Vec::new(),
            batches: Batches::new(),
            targets: None,
            prepared: None,
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
        let (slot, is_reserved) = self.partition.find(hash, &named.id);
        Some(Target { id: named.id, hash: Some(hash), slot, access: named.access, is_reserved, saved: false })
    }

    #[inline(always)]
    fn find_one(&self, target: &mut Target<A::Id>) {
        let hash = self.partition.hash(&target.id);
        target.hash = Some(hash);
        (target.slot, target.is_reserved) = self.partition.find(hash, &target.id);
    }

    /// First stage: names a message's objects, and prefetches where the index has them.
    #[inline]
    pub(crate) fn name<P: Prefetch>(&self, message: &A::Message, targets: &mut Addressees<A::Id>) {
        targets.clear();
        A::addressees(message, targets);
        self.prefetch_index::<P>(targets);
    }

    /// The same for a transaction's objects that are at home here and were not looked up yet.
    #[inline]
    pub(crate) fn name_carried<P: Prefetch>(
        &self,
        transaction: &Transaction<A>,
        targets: &mut Addressees<A::Id>,
    ) {
        targets.clear();
        for object in &transaction.objects[transaction.at_home(self.shard)] {
            if object.slot == NO_SLOT {
                targets.push_found(Target::found(object.id, NO_SLOT, object.access));
            }
        }
        self.prefetch_index::<P>(targets);
    }

    #[inline]
    fn prefetch_index<P: Prefetch>(&self, targets: &mut Addressees<A::Id>) {
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

    /// Runs a message whose objects are here and its own to use. Across a call its first object would go through memory, so it is always
    /// inlined; and so is what it has caught, which the compiler does only if that is called from one place. This is all that `FROM` is
    /// for (4 ns of 20, measured).
    #[inline(always)]
    pub(crate) fn receive<const FROM: Place>(
        &mut self,
        message: &A::Message,
        sender: OwnerId,
        first: Option<Target<A::Id>>,
        rest: &mut Rest<A::Id>,
        effects: &mut Effects<A>,
    ) -> Step<A> {
        let Some(first) = first else { return Step::Done(Err(AskError::Unaddressed)) };
        let mut objects = Objects { desk: self, effects, sender, first, rest, first_before: None };
        let result = catch_unwind(AssertUnwindSafe(|| A::receive(message, &mut objects)));
        // By reference: moving the before-image would load what was stored a moment ago, in other pieces, and wait for it.
        let Objects { first, first_before, .. } = &mut objects;
        self.first_saved = first.saved;
        if let Some((id, access)) = self.missing.get() {
            self.missing.set(None);
            self.undo(first_before.take());
            // Neither a result nor a panic counts: it ran without what it needs.
            drop_quietly(result);
            return Step::Missing(id, access);
        }
        Step::Done(match result {
            Ok(Ok(reply)) => {
                if self.unsealed != 0 {
                    let sealed = if self.unsealed == LOGGED && self.told.is_empty() {
                        let recorded = self.record(first_before.as_ref().map(BeforeImage::written));
                        recorded.map_err(|error| self.not_recorded(first_before.take(), error))
                    } else {
                        self.seal(first_before.take())
                    };
                    if let Err(error) = sealed {
                        drop_quietly(reply);
                        return Step::Done(Err(error));
                    }
                }
                self.before.clear();
                if !self.told.is_empty() {
                    self.send_told(effects);
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
                drop_quietly(payload);
                Err(AskError::Panicked)
            }
        })
    }

    /// What becomes of a message some of whose objects are absent or reserved, or that names none or too many.
    #[cold]
    pub(crate) fn consider(
        &mut self,
        first: Option<Target<A::Id>>,
        rest: &Rest<A::Id>,
        too_many: bool,
    ) -> Considered<A> {
        if too_many {
            self.counters.aborted += 1;
            let error = AccessError::TooManyObjects { max: ADDRESSEES_MAX };
            return Considered::Refused(AskError::Aborted(error.into()));
        }
        let Some(named) = &first else {
            self.counters.unaddressed += 1;
            return Considered::Refused(AskError::Unaddressed);
        };
        // What is in the partition is at home here; only what is not may be at home elsewhere.
        let home_of = |target: &Target<A::Id>| {
            if target.slot == NO_SLOT { self.router.home(&target.id) } else { self.shard }
        };
        let homes: ArrayVec<ShardIndex, ADDRESSEES_MAX> =
            std::iter::once(named).chain(rest).map(home_of).collect();
        if homes.iter().any(|home| *home != self.shard) {
            if let Some(home) = homes.first().filter(|first| homes.iter().all(|home| home == *first)) {
                self.counters.elsewhere += 1;
                return Considered::Refused(AskError::Elsewhere { home: *home });
            }
            self.prepare(first, rest, &homes);
            return Considered::Later(Reason::Spans);
        }
        let is_shared = |target: &Target<A::Id>| {
            target.slot != NO_SLOT && self.partition.slot(target.slot).ownership() == Ownership::Shared
        };
        if first.iter().chain(rest).any(is_shared) {
            self.prepare(first, rest, &homes);
            return Considered::Later(Reason::Shared);
        }
        // Who only reads goes together with others who only read.
        let may_run = |target: &Target<A::Id>| {
            target.slot == NO_SLOT
                || !target.is_reserved
                || self.partition.slot(target.slot).may_lock(target.access)
        };
        if first.iter().chain(rest).all(may_run) {
            Considered::Runs
        } else {
            self.prepare(first, rest, &homes);
            Considered::Later(Reason::Locked)
        }
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
        self.unsealed |= MORE;
        slot
    }

    /// The name of the running message, if it takes effect.
    #[inline]
    pub(crate) fn transaction_id(&self) -> TransactionId {
        let Counters { fast, consensus, aborted, panicked, .. } = self.counters;
        TransactionId {
            epoch: self.line.epoch,
            shard: self.shard,
            sequence: fast + consensus + aborted + panicked,
        }
    }

    /// What [`Desk::unsealed`] is between messages.
    #[inline]
    pub(crate) fn sealed(&self) -> u8 {
        if self.journal.is_some() { LOGGED } else { 0 }
    }

    /// Takes over what all shards know of epochs and snapshots.
    #[inline]
    pub(crate) fn enter(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.activate();
        }
        self.line = self.mvcc.epochs().line();
    }

    /// Takes the objects over as the logs have them.
    pub(crate) fn restore(&mut self, home: Home<A>) {
        for (id, ownership, state) in home.objects() {
            if !matches!(ownership, Ownership::Owned(_)) {
                self.mvcc.restore(id, Arc::new(state.clone()));
            }
        }
        self.partition = home.partition;
    }

    /// Puts everything back as it was before the message.
    #[cold]
    pub(crate) fn undo(&mut self, first_before: Option<BeforeImage<A>>) {
        self.unsealed = self.sealed();
        self.to_publish.clear();
        self.told.clear();
        for before in first_before.into_iter().chain(self.before.drain(..)) {
            let slot = self.partition.slot_mut(before.slot);
            slot.set_ownership(before.ownership);
            slot.state = before.state;
            if slot.is_left() {
                self.partition.release(before.slot);
            }
        }
    }

    #[cold]
    pub(crate) fn send_told(&mut self, effects: &mut Effects<A>) {
        for Told { message, to, due, sender, debt, .. } in self.told.drain(..) {
            let answer_to = debt.map_or(ReturnAddress::Nobody, ReturnAddress::Debt);
            let envelope = Envelope::Message { message, sender, answer_to };
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
