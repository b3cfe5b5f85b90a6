//! What does an open snapshot cost a write on the fast path, and what do snapshots and published
//! states cost their readers?
//!
//! ```text
//! cargo bench --bench snapshots                  everything
//! cargo bench --bench snapshots -- writes        one part: writes, opening, folds, singles
//!                                                or published
//! ```
//! - *Writes*: in a task on one shard, `ask_now` writes every object once, and again, always in the
//!   same random order. (a) No snapshot is open. (b) One is, but every object was written since it
//!   was opened. (c) Every write is the first of its object since the newest snapshot was opened,
//!   and the one before is closed: the write keeps an old state, and drops one that was kept
//!   before. (d) As c, but the snapshot is closed again before the writes: what the first write in
//!   an epoch costs that keeps nothing. All of them in every round, which begins with another one
//!   each time. Opening, closing and writes that only prepare are not timed.
//! - *Opening*: from `snapshot()` until it is ready, on shards that have nothing else to do: they
//!   spin, or are parked.
//! - *Folds*: a fold of all objects of one shard, as they are and as they were before all of them
//!   were written, beside the same sum over a plain hash map.
//! - *Singles*: objects of one shard and of two read by `get`, one read for each and all under way
//!   together, beside one `get_all` of the same objects.
//! - *Published*: reads of shared objects by one thread and by two, with nobody writing:
//!   `published`, a plain `DashMap` of `Arc`s, and `ask`, one at a time.
//!
//! The work is checked: every write is there, once; old states are kept when they are to be and at
//! no other time; each snapshot sees what was written before it and nothing else; every read finds
//! its object.

mod workload;

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use freehold::{Config, Handle, Idle, Limits, Local, Ownership, Runtime, Shards, Snapshot, Stats, glommio};
use hdrhistogram::Histogram;
use workload::course::Course;
use workload::report::{Conditions, Quantiles, Spread, millions_per_second, table, times, verdict};
use workload::transfers::{Account, Bank, OPENING, Order, Receipt};
use workload::{
    Asked, Counter, Draws, Message, PlainMap, SEED, State, Tally, id_of, on_shard, plain_map, renewal, totals,
};

/// The aim: what an open snapshot may cost a write.
const WRITE_MAX_NS: f64 = 15.0;
/// Long enough that nobody who is measured as spinning parks.
const SPIN: Duration = Duration::from_millis(500);
/// How long a shard that parks at once is left alone before a snapshot is opened.
const FALLS_ASLEEP: Duration = Duration::from_millis(1);
/// How long the counters may take to say what is kept, which they do at the end of a turn.
const SETTLE_MAX: Duration = Duration::from_secs(10);

