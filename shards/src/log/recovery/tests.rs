use std::collections::BTreeMap;

use super::*;
use crate::log::batch::{Marks, scan};
use crate::log::bounds::{Bounds, TooLong};
use crate::log::record::{IdIs, Layouts, epoch_record, write_send};
use crate::log::trust::Trust;
use crate::log::writer::{BatchWriter, Records, Wrote};
use crate::object::OwnerId;
use crate::placement::PlacementKey;
use crate::prefetch::NoPrefetch;
use crate::store::home::Home;

struct Numbers;

impl Stored for Numbers {
    type Id = u64;
    type State = (u32, u16);
}

const SEGMENT: SegmentId = SegmentId { database: 1, log: 2, segment: 0, start: 3 };
const BOUNDS: Bounds = Bounds::of_segments(1 << 20);
const HOMES: usize = 5;

fn push(writer: &mut BatchWriter, push: impl FnOnce(&mut Records)) {
    let mut beside = Records::new(BOUNDS);
    let wrote = writer.write(None, &mut beside, |records| {
        push(records);
        Ok::<(), TooLong>(())
    });
    assert_eq!(wrote, Ok(Wrote::Here));
}

fn put(writer: &mut BatchWriter, trust: &mut Trust, id: u64, state: Option<(u32, u16)>) {
    push(writer, |records| {
        let ownership = Ownership::Owned(OwnerId(id % 3));
        let pushed = records.push_object(&id, IdIs::New, ownership, state.as_ref(), trust, BOUNDS.value());
        pushed.expect("it can be written");
    });
}

fn raw(writer: &mut BatchWriter, record: &[u8]) {
    push(writer, |records| {
        let pushed = records.push(|to| {
            to.extend_from_slice(record);
            Ok::<(), TooLong>(())
        });
        pushed.expect("it is short");
    });
}

fn sealed(mut writer: BatchWriter) -> Vec<u8> {
    writer.seal(SEGMENT, &mut Tail::default(), &Marks::default()).to_vec()
}

/// All kinds of records of objects, some of them by postcard, and two pending sends of which one is
/// delivered.
fn log() -> Vec<u8> {
    let mut writer = BatchWriter::new(BOUNDS);
    raw(&mut writer, &epoch_record(Epoch(1)));
    let layouts = Layouts::of::<u64, (u32, u16)>();
    for round in 0..3 {
        for id in 0..700_u64 {
            let layouts = if (id + round) % 4 == 0 { Layouts::default() } else { layouts };
            let mut trust = Trust::new(layouts, BOUNDS.value());
            let state = (id % 5 != round).then_some(((id * 7 + round) as u32, id as u16));
            put(&mut writer, &mut trust, id, state);
        }
    }
    for send_id in [4, 5] {
        push(&mut writer, |records| {
            records
                .push(|to| write_send(SendId(send_id), OwnerId(0), None, b"message", 7, to))
                .expect("it is short");
        });
    }
    raw(&mut writer, &crate::log::record::delivered_record(SendId(4)));
    sealed(writer)
}

type Found = (BTreeMap<u64, (Ownership, (u32, u16))>, Vec<SendId>);

/// What so many readers of the log make of it.
fn replayed(log: &[u8], readers: usize) -> Result<Found, NotUnderstood> {
    let router = Router::new(PlacementKey(1), HOMES);
    let mut homes: Vec<Home<Numbers>> = (0..HOMES).map(|home| Home::new(home as u64)).collect();
    let mut all = Replay::<Numbers>::new(router);
    for reader in 0..readers {
        let share = Share { reader, readers };
        let mut of_share = Replay::<Numbers>::of_share(router, share);
        let mut result = Ok(());
        let end = scan(log, SEGMENT, BOUNDS, &mut Tail::default(), |batch| {
            result = of_share.apply(&batch, Epoch(0), Epoch(9), |home, changes| {
                assert!(home % readers == reader, "reader {reader} of {readers} puts into home {home}");
                homes[home].apply_all::<NoPrefetch>(changes);
            });
        });
        assert_eq!(end, Ok(End::Full));
        result?;
        all.follow(of_share);
    }
    let objects = homes.iter().flat_map(Home::objects);
    let objects = objects.map(|(id, ownership, state)| (id, (ownership, *state))).collect();
    Ok((objects, all.finish().into_keys().collect()))
}

#[test]
fn several_readers_of_a_log_make_of_it_what_one_does() {
    let log = log();
    let (objects, sends) = replayed(&log, 1).expect("it can be understood");
    assert_eq!((objects.len(), sends), (560, vec![SendId(5)]));
    let expected = |id: u64| (Ownership::Owned(OwnerId(id % 3)), ((id * 7 + 2) as u32, id as u16));
    assert!(objects.iter().all(|(id, found)| *found == expected(*id)));
    for readers in 2..=HOMES + 1 {
        let several = replayed(&log, readers).expect("it can be understood");
        assert_eq!(several, (objects.clone(), vec![SendId(5)]), "{readers} readers");
    }
}

// A writer that was wrong, or bytes that a checksum does not know of: the record is named.
#[test]
fn a_value_of_another_width_is_named() {
    // A put of a fixed id and state, and a removal.
    let whole = [&[2 | 0xc0, 8, 0][..], &[7; 8], &[1; 6]].concat();
    let removal = [&[6 | 0x40][..], &[7; 8]].concat();
    let of = |record: &[u8]| {
        let mut writer = BatchWriter::new(BOUNDS);
        raw(&mut writer, &epoch_record(Epoch(1)));
        raw(&mut writer, record);
        replayed(&sealed(writer), 1).map(|(objects, _)| objects.len())
    };
    assert_eq!((of(&whole), of(&removal)), (Ok(1), Ok(0)));
    let not = |what| Err(NotUnderstood { record: 1, what });
    assert_eq!(of(&whole[..whole.len() - 1]), not("an object's state"));
    assert_eq!(of(&[&whole[..], &[0]].concat()), not("an object's state"));
    assert_eq!(of(&removal[..removal.len() - 1]), not("an object's id"));
    assert_eq!(of(&[&removal[..], &[0]].concat()), not("an object's id"));
    // A byte of the id is taken for one of the state, and the other way round.
    for length in [7, 9] {
        let mut moved = whole.clone();
        moved[1] = length;
        assert_eq!(of(&moved), not("an object's id"));
    }
}
