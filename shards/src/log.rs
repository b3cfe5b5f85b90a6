//! The format of a shard's log: what stands in a segment, how it is written, and how it is read back after a crash.
//!
//! A *segment* is a file of fixed size, zero-written before it is used. It holds *batches*, one after another, each in whole blocks of
//! 4 KiB: a header, records, and zeros to the end of the last block. A batch is written once and never touched again, and one write of the
//! disk is one batch.
//!
//! ```text
//! 0  magic      "FHLB"       4  crc32c of all that follows, to the end of the records
//! 8  length     of header and records, in bytes      12  records, how many
//! 16 salt       drawn anew each time the segment is used      24  log      32  segment
//! 40 sequence   of the batch in the log, from 0      48  crc of the batch before      52  format version      56  closed epoch
//! 64 records    each: length as u32, then so many bytes
//! ```
//! All numbers are little-endian. Salt, log, segment and sequence tell a batch of this log from what an earlier use of the file left
//! behind, and from one that went astray; the crc of the batch before chains them. A batch is there whole or not at all: that is what the
//! crc is for, as a disk may write the blocks of one write in any order and lose power in between.
//!
//! Reading stops at the first block that does not continue the chain. If any later block of the segment does, with this salt, then something
//! is missing in the middle that had been written: that is *damage*. If none does, the log simply ends there: a *torn tail* is what a
//! crash leaves of a batch nobody was told of.

use thiserror::Error;

use crate::epoch::Epoch;

/// Batches begin at multiples of this, and are padded to it.
pub const BLOCK: usize = 4096;
/// Bytes of a batch's header.
pub const HEADER: usize = 64;
/// What this code writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// The largest batch: what it holds must fit the segment, and its length the header.
pub const BATCH_MAX: usize = 16 << 20;

const MAGIC: [u8; 4] = *b"FHLB";

/// Which use of which file of which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentId {
    /// Drawn at random each time the segment is used.
    pub salt: u64,
    /// The log's number in the database.
    pub log: u64,
    /// The segment's number in the log; counts up.
    pub segment: u64,
}

/// Where a log goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The number of the next batch.
    pub sequence: u64,
    /// The crc of the batch before; 0 before the first.
    pub previous: u32,
}

/// A batch being filled. Its memory is used again.
#[derive(Debug)]
pub struct BatchWriter {
    /// Header, records and, once sealed, padding.
    bytes: Vec<u8>,
    records: u32,
}

impl Default for BatchWriter {
    fn default() -> Self {
        BatchWriter::new()
    }
}

/// A record that no batch can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a record of {bytes} bytes does not fit a batch of {BATCH_MAX}: keep object states smaller")]
pub struct TooLong {
    /// Its length.
    pub bytes: usize,
}

impl BatchWriter {
    /// An empty batch.
    pub fn new() -> Self {
        BatchWriter { bytes: vec![0; HEADER], records: 0 }
    }

    /// Whether there are no records in it.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How long it is, header and all, without padding.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record, which `write` appends to what it is given.
    ///
    /// # Errors
    /// [`TooLong`], and the batch is as before.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooLong> {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let length = self.bytes.len() - from - 4;
        if self.bytes.len() > BATCH_MAX {
            self.bytes.truncate(from);
            return Err(TooLong { bytes: length });
        }
        self.bytes[from..from + 4].copy_from_slice(&(length as u32).to_le_bytes());
        self.records += 1;
        Ok(())
    }

    /// Finishes the batch for its place in the log, and says how it reads on disk. `tail` goes on behind it.
    pub fn seal(&mut self, segment: SegmentId, tail: &mut Tail, closed: Epoch) -> &[u8] {
        let length = self.bytes.len();
        let mut put = |at: usize, bytes: &[u8]| self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &(length as u32).to_le_bytes());
        put(12, &self.records.to_le_bytes());
        put(16, &segment.salt.to_le_bytes());
        put(24, &segment.log.to_le_bytes());
        put(32, &segment.segment.to_le_bytes());
        put(40, &tail.sequence.to_le_bytes());
        put(48, &tail.previous.to_le_bytes());
        put(52, &VERSION.to_le_bytes());
        put(56, &closed.0.to_le_bytes());
        let crc = crc32c::crc32c(&self.bytes[8..]);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self.bytes.resize(length.next_multiple_of(BLOCK), 0);
        *tail = Tail { sequence: tail.sequence + 1, previous: crc };
        &self.bytes
    }

    /// Forgets everything but its memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER);
        self.bytes.fill(0);
        self.records = 0;
    }
}

/// A batch as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Where it begins in the segment.
    pub offset: usize,
    /// Its number in the log.
    pub sequence: u64,
    /// Nothing of this epoch or an earlier one comes in later batches.
    pub closed: Epoch,
    records: &'a [u8],
    count: u32,
}

impl<'a> Batch<'a> {
    /// Its records, in the order they were written. The crc has vouched for their bytes; a length beyond them ends the list.
    pub fn records(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut rest, mut left) = (self.records, self.count);
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let (record, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = behind;
            Some(record)
        })
    }
}

