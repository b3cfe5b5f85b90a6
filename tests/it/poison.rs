//! A message that is owed and ends the process whenever it runs does not keep a service down.
//!
//! A message was told to run later, and overflowed the stack when it did. It was owed still, so the
//! next start ran it again, and the next: the service could not be started any more, but by
//! throwing its log away. The message is set aside now, after a few starts, and those that merely
//! waited beside it run once each.
//!
//! The processes that end are this program again, in the test `a_life`.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Watchdog, until};
use freehold::inspect::{self, Record};
use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Handle, Idle, LogConfig, LogError, Objects, Runtime,
    Schema, Shards, StartError, owed,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Objects that count.
struct Service;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Add(u64),
    Read(u64),
    /// Has the other run in so many milliseconds.
    Later(u64, u64, Box<Message>),
    /// Has the other run at once.
    Now(u64, Box<Message>),
    /// Adds, and takes its time.
    Slow(u64),
    Abort(u64),
    /// On two shards, if there are two.
    AbortBoth(u64, u64),
    Overflow(u64),
}

impl Actor for Service {
    type Id = u64;
    type State = u64;
    type Message = Message;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::AbortBoth(a, b) => {
                to.write(a);
                to.write(b);
            }
            Message::Add(a)
            | Message::Read(a)
            | Message::Later(a, ..)
            | Message::Now(a, _)
            | Message::Slow(a)
            | Message::Abort(a)
            | Message::Overflow(a) => to.write(a),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        match message {
            Message::Add(id) | Message::Slow(id) => {
                if matches!(message, Message::Slow(_)) {
                    HAS_BEGUN.store(true, Ordering::Release);
                    std::thread::sleep(Duration::from_millis(5));
                }
                let count = objects.get_or_insert_with(*id, || 0)?;
                *count += 1;
                Ok(*count)
            }
            Message::Read(id) => Ok(objects.get(*id)?.copied().unwrap_or_default()),
            Message::Later(_, after, then) => {
                objects.tell_after(Duration::from_millis(*after), (**then).clone())?;
                Ok(0)
            }
            Message::Now(_, then) => {
                objects.tell((**then).clone())?;
                Ok(0)
            }
            Message::Abort(_) | Message::AbortBoth(..) => std::process::abort(),
            Message::Overflow(id) => Ok(overflow(*id)),
        }
    }
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn overflow(from: u64) -> u64 {
    let room = std::hint::black_box([from; 64]);
    overflow(from + 1) + room[from as usize % 64]
}

fn open(shards: usize, directory: &Path) -> Result<Runtime<Service>, StartError> {
    let config =
        Config { shards: Shards::Count(shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() };
    Runtime::open(config, LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory) })
}

/// Innocent messages: one for each of these objects.
const INNOCENT: std::ops::Range<u64> = 1..1_001;
/// In another place, the guilty one.
const GUILTY: u64 = 500;

/// A pair of ids, at home on two shards if there are two.
fn pair(handle: &Handle<Service>) -> (u64, u64) {
    let other = |id: &u64| handle.home(id) != handle.home(&2_000);
    (2_000, (2_001..2_100).find(other).unwrap_or(2_001))
}

fn poison(kind: &str, handle: &Handle<Service>) -> Message {
    match kind {
        "abort" => Message::Abort(2_000),
        "overflow" => Message::Overflow(2_000),
        "abort on both" => Message::AbortBoth(pair(handle).0, pair(handle).1),
        // The one that is owed succeeds, and what it tells ends the process.
        "tell" => Message::Now(2_000, Box::new(Message::Abort(2_000))),
        other => panic!("{other} is no kind"),
    }
}

/// A slow message has begun in this process.
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
/// Slow messages, all for objects of one shard.
const SLOW: u64 = 80;

/// The objects of the messages that harm nobody.
fn innocent(kind: &str, handle: &Handle<Service>) -> Vec<u64> {
    match kind {
        "slow" => (1..).filter(|id| handle.home(id).index() == 0).take(SLOW as usize).collect(),
        _ => INNOCENT.collect(),
    }
}

