// The bank of this folder's examples, which include it: an account for each number.

use freehold::{AccessError, Config, Objects, Receive, Runtime, Shards, To};
use serde::{Deserialize, Serialize};

freehold::actor! {
    actor Bank {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { Account(number: u64) }
        messages { Deposit -> u64 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    cents: u64,
}

/// Answered by what there is then.
#[derive(Debug, Serialize, Deserialize)]
struct Deposit {
    account: u64,
    cents: u64,
}

impl Receive<Bank> for Deposit {
    fn addressees(&self, to: &mut To<'_, Bank>) {
        to.write::<Account>(self.account);
    }

    fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<u64, AccessError<Id>> {
        let account = objects.write_or_insert_with(self.account, Account::default)?;
        account.cents += self.cents;
        Ok(account.cents)
    }
}

fn start() -> Runtime<Bank> {
    Runtime::start(Config { shards: Shards::Count(1), ..Config::default() }).expect("it starts")
}
