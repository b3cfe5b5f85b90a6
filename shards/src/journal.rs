//! A shard's side of its log: what it committed and is not on disk yet, what it owes, and whom it has not answered for that.
//!
//! Every message that succeeds leaves records of what its objects are now ([`record`](crate::record)) in the batch that is being filled.
//! While the disk writes one batch the next one collects; it goes out when that write returns, so there is no timer, and one write
//! carries as much as came meanwhile. Whoever writes ends the epoch, if it has records of it: then the batch can close it.
//!
//! Invariant *durable-before-answered*: an answer waits until all that its shard has ever shown is durable, in the epochs it was committed
//! in ([`Journal::shown`]). A message that only read waits for nothing if nothing is under way.
//!
//! What a message told is a *debt* until it has run. The shard that owes it keeps it, so that it can be written into a checkpoint; the shard
//! where it ran records that it is paid, with what it did, and lets the other know.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::Actor;
use crate::desk::{BeforeImage, Desk, Told, drop_quietly};
use crate::durable::Durability;
use crate::epoch::{Epoch, Line};
use crate::fault::{self, Fault};
use crate::log::{BATCH_MAX, BatchWriter, HEADER, Logs, Marks, SegmentId, Tail};
use crate::message::{Batch, Envelope, Outcome, ReturnAddress};
use crate::mvcc::Expired;
use crate::object::{OwnerId, Ownership};
use crate::partition::{Partition, SlotIndex};
use crate::record::{Debt, RecordError, decode, encode, write_epoch, write_object, write_owe, write_paid};
use crate::router::{Destination, ShardIndex};
use crate::shard::{Effects, Prefetch, Shard};
use crate::time::Time;

/// The epoch of a shard that is idle: it is in none.
const NO_EPOCH: Epoch = Epoch(0);
/// How long the record is that says in which epoch the others were committed.
const EPOCH_RECORD: usize = 4 + 9;

/// When a message is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// When it and everything it saw is on disk, in all logs: no crash takes it back.
    #[default]
    Durable,
    /// When it has run. A crash takes back what was not on disk yet, of all objects the last part of one and the same history.
    Applied,
}

/// How an actor's messages are written into a log and read back.
pub struct Codec<A: Actor> {
    encode: fn(&A::Message, &mut Vec<u8>) -> Result<(), RecordError>,
    decode: fn(&[u8]) -> Option<A::Message>,
}

impl<A: Actor> Codec<A>
where
    A::Message: Serialize + DeserializeOwned,
{
    /// By postcard.
    pub fn new() -> Self {
        Codec { encode: encode::<A::Message>, decode: decode::<A::Message> }
    }
}

impl<A: Actor> Default for Codec<A>
where
    A::Message: Serialize + DeserializeOwned,
{
    fn default() -> Self {
        Codec::new()
    }
}

impl<A: Actor> Clone for Codec<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Actor> Copy for Codec<A> {}

impl<A: Actor> Codec<A> {
    /// The message that these bytes are; `None` if they are none.
    pub fn decode(&self, bytes: &[u8]) -> Option<A::Message> {
        (self.decode)(bytes)
    }
}

/// What a shard's log begins with.
pub struct LogStart<A: Actor> {
    /// How messages are written.
    pub codec: Codec<A>,
    /// When messages are answered.
    pub ack: Ack,
    /// The database's number.
    pub database: u64,
    /// The log's number in it.
    pub log: u64,
    /// How large segments are.
    pub segment_bytes: usize,
    /// No debt has a number from here on; the same for all shards.
    pub first_debt: u64,
    /// How far all logs have come, shared by all shards.
    pub durability: Arc<Durability>,
}

/// A batch to be written to a log, with one write, at its place.
pub struct Write {
    /// The log's segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// The batch, sealed.
    pub batch: BatchWriter,
}

/// A message that was told and is owed.
struct Owed {
    told_in: Epoch,
    sender: OwnerId,
    due: Option<Time>,
    message: Box<[u8]>,
    /// When it was paid, if a snapshot sees it still owed.
    paid_in: Option<Epoch>,
}

