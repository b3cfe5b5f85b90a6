//! Payments made up, the same ones again for the same arguments, seed and number of shards.
//!
//! Accounts are 1 to `accounts`, drawn by Zipf's law: account 1 is the busiest, and skew 0 makes
//! all alike. Amounts are 1 to [`AMOUNT_MAX`], all alike. Of all payments the share `cross` is
//! between accounts of two shards, and the others stay on one. The random numbers are PCG's, whose
//! values do not change from version to version.

use std::io::{self, Write};

use freehold::ShardIndex;
use rand_distr::uniform::Uniform;
use rand_distr::{Bernoulli, Distribution, Zipf};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;
use thiserror::Error;

use crate::input::{InputError, Payment};

/// The largest amount of a payment.
pub const AMOUNT_MAX: u64 = 100;
/// Payees drawn before the next fitting account is taken instead. With many shards, most draws fall
/// on the wrong one.
const DRAWS_MAX: usize = 16;

/// The line of the first payment in a file of them, behind the header.
const FIRST_LINE: u64 = 2;

/// What payments to make.
pub struct Recipe {
    pub payments: u64,
    /// At least 2, at most 2^53 (they are drawn as floating point numbers).
    pub accounts: u64,
    /// Percentage of payments between two shards.
    pub cross: f64,
    /// The exponent of Zipf's law, 0 to 2.
    pub skew: f64,
    pub seed: u64,
}

/// Such payments cannot be made.
#[derive(Debug, Error)]
pub enum GenerateError {
    #[error(
        "no two of {accounts} accounts live on different shards, of which there are {shards}: ask for fewer than {cross} % of payments between shards, or for more shards or accounts"
    )]
    NoneBetweenShards { accounts: u64, shards: usize, cross: f64 },
    #[error(
        "no two of {accounts} accounts live on the same shard of {shards}: ask for more accounts, or for 100 % of payments between shards"
    )]
    NoneOnOneShard { accounts: u64, shards: usize },
    #[error("`{0}` has no distribution")]
    OutOfRange(&'static str),
}

/// Makes payments, and copies them to a file if there is one.
pub struct Generator<W: Write, H> {
    left: u64,
    /// Of the next payment, in the file they are copied to or could be.
    line: u64,
    accounts: u64,
    account: Zipf<f64>,
    amount: Uniform<u64>,
    is_cross: Bernoulli,
    random: Pcg64,
    home: H,
    copy: Option<W>,
}

impl<W: Write, H: Fn(u64) -> ShardIndex> Generator<W, H> {
    /// A generator for accounts that live where `home` says, on `shards` shards.
    ///
    /// # Errors
    /// If no two accounts live so that a payment between them could be made as wanted.
    pub fn new(recipe: &Recipe, shards: usize, home: H, copy: Option<W>) -> Result<Self, GenerateError> {
        let Recipe { payments, accounts, cross, skew, seed } = *recipe;
        let mut residents = vec![0; shards];
        let (mut some_between, mut some_on_one) = (false, false);
        for account in 1..=accounts {
            let here = home(account);
            residents[here.index()] += 1;
            some_on_one |= residents[here.index()] > 1;
            some_between |= residents[here.index()] < account;
            if some_between && some_on_one {
                break;
            }
        }
        if cross > 0.0 && !some_between {
            return Err(GenerateError::NoneBetweenShards { accounts, shards, cross });
        }
        if cross < 100.0 && !some_on_one {
            return Err(GenerateError::NoneOnOneShard { accounts, shards });
        }
        Ok(Generator {
            left: payments,
            line: FIRST_LINE,
            accounts,
            account: Zipf::new(accounts as f64, skew).map_err(|_| GenerateError::OutOfRange("--skew"))?,
            amount: Uniform::new_inclusive(1, AMOUNT_MAX).expect("1 is below the largest amount"),
            is_cross: Bernoulli::new(cross / 100.0).map_err(|_| GenerateError::OutOfRange("--cross"))?,
            random: Pcg64::seed_from_u64(seed),
            home,
            copy,
        })
    }

    fn draw_account(&mut self) -> u64 {
        self.account.sample(&mut self.random) as u64
    }

    /// Two accounts that live apart or together, as `is_cross` says. Ends because
    /// [`Generator::new`] found two such accounts.
    fn draw_pair(&mut self, is_cross: bool) -> (u64, u64) {
        loop {
            let from = self.draw_account();
            let from_home = (self.home)(from);
            let mut to = from;
            for _ in 0..DRAWS_MAX {
                to = self.draw_account();
                if to != from && ((self.home)(to) != from_home) == is_cross {
                    return (from, to);
                }
            }
            let others = (to..=self.accounts).chain(1..to);
            let mut fitting = others.filter(|&to| to != from && ((self.home)(to) != from_home) == is_cross);
            if let Some(to) = fitting.next() {
                return (from, to);
            }
        }
    }

    fn copy(&mut self, payment: &Payment) -> io::Result<()> {
        let Some(copy) = &mut self.copy else { return Ok(()) };
        let Payment { line, from, to, amount } = payment;
        if *line == FIRST_LINE {
            writeln!(copy, "from,to,amount")?;
        }
        writeln!(copy, "{from},{to},{amount}")?;
        if self.left == 0 { copy.flush() } else { Ok(()) }
    }
}

impl<W: Write, H: Fn(u64) -> ShardIndex> Iterator for Generator<W, H> {
    type Item = Result<Payment, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let is_cross = self.is_cross.sample(&mut self.random);
        let (from, to) = self.draw_pair(is_cross);
        let amount = self.amount.sample(&mut self.random);
        let payment = Payment { line: self.line, from, to, amount };
        if let Err(source) = self.copy(&payment) {
            self.left = 0;
            return Some(Err(InputError::Failed { line: self.line, source }));
        }
        self.line += 1;
        Some(Ok(payment))
    }
}
