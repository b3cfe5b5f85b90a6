//! The seam for replication: a database as a sequence of epochs, each appended whole or not at all.
//!
//! [`CommitLog`] says what it is for, and [`EpochBatch`] is what it has.

use std::sync::Arc;

use freehold_shard::record::Record;
use freehold_shard::{Epoch, Time, WrittenSchema};
use thiserror::Error;

use crate::disk::error::LogError;

/// What a whole database committed in one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochBatch {
    /// Which epoch.
    pub epoch: Epoch,
    /// How long the database had been running.
    pub time: Time,
    /// Of which types the ids, states and messages of its records are. Whoever keeps records has to
    /// keep this with them.
    pub schema: Arc<WrittenSchema>,
    /// What its objects and pending sends were then, of those that changed, as
    /// [`Record::read`](crate::inspect::Record::read) understands it. Of one object the last
    /// counts.
    pub records: Vec<Box<[u8]>>,
}

impl EpochBatch {
    /// Whether it may come behind the last epoch of a log, `tail`, which was expected to be
    /// `expected`. `before` is the version of the records that the log has, if it has some. What
    /// implements [`CommitLog`] asks this, and [`check_records`](EpochBatch::check_records), before
    /// it appends.
    ///
    /// # Errors
    /// [`CommitLogError::NotTheTail`], [`CommitLogError::NotLater`] and
    /// [`CommitLogError::OlderSchema`].
    pub fn check_place(
        &self,
        expected: Epoch,
        tail: Epoch,
        before: Option<u32>,
    ) -> Result<(), CommitLogError> {
        let (epoch, version) = (self.epoch, self.schema.version);
        if expected != tail {
            return Err(CommitLogError::NotTheTail { expected, found: tail });
        }
        if epoch <= tail {
            return Err(CommitLogError::NotLater { epoch, tail });
        }
        match before.filter(|before| *before > version) {
            Some(before) => Err(CommitLogError::OlderSchema { epoch, version, before }),
            None => Ok(()),
        }
    }

    /// Whether all of it is records of this version, of at most `max` bytes each.
    ///
    /// # Errors
    /// [`CommitLogError::TooLong`] and [`CommitLogError::NotARecord`].
    pub fn check_records(&self, max: usize) -> Result<(), CommitLogError> {
        let epoch = self.epoch;
        for (at, record) in self.records.iter().enumerate() {
            let bytes = record.len();
            if bytes > max {
                return Err(CommitLogError::TooLong { epoch, at, bytes, max });
            }
            // Its epoch is said beside its records.
            if let None | Some(Record::Epoch(_)) = Record::read(record) {
                return Err(CommitLogError::NotARecord { epoch, at });
            }
        }
        Ok(())
    }
}

/// Epochs in order, as they are read.
pub type EpochBatches<'a> = Box<dyn Iterator<Item = Result<EpochBatch, CommitLogError>> + 'a>;

/// A database as a sequence of epochs, appended to at its tail and let go of at its head: the seam
/// for replication.
///
/// A runtime writes one log for each shard. Whoever copies a database, follows it, or some day
/// agrees on it with others, is to know nothing of that: for them its unit is what all shards
/// together committed in one epoch. [`CommitLog`] is that view. Nothing in it names cores, files,
/// addresses or the machine's clock; objects and messages are the bytes they are in the log, and of
/// time it knows how long the database has been running, because messages may wait for that.
///
/// Its records are those of the logs, and no more. That an owed message was dropped, or under way
/// in a crash ([`owed`](crate::owed)), stands in the manifest of the one database only: a copy runs
/// a message that was dropped here.
///
/// [`LocalLog`](crate::LocalLog) is its first implementation: a log's directory, while no runtime has it open. It is
/// synchronous. A runtime does not write through it yet; what it writes, it reads. `StreamLog` of
/// the package `freehold-replica` is another: a database's stream, while no node owns it.
///
/// ```no_run
/// use freehold::{CommitLog, LocalLog};
///
/// // Brings a copy up to date.
/// let (from, mut to) = (LocalLog::open("/var/lib/ledger")?, LocalLog::open("/var/lib/copy")?);
/// let mut tail = to.tail();
/// for batch in from.read(tail.next())? {
///     let batch = batch?;
///     to.append(tail, &batch)?;
///     tail = batch.epoch;
/// }
/// # Ok::<(), freehold::CommitLogError>(())
/// ```
pub trait CommitLog {
    /// The last complete epoch; epoch 0 if there is none.
    fn tail(&self) -> Epoch;

