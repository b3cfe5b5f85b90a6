//! Checkpoints end, whatever is written meanwhile, and the logs stay as short as was promised.
//!
//! The story: four million objects were written uniformly, a million a second. A checkpoint was a
//! snapshot like any other, so all that was overwritten since it began was kept for it. That became
//! more than `limits.versions_max` before the checkpoint had passed all objects. The shard then
//! revoked the oldest snapshot: the checkpoint's own. None of eight ended, and the log grew for
//! ever.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{Watchdog, until};
use freehold::{
    AccessError, Actor, Addressees, Config, Idle, Limits, LogConfig, ObjectId, Objects, Runtime, Shards,
    SnapshotError,
};
use serde::{Deserialize, Serialize};

/// Numbers in groups: all of a group are on one shard, so that one message writes many of them.
struct Grid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Place {
    group: u8,
    number: u32,
}

impl ObjectId for Place {
    fn placement(&self) -> impl std::hash::Hash {
        self.group
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    /// Makes these numbers of a group.
    Make { group: u8, from: u32, to: u32 },
    /// Adds one to so many of the first numbers of a group, anywhere.
    Add { group: u8, of: u32, seed: u32, times: u32 },
    /// The sum of these numbers of a group.
    Sum { group: u8, from: u32, to: u32 },
}

/// Anywhere below `below`, and another place for each `seed`.
fn anywhere(seed: u32, below: u32) -> u32 {
    let mixed = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((((mixed ^ (mixed >> 29)) & 0xffff_ffff) * u64::from(below)) >> 32) as u32
}

impl Actor for Grid {
    type Id = Place;
    type State = u64;
    type Message = Message;
    type Reply = u64;
    type Error = AccessError<Place>;

