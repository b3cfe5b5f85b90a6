//! Collections in whole runtimes: a market whose books are collections of orders, with a log,
//! checkpoints, starts on other numbers of shards, and snapshots.

mod files;
mod halls;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::Watchdog;
use freehold::{
    AccessError, AskError, Config, Handle, Idle, Limits, LogConfig, Needs, Objects, Receive, Runtime, Shards,
    To, glommio,
};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

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
        messages { Offer -> usize, Buy -> u64, Empty -> (), Stray -> (), Both -> (usize, usize) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Book {
    sold: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Order {
    quantity: u64,
}

thread_local! {
    /// How many orders this thread has written into logs and checkpoints.
    static WRITTEN: Cell<usize> = const { Cell::new(0) };
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WRITTEN.set(WRITTEN.get() + 1);
        let mut order = serializer.serialize_struct("Order", 1)?;
        order.serialize_field("quantity", &self.quantity)?;
        order.end()
    }
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

/// Moves the first orders of one book to another. Returns how many orders both have then.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Both {
    from: u64,
    to: u64,
    most: usize,
    /// How many it says it needs.
    says: usize,
}

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
        // More than a message may change one by one.
        Ok(objects.entries::<Order>(self.symbol)?.clear()?)
    }
}

impl Receive<Market> for Stray {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(self.symbol);
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<(), Refused> {
        let key = (self.symbol, 1, 1);
        match self.how {
            0 => objects.read::<Order>(key).map(|_| ())?,
            1 => objects.write::<Order>(key).map(|_| ())?,
            2 => objects.put(key, Order { quantity: 1 }).map(|_| ())?,
            3 => objects.collection(Id::Order(key)).map(|_| ())?,
            _ => drop(objects.entries::<Order>(self.symbol)?.read((self.symbol + 1, 1, 1))?),
        }
        Ok(())
    }
}

impl Receive<Market> for Both {
    fn addressees(&self, to: &mut To<'_, Market>) {
        to.write::<Book>(self.from);
        to.write::<Book>(self.to);
    }

    fn needs(&self, to: &mut Needs<Market>) {
        if self.says > 0 {
            to.range_of::<Order>(self.from, .., self.says);
        }
    }

    fn receive(&self, objects: &mut Objects<'_, Market>) -> Result<(usize, usize), Refused> {
        for _ in 0..self.most {
            let first = objects.entries::<Order>(self.from)?.first().map(|(key, _)| key);
            let Some((symbol, price, number)) = first else { return Err(Refused::TooFew) };
            let order = objects.entries::<Order>(self.from)?.take((symbol, price, number))?;
            let order = order.ok_or(Refused::TooFew)?;
            // Behind all others, under a number that none has.
            let mut orders = objects.entries::<Order>(self.to)?;
            let last = orders.last().map_or(0, |((_, price, _), _)| price);
            orders.put((self.to, last + 1, number), order)?;
        }
        Ok((objects.entries::<Order>(self.from)?.len(), objects.entries::<Order>(self.to)?.len()))
    }
}

fn config(shards: usize) -> Config {
    let limits = Limits { entries_max: 100, carried_bytes_max: 4 << 10, ..Limits::default() };
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
        }
        assert_eq!(all(&market), expected);
        runtime.shutdown();
    }
}

/// A slice of a checkpoint has no more slots than this, however fast they are written: eight times
/// 512, if it makes every effort.
const SLICE_SLOTS: usize = 8 * 512;
/// An order is written twice, as its bytes are tried before they are trusted.
const TIMES: usize = 2;

