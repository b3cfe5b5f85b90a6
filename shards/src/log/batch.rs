//! The format of a shard's log: what stands in a segment, how it is written, and how it is read
//! back after a crash.
//!
//! A *segment* is a file of fixed size, zero-written before it is used. It holds *batches*, one
//! after another, each in whole blocks of 4 KiB: a header, records
//! ([`Record`](crate::log::record::Record)), and zeros to the end of the last block. A batch is
//! written once and never touched again, and one write of the disk is one batch.
//!
//! ```text
//!   0 magic "FHLB"      4 crc32c of all that follows, to the end of the records
//!   8 length, of header and records, in bytes       12 records, how many
//!  16 database         24 log               32 segment
//!  40 sequence, of the batch in the log, from 0     48 crc of the batch before
//!  52 format version
//!  56 closed epoch     64 durable epoch     72 time
//!  80 awaited logs, a bit for each of 256          112 start          120 zero
//! 128 records, each: length as u32, then so many bytes
//! ```
//! All numbers are little-endian. Database, log, segment and sequence tell a batch of this log from
//! what an earlier use of the file left behind, and from one that went astray. No log number is
//! used twice, but for a directory that was brought back from a backup: there the start tells them
//! apart, a random number that every start of a runtime draws. The crc of the batch before chains
//! them. A batch is there whole or not at all: that is what the crc is for, as a disk may write the
//! blocks of one write in any order and lose power in between.
//!
//! Version 1 had no start: its batches say 0 there, and so do the runs of its manifest. Up to
//! version 2 records had no values of fixed width ([`record`](crate::log::record)).
//!
//! Reading stops at the first block that does not continue the chain. If any later block of the
//! segment is a batch of it, then something is missing in the middle that had been written: that is
//! *damage*. If none is, the log simply ends there: a *torn tail* is what a crash leaves of a batch
//! nobody was told of.

use thiserror::Error;

use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::bounds::{BLOCK, Bounds, HEADER, LENGTH};
use crate::placement::ShardSet;
use crate::time::Time;

/// The version of the format that this code writes.
pub const VERSION: u32 = 3;
/// The oldest version that this code reads.
pub const VERSION_MIN: u32 = 1;

pub(crate) const MAGIC: [u8; 4] = *b"FHLB";

/// Which segment of which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentId {
    /// The database's number, drawn at random.
    pub database: u64,
    /// The log's number in the database.
    pub log: u64,
    /// The segment's number in the log; counts up.
    pub segment: u64,
    /// The number of the start that began the log: random, 0 in version 1.
    pub start: u64,
}

/// Where a log goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tail {
    /// The number of the next batch.
    pub sequence: u64,
    /// The crc of the batch before; 0 before the first.
    pub previous: u32,
}

/// What a batch says beside its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Nothing of this epoch or an earlier one comes in later batches of the log.
    pub closed: Epoch,
    /// All of this epoch and of earlier ones was durable when the batch was sealed, in all logs,
    /// and closed by a batch before it: recovery must find it complete.
    pub durable: Epoch,
    /// The time when it was sealed.
    pub time: Time,
    /// The logs that may have had something of the closed epoch, or earlier, not yet on disk: it is
    /// complete if they have closed it too.
    pub awaits: ShardSet,
}

/// A batch as it was read.
#[derive(Clone, Copy, Debug)]
pub struct LogBatch<'a> {
    /// Where it begins in the segment.
    pub offset: usize,
    /// Its number in the log.
    pub sequence: u64,
    /// What it says beside its records.
    pub marks: Marks,
    records: &'a [u8],
    count: u32,
}

impl<'a> LogBatch<'a> {
    /// Where it ends in the segment, padding and all.
    pub fn end(&self) -> usize {
        self.offset + (HEADER + self.records.len()).next_multiple_of(BLOCK)
    }

    /// How many records it says it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How long its records are, with their lengths.
    pub fn records_bytes(&self) -> usize {
        self.records.len()
    }

    /// Its records, in the order they were written. The crc has vouched for their bytes; a length
    /// beyond them ends the list, and [`Survey::note`](crate::log::recovery::Survey::note) says so.
    pub fn records(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut rest, mut left) = (self.records, self.count);
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let (record, behind) = split_record(rest)?;
            rest = behind;
            Some(record)
        })
    }
}