    fn addressees(message: &Message, to: &mut Addressees<Place>) {
        match *message {
            Message::Make { group, from, .. } => to.write(Place { group, number: from }),
            Message::Add { group, of, seed, .. } => {
                to.write(Place { group, number: anywhere(seed, of) });
            }
            Message::Sum { group, from, .. } => to.read(Place { group, number: from }),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<Place>> {
        match *message {
            Message::Make { group, from, to } => {
                for number in from..to {
                    objects.insert(Place { group, number }, 0)?;
                }
                Ok(0)
            }
            Message::Add { group, of, seed, times } => {
                for seed in seed..seed + times {
                    let place = Place { group, number: anywhere(seed, of) };
                    *objects.get_mut(place)?.expect("it was made") += 1;
                }
                Ok(u64::from(times))
            }
            Message::Sum { group, from, to } => {
                let mut sum = 0;
                for number in from..to {
                    sum += objects.get(Place { group, number })?.expect("it was made");
                }
                Ok(sum)
            }
        }
    }
}

const GROUPS: u8 = 4;
/// Numbers of one message, as many as there can be, and messages of one batch.
const TIMES: u32 = 64;
const MESSAGES: u32 = 16;
const SEGMENT_BYTES: usize = 256 << 10;
const SHARDS: usize = 2;
/// How many a shard takes beside what the log has: those at its ends, the next one, and spare ones.
const SEGMENTS: usize = 6;

/// How many objects there are in each group. Four million in all take a debug build too long.
fn numbers() -> u32 {
    let all = match std::env::var("FREEHOLD_CHECKPOINT_OBJECTS") {
        Ok(objects) => objects.parse().expect("FREEHOLD_CHECKPOINT_OBJECTS is a number"),
        Err(_) if cfg!(debug_assertions) => 400_000,
        Err(_) => 4_000_000,
    };
    all / u32::from(GROUPS)
}

fn config(limits: Limits) -> Config {
    Config {
        shards: Shards::Count(SHARDS),
        idle: Idle::Spin(Duration::ZERO),
        limits,
        slow_turn: Duration::from_secs(1),
        ..Config::default()
    }
}

/// All numbers of all groups, in pieces as one message takes them.
fn pieces(numbers: u32) -> impl Iterator<Item = (u8, u32, u32)> {
    let of_group = move |group| {
        let froms = (0..numbers).step_by(TIMES as usize);
        froms.map(move |from| (group, from, (from + TIMES).min(numbers)))
    };
    (0..GROUPS).flat_map(of_group)
}

fn make(runtime: &Runtime<Grid>, numbers: u32, watchdog: &Watchdog) {
    let messages: Vec<_> =
        pieces(numbers).map(|(group, from, to)| Message::Make { group, from, to }).collect();
    for messages in messages.chunks(1000) {
        let made = runtime.handle().ask_all(messages.to_vec()).wait();
        made.into_iter().for_each(|made| _ = made.expect("they are made"));
        watchdog.feed();
    }
}

/// Adds as fast as it goes until it is over, by some threads. Returns how often.
fn add_until(runtime: &Runtime<Grid>, numbers: u32, is_over: &AtomicBool, feed: impl Fn() + Sync) -> u64 {
    let writers = 0..3_u32;
    std::thread::scope(|scope| {
        let feed = &feed;
        let writers = writers.map(|writer| {
            let handle = runtime.handle();
            scope.spawn(move || {
                let (mut seed, mut added) = (writer << 30, 0);
                while !is_over.load(Ordering::Relaxed) {
                    let adds = (0..MESSAGES).map(|at| {
                        let seed = seed + at * TIMES;
                        Message::Add {
                            group: (at % u32::from(GROUPS)) as u8,
                            of: numbers,
                            seed,
                            times: TIMES,
                        }
                    });
                    let all = handle.ask_all(adds).wait();
                    added += all.into_iter().map(|added| added.expect("they exist")).sum::<u64>();
                    seed += MESSAGES * TIMES;
                    feed();
                }
                added
            })
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().map(|writer| writer.join().expect("it does not panic")).sum()
    })
}

fn sum(runtime: &Runtime<Grid>, numbers: u32) -> u64 {
    let sums = pieces(numbers).map(|(group, from, to)| Message::Sum { group, from, to });
    runtime.handle().ask_all(sums).wait().into_iter().map(|sum| sum.expect("they exist")).sum()
}

/// Bytes of the files whose names begin like this.
fn bytes(directory: &Path, prefixes: &[&str]) -> u64 {
    let files = std::fs::read_dir(directory).expect("it can be listed");
    files
        .filter_map(|file| {
            let file = file.expect("it can be listed");
            let name = file.file_name().into_string().expect("names are plain");
            let is_one = prefixes.iter().any(|prefix| name.starts_with(prefix));
            // It may just have been renamed.
            is_one.then(|| file.metadata().map_or(0, |file| file.len()))
        })
        .sum()
}

#[test]
fn checkpoints_end_and_logs_stay_short_while_all_objects_are_written() {
    let watchdog = Watchdog::new("checkpoints_end_and_logs_stay_short");
    let numbers = numbers();
    let objects = numbers * u32::from(GROUPS);
    let directory = tempfile::tempdir().expect("there is room");
    let checkpoint_bytes = u64::from(objects) * 8;
    let log = LogConfig {
        segment_bytes: SEGMENT_BYTES,
        checkpoint_bytes,
        backlog_bytes: SEGMENT_BYTES,
        ..LogConfig::at(directory.path())
    };
    // Far less than is written while a checkpoint passes all objects.
    let limits = Limits { versions_max: objects as usize / 16 / SHARDS, ..Limits::default() };
    let runtime = Runtime::<Grid>::open(config(limits), log.clone()).expect("it opens");
    make(&runtime, numbers, &watchdog);
    let (is_over, largest) = (AtomicBool::new(false), AtomicU64::new(0));
    let look = || {
        largest.fetch_max(bytes(directory.path(), &["log-", "spare-"]), Ordering::Relaxed);
        watchdog.feed();
    };
    // Some that are asked for, and some that come by themselves. None is given up.
    let added = std::thread::scope(|scope| {
        let writers = scope.spawn(|| add_until(&runtime, numbers, &is_over, look));
        let asked: Vec<_> = (0..2).map(|_| runtime.checkpoint()).collect();
        let ended = || runtime.stats().log.map_or(0, |log| log.checkpoints + log.failed);
        let more = ended() + 2;
        until(|| asked.iter().any(Result::is_err) || ended() >= more);
        is_over.store(true, Ordering::Relaxed);
        for asked in asked {
            asked.expect("a checkpoint ends whatever is written meanwhile");
        }
        writers.join().expect("it does not panic")
    });
    let log_stats = runtime.stats().log.expect("there is a log");
    println!("{added} added, {log_stats:?}, at most {largest:?} bytes of log");
    assert_eq!(log_stats.failed, 0, "{log_stats:?}");
    // What one turn of each shard writes is recorded before it is counted.
    let bound = log_stats.bytes_max + ((SEGMENTS + 1) * SHARDS * SEGMENT_BYTES) as u64;
    assert!(largest.into_inner() <= bound, "{bound} bytes were promised");
    assert_eq!(sum(&runtime, numbers), added);
    runtime.shutdown();
    // What the last checkpoint and the log have is all of it.
    let runtime = Runtime::<Grid>::open(config(limits), log).expect("it opens again");
    assert_eq!(sum(&runtime, numbers), added);
}

/// Siblings of that story: a snapshot that somebody has forgotten, and bounds so tight that
/// whatever is kept is too much or too old. Snapshots are revoked by them, checkpoints are not.
#[test]
fn what_revokes_snapshots_lets_checkpoints_end() {
    let watchdog = Watchdog::new("what_revokes_snapshots_lets_checkpoints_end");
    let numbers = 10_000;
    let tight = [
        Limits { versions_max: 0, ..Limits::default() },
        Limits { versions_max: 500, ..Limits::default() },
        Limits { snapshot_age_max: Duration::ZERO, ..Limits::default() },
    ];
    for limits in tight {
        let directory = tempfile::tempdir().expect("there is room");
        let log = LogConfig { segment_bytes: SEGMENT_BYTES, ..LogConfig::at(directory.path()) };
        let runtime = Runtime::<Grid>::open(config(limits), log.clone()).expect("it opens");
        make(&runtime, numbers, &watchdog);
        let is_over = AtomicBool::new(false);
        let added = std::thread::scope(|scope| {
            let writers = scope.spawn(|| add_until(&runtime, numbers, &is_over, || watchdog.feed()));
            let made: Vec<_> = (0..3)
                .map(|_| {
                    let forgotten = runtime.handle().snapshot().wait().expect("it opens");
                    let made = runtime.checkpoint();
                    let place = Place { group: 0, number: 0 };
                    until(|| forgotten.get(place).wait() == Err(SnapshotError::Expired));
                    made
                })
                .collect();
            is_over.store(true, Ordering::Relaxed);
            made.into_iter().for_each(|made| _ = made.expect("nothing revokes a checkpoint"));
            writers.join().expect("it does not panic")
        });
        assert_eq!(sum(&runtime, numbers), added);
        runtime.shutdown();
        let runtime = Runtime::<Grid>::open(config(limits), log).expect("it opens again");
        assert_eq!(sum(&runtime, numbers), added);
    }
}
