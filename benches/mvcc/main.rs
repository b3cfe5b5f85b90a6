//! What is each step from the project's first plan, an optimistic multi-version store of accounts,
//! to chain commit worth, on the same transfers?
//!
//! ```text
//! cargo bench --bench mvcc
//! ```
//! Two threads, each on a CPU of its own, make the same seeded transfers between two accounts:
//!
//! - *a* `RwLock<HashMap<Vec<u8>, Vec<Version>>>`
//! - *b* `DashMap<Vec<u8>, Vec<Version>>`
//! - *c* `DashMap<Vec<u8>, SmallVec<[Version; 4]>>`
//! - *d* the same, with timestamps from ranges of each thread instead of one clock: wrong, and
//!   shown to be
//! - *e* ordered mutex pairs: no versions, no snapshots, no ids
//! - *f* Freehold, two shards, one account on each: chain commit, 256 transactions in flight a
//!   shard. A transfer goes to another core and back, which the others need not; with them both
//!   threads share all memory.
//! - *g* the same in a runtime of its own with all accounts `Shared`: each transfer publishes both
//!   accounts too, so that any thread reads them without a message. It is not the last step of a
//!   way but what that costs.
//!
//! Steps a to d begin anew after an abort, and each transfer is made once. In each round all make
//! transfers one after another, each round beginning with another one. *Stale* is counted in a lap
//! of its own, which is not timed, by counters beside the store: a transaction that began after
//! another had committed, as whoever made that one knew, and that did not see it. The work is
//! checked: each account holds what follows from the draws.
//!
//! Not in it: reads at a snapshot, which is what versions are for; and durability.

mod stores;
#[path = "../workload/mod.rs"]
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use freehold::{Config, Ownership};
use smallvec::SmallVec;
use stores::{ConcurrentMap, LockedMap, OneClock, Ranges, Store, Version};
use workload::course::{Asking, Course, Failure, Lap, Near};
use workload::report::{Conditions, Spread, table};
use workload::transfers::{Audit, Deal, Expected, Mix, Mutexes, Popularity, Receipt, Refused, Script};
use workload::{Asked, SEED};

const SHARDS: usize = 2;
const IN_FLIGHT: usize = 256;
/// Accounts of each shard: so many that transfers seldom meet, and so few that they do.
const ACCOUNTS: [u32; 2] = [10_000, 100];