/// An answer that waits until an epoch is durable.
enum Held<A: Actor> {
    Answer(ReturnAddress, Outcome<A>),
    Batch(Batch<A>),
}

/// A segment that was begun, and the latest epoch that it says something of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its number.
    pub segment: u64,
    /// Where the log went on in it.
    pub tail: Tail,
    /// The latest epoch something in it was committed in, or that it closes.
    pub through: Epoch,
}

/// A shard's side of its log.
pub(crate) struct Journal<A: Actor> {
    codec: Codec<A>,
    pub(crate) ack: Ack,
    shard: ShardIndex,
    shards: usize,
    durability: Arc<Durability>,
    id: SegmentId,
    offset: usize,
    segment_bytes: usize,
    tail: Tail,
    /// Oldest first; the last is being written.
    begun: VecDeque<Begun>,
    /// The records of the message that is about to succeed. Empty between messages.
    staged: BatchWriter,
    filling: BatchWriter,
    /// The epoch of the records that come next in it, if it says so.
    marked: Option<Epoch>,
    /// Batches that are full and wait for the disk.
    full: VecDeque<BatchWriter>,
    spare: Option<BatchWriter>,
    /// While the disk writes a batch: what it closes.
    in_flight: Option<Epoch>,
    /// What is closed on disk, or will be with what is in flight.
    closed: Epoch,
    /// The latest epoch that this log closes, on disk, and that is closed in all logs that this close awaits: what recovery must find. (Later
    /// epochs may be durable without that, because everybody was idle in them; recovery knows nothing of those, and misses nothing.)
    vouched: Epoch,
    /// The logs that this close awaits.
    awaits: Logs,
    /// The latest epoch of a record of this log.
    recorded: Epoch,
    /// The latest epoch that something was committed in which this shard has shown, or may show.
    shown: Epoch,
    /// How far everything is durable, as far as this shard knows.
    durable: Epoch,
    is_active: bool,
    held: VecDeque<(Epoch, Held<A>)>,
    /// Answers that came from other shards, where they were held.
    arrived: Vec<(ReturnAddress, Outcome<A>)>,
    /// Somebody else waits for this epoch to be durable.
    wanted: Option<Epoch>,
    /// What [`Durability`] was last told of who waits here.
    told_wanted: Option<Epoch>,
    debts: BTreeMap<Debt, Owed>,
    /// Debts that are paid and kept for snapshots, in the order they were paid.
    paid: VecDeque<(Epoch, Debt)>,
    next_debt: u64,
    /// How many shards have said that all they paid before this epoch they have told of.
    marks: (Epoch, usize),
    bytes: u64,
    batches: u64,
}

impl<A: Actor> Journal<A> {
    pub(crate) fn new(shard: ShardIndex, shards: usize, start: LogStart<A>) -> Self {
        let LogStart { codec, ack, database, log, segment_bytes, first_debt, durability } = start;
        let durable = durability.durable();
        Journal {
            codec,
            ack,
            shard,
            shards,
            id: SegmentId { database, log, segment: 0 },
            offset: 0,
            segment_bytes,
            tail: Tail::default(),
            begun: VecDeque::from([Begun { segment: 0, tail: Tail::default(), through: Epoch(0) }]),
            staged: BatchWriter::new(),
            filling: BatchWriter::new(),
            marked: None,
            full: VecDeque::new(),
            spare: None,
            in_flight: None,
            closed: durable,
            vouched: durable,
            awaits: Logs::default(),
            recorded: durable,
            shown: durable,
            durable,
            is_active: false,
            held: VecDeque::new(),
            arrived: Vec::new(),
            wanted: None,
            told_wanted: None,
            debts: BTreeMap::new(),
            paid: VecDeque::new(),
            next_debt: first_debt.next_multiple_of(shards as u64) + u64::from(shard.0),
            marks: (Epoch(0), 0),
            durability,
            bytes: 0,
            batches: 0,
        }
    }

    /// The largest batch.
    fn batch_max(&self) -> usize {
        self.segment_bytes.min(BATCH_MAX)
    }

