//! What does it cost to be durable: how fast is the log, how soon is a message acknowledged, how
//! long does a recovery take, and what does a checkpoint cost those who work beside it?
//!
//! ```text
//! cargo bench --bench durable                    everything, some minutes
//! cargo bench --bench durable -- disk      or encoding, load, recovery, checkpoint, large
//! FREEHOLD_BENCH_DIR=/mnt/nvme cargo bench --bench durable
//! ```
//! - *Disk*: what the disk does by itself, in this very run: one aligned write at a time, each
//!   synced (`O_DSYNC`), into a file that was zero-written before, by the same executor on the same
//!   ring, past the page cache.
//! - *Encoding*: in a task on one shard, `ask_now` adds to counters: without a log, and with one
//!   that answers when applied. Only the messages are timed, in runs short enough that the disk
//!   never holds them up.
//! - *Load*: asks from one thread outside, so many in flight, of counters on all shards: no log,
//!   applied, durable. The latency is from the ask to its answer in hand; beyond 256 in flight they
//!   are sent by `ask_all`, 256 at a time.
//! - *Recovery*: the time from opening a directory to having all objects in memory, with nothing
//!   but log, and with a checkpoint.
//! - *Checkpoint*: the same load with checkpoints one after another, and without any.
//! - *Large*: how long a read of another object waits beside a checkpoint of large states.
//!
//! The work is checked: every message is in the counters, and after the next start, too.

mod workload;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freehold::{
    AccessError, Ack, Actor, Addressees, Ask, AskAll, Config, Handle, LogConfig, Objects, Runtime, Shards,
    Stats, glommio,
};
use glommio::io::OpenOptions;
use hdrhistogram::Histogram;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use workload::report::{Conditions, Spread, brief, table, times};
use workload::{
    Asked, Counter, Draws, Message, SEED, Tally, add_on_shard, additions, id_of, on_shard, totals,
};

/// Messages of one batch, where there are many in flight.
const BATCH: u64 = 256;

fn main() {
    let Some(asked) = Asked::of_arguments() else { return };
    let size = if workload::is_a_test() { Size::TEST } else { Size::BENCH };
    println!(
        "{}\nsettings    seed {SEED:#x}, counters of 64 bytes, on {}\n",
        Conditions::now(),
        place().display()
    );
    if asked.has("disk") {
        disk(size);
    }
    if asked.has("encoding") {
        encoding(size);
    }
    if asked.has("load") {
        load(size);
    }
    if asked.has("recovery") {
        recovery(size);
    }
    if asked.has("checkpoint") {
        checkpoint(size);
    }
    if asked.has("large") {
        large(size);
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    /// Synced writes of each length.
    writes: usize,
    /// Rounds of what is compared.
    rounds: usize,
    objects: u64,
    /// Messages of one round of encoding.
    encoded: u64,
    /// How long each load lasts.
    load: Duration,
    /// Messages that a recovery goes through.
    recovered: u64,
    /// Bytes of all large states together.
    large: usize,
}

impl Size {
    const BENCH: Size = Size {
        writes: 2_000,
        rounds: 41,
        objects: 10_000,
        encoded: 20_000,
        load: Duration::from_secs(2),
        recovered: 20_000_000,
        large: 256 << 20,
    };
    const TEST: Size = Size {
        writes: 5,
        rounds: 2,
        objects: 100,
        encoded: 200,
        load: Duration::from_millis(20),
        recovered: 5_000,
        large: 4 << 20,
    };
}

/// Where the logs are: on a disk, which the system's place for temporary files may not be.
fn place() -> PathBuf {
    std::env::var_os("FREEHOLD_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from)
}

fn directory() -> tempfile::TempDir {
    std::fs::create_dir_all(place()).expect("a directory can be made");
    tempfile::tempdir_in(place()).expect("a directory can be made")
}

/// How a runtime keeps what it does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Log {
    Without,
    Applied,
    Durable,
}

impl Log {
    const ALL: [Log; 3] = [Log::Without, Log::Applied, Log::Durable];

    fn name(self) -> &'static str {
        match self {
            Log::Without => "no log",
            Log::Applied => "applied",
            Log::Durable => "durable",
        }
    }
}

