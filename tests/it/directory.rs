//! Which directory is written, which files in it are ours, and when a start begins from nothing.
//!
//! A crash is a copy of a directory that was taken while its runtime had nothing to do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Watchdog, until};
use freehold::{
    AccessError, Actor, Addressees, AskError, CheckpointError, CommitLog, CommitLogError, Config, Create,
    DeathCause, Epoch, Idle, LocalLog, LogConfig, LogError, Objects, Runtime, Shards, StartError, inspect,
};

const SEGMENT: usize = 64 << 10;

/// Objects that hold a number and some bytes to make it long.
struct Numbers;

impl Actor for Numbers {
    type Id = u64;
    type State = (u64, Vec<u8>);
    type Message = (u64, Option<u64>);
    type Reply = Option<u64>;
    type Error = AccessError<u64>;

    fn addressees((id, _): &Self::Message, to: &mut Addressees<u64>) {
        to.write(*id);
    }

    fn receive(
        (id, put): &Self::Message,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<u64>, AccessError<u64>> {
        match put {
            Some(number) => objects.insert(*id, (*number, vec![7; 1000])).map(|_| Some(*number)),
            None => Ok(objects.get(*id)?.map(|(number, _)| *number)),
        }
    }
}

fn log(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: SEGMENT, ..LogConfig::at(directory) }
}

fn try_to_open(log: LogConfig) -> Result<Runtime<Numbers>, StartError> {
    let config = Config { shards: Shards::Count(2), idle: Idle::Spin(Duration::ZERO), ..Config::default() };
    Runtime::open(config, log)
}

fn open(directory: &Path) -> Runtime<Numbers> {
    try_to_open(log(directory)).expect("it opens")
}

/// Why it does not open.
fn refusal(log: LogConfig) -> LogError {
    match try_to_open(log) {
        Err(StartError::Log(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(runtime) => panic!("it opened with {} objects", runtime.recovery().expect("it has a log").objects),
    }
}

/// Puts objects, each answered durably.
fn put(runtime: &Runtime<Numbers>, ids: std::ops::Range<u64>) {
    ids.for_each(|id| assert_eq!(runtime.handle().ask((id, Some(id))).wait(), Ok(Some(id))));
}

/// How many of these objects are there.
fn count(runtime: &Runtime<Numbers>, ids: std::ops::Range<u64>) -> usize {
    let read = |id: &u64| runtime.handle().ask((*id, None)).wait().expect("it can be read") == Some(*id);
    ids.filter(read).count()
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room")
}

/// What is in a directory, but for the empty file that is locked.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("it can be listed"));
    let files = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().expect("a name is text");
        // A runtime that runs may give another name to the segment it needs next.
        Some((name, fs::read(entry.path()).ok()?))
    });
    files.filter(|(name, _)| name != "lock").collect()
}

fn copy(from: &Path, to: &Path) {
    files(from).into_iter().for_each(|(name, bytes)| fs::write(to.join(name), bytes).expect("there is room"));
}

/// What a crash of the runtime that has it open would leave.
fn crashed(directory: &Path) -> tempfile::TempDir {
    let copied = temporary();
    copy(directory, copied.path());
    copied
}