    /// Whether answers wait.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        self.ack == Ack::Durable && !fault::is_on(Fault::AnswerEarly)
    }

    /// The shard may commit something from now on. The line is loaded afterwards.
    #[inline]
    pub(crate) fn activate(&mut self) {
        if !self.is_active {
            self.durability.activate(self.shard);
            self.is_active = true;
        }
    }

    /// Something that was committed in `epoch` may be seen here.
    pub(crate) fn show(&mut self, epoch: Epoch) {
        self.shown = self.shown.max(epoch);
    }

    pub(crate) fn shown(&self) -> Epoch {
        self.shown
    }

    /// Moves the records that are staged into the batch that is being filled: they were committed in `epoch`.
    #[inline]
    fn commit(&mut self, epoch: Epoch) {
        if self.staged.is_empty() {
            return;
        }
        if self.filling.len() + self.staged.len() > self.batch_max() {
            self.turn_over(epoch);
        }
        self.mark_epoch(epoch);
        self.staged.move_since(BatchWriter::EMPTY, &mut self.filling);
        self.recorded = self.recorded.max(epoch);
        self.shown = self.shown.max(epoch);
    }

    #[inline]
    fn mark_epoch(&mut self, epoch: Epoch) {
        if self.marked != Some(epoch) {
            self.marked = Some(epoch);
            self.filling.push_with(|to| write_epoch(epoch, to));
        }
    }

    /// The batch is full, and so are others, if what is staged needs more than one.
    #[cold]
    fn turn_over(&mut self, epoch: Epoch) {
        loop {
            if !self.filling.is_empty() {
                let next = self.spare.take().unwrap_or_default();
                self.full.push_back(std::mem::replace(&mut self.filling, next));
                self.marked = None;
            }
            if self.staged.len() + EPOCH_RECORD <= self.batch_max() {
                return;
            }
            self.mark_epoch(epoch);
            while self.staged.first_record() + self.filling.len() <= self.batch_max() {
                self.staged.move_first(&mut self.filling);
            }
        }
    }

    /// The most a record may have.
    fn record_max(&self) -> usize {
        self.batch_max() - HEADER - EPOCH_RECORD - 4
    }

    /// Records what an object at home here is since `epoch`. That it can be written was made sure of.
    pub(crate) fn settle(
        &mut self,
        id: &A::Id,
        ownership: Ownership,
        state: Option<&A::State>,
        epoch: Epoch,
    ) {
        let staged = self.staged.push(|to| write_object(id, ownership, state, to));
        staged.expect("a state that could be serialized at the lock point can be at home");
        self.commit(epoch);
    }

    /// Records that a debt was paid in `epoch`.
    pub(crate) fn pay(&mut self, debt: Debt, epoch: Epoch) {
        self.staged.push_with(|to| write_paid(debt, to));
        self.commit(epoch);
    }

    /// Whom this shard, or another, owes `debt`.
    pub(crate) fn debtor(&self, debt: Debt) -> ShardIndex {
        ShardIndex((debt.0 % self.shards as u64) as u16)
    }

    /// A debt of this shard's was paid in `epoch`. It is kept if a snapshot sees it owed.
    pub(crate) fn is_paid(&mut self, debt: Debt, epoch: Epoch, line: &Line) {
        let Some(owed) = self.debts.get_mut(&debt) else { return };
        if line.has_snapshot() && owed.told_in < line.newest_snapshot && line.watermark <= epoch {
            owed.paid_in = Some(epoch);
            self.paid.push_back((epoch, debt));
        } else {
            self.debts.remove(&debt);
        }
    }

    /// Forgets debts that are paid and that no snapshot sees any more.
    pub(crate) fn forget_paid(&mut self, line: &Line) {
        while let Some((epoch, debt)) = self.paid.front()
            && *epoch < line.watermark
        {
            self.debts.remove(debt);
            self.paid.pop_front();
        }
    }

    /// Another shard has told of everything it paid before `epoch`.
    pub(crate) fn mark(&mut self, epoch: Epoch) {
        match epoch.cmp(&self.marks.0) {
            // For a checkpoint that was given up; of some shards the mark for the next has come already.
            Ordering::Less => {}
            Ordering::Equal => self.marks.1 += 1,
            Ordering::Greater => self.marks = (epoch, 1),
        }
    }

    pub(crate) fn arrived(&mut self, to: ReturnAddress, outcome: Outcome<A>) {
        self.arrived.push((to, outcome));
    }

    /// Whether there is nothing to be written.
    fn is_written(&self) -> bool {
        self.filling.is_empty() && self.full.is_empty() && self.in_flight.is_none()
    }

    /// At the end of a turn: what it answered waits, if it has to.
    pub(crate) fn hold(&mut self, effects: &mut Effects<A>) {
        if !self.holds() {
            // Answers for other shards are in their outboxes.
        } else if self.shown > self.durable {
            let need = self.shown;
            let answers = effects.answers.drain(..).map(|(to, outcome)| (need, Held::Answer(to, outcome)));
            self.held.extend(answers);
            self.held.extend(effects.batches.drain(..).map(|batch| (need, Held::Batch(batch))));
        } else {
            self.send_abroad(effects);
        }
        effects.answers.append(&mut self.arrived);
    }

    /// Puts answers for other shards into their outboxes.
    fn send_abroad(&mut self, effects: &mut Effects<A>) {
        let Effects { answers, outboxes, .. } = effects;
        for (to, outcome) in answers.extract_if(.., |(to, _)| is_abroad(*to, self.shard)) {
            if let ReturnAddress::Shard { shard, call } = to {
                outboxes[shard.index()].push_back(Envelope::Answer { call, outcome });
            }
        }
    }

    /// Finds out how far everything is durable and lets go of the answers that waited for it. Says whether somebody else has what they
    /// waited for.
    fn release(&mut self, epochs: &crate::epoch::Epochs, effects: &mut Effects<A>) -> bool {
        let mut has_wanted = false;
        loop {
            self.durable = self.durability.advance(epochs);
            while let Some((need, _)) = self.held.front()
                && *need <= self.durable
            {
                match self.held.pop_front() {
                    Some((_, Held::Answer(ReturnAddress::Shard { shard, call }, outcome)))
                        if shard != self.shard =>
                    {
                        effects.outboxes[shard.index()].push_back(Envelope::Answer { call, outcome });
                    }
                    Some((_, Held::Answer(to, outcome))) => effects.answers.push((to, outcome)),
                    Some((_, Held::Batch(batch))) => effects.batches.push(batch),
                    None => {}
                }
            }
            if self.wanted.is_some_and(|wanted| wanted <= self.durable) {
                self.wanted = None;
                has_wanted = true;
            }
            let wanted = self.held.front().map(|(need, _)| *need).into_iter().chain(self.wanted).min();
            if wanted == self.told_wanted {
                return has_wanted;
            }
            self.told_wanted = wanted;
            self.durability.want(self.shard, wanted);
            if wanted.is_none() {
                return has_wanted;
            }
            // It may have become durable before anybody could know of it.
        }
    }
}

