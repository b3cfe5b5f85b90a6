//! YCSB, the Yahoo! Cloud Serving Benchmark: records of a kilobyte, read, updated, inserted and
//! scanned in six published mixes, and sixteen at a time in transactions.
//!
//! Source: B. F. Cooper, A. Silberstein, E. Tam, R. Ramakrishnan, R. Sears, "Benchmarking Cloud
//! Serving Systems with YCSB", SoCC 2010; mixes as in <https://github.com/brianfrankcooper/YCSB>,
//! `workloads/workloada` to `workloadf`. [`Ycsb`] is A, B, C and F, whose records are all there in
//! the beginning; [`YcsbGrowing`] is D and E, which insert; [`YcsbTransactional`] is what the
//! literature on transactions made of it.
//!
//! What differs. A record is ten fields of a hundred bytes as published, but a new value is made
//! where the record is, from its key and how often the field was updated, and a read answers with a
//! checksum of all ten fields: what is measured is the engine and no network, and each byte can be
//! checked in the end. Keys are numbers, sixty-four neighbours share a shard, and popularity is
//! dealt out over these groups in turn where YCSB hashes, so the popular records are not neighbours
//! here either. The law of popularity is Zipf's, drawn exactly. Which shards a read or an update of
//! one record spans is no question, so [`Cross`](crate::Cross) says nothing to A, B, C, D and F.
//!
//! A client draws a transaction's first record by the published law among the records of its own
//! shard ([`Client::draw_here`]). So every shard gets as many transactions as any other. A popular
//! record takes its part of its shard's work, and makes no shard busier than the others; with `n`
//! shards it is asked for up to `n` times less or more than by the law over all records. Skew
//! across shards is not measured.
//!
//! The invariants: the updates that the records count are the acknowledged ones; there are as many
//! records as were loaded and inserted; and every field of every record holds what its key and its
//! count make of it, so a torn one is noticed.

mod growing;
mod operation;
mod record;
mod transactional;

use freehold_shard::Addressees;
use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

pub use self::growing::{Growth, YcsbGrowing};
use self::operation::{Answer, Counts, Operation, Touch};
use self::record::{FIELDS, GROUP, Key, Record};
pub use self::transactional::YcsbTransactional;
use crate::draw::{Popularity, Skew};
use crate::stream::{Client, NoRow};
use crate::workload::{Refused, Rows, Workload};

/// The records there are in the beginning, by number.
struct Loaded {
    popularity: Popularity,
    groups: u64,
    /// Records in the last group, at least one; all others are full.
    last: u64,
}

impl Loaded {
    fn new(records: u64, skew: Skew) -> Result<Self, NoRow> {
        let popularity = Popularity::new(records, skew)?;
        let groups = records.div_ceil(u64::from(GROUP));
        Ok(Loaded { popularity, groups, last: records - (groups - 1) * u64::from(GROUP) })
    }

    /// Draws the number of a record.
    fn draw(&self, random: &mut Pcg64) -> u32 {
        self.at(self.popularity.draw(random))
    }

    /// The number of the record of this rank, 0 being the most popular one: ranks are dealt out to
    /// the groups in turn.
    fn at(&self, rank: u64) -> u32 {
        let dealt = self.last * self.groups;
        let (group, place) = if rank < dealt {
            (rank % self.groups, rank / self.groups)
        } else {
            // The last group is full.
            let (rank, groups) = (rank - dealt, self.groups - 1);
            (rank % groups, self.last + rank / groups)
        };
        (group * u64::from(GROUP) + place) as u32
    }
}

fn load(records: u64, put: &mut dyn FnMut(Key, Record)) {
    for number in 0..records as u32 {
        let key = Key::loaded(number);
        put(key, Record::new(key));
    }
}

fn draw_field(random: &mut Pcg64) -> u8 {
    random.random_range(0..FIELDS as u8)
}

/// Which of the mixes without inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// Half reads, half updates.
    A,
    /// 95 reads and 5 updates of a hundred.
    B,
    /// Reads only.
    C,
    /// Half reads; the other half reads and then updates what it read.
    F,
}

