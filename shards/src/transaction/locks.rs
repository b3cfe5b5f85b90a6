//! Locks on objects, and the transactions that wait for them.
//!
//! An object's lock is a word in its slot: free, shared by so many, or exclusive. A transaction
//! that cannot have it joins the object's queue, first come, first served. Readers go to the end of
//! a queue too, so they never overtake a waiting writer. A transaction asks for all it wants on a
//! shard in one step. Invariant *no-cycle*: so a transaction waits only for those that asked on
//! this shard before it. While it waits it holds locks only here and on lower shards, so those that
//! it waits for never wait for it.

use std::collections::VecDeque;

use slab::Slab;

use crate::actor::Actor;
use crate::object::Access;
use crate::store::partition::Partition;
use crate::store::slot::{NO_QUEUE, SlotIndex};
use crate::time::Time;
use crate::transaction::lock_wait::LockWait;
use crate::transaction::{Carried, Transaction};

/// A transaction that waits for some of its locks on this shard.
struct Waiting<A: Actor> {
    transaction: Box<Transaction<A>>,
    /// How many locks it still waits for. The others it holds.
    missing: u32,
    /// The first object that it waits for, how many waited for that before it, what kind of message
    /// the last of those is (or, once it has the lock, the one that had it), and since when.
    object: A::Id,
    ahead: u32,
    behind: Option<&'static str>,
    since: Time,
}

impl<A: Actor> Waiting<A> {
    fn kind(&self) -> &'static str {
        self.transaction.message.as_ref().map_or("", A::message_name)
    }
}

struct Request {
    waiting: usize,
    access: Access,
}

/// Of the waits since somebody asked, so many are remembered by their object.
const REMEMBERED_MAX: usize = 64;

/// So many waits that ended are noted until somebody takes them.
const NOTED_MAX: usize = 64;

/// All that waits on a shard.
pub(crate) struct Locks<A: Actor> {
    /// Locks that had to be waited for since the start.
    waits: u64,
    /// The objects of the last of them.
    remembered: Vec<A::Id>,
    /// Waits that end are noted, and those that were.
    notes: bool,
    noted: Vec<LockWait<A::Id>>,
    waiting: Slab<Waiting<A>>,
    /// The one that came last.
    last: usize,
    queues: Slab<VecDeque<Request>>,
    /// Empty queues kept for their memory.
    spare: Vec<VecDeque<Request>>,
    /// Transactions that have got all they waited for, in the order they got it.
    ready: VecDeque<usize>,
}

impl<A: Actor> Locks<A> {
    pub(crate) fn new() -> Self {
        Locks {
            waits: 0,
            remembered: Vec::new(),
            notes: false,
            noted: Vec::new(),
            waiting: Slab::new(),
            last: 0,
            queues: Slab::new(),
            spare: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// How many transactions wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many locks had to be waited for since the start.
    pub(crate) fn waits(&self) -> u64 {
        self.waits
    }

    /// The objects that were waited for since this was last called: at most [`REMEMBERED_MAX`], a
    /// sample if there were more.
    pub(crate) fn take_remembered(&mut self) -> impl Iterator<Item = A::Id> + '_ {
        self.remembered.drain(..)
    }

    /// Whether waits that end are noted.
    #[inline]
    pub(crate) fn notes(&self) -> bool {
        self.notes
    }

    /// From now on waits that end are noted, or are not.
    pub(crate) fn note(&mut self, notes: bool) {
        self.notes = notes;
    }

    /// The waits that were noted since this was last called: the first [`NOTED_MAX`] of them.
    pub(crate) fn take_noted(&mut self) -> impl Iterator<Item = LockWait<A::Id>> + '_ {
        self.noted.drain(..)
    }

