//! What all threads of a runtime share, and every handle: mailboxes, reply slots, what is
//! published, and how far the runtime is.
//!
//! A shard keeps [`DrainProgress`] only while it drains, and marks itself busy before it takes
//! anything from anywhere.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use freehold_shard::{Ack, Actor, Mvcc, Router, RunningMessage, ShardIndex, Time};

use super::command::Command;
use super::pulse::Pulse;
use crate::config::Config;
use crate::disk::error::LogError;
use crate::embedding::Embedding;
use crate::error::{Death, DeathCause};
use crate::fork::Birth;
use crate::log::SharedLogs;
use crate::log::leaving::EpochSender;
use crate::route::GateCounts;
use crate::stats::hot::{Heat, HotObject, SharedHot, hottest};
use crate::stats::{Hot, Latency, Phase, PublishedStats, ShardStats, Stats};
use crate::topology::occupancy::Seats;
use crate::transport::mailbox::{DURABLE, EPOCHS, Mailbox, PHASE};
use crate::transport::parking::publish;
use crate::transport::replies::Replies;
use crate::transport::waiting::Patience;

/// What a draining shard says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DrainProgress {
    /// It had nothing to do when it last looked. False until it has looked while draining.
    pub(crate) is_idle: bool,
    /// It takes nothing from its ingress any more.
    pub(crate) is_shut: bool,
    /// How often it took up work.
    pub(crate) begun: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl DrainProgress {
    /// It takes up work, and has not taken anything yet.
    pub(crate) fn begin(&mut self) {
        self.is_idle = false;
        self.begun += 1;
    }

    /// It has nothing to do, after so many envelopes put into lanes and taken from them.
    pub(crate) fn idle(&mut self, sent: u64, received: u64) {
        (self.is_idle, self.sent, self.received) = (true, sent, received);
    }
}

/// What the threads of a runtime share with each other and with every handle.
pub(crate) struct Shared<A: Actor> {
    pub(crate) router: Router,
    pub(crate) config: Config,
    /// What the program gave to it.
    pub(crate) embedding: Embedding<A>,
    pub(crate) mailboxes: Box<[Mailbox<A, Command<A>>]>,
    pub(crate) published: Box<[CachePadded<PublishedStats>]>,
    /// By shard: its hottest objects.
    pub(crate) hot: Box<[SharedHot<A::Id>]>,
    pub(crate) replies: Arc<Replies<A>>,
    pub(crate) mvcc: Arc<Mvcc<A>>,
    pub(crate) patience: Patience,
    /// How long a shard that runs dry spins.
    pub(crate) spin: Duration,
    pub(crate) cpus: Vec<Option<usize>>,
    /// The CPUs the shards are bound to, while the runtime lives.
    pub(crate) seats: Seats,
    /// All CPUs of the process.
    pub(crate) allowed: Vec<usize>,
    /// When the runtime's time began.
    pub(crate) started: Instant,
    /// The wall clock when the time was 0: how long after the beginning of 1970.
    pub(crate) wall_clock_began: Duration,
    /// What there is of logs, if it has them.
    pub(crate) logs: Option<Arc<SharedLogs>>,
    /// In which process it runs.
    pub(crate) birth: Birth,
    /// By shard: which type of message it runs.
    pub(crate) running: Box<[Arc<RunningMessage>]>,
    /// By shard.
    pub(crate) pulses: Box<[CachePadded<Pulse>]>,
    pub(crate) phase: CachePadded<AtomicU8>,
    /// The shards are to take nothing from their ingresses any more.
    pub(crate) ingresses_shut: AtomicBool,
    pub(crate) progress: Box<[Mutex<DrainProgress>]>,
    pub(crate) deaths: Mutex<Vec<Death>>,
    /// What its gates count, in the order they were opened.
    pub(crate) gates: Mutex<Vec<Arc<GateCounts>>>,
    /// How many watches are open.
    pub(crate) watches: Arc<AtomicUsize>,
    /// Shards that have not left.
    pub(crate) staying: AtomicUsize,
}