fn start(shards: usize, log: Log, directory: &Path, checkpoint_bytes: u64) -> Runtime<Counter> {
    let config = Config { shards: Shards::Count(shards), ..Config::default() };
    let ack = if log == Log::Durable { Ack::Durable } else { Ack::Applied };
    let started = match log {
        Log::Without => Runtime::start(config),
        _ => Runtime::open(config, LogConfig { ack, checkpoint_bytes, ..LogConfig::at(directory) }),
    };
    started.unwrap_or_else(|error| panic!("{error}"))
}

/// Large enough that no checkpoint is made by itself.
const NO_CHECKPOINT: u64 = 1 << 40;

/// Does something on the first shard of a runtime.
fn open_objects(handle: &Handle<Counter>, objects: u64) {
    for first in (0..objects).step_by(4096) {
        let opens = (first..objects.min(first + 4096)).map(|object| Message::Open { id: id_of(object) });
        assert!(handle.ask_all(opens).wait().into_iter().all(|opened| opened.is_ok()), "every counter opens");
    }
}

/// The disk by itself.
fn disk(size: Size) {
    let directory = directory();
    let runtime = start(1, Log::Without, directory.path(), NO_CHECKPOINT);
    let mut table = table(["disk, one write at a time", "p50", "p99", "p99.9", "writes/s", "MB/s"]);
    for bytes in [4 << 10, 64 << 10, 1 << 20] {
        let path = directory.path().join(format!("file-{bytes}"));
        let file_bytes: usize = 64 << 20;
        std::fs::write(&path, vec![0; file_bytes]).expect("it can be written");
        std::fs::File::open(&path).and_then(|file| file.sync_all()).expect("it can be synced");
        let writes = size.writes.min(file_bytes / bytes * 4);
        let latencies = on_shard(&runtime, move |_| {
            let path = path.clone();
            async move { synced_writes(&path, bytes, file_bytes, writes).await }
        });
        let total: u64 =
            latencies.iter_recorded().map(|value| value.value_iterated_to() * value.count_at_value()).sum();
        let rate = writes as f64 / (total as f64 / 1e9);
        let at = |quantile| brief(Duration::from_nanos(latencies.value_at_quantile(quantile)));
        table.add_row([
            format!("{} KiB", bytes >> 10),
            at(0.5),
            at(0.99),
            at(0.999),
            format!("{rate:.0}"),
            format!("{:.0}", rate * bytes as f64 / 1e6),
        ]);
    }
    println!("{table}\n");
}

async fn synced_writes(path: &Path, bytes: usize, file_bytes: usize, writes: usize) -> Histogram<u64> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlags::DSYNC.bits() as i32);
    let file = options.dma_open(path).await.expect("it opens for direct I/O");
    let mut latencies = times();
    for at in 0..writes {
        let mut buffer = file.alloc_dma_buffer(bytes);
        buffer.as_bytes_mut().fill(at as u8);
        let begin = Instant::now();
        let written = file.write_at(buffer, (at * bytes % file_bytes) as u64).await.expect("it is written");
        latencies.saturating_record(begin.elapsed().as_nanos() as u64);
        assert_eq!(written, bytes);
    }
    file.close().await.expect("it closes");
    latencies
}

