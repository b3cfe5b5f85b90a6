//! What a message that succeeded leaves in its shard's log: what its objects are now, what it told, and that it is delivered, if it was pending.
//!
//! Nearly all messages do no more than change states, and go by [`Engine::record`]. The others are *staged* before anybody sees what they did,
//! since they can still fail then, and *committed* when their epoch is known for good: see [`Engine::seal`].

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::Actor;
use crate::actor::run::{BeforeImage, QueuedSend, RunState, Written};
use crate::epoch::Epoch;
use crate::log::bounds::TooLong;
use crate::log::record::{Debt, IdIs, paid_record, write_object, write_owe};
use crate::log::refused::{RecordError, quietly};
use crate::log::trust::Trust;
use crate::log::writer::{Records, Wrote};
use crate::object::ObjectId;
use crate::shard::engine::Engine;
use crate::shard::journal::{Journal, Lent};
use crate::shard::sends::PendingSend;
use crate::store::partition::Partition;

impl<A: Actor> Engine<A> {
    /// Stages the records of what the running message did, before anybody sees it.
    ///
    /// # Errors
    /// Something of it cannot be written; then nothing is staged.
    pub(crate) fn stage(&mut self, first_before: Option<&BeforeImage<A>>) -> Result<(), RecordError> {
        let Engine { journal, run: RunState { partition, before, queued, .. }, .. } = self;
        let Some(journal) = journal else { return Ok(()) };
        let value_max = journal.bounds.value();
        let staged = quietly(|| {
            let written = first_before.into_iter().chain(&*before).map(BeforeImage::written);
            let Journal { staged, trust, lent, .. } = &mut **journal;
            push_objects(staged, lent, trust, partition, written, value_max)?;
            journal.stage_sends(queued, value_max)
        });
        if staged.is_err() {
            journal.staged.clear();
            journal.lent.clear();
        }
        staged
    }

    /// Records a message that did no more than change states, and has succeeded. As [`Engine::stage`] and [`Engine::commit`] together, without
    /// what it seldom needs.
    ///
    /// # Errors
    /// As [`Engine::stage`].
    pub(crate) fn record(&mut self, first: Option<Written>) -> Result<(), RecordError> {
        let Engine { journal, run: RunState { partition, before, epoch_state, .. }, .. } = self;
        let Some(journal) = journal else { return Ok(()) };
        if first.is_none() && before.is_empty() {
            return Ok(());
        }
        let value_max = journal.bounds.value();
        let Journal { filling, staged, trust, lent, .. } = &mut **journal;
        let recorded = filling.write(Some(epoch_state.epoch), staged, |records| {
            quietly(|| {
                push_objects(records, lent, trust, partition, first.into_iter(), value_max)?;
                let others = before.iter().map(BeforeImage::written);
                push_objects(records, lent, trust, partition, others, value_max)
            })
        });
        if recorded.is_err() {
            journal.lent.clear();
        }
        match recorded? {
            // All of it is at home elsewhere.
            Wrote::Nothing => return Ok(()),
            Wrote::Here => {}
            Wrote::Beside => journal.commit(epoch_state.epoch),
        }
        journal.recorded = journal.recorded.max(epoch_state.epoch);
        journal.shown = journal.shown.max(epoch_state.epoch);
        Ok(())
    }

    /// The running message is undone after all.
    pub(crate) fn unstage(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.staged.clear();
            journal.lent.clear();
        }
    }

    /// The running message has succeeded in this epoch: what was staged is recorded, and what it told is pending.
    pub(crate) fn commit(&mut self) {
        let Engine { journal, run: RunState { queued, epoch_state, .. }, .. } = self;
        let Some(journal) = journal else { return };
        for send in queued {
            if let Some((debt, message)) = send.staged.take() {
                let pending = PendingSend::new(epoch_state.epoch, send.sender, send.due, message);
                journal.sends.add(debt, pending);
                send.number = Some(debt);
            }
        }
        journal.commit(epoch_state.epoch);
    }
}

/// Adds what these objects are now, or, if they are at home elsewhere, to what is lent.
#[inline(always)]
fn push_objects<I: ObjectId, S: Serialize + DeserializeOwned>(
    records: &mut Records,
    lent: &mut Lent,
    trust: &mut Trust,
    partition: &Partition<I, S>,
    written: impl Iterator<Item = Written>,
    value_max: usize,
) -> Result<(), RecordError> {
    for (index, existed) in written {
        let slot = partition.slot(index);
        // It was recorded when it came to be.
        let id_is = if existed { IdIs::Known } else { IdIs::New };
        if slot.state.is_some() || existed {
            let mark = records.mark();
            let state = slot.state.as_ref();
            records
                .push(|to| write_object(&slot.id, id_is, slot.ownership(), state, trust, value_max, to))?;
            if !slot.live {
                // It is recorded at home, by what was just written.
                lent.push(index, records.last_record(mark));
                records.truncate(mark);
            }
        }
    }
    Ok(())
}

impl<A: Actor> Journal<A> {
    /// Records what an object at home here is since `epoch`, as it was written at the lock point. Nothing of it is serialized again:
    /// it was answered for, so it must not be able to fail.
    pub(crate) fn settle(&mut self, record: &[u8], epoch: Epoch) {
        let staged = self.staged.push(|to| {
            to.extend_from_slice(record);
            Ok::<(), TooLong>(())
        });
        staged.expect("a-record-fits: all shards of a database have the bounds it was written within");
        self.commit(epoch);
    }

    /// Records that a message was delivered in `epoch`.
    pub(crate) fn record_delivery(&mut self, debt: Debt, epoch: Epoch) {
        self.staged.push_short(paid_record(debt));
        self.commit(epoch);
    }

    fn stage_sends(&mut self, queued: &mut [QueuedSend<A>], value_max: usize) -> Result<(), RecordError> {
        for send in queued {
            let mut message = Vec::new();
            (self.codec.encode)(&send.message, &mut message)?;
            let debt = self.sends.number();
            self.staged.push(|to| write_owe(debt, send.sender, send.due, &message, value_max, to))?;
            send.staged = Some((debt, message.into()));
        }
        Ok(())
    }
}
