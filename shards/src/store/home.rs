//! What a shard begins with: its objects, put together from what logs and checkpoints say.

use arrayvec::ArrayVec;

use crate::epoch::Epoch;
use crate::object::{Change, ObjectId, Ownership, Stored};
use crate::prefetch::Prefetch;
use crate::store::index::IdHash;
use crate::store::partition::Partition;
use crate::store::slot::{NO_SLOT, Slot, SlotIndex};

/// How many changes are looked up at once. The lines of as many are on their way together.
const STAGE: usize = 32;

/// The objects of a shard-to-be, as its logs leave them.
///
/// It is the table the shard will use, and it is handed over as it is. A table for each log, one of
/// all of them, and a list for the shard took 1.9 times the memory of the running database, and 2.9
/// times where objects had been written again since the checkpoint.
pub struct Home<A: Stored> {
    pub(crate) partition: Partition<A::Id, A::State>,
}

impl<A: Stored> Home<A> {
    /// Without objects. `table_seed` keys the table, as [`Shard::new`](crate::Shard::new) says.
    pub fn new(table_seed: u64) -> Self {
        Home { partition: Partition::new(table_seed) }
    }

    /// Takes over what came later than what is here.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change<A>>) {
        for change in changes {
            self.put(self.partition.hash(change.id()), change);
        }
    }

    /// As [`Home::apply`], with what the processor is to fetch asked for in time. Of a table out of
    /// cache that is most of a recovery's time: two lines of memory for each change.
    pub fn apply_all<P: Prefetch>(&mut self, changes: &mut Vec<Change<A>>) {
        let mut hashes: ArrayVec<IdHash, STAGE> = ArrayVec::new();
        let mut changes = changes.drain(..);
        while changes.len() > 0 {
            hashes.clear();
            for change in changes.as_slice().iter().take(STAGE) {
                let hash = self.partition.hash(change.id());
                self.partition.prefetch_index::<P>(hash);
                hashes.push(hash);
            }
            for hash in &hashes {
                self.partition.seek::<P>(*hash);
            }
            for (hash, change) in hashes.iter().zip(&mut changes) {
                self.put(*hash, change);
            }
        }
    }

    fn put(&mut self, hash: IdHash, change: Change<A>) {
        let (id, object) = match change {
            Change::Put(id, ownership, state) => (id, Some((ownership, state))),
            Change::Remove(id) => (id, None),
            Change::Clear(collection) => return self.clear(&collection),
        };
        let object = match (object, id.collection()) {
            (Some((ownership, state)), Some(collection)) => {
                return self.put_entry(&collection, id, ownership, state);
            }
            (object, _) => object,
        };
        let (slot, _) = self.partition.find(hash, &id);
        let (existed, exists) = (slot != NO_SLOT, object.is_some());
        match object {
            Some((ownership, state)) => {
                let slot = if existed { slot } else { self.partition.insert(hash, id, ownership) };
                Self::fill(self.partition.slot_mut(slot), ownership, state);
            }
            None if existed => self.remove(slot),
            None => {}
        }
        self.partition.count(existed, exists);
    }

    /// To search a large collection is most of the time that its recovery takes: so it is searched
    /// once.
    fn put_entry(&mut self, collection: &A::Id, id: A::Id, ownership: Ownership, state: A::State) {
        let (slot, existed) = self.partition.find_or_insert_entry(collection, id);
        Self::fill(self.partition.slot_mut(slot), ownership, state);
        self.partition.count(existed, true);
    }

    fn fill(slot: &mut Slot<A::Id, A::State>, ownership: Ownership, state: A::State) {
        slot.set_ownership(ownership);
        slot.state = Some(state);
        // It was there before all snapshots that are to come.
        slot.stamp(Epoch(0));
    }

    fn remove(&mut self, slot: SlotIndex) {
        self.partition.slot_mut(slot).state = None;
        self.partition.release(slot);
    }

    /// The entries that came before go; those that come later stay.
    fn clear(&mut self, collection: &A::Id) {
        for slot in self.partition.orders.entries_of(collection) {
            self.remove(slot);
            self.partition.count(true, false);
        }
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.partition.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All objects, in no particular order.
    pub fn objects(&self) -> impl Iterator<Item = (A::Id, Ownership, &A::State)> {
        self.partition.iter().filter_map(|slot| Some((slot.id, slot.ownership(), slot.state.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::object::OwnerId;
    use crate::prefetch::NoPrefetch;

    struct Numbers;

    impl Stored for Numbers {
        type Id = u64;
        type State = u64;
    }

    // Whatever is put, put again and removed, a home holds what a plain map does.
    #[test]
    fn a_home_holds_what_came_last() {
        let (mut home, mut expected) = (Home::<Numbers>::new(7), BTreeMap::new());
        let mut waiting = Vec::new();
        let mut random = 0x5eed_u64;
        for round in 0..if cfg!(miri) { 300 } else { 30_000 } {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = (random >> 40) % 500;
            let ownership = [Ownership::Owned(OwnerId(id)), Ownership::Shared, Ownership::Immutable]
                [(random >> 33) as usize % 3];
            let object = (!(random >> 36).is_multiple_of(3)).then_some((ownership, round));
            // Some at once, and the rest in the end: in the order they came.
            waiting.push(match object {
                Some((ownership, state)) => Change::Put(id, ownership, state),
                None => Change::Remove(id),
            });
            if round % 61 == 0 {
                home.apply_all::<NoPrefetch>(&mut waiting);
                assert!(waiting.is_empty());
            } else if round % 61 == 60 {
                home.apply(waiting.drain(..));
            }
            match object {
                Some(object) => drop(expected.insert(id, object)),
                None => drop(expected.remove(&id)),
            }
        }
        home.apply_all::<NoPrefetch>(&mut waiting);
        let found: BTreeMap<_, _> =
            home.objects().map(|(id, ownership, state)| (id, (ownership, *state))).collect();
        assert_eq!((home.len(), home.is_empty()), (expected.len(), false));
        assert_eq!(found, expected);
    }
}
