//! The order of a shard's entries: for each collection, from the id of an entry to its slot.
//!
//! An entry is an object whose id says that it belongs to a collection
//! ([`ObjectId::COLLECTION`]). It has an ordinary slot, but is not in
//! the index by hash: it is found here, and ranges are too. Shards without collections have an
//! empty list, and code for ids without entries never looks at it.
//!
//! Each collection has two trees. `live` has its entries. `apart` has slots of entries that do not
//! exist any more, and that a snapshot still sees. Were they in one tree, taking from the front of
//! a queue would walk past all that was taken before, for as long as a snapshot is open. What the
//! running message has removed is in neither: one table has it for all collections, until the
//! message has ended.
//!
//! A collection that is cleared gives its entries away: as they lie, in one move. While the message
//! runs they are *clearing*, and come back if it fails. Then they are *cleared*: they do not exist
//! any more, and their slots are as they were, for snapshots and a checkpoint that see them. When
//! nobody does, they are freed some at a time. Meanwhile there may be another entry of the same id
//! in another slot.
//!
//! Invariant *order-agrees*: `live` has exactly the entries that have a state, and
//! [`Slot::place`](crate::store::slot::Slot::place) says where an entry's slot is. Between messages
//! the table of removed ones is empty, and nothing is clearing.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};

use ahash::RandomState;
use slab::Slab;

use crate::epoch::Epoch;
use crate::object::ObjectId;
use crate::store::id_range::IdBounds;
use crate::store::removed::Removed;
use crate::store::slot::{EntryPlace, NO_SLOT, SlotIndex};
use crate::store::slots::Slots;
use crate::store::tree::{Located, Range, SlotTree};

/// The number of a collection's order in [`Orders`].
pub(crate) type OrderIndex = u32;

/// The entries of one collection.
struct CollectionOrder<I> {
    live: SlotTree<I>,
    apart: SlotTree<I>,
}

/// What the running message has cleared.
pub(crate) struct Clearing<I> {
    pub(crate) collection: I,
    /// The entries that it had not changed before.
    pub(crate) entries: SlotTree<I>,
    /// How many before-images it had kept before.
    pub(crate) images: usize,
}

/// Entries that were cleared together.
struct Cleared<I> {
    /// When.
    epoch: Epoch,
    entries: SlotTree<I>,
}

/// The orders of all collections of a shard that have entries.
pub(crate) struct Orders<I> {
    numbers: HashMap<I, OrderIndex, RandomState>,
    orders: Slab<CollectionOrder<I>>,
    /// The collection that was looked for last, and its number.
    recent: Cell<Option<(I, OrderIndex)>>,
    /// What the running message has removed.
    removed: Removed<I>,
    /// What the running message has cleared, each collection once.
    clearing: Vec<Clearing<I>>,
    /// What was cleared and is not freed yet, by collection; of each what was cleared first.
    cleared: HashMap<I, VecDeque<Cleared<I>>, RandomState>,
}

impl<I: ObjectId> Orders<I> {
    /// No collections. `hasher` is keyed at random, as the index's is.
    pub(crate) fn new(hasher: RandomState) -> Self {
        Orders {
            numbers: HashMap::with_hasher(hasher.clone()),
            orders: Slab::new(),
            recent: Cell::new(None),
            removed: Removed::new(hasher.clone()),
            clearing: Vec::new(),
            cleared: HashMap::with_hasher(hasher),
        }
    }

    /// The number of a collection's order; `None` while it has no entries. It stays the same while
    /// a message runs.
    #[inline]
    pub(crate) fn number(&self, collection: &I) -> Option<OrderIndex> {
        match self.recent.get() {
            Some((recent, number)) if recent == *collection => Some(number),
            _ => {
                let number = self.numbers.get(collection).copied()?;
                self.recent.set(Some((*collection, number)));
                Some(number)
            }
        }
    }

    /// The order of a collection, made if there is none.
    fn order_mut(&mut self, collection: &I) -> &mut CollectionOrder<I> {
        let number = match self.number(collection) {
            Some(number) => number,
            None => {
                let order = CollectionOrder { live: SlotTree::default(), apart: SlotTree::default() };
                let number = self.orders.insert(order);
                let number = u32::try_from(number).expect("2^32 collections outgrow memory first");
                self.numbers.insert(*collection, number);
                number
            }
        };
        &mut self.orders[number as usize]
    }

