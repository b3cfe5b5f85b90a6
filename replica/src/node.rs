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
mod opening;
mod owning;
mod restoring;

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use freehold::{Actor, Config, EpochReceiver, LogConfig, Report, Runtime, WrittenSchema, epoch_channel};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::checkpointing::Asker;
use self::opening::{begin, make, open, set_aside};
use self::restoring::{clean, fetch, log_bytes};
use crate::appender::Appender;
use crate::config::ReplicaConfig;
use crate::error::ReplicaError;
use crate::follower::{Follower, Took, log_directory};
use crate::node_file::NodeFile;
use crate::objects::Objects;
use crate::replicated::{Command, NodeShared};
use crate::status::{Role, SetAside, StreamCheckpoint};
use crate::stream::{EntryStream, Heard, Hearing, Named, PAUSE};

/// How many messages are read at once.
const READ_MAX: usize = 64;
/// How often a takeover that others were quicker than is tried again.
const TRIES_MAX: usize = 20;
/// A standby looks at the stream so often, whatever it hears.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so many entries a standby writes down where it is.
const REMEMBER_EVERY: u64 = 10_000;

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

/// Why a standby ceases to be one.
enum Ceases {
    TakesOver(Option<SyncSender<Result<(), ReplicaError>>>),
    Stops(SyncSender<Option<Report>>),
    /// The stream was trimmed behind it.
    IsBehind,
    /// The checkpoint is there that is to take the place of its log.
    Shortens(Box<Named>),
    Fails(ReplicaError),
    /// Nobody holds the node any more.
    IsLetGo,
}

impl Ceases {
    /// Because of a command, or of the end of commands.
    fn by(command: Option<Command>) -> Option<Self> {
        match command {
            Some(Command::Promote(answer)) => Some(Ceases::TakesOver(Some(answer))),
            Some(Command::Stop(answer)) => Some(Ceases::Stops(answer)),
            Some(Command::Checkpoint(asker)) => {
                refuse_checkpoint(&asker);
                None
            }
            None => Some(Ceases::IsLetGo),
        }
    }
}

