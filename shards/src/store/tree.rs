//! The slots of entries in the order of their ids: an ordered map that does not keep the ids.
//!
//! An entry's slot has its id already. So a leaf has slot numbers only, 4 bytes for each entry, and
//! a search in it looks at the slots: at three or four, one of which it is after. In return a leaf
//! is one line of memory, where a node of a map from id to slot was seven. Such a map took 56 bytes
//! for each entry whose id has 32; this takes 12.
//!
//! Above the leaves are pages, each with the keys of up to [`PAGE`] leaves, and above those is one
//! list of all pages. A page that is split moves half of that list: of ten million entries some 200
//! KB, once in hundreds of insertions. (A `BTreeMap` of leaves was tried: to find the last key that
//! is not above an id takes `range`, at 300 instructions.)
//!
//! Invariants. *sorted-leaves*: an entry's leaf is the last whose key is not above the entry's id,
//! and the first leaf, which has no key, if there is none; in a leaf the slots are in the order of
//! their ids. The first leaf is empty only if all is, and no other leaf or page is ever empty. A
//! slot keeps its id as long as it is in a tree.

use std::hint::black_box;
use std::ops::Bound;
use std::slice;

use arrayvec::ArrayVec;

use crate::object::ObjectId;
use crate::store::id_range::{IdBounds, is_range};
use crate::store::slot::SlotIndex;
use crate::store::slots::Slots;

/// Slots of a leaf: with their number they fill a line and a half of memory.
const LEAF: usize = 23;
/// A leaf that has no more than these looks whether a neighbour takes them.
const FEW: usize = LEAF / 4;
/// Two leaves become one if they have no more than these together, so that it is not split again
/// soon.
const JOINED: usize = LEAF - FEW;
/// A page that is full gets room for so many more. (Doubled, it would be half empty.)
const PAGE_GROWS: usize = 4;
/// Leaves of a page. (Pages of tests are small, so that there are some.)
const PAGE: usize = if cfg!(test) { 4 } else { 32 };

/// In a tree that is made of entries in order, leaves have room for some: else all of them were
/// split by the next insertions.
const LEAF_MADE: usize = LEAF - LEAF / 8;

/// Up to so many entries, a search needs nothing that is not in the cache.
const CACHED: usize = if cfg!(test) { 16 } else { 50_000 };

type SlotLeaf = ArrayVec<SlotIndex, LEAF>;

/// Leaves that follow each other, with their keys.
struct Page<I> {
    keys: Vec<I>,
    leaves: Vec<SlotLeaf>,
}

/// The slots of the entries of one collection, in order.
pub(crate) struct SlotTree<I> {
    /// The leaf of all ids that are below every key.
    first: SlotLeaf,
    /// The first key of each page.
    lows: Vec<I>,
    pages: Vec<Page<I>>,
    len: usize,
}

/// Where a leaf is. They are in the order of these.
#[derive(Clone, Copy, PartialEq, Eq)]
struct At {
    /// The number of its page plus one; 0 for the first leaf, which is in none.
    page: usize,
    leaf: usize,
}

const FIRST: At = At { page: 0, leaf: 0 };

/// A slot that was found in a tree, and where: as long as the tree stays as it is.
#[derive(Clone, Copy)]
pub(crate) struct Located {
    pub(crate) slot: SlotIndex,
    at: At,
    place: usize,
}

/// Loads the ids of a leaf's slots, all on their way together. Out of cache a search would wait for
/// one after the other.
#[inline]
fn fetch<I: ObjectId, S>(leaf: &SlotLeaf, slots: &Slots<I, S>) {
    leaf.iter().for_each(|slot| _ = black_box(slots.get(*slot).id));
}

/// How many of these keys are not above an id. (Here and below ids are compared by `<` and `<=`:
/// `cmp` of an enum of tuples took a fifth more instructions.)
#[inline]
fn not_above<I: ObjectId>(keys: &[I], id: &I) -> usize {
    keys.partition_point(|key| key <= id)
}

