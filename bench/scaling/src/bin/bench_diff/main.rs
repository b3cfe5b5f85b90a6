//! Compares two runs of `shard_scaling` cell by cell, and fails if the second is slower: for CI,
//! and for oneself.
//!
//! ```text
//! cargo run --release -p freehold-scaling --bin bench_diff -- BEFORE AFTER
//!     BEFORE, AFTER                directories with a run.json, or such files
//!     --tolerance 3%               more than this is slower
//!     --engine freehold --json     of this engine only; as JSON
//! ```
//! A closed loop is a regression if its median rate fell by more than the tolerance and no
//! repetition of one run reached the range of the other: each alone happens by chance. Of an open
//! loop the rate is what arrives, so there p99 decides in the same way: a median that rose by more
//! than the tolerance. A cell that had a rate and now has none, because it failed or cannot be done
//! any more, is a regression too. CPU time, and p99 of closed loops, are told and decide nothing.
//!
//! The exit status is 0 if there is no regression, 1 if there is one, and 2 if the runs cannot be
//! compared: a file cannot be read, they share no cell, or `--strict` was given and something makes
//! the comparison doubtful (another machine, a debug build, a busy machine, cells that are
//! missing).

mod comparison;
mod print;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use freehold_workloads::{RUN_FORMAT, Run};

use crate::comparison::Comparison;

/// Compares two runs of shard_scaling cell by cell.
#[derive(Parser)]
struct Arguments {
    /// The run to compare with: a directory with a run.json, or such a file.
    before: PathBuf,

    /// The run that is compared.
    after: PathBuf,

    /// How much slower a cell may be.
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = share)]
    tolerance: f64,

    /// Compares cells of this engine only.
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,

    /// Refuses to compare what is doubtful, instead of warning.
    #[arg(long)]
    strict: bool,

    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// `5%`, `5 %` or `5` as a share from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("`{text}` is not a percentage from 0 to 100")),
    }
}

/// Why two runs cannot be compared.
#[derive(Debug, thiserror::Error)]
enum CannotCompare {
    #[error("{} cannot be read: {why}", path.display())]
    Read { path: PathBuf, why: std::io::Error },
    #[error("{} is not a run of shard_scaling: {why}", path.display())]
    Form { path: PathBuf, why: serde_json::Error },
    #[error("{} has form {found} of run.json; this program reads form {RUN_FORMAT}", path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("the runs have no measured cell in common")]
    NothingShared,
    #[error("the comparison would be doubtful, and --strict was given:\n  {}", .0.join("\n  "))]
    Doubtful(Vec<String>),
    #[error("the comparison cannot be printed: {0}")]
    Print(serde_json::Error),
}

fn read(path: &Path) -> Result<Run, CannotCompare> {
    let path = if path.is_dir() { path.join("run.json") } else { path.to_owned() };
    let bytes = fs::read(&path).map_err(|why| CannotCompare::Read { path: path.clone(), why })?;
    // The form first: of another one the fields are not known.
    #[derive(serde::Deserialize)]
    struct Form {
        format: u32,
    }
    let form = |why| CannotCompare::Form { path: path.clone(), why };
    let Form { format: found } = serde_json::from_slice(&bytes).map_err(form)?;
    if found != RUN_FORMAT {
        return Err(CannotCompare::Version { path, found });
    }
    serde_json::from_slice(&bytes).map_err(form)
}

fn compare(arguments: &Arguments) -> Result<bool, CannotCompare> {
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    let comparison = Comparison::of(&before, &after, arguments.tolerance, arguments.engine.as_deref());
    if comparison.compared() == 0 {
        return Err(CannotCompare::NothingShared);
    }
    if arguments.strict && !comparison.doubts.is_empty() {
        return Err(CannotCompare::Doubtful(comparison.doubts));
    }
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&comparison).map_err(CannotCompare::Print)?),
        false => print::print(&comparison),
    }
    Ok(comparison.regressions == 0)
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench_diff: {error}");
            ExitCode::from(2)
        }
    }
}