/// What a record costs the fast path.
fn encoding(size: Size) {
    let mut rounds: [Vec<f64>; 2] = Default::default();
    let directory = directory();
    for (log, rounds) in [Log::Without, Log::Applied].into_iter().zip(&mut rounds) {
        let runtime = start(1, log, directory.path(), NO_CHECKPOINT);
        open_objects(&runtime.handle(), size.objects);
        *rounds = on_shard(&runtime, move |local| async move {
            let mut draws = Draws::new(size.objects, 1);
            let mut rounds = Vec::new();
            for _ in 0..=size.rounds {
                local.durable().await.expect("the disk keeps up");
                glommio::timer::sleep(Duration::from_millis(2)).await;
                let begin = Instant::now();
                let tally = add_on_shard(&local, &mut draws, size.encoded, id_of);
                rounds.push(begin.elapsed().as_nanos() as f64 / size.encoded as f64);
                assert_eq!(tally.refused, 0);
            }
            rounds.split_off(1)
        });
    }
    let mut table = table(["encoding, ask_now", "ns per message", "range"]);
    let [without, applied] = rounds.map(Spread::of);
    for (name, spread) in [("no log", without), ("applied", applied)] {
        let range = format!("{:.1} to {:.1}", spread.lowest, spread.highest);
        table.add_row([name.to_string(), format!("{:.1}", spread.median), range]);
    }
    table.add_row([
        "the log adds (aim: 15)".to_string(),
        format!("{:.1}", applied.median - without.median),
        String::new(),
    ]);
    println!("{table}\n");
}

/// What a load came to.
struct Loaded {
    messages: u64,
    took: Duration,
    latencies: Histogram<u64>,
}

/// Keeps `in_flight` messages under way for a while.
fn drive(handle: &Handle<Counter>, draws: &mut Draws, in_flight: u64, lasts: Duration) -> Loaded {
    let (mut latencies, mut messages, mut tally) = (times(), 0, Tally::default());
    let begin = Instant::now();
    if in_flight <= BATCH {
        let mut flying: VecDeque<(Instant, Ask<Counter>)> = VecDeque::new();
        while begin.elapsed() < lasts || !flying.is_empty() {
            while flying.len() < in_flight as usize && begin.elapsed() < lasts {
                let id = id_of(draws.next_object());
                flying.push_back((Instant::now(), handle.ask(Message::Add { id, amount: 1 })));
            }
            let Some((asked, ask)) = flying.pop_front() else { break };
            tally.add(ask.wait());
            latencies.saturating_record(asked.elapsed().as_nanos() as u64);
            messages += 1;
        }
    } else {
        let mut flying: VecDeque<(Instant, AskAll<Counter>)> = VecDeque::new();
        while begin.elapsed() < lasts || !flying.is_empty() {
            while flying.len() < (in_flight / BATCH) as usize && begin.elapsed() < lasts {
                flying.push_back((Instant::now(), handle.ask_all(additions(draws, BATCH))));
            }
            let Some((asked, ask)) = flying.pop_front() else { break };
            ask.wait().into_iter().for_each(|outcome| tally.add(outcome));
            latencies.saturating_record_n(asked.elapsed().as_nanos() as u64, BATCH);
            messages += BATCH;
        }
    }
    assert_eq!(tally.refused, 0, "every message is applied");
    Loaded { messages, took: begin.elapsed(), latencies }
}

/// Bytes and writes of the log so far.
fn written(stats: &Stats) -> (u64, u64) {
    let sum = |each: fn(&freehold::ShardStats) -> u64| stats.shards.iter().map(each).sum();
    (sum(|shard| shard.activity.log_bytes), sum(|shard| shard.activity.log_writes))
}

