//! A snapshot that is open while something is measured, and renewed so often that writes really
//! keep old states.
//!
//! The first write of an object after a snapshot was opened keeps what the object was; the next
//! ones do not. With one snapshot for all of a measurement nearly no write would. So a thread opens
//! another one every now and then, and closes the one before.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use freehold::{Actor, Handle, Snapshot, SnapshotError};

/// What there was of snapshots.
#[derive(Clone, Copy, Debug, Default)]
pub struct Renewed {
    /// How many were opened.
    pub opened: u64,
    /// The most old states that all shards together were seen to keep.
    pub versions_max: u64,
}

/// Does some work while a snapshot is open, which is renewed when it has been ready for `every`.
/// The newest one is given back, still open.
pub fn beside<A: Actor, T>(
    handle: &Handle<A>,
    every: Duration,
    work: impl FnOnce() -> T,
) -> Result<(T, (Renewed, Snapshot<A>)), SnapshotError> {
    let mut newest = handle.snapshot().wait()?;
    let mut renewed = Renewed { opened: 1, versions_max: 0 };
    thread::scope(|scope| {
        let (is_working, work_ends) = channel::<()>();
        let renewer = scope.spawn(move || -> Result<_, SnapshotError> {
            while work_ends.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let next = handle.snapshot().wait()?;
                // Every shard has just had a turn, and what was kept for the one before still is.
                renewed.versions_max = renewed.versions_max.max(versions(handle));
                newest = next;
                renewed.opened += 1;
            }
            Ok((renewed, newest))
        });
        let done = work();
        drop(is_working);
        Ok((done, renewer.join().expect("the renewer does not panic")?))
    })
}

/// How many old states all shards together keep, as of their last turns.
pub fn versions<A: Actor>(handle: &Handle<A>) -> u64 {
    handle.stats().shards.iter().map(|shard| shard.counters.versions).sum()
}
