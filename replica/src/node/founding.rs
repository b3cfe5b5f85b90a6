//! A node that founds the stream anew from its own log: a log that was there before and has a
//! checkpoint, or the log that is left when the stream is damaged and no owner lives to repair it.
//!
//! ```text
//! survey ─> checkpoint ─> takeover and name, together ─> the takeover's epoch in the log ─> trim
//! ```
//! The takeover's epoch is behind all that the log and the stream have. The checkpoint is a copy of
//! the log with that epoch behind it, empty: all of the database as of the takeover. The log itself
//! gets the epoch when the stream has acknowledged the takeover. Before that it could come to
//! nothing, and the log would look later than it is: the node would not miss what another owner has
//! written meanwhile. A crash leaves a checkpoint that nobody names, or a stream that is not
//! trimmed. The node is opened again in the same way, and knows the takeover as its own by a hash
//! that it remembers before it sends it.
//!
//! The database keeps its number, its term goes on, and so do the numbers of messages. A former
//! owner that still runs finds its next append refused. A node that was behind takes the
//! checkpoint.

use std::sync::Arc;

use freehold::{Actor, CommitLog, Create, Epoch, EpochBatch, LocalLog, LogConfig, WrittenSchema};
use freehold_shard::log::chain::{Chain, ChainError, ChainPlace};
use freehold_shard::log::founding::{ChainSurvey, Founder, Left, NotFounded, remember_founding};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Node;
use super::checkpointing::{copy_directory, longer_directory};
use super::opening::random;
use crate::appender::Appender;
use crate::checkpoint_store::{Behind, Making, make, replace_others};
use crate::config::Repair;
use crate::error::ReplicaError;
use crate::follower::{at_log, log_directory};
use crate::node_file::NodeFile;
use crate::stream::EntryStream;

/// How far the messages go on behind those that a stream has lost, and that others may have seen.
const MESSAGES_APART: u64 = 1 << 32;

impl<A: Actor> Node<A>
where
    <A as Actor>::State: Serialize + DeserializeOwned,
    <A as Actor>::Message: Serialize + DeserializeOwned,
{
    /// Whether a node that cannot join for this reason may found the stream anew.
    pub(super) fn may_found(&self, error: &ReplicaError) -> bool {
        use ReplicaError::{Foreign, InACheckpoint, Trimmed};
        let is_left = error.is_damage() || error.is_short();
        let is_left = is_left || matches!(error, Foreign { .. } | Trimmed { .. });
        // Such a log's database begins with it, or is this node's.
        matches!(error, InACheckpoint { .. }) || is_left && self.replica.repair == Repair::FromThisLog
    }

    /// Founds the stream anew from this node's log.
    ///
    /// # Errors
    /// [`ReplicaError::LogIsBehind`], [`ReplicaError::OlderTypes`], [`ReplicaError::Log`] and
    /// others: the stream is as it was, or it is founded and not trimmed yet.
    pub(super) async fn found(&mut self, why: &ReplicaError) -> Result<(), ReplicaError> {
        let directory = &self.directory.name();
        let file = NodeFile::read(directory)?;
        let name = format!("{}/{:016x}", self.replica.node, random()?);
        let mut file = file.unwrap_or_else(|| NodeFile::new(name, 1, ChainPlace::first(0)));
        // It is open until all is done, so no other process uses the directory.
        let mut log = LocalLog::open_with(&LogConfig { create: Create::Never, ..at_log(&self.log_now()) })?;
        let schema = WrittenSchema::of::<A>();
        if log.schemas().iter().any(|written| *written != schema) {
            return Err(ReplicaError::OlderTypes { epoch: log.tail() });
        }
        if file.place.database == 0 {
            file.place.database = random()?;
        }
        let (known, left) = survey(&self.stream, &file, log.tail()).await?;
        let (place, last) = begin(&self.stream, &known, left).await?;
        let mut appender = Appender::new(self.stream.clone(), Chain::at(place), last);
        let seen = log.tail();
        let place = appender.founded(&file.node, schema.clone(), seen);
        let (epoch, time, records) = (place.epoch, place.time, Vec::new());
        let batch = EpochBatch { epoch, time, schema: Arc::new(schema.clone()), records };
        let held = self.directory.reach();
        let longer = longer_directory(&held);
        let making = Making {
            log: log_directory(&held),
            copy: copy_directory(&held),
            prefix: self.replica.checkpoint_prefix(place.database),
            replicas: self.replica.replicas,
            place: place.clone(),
            number: random()?,
            bring_on: Box::new(|| {}),
            behind: Some(Behind { tail: seen, batch: batch.clone(), longer }),
        };
        let named = make(self.stream.clone(), making).await?;
        remember_founding(&mut file.tried, place.previous);
        file.write(directory)?;
        appender.found(&file.node, schema, seen, named.clone());
        self.settle(&mut appender).await?;
        log.append(seen, &batch)?;
        let below = appender.trims_below().expect("named-before-trimmed: it was just acknowledged");
        tracing::warn!(
            %why, object = named.object, term = place.term, epoch = epoch.0,
            "this node has founded the stream anew from its own log"
        );
        // The message before the place is the takeover.
        (file.sequence, file.place, file.term) = (below + 1, place, 0);
        file.tried.clear();
        file.write(directory)?;
        let prefix = self.replica.checkpoint_prefix(file.place.database);
        replace_others(&self.stream, &named, &prefix, below).await?;
        self.shared.say(|status| status.repaired += 1);
        Ok(())
    }
}

/// Finds out what is left of the stream, and that a log with this tail lacks nothing of it.
async fn survey(stream: &EntryStream, file: &NodeFile, tail: Epoch) -> Result<(Founder, Left), ReplicaError> {
    let NodeFile { sequence, place, term, tried, .. } = file.clone();
    let ends = stream.ends().await?;
    let mut survey = ChainSurvey::new(Founder { place, sequence, term, tail, tried }, ends.first, ends.last);
    let why = |why| match why {
        NotFounded::Behind { sequence } => ReplicaError::LogIsBehind { tail, sequence },
        NotFounded::Entry { sequence, error } => {
            let error = ChainError::Damaged { number: 0, error };
            ReplicaError::Chain { sequence, error }
        }
    };
    for sequence in ends.first..=ends.last {
        let there = stream.get(sequence).await?;
        survey.read(sequence, there.as_deref()).map_err(why)?;
    }
    survey.end().map_err(why)
}

/// The place at which a new beginning stands, and the last message before it.
async fn begin(stream: &EntryStream, known: &Founder, left: Left) -> Result<(ChainPlace, u64), ReplicaError> {
    let mut last = left.last();
    if left.is_short(known) {
        // Others have seen messages that the stream has lost: what comes now is none of them.
        let below = known.sequence + MESSAGES_APART;
        stream.trim(below).await?;
        last = stream.ends().await?.last;
        if last + 1 < below {
            return Err(ReplicaError::Lost { last, seen: below - 1 });
        }
    }
    Ok((left.place(known, last), last))
}