fn load(size: Size) {
    let mut table = table([
        "load",
        "in flight",
        "messages/s",
        "p50",
        "p99",
        "p99.9",
        "bytes/message",
        "messages/sync",
        "log MB/s",
    ]);
    for shards in [1, 2] {
        for in_flight in [1, 4, 16, 64, 256, 4096, 65_536] {
            for log in Log::ALL {
                let directory = directory();
                let runtime = start(shards, log, directory.path(), NO_CHECKPOINT);
                let handle = runtime.handle();
                open_objects(&handle, size.objects);
                let mut draws = Draws::new(size.objects, 7);
                drive(&handle, &mut draws, in_flight, size.load / 10);
                let before = (totals(&handle, size.objects).checksum, written(&runtime.stats()));
                let loaded = drive(&handle, &mut draws, in_flight, size.load);
                let sum = totals(&handle, size.objects).checksum;
                assert_eq!(sum - before.0, loaded.messages, "every message is in the counters, once");
                let report = runtime.shutdown();
                let after = written(&report.stats);
                let (bytes, syncs) = (after.0 - before.1.0, after.1 - before.1.1);
                if log != Log::Without {
                    let runtime = start(shards, log, directory.path(), NO_CHECKPOINT);
                    assert_eq!(totals(&runtime.handle(), size.objects).checksum, sum, "it is there again");
                }
                let at = |quantile| brief(Duration::from_nanos(loaded.latencies.value_at_quantile(quantile)));
                let per =
                    |count: f64, of: f64| if of > 0.0 { format!("{:.1}", count / of) } else { String::new() };
                let seconds = loaded.took.as_secs_f64();
                table.add_row([
                    format!("{shards} shards, {}", log.name()),
                    in_flight.to_string(),
                    format!("{:.0}", loaded.messages as f64 / seconds),
                    at(0.5),
                    at(0.99),
                    at(0.999),
                    per(bytes as f64, if bytes > 0 { loaded.messages as f64 } else { 0.0 }),
                    per(loaded.messages as f64, syncs as f64),
                    per(bytes as f64 / 1e6, if bytes > 0 { seconds } else { 0.0 }),
                ]);
            }
        }
    }
    println!("{table}\n");
}

fn recovery(size: Size) {
    let mut table = table(["recovery", "objects", "records", "read, MB", "seconds", "MB/s", "s/GiB"]);
    for (name, objects, checkpoint) in [
        ("log", size.objects, false),
        ("log, many objects", size.recovered / 20, false),
        ("checkpoint", size.recovered / 20, true),
    ] {
        let directory = directory();
        let runtime = start(2, Log::Applied, directory.path(), NO_CHECKPOINT);
        let handle = runtime.handle();
        open_objects(&handle, objects);
        let mut draws = Draws::new(objects, 5);
        let mut left = size.recovered;
        while left > 0 {
            let some = left.min(BATCH * 64);
            let outcomes = handle.ask_all(additions(&mut draws, some)).wait();
            assert!(outcomes.iter().all(Result::is_ok));
            left -= some;
        }
        if checkpoint {
            runtime.checkpoint().expect("it is made");
        }
        runtime.shutdown();
        let runtime = start(2, Log::Applied, directory.path(), NO_CHECKPOINT);
        assert_eq!(totals(&runtime.handle(), objects).checksum, size.recovered, "every message is there");
        let found = runtime.recovery().expect("there is a log");
        let (seconds, bytes) = (found.took.as_secs_f64(), found.bytes as f64);
        table.add_row([
            name.to_string(),
            found.objects.to_string(),
            found.records.to_string(),
            format!("{:.0}", bytes / 1e6),
            format!("{seconds:.2}"),
            format!("{:.0}", bytes / 1e6 / seconds),
            format!("{:.2}", seconds / (bytes / f64::from(1 << 30))),
        ]);
        runtime.shutdown();
    }
    println!("{table}\n");
}

fn checkpoint(size: Size) {
    let directory = directory();
    let objects = size.recovered / 20;
    let runtime = Arc::new(start(2, Log::Durable, directory.path(), NO_CHECKPOINT));
    let handle = runtime.handle();
    open_objects(&handle, objects);
    let mut table = table(["checkpoint", "checkpoints", "messages/s", "p50", "p99", "p99.9", "longest"]);
    let mut rates = [Vec::new(), Vec::new()];
    let mut latencies = [times(), times()];
    let mut made = 0;
    let mut draws = Draws::new(objects, 3);
    for _ in 0..size.rounds.min(8) {
        for with in [false, true] {
            let is_over = Arc::new(AtomicBool::new(false));
            let (maker, over) = (runtime.clone(), is_over.clone());
            let checkpoints = std::thread::spawn(move || {
                let mut made = 0;
                while with && !over.load(Ordering::Relaxed) {
                    maker.checkpoint().expect("it is made");
                    made += 1;
                }
                made
            });
            let loaded = drive(&handle, &mut draws, 4096, size.load / 2);
            is_over.store(true, Ordering::Relaxed);
            made += checkpoints.join().expect("it ends");
            rates[usize::from(with)].push(loaded.messages as f64 / loaded.took.as_secs_f64());
            latencies[usize::from(with)].add(&loaded.latencies).expect("they are alike");
        }
    }
    let rates = rates.map(Spread::of);
    for (with, name) in ["without", "with"].into_iter().enumerate() {
        let at = |quantile| brief(Duration::from_nanos(latencies[with].value_at_quantile(quantile)));
        table.add_row([
            name.to_string(),
            if with == 1 { made.to_string() } else { String::new() },
            format!("{:.0}", rates[with].median),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
        ]);
    }
    let less = 100.0 * (1.0 - rates[1].median / rates[0].median);
    table.add_row(["costs (aim: below 20 %)".to_string(), String::new(), format!("{less:.1} %")]);
    println!("{table}\n");
}

