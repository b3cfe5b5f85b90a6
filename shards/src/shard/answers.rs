//! How whoever waits for a message hears what came of it.

use crate::actor::Actor;
use crate::actor::outcome::{Failure, Outcome, ReturnAddress};
use crate::in_place;
use crate::log::record::SendId;
use crate::shard::engine::Engine;
use crate::transaction::Transaction;
use crate::transaction::effects::{Effects, FAILURES_MAX};
use crate::transaction::message::Envelope;

impl<A: Actor> Engine<A> {
    /// Sends the outcome of `message` to whoever waits for it.
    #[inline]
    pub(crate) fn answer<'m>(
        &mut self,
        to: ReturnAddress,
        message: impl FnOnce() -> &'m A::Message,
        outcome: Outcome<A>,
        effects: &mut Effects<A>,
    ) {
        match to {
            ReturnAddress::Nobody if outcome.is_ok() => {}
            ReturnAddress::Nobody => failed(message(), outcome, effects),
            ReturnAddress::SendId(send_id) => {
                self.deliver(send_id, effects);
                failed(message(), outcome, effects);
            }
            ReturnAddress::Shard { shard, call } if shard != self.run.shard && !self.holds() => {
                effects.send(shard, || Envelope::Answer { call, outcome });
            }
            ReturnAddress::Outside { .. } | ReturnAddress::Shard { .. } => {
                in_place::push(&mut effects.answers, || (to, outcome));
            }
            ReturnAddress::Batch { batch, entry } => self.batches.answer(batch, entry, outcome, effects),
        }
    }

    /// The same for a transaction.
    #[inline(always)]
    pub(super) fn answer_for(
        &mut self,
        transaction: &Transaction<A>,
        outcome: Outcome<A>,
        effects: &mut Effects<A>,
    ) {
        // Most are asked from outside.
        if let to @ ReturnAddress::Outside { .. } = transaction.answer_to {
            return in_place::push(&mut effects.answers, || (to, outcome));
        }
        let message = || transaction.message.as_ref().expect("a transaction under way has its message");
        self.answer(transaction.answer_to, message, outcome, effects);
    }

    /// Whether answers wait until they are durable.
    #[inline]
    pub(super) fn holds(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.holds())
    }

    /// A pending send has run, whatever came of it.
    #[cold]
    fn deliver(&mut self, send_id: SendId, effects: &mut Effects<A>) {
        let Some(journal) = &mut self.journal else { return };
        let epoch = self.run.epoch_state.epoch;
        journal.record_delivery(send_id, epoch);
        let sender_shard = self.run.keeper(send_id);
        if sender_shard == self.run.shard {
            journal.delivered(send_id, epoch, &self.run.epoch_state);
        } else {
            effects.send(sender_shard, || Envelope::Delivered { send_id, epoch });
        }
    }
}

/// Keeps why a message failed that nobody waits for, if it did.
#[cold]
fn failed<A: Actor>(message: &A::Message, outcome: Outcome<A>, effects: &mut Effects<A>) {
    let Err(error) = outcome else { return };
    if effects.failures.len() < FAILURES_MAX {
        effects.failures.push(Failure { message: A::message_name(message), error });
    } else {
        effects.failures_unseen += 1;
    }
}
