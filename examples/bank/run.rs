//! Drives payments through the runtime from one thread, a few batches in flight, and counts what came of each.
//!
//! Memory is bounded by the batches in flight, and by the set of accounts, however long the input. Two invariants:
//!
//! *open-before-paid*: a batch is handed over once all accounts it names are known to be open. Their openings are sent some batches ahead,
//! so that nobody waits for them.
//!
//! *in-order*: two payments that share an account are made in the order they were read, as long as no payment spans shards: then
//! a shard gets all payments of its accounts from this one thread, first in, first out. For that no batch may have to wait in front of a shard while
//! a later one finds room, and so [`Plan::ingress_entries`] is enough for all that can be in flight.
//!
//! A payment that spans shards reaches the lower one first, and another that is in flight with it may overtake it on the higher. So where
//! some do, only this is certain: a payment is made before all that are handed over after its batch was answered.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ahash::AHashSet;
use freehold::{AskAll, AskError, Handle, Outcome};
use hdrhistogram::Histogram;

use crate::audit::Census;
use crate::input::{InputError, Payment};
use crate::ledger::{Ledger, Order, Reason, Refusal};
use crate::progress::Progress;

/// Batches whose accounts are being opened while earlier ones are paid.
const STAGED_MAX: usize = 2;
/// Bad lines shown. All are counted.
const BAD_LINES_SHOWN_MAX: u64 = 20;

/// How to drive.
pub struct Plan {
    /// Payments handed over together.
    pub batch: usize,
    /// Batches handed over and not answered.
    pub in_flight: usize,
    /// What is on an account when it is opened.
    pub opening: u64,
    pub on_bad_line: OnBadLine,
}

/// What a line that is no payment means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnBadLine {
    /// It is shown and counted.
    GoOn,
    /// What was read before it is paid, and that is all.
    Stop,
}

impl Plan {
    /// Batches that may wait in front of one shard, if the runtime splits them into parts of at most `part` messages: all in flight, and
    /// the openings of all staged, which are two accounts a payment.
    pub fn ingress_entries(&self, part: usize) -> usize {
        self.in_flight * self.batch.div_ceil(part) + (STAGED_MAX + 1) * (2 * self.batch).div_ceil(part)
    }
}

/// What came of the payments.
pub struct Tally {
    pub read: u64,
    pub bad_lines: u64,
    pub done: u64,
    /// By [`Reason::index`].
    pub refused: [u64; Reason::ALL.len()],
    /// Neither done nor refused: what the runtime could not handle, and the first such case.
    pub unhandled: u64,
    pub first_unhandled: Option<AskError<Refusal>>,
    /// Why reading stopped before the end.
    pub stopped: Option<InputError>,
    /// For each payment, nanoseconds from handing its batch over to having the batch's outcomes.
    pub latency: Histogram<u64>,
    /// From the first payment read to the last one answered.
    pub elapsed: Duration,
    /// How much of it went into reading or making payments.
    pub reading: Duration,
}

/// Payments whose accounts are being opened.
struct Staged {
    openings: AskAll<Ledger>,
    payments: Vec<Payment>,
}

/// Payments handed over.
struct Flight {
    begun: Instant,
    payments: Vec<Payment>,
    outcomes: AskAll<Ledger>,
}

/// A run of payments.
pub struct Run<'a> {
    handle: &'a Handle<Ledger>,
    plan: &'a Plan,
    progress: &'a Progress,
    census: &'a Census,
    /// Where refused payments are listed.
    refused: Option<Box<dyn Write>>,
    /// All accounts named so far.
    accounts: AHashSet<u64>,
    staged: VecDeque<Staged>,
    flights: VecDeque<Flight>,
    tally: Tally,
}

impl<'a> Run<'a> {
    pub fn new(
        handle: &'a Handle<Ledger>,
        plan: &'a Plan,
        progress: &'a Progress,
        census: &'a Census,
        refused: Option<Box<dyn Write>>,
    ) -> Self {
        let tally = Tally {
            read: 0,
            bad_lines: 0,
            done: 0,
            refused: [0; Reason::ALL.len()],
            unhandled: 0,
            first_unhandled: None,
            stopped: None,
            latency: Histogram::new(3).expect("three digits are allowed"),
            elapsed: Duration::ZERO,
            reading: Duration::ZERO,
        };
        let (accounts, staged, flights) = (AHashSet::new(), VecDeque::new(), VecDeque::new());
        Run { handle, plan, progress, census, refused, accounts, staged, flights, tally }
    }