/// Where an id is in a leaf, or where it would be.
#[inline]
fn place_in<I: ObjectId, S>(leaf: &SlotLeaf, slots: &Slots<I, S>, id: &I) -> Result<usize, usize> {
    let at = leaf.partition_point(|slot| slots.get(*slot).id < *id);
    match leaf.get(at) {
        Some(slot) if slots.get(*slot).id == *id => Ok(at),
        _ => Err(at),
    }
}

/// How many slots of a leaf are before the beginning of a range.
#[inline]
fn before<I: ObjectId, S>(leaf: &[SlotIndex], slots: &Slots<I, S>, from: &Bound<I>) -> usize {
    match from {
        Bound::Unbounded => 0,
        Bound::Included(from) => leaf.partition_point(|slot| slots.get(*slot).id < *from),
        Bound::Excluded(from) => leaf.partition_point(|slot| slots.get(*slot).id <= *from),
    }
}

/// How many slots of a leaf are not behind the end of a range.
#[inline]
fn until<I: ObjectId, S>(leaf: &[SlotIndex], slots: &Slots<I, S>, to: &Bound<I>) -> usize {
    match to {
        Bound::Unbounded => leaf.len(),
        Bound::Included(to) => leaf.partition_point(|slot| slots.get(*slot).id <= *to),
        Bound::Excluded(to) => leaf.partition_point(|slot| slots.get(*slot).id < *to),
    }
}

impl<I> Default for SlotTree<I> {
    fn default() -> Self {
        SlotTree { first: SlotLeaf::new(), lows: Vec::new(), pages: Vec::new(), len: 0 }
    }
}

