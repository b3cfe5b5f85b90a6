//! A disk that is full, fails, or writes a part; a directory that cannot be had. The runtime stops
//! with the reason, everyone is told the truth, nothing is tried again as if it had worked, and
//! when the disk is well again everything that was acknowledged is there.
//!
//! By hand, for longer: `FREEHOLD_WRITE_FAULTS=1 cargo test --test disk_faults any_write_may_fail`.

mod support;

#[path = "support/forgetful.rs"]
mod forgetful;
#[path = "support/logged.rs"]
mod logged;
#[path = "support/mounts.rs"]
mod mounts;
#[path = "support/payments.rs"]
mod payments;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forgetful::Served;
use freehold::{
    AccessError, Actor, Addressees, AskError, CheckpointError, DeathCause, DiskOptions, LogConfig, LogError,
    Objects, Report, Runtime, ShardIndex, StartError,
};
use logged::Logged;
use mounts::{Mount, again, in_own_mounts, make_image, skip};
use payments::{Books, Heard, Hearing, Message, Payments, config, pay, pay_on_shard};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use support::held::hold_up;
use support::patience::Patience;
use support::{Watchdog, hush, until};

/// How long a runtime whose disk has failed may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(8);

/// Shuts down a runtime whose disk has failed, which does not wait for that disk.
fn stop(runtime: Runtime<Payments>) -> Report {
    let mut patience = Patience::of(STOPS_WITHIN);
    let report = runtime.shutdown();
    assert!(!patience.is_over(), "{report}");
    report
}

/// Small segments, and checkpoints only on demand.
fn log(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, checkpoint_bytes: 1 << 40, ..LogConfig::at(directory) }
}

fn open(shards: usize, log: LogConfig) -> Runtime<Payments> {
    Runtime::open(config(shards), log).expect("it opens")
}

/// What is in a directory, when all that was owed has run.
fn settled(directory: &Path) -> Books {
    assert_closed(directory);
    let report = open(1, log(directory)).shutdown();
    assert!(report.drained && report.deaths.is_empty(), "{report}");
    let runtime = open(3, log(directory));
    let books = Books::read(&runtime.handle()).expect("nobody stops it");
    drop(runtime);
    assert_closed(directory);
    books
}

fn judge(directory: &Path, before: &Books, heard: &Heard, what: &str) -> Books {
    let books = settled(directory);
    if let Err(wrong) = books.judge(before, heard) {
        panic!("{what}: {wrong}");
    }
    books
}

/// Has everybody pay, outside and on the shards, until something fails or for so many windows, and
/// somebody make checkpoints meanwhile. Then stops the runtime.
fn pay_until_it_fails(runtime: Runtime<Payments>, before: &Books, windows: u32) -> (Heard, Report) {
    let handle = runtime.handle();
    let hearing = Arc::new(Hearing::since(before));
    let (from, on_shards) = (before.next(), hearing.clone());
    let tasks = runtime.on_each_shard(move |local| {
        let hearing = on_shards.clone();
        pay_on_shard(local, from, windows, move |client, window, told| hearing.hear(client, window, told))
    });
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) && runtime.checkpoint().is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        pay(&handle, from, windows, |client, window, told| hearing.hear(client, window, told));
        // They hear of a death too: this returns.
        drop(tasks.wait());
        is_over.store(true, Ordering::Relaxed);
    });
    let has_failed = hearing.so_far().last.iter().any(Option::is_some);
    if has_failed {
        until(|| handle.ask(Message::Look(1)).wait() == Err(AskError::Stopped));
    }
    let report = stop(runtime);
    assert_eq!(report.deaths.is_empty(), !has_failed, "{report}");
    assert_eq!(handle.ask(Message::Look(1)).wait(), Err(AskError::Stopped));
    (hearing.so_far(), report)
}

/// What the log's death says; that it is one, and names a file of the directory.
fn cause(report: &Report, directory: &Path) -> String {
    let Some(death) = report.deaths.first() else { panic!("nobody died: {report}") };
    let DeathCause::Log(cause) = &death.cause else { panic!("it died of something else: {report}") };
    assert!(cause.contains(directory.to_str().expect("it is text")), "{cause}");
    cause.clone()
}

