//! How many transactions a second do the fast path and the cross-shard path make together, beside
//! what was claimed when the project was founded and beside ordered mutex pairs?
//!
//! ```text
//! cargo run --release --example mixed_path_bench -- --owned-ratio:0.2
//! OWNED_RATIO=0.2 PARTITIONS=2 FAST_PATH_ITERS=2000000 FAST_PATH_OBJECTS=10000 \
//!     cargo run --release --example mixed_path_bench
//! ```
//! `--owned-ratio:R`, or `--owned-ratio=R`, is the share of transactions on the fast path, 0.8 if
//! nothing is said: transfers between two accounts of one shard. The others are transfers between
//! accounts of two shards. 1 and 0 measure either path by itself; a rate of a path in a mix is its
//! transactions over the time that all take. `FAST_PATH_ITERS` transactions and `FAST_PATH_OBJECTS`
//! accounts are those of one shard.
//!
//! A task on each shard asks for the transfers, with up to 256 transactions in flight. In each
//! round the same transfers are made by the runtime and by ordered mutex pairs, by the same
//! threads, in turns first and second. The exit status is 0 if the work was proved to be done, 1 if
//! not, and 2 if a setting or an argument is wrong.

mod founding;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use freehold::{Config, ShardStats};
use indicatif::HumanCount;

use founding::workload::SEED;
use founding::workload::course::{Asking, Course, Failure, Lap, Near};
use founding::workload::report::{Conditions, Quantiles, Spread, millions_per_second, times};
use founding::workload::transfers::{Expected, Mix, Mutexes, Popularity, Script};
use founding::{BadSetting, Settings};

/// Shards when `PARTITIONS` does not say.
const PARTITIONS: u64 = 2;
/// The share of fast transactions when nobody says.
const OWNED_RATIO: f64 = 0.8;
/// Transactions a shard has in flight.
const IN_FLIGHT: usize = 256;
/// Of so many transactions one is timed.
const TIMED: u64 = 16;
/// Rounds that are reported, after one that warms up.
const ROUNDS: u64 = 7;

/// Rates as they were claimed when the project was founded, in millions a second: of the fast path
/// in a mix, and of the cross-shard path before and after it was improved.
const CLAIM_FAST: f64 = 150.0;
const CLAIMS_CROSS: [f64; 2] = [0.377, 0.510];

/// What cannot be measured.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Setting(#[from] BadSetting),
    #[error("{0} is not a number from 0 to 1")]
    Ratio(String),
    #[error("unknown argument `{0}`: the only one is --owned-ratio:R, with R from 0 to 1")]
    Argument(String),
    #[error("--owned-ratio is given twice")]
    Twice,
    #[error("{shards} shards of {objects} accounts are more than 4 billion accounts")]
    TooMany { shards: usize, objects: u64 },
}

/// What was asked for.
struct Wanted {
    settings: Settings,
    /// The share of fast transactions.
    owned_ratio: f64,
}

impl Wanted {
    fn new() -> Result<Self, Wrong> {
        let mut ratio = None;
        for argument in env::args_os().skip(1) {
            let argument = argument.to_string_lossy();
            let value = argument.strip_prefix("--owned-ratio").and_then(|rest| rest.strip_prefix([':', '=']));
            let value = value.ok_or_else(|| Wrong::Argument(argument.to_string()))?;
            if ratio.replace(share(value).ok_or_else(|| Wrong::Ratio(argument.to_string()))?).is_some() {
                return Err(Wrong::Twice);
            }
        }
        // What an argument overrides must make sense all the same.
        let from_environment = env::var_os("OWNED_RATIO").map(|value| {
            let value = value.to_string_lossy();
            share(&value).ok_or_else(|| Wrong::Ratio(format!("OWNED_RATIO={value}")))
        });
        let from_environment = from_environment.transpose()?;
        let settings = Settings::from_environment(Some(PARTITIONS), 2)?;
        let Settings { shards, objects, .. } = settings;
        if shards as u64 * objects > u64::from(u32::MAX) {
            return Err(Wrong::TooMany { shards, objects });
        }
        Ok(Wanted { settings, owned_ratio: ratio.or(from_environment).unwrap_or(OWNED_RATIO) })
    }

    /// The share of transactions between shards.
    fn cross(&self) -> f64 {
        if self.settings.shards == 1 { 0.0 } else { 1.0 - self.owned_ratio }
    }
}