    /// The slot of the entry `id` of this collection, or [`NO_SLOT`].
    pub(crate) fn find<S>(&self, slots: &Slots<I, S>, collection: &I, id: &I) -> SlotIndex {
        self.number(collection).map_or(NO_SLOT, |number| self.find_in(slots, number, id))
    }

    /// As [`Orders::find`], by the order's number.
    #[inline]
    pub(crate) fn find_in<S>(&self, slots: &Slots<I, S>, number: OrderIndex, id: &I) -> SlotIndex {
        let CollectionOrder { live, apart } = &self.orders[number as usize];
        let is_apart = || if apart.is_empty() { None } else { apart.get(slots, id) };
        let found = live.get(slots, id).or_else(is_apart).map(|found| found.slot);
        found.or_else(|| self.removed.get(id)).unwrap_or(NO_SLOT)
    }

    /// Adds an entry, which is nowhere yet.
    pub(crate) fn insert<S>(&mut self, slots: &Slots<I, S>, collection: I, id: I, slot: SlotIndex) {
        let before = self.order_mut(&collection).live.get_or_insert(slots, id, slot);
        debug_assert!(before.is_none(), "one-slot-per-object: {id:?} has one already");
    }

    /// Gives all its entries to a collection, which has none yet.
    pub(super) fn insert_all(&mut self, collection: I, entries: SlotTree<I>) {
        let order = self.order_mut(&collection);
        assert!(order.live.is_empty(), "one-slot-per-object: {collection:?} has entries already");
        order.live = entries;
    }

    /// The slot of an entry of this collection, wherever it is; `None` if it was nowhere, and is in
    /// `new` now. One search does for both.
    #[inline]
    pub(crate) fn find_or_insert<S>(
        &mut self,
        slots: &Slots<I, S>,
        collection: &I,
        id: I,
        new: SlotIndex,
    ) -> Option<SlotIndex> {
        if let Some(slot) = self.removed.get(&id) {
            return Some(slot);
        }
        let CollectionOrder { live, apart } = self.order_mut(collection);
        if !apart.is_empty()
            && let Some(found) = apart.get(slots, &id)
        {
            return Some(found.slot);
        }
        live.get_or_insert(slots, id, new)
    }

    /// Moves an entry from one place to another.
    pub(crate) fn place<S>(
        &mut self,
        slots: &Slots<I, S>,
        collection: &I,
        slot: SlotIndex,
        from: EntryPlace,
        to: EntryPlace,
    ) {
        let id = slots.get(slot).id;
        let CollectionOrder { live, apart } = self.order_mut(collection);
        let moved = match from {
            EntryPlace::Live => live.remove(slots, &id),
            EntryPlace::Apart => apart.remove(slots, &id),
            EntryPlace::Removed => self.removed.remove(&id),
        };
        debug_assert_eq!(moved, Some(slot), "order-agrees: the slot of {id:?} says where it is");
        let CollectionOrder { live, apart } = self.order_mut(collection);
        match to {
            EntryPlace::Live => live.get_or_insert(slots, id, slot),
            EntryPlace::Apart => apart.get_or_insert(slots, id, slot),
            EntryPlace::Removed => {
                self.removed.insert(id, slot);
                None
            }
        };
    }

    /// Moves an entry that exists, and was just found, to those that the message has removed.
    #[inline]
    pub(crate) fn place_removed<S>(&mut self, slots: &Slots<I, S>, number: OrderIndex, found: Located) {
        self.orders[number as usize].live.remove_located(found);
        self.removed.insert(slots.get(found.slot).id, found.slot);
    }

    /// Takes an entry out. The order of a collection that has no more of them is dropped.
    pub(crate) fn remove<S>(
        &mut self,
        slots: &Slots<I, S>,
        collection: &I,
        id: &I,
        from: EntryPlace,
    ) -> bool {
        let was_removed = from == EntryPlace::Removed && self.removed.remove(id).is_some();
        let Some(number) = self.number(collection) else { return was_removed };
        let CollectionOrder { live, apart } = &mut self.orders[number as usize];
        let was_there = match from {
            EntryPlace::Live => live.remove(slots, id).is_some(),
            EntryPlace::Apart => apart.remove(slots, id).is_some(),
            EntryPlace::Removed => was_removed,
        };
        if live.is_empty() && apart.is_empty() {
            self.drop_order(collection);
        }
        was_there
    }

