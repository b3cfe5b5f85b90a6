//! A part of a checkpoint, in the format of a segment: how it is written batch by batch, and how it
//! is read back, before anything relies on it.
//!
//! [`PartWriter`] ends a batch when it is long enough, or when the next record does not fit; so a
//! part holds any number of records of any length that the log takes. A part has at least one
//! batch. [`PartReader`] reads one batch at a time: that is all it needs in memory.

use thiserror::Error;

use crate::epoch::published::Expired;
use crate::log::batch::{Damage, Marks, SegmentId, Tail, batch_bytes, scan};
use crate::log::bounds::{Bounds, TooLong};
use crate::log::record::Record;
use crate::log::recovery::Survey;
use crate::log::refused::RecordError;
use crate::log::writer::{BatchWriter, Records, Wrote};

/// Why a part cannot be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PartError {
    /// The checkpoint that it is a part of has ended.
    #[error("no checkpoint of this epoch is being made any more")]
    Expired,
    /// A state that the log took cannot be written again.
    #[error("a state that was written to the log cannot be written to a checkpoint: {0}")]
    NotRecorded(RecordError),
}

impl From<Expired> for PartError {
    fn from(_: Expired) -> Self {
        PartError::Expired
    }
}

impl From<RecordError> for PartError {
    fn from(error: RecordError) -> Self {
        PartError::NotRecorded(error)
    }
}

/// What there is of a part, as its writer knows it, or its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartEnd {
    /// What would come behind its last batch.
    pub tail: Tail,
    /// Its length.
    pub bytes: u64,
    /// How many records it has.
    pub records: u64,
}

/// A part that is being written.
#[derive(Debug)]
pub struct PartWriter {
    id: SegmentId,
    enough: usize,
    batch: BatchWriter,
    is_sealed: bool,
    /// The record that did not fit.
    next: Records,
    /// Of what was sealed; of records, also those that wait to be.
    end: PartEnd,
}

impl PartWriter {
    /// Nothing yet, of a database with these bounds. A batch has `enough` when it has so many
    /// bytes.
    pub fn new(id: SegmentId, bounds: Bounds, enough: usize) -> Self {
        let (batch, next) = (BatchWriter::new(bounds), Records::new(bounds));
        PartWriter { id, enough, batch, is_sealed: false, next, end: PartEnd::default() }
    }

    /// Adds a record, which `write` appends. If the writer [is full](PartWriter::is_full) then, its
    /// batch is to be written before more is added.
    pub(crate) fn push<E: From<TooLong>>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.push_one(|records| records.push(write))
    }

    /// Adds a record, which `push` adds to others.
    #[inline]
    pub(crate) fn push_one<E>(&mut self, push: impl FnOnce(&mut Records) -> Result<(), E>) -> Result<(), E> {
        self.begin_next();
        debug_assert!(self.next.is_empty(), "a batch that is full is written before more is added");
        let wrote = self.batch.write(None, &mut self.next, push)?;
        debug_assert!(wrote != Wrote::Nothing);
        self.end.records += 1;
        Ok(())
    }

    /// Whether there is a batch to be written.
    pub fn is_full(&self) -> bool {
        let is_enough = !self.batch.is_empty() && self.batch.len() >= self.enough;
        !self.is_sealed && (is_enough || !self.next.is_empty())
    }

    /// After a batch was taken, the next begins with what did not fit it.
    fn begin_next(&mut self) {
        if std::mem::take(&mut self.is_sealed) {
            self.batch.clear();
            self.batch.fill(None, &mut self.next);
        }
    }

    /// The next batch as it is to be written, if one [is full](PartWriter::is_full).
    pub fn next_batch(&mut self) -> Option<&[u8]> {
        self.begin_next();
        if self.is_full() { Some(self.seal()) } else { None }
    }

    /// The next of the last batches, when nothing more is to be added; `None` when there is none.
    pub fn last_batch(&mut self) -> Option<&[u8]> {
        self.begin_next();
        let is_first = self.end.tail == Tail::default();
        if is_first || !self.batch.is_empty() { Some(self.seal()) } else { None }
    }

    fn seal(&mut self) -> &[u8] {
        self.is_sealed = true;
        let bytes = self.batch.seal(self.id, &mut self.end.tail, &Marks::default());
        self.end.bytes += bytes.len() as u64;
        bytes
    }

    /// What was written, when [`PartWriter::last_batch`] has nothing more.
    pub fn end(&self) -> PartEnd {
        self.end
    }
}

