//! Actions: what the program does outside for objects of this shard, and tells them the outcome of.
//!
//! An action is a pending send that goes to the program. It is owed like any other: in bytes it is
//! the same record, and the actor says which messages are actions. So checkpoints, backups and
//! recovery know nothing of them. It waits here, on its sender shard, until the message that told
//! it is durable and the runtime takes it ([`Shard::begin_action`]).
//!
//! Its outcome is a message to objects with the action's number ([`Shard::end_action`]). Where that
//! runs, the action is delivered in the epoch in which the outcome takes effect: after a crash
//! there are both or neither.

use std::collections::VecDeque;

use crate::actor::Actor;
use crate::actor::destination::Destination;
use crate::actor::told::{ActionId, QueuedSend};
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::record::SendId;
use crate::object::OwnerId;
use crate::prefetch::Prefetch;
use crate::shard::Shard;
use crate::shard::engine::Engine;
use crate::transaction::effects::Effects;

/// An action that begins.
pub struct BegunAction<A: Actor> {
    /// Which.
    pub id: ActionId,
    /// Who told it. Its outcome is sent as this owner.
    pub sender: OwnerId,
    /// What is to be done.
    pub message: A::Message,
}

/// The actions of a shard.
pub(crate) struct Actions<A: Actor> {
    /// Those that have not begun, with the epoch each was told in; oldest first.
    waiting: VecDeque<(Epoch, BegunAction<A>)>,
    /// How many have begun and not ended.
    under_way: usize,
}

impl<A: Actor> Actions<A> {
    pub(crate) fn new() -> Self {
        Actions { waiting: VecDeque::new(), under_way: 0 }
    }

    fn owed(&self) -> usize {
        self.waiting.len() + self.under_way
    }
}

impl<A: Actor> Engine<A> {
    /// A message that took effect in this epoch has told an action.
    pub(super) fn add_action(&mut self, send: QueuedSend<A>) {
        let QueuedSend { message, sender, number, .. } = send;
        let SendId(id) = number.expect("an action is numbered when it is told");
        let begun = BegunAction { id: ActionId(id), sender, message };
        self.actions.waiting.push_back((self.run.epoch_state.epoch, begun));
        self.run.actions_owed = self.actions.owed();
    }

    /// Takes over an action that a log has.
    pub(super) fn keep_action(&mut self, send_id: SendId, sender: OwnerId, message: A::Message) {
        if fault::is_on(Fault::ForgetActions) {
            return;
        }
        let begun = BegunAction { id: ActionId(send_id.0), sender, message };
        self.actions.waiting.push_back((Epoch(0), begun));
        self.run.actions_owed = self.actions.owed();
    }
}

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Says that there is somebody to perform actions. Without, none is told or begins, and those
    /// that a log has stay owed.
    #[must_use]
    pub fn with_performer(mut self) -> Self {
        self.engine.run.has_performer = true;
        self
    }

    /// How many actions wait, and how many have begun and not ended.
    pub fn actions(&self) -> (usize, usize) {
        (self.engine.actions.waiting.len(), self.engine.actions.under_way)
    }

    /// Begins the next action, if there is one that may begin: nobody performs it twice at a time.
    /// If it waits for the log, [`Shard::release`] says when that has got further; so it is to be
    /// called afterwards while actions wait.
    ///
    /// What is begun is to be given to [`Shard::end_action`] or [`Shard::put_action_back`].
    pub fn begin_action(&mut self) -> Option<BegunAction<A>> {
        let (told_in, _) = self.engine.actions.waiting.front().filter(|_| self.engine.run.has_performer)?;
        let told_in = *told_in;
        // While a message of an earlier run is looked at alone, nothing else may end the process.
        let is_held = self.engine.journal.as_ref().is_some_and(|journal| journal.resumed.is_held);
        if is_held || !self.want_durable(told_in) && !fault::is_on(Fault::ActionEarly) {
            return None;
        }
        let (_, begun) = self.engine.actions.waiting.pop_front()?;
        self.engine.actions.under_way += 1;
        Some(begun)
    }

    /// An action of this shard's has ended, and this is its outcome: a message to objects, which
    /// runs in the next turn or goes by the outboxes.
    pub fn end_action(
        &mut self,
        id: ActionId,
        sender: OwnerId,
        outcome: A::Message,
        effects: &mut Effects<A>,
    ) {
        self.end_one();
        let run = &mut self.engine.run;
        let to = match run.router.destination::<A>(&outcome, run.scratch.get_mut()) {
            Destination::One(to) | Destination::Several(to) => to,
            // It is refused in a turn, as any message without an object, and delivered all the
            // same.
            Destination::Nowhere => run.shard,
        };
        run.told.get_mut().send(QueuedSend {
            message: outcome,
            to,
            sender,
            due: None,
            is_action: false,
            staged: None,
            number: Some(id.send_id()).filter(|_| !fault::is_on(Fault::ActionUndelivered)),
        });
        self.engine.send_queued(effects);
    }

    /// An action of this shard's that has begun has no outcome: it waits once more, behind others.
    pub fn put_action_back(&mut self, begun: BegunAction<A>) {
        self.end_one();
        self.engine.actions.waiting.push_back((Epoch(0), begun));
        self.engine.run.actions_owed = self.engine.actions.owed();
    }

    fn end_one(&mut self) {
        let Engine { actions, run, .. } = &mut self.engine;
        actions.under_way = actions.under_way.checked_sub(1).expect("an action that ends has begun");
        run.actions_owed = actions.owed();
    }
}
