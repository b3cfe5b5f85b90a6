//! The life of a node: it joins, follows, takes over, owns, and stops.
//!
//! ```text
//! join ──> Standby ──promote, or silence──> Owner ──refused──> Fenced
//!      └──────nobody owns it, or it did──────┘
//! ```
//! A node takes over in this order: it follows the stream to its end, appends a takeover behind
//! what it has read, remembers its term, and only then starts the runtime on its log. A node that
//! founds a database remembers its term first: if it stops between, it goes on with what it has.

mod checkpointing;
mod following;
mod founding;
mod opening;
mod owning;
mod repairing;
mod restoring;
mod taking;

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold::{Actor, Config, Epoch, EpochReceiver, LogConfig};
use freehold_shard::log::chain::ChainPlace;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use self::checkpointing::Asker;
use self::following::Ceases;
use self::opening::open;
use self::restoring::{clean, fetch};
use crate::appender::Appender;
use crate::config::ReplicaConfig;
use crate::error::ReplicaError;
use crate::follower::Follower;
use crate::node_directory::NodeDirectory;
use crate::node_file::NodeFile;
use crate::replicated::{Command, NodeShared};
use crate::status::{Role, StreamCheckpoint};
use crate::stream::{EntryStream, Named};

/// What a node is made of.
pub(crate) struct Setup<A: Actor> {
    pub(crate) config: Config,
    pub(crate) log: LogConfig,
    pub(crate) replica: ReplicaConfig,
    pub(crate) shared: Arc<NodeShared<A>>,
    pub(crate) commands: mpsc::Receiver<Command>,
}

/// What an owner says of itself now and then.
#[derive(Debug, Serialize, Deserialize)]
struct Beat {
    term: u64,
    node: String,
    /// The last epoch that the stream has acknowledged.
    #[serde(default)]
    epoch: u64,
}

/// A node that has joined.
pub(crate) struct Node<A: Actor> {
    config: Config,
    directory: NodeDirectory,
    /// How its log is kept, but for where.
    log: LogConfig,
    replica: ReplicaConfig,
    shared: Arc<NodeShared<A>>,
    commands: mpsc::Receiver<Command>,
    stream: EntryStream,
    file: NodeFile,
    state: State<A>,
    /// A checkpoint that is to take the place of a standby's log, which has become long.
    shortens: Option<JoinHandle<Result<Named, ReplicaError>>>,
    /// The checkpoint that took its place last: once is enough.
    taken: String,
    /// The latest epoch that an owner has said to be acknowledged.
    heard: Epoch,
}

enum State<A: Actor> {
    /// It follows.
    Standby(Box<Follower<A>>),
    /// It owns the database; the runtime is in what the node shares.
    Owner(Box<Appender>, Box<EpochReceiver>, Arc<Notify>),
    /// It does nothing any more.
    Over,
}

/// From whom a node takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    /// Any owner: somebody has decided so.
    Anybody,
    /// The owner that it knows of, which is gone or was this node; and not from another since.
    Known,
}

/// A node that is not the owner makes no checkpoint.
fn refuse_checkpoint(asker: &Asker) {
    let _ = asker.send(Err(ReplicaError::Role { needed: "the owner, which makes checkpoints" }));
}

