//! Makes io_uring unavailable to a test, as the default seccomp profiles of container runtimes do.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register`, which have these numbers on every
/// architecture.
const IO_URING_CALLS: [i64; 3] = [425, 426, 427];

#[allow(dead_code, reason = "each test uses a part of this file")]
const EPERM: u32 = 1;

/// From here on io_uring's system calls answer EPERM to the calling thread and to every thread it
/// starts, for good; other threads of the process keep io_uring, so a test calls this on a thread
/// or in a process of its own.
///
/// # Panics
/// When the kernel refuses the filter.
#[allow(dead_code, reason = "each test uses a part of this file")]
pub fn deny_io_uring() {
    let rules: BTreeMap<_, _> = IO_URING_CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().expect("seccompiler knows this architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(EPERM), architecture)
        .expect("the filter is well formed");
    let program = BpfProgram::try_from(filter).expect("three rules compile");
    seccompiler::apply_filter(&program).expect("a thread may always restrict itself");
}

/// From here on these system calls answer with `errno` to all threads of the process, for good.
///
/// # Panics
/// When the kernel refuses the filter.
#[allow(dead_code, reason = "each test uses a part of this file")]
pub fn deny(calls: &[i64], errno: u32) {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().expect("seccompiler knows this architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), architecture)
        .expect("the filter is well formed");
    let program = BpfProgram::try_from(filter).expect("few rules compile");
    seccompiler::apply_filter_all_threads(&program).expect("a process may always restrict itself");
}
