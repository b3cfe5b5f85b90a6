//! What a database was when its last run ended: which epochs are complete, and what the objects and
//! pending sends were then.
//!
//! 1. Every log is *surveyed*: its segments are read in order, checksums, chain and all; what its
//!    batches say of epochs is noted.
//! 2. The last *complete* epoch of a run that crashed is found: one that a batch closes, and that
//!    every log this batch awaits has closed too.
//! 3. Checkpoint and logs are *replayed*, each by itself and all at once: of each object the last
//!    record counts that was committed in a complete epoch. Later ones are skipped and reading goes
//!    on, because a shard may write of an earlier epoch behind them.
//! 4. What came of it is put together, oldest first, and every object goes to the shard that is its
//!    home now.
//!
//! Nothing here writes, so a crash in the middle of it changes nothing.

mod old;
mod over;
mod replay;

use std::borrow::Borrow;

use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::batch::{Damage, End, LogBatch, Pieces, SegmentId, Tail, scan_pieces};
use crate::log::bounds::{Bounds, LENGTH};
use crate::log::dated::DatedRecord;
use crate::log::record::{Record, SendId};
pub use crate::object::Change;
use crate::placement::ShardSet;
use crate::time::Time;

pub use old::{Migrating, OldReplay};
pub use over::Over;
use over::OverSoFar;
use replay::is_new;
pub use replay::{NotUnderstood, Owing, RecoveredSend, Replay, Share};

/// Reads the segments of a log, or a part of a checkpoint, in order.
#[derive(Clone, Debug)]
pub struct LogReader {
    next: SegmentId,
    bounds: Bounds,
    tail: Tail,
    /// The segment of the last batch.
    last: u64,
}

impl LogReader {
    /// From a segment on, in which `tail` comes first, of a database with these bounds.
    pub fn new(first: SegmentId, bounds: Bounds, tail: Tail) -> Self {
        LogReader { next: first, bounds, tail, last: first.segment }
    }

    /// The segment to be read next.
    pub fn segment(&self) -> u64 {
        self.next.segment
    }

    /// Reads it, and gives its batches to `each`.
    ///
    /// # Errors
    /// [`Damage`]; the batches before it have been given.
    pub fn read(&mut self, bytes: &[u8], each: impl FnMut(LogBatch<'_>)) -> Result<End, Damage> {
        let Ok(end) = self.read_pieces(&mut &*bytes, None, each);
        end
    }

    /// Goes to a later segment, because one cannot be had.
    pub fn skip_to(&mut self, segment: u64) {
        self.next.segment = segment;
    }

    /// Reads it piece by piece, or what is behind a `damage` in it. Recovery never reads behind a
    /// damage: that is for who wants to know what else there is.
    ///
    /// # Errors
    /// As the file says; the next [`Damage`], when the batches before it have been given.
    pub fn read_pieces<P: Pieces>(
        &mut self,
        pieces: &mut P,
        damage: Option<&Damage>,
        mut each: impl FnMut(LogBatch<'_>),
    ) -> Result<Result<End, Damage>, P::Error> {
        let SegmentId { segment, .. } = self.next;
        let from = damage.map_or(0, |damage| {
            self.tail = damage.tail;
            damage.at
        });
        let last = &mut self.last;
        let end = scan_pieces(pieces, from, self.next, self.bounds, &mut self.tail, |batch| {
            *last = segment;
            each(batch);
        })?;
        if end.is_ok() {
            self.next.segment = self.next.segment.wrapping_add(1);
        }
        Ok(end)
    }

    /// Where the log ends: the segment of its last batch, and what would come next.
    pub fn end(&self) -> (u64, Tail) {
        (self.last, self.tail)
    }
}

/// What a log says of epochs.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What its batches close, with the logs they await.
    closes: Vec<(Epoch, ShardSet)>,
    /// The latest epoch of a record.
    pub latest: Epoch,
    /// The latest epoch that was known to be complete: if it is not, something is missing that had
    /// been written.
    pub durable: Epoch,
    /// When the last batch was sealed.
    pub time: Time,
    /// No pending send in it has a number from here on.
    pub next_send: u64,
    /// All before this epoch is in a checkpoint.
    from: Epoch,
    /// Which messages are over.
    over: OverSoFar,
    /// How many batches and records there are.
    pub batches: u64,
    /// How many records there are.
    pub records: u64,
}

impl Survey {
    /// Of a log of which all before this epoch is in a checkpoint.
    pub fn from(from: Epoch) -> Self {
        Survey { from, ..Survey::default() }
    }

