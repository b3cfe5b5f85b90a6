//! TATP: the register of a mobile network. Seven short transactions, four in five of which only
//! read, each about one subscriber.
//!
//! Source: S. Neuvonen, A. Wolski, M. Manner, V. Raatikka, "Telecom Application Transaction
//! Processing Benchmark", version 1.0, 2009 (<https://tatpbenchmark.sourceforge.net>):
//! GetSubscriberData 35, GetNewDestination 10, GetAccessData 35, UpdateSubscriberData 2,
//! UpdateLocation 14, InsertCallForwarding 2, DeleteCallForwarding 2 of a hundred, over 100,000
//! subscribers, who are drawn as it says: not uniformly.
//!
//! Many of its transactions ask for what is not there. By its rules 62.5 in a hundred of
//! GetAccessData and UpdateSubscriberData find it, 31.25 of inserts and deletes, 14.8 of
//! GetNewDestinations in the beginning and 20.4 in the long run (an inserted forwarding may end at
//! any hour, a loaded one ends after its start), and all of the others. Here a read that finds
//! nothing is committed and answers so. A change that finds nothing to change, or finds in its
//! place what it would insert, is aborted, and counted as such.
//!
//! All rows of a subscriber share a shard, so nothing spans shards, whatever [`Cross`](crate::Cross) says.
//!
//! What differs: a subscriber's number in the network is its key, so changes that find the
//! subscriber by it need no second index. A client draws subscribers by the published law among
//! those of its own shard ([`Client::draw_here`]), so every shard gets as many transactions as any
//! other. A popular subscriber takes its part of its shard's work, and makes no shard busier than
//! the others: skew across shards is not measured.
//!
//! The invariant: rows come and go, and what changes write adds up to, as it was answered.

use std::ops::AddAssign;

use arrayvec::ArrayVec;
use freehold_shard::{Addressees, ObjectId};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::stream::{Client, NoRow};
use crate::workload::{Refused, Rows, Workload};

/// What the rows of the beginning are drawn from. They are the same in every cell of every run.
const LOADED: u64 = 0x7A_7B;
/// When calls may begin to be forwarded: hours of the day.
const STARTS: [u8; 3] = [0, 8, 16];
/// Types of access, and of facilities.
const TYPES: [u8; 4] = [1, 2, 3, 4];

/// The workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tatp {
    /// Subscribers, one at least. Each has ten rows, about.
    pub subscribers: u32,
}

impl Default for Tatp {
    /// As published: 100,000 subscribers.
    fn default() -> Self {
        Tatp { subscribers: 100_000 }
    }
}

/// What identifies a row. Its placement is the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    subscriber: u32,
    table: Table,
}

/// Which row of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Table {
    Subscriber,
    Access(u8),
    Facility(u8),
    Forwarding { facility: u8, start: u8 },
}

impl ObjectId for Key {
    fn placement(&self) -> impl std::hash::Hash {
        self.subscriber
    }
}

fn subscriber(subscriber: u32) -> Key {
    Key { subscriber, table: Table::Subscriber }
}

fn access(subscriber: u32, of: u8) -> Key {
    Key { subscriber, table: Table::Access(of) }
}

fn facility(subscriber: u32, of: u8) -> Key {
    Key { subscriber, table: Table::Facility(of) }
}

fn forwarding(subscriber: u32, facility: u8, start: u8) -> Key {
    Key { subscriber, table: Table::Forwarding { facility, start } }
}

/// A number to dial: digits.
pub type Number = [u8; 15];

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscriber {
    /// `bit_1` to `bit_10`, the first the lowest.
    bits: u16,
    /// `hex_1` to `hex_10`, two in a byte.
    hexes: [u8; 5],
    /// `byte2_1` to `byte2_10`.
    bytes: [u8; 10],
    /// Where its exchange is.
    msc_location: u32,
    /// Where it is.
    vlr_location: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    data1: u8,
    data2: u8,
    data3: [u8; 3],
    data4: [u8; 5],
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facility {
    is_active: bool,
    error_control: u8,
    data_a: u8,
    data_b: [u8; 5],
}

/// Forwards calls from its start on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forwarding {
    /// The hour at which it ends.
    end: u8,
    number: Number,
}

