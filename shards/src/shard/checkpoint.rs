//! A shard's part of a checkpoint, and what it begins with when a database is opened again.
//!
//! A part is all objects of the shard as they were at the start of a snapshot's epoch, and its
//! pending sends then. When all parts are on disk, segments of the log that hold nothing later, and
//! close nothing later, are not needed any more.

use crate::actor::Actor;
use crate::actor::run::RunState;
use crate::epoch::Epoch;
use crate::epoch::published::Expired;
use crate::fault::{self, Fault};
use crate::log::bounds::ANY_VALUE;
use crate::log::part::{PartError, PartWriter};
use crate::log::record::{IdIs, Layouts, SendId};
use crate::log::refused::{RecordError, quietly};
use crate::log::trust::Trust;
use crate::object::OwnerId;
use crate::prefetch::Prefetch;
use crate::shard::Shard;
use crate::shard::codec::Codec;
use crate::shard::engine::Engine;
use crate::shard::journal::Begun;
use crate::shard::sends::PendingSend;
use crate::store::home::Home;
use crate::time::Time;
use crate::transaction::effects::Effects;
use crate::transaction::message::Envelope;

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Everything before `epoch` is in a checkpoint: forgets the segments that hold nothing later
    /// and close nothing later. Returns the first that is needed.
    ///
    /// A segment stays that is on disk with something in it. While its first batch is on the way,
    /// the last one may still be empty, or even a file that is yet to be made, and a manifest that
    /// begins with a missing file cannot be opened: then the one before stays as well.
    pub fn trim_log(&mut self, epoch: Epoch) -> Option<Begun> {
        let journal = self.engine.journal.as_mut()?;
        let stay = if journal.is_writing() { 2 } else { 1 };
        let epoch = if fault::is_on(Fault::TrimEarly) { epoch.next() } else { epoch };
        while journal.begun.len() > stay && journal.begun[0].through < epoch {
            journal.begun.pop_front();
        }
        journal.begun.front().copied()
    }

    /// Tells every other shard that it has been told of all that was delivered here before `epoch`,
    /// which this shard has closed.
    pub fn send_marks(&mut self, epoch: Epoch, effects: &mut Effects<A>) {
        let others =
            effects.outboxes.iter_mut().enumerate().filter(|(to, _)| *to != self.engine.run.shard.index());
        others.for_each(|(_, outbox)| outbox.push_back(Envelope::Mark(epoch)));
    }

    /// Whether every other shard has told of all that was delivered there before `epoch`.
    pub fn has_marks(&self, epoch: Epoch) -> bool {
        fault::is_on(Fault::SkipMarks)
            || self.engine.journal.as_ref().is_none_or(|journal| journal.sends.has_marks(epoch))
    }

    /// Goes on with writing all objects as they were at the start of `snapshot` into `part`: those
    /// that were put aside first, then the slots from `from` on; until `part` [is
    /// full](PartWriter::is_full), `most` were seen, or, asked after an object, `goes_on` says no.
    /// Returns where to go on; `None` at the end. All shards must have closed the epochs before.
    /// Between two slices anything may run: see `walk`.
    ///
    /// # Errors
    /// [`PartError`]: no checkpoint of `snapshot` is being made, or not any more; or a state was
    /// recorded, and now it cannot be written, or not read again. `part` is of no use then.
    pub fn checkpoint_objects(
        &mut self,
        codec: &Codec<A>,
        snapshot: Epoch,
        from: u32,
        most: usize,
        part: &mut PartWriter,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Option<u32>, PartError> {
        if self.engine.run.epoch_state.checkpoint != snapshot {
            self.engine.enter();
        }
        let Engine { walk, versions, journal, run: RunState { epoch_state, partition, .. }, .. } =
            &mut self.engine;
        walk.follow(epoch_state);
        walk.is_of(snapshot).then_some(()).ok_or(Expired)?;
        let mut unlogged = Trust::new(Layouts::default(), ANY_VALUE);
        let trust = journal.as_mut().map_or(&mut unlogged, |journal| &mut journal.trust);
        // Says whether there is room and time for more.
        let mut write = |id: &A::Id, ownership, state: &A::State| -> Result<bool, RecordError> {
            quietly(|| {
                Ok(part.push_one(|records| {
                    (codec.push_object)(records, id, IdIs::Known, ownership, Some(state), trust, ANY_VALUE)
                })?)
            })
            .map_err(|error| *error)?;
            Ok(!part.is_full() && goes_on())
        };
        let mut seen = 0;
        while seen < most
            && let Some((id, ownership, state)) = walk.take_aside()
        {
            seen += 1;
            if !write(&id, ownership, &state)? {
                return Ok(Some(from));
            }
        }
        if seen == most {
            return Ok(Some(from));
        }
        let mut next = None;
        for (at, slot) in partition.slots(from, most - seen) {
            next = Some(at + 1);
            if slot.is_live()
                && let Some((ownership, state)) = partition.read_at(versions, at, snapshot)
                && !write(&slot.id, ownership, state)?
            {
                break;
            }
        }
        walk.pass(next);
        Ok(next)
    }

    /// How far the checkpoint of `snapshot` is: of how many slots it has passed how many.
    pub fn checkpoint_progress(&self, snapshot: Epoch) -> (usize, usize) {
        let (passed, slots) =
            (self.engine.walk.passed(snapshot) as usize, self.engine.run.partition.slots_len());
        (passed.min(slots), slots)
    }

    /// How many states are put aside, to be written before the checkpoint goes on.
    #[inline]
    pub fn checkpoint_backlog(&self) -> usize {
        self.engine.walk.backlog(&self.engine.run.epoch_state)
    }

    /// Goes on with writing what was pending in this shard at the start of `snapshot`, from pending
    /// send `from` on, as [`Shard::checkpoint_objects`] does with objects; once the shard [has all
    /// marks](Shard::has_marks). Returns where to go on; `None` at the end.
    ///
    /// # Errors
    /// As [`Shard::checkpoint_objects`].
    pub fn checkpoint_sends(
        &self,
        snapshot: Epoch,
        from: SendId,
        part: &mut PartWriter,
        goes_on: impl FnMut() -> bool,
    ) -> Result<Option<SendId>, PartError> {
        let Some(journal) = &self.engine.journal else { return Ok(None) };
        Ok(journal.sends.write(snapshot, from, part, goes_on)?)
    }

    /// Gives the shard the objects whose home it is, as its logs have them. The shard has not run
    /// anything yet.
    #[must_use]
    pub fn with_objects(mut self, home: Home<A>) -> Self {
        debug_assert!(self.engine.run.partition.len() == 0, "objects-come-first: the shard has some already");
        self.engine.restore(home);
        self
    }

    /// Takes over a pending send that a log has, and which is this shard's: it is in every
    /// checkpoint, and its message does not run.
    pub fn keep_send(&mut self, send_id: SendId, sender: OwnerId, due: Option<Time>, bytes: &[u8]) {
        if let Some(journal) = &mut self.engine.journal {
            journal.sends.add(send_id, PendingSend::new(Epoch(0), sender, due, bytes.into()));
        }
    }

    /// A number from which on no pending send of this shard has one.
    pub fn next_send(&self) -> u64 {
        self.engine.journal.as_ref().map_or(0, |_| self.engine.run.next_number.get())
    }
}
