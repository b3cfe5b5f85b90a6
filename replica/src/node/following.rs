//! A node that follows the stream: to its end when it joins, and on as a standby.

use std::sync::PoisonError;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use freehold::{Actor, Epoch, Report};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::opening::{begin, set_aside};
use super::restoring::{fetch, log_bytes};
use super::{Beat, Node, refuse_checkpoint};
use crate::error::ReplicaError;
use crate::follower::{Follower, Took};
use crate::objects::Objects;
use crate::replicated::Command;
use crate::status::{SetAside, StreamCheckpoint};
use crate::stream::{Heard, Hearing, Named, PAUSE};

/// How many messages are read at once.
const READ_MAX: usize = 64;
/// A standby looks at the stream so often, whatever it hears.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so many entries a standby writes down where it is.
const REMEMBER_EVERY: u64 = 10_000;

/// Why a standby ceases to be one.
pub(super) enum Ceases {
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
    pub(super) fn by(command: Option<Command>) -> Option<Self> {
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

impl<A: Actor> Node<A>
where
    <A as Actor>::State: Serialize + DeserializeOwned,
    <A as Actor>::Message: Serialize + DeserializeOwned,
{
    /// Follows the stream to its end as it is now. If the log has strayed from it, the log is set
    /// aside, and the node begins from nothing.
    pub(super) async fn catch_up(&mut self, mut follower: Follower<A>) -> Result<Follower<A>, ReplicaError> {
        let (until, mut is_damaged) = (Instant::now() + self.replica.patience, false);
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
                match self.check_end(&follower, ends.last) {
                    Err(_) if Instant::now() < until => sleep(PAUSE).await,
                    checked => return checked.map(|()| follower),
                }
                continue;
            }
            let took = match self.stream.read(follower.sequence(), ends.last, READ_MAX).await {
                Ok(entries) => follower.take(&entries, self.file.term),
                Err(error) => Err(error),
            };
            let took = match took {
                Err(error) if (error.is_passing() || error.is_damage()) && Instant::now() < until => {
                    // The owner may repair it. The first time it may just have been trimmed.
                    if error.is_damage() && std::mem::replace(&mut is_damaged, true) {
                        self.stream.report(&error).await;
                    }
                    sleep(PAUSE).await;
                    continue;
                }
                took => took?,
            };
            if let Took::Strayed { after, until } = took {
                let term = self.file.term;
                drop(follower);
                let directory = set_aside(&self.directory.name(), term, after.0)?;
                *self.shared.shows.lock().unwrap_or_else(PoisonError::into_inner) = Objects::new();
                tracing::warn!(
                    directory = %directory.display(), term, after = after.0, until = until.0,
                    "this node's log has epochs that are not in the stream, of a term that ended before: it was set aside"
                );
                self.shared.say(|status| {
                    status.set_aside.push(SetAside { directory, term, after, until });
                });
                self.file = begin(&self.stream, &self.file.node).await?;
                self.file.write(&self.directory.name())?;
                follower = self.follower(&self.file)?;
            }
        }
    }

    /// Follows the stream until something ends that.
    pub(super) async fn follow(&mut self, follower: &mut Follower<A>) -> Ceases {
        let mut hearing: Option<Hearing> = None;
        let (mut heard, mut all_at, mut remembered) = (Instant::now(), Instant::now(), follower.sequence());
        let (mut damaged, mut short): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            if hearing.is_none() {
                hearing = self.stream.hear().await.ok();
            }
            hearing.iter_mut().for_each(Hearing::forget_appends);
            let (before, mut is_all_there) = ((follower.sequence(), follower.place().term), false);
            match self.bring_on(follower).await {
                Ok(()) => {
                    (is_all_there, all_at, damaged, short) = (true, Instant::now(), None, None);
                    self.catches_up(follower);
                    if (follower.sequence(), follower.place().term) != before {
                        heard = Instant::now();
                    }
                }
                Err(error) if error.is_passing() || error.is_damage() => {
                    tracing::debug!(%error, "the stream does not answer, or is damaged");
                    if self.is_past_patience(&error, &mut damaged).await {
                        return Ceases::Fails(error);
                    }
                    // As long as nobody can append, silence means nothing.
                    heard = Instant::now();
                    self.shared.say(|status| status.lag.since = all_at.elapsed());
                }
                Err(error) if error.is_short() => {
                    // The owner may bring what is missing. Meanwhile nobody is to take over.
                    heard = Instant::now();
                    self.say_short(&error, &mut short);
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
                came = hear(&mut hearing) => if let Heard::Beat(beat) = came
                    && self.hear_beat(&beat, follower)
                {
                    heard = Instant::now();
                },
                named = shortened(&mut self.shortens) => return Ceases::Shortens(Box::new(named)),
                () = sleep(wait) => {}
            }
        }
    }