fn main() {
    let Some(asked) = Asked::of_arguments() else { return };
    let size = if workload::is_a_test() { Size::TEST } else { Size::BENCH };
    println!(
        "{}\nsettings    seed {SEED:#x}, objects of 64 bytes, {} rounds\n",
        Conditions::now(),
        size.rounds
    );
    if asked.has("writes") {
        writes(size);
    }
    if asked.has("opening") {
        opening(size);
    }
    if asked.has("folds") {
        folds(size);
    }
    if asked.has("singles") {
        singles(size);
    }
    if asked.has("published") {
        published(size);
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    /// Rounds that are reported, after one that warms up.
    rounds: usize,
    /// Objects that are written, and objects that are published.
    objects: u64,
    /// How often all of them are written in a round.
    passes: u64,
    /// Snapshots opened on spinning shards, and on parked ones.
    opened_spinning: u64,
    opened_parked: u64,
    /// Objects that are folded.
    folded: u64,
    /// Objects that are read one by one; as many as may wait in front of a shard, at most.
    singles: u64,
    /// Reads of each thread in a round, and by `ask`.
    reads: u64,
    asks: u64,
}

impl Size {
    const BENCH: Size = Size {
        rounds: 21,
        objects: 10_000,
        passes: 20,
        opened_spinning: 20_000,
        opened_parked: 1_000,
        folded: 1_000_000,
        singles: 80_000,
        reads: 500_000,
        asks: 5_000,
    };
    const TEST: Size = Size {
        rounds: 2,
        objects: 100,
        passes: 2,
        opened_spinning: 20,
        opened_parked: 5,
        folded: 5_000,
        singles: 500,
        reads: 200,
        asks: 20,
    };
}

fn start(shards: usize, config: Config) -> Runtime<Counter> {
    let config = Config { shards: Shards::Count(shards), ..config };
    Runtime::start(config).unwrap_or_else(|error| panic!("{error}"))
}

/// Does something on the one shard of a runtime.
/// Opens the objects of the one shard of a runtime.
fn open_objects(runtime: &Runtime<Counter>, objects: u64) {
    let tally = on_shard(runtime, move |local| async move {
        let mut tally = Tally::default();
        for object in 0..objects {
            tally.add(local.ask_now(&Message::Open { id: id_of(object) }));
            glommio::yield_if_needed().await;
        }
        tally
    });
    assert_eq!(tally, Tally::default(), "every object opens at zero");
}

/// The sum of all totals, and how many objects there are.
async fn sum_at(snapshot: &Snapshot<Counter>) -> (u64, u64) {
    let each = |(sum, objects): &mut (u64, u64), _, state: &State| {
        *sum += state.total;
        *objects += 1;
    };
    let fold = snapshot.fold(|| (0, 0), each, |a, b| (a.0 + b.0, a.1 + b.1));
    fold.await.expect("the snapshot is open")
}

/// Whose objects are written while what snapshots are open.
#[derive(Clone, Copy, PartialEq)]
enum Case {
    NoSnapshot,
    Written,
    FirstWrites,
    FirstWritesUnseen,
}

impl Case {
    const ALL: [Case; 4] = [Case::NoSnapshot, Case::Written, Case::FirstWrites, Case::FirstWritesUnseen];

    fn name(self) -> &'static str {
        match self {
            Case::NoSnapshot => "a  no snapshot",
            Case::Written => "b  snapshot, all written since",
            Case::FirstWrites => "c  snapshot, first writes since",
            Case::FirstWritesUnseen => "d  first writes since, closed",
        }
    }
}

fn writes(size: Size) {
    let runtime = start(1, Config::default());
    open_objects(&runtime, size.objects);
    let (rounds, written) = on_shard(&runtime, move |local| async move {
        let mut writer = Writer::new(local, size);
        let mut rounds = Vec::new();
        for round in 0..=size.rounds {
            let mut nanoseconds = [0.0; Case::ALL.len()];
            for turn in 0..Case::ALL.len() {
                let at = (turn + round) % Case::ALL.len();
                nanoseconds[at] = writer.measure(Case::ALL[at]).await;
            }
            // The first warms up.
            if round > 0 {
                rounds.push(nanoseconds);
            }
        }
        (rounds, writer.written)
    });
    println!("a write on the fast path, {} objects, one shard", size.objects);
    let mut table = table(["", "ns median", "(range)", "more than a", "(range)"]);
    let more = |at: usize| Spread::of(rounds.iter().map(|round| round[at] - round[0]));
    for (at, case) in Case::ALL.into_iter().enumerate() {
        let (each, more) = (Spread::of(rounds.iter().map(|round| round[at])), more(at));
        let is_base = case == Case::NoSnapshot;
        let of_others = |text: String| if is_base { String::new() } else { text };
        table.add_row([
            case.name().into(),
            format!("{:.1}", each.median),
            format!("({:.1} to {:.1})", each.lowest, each.highest),
            of_others(format!("{:.1}", more.median)),
            of_others(format!("({:.1} to {:.1})", more.lowest, more.highest)),
        ]);
    }
    println!("{table}");
    for (at, what) in [(1, "once all are written"), (2, "a first write")] {
        let more = more(at).median;
        let met = verdict(more < WRITE_MAX_NS);
        println!("an open snapshot, {what}: {more:.1} ns; the aim is less than {WRITE_MAX_NS} ns: {met}");
    }
    let found = totals(&runtime.handle(), size.objects);
    assert_eq!(found, Tally { checksum: written, refused: 0 }, "every write is there, once");
    let report = runtime.shutdown();
    assert!(report.drained, "{report}");
    println!("verified    {written} writes are there, and snapshots saw what was written before them\n");
}

