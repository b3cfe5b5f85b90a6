//! A node's own log, brought on by the entries of the stream, and what it shows of them.
//!
//! Several batches that come together go to the disk as one: the tail of the log is then the epoch
//! of the last.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use freehold::{
    Actor, CommitLog, CommitLogError, Epoch, EpochBatch, LocalLog, LogConfig, SchemaTypes, WrittenSchema,
};
use freehold_shard::log::chain::{Chain, ChainPlace, Followed, NamedCheckpoint};
use serde::de::DeserializeOwned;

use crate::error::ReplicaError;
use crate::objects::Objects;

/// What is put together for one write of the disk.
const WRITE_BYTES: usize = 1 << 20;

/// The directory of the log, in a node's.
pub(crate) fn log_directory(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// How a node's log is opened, for what says where the node keeps things.
pub(crate) fn at_log(config: &LogConfig) -> LogConfig {
    LogConfig { directory: log_directory(&config.directory), ..config.clone() }
}

/// A node's log and its place in the chain.
pub(crate) struct Follower<A: Actor> {
    chain: Chain,
    /// The message of the stream that comes next.
    sequence: u64,
    log: LocalLog,
    schema: WrittenSchema,
    shows: Arc<Mutex<Objects<A>>>,
    /// What the log has, as long as that is less than what is shown: a snapshot never goes back.
    apart: Option<Objects<A>>,
    /// The last checkpoint that came by, until somebody asks.
    named: Option<Box<NamedCheckpoint>>,
}

/// What became of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// The log has them.
    All,
    /// Another node took over behind this epoch, and the log has more of the term before: what
    /// nobody was told of, or only by this node's own disk; or what the stream has lost.
    Strayed { after: Epoch, until: Epoch },
}

impl<A: Actor<State: DeserializeOwned> + SchemaTypes> Follower<A> {
    /// Opens the log, which goes on at this place of the chain.
    pub(crate) fn open(
        log: &LogConfig,
        place: ChainPlace,
        sequence: u64,
        shows: Arc<Mutex<Objects<A>>>,
    ) -> Result<Self, ReplicaError> {
        let log = LocalLog::open_with(&at_log(log))?;
        let schema = WrittenSchema::of::<A>();
        let (chain, apart, named) = (Chain::at(place), None, None);
        let mut follower = Follower { chain, sequence, log, schema, shows, apart, named };
        follower.restore()?;
        Ok(follower)
    }

    /// Shows what the log has, if that is not less than what is shown.
    fn restore(&mut self) -> Result<(), ReplicaError> {
        let mut objects = Objects::new();
        self.log.restore(|record| objects.note(record))?;
        objects.is_of(self.log.tail(), &self.schema, self.chain.place().schema.as_ref());
        self.show_or_keep(objects);
        Ok(())
    }

    fn show_or_keep(&mut self, objects: Objects<A>) {
        let mut shows = self.shows.lock().unwrap_or_else(PoisonError::into_inner);
        if objects.epoch() < shows.epoch() {
            self.apart = Some(objects);
        } else {
            *shows = objects;
        }
    }

    /// Shows nothing any more: the runtime does. A thread of its own frees what was shown: that
    /// took two thirds of a takeover with a million objects.
    pub(crate) fn let_go_of_shows(&mut self) {
        let mut shows = self.shows.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = (std::mem::replace(&mut *shows, Objects::new()), self.apart.take());
        tokio::task::spawn_blocking(move || drop(shown));
    }

