//! What `parking`, `blocked` and `free_list` are built on. The package `models` gives them loom's.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::thread::{Thread, current, park};

/// Runs a test once; loom runs it in every interleaving.
#[cfg(test)]
pub(crate) fn explore(test: impl Fn()) {
    test();
}
