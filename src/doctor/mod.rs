//! May this machine run Freehold, and what to change if not.
//!
//! Promise: [`examine`] tries what the runtime will need (the system calls of a start, a ring, its
//! operations, limits, a file written with direct I/O) and reports each as one [`Check`]. A check
//! is `Failed` only if the runtime cannot start, `Warned` if it can and something is worse than it
//! need be. What is not ok comes with the lines that change it, one per environment. Nothing is
//! left behind: rings and the temporary file are gone when `examine` returns.
//!
//! Each check is two steps: a fact is gathered from the machine, and a pure function judges it, so
//! that every verdict is tested without a machine that deserves it. Causes are examined before
//! symptoms: a limit that keeps a ring from being made comes before the ring, and so is the first
//! failure reported.

mod calls;
mod check;
mod cpus;
mod directory;
mod files;
mod limits;
mod privileges;
mod rings;

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use self::check::plural;
pub use self::check::{Check, Verdict};
use self::limits::IO_MEMORY_BYTES_MIN;
use self::rings::Rings;
use crate::topology::Topology;

/// What the runtime to be started will ask of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// How many shards will be started; `None` for as many as [`Topology::shards_by_default`] says.
    pub shards: Option<usize>,
    /// Bytes of I/O buffers that each shard's executor registers with its rings. glommio takes at
    /// least 64 KiB, which is the default here.
    pub io_memory_bytes_per_shard: usize,
    /// The directory that will hold the logs; `None` if nothing is to be stored, and then no file
    /// is tried.
    pub directory: Option<PathBuf>,
}

impl Default for Examination {
    fn default() -> Examination {
        Examination { shards: None, io_memory_bytes_per_shard: IO_MEMORY_BYTES_MIN, directory: None }
    }
}

/// What was examined, in the order of examination. Its `Display` is the report for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// One entry for each fact examined; what could not be examined because of an earlier failure
    /// is absent.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Whether the runtime can start here: no check failed (some may have warned).
    pub fn passed(&self) -> bool {
        self.first_failure().is_none()
    }

    /// The first check that failed, which is the one to repair first: later ones may follow from
    /// it.
    pub fn first_failure(&self) -> Option<&Check> {
        self.with(Verdict::Failed).next()
    }

    fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.verdict == verdict)
    }
}

/// Examines this machine, as the calling thread sees it, for a runtime as described by `options`.
///
/// Takes a few milliseconds. Makes and drops two small rings and, if a directory is given, writes
/// and removes files of up to 4 KiB named `.freehold-doctor-*` in it.
pub fn examine(options: &Examination) -> Diagnosis {
    let topology = Topology::of_this_process();
    let by_default = || topology.as_ref().map_or(1, Topology::shards_by_default);
    let shards = options.shards.unwrap_or_else(by_default);

    // Shards that are more than the CPUs are bound to none.
    let first = topology.as_ref().ok().filter(|topology| shards <= topology.cpus().len());
    let first = first.map(|topology| topology.cpus()[0].id);

    let rings = Rings::tried();
    let mut checks = Vec::from(rings.settings());
    checks.push(calls::examine(first));
    if calls::can_read_limits() {
        checks.extend(limits::examine(shards, options.io_memory_bytes_per_shard, rings.kernel()));
    }
    checks.extend(rings.attempts());
    checks.push(cpus::examine(&topology, shards));
    checks.extend(options.directory.as_deref().map(directory::examine));
    checks.extend(options.directory.as_deref().and_then(files::examine));
    Diagnosis { checks }
}

/// Where the text of a report begins and ends.
const REPORT_INDENT: usize = 9;
const REPORT_WIDTH: usize = 110;

impl Display for Diagnosis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            write!(f, "{:<REPORT_INDENT$}", check.verdict)?;
            write_wrapped(f, REPORT_INDENT + 2, &format!("{}: {}", check.name, check.found))?;
            write!(f, "{:REPORT_INDENT$}  ", "")?;
            write_wrapped(f, REPORT_INDENT + 2, check.why)?;
            if let Some(fix) = &check.fix {
                writeln!(f, "{:REPORT_INDENT$}  To change it:", "")?;
                // Not wrapped: these lines are copied.
                for line in fix.lines() {
                    writeln!(f, "{:REPORT_INDENT$}    {line}", "")?;
                }
            }
        }
        let (failed, warned) = (self.with(Verdict::Failed).count(), self.with(Verdict::Warned).count());
        match (failed, warned) {
            (0, 0) => write!(f, "This machine can run Freehold."),
            (0, _) => write!(f, "This machine can run Freehold, with {warned} warning{}.", plural(warned)),
            _ => write!(
                f,
                "This machine cannot run Freehold: {failed} of {} checks failed.",
                self.checks.len()
            ),
        }
    }
}

