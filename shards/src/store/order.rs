//! The order of a shard's entries: for each collection, from the id of an entry to its slot.
//!
//! An entry is an object whose id says that it belongs to a collection
//! ([`ObjectId::COLLECTION`](crate::ObjectId::COLLECTION)). It has an ordinary slot, but is not in
//! the index by hash: it is found here, and ranges are too. Shards without collections have an
//! empty list, and code for ids without entries never looks at it.
//!
//! Each collection has two maps. `live` has its entries, and what the running message has removed
//! of them; so a walk skips no more than that. `apart` has slots of entries that do not exist any
//! more, and that a snapshot still sees. Were they in one map, taking from the front of a queue
//! would walk past all that was taken before, for as long as a snapshot is open.
//!
//! Invariant *order-agrees*: between messages `live` has exactly the entries that have a state, and
//! [`Slot::place`](crate::store::slot::Slot::place) says in which of the two an entry's slot is.

use std::collections::btree_map::Range;
use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;
use std::ops::Bound;

use ahash::RandomState;
use slab::Slab;

use crate::object::ObjectId;
use crate::store::slot::{NO_SLOT, SlotIndex};

/// The number of a collection's order in [`Orders`].
pub(crate) type OrderIndex = u32;

/// From an entry's id to its slot.
type Map<I> = BTreeMap<I, SlotIndex>;

/// The entries of one collection.
struct Order<I> {
    live: Map<I>,
    apart: Map<I>,
}

/// The orders of all collections of a shard that have entries.
pub(crate) struct Orders<I> {
    numbers: HashMap<I, OrderIndex, RandomState>,
    orders: Slab<Order<I>>,
}

/// Whether an entry's slot was put aside for snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Live,
    Apart,
}

/// A range of ids.
pub(crate) type IdBounds<I> = (Bound<I>, Bound<I>);

/// Whether a map may be asked for these ids: `BTreeMap` panics at a range that ends before it
/// begins.
pub(crate) fn is_range<I: Ord>((from, to): &IdBounds<I>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Excluded(from), Bound::Excluded(to)) => from < to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from <= to
        }
    }
}

/// A range of a map; empty if it ends before it begins.
fn peekable<I: Ord + Copy>(
    map: &Map<I>,
    bounds: IdBounds<I>,
) -> Peekable<impl Iterator<Item = (&I, &SlotIndex)>> {
    is_range(&bounds).then(|| map.range(bounds)).into_iter().flatten().peekable()
}

/// Whether a range that begins at `one` has all of one that begins at `other`.
pub(crate) fn begins_before<I: Ord>(one: &Bound<I>, other: &Bound<I>) -> bool {
    match (one, other) {
        (Bound::Unbounded, _) => true,
        (_, Bound::Unbounded) => false,
        (Bound::Excluded(one), Bound::Included(other)) => one < other,
        (Bound::Included(one) | Bound::Excluded(one), Bound::Included(other) | Bound::Excluded(other)) => {
            one <= other
        }
    }
}

/// Whether a range that ends at `one` has all of one that ends at `other`.
pub(crate) fn ends_behind<I: Ord>(one: &Bound<I>, other: &Bound<I>) -> bool {
    match (one, other) {
        (Bound::Unbounded, _) => true,
        (_, Bound::Unbounded) => false,
        (Bound::Excluded(one), Bound::Included(other)) => one > other,
        (Bound::Included(one) | Bound::Excluded(one), Bound::Included(other) | Bound::Excluded(other)) => {
            one >= other
        }
    }
}

impl<I: ObjectId> Orders<I> {
    /// No collections. `hasher` is keyed at random, as the index's is.
    pub(crate) fn new(hasher: RandomState) -> Self {
        Orders { numbers: HashMap::with_hasher(hasher), orders: Slab::new() }
    }

    /// The number of a collection's order; `None` while it has no entries. It stays the same while
    /// a message runs.
    #[inline]
    pub(crate) fn number(&self, collection: &I) -> Option<OrderIndex> {
        self.numbers.get(collection).copied()
    }

    /// The slot of the entry `id` of this collection, or [`NO_SLOT`].
    pub(crate) fn find(&self, collection: &I, id: &I) -> SlotIndex {
        self.number(collection).map_or(NO_SLOT, |number| self.find_in(number, id))
    }

