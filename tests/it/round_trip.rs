//! What a runtime with a log acknowledges can be read again, whatever type it is of; and what could
//! not be is refused before.
//!
//! An application's `Decimal`s were answered durably, one after the other, and the next start said:
//! "cannot be read as an object's state: open the directory with the actor that wrote it". It was
//! that actor. postcard names no types and no fields, so what serde's `untagged`, `tag`, `flatten`,
//! `skip_serializing_if` and a skipped variant write nobody can read from it; and ids that differ
//! only in a skipped field became one object.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::support::Watchdog;
use freehold::{
    AccessError, Actor, Addressees, AskError, CheckpointError, Config, Handle, Idle, LogConfig, ObjectId,
    Objects, RecordError, Runtime, Shards, Unreadable, Value,
};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

trait Kept: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {}
impl<S: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> Kept for S {}

/// Objects that hold an `S`, with ids `I`.
struct Store<S, I = u64>(PhantomData<(S, I)>);

#[derive(Clone, Serialize, Deserialize)]
enum Message<S, I> {
    Put(I, S),
    /// Both, as one transaction if they live on two shards.
    PutBoth(I, I, S),
    /// Puts the number of the good state into the object, and tells another message to put this
    /// one.
    Tell(I, S),
    Read(I),
}

impl<S: Kept, I: ObjectId> Actor for Store<S, I> {
    type Id = I;
    type State = S;
    type Message = Message<S, I>;
    type Reply = Option<S>;
    type Error = AccessError<I>;

    fn addressees(message: &Self::Message, to: &mut Addressees<I>) {
        match message {
            Message::Put(id, _) | Message::Tell(id, _) | Message::Read(id) => to.write(*id),
            Message::PutBoth(a, b, _) => {
                to.write(*a);
                to.write(*b);
            }
        }
    }

    fn receive(
        message: &Self::Message,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<S>, AccessError<I>> {
        match message {
            Message::Put(id, state) => objects.insert(*id, state.clone()),
            Message::PutBoth(a, b, state) => {
                objects.insert(*a, state.clone())?;
                objects.insert(*b, state.clone())
            }
            Message::Tell(id, state) => {
                objects.remove(*id)?;
                objects.tell(Message::Put(*id, state.clone()))?;
                Ok(None)
            }
            Message::Read(id) => objects.get(*id).map(|state| state.cloned()),
        }
    }
}

fn open<S: Kept, I: ObjectId>(shards: usize, directory: &Path) -> Runtime<Store<S, I>> {
    let config = Config {
        shards: Shards::Count(shards),
        idle: Idle::Spin(std::time::Duration::ZERO),
        ..Config::default()
    };
    Runtime::open(config, LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory) }).expect("it opens")
}

/// Ids that are at home on each of two shards.
fn on_both<S: Kept>(handle: &Handle<Store<S>>) -> [u64; 2] {
    [0, 1].map(|shard| (0..).find(|id| handle.home(id).index() == shard).expect("there is one"))
}

/// A bad state is refused by every way there is to one, for this reason, and what was there before
/// stays, here and after a start.
fn is_refused(what: &str, good: Stored, bad: Stored, expected: Unreadable) {
    let directory = tempfile::tempdir().expect("a directory");
    let bytes = |state: &Option<Stored>| {
        state.as_ref().map(|state| serde_json::to_string(state).expect("it is JSON"))
    };
    let before = bytes(&Some(good.clone()));
    let runtime = open::<Stored, u64>(2, directory.path());
    let handle = runtime.handle();
    let [a, b] = on_both(&handle);
    handle
        .ask(Message::PutBoth(a, b, good.clone()))
        .wait()
        .unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let ways = [
        ("alone", Message::Put(a, bad.clone())),
        ("as an object that was not there", Message::Put(a + b + 1, bad.clone())),
        ("on two shards", Message::PutBoth(a, b, bad.clone())),
        ("on two shards, the other way", Message::PutBoth(b, a, bad.clone())),
        ("told", Message::Tell(a, bad)),
    ];
    for (way, message) in ways {
        let is_told = way == "told";
        let kind = if is_told { Value::Message } else { Value::State };
        match handle.ask(message).wait() {
            Err(AskError::NotRecorded(RecordError::NotReadable { what: found, why })) => {
                assert_eq!((found, why), (kind, expected), "{what}, {way}");
            }
            other => panic!("{what}, {way}: {:?}", other.map(|state| bytes(&state))),
        }
        for id in [a, b] {
            assert_eq!(
                bytes(&handle.ask(Message::Read(id)).wait().expect("it is read")),
                before,
                "{what}, {way}"
            );
        }
    }
    assert!(runtime.shutdown().drained);
    let runtime = open::<Stored, u64>(1, directory.path());
    assert_eq!(runtime.recovery().expect("it has a log").objects, 2, "{what}");
    for id in [a, b] {
        let state = runtime.handle().ask(Message::Read(id)).wait().expect("it is read");
        assert_eq!(bytes(&state), before, "{what}");
    }
    runtime.checkpoint().expect("it can be made");
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { a: u64 },
}

