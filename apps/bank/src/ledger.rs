//! The bank's actor: accounts, and what messages do to them.
//!
//! Promise *no-money-made*: a payment takes from one account exactly what it adds to the other, or
//! it is refused and changes neither. Where `receive` returns an error the runtime undoes whatever
//! the message did, on all shards, and it never asks where accounts live.
//!
//! Promise *decided-once*, where a log is kept: a payment is made or refused once, ever, however
//! often it is sent. The paying account knows which of its payments were ([`Decided`]), and that is
//! written with what the payment did or not at all. So refusing is an outcome there, with an object
//! of its own, and no error, which would undo it.

use freehold::{AccessError, Actor, Addressees, ObjectId, Objects};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::decided::Decided;

/// The type of the bank's objects. It has no value: accounts live in the runtime.
pub struct Ledger;

/// What the bank keeps an object of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    Account(u64),
    /// A payment that was refused, and the line it stands in. Only where a log is kept.
    Refused {
        payer: u64,
        line: u64,
    },
    /// How far the input is paid. Only where a log is kept.
    Bookmark,
}

impl ObjectId for Key {
    /// What is refused lies beside the account that was to pay.
    fn placement(&self) -> impl std::hash::Hash {
        match *self {
            Key::Account(account) => account,
            Key::Refused { payer, .. } => payer,
            Key::Bookmark => 0,
        }
    }
}

/// What the bank keeps of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Entry {
    Account(Account),
    Refused(Box<Refused>),
    Bookmark(Box<Bookmark>),
}

/// What the bank keeps of an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    pub balance: u64,
    /// Its payments that were decided. In a box, and none without a log, where accounts are to be
    /// small.
    decided: Option<Box<Decided>>,
}

/// A payment that was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    pub to: u64,
    pub amount: u64,
    pub reason: Reason,
}

/// How far the input is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// What is on an account when it is opened.
    pub opening: u64,
    /// Of so many payments, from the first of the input on, all are decided.
    pub decided: u64,
    /// Payments beyond so many have never been handed over.
    pub begun: u64,
    /// The checksum of those.
    pub checksum: u64,
}

/// What is sent to accounts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Opens an account with `opening` on it; one that is open stays as it is.
    Open { account: u64, opening: u64 },
    /// Moves `amount` from one account to another.
    Pay { from: u64, to: u64, amount: u64 },
    /// The same, once: payment `nth` of that account, from line `line`. It is remembered, made or
    /// refused.
    PayOnce { from: u64, to: u64, amount: u64, nth: u64, line: u64 },
    /// Asks what is on an account.
    Balance { account: u64 },
    /// Moves the bookmark.
    Note(Bookmark),
    /// Asks where the bookmark is.
    Find,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The account is open, and was not before.
    Opened,
    /// The account was open. Nothing changed.
    WasOpen,
    /// The money moved.
    Paid,
    /// The payment was refused, and that is kept.
    Refused,
    /// The payment was made or refused before. Nothing changed.
    Before,
    /// What is on the account.
    Balance(u64),
    /// Where the bookmark is, if there is one.
    Bookmark(Option<Bookmark>),
}

/// Why an order was refused. Nothing changed. A payment with several faults is refused for the
/// first of them in this order: to oneself, of zero, no funds, more than an account holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("account {account} pays itself")]
    ToOneself { account: u64 },
    #[error("the payment is of zero")]
    Zero,
    #[error("account {account} has {balance} and was to pay {amount}")]
    NoFunds { account: u64, balance: u64, amount: u64 },
    #[error("account {account} has {balance} and cannot hold {amount} more")]
    NoRoom { account: u64, balance: u64, amount: u64 },
    #[error("account {account} is not open")]
    NotOpen { account: u64 },
    /// The runtime did not let the order at its accounts. It names all it touches, and owns them:
    /// this is a fault.
    #[error("the runtime did not let the order at its accounts: {0}")]
    Access(#[from] AccessError<Key>),
}

impl Actor for Ledger {
    type Id = Key;
    type State = Entry;
    type Message = Order;
    type Reply = Receipt;
    type Error = Refusal;

    fn addressees(order: &Order, to: &mut Addressees<Key>) {
        match *order {
            Order::Open { account, .. } => to.write(Key::Account(account)),
            // What is refused is not named. It seldom is, and what is not named is seen to by the
            // runtime.
            Order::Pay { from, to: payee, .. } | Order::PayOnce { from, to: payee, .. } => {
                to.write(Key::Account(from));
                to.write(Key::Account(payee));
            }
            Order::Balance { account } => to.read(Key::Account(account)),
            Order::Note(_) => to.write(Key::Bookmark),
            Order::Find => to.read(Key::Bookmark),
        }
    }

