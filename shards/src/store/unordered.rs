//! The entries of collections while a log is read: found by hash, and put in order at the end.
//!
//! A log has entries in the order in which they were written, and a checkpoint in that of their
//! slots. To put each into the tree of its collection at once took half a microsecond at a million
//! entries, most of it waiting for memory: a search looks at the slots of a leaf. Here an entry is
//! found as an object is, and each collection is sorted once.
//!
//! Invariant: an entry that exists is in the index, and in the list of its collection at least
//! once. A list may have slots beside that are free by now, or somebody else's.

use std::cmp::Ordering;
use std::collections::HashMap;

use ahash::RandomState;

use crate::object::{ObjectId, Ownership};
use crate::prefetch::Prefetch;
use crate::store::index::{IdHash, Index};
use crate::store::partition::Partition;
use crate::store::slot::{NO_SLOT, Slot, SlotIndex};
use crate::store::tree::SlotTree;

/// So many entries are sorted together. With their ids they take as much memory for a while as
/// their slots: those of a larger collection are parted first. (Parts of tests are small.)
const SORTED_MAX: usize = if cfg!(test) { 16 } else { 1 << 16 };
/// Of each part so many ids are looked at to find where it ends.
const SAMPLES: usize = 8;

/// A list may have as many slots that are not of its collection as are of it, and so many more.
const STALE: usize = 64;

/// The slots that a collection's entries were put into.
struct SlotList<I> {
    collection: I,
    slots: Vec<SlotIndex>,
    /// How many entries there are.
    len: usize,
}

/// Entries that are not in order.
pub(super) struct Unordered<I> {
    index: Index,
    lists: Vec<SlotList<I>>,
    numbers: HashMap<I, usize, RandomState>,
    /// The number of the list that was used last.
    recent: usize,
}

impl<I: ObjectId> Unordered<I> {
    pub(super) fn new(hasher: RandomState) -> Self {
        let numbers = HashMap::with_hasher(hasher);
        Unordered { index: Index::new(), lists: Vec::new(), numbers, recent: 0 }
    }

    /// Prefetches where the entry of this hash is in the index.
    #[inline]
    pub(super) fn prefetch_index<P: Prefetch>(&self, hash: IdHash) {
        self.index.prefetch::<P>(hash);
    }

    /// The slot that an entry of this hash is likely in.
    #[inline]
    pub(super) fn seek(&self, hash: IdHash) -> SlotIndex {
        self.index.find(hash, |_| Some(())).map_or(NO_SLOT, |(slot, ())| slot)
    }

    /// The slot of an entry, or [`NO_SLOT`].
    #[inline]
    fn find<S>(&self, partition: &Partition<I, S>, hash: IdHash, id: &I) -> SlotIndex {
        let look = |slot| (partition.slot(slot).id == *id).then_some(());
        self.index.find(hash, look).map_or(NO_SLOT, |(slot, ())| slot)
    }

    fn list(&mut self, collection: &I) -> &mut SlotList<I> {
        if self.lists.get(self.recent).is_none_or(|list| list.collection != *collection) {
            self.recent = *self.numbers.entry(*collection).or_insert_with(|| {
                self.lists.push(SlotList { collection: *collection, slots: Vec::new(), len: 0 });
                self.lists.len() - 1
            });
        }
        &mut self.lists[self.recent]
    }

    /// The slot of an entry, and whether it had one before.
    pub(super) fn find_or_insert<S>(
        &mut self,
        partition: &mut Partition<I, S>,
        hash: IdHash,
        collection: &I,
        id: I,
    ) -> (SlotIndex, bool) {
        let found = self.find(partition, hash, &id);
        if found != NO_SLOT {
            return (found, true);
        }
        let slot = partition.put(Slot::empty(id, Ownership::default()));
        self.index.insert(hash, slot);
        let list = self.list(collection);
        list.slots.push(slot);
        list.len += 1;
        (slot, false)
    }

