//! What the running message has removed of collections: from the ids of entries to their slots.

use std::collections::HashMap;

use ahash::RandomState;
use arrayvec::ArrayVec;

use crate::object::ObjectId;
use crate::store::slot::SlotIndex;

/// So many are looked through one by one. That takes a third of what a table does for one. (The
/// simulator's messages are short.)
const FEW: usize = if cfg!(test) { 1 } else { 8 };

/// Entries that were removed. (In a map by order, each removal allocated.)
pub(super) struct Removed<I> {
    few: ArrayVec<(I, SlotIndex), FEW>,
    /// The others. Empty unless `few` was full.
    many: HashMap<I, SlotIndex, RandomState>,
}

impl<I: ObjectId> Removed<I> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Removed { few: ArrayVec::new(), many: HashMap::with_hasher(hasher) }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    #[inline]
    pub(super) fn get(&self, id: &I) -> Option<SlotIndex> {
        match self.few.iter().find(|(of, _)| of == id) {
            Some((_, slot)) => Some(*slot),
            None if self.many.is_empty() => None,
            None => self.many.get(id).copied(),
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, id: I, slot: SlotIndex) {
        if let Err(full) = self.few.try_push((id, slot)) {
            let (id, slot) = full.element();
            self.many.insert(id, slot);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, id: &I) -> Option<SlotIndex> {
        match self.few.iter().position(|(of, _)| of == id) {
            Some(at) => Some(self.few.swap_remove(at).1),
            None if self.many.is_empty() => None,
            None => self.many.remove(id),
        }
    }

    /// Takes out those of a collection.
    pub(super) fn take(&mut self, collection: &I, slots: &mut Vec<SlotIndex>) {
        let is_of_it = |id: &I| id.collection().as_ref() == Some(collection);
        self.few.retain(|(id, slot)| {
            let stays = !is_of_it(id);
            if !stays {
                slots.push(*slot);
            }
            stays
        });
        // A table's places are looked at one by one, also where nothing is in them any more.
        if !self.many.is_empty() {
            slots.extend(self.many.extract_if(|id, _| is_of_it(id)).map(|(_, slot)| slot));
        }
    }
}
