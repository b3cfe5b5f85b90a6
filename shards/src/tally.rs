//! Sums by name: what an audit makes of all objects.
//!
//! A fold over all objects needs a value for each shard and a way to merge two of them. For counts
//! and sums that is always the same, so it is written once, here.

use std::collections::BTreeMap;

/// Counts and sums by name. A sum to which nothing was added is 0.
///
/// A sum stays at the end of `i128` that it reaches. No sum of fewer than 2^63 values of 64 bits
/// gets there.
///
/// ```
/// use freehold_shard::Tally;
///
/// let mut tally = Tally::default();
/// tally.add("accounts", 1).add("cents", 40_u64).add("in debt", false);
/// tally.add("accounts", 1).add("cents", -5_i64).add("in debt", true);
/// assert_eq!((tally.get("accounts"), tally.get("cents"), tally.get("in debt")), (2, 35, 1));
/// assert_eq!(tally.get("cards"), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    sums: BTreeMap<&'static str, i128>,
}

impl Tally {
    /// Adds a number to the sum of this name. A `bool` counts as 1 or 0.
    pub fn add(&mut self, name: &'static str, number: impl Into<i128>) -> &mut Self {
        let sum = self.sums.entry(name).or_default();
        *sum = sum.saturating_add(number.into());
        self
    }

    /// The sum of this name.
    pub fn get(&self, name: &str) -> i128 {
        self.sums.get(name).copied().unwrap_or_default()
    }

    /// Both together: each name has the sum of what it has in the two.
    #[must_use]
    pub fn merge(mut self, other: Tally) -> Tally {
        for (name, sum) in other.sums {
            self.add(name, sum);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_brought_together_by_name() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.add("cash", 5).add("debts", -2);
        other.add("cash", 7).add("cards", true);
        let both = one.clone().merge(other.clone());
        assert_eq!((both.get("cash"), both.get("debts"), both.get("cards")), (12, -2, 1));
        assert_eq!(both, other.merge(one));
    }

    #[test]
    fn a_sum_stays_at_the_end() {
        let mut tally = Tally::default();
        tally.add("cash", i128::MAX).add("cash", 1);
        assert_eq!(tally.get("cash"), i128::MAX);
    }
}
