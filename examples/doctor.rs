//! Says whether this machine can run Freehold and, where not, which line to change.
//!
//! ```text
//! cargo run --release --example doctor -- --directory /srv/freehold --shards 8
//! ```
//! The exit status is 0 if everything passed or only warned, and 1 if anything failed.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use freehold::doctor::{Examination, examine};

/// Checks whether this machine can run Freehold, and says what to change if not.
#[derive(Parser)]
struct Arguments {
    /// Directory that will hold the logs; a file is written there and removed again.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Number of shards to be started [default: one per allowed CPU, within the CPU quota].
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroUsize>,
}

fn main() -> ExitCode {
    let Arguments { directory, shards } = Arguments::parse();
    let diagnosis =
        examine(&Examination { shards: shards.map(NonZeroUsize::get), directory, ..Examination::default() });
    println!("{diagnosis}");
    if diagnosis.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