/// That no segment of a directory is open in this process. (Of a checkpoint that is cancelled in
/// the middle of opening its file, when the runtime dies, that may stay open: glommio forgets a
/// file that was opened for nobody.)
fn assert_closed(directory: &Path) {
    let open: Vec<_> = fs::read_dir("/proc/self/fd")
        .expect("Linux has it")
        .flatten()
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter(|file| file.starts_with(directory) && file.to_string_lossy().contains("/log-"))
        .collect();
    assert!(open.is_empty(), "open after the end: {open:?}");
}

fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("there is room")
}

#[test]
fn any_write_may_fail() {
    let watchdog = Watchdog::new("any_write_may_fail");
    let [eio, enospc] = [rustix::io::Errno::IO, rustix::io::Errno::NOSPC].map(|errno| errno.raw_os_error());
    // All of them take a minute.
    let step = std::env::var_os("FREEHOLD_WRITE_FAULTS").map_or(7, |_| 1);
    let (mut points, mut died, mut offset) = (0, 0, 0);
    for shards in [1, 2] {
        for (errno, says) in [(Some(eio), "(os error 5)"), (Some(enospc), "no room"), (None, "only 0 of")] {
            let place = in_memory();
            let mut before = Books::default();
            offset = (offset + 1) % step;
            for after in (offset as u64..40).step_by(step) {
                watchdog.feed();
                points += 1;
                let disk = DiskOptions { fails: Some((after, errno)), ..DiskOptions::default() };
                let runtime = open(shards, LogConfig { disk, ..log(place.path()) });
                let (heard, report) = pay_until_it_fails(runtime, &before, 60);
                if !report.deaths.is_empty() {
                    died += 1;
                    let cause = cause(&report, place.path());
                    assert!(cause.contains(says), "{cause}");
                }
                before = judge(
                    place.path(),
                    &before,
                    &heard,
                    &format!("write {after} of {shards} shards, {says}"),
                );
            }
        }
    }
    assert!(died * 5 > points * 4, "only {died} of {points} died, so the others tested nothing");
}

/// Fills the file system of `directory` up, but for so many bytes. What is returned is to be
/// removed.
fn fill_up(directory: &Path, but: u64) -> PathBuf {
    let ballast = directory.join("ballast");
    let mut file = fs::File::create(&ballast).expect("there is room for a name");
    while file.write_all(&[7; 4096]).is_ok() {}
    let bytes = file.metadata().expect("it is open").len();
    file.set_len(bytes.saturating_sub(but)).expect("it can be shorter");
    ballast
}

/// A file system in memory, and a directory for the log in it.
fn small_disk(test: &str, size: &str) -> Option<(tempfile::TempDir, Mount, PathBuf)> {
    let at = tempfile::tempdir().expect("there is room");
    match Mount::memory(at.path(), size, "") {
        Ok(mount) => {
            let directory = at.path().join("log");
            Some((at, mount, directory))
        }
        Err(why) => {
            skip(test, &why);
            None
        }
    }
}

#[test]
fn a_full_disk_stops_the_runtime() {
    let test = "a_full_disk_stops_the_runtime";
    in_own_mounts(test, || {
        let _watchdog = Watchdog::new(test);
        for (shards, size) in [(1, "300k"), (2, "500k"), (2, "700k")] {
            let Some((_at, mount, directory)) = small_disk(test, size) else { return };
            let runtime = open(shards, LogConfig { checkpoint_bytes: 1 << 40, ..log(&directory) });
            let hearing = Hearing::since(&Books::default());
            let handle = runtime.handle();
            pay(&handle, Books::default().next(), u32::MAX, |client, window, told| {
                hearing.hear(client, window, told);
            });
            until(|| handle.ask(Message::Look(1)).wait() == Err(AskError::Stopped));
            let report = stop(runtime);
            let cause = cause(&report, &directory);
            assert!(cause.contains("no room"), "{report}");
            let full = Runtime::<Payments>::open(config(shards), log(&directory));
            assert!(matches!(full, Err(StartError::Log(LogError::NoSpace { .. }))), "{full:?}");
            mount.change("size=32m").expect("it may be larger");
            judge(&directory, &Books::default(), &hearing.so_far(), size);
        }
    });
}