/// Objects with large states.
struct Blobs;

#[derive(Clone, Serialize, Deserialize)]
enum Blob {
    Put(u64, usize),
    Length(u64),
}

impl Actor for Blobs {
    type Id = u64;
    type State = Vec<u8>;
    type Message = Blob;
    type Reply = usize;
    type Error = AccessError<u64>;

    fn addressees(message: &Blob, to: &mut Addressees<u64>) {
        match *message {
            Blob::Put(id, _) => to.write(id),
            Blob::Length(id) => to.read(id),
        }
    }

    fn receive(message: &Blob, objects: &mut Objects<'_, Self>) -> Result<usize, AccessError<u64>> {
        match *message {
            Blob::Put(id, bytes) => objects.insert(id, vec![id as u8; bytes]).map(|_| bytes),
            Blob::Length(id) => Ok(objects.get(id)?.map_or(0, Vec::len)),
        }
    }
}

/// Reads from a thread, one at a time, with checkpoints of large states and without.
fn large(size: Size) {
    let mut table = table(["large states", "checkpoints", "reads", "p50", "p99", "p99.9", "longest"]);
    for bytes in [64 << 10, 1 << 20] {
        let (directory, count) = (directory(), (size.large / bytes) as u64);
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        let log = LogConfig { checkpoint_bytes: NO_CHECKPOINT, ..LogConfig::at(directory.path()) };
        let runtime = Runtime::<Blobs>::open(config, log).unwrap_or_else(|error| panic!("{error}"));
        let handle = runtime.handle();
        for id in 0..count {
            assert_eq!(handle.ask(Blob::Put(id, bytes)).wait(), Ok(bytes));
        }
        let (mut latencies, mut made) = ([times(), times()], 0);
        for round in 0..2 * size.rounds.min(5) {
            let with = round % 2 == 1;
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let work = scope.spawn(|| {
                    if with {
                        runtime.checkpoint().expect("there is room");
                    } else {
                        std::thread::sleep(size.load / 8);
                    }
                    is_over.store(true, Ordering::Relaxed);
                });
                for nth in 0_u64.. {
                    let begun = Instant::now();
                    assert_eq!(handle.ask(Blob::Length(nth % count)).wait(), Ok(bytes));
                    let took = begun.elapsed().as_nanos() as u64;
                    latencies[usize::from(with)].record(took).expect("none takes a minute");
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                work.join().expect("it ends");
            });
            made += u64::from(with);
        }
        assert!(runtime.shutdown().drained);
        for (with, name) in ["without", "with"].into_iter().enumerate() {
            let of = &latencies[with];
            let at = |quantile| brief(Duration::from_nanos(of.value_at_quantile(quantile)));
            table.add_row([
                format!("{} KiB, {name}", bytes >> 10),
                if with == 1 { made.to_string() } else { String::new() },
                of.len().to_string(),
                at(0.5),
                at(0.99),
                at(0.999),
                at(1.0),
            ]);
        }
    }
    println!("{table}\n(aim: no read waits for 10 ms)\n");
}
