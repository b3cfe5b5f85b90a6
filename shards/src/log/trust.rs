//! Makes sure that a value can be read again before anybody is told that it was kept.
//!
//! serde's two halves need not agree: `untagged`, `skip_serializing_if`, a variant behind a skipped
//! one and others write what nobody can read back from a format that names nothing. So a value is
//! *read back* before its message succeeds: it is decoded, what comes of that is encoded, and both
//! must be the same bytes of the same [shape](crate::log::encoder), but for the order of entries in
//! a map. (A `HashMap` that was read goes through its entries in another order.)
//!
//! - Debug builds read everything back.
//! - Release builds read back every message told and the id of every object that is inserted. Of
//!   states they read back the first [`ALWAYS`] of a shard, each with a shape that the shard has
//!   not read back yet, and one of [`STRIDE`] others.
//!
//! A release build can miss a state of a shape that was read back before, and whose bytes all the
//! same cannot be read: only a hand-written `Serialize` or `Deserialize`, or one by
//! `serialize_with` or `deserialize_with`, can make such a state. Two examples are text that
//! `Deserialize` parses, and a `Deserialize` whose first number decides what it asks for next.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::log::encoder::{Encoder, Known, ValueShape};
use crate::log::fixed::{self, Layout};
use crate::log::record::{Coded, Coding, Layouts};
use crate::log::refused::{RecordError, Unreadable, Value};

/// So many states of a shard are read back, whatever their shape.
const ALWAYS: u32 = 64;
/// Of those that follow, one in so many is.
const STRIDE: u32 = 1024;
/// So many units of shapes are kept in mind. Values with others are read back each time, which is
/// slow and not wrong.
const UNITS_MAX: usize = 4096;
const UNITS_MIN: usize = 64;

/// Units of shapes that were read back: a table of hashes, in which a hash is at the place its
/// first bits say, or behind it.
struct Units {
    /// A power of two long, and at most half full; 0 is an empty place.
    table: Vec<u64>,
    len: usize,
}

impl Default for Units {
    fn default() -> Self {
        Units { table: vec![0; 1], len: 0 }
    }
}

impl Units {
    /// The place of this unit, or the empty one where it would be.
    #[inline(always)]
    fn place(&self, unit: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut at = (unit >> 32) as usize & mask;
        while self.table[at] != 0 && self.table[at] != unit {
            at = (at + 1) & mask;
        }
        at
    }

    fn insert(&mut self, unit: u64) {
        if self.len >= UNITS_MAX {
            return;
        }
        if 2 * (self.len + 1) > self.table.len() {
            let twice = vec![0; (2 * self.table.len()).max(UNITS_MIN)];
            for unit in std::mem::replace(&mut self.table, twice) {
                let at = self.place(unit);
                self.table[at] = unit;
            }
        }
        let at = self.place(unit);
        self.len += usize::from(self.table[at] == 0 && unit != 0);
        self.table[at] = unit;
    }
}

impl Known for Units {
    #[inline(always)]
    fn knows(&self, unit: u64) -> bool {
        self.table[self.place(unit)] != 0
    }
}

/// Nothing: of a value that is read back in any case.
struct Nothing;

impl Known for Nothing {
    #[inline]
    fn knows(&self, _: u64) -> bool {
        true
    }
}

/// Which states of an actor are known to be readable.
pub(crate) struct Trust {
    /// How ids and states are written, if with a fixed width.
    pub(crate) layouts: Layouts,
    /// Of both layouts; 0 if one has none, or if they are too long together.
    put_key: u64,
    units: Units,
    /// How many values until one is read back whatever its shape.
    until_next: u32,
    /// How many are still to be read back whatever their shape, one after the other.
    first: u32,
    /// Everything is read back.
    is_thorough: bool,
}

