//! The objects that a transaction takes along.
//!
//! Two are in the transaction itself: a list behind another pointer is another line to wait for on
//! each core it comes to. More are in a list of their own. A pair asks once whether there are two,
//! where a `SmallVec` is asked first where its objects are.

use std::ops::{Deref, DerefMut, Range};

use arrayvec::ArrayVec;

use crate::actor::Actor;
use crate::epoch::Epoch;
use crate::object::{Access, Ownership};
use crate::placement::ShardIndex;
use crate::store::slot::SlotIndex;

/// One object of a transaction.
pub(crate) struct Carried<A: Actor> {
    pub(crate) id: A::Id,
    /// The epoch at home when the transaction was passed on from there.
    pub(crate) passed_in: Epoch,
    pub(crate) ownership: Ownership,
    /// Where it is at home, once it was found there, or [`NO_SLOT`](crate::store::slot::NO_SLOT).
    pub(crate) slot: SlotIndex,
    /// Where in [`Transaction::records`](super::Transaction::records) its record is; empty if it
    /// needs none.
    pub(crate) record: Range<u32>,
    pub(crate) home: ShardIndex,
    pub(crate) access: Access,
    /// The transaction wrote it: the state here is to replace the one at home.
    pub(crate) is_written: bool,
    pub(crate) state: Option<A::State>,
}

impl<A: Actor> Carried<A> {
    #[inline]
    pub(crate) fn new(id: A::Id, home: ShardIndex, access: Access, slot: SlotIndex) -> Self {
        Carried {
            id,
            home,
            access,
            slot,
            passed_in: Epoch(0),
            ownership: Ownership::default(),
            state: None,
            is_written: false,
            record: 0..0,
        }
    }

    /// Makes what a transaction that is used again has in this place the same, without a state.
    #[inline]
    pub(crate) fn name(&mut self, id: A::Id, home: ShardIndex, access: Access, slot: SlotIndex) {
        debug_assert!(self.state.is_none(), "a transaction that waits to be used again keeps no state");
        (self.id, self.home, self.access, self.slot) = (id, home, access, slot);
        (self.passed_in, self.ownership) = (Epoch(0), Ownership::default());
        (self.is_written, self.record) = (false, 0..0);
    }
}

/// The objects of one transaction.
pub(crate) struct CarriedList<A: Actor> {
    /// All of them, if there are two at most.
    few: ArrayVec<Carried<A>, 2>,
    /// All of them, if there are more. Its memory is kept; for the width of a pointer, as a pair
    /// has this in its lines and no use for it.
    #[expect(clippy::box_collection, reason = "a list's three words are a line more of each pair")]
    many: Option<Box<Vec<Carried<A>>>>,
}

impl<A: Actor> CarriedList<A> {
    /// No objects.
    pub(crate) fn new() -> Self {
        CarriedList { few: ArrayVec::new(), many: None }
    }

    /// The two, if there are two.
    #[inline(always)]
    pub(crate) fn two_mut(&mut self) -> Option<(&mut Carried<A>, &mut Carried<A>)> {
        let [one, other] = self.few.as_mut_slice() else { return None };
        Some((one, other))
    }

    /// The list that is to have one more.
    fn with_room(&mut self) -> Result<&mut ArrayVec<Carried<A>, 2>, &mut Vec<Carried<A>>> {
        let has_many = self.many.as_ref().is_some_and(|many| !many.is_empty());
        if !has_many && !self.few.is_full() {
            return Ok(&mut self.few);
        }
        let many = self.many.get_or_insert_default();
        many.extend(self.few.drain(..));
        Err(many)
    }

    /// Adds one behind all others.
    pub(crate) fn push(&mut self, object: Carried<A>) {
        match self.with_room() {
            Ok(few) => few.push(object),
            Err(many) => many.push(object),
        }
    }

    /// Adds one before number `at`.
    pub(crate) fn insert(&mut self, at: usize, object: Carried<A>) {
        match self.with_room() {
            Ok(few) => few.insert(at, object),
            Err(many) => many.insert(at, object),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.few.clear();
        if let Some(many) = &mut self.many {
            many.clear();
        }
    }
}

impl<A: Actor> Extend<Carried<A>> for CarriedList<A> {
    fn extend<T: IntoIterator<Item = Carried<A>>>(&mut self, objects: T) {
        objects.into_iter().for_each(|object| self.push(object));
    }
}

impl<A: Actor> Deref for CarriedList<A> {
    type Target = [Carried<A>];

    #[inline]
    fn deref(&self) -> &[Carried<A>] {
        match &self.many {
            Some(many) if self.few.is_empty() => many,
            _ => &self.few,
        }
    }
}

impl<A: Actor> DerefMut for CarriedList<A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Carried<A>] {
        match &mut self.many {
            Some(many) if self.few.is_empty() => many,
            _ => &mut self.few,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::slot::NO_SLOT;
    use crate::transaction::tests::Ledger;

    // Whatever is added and wherever, a list has what a plain one has; and it is used again.
    #[test]
    fn a_list_of_few_or_many_is_one_list() {
        let mut list = CarriedList::<Ledger>::new();
        for count in [0, 1, 2, 3, 2, 5, 0, 1, 2] {
            let mut expected: Vec<u64> = Vec::new();
            list.clear();
            for id in 0..count {
                let object = Carried::new(id, ShardIndex(0), Access::Write, NO_SLOT);
                if id % 2 == 0 {
                    list.push(object);
                    expected.push(id);
                } else {
                    list.insert(0, object);
                    expected.insert(0, id);
                }
                assert_eq!(Vec::from_iter(list.iter().map(|object| object.id)), expected);
                assert_eq!(Vec::from_iter(list.iter_mut().map(|object| object.id)), expected);
                assert_eq!(
                    list.two_mut().map(|(one, other)| vec![one.id, other.id]),
                    (expected.len() == 2).then_some(expected.clone())
                );
            }
            assert_eq!(list.len() as u64, count);
        }
    }
}
