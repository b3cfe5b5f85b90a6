//! Drives transactions: begin, lock and pass on, run at the lock point, settle on the way back.
//!
//! ```text
//! origin ── LOCK ──> second participant ── LOCK ──> ... last: runs, answers, unlocks
//! origin <─ SETTLE ─ second participant <─ SETTLE ─ ...
//! ```
//!
//! Two shards: two messages. No votes and no aborts but the actor's own. Invariant *locked-until-settled*: from the moment a
//! participant copies an object into the box until the box comes back, nobody writes that object at home; nobody reads it either if
//! the transaction may write it.

use crate::actor::{AccessError, Actor};
use crate::addressees::{ADDRESSEES_MAX, Access, Target};
use crate::desk::{Desk, Reason, Step};
use crate::message::{AskError, Envelope, Outcome, ReturnAddress};
use crate::object::OwnerId;
use crate::partition::NO_SLOT;
use crate::shard::Effects;
use crate::transaction::{End, Transaction};

/// Boxes kept for their memory.
const SPARE_MAX: usize = 1024;

impl<A: Actor> Desk<A> {
    /// Begins a transaction for a message that cannot take the fast path, for [`Desk::reason`]. `extra` is an object it touched without
    /// declaring it.
    #[cold]
    pub(crate) fn begin(
        &mut self,
        message: A::Message,
        sender: OwnerId,
        answer_to: ReturnAddress,
        extra: Option<(A::Id, Access)>,
        effects: &mut Effects<A>,
    ) {
        // Counted here and not where it was found: `ask_now` finds it too, and leaves it to its caller.
        match self.reason {
            Reason::Spans => self.counters.spanning += 1,
            Reason::Locked => self.counters.blocked += 1,
            Reason::Undeclared => self.counters.undeclared += 1,
        }
        let mut transaction = self.spare.pop().unwrap_or_else(Transaction::new);
        let mut to = std::mem::take(&mut self.scratch);
        to.clear();
        A::addressees(&message, &mut to);
        for (id, access) in to.iter().chain(extra) {
            transaction.add(id, self.router.home(&id), access);
        }
        self.scratch = to;
        transaction.message = Some(message);
        transaction.sender = sender;
        transaction.answer_to = answer_to;
        transaction.origin = self.shard;
        transaction.reruns = u32::from(extra.is_some());
        self.in_flight += 1;
        self.send(transaction, effects);
    }

    /// To its first participant.
    pub(crate) fn send(&mut self, transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        let first = transaction.objects[0].home;
        if first == self.shard {
            self.lock(transaction, effects);
        } else {
            effects.outboxes[first.index()].push_back(Envelope::Lock(transaction));
        }
    }

    /// This shard's part of the way up: locks what is at home here, now or when it can.
    pub(crate) fn lock(&mut self, mut transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        let at_home = transaction.at_home(self.shard);
        debug_assert!(!at_home.is_empty(), "routed-to-its-home: a transaction visits only its participants");
        for object in &mut transaction.objects[at_home.clone()] {
            let hash = self.partition.hash(&object.id);
            object.slot = self.partition.find(hash, &object.id).0;
            if object.slot == NO_SLOT {
                // Something to lock, so that nobody else inserts it meanwhile.
                object.slot = self.partition.insert(hash, object.id, object.ownership);
            }
        }
        if let Some(transaction) = self.locks.lock(&mut self.partition, transaction, at_home) {
            self.pass_on(transaction, effects);
        }
        self.run_ready(effects);
    }

    /// Goes on with transactions that have got the locks they waited for.
    fn run_ready(&mut self, effects: &mut Effects<A>) {
        while let Some(transaction) = self.locks.next_ready() {
            self.pass_on(transaction, effects);
        }
    }

    /// Everything at home here is locked: on to the next participant, or run.
    fn pass_on(&mut self, mut transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        let Some(next) = transaction.next_after(self.shard) else {
            return self.run_at_lock_point(transaction, effects);
        };
        let at_home = transaction.at_home(self.shard);
        for object in &mut transaction.objects[at_home] {
            let slot = self.partition.slot(object.slot);
            object.ownership = slot.ownership;
            object.state = slot.state.clone();
        }
        effects.outboxes[next.index()].push_back(Envelope::Lock(transaction));
    }

