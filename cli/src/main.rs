//! The operator's command: whether a machine can run Freehold, and what is in a log's directory.
//!
//! ```text
//! freehold doctor --directory /srv/freehold --shards 8
//! freehold log verify /var/lib/ledger
//! ```
//! The exit status is 0 if all is well, 1 if something is wrong, and 2 if the command line is.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod doctor;
mod log;

/// Checks machines for Freehold, and looks after its logs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Doctor(doctor::Arguments),
    Log(log::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().task {
        Task::Doctor(arguments) => doctor::run(arguments),
        Task::Log(arguments) => log::run(arguments),
    }
}