/// The first of records that lie one behind another, each with its length before it, if all of it
/// is there; and what is behind it.
#[inline]
pub(crate) fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
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
    /// The segment begins with a whole batch of this very segment, and another start wrote it. No
    /// log number is used twice in the history of one directory, so the file is of another copy of
    /// it, whose history went on by itself.
    #[error("it was written by another start: the file is of another copy of the directory")]
    OtherStart,
    /// It is whole, and not the one that comes next.
    #[error("batch {found} where {expected} was expected, or it does not follow the one before")]
    OutOfOrder {
        /// Its number.
        found: u64,
        /// The number of the one that should be here.
        expected: u64,
    },
    /// It was written by a version of this program that this one does not know.
    #[error("format version {found}, and this program reads versions {VERSION_MIN} to {VERSION}")]
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

/// Something is missing that had been written: later batches are there. Or it was written by
/// another version of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "damaged at byte {offset}: {found}; batch {later} is at byte {at}, so what should stand here had been written"
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
    /// What comes before that batch, as it says itself: from here [`scan_pieces`] reads on.
    pub tail: Tail,
}

/// Where the fields of a header begin, as the table above has them. The crc is of all that comes
/// behind it.
pub(crate) mod field {
    pub(crate) const CRC: usize = 4;
    pub(crate) const LENGTH: usize = 8;
    pub(crate) const COUNT: usize = 12;
    pub(crate) const DATABASE: usize = 16;
    pub(crate) const LOG: usize = 24;
    pub(crate) const SEGMENT: usize = 32;
    pub(crate) const SEQUENCE: usize = 40;
    pub(crate) const PREVIOUS: usize = 48;
    pub(crate) const VERSION: usize = 52;
    pub(crate) const CLOSED: usize = 56;
    pub(crate) const DURABLE: usize = 64;
    pub(crate) const TIME: usize = 72;
    pub(crate) const AWAITS: usize = 80;
    pub(crate) const START: usize = 112;
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a header has all its fields")
}

/// Which segment a file says it is, if it begins with a whole batch of a database with these
/// bounds.
pub fn identity(bytes: &[u8], bounds: Bounds) -> Option<SegmentId> {
    whole(bytes, bounds).ok().map(|(_, _, found)| found)
}

/// Which segment a file says it is, by the header it begins with alone, which may be wrong.
pub fn claimed_identity(header: &[u8]) -> Option<SegmentId> {
    header.get(..HEADER).filter(|header| header[..4] == MAGIC).map(segment_of)
}

/// How long a batch is whose header `block` begins with, as it says itself and without padding.
fn length(block: &[u8], bounds: Bounds) -> Result<usize, Invalid> {
    if block.len() < HEADER || block[..4] != MAGIC {
        return Err(Invalid::NotABatch);
    }
    let (length, version) = (
        u32::from_le_bytes(number(block, field::LENGTH)) as usize,
        u32::from_le_bytes(number(block, field::VERSION)),
    );
    // Nothing vouches for either yet. If they are not what was written, the crc is wrong as well.
    if bounds.has_batch(version, length) { Ok(length) } else { Err(Invalid::Checksum) }
}

/// How many bytes a batch takes whose first [`BLOCK`] is `block`, as it says itself; it remains to
/// be [scanned](scan).
///
/// # Errors
/// No batch of at most these bounds begins so.
pub fn batch_bytes(block: &[u8], bounds: Bounds) -> Result<usize, Invalid> {
    Ok(length(block, bounds)?.next_multiple_of(BLOCK))
}

/// The batch that begins here, whichever segment it is of: its bytes, its crc, and its segment.
fn whole(block: &[u8], bounds: Bounds) -> Result<(&[u8], u32, SegmentId), Invalid> {
    let whole = block.get(..length(block, bounds)?).ok_or(Invalid::Checksum)?;
    let crc = u32::from_le_bytes(number(block, field::CRC));
    if crc32c::crc32c(&whole[field::LENGTH..]) != crc {
        return Err(Invalid::Checksum);
    }
    Ok((whole, crc, segment_of(block)))
}

/// What a header says of its segment.
fn segment_of(header: &[u8]) -> SegmentId {
    SegmentId {
        database: u64::from_le_bytes(number(header, field::DATABASE)),
        log: u64::from_le_bytes(number(header, field::LOG)),
        segment: u64::from_le_bytes(number(header, field::SEGMENT)),
        start: u64::from_le_bytes(number(header, field::START)),
    }
}

