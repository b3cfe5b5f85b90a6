//! Errands: what the program does outside for objects of this shard, and tells them the outcome of.
//!
//! An errand is a pending send that goes to the program. It is owed like any other: in bytes it is
//! the same record, and the actor says which messages are errands. So checkpoints, backups and
//! recovery know nothing of them. It waits here, on its sender shard, until the message that told
//! it is durable and the runtime takes it ([`Shard::begin_errand`]).
//!
//! Its outcome is a message to objects with the errand's number ([`Shard::end_errand`]). Where that
//! runs, the errand is paid in the epoch in which the outcome takes effect: after a crash there are
//! both or neither.

use std::collections::VecDeque;

use crate::actor::Actor;
use crate::actor::destination::Destination;
use crate::actor::told::{ErrandId, QueuedSend};
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::record::Debt;
use crate::object::OwnerId;
use crate::prefetch::Prefetch;
use crate::shard::Shard;
use crate::shard::engine::Engine;
use crate::transaction::effects::Effects;

/// An errand that begins.
pub struct BegunErrand<A: Actor> {
    /// Which.
    pub id: ErrandId,
    /// Who told it. Its outcome is sent as this owner.
    pub sender: OwnerId,
    /// What is to be done.
    pub message: A::Message,
}

/// The errands of a shard.
pub(crate) struct Errands<A: Actor> {
    /// Those that have not begun, with the epoch each was told in; oldest first.
    waiting: VecDeque<(Epoch, BegunErrand<A>)>,
    /// How many have begun and not ended.
    under_way: usize,
}

impl<A: Actor> Errands<A> {
    pub(crate) fn new() -> Self {
        Errands { waiting: VecDeque::new(), under_way: 0 }
    }

    fn owed(&self) -> usize {
        self.waiting.len() + self.under_way
    }
}

impl<A: Actor> Engine<A> {
    /// A message that took effect in this epoch has told an errand.
    pub(super) fn owe_errand(&mut self, send: QueuedSend<A>) {
        let QueuedSend { message, sender, number, .. } = send;
        let Debt(id) = number.expect("an errand is numbered when it is told");
        let begun = BegunErrand { id: ErrandId(id), sender, message };
        self.errands.waiting.push_back((self.run.epoch_state.epoch, begun));
        self.run.errands_owed = self.errands.owed();
    }

    /// Takes over an errand that a log has.
    pub(super) fn keep_errand(&mut self, debt: Debt, sender: OwnerId, message: A::Message) {
        if fault::is_on(Fault::ForgetErrands) {
            return;
        }
        let begun = BegunErrand { id: ErrandId(debt.0), sender, message };
        self.errands.waiting.push_back((Epoch(0), begun));
        self.run.errands_owed = self.errands.owed();
    }
}

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Says that there is somebody to perform errands. Without, none is told or begins, and those
    /// that a log has stay owed.
    #[must_use]
    pub fn with_performer(mut self) -> Self {
        self.engine.run.has_performer = true;
        self
    }

    /// How many errands wait, and how many have begun and not ended.
    pub fn errands(&self) -> (usize, usize) {
        (self.engine.errands.waiting.len(), self.engine.errands.under_way)
    }

    /// Begins the next errand, if there is one that may begin: nobody performs it twice at a time.
    /// If it waits for the log, [`Shard::release`] says when that has got further; so it is to be
    /// called afterwards while errands wait.
    ///
    /// What is begun is to be given to [`Shard::end_errand`] or [`Shard::put_errand_back`].
    pub fn begin_errand(&mut self) -> Option<BegunErrand<A>> {
        let (told_in, _) = self.engine.errands.waiting.front().filter(|_| self.engine.run.has_performer)?;
        let told_in = *told_in;
        // While a message of an earlier run is looked at alone, nothing else may end the process.
        let is_held = self.engine.journal.as_ref().is_some_and(|journal| journal.resumed.is_held);
        if is_held || !self.want_durable(told_in) && !fault::is_on(Fault::ErrandEarly) {
            return None;
        }
        let (_, begun) = self.engine.errands.waiting.pop_front()?;
        self.engine.errands.under_way += 1;
        Some(begun)
    }

    /// An errand of this shard's has ended, and this is its outcome: a message to objects, which
    /// runs in the next turn or goes by the outboxes.
    pub fn end_errand(
        &mut self,
        id: ErrandId,
        sender: OwnerId,
        outcome: A::Message,
        effects: &mut Effects<A>,
    ) {
        self.end_one();
        let run = &mut self.engine.run;
        let to = match run.router.destination::<A>(&outcome, run.scratch.get_mut()) {
            Destination::One(to) | Destination::Several(to) => to,
            // It is refused in a turn, as any message without an object, and paid all the same.
            Destination::Nowhere => run.shard,
        };
        run.told.get_mut().send(QueuedSend {
            message: outcome,
            to,
            sender,
            due: None,
            is_errand: false,
            staged: None,
            number: Some(id.debt()).filter(|_| !fault::is_on(Fault::ErrandUnpaid)),
        });
        self.engine.send_queued(effects);
    }

    /// An errand of this shard's that has begun has no outcome: it waits once more, behind others.
    pub fn put_errand_back(&mut self, begun: BegunErrand<A>) {
        self.end_one();
        self.engine.errands.waiting.push_back((Epoch(0), begun));
        self.engine.run.errands_owed = self.engine.errands.owed();
    }

    fn end_one(&mut self) {
        let Engine { errands, run, .. } = &mut self.engine;
        errands.under_way = errands.under_way.checked_sub(1).expect("an errand that ends has begun");
        run.errands_owed = errands.owed();
    }
}
