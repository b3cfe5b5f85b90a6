//! The accounts as objects of Freehold, and the verifier of their gate.
//!
//! Everything but a deposit comes through the gate: a [`Message`] that changes an account holds a
//! [`Proven`], which only the verifier makes.

use std::collections::BTreeMap;

use freehold::{AccessError, Actor, Addressees, Handle, Objects, Schema, SnapshotError, Verifier};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::account::{Account, NotApplied};
use crate::check::{Checker, Proven, Refusal};
use crate::claim::{AccountId, Claim, Destination, Head};
use crate::key::PublicKey;
use crate::terms::Terms;

/// An actor whose objects are accounts.
///
/// ```no_run
/// use freehold::{Config, GateConfig, Runtime};
/// use freehold_private::{AuditorSecret, Guard, Ledger, Secret, Submission, Terms, Wallet};
///
/// let terms = Terms::new([7; 32], AuditorSecret::random().public()).unwrap();
/// let runtime = Runtime::<Ledger>::start(Config::default())?;
/// let guarded = terms.clone();
/// let gate = runtime.gate(GateConfig::default(), move || Guard::new(guarded.clone()))?;
/// let open = Wallet::new(terms, 1, Secret::random()).open();
/// let receipt = gate.ask(Submission { claim: open, sender: 0 }).wait();
/// println!("{receipt:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Ledger;

/// What is sent to accounts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Message {
    /// An amount comes in, in the open: the operator says that he has got it.
    Deposit {
        /// The account it goes to.
        account: AccountId,
        /// The key that whoever pays in knows it by: anybody may have opened an account of any id.
        key: PublicKey,
        /// How much.
        amount: u64,
    },
    /// Whether a claim may still come to be.
    #[serde(skip)]
    Look(Look),
    /// What was proven. Neither written nor read: nothing but a verifier makes one.
    #[serde(skip)]
    Proven(Box<Proven>),
}

/// A look at the account that a claim was made from.
#[derive(Clone, Debug)]
pub struct Look {
    head: Head,
    opens: bool,
}

/// What an account says of a message that had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The version of the claimant's account now; 0 for a deposit.
    pub version: u64,
    /// What leaves the ledger: pay it out.
    pub withdrawn: u64,
    /// To whom, as the owner has proved that he wants it; zeros if nothing leaves.
    pub destination: Destination,
}

/// Why a message had no effect. Nothing changed anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// A proven claim, or a deposit, does not fit the accounts.
    #[error(transparent)]
    NotApplied(#[from] NotApplied),
    /// An account could not be reached as asked.
    #[error(transparent)]
    Access(#[from] AccessError<AccountId>),
}

impl Actor for Ledger {
    /// The second version: see [`Ledger::log`].
    const SCHEMA: Schema = Schema::new(2);
    type Id = AccountId;
    type State = Account;
    type Message = Message;
    type Reply = Receipt;
    type Error = Refused;

    fn addressees(message: &Message, to: &mut Addressees<AccountId>) {
        match message {
            Message::Deposit { account, .. } => to.write(*account),
            Message::Look(look) => to.read(look.head.id),
            Message::Proven(proven) => {
                to.write(proven.account());
                proven.payees().for_each(|payee| to.write(payee));
            }
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Receipt, Refused> {
        match message {
            Message::Deposit { account, key, amount } => {
                let state = objects.get_mut(*account)?.ok_or(NotApplied::NotOpen(*account))?;
                if state.key() != *key {
                    return Err(NotApplied::WrongKey(*account).into());
                }
                state.deposit(*amount)?;
                Ok(Receipt { version: 0, withdrawn: 0, destination: [0; 32] })
            }
            Message::Look(look) => {
                let version = match (objects.get(look.head.id)?, look.opens) {
                    (Some(_), true) => return Err(NotApplied::AlreadyOpen(look.head.id).into()),
                    (Some(account), false) => {
                        account.may_come_to_be(&look.head)?;
                        account.version()
                    }
                    // The claim that opens it may be under way.
                    (None, _) => 0,
                };
                Ok(Receipt { version, withdrawn: 0, destination: [0; 32] })
            }
            Message::Proven(proven) => Self::apply(proven, objects),
        }
    }
}

impl Ledger {
    /// All accounts as of one instant, by id: what [`Books`](crate::Books) are of. Each is copied on
    /// its shard, between the shard's turns. Blocks the calling thread, which is no shard's.
    ///
    /// # Errors
    /// The snapshot did not open, or it was revoked while it was read.
    pub fn accounts(handle: &Handle<Ledger>) -> Result<BTreeMap<AccountId, Account>, SnapshotError> {
        let add = |all: &mut BTreeMap<_, _>, id, account: &Account| {
            all.insert(id, account.clone());
        };
        let join = |mut one: BTreeMap<_, _>, mut other| {
            one.append(&mut other);
            one
        };
        handle.snapshot().wait()?.fold(BTreeMap::new, add, join).wait()
    }

    fn apply(proven: &Proven, objects: &mut Objects<'_, Self>) -> Result<Receipt, Refused> {
        let id = proven.account();
        let version = if proven.deed.opens {
            if objects.contains(id)? {
                return Err(NotApplied::AlreadyOpen(id).into());
            }
            objects.insert(id, Account::opened(proven)?)?;
            1
        } else {
            let account = objects.get_mut(id)?.ok_or(NotApplied::NotOpen(id))?;
            account.spend(proven)?;
            account.version()
        };
        for (number, payee) in proven.payees().enumerate() {
            // What was changed before is undone if this is refused.
            objects.get_mut(payee)?.ok_or(NotApplied::NotOpen(payee))?.receive(proven, number)?;
        }
        Ok(Receipt { version, withdrawn: proven.withdrawn(), destination: proven.destination() })
    }
}

/// A claim as it comes to the gate.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The claim.
    pub claim: Claim,
    /// Where it came from, such as a number of the connection. Anybody may name any account in a
    /// claim, so the claim itself does not say whom to suspect.
    pub sender: u64,
}

/// The verifier of a [`Ledger`]'s gate. Its lines are accounts: an owner's claims come to pass in
/// the order they were made.
#[derive(Clone, Debug)]
pub struct Guard(Checker);

impl Guard {
    /// Under these terms. All gates of a ledger are to have the same.
    pub fn new(terms: Terms) -> Guard {
        Guard(Checker::new(terms))
    }
}

impl Verifier<Ledger> for Guard {
    type Claim = Submission;
    type Refusal = Refusal;

    fn line(submission: &Submission) -> u64 {
        submission.claim.account()
    }

    fn sender(submission: &Submission) -> u64 {
        submission.sender
    }

    fn probe(Submission { claim, .. }: &Submission) -> Option<Message> {
        Some(Message::Look(Look { head: claim.body.head().clone(), opens: claim.opens() }))
    }

    fn verify(&mut self, submissions: &[&Submission]) -> Result<Vec<Message>, Refusal> {
        let claims: Vec<_> = submissions.iter().map(|submission| &submission.claim).collect();
        let proven = self.0.verify(&claims)?;
        Ok(proven.into_iter().map(|proven| Message::Proven(Box::new(proven))).collect())
    }
}
