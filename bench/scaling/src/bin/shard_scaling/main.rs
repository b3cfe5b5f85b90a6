//! How do throughput and latency go with the number of shards, on this machine, and what makes
//! them?
//!
//! ```text
//! cargo run --release -p freehold-scaling --bin shard_scaling -- --quick
//! cargo run --release -p freehold-scaling --bin shard_scaling -- \
//!     --workload smallbank --shards 1,2 --cross 0,10,natural --durability none,durable
//! ```
//! A cell is one workload with one skew, on some shards, with some share of transactions between
//! them, with one durability and one kind of load. All cells are measured in turn, several times
//! over; each time a new runtime is started, rows are loaded, one client on each shard works, and
//! in the end every row is read and compared with what was acknowledged. A cell whose books do not
//! balance has no figures.
//!
//! Results are in a directory: `run.json`, `cells.csv`, `latency/*.hgrm` and `report.html`. Ctrl-C
//! keeps what is there, and `--resume` goes on with it.
//!
//! The exit status is 0 if all cells were measured (or an engine said that it cannot do one), 1 if
//! one failed, 2 if what was asked for makes no sense or results cannot be written, and 130 if it
//! was interrupted.

mod arguments;
mod drive;
mod engine;
mod overhead;
mod peers;
mod plan;
mod results;
mod sweep;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use freehold_workloads::{Engine, Measured, Outcome, RUN_FORMAT, Run, Spread};
use signal_hook::consts::{SIGINT, SIGTERM};

