//! How many transactions a second do several shards make together, each on objects of its own,
//! beside what was claimed when the project was founded?
//!
//! ```text
//! PARTITIONS=2 FAST_PATH_ITERS=2000000 FAST_PATH_OBJECTS=10000 \
//!     cargo run --release --example partitioned_fast_path_bench
//! ```
//! `FAST_PATH_ITERS` transactions and `FAST_PATH_OBJECTS` objects are those of one partition. The
//! exit status is 0 if the work was proved to be done, 1 if not, and 2 if a setting is wrong.

mod founding;

use std::process::ExitCode;
use std::slice;

use indicatif::HumanCount;

use founding::workload::SEED;
use founding::workload::report::Conditions;
use founding::{CLAIM, Measurement, Settings, Work, measure};

/// Partitions when `PARTITIONS` does not say.
const PARTITIONS: u64 = 2;

/// Rates for some numbers of partitions as they were claimed when the project was founded, in
/// millions a second.
const CLAIMS: [(usize, f64); 3] = [(2, 50.0), (4, 100.0), (8, 180.0)];

fn main() -> ExitCode {
    let settings = match Settings::from_environment(Some(PARTITIONS), 1) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("partitioned_fast_path_bench: {error}");
            return ExitCode::from(2);
        }
    };
    println!("Freehold, founding benchmark: the fast path of several shards\n\n{}", Conditions::now());
    match measure(settings) {
        Ok(measurement) => report(&measurement),
        Err(error) => {
            eprintln!("partitioned_fast_path_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(measurement: &Measurement) -> ExitCode {
    let Settings { shards, transactions, objects } = measurement.settings;
    println!(
        "settings    {shards} partitions, in each {} rounds of {} transactions and {} objects of 64 bytes, seed {SEED:#x}",
        Measurement::ROUNDS,
        HumanCount(transactions),
        HumanCount(objects)
    );
    if measurement.shards.iter().any(|shard| shard.cpu.is_none()) {
        println!("            fewer CPUs than partitions: this says nothing of what more CPUs would do");
    }
    println!("\n                   million transactions a second, median (lowest to highest round)");
    println!("partition   CPU    transactions                           plain hash map, the limit");
    for (at, shard) in measurement.shards.iter().enumerate() {
        let cpu = shard.cpu.map_or("any".to_string(), |cpu| cpu.to_string());
        let rate = |work| measurement.rate(slice::from_ref(shard), work);
        let [ours, plain] = [Work::Transactions, Work::PlainMap].map(rate);
        println!("{at:>9}   {cpu:>3} {ours:<36} {plain}");
    }
    let [ours, plain] =
        [Work::Transactions, Work::PlainMap].map(|work| measurement.rate(&measurement.shards, work));
    println!(" together       {ours:<36} {plain}");
    match CLAIMS.iter().find(|(partitions, _)| *partitions == shards) {
        Some((_, claim)) => {
            println!("    claim       {claim:9.2}   for {shards} partitions, claimed and never measured");
        }
        None => {
            println!("    claim                   none for {shards} partitions; {CLAIM} for one");
        }
    }
    let ratio = measurement.ratio();
    println!(
        "\nTogether is from the first start to the last end. A transaction takes {:.2} times as long as the plain map ({:.2} to {:.2} round by round).",
        ratio.median, ratio.lowest, ratio.highest
    );
    measurement.print_stretches();
    measurement.conclude()
}
