//! Are the system calls allowed that a start makes beside those of rings and files.
//!
//! A seccomp profile denies calls one by one, so each is tried by itself, on a thread of its own
//! and without a lasting effect. `tests/denied_calls.rs` denies every call of a start once and
//! compares what is said here with what a start does.

use std::io;
use std::thread;

use rustix::event::EventfdFlags;
use rustix::io::Errno;
use rustix::thread::{ClockId, CpuSet, NanosleepRelativeResult, Timespec};

use super::check::{Check, Verdict};

/// A call, what it is for, and how it was refused, if it was.
pub(super) type Attempt = (&'static str, &'static str, Option<Errno>);

/// Tries every call, with the CPU that the first shard will be bound to, if it will be bound.
pub(super) fn examine(cpu: Option<usize>) -> Check {
    judge("system calls", &attempts(cpu))
}

/// Whether limits can be read: where they cannot, there is nothing to say of them.
pub(super) fn can_read_limits() -> bool {
    rlimit::Resource::NOFILE.get().is_ok()
}

fn attempts(cpu: Option<usize>) -> Vec<Attempt> {
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    // The thread is the first attempt: without it there is nowhere to try the others.
    let tried = thread::Builder::new().spawn(move || {
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC);
        let copied = eventfd.as_ref().map(|eventfd| eventfd.try_clone().err().map(errno));
        let bound = cpu.map(bind_this_thread).unwrap_or(Ok(()));
        vec![
            ("eventfd2", "a shard is woken by one", eventfd.as_ref().err().copied()),
            ("fcntl", "a shard copies the descriptor it is woken by", copied.unwrap_or(None)),
            ("sched_setaffinity", "a shard is bound to its CPU", bound.err()),
            ("clock_nanosleep", "a shutdown looks again and again", nap().err()),
            ("prlimit64", "an executor reads its limits", rlimit::Resource::MEMLOCK.get().err().map(errno)),
        ]
    });
    let clone = "a shard runs on a thread of its own";
    match tried.map(|thread| thread.join().unwrap_or_default()) {
        Ok(attempts) => [("clone3", clone, None)].into_iter().chain(attempts).collect(),
        Err(error) => vec![("clone3", clone, Some(errno(error)))],
    }
}

fn bind_this_thread(cpu: usize) -> Result<(), Errno> {
    // A machine with more CPUs than such a set can name is bound by other means.
    if cpu >= CpuSet::MAX_CPU {
        return Ok(());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
}

fn nap() -> Result<(), Errno> {
    let no_time = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::thread::clock_nanosleep_relative(ClockId::Realtime, &no_time) {
        NanosleepRelativeResult::Err(errno) => Err(errno),
        NanosleepRelativeResult::Ok | NanosleepRelativeResult::Interrupted(_) => Ok(()),
    }
}

pub(super) fn judge(name: &'static str, attempts: &[Attempt]) -> Check {
    let refused: Vec<_> =
        attempts.iter().filter_map(|(call, why, errno)| Some((*call, *why, (*errno)?))).collect();
    let names = |separator| refused.iter().map(|(call, ..)| *call).collect::<Vec<_>>().join(separator);
    let (verdict, found) = if refused.is_empty() {
        let tried = attempts.iter().map(|(call, ..)| *call).collect::<Vec<_>>();
        (Verdict::Passed, format!("allowed: {}", tried.join(", ")))
    } else {
        let each = refused.iter().map(|(call, why, errno)| format!("{call} was refused: {errno} ({why})"));
        (Verdict::Failed, each.collect::<Vec<_>>().join("; "))
    };
    // systemd denies threads and pinning by name, and Docker's profile lists what it allows.
    Check::new(name, verdict, found)
        .because("A start makes these calls; a seccomp filter may deny each of them by itself.")
        .fixed_by(|| {
            format!(
                "Docker, Podman: docker run --security-opt seccomp=PROFILE.json IMAGE   # the profile in force with \
                 {} added to its SCMP_ACT_ALLOW names\n\
                 Kubernetes: securityContext: {{seccompProfile: {{type: Localhost, localhostProfile: \
                 PROFILE.json}}}}   # likewise\n\
                 systemd: systemctl edit SERVICE, add [Service] SystemCallFilter={} behind the lines with ~, then \
                 systemctl restart SERVICE\n\
                 limits: clone3 is refused as well where no more threads may be had; check: ulimit -u, and pids.max of \
                 the control group",
                names(", "),
                names(" ")
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{fix, verdict};

    #[test]
    fn a_refused_call_is_named_with_the_line_that_allows_it() {
        assert_eq!(
            verdict(&judge("system calls", &[("eventfd2", "a shard is woken by one", None)])),
            Verdict::Passed
        );
        let check = judge(
            "system calls",
            &[
                ("clone3", "a thread", None),
                ("eventfd2", "a shard is woken by one", Some(Errno::PERM)),
                ("fcntl", "a copy", Some(Errno::NOSYS)),
            ],
        );
        assert_eq!(verdict(&check), Verdict::Failed);
        assert!(check.found.contains("eventfd2 was refused") && !check.found.contains("clone3"), "{check}");
        assert!(fix(&check).contains("SystemCallFilter=eventfd2 fcntl"), "{}", fix(&check));
        assert!(fix(&check).contains("eventfd2, fcntl added to"), "{}", fix(&check));
    }

    #[test]
    fn what_is_tried_leaves_this_thread_where_it_was() {
        let before = rustix::thread::sched_getaffinity(None).expect("it can be asked");
        let cpu = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).expect("it runs somewhere");
        let attempts = attempts(Some(cpu));
        assert_eq!(attempts.len(), 6);
        assert!(attempts.iter().all(|(_, _, errno)| errno.is_none()), "{attempts:?}");
        assert_eq!(rustix::thread::sched_getaffinity(None), Ok(before));
    }
}
