//! The books: what is on every account in the end, asked of each account, and whether that is all
//! the money there was.

use std::collections::VecDeque;
use std::io::{self, Write};

use freehold::{AskAll, AskError, Handle};

use crate::ledger::{Ledger, Order, Receipt, Refusal};
use crate::run::Plan;

/// What the accounts hold together, and what they should.
pub struct Books {
    pub accounts: u64,
    /// What they were opened with, together.
    pub opened: u128,
    /// What they hold, together.
    pub held: u128,
    /// Accounts that could not be read, and why the first could not.
    pub unread: u64,
    pub first_unread: Option<AskError<Refusal>>,
}

impl Books {
    /// Whether no money was made or lost.
    pub fn balance(&self) -> bool {
        self.unread == 0 && self.held == self.opened
    }
}

/// Asks every account what is on it, in batches as payments are, and writes the balances to `list`
/// in the order of `accounts`.
///
/// # Errors
/// If the balances cannot be written.
pub fn check_books(
    handle: &Handle<Ledger>,
    plan: &Plan,
    accounts: &[u64],
    mut list: Option<Box<dyn Write>>,
) -> io::Result<Books> {
    let mut books = Books {
        accounts: accounts.len() as u64,
        opened: accounts.len() as u128 * u128::from(plan.opening),
        held: 0,
        unread: 0,
        first_unread: None,
    };
    if let Some(list) = &mut list {
        writeln!(list, "account,balance")?;
    }
    let mut flights: VecDeque<(&[u64], AskAll<Ledger>)> = VecDeque::new();
    for asked in accounts.chunks(plan.batch) {
        if flights.len() == plan.in_flight {
            read(&mut flights, &mut books, &mut list)?;
        }
        let answers = handle.ask_all(asked.iter().map(|&account| Order::Balance { account }));
        flights.push_back((asked, answers));
    }
    while !flights.is_empty() {
        read(&mut flights, &mut books, &mut list)?;
    }
    if let Some(list) = &mut list {
        list.flush()?;
    }
    Ok(books)
}

/// Reads the batch of accounts that was asked first.
fn read(
    flights: &mut VecDeque<(&[u64], AskAll<Ledger>)>,
    books: &mut Books,
    list: &mut Option<Box<dyn Write>>,
) -> io::Result<()> {
    let Some((asked, answers)) = flights.pop_front() else { return Ok(()) };
    let answers = answers.wait();
    assert_eq!(answers.len(), asked.len(), "the runtime answers each message once");
    for (account, answer) in asked.iter().zip(answers) {
        match answer {
            Ok(Receipt::Balance(balance)) => {
                books.held += u128::from(balance);
                if let Some(list) = list {
                    writeln!(list, "{account},{balance}")?;
                }
            }
            Ok(other) => unreachable!("a question for the balance is answered by it, not by {other:?}"),
            Err(error) => {
                books.unread += 1;
                books.first_unread.get_or_insert(error);
            }
        }
    }
    Ok(())
}
