//! The CPUs a thread may run on, and lists of CPUs as the kernel writes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

/// A CPU number no machine reaches. What is larger in a file is malformed, not a list of four
/// billion CPUs.
const CPU_ID_MAX: usize = 1 << 16;

/// Whose CPUs are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AffinityOf {
    /// The calling thread's.
    Thread,
    /// Those of the process's main thread.
    Process,
}

/// The CPUs a thread may be scheduled on.
pub(super) fn affinity(root: &Path, whose: AffinityOf) -> io::Result<Vec<usize>> {
    let (thread, status) = match whose {
        AffinityOf::Thread => (None, "proc/thread-self/status"),
        AffinityOf::Process => (Some(rustix::process::getpid()), "proc/self/status"),
    };
    match rustix::thread::sched_getaffinity(thread) {
        Ok(set) => Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|&id| set.is_set(id)).collect()),
        // The fixed-size set cannot hold this machine's CPUs (over 1024); the same mask stands in
        // /proc as text.
        Err(errno) => fs::read_to_string(root.join(status))
            .ok()
            .and_then(|status| affinity_in_status(&status))
            .ok_or_else(|| errno.into()),
    }
}

/// The affinity in the text of a thread's `status` in `/proc`.
pub(super) fn affinity_in_status(status: &str) -> Option<Vec<usize>> {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(parse_cpu_list)
}

/// The CPUs a file lists; `None` when it is absent, malformed or lists none.
pub(super) fn read_cpu_list(path: &Path) -> Option<Vec<usize>> {
    parse_cpu_list(&fs::read_to_string(path).ok()?).filter(|cpus| !cpus.is_empty())
}

/// Parses the kernel's list format, `0-3,8,10-11`, into ascending numbers; `None` when malformed.
/// No text is no CPU.
pub(super) fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let text = text.trim();
    let mut cpus = BTreeSet::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPU_ID_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus.into_iter().collect())
}

/// Writes CPU numbers as the kernel does: `0-3,8`.
pub(super) fn cpu_list(cpus: &BTreeSet<usize>) -> String {
    let mut text = String::new();
    let mut rest = cpus.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if_eq(&(last + 1)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = match last - first {
            0 => write!(text, "{comma}{first}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
    }
    text
}
