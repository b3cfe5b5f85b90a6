//! Where io_uring is not to be had, or not enough locked memory for it, a start is refused in the
//! doctor's words.

#[path = "support/seccomp.rs"]
mod seccomp;
mod support;

use std::os::unix::process::CommandExt;
use std::process::Command;

use freehold::doctor::{Check, Examination, Verdict, examine};
use freehold::{Config, Runtime, Shards, StartError};
use rustix::process::{Resource, Rlimit, getuid, setrlimit};
use support::skip::skip;
use support::{Counter, Message, Watchdog};

fn start(shards: usize) -> Result<Runtime<Counter>, StartError> {
    Runtime::start(Config { shards: Shards::Count(shards), ..Config::default() })
}

/// The check a start was refused by, which is the one the doctor reports.
fn refusal(shards: usize) -> Check {
    let error = start(shards).map(drop).expect_err("a start without rings");
    let StartError::NotSupported(check) = &error else { panic!("not refused by the doctor: {error:?}") };
    assert!(error.to_string().contains(&check.to_string()), "{error}");
    let config = Config::default();
    let examination = Examination {
        shards: Some(shards),
        io_memory_bytes_per_shard: config.io_memory_bytes,
        ..Examination::default()
    };
    assert_eq!(examine(&examination).first_failure(), Some(check));
    assert_eq!(check.verdict, Verdict::Failed);
    check.clone()
}

#[test]
fn a_denied_io_uring_is_said_with_what_to_change() {
    let _watchdog = Watchdog::new("a_denied_io_uring_is_said_with_what_to_change");
    // The filter is this thread's and its children's, and so is the process's last word on the
    // matter.
    let denied = std::thread::spawn(|| {
        seccomp::deny_io_uring();
        refusal(2)
    });
    let check = denied.join().unwrap();
    assert_eq!(check.name, "io_uring");
    assert!(check.found.contains("seccomp filter"), "{check}");
    let fix = check.fix.expect("what fails says what to change");
    for environment in ["Docker", "Kubernetes", "systemd"] {
        assert!(fix.contains(environment), "{fix}");
    }
    let runtime =
        start(2).expect("nothing was left behind that would be in the way of a start without the filter");
    assert_eq!(runtime.handle().ask(Message::Add { to: 1, by: 1 }).wait(), Ok(1));
    assert!(runtime.shutdown().drained);
}

/// Limits belong to a process, so this test lowers them in one of its own: itself, started once
/// more, and without privileges, for whom the kernel makes exceptions.
#[test]
fn too_little_locked_memory_is_said_with_what_to_change() {
    const CHILD: &str = "FREEHOLD_TEST_CHILD";
    let _watchdog = Watchdog::new("too_little_locked_memory_is_said_with_what_to_change");
    if std::env::var_os(CHILD).is_none() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "too_little_locked_memory_is_said_with_what_to_change", "--nocapture"])
            .env(CHILD, "1");
        if getuid().is_root() {
            // A user of its own, because the kernel charges locked memory to users and not to
            // processes.
            let nobody = 1_000_000 + std::process::id();
            child.current_dir("/").uid(nobody).gid(nobody);
        }
        let output = match child.output() {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let test = "too_little_locked_memory_is_said_with_what_to_change";
                return skip(test, &format!("no unprivileged process can be had here ({error})"));
            }
            output => output.expect("this test can start itself"),
        };
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let lower = |bytes| {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        setrlimit(Resource::Memlock, limit).expect("a limit may be lowered");
    };
    let expected = |check: Check| {
        assert_eq!(check.name, "memory lock limit", "{check}");
        let fix = check.fix.expect("what fails says what to change");
        for line in ["--ulimit memlock=-1:-1", "LimitMEMLOCK=infinity"] {
            assert!(fix.contains(line), "{fix}");
        }
    };
    // Rings of 64 KiB a shard: enough for eight shards and not for nine, on a kernel that charges
    // them.
    lower(512 << 10);
    let runtime = start(2).expect("512 KiB are enough for two shards");
    assert_eq!(runtime.handle().ask(Message::Add { to: 1, by: 1 }).wait(), Ok(1));
    assert!(runtime.shutdown().drained);
    lower((512 << 10) - 1);
    expected(refusal(2));
    lower(64 << 10);
    expected(refusal(1));
}