/// Why a block does not continue a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Invalid {
    /// It does not begin as a batch does: never written in this use of the segment, or overwritten.
    #[error("no batch begins here")]
    NotABatch,
    /// Its crc is not that of its bytes.
    #[error("the checksum does not match: written in part, or changed since")]
    Checksum,
    /// It is of another log, segment or use of the segment.
    #[error("a batch of another log, segment or use of the segment")]
    Strange,
    /// It is whole, and not the one that comes next.
    #[error("batch {found} where {expected} was expected, or it does not follow the one before")]
    OutOfOrder {
        /// Its number.
        found: u64,
        /// The number of the one that should be here.
        expected: u64,
    },
    /// It was written by a version of this program that this one does not know.
    #[error("format version {found}, and this program reads version {VERSION}")]
    Version {
        /// The version.
        found: u32,
    },
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last block.
    Full,
    /// At `offset` there is nothing that continues it, nor behind.
    Tail {
        /// Where.
        offset: usize,
        /// What is there instead.
        found: Invalid,
    },
}

/// Something is missing that had been written: later batches of the same segment are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "damaged at byte {offset}: {found}; batch {later} follows at byte {at}, so what stood here had been written"
)]
pub struct Damage {
    /// Where the segment can no longer be read.
    pub offset: usize,
    /// What is there.
    pub found: Invalid,
    /// The number of the first batch that can be read again.
    pub later: u64,
    /// Where that begins.
    pub at: usize,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a header has all its fields")
}

/// The batch that begins at `offset`, whatever its place in the log, with its crc and that of the one before it.
fn read(bytes: &[u8], offset: usize, segment: SegmentId) -> Result<(Batch<'_>, u32, u32), Invalid> {
    let block = &bytes[offset..];
    if block.len() < HEADER || block[..4] != MAGIC {
        return Err(Invalid::NotABatch);
    }
    let length = u32::from_le_bytes(number(block, 8)) as usize;
    let whole =
        block.get(..length).filter(|_| (HEADER..=BATCH_MAX).contains(&length)).ok_or(Invalid::Checksum)?;
    let crc = u32::from_le_bytes(number(block, 4));
    if crc32c::crc32c(&whole[8..]) != crc {
        return Err(Invalid::Checksum);
    }
    let found = SegmentId {
        salt: u64::from_le_bytes(number(block, 16)),
        log: u64::from_le_bytes(number(block, 24)),
        segment: u64::from_le_bytes(number(block, 32)),
    };
    if found != segment {
        return Err(Invalid::Strange);
    }
    let version = u32::from_le_bytes(number(block, 52));
    if version != VERSION {
        return Err(Invalid::Version { found: version });
    }
    let batch = Batch {
        offset,
        sequence: u64::from_le_bytes(number(block, 40)),
        closed: Epoch(u64::from_le_bytes(number(block, 56))),
        records: &whole[HEADER..],
        count: u32::from_le_bytes(number(block, 12)),
    };
    Ok((batch, crc, u32::from_le_bytes(number(block, 48))))
}

