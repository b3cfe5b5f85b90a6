//! A wallet: an owner's secret, and all that is made with it. It needs no runtime, and is to run
//! where its owner trusts.
//!
//! **Timing.** What the wallet multiplies by secrets it multiplies in constant time, and so do the
//! nonces of a proof. Two calls are not: Bulletproofs+ proves in variable time in parts that depend
//! on amounts, and [`Wallet::incoming`] takes the longer the larger an amount is. Both are to run
//! at the owner's, and not where others measure them: not in the ledger's process.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha512};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::account::Account;
use crate::check::{Deed, Proven};
use crate::claim::{AccountId, Body, Claim, Credit, Destination, Folded, Head, PAYEES_MAX, Payee, Sealed};
use crate::group::{self, NEUTRAL, limb_base, limbs};
use crate::key::{PublicKey, Secret};
use crate::law::{LEFT, NEW_SECRET, RATIO, SECRET, Statement, limb_witness};
use crate::limbs::NotFound;
use crate::proof::prove;
use crate::terms::Terms;

/// The wallet of one account.
#[derive(Clone, Debug)]
pub struct Wallet {
    terms: Terms,
    id: AccountId,
    secret: Secret,
    /// The balance by the owner's own records.
    recorded: Option<u64>,
}

/// Why a wallet makes no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotMade {
    /// The account has another key.
    #[error("the account is not under this wallet's key")]
    OtherKey,
    /// The balance that the account's hint says is not the sealed one: the ledger's files were
    /// changed, or the account was written by another program.
    #[error(
        "the account's hint does not say the sealed balance: give the one of the owner's records (`Wallet::recording`)"
    )]
    UnknownBalance,
    /// The balance is less.
    #[error("the payment takes more than the balance")]
    Funds {
        /// What is available.
        balance: u64,
    },
    /// No payee, or more than seven, or one of them twice, or the payer.
    #[error("a payment has 1 to 7 payees, each named once, and not its payer")]
    Payees,
    /// A sum of amounts has more than 64 bits.
    #[error("the sum has more than 64 bits")]
    TooMuch,
    /// A pending amount cannot be read.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The account holds bytes that are no element of the group.
    #[error("the account holds what is no element of the group")]
    Unreadable,
}

/// What is left after a payment or a withdrawal, sealed anew. It is overwritten when it is dropped.
struct LeftOver {
    /// Value and blinding, by limb.
    openings: [(u64, Scalar); 2],
    commitments: [group::Bytes; 2],
    blinding: Scalar,
}

impl Drop for LeftOver {
    fn drop(&mut self) {
        self.openings.zeroize();
        self.blinding.zeroize();
    }
}

impl LeftOver {
    fn seal(amount: u64) -> LeftOver {
        let openings = limbs(amount).map(|value| (value, group::random()));
        let commitments = openings.map(|(value, blinding)| group::write(&commit(value, &blinding)));
        LeftOver { openings, commitments, blinding: openings[0].1 + limb_base() * openings[1].1 }
    }
}

fn commit(value: u64, blinding: &Scalar) -> RistrettoPoint {
    RistrettoPoint::mul_base(&Scalar::from(value)) + blinding * group::h()
}

impl Wallet {
    /// The wallet of the account `id`, under these terms.
    pub fn new(terms: Terms, id: AccountId, secret: Secret) -> Wallet {
        Wallet { terms, id, secret, recorded: None }
    }

    /// With the balance that the owner's own records say. Where the account's hint is wrong, this
    /// is what the wallet goes by, if it is the sealed one; so an operator who changes hints locks
    /// nobody out who keeps records.
    #[must_use]
    pub fn recording(self, balance: u64) -> Wallet {
        Wallet { recorded: Some(balance), ..self }
    }

    /// For wallets of the same owner elsewhere.
    #[cfg(test)]
    pub(crate) fn secret(&self) -> Secret {
        self.secret.clone()
    }

    /// For forgers.
    #[cfg(test)]
    pub(crate) fn secret_scalar(&self) -> Scalar {
        *self.secret.scalar()
    }

    /// The account's id.
    pub fn id(&self) -> AccountId {
        self.id
    }

    /// The key that payers need.
    pub fn public(&self) -> PublicKey {
        self.secret.public()
    }

    /// The claim that opens the account.
    pub fn open(&self) -> Claim {
        let (version, key) = (0, self.public().0);
        let head = Head { id: self.id, version, key, available: Account::EMPTY, hint: [0; 8] };
        self.claim(Body::Open { head }, &self.secret, 0, &[*self.secret.scalar()], &[])
            .expect("its key is an element of the group")
    }

