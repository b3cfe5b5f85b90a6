use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::log::bounds::Bounds;

fn write<I: Serialize + DeserializeOwned + Eq, S: Serialize + DeserializeOwned>(
    id: &I,
    ownership: Ownership,
    state: Option<&S>,
    to: &mut Vec<u8>,
) -> Result<(), RecordError> {
    write_within(1 << 20, id, ownership, state, to)
}

fn write_within<I: Serialize + DeserializeOwned + Eq, S: Serialize + DeserializeOwned>(
    value_max: usize,
    id: &I,
    ownership: Ownership,
    state: Option<&S>,
    to: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let mut trust = Trust::new(Layouts::of::<I, S>(), value_max);
    let mut records = Records::new(Bounds::of_segments(1 << 20));
    let mark = records.mark();
    let pushed = records.push_object(id, IdIs::New, ownership, state, &mut trust, value_max);
    pushed.map(|()| to.extend_from_slice(records.last_record(mark)))
}

/// The only record that `push` makes of a known object, with a trust for its types.
fn pushed<I, S>(
    id: &I,
    state: &S,
    value_max: usize,
    push: impl FnOnce(&mut Records, &I, &S, &mut Trust) -> bool,
) -> Option<Vec<u8>>
where
    I: Serialize + DeserializeOwned + Eq,
    S: Serialize + DeserializeOwned,
{
    let mut trust = Trust::new(Layouts::of::<I, S>(), value_max);
    let mut records = Records::new(Bounds::of_segments(1 << 20));
    let mark = records.mark();
    push(&mut records, id, state, &mut trust).then(|| records.last_record(mark).to_vec())
}

type Place = (u32, [u8; 3]);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Cell {
    value: i64,
    parts: [u16; 5],
    mark: char,
    is_set: bool,
    share: f32,
}

const CELL: Cell = Cell { value: -2, parts: [1, 2, 3, 4, 5], mark: 'x', is_set: true, share: 0.5 };

fn push_fixed(records: &mut Records, id: &Place, state: &Cell, trust: &mut Trust) -> bool {
    records.push_fixed(id, state, trust).expect("it can be read again")
}

// The fast way and the way of everything else make one record, and it reads as what it was.
#[test]
fn a_record_of_fixed_width_is_the_same_both_ways_and_is_read() {
    let id = (7, [1, 2, 3]);
    let fast = pushed(&id, &CELL, 1 << 10, push_fixed).expect("it has a fixed width");
    let slow = pushed(&id, &CELL, 1 << 10, |records, id, state, trust| {
        records.push_object(id, IdIs::Known, Ownership::default(), Some(state), trust, 1 << 10).is_ok()
    });
    assert_eq!(slow.as_ref(), Some(&fast));
    assert_eq!(fast.len(), 3 + 7 + 27);
    let Some(Record::Put { id: found, ownership, state }) = Record::read(&fast) else {
        panic!("{fast:?} is a put")
    };
    assert_eq!((found.coding, state.coding), (Coding::Fixed, Coding::Fixed));
    assert_eq!((found.decode(), ownership, state.decode()), (Some(id), Ownership::default(), Some(CELL)));
    // A byte more or less is another thing, and is no value.
    for state in [Coded { bytes: &state.bytes[1..], ..state }, Coded { bytes: &fast, ..state }] {
        assert_eq!(state.decode::<Cell>(), None);
    }
}

// An object may be at home here since an earlier version that wrote it by postcard, in as many
// bytes as there may be. It must not become too long.
#[test]
fn a_record_that_is_too_long_at_a_fixed_width_goes_by_postcard() {
    let id = (7, [1, 2, 3]);
    let fixed = 7 + 27;
    let postcard = [postcard::to_allocvec(&id), postcard::to_allocvec(&CELL)];
    let postcard: usize = postcard.into_iter().map(|it| it.expect("numbers").len()).sum();
    assert!(postcard < fixed);
    for max in [postcard - 1, postcard, fixed - 1, fixed, fixed + 1] {
        let mut bytes = Vec::new();
        let written = write_within(max, &id, Ownership::default(), Some(&CELL), &mut bytes);
        assert_eq!(pushed(&id, &CELL, max, push_fixed).is_some(), max >= fixed);
        if max < postcard {
            assert_eq!(written, Err(RecordError::TooLong { bytes: postcard, max }));
            continue;
        }
        assert_eq!(written, Ok(()));
        let Some(Record::Put { id: found, state, .. }) = Record::read(&bytes) else {
            panic!("{bytes:?} is a put")
        };
        let coding = if max >= fixed { Coding::Fixed } else { Coding::Postcard };
        assert_eq!((found.coding, state.coding), (coding, coding));
        assert_eq!((found.decode(), state.decode()), (Some(id), Some(CELL)));
    }
}

