//! SmallBank: customers with a savings and a checking account, and six short transactions over one or two customers.
//!
//! Source: M. Alomari, M. Cahill, A. Fekete, U. Röhm, "The Cost of Serializability on Platforms That Use Snapshot
//! Isolation", ICDE 2008; mix and amounts as in H-Store and BenchBase
//! (<https://github.com/cmu-db/benchbase>, `benchmarks/smallbank`): Amalgamate 15, Balance 15, DepositChecking 15,
//! SendPayment 25, TransactSavings 15, WriteCheck 15 of a hundred.
//!
//! What differs: amounts are whole cents; names are not looked up, customers are their numbers; and all three rows of a
//! customer share a shard. The invariant is that money comes and goes only as it was answered.

use std::ops::AddAssign;

use freehold_shard::{Addressees, ObjectId};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::draw::{Popularity, Skew};
use crate::stream::{Client, NoRow};
use crate::workload::{Refused, Rows, Workload};

/// What every account holds in the beginning, in cents.
const OPENING: i64 = 1_000_000;
/// What is taken for a check that is not covered, in cents.
const PENALTY: i64 = 100;

/// The workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmallBank {
    /// Customers; each has two accounts.
    pub customers: u64,
    /// How unevenly they are drawn.
    pub skew: Skew,
}

/// Which of a customer's accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Checking,
    Savings,
}

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    customer: u32,
    kind: Kind,
}

impl ObjectId for Account {
    fn placement(&self) -> impl std::hash::Hash {
        self.customer
    }
}

fn checking(customer: u32) -> Account {
    Account { customer, kind: Kind::Checking }
}

fn savings(customer: u32) -> Account {
    Account { customer, kind: Kind::Savings }
}

/// The six transactions. Amounts are in cents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Transaction {
    /// Moves all a customer has to another's checking account.
    Amalgamate { from: u32, to: u32 },
    /// Both balances of a customer, together.
    Balance { customer: u32 },
    /// Puts money into the checking account.
    DepositChecking { customer: u32, amount: i64 },
    /// From checking account to checking account, if there is enough.
    SendPayment { from: u32, to: u32, amount: i64 },
    /// Puts money into the savings account, or takes it, if there is enough.
    TransactSavings { customer: u32, amount: i64 },
    /// Takes money from the checking account, and a penalty if both accounts together do not cover it.
    WriteCheck { customer: u32, amount: i64 },
}

/// Cents in the bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Money {
    /// In all accounts; of a client, what it put in and took out.
    cents: i64,
    accounts: u64,
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        self.cents += other.cents;
        self.accounts += other.accounts;
    }
}

const NO_ACCOUNT: Refused<Account> = Refused::Broken("there is no such account");

fn balance(rows: &mut impl Rows<SmallBank>, account: Account) -> Result<i64, Refused<Account>> {
    rows.get(account)?.copied().ok_or(NO_ACCOUNT)
}

fn add(rows: &mut impl Rows<SmallBank>, account: Account, amount: i64) -> Result<(), Refused<Account>> {
    *rows.get_mut(account)?.ok_or(NO_ACCOUNT)? += amount;
    Ok(())
}

impl Workload for SmallBank {
    type Id = Account;
    type Row = i64;
    type Transaction = Transaction;
    /// What came into the bank (or left it, below 0), in cents; of a Balance, nothing.
    type Reply = i64;
    type Tally = Money;
    type Audit = Money;

