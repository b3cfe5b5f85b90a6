//! A node that owns the database: it brings epochs to the stream, until it stops or is replaced.

use std::sync::PoisonError;

use freehold::{Actor, EpochReceiver, Phase, Report, Runtime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Node;
use super::checkpointing::{Checkpointing, Done};
use super::repairing::Repairing;
use crate::appender::Appender;
use crate::error::ReplicaError;
use crate::replicated::Command;
use crate::status::{Role, StreamCheckpoint};

impl<A: Actor> Node<A>
where
    <A as Actor>::State: Serialize + DeserializeOwned,
    <A as Actor>::Message: Serialize + DeserializeOwned,
{
    /// Owns the database, until it is somebody else's or the node stops.
    pub(super) async fn own(&mut self, mut appender: Appender, mut receiver: EpochReceiver, wake: &Notify) {
        let term = appender.chain().place().term;
        let mut beats = tokio::time::interval(self.replica.beat_every);
        // If the servers do not say, the first checkpoint comes later.
        let mut checkpointing = Checkpointing::new(self.stream.ends().await.map_or(0, |ends| ends.bytes));
        let mut repairing = Repairing::new(&self.stream, self.replica.repair).await;
        let (stop, lost) = loop {
            self.checkpoint(&mut checkpointing, &mut appender, &mut receiver);
            if !checkpointing.waits(&appender, self.replica.checkpoint_bytes) {
                appender.send(&mut receiver).await;
            } else {
                appender.send_next().await;
            }
            self.say_of_owner(&appender, &receiver, checkpointing.stream_bytes(&appender));
            tokio::select! {
                () = wake.notified() => {}
                came = appender.wait() => match appender.go_on(came).await {
                    Ok(Some(epoch)) => {
                        // First the status: who has an answer finds its epoch there.
                        self.say_of_owner(&appender, &receiver, checkpointing.stream_bytes(&appender));
                        receiver.acknowledge(epoch);
                    }
                    Ok(None) => {}
                    Err(error) => break (None, Some(error)),
                },
                done = checkpointing.wait() => {
                    self.checkpoint_came(done, &mut checkpointing, &appender, &receiver);
                }
                found = repairing.wait() => {
                    repairing.take_note(found, &self.stream, &mut appender, &mut checkpointing);
                }
                _ = beats.tick() => {
                    if self.is_dead() {
                        break (None, None);
                    }
                    self.beat(term).await;
                }
                command = self.commands.recv() => match command {
                    Some(Command::Promote(answer)) => {
                        let _ = answer.send(Err(ReplicaError::Role { needed: "a standby: it is the owner" }));
                    }
                    Some(Command::Checkpoint(asker)) => checkpointing.ask(asker),
                    Some(Command::Stop(answer)) => break (Some(answer), None),
                    None => break (None, None),
                },
            }
        };
        drop(checkpointing);
        if let Some(error) = &lost {
            // From here on nothing is answered.
            receiver.fence(&error.to_string());
            self.fail(error);
        }
        let is_dead = lost.is_some() || self.is_dead();
        let (report, appender, receiver) = self.stop_runtime(appender, receiver, wake, is_dead).await;
        if !is_dead {
            self.leave(appender, receiver).await;
        } else if lost.is_none() {
            let why = "the runtime died, and its log says why";
            self.shared.say(|status| (status.role, status.failure) = (Role::Failed, Some(why.into())));
        }
        if let Some(answer) = stop {
            self.shared.say(|status| status.role = Role::Stopped);
            let _ = answer.send(report);
            self.commands.close();
        }
    }

    /// Whether the runtime has died.
    fn is_dead(&self) -> bool {
        let runtime = self.shared.runtime.read().unwrap_or_else(PoisonError::into_inner);
        runtime.as_ref().is_some_and(|runtime| runtime.stats().phase == Phase::Dead)
    }

    /// Takes note of a step of a checkpoint that is done.
    fn checkpoint_came(
        &self,
        done: Done,
        checkpointing: &mut Checkpointing,
        appender: &Appender,
        receiver: &EpochReceiver,
    ) {
        let was_repairing = checkpointing.is_repairing();
        let made = checkpointing.came(done, appender);
        let is_repaired = was_repairing && !checkpointing.is_repairing();
        self.shared.say(|status| status.repaired += u64::from(is_repaired));
        // First the bytes: who sees the checkpoint finds what is left behind it.
        self.say_of_owner(appender, receiver, checkpointing.stream_bytes(appender));
        self.say_of_checkpoint(made);
    }

    /// Says that a checkpoint was made, or given up.
    fn say_of_checkpoint(&self, done: Option<Result<StreamCheckpoint, ()>>) {
        self.shared.say(|status| match done {
            Some(Ok(made)) => {
                status.checkpoints.0 += 1;
                status.checkpoint = Some(made);
            }
            Some(Err(())) => status.checkpoints.1 += 1,
            None => {}
        });
    }

    fn say_of_owner(&self, appender: &Appender, receiver: &EpochReceiver, stream_bytes: u64) {
        self.shared.say(|status| {
            status.stream_bytes = stream_bytes;
            status.epoch = appender.acknowledged();
            status.latency = appender.latency();
            (status.bytes_under_way, status.bytes_waiting) = (appender.bytes_under_way(), receiver.backlog());
        });
    }

    /// Shuts the runtime down, and goes on appending what that needs.
    async fn stop_runtime(
        &mut self,
        mut appender: Appender,
        mut receiver: EpochReceiver,
        wake: &Notify,
        is_dead: bool,
    ) -> (Option<Report>, Appender, EpochReceiver) {
        let shared = self.shared.clone();
        let mut stopping = tokio::task::spawn_blocking(move || {
            let runtime = shared.runtime.write().unwrap_or_else(PoisonError::into_inner).take();
            runtime.map(Runtime::shutdown)
        });
        let mut is_lost = is_dead;
        loop {
            if !is_lost {
                appender.send(&mut receiver).await;
            }
            tokio::select! {
                stopped = &mut stopping => return (stopped.ok().flatten(), appender, receiver),
                () = wake.notified(), if !is_lost => {}
                came = appender.wait(), if !is_lost => match appender.go_on(came).await {
                    Ok(Some(epoch)) => receiver.acknowledge(epoch),
                    Ok(None) => {}
                    Err(error) => {
                        is_lost = true;
                        receiver.fence(&error.to_string());
                    }
                },
            }
        }
    }

    /// Brings the last epochs to the stream, and gives the database up.
    async fn leave(&mut self, mut appender: Appender, mut receiver: EpochReceiver) {
        let patience = self.replica.patience;
        let left = async {
            loop {
                appender.send(&mut receiver).await;
                if appender.is_quiet() {
                    break;
                }
                let came = appender.wait().await;
                appender.go_on(came).await?;
            }
            // Of what did not leave only this node's log knows.
            if !receiver.is_cut() {
                appender.resign();
                self.settle(&mut appender).await?;
            }
            Ok::<(), ReplicaError>(())
        };
        match timeout(patience, left).await {
            Ok(Ok(())) => {
                (self.file.sequence, self.file.place) =
                    (appender.next_sequence(), appender.chain().place().clone());
                if let Err(error) = self.file.write(&self.directory.name()) {
                    tracing::warn!(%error, "where this node is was not written down: it reads more when it starts again");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the database was not given up"),
            Err(_) => {
                tracing::warn!("the last epochs are in this node's log only: the stream does not answer")
            }
        }
    }
}
