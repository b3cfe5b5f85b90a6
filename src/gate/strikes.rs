//! Strikes: a sender whose verified claims are refused by their objects is verified apart in the
//! end, as the sender of a bad claim is.
//!
//! Such a claim costs a whole verification and changes nothing, and its sender can make another for
//! nothing: a payment to an account that is not open, say, or a claim from a version that never
//! comes. Each refusal is a strike, and each claim that its objects apply takes one away. At
//! `strikes_max` the sender becomes a suspect. It has no more strikes than that, so it comes out
//! after at most `strikes_max` applied claims.
//!
//! The memory is bounded, and being forgotten is no way out:
//!
//! - The sender that takes the place of another begins with one strike more than that had (the
//!   algorithm Space-Saving: A. Metwally and others, "Efficient computation of frequent and top-k
//!   elements in data streams", 2005). A sender with the fewest strikes makes room. So one that
//!   comes back has at least the strikes that it was forgotten with, and many that take turns all
//!   become suspects.
//! - Which of those with the fewest makes room is drawn at random. If it were the oldest, one
//!   sender more than are remembered could take turns, and each would be forgotten when it comes
//!   back. Drawn, nearly all of their claims are verified apart; if twice as many take turns, a
//!   fifth.
//!
//! Only the gate's passing thread has them, so they need no lock.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// What is remembered of a sender.
#[derive(Clone, Copy)]
struct Remembered {
    /// 1 to `strikes_max`.
    strikes: usize,
    /// Its place among those with as many.
    place: usize,
    /// From `strikes_max` strikes until it has none.
    is_suspect: bool,
}

/// Senders with strikes.
pub(super) struct Strikes {
    records: HashMap<u64, Remembered>,
    /// By number of strikes those with so many, at least one.
    by_strikes: BTreeMap<usize, Vec<u64>>,
    /// How often one was forgotten, from which the next is drawn.
    forgotten: u64,
    random: RandomState,
    strikes_max: usize,
    senders_max: usize,
}

/// What a strike leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Struck {
    /// The sender becomes a suspect.
    pub(super) is_out: bool,
    /// This suspect was forgotten for it, and is none any more.
    pub(super) forgotten: Option<u64>,
}

impl Strikes {
    /// `senders_max` are remembered.
    pub(super) fn new(strikes_max: usize, senders_max: usize) -> Self {
        let (records, by_strikes, random) = (HashMap::new(), BTreeMap::new(), RandomState::new());
        Strikes { records, by_strikes, forgotten: 0, random, strikes_max, senders_max }
    }

    /// A verified claim of this sender was refused by its objects.
    pub(super) fn strike(&mut self, sender: u64) -> Struck {
        let mut struck = Struck::default();
        let (had, was_suspect) = match self.take(sender) {
            Some(record) => (record.strikes, record.is_suspect),
            None if self.records.len() < self.senders_max => (0, false),
            None => (self.forget_one(&mut struck), false),
        };
        let strikes = (had + 1).min(self.strikes_max);
        let is_suspect = was_suspect || strikes == self.strikes_max;
        struck.is_out = is_suspect && !was_suspect;
        self.put(sender, strikes, is_suspect);
        struck
    }

    /// A claim of this sender was applied. Says whether the sender was a suspect and is none now.
    pub(super) fn forgive(&mut self, sender: u64) -> bool {
        let Some(Remembered { strikes, is_suspect, .. }) = self.take(sender) else { return false };
        if strikes > 1 {
            self.put(sender, strikes - 1, is_suspect);
            return false;
        }
        is_suspect
    }

    fn put(&mut self, sender: u64, strikes: usize, is_suspect: bool) {
        let equals = self.by_strikes.entry(strikes).or_default();
        self.records.insert(sender, Remembered { strikes, place: equals.len(), is_suspect });
        equals.push(sender);
        debug_assert!(self.records.len() <= self.senders_max);
    }

