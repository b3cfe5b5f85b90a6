//! What does a message to one shard cost, by each way of sending it and by the number of objects,
//! beside the same work in a plain hash map and in a locked one?
//!
//! ```text
//! cargo bench --bench fast_path                       10 thousand and 1 million objects
//! FAST_PATH_LARGE=1 cargo bench --bench fast_path     8 million objects, too; takes 4 GB
//! ```
//! - On the shard's thread: `ask_now`, in a task; the same with 16 messages prefetched at a time;
//!   and the same loop over a hash map, `plain_map`, and over one behind a mutex, `mutex_map`.
//! - From another thread: `tell`, up to when the last message was run; `ask_all/N` in batches of N,
//!   several under way, every reply read; and `plain_map_of_messages`, what that thread could do by
//!   itself: make 256 messages, apply them to a hash map, read the replies.
//!
//! Times are of the clock on the wall. The work is checked: in the end the totals of all objects
//! must add up to the messages sent.

mod workload;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use freehold::{AskError, Config, Local, Runtime, Shards, TellError};
use workload::report::Conditions;
use workload::{
    Counter, Draws, Message, PlainMap, SEED, Tally, add_in_batches, add_in_locked_map, add_in_plain_map,
    add_on_shard, add_prefetched, additions, id_of, plain_map, totals,
};

/// Messages in a batch.
const BATCHES: [u64; 4] = [1, 16, 256, 4096];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    println!("{}\nsettings    seed {SEED:#x}, one shard on a CPU of its own\n", Conditions::now());
    for objects in sizes() {
        bench(&mut criterion, objects);
    }
    criterion.final_summary();
}

fn sizes() -> Vec<u64> {
    if workload::is_a_test() {
        return vec![100];
    }
    let large = std::env::var_os("FAST_PATH_LARGE").is_some_and(|large| large != "0");
    [10_000, 1_000_000].into_iter().chain(large.then_some(8_000_000)).collect()
}

fn bench(criterion: &mut Criterion, objects: u64) {
    let bench = Bench::start(objects);
    let mut group = criterion.benchmark_group(format!("{objects}_objects"));
    group.throughput(Throughput::Elements(1));
    group.bench_function("ask_now", |bencher| {
        bencher.iter_custom(|count| {
            bench.asked.set(bench.asked.get() + count);
            bench.on_shard(move |local, _, draws| add_on_shard(local, draws, count, id_of))
        });
    });
    group.bench_function("ask_now_prefetched", |bencher| {
        bencher.iter_custom(|count| {
            bench.asked.set(bench.asked.get() + count);
            bench.on_shard(move |local, _, draws| add_prefetched(local, draws, count))
        });
    });
    group.bench_function("plain_map", |bencher| {
        bencher.iter_custom(|count| {
            bench.on_shard(move |_, map, draws| add_in_plain_map(&mut lock(map), draws, count, id_of))
        });
    });
    group.bench_function("mutex_map", |bencher| {
        bencher.iter_custom(|count| {
            bench.on_shard(move |_, map, draws| add_in_locked_map(map, draws, count, id_of))
        });
    });
    group.bench_function("tell", |bencher| bencher.iter_custom(|count| bench.tell(count)));
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new("ask_all", batch), |bencher| {
            bencher.iter_custom(|batches| bench.ask_all(batch, batches));
        });
    }
    group.throughput(Throughput::Elements(256));
    group.bench_function("plain_map_of_messages/256", |bencher| {
        bencher.iter_custom(|batches| bench.plain_map_of_messages(256, batches));
    });
    group.finish();
    bench.check();
}

/// A runtime of one shard and a map, with the same objects.
struct Bench {
    runtime: Runtime<Counter>,
    map: Arc<Mutex<PlainMap>>,
    objects: u64,
    /// Messages asked or told to add one.
    asked: Cell<u64>,
    /// Which stream of draws is the next.
    stream: Cell<u64>,
}