fn all_ran(kind: &str, handle: &Handle<Service>) -> bool {
    let reads = innocent(kind, handle).into_iter().map(Message::Read);
    handle.ask_all(reads).wait().into_iter().all(|count| count == Ok(1))
}

/// The life of a process that is told by its environment what to do.
#[test]
#[ignore = "the other tests run it, each time in a process of its own"]
fn a_life() {
    let _watchdog = Watchdog::new("a_life");
    let told = |name| std::env::var(name).expect("it is told what to do");
    let (directory, kind, shards) = (told("LIFE_IN"), told("LIFE_OF"), told("LIFE_SHARDS"));
    let runtime = open(shards.parse().expect("a number"), Path::new(&directory)).expect("it opens");
    let handle = runtime.handle();
    match told("LIFE").as_str() {
        "plant" => {
            let delay = told("LIFE_DELAY").parse().expect("a number");
            let later = |message| Message::Later(0, delay, Box::new(message));
            let add = if kind == "slow" { Message::Slow } else { Message::Add };
            let mut all: Vec<_> = innocent(&kind, &handle).into_iter().map(|id| later(add(id))).collect();
            if kind != "slow" {
                all.insert(GUILTY as usize, later(poison(&kind, &handle)));
            }
            let answers = handle.ask_all(all).wait();
            assert!(answers.iter().all(|answer| answer.is_ok() || *answer == Err(AskError::Unknown)));
            if kind == "slow" {
                std::process::abort();
            }
        }
        // Somebody sends what ends the process, to another shard than the one that is busy.
        "attacked" => {
            until(|| HAS_BEGUN.load(Ordering::Acquire));
            let there = (2_000..).find(|id| handle.home(id).index() == 1).expect("there is one");
            drop(handle.ask(Message::Abort(there)).wait());
        }
        _ => {}
    }
    until(|| all_ran(&kind, &handle));
    let owed = runtime.recovery().expect("it has a log").set_aside;
    println!("it lives, {owed} set aside");
    assert!(runtime.shutdown().drained);
}

/// Plants the messages in a new directory, and makes sure that the disk has all of them. On a busy
/// machine the guilty one ended the process after 20 ms, before the disk had any. The next lives
/// then waited for messages that nobody owed.
fn plant(kind: &str, shards: usize, watchdog: &Watchdog) -> TempDir {
    for delay in [20, 200, 2_000, 20_000] {
        let directory = tempfile::tempdir().expect("a directory");
        let (lives, said) = live_for("plant", kind, shards, directory.path(), delay);
        assert!(!lives, "{kind}: it ends the process");
        assert!(!said.contains("panicked"), "{kind}, {shards} shards: {said}");
        watchdog.feed();
        if told_for_good(directory.path()) == INNOCENT.count() + 1 {
            return directory;
        }
    }
    panic!("{kind}, {shards} shards: the disk takes more than 20 s");
}

/// How many messages were told in epochs that no crash takes back.
fn told_for_good(directory: &Path) -> usize {
    let runs = inspect::verify(directory).expect("it is whole").runs;
    let cut = runs[0].cut.expect("it is whole");
    let mut told = 0;
    inspect::dump(directory, |entry| {
        told += usize::from(matches!(entry.record, Record::Send { .. }) && entry.epoch <= cut);
    })
    .expect("it is whole");
    told
}

/// Lives once. Says whether it ended well, and what was said.
fn live(life: &str, kind: &str, shards: usize, directory: &Path) -> (bool, String) {
    live_for(life, kind, shards, directory, 1_000)
}

