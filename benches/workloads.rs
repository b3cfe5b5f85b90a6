//! What does a transaction of each published workload cost, on one shard and on two, asked in
//! batches from outside, beside the same transactions run on a plain hash map by the thread that
//! asks?
//!
//! ```text
//! cargo bench --bench workloads               all of them
//! cargo bench --bench workloads -- smallbank  one
//! ```
//! - `shards/N`: a runtime of N shards; batches of 256 transactions, each drawn for one of the
//!   shards in turn, several under way, every reply read and tallied. Which transactions span
//!   shards is left to the workload.
//! - `plain_map`: what that thread could do by itself: make 256 transactions, run them, tally the
//!   replies.
//!
//! Times are of the clock on the wall, for a batch. The asking thread has a core only if there are
//! more than shards. In the end all rows are audited at a snapshot: the workload's invariant holds,
//! or the bench fails. How throughput scales is for `bench/scaling` to say; this sees regressions.

mod workload;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use freehold::{AskAll, AskError, Config, Handle, PlacementKey, Runtime, Shards};
use freehold_workloads::{
    Client, Cross, Growth, HStoreMicro, Mix, Order, Part, Refused, SEED, Served, Skew, SmallBank, Spec,
    Stream, Tatp, Tpcc, Visitor, Way, Workload, Ycsb, YcsbGrowing, YcsbTransactional,
};
use workload::is_a_test;
use workload::report::Conditions;

/// Transactions in a batch.
const BATCH: u64 = 256;
/// Batches under way.
const UNDER_WAY: usize = 8;
/// Batches of a test, where criterion wants one: it is to be worth an audit.
const BATCHES_TESTED: u64 = 16;
const SHARDS: [usize; 2] = [1, 2];

/// What is measured.
fn specs() -> Vec<Spec> {
    let rows = if is_a_test() { 1_000 } else { 100_000 };
    let (skew, popular) = (Skew::Uniform, Skew::Zipf(0.99));
    vec![
        Spec::SmallBank(SmallBank { customers: rows, skew }),
        Spec::HStoreMicro(HStoreMicro { rows, skew, aborts: 0.0 }),
        Spec::Ycsb(Ycsb { mix: Mix::A, records: rows, skew: popular }),
        Spec::YcsbGrowing(YcsbGrowing { growth: Growth::D, records: rows, skew: popular }),
        Spec::YcsbTransactional(YcsbTransactional { records: rows, skew: popular, writes: 0.5, spread: 2 }),
        Spec::Tpcc(Tpcc::small(8)),
        Spec::Tatp(Tatp { subscribers: rows as u32 }),
    ]
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    println!("{}\nsettings    seed {SEED:#x}, shards on CPUs of their own\n", Conditions::now());
    for spec in specs() {
        spec.visit(Group { criterion: &mut criterion, name: spec.name() });
    }
    criterion.final_summary();
}

struct Group<'a> {
    criterion: &'a mut Criterion,
    name: &'static str,
}

impl Visitor for Group<'_> {
    type Result = ();

    fn visit<W: Workload>(self, workload: &W) {
        let mut group = self.criterion.benchmark_group(self.name);
        group.throughput(Throughput::Elements(BATCH));
        let repeated = if is_a_test() { BATCHES_TESTED } else { 1 };
        for shards in SHARDS {
            let mut asking = None;
            group.bench_function(BenchmarkId::new("shards", shards), |bencher| {
                let asking = asking.get_or_insert_with(|| Asking::start(workload, shards));
                bencher.iter_custom(|batches| asking.ask(batches * repeated));
            });
            if let Some(asking) = asking {
                asking.check(workload);
            }
        }
        let mut plain = None;
        group.bench_function("plain_map", |bencher| {
            let (map, asker) = plain.get_or_insert_with(|| (Plain::load(workload), Asker::new(workload, 1)));
            bencher.iter_custom(|batches| map.run(asker, batches * repeated));
        });
        if let Some((map, asker)) = plain {
            let mut audit = W::Audit::default();
            map.rows.iter().for_each(|(id, row)| workload.audit(&mut audit, id, row));
            asker.check(workload, &audit, "plain_map");
        }
        group.finish();
    }
}

/// The streams of all clients, asked by one thread: a batch of each in turn.
struct Asker<W: Workload> {
    streams: Vec<Stream<W>>,
    /// Batches begun.
    batches: u64,
    part: Part<W>,
}

impl<W: Workload> Asker<W> {
    fn new(workload: &W, shards: usize) -> Self {
        let stream = |shard| Stream::draw(workload, &mut Client::new(SEED, shard, shards, Cross::Natural));
        let streams = (0..shards).map(|shard| stream(shard).unwrap_or_else(|error| panic!("{error}")));
        Asker { streams: streams.collect(), batches: 0, part: Part::default() }
    }

    /// The number of the next batch.
    fn begin(&mut self) -> u64 {
        self.batches += 1;
        self.batches - 1
    }

    /// Tallies the outcomes of a batch.
    fn note(&mut self, number: u64, outcomes: impl IntoIterator<Item = Result<W::Reply, Refused<W::Id>>>) {
        for ((transaction, spans), outcome) in batch(&self.streams, number).zip(outcomes) {
            self.part.note(&transaction, spans, outcome);
        }
    }

