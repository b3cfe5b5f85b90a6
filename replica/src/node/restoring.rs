//! A node whose next entry was trimmed takes the checkpoint that the stream names, in place of its
//! log. So does a standby whose log has become long, and it follows on while it fetches: the stream
//! is trimmed, and a standby's log is not.
//!
//! The checkpoint is written beside the log, and checked, before anything of the node's own is
//! touched. Then the log gives way, the checkpoint takes its name, and the node remembers the place
//! from which it goes on. A node that ends in between has no log, or remembers a place that was
//! trimmed, and takes the checkpoint again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use freehold::{Actor, CommitLog, LocalLog, LogConfig, SchemaTypes};
use freehold_shard::log::chain::hash_entry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::Node;
use super::checkpointing::{copy_directory, longer_directory};
use super::opening::set_aside;
use crate::checkpoint_store::{self, remove};
use crate::error::ReplicaError;
use crate::follower::{Follower, log_directory};
use crate::objects::Objects;
use crate::status::{SetAside, StreamCheckpoint};
use crate::stream::{EntryStream, Named, PAUSE};

/// Where a checkpoint is written to, in a node's directory.
fn taken_directory(directory: &Path) -> PathBuf {
    directory.join("checkpoint-taken")
}

/// What a log is called that gives way.
fn old_directory(directory: &Path) -> PathBuf {
    directory.join("log.old")
}

/// How many bytes the files of a log have, a checkpoint's among them.
pub(super) fn log_bytes(directory: &Path) -> Result<u64, ReplicaError> {
    let log = log_directory(directory);
    let sum = || -> std::io::Result<u64> {
        fs::read_dir(&log)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
    };
    sum().map_err(|source| ReplicaError::File { path: log.clone(), source })
}

/// Removes what an earlier run of the node has left half done.
pub(super) fn clean(directory: &Path) -> Result<(), ReplicaError> {
    let all = [taken_directory, old_directory, copy_directory, longer_directory];
    all.map(|of| of(directory)).iter().try_for_each(|left| remove(left))
}

/// Fetches the checkpoint that was named last into the node's directory. It tries for the node's
/// patience: a server may not have all of it yet, and another may be named meanwhile.
///
/// # Errors
/// [`ReplicaError::Checkpoint`], [`ReplicaError::Trimmed`] and others; the node's log is as it was.
pub(super) async fn fetch(
    stream: &EntryStream,
    log: &LogConfig,
    patience: Duration,
    needed: u64,
) -> Result<Named, ReplicaError> {
    use ReplicaError::{Checkpoint, Trimmed};
    let until = Instant::now() + patience;
    loop {
        match try_fetch(stream, log, needed).await {
            Ok(named) => return Ok(named),
            Err(error) => {
                let may_pass = error.is_passing() || matches!(error, Checkpoint { .. } | Trimmed { .. });
                if !may_pass || Instant::now() >= until {
                    remove(&taken_directory(&log.directory))?;
                    return Err(error);
                }
                tracing::debug!(%error, "the checkpoint is not had yet");
                if !matches!(error, ReplicaError::Servers { .. }) {
                    stream.report(&error).await;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

async fn try_fetch(stream: &EntryStream, log: &LogConfig, needed: u64) -> Result<Named, ReplicaError> {
    let ends = stream.ends().await?;
    let named = stream.named().await?.ok_or(ReplicaError::Trimmed { first: ends.first, needed })?;
    let (checkpoint, directory) = (&named.checkpoint, taken_directory(&log.directory));
    let wrong = |why| ReplicaError::Checkpoint { object: checkpoint.object.clone(), why };
    remove(&directory)?;
    checkpoint_store::fetch(stream, checkpoint, &directory).await?;
    let sequence = named.sequence - 1;
    let before = stream.get(sequence).await?.ok_or(ReplicaError::Missing { sequence })?;
    if hash_entry(&before) != checkpoint.place.previous {
        return Err(wrong(format!("message {sequence} of the stream is not the one that it goes on from")));
    }
    let taken = LocalLog::open_with(&LogConfig { directory, ..log.clone() });
    let tail = taken.map_err(|error| wrong(error.to_string()))?.tail();
    if tail != checkpoint.epoch {
        return Err(wrong(format!("it ends with {tail}, and {} was named", checkpoint.epoch)));
    }
    Ok(named)
}

impl<A: Actor + SchemaTypes> Node<A>
where
    <A as Actor>::State: Serialize + DeserializeOwned,
    <A as Actor>::Message: Serialize + DeserializeOwned,
{
    /// Takes the checkpoint that was named last in place of the node's log, and goes on from there.
    pub(super) async fn restore(&mut self, follower: Follower<A>) -> Result<Follower<A>, ReplicaError> {
        let needed = follower.sequence();
        let named = fetch(&self.stream, &self.log_held(), self.replica.patience, needed).await?;
        self.replace_log(follower, &named)
    }

    /// Has the checkpoint that was fetched take the place of the node's log.
    pub(super) fn replace_log(
        &mut self,
        follower: Follower<A>,
        named: &Named,
    ) -> Result<Follower<A>, ReplicaError> {
        let (directory, place) = (&self.directory.name(), follower.place().clone());
        let checkpoint = &named.checkpoint;
        if checkpoint.place.database != place.database {
            let (directory, ours, found) = (directory.clone(), place.database, checkpoint.place.database);
            return Err(ReplicaError::OtherDatabase { directory, ours, found });
        }
        // What this node wrote as the owner, and has not seen in the stream since.
        let is_own = self.file.term > 0 && place.term <= self.file.term;
        let has_own = is_own && follower.has_after(place.epoch).unwrap_or(true);
        let until = follower.tail();
        drop(follower);
        let (log, old) = (log_directory(directory), old_directory(directory));
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ReplicaError::File { path, source }
        };
        if has_own {
            let (term, after) = (self.file.term, place.epoch);
            let directory = set_aside(directory, term, after.0)?;
            *self.shared.shows.lock().unwrap_or_else(PoisonError::into_inner) = Objects::new();
            tracing::warn!(
                directory = %directory.display(), term, after = after.0, until = until.0,
                "this node's log may have epochs that are not in the stream, which was trimmed: it was set aside"
            );
            self.shared.say(|status| status.set_aside.push(SetAside { directory, term, after, until }));
        } else {
            remove(&old)?;
            fs::rename(&log, &old).map_err(at(&log))?;
        }
        fs::rename(taken_directory(directory), &log).map_err(at(&log))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))?;
        self.file.term = 0;
        self.file.tried.clear();
        (self.file.sequence, self.file.place) = (named.sequence, checkpoint.place.clone());
        self.taken.clone_from(&checkpoint.object);
        self.file.write(directory)?;
        remove(&old)?;
        let (object, epoch, bytes) = (&checkpoint.object, checkpoint.epoch.0, checkpoint.bytes);
        tracing::info!(object, epoch, bytes, "this node has taken a checkpoint in place of its log");
        self.shared.say(|status| {
            status.restored += 1;
            status.checkpoint = Some(StreamCheckpoint::of(checkpoint, Duration::ZERO));
        });
        self.follower(&self.file)
    }
}