    /// Removes an entry, and says whether it was there.
    pub(super) fn remove<S>(
        &mut self,
        partition: &mut Partition<I, S>,
        hash: IdHash,
        collection: &I,
        id: &I,
    ) -> bool {
        let slot = self.find(partition, hash, id);
        if slot == NO_SLOT {
            return false;
        }
        let was_there = self.index.remove(hash, slot);
        debug_assert!(was_there, "found-once: {id:?} was found");
        partition.free(slot);
        let list = self.list(collection);
        list.len -= 1;
        if list.slots.len() > 2 * list.len + STALE {
            let is_of_it = |slot: &SlotIndex| is_entry_of(partition, *slot, collection);
            list.slots.retain(is_of_it);
            list.slots.sort_unstable();
            list.slots.dedup();
        }
        true
    }

    /// Removes all entries of a collection, and says how many there were.
    pub(super) fn clear<S>(&mut self, partition: &mut Partition<I, S>, collection: &I) -> usize {
        let list = self.list(collection);
        let (slots, len) = (std::mem::take(&mut list.slots), std::mem::take(&mut list.len));
        for slot in slots {
            // One that is there twice is free the second time.
            if is_entry_of(partition, slot, collection) {
                let was_there = self.index.remove(partition.hash(&partition.slot(slot).id), slot);
                debug_assert!(was_there, "found-once: an entry that exists is in the index");
                partition.free(slot);
            }
        }
        len
    }

    /// How many slots are in lists.
    #[cfg(test)]
    pub(super) fn listed(&self) -> usize {
        self.lists.iter().map(|list| list.slots.len()).sum()
    }

    /// Puts all entries in order.
    pub(super) fn finish<S>(&mut self, partition: &mut Partition<I, S>) {
        // Its memory is needed now.
        self.index = Index::new();
        self.numbers.clear();
        for SlotList { collection, slots, len } in self.lists.drain(..) {
            let mut tree = SlotTree::default();
            for part in part(partition, &collection, slots) {
                let with_id = |slot: SlotIndex| (partition.slot(slot).id, slot);
                let mut sorted = Vec::from_iter(part.into_iter().map(with_id));
                sorted.sort_unstable_by(by_id);
                sorted.dedup_by_key(|(_, slot)| *slot);
                sorted.into_iter().for_each(|(id, slot)| tree.push_last(id, slot));
            }
            assert_eq!(tree.len(), len, "order-agrees: each entry of {collection:?} was put into a list");
            if !tree.is_empty() {
                partition.orders.insert_all(collection, tree);
            }
        }
    }
}

/// The order of entries that are each in a slot of its own. (By `cmp` of the ids, sorting took 164
/// instructions an entry more.)
#[inline]
fn by_id<I: ObjectId>((id, slot): &(I, SlotIndex), (other, its): &(I, SlotIndex)) -> Ordering {
    if id < other {
        Ordering::Less
    } else if slot == its {
        Ordering::Equal
    } else {
        Ordering::Greater
    }
}

/// The slots of a list that are of its collection, in parts: of each the ids are below those of the
/// next.
fn part<I: ObjectId, S>(
    partition: &Partition<I, S>,
    collection: &I,
    slots: Vec<SlotIndex>,
) -> Vec<Vec<SlotIndex>> {
    let count = slots.len().div_ceil(SORTED_MAX);
    let id = |slot: &SlotIndex| partition.slot(*slot).id;
    let sampled = slots.iter().step_by((slots.len() / (count * SAMPLES).max(1)).max(1));
    let mut sample: Vec<I> = sampled.map(id).filter(|id| id.collection() == Some(*collection)).collect();
    sample.sort_unstable();
    let starts: Vec<I> = sample.into_iter().step_by(SAMPLES).skip(1).collect();
    let mut parts: Vec<Vec<SlotIndex>> = (0..=starts.len()).map(|_| Vec::new()).collect();
    for slot in slots {
        if is_entry_of(partition, slot, collection) {
            let id = partition.slot(slot).id;
            parts[starts.partition_point(|start| *start <= id)].push(slot);
        }
    }
    parts
}

/// Whether an entry of this collection is in a slot.
fn is_entry_of<I: ObjectId, S>(partition: &Partition<I, S>, slot: SlotIndex, collection: &I) -> bool {
    let slot = partition.slot(slot);
    slot.is_live() && slot.id.collection().as_ref() == Some(collection)
}
