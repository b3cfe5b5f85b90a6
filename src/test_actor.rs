//! The actor of the unit tests: accounts that hold coins, addressed by number.

use freehold_shard::{AccessError, Actor, Addressees, Envelope, Objects, OwnerId, ReturnAddress};

pub(crate) struct Accounts;

/// No account has this number: at a message that adds to it `addressees` panics.
pub(crate) const NOWHERE: u64 = u64::MAX;

#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// Adds coins; the reply is how many there are then.
    Add { account: u64, coins: u64 },
    /// Moves all coins into another account.
    Empty { from: u64, into: u64 },
    /// Has another account, wherever it lives, add coins.
    Pass { account: u64, to: u64, coins: u64 },
    /// The same, in a while.
    PassAfter { account: u64, to: u64, coins: u64, after_ms: u64 },
    /// How many coins there are.
    Count { account: u64 },
    /// Panics.
    Break { account: u64 },
    /// Is refused.
    Refuse { account: u64 },
    /// Names nobody.
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    Access,
    Refused,
}

impl From<AccessError<u64>> for Error {
    fn from(error: AccessError<u64>) -> Self {
        let _ = error;
        Error::Access
    }
}

impl Actor for Accounts {
    type Id = u64;
    type State = u64;
    type Message = Message;
    type Reply = u64;
    type Error = Error;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Add { account: NOWHERE, .. } => panic!("this is nowhere"),
            Message::Add { account, .. }
            | Message::Pass { account, .. }
            | Message::PassAfter { account, .. }
            | Message::Break { account }
            | Message::Refuse { account } => to.write(account),
            Message::Count { account } => to.read(account),
            Message::Empty { from, into } => {
                to.write(from);
                to.write(into);
            }
            Message::Nobody => {}
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, Error> {
        match *message {
            Message::Add { account, coins } => {
                let held = objects.get_or_insert_with(account, || 0)?;
                *held += coins;
                Ok(*held)
            }
            Message::Empty { from, into } => {
                let coins = objects.get(from)?.copied().unwrap_or(0);
                objects.insert(from, 0)?;
                let held = objects.get_or_insert_with(into, || 0)?;
                *held += coins;
                Ok(*held)
            }
            Message::Pass { to, coins, .. } => {
                objects.tell(Message::Add { account: to, coins })?;
                Ok(coins)
            }
            Message::PassAfter { to, coins, after_ms, .. } => {
                objects.tell_after(
                    std::time::Duration::from_millis(after_ms),
                    Message::Add { account: to, coins },
                )?;
                Ok(coins)
            }
            Message::Count { account } => Ok(objects.get(account)?.copied().unwrap_or(0)),
            Message::Break { .. } => panic!("this account breaks on purpose"),
            Message::Refuse { .. } => Err(Error::Refused),
            Message::Nobody => Ok(0),
        }
    }
}

/// Adds coins to account 1, which nobody waits for.
pub(crate) fn tell(coins: u64) -> Envelope<Accounts> {
    Envelope::Message {
        message: Message::Add { account: 1, coins },
        sender: OwnerId(0),
        answer_to: ReturnAddress::Nobody,
    }
}
