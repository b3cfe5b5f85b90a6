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
//! *Draining* ends when nothing is under way any more: `drain` says how that is found out.
//!
//! Invariant *everyone-is-answered*: a shard that leaves answers whoever waits for it, dead or alive
//! (`LocalShard::leave`); the last to leave answers every reply slot that is still waited on; and what comes later is
//! answered by its own sender.

use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicUsize};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_utils::CachePadded;
use freehold_shard::{Actor, Codec, Mvcc, PlacementKey, Router, ShardIndex};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::handle::Handle;
use crate::api::local::Local;
use crate::config::{Config, Shards};
use crate::core::command::Command;
use crate::core::plan::Plan;
use crate::core::shared::{Phase, Shared};
use crate::core::{Left, LocalShard};
use crate::doctor::{Examination, examine};
use crate::error::{CheckpointError, SnapshotError, StartError, TaskError};
use crate::fork::Birth;
use crate::log::demands::Checkpoint;
use crate::log::open::Opened;
use crate::log::{self, LogConfig, Recovery};
use crate::random::random;
use crate::runtime::report::Report;
use crate::runtime::thread::bring_up;
use crate::stats::{Published, Stats};
use crate::topology::Topology;
use crate::topology::occupancy::Seats;
use crate::transport::each_shard::EachShard;
use crate::transport::lanes::lanes;
use crate::transport::mailbox::Mailbox;
use crate::transport::replies::Replies;
use crate::transport::waiting::{self, Patience};

pub(crate) mod checkpoint;
mod drain;
pub(crate) mod report;
mod stop;
pub(crate) mod thread;
mod watch;

use stop::stop;
use watch::watch;

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
                let first = logs.as_ref().and_then(|logs| checkpoint::demand_first(logs));
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
        Ok((stop, thread.spawn(move || watch(&shared, &stopped))?))
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
                let resume = move |here: &Rc<LocalShard<A>>| here.resume_alone(debt, over);
                debtor.command(Command::Call(Box::new(resume)), &shared.replies);
            }
            each.wait();
        }
        for mailbox in &shared.mailboxes {
            let go = |here: &Rc<LocalShard<A>>| here.with_core(|shard, _| shard.hold_resumed(false));
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
        thread.spawn(move || checkpoint::keep(&shared, &logs)).map(Some)
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
            let start = move |here: &Rc<LocalShard<A>>| {
                // It was held while the command waited; how many tasks run is the user's affair.
                drop(permit);
                here.let_guest_in();
                let local = Local::new(here.clone());
                // Called inside the task, so that a panic of the call is the task's too.
                here.spawn_watched(async move { task(local).await }, |result| reporter.report(result));
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

#[cfg(test)]
mod tests;