    /// Appends an epoch, if the last one is `expected_tail`. When this returns, it is durable.
    ///
    /// # Errors
    /// [`CommitLogError::NotTheTail`], [`CommitLogError::NotLater`],
    /// [`CommitLogError::NotARecord`], [`CommitLogError::TooLong`] and
    /// [`CommitLogError::OlderSchema`]: nothing was changed. After any other it is not known
    /// whether the epoch is there, in whole, or not; nothing more is appended.
    fn append(&mut self, expected_tail: Epoch, batch: &EpochBatch) -> Result<(), CommitLogError>;

    /// The complete epochs from `from` on, in order. Those in which nothing was committed do not
    /// come.
    ///
    /// # Errors
    /// [`CommitLogError::LetGo`] if some from `from` on cannot be had as epochs any more; or why
    /// nothing can be read.
    fn read(&self, from: Epoch) -> Result<EpochBatches<'_>, CommitLogError>;

    /// Lets go of what was committed before `below`, which is in a checkpoint.
    ///
    /// # Errors
    /// [`CommitLogError::NotInACheckpoint`]: nothing was changed; or why it cannot be written.
    fn trim(&mut self, below: Epoch) -> Result<(), CommitLogError>;
}

/// Why something cannot be done with a [`CommitLog`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommitLogError {
    /// The log has another tail than it was expected to have: somebody else has appended to it, or
    /// it is behind.
    #[error("the log ends with {found}, and was expected to end with {expected}")]
    NotTheTail {
        /// The tail that was expected.
        expected: Epoch,
        /// The tail.
        found: Epoch,
    },
    /// An epoch that is not later than the tail.
    #[error("{epoch} cannot be appended behind {tail}")]
    NotLater {
        /// The epoch of the batch.
        epoch: Epoch,
        /// The tail.
        tail: Epoch,
    },
    /// Something in the batch is no record of this version.
    #[error("record {at} of {epoch} cannot be appended: it is none of this version")]
    NotARecord {
        /// The epoch of the batch.
        epoch: Epoch,
        /// Which of its records.
        at: usize,
    },
    /// Records of an earlier version of the actor's types than those before: they can only be
    /// migrated in order.
    #[error(
        "{epoch} is of version {version} of the actor's types, and what is before it is of version {before}"
    )]
    OlderSchema {
        /// The epoch of the batch.
        epoch: Epoch,
        /// The version of its records.
        version: u32,
        /// The version of the records before.
        before: u32,
    },
    /// A record is longer than this log's segments hold. A log that takes every record of another
    /// has segments of the same size, or of 16 MiB or more.
    #[error(
        "record {at} of {epoch} cannot be appended: it has {bytes} bytes, and a record of this log may have {max}; \
         a directory keeps the segments it was made with, so take a new one with a larger `LogConfig::segment_bytes`"
    )]
    TooLong {
        /// The epoch of the batch.
        epoch: Epoch,
        /// Which of its records.
        at: usize,
        /// How long it is, in bytes.
        bytes: usize,
        /// The most a record may have here.
        max: usize,
    },
    /// What was committed before `first` is in a checkpoint, and cannot be read epoch by epoch any
    /// more.
    #[error("epochs can be read from {first} on; what is older is in a checkpoint: copy that")]
    LetGo {
        /// The first epoch that can be read.
        first: Epoch,
    },
    /// What was committed from `first` on is in no checkpoint.
    #[error("what was committed from {first} on is only in the log: make a checkpoint first")]
    NotInACheckpoint {
        /// The first epoch that is in no checkpoint.
        first: Epoch,
    },
    /// An append has failed before, so it is not known how the log ends. Open it again.
    #[error("an append has failed: open the log again")]
    Failed,
    /// What keeps a log that is not in files.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// The files.
    #[error(transparent)]
    Log(#[from] LogError),
}
