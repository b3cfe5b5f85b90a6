//! What a node says of itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use freehold::Epoch;

use freehold_shard::log::chain::NamedCheckpoint;

use crate::appender::Latency;
use crate::objects::Lag;

/// What a node is to its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It reads what there is, or takes over.
    #[default]
    Joining,
    /// It has what the owner wrote, and waits.
    Standby,
    /// It owns the database: messages run here.
    Owner,
    /// It owned the database, and another node took over. It answers nobody.
    Fenced,
    /// It cannot go on; [`NodeStatus::failure`] says why.
    Failed,
    /// It was shut down.
    Stopped,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NodeStatus {
    /// What it is.
    pub role: Role,
    /// The term that it knows of.
    pub term: u64,
    /// The owner of that term; `None` if it has resigned.
    pub owner: Option<String>,
    /// The last epoch that this node knows to be in the stream.
    pub epoch: Epoch,
    /// Of a standby: how far it is behind.
    pub lag: Lag,
    /// Of an owner: bytes of entries that are on their way to the stream.
    pub bytes_under_way: usize,
    /// Of an owner: bytes of batches that wait for that.
    pub bytes_waiting: usize,
    /// Of an owner: how long appends took.
    pub latency: Latency,
    /// How many bytes the stream takes on each of its servers, as far as this node knows.
    pub stream_bytes: u64,
    /// The last checkpoint that this node knows the stream to name.
    pub checkpoint: Option<StreamCheckpoint>,
    /// Of an owner: how many checkpoints it has made since it was opened, and how many were given
    /// up.
    pub checkpoints: (u64, u64),
    /// Of an owner: how often it found the stream damaged, and repaired it by a checkpoint.
    pub repaired: u64,
    /// How often this node took a checkpoint in place of entries that were trimmed.
    pub restored: u64,
    /// How often this node took over since it was opened.
    pub takeovers: u64,
    /// How long the last of these took, from the decision until messages ran.
    pub takeover_took: Option<Duration>,
    /// What this node's log had beyond the stream, and was moved away.
    pub set_aside: Vec<SetAside>,
    /// Why it is fenced, or has failed. Of a standby: why it does not take over.
    pub failure: Option<String>,
}

/// A checkpoint in the object store that the stream names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamCheckpoint {
    /// The bucket that has it.
    pub object: String,
    /// Everything up to this epoch is in it, and nothing later.
    pub epoch: Epoch,
    /// How long it is.
    pub bytes: u64,
    named_at: Instant,
}

impl StreamCheckpoint {
    /// A checkpoint that was named so long ago.
    pub(crate) fn of(named: &NamedCheckpoint, ago: Duration) -> Self {
        let (object, epoch, bytes) = (named.object.clone(), named.epoch, named.bytes);
        let now = Instant::now();
        StreamCheckpoint { object, epoch, bytes, named_at: now.checked_sub(ago).unwrap_or(now) }
    }

    /// How long ago it was named, by the database's time, which stands still while nobody owns the
    /// database.
    pub fn age(&self) -> Duration {
        self.named_at.elapsed()
    }
}

/// What a log had beyond the stream: epochs of a term that ended before. Nobody was told of them,
/// or only by the word of one disk ([`Ack::Durable`](freehold::Ack)); or the stream has lost them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetAside {
    /// Where the log is now, as a whole. `freehold log dump` shows it.
    pub directory: PathBuf,
    /// The term that it is of.
    pub term: u64,
    /// All up to this epoch is in the stream. 0 if that is not known.
    pub after: Epoch,
    /// The last epoch that is not.
    pub until: Epoch,
}
