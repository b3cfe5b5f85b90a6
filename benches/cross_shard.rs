//! What does a transaction between two shards cost: how many a second, how long each, how many
//! envelopes, as their share among fast transfers grows, beside ordered mutex pairs?
//!
//! ```text
//! cargo bench --bench cross_shard                everything
//! cargo bench --bench cross_shard -- alone       one part: near, shares, popular or alone
//! ```
//! Transfers between two accounts, made by a task on each of two shards, with 1, 16 and 256
//! transactions in flight in each shard. In every round each contender makes transfers of the same
//! seeded draws, on the same threads, one contender after another and each round beginning with
//! another one; *mutex pairs* has each account behind a mutex, no ids and no messages: what two
//! cores with shared memory can do.
//!
//! - *Near*: no transfer goes across shards; two accounts of one shard by `Local::ask_now`, and by
//!   `Local::ask`, whose answer is awaited.
//! - *Shares*: 0 to 100 % of the transfers go across shards; accounts all alike, and by Zipf's law.
//!   Some shares are measured also while a snapshot is open. It is renewed all the time, since only
//!   an account's first write after it was opened keeps what the account was: the more often, the
//!   more writes do.
//! - *Popular*: all transfers go across, and ever more of them meet at one account. The last shard
//!   a transaction visits holds its locks for no time, the first for a round trip: hence a hot
//!   account on either.
//! - *Alone*: one transaction in flight in the whole runtime, whose two shards spin; and the same
//!   way there and back over bare rings, and a lock pair nobody contends for.
//!
//! Rates are of all transfers, on the wall. CPU time is that of all cores. Latencies are of
//! transfers across shards (of the fast ones, where there are no others), from the ask until their
//! task has read the reply, which it does once every 64 transfers, or when no more may be in
//! flight. Envelopes are those put into lanes: messages, answers, locks, settlements. The work is
//! checked: all are answered, each account holds what follows from the draws, the runtime's
//! counters agree; old states were kept where a snapshot was open, and it has all the money.

mod workload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy_table::Table;
use freehold::{Config, Idle, ShardIndex};
use hdrhistogram::Histogram;
use workload::course::{Asking, Course, Failure, Lap, Near};
use workload::renewal::Renewed;
use workload::report::{Conditions, Quantiles, Spread, brief, table, times, verdict};
use workload::transfers::{Expected, Mix, Mutexes, Popularity, Script};
use workload::{Asked, SEED, rings};

const SHARDS: usize = 2;
const IN_FLIGHT_MAX: usize = 256;
const IN_FLIGHT: [usize; 3] = [1, 16, IN_FLIGHT_MAX];
const PERCENT: [u64; 7] = [0, 1, 5, 10, 20, 50, 100];
/// Shares that are measured with a snapshot open, too.
const PERCENT_WITH_SNAPSHOTS: [u64; 4] = [0, 10, 50, 100];
/// After how long it is renewed.
const RENEWED_EVERY: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(1)];
const ZIPF: Popularity = Popularity::Zipf(0.99);
/// Long enough that nobody who is measured as spinning parks.
const SPIN: Duration = Duration::from_millis(500);

/// The aims, and what was claimed when the project was founded.
const ALONE_MAX_NS: u64 = 1_500;
const CPU_MAX_NS: f64 = 90.0;
const CPU_CLAIMED_NS: f64 = 1_960.0;
const HOT_SHARE_MIN: f64 = 1.0 / 3.0;
const AWAITED_MAX: f64 = 1.3;