/// Any row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Row {
    Subscriber(Subscriber),
    Access(Access),
    Facility(Facility),
    Forwarding(Forwarding),
}

/// The seven transactions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Transaction {
    /// All there is in the subscriber's own row.
    GetSubscriberData { of: u32 },
    /// Where to calls go that come between two hours, if the facility is active.
    GetNewDestination { of: u32, facility: u8, start: u8, end: u8 },
    /// One of a subscriber's rights.
    GetAccessData { of: u32, access: u8 },
    /// Sets a bit of the subscriber and a byte of one of its facilities.
    UpdateSubscriberData { of: u32, bit: bool, facility: u8, data_a: u8 },
    /// The subscriber is somewhere else now.
    UpdateLocation { of: u32, vlr_location: u32 },
    /// Forwards calls, if there is such a facility and it does not yet.
    InsertCallForwarding { of: u32, facility: u8, start: u8, forwarding: Forwarding },
    /// Forwards calls no more, if it did.
    DeleteCallForwarding { of: u32, facility: u8, start: u8 },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Subscriber(Subscriber),
    /// All that calls go to; often none.
    Destinations(ArrayVec<Number, { STARTS.len() }>),
    /// Often none.
    Access(Option<Access>),
    /// By how much the bit and the byte changed.
    Updated {
        bit: i64,
        data_a: i64,
    },
    /// By how much the location did.
    Located {
        change: i64,
    },
    Inserted,
    Deleted,
}

/// Rows, and sums of what changes write: all there is, or how much it became more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    subscribers: i64,
    accesses: i64,
    facilities: i64,
    forwardings: i64,
    /// The first of each subscriber's bits.
    bits: i64,
    data_a: i64,
    vlr_locations: i64,
}

impl AddAssign for Books {
    fn add_assign(&mut self, other: Self) {
        self.subscribers += other.subscribers;
        self.accesses += other.accesses;
        self.facilities += other.facilities;
        self.forwardings += other.forwardings;
        self.bits += other.bits;
        self.data_a += other.data_a;
        self.vlr_locations += other.vlr_locations;
    }
}

const NO_SUBSCRIBER: Refused<Key> = Refused::Broken("there is no such subscriber");

/// From 1 to `subscribers`, some more often than others.
fn draw_subscriber(random: &mut impl Rng, subscribers: u32) -> u32 {
    let a = match subscribers {
        0..=1_000_000 => 65_535,
        1_000_001..=10_000_000 => 1_048_575,
        _ => 2_097_151,
    };
    (random.random_range(0..=a) | random.random_range(1..=subscribers)) % subscribers + 1
}

/// One of a few values, each as often.
fn one_of<const COUNT: usize>(random: &mut impl Rng, values: [u8; COUNT]) -> u8 {
    values[random.random_range(0..COUNT)]
}

fn digits(random: &mut impl Rng) -> Number {
    let mut number = [0; 15];
    random.fill_bytes(&mut number);
    number.map(|byte| b'0' + byte % 10)
}

fn letters<const LENGTH: usize>(random: &mut impl Rng) -> [u8; LENGTH] {
    let mut text = [0; LENGTH];
    random.fill_bytes(&mut text);
    text.map(|byte| b'A' + byte % 26)
}

/// So many of them, whichever.
fn some<const COUNT: usize>(
    random: &mut Pcg64,
    mut values: [u8; COUNT],
    count: usize,
) -> impl Iterator<Item = u8> + use<COUNT> {
    values.shuffle(random);
    values.into_iter().take(count)
}

impl Workload for Tatp {
    type Id = Key;
    type Row = Row;
    type Transaction = Transaction;
    type Reply = Reply;
    type Tally = Books;
    type Audit = Books;

