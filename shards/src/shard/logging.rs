//! What shard and engine do for the log: batches go to the disk, epochs are closed, and answers are
//! let go of.

use crate::actor::Actor;
use crate::actor::outcome::{Outcome, ReturnAddress};
use crate::actor::run::RunState;
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::batch::{Marks, Tail};
use crate::log::writer::BatchWriter;
use crate::prefetch::Prefetch;
use crate::shard::Shard;
use crate::shard::codec::Codec;
use crate::shard::engine::Engine;
use crate::shard::journal::{Held, Journal, LogStart, Write};
use crate::time::Time;
use crate::transaction::effects::Effects;

/// How far apart the numbers of two runs are at most. There is room for 16 million runs.
const RUNS_APART_MAX: u64 = 1 << 40;

/// The epoch of a shard that is idle: it is in none.
const NO_EPOCH: Epoch = Epoch(0);

impl<A: Actor> Engine<A> {
    /// Whether it has a log and nothing under way: then it is in no epoch.
    pub(crate) fn is_idle(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| !journal.is_active)
    }
}

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Gives the shard, which is empty, a log.
    #[must_use]
    pub fn with_log(mut self, start: LogStart<A>) -> Self {
        let (shard, shards) = (self.engine.run.shard, self.engine.run.router.shards());
        // A timer's number may have left a run before it was on disk, and a crash have taken it
        // back. No later run gives it to another message: each begins somewhere else.
        let first = start.first_send.saturating_add(start.first.start % RUNS_APART_MAX);
        let first = first.next_multiple_of(shards as u64) + u64::from(shard.0);
        self.engine.run.next_number.set(first);
        self.engine.journal = Some(Box::new(Journal::new(shard, shards, start)));
        self.engine.run.commit_work = self.engine.least_commit_work();
        self.engine.run.epoch_state.epoch = NO_EPOCH;
        self
    }

    /// The next batch for the disk, if there is one and the disk has written the last. It is to be
    /// written at its place, with one write and one sync, and [`Shard::written`] is to be told when
    /// it is; if it cannot be written, the shard must not go on.
    ///
    /// To be called after every turn, and whenever a batch is written.
    pub fn next_write(&mut self, now: Time) -> Option<Write> {
        let Engine { journal, mvcc, in_doubt, run: RunState { epoch_state, shard, .. }, .. } =
            &mut self.engine;
        let journal = journal.as_mut().filter(|journal| journal.is_active && journal.in_flight.is_none())?;
        if let Some(batch) = journal.full.pop_front() {
            let durable = journal.vouch();
            let marks = Marks { closed: journal.closed, durable, time: now, awaits: journal.awaits };
            return Some(journal.seal(batch, marks));
        }
        let is_empty = journal.filling.is_empty();
        let named_for = journal.durability.named_for(*shard).unwrap_or_default();
        if is_empty && journal.closed >= journal.recorded.max(named_for) {
            return None;
        }
        // The epoch ends, so that it can be closed.
        mvcc.epochs().advance(journal.recorded);
        *epoch_state = mvcc.epochs().state();
        let mut closed = Epoch(epoch_state.epoch.0 - 1);
        if let Some(oldest) = in_doubt.oldest()
            && !fault::is_on(Fault::CloseInDoubt)
        {
            closed = closed.min(Epoch(oldest.0 - 1));
        }
        let closed = closed.max(journal.closed);
        if is_empty && closed == journal.closed {
            return None;
        }
        // Of what was closed before: this batch is not on disk.
        let durable = journal.vouch();
        if closed > journal.closed && !fault::is_on(Fault::AwaitNobody) {
            journal.awaits = journal.durability.name(*shard, closed);
        }
        let awaits = journal.awaits;
        let next = journal.next_batch();
        let batch = std::mem::replace(&mut journal.filling, next);
        Some(journal.seal(batch, Marks { closed, durable, time: now, awaits }))
    }

    /// The batch that [`Shard::next_write`] gave is on disk; here it is back.
    pub fn written(&mut self, mut batch: BatchWriter) {
        let Some(journal) = &mut self.engine.journal else { return };
        let Some(closed) = journal.in_flight.take() else { return };
        journal.durability.close(journal.shard, closed);
        batch.clear();
        journal.spare = Some(batch);
    }

    /// Lets go of the answers whose epochs are durable now, and is idle if nothing is under way.
    /// Says whether somebody who waited by [`Shard::want_durable`] has what they waited for.
    ///
    /// To be called after every turn, whenever a batch is written, and whenever another shard says
    /// that more is durable.
    pub fn release(&mut self, effects: &mut Effects<A>) -> bool {
        let Engine { journal, mvcc, in_doubt, run: RunState { epoch_state, .. }, .. } = &mut self.engine;
        let Some(journal) = journal else { return false };
        let is_through = journal.is_written() && journal.closed >= journal.recorded && in_doubt.is_empty();
        if journal.is_active && is_through && journal.durability.go_idle(journal.shard) {
            journal.is_active = false;
            epoch_state.epoch = NO_EPOCH;
        }
        let has_wanted = journal.release(mvcc.epochs(), effects);
        let epoch = mvcc.epochs().epoch();
        if journal.is_active || journal.told_wanted != Some(epoch) {
            return has_wanted;
        }
        // Who waits here may be the only one who wants it to end: what a transaction wrote
        // elsewhere, and was shown here, may have left no record there (it removed what did not
        // exist), and then no log will ever close it.
        mvcc.epochs().advance(epoch);
        journal.release(mvcc.epochs(), effects) || has_wanted
    }

    /// Whether [`Shard::next_write`] or [`Shard::release`] could do something.
    #[inline]
    pub fn has_log_work(&self) -> bool {
        self.engine.journal.as_ref().is_some_and(|journal| {
            journal.is_active
                && journal.in_flight.is_none()
                && (self.engine.in_doubt.is_empty()
                    || !journal.filling.is_empty()
                    || !journal.full.is_empty())
        })
    }

    /// Whether the disk writes a batch.
    pub fn is_writing(&self) -> bool {
        self.engine.journal.as_ref().is_some_and(|journal| journal.is_writing())
    }

    /// How many bytes were given to the disk, and in how many batches.
    pub fn log_written(&self) -> (u64, u64) {
        self.engine.journal.as_ref().map_or((0, 0), |journal| (journal.bytes, journal.batches))
    }

    /// How its log is written; `None` without one.
    pub fn codec(&self) -> Option<Codec<A>> {
        self.engine.journal.as_ref().map(|journal| journal.codec)
    }

    /// Whether nothing is under way: all is on disk, in all logs that matter, and nobody waits.
    pub fn is_log_idle(&self) -> bool {
        self.engine.journal.as_ref().is_none_or(|journal| !journal.is_active && journal.held.is_empty())
    }

    /// Whether all it committed is in its own log, whoever waits for other logs.
    pub fn is_log_written(&self) -> bool {
        self.engine.journal.as_ref().is_none_or(|journal| journal.is_written())
    }

    /// The latest epoch that something was committed in which this shard may have shown.
    pub fn shown(&self) -> Epoch {
        self.engine.journal.as_ref().map_or(Epoch(0), |journal| journal.shown)
    }

    /// How many bytes wait for the disk.
    pub fn log_backlog(&self) -> usize {
        // A batch without records has a header, which is not written by itself.
        let waiting = |journal: &Journal<A>| {
            let filling = Some(&journal.filling).filter(|batch| !batch.is_empty());
            journal.full.iter().chain(filling).map(BatchWriter::len).sum()
        };
        self.engine.journal.as_ref().map_or(0, |journal| waiting(journal))
    }

    /// The epoch that has to be durable before anything may be said of what this shard has run;
    /// `None` if it is, or if answers do not wait.
    pub fn undurable(&mut self) -> Option<Epoch> {
        let epoch = self.engine.run.epoch_state.epoch;
        let journal = self.engine.journal.as_mut().filter(|journal| journal.holds())?;
        journal.show_read(epoch);
        (journal.shown > journal.durable).then_some(journal.shown)
    }

    /// Holds an answer of this shard's until all it has shown is durable.
    pub fn hold(&mut self, to: ReturnAddress, outcome: Outcome<A>) {
        if let Some(journal) = &mut self.engine.journal {
            let need = journal.shown;
            journal.held.push_back((need, Held::Answer(to, outcome)));
        }
    }

    /// Holds the answers of a turn that was not finished, because something panicked in it: a shard
    /// that leaves delivers what it has come to, and that may not be durable.
    pub fn hold_back(&mut self, effects: &mut Effects<A>) {
        if let Some(journal) = &mut self.engine.journal {
            journal.hold(self.engine.run.epoch_state.epoch, effects);
        }
    }

    /// Whether everything up to `epoch` is durable. If not, [`Shard::release`] says when it is.
    pub fn want_durable(&mut self, epoch: Epoch) -> bool {
        let Some(journal) = &mut self.engine.journal else { return true };
        if journal.durable >= epoch {
            return true;
        }
        journal.wanted = Some(journal.wanted.map_or(epoch, |wanted| wanted.min(epoch)));
        false
    }

    /// Where the log ends: its segment, and what would come next in it.
    pub fn log_end(&self) -> Option<(u64, Tail)> {
        self.engine.journal.as_ref().map(|journal| (journal.id.segment, journal.tail))
    }
}
