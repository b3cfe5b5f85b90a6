//! A small store with one of the founding system's flaws, so that a check can be seen to find it.
//!
//! It has two shards, in one table behind one lock, and like the founding system a fast path for what is on one shard and another
//! for what is not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, RwLock};

use freehold::{AccessError, AskError, OwnerId};

use crate::store::{Accounts, Answer, Message, Refusal, Store};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A store as it should be.
    None,
    /// Reads and computes under a read lock, and writes back under a write lock what may have changed since.
    WritesBackLate,
    /// Runs every message of a batch on what there was before the batch.
    ReadsOncePerBatch,
    /// A batch has answers for those messages only that were not refused.
    SkipsTheRefused,
    /// Does not ask who owns what on the fast path,
    TrustsOnOneShard,
    /// or on the other.
    TrustsAcrossShards,
    /// Takes the fast path, on the first shard, for what is nowhere: it asks whether all known objects of a message are on one shard,
    /// and of none that is true.
    TakesNowhereForHere,
}

#[derive(Clone, Copy)]
struct Account {
    balance: i64,
    owner: OwnerId,
}

/// An account's shard and id.
type Place = (usize, u64);

pub struct Canary {
    flaw: Flaw,
    accounts: RwLock<HashMap<Place, Account>>,
    /// Messages that have yet to wait for each other between reading and writing.
    to_line_up: AtomicUsize,
    lined_up: Barrier,
}

impl Canary {
    pub fn open(flaw: Flaw) -> Self {
        let (to_line_up, lined_up) = (AtomicUsize::new(0), Barrier::new(2));
        Canary { flaw, accounts: RwLock::default(), to_line_up, lined_up }
    }

    /// Runs a message on `accounts`. What it wrote is still to be written back.
    fn run(
        &self,
        accounts: &HashMap<Place, Account>,
        sender: OwnerId,
        message: &Message,
    ) -> (Answer, Written) {
        let (writes, reads) = message.addressees();
        let ids: BTreeSet<u64> = writes.into_iter().chain(reads).collect();
        let is_known = |id| accounts.contains_key(&(0, id)) || accounts.contains_key(&(1, id));
        let homes: BTreeSet<usize> = ids.iter().map(|id| self.home(*id)).collect();
        let is_guessing = self.flaw == Flaw::TakesNowhereForHere;
        let is_fast = homes.len() == 1 || is_guessing && !ids.iter().any(|id| is_known(*id));
        if ids.is_empty() && !is_guessing {
            return (Err(AskError::Unaddressed), Written::new());
        }
        let checks_owners =
            self.flaw != if is_fast { Flaw::TrustsOnOneShard } else { Flaw::TrustsAcrossShards };
        let place = |id| {
            let guessed = usize::from(accounts.contains_key(&(1, id)));
            (if is_fast && is_guessing { guessed } else { self.home(id) }, id)
        };
        let mut run = Run { accounts, place, sender, checks_owners, written: Written::new() };
        match message.apply(&mut run) {
            Ok(balances) => (Ok(balances), run.written),
            Err(refusal) => (Err(AskError::Aborted(refusal)), Written::new()),
        }
    }

    fn write_back(&self, written: Written) {
        write_back(&mut self.accounts.write().expect("nobody panics with the lock"), written);
    }

    /// Reads, and only then writes. Of two messages that are lined up both have read before the one that removes writes, and the one
    /// that does not writes last.
    fn ask_late(&self, sender: OwnerId, message: &Message) -> Answer {
        let one_less = |waiting: usize| waiting.checked_sub(1);
        let waits = self.to_line_up.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        let meet = || waits.then(|| self.lined_up.wait());
        let (answer, mut written) =
            self.run(&self.accounts.read().expect("nobody panics with the lock"), sender, message);
        meet();
        if matches!(message, Message::Remove(_)) {
            self.write_back(std::mem::take(&mut written));
        }
        meet();
        self.write_back(written);
        answer
    }
}

impl Store for Canary {
    fn home(&self, account: u64) -> usize {
        (account % 2) as usize
    }

    fn ask_as(&self, sender: OwnerId, message: Message) -> Answer {
        if self.flaw == Flaw::WritesBackLate {
            return self.ask_late(sender, &message);
        }
        let accounts = &mut self.accounts.write().expect("nobody panics with the lock");
        let (answer, written) = self.run(accounts, sender, &message);
        write_back(accounts, written);
        answer
    }

    fn ask_all(&self, messages: Vec<Message>) -> Vec<Answer> {
        if self.flaw == Flaw::ReadsOncePerBatch {
            let accounts = &mut self.accounts.write().expect("nobody panics with the lock");
            let ran = messages.iter().map(|message| self.run(accounts, OwnerId(0), message));
            let (answers, written): (Vec<_>, Vec<_>) = ran.unzip();
            written.into_iter().for_each(|written| write_back(accounts, written));
            return answers;
        }
        let answers = messages.into_iter().map(|message| self.ask(message));
        answers.filter(|answer| answer.is_ok() || self.flaw != Flaw::SkipsTheRefused).collect()
    }

    fn line_up(&self) {
        self.to_line_up.store(2, Ordering::Relaxed);
    }
}

/// What a message wrote; `None` for what it removed.
type Written = BTreeMap<Place, Option<Account>>;

fn write_back(accounts: &mut HashMap<Place, Account>, written: Written) {
    for (place, account) in written {
        match account {
            Some(account) => accounts.insert(place, account),
            None => accounts.remove(&place),
        };
    }
}

/// A message that runs: what there is, and over it what it has written.
struct Run<'a, P> {
    accounts: &'a HashMap<Place, Account>,
    place: P,
    sender: OwnerId,
    checks_owners: bool,
    written: Written,
}

impl<P: Fn(u64) -> Place> Run<'_, P> {
    fn find(&self, id: u64) -> Option<Account> {
        let place = (self.place)(id);
        self.written.get(&place).copied().unwrap_or_else(|| self.accounts.get(&place).copied())
    }

    /// The account, if the sender may write it.
    fn writable(&self, id: u64) -> Result<Option<Account>, Refusal> {
        let (found, sender) = (self.find(id), self.sender);
        match found {
            Some(Account { owner, .. }) if self.checks_owners && owner != sender => {
                Err(AccessError::NotOwner { id, owner, sender }.into())
            }
            found => Ok(found),
        }
    }
}

impl<P: Fn(u64) -> Place> Accounts for Run<'_, P> {
    fn get(&mut self, id: u64) -> Result<Option<i64>, Refusal> {
        Ok(self.find(id).map(|account| account.balance))
    }

    fn set(&mut self, id: u64, balance: i64) -> Result<(), Refusal> {
        let owner = self.writable(id)?.map_or(self.sender, |account| account.owner);
        self.written.insert((self.place)(id), Some(Account { balance, owner }));
        Ok(())
    }

    fn remove(&mut self, id: u64) -> Result<Option<i64>, Refusal> {
        let removed = self.writable(id)?;
        self.written.insert((self.place)(id), None);
        Ok(removed.map(|account| account.balance))
    }

    fn give(&mut self, id: u64, to: OwnerId) -> Result<(), Refusal> {
        let account = self.writable(id)?.ok_or(AccessError::Absent { id })?;
        self.written.insert((self.place)(id), Some(Account { owner: to, ..account }));
        Ok(())
    }
}