    /// What is available.
    ///
    /// # Errors
    /// [`NotMade::OtherKey`], [`NotMade::UnknownBalance`], [`NotMade::Unreadable`].
    pub fn balance(&self, account: &Account) -> Result<u64, NotMade> {
        if account.key != self.public().0 {
            return Err(NotMade::OtherKey);
        }
        let hinted = u64::from_le_bytes(hide(&self.secret, &account.available, account.hint));
        let c = group::read(&account.available.c).ok_or(NotMade::Unreadable)?;
        let d = group::read(&account.available.d).ok_or(NotMade::Unreadable)?;
        let sealed = c - self.secret.scalar() * d;
        let is_sealed = |balance: &u64| sealed == RistrettoPoint::mul_base(&Scalar::from(*balance));
        let known = [Some(hinted), self.recorded].into_iter().flatten().find(is_sealed);
        known.ok_or(NotMade::UnknownBalance)
    }

    /// The pending payments, the oldest first. Deposits are not among them.
    ///
    /// # Errors
    /// [`NotMade::OtherKey`]. Every payment that was verified can be read.
    pub fn incoming(&self, account: &Account) -> Result<Vec<u64>, NotMade> {
        if account.key != self.public().0 {
            return Err(NotMade::OtherKey);
        }
        let amount = |credit: &Credit| Ok(credit.amount(self.secret.scalar())?);
        account.pending.iter().map(amount).collect()
    }

    /// The claim that makes all that is pending available.
    ///
    /// # Errors
    /// See [`NotMade`].
    pub fn fold(&self, account: &Account) -> Result<Claim, NotMade> {
        let (balance, folded) = self.folded(account)?;
        let body = Body::Fold { head: self.head(account), folded };
        self.claim(body, &self.secret, balance, &[*self.secret.scalar()], &[])
    }

    /// The claim that gives the account another key; what is pending is folded. The ledger refuses
    /// it if more came in meanwhile.
    ///
    /// # Errors
    /// See [`NotMade`].
    pub fn rotate(&self, account: &Account, new: &Secret) -> Result<Claim, NotMade> {
        let (balance, folded) = self.folded(account)?;
        let (old, secret) = (*self.secret.scalar(), *new.scalar());
        let ratio = old * secret.invert();
        let of_old = Statement::of(&Body::Fold { head: self.head(account), folded: folded.clone() });
        let own =
            of_old.own.iter().map(group::read).collect::<Option<Vec<_>>>().ok_or(NotMade::Unreadable)?;
        let handle = group::write(&(ratio * of_old.after[1].value(&own, &group::g())));
        let body = Body::Rotate { head: self.head(account), folded, key: new.public().0, handle };
        let mut witnesses = Zeroizing::new([Scalar::ZERO; 3]);
        (witnesses[SECRET], witnesses[NEW_SECRET], witnesses[RATIO]) = (old, secret, ratio);
        self.claim(body, new, balance, &*witnesses, &[])
    }

    /// The claim that takes an amount out of the ledger, to be paid to somebody outside. The proof
    /// is bound to `to`, so nobody can have it paid to another.
    ///
    /// # Errors
    /// See [`NotMade`].
    pub fn withdraw(&self, account: &Account, amount: u64, to: Destination) -> Result<Claim, NotMade> {
        let balance = self.balance(account)?;
        let left = balance.checked_sub(amount).ok_or(NotMade::Funds { balance })?;
        let sealed = LeftOver::seal(left);
        let body = Body::Withdraw { head: self.head(account), amount, to, left: sealed.commitments };
        let mut witnesses = Zeroizing::new([Scalar::ZERO; 2]);
        (witnesses[SECRET], witnesses[LEFT]) = (*self.secret.scalar(), sealed.blinding);
        self.claim(body, &self.secret, left, &*witnesses, &sealed.openings)
    }