#[test]
fn a_checkpoint_without_room_is_given_up() {
    let test = "a_checkpoint_without_room_is_given_up";
    in_own_mounts(test, || {
        let watchdog = Watchdog::new(test);
        let Some((at, _mount, directory)) = small_disk(test, "128m") else { return };
        let runtime = open(2, LogConfig { segment_bytes: 8 << 20, ..log(&directory) });
        let handle = runtime.handle();
        let none = Books::default();
        let hearing = Hearing::since(&none);
        let mut next = none.next();
        let mut pay_on = || {
            pay(&handle, next, 3, |client, window, told| hearing.hear(client, window, told));
            next = next.map(|window| window + 3);
        };
        pay_on();
        let mut given_up = 0;
        for room in (0..64).step_by(4) {
            watchdog.feed();
            let ballast = fill_up(at.path(), room << 10);
            if let Err(error) = runtime.checkpoint() {
                let is_of_space = matches!(
                    &*error,
                    CheckpointError::Log(LogError::NoSpace { .. } | LogError::ShortWrite { .. })
                );
                assert!(is_of_space, "{error}");
                given_up += 1;
            }
            pay_on();
            // As after a crash now.
            let copy = in_memory();
            for file in fs::read_dir(&directory).expect("it is there").flatten() {
                fs::copy(file.path(), copy.path().join(file.file_name())).expect("there is room elsewhere");
            }
            let books = settled(copy.path());
            books.judge(&none, &hearing.so_far()).unwrap_or_else(|wrong| panic!("with {room} KiB: {wrong}"));
            fs::remove_file(ballast).expect("it is there");
        }
        assert!(given_up > 2, "{given_up} were given up");
        runtime.checkpoint().expect("there is room again");
        pay_on();
        assert!(runtime.shutdown().drained);
        judge(&directory, &none, &hearing.so_far(), "in the end");
    });
}

#[test]
#[ignore = "a part of the others, in a process of its own"]
fn a_disk() {
    Served::serve();
}

/// A manifest that is in its place and could not be synced may be on the disk or not. If it is, it
/// names the parts of the checkpoint; these were removed, as of a checkpoint that is given up, and
/// the directory could not be opened any more.
#[test]
fn a_checkpoint_whose_names_cannot_be_synced_takes_nothing_away() {
    let test = "a_checkpoint_whose_names_cannot_be_synced_takes_nothing_away";
    in_own_mounts(test, || {
        let watchdog = Watchdog::new(test);
        let (mut failed, mut died) = (0, 0);
        for point in 0..12 {
            watchdog.feed();
            let mut disk = match Served::mounted(point) {
                Ok(disk) => disk,
                Err(why) => return skip(test, &why),
            };
            let at = disk.at().to_path_buf();
            let runtime = open(2, LogConfig { segment_bytes: 1 << 20, ..log(&at) });
            let handle = runtime.handle();
            let none = Books::default();
            let hearing = Hearing::since(&none);
            let heard = |client, window, told| hearing.hear(client, window, told);
            pay(&handle, none.next(), 3, heard);
            runtime.checkpoint().expect("nothing fails yet");
            pay(&handle, none.next().map(|window| window + 3), 3, heard);
            disk.fail_after(point % 6);
            let checkpoint = runtime.checkpoint();
            if disk.has_failed() {
                failed += 1;
                let error = checkpoint.expect_err("a sync failed");
                died += u32::from(!matches!(&*error, CheckpointError::Log(LogError::Io { .. })));
            }
            pay(&handle, none.next().map(|window| window + 6), 3, heard);
            disk.cut();
            drop((runtime, handle));
            disk.mount_again();
            judge(&at, &none, &hearing.so_far(), &format!("point {point}"));
        }
        assert!(failed > 6 && died == 0, "{failed} failed, and {died} died of it");
    });
}

/// What a start lets go of counts until its manifest is on the disk: the segments of a run that
/// left nothing were taken for the next before that, and when the power was cut in between, the
/// directory could not be opened any more.
#[test]
fn a_start_whose_names_cannot_be_synced_takes_nothing_away() {
    let test = "a_start_whose_names_cannot_be_synced_takes_nothing_away";
    in_own_mounts(test, || {
        let watchdog = Watchdog::new(test);
        let mut failed = 0;
        for (point, lives) in (0..12).flat_map(|point| [0, 1, 2].map(|lives| (point, lives))) {
            watchdog.feed();
            let mut disk = match Served::mounted(point) {
                Ok(disk) => disk,
                Err(why) => return skip(test, &why),
            };
            let at = disk.at().to_path_buf();
            let mut heard = Heard::default();
            for life in 0..lives {
                let pays = life == 0 && lives == 2;
                let (now, _) = pay_until_it_fails(open(2, log(&at)), &Books::default(), u32::from(pays));
                // The last one leaves nothing.
                heard = if pays { now } else { heard };
            }
            disk.fail_after(point % 6);
            match Runtime::<Payments>::open(config(2), log(&at)) {
                Ok(runtime) => drop(runtime),
                Err(StartError::Log(LogError::Io { .. })) => failed += 1,
                Err(other) => panic!("{other}"),
            }
            // If it has not failed yet, it does not any more.
            disk.has_failed();
            disk.cut();
            disk.mount_again();
            judge(&at, &Books::default(), &heard, &format!("point {point} after {lives} lives"));
        }
        assert!(failed > 12, "{failed} failed");
    });
}

