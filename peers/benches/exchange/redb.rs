//! The same in redb: tables of accounts, positions, books and waiting orders.

use ::redb::backends::InMemoryBackend;
use ::redb::{Builder, Database, Durability, Error, ReadableDatabase, ReadableTable, Table, TableDefinition};
use std::path::Path;

use crate::market::{CASH, Engine, Order, SHARES, Traded, USERS, depth, symbols};

/// What is free, and what is held.
type Has = (u64, u64);
/// A symbol, a rank, a number.
type Place = (u32, u8, u64, u64);

const CASHES: TableDefinition<'_, u64, Has> = TableDefinition::new("cash");
const POSITIONS: TableDefinition<'_, (u64, u32), Has> = TableDefinition::new("positions");
/// How many were placed, and how many wait on each side.
const BOOKS: TableDefinition<'_, u32, (u64, u64, u64)> = TableDefinition::new("books");
/// Who, at what price, and how many shares.
const WAITING: TableDefinition<'_, Place, (u64, u64, u64)> = TableDefinition::new("waiting");

pub struct Redb {
    database: Database,
    durability: Durability,
    /// Orders of a transaction.
    pub together: usize,
}

/// The tables of one transaction.
struct Tables<'t> {
    cash: Table<'t, u64, Has>,
    positions: Table<'t, (u64, u32), Has>,
    books: Table<'t, u32, (u64, u64, u64)>,
    waiting: Table<'t, Place, (u64, u64, u64)>,
}

impl Redb {
    /// In memory, or in this file, where every transaction is synced.
    pub fn open(file: Option<&Path>) -> Result<Self, Error> {
        let (database, durability) = match file {
            None => (Builder::new().create_with_backend(InMemoryBackend::new())?, Durability::None),
            Some(file) => (Database::create(file)?, Durability::Immediate),
        };
        let engine = Redb { database, durability, together: 1 };
        let writing = engine.database.begin_write()?;
        {
            let mut cash = writing.open_table(CASHES)?;
            let mut positions = writing.open_table(POSITIONS)?;
            let mut books = writing.open_table(BOOKS)?;
            writing.open_table(WAITING)?;
            for user in 0..USERS {
                cash.insert(user, (CASH, 0))?;
                for symbol in 0..symbols() {
                    positions.insert((user, symbol), (SHARES, 0))?;
                }
            }
            for symbol in 0..symbols() {
                books.insert(symbol, (0, 0, 0))?;
            }
        }
        writing.commit()?;
        Ok(engine)
    }

    /// All that there is, cash and shares: it is always the same.
    pub fn total(&self) -> Result<(u64, u64), Error> {
        let reading = self.database.begin_read()?;
        let (mut cash, mut shares) = (0, 0);
        for entry in reading.open_table(CASHES)?.iter()? {
            let (free, held) = entry?.1.value();
            cash += free + held;
        }
        for entry in reading.open_table(POSITIONS)?.iter()? {
            let (free, held) = entry?.1.value();
            shares += free + held;
        }
        Ok((cash, shares))
    }

    fn place_some(&self, orders: &[Order], traded: &mut Vec<Traded>) -> Result<(), Error> {
        let mut writing = self.database.begin_write()?;
        writing.set_durability(self.durability).expect("there is no savepoint");
        {
            let mut tables = Tables {
                cash: writing.open_table(CASHES)?,
                positions: writing.open_table(POSITIONS)?,
                books: writing.open_table(BOOKS)?,
                waiting: writing.open_table(WAITING)?,
            };
            for order in orders {
                traded.push(tables.one(*order)?);
            }
        }
        Ok(writing.commit()?)
    }
}

impl Engine for Redb {
    fn place(&mut self, orders: &[Order], traded: &mut Vec<Traded>) {
        for some in orders.chunks(self.together) {
            self.place_some(some, traded).expect("redb takes them");
        }
    }
}