impl<I: ObjectId> SlotTree<I> {
    /// Adds an entry behind all others. A tree that is made in this way has room left in its
    /// leaves.
    #[inline]
    pub(crate) fn push_last(&mut self, id: I, slot: SlotIndex) {
        let last = self.last();
        let leaf = self.leaf_mut(last);
        match leaf.len() < LEAF_MADE {
            true => leaf.push(slot),
            false => self.add_leaf(last, id, SlotLeaf::from_iter([slot])),
        }
        self.len += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Which leaf has this id, or would have it.
    #[inline]
    fn find(&self, id: &I) -> At {
        let page = not_above(&self.lows, id);
        if page == 0 { FIRST } else { At { page, leaf: not_above(&self.pages[page - 1].keys, id) - 1 } }
    }

    #[inline]
    fn leaf(&self, at: At) -> &SlotLeaf {
        if at.page == 0 { &self.first } else { &self.pages[at.page - 1].leaves[at.leaf] }
    }

    #[inline]
    fn leaf_mut(&mut self, at: At) -> &mut SlotLeaf {
        if at.page == 0 { &mut self.first } else { &mut self.pages[at.page - 1].leaves[at.leaf] }
    }

    fn next(&self, at: At) -> Option<At> {
        if at.page > 0 && at.leaf + 1 < self.pages[at.page - 1].leaves.len() {
            return Some(At { leaf: at.leaf + 1, ..at });
        }
        (at.page < self.pages.len()).then_some(At { page: at.page + 1, leaf: 0 })
    }

    fn previous(&self, at: At) -> Option<At> {
        if at.leaf > 0 {
            return Some(At { leaf: at.leaf - 1, ..at });
        }
        let page = at.page.checked_sub(1)?;
        Some(At { page, leaf: page.checked_sub(1).map_or(0, |before| self.pages[before].leaves.len() - 1) })
    }

    fn last(&self) -> At {
        let page = self.pages.len();
        At { page, leaf: self.pages.last().map_or(0, |page| page.leaves.len() - 1) }
    }

    /// The slot of the entry `id`.
    #[inline]
    pub(crate) fn get<S>(&self, slots: &Slots<I, S>, id: &I) -> Option<Located> {
        let at = self.find(id);
        let leaf = self.leaf(at);
        if self.len > CACHED {
            fetch(leaf, slots);
        }
        let place = place_in(leaf, slots, id).ok()?;
        Some(Located { slot: leaf[place], at, place })
    }

    /// The slot of the entry `id` if there is one; otherwise `new` is it from now on. (That slot
    /// may not be there yet.)
    #[inline]
    pub(crate) fn get_or_insert<S>(
        &mut self,
        slots: &Slots<I, S>,
        id: I,
        new: SlotIndex,
    ) -> Option<SlotIndex> {
        let at = self.find(&id);
        if self.len > CACHED {
            fetch(self.leaf(at), slots);
        }
        let leaf = self.leaf_mut(at);
        let place = match place_in(leaf, slots, &id) {
            Ok(place) => return Some(leaf[place]),
            Err(place) => place,
        };
        match leaf.is_full() {
            false => leaf.insert(place, new),
            true => self.split(slots, id, at, place, new),
        }
        self.len += 1;
        None
    }

    /// Inserts a slot into a leaf that is full. A leaf that grows at an end stays full: entries
    /// that come in order, or against it, fill their leaves.
    #[cold]
    fn split<S>(&mut self, slots: &Slots<I, S>, id: I, at: At, place: usize, new: SlotIndex) {
        let leaf = self.leaf_mut(at);
        let cut = if place == 0 || place == LEAF { place } else { LEAF / 2 };
        let mut upper: SlotLeaf = leaf.drain(cut..).collect();
        if place <= cut && cut < LEAF {
            leaf.insert(place, new);
        } else {
            upper.insert(place - cut, new);
        }
        let lowest = upper[0];
        let key = if lowest == new { id } else { slots.get(lowest).id };
        self.add_leaf(at, key, upper);
    }

    /// Adds a leaf behind another.
    fn add_leaf(&mut self, behind: At, key: I, leaf: SlotLeaf) {
        if self.pages.is_empty() {
            self.lows.push(key);
            self.pages.push(Page { keys: vec![key], leaves: vec![leaf] });
            return;
        }
        let (page, at) = if behind.page == 0 { (0, 0) } else { (behind.page - 1, behind.leaf + 1) };
        let Page { keys, leaves } = &mut self.pages[page];
        if keys.len() == keys.capacity() {
            keys.reserve_exact(PAGE_GROWS);
            leaves.reserve_exact(PAGE_GROWS);
        }
        keys.insert(at, key);
        leaves.insert(at, leaf);
        self.lows[page] = keys[0];
        if keys.len() > PAGE {
            let cut = if at == PAGE { PAGE } else { PAGE / 2 };
            let upper = Page { keys: keys.split_off(cut), leaves: leaves.split_off(cut) };
            keys.shrink_to_fit();
            leaves.shrink_to_fit();
            self.lows.insert(page + 1, upper.keys[0]);
            self.pages.insert(page + 1, upper);
        }
    }

    /// Takes the entry `id` out: its slot, which still has its id.
    pub(crate) fn remove<S>(&mut self, slots: &Slots<I, S>, id: &I) -> Option<SlotIndex> {
        let found = self.get(slots, id)?;
        self.remove_located(found);
        Some(found.slot)
    }

    /// Takes out what was found, without a search.
    #[inline]
    pub(crate) fn remove_located(&mut self, Located { at, place, .. }: Located) {
        let leaf = self.leaf_mut(at);
        leaf.remove(place);
        let is_few = leaf.len() <= FEW;
        self.len -= 1;
        if is_few {
            self.join(at);
        }
    }

    /// This leaf has few slots: if a neighbour has room for them, there is a leaf less.
    #[cold]
    fn join(&mut self, at: At) {
        let len = |at: At| self.leaf(at).len();
        let may_join = |a: At, b: At| len(a) == 0 || len(b) == 0 || len(a) + len(b) <= JOINED;
        if let Some(previous) = self.previous(at)
            && may_join(previous, at)
        {
            self.join_two(previous, at);
        } else if let Some(next) = self.next(at)
            && may_join(at, next)
        {
            self.join_two(at, next);
        }
    }

    /// Moves what the second leaf has to the first.
    fn join_two(&mut self, lower: At, upper: At) {
        let number = upper.page - 1;
        let Page { keys, leaves } = &mut self.pages[number];
        keys.remove(upper.leaf);
        let slots = leaves.remove(upper.leaf);
        match keys.first() {
            Some(low) => self.lows[number] = *low,
            None => drop(self.drop_page(number)),
        }
        self.leaf_mut(lower).extend(slots);
        if number < self.pages.len() && self.pages[number].keys.len() <= PAGE / 4 {
            self.join_page(number);
        }
    }

    fn drop_page(&mut self, number: usize) -> Page<I> {
        self.lows.remove(number);
        self.pages.remove(number)
    }

    /// This page has few leaves: if a neighbour has room for them, there is a page less.
    fn join_page(&mut self, number: usize) {
        let has_room = |upper: &usize| {
            let both = self.pages.get(upper - 1..upper + 1).unwrap_or_default();
            !both.is_empty() && both.iter().map(|page| page.keys.len()).sum::<usize>() <= PAGE - PAGE / 4
        };
        if let Some(upper) = [number, number + 1].into_iter().filter(|upper| *upper > 0).find(has_room) {
            let Page { mut keys, mut leaves } = self.drop_page(upper);
            self.pages[upper - 1].keys.append(&mut keys);
            self.pages[upper - 1].leaves.append(&mut leaves);
        }
    }

    /// Takes the slot out that comes first.
    pub(crate) fn pop_first(&mut self) -> Option<SlotIndex> {
        let slot = self.first.pop_at(0)?;
        self.len -= 1;
        if self.first.len() <= FEW {
            self.join(FIRST);
        }
        Some(slot)
    }

    /// All slots, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SlotIndex> {
        let leaves = self.pages.iter().flat_map(|page| &page.leaves);
        self.first.iter().chain(leaves.flatten()).copied()
    }