#[derive(Clone, Serialize, Deserialize)]
enum Skipping {
    Before(u8),
    #[serde(skip)]
    #[allow(dead_code, reason = "it shifts the variant behind it")]
    Never,
    Behind(u8),
}

#[derive(Clone, Serialize, Deserialize)]
struct LeavesOut {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    first: Option<u8>,
    second: u8,
}

/// A state of each of these types. They are one actor's, as each actor takes seconds to compile.
#[derive(Clone, Serialize, Deserialize)]
enum Stored {
    Untagged(Option<Untagged>),
    Tagged(Option<Tagged>),
    Json(Vec<serde_json::Value>),
    Skipping(Skipping),
    LeavesOut(LeavesOut),
}

#[test]
fn what_could_not_be_read_again_is_refused_and_changes_nothing() {
    let _watchdog = Watchdog::new("what_could_not_be_read_again_is_refused_and_changes_nothing");
    let number = Stored::Untagged(Some(Untagged::Number(1)));
    is_refused("untagged", Stored::Untagged(None), number, Unreadable::AsksWhatComes);
    let text = Stored::Untagged(Some(Untagged::Text("text".into())));
    is_refused("untagged text", Stored::Untagged(None), text, Unreadable::AsksWhatComes);
    let one = Stored::Tagged(Some(Tagged::One { a: 7 }));
    is_refused("tagged", Stored::Tagged(None), one, Unreadable::AsksWhatComes);
    let json = Stored::Json(vec![serde_json::json!({ "a": 1 })]);
    is_refused("JSON", Stored::Json(Vec::new()), json, Unreadable::AsksWhatComes);
    let (before, behind) = (Skipping::Before(1), Skipping::Behind(1));
    is_refused("skipping", Stored::Skipping(before), Stored::Skipping(behind), Unreadable::Refused);
    let left_out = |first| Stored::LeavesOut(LeavesOut { first, second: 3 });
    is_refused("left out", left_out(Some(1)), left_out(None), Unreadable::LeftOut);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Seat {
    row: u64,
    #[serde(skip)]
    number: u64,
}

impl ObjectId for Seat {}

#[test]
fn ids_that_would_become_one_are_refused() {
    let _watchdog = Watchdog::new("ids_that_would_become_one_are_refused");
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = open::<u64, Seat>(2, directory.path());
    let handle = runtime.handle();
    let seat = |row, number| Seat { row, number };
    handle.ask(Message::Put(seat(1, 0), 10)).wait().expect("it is what is written");
    let refused = |message| match handle.ask(message).wait() {
        Err(AskError::NotRecorded(RecordError::NotReadable { what: Value::Id, why })) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Message::Put(seat(1, 1), 11)), Unreadable::OtherId);
    let other_home = (2..).map(|row| seat(row, 1)).find(|id| handle.home(id) != handle.home(&seat(1, 0)));
    let other_home = other_home.expect("there is one");
    assert_eq!(refused(Message::PutBoth(seat(1, 0), other_home, 12)), Unreadable::OtherId);
    assert_eq!(handle.ask(Message::Read(other_home)).wait(), Ok(None));
    drop(runtime);
    let runtime = open::<u64, Seat>(1, directory.path());
    assert_eq!(runtime.recovery().expect("it has a log").objects, 1);
    assert_eq!(runtime.handle().ask(Message::Read(seat(1, 0))).wait(), Ok(Some(10)));
}

/// Whose next `serialize` gives so many bytes: as of something behind an `Arc<Mutex<..>>`.
static BYTES: AtomicUsize = AtomicUsize::new(8);
/// How often it was serialized.
static CALLS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Deserialize)]
struct Grows(Vec<u8>);

impl Serialize for Grows {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        CALLS.fetch_add(1, Ordering::SeqCst);
        to.collect_seq(std::iter::repeat_n(7_u8, BYTES.load(Ordering::SeqCst)))
    }
}

