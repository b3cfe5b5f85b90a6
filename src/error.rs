//! What callers and operators can be told, each with what it means for what they asked.
//!
//! Errors about a message ([`AskError`](crate::AskError)) are the shard's and come from
//! `freehold-shard`; here is what only a runtime can say.

use std::fmt;
use std::time::Duration;

use freehold_shard::{RecordError, ShardIndex};
use thiserror::Error;

use crate::disk::error::LogError;
use crate::doctor;
use crate::topology::PlaceError;

/// A field of [`Config`](crate::Config) that cannot be. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number out of its range.
    #[error("`{field}` is {value}, and it must be {min} to {max}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: usize,
        /// The least it may say.
        min: usize,
        /// The most it may say.
        max: usize,
    },
    /// A time out of its range.
    #[error("`{field}` is {value:?}, and it must be {min:?} to {max:?}")]
    TimeOutOfRange {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: Duration,
        /// The least it may say.
        min: Duration,
        /// The most it may say.
        max: Duration,
    },
    /// A number of bytes that is not a multiple of what it must be.
    #[error("`{field}` is {value}, and it must be a multiple of {of}")]
    NotAMultiple {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: usize,
        /// What it must be a multiple of.
        of: usize,
    },
    /// Answers are to wait for a replicated log, and nothing says which.
    #[error("`ack` is `Replicated`, and `leaving` is `None`: open the database with `freehold-replica`")]
    NotReplicated,
    /// The epochs of another runtime leave there.
    #[error("`leaving` is of another runtime: make another `epoch_channel`")]
    LeavingTaken,
}

/// Why a runtime did not start. Whatever had been started was stopped again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration asks for something that cannot be.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The configuration names CPUs that shards cannot run on.
    #[error("placement: {0}")]
    Placement(#[from] PlaceError),
    /// The allowed CPUs could not be found out.
    #[error("cannot tell which CPUs this process may use")]
    Topology(#[source] std::io::Error),
    /// This machine cannot run the runtime as it is. The check says what to change.
    #[error("this machine cannot run the runtime: {0}")]
    NotSupported(doctor::Check),
    /// The means to wake a parked shard, or a thread, could not be had from the system.
    #[error("the system has no room for another shard")]
    System(#[source] std::io::Error),
    /// A shard could not bring up its executor.
    #[error("{shard} cannot start its executor")]
    Executor {
        /// Which shard.
        shard: ShardIndex,
        /// What its executor said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A shard did not come up, though several threads were tried: the machine is very busy.
    #[error("{shard} was not ready after {after:?}")]
    NotReady {
        /// Which shard.
        shard: ShardIndex,
        /// How long was waited.
        after: Duration,
    },
    /// A shard died while it started.
    #[error("{0}")]
    Died(Death),
    /// The log cannot be opened. Nothing in its directory was changed that matters.
    #[error("the log: {0}")]
    Log(#[from] LogError),
}

/// A shard that died, and took its runtime down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Which shard.
    pub shard: ShardIndex,
    /// What it died of.
    pub cause: DeathCause,
}

/// What a shard died of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeathCause {
    /// A panic outside a message and outside the tasks the runtime watches: in a task that was
    /// spawned past it with `glommio::spawn_local`, say, or a bug in the runtime. This is what it
    /// said.
    Panicked(String),
    /// Its log could not be written, for this reason. What was not acknowledged may be on disk or
    /// not; opening the directory again shows.
    Log(String),
    /// Its database belongs to somebody else, as a replicated log says, or nobody brings its epochs
    /// to that log any more. What was not acknowledged may be in that log or not; reading it shows.
    Fenced(String),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            DeathCause::Panicked(message) => write!(f, "{} died of a panic: {message}", self.shard),
            DeathCause::Log(error) => write!(f, "{} could not write its log: {error}", self.shard),
            DeathCause::Fenced(why) => write!(f, "the database is no longer this runtime's: {why}"),
        }
    }
}

/// Why a `tell` was not accepted. The message never ran; here it is back.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TellError<M> {
    /// A queue on the way is full: try again later.
    #[error("the runtime is overloaded; the message was not sent")]
    Overloaded(M),
    /// The runtime is stopping or has stopped.
    #[error("the runtime has stopped; the message was not sent")]
    Stopped(M),
    /// The message names no object.
    #[error("the message has no addressee: `addressees` must name at least one object")]
    Unaddressed(M),
}

impl<M> TellError<M> {
    /// The same of another message.
    pub(crate) fn map<N>(self, other: impl FnOnce(M) -> N) -> TellError<N> {
        match self {
            TellError::Overloaded(message) => TellError::Overloaded(other(message)),
            TellError::Stopped(message) => TellError::Stopped(other(message)),
            TellError::Unaddressed(message) => TellError::Unaddressed(other(message)),
        }
    }

    /// The message that was not sent.
    pub fn into_message(self) -> M {
        match self {
            TellError::Overloaded(message)
            | TellError::Stopped(message)
            | TellError::Unaddressed(message) => message,
        }
    }
}

