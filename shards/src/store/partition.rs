//! A shard's objects: an index from id to slot, and the slots.
//!
//! A slot never moves while its object lives. docs/BENCHMARKS.md has the measurements behind this
//! shape.

use ahash::RandomState;

use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::object::{ObjectId, Ownership};
use crate::prefetch::Prefetch;
use crate::store::id_range::{IdBounds, RangeEnd};
use crate::store::index::{IdHash, Index};
use crate::store::order::{Clearing, OrderIndex, Orders};
use crate::store::slot::{EntryPlace, NO_SLOT, Slot, SlotIndex};
use crate::store::slots::Slots;
use crate::store::tree::{Located, Range};
use crate::store::version::Versions;

/// Up to about this size of a partition prefetching costs more than it saves: it does at 4 MB and
/// does not at 8 (docs/BENCHMARKS.md). The simulator's partitions are small, and some are to be
/// worked on in stages, too.
const CACHED_BYTES: usize = if cfg!(test) { 1 << 9 } else { 5 << 20 };
/// Bytes of the index for each object, about.
const BYTES_INDEXED: usize = 16;
/// Of a large object only the beginning is prefetched.
const PREFETCHED_BYTES_MAX: usize = 256;
/// Buckets of a growing index moved at each turn, some microseconds' worth, so that it ends growing
/// though nothing is inserted.
const GROWN_PER_TURN: usize = 128;

/// The objects of one shard.
pub(crate) struct Partition<I, S> {
    hasher: RandomState,
    index: Index,
    /// Where entries of collections are, which are not in the index.
    pub(crate) orders: Orders<I>,
    slots: Slots<I, S>,
    free: Vec<SlotIndex>,
    /// The slot that is lent to the guest of each pair, once there was one. It is never free.
    guest: SlotIndex,
    /// How many objects exist. There may be more slots: see [`Slot::state`].
    objects: usize,
}

