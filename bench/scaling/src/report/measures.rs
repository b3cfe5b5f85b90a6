//! What is computed from a cell's repetitions, and which cells belong together. A figure that a
//! cell does not have is `None`, never 0.

use freehold_workloads::{Cell, Disturbance, Load, Measured, Outcome, Repetition, Run, Spread};

use super::names::SUBJECT;

/// A figure of one repetition.
pub type Figure = fn(&Repetition) -> Option<f64>;

fn quotient(of: f64, by: u64) -> Option<f64> {
    (by > 0).then(|| of / by as f64)
}

/// CPU nanoseconds of the process per transaction, committed or aborted.
pub fn cpu_ns(repetition: &Repetition) -> Option<f64> {
    quotient(1e9 * repetition.cpu_seconds, repetition.committed + repetition.aborted)
}

/// How much of all transactions spanned shards, as measured, from 0 to 1.
pub fn spanning(repetition: &Repetition) -> Option<f64> {
    quotient(repetition.spanning as f64, repetition.committed + repetition.aborted)
}

/// How much of all transactions the workload's rules aborted.
pub fn aborted(repetition: &Repetition) -> Option<f64> {
    quotient(repetition.aborted as f64, repetition.committed + repetition.aborted)
}

/// Envelopes from shard to shard per transaction; engines without shards have none.
pub fn envelopes(repetition: &Repetition) -> Option<f64> {
    let sum: u64 = repetition.traffic.iter().flatten().sum();
    if repetition.traffic.is_empty() { None } else { quotient(sum as f64, repetition.traffic_transactions) }
}

/// Messages that waited for a lock, per thousand transactions.
pub fn blocked(repetition: &Repetition) -> Option<f64> {
    quotient(1e3 * repetition.blocked as f64, repetition.traffic_transactions)
}

/// Messages begun anew, per thousand transactions.
pub fn reruns(repetition: &Repetition) -> Option<f64> {
    quotient(1e3 * repetition.reruns as f64, repetition.traffic_transactions)
}

/// Bytes written to logs per transaction.
pub fn log_bytes(repetition: &Repetition) -> Option<f64> {
    quotient(repetition.log_bytes as f64, repetition.traffic_transactions)
}

/// The 99th percentile of latency, in nanoseconds. Of a repetition in which none was timed there is
/// none.
pub fn p99(repetition: &Repetition) -> Option<f64> {
    (repetition.latency.samples > 0).then_some(repetition.latency.p99 as f64)
}

/// A figure's spread over a cell's repetitions.
pub fn spread(measured: &Measured, figure: Figure) -> Option<Spread> {
    Spread::of(measured.repetitions().iter().filter_map(figure))
}

/// A figure's median over a cell's repetitions.
pub fn median(measured: &Measured, figure: Figure) -> Option<f64> {
    spread(measured, figure).map(|spread| spread.median)
}

/// Whether clients waited for answers before they asked again.
pub fn is_closed(cell: &Cell) -> bool {
    matches!(cell.load, Load::Closed { .. })
}

/// Freehold's own cells that have a figure.
pub fn own(run: &Run) -> impl Iterator<Item = &Measured> {
    run.cells.iter().filter(|measured| measured.cell.engine == SUBJECT && measured.rate().is_some())
}

/// Cells with equal keys together; keys and cells in the order they come.
pub fn grouped<'a, K: PartialEq>(
    cells: impl IntoIterator<Item = &'a Measured>,
    key: impl Fn(&'a Cell) -> K,
) -> Vec<(K, Vec<&'a Measured>)> {
    let mut groups: Vec<(K, Vec<&Measured>)> = Vec::new();
    for measured in cells {
        let key = key(&measured.cell);
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(measured),
            None => groups.push((key, vec![measured])),
        }
    }
    groups
}

/// The most that others took of the machine during a repetition of the cell.
pub fn disturbance(measured: &Measured) -> Disturbance {
    let all = measured.repetitions().iter().map(|repetition| repetition.disturbance);
    let sum = |disturbance: &Disturbance| disturbance.others + disturbance.stolen;
    all.max_by(|a, b| sum(a).total_cmp(&sum(b))).unwrap_or_default()
}

/// How many cells were not begun, and how many were begun and lack repetitions.
pub fn missing(run: &Run) -> (usize, usize) {
    let pending = run.cells.iter().filter(|measured| measured.outcome == Outcome::Pending).count();
    let lacks = |measured: &&Measured| match &measured.outcome {
        Outcome::Measured(repetitions) => repetitions.len() < run.repetitions as usize,
        _ => false,
    };
    (pending, run.cells.iter().filter(lacks).count())
}
