//! What shards do beside messages is bounded: reads of snapshots, waits for durability, starts of
//! tasks.
//!
//! The story: 400,000 reads of a snapshot, each dropped at once, were all accepted. They took 642
//! MiB, every message took 7 ms from then on, and a read more than a minute. 20,000 tasks in
//! `durable()` ran at a quarter of their speed.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::support::held::hold_up;
use crate::support::{Counter, Message, Watchdog, start, until};
use freehold::{
    AccessError, Actor, Addressees, Config, Idle, LogConfig, Objects, Runtime, ShardIndex, Shards,
    SnapshotError, TaskError,
};
use serde::{Deserialize, Serialize};

const JOBS_MAX: usize = 1000;

fn config() -> Config {
    Config { jobs_max: JOBS_MAX, ..Config::default() }
}

#[test]
fn reads_of_a_snapshot_are_refused_when_there_are_too_many() {
    let watchdog = Watchdog::new("reads_of_a_snapshot_are_refused_when_there_are_too_many");
    let runtime = start::<Counter>(1, config());
    let handle = runtime.handle();
    handle.ask(Message::Add { to: 1, by: 7 }).wait().expect("it is added");
    let snapshot = handle.snapshot().wait().expect("it opens");
    // The shard is held up, so nothing that is asked of it begins before it has all come.
    let held = hold_up(&runtime, ShardIndex(0));
    let reads: Vec<_> = (0..3 * JOBS_MAX).map(|_| snapshot.get(1)).collect();
    drop(held);
    let (mut read, mut refused) = (0, 0);
    for outcome in reads {
        match outcome.wait() {
            Ok(state) => {
                assert_eq!(state, Some(7));
                read += 1;
            }
            Err(error) => {
                assert_eq!(error, SnapshotError::Overloaded);
                refused += 1;
            }
        }
    }
    // Those that opened the snapshot and started the task are done, and may not be let go of yet.
    assert!(
        read >= JOBS_MAX - 2 && refused > 0 && read + refused == 3 * JOBS_MAX,
        "{read} read, {refused} refused"
    );

    // Those that nobody waits for are let go of, and others find room. So does a snapshot, which
    // asks as well.
    for _ in 0..20 * JOBS_MAX {
        drop(snapshot.get(1));
        watchdog.feed();
    }
    until(|| snapshot.get(1).wait() == Ok(Some(7)));
    until(|| match handle.snapshot().wait() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error, SnapshotError::Overloaded);
            false
        }
    });
    // One of many objects is one job.
    let all = snapshot.get_all((0..10 * JOBS_MAX as u64).map(|id| id % 3)).wait().expect("there is room");
    assert_eq!(all.iter().flatten().count(), all.len() / 3);
    assert!(runtime.shutdown().drained);
}

#[test]
fn many_snapshots_are_closed_one_by_one() {
    let watchdog = Watchdog::new("many_snapshots_are_closed_one_by_one");
    let runtime = start::<Counter>(2, Config::default());
    let handle = runtime.handle();
    for at in 0..20 {
        let snapshots: Vec<_> = (0..1000).map(|_| handle.snapshot()).collect();
        let snapshots: Vec<_> = snapshots.into_iter().map(|it| it.wait().expect("it opens")).collect();
        // In the order they were opened, in the other, and those in the middle first.
        let mut order: Vec<_> = snapshots.into_iter().enumerate().collect();
        order.sort_by_key(|(number, _)| match at % 3 {
            0 => *number,
            1 => usize::MAX - *number,
            _ => number.wrapping_mul(7919) % 1000,
        });
        order.into_iter().for_each(drop);
        watchdog.feed();
    }
    assert!(runtime.shutdown().drained);
}

#[test]
fn tasks_are_refused_when_too_many_wait_to_be_started() {
    let _watchdog = Watchdog::new("tasks_are_refused_when_too_many_wait_to_be_started");
    let runtime = start::<Counter>(1, Config { jobs_max: 16, ..Config::default() });
    let held = hold_up(&runtime, ShardIndex(0));
    let tasks: Vec<_> = (0..64).map(|_| runtime.on_each_shard(|_| async { 7 })).collect();
    drop(held);
    let outcomes: Vec<_> = tasks.into_iter().map(|task| task.wait().pop().expect("one shard")).collect();
    let done = outcomes.iter().filter(|outcome| **outcome == Ok(7)).count();
    // The one that started the task which holds the shard up may not be let go of yet.
    assert!((15..=16).contains(&done), "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(7) | Err(TaskError::Overloaded))));
}

/// Numbers that last.
struct Kept;

#[derive(Clone, Serialize, Deserialize)]
struct Put(u64);

impl Actor for Kept {
    type Id = u64;
    type State = u64;
    type Message = Put;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(Put(id): &Put, to: &mut Addressees<u64>) {
        to.write(*id);
    }

    fn receive(Put(id): &Put, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        *objects.get_or_insert_with(*id, || 0)? += 1;
        Ok(())
    }
}

fn open(directory: &Path, jobs_max: usize) -> Runtime<Kept> {
    let config =
        Config { shards: Shards::Count(1), idle: Idle::Spin(Duration::ZERO), jobs_max, ..Config::default() };
    let log = LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory) };
    Runtime::open(config, log).expect("it opens")
}

