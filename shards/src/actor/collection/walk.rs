//! What a message finds in a range of a collection, one after the other: to read, or to change.

use super::{Collection, Standing};
use crate::actor::{AccessError, Actor};
use crate::store::id_range::{IdBounds, RangeEnd};
use crate::store::slot::SlotIndex;
use crate::store::tree::{Located, Range};

/// A walk through a range of a collection: see [`Collection::walk`].
pub struct EntryWalk<'w, 'c, 'a, A: Actor> {
    pub(super) collection: &'w mut Collection<'c, 'a, A>,
    pub(super) asked: IdBounds<A::Id>,
    /// What is left of the range.
    pub(super) left: IdBounds<A::Id>,
}

/// A range of a collection: see [`Collection::range`].
pub(super) struct EntryRange<'r, 'c, 'a, A: Actor> {
    pub(super) collection: &'r Collection<'c, 'a, A>,
    /// What is left of it, if the collection is at home here.
    pub(super) here: Range<'r, A::Id>,
    pub(super) asked: IdBounds<A::Id>,
    /// What is left of it, if it is not.
    pub(super) left: IdBounds<A::Id>,
}

impl<'r, A: Actor> EntryRange<'r, '_, '_, A> {
    fn state(&self, slot: SlotIndex) -> Option<(A::Id, &'r A::State)> {
        let slot = self.collection.slot(slot);
        Some((slot.id, slot.state.as_ref()?))
    }
}

impl<'r, A: Actor> Iterator for EntryRange<'r, '_, '_, A> {
    type Item = (A::Id, &'r A::State);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.collection.standing {
            Standing::Home => self.here.next(),
            Standing::Guest(_) => self
                .collection
                .step(&self.asked, &mut self.left, RangeEnd::Front)
                .map(|(_, found)| found.slot),
        };
        self.state(next?)
    }
}

impl<A: Actor> DoubleEndedIterator for EntryRange<'_, '_, '_, A> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let next = match self.collection.standing {
            Standing::Home => self.here.next_back(),
            Standing::Guest(_) => {
                self.collection.step(&self.asked, &mut self.left, RangeEnd::Back).map(|(_, found)| found.slot)
            }
        };
        self.state(next?)
    }
}

impl<'c, 'a, A: Actor> EntryWalk<'_, 'c, 'a, A> {
    /// The next entry of the range.
    // No iterator: an entry is given back before the next is looked for.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend what it walks")]
    pub fn next(&mut self) -> Option<EntryMut<'_, 'c, 'a, A>> {
        let (id, found) = self.collection.step(&self.asked, &mut self.left, RangeEnd::Front)?;
        Some(EntryMut { id, found, collection: self.collection })
    }

    /// The last entry of what is left of the range.
    pub fn next_back(&mut self) -> Option<EntryMut<'_, 'c, 'a, A>> {
        let (id, found) = self.collection.step(&self.asked, &mut self.left, RangeEnd::Back)?;
        Some(EntryMut { id, found, collection: self.collection })
    }
}

/// An entry that a walk has come to.
pub struct EntryMut<'e, 'c, 'a, A: Actor> {
    pub(super) collection: &'e mut Collection<'c, 'a, A>,
    id: A::Id,
    pub(super) found: Located,
}

impl<'e, A: Actor> EntryMut<'e, '_, '_, A> {
    /// Its id.
    pub fn id(&self) -> A::Id {
        self.id
    }

    /// Its state.
    ///
    /// # Panics
    /// If [`EntryMut::remove`] removed it.
    pub fn state(&self) -> &A::State {
        self.collection.slot(self.found.slot).state.as_ref().expect("an entry that was removed has no state")
    }

    /// Its state, to change it.
    ///
    /// # Errors
    /// As [`Collection::get_mut`].
    ///
    /// # Panics
    /// As [`EntryMut::state`].
    pub fn state_mut(&mut self) -> Result<&mut A::State, AccessError<A::Id>> {
        let slot = self.collection.writable(self.found.slot)?;
        Ok(slot.state.as_mut().expect("an entry that was removed has no state"))
    }

    /// Removes it and returns its state; `None` if it was removed before.
    ///
    /// # Errors
    /// As [`Collection::get_mut`].
    pub fn remove(&mut self) -> Result<Option<A::State>, AccessError<A::Id>> {
        self.collection.remove_located(self.found)
    }

    /// Its state, to change it, for as long as the walk waits.
    ///
    /// # Errors
    /// As [`Collection::get_mut`].
    ///
    /// # Panics
    /// As [`EntryMut::state`].
    pub fn into_mut(self) -> Result<&'e mut A::State, AccessError<A::Id>> {
        let slot = self.collection.writable(self.found.slot)?;
        Ok(slot.state.as_mut().expect("an entry that was removed has no state"))
    }
}
