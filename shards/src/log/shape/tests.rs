#![allow(dead_code, reason = "a shape is read from the type; most fields are never read")]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::trace::VISITS_MAX;
use super::*;

fn text<T: DeserializeOwned>() -> String {
    let shape = Shape::of::<T>();
    assert!(shape.is_whole, "{shape:?}");
    shape.text
}

#[derive(Deserialize)]
struct Account {
    name: String,
    coins: i64,
    key: [u8; 32],
}

#[derive(Deserialize)]
enum Message {
    Nothing,
    Put(u64, String),
    Tuple((u64, u64)),
    Open(Account),
    Move { from: u64, to: u64, how: How },
}

#[derive(Deserialize)]
enum How {
    Now,
    At(u64),
    Never(Option<bool>),
}

#[derive(Deserialize)]
struct Pair<T>(T, T);

#[derive(Deserialize)]
struct Coins(i64);

#[derive(Deserialize)]
struct Chain {
    value: u16,
    next: Option<Box<Chain>>,
}

#[derive(Deserialize)]
enum Expression {
    Add(Box<Expression>, Box<Expression>),
    Block(Box<Statement>),
    Literal(i64),
}

#[derive(Deserialize)]
enum Statement {
    Do(Expression),
    All(Vec<Statement>),
    Nothing,
}

/// Fingerprints are on disk. If this test fails, directories are refused that are as they should
/// be: change the code, not the values.
#[test]
fn golden_values() {
    let golden = |shape: Shape, text: &str, fingerprint: u64| {
        assert_eq!((&*shape.text, shape.is_whole), (text, true));
        assert_eq!(shape.fingerprint, fingerprint, "{text}: {:#018x}", shape.fingerprint);
    };
    golden(Shape::of::<u64>(), "u64", 0xa248_1493_b936_2ff3);
    golden(Shape::of::<Account>(), "{name: str, coins: i64, key: (u8*32)}", 0xf5d6_7fe6_7b42_f2b5);
    golden(
        Shape::of::<Message>(),
        "<Nothing, Put(u64, str), Tuple(u64*2), Open{name: str, coins: i64, key: (u8*32)}, Move{from: u64, to: u64, how: <Now, At(u64), Never(?bool)>}>",
        0x272a_5ccd_ff29_d170,
    );
    golden(Shape::of::<Chain>(), "{value: u16, next: ?^2}", 0xf983_c365_f38d_23b3);
    golden(
        Shape::of::<Expression>(),
        "<Add(^1*2), Block(<Do(^2), All([^2]), Nothing>), Literal(i64)>",
        0x6407_c044_188f_1346,
    );
    golden(
        Shape::of::<BTreeMap<char, (f32, f64, i8, u128)>>(),
        "map(char, (f32, f64, i8, u128))",
        0xcb57_b5c3_3b35_4719,
    );
}

#[test]
fn what_bytes_do_not_show_the_shape_does_not_show() {
    assert_eq!(text::<Coins>(), text::<i64>());
    assert_eq!(text::<Box<i64>>(), text::<i64>());
    assert_eq!(text::<Pair<u8>>(), text::<(u8, u8)>());
    assert_eq!(text::<HashMap<u8, u8>>(), text::<BTreeMap<u8, u8>>());
    assert_eq!(text::<()>(), text::<PhantomData<u8>>());
}

/// Two types of one name, and one inside of the other, are not taken for each other, nor for one
/// that is in itself.
#[test]
fn generic_types_are_told_apart() {
    assert_eq!(text::<Pair<Pair<u16>>>(), "((u16*2)*2)");
    assert_eq!(text::<(Pair<u8>, Pair<u16>)>(), "((u8*2), (u16*2))");
    assert_eq!(text::<Option<Option<Vec<Vec<u8>>>>>(), "??[[u8]]");
}

