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

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::batch::{Damage, End, LogBatch, Pieces, SegmentId, Tail, scan_pieces};
use crate::log::bounds::{Bounds, LENGTH};
use crate::log::dated::DatedRecord;
use crate::log::record::{Record, SendId};
pub use crate::object::Change;
use crate::object::{OwnerId, Stored};
use crate::placement::{Router, ShardSet};
use crate::time::Time;

pub use old::{Migrating, OldReplay};
pub use over::Over;
use over::OverSoFar;

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

/// A message that is owed: who sent it, when it is due, and it in bytes.
pub type RecoveredSend = (OwnerId, Option<Time>, Box<[u8]>);

/// How many changes of a home are put into its table at once: so few that they stay in the cache.
const CHANGES_MAX: usize = 128;

/// What a checkpoint's part or a log says of pending sends, and, passing through, of objects.
pub struct Replay<A: Stored> {
    router: Router,
    /// By home, in the order they were read: what is not in its table yet.
    changes: Vec<Vec<Change<A>>>,
    share: Share,
    owing: Owing,
}

/// Which part of a log one of its readers takes over: several read all of it, and each takes the
/// objects of other homes. The first takes the pending sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which of the readers.
    pub reader: usize,
    /// How many there are.
    pub readers: usize,
}

impl Share {
    /// All of it.
    pub const WHOLE: Share = Share { reader: 0, readers: 1 };

    #[inline]
    fn has(self, home: usize) -> bool {
        self.readers == 1 || home % self.readers == self.reader
    }
}

/// A record that this actor cannot understand, and which of its batch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// The record's place in its batch.
    pub record: usize,
    /// What it should have been.
    pub what: &'static str,
}

/// What is owed, without an actor: ids, states and messages are bytes.
#[derive(Debug, Default)]
pub struct Owing {
    owed: BTreeMap<SendId, RecoveredSend>,
    /// Which messages are over, of all logs; or those that it has read of, if nobody has said.
    over: Over,
    known: Option<Arc<Over>>,
}

impl Owing {
    /// Nothing yet, where these messages are over, as the [surveys](Survey::take_over) of all logs
    /// have it.
    pub fn knowing(over: Arc<Over>) -> Self {
        Owing { known: Some(over), ..Owing::default() }
    }

    /// As [`Replay::apply`], of pending sends alone. Records of no version are left out.
    pub fn apply(&mut self, batch: &LogBatch<'_>, from: Epoch, cut: Epoch) {
        let dated = batch.dated().filter(|dated| counts(dated.epoch, from, cut));
        dated.filter_map(|dated| dated.record).for_each(|record| self.note(record));
    }

    /// Takes note of a record that counts, if it is of a pending send.
    fn note(&mut self, record: Record<'_>) {
        match record {
            Record::Send { send_id, sender, due, message } => {
                if !self.is_known_over(send_id, due) {
                    self.owed.insert(send_id, (sender, due, message.into()));
                }
            }
            Record::Delivered { .. } | Record::Cancelled { .. } if self.known.is_some() => {}
            Record::Delivered { send_id } => self.over.note(send_id, None),
            Record::Cancelled { send_id, due } => self.over.note(send_id, Some(due)),
            Record::Epoch(_) | Record::Put { .. } | Record::Remove { .. } | Record::Cleared { .. } => {}
        }
    }

    /// Takes over what came later.
    fn follow(&mut self, later: Owing) {
        self.owed.extend(later.owed);
        self.over.extend(later.over);
        self.known = self.known.take().or(later.known);
    }

    /// What is left of it.
    pub fn finish(mut self) -> BTreeMap<SendId, RecoveredSend> {
        let mut owed = std::mem::take(&mut self.owed);
        owed.retain(|send_id, (_, due, _)| !self.is_over(*send_id, *due));
        owed
    }

    /// Whether a message that is due then has run or is not to.
    fn is_over(&self, send_id: SendId, due: Option<Time>) -> bool {
        self.over.has(send_id, due) || self.is_known_over(send_id, due)
    }

    fn is_known_over(&self, send_id: SendId, due: Option<Time>) -> bool {
        self.known.as_ref().is_some_and(|over| over.has(send_id, due))
    }
}

/// Whether a record of this epoch counts: what is older than `from` is in the checkpoint, and what
/// is later than `cut` is nothing.
fn counts(epoch: Epoch, from: Epoch, cut: Epoch) -> bool {
    is_new(epoch, from) && epoch <= cut
}

