//! How batches are written: records one behind another, and batches that hold as many as their
//! bound allows.

use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::batch::{MAGIC, Marks, SegmentId, Tail, VERSION, field};
use crate::log::bounds::{BLOCK, Bounds, EPOCH_RECORD, HEADER, LENGTH, TooLong};
use crate::log::record::epoch_record;

/// How much memory an empty batch keeps.
const KEPT_MAX: usize = 2 << 20;

/// What a short record begins as.
const ZEROS: [u8; 512] = [0; 512];

/// Records one behind another, however many, that are in no batch yet: what a message leaves before
/// it has succeeded, and what did not fit a batch. Each by itself fits one.
#[derive(Debug)]
pub struct Records {
    /// The records, behind as many bytes as a batch's header takes.
    bytes: Vec<u8>,
    count: u32,
    record_max: usize,
}

impl Records {
    /// None yet, of a database with these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Records { bytes: vec![0; HEADER], count: 0, record_max: bounds.record() }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a record, which `write` appends to what it is given.
    ///
    /// # Errors
    /// As `write`, or [`TooLong`]; the records are then as before.
    #[inline]
    pub fn push<E: From<TooLong>>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH]);
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(from);
            return Err(error);
        }
        let bytes = self.bytes.len() - from - LENGTH;
        if bytes > self.record_max {
            self.bytes.truncate(from);
            return Err(TooLong { bytes, max: self.record_max }.into());
        }
        // It is at most `BATCH_MAX`.
        self.bytes[from..from + LENGTH].copy_from_slice(&(bytes as u32).to_le_bytes());
        self.count += 1;
        Ok(())
    }

    /// Adds a record of so many bytes, which `write` puts into its place. Says whether it was
    /// added: it is not if `write` says no.
    #[inline(always)]
    pub(crate) fn push_place(&mut self, bytes: usize, write: impl FnOnce(&mut [u8]) -> bool) -> bool {
        debug_assert!(bytes <= self.record_max, "a-record-fits-a-batch: its length was checked");
        let (from, all) = (self.bytes.len(), LENGTH + bytes);
        match ZEROS.get(..all) {
            // A few stores, as the compiler knows how many; `resize` is a call.
            Some(zeros) => self.bytes.extend_from_slice(zeros),
            None => self.bytes.resize(from + all, 0),
        }
        let (length, place) = self.bytes[from..from + all].split_at_mut(LENGTH);
        length.copy_from_slice(&(bytes as u32).to_le_bytes());
        let is_written = write(place);
        if is_written {
            self.count += 1;
        } else {
            self.bytes.truncate(from);
        }
        is_written
    }

    /// Adds a record that is so short that every batch holds it.
    #[inline]
    pub(crate) fn push_short<const BYTES: usize>(&mut self, record: [u8; BYTES]) {
        const { assert!(BYTES <= Bounds::of_segments(BLOCK).record()) }
        self.bytes.extend_from_slice(&(BYTES as u32).to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.count += 1;
    }

    /// The record that was added at `mark`, as the last.
    pub(crate) fn last_record(&self, mark: (usize, u32)) -> &[u8] {
        &self.bytes[mark.0 + LENGTH..]
    }

    /// Where the next record would go, for [`Records::truncate`].
    #[inline]
    pub(crate) fn mark(&self) -> (usize, u32) {
        (self.bytes.len(), self.count)
    }

    /// Takes back what was added since.
    #[inline]
    pub(crate) fn truncate(&mut self, (bytes, count): (usize, u32)) {
        self.bytes.truncate(bytes);
        self.count = count;
    }

    /// Takes all back.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.truncate((HEADER, 0));
    }

    /// Moves the records since `mark` to the end of `to`.
    #[inline]
    fn move_since(&mut self, mark: (usize, u32), to: &mut Records) {
        to.bytes.extend_from_slice(&self.bytes[mark.0..]);
        to.count += self.count - mark.1;
        self.truncate(mark);
    }

    /// How many of the first records take at most `room` bytes with their lengths, and how many
    /// bytes they take.
    fn prefix(&self, room: usize) -> (usize, u32) {
        let (mut end, mut count) = (HEADER, 0);
        while let Some(length) = self.bytes[end..].first_chunk::<LENGTH>() {
            let next = end + LENGTH + u32::from_le_bytes(*length) as usize;
            if next - HEADER > room {
                break;
            }
            (end, count) = (next, count + 1);
        }
        (end - HEADER, count)
    }
}

