//! The bank of the examples in the documentation of `freehold`: an account for each number.
//!
//! It is a package because every example is a program of its own. Each that wrote its own bank had
//! a whole runtime compiled for it: fifty of them took a minute and a half.
#![allow(missing_docs, reason = "its readers see it in examples; nobody uses it otherwise")]

use freehold::{AccessError, Config, Objects, Receive, Runtime, Shards, To};
use serde::{Deserialize, Serialize};

freehold::actor! {
    pub actor Bank {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { Account(number: u64) }
        messages { Deposit -> u64 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub cents: u64,
}

/// Answered by what there is then.
#[derive(Debug, Serialize, Deserialize)]
pub struct Deposit {
    pub account: u64,
    pub cents: u64,
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

pub fn start() -> Runtime<Bank> {
    Runtime::start(Config { shards: Shards::Count(1), ..Config::default() }).expect("it starts")
}
