//! `freehold log dump`: a line of JSON for each record that can be read, then the first thing that
//! is wrong.
//!
//! Ids, states and messages are in hexadecimal. `id_coding` and `state_coding` say how they were
//! written: "fixed" (numbers of fixed width, little-endian) or "postcard". The exit status is 1 if
//! anything is wrong.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use freehold::inspect::{self, Coded, Coding, Entry, Record, SendId};
use freehold::{LogError, OwnerId, Ownership};
use serde::Serialize;

use super::hex;

/// An [`Entry`] as it is printed.
#[derive(Serialize)]
struct Line {
    /// "checkpoint" or "log".
    source: &'static str,
    log: u64,
    segment: u64,
    offset: u64,
    sequence: u64,
    epoch: u64,
    #[serde(flatten)]
    record: Printed,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Printed {
    Put {
        id: String,
        id_coding: &'static str,
        ownership: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        owner: Option<u64>,
        state: String,
        state_coding: &'static str,
    },
    Remove {
        id: String,
        id_coding: &'static str,
    },
    Cleared {
        collection: String,
        id_coding: &'static str,
    },
    Send {
        send_id: u64,
        sender: u64,
        /// Nanoseconds of the database's own time.
        #[serde(skip_serializing_if = "Option::is_none")]
        due: Option<u64>,
        /// It does not run.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        set_aside: bool,
        message: String,
    },
    Delivered {
        send_id: u64,
    },
    Cancelled {
        send_id: u64,
        due: u64,
    },
}

pub fn dump(directory: &Path) -> Result<ExitCode, LogError> {
    let mut to = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let dumped = inspect::dump(directory, |entry| {
        if written.is_ok()
            && let Some(line) = line(&entry)
        {
            let json = serde_json::to_string(&line).expect("numbers and text are JSON");
            written = writeln!(to, "{json}");
        }
    });
    // Whoever reads it may have read enough.
    if written.and_then(|()| to.flush()).is_err() {
        return Ok(ExitCode::FAILURE);
    }
    dumped.map(|()| ExitCode::SUCCESS)
}

fn coding(value: Coded<'_>) -> &'static str {
    match value.coding {
        Coding::Fixed => "fixed",
        Coding::Postcard => "postcard",
    }
}

fn line(entry: &Entry<'_>) -> Option<Line> {
    let record = match entry.record {
        Record::Put { id, ownership, state } => {
            let (ownership, owner) = match ownership {
                Ownership::Owned(OwnerId(owner)) => ("owned", Some(owner)),
                Ownership::Shared => ("shared", None),
                Ownership::Immutable => ("immutable", None),
            };
            let (id_coding, state_coding) = (coding(id), coding(state));
            let (id, state) = (hex(id.bytes), hex(state.bytes));
            Printed::Put { id, id_coding, ownership, owner, state, state_coding }
        }
        Record::Remove { id } => Printed::Remove { id: hex(id.bytes), id_coding: coding(id) },
        Record::Cleared { collection } => {
            Printed::Cleared { collection: hex(collection.bytes), id_coding: coding(collection) }
        }
        Record::Send { send_id: SendId(send_id), sender: OwnerId(sender), due, message } => {
            let (set_aside, due) = (entry.is_set_aside, due.map(|due| due.0));
            Printed::Send { send_id, sender, due, set_aside, message: hex(message) }
        }
        Record::Delivered { send_id: SendId(send_id) } => Printed::Delivered { send_id },
        Record::Cancelled { send_id: SendId(send_id), due } => Printed::Cancelled { send_id, due: due.0 },
        Record::Epoch(_) => return None,
    };
    Some(Line {
        source: if entry.is_checkpoint { "checkpoint" } else { "log" },
        log: entry.log,
        segment: entry.segment,
        offset: entry.offset,
        sequence: entry.sequence,
        epoch: entry.epoch.0,
        record,
    })
}
