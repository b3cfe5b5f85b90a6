//! All that one sweep found, as `run.json` has it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::disturbance::Disturbance;

/// The version of the form of `run.json`.
pub const RUN_FORMAT: u32 = 1;

/// A sweep: what was to be measured, on what, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`RUN_FORMAT`].
    pub format: u32,
    /// The command that began it, as it could be typed.
    pub command: Vec<String>,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// When it was last written.
    pub ended: u64,
    /// The version of Freehold.
    pub version: String,
    /// Its commit, with `+` behind it if files were changed; empty if unknown.
    pub commit: String,
    /// The compiler, and whether this was a debug build.
    pub compiler: String,
    /// See the field before.
    pub is_debug: bool,
    /// Where logs were written.
    pub data: PathBuf,
    /// What all draws began from.
    pub seed: u64,
    /// How long each repetition warms up and is measured, in seconds.
    pub warm_up: f64,
    /// See the field before.
    pub measure: f64,
    /// How often each cell is measured.
    pub repetitions: u32,
    /// The machine.
    pub machine: Machine,
    /// Who was measured, by the names in [`Cell::engine`].
    pub engines: BTreeMap<String, Engine>,
    /// What the benchmark itself costs: nanoseconds of a client that takes transactions from its
    /// stream and notes answers, without any engine, for each workload.
    pub overhead_ns: BTreeMap<String, f64>,
    /// Every cell that is to be measured, in order, with what was found so far.
    pub cells: Vec<Measured>,
}

/// Who is measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// Its version.
    pub version: String,
    /// What it is and how it is used, in a sentence.
    pub about: String,
}

/// The machine a run was made on. What it does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// As `/proc/cpuinfo` calls it.
    pub cpu: Option<String>,
    /// CPUs this process may use.
    pub cpus: Vec<usize>,
    /// Cores these are threads of.
    pub cores: Option<usize>,
    /// Sockets these are on.
    pub sockets: Option<usize>,
    /// Caches of the first CPU.
    pub caches: Vec<Cache>,
    /// Whether several of the CPUs are threads of one core.
    pub smt: Option<bool>,
    /// NUMA nodes.
    pub numa_nodes: Option<usize>,
    /// What governs the frequency.
    pub governor: Option<String>,
    /// Whether it is a virtual machine, and whose.
    pub virtualisation: Option<String>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The distribution.
    pub system: Option<String>,
    /// The file system logs are written to, and its directory.
    pub file_system: Option<String>,
    /// How long the disk takes to write and sync 4 KiB, in microseconds.
    pub sync: Option<SyncTime>,
    /// Load averages over a minute, before and after the run.
    pub load_before: Option<f64>,
    /// See the field before.
    pub load_after: Option<f64>,
}

/// A cache of the CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// `L1d`, `L2`, ...
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// How many CPUs share it.
    pub shared_by: usize,
}

/// How long a synced write takes, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncTime {
    /// The median.
    pub p50: f64,
    /// One in a hundred takes longer.
    pub p99: f64,
}

/// A cell and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What was measured.
    pub cell: Cell,
    /// What was found.
    pub outcome: Outcome,
}

/// What was found in a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not begun.
    Pending,
    /// So many repetitions; all are there if they are as many as [`Run::repetitions`].
    Measured(Vec<Repetition>),
    /// The engine cannot do it, and why: not atomically, for example.
    Cannot(String),
    /// It went wrong, or its books did not balance; there is no figure.
    Failed(String),
}

/// What an engine is to measure: one repetition of a cell. What a peer's process reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// What to measure.
    pub cell: Cell,
    /// What all draws begin from.
    pub seed: u64,
    /// How long to warm up and to measure, in seconds.
    pub warm_up: f64,
    /// See the field before.
    pub measure: f64,
    /// Arrivals a second of all clients together, if the loop is open.
    pub per_second: Option<f64>,
    /// Where files may be made; the engine removes what it made.
    pub directory: PathBuf,
}

/// What came of a [`Trial`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was measured, and its books balanced.
    Measured(Box<Repetition>),
    /// The engine cannot do it, and why.
    Cannot(String),
    /// It went wrong.
    Failed(String),
}

/// One repetition of a cell. Counts are of the time that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// How long was measured.
    pub seconds: f64,
    /// Committed transactions.
    pub committed: u64,
    /// Those aborted by the workload's rules.
    pub aborted: u64,
    /// Of both, those that spanned shards.
    pub spanning: u64,
    /// Committed a second: the sum over clients, each by its own clock.
    pub per_second: f64,
    /// CPU time of the process, in seconds, over all cores.
    pub cpu_seconds: f64,
    /// Arrivals a second that were wanted, in an open loop.
    pub wanted_per_second: Option<f64>,
    /// Latencies.
    pub latency: Latency,
    /// Envelopes from shard to shard (row to column); empty for engines without shards. Taken over
    /// warm-up, measurement and drain, as is the next.
    pub traffic: Vec<Vec<u64>>,
    /// Transactions answered in the time `traffic` was counted.
    pub traffic_transactions: u64,
    /// Messages that waited for a lock, counted as `traffic` is.
    pub blocked: u64,
    /// Messages begun anew, counted as `traffic` is.
    pub reruns: u64,
    /// Bytes written to logs, and writes, counted as `traffic` is.
    pub log_bytes: u64,
    /// See the field before.
    pub log_writes: u64,
    /// Who else used the machine.
    pub disturbance: Disturbance,
}

/// Latencies, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were timed.
    pub samples: u64,
    /// The median.
    pub p50: u64,
    /// One in ten takes longer.
    pub p90: u64,
    /// One in a hundred takes longer.
    pub p99: u64,
    /// One in a thousand takes longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
    /// The mean.
    pub mean: f64,
    /// The histogram: the highest value of each bucket that is not empty, and how many are in it.
    pub buckets: Vec<(u64, u64)>,
}

impl From<&Histogram<u64>> for Latency {
    fn from(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Latency {
            samples: times.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: times.max(),
            mean: times.mean(),
            buckets: times
                .iter_recorded()
                .map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
                .collect(),
        }
    }
}

/// What was measured several times: the median, the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl Spread {
    /// Of measurements, if there is one.
    pub fn of(measurements: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = measurements.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&lowest, &highest) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        // Of an even number the mean of the two in the middle.
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Spread { median, lowest, highest })
    }
}

impl Measured {
    /// Its repetitions, if it was measured.
    pub fn repetitions(&self) -> &[Repetition] {
        match &self.outcome {
            Outcome::Measured(repetitions) => repetitions,
            _ => &[],
        }
    }

    /// Committed transactions a second.
    pub fn rate(&self) -> Option<Spread> {
        self.spread(|repetition| repetition.per_second)
    }

    /// Anything of each repetition.
    pub fn spread(&self, of: impl Fn(&Repetition) -> f64) -> Option<Spread> {
        Spread::of(self.repetitions().iter().map(of))
    }

    /// Whether the machine was busy with something else during any repetition.
    pub fn is_disturbed(&self) -> bool {
        self.repetitions().iter().any(|repetition| repetition.disturbance.is_busy())
    }
}
