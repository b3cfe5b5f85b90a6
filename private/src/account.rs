//! An account, and what becomes of it by a claim that was proven.
//!
//! Here bytes are compared and copied, and no element is computed: that is the gate's work. (With
//! points in place of bytes a prototype's logged payment took 19.8 us instead of 3.7.) Only its
//! owner changes what is available, so a payment that comes in never makes a proof stale.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::check::{Deed, Proven};
use crate::claim::{AccountId, Credit, Head, Sealed};
use crate::flaw::{Flaw, is_broken};
use crate::group::{Bytes, NEUTRAL};
use crate::key::PublicKey;
use crate::terms::TermsHash;

/// Credits that wait to be folded; beyond it a payment to the account is refused.
pub const PENDING_MAX: usize = 32;

/// An account, as its ledger keeps it. It says who pays whom and when; amounts and balances are
/// sealed, but for deposits and withdrawals. A log keeps it as [`Account::to_bytes`] writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Of the terms it was opened under.
    pub(crate) terms: TermsHash,
    pub(crate) key: Bytes,
    pub(crate) available: Sealed,
    /// How often the owner has changed what is available.
    pub(crate) version: u64,
    pub(crate) hint: [u8; 8],
    /// What came in and is not folded, the oldest first.
    pub(crate) pending: Vec<Credit>,
    pub(crate) pending_deposits: u64,
    /// All deposits ever.
    pub(crate) deposited: u64,
    /// All withdrawals ever.
    pub(crate) withdrawn: u64,
}

/// As one string of bytes: serde takes an array byte by byte, and a log notes the shape of each.
impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Account;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of an account")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Account, E> {
                Account::from_bytes(bytes).map_err(E::custom)
            }
        }

        deserializer.deserialize_bytes(Written)
    }
}

/// Why a proven claim has no effect on an account. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotApplied {
    /// The owner has changed the account since: another claim was made from the same state.
    #[error("the claim was made from version {claimed}, and the account is at {version}: make it anew")]
    Stale {
        /// What the claim says.
        claimed: u64,
        /// What the account says.
        version: u64,
    },
    /// It was verified under other terms than the account was opened under: two gates of one
    /// ledger have different terms.
    #[error("account {0} is of another ledger: all gates of a ledger must have the same terms")]
    OtherTerms(AccountId),
    /// It was proved against another balance.
    #[error("the claim was proved against another balance: make it anew from the account as it is")]
    OtherBalance,
    /// The claimant's or a payee's key is another.
    #[error("account {0} has another key: ask for it again")]
    WrongKey(AccountId),
    /// There is no such account.
    #[error("account {0} is not open")]
    NotOpen(AccountId),
    /// There is such an account.
    #[error("account {0} is open already")]
    AlreadyOpen(AccountId),
    /// As many credits as there may be are pending.
    #[error("account {0} has as many pending credits as there may be: its owner must fold them")]
    Full(AccountId),
    /// The claim folds other credits or more deposits than are pending.
    #[error("other credits are pending than the claim folds: make it anew")]
    OtherPending,
    /// More credits or deposits came in than a new key was made for.
    #[error("credits came in that the new key was not made for: make the claim anew")]
    StillPending,
    /// Deposits or withdrawals of one account come to more than 64 bits.
    #[error("the sum of the account's deposits or withdrawals is too large")]
    TooMuch,
}

impl Account {
    /// The account that a proven claim opens.
    ///
    /// # Errors
    /// [`NotApplied::NotOpen`] if the claim is another: its account is to be there already.
    pub fn opened(proven: &Proven) -> Result<Account, NotApplied> {
        let Deed { head, opens, available, .. } = &proven.deed;
        if !opens {
            return Err(NotApplied::NotOpen(head.id));
        }
        Ok(Account {
            terms: proven.terms,
            key: head.key,
            available: *available,
            version: 1,
            hint: head.hint,
            pending: Vec::new(),
            pending_deposits: 0,
            deposited: 0,
            withdrawn: 0,
        })
    }

    /// The owner's key.
    pub fn key(&self) -> PublicKey {
        PublicKey(self.key)
    }

    /// How often the owner has changed what is available.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many credits wait to be folded.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// All deposits ever, and all withdrawals.
    pub fn public(&self) -> (u64, u64) {
        (self.deposited, self.withdrawn)
    }

