//! Audits: all accounts of one instant are added up, while payments go on, from a snapshot.
//!
//! An account is opened with a known amount, and payments only move money. So at every instant the
//! accounts hold exactly what they were opened with, and an audit that finds one coin more or less
//! has seen half a payment. Two counts bound the accounts it may find: those known to be open
//! before it asked for the snapshot must be there, and those named only after it had the snapshot
//! cannot be.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use freehold::{Handle, SnapshotError};
use hdrhistogram::Histogram;
use thiserror::Error;

use crate::ledger::{Entry, Ledger};

/// How many accounts there are, as far as is known from outside.
#[derive(Default)]
pub struct Census {
    /// Counted before they are sent to be opened.
    pub named: AtomicU64,
    /// Counted after they were answered to be open.
    pub open: AtomicU64,
}

impl Census {
    /// Counts the accounts that there are before any is named, if a log was kept of them. Those
    /// among them that are then named count twice among the named: it is at most so many that an
    /// audit may find. So does an account that several tellers name.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn found(&self, handle: &Handle<Ledger>) -> Result<(), SnapshotError> {
        let count =
            |found: &mut u64, _, entry: &Entry| *found += u64::from(matches!(entry, Entry::Account(_)));
        let found = handle.snapshot().wait()?.fold(|| 0, count, |a, b| a + b).wait()?;
        self.named.store(found, Ordering::Release);
        self.open.store(found, Ordering::Release);
        Ok(())
    }

    /// All payments were read, and name so many.
    pub fn all_are(&self, accounts: u64) {
        self.named.store(accounts, Ordering::Release);
    }
}

/// What an audit found.
pub struct Audit {
    pub accounts: u64,
    /// What they held together: what they were opened with.
    pub held: u128,
    /// Until the snapshot was there.
    pub opening: Duration,
    /// From then until all accounts were added up.
    pub folding: Duration,
}

/// Why an audit does not say that all is well.
#[derive(Debug, Error)]
pub enum AuditError {
    #[error("{accounts} accounts opened with {opened} together hold {held}")]
    Money { accounts: u64, opened: u128, held: u128 },
    #[error("found {accounts} accounts, where at least {least} are open and at most {most}")]
    Accounts { accounts: u64, least: u64, most: u64 },
    #[error("cannot read the accounts")]
    Unread(#[from] SnapshotError),
}

/// The audits of a run.
pub struct Audits {
    /// How many were exact.
    pub exact: u64,
    /// How many the runtime broke off, because too much was written meanwhile.
    pub revoked: u64,
    /// The most accounts that one of those added up.
    pub accounts: u64,
    /// In nanoseconds, of those that were exact.
    pub opening: Histogram<u64>,
    pub folding: Histogram<u64>,
    /// The first that failed. There was none after it.
    pub failed: Option<AuditError>,
}

pub struct Auditor<'a> {
    pub handle: &'a Handle<Ledger>,
    /// What is on an account when it is opened.
    pub opening: u64,
    pub census: &'a Census,
}

impl Auditor<'_> {
    /// Audits at once, and again so long `after` each audit, until `work` is done; not at all if
    /// `after` is `None`.
    pub fn audit_during<T>(&self, after: Option<Duration>, work: impl FnOnce() -> T) -> (T, Audits) {
        let (working, is_working) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let auditor = scope.spawn(move || {
                let mut audits = Audits::new();
                while let Some(after) = after
                    && audits.failed.is_none()
                {
                    audits.count(self.audit());
                    if is_working.recv_timeout(after) != Err(RecvTimeoutError::Timeout) {
                        break;
                    }
                }
                audits
            });
            let done = work();
            drop(working);
            (done, auditor.join().expect("an audit that goes wrong returns an error"))
        })
    }

    /// Adds all accounts up as they are at one instant from now on.
    ///
    /// # Errors
    /// If that is not what there must be, or if they cannot be read.
    pub fn audit(&self) -> Result<Audit, AuditError> {
        let least = self.census.open.load(Ordering::Acquire);
        let begun = Instant::now();
        let snapshot = self.handle.snapshot().wait()?;
        let opening = begun.elapsed();
        let most = self.census.named.load(Ordering::Acquire);
        let begun = Instant::now();
        let fold = snapshot.fold(
            || (0, 0),
            |(accounts, held), _, entry| {
                if let Entry::Account(account) = entry {
                    *accounts += 1;
                    *held += u128::from(account.balance);
                }
            },
            |a, b| (a.0 + b.0, a.1 + b.1),
        );
        let (accounts, held) = fold.wait()?;
        let folding = begun.elapsed();
        let opened = u128::from(accounts) * u128::from(self.opening);
        if held != opened {
            return Err(AuditError::Money { accounts, opened, held });
        }
        if !(least..=most).contains(&accounts) {
            return Err(AuditError::Accounts { accounts, least, most });
        }
        Ok(Audit { accounts, held, opening, folding })
    }
}

impl Audits {
    fn new() -> Self {
        let times = || Histogram::new(3).expect("three digits are allowed");
        Audits { exact: 0, revoked: 0, accounts: 0, opening: times(), folding: times(), failed: None }
    }

    fn count(&mut self, audit: Result<Audit, AuditError>) {
        match audit {
            Ok(Audit { accounts, opening, folding, .. }) => {
                self.exact += 1;
                self.accounts = self.accounts.max(accounts);
                for (times, time) in [(&mut self.opening, opening), (&mut self.folding, folding)] {
                    times.record(time.as_nanos() as u64).expect("the histogram grows with its values");
                }
            }
            Err(AuditError::Unread(SnapshotError::Expired)) => self.revoked += 1,
            Err(error) => self.failed = Some(error),
        }
    }
}