    /// As [`Orders::find`], by the order's number.
    #[inline]
    pub(crate) fn find_in(&self, number: OrderIndex, id: &I) -> SlotIndex {
        let Order { live, apart } = &self.orders[number as usize];
        let is_apart = || if apart.is_empty() { None } else { apart.get(id) };
        live.get(id).or_else(is_apart).copied().unwrap_or(NO_SLOT)
    }

    /// The slot of the entry `id` if it exists, or [`NO_SLOT`].
    #[inline]
    pub(crate) fn find_live(&self, number: OrderIndex, id: &I) -> SlotIndex {
        self.orders[number as usize].live.get(id).copied().unwrap_or(NO_SLOT)
    }

    /// Adds an entry, which is in none of the maps.
    pub(crate) fn insert(&mut self, collection: I, id: I, slot: SlotIndex) {
        let orders = &mut self.orders;
        let number = *self.numbers.entry(collection).or_insert_with(|| {
            let order = Order { live: Map::new(), apart: Map::new() };
            u32::try_from(orders.insert(order)).expect("2^32 collections outgrow memory first")
        });
        let before = self.orders[number as usize].live.insert(id, slot);
        debug_assert!(before.is_none(), "one-slot-per-object: {id:?} has one already");
    }

    /// Moves an entry from one map to the other.
    pub(crate) fn place(&mut self, collection: &I, id: I, slot: SlotIndex, to: Place) {
        let Some(number) = self.number(collection) else { return };
        let Order { live, apart } = &mut self.orders[number as usize];
        let (from, to) = match to {
            Place::Live => (apart, live),
            Place::Apart => (live, apart),
        };
        let moved = from.remove(&id);
        debug_assert_eq!(moved, Some(slot), "order-agrees: the slot of {id:?} says where it is");
        to.insert(id, slot);
    }

    /// Takes an entry out. The order of a collection that has no more of them is dropped.
    pub(crate) fn remove(&mut self, collection: &I, id: &I, from: Place) -> bool {
        let Some(number) = self.number(collection) else { return false };
        let Order { live, apart } = &mut self.orders[number as usize];
        let was_there = match from {
            Place::Live => live.remove(id).is_some(),
            Place::Apart => apart.remove(id).is_some(),
        };
        if live.is_empty() && apart.is_empty() {
            self.numbers.remove(collection);
            self.orders.remove(number as usize);
        }
        was_there
    }

    /// How many entries a collection has; those that the running message removed count as well.
    pub(crate) fn len(&self, number: OrderIndex) -> usize {
        self.orders[number as usize].live.len()
    }

    /// The entries in this range, in order, with their slots; those that the running message
    /// removed are among them.
    pub(crate) fn range(&self, number: OrderIndex, bounds: IdBounds<I>) -> Range<'_, I, SlotIndex> {
        let live = &self.orders[number as usize].live;
        if is_range(&bounds) { live.range(bounds) } else { Range::default() }
    }

    /// Takes a collection out that is at home elsewhere: the slots of all its entries.
    pub(crate) fn take(&mut self, collection: &I) -> Vec<SlotIndex> {
        let Some(number) = self.numbers.remove(collection) else { return Vec::new() };
        let Order { live, apart } = self.orders.remove(number as usize);
        live.into_values().chain(apart.into_values()).collect()
    }

    /// The entries in this range that there are, and those that a snapshot may see, in order.
    pub(crate) fn range_of_all(
        &self,
        number: OrderIndex,
        bounds: IdBounds<I>,
    ) -> impl Iterator<Item = SlotIndex> {
        let Order { live, apart } = &self.orders[number as usize];
        let (mut live, mut apart) = (peekable(live, bounds), peekable(apart, bounds));
        std::iter::from_fn(move || {
            let is_of_apart = match (live.peek(), apart.peek()) {
                (Some((one, _)), Some((other, _))) => other < one,
                (one, _) => one.is_none(),
            };
            let from = if is_of_apart { &mut apart } else { &mut live };
            from.next().map(|(_, slot)| *slot)
        })
    }

    /// All entries there are, with their collections: for the checks of tests.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = (I, I, SlotIndex, Place)> {
        self.numbers.iter().flat_map(|(collection, number)| {
            let Order { live, apart } = &self.orders[*number as usize];
            let of = |map: &'_ Map<I>, place| {
                Vec::from_iter(map.iter().map(|(id, slot)| (*collection, *id, *slot, place)))
            };
            of(live, Place::Live).into_iter().chain(of(apart, Place::Apart))
        })
    }
}
