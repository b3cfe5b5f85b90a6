//! Accounts of which each payment is there once, or not at all.

use freehold::{AccessError, Actor, Addressees, Objects};
use serde::{Deserialize, Serialize};

/// Accounts, and payments by their numbers.
pub struct Bank;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Moves a coin from an account to the next one, and counts how often that was done.
    Pay { number: u64 },
    /// What an account has, or how often a payment was made.
    Read(u64),
}

/// How many accounts there are.
pub const ACCOUNTS: u64 = 16;
/// Payments are objects behind the accounts.
pub const PAYMENTS: u64 = 1 << 32;

impl Actor for Bank {
    type Id = u64;
    type State = i64;
    type Message = Message;
    type Reply = i64;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Read(id) => to.read(id),
            Message::Pay { number } => {
                to.write(number % ACCOUNTS);
                to.write((number + 1) % ACCOUNTS);
                to.write(PAYMENTS + number);
            }
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<i64, AccessError<u64>> {
        match *message {
            Message::Read(id) => Ok(objects.get(id)?.copied().unwrap_or_default()),
            Message::Pay { number } => {
                *objects.get_or_insert_with(number % ACCOUNTS, || 0)? -= 1;
                *objects.get_or_insert_with((number + 1) % ACCOUNTS, || 0)? += 1;
                let made = objects.get_or_insert_with(PAYMENTS + number, || 0)?;
                *made += 1;
                Ok(*made)
            }
        }
    }
}
