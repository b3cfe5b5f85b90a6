//! Transactions that a shard passed on and that have not come back.
//!
//! They are counted by the epoch in which the shard passed them on. Nearly all are of the newest,
//! so its count stands apart.

use std::collections::VecDeque;

use crate::epoch::Epoch;

/// How many of a shard's transactions are in doubt, by the epoch they were passed on in.
#[derive(Default)]
pub(crate) struct InDoubt {
    newest: Epoch,
    of_newest: usize,
    /// Of epochs before that, oldest first. The first of them has some.
    older: VecDeque<(Epoch, usize)>,
}

impl InDoubt {
    /// One is passed on in this epoch, the newest so far.
    #[inline(always)]
    pub(crate) fn passed_on(&mut self, epoch: Epoch) {
        if self.newest != epoch {
            self.begin(epoch);
        }
        self.of_newest += 1;
    }

    #[cold]
    fn begin(&mut self, epoch: Epoch) {
        if self.of_newest > 0 {
            self.older.push_back((self.newest, self.of_newest));
        }
        (self.newest, self.of_newest) = (epoch, 0);
    }

    /// One that was passed on in this epoch has come back.
    #[inline(always)]
    pub(crate) fn came_back(&mut self, epoch: Epoch) {
        if self.newest == epoch && self.of_newest > 0 {
            self.of_newest -= 1;
        } else {
            self.older_came_back(epoch);
        }
    }

    #[cold]
    fn older_came_back(&mut self, epoch: Epoch) {
        let place = self.older.iter_mut().find(|(of, _)| *of == epoch);
        let (_, transactions) = place.expect("what comes back was passed on");
        *transactions -= 1;
        while self.older.front().is_some_and(|(_, transactions)| *transactions == 0) {
            self.older.pop_front();
        }
    }

    /// The oldest epoch of which one is in doubt.
    #[inline]
    pub(crate) fn oldest(&self) -> Option<Epoch> {
        let older = self.older.front().map(|(epoch, _)| *epoch);
        older.or((self.of_newest > 0).then_some(self.newest))
    }

    /// Whether all have come back.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.oldest().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_known_in_whatever_order_they_come_back() {
        let mut in_doubt = InDoubt::default();
        assert!(in_doubt.is_empty());
        for epoch in [2, 2, 3, 5, 5] {
            in_doubt.passed_on(Epoch(epoch));
        }
        for (back, oldest) in [(3, Some(2)), (2, Some(2)), (5, Some(2)), (2, Some(5)), (5, None)] {
            in_doubt.came_back(Epoch(back));
            assert_eq!(in_doubt.oldest(), oldest.map(Epoch), "after one of epoch {back}");
            assert_eq!(in_doubt.is_empty(), oldest.is_none());
        }
        // An epoch whose own have all come back leaves nothing behind.
        in_doubt.passed_on(Epoch(7));
        assert_eq!(in_doubt.oldest(), Some(Epoch(7)));
    }

    #[test]
    #[should_panic(expected = "what comes back was passed on")]
    fn one_that_was_not_passed_on_is_noticed() {
        let mut in_doubt = InDoubt::default();
        in_doubt.passed_on(Epoch(2));
        in_doubt.came_back(Epoch(2));
        in_doubt.came_back(Epoch(2));
    }
}
