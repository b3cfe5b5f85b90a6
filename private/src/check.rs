//! The verifier of claims: many at once, by one multiplication of many elements for the equations
//! and one for the ranges.
//!
//! All here is public, so nothing is in constant time.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use tari_bulletproofs_plus::Transcript;
use tari_bulletproofs_plus::range_proof::VerifyAction;
use tari_bulletproofs_plus::range_statement::RangeStatement;
use tari_bulletproofs_plus::ristretto::RistrettoRangeProof;
use thiserror::Error;

use crate::account::Account;
use crate::claim::{AccountId, Body, Claim, Credit, Destination, Folded, Head, Sealed};
use crate::flaw::{Flaw, is_broken};
use crate::group::{self, Bytes};
use crate::law::{Element, Proved, Statement, amount};
use crate::proof::{challenge, joint, no_statement, range_transcript, state};
use crate::terms::{Terms, TermsHash};

/// Why a claim is refused. It may have been forged, or made under other terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Bytes that are to be an element of the group are none.
    #[error("the claim has bytes in place of an element of the group")]
    NotAnElement,
    /// A key is the neutral element.
    #[error("the claim has a key that is no key")]
    NotAKey,
    /// An account is named twice.
    #[error("a payment names each account once, and not its payer")]
    Twice,
    /// The parts of the proof are not those of such a claim.
    #[error("the proof is not one of such a claim")]
    Shape,
    /// An equation does not hold: the owner does not know the key, or an amount is not what it
    /// says, or another can not read what is for him.
    #[error("the proof does not hold: it was forged, or made under other terms or from another claim")]
    Equation,
    /// An amount, or what is left, is not proved to be in range.
    #[error("an amount, or what is left, is not proved to be in range")]
    Range,
}

/// A claim that was verified. Only a [`Checker`] makes one.
///
/// ```compile_fail
/// // Its fields are private, and it is not `Deserialize`.
/// let forged = freehold_private::Proven { deed: unreachable!(), terms: [0; 16] };
/// ```
///
/// ```compile_fail
/// fn read<T: serde::de::DeserializeOwned>() {}
/// read::<freehold_private::Proven>();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    pub(crate) deed: Deed,
    /// The terms it was verified under.
    pub(crate) terms: TermsHash,
}

/// What a claim does, computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deed {
    pub(crate) head: Head,
    pub(crate) opens: bool,
    pub(crate) rotates: bool,
    /// What the claimant's account holds afterwards.
    pub(crate) available: Sealed,
    /// Its key afterwards.
    pub(crate) key: Bytes,
    pub(crate) folded: Folded,
    pub(crate) credits: Vec<(AccountId, Bytes, Credit)>,
    pub(crate) withdrawn: u64,
    /// To whom.
    pub(crate) destination: Destination,
}

impl Deed {
    /// What `body` does, where `own` are the elements of its statement.
    pub(crate) fn of(body: &Body, statement: &Statement, own: &[RistrettoPoint]) -> Deed {
        // No sum has the auditor in it.
        let [c, d] = [0, 1].map(|at| group::write(&statement.after[at].value(own, &group::g())));
        let head = body.head().clone();
        let mut deed = Deed {
            key: head.key,
            opens: false,
            rotates: false,
            available: Sealed { c, d },
            folded: Folded { credits: Vec::new(), deposits: 0 },
            credits: Vec::new(),
            withdrawn: 0,
            destination: [0; 32],
            head,
        };
        match body {
            Body::Open { .. } => deed.opens = true,
            Body::Pay { payees, .. } => {
                deed.credits = payees.iter().map(|payee| (payee.id, payee.key, payee.credit)).collect();
            }
            Body::Fold { folded, .. } => deed.folded = folded.clone(),
            Body::Withdraw { amount, to, .. } => (deed.withdrawn, deed.destination) = (*amount, *to),
            Body::Rotate { folded, key, .. } => {
                (deed.folded, deed.key, deed.rotates) = (folded.clone(), *key, true);
            }
        }
        deed
    }
}

impl Proven {
    /// The account that claims.
    pub fn account(&self) -> AccountId {
        self.deed.head.id
    }

    /// The accounts that the claim pays.
    pub fn payees(&self) -> impl Iterator<Item = AccountId> + '_ {
        self.deed.credits.iter().map(|(id, ..)| *id)
    }

    /// What leaves the ledger; 0 if the claim is no withdrawal.
    pub fn withdrawn(&self) -> u64 {
        self.deed.withdrawn
    }

    /// To whom a withdrawal is to be paid out: what its owner said; zeros for other claims.
    pub fn destination(&self) -> Destination {
        self.deed.destination
    }
}

