//! Looks at a log's directory: whether it is whole, and what is in it; takes a backup of it, and
//! brings one back. Needs no actor, and changes nothing in the directory but what becomes of a
//! message that is owed.
//!
//! ```text
//! cargo run --release --example freehold_log -- verify /var/lib/ledger
//! cargo run --release --example freehold_log -- dump /var/lib/ledger | jq 'select(.epoch > 100)'
//! cargo run --release --example freehold_log -- owed /var/lib/ledger
//! cargo run --release --example freehold_log -- owed /var/lib/ledger --release 17
//! cargo run --release --example freehold_log -- backup /var/lib/ledger /var/lib/ledger.monday
//! cargo run --release --example freehold_log -- restore /var/lib/ledger.monday /var/lib/ledger.new
//! ```
//! `verify` prints what there is and everything that is wrong; the exit status is 1 if anything is.
//! `dump` prints a line of JSON for each record that can be read, ids, states and messages in
//! hexadecimal, and then says what is wrong first, if anything is. `owed` prints a line of JSON for
//! each message that was told and has not run; one that is set aside, because it was under way in
//! several crashes, can be released (it runs again at the next start), and any can be dropped (it
//! never runs). For both no runtime may have the directory open. `backup` may be used while a
//! runtime has the directory open.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use freehold::backup::{self, Backup, BackupError, Files};
use freehold::inspect::{self, Debt, Entry, Record, Verified, VerifiedRun};
use freehold::{LogError, OwnerId, Ownership, owed};
use serde::Serialize;

