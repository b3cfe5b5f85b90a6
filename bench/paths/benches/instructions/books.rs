//! The paths of collections: a book of ten thousand orders, and the same orders in a `BTreeMap`.
//!
//! What a message costs beside the plain map is the difference of two paths. All of them check that
//! they end with the orders that the plain map has. And what a start costs that reads them from a
//! log: twice, as recovery does, and from memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use freehold::{AccessError, Objects, Receive, To};
use freehold_shard::log::{Bounds, LogBatch, Tail};
use freehold_shard::recovery::{Home, LogReader, Replay, Survey};
use freehold_shard::{Codec, Durability, Effects, Epoch, Mvcc, NoPrefetch, PlacementKey, Router, Shard};
use serde::{Deserialize, Serialize};

use crate::paths::{NOW, SEGMENT_BYTES, SENDER, log, shard};
use crate::workload::SEED;

freehold::actor! {
    actor Market {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds {
            Book(symbol: u64),
            Order(symbol: u64, price: u64, number: u64) in Book(symbol),
        }
        messages { Open -> (), Swap -> u64, Change -> u64, Best -> u64 }
    }
}

const BOOK: u64 = 7;
const ORDERS: usize = 10_000;
const PRICES: u64 = 1_000_000;
/// Orders that a range goes through, and pairs of a message of many.
const TOGETHER: usize = 64;
/// Orders in a log, or books.
const LOGGED: u64 = 4_096;

/// The price and the number of an order.
type Place = (u64, u64);

#[derive(Clone, Serialize, Deserialize)]
struct Book;

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Order {
    user: u64,
    quantity: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Open(u64);

/// Takes an order out, if one is named, and puts another in, so many times. Answers with the
/// quantities it has taken.
#[derive(Clone, Serialize, Deserialize)]
struct Swap(Vec<(Option<Place>, Place)>);

/// Adds to the quantity of an order, and answers with it.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Change(Place);

/// Answers with the quantities of the orders from this price on.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Best(u64);

fn key((price, number): Place) -> (u64, u64, u64) {
    (BOOK, price, number)
}

fn order((price, number): Place) -> Order {
    Order { user: number, quantity: price + 1 }
}

impl Receive<Market> for Open {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<(), AccessError<Id>> {
        objects.write_or_insert_with(self.0, || Book).map(drop)
    }
}

impl Receive<Market> for Swap {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(BOOK);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<u64, AccessError<Id>> {
        let (mut orders, mut found) = (objects.entries::<Order>(BOOK)?, 0);
        for (old, new) in &self.0 {
            if let Some(old) = old {
                found += orders.take(key(*old))?.map_or(0, |order| order.quantity);
            }
            orders.put(key(*new), order(*new))?;
        }
        Ok(found)
    }
}

impl Receive<Market> for Change {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(BOOK);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<u64, AccessError<Id>> {
        let mut orders = objects.entries::<Order>(BOOK)?;
        let Some(order) = orders.write(key(self.0))? else { return Ok(0) };
        order.quantity += 1;
        Ok(order.quantity)
    }
}

impl Receive<Market> for Best {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(BOOK);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<u64, AccessError<Id>> {
        let orders = objects.entries::<Order>(BOOK)?;
        Ok(orders.range(key((self.0, 0))..).take(TOGETHER).map(|(_, order)| order.quantity).sum())
    }
}

/// Numbers that look drawn.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }
}

/// Which orders there are, and which comes next for which.
struct Course {
    draws: Draws,
    there: Vec<Place>,
    next: u64,
}

impl Course {
    fn new() -> Self {
        let mut draws = Draws(SEED);
        let there = (0..ORDERS as u64).map(|number| (draws.next() % PRICES, number)).collect();
        Course { draws, there, next: ORDERS as u64 }
    }

    fn drawn(&mut self) -> usize {
        self.draws.next() as usize % ORDERS
    }

    fn swap(&mut self) -> (Place, Place) {
        let (at, new) = (self.drawn(), (self.draws.next() % PRICES, self.next));
        self.next += 1;
        (std::mem::replace(&mut self.there[at], new), new)
    }

    /// What `count` swaps take out, and what is there behind them.
    fn expected(count: u64) -> (u64, u64) {
        let mut course = Course::new();
        let found = (0..count).map(|_| order(course.swap().0).quantity).sum();
        (found, course.there.iter().map(|place| order(*place).quantity).sum())
    }
}

fn of_map(course: &Course) -> BTreeMap<(u64, u64, u64), Order> {
    course.there.iter().map(|place| (key(*place), order(*place))).collect()
}

pub fn map_pair(count: u64) {
    let mut course = Course::new();
    let (mut map, mut found) = (BTreeMap::new(), 0);
    // One by one: a map that is made of a sorted list is fuller.
    course.there.iter().for_each(|place| assert!(map.insert(key(*place), order(*place)).is_none()));
    for _ in 0..count {
        let (old, new) = course.swap();
        found += map.remove(&key(old)).map_or(0, |order| order.quantity);
        map.insert(key(new), order(new));
    }
    assert_eq!((found, map.values().map(|order| order.quantity).sum()), Course::expected(count));
}

/// A shard with the book.
struct OneBook {
    shard: Shard<Market, NoPrefetch>,
    effects: Effects<Market>,
}

