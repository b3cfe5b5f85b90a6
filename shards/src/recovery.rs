//! What a database was when its last run ended: which epochs are complete, and what the objects and debts were then.
//!
//! 1. Every log is *surveyed*: its segments are read in order, checksums, chain and all; what its batches say of epochs is noted.
//! 2. The last *complete* epoch of a run that crashed is found: one that a batch closes, and that every log this batch awaits has closed too.
//! 3. Checkpoint and logs are *replayed*, each by itself and all at once: of each object the last record counts that was committed in a
//!    complete epoch. Later ones are skipped and reading goes on, because a shard may write of an earlier epoch behind them.
//! 4. What came of it is put together, oldest first, and every object goes to the shard that is its home now.
//!
//! Nothing here writes, so a crash in the middle of it changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::actor::Actor;
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::{Batch, Bounds, Damage, End, Logs, SegmentId, Tail, scan_from};
use crate::object::{OwnerId, Ownership};
use crate::record::{Debt, Record, decode};
use crate::router::Router;
use crate::time::Time;

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
    pub fn read<'a>(&mut self, bytes: &'a [u8], each: impl FnMut(Batch<'a>)) -> Result<End, Damage> {
        self.read_from(bytes, 0, each)
    }

    /// Reads what is behind a damage that [`LogReader::read`] found in this segment. Recovery never does: this is for who wants to know what
    /// else there is.
    ///
    /// # Errors
    /// The next [`Damage`]; the batches before it have been given.
    pub fn read_behind<'a>(
        &mut self,
        damage: &Damage,
        bytes: &'a [u8],
        each: impl FnMut(Batch<'a>),
    ) -> Result<End, Damage> {
        self.tail = damage.tail;
        self.read_from(bytes, damage.at, each)
    }

    /// Goes to a later segment, because one cannot be had.
    pub fn skip_to(&mut self, segment: u64) {
        self.next.segment = segment;
    }

    fn read_from<'a>(
        &mut self,
        bytes: &'a [u8],
        from: usize,
        mut each: impl FnMut(Batch<'a>),
    ) -> Result<End, Damage> {
        let SegmentId { segment, .. } = self.next;
        let last = &mut self.last;
        let end = scan_from(bytes, from, self.next, self.bounds, &mut self.tail, |batch| {
            *last = segment;
            each(batch);
        })?;
        self.next.segment = self.next.segment.wrapping_add(1);
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
    closes: Vec<(Epoch, Logs)>,
    /// The latest epoch of a record.
    pub latest: Epoch,
    /// The latest epoch that was known to be complete: if it is not, something is missing that had been written.
    pub durable: Epoch,
    /// When the last batch was sealed.
    pub time: Time,
    /// No debt in it has a number from here on.
    pub next_debt: u64,
    /// How many batches and records there are.
    pub batches: u64,
    /// How many records there are.
    pub records: u64,
}

impl Survey {
    /// Takes note of a batch.
    ///
    /// # Errors
    /// A record that cannot be read, and which of the batch it is.
    pub fn note(&mut self, batch: &Batch<'_>) -> Result<(), usize> {
        let marks = batch.marks;
        if self.closed() != Some(marks.closed) {
            self.closes.push((marks.closed, marks.awaits));
        }
        self.durable = self.durable.max(marks.durable);
        self.time = self.time.max(marks.time);
        self.batches += 1;
        let (mut count, mut bytes) = (0, 0);
        for (at, record) in batch.records().enumerate() {
            match Record::read(record).ok_or(at)? {
                Record::Epoch(epoch) => self.latest = self.latest.max(epoch),
                Record::Owe { debt, .. } => self.next_debt = self.next_debt.max(debt.0.saturating_add(1)),
                _ => {}
            }
            (count, bytes) = (count + 1, bytes + 4 + record.len());
        }
        self.records += count;
        // The crc is of these bytes, so whoever wrote them was wrong; all the same, nothing is left out in silence.
        if (count, bytes) == (u64::from(batch.count()), batch.records_bytes()) {
            Ok(())
        } else {
            Err(count as usize)
        }
    }

    /// The latest epoch it closes.
    pub fn closed(&self) -> Option<Epoch> {
        self.closes.last().map(|(closed, _)| *closed)
    }
}