    /// A transaction has to wait for this object.
    fn remember(&mut self, id: A::Id) {
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.push(id);
        } else {
            self.remembered[self.waits as usize % REMEMBERED_MAX] = id;
        }
        self.waits += 1;
    }

    /// Locks the objects `at_home` of `transaction`, which have slots. Returns it if it has them
    /// all; otherwise it waits here: then [`Locks::waits_since`] is to be called.
    pub(crate) fn lock(
        &mut self,
        partition: &mut Partition<A::Id, A::State>,
        transaction: Box<Transaction<A>>,
        at_home: std::ops::Range<usize>,
    ) -> Option<Box<Transaction<A>>> {
        let objects = &transaction.objects[at_home.clone()];
        let may_lock = |object: &Carried<A>| partition.slot(object.slot).may_lock(object.access);
        if objects.iter().all(may_lock) {
            objects.iter().for_each(|object| partition.slot_mut(object.slot).lock(object.access));
            return Some(transaction);
        }
        let waiting = self.waiting.vacant_key();
        let (mut missing, mut first) = (0, None);
        for object in objects {
            let slot = partition.slot_mut(object.slot);
            if slot.may_lock(object.access) {
                slot.lock(object.access);
                continue;
            }
            missing += 1;
            slot.heat_up();
            if slot.queue == NO_QUEUE {
                slot.queue = self.queues.insert(self.spare.pop().unwrap_or_default()) as u32;
            }
            let queue = &mut self.queues[slot.queue as usize];
            first = first.or_else(|| {
                let last = queue.back().map(|request| self.waiting[request.waiting].kind());
                Some((object.id, queue.len() as u32, last))
            });
            queue.push_back(Request { waiting, access: object.access });
            self.remember(object.id);
        }
        let (object, ahead, behind) = first.expect("it may not lock one of them");
        self.waiting.insert(Waiting { transaction, missing, object, ahead, behind, since: Time(0) });
        self.last = waiting;
        None
    }

    /// The transaction that [`Locks::lock`] has just kept waits since `now`. Apart from that,
    /// because a transaction that need not wait is to cost nothing more.
    #[cold]
    pub(crate) fn waits_since(&mut self, now: Time) {
        self.waiting[self.last].since = now;
    }

    /// Whether transactions have got all they waited for.
    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Gives back one lock, which this message had if that is known, and grants what can be granted
    /// then.
    #[inline]
    pub(crate) fn unlock(
        &mut self,
        partition: &mut Partition<A::Id, A::State>,
        index: SlotIndex,
        of: Option<&A::Message>,
    ) {
        if partition.slot_mut(index).unlock_for_next() {
            self.grant(partition, index, of);
        }
    }

    /// Grants what can be granted of an object that was unlocked; and lets go of its slot, if that
    /// was only there to be locked. This message had the lock, if that is known: the first that
    /// waits has waited for that one. To note it when a lock is taken would cost every transaction.
    #[cold]
    pub(crate) fn grant(
        &mut self,
        partition: &mut Partition<A::Id, A::State>,
        index: SlotIndex,
        of: Option<&A::Message>,
    ) {
        let slot = partition.slot_mut(index);
        if slot.queue != NO_QUEUE {
            let queue = &mut self.queues[slot.queue as usize];
            while let Some(first) = queue.front()
                && slot.is_compatible(first.access)
            {
                slot.lock(first.access);
                let waiting = queue.pop_front().expect("there is a first").waiting;
                let granted = &mut self.waiting[waiting];
                granted.missing -= 1;
                if granted.missing == 0 {
                    self.ready.push_back(waiting);
                }
                if self.notes && granted.ahead == 0 && granted.object == slot.id {
                    granted.behind = of.map(A::message_name);
                }
            }
            if queue.is_empty() {
                self.spare.push(self.queues.remove(slot.queue as usize));
                slot.queue = NO_QUEUE;
            }
        }
        if slot.is_left() {
            partition.release(index);
        }
    }

    /// The next transaction that has got all it waited for, at `now`.
    #[inline]
    pub(crate) fn next_ready(&mut self, now: Time) -> Option<Box<Transaction<A>>> {
        let waiting = self.ready.pop_front()?;
        Some(self.ended(waiting, now))
    }

    #[cold]
    fn ended(&mut self, waiting: usize, now: Time) -> Box<Transaction<A>> {
        let waited = self.waiting.remove(waiting);
        if self.notes && self.noted.len() < NOTED_MAX {
            let message = waited.kind();
            let Waiting { object, ahead, behind, since: began, .. } = waited;
            let answer_to = waited.transaction.answer_to;
            self.noted.push(LockWait { answer_to, message, object, ahead, behind, began, ended: now });
        }
        waited.transaction
    }
}
