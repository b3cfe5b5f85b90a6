//! How claims and accounts are written, for wallets in other processes, and accounts for a log: a
//! version, a kind, and numbers in little-endian order. Each has one encoding: other bytes are
//! refused, and so are bytes behind the end.
//!
//! ```text
//! claim    2, kind, head, what the kind has, nonces, responses, u16 and as many bytes of range proof
//! head     id u64, version u64, key, c, d, hint 8
//! pay      u8 payees, for each: id u64, key, (c, d, auditor) twice; then handle, left twice
//! fold     u64 deposits, u8 credits, for each: (c, d) twice
//! withdraw u64 amount, to 32, left twice
//! rotate   as fold, then key, handle
//! account  1, terms 16, key, c, d, version u64, hint 8, deposits as fold, deposited u64, withdrawn u64
//! ```

use curve25519_dalek::scalar::Scalar;
use thiserror::Error;

use crate::account::{Account, PENDING_MAX};
use crate::claim::{Body, Claim, Credit, Folded, Head, PAYEES_MAX, Payee, Sealed};
use crate::group::Bytes;
use crate::law::Statement;
use crate::proof::Proof;

/// The versions of claims and of accounts. Claims of the first had a nonce for each equation.
const CLAIM_VERSION: u8 = 2;
const ACCOUNT_VERSION: u8 = 1;
/// The longest range proof: of 16 limbs of 32 bits.
const RANGE_MAX: usize = 1024;

/// What an account takes without pending credits, and what each of those takes.
const ACCOUNT_BYTES: usize = 1 + 16 + 3 * 32 + 8 + 8 + 8 + 1 + 8 + 8;
const CREDIT_BYTES: usize = 4 * 32;

/// Why bytes are no claim, or no account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotAClaim {
    /// They end too early.
    #[error("the bytes end too early")]
    Short,
    /// There are more of them than there may be: behind the end, or in the range proof.
    #[error("there are more bytes than may be: behind the end, or in a range proof of over {RANGE_MAX}")]
    Long,
    /// They are of another version of this format.
    #[error("version {0} is not known here: the wallet and the ledger must be of one version")]
    Version(u8),
    /// There is no such kind.
    #[error("there is no claim of kind {0}")]
    Kind(u8),
    /// A number is out of its range.
    #[error("a payment has 1 to 7 payees, and an account at most 32 pending credits")]
    Count,
    /// A scalar is not in its one encoding.
    #[error("a scalar is not in its one encoding")]
    Scalar,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], NotAClaim> {
        let (first, rest) = self.0.split_first_chunk().ok_or(NotAClaim::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn byte(&mut self) -> Result<u8, NotAClaim> {
        self.take().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, NotAClaim> {
        self.take().map(u64::from_le_bytes)
    }

    fn version(&mut self, known: u8) -> Result<(), NotAClaim> {
        let version = self.byte()?;
        if version == known { Ok(()) } else { Err(NotAClaim::Version(version)) }
    }

    fn sealed(&mut self) -> Result<Sealed, NotAClaim> {
        Ok(Sealed { c: self.take()?, d: self.take()? })
    }

    fn head(&mut self) -> Result<Head, NotAClaim> {
        let (id, version, key) = (self.number()?, self.number()?, self.take()?);
        Ok(Head { id, version, key, available: self.sealed()?, hint: self.take()? })
    }

    fn payee(&mut self) -> Result<Payee, NotAClaim> {
        let (id, key) = (self.number()?, self.take()?);
        let (low, low_auditor) = (self.sealed()?, self.take()?);
        let (high, high_auditor) = (self.sealed()?, self.take()?);
        Ok(Payee { id, key, credit: Credit { limbs: [low, high] }, auditor: [low_auditor, high_auditor] })
    }

    fn folded(&mut self) -> Result<Folded, NotAClaim> {
        let (deposits, credits) = (self.number()?, usize::from(self.byte()?));
        if credits > PENDING_MAX {
            return Err(NotAClaim::Count);
        }
        let credit = |_| Ok(Credit { limbs: [self.sealed()?, self.sealed()?] });
        Ok(Folded { credits: (0..credits).map(credit).collect::<Result<_, _>>()?, deposits })
    }

    fn left(&mut self) -> Result<[Bytes; 2], NotAClaim> {
        Ok([self.take()?, self.take()?])
    }

    fn body(&mut self) -> Result<Body, NotAClaim> {
        self.version(CLAIM_VERSION)?;
        let kind = self.byte()?;
        if kind > 4 {
            return Err(NotAClaim::Kind(kind));
        }
        let head = self.head()?;
        Ok(match kind {
            0 => Body::Open { head },
            1 => {
                let payees = usize::from(self.byte()?);
                if payees == 0 || payees > PAYEES_MAX {
                    return Err(NotAClaim::Count);
                }
                let payees = (0..payees).map(|_| self.payee()).collect::<Result<_, _>>()?;
                Body::Pay { head, payees, handle: self.take()?, left: self.left()? }
            }
            2 => Body::Fold { head, folded: self.folded()? },
            3 => {
                let (amount, to) = (self.number()?, self.take()?);
                Body::Withdraw { head, amount, to, left: self.left()? }
            }
            _ => Body::Rotate { head, folded: self.folded()?, key: self.take()?, handle: self.take()? },
        })
    }

    fn end<T>(self, read: T) -> Result<T, NotAClaim> {
        if self.0.is_empty() { Ok(read) } else { Err(NotAClaim::Long) }
    }
}

fn put_sealed(sealed: &Sealed, to: &mut Vec<u8>) {
    to.extend(sealed.c);
    to.extend(sealed.d);
}

fn put_folded(credits: &[Credit], deposits: u64, to: &mut Vec<u8>) {
    to.extend(deposits.to_le_bytes());
    // No more than `PENDING_MAX`.
    to.push(credits.len() as u8);
    credits.iter().flat_map(|credit| &credit.limbs).for_each(|sealed| put_sealed(sealed, to));
}

impl Body {
    /// As it is written, and as it goes into the transcript.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let kind = match self {
            Body::Open { .. } => 0,
            Body::Pay { .. } => 1,
            Body::Fold { .. } => 2,
            Body::Withdraw { .. } => 3,
            Body::Rotate { .. } => 4,
        };
        let mut to = vec![CLAIM_VERSION, kind];
        let Head { id, version, key, available, hint } = self.head();
        to.extend(id.to_le_bytes());
        to.extend(version.to_le_bytes());
        to.extend(key);
        put_sealed(available, &mut to);
        to.extend(hint);
        match self {
            Body::Open { .. } => {}
            Body::Pay { payees, handle, left, .. } => {
                to.push(payees.len() as u8);
                for Payee { id, key, credit, auditor } in payees {
                    to.extend(id.to_le_bytes());
                    to.extend(key);
                    for (sealed, auditor) in credit.limbs.iter().zip(auditor) {
                        put_sealed(sealed, &mut to);
                        to.extend(auditor);
                    }
                }
                to.extend(handle);
                to.extend(left.concat());
            }
            Body::Fold { folded, .. } => put_folded(&folded.credits, folded.deposits, &mut to),
            Body::Withdraw { amount, to: destination, left, .. } => {
                to.extend(amount.to_le_bytes());
                to.extend(destination);
                to.extend(left.concat());
            }
            Body::Rotate { folded, key, handle, .. } => {
                put_folded(&folded.credits, folded.deposits, &mut to);
                to.extend(key);
                to.extend(handle);
            }
        }
        to
    }
}

