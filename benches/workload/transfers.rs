//! Money transfers between accounts of 64 bytes: the actor, the transfers drawn from a seed, the
//! same work with ordered mutex pairs, and the proof that it was done.
//!
//! Every shard has equally many accounts, and account `n` of shard `s` has the number `s *
//! accounts_of_shard + n`. Accounts are opened with so much money that no transfer is refused.
//! Transfers therefore commute, and what each account holds in the end is known from the transfers
//! alone: [`Expected`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;
use freehold::{AccessError, Actor, Addressees, Objects, Ownership};
use rand_distr::uniform::Uniform;
use rand_distr::{Bernoulli, Distribution, Zipf};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::SEED;

/// What is on an account when it is opened: more than all transfers of a run could take.
pub const OPENING: u64 = 1 << 50;
/// The largest amount of a transfer.
const AMOUNT_MAX: u16 = 100;

/// The actor: accounts.
pub struct Bank;

/// What is kept of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What is on it.
    pub balance: u64,
    /// Transfers it had a part in. The first is number 1, and so on without a gap: who reads the
    /// account knows which of them it has seen.
    pub transfers: u64,
    /// Stands for the other fields an account has.
    others: [u64; 6],
}

const _: () = assert!(size_of::<Account>() == 64);
const _: () = assert!(size_of::<Order>() == 32);

impl Account {
    /// As it is when it is opened.
    pub const OPENED: Account = Account { balance: OPENING, transfers: 0, others: [0; 6] };
}

/// What accounts are told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Opens the account, and says who may write it.
    Open { id: u64, ownership: Ownership },
    /// Moves money from one account to another.
    Transfer { from: u64, to: u64, amount: u64 },
    /// Asks what is on the account.
    Read { id: u64 },
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    Opened,
    /// The money moved: the how manyth transfer it was for either account.
    Moved {
        from: u64,
        to: u64,
    },
    /// What is on the account, and how many transfers it had a part in.
    Read {
        balance: u64,
        transfers: u64,
    },
}

/// Why an order was refused. The work is such that none is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("account {0} was never opened")]
    Absent(u64),
    #[error("there is not so much on the account")]
    NoFunds,
    #[error(transparent)]
    Access(#[from] AccessError<u64>),
}

impl Actor for Bank {
    type Id = u64;
    type State = Account;
    type Message = Order;
    type Reply = Receipt;
    type Error = Refused;

    #[inline]
    fn addressees(order: &Order, to: &mut Addressees<u64>) {
        match *order {
            Order::Open { id, .. } => to.write(id),
            Order::Transfer { from, to: payee, .. } => {
                to.write(from);
                to.write(payee);
            }
            Order::Read { id } => to.read(id),
        }
    }

    #[inline]
    fn receive(order: &Order, objects: &mut Objects<'_, Self>) -> Result<Receipt, Refused> {
        match *order {
            Order::Open { id, ownership } => {
                objects.insert(id, Account::OPENED)?;
                match ownership {
                    Ownership::Owned(owner) => objects.transfer(id, owner)?,
                    Ownership::Shared => objects.share(id)?,
                    Ownership::Immutable => objects.freeze(id)?,
                }
                Ok(Receipt::Opened)
            }
            Order::Transfer { from, to, amount } => {
                let (payer, payee) = objects.get_pair_mut(from, to)?;
                pay(payer.ok_or(Refused::Absent(from))?, payee.ok_or(Refused::Absent(to))?, amount)
            }
            Order::Read { id } => {
                let Account { balance, transfers, .. } = *objects.get(id)?.ok_or(Refused::Absent(id))?;
                Ok(Receipt::Read { balance, transfers })
            }
        }
    }
}

/// Moves money, wherever the accounts are kept: all that is compared does just this.
#[inline]
pub fn pay(payer: &mut Account, payee: &mut Account, amount: u64) -> Result<Receipt, Refused> {
    payer.balance = payer.balance.checked_sub(amount).ok_or(Refused::NoFunds)?;
    payee.balance += amount;
    payer.transfers += 1;
    payee.transfers += 1;
    Ok(Receipt::Moved { from: payer.transfers, to: payee.transfers })
}

/// A transfer to be made, between accounts known by their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Deal {
    pub from: u32,
    pub to: u32,
    pub amount: u16,
    /// The two live on different shards.
    pub is_cross: bool,
}

/// Which accounts are drawn how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// By Zipf's law with this exponent, among the accounts of each shard.
    Zipf(f64),
    /// One account of this shard has a part in every transfer; the others are all alike. For
    /// transfers between shards only.
    Hot(usize),
}

/// What transfers to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// The share of transfers between accounts of two shards, 0 to 1.
    pub cross: f64,
    pub popularity: Popularity,
}

