//! How a message that succeeded is committed: recorded in the shard's log, kept for the snapshots
//! that see what it overwrote, and published where anyone may read it.
//!
//! Nearly all messages do no more than change states. Without a log they have nothing to do here;
//! with one they go by [`Engine::record`]. The others insert, remove, share or give away, write a
//! published object, tell, or are the first to write an object since a snapshot was opened. They
//! are *staged* before anybody sees what they did, since they can still fail then, and committed
//! when their epoch is known for good: see [`Engine::commit`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::Actor;
use crate::actor::outcome::AskError;
use crate::actor::run::{BeforeImage, CommitWork, Guest, RunState, Written};
use crate::actor::told::{Queued, Told};
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::bounds::TooLong;
use crate::log::record::{IdIs, SendId, cancelled_record, delivered_record, write_send};
use crate::log::refused::{RecordError, quietly};
use crate::log::trust::Trust;
use crate::log::writer::{Records, Wrote};
use crate::object::{ObjectId, Ownership};
use crate::shard::codec::Codec;
use crate::shard::engine::Engine;
use crate::shard::journal::{Journal, LENT_MAX, Lent};
use crate::shard::sends::PendingSend;
use crate::store::order::Clearing;
use crate::store::partition::Partition;
use crate::store::slot::{NO_SLOT, Slot, SlotIndex};

/// Room for so many before-images is kept for the messages to come. (Messages of tests are small.)
const IMAGES_KEPT: usize = if cfg!(test) { 8 } else { 256 };

impl<A: Actor> Engine<A> {
    /// Copies those of the objects just written that anyone may read from now on, and notes those
    /// that anyone could until now. Before the message has succeeded, because a copy may panic.
    fn copy_public(&mut self, first_before: Option<&BeforeImage<A>>) {
        for before in first_before.into_iter().chain(&self.run.before) {
            let slot = self.run.partition.slot(before.slot);
            if fault::is_on(Fault::PublishHomeOnly) && !slot.is_live() {
                continue;
            }
            let state = slot.state.as_ref().filter(|_| self.is_public(before.slot));
            if state.is_some() || self.was_public(before) && !fault::is_on(Fault::NeverUnpublish) {
                self.run.to_publish.push((slot.id, state.map(|state| Arc::new(state.clone()))));
            }
        }
    }

    /// What is left to do for a message that succeeded, if there is a log, or if it wrote an object
    /// for the first time since a snapshot was opened, or one that is published, or inserted or
    /// removed one, or changed who owns it.
    ///
    /// # Errors
    /// It cannot be recorded, or a copy of what is to be published panicked: the message is undone.
    #[cold]
    pub(crate) fn commit(&mut self, first_before: Option<BeforeImage<A>>) -> Result<(), AskError<A::Error>> {
        if let Err(error) = self.stage(first_before.as_ref()) {
            return Err(self.not_recorded(first_before, error));
        }
        if self.run.commit_work.has(CommitWork::CHANGES) {
            self.commit_changes(first_before)?;
        }
        self.commit_staged();
        Ok(())
    }

    /// Undoes a message that the log cannot hold.
    #[cold]
    pub(crate) fn not_recorded(
        &mut self,
        first_before: Option<BeforeImage<A>>,
        error: RecordError,
    ) -> AskError<A::Error> {
        self.undo(first_before);
        self.run.counters.aborted += 1;
        AskError::NotRecorded(error)
    }

    fn commit_changes(&mut self, first_before: Option<BeforeImage<A>>) -> Result<(), AskError<A::Error>> {
        let is_public = |before: &BeforeImage<A>| self.was_public(before) || self.is_public(before.slot);
        if first_before.iter().chain(&self.run.before).any(is_public) {
            let copied = catch_unwind(AssertUnwindSafe(|| self.copy_public(first_before.as_ref())));
            if let Err(payload) = copied {
                self.unstage();
                let before = first_before.iter().chain(&self.run.before).next();
                let slot = before.expect("what is public was written").slot;
                let id = self.run.partition.slot(slot).id;
                self.undo(first_before);
                return Err(self.panicked(id, payload));
            }
            self.publish();
        }
        self.run.commit_work = self.least_commit_work();
        let mut others = std::mem::take(&mut self.run.before);
        let most = 2 * (1 + others.len());
        if let Some(before) = first_before {
            self.commit_change(before);
        }
        others.drain(..).for_each(|before| self.commit_change(before));
        // Those of a large message would be kept for good: as much as a tenth of 10,000 entries.
        others.shrink_to(IMAGES_KEPT);
        self.run.before = others;
        if !self.run.partition.orders.clearing().is_empty() {
            self.commit_cleared(self.run.epoch_state.epoch);
        }
        // Two for one, so that what is kept does not grow when nothing needs it.
        self.drop_versions(most);
        Ok(())
    }

