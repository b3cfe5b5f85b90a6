//! `freehold log`: looks at a log's directory, takes backups and brings them back, and decides
//! about messages that are owed.
//!
//! ```text
//! freehold log verify /var/lib/ledger
//! freehold log dump /var/lib/ledger | jq 'select(.epoch > 100)'
//! freehold log owed /var/lib/ledger
//! freehold log owed /var/lib/ledger --release 17
//! freehold log backup /var/lib/ledger /var/lib/ledger.monday
//! freehold log restore /var/lib/ledger.monday /var/lib/ledger.new
//! ```
//! It needs no actor. Only `owed --release` and `owed --drop` change the directory; no runtime may
//! have it open then. `backup` may be used while a runtime has the directory open.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use freehold::backup::{self, Backup, BackupError, Files};

mod dump;
mod owed;
mod verify;

/// Looks at a log's directory, takes backups of it and brings them back, and decides about messages
/// that are owed.
#[derive(Args)]
pub struct Arguments {
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

pub fn run(Arguments { task }: Arguments) -> ExitCode {
    let done = match task {
        Task::Verify { directory } => verify::verify(&directory).map_err(BackupError::from),
        Task::Dump { directory } => dump::dump(&directory).map_err(BackupError::from),
        Task::Owed { directory, release, drop } => {
            owed::owed(&directory, release, drop).map_err(BackupError::from)
        }
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