/// The next thing that is heard of the owner; waits for ever if nobody listens.
async fn hear(hearing: &mut Option<Hearing>) -> Heard {
    match hearing {
        Some(hearing) => hearing.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for a checkpoint that is fetched; for ever if none is, or it cannot be had. The node has
/// its log, and the next checkpoint may do.
async fn shortened(shortens: &mut Option<JoinHandle<Result<Named, ReplicaError>>>) -> Named {
    if let Some(fetching) = shortens {
        let fetched = fetching.await.unwrap_or(Err(ReplicaError::Stopped));
        *shortens = None;
        match fetched {
            Ok(named) => return named,
            Err(error) => tracing::debug!(%error, "the log was not shortened"),
        }
    }
    std::future::pending().await
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
        make(&log.directory)?;
        let (file, follower) = open(&stream, &log, &replica, &shared).await?;
        // The log is open, so no other process uses the directory.
        clean(&log.directory)?;
        let state = State::Over;
        let mut node = Node {
            config,
            log,
            replica,
            shared,
            commands,
            stream,
            file,
            state,
            shortens: None,
            taken: String::new(),
        };
        match node.take_its_place(follower).await {
            // Another node founded the database at the same time, and was quicker. This node has
            // nothing, and joins that one.
            Err(error) if node.file.place.next == 0 && error.is_of_another() => {
                tracing::info!(%error, "another node founded the database: this one joins it");
                let (file, follower) = open(&node.stream, &node.log, &node.replica, &node.shared).await?;
                node.file = file;
                node.take_its_place(follower).await?;
            }
            taken => taken?,
        }
        Ok(node)
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
        self.stand_by(follower);
        Ok(())
    }

    fn stand_by(&mut self, follower: Follower<A>) {
        self.shared.say(|status| status.role = Role::Standby);
        self.state = State::Standby(Box::new(follower));
    }

    /// Follows the stream to its end as it is now. If the log has strayed from it, the log is set
    /// aside, and the node begins from nothing.
    async fn catch_up(&mut self, mut follower: Follower<A>) -> Result<Follower<A>, ReplicaError> {
        let until = Instant::now() + self.replica.patience;
        loop {
            let ends = match self.stream.ends().await {
                Err(error) if error.is_passing() && Instant::now() < until => {
                    sleep(PAUSE).await;
                    continue;
                }
                ends => ends?,
            };
            if follower.sequence() < ends.first {
                follower = self.restore(follower).await?;
                continue;
            }
            if follower.sequence() > ends.last {
                if follower.sequence() > ends.last + 1 {
                    return Err(ReplicaError::Lost { last: ends.last, seen: follower.sequence() - 1 });
                }
                return Ok(follower);
            }
            let entries = match self.stream.read(follower.sequence(), ends.last, READ_MAX).await {
                Err(error) if error.is_passing() && Instant::now() < until => {
                    sleep(PAUSE).await;
                    continue;
                }
                entries => entries?,
            };
            if let Took::Strayed { after, until } = follower.take(&entries, self.file.term)? {
                let term = self.file.term;
                drop(follower);
                let directory = set_aside(&self.log.directory, term, after.0)?;
                *self.shared.shows.lock().unwrap_or_else(PoisonError::into_inner) = Objects::new();
                tracing::warn!(
                    directory = %directory.display(), term, after = after.0, until = until.0,
                    "this node's log has epochs that are not in the stream, of a term that ended before: it was set aside"
                );
                self.shared.say(|status| {
                    status.set_aside.push(SetAside { directory, term, after, until });
                });
                self.file = begin(&self.stream, &self.file.node).await?;
                self.file.write(&self.log.directory)?;
                follower = self.follower(&self.file)?;
            }
        }
    }

    fn follower(&self, file: &NodeFile) -> Result<Follower<A>, ReplicaError> {
        Follower::open(&self.log, file.place.clone(), file.sequence, self.shared.shows.clone())
    }

    /// Appends a takeover behind all that there is, and follows it. What the log has of this node's
    /// own term, and the stream has not, comes first.
    ///
    /// After an error that is passing it is not known whether the database is this node's; it may
    /// follow on, and sees.
    async fn append_takeover(
        &mut self,
        follower: &mut Follower<A>,
        whom: Whom,
    ) -> Result<Appender, ReplicaError> {
        let owner = follower.place().owner.clone();
        for _ in 0..TRIES_MAX {
            self.bring_on(follower).await?;
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

    async fn try_to_append_takeover(&mut self, follower: &Follower<A>) -> Result<Appender, ReplicaError> {
        let place = follower.place();
        let last = follower.sequence() - 1;
        let mut appender = Appender::new(self.stream.clone(), follower.chain().clone(), last);
        let is_first = place.term == 0;
        let is_ours = place.owner.as_ref() == Some(&self.file.node) && place.term == self.file.term;
        if is_first && self.file.term == 0 {
            // If it ends before all of its log is in the stream, it goes on when it starts again.
            self.file.term = 1;
            self.file.write(&self.log.directory)?;
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
    async fn begin_to_own(
        &mut self,
        mut follower: Follower<A>,
        appender: Appender,
        decided: Instant,
    ) -> Result<(), ReplicaError> {
        self.shared.say(|status| status.role = Role::Joining);
        // So that what the runtime writes is known to be of this term, whatever becomes of it.
        self.file.term = appender.chain().place().term;
        self.file.write(&self.log.directory)?;
        self.bring_on(&mut follower).await?;
        if follower.place() != appender.chain().place() {
            let owner = follower.place().owner.clone().unwrap_or_default();
            return Err(ReplicaError::Fenced { owner, term: follower.place().term });
        }
        follower.let_go_of_shows();
        (self.file.sequence, self.file.place) = (follower.sequence(), follower.place().clone());
        self.file.write(&self.log.directory)?;
        drop(follower);
        self.start(appender, decided).await
    }

    /// Waits until nothing is under way, and not longer than the node's patience.
    async fn settle(&self, appender: &mut Appender) -> Result<(), ReplicaError> {
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
    async fn start(&mut self, mut appender: Appender, decided: Instant) -> Result<(), ReplicaError> {
        let wake = Arc::new(Notify::new());
        let waker = wake.clone();
        let (sender, mut receiver) = epoch_channel(self.replica.backlog_bytes, move || waker.notify_one());
        let log = LogConfig {
            directory: log_directory(&self.log.directory),
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
        let fetching = fetch(&self.stream, &self.log, self.replica.patience, needed);
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

    /// Takes over; after an error that is passing, the node is a standby still.
    async fn try_to_own(&mut self, mut follower: Follower<A>, whom: Whom) -> Result<(), ReplicaError> {
        let decided = Instant::now();
        let appender = match self.append_takeover(&mut follower, whom).await {
            Ok(appender) => appender,
            // If the stream was trimmed behind it, it takes a checkpoint first.
            Err(error @ (ReplicaError::Contended | ReplicaError::Trimmed { .. })) => {
                tracing::warn!(%error, "this node did not take over, and is a standby still");
                self.stand_by(follower);
                return Err(error);
            }
            Err(error) if error.is_passing() => {
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

    /// The node cannot go on: it says why, and answers nobody.
    fn fail(&mut self, error: &ReplicaError) {
        let role = if matches!(error, ReplicaError::Fenced { .. }) { Role::Fenced } else { Role::Failed };
        tracing::error!(%error, ?role, "this node does not go on");
        self.shared.say(|status| (status.role, status.failure) = (role, Some(error.to_string())));
    }

    fn remember(&mut self, follower: &Follower<A>) {
        if follower.chain().is_inside() {
            return;
        }
        (self.file.sequence, self.file.place) = (follower.sequence(), follower.place().clone());
        if let Err(error) = self.file.write(&self.log.directory) {
            tracing::warn!(%error, "where this node is was not written down: it reads more when it starts again");
        }
    }

    /// Follows the stream until something ends that.
    async fn follow(&mut self, follower: &mut Follower<A>) -> Ceases {
        let mut hearing: Option<Hearing> = None;
        let (mut heard, mut all_at, mut remembered) = (Instant::now(), Instant::now(), follower.sequence());
        loop {
            if hearing.is_none() {
                hearing = self.stream.hear().await.ok();
            }
            hearing.iter_mut().for_each(Hearing::forget_appends);
            let (before, mut is_all_there) = ((follower.sequence(), follower.place().term), false);
            match self.bring_on(follower).await {
                Ok(()) => {
                    (is_all_there, all_at) = (true, Instant::now());
                    self.catches_up(follower);
                    if (follower.sequence(), follower.place().term) != before {
                        heard = Instant::now();
                    }
                }
                Err(error @ ReplicaError::Missing { .. }) if all_at.elapsed() > self.replica.patience => {
                    return Ceases::Fails(error);
                }
                Err(error) if error.is_passing() => {
                    tracing::debug!(%error, "the stream does not answer");
                    // As long as nobody can append, silence means nothing.
                    heard = Instant::now();
                    self.shared.say(|status| status.lag.since = all_at.elapsed());
                }
                Err(ReplicaError::Trimmed { .. }) => return Ceases::IsBehind,
                Err(error) => return Ceases::Fails(error),
            }
            // A takeover that fails ends here again, and others are to be heard in between.
            if let Some(ceases) = self.asked() {
                return ceases;
            }
            if is_all_there && follower.place().owner.as_ref() == Some(&self.file.node) {
                // A takeover of this node's, of which it had not heard that it was appended.
                return Ceases::TakesOver(None);
            }
            if follower.sequence() - remembered >= REMEMBER_EVERY {
                remembered = follower.sequence();
                self.remember(follower);
            }
            if let Some(silence) = self.replica.takeover_after
                && (heard.elapsed() >= silence || is_all_there && follower.place().owner.is_none())
            {
                tracing::warn!(silent_for = ?heard.elapsed(), "nothing is heard of the owner: this node takes over");
                return Ceases::TakesOver(None);
            }
            let silent = self.replica.takeover_after.map(|silence| silence.saturating_sub(heard.elapsed()));
            let wait = silent.unwrap_or(LOOK_EVERY).clamp(Duration::from_millis(1), LOOK_EVERY);
            tokio::select! {
                command = self.commands.recv() => if let Some(ceases) = Ceases::by(command) {
                    return ceases;
                },
                came = hear(&mut hearing) => if let Heard::Beat(beat) = came {
                    let beat: Option<Beat> = serde_json::from_slice(&beat).ok();
                    if let Some(beat) = beat.filter(|beat| beat.term >= follower.place().term) {
                        heard = Instant::now();
                        self.say_of_beat(&beat, follower);
                    }
                },
                named = shortened(&mut self.shortens) => return Ceases::Shortens(Box::new(named)),
                () = sleep(wait) => {}
            }
        }
    }

    /// All that there is was taken over.
    fn catches_up(&mut self, follower: &mut Follower<A>) {
        self.say_of(follower, 0, 0);
        self.shorten(follower);
    }

    /// Begins to fetch a checkpoint that came by, if the log is longer than it by what the stream
    /// may grow between two.
    fn shorten(&mut self, follower: &mut Follower<A>) {
        let Some(named) = follower.take_named() else { return };
        let most = named.bytes + self.replica.checkpoint_bytes;
        let is_long = || log_bytes(&self.log.directory).is_ok_and(|bytes| bytes > most);
        if self.shortens.is_none() && named.object != self.taken && is_long() {
            let (stream, log, patience) = (self.stream.clone(), self.log.clone(), self.replica.patience);
            let needed = follower.sequence();
            self.shortens = Some(tokio::spawn(async move { fetch(&stream, &log, patience, needed).await }));
        }
    }

    /// What has been asked of the node meanwhile.
    fn asked(&mut self) -> Option<Ceases> {
        match self.commands.try_recv() {
            Ok(command) => Ceases::by(Some(command)),
            Err(TryRecvError::Disconnected) => Some(Ceases::IsLetGo),
            Err(TryRecvError::Empty) => None,
        }
    }

    /// Takes over what there is behind the last entry.
    async fn bring_on(&self, follower: &mut Follower<A>) -> Result<(), ReplicaError> {
        let ends = self.stream.ends().await?;
        if follower.sequence() < ends.first {
            return Err(ReplicaError::Trimmed { first: ends.first, needed: follower.sequence() });
        }
        self.shared.say(|status| status.stream_bytes = ends.bytes);
        let mean = ends.bytes / (ends.last + 1).saturating_sub(ends.first).max(1);
        while follower.sequence() <= ends.last {
            let entries = self.stream.read(follower.sequence(), ends.last, READ_MAX).await?;
            if let Took::Strayed { .. } = follower.take(&entries, self.file.term)? {
                // It was the owner until just now, and is to join again.
                let owner = follower.place().owner.clone().unwrap_or_default();
                return Err(ReplicaError::Fenced { owner, term: follower.place().term });
            }
            if let Some(named) = follower.named() {
                let named = StreamCheckpoint::of(named, Duration::ZERO);
                self.shared.say(|status| status.checkpoint = Some(named));
            }
            let left = (ends.last + 1).saturating_sub(follower.sequence());
            self.say_of(follower, left, left * mean);
        }
        Ok(())
    }

    /// Says how far the owner was when it said that it is there.
    fn say_of_beat(&self, beat: &Beat, follower: &Follower<A>) {
        let place = follower.place();
        if beat.term == place.term {
            let epochs = beat.epoch.saturating_sub(place.epoch.0);
            self.shared.say(|status| status.lag.epochs = epochs);
        }
    }

    /// Says how far the follower is; so many entries of so many bytes are known and to come.
    fn say_of(&self, follower: &Follower<A>, entries: u64, bytes: u64) {
        let place = follower.place();
        self.shared.say(|status| {
            (status.term, status.epoch) = (place.term, place.epoch);
            status.owner.clone_from(&place.owner);
            (status.lag.entries, status.lag.bytes, status.lag.since) = (entries, bytes, Duration::ZERO);
            if entries == 0 {
                status.lag.epochs = 0;
            }
        });
    }
}