/// Verifies claims under a ledger's terms. It keeps 160 KB for each claim of the largest batch that
/// it has verified, at most 42 MB.
#[derive(Clone, Debug)]
pub struct Checker {
    terms: Terms,
    hash: TermsHash,
    auditor: RistrettoPoint,
    spare: Spare,
}

/// Statements of range proofs for the next batch. Each has generators of its own, 160 KB of them
/// in 64 allocations: made anew for each batch they were 42 MB that the system gave and took back.
#[derive(Clone, Default)]
struct Spare(Arc<Mutex<Vec<RangeStatement<RistrettoPoint>>>>);

impl Spare {
    /// The most that are kept: as many as the library verifies at once.
    const MOST: usize = 256;

    /// As many statements as this, of which each says something old.
    fn take(&self, count: usize) -> Vec<RangeStatement<RistrettoPoint>> {
        let mut statements = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        statements.resize_with(count.max(statements.len()), no_statement);
        statements
    }

    fn put_back(&self, mut statements: Vec<RangeStatement<RistrettoPoint>>) {
        statements.truncate(Self::MOST);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = statements;
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spare(..)")
    }
}

/// Equations of many claims, each times a random weight, as one sum that is to be neutral.
struct Weighed {
    scalars: Vec<Scalar>,
    elements: Vec<RistrettoPoint>,
    g: Scalar,
    h: Scalar,
    auditor: Scalar,
}

impl Weighed {
    /// Adds `scalar` times an element of the claim whose own begin at `own`.
    fn add(&mut self, scalar: Scalar, element: Element, own: usize) {
        match element {
            Element::G => self.g += scalar,
            Element::H => self.h += scalar,
            Element::Auditor => self.auditor += scalar,
            Element::Own(at) => self.scalars[own + at] += scalar,
        }
    }
}

/// A claim on its way.
struct Read {
    statement: Statement,
    own: Vec<RistrettoPoint>,
    nonces: Vec<RistrettoPoint>,
}

impl Checker {
    /// Under these terms.
    pub fn new(terms: Terms) -> Checker {
        let auditor = group::read(&terms.auditor().0).expect("`Terms::new` has read it");
        Checker { hash: terms.hash(), terms, auditor, spare: Spare::default() }
    }