impl<I: ObjectId, S> Partition<I, S> {
    /// An empty partition whose table is keyed by `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        // Four keys from one seed; ahash mixes them further.
        let hasher = RandomState::with_seeds(
            seed,
            seed.rotate_left(17) ^ 0x9e37,
            !seed,
            seed.rotate_left(41) ^ 0x79b9,
        );
        let orders = Orders::new(hasher.clone());
        Partition {
            hasher,
            index: Index::new(),
            orders,
            slots: Slots::new(),
            free: Vec::new(),
            guest: NO_SLOT,
            objects: 0,
        }
    }

    /// What hashes its ids.
    pub(super) fn hasher(&self) -> RandomState {
        self.hasher.clone()
    }

    /// How many objects exist.
    pub(crate) fn len(&self) -> usize {
        self.objects
    }

    /// Counts an object that came to exist, or ceased to.
    pub(crate) fn count(&mut self, existed: bool, exists: bool) {
        self.objects = self.objects + usize::from(exists) - usize::from(existed);
    }

    /// How many slots there are, with an object or not.
    pub(crate) fn slots_len(&self) -> usize {
        self.slots.len()
    }

    /// The slots from `from` on, at most `most`, objects or not, with their numbers.
    pub(crate) fn slots(
        &self,
        from: SlotIndex,
        most: usize,
    ) -> impl Iterator<Item = (SlotIndex, &Slot<I, S>)> {
        self.slots.from(from).take(most)
    }

    #[inline]
    pub(crate) fn hash(&self, id: &I) -> IdHash {
        IdHash::new(self.hasher.hash_one(id))
    }

    /// The slot of the object `id`, whose hash is `hash`, or [`NO_SLOT`] if there is none; and
    /// whether it is reserved.
    #[inline]
    pub(crate) fn find(&self, hash: IdHash, id: &I) -> (SlotIndex, bool) {
        if let Some(collection) = id.collection() {
            return (self.orders.find(&self.slots, &collection, id), false);
        }
        let look = |slot| {
            let slot = self.slot(slot);
            (slot.id == *id).then(|| slot.is_reserved())
        };
        self.index.find(hash, look).unwrap_or((NO_SLOT, false))
    }

    /// The same for a pair, which no entry of a collection is in; with whether somebody waited for
    /// the object lately: see [`Slot::cool_down`].
    #[inline]
    pub(crate) fn find_of_pair(&self, hash: IdHash, id: &I) -> (SlotIndex, bool, bool) {
        let look = |slot| {
            let slot = self.slot(slot);
            (slot.id == *id).then(|| (slot.is_reserved(), slot.is_warm()))
        };
        let found = self.index.find(hash, look);
        found.map_or((NO_SLOT, false, false), |(slot, (is_reserved, is_warm))| (slot, is_reserved, is_warm))
    }

    /// Whether looking objects up from memory takes so long that it pays to prefetch.
    pub(crate) fn outgrew_the_cache(&self) -> bool {
        self.index.len() * (size_of::<Slot<I, S>>() + BYTES_INDEXED) > CACHED_BYTES
    }

    /// The slots of the entries of a collection in this range, in order.
    pub(crate) fn range(&self, order: OrderIndex, ids: IdBounds<I>) -> Range<'_, I> {
        self.orders.range(&self.slots, order, ids)
    }

    /// The slot of the entry at an end of this range.
    #[inline]
    pub(crate) fn end_of_range(
        &self,
        order: OrderIndex,
        ids: &IdBounds<I>,
        end: RangeEnd,
    ) -> Option<Located> {
        let live = self.orders.live(order);
        match end {
            RangeEnd::Front => live.first_in(&self.slots, ids),
            RangeEnd::Back => live.last_in(&self.slots, ids),
        }
    }

    /// As [`Orders::find_in`].
    #[inline]
    pub(crate) fn find_entry(&self, order: OrderIndex, id: &I) -> SlotIndex {
        self.orders.find_in(&self.slots, order, id)
    }

    /// The slot of the entry `id` if it exists.
    #[inline]
    pub(crate) fn find_live(&self, order: OrderIndex, id: &I) -> Option<Located> {
        self.orders.live(order).get(&self.slots, id)
    }

    /// As [`Orders::range_of_all`].
    pub(crate) fn range_of_all(&self, collection: &I, ids: IdBounds<I>) -> impl Iterator<Item = SlotIndex> {
        self.orders.range_of_all(&self.slots, collection, ids)
    }

    /// As [`Orders::all_cleared`].
    pub(crate) fn all_cleared(&self, id: &I) -> impl Iterator<Item = SlotIndex> {
        self.orders.all_cleared(&self.slots, id)
    }

    /// As [`Orders::put_back`].
    pub(crate) fn put_back_cleared(&mut self, clearing: Clearing<I>) {
        self.orders.put_back(&self.slots, clearing);
    }

    /// Prefetches where the index has `hash`.
    #[inline]
    pub(crate) fn prefetch_index<P: Prefetch>(&self, hash: IdHash) {
        self.index.prefetch::<P>(hash);
    }

    /// The slot an object of this hash is likely in, which is prefetched.
    #[inline]
    pub(crate) fn seek<P: Prefetch>(&self, hash: IdHash) -> SlotIndex {
        let Some((slot, ())) = self.index.find(hash, |_| Some(())) else { return NO_SLOT };
        P::prefetch(self.slot(slot), size_of::<Slot<I, S>>().min(PREFETCHED_BYTES_MAX));
        slot
    }

    /// Prefetches a slot, if it is one.
    #[inline]
    pub(super) fn prefetch_slot<P: Prefetch>(&self, slot: SlotIndex) {
        if slot != NO_SLOT {
            P::prefetch(self.slot(slot), size_of::<Slot<I, S>>().min(PREFETCHED_BYTES_MAX));
        }
    }

    /// Whether `slot` still holds the object `id`, which is not reserved.
    #[inline]
    pub(crate) fn holds(&self, slot: SlotIndex, id: &I) -> bool {
        let slot = self.slot(slot);
        slot.is_live() && !slot.is_reserved() && slot.id == *id
    }

    #[inline]
    pub(crate) fn slot(&self, slot: SlotIndex) -> &Slot<I, S> {
        self.slots.get(slot)
    }

    #[inline]
    pub(crate) fn slot_mut(&mut self, slot: SlotIndex) -> &mut Slot<I, S> {
        self.slots.get_mut(slot)
    }

    /// Two different slots at once.
    ///
    /// # Panics
    /// If they are the same.
    #[inline]
    pub(crate) fn slots_mut(&mut self, a: SlotIndex, b: SlotIndex) -> (&mut Slot<I, S>, &mut Slot<I, S>) {
        self.slots.two_mut(a, b)
    }

    /// Different slots at once, in the order asked; `None` for each that is [`NO_SLOT`].
    ///
    /// # Panics
    /// If two are the same.
    pub(crate) fn many_slots_mut<const N: usize>(
        &mut self,
        slots: [SlotIndex; N],
    ) -> [Option<&mut Slot<I, S>>; N] {
        self.slots.many_mut(slots)
    }

    /// Puts an object without a state into the table. There must be none of this id.
    pub(crate) fn insert(&mut self, hash: IdHash, id: I, ownership: Ownership) -> SlotIndex {
        debug_assert!(self.find(hash, &id).0 == NO_SLOT, "one-slot-per-object: {id:?} has one already");
        let slot = self.put(Slot::empty(id, ownership));
        match id.collection() {
            Some(collection) => self.orders.insert(&self.slots, collection, id, slot),
            None => self.index.insert(hash, slot),
        }
        slot
    }

    /// The slot of an entry of this collection, which is at home here, and whether it had one
    /// before.
    #[inline]
    pub(crate) fn find_or_insert_entry(&mut self, collection: &I, id: I) -> (SlotIndex, bool) {
        debug_assert!(id.collection() == Some(*collection), "{id:?} is an entry of another");
        let new = self.free.last().copied().unwrap_or_else(|| {
            SlotIndex::try_from(self.slots_len()).expect("a partition of 2^32 objects outgrows memory first")
        });
        if let Some(slot) = self.orders.find_or_insert(&self.slots, collection, id, new) {
            return (slot, true);
        }
        let put = self.put(Slot::empty(id, Ownership::default()));
        assert_eq!(put, new, "order-agrees: {id:?} is put where its order says");
        (put, false)
    }

    /// Puts an object that is at home elsewhere into a slot for a while, out of the index's sight.
    pub(crate) fn lend_slot(
        &mut self,
        id: I,
        epoch: Epoch,
        ownership: Ownership,
        state: Option<S>,
    ) -> SlotIndex {
        let Some(free) = self.free.pop() else { return self.put(Slot::lent(id, epoch, ownership, state)) };
        // In its place: a slot that is made and then moved there costs thirty instructions more.
        self.slot_mut(free).lend(id, epoch, ownership, state);
        free
    }

    /// The same for the one guest of a pair, which always has the same slot: whoever takes its
    /// state out of it has taken it back. Here it is taken out of `state`.
    #[inline]
    pub(crate) fn lend_to_guest(
        &mut self,
        id: I,
        epoch: Epoch,
        ownership: Ownership,
        state: &mut Option<S>,
    ) -> SlotIndex {
        let guest = self.guest;
        if guest == NO_SLOT {
            self.guest = self.lend_slot(id, epoch, ownership, state.take());
            return self.guest;
        }
        self.slot_mut(guest).lend_again(id, epoch, ownership, state);
        guest
    }

    /// The same for an entry of a collection: it is in the order of that, which is at home
    /// elsewhere.
    pub(crate) fn lend_entry(&mut self, collection: I, id: I, epoch: Epoch, state: Option<S>) -> SlotIndex {
        let slot = self.lend_slot(id, epoch, Ownership::default(), state);
        self.orders.insert(&self.slots, collection, id, slot);
        slot
    }

    /// Takes it out again.
    pub(crate) fn take_back(&mut self, slot: SlotIndex) -> (Ownership, Option<S>) {
        let lent = self.slot_mut(slot);
        debug_assert!(!lent.is_live(), "one-slot-per-object: {:?} is at home here", lent.id);
        let object = (lent.ownership(), lent.state.take());
        self.free.push(slot);
        object
    }

    pub(super) fn put(&mut self, fresh: Slot<I, S>) -> SlotIndex {
        if let Some(slot) = self.free.pop() {
            *self.slot_mut(slot) = fresh;
            return slot;
        }
        self.slots.push(fresh)
    }

    /// Frees a slot with all that is in it, which nothing leads to any more.
    pub(super) fn free(&mut self, index: SlotIndex) {
        let slot = self.slot_mut(index);
        slot.set_has_version(false);
        slot.let_go();
        slot.state = None;
        self.free.push(index);
    }

    /// Frees one of the entries that were cleared first of a collection, and says whether it was
    /// the last of those. Nobody sees it any more.
    pub(crate) fn free_cleared(&mut self, collection: &I) -> bool {
        let (index, is_last) =
            self.orders.take_cleared(collection).expect("what was cleared is there until it is freed");
        self.free(index);
        is_last
    }

    /// So many objects ceased to exist.
    pub(crate) fn count_cleared(&mut self, objects: usize) {
        self.objects -= objects;
    }

    /// The object in a slot as it was at the start of `snapshot`; `None` if it did not exist then.
    #[inline]
    pub(crate) fn read_at<'a>(
        &'a self,
        versions: &'a Versions<S>,
        index: SlotIndex,
        snapshot: Epoch,
    ) -> Option<(Ownership, &'a S)> {
        let slot = self.slot(index);
        let seen = versions.read(index, slot, snapshot)?;
        let cleared = self.orders.cleared_in(&self.slots, index);
        let is_seen = cleared.is_none_or(|cleared| snapshot <= cleared || fault::is_on(Fault::SeeCleared));
        is_seen.then_some(seen)
    }

    /// Takes an object without a state out of the table and frees its slot.
    pub(crate) fn release(&mut self, slot: SlotIndex) {
        let freed = self.slot_mut(slot);
        debug_assert!(freed.is_left(), "only-the-absent-are-released: {:?} still exists", freed.id);
        freed.let_go();
        let (id, place) = (freed.id, freed.place());
        let was_there = match id.collection() {
            Some(collection) => self.orders.remove(&self.slots, &collection, &id, place),
            None => self.index.remove(self.hash(&id), slot),
        };
        debug_assert!(was_there, "one-slot-per-object: a live slot is in the index");
        self.free.push(slot);
    }

    /// The message that may have changed this object has ended: its slot is released if it is not
    /// needed, and an entry of a collection is put where it belongs in the order.
    #[inline]
    pub(crate) fn message_ended(&mut self, index: SlotIndex) {
        let slot = self.slot(index);
        if slot.is_left() {
            return self.release(index);
        }
        if let Some(collection) = slot.id.collection()
            && slot.is_live()
        {
            let place = if slot.state.is_some() { EntryPlace::Live } else { EntryPlace::Apart };
            self.place(index, &collection, place);
        }
    }

    /// Puts an entry where it belongs in the order of its collection.
    #[inline]
    pub(crate) fn place(&mut self, index: SlotIndex, collection: &I, place: EntryPlace) {
        let slot = self.slot_mut(index);
        let before = slot.place();
        if before != place && !fault::is_on(Fault::DisagreeingOrder) {
            slot.set_place(place);
            self.orders.place(&self.slots, collection, index, before, place);
        }
    }

    /// As [`Partition::place`], of an entry that exists, was just found, and was removed then.
    #[inline]
    pub(crate) fn place_removed(&mut self, order: OrderIndex, found: Located) {
        let slot = self.slots.get_mut(found.slot);
        if slot.place() == EntryPlace::Live && !fault::is_on(Fault::DisagreeingOrder) {
            slot.set_place(EntryPlace::Removed);
            self.orders.place_removed(&self.slots, order, found);
        }
    }

    /// Whether each slot that is in no order and no index is free, or lent to guests: none is lost.
    #[cfg(test)]
    pub(crate) fn has_all_slots(&self) -> bool {
        let unused = self.slots.from(0).filter(|(_, slot)| !slot.is_live()).count();
        unused == self.free.len() + usize::from(self.guest != NO_SLOT)
    }

    /// Goes on with growing the index, if it is growing.
    #[inline]
    pub(crate) fn grow(&mut self) {
        self.index.move_some(GROWN_PER_TURN);
    }

    /// All objects, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot<I, S>> {
        let slots = self.slots.from(0);
        let is_there = |(index, slot): &(SlotIndex, &Slot<I, S>)| {
            slot.is_live() && self.orders.cleared_in(&self.slots, *index).is_none()
        };
        slots.filter(is_there).map(|(_, slot)| slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::slots::CHUNK_SLOTS;

    /// More than two chunks of objects, each with the number of its slot.
    fn partition() -> Partition<u64, u64> {
        let mut partition = Partition::new(7);
        for id in 0..(2 * CHUNK_SLOTS + 100) as u64 {
            let slot = partition.insert(partition.hash(&id), id, Ownership::default());
            partition.slot_mut(slot).state = Some(u64::from(slot));
        }
        partition
    }

    /// Of each slot that is there, what it holds.
    fn found<const N: usize>(partition: &mut Partition<u64, u64>, slots: [SlotIndex; N]) -> [Option<u64>; N] {
        partition.many_slots_mut(slots).map(|slot| slot.and_then(|slot| slot.state))
    }

    #[test]
    fn many_slots_are_found_in_the_order_asked() {
        let (mut partition, chunk) = (partition(), CHUNK_SLOTS as SlotIndex);
        let last = 2 * chunk + 99;
        for slots in [
            [0, 1, 2, 3],
            [3, 2, 1, 0],
            [chunk, chunk - 1, 0, last],
            [last, 2 * chunk, 2 * chunk - 1, chunk],
            [last, NO_SLOT, 0, NO_SLOT],
            [NO_SLOT; 4],
        ] {
            let there = slots.map(|slot| (slot != NO_SLOT).then_some(u64::from(slot)));
            assert_eq!(found(&mut partition, slots), there, "{slots:?}");
        }
        assert_eq!(found(&mut partition, []), []);
    }

    #[test]
    #[should_panic(expected = "the slots differ")]
    fn a_slot_twice_among_many_is_a_bug() {
        found(&mut partition(), [5, 7, 5]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

        #[test]
        fn any_different_slots_are_found(
            slots in prop::collection::hash_set(0..(2 * CHUNK_SLOTS + 100) as SlotIndex, 16),
        ) {
            let slots: [SlotIndex; 16] = Vec::from_iter(slots).try_into().expect("there are 16");
            prop_assert_eq!(found(&mut partition(), slots), slots.map(|slot| Some(u64::from(slot))));
        }
    }
}
