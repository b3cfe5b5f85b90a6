//! The payments that were refused, of all runs that a log was kept of: they are objects, and read
//! from a snapshot.

use std::io::{self, Write};

use freehold::{Handle, SnapshotError};

use crate::ledger::{Entry, Key, Ledger, Reason, Refused};

/// A line of the list: line, payer, payee, amount and reason.
type Row = (u64, u64, u64, u64, Reason);

/// All payments that were refused.
pub struct Refusals {
    /// In the order of lines.
    rows: Vec<Row>,
}

impl Refusals {
    /// Those that there are now.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(handle: &Handle<Ledger>) -> Result<Self, SnapshotError> {
        let all = handle.snapshot().wait()?.fold(
            Vec::new,
            |rows: &mut Vec<Row>, key, entry| {
                if let (Key::Refused { payer, line }, Entry::Refused(refused)) = (key, entry) {
                    let Refused { to, amount, reason } = **refused;
                    rows.push((line, payer, to, amount, reason));
                }
            },
            |mut all, more| {
                all.extend(more);
                all
            },
        );
        let mut rows = all.wait()?;
        rows.sort_unstable_by_key(|(line, ..)| *line);
        Ok(Refusals { rows })
    }

    /// How many, by [`Reason::index`].
    pub fn count(&self) -> [u64; Reason::ALL.len()] {
        let mut count = [0; Reason::ALL.len()];
        self.rows.iter().for_each(|(.., reason)| count[reason.index()] += 1);
        count
    }

    /// Writes the list.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn list(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "line,from,to,amount,reason")?;
        for (line, from, payee, amount, reason) in &self.rows {
            writeln!(to, "{line},{from},{payee},{amount},{}", reason.label())?;
        }
        to.flush()
    }
}