/// What became of records that were to be written into a batch together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// There were none.
    Nothing,
    /// They are in the batch.
    Here,
    /// They did not fit behind those that are in the batch already. They are where there is room
    /// for what does not.
    Beside,
}

/// What a batch was before records were pushed that belong together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchMark {
    before: ((usize, u32), Option<Epoch>),
    /// Where they begin.
    mark: (usize, u32),
}

/// A batch being filled. It is never longer than [`Bounds::batch`]: what does not fit is given
/// back. Its memory is used again.
#[derive(Debug)]
pub struct BatchWriter {
    /// Header, records and, once sealed, padding.
    pub(crate) records: Records,
    bounds: Bounds,
    /// The epoch of the records that come next in it, if it says so.
    pub(super) epoch: Option<Epoch>,
}

impl BatchWriter {
    /// An empty batch of a database with these bounds.
    pub fn new(bounds: Bounds) -> Self {
        BatchWriter { records: Records::new(bounds), bounds, epoch: None }
    }

    /// Whether there are no records in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How long it is, header and all, without padding.
    #[inline]
    pub fn len(&self) -> usize {
        self.records.bytes.len()
    }

    /// The longest it may become.
    #[inline]
    fn batch_max(&self) -> usize {
        if fault::is_on(Fault::LongBatch) { usize::MAX } else { self.bounds.batch() }
    }

    /// Says that what comes next was committed in `epoch`, if it does not say so already. A part of
    /// a checkpoint, whose records are of no epoch, never does. There must be room.
    #[inline]
    fn enter(&mut self, epoch: Option<Epoch>) {
        if epoch != self.epoch {
            self.epoch = epoch;
            epoch.into_iter().for_each(|epoch| self.records.push_short(epoch_record(epoch)));
        }
    }

    /// Adds the records that `write` makes, all of them committed in `epoch`. If they do not fit
    /// behind those that are there, they are moved to the end of `beside`.
    ///
    /// # Errors
    /// As `write`; the batch is then as before.
    #[inline]
    pub(crate) fn write<E>(
        &mut self,
        epoch: Option<Epoch>,
        beside: &mut Records,
        write: impl FnOnce(&mut Records) -> Result<(), E>,
    ) -> Result<Wrote, E> {
        let begun = self.begin(epoch);
        let result = write(&mut self.records);
        self.end(begun, beside, result)
    }

    /// What is pushed to [`BatchWriter::records`] from now on was committed in `epoch`, and belongs
    /// together: [`BatchWriter::end`] keeps it or takes it back.
    #[inline(always)]
    pub(crate) fn begin(&mut self, epoch: Option<Epoch>) -> BatchMark {
        let before = (self.records.mark(), self.epoch);
        self.enter(epoch);
        BatchMark { before, mark: self.records.mark() }
    }

    /// See [`BatchWriter::write`]; `result` is what came of it.
    #[inline(always)]
    pub(crate) fn end<E>(
        &mut self,
        begun: BatchMark,
        beside: &mut Records,
        result: Result<(), E>,
    ) -> Result<Wrote, E> {
        match result {
            Ok(()) if self.records.count > begun.mark.1 && self.len() <= self.batch_max() => Ok(Wrote::Here),
            result => self.take_back(begun, beside, result),
        }
    }

    #[cold]
    fn take_back<E>(
        &mut self,
        BatchMark { before, mark }: BatchMark,
        beside: &mut Records,
        result: Result<(), E>,
    ) -> Result<Wrote, E> {
        let is_empty = self.records.mark() == mark;
        if result.is_ok() && !is_empty {
            self.records.move_since(mark, beside);
        }
        self.records.truncate(before.0);
        self.epoch = before.1;
        result.map(|()| if is_empty { Wrote::Nothing } else { Wrote::Beside })
    }