/// The batch that a writer has just sealed, whichever segment it is of: for what leaves for another
/// log while the disk writes it.
///
/// # Errors
/// It is no whole batch of a database with these bounds.
pub fn sealed(bytes: &[u8], bounds: Bounds) -> Result<LogBatch<'_>, Invalid> {
    let id = claimed_identity(bytes).ok_or(Invalid::NotABatch)?;
    read(bytes, 0, id, bounds).map(|(batch, ..)| batch)
}

/// The batch that begins here, at `offset` in its segment, whatever its place in the log, with its
/// crc and that of the one before it.
fn read(
    block: &[u8],
    offset: usize,
    segment: SegmentId,
    bounds: Bounds,
) -> Result<(LogBatch<'_>, u32, u32), Invalid> {
    let (whole, crc, found) = whole(block, bounds)?;
    let is_of_start = found.start == segment.start || fault::is_on(Fault::IgnoreStarts);
    if (SegmentId { start: segment.start, ..found }) != segment {
        return Err(Invalid::Strange);
    }
    if !is_of_start {
        return Err(if offset == 0 { Invalid::OtherStart } else { Invalid::Strange });
    }
    let version = u32::from_le_bytes(number(block, field::VERSION));
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(Invalid::Version { found: version });
    }
    let marks = Marks {
        closed: Epoch(u64::from_le_bytes(number(block, field::CLOSED))),
        durable: Epoch(u64::from_le_bytes(number(block, field::DURABLE))),
        time: Time(u64::from_le_bytes(number(block, field::TIME))),
        awaits: ShardSet::from_words(std::array::from_fn(|word| {
            u64::from_le_bytes(number(block, field::AWAITS + 8 * word))
        })),
    };
    let batch = LogBatch {
        offset,
        sequence: u64::from_le_bytes(number(block, field::SEQUENCE)),
        marks,
        records: &whole[HEADER..],
        count: u32::from_le_bytes(number(block, field::COUNT)),
    };
    Ok((batch, crc, u32::from_le_bytes(number(block, field::PREVIOUS))))
}

/// A file that is read piece by piece: a part of a checkpoint may be as large as all that a shard
/// holds.
pub trait Pieces {
    /// Why a piece cannot be had.
    type Error;

    /// How long the file is, in bytes.
    fn bytes(&self) -> usize;

    /// The bytes from `offset` on: `least`, or as many as there are, or more.
    ///
    /// # Errors
    /// As the file says.
    fn piece(&mut self, offset: usize, least: usize) -> Result<&[u8], Self::Error>;
}

impl Pieces for &[u8] {
    type Error = std::convert::Infallible;

    fn bytes(&self) -> usize {
        self.len()
    }

    fn piece(&mut self, offset: usize, _: usize) -> Result<&[u8], Self::Error> {
        Ok(self.get(offset..).unwrap_or_default())
    }
}

/// What there is of the batch that begins at `offset`.
fn batch_at<P: Pieces>(pieces: &mut P, offset: usize, bounds: Bounds) -> Result<&[u8], P::Error> {
    let length = length(pieces.piece(offset, HEADER)?, bounds).unwrap_or(HEADER);
    pieces.piece(offset, length)
}

