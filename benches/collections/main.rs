//! What does an entry of a collection cost beside one of a plain ordered map, and an order of a
//! book of many resting orders?
//!
//! ```text
//! cargo bench --bench collections
//! ```
//! Pure shards on one thread. An entry has a key of two numbers and a state of two. First one entry
//! is removed and one inserted, at random places, over and over: in a `BTreeMap` in a plain loop,
//! by one message for each such pair, and by messages of 64 pairs. Ranges of a hundred entries go
//! upwards and downwards. Then orders come to a book: one rests anywhere in it, the next takes the
//! best, and so on; in memory, and with a log whose batches of 64 messages are encoded, checksummed
//! and closed, and given to no disk. A shard-to-be takes over entries, as recovery reads them, and
//! as many objects that are no entries. A runtime of one shard opens a directory whose log has as
//! many of either, and a task of its shard sees how long it waits beside a checkpoint. At last
//! transactions of two shards change one collection all at once: what its one lock costs. (`whole`
//! has these three.)
//!
//! Times are CPU times of the one thread, but for the last three, which are by the clock. The work
//! is checked: both ways end with the same entries, and every order is answered.

#[path = "../workload/report.rs"]
#[allow(dead_code, reason = "a bench uses a part of it")]
mod report;
mod whole;

use std::alloc::System;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold::{AccessError, Indexed, Limits, Needs, Objects, PlacementKey, Receive, ShardIndex, To};
use freehold_shard::log::{Bounds, SegmentId};
use freehold_shard::part::PartWriter;
use freehold_shard::recovery::{Change, Home};
use freehold_shard::{
    Ack, Batch, BatchEntry, Codec, Durability, Effects, Epoch, Inbox, LogStart, Mvcc, NoPrefetch, OwnerId,
    Ownership, Router, Shard, Time,
};
use hdrhistogram::Histogram;
use report::{Conditions, Quantiles, Spread, millions_per_second, times};
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