/// Reads a segment from its beginning, where the log goes on from `tail`: gives each batch to `each`, and says how the segment ends. `tail` is
/// then where the log ends.
///
/// # Errors
/// [`Damage`], when the batches before it have been given.
pub fn scan<'a>(
    bytes: &'a [u8],
    segment: SegmentId,
    tail: &mut Tail,
    mut each: impl FnMut(Batch<'a>),
) -> Result<End, Damage> {
    let mut offset = 0;
    while offset < bytes.len() {
        let found = match read(bytes, offset, segment) {
            Ok((batch, crc, previous)) if (batch.sequence, previous) == (tail.sequence, tail.previous) => {
                *tail = Tail { sequence: tail.sequence + 1, previous: crc };
                offset += (HEADER + batch.records.len()).next_multiple_of(BLOCK);
                each(batch);
                continue;
            }
            Ok((batch, ..)) => Invalid::OutOfOrder { found: batch.sequence, expected: tail.sequence },
            Err(found) => found,
        };
        // An older batch of this very use cannot lie behind: each was written once, and behind the one before.
        for at in (offset + BLOCK..bytes.len()).step_by(BLOCK) {
            if let Ok((batch, ..)) = read(bytes, at, segment) {
                return Err(Damage { offset, found, later: batch.sequence, at });
            }
        }
        return Ok(End::Tail { offset, found });
    }
    Ok(End::Full)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEGMENT: SegmentId = SegmentId { salt: 0x5a17, log: 3, segment: 12 };

    /// A segment with these batches, and where each ends.
    fn segment(batches: &[Vec<Vec<u8>>], blocks: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends, mut tail) = (Vec::new(), Vec::new(), Tail::default());
        let mut writer = BatchWriter::new();
        for (at, records) in batches.iter().enumerate() {
            for record in records {
                writer.push(|to| to.extend_from_slice(record)).expect("it fits");
            }
            bytes.extend_from_slice(writer.seal(SEGMENT, &mut tail, Epoch(at as u64)));
            writer.clear();
            ends.push(bytes.len());
        }
        bytes.resize(bytes.len() + blocks * BLOCK, 0);
        (bytes, ends)
    }

    fn read_all(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, Result<End, Damage>) {
        let mut batches = Vec::new();
        let end = scan(bytes, SEGMENT, &mut Tail::default(), |batch| {
            assert_eq!(batch.sequence as usize, batches.len());
            assert_eq!(batch.closed.0 as usize, batches.len());
            batches.push(batch.records().map(<[u8]>::to_vec).collect());
        });
        (batches, end)
    }

    fn batches() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let record = proptest::collection::vec(any::<u8>(), 0..600);
        proptest::collection::vec(proptest::collection::vec(record, 0..20), 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 2 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_was_written_is_read(batches in batches(), blocks in 0_usize..4) {
            let (bytes, ends) = segment(&batches, blocks);
            let (found, end) = read_all(&bytes);
            prop_assert_eq!(found, batches);
            let offset = *ends.last().expect("there is one");
            let expected = if blocks == 0 { End::Full } else { End::Tail { offset, found: Invalid::NotABatch } };
            prop_assert_eq!(end, Ok(expected));
        }

        // A bit flips, anywhere: what is read before it is what was written, and unless it lies in padding or in the last batch, it is named.
        #[test]
        fn a_flipped_bit_is_noticed(batches in batches(), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let (mut bytes, ends) = segment(&batches, 1);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (found, end) = read_all(&bytes);
            let hit = ends.iter().position(|end| at < *end);
            match (hit, end) {
                // Padding, or behind the log.
                (_, Ok(End::Tail { offset, .. })) if found == batches => {
                    prop_assert_eq!(offset, *ends.last().expect("there is one"));
                }
                // As a torn tail reads.
                (Some(hit), Ok(End::Tail { offset, .. })) => {
                    prop_assert_eq!(hit + 1, batches.len());
                    prop_assert_eq!(&found, &batches[..hit]);
                    prop_assert_eq!(offset, if hit == 0 { 0 } else { ends[hit - 1] });
                }
                (Some(hit), Err(damage)) => {
                    prop_assert!(hit + 1 < batches.len());
                    prop_assert_eq!(&found, &batches[..hit]);
                    prop_assert_eq!(damage.offset, if hit == 0 { 0 } else { ends[hit - 1] });
                    prop_assert_eq!((damage.later as usize, damage.at), (hit + 1, ends[hit]));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        // A crash keeps any of the blocks of the last batch: it is read whole or not at all.
        #[test]
        fn a_torn_batch_is_no_batch(batches in batches(), kept in any::<u64>()) {
            let (mut bytes, ends) = segment(&batches, 1);
            let last = ends.len() - 1;
            let from = if last == 0 { 0 } else { ends[last - 1] };
            let mut is_torn = false;
            for (block, at) in (from..ends[last]).step_by(BLOCK).enumerate() {
                if kept >> (block % 64) & 1 == 0 {
                    is_torn |= bytes[at..at + BLOCK].iter().any(|byte| *byte != 0);
                    bytes[at..at + BLOCK].fill(0);
                }
            }
            let (found, end) = read_all(&bytes);
            prop_assert!(matches!(end, Ok(End::Tail { .. })), "{:?}", end);
            prop_assert_eq!(&found[..], if is_torn { &batches[..last] } else { &batches[..] });
        }

        // Whatever the bytes: no panic, and nothing is made up.
        #[test]
        fn any_bytes_are_read_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..3 * BLOCK), starts in any::<bool>()) {
            if starts && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&MAGIC);
            }
            let (found, end) = read_all(&bytes);
            prop_assert!(found.is_empty() && end.is_ok(), "{:?}", end);
        }
    }

    // What an earlier use of the file left behind continues nothing, though it is whole.
    #[test]
    fn what_was_there_before_is_strange() {
        let (mut bytes, ends) = segment(&[vec![vec![1; 10]], vec![vec![2; 10]]], 1);
        let mut tail = Tail::default();
        let mut writer = BatchWriter::new();
        writer.push(|to| to.push(9)).expect("it fits");
        let again = SegmentId { salt: 77, ..SEGMENT };
        bytes[..BLOCK].copy_from_slice(writer.seal(again, &mut tail, Epoch(4)));
        let mut found = 0;
        let end = scan(&bytes, again, &mut Tail::default(), |_| found += 1);
        assert_eq!((found, end), (1, Ok(End::Tail { offset: ends[0], found: Invalid::Strange })));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_nothing() {
        let mut writer = BatchWriter::new();
        writer.push(|to| to.push(1)).expect("it fits");
        let before = writer.len();
        let bytes = BATCH_MAX;
        assert_eq!(writer.push(|to| to.resize(to.len() + bytes, 0)), Err(TooLong { bytes }));
        assert_eq!((writer.len(), writer.is_empty()), (before, false));
    }
}
