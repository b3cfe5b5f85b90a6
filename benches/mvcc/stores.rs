//! Optimistic multi-version stores of accounts, as the project was first planned, one improvement
//! after the other, and the transfer as a transaction on any of them.
//!
//! A transaction takes a begin timestamp, reads of each account the newest version that is not
//! younger, keeps what it writes to itself, and commits: if an account has a newer version than the
//! one read, or another transaction is about to write it, the transaction aborts and is begun anew.
//! Otherwise its writes become versions with one commit timestamp.
//!
//! In the concurrent stores a commit first marks its accounts, one by one, then takes its
//! timestamp, then writes and unmarks; no guard of the map lives across another call of it. A
//! reader that meets a mark aborts, for the commit timestamp behind it may be below its own. With
//! one clock for all this is snapshot isolation, and since a transfer writes all it reads,
//! serializable; and it begins after everything that was committed before.
//!
//! With timestamps from ranges of each thread it is not: a thread whose range is the lower one
//! begins before what the other has long committed. It does not see it (*stale*) and cannot commit
//! over it, until its range is used up. That defect is what the step shows. That no money is lost
//! by it is due to the commit's check, which compares versions; comparing with the begin timestamp,
//! as is usual, would also lose updates.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread;

use crossbeam_utils::CachePadded;
use dashmap::DashMap;
use smallvec::SmallVec;

use crate::workload::transfers::{Account, Audit, Deal, Receipt, Refused, pay};

/// Versions kept of an account; older ones go when one is written. Who still needs them aborts.
const VERSIONS_MAX: usize = 4;
/// Timestamps a thread takes at once.
const RANGE: u64 = 1024;
/// Marks in a row after which a thread lets others run: whoever made them may have lost its CPU.
const MARKS_MAX: u32 = 128;

type Timestamp = u64;

/// What an account was from a commit on.
#[derive(Clone, Copy)]
pub struct Version {
    written: Timestamp,
    account: Account,
}

/// The versions of an account, oldest first: never none.
pub trait Chain: Send + Sync + 'static {
    fn of(version: Version) -> Self;
    fn versions(&self) -> &[Version];
    fn drop_oldest(&mut self);
    fn push(&mut self, version: Version);

    fn newest(&self) -> Version {
        *self.versions().last().expect("an account has a version")
    }

    fn at(&self, begun: Timestamp) -> Option<Version> {
        self.versions().iter().rev().find(|version| version.written <= begun).copied()
    }

    fn write(&mut self, version: Version) {
        if self.versions().len() == VERSIONS_MAX {
            self.drop_oldest();
        }
        self.push(version);
    }
}

impl Chain for Vec<Version> {
    fn of(version: Version) -> Self {
        vec![version]
    }

    fn versions(&self) -> &[Version] {
        self
    }

    fn drop_oldest(&mut self) {
        self.remove(0);
    }

    fn push(&mut self, version: Version) {
        self.push(version);
    }
}

impl Chain for SmallVec<[Version; VERSIONS_MAX]> {
    fn of(version: Version) -> Self {
        SmallVec::from_slice(&[version])
    }

    fn versions(&self) -> &[Version] {
        self
    }

    fn drop_oldest(&mut self) {
        self.remove(0);
    }

    fn push(&mut self, version: Version) {
        self.push(version);
    }
}

/// Why a transaction is to begin anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// What it read is not the newest any more, or has been dropped.
    Newer,
    /// Another transaction is about to write it.
    Marked,
}

/// What a transaction writes, and the version it read before.
pub struct Write {
    account: u32,
    read: Timestamp,
    state: Account,
}

/// A store of versions.
pub trait Store: Send + Sync + 'static {
    /// A begin timestamp for a thread.
    fn begin(&self, thread: usize) -> Timestamp;
    /// An account as of then.
    fn read(&self, account: u32, begun: Timestamp) -> Result<Version, Conflict>;
    /// Makes the writes, all or none.
    fn commit(&self, thread: usize, writes: &[Write]) -> Result<(), Conflict>;
    /// An account as it is now, when nobody writes.
    fn newest(&self, account: u32) -> Account;
}

