//! Directories that were brought back, in whole or in part, over newer ones; and what a program
//! leaves that crashes again and again.
//!
//! A crash is a copy of a directory that was taken while its runtime had nothing to do.

use std::fs;
use std::path::Path;

use crate::directory::files;
use crate::support::{Watchdog, until};
use freehold::{
    AccessError, Actor, Addressees, Config, Idle, LocalLog, LogConfig, LogError, Objects, Runtime, Shards,
    StartError, inspect,
};
use serde::{Deserialize, Serialize};

const SEGMENT: usize = 64 << 10;

/// Objects that hold a number, written two at a time.
struct Pairs;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Both([u64; 2], u64),
    Read(u64),
}

impl Actor for Pairs {
    type Id = u64;
    type State = u64;
    type Message = Message;
    type Reply = Option<u64>;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Both(pair, _) => pair.iter().for_each(|id| to.write(*id)),
            Message::Read(id) => to.read(*id),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Option<u64>, AccessError<u64>> {
        match *message {
            Message::Both(pair, number) => {
                pair.into_iter().try_for_each(|id| objects.insert(id, number).map(drop))?;
                Ok(Some(number))
            }
            Message::Read(id) => Ok(objects.get(id)?.copied()),
        }
    }
}

fn log(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: SEGMENT, ..LogConfig::at(directory) }
}

fn try_to_open(shards: usize, directory: &Path) -> Result<Runtime<Pairs>, StartError> {
    let idle = Idle::Spin(std::time::Duration::ZERO);
    Runtime::open(Config { shards: Shards::Count(shards), idle, ..Config::default() }, log(directory))
}

fn open(shards: usize, directory: &Path) -> Runtime<Pairs> {
    try_to_open(shards, directory).expect("it opens")
}

/// Writes a number to so many pairs, each answered durably.
fn put(runtime: &Runtime<Pairs>, pairs: u64, number: u64) {
    for pair in 0..pairs {
        let put = Message::Both([2 * pair, 2 * pair + 1], number);
        assert_eq!(runtime.handle().ask(put).wait(), Ok(Some(number)));
    }
}

/// What each of so many pairs holds.
fn pairs(runtime: &Runtime<Pairs>, pairs: u64) -> Vec<[Option<u64>; 2]> {
    let read = |id| runtime.handle().ask(Message::Read(id)).wait().expect("it can be read");
    (0..pairs).map(|pair| [read(2 * pair), read(2 * pair + 1)]).collect()
}

/// Copies the files over what is there.
fn copy(from: &Path, to: &Path, which: impl Fn(&str) -> bool) {
    for (name, bytes) in files(from) {
        if which(&name) {
            fs::write(to.join(name), bytes).expect("there is room");
        }
    }
}

/// Which files are brought back.
type Part = Box<dyn Fn(&str) -> bool>;

fn all(_: &str) -> bool {
    true
}

/// A life that ends in a crash: what is in `directory` afterwards is what it left.
fn crash(shards: usize, directory: &Path, live: impl FnOnce(&Runtime<Pairs>)) {
    let running = tempfile::tempdir().expect("there is room");
    copy(directory, running.path(), all);
    let runtime = open(shards, running.path());
    live(&runtime);
    fs::read_dir(directory).expect("it is there").for_each(|file| {
        fs::remove_file(file.expect("it can be listed").path()).expect("it can be removed");
    });
    copy(running.path(), directory, all);
}

/// Opens a directory that must be refused because of newer files, and changes nothing in it.
/// Returns their names.
fn refused(shards: usize, directory: &Path) -> Vec<String> {
    let before = files(directory);
    let error = try_to_open(shards, directory).expect_err("it is refused");
    let StartError::Log(LogError::NewerFiles { manifest, files: newer }) = &error else { panic!("{error}") };
    assert_eq!(*manifest, directory.canonicalize().expect("it is there").join("manifest"));
    assert!(error.to_string().contains("a backup was copied over a newer directory"), "{error}");
    let verified = inspect::verify(directory).expect("there is a manifest");
    assert!(error.to_string().ends_with(&verified.damages[0].to_string()), "{:?}", verified.damages);
    assert!(LocalLog::open(directory).is_err());
    assert!(files(directory) == before, "a refusal changes nothing");
    newer.clone()
}

