//! Backups: taken while everybody pays and checkpoints are made, they hold all that was
//! acknowledged before, and no payment in half.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::payments::{Books, Hearing, Payments, config, pay};
use crate::support::Watchdog;
use freehold::backup::{BackupError, Files, backup, restore};
use freehold::{AskError, LogConfig, LogError, Runtime, inspect};

const SEGMENT: usize = 64 << 10;

/// Small segments, and checkpoints only on demand.
fn log(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: SEGMENT, checkpoint_bytes: 1 << 40, ..LogConfig::at(directory) }
}

fn open(shards: usize, directory: &Path) -> Runtime<Payments> {
    Runtime::open(config(shards), log(directory)).expect("it opens")
}

/// What is in a directory, when all that was owed has run.
fn settled(shards: usize, directory: &Path) -> Books {
    let report = open(shards, directory).shutdown();
    assert!(report.drained && report.deaths.is_empty(), "{report}");
    let runtime = open(1, directory);
    Books::read(&runtime.handle()).expect("nobody stops it")
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).expect("it is there").flatten().map(|file| {
        (file.file_name().into_string().expect("text"), fs::read(file.path()).expect("it can be read"))
    });
    files.collect()
}

/// Takes backups of a runtime under load, one after another, and judges each.
fn back_up_under_load(shards: usize, way: Files, backups: usize) {
    let watchdog = Watchdog::new("back_up_under_load");
    let [place, to] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let runtime = Arc::new(open(shards, place.path()));
    let handle = runtime.handle();
    let hearing = Hearing::since(&Books::default());
    let from = Books::default().next();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut linked = 0;
    std::thread::scope(|scope| {
        let payer = scope.spawn(|| {
            pay(&handle, from, u32::MAX, |client, window, told| hearing.hear(client, window, told));
        });
        let (its, is_to_end) = (runtime.clone(), is_over.clone());
        let checkpointer = std::thread::spawn(move || {
            while !is_to_end.load(Ordering::Relaxed) {
                its.checkpoint().expect("it can be made");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // A runtime that runs on would hide what went wrong.
        let judged = std::panic::catch_unwind(AssertUnwindSafe(|| {
            for number in 0..backups {
                watchdog.feed();
                let copy = to.path().join(number.to_string());
                let heard = hearing.so_far();
                let made = backup(place.path(), &copy, way).expect("it can be taken");
                linked += made.linked;
                watchdog.feed();
                let verified = inspect::verify(&copy).expect("it has a manifest");
                assert!(verified.damages.is_empty(), "{:?}", verified.damages);
                assert!(verified.strays.is_empty(), "{:?}", verified.strays);
                assert!(verified.runs.iter().all(|run| run.has_ended && run.cut.is_some()), "{verified:?}");
                // Links show what they showed, though the runtime goes on and a runtime has opened
                // the backup.
                let shown = files(&copy);
                let restored = to.path().join(format!("{number}-restored"));
                watchdog.feed();
                restore(&copy, &restored).expect("it is whole");
                let books = settled(1 + number % 4, &restored);
                if let Err(wrong) = books.judge(&Books::default(), &heard) {
                    panic!("backup {number} of {shards} shards: {wrong}");
                }
                watchdog.feed();
                assert!(files(&copy) == shown);
                let books = settled(1 + (number + 1) % 4, &copy);
                books
                    .judge(&Books::default(), &heard)
                    .unwrap_or_else(|wrong| panic!("backup {number}: {wrong}"));
                fs::remove_dir_all(&copy).expect("it is there");
                fs::remove_dir_all(&restored).expect("it is there");
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        checkpointer.join().expect("it ends");
        let report = Arc::into_inner(runtime).expect("nobody else has it").shutdown();
        assert!(report.deaths.is_empty(), "{report}");
        payer.join().expect("it ends");
        judged.unwrap_or_else(|wrong| std::panic::resume_unwind(wrong));
    });
    assert_eq!(linked > 0, way == Files::Linked, "{linked} links");
    assert!(matches!(handle.ask(crate::payments::Message::Look(1)).wait(), Err(AskError::Stopped)));
    let heard = hearing.so_far();
    let before = settled(1, place.path());
    before.judge(&Books::default(), &heard).unwrap_or_else(|wrong| panic!("what was backed up: {wrong}"));
}

// There was no way to back up a runtime but to stop it: logs that are copied one after another are
// of no single moment. What one of them says is durable another lacked, or a transaction was there
// on one shard only.
#[test]
fn a_backup_under_load_has_what_was_acknowledged_and_nothing_torn() {
    let backups = std::env::var("FREEHOLD_BACKUPS").map_or(4, |number| number.parse().expect("a number"));
    for shards in [1, 3] {
        back_up_under_load(shards, Files::Linked, backups);
    }
    back_up_under_load(2, Files::Copied, backups.div_ceil(2));
}

// A backup is not made over anything, and one that was not finished is nobody's database.
#[test]
fn a_copy_is_made_into_an_empty_directory_or_not_at_all() {
    let _watchdog = Watchdog::new("a_copy_is_made_into_an_empty_directory_or_not_at_all");
    let place = tempfile::tempdir().expect("there is room");
    let at = |name: &str| place.path().join(name);
    open(2, &at("one")).shutdown();
    open(2, &at("two")).shutdown();
    let before = files(&at("two"));
    for copy in [backup(&at("one"), &at("two"), Files::Linked), restore(&at("one"), &at("two"))] {
        let Err(BackupError::NotEmpty { directory, .. }) = copy else { panic!("{copy:?}") };
        assert_eq!(directory, at("two").canonicalize().expect("it is there"));
    }
    assert!(matches!(backup(&at("one"), &at("one"), Files::Linked), Err(BackupError::NotEmpty { .. })));
    assert!(files(&at("two")) == before);

    // What is no database's stays.
    fs::create_dir(at("three")).expect("there is room");
    fs::write(at("three").join("notes.txt"), "mine").expect("there is room");
    // A copy that ended half-way.
    fs::write(at("three").join("unfinished-copy"), "").expect("there is room");
    fs::write(at("three").join("log-00000000-00000000"), "half of").expect("there is room");
    let opened = Runtime::<Payments>::open(config(1), log(&at("three")));
    assert!(opened.expect_err("it is refused").to_string().contains("has no manifest"));
    restore(&at("one"), &at("three")).expect("it begins again");
    assert_eq!(fs::read(at("three").join("notes.txt")).expect("it is there"), b"mine");
    assert!(!at("three").join("unfinished-copy").exists());
    open(1, &at("three")).shutdown();

    // Nothing can be had from nothing, and nothing is left of it.
    let none = backup(&at("nowhere"), &at("four"), Files::Linked);
    assert!(matches!(none, Err(BackupError::Log(LogError::Io { .. }))), "{none:?}");
    fs::create_dir(at("empty")).expect("there is room");
    let none = backup(&at("empty"), &at("four"), Files::Linked);
    assert!(matches!(none, Err(BackupError::Log(LogError::NoManifest { .. }))), "{none:?}");
    assert!(files(&at("four")).into_keys().all(|name| name == "lock"));
}

// Damage is found when the backup is taken, and when it is brought back; not when it is needed.
#[test]
fn a_damaged_directory_has_no_backup() {
    let _watchdog = Watchdog::new("a_damaged_directory_has_no_backup");
    let place = tempfile::tempdir().expect("there is room");
    let at = |name: &str| place.path().join(name);
    let runtime = open(2, &at("one"));
    pay(&runtime.handle(), Books::default().next(), 20, |_, _, _| {});
    runtime.checkpoint().expect("it can be made");
    pay(&runtime.handle(), [21; 7], 20, |_, _, _| {});
    drop(runtime);
    let made = backup(&at("one"), &at("copy"), Files::Linked).expect("it is whole");
    let names: Vec<String> = files(&at("copy")).into_keys().filter(|name| name.contains("-0")).collect();
    assert_eq!((made.files, made.linked), (names.len(), names.len()));
    let is_link = |name: &String| fs::metadata(at("copy").join(name)).expect("it is there").nlink() == 2;
    assert!(names.iter().all(is_link), "a directory that nobody has open is linked");
    assert_eq!(
        made.epoch,
        inspect::verify(&at("one")).expect("it is whole").runs.last().expect("one").cut.expect("known")
    );
    for name in &names {
        let bytes = fs::read(at("one").join(name)).expect("it is there");
        let mut hurt = bytes.clone();
        hurt[60] ^= 1;
        // Both directories show it.
        fs::write(at("one").join(name), &hurt).expect("there is room");
        let error = backup(&at("one"), &at("two"), Files::Copied).expect_err("it is damaged");
        // Or the segment before, where the log cannot be read any further.
        let log = name.rsplit_once('-').expect("a number ends it").0;
        assert!(error.to_string().contains(log), "{name}: {error}");
        assert!(files(&at("two")).into_keys().all(|name| name == "lock"), "{name}");
        assert!(restore(&at("copy"), &at("three")).is_err(), "{name}");
        assert!(!at("three").exists());
        fs::write(at("one").join(name), &bytes).expect("there is room");
    }
    restore(&at("copy"), &at("three")).expect("it is whole");
}
