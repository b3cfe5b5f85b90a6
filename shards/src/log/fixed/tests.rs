use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer};

use super::*;
use crate::log::shape::{Shape, Width, layout_of};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    flag: bool,
    a: (i8, u8),
    b: (i16, u16),
    c: (i32, u32),
    d: (i64, u64),
    e: (i128, u128),
    f: (f32, f64),
    mark: char,
    nothing: (),
    marker: Marker,
    many: [[u16; 3]; 2],
    wrapped: Wrapped,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(Inner);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Inner(i16, u64);

/// The bytes of [`ALL`]; they are on disk.
const GOLDEN: &str = "01 ff fe feff fdff fcffffff fbffffff faffffffffffffff f9ffffffffffffff \
    f8ffffffffffffffffffffffffffffff f7ffffffffffffffffffffffffffffff 0000003f 000000000000e0bf \
    ffff1000 0100 0200 0300 0400 0500 0600 f6ff f5ffffffffffffff";

const ALL: All = All {
    flag: true,
    a: (-1, u8::MAX - 1),
    b: (-2, u16::MAX - 2),
    c: (-4, u32::MAX - 4),
    d: (-6, u64::MAX - 6),
    e: (-8, u128::MAX - 8),
    f: (0.5, -0.5),
    mark: char::MAX,
    nothing: (),
    marker: Marker,
    many: [[1, 2, 3], [4, 5, 6]],
    wrapped: Wrapped(Inner(-10, u64::MAX - 10)),
};

/// Both ways of writing make the same bytes.
fn written<T: Serialize + DeserializeOwned>(value: &T) -> Option<Vec<u8>> {
    let layout = layout_of::<T>();
    let mut bytes = vec![7];
    if !append(value, layout, &mut bytes) {
        assert_eq!(bytes, [7], "what is not written leaves nothing");
        return None;
    }
    let mut place = vec![0; bytes.len() - 1];
    assert_eq!(write(value, &mut place), Ok(()));
    assert_eq!(bytes[1..], place);
    // A place that is too long or too short is none.
    assert_eq!(write(value, &mut vec![0; place.len() + 1]), Err(NotFixed));
    assert!(place.is_empty() || write(value, &mut vec![0; place.len() - 1]) == Err(NotFixed));
    assert_eq!(layout.map(|layout| layout.bytes), Some(place.len()));
    assert_eq!(Shape::of::<T>().width.map(|width| width.bytes as usize), Some(place.len()));
    Some(place)
}

/// If this test fails, directories are read wrongly that are as they should be: change the code,
/// not the bytes.
#[test]
fn golden_bytes() {
    let bytes = written(&ALL).expect("all of it has a fixed width");
    let golden: String = GOLDEN.split_whitespace().collect();
    let found: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, golden);
    assert_eq!(
        Shape::of::<All>().width,
        Some(Width { bytes: 101, order: Some(0x2e35_d0d7_9415_9845) }),
        "the order is on disk, too"
    );
    assert_eq!(read(&bytes), Ok(ALL));
    assert_eq!(read::<All>(&bytes[1..]), Err(NotFixed));
    assert_eq!(read::<All>(&[&bytes[..], &[0]].concat()), Err(NotFixed));
}

#[test]
fn types_of_numbers_have_a_width_and_others_have_none() {
    assert_eq!(layout_of::<()>().map(|layout| layout.bytes), Some(0));
    assert_eq!(layout_of::<[u8; 32]>().map(|layout| layout.bytes), Some(32));
    assert_eq!(layout_of::<(u64, NonZeroU32, Duration)>().map(|layout| layout.bytes), Some(24));
    assert_eq!(layout_of::<usize>(), layout_of::<u64>());
    assert_ne!(layout_of::<(u32, u64)>(), layout_of::<(u64, u32)>());
    assert_ne!(layout_of::<u64>(), layout_of::<i64>());
    fn varies<T: Serialize + DeserializeOwned>() {
        assert_eq!((layout_of::<T>(), Shape::of::<T>().width), (None, None));
    }
    varies::<String>();
    varies::<Option<u8>>();
    varies::<(u64, Vec<u8>)>();
    varies::<Result<u8, u8>>();
    varies::<BTreeMap<u8, u8>>();
    varies::<(u64, Box<str>, u64)>();
}

/// Written by a number of half the width that its `Deserialize` asks for.
#[derive(Debug, PartialEq, Deserialize)]
struct Narrow(u64);

impl Serialize for Narrow {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(self.0 as u32)
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Panics(u64);

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("on purpose")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct LeavesOut {
    first: u64,
    #[serde(skip_serializing_if = "is_zero", default)]
    second: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[test]
fn a_type_that_is_written_otherwise_than_read_has_no_width() {
    assert_eq!(layout_of::<Narrow>(), None);
    assert_eq!(layout_of::<(u8, Narrow)>(), None);
    assert_eq!(layout_of::<Panics>(), None);
    // It is as its `Deserialize` asks, but for one value.
    assert_eq!(written(&LeavesOut { first: 1, second: 2 }).map(|bytes| bytes.len()), Some(16));
    assert_eq!(written(&LeavesOut { first: 1, second: 0 }), None);
}

#[test]
fn bytes_that_are_no_value_are_refused() {
    assert_eq!((read(&[1]), read(&[0])), (Ok(true), Ok(false)));
    assert_eq!(read::<bool>(&[2]), Err(NotFixed));
    assert_eq!(read(&0x10_ffff_u32.to_le_bytes()), Ok(char::MAX));
    assert_eq!(read::<char>(&0x11_0000_u32.to_le_bytes()), Err(NotFixed));
    assert_eq!(read::<char>(&0xd800_u32.to_le_bytes()), Err(NotFixed));
    assert_eq!(read::<NonZeroU32>(&[0; 4]), Err(NotFixed));
    assert_eq!(read::<String>(&[0; 4]), Err(NotFixed));
    assert_eq!(read::<Option<u8>>(&[0; 2]), Err(NotFixed));
}

fn bits(all: &All) -> (All, u32, u64) {
    let (a, b) = all.f;
    (All { f: (0.0, 0.0), ..*all }, a.to_bits(), b.to_bits())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 2048 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Every value reads as what it was, to the bit: NaNs, too.
    #[test]
    fn what_is_written_is_read(
        numbers in any::<(bool, (i8, u8), (i16, u16), (i32, u32), (i64, u64), (i128, u128))>(),
        (f, g, mark) in any::<(u32, u64, char)>(),
        many in any::<[[u16; 3]; 2]>(),
        (h, i) in any::<(i16, u64)>(),
    ) {
        let (flag, a, b, c, d, e) = numbers;
        let (f, wrapped) = ((f32::from_bits(f), f64::from_bits(g)), Wrapped(Inner(h, i)));
        let all = All { flag, a, b, c, d, e, f, mark, nothing: (), marker: Marker, many, wrapped };
        let bytes = written(&all).expect("it has a fixed width");
        prop_assert_eq!(bytes.len(), 101);
        let found: All = read(&bytes).expect("it can be read");
        prop_assert_eq!(bits(&found), bits(&all));
    }

    /// Whatever the bytes: no panic, and what is read is written as them again.
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 99..104)) {
        if let Ok(found) = read::<All>(&bytes) {
            prop_assert_eq!(written(&found), Some(bytes));
        }
    }
}