/// Makes a transfer, as often as it takes. Says how many attempts were aborted.
pub fn transfer(
    store: &impl Store,
    thread: usize,
    deal: &Deal,
    audit: Option<&Audit>,
) -> (u64, Result<Receipt, Refused>) {
    let (mut aborts, mut marks) = (0, 0);
    loop {
        match attempt(store, thread, deal, audit) {
            Ok(outcome) => return (aborts, outcome),
            Err(conflict) => {
                aborts += 1;
                marks = if conflict == Conflict::Marked { marks + 1 } else { 0 };
                if marks < MARKS_MAX {
                    spin_loop();
                } else {
                    thread::yield_now();
                }
            }
        }
    }
}

fn attempt(
    store: &impl Store,
    thread: usize,
    deal: &Deal,
    audit: Option<&Audit>,
) -> Result<Result<Receipt, Refused>, Conflict> {
    let known = audit.map(|audit| audit.begin(deal));
    let begun = store.begin(thread);
    let from = store.read(deal.from, begun)?;
    let to = store.read(deal.to, begun)?;
    if let (Some(audit), Some(known)) = (audit, known) {
        audit.read(known, [from.account.transfers, to.account.transfers]);
    }
    let (mut payer, mut payee) = (from.account, to.account);
    let receipt = match pay(&mut payer, &mut payee, u64::from(deal.amount)) {
        Ok(receipt) => receipt,
        Err(refused) => return Ok(Err(refused)),
    };
    let writes = [
        Write { account: deal.from, read: from.written, state: payer },
        Write { account: deal.to, read: to.written, state: payee },
    ];
    store.commit(thread, &writes)?;
    if let Some(audit) = audit {
        audit.commit(deal, receipt);
    }
    Ok(Ok(receipt))
}

/// The key of an account: bytes, as the first plan had it, in all of these stores.
fn key(account: u32) -> [u8; 8] {
    u64::from(account).to_le_bytes()
}

fn first(_: u32) -> Version {
    Version { written: 0, account: Account::OPENED }
}

/// One map behind one lock.
pub struct LockedMap {
    accounts: RwLock<HashMap<Vec<u8>, Vec<Version>>>,
    /// The youngest commit. Written with the lock held.
    clock: AtomicU64,
}

impl LockedMap {
    pub fn new(accounts: u32) -> Self {
        let versions = (0..accounts).map(|account| (key(account).to_vec(), vec![first(account)]));
        LockedMap { accounts: RwLock::new(versions.collect()), clock: AtomicU64::new(0) }
    }
}

impl Store for LockedMap {
    fn begin(&self, _: usize) -> Timestamp {
        self.clock.load(Ordering::Acquire)
    }

    fn read(&self, account: u32, begun: Timestamp) -> Result<Version, Conflict> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts[&key(account)[..]].at(begun).ok_or(Conflict::Newer)
    }

    fn commit(&self, _: usize, writes: &[Write]) -> Result<(), Conflict> {
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        if writes.iter().any(|write| accounts[&key(write.account)[..]].newest().written != write.read) {
            return Err(Conflict::Newer);
        }
        let written = self.clock.load(Ordering::Relaxed) + 1;
        for write in writes {
            let chain = accounts.get_mut(&key(write.account)[..]).expect("the account was read");
            chain.write(Version { written, account: write.state });
        }
        self.clock.store(written, Ordering::Release);
        Ok(())
    }

    fn newest(&self, account: u32) -> Account {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts[&key(account)[..]].newest().account
    }
}

/// Where timestamps come from.
pub trait Clock: Send + Sync + 'static {
    fn new(threads: usize) -> Self;
    fn begin(&self, thread: usize) -> Timestamp;
    fn commit(&self, thread: usize) -> Timestamp;
}

/// One counter for all.
pub struct OneClock {
    youngest: CachePadded<AtomicU64>,
}

