//! Do the hot paths need more instructions than they did? Counted by callgrind, so the answer is
//! the same on a machine that is busy, or slow, or somebody else's.
//!
//! ```text
//! cargo bench --bench instructions                counts, and compares; needs valgrind
//! cargo bench --bench instructions -- --update    counts, and writes instructions.csv anew
//! cargo bench --bench instructions -- --strict    counts of another compiler as strictly
//! ```
//! The program starts itself under `valgrind --tool=callgrind`, once with some operations and once
//! with twice as many. The difference is free of start-up and set-up; divided by the operations it
//! is what one needs. It ends with 1 if a path needs more than its tolerance allows ([`ledger`]),
//! or if it cannot count.
//!
//! These are instructions and not time: a miss of the cache and a locked instruction count as one.
//! What is not in it: I/O, other threads, the prefetches of the runtime. What the C library copies
//! and allocates is in it, and differs by its version and by processor. It is to be built without
//! `-C target-cpu=native`: valgrind lacks some of the instructions that brings.
//!
//! Without `--bench`, as a test, each path runs once without valgrind, and the file is checked for
//! its form.
//!
//! Why not gungraun (iai-callgrind): it needs a program of its own version installed beside it.

mod books;
#[path = "../../../../benches/exchange/mod.rs"]
mod exchange;
#[allow(dead_code, unused_imports, reason = "this is no harness for its tests")]
#[path = "../../../../src/transport/in_bulk.rs"]
mod in_bulk;
#[allow(dead_code, unused_imports, reason = "the runtime uses all of it; this is no harness for its tests")]
#[path = "../../../../src/transport/lanes.rs"]
mod lanes;
mod ledger;
mod paths;
mod twins;
#[path = "../../../../benches/workload/mod.rs"]
mod workload;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use comfy_table::Cell;
use ledger::{Others, Verdict};
use paths::{LOGGED, PATHS};
use workload::report::table;

/// Operations of the shorter run. A multiple of all batches, and so many that what differs between
/// two set-ups is lost.
const OPERATIONS: u64 = 32 << 10;
/// The path whose operations take longest by far, and how many times fewer it does: that is enough.
const LONGEST: &str = "chain_logged";
const LONGEST_FEWER: u64 = 8;
/// As a test.
const OPERATIONS_TESTED: u64 = 128;
/// How the program is told, under valgrind, what to run: this, the path's name, the operations.
const RUN: &str = "--run-path";

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let has = |wanted: &str| given.iter().any(|argument| argument == wanted);
    if has("--list") {
        return ExitCode::SUCCESS;
    }
    let said = if let [first, name, operations] = &given[..]
        && first == RUN
    {
        run(name, operations)
    } else if workload::is_a_test() {
        test();
        Ok(true)
    } else {
        let others = if has("--strict") { Others::Strictly } else { Others::Roughly };
        count_all(if has("--update") { Then::Writes } else { Then::Compares }, others)
    };
    match said {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What valgrind watches.
fn run(name: &str, operations: &str) -> Result<bool, String> {
    let path =
        PATHS.iter().find(|path| path.name == name).ok_or_else(|| format!("no path is called {name}"))?;
    (path.run)(operations.parse().map_err(|error| format!("{operations}: {error}"))?);
    Ok(true)
}

/// The rows of the table and of the file.
fn rows() -> Vec<&'static str> {
    PATHS.iter().map(|path| path.name).chain([LOGGED.0]).collect()
}

fn test() {
    PATHS.iter().for_each(|path| (path.run)(OPERATIONS_TESTED));
    ledger::check(&rows());
}

/// What is done with the counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Compares,
    /// The file of counts is written anew.
    Writes,
}

