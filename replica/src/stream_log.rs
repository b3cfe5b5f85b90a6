//! The stream of a database as a [`CommitLog`](freehold::CommitLog): see [`ChainLog`].

use std::fmt;
use std::time::Duration;

use freehold_shard::log::appends::Appended;
use freehold_shard::log::chain::NamedCheckpoint;
use tokio::runtime::{Builder, Runtime};

use crate::chain_log::{ChainLog, Entries};
use crate::checkpoint_store::check_whole;
use crate::config::ReplicaConfig;
use crate::error::ReplicaError;
use crate::stream::{EntryStream, PAUSE};

/// How many messages are read at once.
const READ_MAX: usize = 64;

/// The stream of a database as a [`CommitLog`](freehold::CommitLog).
///
/// ```no_run
/// use freehold::{CommitLog, Epoch, LocalLog};
/// use freehold_replica::{ReplicaConfig, StreamLog, SyncCheck};
///
/// // Copies what a stream has into a directory.
/// let servers = ["nats://10.0.0.1:4222"];
/// let config = ReplicaConfig { sync_check: SyncCheck::Assumed, ..ReplicaConfig::new("ledger", "me", servers) };
/// let (from, mut to) = (StreamLog::of(&config)?, LocalLog::open("/var/lib/copy")?);
/// let mut tail = to.tail();
/// for batch in from.read(tail.next())? {
///     let batch = batch?;
///     to.append(tail, &batch)?;
///     tail = batch.epoch;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type StreamLog = ChainLog<StreamEntries>;

impl StreamLog {
    /// Reaches the stream and reads all of it, as somebody of the name that `config` gives a node.
    /// A stream that is missing is made. It must not be called by a task of an executor.
    ///
    /// # Errors
    /// As [`StreamEntries::open`] and [`ChainLog::open`].
    pub fn of(config: &ReplicaConfig) -> Result<StreamLog, ReplicaError> {
        ChainLog::open(StreamEntries::open(config)?, &config.node)
    }
}

/// The entries in a database's stream, and the checkpoints beside it. All of it waits for servers,
/// and none of it may be called by a task of an executor.
pub struct StreamEntries {
    executor: Runtime,
    stream: EntryStream,
    patience: Duration,
}

impl StreamEntries {
    /// Reaches the stream, makes it if it is missing, and sees to it that it is fit, as
    /// [`Replicated::open`](crate::Replicated::open) does.
    ///
    /// # Errors
    /// The servers or the stream are not as they must be, or do not answer.
    pub fn open(config: &ReplicaConfig) -> Result<Self, ReplicaError> {
        config.check()?;
        let executor = Builder::new_current_thread().enable_all().build();
        let executor = executor.map_err(|error| ReplicaError::servers("making an executor", error))?;
        let stream = executor.block_on(EntryStream::open(config))?;
        Ok(StreamEntries { executor, stream, patience: config.patience })
    }
}

impl fmt::Debug for StreamEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEntries").finish_non_exhaustive()
    }
}

impl Entries for StreamEntries {
    fn ends(&self) -> Result<(u64, u64), ReplicaError> {
        let ends = self.executor.block_on(self.stream.ends())?;
        Ok((ends.first, ends.last))
    }

    fn read(&self, from: u64, until: u64) -> Result<Vec<Vec<u8>>, ReplicaError> {
        self.executor.block_on(self.stream.read(from, until, READ_MAX))
    }

    fn append(&self, entries: &[&[u8]], behind: u64) -> Appended {
        self.executor.block_on(async { self.stream.append(entries, behind).await.await })
    }

    fn named(&self) -> Result<Option<(NamedCheckpoint, u64)>, ReplicaError> {
        let named = self.executor.block_on(self.stream.named())?;
        Ok(named.map(|named| (named.checkpoint, named.sequence)))
    }

    fn trim(&self, below: u64, named: &NamedCheckpoint) -> Result<(), ReplicaError> {
        self.executor.block_on(async {
            check_whole(&self.stream, named).await?;
            self.stream.trim(below).await
        })
    }

    fn entry_bytes_max(&self) -> usize {
        self.stream.entry_bytes_max
    }

    fn pause(&self, times: u32) -> bool {
        // The client's own tasks go on meanwhile.
        self.executor.block_on(async { tokio::time::sleep(PAUSE).await });
        PAUSE * times < self.patience
    }
}