// `mv data data.old` while A had `data` open; B opened a new `data`, as it had a lock of its own.
// A's checkpoint wrote A's manifest over B's: of 200 objects that B had acknowledged none was there
// after a crash.
#[test]
fn a_directory_that_was_moved_is_not_mixed_up_with_the_one_in_its_place() {
    let watchdog = Watchdog::new("a_directory_that_was_moved_is_not_mixed_up_with_the_one_in_its_place");
    let place = temporary();
    let [data, old] = ["data", "data.old"].map(|name| place.path().join(name));
    let a = open(&data);
    put(&a, 0..100);
    fs::rename(&data, &old).expect("a test can move a directory");
    let b = open(&data);
    put(&b, 1000..1200);
    watchdog.feed();
    // More than a segment each, so that A makes, renames and lets go of files as well.
    a.checkpoint().expect("it can be made");
    put(&a, 100..300);
    a.checkpoint().expect("it can be made");
    put(&a, 300..400);
    watchdog.feed();
    let [of_b, of_a] = [&data, &old].map(|directory| crashed(directory));
    let runtime = open(of_b.path());
    assert_eq!((count(&runtime, 1000..1200), count(&runtime, 0..400)), (200, 0));
    runtime.shutdown();
    let runtime = open(of_a.path());
    assert_eq!((count(&runtime, 1000..1200), count(&runtime, 0..400)), (0, 400));
    runtime.shutdown();

    for moved in [&data, &old] {
        assert!(matches!(refusal(log(moved)), LogError::InUse { .. }), "both are in use");
    }
    assert!(a.shutdown().drained && b.shutdown().drained);
    for (directory, ids) in [(&data, 1000..1200), (&old, 0..400)] {
        let verified = inspect::verify(directory).expect("it can be looked at");
        assert!(verified.damages.is_empty() && verified.runs.iter().all(|run| run.has_ended));
        assert_eq!(count(&open(directory), ids.clone()), ids.count());
    }
}

// The file `lock` was removed while a runtime had the directory open. Another opened it too, and
// both wrote one manifest.
#[test]
fn a_directory_whose_lock_was_removed_is_still_in_use() {
    let _watchdog = Watchdog::new("a_directory_whose_lock_was_removed_is_still_in_use");
    let place = temporary();
    let runtime = open(place.path());
    put(&runtime, 0..10);
    fs::remove_file(place.path().join("lock")).expect("it is there");
    assert!(matches!(refusal(log(place.path())), LogError::InUse { .. }));
    let refused = LocalLog::open(place.path());
    assert!(matches!(refused, Err(CommitLogError::Log(LogError::InUse { .. }))), "{refused:?}");
    runtime.checkpoint().expect("it can be made");
    runtime.shutdown();
    assert_eq!(count(&open(place.path()), 0..10), 10);
}

type Meddle<'a> = Box<dyn Fn() + 'a>;

/// What somebody may do to the manifest of a runtime that runs, and what is said to be found.
fn meddlings(place: &Path) -> Vec<(&'static str, Meddle<'_>)> {
    let manifest = place.join("manifest");
    vec![
        (
            "one of start",
            Box::new(|| {
                // As another runtime leaves it that has begun a run here.
                let other = crashed(place);
                open(other.path()).shutdown();
                fs::copy(other.path().join("manifest"), place.join("manifest")).expect("it is there");
            }),
        ),
        (
            "one of",
            Box::new(|| {
                fs::copy(place.join("manifest.old"), place.join("manifest")).expect("it is there");
            }),
        ),
        ("cannot be read", Box::new(move || fs::write(&manifest, "mine").expect("there is room"))),
        ("nothing", Box::new(|| fs::remove_file(place.join("manifest")).expect("it is there"))),
    ]
}