// Bench `collections` measures how long a task waits beside a checkpoint of a million. Here is what
// keeps that short, by count: each time the task has its turn, no more of the collection was
// written than a slice has. The task is always ready, so it has a turn between any two slices.
#[test]
fn a_checkpoint_of_a_large_collection_leaves_turns_to_others() {
    let _watchdog = Watchdog::new("a_checkpoint_of_a_large_collection_leaves_turns_to_others");
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = Runtime::<Market>::open(config(1), LogConfig::at(directory.path())).expect("it opens");
    let orders = 3 * SLICE_SLOTS as u64;
    for first in (0..orders).step_by(96) {
        let offer = Offer { symbol: 0, price: 10, numbers: first..first + 96 };
        runtime.handle().call(offer).wait().expect("there is room");
    }
    let is_made = Arc::new(AtomicBool::new(false));
    let is_over = is_made.clone();
    let watched = runtime.on_each_shard(move |_| {
        let is_over = is_over.clone();
        async move {
            let (begin, mut before, mut most) = (WRITTEN.get(), WRITTEN.get(), 0);
            loop {
                let is_last = is_over.load(Ordering::Relaxed);
                glommio::executor().yield_now().await;
                let now = WRITTEN.get();
                (most, before) = (most.max(now - before), now);
                if is_last {
                    return (before - begin, most);
                }
            }
        }
    });
    runtime.checkpoint().expect("nothing stands in its way");
    is_made.store(true, Ordering::Relaxed);
    let (written, most) = watched.wait().pop().expect("there is one shard").expect("its task ended");
    runtime.shutdown();
    assert!(written as u64 >= orders, "the task saw all of the checkpoint, and not {written} of {orders}");
    assert!(most <= TIMES * SLICE_SLOTS, "{most} orders were written between two turns of the task");
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
fn orders_move_between_books_of_two_shards() {
    let _watchdog = Watchdog::new("orders_move_between_books_of_two_shards");
    let runtime = Runtime::<Market>::start(config(2)).expect("it starts");
    let market = runtime.handle();
    let on =
        |shard| (0..).find(|symbol| market.home(&Id::Book(*symbol)).index() == shard).expect("there is one");
    let (low, high) = (on(0), on(1));
    for (symbol, price) in [(low, 1), (high, 2)] {
        for hundred in 0..5 {
            let numbers = 100 * hundred..100 * hundred + 90;
            market.call(Offer { symbol, price, numbers }).wait().expect("there is room");
        }
    }
    // It runs on the higher, and one of the books is on the other. Whether it says how much it
    // needs of that, too little, or nothing.
    let mut here = BTreeMap::from([(low, 450), (high, 450)]);
    for (from, to, most) in [(low, high, 3), (high, low, 3), (low, high, 40), (high, low, 45), (low, high, 0)]
    {
        for says in [0, 5, 60] {
            let moved = market.call(Both { from, to, most, says }).wait();
            *here.get_mut(&from).expect("it is one of them") -= most;
            *here.get_mut(&to).expect("it is one of them") += most;
            assert_eq!(moved, Ok((here[&from], here[&to])), "{most} from {from} to {to}");
        }
    }
    let snapshot = market.snapshot().wait().expect("it runs");
    for (symbol, orders) in here {
        let read = snapshot.read_entries::<Order>(symbol, .., 10_000).wait().expect("it is open");
        assert_eq!(read.len(), orders);
    }
    let refused = market.call(Both { from: low, to: high, most: 90, says: 10_000 }).wait();
    let too_much = AccessError::TooMuchCarried { max: 4 << 10 };
    assert_eq!(refused, Err(AskError::Aborted(Refused::Access(too_much))));
}

/// An actor of tenants and their sessions, which are declared and begun so.
macro_rules! tenants {
    ($module:ident, Session $fields:tt $how:ident $($of:tt)*) => {
        mod $module {
            use freehold::{AccessError, Objects, Receive, To};
            use serde::{Deserialize, Serialize};

            freehold::actor! {
                pub actor Tenants {
                    id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
                    kinds { Tenant(number: u64) at number, Session $fields $how $($of)* }
                    messages { Begin -> (), List -> Vec<(u64, u64)> }
                }
            }

            #[derive(Clone, Serialize, Deserialize)]
            pub struct Tenant;

            #[derive(Clone, Serialize, Deserialize)]
            pub struct Session {
                pub uses: u64,
            }

            /// Begins a session; answered by nothing.
            #[derive(Serialize, Deserialize)]
            pub struct Begin(pub u64, pub u64);

            /// The sessions of a tenant, with their uses.
            #[derive(Serialize, Deserialize)]
            pub struct List(pub u64);

            impl Receive<Tenants> for Begin {
                fn addressees(&self, to: &mut To<'_, Tenants>) {
                    to.write::<Tenant>(self.0);
                    to.write::<Session>((self.0, self.1));
                }

                fn receive(&self, objects: &mut Objects<'_, Tenants>) -> Result<(), AccessError<Id>> {
                    objects.write_or_insert_with(self.0, || Tenant)?;
                    begin(objects, (self.0, self.1), Session { uses: self.1 })
                }
            }

            impl Receive<Tenants> for List {
                fn addressees(&self, to: &mut To<'_, Tenants>) {
                    to.read::<Tenant>(self.0);
                }

                fn receive(
                    &self,
                    objects: &mut Objects<'_, Tenants>,
                ) -> Result<Vec<(u64, u64)>, AccessError<Id>> {
                    list(objects, self.0)
                }
            }

            tenants! { $how }
        }
    };
    (at) => {
        fn begin(
            objects: &mut Objects<'_, Tenants>,
            key: (u64, u64),
            session: Session,
        ) -> Result<(), AccessError<Id>> {
            objects.put(key, session).map(|_| ())
        }

        fn list(_: &mut Objects<'_, Tenants>, _: u64) -> Result<Vec<(u64, u64)>, AccessError<Id>> {
            unreachable!("nothing has them in an order")
        }
    };
    (in) => {
        fn begin(
            objects: &mut Objects<'_, Tenants>,
            key: (u64, u64),
            session: Session,
        ) -> Result<(), AccessError<Id>> {
            objects.entries::<Session>(key.0)?.put(key, session).map(|_| ())
        }

        fn list(objects: &mut Objects<'_, Tenants>, tenant: u64) -> Result<Vec<(u64, u64)>, AccessError<Id>> {
            let sessions = objects.entries::<Session>(tenant)?;
            Ok(sessions.range(..).map(|((_, number), session)| (number, session.uses)).collect())
        }
    };
}

tenants! { spread, Session(tenant: u64, number: u64) at tenant }
tenants! { listed, Session(tenant: u64, number: u64) in Tenant(tenant) }

/// Sessions of a tenant.
const SESSIONS: u64 = 300;

/// All objects of a placement are a range if their kind is declared `in`. What was written before
/// that, as objects `at` the placement, is in the range, too: without a migration.
#[test]
fn objects_of_a_placement_become_a_range() {
    let _watchdog = Watchdog::new("objects_of_a_placement_become_a_range");
    let directory = tempfile::tempdir().expect("there is room");
    let config = |shards| Config { shards: Shards::Count(shards), ..Config::default() };
    let runtime = Runtime::<spread::Tenants>::open(config(2), LogConfig::at(directory.path()));
    let runtime = runtime.expect("it opens");
    // More than a slice of a walk goes through, and not in the order of their ids.
    let begin = (0..4 * SESSIONS).rev().map(|at| spread::Begin(at % 4, at / 4));
    assert!(runtime.handle().call_all(begin).wait().iter().all(Result::is_ok));
    // Without one a snapshot has them, as they were when it was asked for.
    let snapshot = runtime.handle().snapshot().wait().expect("it runs");
    let begin = (0..4).map(|tenant| spread::Begin(tenant, SESSIONS));
    assert!(runtime.handle().call_all(begin).wait().iter().all(Result::is_ok));
    let uses = |(id, state): &(spread::Id, spread::State)| match (id, state) {
        (spread::Id::Session(key), spread::State::Session(session)) => (*key, session.uses),
        other => panic!("no session: {:?}", other.0),
    };
    for tenant in 0..4 {
        // Near whatever it has, or may have.
        for near in [spread::Id::Tenant(tenant), spread::Id::Session((tenant, 99))] {
            let all = snapshot.of_placement(near).wait().expect("it is open");
            let ((first, _), sessions) = all.split_first().expect("the tenant is there");
            assert_eq!(*first, spread::Id::Tenant(tenant));
            let sessions = Vec::from_iter(sessions.iter().map(uses));
            let expected = (0..SESSIONS).map(|number| ((tenant, number), number));
            assert!(sessions.iter().copied().eq(expected), "of {tenant}: {sessions:?}");
        }
    }
    let nothing = snapshot.of_placement(spread::Id::Tenant(9)).wait().expect("it is open");
    assert!(nothing.is_empty());
    drop(snapshot);
    runtime.shutdown();

    let runtime = Runtime::<listed::Tenants>::open(config(3), LogConfig::at(directory.path()));
    let runtime = runtime.expect("the types are written as before");
    let handle = runtime.handle();
    let begin = (0..4).map(|tenant| listed::Begin(tenant, SESSIONS));
    assert!(handle.call_all(begin).wait().iter().all(Result::is_ok));
    for listed in handle.call_all((0..4).map(listed::List)).wait() {
        let listed = listed.expect("they are listed");
        assert!(listed.iter().copied().eq((0..=SESSIONS).map(|number| (number, number))), "{listed:?}");
    }
}