    fn name(&self) -> &'static str {
        "tatp"
    }

    fn load(&self, put: &mut dyn FnMut(Key, Row)) {
        let random = &mut Pcg64::seed_from_u64(LOADED);
        for of in 1..=self.subscribers {
            let (mut hexes, mut bytes) = ([0; 5], [0; 10]);
            random.fill_bytes(&mut hexes);
            random.fill_bytes(&mut bytes);
            let bits = random.random_range(0..1 << 10);
            let (msc_location, vlr_location) = (random.random(), random.random());
            let row = Subscriber { bits, hexes, bytes, msc_location, vlr_location };
            put(subscriber(of), Row::Subscriber(row));
            let count = random.random_range(1..=4);
            for kind in some(random, TYPES, count) {
                let (data1, data2) = (random.random(), random.random());
                let row = Access { data1, data2, data3: letters(random), data4: letters(random) };
                put(access(of, kind), Row::Access(row));
            }
            let count = random.random_range(1..=4);
            for kind in some(random, TYPES, count) {
                let is_active = random.random_bool(0.85);
                let (error_control, data_a) = (random.random(), random.random());
                let row = Facility { is_active, error_control, data_a, data_b: letters(random) };
                put(facility(of, kind), Row::Facility(row));
                let count = random.random_range(0..=STARTS.len());
                for start in some(random, STARTS, count) {
                    let end = start + random.random_range(1..=8);
                    let row = Forwarding { end, number: digits(random) };
                    put(forwarding(of, kind, start), Row::Forwarding(row));
                }
            }
        }
    }

    fn draw(&self, client: &mut Client) -> Result<Vec<Transaction>, NoRow> {
        if self.subscribers == 0 {
            return Err(NoRow::Loaded("subscribers"));
        }
        let one = |client: &mut Client| {
            let of =
                client.draw_here(|random| subscriber(draw_subscriber(random, self.subscribers)))?.subscriber;
            let random = &mut client.random;
            let kind = random.random_range(0..100);
            let facility = one_of(random, TYPES);
            let start = one_of(random, STARTS);
            Ok(match kind {
                0..35 => Transaction::GetSubscriberData { of },
                35..45 => {
                    let end = random.random_range(1..=24);
                    Transaction::GetNewDestination { of, facility, start, end }
                }
                45..80 => Transaction::GetAccessData { of, access: one_of(random, TYPES) },
                80..82 => {
                    let (bit, data_a) = (random.random(), random.random());
                    Transaction::UpdateSubscriberData { of, bit, facility, data_a }
                }
                82..96 => Transaction::UpdateLocation { of, vlr_location: random.random() },
                96..98 => {
                    let end = random.random_range(1..=24);
                    let forwarding = Forwarding { end, number: digits(random) };
                    Transaction::InsertCallForwarding { of, facility, start, forwarding }
                }
                _ => Transaction::DeleteCallForwarding { of, facility, start },
            })
        };
        (0..Self::STREAM).map(|_| one(client)).collect()
    }

    #[inline]
    fn addressees(transaction: &Transaction, to: &mut Addressees<Key>) {
        match *transaction {
            Transaction::GetSubscriberData { of } => to.read(subscriber(of)),
            Transaction::GetNewDestination { of, facility: kind, start, .. } => {
                to.read(facility(of, kind));
                for from in STARTS.into_iter().filter(|from| *from <= start) {
                    to.read(forwarding(of, kind, from));
                }
            }
            Transaction::GetAccessData { of, access: kind } => to.read(access(of, kind)),
            Transaction::UpdateSubscriberData { of, facility: kind, .. } => {
                to.write(subscriber(of));
                to.write(facility(of, kind));
            }
            Transaction::UpdateLocation { of, .. } => to.write(subscriber(of)),
            Transaction::InsertCallForwarding { of, facility: kind, start, .. } => {
                to.read(subscriber(of));
                TYPES.into_iter().for_each(|kind| to.read(facility(of, kind)));
                to.write(forwarding(of, kind, start));
            }
            Transaction::DeleteCallForwarding { of, facility, start } => {
                to.read(subscriber(of));
                to.write(forwarding(of, facility, start));
            }
        }
    }

    #[inline]
    fn run(transaction: &Transaction, rows: &mut impl Rows<Self>) -> Result<Reply, Refused<Key>> {
        match *transaction {
            Transaction::GetSubscriberData { of } => match rows.get(subscriber(of))? {
                Some(Row::Subscriber(row)) => Ok(Reply::Subscriber(*row)),
                _ => Err(NO_SUBSCRIBER),
            },
            Transaction::GetNewDestination { of, facility: kind, start, end } => {
                let mut numbers = ArrayVec::new();
                if matches!(rows.get(facility(of, kind))?, Some(Row::Facility(row)) if row.is_active) {
                    for from in STARTS.into_iter().filter(|from| *from <= start) {
                        match rows.get(forwarding(of, kind, from))? {
                            Some(Row::Forwarding(row)) if end < row.end => numbers.push(row.number),
                            _ => {}
                        }
                    }
                }
                Ok(Reply::Destinations(numbers))
            }
            Transaction::GetAccessData { of, access: kind } => match rows.get(access(of, kind))? {
                Some(Row::Access(row)) => Ok(Reply::Access(Some(*row))),
                _ => Ok(Reply::Access(None)),
            },
            Transaction::UpdateSubscriberData { of, bit, facility: kind, data_a } => {
                // Decided before the subscriber's row is written.
                if rows.get(facility(of, kind))?.is_none() {
                    return Err(Refused::Aborted("no such facility"));
                }
                let Some(Row::Subscriber(row)) = rows.get_mut(subscriber(of))? else {
                    return Err(NO_SUBSCRIBER);
                };
                let before = row.bits & 1;
                row.bits = row.bits & !1 | u16::from(bit);
                let bit = i64::from(bit) - i64::from(before);
                let Some(Row::Facility(row)) = rows.get_mut(facility(of, kind))? else {
                    return Err(Refused::Broken("a facility went while it was looked at"));
                };
                let before = std::mem::replace(&mut row.data_a, data_a);
                Ok(Reply::Updated { bit, data_a: i64::from(data_a) - i64::from(before) })
            }
            Transaction::UpdateLocation { of, vlr_location } => match rows.get_mut(subscriber(of))? {
                Some(Row::Subscriber(row)) => {
                    let before = std::mem::replace(&mut row.vlr_location, vlr_location);
                    Ok(Reply::Located { change: i64::from(vlr_location) - i64::from(before) })
                }
                _ => Err(NO_SUBSCRIBER),
            },
            Transaction::InsertCallForwarding { of, facility: kind, start, forwarding: row } => {
                if rows.get(subscriber(of))?.is_none() {
                    return Err(NO_SUBSCRIBER);
                }
                // All of them are asked for, as published.
                let mut is_there = false;
                for one in TYPES {
                    is_there |= rows.get(facility(of, one))?.is_some() && one == kind;
                }
                if !is_there {
                    return Err(Refused::Aborted("no such facility"));
                }
                let key = forwarding(of, kind, start);
                if rows.get(key)?.is_some() {
                    return Err(Refused::Aborted("calls are forwarded already"));
                }
                rows.insert(key, Row::Forwarding(row))?;
                Ok(Reply::Inserted)
            }
            Transaction::DeleteCallForwarding { of, facility, start } => {
                if rows.get(subscriber(of))?.is_none() {
                    return Err(NO_SUBSCRIBER);
                }
                let key = forwarding(of, facility, start);
                if rows.get(key)?.is_none() {
                    return Err(Refused::Aborted("calls are not forwarded"));
                }
                rows.remove(key)?;
                Ok(Reply::Deleted)
            }
        }
    }

    #[inline]
    fn tally(tally: &mut Books, _: &Transaction, reply: &Reply) {
        match reply {
            Reply::Subscriber(_) | Reply::Destinations(_) | Reply::Access(_) => {}
            Reply::Updated { bit, data_a } => {
                tally.bits += bit;
                tally.data_a += data_a;
            }
            Reply::Located { change } => tally.vlr_locations += change,
            Reply::Inserted => tally.forwardings += 1,
            Reply::Deleted => tally.forwardings -= 1,
        }
    }

    fn audit(&self, audit: &mut Books, _: &Key, row: &Row) {
        match row {
            Row::Subscriber(row) => {
                audit.subscribers += 1;
                audit.bits += i64::from(row.bits & 1);
                audit.vlr_locations += i64::from(row.vlr_location);
            }
            Row::Access(_) => audit.accesses += 1,
            Row::Facility(row) => {
                audit.facilities += 1;
                audit.data_a += i64::from(row.data_a);
            }
            Row::Forwarding(_) => audit.forwardings += 1,
        }
    }

    fn verdict(&self, acknowledged: &Books, found: &Books) -> Result<(), String> {
        // What was there in the beginning is drawn once more.
        let mut wanted = *acknowledged;
        self.load(&mut |id, row| self.audit(&mut wanted, &id, &row));
        if *found == wanted { Ok(()) } else { Err(format!("{found:?}, and should be {wanted:?}")) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::stream::{Cross, SEED};

    struct Map(BTreeMap<Key, Row>);

    type Accessed<T> = Result<T, Refused<Key>>;

    impl Rows<Tatp> for Map {
        fn get(&mut self, id: Key) -> Accessed<Option<&Row>> {
            Ok(self.0.get(&id))
        }
        fn get_mut(&mut self, id: Key) -> Accessed<Option<&mut Row>> {
            Ok(self.0.get_mut(&id))
        }
        fn insert(&mut self, id: Key, row: Row) -> Accessed<()> {
            self.0.insert(id, row);
            Ok(())
        }
        fn remove(&mut self, id: Key) -> Accessed<bool> {
            Ok(self.0.remove(&id).is_some())
        }
    }

    #[test]
    fn the_mix_and_what_finds_something_are_as_published() {
        let tatp = Tatp { subscribers: 10_000 };
        let mut map = Map(BTreeMap::new());
        tatp.load(&mut |id, row| assert!(map.0.insert(id, row).is_none(), "{id:?} is loaded twice"));
        let drawn =
            tatp.draw(&mut Client::new(SEED, 0, 1, Cross::Natural)).expect("all subscribers live here");
        // In a hundred transactions, and of a hundred of these.
        let published: [(f64, f64); 7] = [
            (35.0, 100.0),
            (10.0, 14.8),
            (35.0, 62.5),
            (2.0, 62.5),
            (14.0, 100.0),
            (2.0, 31.25),
            (2.0, 31.25),
        ];
        let mut found = [(0.0, 0.0); 7];
        for transaction in &drawn {
            let kind = match transaction {
                Transaction::GetSubscriberData { .. } => 0,
                Transaction::GetNewDestination { .. } => 1,
                Transaction::GetAccessData { .. } => 2,
                Transaction::UpdateSubscriberData { .. } => 3,
                Transaction::UpdateLocation { .. } => 4,
                Transaction::InsertCallForwarding { .. } => 5,
                Transaction::DeleteCallForwarding { .. } => 6,
            };
            let is_found = match Tatp::run(transaction, &mut map) {
                Ok(Reply::Destinations(numbers)) => !numbers.is_empty(),
                Ok(Reply::Access(access)) => access.is_some(),
                Ok(_) => true,
                Err(Refused::Aborted(_)) => false,
                Err(error) => panic!("{transaction:?}: {error}"),
            };
            found[kind].0 += 1.0;
            found[kind].1 += f64::from(u8::from(is_found));
        }
        for ((share, success), (count, finds)) in published.into_iter().zip(found) {
            let (found_share, found_success) = (100.0 * count / drawn.len() as f64, 100.0 * finds / count);
            assert!(
                (found_share - share).abs() < 0.5,
                "{found_share} in a hundred are of what should be {share}"
            );
            assert!(
                (found_success - success).abs() < 3.0,
                "{found_success} in a hundred succeed, and {success} should"
            );
        }
    }

    #[test]
    fn subscribers_are_drawn_unevenly_and_within_bounds() {
        let mut random = Pcg64::seed_from_u64(7);
        for subscribers in [1, 10, 100_000, 2_000_000, 20_000_000] {
            let mut drawn = (0..10_000).map(|_| draw_subscriber(&mut random, subscribers));
            assert!(drawn.all(|number| (1..=subscribers).contains(&number)));
        }
        // Of 100,000 the one behind the number with all the low 16 bits set comes up most.
        let most = (0..100_000).filter(|_| draw_subscriber(&mut random, 100_000) == 65_536).count();
        assert!(most > 100, "{most} of the most popular subscriber, and evenly it would be one");
    }
}