    fn name(&self) -> &'static str {
        "smallbank"
    }

    fn load(&self, put: &mut dyn FnMut(Account, i64)) {
        for customer in 0..self.customers as u32 {
            put(checking(customer), OPENING);
            put(savings(customer), OPENING);
        }
    }

    fn draw(&self, client: &mut Client) -> Result<Vec<Transaction>, NoRow> {
        let popularity = Popularity::new(self.customers, self.skew);
        let account = |random: &mut _| checking(popularity.draw(random) as u32);
        let one = |client: &mut Client| -> Result<Transaction, NoRow> {
            let kind = client.random.random_range(0..100);
            let from = client.draw_here(account)?.customer;
            let spans = if matches!(kind, 0..15 | 45..70) { client.spans() } else { None };
            let mut other = || loop {
                let to = client.draw_other(spans, account)?.customer;
                if to != from {
                    return Ok(to);
                }
            };
            Ok(match kind {
                0..15 => Transaction::Amalgamate { from, to: other()? },
                15..30 => Transaction::Balance { customer: from },
                30..45 => Transaction::DepositChecking { customer: from, amount: 130 },
                45..70 => Transaction::SendPayment { from, to: other()?, amount: 500 },
                70..85 => Transaction::TransactSavings { customer: from, amount: 2020 },
                _ => Transaction::WriteCheck { customer: from, amount: 500 },
            })
        };
        (0..Self::STREAM).map(|_| one(client)).collect()
    }

    #[inline]
    fn addressees(transaction: &Transaction, to: &mut Addressees<Account>) {
        match *transaction {
            Transaction::Amalgamate { from, to: other } => {
                to.write(savings(from));
                to.write(checking(from));
                to.write(checking(other));
            }
            Transaction::Balance { customer } => {
                to.read(savings(customer));
                to.read(checking(customer));
            }
            Transaction::DepositChecking { customer, .. } => to.write(checking(customer)),
            Transaction::SendPayment { from, to: other, .. } => {
                to.write(checking(from));
                to.write(checking(other));
            }
            Transaction::TransactSavings { customer, .. } => to.write(savings(customer)),
            Transaction::WriteCheck { customer, .. } => {
                to.read(savings(customer));
                to.write(checking(customer));
            }
        }
    }

    #[inline]
    fn run(transaction: &Transaction, rows: &mut impl Rows<Self>) -> Result<i64, Refused<Account>> {
        match *transaction {
            Transaction::Amalgamate { from, to } => {
                let all = balance(rows, savings(from))? + balance(rows, checking(from))?;
                add(rows, checking(to), all)?;
                *rows.get_mut(savings(from))?.ok_or(NO_ACCOUNT)? = 0;
                *rows.get_mut(checking(from))?.ok_or(NO_ACCOUNT)? = 0;
                Ok(0)
            }
            Transaction::Balance { customer } => {
                balance(rows, savings(customer))?;
                balance(rows, checking(customer))?;
                Ok(0)
            }
            Transaction::DepositChecking { customer, amount } => {
                add(rows, checking(customer), amount)?;
                Ok(amount)
            }
            Transaction::SendPayment { from, to, amount } => {
                if balance(rows, checking(from))? < amount {
                    return Err(Refused::Aborted("not enough money"));
                }
                add(rows, checking(to), amount)?;
                add(rows, checking(from), -amount)?;
                Ok(0)
            }
            Transaction::TransactSavings { customer, amount } => {
                if balance(rows, savings(customer))? + amount < 0 {
                    return Err(Refused::Aborted("not enough money"));
                }
                add(rows, savings(customer), amount)?;
                Ok(amount)
            }
            Transaction::WriteCheck { customer, amount } => {
                let both = balance(rows, savings(customer))? + balance(rows, checking(customer))?;
                let taken = if both < amount { amount + PENALTY } else { amount };
                add(rows, checking(customer), -taken)?;
                Ok(-taken)
            }
        }
    }

    #[inline]
    fn tally(tally: &mut Money, _: &Transaction, reply: &i64) {
        tally.cents += reply;
    }

    fn audit(&self, audit: &mut Money, _: &Account, row: &i64) {
        *audit += Money { cents: *row, accounts: 1 };
    }

    fn verdict(&self, acknowledged: &Money, found: &Money) -> Result<(), String> {
        let accounts = 2 * self.customers;
        let cents = OPENING * accounts as i64 + acknowledged.cents;
        if *found == (Money { cents, accounts }) {
            return Ok(());
        }
        let Money { cents: found, accounts: there } = found;
        Err(format!("{there} of {accounts} accounts hold {found} cents, and should {cents}"))
    }
}
