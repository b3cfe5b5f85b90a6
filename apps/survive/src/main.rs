//! Does what was acknowledged survive? A child process makes payments on a log, this one kills it
//! (SIGKILL) at any moment, starts the next one on the same log, and compares what that finds with
//! what the ones before had acknowledged, until it is convinced.
//!
//! ```text
//! cargo run --release -p survive                     # 20 kills
//! cargo run --release -p survive -- --kills 1000
//! cargo run --release -p survive -- --ack applied    # may lose what was answered
//! ```
//! Payments go between accounts of any two shards: at once, by messages told, and by messages told
//! to run later, which are owed over a crash. Every life has another number of shards, one to
//! three. Some are killed while they start, which is when logs are read and written anew.
//! Checkpoints are made all the time. What is checked, of every payment, each time: see [`check`].
//!
//! A killed process takes nothing with it that the kernel has. For what a power cut takes, see
//! docs/DURABILITY.md.
//!
//! The exit status is 0 if everything was as it must be; 1 if something was lost, torn or done
//! twice: then the log is kept; 2 if the check could not go on.

mod arguments;
mod check;
mod child;
mod ledger;
mod parent;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Role};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let end = match &arguments.role {
        Some(Role::Child(told)) => child::live(told).map(|()| ExitCode::SUCCESS),
        None => parent::survive(&arguments).map_err(Into::into),
    };
    end.unwrap_or_else(|error| {
        eprintln!("survive: {error}");
        ExitCode::from(2)
    })
}