// Only one of the two has a fixed width; then each is written in its way.
#[test]
fn ids_and_states_are_written_each_in_their_way() {
    for (owner, length) in [(0, 8), (9, 8), (u64::MAX, 8)] {
        let (mut bytes, ownership) = (Vec::new(), Ownership::Owned(OwnerId(owner)));
        write(&7_u64, ownership, Some(&"state".to_string()), &mut bytes).expect("it can be written");
        let Some(Record::Put { id, state, ownership: whose }) = Record::read(&bytes) else {
            panic!("{bytes:?} is a put")
        };
        assert_eq!((id.coding, id.bytes.len(), state.coding), (Coding::Fixed, length, Coding::Postcard));
        assert_eq!((id.decode(), whose), (Some(7_u64), ownership));
        bytes.clear();
        write(&vec![1_u8], ownership, Some(&CELL), &mut bytes).expect("it can be written");
        let Some(Record::Put { id, state, .. }) = Record::read(&bytes) else { panic!("{bytes:?} is a put") };
        assert_eq!((id.coding, state.coding), (Coding::Postcard, Coding::Fixed));
        assert_eq!((id.decode(), state.decode()), (Some(vec![1_u8]), Some(CELL)));
    }
}

/// Writes small numbers with half of the width, so its values have no one width.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Saves(u64);

