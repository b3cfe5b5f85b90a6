use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;
use crate::log::batch::{Marks, scan};
use crate::log::bounds::{Bounds, TooLong};
use crate::log::manifest::Manifest;
use crate::log::migration::{Migration, Migrations, Reading};
use crate::log::record::{IdIs, Layouts, epoch_record, write_send};
use crate::log::schema::{Schema, SchemaTypes, WrittenSchema};
use crate::log::trust::Trust;
use crate::log::writer::{BatchWriter, Records, Wrote};
use crate::object::{CollectionOf, ObjectId, OwnerId, Ownership, Stored};
use crate::placement::{PlacementKey, Router};
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

/// A later version may have more kinds of records. This one must not skip what it does not know:
/// what comes behind may be wrong without it.
#[test]
fn a_record_of_a_later_version_is_refused() {
    let put = [&[2 | 0xc0, 8, 0][..], &[7; 8], &[1; 6]].concat();
    let of = |kind: u8| {
        let mut writer = BatchWriter::new(BOUNDS);
        raw(&mut writer, &epoch_record(Epoch(1)));
        raw(&mut writer, &[kind, 1]);
        raw(&mut writer, &put);
        replayed(&sealed(writer), 1).map(|(objects, _)| objects.len())
    };
    assert_eq!(of(11), Ok(1), "the last kind that there is");
    let refused = Err(NotUnderstood { record: 1, what: "a record of this version" });
    for kind in (12..0x40).chain([0]) {
        assert_eq!(of(kind), refused, "kind {kind}");
    }
}

/// Odd ones are entries of the number that is a multiple of a hundred below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Place(u64);

fn row(place: &Place) -> Option<Place> {
    (place.0 % 2 == 1).then_some(Place(place.0 / 100 * 100))
}

impl ObjectId for Place {
    const COLLECTION: Option<CollectionOf<Place>> = Some(row);
}

/// What is at each place now.
struct Places;

impl Stored for Places {
    type Id = Place;
    type State = u64;
}

/// A version of [`Places`], which says of its ids what they are entries of, or does not.
struct Version<const NUMBER: u32, const SAYS: bool>;

impl<const NUMBER: u32, const SAYS: bool> SchemaTypes for Version<NUMBER, SAYS> {
    const SCHEMA: Schema = Schema::new(NUMBER);
    type Id = Place;
    type State = u64;
    type Message = ();
    const COLLECTION: Option<CollectionOf<Place>> = if SAYS { Some(row) } else { None };
}

/// A log that puts what is at places, or clears rows; of the ids every other one by postcard.
fn log_of(records: &[(u64, Option<u64>)]) -> Vec<u8> {
    let mut writer = BatchWriter::new(BOUNDS);
    raw(&mut writer, &epoch_record(Epoch(1)));
    for (at, (place, state)) in records.iter().enumerate() {
        let layouts = if at % 2 == 0 { Layouts::default() } else { Layouts::of::<Place, u64>() };
        let mut trust = Trust::new(layouts, BOUNDS.value());
        push(&mut writer, |records| {
            let (place, owner) = (Place(*place), Ownership::default());
            let pushed = match (row(&place), state) {
                (None, None) => records.push_cleared(&place, layouts.id, BOUNDS.value()),
                (_, state) => {
                    let state = state.as_ref();
                    records.push_object(&place, IdIs::New, owner, state, &mut trust, BOUNDS.value())
                }
            };
            pushed.expect("it can be written");
        });
    }
    sealed(writer)
}

/// Logs one after another, and what is at the places after each.
const CLEARED: [&[(u64, Option<u64>)]; 3] = [
    &[(100, Some(1)), (101, Some(1)), (103, Some(1)), (201, Some(1)), (203, Some(1))],
    // One goes and comes again before, one of another row is left alone, and two come behind it.
    &[(103, None), (103, Some(2)), (105, Some(2)), (100, None), (103, Some(3)), (107, Some(3))],
    &[(109, Some(4)), (200, None), (100, None), (109, Some(5)), (200, None), (203, None)],
];
const LEFT: [&[(u64, u64)]; 3] = [
    &[(100, 1), (101, 1), (103, 1), (201, 1), (203, 1)],
    &[(100, 1), (103, 3), (107, 3), (201, 1), (203, 1)],
    &[(100, 1), (109, 5)],
];

