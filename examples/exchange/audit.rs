//! Whether the books balance.

use freehold::{Snapshot, SnapshotError};

use super::{CASH, Exchange, Id, SHARES, Side, State};

/// Of users and what they have: 0 to 5. Of waiting orders: cash that is bid, shares that are asked
/// for and offered. Of books: orders, shares in them, traded, taken back.
pub(super) type Sums = [u64; 13];

/// Adds what an object has to the sums.
pub(super) fn count(sums: &mut Sums, id: Id, state: &State) {
    let add: Sums = match state {
        State::Account(of) => [1, of.cash + of.held, of.held, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        State::Position(of) => [0, 0, 0, 1, of.shares + of.held, of.held, 0, 0, 0, 0, 0, 0, 0],
        State::Book(of) => [0, 0, 0, 0, 0, 0, 0, 0, 0, of.placed, of.offered, of.traded, of.taken_back],
        State::Waiting(waiting) => {
            let (order, is_bid) =
                (waiting.order, matches!(id, Id::Waiting((_, (side, _), _)) if side == Side::Buy as u8));
            let (price, bid, ask) =
                if is_bid { (order.price * order.left, order.left, 0) } else { (0, 0, order.left) };
            [0, 0, 0, 0, 0, 0, price, bid, ask, 0, 0, 0, 0]
        }
    };
    *sums = std::array::from_fn(|at| sums[at] + add[at]);
}

/// Everything as of one instant must add up, whatever is traded meanwhile.
pub(super) fn judge(sums: Sums) -> String {
    let [users, cash, cash_held, positions, shares, shares_held, price, bids, asks, ..] = sums;
    let [.., placed, offered, traded, taken_back] = sums;
    assert_eq!((cash, shares), (users * CASH, positions * SHARES), "nothing is made or lost");
    assert_eq!((cash_held, shares_held), (price, asks), "what is held is promised to waiting orders");
    // A trade takes from two orders.
    assert_eq!(offered, 2 * traded + bids + asks + taken_back, "no share of an order is traded twice");
    format!("{users} users, {traded} shares traded by {placed} orders, {asks} offered: the books balance")
}

/// Judges a snapshot.
pub(super) fn audit(snapshot: &Snapshot<Exchange>) -> Result<String, SnapshotError> {
    let merge = |one: Sums, other: Sums| std::array::from_fn(|at| one[at] + other[at]);
    Ok(judge(snapshot.fold(Sums::default, count, merge).wait()?))
}