/// Moves files to another directory, as the refusal says.
fn set_aside(directory: &Path, names: &[String]) -> tempfile::TempDir {
    let aside = tempfile::tempdir().expect("there is room");
    for name in names {
        fs::copy(directory.join(name), aside.path().join(name)).expect("it is there");
        fs::remove_file(directory.join(name)).expect("it is there");
    }
    aside
}

// A backup was copied back over a directory that had gone on. The next run took the numbers of the
// logs that were undone, and after a crash their batches were read as its own: with one shard all
// that was undone was there again, with three 10 of 20 transactions were torn.
#[test]
fn what_a_restore_undid_does_not_come_back() {
    let watchdog = Watchdog::new("what_a_restore_undid_does_not_come_back");
    for shards in [1, 3] {
        watchdog.feed();
        let [directory, backup] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
        let place = directory.path();
        let runtime = open(shards, place);
        put(&runtime, 20, 1);
        runtime.shutdown();
        copy(place, backup.path(), all);
        crash(shards, place, |runtime| put(runtime, 20, 2));
        copy(backup.path(), place, all);

        let newer = refused(shards, place);
        assert!(newer.iter().all(|name| name.starts_with("log-")), "{newer:?}");
        assert!(newer.len() >= shards.min(2), "{newer:?}");
        let aside = set_aside(place, &newer);
        crash(shards, place, |runtime| {
            assert_eq!(pairs(runtime, 20), [[Some(1); 2]; 20]);
            // Into logs that have the numbers of those that are set aside.
            put(runtime, 20, 1);
        });
        crash(shards, place, |runtime| {
            assert_eq!(pairs(runtime, 20), [[Some(1); 2]; 20]);
            put(runtime, 5, 3);
        });
        let runtime = open(shards + 1, place);
        let found = pairs(&runtime, 20);
        assert!(found[..5] == [[Some(3); 2]; 5] && found[5..] == [[Some(1); 2]; 15], "{found:?}");
        runtime.shutdown();

        // Whoever brings the files back that were set aside, over those of the other history, hears
        // of it.
        crash(shards, place, |runtime| put(runtime, 20, 4));
        copy(aside.path(), place, all);
        let error = try_to_open(shards, place).expect_err("it is refused");
        assert!(error.to_string().contains("another copy of the directory"), "{error}");
    }
}

// A sibling: the manifest before was put back, as an error advised. What was written since had
// numbers that it had not counted yet.
#[test]
fn an_older_manifest_is_refused_beside_newer_files() {
    let _watchdog = Watchdog::new("an_older_manifest_is_refused_beside_newer_files");
    let directory = tempfile::tempdir().expect("there is room");
    let place = directory.path();
    let put_back = || fs::copy(place.join("manifest.old"), place.join("manifest")).expect("it is there");
    // The first of all says that there is nothing.
    crash(1, place, |runtime| put(runtime, 5, 1));
    let whole = files(place);
    put_back();
    assert_eq!(refused(1, place), ["log-00000000-00000000"]);
    fs::write(place.join("manifest"), &whole["manifest"]).expect("there is room");
    // And the last of a run that ended.
    let runtime = open(2, place);
    assert_eq!(pairs(&runtime, 5), [[Some(1); 2]; 5]);
    runtime.shutdown();
    crash(2, place, |runtime| put(runtime, 5, 2));
    put_back();
    let newer = refused(2, place);
    assert!(newer.iter().all(|name| name.starts_with("log-")), "{newer:?}");
    set_aside(place, &newer);
    let runtime = open(2, place);
    assert_eq!(pairs(&runtime, 5), [[Some(1); 2]; 5]);
    // Parts of a checkpoint are counted before they are written, so one that was given up is not
    // newer.
    runtime.checkpoint().expect("it can be made");
    runtime.shutdown();
    put_back();
    let stopped = files(place);
    let opened = try_to_open(2, place);
    match opened {
        Ok(runtime) => assert_eq!(pairs(&runtime, 5), [[Some(1); 2]; 5]),
        Err(error) => {
            assert!(matches!(error, StartError::Log(LogError::Damaged { .. })), "{error}");
            assert!(files(place) == stopped);
        }
    }
}

