//! `cells.csv`: one row a repetition, and one for each cell that has none, saying why. Columns are
//! only ever added, at the end.

use freehold_workloads::{Cell, Measured, Outcome, Repetition, Run};

use super::measures;

/// The header. Times are nanoseconds.
const COLUMNS: [&str; 35] = [
    "engine",
    "workload",
    "spec",
    "shards",
    "cross",
    "durability",
    "load",
    "outcome",
    "why",
    "repetition",
    "seconds",
    "committed",
    "aborted",
    "spanning",
    "committed_per_second",
    "wanted_per_second",
    "cpu_seconds",
    "cpu_ns_per_transaction",
    "latency_samples",
    "latency_mean_ns",
    "latency_p50_ns",
    "latency_p90_ns",
    "latency_p99_ns",
    "latency_p999_ns",
    "latency_max_ns",
    "traffic_transactions",
    "envelopes",
    "blocked",
    "reruns",
    "log_bytes",
    "log_writes",
    "others_cpu_share",
    "stolen_cpu_share",
    "disturbed",
    "histogram",
];

/// The file of a cell's latencies, within the run's directory; cells are numbered as in the run.
pub fn histogram(number: usize) -> String {
    format!("latency/{number:04}.hgrm")
}

/// What every row begins with.
fn place(cell: &Cell) -> Vec<String> {
    let Cell { engine, spec, shards, cross, durability, load } = cell;
    // All settings, so that rows of two runs can be told apart.
    let settings = serde_json::to_string(spec).unwrap_or_default();
    vec![
        engine.clone(),
        spec.name().to_owned(),
        settings,
        shards.to_string(),
        cross.to_string(),
        durability.to_string(),
        load.to_string(),
    ]
}

fn figures(number: usize, repetition: &Repetition) -> Vec<String> {
    let Repetition { latency, disturbance, .. } = repetition;
    let maybe = |figure: Option<f64>| figure.map_or(String::new(), |figure| figure.to_string());
    let envelopes: u64 = repetition.traffic.iter().flatten().sum();
    let all: [&dyn ToString; 25] = [
        &(number + 1),
        &repetition.seconds,
        &repetition.committed,
        &repetition.aborted,
        &repetition.spanning,
        &repetition.per_second,
        &maybe(repetition.wanted_per_second),
        &repetition.cpu_seconds,
        &maybe(measures::cpu_ns(repetition)),
        &latency.samples,
        &latency.mean,
        &latency.p50,
        &latency.p90,
        &latency.p99,
        &latency.p999,
        &latency.max,
        &repetition.traffic_transactions,
        &envelopes,
        &repetition.blocked,
        &repetition.reruns,
        &repetition.log_bytes,
        &repetition.log_writes,
        &disturbance.others,
        &disturbance.stolen,
        &disturbance.is_busy(),
    ];
    all.iter().map(|figure| figure.to_string()).collect()
}

fn rows((position, Measured { cell, outcome }): (usize, &Measured)) -> Vec<Vec<String>> {
    let row = |outcome: &str, why: &str, figures: Vec<String>| {
        let mut row = place(cell);
        row.extend([outcome.to_owned(), why.to_owned()]);
        row.extend(figures);
        row.resize(COLUMNS.len(), String::new());
        row
    };
    match outcome {
        Outcome::Pending => vec![row("pending", "", Vec::new())],
        Outcome::Cannot(why) => vec![row("cannot", why, Vec::new())],
        Outcome::Failed(why) => vec![row("failed", why, Vec::new())],
        Outcome::Measured(repetitions) if repetitions.is_empty() => vec![row("pending", "", Vec::new())],
        Outcome::Measured(repetitions) => repetitions
            .iter()
            .enumerate()
            .map(|(number, repetition)| {
                // One file has all repetitions of the cell.
                let mut figures = figures(number, repetition);
                figures.push(histogram(position));
                row("measured", "", figures)
            })
            .collect(),
    }
}

/// The run as comma-separated values (RFC 4180), with a header.
pub fn csv(run: &Run) -> String {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let all = run.cells.iter().enumerate().flat_map(rows);
    writer.write_record(COLUMNS).expect("memory takes all");
    all.for_each(|row| writer.write_record(&row).expect("each row has all columns"));
    String::from_utf8(writer.into_inner().expect("memory takes all")).expect("all fields are text")
}