    pub(crate) fn place(&self) -> &ChainPlace {
        self.chain.place()
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The checkpoint that came by last, if it was not taken.
    pub(crate) fn named(&self) -> Option<&NamedCheckpoint> {
        self.named.as_deref()
    }

    /// The checkpoint that came by since this was asked.
    pub(crate) fn take_named(&mut self) -> Option<Box<NamedCheckpoint>> {
        self.named.take()
    }

    /// The message that comes next.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The last epoch of the log.
    pub(crate) fn tail(&self) -> Epoch {
        self.log.tail()
    }

    /// Takes over entries. `ours` is the term that this node owned last: the log may have more of
    /// it than the stream. Of any other term it has more if the stream has lost that.
    ///
    /// # Errors
    /// An entry that does not continue the chain, or the log cannot be written. The entries before
    /// have been taken over.
    pub(crate) fn take(&mut self, entries: &[Vec<u8>], ours: u64) -> Result<Took, ReplicaError> {
        let mut together: Option<EpochBatch> = None;
        let mut bytes = 0;
        for entry in entries {
            let (term, epoch) = (self.place().term, self.place().epoch);
            let followed = match self.chain.follow(entry) {
                Ok(followed) => followed,
                Err(error) => {
                    self.write(together.take())?;
                    return Err(ReplicaError::Chain { sequence: self.sequence, error });
                }
            };
            self.sequence += 1;
            let (next, time, records) = match followed {
                Followed::Part | Followed::Resigned | Followed::Still => continue,
                Followed::Checkpoint(named) => {
                    self.named = Some(named);
                    continue;
                }
                Followed::Takeover => {
                    self.write(together.take())?;
                    let is_ours = term == ours && term > 0;
                    let has_more = is_ours && self.has_after_or_in_checkpoint(epoch)?;
                    if has_more || self.has_between(epoch, self.place().epoch) {
                        return Ok(Took::Strayed { after: epoch, until: self.tail() });
                    }
                    (self.place().epoch, self.place().time, Vec::new())
                }
                Followed::Epochs(gathered) => (gathered.epoch, gathered.time, gathered.records),
            };
            if next <= self.log.tail() {
                continue;
            }
            bytes += records.iter().map(|record| record.len()).sum::<usize>();
            match &mut together {
                Some(together) => {
                    (together.epoch, together.time) = (next, together.time.max(time));
                    together.records.extend(records);
                }
                None => {
                    let schema = Arc::new(self.place().schema.clone().unwrap_or(WrittenSchema::UNSTATED));
                    together = Some(EpochBatch { epoch: next, time, schema, records });
                }
            }
            if bytes >= WRITE_BYTES {
                self.write(together.take())?;
                bytes = 0;
            }
        }
        self.write(together.take())?;
        Ok(Took::All)
    }

    fn write(&mut self, batch: Option<EpochBatch>) -> Result<(), ReplicaError> {
        let Some(batch) = batch else { return Ok(()) };
        self.log.append(self.log.tail(), &batch)?;
        let note = |objects: &mut Objects<A>| {
            batch.records.iter().for_each(|record| objects.note(record));
            objects.is_of(batch.epoch, &self.schema, Some(&batch.schema));
        };
        match self.apart.take() {
            Some(mut apart) => {
                note(&mut apart);
                self.show_or_keep(apart);
            }
            None => note(&mut self.shows.lock().unwrap_or_else(PoisonError::into_inner)),
        }
        Ok(())
    }

    /// Whether the log has records of epochs after this one.
    pub(crate) fn has_after(&self, epoch: Epoch) -> Result<bool, ReplicaError> {
        Ok(self.log.tail() > epoch && self.after(epoch)?.next().transpose()?.is_some())
    }

    /// The same for an owner's log, which may be in a checkpoint. That has only what was
    /// acknowledged: if it has more than the stream, the stream has lost it.
    fn has_after_or_in_checkpoint(&self, epoch: Epoch) -> Result<bool, ReplicaError> {
        match self.has_after(epoch) {
            Err(ReplicaError::InACheckpoint { .. }) => Ok(true),
            has_more => has_more,
        }
    }

    /// Whether the log has records of epochs after the one, and before the other.
    fn has_between(&self, after: Epoch, before: Epoch) -> bool {
        // What is in a checkpoint of the log was in the stream before it was trimmed.
        self.log.tail() > after
            && self.after(after).is_ok_and(|mut batches| {
                batches.next().is_some_and(|batch| batch.is_ok_and(|batch| batch.epoch < before))
            })
    }

    /// The epochs of the log after this one.
    pub(crate) fn after(
        &self,
        epoch: Epoch,
    ) -> Result<impl Iterator<Item = Result<EpochBatch, CommitLogError>>, ReplicaError> {
        match self.log.read(epoch.next()) {
            Ok(batches) => Ok(batches),
            Err(CommitLogError::LetGo { first }) => Err(ReplicaError::InACheckpoint { first }),
            Err(error) => Err(error.into()),
        }
    }
}
