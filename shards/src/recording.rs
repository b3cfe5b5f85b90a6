//! What a message that succeeded leaves in its shard's log: what its objects are now, what it told, and that it is paid, if it was owed.
//!
//! Nearly all messages do no more than change states, and go by [`Desk::record`]. The others are *staged* before anybody sees what they did,
//! since they can still fail then, and *committed* when their epoch is known for good: see [`Desk::seal`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::actor::Actor;
use crate::debt::Owed;
use crate::desk::{BeforeImage, Desk, Told, drop_quietly};
use crate::epoch::Epoch;
use crate::journal::{Journal, Lent};
use crate::log::BatchWriter;
use crate::partition::{Partition, SlotIndex};
use crate::record::{Debt, IdIs, RecordError, write_object, write_owe, write_paid};
use crate::trust::Trust;

impl<A: Actor> Desk<A> {
    /// Stages the records of what the running message did, before anybody sees it.
    ///
    /// # Errors
    /// Something of it cannot be written; then nothing is staged.
    pub(crate) fn stage(&mut self, first_before: Option<&BeforeImage<A>>) -> Result<(), RecordError> {
        let Desk { journal, partition, before, told, .. } = self;
        let Some(journal) = journal else { return Ok(()) };
        let record_max = journal.record_max();
        let staged = quietly(|| {
            let written = first_before.into_iter().chain(&*before).map(BeforeImage::written);
            let Journal { staged, trust, lent, .. } = &mut **journal;
            push_objects(staged, lent, trust, partition, written, record_max)?;
            journal.stage_told(told, record_max)
        });
        if staged.is_err() {
            journal.staged.truncate(BatchWriter::EMPTY);
            journal.lent.clear();
        }
        staged
    }

    /// Records a message that did no more than change states, and has succeeded. As [`Desk::stage`] and [`Desk::commit`] together, without
    /// what it seldom needs.
    ///
    /// # Errors
    /// As [`Desk::stage`].
    pub(crate) fn record(&mut self, first: Option<Written>) -> Result<(), RecordError> {
        let Desk { journal, partition, before, line, .. } = self;
        let Some(journal) = journal else { return Ok(()) };
        if first.is_none() && before.is_empty() {
            return Ok(());
        }
        journal.mark_epoch(line.epoch);
        let (mark, record_max) = (journal.filling.mark(), journal.record_max());
        let Journal { filling, trust, lent, .. } = &mut **journal;
        let recorded = quietly(|| {
            push_objects(filling, lent, trust, partition, first.into_iter(), record_max)?;
            let others = before.iter().map(BeforeImage::written);
            push_objects(filling, lent, trust, partition, others, record_max)
        });
        if recorded.is_err() {
            journal.filling.truncate(mark);
            journal.lent.clear();
            return recorded;
        }
        if journal.filling.mark() == mark {
            // All of it is at home elsewhere.
            return Ok(());
        }
        if journal.filling.len() > journal.batch_max() {
            journal.filling.move_since(mark, &mut journal.staged);
            journal.commit(line.epoch);
        }
        journal.recorded = journal.recorded.max(line.epoch);
        journal.shown = journal.shown.max(line.epoch);
        Ok(())
    }

    /// The running message is undone after all.
    pub(crate) fn unstage(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.staged.truncate(BatchWriter::EMPTY);
            journal.lent.clear();
        }
    }

    /// The running message has succeeded in this epoch: what was staged is recorded, and what it told is owed.
    pub(crate) fn commit(&mut self) {
        let Desk { journal, told, line, .. } = self;
        let Some(journal) = journal else { return };
        for told in told {
            if let Some((debt, message)) = told.owed.take() {
                let owed = Owed::new(line.epoch, told.sender, told.due, message);
                journal.debts.owe(debt, owed);
                told.debt = Some(debt);
            }
        }
        journal.commit(line.epoch);
    }
}

/// What a message wrote: where it is, and whether it was there before.
pub(crate) type Written = (SlotIndex, bool);

/// Does what calls a user's `Serialize` and `Deserialize`.
pub(crate) fn quietly(work: impl FnOnce() -> Result<(), RecordError>) -> Result<(), RecordError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        drop_quietly(payload);
        Err(RecordError::Refused("its `Serialize` or `Deserialize` panicked".to_string()))
    })
}

/// Adds what these objects are now to a batch, or, if they are at home elsewhere, to what is lent.
#[inline(always)]
fn push_objects<A: Actor>(
    batch: &mut BatchWriter,
    lent: &mut Lent,
    trust: &mut Trust,
    partition: &Partition<A>,
    written: impl Iterator<Item = Written>,
    record_max: usize,
) -> Result<(), RecordError> {
    for (index, existed) in written {
        let slot = partition.slot(index);
        // It was recorded when it came to be.
        let id_is = if existed { IdIs::Known } else { IdIs::New };
        if slot.state.is_some() || existed {
            let mark = batch.mark();
            batch
                .push(|to| write_object(&slot.id, id_is, slot.ownership(), slot.state.as_ref(), trust, to))?;
            check_length(batch, mark, record_max)?;
            if !slot.live {
                // It is recorded at home, by what was just written.
                lent.push(index, batch.last_record(mark));
                batch.truncate(mark);
            }
        }
    }
    Ok(())
}

#[inline]
pub(crate) fn check_length(batch: &BatchWriter, mark: (usize, u32), max: usize) -> Result<(), RecordError> {
    let bytes = batch.len() - mark.0;
    if bytes > max { Err(RecordError::TooLong { bytes, max }) } else { Ok(()) }
}

impl<A: Actor> Journal<A> {
    /// Records what an object at home here is since `epoch`, as it was written at the lock point. Nothing of it is serialized again:
    /// it was answered for, so it must not be able to fail.
    pub(crate) fn settle(&mut self, record: &[u8], epoch: Epoch) {
        self.staged.push_with(|to| to.extend_from_slice(record));
        self.commit(epoch);
    }

    /// Records that a debt was paid in `epoch`.
    pub(crate) fn pay(&mut self, debt: Debt, epoch: Epoch) {
        self.staged.push_with(|to| write_paid(debt, to));
        self.commit(epoch);
    }

    fn stage_told(&mut self, told: &mut [Told<A>], record_max: usize) -> Result<(), RecordError> {
        for told in told {
            let mut message = Vec::new();
            (self.codec.encode)(&told.message, &mut message)?;
            let debt = self.debts.number();
            let mark = self.staged.mark();
            self.staged.push_with(|to| write_owe(debt, told.sender, told.due, &message, to));
            check_length(&self.staged, mark, record_max)?;
            told.owed = Some((debt, message.into()));
        }
        Ok(())
    }
}