/// Writes all objects of a shard, from a task on it.
struct Writer {
    local: Local<Counter>,
    /// Ids of all objects, in the order they are written.
    order: Vec<u64>,
    passes: u64,
    /// Writes so far.
    written: u64,
}

impl Writer {
    fn new(local: Local<Counter>, size: Size) -> Self {
        let mut order: Vec<_> = (0..size.objects).map(id_of).collect();
        for end in (1..order.len()).rev() {
            let at = Draws::new(end as u64 + 1, end as u64).next_object();
            order.swap(at as usize, end);
        }
        Writer { local, order, passes: size.passes, written: 0 }
    }

    /// Nanoseconds a write.
    async fn measure(&mut self, case: Case) -> f64 {
        self.kept(0).await;
        let mut took = Duration::ZERO;
        match case {
            Case::NoSnapshot | Case::Written => {
                let snapshot = if case == Case::Written { Some(self.snapshot().await) } else { None };
                let (before, objects) = (self.written, self.order.len() as u64);
                self.write_all();
                for _ in 0..self.passes {
                    took += self.write_all();
                    // As long a break as the others take, so that all begin a pass alike.
                    self.kept(if snapshot.is_some() { objects } else { 0 }).await;
                }
                if let Some(snapshot) = snapshot {
                    self.check_first_writes(&snapshot, before).await;
                }
            }
            Case::FirstWrites => {
                let mut open = self.snapshot().await;
                self.write_all();
                let mut before = self.written;
                for _ in 0..self.passes {
                    // The one before is closed here.
                    open = self.snapshot().await;
                    self.hear().await;
                    before = self.written;
                    took += self.write_all();
                    // One for each object: what was kept for the one before is dropped.
                    self.kept(self.order.len() as u64).await;
                }
                self.check_first_writes(&open, before).await;
            }
            Case::FirstWritesUnseen => {
                for _ in 0..self.passes {
                    drop(self.snapshot().await);
                    self.hear().await;
                    took += self.write_all();
                    self.kept(0).await;
                }
            }
        }
        took.as_nanos() as f64 / (self.passes as f64 * self.order.len() as f64)
    }

    /// Writes each object once.
    #[inline(never)]
    fn write_all(&mut self) -> Duration {
        let begun = Instant::now();
        let mut tally = Tally::default();
        for &id in &self.order {
            tally.add(self.local.ask_now(&Message::Add { id, amount: 1 }));
        }
        let took = begun.elapsed();
        assert_eq!(tally.refused, 0, "nothing is refused");
        black_box(tally.checksum);
        self.written += self.order.len() as u64;
        took
    }

    async fn snapshot(&self) -> Snapshot<Counter> {
        self.local.snapshot().await.expect("the runtime runs")
    }

    /// Has the shard take a turn, in which it hears what was closed.
    async fn hear(&self) {
        glommio::executor().yield_task_queue_now().await;
    }

    /// The snapshot sees what was written before it, for which every object's old state is kept.
    async fn check_first_writes(&self, snapshot: &Snapshot<Counter>, before: u64) {
        let objects = self.order.len() as u64;
        self.kept(objects).await;
        assert_eq!(sum_at(snapshot).await, (before, objects), "a snapshot sees what was before it");
    }

    /// Waits until so many old states are kept.
    async fn kept(&self, wanted: u64) {
        let (handle, since) = (self.local.handle(), Instant::now());
        loop {
            let versions = renewal::versions(&handle);
            if versions == wanted {
                return;
            }
            assert!(since.elapsed() < SETTLE_MAX, "{versions} old states are kept, and should be {wanted}");
            glommio::executor().yield_task_queue_now().await;
        }
    }
}

