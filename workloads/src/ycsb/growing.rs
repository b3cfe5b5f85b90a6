//! YCSB D and E: the mixes that insert.
//!
//! What differs, beyond what `ycsb.rs` says. Each client inserts into a group of its own, which
//! lives on its shard: `latest` is what the same client inserted latest, but for the inserts among
//! its last thousand transactions; YCSB leaves out those that were not acknowledged. Where `latest`
//! reaches back behind the first insert, a loaded record is read, and each lap of the stream begins
//! so. A scan has 1 to 50 records and not 1 to 100, because a message has at most 64 objects; it
//! begins at a loaded record and goes on to its neighbours, so it does not meet those that were
//! inserted. A scan of two records or more can span shards.
//!
//! That a read finds its record rests on the order in which inserts and reads run, and not on
//! acknowledgements: clients have more than a thousand transactions in flight where answers are
//! durable (16,384 unless told otherwise, 60,000 at most). It holds because
//! - both are of the client's own shard, and Freehold has run what is asked of one's own shard when
//!   `Local::ask` returns. Only the answer waits for the disk. So a client's transactions run in
//!   the order of the stream, however many are in flight.
//! - What is refused because too much waits for the disk (32 MiB) is asked again later, behind
//!   others. With durable answers, 60,000 in flight hold some 3 MB of inserts, so that does not
//!   happen. Where answers do not wait, a refusal is known at once, and the client asks again when
//!   it next gives way to its shard, some tens of transactions and at most those in flight (256)
//!   later.
//! - Engines with group commit run what a client asks in its order, and engines of one thread a
//!   client have one in flight.
//! - A client of many tasks, each with one in flight, goes through the stream in no strict order. A
//!   task would have to be a thousand transactions behind the others.
//!
//! Where it does not hold, a read finds nothing. That is [`Refused::Broken`], and the cell has no
//! figures: it is never a wrong one. Tried on paper and dropped: leaving out 65,536 transactions,
//! more than can be in flight. That is a whole lap of the stream, so its first lap would read no
//! insert, which is all that a slow durable engine gets to; and the latest record would be one of
//! three thousand inserts before, which is no longer what D asks for.
//!
//! The database grows by a kilobyte an insert: one transaction in twenty, as long as a cell runs.

use freehold_shard::{ADDRESSEES_MAX, Addressees};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Counts, read};
use super::record::{GROUP, Key, Record};
use super::{Loaded, load};
use crate::draw::Skew;
use crate::stream::{Client, NoRow};
use crate::workload::{Refused, Rows, Workload};

/// How many transactions insert, of all.
const INSERTS: f64 = 0.05;
/// The most records of a scan.
const SCAN_MAX: u32 = 50;
const _: () = assert!(SCAN_MAX as usize <= ADDRESSEES_MAX, "a message has room for a scan");
const _: () = assert!(SCAN_MAX <= GROUP, "a scan meets two groups at most, so its ends say what it spans");
/// What is read was inserted more than so many of the client's transactions before. No engine may
/// run two transactions of a client that are as far apart in the other order; see above, why none
/// does.
const DISTANCE_MIN: usize = 1000;

/// Which of the mixes with inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// 95 reads of the latest records and 5 inserts of a hundred.
    D,
    /// 95 scans and 5 inserts of a hundred.
    E,
}

/// The mixes that insert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct YcsbGrowing {
    /// The mix.
    pub growth: Growth,
    /// Records in the beginning, fewer than 2^32.
    pub records: u64,
    /// How unevenly they are drawn; published: `Zipf(0.99)`. In D it is the age of a record that is
    /// drawn so.
    pub skew: Skew,
}

/// One transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transaction {
    /// Reads a record.
    Read(Key),
    /// Reads loaded records, from the one numbered `first` on.
    Scan { first: u32, records: u32 },
    /// Puts a new record in.
    Insert(Key),
}

fn scanned(first: u32, records: u32) -> impl Iterator<Item = Key> {
    (first..first + records).map(Key::loaded)
}

/// The keys a client inserts in its first lap.
struct Inserts {
    group: u32,
    /// The place in the stream of each insert so far.
    places: Vec<usize>,
    /// How many of them are old enough to be read.
    readable: usize,
}

impl Inserts {
    /// Into the first group that is no loaded one, nor another client's, and lives on the client's
    /// shard.
    fn new(records: u64, client: &mut Client) -> Result<Self, NoRow> {
        let loaded = records.div_ceil(u64::from(GROUP)) as usize;
        let mut groups = (loaded + client.shard()..).step_by(client.shards());
        let key = client.draw_here(|_| {
            let group = groups.next().expect("the range has no end");
            Key { group: group as u32, number: GROUP }
        })?;
        Ok(Inserts { group: key.group, places: Vec::new(), readable: 0 })
    }