impl Trust {
    /// None yet. They are written as `layouts` say, and have with their ids `value_max` bytes at
    /// most.
    pub(crate) fn new(layouts: Layouts, value_max: usize) -> Self {
        let is_thorough = cfg!(debug_assertions);
        let put_key = match layouts {
            Layouts { id: Some(id), state: Some(state) } if id.bytes + state.bytes <= value_max => {
                put_key(id, state)
            }
            _ => 0,
        };
        Trust { layouts, put_key, units: Units::default(), until_next: 1, first: ALWAYS, is_thorough }
    }

    /// As in a release build.
    #[cfg(test)]
    pub(crate) fn sparing(layouts: Layouts) -> Self {
        Trust { is_thorough: false, ..Trust::new(layouts, usize::MAX) }
    }

    /// Appends a state that can be read again, and says how it is written: with `layout` if there
    /// is one and it fits.
    ///
    /// # Errors
    /// It refuses to be serialized, or cannot be read again; something may have been appended.
    #[inline]
    pub(crate) fn encode<T: Serialize + DeserializeOwned>(
        &mut self,
        state: &T,
        layout: Option<Layout>,
        to: &mut Vec<u8>,
    ) -> Result<Coding, RecordError> {
        let from = to.len();
        if fixed::append(state, layout, to) {
            if self.is_to_read_back() {
                self.read_back_fixed(state, &to[from..])?;
            }
            return Ok(Coding::Fixed);
        }
        self.encode_varying(state, to)?;
        Ok(Coding::Postcard)
    }

    #[inline]
    fn encode_varying<T: Serialize + DeserializeOwned>(
        &mut self,
        state: &T,
        to: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let from = to.len();
        let mut encoder = Encoder::new(&self.units, to);
        state.serialize(&mut encoder).map_err(RecordError::refused)?;
        let shape = encoder.finish();
        self.until_next -= 1;
        if self.until_next == 0 || !shape.fresh.is_empty() {
            self.read_back(state, &to[from..], shape)?;
        }
        Ok(())
    }

    /// Whether both are the layouts of ids and states, and records of them short enough.
    #[inline(always)]
    pub(crate) fn is_fixed(&self, id: Layout, state: Layout) -> bool {
        // Of what derives `Serialize` the compiler knows the key.
        self.put_key == put_key(id, state)
    }

    /// Counts a state of a fixed width, and says whether it is to be read back.
    #[inline(always)]
    pub(crate) fn is_to_read_back(&mut self) -> bool {
        self.until_next -= 1;
        self.until_next == 0
    }

    /// The bytes of a fixed width are read as a value that is written as these bytes.
    #[cold]
    pub(crate) fn read_back_fixed<T: Serialize + DeserializeOwned>(
        &mut self,
        state: &T,
        bytes: &[u8],
    ) -> Result<(), RecordError> {
        self.until_next = self.until_next.max(1);
        let not = |why| RecordError::NotReadable { what: Value::State, why };
        let found: T = fixed::read(bytes).map_err(|_| not(Unreadable::Refused))?;
        let (mut again, mut now) = (Vec::new(), Vec::new());
        let is_again = fixed::append(&found, self.layouts.state, &mut again);
        // And once more what was written: `Serialize` gives the same twice.
        let is_now = fixed::append(state, self.layouts.state, &mut now);
        if !is_again || !is_now || again != bytes || now != bytes {
            return Err(not(Unreadable::OtherValue));
        }
        self.was_read_back();
        Ok(())
    }

    fn was_read_back(&mut self) {
        self.first = self.first.saturating_sub(1);
        self.until_next = if self.first > 0 || self.is_thorough { 1 } else { STRIDE };
    }

    #[cold]
    fn read_back<T: Serialize + DeserializeOwned>(
        &mut self,
        state: &T,
        bytes: &[u8],
        shape: ValueShape,
    ) -> Result<(), RecordError> {
        self.until_next = self.until_next.max(1);
        read_back(state, bytes, &shape)
            .map_err(|why| RecordError::NotReadable { what: Value::State, why })?;
        shape.fresh.into_iter().for_each(|unit| self.units.insert(unit));
        self.was_read_back();
        Ok(())
    }
}

