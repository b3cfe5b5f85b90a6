//! A record and its key.
//!
//! A record is ten fields of a hundred bytes. A field begins with how often it was updated (four
//! bytes, little-endian); what follows is made from the record's key, the field's number and that
//! count, so any other bytes are the trace of a torn or misplaced write.
//!
//! The bytes lie in the row itself. Tried and dropped: behind an `Arc`, which an engine that keeps
//! what a row was, or lends it to another shard, clones for nothing, so that only the first write
//! copies the kilobyte. Measured on two cores that others used as well, with shards driven by one
//! thread: one of 200,000 records read or updated takes 0.48 us inline and 0.73 us shared, sixteen
//! of one shard 3.8 us and 7.3 us, sixteen of two shards 9.3 us and 10.0 us; only of two shards
//! with 2000 records, which are cached, sixteen take longer inline: 4.0 us and 3.1 us. The pointer
//! is a cache miss that nobody can foresee.

use freehold_shard::ObjectId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

/// Fields of a record.
pub(super) const FIELDS: usize = 10;
const FIELD_BYTES: usize = 100;
const RECORD_BYTES: usize = FIELDS * FIELD_BYTES;
const COUNT_BYTES: usize = size_of::<u32>();
const WORD_BYTES: usize = size_of::<u64>();
const _: () = assert!((FIELD_BYTES - COUNT_BYTES).is_multiple_of(WORD_BYTES), "a field has no odd end");
const _: () = assert!(RECORD_BYTES.is_multiple_of(WORD_BYTES), "a checksum leaves nothing out");

/// Loaded records that are neighbours and share a shard.
pub(super) const GROUP: u32 = 64;

/// The key of a record. The group decides where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub(super) group: u32,
    /// Within the group: below [`GROUP`] if the record was loaded, from there on if it was
    /// inserted.
    pub(super) number: u32,
}

impl Key {
    /// The key of the loaded record with this number.
    #[inline]
    pub(super) fn loaded(number: u32) -> Self {
        Key { group: number / GROUP, number: number % GROUP }
    }

    /// Whether the record was not there in the beginning.
    #[inline]
    pub(super) fn is_inserted(self) -> bool {
        self.number >= GROUP
    }
}

impl ObjectId for Key {
    fn placement(&self) -> impl std::hash::Hash {
        self.group
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record(ByteArray<RECORD_BYTES>);

impl Record {
    /// A record that was never updated.
    #[inline]
    pub(super) fn new(key: Key) -> Self {
        let mut bytes = [0; RECORD_BYTES];
        let (fields, _) = bytes.as_chunks_mut();
        fields.iter_mut().enumerate().for_each(|(number, field)| fill(field, key, number, 0));
        Record(ByteArray::new(bytes))
    }

    /// Gives a field its next value.
    #[inline]
    pub(super) fn update(&mut self, key: Key, field: u8) {
        let number = usize::from(field);
        let (fields, _) = self.0.as_chunks_mut();
        let field = &mut fields[number];
        fill(field, key, number, count(field).wrapping_add(1));
    }

    /// A sum over all bytes.
    #[inline]
    pub(super) fn checksum(&self) -> u64 {
        let (words, _) = self.0.as_chunks::<WORD_BYTES>();
        words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
    }

    /// How often its fields were updated, all together.
    pub(super) fn updates(&self) -> u64 {
        let (fields, _) = self.0.as_chunks();
        fields.iter().map(|field| u64::from(count(field))).sum()
    }

    /// Whether each field is what its count says.
    pub(super) fn is_whole(&self, key: Key) -> bool {
        let (fields, _) = self.0.as_chunks();
        fields.iter().enumerate().all(|(number, field)| {
            let mut wanted = [0; FIELD_BYTES];
            fill(&mut wanted, key, number, count(field));
            *field == wanted
        })
    }
}

/// How often a field was updated.
#[inline]
fn count(field: &[u8; FIELD_BYTES]) -> u32 {
    u32::from_le_bytes(*field.first_chunk().expect("a field is longer than its count"))
}

/// Writes a field's `count`-th value. Its words are made one apart from the other, so that this is
/// no chain of multiplications.
#[inline]
fn fill(field: &mut [u8; FIELD_BYTES], key: Key, number: usize, count: u32) {
    let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let seed = pair(key.group, key.number).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ pair(number as u32, count).wrapping_mul(0xD1B5_4A32_D192_ED03);
    let (first, rest) = field.split_at_mut(COUNT_BYTES);
    first.copy_from_slice(&count.to_le_bytes());
    let (words, _) = rest.as_chunks_mut::<WORD_BYTES>();
    for (word, place) in words.iter_mut().zip(0..) {
        *word = seed.wrapping_add(place).wrapping_mul(0xBF58_476D_1CE4_E5B9).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { group: 7, number: 3 };

    #[test]
    fn updates_are_counted_and_change_what_is_read() {
        let mut record = Record::new(KEY);
        let before = record.clone();
        for field in [0, 9, 9] {
            record.update(KEY, field);
            assert!(record.is_whole(KEY));
        }
        assert_eq!((record.updates(), before.updates()), (3, 0));
        assert!(before.is_whole(KEY) && before != record && before.checksum() != record.checksum());
    }

    #[test]
    fn any_byte_that_was_not_written_so_is_noticed() {
        let mut record = Record::new(KEY);
        record.update(KEY, 4);
        assert!(!record.is_whole(Key { number: 4, ..KEY }), "it is another's");
        for place in 0..RECORD_BYTES {
            let mut torn = record.clone();
            torn.0[place] ^= 0x10;
            assert!(!torn.is_whole(KEY), "byte {place}");
            assert_ne!(torn.checksum(), record.checksum(), "byte {place}");
        }
    }

    #[test]
    fn a_record_reads_as_the_log_wrote_it() {
        let record = Record::new(KEY);
        let bytes = postcard::to_allocvec(&record).expect("a record is written");
        assert_eq!(postcard::from_bytes::<Record>(&bytes).expect("a record is read"), record);
        assert!(
            bytes.len() <= RECORD_BYTES + 2,
            "{} bytes: more than the record and its length",
            bytes.len()
        );
        assert!(postcard::from_bytes::<Record>(&[3, 1, 2, 3]).is_err(), "three bytes are no record");
    }
}
