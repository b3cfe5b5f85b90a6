//! Parts of checkpoints: those of version 1, and those that are not as they were written.

use super::*;

/// A part of a checkpoint as version 1 wrote it: one batch, whatever its length.
fn write_part_of_version_1(path: &Path, id: SegmentId, records: &[Vec<u8>]) -> Part {
    let mut batch = vec![0; HEADER];
    for record in records {
        batch.extend_from_slice(&(record.len() as u32).to_le_bytes());
        batch.extend_from_slice(record);
    }
    let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"FHLB");
    put(12, &(records.len() as u32).to_le_bytes());
    put(16, &id.database.to_le_bytes());
    put(24, &id.log.to_le_bytes());
    put(52, &1_u32.to_le_bytes());
    let length = batch.len() as u32;
    batch[8..12].copy_from_slice(&length.to_le_bytes());
    let previous = crc32c::crc32c(&batch[8..]);
    batch[4..8].copy_from_slice(&previous.to_le_bytes());
    batch.resize(batch.len().next_multiple_of(BLOCK), 0);
    fs::write(path, &batch).expect("there is room");
    Part { log: id.log, start: 0, end: Tail { sequence: 1, previous }, bytes: batch.len() as u64 }
}

/// A text as postcard writes it: its length, seven bits a byte, and its bytes.
fn written(text: &str) -> Vec<u8> {
    let (mut bytes, mut left) = (Vec::new(), text.len());
    while left > 0x7f {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

// Version 1 wrote what 512 slots held into one batch of a checkpoint, and all pending sends, and
// could not read the batch again if it was longer than 16 MiB. Nothing is wrong with such a
// directory but its reader.
#[test]
fn parts_of_checkpoints_that_version_1_could_not_read_open() {
    // Longer than the longest batch of small segments, and than the longest of any.
    for (length, texts) in [(3_000, 40), (600_000, 30)] {
        let place = tempfile::tempdir().expect("there is room");
        let runtime = open(place.path(), 1);
        for id in 0..texts {
            runtime.handle().ask(Message::Put(id, format!("text {id}"))).wait().expect("it is put");
        }
        runtime.handle().ask(Message::Later(1, "later".to_string())).wait().expect("it is told");
        runtime.checkpoint().expect("it is made");
        runtime.shutdown();
        let mut before = state(place.path()).expect("nothing is wrong");
        let mut manifest = manifest(place.path());
        let mut records = Vec::new();
        dump(place.path(), |entry| match entry.record {
            Record::Put { id, .. } if entry.is_checkpoint => {
                // The text with its length, made longer.
                let text = "x".repeat(length);
                let mut record = vec![2 | 0x40, id.bytes.len() as u8, 0];
                record.extend_from_slice(id.bytes);
                record.extend_from_slice(&written(&text));
                records.push(record);
            }
            Record::Send { send_id, sender, due: Some(due), message } if entry.is_checkpoint => {
                let mut record = vec![8];
                [send_id.0, sender.0, due.0]
                    .iter()
                    .for_each(|it| record.extend_from_slice(&it.to_le_bytes()));
                record.extend_from_slice(message);
                records.push(record);
            }
            _ => {}
        })
        .expect("it can be read");
        assert_eq!(records.len(), texts as usize + 1);
        let named = &mut manifest.checkpoint.as_mut().expect("there is one").parts[0];
        let id = SegmentId { database: manifest.database, log: named.log, segment: 0, start: 0 };
        let path = place.path().join(checkpoint_name(named.log));
        *named = write_part_of_version_1(&path, id, &records);
        assert!(
            named.bytes as usize
                > Bounds::of_segments(if length < 9_999 { SEGMENT } else { 1 << 30 }).batch()
        );
        fs::write(place.path().join(super::super::MANIFEST), manifest.to_bytes()).expect("there is room");

        before.0.values_mut().for_each(|object| object.1 = "x".repeat(length));
        assert!(verify(place.path()).expect("it can be read").damages.is_empty());
        assert!(state(place.path()).expect("nothing is wrong") == before);
        // And the next checkpoint is of this version: the records that fit a segment, in batches of
        // its bounds.
        if length < SEGMENT {
            let runtime = open(place.path(), 2);
            runtime.checkpoint().expect("it is made");
            runtime.shutdown();
            assert!(state(place.path()).expect("nothing is wrong") == before);
        }
    }
}

// What comes to the disk is another byte, or a part is cut, or longer: each is named, and memory is
// that of a batch.
#[test]
fn a_part_that_is_not_as_it_was_written_is_not_relied_on() {
    let place = tempfile::tempdir().expect("there is room");
    let directory = Directory::open(place.path()).expect("it can be made");
    let (bounds, id) =
        (Bounds::of_segments(SEGMENT), SegmentId { database: 1, log: 7, segment: 0, start: 2 });
    let mut writer = BatchWriter::new(bounds);
    let (mut bytes, mut end) = (Vec::new(), PartEnd::default());
    for number in 0..9 {
        let record = [&[2, 1, 0, number][..], &vec![number; 5_000]].concat();
        // Not of an epoch in a checkpoint; by hand, as a log would say it.
        assert!(writer.push(Epoch(1), &record));
        bytes.extend_from_slice(writer.seal(id, &mut end.tail, &Marks::default()));
        writer.clear();
        end.records += 2;
    }
    end.bytes = bytes.len() as u64;
    let path = place.path().join(checkpoint_name(id.log));
    let check = |bytes: &[u8], end| {
        fs::write(&path, bytes).expect("there is room");
        read_back(&directory, id, bounds, end, || true)
    };
    let strange = check(&bytes, end).expect_err("a part says no epoch");
    assert!(matches!(strange, LogError::Damaged { offset: 0, .. }), "{strange}");
    drop(fs::remove_file(&path));
    let missing = read_back(&directory, id, bounds, end, || true).expect_err("there is none");
    assert!(matches!(missing, LogError::Io { .. }), "{missing}");
    let cut = check(&bytes[..6_000], end).expect_err("it is cut");
    assert!(matches!(&cut, LogError::Damaged { what, .. } if what.contains("ends at byte 6000")), "{cut}");
    assert!(!read_back(&directory, id, bounds, end, || false).expect("it is not looked at"));
}