/// One number for both; never 0.
#[inline(always)]
fn put_key(id: Layout, state: Layout) -> u64 {
    (id.leaves.rotate_left(17) ^ state.leaves) | 1
}

/// Appends a message that can be read again.
///
/// # Errors
/// As [`Trust::encode`].
pub(crate) fn encode_told<T: Serialize + DeserializeOwned>(
    message: &T,
    to: &mut Vec<u8>,
) -> Result<(), RecordError> {
    encode_checked(message, Value::Message, to)
}

/// Appends a value that can be read again.
///
/// # Errors
/// As [`Trust::encode`].
pub(crate) fn encode_checked<T: Serialize + DeserializeOwned>(
    value: &T,
    what: Value,
    to: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let from = to.len();
    let mut encoder = Encoder::new(&Nothing, to);
    value.serialize(&mut encoder).map_err(RecordError::refused)?;
    let shape = encoder.finish();
    read_back(value, &to[from..], &shape).map_err(|why| RecordError::NotReadable { what, why })
}

/// Makes sure that these bytes, which `id` was encoded to, read as `id`.
///
/// # Errors
/// They do not: two objects might become one.
pub(crate) fn check_id<I: DeserializeOwned + Eq>(id: &I, coded: Coded<'_>) -> Result<(), RecordError> {
    let found = match coded.coding {
        Coding::Fixed => fixed::read::<I>(coded.bytes).map_err(|_| Unreadable::Refused),
        Coding::Postcard => decode_all::<I>(coded.bytes).map_err(Unreadable::of),
    };
    let found = match found {
        Ok(found) if found == *id => return Ok(()),
        Ok(_) => Unreadable::OtherId,
        Err(why) => why,
    };
    Err(RecordError::NotReadable { what: Value::Id, why: found })
}

/// Reads a value that must be all there is.
pub(crate) fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Option<postcard::Error>> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(None),
        Err(error) => Err(Some(error)),
    }
}

