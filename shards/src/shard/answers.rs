//! How whoever waits for a message hears what came of it.

use crate::actor::Actor;
use crate::actor::outcome::{Outcome, ReturnAddress};
use crate::log::record::Debt;
use crate::shard::engine::Engine;
use crate::transaction::effects::Effects;
use crate::transaction::message::Envelope;

impl<A: Actor> Engine<A> {
    /// Sends an outcome to whoever waits for it.
    #[inline]
    pub(crate) fn answer(&mut self, to: ReturnAddress, outcome: Outcome<A>, effects: &mut Effects<A>) {
        match to {
            ReturnAddress::Nobody => {}
            ReturnAddress::Debt(debt) => self.deliver(debt, effects),
            ReturnAddress::Shard { shard, call } if shard != self.run.shard && !self.holds() => {
                effects.outboxes[shard.index()].push_back(Envelope::Answer { call, outcome });
            }
            ReturnAddress::Outside { .. } | ReturnAddress::Shard { .. } => {
                effects.answers.push((to, outcome))
            }
            ReturnAddress::Batch { batch, entry } => self.batches.answer(batch, entry, outcome, effects),
        }
    }

    /// Whether answers wait until they are durable.
    #[inline]
    pub(super) fn holds(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.holds())
    }

    /// A pending send has run, whatever came of it.
    #[cold]
    fn deliver(&mut self, debt: Debt, effects: &mut Effects<A>) {
        let Some(journal) = &mut self.journal else { return };
        let epoch = self.run.epoch_state.epoch;
        journal.record_delivery(debt, epoch);
        let sender_shard = self.run.keeper(debt);
        if sender_shard == self.run.shard {
            journal.delivered(debt, epoch, &self.run.epoch_state);
        } else {
            effects.outboxes[sender_shard.index()].push_back(Envelope::Delivered { debt, epoch });
        }
    }
}
