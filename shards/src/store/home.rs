//! What a shard begins with: its objects, put together from what logs and checkpoints say.

use arrayvec::ArrayVec;

use crate::epoch::Epoch;
use crate::object::{Change, ObjectId, Ownership, Stored};
use crate::prefetch::Prefetch;
use crate::store::index::IdHash;
use crate::store::partition::Partition;
use crate::store::slot::{NO_SLOT, Slot};
use crate::store::unordered::Unordered;

/// How many changes are looked up at once. The lines of as many are on their way together.
const STAGE: usize = 32;

/// The objects of a shard-to-be, as its logs leave them.
///
/// It is the table the shard will use, and it is handed over as it is. A table for each log, one of
/// all of them, and a list for the shard took 1.9 times the memory of the running database, and 2.9
/// times where objects had been written again since the checkpoint.
pub struct Home<A: Stored> {
    partition: Partition<A::Id, A::State>,
    /// Entries of collections, until they are put in order.
    entries: Option<Unordered<A::Id>>,
}

/// The entries of a home that still takes changes over.
#[inline]
fn entries<I>(entries: &mut Option<Unordered<I>>) -> &mut Unordered<I> {
    entries.as_mut().expect("objects-come-first: a home that was finished takes nothing over")
}

impl<A: Stored> Home<A> {
    /// Without objects. `table_seed` keys the table, as [`Shard::new`](crate::Shard::new) says.
    pub fn new(table_seed: u64) -> Self {
        let partition = Partition::new(table_seed);
        Home { entries: Some(Unordered::new(partition.hasher())), partition }
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
                match change.id().collection() {
                    None => self.partition.prefetch_index::<P>(hash),
                    Some(_) => entries(&mut self.entries).prefetch_index::<P>(hash),
                }
                hashes.push(hash);
            }
            for (hash, change) in hashes.iter().zip(changes.as_slice()) {
                match change.id().collection() {
                    None => drop(self.partition.seek::<P>(*hash)),
                    Some(_) => self.partition.prefetch_slot::<P>(entries(&mut self.entries).seek(*hash)),
                }
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
        let partition = &mut self.partition;
        let exists = object.is_some();
        let existed = match (object, id.collection()) {
            (Some((ownership, state)), None) => {
                let (slot, _) = partition.find(hash, &id);
                let existed = slot != NO_SLOT;
                let slot = if existed { slot } else { partition.insert(hash, id, ownership) };
                Self::fill(partition.slot_mut(slot), ownership, state);
                existed
            }
            (Some((ownership, state)), Some(collection)) => {
                let (slot, existed) =
                    entries(&mut self.entries).find_or_insert(partition, hash, &collection, id);
                Self::fill(partition.slot_mut(slot), ownership, state);
                existed
            }
            (None, None) => {
                let (slot, _) = partition.find(hash, &id);
                if slot != NO_SLOT {
                    partition.slot_mut(slot).state = None;
                    partition.release(slot);
                }
                slot != NO_SLOT
            }
            (None, Some(collection)) => entries(&mut self.entries).remove(partition, hash, &collection, &id),
        };
        partition.count(existed, exists);
    }

    fn fill(slot: &mut Slot<A::Id, A::State>, ownership: Ownership, state: A::State) {
        slot.set_ownership(ownership);
        slot.state = Some(state);
        // It was there before all snapshots that are to come.
        slot.stamp(Epoch(0));
    }

    /// The entries that came before go; those that come later stay.
    fn clear(&mut self, collection: &A::Id) {
        let cleared = entries(&mut self.entries).clear(&mut self.partition, collection);
        self.partition.count_cleared(cleared);
    }

    /// All that logs and checkpoints say was taken over: the entries of collections are put in
    /// order, which takes as long as to sort them. The shard that gets this would do it.
    pub fn finish(&mut self) {
        if let Some(mut entries) = self.entries.take() {
            entries.finish(&mut self.partition);
        }
    }

    /// The table of the shard.
    pub(crate) fn into_partition(mut self) -> Partition<A::Id, A::State> {
        self.finish();
        self.partition
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

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::object::{CollectionOf, OwnerId};
    use crate::prefetch::NoPrefetch;
    use crate::store::slot::EntryPlace;

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

    /// An entry of a shelf, or with the key 0 the shelf.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    struct Id(u64, u64);

    impl ObjectId for Id {
        const COLLECTION: Option<CollectionOf<Id>> = Some(|id| (id.1 > 0).then_some(Id(id.0, 0)));
    }

    struct Shelves;

    impl Stored for Shelves {
        type Id = Id;
        type State = usize;
    }

    const SHELVES: u64 = 3;

    /// A finished home has these objects, and each entry in the order of its collection.
    fn check(mut home: Home<Shelves>, expected: &BTreeMap<Id, usize>) {
        assert_eq!(home.len(), expected.len());
        home.finish();
        let found: BTreeMap<_, _> = home.objects().map(|(id, _, state)| (id, *state)).collect();
        assert_eq!(found, *expected);
        let partition = home.into_partition();
        assert!(partition.has_all_slots(), "only-the-absent-are-released: a slot is lost");
        for shelf in (0..SHELVES).map(|shelf| Id(shelf, 0)) {
            let entries = partition.orders.all().filter(|(of, ..)| *of == shelf);
            let ids = entries.map(|(_, slot, place)| {
                assert_eq!(place, EntryPlace::Live);
                partition.slot(slot).id
            });
            let there = expected.keys().filter(|id| id.collection() == Some(shelf)).copied();
            assert_eq!(Vec::from_iter(ids), Vec::from_iter(there), "order-agrees: of {shelf:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 2 } else { 64 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        // Entries are put, put again, removed and cleared, beside objects that are no entries:
        // slots go from one collection to another, and come back.
        #[test]
        fn entries_are_in_order_when_all_was_taken_over(
            steps in prop::collection::vec((0..SHELVES, 0_u64..40, 0_u8..80), 1..if cfg!(miri) { 60 } else { 800 }),
        ) {
            let (mut home, mut expected) = (Home::<Shelves>::new(7), BTreeMap::<Id, usize>::new());
            let mut waiting = Vec::new();
            for (nth, (shelf, key, what)) in steps.into_iter().enumerate() {
                let id = Id(shelf, key);
                waiting.push(match what {
                    0 => {
                        expected.retain(|id, _| id.collection() != Some(Id(shelf, 0)));
                        Change::Clear(Id(shelf, 0))
                    }
                    1..30 => {
                        expected.remove(&id);
                        Change::Remove(id)
                    }
                    _ => {
                        expected.insert(id, nth);
                        Change::Put(id, Ownership::default(), nth)
                    }
                });
                if what % 7 == 0 {
                    home.apply_all::<NoPrefetch>(&mut waiting);
                }
            }
            home.apply(waiting.drain(..));
            check(home, &expected);
        }
    }

    // A queue: what comes and goes leaves no more behind than as much again.
    #[test]
    fn a_list_forgets_what_is_gone() {
        let mut home = Home::<Shelves>::new(7);
        for nth in 1..2_000 {
            home.apply([Change::Put(Id(0, nth), Ownership::default(), 0), Change::Remove(Id(0, nth - 1))]);
            assert!(entries(&mut home.entries).listed() < 80, "after {nth}");
        }
        check(home, &BTreeMap::from([(Id(0, 1_999), 0)]));
    }
}