/// Why a part cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PartFault {
    /// What stands there is no batch, or not the next.
    #[error("byte {offset}: {found}")]
    NotNext {
        /// Where the batch should begin.
        offset: u64,
        /// What there is instead.
        found: crate::log::Invalid,
    },
    /// A record is none that a checkpoint has.
    #[error("byte {offset}: record {record} of the batch there is no object and no message")]
    Record {
        /// Where the batch begins.
        offset: u64,
        /// Which of its records.
        record: usize,
    },
    /// It is whole, and not what was written.
    #[error("it has {found:?}, and {written:?} were written")]
    Other {
        /// What there is.
        found: PartEnd,
        /// What there should be.
        written: PartEnd,
    },
}

/// Reads a part from its beginning and checks all of it: the checksum of each batch, its place,
/// that each record is one.
#[derive(Debug)]
pub struct PartReader {
    id: SegmentId,
    bounds: Bounds,
    end: PartEnd,
}

impl PartReader {
    /// Nothing is read yet.
    pub fn new(id: SegmentId, bounds: Bounds) -> Self {
        PartReader { id, bounds, end: PartEnd::default() }
    }

    /// How many bytes the next batch takes, of which `block` is the first
    /// [`BLOCK`](crate::log::BLOCK).
    ///
    /// # Errors
    /// [`PartFault::NotNext`].
    pub fn batch_bytes(&self, block: &[u8]) -> Result<usize, PartFault> {
        batch_bytes(block, self.bounds).map_err(|found| PartFault::NotNext { offset: self.end.bytes, found })
    }

    /// Checks the next batch.
    ///
    /// # Errors
    /// [`PartFault::NotNext`] or [`PartFault::Record`].
    pub fn read(&mut self, batch: &[u8]) -> Result<(), PartFault> {
        let (offset, mut fault, mut records) = (self.end.bytes, None, 0);
        let scanned = scan(batch, self.id, self.bounds, &mut self.end.tail, |batch| {
            records += u64::from(batch.count());
            let is_strange = |record: &[u8]| {
                !matches!(Record::read(record), Some(Record::Put { .. } | Record::Send { .. }))
            };
            let strange = batch.records().position(is_strange).or(Survey::default().note(&batch).err());
            fault = fault.or(strange);
        });
        match scanned {
            Ok(crate::log::End::Full) => {}
            Ok(crate::log::End::Tail { found, .. }) | Err(Damage { found, .. }) => {
                return Err(PartFault::NotNext { offset, found });
            }
        }
        if let Some(record) = fault {
            return Err(PartFault::Record { offset, record });
        }
        self.end.records += records;
        self.end.bytes += batch.len() as u64;
        Ok(())
    }