/// At the first start of a directory, and at a later one.
#[test]
fn without_room_there_is_no_start_and_with_room_there_is() {
    let test = "without_room_there_is_no_start_and_with_room_there_is";
    in_own_mounts(test, || {
        let watchdog = Watchdog::new(test);
        let (mut refused, mut started) = (0, 0);
        for room in (0..9).map(|steps| steps * (24 << 10)) {
            watchdog.feed();
            let Some((at, _mount, directory)) = small_disk(test, "32m") else { return };
            let mut heard = Heard::default();
            for life in ["first", "second"] {
                let ballast = fill_up(at.path(), room);
                match Runtime::<Payments>::open(config(2), log(&directory)) {
                    Ok(runtime) => {
                        started += 1;
                        drop(runtime);
                    }
                    Err(StartError::Log(LogError::NoSpace { .. })) => refused += 1,
                    Err(other) => panic!("{life} start with {room} bytes: {other}"),
                }
                fs::remove_file(ballast).expect("it is there");
                let books = judge(&directory, &Books::default(), &heard, &format!("{life}, {room} bytes"));
                if life == "first" {
                    heard = pay_until_it_fails(open(2, log(&directory)), &books, 5).0;
                }
            }
        }
        assert!(refused > 2 && started > 2, "{refused} starts were refused, {started} not");
    });
}

#[test]
fn a_disk_that_fails_below_its_file_system() {
    let test = "a_disk_that_fails_below_its_file_system";
    in_own_mounts(test, || {
        let watchdog = Watchdog::new(test);
        for kilobytes in [900, 1500, 2100] {
            watchdog.feed();
            let at = tempfile::tempdir().expect("there is room");
            let [below, above] = ["below", "above"].map(|name| at.path().join(name));
            [&below, &above].iter().for_each(|place| fs::create_dir(place).expect("there is room"));
            let image = below.join("image");
            let set_up = || {
                let memory = Mount::memory(&below, "64m", "")?;
                make_image(&image, 48)?;
                let used = fs::metadata(&image).map(|file| std::os::unix::fs::MetadataExt::blocks(&file) / 2);
                let used = used.map_err(|error| error.to_string())?;
                let ext4 = Mount::image(&image, &above)?;
                memory.change(&format!("size={}k", used + kilobytes)).map(|()| (memory, ext4))
            };
            let (memory, ext4) = match set_up() {
                Ok(mounts) => mounts,
                Err(why) => return skip(test, &why),
            };
            let directory = above.join("log");
            let before = Books::default();
            let hearing = Hearing::since(&before);
            match Runtime::<Payments>::open(config(2), log(&directory)) {
                Ok(runtime) => {
                    let heard = |client, window, told| hearing.hear(client, window, told);
                    pay(&runtime.handle(), before.next(), u32::MAX, heard);
                    let report = stop(runtime);
                    cause(&report, &directory);
                }
                Err(StartError::Log(LogError::Io { .. } | LogError::NoSpace { .. })) => {}
                Err(other) => panic!("{other}"),
            }
            ext4.end();
            memory.change("size=128m").expect("it may be larger");
            let _ext4 = Mount::image(&image, &above).expect("it could be mounted before");
            judge(&directory, &before, &hearing.so_far(), &format!("{kilobytes} KiB"));
        }
    });
}