fn opening(size: Size) {
    println!(
        "from `snapshot()` until it is ready                     {}   parks a snapshot",
        Quantiles::HEAD
    );
    let print = |name: &str, times: &Histogram<u64>, parks: u64| {
        println!("{name:<56}{} {:>18.2}", Quantiles(times), parks as f64 / times.len() as f64);
    };
    let parks = |stats: &Stats| stats.shards.iter().map(|shard| shard.activity.parks).sum::<u64>();

    let spins = || Config { idle: Idle::Spin(SPIN), ..Config::default() };
    let runtime = start(2, spins());
    let before = runtime.stats();
    let results = runtime.on_each_shard(move |local| async move {
        let mut times = times();
        // The other shard has nothing to do.
        let snapshots = if local.shard().index() == 0 { size.opened_spinning } else { 0 };
        for _ in 0..snapshots {
            let begun = Instant::now();
            let snapshot = local.snapshot().await.expect("the runtime runs");
            times.saturating_record(begun.elapsed().as_nanos() as u64);
            drop(snapshot);
        }
        times
    });
    let times_on_shard = results.wait().into_iter().next().expect("there is a shard");
    let times_on_shard = times_on_shard.expect("the task does not panic");
    print("two shards that spin, opened on one", &times_on_shard, parks(&runtime.stats()) - parks(&before));
    drop(runtime);

    let from_outside = |runtime: &Runtime<Counter>, snapshots: u64, pause: Duration| {
        let (handle, before, mut times) = (runtime.handle(), runtime.stats(), times());
        for _ in 0..snapshots {
            thread::sleep(pause);
            let begun = Instant::now();
            let snapshot = handle.snapshot().wait().expect("the runtime runs");
            times.saturating_record(begun.elapsed().as_nanos() as u64);
            drop(snapshot);
        }
        (times, parks(&runtime.stats()) - parks(&before))
    };
    let runtime = start(1, spins());
    let (times, parked) = from_outside(&runtime, size.opened_spinning, Duration::ZERO);
    print("one shard that spins, opened by a thread", &times, parked);
    drop(runtime);
    for shards in [1, 2] {
        let runtime = start(shards, Config { idle: Idle::Spin(Duration::ZERO), ..Config::default() });
        let (times, parked) = from_outside(&runtime, size.opened_parked, FALLS_ASLEEP);
        print(&format!("parked shards, {shards} of them, opened by a thread"), &times, parked);
    }
    println!();
}

fn folds(size: Size) {
    let objects = size.folded;
    // All old states are kept, which may be more than the default lets be.
    let limits = Limits { versions_max: objects as usize, ..Limits::default() };
    let runtime = start(1, Config { limits, ..Config::default() });
    open_objects(&runtime, objects);
    let handle = runtime.handle();
    let before = handle.snapshot().wait().expect("the runtime runs");
    let tally = on_shard(&runtime, move |local| async move {
        let mut tally = Tally::default();
        for object in 0..objects {
            tally.add(local.ask_now(&Message::Add { id: id_of(object), amount: 1 }));
            glommio::yield_if_needed().await;
        }
        tally
    });
    assert_eq!(tally, Tally { checksum: objects, refused: 0 }, "every object is written once");
    let after = handle.snapshot().wait().expect("the runtime runs");
    let mut map: PlainMap = plain_map((0..objects).map(id_of));
    map.values_mut().for_each(|state| state.total = 1);

    let fold = |snapshot: &Snapshot<Counter>, sum: u64| {
        let each = |(sum, objects): &mut (u64, u64), _, state: &State| {
            *sum += state.total;
            *objects += 1;
        };
        let begun = Instant::now();
        let folded = snapshot.fold(|| (0, 0), each, |a, b| (a.0 + b.0, a.1 + b.1)).wait();
        let took = begun.elapsed();
        assert_eq!(folded, Ok((sum, objects)), "a snapshot sees what was before it");
        millions_per_second(objects, took)
    };
    let plain = || {
        let begun = Instant::now();
        let sum: u64 = black_box(&map).values().map(|state| state.total).sum();
        let took = begun.elapsed();
        assert_eq!(sum, objects);
        millions_per_second(objects, took)
    };
    let names = ["objects as they are", "as they were, all written since", "plain hash map, the same sum"];
    let mut rates = [const { Vec::new() }; 3];
    for round in 0..=size.rounds {
        for turn in 0..names.len() {
            let at = (turn + round) % names.len();
            let rate = match at {
                0 => fold(&after, objects),
                1 => fold(&before, 0),
                _ => plain(),
            };
            // The first warms up.
            if round > 0 {
                rates[at].push(rate);
            }
        }
    }
    println!("a fold of {objects} objects of one shard");
    print_rates(&names, &rates);
    println!("verified    every fold has every object as it was\n");
}

