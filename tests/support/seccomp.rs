//! Makes io_uring unavailable to a test, as the default seccomp profiles of container runtimes do.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, compile_from_json};
use serde_json::{Value, json};

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

/// From here on only these system calls are allowed to all threads of the process, for good, as by
/// a profile of container runtimes whose text this is. All others answer EPERM.
///
/// # Panics
/// When the profile is not one, or names a call that this architecture does not know.
#[allow(dead_code, reason = "each test uses a part of this file")]
pub fn apply_profile(profile: &str) {
    let profile: Value = serde_json::from_str(profile).expect("it is JSON");
    assert_eq!(
        (&profile["defaultAction"], &profile["defaultErrnoRet"]),
        (&json!("SCMP_ACT_ERRNO"), &json!(EPERM))
    );
    let rules = profile["syscalls"].as_array().expect("a list of rules");
    let allows = |rule: &&Value| rule["action"] == "SCMP_ACT_ALLOW";
    let names = rules.iter().filter(allows).flat_map(|rule| rule["names"].as_array().expect("names"));
    let calls: Vec<_> = names.map(|name| json!({ "syscall": name })).collect();
    let filter = json!({ "all": {
        "mismatch_action": { "errno": EPERM }, "match_action": "allow", "filter": calls,
    }});
    let architecture = std::env::consts::ARCH.try_into().expect("seccompiler knows this architecture");
    let mut programs = compile_from_json(filter.to_string().as_bytes(), architecture).expect("a filter");
    let program = programs.remove("all").expect("it was named so");
    seccompiler::apply_filter_all_threads(&program).expect("a process may always restrict itself");
}
