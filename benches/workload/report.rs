//! How benchmarks print what they measured: the conditions first, rates with their range, times
//! with their quantiles.

use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;

/// The conditions of a run, as the first lines of its output.
#[derive(Debug)]
pub struct Conditions {
    processor: String,
    cpus: usize,
    kernel: String,
    load: String,
}

impl Conditions {
    /// Those of this moment. What the system does not tell is said to be unknown.
    pub fn now() -> Self {
        let unknown = || "unknown".to_string();
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let processor = read("/proc/cpuinfo").and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_string())
        });
        let load = read("/proc/loadavg").and_then(|text| Some(text.split_whitespace().next()?.to_string()));
        Conditions {
            processor: processor.unwrap_or_else(unknown),
            cpus: std::thread::available_parallelism().map_or(0, |cpus| cpus.get()),
            kernel: read("/proc/sys/kernel/osrelease")
                .map_or_else(unknown, |release| release.trim().to_string()),
            load: load.unwrap_or_else(unknown),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "processor   {}, {} CPUs for this process", self.processor, self.cpus)?;
        write!(f, "system      Linux {}, load {} at the start", self.kernel, self.load)?;
        if cfg!(debug_assertions) {
            write!(f, "\n            a debug build: its figures say nothing")?;
        }
        Ok(())
    }
}

/// What was measured several times: the median, the lowest and the highest.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Spread {
    /// Of at least one measurement.
    pub fn of(measurements: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<_> = measurements.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(&lowest), Some(&highest)) = (sorted.first(), sorted.last()) else {
            panic!("a spread is of at least one measurement");
        };
        Spread { median: sorted[sorted.len() / 2], lowest, highest }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9.2}   ({:.2} to {:.2})", self.median, self.lowest, self.highest)
    }
}

/// Millions a second: `count` in a time of the clock on the wall.
pub fn millions_per_second(count: u64, wall: Duration) -> f64 {
    count as f64 / wall.as_secs_f64() / 1e6
}

/// The longest time told apart from longer ones, in nanoseconds.
const TIME_MAX_NS: u64 = 60_000_000_000;

/// A histogram of times in nanoseconds, with three significant digits.
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TIME_MAX_NS, 3).expect("the bounds are in order")
}

/// The median and the tail of recorded times, in one line under [`Quantiles::HEAD`].
pub struct Quantiles<'a>(pub &'a Histogram<u64>);

impl Quantiles<'_> {
    /// The heads of the columns.
    pub const HEAD: &'static str = "       p50        p99      p99.9        max    samples";
}

impl fmt::Display for Quantiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for quantile in [0.5, 0.99, 0.999, 1.0] {
            write!(f, "{:>10} ", brief(Duration::from_nanos(self.0.value_at_quantile(quantile))))?;
        }
        write!(f, "{:>10}", self.0.len())
    }
}

/// A time with three digits or so.
pub fn brief(time: Duration) -> String {
    match time.as_nanos() {
        0..10_000 => format!("{} ns", time.as_nanos()),
        10_000..10_000_000 => format!("{:.1} us", time.as_nanos() as f64 / 1e3),
        _ => format!("{:.1} ms", time.as_nanos() as f64 / 1e6),
    }
}

/// An empty table with these columns, of figures but for the first.
pub fn table<const COLUMNS: usize>(heads: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(heads);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Whether an aim is met, in a word.
pub fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