    /// Makes all payments, and returns what came of them and the accounts they named.
    ///
    /// # Errors
    /// If refused payments cannot be listed. Some payments may not have been made.
    pub fn pay(
        mut self,
        mut payments: impl Iterator<Item = Result<Payment, InputError>>,
    ) -> io::Result<(Tally, AHashSet<u64>)> {
        if let Some(refused) = &mut self.refused {
            writeln!(refused, "line,from,to,amount,reason")?;
        }
        let begun = Instant::now();
        loop {
            let batch = self.read(&mut payments);
            if batch.is_empty() {
                break;
            }
            self.stage(batch);
            if self.staged.len() > STAGED_MAX {
                self.launch()?;
            }
        }
        while !self.staged.is_empty() {
            self.launch()?;
        }
        while !self.flights.is_empty() {
            self.land()?;
        }
        self.tally.elapsed = begun.elapsed();
        if let Some(refused) = &mut self.refused {
            refused.flush()?;
        }
        let unseen = self.tally.bad_lines.saturating_sub(BAD_LINES_SHOWN_MAX);
        if unseen > 0 {
            self.progress.say(&format!("... and {unseen} more bad lines"));
        }
        Ok((self.tally, self.accounts))
    }

    /// The next batch; empty at the end.
    fn read(&mut self, payments: &mut impl Iterator<Item = Result<Payment, InputError>>) -> Vec<Payment> {
        let begun = Instant::now();
        let mut batch = Vec::with_capacity(self.plan.batch);
        while batch.len() < self.plan.batch && self.tally.stopped.is_none() {
            match payments.next() {
                Some(Ok(payment)) => batch.push(payment),
                Some(Err(error)) => self.note(error),
                None => break,
            }
        }
        self.tally.read += batch.len() as u64;
        self.tally.reading += begun.elapsed();
        batch
    }

    fn note(&mut self, error: InputError) {
        if let InputError::BadLine { .. } = error {
            self.tally.bad_lines += 1;
            if self.tally.bad_lines <= BAD_LINES_SHOWN_MAX {
                self.progress.say(&error.to_string());
            }
            if self.plan.on_bad_line == OnBadLine::GoOn {
                return;
            }
        }
        self.tally.stopped = Some(error);
    }

    /// Has the accounts opened that were not named before.
    fn stage(&mut self, payments: Vec<Payment>) {
        let opening = self.plan.opening;
        let named = payments.iter().flat_map(|payment| [payment.from, payment.to]);
        let openings: Vec<_> = named
            .filter(|&account| self.accounts.insert(account))
            .map(|account| Order::Open { account, opening })
            .collect();
        self.census.named.fetch_add(openings.len() as u64, Ordering::Release);
        let openings = self.handle.ask_all(openings);
        self.staged.push_back(Staged { openings, payments });
    }

    /// Hands over the batch staged first, as soon as its accounts are open and there is room in flight.
    fn launch(&mut self) -> io::Result<()> {
        if self.flights.len() == self.plan.in_flight {
            self.land()?;
        }
        let Staged { openings, payments } =
            self.staged.pop_front().expect("launched only if something is staged");
        for outcome in openings.wait() {
            match outcome {
                Ok(_) => {
                    self.census.open.fetch_add(1, Ordering::Release);
                }
                // Its payments will fail and be counted; this is why.
                Err(error) => {
                    self.tally.first_unhandled.get_or_insert(error);
                }
            }
        }
        let begun = Instant::now();
        let outcomes =
            self.handle.ask_all(payments.iter().map(|&Payment { from, to, amount, .. }| Order::Pay {
                from,
                to,
                amount,
            }));
        self.flights.push_back(Flight { begun, payments, outcomes });
        Ok(())
    }

    /// Waits for the batch handed over first.
    fn land(&mut self) -> io::Result<()> {
        let Flight { begun, payments, outcomes } =
            self.flights.pop_front().expect("landed only if something flies");
        let outcomes = outcomes.wait();
        let nanoseconds = begun.elapsed().as_nanos() as u64;
        self.tally
            .latency
            .record_n(nanoseconds, payments.len() as u64)
            .expect("the histogram grows with its values");
        assert_eq!(outcomes.len(), payments.len(), "the runtime answers each message once");
        for (payment, outcome) in payments.iter().zip(outcomes) {
            self.count(payment, outcome)?;
        }
        self.progress.paid(payments.len() as u64);
        Ok(())
    }

    fn count(&mut self, payment: &Payment, outcome: Outcome<Ledger>) -> io::Result<()> {
        let error = match outcome {
            Ok(_) => {
                self.tally.done += 1;
                return Ok(());
            }
            Err(error) => error,
        };
        let reason = if let AskError::Aborted(refusal) = &error { Reason::of(refusal) } else { None };
        let Some(reason) = reason else {
            self.tally.unhandled += 1;
            self.tally.first_unhandled.get_or_insert(error);
            return Ok(());
        };
        self.tally.refused[reason.index()] += 1;
        if let Some(refused) = &mut self.refused {
            let Payment { line, from, to, amount } = payment;
            writeln!(refused, "{line},{from},{to},{amount},{}", reason.label())?;
        }
        Ok(())
    }
}
