//! Start, drain, stop: the life of a runtime from outside.
//!
//! *Start* checks the configuration and the machine, places the shards, and brings up all of them or none. *Stop* goes
//! through phases that every shard is told of:
//!
//! ```text
//! Running ──> Draining ──> Stopping        shutdown: intake closed and timers stopped; then what is left is cancelled and refused
//! any     ──> Dead                         a shard has died: all leave at once
//! ```
//!
//! *Draining* ends when nothing is under way any more, found by Mattern's method of four counters (F. Mattern,
//! "Algorithms for distributed termination detection", Distributed Computing 2, 1987): in two rounds of asking, one
//! after the other, every shard was idle both times, none had worked in between, and as many envelopes had been taken
//! from lanes as put in. A shard keeps these numbers in [`Progress`] only while it drains, and marks itself busy before
//! it takes anything from anywhere.
//!
//! Invariant *everyone-is-answered*: a shard that leaves answers whoever waits for it, dead or alive
//! (`LocalShard::leave`); the last to leave answers every reply slot that is still waited on; and what comes later is
//! answered by its own sender.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use freehold_shard::{Ack, Actor, Codec, Mvcc, PlacementKey, Router, ShardIndex, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::handle::Handle;
use crate::api::local::Local;
use crate::config::{Config, Shards};
use crate::core::Left;
use crate::core::pulse::{Pulse, Standstill};
use crate::disk::error::LogError;
use crate::doctor::{Examination, examine};
use crate::error::{CheckpointError, Death, DeathCause, SnapshotError, StartError, TaskError};
use crate::fork::Birth;
use crate::log::checkpoint::Checkpoint;
use crate::log::open::Opened;
use crate::log::{self, LogConfig, Logs, Recovery};
use crate::runtime::report::Report;
use crate::runtime::thread::{Plan, bring_up};
use crate::stats::{Published, Stats};
use crate::topology::Topology;
use crate::topology::occupancy::Seats;
use crate::transport::each_shard::EachShard;
use crate::transport::mailbox::{Command, DURABLE, LINE, Mailbox, PHASE, lanes};
use crate::transport::replies::Replies;
use crate::transport::waiting::{self, Patience};

pub(crate) mod report;
mod stop;
pub(crate) mod thread;

use stop::stop;

/// How far a runtime is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    Running,
    Draining,
    Stopping,
    Dead,
}

/// What a draining shard says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// It had nothing to do when it last looked. False until it has looked while draining.
    is_idle: bool,
    /// How often it took up work.
    begun: u64,
    sent: u64,
    received: u64,
}

impl Progress {
    /// It takes up work, and has not taken anything yet.
    pub(crate) fn begin(&mut self) {
        self.is_idle = false;
        self.begun += 1;
    }

    /// It has nothing to do, after so many envelopes put into lanes and taken from them.
    pub(crate) fn settle(&mut self, sent: u64, received: u64) {
        (self.is_idle, self.sent, self.received) = (true, sent, received);
    }
}

/// Whether nothing was under way between two rounds of asking.
fn is_quiet(before: &[Progress], after: &[Progress]) -> bool {
    let sent: u64 = after.iter().map(|shard| shard.sent).sum();
    let received: u64 = after.iter().map(|shard| shard.received).sum();
    before == after && after.iter().all(|shard| shard.is_idle) && sent == received
}