    fn take(&mut self, sender: u64) -> Option<Remembered> {
        let record = self.records.remove(&sender)?;
        let equals = self.by_strikes.get_mut(&record.strikes)?;
        equals.swap_remove(record.place);
        // The last has taken its place.
        if let Some(moved) = equals.get(record.place).and_then(|moved| self.records.get_mut(moved)) {
            moved.place = record.place;
        }
        if equals.is_empty() {
            self.by_strikes.remove(&record.strikes);
        }
        Some(record)
    }

    /// Makes room. Returns the strikes of the sender that was forgotten.
    fn forget_one(&mut self, struck: &mut Struck) -> usize {
        let Some((strikes, fewest)) = self.by_strikes.first_key_value() else { return 0 };
        self.forgotten += 1;
        let (strikes, drawn) = (*strikes, self.random.hash_one(self.forgotten) as usize % fewest.len());
        let sender = fewest[drawn];
        let record = self.take(sender);
        struck.forgotten = record.is_some_and(|record| record.is_suspect).then_some(sender);
        strikes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STILL_IN: Struck = Struck { is_out: false, forgotten: None };

    #[test]
    fn a_sender_is_out_at_the_last_strike_and_in_again_without_any() {
        let mut strikes = Strikes::new(3, 10);
        assert_eq!([(); 2].map(|()| strikes.strike(7)), [STILL_IN, STILL_IN]);
        assert!(!strikes.forgive(7), "it was not out");
        let outs = [(); 5].map(|()| strikes.strike(7).is_out);
        assert_eq!(outs, [false, true, false, false, false], "it is out once");
        assert_eq!([(); 4].map(|()| strikes.forgive(7)), [false, false, true, false], "three are the most");
        assert!(strikes.records.is_empty() && strikes.by_strikes.is_empty());
        assert_eq!([(); 3].map(|()| strikes.strike(7).is_out), [false, false, true], "from the beginning");
    }

    /// Three senders take turns, and two are remembered: each was forgotten before it had three
    /// strikes, and then each before it came back.
    #[test]
    fn being_forgotten_is_no_way_out() {
        let mut strikes = Strikes::new(3, 2);
        let (mut suspects, mut apart) = (std::collections::BTreeSet::new(), 0);
        for sender in [1, 2, 3].into_iter().cycle().take(3000) {
            apart += usize::from(suspects.contains(&sender));
            let struck = strikes.strike(sender);
            struck.forgotten.into_iter().for_each(|it| assert!(suspects.remove(&it)));
            if struck.is_out {
                assert!(suspects.insert(sender));
            }
        }
        assert_eq!((suspects.len(), strikes.records.len()), (2, 2), "whoever is remembered is one");
        assert!(apart > 700, "{apart} of 3000 are apart, and a third is to be");
        assert!(strikes.strike(4).is_out, "whoever comes now is out at the first strike");
    }

    #[test]
    fn one_with_the_fewest_strikes_is_forgotten() {
        let mut strikes = Strikes::new(8, 4);
        for sender in [1, 1, 1, 1, 1, 2, 3, 2, 3, 2, 3] {
            strikes.strike(sender);
        }
        strikes.strike(4);
        assert_eq!(strikes.strike(5), STILL_IN, "in place of 4");
        let of = |strikes: &Strikes, sender| strikes.records.get(&sender).map(|record| record.strikes);
        let all = [1, 2, 3, 4, 5].map(|sender| of(&strikes, sender));
        assert_eq!(all, [Some(5), Some(3), Some(3), None, Some(2)]);
        strikes.strike(5);
        strikes.strike(6);
        assert_eq!(of(&strikes, 6), Some(4), "in place of 2, 3 or 5");
        assert_eq!([2, 3, 5].iter().filter(|sender| of(&strikes, **sender).is_none()).count(), 1);
        // All are found where they are.
        for sender in 1..=6 {
            while of(&strikes, sender).is_some() {
                assert!(!strikes.forgive(sender));
            }
        }
        assert!(strikes.by_strikes.is_empty());
    }
}