/// Deals each shard has, of which it makes as many as are asked for, from the first again after the
/// last. Few enough to leave most of the cache to the accounts.
const DEALS: usize = 1 << 16;

/// The transfers of all shards.
#[derive(Debug)]
pub struct Script {
    of_shards: Vec<Vec<Deal>>,
    has_cross: bool,
}

impl Script {
    /// Draws transfers. Each shard's are between one account of its own and one of its own or of
    /// another shard. Different streams draw differently.
    ///
    /// Every shard needs at least two accounts, and transfers between shards need two shards.
    pub fn draw(mix: Mix, shards: usize, accounts_of_shard: u32, stream: u64) -> Self {
        assert!(accounts_of_shard >= 2, "a transfer needs two accounts");
        assert!(mix.cross == 0.0 || shards >= 2, "transfers between shards need two of them");
        let of_shard = |here| {
            let seed = SEED ^ (stream << 16) ^ here as u64;
            let mut draws = Draws::new(mix, shards, accounts_of_shard, here, seed);
            (0..DEALS).map(|_| draws.deal()).collect()
        };
        Script { of_shards: (0..shards).map(of_shard).collect(), has_cross: mix.cross > 0.0 }
    }

    /// Whether there may be transfers between shards.
    pub fn has_cross(&self) -> bool {
        self.has_cross
    }

    /// The first `count` transfers of a shard, in pieces of at most `piece`.
    pub fn pieces(&self, shard: usize, count: u64, piece: usize) -> impl Iterator<Item = &[Deal]> {
        let mut left = count as usize;
        let pieces = self.of_shards[shard].chunks(piece).cycle();
        pieces.map_while(move |deals| {
            let taken = &deals[..deals.len().min(left)];
            left -= taken.len();
            (!taken.is_empty()).then_some(taken)
        })
    }
}

/// Draws the transfers of one shard.
struct Draws {
    random: Pcg64,
    is_cross: Bernoulli,
    coin: Bernoulli,
    other_shard: Option<Uniform<usize>>,
    all_alike: Uniform<u32>,
    zipf: Option<Zipf<f64>>,
    amount: Uniform<u16>,
    hot: Option<usize>,
    here: usize,
    accounts_of_shard: u32,
}

impl Draws {
    fn new(mix: Mix, shards: usize, accounts_of_shard: u32, here: usize, seed: u64) -> Self {
        let zipf =
            |exponent| Zipf::new(f64::from(accounts_of_shard), exponent).expect("the exponent is positive");
        let (zipf, hot) = match mix.popularity {
            Popularity::Uniform => (None, None),
            Popularity::Zipf(exponent) => (Some(zipf(exponent)), None),
            Popularity::Hot(shard) => (None, Some(shard)),
        };
        assert!(hot.is_none() || mix.cross == 1.0, "a hot account is for transfers between shards");
        Draws {
            random: Pcg64::seed_from_u64(seed),
            is_cross: Bernoulli::new(mix.cross).expect("a share is from 0 to 1"),
            coin: Bernoulli::new(0.5).expect("a share is from 0 to 1"),
            other_shard: (shards > 1).then(|| Uniform::new(0, shards - 1).expect("there is another shard")),
            all_alike: Uniform::new(0, accounts_of_shard).expect("there are accounts"),
            zipf,
            amount: Uniform::new_inclusive(1, AMOUNT_MAX).expect("1 is below the largest amount"),
            hot,
            here,
            accounts_of_shard,
        }
    }

    fn account_of(&mut self, shard: usize) -> u32 {
        let nth = match &self.zipf {
            // It counts from 1.
            Some(zipf) => zipf.sample(&mut self.random) as u32 - 1,
            None => self.all_alike.sample(&mut self.random),
        };
        shard as u32 * self.accounts_of_shard + nth
    }

    fn deal(&mut self) -> Deal {
        let is_cross = self.is_cross.sample(&mut self.random);
        let mut there = self.here;
        if is_cross && let Some(other_shard) = &self.other_shard {
            let other = other_shard.sample(&mut self.random);
            there = if other < self.here { other } else { other + 1 };
        }
        let mut ours = self.account_of(self.here);
        match self.hot {
            Some(hot) if hot == self.here => ours = hot as u32 * self.accounts_of_shard,
            Some(hot) => there = hot,
            None => {}
        }
        let mut theirs = self.account_of(there);
        if self.hot.is_some_and(|hot| hot != self.here) {
            theirs = there as u32 * self.accounts_of_shard;
        }
        while theirs == ours {
            theirs = self.account_of(there);
        }
        let (from, to) = if self.coin.sample(&mut self.random) { (ours, theirs) } else { (theirs, ours) };
        Deal { from, to, amount: self.amount.sample(&mut self.random), is_cross }
    }
}

/// What is on every account after some transfers, as it follows from the transfers.
#[derive(Clone, Debug)]
pub struct Expected {
    accounts: Vec<(u64, u64)>,
}