/// What the threads of a runtime share with each other and with every handle.
pub(crate) struct Shared<A: Actor> {
    pub(crate) router: Router,
    pub(crate) config: Config,
    pub(crate) mailboxes: Box<[Mailbox<A>]>,
    pub(crate) published: Box<[CachePadded<Published>]>,
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
    /// What there is of logs, if it has them.
    pub(crate) logs: Option<Arc<Logs>>,
    /// In which process it runs.
    pub(crate) birth: Birth,
    /// By shard.
    pub(crate) pulses: Box<[CachePadded<Pulse>]>,
    phase: CachePadded<AtomicU8>,
    progress: Box<[Mutex<Progress>]>,
    deaths: Mutex<Vec<Death>>,
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
    fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        for mailbox in &self.mailboxes {
            mailbox.signal(PHASE, &self.replies);
        }
    }

    pub(crate) fn progress(&self, shard: ShardIndex) -> std::sync::MutexGuard<'_, Progress> {
        self.progress[shard.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After something was put in front of these shards.
    pub(crate) fn knock(&self, shards: impl Iterator<Item = ShardIndex>) {
        crate::transport::parking::publish();
        for shard in shards {
            self.mailboxes[shard.index()].look(&self.replies);
        }
    }

    /// Has every shard look at the line of epochs: a snapshot was closed, and one that is idle is to let go of what it kept.
    pub(crate) fn tell_line(&self) {
        for mailbox in &self.mailboxes {
            mailbox.signal(LINE, &self.replies);
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
        self.logs.as_ref().is_some_and(|logs| logs.config.ack == Ack::Durable)
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
    pub(crate) fn tell_durable(&self, by: ShardIndex) {
        let Some(logs) = &self.logs else { return };
        for shard in logs.durability.waiting(logs.durability.durable()).filter(|shard| *shard != by) {
            self.mailboxes[shard.index()].signal(DURABLE, &self.replies);
        }
    }

    /// Waits until nothing is under way, or `deadline`. Says which.
    fn wait_until_quiet(&self, deadline: Instant) -> bool {
        let ask = || -> Vec<Progress> {
            (0..self.progress.len()).map(|shard| *self.progress(ShardIndex(shard as u16))).collect()
        };
        let mut pause = Duration::from_micros(50);
        let mut before = ask();
        loop {
            std::thread::sleep(pause);
            let after = ask();
            if is_quiet(&before, &after) {
                return true;
            }
            if Instant::now() >= deadline || self.phase() == Phase::Dead {
                return false;
            }
            before = after;
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }

    /// How long the turn has been going on that a shard is in.
    pub(crate) fn in_turn_for(&self, shard: usize) -> Option<Duration> {
        let began = Duration::from_nanos(self.pulses[shard].turn_began()?);
        Some(self.started.elapsed().saturating_sub(began))
    }

    /// The life of the thread that sees to it that shards take turns. It ends when `stop` is let go of.
    fn watch(&self, stop: &mpsc::Receiver<()>) {
        let first = self.config.stall_warning;
        let now = Instant::now();
        let mut standstills: Vec<_> = self.pulses.iter().map(|_| Standstill::new(now)).collect();
        while stop.recv_timeout(first / 2) == Err(RecvTimeoutError::Timeout) {
            for (shard, standstill) in standstills.iter_mut().enumerate() {
                let is_parked = self.mailboxes[shard].parking().is_parked();
                let still = standstill.look(&self.pulses[shard], is_parked, Instant::now());
                if standstill.warns(still, first) {
                    match self.in_turn_for(shard) {
                        Some(turn) => {
                            tracing::warn!(shard, ?turn, "a turn goes on: a message does not come back")
                        }
                        None => tracing::warn!(
                            shard,
                            ?still,
                            "a shard takes no turn: a task of it does not give way"
                        ),
                    }
                }
            }
        }
    }

    fn live_tasks(&self) -> u64 {
        self.published.iter().map(|shard| shard.tasks.live.load(Ordering::Relaxed)).sum()
    }

    /// A shard has died: everyone is to leave.
    pub(crate) fn die(&self, death: Death) {
        tracing::error!(shard = death.shard.0, cause = %death, "a shard died; the runtime goes down with it");
        self.deaths.lock().unwrap_or_else(PoisonError::into_inner).push(death);
        self.advance(Phase::Dead);
    }

    /// The manifest is another's, so no log of this runtime counts any more. It is no shard's fault; the first stands for all.
    pub(crate) fn log_was_replaced(&self, error: &LogError) {
        self.die(Death { shard: ShardIndex(0), cause: DeathCause::Log(error.to_string()) });
    }
}

/// A running set of shards. Dropping it stops it as [`Runtime::shutdown`] does, which may take as long.
pub struct Runtime<A: Actor> {
    shared: Arc<Shared<A>>,
    /// Empty once stopped.
    threads: Vec<JoinHandle<Left<A>>>,
    /// The thread that sees to checkpoints, if there is a log.
    checkpoints: Option<JoinHandle<()>>,
    /// The thread that looks whether shards take turns; it ends when the other end is let go of.
    watch: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl<A: Actor> Runtime<A> {
    /// Starts a runtime that keeps nothing from one start to the next: all its shards are up and take messages when this returns.
    ///
    /// # Errors
    /// See [`StartError`]; whatever had been started is stopped again.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::bring_up(config, None)
    }

    /// Starts a runtime with a log: it has the objects that the log's directory has, and what it acknowledges outlives any crash. The
    /// directory is made if it is missing. The number of shards need not be what it was.
    ///
    /// What a message told ([`Objects::tell`](crate::Objects::tell)) is in the log too, so messages are to be written and read.
    ///
    /// # Errors
    /// See [`StartError`], above all [`StartError::Log`]; whatever had been started is stopped again, and nothing that was acknowledged is
    /// lost by it.
    pub fn open(config: Config, log: LogConfig) -> Result<Self, StartError>
    where
        A::Message: Serialize + DeserializeOwned,
    {
        log.check()?;
        Self::bring_up(config, Some((log, Codec::new())))
    }

    fn bring_up(config: Config, log: Option<(LogConfig, Codec<A>)>) -> Result<Self, StartError> {
        let begun = Instant::now();
        config.check()?;
        // Registering for membarrier takes up to 80 ms once there are threads, and a few microseconds before.
        glommio::early_init();
        let topology = Topology::of_this_process().map_err(StartError::Topology)?;
        let placement = match &config.shards {
            Shards::PerAllowedCore => {
                topology.place(topology.shards_by_default().min(freehold_shard::SHARDS_MAX))
            }
            Shards::Count(shards) => topology.place(*shards),
            Shards::OnCpus(cpus) => topology.place_on(cpus)?,
        };
        let shards = placement.shards();
        let examination = Examination {
            shards: Some(shards),
            io_memory_bytes_per_shard: config.io_memory_bytes,
            ..Examination::default()
        };
        if let Some(check) = examine(&examination).first_failure() {
            return Err(StartError::NotSupported(check.clone()));
        }
        let allowed = topology.cpus().len();
        if !placement.is_pinned() {
            tracing::warn!(
                shards,
                allowed,
                "more shards than allowed CPUs: none is pinned and none spins, so messages take longer"
            );
        }
        let seats = Seats::occupy(placement.cpus());
        if !seats.shared().is_empty() {
            tracing::warn!(
                cpus = ?seats.shared(),
                "another runtime of this process has bound shards to the same CPUs: neither spins there"
            );
        }
        let patience =
            if placement.is_pinned() && shards < allowed { Patience::Look } else { Patience::Park };
        let mailboxes: Result<Box<[_]>, _> =
            (0..shards).map(|_| Mailbox::new(config.ingress_entries_max)).collect();
        let opened =
            log.map(|(log, codec)| log::open::open::<A>(&log, &codec, config.placement_key, shards, random));
        let (logs, router, restored) = match opened.transpose()? {
            Some(Opened { logs, router, restored }) => {
                tracing::info!(recovery = %logs.recovery, directory = %logs.directory.path().display(), "the log is open");
                (Some(Arc::new(logs)), router, restored.into_iter().map(Some).collect())
            }
            None => {
                let key = config.placement_key.unwrap_or_else(|| PlacementKey(random()));
                (None, Router::new(key, shards), (0..shards).map(|_| None).collect::<Vec<_>>())
            }
        };
        let mvcc = match &logs {
            Some(logs) => Mvcc::logged(shards, logs.durability.clone()),
            None => Mvcc::new(shards),
        };
        let shared = Arc::new(Shared {
            router,
            logs,
            mailboxes: mailboxes.map_err(StartError::System)?,
            published: (0..shards).map(|_| CachePadded::new(Published::new(shards))).collect(),
            replies: Arc::new(Replies::new(config.asks_in_flight_max, patience)),
            mvcc: Arc::new(mvcc),
            patience,
            spin: config.spin(placement.is_pinned()),
            cpus: placement.cpus().to_vec(),
            seats,
            allowed: topology.cpus().iter().map(|cpu| cpu.id).collect(),
            started: Instant::now(),
            birth: Birth::now(),
            pulses: (0..shards).map(|_| CachePadded::default()).collect(),
            phase: CachePadded::new(AtomicU8::new(Phase::Running as u8)),
            progress: (0..shards).map(|_| Mutex::default()).collect(),
            deaths: Mutex::default(),
            staying: AtomicUsize::new(shards),
            config,
        });
        let plans =
            lanes(shards, shared.config.lane_entries(shards)).into_iter().zip(restored).enumerate().map(
                |(shard, (lanes, restored))| Plan {
                    shard: ShardIndex(shard as u16),
                    shared: shared.clone(),
                    lanes,
                    table_seed: random(),
                    restored,
                },
            );
        match bring_up(plans.collect()) {
            Ok(threads) => {
                tracing::info!(shards, cpus = ?shared.cpus, took = ?begun.elapsed(), "the runtime is ready");
                let mut runtime = Runtime { shared, threads, checkpoints: None, watch: None };
                runtime.try_suspects()?;
                let logs = runtime.shared.logs.clone();
                let first = logs.as_ref().and_then(|logs| log::checkpoint::demand_first(logs));
                runtime.checkpoints = runtime.keep_checkpoints().map_err(StartError::System)?;
                runtime.watch = Some(runtime.keep_watch().map_err(StartError::System)?);
                if let Some((logs, first)) = logs.as_ref().zip(first)
                    && let Err(error) = logs.checkpoints.wait_for(first)
                {
                    tracing::warn!(%error, "what the runs before have left stays, and the next start reads it again");
                }
                Ok(runtime)
            }
            Err(failed) => {
                let (error, threads) = *failed;
                shared.advance(Phase::Stopping);
                // How they end does not matter any more.
                threads.into_iter().for_each(|thread| drop(thread.join()));
                shared.seats.leave();
                Err(error)
            }
        }
    }

    fn keep_watch(&self) -> std::io::Result<(mpsc::Sender<()>, JoinHandle<()>)> {
        let (stop, stopped) = mpsc::channel();
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("freehold-watch".into());
        Ok((stop, thread.spawn(move || shared.watch(&stopped))?))
    }

    /// Has the owed messages that were under way in a crash run, one after the other, while nothing else does: nobody has a handle yet,
    /// and the other messages of earlier runs are held. Then these go on.
    fn try_suspects(&self) -> Result<(), StartError> {
        let shared = &self.shared;
        let suspects = shared.logs.as_ref().map_or(&[][..], |logs| &logs.suspects);
        if suspects.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            messages = suspects.len(),
            "messages that are owed were under way when a run crashed: each runs alone before the start is over"
        );
        for debt in suspects.iter().copied() {
            let (each, reporters) = EachShard::new(1);
            let debtor = &shared.mailboxes[(debt.0 % shared.mailboxes.len() as u64) as usize];
            for over in reporters {
                let resume = move |local: &Local<A>| local.shard_itself().resume_alone(debt, over);
                debtor.command(Command::Call(Box::new(resume)), &shared.replies);
            }
            each.wait();
        }
        for mailbox in &shared.mailboxes {
            let go = |local: &Local<A>| {
                local.shard_itself().with_core(|shard, _| shard.hold_resumed(false));
            };
            mailbox.command(Command::Call(Box::new(go)), &shared.replies);
        }
        let deaths = shared.deaths.lock().unwrap_or_else(PoisonError::into_inner);
        deaths.first().map_or(Ok(()), |death| Err(StartError::Died(death.clone())))
    }

    fn keep_checkpoints(&self) -> std::io::Result<Option<JoinHandle<()>>> {
        let Some(logs) = self.shared.logs.clone() else { return Ok(None) };
        if logs.recovery.migrated_from.is_some() && !logs.config.disk.keeps_old_schemas {
            // Nobody waits for it: it makes the migration permanent, and until it is there each start migrates again.
            logs.checkpoints.demand();
        }
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("freehold-checkpoint".into());
        thread.spawn(move || log::checkpoint::keep(&shared, &logs)).map(Some)
    }

    /// What was found in the log's directory at the start; `None` without a log.
    pub fn recovery(&self) -> Option<Recovery> {
        self.shared.logs.as_ref().map(|logs| logs.recovery)
    }

    /// Makes a checkpoint now, beside whatever runs, and waits for it: all objects as of one instant are written down, and the logs before
    /// are let go of. It happens by itself when there is enough log ([`LogConfig::checkpoint_bytes`]).
    ///
    /// # Errors
    /// See [`CheckpointError`]. The checkpoint before still counts, and nothing is lost.
    pub fn checkpoint(&self) -> Result<Checkpoint, Arc<CheckpointError>> {
        if waiting::on_shard_thread() {
            return Err(Arc::new(SnapshotError::WaitOnShard.into()));
        }
        if self.shared.birth.is_elsewhere() {
            return Err(Arc::new(SnapshotError::Stopped.into()));
        }
        self.shared.logs.as_ref().ok_or(CheckpointError::NoLog)?.checkpoints.ask()
    }

    /// A door for any thread, sending as owner 0.
    pub fn handle(&self) -> Handle<A> {
        Handle::new(self.shared.clone())
    }

    /// What the runtime has done so far: as [`Handle::stats`].
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Runs a task of yours on every shard: a listener per core, say. `task` is called once on each shard's thread, and
    /// what it returns runs there beside the shard's messages; it may use [`freehold::glommio`](crate::glommio) freely.
    ///
    /// What is returned gives the results by shard when all have ended; it need not be waited for, and dropping it
    /// cancels nothing. A task that panics ends with [`TaskError::Panicked`](crate::TaskError) and nothing else does.
    /// When the runtime stops, tasks are told by [`Local::stopping`] and cancelled if they take longer than
    /// `tasks_grace`.
    ///
    /// # Errors
    /// A shard in front of which `jobs_max` wait does not run the task: [`TaskError::Overloaded`](crate::TaskError).
    pub fn on_each_shard<F, Fut>(&self, task: F) -> EachShard<Fut::Output>
    where
        F: Fn(Local<A>) -> Fut + Clone + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        let (each, reporters) = EachShard::new(self.shared.mailboxes.len());
        for (mailbox, reporter) in self.shared.mailboxes.iter().zip(reporters) {
            if self.shared.birth.is_elsewhere() {
                reporter.report(Err(TaskError::Cancelled));
                continue;
            }
            let Some(permit) = mailbox.permit(self.shared.config.jobs_max) else {
                reporter.report(Err(TaskError::Overloaded));
                continue;
            };
            let task = task.clone();
            let start = move |local: &Local<A>| {
                // It was held while the command waited; how many tasks run is the user's affair.
                drop(permit);
                local.let_guest_in();
                let here = local.clone();
                // Called inside the task, so that a panic of the call is the task's too.
                local.spawn_watched(async move { task(here).await }, |result| reporter.report(result));
            };
            mailbox.command(Command::Call(Box::new(start)), &self.shared.replies);
        }
        each
    }

    /// Stops the runtime: no message from outside is accepted any more, and no delayed message comes due. What was
    /// accepted runs to its end, for at most `drain_max`; tasks are told and have `tasks_grace`; then all shards leave
    /// and their threads are joined. Callers that still wait are answered.
    ///
    /// On a shard's own thread it cannot wait for that thread: there it only begins to stop, on another thread, and the
    /// report says so by `drained: false`.
    pub fn shutdown(mut self) -> Report {
        self.stop()
    }

    fn stop(&mut self) -> Report {
        let threads = std::mem::take(&mut self.threads);
        let watch = self.watch.take();
        let shared = self.shared.clone();
        if shared.birth.is_elsewhere() {
            // Its threads are the other process's, and so are its files.
            std::mem::forget((threads, watch, self.checkpoints.take()));
            tracing::info!("a runtime of the process that this one was forked from is let go of");
            return Report { stats: shared.stats(), ..Report::default() };
        }
        if let Some(logs) = &shared.logs {
            logs.growth.end();
            logs.checkpoints.end();
        }
        let checkpoints = self.checkpoints.take();
        if waiting::on_shard_thread() {
            let report = Report { stats: shared.stats(), ..Report::default() };
            tracing::warn!("a runtime is stopped by a shard's thread, which cannot wait for it");
            // If no thread can be had, the shards are told at least.
            let stopping = shared.clone();
            if std::thread::Builder::new()
                .name("freehold-stop".into())
                .spawn(move || stop(&stopping, threads, checkpoints, watch))
                .is_err()
            {
                shared.advance(Phase::Stopping);
            }
            return report;
        }
        stop(&shared, threads, checkpoints, watch)
    }
}

impl<A: Actor> Drop for Runtime<A> {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            let report = self.stop();
            // A program lets go of a runtime on each of its error paths, and mostly nothing is lost by that.
            if report.has_lost_nothing(self.shared.logs.is_some()) {
                tracing::info!(%report, "a runtime was dropped and not shut down; nothing is lost by that");
            } else {
                tracing::warn!(%report, "a runtime was dropped and not shut down, and not all that was under way has ended");
            }
        }
    }
}

impl<A: Actor> fmt::Debug for Runtime<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("cpus", &self.shared.cpus).finish_non_exhaustive()
    }
}

/// A number nobody can guess: the standard library draws its keys from the system, anew for each process and changed
/// for each use.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
