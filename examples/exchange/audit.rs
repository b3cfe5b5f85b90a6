//! Whether the books balance.

use freehold::{Snapshot, SnapshotError};

use super::{CASH, Exchange, Id, Order, SHARES, Side, State};

/// Of users and what they have: 0 to 5. Of waiting orders: cash that is bid, shares that are asked
/// for and offered. Of books: orders, shares in them, traded, taken back. Orders that wait, and
/// their places.
pub(super) type Sums = [u64; 15];

/// Adds what an object has to the sums.
pub(super) fn count(sums: &mut Sums, _: Id, state: &State) {
    let add: Sums = match state {
        State::Account(of) => [1, of.cash + of.held, of.held, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        State::Position(of) => [0, 0, 0, 1, of.shares + of.held, of.held, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        State::Book(of) => [0, 0, 0, 0, 0, 0, 0, 0, 0, of.placed, of.offered, of.traded, of.taken_back, 0, 0],
        State::Queue(_) => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        State::Waiting(waiting) => {
            let Order { price, left, .. } = waiting.order;
            let (price, bid, ask) =
                if waiting.side == Side::Buy { (price * left, left, 0) } else { (0, 0, left) };
            [0, 0, 0, 0, 0, 0, price, bid, ask, 0, 0, 0, 0, 1, 0]
        }
    };
    *sums = std::array::from_fn(|at| sums[at] + add[at]);
}

/// Everything as of one instant must add up, whatever is traded meanwhile.
pub(super) fn judge(sums: Sums) -> String {
    let [users, cash, cash_held, positions, shares, shares_held, price, bids, asks, ..] = sums;
    let [.., placed, offered, traded, taken_back, waiting, places] = sums;
    assert_eq!((cash, shares), (users * CASH, positions * SHARES), "nothing is made or lost");
    assert_eq!((cash_held, shares_held), (price, asks), "what is held is promised to waiting orders");
    assert_eq!(waiting, places, "each order that waits has a place, and no other has");
    // A trade takes from two orders.
    assert_eq!(offered, 2 * traded + bids + asks + taken_back, "no share of an order is traded twice");
    format!("{users} users, {traded} shares traded by {placed} orders, {asks} offered: the books balance")
}

/// Judges a snapshot.
pub(super) fn audit(snapshot: &Snapshot<Exchange>) -> Result<String, SnapshotError> {
    let merge = |one: Sums, other: Sums| std::array::from_fn(|at| one[at] + other[at]);
    Ok(judge(snapshot.fold(Sums::default, count, merge).wait()?))
}
