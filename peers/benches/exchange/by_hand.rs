//! An engine written by hand for one thread: plain maps, and a log of orders.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use crate::market::{CASH, Engine, Order, Rank, SHARES, Traded, USERS, Waiting, depth, symbols};

/// What somebody has, and what of it is promised to orders that wait.
#[derive(Clone, Copy)]
struct Has {
    free: u64,
    held: u64,
}

#[derive(Default)]
struct Book {
    placed: u64,
    waiting: [u64; 2],
    orders: BTreeMap<(Rank, u64), Waiting>,
}

pub struct ByHand {
    cash: Vec<Has>,
    /// Of each user, one after the other.
    shares: Vec<Has>,
    books: Vec<Book>,
    log: Option<File>,
    bytes: Vec<u8>,
    fills: Vec<Waiting>,
}

impl ByHand {
    pub fn new(log: Option<File>) -> Self {
        ByHand {
            cash: vec![Has { free: CASH, held: 0 }; USERS as usize],
            shares: vec![Has { free: SHARES, held: 0 }; USERS as usize * symbols() as usize],
            books: (0..symbols()).map(|_| Book::default()).collect(),
            log,
            bytes: Vec::new(),
            fills: Vec::new(),
        }
    }

    fn cash(&mut self, user: u64) -> &mut Has {
        &mut self.cash[user as usize]
    }

    fn shares(&mut self, user: u64, symbol: u32) -> &mut Has {
        &mut self.shares[user as usize * symbols() as usize + symbol as usize]
    }

    fn one(&mut self, order: Order) -> Traded {
        let Order { symbol, user, is_buy, price, quantity } = order;
        let (side, needed) = (order.side(), order.needed());
        let has = if is_buy { self.cash(user) } else { self.shares(user, symbol) };
        has.free = has.free.checked_sub(needed)?;
        has.held += needed;
        let book = &mut self.books[symbol as usize];
        book.placed += 1;
        let (no, mut left) = (book.placed, quantity);
        self.fills.clear();
        let others = ((1 - side, 0), 0)..=((1 - side, u64::MAX), u64::MAX);
        while left > 0
            && let Some((&key, best)) = book.orders.range_mut(others.clone()).next()
            && order.meets(best.price)
        {
            let traded = best.left.min(left);
            self.fills.push(Waiting { left: traded, ..*best });
            best.left -= traded;
            left -= traded;
            if best.left == 0 {
                book.orders.remove(&key);
                book.waiting[1 - usize::from(side)] -= 1;
            }
        }
        let mut worst = None;
        if left > 0 {
            book.orders.insert((order.rank(), no), Waiting { user, price, left });
            let waiting = &mut book.waiting[usize::from(side)];
            *waiting += 1;
            if *waiting > depth() {
                *waiting -= 1;
                let own = ((side, 0), 0)..=((side, u64::MAX), u64::MAX);
                let key = book.orders.range(own).next_back().map(|(key, _)| *key);
                worst = key.and_then(|key| book.orders.remove(&key));
            }
        }
        if let Some(Waiting { user, price, left }) = worst {
            let (has, back) =
                if is_buy { (self.cash(user), price * left) } else { (self.shares(user, symbol), left) };
            (has.free, has.held) = (has.free + back, has.held - back);
        }
        for Waiting { user: other, price: at, left: traded } in std::mem::take(&mut self.fills) {
            let (buyer, seller, held_at) = if is_buy { (user, other, price) } else { (other, user, at) };
            let cash = self.cash(buyer);
            (cash.held, cash.free) = (cash.held - held_at * traded, cash.free + (held_at - at) * traded);
            self.shares(buyer, symbol).free += traded;
            self.cash(seller).free += at * traded;
            self.shares(seller, symbol).held -= traded;
        }
        Some(quantity - left)
    }
}

impl Engine for ByHand {
    fn place(&mut self, orders: &[Order], traded: &mut Vec<Traded>) {
        for order in orders {
            let of = self.one(*order);
            traded.push(of);
            if self.log.is_some() && of.is_some() {
                let Order { symbol, user, is_buy, price, quantity } = *order;
                let record = postcard::to_extend(
                    &(symbol, user, is_buy, price, quantity),
                    std::mem::take(&mut self.bytes),
                );
                self.bytes = record.expect("a vector takes all");
            }
        }
        if let Some(log) = &mut self.log {
            log.write_all(&self.bytes).and_then(|()| log.sync_data()).expect("the disk takes it");
            self.bytes.clear();
        }
    }
}
