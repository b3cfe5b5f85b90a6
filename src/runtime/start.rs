//! How a runtime starts, step by step: it is placed, the machine is examined, the log opened, and
//! the shards spawned.
//!
//! All shards come up, or those that did are stopped again.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_utils::CachePadded;
use freehold_shard::{Actor, Mvcc, PlacementKey, Router, SHARDS_MAX, ShardIndex};

use super::thread::bring_up;
use super::watch::watch;
use super::{Runtime, checkpoint, leaving};
use crate::config::{Config, Shards};
use crate::core::LocalShard;
use crate::core::command::Command;
use crate::core::setup::ShardSetup;
use crate::core::shared::Shared;
use crate::doctor::{Examination, examine};
use crate::embedding::Embedding;
use crate::error::{ConfigError, StartError};
use crate::fork::Birth;
use crate::log::SharedLogs;
use crate::log::open::{Opened, Restored, ToOpen};
use crate::random::random;
use crate::spawn::spawn_thread;
use crate::stats::hot::HotWindows;
use crate::stats::trace::Traces;
use crate::stats::{Phase, PublishedStats};
use crate::topology::occupancy::Seats;
use crate::topology::{Placement, Topology};
use crate::transport::each_shard::EachShard;
use crate::transport::lanes::lanes;
use crate::transport::mailbox::Mailbox;
use crate::transport::replies::Replies;
use crate::transport::waiting::Patience;

/// Where the shards run.
fn place(topology: &Topology, shards: &Shards) -> Result<Placement, StartError> {
    Ok(match shards {
        Shards::PerAllowedCore => topology.place(topology.shards_by_default().min(SHARDS_MAX)),
        Shards::Count(shards) => topology.place(*shards),
        Shards::OnCpus(cpus) => topology.place_on(cpus)?,
    })
}

/// Asks the doctor whether this machine can run that many shards.
fn preflight(config: &Config, shards: usize) -> Result<(), StartError> {
    let examination = Examination {
        shards: Some(shards),
        io_memory_bytes_per_shard: config.io_memory_bytes,
        ..Examination::default()
    };
    match examine(&examination).first_failure() {
        Some(check) => Err(StartError::NotSupported(check.clone())),
        None => Ok(()),
    }
}

