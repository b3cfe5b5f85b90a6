//! A database, copied and followed epoch by epoch, is the same database, whatever wrote it and
//! whatever goes on with the copy.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::support::{Watchdog, until};
use freehold::{
    AccessError, Actor, Addressees, CommitLog, CommitLogError, Config, Epoch, EpochBatch, Idle, LocalLog,
    LogConfig, LogError, Objects, Runtime, Shards, inspect,
};
use serde::{Deserialize, Serialize};

/// Texts by number.
struct Texts;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Put(u64, String),
    Both(u64, u64, String),
    Remove(u64),
    /// Has the second be put after so many milliseconds.
    Later(u64, u64, u64),
    Read(u64),
}

impl Actor for Texts {
    type Id = u64;
    type State = String;
    type Message = Message;
    type Reply = Option<String>;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Read(id) => to.read(id),
            Message::Put(id, _) | Message::Remove(id) | Message::Later(id, ..) => to.write(id),
            Message::Both(a, b, _) => {
                to.write(a);
                to.write(b);
            }
        }
    }

    fn receive(
        message: &Message,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<String>, AccessError<u64>> {
        match message.clone() {
            Message::Put(id, text) => objects.insert(id, text),
            Message::Both(a, b, text) => {
                objects.insert(a, text.clone())?;
                objects.insert(b, text)
            }
            Message::Remove(id) => objects.remove(id),
            Message::Later(id, other, milliseconds) => {
                let after = Duration::from_millis(milliseconds);
                objects.tell_after(after, Message::Put(other, "late".to_string()))?;
                objects.insert(id, "early".to_string())
            }
            Message::Read(id) => Ok(objects.get(id)?.cloned()),
        }
    }
}

fn open(shards: usize, directory: &Path) -> Runtime<Texts> {
    let config =
        Config { shards: Shards::Count(shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() };
    let log = LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory) };
    Runtime::open(config, log).expect("it opens")
}

const OBJECTS: u64 = 60;

fn objects(runtime: &Runtime<Texts>) -> BTreeMap<u64, Option<String>> {
    let read = |id| (id, runtime.handle().ask(Message::Read(id)).wait().expect("it can be read"));
    (0..OBJECTS).map(read).collect()
}

/// Some of everything, from several sides.
fn work(runtime: &Runtime<Texts>, round: u64) {
    let handle = runtime.handle();
    for number in 0..60 {
        let id = (number * 7 + round) % 50;
        let text = |bytes: usize| format!("{round} {number} {}", "x".repeat(bytes));
        let message = match number % 5 {
            0 => Message::Both(id, (id + 13) % 50, text(1)),
            1 => Message::Remove(id),
            2 => Message::Put(id, text(5000)),
            _ => Message::Put(id, text(10)),
        };
        handle.ask(message).wait().expect("it is done");
    }
    let many = (0..50).map(|id| Message::Both(id, (id + 1) % 50, format!("{round} {id}")));
    handle.ask_all(many).wait().into_iter().for_each(|done| assert!(done.is_ok()));
}

/// Brings `to` up to date, and says how many epochs that took.
fn follow(from: &LocalLog, to: &mut LocalLog) -> usize {
    let (mut tail, mut epochs) = (to.tail(), 0);
    for batch in from.read(tail.next()).expect("it can be read") {
        let batch = batch.expect("it is whole");
        assert!(batch.epoch > tail && !batch.records.is_empty(), "epochs come in order");
        to.append(tail, &batch).expect("it can be appended");
        assert_eq!(to.tail(), batch.epoch);
        (tail, epochs) = (batch.epoch, epochs + 1);
    }
    epochs
}

/// The log of a runtime that has worked and stopped, and what its objects were.
fn worked(directory: &Path) -> (BTreeMap<u64, Option<String>>, LocalLog) {
    let runtime = open(1, directory);
    work(&runtime, 0);
    let expected = objects(&runtime);
    runtime.shutdown();
    (expected, LocalLog::open(directory).expect("it opens"))
}

/// All bytes of a directory.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files =
        std::fs::read_dir(directory).expect("it is there").map(|file| file.expect("it can be listed"));
    files
        .map(|file| (file.file_name().to_string_lossy().into(), std::fs::read(file.path()).expect("a file")))
        .collect()
}