/// The last complete epoch of a run whose logs say this. All up to `after` is complete without them.
pub fn last_complete(after: Epoch, logs: &[Survey]) -> Epoch {
    if fault::is_on(Fault::TakeAll) {
        return logs.iter().map(|log| log.latest).fold(after, Epoch::max);
    }
    let closed = |place: usize| logs.get(place).and_then(Survey::closed).unwrap_or(after);
    let is_complete = |(epoch, awaits): &&(Epoch, Logs)| awaits.iter().all(|place| closed(place) >= *epoch);
    let complete = logs.iter().flat_map(|log| &log.closes).filter(is_complete).map(|(epoch, _)| *epoch);
    complete.fold(after, Epoch::max)
}

/// A message that is owed: who sent it, when it is due, and it in bytes.
pub type Owed = (OwnerId, Option<Time>, Box<[u8]>);

/// Objects by id.
type Objects<A> = HashMap<<A as Actor>::Id, Option<(Ownership, <A as Actor>::State)>, ahash::RandomState>;

/// What a checkpoint's part or a log leaves of objects and debts, the objects by their home.
pub struct Replay<A: Actor> {
    router: Router,
    /// By home; `None` for an object that was removed.
    objects: Vec<Objects<A>>,
    owed: BTreeMap<Debt, Owed>,
    paid: HashSet<Debt, ahash::RandomState>,
}

/// A record that this actor cannot understand, and which of its batch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// The record's place in its batch.
    pub record: usize,
    /// What it should have been.
    pub what: &'static str,
}

impl<A: Actor> Replay<A> {
    /// Nothing yet, for the homes that `router` knows.
    pub fn new(router: Router) -> Self {
        let objects = (0..router.shards()).map(|_| HashMap::default()).collect();
        Replay { router, objects, owed: BTreeMap::new(), paid: HashSet::default() }
    }

    /// Takes over what a batch says of the epochs from `from` on, up to `cut`. What is older is in the checkpoint; and it must not be taken
    /// over again, because of a debt that was paid long ago the logs may still have that it was made, and not that it was paid.
    ///
    /// # Errors
    /// A record that this actor cannot understand.
    pub fn apply(&mut self, batch: &Batch<'_>, from: Epoch, cut: Epoch) -> Result<(), NotUnderstood> {
        let mut epoch = Epoch(0);
        for (at, record) in batch.records().enumerate() {
            let not = |what| NotUnderstood { record: at, what };
            let record = Record::read(record).ok_or(not("a record of this version"))?;
            if let Record::Epoch(of) = record {
                epoch = of;
            }
            if epoch > cut && fault::is_on(Fault::Truncate) {
                return Ok(());
            }
            let is_old = epoch < from && !fault::is_on(Fault::ReplayOld);
            if is_old || epoch > cut {
                continue;
            }
            match record {
                Record::Epoch(_) => {}
                Record::Put { id, ownership, state } => {
                    let id = decode::<A::Id>(id).ok_or(not("an object's id"))?;
                    let state = decode::<A::State>(state).ok_or(not("an object's state"))?;
                    self.objects[self.router.home(&id).index()].insert(id, Some((ownership, state)));
                }
                Record::Remove { id } => {
                    let id = decode::<A::Id>(id).ok_or(not("an object's id"))?;
                    self.objects[self.router.home(&id).index()].insert(id, None);
                }
                Record::Owe { debt, sender, due, message } => {
                    self.owed.insert(debt, (sender, due, message.into()));
                }
                Record::Paid { debt } => {
                    self.paid.insert(debt);
                }
            }
        }
        Ok(())
    }

    /// Takes over what came later. (The logs of one run have no object in common, so among them any order is right.)
    pub fn follow(&mut self, later: Replay<A>) {
        for (objects, mut later) in self.objects.iter_mut().zip(later.objects) {
            if objects.len() < later.len() && objects.is_empty() {
                std::mem::swap(objects, &mut later);
            }
            objects.extend(later);
        }
        self.owed.extend(later.owed);
        self.paid.extend(later.paid);
    }

    /// What is left of it: the objects of each home, and the debts.
    #[expect(clippy::type_complexity, reason = "two lists, of what they say")]
    pub fn finish(self) -> (Vec<Vec<(A::Id, Ownership, A::State)>>, BTreeMap<Debt, Owed>) {
        let Replay { objects, mut owed, paid, .. } = self;
        owed.retain(|debt, _| !paid.contains(debt));
        let exists = |(id, object): (A::Id, Option<(Ownership, A::State)>)| {
            object.map(|(ownership, state)| (id, ownership, state))
        };
        (objects.into_iter().map(|objects| objects.into_iter().filter_map(exists).collect()).collect(), owed)
    }
}
