//! Records are read by the types that wrote them, or by a migration from those, or not at all.
//!
//! The story: postcard's bytes say nothing of their types. A directory whose states were `(i64,
//! i64)` was opened by an actor whose states were `(u64, u64)`, and 100 became 200, -5 became 9.
//! Two fields changed places, and balances were swapped. A variant was put in front of another, and
//! `Frozen` was read as `Pending`. Each start said Ok. Now a manifest says which types its records
//! are of, and a start compares.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use crate::support::{Watchdog, until};
use freehold::{
    AccessError, Actor, Addressees, Config, Idle, LogConfig, LogError, ObjectId, Objects, Runtime, Schema,
    SchemaError, SchemaPart, Shards, StartError,
};
use freehold_shard::{Codec, Migrations, Reading};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub fn config(shards: usize) -> Config {
    Config { shards: Shards::Count(shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() }
}

pub fn log(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory) }
}

/// All bytes of a directory; `None` if something goes on in it.
fn files_of(directory: &Path) -> Option<BTreeMap<String, Vec<u8>>> {
    let files = fs::read_dir(directory).expect("it is there").map(|file| file.expect("it can be listed"));
    files.map(|file| Some((file.file_name().to_string_lossy().into(), fs::read(file.path()).ok()?))).collect()
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    files_of(directory).expect("nobody has it open")
}

/// The directory as a crash would leave it now. No message is under way in it, but segments and
/// checkpoints may be made.
pub fn crashed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("there is room");
    let mut now = None;
    until(|| {
        let before = std::mem::replace(&mut now, files_of(directory));
        now.is_some() && now == before
    });
    for (name, bytes) in now.into_iter().flatten() {
        fs::write(copy.path().join(name), bytes).expect("there is room");
    }
    copy
}