fn share(text: &str) -> Option<f64> {
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

fn main() -> ExitCode {
    let wanted = match Wanted::new() {
        Ok(wanted) => wanted,
        Err(error) => {
            eprintln!("mixed_path_bench: {error}");
            return ExitCode::from(2);
        }
    };
    println!(
        "Freehold, founding benchmark: the fast and the cross-shard path, mixed\n\n{}",
        Conditions::now()
    );
    match measure(&wanted) {
        Ok(measurement) => {
            measurement.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nNOT VERIFIED: there are no figures\nmixed_path_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What was measured, and proved.
struct Measurement {
    /// Round by round: through the runtime, and by mutexes.
    rounds: Vec<(Lap, Lap)>,
    /// Transactions through the runtime, the round that warms up included.
    made: u64,
    accounts: usize,
}

fn measure(wanted: &Wanted) -> Result<Measurement, Failure> {
    let Settings { shards, transactions, objects } = wanted.settings;
    let accounts_of_shard = u32::try_from(objects).expect("all accounts together are below 2^32");
    let mut course = Course::start(shards, accounts_of_shard, Config::default())?;
    let mutexes = Arc::new(Mutexes::new(course.accounts()));
    let mut expected = Expected::new(course.accounts());
    let cross = wanted.cross();
    print_settings(wanted, &course.cpus());
    let mix = Mix { cross, popularity: Popularity::Uniform };
    let asking = Asking {
        transfers: transactions,
        near: Near::Now,
        in_flight: IN_FLIGHT,
        timed: TIMED,
        only: None,
        audit: None,
    };
    let (mut rounds, mut made) = (Vec::new(), 0);
    for round in 0..=ROUNDS {
        let script = Arc::new(Script::draw(mix, shards, accounts_of_shard, round));
        let by_mutexes = |course: &Course| {
            let mutexes = mutexes.clone();
            course.lap_of(&script, transactions, move |_, deal| mutexes.transfer(deal))
        };
        // Each is the first of the two in every other round.
        let (ours, theirs) = if round % 2 == 0 {
            let theirs = by_mutexes(&course)?;
            (course.lap(&script, asking.clone())?, theirs)
        } else {
            let ours = course.lap(&script, asking.clone())?;
            (ours, by_mutexes(&course)?)
        };
        expected.add_all(&script, transactions);
        made += ours.transfers();
        if round > 0 {
            rounds.push((ours, theirs));
        }
    }
    expected.check(mutexes.found()).map_err(|broken| Failure::Books(format!("with mutexes, {broken}")))?;
    Ok(Measurement { rounds, made, accounts: course.finish()? })
}

fn print_settings(wanted: &Wanted, cpus: &[Option<usize>]) {
    let Settings { shards, transactions, objects } = wanted.settings;
    println!(
        "settings    {shards} shards, in each {ROUNDS} rounds of {} transactions and {} accounts of 64 bytes, seed {SEED:#x}",
        HumanCount(transactions),
        HumanCount(objects)
    );
    if shards == 1 {
        println!("            one shard: there is no cross-shard path, and all transactions are fast");
    } else {
        println!(
            "            owned ratio {}: {:.1} % fast, {:.1} % cross-shard, up to {IN_FLIGHT} of them in flight in each shard",
            wanted.owned_ratio,
            100.0 * wanted.owned_ratio,
            100.0 * wanted.cross()
        );
    }
    if cpus.iter().any(Option::is_none) {
        println!("            fewer CPUs than shards: this says nothing of what more CPUs would do");
    }
}

impl Measurement {
    fn spread(&self, of: impl Fn(&(Lap, Lap)) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(of))
    }

    fn counted(&self, counter: impl Fn(&ShardStats) -> u64) -> u64 {
        self.rounds.iter().map(|(ours, _)| ours.counted(&counter)).sum()
    }

    fn print(&self) {
        let rate = |count: fn(&Lap) -> u64| {
            self.spread(|(ours, _)| millions_per_second(count(ours), ours.took.wall))
        };
        let (fast, cross) = (rate(|lap| lap.fast), rate(|lap| lap.cross));
        println!("\n                         million transactions a second, on the wall");
        println!(
            "                         median   (lowest to highest round)     founding claim   ratio to it"
        );
        let claimed = |claim: f64, rate: Spread| format!("{claim:>14}   {:.2}", rate.median / claim);
        if fast.highest > 0.0 {
            println!("fast path             {fast:<38} {}", claimed(CLAIM_FAST, fast));
        }
        if cross.highest > 0.0 {
            let [before, after] = CLAIMS_CROSS;
            println!("cross-shard path      {cross:<38} {}", claimed(before, cross));
            println!("                      {:38} {}", "", claimed(after, cross));
        }
        println!("both together         {}", self.spread(|(ours, _)| ours.rate()));
        println!("ordered mutex pairs   {}", self.spread(|(_, theirs)| theirs.rate()));

        println!("\n                         CPU nanoseconds a transaction, over all cores");
        println!("both together         {}", self.spread(|(ours, _)| ours.cpu_ns()));
        println!("ordered mutex pairs   {}", self.spread(|(_, theirs)| theirs.cpu_ns()));
        let ratio = self.spread(|(ours, theirs)| ours.rate() / theirs.rate());
        println!(
            "\nTogether, the rate is {:.2} times that of ordered mutex pairs ({:.2} to {:.2} round by round).",
            ratio.median, ratio.lowest, ratio.highest
        );

        let mut latencies = times();
        self.rounds.iter().for_each(|(ours, _)| latencies += &ours.times);
        let name = if cross.highest > 0.0 { "cross-shard transactions" } else { "fast transactions" };
        println!("\none of {TIMED} timed           {}", Quantiles::HEAD);
        println!("{name:<25}{}", Quantiles(&latencies));

        let count = |counter: fn(&ShardStats) -> u64| HumanCount(self.counted(counter)).to_string();
        println!("\nin all rounds");
        println!("  on the fast path        {}", count(|shard| shard.counters.fast));
        println!("  on the consensus path   {}", count(|shard| shard.counters.consensus));
        println!("  blocked by a lock       {}", count(|shard| shard.counters.blocked));
        let busy = self.rounds.iter().map(|(ours, _)| ours.busy).sum();
        println!("  answered `Busy` first   {}", HumanCount(busy));
        println!("  reruns                  {}", count(|shard| shard.counters.reruns));
        println!("  envelopes in lanes      {}", count(|shard| shard.activity.lane_sent));
        println!(
            "\nverified    {} transactions, all answered: each of {} accounts holds what follows from them, with the runtime and with\n            mutexes, and no money was made or lost",
            HumanCount(self.made),
            HumanCount(self.accounts as u64)
        );
    }
}
