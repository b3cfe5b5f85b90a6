//! The microbenchmark of H-Store: each transaction reads twelve keys and then updates them, on one
//! partition or on two.
//!
//! Source: E. P. C. Jones, D. J. Abadi, S. Madden, "Low Overhead Concurrency Control for
//! Partitioned Main Memory Databases", SIGMOD 2010, section 5.1; aborts as in its section 5.3.
//!
//! With [`Cross::Percent`](crate::Cross::Percent) a transaction is one of the paper: all keys on
//! the client's shard, or six there and six on one other. The paper knows no natural share;
//! [`Cross::Natural`](crate::Cross::Natural) here means that the first key lives with the client
//! and the others are drawn anywhere, as by an application that does not know the placement.
//!
//! What differs: clients share all keys and do not have twelve each, so how often they conflict is
//! for the number of rows and the skew to say (the paper's section 5.2 sets it by hand); a client
//! begins on its own partition and not on a random one; and an abort is decided between the reads
//! and the first update, on no single partition. The invariant is that all values together are what
//! was committed, twelve each.

use std::ops::AddAssign;

use freehold_shard::Addressees;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::draw::{Popularity, Skew};
use crate::stream::{Client, NoRow};
use crate::workload::{Refused, Rows, Workload};

/// Keys of a transaction, all different.
const KEYS: usize = 12;

/// The workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HStoreMicro {
    /// Rows in the database, of all shards together.
    pub rows: u64,
    /// How unevenly they are drawn.
    pub skew: Skew,
    /// How many transactions abort, from 0 to 1. The paper goes to 0.1.
    pub aborts: f64,
}

/// One transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transaction {
    keys: [u32; KEYS],
    aborts: bool,
}

/// Increments.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Of all values; of a client, what it was told of.
    increments: u64,
    rows: u64,
    /// What was read, so that no engine's compiler leaves the reading out.
    checksum: u64,
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.increments += other.increments;
        self.rows += other.rows;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

const NO_ROW: Refused<u32> = Refused::Broken("there is no such row");

impl Workload for HStoreMicro {
    type Id = u32;
    /// How often it was incremented.
    type Row = u64;
    type Transaction = Transaction;
    /// The sum of what was read.
    type Reply = u64;
    type Tally = Sum;
    type Audit = Sum;

    /// A quarter of what others have: a transaction is twelve draws.
    const STREAM: usize = 1 << 15;

    fn name(&self) -> &'static str {
        "micro"
    }

    fn load(&self, put: &mut dyn FnMut(u32, u64)) {
        (0..self.rows as u32).for_each(|key| put(key, 0));
    }

    fn draw(&self, client: &mut Client) -> Result<Vec<Transaction>, NoRow> {
        let popularity = Popularity::new(self.rows, self.skew)?;
        let one = |client: &mut Client| -> Result<Transaction, NoRow> {
            let keys = client.draw_dealt(2, |random| popularity.draw(random) as u32)?;
            Ok(Transaction { keys, aborts: client.random.random_bool(self.aborts) })
        };
        (0..Self::STREAM).map(|_| one(client)).collect()
    }

    #[inline]
    fn addressees(transaction: &Transaction, to: &mut Addressees<u32>) {
        transaction.keys.iter().for_each(|key| to.write(*key));
    }

    #[inline]
    fn run(transaction: &Transaction, rows: &mut impl Rows<Self>) -> Result<u64, Refused<u32>> {
        let mut read = 0_u64;
        for key in transaction.keys {
            read = read.wrapping_add(*rows.get(key)?.ok_or(NO_ROW)?);
        }
        if transaction.aborts {
            return Err(Refused::Aborted("as drawn"));
        }
        for key in transaction.keys {
            *rows.get_mut(key)?.ok_or(NO_ROW)? += 1;
        }
        Ok(read)
    }

    #[inline]
    fn tally(tally: &mut Sum, _: &Transaction, reply: &u64) {
        tally.increments += KEYS as u64;
        tally.checksum = tally.checksum.wrapping_add(*reply);
    }

    fn audit(&self, audit: &mut Sum, _: &u32, row: &u64) {
        *audit += Sum { increments: *row, rows: 1, checksum: 0 };
    }

    fn verdict(&self, acknowledged: &Sum, found: &Sum) -> Result<(), String> {
        let (rows, increments) = (self.rows, acknowledged.increments);
        let Sum { increments: there, rows: rows_there, .. } = found;
        if (*there, *rows_there) == (increments, rows) {
            return Ok(());
        }
        Err(format!("{rows_there} of {rows} rows were incremented {there} times, and should {increments}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::stream::{Cross, SEED};

    fn drawn(shards: usize, cross: Cross, aborts: f64) -> (Client, Vec<Transaction>) {
        let micro = HStoreMicro { rows: 10_000, skew: Skew::Zipf(0.9), aborts };
        let mut client = Client::new(SEED, shards - 1, shards, cross);
        let transactions = micro.draw(&mut client).expect("enough rows");
        (client, transactions)
    }

    #[test]
    fn keys_are_different_and_lie_as_in_the_paper() {
        let (client, transactions) = drawn(4, Cross::Percent(50.0), 0.0);
        let mut across = 0;
        for Transaction { keys, aborts } in &transactions {
            assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), KEYS, "{keys:?}");
            let homes = keys.map(|key| client.home(&key));
            assert!(homes[..6].iter().all(|home| *home == client.shard()), "six at home: {homes:?}");
            assert!(homes[6..].iter().all(|home| *home == homes[6]), "six together: {homes:?}");
            across += usize::from(homes[6] != homes[0]);
            assert!(!aborts);
        }
        let share = across as f64 / transactions.len() as f64;
        assert!((share - 0.5).abs() < 0.01, "{share} of the transactions have two partitions");
        let (client, transactions) = drawn(4, Cross::Natural, 0.0);
        let here = transactions.iter().flat_map(|transaction| &transaction.keys[1..]);
        let here = here.filter(|key| client.home(*key) == client.shard()).count() as f64;
        let share = here / (transactions.len() * (KEYS - 1)) as f64;
        // The popular rows weigh: a quarter, if all were alike.
        assert!((0.1..0.5).contains(&share), "{share} of the other keys are here");
    }

    #[test]
    fn as_many_abort_as_told() {
        for aborts in [0.1, 1.0] {
            let (_, transactions) = drawn(1, Cross::Natural, aborts);
            let found = transactions.iter().filter(|transaction| transaction.aborts).count() as f64;
            assert!((found / transactions.len() as f64 - aborts).abs() < 0.01, "{found} is not {aborts}");
        }
    }
}
