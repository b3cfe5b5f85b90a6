//! What does it cost to be on several machines: how much is acknowledged in a second, how soon is
//! one answer there, and how long does a takeover take?
//!
//! ```text
//! cargo bench -p freehold-replica                 one server and three, on this machine
//! ```
//! Beside each other in one run, on one disk: the runtime with its own log (`Ack::Durable`), and
//! the same with a stream on one server and on three (`Ack::Replicated`). The servers share this
//! machine's CPUs and its disk with the runtime, and each of three syncs on that one disk.
//!
//! The work is checked: every message is counted once, on the node that took over, too.

#[path = "../tests/nodes/servers.rs"]
#[allow(dead_code, reason = "it uses a part of it")]
mod servers;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use freehold::{AccessError, Actor, Addressees, Config, Handle, Idle, LogConfig, Objects, Runtime, Shards};
use freehold_replica::{ReplicaConfig, Replicated};
use serde::{Deserialize, Serialize};
use servers::Servers;

/// Counters with some weight.
struct Counters;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Add(u64);

impl Actor for Counters {
    type Id = u64;
    type State = [u64; 8];
    type Message = Add;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(message: &Add, to: &mut Addressees<u64>) {
        to.write(message.0);
    }

    fn receive(message: &Add, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        let counter = objects.get_or_insert_with(message.0, || [0; 8])?;
        counter[0] += 1;
        Ok(counter[0])
    }
}

/// How much is done.
#[derive(Clone, Copy)]
struct Size {
    alone: usize,
    batches: usize,
    in_batch: u64,
    objects: u64,
}

const BENCH: Size = Size { alone: 500, batches: 400, in_batch: 4096, objects: 1_000_000 };
const TEST: Size = Size { alone: 5, batches: 4, in_batch: 64, objects: 1000 };

fn config() -> Config {
    Config { shards: Shards::Count(1), idle: Idle::Spin(Duration::ZERO), ..Config::default() }
}

/// One answer after the other, and many at once.
fn measure(name: &str, handle: &Handle<Counters>, size: Size) {
    let mut alone: Vec<Duration> = (0..size.alone)
        .map(|_| {
            let begun = Instant::now();
            handle.ask(Add(0)).wait().expect("it is counted");
            begun.elapsed()
        })
        .collect();
    alone.sort();
    let at = |part: usize| alone[(alone.len() - 1) * part / 1000];
    let begun = Instant::now();
    // Two batches are always under way.
    let ask = |_: usize| handle.ask_all((0..size.in_batch).map(|id| Add(1 + id % 4096)));
    let mut before = ask(0);
    for batch in 1..size.batches {
        let next = ask(batch);
        assert!(before.wait().iter().all(Result::is_ok));
        before = next;
    }
    assert!(before.wait().iter().all(Result::is_ok));
    let took = begun.elapsed();
    let rate = size.batches as f64 * size.in_batch as f64 / took.as_secs_f64();
    println!(
        "{name:<22} one answer: p50 {:>8.1?} p99 {:>8.1?} p99.9 {:>8.1?}   many: {:>9.0} messages/s, {:>6.1} MB/s of records",
        at(500),
        at(990),
        at(999),
        rate,
        rate * 79.0 / 1e6
    );
}

fn local(size: Size) {
    let place = tempfile::tempdir().expect("a place");
    let log = LogConfig::at(place.path());
    let runtime = Runtime::<Counters>::open(config(), log).expect("it opens");
    measure("its own log", &runtime.handle(), size);
}

fn open(directory: &Path, replica: ReplicaConfig) -> Replicated<Counters> {
    Replicated::open(config(), LogConfig::at(directory), replica).expect("it joins")
}

fn replicated(count: usize, size: Size) {
    let Some(servers) = Servers::start("bench replicated", count) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let owner = open(places[0].path(), servers.config("a"));
    let handle = owner.handle().expect("nobody else owns it");
    measure(&format!("a stream on {count}"), &handle, size);
    let latency = owner.status().latency;
    println!(
        "{:<22} {} entries, {:.2?} each; {} looks",
        "",
        latency.appends,
        latency.total / latency.appends.max(1) as u32,
        latency.looks
    );
    if count > 1 {
        return;
    }
    for first in (0..size.objects).step_by(10_000) {
        let many = (first..(first + 10_000).min(size.objects)).map(|id| Add((1 << 32) + id));
        assert!(handle.ask_all(many).wait().iter().all(Result::is_ok));
    }
    let standby = open(places[1].path(), servers.config("b"));
    let shown = standby.snapshot().expect("it is a standby").len();
    let begun = Instant::now();
    standby.promote().expect("it can");
    let took = begun.elapsed();
    let again = standby.handle().expect("it is the owner").ask(Add(1 << 32)).wait();
    assert_eq!(again, Ok(2), "it has what the other had");
    println!("a takeover by a warm standby of {shown} objects: {took:.2?}");
}

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let size = if is_test { TEST } else { BENCH };
    println!("one shard, {} in flight, states of 64 bytes", 2 * size.in_batch);
    local(size);
    replicated(1, size);
    replicated(3, size);
}
