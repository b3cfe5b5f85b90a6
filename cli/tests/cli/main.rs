//! The command `freehold`, run as an operator runs it.

use std::process::Command;

mod doctor;
mod log;
mod top;

/// Runs it with these arguments. Gives the exit status, and what was said on standard output and
/// standard error.
fn freehold(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_freehold")).args(arguments).output().expect("it starts");
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what it says is text");
    (output.status.code(), said(output.stdout), said(output.stderr))
}
