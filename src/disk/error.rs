//! What can be wrong with the log's directory and files. Each sentence names the file, says what
//! happened, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use freehold_shard::{MigrationError, SchemaError, SendId};
use rustix::io::Errno;
use thiserror::Error;

/// Why the log cannot be opened, read or written.
///
/// After an error of a write, what was being written may be on the disk, in part or whole. Nothing
/// more is written then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The directory is open already: in another process, or in another runtime of this one.
    #[error(
        "{} is in use by another process, or by another runtime of this one: stop that, or name another directory",
        .directory.display()
    )]
    InUse {
        /// Which directory.
        directory: PathBuf,
    },
    /// The path leads to, or through, something that is not a directory.
    #[error("{} is not a directory: name one, or a path where one can be made", .directory.display())]
    NotADirectory {
        /// What the path leads to.
        directory: PathBuf,
    },
    /// The directory does not have the file that says which of its files are the log.
    #[error(
        "{} has no manifest: to make a log, name an empty directory; if there was one, bring it back from a copy",
        .directory.display()
    )]
    NoManifest {
        /// Which directory.
        directory: PathBuf,
    },
    /// There is no database, and none is to be made ([`Create::Never`](crate::Create::Never)).
    /// Nothing was made.
    #[error(
        "there is no database in {}, and none is to be made: see whether its volume is mounted, and whether the path is right; to make one, \
         open it once with `Create::New`",
        .directory.display()
    )]
    NoDatabase {
        /// Which directory. It may be missing.
        directory: PathBuf,
    },
    /// There is a database, and a new one was to be made ([`Create::New`](crate::Create::New)).
    /// Nothing was changed.
    #[error("{} has a database, and a new one was to be made: name another directory, or open it as it is", .directory.display())]
    NotNew {
        /// Which directory.
        directory: PathBuf,
    },
    /// What has the name of a file of the log is a link, or no file at all. Nothing was changed.
    ///
    /// A link would be read where it leads and replaced where it stands, so two databases would
    /// come of one.
    #[error(
        "{} is {what}, and files of a log are plain files in one directory: name the directory that has the files, or move them here",
        .file.display()
    )]
    NotAFile {
        /// What has the name.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Files are there that another database wrote. Nothing was changed.
    #[error(
        "{} is of one database, and {} beside it of another: a manifest was put beside logs that are not its own, or the other way round. \
         Nothing was changed. Bring the manifest back that belongs to the logs, or move what does not belong here to another directory",
        .manifest.display(), named(.files)
    )]
    OtherDatabase {
        /// The manifest.
        manifest: PathBuf,
        /// The files that are of another database, by name. There is at least one.
        files: Vec<String>,
    },
    /// The manifest on disk is not the one that this runtime has written last: somebody else has
    /// replaced it, or removed it. It was left as it is, and nothing more is written.
    #[error(
        "{} is not the one that this runtime has written ({found} instead of {expected}): somebody has replaced it, by a backup or another \
         program. It was left as it is. Copy the directory before anything is started in it: what this runtime has acknowledged is in its \
         logs, which that manifest may not name",
        .file.display()
    )]
    Replaced {
        /// The manifest.
        file: PathBuf,
        /// What is there: of which start it is, if it can be read.
        found: String,
        /// Of which start it should be.
        expected: String,
    },
    /// Files cannot be opened in the directory without its path, by which another directory may be
    /// found.
    #[error(
        "{} cannot be opened by its descriptor: mount /proc (`mount -t proc proc /proc`; in a container it is there unless it was hidden)",
        .directory.display()
    )]
    NoProc {
        /// Which directory.
        directory: PathBuf,
    },
    /// Files are there that were written after the manifest. Nothing was changed.
    #[error(
        "{} is older than {} beside it: a backup was copied over a newer directory, or an older manifest was put back. Nothing was changed. \
         To go on from the manifest, move these files to another directory and start again; what is newer needs the newer manifest",
        .manifest.display(), named(.files)
    )]
    NewerFiles {
        /// The manifest.
        manifest: PathBuf,
        /// The files that are newer, by name. There is at least one.
        files: Vec<String>,
    },
    /// The file is of a format this version does not know.
    #[error(
        "{} is of format {found}, and this version knows {known}: open it with the version that wrote it",
        .file.display()
    )]
    Version {
        /// Which file.
        file: PathBuf,
        /// The format it says it is of.
        found: u32,
        /// The format this version reads and writes.
        known: u32,
    },
    /// The file does not hold what was written to it.
    #[error("{} is damaged at byte {offset}: {what}; {lost}; {advice}", .file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// What cannot be had because of it.
        lost: String,
        /// What to do.
        advice: String,
    },
    /// A record is whole, and the actor's types cannot be read from it.
    #[error(
        "{}: record {record} of the batch at byte {offset} cannot be read as {what}: open the directory with the actor that wrote it, its types as they were",
        .file.display()
    )]
    NotUnderstood {
        /// Which file.
        file: PathBuf,
        /// Where the batch begins, in bytes.
        offset: u64,
        /// Which of its records it is, from 0.
        record: usize,
        /// What it should have been.
        what: &'static str,
    },
    /// A message that is owed is whole, and the actor's messages cannot be read from it.
    #[error(
        "{}: the message that is owed under number {} cannot be read as a message of this actor: open the directory with the actor that wrote it, its types as they were, or give the message up by `freehold log owed {0} --drop {1}`",
        .directory.display(), .send_id.0
    )]
    OwedNotUnderstood {
        /// Which directory.
        directory: PathBuf,
        /// The message's number.
        send_id: SendId,
    },
    /// No message is owed under this number: it has run, was dropped, or never was.
    #[error("{}: no message is owed under number {}: `freehold log owed {0}` lists them", .directory.display(), .send_id.0)]
    NotOwed {
        /// Which directory.
        directory: PathBuf,
        /// The number.
        send_id: SendId,
    },
    /// The directory is of other types than this program's actor has, and no migration leads from
    /// there.
    #[error("{}: {error}", .directory.display())]
    Schema {
        /// Which directory.
        directory: PathBuf,
        /// What differs, and what to do.
        error: SchemaError,
    },
    /// A value of an earlier version of the actor's types could not be migrated.
    #[error("{}: {error}", .directory.display())]
    NotMigrated {
        /// Which directory.
        directory: PathBuf,
        /// Which value, and why.
        error: MigrationError,
    },
    /// The disk is full, or a quota is used up, or the file may not be as large.
    #[error(
        "no room for {}: {source}; make room or raise the quota (`df -h`, `df -i`, `quota`, `ulimit -f`), and start again",
        .file.display()
    )]
    NoSpace {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system wrote less than it was given, and gave no reason. A full disk is the usual one.
    #[error(
        "{}: only {written} of {wanted} bytes were written at byte {offset}; see whether the disk is full (`df -h`) or failing (`dmesg`), and start again",
        .file.display()
    )]
    ShortWrite {
        /// Which file.
        file: PathBuf,
        /// Where the write began, in bytes.
        offset: u64,
        /// How many bytes were written.
        written: usize,
        /// How many should have been.
        wanted: usize,
    },
    /// Anything else the system refused.
    #[error("{action} {} failed: {source}; see `dmesg` and the rights on the file, and start again", .file.display())]
    Io {
        /// What was tried: "writing", say.
        action: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The first of the files, and how many more there are.
fn named(files: &[String]) -> String {
    const NAMED: usize = 8;
    let named = files.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match files.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

impl LogError {
    /// What the system said of an `action` on a file: that there is no room, or anything else.
    pub(crate) fn io(action: &'static str, file: &Path, source: io::Error) -> LogError {
        let file = file.to_path_buf();
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => LogError::NoSpace { file, source },
            _ => LogError::Io { action, file, source },
        }
    }
}