/// Counts all paths and says whether the counts may stand.
fn count_all(then: Then, others: Others) -> Result<bool, String> {
    let compiler = compiler()?;
    let scratch =
        tempfile::tempdir().map_err(|error| format!("no directory for valgrind's files: {error}"))?;
    let mut counted = Vec::new();
    for path in &PATHS {
        let operations = OPERATIONS / if path.name == LONGEST { LONGEST_FEWER } else { 1 };
        let [once, twice] = [1, 2].map(|times| count(path.name, times * operations, scratch.path()));
        let more = twice?.checked_sub(once?).ok_or("twice as many operations needed fewer instructions")?;
        counted.push((path.name, more as f64 / operations as f64));
    }
    let of = |name| counted.iter().find(|(path, _)| *path == name).map_or(0.0, |(_, count)| *count);
    counted.push((LOGGED.0, of(LOGGED.1) - of(LOGGED.2)));

    let before = match ledger::read() {
        Err(error) if then == Then::Compares => return Err(error),
        lines => lines.unwrap_or_default(),
    };
    let about = |name: &str| {
        PATHS.iter().find(|path| path.name == name).map_or("what a record adds", |path| path.about)
    };
    let mut shown = table(["path", "instructions", "before", "change", "", ""]);
    let mut verdicts = Vec::new();
    for (name, instructions) in &counted {
        let line = ledger::line_of(&before, name);
        let verdict = ledger::judge(line, *instructions, &compiler, others);
        let (was, change) = line.map_or_else(Default::default, |line| {
            let percent = 100.0 * (instructions / line.instructions - 1.0);
            (format!("{:.1}", line.instructions), format!("{percent:+.2} %"))
        });
        let said = if then == Then::Writes { "" } else { verdict.said() };
        let now = format!("{instructions:.1}");
        shown.add_row([*name, &now, &was, &change, about(name), said].map(Cell::new));
        verdicts.push(verdict);
    }
    println!("instructions for each operation, {compiler}\n{shown}");
    if then == Then::Writes {
        ledger::write(&counted, &compiler)?;
        println!(
            "bench/paths/benches/instructions.csv is written anew: check it in with what changed it, and say why"
        );
        return Ok(true);
    }
    if verdicts.contains(&Verdict::OtherCompiler) {
        println!(
            "warning: bench/paths/benches/instructions.csv was counted with another compiler ({}), so paths are compared within {} % only; write it anew with --update",
            before[0].compiler,
            ledger::OTHER_COMPILER_PERCENT
        );
    }
    let may_stand = !verdicts.iter().any(|verdict| verdict.fails());
    if !may_stand {
        println!(
            "where they go: valgrind --tool=callgrind --callgrind-out-file=now.out {} {RUN} PATH {OPERATIONS}; callgrind_annotate now.out",
            std::env::current_exe().unwrap_or_default().display()
        );
    }
    Ok(may_stand)
}

/// How many instructions a run of a path needs, start-up and all.
fn count(name: &str, operations: u64, scratch: &Path) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    let counts = scratch.join(format!("{name}-{operations}"));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "-q"]);
    valgrind.arg(format!("--callgrind-out-file={}", counts.display()));
    valgrind.arg(program).args([RUN, name, &operations.to_string()]);
    // An empty environment: its strings are on the stack, and move what is aligned there.
    valgrind.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    let output = valgrind.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "valgrind is not installed: `apt install valgrind`, `dnf install valgrind` or `pacman -S valgrind`".to_owned()
        }
        _ => format!("valgrind does not start: {error}"),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{name} under valgrind ended with {}:\n{said}", output.status));
    }
    let text = fs::read_to_string(&counts).map_err(|error| format!("{}: {error}", counts.display()))?;
    total(&text).ok_or_else(|| format!("{}: valgrind says no total of instructions", counts.display()))
}

/// The instructions in callgrind's file (<https://valgrind.org/docs/manual/cl-format.html>): the total of its only event, `Ir`.
fn total(text: &str) -> Option<u64> {
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
    (field("events:")?.trim() == "Ir").then_some(())?;
    field("totals:")?.trim().parse().ok()
}

/// The compiler that built this, if nobody changed it since: `cargo bench` runs what it has just
/// built.
fn compiler() -> Result<String, String> {
    let output = Command::new("rustc").arg("--version").output();
    let output = output.map_err(|error| format!("rustc does not say its version: {error}"))?;
    let version = String::from_utf8_lossy(&output.stdout);
    Ok(format!("{} {}", version.trim(), std::env::consts::ARCH).replace(',', " "))
}
