//! SmallBank: customers with a savings and a checking account, and six short transactions over one
//! or two customers.
//!
//! Source: M. Alomari, M. Cahill, A. Fekete, U. Röhm, "The Cost of Serializability on Platforms
//! That Use Snapshot Isolation", ICDE 2008; mix and amounts as in H-Store and BenchBase
//! (<https://github.com/cmu-db/benchbase>, `benchmarks/smallbank`): Amalgamate 15, Balance 15,
//! DepositChecking 15, SendPayment 25, TransactSavings 15, WriteCheck 15 of a hundred.
//!
//! What differs: amounts are whole cents; names are not looked up, customers are their numbers; and
//! all three rows of a customer share a shard. Every account opens with 10,000.00; BenchBase draws
//! whole numbers around the middle of 10,000 to 50,000 for each (its `SmallBankLoader`, a
//! Gaussian), "so that they never run out of money". Here an account that pays more than it is paid
//! runs out sooner, and a hot one may: what is refused then is counted as aborted.
//!
//! A client draws a transaction's first customer by the law of the skew among the customers of its
//! own shard ([`Client::draw_here`]). So every shard gets as many transactions as any other. A hot
//! customer takes its part of its shard's work, and makes no shard busier than the others: skew
//! across shards is not measured.
//!
//! The invariant is that money comes, goes and moves only as it was answered. The sum of all cents
//! says that of what comes and goes, and says nothing of payments between customers, which leave it
//! as it was. So there is a second sum, in which the cents of each account weigh differently: a
//! payment that was answered and lost, or that reached another account, is missing there.

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
    /// Takes money from the checking account, and a penalty if both accounts together do not cover
    /// it.
    WriteCheck { customer: u32, amount: i64 },
}

/// What is answered, in cents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of an Amalgamate: what the two accounts held that are empty now.
    Moved { savings: i64, checking: i64 },
    /// Of a Balance: what it read.
    Balance { savings: i64, checking: i64 },
    /// Of a SendPayment: the amount went from one to the other.
    Paid,
    /// Of the others: what came into the account, or left it, below 0.
    Changed(i64),
}

/// What an account's cents weigh in the second sum: odd, so that no change of one account is lost,
/// and without a pattern (the last step of SplitMix64), so that changes of several do not make up
/// for each other.
#[inline]
fn weight(account: Account) -> u64 {
    let number = u64::from(account.customer) << 1 | u64::from(account.kind == Kind::Savings);
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ mixed >> 31) | 1
}

/// Cents in the bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Money {
    /// In all accounts; of a client, what it put in and took out.
    cents: i64,
    /// The same, each account's cents times its [`weight`], modulo 2^64; of a client, also what it
    /// moved.
    weighted: u64,
    accounts: u64,
    /// Of what Balances read, so that no engine's compiler leaves the reading out. It is compared
    /// with nothing.
    checksum: u64,
}

impl Money {
    /// Takes note of what came into an account, or left it, below 0.
    #[inline]
    fn change(&mut self, account: Account, cents: i64) {
        self.cents += cents;
        self.weighted = self.weighted.wrapping_add((cents as u64).wrapping_mul(weight(account)));
    }

