//! The program `bank`. All of it is in the library beside it, which says why.

use std::process::ExitCode;

fn main() -> ExitCode {
    bank::main()
}
