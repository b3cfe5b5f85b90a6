//! The end of a message that succeeded and did more than change states: what it overwrote is kept for the snapshots that see it, and what
//! anyone may read of it is published.
//!
//! Without a log few messages come here: those that insert, remove, share or give away, those that write a published object, and the first
//! write of an object since a snapshot was opened. With a log all do, to be recorded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::actor::Actor;
use crate::actor::outcome::AskError;
use crate::actor::run::{BeforeImage, MORE};
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::refused::RecordError;
use crate::object::Ownership;
use crate::panics::drop_quietly;
use crate::shard::engine::Engine;
use crate::store::slot::SlotIndex;

impl<A: Actor> Engine<A> {
    /// Copies those of the objects just written that anyone may read from now on, and notes those that anyone could until now. Before the
    /// message has succeeded, because a copy may panic.
    fn copy_public(&mut self, first_before: Option<&BeforeImage<A>>) {
        for before in first_before.into_iter().chain(&self.run.before) {
            let slot = self.run.partition.slot(before.slot);
            if fault::is_on(Fault::PublishHomeOnly) && !slot.live {
                continue;
            }
            let state = slot.state.as_ref().filter(|_| self.is_public(before.slot));
            if state.is_some() || self.was_public(before) && !fault::is_on(Fault::NeverUnpublish) {
                self.run.to_publish.push((slot.id, state.map(|state| Arc::new(state.clone()))));
            }
        }
    }

    /// The rest of a message that succeeded, if there is a log, or if it wrote an object for the first time since a snapshot was opened, or one
    /// that is published, or inserted or removed one, or changed who owns it.
    ///
    /// # Errors
    /// It cannot be recorded, or a copy of what is to be published panicked: the message is undone.
    #[cold]
    pub(crate) fn seal(&mut self, first_before: Option<BeforeImage<A>>) -> Result<(), AskError<A::Error>> {
        if let Err(error) = self.stage(first_before.as_ref()) {
            return Err(self.not_recorded(first_before, error));
        }
        if self.run.unsealed & MORE != 0 {
            self.seal_more(first_before)?;
        }
        self.commit();
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

    fn seal_more(&mut self, first_before: Option<BeforeImage<A>>) -> Result<(), AskError<A::Error>> {
        let is_public = |before: &BeforeImage<A>| self.was_public(before) || self.is_public(before.slot);
        if first_before.iter().chain(&self.run.before).any(is_public) {
            let copied = catch_unwind(AssertUnwindSafe(|| self.copy_public(first_before.as_ref())));
            if let Err(payload) = copied {
                self.unstage();
                self.undo(first_before);
                self.run.counters.panicked += 1;
                drop_quietly(payload);
                return Err(AskError::Panicked);
            }
            self.publish();
        }
        self.run.unsealed = self.sealed();
        let mut others = std::mem::take(&mut self.run.before);
        let most = 2 * (1 + others.len());
        if let Some(before) = first_before {
            self.seal_one(before);
        }
        others.drain(..).for_each(|before| self.seal_one(before));
        self.run.before = others;
        // Two for one, so that what is kept does not grow when nothing needs it.
        self.drop_versions(most);
        Ok(())
    }

    #[inline]
    fn seal_one(&mut self, before: BeforeImage<A>) {
        // What is lent is stamped at home.
        if self.run.partition.slot(before.slot).live {
            self.stamp(before.slot, self.run.epoch_state.epoch, before.ownership, before.state);
            if self.run.partition.slot(before.slot).is_left() {
                self.run.partition.release(before.slot);
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

    /// An object was written in `epoch`, and this is what it was before: which is kept, if a snapshot may need it.
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

    /// Publishes what [`Engine::copy_public`] found. The message commits in the epoch that is when it is published: see [`Mvcc`].
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
