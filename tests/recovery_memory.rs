//! A start needs no more memory than the running database, or a fifth more.
//!
//! Every allocation of the process is counted, so this file is one test and nothing else runs
//! beside it.

mod support;

use std::alloc::System;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use freehold::{AccessError, Actor, Addressees, Config, Idle, LogConfig, Objects, Runtime, Shards};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::Watchdog;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Two logs are read at a time, each by pieces of 2 MiB, however much there is.
const PIECES: isize = 4 << 20;

/// How many bytes are allocated now.
fn live() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize + stats.bytes_reallocated
}

/// Objects that hold some bytes.
struct Blobs;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    /// The object is to hold so many bytes.
    Put(u64, usize),
    /// The object tells each object of a range so many bytes, which keep nothing of them.
    Tell(u64, u64, usize),
    Told(u64, ByteBuf),
}

impl Actor for Blobs {
    type Id = u64;
    type State = ByteBuf; // one run of bytes, which a debug build would else write byte by byte
    type Message = Message;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Put(id, _) | Message::Tell(id, ..) | Message::Told(id, _) => to.write(*id),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        match message {
            Message::Put(id, bytes) => objects.insert(*id, vec![*id as u8; *bytes].into()).map(drop),
            Message::Tell(id, others, bytes) => {
                for other in 0..*others {
                    objects.tell(Message::Told(other, vec![*id as u8; *bytes].into()))?;
                }
                Ok(())
            }
            Message::Told(id, bytes) => objects.insert(*id, bytes[..1].to_vec().into()).map(drop),
        }
    }
}

fn open(directory: &Path, most: &Arc<AtomicIsize>) -> Runtime<Blobs> {
    let idle = Idle::Spin(Duration::ZERO);
    let config = Config { shards: Shards::Count(2), idle, ..Config::default() };
    let most = most.clone();
    let note = move |_| {
        most.fetch_max(live(), Ordering::Relaxed);
    };
    let log =
        LogConfig { segment_bytes: 4 << 20, progress: Some(Arc::new(note)), ..LogConfig::at(directory) };
    Runtime::open(config, log).expect("it opens")
}

/// Writes so many objects, some at a time.
fn put(runtime: &Runtime<Blobs>, watchdog: &Watchdog, objects: u64, bytes: usize) {
    let some = (4 << 20) / (bytes as u64 + 512);
    for first in (0..objects).step_by(some as usize) {
        watchdog.feed();
        let some = (first..objects.min(first + some)).map(|id| Message::Put(id, bytes));
        runtime.handle().ask_all(some).wait().into_iter().for_each(|put| put.expect("it is put"));
    }
}

// Recovery made a map of each log, a map of all, and a list for each shard, and read every file as
// a whole: 1.9 times the memory of the running database, and 2.9 times where all objects had been
// written again since the checkpoint. What ran in its limits did not start again in them.
#[test]
fn a_start_needs_as_much_memory_as_the_running_database() {
    let watchdog = Watchdog::new("a_start_needs_as_much_memory_as_the_running_database");
    a_start_needs_nothing_for_messages_that_are_over(&watchdog);
    // Where the tables are most of it, and where the states are, and with them the files.
    for (objects, bytes) in [(80_000, 8), (6_000, 4096)] {
        let place = tempfile::tempdir().expect("there is room");
        let most = Arc::new(AtomicIsize::new(0));
        let runtime = open(place.path(), &most);
        put(&runtime, &watchdog, objects, bytes);
        watchdog.feed();
        runtime.checkpoint().expect("it can be made");
        watchdog.feed();
        put(&runtime, &watchdog, objects, bytes);
        runtime.shutdown();
        watchdog.feed();

        let before = live();
        most.store(0, Ordering::Relaxed);
        let runtime = open(place.path(), &most);
        assert_eq!(runtime.recovery().expect("there is a log").objects, objects);
        let (peak, running) = (most.load(Ordering::Relaxed) - before, live() - before);
        println!("running {running} bytes, a start {peak}");
        assert!(
            peak <= running * 6 / 5 + PIECES,
            "a start takes {peak} bytes, and the running database {running}"
        );
        assert!(peak > objects as isize * (16 + bytes as isize), "{peak} bytes cannot be all");
    }
}

// A replay kept each message that a log has in bytes, and the number of each that was delivered,
// until all was read: a start after a gigabyte of short messages took a gigabyte and a half, and
// the running database a few megabytes.
fn a_start_needs_nothing_for_messages_that_are_over(watchdog: &Watchdog) {
    const OBJECTS: u64 = 64;
    const BYTES: usize = 4 << 10;
    let place = tempfile::tempdir().expect("there is room");
    let most = Arc::new(AtomicIsize::new(0));
    let runtime = open(place.path(), &most);
    for round in 0..120 {
        watchdog.feed();
        let tells = (0..2).map(|teller| Message::Tell(round * 2 + teller, OBJECTS, BYTES));
        runtime.handle().ask_all(tells).wait().into_iter().for_each(|told| told.expect("it is told"));
    }
    // It drains, so all of them are delivered.
    assert!(runtime.shutdown().drained);
    watchdog.feed();
    let before = live();
    most.store(0, Ordering::Relaxed);
    let runtime = open(place.path(), &most);
    let recovery = runtime.recovery().expect("there is a log");
    let told = 240 * OBJECTS as isize * BYTES as isize;
    assert!(recovery.owed == 0 && recovery.bytes as isize > told, "{recovery}");
    let (peak, running) = (most.load(Ordering::Relaxed) - before, live() - before);
    println!("running {running} bytes, a start {peak}, of messages {told}");
    assert!(peak <= running * 6 / 5 + PIECES, "a start takes {peak} bytes, and the database {running}");
    assert!(told > 4 * (running + PIECES), "{told} bytes of messages could not be seen beside {running}");
}