/// The limit of a process on the size of files, which cuts a write short. It is the process's, so
/// this has one of its own.
#[test]
fn a_write_that_is_cut_short_stops_the_runtime() {
    let test = "a_write_that_is_cut_short_stops_the_runtime";
    const INSIDE: &str = "FREEHOLD_TEST_MAY_LIMIT_ITSELF";
    if std::env::var_os(INSIDE).is_none() {
        let inside = again(&[], test).env(INSIDE, "1").output().expect("a test can run itself");
        let said = [&inside.stdout[..], &inside.stderr].map(String::from_utf8_lossy).concat();
        assert!(inside.status.success(), "{said}");
        return;
    }
    let watchdog = Watchdog::new(test);
    // The signal that comes with it would end the process.
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).expect("it can be had");
    let place = tempfile::tempdir().expect("there is room");
    let mut before = Books::default();
    let (unlimited, mut short) = (getrlimit(Resource::Fsize), 0);
    for blocks in 8..14 {
        watchdog.feed();
        let runtime = open(1 + blocks % 2, LogConfig { segment_bytes: 1 << 20, ..log(place.path()) });
        let limit = Rlimit { current: Some(blocks as u64 * 4096), ..unlimited };
        setrlimit(Resource::Fsize, limit).expect("it may be less");
        let (heard, report) = pay_until_it_fails(runtime, &before, u32::MAX);
        setrlimit(Resource::Fsize, unlimited).expect("it may be what it was");
        let cause = cause(&report, place.path());
        assert!(cause.contains("no room") || cause.contains("bytes were written"), "{cause}");
        short += u32::from(cause.contains("bytes were written"));
        before = judge(place.path(), &before, &heard, &format!("a limit of {blocks} blocks"));
    }
    assert!(short > 0, "no write was cut short");
}

