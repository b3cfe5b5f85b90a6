//! Start, drain, stop: the life of a runtime from outside.
//!
//! *Start* checks the configuration and the machine, places the shards, and brings up all of them
//! or none. *Stop* goes through phases that every shard is told of:
//!
//! ```text
//! Running ──> Draining ──> Stopping        shutdown: intake closed and timers stopped; then what is left is cancelled and refused
//! any     ──> Dead                         a shard has died: all leave at once
//! ```
//!
//! *Draining* ends when nothing is under way any more: `drain` says how that is found out.
//!
//! Invariant *everyone-is-answered*: a shard that leaves answers whoever waits for it, dead or
//! alive (`LocalShard::leave`); the last to leave answers every reply slot that is still waited on;
//! and what comes later is answered by its own sender.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use freehold_shard::Actor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::handle::Handle;
use crate::api::local::Local;
use crate::config::Config;
use crate::core::command::Command;
use crate::core::prefetch::Processor;
use crate::core::shared::Shared;
use crate::core::{LocalShard, ShardExit};
use crate::embedding::Embedding;
use crate::error::{CheckpointError, SnapshotError, StartError, TaskError};
use crate::gate::start::GateThreads;
use crate::log::demands::Checkpoint;
use crate::log::open::ToOpen;
use crate::log::{LogConfig, Recovery};
use crate::runtime::report::Report;
use crate::spawn::spawn_thread;
use crate::stats::{Phase, Stats};
use crate::transport::each_shard::EachShard;
use crate::transport::waiting;

pub(crate) mod checkpoint;
mod drain;
mod gates;
mod leaving;
pub(crate) mod report;
mod start;
mod stop;
pub(crate) mod thread;
mod watch;

use stop::stop;

/// A running set of shards. Dropping it stops it as [`Runtime::shutdown`] does, which may take as
/// long.
pub struct Runtime<A: Actor> {
    shared: Arc<Shared<A>>,
    /// Empty once stopped.
    threads: Vec<JoinHandle<ShardExit<A>>>,
    /// The thread that sees to checkpoints, if there is a log.
    checkpoints: Option<JoinHandle<()>>,
    /// The thread that looks whether shards take turns; it ends when the other end is let go of.
    watch: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
    /// The threads of its gates. Boxed, as a runtime is moved into channels and results.
    gates: Box<Mutex<Vec<GateThreads>>>,
}

