//! The program that measures other systems for the benchmark.
//!
//! Reads a trial a line from standard input, as JSON, and writes an answer a line to standard
//! output, until its input ends. Trials are measured one after the other. `--list` prints the
//! engines instead. What is not a trial is answered with `failed`, and a panic is, too; the panic's
//! own message goes to standard error.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use freehold_peers::{answer, engines};
use freehold_workloads::{Answer, Trial};

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut output = io::stdout().lock();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--list"] => {
            writeln!(output, "{}", serde_json::to_string(&engines())?)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {
            eprintln!("freehold-peers reads trials from its input, or says what it has: --list");
            return Ok(ExitCode::from(2));
        }
    }
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        let answer = match serde_json::from_slice::<Trial>(&line) {
            Ok(trial) => answer(&trial),
            Err(error) => Answer::Failed(format!("this is not a trial: {error}")),
        };
        writeln!(output, "{}", serde_json::to_string(&answer)?)?;
        output.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}