#[test]
fn types_that_refuse_values_are_given_others() {
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Day(String);

    impl TryFrom<String> for Day {
        type Error = String;
        fn try_from(text: String) -> Result<Day, String> {
            if text.len() == 10 && text.starts_with("19") { Ok(Day(text)) } else { Err("no day".to_string()) }
        }
    }

    #[derive(Deserialize)]
    #[serde(try_from = "(u8, u8)")]
    struct Range(u8, u8);

    impl TryFrom<(u8, u8)> for Range {
        type Error = &'static str;
        fn try_from((from, to): (u8, u8)) -> Result<Range, &'static str> {
            if from < to { Ok(Range(from, to)) } else { panic!("a type may panic, too") }
        }
    }

    #[derive(Deserialize)]
    struct Tree {
        branches: Vec<Tree>,
        at: Day,
    }
    assert_eq!(text::<(NonZeroU32, Day, Duration)>(), "(u32, str, {secs: u64, nanos: u32})");
    assert_eq!(text::<(Range, u8)>(), "((u8*2), u8)");
    assert_eq!(text::<Tree>(), "{branches: [^2], at: str}");
    assert_eq!(text::<(std::net::IpAddr, Day)>(), "(<V4(u8*4), V6(u8*16)>, str)");
}

/// What cannot be seen makes no error, and what can is seen all the same.
#[test]
fn types_that_refuse_everything_are_seen_in_part() {
    struct Any;
    impl<'de> Deserialize<'de> for Any {
        fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Any, D::Error> {
            deserializer.deserialize_any(de::IgnoredAny).map(|_| Any)
        }
    }

    #[derive(Deserialize)]
    enum Some {
        First(u8),
        Never(u8, Any, u8),
        Inside { how: How, any: Any },
        Last(How),
    }

    #[derive(Deserialize)]
    enum Nobody {}

    let in_part = |shape: Shape, text: &str| {
        assert_eq!((&*shape.text, shape.is_whole), (text, false));
    };
    in_part(Shape::of::<Any>(), "_");
    in_part(Shape::of::<(u8, Any, u8)>(), "(u8, _)");
    in_part(
        Shape::of::<Some>(),
        "<First(u8), Never(u8, _)!, Inside{how: <Now, At(u64), Never(?bool)>, any: _}!, Last(<Now, At(u64), Never(?bool)>)>",
    );
    in_part(Shape::of::<Option<Nobody>>(), "?<>");
    in_part(Shape::of::<(Nobody, u8)>(), "(<>)");
    in_part(Shape::of::<Vec<(u8, de::IgnoredAny)>>(), "[(u8, _)]");
    // One that is too large is seen in part, in bounded time.
    if cfg!(miri) {
        return;
    }
    in_part(Shape::of::<Vast>(), &format!("(u8*{}, _)", VISITS_MAX - 1));
}

/// More than there are visits.
struct Vast;

impl<'de> Deserialize<'de> for Vast {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Vast, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Vast;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Vast, A::Error> {
                while access.next_element::<u8>()?.is_some() {}
                Ok(Vast)
            }
        }
        deserializer.deserialize_tuple(usize::MAX, All)
    }
}

#[test]
fn aliases_and_skipped_parts() {
    #[derive(Deserialize)]
    struct Renamed {
        #[serde(alias = "balance")]
        coins: i64,
        #[serde(skip)]
        cache: u8,
        last: u8,
    }

    #[derive(Deserialize)]
    enum State {
        Open,
        #[serde(alias = "Stopped")]
        Frozen(u8),
        #[serde(skip)]
        Hidden,
        Closed,
    }
    assert_eq!(text::<Renamed>(), "{balance|coins|last: i64, u8}");
    assert_eq!(text::<State>(), "<Open, Frozen(u8), Stopped, Closed->");
}

#[test]
fn a_long_text_is_cut_and_its_end_still_counts() {
    let (one, other) = (Shape::of::<(Mixed, u8)>(), Shape::of::<(Mixed, u16)>());
    assert_eq!(one.text, other.text);
    assert_eq!(one.text.len(), TEXT_MAX);
    assert_ne!(one.fingerprint, other.fingerprint);
}