/// Millions a second of contenders, and what they are of the last one's, round by round.
fn print_rates(names: &[impl AsRef<str>], rates: &[Vec<f64>]) {
    let mut table = table(["", "M/s median", "(range)", "of the last"]);
    let last = rates.last().expect("there are contenders");
    for (name, rates) in names.iter().zip(rates) {
        let rate = Spread::of(rates.iter().copied());
        let ratio = Spread::of(rates.iter().zip(last).map(|(rate, last)| rate / last));
        table.add_row([
            name.as_ref().to_string(),
            format!("{:.3}", rate.median),
            format!("({:.3} to {:.3})", rate.lowest, rate.highest),
            format!("{:.3}", ratio.median),
        ]);
    }
    println!("{table}");
}

/// A way to read objects.
#[derive(Clone, Copy, Debug)]
enum Reads {
    Ask,
    Published,
    DashMap,
}

fn singles(size: Size) {
    let spins = Config::default().idle;
    singles_of(1, spins, size);
    // With two shards on two CPUs the thread that reads has no CPU of its own, spinning or not.
    singles_of(2, spins, size);
    singles_of(2, Idle::Spin(Duration::ZERO), size);
}

fn singles_of(shards: usize, idle: Idle, size: Size) {
    let config = Config { idle, jobs_max: 1 << 17, ..Config::default() };
    let runtime = start(shards, config);
    let handle = runtime.handle();
    for outcome in handle.ask_all((0..size.singles).map(|object| Message::Open { id: id_of(object) })).wait()
    {
        outcome.expect("it opens");
    }
    let snapshot = handle.snapshot().wait().expect("it opens");
    let ids: Vec<_> = (0..size.singles).map(id_of).collect();
    let one_by_one = || {
        let reads: Vec<_> = ids.iter().map(|&id| snapshot.get(id)).collect();
        reads.into_iter().map(|read| read.wait().expect("it is read")).collect::<Vec<_>>()
    };
    let together = || snapshot.get_all(ids.iter().copied()).wait().expect("they are read");
    let (mut singles, mut all) = (Vec::new(), Vec::new());
    for round in 0..=size.rounds {
        for turn in 0..2 {
            let is_single = (round + turn) % 2 == 0;
            let begun = Instant::now();
            let states = if is_single { one_by_one() } else { together() };
            let took = begun.elapsed().as_secs_f64() * 1e3;
            assert!(states.iter().all(Option::is_some) && states.len() == ids.len(), "all are there");
            if round > 0 {
                if is_single { singles.push(took) } else { all.push(took) }
            }
        }
    }
    let ratios = singles.iter().zip(&all).map(|(single, all)| single / all);
    println!(
        "{} objects of {shards} shard(s) from one thread, {idle:?}, ms\n  get, each   {}\n  get_all     {}\n  ratio       {}\n",
        size.singles,
        Spread::of(singles.iter().copied()),
        Spread::of(all.iter().copied()),
        Spread::of(ratios),
    );
    drop(snapshot);
    runtime.shutdown();
}

