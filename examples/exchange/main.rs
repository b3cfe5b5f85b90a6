//! An exchange: order books, accounts and positions, with transactions over all three and a log.
//!
//! `cargo run --release --example exchange -- DIRECTORY [ORDERS]` places random orders, checks the
//! books, and stops. Kill it and run it again: it goes on with what it had acknowledged.
use std::time::{Duration, Instant};

use freehold::{AccessError, Config, Limits, LogConfig, Needs, Objects, Receive, Runtime, To};
use serde::{Deserialize, Serialize};

mod audit;
mod book;
#[cfg(test)]
mod tests;
mod trade;

use audit::audit;
use book::{Queue, Rank, Waiting, queue, rank};
use trade::trade;

type User = u64;
type Symbol = u32;
type OrderNo = u64;

const USERS: User = 1000;
const SYMBOLS: Symbol = 8;
const CASH: u64 = 1_000_000;
const SHARES: u64 = 10_000;
/// So many orders of the other side come along when an order is placed on another shard.
const AHEAD: usize = 32;
/// How long an order waits in a book.
const WAIT: Duration = Duration::from_millis(200);

freehold::actor! {
    actor Exchange {
        id: Id, state: State, message: Message, reply: Reply, error: Refused,
        kinds {
            Book(symbol: Symbol),
            // The orders that wait in a book: a collection, of which a message changes a few. They
            // have two orders: by their numbers, and the best first.
            Waiting(symbol: Symbol, no: OrderNo) in Book(symbol) by Queue,
            Queue(symbol: Symbol, rank: Rank, no: OrderNo) in Book(symbol),
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

/// What is to be known of a book beside the orders that wait in it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Book {
    placed: OrderNo,
    offered: u64,
    traded: u64,
    taken_back: u64,
}

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

    // If the book lives elsewhere: the best of the other side, and where the rest goes, which is
    // behind the last order, and behind the last of its price.
    fn needs(&self, to: &mut Needs<Exchange>) {
        let (symbol, rank) = (self.symbol, rank(self.side, self.price));
        to.range_by::<Waiting>(symbol, queue(symbol, self.side.other()), AHEAD);
        to.range_back_of::<Waiting>(symbol, (symbol, 0)..=(symbol, OrderNo::MAX), 1);
        to.range_back_of::<Queue>(symbol, (symbol, rank, 0)..=(symbol, rank, OrderNo::MAX), 1);
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
        (book.placed, book.offered) = (book.placed + 1, book.offered + quantity);
        let no = book.placed;
        let (fills, timers) = self.matched(objects)?;
        let left = quantity - fills.iter().map(|fill| fill.left).sum::<u64>();
        objects.write::<Book>(symbol)?.ok_or(Refused::Unknown)?.traded += quantity - left;
        if left > 0 {
            let timer = objects.send_after(WAIT, Cancel { symbol, user, no })?;
            let rest = Waiting { side, order: Order { user, price, left }, timer };
            objects.indexed::<Waiting>(symbol)?.put((symbol, no), rest)?;
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

/// Takes an order back, and answers how much of it was left. An order sends it to itself for the
/// end of its time, and that timer goes with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cancel {
    symbol: Symbol,
    user: User,
    no: OrderNo,
}

impl Receive<Exchange> for Cancel {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        to.write::<Book>(self.symbol);
        to.write::<Account>(self.user);
        to.write::<Position>((self.user, self.symbol));
    }

    fn needs(&self, to: &mut Needs<Exchange>) {
        to.indexed_entry_of::<Waiting>((self.symbol, self.no));
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<u64, Refused> {
        let &Cancel { symbol, user, no } = self;
        let waiting = objects.indexed::<Waiting>(symbol)?.take((symbol, no))?;
        let Waiting { side, order: Order { price, left, .. }, timer } =
            waiting.filter(|waiting| waiting.order.user == user).ok_or(Refused::Unknown)?;
        objects.cancel(timer)?;
        objects.write::<Book>(symbol)?.ok_or(Refused::Unknown)?.taken_back += left;
        let (account, position) = holdings(objects, user, symbol)?;
        let (cash, shares) = if side == Side::Buy { (price * left, 0) } else { (0, left) };
        (account.cash, account.held) = (account.cash + cash, account.held - cash);
        (position.shares, position.held) = (position.shares + shares, position.held - shares);
        Ok(left)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("name a directory: exchange DIRECTORY [ORDERS]")?;
    let orders = arguments.next().map_or(Ok(100_000), |orders| orders.parse())?;
    // While an order begins anew, a busy book changes, and the order finds others there.
    let limits = Limits { reruns_max: 64, ..Limits::default() };
    let runtime =
        Runtime::<Exchange>::open(Config { limits, ..Config::default() }, LogConfig::at(directory))?;
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