freehold::actor! {
    actor Market {
        id: Id, state: State, message: Message, reply: Reply, error: Refused,
        kinds {
            Book(symbol: u64),
            Order(symbol: u64, price: u64, number: u64) in Book(symbol),
            // The same orders by their numbers, with a second order by price.
            Numbered(symbol: u64, number: u64) in Book(symbol) by Queue,
            Queue(symbol: u64, price: u64, number: u64) in Book(symbol),
        }
        messages {
            Fill -> (), Shelve -> (), Move -> (), Swap -> u64, Rest -> u64, Take -> u64,
            FillNumbered -> (), RestNumbered -> u64, TakeNumbered -> u64, Look -> u64,
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Book {
    changes: u64,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Order {
    user: u64,
    quantity: u64,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Numbered {
    price: u64,
    order: Order,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Queue;

impl Indexed<Market> for Numbered {
    type Index = Queue;

    fn place_of((symbol, number): (u64, u64), numbered: &Numbered) -> Option<(u64, u64, u64)> {
        Some((symbol, numbered.price, number))
    }

    fn key_at((symbol, _, number): (u64, u64, u64)) -> (u64, u64) {
        (symbol, number)
    }
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no such order")]
    Unknown,
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

/// The price and the number of an order: its place in the book.
type Place = (u64, u64);

/// Makes some orders.
#[derive(Clone, Serialize, Deserialize)]
struct Fill(Vec<Place>);

/// Changes two books, and puts an order into the first, if one is named.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Move {
    books: [u64; 2],
    order: Option<Place>,
}

/// Makes a book of its own.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Shelve(u64);

/// Removes one order and inserts another, so many times.
#[derive(Clone, Serialize, Deserialize)]
struct Swap(Vec<(Place, Place)>);

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Rest(Place);

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Take;

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Direction {
    Upwards,
    Downwards,
}

/// Goes through a hundred orders from each of these places on.
#[derive(Clone, Serialize, Deserialize)]
struct Look {
    from: Vec<Place>,
    direction: Direction,
}

/// The same three of orders that have two orders.
#[derive(Clone, Serialize, Deserialize)]
struct FillNumbered(Vec<Place>);

#[derive(Clone, Copy, Serialize, Deserialize)]
struct RestNumbered(Place);

#[derive(Clone, Copy, Serialize, Deserialize)]
struct TakeNumbered;

const BOOK: u64 = 7;

fn order((price, number): Place) -> Order {
    Order { user: number, quantity: price + 1 }
}

/// What the first hundred hold.
fn sum<'o>(orders: impl Iterator<Item = &'o Order>) -> u64 {
    orders.take(RANGE).map(|order| order.quantity).sum()
}

fn book(objects: &mut Objects<'_, Market>) -> Result<(), Refused> {
    objects.write::<Book>(BOOK)?.ok_or(Refused::Unknown)?.changes += 1;
    Ok(())
}

impl Receive<Market> for Shelve {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<(), Refused> {
        Ok(objects.put(self.0, Book { changes: self.0 }).map(drop)?)
    }
}

impl Receive<Market> for Move {
    fn addressees(&self, to: &mut To<'_, Market>) {
        for book in &self.books {
            to.write::<Book>(*book);
        }
    }

    fn needs(&self, to: &mut Needs<Market>) {
        if let Some(place) = self.order {
            to.entry_of::<Order>((self.books[0], place.0, place.1));
        }
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<(), Refused> {
        for book in self.books {
            objects.write::<Book>(book)?.ok_or(Refused::Unknown)?.changes += 1;
        }
        if let Some(place) = self.order {
            objects.entries::<Order>(self.books[0])?.put((self.books[0], place.0, place.1), order(place))?;
        }
        Ok(())
    }
}

macro_rules! to_the_book {
    ($($Message:ty => |$self:ident, $objects:ident| -> $Reply:ty $receive:block)+) => {$(
        impl Receive<Market> for $Message {
            fn addressees(&self, to: &mut To<'_, Market>) {
                to.write::<Book>(BOOK);
            }

            fn receive(&self, $objects: &mut Objects<'_, Market>) -> Result<$Reply, Refused> {
                let $self = self;
                $receive
            }
        }
    )+};
}

to_the_book! {
    Fill => |fill, objects| -> () {
        objects.write_or_insert_with(BOOK, || Book { changes: 0 })?;
        let mut orders = objects.entries::<Order>(BOOK)?;
        for place in &fill.0 {
            orders.put((BOOK, place.0, place.1), order(*place))?;
        }
        Ok(())
    }
    Swap => |swap, objects| -> u64 {
        let mut orders = objects.entries::<Order>(BOOK)?;
        let mut found = 0;
        for (old, new) in &swap.0 {
            found += orders.take((BOOK, old.0, old.1))?.ok_or(Refused::Unknown)?.quantity;
            orders.put((BOOK, new.0, new.1), order(*new))?;
        }
        Ok(found)
    }
    Rest => |rest, objects| -> u64 {
        book(objects)?;
        let mut orders = objects.entries::<Order>(BOOK)?;
        orders.put((BOOK, rest.0.0, rest.0.1), order(rest.0))?;
        Ok(0)
    }
    Take => |_take, objects| -> u64 {
        book(objects)?;
        let mut orders = objects.entries::<Order>(BOOK)?;
        let mut best = orders.walk((BOOK, 0, 0)..).next()?.map(|mut best| best.take()).transpose()?.flatten();
        Ok(best.take().ok_or(Refused::Unknown)?.quantity)
    }
    Look => |look, objects| -> u64 {
        let orders = objects.entries::<Order>(BOOK)?;
        let found = look.from.iter().map(|from| (BOOK, from.0, from.1)).map(|from| match look.direction {
            Direction::Upwards => sum(orders.range(from..).map(|(_, order)| order)),
            Direction::Downwards => sum(orders.range(..from).rev().map(|(_, order)| order)),
        });
        Ok(found.sum())
    }
    FillNumbered => |fill, objects| -> () {
        objects.write_or_insert_with(BOOK, || Book { changes: 0 })?;
        let mut orders = objects.indexed::<Numbered>(BOOK)?;
        for place in &fill.0 {
            orders.put((BOOK, place.1), Numbered { price: place.0, order: order(*place) })?;
        }
        Ok(())
    }
    RestNumbered => |rest, objects| -> u64 {
        book(objects)?;
        let numbered = Numbered { price: rest.0.0, order: order(rest.0) };
        objects.indexed::<Numbered>(BOOK)?.put((BOOK, rest.0.1), numbered)?;
        Ok(0)
    }
    TakeNumbered => |_take, objects| -> u64 {
        book(objects)?;
        let best = objects.indexed::<Numbered>(BOOK)?.take_first_by((BOOK, 0, 0)..)?;
        Ok(best.ok_or(Refused::Unknown)?.1.order.quantity)
    }
}

const ROUNDS: usize = 5;
/// A slice of a checkpoint ends after this time, or so many slots: as in the runtime.
const SLICE: Duration = Duration::from_micros(100);
const SLOTS: usize = 512;
const TOGETHER: usize = 64;
/// Entries of a range.
const RANGE: usize = 100;
const NOW: Time = Time(0);
const SENDER: OwnerId = OwnerId(0);

/// The CPU time of this thread: what else the machine does counts as little as can be.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Numbers that look drawn.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }
}

/// The places of a book at first, and what is swapped in it: a place that is there for a new one.
fn draw(entries: usize, swaps: usize) -> (Vec<Place>, Vec<(Place, Place)>) {
    let mut draws = Draws(42);
    let mut there: Vec<Place> =
        (0..entries).map(|number| (draws.next() % 1_000_000, number as u64)).collect();
    let first = there.clone();
    let swaps = (0..swaps).map(|swap| {
        let at = draws.next() as usize % entries;
        let new = (draws.next() % 1_000_000, (entries + swap) as u64);
        (std::mem::replace(&mut there[at], new), new)
    });
    let swaps = swaps.collect();
    (first, swaps)
}

#[derive(Clone, Copy, PartialEq)]
enum Log {
    None,
    ToNoDisk,
}

fn shard(log: Log) -> Shard<Market, NoPrefetch> {
    shard_and_epochs(log).0
}

fn shard_and_epochs(log: Log) -> (Shard<Market, NoPrefetch>, Arc<Mvcc<Market>>) {
    let (router, durability) = (Router::new(PlacementKey(1), 1), Arc::new(Durability::new(1, Epoch(0))));
    let mvcc = match log {
        Log::ToNoDisk => Arc::new(Mvcc::logged(1, durability.clone())),
        Log::None => Arc::new(Mvcc::new(1)),
    };
    let shard = Shard::new(ShardIndex(0), router, Limits::default(), 7, mvcc.clone());
    if log == Log::None {
        return (shard, mvcc);
    }
    let shard = shard.with_log(LogStart {
        codec: Codec::new(),
        ack: Ack::Durable,
        first: SegmentId { database: 1, log: 0, segment: 0, start: 2 },
        segment_bytes: 16 << 20,
        first_send: 0,
        durability,
    });
    (shard, mvcc)
}

fn fill(shard: &mut Shard<Market, NoPrefetch>, effects: &mut Effects<Market>, places: &[Place]) {
    for some in places.chunks(1000) {
        ask(shard, effects, Fill(some.to_vec()));
        settle(shard, effects);
    }
}

fn ask(
    shard: &mut Shard<Market, NoPrefetch>,
    effects: &mut Effects<Market>,
    message: impl Into<Message>,
) -> u64 {
    match shard.ask_now(NOW, SENDER, &message.into(), effects) {
        Ok(Reply::Swap(found) | Reply::Rest(found) | Reply::Take(found)) => found,
        Ok(Reply::RestNumbered(found) | Reply::TakeNumbered(found) | Reply::Look(found)) => found,
        Ok(Reply::Fill(()) | Reply::Shelve(()) | Reply::Move(()) | Reply::FillNumbered(())) => 0,
        Err(error) => panic!("{error}"),
    }
}

/// Closes what was written, if there is a log. How many bytes that is.
fn settle(shard: &mut Shard<Market, NoPrefetch>, effects: &mut Effects<Market>) -> usize {
    let mut bytes = 0;
    while let Some(write) = shard.next_write(NOW) {
        bytes += write.batch.padded();
        shard.written(write.batch);
    }
    shard.release(effects);
    bytes
}

fn plain_map(first: &[Place], swaps: &[(Place, Place)]) -> (Duration, usize, u64) {
    let region = Region::new(ALLOCATOR);
    let mut map = BTreeMap::new();
    for place in first {
        map.insert((BOOK, place.0, place.1), order(*place));
    }
    let change = region.change();
    let bytes = change.bytes_allocated - change.bytes_deallocated;
    let (begin, mut found) = (cpu(), 0);
    for (old, new) in swaps {
        found += map.remove(&(BOOK, old.0, old.1)).expect("it is there").quantity;
        map.insert((BOOK, new.0, new.1), order(*new));
    }
    (cpu() - begin, bytes, found)
}

fn collection(first: &[Place], swaps: &[(Place, Place)], together: usize) -> (Duration, usize, u64) {
    let region = Region::new(ALLOCATOR);
    let (mut shard, mut effects) = (shard(Log::None), Effects::new(1));
    fill(&mut shard, &mut effects, first);
    let change = region.change();
    let bytes = change.bytes_allocated - change.bytes_deallocated;
    let messages: Vec<Message> = swaps.chunks(together).map(|some| Swap(some.to_vec()).into()).collect();
    let (begin, mut found) = (cpu(), 0);
    for message in messages {
        found += ask(&mut shard, &mut effects, message);
    }
    let time = cpu() - begin;
    assert_eq!(shard.counters().objects as usize, first.len() + 1, "one comes for each that goes");
    (time, bytes, found)
}

/// Ranges of a map and of a collection, from these places on: their rates, in entries.
fn ranges(first: &[Place], from: &[Place], direction: Direction) -> [Spread; 2] {
    let map: BTreeMap<_, _> = first.iter().map(|place| ((BOOK, place.0, place.1), order(*place))).collect();
    let (mut shard, mut effects) = (shard(Log::None), Effects::new(1));
    fill(&mut shard, &mut effects, first);
    let mut found = [0; 2];
    let of_map = rates(from.len() * RANGE, || {
        let begin = cpu();
        let of = from.iter().map(|from| (BOOK, from.0, from.1)).map(|from| match direction {
            Direction::Upwards => sum(map.range(from..).map(|(_, order)| order)),
            Direction::Downwards => sum(map.range(..from).rev().map(|(_, order)| order)),
        });
        found[0] = of.sum();
        cpu() - begin
    });
    let of_collection = rates(from.len() * RANGE, || {
        let messages: Vec<Message> =
            from.chunks(TOGETHER).map(|some| Look { from: some.to_vec(), direction }.into()).collect();
        let begin = cpu();
        found[1] = messages.into_iter().map(|message| ask(&mut shard, &mut effects, message)).sum();
        cpu() - begin
    });
    assert_eq!(found[0], found[1], "both find the same");
    [of_map, of_collection]
}

/// So many ranges of so many entries, upwards and downwards.
fn both_ways(entries: usize, count: usize) {
    let (first, from) = draw(entries, count);
    let from: Vec<Place> = from.into_iter().map(|(_, new)| new).collect();
    println!("{entries} entries: ranges of {RANGE}, 64 a message, millions of entries a second");
    for (name, direction) in [("upwards", Direction::Upwards), ("downwards", Direction::Downwards)] {
        let [map, collection] = ranges(&first, &from, direction);
        println!(
            "  {:<28}{map}\n  {:<28}{collection}",
            format!("BTreeMap, {name}"),
            format!("a collection, {name}")
        );
    }
}

/// By what the orders of a book are kept.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    ByPrice,
    ByNumberAndPrice,
}

/// Orders that rest and orders that take, by turns; the time, and the bytes of log.
fn orders(first: &[Place], count: usize, log: Log, kept: Kept) -> (Duration, usize) {
    let (mut shard, mut effects) = (shard(log), Effects::new(1));
    let is_by_price = kept == Kept::ByPrice;
    if is_by_price {
        fill(&mut shard, &mut effects, first);
    } else {
        for some in first.chunks(1000) {
            ask(&mut shard, &mut effects, FillNumbered(some.to_vec()));
            settle(&mut shard, &mut effects);
        }
    }
    let (mut draws, mut inbox, mut bytes, mut answered) = (Draws(43), Inbox::new(), 0, 0);
    let begin = cpu();
    for batch in 0..count / TOGETHER {
        let mut place = |at| (draws.next() % 1_000_000, (first.len() + batch * TOGETHER + at) as u64);
        let message = |at: usize| match (at % 2, is_by_price) {
            (0, true) => Rest(place(at)).into(),
            (0, false) => RestNumbered(place(at)).into(),
            (_, true) => Take.into(),
            (_, false) => TakeNumbered.into(),
        };
        let entries = (0..TOGETHER).map(message).map(BatchEntry::Waiting).collect();
        inbox.batches.push(Batch { sender: SENDER, entries, tag: 0 });
        shard.turn(NOW, &mut inbox, &mut effects);
        bytes += settle(&mut shard, &mut effects);
        for batch in effects.batches.drain(..) {
            answered +=
                batch.entries.iter().filter(|entry| matches!(entry, BatchEntry::Answered(Ok(_)))).count();
        }
    }
    let time = cpu() - begin;
    assert_eq!(answered, count / TOGETHER * TOGETHER, "every order is answered");
    let entries = if is_by_price { first.len() } else { 2 * first.len() };
    assert_eq!(shard.counters().objects as usize, entries + 1, "one is taken for each that rests");
    (time, bytes)
}

/// A shard-to-be takes over what a log has; the time.
fn recover(ids: impl Iterator<Item = (Id, State)>) -> Duration {
    let mut home = Home::<Market>::new(7);
    let mut changes: Vec<_> = ids.map(|(id, state)| Change::Put(id, Ownership::default(), state)).collect();
    let (begin, count) = (cpu(), changes.len());
    home.apply_all::<NoPrefetch>(&mut changes);
    home.finish();
    let time = cpu() - begin;
    assert_eq!(home.len(), count, "each is there");
    time
}

/// The slices of a checkpoint of a collection, as long as the runtime lets one take: their times.
fn checkpoint(first: &[Place]) -> Histogram<u64> {
    let ((mut shard, mvcc), mut effects) = (shard_and_epochs(Log::ToNoDisk), Effects::new(1));
    fill(&mut shard, &mut effects, first);
    let of = SegmentId { database: 1, log: 1, segment: 0, start: 2 };
    let (snapshot, codec, mut slices) = (mvcc.epochs().begin_checkpoint(), Codec::new(), times());
    let mut from = Some(0);
    while let Some(at) = from {
        // Each goes to a file before the next, there.
        let mut part = PartWriter::new(of, Bounds::of_segments(16 << 20), usize::MAX);
        let begin = cpu();
        let goes_on = || cpu() - begin < SLICE;
        from = shard.checkpoint_objects(&codec, snapshot, at, SLOTS, &mut part, goes_on).expect("it is open");
        slices.record((cpu() - begin).as_nanos() as u64).expect("no slice takes a minute");
    }
    slices
}

fn rates(count: usize, mut round: impl FnMut() -> Duration) -> Spread {
    Spread::of((0..ROUNDS).map(|_| millions_per_second(count as u64, round())))
}

fn main() {
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let (sizes, swaps): (Vec<usize>, usize) =
        if is_test { (vec![100, 1_000], 1_000) } else { (vec![10_000, 1_000_000], 300_000) };
    println!("{}", Conditions::now());
    println!("settings    a key of 24 bytes, a state of 16, {ROUNDS} rounds\n");
    let mut sums = Vec::new();
    for entries in sizes.clone() {
        let (first, changes) = draw(entries, swaps);
        println!("{entries} entries: pairs of a removal and an insertion, millions a second; bytes an entry");
        let mut line = |name: &str, way: &dyn Fn() -> (Duration, usize, u64)| {
            let mut bytes = 0;
            let rates = rates(swaps, || {
                let (time, here, found) = way();
                sums.push(found);
                bytes = here;
                time
            });
            println!("  {name:<28}{rates}   {:6.1}", bytes as f64 / entries as f64);
        };
        line("BTreeMap, a plain loop", &|| plain_map(&first, &changes));
        line("a message for each", &|| collection(&first, &changes, 1));
        line("messages of 64", &|| collection(&first, &changes, TOGETHER));
        assert!(sums.windows(2).all(|two| two[0] == two[1]), "all ways find the same");
        sums.clear();
    }
    sizes.iter().for_each(|entries| both_ways(*entries, swaps / RANGE));
    for entries in sizes.clone() {
        let (first, _) = draw(entries, 0);
        println!("{entries} to recover: millions a second");
        let entry = |place: &Place| (Id::Order((BOOK, place.0, place.1)), State::Order(order(*place)));
        println!("  {:<28}{}", "entries", rates(entries, || recover(first.iter().map(entry))));
        let object = |place: &Place| (Id::Book(place.1), State::Book(Book { changes: place.0 }));
        println!("  {:<28}{}", "plain objects", rates(entries, || recover(first.iter().map(object))));
    }
    for entries in sizes.clone() {
        let (first, _) = draw(entries, 0);
        println!("{entries} in a checkpoint: a slice of it");
        println!("  {}\n  {}", Quantiles::HEAD, Quantiles(&checkpoint(&first)));
    }
    for entries in sizes {
        let (first, _) = draw(entries, 0);
        println!("{entries} resting orders: millions of orders a second, bytes of log an order");
        for (name, log, kept) in [
            ("in memory", Log::None, Kept::ByPrice),
            ("logged, to no disk", Log::ToNoDisk, Kept::ByPrice),
            ("two orders, in memory", Log::None, Kept::ByNumberAndPrice),
            ("two orders, logged", Log::ToNoDisk, Kept::ByNumberAndPrice),
        ] {
            let mut bytes = 0;
            let rates = rates(swaps, || {
                let (time, here) = orders(&first, swaps, log, kept);
                bytes = here;
                time
            });
            println!("  {name:<28}{rates}   {:6.1}", bytes as f64 / swaps as f64);
        }
    }
    whole::runtimes(is_test);
    println!("\nverified    all ways find the same orders, and every order is answered");
}