    /// Moves to its end as many of the first of `from` as fit, all of them committed in `epoch`.
    ///
    /// # Panics
    /// If not even the first fits an empty batch: then a bound that was checked before is not this
    /// one.
    #[inline]
    pub(crate) fn fill(&mut self, epoch: Option<Epoch>, from: &mut Records) {
        if from.is_empty() {
            return;
        }
        let says = if epoch.is_some() && epoch != self.epoch { EPOCH_RECORD } else { 0 };
        let room = self.batch_max().saturating_sub(self.len() + says);
        if from.bytes.len() - HEADER <= room {
            self.enter(epoch);
            from.move_since((HEADER, 0), &mut self.records);
            return;
        }
        let (bytes, count) = from.prefix(room);
        assert!(
            count > 0 || !self.is_empty(),
            "a-record-fits-a-batch: its length was checked when it was written"
        );
        if count > 0 {
            self.enter(epoch);
            self.records.bytes.extend(from.bytes.drain(HEADER..HEADER + bytes));
            self.records.count += count;
            from.count -= count;
        }
    }

    /// Adds a record, committed in `epoch`. Says whether it fits; if not, the batch is as before.
    #[must_use]
    pub fn push(&mut self, epoch: Epoch, record: &[u8]) -> bool {
        let (says, epoch) = (if self.epoch == Some(epoch) { 0 } else { EPOCH_RECORD }, Some(epoch));
        let fits = self.len() + says + LENGTH + record.len() <= self.batch_max();
        if fits {
            self.enter(epoch);
            let pushed = self.records.push(|to| {
                to.extend_from_slice(record);
                Ok::<(), TooLong>(())
            });
            pushed.expect("a-record-fits-a-batch: it is one of those that fit this one");
        }
        fits
    }

    /// Says that nothing else was committed in `epoch`: a batch has something to say, though no
    /// record does.
    pub fn push_epoch(&mut self, epoch: Epoch) {
        assert!(self.is_empty(), "there is room for it in a batch that is empty");
        self.enter(Some(epoch));
    }

    /// How many bytes of the segment it will take.
    pub fn padded(&self) -> usize {
        self.len().next_multiple_of(BLOCK)
    }

    /// Finishes the batch for its place in the log, and says how it reads on disk. `tail` goes on
    /// behind it.
    ///
    /// # Panics
    /// If it is longer than [`scan`](crate::log::scan) takes. What a batch holds was accepted, and
    /// is worth nothing if it cannot be read.
    pub fn seal(&mut self, segment: SegmentId, tail: &mut Tail, marks: &Marks) -> &[u8] {
        let Records { bytes: batch, count, .. } = &mut self.records;
        let length = batch.len();
        assert!(
            self.bounds.has_batch(VERSION, length) || fault::is_on(Fault::LongBatch),
            "readable-when-sealed: a batch of {length} bytes, and readers take at most {}",
            self.bounds.batch()
        );
        let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(field::LENGTH, &(length as u32).to_le_bytes());
        put(field::COUNT, &count.to_le_bytes());
        put(field::DATABASE, &segment.database.to_le_bytes());
        put(field::LOG, &segment.log.to_le_bytes());
        put(field::SEGMENT, &segment.segment.to_le_bytes());
        put(field::SEQUENCE, &tail.sequence.to_le_bytes());
        put(field::PREVIOUS, &tail.previous.to_le_bytes());
        put(field::VERSION, &VERSION.to_le_bytes());
        put(field::CLOSED, &marks.closed.0.to_le_bytes());
        put(field::DURABLE, &marks.durable.0.to_le_bytes());
        put(field::TIME, &marks.time.0.to_le_bytes());
        (field::AWAITS..)
            .step_by(8)
            .zip(marks.awaits.words())
            .for_each(|(at, word)| put(at, &word.to_le_bytes()));
        put(field::START, &segment.start.to_le_bytes());
        let crc = crc32c::crc32c(&batch[field::LENGTH..]);
        batch[field::CRC..field::LENGTH].copy_from_slice(&crc.to_le_bytes());
        batch.resize(length.next_multiple_of(BLOCK), 0);
        *tail = Tail { sequence: tail.sequence + 1, previous: crc };
        batch
    }

    /// What was sealed, as it is to be written.
    pub fn sealed(&self) -> &[u8] {
        &self.records.bytes
    }

    /// Forgets everything but its memory.
    pub fn clear(&mut self) {
        self.records.clear();
        // Memory that one large batch needed is given back.
        self.records.bytes.shrink_to(KEPT_MAX);
        self.records.bytes.fill(0);
        self.epoch = None;
    }
}
