//! Checkpoints of a simulated runtime: made in steps while it goes on, read back, and judged like a
//! snapshot.

use freehold_shard::log::{Bounds, SegmentId, Tail};
use freehold_shard::manifest::{CheckpointParts, LogBegin, Part};
use freehold_shard::part::{PartReader, PartWriter};
use freehold_shard::recovery::{Home, LogReader, Replay};
use freehold_shard::*;

use super::super::checker::Audit;
use super::super::script::Simulated;
use super::super::world::{Begin, World};

/// A checkpoint that is being made.
pub(super) struct Checkpointing {
    epoch: Epoch,
    time: Time,
    /// The step at which it began.
    began: u64,
    /// By shard: it has closed the epochs before.
    closed: Vec<bool>,
    is_durable: bool,
    /// By shard: it has told the others of all it delivered before.
    marked: Vec<bool>,
    parts: Vec<PartUnderWay>,
    /// The manifest names it; what is left to do is to delete what is not needed any more.
    is_switched: bool,
}

/// A shard's part of it.
struct PartUnderWay {
    id: SegmentId,
    writer: PartWriter,
    at: Place,
    bytes: Vec<u8>,
    next_send: u64,
}

/// Where a part is gone on with.
enum Place {
    Objects(u32),
    PendingSends(SendId),
    End,
}

