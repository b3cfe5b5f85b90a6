//! What can be wrong with a replicated database. Each sentence says what happened and what to do.

use std::io;
use std::path::PathBuf;

use freehold::{CommitLogError, Epoch, StartError};
use freehold_shard::log::chain::{ChainError, EntryError};
use thiserror::Error;

/// Why a node cannot join, take over or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// A field of the configuration that cannot be. Nothing was started.
    #[error("`{field}` must be {must}")]
    Config {
        /// Which field.
        field: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// The servers do not answer, or refuse. Nothing was changed.
    #[error(
        "{doing}: {why}; see whether the servers run, and whether `servers`, `login` and `tls` are right"
    )]
    Servers {
        /// What was tried.
        doing: &'static str,
        /// What came of it.
        why: String,
    },
    /// The stream is not one that a database can rely on. Nothing was changed.
    #[error("the stream {stream} has {field} {found}, and it must be {must}: mend it by `nats stream edit`")]
    Stream {
        /// Which stream.
        stream: String,
        /// What of it.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        must: String,
    },
    /// A server acknowledges before a write is on its disk. Nothing was changed.
    #[error(
        "the server {server} does not say that it syncs each write: give it `sync_interval: always` in its `jetstream` block, and start it anew"
    )]
    NotSynced {
        /// Which server.
        server: String,
    },
    /// Not all servers said whether they sync.
    #[error(
        "{said} servers said whether they sync, and the stream is on {needed}: see whether all run, and whether `sync_check` is a login of their system account"
    )]
    SyncUnknown {
        /// How many said so.
        said: usize,
        /// On how many the stream is.
        needed: usize,
    },
    /// An entry of the stream does not continue the database. Nothing after it was taken over.
    #[error(
        "message {sequence} of the stream: {error}; the owner repairs it if it lives; otherwise open the last owner's node with `Repair::FromThisLog`"
    )]
    Chain {
        /// The number of the message in the stream.
        sequence: u64,
        /// What is wrong.
        error: ChainError,
    },
    /// The stream is of another database than this node's directory.
    #[error(
        "{} is of database {ours:#x}, and the stream is of {found:#x}: name the right one, or an empty directory",
        .directory.display()
    )]
    OtherDatabase {
        /// The node's directory.
        directory: PathBuf,
        /// Its database.
        ours: u64,
        /// The stream's.
        found: u64,
    },
    /// The stream has less than this node has seen in it: it lost what it had acknowledged.
    #[error(
        "the stream ends with message {last}, and this node has seen message {seen}: it has lost what it acknowledged; \
         open the node with the most epochs with `Repair::FromThisLog`"
    )]
    Lost {
        /// The last message there is.
        last: u64,
        /// A message that there was.
        seen: u64,
    },
    /// The stream ends earlier than what it has acknowledged, as this node knows: it has lost the
    /// rest. The node takes nothing over, and its log is as it was.
    #[error(
        "the stream ends with {found}, and it has acknowledged {acknowledged}, as {witness}: open the last owner's \
         node, which brings what is missing, or the node with the most epochs with `Repair::FromThisLog`; \
         to give up what is missing, join with an empty directory and promote that node"
    )]
    Cut {
        /// The last epoch there is.
        found: Epoch,
        /// An epoch that there was.
        acknowledged: Epoch,
        /// From what the node knows that.
        witness: &'static str,
    },
    /// There is no such stream, and none was to be made.
    #[error("there is no stream {stream}: see whether `database` and the account are right")]
    NoStream {
        /// Its name.
        stream: String,
    },
    /// A message in the middle of the stream is not there. Nothing after it was taken over.
    #[error(
        "message {sequence} of the stream is not there: the owner repairs it if it lives; otherwise open the last owner's node with `Repair::FromThisLog`"
    )]
    Missing {
        /// The number of the message.
        sequence: u64,
    },
    /// What this node needs of the stream was let go of, and the stream names no checkpoint.
    #[error(
        "the stream begins with message {first} and names no checkpoint, and this node needs message {needed}: \
         open a node that has more of the database, with `Repair::FromThisLog` if it must be"
    )]
    Trimmed {
        /// The first message there is.
        first: u64,
        /// The one that is needed.
        needed: u64,
    },
    /// The checkpoint that the stream names cannot be had, or is not what was named. The node's own
    /// log is as it was.
    #[error(
        "the checkpoint {object} of the stream: {why}; have the owner make another (`Replicated::checkpoint`), \
         and join again"
    )]
    Checkpoint {
        /// Which one: the bucket of the object store that keeps it.
        object: String,
        /// What is wrong with it.
        why: String,
    },
    /// A checkpoint was not made. The stream was not trimmed, and the owner goes on.
    #[error("no checkpoint was made: {why}; it is tried again")]
    NotCheckpointed {
        /// Why.
        why: String,
    },
    /// This node's log cannot found the stream anew: the stream has, or may have had, more. Nothing
    /// was changed.
    #[error(
        "this node's log ends with {tail}, and message {sequence} of the stream has, or may have had, more: \
         repair from the last owner's log, or from that with the most epochs"
    )]
    LogIsBehind {
        /// The last epoch of the log.
        tail: Epoch,
        /// The message.
        sequence: u64,
    },
    /// The directory has a database that is not of this stream, or not known to be.
    #[error(
        "{} has a database, and nothing says that it is the stream's: name an empty directory",
        .directory.display()
    )]
    NotAMember {
        /// The directory of the log.
        directory: PathBuf,
    },
    /// What is to be brought to the stream is in a checkpoint of this node's log in part.
    #[error(
        "what was committed before {first} is in a checkpoint, so this log cannot be read from its begin"
    )]
    InACheckpoint {
        /// The first epoch that is not.
        first: Epoch,
    },
    /// What only this node's log has is of other types than its program's, so it cannot be brought
    /// to the stream.
    #[error(
        "what this node's log has of {epoch} is of other types than its program's: open it with the program that wrote it first"
    )]
    OlderTypes {
        /// The first epoch of them.
        epoch: Epoch,
    },
    /// The database belongs to another node. Whether what was not acknowledged is in the stream,
    /// reading it shows.
    #[error("{owner} took the database over in term {term}: join again, as its standby")]
    Fenced {
        /// The other node.
        owner: String,
        /// The term that began.
        term: u64,
    },
    /// Something that is not this database's was appended to its stream.
    #[error("message {sequence} of the stream is not this database's: see who else publishes to its subject")]
    Foreign {
        /// The number of the message.
        sequence: u64,
    },
    /// Another owns the database, or nobody does, and only its owner appends. Nothing was changed.
    #[error("{owner} owns the database in term {term}: append when no node does, after `ChainLog::own`")]
    Owned {
        /// Who.
        owner: String,
        /// In which term.
        term: u64,
    },
    /// A batch whose records are of other types than its owner has stated. Nothing was changed.
    #[error("{epoch} is of other types than those that the database was taken over with: own it with these")]
    OtherTypes {
        /// The epoch of the batch.
        epoch: Epoch,
    },
    /// It can be done by a standby only, or by the owner only.
    #[error("the node is not {needed}")]
    Role {
        /// What it would have to be.
        needed: &'static str,
    },
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// The node's thread panicked, which is a bug: in this package, or in the `Deserialize` of the
    /// program's types. What it had begun is stopped.
    #[error("the node's thread panicked: {why}")]
    Panicked {
        /// What the panic said.
        why: String,
    },
    /// Another node was quicker, again and again.
    #[error(
        "other nodes appended to the stream whenever this one tried to take over: try again, or leave it to them"
    )]
    Contended,
    /// The node's own file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The node's own file is not what was written.
    #[error("{} is damaged: {why}; move the directory away and join with an empty one", .path.display())]
    NodeFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The node's own log.
    #[error("the node's own log: {0}")]
    Log(#[from] CommitLogError),
    /// The runtime did not start.
    #[error("{0}")]
    Start(#[from] StartError),
}

impl ReplicaError {
    pub(crate) fn servers(doing: &'static str, why: impl ToString) -> ReplicaError {
        ReplicaError::Servers { doing, why: why.to_string() }
    }

    /// Whether trying again may help: the servers did not answer.
    pub(crate) fn is_passing(&self) -> bool {
        use ReplicaError::{Missing, Servers, SyncUnknown};
        // A server that has just come back may not have all of it yet.
        matches!(self, Servers { .. } | SyncUnknown { .. } | Missing { .. })
    }

    /// Whether something of the stream or of its checkpoint is not as it was written. A checkpoint
    /// of its owner repairs that.
    pub(crate) fn is_damage(&self) -> bool {
        use ReplicaError::{Chain, Checkpoint, Missing};
        match self {
            Missing { .. } | Checkpoint { .. } => true,
            Chain { error: ChainError::Damaged { error: EntryError::Version { .. }, .. }, .. } => false,
            Chain { error, .. } => !matches!(error, ChainError::OtherDatabase { .. }),
            _ => false,
        }
    }

    /// Whether the stream ends earlier than what it has acknowledged. A server that has just become
    /// the leader may not have all of it yet.
    pub(crate) fn is_short(&self) -> bool {
        matches!(self, ReplicaError::Lost { .. } | ReplicaError::Cut { .. })
    }

    /// Whether the stream has what is not of this node's chain.
    pub(crate) fn is_of_another(&self) -> bool {
        use ReplicaError::{Chain, Fenced, Foreign, OtherDatabase};
        matches!(self, Chain { .. } | Fenced { .. } | Foreign { .. } | OtherDatabase { .. })
    }
}
