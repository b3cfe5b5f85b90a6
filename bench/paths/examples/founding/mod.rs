//! What the founding benchmarks share: their settings; and for the two of the fast path the
//! measurement and the proof that the work was done.
//!
//! There a transaction is `Local::ask_now` in a task on a shard: its id is routed, its object
//! found, its owner checked and a before-image kept (unless the compiler sees that this message
//! cannot fail once it has written); it changes the object, is counted, and answers with the new
//! total. Every shard has objects of its own. In each round all shards do the same transactions
//! twice, in a plain hash map of their thread and in the runtime, the order changing from round to
//! round, and each of the two begins on all shards together. Rates are transactions over the time
//! on the wall from the first start to the last end, never a mean latency turned over.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

#[path = "../../../../benches/workload/mod.rs"]
pub mod workload;

use std::env::{self, VarError};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold::{
    Config, Counters, Local, PlacementKey, Runtime, SHARDS_MAX, Shards, StartError, TaskError, glommio,
};
use hdrhistogram::Histogram;
use indicatif::HumanCount;

use workload::laps::StartingLine;
use workload::report::{Quantiles, Spread, millions_per_second, times};
use workload::{Counter, Draws, Message, SEED, Tally, add_in_plain_map, add_on_shard, id_of, plain_map};

/// Rounds that are reported, after one that warms up.
const ROUNDS: usize = 7;
/// After so many transactions a task looks whether others want to run, as a well-behaved task does.
const STRETCH: u64 = 4096;

/// A transaction's rate on one core as it was claimed when the project was founded, in millions a
/// second: 35 ns each.
pub const CLAIM: f64 = 28.57;

/// How large a benchmark is.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many shards work.
    pub shards: usize,
    /// Transactions of each shard in each round.
    pub transactions: u64,
    /// Objects of each shard.
    pub objects: u64,
}

/// A setting that cannot be. The benchmark does not run.
#[derive(Debug, thiserror::Error)]
#[error("{name}={value} is not a whole number from {} to {}", range.start(), range.end())]
pub struct BadSetting {
    name: &'static str,
    value: String,
    range: RangeInclusive<u64>,
}

impl Settings {
    /// From the environment: `FAST_PATH_ITERS`, `FAST_PATH_OBJECTS` and, with `default_shards`,
    /// `PARTITIONS`; one shard without. A shard has at least `objects_min` objects.
    pub fn from_environment(default_shards: Option<u64>, objects_min: u64) -> Result<Self, BadSetting> {
        let shards = match default_shards {
            Some(default) => number("PARTITIONS", default, 1..=SHARDS_MAX as u64)?,
            None => 1,
        };
        Ok(Settings {
            shards: shards as usize,
            transactions: number("FAST_PATH_ITERS", 2_000_000, 1..=1 << 40)?,
            objects: number("FAST_PATH_OBJECTS", 10_000, objects_min..=100_000_000)?,
        })
    }
}

/// The number in the variable `name`, or the default if there is no such variable.
fn number(name: &'static str, default: u64, range: RangeInclusive<u64>) -> Result<u64, BadSetting> {
    let value = match env::var(name) {
        Err(VarError::NotPresent) => return Ok(default),
        Err(VarError::NotUnicode(value)) => value.to_string_lossy().into_owned(),
        Ok(value) => value,
    };
    match value.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(BadSetting { name, value, range }),
    }
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("a benchmark's task did not finish: {0}")]
    Task(#[from] TaskError),
}

/// What was measured.
pub struct Measurement {
    pub settings: Settings,
    pub shards: Vec<ShardMeasurement>,
}

/// What one shard did.
pub struct ShardMeasurement {
    pub cpu: Option<usize>,
    counters: Counters,
    ours: Done,
    plain: Done,
}

/// One kind of work, done.
struct Done {
    /// Round by round, the first one to warm up.
    laps: Vec<Lap>,
    /// How long each [`STRETCH`] took, but in the first round.
    stretches: Histogram<u64>,
    /// Of reading all objects in the end.
    totals: Tally,
}

/// Some work from its start to its end.
#[derive(Clone, Copy)]
struct Lap {
    begun: Instant,
    ended: Instant,
    tally: Tally,
}

