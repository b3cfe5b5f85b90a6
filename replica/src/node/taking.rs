//! How a node takes a database over: the takeover in the stream, and then the runtime on its log.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use freehold::{Actor, LogConfig, Runtime, WrittenSchema, epoch_channel};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{Node, State, Whom};
use crate::appender::Appender;
use crate::error::ReplicaError;
use crate::follower::{Follower, log_directory};
use crate::status::Role;
use crate::stream::PAUSE;

/// How often a takeover that others were quicker than is tried again.
const TRIES_MAX: usize = 20;

impl<A: Actor> Node<A>
where
    <A as Actor>::State: Serialize + DeserializeOwned,
    <A as Actor>::Message: Serialize + DeserializeOwned,
{
    /// Appends a takeover behind all that there is, and follows it. What the log has of this node's
    /// own term, and the stream has not, comes first.
    ///
    /// After an error that is passing it is not known whether the database is this node's; it may
    /// follow on, and sees.
    pub(super) async fn append_takeover(
        &mut self,
        follower: &mut Follower<A>,
        whom: Whom,
    ) -> Result<Appender, ReplicaError> {
        let owner = follower.place().owner.clone();
        let until = Instant::now() + self.replica.patience;
        for _ in 0..TRIES_MAX {
            while let Err(error) = self.bring_on(follower).await {
                if !error.is_short() || Instant::now() >= until {
                    return Err(error);
                }
                sleep(PAUSE).await;
            }
            if whom == Whom::Known && follower.place().owner != owner {
                break;
            }
            match self.try_to_append_takeover(follower).await {
                Ok(appender) => return Ok(appender),
                // Somebody has appended since this node looked.
                Err(ReplicaError::Fenced { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ReplicaError::Contended)
    }

    pub(super) async fn try_to_append_takeover(
        &mut self,
        follower: &Follower<A>,
    ) -> Result<Appender, ReplicaError> {
        let place = follower.place();
        let last = follower.sequence() - 1;
        let mut appender = Appender::new(self.stream.clone(), follower.chain().clone(), last);
        let is_first = place.term == 0;
        let is_ours = place.owner.as_ref() == Some(&self.file.node) && place.term == self.file.term;
        if is_first && self.file.term == 0 {
            // If it ends before all of its log is in the stream, it goes on when it starts again.
            self.file.term = 1;
            self.file.write(&self.directory.name())?;
        }
        let (node, schema) = (&self.file.node, WrittenSchema::of::<A>());
        if is_first {
            appender.take_over(node, schema.clone(), follower.tail());
        }
        if is_first || is_ours && follower.has_after(place.epoch)? {
            if !is_first {
                appender.resume();
                self.settle(&mut appender).await?;
            }
            let written = if is_first { Some(&schema) } else { place.schema.as_ref() };
            for batch in follower.after(place.epoch)? {
                let batch = batch?;
                if Some(&*batch.schema) != written {
                    return Err(ReplicaError::OlderTypes { epoch: batch.epoch });
                }
                appender.put_batch(&batch);
                self.settle(&mut appender).await?;
            }
        }
        if !is_first {
            appender.take_over(node, schema.clone(), follower.tail());
        }
        self.settle(&mut appender).await?;
        Ok(appender)
    }

    /// The takeover is in the stream: remembers the term, and starts the runtime on the log.
    pub(super) async fn begin_to_own(
        &mut self,
        mut follower: Follower<A>,
        appender: Appender,
        decided: Instant,
    ) -> Result<(), ReplicaError> {
        self.shared.say(|status| status.role = Role::Joining);
        // So that what the runtime writes is known to be of this term, whatever becomes of it.
        self.file.term = appender.chain().place().term;
        self.file.write(&self.directory.name())?;
        self.bring_on(&mut follower).await?;
        if follower.place() != appender.chain().place() {
            let owner = follower.place().owner.clone().unwrap_or_default();
            return Err(ReplicaError::Fenced { owner, term: follower.place().term });
        }
        follower.let_go_of_shows();
        (self.file.sequence, self.file.place) = (follower.sequence(), follower.place().clone());
        self.file.write(&self.directory.name())?;
        drop(follower);
        self.start(appender, decided).await
    }

    /// Waits until nothing is under way, and not longer than the node's patience.
    pub(super) async fn settle(&self, appender: &mut Appender) -> Result<(), ReplicaError> {
        let settled = async {
            appender.send_next().await;
            while !appender.is_quiet() {
                let came = appender.wait().await;
                appender.go_on(came).await?;
            }
            Ok(())
        };
        match timeout(self.replica.patience, settled).await {
            Ok(settled) => settled,
            Err(_) => Err(ReplicaError::servers("appending to the stream", "no acknowledgement in time")),
        }
    }

    /// Starts the runtime on the log.
    pub(super) async fn start(
        &mut self,
        mut appender: Appender,
        decided: Instant,
    ) -> Result<(), ReplicaError> {
        let wake = Arc::new(Notify::new());
        let waker = wake.clone();
        let (sender, mut receiver) = epoch_channel(self.replica.backlog_bytes, move || waker.notify_one());
        let log = LogConfig {
            directory: log_directory(&self.directory.name()),
            leaving: Some(sender),
            ack: self.replica.ack,
            ..self.log.clone()
        };
        let config = self.config.clone();
        let mut opening = tokio::task::spawn_blocking(move || Runtime::<A>::open(config, log));
        let term = appender.chain().place().term;
        let mut lost = None;
        // It runs messages before it is open, those that are owed, and may make a checkpoint. Both
        // wait for the stream.
        let opened = loop {
            if lost.is_none() {
                appender.send(&mut receiver).await;
            }
            tokio::select! {
                opened = &mut opening => break opened.map_err(|_| ReplicaError::Stopped)?,
                () = wake.notified(), if lost.is_none() => {}
                came = appender.wait(), if lost.is_none() => match appender.go_on(came).await {
                    Ok(Some(epoch)) => receiver.acknowledge(epoch),
                    Ok(None) => {}
                    Err(error) => {
                        receiver.fence(&error.to_string());
                        lost = Some(error);
                    }
                },
                () = sleep(self.replica.beat_every) => self.beat(term).await,
            }
        };
        if let Some(error) = lost {
            return Err(error);
        }
        let runtime = opened?;
        *self.shared.runtime.write().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
        let place = appender.chain().place();
        let took = decided.elapsed();
        tracing::info!(term, epoch = place.epoch.0, ?took, "this node owns the database");
        self.shared.say(|status| {
            (status.role, status.term) = (Role::Owner, term);
            (status.owner, status.epoch) = (place.owner.clone(), place.epoch);
            status.takeovers += 1;
            status.takeover_took = Some(took);
        });
        self.state = State::Owner(Box::new(appender), Box::new(receiver), wake);
        Ok(())
    }

    /// Takes over; after an error that is passing, the node is a standby still.
    pub(super) async fn try_to_own(
        &mut self,
        mut follower: Follower<A>,
        whom: Whom,
    ) -> Result<(), ReplicaError> {
        let decided = Instant::now();
        let appender = match self.append_takeover(&mut follower, whom).await {
            Ok(appender) => appender,
            // If the stream was trimmed behind it, it takes a checkpoint first.
            Err(error @ (ReplicaError::Contended | ReplicaError::Trimmed { .. })) => {
                tracing::warn!(%error, "this node did not take over, and is a standby still");
                self.stand_by(follower);
                return Err(error);
            }
            Err(error) if error.is_passing() || error.is_damage() || error.is_short() => {
                tracing::warn!(%error, "this node did not take over, and is a standby still");
                self.stand_by(follower);
                return Err(error);
            }
            Err(error) => {
                self.fail(&error);
                return Err(error);
            }
        };
        self.begin_to_own(follower, appender, decided).await.inspect_err(|error| self.fail(error))
    }
}