    /// Drops the order of a collection that has no entries.
    fn drop_if_empty(&mut self, collection: &I) {
        if let Some(number) = self.number(collection)
            && let CollectionOrder { live, apart } = &self.orders[number as usize]
            && live.is_empty()
            && apart.is_empty()
        {
            self.drop_order(collection);
        }
    }

    fn drop_order(&mut self, collection: &I) -> Option<CollectionOrder<I>> {
        self.recent.set(None);
        let number = self.numbers.remove(collection)?;
        Some(self.orders.remove(number as usize))
    }

    /// How many entries a collection has.
    pub(crate) fn len(&self, number: OrderIndex) -> usize {
        self.orders[number as usize].live.len()
    }

    /// The slots of the entries that there are, in order.
    #[inline]
    pub(crate) fn live(&self, number: OrderIndex) -> &SlotTree<I> {
        &self.orders[number as usize].live
    }

    /// The slots of the entries in this range, in order.
    pub(crate) fn range<'t, S>(
        &'t self,
        slots: &'t Slots<I, S>,
        number: OrderIndex,
        ids: IdBounds<I>,
    ) -> Range<'t, I> {
        self.live(number).range(slots, &ids)
    }

    /// Takes a collection out that is at home elsewhere: the slots of all its entries, and of those
    /// that the message has removed.
    pub(crate) fn take(&mut self, collection: &I) -> Vec<SlotIndex> {
        let mut slots: Vec<SlotIndex> = Vec::new();
        self.removed.take(collection, &mut slots);
        if let Some(CollectionOrder { live, apart }) = self.drop_order(collection) {
            slots.extend(live.iter().chain(apart.iter()));
        }
        slots
    }

    /// The entries of a collection in this range that there are, and those that a snapshot may see,
    /// in order. Some may have the same id, if the collection was cleared.
    pub(crate) fn range_of_all<'t, S>(
        &'t self,
        slots: &'t Slots<I, S>,
        collection: &I,
        ids: IdBounds<I>,
    ) -> impl Iterator<Item = SlotIndex> + use<'t, I, S> {
        let order = self.number(collection).map(|number| &self.orders[number as usize]);
        let there = order.into_iter().flat_map(|CollectionOrder { live, apart }| [live, apart]);
        let cleared = self.cleared.get(collection).into_iter().flatten().map(|cleared| &cleared.entries);
        let trees = there.chain(cleared);
        let mut ranges: Vec<_> = trees.map(|tree| tree.range(slots, &ids).peekable()).collect();
        std::iter::from_fn(move || {
            let heads = ranges.iter_mut().enumerate();
            let heads = heads.filter_map(|(at, range)| range.peek().map(|slot| (slots.get(*slot).id, at)));
            let (_, at) = heads.min()?;
            ranges[at].next()
        })
    }

    /// The running message clears a collection, having kept so many before-images: it has none of
    /// its entries any more.
    pub(crate) fn clear(&mut self, collection: I, images: usize) {
        debug_assert!(!self.is_clearing(&collection), "cleared-once: {collection:?} is cleared already");
        let order = self.number(&collection).map(|number| &mut self.orders[number as usize]);
        let entries = order.map(|order| std::mem::take(&mut order.live)).unwrap_or_default();
        self.clearing.push(Clearing { collection, entries, images });
    }

    /// Whether the running message has cleared this collection.
    pub(crate) fn is_clearing(&self, collection: &I) -> bool {
        self.clearing.iter().any(|clearing| clearing.collection == *collection)
    }

    /// What the running message has cleared.
    #[inline]
    pub(crate) fn clearing(&self) -> &[Clearing<I>] {
        &self.clearing
    }

    /// Takes what the running message has cleared: what it has cleared last.
    pub(crate) fn pop_clearing(&mut self) -> Option<Clearing<I>> {
        self.clearing.pop()
    }

    /// The message is undone that cleared this. All that it did to the collection afterwards is
    /// undone.
    pub(crate) fn put_back<S>(
        &mut self,
        slots: &Slots<I, S>,
        Clearing { collection, entries, .. }: Clearing<I>,
    ) {
        let order = self.order_mut(&collection);
        // What it had removed before it cleared the collection, and inserted again.
        let others = std::mem::replace(&mut order.live, entries);
        for slot in others.iter() {
            let id = slots.get(slot).id;
            let live = &mut self.order_mut(&collection).live;
            // Where the collection is lent, there may be two of an id, until all are taken back.
            let lent = live.remove(slots, &id);
            live.get_or_insert(slots, id, slot);
            if let Some(lent) = lent {
                self.removed.insert(id, lent);
            }
        }
    }

    /// The message that cleared this has succeeded in `epoch`.
    pub(crate) fn keep_cleared(&mut self, collection: I, entries: SlotTree<I>, epoch: Epoch) {
        self.cleared.entry(collection).or_default().push_back(Cleared { epoch, entries });
        self.drop_if_empty(&collection);
    }

    /// Whether nothing was cleared that is not freed yet.
    #[inline]
    pub(crate) fn has_no_cleared(&self) -> bool {
        self.cleared.is_empty()
    }

    /// When the entry in this slot was cleared, if it was.
    pub(crate) fn cleared_in<S>(&self, slots: &Slots<I, S>, slot: SlotIndex) -> Option<Epoch> {
        if self.has_no_cleared() {
            return None;
        }
        let id = &slots.get(slot).id;
        let mut cleared = self.cleared.get(&id.collection()?)?.iter();
        cleared
            .find(|cleared| cleared.entries.get(slots, id).is_some_and(|found| found.slot == slot))
            .map(|cleared| cleared.epoch)
    }

    /// The slots of entries with this id that were cleared.
    pub(crate) fn all_cleared<S>(&self, slots: &Slots<I, S>, id: &I) -> impl Iterator<Item = SlotIndex> {
        let cleared = id.collection().and_then(|collection| self.cleared.get(&collection));
        cleared
            .into_iter()
            .flatten()
            .filter_map(|cleared| cleared.entries.get(slots, id).map(|found| found.slot))
    }

    /// Takes an entry of what was cleared first of a collection, and says whether it was the last
    /// of those.
    pub(crate) fn take_cleared(&mut self, collection: &I) -> Option<(SlotIndex, bool)> {
        let all = self.cleared.get_mut(collection)?;
        let first = all.front_mut()?;
        let slot = first.entries.pop_first()?;
        let is_last = first.entries.is_empty();
        if is_last {
            all.pop_front();
            if all.is_empty() {
                self.cleared.remove(collection);
            }
        }
        Some((slot, is_last))
    }

    /// The slots of all entries there are, with their collections: for the checks of tests.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = (I, SlotIndex, EntryPlace)> {
        self.numbers.iter().flat_map(|(collection, number)| {
            let CollectionOrder { live, apart } = &self.orders[*number as usize];
            let of = |tree: &SlotTree<I>, place| {
                Vec::from_iter(tree.iter().map(|slot| (*collection, slot, place)))
            };
            assert!(self.removed.is_empty() && self.clearing.is_empty(), "order-agrees: no message runs");
            of(live, EntryPlace::Live).into_iter().chain(of(apart, EntryPlace::Apart))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::object::{CollectionOf, Ownership};
    use crate::store::slot::Slot;

    /// The header of a collection, or an entry: with a key above 0.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    struct Id(u64, u64);

    impl ObjectId for Id {
        const COLLECTION: Option<CollectionOf<Id>> = Some(|id| (id.1 > 0).then_some(Id(id.0, 0)));
    }

    // A transaction clears a collection of another shard, adds an entry that came along, and fails.
    // At home the entry would have been removed by itself, and kept its slot. Lent, it has two
    // slots then: the one that came along is among those that were cleared, and another is live.
    // Both are to be given back; one that is in no tree is lost for good.
    #[test]
    fn an_entry_that_was_cleared_and_added_gives_both_its_slots_back() {
        let (mut slots, mut orders) = (Slots::<Id, ()>::new(), Orders::new(RandomState::with_seed(7)));
        let collection = Id(7, 0);
        let lend = |slots: &mut Slots<Id, ()>, orders: &mut Orders<Id>, key| {
            let slot = slots.push(Slot::empty(Id(7, key), Ownership::default()));
            orders.insert(slots, collection, Id(7, key), slot);
            slot
        };
        let came_along = [1, 2, 3].map(|key| lend(&mut slots, &mut orders, key));
        orders.clear(collection, 0);
        let added = [2, 4].map(|key| lend(&mut slots, &mut orders, key));
        let clearing = orders.pop_clearing().expect("it was cleared");
        orders.put_back(&slots, clearing);
        let mut given_back = orders.take(&collection);
        given_back.sort_unstable();
        assert_eq!(given_back, [came_along.as_slice(), &added].concat());
        assert!(orders.removed.is_empty() && orders.number(&collection).is_none());
    }
}
