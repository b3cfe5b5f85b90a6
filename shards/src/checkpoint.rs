//! A shard's part of a checkpoint, and what it begins with when a database is opened again.
//!
//! A part is all objects of the shard as they were at the start of a snapshot's epoch, and what the shard owed then. When all parts are on
//! disk, segments of the log that hold nothing later, and close nothing later, are not needed any more.

use std::ops::ControlFlow;

use crate::actor::Actor;
use crate::debt::Owed;
use crate::desk::Told;
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::journal::Begun;
use crate::message::Envelope;
use crate::object::{OwnerId, Ownership};
use crate::part::{PartError, PartWriter};
use crate::record::{Debt, write_object};
use crate::router::Destination;
use crate::shard::{Effects, Prefetch, Shard};
use crate::time::Time;

/// In place of the longest value that may be written: what the log took is written whatever its length, and an earlier
/// version of this program took some that were a few bytes longer. The bound of a record still counts.
pub(crate) const ANY_VALUE: usize = usize::MAX;

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Everything before `epoch` is in a checkpoint: forgets the segments that hold nothing later and close nothing later. Returns the first
    /// that is needed.
    ///
    /// A segment stays that is on disk with something in it. While its first batch is on the way, the last one may still be empty, or even a
    /// file that is yet to be made, and a manifest that begins with a missing file cannot be opened: then the one before stays as well.
    pub fn trim_log(&mut self, epoch: Epoch) -> Option<Begun> {
        let journal = self.desk.journal.as_mut()?;
        let stay = if journal.is_writing() { 2 } else { 1 };
        let epoch = if fault::is_on(Fault::TrimEarly) { epoch.next() } else { epoch };
        while journal.begun.len() > stay && journal.begun[0].through < epoch {
            journal.begun.pop_front();
        }
        journal.begun.front().copied()
    }

    /// Tells every other shard that it has been told of all that was paid here before `epoch`, which this shard has closed.
    pub fn send_marks(&mut self, epoch: Epoch, effects: &mut Effects<A>) {
        let others = effects.outboxes.iter_mut().enumerate().filter(|(to, _)| *to != self.desk.shard.index());
        others.for_each(|(_, outbox)| outbox.push_back(Envelope::Mark(epoch)));
    }

    /// Whether every other shard has told of all that was paid there before `epoch`.
    pub fn has_marks(&self, epoch: Epoch) -> bool {
        fault::is_on(Fault::SkipMarks)
            || self.desk.journal.as_ref().is_none_or(|journal| journal.debts.has_marks(epoch))
    }

    /// Goes on with writing all objects as they were at the start of `snapshot` into `part`, as [`Shard::walk_at`] goes
    /// by them: until `part` [is full](PartWriter::is_full), `most` slots were seen, or, asked after an object,
    /// `goes_on` says no. Returns where to go on; `None` at the end.
    ///
    /// # Errors
    /// [`PartError`]: `part` is of no use then.
    pub fn checkpoint_objects(
        &self,
        snapshot: Epoch,
        from: u32,
        most: usize,
        part: &mut PartWriter,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Option<u32>, PartError> {
        let mut refused = None;
        let next = self.walk_at(snapshot, from, most, |id, ownership, state| {
            refused = part.push(|to| write_object(&id, ownership, Some(state), ANY_VALUE, to)).err();
            match refused.is_none() && !part.is_full() && goes_on() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        refused.map_or(Ok(next), |refused| Err(refused.into()))
    }

    /// Goes on with writing what this shard owed at the start of `snapshot`, from debt `from` on, as
    /// [`Shard::checkpoint_objects`] does with objects; once the shard [has all marks](Shard::has_marks). Returns where to
    /// go on; `None` at the end.
    ///
    /// # Errors
    /// As [`Shard::checkpoint_objects`].
    pub fn checkpoint_debts(
        &self,
        snapshot: Epoch,
        from: Debt,
        part: &mut PartWriter,
        goes_on: impl FnMut() -> bool,
    ) -> Result<Option<Debt>, PartError> {
        let Some(journal) = &self.desk.journal else { return Ok(None) };
        Ok(journal.debts.write(snapshot, from, part, goes_on)?)
    }

    /// Puts an object into the shard, which is its home, as a log has it. The shard has not run anything yet.
    pub fn restore(&mut self, id: A::Id, ownership: Ownership, state: A::State) {
        self.desk.restore(id, ownership, state);
    }

    /// Takes over a debt that a log has, and which is this shard's (its number modulo the shards): its message runs in one of the next turns,
    /// or when it is due.
    pub fn restore_debt(
        &mut self,
        debt: Debt,
        sender: OwnerId,
        due: Option<Time>,
        message: A::Message,
        bytes: &[u8],
        effects: &mut Effects<A>,
    ) {
        let Some(journal) = &mut self.desk.journal else { return };
        journal.debts.owe(debt, Owed::new(Epoch(0), sender, due, bytes.into()));
        let destination = self.desk.router.destination::<A>(&message, &mut self.desk.scratch);
        let to = match destination {
            Destination::One(to) | Destination::Several(to) => to,
            Destination::Nowhere => self.desk.shard,
        };
        self.desk.told.push(Told { message, to, sender, due, owed: None, debt: Some(debt) });
        self.desk.send_told(effects);
    }

    /// A number from which on no debt of this shard has one.
    pub fn next_debt(&self) -> u64 {
        self.desk.journal.as_ref().map_or(0, |journal| journal.debts.next())
    }
}