/// A state whose second `serialize` gave more than a batch holds made the shard go round in a loop,
/// and took all memory: what was written at the lock point of a transaction was written again at
/// home. A checkpoint writes it a third time, and took the shard down if it could not.
#[test]
fn a_state_that_grows_between_two_times_it_is_written_harms_nobody() {
    let _watchdog = Watchdog::new("a_state_that_grows_between_two_times_it_is_written_harms_nobody");
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = open::<Grows, u64>(2, directory.path());
    let handle = runtime.handle();
    let [a, b] = on_both(&handle);
    // Reading back serializes too, once for each state, and finds the same. From then on it is much
    // larger.
    handle.ask(Message::PutBoth(a, b, Grows(vec![7; 8]))).wait().expect("it is answered");
    let times = CALLS.load(Ordering::SeqCst);
    assert_eq!(times, 4, "each state is written once and read back once, and not written again at home");
    BYTES.store(17 << 20, Ordering::SeqCst);
    let refused = runtime.checkpoint().expect_err("it is too large");
    assert!(
        matches!(*refused, CheckpointError::NotRecorded { error: RecordError::TooLong { .. }, .. }),
        "{refused}"
    );
    let refused = handle.ask(Message::PutBoth(a, b, Grows(vec![7; 8]))).wait();
    assert!(
        matches!(refused, Err(AskError::NotRecorded(RecordError::TooLong { .. }))),
        "too large at the lock point"
    );
    BYTES.store(8, Ordering::SeqCst);
    runtime.checkpoint().expect("and no longer");
    handle.ask(Message::PutBoth(b, a, Grows(vec![7; 8]))).wait().expect("everybody is well");
    assert!(runtime.shutdown().drained);
    let runtime = open::<Grows, u64>(1, directory.path());
    let state = runtime.handle().ask(Message::Read(a)).wait().expect("it is read");
    assert_eq!(state.map(|state| state.0), Some(vec![7; 8]));
}

/// A value of any shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Any {
    Unit,
    Newtype(Box<Any>),
    Tuple(u8, Box<Any>, i128),
    Struct { flag: bool, inner: Option<Box<Any>>, text: String },
    List(Vec<Any>),
    Map(BTreeMap<String, Any>),
    Float(f64, f32),
    Letter(char, [u16; 20]),
    Nested(Option<Option<()>>, Result<i64, u128>),
}

fn any_value() -> impl Strategy<Value = Any> {
    let float = any::<(u64, u32)>().prop_map(|(a, b)| Any::Float(f64::from_bits(a), f32::from_bits(b)));
    let leaf = prop_oneof![
        Just(Any::Unit),
        float,
        Just(Any::Float(f64::from_bits(0x7ff8_dead_beef_0001), f32::NAN)),
        (any::<char>(), any::<[u16; 20]>()).prop_map(|(a, b)| Any::Letter(a, b)),
        (any::<Option<Option<()>>>(), any::<Result<i64, u128>>()).prop_map(|(a, b)| Any::Nested(a, b)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed.clone().prop_map(Any::Newtype),
            (any::<u8>(), boxed.clone(), any::<i128>()).prop_map(|(a, b, c)| Any::Tuple(a, b, c)),
            (any::<bool>(), proptest::option::of(boxed), any::<String>())
                .prop_map(|(flag, inner, text)| Any::Struct { flag, inner, text }),
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Any::List),
            proptest::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Any::Map),
        ]
    })
}

/// As text, with the bits of its numbers: NaN is not equal to itself.
fn text(value: &Any) -> String {
    match value {
        Any::Float(a, b) => format!("{:x} {:x}", a.to_bits(), b.to_bits()),
        Any::Newtype(inner) => format!("newtype {}", text(inner)),
        Any::Tuple(a, inner, b) => format!("tuple {a} {} {b}", text(inner)),
        Any::Struct { flag, inner, text: name } => {
            format!("struct {flag} {:?} {name:?}", inner.as_ref().map(|inner| text(inner)))
        }
        Any::List(list) => format!("{:?}", list.iter().map(text).collect::<Vec<_>>()),
        Any::Map(map) => {
            format!("{:?}", map.iter().map(|(key, value)| (key, text(value))).collect::<Vec<_>>())
        }
        plain => format!("{plain:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_start_finds_values_of_any_shape(values in proptest::collection::vec(any_value(), 1..48)) {
        let _watchdog = Watchdog::new("a_start_finds_values_of_any_shape");
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = open::<Any, u64>(2, directory.path());
        let put = values.iter().zip(0_u64..).map(|(value, id)| match id % 3 {
            0 => Message::Put(id, value.clone()),
            1 => Message::Tell(id, value.clone()),
            // A good part of them on two shards.
            _ => Message::PutBoth(id, 1_000 + id, value.clone()),
        });
        for answer in runtime.handle().ask_all(put).wait() {
            prop_assert!(answer.is_ok(), "{:?}", answer);
        }
        // Half of them in a checkpoint and in logs, all of them where they belong.
        runtime.checkpoint().expect("it can be made");
        prop_assert!(runtime.shutdown().drained);
        let runtime = open::<Any, u64>(1, directory.path());
        for (value, id) in values.iter().zip(0_u64..) {
            let found = runtime.handle().ask(Message::Read(id)).wait().expect("it is read");
            prop_assert_eq!(found.as_ref().map(text), Some(text(value)));
        }
    }
}