// The siblings: what no lock keeps out. A backup is copied over the directory of a runtime that
// runs, its manifest is removed, or another program replaces it. The runtime wrote its own over it,
// and what the other vouched for was gone.
#[test]
fn a_manifest_that_somebody_else_has_replaced_is_left_and_the_runtime_stops() {
    let watchdog = Watchdog::new("a_manifest_that_somebody_else_has_replaced_is_left_and_the_runtime_stops");
    let check = |place: &Path, found: &str, left: &Option<Vec<u8>>, said: &str| {
        assert!(said.contains("is not the one that this runtime has written"), "{said}");
        assert!(said.contains(found) && said.contains(&*place.to_string_lossy()), "{found}: {said}");
        assert_eq!(&fs::read(place.join("manifest")).ok(), left, "what is there stays there");
    };
    for number in 0..4 {
        for by in ["a checkpoint", "a segment", "the end"] {
            watchdog.feed();
            let place = temporary();
            let place = &place.path().canonicalize().expect("it is there");
            let runtime = open(place);
            put(&runtime, 0..10);
            let meddling = &meddlings(place)[number];
            meddling.1();
            let left = fs::read(place.join("manifest")).ok();
            match by {
                "a checkpoint" => {
                    let refused = runtime.checkpoint().expect_err("its manifest is another's");
                    assert!(
                        matches!(&*refused, CheckpointError::Log(LogError::Replaced { .. })),
                        "{refused}"
                    );
                    until(|| matches!(runtime.handle().ask((1, None)).wait(), Err(AskError::Stopped)));
                }
                // What it writes belongs to nothing: it finds out by the next segment at the
                // latest.
                "a segment" => until(|| {
                    let asked = (0..100).map(|id| (id, Some(id))).collect::<Vec<_>>();
                    runtime.handle().ask_all(asked).wait().iter().any(|answer| answer.is_err())
                }),
                _ => {}
            }
            let report = runtime.shutdown();
            // Both shards may have found out.
            assert!(!report.deaths.is_empty(), "{by}: {report}");
            for death in &report.deaths {
                let DeathCause::Log(said) = &death.cause else { panic!("{by}: {report}") };
                check(place, meddling.0, &left, said);
            }
            assert!(!report.drained);
        }
    }
}

// A sibling: a copy that follows another database.
#[test]
fn a_commit_log_whose_manifest_somebody_else_has_replaced_is_not_appended_to() {
    let _watchdog =
        Watchdog::new("a_commit_log_whose_manifest_somebody_else_has_replaced_is_not_appended_to");
    let from = temporary();
    let runtime = open(from.path());
    put(&runtime, 0..10);
    runtime.shutdown();
    let from = LocalLog::open(from.path()).expect("it opens");
    let batches = from.read(Epoch(1)).expect("it can be read");
    let batches: Vec<_> = batches.map(|batch| batch.expect("it is whole")).collect();
    for is_gone in [false, true] {
        let to = temporary();
        let mut log = LocalLog::open(to.path()).expect("it is made");
        log.append(Epoch(0), &batches[0]).expect("it is the first");
        match is_gone {
            false => {
                fs::copy(to.path().join("manifest.old"), to.path().join("manifest")).expect("it is there");
            }
            true => fs::remove_file(to.path().join("manifest")).expect("it is there"),
        }
        let left = files(to.path());
        let refused = log.append(log.tail(), &batches[1]);
        assert!(matches!(refused, Err(CommitLogError::Log(LogError::Replaced { .. }))), "{refused:?}");
        let again = log.append(log.tail(), &batches[1]);
        assert!(matches!(again, Err(CommitLogError::Failed)), "{again:?}");
        drop(log);
        assert!(files(to.path()) == left, "nothing was changed, not by the end either");
    }
}

/// The files of one directory, as links in another.
fn linked(from: &Path, which: impl Fn(&str) -> bool) -> tempfile::TempDir {
    let links = temporary();
    for name in files(from).keys().filter(|name| which(name)) {
        symlink(from.join(name), links.path().join(name)).expect("a test can make a link");
    }
    links
}

// A directory of symbolic links to the files of a database opened with 0 of 100 objects: a link was
// no file.
#[test]
fn a_directory_of_links_is_refused_by_name() {
    let _watchdog = Watchdog::new("a_directory_of_links_is_refused_by_name");
    let place = temporary();
    let runtime = open(place.path());
    put(&runtime, 0..100);
    runtime.shutdown();
    let before = files(place.path());
    let kinds: [&dyn Fn(&str) -> bool; 3] =
        [&|_| true, &|name| name.starts_with("log-"), &|name| name == "manifest.old"];
    for which in kinds {
        let links = linked(place.path(), which);
        let held: Vec<PathBuf> =
            files(links.path()).into_keys().map(|name| links.path().join(name)).collect();
        for create in [Create::IfMissing, Create::Never, Create::New] {
            let refused = refusal(LogConfig { create, ..log(links.path()) });
            let LogError::NotAFile { file, what } = &refused else { panic!("{refused}") };
            assert!(*what == "a symbolic link" && held.contains(file), "{refused}");
        }
        let looked = inspect::verify(links.path()).map(drop);
        assert!(matches!(looked, Err(LogError::NotAFile { .. })), "{looked:?}");
    }
    assert!(files(place.path()) == before, "what the links lead to is as it was");
    // The directory itself may be reached by one.
    let links = temporary();
    let link = links.path().join("data");
    symlink(place.path(), &link).expect("a test can make a link");
    assert_eq!(count(&open(&link), 0..100), 100);
}

