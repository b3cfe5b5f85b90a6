//! Ordered maps beside a collection: which structure should have the order of its entries?
//!
//! ```text
//! cargo bench -p freehold-peers --bench maps
//! ```
//! All on one thread, in one run, in turns: `BTreeMap`, which a collection has beside its slots; a
//! skip list that many threads may use (`crossbeam-skiplist`); redb in memory; and a collection of
//! a pure shard, changed by messages. A key has three numbers, a value two. Measured are pairs of a
//! removal and an insertion at random places, ranges of a hundred entries from random places, bytes
//! of an entry, and how long nothing else runs while all entries go. A collection is cleared for
//! that: its longest turn is what counts.
//!
//! Times are CPU times of the thread. What all find is compared.

mod collection;
mod redb;
#[path = "../../../benches/workload/report.rs"]
#[allow(dead_code, reason = "a bench uses a part of it")]
mod report;

use std::alloc::System;
use std::collections::BTreeMap;
use std::time::Duration;

use collection::OneShard;
use crossbeam_skiplist::SkipMap;
use redb::InMemory;
use report::{Conditions, Spread, brief, millions_per_second};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The collection, a price, a number.
pub type Place = (u64, u64, u64);
/// A user, a quantity.
pub type Value = (u64, u64);
/// A removal and an insertion.
pub type Swap = (Place, Place);

/// Entries of a range.
pub const RANGE: usize = 100;

/// What an entry has.
pub fn value((_, price, number): Place) -> Value {
    (number, price + 1)
}

/// An ordered map, whatever it is.
pub trait Ordered {
    /// Inserts these.
    fn fill(&mut self, places: &[Place]);
    /// The sum of the quantities that it took out.
    fn swap(&mut self, swaps: &[Swap]) -> u64;
    /// The sum of the quantities of a hundred entries from each of these on.
    fn ranges(&mut self, from: &[Place]) -> u64;
    /// Drops all. The times in which nothing else could run.
    fn empty(self: Box<Self>) -> Vec<Duration>;
}

/// How long it takes to drop something at once.
fn dropped(it: impl Sized) -> Vec<Duration> {
    let begin = cpu();
    drop(it);
    vec![cpu() - begin]
}

impl Ordered for BTreeMap<Place, Value> {
    fn fill(&mut self, places: &[Place]) {
        self.extend(places.iter().map(|place| (*place, value(*place))));
    }

    fn swap(&mut self, swaps: &[Swap]) -> u64 {
        let mut sum = 0;
        for (old, new) in swaps {
            sum += self.remove(old).expect("it is there").1;
            self.insert(*new, value(*new));
        }
        sum
    }

    fn ranges(&mut self, from: &[Place]) -> u64 {
        from.iter().flat_map(|from| self.range(from..).take(RANGE)).map(|(_, value)| value.1).sum()
    }

    fn empty(self: Box<Self>) -> Vec<Duration> {
        dropped(self)
    }
}

impl Ordered for SkipMap<Place, Value> {
    fn fill(&mut self, places: &[Place]) {
        places.iter().for_each(|place| drop(self.insert(*place, value(*place))));
    }

    fn swap(&mut self, swaps: &[Swap]) -> u64 {
        let mut sum = 0;
        for (old, new) in swaps {
            sum += self.remove(old).expect("it is there").value().1;
            self.insert(*new, value(*new));
        }
        sum
    }

    fn ranges(&mut self, from: &[Place]) -> u64 {
        from.iter().flat_map(|from| self.range(*from..).take(RANGE)).map(|entry| entry.value().1).sum()
    }

    fn empty(self: Box<Self>) -> Vec<Duration> {
        dropped(self)
    }
}

/// One of them, and what was measured of it.
struct Way {
    name: &'static str,
    map: Box<dyn Ordered>,
    bytes: usize,
    /// Millions a second: of pairs, and of entries of ranges.
    pairs: Vec<f64>,
    ranges: Vec<f64>,
    sums: Vec<u64>,
}