/// What a start that is refused says of types. It changes nothing.
pub fn refused<A: Actor>(directory: &Path, log: LogConfig) -> LogError
where
    A::State: Serialize + DeserializeOwned,
    A::Message: Serialize + DeserializeOwned,
{
    let before = files(directory);
    let error = match Runtime::<A>::open(config(2), log) {
        Err(StartError::Log(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(files(directory), before, "{error}");
    error
}

// ---- Types that change without a word.

/// Objects of any types. What a message says is of a type of its own, so that each of the three can
/// change alone.
pub struct Plain<I, S, W>(PhantomData<(I, S, W)>);

/// What is made of a number, so that messages need not have it.
trait Made: Clone + Debug + PartialEq + Send + Sync + Serialize + DeserializeOwned + 'static {
    fn made(of: u32) -> Self;
}

impl<I, S, W> Actor for Plain<I, S, W>
where
    I: ObjectId + From<u32>,
    S: Made,
    W: Default + Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
{
    type Id = I;
    type State = S;
    type Message = (bool, W);
    type Reply = Option<S>;
    type Error = AccessError<I>;

    fn addressees(_: &(bool, W), to: &mut Addressees<I>) {
        to.write(I::from(1));
    }

    fn receive(
        (puts, word): &(bool, W),
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<S>, AccessError<I>> {
        if *puts {
            objects.tell_after(Duration::from_secs(1_000_000), (false, word.clone()))?;
            objects.insert(I::from(1), S::made(5))?;
        }
        Ok(objects.get(I::from(1))?.cloned())
    }
}

/// What is said of records of `Old`'s types by `New`, if it refuses them. It is what a start asks,
/// and no runtime is compiled for it.
fn judged<Old, New>() -> SchemaError
where
    Old: Actor<State: Serialize + DeserializeOwned, Message: Serialize + DeserializeOwned>,
    New: Actor<State: Serialize + DeserializeOwned, Message: Serialize + DeserializeOwned>,
{
    let written = Reading::new(&Codec::<Old>::new(), Migrations::default()).written;
    let reading = Reading::new(&Codec::<New>::new(), Migrations::default());
    reading.check([&written]).expect_err("it is another type")
}

/// The parts of `Old`'s schema that `New` is refused for.
fn differs<Old, New>() -> Vec<SchemaPart>
where
    Old: Actor<State: Serialize + DeserializeOwned, Message: Serialize + DeserializeOwned>,
    New: Actor<State: Serialize + DeserializeOwned, Message: Serialize + DeserializeOwned>,
{
    match judged::<Old, New>() {
        SchemaError::Changed { version: 1, changes } => changes.iter().map(|change| change.part).collect(),
        other => panic!("{other}"),
    }
}

/// Writes with the types of `Old`, and says which parts `New` is refused for.
fn changed<Old, New>() -> Vec<SchemaPart>
where
    Old: Puts<
            State: Serialize + DeserializeOwned,
            Message: Serialize + DeserializeOwned,
            Reply: Debug + PartialEq,
        >,
    New: Actor<State: Serialize + DeserializeOwned, Message: Serialize + DeserializeOwned>,
{
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = Runtime::<Old>::open(config(1), log(directory.path())).expect("it opens");
    let put = Old::put(&runtime);
    assert!(runtime.shutdown().drained);
    let error = refused::<New>(directory.path(), log(directory.path()));
    let text = error.to_string();
    let LogError::Schema { error: SchemaError::Changed { version: 1, changes }, .. } = error else {
        panic!("{text}")
    };
    let parts: Vec<_> = changes.iter().map(|change| change.part).collect();
    for change in &changes {
        assert!(text.contains(&format!("{} was `", change.part)), "{text}");
        assert!(text.contains(&format!("{:#018x}", change.written.fingerprint)), "{text}");
    }
    assert!(text.contains("migrate_from") && text.contains("Schema::accepting"), "{text}");
    // And nothing is lost.
    let runtime = Runtime::<Old>::open(config(2), log(directory.path())).expect("it opens");
    assert_eq!(Old::read(&runtime), put);
    parts
}

/// An actor whose one object can be put and read.
trait Puts: Actor {
    fn put(runtime: &Runtime<Self>) -> Self::Reply;
    fn read(runtime: &Runtime<Self>) -> Self::Reply;
}

impl<I, S, W> Puts for Plain<I, S, W>
where
    Plain<I, S, W>: Actor<Message = (bool, W), Error: Debug>,
    W: Default,
{
    fn put(runtime: &Runtime<Self>) -> Self::Reply {
        runtime.handle().ask((true, W::default())).wait().unwrap_or_else(|_| panic!("it is put"))
    }

    fn read(runtime: &Runtime<Self>) -> Self::Reply {
        runtime.handle().ask((false, W::default())).wait().unwrap_or_else(|_| panic!("it is read"))
    }
}

macro_rules! made {
    ($($name:ident $fields:tt => |$of:ident| $made:expr;)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct $name $fields

        impl Made for $name {
            fn made($of: u32) -> Self {
                $made
            }
        }
    )*};
}

made! {
    Signed { coins: i64, bonus: i64 } => |of| Signed { coins: i64::from(of), bonus: 0 };
    Unsigned { coins: u64, bonus: i64 } => |of| Unsigned { coins: u64::from(of), bonus: 0 };
    Swapped { bonus: i64, coins: i64 } => |of| Swapped { coins: i64::from(of), bonus: 0 };
    Flag { is_set: bool } => |of| Flag { is_set: of > 0 };
    Longer { coins: i64, bonus: i64, more: Option<u8> } => |of| Longer { coins: i64::from(of), bonus: 0, more: None };
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Three {
    Open,
    Frozen,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Four {
    Open,
    Pending,
    Frozen,
    Closed,
}

impl Made for Three {
    fn made(_: u32) -> Self {
        Three::Frozen
    }
}

impl Made for Four {
    fn made(_: u32) -> Self {
        Four::Frozen
    }
}

#[test]
fn a_type_that_changed_without_a_word_is_refused_by_name() {
    let _watchdog = Watchdog::new("a_type_that_changed_without_a_word_is_refused_by_name");
    use SchemaPart::{Id, Message, State};
    type Was = Plain<u64, Signed, u16>;
    assert_eq!(differs::<Was, Plain<u64, Unsigned, u16>>(), [State]);
    assert_eq!(differs::<Was, Plain<u64, Longer, u16>>(), [State]);
    assert_eq!(differs::<Plain<u64, Three, ()>, Plain<u64, Four, ()>>(), [State]);
    assert_eq!(differs::<Was, Plain<u64, Signed, i16>>(), [Message]);
    assert_eq!(differs::<Was, Plain<u32, Signed, u16>>(), [Id]);
    // Two of them as programs that write and start.
    assert_eq!(changed::<Was, Plain<u64, Swapped, u16>>(), [State]);
    assert_eq!(changed::<Was, Plain<i64, Swapped, String>>(), [Id, State, Message]);
}

#[test]
fn a_program_that_recorded_nothing_does_not_matter() {
    let _watchdog = Watchdog::new("a_program_that_recorded_nothing_does_not_matter");
    type Right = Plain<u64, Signed, u16>;
    type Wrong = Plain<u64, Swapped, u16>;
    let directory = tempfile::tempdir().expect("there is room");
    let wrong = Runtime::<Wrong>::open(config(2), log(directory.path())).expect("it opens");
    assert_eq!(Wrong::read(&wrong), None);
    // As after a crash: nobody has written down that the run left nothing.
    let directory = crashed(directory.path());
    let right = Runtime::<Right>::open(config(1), log(directory.path())).expect("it opens");
    assert!(Right::put(&right).is_some());
    assert!(right.shutdown().drained);
    refused::<Wrong>(directory.path(), log(directory.path()));
}

/// The field `coins` of [`Signed`] under another name. Bytes are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Renamed {
    cents: i64,
    bonus: i64,
}

struct Accepts;

/// Of `{coins: i64, bonus: i64}`.
const SIGNED: u64 = 0x0716_ec30_ae35_7b8a;

impl Actor for Accepts {
    const SCHEMA: Schema = Schema::new(1).accepting(&[SIGNED]);
    type Id = u64;
    type State = Renamed;
    type Message = (bool, u16);
    type Reply = Option<Renamed>;
    type Error = AccessError<u64>;

    fn addressees(_: &(bool, u16), to: &mut Addressees<u64>) {
        to.read(1);
    }

    fn receive(
        _: &(bool, u16),
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<Renamed>, AccessError<u64>> {
        Ok(objects.get(1)?.cloned())
    }
}

/// Accepts them as states of another width.
struct AcceptsOther<S>(PhantomData<S>);

impl<S: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> Actor for AcceptsOther<S> {
    const SCHEMA: Schema = Schema::new(1).accepting(&[SIGNED]);
    type Id = u64;
    type State = S;
    type Message = (bool, u16);
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(_: &(bool, u16), to: &mut Addressees<u64>) {
        to.read(1);
    }

    fn receive(_: &(bool, u16), objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        objects.get(1).map(drop)
    }
}

// By postcard a number may become wider. At a fixed width it may not: its bytes, and those of all
// behind it, would be read as others.
#[test]
fn a_shape_of_another_width_cannot_be_accepted() {
    let _watchdog = Watchdog::new("a_shape_of_another_width_cannot_be_accepted");
    type Was = Plain<u64, Signed, u16>;
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = Runtime::<Was>::open(config(1), log(directory.path())).expect("it opens");
    Was::put(&runtime);
    assert!(runtime.shutdown().drained);
    let other_width = |error: SchemaError| match error {
        SchemaError::OtherWidth { version: 1, part, bytes, now } => {
            assert_eq!((part, bytes), (SchemaPart::State, 16));
            now
        }
        other => panic!("{other}"),
    };
    let wider = refused::<AcceptsOther<(i64, i128)>>(directory.path(), log(directory.path()));
    assert!(wider.to_string().contains("16 bytes") && wider.to_string().contains("takes 24"), "{wider}");
    assert_eq!(other_width(judged::<Was, AcceptsOther<(i64, i128)>>()), Some(24));
    assert_eq!(other_width(judged::<Was, AcceptsOther<(i64, i32)>>()), Some(12));
    assert_eq!(other_width(judged::<Was, AcceptsOther<(i64, Option<i64>)>>()), None);
    // As many bytes of other numbers were read as numbers that nobody had written.
    for other in [
        judged::<Was, AcceptsOther<(i64, u64)>>(),
        judged::<Was, AcceptsOther<(i64, (u32, i32))>>(),
        judged::<Was, AcceptsOther<[u32; 4]>>(),
    ] {
        assert!(other.to_string().contains("as many for other numbers"), "{other}");
        assert_eq!(other_width(other), Some(16));
    }
    let runtime = Runtime::<AcceptsOther<(i64, i64)>>::open(config(2), log(directory.path()));
    assert_eq!(runtime.expect("it opens").recovery().expect("there is a log").objects, 1);
}

/// From when to when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Span {
    from: u64,
    to: u64,
}

impl Made for Span {
    fn made(of: u32) -> Self {
        Span { from: 0, to: 7200 * u64::from(of) }
    }
}

/// The same, and none that is short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Span")]
struct LongSpan {
    from: u64,
    to: u64,
}

impl TryFrom<Span> for LongSpan {
    type Error = String;

    fn try_from(Span { from, to }: Span) -> Result<Self, String> {
        match to.checked_sub(from) {
            Some(3600..) => Ok(LongSpan { from, to }),
            _ => Err("that is too short".to_owned()),
        }
    }
}

impl Made for LongSpan {
    fn made(of: u32) -> Self {
        Span::made(of).try_into().expect("it is long")
    }
}

/// A check that refuses all values that are made up hides how wide a type is. A program that had
/// such a check now was refused, although its type has the same shape.
#[test]
fn a_check_of_values_does_not_change_the_width() {
    let _watchdog = Watchdog::new("a_check_of_values_does_not_change_the_width");
    let directory = tempfile::tempdir().expect("there is room");
    type Was = Plain<u64, Span, u16>;
    type Is = Plain<u64, LongSpan, u16>;
    let runtime = Runtime::<Was>::open(config(1), log(directory.path())).expect("it opens");
    Was::put(&runtime);
    assert!(runtime.shutdown().drained);
    for shards in [1, 2] {
        let runtime = Runtime::<Is>::open(config(shards), log(directory.path())).expect("it opens");
        assert_eq!(Is::read(&runtime), Some(LongSpan::made(5)));
        assert!(runtime.shutdown().drained);
    }
}

#[test]
fn a_shape_that_means_the_same_is_accepted_by_its_fingerprint() {
    let _watchdog = Watchdog::new("a_shape_that_means_the_same_is_accepted_by_its_fingerprint");
    type Was = Plain<u64, Signed, u16>;
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = Runtime::<Was>::open(config(1), log(directory.path())).expect("it opens");
    Was::put(&runtime);
    assert!(runtime.shutdown().drained);
    let error = refused::<Plain<u64, Swapped, u16>>(directory.path(), log(directory.path()));
    assert!(error.to_string().contains(&format!("{SIGNED:#018x}")), "{error}");
    for _ in 0..2 {
        let runtime = Runtime::<Accepts>::open(config(2), log(directory.path())).expect("it opens");
        let read = runtime.handle().ask((false, 0)).wait().expect("it is read");
        assert_eq!(read, Some(Renamed { cents: 5, bonus: 0 }));
        runtime.checkpoint().expect("it is made");
    }
    // Its records are its own now.
    refused::<Was>(directory.path(), log(directory.path()));
}
