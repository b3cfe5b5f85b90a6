//! What a message that succeeded leaves in its shard's log: what its objects are now, what it told, and that it is paid, if it was owed.
//!
//! Nearly all messages do no more than change states, and go by [`Desk::record`]. The others are *staged* before anybody sees what they did,
//! since they can still fail then, and *committed* when their epoch is known for good: see [`Desk::seal`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::actor::Actor;
use crate::debt::Owed;
use crate::desk::{BeforeImage, Desk, Told, drop_quietly};
use crate::epoch::Epoch;
use crate::journal::Journal;
use crate::log::{Records, Wrote};
use crate::object::Ownership;
use crate::partition::{Partition, SlotIndex};
use crate::record::{Debt, RecordError, paid_record, write_object, write_owe};

impl<A: Actor> Desk<A> {
    /// Stages the records of what the running message did, before anybody sees it.
    ///
    /// # Errors
    /// Something of it cannot be written; then nothing is staged.
    pub(crate) fn stage(&mut self, first_before: Option<&BeforeImage<A>>) -> Result<(), RecordError> {
        let Desk { journal, partition, before, told, .. } = self;
        let Some(journal) = journal else { return Ok(()) };
        let value_max = journal.bounds.value();
        let staged = quietly(|| {
            let written = first_before.into_iter().chain(&*before).map(BeforeImage::written);
            push_objects(&mut journal.staged, partition, written, value_max)?;
            journal.stage_told(told, value_max)
        });
        if staged.is_err() {
            journal.staged.clear();
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
        let (value_max, Journal { filling, staged, .. }) = (journal.bounds.value(), &mut **journal);
        let recorded = filling.write(Some(line.epoch), staged, |records| {
            quietly(|| {
                push_objects(records, partition, first.into_iter(), value_max)?;
                push_objects(records, partition, before.iter().map(BeforeImage::written), value_max)
            })
        })?;
        match recorded {
            // All of it is at home elsewhere.
            Wrote::Nothing => return Ok(()),
            Wrote::Here => {}
            Wrote::Beside => journal.commit(line.epoch),
        }
        journal.recorded = journal.recorded.max(line.epoch);
        journal.shown = journal.shown.max(line.epoch);
        Ok(())
    }

    /// The running message is undone after all.
    pub(crate) fn unstage(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.staged.clear();
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

/// Does what calls a user's `Serialize`.
fn quietly(work: impl FnOnce() -> Result<(), RecordError>) -> Result<(), RecordError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        drop_quietly(payload);
        Err(RecordError::Refused("its `Serialize` panicked".to_string()))
    })
}

/// Adds what these objects are now.
#[inline(always)]
fn push_objects<A: Actor>(
    records: &mut Records,
    partition: &Partition<A>,
    written: impl Iterator<Item = Written>,
    value_max: usize,
) -> Result<(), RecordError> {
    for (slot, existed) in written {
        let slot = partition.slot(slot);
        if slot.state.is_some() || existed {
            let mark = records.mark();
            records
                .push(|to| write_object(&slot.id, slot.ownership(), slot.state.as_ref(), value_max, to))?;
            if !slot.live {
                // It is recorded at home. Here it was made sure that it can be.
                records.truncate(mark);
            }
        }
    }
    Ok(())
}

impl<A: Actor> Journal<A> {
    /// Records what an object at home here is since `epoch`. That it can be written was made sure of.
    pub(crate) fn settle(
        &mut self,
        id: &A::Id,
        ownership: Ownership,
        state: Option<&A::State>,
        epoch: Epoch,
    ) {
        let value_max = self.bounds.value();
        let staged = self.staged.push(|to| write_object(id, ownership, state, value_max, to));
        staged.expect("a state that could be serialized at the lock point can be at home");
        self.commit(epoch);
    }

    /// Records that a debt was paid in `epoch`.
    pub(crate) fn pay(&mut self, debt: Debt, epoch: Epoch) {
        self.staged.push_short(paid_record(debt));
        self.commit(epoch);
    }

    fn stage_told(&mut self, told: &mut [Told<A>], value_max: usize) -> Result<(), RecordError> {
        for told in told {
            let mut message = Vec::new();
            (self.codec.encode)(&told.message, &mut message)?;
            let debt = self.debts.number();
            self.staged.push(|to| write_owe(debt, told.sender, told.due, &message, value_max, to))?;
            told.owed = Some((debt, message.into()));
        }
        Ok(())
    }
}
