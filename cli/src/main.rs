//! The operator's command: whether a machine can run Freehold, what is in a log's directory, and
//! what a running process does.
//!
//! ```text
//! freehold doctor --directory /srv/freehold --shards 8
//! freehold log verify /var/lib/ledger
//! freehold top 127.0.0.1:9100
//! ```
//! The exit status is 0 if all is well, 1 if something is wrong, and 2 if the command line is.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod doctor;
mod log;
mod top;

/// Checks machines for Freehold, looks after its logs, and watches it at work.
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
    Top(top::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().task {
        Task::Doctor(arguments) => doctor::run(arguments),
        Task::Log(arguments) => log::run(arguments),
        Task::Top(arguments) => top::run(&arguments),
    }
}
