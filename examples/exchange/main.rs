//! An exchange: order books, accounts and positions, with transactions over all three and a log.
//!
//! `cargo run --release --example exchange -- DIRECTORY [ORDERS]` places random orders, checks the
//! books, and stops. Kill it and run it again: it goes on with what it had acknowledged.
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use freehold::{
    AccessError, AskError, Config, Indexed, LogConfig, Needs, Objects, Receive, Runtime, Tally, TimerId, To,
};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

type User = u64;
type Symbol = u32;
type OrderNo = u64;
/// A side, and where an order stands in it: the lowest is the best.
type Rank = (u8, u64);
type QueueKey = (Symbol, Rank, OrderNo);

const USERS: User = 1000;
const SYMBOLS: Symbol = 8;
/// Every user begins with so much, and with so many shares of each symbol.
const CASH: u64 = 1_000_000;
const SHARES: u64 = 10_000;
/// How long an order waits in a book.
const WAIT: Duration = Duration::from_millis(200);
const BATCH: usize = 512;

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
        messages { Place -> (OrderNo, Vec<Order>), Cancel -> u64 }
    }
}

/// How many orders were placed, how many shares were traded, and how many wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Book {
    placed: OrderNo,
    traded: u64,
    left: u64,
}

/// A user's cash.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Account(u64);

/// A user's shares of one symbol.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Position(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Side {
    Buy,
    Sell,
}

/// An order, or what is left or traded of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    user: User,
    side: Side,
    price: u64,
    shares: u64,
}

impl Order {
    /// The cash and the shares that are taken from its user until it is traded or taken back.
    fn holds(&self) -> (u64, u64) {
        match self.side {
            Side::Buy => (self.price.saturating_mul(self.shares), 0),
            Side::Sell => (0, self.shares),
        }
    }
}

/// An order that waits, with the timer that ends it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Waiting(Order, TimerId);

/// The place of an order among those of its side: by price, then by number.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Queue;

/// A bid's price counts down.
fn rank(side: Side, price: u64) -> Rank {
    (side as u8, if side == Side::Buy { !price } else { price })
}

impl Indexed<Exchange> for Waiting {
    type Index = Queue;

    fn place_of((symbol, no): (Symbol, OrderNo), Waiting(order, _): &Waiting) -> Option<QueueKey> {
        Some((symbol, rank(order.side, order.price), no))
    }

