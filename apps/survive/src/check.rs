//! What must hold after a crash, and whether it does: from what was acknowledged, and what the
//! accounts say.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::{Account, Payment};

/// An acknowledgement, as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub number: u64,
    /// Payments from this number on were sent after it.
    pub next: u64,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It was acknowledged, and is not there.
    Lost(u64),
    /// It is there, and one that had been acknowledged before it was sent is not.
    Hole { lost: u64, there: u64 },
    /// Money left an account and did not arrive, or the other way round.
    Torn(u64),
    /// It was made more than once.
    Twice(u64),
    /// It is at an account that has nothing to do with it, or was never sent.
    Strange { account: u64, number: u64 },
    /// An account does not hold what it must.
    Balance { account: u64, holds: i64, must: i64 },
    /// All accounts together do not hold what they were opened with, which is nothing.
    Sum(i64),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |number: u64| format!("payment {}", as_text(number));
        match *self {
            Wrong::Lost(number) => write!(f, "{} was acknowledged and is lost", name(number)),
            Wrong::Hole { lost, there } => {
                write!(
                    f,
                    "{} is lost, and {}, which was sent after its acknowledgement, is not",
                    name(lost),
                    name(there)
                )
            }
            Wrong::Torn(number) => write!(f, "{} is torn: only one of its accounts knows it", name(number)),
            Wrong::Twice(number) => write!(f, "{} was made more than once", name(number)),
            Wrong::Strange { account, number } => {
                write!(f, "account {account} knows of {}, and cannot", name(number))
            }
            Wrong::Balance { account, holds, must } => {
                write!(f, "account {account} holds {holds} and must hold {must}")
            }
            Wrong::Sum(sum) => write!(f, "all accounts together hold {sum} and must hold 0"),
        }
    }
}

/// A number as life and number in it.
pub fn as_text(number: u64) -> String {
    format!("{}-{}", number >> crate::ledger::LIFE_BITS, number & ((1 << crate::ledger::LIFE_BITS) - 1))
}

/// What a crash may take of what was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Losses {
    Nothing,
    TheLast,
}

/// What is known of all payments so far.
pub struct Books {
    seed: u64,
    accounts: u64,
    losses: Losses,
    /// What every account held when it was last checked.
    held: BTreeMap<u64, i64>,
    /// Acknowledged since.
    acknowledged: Vec<Acknowledged>,
}

/// What a check found.
#[derive(Default)]
pub struct Checked {
    pub wrong: Vec<Wrong>,
    /// Payments that were there and new.
    pub there: u64,
    /// Of those that were acknowledged.
    pub kept: u64,
    pub lost: u64,
}

impl Books {
    pub fn new(seed: u64, accounts: u64, losses: Losses) -> Self {
        Books { seed, accounts, losses, held: BTreeMap::new(), acknowledged: Vec::new() }
    }

    pub fn acknowledge(&mut self, more: impl IntoIterator<Item = Acknowledged>) {
        self.acknowledged.extend(more);
    }

    /// Compares what the accounts say with what they must say. Payments from `checked` on are new,
    /// those below `end` may be. What is there then counts as acknowledged: it must not be lost any
    /// more.
    pub fn check(&mut self, found: &BTreeMap<u64, Account>, checked: u64, end: u64) -> Checked {
        let mut result = Checked::default();
        let wrong = &mut result.wrong;
        let payment = |number| Payment::numbered(self.seed, number, self.accounts, checked);
        // How often each was found, as paid and as got.
        let mut seen: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for (&id, account) in found {
            let mut must = self.held.get(&id).copied().unwrap_or(0);
            for (&number, is_payer) in
                account.paid.iter().map(|n| (n, true)).chain(account.got.iter().map(|n| (n, false)))
            {
                if number < checked {
                    continue;
                }
                let Payment { from, to, amount, .. } = payment(number);
                if number >= end || id != if is_payer { from } else { to } {
                    wrong.push(Wrong::Strange { account: id, number });
                    continue;
                }
                let seen = seen.entry(number).or_default();
                if is_payer {
                    seen.0 += 1;
                    must -= amount;
                } else {
                    seen.1 += 1;
                    must += amount;
                }
            }
            if account.balance != must {
                wrong.push(Wrong::Balance { account: id, holds: account.balance, must });
            }
        }
        for (&account, &must) in self.held.iter().filter(|(id, must)| **must != 0 && !found.contains_key(id))
        {
            wrong.push(Wrong::Balance { account, holds: 0, must });
        }
        for (&number, &times) in &seen {
            match times {
                (1, 1) => {}
                (0, _) | (_, 0) => wrong.push(Wrong::Torn(number)),
                _ => wrong.push(Wrong::Twice(number)),
            }
        }
        let sum: i64 = found.values().map(|account| account.balance).sum();
        if sum != 0 {
            wrong.push(Wrong::Sum(sum));
        }
        let acknowledged: BTreeSet<u64> = self.acknowledged.iter().map(|it| it.number).collect();
        let last = seen.keys().next_back().copied();
        for Acknowledged { number, next } in self.acknowledged.drain(..) {
            if seen.contains_key(&number) {
                continue;
            }
            result.lost += 1;
            if self.losses == Losses::Nothing {
                wrong.push(Wrong::Lost(number));
            } else if let Some(there) = last.filter(|last| *last >= next) {
                wrong.push(Wrong::Hole { lost: number, there });
            }
        }
        result.there = seen.len() as u64;
        result.kept = acknowledged.len() as u64 - result.lost;
        self.held = found.iter().map(|(id, account)| (*id, account.balance)).collect();
        result
    }
}