    /// An amount comes in from outside, in the open. It is pending until the owner folds it.
    ///
    /// # Errors
    /// [`NotApplied::TooMuch`].
    pub fn deposit(&mut self, amount: u64) -> Result<(), NotApplied> {
        let deposited = self.deposited.checked_add(amount).ok_or(NotApplied::TooMuch)?;
        // It is at most `deposited`.
        self.pending_deposits = self.pending_deposits.checked_add(amount).ok_or(NotApplied::TooMuch)?;
        self.deposited = deposited;
        Ok(())
    }

    /// What a proven claim does to this account, as its claimant or as a payee. Which of both this
    /// is its key says: a claim has every key once.
    ///
    /// # Errors
    /// See [`NotApplied`]. The account is as it was.
    pub fn apply(&mut self, proven: &Proven) -> Result<(), NotApplied> {
        let Deed { head, credits, .. } = &proven.deed;
        match credits.iter().position(|(_, key, _)| *key == self.key) {
            Some(payee) if head.key != self.key => self.receive(proven, payee),
            _ => self.spend(proven),
        }
    }

    /// What the claim does to its claimant's account.
    pub(crate) fn spend(&mut self, proven: &Proven) -> Result<(), NotApplied> {
        let Deed { head, opens, available, key, folded, rotates, withdrawn, .. } = &proven.deed;
        if *opens {
            return Err(NotApplied::AlreadyOpen(head.id));
        }
        self.is_under(proven, head.id)?;
        self.compare(head)?;
        let withdrawn = self.withdrawn.checked_add(*withdrawn).ok_or(NotApplied::TooMuch)?;
        let is_prefix = self.pending.starts_with(&folded.credits) && self.pending_deposits >= folded.deposits;
        if !is_prefix && !is_broken(Flaw::Folded) {
            return Err(NotApplied::OtherPending);
        }
        let is_all = self.pending.len() == folded.credits.len() && self.pending_deposits == folded.deposits;
        if *rotates && !is_all && !is_broken(Flaw::Rotation) {
            return Err(NotApplied::StillPending);
        }
        self.pending.drain(..folded.credits.len().min(self.pending.len()));
        self.pending_deposits = self.pending_deposits.wrapping_sub(folded.deposits);
        (self.available, self.key, self.hint) = (*available, *key, head.hint);
        self.version += 1;
        self.withdrawn = withdrawn;
        Ok(())
    }

    /// What the claim does to the account of its n-th payee.
    pub(crate) fn receive(&mut self, proven: &Proven, payee: usize) -> Result<(), NotApplied> {
        let (id, key, credit) = &proven.deed.credits[payee];
        self.is_under(proven, *id)?;
        // Its handles are for that key: under another nobody could read them.
        if *key != self.key && !is_broken(Flaw::PayeeKey) {
            return Err(NotApplied::WrongKey(*id));
        }
        if self.pending.len() >= PENDING_MAX && !is_broken(Flaw::Full) {
            return Err(NotApplied::Full(*id));
        }
        self.pending.push(*credit);
        Ok(())
    }

    /// Whether a claim was verified under the account's terms.
    fn is_under(&self, proven: &Proven, id: AccountId) -> Result<(), NotApplied> {
        let is_same = self.terms == proven.terms || is_broken(Flaw::OtherTerms);
        if is_same { Ok(()) } else { Err(NotApplied::OtherTerms(id)) }
    }

    /// Whether a claim is about this account as it is. All three are compared: a balance that was
    /// only ever deposited has no blinding, and under any key there is a proof about it.
    fn compare(&self, head: &Head) -> Result<(), NotApplied> {
        if head.version != self.version && !is_broken(Flaw::Version) {
            return Err(NotApplied::Stale { claimed: head.version, version: self.version });
        }
        if head.key != self.key && !is_broken(Flaw::Key) {
            return Err(NotApplied::WrongKey(head.id));
        }
        if head.available != self.available && !is_broken(Flaw::Balance) {
            return Err(NotApplied::OtherBalance);
        }
        Ok(())
    }

    /// Whether a claim with this head may still come to be: it is not older than the account, and
    /// not about another state of the same version.
    #[cfg(feature = "ledger")]
    pub(crate) fn may_come_to_be(&self, head: &Head) -> Result<(), NotApplied> {
        if head.version > self.version { Ok(()) } else { self.compare(head) }
    }

    /// What is available, without an effect on anything: nothing.
    pub(crate) const EMPTY: Sealed = Sealed { c: NEUTRAL, d: NEUTRAL };
}
