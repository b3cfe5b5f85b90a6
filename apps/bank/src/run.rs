//! Drives payments through the runtime from one thread, a few batches in flight, and counts what
//! came of each. (Several threads can share the payments: see [`tellers`](crate::tellers).)
//!
//! Memory is bounded by the batches in flight, and by the set of accounts, however long the input.
//! Two invariants:
//!
//! *open-before-paid*: a batch is handed over once all accounts it names are known to be open.
//! Their openings are sent some batches ahead, so that nobody waits for them.
//!
//! *in-order*: two payments that share an account are made in the order they were read, as long as
//! no payment spans shards: then a shard gets all payments of its accounts from this one thread,
//! first in, first out. For that no batch may have to wait in front of a shard while a later one
//! finds room, and so [`Plan::ingress_entries`] is enough for all that can be in flight.
//!
//! *noted-before-paid*, where a log is kept: a batch is handed over once a [`Bookmark`] that
//! includes it is on disk, which is sent with its openings. So after a crash the bookmark says
//! which payments may have been made: all the others were not. What may have been is handed over
//! again, and changes nothing if it was decided ([`Decided`](crate::decided::Decided)). What the
//! bookmark says is decided is only read, for its accounts. The payments before the bookmark have
//! to be those of the run before: it has their checksum.
//!
//! A payment that spans shards reaches the lower one first, and another that is in flight with it
//! may overtake it on the higher. So where some do, only this is certain: a payment is made before
//! all that are handed over after its batch was answered.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::vec;

use ahash::AHashMap;
use freehold::{AskAll, AskError, Handle, Outcome};
use hdrhistogram::Histogram;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::audit::Census;
use crate::input::{InputError, Payment};
use crate::ledger::{Bookmark, Ledger, Order, Reason, Receipt, Refusal};
use crate::progress::Progress;

/// Batches whose accounts are being opened while earlier ones are paid.
const STAGED_MAX: usize = 2;
/// Bad lines shown. All are counted.
const BAD_LINES_SHOWN_MAX: u64 = 20;

/// How to drive.
pub struct Plan {
    /// Threads that pay.
    pub tellers: usize,
    /// Payments that a teller hands over together.
    pub batch: usize,
    /// Batches that a teller handed over, and that were not answered.
    pub in_flight: usize,
    /// What is on an account when it is opened.
    pub opening: u64,
    pub on_bad_line: OnBadLine,
}

/// Why payments were not begun, or not gone on with.
#[derive(Debug, Error)]
pub enum RunError {
    /// Refused payments cannot be listed. Some payments may not have been made.
    #[error("cannot list what is refused")]
    List(#[from] io::Error),
    /// Nothing was paid.
    #[error("the input ended before the payments that were handed over in the run before")]
    Unread(#[source] InputError),
    /// Nothing was paid.
    #[error(
        "the log is that of another input: {begun} payments were handed over before, and this input has {read} and is over"
    )]
    Shorter { begun: u64, read: u64 },
    /// Nothing was paid.
    #[error(
        "the log is that of another input: of the {begun} payments handed over before, at least one is not what it was"
    )]
    OtherPayments { begun: u64 },
    /// Nothing was paid.
    #[error("the log is that of accounts opened with {found}, not with {told}")]
    OtherOpening { found: u64, told: u64 },
    /// Nothing was paid.
    #[error("the bookmark cannot be read or set")]
    Bookmark(#[source] AskError<Refusal>),
}

/// What a line that is no payment means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnBadLine {
    /// It is shown and counted.
    GoOn,
    /// What was read before it is paid, and that is all.
    Stop,
}

impl OnBadLine {
    /// Whether nothing is read after `error`.
    pub fn stops_at(self, error: &InputError) -> bool {
        self == OnBadLine::Stop || !matches!(error, InputError::BadLine { .. })
    }
}

