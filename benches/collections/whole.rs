//! Collections in whole runtimes, by the clock: a log that is opened, a checkpoint, a crowd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freehold::{Config, LogConfig, Runtime, Shards};
use freehold_shard::Ack;
use hdrhistogram::Histogram;

use crate::report::{Quantiles, Spread, times};
use crate::{Fill, Market, Move, Place, Shelve, draw, rates};

/// Books on each side of a crowd's transactions, and how many of these are asked together.
const BOOKS: u64 = 1_000;
const CROWD: usize = 500;
/// How often a directory is opened.
const REOPENED: usize = 3;

/// Runtimes on threads of their own: what a log is read with, and what a crowd gets done.
pub(crate) fn runtimes(is_test: bool) {
    for entries in [10_000, 1_000_000].map(|entries| if is_test { entries / 1_000 } else { entries }) {
        let (first, _) = draw(entries, 0);
        println!("{entries} in a log that is opened: megabytes a second, megabytes");
        for (name, are_entries) in [("entries", true), ("plain objects", false)] {
            let (rates, bytes) = reopened(&first, are_entries);
            println!("  {name:<28}{rates}   {bytes:6.1}");
        }
    }
    for entries in [10_000, 1_000_000].map(|entries| if is_test { entries / 1_000 } else { entries }) {
        let (first, _) = draw(entries, 0);
        println!("{entries} in a checkpoint of a whole runtime: waits of a task of the shard, by the clock");
        println!("  {}\n  {}", Quantiles::HEAD, Quantiles(&turns_beside_a_checkpoint(&first)));
    }
    let count = if is_test { CROWD } else { 100_000 };
    println!("a crowd of transactions on two shards, each of two books: millions a second, by the clock");
    for (name, hot) in [
        ("of a thousand books", Hot::Nothing),
        ("one book in all of them", Hot::Object),
        ("and an order put into it", Hot::Collection),
    ] {
        println!("  {name:<28}{}", rates(count, || crowd(count, hot)));
    }
}

/// A runtime of one shard opens a directory whose log has these entries, or as many objects: how
/// many megabytes it read a second, by the clock, and how many it read.
fn reopened(first: &[Place], are_entries: bool) -> (Spread, f64) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let open = || {
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        // Nothing but the log is read: no checkpoint is made by itself.
        let log =
            LogConfig { ack: Ack::Applied, checkpoint_bytes: 1 << 40, ..LogConfig::at(directory.path()) };
        Runtime::<Market>::open(config, log).expect("it opens")
    };
    let runtime = open();
    for some in first.chunks(1000) {
        match are_entries {
            true => runtime.handle().call(Fill(some.to_vec())).wait().expect("they are new"),
            false => {
                let made = runtime.handle().call_all(some.iter().map(|place| Shelve(place.1))).wait();
                assert!(made.iter().all(Result::is_ok), "they are new");
            }
        }
    }
    runtime.shutdown();
    // The first start reads all of the last segment, its unused end too, and cuts it.
    open().shutdown();
    let mut bytes = 0.0;
    let rates = Spread::of((0..REOPENED).map(|_| {
        let runtime = open();
        let found = runtime.recovery().expect("there is a log");
        assert_eq!(found.objects as usize, first.len() + usize::from(are_entries), "each is there");
        bytes = found.bytes as f64 / 1e6;
        let rate = bytes / found.took.as_secs_f64();
        runtime.shutdown();
        rate
    }));
    (rates, bytes)
}

/// Which book all transactions change, and whether they put orders into it.
#[derive(Clone, Copy, PartialEq)]
enum Hot {
    Nothing,
    Object,
    Collection,
}

/// Transactions of two shards, each of two books: by the clock, as they wait for each other.
fn crowd(count: usize, hot: Hot) -> Duration {
    let runtime = Runtime::<Market>::start(Config { shards: Shards::Count(2), ..Config::default() });
    let runtime = runtime.expect("it starts");
    let handle = runtime.handle();
    let made = handle.call_all((0..2 * BOOKS).map(Shelve)).wait();
    assert!(made.iter().all(Result::is_ok), "they are new");
    let message = |nth: usize| {
        let nth = nth as u64;
        let first = if hot == Hot::Nothing { nth % BOOKS } else { 0 };
        let order = (hot == Hot::Collection).then_some((nth % 1_000, nth));
        Move { books: [first, BOOKS + nth * 7 % BOOKS], order }
    };
    let begin = Instant::now();
    for some in 0..count / CROWD {
        let moved = handle.call_all((0..CROWD).map(|nth| message(some * CROWD + nth))).wait();
        assert!(moved.iter().all(Result::is_ok), "every transaction is made");
    }
    let time = begin.elapsed();
    runtime.shutdown();
    time
}

/// A checkpoint of a whole runtime: how long a task of its shard waited for each of its turns.
fn turns_beside_a_checkpoint(first: &[Place]) -> Histogram<u64> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let config = Config { shards: Shards::Count(1), ..Config::default() };
    let log = LogConfig { ack: Ack::Applied, checkpoint_bytes: 1 << 40, ..LogConfig::at(directory.path()) };
    let runtime = Runtime::<Market>::open(config, log).expect("it opens");
    for some in first.chunks(1000) {
        runtime.handle().call(Fill(some.to_vec())).wait().expect("they are new");
    }
    let is_made = Arc::new(AtomicBool::new(false));
    let is_over = is_made.clone();
    let waits = runtime.on_each_shard(move |_| {
        let is_over = is_over.clone();
        async move {
            let (mut waits, mut before) = (times(), Instant::now());
            while !is_over.load(Ordering::Relaxed) {
                glommio::executor().yield_now().await;
                let now = Instant::now();
                waits.record((now - before).as_nanos() as u64).expect("no turn takes a minute");
                before = now;
            }
            waits
        }
    });
    runtime.checkpoint().expect("there is room");
    is_made.store(true, Ordering::Relaxed);
    let waits = waits.wait().pop().expect("there is one shard").expect("its task ended");
    runtime.shutdown();
    waits
}
