//! Directories of earlier versions of an actor's types open by migrations, over any number of
//! versions, or the error says which one is missing or fails.

mod versions;

use std::collections::BTreeMap;
use std::path::Path;

use freehold::{
    AccessError, Actor, Addressees, CommitLog, CommitLogError, DiskOptions, Epoch, LocalLog, LogConfig,
    LogError, Migration, NotMigrated, Objects, Runtime, Schema, SchemaError, SchemaPart, SchemaTypes,
};
use serde::{Deserialize, Serialize};

use crate::schema::{Flag, Plain, Signed, config, crashed, log, refused};
use crate::support::{Watchdog, hush, until};
use versions::{
    AccountV2, AccountV3, Bank, Does, MessageV1, MessageV2, MessageV3, V1, V2, V3, Version, account_v2,
    id_v3, to_v2, with_1_to_2, with_2_to_3,
};

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
        freehold::owed::drop_message(directory.path(), message.send_id).expect("it is owed");
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

/// 57,344 bytes with a fixed width, and 71,680 by postcard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wide(Box<[[[u64; 32]; 32]; 7]>);

/// Keeps one object that is nearly as long as a state may be.
struct Keeps<const VERSION: u32>;

impl<const VERSION: u32> Actor for Keeps<VERSION> {
    const SCHEMA: Schema = Schema::new(VERSION);
    type Id = u64;
    type State = Wide;
    type Message = bool;
    type Reply = Option<Wide>;
    type Error = AccessError<u64>;

    fn addressees(_: &bool, to: &mut Addressees<u64>) {
        to.write(u64::MAX);
    }

    fn receive(puts: &bool, objects: &mut Objects<'_, Self>) -> Result<Option<Wide>, AccessError<u64>> {
        if *puts {
            objects.insert(u64::MAX, Wide(Box::new([[[u64::MAX; 32]; 32]; 7])))?;
        }
        Ok(objects.get(u64::MAX)?.cloned())
    }
}

// A migration was measured by postcard, and records of numbers have a fixed width, which is
// shorter: a state that was written once was refused when a migration left it as it was.
#[test]
fn a_value_near_the_bound_that_stays_as_it_is_can_be_migrated() {
    let _watchdog = Watchdog::new("a_value_near_the_bound_that_stays_as_it_is_can_be_migrated");
    let directory = tempfile::tempdir().expect("there is room");
    let from = || log(directory.path());
    let runtime = Runtime::<Keeps<1>>::open(config(1), from()).expect("it opens");
    let written = runtime.handle().ask(true).wait().expect("it has room");
    assert!(runtime.shutdown().drained);
    let migrating =
        from().migrate_from::<Keeps<1>, Keeps<2>>(Migration { id: Ok, state: |_, it| Ok(it), message: Ok });
    let runtime = Runtime::<Keeps<2>>::open(config(1), migrating).expect("it opens");
    runtime.checkpoint().expect("it is made");
    assert_eq!(runtime.handle().ask(false).wait().expect("it can be read"), written);
    assert!(runtime.shutdown().drained);
    let runtime = Runtime::<Keeps<2>>::open(config(1), from()).expect("nothing of version 1 is left");
    assert_eq!(runtime.handle().ask(false).wait().expect("it can be read"), written);
}
