//! An owner's checkpoints, so that the stream is bounded.
//!
//! ```text
//! grown, or asked ─> copied and put into the object store ─> named in the stream ─> trimmed
//! ```
//! The place in the chain from which a reader of the checkpoint goes on is taken before the copy
//! begins, when everything before it was acknowledged. So the copy has all of that, and perhaps
//! more. It is named when the chain has all that the copy has, and the stream is trimmed when the
//! entry that names it was acknowledged. A crash leaves a checkpoint that nobody names, or one that
//! is named behind a stream that is longer than it need be. The next one removes both.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use freehold::{Actor, EpochReceiver, Runtime};
use freehold_shard::log::chain::NamedCheckpoint;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::Node;
use super::opening::random;
use crate::appender::Appender;
use crate::checkpoint_store::{Making, make, replace_others};
use crate::error::ReplicaError;
use crate::follower::log_directory;
use crate::status::StreamCheckpoint;
use crate::stream::Ends;

/// After one that failed, the next is not begun by itself before so long.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A program's thread that waits for a checkpoint.
pub(super) type Asker = SyncSender<Result<StreamCheckpoint, ReplicaError>>;

/// Where a log is copied to, in a node's directory.
pub(super) fn copy_directory(directory: &Path) -> PathBuf {
    directory.join("checkpoint-copy")
}

/// Where a copy gets an epoch that the log does not have.
pub(super) fn longer_directory(directory: &Path) -> PathBuf {
    directory.join("checkpoint-longer")
}

/// How far an owner is with its checkpoint.
pub(super) struct Checkpointing {
    step: Step,
    askers: Vec<Asker>,
    /// How many bytes the stream took, and how many this owner had appended then.
    stream_bytes: (u64, u64),
    /// How many bytes the stream has had since the last checkpoint before this owner began; and
    /// how many it had appended when the last checkpoint of its own began.
    grown: (u64, u64),
    not_before: Instant,
    repair: Repairs,
}

/// How far a checkpoint is that repairs the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repairs {
    No,
    /// What was damaged may be the last message, and the one before a checkpoint's place stays.
    Due,
    /// An entry that says nothing is behind what was damaged.
    Apart,
    /// The checkpoint is on its way.
    UnderWay,
}

enum Step {
    No,
    /// It is copied and put into the object store. Its reader goes on with this message.
    Making(JoinHandle<Result<NamedCheckpoint, ReplicaError>>, u64),
    /// It is there, and not named.
    Made(NamedCheckpoint, u64),
    /// The entry that names it is on its way.
    Named(NamedCheckpoint, u64),
    /// Everything before it is let go of.
    Trimming(JoinHandle<Result<Ends, ReplicaError>>, NamedCheckpoint),
}

/// A step that is done.
pub(super) enum Done {
    Made(Result<Box<NamedCheckpoint>, ReplicaError>),
    Trimmed(Result<Ends, ReplicaError>),
}

impl Checkpointing {
    /// None yet, of a stream of so many bytes.
    pub(super) fn new(stream_bytes: u64) -> Self {
        Checkpointing {
            step: Step::No,
            askers: Vec::new(),
            stream_bytes: (stream_bytes, 0),
            grown: (stream_bytes, 0),
            not_before: Instant::now(),
            repair: Repairs::No,
        }
    }

    /// A thread waits for one.
    pub(super) fn ask(&mut self, asker: Asker) {
        self.askers.push(asker);
    }

    /// The stream is damaged: the next one repairs it.
    pub(super) fn repair(&mut self) {
        self.repair = Repairs::Due;
    }

    /// Whether the stream is about to be repaired.
    pub(super) fn is_repairing(&self) -> bool {
        self.repair != Repairs::No
    }

    /// How many bytes the stream takes.
    pub(super) fn stream_bytes(&self, appender: &Appender) -> u64 {
        self.stream_bytes.0 + (appender.appended_bytes() - self.stream_bytes.1)
    }

    fn is_due(&self, appender: &Appender, checkpoint_bytes: u64) -> bool {
        let grown = self.grown.0 + (appender.appended_bytes() - self.grown.1);
        let is_wanted = grown >= checkpoint_bytes || matches!(self.repair, Repairs::Due | Repairs::Apart);
        !self.askers.is_empty() || is_wanted && Instant::now() >= self.not_before
    }

    /// Whether one is due, and waits until nothing is under way: under load something always is, so
    /// nothing more is sent until then.
    pub(super) fn waits(&self, appender: &Appender, checkpoint_bytes: u64) -> bool {
        matches!(self.step, Step::No) && self.is_due(appender, checkpoint_bytes) && !appender.is_quiet()
    }

    /// Waits until a step is done. It waits for ever if none is under way, and may be given up.
    pub(super) async fn wait(&mut self) -> Done {
        match &mut self.step {
            Step::Making(making, _) => {
                Done::Made(making.await.unwrap_or(Err(ReplicaError::Stopped)).map(Box::new))
            }
            Step::Trimming(trimming, _) => {
                Done::Trimmed(trimming.await.unwrap_or(Err(ReplicaError::Stopped)))
            }
            Step::No | Step::Made(..) | Step::Named(..) => std::future::pending().await,
        }
    }

