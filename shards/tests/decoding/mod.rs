//! Everything that reads bytes of a log's files, on any bytes at all: nothing panics, everything
//! ends, and what was read says no more than there is.
//!
//! Bytes at random hardly ever have a checksum that is right, so they are read twice: as they are,
//! and made whole, with a header around the manifest and with sealed batches, of which some are
//! left as they are.

use freehold_shard::log::{BLOCK, Bounds, Damage, End, HEADER, LogBatch, SegmentId, Tail, VERSION, scan};
use freehold_shard::manifest::{MANIFEST_VERSION, Manifest};
use freehold_shard::record::Record;
use freehold_shard::recovery::{Home, LogReader, Replay, Survey, last_complete};
use freehold_shard::{
    AccessError, Actor, Addressees, CollectionOf, Epoch, ObjectId, Objects, PlacementKey, Router,
};
use serde::{Deserialize, Serialize};

/// Words by number.
struct Words;

/// Odd ones are entries of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Number(u64);

impl ObjectId for Number {
    const COLLECTION: Option<CollectionOf<Number>> =
        Some(|id| (id.0 % 2 == 1).then_some(Number(id.0 / 4 * 4)));
}

impl Actor for Words {
    type Id = Number;
    type State = (u8, String, Vec<u32>);
    type Message = ();
    type Reply = ();
    type Error = AccessError<Number>;

    fn addressees(_: &(), to: &mut Addressees<Number>) {
        to.write(Number(0));
    }

    fn receive(_: &(), _: &mut Objects<'_, Self>) -> Result<(), AccessError<Number>> {
        Ok(())
    }
}

const SEGMENT: SegmentId = SegmentId { database: 0x5a17, log: 3, segment: 12, start: 0x57a2 };
const BOUNDS: Bounds = Bounds::of_segments(64 << 10);

pub fn decode(bytes: &[u8]) {
    let _ = Record::read(bytes);
    let _ = Manifest::from_bytes(bytes);
    manifest(bytes);
    segment(bytes);
    segment(&sealed(bytes));
}

/// As a manifest whose checksum is right.
fn manifest(body: &[u8]) {
    let mut bytes = b"FHMANIF1".to_vec();
    bytes.extend_from_slice(&MANIFEST_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let sum = xxhash_rust::xxh3::xxh3_128(&[&bytes[8..16], body].concat());
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(body);
    if let Ok(manifest) = Manifest::from_bytes(&bytes) {
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).as_ref(), Ok(&manifest));
        for run in &manifest.runs {
            assert!(run.end.as_ref().is_none_or(|end| end.logs.len() == run.logs.len()));
        }
    }
}

/// Batches one after another, with what the bytes say but for what has to be right. The last byte
/// of a header says what is not made right.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let (mut bytes, mut offset, mut sequence, mut previous) = (bytes.to_vec(), 0, 0_u64, 0_u32);
    while offset + HEADER <= bytes.len() {
        let spoil = bytes[offset + HEADER - 1];
        let left = bytes.len() - offset;
        let length =
            u32::from_le_bytes(bytes[offset + 8..offset + 12].try_into().expect("four bytes")) as usize;
        let length = HEADER + length % (left - HEADER + 1).min(3 * BLOCK);
        let batch = &mut bytes[offset..offset + length];
        let mut put = |at: usize, number: &[u8]| batch[at..at + number.len()].copy_from_slice(number);
        put(0, b"FHLB");
        put(8, &(length as u32).to_le_bytes());
        put(16, &SEGMENT.database.to_le_bytes());
        put(24, &SEGMENT.log.to_le_bytes());
        put(32, &SEGMENT.segment.to_le_bytes());
        put(112, &SEGMENT.start.to_le_bytes());
        if spoil != 1 {
            put(40, &sequence.to_le_bytes());
            put(48, &previous.to_le_bytes());
        }
        if spoil != 2 {
            put(52, &VERSION.to_le_bytes());
        }
        let crc = crc32c::crc32c(&batch[8..]) ^ u32::from(spoil == 3);
        batch[4..8].copy_from_slice(&crc.to_le_bytes());
        (sequence, previous) = (sequence + 1, crc);
        offset += length.next_multiple_of(BLOCK);
    }
    bytes
}

fn segment(bytes: &[u8]) {
    let check = |batch: &LogBatch<'_>| {
        let records: usize = batch.records().map(|record| 4 + record.len()).sum();
        assert!(records <= batch.records_bytes() && batch.records().count() <= batch.count() as usize);
        assert!(batch.offset.is_multiple_of(BLOCK) && batch.offset + HEADER + records <= bytes.len());
    };
    let mut sequences = 0;
    let mut tail = Tail::default();
    let end = scan(bytes, SEGMENT, BOUNDS, &mut tail, |batch| {
        assert_eq!(batch.sequence, sequences);
        sequences += 1;
        check(&batch);
    });
    assert_eq!(tail.sequence, sequences);
    if let Ok(End::Tail { offset, .. }) | Err(Damage { offset, .. }) = end {
        assert!(offset < bytes.len());
    }

    let mut reader = LogReader::new(SEGMENT, BOUNDS, Tail::default());
    let mut survey = Survey::default();
    let mut replay = Replay::<Words>::new(Router::new(PlacementKey(1), 3));
    let (mut puts, mut home) = (0, Home::<Words>::new(1));
    let mut take = |batch: LogBatch<'_>| {
        check(&batch);
        if survey.note(&batch).is_ok() {
            assert_eq!(batch.records().filter_map(Record::read).count(), batch.count() as usize);
        }
        let put = |_, changes: &mut Vec<_>| home.apply(changes.drain(..));
        let _ = replay.apply(&batch, Epoch(1), Epoch(u64::MAX), put);
        puts +=
            batch.records().filter(|record| matches!(Record::read(record), Some(Record::Put { .. }))).count();
    };
    let (mut read, mut reached) = (reader.read(bytes, &mut take), 0);
    while let Err(damage) = read {
        // One of another version is not passed.
        if damage.at == damage.offset && damage.tail == reader.end().1 {
            break;
        }
        assert!(damage.at >= reached, "reading on goes on");
        reached = damage.at;
        Ok(read) = reader.read_pieces(&mut &*bytes, Some(&damage), &mut take);
    }
    let _ = last_complete(Epoch(0), &[survey, Survey::default()]);
    assert!(home.len() <= puts && home.objects().count() == home.len(), "no object without a record");
    let _ = replay.finish();
}