    #[inline]
    fn commit_change(&mut self, before: BeforeImage<A>) {
        // What is lent is stamped at home.
        if self.run.partition.slot(before.slot).is_live() {
            if self.run.partition.slot(before.slot).is_watched() {
                self.watches.note(before.slot);
            }
            self.stamp(before.slot, self.run.epoch_state.epoch, before.ownership, before.state);
            self.run.partition.message_ended(before.slot);
        }
    }

    /// What was cleared in `epoch` does not exist any more. Whoever sees it still finds it where it
    /// is, until nobody does.
    #[cold]
    pub(crate) fn commit_cleared(&mut self, epoch: Epoch) {
        while let Some(Clearing { collection, entries, .. }) = self.run.partition.orders.pop_clearing() {
            let RunState { partition, guests, .. } = &mut self.run;
            if let Some(guest) = guests.iter_mut().find(|guest| guest.collection == collection) {
                guest.is_cleared = true;
                entries.iter().for_each(|slot| drop(partition.take_back(slot)));
            } else if !entries.is_empty() {
                let count = entries.len();
                partition.count_cleared(count);
                partition.orders.keep_cleared(collection, entries, epoch);
                self.walk.add_cleared(epoch, collection, count);
            }
        }
    }

    fn is_public(&self, slot: SlotIndex) -> bool {
        let slot = self.run.partition.slot(slot);
        slot.state.is_some() && !matches!(slot.ownership(), Ownership::Owned(_))
    }

    fn was_public(&self, before: &BeforeImage<A>) -> bool {
        before.state.is_some() && !matches!(before.ownership, Ownership::Owned(_))
    }

    /// An object was written in `epoch`, and this is what it was before: which is kept, if a
    /// snapshot may need it.
    pub(crate) fn stamp(
        &mut self,
        index: SlotIndex,
        epoch: Epoch,
        ownership: Ownership,
        state: Option<A::State>,
    ) {
        let slot = self.run.partition.slot_mut(index);
        let (existed, exists) = (state.is_some(), slot.state.is_some());
        if !exists {
            slot.set_ownership(Ownership::default());
        }
        if existed && exists && !self.run.epoch_state.needs_old() {
            return slot.stamp(epoch);
        }
        let newest = match fault::is_on(Fault::KeepForOldest) {
            true => self.run.epoch_state.watermark,
            false => self.run.epoch_state.newest_snapshot,
        };
        if let Some(state) = state {
            self.walk.follow(&self.run.epoch_state);
            if slot.epoch() < newest && !fault::is_on(Fault::NoKeep) {
                // If the checkpoint needs it as well, it gets it when no snapshot does any more.
                self.versions.keep(index, slot, epoch, ownership, state);
            } else if self.walk.has_ahead(index, slot.epoch(), epoch) {
                self.walk.set_aside(slot.id, ownership, state);
            }
        }
        slot.stamp(epoch);
        self.run.partition.count(existed, exists);
    }

    /// Publishes what [`Engine::copy_public`] found. The message commits in the epoch that is when
    /// it is published: see [`Mvcc`](crate::Mvcc).
    fn publish(&mut self) {
        if self.run.to_publish.is_empty() {
            return;
        }
        let publication = (self.run.shard, self.publications + 1);
        for (id, state) in &mut self.run.to_publish {
            self.mvcc.put_pending(*id, self.run.epoch_state.epoch, publication, state.take());
        }
        let before = self.run.epoch_state.epoch;
        self.enter();
        if self.run.epoch_state.epoch != before {
            self.run
                .to_publish
                .iter()
                .for_each(|(id, _)| self.mvcc.move_pending(id, self.run.epoch_state.epoch));
        }
        self.mvcc.show(publication);
        self.publications += 1;
        for (id, _) in self.run.to_publish.drain(..) {
            self.to_trim.extend(self.mvcc.trim(id).map(|until| (until, id)));
        }
    }
}

