//! The orders that wait in a book, by their numbers and by who is served first.

use std::ops::RangeInclusive;

use freehold::{Indexed, Objects, TimerId};
use serde::{Deserialize, Serialize};

use super::{Exchange, Order, OrderNo, Place, Refused, Side, Symbol};

/// An order that waits, with the timer that ends it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) side: Side,
    pub(super) order: Order,
    pub(super) timer: TimerId,
}

/// A side, and where an order stands in it: the lowest is the best. A bid's price counts down.
pub(super) type Rank = (u8, u64);

/// The place of an order among those of its side: by price, then by number.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Queue;

impl Indexed<Exchange> for Waiting {
    type Index = Queue;

    fn place_of((symbol, no): (Symbol, OrderNo), waiting: &Waiting) -> Option<(Symbol, Rank, OrderNo)> {
        Some((symbol, rank(waiting.side, waiting.order.price), no))
    }

    fn key_at((symbol, _, no): (Symbol, Rank, OrderNo)) -> (Symbol, OrderNo) {
        (symbol, no)
    }
}

/// Where an order stands in a book.
pub(super) fn rank(side: Side, price: u64) -> Rank {
    (side as u8, if side == Side::Buy { u64::MAX - price } else { price })
}

/// The orders that wait on a side of a book, the best first.
pub(super) fn queue(symbol: Symbol, side: Side) -> RangeInclusive<(Symbol, Rank, OrderNo)> {
    (symbol, (side as u8, 0), 0)..=(symbol, (side as u8, u64::MAX), OrderNo::MAX)
}

impl Side {
    pub(super) fn other(self) -> Side {
        if self == Side::Buy { Side::Sell } else { Side::Buy }
    }
}

impl Place {
    /// Takes what the order trades with out of the book. The timers are those of what has no rest.
    pub(super) fn matched(
        &self,
        objects: &mut Objects<'_, Exchange>,
    ) -> Result<(Vec<Order>, Vec<TimerId>), Refused> {
        let (is_buy, mut left) = (self.side == Side::Buy, self.quantity);
        let (mut fills, mut timers) = (Vec::new(), Vec::new());
        let mut orders = objects.indexed::<Waiting>(self.symbol)?;
        let others = queue(self.symbol, self.side.other());
        while left > 0
            && let Some((key, best)) = orders.first_by(others.clone())?
        {
            let Waiting { order: Order { user, price, left: offered }, timer, .. } = *best;
            if price != self.price && (price > self.price) == is_buy {
                break;
            }
            let traded = offered.min(left);
            fills.push(Order { user, price, left: traded });
            left -= traded;
            if traded == offered {
                timers.push(timer);
                orders.take(key)?;
            } else {
                orders.change(key, |best| best.order.left -= traded)?;
            }
        }
        Ok((fills, timers))
    }
}