    /// Verifies one claim.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn verify_one(&self, claim: &Claim) -> Result<Proven, Refusal> {
        self.verify(&[claim]).map(|mut proven| proven.pop().expect("there is one for each claim"))
    }

    /// Verifies claims at once, best 16 to 256: alone a payment takes four times as long. Gives
    /// what each proves, in order.
    ///
    /// # Errors
    /// At least one claim is bad; of a single one the refusal says why.
    pub fn verify(&self, claims: &[&Claim]) -> Result<Vec<Proven>, Refusal> {
        let read = claims.iter().map(|claim| self.read(claim)).collect::<Result<Vec<_>, _>>()?;
        let mut weighed = Weighed {
            scalars: Vec::new(),
            elements: Vec::new(),
            g: Scalar::ZERO,
            h: Scalar::ZERO,
            auditor: Scalar::ZERO,
        };
        let mut ranges = Vec::new();
        // By one call of the system, not one for each.
        let mut weights = weights(read.iter().map(|read| read.nonces.len()).sum()).into_iter();
        for (claim, read) in claims.iter().zip(&read) {
            let transcript = self.weigh(claim, read, &mut weighed, &mut weights);
            let in_range = claim.body.in_range();
            if !in_range.is_empty() {
                let proof =
                    RistrettoRangeProof::from_bytes(&claim.proof.range).map_err(|_| Refusal::Range)?;
                ranges.push((transcript, in_range, proof, read));
            } else if !claim.proof.range.is_empty() {
                return Err(Refusal::Shape);
            }
        }
        let Weighed { mut scalars, mut elements, g, h, auditor } = weighed;
        scalars.extend([g, h, auditor]);
        elements.extend([group::g(), group::h(), self.auditor]);
        if !RistrettoPoint::vartime_multiscalar_mul(scalars, elements).is_identity() {
            return Err(Refusal::Equation);
        }
        if !is_broken(Flaw::Range) {
            self.verify_ranges(ranges)?;
        }
        let proven = |(claim, read): (&&Claim, Read)| Proven {
            deed: Deed::of(&claim.body, &read.statement, &read.own),
            terms: self.hash,
        };
        Ok(claims.iter().zip(read).map(proven).collect())
    }

    /// Reads the claim's elements, and looks at all that needs no proof.
    fn read(&self, claim: &Claim) -> Result<Read, Refusal> {
        let statement = Statement::of(&claim.body);
        let Claim { body, proof } = claim;
        if proof.nonces.len() != statement.nonces() || proof.responses.len() != statement.witnesses {
            return Err(Refusal::Shape);
        }
        let mut keys = vec![(Some(body.head().id), body.head().key)];
        match body {
            Body::Pay { payees, .. } => keys.extend(payees.iter().map(|payee| (Some(payee.id), payee.key))),
            Body::Rotate { key, .. } => keys.push((None, *key)),
            Body::Open { head } if head.available != Account::EMPTY || head.version != 0 => {
                return Err(Refusal::Shape);
            }
            _ => {}
        }
        if keys.iter().any(|(_, key)| *key == group::NEUTRAL) {
            return Err(Refusal::NotAKey);
        }
        let is_twice = |(at, (id, key)): (usize, &(Option<AccountId>, Bytes))| {
            keys[..at].iter().any(|(other, of_other)| (id.is_some() && id == other) || key == of_other)
        };
        if keys.iter().enumerate().any(is_twice) && !is_broken(Flaw::Twice) {
            return Err(Refusal::Twice);
        }
        let read = |bytes: &[Bytes]| bytes.iter().map(group::read).collect::<Option<Vec<_>>>();
        let own = read(&statement.own).ok_or(Refusal::NotAnElement)?;
        let nonces = read(&proof.nonces).ok_or(Refusal::NotAnElement)?;
        Ok(Read { statement, own, nonces })
    }

    /// Adds the claim's equations. Returns the transcript that its range proof goes on with.
    fn weigh(
        &self,
        claim: &Claim,
        read: &Read,
        weighed: &mut Weighed,
        weights: &mut impl Iterator<Item = Scalar>,
    ) -> Transcript {
        let (mut transcript, joint) = joint(&self.terms, &claim.body);
        let challenge = challenge(&mut transcript, &claim.proof.nonces);
        let own = weighed.scalars.len();
        weighed.scalars.resize(own + read.own.len(), Scalar::ZERO);
        weighed.elements.extend(&read.own);
        // Right less left: so a nonce's scalar has 128 bits, where minus that has 252.
        let mut of_nonces: Vec<_> = weights.take(read.nonces.len()).collect();
        let (mut alone, joint_weight) = (0, *of_nonces.last().expect("each claim has an equation"));
        weighed.elements.extend(&read.nonces);
        let shares = read.statement.shares(joint);
        for (number, (law, share)) in read.statement.laws.iter().zip(shares).enumerate() {
            let weight = match law.proved {
                Proved::Alone => {
                    let weight = &mut of_nonces[alone];
                    alone += 1;
                    if is_broken(Flaw::Law(number)) {
                        *weight = Scalar::ZERO;
                    }
                    *weight
                }
                Proved::Jointly => joint_weight * share,
            };
            let minus = -weight;
            for (witness, factor, element) in &law.left {
                weighed.add(factor.times(minus * claim.proof.responses[*witness]), *element, own);
            }
            let right = weight * challenge;
            for (factor, element) in &law.right.parts {
                weighed.add(factor.times(right), *element, own);
            }
            if law.right.amount != 0 {
                weighed.g += right * amount(law.right.amount);
            }
        }
        weighed.scalars.extend(of_nonces);
        range_transcript(transcript, &claim.proof.responses)
    }

    /// Verifies range proofs, each with the transcript so far and what is to be in range.
    fn verify_ranges(
        &self,
        ranges: Vec<(Transcript, Vec<Bytes>, RistrettoRangeProof, &Read)>,
    ) -> Result<(), Refusal> {
        if ranges.is_empty() {
            return Ok(());
        }
        let (mut transcripts, mut proofs) = (Vec::new(), Vec::new());
        let mut statements = self.spare.take(ranges.len());
        for ((transcript, in_range, proof, read), statement) in ranges.into_iter().zip(&mut statements) {
            let of = |bytes: &Bytes| {
                let at = read.statement.own.iter().position(|own| own == bytes);
                read.own[at.expect("what is in range is in the statement")]
            };
            let elements = in_range.iter().map(of).collect();
            state(statement, in_range, elements);
            transcripts.push(transcript);
            proofs.push(proof);
        }
        let of_these = &statements[..proofs.len()];
        let action = VerifyAction::VerifyOnly;
        let verified = RistrettoRangeProof::verify_batch(&mut transcripts, of_these, &proofs, action);
        self.spare.put_back(statements);
        verified.map(drop).map_err(|_| Refusal::Range)
    }
}

/// Of 128 bits each that nobody can guess: a sum of false equations is neutral once in so many
/// times.
fn weights(count: usize) -> Vec<Scalar> {
    let mut bytes = vec![[0; 16]; count];
    getrandom::fill(bytes.as_flattened_mut()).expect("the system has a random generator");
    bytes.into_iter().map(|bytes| Scalar::from(u128::from_le_bytes(bytes))).collect()
}
