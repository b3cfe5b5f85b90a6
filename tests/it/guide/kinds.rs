//! Several kinds, and texts as keys.

use freehold::{AccessError, AskError, Config, Key, Named, Objects, Receive, Runtime, Shards, To};

use super::{Deserialize, Duration, Error, Serialize};

freehold::actor! {
    pub actor Bank {
        id: Id, state: State, message: Message, reply: Reply, error: Refused,
        kinds {
            Account(number: u64) at number,
            // A card lives where its account does.
            Card(account: u64, card: u8) at account,
            Owner(name: Key),
        }
        messages {
            Spend -> u64,
            Reset -> (),
            Visit -> u32,
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Account {
    cents: u64,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Card {
    left_today: u64,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Owner {
    name: String,
    visits: u32,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error("there is no such account or card")]
    Unknown,
    #[error("the card has a limit")]
    Limit,
    #[error("not enough cents")]
    Funds,
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

pub struct Spend {
    account: u64,
    card: u8,
    cents: u64,
}

pub struct Reset {
    account: u64,
    card: u8,
}

pub struct Visit {
    name: String,
}

impl Receive<Bank> for Spend {
    fn addressees(&self, to: &mut To<'_, Bank>) {
        to.write::<Account>(self.account);
        to.write::<Card>((self.account, self.card));
    }

    // The balance that is left: what `messages` says of `Spend`.
    fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<u64, Refused> {
        let (account, card) = objects.pair::<Account, Card>(self.account, (self.account, self.card))?;
        let (account, card) = (account.ok_or(Refused::Unknown)?, card.ok_or(Refused::Unknown)?);
        card.left_today = card.left_today.checked_sub(self.cents).ok_or(Refused::Limit)?;
        account.cents = account.cents.checked_sub(self.cents).ok_or(Refused::Funds)?;
        let left = account.cents;
        objects.send_after(DAY, Reset { account: self.account, card: self.card })?;
        Ok(left)
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// Makes account and card where there is none.
impl Receive<Bank> for Reset {
    fn addressees(&self, to: &mut To<'_, Bank>) {
        to.write::<Card>((self.account, self.card));
        to.write::<Account>(self.account);
    }

    fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<(), Refused> {
        objects.write_or_insert_with(self.account, || Account { cents: 100 })?;
        objects.put((self.account, self.card), Card { left_today: 50 })?;
        Ok(())
    }
}

impl Named for Owner {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Receive<Bank> for Visit {
    fn addressees(&self, to: &mut To<'_, Bank>) {
        to.write::<Owner>(Key::new(&self.name));
    }

    fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<u32, Refused> {
        let new = || Owner { name: self.name.clone(), visits: 0 };
        let owner = objects.write_named_or_insert_with(&self.name, new)?;
        owner.visits += 1;
        Ok(owner.visits)
    }
}

#[test]
fn a_bank_of_accounts_cards_and_owners() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::<Bank>::start(Config { shards: Shards::Count(2), ..Config::default() })?;
    let bank = runtime.handle();
    assert_eq!(bank.home(&Id::Account(7)), bank.home(&Id::Card((7, 1))));
    let spend = |cents| bank.call(Spend { account: 7, card: 1, cents }).wait();
    assert_eq!(spend(1), Err(AskError::Aborted(Refused::Unknown)));
    bank.call(Reset { account: 7, card: 1 }).wait()?;
    assert_eq!(spend(30), Ok(70));
    assert_eq!(spend(30), Err(AskError::Aborted(Refused::Limit)));
    bank.call(Reset { account: 7, card: 1 }).wait()?;
    assert_eq!(spend(50), Ok(20));
    bank.call(Reset { account: 7, card: 1 }).wait()?;
    assert_eq!(spend(21), Err(AskError::Aborted(Refused::Funds)));
    for name in ["user:42", "a user with a name of more than fifteen bytes"] {
        let visit = || bank.call(Visit { name: name.to_owned() }).wait();
        assert_eq!((visit(), visit()), (Ok(1), Ok(2)));
    }
    Ok(())
}