/// The mixes that touch one loaded record at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ycsb {
    /// The mix.
    pub mix: Mix,
    /// Records, fewer than 2^32.
    pub records: u64,
    /// How unevenly they are drawn; published: `Zipf(0.99)`.
    pub skew: Skew,
}

impl Workload for Ycsb {
    type Id = Key;
    type Row = Record;
    type Transaction = Operation;
    type Reply = Answer;
    type Tally = Counts;
    type Audit = Counts;

    fn name(&self) -> &'static str {
        match self.mix {
            Mix::A => "ycsb-a",
            Mix::B => "ycsb-b",
            Mix::C => "ycsb-c",
            Mix::F => "ycsb-f",
        }
    }

    fn is_of_single_rows(&self) -> bool {
        true
    }

    fn load(&self, put: &mut dyn FnMut(Key, Record)) {
        load(self.records, put);
    }

    fn draw(&self, client: &mut Client) -> Result<Vec<Operation>, NoRow> {
        let loaded = Loaded::new(self.records, self.skew)?;
        let one = |client: &mut Client| -> Result<Operation, NoRow> {
            let key = client.draw_here(|random| Key::loaded(loaded.draw(random)))?;
            let (random, field) = (&mut client.random, draw_field);
            let touch = match self.mix {
                Mix::A if random.random_bool(0.5) => Touch::Update { field: field(random) },
                Mix::B if random.random_bool(0.05) => Touch::Update { field: field(random) },
                Mix::F if random.random_bool(0.5) => Touch::Modify { field: field(random) },
                Mix::A | Mix::B | Mix::C | Mix::F => Touch::Read,
            };
            Ok(Operation { key, touch })
        };
        (0..Self::STREAM).map(|_| one(client)).collect()
    }

    #[inline]
    fn addressees(operation: &Operation, to: &mut Addressees<Key>) {
        operation.address(to);
    }

    #[inline]
    fn run(operation: &Operation, rows: &mut impl Rows<Self>) -> Result<Answer, Refused<Key>> {
        operation.run(rows)
    }

    #[inline]
    fn tally(tally: &mut Counts, _: &Operation, answer: &Answer) {
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::stream::{Cross, SEED};

    #[test]
    fn every_rank_has_a_record_of_its_own_and_the_popular_ones_are_no_neighbours() {
        for records in [1, 63, 64, 65, 128, 1000, 4096] {
            let loaded = Loaded::new(records, Skew::Uniform).expect("records");
            let numbers: BTreeSet<_> = (0..records).map(|rank| loaded.at(rank)).collect();
            assert!(numbers.iter().copied().eq(0..records as u32), "of {records}: {numbers:?}");
        }
        let loaded = Loaded::new(64_000, Skew::Uniform).expect("records");
        let groups: BTreeSet<_> = (0..1000).map(|rank| loaded.at(rank) / GROUP).collect();
        assert_eq!(groups.len(), 1000, "a thousand popular records are in as many groups");
    }

    #[test]
    fn mixes_are_as_published() {
        let share = |mix, wanted: fn(Touch) -> bool| {
            let ycsb = Ycsb { mix, records: 1000, skew: Skew::Zipf(0.99) };
            let drawn = ycsb.draw(&mut Client::new(SEED, 0, 2, Cross::Natural)).expect("enough rows");
            drawn.iter().filter(|operation| wanted(operation.touch)).count() as f64 / drawn.len() as f64
        };
        let near =
            |found: f64, wanted: f64| assert!((found - wanted).abs() < 0.01, "{found} is not {wanted}");
        near(share(Mix::A, |touch| matches!(touch, Touch::Update { .. })), 0.5);
        near(share(Mix::B, |touch| matches!(touch, Touch::Update { .. })), 0.05);
        near(share(Mix::C, |touch| touch == Touch::Read), 1.0);
        near(share(Mix::F, |touch| matches!(touch, Touch::Modify { .. })), 0.5);
        near(share(Mix::F, |touch| touch == Touch::Read), 0.5);
    }
}