/// Which of the two kinds of work.
#[derive(Clone, Copy)]
pub enum Work {
    Transactions,
    PlainMap,
}

impl ShardMeasurement {
    fn done(&self, work: Work) -> &Done {
        match work {
            Work::Transactions => &self.ours,
            Work::PlainMap => &self.plain,
        }
    }
}

/// Two numbers that had to be equal.
#[derive(Debug)]
pub struct Check {
    what: &'static str,
    shard: usize,
    expected: u64,
    found: u64,
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Check { what, shard, expected, found } = self;
        write!(f, "shard {shard}: {what} should be {expected} and is {found}")
    }
}

impl Check {
    fn holds(&self) -> bool {
        self.expected == self.found
    }
}

impl Measurement {
    /// Rounds measured.
    pub const ROUNDS: usize = ROUNDS;

    /// The rate of these shards together over the rounds, in millions a second.
    pub fn rate(&self, shards: &[ShardMeasurement], work: Work) -> Spread {
        let transactions = self.settings.transactions * shards.len() as u64;
        Spread::of((1..=ROUNDS).map(|round| millions_per_second(transactions, wall(shards, work, round))))
    }

    /// How many times the plain map's time the transactions took, each round by itself.
    pub fn ratio(&self) -> Spread {
        let seconds = |work, round| wall(&self.shards, work, round).as_secs_f64();
        Spread::of(
            (1..=ROUNDS).map(|round| seconds(Work::Transactions, round) / seconds(Work::PlainMap, round)),
        )
    }

    /// Prints how long stretches took, on all shards. On a machine that does other things too their
    /// median is what to look at.
    pub fn print_stretches(&self) {
        println!("\ntime of {} in a row     {}", HumanCount(STRETCH), Quantiles::HEAD);
        for (name, work) in [("transactions", Work::Transactions), ("plain hash map", Work::PlainMap)] {
            let mut all = times();
            self.shards.iter().for_each(|shard| all += &shard.done(work).stretches);
            println!("{name:<25}{}", Quantiles(&all));
        }
    }

    /// Transactions of each shard, the round that warms up included.
    fn transactions_of_shard(&self) -> u64 {
        self.settings.transactions * (ROUNDS as u64 + 1)
    }

    /// One number for all replies.
    fn checksum(&self) -> u64 {
        let laps = self.shards.iter().flat_map(|shard| &shard.ours.laps);
        laps.fold(0, |checksum, lap| checksum.wrapping_add(lap.tally.checksum))
    }

    /// Everything that says that the work was done. Returns how many facts were checked, or those
    /// that do not hold.
    fn verify(&self) -> Result<usize, Vec<Check>> {
        let mut checks = Vec::new();
        let (made, objects) = (self.transactions_of_shard(), self.settings.objects);
        for (at, ShardMeasurement { ours, plain, counters, .. }) in self.shards.iter().enumerate() {
            let mut check = |what, expected, found| checks.push(Check { what, shard: at, expected, found });
            check("the sum over all objects", made, ours.totals.checksum);
            check("the sum over the plain map", made, plain.totals.checksum);
            check("the number of refused reads", 0, ours.totals.refused + plain.totals.refused);
            // Every object was opened once and, in the end, read once.
            check("the runtime's count of messages applied", made + 2 * objects, counters.fast);
            check("the runtime's count of all messages", made + 2 * objects, counters.handled());
            check("the runtime's count of objects", objects, counters.objects);
            check("the number of rounds", ROUNDS as u64 + 1, ours.laps.len().min(plain.laps.len()) as u64);
            for (ours, plain) in ours.laps.iter().zip(&plain.laps) {
                check("the number of refused transactions", 0, ours.tally.refused + plain.tally.refused);
                check("the checksum of a round's replies", plain.tally.checksum, ours.tally.checksum);
            }
        }
        let checked = checks.len();
        checks.retain(|check| !check.holds());
        if checks.is_empty() { Ok(checked) } else { Err(checks) }
    }

