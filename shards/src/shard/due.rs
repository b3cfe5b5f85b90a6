//! What waits for its time, in that order.
//!
//! The keys stand in a tree, and what waits lies beside it. So the tree is compiled once, and not
//! once an actor: its code is as much as that of a hundred other functions.

use std::collections::BTreeMap;

use slab::Slab;

use crate::log::record::SendId;
use crate::time::Time;

/// When something is due, and its number: of what is due together the least comes first.
pub(crate) type DueKey = (Time, SendId);

/// Values by when they are due.
pub(crate) struct DueQueue<T> {
    keys: DueKeys,
    values: Slab<T>,
}

impl<T> DueQueue<T> {
    pub(crate) fn new() -> Self {
        DueQueue { keys: DueKeys(BTreeMap::new()), values: Slab::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Adds a value, in the place of what may have this key.
    pub(crate) fn insert(&mut self, key: DueKey, value: T) {
        if let Some(before) = self.keys.insert(key, self.values.insert(value)) {
            self.values.remove(before);
        }
    }

    pub(crate) fn get(&self, key: DueKey) -> Option<&T> {
        self.keys.get(key).map(|at| &self.values[at])
    }

    /// The first key.
    #[inline]
    pub(crate) fn first_key(&self) -> Option<DueKey> {
        if self.is_empty() { None } else { self.keys.first() }
    }

    /// The first key that is not before this one.
    pub(crate) fn first_key_from(&self, key: DueKey) -> Option<DueKey> {
        self.keys.first_from(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = DueKey> {
        self.keys.0.keys().copied()
    }

    pub(crate) fn remove(&mut self, key: DueKey) -> Option<T> {
        self.keys.remove(key).map(|at| self.values.remove(at))
    }

    /// Takes the first.
    pub(crate) fn pop_first(&mut self) -> Option<T> {
        self.keys.pop_first().map(|at| self.values.remove(at))
    }
}

/// Where the value of each key lies.
struct DueKeys(BTreeMap<DueKey, usize>);

impl DueKeys {
    fn insert(&mut self, key: DueKey, at: usize) -> Option<usize> {
        self.0.insert(key, at)
    }

    fn get(&self, key: DueKey) -> Option<usize> {
        self.0.get(&key).copied()
    }

    fn first(&self) -> Option<DueKey> {
        self.0.first_key_value().map(|(key, _)| *key)
    }

    fn first_from(&self, key: DueKey) -> Option<DueKey> {
        self.0.range(key..).next().map(|(key, _)| *key)
    }

    fn remove(&mut self, key: DueKey) -> Option<usize> {
        self.0.remove(&key)
    }

    fn pop_first(&mut self) -> Option<usize> {
        self.0.pop_first().map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is what a tree with the values in it is.
        #[test]
        fn it_is_a_map_in_the_order_of_its_keys(
            steps in prop::collection::vec((0..4u8, 0..6u64, 0..3u64), 0..60),
        ) {
            let (mut queue, mut expected) = (DueQueue::new(), BTreeMap::new());
            for (at, (what, due, number)) in steps.into_iter().enumerate() {
                let key = (Time(due), SendId(number));
                match what {
                    0 | 1 => {
                        queue.insert(key, at);
                        expected.insert(key, at);
                    }
                    2 => prop_assert_eq!(queue.remove(key), expected.remove(&key)),
                    _ => prop_assert_eq!(queue.pop_first(), expected.pop_first().map(|(_, at)| at)),
                }
                prop_assert_eq!((queue.len(), queue.is_empty()), (expected.len(), expected.is_empty()));
                prop_assert_eq!(queue.first_key(), expected.keys().next().copied());
                prop_assert_eq!(queue.first_key_from(key), expected.range(key..).next().map(|(key, _)| *key));
                prop_assert_eq!(queue.get(key), expected.get(&key));
                prop_assert!(queue.keys().eq(expected.keys().copied()));
            }
        }
    }
}