type Some12 = (Message, u8, Message, u16, Message, u32, Message, u64, Message, i8, Message, i16);
type Mixed = (Some12, (u8, Some12), (u16, Some12));

/// A type that is made up when the test runs. It goes no deeper than the types of [`Level`].
#[derive(Clone, Debug, PartialEq)]
enum Made {
    Leaf(usize),
    Option(Box<Made>),
    Seq(Box<Made>),
    Map(Box<Made>, Box<Made>),
    Tuple(Vec<Made>),
    Struct(Vec<(usize, Made)>),
    Enum(Vec<(usize, Option<Made>)>),
}

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// How deep a value is in its type: the visitors of each depth are other types, as those of a
/// user's types are.
trait Level {
    type Below: Level;
}

struct Deep<T>(PhantomData<T>);
struct Bottom;

impl<T: Level> Level for Deep<T> {
    type Below = T;
}

impl Level for Bottom {
    type Below = Bottom;
}

type Top = Deep<Deep<Deep<Deep<Deep<Deep<Bottom>>>>>>;

struct Seed<'a, L>(&'a Made, PhantomData<L>);

impl<'a, L: Level> Seed<'a, L> {
    fn below(made: &'a Made) -> Seed<'a, L::Below> {
        Seed(made, PhantomData)
    }
}

impl<'de, L: Level> DeserializeSeed<'de> for Seed<'_, L> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let names = |several: &mut dyn Iterator<Item = usize>| -> &'static [&'static str] {
            several.map(|name| NAMES[name]).collect::<Vec<_>>().leak()
        };
        match self.0 {
            Made::Leaf(0) => u8::deserialize(deserializer).map(drop),
            Made::Leaf(1) => i64::deserialize(deserializer).map(drop),
            Made::Leaf(2) => u64::deserialize(deserializer).map(drop),
            Made::Leaf(3) => String::deserialize(deserializer).map(drop),
            Made::Leaf(_) => bool::deserialize(deserializer).map(drop),
            Made::Option(_) => deserializer.deserialize_option(self),
            Made::Seq(_) => deserializer.deserialize_seq(self),
            Made::Map(..) => deserializer.deserialize_map(self),
            Made::Tuple(all) => deserializer.deserialize_tuple(all.len(), self),
            Made::Struct(all) => {
                deserializer.deserialize_struct("", names(&mut all.iter().map(|it| it.0)), self)
            }
            Made::Enum(all) => deserializer.deserialize_enum("", names(&mut all.iter().map(|it| it.0)), self),
        }
    }
}

impl<'de, L: Level> Visitor<'de> for Seed<'_, L> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Made::Option(made) = self.0 else { unreachable!() };
        Self::below(made).deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let all: Vec<&Made> = match self.0 {
            Made::Seq(made) => vec![&**made],
            Made::Tuple(all) => all.iter().collect(),
            Made::Struct(all) => all.iter().map(|it| &it.1).collect(),
            _ => unreachable!(),
        };
        all.into_iter().try_for_each(|made| access.next_element_seed(Self::below(made)).map(drop))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Made::Map(key, value) = self.0 else { unreachable!() };
        if access.next_key_seed(Self::below(key))?.is_some() {
            access.next_value_seed(Self::below(value))?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        let Made::Enum(all) = self.0 else { unreachable!() };
        let (at, variant) = access.variant::<u32>()?;
        match &all[at as usize].1 {
            None => variant.unit_variant(),
            Some(made) => variant.newtype_variant_seed(Self::below(made)),
        }
    }
}

thread_local! {
    static ROOT: RefCell<Made> = const { RefCell::new(Made::Leaf(0)) };
}

struct Root;

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Root, D::Error> {
        let made = ROOT.with_borrow(Made::clone);
        Seed::<Top>(&made, PhantomData).deserialize(deserializer).map(|()| Root)
    }
}