fn published(size: Size) {
    let config = Config::default();
    let course = Course::start_as(Ownership::Shared, 1, size.objects as u32, config)
        .unwrap_or_else(|failure| panic!("{failure}"));
    let mut plain: DashMap<u64, Arc<Account>, ahash::RandomState> = DashMap::default();
    plain.extend(course.ids().iter().map(|&id| (id, Arc::new(Account::OPENED))));
    let readers = Readers { handle: course.handle(), plain, ids: course.ids(), size };

    let cases: Vec<_> = [1, 2]
        .into_iter()
        .flat_map(|threads| [Reads::Ask, Reads::Published, Reads::DashMap].map(|reads| (threads, reads)))
        .collect();
    let mut rates = vec![Vec::new(); cases.len()];
    for round in 0..=size.rounds {
        for turn in 0..cases.len() {
            let at = (turn + round) % cases.len();
            let (threads, reads) = cases[at];
            let rate = readers.measure(threads, reads, round as u64);
            // The first warms up.
            if round > 0 {
                rates[at].push(rate);
            }
        }
    }
    println!("reads of {} shared objects of one shard, all threads together", size.objects);
    for (cases, rates) in cases.chunks(3).zip(rates.chunks(3)) {
        let name = |(threads, reads): &(u64, Reads)| {
            let reads = match reads {
                Reads::Ask => "ask",
                Reads::Published => "published",
                Reads::DashMap => "plain DashMap of Arcs",
            };
            format!("{reads}, {}", if *threads == 1 { "one thread" } else { "two threads" })
        };
        let names: Vec<_> = cases.iter().map(name).collect();
        print_rates(&names, rates);
    }
    let accounts = course.finish().unwrap_or_else(|failure| panic!("{failure}"));
    println!("verified    every read found its object, and all {accounts} are as they were opened\n");
}

/// Threads that read, and what they read.
struct Readers {
    handle: Handle<Bank>,
    plain: DashMap<u64, Arc<Account>, ahash::RandomState>,
    ids: Arc<[u64]>,
    size: Size,
}

impl Readers {
    /// Millions of reads a second of so many threads together.
    fn measure(&self, threads: u64, reads: Reads, stream: u64) -> f64 {
        let each = if matches!(reads, Reads::Ask) { self.size.asks } else { self.size.reads };
        let line = Barrier::new(threads as usize);
        let spans: Vec<_> = thread::scope(|scope| {
            let read = |thread| {
                let (line, draws) = (&line, Draws::new(self.ids.len() as u64, stream * threads + thread));
                scope.spawn(move || {
                    line.wait();
                    let begun = Instant::now();
                    let sum = match reads {
                        Reads::Ask => self.sum(each, draws, |id| self.ask(id)),
                        Reads::Published => {
                            self.sum(each, draws, |id| Some(self.handle.published(&id)?.balance))
                        }
                        Reads::DashMap => self.sum(each, draws, |id| {
                            let account = self.plain.get(&id)?.clone();
                            Some(account.balance)
                        }),
                    };
                    let span = (begun, Instant::now());
                    assert_eq!(sum, Some(OPENING.wrapping_mul(each)), "every read finds its object");
                    span
                })
            };
            let readers: Vec<_> = (0..threads).map(read).collect();
            readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect()
        });
        let first = spans.iter().map(|span| span.0).min().expect("there is a thread");
        let last = spans.iter().map(|span| span.1).max().expect("there is a thread");
        millions_per_second(each * threads, last - first)
    }

    /// The sum of so many reads; `None` if one found nothing.
    #[inline(always)]
    fn sum(&self, reads: u64, mut draws: Draws, read: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut sum = 0_u64;
        for _ in 0..reads {
            sum = sum.wrapping_add(read(self.ids[draws.next_object() as usize])?);
        }
        Some(sum)
    }

    fn ask(&self, id: u64) -> Option<u64> {
        match self.handle.ask(Order::Read { id }).wait() {
            Ok(Receipt::Read { balance, .. }) => Some(balance),
            _ => None,
        }
    }
}