impl Plan {
    /// Batches that may wait in front of one shard, if the runtime splits them into parts of at
    /// most `part` messages: all in flight of each teller, and the openings of all staged, which
    /// are two accounts a payment.
    pub fn ingress_entries(&self, part: usize) -> usize {
        let of_a_teller = self.in_flight * self.batch.div_ceil(part)
            + (STAGED_MAX + 1) * (2 * self.batch + 1).div_ceil(part);
        self.tellers * of_a_teller
    }
}

/// What came of the payments.
pub struct Tally {
    pub read: u64,
    pub bad_lines: u64,
    /// Read, and not handed over: decided in a run before.
    pub skipped: u64,
    /// Handed over, and found to have been decided in a run before.
    pub before: u64,
    pub done: u64,
    /// By [`Reason::index`]. Where a log is kept, [`Tally::refused_are`] says what all runs
    /// refused.
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
    /// All that was sent: payments, openings, and bookmarks.
    pub orders: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            read: 0,
            bad_lines: 0,
            skipped: 0,
            before: 0,
            done: 0,
            refused: [0; Reason::ALL.len()],
            unhandled: 0,
            first_unhandled: None,
            stopped: None,
            latency: Histogram::new(3).expect("three digits are allowed"),
            elapsed: Duration::ZERO,
            reading: Duration::ZERO,
            orders: 0,
        }
    }
}

impl Tally {
    /// Adds what came of other payments. How long it all took is for the caller to say.
    pub fn add(&mut self, other: Tally) {
        self.read += other.read;
        self.bad_lines += other.bad_lines;
        self.skipped += other.skipped;
        self.before += other.before;
        self.done += other.done;
        self.refused.iter_mut().zip(other.refused).for_each(|(sum, refused)| *sum += refused);
        self.unhandled += other.unhandled;
        self.first_unhandled = self.first_unhandled.take().or(other.first_unhandled);
        self.stopped = self.stopped.take().or(other.stopped);
        self.latency.add(other.latency).expect("the histogram grows with its values");
        self.orders += other.orders;
    }

    /// What was refused, in this run and those before, of which the rest was made.
    pub fn refused_are(&mut self, refused: [u64; Reason::ALL.len()]) {
        self.refused = refused;
        self.done = self.read - self.unhandled - refused.iter().sum::<u64>();
    }

    /// Payments that were decided in this run, or could not be.
    pub fn paid(&self) -> u64 {
        self.read - self.skipped - self.before
    }
}

/// A payment, and how many of the same account come before it.
struct Due {
    payment: Payment,
    nth: u64,
}

/// Payments whose accounts are being opened.
struct Staged {
    openings: AskAll<Ledger>,
    payments: Vec<Due>,
}

/// Payments handed over.
struct Flight {
    begun: Instant,
    payments: Vec<Due>,
    outcomes: AskAll<Ledger>,
}

/// How far the input is, where a log is kept.
struct Pages {
    /// As it was found.
    found: Bookmark,
    /// As it is: what is read is begun, as soon as that is noted.
    now: Bookmark,
    /// What is between the two that were found, and is to be handed over again.
    again: vec::IntoIter<Payment>,
    /// A payment could not be handled: it and those after it are not decided.
    is_broken: bool,
}

impl Pages {
    /// Reads on by one payment.
    fn turn(&mut self, payment: &Payment) {
        let Payment { line, from, to, amount } = *payment;
        let numbers = [line, from, to, amount].map(u64::to_le_bytes);
        self.now.checksum = xxh3_64_with_seed(numbers.as_flattened(), self.now.checksum);
        self.now.begun += 1;
    }
}

