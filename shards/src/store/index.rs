//! From the hash of an id to its slot: a table of buckets that grows a few buckets at a time.
//!
//! A bucket is one cache line's worth: eight 32-bit hashes, then eight slot numbers plus one, 0 for
//! an empty place. A lookup compares the eight hashes at once, without a branch to mispredict, and
//! reads one line of the index and one slot. A bucket that is full overflows into the next. The
//! bucket of a hash is its highest bits, so doubling the table keeps the order of its entries and
//! growing is a sequential copy, done a few buckets at each insertion and each turn, from the end
//! of the old table, whose memory is given back as it empties. docs/BENCHMARKS.md has what was
//! measured against this: `hashbrown` over slot numbers reads three lines and stops everything when
//! it grows; linear probing over single entries mispredicts.
//!
//! Invariants. *found-once*: every slot in the index is in exactly one of the two tables. *no-gap*:
//! the places of a bucket are filled from the first, and an entry stands in its own bucket or in a
//! later one with only full buckets between.

use std::num::NonZeroU32;

use crate::prefetch::Prefetch;
use crate::store::equal::{HASHES, Wanted};
use crate::store::slot::SlotIndex;

/// A bucket's hashes, and then its slot numbers plus one. Plain integers, so that the allocator can
/// supply zeroed memory that is not touched before it is used.
type Bucket = [u32; 2 * PLACES];
const PLACES: usize = HASHES;
/// Stands for the slot of an entry removed from the old table; its hash is 0, which no entry has.
const REMOVED: u32 = u32::MAX;

const BUCKETS_MIN: usize = 8;
/// Buckets behind the last hash's bucket, for what overflows. The last of all is never full, so
/// that every search ends.
const OVERFLOW_BUCKETS: usize = 4;
/// Buckets of the old table moved at one insertion. The new table takes as many entries again
/// before it is full, so one for every five insertions would do.
const MOVED_PER_INSERT: usize = 4;
/// The old table's memory is given back in steps of this many buckets (1 MiB).
const GIVE_BACK_BUCKETS: usize = 1 << 14;

/// How many entries a table of `buckets` holds before it grows.
fn full(buckets: usize) -> usize {
    buckets * 5
}

/// Looks for this slot.
fn is_at(slot: SlotIndex) -> impl Fn(SlotIndex) -> Option<()> {
    move |found| (found == slot).then_some(())
}

/// The hash of an id: 32 bits, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdHash(NonZeroU32);

impl IdHash {
    /// The hash from the high half of a 64-bit one.
    #[inline]
    pub(crate) fn new(hash: u64) -> Self {
        IdHash(NonZeroU32::new((hash >> 32) as u32).unwrap_or(NonZeroU32::MIN))
    }
}

struct Table {
    buckets: Vec<Bucket>,
    /// What a hash is shifted right by to find its bucket.
    shift: u32,
}

impl Table {
    fn new(buckets: usize) -> Self {
        assert!(
            buckets.is_power_of_two() && buckets <= 1 << 31,
            "an index of {buckets} buckets is beyond its 32-bit hashes"
        );
        Table {
            buckets: vec![[0; 2 * PLACES]; buckets + OVERFLOW_BUCKETS],
            shift: 32 - buckets.trailing_zeros(),
        }
    }

    #[inline]
    fn bucket(&self, hash: u32) -> usize {
        (hash >> self.shift) as usize
    }

    fn size(&self) -> usize {
        1 << (32 - self.shift)
    }

    /// The bucket and place of the entry of `hash` that `look` accepts, its slot, and what `look`
    /// has seen there.
    #[inline]
    fn find<T>(
        &self,
        hash: IdHash,
        mut look: impl FnMut(SlotIndex) -> Option<T>,
    ) -> Option<(usize, usize, SlotIndex, T)> {
        let wanted = Wanted::new(hash.0.get());
        let mut at = self.bucket(hash.0.get());
        // The end of the table comes into sight only in an old one, whose end was moved.
        while let Some(bucket) = self.buckets.get(at) {
            let hashes: [u32; PLACES] = bucket[..PLACES].try_into().expect("a bucket begins with its hashes");
            let mut equal = wanted.equal_to(hashes);
            while equal != 0 {
                let place = equal.trailing_zeros() as usize % PLACES;
                let slot = bucket[PLACES + place].wrapping_sub(1);
                if let Some(seen) = look(slot) {
                    return Some((at, place, slot, seen));
                }
                equal &= equal - 1;
            }
            if bucket[2 * PLACES - 1] == 0 {
                break;
            }
            at += 1;
        }
        None
    }