#[test]
fn a_directory_is_in_use_by_one_runtime_of_all_processes() {
    let test = "a_directory_is_in_use_by_one_runtime_of_all_processes";
    const THERE: &str = "FREEHOLD_TEST_USES_DIRECTORY";
    let _watchdog = Watchdog::new(test);
    if let Some(directory) = std::env::var_os(THERE) {
        let _runtime = open(1, log(Path::new(&directory)));
        println!("\nit is open");
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let is_in_use = |directory: &Path| {
        let refused = Runtime::<Payments>::open(config(1), log(directory));
        assert!(
            matches!(&refused, Err(StartError::Log(LogError::InUse { directory: used })) if used == directory),
            "{refused:?}"
        );
    };
    let place = tempfile::tempdir().expect("there is room");
    let directory = place.path().canonicalize().expect("it is there");
    let runtime = open(2, log(&directory));
    let handle = runtime.handle();
    is_in_use(&directory);
    assert!(runtime.shutdown().drained);
    open(1, log(&directory));
    drop(handle);
    let mut other = again(&[], test)
        .env(THERE, &directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a test can run itself");
    let mut lines = BufReader::new(other.stdout.take().expect("it is piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "it is open")));
    is_in_use(&directory);
    other.kill().expect("it runs");
    other.wait().expect("it was killed");
    open(1, log(&directory));
}

#[test]
fn what_is_no_directory_to_write_in_is_said_to_be_so() {
    let test = "what_is_no_directory_to_write_in_is_said_to_be_so";
    let place = tempfile::tempdir().expect("there is room");
    let file = place.path().join("file");
    fs::write(&file, "not a log").expect("there is room");
    for path in [file.clone(), file.join("below")] {
        let refused = Runtime::<Payments>::open(config(1), log(&path));
        assert!(matches!(refused, Err(StartError::Log(LogError::NotADirectory { .. }))), "{refused:?}");
    }
    assert_eq!(fs::read(&file).expect("it is there"), b"not a log");
    in_own_mounts(test, || {
        let Some((at, mount, directory)) = small_disk(test, "8m") else { return };
        drop(open(1, log(&directory)));
        mount.change("ro").expect("it may be read-only");
        for path in [directory, at.path().join("new")] {
            let refused = Runtime::<Payments>::open(config(1), log(&path));
            let Err(StartError::Log(LogError::Io { source, .. })) = &refused else { panic!("{refused:?}") };
            assert_eq!(source.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{refused:?}");
        }
    });
}

#[test]
fn without_direct_io_the_log_is_written_all_the_same_and_that_is_said_once() {
    let _watchdog = Watchdog::new("without_direct_io");
    let logged = Logged::default();
    // The shards' threads have to hear it, too.
    tracing::subscriber::set_global_default(logged.clone()).expect("nobody else listens");
    let place = tempfile::tempdir_in("/dev/shm").expect("Linux has it");
    let before = Books::default();
    let (heard, report) = pay_until_it_fails(open(2, log(place.path())), &before, 50);
    assert!(report.drained, "{report}");
    let path = place.path().to_str().expect("it is text");
    let is_of_it =
        |(level, said): &&(tracing::Level, String)| *level == tracing::Level::WARN && said.contains(path);
    let warned = logged.with("no direct I/O").iter().filter(is_of_it).count();
    assert_eq!(warned, 1, "two shards and several segments");
    judge(place.path(), &before, &heard, "in memory");
}

/// Objects that count, and messages of which one kills its shard.
struct Mine;

#[derive(Serialize, Deserialize)]
enum Step {
    Add(u64),
    Read(u64),
    /// Panics where it is dropped on a shard.
    Kill(u64),
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Step::Kill(_) = self
            && std::thread::current().name().is_some_and(|name| name.starts_with("freehold"))
        {
            panic!("dropped, on purpose");
        }
    }
}

impl Actor for Mine {
    type Id = u64;
    type State = u64;
    type Message = Step;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(message: &Step, to: &mut Addressees<u64>) {
        match message {
            Step::Read(id) => to.read(*id),
            Step::Add(id) | Step::Kill(id) => to.write(*id),
        }
    }

    fn receive(message: &Step, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        match message {
            Step::Read(id) => Ok(objects.get(*id)?.copied().unwrap_or(0)),
            Step::Add(id) | Step::Kill(id) => {
                let number = objects.get_or_insert_with(*id, || 0)?;
                *number += 1;
                Ok(*number)
            }
        }
    }
}

/// A shard that dies in the middle of a turn delivers what the turn had come to, and of that
/// nothing was on disk: the first of these messages was answered `Ok`, and was gone at the next
/// start.
#[test]
fn a_shard_that_dies_answers_with_nothing_that_is_not_durable() {
    let _watchdog = Watchdog::new("a_shard_that_dies_answers_with_nothing_that_is_not_durable");
    hush();
    for is_batch in [false, true] {
        let place = in_memory();
        let runtime = Runtime::<Mine>::open(config(1), log(place.path())).expect("it opens");
        let handle = runtime.handle();
        assert_eq!(handle.ask(Step::Add(1)).wait(), Ok(1));
        // The shard is held, so that both are there in one turn.
        let held = hold_up(&runtime, ShardIndex(0));
        let answered = if is_batch {
            let batch = handle.ask_all([Step::Add(1), Step::Add(2)]);
            let kill = handle.ask_all([Step::Kill(3)]);
            drop(held);
            assert_eq!(kill.wait(), [Err(AskError::Unknown)]);
            batch.wait()
        } else {
            let one = handle.ask(Step::Add(1));
            let kill = handle.ask(Step::Kill(3));
            drop(held);
            assert_eq!(kill.wait(), Err(AskError::Unknown));
            vec![one.wait()]
        };
        let report = runtime.shutdown();
        let [death] = &report.deaths[..] else { panic!("{report}") };
        assert!(matches!(&death.cause, DeathCause::Panicked(message) if message == "dropped, on purpose"));
        let runtime = Runtime::<Mine>::open(config(1), log(place.path())).expect("it opens");
        let found = runtime.handle().ask(Step::Read(1)).wait().expect("it can be read");
        match &answered[0] {
            Ok(number) => assert_eq!(*number, found, "it was acknowledged"),
            Err(error) => assert_eq!(*error, AskError::Unknown),
        }
    }
}

/// So that a wait for a checkpoint, or for the end of a runtime that is dead already, does not
/// outlast it.
#[test]
fn who_waits_for_a_checkpoint_of_a_runtime_that_dies_is_told() {
    let _watchdog = Watchdog::new("who_waits_for_a_checkpoint_of_a_runtime_that_dies_is_told");
    let told = AtomicU64::new(0);
    for after in 0..12 {
        let place = in_memory();
        let disk = DiskOptions { fails: Some((after, Some(5))), ..DiskOptions::default() };
        let runtime = open(2, LogConfig { disk, ..log(place.path()) });
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while runtime.checkpoint().is_ok() {}
                    told.fetch_add(1, Ordering::Relaxed);
                });
            }
            pay(&runtime.handle(), Books::default().next(), u32::MAX, |_, _, _| {});
        });
        let report = stop(runtime);
        assert_eq!(report.deaths.len(), 1, "{report}");
    }
    assert_eq!(told.load(Ordering::Relaxed), 36);
}
