//! Drives engines that are called and return when the transaction is done: a thread for each
//! client.
//!
//! A thread has one transaction in flight, whatever the cell says of it: there is no asking for a
//! second before the first returned. In an open loop it waits for the next arrival; if that is
//! past, it goes on at once, and latency counts from it.

use std::thread;
use std::time::{Duration, Instant};

use freehold_workloads::{Answer, Arrivals, LATENCY_STRIDE, Pace, Part, Stream, Trial, Workload};

use crate::books::{Brought, balance, conduct};
use crate::course::{Course, Loop, draw_all};
use crate::peer::{Fault, Settled};
use crate::pinned::{allowed, pin};

/// An engine that is called.
pub trait Store<W: Workload>: Sized + Sync {
    /// Of so many transactions one is timed.
    const STRIDE: u64 = LATENCY_STRIDE;

    /// What one thread uses it through.
    type Session<'a>: Session<W>
    where
        Self: 'a;

    /// Makes it, with all rows the workload has in the beginning.
    ///
    /// # Errors
    /// The engine's own.
    fn open(workload: &W, trial: &Trial) -> Result<Self, Fault>;

    /// For one more thread; it is made on that thread.
    fn session(&self) -> Self::Session<'_>;

    /// Shows every row there is. Nobody else is there any more.
    ///
    /// # Errors
    /// The engine's own.
    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault>;
}

/// What one thread uses an engine through.
pub trait Session<W: Workload> {
    /// Runs a transaction.
    ///
    /// # Errors
    /// The engine's own; what the workload refuses is settled.
    fn run(&mut self, transaction: &W::Transaction) -> Result<Settled<W>, Fault>;

    /// How often a transaction was begun anew.
    fn reruns(&self) -> u64 {
        0
    }
}

/// Of transactions that take long so many are timed.
pub const SLOW_STRIDE: u64 = 4;
/// Looks at the pace every so many transactions, if they are short.
const TURN: u64 = 32;

/// Measures an engine that is called.
///
/// # Errors
/// The engine's, in making it or in showing its rows.
pub fn measure<W: Workload, S: Store<W>>(workload: &W, trial: &Trial) -> Result<Answer, Fault> {
    let arrival = Loop::of(trial)?;
    let streams = draw_all(workload, trial)?;
    let (store, cpus, pace) = (S::open(workload, trial)?, allowed(), Pace::default());
    let (used, brought) = thread::scope(|scope| {
        let (store, cpus, pace) = (&store, &cpus[..], &pace);
        let client = |number: usize, stream: &Stream<W>| {
            pin(cpus, number);
            let mut session = store.session();
            let (part, answered) = match arrival {
                Loop::Closed { .. } => closed(&mut session, stream, S::STRIDE, pace),
                Loop::Open { per_second } => {
                    let arrivals = Arrivals::new(trial.seed, number, per_second, Instant::now());
                    open(&mut session, stream, arrivals, pace)
                }
            };
            Brought { part, answered, reruns: session.reruns() }
        };
        let clients: Vec<_> = (streams.iter().enumerate())
            .map(|(number, stream)| scope.spawn(move || client(number, stream)))
            .collect();
        let used = conduct(pace, trial);
        let brought = clients.into_iter().map(|client| client.join());
        let brought = brought.map(|joined| joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (used, brought.collect())
    });
    let mut found = W::Audit::default();
    store.show(&mut |id, row| workload.audit(&mut found, id, row))?;
    Ok(balance(workload, trial, brought, &used, &found))
}

fn closed<W: Workload>(
    session: &mut impl Session<W>,
    stream: &Stream<W>,
    stride: u64,
    pace: &Pace,
) -> (Part<W>, u64) {
    let (mut part, mut course, mut number) = (Part::<W>::default(), Course::new(stream), 0);
    // Where more are timed a transaction takes long, and looking at the pace each time costs
    // nothing beside it.
    let turn = if stride < LATENCY_STRIDE { 1 } else { TURN };
    loop {
        if number % turn == 0 && (part.broken.is_some() || !part.turn_to(pace)) {
            return (part, number);
        }
        let asked = course.take();
        let since = (number % stride == 0).then(Instant::now);
        match session.run(&asked.transaction) {
            Ok(settled) => part.note(&asked.transaction, asked.spans, settled),
            Err(fault) => part.broke(&fault.to_string()),
        }
        if let Some(since) = since {
            part.time(since);
        }
        number += 1;
    }
}

fn open<W: Workload>(
    session: &mut impl Session<W>,
    stream: &Stream<W>,
    mut arrivals: Arrivals,
    pace: &Pace,
) -> (Part<W>, u64) {
    let (mut part, mut course, mut number) = (Part::<W>::default(), Course::new(stream), 0);
    while part.broken.is_none() && part.turn_to(pace) {
        if !await_arrival(arrivals.due()) {
            continue;
        }
        let since = arrivals.take();
        let asked = course.take();
        match session.run(&asked.transaction) {
            Ok(settled) => part.note(&asked.transaction, asked.spans, settled),
            Err(fault) => part.broke(&fault.to_string()),
        }
        part.time(since);
        number += 1;
    }
    arrivals.leave_behind(1, &mut part);
    (part, number)
}

/// A sleeping thread wakes this much late, about: Linux' timer slack, and the way back onto the
/// CPU.
const OVERSLEPT: Duration = Duration::from_micros(100);
/// Looks at the pace this often, at least.
const NAP: Duration = Duration::from_millis(10);

/// Waits until it is due, or for a nap; says whether it is due.
fn await_arrival(due: Instant) -> bool {
    let left = due.saturating_duration_since(Instant::now());
    if left > NAP {
        thread::sleep(NAP);
        return false;
    }
    if left > OVERSLEPT {
        thread::sleep(left - OVERSLEPT);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
    true
}