#[test]
fn tasks_that_wait_for_the_disk_are_woken_by_it() {
    let _watchdog = Watchdog::new("tasks_that_wait_for_the_disk_are_woken_by_it");
    const TASKS: usize = 5000;
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = open(directory.path(), TASKS + 16);
    let all = runtime.on_each_shard(|local| async move {
        let waits: Vec<_> = (0..TASKS as u64)
            .map(|id| {
                local.ask_now(&Put(id)).expect("it runs");
                local.durable()
            })
            .collect();
        let mut durable = 0;
        for wait in waits {
            wait.await.expect("the disk writes");
            durable += 1;
        }
        durable
    });
    assert_eq!(all.wait(), [Ok(TASKS)]);
    runtime.shutdown();
    // And beyond the bound it is said at once.
    let runtime = open(directory.path(), 16);
    let refused = runtime.on_each_shard(|local| async move {
        local.ask_now(&Put(1)).expect("it runs");
        let waits: Vec<_> = (0..20).map(|_| local.durable()).collect();
        let mut refused = 0;
        for wait in waits {
            match wait.await {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error, TaskError::Overloaded);
                    refused += 1;
                }
            }
        }
        refused
    });
    let refused = refused.wait().pop().expect("one shard").expect("it ends");
    assert!(
        refused == 0 || refused >= 4,
        "{refused}: more than 16 wait at once, unless the disk was that fast"
    );
    runtime.shutdown();
}

/// A number that cannot be copied if it is odd.
#[derive(Serialize, Deserialize)]
struct Brittle(u64);

impl Clone for Brittle {
    fn clone(&self) -> Self {
        assert!(self.0.is_multiple_of(2), "on purpose: {} is odd", self.0);
        Brittle(self.0)
    }
}

/// The waker of a task that cannot be woken.
struct Unwakeable;

impl Wake for Unwakeable {
    fn wake(self: Arc<Self>) {
        panic!("on purpose: it cannot be woken");
    }
}

struct Numbers;

impl Actor for Numbers {
    type Id = u64;
    type State = Brittle;
    type Message = Put;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(Put(id): &Put, to: &mut Addressees<u64>) {
        to.write(*id);
    }

    fn receive(Put(id): &Put, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        objects.get_or_insert_with(*id, || Brittle(*id)).map(|_| ())
    }
}

/// Reads of single objects go to a shard together. A read that fails must not touch the others. A
/// queue that lost its job would answer no read any more.
#[test]
fn single_reads_are_answered_one_by_one() {
    let watchdog = Watchdog::new("single_reads_are_answered_one_by_one");
    let config = Config { shards: Shards::Count(2), ..Config::default() };
    let runtime = Runtime::<Numbers>::start(config).expect("it starts");
    let handle = runtime.handle();
    for id in 0..64 {
        handle.ask(Put(id)).wait().expect("it is put");
    }
    let snapshot = handle.snapshot().wait().expect("it opens");
    for round in 0..50 {
        let reads: Vec<_> = (0..1000).map(|at| (at % 80, snapshot.get(at % 80))).collect();
        // The callers of the first hundred are gone. Wakers of the next hundred panic on the shard.
        (0..100).for_each(|_| drop(snapshot.get(2)));
        let mut unwakeable: Vec<_> = (0..100).map(|_| snapshot.get(2)).collect();
        for read in &mut unwakeable {
            let _ = Pin::new(read).poll(&mut Context::from_waker(&Waker::from(Arc::new(Unwakeable))));
        }
        for (id, read) in reads {
            match read.wait() {
                Ok(state) => {
                    assert_eq!(state.map(|state| state.0), (id < 64).then_some(id), "round {round}")
                }
                Err(SnapshotError::Panicked(why)) => {
                    assert!(id % 2 == 1 && why.contains("is odd"), "{id}: {why}")
                }
                Err(error) => panic!("{id}: {error}"),
            }
        }
        watchdog.feed();
    }
    // Threads read while the runtime stops. Each read is answered.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let reads: Vec<_> = (0..100).map(|at| snapshot.get(2 * (at % 32))).collect();
                    let mut outcomes = reads.into_iter().map(|read| read.wait().map(|state| state.is_some()));
                    if outcomes.any(|outcome| {
                        assert!(matches!(outcome, Ok(true) | Err(SnapshotError::Stopped)), "{outcome:?}");
                        outcome.is_err()
                    }) {
                        break;
                    }
                    watchdog.feed();
                }
            });
        }
        runtime.shutdown();
    });
    assert!(matches!(snapshot.get(2).wait(), Err(SnapshotError::Stopped)));
}