impl Expected {
    /// So many accounts, just opened.
    pub fn new(accounts: usize) -> Self {
        Expected { accounts: vec![(OPENING, 0); accounts] }
    }

    /// These transfers were made as well.
    pub fn add(&mut self, deals: &[Deal]) {
        for deal in deals {
            let (payer, payee) = (deal.from as usize, deal.to as usize);
            self.accounts[payer].0 -= u64::from(deal.amount);
            self.accounts[payee].0 += u64::from(deal.amount);
            self.accounts[payer].1 += 1;
            self.accounts[payee].1 += 1;
        }
    }

    /// The first `count` transfers of every shard were made as well.
    pub fn add_all(&mut self, script: &Script, count: u64) {
        for shard in 0..script.of_shards.len() {
            script.pieces(shard, count, DEALS).for_each(|deals| self.add(deals));
        }
    }

    /// The first account that does not hold what it must, as a sentence. `found` gives each
    /// account's balance and number of transfers, in order.
    pub fn check(&self, found: impl IntoIterator<Item = (u64, u64)>) -> Result<(), String> {
        let mut found = found.into_iter();
        for (number, expected) in self.accounts.iter().enumerate() {
            let found = found.next();
            if found.as_ref() != Some(expected) {
                return Err(format!(
                    "account {number} should have (balance, transfers) {expected:?} and has {found:?}"
                ));
            }
        }
        if found.next().is_some() { Err("there are more accounts than were opened".into()) } else { Ok(()) }
    }
}

/// The honest lower bound: each account behind a mutex in a cache line pair of its own, and a
/// transfer takes its two in the order of their numbers. No ids, no hashing, no before-images.
pub struct Mutexes {
    accounts: Vec<CachePadded<Mutex<Account>>>,
}

impl Mutexes {
    /// So many accounts, just opened.
    pub fn new(accounts: usize) -> Self {
        Mutexes { accounts: (0..accounts).map(|_| CachePadded::new(Mutex::new(Account::OPENED))).collect() }
    }

    /// Makes a transfer.
    #[inline]
    pub fn transfer(&self, deal: &Deal) -> Result<Receipt, Refused> {
        let mut lower = self.lock(deal.from.min(deal.to));
        let mut upper = self.lock(deal.from.max(deal.to));
        let (payer, payee) =
            if deal.from < deal.to { (&mut *lower, &mut *upper) } else { (&mut *upper, &mut *lower) };
        pay(payer, payee, u64::from(deal.amount))
    }

    #[inline]
    fn lock(&self, account: u32) -> MutexGuard<'_, Account> {
        self.accounts[account as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each account holds, for [`Expected::check`].
    pub fn found(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.accounts.len()).map(|account| {
            let account = self.lock(account as u32);
            (account.balance, account.transfers)
        })
    }
}

/// Finds transactions that began after another had committed and did not see it. It costs cache
/// misses of its own, so what is audited is not timed.
pub struct Audit {
    /// For each account, how many transfers it is known to have had a part in.
    committed: Vec<CachePadded<AtomicU64>>,
    stale: AtomicU64,
}

/// How many transfers the two accounts of a deal were known to have had when a transaction began.
#[derive(Clone, Copy, Debug)]
pub struct Known([u64; 2]);

impl Audit {
    /// For so many accounts. It knows of nothing yet.
    pub fn new(accounts: usize) -> Self {
        let committed = (0..accounts).map(|_| CachePadded::new(AtomicU64::new(0))).collect();
        Audit { committed, stale: AtomicU64::new(0) }
    }

    /// To be called before a transaction begins.
    pub fn begin(&self, deal: &Deal) -> Known {
        Known([deal.from, deal.to].map(|account| self.committed[account as usize].load(Ordering::Acquire)))
    }

    /// The transaction read that the accounts had had so many transfers.
    pub fn read(&self, known: Known, seen: [u64; 2]) {
        if known.0.iter().zip(seen).any(|(&known, seen)| seen < known) {
            self.stale.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The transaction has committed, and whoever made it has heard so.
    pub fn commit(&self, deal: &Deal, receipt: Receipt) {
        let Receipt::Moved { from, to } = receipt else { return };
        for (account, transfers) in [(deal.from, from), (deal.to, to)] {
            self.committed[account as usize].fetch_max(transfers, Ordering::AcqRel);
        }
    }

    /// For transactions that are one step to whoever makes them: what their receipt says they have
    /// read.
    pub fn done(&self, deal: &Deal, known: Known, receipt: Receipt) {
        if let Receipt::Moved { from, to } = receipt {
            self.read(known, [from - 1, to - 1]);
            self.commit(deal, receipt);
        }
    }

    /// Transactions that read what was out of date when they began.
    pub fn stale(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }
}