impl PartUnderWay {
    /// Goes on with it, by at most so many slots, and for at most so many objects or pending sends
    /// more than one.
    fn go_on(
        &mut self,
        shard: &mut Shard<Simulated>,
        epoch: Epoch,
        slots: usize,
        mut more: usize,
    ) -> Result<(), part::PartError> {
        let goes_on = || {
            more = more.saturating_sub(1);
            more > 0
        };
        let writer = &mut self.writer;
        match self.at {
            Place::Objects(from) => {
                let next = shard.checkpoint_objects(&Codec::new(), epoch, from, slots, writer, goes_on)?;
                self.at = next.map_or(Place::PendingSends(SendId(0)), Place::Objects);
            }
            Place::PendingSends(from) if shard.has_marks(epoch) => {
                let next = shard.checkpoint_sends(epoch, from, writer, goes_on)?;
                self.at = next.map_or(Place::End, Place::PendingSends);
                self.next_send = shard.next_send();
            }
            Place::PendingSends(_) | Place::End => {}
        }
        while let Some(batch) = self.writer.next_batch() {
            self.bytes.extend_from_slice(batch);
        }
        if self.is_done() {
            while let Some(batch) = self.writer.last_batch() {
                self.bytes.extend_from_slice(batch);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        matches!(self.at, Place::End)
    }

    /// Reads it as the runtime does before anything relies on it.
    fn read_back(&self, bounds: Bounds) {
        let (mut reader, mut rest) = (PartReader::new(self.id, bounds), &self.bytes[..]);
        while !rest.is_empty() {
            let bytes = reader.batch_bytes(rest).expect("a-part-reads-again");
            let (batch, behind) = rest.split_at(bytes);
            reader.read(batch).expect("a-part-reads-again");
            rest = behind;
        }
        reader.finish(self.writer.end()).expect("a-part-reads-again");
    }
}

impl World {
    /// Begins a checkpoint, or goes on with it.
    pub(super) fn checkpoint(&mut self, begin: Begin) {
        let shards = self.shape.shards;
        let Some(mut checkpoint) = self.lives().checkpoint.take() else {
            let often = self.lives().checkpoints;
            if begin == Begin::More && self.dice.chance(often) {
                let time = self.now();
                let epoch = self.mvcc.epochs().begin_checkpoint();
                // A batch for each record, some of a block or so, or as long as may be.
                let enough = [1, 3_000, usize::MAX][self.dice.below(3)];
                let manifest = &mut self.lives().manifest;
                let bounds = manifest.bounds();
                let start = manifest.runs.last().expect("a run has begun").start;
                let part = |log| {
                    let id = SegmentId { database: manifest.database, log, segment: 0, start };
                    let writer = PartWriter::new(id, bounds, enough);
                    PartUnderWay { id, writer, at: Place::Objects(0), bytes: Vec::new(), next_send: 0 }
                };
                let parts = (manifest.next_log..).take(shards).map(part).collect();
                manifest.next_log += shards as u64;
                let began = self.steps;
                self.lives().checkpoint = Some(Checkpointing {
                    epoch,
                    time,
                    began,
                    closed: vec![false; shards],
                    is_durable: false,
                    marked: vec![false; shards],
                    parts,
                    is_switched: false,
                });
            }
            return;
        };
        let is_given_up = begin == Begin::More && self.dice.chance(2);
        let steps = 1 + self.dice.below(6);
        if !is_given_up && (0..steps).all(|_| self.go_on(&mut checkpoint)) {
            self.lives().checkpoint = Some(checkpoint);
        } else {
            self.mvcc.epochs().end_checkpoint(checkpoint.epoch);
            self.lives().delete_the_rest();
        }
    }

    /// Says whether there is more to do.
    fn go_on(&mut self, checkpoint: &mut Checkpointing) -> bool {
        let epoch = checkpoint.epoch;
        let at = self.dice.below(self.shape.shards);
        if !checkpoint.closed[at] {
            // A command, which wakes the shard.
            self.shards[at].enter();
            checkpoint.closed[at] = self.shards[at].has_closed(epoch);
            self.write_and_release(at);
        } else if checkpoint.closed.contains(&false) {
            // It waits for others.
        } else if !checkpoint.is_durable {
            checkpoint.is_durable = self.is_durable(Epoch(epoch.0 - 1));
        } else if !checkpoint.marked[at] {
            checkpoint.marked[at] = true;
            self.shards[at].send_marks(epoch, &mut self.effects[at]);
        } else if !checkpoint.parts[at].is_done() {
            let (slots, more) = (1 + self.dice.below(20), 1 + self.dice.below(20));
            let wrote = checkpoint.parts[at].go_on(&mut self.shards[at], epoch, slots, more);
            wrote.expect("nothing revokes a checkpoint: it would never end where much is written");
        } else if checkpoint.parts.iter().any(|part| !part.is_done()) {
            // It waits for others.
        } else if !checkpoint.is_switched {
            self.switch(checkpoint);
        } else {
            return false;
        }
        true
    }

    /// What a checkpoint holds is what a snapshot of its epoch would see, and is judged like one.
    /// (What it holds wrongly or not at all a log that is read behind it mostly has, so that few
    /// crashes would show it.)
    fn audit_checkpoint(&mut self, checkpoint: &Checkpointing) {
        let mut all = Replay::<Simulated>::new(self.router);
        let mut homes: Vec<Home<Simulated>> =
            (0..self.shape.shards).map(|shard| Home::new(shard as u64)).collect();
        let mut put = |home: usize, changes: &mut Vec<_>| homes[home].apply(changes.drain(..));
        for part in &checkpoint.parts {
            let each = |batch: log::LogBatch<'_>| {
                all.apply(&batch, Epoch(0), Epoch(0), &mut put).expect("it was just written");
            };
            let bounds = self.lives.as_ref().expect("a world with disks").manifest.bounds();
            let mut reader = LogReader::new(part.id, bounds, Tail::default());
            reader.read(&part.bytes, each).expect("it was just written");
        }
        let objects = homes.iter().flat_map(Home::objects);
        self.history.audits.push(Audit {
            epoch: checkpoint.epoch,
            began: checkpoint.began,
            ended: self.steps,
            objects: objects.map(|(id, ownership, value)| (id.0, (ownership, *value))).collect(),
            is_whole: true,
            is_durable: true,
            ..Audit::default()
        });
    }

    /// The manifest names the checkpoint, all at once.
    fn switch(&mut self, checkpoint: &mut Checkpointing) {
        let epoch = checkpoint.epoch;
        self.audit_checkpoint(checkpoint);
        let Checkpointing { time, ref mut parts, .. } = *checkpoint;
        let mut next_send = 0;
        let mut named = Vec::new();
        let lives = self.lives.as_mut().expect("a world with disks");
        for part in parts {
            part.read_back(lives.manifest.bounds());
            next_send = part.next_send.max(next_send);
            let end = part.writer.end();
            named.push(Part { log: part.id.log, start: part.id.start, end: end.tail, bytes: end.bytes });
            lives.disks.files.insert((part.id.log, 0), std::mem::take(&mut part.bytes));
        }
        let run = lives.manifest.runs.last().expect("a run has begun");
        let trimmed = self.shards.iter_mut().zip(&run.logs).map(|(shard, begin)| {
            let Begun { segment, tail, .. } = shard.trim_log(epoch).expect("it has a log");
            LogBegin { segment, tail, ..*begin }
        });
        let logs = trimmed.collect();
        lives.manifest.switch(CheckpointParts { epoch, time, next_send, parts: named }, logs);
        lives.store_manifest();
        checkpoint.is_switched = true;
    }
}
