//! Threads stay on a CPU, as Freehold's do. Those that an engine makes for itself (flushing,
//! compaction) go where they want.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs this process may use. To be asked before anything is pinned.
pub fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None);
    set.map_or_else(|_| Vec::new(), |set| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Keeps the calling thread, the `number`-th of its kind, on one of these CPUs. Where that is
/// forbidden it goes where it wants.
pub fn pin(allowed: &[usize], number: usize) {
    if !allowed.is_empty() {
        let mut set = CpuSet::new();
        set.set(allowed[number % allowed.len()]);
        // What a sandbox forbids makes figures worse, and not wrong.
        let _ = sched_setaffinity(None, &set);
    }
}
