//! What does it cost to be on several machines: how much is acknowledged in a second, how soon is
//! one answer there, and how long does a takeover take?
//!
//! ```text
//! cargo bench -p freehold-replica                 one server and three, on this machine
//! ```
//! Beside each other in one run, on one disk: the runtime with its own log (`Ack::Durable`), and
//! the same with a stream on one server and on three (`Ack::Replicated`). And the stream by itself:
//! as many entries on their way as an owner has, of the same mean length. The servers share this
//! machine's CPUs and its disk with the runtime, and each of three syncs on that one disk.
//!
//! The work is checked: every message is counted once, on the node that took over, too.

#[path = "../tests/nodes/servers.rs"]
#[allow(dead_code, reason = "it uses a part of it")]
mod servers;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use freehold::{AccessError, Actor, Addressees, Config, Handle, Idle, LogConfig, Objects, Runtime, Shards};
use freehold_replica::{ReplicaConfig, Replicated};
use freehold_shard::log::appends::FLIGHT_MAX;
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
    /// How many batches are under way.
    under_way: [usize; 2],
    in_batch: u64,
    objects: u64,
}

const BENCH: Size = Size { alone: 500, batches: 400, under_way: [2, 32], in_batch: 4096, objects: 1_000_000 };
const TEST: Size = Size { alone: 5, batches: 4, under_way: [1, 2], in_batch: 64, objects: 1000 };

fn config() -> Config {
    Config { shards: Shards::Count(1), idle: Idle::Spin(Duration::ZERO), ..Config::default() }
}

/// One answer after the other, and many at once. `appended` says how many entries the stream has
/// got, and how many bytes. Returns the bytes a second of each.
fn measure(name: &str, handle: &Handle<Counters>, size: Size, appended: impl Fn() -> (u64, u64)) -> [f64; 2] {
    let mut alone: Vec<Duration> = (0..size.alone)
        .map(|_| {
            let begun = Instant::now();
            handle.ask(Add(0)).wait().expect("it is counted");
            begun.elapsed()
        })
        .collect();
    alone.sort();
    let at = |part: usize| alone[(alone.len() - 1) * part / 1000];
    println!("{name:<14} one answer: p50 {:>8.1?} p99 {:>8.1?} p99.9 {:>8.1?}", at(500), at(990), at(999));
    size.under_way.map(|under_way| {
        let ask = || handle.ask_all((0..size.in_batch).map(|id| Add(1 + id % 4096)));
        let (begun, before) = (Instant::now(), appended());
        let mut asked = VecDeque::new();
        for _ in 0..size.batches {
            asked.push_back(ask());
            if asked.len() == under_way {
                let first = asked.pop_front().expect("it is there");
                assert!(first.wait().iter().all(Result::is_ok));
            }
        }
        asked.into_iter().for_each(|asked| assert!(asked.wait().iter().all(Result::is_ok)));
        let (took, after) = (begun.elapsed().as_secs_f64(), appended());
        let rate = size.batches as f64 * size.in_batch as f64 / took;
        let (entries, bytes) = (after.0 - before.0, (after.1 - before.1) as f64 / took / 1e6);
        println!(
            "{:<14} {:>7} in flight: {rate:>9.0} messages/s, {:>5.1} MB/s of records; {entries} entries, {bytes:.1} MB/s",
            "",
            under_way as u64 * size.in_batch,
            rate * 79.0 / 1e6
        );
        bytes
    })
}

/// How many bytes a second a stream takes by itself, in entries of so many bytes.
fn measure_stream(servers: &Servers, count: usize, entry: usize, size: Size) -> f64 {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an executor");
    executor.block_on(async {
        let options = async_nats::ConnectOptions::new().user_and_password("app".into(), "secret".into());
        let client = options.connect(servers.urls()).await.expect("they are there");
        let context = async_nats::jetstream::new(client);
        let config = async_nats::jetstream::stream::Config {
            name: format!("RAW{entry}"),
            subjects: vec![format!("raw.{entry}")],
            num_replicas: count,
            ..Default::default()
        };
        context.create_stream(config).await.expect("it is made");
        let (payload, begun) = (vec![7; entry], Instant::now());
        let entries = size.batches * size.in_batch as usize * 79 / entry.max(1) + 1;
        let mut under_way = VecDeque::new();
        for _ in 0..entries {
            under_way.push_back(
                context.publish(format!("raw.{entry}"), payload.clone().into()).await.expect("it is sent"),
            );
            if under_way.len() == FLIGHT_MAX {
                under_way.pop_front().expect("it is there").await.expect("it is there");
            }
        }
        for appended in under_way {
            appended.await.expect("it is there");
        }
        (entries * entry) as f64 / begun.elapsed().as_secs_f64() / 1e6
    })
}

fn local(size: Size) {
    let place = tempfile::tempdir().expect("a place");
    let log = LogConfig::at(place.path());
    let runtime = Runtime::<Counters>::open(config(), log).expect("it opens");
    measure("its own log", &runtime.handle(), size, || (0, 0));
}

fn open(directory: &Path, replica: ReplicaConfig) -> Replicated<Counters> {
    Replicated::open(config(), LogConfig::at(directory), replica).expect("it joins")
}

fn replicated(count: usize, size: Size) {
    let Some(servers) = Servers::start("bench replicated", count) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let owner = open(places[0].path(), servers.config("a"));
    let handle = owner.handle().expect("nobody else owns it");
    let appended = || (owner.status().latency.appends, owner.status().stream_bytes);
    let rates = measure(&format!("a stream on {count}"), &handle, size, appended);
    let latency = owner.status().latency;
    let took = latency.total / latency.appends.max(1) as u32;
    println!("{:<14} {} entries, {took:.2?} each; {} looks", "", latency.appends, latency.looks);
    for entry in [64 << 10, 256 << 10, 1_000_000] {
        let by_itself = measure_stream(&servers, count, entry, size);
        let [few, many] = rates.map(|rate| rate / by_itself);
        println!(
            "{:<14} the stream by itself, {FLIGHT_MAX} entries of {entry} bytes: {by_itself:.1} MB/s; the database had {few:.2} and {many:.2} of it",
            ""
        );
        if size.batches < BENCH.batches {
            break;
        }
    }
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
    println!("one shard, states of 64 bytes");
    local(size);
    replicated(1, size);
    replicated(3, size);
}