/// Ends the line begun, breaking it between words and indenting what follows.
fn write_wrapped(f: &mut Formatter<'_>, indent: usize, text: &str) -> fmt::Result {
    let mut column = indent;
    for (index, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > REPORT_WIDTH {
            write!(f, "\n{:indent$}{word}", "")?;
            column = indent + width;
        } else {
            write!(f, "{}{word}", if index > 0 { " " } else { "" })?;
            column += width + usize::from(index > 0);
        }
    }
    writeln!(f)
}

#[cfg(test)]
#[path = "../../tests/support/seccomp.rs"]
mod seccomp;

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts what every check owes its reader, and hands back its verdict.
    pub(super) fn verdict(check: &Check) -> Verdict {
        assert!(!check.name.is_empty() && !check.found.is_empty() && check.why.ends_with('.'), "{check:?}");
        assert!(!check.found.ends_with('.'), "the display adds the full stop: {check:?}");
        assert_eq!(check.fix.is_some(), check.verdict != Verdict::Passed, "{check:?}");
        for line in check.fix.iter().flat_map(|fix| fix.lines()) {
            let (environment, change) = line.split_once(": ").unwrap_or_default();
            assert!(!environment.is_empty() && !change.trim().is_empty(), "no environment: {line:?}");
        }
        assert_eq!(check.to_string().lines().count(), 1, "one paragraph");
        check.verdict
    }

    pub(super) fn fix(check: &Check) -> &str {
        assert_ne!(verdict(check), Verdict::Passed);
        check.fix.as_deref().unwrap_or_default()
    }

    #[test]
    fn a_report_shows_every_check_and_the_first_failure_is_the_first() {
        let check = |name, verdict| {
            Check::new(
                name,
                verdict,
                "so many words that the line which states them has to be broken ".repeat(4).trim().into(),
            )
            .because("It matters.")
            .fixed_by(|| format!("host: {}\ncontainer: {name}", "change this and that, ".repeat(9)))
        };
        let diagnosis = Diagnosis {
            checks: vec![
                check("disk", Verdict::Passed),
                check("network", Verdict::Warned),
                check("memory", Verdict::Failed),
                check("clock", Verdict::Failed),
            ],
        };
        assert!(!diagnosis.passed());
        assert_eq!(diagnosis.first_failure(), diagnosis.checks.get(2));
        let report = diagnosis.to_string();
        for part in ["ok       disk: ", "warning  network: ", "FAILED   memory: ", "FAILED   clock: "] {
            assert_eq!(report.lines().filter(|line| line.starts_with(part)).count(), 1, "{part}\n{report}");
        }
        for line in diagnosis.checks.iter().filter_map(|check| check.fix.as_deref()).flat_map(str::lines) {
            assert!(report.contains(line), "a line to copy is not wrapped: {line}");
        }
        let prose = report.lines().filter(|line| !line.contains("change this"));
        assert!(prose.clone().all(|line| line.len() <= REPORT_WIDTH) && prose.count() > 4 * 4, "{report}");
        assert!(report.ends_with("cannot run Freehold: 2 of 4 checks failed."));
        let summary = |checks: &[Check]| Diagnosis { checks: checks.to_vec() }.to_string();
        assert!(summary(&diagnosis.checks[..1]).ends_with("can run Freehold."));
        assert!(summary(&diagnosis.checks[..2]).ends_with("can run Freehold, with 1 warning."));
    }

    /// Where io_uring is denied, as in a container, the report says so and says what to change;
    /// nothing panics.
    #[test]
    fn a_denied_io_uring_is_found() {
        let thread = std::thread::spawn(|| {
            seccomp::deny_io_uring();
            examine(&Examination::default())
        });
        let diagnosis = thread.join().expect("a denied system call is no panic");
        let failure =
            diagnosis.checks.iter().find(|check| check.name == "io_uring").expect("it was examined");
        assert_eq!(verdict(failure), Verdict::Failed);
        assert!(failure.found.contains("seccomp filter"), "{failure}");
        assert!(
            diagnosis.checks.iter().all(|check| check.name != "ring operations"),
            "there was no ring to ask"
        );
        assert!(!diagnosis.passed());
    }
}