// A volume that was not mounted is an empty directory: the start made a new database in it, said
// Ok, and had 0 objects.
#[test]
fn a_start_that_is_not_to_make_a_database_makes_nothing() {
    let _watchdog = Watchdog::new("a_start_that_is_not_to_make_a_database_makes_nothing");
    let place = temporary();
    let volume = place.path().join("volume");
    let never = |directory: &Path| LogConfig { create: Create::Never, ..log(directory) };
    let check = |refused: LogError| {
        assert!(matches!(&refused, LogError::NoDatabase { .. }), "{refused}");
        let said = refused.to_string();
        assert!(said.contains(&*volume.to_string_lossy()) && said.contains("mounted"), "{said}");
    };
    check(refusal(never(&volume)));
    assert!(!volume.exists());
    fs::create_dir(&volume).expect("a test can make a directory");
    check(refusal(never(&volume)));
    let refused = LocalLog::open_as(&volume, Create::Never).expect_err("there is none");
    assert!(matches!(refused, CommitLogError::Log(LogError::NoDatabase { .. })), "{refused}");
    fs::write(volume.join("manifest.new"), "half of").expect("there is room");
    check(refusal(never(&volume)));
    assert_eq!(fs::read_dir(&volume).expect("it is there").count(), 1, "nothing was made");

    let new = |directory: &Path| LogConfig { create: Create::New, ..log(directory) };
    let runtime = try_to_open(new(&volume)).expect("there was none");
    put(&runtime, 0..10);
    runtime.shutdown();
    let before = files(&volume);
    let refused = refusal(new(&volume));
    assert!(matches!(&refused, LogError::NotNew { .. }), "{refused}");
    let refused = LocalLog::open_as(&volume, Create::New).expect_err("there is one");
    assert!(matches!(refused, CommitLogError::Log(LogError::NotNew { .. })), "{refused}");
    assert!(files(&volume) == before);
    let runtime = try_to_open(never(&volume)).expect("there is one");
    assert_eq!(count(&runtime, 0..10), 10);
    runtime.shutdown();
    // What is left of one is neither.
    fs::remove_file(volume.join("manifest")).expect("it is there");
    for create in [Create::IfMissing, Create::Never, Create::New] {
        let refused = refusal(LogConfig { create, ..log(&volume) });
        assert!(matches!(&refused, LogError::NoManifest { .. }), "{create:?}: {refused}");
    }
    // Spares are the last to be there: a segment that nobody needs is of a database all the same.
    files(&volume).into_keys().for_each(|name| fs::remove_file(volume.join(name)).expect("it is there"));
    fs::write(volume.join("spare-1"), vec![0; SEGMENT]).expect("there is room");
    assert!(matches!(refusal(log(&volume)), LogError::NoManifest { .. }));
}