fn is_abroad(to: ReturnAddress, shard: ShardIndex) -> bool {
    matches!(to, ReturnAddress::Shard { shard: at, .. } if at != shard)
}

impl<A: Actor> Desk<A> {
    /// Whether it has a log and nothing under way: then it is in no epoch.
    pub(crate) fn rests(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| !journal.is_active)
    }

    /// Stages the records of what the running message did, before anybody sees it.
    ///
    /// # Errors
    /// Something of it cannot be written; then nothing is staged.
    pub(crate) fn stage(&mut self, first_before: Option<&BeforeImage<A>>) -> Result<(), RecordError> {
        let Desk { journal, partition, before, told, .. } = self;
        let Some(journal) = journal else { return Ok(()) };
        let record_max = journal.record_max();
        let staged = quietly(|| {
            let written = first_before.into_iter().chain(&*before).map(BeforeImage::written);
            push_objects(&mut journal.staged, partition, written, record_max)?;
            journal.stage_told(told, record_max)
        });
        if staged.is_err() {
            journal.staged.truncate(BatchWriter::EMPTY);
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
        journal.mark_epoch(line.epoch);
        let (mark, record_max) = (journal.filling.mark(), journal.record_max());
        let filling = &mut journal.filling;
        let recorded = quietly(|| {
            push_objects(filling, partition, first.into_iter(), record_max)?;
            push_objects(filling, partition, before.iter().map(BeforeImage::written), record_max)
        });
        if recorded.is_err() {
            journal.filling.truncate(mark);
            return recorded;
        }
        if journal.filling.mark() == mark {
            // All of it is at home elsewhere.
            return Ok(());
        }
        if journal.filling.len() > journal.batch_max() {
            journal.filling.move_since(mark, &mut journal.staged);
            journal.commit(line.epoch);
        }
        journal.recorded = journal.recorded.max(line.epoch);
        journal.shown = journal.shown.max(line.epoch);
        Ok(())
    }

    /// The running message is undone after all.
    pub(crate) fn unstage(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.staged.truncate(BatchWriter::EMPTY);
        }
    }

    /// The running message has succeeded in this epoch: what was staged is recorded, and what it told is owed.
    pub(crate) fn commit(&mut self) {
        let Desk { journal, told, line, .. } = self;
        let Some(journal) = journal else { return };
        for told in told {
            if let Some((debt, message)) = told.owed.take() {
                let owed =
                    Owed { told_in: line.epoch, sender: told.sender, due: told.due, message, paid_in: None };
                journal.debts.insert(debt, owed);
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

/// Adds what these objects are now to a batch.
#[inline(always)]
fn push_objects<A: Actor>(
    batch: &mut BatchWriter,
    partition: &Partition<A>,
    written: impl Iterator<Item = Written>,
    record_max: usize,
) -> Result<(), RecordError> {
    for (slot, existed) in written {
        let slot = partition.slot(slot);
        if slot.state.is_some() || existed {
            let mark = batch.mark();
            batch.push(|to| write_object(&slot.id, slot.ownership(), slot.state.as_ref(), to))?;
            check_length(batch, mark, record_max)?;
            if !slot.live {
                // It is recorded at home. Here it was made sure that it can be.
                batch.truncate(mark);
            }
        }
    }
    Ok(())
}

#[inline]
fn check_length(batch: &BatchWriter, mark: (usize, u32), max: usize) -> Result<(), RecordError> {
    let bytes = batch.len() - mark.0;
    if bytes > max { Err(RecordError::TooLong { bytes, max }) } else { Ok(()) }
}

impl<A: Actor> Journal<A> {
    fn stage_told(&mut self, told: &mut [Told<A>], record_max: usize) -> Result<(), RecordError> {
        for told in told {
            let mut message = Vec::new();
            (self.codec.encode)(&told.message, &mut message)?;
            let debt = Debt(self.next_debt);
            self.next_debt += self.shards as u64;
            let mark = self.staged.mark();
            self.staged.push_with(|to| write_owe(debt, told.sender, told.due, &message, to));
            check_length(&self.staged, mark, record_max)?;
            told.owed = Some((debt, message.into()));
        }
        Ok(())
    }
}

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Gives the shard, which is empty, a log.
    #[must_use]
    pub fn with_log(mut self, start: LogStart<A>) -> Self {
        let (shard, shards) = (self.desk.shard, self.desk.router.shards());
        self.desk.journal = Some(Box::new(Journal::new(shard, shards, start)));
        self.desk.unsealed = self.desk.sealed();
        self.desk.line.epoch = NO_EPOCH;
        self
    }

    /// The next batch for the disk, if there is one and the disk has written the last. It is to be written at its place, with one write and
    /// one sync, and [`Shard::written`] is to be told when it is; if it cannot be written, the shard must not go on.
    ///
    /// To be called after every turn, and whenever a batch is written.
    pub fn next_write(&mut self, now: Time) -> Option<Write> {
        let Desk { journal, line, mvcc, in_doubt, shard, .. } = &mut self.desk;
        let journal = journal.as_mut().filter(|journal| journal.is_active && journal.in_flight.is_none())?;
        if journal.durability.have_closed(journal.awaits, journal.closed) {
            journal.vouched = journal.closed;
        }
        let durable = journal.vouched;
        if let Some(batch) = journal.full.pop_front() {
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
        *line = mvcc.epochs().line();
        let mut closed = Epoch(line.epoch.0 - 1);
        if let Some((oldest, _)) = in_doubt.front()
            && !fault::is_on(Fault::CloseInDoubt)
        {
            closed = closed.min(Epoch(oldest.0 - 1));
        }
        let closed = closed.max(journal.closed);
        if is_empty && closed == journal.closed {
            return None;
        }
        if closed > journal.closed && !fault::is_on(Fault::AwaitNobody) {
            journal.awaits = journal.durability.name(*shard, closed);
        }
        let awaits = journal.awaits;
        let next = journal.spare.take().unwrap_or_default();
        let batch = std::mem::replace(&mut journal.filling, next);
        journal.marked = None;
        Some(journal.seal(batch, Marks { closed, durable, time: now, awaits }))
    }

    /// The batch that [`Shard::next_write`] gave is on disk; here it is back.
    pub fn written(&mut self, mut batch: BatchWriter) {
        let Some(journal) = &mut self.desk.journal else { return };
        let Some(closed) = journal.in_flight.take() else { return };
        journal.durability.close(journal.shard, closed);
        batch.clear();
        journal.spare = Some(batch);
    }

    /// Lets go of the answers whose epochs are durable now, and is idle if nothing is under way. Says whether somebody who waited by
    /// [`Shard::want_durable`] has what they waited for.
    ///
    /// To be called after every turn, whenever a batch is written, and whenever another shard says that more is durable.
    pub fn release(&mut self, effects: &mut Effects<A>) -> bool {
        let Desk { journal, line, mvcc, in_doubt, .. } = &mut self.desk;
        let Some(journal) = journal else { return false };
        let is_through = journal.is_written() && journal.closed >= journal.recorded && in_doubt.is_empty();
        if journal.is_active && is_through && journal.durability.rest(journal.shard) {
            journal.is_active = false;
            line.epoch = NO_EPOCH;
        }
        let has_wanted = journal.release(mvcc.epochs(), effects);
        let epoch = mvcc.epochs().epoch();
        if journal.is_active || journal.told_wanted != Some(epoch) {
            return has_wanted;
        }
        // Who waits here may be the only one who wants it to end: what a transaction wrote elsewhere, and was shown here, may have left no
        // record there (it removed what did not exist), and then no log will ever close it.
        mvcc.epochs().advance(epoch);
        journal.release(mvcc.epochs(), effects) || has_wanted
    }

    /// Whether [`Shard::next_write`] or [`Shard::release`] could do something.
    #[inline]
    pub fn has_log_work(&self) -> bool {
        self.desk.journal.as_ref().is_some_and(|journal| {
            journal.is_active
                && journal.in_flight.is_none()
                && (self.desk.in_doubt.is_empty() || !journal.filling.is_empty() || !journal.full.is_empty())
        })
    }

    /// Whether the disk writes a batch.
    pub fn is_writing(&self) -> bool {
        self.desk.journal.as_ref().is_some_and(|journal| journal.in_flight.is_some())
    }

    /// How many bytes were given to the disk, and in how many batches.
    pub fn log_written(&self) -> (u64, u64) {
        self.desk.journal.as_ref().map_or((0, 0), |journal| (journal.bytes, journal.batches))
    }

    /// Whether nothing is under way: all is on disk, in all logs that matter, and nobody waits.
    pub fn is_log_settled(&self) -> bool {
        self.desk.journal.as_ref().is_none_or(|journal| !journal.is_active && journal.held.is_empty())
    }

    /// The latest epoch that something was committed in which this shard may have shown.
    pub fn shown(&self) -> Epoch {
        self.desk.journal.as_ref().map_or(Epoch(0), |journal| journal.shown)
    }

    /// A number from which on no debt of this shard has one.
    pub fn next_debt(&self) -> u64 {
        self.desk.journal.as_ref().map_or(0, |journal| journal.next_debt)
    }

    /// How many bytes wait for the disk.
    pub fn log_backlog(&self) -> usize {
        let waiting = |journal: &Journal<A>| {
            journal.full.iter().map(BatchWriter::len).sum::<usize>() + journal.filling.len()
        };
        self.desk.journal.as_ref().map_or(0, |journal| waiting(journal))
    }

    /// The epoch that has to be durable before anything may be said of what this shard has run; `None` if it is, or if answers do not wait.
    pub fn undurable(&self) -> Option<Epoch> {
        let journal = self.desk.journal.as_ref().filter(|journal| journal.holds())?;
        (journal.shown > journal.durable).then_some(journal.shown)
    }

    /// Holds an answer of this shard's until all it has shown is durable.
    pub fn hold(&mut self, to: ReturnAddress, outcome: Outcome<A>) {
        if let Some(journal) = &mut self.desk.journal {
            let need = journal.shown;
            journal.held.push_back((need, Held::Answer(to, outcome)));
        }
    }

    /// Whether everything up to `epoch` is durable. If not, [`Shard::release`] says when it is.
    pub fn want_durable(&mut self, epoch: Epoch) -> bool {
        let Some(journal) = &mut self.desk.journal else { return true };
        if journal.durable >= epoch {
            return true;
        }
        journal.wanted = Some(journal.wanted.map_or(epoch, |wanted| wanted.min(epoch)));
        false
    }

    /// The segments of the log that are needed, oldest first; those before the last are full.
    pub fn begun(&self) -> impl Iterator<Item = Begun> + '_ {
        self.desk.journal.iter().flat_map(|journal| journal.begun.iter().copied())
    }

    /// Everything before `epoch` is in a checkpoint: forgets the segments that hold nothing later. Returns the first that is needed.
    ///
    /// A segment stays that is on disk with something in it. While its first batch is on the way, the last one may still be empty, or even a
    /// file that is yet to be made, and a manifest that begins with a missing file cannot be opened: then the one before stays as well.
    pub fn trim_log(&mut self, epoch: Epoch) -> Option<Begun> {
        let journal = self.desk.journal.as_mut()?;
        let stay = if journal.in_flight.is_some() { 2 } else { 1 };
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
        let others = self.desk.router.shards() - 1;
        others == 0
            || fault::is_on(Fault::SkipMarks)
            || self.desk.journal.as_ref().is_none_or(|journal| journal.marks == (epoch, others))
    }

    /// Goes on with writing all objects as they were at the start of `snapshot` into batches, as [`Shard::walk_at`] goes by them, until `batch`
    /// has `enough` bytes or `most` slots were seen.
    ///
    /// # Errors
    /// As [`Shard::walk_at`].
    pub fn checkpoint_objects(
        &self,
        snapshot: Epoch,
        from: u32,
        most: usize,
        batch: &mut BatchWriter,
    ) -> Result<Option<u32>, Expired> {
        self.walk_at(snapshot, from, most, |id, ownership, state| {
            let pushed = batch.push(|to| write_object(&id, ownership, Some(state), to));
            pushed.expect("a state that was recorded can be written again");
        })
    }

    /// Writes what this shard owed at the start of `snapshot`, once it [has all marks](Shard::has_marks).
    pub fn checkpoint_debts(&self, snapshot: Epoch, batch: &mut BatchWriter) {
        for (debt, owed) in self.desk.journal.iter().flat_map(|journal| &journal.debts) {
            let Owed { told_in, sender, due, message, paid_in } = owed;
            if *told_in < snapshot && paid_in.is_none_or(|paid_in| paid_in >= snapshot) {
                batch.push_with(|to| write_owe(*debt, *sender, *due, message, to));
            }
        }
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
        let owed = Owed { told_in: Epoch(0), sender, due, message: bytes.into(), paid_in: None };
        journal.debts.insert(debt, owed);
        let destination = self.desk.router.destination::<A>(&message, &mut self.desk.scratch);
        let to = match destination {
            Destination::One(to) | Destination::Several(to) => to,
            Destination::Nowhere => self.desk.shard,
        };
        self.desk.told.push(Told { message, to, sender, due, owed: None, debt: Some(debt) });
        self.desk.send_told(effects);
    }

    /// Where the log ends: its segment, and what would come next in it.
    pub fn log_end(&self) -> Option<(u64, Tail)> {
        self.desk.journal.as_ref().map(|journal| (journal.id.segment, journal.tail))
    }
}

impl<A: Actor> Journal<A> {
    /// Seals a batch for the next place in the log.
    fn seal(&mut self, mut batch: BatchWriter, marks: Marks) -> Write {
        if self.offset + batch.padded() > self.segment_bytes {
            self.id.segment += 1;
            self.offset = 0;
            self.begun.push_back(Begun { segment: self.id.segment, tail: self.tail, through: Epoch(0) });
        }
        let offset = self.offset as u64;
        batch.seal(self.id, &mut self.tail, &marks);
        self.offset += batch.padded();
        self.closed = marks.closed;
        self.in_flight = Some(marks.closed);
        let begun = self.begun.back_mut().expect("there is always one");
        // At least: what is still to be filled may be counted too. What it closes counts as well: others may await that, and the segment
        // after it may be lost with the only batch in it.
        begun.through = self.recorded.max(marks.closed);
        self.bytes += batch.padded() as u64;
        self.batches += 1;
        Write { segment: self.id.segment, offset, batch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccessError, Addressees, Inbox, Limits, Mvcc, Objects, PlacementKey, Router};

    /// Bytes by number.
    struct Bytes;

    impl Actor for Bytes {
        type Id = u64;
        type State = Vec<u8>;
        type Message = (u64, usize);
        type Reply = ();
        type Error = AccessError<u64>;

        fn addressees((id, _): &(u64, usize), to: &mut Addressees<u64>) {
            to.write(*id);
        }

        fn receive(
            (id, bytes): &(u64, usize),
            objects: &mut Objects<'_, Self>,
        ) -> Result<(), AccessError<u64>> {
            objects.insert(*id, vec![7; *bytes]).map(drop)
        }
    }

    // A checkpoint's manifest once named a segment as the first that is needed which was still being made: the batch that begins it had been
    // sealed, and its write waited for the file. After a crash then the file was missing, and the directory could not be opened.
    #[test]
    fn a_segment_stays_until_the_next_has_something_in_it() {
        let durability = Arc::new(Durability::new(1, Epoch(0)));
        let mvcc = Arc::new(Mvcc::logged(1, durability.clone()));
        let router = Router::new(PlacementKey(5), 1);
        let shard = Shard::<Bytes>::new(ShardIndex(0), router, Limits::default(), 3, mvcc);
        let mut shard = shard.with_log(LogStart {
            codec: Codec::new(),
            ack: Ack::Durable,
            database: 1,
            log: 2,
            segment_bytes: 8192,
            first_debt: 0,
            durability,
        });
        let (mut inbox, mut effects) = (Inbox::new(), Effects::new(1));
        let mut fill = |shard: &mut Shard<Bytes>| {
            let (message, answer_to) = ((1, 5000), ReturnAddress::Nobody);
            inbox.envelopes.push(Envelope::Message { message, sender: OwnerId(0), answer_to });
            shard.turn(Time(0), &mut inbox, &mut effects);
            shard.next_write(Time(0)).expect("there is something to be written")
        };
        let later = Epoch(u64::MAX);
        let first = fill(&mut shard);
        assert_eq!(first.segment, 0);
        shard.written(first.batch);
        let second = fill(&mut shard);
        assert_eq!((second.segment, shard.trim_log(later).map(|begun| begun.segment)), (1, Some(0)));
        shard.written(second.batch);
        assert_eq!(shard.trim_log(later).map(|begun| begun.segment), Some(1));
    }
}