    /// Which messages are over as of the last complete epoch. It is taken out: there is none
    /// afterwards.
    pub fn take_over(&mut self, cut: Epoch) -> Over {
        std::mem::take(&mut self.over).finish(cut)
    }

    /// Takes note of a batch.
    ///
    /// # Errors
    /// A record that cannot be read, and which of the batch it is.
    pub fn note(&mut self, batch: &LogBatch<'_>) -> Result<(), usize> {
        let marks = batch.marks;
        if self.closed() != Some(marks.closed) {
            self.closes.push((marks.closed, marks.awaits));
        }
        self.durable = self.durable.max(marks.durable);
        self.time = self.time.max(marks.time);
        self.batches += 1;
        let (mut count, mut bytes) = (0, 0);
        for DatedRecord { at, epoch, bytes: written, record } in batch.dated() {
            match record.ok_or(at)? {
                Record::Epoch(_) => self.latest = self.latest.max(epoch),
                Record::Delivered { send_id } => self.is_over(epoch, send_id, None),
                Record::Cancelled { send_id, due } => self.is_over(epoch, send_id, Some(due)),
                Record::Send { send_id, .. } => {
                    self.next_send = self.next_send.max(send_id.0.saturating_add(1))
                }
                _ => {}
            }
            (count, bytes) = (count + 1, bytes + LENGTH + written.len());
        }
        self.records += count;
        // The crc is of these bytes, so whoever wrote them was wrong; all the same, nothing is left
        // out in silence.
        if (count, bytes) == (u64::from(batch.count()), batch.records_bytes()) {
            Ok(())
        } else {
            Err(count as usize)
        }
    }

    fn is_over(&mut self, epoch: Epoch, send_id: SendId, due: Option<Time>) {
        if is_new(epoch, self.from) {
            self.over.note(epoch, self.durable, send_id, due);
        }
    }

    /// The latest epoch it closes.
    pub fn closed(&self) -> Option<Epoch> {
        self.closes.last().map(|(closed, _)| *closed)
    }
}

/// The last complete epoch of a run whose logs say this. All up to `after` is complete without
/// them.
pub fn last_complete<S: Borrow<Survey>>(after: Epoch, logs: &[S]) -> Epoch {
    if fault::is_on(Fault::TakeAll) {
        return logs.iter().map(|log| log.borrow().latest).fold(after, Epoch::max);
    }
    last_complete_in_copies(after, logs, logs)
}

/// The last complete epoch of logs that were copied one after another while they were written.
/// `before` is what the logs said before the first of them was copied, `copies` what the copies
/// say.
///
/// Only a batch of `before` may say that an epoch is complete. It names the logs it awaits, and
/// says of all others that what they have of the epoch was on disk when the batch was sealed. A
/// batch in a copy may have been sealed after another log was copied, and then says nothing of that
/// copy. What was durable before the logs were surveyed is complete: a crash at that time would
/// have lost nothing of it, by a batch that is in `before`, and the copies have all that was on
/// disk then.
pub fn last_complete_in_copies<S: Borrow<Survey>>(after: Epoch, before: &[S], copies: &[S]) -> Epoch {
    let before = if fault::is_on(Fault::TrustCopies) { copies } else { before };
    let closed = |place: usize| copies.get(place).and_then(|copy| copy.borrow().closed()).unwrap_or(after);
    let is_complete =
        |(epoch, awaits): &&(Epoch, ShardSet)| awaits.iter().all(|shard| closed(shard.index()) >= *epoch);
    let complete =
        before.iter().flat_map(|log| &log.borrow().closes).filter(is_complete).map(|(epoch, _)| *epoch);
    complete.fold(after, Epoch::max)
}

#[cfg(test)]
mod tests;