    /// The last participant: everything is locked, and everything is here.
    fn run_at_lock_point(&mut self, mut transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        let at_home = transaction.at_home(self.shard);
        // What is at home elsewhere is lent a slot, so that the message sees no difference.
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        for object in &mut transaction.objects[..at_home.start] {
            let slot = self.partition.lend_slot(object.id, object.ownership, object.state.take());
            targets.push_found(Target::found(object.id, slot, object.access));
        }
        for object in &transaction.objects[at_home.clone()] {
            targets.push_found(Target::found(object.id, object.slot, object.access));
        }
        let message = transaction.message.take().expect("a transaction under way has its message");
        let first = targets.first;
        let step = self.receive(&message, transaction.sender, first, &mut targets.rest, effects);
        transaction.message = Some(message);
        for (object, target) in transaction.objects[..at_home.start].iter_mut().zip(targets.targets()) {
            let (ownership, state) = self.partition.take_back(target.slot);
            object.is_written = target.saved || std::mem::take(&mut self.first_saved);
            (object.ownership, object.state) = (ownership, state);
        }
        self.targets = targets;
        let end = match step {
            Step::Done(outcome) => {
                let is_committed = outcome.is_ok();
                if is_committed {
                    self.counters.consensus += 1;
                    // `receive` counts every success as fast.
                    self.counters.fast -= 1;
                }
                // Whoever waits hears it now: it took effect. Only a batch is in the origin's hands.
                let is_for_origin = matches!(transaction.answer_to, ReturnAddress::Batch { .. })
                    && transaction.origin != self.shard;
                let kept = if is_for_origin {
                    Some(outcome)
                } else {
                    self.answer(transaction.answer_to, outcome, effects);
                    None
                };
                if is_committed { End::Committed(kept) } else { End::Aborted(kept) }
            }
            Step::Missing(id, access) => End::Again(id, access),
        };
        transaction.end = Some(end);
        for object in &transaction.objects[at_home] {
            self.locks.unlock(&mut self.partition, object.slot);
        }
        self.pass_back(transaction, effects);
    }

    /// This shard's part of the way back: takes over what was written, and unlocks.
    pub(crate) fn settle(&mut self, mut transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        let at_home = transaction.at_home(self.shard);
        let is_committed = matches!(transaction.end, Some(End::Committed(_)));
        for object in &mut transaction.objects[at_home] {
            let slot = self.partition.slot_mut(object.slot);
            debug_assert!(slot.id == object.id && slot.lock != 0, "locked-until-settled: {:?}", object.id);
            if is_committed && object.is_written {
                slot.ownership = object.ownership;
                slot.state = object.state.take();
            }
            self.locks.unlock(&mut self.partition, object.slot);
        }
        self.pass_back(transaction, effects);
        self.run_ready(effects);
    }

    /// To the participant before, or, from the first, to where it began.
    fn pass_back(&mut self, transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        match transaction.last_before(self.shard) {
            Some(before) => effects.outboxes[before.index()].push_back(Envelope::Settle(transaction)),
            None if transaction.origin == self.shard => self.finish(transaction, effects),
            None => effects.outboxes[transaction.origin.index()].push_back(Envelope::Finish(transaction)),
        }
    }

    /// At the origin again, with nothing locked anywhere.
    pub(crate) fn finish(&mut self, mut transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        match transaction.end.take() {
            Some(End::Again(id, access)) if transaction.reruns < self.limits.reruns_max => {
                transaction.add(id, self.router.home(&id), access);
                if transaction.objects.len() <= ADDRESSEES_MAX {
                    transaction.reruns += 1;
                    self.counters.reruns += 1;
                    // In a turn of its own, so that no stack grows with the reruns.
                    self.own.push_back(Envelope::Restart(transaction));
                    return;
                }
                self.counters.aborted += 1;
                let error = AccessError::TooManyObjects { max: ADDRESSEES_MAX };
                self.answer(transaction.answer_to, Err(AskError::Aborted(error.into())), effects);
            }
            Some(End::Again(..)) => {
                self.counters.unsettled += 1;
                self.answer(transaction.answer_to, Err(AskError::Unsettled), effects);
            }
            Some(End::Committed(kept) | End::Aborted(kept)) => {
                if let Some(outcome) = kept {
                    self.answer(transaction.answer_to, outcome, effects);
                }
            }
            None => {
                debug_assert!(false, "locked-until-settled: a transaction comes back only when it has run")
            }
        }
        self.in_flight -= 1;
        transaction.message = None;
        transaction.objects.clear();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(transaction);
        }
    }

    /// Sends an outcome to whoever waits for it.
    #[inline]
    pub(crate) fn answer(&mut self, to: ReturnAddress, outcome: Outcome<A>, effects: &mut Effects<A>) {
        match to {
            ReturnAddress::Nobody => {}
            ReturnAddress::Shard { shard, call } if shard != self.shard => {
                effects.outboxes[shard.index()].push_back(Envelope::Answer { call, outcome });
            }
            ReturnAddress::Outside { .. } | ReturnAddress::Shard { .. } => {
                effects.answers.push((to, outcome))
            }
            ReturnAddress::Batch { batch, entry } => self.batches.answer(batch, entry, outcome, effects),
        }
    }
}