impl OneBook {
    fn of(course: &Course) -> Self {
        let shard = shard::<Market>(0, Router::new(PlacementKey(SEED), 1), &Arc::new(Mvcc::new(1)));
        let mut book = OneBook { shard, effects: Effects::new(1) };
        book.ask(Open(BOOK).into());
        for some in course.there.chunks(1000) {
            book.ask(Swap(some.iter().map(|place| (None, *place)).collect()).into());
        }
        book
    }

    fn ask(&mut self, message: Message) -> u64 {
        match self.shard.ask_now(NOW, SENDER, &message, &mut self.effects) {
            Ok(Reply::Open(())) => 0,
            Ok(Reply::Swap(found) | Reply::Change(found) | Reply::Best(found)) => found,
            Err(error) => panic!("{error}"),
        }
    }

    fn quantities(&self) -> u64 {
        let orders = self.shard.objects().filter_map(|(_, _, state)| match state {
            State::Order(order) => Some(order.quantity),
            State::Book(_) => None,
        });
        orders.sum()
    }
}

fn pairs(count: u64, together: usize) {
    let mut course = Course::new();
    let (mut book, mut found) = (OneBook::of(&course), 0);
    for _ in 0..count / together as u64 {
        let swaps = (0..together).map(|_| course.swap()).map(|(old, new)| (Some(old), new));
        found += book.ask(Swap(swaps.collect()).into());
    }
    assert_eq!((found, book.quantities()), Course::expected(count));
}

pub fn entry_pair(count: u64) {
    pairs(count, 1);
}

pub fn entry_pair_64(count: u64) {
    pairs(count, TOGETHER);
}

pub fn entry_write(count: u64) {
    let mut course = Course::new();
    let mut book = OneBook::of(&course);
    let before = book.quantities();
    for _ in 0..count {
        let at = course.drawn();
        assert!(book.ask(Change(course.there[at]).into()) > 0, "it is there");
    }
    assert_eq!(book.quantities(), before + count, "each is changed once");
}

pub fn entry_range(count: u64) {
    let mut course = Course::new();
    let (mut book, map) = (OneBook::of(&course), of_map(&course));
    for nth in 0..count / TOGETHER as u64 {
        let from = course.draws.next() % PRICES;
        let found = book.ask(Best(from).into());
        if nth == 0 {
            let there = map.range(key((from, 0))..).take(TOGETHER).map(|(_, order)| order.quantity);
            assert_eq!(found, there.sum(), "a range has what the map has");
        }
    }
}

/// The log of a shard that was asked this, as it is on a disk.
fn logged(messages: impl Iterator<Item = Message>) -> Vec<u8> {
    let durability = Arc::new(Durability::new(1, Epoch(0)));
    let mvcc = Arc::new(Mvcc::logged(1, durability.clone()));
    let shard = shard::<Market>(0, Router::new(PlacementKey(SEED), 1), &mvcc);
    let shard = shard.with_log(log(0, Codec::new(), &durability));
    let (mut book, mut bytes) = (OneBook { shard, effects: Effects::new(1) }, Vec::new());
    let mut messages = messages.peekable();
    while messages.peek().is_some() {
        messages.by_ref().take(TOGETHER).for_each(|message| _ = book.ask(message));
        while let Some(write) = book.shard.next_write(NOW) {
            assert_eq!(write.segment, 0, "it fits into one segment");
            bytes.extend_from_slice(write.batch.sealed());
            book.shard.written(write.batch);
        }
        book.shard.release(&mut book.effects);
    }
    bytes
}

/// Reads a log twice, as recovery does: once for its epochs, once for its objects.
fn recovered(bytes: &[u8]) -> Home<Market> {
    let read = |each: &mut dyn FnMut(LogBatch<'_>)| {
        let first = log::<Market>(0, Codec::new(), &Arc::new(Durability::new(1, Epoch(0)))).first;
        let mut reader = LogReader::new(first, Bounds::of_segments(SEGMENT_BYTES), Tail::default());
        reader.read(bytes, each).expect("it was just written");
    };
    let mut survey = Survey::default();
    read(&mut |batch| survey.note(&batch).expect("it has records"));
    let (mut home, mut replay) = (Home::new(SEED), Replay::new(Router::new(PlacementKey(SEED), 1)));
    read(&mut |batch| {
        let put = |_, changes: &mut Vec<_>| home.apply_all::<NoPrefetch>(changes);
        replay.apply(&batch, Epoch(0), survey.latest, put).expect("they are of this actor");
    });
    home.finish();
    home
}

/// Reads such a log so often that it is `count` objects.
fn recover(count: u64, messages: impl Iterator<Item = Message>, objects: u64, quantities: u64) {
    let bytes = logged(messages);
    for _ in 0..count.div_ceil(LOGGED) {
        let home = recovered(&bytes);
        let found = home.objects().map(|(_, _, state)| match state {
            State::Order(order) => order.quantity,
            State::Book(_) => 0,
        });
        assert_eq!((home.len() as u64, found.sum()), (objects, quantities), "each is there");
    }
}

pub fn recover_entry(count: u64) {
    let course = Course::new();
    let orders = &course.there[..LOGGED as usize];
    let swap = |some: &[Place]| Swap(some.iter().map(|place| (None, *place)).collect()).into();
    let messages = [Open(BOOK).into()].into_iter().chain(orders.chunks(TOGETHER).map(swap));
    recover(count, messages, LOGGED + 1, orders.iter().map(|place| order(*place).quantity).sum());
}

pub fn recover_object(count: u64) {
    recover(count, (0..LOGGED).map(|symbol| Open(symbol).into()), LOGGED, 0);
}