impl Way {
    fn new<M: Ordered + 'static>(name: &'static str, places: &[Place], map: impl FnOnce() -> M) -> Self {
        let region = Region::new(ALLOCATOR);
        let mut map: Box<dyn Ordered> = Box::new(map());
        map.fill(places);
        let change = region.change();
        let bytes = change.bytes_allocated - change.bytes_deallocated;
        Way { name, map, bytes, pairs: Vec::new(), ranges: Vec::new(), sums: Vec::new() }
    }

    fn round(&mut self, swaps: &[Swap], from: &[Place]) {
        let begin = cpu();
        self.sums.push(self.map.swap(swaps));
        self.pairs.push(millions_per_second(swaps.len() as u64, cpu() - begin));
        let begin = cpu();
        self.sums.push(self.map.ranges(from));
        self.ranges.push(millions_per_second((from.len() * RANGE) as u64, cpu() - begin));
    }

    /// Says all, and empties it. What it found.
    fn end(self, entries: usize) -> Vec<u64> {
        let Way { name, map, bytes, pairs, ranges, sums } = self;
        let mut turns = map.empty();
        turns.sort_unstable();
        let all_but = |parts: usize| brief(turns[turns.len() - 1 - turns.len() / parts]);
        println!(
            "  {name:<34}{}{}{:9.1}{:>12}{:>12}{:>12}",
            Spread::of(pairs),
            Spread::of(ranges),
            bytes as f64 / entries as f64,
            brief(turns.iter().sum()),
            all_but(1000),
            all_but(usize::MAX),
        );
        sums
    }
}

/// The CPU time of this thread: what else the machine does counts as little as can be.
pub fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Numbers that look drawn.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }
}

fn measure(entries: usize, rounds: usize, swaps: usize) {
    let mut draws = Draws(42);
    let mut there: Vec<Place> =
        (0..entries as u64).map(|number| (7, draws.next() % 1_000_000, number)).collect();
    let mut ways = [
        Way::new("BTreeMap", &there, BTreeMap::<Place, Value>::new),
        Way::new("crossbeam-skiplist", &there, SkipMap::<Place, Value>::new),
        Way::new("redb, 64 pairs a transaction", &there, || InMemory::new(64)),
        Way::new("redb, a transaction each", &there, || InMemory::new(1)),
        Way::new("a collection, 64 pairs a message", &there, || OneShard::new(64)),
        Way::new("a collection, a message each", &there, || OneShard::new(1)),
    ];
    for round in 0..rounds {
        let swaps: Vec<Swap> = (0..swaps)
            .map(|swap| {
                let at = draws.next() as usize % entries;
                let new = (7, draws.next() % 1_000_000, (entries + round * swaps + swap) as u64);
                (std::mem::replace(&mut there[at], new), new)
            })
            .collect();
        let from: Vec<Place> = (0..swaps.len() / RANGE).map(|_| (7, draws.next() % 1_000_000, 0)).collect();
        ways.iter_mut().for_each(|way| way.round(&swaps, &from));
    }
    println!("{entries} entries");
    println!(
        "  {:<34}{:<30}{:<30}{:>7}{:>12}{:>12}{:>12}",
        "",
        "  pairs, millions a second",
        "  in ranges, millions a second",
        "bytes",
        "emptied in",
        "p99.9",
        "longest"
    );
    let sums = ways.map(|way| way.end(entries));
    assert!(sums.windows(2).all(|two| two[0] == two[1]), "all ways find the same");
}

fn main() {
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    println!("{}", Conditions::now());
    let sizes = if is_test {
        [(100, 2, 300), (1_000, 2, 300)]
    } else {
        [(10_000, 5, 100_000), (1_000_000, 5, 100_000)]
    };
    for (entries, rounds, swaps) in sizes {
        measure(entries, rounds, swaps);
    }
    println!("\nverified    all ways find the same entries, in pairs and in ranges");
}
