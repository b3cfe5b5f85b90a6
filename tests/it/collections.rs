//! Collections in whole runtimes: a market whose books are collections of orders, with a log,
//! checkpoints, starts on other numbers of shards, and snapshots.

use std::collections::BTreeMap;

use crate::support::{Watchdog, until};
use freehold::{
    AccessError, AskError, Config, Handle, Idle, Limits, LogConfig, Objects, Receive, Runtime, Shards, To,
};
use serde::{Deserialize, Serialize};

freehold::actor! {
    /// Books with orders to sell.
    actor Market {
        id: Id,
        #[derive(Debug)]
        state: State,
        message: Message,
        reply: Reply,
        error: Refused,
        kinds {
            Book(symbol: u64) at symbol,
            Order(symbol: u64, price: u64, number: u64) in Book(symbol),
        }
        messages { Offer -> usize, Buy -> u64, Empty -> (), Stray -> (), Both -> () }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Book {
    sold: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    quantity: u64,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum Refused {
    #[error("not enough is offered")]
    TooFew,
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

/// Offers one of each of these numbers. Returns how many orders there are.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Offer {
    symbol: u64,
    price: u64,
    numbers: std::ops::Range<u64>,
}

/// Buys the cheapest, all of it or nothing. Returns what is paid.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Buy {
    symbol: u64,
    quantity: u64,
}

/// Removes all orders, a few at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Empty {
    symbol: u64,
}

/// Takes an order for what it is not.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stray {
    symbol: u64,
    how: u8,
}

/// Reaches for the orders of two books.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Both(u64, u64);

impl Receive<Market> for Offer {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(self.symbol);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<usize, Refused> {
        objects.write_or_insert_with(self.symbol, || Book { sold: 0 })?;
        let mut orders = objects.entries::<Order>(self.symbol)?;
        for number in self.numbers.clone() {
            let before = orders.put((self.symbol, self.price, number), Order { quantity: 2 })?;
            assert_eq!(before, None, "numbers are not given twice");
        }
        Ok(orders.len())
    }
}

impl Receive<Market> for Buy {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(self.symbol);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<u64, Refused> {
        let mut orders = objects.entries::<Order>(self.symbol)?;
        let (mut wanted, mut paid) = (self.quantity, 0);
        let mut walk = orders.walk(..);
        while wanted > 0
            && let Some(mut order) = walk.next()?
        {
            let (_, price, _) = order.key();
            let taken = wanted.min(order.read().quantity);
            (wanted, paid) = (wanted - taken, paid + taken * price);
            if taken == order.read().quantity {
                order.take()?;
            } else {
                order.write()?.quantity -= taken;
            }
        }
        if wanted > 0 {
            // All of it is undone.
            return Err(Refused::TooFew);
        }
        orders.header_mut()?.ok_or(Refused::TooFew)?.sold += self.quantity;
        Ok(paid)
    }
}

impl Receive<Market> for Empty {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(self.symbol);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<(), Refused> {
        if !objects.entries::<Order>(self.symbol)?.clear(50)? {
            objects.send(self.clone())?;
        }
        Ok(())
    }
}

impl Receive<Market> for Stray {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(self.symbol);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<(), Refused> {
        let key = (self.symbol, 1, 1);
        match self.how {
            0 => drop(objects.read::<Order>(key)?),
            1 => drop(objects.write::<Order>(key)?),
            2 => drop(objects.put(key, Order { quantity: 1 })?),
            3 => drop(objects.collection(Id::Order(key)).map(|_| ())?),
            _ => drop(objects.entries::<Order>(self.symbol)?.read((self.symbol + 1, 1, 1))?),
        }
        Ok(())
    }
}

impl Receive<Market> for Both {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(self.0);
        to.write::<Book>(self.1);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<(), Refused> {
        for symbol in [self.0, self.1] {
            objects.entries::<Order>(symbol)?.first();
        }
        Ok(())
    }
}

fn config(shards: usize) -> Config {
    let limits = Limits { entries_max: 100, ..Limits::default() };
    let idle = Idle::Spin(std::time::Duration::ZERO);
    Config { shards: Shards::Count(shards), limits, idle, ..Config::default() }
}

const BOOKS: u64 = 3;

/// All orders of all books, by a snapshot; each book is read by pieces of its range.
fn all(market: &Handle<Market>) -> BTreeMap<(u64, u64, u64), u64> {
    let snapshot = market.snapshot().wait().expect("it runs");
    let mut found = BTreeMap::new();
    for symbol in 0..BOOKS {
        let mut from = (symbol, 0, 0);
        loop {
            let read = snapshot.read_entries::<Order>(symbol, from..(symbol, u64::MAX, 0), 70).wait();
            let read = read.expect("it is open");
            assert!(read.is_sorted_by_key(|(key, _)| *key) && read.len() <= 70);
            let is_last = read.len() < 70;
            found.extend(read.into_iter().map(|(key, order)| (key, order.quantity)));
            match found.last_key_value() {
                Some((&(_, price, number), _)) if !is_last => from = (symbol, price, number + 1),
                _ => break,
            }
        }
    }
    let folded = snapshot.fold_kind::<Order, _, _, _, _>(|| 0, |sum, _, _| *sum += 1, |a, b| a + b);
    assert_eq!(folded.wait(), Ok(found.len()), "a fold of all objects has the same entries");
    found
}