// `manifest.old` was copied over a manifest that was damaged, as the error advised, and the
// directory opened with 0 of 100 objects. Whatever was done since it was written, a start with it
// has everything, or says what it does not fit.
#[test]
fn with_the_manifest_before_a_start_has_everything_or_refuses() {
    let watchdog = Watchdog::new("with_the_manifest_before_a_start_has_everything_or_refuses");
    /// Leaves a directory, and says how many objects are in it.
    type Lives<'a> = &'a dyn Fn(&Path) -> u64;
    let steps: [(&str, Lives<'_>); 7] = [
        ("a first start", &|at| live(at, 0, 100, |_| {})),
        ("nothing but a start", &|at| live(at, 0, 0, |_| {})),
        ("a stop", &|at| {
            let runtime = open(at);
            put(&runtime, 0..100);
            runtime.shutdown();
            100
        }),
        ("a second start", &|at| {
            live(at, 0, 100, |_| {});
            live(at, 100, 200, |_| {})
        }),
        ("a checkpoint", &|at| live(at, 0, 100, checkpoint)),
        ("more than one", &|at| {
            live(at, 0, 300, checkpoint);
            live(at, 300, 400, checkpoint)
        }),
        ("a start behind a checkpoint", &|at| {
            live(at, 0, 100, checkpoint);
            live(at, 100, 101, |_| {})
        }),
    ];
    let mut outcomes = BTreeMap::new();
    for (what, lives) in steps {
        watchdog.feed();
        let place = temporary();
        let objects = lives(place.path());
        let manifest = place.path().join("manifest");
        let mut bytes = fs::read(&manifest).expect("it is there");
        bytes[40] ^= 1;
        fs::write(&manifest, bytes).expect("there is room");
        let said = refusal(log(place.path())).to_string();
        assert!(
            said.contains("copy manifest.old over it") && said.contains("where it does not fit"),
            "{said}"
        );
        let before = fs::copy(place.path().join("manifest.old"), &manifest);
        before.expect("there is one");
        let outcome = match try_to_open(log(place.path())) {
            Ok(runtime) => {
                assert_eq!(count(&runtime, 0..objects) as u64, objects, "{what}");
                "everything"
            }
            Err(StartError::Log(LogError::NewerFiles { .. })) => "newer files",
            Err(StartError::Log(LogError::Damaged { .. })) => "damaged",
            Err(error) => panic!("{what}: {error}"),
        };
        outcomes.insert(what, outcome);
    }
    assert_eq!(outcomes["a first start"], "newer files");
    assert_eq!(outcomes["a second start"], "newer files");
    assert_eq!(outcomes["a stop"], "everything");
}

fn checkpoint(runtime: &Runtime<Numbers>) {
    runtime.checkpoint().expect("it can be made");
}

/// A life that puts objects up to `to` and ends in a crash: what is in `directory` then is what it
/// left. Says how many objects there are.
fn live(directory: &Path, from: u64, to: u64, and: impl Fn(&Runtime<Numbers>)) -> u64 {
    let running = temporary();
    copy(directory, running.path());
    let runtime = open(running.path());
    put(&runtime, from..to);
    and(&runtime);
    files(directory).into_keys().for_each(|name| fs::remove_file(directory.join(name)).expect("it is there"));
    copy(running.path(), directory);
    to
}

// The siblings: a manifest of another database, and an empty one, beside logs. Log numbers begin at
// 0 in each database, so the logs were taken for those of the manifest, or for nobody's, and the
// directory opened empty.
#[test]
fn a_manifest_beside_logs_of_another_database_is_refused() {
    let _watchdog = Watchdog::new("a_manifest_beside_logs_of_another_database_is_refused");
    let [one, other, empty, place] = [(); 4].map(|()| temporary());
    live(one.path(), 0, 100, |_| {});
    live(other.path(), 0, 10, |_| {});
    // One with nothing in it, as a first start makes it before anything else.
    drop(LocalLog::open(empty.path()).expect("it is made"));
    let place = place.path();
    for (manifest, kept) in [(&other, "manifest"), (&empty, "manifest"), (&empty, "log-")] {
        files(place).into_keys().for_each(|name| fs::remove_file(place.join(name)).expect("it is there"));
        copy(one.path(), place);
        fs::copy(manifest.path().join("manifest"), place.join("manifest")).expect("it is there");
        if kept == "log-" {
            // Only the log of one shard is left.
            fs::remove_file(place.join("log-00000000-00000000")).expect("it is there");
        }
        let before = files(place);
        let refused = refusal(log(place));
        let LogError::OtherDatabase { files: strange, .. } = &refused else { panic!("{refused}") };
        let firsts = ["log-00000000-00000000", "log-00000001-00000000"];
        let found = firsts.map(|first| strange.iter().any(|name| name == first));
        assert_eq!(found, [kept == "manifest", true], "{strange:?}");
        let local = LocalLog::open(place).map(drop);
        assert!(matches!(local, Err(CommitLogError::Log(LogError::OtherDatabase { .. }))), "{local:?}");
        let verified = inspect::verify(place).expect("it has a manifest");
        assert!(
            matches!(&verified.damages[..], [LogError::OtherDatabase { .. }, ..]),
            "{:?}",
            verified.damages
        );
        assert!(files(place) == before, "nothing was changed");
    }
}

// `checkpoint-notes.txt`, `checkpoint-before-upgrade.tar.gz`, `checkpoint-00000001.bak` and
// `log-dead-beef` were removed by the next start, and a `log-...` of the size of a segment became
// one.
#[test]
fn somebody_elses_files_are_left_and_mentioned() {
    let _watchdog = Watchdog::new("somebody_elses_files_are_left_and_mentioned");
    let place = temporary();
    let names = [
        "checkpoint-00000001.bak",
        "checkpoint-before-upgrade.tar.gz",
        "checkpoint-notes.txt",
        "log-00000000",
        "log-dead-beef",
        "manifest.bak",
        "notes",
        "spare-tyre",
    ];
    open(place.path()).shutdown();
    let theirs = names.map(|name| {
        (name.to_string(), name.repeat(SEGMENT / name.len() + 1).into_bytes()[..SEGMENT].to_vec())
    });
    theirs.iter().for_each(|(name, bytes)| fs::write(place.path().join(name), bytes).expect("there is room"));
    let runtime = open(place.path());
    put(&runtime, 0..200);
    runtime.checkpoint().expect("it can be made");
    put(&runtime, 0..200);
    runtime.checkpoint().expect("it can be made");
    runtime.shutdown();
    assert_eq!(count(&open(place.path()), 0..200), 200);
    let left = files(place.path());
    for (name, bytes) in &theirs {
        assert!(left.get(name) == Some(bytes), "{name}");
    }
    let verified = inspect::verify(place.path()).expect("it can be looked at");
    assert_eq!(verified.others, names.map(|name| (name.to_string(), SEGMENT as u64)));
    assert!(verified.damages.is_empty() && verified.strays.iter().all(|(name, _)| !names.contains(&&**name)));
    // Alone they are no database.
    let alone = temporary();
    theirs.iter().for_each(|(name, bytes)| fs::write(alone.path().join(name), bytes).expect("there is room"));
    try_to_open(LogConfig { create: Create::New, ..log(alone.path()) }).expect("there is none").shutdown();
    assert_eq!(files(alone.path()).iter().filter(|(name, _)| names.contains(&&***name)).count(), names.len());
}

// Files were made 0644 and the directory 0755: whoever had an account on the machine could read
// every object.
#[test]
fn what_a_runtime_makes_is_its_owners_alone() {
    let _watchdog = Watchdog::new("what_a_runtime_makes_is_its_owners_alone");
    let place = temporary();
    let directory = place.path().join("parent/data");
    let runtime = open(&directory);
    put(&runtime, 0..200);
    runtime.checkpoint().expect("it can be made");
    put(&runtime, 0..200);
    runtime.shutdown();
    let mode = |path: PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!([place.path().join("parent"), directory.clone()].map(mode), [0o700; 2]);
    let names: Vec<_> = files(&directory).into_keys().chain(["lock".to_string()]).collect();
    assert!(names.len() > 6, "{names:?}");
    for name in names {
        assert_eq!(mode(directory.join(&name)), 0o600, "{name}");
    }
}
