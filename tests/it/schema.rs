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

use crate::support::{Watchdog, hush, until};
use freehold::{
    AccessError, Actor, Addressees, CommitLog, CommitLogError, Config, DiskOptions, Epoch, Idle, LocalLog,
    LogConfig, LogError, Migration, NotMigrated, ObjectId, Objects, Runtime, Schema, SchemaError, SchemaPart,
    SchemaTypes, Shards, StartError,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

fn config(shards: usize) -> Config {
    Config { shards: Shards::Count(shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() }
}

fn log(directory: &Path) -> LogConfig {
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
fn crashed(directory: &Path) -> tempfile::TempDir {
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
fn refused<A: Actor>(directory: &Path, log: LogConfig) -> LogError
where
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
struct Plain<I, S, W>(PhantomData<(I, S, W)>);

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

/// Writes with the types of `Old`, and says which parts `New` is refused for.
fn changed<Old, New>() -> Vec<SchemaPart>
where
    Old: Puts<Message: Serialize + DeserializeOwned, Reply: Debug + PartialEq>,
    New: Actor<Message: Serialize + DeserializeOwned>,
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
        struct $name $fields

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
    assert_eq!(changed::<Was, Plain<u64, Unsigned, u16>>(), [State]);
    assert_eq!(changed::<Was, Plain<u64, Swapped, u16>>(), [State]);
    assert_eq!(changed::<Was, Plain<u64, Longer, u16>>(), [State]);
    assert_eq!(changed::<Plain<u64, Three, ()>, Plain<u64, Four, ()>>(), [State]);
    assert_eq!(changed::<Was, Plain<u64, Signed, i16>>(), [Message]);
    assert_eq!(changed::<Was, Plain<u32, Signed, u16>>(), [Id]);
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

// ---- Three versions of one actor.

/// What a message does.
enum Does<V: Version> {
    Put(V::Id, V::State),
    Add(V::Id, i64),
    Remove(V::Id),
    Read(V::Id),
    /// Tells itself the message after so many milliseconds.
    Later(V::Id, u64, V::Message),
}

/// One version of the actor's types.
trait Version: SchemaTypes<Id: ObjectId, State: Clone + Send + Sync + Debug, Message: Clone + Send> {
    fn does(message: &Self::Message) -> Does<Self>
    where
        Self: Sized;
    fn add(state: &mut Self::State, coins: i64);
}

struct Bank<V>(PhantomData<V>);

impl<V: Version> Actor for Bank<V> {
    const SCHEMA: Schema = V::SCHEMA;
    type Id = V::Id;
    type State = V::State;
    type Message = V::Message;
    type Reply = Option<V::State>;
    type Error = AccessError<V::Id>;

    fn addressees(message: &V::Message, to: &mut Addressees<V::Id>) {
        match V::does(message) {
            Does::Put(id, _) | Does::Add(id, _) | Does::Remove(id) | Does::Later(id, ..) => to.write(id),
            Does::Read(id) => to.read(id),
        }
    }

    fn receive(
        message: &V::Message,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<V::State>, AccessError<V::Id>> {
        match V::does(message) {
            Does::Put(id, state) => objects.insert(id, state),
            Does::Add(id, coins) => {
                if let Some(state) = objects.get_mut(id)? {
                    V::add(state, coins);
                }
                Ok(None)
            }
            Does::Remove(id) => objects.remove(id),
            Does::Read(id) => Ok(objects.get(id)?.cloned()),
            Does::Later(_, milliseconds, message) => {
                objects.tell_after(Duration::from_millis(milliseconds), message)?;
                Ok(None)
            }
        }
    }
}

/// Whole coins by a small number.
struct V1;

#[derive(Clone, Serialize, Deserialize)]
enum MessageV1 {
    Put(u32, i64),
    Add(u32, i64),
    Remove(u32),
    Read(u32),
    Later(u32, u64, Box<MessageV1>),
}

impl SchemaTypes for V1 {
    const SCHEMA: Schema = Schema::new(1);
    type Id = u32;
    type State = i64;
    type Message = MessageV1;
}

impl Version for V1 {
    fn does(message: &MessageV1) -> Does<V1> {
        match message.clone() {
            MessageV1::Put(id, coins) => Does::Put(id, coins),
            MessageV1::Add(id, coins) => Does::Add(id, coins),
            MessageV1::Remove(id) => Does::Remove(id),
            MessageV1::Read(id) => Does::Read(id),
            MessageV1::Later(id, milliseconds, message) => Does::Later(id, milliseconds, *message),
        }
    }

    fn add(state: &mut i64, coins: i64) {
        *state += coins;
    }
}

/// With names, by a larger number; `Add` has another place.
struct V2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct AccountV2 {
    name: String,
    coins: i64,
}

#[derive(Clone, Serialize, Deserialize)]
enum MessageV2 {
    Read(u64),
    Add { coins: i64, to: u64 },
    Put(u64, AccountV2),
    Remove(u64),
    Later(u64, u64, Box<MessageV2>),
}

impl SchemaTypes for V2 {
    const SCHEMA: Schema = Schema::new(2);
    type Id = u64;
    type State = AccountV2;
    type Message = MessageV2;
}

impl Version for V2 {
    fn does(message: &MessageV2) -> Does<V2> {
        match message.clone() {
            MessageV2::Put(id, account) => Does::Put(id, account),
            MessageV2::Add { coins, to } => Does::Add(to, coins),
            MessageV2::Remove(id) => Does::Remove(id),
            MessageV2::Read(id) => Does::Read(id),
            MessageV2::Later(id, milliseconds, message) => Does::Later(id, milliseconds, *message),
        }
    }

    fn add(state: &mut AccountV2, coins: i64) {
        state.coins += coins;
    }
}

/// In cents, by branch and number. A message adds and nothing else.
struct V3;

type IdV3 = (u8, u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct AccountV3 {
    cents: i128,
    name: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct MessageV3 {
    cents: i128,
    to: IdV3,
}

impl SchemaTypes for V3 {
    const SCHEMA: Schema = Schema::new(3);
    type Id = IdV3;
    type State = AccountV3;
    type Message = MessageV3;
}

impl Version for V3 {
    fn does(message: &MessageV3) -> Does<V3> {
        match message.cents {
            0 => Does::Read(message.to),
            cents => Does::Add(message.to, (cents / 100) as i64),
        }
    }

    fn add(state: &mut AccountV3, coins: i64) {
        state.cents += i128::from(coins) * 100;
    }
}

fn to_v2(message: MessageV1) -> MessageV2 {
    match message {
        MessageV1::Put(id, coins) => MessageV2::Put(u64::from(id) + 1000, account_v2(id, coins)),
        MessageV1::Add(id, coins) => MessageV2::Add { coins, to: u64::from(id) + 1000 },
        MessageV1::Remove(id) => MessageV2::Remove(u64::from(id) + 1000),
        MessageV1::Read(id) => MessageV2::Read(u64::from(id) + 1000),
        MessageV1::Later(id, milliseconds, message) => {
            MessageV2::Later(u64::from(id) + 1000, milliseconds, Box::new(to_v2(*message)))
        }
    }
}

fn account_v2(id: u32, coins: i64) -> AccountV2 {
    AccountV2 { name: format!("account {id}"), coins }
}

fn id_v3(id: u64) -> IdV3 {
    ((id % 3) as u8, id)
}

fn with_1_to_2<New: SchemaTypes<Id = u64, State = AccountV2, Message = MessageV2>>(
    log: LogConfig,
) -> LogConfig {
    log.migrate_from::<V1, New>(Migration {
        id: |id| Ok(u64::from(id) + 1000),
        state: |id, coins| Ok(account_v2(id, coins)),
        message: |message| Ok(to_v2(message)),
    })
}

fn with_2_to_3(log: LogConfig) -> LogConfig {
    log.migrate_from::<V2, Bank<V3>>(Migration {
        id: |id| Ok(id_v3(id)),
        state: |_, AccountV2 { name, coins }| Ok(AccountV3 { cents: i128::from(coins) * 100, name }),
        message: |message| match message {
            MessageV2::Add { coins, to } => Ok(MessageV3 { cents: i128::from(coins) * 100, to: id_v3(to) }),
            _ => Err("only additions are told".into()),
        },
    })
}

fn open<V: Version>(log: LogConfig, shards: usize) -> Runtime<Bank<V>> {
    Runtime::open(config(shards), log).expect("it opens")
}

fn ask<V: Version>(runtime: &Runtime<Bank<V>>, message: V::Message) -> Option<V::State> {
    runtime.handle().ask(message).wait().unwrap_or_else(|_| panic!("it is done"))
}

/// A year.
const NEVER: u64 = 365 * 86_400_000;
/// When it is due, the next versions have it: time stands still while nothing runs.
const SOON: u64 = 500;

/// What version 1 does: some in a checkpoint, some behind.
fn work_1(directory: &Path, shards: usize) -> Runtime<Bank<V1>> {
    let runtime = open::<V1>(log(directory), shards);
    (0..40).for_each(|id| assert_eq!(ask(&runtime, MessageV1::Put(id, 100)), None));
    ask(&runtime, MessageV1::Remove(7));
    ask(&runtime, MessageV1::Later(1, SOON, Box::new(MessageV1::Add(1, 11))));
    ask(&runtime, MessageV1::Later(2, NEVER, Box::new(MessageV1::Add(2, 5))));
    runtime.checkpoint().expect("it is made");
    (10..20).for_each(|id| assert_eq!(ask(&runtime, MessageV1::Add(id, i64::from(id))), None));
    ask(&runtime, MessageV1::Remove(8));
    ask(&runtime, MessageV1::Put(7, 77));
    ask(&runtime, MessageV1::Later(3, SOON, Box::new(MessageV1::Add(3, 13))));
    ask(&runtime, MessageV1::Later(4, NEVER, Box::new(MessageV1::Add(4, 5))));
    runtime
}

/// Coins of every account after that, by the number of version 1.
fn after_1() -> BTreeMap<u32, i64> {
    let mut coins: BTreeMap<u32, i64> = (0..40).map(|id| (id, 100)).collect();
    (10..20).for_each(|id| *coins.get_mut(&id).expect("it is there") += i64::from(id));
    coins.insert(7, 77);
    coins.remove(&8);
    *coins.get_mut(&1).expect("it is there") += 11;
    *coins.get_mut(&3).expect("it is there") += 13;
    coins
}

/// What version 2 does on top. Account 1 has been paid by then.
fn work_2(runtime: &Runtime<Bank<V2>>) {
    (1015..1025).for_each(|to| drop(ask(runtime, MessageV2::Add { coins: 1, to })));
    ask(runtime, MessageV2::Remove(1030));
    // Where version 1 had removed one.
    ask(runtime, MessageV2::Put(1008, account_v2(8, 8)));
    ask(runtime, MessageV2::Later(1005, SOON, Box::new(MessageV2::Add { coins: 50, to: 1005 })));
    ask(runtime, MessageV2::Later(1006, NEVER, Box::new(MessageV2::Add { coins: 50, to: 1006 })));
}

fn after_2() -> BTreeMap<u32, i64> {
    let mut coins = after_1();
    (15..25).for_each(|id| *coins.get_mut(&id).expect("it is there") += 1);
    coins.remove(&30);
    coins.insert(8, 8);
    *coins.get_mut(&5).expect("it is there") += 50;
    coins
}

fn check_2(runtime: &Runtime<Bank<V2>>, coins: &BTreeMap<u32, i64>) {
    let read = |id: u32| ask(runtime, MessageV2::Read(u64::from(id) + 1000));
    until(|| (0..40).all(|id| read(id) == coins.get(&id).map(|coins| account_v2(id, *coins))));
}

fn check_3(runtime: &Runtime<Bank<V3>>, coins: &BTreeMap<u32, i64>) {
    let read = |id: u32| ask(runtime, MessageV3 { cents: 0, to: id_v3(u64::from(id) + 1000) });
    let wanted = |(id, coins): (&u32, &i64)| {
        (*id, AccountV3 { cents: i128::from(*coins) * 100, name: format!("account {id}") })
    };
    let wanted: BTreeMap<_, _> = coins.iter().map(wanted).collect();
    until(|| (0..40).all(|id| read(id) == wanted.get(&id).cloned()));
}

/// With the old schemas kept, as if every checkpoint were late.
fn without_checkpoints(log: LogConfig) -> LogConfig {
    LogConfig { disk: DiskOptions { keeps_old_schemas: true, ..DiskOptions::default() }, ..log }
}

/// The versions of which a directory has records.
fn versions(directory: &Path) -> Vec<u32> {
    let verified = freehold::inspect::verify(directory).expect("it can be looked at");
    assert!(verified.damages.is_empty(), "{verified:?}");
    let checkpoint = verified.checkpoint.iter().map(|checkpoint| checkpoint.schema_version);
    checkpoint.chain(verified.runs.iter().map(|run| run.schema_version)).collect()
}

#[test]
fn directories_of_versions_1_and_2_become_version_3() {
    let watchdog = Watchdog::new("directories_of_versions_1_and_2_become_version_3");
    let all = |directory: &Path| with_2_to_3(with_1_to_2::<V2>(log(directory)));
    for shards in [1, 3] {
        // Version 1 wrote it, and stopped or crashed.
        let stopped = tempfile::tempdir().expect("there is room");
        let runtime = work_1(stopped.path(), shards);
        let crash = crashed(stopped.path());
        assert!(runtime.shutdown().drained);
        for (directory, others) in [(&stopped, 2), (&crash, 4)] {
            watchdog.feed();
            let copy = crashed(directory.path());
            let runtime = open::<V3>(all(copy.path()), others);
            let recovery = runtime.recovery().expect("there is a log");
            assert_eq!((recovery.objects, recovery.migrated_from), (39, Some(1)), "{recovery}");
            check_3(&runtime, &after_1());
            assert!(runtime.shutdown().drained);
        }

        // Version 2 went on with it, and crashed before it had made a checkpoint.
        let runtime = open::<V2>(without_checkpoints(with_1_to_2::<V2Actor>(log(stopped.path()))), shards);
        check_2(&runtime, &after_1());
        work_2(&runtime);
        let before = crashed(stopped.path());
        assert_eq!(versions(before.path()), [1, 1, 2]);
        // Then it made one.
        runtime.checkpoint().expect("it is made");
        let behind = crashed(stopped.path());
        assert_eq!(versions(behind.path()), [2, 2]);
        assert!(runtime.shutdown().drained);

        for (directory, from) in [(&before, 1), (&behind, 2)] {
            watchdog.feed();
            // By version 2 again: what its run has done counts, on top of what is migrated once
            // more.
            let copy = crashed(directory.path());
            let runtime = open::<V2>(with_1_to_2::<V2Actor>(log(copy.path())), 2);
            check_2(&runtime, &after_2());
            assert!(runtime.shutdown().drained);
            // By version 3, with all steps.
            let copy = crashed(directory.path());
            let runtime = open::<V3>(all(copy.path()), 2);
            let recovery = runtime.recovery().expect("there is a log");
            assert_eq!((recovery.objects, recovery.migrated_from), (39, Some(from)), "{recovery}");
            check_3(&runtime, &after_2());
            // It makes a checkpoint by itself, and then the migrations are not needed any more.
            until(|| versions(copy.path()) == [3, 3]);
            let crash = crashed(copy.path());
            assert!(runtime.shutdown().drained);
            for directory in [&crash, &copy] {
                let runtime = open::<V3>(log(directory.path()), 1);
                let recovery = runtime.recovery().expect("there is a log");
                assert_eq!((recovery.objects, recovery.migrated_from), (39, None), "{recovery}");
                assert!(recovery.owed >= 3, "{recovery}");
                check_3(&runtime, &after_2());
            }
        }
        // The steps that a directory needs, and no others.
        let error = refused::<Bank<V3>>(before.path(), with_2_to_3(log(before.path())));
        assert!(
            matches!(error, LogError::Schema { error: SchemaError::NoMigration { from: 1, to: 2 }, .. }),
            "{error}"
        );
        open::<V3>(with_2_to_3(log(behind.path())), 1);
    }
}

/// The actor of version 2 by its own name, where a migration ends with it.
type V2Actor = Bank<V2>;

/// A directory of version 1, stopped.
fn version_1() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("there is room");
    assert!(work_1(directory.path(), 2).shutdown().drained);
    directory
}

#[test]
fn a_migration_that_fails_is_named_and_changes_nothing() {
    let _watchdog = Watchdog::new("a_migration_that_fails_is_named_and_changes_nothing");
    hush();
    let directory = version_1();
    let from = || log(directory.path());
    let why = |log: LogConfig| {
        let error = refused::<V2Actor>(directory.path(), log);
        let text = error.to_string();
        let LogError::NotMigrated { error, .. } = error else { panic!("{text}") };
        assert_eq!((error.from, error.to), (1, 2), "{text}");
        (error.part, error.of, error.why)
    };
    let (part, of, why_not) = why(from().migrate_from::<V1, V2Actor>(Migration {
        id: |id| Ok(u64::from(id)),
        state: |id, coins| match id {
            7 => Err(format!("{coins} is too few").into()),
            _ => Ok(account_v2(id, coins)),
        },
        message: |message| Ok(to_v2(message)),
    }));
    assert_eq!((part, &*of), (SchemaPart::State, "object 7"));
    assert_eq!(why_not, NotMigrated::Refused("77 is too few".to_string()));

    let (part, _, why_not) = why(from().migrate_from::<V1, V2Actor>(Migration {
        id: |id| Ok(u64::from(id)),
        state: |id, coins| Ok(account_v2(id, coins)),
        message: |_| panic!("on purpose"),
    }));
    assert_eq!((part, why_not), (SchemaPart::Message, NotMigrated::Panicked("on purpose".to_string())));

    let (part, _, why_not) = why(from().migrate_from::<V1, V2Actor>(Migration {
        id: |id| Ok(u64::from(id / 2)),
        state: |id, coins| Ok(account_v2(id, coins)),
        message: |message| Ok(to_v2(message)),
    }));
    assert_eq!((part, why_not), (SchemaPart::Id, NotMigrated::SameId));

    // Longer than the database takes: a checkpoint could never be made of it.
    let (part, of, why_not) = why(from().migrate_from::<V1, V2Actor>(Migration {
        id: |id| Ok(u64::from(id)),
        state: |id, coins| match id {
            7 => Ok(AccountV2 { name: "x".repeat(66_000), coins }),
            _ => Ok(account_v2(id, coins)),
        },
        message: |message| Ok(to_v2(message)),
    }));
    assert_eq!((part, &*of), (SchemaPart::State, "object 7"));
    let max = from().value_bytes_max();
    assert!(
        matches!(why_not, NotMigrated::TooLong { bytes: 66_000.., max: most } if most == max),
        "{why_not}"
    );

    // Removed, 8 is in nobody's way; nor is what 7 was before.
    let runtime = open::<V2>(
        without_checkpoints(from().migrate_from::<V1, V2Actor>(Migration {
            id: |id| if id == 8 { Ok(9) } else { Ok(u64::from(id)) },
            state: |id, coins| {
                if id == 7 && coins == 100 { Err("old".into()) } else { Ok(account_v2(id, coins)) }
            },
            message: |message| Ok(to_v2(message)),
        })),
        1,
    );
    assert_eq!(ask(&runtime, MessageV2::Read(7)), Some(account_v2(7, 77)));
}

// A message that could not be migrated was dropped, as the error's reader would, and was to be
// migrated all the same.
#[test]
fn a_message_that_was_dropped_needs_no_migration() {
    let _watchdog = Watchdog::new("a_message_that_was_dropped_needs_no_migration");
    let directory = version_1();
    let with = || {
        log(directory.path()).migrate_from::<V1, V2Actor>(Migration {
            id: |id| Ok(u64::from(id)),
            state: |id, coins| Ok(account_v2(id, coins)),
            message: |_| Err("it means nothing any more".into()),
        })
    };
    let error = refused::<V2Actor>(directory.path(), with());
    assert!(
        matches!(&error, LogError::NotMigrated { error, .. } if error.part == SchemaPart::Message),
        "{error}"
    );
    let owed = freehold::owed::list(directory.path()).expect("it can be read");
    assert!(!owed.is_empty());
    for message in owed {
        freehold::owed::drop_message(directory.path(), message.debt).expect("it is owed");
    }
    let runtime = open::<V2>(with(), 2);
    assert_eq!(runtime.recovery().expect("there is a log").owed, 0);
    assert_eq!(ask(&runtime, MessageV2::Read(7)), Some(account_v2(7, 77)));
    runtime.checkpoint().expect("it is made");
    assert!(runtime.shutdown().drained);
    // Nor do they come back, when only the checkpoint is left.
    let runtime = open::<V2>(log(directory.path()), 1);
    assert_eq!(runtime.recovery().expect("there is a log").owed, 0);
}

/// Types of version 1 that were never those of the directory, and of version 2 that are not the
/// actor's.
struct NotV1;
struct AlsoV2;

impl SchemaTypes for NotV1 {
    const SCHEMA: Schema = Schema::new(1);
    type Id = u32;
    type State = u64;
    type Message = MessageV1;
}

impl SchemaTypes for AlsoV2 {
    const SCHEMA: Schema = Schema::new(2);
    type Id = u64;
    type State = AccountV2;
    type Message = MessageV2;
}

#[test]
fn migrations_that_do_not_fit_are_named_and_change_nothing() {
    let _watchdog = Watchdog::new("migrations_that_do_not_fit_are_named_and_change_nothing");
    let directory = version_1();
    let why = |log: LogConfig| match refused::<V2Actor>(directory.path(), log) {
        LogError::Schema { error, .. } => error,
        other => panic!("{other}"),
    };
    let from = || log(directory.path());
    assert_eq!(why(from()), SchemaError::NoMigration { from: 1, to: 2 });
    assert_eq!(why(with_2_to_3(from())), SchemaError::NoMigration { from: 1, to: 2 });
    let other = why(with_1_to_2::<AlsoV2>(from()));
    assert!(matches!(other, SchemaError::OtherTypes { from: 1, to: 2, .. }), "{other}");
    let two = why(with_1_to_2::<V2Actor>(with_1_to_2::<V2Actor>(from())));
    assert_eq!(two, SchemaError::TwoMigrations { from: 1 });
    let changed = why(from().migrate_from::<NotV1, V2Actor>(Migration {
        id: |id| Ok(u64::from(id)),
        state: |id, coins| Ok(account_v2(id, coins as i64)),
        message: |message| Ok(to_v2(message)),
    }));
    let SchemaError::Changed { version: 1, changes } = changed else { panic!("{changed}") };
    assert_eq!(changes.iter().map(|change| change.part).collect::<Vec<_>>(), [SchemaPart::State]);

    // And one of a later version is not read by an earlier program.
    let runtime = open::<V2>(with_1_to_2::<V2Actor>(from()), 2);
    ask(&runtime, MessageV2::Put(1, account_v2(1, 1)));
    assert!(runtime.shutdown().drained);
    let newer = refused::<Bank<V1>>(directory.path(), from());
    assert!(
        matches!(newer, LogError::Schema { error: SchemaError::Newer { written: 2, known: 1 }, .. }),
        "{newer}"
    );
}

/// A copy that is made epoch by epoch is of the same schemas, and is migrated as the first is.
#[test]
fn a_copy_carries_the_schemas() {
    let _watchdog = Watchdog::new("a_copy_carries_the_schemas");
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = open::<V1>(log(directory.path()), 2);
    (0..40).for_each(|id| assert_eq!(ask(&runtime, MessageV1::Put(id, 100)), None));
    assert!(runtime.shutdown().drained);
    let runtime = open::<V2>(without_checkpoints(with_1_to_2::<V2Actor>(log(directory.path()))), 2);
    ask(&runtime, MessageV2::Add { coins: 1, to: 1005 });
    ask(&runtime, MessageV2::Later(1006, NEVER, Box::new(MessageV2::Add { coins: 50, to: 1006 })));
    assert!(runtime.shutdown().drained);
    let mut coins: BTreeMap<u32, i64> = (0..40).map(|id| (id, 100)).collect();
    coins.insert(5, 101);

    let copy = tempfile::tempdir().expect("there is room");
    {
        let from = LocalLog::open(directory.path()).expect("it opens");
        let mut to = LocalLog::open(copy.path()).expect("it opens");
        let mut first = None;
        for batch in from.read(Epoch(1)).expect("it can be read") {
            let batch = batch.expect("it is whole");
            to.append(to.tail(), &batch).expect("it can be appended");
            first.get_or_insert(batch);
        }
        let mut older = first.expect("there are some");
        older.epoch = to.tail().next();
        let refused = to.append(to.tail(), &older).expect_err("it is of version 1");
        assert!(matches!(refused, CommitLogError::OlderSchema { version: 1, before: 2, .. }), "{refused}");
    }
    assert_eq!(versions(copy.path()), [1, 2]);
    refused::<Bank<V1>>(copy.path(), log(copy.path()));
    refused::<Plain<u32, Signed, u16>>(copy.path(), log(copy.path()));
    let runtime = open::<V3>(with_2_to_3(with_1_to_2::<V2>(log(copy.path()))), 3);
    assert_eq!(runtime.recovery().expect("there is a log").owed, 1);
    check_3(&runtime, &coins);
}

// ---- Directories that were written before there were schemas.

/// As `tests/it/formats.rs` has them.
struct Accounts;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    name: String,
    coins: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Put(u64, String, i64),
    Read(u64),
    Move { from: u64, to: u64, coins: i64 },
}

impl SchemaTypes for Accounts {
    const SCHEMA: Schema = Schema::new(1);
    type Id = u64;
    type State = Account;
    type Message = Message;
}

impl Version for Accounts {
    fn does(message: &Message) -> Does<Accounts> {
        match message.clone() {
            Message::Put(id, name, coins) => Does::Put(id, Account { name, coins }),
            Message::Move { from, .. } => Does::Read(from),
            Message::Read(id) => Does::Read(id),
        }
    }

    fn add(state: &mut Account, coins: i64) {
        state.coins += coins;
    }
}

#[test]
fn directories_from_before_there_were_schemas_are_of_version_1() {
    let _watchdog = Watchdog::new("directories_from_before_there_were_schemas_are_of_version_1");
    for name in ["1-stopped", "1-crashed"] {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name);
        // By types of version 1, whatever they are called. From then on they are known.
        let directory = crashed(&kept);
        let runtime = open::<Accounts>(log(directory.path()), 2);
        let account = Account { name: "account 0".to_string(), coins: 100 };
        assert_eq!(ask(&runtime, Message::Read(0)), Some(account));
        ask(&runtime, Message::Put(1, String::new(), 5));
        runtime.checkpoint().expect("it is made");
        assert!(runtime.shutdown().drained);
        refused::<Plain<u64, Signed, u16>>(directory.path(), log(directory.path()));

        // By others, where nothing says what the types were: records that cannot be read are named,
        // as long as they cannot.
        let directory = crashed(&kept);
        let other = refused::<Plain<u64, Flag, u16>>(directory.path(), log(directory.path()));
        assert!(matches!(other, LogError::NotUnderstood { what: "an object's state", .. }), "{other}");

        // By a later version, with a migration from version 1.
        let directory = crashed(&kept);
        let none = refused::<V2Actor>(directory.path(), log(directory.path()));
        assert!(
            matches!(none, LogError::Schema { error: SchemaError::NoMigration { from: 1, to: 2 }, .. }),
            "{none}"
        );
        let migrating = log(directory.path()).migrate_from::<Accounts, V2Actor>(Migration {
            id: |id| Ok(id + 1000),
            state: |_, Account { name, coins }| Ok(AccountV2 { name, coins: coins * 2 }),
            message: |message| match message {
                Message::Move { to, coins, .. } => Ok(MessageV2::Add { coins, to: to + 1000 }),
                other => Err(format!("{other:?} was told").into()),
            },
        });
        let runtime = open::<V2>(migrating, 3);
        let recovery = runtime.recovery().expect("there is a log");
        assert_eq!((recovery.objects, recovery.owed, recovery.migrated_from), (38, 2, Some(1)), "{recovery}");
        let account = |name: &str, coins| Some(AccountV2 { name: name.to_string(), coins });
        assert_eq!(ask(&runtime, MessageV2::Read(1000)), account("account 0", 200));
        until(|| ask(&runtime, MessageV2::Read(1035)) == account("account 35", 207));
        assert!(runtime.shutdown().drained);
    }
}