impl<A: Actor> Shared<A> {
    /// Whether messages from outside are accepted.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Running as u8 && !self.birth.is_elsewhere()
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            2 => Phase::Stopping,
            _ => Phase::Dead,
        }
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.cpus.iter().all(Option::is_some)
    }

    /// Goes on to `phase`, if it is not there or beyond, and tells every shard.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        for mailbox in &self.mailboxes {
            mailbox.signal(PHASE, &self.replies);
        }
    }

    /// Tells every shard, while they drain, to take nothing from its ingress any more.
    pub(crate) fn shut_ingresses(&self) {
        self.ingresses_shut.store(true, Ordering::Release);
        for mailbox in &self.mailboxes {
            mailbox.signal(PHASE, &self.replies);
        }
    }

    pub(crate) fn progress(&self, shard: ShardIndex) -> MutexGuard<'_, DrainProgress> {
        self.progress[shard.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After something was put in front of these shards.
    pub(crate) fn notify(&self, shards: impl Iterator<Item = ShardIndex>) {
        publish();
        for shard in shards {
            self.mailboxes[shard.index()].wake_if_parked(&self.replies);
        }
    }

    /// Has every shard look at the epochs: a snapshot was closed, and one that is idle is
    /// to let go of what it kept.
    pub(crate) fn tell_epochs(&self) {
        for mailbox in &self.mailboxes {
            mailbox.signal(EPOCHS, &self.replies);
        }
    }

    /// What its time was when it started: with a log, how long its database had been running.
    pub(crate) fn began(&self) -> Time {
        self.logs.as_ref().map_or(Time(0), |logs| logs.began)
    }

    /// Its time now.
    pub(crate) fn time(&self) -> Time {
        self.began().after(self.started.elapsed())
    }

    /// Whether answers wait until what they say is durable.
    pub(crate) fn answers_when_durable(&self) -> bool {
        self.logs.as_ref().is_some_and(|logs| logs.config.ack != Ack::Applied)
    }

    /// The latest state of a published object that may be shown.
    pub(crate) fn published(&self, id: &A::Id) -> Option<Arc<A::State>> {
        // In a child of the process the map may be locked for ever.
        if self.birth.is_elsewhere() {
            return None;
        }
        if self.answers_when_durable() { self.mvcc.latest_durable(id) } else { self.mvcc.latest(id) }
    }

    /// More may be durable: those who wait for it are told.
    pub(crate) fn tell_durable(&self, by: Option<ShardIndex>) {
        let Some(logs) = &self.logs else { return };
        for shard in logs.durability.waiting(logs.durability.durable()).filter(|shard| Some(*shard) != by) {
            self.mailboxes[shard.index()].signal(DURABLE, &self.replies);
        }
        if let Some(sender) = &logs.config.leaving {
            self.tell_leaving(logs, sender);
        }
    }

    /// More may be complete, or awaited, of what leaves for another log.
    #[cold]
    pub(crate) fn tell_leaving(&self, logs: &SharedLogs, sender: &EpochSender) {
        let handed = logs.durability.handed(self.mvcc.epochs());
        sender.tell(handed, |left| logs.durability.is_awaited(left, handed));
    }

    /// How long the turn has been going on that a shard is in.
    pub(crate) fn in_turn_for(&self, shard: usize) -> Option<Duration> {
        let began = Duration::from_nanos(self.pulses[shard].turn_began()?);
        Some(self.started.elapsed().saturating_sub(began))
    }

    /// The type of the message that the turn runs which a shard is in, or has run last. `None`
    /// between turns, and if the actor has no names for them.
    pub(crate) fn running(&self, shard: usize) -> Option<&'static str> {
        self.pulses[shard].turn_began()?;
        self.running[shard].name::<A>()
    }

    /// How many tasks of users live on all shards.
    pub(crate) fn live_tasks(&self) -> u64 {
        self.published.iter().map(|shard| shard.tasks.live.load(Ordering::Relaxed)).sum()
    }

    /// A shard has died: everyone is to leave.
    pub(crate) fn die(&self, death: Death) {
        tracing::error!(shard = death.shard.0, cause = %death, "a shard died; the runtime goes down with it");
        self.deaths.lock().unwrap_or_else(PoisonError::into_inner).push(death);
        self.advance(Phase::Dead);
    }

    /// The manifest is another's, so no log of this runtime counts any more. It is no shard's
    /// fault; the first stands for all.
    pub(crate) fn log_was_replaced(&self, error: &LogError) {
        self.die(Death { shard: ShardIndex(0), cause: DeathCause::Log(error.to_string()) });
    }

    /// What the runtime has done so far.
    pub(crate) fn stats(&self) -> Stats {
        let uptime = self.started.elapsed();
        let stats = Stats {
            phase: self.phase(),
            uptime,
            shards: (0..self.mailboxes.len()).map(|at| self.shard_stats(at, uptime)).collect(),
            epoch: self.mvcc.epochs().epoch(),
            durable: self.logs.as_ref().map(|logs| logs.durability.durable()),
            log: self.logs.as_ref().map(|logs| logs.growth.stats()),
            ..Stats::default()
        };
        // In a child of the process what is locked may be locked for ever.
        if self.birth.is_elsewhere() {
            return stats;
        }
        let (slow_messages, slow, sampled) = self.replies.traces.read();
        let (snapshots, oldest) = self.mvcc.epochs().snapshots();
        Stats {
            deaths: self.deaths.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            latency: Latency::of(self.published.iter().map(|published| &**published)),
            gates: {
                let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
                gates.iter().map(|gate| gate.stats()).collect()
            },
            asks_in_flight: self.replies.in_flight(),
            snapshots: snapshots as u64,
            oldest_snapshot: oldest.map(|opened| uptime.saturating_sub(Duration::from_nanos(opened.0))),
            slow_messages,
            slow,
            sampled,
            hot: Hot { touched: self.hottest(Heat::Touched), waited: self.hottest(Heat::Waited) },
            ..stats
        }
    }

    fn shard_stats(&self, at: usize, uptime: Duration) -> ShardStats {
        let (rings, overloaded) = self.mailboxes[at].rings_and_overloaded();
        let published = &self.published[at];
        ShardStats {
            shard: ShardIndex(at as u16),
            cpu: self.cpus[at],
            counters: published.counters(),
            activity: published.activity(),
            gauges: published.gauges(),
            ingress: self.mailboxes[at].ingress() as u64,
            answers: published.answers(),
            log_writes: published.log_writes.took(),
            in_log_write_for: published.log_writes.under_way_for(uptime),
            messages: A::MESSAGE_NAMES.iter().copied().zip(published.messages()).collect(),
            sent_to: published.sent_to(),
            in_turn_for: self.in_turn_for(at),
            running: self.running(at),
            rings,
            overloaded,
            tasks: published.tasks.live.load(Ordering::Relaxed),
            tasks_panicked: published.tasks.panicked.load(Ordering::Relaxed),
            // In a child of the process what is locked may be locked for ever.
            task_polled: if self.birth.is_elsewhere() { None } else { published.tasks.polled() },
        }
    }

    fn hottest(&self, heat: Heat) -> Vec<HotObject> {
        let (now, mut rates) = (Instant::now(), Vec::new());
        for hot in &self.hot {
            hot.lock().unwrap_or_else(PoisonError::into_inner).rates(now, heat, &mut rates);
        }
        hottest(rates, Stats::HOT_MAX, |id| self.router.home(id))
    }
}