    /// Prints whether the work was done, which is what the exit status says.
    pub fn conclude(&self) -> ExitCode {
        match self.verify() {
            Ok(checked) => {
                println!(
                    "\nverified    {} transactions on each of {} shards: the sums over all objects, the runtime's counters and the plain map's \
                     replies agree in all {checked} checks\nchecksum    {:#018x}",
                    HumanCount(self.transactions_of_shard()),
                    self.shards.len(),
                    self.checksum()
                );
                ExitCode::SUCCESS
            }
            Err(broken) => {
                eprintln!("\nNOT VERIFIED: the figures above count for nothing");
                broken.iter().for_each(|check| eprintln!("  {check}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// The time on the wall of one round, from the first start to the last end.
fn wall(shards: &[ShardMeasurement], work: Work, round: usize) -> Duration {
    let laps = || shards.iter().map(|shard| shard.done(work).laps[round]);
    let begun = laps().map(|lap| lap.begun).min().expect("there is at least one shard");
    let ended = laps().map(|lap| lap.ended).max().expect("there is at least one shard");
    ended - begun
}

/// Runs a benchmark.
pub fn measure(settings: Settings) -> Result<Measurement, Failure> {
    let config = Config {
        shards: Shards::Count(settings.shards),
        // So that each run has the same objects.
        placement_key: Some(PlacementKey(SEED)),
        ..Config::default()
    };
    let runtime = Runtime::<Counter>::start(config)?;
    let line = Arc::new(StartingLine::default());
    let results = runtime.on_each_shard(move |local| work(local, settings, line.clone())).wait();
    let stats = runtime.shutdown().stats;
    let shards = results.into_iter().zip(stats.shards).map(|(result, stats)| {
        let result = result?;
        Ok(ShardMeasurement { cpu: stats.cpu, counters: stats.counters, ..result })
    });
    Ok(Measurement { settings, shards: shards.collect::<Result<_, TaskError>>()? })
}

/// What one shard does.
async fn work(local: Local<Counter>, settings: Settings, line: Arc<StartingLine>) -> ShardMeasurement {
    let Settings { shards, transactions, objects } = settings;
    let is_here = |id: &u64| local.home(id) == local.shard();
    let ids: Vec<u64> = (0..).map(id_of).filter(is_here).take(objects as usize).collect();
    let id = |object: u64| ids[object as usize];
    let mut map = plain_map(ids.iter().copied());
    let (mut ours, mut plain) = (Done::new(), Done::new());
    for stretch in ids.chunks(STRETCH as usize) {
        stretch.iter().for_each(|&id| ours.totals.add(local.ask_now(&Message::Open { id })));
        glommio::yield_if_needed().await;
    }
    for round in 0..=ROUNDS as u64 {
        let draws = Draws::new(objects, round * SHARDS_MAX as u64 + u64::from(local.shard().0));
        // Each kind of work is the first of the two in every other round.
        for half in 0..2 {
            line.wait(2 * round + half + 1, shards).await;
            let mut draws = draws.clone();
            if (round + half) % 2 == 0 {
                plain.lap(transactions, |count| add_in_plain_map(&mut map, &mut draws, count, id)).await;
            } else {
                ours.lap(transactions, |count| add_on_shard(&local, &mut draws, count, id)).await;
            }
        }
    }
    for stretch in ids.chunks(STRETCH as usize) {
        for &id in stretch {
            ours.totals.add(local.ask_now(&Message::Total { id }));
            plain.totals.add(map.get(&id).map(|state| state.total).ok_or(id));
        }
        glommio::yield_if_needed().await;
    }
    ShardMeasurement { cpu: None, counters: Counters::default(), ours, plain }
}

impl Done {
    fn new() -> Self {
        Done { laps: Vec::with_capacity(ROUNDS + 1), stretches: times(), totals: Tally::default() }
    }

    /// Does so many transactions, some at a time, and looks in between whether others want to run.
    async fn lap(&mut self, transactions: u64, mut work: impl FnMut(u64) -> Tally) {
        let (mut tally, mut left) = (Tally::default(), transactions);
        let begun = Instant::now();
        let mut ended = begun;
        while left > 0 {
            let stretch = left.min(STRETCH);
            tally.merge(work(stretch));
            left -= stretch;
            glommio::yield_if_needed().await;
            let now = Instant::now();
            if stretch == STRETCH && !self.laps.is_empty() {
                self.stretches.saturating_record((now - ended).as_nanos() as u64);
            }
            ended = now;
        }
        self.laps.push(Lap { begun, ended, tally });
    }
}
