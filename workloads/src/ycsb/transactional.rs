//! Transactional YCSB: sixteen operations, all or none.
//!
//! Source: X. Yu, G. Bezerra, A. Pavlo, S. Devadas, M. Stonebraker, "Staring into the Abyss: An
//! Evaluation of Concurrency Control with One Thousand Cores", VLDB 2014, section 3.3: sixteen
//! records, each read or updated, by a law of Zipf whose theta is the contention. How many
//! partitions a transaction spans is varied there as well (section 5.5), and here is `spread`.
//!
//! With [`Cross::Percent`](crate::Cross::Percent) so many transactions are dealt evenly over
//! `spread` shards, the client's and others at random; the others stay on the client's. With
//! [`Cross::Natural`](crate::Cross::Natural) the first record lives there and the others anywhere,
//! and `spread` says nothing. The records of a transaction are different ones.

use freehold_shard::Addressees;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Counts, Operation, Touch};
use super::record::{Key, Record};
use super::{Loaded, draw_field, load};
use crate::draw::Skew;
use crate::stream::{Client, NoRow};
use crate::workload::{Refused, Rows, Workload};

/// Operations of a transaction.
const OPERATIONS: usize = 16;

/// The workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct YcsbTransactional {
    /// Records, fewer than 2^32.
    pub records: u64,
    /// How unevenly they are drawn.
    pub skew: Skew,
    /// How many operations update, from 0 to 1; the others read.
    pub writes: f64,
    /// Shards of a transaction that spans, from 1 to 16; all, if there are not so many.
    pub spread: usize,
}

/// One transaction.
pub type Transaction = [Operation; OPERATIONS];

impl Workload for YcsbTransactional {
    type Id = Key;
    type Row = Record;
    type Transaction = Transaction;
    type Reply = Answer;
    type Tally = Counts;
    type Audit = Counts;

    /// A sixteenth of what others have: a transaction is as many draws.
    const STREAM: usize = 1 << 13;

    fn name(&self) -> &'static str {
        "ycsb-t"
    }

    fn load(&self, put: &mut dyn FnMut(Key, Record)) {
        load(self.records, put);
    }

    fn draw(&self, client: &mut Client) -> Result<Vec<Transaction>, NoRow> {
        assert!((1..=OPERATIONS).contains(&self.spread), "a transaction spans 1 to {OPERATIONS} shards");
        let loaded = Loaded::new(self.records, self.skew)?;
        let one = |client: &mut Client| -> Result<Transaction, NoRow> {
            let keys = client.draw_dealt(self.spread, |random| Key::loaded(loaded.draw(random)))?;
            Ok(keys.map(|key| {
                let random = &mut client.random;
                let is_write = random.random_bool(self.writes);
                let touch = if is_write { Touch::Update { field: draw_field(random) } } else { Touch::Read };
                Operation { key, touch }
            }))
        };
        (0..Self::STREAM).map(|_| one(client)).collect()
    }

    #[inline]
    fn addressees(transaction: &Transaction, to: &mut Addressees<Key>) {
        transaction.iter().for_each(|operation| operation.address(to));
    }

    #[inline]
    fn run(transaction: &Transaction, rows: &mut impl Rows<Self>) -> Result<Answer, Refused<Key>> {
        let mut answer = Answer::default();
        for operation in transaction {
            answer += operation.run(rows)?;
        }
        Ok(answer)
    }

    #[inline]
    fn tally(tally: &mut Counts, _: &Transaction, answer: &Answer) {
        tally.note(answer);
    }

    fn audit(&self, audit: &mut Counts, key: &Key, record: &Record) {
        audit.find(*key, record);
    }

    fn verdict(&self, acknowledged: &Counts, found: &Counts) -> Result<(), String> {
        acknowledged.compare(self.records, found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::stream::{Cross, SEED};

    /// Of how many transactions each number of shards is, and the share of updates.
    fn spread(shards: usize, spread: usize, cross: Cross) -> (BTreeMap<usize, usize>, f64) {
        let ycsb = YcsbTransactional { records: 100_000, skew: Skew::Zipf(0.8), writes: 0.25, spread };
        let mut client = Client::new(SEED, 1, shards, cross);
        let (mut found, mut updates) = (BTreeMap::new(), 0);
        let transactions = ycsb.draw(&mut client).expect("enough rows");
        for transaction in &transactions {
            let keys: BTreeSet<_> = transaction.iter().map(|operation| operation.key).collect();
            assert_eq!(keys.len(), OPERATIONS, "a record is touched twice: {transaction:?}");
            let mut homes = BTreeMap::new();
            transaction
                .iter()
                .for_each(|operation| *homes.entry(client.home(&operation.key)).or_insert(0) += 1);
            assert!(homes.contains_key(&client.shard()), "a transaction begins at home");
            if cross != Cross::Natural {
                let (most, least) = (homes.values().max(), homes.values().min());
                assert!(most.unwrap() - least.unwrap() <= 1, "not evenly dealt: {homes:?}");
            }
            *found.entry(homes.len()).or_insert(0) += 1;
            updates += transaction.iter().filter(|operation| operation.touch != Touch::Read).count();
        }
        (found, updates as f64 / (transactions.len() * OPERATIONS) as f64)
    }

    #[test]
    fn a_transaction_spans_as_many_shards_as_told() {
        const ALL: usize = YcsbTransactional::STREAM;
        for (shards, told, wanted) in [(16, 16, 16), (16, 5, 5), (3, 16, 3), (4, 2, 2), (4, 1, 1)] {
            let (found, updates) = spread(shards, told, Cross::Percent(100.0));
            assert_eq!(found, BTreeMap::from([(wanted, ALL)]), "{told} of {shards} shards");
            assert!((updates - 0.25).abs() < 0.01, "{updates} of the operations update");
        }
        let (found, _) = spread(4, 3, Cross::Percent(20.0));
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 3]);
        let share = found[&3] as f64 / ALL as f64;
        assert!((share - 0.2).abs() < 0.01, "{share} of the transactions span");
        let (found, _) = spread(4, 1, Cross::Natural);
        assert!(found[&4] > ALL / 2, "sixteen records anywhere meet all of four shards: {found:?}");
    }
}