    /// The leaf in which a range begins.
    #[inline]
    fn begin(&self, from: &Bound<I>) -> At {
        match from {
            Bound::Unbounded => FIRST,
            Bound::Included(from) | Bound::Excluded(from) => self.find(from),
        }
    }

    /// The leaf in which a range ends.
    #[inline]
    fn end(&self, to: &Bound<I>) -> At {
        match to {
            Bound::Unbounded => self.last(),
            Bound::Included(to) | Bound::Excluded(to) => self.find(to),
        }
    }

    /// The slots of the entries in a range, in order.
    pub(crate) fn range<'t, S>(&'t self, slots: &'t Slots<I, S>, ids: &IdBounds<I>) -> Range<'t, I> {
        if !is_range(ids) {
            return Range::empty();
        }
        let (begin, end) = (self.begin(&ids.0), self.end(&ids.1));
        let (front, back) = (self.leaf(begin), self.leaf(end));
        let (from, to) = (before(front, slots, &ids.0), until(back, slots, &ids.1));
        let (front, back) = match begin == end {
            true => (&front[from..to.max(from)], &[][..]),
            false => (&front[from..], &back[..to]),
        };
        Range { tree: Some(self), begin, end, front: front.iter(), back: back.iter() }
    }

    /// The slot of the first entry in a range. (One that ends before it begins needs no look: what
    /// is behind its beginning is behind its end.)
    #[inline]
    pub(crate) fn first_in<S>(&self, slots: &Slots<I, S>, ids: &IdBounds<I>) -> Option<Located> {
        let mut at = self.begin(&ids.0);
        let mut place = before(self.leaf(at), slots, &ids.0);
        if place == self.leaf(at).len() {
            (at, place) = (self.next(at)?, 0);
        }
        let slot = *self.leaf(at).get(place)?;
        (until(&[slot], slots, &ids.1) == 1).then_some(Located { slot, at, place })
    }

    /// The slot of the last entry in a range.
    #[inline]
    pub(crate) fn last_in<S>(&self, slots: &Slots<I, S>, ids: &IdBounds<I>) -> Option<Located> {
        let mut at = self.end(&ids.1);
        let mut behind = until(self.leaf(at), slots, &ids.1);
        if behind == 0 {
            at = self.previous(at)?;
            behind = self.leaf(at).len();
        }
        let place = behind.checked_sub(1)?;
        let slot = self.leaf(at)[place];
        (before(&[slot], slots, &ids.0) == 0).then_some(Located { slot, at, place })
    }
}

/// A range of a tree.
pub(crate) struct Range<'t, I> {
    /// `None` if it has no entries.
    tree: Option<&'t SlotTree<I>>,
    /// The leaves of `front` and `back`. If they are one, its slots are in `front`.
    begin: At,
    end: At,
    front: slice::Iter<'t, SlotIndex>,
    back: slice::Iter<'t, SlotIndex>,
}