    fn key_at((symbol, _, no): QueueKey) -> (Symbol, OrderNo) {
        (symbol, no)
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Refused {
    #[error("there is no such order")]
    Unknown,
    #[error("not enough cash or shares")]
    Funds,
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

/// What a user has of cash, or of a symbol's shares, to change it. A new user has some.
fn cash<'o>(objects: &'o mut Objects<'_, Exchange>, user: User) -> Result<&'o mut u64, Refused> {
    Ok(&mut objects.write_or_insert_with(user, || Account(CASH))?.0)
}

fn shares<'o>(objects: &'o mut Objects<'_, Exchange>, of: (User, Symbol)) -> Result<&'o mut u64, Refused> {
    Ok(&mut objects.write_or_insert_with(of, || Position(SHARES))?.0)
}

/// Places an order. It is answered by its number and by what was traded; the rest waits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Place(Symbol, Order);

/// Whom an order may trade with, the best first: the other side, at its price or a better one.
fn others(&Place(symbol, Order { side, price, .. }): &Place) -> RangeInclusive<QueueKey> {
    let other = if side == Side::Buy { Side::Sell } else { Side::Buy };
    (symbol, (other as u8, 0), 0)..=(symbol, rank(other, price), OrderNo::MAX)
}

impl Receive<Exchange> for Place {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        let &Place(symbol, Order { user, .. }) = self;
        to.write::<Book>(symbol).write::<Account>(user).write::<Position>((user, symbol));
    }

    // What comes along if the book lives on another shard: some of the other side, and where the
    // rest goes, which is behind the last order, and behind the last of its price.
    fn needs(&self, to: &mut Needs<Exchange>) {
        let &Place(symbol, Order { side, price, .. }) = self;
        let rank = rank(side, price);
        to.range_by::<Waiting>(symbol, others(self), 32);
        to.range_back_of::<Waiting>(symbol, (symbol, 0)..=(symbol, OrderNo::MAX), 1);
        to.range_back_of::<Queue>(symbol, (symbol, rank, 0)..=(symbol, rank, OrderNo::MAX), 1);
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<(OrderNo, Vec<Order>), Refused> {
        let &Place(symbol, order) = self;
        let (has, holds) = (cash(objects, order.user)?, order.holds());
        *has = has.checked_sub(holds.0).ok_or(Refused::Funds)?;
        let has = shares(objects, (order.user, symbol))?;
        *has = has.checked_sub(holds.1).ok_or(Refused::Funds)?;

        let (mut left, mut found) = (order.shares, Vec::new());
        for best in objects.indexed::<Waiting>(symbol)?.by(others(self)) {
            let (key, &Waiting(best, timer)) = best?;
            let fill = Order { shares: best.shares.min(left), ..best };
            left -= fill.shares;
            found.push((key, fill, timer, fill == best));
            if left == 0 {
                break;
            }
        }
        // The others' accounts are found in the book, and so not among the addressees.
        let theirs = |fill: Order| [Id::Account(fill.user), Id::Position((fill.user, symbol))];
        objects.want(found.iter().flat_map(|&(_, fill, ..)| theirs(fill)))?;
        for &(key, fill, timer, is_filled) in &found {
            let mut orders = objects.indexed::<Waiting>(symbol)?;
            if is_filled {
                orders.take(key)?;
                objects.cancel(timer)?;
            } else {
                orders.change(key, |Waiting(best, _)| best.shares -= fill.shares)?;
            }
            // The price is that of who waited: a buyer who would have paid more has the rest back.
            let (buyer, seller) = if order.side == Side::Buy { (order, fill) } else { (fill, order) };
            *cash(objects, buyer.user)? += (buyer.price - fill.price) * fill.shares;
            *shares(objects, (buyer.user, symbol))? += fill.shares;
            *cash(objects, seller.user)? += fill.price * fill.shares;
        }

        let book = objects.write_or_insert_with(symbol, Book::default)?;
        let (no, traded) = (book.placed + 1, order.shares - left);
        // A trade takes from two orders.
        *book = Book { placed: no, traded: book.traded + traded, left: book.left + left - traded };
        if left > 0 {
            let timer = objects.send_after(WAIT, Cancel(symbol, order.user, no))?;
            let rest = Waiting(Order { shares: left, ..order }, timer);
            objects.indexed::<Waiting>(symbol)?.put((symbol, no), rest)?;
        }
        Ok((no, found.into_iter().map(|(_, fill, ..)| fill).collect()))
    }
}

/// Takes an order of a user back, and answers how much of it was left. An order sends it to itself
/// for the end of its time, and that timer goes with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cancel(Symbol, User, OrderNo);

impl Receive<Exchange> for Cancel {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        let &Cancel(symbol, user, _) = self;
        to.write::<Book>(symbol).write::<Account>(user).write::<Position>((user, symbol));
    }

    fn needs(&self, to: &mut Needs<Exchange>) {
        to.indexed_entry_of::<Waiting>((self.0, self.2));
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<u64, Refused> {
        let &Cancel(symbol, user, no) = self;
        let waiting = objects.indexed::<Waiting>(symbol)?.take((symbol, no))?;
        let Waiting(order, timer) =
            waiting.filter(|Waiting(order, _)| order.user == user).ok_or(Refused::Unknown)?;
        objects.cancel(timer)?;
        objects.write::<Book>(symbol)?.ok_or(Refused::Unknown)?.left -= order.shares;
        *cash(objects, user)? += order.holds().0;
        *shares(objects, (user, symbol))? += order.holds().1;
        Ok(order.shares)
    }
}

/// Adds what an object has.
fn count(sums: &mut Tally, _: Id, state: &State) {
    match state {
        State::Account(Account(cash)) => sums.add("users", 1).add("cash", *cash),
        State::Position(Position(shares)) => sums.add("positions", 1).add("shares", *shares),
        State::Book(of) => sums.add("placed", of.placed).add("traded", of.traded).add("left", of.left),
        State::Waiting(Waiting(order, _)) => {
            let (cash, shares) = order.holds();
            sums.add("waiting", 1).add("offered", order.shares).add("cash", cash).add("shares", shares)
        }
        State::Queue(_) => sums.add("places", 1),
    };
}

/// Everything as of one instant must add up, whatever is traded meanwhile.
fn judge(sums: &Tally) -> String {
    let of = |name| sums.get(name);
    assert_eq!(of("cash"), of("users") * i128::from(CASH), "no cash is made or lost");
    assert_eq!(of("shares"), of("positions") * i128::from(SHARES), "no shares are made or lost");
    assert_eq!(of("waiting"), of("places"), "each order that waits has a place, and no other has");
    assert_eq!(of("offered"), of("left"), "no share of an order is traded twice");
    let (users, traded, placed, left) = (of("users"), of("traded"), of("placed"), of("left"));
    format!("{users} users, {traded} shares traded by {placed} orders, {left} offered: the books balance")
}

/// A random order.
fn any_order(random: &mut Pcg64Mcg, symbols: Symbol, users: User) -> Place {
    let mut below = |max| random.next_u64() % max;
    let (symbol, user) = (below(u64::from(symbols)) as Symbol, below(users));
    let side = if below(2) == 0 { Side::Buy } else { Side::Sell };
    Place(symbol, Order { user, side, price: 90 + below(21), shares: 1 + below(20) })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("name a directory: exchange DIRECTORY [ORDERS]")?;
    let orders = arguments.next().map_or(Ok(100_000), |orders| orders.parse::<usize>())?;
    let runtime = Runtime::<Exchange>::open(Config::default(), LogConfig::at(directory))?;
    let exchange = runtime.handle();
    println!("found: {}", judge(&exchange.snapshot().wait()?.tally(count).wait()?));

    let mut random = Pcg64Mcg::seed_from_u64(std::process::id().into());
    let (mut taken, mut refused, begin) = (0, 0, Instant::now());
    for first in (0..orders).step_by(BATCH) {
        let batch = (first..orders.min(first + BATCH)).map(|_| any_order(&mut random, SYMBOLS, USERS));
        for placed in exchange.call_all(batch).wait() {
            match placed {
                Ok(_) => taken += 1,
                Err(AskError::Aborted(_)) => refused += 1,
                Err(failed) => return Err(failed.into()),
            }
        }
        println!("so far: {taken} orders taken, {refused} refused");
    }
    let rate = orders as f64 / begin.elapsed().as_secs_f64();
    println!("{taken} orders taken, {refused} refused, {rate:.0} a second, each on disk before its answer");
    println!("left: {}", judge(&exchange.snapshot().wait()?.tally(count).wait()?));
    println!("{}", runtime.shutdown());
    Ok(())
}
