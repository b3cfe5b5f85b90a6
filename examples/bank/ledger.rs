//! The bank's actor: accounts, and what messages do to them.
//!
//! Promise *no-money-made*: a payment takes from one account exactly what it adds to the other, or it is refused and changes neither. The
//! runtime undoes whatever a refused message did, on all shards, so `receive` may stop half way and never asks where accounts live.

use freehold::{AccessError, Actor, Addressees, Objects};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The type of the bank's objects. It has no value: accounts live in the runtime.
pub struct Ledger;

/// What the bank keeps of an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    pub balance: u64,
}

/// What is sent to accounts.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Opens an account with `opening` on it; one that is open stays as it is.
    Open { account: u64, opening: u64 },
    /// Moves `amount` from one account to another.
    Pay { from: u64, to: u64, amount: u64 },
    /// Asks what is on an account.
    Balance { account: u64 },
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The account is open.
    Opened,
    /// The money moved.
    Paid,
    /// What is on the account.
    Balance(u64),
}

/// Why an order was refused. Nothing changed. A payment with several faults is refused for the first of them in this order:
/// to oneself, of zero, no funds, more than an account holds.
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
    /// The runtime did not let the order at its accounts. It names all it touches, and owns them: this is a fault.
    #[error(transparent)]
    Access(#[from] AccessError<u64>),
}

impl Actor for Ledger {
    type Id = u64;
    type State = Account;
    type Message = Order;
    type Reply = Receipt;
    type Error = Refusal;

    fn addressees(order: &Order, to: &mut Addressees<u64>) {
        match *order {
            Order::Open { account, .. } => to.write(account),
            Order::Pay { from, to: payee, .. } => {
                to.write(from);
                to.write(payee);
            }
            Order::Balance { account } => to.read(account),
        }
    }

    fn receive(order: &Order, accounts: &mut Objects<'_, Ledger>) -> Result<Receipt, Refusal> {
        match *order {
            Order::Open { account, opening } => {
                accounts.get_or_insert_with(account, || Account { balance: opening })?;
                Ok(Receipt::Opened)
            }
            Order::Pay { from, to, amount } => {
                pay(from, to, amount, accounts)?;
                Ok(Receipt::Paid)
            }
            Order::Balance { account } => {
                let found = accounts.get(account)?.ok_or(Refusal::NotOpen { account })?;
                Ok(Receipt::Balance(found.balance))
            }
        }
    }
}

fn pay(from: u64, to: u64, amount: u64, accounts: &mut Objects<'_, Ledger>) -> Result<(), Refusal> {
    if from == to {
        return Err(Refusal::ToOneself { account: from });
    }
    if amount == 0 {
        return Err(Refusal::Zero);
    }
    let (payer, payee) = accounts.get_pair_mut(from, to)?;
    let payer = payer.ok_or(Refusal::NotOpen { account: from })?;
    let payee = payee.ok_or(Refusal::NotOpen { account: to })?;
    let no_funds = Refusal::NoFunds { account: from, balance: payer.balance, amount };
    let no_room = Refusal::NoRoom { account: to, balance: payee.balance, amount };
    payer.balance = payer.balance.checked_sub(amount).ok_or(no_funds)?;
    payee.balance = payee.balance.checked_add(amount).ok_or(no_room)?;
    Ok(())
}

/// Why payments are refused, as they are counted and written to the list of refused payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    ToOneself,
    Zero,
    NoFunds,
    NoRoom,
}

impl Reason {
    /// All of them, in the order of [`Reason::index`].
    pub const ALL: [Reason; 4] = [Reason::ToOneself, Reason::Zero, Reason::NoFunds, Reason::NoRoom];

    /// The reason of a refused payment; `None` if the refusal is none a payment should meet, and so is a fault.
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