#[test]
fn a_copy_is_the_same_database() {
    let watchdog = Watchdog::new("a_copy_is_the_same_database");
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let mut expected = BTreeMap::new();
    let mut epochs = 0;
    for (round, shards) in [2, 1, 2].into_iter().enumerate() {
        let runtime = open(shards, from.path());
        work(&runtime, round as u64);
        if round == 2 {
            // It is due when the copy runs, not when the first database does; it must not be
            // forgotten.
            runtime.handle().ask(Message::Later(50, 51, 60_000_000)).wait().expect("it is told");
        }
        expected = objects(&runtime);
        let refused = LocalLog::open(from.path()).unwrap_err();
        assert!(matches!(refused, CommitLogError::Log(LogError::InUse { .. })), "{refused}");
        runtime.shutdown();
        let (from, mut to) = (LocalLog::open(from.path()), LocalLog::open(to.path()).expect("it opens"));
        let from = from.expect("it opens");
        epochs += follow(&from, &mut to);
        assert_eq!(follow(&from, &mut to), 0, "it is up to date");
        watchdog.feed();
    }
    assert!(epochs > 60, "{epochs} epochs");
    let verified = inspect::verify(to.path()).expect("it is there");
    assert!(verified.damages.is_empty(), "{:?}", verified.damages);
    assert!(verified.runs.iter().all(|run| run.logs == 1 && run.has_ended), "{verified:?}");
    let runtime = open(3, to.path());
    assert_eq!(objects(&runtime), expected);
    assert_eq!(runtime.recovery().map(|recovery| recovery.owed), Some(1));
    // It is a database like any other.
    work(&runtime, 9);
    let expected = objects(&runtime);
    runtime.shutdown();
    assert_eq!(objects(&open(2, to.path())), expected);
}

#[test]
fn what_was_told_comes_due_in_the_copy() {
    let _watchdog = Watchdog::new("what_was_told_comes_due_in_the_copy");
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let runtime = open(1, from.path());
    runtime.handle().ask(Message::Later(1, 2, 300)).wait().expect("it is told");
    runtime.shutdown();
    let mut copy = LocalLog::open(to.path()).expect("it opens");
    assert!(follow(&LocalLog::open(from.path()).expect("it opens"), &mut copy) > 0);
    drop(copy);
    let runtime = open(2, to.path());
    until(|| objects(&runtime)[&2].as_deref() == Some("late"));
    assert_eq!(objects(&runtime)[&1].as_deref(), Some("early"));
}

#[test]
fn what_is_refused_changes_nothing() {
    let _watchdog = Watchdog::new("what_is_refused_changes_nothing");
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let runtime = open(2, from.path());
    work(&runtime, 0);
    runtime.shutdown();
    let source = LocalLog::open(from.path()).expect("it opens");
    let batches: Vec<EpochBatch> =
        source.read(Epoch(0)).expect("it can be read").map(|batch| batch.expect("it is whole")).collect();
    let mut copy = LocalLog::open(to.path()).expect("it opens");
    let half = batches.len() / 2;
    for batch in &batches[..half] {
        copy.append(copy.tail(), batch).expect("it can be appended");
    }
    let (before, tail, next) = (files(to.path()), copy.tail(), &batches[half]);
    let refused = copy.append(Epoch(tail.0 - 1), next).unwrap_err();
    assert!(matches!(refused, CommitLogError::NotTheTail { found, .. } if found == tail), "{refused}");
    let refused = copy.append(tail, &batches[half - 1]).unwrap_err();
    assert!(matches!(refused, CommitLogError::NotLater { .. }), "{refused}");
    let records = vec![next.records[0].clone(), Box::from([99, 1, 2])];
    let refused = copy.append(tail, &EpochBatch { records, ..next.clone() }).unwrap_err();
    assert!(matches!(refused, CommitLogError::NotARecord { at: 1, .. }), "{refused}");
    let refused = copy.trim(Epoch(2)).unwrap_err();
    assert!(matches!(refused, CommitLogError::NotInACheckpoint { first: Epoch(1) }), "{refused}");
    assert!(files(to.path()) == before && copy.tail() == tail);
    // And it goes on.
    batches[half..].iter().for_each(|batch| copy.append(copy.tail(), batch).expect("it can be appended"));
    let read: Vec<EpochBatch> = copy.read(Epoch(1)).expect("it can be read").map(Result::unwrap).collect();
    assert!(read == batches, "what is read of the copy is what was appended");
}

