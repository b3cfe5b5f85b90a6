//! What the bank is told on its command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use thiserror::Error;

/// So many shards one thread that pays can keep busy.
const SHARDS_PER_TELLER: usize = 4;
/// The most payments handed over together.
pub const BATCH_MAX: u64 = 1 << 16;
/// Percentage of payments between accounts of two shards, if there are two and nothing else is
/// said.
const CROSS_DEFAULT: f64 = 20.0;
/// The longest between two audits, in seconds.
const AUDIT_EVERY_MAX: f64 = 86_400.0;

/// Makes payments between accounts, one shard per core, and checks that no money was made or lost.
#[derive(Parser)]
pub struct Arguments {
    /// Read payments from this CSV file, or from standard input if it is `-`; columns
    /// from,to,amount
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["generate", "accounts", "cross", "skew", "write_payments"])]
    pub input: Option<PathBuf>,

    /// Make this many payments up
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub generate: u64,

    /// Between this many accounts
    #[arg(long, value_name = "M", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(2..=1 << 53))]
    pub accounts: u64,

    /// Percentage of payments between accounts of two shards [default: 20, and 0 if there is one
    /// shard]
    #[arg(long, value_name = "PERCENT", value_parser = |text: &str| number(text, 100.0))]
    pub cross: Option<f64>,

    /// How unequally busy accounts are: the exponent of Zipf's law, 0 for all alike, at most 2
    #[arg(long, value_name = "THETA", default_value_t = 0.8, value_parser = |text: &str| number(text, 2.0))]
    pub skew: f64,

    /// Seed of the payments made up, and of where accounts live: the same again gives the same
    /// again
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,

    /// Write the payments made up to this CSV file
    #[arg(long, value_name = "FILE")]
    pub write_payments: Option<PathBuf>,

    /// What is on an account when it is opened
    #[arg(long, value_name = "AMOUNT", default_value_t = 1000)]
    pub opening: u64,

    /// Number of shards [default: one per allowed CPU]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,

    /// Threads that hand payments over and count what came of them. With a log, or a list of those
    /// refused, there is one; never more than shards [default: one for four shards]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), requires = "no_log", conflicts_with_all = ["data", "refused"])]
    pub tellers: Option<u16>,

    /// Payments handed over together by a teller [default: 1024 for each of its shards, at most
    /// 65536]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=BATCH_MAX))]
    pub batch: Option<u64>,

    /// Batches handed over and not yet answered
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub in_flight: u64,

    /// Audit all accounts at once, and again so long after each audit, while payments are made; 0
    /// audits them in the end only
    #[arg(long, value_name = "SECONDS", default_value_t = 0.05, value_parser = |text: &str| number(text, AUDIT_EVERY_MAX))]
    audit_every: f64,

    /// Keep a log in this directory, and go on where it ends: run again with the same payments,
    /// after whatever happened, and each is made or refused once [default: a directory that is
    /// removed in the end]
    #[arg(long, value_name = "DIR", conflicts_with = "no_log")]
    pub data: Option<PathBuf>,

    /// Keep the log in a stream of these NATS servers as well. While another bank owns it this one
    /// stands by, and goes on where that one ended. It must be built with `--features replicated`.
    /// The logins: NATS_USER and NATS_PASSWORD (or NATS_TOKEN, NATS_NKEY, NATS_CREDS), and
    /// NATS_SYS_USER and NATS_SYS_PASSWORD of the servers' system account
    #[arg(
        long,
        value_name = "nats://HOST:PORT,..",
        value_delimiter = ',',
        requires = "data",
        conflicts_with = "no_log"
    )]
    pub replicated: Vec<String>,

    /// What this bank is called among those of one stream
    #[arg(long, value_name = "NAME", default_value = "bank", requires = "replicated")]
    pub node: String,

    /// On how many servers the stream must be, at least; fewer than 3 survive the loss of none
    #[arg(long, value_name = "N", default_value_t = 3, requires = "replicated")]
    pub allow_replicas: usize,

    /// If the stream is damaged, found it anew from this bank's log: stop all others first. For the
    /// log of the last owner, or of the bank that has come farthest
    #[arg(long, requires = "replicated")]
    pub repair: bool,

    /// Keep everything in memory only
    #[arg(long)]
    pub no_log: bool,

    /// The size of the files a log is made of
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, conflicts_with = "no_log")]
    pub segment_bytes: usize,

    /// Write a checkpoint after so many bytes of log
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, conflicts_with = "no_log")]
    pub checkpoint_bytes: u64,

    /// Serve /metrics, /healthz and /readyz at this address, for Prometheus and `freehold top`
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<String>,

    /// Stop at the first line that is no payment
    #[arg(long)]
    pub strict: bool,

    /// Write what is on each account in the end to this CSV file, sorted: account,balance
    #[arg(long, value_name = "FILE")]
    pub balances: Option<PathBuf>,

    /// Write each payment refused to this CSV file: line,from,to,amount,reason
    #[arg(long, value_name = "FILE")]
    pub refused: Option<PathBuf>,
}

impl Arguments {
    /// How many threads pay, with so many `shards`: no more than those, as each shard's payments
    /// are one thread's.
    pub fn tellers(&self, shards: usize) -> usize {
        if !self.no_log || self.refused.is_some() {
            return 1;
        }
        self.tellers.map_or(shards.div_ceil(SHARDS_PER_TELLER), usize::from).min(shards.max(1))
    }

    /// Percentage of payments between accounts of two of `shards` shards.
    pub fn cross(&self, shards: usize) -> f64 {
        self.cross.unwrap_or(if shards > 1 { CROSS_DEFAULT } else { 0.0 })
    }

    /// How long after an audit the next one begins; `None` if there is none before the end.
    pub fn audit_every(&self) -> Option<Duration> {
        (self.audit_every > 0.0).then(|| Duration::from_secs_f64(self.audit_every))
    }
}

fn number(text: &str, max: f64) -> Result<f64, NotInRange> {
    text.parse().ok().filter(|number| (0.0..=max).contains(number)).ok_or(NotInRange { max })
}

/// A share, an exponent or a time that cannot be.
#[derive(Debug, Error)]
#[error("it must be a number from 0 to {max}")]
struct NotInRange {
    max: f64,
}
