//! The public books: anybody checks from a snapshot that no money was made.
//!
//! Deposits have no blinding, and a payment's commitments cancel. So the sum of all commitments is
//! exactly so many times `G` as was deposited and not withdrawn. That says nothing about who has
//! it: an operator who changes the files can move what is sealed, and it shows in no sum.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use thiserror::Error;

use crate::account::Account;
use crate::group::{self, limb_base};

/// The sum of accounts.
#[derive(Clone, Debug)]
pub struct Books {
    low: RistrettoPoint,
    high: RistrettoPoint,
    total: i128,
    unreadable: usize,
}

/// What is wrong with the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotBalanced {
    /// The accounts hold another sum than was deposited and not withdrawn.
    #[error("the accounts hold another sum than the {total} that were deposited and not withdrawn")]
    OtherSum {
        /// What was deposited and not withdrawn.
        total: i128,
    },
    /// Accounts hold bytes that are no element of the group.
    #[error("{0} accounts hold what nobody can read")]
    Unreadable(usize),
}

impl Books {
    /// Of no account.
    pub fn new() -> Books {
        Books { low: RistrettoPoint::identity(), high: RistrettoPoint::identity(), total: 0, unreadable: 0 }
    }

    /// Adds an account: one element to read, and two for each pending credit. Add what
    /// [`Ledger::accounts`](crate::Ledger::accounts) collects: a shard is not to be held up.
    pub fn add(&mut self, account: &Account) {
        let mut add = || -> Option<()> {
            let mut low = group::read(&account.available.c)?;
            let mut high = RistrettoPoint::identity();
            for credit in &account.pending {
                low += group::read(&credit.limbs[0].c)?;
                high += group::read(&credit.limbs[1].c)?;
            }
            low += RistrettoPoint::mul_base(&Scalar::from(account.pending_deposits));
            self.low += low;
            self.high += high;
            self.total += i128::from(account.deposited) - i128::from(account.withdrawn);
            Some(())
        };
        if add().is_none() {
            self.unreadable += 1;
        }
    }

    /// What was deposited and not withdrawn, if it is what the accounts hold.
    ///
    /// # Errors
    /// See [`NotBalanced`].
    pub fn balance(&self) -> Result<i128, NotBalanced> {
        if self.unreadable > 0 {
            return Err(NotBalanced::Unreadable(self.unreadable));
        }
        let held = self.low + limb_base() * self.high;
        let is_balanced = held == RistrettoPoint::mul_base(&crate::law::amount(self.total));
        if is_balanced { Ok(self.total) } else { Err(NotBalanced::OtherSum { total: self.total }) }
    }
}

impl Default for Books {
    fn default() -> Self {
        Books::new()
    }
}
