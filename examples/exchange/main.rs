//! An exchange: order books, accounts and positions, with transactions over all three and a log.
//!
//! `cargo run --release --example exchange -- DIRECTORY [ORDERS]` places random orders, checks the
//! books, and stops. Kill it and run it again: it goes on with what it had acknowledged.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freehold::{AccessError, AskError, Config, Handle, LogConfig, Objects, Receive, Runtime, TimerId, To};
use serde::{Deserialize, Serialize};

mod audit;
#[cfg(test)]
mod tests;

use audit::audit;

type User = u64;
type Symbol = u32;
type OrderNo = u64;

const USERS: User = 1000;
const SYMBOLS: Symbol = 8;
const CASH: u64 = 1_000_000;
const SHARES: u64 = 10_000;
/// A book is copied when an order changes it, so it is kept small.
const ORDERS_MAX: usize = 100;
/// How long an order waits in a book.
const WAIT: Duration = Duration::from_millis(200);

freehold::actor! {
    actor Exchange {
        id: Id, state: State, message: Message, reply: Reply, error: Refused,
        kinds {
            Book(symbol: Symbol),
            // What belongs to one user is on one shard.
            Account(user: User) at user,
            Position(user: User, symbol: Symbol) at user,
        }
        messages { Join -> (), Place -> (OrderNo, Vec<Order>), Cancel -> u64 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Side {
    Buy,
    Sell,
}

/// Waiting orders, the best first: by price, then by number. A bid's price counts down.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Book {
    bids: Waiting,
    asks: Waiting,
    placed: OrderNo,
    traded: u64,
}

/// Each with the timer that ends it.
type Waiting = BTreeMap<(u64, OrderNo), (Order, TimerId)>;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    user: User,
    price: u64,
    left: u64,
}

/// What is held is promised to orders that wait in a book.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Account {
    cash: u64,
    held: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    shares: u64,
    held: u64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Refused {
    #[error("there is no such account or order")]
    Unknown,
    #[error("not enough cash or shares")]
    Funds,
    #[error("the book is full")]
    Full,
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

/// Gives a user cash and shares of every symbol, once.
#[derive(Clone, Serialize, Deserialize)]
struct Join(User);

impl Receive<Exchange> for Join {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        to.write::<Account>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<(), Refused> {
        objects.write_or_insert_with(self.0, || Account { cash: CASH, held: 0 })?;
        for symbol in 0..SYMBOLS {
            objects.write_or_insert_with((self.0, symbol), || Position { shares: SHARES, held: 0 })?;
        }
        Ok(())
    }
}

/// Places an order. It is answered by its number and by what was traded; the rest waits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Place {
    symbol: Symbol,
    user: User,
    side: Side,
    price: u64,
    quantity: u64,
}

impl Receive<Exchange> for Place {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        to.write::<Book>(self.symbol);
        to.write::<Account>(self.user);
        to.write::<Position>((self.user, self.symbol));
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<(OrderNo, Vec<Order>), Refused> {
        let &Place { symbol, user, side, price, quantity } = self;
        let cost = price.checked_mul(quantity).ok_or(Refused::Funds)?;
        let (account, position) = holdings(objects, user, symbol)?;
        let (has, held, needed) = match side {
            Side::Buy => (&mut account.cash, &mut account.held, cost),
            Side::Sell => (&mut position.shares, &mut position.held, quantity),
        };
        *has = has.checked_sub(needed).ok_or(Refused::Funds)?;
        *held += needed;

        let book = objects.write_or_insert_with(symbol, Book::default)?;
        book.placed += 1;
        let (no, (fills, timers)) = (book.placed, book.matched(self));
        let left = quantity - fills.iter().map(|fill| fill.left).sum::<u64>();
        book.traded += quantity - left;
        if left > 0 {
            if book.waiting(side).len() == ORDERS_MAX {
                return Err(Refused::Full);
            }
            let timer = objects.send_after(WAIT, Cancel(*self, no))?;
            let book = objects.write::<Book>(symbol)?.ok_or(Refused::Unknown)?;
            book.waiting(side).insert(rank(side, price, no), (Order { user, price, left }, timer));
        }
        timers.into_iter().try_for_each(|timer| objects.cancel(timer))?;
        // The others' accounts are found in the book, and so not among the addressees.
        let theirs = |fill: &Order| [Id::Account(fill.user), Id::Position((fill.user, symbol))];
        objects.want(fills.iter().flat_map(theirs))?;
        for fill in &fills {
            let (buyer, seller, held_at) = match side {
                Side::Buy => (user, fill.user, price),
                Side::Sell => (fill.user, user, fill.price),
            };
            let (account, position) = holdings(objects, buyer, symbol)?;
            account.held -= held_at * fill.left;
            account.cash += (held_at - fill.price) * fill.left;
            position.shares += fill.left;
            let (account, position) = holdings(objects, seller, symbol)?;
            account.cash += fill.price * fill.left;
            position.held -= fill.left;
        }
        Ok((no, fills))
    }
}

/// What a user has of cash and of one symbol, to change both.
fn holdings<'o>(
    objects: &'o mut Objects<'_, Exchange>,
    user: User,
    symbol: Symbol,
) -> Result<(&'o mut Account, &'o mut Position), Refused> {
    match objects.pair::<Account, Position>(user, (user, symbol))? {
        (Some(account), Some(position)) => Ok((account, position)),
        _ => Err(Refused::Unknown),
    }
}

