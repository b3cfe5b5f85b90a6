//! Drives engines with group commit: a thread for each client, and one that writes.
//!
//! Clients ask without waiting, up to what the cell allows in flight. The writer takes what waits, up to all that can be in flight,
//! into one commit, and answers when that returned. A client's answers come in the order it asked in. The writer is not pinned: it
//! mostly waits for the disk, and takes the CPU that is free.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use freehold_workloads::{Answer, Durability, Pace, Part, Trial, Workload};

use crate::books::{Brought, balance, conduct};
use crate::bytes::Desk;
use crate::course::{Arrivals, Asked, Course, Loop, draw_all};
use crate::peer::{Fault, Settled};
use crate::pinned::{allowed, pin};

/// A store that commits many transactions at once.
pub trait Grouped<W: Workload>: Sized + Sync {
    /// Makes it, with all rows the workload has in the beginning.
    ///
    /// # Errors
    /// The engine's own.
    fn open(workload: &W, trial: &Trial) -> Result<Self, Fault>;

    /// Runs transactions one after the other and commits them together. Each adds its outcome to `answers`.
    ///
    /// # Errors
    /// The engine's own; then none of them is committed.
    fn commit<'a>(
        &self,
        group: impl Iterator<Item = &'a W::Transaction>,
        desk: &mut Desk<W>,
        answers: &mut Vec<Settled<W>>,
    ) -> Result<(), Fault>;

    /// Shows every row there is. Nobody else is there any more.
    ///
    /// # Errors
    /// The engine's own.
    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault>;
}

/// A group in an open loop is no larger, and no client has more in flight; who comes later waits, and its latency counts.
const OPEN_MAX: usize = 1024;
/// If a commit is synced the writer waits so long for a group to be full: a hundredth of a sync, or so, and clients that were just
/// answered are in it.
const GATHER: Duration = Duration::from_micros(100);

struct Request<W: Workload> {
    client: usize,
    transaction: W::Transaction,
}

/// Measures an engine with group commit.
///
/// # Errors
/// The engine's.
pub fn measure<W: Workload, G: Grouped<W>>(workload: &W, trial: &Trial) -> Result<Answer, Fault> {
    let arrival = Loop::of(trial)?;
    let streams = draw_all(workload, trial)?;
    let (store, cpus, pace) = (G::open(workload, trial)?, allowed(), Pace::default());
    let in_flight = match arrival {
        Loop::Closed { in_flight } => in_flight,
        Loop::Open { .. } => OPEN_MAX,
    };
    let group_max = match arrival {
        Loop::Closed { in_flight } => in_flight * streams.len(),
        Loop::Open { .. } => OPEN_MAX,
    };
    let gather = if trial.cell.durability == Durability::Durable { GATHER } else { Duration::ZERO };
    let (ask, asked) = bounded(in_flight * streams.len());
    let (answers, answered): (Vec<_>, Vec<_>) = streams.iter().map(|_| unbounded()).unzip();
    let (used, brought, written) = thread::scope(|scope| {
        let (store, cpus, pace) = (&store, &cpus[..], &pace);
        let writer = scope.spawn(move || write(store, &asked, &answers, group_max, gather));
        let clients: Vec<_> = streams
            .iter()
            .zip(answered)
            .enumerate()
            .map(|(number, (stream, answered))| {
                let ask = ask.clone();
                scope.spawn(move || {
                    pin(cpus, number);
                    let line = Line {
                        number,
                        ask,
                        answered,
                        course: Course::new(stream),
                        in_flight,
                        waiting: VecDeque::new(),
                        brought: Brought::default(),
                    };
                    match arrival {
                        Loop::Closed { .. } => line.closed(pace),
                        Loop::Open { per_second } => {
                            line.open(Arrivals::new(trial.seed, number, per_second, Instant::now()), pace)
                        }
                    }
                })
            })
            .collect();
        drop(ask);
        let used = conduct(pace, trial);
        let brought: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        (used, brought, writer.join())
    });
    written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let brought = brought
        .into_iter()
        .map(|joined| joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect();
    let mut found = W::Audit::default();
    store.show(&mut |id, row| workload.audit(&mut found, id, row))?;
    Ok(balance(workload, trial, brought, &used, &found))
}

/// Writes until no client is there any more.
fn write<W: Workload>(
    store: &impl Grouped<W>,
    asked: &Receiver<Request<W>>,
    answers: &[Sender<Settled<W>>],
    group_max: usize,
    gather: Duration,
) -> Result<(), Fault> {
    let (mut desk, mut group, mut settled) = (Desk::default(), Vec::new(), Vec::new());
    while let Ok(first) = asked.recv() {
        group.push(first);
        let until = Instant::now() + gather;
        while group.len() < group_max {
            match asked.try_recv().or_else(|_| asked.recv_deadline(until)) {
                Ok(request) => group.push(request),
                Err(_) => break,
            }
        }
        store.commit(group.iter().map(|request| &request.transaction), &mut desk, &mut settled)?;
        assert_eq!(group.len(), settled.len(), "every request has an answer");
        for (request, settled) in group.drain(..).zip(settled.drain(..)) {
            // A client that is not there any more has panicked, and is found when it is joined.
            let _ = answers[request.client].send(settled);
        }
    }
    Ok(())
}

/// What a client waits for.
struct Awaited<'a, W: Workload> {
    asked: Asked<'a, W>,
    since: Instant,
}