// A sibling: only some of the files were brought back. Either the directory is refused, or what is
// opened is one of its two states.
#[test]
fn a_restore_of_some_files_is_refused_or_whole() {
    let watchdog = Watchdog::new("a_restore_of_some_files_is_refused_or_whole");
    let [backup, newer] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let runtime = open(3, backup.path());
    put(&runtime, 20, 1);
    runtime.checkpoint().expect("it can be made");
    put(&runtime, 20, 2);
    runtime.shutdown();
    copy(backup.path(), newer.path(), all);
    crash(3, newer.path(), |runtime| {
        put(runtime, 20, 3);
        runtime.checkpoint().expect("it can be made");
        put(runtime, 20, 4);
    });
    let names: Vec<String> = files(backup.path()).into_keys().collect();
    let is = |prefix: &'static str| move |name: &str| name.starts_with(prefix);
    let mut parts: Vec<Part> = vec![
        Box::new(is("manifest")),
        Box::new(is("log-")),
        Box::new(is("checkpoint-")),
        Box::new(|name| !name.starts_with("manifest")),
        Box::new(|name| name != "manifest.old"),
        Box::new(|name| !name.starts_with("log-")),
    ];
    parts.extend(names.into_iter().map(|one| -> Part { Box::new(move |name| name == one) }));
    let (mut refusals, mut opened) = (0, 0);
    for (case, part) in parts.iter().enumerate() {
        watchdog.feed();
        let mixed = tempfile::tempdir().expect("there is room");
        copy(newer.path(), mixed.path(), all);
        copy(backup.path(), mixed.path(), part);
        let before = files(mixed.path());
        match try_to_open(3, mixed.path()) {
            Ok(runtime) => {
                let found = pairs(&runtime, 20);
                assert!(found == [[Some(2); 2]; 20] || found == [[Some(4); 2]; 20], "case {case}: {found:?}");
                opened += 1;
            }
            Err(StartError::Log(LogError::NewerFiles { .. } | LogError::Damaged { .. })) => {
                assert!(files(mixed.path()) == before, "case {case}: a refusal changes nothing");
                refusals += 1;
            }
            Err(error) => panic!("case {case}: {error}"),
        }
    }
    assert!(refusals > 0 && opened > 0, "{refusals} refused, {opened} opened");
}

// A spare segment that a newer copy of the directory left has batches of a log whose number is
// given again.
#[test]
fn a_spare_of_a_newer_copy_is_not_used() {
    let _watchdog = Watchdog::new("a_spare_of_a_newer_copy_is_not_used");
    let [directory, newer] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let runtime = open(1, directory.path());
    put(&runtime, 1, 1);
    runtime.shutdown();
    copy(directory.path(), newer.path(), all);
    let next = |directory: &Path| {
        let logs = files(directory).into_iter().filter(|(name, _)| name.starts_with("log-"));
        logs.max().expect("there is a log")
    };
    crash(1, newer.path(), |runtime| put(runtime, 5, 2));
    let (_, bytes) = next(newer.path());
    fs::read_dir(directory.path()).expect("it is there").flatten().for_each(|file| {
        if file.file_name().to_string_lossy().starts_with("spare-") {
            fs::remove_file(file.path()).expect("it is there");
        }
    });
    fs::write(directory.path().join("spare-7"), &bytes).expect("there is room");
    crash(1, directory.path(), |runtime| assert_eq!(pairs(runtime, 2), [[Some(1); 2], [None; 2]]));
    let (name, found) = next(directory.path());
    assert!(found.iter().all(|byte| *byte == 0), "{name} is made of it");
    let runtime = open(1, directory.path());
    assert_eq!(pairs(&runtime, 2), [[Some(1); 2], [None; 2]]);
}

// A program that crashed again and again kept a segment a shard for each start, and read all of
// them twice at the next.
#[test]
fn crashes_do_not_fill_the_disk() {
    let watchdog = Watchdog::new("crashes_do_not_fill_the_disk");
    let directory = tempfile::tempdir().expect("there is room");
    let (place, shards) = (directory.path(), 2);
    for start in 1..=12 {
        watchdog.feed();
        crash(shards, place, |runtime| put(runtime, 1, start));
        let files = files(place);
        let logs: usize =
            files.iter().filter(|(name, _)| name.starts_with("log-")).map(|(_, file)| file.len()).sum();
        let spares = files.keys().filter(|name| name.starts_with("spare-")).count();
        // A block of each old log, and a segment of each that is written.
        assert!(logs <= shards * (SEGMENT + start as usize * 2 * 4096), "start {start}: {logs} bytes");
        assert!(spares <= 2 * shards, "start {start}: {spares} spares");
    }
    let verified = inspect::verify(place).expect("there is a manifest");
    assert!(verified.damages.is_empty(), "{:?}", verified.damages);
    assert_eq!(verified.runs.len(), 12);
    let runtime = open(shards, place);
    assert_eq!(pairs(&runtime, 1), [[Some(12); 2]]);
    drop(runtime);
    // What was cut is whole no more without its last block.
    let name = files(place).into_iter().find(|(name, file)| name.starts_with("log-") && file.len() == 4096);
    let (name, _) = name.expect("there is one");
    fs::File::options()
        .write(true)
        .open(place.join(&name))
        .and_then(|file| file.set_len(100))
        .expect("it is there");
    let error = try_to_open(shards, place).expect_err("it is refused");
    assert!(error.to_string().contains(&name), "{error}");
}

