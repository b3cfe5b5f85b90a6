//! The doctor and a start agree: each system call that a start makes is denied once, as a seccomp profile does it.
//!
//! The story: under systemd's `SystemCallFilter=~@resources` the doctor passed the machine, and the start failed with "shard 0 cannot start its
//! executor". The doctor tried rings, and no other call of a start.

#[path = "support/seccomp.rs"]
mod seccomp;
mod support;

use std::process::Command;

use freehold::doctor::{Examination, examine};
use freehold::{Config, Runtime, Shards, StartError};
use support::{Counter, Message, Watchdog};

/// Which call the child is to do without, by name, and the error it gets.
const DENIED: &str = "FREEHOLD_TEST_DENIED";

/// What a start and its end call, by `strace -f`, but for what no Rust program runs without: memory, files, futexes, signals. And but for `rseq`:
/// glibc aborts when it is refused, before anybody could say a word.
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

fn child(denied: &str) -> ! {
    let (call, errno) = denied.split_once(' ').expect("a name and a number");
    let (_, number) = CALLS.iter().find(|(name, _)| *name == call).expect("it is one of them");
    seccomp::deny(&[*number], errno.parse().expect("a number"));
    let config = Config { shards: Shards::Count(2), ..Config::default() };
    let examination = Examination {
        shards: Some(2),
        io_memory_bytes_per_shard: config.io_memory_bytes,
        ..Examination::default()
    };
    let diagnosis = examine(&examination);
    let started = Runtime::<Counter>::start(config);
    match (diagnosis.first_failure(), started) {
        (None, Ok(runtime)) => {
            assert_eq!(runtime.handle().ask(Message::Add { to: 1, by: 1 }).wait(), Ok(1));
            assert!(runtime.shutdown().drained);
            println!("RESULT works");
        }
        (Some(check), Err(StartError::NotSupported(refused))) if *check == refused => {
            println!("RESULT refused {refused}");
        }
        (check, started) => println!("RESULT disagree {check:?} {:?}", started.map(drop)),
    }
    std::process::exit(0)
}

/// What the doctor and a start say to a process that is denied a call: `works`, `refused` and the check, or `disagree`.
fn outcome(call: &str, errno: i32) -> String {
    let output = Command::new(std::env::current_exe().expect("a test knows where it is"))
        .args(["--exact", "what_the_doctor_passes_starts", "--nocapture"])
        .env(DENIED, format!("{call} {errno}"))
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
            let outcome = outcome(call, errno);
            let is_needed = NEEDED.contains(call) && !(*call == "clone3" && errno == libc::ENOSYS);
            match outcome.split_once(' ') {
                Some(("refused", check)) => {
                    assert!(is_needed, "{call}, {errno}: a start can do without, {check}");
                    assert!(check.contains(call), "{call}, {errno}: it is not named by {check}");
                    // Without rings the kernel itself may be why, so there is more to be said than one line.
                    let line = format!("SystemCallFilter={call}");
                    assert!(check.contains(&line) || call.starts_with("io_uring"), "{call}: {check}");
                }
                _ => assert!(outcome == "works" && !is_needed, "{call}, {errno}: {outcome}"),
            }
            watchdog.feed();
        }
    }
}