    /// All was read: whether it is what was written.
    ///
    /// # Errors
    /// [`PartFault::Other`].
    pub fn finish(self, written: PartEnd) -> Result<(), PartFault> {
        let found = self.end;
        if found == written { Ok(()) } else { Err(PartFault::Other { found, written }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::{SendId, epoch_record, write_send};
    use crate::log::{BLOCK, Invalid};
    use crate::object::OwnerId;

    const ID: SegmentId = SegmentId { database: 1, log: 2, segment: 0, start: 3 };
    const BOUNDS: Bounds = Bounds::of_segments(BLOCK);

    /// A part with messages of these lengths.
    fn part(lengths: &[usize]) -> (Vec<u8>, PartEnd) {
        part_of(lengths, 3000)
    }

    fn part_of(lengths: &[usize], enough: usize) -> (Vec<u8>, PartEnd) {
        let (mut part, mut bytes) = (PartWriter::new(ID, BOUNDS, enough), Vec::new());
        for (at, length) in lengths.iter().enumerate() {
            let message = vec![9; *length];
            part.push(|to| write_send(SendId(at as u64), OwnerId(0), None, &message, BOUNDS.value(), to))
                .expect("it is short enough");
            while let Some(batch) = part.next_batch() {
                bytes.extend_from_slice(batch);
            }
        }
        while let Some(batch) = part.last_batch() {
            bytes.extend_from_slice(batch);
        }
        (bytes, part.end())
    }

    fn read(bytes: &[u8], written: PartEnd) -> Result<(), PartFault> {
        let (mut reader, mut rest) = (PartReader::new(ID, BOUNDS), bytes);
        while !rest.is_empty() {
            let (batch, behind) = rest.split_at(reader.batch_bytes(rest)?.min(rest.len()));
            reader.read(batch)?;
            rest = behind;
        }
        reader.finish(written)
    }

    #[test]
    fn what_is_written_is_read_however_the_lengths_fall() {
        let max = BOUNDS.value();
        for lengths in [
            vec![],
            vec![0],
            vec![max; 5],
            vec![1; 700],
            vec![max, 0, max, 0, 0, max],
            (0..40).map(|at| max - 40 + at).collect(),
        ] {
            for enough in [0, 3000, usize::MAX] {
                let (bytes, end) = part_of(&lengths, enough);
                assert_eq!((end.records, end.bytes), (lengths.len() as u64, bytes.len() as u64));
                assert!(end.tail.sequence > 0, "a part has a batch");
                assert_eq!(read(&bytes, end), Ok(()), "{lengths:?}");
            }
        }
    }

    #[test]
    fn what_is_not_as_it_was_written_is_noticed() {
        let (bytes, end) = part(&[2000; 9]);
        let mut flipped = bytes.clone();
        flipped[2 * BLOCK + 300] ^= 1;
        let at = 2 * BLOCK as u64;
        assert_eq!(read(&flipped, end), Err(PartFault::NotNext { offset: at, found: Invalid::Checksum }));
        // Whole batches that are missing, at the end and in the middle; and one too many in the
        // writer's books.
        let cut = read(&bytes[..bytes.len() - BLOCK], end).expect_err("it is shorter");
        assert!(matches!(cut, PartFault::Other { found, .. } if found.records == 8), "{cut}");
        let gap = [&bytes[..BLOCK], &bytes[2 * BLOCK..]].concat();
        let gap = read(&gap, end).expect_err("one is missing");
        assert!(
            matches!(gap, PartFault::NotNext { offset: 4096, found: Invalid::OutOfOrder { .. } }),
            "{gap}"
        );
        let more = PartEnd { records: end.records + 1, ..end };
        assert_eq!(read(&bytes, more), Err(PartFault::Other { found: end, written: more }));
        let zeros = [&bytes[..], &[0; BLOCK]].concat();
        let offset = bytes.len() as u64;
        assert_eq!(read(&zeros, end), Err(PartFault::NotNext { offset, found: Invalid::NotABatch }));
    }

    #[test]
    fn a_record_that_no_checkpoint_has_is_noticed() {
        let (mut part, mut bytes) = (PartWriter::new(ID, BOUNDS, 3000), Vec::new());
        let strange = epoch_record(crate::epoch::Epoch(1));
        part.push(|to| {
            to.extend_from_slice(&strange);
            Ok::<(), TooLong>(())
        })
        .expect("it is short enough");
        while let Some(batch) = part.last_batch() {
            bytes.extend_from_slice(batch);
        }
        assert_eq!(read(&bytes, part.end()), Err(PartFault::Record { offset: 0, record: 0 }));
    }
}