fn shape(made: &Made) -> Shape {
    ROOT.set(made.clone());
    Shape::of::<Root>()
}

fn made() -> impl Strategy<Value = Made> {
    let leaf = (0..5usize).prop_map(Made::Leaf);
    leaf.prop_recursive(5, 24, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed().prop_map(Made::Option),
            boxed().prop_map(Made::Seq),
            (boxed(), boxed()).prop_map(|(key, value)| Made::Map(key, value)),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Made::Tuple),
            prop::collection::vec((0..8usize, inner.clone()), 0..4).prop_map(Made::Struct),
            prop::collection::vec((0..8usize, prop::option::of(inner)), 1..4).prop_map(Made::Enum),
        ]
    })
}

/// All types that are one change away.
fn changed(made: &Made) -> Vec<Made> {
    let mut all = match made {
        Made::Leaf(kind) => vec![Made::Leaf((kind + 1) % 5)],
        Made::Option(inner) => changed(inner).into_iter().map(|it| Made::Option(Box::new(it))).collect(),
        Made::Seq(inner) => changed(inner).into_iter().map(|it| Made::Seq(Box::new(it))).collect(),
        Made::Map(key, value) => {
            let mut all = vec![Made::Map(value.clone(), key.clone())];
            all.extend(changed(key).into_iter().map(|key| Made::Map(Box::new(key), value.clone())));
            all.extend(changed(value).into_iter().map(|value| Made::Map(key.clone(), Box::new(value))));
            all
        }
        Made::Tuple(several) => {
            let lists = changed_list(several, Made::Leaf(0), changed);
            lists.into_iter().filter(|list| list.len() > 1).map(Made::Tuple).collect()
        }
        Made::Struct(several) => {
            let change = |(name, made): &(usize, Made)| {
                let mut all = vec![((name + 1) % 8, made.clone())];
                all.extend(changed(made).into_iter().map(|made| (*name, made)));
                all
            };
            changed_list(several, (0, Made::Leaf(0)), change).into_iter().map(Made::Struct).collect()
        }
        Made::Enum(several) => {
            let change = |(name, made): &(usize, Option<Made>)| {
                let mut all = vec![((name + 1) % 8, made.clone())];
                all.push((*name, if made.is_some() { None } else { Some(Made::Leaf(0)) }));
                all.extend(made.iter().flat_map(changed).map(|made| (*name, Some(made))));
                all
            };
            let lists = changed_list(several, (0, None), change).into_iter();
            lists.filter(|list| !list.is_empty()).map(Made::Enum).collect()
        }
    };
    all.push(Made::Option(Box::new(made.clone())));
    all.retain(|changed| changed != made);
    all
}

/// One changed, two swapped, one gone, and a new one at each place.
fn changed_list<T: Clone>(list: &[T], new: T, change: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let mut all = Vec::new();
    for at in 0..=list.len() {
        let mut more = list.to_vec();
        more.insert(at, new.clone());
        all.push(more);
    }
    for at in 0..list.len() {
        let mut fewer = list.to_vec();
        fewer.remove(at);
        all.push(fewer);
        let mut swapped = list.to_vec();
        swapped.swap(at, (at + 1) % list.len());
        all.push(swapped);
        for changed in change(&list[at]) {
            let mut other = list.to_vec();
            other[at] = changed;
            all.push(other);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 100 }, ..ProptestConfig::default() })]

    #[test]
    fn one_type_has_one_shape_and_each_change_another(made in made()) {
        let first = shape(&made);
        prop_assert!(first.is_whole, "{first:?}");
        prop_assert_eq!(&first, &shape(&made));
        for other in changed(&made) {
            let shape = shape(&other);
            prop_assert!(shape.is_whole, "{:?}", shape);
            prop_assert_ne!(first.fingerprint, shape.fingerprint, "{:?} is {}", other, shape.text);
        }
    }
}
