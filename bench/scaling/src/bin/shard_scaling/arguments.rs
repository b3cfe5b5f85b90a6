//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use freehold_workloads::{Cross, Durability, SEED, Skew};

/// Measures how throughput and latency go with the number of shards, on this machine, for published
/// workloads.
///
/// Every combination of the dimensions below is one cell. Each is measured several times, all cells
/// in turn, and its books are balanced every time. Dimensions take several values, separated by
/// commas.
#[derive(Parser, Debug)]
#[command(version)]
pub struct Arguments {
    /// Less than a minute: small tables, short repetitions; to see that it works
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,

    /// Most workloads with all cross-shard shares, both skews, and open loops; hours, which the
    /// progress bar tells
    #[arg(long)]
    pub full: bool,

    /// The workloads [default: smallbank; with --full all but the smaller mixes of YCSB]
    #[arg(long, value_delimiter = ',')]
    pub workload: Vec<Name>,

    /// Numbers of shards [default: 1, 2, 4 .. allowed CPUs]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Vec<u16>,

    /// Percentages of transactions that span shards, of those that can; or `natural`, as the
    /// workload has it [default: 0,10,50,100,natural; TPC-C and YCSB: natural]
    #[arg(long, value_name = "PERCENT,..", value_delimiter = ',', value_parser = cross)]
    pub cross: Vec<Cross>,

    /// How unevenly rows are used: `uniform`, `zipf:THETA`, `hotspot:ROWS:SHARE` [default: uniform,
    /// and with --full zipf:0.99]
    #[arg(long, value_name = "SKEW,..", value_delimiter = ',', value_parser = skew)]
    pub skew: Vec<Skew>,

    /// What is kept: `none`, `applied`, `durable` [default: all three]
    #[arg(long, value_name = "WHAT,..", value_delimiter = ',', value_parser = durability)]
    pub durability: Vec<Durability>,

    /// Transactions in flight of each client, in closed loops [default: 256, and 16384 where
    /// answers are durable]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub in_flight: Option<u32>,

    /// Also in open loops, at these percentages of what the closed loop reached [default: none;
    /// with --full 50,80]
    #[arg(long, value_name = "PERCENT,..", value_delimiter = ',', value_parser = |text: &str| within(text, 0.1, 1000.0))]
    pub open: Vec<f64>,

    /// Also in open loops, at these rates a second
    #[arg(long, value_name = "RATE,..", value_delimiter = ',', value_parser = |text: &str| within(text, 1.0, 1e8))]
    pub rate: Vec<f64>,

    /// Rows, customers or subscribers; warehouses of TPC-C [default: as each workload was
    /// published, or what fits a quick run]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 31))]
    pub rows: Option<u64>,

    /// H-Store micro: percentages of transactions that abort [default: 0, and with --full 0,10]
    #[arg(long, value_name = "PERCENT,..", value_delimiter = ',', value_parser = |text: &str| within(text, 0.0, 100.0))]
    pub aborts: Vec<f64>,

    /// Transactional YCSB: shards that a spanning transaction touches, 1 to 16 [default: 2, and
    /// with --full 2,4,8,16 as there are shards]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=16))]
    pub spread: Vec<u8>,

    /// Transactional YCSB: percentage of operations that update
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = |text: &str| within(text, 0.0, 100.0))]
    pub writes: f64,

    /// TPC-C: percentage of transactions that are NewOrders; the others are Payments
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = |text: &str| within(text, 0.0, 100.0))]
    pub new_orders: f64,

    /// TPC-C: percentages of order lines from another warehouse [default: 1, and with --full
    /// 0,1,5,10]
    #[arg(long, value_name = "PERCENT,..", value_delimiter = ',', value_parser = |text: &str| within(text, 0.0, 100.0))]
    pub remote_items: Vec<f64>,

    /// Seconds each repetition warms up [default: 0.3; quick 0.02; full 0.5]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| within(text, 0.0, 3600.0))]
    pub warm_up: Option<f64>,

    /// Seconds of each repetition that are measured [default: 1; quick 0.08; full 2]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| within(text, 0.01, 86_400.0))]
    pub measure: Option<f64>,

    /// How often each cell is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repetitions: u32,

    /// What all transactions are drawn from, and where rows live
    #[arg(long, value_name = "S", default_value_t = SEED)]
    pub seed: u64,

    /// Other systems in the same run: all that are known, or those named; built at the first use
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', num_args = 0..)]
    pub peers: Option<Vec<String>>,

    /// Where results go [default: target/shard_scaling/ and the time]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,

    /// Where logs are written while measuring: the disk that is measured [default: the directory of
    /// results]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub data: Option<PathBuf>,

    /// Go on with a run that was interrupted, and try again what failed: its directory. All else is
    /// as it was
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,

    /// Write the report of a run again: its directory. Nothing is measured
    #[arg(long, value_name = "RUN", conflicts_with = "resume")]
    pub report: Option<PathBuf>,
}

/// A workload's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// H-Store's microbenchmark: 12 keys, read and written
    Micro,
    /// SmallBank: six short transactions over one or two customers
    Smallbank,
    /// YCSB: half reads, half updates
    YcsbA,
    /// YCSB: 95 % reads
    YcsbB,
    /// YCSB: reads
    YcsbC,
    /// YCSB: 95 % reads of the latest, 5 % inserts
    YcsbD,
    /// YCSB: 95 % short scans, 5 % inserts
    YcsbE,
    /// YCSB: half reads, half read-modify-writes
    YcsbF,
    /// Transactional YCSB: 16 operations in one transaction
    YcsbT,
    /// TPC-C: NewOrder and Payment
    Tpcc,
    /// TATP: a telephone company's subscribers
    Tatp,
}

/// What an argument has to be.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("it must be a number from {0} to {1}")]
    Number(f64, f64),
    #[error("it must be a percentage from 0 to 100, or `natural`")]
    Cross,
    #[error(
        "it must be `uniform`, `zipf:THETA` with THETA from 0 to 2, or `hotspot:ROWS:SHARE` with SHARE from 0 to 1"
    )]
    Skew,
    #[error("it must be `none`, `applied` or `durable`")]
    Durability,
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, Wrong> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or(Wrong::Number(least, most))
}

fn cross(text: &str) -> Result<Cross, Wrong> {
    if text == "natural" {
        return Ok(Cross::Natural);
    }
    within(text, 0.0, 100.0).map(Cross::Percent).map_err(|_| Wrong::Cross)
}

fn skew(text: &str) -> Result<Skew, Wrong> {
    let parts: Vec<_> = text.split(':').collect();
    let skew = match *parts {
        ["uniform"] => Some(Skew::Uniform),
        ["zipf", theta] => within(theta, 0.0, 2.0).ok().map(Skew::Zipf),
        ["hotspot", rows, share] => {
            let rows = rows.parse().ok().filter(|rows| *rows > 0);
            rows.zip(within(share, 0.0, 1.0).ok()).map(|(rows, share)| Skew::Hotspot { rows, share })
        }
        _ => None,
    };
    skew.ok_or(Wrong::Skew)
}

fn durability(text: &str) -> Result<Durability, Wrong> {
    let all = [Durability::None, Durability::Applied, Durability::Durable];
    all.into_iter().find(|durability| durability.to_string() == text).ok_or(Wrong::Durability)
}
