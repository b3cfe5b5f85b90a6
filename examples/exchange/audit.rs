//! Whether the books balance.

use freehold::{Snapshot, SnapshotError};

use super::{CASH, Exchange, Id, SHARES, Side, State};

/// Adds what an object has to the sums.
pub(super) fn count(sums: &mut [u64; 9], id: Id, state: &State) {
    let add: [u64; 9] = match state {
        State::Account(of) => [1, of.cash + of.held, of.held, 0, 0, 0, 0, 0, 0],
        State::Position(of) => [0, 0, 0, 1, of.shares + of.held, of.held, 0, 0, 0],
        State::Book(book) => [0, 0, 0, 0, 0, 0, 0, 0, book.traded],
        State::Waiting(waiting) => {
            let (order, is_bid) =
                (waiting.order, matches!(id, Id::Waiting((_, (side, _), _)) if side == Side::Buy as u8));
            let (bid, ask) = if is_bid { (order.price * order.left, 0) } else { (0, order.left) };
            [0, 0, 0, 0, 0, 0, bid, ask, 0]
        }
    };
    *sums = std::array::from_fn(|at| sums[at] + add[at]);
}

/// Everything as of one instant must add up, whatever is traded meanwhile.
pub(super) fn judge(sums: [u64; 9]) -> String {
    let [users, cash, cash_held, positions, shares, shares_held, bids, asks, traded] = sums;
    assert_eq!((cash, shares), (users * CASH, positions * SHARES), "nothing is made or lost");
    assert_eq!((cash_held, shares_held), (bids, asks), "what is held is promised to waiting orders");
    format!("{users} users, {traded} shares traded, {asks} offered: the books balance")
}

/// Judges a snapshot.
pub(super) fn audit(snapshot: &Snapshot<Exchange>) -> Result<String, SnapshotError> {
    let merge = |one: [u64; 9], other: [u64; 9]| std::array::from_fn(|at| one[at] + other[at]);
    Ok(judge(snapshot.fold(|| [0; 9], count, merge).wait()?))
}