impl Bench {
    fn start(objects: u64) -> Self {
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        let runtime = Runtime::start(config).unwrap_or_else(|error| panic!("{error}"));
        let map = Arc::new(Mutex::new(plain_map((0..objects).map(id_of))));
        let bench = Bench { runtime, map, objects, asked: Cell::new(0), stream: Cell::new(0) };
        bench.on_shard(move |local, _, _| {
            let mut tally = Tally::default();
            (0..objects).for_each(|object| tally.add(local.ask_now(&Message::Open { id: id_of(object) })));
            tally
        });
        bench
    }

    fn draws(&self) -> Draws {
        self.stream.set(self.stream.get() + 1);
        Draws::new(self.objects, self.stream.get())
    }

    /// Does some work on the shard's thread and says how long it took there.
    fn on_shard<W>(&self, work: W) -> Duration
    where
        W: Fn(&Local<Counter>, &Mutex<PlainMap>, &mut Draws) -> Tally + Clone + Send + 'static,
    {
        let (map, draws) = (self.map.clone(), self.draws());
        let task = move |local: Local<Counter>| {
            let (work, map, mut draws) = (work.clone(), map.clone(), draws.clone());
            async move {
                let begun = Instant::now();
                let tally = work(&local, &map, &mut draws);
                (begun.elapsed(), tally)
            }
        };
        let results = self.runtime.on_each_shard(task).wait();
        let (took, tally) =
            results.into_iter().next().expect("there is one shard").expect("the task does not panic");
        finish(tally);
        took
    }

    /// Tells so many messages, and waits until the last was run.
    fn tell(&self, count: u64) -> Duration {
        self.asked.set(self.asked.get() + count);
        let (handle, mut draws) = (self.runtime.handle(), self.draws());
        let begun = Instant::now();
        for _ in 0..count {
            let mut message = Message::Add { id: id_of(draws.next_object()), amount: 1 };
            while let Err(error) = handle.tell(message) {
                assert!(matches!(error, TellError::Overloaded(_)), "{error}");
                message = error.into_message();
                std::hint::spin_loop();
            }
        }
        // Messages of one sender to one shard are run in order, so this one is the last.
        while let Err(error) = handle.ask(Message::Total { id: id_of(0) }).wait() {
            assert!(matches!(error, AskError::Overloaded), "{error}");
        }
        begun.elapsed()
    }

    /// Asks in batches, with several under way, and reads all replies.
    fn ask_all(&self, batch: u64, batches: u64) -> Duration {
        self.asked.set(self.asked.get() + batch * batches);
        let (handle, mut draws) = (self.runtime.handle(), self.draws());
        let begun = Instant::now();
        let tally = add_in_batches(&handle, &mut draws, batch, batches, |_| {});
        let took = begun.elapsed();
        finish(tally);
        took
    }

    /// The work of [`Bench::ask_all`] without a runtime and without another thread.
    fn plain_map_of_messages(&self, batch: u64, batches: u64) -> Duration {
        let (mut draws, mut map, mut tally) = (self.draws(), lock(&self.map), Tally::default());
        let begun = Instant::now();
        for _ in 0..batches {
            let messages: Vec<_> = black_box(additions(&mut draws, batch).collect());
            let apply = |message| match message {
                Message::Add { id, amount } => {
                    let state = map.get_mut(&id).ok_or(id)?;
                    state.total += amount;
                    Ok(state.total)
                }
                Message::Open { id } | Message::Total { id } => Err(id),
            };
            let replies: Vec<Result<u64, u64>> = black_box(messages.into_iter().map(apply).collect());
            replies.into_iter().for_each(|reply| tally.add(reply));
        }
        let took = begun.elapsed();
        finish(tally);
        took
    }

    /// Reads all objects: every message must have been applied, once.
    fn check(self) {
        let totals = totals(&self.runtime.handle(), self.objects);
        assert_eq!(totals, Tally { checksum: self.asked.get(), refused: 0 }, "each message is applied once");
        let report = self.runtime.shutdown();
        assert!(report.drained, "{report}");
        println!("verified    {} messages applied to {} objects\n", self.asked.get(), self.objects);
    }
}

/// Nothing was refused, and the replies were used.
fn finish(tally: Tally) {
    assert_eq!(tally.refused, 0, "nothing is refused");
    black_box(tally.checksum);
}

fn lock(map: &Mutex<PlainMap>) -> std::sync::MutexGuard<'_, PlainMap> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}