/// Looks at a log's directory, takes backups of it and brings them back, and decides about messages
/// that are owed.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Reads everything, and prints a summary and every damage.
    Verify {
        /// The log's directory.
        directory: PathBuf,
    },
    /// Prints every record as a line of JSON.
    Dump {
        /// The log's directory.
        directory: PathBuf,
    },
    /// Prints every message that was told and has not run as a line of JSON; or decides about one.
    Owed {
        /// The log's directory.
        directory: PathBuf,
        /// The number of a message that is to run again, though it was set aside.
        #[arg(long, value_name = "NUMBER", conflicts_with = "drop")]
        release: Option<u64>,
        /// The number of a message that is never to run.
        #[arg(long, value_name = "NUMBER")]
        drop: Option<u64>,
    },
    /// Takes a backup, also while a runtime has the directory open.
    Backup {
        /// The log's directory.
        directory: PathBuf,
        /// Where the backup is made: an empty directory, or one that is not there yet.
        to: PathBuf,
        /// Copies every file. Otherwise files that are not written any more are hard links, where
        /// the file system has them.
        #[arg(long)]
        copy: bool,
    },
    /// Verifies a backup, and copies it to where a runtime can open it.
    Restore {
        /// The backup.
        from: PathBuf,
        /// An empty directory, or one that is not there yet.
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Verify { directory } => verify(&directory).map_err(BackupError::from),
        Task::Dump { directory } => dump(&directory).map_err(BackupError::from),
        Task::Owed { directory, release, drop } => owed(&directory, release, drop).map_err(BackupError::from),
        Task::Backup { directory, to, copy } => {
            let files = if copy { Files::Copied } else { Files::Linked };
            backup::backup(&directory, &to, files).map(|made| say("backup", &made))
        }
        Task::Restore { from, directory } => {
            backup::restore(&from, &directory).map(|made| say("restored", &made))
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn say(what: &str, Backup { epoch, files, linked, bytes, .. }: &Backup) -> ExitCode {
    println!("{what}: complete through epoch {}, {files} files ({linked} links), {bytes} bytes", epoch.0);
    ExitCode::SUCCESS
}

fn verify(directory: &Path) -> Result<ExitCode, LogError> {
    let verified = inspect::verify(directory)?;
    println!("{}", summary(&verified));
    for damage in &verified.damages {
        println!("{damage}");
    }
    match verified.damages.len() {
        0 => println!("no damage"),
        damages => println!("{damages} damaged"),
    }
    Ok(if verified.damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn summary(verified: &Verified) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let mut row = |what: String, value: String| {
        table.add_row([what, value]);
    };
    row("database".into(), format!("{:016x}", verified.database));
    row("segment bytes".into(), verified.segment_bytes.to_string());
    if let Some(checkpoint) = &verified.checkpoint {
        row("checkpoint before epoch".into(), checkpoint.epoch.0.to_string());
        row("  version of types".into(), checkpoint.schema_version.to_string());
        row("  parts, bytes".into(), format!("{}, {}", checkpoint.parts, checkpoint.bytes));
        row("  objects, messages owed".into(), format!("{}, {}", checkpoint.objects, checkpoint.owed));
    }
    for (number, run) in verified.runs.iter().enumerate() {
        let VerifiedRun { after, logs, segments, bytes, batches, records, closed, cut, has_ended, .. } = run;
        let epoch =
            |epoch: Option<inspect::Epoch>| epoch.map_or("unknown".into(), |epoch| epoch.0.to_string());
        let how = if *has_ended { "shut down" } else { "running or crashed" };
        row(format!("run {}", number + 1), format!("after epoch {}, {how}", after.0));
        row("  version of types".into(), run.schema_version.to_string());
        row("  logs, segments, bytes".into(), format!("{logs}, {segments}, {bytes}"));
        row("  batches, records".into(), format!("{batches}, {records}"));
        row("  closed, complete through epoch".into(), format!("{}, {}", epoch(*closed), epoch(*cut)));
    }
    row("spare segments".into(), verified.spares.to_string());
    row("messages set aside".into(), verified.set_aside.len().to_string());
    for (name, bytes) in &verified.strays {
        row("belongs to nothing".into(), format!("{name}, {bytes} bytes"));
    }
    for (name, bytes) in &verified.others {
        row("not the log's".into(), format!("{name}, {bytes} bytes"));
    }
    table.column_mut(1).expect("it has two columns").set_cell_alignment(CellAlignment::Right);
    table
}

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
        ownership: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        owner: Option<u64>,
        state: String,
    },
    Remove {
        id: String,
    },
    Owe {
        debt: u64,
        sender: u64,
        /// Nanoseconds of the database's own time.
        #[serde(skip_serializing_if = "Option::is_none")]
        due: Option<u64>,
        /// It does not run.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        set_aside: bool,
        message: String,
    },
    Paid {
        debt: u64,
    },
}

fn dump(directory: &Path) -> Result<ExitCode, LogError> {
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

fn line(entry: &Entry<'_>) -> Option<Line> {
    let record = match entry.record {
        Record::Put { id, ownership, state } => {
            let (ownership, owner) = match ownership {
                Ownership::Owned(OwnerId(owner)) => ("owned", Some(owner)),
                Ownership::Shared => ("shared", None),
                Ownership::Immutable => ("immutable", None),
            };
            Printed::Put { id: hex(id), ownership, owner, state: hex(state) }
        }
        Record::Remove { id } => Printed::Remove { id: hex(id) },
        Record::Owe { debt: Debt(debt), sender: OwnerId(sender), due, message } => {
            let (set_aside, due) = (entry.is_set_aside, due.map(|due| due.0));
            Printed::Owe { debt, sender, due, set_aside, message: hex(message) }
        }
        Record::Paid { debt: Debt(debt) } => Printed::Paid { debt },
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

/// A message that is owed as it is printed.
#[derive(Serialize)]
struct OwedLine {
    debt: u64,
    sender: u64,
    /// Nanoseconds of the database's own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<u64>,
    /// How many runs it was under way in when they crashed.
    lives: u32,
    set_aside: bool,
    message: String,
}

fn owed(directory: &Path, release: Option<u64>, drop: Option<u64>) -> Result<ExitCode, LogError> {
    if let Some(debt) = release {
        owed::release(directory, Debt(debt))?;
        println!("message {debt} runs again at the next start");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(debt) = drop {
        owed::drop_message(directory, Debt(debt))?;
        println!("message {debt} is owed no more");
        return Ok(ExitCode::SUCCESS);
    }
    let mut to = BufWriter::new(std::io::stdout().lock());
    let written = owed::list(directory)?.into_iter().try_for_each(|message| {
        let line = OwedLine {
            debt: message.debt.0,
            sender: message.sender.0,
            due: message.due.map(|due| due.0),
            lives: message.lives,
            set_aside: message.is_set_aside,
            message: hex(&message.message),
        };
        writeln!(to, "{}", serde_json::to_string(&line).expect("numbers and text are JSON"))
    });
    // Whoever reads it may have read enough.
    Ok(if written.and_then(|()| to.flush()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