use arguments::Arguments;
use freehold_scaling::machine;
use freehold_scaling::report::Names;
use peers::PeersError;
use plan::{Plan, PlanError};
use results::{Results, ResultsError};
use sweep::{Ended, SweepError};

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Results(#[from] ResultsError),
    #[error(transparent)]
    Peers(#[from] PeersError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Sweep(#[from] SweepError),
    #[error("signals cannot be heard: {0}")]
    Signals(#[from] std::io::Error),
    #[error(
        "the run was begun with {what} {then}, and this is {now}: figures of both do not go together; begin a new run"
    )]
    Other { what: &'static str, then: String, now: String },
    #[error("{0}: --data must be a directory that can be written to: {1}")]
    Data(PathBuf, std::io::Error),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("shard_scaling: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Wrong> {
    if let Some(directory) = &arguments.report {
        let run = Results::read(directory)?;
        Results::open(directory.clone())?.publish(&run)?;
        println!("{}", directory.join("report.html").display());
        return Ok(ExitCode::SUCCESS);
    }
    let (mut run, results) = match &arguments.resume {
        Some(directory) => (resume(directory)?, Results::open(directory.clone())?),
        None => {
            let results = Results::begin(arguments.out.clone().unwrap_or_else(place))?;
            (begin(arguments, arguments.data.as_deref().unwrap_or(results.directory()))?, results)
        }
    };
    tempfile::tempdir_in(&run.data).map_err(|error| Wrong::Data(run.data.clone(), error))?;
    results.keep(&run)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // A second one ends it at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())?;
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    introduce(&run);
    if run.overhead_ns.is_empty() {
        sweep::overheads(&mut run);
    }
    let ended = sweep::sweep(&mut run, &results, &interrupted);
    run.machine.load_after = machine::load();
    run.ended = sweep::now();
    results.publish(&run)?;
    println!("{}", table(&run));
    conclude(&run, &results);
    Ok(match ended? {
        Ended::Interrupted => {
            println!("\ninterrupted; to go on: --resume {}", results.directory().display());
            ExitCode::from(130)
        }
        Ended::Done if run.cells.iter().any(|it| matches!(it.outcome, Outcome::Failed(_))) => {
            ExitCode::FAILURE
        }
        Ended::Done => ExitCode::SUCCESS,
    })
}

/// A run that was interrupted, to be gone on with here and now. What failed is tried again.
fn resume(directory: &Path) -> Result<Run, Wrong> {
    let mut run = Results::read(directory)?;
    let cpus = machine::describe(&run.data).cpus;
    let same = [
        ("version", run.version.clone(), env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", run.commit.clone(), machine::commit()),
        ("compiler", run.compiler.clone(), machine::compiler()),
        ("debug build", run.is_debug.to_string(), cfg!(debug_assertions).to_string()),
        ("CPUs", format!("{:?}", run.machine.cpus), format!("{cpus:?}")),
    ];
    if let Some((what, then, now)) = same.into_iter().find(|(_, then, now)| then != now) {
        return Err(Wrong::Other { what, then, now });
    }
    for measured in &mut run.cells {
        if matches!(measured.outcome, Outcome::Failed(_)) {
            measured.outcome = Outcome::Pending;
        }
    }
    Ok(run)
}

/// A new run, nothing of it measured.
fn begin(arguments: &Arguments, data: &Path) -> Result<Run, Wrong> {
    let machine = machine::describe(data);
    let about = engine::ABOUT.to_owned();
    let ours = Engine { version: env!("CARGO_PKG_VERSION").to_owned(), about };
    let others = match &arguments.peers {
        Some(wanted) => peers::chosen(peers::known()?, wanted)?,
        None => BTreeMap::new(),
    };
    let names: Vec<_> = others.keys().cloned().collect();
    let plan = Plan::new(arguments, machine.cpus.len(), &names)?;
    let mut engines = others;
    engines.insert(engine::NAME.to_owned(), ours);
    let cells = plan.cells.into_iter().map(|cell| Measured { cell, outcome: Outcome::Pending });
    Ok(Run {
        format: RUN_FORMAT,
        command: std::env::args().collect(),
        began: sweep::now(),
        ended: sweep::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: machine::commit(),
        compiler: machine::compiler(),
        is_debug: cfg!(debug_assertions),
        data: data.to_owned(),
        seed: arguments.seed,
        warm_up: plan.warm_up,
        measure: plan.measure,
        repetitions: arguments.repetitions,
        machine,
        engines,
        overhead_ns: BTreeMap::new(),
        cells: cells.collect(),
    })
}

/// Where results go if nobody says.
fn place() -> PathBuf {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    // Without what file systems of others do not take.
    Path::new("target/shard_scaling").join(now.replace(':', "-"))
}

fn introduce(run: &Run) {
    let machine = &run.machine;
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    println!("Freehold {}, shard scaling\n", run.version);
    println!("processor   {}, {} CPUs for this process", known(&machine.cpu), machine.cpus.len());
    println!(
        "system      Linux {}, load {:.2}",
        known(&machine.kernel),
        machine.load_before.unwrap_or_default()
    );
    println!("disk        {}", known(&machine.file_system));
    println!(
        "cells       {}, each {} times, {} s warm-up and {} s measured; seed {:#x}",
        run.cells.len(),
        run.repetitions,
        run.warm_up,
        run.measure,
        run.seed
    );
    machine::advice(machine).iter().for_each(|advice| println!("            {advice}"));
    println!();
}

/// All cells, as they would be read on a terminal; the report says more.
fn table(run: &Run) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "engine", "workload", "shards", "cross", "kept", "load", "M/s", "range", "p50 us", "p99 us", "",
    ]);
    for column in table.column_iter_mut().skip(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let names = Names::of(&[run]);
    for measured in &run.cells {
        let cell = &measured.cell;
        let mut row = vec![
            cell.engine.clone(),
            names.short(&cell.spec),
            cell.shards.to_string(),
            cell.cross.to_string(),
            cell.durability.to_string(),
            cell.load.to_string(),
        ];
        match (&measured.outcome, measured.rate()) {
            (Outcome::Measured(_), Some(rate)) => {
                let Spread { median, lowest, highest } = rate;
                let us = |of: fn(&freehold_workloads::Latency) -> u64| {
                    let spread = measured.spread(|repetition| of(&repetition.latency) as f64 / 1e3);
                    format!("{:.1}", spread.map_or(0.0, |spread| spread.median))
                };
                row.push(format!("{:.3}", median / 1e6));
                row.push(format!("{:.3} to {:.3}", lowest / 1e6, highest / 1e6));
                row.extend([us(|it| it.p50), us(|it| it.p99)]);
                row.push(if measured.is_disturbed() { "busy machine" } else { "" }.to_owned());
            }
            (Outcome::Cannot(why) | Outcome::Failed(why), _) => row.push(why.clone()),
            _ => row.push("not measured".to_owned()),
        }
        table.add_row(row);
    }
    table
}

fn conclude(run: &Run, results: &Results) {
    if run.cells.iter().any(Measured::is_disturbed) {
        println!(
            "\nbusy machine: something else took more than 5 % of its CPUs while a marked cell was measured; measure again on a quiet one"
        );
    }
    if run.is_debug {
        println!("\na debug build: its figures say nothing");
    }
    println!("\nreport      {}", results.directory().join("report.html").display());
}
