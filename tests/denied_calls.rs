//! The doctor and a start agree: each system call that a start makes is denied once, as a seccomp
//! profile does it, without a log and with one.
//!
//! The story: under systemd's `SystemCallFilter=~@resources` the doctor passed the machine, and the
//! start failed with "shard 0 cannot start its executor". The doctor tried rings, and no other call
//! of a start.

#[path = "support/seccomp.rs"]
mod seccomp;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use freehold::doctor::{Examination, examine};
use freehold::{AccessError, Actor, Addressees, Config, LogConfig, Objects, Runtime, Shards, StartError};
use support::Watchdog;
use tempfile::TempDir;

/// Objects that count their messages, each of which is an id.
struct Counters;

impl Actor for Counters {
    type Id = u64;
    type State = u64;
    type Message = u64;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(id: &u64, to: &mut Addressees<u64>) {
        to.write(*id);
    }

    fn receive(id: &u64, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        let count = objects.get_or_insert_with(*id, || 0)?;
        *count += 1;
        Ok(*count)
    }
}

/// Which call the child is to do without, by name, and the error it gets.
const DENIED: &str = "FREEHOLD_TEST_DENIED";

/// What a start and its end call, by `strace -f`, but for what no Rust program runs without:
/// memory, files, futexes, signals. And but for `rseq`: glibc aborts when it is refused, before
/// anybody could say a word.
const CALLS: &[(&str, i64)] = &[
    ("capget", libc::SYS_capget),
    ("clock_nanosleep", libc::SYS_clock_nanosleep),
    ("clone3", libc::SYS_clone3),
    ("eventfd2", libc::SYS_eventfd2),
    ("fcntl", libc::SYS_fcntl),
    ("getdents64", libc::SYS_getdents64),
    ("getrandom", libc::SYS_getrandom),
    ("gettid", libc::SYS_gettid),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("lseek", libc::SYS_lseek),
    ("madvise", libc::SYS_madvise),
    ("membarrier", libc::SYS_membarrier),
    ("prctl", libc::SYS_prctl),
    ("prlimit64", libc::SYS_prlimit64),
    ("pread64", libc::SYS_pread64),
    ("readlink", libc::SYS_readlink),
    ("rt_sigaction", libc::SYS_rt_sigaction),
    ("sched_getaffinity", libc::SYS_sched_getaffinity),
    ("sched_setaffinity", libc::SYS_sched_setaffinity),
    ("set_robust_list", libc::SYS_set_robust_list),
    ("sigaltstack", libc::SYS_sigaltstack),
    ("statx", libc::SYS_statx),
    ("uname", libc::SYS_uname),
];

/// What a start calls beside these if it has a log, that was closed before, and its checkpoint.
const CALLS_OF_LOGS: &[(&str, i64)] = &[
    ("flock", libc::SYS_flock),
    ("fstatfs", libc::SYS_fstatfs),
    ("fsync", libc::SYS_fsync),
    ("ftruncate", libc::SYS_ftruncate),
    ("getdents64", libc::SYS_getdents64),
    ("linkat", libc::SYS_linkat),
    ("mkdir", libc::SYS_mkdir),
    ("readlink", libc::SYS_readlink),
    ("renameat", libc::SYS_renameat),
    ("statfs", libc::SYS_statfs),
    ("unlinkat", libc::SYS_unlinkat),
];

/// Without these there is no start. The C library makes do with `clone` where there is no `clone3`.
const NEEDED: &[&str] = &[
    "clock_nanosleep",
    "clone3",
    "eventfd2",
    "fcntl",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "prlimit64",
    "sched_setaffinity",
];

/// Without these there is none with a log.
const NEEDED_BY_LOGS: &[&str] =
    &["flock", "fstatfs", "fsync", "ftruncate", "getdents64", "readlink", "renameat", "statfs", "unlinkat"];

fn child(denied: &str) -> ! {
    let parts: Vec<_> = denied.splitn(3, ' ').collect();
    let [call, errno, directory] = parts[..] else { panic!("a name, a number and a path: {denied}") };
    let all = CALLS.iter().chain(CALLS_OF_LOGS);
    let (_, number) = all.into_iter().find(|(name, _)| *name == call).expect("it is one of them");
    let config = || Config { shards: Shards::Count(2), ..Config::default() };
    seccomp::deny(&[*number], errno.parse().expect("a number"));
    let examination = Examination {
        shards: Some(2),
        io_memory_bytes_per_shard: config().io_memory_bytes,
        directory: (!directory.is_empty()).then(|| directory.into()),
    };
    let diagnosis = examine(&examination);
    let started = match directory {
        "" => Runtime::<Counters>::start(config()),
        _ => Runtime::<Counters>::open(config(), small(directory.as_ref())),
    };
    match (diagnosis.first_failure(), started) {
        (None, Ok(runtime)) => {
            let before = u64::from(!directory.is_empty());
            assert_eq!(runtime.handle().ask(1).wait(), Ok(before + 1));
            assert!(runtime.shutdown().drained);
            println!("RESULT works");
        }
        (Some(check), Err(StartError::NotSupported(refused))) if *check == refused => {
            println!("RESULT refused {refused}");
        }
        // A start with a log says which call on which file was refused, or what glommio did then.
        (Some(check), Err(_)) if !directory.is_empty() => println!("RESULT refused {check}"),
        (check, started) => println!("RESULT disagree {check:?} {:?}", started.map(drop)),
    }
    std::process::exit(0)
}

