//! A small store with one of the founding system's flaws, so that a check can be seen to find it.
//!
//! It has two shards, in one table behind one lock, and like the founding system a fast path for
//! what is on one shard and another for what is not.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard};

use freehold::{AccessError, AskError, OwnerId, SnapshotError};

use super::store::{Accounts, Answer, Message, Reader, Refusal, Store, VERSIONS_MAX};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A store as it should be.
    None,
    /// Reads and computes under the lock, lets it go, and writes back what may have changed since.
    WritesBackLate,
    /// Runs every message of a batch on what there was before the batch.
    ReadsOncePerBatch,
    /// A batch has answers for those messages only that were not refused.
    SkipsTheRefused,
    /// Does not ask who owns what on the fast path,
    TrustsOnOneShard,
    /// or on the other.
    TrustsAcrossShards,
    /// Takes the fast path, on the first shard, for what is nowhere: it asks whether all known
    /// objects of a message are on one shard, and of none that is true.
    TakesNowhereForHere,
    /// Reads one shard after the other for a snapshot, each as it is by then.
    TearsSnapshots,
    /// Keeps every version that was written since the oldest reader was opened, and never revokes
    /// one.
    KeepsForEver,
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
    table: Mutex<Table>,
    /// Messages and readers that have yet to wait for each other.
    to_line_up: AtomicUsize,
    lined_up: Barrier,
}

impl Canary {
    pub fn open(flaw: Flaw) -> Self {
        let (to_line_up, lined_up) = (AtomicUsize::new(0), Barrier::new(2));
        Canary { flaw, table: Mutex::default(), to_line_up, lined_up }
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

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nobody panics with the lock")
    }

    fn write_back(&self, table: &mut Table, written: Written) {
        table.write_back(written);
        while self.flaw != Flaw::KeepsForEver && table.old.len() > VERSIONS_MAX {
            table.readers.pop_first();
            table.drop_old();
        }
    }

    /// Waits for the other, for who is lined up; does nothing for anybody else.
    fn meeting(&self) -> impl Fn() {
        let one_less = |waiting: usize| waiting.checked_sub(1);
        let waits = self.to_line_up.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        move || {
            if waits {
                self.lined_up.wait();
            }
        }
    }

    /// Reads, and only then writes. Of two messages that are lined up both have read before the one
    /// that removes writes, and the one that does not writes last.
    fn ask_late(&self, sender: OwnerId, message: &Message) -> Answer {
        let meet = self.meeting();
        let (answer, mut written) = self.run(&self.table().accounts, sender, message);
        meet();
        if matches!(message, Message::Remove(_)) {
            self.write_back(&mut self.table(), std::mem::take(&mut written));
        }
        meet();
        self.write_back(&mut self.table(), written);
        answer
    }

    fn ask_at_once(&self, sender: OwnerId, message: &Message) -> Answer {
        let table = &mut self.table();
        let (answer, written) = self.run(&table.accounts, sender, message);
        self.write_back(table, written);
        answer
    }
}

impl Store for Canary {
    fn home(&self, account: u64) -> usize {
        (account % 2) as usize
    }

    fn ask_as(&self, sender: OwnerId, message: Message) -> Answer {
        match self.flaw {
            Flaw::WritesBackLate => self.ask_late(sender, &message),
            Flaw::TearsSnapshots => {
                let meet = self.meeting();
                meet();
                let answer = self.ask_at_once(sender, &message);
                meet();
                answer
            }
            _ => self.ask_at_once(sender, &message),
        }
    }

    fn ask_all(&self, messages: Vec<Message>) -> Vec<Answer> {
        if self.flaw == Flaw::ReadsOncePerBatch {
            let table = &mut self.table();
            let ran = messages.iter().map(|message| self.run(&table.accounts, OwnerId(0), message));
            let (answers, written): (Vec<_>, Vec<_>) = ran.unzip();
            written.into_iter().for_each(|written| self.write_back(table, written));
            return answers;
        }
        let answers = messages.into_iter().map(|message| self.ask(message));
        answers.filter(|answer| answer.is_ok() || self.flaw != Flaw::SkipsTheRefused).collect()
    }

    fn open_reader(&self) -> Box<dyn Reader + '_> {
        let mut table = self.table();
        table.writes += 1;
        let opened = table.writes;
        table.readers.insert(opened);
        Box::new(CanaryReader { canary: self, opened })
    }

    fn versions_kept(&self) -> usize {
        self.table().old.len()
    }

    fn line_up(&self) {
        self.to_line_up.store(2, Ordering::Relaxed);
    }
}

/// A reader, opened before the write of the next number.
struct CanaryReader<'a> {
    canary: &'a Canary,
    opened: u64,
}

impl Reader for CanaryReader<'_> {
    fn sum(&self) -> Result<i64, SnapshotError> {
        if self.canary.flaw == Flaw::TearsSnapshots {
            let on = |shard| {
                let table = self.canary.table();
                let here = table.accounts.iter().filter(|((home, _), _)| *home == shard);
                here.map(|(_, account)| account.balance).sum::<i64>()
            };
            let meet = self.canary.meeting();
            let near = on(0);
            meet();
            meet();
            return Ok(near + on(1));
        }
        let accounts = self.canary.table().accounts_at(self.opened).ok_or(SnapshotError::Expired)?;
        Ok(accounts.values().map(|account| account.balance).sum())
    }
}

impl Drop for CanaryReader<'_> {
    fn drop(&mut self) {
        let table = &mut self.canary.table();
        table.readers.remove(&self.opened);
        table.drop_old();
    }
}

/// All accounts, and what they were as far as readers may need it.
#[derive(Default)]
struct Table {
    accounts: HashMap<Place, Account>,
    /// What was overwritten, oldest first, each with the number of the write.
    old: VecDeque<(u64, Place, Option<Account>)>,
    /// Those that are open.
    readers: BTreeSet<u64>,
    /// Counts writes, and openings of readers.
    writes: u64,
}

/// What a message wrote; `None` for what it removed.
type Written = BTreeMap<Place, Option<Account>>;

impl Table {
    fn write_back(&mut self, written: Written) {
        self.writes += 1;
        for (place, account) in written {
            let before = set(&mut self.accounts, place, account);
            if !self.readers.is_empty() {
                self.old.push_back((self.writes, place, before));
            }
        }
    }

    /// The accounts as a reader sees them that was opened then; `None` if it is not open any more.
    fn accounts_at(&self, opened: u64) -> Option<HashMap<Place, Account>> {
        let mut accounts = self.readers.contains(&opened).then(|| self.accounts.clone())?;
        for (_, place, before) in self.old.iter().rev().take_while(|(write, ..)| *write > opened) {
            set(&mut accounts, *place, *before);
        }
        Some(accounts)
    }

    /// Drops what no reader needs.
    fn drop_old(&mut self) {
        let oldest = self.readers.first().copied().unwrap_or(u64::MAX);
        while self.old.front().is_some_and(|(write, ..)| *write < oldest) {
            self.old.pop_front();
        }
    }
}

/// Returns what was there before.
fn set(accounts: &mut HashMap<Place, Account>, place: Place, account: Option<Account>) -> Option<Account> {
    match account {
        Some(account) => accounts.insert(place, account),
        None => accounts.remove(&place),
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