fn places(home: &Home<Places>) -> Vec<(u64, u64)> {
    let mut places: Vec<_> = home.objects().map(|(id, _, state)| (id.0, *state)).collect();
    places.sort_unstable();
    assert_eq!(home.len(), places.len());
    places
}

fn each_batch(log: &[u8], mut each: impl FnMut(&LogBatch<'_>)) {
    let end = scan(log, SEGMENT, BOUNDS, &mut Tail::default(), |batch| each(&batch));
    assert_eq!(end, Ok(End::Full));
}

#[test]
fn what_was_in_a_collection_that_was_cleared_is_gone_and_what_came_later_is_not() {
    let mut home = Home::<Places>::new(1);
    for (log, left) in CLEARED.iter().zip(LEFT) {
        each_batch(&log_of(log), |batch| {
            let mut replay = Replay::<Places>::new(Router::new(PlacementKey(1), 1));
            let put = |_, changes: &mut Vec<_>| home.apply_all::<NoPrefetch>(changes);
            replay.apply(batch, Epoch(0), Epoch(9), put).expect("it can be understood");
        });
        assert_eq!(places(&home), left);
    }
}

/// Of an earlier version only bytes are known; it says which are entries.
#[test]
fn a_collection_that_an_earlier_version_cleared_is_not_migrated() {
    fn plus<const OLD: u32, const NEW: u32>(migrations: &mut Migrations) {
        migrations.add::<Version<OLD, true>, Version<NEW, true>, _, _, _>(Migration {
            id: |id| Ok(id),
            state: |_, state: u64| Ok(state),
            message: |()| Ok(()),
        });
    }
    let mut migrations = Migrations::default();
    plus::<1, 2>(&mut migrations);
    plus::<2, 3>(&mut migrations);
    let schema = Schema::new(3);
    let reading =
        Reading::of::<Version<3, true>>(schema, WrittenSchema::of::<Version<3, true>>(), migrations);
    let manifest = Manifest {
        database: 1,
        placement_key: 1,
        segment_bytes: 1 << 20,
        next_log: 1,
        checkpoint: None,
        runs: Vec::new(),
        schemas: Vec::new(),
        checkpoint_schema: 0,
        blamed: Vec::new(),
    };
    // Each log is of version 1 or 2, and what comes first is of the earlier.
    for versions in [[1, 1, 1], [1, 1, 2], [1, 2, 2], [2, 2, 2]] {
        for logs in 1..=CLEARED.len() {
            let mut migrating = Migrating::new(&reading, &manifest);
            for (log, version) in CLEARED.iter().zip(versions).take(logs) {
                let (types, mut old) = (reading.old_types(version), OldReplay::default());
                each_batch(&log_of(log), |batch| {
                    old.apply(batch, Epoch(0), Epoch(9), &types).expect("it can be understood");
                });
                migrating.follow(version, [old]).expect("it can be migrated");
            }
            let mut home = Home::<Places>::new(1);
            let put = |_, changes: &mut Vec<_>| home.apply(changes.drain(..));
            let router = Router::new(PlacementKey(1), 1);
            drop(migrating.finish::<Places>(router, put).expect("it can be migrated"));
            assert_eq!(places(&home), LEFT[logs - 1], "{logs} logs of {versions:?}");
        }
    }
}

#[test]
fn an_earlier_version_that_does_not_say_what_entries_are_is_not_guessed_at() {
    let mut migrations = Migrations::default();
    migrations.add::<Version<1, false>, Version<2, true>, _, _, _>(Migration {
        id: |id| Ok(id),
        state: |_, state: u64| Ok(state),
        message: |()| Ok(()),
    });
    let schema = Schema::new(2);
    let reading =
        Reading::of::<Version<2, true>>(schema, WrittenSchema::of::<Version<2, true>>(), migrations);
    for (log, is_read) in [(CLEARED[0], true), (CLEARED[1], false)] {
        each_batch(&log_of(log), |batch| {
            let read = OldReplay::default().apply(batch, Epoch(0), Epoch(9), &reading.old_types(1));
            match read {
                Ok(()) => assert!(is_read),
                Err(not) => assert!(!is_read && not.what.contains("SchemaTypes::COLLECTION"), "{not:?}"),
            }
        });
    }
}