#[test]
fn an_append_that_a_crash_cut_off_is_nothing_and_can_be_done_again() {
    let _watchdog = Watchdog::new("an_append_that_a_crash_cut_off");
    let [from, to, crashed] = [(); 3].map(|()| tempfile::tempdir().expect("there is room"));
    let (expected, source) = worked(from.path());
    let mut copy = LocalLog::open(to.path()).expect("it opens");
    assert!(follow(&source, &mut copy) > 1);
    // It still runs. Of the last epoch the last batch is torn.
    for (name, bytes) in files(to.path()) {
        std::fs::write(crashed.path().join(name), bytes).expect("it can be written");
    }
    let (mut last, mut epochs) = (None, Vec::new());
    inspect::dump(crashed.path(), |entry| {
        last = Some((format!("log-{:08x}-{:08x}", entry.log, entry.segment), entry.offset as usize));
        epochs.push(entry.epoch);
    })
    .expect("it is whole");
    let (name, offset) = last.expect("there are records");
    let mut bytes = files(crashed.path()).remove(&name).expect("it is there");
    bytes[offset..offset + 4096].fill(0);
    std::fs::write(crashed.path().join(&name), bytes).expect("it can be written");
    let mut copy = LocalLog::open(crashed.path()).expect("it opens");
    assert!(copy.tail() < *epochs.last().expect("there are epochs"));
    assert_eq!(follow(&source, &mut copy), 1);
    drop(copy);
    assert_eq!(objects(&open(2, crashed.path())), expected);
}

/// A program that brings a copy on opens it each time: a whole segment was kept for each.
#[test]
fn a_copy_that_is_opened_again_and_again_does_not_fill_the_disk() {
    let _watchdog = Watchdog::new("a_copy_that_is_opened_again");
    let [from, to, crashed] = [(); 3].map(|()| tempfile::tempdir().expect("there is room"));
    let (expected, source) = worked(from.path());
    let config = |directory: &Path| LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory) };
    let (mut openings, mut by_crash) = (0, 0);
    let mut place = to.path();
    for batch in source.read(Epoch(1)).expect("it can be read").take(20) {
        let mut copy = LocalLog::open_with(&config(place)).expect("it opens");
        copy.append(copy.tail(), &batch.expect("it is whole")).expect("it can be appended");
        openings += 1;
        if openings == 10 {
            // Nobody writes down where this one ends.
            for (name, bytes) in files(place) {
                std::fs::write(crashed.path().join(name), bytes).expect("it can be written");
            }
            place = crashed.path();
            by_crash += 1;
        }
    }
    assert_eq!((openings, by_crash), (20, 1));
    let files = files(place);
    let logs = files.iter().filter(|(name, _)| name.starts_with("log-"));
    let bytes: Vec<usize> = logs.map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(bytes.len(), 20, "{:?}", files.keys());
    assert!(bytes.iter().all(|bytes| (1..=64 << 10).contains(bytes)), "{bytes:?}");
    // It is whole, and goes on.
    let mut copy = LocalLog::open_with(&config(place)).expect("it opens");
    follow(&source, &mut copy);
    drop(copy);
    assert_eq!(objects(&open(2, place)), expected);
}

#[test]
fn what_is_in_a_checkpoint_cannot_be_read_by_epochs_and_can_be_let_go_of() {
    let _watchdog = Watchdog::new("what_is_in_a_checkpoint");
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = open(2, directory.path());
    work(&runtime, 0);
    let checkpoint = runtime.checkpoint().expect("it can be made");
    work(&runtime, 1);
    let expected = objects(&runtime);
    runtime.shutdown();
    let mut log = LocalLog::open(directory.path()).expect("it opens");
    let Err(refused) = log.read(Epoch(1)) else { panic!("it is in the checkpoint") };
    let CommitLogError::LetGo { first } = refused else { panic!("{refused}") };
    assert_eq!(first, checkpoint.epoch);
    let read = |log: &LocalLog| -> Vec<EpochBatch> {
        log.read(first).expect("it can be read").map(|batch| batch.expect("it is whole")).collect()
    };
    let batches = read(&log);
    assert!(batches.len() > 30 && batches[0].epoch >= first);
    let refused = log.trim(first.next()).unwrap_err();
    assert!(matches!(refused, CommitLogError::NotInACheckpoint { .. }), "{refused}");
    log.trim(first).expect("it can be trimmed");
    assert!(read(&log) == batches, "nothing is gone that can be read");
    drop(log);
    let verified = inspect::verify(directory.path()).expect("it is there");
    assert!(verified.damages.is_empty(), "{:?}", verified.damages);
    assert_eq!(objects(&open(1, directory.path())), expected);
}