impl Clock for OneClock {
    fn new(_: usize) -> Self {
        OneClock { youngest: CachePadded::new(AtomicU64::new(0)) }
    }

    fn begin(&self, _: usize) -> Timestamp {
        self.youngest.load(Ordering::Acquire)
    }

    fn commit(&self, _: usize) -> Timestamp {
        self.youngest.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// A range of timestamps for each thread, and another one when it is used up.
pub struct Ranges {
    next_range: CachePadded<AtomicU64>,
    /// The next timestamp of each thread, which alone uses it. At the end of a range it takes a new
    /// one.
    next: Vec<CachePadded<AtomicU64>>,
}

impl Clock for Ranges {
    fn new(threads: usize) -> Self {
        // Range 0 is nobody's: its end makes each thread take one.
        let next = (0..threads).map(|_| CachePadded::new(AtomicU64::new(0))).collect();
        Ranges { next_range: CachePadded::new(AtomicU64::new(1)), next }
    }

    fn begin(&self, thread: usize) -> Timestamp {
        let mut now = self.next[thread].load(Ordering::Relaxed);
        if now.is_multiple_of(RANGE) {
            now = self.next_range.fetch_add(1, Ordering::AcqRel) * RANGE;
        }
        // The first of a range is left out, so that a multiple stands for the end of one.
        self.next[thread].store(now + 1, Ordering::Relaxed);
        now + 1
    }

    fn commit(&self, thread: usize) -> Timestamp {
        self.begin(thread)
    }
}

/// An account in a concurrent map.
struct Entry<C> {
    /// A transaction is about to write it.
    is_marked: bool,
    chain: C,
}

/// A concurrent map.
pub struct ConcurrentMap<C, T> {
    accounts: DashMap<Vec<u8>, Entry<C>, RandomState>,
    clock: T,
}

impl<C: Chain, T: Clock> ConcurrentMap<C, T> {
    pub fn new(accounts: u32, threads: usize) -> Self {
        let entry = |account| Entry { is_marked: false, chain: C::of(first(account)) };
        let accounts = (0..accounts).map(|account| (key(account).to_vec(), entry(account))).collect();
        ConcurrentMap { accounts, clock: T::new(threads) }
    }

    fn change<R>(&self, account: u32, change: impl FnOnce(&mut Entry<C>) -> R) -> R {
        change(&mut self.accounts.get_mut(&key(account)[..]).expect("the account was opened"))
    }

    fn mark(&self, write: &Write) -> Result<(), Conflict> {
        self.change(write.account, |entry| {
            if entry.is_marked {
                return Err(Conflict::Marked);
            }
            if entry.chain.newest().written != write.read {
                return Err(Conflict::Newer);
            }
            entry.is_marked = true;
            Ok(())
        })
    }
}

impl<C: Chain, T: Clock> Store for ConcurrentMap<C, T> {
    fn begin(&self, thread: usize) -> Timestamp {
        self.clock.begin(thread)
    }

    fn read(&self, account: u32, begun: Timestamp) -> Result<Version, Conflict> {
        let entry = self.accounts.get(&key(account)[..]).expect("the account was opened");
        if entry.is_marked { Err(Conflict::Marked) } else { entry.chain.at(begun).ok_or(Conflict::Newer) }
    }

    fn commit(&self, thread: usize, writes: &[Write]) -> Result<(), Conflict> {
        for (at, write) in writes.iter().enumerate() {
            if let Err(conflict) = self.mark(write) {
                for marked in &writes[..at] {
                    self.change(marked.account, |entry| entry.is_marked = false);
                }
                return Err(conflict);
            }
        }
        let written = self.clock.commit(thread);
        for write in writes {
            self.change(write.account, |entry| {
                debug_assert!(entry.chain.newest().written < written, "versions are in the order of commits");
                entry.chain.write(Version { written, account: write.state });
                entry.is_marked = false;
            });
        }
        Ok(())
    }

    fn newest(&self, account: u32) -> Account {
        self.accounts.get(&key(account)[..]).expect("the account was opened").chain.newest().account
    }
}
