//! What a check says: one fact about the machine, and whether the runtime can live with it.

use std::fmt::{self, Display, Formatter};

/// One fact about the machine. Its `Display` is one paragraph, fit for an error message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was examined, in a word or three.
    pub name: &'static str,
    /// Whether the runtime can live with it.
    pub verdict: Verdict,
    /// What was found, without a full stop.
    pub found: String,
    /// Why it matters, in full sentences.
    pub why: &'static str,
    /// How to change it, one line per environment, each opening with the environment and a colon.
    /// Present exactly when the verdict is not `Passed`.
    pub fix: Option<String>,
}

/// Whether the runtime can live with what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// The runtime starts, and something is slower or less safe than it need be.
    Warned,
    /// The runtime does not start.
    Failed,
}

impl Check {
    pub(super) fn new(name: &'static str, verdict: Verdict, found: String) -> Check {
        Check { name, verdict, found, why: "", fix: None }
    }

    pub(super) fn because(self, why: &'static str) -> Check {
        Check { why, ..self }
    }

    /// Keeps the rule that whatever is not ok says how to change it.
    pub(super) fn fixed_by(self, fix: impl FnOnce() -> String) -> Check {
        let fix = (self.verdict != Verdict::Passed).then(fix);
        Check { fix, ..self }
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}. {}", self.name, self.verdict, self.found, self.why)?;
        match &self.fix {
            Some(fix) => write!(f, " To change it: {}", fix.lines().collect::<Vec<_>>().join("; ")),
            None => Ok(()),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Passed => "ok",
            Verdict::Warned => "warning",
            Verdict::Failed => "FAILED",
        })
    }
}

/// What a noun of so many ends with.
pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
