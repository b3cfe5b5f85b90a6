//! What all engines do: the orders, and what must come of them.

use std::sync::LazyLock;

/// Users, each with cash and shares of every symbol.
pub const USERS: u64 = 1000;
pub const CASH: u64 = 1_000_000;
pub const SHARES: u64 = 10_000;

/// How the books are: set by `FREEHOLD_RESTING`, and by default eight of 500 orders on each side.
static BOOKS: LazyLock<(u32, u64)> = LazyLock::new(|| match std::env::var("FREEHOLD_RESTING") {
    Ok(resting) => (1, resting.parse::<u64>().expect("FREEHOLD_RESTING is a number") / 2),
    Err(_) => (8, 500),
});

/// How many books there are.
pub fn symbols() -> u32 {
    BOOKS.0
}

/// So many orders wait on a side of a book: one more, and the worst of them is taken back.
pub fn depth() -> u64 {
    BOOKS.1
}

/// An order to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub symbol: u32,
    pub user: u64,
    pub is_buy: bool,
    pub price: u64,
    pub quantity: u64,
}

/// A side, then a price, a bid's counting down: the lowest is the best.
pub type Rank = (u8, u64);

/// Where an order stands in its book.
pub fn rank(is_buy: bool, price: u64) -> Rank {
    (u8::from(!is_buy), if is_buy { u64::MAX - price } else { price })
}

/// An order that waits.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Waiting {
    pub user: u64,
    pub price: u64,
    pub left: u64,
}

/// How many shares were traded at once; `None` if the user had not enough.
pub type Traded = Option<u64>;

impl Order {
    pub fn side(&self) -> u8 {
        u8::from(!self.is_buy)
    }

    pub fn rank(&self) -> Rank {
        rank(self.is_buy, self.price)
    }

    /// Whether it trades with one of the other side that waits at this price.
    pub fn meets(&self, price: u64) -> bool {
        if self.is_buy { price <= self.price } else { price >= self.price }
    }

    /// What it needs: cash or shares.
    pub fn needed(&self) -> u64 {
        if self.is_buy { self.price * self.quantity } else { self.quantity }
    }
}

/// Orders that look drawn, the same in every run.
pub struct Orders(u64);

impl Orders {
    pub fn new() -> Self {
        Orders(42)
    }

    fn below(&mut self, max: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % max
    }

    /// The next of them.
    pub fn take(&mut self, count: usize) -> Vec<Order> {
        let mut next = || Order {
            symbol: self.below(u64::from(symbols())) as u32,
            user: self.below(USERS),
            is_buy: self.below(2) == 0,
            price: 90 + self.below(21),
            quantity: 1 + self.below(20),
        };
        (0..count).map(|_| next()).collect()
    }
}

/// An engine that places orders.
pub trait Engine {
    /// Places them in their order; with a log, they are on disk when this returns.
    fn place(&mut self, orders: &[Order], traded: &mut Vec<Traded>);
}
