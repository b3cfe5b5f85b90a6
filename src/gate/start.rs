//! How a gate is opened, and what a runtime keeps of it to close it.

use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freehold_shard::Actor;
use rustix::thread::CpuSet;

use super::config::{GateConfig, GateStartError, Workers};
use super::intake::Intake;
use super::lines::{Events, Passing, bring_on};
use super::senders::Senders;
use super::worker::Worker;
use super::{Gate, GateState, Verifier, flaw};
use crate::api::handle::Handle;
use crate::core::shared::Shared;
use crate::spawn::spawn_thread;
use crate::topology::Topology;
use crate::topology::occupancy::{Seats, leave_inherited_cpu};

/// The niceness of workers that share the CPUs of shards.
const NICE: i32 = 10;

/// The threads of a gate, for the runtime that ends them.
pub(crate) struct GateThreads {
    close: Box<dyn Fn() + Send + Sync>,
    threads: Vec<JoinHandle<()>>,
    /// The CPUs that its workers have for themselves.
    seats: Seats,
}

impl GateThreads {
    /// Takes no more claims, and answers those that wait.
    pub(crate) fn close(&self) {
        (self.close)();
    }

    /// Waits for the threads of a gate that is closed, until `gives_up`. A verifier that does not
    /// come back is left behind.
    pub(crate) fn join(self, gives_up: Instant) {
        for thread in self.threads {
            let mut pause = Duration::from_micros(50);
            while !thread.is_finished() && Instant::now() < gives_up {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // It catches what its verifier panics with.
                drop(thread.join());
            } else {
                tracing::warn!("a gate's thread was left behind: its verifier has not come back");
            }
        }
        self.seats.leave();
    }
}

/// Where a worker runs.
#[derive(Clone, Copy)]
enum WorkersPlace {
    Shared,
    On(usize),
}

impl WorkersPlace {
    /// The calling thread goes there. A worker that may not is slower, and right all the same.
    fn take(self, allowed: &[usize]) {
        let placed = match self {
            WorkersPlace::On(cpu) => {
                let mut set = CpuSet::new();
                set.set(cpu);
                rustix::thread::sched_setaffinity(None, &set)
            }
            WorkersPlace::Shared => {
                if let Err(error) = leave_inherited_cpu(allowed.iter().copied()) {
                    tracing::debug!(%error, "a gate's worker stays where the thread that opened it may run");
                }
                // On Linux this is the calling thread's alone.
                rustix::process::setpriority_process(None, NICE)
            }
        };
        if let Err(error) = placed {
            tracing::debug!(%error, "a gate's worker runs as the thread that opened it");
        }
    }
}

/// Finds the workers' seats, and takes CPUs that are theirs alone.
fn seats(workers: &Workers, allowed: &[usize]) -> Result<(Vec<WorkersPlace>, Seats), GateStartError> {
    match workers {
        Workers::Shared(workers) => Ok((vec![WorkersPlace::Shared; *workers], Seats::occupy(&[]))),
        Workers::OnCpus(cpus) => {
            Topology::of_this_process().map_err(GateStartError::Topology)?.place_on(cpus)?;
            let on: Vec<_> = cpus.iter().copied().map(Some).collect();
            let taken = Seats::occupy(&on);
            if !taken.shared().is_empty() {
                tracing::warn!(cpus = ?taken.shared(), "a gate's workers share CPUs with shards, which do not spin there");
            }
            debug_assert!(cpus.iter().all(|cpu| allowed.contains(cpu)), "they were looked up");
            Ok((cpus.iter().copied().map(WorkersPlace::On).collect(), taken))
        }
    }
}

/// Opens a gate: its threads run when this returns.
pub(crate) fn open<A: Actor, V: Verifier<A>>(
    shared: &Arc<Shared<A>>,
    config: GateConfig,
    make: impl Fn() -> V + Send + Sync + 'static,
) -> Result<(Gate<A, V>, GateThreads), GateStartError> {
    config.check()?;
    if !shared.is_open() {
        return Err(GateStartError::Stopped);
    }
    let (seats, taken) = seats(&config.workers, &shared.allowed)?;
    let workers = seats.len();
    let counts = Arc::default();
    let state = Arc::new(GateState {
        shared: shared.clone(),
        intake: Mutex::new(Intake::new(workers, config.claims_max, config.batch_max, config.suspects_max)),
        has_some: (0..workers).map(|_| Condvar::new()).collect(),
        events: Arc::new(Events::new()),
        senders: Senders::new(config.sender_claims_max),
        counts,
        config,
    });
    let mut threads = GateThreads { close: closing(&state), threads: Vec::new(), seats: taken };
    match spawn(&state, seats, Arc::new(make), &mut threads.threads) {
        Ok(()) => {
            shared.gates.lock().unwrap_or_else(PoisonError::into_inner).push(state.counts.clone());
            Ok((Gate { state }, threads))
        }
        Err(error) => {
            threads.close();
            threads.join(Instant::now() + Duration::from_secs(1));
            Err(error)
        }
    }
}

fn closing<A: Actor, V: Verifier<A>>(state: &Arc<GateState<A, V>>) -> Box<dyn Fn() + Send + Sync> {
    let state = state.clone();
    Box::new(move || state.close())
}

/// Says that a worker has ended, however it ends.
struct Ends<A: Actor, R>(Arc<Events<A, R>>);

impl<A: Actor, R> Drop for Ends<A, R> {
    fn drop(&mut self) {
        self.0.push(Passing::WorkerEnded);
    }
}

fn spawn<A: Actor, V: Verifier<A>>(
    state: &Arc<GateState<A, V>>,
    seats: Vec<WorkersPlace>,
    make: Arc<impl Fn() -> V + Send + Sync + 'static>,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<(), GateStartError> {
    let handle = Handle::new(state.shared.clone()).sending_as(state.config.sends_as);
    let (ready, arriving) = mpsc::channel();
    for (number, seat) in seats.into_iter().enumerate() {
        let (state, handle, make, ready) = (state.clone(), handle.clone(), make.clone(), ready.clone());
        let live = move || {
            seat.take(&state.shared.allowed);
            let _ends = Ends(state.events.clone());
            match Worker::new(state, handle, number, make) {
                Ok(mut worker) => {
                    drop(ready.send(Ok(())));
                    worker.live();
                }
                Err(said) => drop(ready.send(Err(said))),
            }
        };
        let thread = spawn_thread(format!("freehold-gate-{number}"), Box::new(live));
        threads.push(thread.map_err(GateStartError::Thread)?);
    }
    drop(ready);
    let (state, workers) = (state.clone(), threads.len());
    let is_unordered = flaw::is_unordered();
    // Beside the workers, if they are to leave the shards alone: it answers each claim.
    let cpus = match &state.config.workers {
        Workers::OnCpus(cpus) => cpus.clone(),
        Workers::Shared(_) => state.shared.allowed.clone(),
    };
    let pass = move || {
        drop(leave_inherited_cpu(cpus));
        bring_on(&state, &handle, workers, is_unordered);
    };
    let passing = spawn_thread("freehold-passing".into(), Box::new(pass));
    threads.push(passing.map_err(GateStartError::Thread)?);
    arriving.into_iter().take(workers).try_for_each(|is_ready| is_ready.map_err(GateStartError::Broken))
}