    /// Takes note of a step that is done. If that was the last one, returns the checkpoint; or that
    /// it was given up.
    pub(super) fn came(&mut self, done: Done, appender: &Appender) -> Option<Result<StreamCheckpoint, ()>> {
        match (std::mem::replace(&mut self.step, Step::No), done) {
            (Step::Making(_, sequence), Done::Made(Ok(named))) => self.step = Step::Made(*named, sequence),
            (Step::Trimming(_, named), Done::Trimmed(Ok(ends))) => {
                if self.repair == Repairs::UnderWay {
                    self.repair = Repairs::No;
                }
                self.stream_bytes = (ends.bytes, appender.appended_bytes());
                tracing::info!(
                    checkpoint = named.object,
                    epoch = named.epoch.0,
                    bytes = named.bytes,
                    "a checkpoint"
                );
                let named = StreamCheckpoint::of(&named, Duration::ZERO);
                self.askers.drain(..).for_each(|asker| drop(asker.send(Ok(named.clone()))));
                return Some(Ok(named));
            }
            (_, Done::Made(Err(error)) | Done::Trimmed(Err(error))) => {
                self.give_up(error);
                return Some(Err(()));
            }
            (step, _) => self.step = step,
        }
        None
    }

    fn give_up(&mut self, error: ReplicaError) {
        tracing::warn!(%error, "no checkpoint was made, and the stream was not trimmed");
        self.step = Step::No;
        if self.repair == Repairs::UnderWay {
            self.repair = Repairs::Due;
        }
        self.not_before = Instant::now() + AGAIN_AFTER;
        let why = error.to_string();
        let mut first = Some(error);
        for asker in self.askers.drain(..) {
            let error = first.take().unwrap_or_else(|| ReplicaError::NotCheckpointed { why: why.clone() });
            let _ = asker.send(Err(error));
        }
    }
}

impl Drop for Checkpointing {
    fn drop(&mut self) {
        match &self.step {
            Step::Making(making, _) => making.abort(),
            Step::Trimming(trimming, _) => trimming.abort(),
            Step::No | Step::Made(..) | Step::Named(..) => {}
        }
    }
}

impl<A: Actor> Node<A>
where
    <A as Actor>::State: Serialize + DeserializeOwned,
    <A as Actor>::Message: Serialize + DeserializeOwned,
{
    /// Takes the next step towards a checkpoint, if it can be taken now.
    pub(super) fn checkpoint(
        &mut self,
        checkpointing: &mut Checkpointing,
        appender: &mut Appender,
        receiver: &mut EpochReceiver,
    ) {
        checkpointing.step = match std::mem::replace(&mut checkpointing.step, Step::No) {
            // With nothing under way, all that the chain has was acknowledged.
            Step::No
                if appender.is_quiet() && checkpointing.is_due(appender, self.replica.checkpoint_bytes) =>
            {
                match checkpointing.repair {
                    Repairs::Due => {
                        checkpointing.repair = Repairs::Apart;
                        return appender.still();
                    }
                    Repairs::Apart => checkpointing.repair = Repairs::UnderWay,
                    Repairs::No | Repairs::UnderWay => {}
                }
                checkpointing.grown = (0, appender.appended_bytes());
                match self.making(appender) {
                    Ok(making) => {
                        let making = tokio::spawn(make(self.stream.clone(), making));
                        Step::Making(making, appender.next_sequence())
                    }
                    Err(error) => return self.give_up(checkpointing, error),
                }
            }
            Step::Made(named, sequence) => {
                // The copy may have epochs in which nothing was committed, and which nobody awaits:
                // a shard that a batch has named closes them. It would wait for the next.
                receiver.want(named.epoch);
                if appender.chain().place().epoch < named.epoch {
                    Step::Made(named, sequence)
                } else {
                    appender.name_checkpoint(named.clone());
                    Step::Named(named, sequence)
                }
            }
            Step::Named(named, sequence) => match appender.trims_below() {
                Some(below) => match self.trimming(&named, sequence, below) {
                    Ok(trimming) => Step::Trimming(trimming, named),
                    Err(error) => return self.give_up(checkpointing, error),
                },
                None => Step::Named(named, sequence),
            },
            step => step,
        };
    }

    fn give_up(&self, checkpointing: &mut Checkpointing, error: ReplicaError) {
        checkpointing.give_up(error);
        self.shared.say(|status| status.checkpoints.1 += 1);
    }

    fn making(&self, appender: &Appender) -> Result<Making, ReplicaError> {
        let place = appender.chain().place().clone();
        let directory = &self.directory.reach();
        let shared = self.shared.clone();
        // A checkpoint of its own does that. If there is none, the copies say what is wrong.
        let bring_on = Box::new(move || {
            let runtime = shared.runtime.read().unwrap_or_else(PoisonError::into_inner);
            let _ = runtime.as_ref().map(Runtime::checkpoint);
        });
        Ok(Making {
            log: log_directory(directory),
            copy: copy_directory(directory),
            prefix: self.replica.checkpoint_prefix(place.database),
            replicas: self.replica.replicas,
            place,
            number: random()?,
            bring_on,
            behind: None,
        })
    }

    /// Begins to let go of what is before a checkpoint that was named. The node remembers that
    /// place first, because what it remembers now may not be in the stream any more then.
    fn trimming(
        &mut self,
        named: &NamedCheckpoint,
        sequence: u64,
        below: u64,
    ) -> Result<JoinHandle<Result<Ends, ReplicaError>>, ReplicaError> {
        (self.file.sequence, self.file.place) = (sequence, named.place.clone());
        self.file.write(&self.directory.name())?;
        let (stream, named) = (self.stream.clone(), named.clone());
        let prefix = self.replica.checkpoint_prefix(named.place.database);
        Ok(tokio::spawn(async move { replace_others(&stream, &named, &prefix, below).await }))
    }
}