/// A run of payments.
pub struct Run<'a> {
    handle: &'a Handle<Ledger>,
    plan: &'a Plan,
    progress: &'a Progress,
    census: &'a Census,
    /// Where refused payments are listed as they are refused.
    refused: Option<Box<dyn Write>>,
    pages: Option<Pages>,
    /// All accounts named so far, and how many payments each was to make.
    accounts: AHashMap<u64, u64>,
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
        let tally = Tally::default();
        let (accounts, staged, flights) = (AHashMap::new(), VecDeque::new(), VecDeque::new());
        Run { handle, plan, progress, census, refused, pages: None, accounts, staged, flights, tally }
    }

    /// Has every payment decided once, ever: goes on where the bookmark is, and moves it.
    ///
    /// # Errors
    /// If there is no telling where it is, or accounts were opened with another amount.
    pub fn with_bookmark(mut self) -> Result<Self, RunError> {
        let opening = self.plan.opening;
        let found = match self.handle.ask(Order::Find).wait().map_err(RunError::Bookmark)? {
            Receipt::Bookmark(Some(found)) => found,
            _ => {
                // Before any account is opened, so that all are opened with as much.
                let first = Bookmark { opening, decided: 0, begun: 0, checksum: 0 };
                self.note(first)?;
                first
            }
        };
        if found.opening != opening {
            return Err(RunError::OtherOpening { found: found.opening, told: opening });
        }
        let now = Bookmark { begun: 0, checksum: 0, ..found };
        self.pages = Some(Pages { found, now, again: Vec::new().into_iter(), is_broken: false });
        Ok(self)
    }

    fn note(&mut self, bookmark: Bookmark) -> Result<(), RunError> {
        self.tally.orders += 1;
        self.handle.ask(Order::Note(bookmark)).wait().map(drop).map_err(RunError::Bookmark)
    }

    /// Makes all payments, and returns what came of them and the accounts they named.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn pay(
        mut self,
        mut payments: impl Iterator<Item = Result<Payment, InputError>>,
    ) -> Result<(Tally, AHashMap<u64, u64>), RunError> {
        if let Some(refused) = &mut self.refused {
            writeln!(refused, "line,from,to,amount,reason")?;
        }
        self.skip(&mut payments)?;
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
        if let Some(pages) = self.pages.as_ref().filter(|pages| !pages.is_broken) {
            let last = pages.now;
            self.note(last)?;
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

    /// Reads up to the bookmark that was found.
    fn skip(
        &mut self,
        payments: &mut impl Iterator<Item = Result<Payment, InputError>>,
    ) -> Result<(), RunError> {
        let Some(mut pages) = self.pages.take() else { return Ok(()) };
        let Bookmark { decided, begun, checksum, .. } = pages.found;
        let mut again = Vec::new();
        while pages.now.begun < begun {
            match payments.next() {
                Some(Ok(payment)) => {
                    pages.turn(&payment);
                    if pages.now.begun > decided {
                        again.push(payment);
                        continue;
                    }
                    *self.accounts.entry(payment.from).or_default() += 1;
                    self.accounts.entry(payment.to).or_default();
                }
                Some(Err(error)) => {
                    self.bad(error);
                    if let Some(error) = self.tally.stopped.take() {
                        return Err(RunError::Unread(error));
                    }
                }
                None => return Err(RunError::Shorter { begun, read: pages.now.begun }),
            }
        }
        if pages.now.checksum != checksum {
            return Err(RunError::OtherPayments { begun });
        }
        (self.tally.read, self.tally.skipped) = (decided, decided);
        self.progress.skipped(decided);
        pages.again = again.into_iter();
        self.pages = Some(pages);
        Ok(())
    }

    /// The next batch; empty at the end.
    fn read(&mut self, payments: &mut impl Iterator<Item = Result<Payment, InputError>>) -> Vec<Payment> {
        let begun = Instant::now();
        let mut batch = Vec::with_capacity(self.plan.batch);
        while batch.len() < self.plan.batch && self.tally.stopped.is_none() {
            if let Some(payment) = self.pages.as_mut().and_then(|pages| pages.again.next()) {
                batch.push(payment);
                continue;
            }
            match payments.next() {
                Some(Ok(payment)) => {
                    if let Some(pages) = &mut self.pages {
                        pages.turn(&payment);
                    }
                    batch.push(payment);
                }
                Some(Err(error)) => self.bad(error),
                None => break,
            }
        }
        self.tally.read += batch.len() as u64;
        self.tally.reading += begun.elapsed();
        batch
    }

    fn bad(&mut self, error: InputError) {
        if let InputError::BadLine { .. } = error {
            self.tally.bad_lines += 1;
            if self.tally.bad_lines <= BAD_LINES_SHOWN_MAX {
                self.progress.say(&error.to_string());
            }
        }
        if self.plan.on_bad_line.stops_at(&error) {
            self.tally.stopped = Some(error);
        }
    }

    /// Has the accounts opened that were not named before.
    fn stage(&mut self, payments: Vec<Payment>) {
        let opening = self.plan.opening;
        let mut openings = Vec::new();
        let mut named = |account: u64, payments: u64| {
            let made = self.accounts.entry(account).or_insert_with(|| {
                openings.push(Order::Open { account, opening });
                0
            });
            *made += payments;
            *made
        };
        let due = payments.into_iter().map(|payment| {
            let nth = named(payment.from, 1) - 1;
            named(payment.to, 0);
            Due { payment, nth }
        });
        let payments = due.collect();
        self.census.named.fetch_add(openings.len() as u64, Ordering::Release);
        openings.extend(self.pages.as_ref().map(|pages| Order::Note(pages.now)));
        self.tally.orders += openings.len() as u64;
        let openings = self.handle.ask_all(openings);
        self.staged.push_back(Staged { openings, payments });
    }

    /// Hands over the batch staged first, as soon as its accounts are open and there is room in
    /// flight.
    fn launch(&mut self) -> io::Result<()> {
        if self.flights.len() == self.plan.in_flight {
            self.land()?;
        }
        let Staged { openings, payments } =
            self.staged.pop_front().expect("launched only if something is staged");
        let mut is_noted = true;
        for outcome in openings.wait() {
            match outcome {
                Ok(Receipt::Opened) => {
                    self.census.open.fetch_add(1, Ordering::Release);
                }
                Ok(_) => {}
                // Its payments will fail and be counted; this is why.
                Err(error) => {
                    is_noted = false;
                    self.tally.first_unhandled.get_or_insert(error);
                }
            }
        }
        let begun = Instant::now();
        let outcomes = match &mut self.pages {
            None => self.handle.ask_all(payments.iter().map(|due| {
                let Payment { from, to, amount, .. } = due.payment;
                Order::Pay { from, to, amount }
            })),
            // They must not be made, for another run would not know of it. Nor may those after
            // them.
            Some(pages) if !is_noted || pages.is_broken => {
                pages.is_broken = true;
                self.tally.unhandled += payments.len() as u64;
                return Ok(());
            }
            Some(_) => self.handle.ask_all(payments.iter().map(|due| {
                let Payment { from, to, amount, line } = due.payment;
                Order::PayOnce { from, to, amount, nth: due.nth, line }
            })),
        };
        self.tally.orders += payments.len() as u64;
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
        let unhandled = self.tally.unhandled;
        for (due, outcome) in payments.iter().zip(outcomes) {
            self.count(&due.payment, outcome)?;
        }
        if let Some(pages) = &mut self.pages {
            pages.is_broken |= self.tally.unhandled > unhandled;
            if !pages.is_broken {
                pages.now.decided += payments.len() as u64;
            }
        }
        self.progress.paid(payments.len() as u64);
        Ok(())
    }

    fn count(&mut self, payment: &Payment, outcome: Outcome<Ledger>) -> io::Result<()> {
        let error = match outcome {
            Ok(receipt) => {
                self.tally.done += u64::from(receipt == Receipt::Paid);
                self.tally.before += u64::from(receipt == Receipt::Before);
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