impl<A: Actor> Engine<A> {
    /// Stages the records of what the running message did, before anybody sees it.
    ///
    /// # Errors
    /// Something of it cannot be written; then nothing is staged.
    pub(crate) fn stage(&mut self, first_before: Option<&BeforeImage<A>>) -> Result<(), RecordError> {
        let Engine { journal, run, .. } = self;
        let RunState { partition, before, told, next_number, router, guests, .. } = run;
        let Some(journal) = journal else { return Ok(()) };
        let step = router.shards() as u64;
        let value_max = journal.bounds.value();
        let staged = quietly(|| {
            let Journal { staged, trust, lent, codec, .. } = &mut **journal;
            // First, so that what the message wrote afterwards stays.
            let clearing = partition.orders.clearing();
            push_cleared::<A>(staged, lent, trust, clearing, guests, value_max)?;
            let written = first_before.into_iter().chain(&*before).map(BeforeImage::written);
            for written in written {
                let slot = partition.slot(written.0);
                // What the record of the whole says already.
                let is_told = |of: &Clearing<A::Id>| slot.id.collection() == Some(of.collection);
                if slot.state.is_some() || !clearing.iter().any(is_told) {
                    push_object(codec, staged, lent, trust, slot, written, value_max)?;
                }
            }
            Ok(journal.stage_told(
                told.get_mut(),
                || SendId(next_number.replace(next_number.get() + step)),
                value_max,
            )?)
        });
        staged.map_err(|error| {
            journal.staged.clear();
            journal.lent.clear();
            *error
        })
    }

    /// Records a message that did no more than change states, and has succeeded. As
    /// [`Engine::commit`], without what it seldom needs.
    ///
    /// # Errors
    /// As [`Engine::stage`].
    #[inline]
    pub(crate) fn record(&mut self, first: Option<Written>) -> Result<(), RecordError> {
        match &self.journal {
            Some(journal) => (journal.codec.record)(self, first),
            None => Ok(()),
        }
    }