fn main() {
    if Asked::of_arguments().is_none() {
        return;
    }
    let size = if workload::is_a_test() { Size::TEST } else { Size::BENCH };
    println!(
        "{}\nsettings    seed {SEED:#x}, {SHARDS} threads on CPUs of their own, {} rounds of {} transfers a thread (step d: {}), accounts of 64 bytes, all alike\n",
        Conditions::now(),
        size.rounds,
        size.transfers,
        size.transfers_with_ranges
    );
    for accounts in ACCOUNTS {
        ablation(size, accounts);
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    /// Rounds that are reported, after one that warms up.
    rounds: u64,
    /// Transfers of each thread in a round.
    transfers: u64,
    /// The same for step d, which is slow.
    transfers_with_ranges: u64,
}

impl Size {
    const BENCH: Size = Size { rounds: 7, transfers: 100_000, transfers_with_ranges: 10_000 };
    const TEST: Size = Size { rounds: 1, transfers: 300, transfers_with_ranges: 100 };
}

/// A way to make transfers on memory that both threads share.
trait Engine: Send + Sync {
    /// Makes a transfer. Says how many attempts were aborted.
    fn transfer(&self, thread: usize, deal: &Deal, audit: Option<&Audit>) -> (u64, Result<Receipt, Refused>);
    /// Balance and number of transfers of each account.
    fn found(&self, accounts: u32) -> Vec<(u64, u64)>;
}

struct Versioned<S>(S);

impl<S: Store> Engine for Versioned<S> {
    fn transfer(&self, thread: usize, deal: &Deal, audit: Option<&Audit>) -> (u64, Result<Receipt, Refused>) {
        stores::transfer(&self.0, thread, deal, audit)
    }

    fn found(&self, accounts: u32) -> Vec<(u64, u64)> {
        let newest = (0..accounts).map(|account| self.0.newest(account));
        newest.map(|account| (account.balance, account.transfers)).collect()
    }
}

impl Engine for Mutexes {
    fn transfer(&self, _: usize, deal: &Deal, audit: Option<&Audit>) -> (u64, Result<Receipt, Refused>) {
        let known = audit.map(|audit| audit.begin(deal));
        let outcome = Mutexes::transfer(self, deal);
        if let (Some(audit), Some(known), Ok(receipt)) = (audit, known, outcome) {
            audit.done(deal, known, receipt);
        }
        (0, outcome)
    }

    fn found(&self, _: u32) -> Vec<(u64, u64)> {
        Mutexes::found(self).collect()
    }
}

/// What makes the transfers of a step.
enum Means {
    Shared {
        engine: Arc<dyn Engine>,
        expected: Expected,
    },
    /// Chain commit.
    Freehold,
    /// Chain commit that publishes.
    Publishing,
}

/// The runtimes. Only one of them has something to do at a time.
struct Courses {
    owned: Course,
    shared: Course,
}

struct Step {
    name: &'static str,
    means: Means,
    /// Transfers of each thread in a round.
    transfers: u64,
    laps: Vec<(Lap, u64)>,
    stale: u64,
}

impl Step {
    /// Makes the transfers of a round. Says how many attempts were aborted.
    fn lap(&mut self, courses: &mut Courses, script: &Arc<Script>, audit: Option<Arc<Audit>>) -> (Lap, u64) {
        let transfers = self.transfers;
        match &mut self.means {
            Means::Freehold | Means::Publishing => {
                let is_owned = matches!(self.means, Means::Freehold);
                let course = if is_owned { &mut courses.owned } else { &mut courses.shared };
                let asking = Asking {
                    transfers,
                    near: Near::Now,
                    in_flight: IN_FLIGHT,
                    timed: u64::MAX,
                    only: None,
                    audit,
                };
                let lap = done(course.lap(script, asking));
                let aborts = lap.counted(|shard| shard.counters.aborted + shard.counters.reruns);
                (lap, aborts)
            }
            Means::Shared { engine, expected } => {
                expected.add_all(script, transfers);
                let aborts: Arc<[CachePadded<AtomicU64>; SHARDS]> = Arc::default();
                let (engine, counts) = (engine.clone(), aborts.clone());
                let work = move |thread: usize, deal: &Deal| {
                    let (aborts, outcome) = engine.transfer(thread, deal, audit.as_deref());
                    if aborts > 0 {
                        counts[thread].fetch_add(aborts, Ordering::Relaxed);
                    }
                    outcome
                };
                let lap = done(courses.owned.lap_of(script, transfers, work));
                (lap, aborts.iter().map(|aborts| aborts.load(Ordering::Relaxed)).sum())
            }
        }
    }

    fn spread(&self, of: impl Fn(&(Lap, u64)) -> f64) -> Spread {
        Spread::of(self.laps.iter().map(of))
    }

    /// How many times the rate of another step, round by round.
    fn ratio_to(&self, other: &Step) -> Spread {
        let rounds = self.laps.iter().zip(&other.laps);
        Spread::of(rounds.map(|((ours, _), (theirs, _))| ours.rate() / theirs.rate()))
    }
}

/// All steps. The same stores see all rounds, so that what they collect is there.
fn steps(size: Size, accounts: u32) -> Vec<Step> {
    type Small = SmallVec<[Version; 4]>;
    let expected = Expected::new(accounts as usize);
    let shared = |name, engine: Arc<dyn Engine>| Step {
        name,
        means: Means::Shared { engine, expected: expected.clone() },
        transfers: size.transfers,
        laps: Vec::new(),
        stale: 0,
    };
    let clocked = ConcurrentMap::<Small, OneClock>::new(accounts, SHARDS);
    let ranged = ConcurrentMap::<Small, Ranges>::new(accounts, SHARDS);
    let vectors = ConcurrentMap::<Vec<Version>, OneClock>::new(accounts, SHARDS);
    vec![
        shared("a  RwLock<HashMap>", Arc::new(Versioned(LockedMap::new(accounts)))),
        shared("b  DashMap of Vec", Arc::new(Versioned(vectors))),
        shared("c  DashMap of SmallVec", Arc::new(Versioned(clocked))),
        Step {
            transfers: size.transfers_with_ranges,
            ..shared("d  c with timestamp ranges", Arc::new(Versioned(ranged)))
        },
        shared("e  ordered mutex pairs", Arc::new(Mutexes::new(accounts as usize))),
        Step { means: Means::Freehold, ..shared("f  chain commit", Arc::new(Mutexes::new(0))) },
        Step { means: Means::Publishing, ..shared("g  f, publishing", Arc::new(Mutexes::new(0))) },
    ]
}

fn ablation(size: Size, accounts_of_shard: u32) {
    let mut courses = Courses {
        owned: done(Course::start(SHARDS, accounts_of_shard, Config::default())),
        shared: done(Course::start_as(Ownership::Shared, SHARDS, accounts_of_shard, Config::default())),
    };
    let accounts = SHARDS as u32 * accounts_of_shard;
    let mut steps = steps(size, accounts);
    let mix = Mix { cross: 1.0, popularity: Popularity::Uniform };
    let draw = |stream| Arc::new(Script::draw(mix, SHARDS, accounts_of_shard, stream));
    for round in 0..=size.rounds {
        let script = draw(round);
        for turn in 0..steps.len() {
            let at = (turn + round as usize) % steps.len();
            let lap = steps[at].lap(&mut courses, &script, None);
            // The first warms up.
            if round > 0 {
                steps[at].laps.push(lap);
            }
        }
    }
    let script = draw(size.rounds + 1);
    for step in &mut steps {
        let audit = Arc::new(Audit::new(accounts as usize));
        step.lap(&mut courses, &script, Some(audit.clone()));
        step.stale = audit.stale();
    }
    print(&steps, accounts);
    for step in &steps {
        if let Means::Shared { engine, expected } = &step.means {
            expected
                .check(engine.found(accounts))
                .unwrap_or_else(|broken| panic!("step {}: {broken}", step.name));
        }
        assert!(step.stale == 0 || step.name.starts_with('d'), "step {}: {} stale", step.name, step.stale);
    }
    let accounts = done(courses.owned.finish());
    assert_eq!(done(courses.shared.finish()), accounts);
    println!("verified    each of {accounts} accounts holds what follows from the transfers, in all steps\n");
}

fn done<T>(outcome: Result<T, Failure>) -> T {
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}

fn print(steps: &[Step], accounts: u32) {
    println!("{accounts} accounts");
    let mut table = table([
        "step",
        "M/s median",
        "(range)",
        "of the step before",
        "of a",
        "CPU ns each",
        "aborts per 1000",
        "stale per 1000",
    ]);
    for (at, step) in steps.iter().enumerate() {
        let rate = step.spread(|(lap, _)| lap.rate());
        let ratio = |to: &Step| format!("{:.3}", step.ratio_to(to).median);
        let transfers = SHARDS as f64 * step.transfers as f64;
        table.add_row([
            step.name.to_string(),
            format!("{:.3}", rate.median),
            format!("({:.3} to {:.3})", rate.lowest, rate.highest),
            if at == 0 { String::new() } else { ratio(&steps[at - 1]) },
            ratio(&steps[0]),
            format!("{:.0}", step.spread(|(lap, _)| lap.cpu_ns()).median),
            format!("{:.2}", step.spread(|(_, aborts)| 1e3 * *aborts as f64 / transfers).median),
            format!("{:.2}", 1e3 * step.stale as f64 / transfers),
        ]);
    }
    println!("{table}");
}
