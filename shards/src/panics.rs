//! What becomes of a panic in a user's code: its message is undone, and the shard goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops a user's value, or what a panic carries, which may itself panic when dropped.
#[cold]
pub(crate) fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}