fn main() {
    let Some(asked) = Asked::of_arguments() else { return };
    let size = if workload::is_a_test() { Size::TEST } else { Size::BENCH };
    println!(
        "{}\nsettings    seed {SEED:#x}, {SHARDS} shards on CPUs of their own, {} accounts of 64 bytes in each, {} rounds\n",
        Conditions::now(),
        size.accounts,
        size.rounds
    );
    if asked.has("near") {
        near(size);
    }
    if asked.has("shares") {
        shares(size, "all accounts alike", Popularity::Uniform);
        shares(size, "accounts by Zipf's law, 0.99", ZIPF);
    }
    if asked.has("popular") {
        popular(size);
    }
    if asked.has("alone") {
        alone(size);
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    accounts: u32,
    /// Rounds that are reported, after one that warms up.
    rounds: u64,
    /// Transfers of each shard in a round, most for those contenders that are fast.
    transfers: u64,
    alone: u64,
}

impl Size {
    const BENCH: Size = Size { accounts: 10_000, rounds: 5, transfers: 200_000, alone: 200_000 };
    const TEST: Size = Size { accounts: 100, rounds: 1, transfers: 320, alone: 40 };
}

/// What makes which transfers.
#[derive(Clone, Copy)]
struct Contender {
    mix: Mix,
    means: Means,
    /// How often the snapshot is renewed that is open meanwhile, if one is. For Freehold only.
    renewed_every: Option<Duration>,
}

impl Contender {
    fn new(mix: Mix, means: Means) -> Self {
        Contender { mix, means, renewed_every: None }
    }

    fn name(&self) -> String {
        // Fast transfers are never in flight.
        let means = match self.means {
            Means::Chain { .. } if self.mix.cross == 0.0 => "ask_now".into(),
            means => means.name(),
        };
        match self.renewed_every {
            None => means,
            Some(every) => format!("{means}, a snapshot every {every:?}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Means {
    /// Freehold, with so many transactions in flight in each shard.
    Chain { in_flight: usize },
    /// Freehold, by `Local::ask`, one after another.
    Awaited,
    /// Ordered mutex pairs.
    Mutexes,
}

impl Means {
    const ALL: [Means; 4] = [
        Means::Mutexes,
        Means::Chain { in_flight: IN_FLIGHT[0] },
        Means::Chain { in_flight: IN_FLIGHT[1] },
        Means::Chain { in_flight: IN_FLIGHT[2] },
    ];

    fn name(self) -> String {
        match self {
            Means::Chain { in_flight } => format!("{in_flight} in flight"),
            Means::Awaited => "Local::ask".into(),
            Means::Mutexes => "mutex pairs".into(),
        }
    }

    /// Transfers of each shard in a round.
    fn transfers(self, size: Size) -> u64 {
        match self {
            Means::Chain { in_flight: 1 } => size.transfers / 4,
            Means::Chain { .. } | Means::Awaited | Means::Mutexes => size.transfers,
        }
    }
}

/// The accounts twice, in a runtime and behind mutexes.
struct Bench {
    course: Course,
    mutexes: Arc<Mutexes>,
    behind_mutexes: Expected,
    size: Size,
    /// Which stream of draws is the next.
    stream: u64,
}

impl Bench {
    fn start(size: Size, config: Config) -> Self {
        let course = done(Course::start(SHARDS, size.accounts, config));
        let mutexes = Arc::new(Mutexes::new(course.accounts()));
        let behind_mutexes = Expected::new(course.accounts());
        Bench { course, mutexes, behind_mutexes, size, stream: 0 }
    }

    /// All rounds of all contenders.
    fn contest(&mut self, contenders: &[Contender]) -> Vec<Outcome> {
        let mut outcomes: Vec<_> = contenders.iter().map(|_| Outcome::default()).collect();
        for round in 0..=self.size.rounds {
            self.stream += 1;
            let mut scripts: Vec<(Mix, Arc<Script>)> = Vec::new();
            for contender in contenders {
                if scripts.iter().all(|(mix, _)| *mix != contender.mix) {
                    let script = Script::draw(contender.mix, SHARDS, self.size.accounts, self.stream);
                    scripts.push((contender.mix, Arc::new(script)));
                }
            }
            for turn in 0..contenders.len() {
                let at = (turn + round as usize) % contenders.len();
                let (_, script) =
                    scripts.iter().find(|(mix, _)| *mix == contenders[at].mix).expect("it was drawn");
                let (lap, renewed) = self.lap(contenders[at], script);
                // The first warms up.
                if round > 0 {
                    outcomes[at].laps.push(lap);
                    outcomes[at].renewed.push(renewed);
                }
            }
        }
        outcomes
    }

    fn lap(&mut self, contender: Contender, script: &Arc<Script>) -> (Lap, Renewed) {
        let transfers = contender.means.transfers(self.size);
        match contender.means {
            Means::Awaited => {
                let (near, timed) = (Near::Awaited, 16);
                let asking = Asking { transfers, near, in_flight: 1, timed, only: None, audit: None };
                (done(self.course.lap(script, asking)), Renewed::default())
            }
            Means::Chain { in_flight } => {
                // One of 16 of all transfers, so that the clocks cost the same whatever the share.
                let timed = if script.has_cross() { (16.0 * contender.mix.cross).ceil() as u64 } else { 16 };
                let asking = Asking { transfers, near: Near::Now, in_flight, timed, only: None, audit: None };
                match contender.renewed_every {
                    None => (done(self.course.lap(script, asking)), Renewed::default()),
                    Some(every) => done(self.course.lap_with_snapshots(script, asking, every)),
                }
            }
            Means::Mutexes => {
                self.behind_mutexes.add_all(script, transfers);
                let mutexes = self.mutexes.clone();
                let lap = self.course.lap_of(script, transfers, move |_, deal| mutexes.transfer(deal));
                (done(lap), Renewed::default())
            }
        }
    }

    /// Checks all accounts.
    fn finish(self) {
        self.behind_mutexes.check(self.mutexes.found()).unwrap_or_else(|broken| panic!("mutexes: {broken}"));
        let accounts = done(self.course.finish());
        println!(
            "verified    all transfers answered, and each of {accounts} accounts holds what follows from them\n"
        );
    }
}

fn done<T>(outcome: Result<T, Failure>) -> T {
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}

/// The rounds of one contender.
#[derive(Default)]
struct Outcome {
    laps: Vec<Lap>,
    renewed: Vec<Renewed>,
}

impl Outcome {
    fn spread(&self, of: impl Fn(&Lap) -> f64) -> Spread {
        Spread::of(self.laps.iter().map(of))
    }

    fn rate(&self) -> Spread {
        self.spread(Lap::rate)
    }

    /// How many times the rate of `other`, round by round.
    fn ratio_to(&self, other: &Outcome) -> Spread {
        let rounds = self.laps.iter().zip(&other.laps);
        Spread::of(rounds.map(|(ours, theirs)| ours.rate() / theirs.rate()))
    }

    fn times(&self) -> Histogram<u64> {
        let mut all = times();
        self.laps.iter().for_each(|lap| all += &lap.times);
        all
    }

    /// The rate, what it is of the baseline's, CPU time, latencies and envelopes, as the cells of a
    /// row.
    fn cells(&self, baseline: &Outcome) -> [String; 8] {
        let [rate, ratio] = [self.rate(), self.ratio_to(baseline)];
        let times = self.times();
        let quantile = |quantile| match times.is_empty() {
            true => String::new(),
            false => brief(Duration::from_nanos(times.value_at_quantile(quantile))),
        };
        [
            format!("{:.2}", rate.median),
            format!("({:.2} to {:.2})", rate.lowest, rate.highest),
            format!("{:.3}", ratio.median),
            format!("{:.0}", self.spread(Lap::cpu_ns).median),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            format!("{:.2}", self.spread(Lap::envelopes).median),
        ]
    }
}

/// A table whose first columns are these, and the others those of [`Outcome::cells`].
fn table_of(what: [&str; 2]) -> Table {
    let [first, second] = what;
    table([
        first,
        second,
        "M/s median",
        "(range)",
        "of mutexes",
        "CPU ns each",
        "p50",
        "p99",
        "p99.9",
        "envelopes each",
    ])
}

fn row(table: &mut Table, what: [String; 2], outcome: &Outcome, baseline: &Outcome) {
    table.add_row(what.into_iter().chain(outcome.cells(baseline)));
}

/// What two accounts of one shard cost, at once and awaited.
fn near(size: Size) {
    println!("transfers between accounts of one shard");
    let mut bench = Bench::start(size, Config::default());
    let mix = Mix { cross: 0.0, popularity: Popularity::Uniform };
    let means = [Means::Mutexes, Means::Chain { in_flight: IN_FLIGHT_MAX }, Means::Awaited];
    let contenders = means.map(|means| Contender::new(mix, means));
    let outcomes = bench.contest(&contenders);
    let mut table = table_of(["across", "means"]);
    for (contender, outcome) in contenders.iter().zip(&outcomes) {
        row(&mut table, ["none".into(), contender.name()], outcome, &outcomes[0]);
    }
    let times = outcomes[1].ratio_to(&outcomes[2]);
    println!(
        "{table}\nLocal::ask takes {:.2} times ask_now ({:.2} to {:.2}); aim {AWAITED_MAX}: {}\n",
        times.median,
        times.lowest,
        times.highest,
        verdict(times.median <= AWAITED_MAX)
    );
    bench.finish();
}

/// How the share of transfers across shards tells.
fn shares(size: Size, name: &str, popularity: Popularity) {
    println!("transfers across shards, {name}");
    let mut bench = Bench::start(size, Config::default());
    let mut table = table_of(["across", "means"]);
    let mut with_snapshots: Vec<(u64, String, Spread, Vec<Renewed>)> = Vec::new();
    for percent in PERCENT {
        let mix = Mix { cross: percent as f64 / 100.0, popularity };
        // Fast transfers are never in flight.
        let means = Means::ALL
            .into_iter()
            .filter(|&means| percent > 0 || means != Means::ALL[1] && means != Means::ALL[2]);
        let mut contenders: Vec<_> = means.map(|means| Contender::new(mix, means)).collect();
        // Each but the mutexes with a snapshot open, too, and the last also with one that is
        // renewed more often.
        let without = contenders.len();
        let mut pairs: Vec<(usize, Duration)> = Vec::new();
        if PERCENT_WITH_SNAPSHOTS.contains(&percent) {
            pairs.extend(
                (1..without).map(|of| (of, RENEWED_EVERY[0])).chain([(without - 1, RENEWED_EVERY[1])]),
            );
        }
        for (of, every) in &pairs {
            contenders.push(Contender { renewed_every: Some(*every), ..contenders[*of] });
        }
        let outcomes = bench.contest(&contenders);
        for (contender, outcome) in contenders.iter().zip(&outcomes) {
            row(&mut table, [format!("{percent} %"), contender.name()], outcome, &outcomes[0]);
        }
        for ((of, _), (contender, with)) in pairs.iter().zip(contenders.iter().zip(&outcomes).skip(without)) {
            let ratio = with.ratio_to(&outcomes[*of]);
            with_snapshots.push((percent, contender.name(), ratio, with.renewed.clone()));
        }
    }
    println!("{table}");
    for (percent, name, ratio, renewed) in with_snapshots {
        let opened = Spread::of(renewed.iter().map(|renewed| renewed.opened as f64));
        let versions_max = renewed.iter().map(|renewed| renewed.versions_max).max().unwrap_or(0);
        println!(
            "{percent:>3} % across, {name}: {:.3} of the rate without ({:.3} to {:.3}); {} to {} snapshots a round, {versions_max} old states kept at most",
            ratio.median, ratio.lowest, ratio.highest, opened.lowest, opened.highest
        );
    }
    bench.finish();
}

/// How popular accounts tell, and what a transaction between two shards costs with many in flight.
fn popular(size: Size) {
    println!("all transfers across shards, by how they meet");
    let mut bench = Bench::start(size, Config::default());
    let popularities = [
        ("all accounts alike", Popularity::Uniform),
        ("Zipf's law, 0.99", ZIPF),
        ("all at one, first shard", Popularity::Hot(0)),
        ("all at one, last shard", Popularity::Hot(SHARDS - 1)),
    ];
    let chain = Means::Chain { in_flight: IN_FLIGHT_MAX };
    let contenders: Vec<_> = popularities
        .iter()
        .flat_map(|&(_, popularity)| [Means::Mutexes, chain].map(|means| (popularity, means)))
        .map(|(popularity, means)| Contender::new(Mix { cross: 1.0, popularity }, means))
        .collect();
    let outcomes = bench.contest(&contenders);
    let mut table = table_of(["accounts", "means"]);
    for ((name, _), pair) in popularities.iter().zip(outcomes.chunks(2)) {
        row(&mut table, [name.to_string(), Means::Mutexes.name()], &pair[0], &pair[0]);
        row(&mut table, [String::new(), chain.name()], &pair[1], &pair[0]);
    }
    println!("{table}");
    let uniform = &outcomes[1];
    let cpu = uniform.spread(Lap::cpu_ns);
    println!(
        "CPU time of a transaction, all alike, {IN_FLIGHT_MAX} in flight, both cores: {:.0} ns ({:.0} to {:.0}); the aim is {CPU_MAX_NS} ns, the founding claim {CPU_CLAIMED_NS} ns: {}",
        cpu.median,
        cpu.lowest,
        cpu.highest,
        verdict(cpu.median <= CPU_MAX_NS)
    );
    for ((name, _), pair) in popularities.iter().zip(outcomes.chunks(2)).skip(1) {
        let share = pair[1].ratio_to(uniform);
        println!(
            "rate of {name:<24} {:.3} of all alike ({:.3} to {:.3}; mutexes {:.3}); the aim is {HOT_SHARE_MIN:.2} or more: {}",
            share.median,
            share.lowest,
            share.highest,
            pair[0].ratio_to(&outcomes[0]).median,
            verdict(share.median >= HOT_SHARE_MIN)
        );
    }
    bench.finish();
}

/// One transaction at a time in the whole runtime.
fn alone(size: Size) {
    println!("one transfer at a time                      {}", Quantiles::HEAD);
    let print = |name: &str, times: &Histogram<u64>| println!("{name:<44}{}", Quantiles(times));
    let mut there_and_back = times();
    rings::round_trips(size.alone, |sent, _| {
        there_and_back.saturating_record(sent.elapsed().as_nanos() as u64);
    });
    print("bare rtrb rings, there and back", &there_and_back);

    let config = Config { idle: Idle::Spin(SPIN), ..Config::default() };
    let mut bench = Bench::start(size, config);
    let script =
        Arc::new(Script::draw(Mix { cross: 1.0, popularity: Popularity::Uniform }, SHARDS, size.accounts, 1));
    let mut lock_pairs = times();
    for deal in script.pieces(0, size.alone, 1).flatten() {
        let begun = Instant::now();
        bench.mutexes.transfer(deal).unwrap_or_else(|refused| panic!("{refused}"));
        lock_pairs.saturating_record(begun.elapsed().as_nanos() as u64);
        bench.behind_mutexes.add(&[*deal]);
    }
    print("ordered mutex pair, one thread", &lock_pairs);
    for shard in 0..SHARDS as u16 {
        let only = Some(ShardIndex(shard));
        let asking =
            Asking { transfers: size.alone, near: Near::Now, in_flight: 1, timed: 1, only, audit: None };
        let lap = done(bench.course.lap(&script, asking));
        print(&format!("transaction asked on shard {shard}, spinning"), &lap.times);
        let median = lap.times.value_at_quantile(0.5);
        println!(
            "{:<44}the aim is a median below {}: {}; {:.2} envelopes",
            "",
            brief(Duration::from_nanos(ALONE_MAX_NS)),
            verdict(median < ALONE_MAX_NS),
            lap.envelopes()
        );
    }
    bench.finish();
}