    fn key(&self, insert: usize) -> Key {
        Key { group: self.group, number: GROUP + insert as u32 }
    }

    /// The key for the insert at `place` in the stream.
    fn next(&mut self, place: usize) -> Key {
        self.places.push(place);
        self.key(self.places.len() - 1)
    }

    /// The key that was inserted `age` inserts before the latest one that may be read at `place`;
    /// `None` if none was.
    fn latest(&mut self, place: usize, age: u64) -> Option<Key> {
        while self.places.get(self.readable).is_some_and(|insert| insert + DISTANCE_MIN < place) {
            self.readable += 1;
        }
        let insert = self.readable.checked_sub(1 + usize::try_from(age).ok()?)?;
        Some(self.key(insert))
    }
}

impl YcsbGrowing {
    fn draw_read(
        loaded: &Loaded,
        inserts: &mut Inserts,
        place: usize,
        client: &mut Client,
    ) -> Result<Transaction, NoRow> {
        let age = loaded.popularity.draw(&mut client.random);
        let key = match inserts.latest(place, age) {
            Some(key) => key,
            None => client.draw_here(|random| Key::loaded(loaded.draw(random)))?,
        };
        Ok(Transaction::Read(key))
    }

    fn draw_scan(&self, loaded: &Loaded, client: &mut Client) -> Result<Transaction, NoRow> {
        let records = client.random.random_range(1..=SCAN_MAX);
        let spans = if records > 1 { client.spans() } else { None };
        let (first, records) = client.draw_fitting(
            |random| {
                let mut first = loaded.draw(random);
                if spans == Some(true) {
                    // Near enough to the end of the group that it reaches the next.
                    first = first / GROUP * GROUP + GROUP - random.random_range(1..records);
                }
                (first, records.min((self.records as u32).saturating_sub(first)))
            },
            |client, &(first, records)| {
                let is_here = |number| client.home(&Key::loaded(number)) == client.shard();
                records > 0
                    && is_here(first)
                    && spans.is_none_or(|spans| is_here(first + records - 1) != spans)
            },
        )?;
        Ok(Transaction::Scan { first, records })
    }
}

impl Workload for YcsbGrowing {
    type Id = Key;
    type Row = Record;
    type Transaction = Transaction;
    type Reply = Answer;
    type Tally = Counts;
    type Audit = Counts;

    /// Half of what others have, so that key numbers last for twice the laps: see
    /// [`YcsbGrowing::renew`].
    const STREAM: usize = 1 << 16;
    const RENEWS: bool = true;