/// A log in files that are made quickly.
fn small(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory) }
}

/// What a crash leaves: the next start cuts the logs.
fn crashed() -> TempDir {
    let [running, crashed] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let config = Config { shards: Shards::Count(2), ..Config::default() };
    let runtime = Runtime::<Counters>::open(config, small(running.path())).expect("it starts");
    assert_eq!(runtime.handle().ask(1).wait(), Ok(1));
    copy(running.path(), crashed.path());
    runtime.shutdown();
    crashed
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).expect("it is there").flatten() {
        let copied = fs::copy(file.path(), to.join(file.file_name()));
        // A spare becomes a segment at any time, with nothing in it yet.
        let is_spare = file.file_name().to_string_lossy().starts_with("spare-");
        assert!(copied.is_ok() || is_spare, "{copied:?}");
    }
}

/// What the doctor and a start say to a process that is denied a call: `works`, `refused` and the
/// check, or `disagree`.
fn outcome(call: &str, errno: i32, directory: Option<&Path>) -> String {
    let directory = directory.map_or(String::new(), |path| path.display().to_string());
    let output = Command::new(std::env::current_exe().expect("a test knows where it is"))
        .args(["--exact", "what_the_doctor_passes_starts", "--nocapture"])
        .env(DENIED, format!("{call} {errno} {directory}"))
        .output()
        .expect("it runs");
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let result = said.lines().find_map(|line| line.split_once("RESULT "));
    let Some((_, result)) = result else { panic!("{call}, {errno}: {}, {complained}", output.status) };
    result.to_string()
}

#[test]
fn what_the_doctor_passes_starts() {
    if let Ok(denied) = std::env::var(DENIED) {
        child(&denied);
    }
    let watchdog = Watchdog::new("what_the_doctor_passes_starts");
    for (call, _) in CALLS {
        // As systemd refuses, and as container runtimes do with calls they do not know.
        for errno in [libc::EPERM, libc::ENOSYS] {
            let is_needed = NEEDED.contains(call) && !(*call == "clone3" && errno == libc::ENOSYS);
            judge(call, errno, is_needed, &outcome(call, errno, None));
            watchdog.feed();
        }
    }
    let crashed = crashed();
    for (call, _) in CALLS_OF_LOGS {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let directory = tempfile::tempdir().expect("a directory");
            copy(crashed.path(), directory.path());
            let outcome = outcome(call, errno, Some(directory.path()));
            judge(call, errno, NEEDED_BY_LOGS.contains(call), &outcome);
            watchdog.feed();
        }
    }
}

/// The profile for containers that the documents name.
const PROFILE: &str = include_str!("../docs/operate/seccomp.json");

#[test]
fn under_the_profile_of_the_documents_a_log_is_kept() {
    let _watchdog = Watchdog::new("under_the_profile_of_the_documents_a_log_is_kept");
    if let Ok(directory) = std::env::var(CONFINED) {
        confined(directory.as_ref());
    }
    let directory = tempfile::tempdir().expect("a directory");
    // What a crash left, so that logs are cut; and what the first start has closed.
    copy(crashed().path(), directory.path());
    for _ in 0..2 {
        let output = Command::new(std::env::current_exe().expect("a test knows where it is"))
            .args(["--exact", "under_the_profile_of_the_documents_a_log_is_kept", "--nocapture"])
            .env(CONFINED, directory.path())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("RESULT works"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Where a child that runs under the profile has its log.
const CONFINED: &str = "FREEHOLD_TEST_CONFINED";

fn confined(directory: &Path) -> ! {
    seccomp::apply_profile(PROFILE);
    // What anyone may call, and what is not in the profile: it is in force.
    let refused = rustix::process::getpriority_process(None).expect_err("it is denied");
    assert_eq!(refused, rustix::io::Errno::PERM);
    let directory = directory.to_path_buf();
    let examination = Examination { directory: Some(directory.clone()), ..Examination::default() };
    let diagnosis = examine(&examination);
    assert!(diagnosis.first_failure().is_none(), "{diagnosis}");
    let config = Config { shards: Shards::Count(2), ..Config::default() };
    let runtime = Runtime::<Counters>::open(config, small(&directory)).expect("it starts");
    let asked = runtime.handle().ask_all((0..5_000).map(|nth| nth % 500)).wait();
    asked.into_iter().for_each(|asked| assert!(asked.is_ok(), "{asked:?}"));
    runtime.checkpoint().expect("it is made");
    // Sockets, as for metrics.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("it may listen");
    std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("it may connect");
    assert!(runtime.shutdown().drained);
    println!("RESULT works");
    std::process::exit(0)
}

fn judge(call: &str, errno: i32, is_needed: bool, outcome: &str) {
    match outcome.split_once(' ') {
        Some(("refused", check)) => {
            assert!(is_needed, "{call}, {errno}: a start can do without, {check}");
            assert!(check.contains(call), "{call}, {errno}: it is not named by {check}");
            // Without rings the kernel itself may be why, so there is more to be said than one
            // line.
            let line = format!("SystemCallFilter={call}");
            assert!(check.contains(&line) || call.starts_with("io_uring"), "{call}: {check}");
        }
        _ => assert!(outcome == "works" && !is_needed, "{call}, {errno}: {outcome}"),
    }
}