/// A client's line to the writer.
struct Line<'a, W: Workload> {
    number: usize,
    ask: Sender<Request<W>>,
    answered: Receiver<Settled<W>>,
    course: Course<'a, W>,
    /// No more than this many are waited for.
    in_flight: usize,
    waiting: VecDeque<Awaited<'a, W>>,
    brought: Brought<W>,
}

/// The writer has ended before its clients; what it says of it counts.
const WRITER_GONE: &str = "the writer has failed";

impl<W: Workload> Line<'_, W> {
    fn part(&mut self) -> &mut Part<W> {
        &mut self.brought.part
    }

    /// Asks for the next; `false` if there is nobody to ask.
    fn ask(&mut self, since: Instant) -> bool {
        let asked = self.course.take();
        let request = Request { client: self.number, transaction: asked.transaction.clone().into_owned() };
        self.waiting.push_back(Awaited { asked, since });
        self.ask.send(request).is_ok()
    }

    fn note(&mut self, settled: Settled<W>) {
        let Awaited { asked, since } = self.waiting.pop_front().expect("an answer was waited for");
        self.brought.answered += 1;
        self.part().note(&asked.transaction, asked.spans, settled);
        self.part().time(since);
    }

    /// Reads answers: those that are there, and waits for the first until then.
    fn read(&mut self, until: Option<Instant>) -> bool {
        let first = match until {
            None => self.answered.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.answered.recv_deadline(until),
        };
        match first {
            Ok(settled) => self.note(settled),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        while let Ok(settled) = self.answered.try_recv() {
            self.note(settled);
        }
        true
    }

    fn drain(mut self) -> Brought<W> {
        while !self.waiting.is_empty() && self.read(None) {}
        if !self.waiting.is_empty() {
            self.part().broke(WRITER_GONE);
        }
        self.brought
    }

    fn closed(mut self, pace: &Pace) -> Brought<W> {
        while self.part().turn_to(pace) {
            while self.waiting.len() < self.in_flight {
                if !self.ask(Instant::now()) {
                    return self.drain();
                }
            }
            if !self.read(None) {
                break;
            }
        }
        self.drain()
    }

    fn open(mut self, mut arrivals: Arrivals, pace: &Pace) -> Brought<W> {
        while self.part().turn_to(pace) {
            while self.waiting.len() < self.in_flight && arrivals.due() <= Instant::now() {
                if !self.ask(arrivals.take()) {
                    return self.drain();
                }
            }
            let until =
                if self.waiting.len() < self.in_flight { arrivals.due() } else { Instant::now() + LOOK };
            if !self.read(Some(until.min(Instant::now() + LOOK))) {
                break;
            }
        }
        self.drain()
    }
}

/// Looks at the pace this often, at least.
const LOOK: Duration = Duration::from_millis(10);