    fn put(&mut self, hash: u32, slot_plus_one: u32) {
        let mut at = self.bucket(hash);
        while self.buckets[at][2 * PLACES - 1] != 0 {
            at += 1;
        }
        let bucket = &mut self.buckets[at];
        let place = bucket[PLACES..].iter().position(|&slot| slot == 0).expect("the bucket is not full");
        debug_assert!(
            bucket[PLACES + place..].iter().all(|&slot| slot == 0),
            "no-gap: behind an empty place of a bucket there are only empty ones"
        );
        bucket[place] = hash;
        bucket[PLACES + place] = slot_plus_one;
        if place + 1 == PLACES && at + 1 == self.buckets.len() {
            self.buckets.resize(at + 1 + OVERFLOW_BUCKETS, [0; 2 * PLACES]);
        }
    }

    /// Empties a place and closes the gap it leaves.
    fn remove(&mut self, mut at: usize, mut place: usize) {
        loop {
            let bucket = &mut self.buckets[at];
            let was_full = bucket[2 * PLACES - 1] != 0;
            let last =
                bucket[PLACES..].iter().rposition(|&slot| slot != 0).expect("there is what is removed");
            (bucket[place], bucket[PLACES + place]) = (bucket[last], bucket[PLACES + last]);
            (bucket[last], bucket[PLACES + last]) = (0, 0);
            // A bucket that was full may have overflowed: an entry from behind that belongs here,
            // or before, comes back.
            let Some((from, entry)) = was_full.then(|| self.overflowed(at)).flatten() else { return };
            let (hash, slot) = (self.buckets[from][entry], self.buckets[from][PLACES + entry]);
            (self.buckets[at][last], self.buckets[at][PLACES + last]) = (hash, slot);
            (at, place) = (from, entry);
        }
    }

    /// The first entry behind `at` that belongs at or before it.
    fn overflowed(&self, at: usize) -> Option<(usize, usize)> {
        for from in at + 1..self.buckets.len() {
            let bucket = &self.buckets[from];
            let belongs = |place: &usize| bucket[PLACES + place] != 0 && self.bucket(bucket[*place]) <= at;
            if let Some(place) = (0..PLACES).find(belongs) {
                return Some((from, place));
            }
            if bucket[2 * PLACES - 1] == 0 {
                break;
            }
        }
        None
    }
}

/// The index of a partition.
pub(crate) struct Index {
    table: Table,
    /// While growing: the table before, without the buckets already moved.
    old: Option<Table>,
    /// Entries in both.
    len: usize,
}

impl Index {
    pub(crate) fn new() -> Self {
        Index { table: Table::new(BUCKETS_MIN), old: None, len: 0 }
    }

    /// Slots in the index.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot filed under `hash` that `look` accepts, and what that has seen there. (Noted beside
    /// it by `look`, that went through memory.)
    #[inline(always)]
    pub(crate) fn find<T>(
        &self,
        hash: IdHash,
        mut look: impl FnMut(SlotIndex) -> Option<T>,
    ) -> Option<(SlotIndex, T)> {
        match self.table.find(hash, &mut look) {
            Some((_, _, slot, seen)) => Some((slot, seen)),
            None if self.old.is_none() => None,
            None => self.find_old(hash, look),
        }
    }

    /// Prefetches the bucket of `hash`.
    #[inline]
    pub(crate) fn prefetch<P: Prefetch>(&self, hash: IdHash) {
        if let Some(bucket) = self.table.buckets.get(self.table.bucket(hash.0.get())) {
            P::prefetch(bucket, size_of::<Bucket>());
        }
    }

    #[inline(never)]
    fn find_old<T>(&self, hash: IdHash, look: impl FnMut(SlotIndex) -> Option<T>) -> Option<(SlotIndex, T)> {
        self.old.as_ref()?.find(hash, look).map(|(_, _, slot, seen)| (slot, seen))
    }

