//! How many transactions a second does one shard make, beside what was claimed when the project was
//! founded and beside a plain hash map?
//!
//! ```text
//! FAST_PATH_ITERS=2000000 FAST_PATH_OBJECTS=10000 cargo run --release --example fast_path_bench
//! ```
//! The exit status is 0 if the work was proved to be done, 1 if not, and 2 if a setting is wrong.

mod founding;

use std::process::ExitCode;

use indicatif::HumanCount;

use founding::workload::SEED;
use founding::workload::report::Conditions;
use founding::{CLAIM, Measurement, Settings, Work, measure};

fn main() -> ExitCode {
    let settings = match Settings::from_environment(None, 1) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("fast_path_bench: {error}");
            return ExitCode::from(2);
        }
    };
    println!("Freehold, founding benchmark: the fast path of one shard\n\n{}", Conditions::now());
    match measure(settings) {
        Ok(measurement) => report(&measurement),
        Err(error) => {
            eprintln!("fast_path_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(measurement: &Measurement) -> ExitCode {
    let Settings { transactions, objects, .. } = measurement.settings;
    let place = measurement.shards[0].cpu.map_or("on any CPU".to_string(), |cpu| format!("on CPU {cpu}"));
    println!(
        "settings    {} rounds of {} transactions, {} objects of 64 bytes, seed {SEED:#x}, {place}\n",
        Measurement::ROUNDS,
        HumanCount(transactions),
        HumanCount(objects)
    );
    let rate = |work| measurement.rate(&measurement.shards, work);
    let (ours, plain, ratio) = (rate(Work::Transactions), rate(Work::PlainMap), measurement.ratio());
    let wall_ns = |rate: f64| 1e3 / rate;
    println!("                          million transactions a second          time on the wall");
    println!("                          median   (lowest to highest round)     over transactions, median");
    println!("transactions           {ours:<36}   {:.2} ns", wall_ns(ours.median));
    println!("plain hash map, limit  {plain:<36}   {:.2} ns", wall_ns(plain.median));
    println!("founding claim         {CLAIM:9.2}{:30}{:.2} ns\n", "", wall_ns(CLAIM));
    println!(
        "A transaction takes {:.2} times as long as the plain map ({:.2} to {:.2} round by round); the rate is {:.2} times the claim.",
        ratio.median,
        ratio.lowest,
        ratio.highest,
        ours.median / CLAIM
    );
    measurement.print_stretches();
    measurement.conclude()
}