/// Makes sure that these bytes, which `value` was encoded to, read as what it was, as far as its
/// `Serialize` tells.
fn read_back<T: Serialize + DeserializeOwned>(
    value: &T,
    bytes: &[u8],
    shape: &ValueShape,
) -> Result<(), Unreadable> {
    let found: T = decode_all(bytes).map_err(|error| match Unreadable::of(error) {
        Unreadable::Refused | Unreadable::OtherValue if shape.has_left_out => Unreadable::LeftOut,
        why => why,
    })?;
    let mut again = Vec::with_capacity(bytes.len());
    let mut encoder = Encoder::new(&Nothing, &mut again);
    let other = || if shape.has_left_out { Unreadable::LeftOut } else { Unreadable::OtherValue };
    found.serialize(&mut encoder).map_err(|_| other())?;
    if encoder.finish().sum == shape.sum && again == bytes {
        return Ok(());
    }
    // A map or a set that goes through its entries in an order of its own.
    let sorted = |value: &T| {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::sorted(&Nothing, &mut bytes);
        let written = value.serialize(&mut encoder);
        let sum = encoder.finish().sum;
        written.ok().map(|()| (sum, bytes))
    };
    match (sorted(value), sorted(&found)) {
        (Some(one), Some(two)) if one == two && again.len() == bytes.len() => Ok(()),
        _ => Err(other()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use proptest::prelude::*;
    use serde::{Deserialize, Serializer};

    use super::*;

    /// As debug builds and as release builds do it.
    fn both() -> [Trust; 2] {
        with(Layouts::default())
    }

    fn with(layouts: Layouts) -> [Trust; 2] {
        [Trust { is_thorough: true, ..Trust::new(layouts, usize::MAX) }, Trust::sparing(layouts)]
    }

    fn refused<T: Serialize + DeserializeOwned>(trust: &mut Trust, value: &T) -> Unreadable {
        match trust.encode(value, trust.layouts.state, &mut Vec::new()) {
            Err(RecordError::NotReadable { what: Value::State, why }) => why,
            other => panic!("{other:?}"),
        }
    }

    fn kept<T: Serialize + DeserializeOwned>(trust: &mut Trust, value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        trust.encode(value, trust.layouts.state, &mut bytes).expect("it can be read again");
        bytes
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u64),
        Text(String),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        One { a: u64 },
    }

    #[derive(Serialize, Deserialize)]
    enum Skipping {
        Before(u8),
        #[serde(skip)]
        #[allow(dead_code, reason = "it shifts the variant behind it")]
        Never,
        Behind(u8),
    }

    #[derive(Default, Serialize, Deserialize)]
    struct LeavesOut {
        #[serde(skip_serializing_if = "Option::is_none")]
        first: Option<u8>,
        second: Option<Option<u8>>,
    }

    #[derive(Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        all: BTreeMap<String, u8>,
    }

    /// `rust_decimal`'s and `serde_json`'s way: what is written is one of several things, and
    /// reading asks which.
    #[derive(Debug, PartialEq)]
    struct Asks(u64);

    impl Serialize for Asks {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_str(&self.0.to_string())
        }
    }

    impl<'de> Deserialize<'de> for Asks {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct AsksVisitor;
            impl serde::de::Visitor<'_> for AsksVisitor {
                type Value = Asks;
                fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    to.write_str("a number")
                }
                fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Asks, E> {
                    text.parse().map(Asks).map_err(E::custom)
                }
            }
            from.deserialize_any(AsksVisitor)
        }
    }

    /// `Decimal`, `serde_json::Value` and enums with `untagged` or `tag` were answered durably, and
    /// the next start refused the directory: what postcard writes of them nobody can read.
    #[test]
    fn what_cannot_be_read_again_is_refused_by_name() {
        for mut trust in both() {
            let trust = &mut trust;
            assert_eq!(refused(trust, &Untagged::Number(1)), Unreadable::AsksWhatComes);
            assert_eq!(refused(trust, &Untagged::Text("a".into())), Unreadable::AsksWhatComes);
            assert_eq!(refused(trust, &Tagged::One { a: 1 }), Unreadable::AsksWhatComes);
            assert_eq!(refused(trust, &Asks(7)), Unreadable::AsksWhatComes);
            assert_eq!(refused(trust, &Skipping::Behind(1)), Unreadable::Refused);
            assert_eq!(refused(trust, &LeavesOut::default()), Unreadable::LeftOut);
            let flat = Flat { all: BTreeMap::from([("a".to_string(), 1)]) };
            let error = trust.encode(&flat, None, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains("`flatten`"), "{error}");
        }
        let says = |why: Unreadable| why.to_string();
        for word in ["untagged", "tag =", "flatten", "serde_json::Value", "rust_decimal::Decimal"] {
            assert!(says(Unreadable::AsksWhatComes).contains(word), "{word}");
        }
        assert!(says(Unreadable::LeftOut).contains("`skip_serializing_if`"));
        assert!(says(Unreadable::Refused).contains("`skip`"));
    }

    /// Reading back must not be over when some values were read: the bad one may come late, and
    /// inside of others.
    #[test]
    fn a_shape_that_comes_late_is_read_back_too() {
        let mut trust = Trust::sparing(Layouts::default());
        let long_ago = |trust: &mut Trust| {
            for number in 0..5_000 {
                kept(trust, &(Some(Skipping::Before(1)), Vec::<Option<Untagged>>::new(), number));
                kept(trust, &LeavesOut { first: Some(3), second: Some(Some(number as u8)) });
            }
        };
        long_ago(&mut trust);
        assert_eq!(refused(&mut trust, &(Some(Skipping::Behind(1)), [(); 0], 1)), Unreadable::Refused);
        kept(&mut trust, &(Some(Skipping::Before(1)), vec![None::<Untagged>], 1));
        let late = (Some(Skipping::Before(1)), vec![None, Some(Untagged::Number(1))], 1);
        assert_eq!(refused(&mut trust, &late), Unreadable::AsksWhatComes);
        assert_eq!(refused(&mut trust, &late), Unreadable::AsksWhatComes);
        assert_eq!(refused(&mut trust, &LeavesOut::default()), Unreadable::LeftOut);
        // Its bytes can be read: as the first field, and another second.
        let shifted = LeavesOut { first: None, second: Some(Some(0)) };
        assert_eq!(refused(&mut trust, &shifted), Unreadable::LeftOut);
        long_ago(&mut trust);
    }

    /// Two states that postcard writes as the same bytes and that differ: the shape tells.
    #[test]
    fn a_state_that_reads_as_another_is_refused() {
        #[derive(Clone, Serialize, Deserialize)]
        struct Lossy(#[serde(serialize_with = "rounded")] u64);
        fn rounded<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
            static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            let call = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            to.serialize_u64(value / 10 + call)
        }
        for mut trust in both() {
            assert_eq!(refused(&mut trust, &Lossy(77)), Unreadable::OtherValue);
        }
    }

    /// A map that was read may go through its entries in another order, which is no reason to
    /// refuse it.
    #[test]
    fn maps_and_sets_are_kept_whatever_their_order() {
        for mut trust in both() {
            for size in 0..40_u32 {
                let map: HashMap<u32, Option<u32>> =
                    (0..size).map(|at| (at, Some(at).filter(|at| at % 2 == 0))).collect();
                let sets: HashMap<u32, HashSet<u32>> = (0..size).map(|at| (at, (0..at).collect())).collect();
                let bytes = kept(&mut trust, &(map.clone(), sets.clone()));
                assert_eq!(decode_all(&bytes).ok(), Some((map, sets)));
            }
        }
    }

    #[test]
    fn an_id_that_differs_in_a_skipped_field_is_refused() {
        #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
        struct SkippedSeat {
            row: u32,
            #[serde(skip)]
            number: u32,
        }
        let check = |seat: &SkippedSeat, coding| {
            let bytes = match coding {
                Coding::Postcard => postcard::to_allocvec(seat).expect("numbers"),
                Coding::Fixed => seat.row.to_le_bytes().to_vec(),
            };
            check_id(seat, Coded { coding, bytes: &bytes })
        };
        for coding in [Coding::Postcard, Coding::Fixed] {
            assert_eq!(check(&SkippedSeat { row: 1, number: 0 }, coding), Ok(()));
            let why = Unreadable::OtherId;
            let not = Err(RecordError::NotReadable { what: Value::Id, why });
            assert_eq!(check(&SkippedSeat { row: 1, number: 2 }, coding), not);
        }
    }

    /// Written as one thing and read as less than that: even numbers only.
    #[derive(Debug, PartialEq, Serialize)]
    struct Even(u64);

    impl<'de> Deserialize<'de> for Even {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let number = u64::deserialize(from)?;
            if number % 2 == 0 { Ok(Even(number)) } else { Err(serde::de::Error::custom("odd")) }
        }
    }

    #[test]
    fn a_state_of_fixed_width_is_read_back_too() {
        let layouts = Layouts::of::<u64, Even>();
        assert!(layouts.id.is_some() && layouts.state.is_some(), "{layouts:?}");
        for mut trust in with(layouts) {
            assert_eq!(kept(&mut trust, &Even(6)), 6_u64.to_le_bytes());
            assert_eq!(refused(&mut trust, &Even(7)), Unreadable::Refused);
            // In the end each is, and one of many in a release build.
            let mut refusals = 0;
            for _ in 0..4 * STRIDE {
                refusals += u32::from(trust.encode(&Even(9), layouts.state, &mut Vec::new()).is_err());
                kept(&mut trust, &Even(8));
                kept(&mut trust, &Even(4));
            }
            assert!(refusals >= ALWAYS / 2 + 2, "{refusals}");
        }
    }

    /// Not two values are written alike: the compiler must not be taken at its word.
    #[test]
    fn a_state_that_is_written_otherwise_each_time_is_refused_at_a_fixed_width() {
        #[derive(Clone, Serialize, Deserialize)]
        struct Restless(#[serde(serialize_with = "restless")] u64);
        fn restless<S: Serializer>(_: &u64, to: S) -> Result<S::Ok, S::Error> {
            static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            to.serialize_u64(CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        }
        for mut trust in with(Layouts::of::<u64, Restless>()) {
            assert!(trust.layouts.state.is_some());
            assert_eq!(refused(&mut trust, &Restless(1)), Unreadable::OtherValue);
        }
    }

    /// A value of any shape.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    enum AnyValue {
        Unit,
        Marker(Marker),
        Newtype(Box<AnyValue>),
        Tuple(u8, Box<AnyValue>, i128),
        Struct { flag: bool, inner: Option<Box<AnyValue>>, text: String },
        List(Vec<AnyValue>),
        Map(BTreeMap<String, AnyValue>),
        Hashed(HashMap<u16, AnyValue>),
        Float(f64),
        Small(f32, char),
        Nested(Option<Option<()>>, Result<i64, u128>),
        Long([u16; 20], [i8; 3]),
        Wrapped(Wrapped),
        Bytes(Box<[u8]>),
    }

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Marker;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Wrapped(i16, (u64, Option<i32>));

    fn any_value() -> impl Strategy<Value = AnyValue> {
        let leaf = prop_oneof![
            Just(AnyValue::Unit),
            Just(AnyValue::Marker(Marker)),
            any::<u64>().prop_map(|bits| AnyValue::Float(f64::from_bits(bits))),
            Just(AnyValue::Float(f64::from_bits(0x7ff8_dead_beef_0001))),
            (any::<u32>(), any::<char>())
                .prop_map(|(bits, text)| AnyValue::Small(f32::from_bits(bits), text)),
            (any::<Option<Option<()>>>(), any::<Result<i64, u128>>())
                .prop_map(|(a, b)| AnyValue::Nested(a, b)),
            (any::<[u16; 20]>(), any::<[i8; 3]>()).prop_map(|(a, b)| AnyValue::Long(a, b)),
            (any::<i16>(), any::<(u64, Option<i32>)>()).prop_map(|(a, b)| AnyValue::Wrapped(Wrapped(a, b))),
            any::<Vec<u8>>().prop_map(|bytes| AnyValue::Bytes(bytes.into())),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let boxed = inner.clone().prop_map(Box::new);
            prop_oneof![
                boxed.clone().prop_map(AnyValue::Newtype),
                (any::<u8>(), boxed.clone(), any::<i128>()).prop_map(|(a, b, c)| AnyValue::Tuple(a, b, c)),
                (any::<bool>(), proptest::option::of(boxed), any::<String>())
                    .prop_map(|(flag, inner, text)| AnyValue::Struct { flag, inner, text }),
                proptest::collection::vec(inner.clone(), 0..6).prop_map(AnyValue::List),
                proptest::collection::btree_map(any::<String>(), inner.clone(), 0..4).prop_map(AnyValue::Map),
                proptest::collection::hash_map(any::<u16>(), inner, 0..4).prop_map(AnyValue::Hashed),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 512 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// What is written is what postcard writes, nothing sound is refused, and it reads as what
        /// it was.
        #[test]
        fn values_of_any_shape_are_kept_as_postcard_has_them(values in proptest::collection::vec(any_value(), 1..8)) {
            for mut trust in both() {
                for value in &values {
                    let mut bytes = kept(&mut trust, value);
                    prop_assert_eq!(&bytes, &postcard::to_allocvec(value).expect("it can be written"));
                    let read: AnyValue = decode_all(&bytes).expect("it can be read");
                    // NaN is not equal to itself, and a `HashMap` has no order: the text of both,
                    // with its letters sorted.
                    let text = |value: &AnyValue| {
                        let mut text: Vec<char> = format!("{value:?}").chars().collect();
                        text.sort_unstable();
                        text
                    };
                    prop_assert_eq!(text(&read), text(value));
                    bytes.clear();
                    prop_assert!(encode_told(value, &mut bytes).is_ok());
                }
            }
        }
    }
}