impl Serialize for Saves {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match u32::try_from(self.0) {
            Ok(small) if small > 1000 => to.serialize_u32(small),
            _ => to.serialize_u64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Saves {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u64::deserialize(from).map(Saves)
    }
}

// postcard writes both as the same bytes, so an actor with such a state worked before there
// were fixed widths. Its record says how the value is written.
#[test]
fn a_value_that_is_written_otherwise_than_its_type_goes_by_postcard() {
    for (number, coding) in [(1, Coding::Fixed), (1 << 40, Coding::Fixed), (5000, Coding::Postcard)] {
        let mut bytes = Vec::new();
        write(&7_u64, Ownership::default(), Some(&Saves(number)), &mut bytes).expect("it can be written");
        let Some(Record::Put { state, .. }) = Record::read(&bytes) else { panic!("{bytes:?} is a put") };
        assert_eq!((state.coding, state.decode()), (coding, Some(Saves(number))));
        let fast = pushed(&7_u64, &Saves(number), 1 << 10, |records, id, state, trust| {
            records.push_fixed(id, state, trust).expect("it can be read again")
        });
        assert_eq!(fast.is_some(), coding == Coding::Fixed, "{number}");
    }
}

#[test]
fn bits_that_a_kind_does_not_have_make_no_record() {
    let all = [
        (epoch_record(Epoch(2)).to_vec(), 0),
        (delivered_record(SendId(2)).to_vec(), 0),
        (cancelled_record(SendId(2), Time(3)).to_vec(), 0),
        ([&[SEND][..], &[1; 16], &[5]].concat(), 0),
        ([&[SEND_LATER][..], &[1; 24], &[5]].concat(), 0),
        (vec![REMOVE, 7], ID_FIXED),
        (vec![CLEARED, 7], ID_FIXED),
        (vec![PUT, 1, 0, 7, 7], ID_FIXED | STATE_FIXED),
    ];
    for (record, allowed) in all {
        for bits in [0, ID_FIXED, STATE_FIXED, ID_FIXED | STATE_FIXED] {
            let mut record = record.clone();
            record[0] |= bits;
            assert_eq!(Record::read(&record).is_some(), bits & !allowed == 0, "{record:?}");
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let id = (7_u64, 9_u32);
    for ownership in [
        Ownership::Owned(OwnerId(0)),
        Ownership::Owned(OwnerId(u64::MAX)),
        Ownership::Shared,
        Ownership::Immutable,
    ] {
        let mut bytes = Vec::new();
        write(&id, ownership, Some(&"state".to_string()), &mut bytes).expect("it can be written");
        let Some(Record::Put { id: found, ownership: whose, state }) = Record::read(&bytes) else {
            panic!("{bytes:?} is a put")
        };
        assert_eq!((found.decode(), whose), (Some(id), ownership));
        assert_eq!(state.decode::<String>().as_deref(), Some("state"));
    }
    let mut bytes = Vec::new();
    write(&id, Ownership::Shared, None::<&u8>, &mut bytes).expect("it can be written");
    let Some(Record::Remove { id: found }) = Record::read(&bytes) else { panic!("{bytes:?} is a removal") };
    assert_eq!(found.decode(), Some(id));
    for due in [None, Some(Time(5))] {
        let mut bytes = Vec::new();
        write_send(SendId(3), OwnerId(4), due, b"message", 7, &mut bytes).expect("it is short enough");
        let send = Record::Send { send_id: SendId(3), sender: OwnerId(4), due, message: b"message" };
        assert_eq!(Record::read(&bytes), Some(send));
    }
    assert_eq!(Record::read(&delivered_record(SendId(8))), Some(Record::Delivered { send_id: SendId(8) }));
    let cancelled = cancelled_record(SendId(8), Time(9));
    assert_eq!(Record::read(&cancelled), Some(Record::Cancelled { send_id: SendId(8), due: Time(9) }));
    assert_eq!(Record::read(&cancelled[..16]), None);
    assert_eq!(Record::read(&[&cancelled[..], &[0]].concat()), None);
    assert_eq!(Record::read(&epoch_record(Epoch(2))), Some(Record::Epoch(Epoch(2))));
}

#[test]
fn a_value_with_something_behind_it_is_not_that_value() {
    assert_eq!(decode::<u8>(&[1]), Some(1));
    assert_eq!(decode::<u8>(&[1, 2]), None);
    assert_eq!(decode::<u8>(&[]), None);
}

/// The record that a collection was cleared.
fn cleared<I>(collection: &I, value_max: usize) -> Result<Vec<u8>, RecordError>
where
    I: Serialize + DeserializeOwned + Eq,
{
    let mut records = Records::new(Bounds::of_segments(1 << 20));
    let (mark, layout) = (records.mark(), Layouts::of::<I, ()>().id);
    records.push_cleared(collection, layout, value_max)?;
    Ok(records.last_record(mark).to_vec())
}

// The writer and the reader take ids of the same lengths, in both codings.
#[test]
fn a_collection_that_was_cleared_is_read_at_each_bound() {
    for (bytes, is_written) in [(0, true), (ID_MAX - 3, true), (ID_MAX - 2, false)] {
        let id = vec![1_u8; bytes];
        match cleared(&id, 1 << 20) {
            Ok(record) if is_written => {
                let Some(Record::Cleared { collection }) = Record::read(&record) else {
                    panic!("{bytes} bytes are a clearing")
                };
                assert_eq!((collection.coding, collection.decode()), (Coding::Postcard, Some(id)));
            }
            refused => assert_eq!(refused, Err(RecordError::IdTooLong { bytes: ID_MAX + 1 })),
        }
    }
    assert_eq!(Record::read(&vec![CLEARED; 2 + ID_MAX]), None);
    // Eight bytes at a fixed width, and one by postcard.
    for (max, coding) in [(8, Some(Coding::Fixed)), (7, Some(Coding::Postcard)), (0, None)] {
        let record = cleared(&7_u64, max);
        let Some(coding) = coding else {
            assert_eq!(record, Err(RecordError::TooLong { bytes: 1, max }));
            continue;
        };
        let record = record.expect("it is short enough");
        let Some(Record::Cleared { collection }) = Record::read(&record) else {
            panic!("{record:?} is a clearing")
        };
        assert_eq!((collection.coding, collection.decode()), (coding, Some(7_u64)));
    }
}

#[test]
fn an_id_may_be_as_long_as_its_length_can_say() {
    // Three bytes are its length.
    for (bytes, is_written) in [(ID_MAX - 3, true), (ID_MAX - 2, false)] {
        let id = vec![1_u8; bytes];
        let written = write(&id, Ownership::Shared, Some(&0_u8), &mut Vec::new());
        assert_eq!(written.is_ok(), is_written);
        assert!(is_written || written == Err(RecordError::IdTooLong { bytes: ID_MAX + 1 }), "{written:?}");
    }
}

#[test]
fn a_value_may_be_as_long_as_the_bound_whoever_it_belongs_to() {
    let (id, state) = (7_u8, vec![1_u8; 99]);
    for ownership in [Ownership::Owned(OwnerId(0)), Ownership::Owned(OwnerId(1)), Ownership::Shared] {
        let write = |max| write_within(max, &id, ownership, Some(&state), &mut Vec::new());
        assert_eq!((write(101), write(100)), (Ok(()), Err(RecordError::TooLong { bytes: 101, max: 100 })));
    }
    let send = |max| write_send(SendId(1), OwnerId(1), Some(Time(1)), &state, max, &mut Vec::new());
    assert_eq!((send(99), send(98)), (Ok(()), Err(RecordError::TooLong { bytes: 99, max: 98 })));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 1024 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64), kind in 0_u8..13) {
        let _ = Record::read(&bytes);
        let mut bytes = bytes;
        bytes.insert(0, kind);
        let _ = Record::read(&bytes);
    }
}