/// Takes the CPUs of the placement. Says so where shards will be slower than on CPUs of their own.
fn occupy(topology: &Topology, placement: &Placement) -> Seats {
    if !placement.is_pinned() {
        tracing::warn!(
            shards = placement.shards(),
            allowed = topology.cpus().len(),
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
    seats
}

/// What shards find when they come to life: the logs, where objects are at home, and by shard what
/// its log has.
type OpenLog<A> = (Option<Arc<SharedLogs>>, Router, Vec<Option<Restored<A>>>);

/// Recovers what the log's directory has, if there is a log.
fn open_log<A: Actor>(
    log: Option<ToOpen<A>>,
    config: &Config,
    shards: usize,
) -> Result<OpenLog<A>, StartError> {
    let Some(log) = log else {
        let key = config.placement_key.unwrap_or_else(|| PlacementKey(random()));
        return Ok((None, Router::new(key, shards), (0..shards).map(|_| None).collect()));
    };
    if log.config.leaving.as_ref().is_some_and(|sender| !sender.take()) {
        return Err(ConfigError::LeavingTaken.into());
    }
    let Opened { logs, router, restored } = log.open(config.placement_key, shards)?;
    tracing::info!(recovery = %logs.recovery, directory = %logs.directory.path().display(), "the log is open");
    Ok((Some(Arc::new(logs)), router, restored.into_iter().map(Some).collect()))
}

/// Makes what all threads share.
fn build_shared<A: Actor>(
    config: Config,
    embedding: Embedding<A>,
    topology: &Topology,
    placement: &Placement,
    seats: Seats,
    logs: Option<Arc<SharedLogs>>,
    router: Router,
) -> Result<Shared<A>, StartError> {
    let shards = placement.shards();
    let has_spare_cpu = placement.is_pinned() && shards < topology.cpus().len();
    let patience = if has_spare_cpu { Patience::Look } else { Patience::Park };
    let mailboxes: Result<Box<[_]>, _> =
        (0..shards).map(|_| Mailbox::new(config.ingress_entries_max)).collect();
    let mvcc = match &logs {
        Some(logs) => Mvcc::logged(shards, logs.durability.clone()),
        None => Mvcc::new(shards),
    };
    let now = Instant::now();
    let wall_clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ran_before = logs.as_ref().map_or(0, |logs| logs.began.0);
    Ok(Shared {
        wall_clock_began: wall_clock.saturating_sub(Duration::from_nanos(ran_before)),
        router,
        logs,
        mailboxes: mailboxes.map_err(StartError::System)?,
        hot: (0..shards).map(|_| CachePadded::new(Mutex::new(HotWindows::new(now)))).collect(),
        published: (0..shards)
            .map(|_| CachePadded::new(PublishedStats::new(shards, A::MESSAGE_NAMES.len())))
            .collect(),
        replies: {
            let traces = Traces::new(now, config.slow_message);
            Arc::new(Replies::new(config.asks_in_flight_max, patience, traces))
        },
        mvcc: Arc::new(mvcc),
        patience,
        spin: config.spin(placement.is_pinned()),
        cpus: placement.cpus().to_vec(),
        seats,
        allowed: topology.cpus().iter().map(|cpu| cpu.id).collect(),
        started: now,
        birth: Birth::now(),
        running: (0..shards).map(|_| Arc::default()).collect(),
        pulses: (0..shards).map(|_| CachePadded::default()).collect(),
        phase: CachePadded::new(AtomicU8::new(Phase::Running as u8)),
        ingresses_shut: AtomicBool::new(false),
        progress: (0..shards).map(|_| Mutex::default()).collect(),
        deaths: Mutex::default(),
        gates: Mutex::default(),
        watches: Arc::default(),
        staying: AtomicUsize::new(shards),
        config,
        embedding,
    })
}

impl<A: Actor> Runtime<A> {
    pub(super) fn bring_up(
        config: Config,
        embedding: Embedding<A>,
        log: Option<ToOpen<A>>,
    ) -> Result<Self, StartError> {
        let begun = Instant::now();
        config.check()?;
        // Registering for membarrier takes up to 80 ms once there are threads, and a few
        // microseconds before.
        glommio::early_init();
        let topology = Topology::of_this_process().map_err(StartError::Topology)?;
        let placement = place(&topology, &config.shards)?;
        let shards = placement.shards();
        preflight(&config, shards)?;
        let seats = occupy(&topology, &placement);
        let (logs, router, restored) = open_log(log, &config, shards)?;
        let embedding = embedding.begin().map_err(StartError::System)?;
        let shared = Arc::new(build_shared(config, embedding, &topology, &placement, seats, logs, router)?);
        leaving::attach(&shared);
        let mut runtime = Self::spawn(shared, restored)?;
        tracing::info!(shards, cpus = ?runtime.shared.cpus, took = ?begun.elapsed(), "the runtime is ready");
        runtime.begin()?;
        Ok(runtime)
    }

    /// Brings the shards to life.
    fn spawn(shared: Arc<Shared<A>>, restored: Vec<Option<Restored<A>>>) -> Result<Self, StartError> {
        let shards = shared.mailboxes.len();
        let lanes = lanes(shards, shared.config.lane_entries(shards));
        let setup = |(shard, (lanes, restored))| ShardSetup {
            shard: ShardIndex(shard as u16),
            shared: shared.clone(),
            lanes,
            table_seed: random(),
            restored,
        };
        let setups = lanes.into_iter().zip(restored).enumerate().map(setup).collect();
        bring_up(setups)
            .map_err(|failed| {
                let (error, threads) = *failed;
                shared.advance(Phase::Stopping);
                // How they end does not matter any more.
                threads.into_iter().for_each(|thread| drop(thread.join()));
                shared.seats.leave();
                error
            })
            .map(|threads| Runtime { shared, threads, checkpoints: None, watch: None, gates: Box::default() })
    }

    /// What comes before the first handle is given out.
    fn begin(&mut self) -> Result<(), StartError> {
        self.try_suspects()?;
        let logs = self.shared.logs.clone();
        let first = logs.as_ref().and_then(|logs| checkpoint::demand_first(logs));
        self.checkpoints = self.keep_checkpoints().map_err(StartError::System)?;
        self.watch = Some(self.keep_watch().map_err(StartError::System)?);
        if let Some((logs, first)) = logs.as_ref().zip(first)
            && let Err(error) = logs.checkpoints.wait_for(first)
        {
            tracing::warn!(%error, "what the runs before have left stays, and the next start reads it again");
        }
        Ok(())
    }

    fn keep_watch(&self) -> std::io::Result<(mpsc::Sender<()>, JoinHandle<()>)> {
        let (stop, stopped) = mpsc::channel();
        let shared = self.shared.clone();
        let thread = spawn_thread("freehold-watch".into(), Box::new(move || watch(&shared, &stopped)))?;
        Ok((stop, thread))
    }

    /// Has the owed messages that were under way in a crash run, one after the other, while nothing
    /// else does: nobody has a handle yet, and the other messages of earlier runs are held. Then
    /// these go on.
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
        for send_id in suspects.iter().copied() {
            let (each, reporters) = EachShard::new(1);
            let sender = &shared.mailboxes[(send_id.0 % shared.mailboxes.len() as u64) as usize];
            for over in reporters {
                let resume = move |here: &Rc<LocalShard<A>>| here.resume_alone(send_id, over);
                sender.command(Command::Call(Box::new(resume)), &shared.replies);
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
            // Nobody waits for it: it makes the migration permanent, and until it is there each
            // start migrates again.
            logs.checkpoints.demand();
        }
        let shared = self.shared.clone();
        let keep = move || checkpoint::keep(&shared, &logs);
        spawn_thread("freehold-checkpoint".into(), Box::new(keep)).map(Some)
    }
}
