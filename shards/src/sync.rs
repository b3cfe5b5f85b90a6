//! What this crate's few words between threads are built on. The package `models` gives them loom's
//! in their place.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Runs a test once; loom runs it in every interleaving.
#[cfg(test)]
pub(crate) fn explore(test: impl Fn()) {
    test();
}