    /// Takes note of what went from one account to another.
    #[inline]
    fn transfer(&mut self, from: Account, to: Account, cents: i64) {
        let gained = weight(to).wrapping_sub(weight(from));
        self.weighted = self.weighted.wrapping_add((cents as u64).wrapping_mul(gained));
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        self.cents += other.cents;
        self.weighted = self.weighted.wrapping_add(other.weighted);
        self.accounts += other.accounts;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

const NO_ACCOUNT: Refused<Account> = Refused::Broken("there is no such account");

fn balance(rows: &mut impl Rows<SmallBank>, account: Account) -> Result<i64, Refused<Account>> {
    rows.get(account)?.copied().ok_or(NO_ACCOUNT)
}

/// What a customer has: savings, checking.
#[inline]
fn both(rows: &mut impl Rows<SmallBank>, customer: u32) -> Result<(i64, i64), Refused<Account>> {
    Ok((balance(rows, savings(customer))?, balance(rows, checking(customer))?))
}

fn add(rows: &mut impl Rows<SmallBank>, account: Account, amount: i64) -> Result<(), Refused<Account>> {
    *rows.get_mut(account)?.ok_or(NO_ACCOUNT)? += amount;
    Ok(())
}

impl Workload for SmallBank {
    type Id = Account;
    type Row = i64;
    type Transaction = Transaction;
    type Reply = Reply;
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
        let popularity = Popularity::new(self.customers, self.skew)?;
        let account = |random: &mut _| checking(popularity.draw(random) as u32);
        let one = |client: &mut Client| -> Result<Transaction, NoRow> {
            let kind = client.random.random_range(0..100);
            let from = client.draw_here(account)?.customer;
            let spans = if matches!(kind, 0..15 | 45..70) { client.spans() } else { None };
            // A bank, a shard or a hotspot may have no other customer: the draws are bounded.
            let mut other = || -> Result<u32, NoRow> {
                let fits = |client: &Client, to: &Account| {
                    to.customer != from
                        && spans.is_none_or(|elsewhere| (client.home(to) != client.shard()) == elsewhere)
                };
                Ok(client.draw_fitting(account, fits)?.customer)
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
    fn run(transaction: &Transaction, rows: &mut impl Rows<Self>) -> Result<Reply, Refused<Account>> {
        match *transaction {
            Transaction::Amalgamate { from, to } => {
                let (of_savings, of_checking) = both(rows, from)?;
                add(rows, checking(to), of_savings + of_checking)?;
                *rows.get_mut(savings(from))?.ok_or(NO_ACCOUNT)? = 0;
                *rows.get_mut(checking(from))?.ok_or(NO_ACCOUNT)? = 0;
                Ok(Reply::Moved { savings: of_savings, checking: of_checking })
            }
            Transaction::Balance { customer } => {
                let (savings, checking) = both(rows, customer)?;
                Ok(Reply::Balance { savings, checking })
            }
            Transaction::DepositChecking { customer, amount } => {
                add(rows, checking(customer), amount)?;
                Ok(Reply::Changed(amount))
            }
            Transaction::SendPayment { from, to, amount } => {
                if balance(rows, checking(from))? < amount {
                    return Err(Refused::Aborted("not enough money"));
                }
                add(rows, checking(to), amount)?;
                add(rows, checking(from), -amount)?;
                Ok(Reply::Paid)
            }
            Transaction::TransactSavings { customer, amount } => {
                if balance(rows, savings(customer))? + amount < 0 {
                    return Err(Refused::Aborted("not enough money"));
                }
                add(rows, savings(customer), amount)?;
                Ok(Reply::Changed(amount))
            }
            Transaction::WriteCheck { customer, amount } => {
                let (savings, current) = both(rows, customer)?;
                let taken = if savings + current < amount { amount + PENALTY } else { amount };
                add(rows, checking(customer), -taken)?;
                Ok(Reply::Changed(-taken))
            }
        }
    }

    #[inline]
    fn tally(tally: &mut Money, transaction: &Transaction, reply: &Reply) {
        match (*transaction, *reply) {
            (
                Transaction::Amalgamate { from, to },
                Reply::Moved { savings: of_savings, checking: of_checking },
            ) => {
                tally.transfer(savings(from), checking(to), of_savings);
                tally.transfer(checking(from), checking(to), of_checking);
            }
            (Transaction::Balance { .. }, Reply::Balance { savings, checking }) => {
                // Not their sum: what is exchanged between the two is another reading.
                let read = (savings as u64).wrapping_mul(3).wrapping_add(checking as u64);
                tally.checksum = tally.checksum.wrapping_add(read);
            }
            (Transaction::SendPayment { from, to, amount }, Reply::Paid) => {
                tally.transfer(checking(from), checking(to), amount);
            }
            (Transaction::TransactSavings { customer, .. }, Reply::Changed(cents)) => {
                tally.change(savings(customer), cents);
            }
            (
                Transaction::DepositChecking { customer, .. } | Transaction::WriteCheck { customer, .. },
                Reply::Changed(cents),
            ) => tally.change(checking(customer), cents),
            // An answer to another question: an account that nobody has, so that the verdict says
            // so.
            _ => tally.accounts += 1,
        }
    }

    fn audit(&self, audit: &mut Money, account: &Account, row: &i64) {
        audit.change(*account, *row);
        audit.accounts += 1;
    }

    fn verdict(&self, acknowledged: &Money, found: &Money) -> Result<(), String> {
        let mut wanted = *acknowledged;
        self.load(&mut |account, row| self.audit(&mut wanted, &account, &row));
        let Money { cents, weighted, accounts, .. } = wanted;
        let Money { cents: found, weighted: found_weighted, accounts: there, .. } = *found;
        if (found, there) != (cents, accounts) {
            return Err(format!("{there} of {accounts} accounts hold {found} cents, and should {cents}"));
        }
        if found_weighted != weighted {
            return Err(format!(
                "all accounts together hold the {cents} cents they should, and single ones do not: the weighted sum is \
                 {found_weighted:#x}, and should be {weighted:#x}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Every transaction answers what it read and moved, and the answers add up to what is there.
    #[test]
    fn answers_say_what_was_read_and_moved() {
        let bank = SmallBank { customers: 3, skew: Skew::Uniform };
        let mut rows = HashMap::new();
        bank.load(&mut |account, row| assert!(rows.insert(account, row).is_none()));
        let mut tally = Money::default();
        let course = [
            (Transaction::TransactSavings { customer: 0, amount: 2020 }, Reply::Changed(2020)),
            (
                Transaction::Amalgamate { from: 0, to: 1 },
                Reply::Moved { savings: 1_002_020, checking: 1_000_000 },
            ),
            (Transaction::Balance { customer: 0 }, Reply::Balance { savings: 0, checking: 0 }),
            (Transaction::WriteCheck { customer: 0, amount: 500 }, Reply::Changed(-600)),
            (Transaction::SendPayment { from: 1, to: 2, amount: 500 }, Reply::Paid),
            (Transaction::DepositChecking { customer: 2, amount: 130 }, Reply::Changed(130)),
            (
                Transaction::Balance { customer: 2 },
                Reply::Balance { savings: 1_000_000, checking: 1_000_630 },
            ),
        ];
        for (transaction, reply) in course {
            assert_eq!(SmallBank::run(&transaction, &mut rows), Ok(reply), "{transaction:?}");
            SmallBank::tally(&mut tally, &transaction, &reply);
        }
        assert_eq!((tally.cents, tally.checksum), (2020 - 600 + 130, 3 * 1_000_000 + 1_000_630));
        let verdict = |rows: &HashMap<Account, i64>| {
            let mut found = Money::default();
            rows.iter().for_each(|(account, row)| bank.audit(&mut found, account, row));
            bank.verdict(&tally, &found)
        };
        assert_eq!(verdict(&rows), Ok(()));
        // A cent in the wrong account.
        *rows.get_mut(&checking(2)).expect("an account") += 1;
        *rows.get_mut(&savings(2)).expect("an account") -= 1;
        assert!(verdict(&rows).is_err());
    }
}
