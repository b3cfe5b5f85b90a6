//! Drives engines with group commit: a thread for each client, and one that writes.
//!
//! Clients ask without waiting, up to what the cell allows in flight. The writer takes what waits,
//! up to [`GROUP_MAX`], into one commit, and answers when that returned. A client's answers come in
//! the order it asked in. What only reads is not asked for: the client runs it in a snapshot of
//! what is committed, as without group commit. The writer is not pinned: it mostly waits for the
//! disk, and takes the CPU that is free.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use freehold_workloads::{Answer, Arrivals, Durability, Pace, Part, Trial, Workload};

use crate::books::{Brought, balance, conduct};
use crate::bytes::Desk;
use crate::course::{Asked, Course, Loop, draw_all};
use crate::peer::{Fault, Settled};
use crate::pinned::{allowed, pin};

/// A store that commits many transactions at once.
pub trait Grouped<W: Workload>: Sized + Sync {
    /// Makes it, with all rows the workload has in the beginning.
    ///
    /// # Errors
    /// The engine's own.
    fn open(workload: &W, trial: &Trial) -> Result<Self, Fault>;

    /// Runs transactions one after the other and commits them together. Each adds its outcome to
    /// `answers`.
    ///
    /// # Errors
    /// The engine's own; then none of them is committed.
    fn commit<'a>(
        &self,
        group: impl Iterator<Item = &'a W::Transaction>,
        desk: &mut Desk<W>,
        answers: &mut Vec<Settled<W>>,
    ) -> Result<(), Fault>;

    /// Runs a transaction that only reads, on the thread of its client.
    ///
    /// # Errors
    /// The engine's own.
    fn read(&self, transaction: &W::Transaction, desk: &mut Desk<W>) -> Result<Settled<W>, Fault>;

    /// Shows every row there is. Nobody else is there any more.
    ///
    /// # Errors
    /// The engine's own.
    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault>;
}

/// A group is no larger, whatever is in flight: a second has many groups, and where it begins and
/// ends makes no difference.
pub const GROUP_MAX: usize = 2048;
/// In an open loop no client has more in flight, and no group is larger; who comes later waits, and
/// its latency counts.
const OPEN_MAX: usize = 1024;
/// If a commit is synced the writer waits so long for a group to be full, so that clients that were
/// just answered are in it: a tenth of a sync on a fast disk, which is some 200 us. It does not
/// sleep, as that takes longer.
const GATHER: Duration = Duration::from_micros(20);

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
        Loop::Closed { in_flight } => (in_flight * streams.len()).min(GROUP_MAX),
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
                        store,
                        desk: Desk::default(),
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
            match asked.try_recv() {
                Ok(request) => group.push(request),
                Err(TryRecvError::Empty) if Instant::now() < until => thread::yield_now(),
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

/// A client's line to the writer, and its own way to what is committed.
struct Line<'a, W: Workload, G> {
    number: usize,
    store: &'a G,
    desk: Desk<W>,
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

impl<W: Workload, G: Grouped<W>> Line<'_, W, G> {
    fn part(&mut self) -> &mut Part<W> {
        &mut self.brought.part
    }

    /// Asks for the next, or runs it if it only reads. Then reads the answers that are there, which
    /// have waited meanwhile. `false` if there is nobody to ask any more, or the store failed.
    fn ask(&mut self, since: Instant) -> bool {
        let asked = self.course.take();
        if self.desk.only_reads(&asked.transaction) {
            return match self.store.read(&asked.transaction, &mut self.desk) {
                Ok(settled) => {
                    self.settle(&Awaited { asked, since }, settled);
                    self.read_what_is_there();
                    true
                }
                Err(fault) => {
                    self.part().broke(&fault.to_string());
                    false
                }
            };
        }
        let request = Request { client: self.number, transaction: asked.transaction.clone().into_owned() };
        self.waiting.push_back(Awaited { asked, since });
        let is_asked = self.ask.send(request).is_ok();
        self.read_what_is_there();
        is_asked
    }

    fn settle(&mut self, Awaited { asked, since }: &Awaited<'_, W>, settled: Settled<W>) {
        self.brought.answered += 1;
        self.part().note(&asked.transaction, asked.spans, settled);
        self.part().time(*since);
    }

    fn note(&mut self, settled: Settled<W>) {
        let awaited = self.waiting.pop_front().expect("an answer was waited for");
        self.settle(&awaited, settled);
    }

    fn read_what_is_there(&mut self) {
        while let Ok(settled) = self.answered.try_recv() {
            self.note(settled);
        }
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
        self.read_what_is_there();
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
        // The pace is looked at each time: a workload that only reads never has anything in flight.
        while self.part().turn_to(pace) {
            let goes_on =
                if self.waiting.len() < self.in_flight { self.ask(Instant::now()) } else { self.read(None) };
            if !goes_on {
                break;
            }
        }
        self.drain()
    }

    fn open(mut self, mut arrivals: Arrivals, pace: &Pace) -> Brought<W> {
        while self.part().turn_to(pace) {
            let (now, may_ask) = (Instant::now(), self.waiting.len() < self.in_flight);
            let goes_on = if may_ask && arrivals.due() <= now {
                self.ask(arrivals.take())
            } else {
                let look = now + LOOK;
                self.read(Some(if may_ask { arrivals.due().min(look) } else { look }))
            };
            if !goes_on {
                break;
            }
        }
        arrivals.leave_behind(1, self.part());
        self.drain()
    }
}

/// Looks at the pace this often, at least.
const LOOK: Duration = Duration::from_millis(10);
