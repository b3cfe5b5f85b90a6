//! What a node finds when it starts: its directory, what it remembers, and the stream.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Instant;

use freehold::{Actor, CommitLog, Epoch, LocalLog, LogConfig, SchemaTypes};
use freehold_shard::log::appends::NotOurs;
use freehold_shard::log::chain::{ChainPlace, hash_entry, read_entry};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::appender::not_ours;
use crate::config::ReplicaConfig;
use crate::error::ReplicaError;
use crate::follower::{Follower, at_log, log_directory};
use crate::node_file::NodeFile;
use crate::objects::Objects;
use crate::replicated::NodeShared;
use crate::status::SetAside;
use crate::stream::{EntryStream, PAUSE};

/// Moves the log away as a whole.
pub(super) fn set_aside(directory: &Path, term: u64, after: u64) -> Result<PathBuf, ReplicaError> {
    let (from, mut number) = (log_directory(directory), 0);
    loop {
        let more = if number == 0 { String::new() } else { format!("-{number}") };
        let to = directory.join(format!("aside-term-{term}-after-{after}{more}"));
        if to.exists() {
            number += 1;
            continue;
        }
        std::fs::rename(&from, &to).map_err(|source| ReplicaError::File { path: from.clone(), source })?;
        return Ok(to);
    }
}

/// A random number.
pub(super) fn random() -> Result<u64, ReplicaError> {
    getrandom::u64().map_err(|error| ReplicaError::servers("drawing a number", error))
}

/// What a node begins with that has nothing: the begin of the stream, or of a database that there
/// is not yet.
pub(super) async fn begin(stream: &EntryStream, node: &str) -> Result<NodeFile, ReplicaError> {
    let ends = stream.ends().await?;
    if ends.first > ends.last {
        if ends.last > 0 {
            return Err(ReplicaError::Trimmed { first: ends.first, needed: 1 });
        }
        return Ok(NodeFile::new(node.to_string(), 1, ChainPlace::first(random()?)));
    }
    let first = stream.get(ends.first).await?;
    let first = first.ok_or(ReplicaError::Trimmed { first: ends.first + 1, needed: ends.first })?;
    let sequence = ends.first;
    let error = |error| {
        let error = freehold_shard::log::chain::ChainError::Damaged { number: 0, error };
        ReplicaError::Chain { sequence, error }
    };
    let (head, _) = read_entry(&first).map_err(error)?;
    // If the first entries were trimmed, the node takes a checkpoint when it looks for them.
    let begins = sequence.checked_sub(head.number).filter(|begins| *begins > 0);
    let begins = begins.ok_or(ReplicaError::Foreign { sequence })?;
    Ok(NodeFile::new(node.to_string(), begins, ChainPlace::first(head.database)))
}

/// What the node remembers, checked against the stream, and its log. As long as the stream is
/// damaged the node says so, and tries again for its patience: the owner may repair it.
pub(super) async fn open<A: Actor<State: DeserializeOwned> + SchemaTypes>(
    stream: &EntryStream,
    config: &LogConfig,
    replica: &ReplicaConfig,
    shared: &NodeShared<A>,
) -> Result<(NodeFile, Follower<A>), ReplicaError> {
    let until = Instant::now() + replica.patience;
    loop {
        match try_open(stream, config, replica, shared).await {
            Err(error) if error.is_damage() && Instant::now() < until => {
                stream.report(&error).await;
                sleep(PAUSE).await;
            }
            opened => return opened,
        }
    }
}

async fn try_open<A: Actor<State: DeserializeOwned> + SchemaTypes>(
    stream: &EntryStream,
    config: &LogConfig,
    replica: &ReplicaConfig,
    shared: &NodeShared<A>,
) -> Result<(NodeFile, Follower<A>), ReplicaError> {
    let directory = &config.directory;
    let log = log_directory(directory);
    let has_log = log.join("manifest").exists();
    let file = match NodeFile::read(directory)? {
        Some(file) => {
            let checked = check_place(stream, directory, &file).await;
            let is_other = matches!(checked, Err(ReplicaError::OtherDatabase { .. }));
            let begins = if file.place.next > 0 {
                // It ended when its log had been set aside, or the log was taken away: it reads all
                // of the stream again.
                checked.is_ok() && !has_log
            } else {
                // It drew a number for a database that another node founded then.
                is_other && (!has_log || LocalLog::open_with(&at_log(config))?.tail() == Epoch(0))
            };
            // The stream has lost what the node has read there, and has gone on otherwise since.
            let is_elsewhere = matches!(checked, Err(ReplicaError::Fenced { .. }));
            if is_elsewhere && has_log {
                let until = LocalLog::open_with(&at_log(config))?.tail();
                let (term, after) = (file.place.term, Epoch(0));
                let aside = set_aside(directory, term, file.place.epoch.0)?;
                tracing::warn!(
                    directory = %aside.display(), term, until = until.0,
                    "the stream has another history than this node's log: the log was set aside"
                );
                shared.say(|status| {
                    status.set_aside.push(SetAside { directory: aside, term, after, until });
                });
            }
            if begins || is_elsewhere {
                let file = begin(stream, &file.node).await?;
                file.write(directory)?;
                file
            } else {
                checked?;
                file
            }
        }
        None => {
            let ends = stream.ends().await?;
            if ends.last > 0 && has_log {
                return Err(ReplicaError::NotAMember { directory: log });
            }
            let file = begin(stream, &format!("{}/{:016x}", replica.node, random()?)).await?;
            file.write(directory)?;
            file
        }
    };
    *shared.shows.lock().unwrap_or_else(PoisonError::into_inner) = Objects::new();
    let follower = Follower::open(config, file.place.clone(), file.sequence, shared.shows.clone())?;
    Ok((file, follower))
}

/// Whether the stream still has what the node has seen, and goes on from there.
pub(super) async fn check_place(
    stream: &EntryStream,
    directory: &Path,
    file: &NodeFile,
) -> Result<(), ReplicaError> {
    let ends = stream.ends().await?;
    let seen = file.sequence - 1;
    if file.place.next == 0 || seen < ends.first && ends.first <= ends.last {
        // It has seen nothing, or nothing that is there still. If others began meanwhile, it
        // follows them; and if what it needs was trimmed, it takes a checkpoint.
        let Some(first) = stream.get(ends.first).await? else { return Ok(()) };
        return match read_entry(&first) {
            Ok((head, _)) if head.database != file.place.database => Err(ReplicaError::OtherDatabase {
                directory: directory.to_path_buf(),
                ours: file.place.database,
                found: head.database,
            }),
            _ => Ok(()),
        };
    }
    if seen > ends.last {
        return Err(ReplicaError::Lost { last: ends.last, seen });
    }
    if seen < ends.first {
        return Err(ReplicaError::Trimmed { first: ends.first, needed: seen });
    }
    match stream.get(seen).await? {
        None => Err(ReplicaError::Missing { sequence: seen }),
        Some(entry) if hash_entry(&entry) == file.place.previous => Ok(()),
        Some(entry) => match read_entry(&entry) {
            Ok((head, _)) if head.database != file.place.database => Err(ReplicaError::OtherDatabase {
                directory: directory.to_path_buf(),
                ours: file.place.database,
                found: head.database,
            }),
            _ => Err(not_ours(NotOurs::of(seen, &entry))),
        },
    }
}