    fn receive(order: &Order, objects: &mut Objects<'_, Ledger>) -> Result<Receipt, Refusal> {
        match *order {
            Order::Open { account, opening } => {
                if objects.get(Key::Account(account))?.is_some() {
                    return Ok(Receipt::WasOpen);
                }
                let opened = Entry::Account(Account { balance: opening, decided: None });
                objects.insert(Key::Account(account), opened)?;
                Ok(Receipt::Opened)
            }
            Order::Pay { from, to, amount } => {
                pay(from, to, amount, objects)?;
                Ok(Receipt::Paid)
            }
            Order::PayOnce { from, to, amount, nth, line } => {
                let payer = opened(objects.get_mut(Key::Account(from))?, from)?;
                if !payer.decided.get_or_insert_default().insert(nth) {
                    return Ok(Receipt::Before);
                }
                let Err(refusal) = pay(from, to, amount, objects) else { return Ok(Receipt::Paid) };
                // A fault undoes all, and the payment is not decided.
                let reason = Reason::of(&refusal).ok_or(refusal)?;
                let refused = Entry::Refused(Box::new(Refused { to, amount, reason }));
                objects.insert(Key::Refused { payer: from, line }, refused)?;
                Ok(Receipt::Refused)
            }
            Order::Balance { account } => match objects.get(Key::Account(account))? {
                Some(Entry::Account(found)) => Ok(Receipt::Balance(found.balance)),
                _ => Err(Refusal::NotOpen { account }),
            },
            Order::Note(bookmark) => {
                objects.insert(Key::Bookmark, Entry::Bookmark(Box::new(bookmark)))?;
                Ok(Receipt::Bookmark(Some(bookmark)))
            }
            Order::Find => Ok(Receipt::Bookmark(match objects.get(Key::Bookmark)? {
                Some(Entry::Bookmark(bookmark)) => Some(**bookmark),
                _ => None,
            })),
        }
    }
}

fn opened(found: Option<&mut Entry>, account: u64) -> Result<&mut Account, Refusal> {
    match found {
        Some(Entry::Account(found)) => Ok(found),
        _ => Err(Refusal::NotOpen { account }),
    }
}

/// Moves the money, or changes nothing.
fn pay(from: u64, to: u64, amount: u64, objects: &mut Objects<'_, Ledger>) -> Result<(), Refusal> {
    if from == to {
        return Err(Refusal::ToOneself { account: from });
    }
    if amount == 0 {
        return Err(Refusal::Zero);
    }
    let (payer, payee) = objects.get_pair_mut(Key::Account(from), Key::Account(to))?;
    let (payer, payee) = (opened(payer, from)?, opened(payee, to)?);
    let no_funds = Refusal::NoFunds { account: from, balance: payer.balance, amount };
    let no_room = Refusal::NoRoom { account: to, balance: payee.balance, amount };
    let left = payer.balance.checked_sub(amount).ok_or(no_funds)?;
    payee.balance = payee.balance.checked_add(amount).ok_or(no_room)?;
    payer.balance = left;
    Ok(())
}

/// Why payments are refused, as they are counted and written to the list of refused payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    ToOneself,
    Zero,
    NoFunds,
    NoRoom,
}

impl Reason {
    /// All of them, in the order of [`Reason::index`].
    pub const ALL: [Reason; 4] = [Reason::ToOneself, Reason::Zero, Reason::NoFunds, Reason::NoRoom];

    /// The reason of a refused payment; `None` if the refusal is none a payment should meet, and so
    /// is a fault.
    pub fn of(refusal: &Refusal) -> Option<Reason> {
        match refusal {
            Refusal::ToOneself { .. } => Some(Reason::ToOneself),
            Refusal::Zero => Some(Reason::Zero),
            Refusal::NoFunds { .. } => Some(Reason::NoFunds),
            Refusal::NoRoom { .. } => Some(Reason::NoRoom),
            Refusal::NotOpen { .. } | Refusal::Access(_) => None,
        }
    }

    /// Its place in [`Reason::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in reports and files.
    pub fn label(self) -> &'static str {
        match self {
            Reason::ToOneself => "to oneself",
            Reason::Zero => "of zero",
            Reason::NoFunds => "no funds",
            Reason::NoRoom => "balance too large",
        }
    }
}
