//! The same on Freehold, as `examples/exchange` does it but for timers.

use std::ops::RangeInclusive;
use std::path::Path;

use freehold::{
    AccessError, AskError, Config, Indexed, LogConfig, Objects, Receive, Runtime, Shards, StartError, To,
};
use serde::{Deserialize, Serialize};

use crate::market::{CASH, Engine, Order, Rank, SHARES, Traded, USERS, Waiting, depth, rank, symbols};

freehold::actor! {
    actor Exchange {
        id: Id, state: State, message: Message, reply: Reply, error: Refused,
        kinds {
            Book(symbol: u32),
            Rest(symbol: u32, no: u64) in Book(symbol) by Queue,
            Queue(symbol: u32, rank: Rank, no: u64) in Book(symbol),
            Account(user: u64) at user,
            Position(user: u64, symbol: u32) at user,
        }
        messages { Join -> (), Place -> u64 }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Book {
    placed: u64,
    waiting: [u64; 2],
}

/// An order that waits in a book.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Rest {
    is_buy: bool,
    waiting: Waiting,
}

/// Its place among those of its side: by price, then by number.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Queue;

impl Indexed<Exchange> for Rest {
    type Index = Queue;

    fn place_of((symbol, no): (u32, u64), rest: &Rest) -> Option<(u32, Rank, u64)> {
        Some((symbol, rank(rest.is_buy, rest.waiting.price), no))
    }

    fn key_at((symbol, _, no): (u32, Rank, u64)) -> (u32, u64) {
        (symbol, no)
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Account {
    free: u64,
    held: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Position {
    free: u64,
    held: u64,
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no such account")]
    Unknown,
    #[error("not enough cash or shares")]
    Funds,
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Join(u64);

impl Receive<Exchange> for Join {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        to.write::<Account>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<(), Refused> {
        objects.put(self.0, Account { free: CASH, held: 0 })?;
        for symbol in 0..symbols() {
            objects.put((self.0, symbol), Position { free: SHARES, held: 0 })?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Place {
    symbol: u32,
    user: u64,
    is_buy: bool,
    price: u64,
    quantity: u64,
}

impl From<&Order> for Place {
    fn from(&Order { symbol, user, is_buy, price, quantity }: &Order) -> Self {
        Place { symbol, user, is_buy, price, quantity }
    }
}

/// The orders that wait on a side of a book.
fn on_side(symbol: u32, side: u8) -> RangeInclusive<(u32, Rank, u64)> {
    (symbol, (side, 0), 0)..=(symbol, (side, u64::MAX), u64::MAX)
}

fn holdings<'o>(
    objects: &'o mut Objects<'_, Exchange>,
    user: u64,
    symbol: u32,
) -> Result<(&'o mut Account, &'o mut Position), Refused> {
    match objects.pair::<Account, Position>(user, (user, symbol))? {
        (Some(account), Some(position)) => Ok((account, position)),
        _ => Err(Refused::Unknown),
    }
}

impl Receive<Exchange> for Place {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        to.write::<Book>(self.symbol);
        to.write::<Account>(self.user);
        to.write::<Position>((self.user, self.symbol));
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<u64, Refused> {
        let &Place { symbol, user, is_buy, price, quantity } = self;
        let order = Order { symbol, user, is_buy, price, quantity };
        let (account, position) = holdings(objects, user, symbol)?;
        let (free, held) = match is_buy {
            true => (&mut account.free, &mut account.held),
            false => (&mut position.free, &mut position.held),
        };
        *free = free.checked_sub(order.needed()).ok_or(Refused::Funds)?;
        *held += order.needed();

        let side = usize::from(order.side());
        let mut book = *objects.write_or_insert_with(symbol, Book::default)?;
        book.placed += 1;
        let (mut left, mut fills) = (quantity, Vec::new());
        let mut orders = objects.indexed::<Rest>(symbol)?;
        let others = on_side(symbol, 1 - order.side());
        while left > 0
            && let Some((key, &Rest { waiting, .. })) = orders.first_by(others.clone())?
        {
            if !order.meets(waiting.price) {
                break;
            }
            let traded = waiting.left.min(left);
            fills.push(Waiting { left: traded, ..waiting });
            left -= traded;
            if traded == waiting.left {
                orders.take(key)?;
                book.waiting[1 - side] -= 1;
            } else {
                orders.change(key, |best| best.waiting.left -= traded)?;
            }
        }
        let mut worst = None;
        if left > 0 {
            orders.put((symbol, book.placed), Rest { is_buy, waiting: Waiting { user, price, left } })?;
            book.waiting[side] += 1;
            if book.waiting[side] > depth() {
                book.waiting[side] -= 1;
                let last = orders.by(on_side(symbol, order.side())).next_back().transpose()?;
                worst = last.map(|(key, _)| key).map(|key| orders.take(key)).transpose()?.flatten();
            }
        }
        *objects.write::<Book>(symbol)?.ok_or(Refused::Unknown)? = book;
        if let Some(Rest { waiting: Waiting { user, price, left }, .. }) = worst {
            let (account, position) = holdings(objects, user, symbol)?;
            let (cash, shares) = if is_buy { (price * left, 0) } else { (0, left) };
            (account.free, account.held) = (account.free + cash, account.held - cash);
            (position.free, position.held) = (position.free + shares, position.held - shares);
        }
        for Waiting { user: other, price: at, left: traded } in fills {
            let (buyer, seller, held_at) = if is_buy { (user, other, price) } else { (other, user, at) };
            let (account, position) = holdings(objects, buyer, symbol)?;
            account.held -= held_at * traded;
            account.free += (held_at - at) * traded;
            position.free += traded;
            let (account, position) = holdings(objects, seller, symbol)?;
            account.free += at * traded;
            position.held -= traded;
        }
        Ok(quantity - left)
    }
}

pub struct Freehold(Runtime<Exchange>);

impl Freehold {
    /// On one shard, in memory or with a log in this directory.
    pub fn open(directory: Option<&Path>) -> Result<Self, StartError> {
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        let runtime = match directory {
            None => Runtime::start(config)?,
            Some(directory) => Runtime::open(config, LogConfig::at(directory))?,
        };
        let joined = runtime.handle().call_all((0..USERS).map(Join)).wait();
        assert!(joined.iter().all(Result::is_ok), "all users join");
        Ok(Freehold(runtime))
    }

    /// Bytes of log that were written so far.
    pub fn log_bytes(&self) -> u64 {
        self.0.stats().shards.iter().map(|shard| shard.activity.log_bytes).sum()
    }

    /// All that there is, cash and shares.
    pub fn total(&self) -> (u64, u64) {
        let count = |sums: &mut (u64, u64), _, state: &State| match state {
            State::Account(of) => sums.0 += of.free + of.held,
            State::Position(of) => sums.1 += of.free + of.held,
            _ => {}
        };
        let snapshot = self.0.handle().snapshot().wait().expect("there is a snapshot");
        let sums = snapshot.fold(|| (0, 0), count, |a, b| (a.0 + b.0, a.1 + b.1)).wait();
        sums.expect("it stays open")
    }
}

impl Engine for Freehold {
    fn place(&mut self, orders: &[Order], traded: &mut Vec<Traded>) {
        let answers = self.0.handle().call_all(orders.iter().map(Place::from)).wait();
        traded.extend(answers.into_iter().map(|answer| match answer {
            Ok(shares) => Some(shares),
            Err(AskError::Aborted(Refused::Funds)) => None,
            Err(error) => panic!("an order was neither taken nor refused: {error}"),
        }));
    }
}