impl<A: Actor> Node<A>
where
    <A as Actor>::State: Serialize + DeserializeOwned,
    <A as Actor>::Message: Serialize + DeserializeOwned,
{
    /// Reaches the stream, follows it to its end, and takes over if nobody else owns the database.
    pub(crate) async fn join(setup: Setup<A>) -> Result<Self, ReplicaError> {
        let Setup { config, log, replica, shared, commands } = setup;
        let stream = EntryStream::open(&replica).await?;
        let mut node = Node {
            config,
            directory: NodeDirectory::open(&log.directory)?,
            log,
            replica,
            shared,
            commands,
            stream,
            // Until it has opened its own.
            file: NodeFile::new(String::new(), 1, ChainPlace::first(0)),
            state: State::Over,
            shortens: None,
            taken: String::new(),
            heard: Epoch(0),
        };
        match node.enter().await {
            Err(error) if node.may_found(&error) => {
                node.found(&error).await?;
                node.enter().await?;
            }
            entered => entered?,
        }
        Ok(node)
    }

    /// Opens what the node has, and joins with it.
    async fn enter(&mut self) -> Result<(), ReplicaError> {
        let follower = self.open().await?;
        // The log is open, so no other process uses the directory.
        clean(&self.directory.name())?;
        match self.take_its_place(follower).await {
            // Another node founded the database at the same time, and was quicker. This node has
            // nothing, and joins that one.
            Err(error) if self.file.place.next == 0 && error.is_of_another() => {
                tracing::info!(%error, "another node founded the database: this one joins it");
                let follower = self.open().await?;
                self.take_its_place(follower).await
            }
            taken => taken,
        }
    }

    /// How its log is kept, in the directory as it is called now.
    fn log_now(&self) -> LogConfig {
        LogConfig { directory: self.directory.name(), ..self.log.clone() }
    }

    /// The same for what takes long: wherever the directory is then.
    fn log_held(&self) -> LogConfig {
        LogConfig { directory: self.directory.reach(), ..self.log.clone() }
    }

    async fn open(&mut self) -> Result<Follower<A>, ReplicaError> {
        let (file, follower) = open(&self.stream, &self.log_now(), &self.replica, &self.shared).await?;
        self.file = file;
        Ok(follower)
    }

    /// Follows the stream to its end, and becomes the owner if nobody else is, or a standby.
    async fn take_its_place(&mut self, follower: Follower<A>) -> Result<(), ReplicaError> {
        let mut follower = self.catch_up(follower).await?;
        if let Ok(Some(Named { checkpoint, time, .. })) = self.stream.named().await {
            let ago = Duration::from_nanos(follower.place().time.0.saturating_sub(time.0));
            let named = StreamCheckpoint::of(&checkpoint, ago);
            self.shared.say(|status| status.checkpoint = Some(named));
        }
        let place = follower.place();
        let is_ours = place.owner.is_none() || place.owner.as_ref() == Some(&self.file.node);
        self.shared.say(|status| {
            (status.term, status.owner, status.epoch) = (place.term, place.owner.clone(), place.epoch);
        });
        if is_ours {
            let begun = Instant::now();
            match self.append_takeover(&mut follower, Whom::Known).await {
                Ok(appender) => return self.begin_to_own(follower, appender, begun).await,
                Err(ReplicaError::Contended) => {}
                Err(error) => return Err(error),
            }
        }
        // So that the next start knows what the stream has had, also after a crash.
        self.remember(&follower);
        self.stand_by(follower);
        Ok(())
    }

    fn stand_by(&mut self, follower: Follower<A>) {
        self.shared.say(|status| status.role = Role::Standby);
        self.state = State::Standby(Box::new(follower));
    }

    fn follower(&self, file: &NodeFile) -> Result<Follower<A>, ReplicaError> {
        Follower::open(&self.log_now(), file.place.clone(), file.sequence, self.shared.shows.clone())
    }

    async fn beat(&self, term: u64) {
        let beat = Beat { term, node: self.file.node.clone(), epoch: self.shared.status().epoch.0 };
        self.stream.beat(serde_json::to_vec(&beat).expect("all of it can be JSON")).await;
    }

    /// The rest of the node's life.
    pub(crate) async fn live(mut self) {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Standby(follower) => self.live_as_standby(*follower).await,
                State::Owner(appender, receiver, wake) => self.own(*appender, *receiver, &wake).await,
                State::Over => match self.commands.recv().await {
                    Some(Command::Promote(answer)) => {
                        let _ = answer.send(Err(ReplicaError::Role { needed: "a standby" }));
                    }
                    Some(Command::Checkpoint(asker)) => refuse_checkpoint(&asker),
                    Some(Command::Stop(answer)) => {
                        self.shared.say(|status| status.role = Role::Stopped);
                        let _ = answer.send(None);
                        return;
                    }
                    None => return,
                },
            }
        }
    }

    async fn live_as_standby(&mut self, mut follower: Follower<A>) {
        let mut ceases = self.follow(&mut follower).await;
        if matches!(ceases, Ceases::IsBehind) {
            ceases = match self.fetch_or_be_asked(follower.sequence()).await {
                Ok(named) => match self.replace_log(follower, &named) {
                    Ok(follower) => return self.stand_by(follower),
                    Err(error) => return self.fail(&error),
                },
                Err(ceases) => ceases,
            };
        }
        if let Ceases::Shortens(named) = ceases {
            return match self.replace_log(follower, &named) {
                Ok(follower) => self.stand_by(follower),
                Err(error) => self.fail(&error),
            };
        }
        if let Some(shortens) = self.shortens.take() {
            shortens.abort();
        }
        match ceases {
            Ceases::TakesOver(answer) => {
                let whom = if answer.is_some() { Whom::Anybody } else { Whom::Known };
                let taken = self.try_to_own(follower, whom).await;
                if let Some(answer) = answer {
                    let _ = answer.send(taken);
                }
            }
            Ceases::Stops(answer) => {
                self.remember(&follower);
                self.shared.say(|status| status.role = Role::Stopped);
                let _ = answer.send(None);
                // Nobody sends anything any more.
                self.commands.close();
            }
            Ceases::Fails(error) => self.fail(&error),
            Ceases::IsBehind | Ceases::Shortens(_) | Ceases::IsLetGo => {}
        }
    }

    /// Fetches a checkpoint, and hears meanwhile what is asked of the node.
    async fn fetch_or_be_asked(&mut self, needed: u64) -> Result<Named, Ceases> {
        let log = self.log_held();
        let fetching = fetch(&self.stream, &log, self.replica.patience, needed);
        let mut fetching = std::pin::pin!(fetching);
        loop {
            tokio::select! {
                fetched = &mut fetching => return fetched.map_err(Ceases::Fails),
                command = self.commands.recv() => match command {
                    Some(Command::Promote(answer)) => {
                        let needed = "up to date: it takes a checkpoint, and can be promoted then";
                        let _ = answer.send(Err(ReplicaError::Role { needed }));
                    }
                    command => if let Some(ceases) = Ceases::by(command) {
                        return Err(ceases);
                    },
                },
            }
        }
    }

    /// The node cannot go on: it says why, and answers nobody.
    fn fail(&mut self, error: &ReplicaError) {
        let role = if matches!(error, ReplicaError::Fenced { .. }) { Role::Fenced } else { Role::Failed };
        tracing::error!(%error, ?role, "this node does not go on");
        self.shared.say(|status| (status.role, status.failure) = (role, Some(error.to_string())));
    }
}