/// Where an order stands in its side of a book: the lowest is the best.
fn rank(side: Side, price: u64, no: OrderNo) -> (u64, OrderNo) {
    (if side == Side::Buy { u64::MAX - price } else { price }, no)
}

impl Book {
    fn waiting(&mut self, side: Side) -> &mut Waiting {
        if side == Side::Buy { &mut self.bids } else { &mut self.asks }
    }

    /// Takes what `order` trades with out of the book. The timers are those of what has no rest.
    fn matched(&mut self, order: &Place) -> (Vec<Order>, Vec<TimerId>) {
        let (is_buy, mut left) = (order.side == Side::Buy, order.quantity);
        let (mut fills, mut timers) = (Vec::new(), Vec::new());
        let others = self.waiting(if is_buy { Side::Sell } else { Side::Buy });
        while let Some(mut best) = others.first_entry().filter(|_| left > 0) {
            let (Order { user, price, left: offered }, timer) = *best.get();
            if price != order.price && (price > order.price) == is_buy {
                break;
            }
            let traded = offered.min(left);
            fills.push(Order { user, price, left: traded });
            left -= traded;
            best.get_mut().0.left -= traded;
            if traded == offered {
                timers.push(timer);
                best.remove();
            }
        }
        (fills, timers)
    }
}

/// Takes an order back, and answers how much of it was left. An order sends it to itself for the
/// end of its time, and that timer goes with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cancel(Place, OrderNo);

impl Receive<Exchange> for Cancel {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        self.0.addressees(to);
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<u64, Refused> {
        let Cancel(Place { symbol, user, side, price, .. }, no) = *self;
        let book = objects.write::<Book>(symbol)?.ok_or(Refused::Unknown)?;
        let order = book.waiting(side).remove(&rank(side, price, no));
        let (Order { left, .. }, timer) =
            order.filter(|(order, _)| order.user == user).ok_or(Refused::Unknown)?;
        objects.cancel(timer)?;
        let (account, position) = holdings(objects, user, symbol)?;
        let (cash, shares) = if side == Side::Buy { (price * left, 0) } else { (0, left) };
        (account.cash, account.held) = (account.cash + cash, account.held - cash);
        (position.shares, position.held) = (position.shares + shares, position.held - shares);
        Ok(left)
    }
}

/// A random order.
fn any_order(random: &mut u64, symbols: Symbol, users: User) -> Place {
    let mut below = |max: u64| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) % max
    };
    Place {
        symbol: below(u64::from(symbols)) as Symbol,
        user: below(users),
        side: if below(2) == 0 { Side::Buy } else { Side::Sell },
        price: 90 + below(21),
        quantity: 1 + below(20),
    }
}

/// Places random orders, many at a time. How many were taken, and how many refused.
fn trade(exchange: &Handle<Exchange>, orders: u64, seed: u64) -> (usize, usize) {
    let (mut taken, mut refused, mut random) = (0, 0, seed);
    for begin in (0..orders).step_by(512) {
        let batch: Vec<_> =
            (begin..orders.min(begin + 512)).map(|_| any_order(&mut random, SYMBOLS, USERS)).collect();
        for placed in exchange.call_all(batch).wait() {
            match placed {
                Ok(_) => taken += 1,
                Err(AskError::Aborted(_)) => refused += 1,
                Err(failed) => panic!("an order was neither taken nor refused: {failed}"),
            }
        }
    }
    (taken, refused)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("name a directory: exchange DIRECTORY [ORDERS]")?;
    let orders = arguments.next().map_or(Ok(100_000), |orders| orders.parse())?;
    let runtime = Runtime::<Exchange>::open(Config::default(), LogConfig::at(directory))?;
    let exchange = runtime.handle();
    println!("found: {}", audit(&exchange.snapshot().wait()?)?);
    exchange.call_all((0..USERS).map(Join)).wait().into_iter().collect::<Result<Vec<_>, _>>()?;

    let begin = Instant::now();
    let (taken, refused) = trade(&exchange, orders, std::process::id().into());
    let rate = orders as f64 / begin.elapsed().as_secs_f64();
    println!("{taken} orders taken, {refused} refused, {rate:.0} a second, each on disk before its answer");
    println!("left: {}", audit(&exchange.snapshot().wait()?)?);
    println!("{}", runtime.shutdown());
    Ok(())
}