    /// Files `slot`, which must not be in the index, under `hash`.
    pub(crate) fn insert(&mut self, hash: IdHash, slot: SlotIndex) {
        debug_assert!(self.find(hash, is_at(slot)).is_none(), "found-once: {slot} is in the index");
        if self.old.is_none() && self.len >= full(self.table.size()) {
            let doubled = Table::new(self.table.size() * 2);
            self.old = Some(std::mem::replace(&mut self.table, doubled));
        }
        self.move_some(MOVED_PER_INSERT);
        self.table.put(hash.0.get(), slot + 1);
        self.len += 1;
    }

    /// Takes `slot`, filed under `hash`, out of the index; `false` if it is not there.
    pub(crate) fn remove(&mut self, hash: IdHash, slot: SlotIndex) -> bool {
        if let Some((bucket, place, ..)) = self.table.find(hash, is_at(slot)) {
            self.table.remove(bucket, place);
        } else if let Some(old) = &mut self.old
            && let Some((bucket, place, ..)) = old.find(hash, is_at(slot))
        {
            (old.buckets[bucket][place], old.buckets[bucket][PLACES + place]) = (0, REMOVED);
        } else {
            return false;
        }
        self.len -= 1;
        true
    }

    /// Goes on with growing, by up to `buckets` buckets.
    #[inline]
    pub(crate) fn move_some(&mut self, buckets: usize) {
        if self.old.is_some() {
            self.move_old(buckets);
        }
    }

    #[cold]
    fn move_old(&mut self, buckets: usize) {
        let Some(old) = &mut self.old else { return };
        for _ in 0..buckets {
            let Some(bucket) = old.buckets.pop() else {
                self.old = None;
                return;
            };
            for place in 0..PLACES {
                // Neither an empty place nor a removed entry has a hash.
                if bucket[place] != 0 {
                    self.table.put(bucket[place], bucket[PLACES + place]);
                }
            }
        }
        if old.buckets.capacity() - old.buckets.len() >= GIVE_BACK_BUCKETS {
            old.buckets.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn hash(hash: u32) -> IdHash {
        IdHash::new(u64::from(hash) << 32)
    }

    #[test]
    fn an_old_table_is_empty_before_the_new_one_is_full() {
        let slots = if cfg!(miri) { 2_000 } else { 200_000_u32 };
        let mut index = Index::new();
        for slot in 0..slots {
            index.insert(hash(slot.wrapping_mul(0x9e37_79b9)), slot);
            assert!(
                index.old.is_none() || index.len < full(index.table.size()),
                "full before the old was moved: {slot}"
            );
        }
        for slot in 0..slots {
            assert_eq!(index.find(hash(slot.wrapping_mul(0x9e37_79b9)), is_at(slot)), Some((slot, ())));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 2 } else { 48 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        // Few hashes, all close together or at the very end, so that buckets overflow, one after
        // another and over the end.
        #[test]
        fn behaves_as_a_map(steps in proptest::collection::vec((0_u8..5, 0_u32..40, 0_usize..300), 1..if cfg!(miri) { 200 } else { 1_500 })) {
            let spread = |hash: u32| if hash < 20 { u32::MAX - (hash << 27) } else { hash << 20 };
            let mut index = Index::new();
            let mut model: HashMap<SlotIndex, u32> = HashMap::new();
            let mut next = 0;
            for (what, at, which) in steps {
                match what {
                    0..=2 => {
                        index.insert(hash(spread(at)), next);
                        model.insert(next, spread(at));
                        next += 1;
                    }
                    3 => {
                        let victim = model.keys().copied().min_by_key(|slot| slot.abs_diff(which as u32));
                        if let Some(slot) = victim {
                            let filed = model.remove(&slot).expect("it was just found");
                            prop_assert!(index.remove(hash(filed), slot));
                            prop_assert!(!index.remove(hash(filed), slot));
                        }
                    }
                    _ => index.move_some(which % 3),
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for slot in 0..next {
                for at in 0..40 {
                    let found = index.find(hash(spread(at)), is_at(slot)).is_some();
                    prop_assert_eq!(found, model.get(&slot) == Some(&spread(at)), "slot {} at {}", slot, at);
                }
            }
        }
    }
}