/// Whether a record of this epoch is not in the checkpoint.
fn is_new(epoch: Epoch, from: Epoch) -> bool {
    epoch >= from || fault::is_on(Fault::ReplayOld)
}

impl<A: Stored<State: DeserializeOwned>> Replay<A> {
    /// Nothing yet, for the homes that `router` knows.
    pub fn new(router: Router) -> Self {
        Replay::of_share(router, Share::WHOLE)
    }

    /// Nothing yet of a share.
    pub fn of_share(router: Router, share: Share) -> Self {
        let changes = (0..router.shards()).map(|_| Vec::new()).collect();
        Replay { router, changes, share, owing: Owing::default() }
    }

    /// The same where these messages are over: nothing of them is kept.
    #[must_use]
    pub fn knowing(self, over: Arc<Over>) -> Self {
        Replay { owing: Owing::knowing(over), ..self }
    }

    /// Takes over what a batch says of the epochs from `from` on, up to `cut`. What is older is in
    /// the checkpoint, and must not be taken over again: of a message that was delivered long ago
    /// the logs may still have that it was told, and not that it was delivered.
    ///
    /// Changes of objects are given to `put` some at a time, with the number of their home, for it
    /// to drain into the [`Home`](crate::recovery::Home). The logs of one run have no object in
    /// common, so among them any order is right; those of a later run come when all of an earlier
    /// one were put.
    ///
    /// # Errors
    /// A record that this actor cannot understand.
    pub fn apply(
        &mut self,
        batch: &LogBatch<'_>,
        from: Epoch,
        cut: Epoch,
        mut put: impl FnMut(usize, &mut Vec<Change<A>>),
    ) -> Result<(), NotUnderstood> {
        for DatedRecord { at, epoch, record, .. } in batch.dated() {
            let not = |what| NotUnderstood { record: at, what };
            let record = record.ok_or(not("a record of this version"))?;
            if epoch > cut && fault::is_on(Fault::Truncate) {
                return Ok(());
            }
            if !counts(epoch, from, cut) {
                continue;
            }
            match record {
                Record::Epoch(_) => {}
                Record::Put { id, ownership, state } => {
                    let id = id.decode::<A::Id>().ok_or(not("an object's id"))?;
                    let home = self.router.home(&id).index();
                    if self.share.has(home) {
                        let state = state.decode::<A::State>().ok_or(not("an object's state"))?;
                        self.change(home, Change::Put(id, ownership, state), &mut put);
                    }
                }
                Record::Remove { id } => {
                    let id = id.decode::<A::Id>().ok_or(not("an object's id"))?;
                    let home = self.router.home(&id).index();
                    if self.share.has(home) {
                        self.change(home, Change::Remove(id), &mut put);
                    }
                }
                Record::Cleared { collection } => {
                    let id = collection.decode::<A::Id>().ok_or(not("a collection's id"))?;
                    // Its entries live with it.
                    let home = self.router.home(&id).index();
                    if self.share.has(home) {
                        self.change(home, Change::Clear(id), &mut put);
                    }
                }
                Record::Send { .. } | Record::Delivered { .. } | Record::Cancelled { .. } => {
                    if self.share.reader == 0 {
                        self.owing.note(record);
                    }
                }
            }
        }
        self.flush(&mut put);
        Ok(())
    }

    /// Gives all changes to `put` that it has not got.
    fn flush(&mut self, put: &mut impl FnMut(usize, &mut Vec<Change<A>>)) {
        let changes = self.changes.iter_mut().enumerate().filter(|(_, changes)| !changes.is_empty());
        changes.for_each(|(home, changes)| put(home, changes));
    }

    #[inline]
    fn change(&mut self, home: usize, change: Change<A>, put: &mut impl FnMut(usize, &mut Vec<Change<A>>)) {
        let changes = &mut self.changes[home];
        changes.push(change);
        if changes.len() == CHANGES_MAX {
            put(home, changes);
        }
    }

    /// Takes over the pending sends that came later.
    pub fn follow(&mut self, later: Replay<A>) {
        self.owing.follow(later.owing);
    }

    /// The pending sends that are left.
    pub fn finish(self) -> BTreeMap<SendId, RecoveredSend> {
        self.owing.finish()
    }
}

#[cfg(test)]
mod tests;