    fn name(&self) -> &'static str {
        match self.growth {
            Growth::D => "ycsb-d",
            Growth::E => "ycsb-e",
        }
    }

    fn is_of_single_rows(&self) -> bool {
        self.growth == Growth::D
    }

    fn load(&self, put: &mut dyn FnMut(Key, Record)) {
        load(self.records, put);
    }

    fn draw(&self, client: &mut Client) -> Result<Vec<Transaction>, NoRow> {
        let loaded = Loaded::new(self.records, self.skew)?;
        let mut inserts = Inserts::new(self.records, client)?;
        let mut one = |place| -> Result<Transaction, NoRow> {
            if client.random.random_bool(INSERTS) {
                return Ok(Transaction::Insert(inserts.next(place)));
            }
            match self.growth {
                Growth::D => Self::draw_read(&loaded, &mut inserts, place, client),
                Growth::E => self.draw_scan(&loaded, client),
            }
        };
        (0..Self::STREAM).map(&mut one).collect()
    }

    /// What a lap inserts, and reads of it, has numbers of its own: a lap has fewer inserts than
    /// the stream is long. There are numbers for 2^16 laps, and memory, with some three thousand
    /// inserts in each, for fewer.
    fn renew(transaction: &mut Transaction, lap: u64) {
        match transaction {
            Transaction::Read(key) | Transaction::Insert(key) if key.is_inserted() => {
                let number = u64::from(key.number) + lap * Self::STREAM as u64;
                key.number = u32::try_from(number).expect("memory ends before the numbers do");
            }
            _ => {}
        }
    }

    #[inline]
    fn addressees(transaction: &Transaction, to: &mut Addressees<Key>) {
        match *transaction {
            Transaction::Read(key) => to.read(key),
            Transaction::Scan { first, records } => scanned(first, records).for_each(|key| to.read(key)),
            Transaction::Insert(key) => to.write(key),
        }
    }

    #[inline]
    fn run(transaction: &Transaction, rows: &mut impl Rows<Self>) -> Result<Answer, Refused<Key>> {
        match *transaction {
            Transaction::Read(key) => read(rows, key),
            Transaction::Scan { first, records } => {
                let mut answer = Answer::default();
                for key in scanned(first, records) {
                    answer += read(rows, key)?;
                }
                Ok(answer)
            }
            Transaction::Insert(key) => {
                rows.insert(key, Record::new(key))?;
                Ok(Answer { inserts: 1, ..Answer::default() })
            }
        }
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::stream::{Cross, SEED};

    fn drawn(growth: Growth, shard: usize, cross: Cross) -> (Client, Vec<Transaction>) {
        let ycsb = YcsbGrowing { growth, records: 10_000, skew: Skew::Zipf(0.99) };
        let mut client = Client::new(SEED, shard, 3, cross);
        let transactions = ycsb.draw(&mut client).expect("enough rows");
        (client, transactions)
    }

    #[test]
    fn inserted_keys_are_new_in_each_lap_and_of_each_client_and_live_at_home() {
        let mut seen = BTreeMap::new();
        for shard in 0..3 {
            let (client, transactions) = drawn(Growth::E, shard, Cross::Natural);
            for lap in 0..3 {
                for mut transaction in transactions.iter().copied() {
                    YcsbGrowing::renew(&mut transaction, lap);
                    if let Transaction::Insert(key) = transaction {
                        assert_eq!(client.home(&key), shard);
                        assert!(u64::from(key.group) * u64::from(GROUP) >= 10_000, "{key:?} was loaded");
                        assert_eq!(seen.insert(key, (shard, lap)), None, "{key:?} of lap {lap} is not new");
                    }
                }
            }
        }
        let share = seen.len() as f64 / (9 * YcsbGrowing::STREAM) as f64;
        assert!((share - INSERTS).abs() < 0.002, "{share} of the transactions insert");
    }

    #[test]
    fn reads_are_of_the_latest_that_has_surely_run() {
        let (_, transactions) = drawn(Growth::D, 1, Cross::Natural);
        let mut inserted = Vec::new();
        let mut places = BTreeMap::new();
        let (mut reads, mut latest, mut newest) = (0, 0, 0);
        for (place, transaction) in transactions.into_iter().enumerate() {
            match transaction {
                Transaction::Insert(key) => {
                    inserted.push(key);
                    places.insert(key, place);
                }
                Transaction::Read(key) => {
                    reads += 1;
                    if key.is_inserted() {
                        let insert = places[&key];
                        assert!(place - insert > DISTANCE_MIN, "{place} reads what {insert} inserts");
                        latest += 1;
                        let old = inserted.partition_point(|key| place - places[key] > DISTANCE_MIN);
                        newest += usize::from(key == inserted[old - 1]);
                    }
                }
                Transaction::Scan { .. } => panic!("D does not scan"),
            }
        }
        // The sums of 1 / k^0.99 to 1, to some 1600 inserts and to 10,000 records.
        let sum = |to: u32| (1..=to).map(|k| f64::from(k).powf(-0.99)).sum::<f64>();
        let (latest, newest) = (f64::from(latest) / f64::from(reads), newest as f64 / f64::from(reads));
        assert!((latest - sum(1600) / sum(10_000)).abs() < 0.05, "{latest} are of inserted records");
        assert!((newest - 1.0 / sum(10_000)).abs() < 0.01, "{newest} are of the newest");
    }

    #[test]
    fn scans_have_1_to_50_loaded_records_and_span_as_told() {
        for (percent, wanted) in [(0.0, 0.0), (50.0, 0.5), (100.0, 1.0)] {
            let (client, transactions) = drawn(Growth::E, 2, Cross::Percent(percent));
            let (mut scans, mut spanning, mut all) = (0, 0, 0);
            for transaction in transactions {
                let Transaction::Scan { first, records } = transaction else { continue };
                assert!((1..=SCAN_MAX).contains(&records) && first + records <= 10_000);
                let homes: Vec<_> = scanned(first, records).map(|key| client.home(&key)).collect();
                assert_eq!(homes[0], client.shard(), "a scan begins at home");
                all += records;
                if records > 1 {
                    scans += 1;
                    spanning += u32::from(homes.iter().any(|home| *home != homes[0]));
                }
            }
            let share = f64::from(spanning) / f64::from(scans);
            assert!((share - wanted).abs() < 0.01, "{share} of the scans span, and {wanted} should");
            let mean = f64::from(all) / (f64::from(scans) * 50.0 / 49.0);
            assert!((mean - 25.5).abs() < 0.5, "a scan has {mean} records");
        }
    }
}
