//! Drives engines that are asked and awaited: actors of one row each.
//!
//! A client of the cell is as many tasks as it may have transactions in flight; each asks, awaits
//! the answer, and asks again, and takes its share of the client's stream. In an open loop a client
//! has 256 tasks that wait for arrivals in turn; if all are busy the next arrival waits, and its
//! latency counts.

use std::mem::take;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::tokio::runtime::{Builder, Runtime};
use ::tokio::sync::Mutex as Turns;
use ::tokio::task::yield_now;
use crossbeam_channel::{Sender, unbounded};
use freehold_workloads::{Answer, Arrivals, Pace, Part, Phase, Stream, Trial, Workload};

use crate::books::{Brought, balance, conduct};
use crate::course::{Course, Loop};
use crate::peer::{Fault, Settled};
use crate::pinned::{allowed, pin};

/// Actors of one row each.
pub trait Actors<W: Workload>: Send + Sync + 'static {
    /// Asks the one actor whose row the transaction names.
    ///
    /// # Errors
    /// The engine's own; what the workload refuses is settled.
    fn ask(&self, transaction: W::Transaction) -> impl Future<Output = Result<Settled<W>, Fault>> + Send;

    /// Asks all actors for their rows and shows them to the audit.
    ///
    /// # Errors
    /// The engine's own.
    fn audit(&self, workload: W) -> impl Future<Output = Result<W::Audit, Fault>> + Send;
}

/// A client, or an audit.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// In an open loop a client has no more than this in flight.
const OPEN_MAX: usize = 256;
/// One of so many transactions is timed.
const STRIDE: u64 = 4;

/// A tokio runtime with a pinned thread for each shard.
pub fn runtime(shards: usize) -> Result<Runtime, Fault> {
    let (cpus, started) = (allowed(), std::sync::atomic::AtomicUsize::new(0));
    let pin_next = move || pin(&cpus, started.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    Ok(Builder::new_multi_thread().worker_threads(shards).enable_time().on_thread_start(pin_next).build()?)
}

/// Measures actors. `spawn` starts a task where the client of that number lives.
///
/// # Errors
/// The engine's.
pub fn measure<W: Workload, A: Actors<W>>(
    workload: &W,
    trial: &Trial,
    streams: Vec<Stream<W>>,
    actors: Arc<A>,
    spawn: impl Fn(usize, Task),
) -> Result<Answer, Fault> {
    let arrival = Loop::of(trial)?;
    let (pace, (bring, answered)) = (Arc::new(Pace::default()), unbounded());
    let mut parts = Vec::new();
    for (client, stream) in streams.into_iter().map(Arc::new).enumerate() {
        let (of, arrivals) = match arrival {
            Loop::Closed { in_flight } => (in_flight, None),
            Loop::Open { per_second } => {
                let arrivals = Arrivals::new(trial.seed, client, per_second, Instant::now());
                (OPEN_MAX, Some(Arc::new(Turns::new(arrivals))))
            }
        };
        let clients = Arc::new(Mutex::new(Part::default()));
        for number in 0..of {
            let part = match arrival {
                Loop::Closed { .. } => Arc::default(),
                Loop::Open { .. } => Arc::clone(&clients),
            };
            let desk = Desk {
                actors: Arc::clone(&actors),
                stream: Arc::clone(&stream),
                number,
                of,
                part: Arc::clone(&part),
                pace: Arc::clone(&pace),
            };
            spawn(client, Box::pin(desk.work(arrivals.clone(), bring.clone())));
            parts.push(part);
        }
    }
    drop(bring);
    let used = conduct(&pace, trial);
    let answered: Vec<_> = answered.iter().collect();
    if answered.len() != parts.len() {
        return Err(PANICKED.into());
    }
    // A part that several tasks shared is taken where it is met first, and counts for nothing
    // afterwards.
    let brought = answered.into_iter().zip(&parts).map(|(answered, part)| {
        Ok(Brought { part: take(&mut *part.lock().map_err(|_| PANICKED)?), answered, reruns: 0 })
    });
    let brought = brought.collect::<Result<Vec<_>, Fault>>()?;
    let (tell, told) = unbounded();
    let auditing = workload.clone();
    spawn(
        0,
        Box::pin(async move {
            // Nobody listens any more only if this thread has panicked.
            let _ = tell.send(actors.audit(auditing).await);
        }),
    );
    let found = told.recv().map_err(|_| "the audit panicked")??;
    Ok(balance(workload, trial, brought, &used, &found))
}

const PANICKED: &str = "a client's task panicked";

/// A task's place: what it asks, of whom.
struct Desk<W: Workload, A> {
    actors: Arc<A>,
    stream: Arc<Stream<W>>,
    number: usize,
    of: usize,
    /// The task's own in a closed loop. In an open loop the client's: a task that waits for its
    /// turn to wait for an arrival could not turn to the next phase in time.
    part: Arc<Mutex<Part<W>>>,
    pace: Arc<Pace>,
}

impl<W: Workload, A: Actors<W>> Desk<W, A> {
    fn part(&self) -> MutexGuard<'_, Part<W>> {
        // Whoever panicked with it has not told how much it did, so nothing of it will count.
        self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns to the phase it is; says whether to go on.
    fn goes_on(&self) -> bool {
        let mut part = self.part();
        part.broken.is_none() && part.turn_to(&self.pace)
    }

    /// Works until it is time to stop, then brings how many answers it had.
    async fn work(self, arrivals: Option<Arc<Turns<Arrivals>>>, bring: Sender<u64>) {
        let mut course = Course::shared(&self.stream, self.number, self.of);
        let mut answered = 0;
        while self.goes_on() {
            let since = match &arrivals {
                None => (answered % STRIDE == 0).then(Instant::now),
                Some(arrivals) => match arrival(arrivals, &self.pace).await {
                    Some(since) if self.goes_on() => Some(since),
                    // It had arrived, and is not asked any more.
                    Some(since) => {
                        self.part().time(since);
                        continue;
                    }
                    // Not to leave before the client's part has heard that it is over: nothing of
                    // it would count.
                    None => continue,
                },
            };
            let asked = course.take();
            let transaction = asked.transaction.clone().into_owned();
            let settled = self.actors.ask(transaction).await;
            let mut part = self.part();
            match settled {
                Ok(settled) => part.note(&asked.transaction, asked.spans, settled),
                Err(fault) => part.broke(&fault.to_string()),
            }
            if let Some(since) = since {
                part.time(since);
            }
            answered += 1;
        }
        if let Some(arrivals) = &arrivals {
            // The first of the client's tasks that comes here notes them all.
            let mut arrivals = arrivals.lock().await;
            arrivals.leave_behind(1, &mut self.part());
        }
        // Nobody listens any more only if the measuring thread has panicked.
        let _ = bring.send(answered);
    }
}

/// tokio's timer counts milliseconds: what is due earlier is waited for by letting others run.
const TICK: Duration = Duration::from_millis(2);
/// Looks at the pace this often, at least.
const NAP: Duration = Duration::from_millis(10);

/// Waits for the next arrival, in turn with the client's other tasks; `None` if it is time to stop.
async fn arrival(arrivals: &Turns<Arrivals>, pace: &Pace) -> Option<Instant> {
    let mut arrivals = arrivals.lock().await;
    loop {
        let left = arrivals.due().saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(arrivals.take());
        }
        if pace.phase() == Phase::Stop {
            return None;
        }
        if left > TICK {
            ::tokio::time::sleep(NAP.min(left - TICK)).await;
        } else {
            yield_now().await;
        }
    }
}