    /// Reports damage, which the owner may repair: from the second time on, as the stream may just
    /// have been trimmed. Says whether it has been there for the node's patience.
    async fn is_past_patience(&self, error: &ReplicaError, damaged: &mut Option<Instant>) -> bool {
        if !error.is_damage() {
            return false;
        }
        match damaged {
            Some(since) if since.elapsed() > self.replica.patience => true,
            Some(_) => {
                self.stream.report(error).await;
                false
            }
            None => {
                *damaged = Some(Instant::now());
                false
            }
        }
    }

    /// Says that the stream ends too early, once it has done so for the node's patience.
    fn say_short(&self, error: &ReplicaError, short: &mut Option<Instant>) {
        let since = *short.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.replica.patience && self.shared.status().failure.is_none() {
            tracing::warn!(%error, "the stream has lost what it acknowledged: this node does not take over");
            self.shared.say(|status| status.failure = Some(error.to_string()));
        }
    }

    /// Whether the stream, which ends with message `last` and was read to its end, has all that was
    /// acknowledged, as far as this node knows: by what it has read, by its log, and by what an
    /// owner has said. Of its own term its log may have more, which it brings.
    pub(super) fn check_end(&self, follower: &Follower<A>, last: u64) -> Result<(), ReplicaError> {
        let (place, tail) = (follower.place(), follower.tail());
        if follower.sequence() > last + 1 {
            return Err(ReplicaError::Lost { last, seen: follower.sequence() - 1 });
        }
        // Before the first term its log is what founds the database.
        let is_own = place.term == self.file.term;
        let found = if is_own { place.epoch.max(tail) } else { place.epoch };
        let (acknowledged, witness) = if self.heard > tail {
            (self.heard, "the owner has said")
        } else {
            (tail, "this node's log has it")
        };
        if acknowledged > found {
            return Err(ReplicaError::Cut { found, acknowledged, witness });
        }
        Ok(())
    }

    /// All that there is was taken over.
    pub(super) fn catches_up(&mut self, follower: &mut Follower<A>) {
        self.say_of(follower, 0, 0);
        self.shared.say(|status| status.failure = None);
        self.shorten(follower);
    }

    /// Begins to fetch a checkpoint that came by, if the log is longer than it by what the stream
    /// may grow between two.
    pub(super) fn shorten(&mut self, follower: &mut Follower<A>) {
        let Some(named) = follower.take_named() else { return };
        let most = named.bytes + self.replica.checkpoint_bytes;
        let is_long = || log_bytes(&self.directory.name()).is_ok_and(|bytes| bytes > most);
        if self.shortens.is_none() && named.object != self.taken && is_long() {
            let (stream, log, patience) = (self.stream.clone(), self.log_held(), self.replica.patience);
            let needed = follower.sequence();
            self.shortens = Some(tokio::spawn(async move { fetch(&stream, &log, patience, needed).await }));
        }
    }

    /// What has been asked of the node meanwhile.
    pub(super) fn asked(&mut self) -> Option<Ceases> {
        match self.commands.try_recv() {
            Ok(command) => Ceases::by(Some(command)),
            Err(TryRecvError::Disconnected) => Some(Ceases::IsLetGo),
            Err(TryRecvError::Empty) => None,
        }
    }

    /// Takes over what there is behind the last entry.
    pub(super) async fn bring_on(&self, follower: &mut Follower<A>) -> Result<(), ReplicaError> {
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
        self.check_end(follower, ends.last)
    }

    /// Takes note of how far the owner was when it said that it is there. Says whether that is the
    /// owner.
    fn hear_beat(&mut self, beat: &[u8], follower: &Follower<A>) -> bool {
        let (beat, place): (Option<Beat>, _) = (serde_json::from_slice(beat).ok(), follower.place());
        let Some(beat) = beat.filter(|beat| beat.term >= place.term) else { return false };
        self.heard = self.heard.max(Epoch(beat.epoch));
        if beat.term == place.term {
            let epochs = beat.epoch.saturating_sub(place.epoch.0);
            self.shared.say(|status| status.lag.epochs = epochs);
        }
        true
    }

    /// Says how far the follower is; so many entries of so many bytes are known and to come.
    pub(super) fn say_of(&self, follower: &Follower<A>, entries: u64, bytes: u64) {
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

    pub(super) fn remember(&mut self, follower: &Follower<A>) {
        if follower.chain().is_inside() {
            return;
        }
        (self.file.sequence, self.file.place) = (follower.sequence(), follower.place().clone());
        if let Err(error) = self.file.write(&self.directory.name()) {
            tracing::warn!(%error, "where this node is was not written down: it reads more when it starts again");
        }
    }
}
