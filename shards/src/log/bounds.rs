//! How long batches, records and values may be: one definition, for the code that writes and the
//! code that reads.
//!
//! ```text
//! segment >= batch >= header, the epoch's record, and one record behind its length
//!                     record >= the record's own fields, and the user's value
//! ```
//! So a value that the log takes fits a batch by itself, in a log, in a part of a checkpoint, and
//! in a [`LocalLog`](https://docs.rs/freehold) that has segments of the same size.
//! [`BatchWriter`](crate::log::BatchWriter) ends a batch before a record would pass
//! [`Bounds::batch`]; [`scan`](crate::log::scan) refuses a batch that is longer.

use thiserror::Error;

/// Batches begin at multiples of this, and are padded to it.
pub const BLOCK: usize = 4096;
/// Bytes of a batch's header.
pub const HEADER: usize = 128;
/// The longest batch of any database, in bytes, whatever the size of its segments: 16 MiB.
pub const BATCH_MAX: usize = 16 << 20;
/// The longest id, in bytes as it is written: its length has two bytes.
pub const ID_MAX: usize = u16::MAX as usize;

/// Bytes of the length that stands before each record.
pub(crate) const LENGTH: usize = 4;
/// Bytes of the record that says which epoch the next ones were committed in, with its length.
pub(crate) const EPOCH_RECORD: usize = LENGTH + 9;
/// Bytes of a record that are not the user's value: today 25 at most, the rest is for fields that a
/// later format adds.
const FIELDS: usize = 32;

/// In place of the longest value that may be written: what the log took is written whatever its
/// length, and an earlier version of this program took some that were a few bytes longer. The bound
/// of a record still counts.
pub(crate) const ANY_VALUE: usize = usize::MAX;

/// How long batches, records and values of one database may be. All lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    batch: usize,
}

impl Bounds {
    /// The bounds of a database whose segments have `segment_bytes` bytes, at least a [`BLOCK`].
    pub const fn of_segments(segment_bytes: usize) -> Bounds {
        let batch = if segment_bytes < BATCH_MAX { segment_bytes } else { BATCH_MAX };
        Bounds { batch: if batch < BLOCK { BLOCK } else { batch } }
    }

    /// The longest batch, header and records, without padding. A segment holds it.
    #[inline]
    pub const fn batch(self) -> usize {
        self.batch
    }

    /// The longest record, without its length. A batch holds it with the epoch it was committed in.
    #[inline]
    pub const fn record(self) -> usize {
        self.batch - HEADER - EPOCH_RECORD - LENGTH
    }

    /// The longest value: an id with its object's state, or a message that is told, as postcard
    /// writes them.
    #[inline]
    pub const fn value(self) -> usize {
        self.record() - FIELDS
    }

    /// Whether a batch of format `version` may have so many bytes. Version 1 did not bound those in
    /// parts of checkpoints, and its directories are still to be opened: there any length that its
    /// header can say will do.
    #[inline]
    pub(crate) const fn has_batch(self, version: u32, length: usize) -> bool {
        let most = if version == 1 { u32::MAX as usize } else { self.batch };
        HEADER <= length && length <= most
    }
}

/// A record that no batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a record of {bytes} bytes, and a batch holds one of at most {max}")]
pub struct TooLong {
    /// Its length in bytes.
    pub bytes: usize,
    /// The most there may be: [`Bounds::record`].
    pub max: usize,
}

// A length in a header or before a record is a u32, and every record has room for an id and its
// fields.
const _: () = assert!(BATCH_MAX <= u32::MAX as usize && BATCH_MAX.is_multiple_of(BLOCK));
const _: () = assert!(Bounds::of_segments(BLOCK).value() > BLOCK / 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_a_bound_is_within_the_next() {
        for segment_bytes in [0, 4 << 10, 64 << 10, BATCH_MAX - BLOCK, BATCH_MAX, 64 << 20, 1 << 30] {
            let bounds = Bounds::of_segments(segment_bytes);
            assert!(bounds.batch() <= segment_bytes.max(BLOCK) && bounds.batch() <= BATCH_MAX);
            assert_eq!(HEADER + EPOCH_RECORD + LENGTH + bounds.record(), bounds.batch());
            assert_eq!(bounds.value() + FIELDS, bounds.record());
            for version in [2, 3] {
                assert!(bounds.has_batch(version, bounds.batch()));
                assert!(!bounds.has_batch(version, bounds.batch() + 1));
            }
            assert!(bounds.has_batch(1, BATCH_MAX + 1) && !bounds.has_batch(1, HEADER - 1));
        }
    }
}