impl<A: Actor> Runtime<A> {
    /// Starts a runtime that keeps nothing from one start to the next: all its shards are up and
    /// take messages when this returns.
    ///
    /// ```
    /// use freehold::{Config, Runtime, Shards};
    /// # use freehold_example::Bank;
    ///
    /// let config = Config { shards: Shards::Count(1), ..Config::default() };
    /// let runtime = Runtime::<Bank>::start(config).expect("this machine can run it");
    /// # drop(runtime);
    /// ```
    ///
    /// # Errors
    /// See [`StartError`]; whatever had been started is stopped again.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Embedding::new())
    }

    /// As [`Runtime::start`], with what the program gives to its runtime.
    ///
    /// ```
    /// use freehold::{Config, Embedding, Runtime, Shards};
    /// # use freehold_example::Bank;
    ///
    /// # let config = Config { shards: Shards::Count(1), ..Config::default() };
    /// let limit_of_a_deposit = 10_000_u64;
    /// let embedding = Embedding::new().context(limit_of_a_deposit);
    /// let runtime = Runtime::<Bank>::start_with(config, embedding).expect("it starts");
    /// # drop(runtime);
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_with(config: Config, embedding: Embedding<A>) -> Result<Self, StartError> {
        Self::bring_up(config, embedding, None)
    }

    /// Starts a runtime with a log: it has the objects that the log's directory has, and what it
    /// acknowledges outlives any crash. The directory is made if it is missing. The number of
    /// shards need not be what it was.
    ///
    /// What a message told ([`Objects::tell`](crate::Objects::tell)) is in the log too, so messages
    /// are to be written and read.
    ///
    /// ```
    /// # use freehold_example::Bank;
    /// # fn open() -> Result<(), freehold::StartError> {
    /// use freehold::{Config, LogConfig, Runtime};
    ///
    /// let runtime = Runtime::<Bank>::open(Config::default(), LogConfig::at("/var/lib/bank"))?;
    /// println!("{}", runtime.recovery().expect("there is a log"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`StartError`], above all [`StartError::Log`]; whatever had been started is stopped
    /// again, and nothing that was acknowledged is lost by it.
    pub fn open(config: Config, log: LogConfig) -> Result<Self, StartError>
    where
        A::State: Serialize + DeserializeOwned,
        A::Message: Serialize + DeserializeOwned,
    {
        Self::open_with(config, log, Embedding::new())
    }

    /// As [`Runtime::open`], with what the program gives to its runtime.
    ///
    /// ```
    /// # use freehold_example::Bank;
    /// # fn open() -> Result<(), freehold::StartError> {
    /// use freehold::{Config, Embedding, LogConfig, Runtime};
    ///
    /// let log = LogConfig::at("/var/lib/bank");
    /// let embedding = Embedding::new().context(10_000_u64);
    /// let runtime = Runtime::<Bank>::open_with(Config::default(), log, embedding)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::open`].
    pub fn open_with(config: Config, log: LogConfig, embedding: Embedding<A>) -> Result<Self, StartError>
    where
        A::State: Serialize + DeserializeOwned,
        A::Message: Serialize + DeserializeOwned,
    {
        log.check()?;
        Self::bring_up(config, embedding, Some(ToOpen::new::<Processor>(log)))
    }

    /// What was found in the log's directory at the start; `None` without a log.
    ///
    /// ```
    /// # use freehold_example::*;
    /// assert!(start().recovery().is_none(), "it has no log");
    /// ```
    pub fn recovery(&self) -> Option<Recovery> {
        self.shared.logs.as_ref().map(|logs| logs.recovery)
    }

    /// Makes a checkpoint now, beside whatever runs, and waits for it: all objects as of one
    /// instant are written down, and the logs before are let go of. It happens by itself when there
    /// is enough log ([`LogConfig::checkpoint_bytes`]).
    ///
    /// ```
    /// # use freehold_example::*;
    /// let refused = start().checkpoint().unwrap_err();
    /// assert!(matches!(*refused, freehold::CheckpointError::NoLog));
    /// ```
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

    /// A handle for any thread, sending as owner 0.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// let paid = std::thread::spawn(move || bank.call(Deposit { account: 7, cents: 5 }).wait());
    /// assert_eq!(paid.join().unwrap(), Ok(5));
    /// ```
    pub fn handle(&self) -> Handle<A> {
        Handle::new(self.shared.clone())
    }

    /// What the runtime has done so far: as [`Handle::stats`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// println!("{} shards", start().stats().shards.len());
    /// ```
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Runs a task of yours on every shard: a listener per core, say. `task` is called once on each
    /// shard's thread, and what it returns runs there beside the shard's messages; it may use
    /// [`freehold::glommio`](crate::glommio) freely.
    ///
    /// What is returned gives the results by shard when all have ended; it need not be waited for,
    /// and dropping it cancels nothing. A task that panics ends with
    /// [`TaskError::Panicked`](crate::TaskError) and nothing else does. When the runtime stops,
    /// tasks are told by [`Local::stopping`] and cancelled if they take longer than `tasks_grace`.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let asked = runtime.on_each_shard(|local| async move { local.call(Deposit { account: 7, cents: 5 }).await });
    /// assert_eq!(asked.wait(), [Ok(Ok(5))]);
    /// ```
    ///
    /// # Errors
    /// A shard in front of which `jobs_max` wait does not run the task:
    /// [`TaskError::Overloaded`](crate::TaskError).
    #[track_caller]
    pub fn on_each_shard<F, Fut>(&self, task: F) -> EachShard<Fut::Output>
    where
        F: Fn(Local<A>) -> Fut + Clone + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        let place = Location::caller();
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
                here.expect_user_tasks();
                let local = Local::new(here.clone());
                // Called inside the task, so that a panic of the call is the task's too.
                here.spawn_watched(place, async move { task(local).await }, |result| reporter.report(result));
            };
            mailbox.command(Command::Call(Box::new(start)), &self.shared.replies);
        }
        each
    }

    /// Stops the runtime: no message from outside is accepted any more, and no delayed message
    /// comes due. What was accepted runs to its end, for at most `drain_max`; tasks are told and
    /// have `tasks_grace`; then all shards leave and their threads are joined. Callers that still
    /// wait are answered.
    ///
    /// On a shard's own thread it cannot wait for that thread: there it only begins to stop, on
    /// another thread, and the report says so by `drained: false`.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// runtime.handle().call(Deposit { account: 7, cents: 5 }).wait().unwrap();
    /// let report = runtime.shutdown();
    /// assert!(report.drained);
    /// println!("{report}");
    /// ```
    pub fn shutdown(mut self) -> Report {
        self.stop()
    }

    fn stop(&mut self) -> Report {
        let threads = std::mem::take(&mut self.threads);
        let watch = self.watch.take();
        let gates = std::mem::take(self.gates.get_mut().unwrap_or_else(PoisonError::into_inner));
        let shared = self.shared.clone();
        if shared.birth.is_elsewhere() {
            // Its threads are the other process's, and so are its files.
            std::mem::forget((threads, watch, gates, self.checkpoints.take()));
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
            // If no thread can be had, gates and shards are told at least.
            gates.iter().for_each(GateThreads::close);
            let stopping = shared.clone();
            let stop = move || drop(stop(&stopping, threads, gates, checkpoints, watch));
            if spawn_thread("freehold-stop".into(), Box::new(stop)).is_err() {
                shared.advance(Phase::Stopping);
            }
            return report;
        }
        stop(&shared, threads, gates, checkpoints, watch)
    }
}

impl<A: Actor> Drop for Runtime<A> {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            let report = self.stop();
            // A program lets go of a runtime on each of its error paths, and mostly nothing is lost
            // by that.
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
