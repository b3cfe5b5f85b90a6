//! Writes the report of a run that was measured.
//!
//! ```text
//! cargo run --release --example shard_scaling -- --report RUN.json OUT_DIR
//! ```

mod report;

use std::error::Error;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;

use clap::Parser;
use freehold_workloads::Run;

/// Writes the report of a run that was measured.
#[derive(Parser)]
struct Arguments {
    /// The run, and the directory its report is written to.
    #[arg(long, num_args = 2, value_names = ["RUN.json", "OUT_DIR"], required = true)]
    report: Vec<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { report } = Arguments::parse();
    let [from, to] = report.try_into().map_err(|_| "a file and a directory")?;
    let run: Run = serde_json::from_reader(BufReader::new(File::open(from)?))?;
    fs::create_dir_all(&to)?;
    fs::write(to.join("report.html"), report::html(&run))?;
    fs::write(to.join("cells.csv"), report::csv(&run))?;
    for (number, measured) in run.cells.iter().enumerate().filter(|(_, cell)| !cell.repetitions().is_empty())
    {
        let latency = report::merged(measured.repetitions().iter().map(|repetition| &repetition.latency));
        fs::write(to.join(format!("{number:04}.hgrm")), report::percentiles(&latency))?;
    }
    Ok(())
}