// By hand, so that a message that has no `Debug` can still be unwrapped and returned with `?`.
impl<M> fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TellError::Overloaded(_) => "Overloaded(..)",
            TellError::Stopped(_) => "Stopped(..)",
            TellError::Unaddressed(_) => "Unaddressed(..)",
        })
    }
}

/// Why an object cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WatchError {
    /// As many watches are open as may be: drop some, or raise `watches_max`.
    #[error("{max} watches are open, as many as `watches_max` allows: drop some, or raise it")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The runtime is stopping or has stopped.
    #[error("the runtime has stopped; nothing is watched any more")]
    Stopped,
}

/// Why a task of [`on_each_shard`](crate::Runtime::on_each_shard) has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked, and this is what it said. The shard lives on.
    #[error("the task panicked: {0}")]
    Panicked(String),
    /// The runtime stopped before the task had finished, or before it began.
    #[error("the runtime stopped before the task had finished")]
    Cancelled,
    /// [`wait`](crate::EachShard::wait) was called on a shard's thread, where it would block the
    /// very core the task may run on. The task runs: only the waiting was refused. Await it
    /// instead.
    #[error("`wait` would block a shard's thread; the task runs: await it instead")]
    WaitOnShard,
    /// As many jobs as there may be (`jobs_max`) wait on the shard. This one was not begun: try
    /// again later.
    #[error("the shard has as many jobs as `jobs_max` allows; this one was not begun: try again later")]
    Overloaded,
}

/// Why something of a [`Snapshot`](crate::Snapshot) cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The snapshot was revoked: it was open for longer than `limits.snapshot_age_max` while
    /// objects were written, or a shard had to keep more than `limits.versions_max` old versions.
    /// What was read until then is right. Open another.
    #[error(
        "the snapshot was revoked, because it was open for too long or too much was kept for it: open another, or raise `limits.snapshot_age_max` or `limits.versions_max`"
    )]
    Expired,
    /// The runtime is stopping or has stopped.
    #[error("the runtime has stopped; the snapshot was not read")]
    Stopped,
    /// The function that was given to be called with each object panicked, or an object's `clone`,
    /// and this is what it said. The shard lives on.
    #[error("reading the snapshot panicked: {0}")]
    Panicked(String),
    /// [`wait`](crate::SnapshotRead::wait) was called on a shard's thread, where it would block the
    /// very core that may have to answer. Await it instead.
    #[error("`wait` would block a shard's thread: await it instead")]
    WaitOnShard,
    /// An object that was read is not of the kind its key says. It was put there past the kinds: by
    /// [`Objects::insert`](crate::Objects::insert), or by a migration.
    #[error(
        "an object is not of the kind `{kind}` that its key says: insert objects by `Objects::put`, and mend the migration if there was one"
    )]
    WrongKind {
        /// The kind it is to be of.
        kind: &'static str,
    },
    /// As many jobs as there may be (`jobs_max`) wait on a shard that was to be asked. Nothing was
    /// read: try again later, or read many objects at once, by
    /// [`get_all`](crate::Snapshot::get_all) or [`fold`](crate::Snapshot::fold).
    #[error(
        "a shard has as many jobs as `jobs_max` allows, and nothing was read: try again later, or read many objects at once by `get_all` or `fold`"
    )]
    Overloaded,
}

/// Why there is no new [`Checkpoint`](crate::Checkpoint). The one before still counts, with the
/// logs since; nothing is lost.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The runtime has no log.
    #[error("there is no log to make a checkpoint of: open the runtime with one, by `Runtime::open`")]
    NoLog,
    /// The runtime is stopping, or a shard could not read its objects. (Nothing revokes a
    /// checkpoint.)
    #[error("the snapshot of the checkpoint: {0}")]
    Snapshot(#[from] SnapshotError),
    /// It could not be written.
    #[error("the checkpoint could not be written: {0}")]
    Log(#[from] LogError),
    /// A state that the logs have cannot be written again: its `Serialize` gives something else
    /// than it did before. The logs grow until the object is written, or removed, by another
    /// message.
    #[error("a state of {shard} is in the log, and cannot be written into a checkpoint: {error}")]
    NotRecorded {
        /// Where the object lives.
        shard: ShardIndex,
        /// Why it cannot be written.
        error: RecordError,
    },
    /// Another log is to have what the checkpoint has, and nobody receives this runtime's epochs:
    /// its [`EpochReceiver`](crate::EpochReceiver) was dropped. Its own log grows, and has all that
    /// the other log lacks.
    #[error(
        "nobody receives the epochs that are to leave for another log, which has to have them first: \
         shut the runtime down, and open it with another `LogConfig::leaving`, or without one"
    )]
    NotLeaving,
    /// It was written, and what was read back of it is something else. It was removed.
    #[error("the checkpoint could not be read back: {0}")]
    NotReadBack(LogError),
}

/// What a panic said, if it said it in words.
pub(crate) fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    let message = if let Some(message) = payload.downcast_ref::<&'static str>() {
        (*message).to_string()
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message.clone()
    } else {
        "something that is not text".to_string()
    };
    // What a panic carries may itself panic when dropped, and this is called where that must not
    // be.
    std::mem::forget(payload);
    message
}