impl Tables<'_> {
    fn cash(&mut self, user: u64, change: impl FnOnce(&mut Has)) -> Result<(), Error> {
        let mut has = self.cash.get(user)?.expect("every user has cash").value();
        change(&mut has);
        self.cash.insert(user, has)?;
        Ok(())
    }

    fn shares(&mut self, user: u64, symbol: u32, change: impl FnOnce(&mut Has)) -> Result<(), Error> {
        let mut has = self.positions.get((user, symbol))?.expect("every user has shares").value();
        change(&mut has);
        self.positions.insert((user, symbol), has)?;
        Ok(())
    }

    /// Holds what an order needs. `false` if the user has not enough.
    fn hold(&mut self, order: Order) -> Result<bool, Error> {
        let (mut is_held, needed) = (false, order.needed());
        let mut hold = |has: &mut Has| {
            if let Some(left) = has.0.checked_sub(needed) {
                (*has, is_held) = ((left, has.1 + needed), true);
            }
        };
        if order.is_buy {
            self.cash(order.user, &mut hold)?;
        } else {
            self.shares(order.user, order.symbol, &mut hold)?;
        }
        Ok(is_held)
    }

    fn one(&mut self, order: Order) -> Result<Traded, Error> {
        let Order { symbol, user, is_buy, price, quantity } = order;
        if !self.hold(order)? {
            return Ok(None);
        }
        let side = order.side();
        let (placed, bids, asks) = self.books.get(symbol)?.expect("there is the book").value();
        let (no, mut waiting) = (placed + 1, [bids, asks]);
        let (mut left, mut fills) = (quantity, Vec::new());
        let others = (symbol, 1 - side, 0, 0)..=(symbol, 1 - side, u64::MAX, u64::MAX);
        while left > 0 {
            let best = self.waiting.range(others.clone())?.next().transpose()?;
            let Some((key, best)) = best.map(|(key, best)| (key.value(), best.value())) else { break };
            let (other, at, offered) = best;
            if !order.meets(at) {
                break;
            }
            let traded = offered.min(left);
            fills.push((other, at, traded));
            left -= traded;
            if traded == offered {
                self.waiting.remove(key)?;
                waiting[1 - usize::from(side)] -= 1;
            } else {
                self.waiting.insert(key, (other, at, offered - traded))?;
            }
        }
        if left > 0 {
            let (side, rank) = order.rank();
            self.waiting.insert((symbol, side, rank, no), (user, price, left))?;
            waiting[usize::from(side)] += 1;
        }
        if waiting[usize::from(side)] > depth() {
            waiting[usize::from(side)] -= 1;
            self.take_worst_back(symbol, side)?;
        }
        self.books.insert(symbol, (no, waiting[0], waiting[1]))?;
        for (other, at, traded) in fills {
            let (buyer, seller, held_at) = if is_buy { (user, other, price) } else { (other, user, at) };
            self.cash(buyer, |has| *has = (has.0 + (held_at - at) * traded, has.1 - held_at * traded))?;
            self.shares(buyer, symbol, |has| has.0 += traded)?;
            self.cash(seller, |has| has.0 += at * traded)?;
            self.shares(seller, symbol, |has| has.1 -= traded)?;
        }
        Ok(Some(quantity - left))
    }

    fn take_worst_back(&mut self, symbol: u32, side: u8) -> Result<(), Error> {
        let own = (symbol, side, 0, 0)..=(symbol, side, u64::MAX, u64::MAX);
        let worst = self.waiting.range(own)?.next_back().transpose()?.map(|(key, _)| key.value());
        let Some(key) = worst else { return Ok(()) };
        let Some((user, price, left)) = self.waiting.remove(key)?.map(|order| order.value()) else {
            return Ok(());
        };
        let back = |back: u64| move |has: &mut Has| *has = (has.0 + back, has.1 - back);
        if side == 0 { self.cash(user, back(price * left)) } else { self.shares(user, symbol, back(left)) }
    }
}