// Spares that more shards had left stayed for ever.
#[test]
fn spares_are_for_the_shards_there_are() {
    let _watchdog = Watchdog::new("spares_are_for_the_shards_there_are");
    let directory = tempfile::tempdir().expect("there is room");
    let place = directory.path();
    open(1, place).shutdown();
    for number in 16..32 {
        fs::write(place.join(format!("spare-{number:x}")), [0; SEGMENT]).expect("there is room");
    }
    drop(open(1, place));
    let spares = files(place).into_keys().filter(|name| name.starts_with("spare-")).count();
    assert!(spares <= 2, "{spares} spares");
}

// The sibling: a manifest that gets longer with each start.
#[test]
fn after_many_starts_a_checkpoint_is_made() {
    let watchdog = Watchdog::new("after_many_starts_a_checkpoint_is_made");
    let directory = tempfile::tempdir().expect("there is room");
    let place = directory.path();
    let runs = || inspect::verify(place).map_or(0, |verified| verified.runs.len());
    for start in 1..=16 {
        watchdog.feed();
        let runtime = open(1, place);
        put(&runtime, 1, start);
        drop(runtime);
        assert_eq!(runs(), start as usize);
    }
    let runtime = open(1, place);
    until(|| runs() == 1);
    assert_eq!(pairs(&runtime, 1), [[Some(16); 2]]);
}

// A start that found more log than `checkpoint_bytes` took messages first, and died of them,
// perhaps, before the checkpoint was made.
#[test]
fn a_start_that_finds_much_log_makes_a_checkpoint_first() {
    let _watchdog = Watchdog::new("a_start_that_finds_much_log_makes_a_checkpoint_first");
    let directory = tempfile::tempdir().expect("there is room");
    let place = directory.path();
    let runtime = open(2, place);
    put(&runtime, 40, 1);
    drop(runtime);
    let has_checkpoint = || inspect::verify(place).expect("there is a manifest").checkpoint.is_some();
    assert!(!has_checkpoint());
    let config = Config { shards: Shards::Count(2), ..Config::default() };
    let log = LogConfig { checkpoint_bytes: 64 << 10, ..log(place) };
    let runtime = Runtime::<Pairs>::open(config, log).expect("it opens");
    assert!(has_checkpoint(), "before the first message");
    assert_eq!(pairs(&runtime, 40), [[Some(1); 2]; 40]);
}

// A backup made of hard links (`cp -al`) showed other bytes when its segments were used again; cut,
// they would be too short for its manifest.
#[test]
fn what_has_another_name_stays_as_it_is() {
    let watchdog = Watchdog::new("what_has_another_name_stays_as_it_is");
    let [directory, links] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let (place, links) = (directory.path(), links.path());
    for number in 1..=3 {
        let runtime = open(2, place);
        put(&runtime, 20, number);
        drop(runtime);
    }
    for name in files(place).into_keys() {
        fs::hard_link(place.join(&name), links.join(&name)).expect("it is one file system");
    }
    let before = files(links);
    for number in 4..=8 {
        watchdog.feed();
        let runtime = open(2, place);
        // The old logs are let go of, and more segments are needed than there were.
        put(&runtime, 40, number);
        runtime.checkpoint().expect("it can be made");
        put(&runtime, 40, number);
        drop(runtime);
    }
    assert!(files(links) == before, "a link shows what it showed");
    let runtime = open(3, links);
    assert_eq!(pairs(&runtime, 20), [[Some(3); 2]; 20]);
}