/// Reads a segment from its beginning, where the log goes on from `tail`: gives each batch to
/// `each`, and says how the segment ends. `tail` is then where the log ends. A batch that is longer
/// than `bounds` allow is none.
///
/// # Errors
/// [`Damage`], when the batches before it have been given.
pub fn scan(
    bytes: &[u8],
    segment: SegmentId,
    bounds: Bounds,
    tail: &mut Tail,
    each: impl FnMut(LogBatch<'_>),
) -> Result<End, Damage> {
    let Ok(end) = scan_pieces(&mut &*bytes, 0, segment, bounds, tail, each);
    end
}

/// [`scan`] of a file that is read piece by piece, and from the block at `from` on: for who looks
/// what there is behind a damage.
///
/// # Errors
/// As the file says; as [`scan`].
pub fn scan_pieces<P: Pieces>(
    pieces: &mut P,
    from: usize,
    segment: SegmentId,
    bounds: Bounds,
    tail: &mut Tail,
    mut each: impl FnMut(LogBatch<'_>),
) -> Result<Result<End, Damage>, P::Error> {
    let mut offset = from;
    while offset < pieces.bytes() {
        let found = match read(batch_at(pieces, offset, bounds)?, offset, segment, bounds) {
            Ok((batch, crc, previous)) if (batch.sequence, previous) == (tail.sequence, tail.previous) => {
                // The number is the disk's: it need not be one that was ever counted to.
                *tail = Tail { sequence: tail.sequence.wrapping_add(1), previous: crc };
                offset = batch.end();
                each(batch);
                continue;
            }
            Ok((batch, _, previous)) => {
                let later = batch.sequence;
                let found = Invalid::OutOfOrder { found: later, expected: tail.sequence };
                let tail = Tail { sequence: later, previous };
                return Ok(Err(Damage { offset, found, later, at: offset, tail }));
            }
            Err(found @ (Invalid::Version { .. } | Invalid::OtherStart)) => {
                return Ok(Err(Damage { offset, found, later: tail.sequence, at: offset, tail: *tail }));
            }
            Err(found) => found,
        };
        // An older batch of this very use cannot lie behind: each was written once, and behind the
        // one before.
        for at in (offset + BLOCK..pieces.bytes()).step_by(BLOCK) {
            if let Ok((batch, _, previous)) = read(batch_at(pieces, at, bounds)?, at, segment, bounds) {
                let tail = Tail { sequence: batch.sequence, previous };
                return Ok(Err(Damage { offset, found, later: batch.sequence, at, tail }));
            }
        }
        return Ok(Ok(End::Tail { offset, found }));
    }
    Ok(Ok(End::Full))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::bounds::TooLong;
    use crate::log::writer::{BatchWriter, Records, Wrote};
    use crate::placement::ShardIndex;

    const SEGMENT: SegmentId = SegmentId { database: 0x5a17, log: 3, segment: 12, start: 0x57a2 };
    const BOUNDS: Bounds = Bounds::of_segments(16 << 10);

    fn push(writer: &mut BatchWriter, record: &[u8]) {
        let mut beside = Records::new(BOUNDS);
        let wrote = writer.write(None, &mut beside, |records| {
            records.push(|to| {
                to.extend_from_slice(record);
                Ok::<(), TooLong>(())
            })
        });
        assert_eq!(wrote, Ok(Wrote::Here));
    }

    fn marks(at: usize) -> Marks {
        let mut awaits = ShardSet::default();
        [at % 256, 255].into_iter().for_each(|place| awaits.insert(ShardIndex(place as u16)));
        Marks { closed: Epoch(at as u64), durable: Epoch(at as u64 / 2), time: Time(3 * at as u64), awaits }
    }

    /// A segment with these batches, and where each ends.
    fn segment(batches: &[Vec<Vec<u8>>], blocks: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends, mut tail) = (Vec::new(), Vec::new(), Tail::default());
        let mut writer = BatchWriter::new(BOUNDS);
        for (at, records) in batches.iter().enumerate() {
            for record in records {
                push(&mut writer, record);
            }
            bytes.extend_from_slice(writer.seal(SEGMENT, &mut tail, &marks(at)));
            writer.clear();
            ends.push(bytes.len());
        }
        bytes.resize(bytes.len() + blocks * BLOCK, 0);
        (bytes, ends)
    }

    fn read_all(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, Result<End, Damage>) {
        let mut batches = Vec::new();
        let end = scan(bytes, SEGMENT, BOUNDS, &mut Tail::default(), |batch| {
            assert_eq!(batch.sequence as usize, batches.len());
            assert_eq!(batch.marks, marks(batches.len()));
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

        // A bit flips, anywhere: what is read before it is what was written, and unless it lies in
        // padding or in the last batch, it is named.
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
        let mut writer = BatchWriter::new(BOUNDS);
        push(&mut writer, &[9]);
        let again = SegmentId { segment: 77, ..SEGMENT };
        bytes[..BLOCK].copy_from_slice(writer.seal(again, &mut tail, &marks(4)));
        let mut found = 0;
        let end = scan(&bytes, again, BOUNDS, &mut Tail::default(), |_| found += 1);
        assert_eq!((found, end), (1, Ok(End::Tail { offset: ends[0], found: Invalid::Strange })));
    }

    #[test]
    fn what_is_refused_leaves_nothing() {
        let mut writer = BatchWriter::new(BOUNDS);
        push(&mut writer, &[1]);
        let (before, mut beside) = ((writer.len(), writer.epoch), Records::new(BOUNDS));
        let refused = writer.write(Some(Epoch(3)), &mut beside, |records| {
            records.push(|to| {
                to.extend_from_slice(&[2; 100]);
                Err(TooLong { bytes: 1, max: 0 })
            })
        });
        assert_eq!(refused, Err(TooLong { bytes: 1, max: 0 }));
        assert_eq!(((writer.len(), writer.epoch), beside.is_empty()), (before, true));
    }
}