impl<I> Range<'_, I> {
    /// Without entries.
    pub(crate) fn empty() -> Self {
        Range { tree: None, begin: FIRST, end: FIRST, front: [].iter(), back: [].iter() }
    }
}

impl<I: ObjectId> Iterator for Range<'_, I> {
    type Item = SlotIndex;

    #[inline]
    fn next(&mut self) -> Option<SlotIndex> {
        loop {
            if let Some(slot) = self.front.next() {
                return Some(*slot);
            }
            let tree = self.tree?;
            let next = if self.begin == self.end { None } else { tree.next(self.begin) };
            match next {
                None => return None,
                Some(next) if next == self.end => self.front = std::mem::take(&mut self.back),
                Some(next) => self.front = tree.leaf(next).iter(),
            }
            self.begin = next?;
        }
    }
}

impl<I: ObjectId> DoubleEndedIterator for Range<'_, I> {
    #[inline]
    fn next_back(&mut self) -> Option<SlotIndex> {
        loop {
            if self.begin == self.end {
                return self.front.next_back().copied();
            }
            if let Some(slot) = self.back.next_back() {
                return Some(*slot);
            }
            let tree = self.tree?;
            self.end = tree.previous(self.end)?;
            if self.begin != self.end {
                self.back = tree.leaf(self.end).iter();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::object::Ownership;
    use crate::store::slot::Slot;

    impl SlotTree<u64> {
        /// *sorted-leaves*, and that pages and leaves are as full as they may be.
        fn check(&self, slots: &Slots<u64, ()>) {
            assert!(!self.first.is_empty() || self.len == 0, "sorted-leaves: the first leaf comes first");
            let keys = self.pages.iter().flat_map(|page| page.keys.iter().zip(&page.leaves));
            let mut all = Vec::from_iter(self.first.iter().map(|slot| slots.get(*slot).id));
            for (key, leaf) in keys {
                let ids = Vec::from_iter(leaf.iter().map(|slot| slots.get(*slot).id));
                assert!(*key <= ids[0] && all.last().is_none_or(|last| last < key), "sorted-leaves: {key}");
                all.extend(ids);
            }
            assert!(all.is_sorted_by(|a, b| a < b), "sorted-leaves: {all:?}");
            assert_eq!((all.len(), self.pages.len()), (self.len, self.lows.len()));
            for (low, page) in self.lows.iter().zip(&self.pages) {
                assert!(page.keys.len() <= PAGE && page.keys.len() == page.leaves.len());
                assert_eq!(Some(low), page.keys.first(), "sorted-leaves: a page is found by its first key");
            }
        }
    }

    fn found(slots: &Slots<u64, ()>, found: Option<Located>) -> Option<u64> {
        found.map(|found| slots.get(found.slot).id)
    }

    fn bound(kind: u8, id: u64) -> Bound<u64> {
        match kind % 3 {
            0 => Bound::Included(id),
            1 => Bound::Excluded(id),
            _ => Bound::Unbounded,
        }
    }

    #[test]
    fn entries_that_come_in_order_fill_their_leaves() {
        let many = (if cfg!(miri) { 6 } else { 40 }) * LEAF as u64;
        for is_back in [false, true] {
            let (mut slots, mut tree) = (Slots::<u64, ()>::new(), SlotTree::default());
            for nth in 0..many {
                let id = if is_back { many - nth } else { nth };
                let slot = slots.push(Slot::empty(id, Ownership::default()));
                assert!(tree.get_or_insert(&slots, id, slot).is_none());
            }
            tree.check(&slots);
            let leaves = 1 + tree.pages.iter().map(|page| page.leaves.len()).sum::<usize>();
            assert_eq!(leaves as u64, many / LEAF as u64);
            // A queue: what is taken from the front leaves nothing behind.
            for _ in 0..many - 1 {
                tree.pop_first().expect("there is one");
                tree.check(&slots);
            }
            assert_eq!((tree.len(), tree.pages.len()), (1, 0));
        }
    }

    // However full its leaves are when it is made, it is searched and changed as any other.
    #[test]
    fn a_tree_that_is_made_in_order_is_one_that_grew() {
        let page = LEAF_MADE * PAGE;
        for many in [0, 1, LEAF_MADE, LEAF_MADE + 1, 2 * LEAF_MADE, LEAF_MADE + page, 3 * page + 7] {
            let mut slots = Slots::<u64, ()>::new();
            let mut add = |id| slots.push(Slot::empty(id, Ownership::default()));
            // Every other id is not there.
            let sorted: Vec<_> = (0..many as u64).map(|nth| (2 * nth, add(2 * nth))).collect();
            let others: Vec<_> = (0..many as u64).map(|nth| (2 * nth + 1, add(2 * nth + 1))).collect();
            let mut tree = SlotTree::default();
            sorted.iter().for_each(|(id, slot)| tree.push_last(*id, *slot));
            tree.check(&slots);
            assert_eq!(Vec::from_iter(tree.iter()), Vec::from_iter(sorted.iter().map(|(_, slot)| *slot)));
            for (id, slot) in &others {
                assert!(tree.get_or_insert(&slots, *id, *slot).is_none());
            }
            tree.check(&slots);
            for (id, slot) in sorted {
                assert_eq!(tree.remove(&slots, &id), Some(slot));
            }
            tree.check(&slots);
            assert_eq!(Vec::from_iter(tree.iter()), Vec::from_iter(others.iter().map(|(_, slot)| *slot)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 2 } else { 32 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        // Inserted and removed at random places, and more of one than of the other by turns, so
        // that leaves and pages are split and joined.
        #[test]
        fn behaves_as_a_map(
            steps in prop::collection::vec((0_u8..12, 0_u64..600, 0_u64..600, any::<u8>()), 1..if cfg!(miri) { 200 } else { 3_000 }),
        ) {
            let (mut slots, mut tree) = (Slots::<u64, ()>::new(), SlotTree::default());
            let mut model: BTreeMap<u64, SlotIndex> = BTreeMap::new();
            for (nth, (what, id, to, kinds)) in steps.into_iter().enumerate() {
                let ids = (bound(kinds, id), bound(kinds / 3, to));
                let there = || is_range(&ids).then(|| model.range(ids)).into_iter().flatten();
                let grows = nth / 700 % 2 == 0;
                match what {
                    0..=6 if grows => {
                        let slot = slots.push(Slot::empty(id, Ownership::default()));
                        let before = tree.get_or_insert(&slots, id, slot);
                        prop_assert_eq!(before, model.get(&id).copied());
                        model.entry(id).or_insert(slot);
                    }
                    0..=6 => prop_assert_eq!(tree.remove(&slots, &id), model.remove(&id)),
                    7 if kinds % 8 == 0 => {
                        prop_assert_eq!(tree.pop_first(), model.pop_first().map(|(_, slot)| slot));
                    }
                    7 => prop_assert_eq!(found(&slots, tree.get(&slots, &id)), model.get_key_value(&id).map(|(id, _)| *id)),
                    8 => {
                        let expected = there().next().map(|(id, _)| *id);
                        let first = tree.first_in(&slots, &ids);
                        prop_assert_eq!(found(&slots, first), expected);
                        if let Some(first) = first {
                            tree.remove_located(first);
                            model.remove(&slots.get(first.slot).id);
                        }
                    }
                    9 => {
                        let expected = there().next_back().map(|(id, _)| *id);
                        prop_assert_eq!(found(&slots, tree.last_in(&slots, &ids)), expected);
                    }
                    _ => {
                        // From both ends, in some order.
                        let (mut range, mut expected) = (tree.range(&slots, &ids), there().map(|(_, slot)| *slot));
                        for step in 0.. {
                            let is_back = (u64::from(kinds) * 31 + step) % 3 == 0;
                            let (now, then) = if is_back {
                                (range.next_back(), expected.next_back())
                            } else {
                                (range.next(), expected.next())
                            };
                            prop_assert_eq!(now, then);
                            if then.is_none() {
                                break;
                            }
                        }
                        prop_assert_eq!((range.next(), range.next_back()), (None, None));
                    }
                }
                tree.check(&slots);
            }
            prop_assert_eq!(Vec::from_iter(tree.iter()), Vec::from_iter(model.into_values()));
        }
    }
}