    /// The claim that pays 1 to 7 payees, each named by account, key and amount, under one proof.
    ///
    /// # Errors
    /// See [`NotMade`].
    pub fn pay(&self, account: &Account, payees: &[(AccountId, PublicKey, u64)]) -> Result<Claim, NotMade> {
        let balance = self.balance(account)?;
        let is_twice = |at: usize| {
            let (id, key, _) = &payees[at];
            *id == self.id
                || *key == self.public()
                || payees[..at].iter().any(|(other, of_other, _)| other == id || of_other == key)
        };
        if payees.is_empty() || payees.len() > PAYEES_MAX || (0..payees.len()).any(is_twice) {
            return Err(NotMade::Payees);
        }
        let sum = payees.iter().try_fold(0_u64, |sum, (.., amount)| sum.checked_add(*amount));
        let left = balance.checked_sub(sum.ok_or(NotMade::TooMuch)?).ok_or(NotMade::Funds { balance })?;
        let auditor = group::read(&self.terms.auditor().0).ok_or(NotMade::Unreadable)?;
        let mut witnesses = Zeroizing::new(vec![Scalar::ZERO; limb_witness(payees.len(), 0)]);
        // With room for all: a vector that grows leaves what it held in memory that is freed.
        let mut openings = Zeroizing::new(Vec::with_capacity(2 * payees.len() + 2));
        let mut sealed = Vec::with_capacity(payees.len());
        let mut together = Scalar::ZERO;
        for (at, (id, key, amount)) in payees.iter().enumerate() {
            let of_payee = group::read(&key.0).ok_or(NotMade::Unreadable)?;
            let mut credit = Credit { limbs: [Account::EMPTY; 2] };
            let mut for_auditor = [NEUTRAL; 2];
            for (limb, value) in limbs(*amount).into_iter().enumerate() {
                let blinding = group::random();
                let (c, d) = (commit(value, &blinding), blinding * of_payee);
                credit.limbs[limb] = Sealed { c: group::write(&c), d: group::write(&d) };
                for_auditor[limb] = group::write(&(blinding * auditor));
                let witness = limb_witness(at, limb);
                (witnesses[witness], witnesses[witness + 1]) = (Scalar::from(value), blinding);
                together += if limb == 0 { blinding } else { limb_base() * blinding };
                openings.push((value, blinding));
            }
            sealed.push(Payee { id: *id, key: key.0, credit, auditor: for_auditor });
        }
        let left_over = LeftOver::seal(left);
        openings.extend(left_over.openings);
        (witnesses[SECRET], witnesses[LEFT]) = (*self.secret.scalar(), left_over.blinding);
        let handle = group::write(&(together * self.secret.point()));
        let body =
            Body::Pay { head: self.head(account), payees: sealed, handle, left: left_over.commitments };
        self.claim(body, &self.secret, left, &witnesses, &openings)
    }

    /// What the account will be after this claim of its owner: the next claim may be made from it
    /// at once, while this one is under way.
    ///
    /// `None` if the claim is not one that could be made from this account.
    pub fn after(&self, account: &Account, claim: &Claim) -> Option<Account> {
        let statement = Statement::of(&claim.body);
        let own = statement.own.iter().map(group::read).collect::<Option<Vec<_>>>()?;
        let proven = Proven { deed: Deed::of(&claim.body, &statement, &own), terms: self.terms.hash() };
        let mut account = account.clone();
        account.spend(&proven).ok().map(|()| account)
    }

    /// What is folded, and the balance after it.
    fn folded(&self, account: &Account) -> Result<(u64, Folded), NotMade> {
        let folded = Folded { credits: account.pending.clone(), deposits: account.pending_deposits };
        let balance = self.balance(account)?.checked_add(folded.deposits);
        let sum = self
            .incoming(account)?
            .into_iter()
            .try_fold(balance, |sum, amount| Some(sum.and_then(|sum| sum.checked_add(amount))));
        Ok((sum.flatten().ok_or(NotMade::TooMuch)?, folded))
    }

    fn head(&self, account: &Account) -> Head {
        let Account { key, available, version, .. } = *account;
        Head { id: self.id, version, key, available, hint: [0; 8] }
    }

    /// Hides the new balance for the owner of `secret`, and proves.
    fn claim(
        &self,
        mut body: Body,
        secret: &Secret,
        balance: u64,
        witnesses: &[Scalar],
        openings: &[(u64, Scalar)],
    ) -> Result<Claim, NotMade> {
        let statement = Statement::of(&body);
        let own =
            statement.own.iter().map(group::read).collect::<Option<Vec<_>>>().ok_or(NotMade::Unreadable)?;
        let available = Deed::of(&body, &statement, &own).available;
        body.head_mut().hint = hide(secret, &available, balance.to_le_bytes());
        let proof = prove(&self.terms, &body, witnesses, openings).ok_or(NotMade::Unreadable)?;
        Ok(Claim { body, proof })
    }
}

/// Hides a balance for the owner of `secret`, or shows it again. What is sealed is new with each
/// claim, so no two balances are hidden by the same bytes.
fn hide(secret: &Secret, available: &Sealed, hint: [u8; 8]) -> [u8; 8] {
    let mut hash = Sha512::new();
    hash.update(b"freehold-private/1 hint");
    hash.update(*secret.to_bytes());
    hash.update(available.c);
    hash.update(available.d);
    let mut bytes: [u8; 64] = hash.finalize().into();
    let hidden = std::array::from_fn(|at| bytes[at] ^ hint[at]);
    bytes.zeroize();
    hidden
}