    /// Nothing broke, and what was acknowledged is there.
    fn check(&self, workload: &W, audit: &W::Audit, place: &str) {
        let Part { tally, committed, aborted, broken, .. } = &self.part;
        assert_eq!(*broken, None, "{place}: {workload:?}");
        assert_eq!(committed + aborted, self.batches * BATCH, "{place}: every transaction is answered");
        workload.verdict(tally, audit).unwrap_or_else(|wrong| panic!("{place}: {workload:?}: {wrong}"));
        println!(
            "verified    {place}: {committed} transactions committed, {aborted} aborted by the workload's rules, \
             {} spanned shards; its invariant holds\n",
            self.part.spanning
        );
    }
}

/// The transactions of batch `number`, and whether each spans shards: the same whenever it is
/// called.
fn batch<W: Workload>(
    streams: &[Stream<W>],
    number: u64,
) -> impl ExactSizeIterator<Item = (Cow<'_, W::Transaction>, bool)> {
    let clients = streams.len() as u64;
    let drawn = streams[(number % clients) as usize].drawn();
    let first = number / clients * BATCH;
    (0..BATCH as usize).map(move |at| {
        let (lap, at) = ((first as usize + at) / drawn.len(), (first as usize + at) % drawn.len());
        let mut transaction = Cow::Borrowed(&drawn[at].transaction);
        if W::RENEWS && lap > 0 {
            W::renew(transaction.to_mut(), lap as u64);
        }
        (transaction, drawn[at].way == Way::Across)
    })
}

/// A runtime with the workload's rows, and who asks it.
struct Asking<W: Workload> {
    runtime: Runtime<Served<W>>,
    handle: Handle<Served<W>>,
    asker: Asker<W>,
}

impl<W: Workload> Asking<W> {
    fn start(workload: &W, shards: usize) -> Self {
        // Streams are drawn for this placement.
        let placement_key = Some(PlacementKey(SEED));
        let config = Config { shards: Shards::Count(shards), placement_key, ..Config::default() };
        let runtime = Runtime::<Served<W>>::start(config).unwrap_or_else(|error| panic!("{error}"));
        let handle = runtime.handle();
        let (mut rows, mut loaded) = (Vec::new(), 0_u64);
        let mut flush = |rows: &mut Vec<Order<W>>| {
            for outcome in handle.ask_all(rows.drain(..)).wait() {
                outcome.unwrap_or_else(|error| panic!("a row is not loaded: {error}"));
                loaded += 1;
            }
        };
        workload.load(&mut |id, row| {
            rows.push(Order::Load(id, Box::new(row)));
            if rows.len() == 4096 {
                flush(&mut rows);
            }
        });
        flush(&mut rows);
        assert!(loaded > 0, "there are rows");
        Asking { handle, runtime, asker: Asker::new(workload, shards) }
    }

    fn ask(&mut self, batches: u64) -> Duration {
        let Asking { handle, asker, .. } = self;
        let mut under_way: VecDeque<(u64, AskAll<Served<W>>)> = VecDeque::with_capacity(UNDER_WAY);
        let begun = Instant::now();
        for _ in 0..batches {
            if under_way.len() == UNDER_WAY {
                under_way.pop_front().into_iter().for_each(|asked| read(asker, asked));
            }
            let number = asker.begin();
            let orders =
                batch(&asker.streams, number).map(|(transaction, _)| Order::Run(transaction.into_owned()));
            under_way.push_back((number, handle.ask_all(orders)));
        }
        under_way.into_iter().for_each(|asked| read(asker, asked));
        begun.elapsed()
    }

    fn check(self, workload: &W) {
        let Asking { runtime, handle, asker } = self;
        let snapshot = handle.snapshot().wait().unwrap_or_else(|error| panic!("no snapshot: {error}"));
        let auditor = workload.clone();
        let audit = snapshot.fold(
            W::Audit::default,
            move |audit, id, row| auditor.audit(audit, &id, row),
            |mut all, audit| {
                all += audit;
                all
            },
        );
        let audit = audit.wait().unwrap_or_else(|error| panic!("no audit: {error}"));
        drop(snapshot);
        asker.check(workload, &audit, &format!("shards/{}", handle.shards()));
        let report = runtime.shutdown();
        assert!(report.drained, "{report}");
    }
}

/// Waits for a batch and tallies it. What freehold itself refuses breaks the bench.
fn read<W: Workload>(asker: &mut Asker<W>, (number, asked): (u64, AskAll<Served<W>>)) {
    let outcomes = asked.wait().into_iter().map(|outcome| match outcome {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err(Refused::Broken("a transaction was answered as a load is")),
        Err(AskError::Aborted(refused)) => Err(refused),
        Err(error) => panic!("a transaction was not run: {error}"),
    });
    asker.note(number, outcomes);
}

/// The limit: rows in a hash map of one thread, which takes back nothing.
struct Plain<W: Workload> {
    rows: HashMap<W::Id, W::Row, ahash::RandomState>,
}

impl<W: Workload> Plain<W> {
    fn load(workload: &W) -> Self {
        let mut rows = HashMap::with_hasher(ahash::RandomState::with_seed(SEED as usize));
        workload.load(&mut |id, row| drop(rows.insert(id, row)));
        Plain { rows }
    }

    fn run(&mut self, asker: &mut Asker<W>, batches: u64) -> Duration {
        let begun = Instant::now();
        for _ in 0..batches {
            let number = asker.begin();
            let transactions: Vec<W::Transaction> = black_box(
                batch(&asker.streams, number).map(|(transaction, _)| transaction.into_owned()).collect(),
            );
            let outcomes: Vec<_> = black_box(
                transactions.iter().map(|transaction| W::run(transaction, &mut self.rows)).collect(),
            );
            asker.note(number, outcomes);
        }
        begun.elapsed()
    }
}
