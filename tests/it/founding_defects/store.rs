//! What a store of accounts can be asked, what it has to answer, and Freehold's runtime as such a
//! store.

use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Handle, Limits, Objects, Outcome, OwnerId, Runtime,
    Snapshot, SnapshotError,
};

use crate::support::start;

#[derive(Clone, Debug)]
pub enum Message {
    /// Gives an account this balance; it need not exist.
    Open(u64, i64),
    Add(u64, i64),
    Pay {
        from: u64,
        to: u64,
        amount: i64,
    },
    /// Takes from an account, if it and the other together have as much.
    Withdraw {
        from: u64,
        other: u64,
        amount: i64,
    },
    Read(Vec<u64>),
    Remove(Vec<u64>),
    Give(u64, OwnerId),
    /// Is for no account at all.
    Nobody,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    Funds,
    Absent,
    Access(AccessError<u64>),
}

impl From<AccessError<u64>> for Refusal {
    fn from(error: AccessError<u64>) -> Self {
        Refusal::Access(error)
    }
}

/// The balances a message left, read or removed; `None` for an account that does not exist.
pub type Balances = Vec<Option<i64>>;

pub type Answer = Result<Balances, AskError<Refusal>>;

/// Old versions a shard keeps for readers that are open, before it revokes the oldest of them.
pub const VERSIONS_MAX: usize = 200;

/// A store under test.
pub trait Store: Sync {
    /// The shard an account is at home on, whether it exists or not. There are at least two.
    fn home(&self, account: u64) -> usize;

    fn ask_as(&self, sender: OwnerId, message: Message) -> Answer;

    /// Many messages at once, and an answer for each.
    fn ask_all(&self, messages: Vec<Message>) -> Vec<Answer>;

    /// A reader of all accounts as they are now.
    fn open_reader(&self) -> Box<dyn Reader + '_>;

    /// How many old versions the shard keeps that keeps most.
    fn versions_kept(&self) -> usize;

    /// Two threads are about to send their next message, or read, at the same time. A defective
    /// store uses it to have what may go wrong go wrong for certain: a canary that dies by chance
    /// is of no use.
    fn line_up(&self) {}

    fn ask(&self, message: Message) -> Answer {
        self.ask_as(OwnerId(0), message)
    }
}

/// Reads the accounts as they were when it was opened, until it is dropped or revoked.
pub trait Reader {
    /// The money in all of them.
    fn sum(&self) -> Result<i64, SnapshotError>;
}

/// The accounts while a message runs.
pub trait Accounts {
    fn get(&mut self, account: u64) -> Result<Option<i64>, Refusal>;
    fn set(&mut self, account: u64, balance: i64) -> Result<(), Refusal>;
    fn remove(&mut self, account: u64) -> Result<Option<i64>, Refusal>;
    fn give(&mut self, account: u64, to: OwnerId) -> Result<(), Refusal>;
}

impl Message {
    /// The accounts it writes, and those it only reads.
    pub fn addressees(&self) -> (Vec<u64>, Vec<u64>) {
        match self {
            Message::Open(id, _) | Message::Add(id, _) | Message::Give(id, _) => (vec![*id], vec![]),
            Message::Pay { from, to, .. } => (vec![*from, *to], vec![]),
            Message::Withdraw { from, other, .. } => (vec![*from], vec![*other]),
            Message::Remove(ids) => (ids.clone(), vec![]),
            Message::Read(ids) => (vec![], ids.clone()),
            Message::Nobody => (vec![], vec![]),
        }
    }

    /// What it does, on whichever store.
    pub fn apply(&self, accounts: &mut impl Accounts) -> Result<Balances, Refusal> {
        match *self {
            Message::Open(id, balance) => {
                accounts.set(id, balance)?;
                Ok(vec![Some(balance)])
            }
            Message::Add(id, amount) => {
                let balance = accounts.get(id)?.ok_or(Refusal::Absent)? + amount;
                accounts.set(id, balance)?;
                Ok(vec![Some(balance)])
            }
            Message::Pay { from, to, amount } => {
                let left = accounts.get(from)?.ok_or(Refusal::Absent)? - amount;
                let made = accounts.get(to)?.ok_or(Refusal::Absent)? + amount;
                if left < 0 {
                    return Err(Refusal::Funds);
                }
                accounts.set(from, left)?;
                accounts.set(to, made)?;
                Ok(vec![Some(left), Some(made)])
            }
            Message::Withdraw { from, other, amount } => {
                let has = accounts.get(from)?.ok_or(Refusal::Absent)?;
                if has + accounts.get(other)?.ok_or(Refusal::Absent)? < amount {
                    return Err(Refusal::Funds);
                }
                accounts.set(from, has - amount)?;
                Ok(vec![Some(has - amount)])
            }
            Message::Read(ref ids) => ids.iter().map(|id| accounts.get(*id)).collect(),
            Message::Remove(ref ids) => ids.iter().map(|id| accounts.remove(*id)).collect(),
            Message::Give(id, to) => accounts.give(id, to).map(|()| vec![]),
            Message::Nobody => Ok(vec![]),
        }
    }
}

pub struct Bank;

impl Actor for Bank {
    type Id = u64;
    type State = i64;
    type Message = Message;
    type Reply = Balances;
    type Error = Refusal;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        let (writes, reads) = message.addressees();
        writes.into_iter().for_each(|id| to.write(id));
        reads.into_iter().for_each(|id| to.read(id));
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Balances, Refusal> {
        message.apply(objects)
    }
}

impl Accounts for Objects<'_, Bank> {
    fn get(&mut self, account: u64) -> Result<Option<i64>, Refusal> {
        Ok(Objects::get(self, account)?.copied())
    }

    fn set(&mut self, account: u64, balance: i64) -> Result<(), Refusal> {
        self.insert(account, balance)?;
        Ok(())
    }

    fn remove(&mut self, account: u64) -> Result<Option<i64>, Refusal> {
        Ok(Objects::remove(self, account)?)
    }

    fn give(&mut self, account: u64, to: OwnerId) -> Result<(), Refusal> {
        Ok(self.transfer(account, to)?)
    }
}

/// Freehold's runtime.
pub struct Freehold {
    runtime: Runtime<Bank>,
    handle: Handle<Bank>,
}

impl Freehold {
    pub fn open(shards: usize) -> Self {
        let limits = Limits { versions_max: VERSIONS_MAX, ..Limits::default() };
        let runtime = start(shards, Config { limits, ..Config::default() });
        Freehold { handle: runtime.handle(), runtime }
    }

    pub fn close(self) {
        let report = self.runtime.shutdown();
        assert!(report.drained && report.deaths.is_empty(), "{report}");
    }
}

impl Store for Freehold {
    fn home(&self, account: u64) -> usize {
        self.handle.home(&account).index()
    }

    fn ask_as(&self, sender: OwnerId, message: Message) -> Outcome<Bank> {
        self.handle.sending_as(sender).ask(message).wait()
    }

    fn ask_all(&self, messages: Vec<Message>) -> Vec<Outcome<Bank>> {
        self.handle.ask_all(messages).wait()
    }

    fn open_reader(&self) -> Box<dyn Reader> {
        Box::new(self.handle.snapshot().wait().expect("the runtime runs"))
    }

    fn versions_kept(&self) -> usize {
        let stats = self.handle.stats();
        stats.shards.iter().map(|shard| shard.counters.versions as usize).max().expect("there is a shard")
    }
}

impl Reader for Snapshot<Bank> {
    fn sum(&self) -> Result<i64, SnapshotError> {
        self.fold(|| 0, |sum, _, balance| *sum += balance, |a, b| a + b).wait()
    }
}