/// Lives once. Planted messages are due after `delay` milliseconds.
fn live_for(life: &str, kind: &str, shards: usize, directory: &Path, delay: u64) -> (bool, String) {
    let child = Command::new(std::env::current_exe().expect("a test knows where it is"))
        .args(["--exact", "poison::a_life", "--ignored", "--nocapture"])
        .env("LIFE", life)
        .env("LIFE_IN", directory)
        .env("LIFE_OF", kind)
        .env("LIFE_SHARDS", shards.to_string())
        .env("LIFE_DELAY", delay.to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    (child.status.success(), said)
}

/// Starts it until it lives. Returns how many starts it took.
fn start_until_it_lives(
    kind: &str,
    shards: usize,
    directory: &Path,
    most: usize,
    watchdog: &Watchdog,
) -> usize {
    for start in 1..=most {
        let (lives, said) = live("serve", kind, shards, directory);
        watchdog.feed();
        if lives {
            return start;
        }
        assert!(!said.contains("panicked"), "{kind}, {shards} shards, start {start}: {said}");
    }
    panic!("{kind}, {shards} shards: it does not live after {most} starts");
}

fn set_aside(directory: &Path) -> Vec<owed::OwedMessage> {
    let owed = owed::list(directory).expect("it is whole");
    owed.into_iter().filter(|message| message.is_set_aside).collect()
}

fn poisoned(kind: &str, shards: usize) {
    let watchdog = Watchdog::new("poisoned");
    let directory = plant(kind, shards, &watchdog);
    let path = directory.path();
    // Once among those that are under way together, twice alone, and then no more.
    let starts = start_until_it_lives(kind, shards, path, 6, &watchdog);
    assert!(starts > 1, "{kind}: it is tried again");

    // It is set aside, and nobody else is; and that stays so, whatever is done with the directory.
    let aside = set_aside(path);
    let [guilty] = &aside[..] else { panic!("{kind}, {shards} shards: {aside:?}") };
    assert_eq!(guilty.lives, 3, "{kind}");
    for shards in [1, 3, shards] {
        let runtime = open(shards, path).expect("it opens");
        let recovery = runtime.recovery().expect("it has a log");
        assert_eq!((recovery.set_aside, recovery.owed), (1, 0), "{kind}: {recovery}");
        assert!(all_ran(kind, &runtime.handle()), "{kind}: each once");
        let in_use = owed::release(path, guilty.send_id);
        assert!(matches!(in_use, Err(LogError::InUse { .. })), "{in_use:?}");
        runtime.checkpoint().expect("it can be made");
        assert!(runtime.shutdown().drained);
        assert_eq!(set_aside(path), aside, "{kind}, after a checkpoint and {shards} shards");
        watchdog.feed();
    }
    let mut dumped = Vec::new();
    inspect::dump(path, |entry| {
        if let Record::Send { send_id, .. } = entry.record
            && entry.is_set_aside
        {
            dumped.push(send_id);
        }
    })
    .expect("it is whole");
    dumped.dedup();
    assert_eq!(dumped, [guilty.send_id], "{kind}");
    assert_eq!(inspect::verify(path).expect("it is whole").set_aside, [guilty.send_id], "{kind}");

    // Released, it runs again, and ends the process.
    owed::release(path, guilty.send_id).expect("it is set aside");
    assert!(!live("serve", kind, shards, path).0, "{kind}: it runs again");
    watchdog.feed();
    start_until_it_lives(kind, shards, path, 6, &watchdog);
    assert_eq!(set_aside(path).len(), 1, "{kind}");

    // Dropped, it is gone, and stays so when the logs that have it are.
    let send_id = set_aside(path)[0].send_id;
    owed::drop_message(path, send_id).expect("it is owed");
    for _ in 0..2 {
        assert_eq!(owed::list(path).expect("it is whole"), []);
        let runtime = open(2, path).expect("it opens");
        let recovery = runtime.recovery().expect("it has a log");
        assert_eq!((recovery.set_aside, recovery.owed), (0, 0), "{kind}: {recovery}");
        runtime.checkpoint().expect("it can be made");
        assert!(all_ran(kind, &runtime.handle()), "{kind}: each once");
        assert!(runtime.shutdown().drained);
    }
    let dropped = owed::drop_message(path, send_id);
    assert!(matches!(dropped, Err(LogError::NotOwed { .. })), "{dropped:?}");
}

#[test]
fn a_message_that_aborts_is_set_aside() {
    poisoned("abort", 1);
}

#[test]
fn a_message_that_aborts_is_set_aside_on_two_shards() {
    poisoned("abort", 2);
}

#[test]
fn a_message_that_overflows_the_stack_is_set_aside() {
    poisoned("overflow", 1);
}

#[test]
fn a_message_that_overflows_the_stack_is_set_aside_on_two_shards() {
    poisoned("overflow", 2);
}

#[test]
fn a_transaction_that_aborts_is_set_aside() {
    poisoned("abort on both", 2);
}

/// What ends the process is in no log when it does: only the message that told it can be named, and
/// it is not delivered before the disk has it.
#[test]
fn a_message_that_tells_one_that_aborts_is_set_aside_or_that_one_is() {
    poisoned("tell", 1);
}

/// Those that happen to be under way when somebody else ends the process are suspected, run alone,
/// and are acquitted. They are not suspected together for a second time.
#[test]
fn who_only_waits_is_never_set_aside() {
    let watchdog = Watchdog::new("who_only_waits_is_never_set_aside");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    assert!(!live("plant", "slow", 2, path).0);
    let owed = || owed::list(path).expect("it is whole").len() as u64;
    let (mut attacks, planted) = (0, owed());
    assert!(planted > 0, "the process ended before they were due");
    while owed() > 0 {
        assert!(!live("attacked", "slow", 2, path).0);
        watchdog.feed();
        attacks += 1;
        assert_eq!(set_aside(path), []);
        assert!(attacks > 1 || owed() == planted, "the first time they are under way, and none is through");
        assert!(attacks < 20, "each attack leaves fewer");
    }
    let (lives, said) = live("serve", "slow", 2, path);
    assert!(lives && said.contains("it lives, 0 set aside"), "{said}");
}

/// One message that the actor could not read made the whole directory unopenable, and the error did
/// not say which.
#[test]
fn an_owed_message_that_cannot_be_read_is_named_and_can_be_dropped() {
    let _watchdog = Watchdog::new("an_owed_message_that_cannot_be_read_is_named_and_can_be_dropped");
    /// The actor as it is later: its messages are other ones, and it says that their bytes mean the
    /// same, which they do not.
    struct Changed;
    impl Actor for Changed {
        const SCHEMA: Schema = Schema::new(1).accepting(&[0x4d4e_dce7_6de4_44ad]);
        type Id = u64;
        type State = u64;
        type Message = (bool, u64);
        type Reply = Option<u64>;
        type Error = AccessError<u64>;
        fn addressees((_, id): &(bool, u64), to: &mut Addressees<u64>) {
            to.write(*id);
        }
        fn receive(
            (_, id): &(bool, u64),
            objects: &mut Objects<'_, Self>,
        ) -> Result<Option<u64>, AccessError<u64>> {
            objects.get(*id).map(|count| count.copied())
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let runtime = open(1, path).expect("it opens");
    runtime.handle().ask(Message::Add(7)).wait().expect("it adds");
    let later = Message::Later(7, 86_400_000, Box::new(Message::Overflow(7)));
    runtime.handle().ask(later).wait().expect("it is told");
    assert!(runtime.shutdown().drained);
    let open_changed = || {
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        Runtime::<Changed>::open(config, LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(path) })
    };
    let refused = open_changed().expect_err("it cannot be read");
    let StartError::Log(LogError::OwedNotUnderstood { send_id, .. }) = refused else { panic!("{refused}") };
    let advice = format!("--drop {}", send_id.0);
    assert!(refused.to_string().contains(&advice), "{refused}");
    owed::drop_message(path, send_id).expect("it is owed");
    let runtime = open_changed().expect("it can be opened now");
    assert_eq!(runtime.handle().ask((true, 7)).wait(), Ok(Some(1)));
    assert_eq!(runtime.recovery().expect("it has a log").owed, 0);
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("none");
    assert!(owed::list(&path).is_err() && owed::release(&path, owed::SendId(1)).is_err() && !path.exists());
    let empty = owed::drop_message(directory.path(), owed::SendId(1));
    assert!(matches!(empty, Err(LogError::NoManifest { .. })), "{empty:?}");
}