impl Claim {
    /// As it is sent: at most 5 KB, of a payment to one payee 1.4.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = self.body.to_bytes();
        to.extend(self.proof.nonces.concat());
        self.proof.responses.iter().for_each(|response| to.extend(response.to_bytes()));
        to.extend((self.proof.range.len() as u16).to_le_bytes());
        to.extend(&self.proof.range);
        to
    }

    /// Reads what [`Claim::to_bytes`] wrote. Whether the claim may be is not looked at: a gate
    /// verifies it.
    ///
    /// # Errors
    /// See [`NotAClaim`].
    ///
    /// ```
    /// use freehold_private::{AuditorSecret, Claim, NotAClaim, Secret, Terms, Wallet};
    ///
    /// let terms = Terms::new([7; 32], AuditorSecret::random().public()).unwrap();
    /// let claim = Wallet::new(terms, 1, Secret::random()).open();
    /// assert_eq!(Claim::from_bytes(&claim.to_bytes()), Ok(claim));
    /// assert_eq!(Claim::from_bytes(&[]), Err(NotAClaim::Short));
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<Claim, NotAClaim> {
        let mut reader = Reader(bytes);
        let body = reader.body()?;
        let statement = Statement::of(&body);
        let nonces = (0..statement.nonces()).map(|_| reader.take()).collect::<Result<_, _>>()?;
        let mut scalar = |_| {
            let scalar: Option<Scalar> = Scalar::from_canonical_bytes(reader.take()?).into();
            scalar.ok_or(NotAClaim::Scalar)
        };
        let responses = (0..statement.witnesses).map(&mut scalar).collect::<Result<_, _>>()?;
        let length = usize::from(u16::from_le_bytes(reader.take()?));
        if length > RANGE_MAX {
            return Err(NotAClaim::Long);
        }
        let (range, rest) = reader.0.split_at_checked(length).ok_or(NotAClaim::Short)?;
        reader.0 = rest;
        let range = range.to_vec();
        reader.end(Claim { body, proof: Proof { nonces, responses, range } })
    }
}

impl Account {
    /// As it is sent to a wallet.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(ACCOUNT_BYTES + CREDIT_BYTES * self.pending.len());
        to.push(ACCOUNT_VERSION);
        to.extend(self.terms);
        to.extend(self.key);
        put_sealed(&self.available, &mut to);
        to.extend(self.version.to_le_bytes());
        to.extend(self.hint);
        put_folded(&self.pending, self.pending_deposits, &mut to);
        to.extend(self.deposited.to_le_bytes());
        to.extend(self.withdrawn.to_le_bytes());
        to
    }

    /// Reads what [`Account::to_bytes`] wrote.
    ///
    /// # Errors
    /// See [`NotAClaim`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Account, NotAClaim> {
        let mut reader = Reader(bytes);
        reader.version(ACCOUNT_VERSION)?;
        let (terms, key, available) = (reader.take()?, reader.take()?, reader.sealed()?);
        let (version, hint) = (reader.number()?, reader.take()?);
        let Folded { credits: pending, deposits: pending_deposits } = reader.folded()?;
        let (deposited, withdrawn) = (reader.number()?, reader.number()?);
        let account =
            Account { terms, key, available, version, hint, pending, pending_deposits, deposited, withdrawn };
        reader.end(account)
    }
}