    /// As [`Engine::record`], where it is known that states can be written.
    pub(super) fn record_changes(&mut self, first: Option<Written>) -> Result<(), RecordError>
    where
        A::State: Serialize + DeserializeOwned,
    {
        let Engine { journal, run: RunState { partition, before, epoch_state, .. }, .. } = self;
        let Some(journal) = journal else { return Ok(()) };
        if first.is_none() && before.is_empty() {
            return Ok(());
        }
        let begun = journal.filling.begin(Some(epoch_state.epoch));
        let recorded = quietly(|| journal.push_written(partition, first, before));
        if recorded.is_err() {
            journal.lent.clear();
        }
        match journal.filling.end(begun, &mut journal.staged, recorded).map_err(|error| *error)? {
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

    /// The running message has succeeded in this epoch: what was staged is recorded, and what it
    /// told is pending.
    fn commit_staged(&mut self) {
        let Engine { journal, run: RunState { told, epoch_state, .. }, .. } = self;
        let Some(journal) = journal else { return };
        for queued in told.get_mut().iter_mut() {
            if let Queued::Send(send) = queued
                && let (Some(send_id), Some(message)) = (send.number, send.staged.take())
            {
                let pending = PendingSend::new(epoch_state.epoch, send.sender, send.due, message);
                journal.sends.add(send_id, pending);
            }
        }
        journal.commit(epoch_state.epoch);
    }
}

/// Adds which collections the running message has cleared, or, if they are at home elsewhere, to
/// what is lent.
fn push_cleared<A: Actor>(
    records: &mut Records,
    lent: &mut Lent,
    trust: &Trust,
    clearing: &[Clearing<A::Id>],
    guests: &mut [Guest<A::Id>],
    value_max: usize,
) -> Result<(), RecordError> {
    if fault::is_on(Fault::ClearUnlogged) {
        return Ok(());
    }
    for Clearing { collection, .. } in clearing {
        let mark = records.mark();
        records.push_cleared(collection, trust.layouts.id, value_max)?;
        if let Some(guest) = guests.iter_mut().find(|guest| guest.collection == *collection) {
            let begin = lent.bytes.len();
            lent.push(NO_SLOT, records.last_record(mark), LENT_MAX)?;
            guest.clear_record = begin..lent.bytes.len();
            records.truncate(mark);
        }
    }
    Ok(())
}

/// Adds what the object in a slot is now, or, if it is at home elsewhere, to what is lent.
fn push_object<A: Actor>(
    codec: &Codec<A>,
    records: &mut Records,
    lent: &mut Lent,
    trust: &mut Trust,
    slot: &Slot<A::Id, A::State>,
    (index, existed): Written,
    value_max: usize,
) -> Result<(), Box<RecordError>> {
    // It was recorded when it came to be.
    let id_is = if existed { IdIs::Known } else { IdIs::New };
    let is_unlogged = fault::is_on(Fault::RemovalUnlogged) && slot.id.collection().is_some();
    if slot.state.is_some() || existed && !is_unlogged {
        let mark = records.mark();
        let state = slot.state.as_ref();
        (codec.push_object)(records, &slot.id, id_is, slot.ownership(), state, trust, value_max)?;
        if !slot.is_live() {
            // It is recorded at home, by what was just written.
            lent.push(index, records.last_record(mark), LENT_MAX)?;
            records.truncate(mark);
        }
    }
    Ok(())
}

impl<A: Actor> Journal<A> {
    /// Adds what the objects of a message are now to the batch that is being filled.
    #[inline(always)]
    fn push_written(
        &mut self,
        partition: &Partition<A::Id, A::State>,
        first: Option<Written>,
        others: &[BeforeImage<A>],
    ) -> Result<(), Box<RecordError>>
    where
        A::State: Serialize + DeserializeOwned,
    {
        let mut others = others.iter().map(BeforeImage::written);
        let mut next = first.or_else(|| others.next());
        while let Some((index, existed)) = next {
            let slot = partition.slot(index);
            let is_plain = existed && slot.is_live() && slot.ownership() == Ownership::default();
            let is_pushed = match slot.state.as_ref().filter(|_| is_plain) {
                Some(state) => self.filling.records.push_fixed(&slot.id, state, &mut self.trust)?,
                None => false,
            };
            if !is_pushed {
                let Journal { filling, lent, trust, bounds, codec, .. } = &mut *self;
                let written = (index, existed);
                push_object(codec, &mut filling.records, lent, trust, slot, written, bounds.value())?;
            }
            next = others.next();
        }
        Ok(())
    }

    /// Records what an object at home here is since `epoch`, as it was written at the lock point.
    /// Nothing of it is serialized again: it was answered for, so it must not be able to fail.
    pub(crate) fn record_applied(&mut self, record: &[u8], epoch: Epoch) {
        let staged = self.staged.push(|to| {
            to.extend_from_slice(record);
            Ok::<(), TooLong>(())
        });
        staged.expect("a-record-fits: all shards of a database have the bounds it was written within");
        self.commit(epoch);
    }

    /// Records that a message was delivered in `epoch`.
    pub(crate) fn record_delivery(&mut self, send_id: SendId, epoch: Epoch) {
        self.staged.push_short(delivered_record(send_id));
        self.commit(epoch);
    }

    /// Adds what the running message tells, and that the timers which it cancels are owed no more.
    fn stage_told(
        &mut self,
        told: &mut Told<A>,
        mut number: impl FnMut() -> SendId,
        value_max: usize,
    ) -> Result<(), RecordError> {
        for queued in told.iter_mut() {
            match queued {
                Queued::Send(send) => {
                    let mut message = Vec::new();
                    (self.codec.encode)(&send.message, &mut message)?;
                    let send_id = *send.number.get_or_insert_with(&mut number);
                    self.staged
                        .push(|to| write_send(send_id, send.sender, send.due, &message, value_max, to))?;
                    send.staged = Some(message.into());
                }
                Queued::Cancel(_) if fault::is_on(Fault::CancelUnlogged) => {}
                Queued::Cancel(timer) => {
                    self.staged.push_short(cancelled_record(timer.number(), timer.due()))
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::AccessError;
    use crate::actor::addressees::Addressees;
    use crate::actor::objects::Objects;
    use crate::testing::Bench;

    struct Made;

    impl Actor for Made {
        type Id = u64;
        type State = u64;
        type Message = std::ops::Range<u64>;
        type Reply = ();
        type Error = AccessError<u64>;

        fn addressees(message: &Self::Message, to: &mut Addressees<u64>) {
            message.clone().for_each(|id| to.write(id));
        }

        fn receive(message: &Self::Message, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
            message.clone().try_for_each(|id| objects.insert(id, id).map(drop))
        }
    }

    // The room for a message that made a thousand entries was kept for good.
    #[test]
    fn a_large_message_leaves_no_room_behind() {
        let mut bench = Bench::<Made>::shards(1);
        let room = |bench: &Bench<Made>| bench.shards[0].engine.run.before.capacity();
        bench.ask(0..40).expect("they are new");
        assert!(room(&bench) <= IMAGES_KEPT);
        bench.ask(60..62).expect("they are new");
        assert!(room(&bench) <= IMAGES_KEPT);
    }
}
