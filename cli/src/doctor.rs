//! `freehold doctor`: whether this machine can run Freehold and, where not, which line to change.
//!
//! The exit status is 0 if everything passed or only warned, and 1 if anything failed.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use freehold::doctor::{Examination, examine};

/// Checks whether this machine can run Freehold, and says what to change if not.
#[derive(Args)]
pub struct Arguments {
    /// Directory that will hold the logs; a file is written there and removed again.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Number of shards to be started [default: one per allowed CPU, within the CPU quota].
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroUsize>,
}

pub fn run(Arguments { directory, shards }: Arguments) -> ExitCode {
    let diagnosis =
        examine(&Examination { shards: shards.map(NonZeroUsize::get), directory, ..Examination::default() });
    println!("{diagnosis}");
    if diagnosis.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
