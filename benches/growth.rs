//! How long is the worst pause of a single insertion while a shard's table grows from nothing to 4
//! million objects, beside a plain hash map?
//!
//! ```text
//! cargo bench --bench growth
//! ```
//! Objects of 64 bytes are inserted one by one by `ask_now` in a task on the shard, and each is
//! timed. That is done three times, each time by a new runtime: a pause that comes at the same
//! insertion every time is the table's own; the others are the machine's (other processes,
//! interrupts). So beside each run stands, of every insertion, the shortest of its three times. The
//! first run has memory fresh from the system; later ones may get some of what was given back.
//!
//! The work is checked: in the end every object must be there.

mod workload;

use std::time::{Duration, Instant};

use freehold::{Config, Local, Runtime, Shards, glommio};
use workload::report::{Conditions, Quantiles, brief, times};
use workload::{Counter, Message, PlainMap, State, Tally, id_of};

const RUNS: usize = 3;
/// The aim: no insertion takes longer.
const PAUSE_MAX: Duration = Duration::from_millis(10);

fn main() {
    let objects = if workload::is_a_test() { 20_000 } else { 4_000_000 };
    println!("{}", Conditions::now());
    println!(
        "settings    {objects} objects of 64 bytes, ids spread over 64 bits, one shard on a CPU of its own\n"
    );
    println!(
        "time of one insertion          {}     p99.99   the longest was number   longer than {}",
        Quantiles::HEAD,
        brief(PAUSE_MAX)
    );
    report("shard", (0..RUNS).map(|_| insert_in_shard(objects)));
    report("plain hash map", (0..RUNS).map(|_| insert_in_plain_map(objects)));
    println!("\nverified    all objects are there after each of {} runs", 2 * RUNS);
}

/// Prints each run, and what all have in common.
fn report(name: &str, runs: impl Iterator<Item = Vec<u32>>) {
    let mut common: Option<Vec<u32>> = None;
    for (at, run) in runs.enumerate() {
        line(&format!("{name}, run {}", at + 1), &run);
        common = Some(match common {
            None => run,
            Some(common) => common.into_iter().zip(run).map(|(shortest, time)| shortest.min(time)).collect(),
        });
    }
    line(&format!("{name}, in all {RUNS}"), &common.expect("there are runs"));
}

fn line(name: &str, nanoseconds: &[u32]) {
    let mut histogram = times();
    nanoseconds.iter().for_each(|&time| histogram.saturating_record(u64::from(time)));
    let (longest, _) =
        nanoseconds.iter().enumerate().max_by_key(|(_, time)| **time).expect("something was inserted");
    let long = nanoseconds.iter().filter(|time| Duration::from_nanos(u64::from(**time)) > PAUSE_MAX).count();
    let p9999 = brief(Duration::from_nanos(histogram.value_at_quantile(0.9999)));
    println!("{name:<31}{} {p9999:>10} {longest:>24} {long:>20}", Quantiles(&histogram));
}

/// Times insertions, in nanoseconds. All but the clock is outside of what is timed.
struct Times {
    nanoseconds: Vec<u32>,
}

impl Times {
    fn new(insertions: u64) -> Self {
        // Touched now, so that it is not touched for the first time between two insertions.
        let mut nanoseconds = vec![1; insertions as usize];
        nanoseconds.clear();
        Times { nanoseconds }
    }

    #[inline]
    fn insertion<T>(&mut self, insert: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let inserted = insert();
        self.nanoseconds.push(u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX));
        inserted
    }
}

fn insert_in_shard(objects: u64) -> Vec<u32> {
    let config = Config { shards: Shards::Count(1), ..Config::default() };
    let runtime = Runtime::<Counter>::start(config).unwrap_or_else(|error| panic!("{error}"));
    let insert = move |local: Local<Counter>| async move {
        let (mut times, mut tally) = (Times::new(objects), Tally::default());
        for object in 0..objects {
            let open = Message::Open { id: id_of(object) };
            tally.add(times.insertion(|| local.ask_now(&open)));
            if object % 256 == 0 {
                glommio::yield_if_needed().await;
            }
        }
        for object in 0..objects {
            tally.add(local.ask_now(&Message::Total { id: id_of(object) }));
        }
        (times.nanoseconds, tally)
    };
    let results = runtime.on_each_shard(insert).wait();
    let (nanoseconds, tally) =
        results.into_iter().next().expect("there is one shard").expect("the task does not panic");
    let report = runtime.shutdown();
    assert_eq!(tally.refused, 0, "every object was inserted and is there");
    assert_eq!(report.stats.objects(), objects, "no object is there twice");
    nanoseconds
}

fn insert_in_plain_map(objects: u64) -> Vec<u32> {
    let (mut times, mut map) = (Times::new(objects), PlainMap::default());
    for object in 0..objects {
        let id = id_of(object);
        times.insertion(|| map.insert(id, State::default()));
    }
    assert!((0..objects).all(|object| map.contains_key(&id_of(object))), "every object is there");
    times.nanoseconds
}