#[test]
fn a_market_of_collections_outlives_its_runs() {
    let _watchdog = Watchdog::new("a_market_of_collections_outlives_its_runs");
    let directory = tempfile::tempdir().expect("there is room");
    let mut expected = BTreeMap::new();
    for (run, shards) in [1, 2, 3, 2].into_iter().enumerate() {
        let log = LogConfig::at(directory.path());
        let runtime = Runtime::<Market>::open(config(shards), log).expect("it opens");
        let market = runtime.handle();
        assert_eq!(all(&market), expected, "after {run} runs");
        let run = run as u64;
        for symbol in 0..BOOKS {
            for (price, first) in [(20, 0), (10, 100)] {
                let numbers = 1000 * run + first..1000 * run + first + 80;
                expected.extend(numbers.clone().map(|number| ((symbol, price, number), 2)));
                let orders = market.call(Offer { symbol, price, numbers }).wait().expect("there is room");
                assert_eq!(orders, expected.range((symbol, 0, 0)..(symbol + 1, 0, 0)).count());
            }
        }
        // Before, while and after orders go that a checkpoint may have to write still.
        runtime.checkpoint().expect("nothing stands in its way");
        for symbol in 0..BOOKS {
            let bought = market.call(Buy { symbol, quantity: 31 }).wait();
            let mut wanted = 31;
            while wanted > 0 {
                let range = (symbol, 0, 0)..(symbol + 1, 0, 0);
                let first = expected.range_mut(range).next().expect("there are more");
                let taken = wanted.min(*first.1);
                wanted -= taken;
                *first.1 -= taken;
                let (key, is_gone) = (*first.0, *first.1 == 0);
                if is_gone {
                    expected.remove(&key);
                }
            }
            assert!(bought.is_ok(), "{bought:?}");
        }
        let refused = market.call(Buy { symbol: 0, quantity: 1_000_000 }).wait();
        assert!(
            matches!(
                refused,
                Err(AskError::Aborted(
                    Refused::TooFew | Refused::Access(AccessError::TooManyEntries { max: 100 })
                ))
            ),
            "{refused:?}"
        );
        if run == 2 {
            market.call(Empty { symbol: 1 }).wait().expect("it is had");
            expected.retain(|(symbol, ..), _| *symbol != 1);
            until(|| all(&market) == expected);
        }
        assert_eq!(all(&market), expected);
        runtime.shutdown();
    }
}

#[test]
fn an_entry_is_no_object_of_its_own() {
    let _watchdog = Watchdog::new("an_entry_is_no_object_of_its_own");
    let runtime = Runtime::<Market>::start(config(1)).expect("it starts");
    let market = runtime.handle();
    market.call(Offer { symbol: 7, price: 1, numbers: 1..2 }).wait().expect("there is room");
    let refused =
        |how| market.call(Stray { symbol: 7, how }).wait().expect_err("an entry is reached by its book");
    let id = Id::Order((7, 1, 1));
    for how in 0..4 {
        assert_eq!(refused(how), AskError::Aborted(Refused::Access(AccessError::Entry { id })), "{how}");
    }
    let other = AccessError::NotAnEntry { id: Id::Order((8, 1, 1)) };
    assert_eq!(refused(4), AskError::Aborted(Refused::Access(other)));
    let many = market.call(Offer { symbol: 7, price: 2, numbers: 0..200 }).wait();
    let too_many = AccessError::TooManyEntries { max: 100 };
    assert_eq!(many, Err(AskError::Aborted(Refused::Access(too_many))));
    assert_eq!(market.call(Offer { symbol: 7, price: 2, numbers: 0..0 }).wait(), Ok(1), "it is undone");
}

#[test]
fn collections_of_two_shards_are_refused_by_name() {
    let _watchdog = Watchdog::new("collections_of_two_shards_are_refused_by_name");
    let runtime = Runtime::<Market>::start(config(2)).expect("it starts");
    let market = runtime.handle();
    let on =
        |shard| (0..).find(|symbol| market.home(&Id::Book(*symbol)).index() == shard).expect("there is one");
    let (low, high) = (on(0), on(1));
    for symbol in [low, high] {
        market.call(Offer { symbol, price: 1, numbers: 0..5 }).wait().expect("there is room");
    }
    // It runs on the higher.
    let elsewhere = AccessError::CollectionElsewhere { id: Id::Book(low) };
    assert_eq!(market.call(Both(low, high)).wait(), Err(AskError::Aborted(Refused::Access(elsewhere))));
}
