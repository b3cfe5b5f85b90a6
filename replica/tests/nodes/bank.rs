//! Accounts of which each payment is there once, or not at all.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

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
    /// Writes an account as it is.
    Touch(u64),
    /// The same as `Read`, and its shard does nothing else until [`let_go`] is called.
    Hold(u64),
}

/// The accounts that are held, and whether they are let go.
static HELD: Mutex<BTreeMap<u64, bool>> = Mutex::new(BTreeMap::new());
static HELD_CHANGED: Condvar = Condvar::new();

/// Waits until this account is held.
pub fn is_held(id: u64) {
    let held = HELD.lock().expect("nobody panics with it");
    drop(HELD_CHANGED.wait_while(held, |held| !held.contains_key(&id)));
}

/// Lets go of it.
pub fn let_go(id: u64) {
    HELD.lock().expect("nobody panics with it").insert(id, true);
    HELD_CHANGED.notify_all();
}

fn hold(id: u64) {
    let mut held = HELD.lock().expect("nobody panics with it");
    held.insert(id, false);
    HELD_CHANGED.notify_all();
    let held = HELD_CHANGED.wait_while(held, |held| !held[&id]);
    held.expect("nobody panics with it").remove(&id);
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
            Message::Read(id) | Message::Hold(id) => to.read(id),
            Message::Touch(id) => to.write(id),
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
            Message::Touch(id) => Ok(*objects.get_or_insert_with(id, || 0)?),
            Message::Hold(id) => {
                hold(id);
                Ok(objects.get(id)?.copied().unwrap_or_default())
            }
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
