//! The objects a message is addressed to.
//!
//! [`Addressees`] is the list an actor fills in, and then the shard's working copy of it: beside
//! each id it keeps where the object was found, so that naming, finding and touching an object walk
//! the same few bytes. The first object stands apart from the rest: most messages have one, and a
//! local list of one is taken apart into registers by the compiler. (Measured for one object, in
//! instructions a message: `SmallVec` of four 300, `ArrayVec` 245, first and others as it is now:
//! see docs/BENCHMARKS.md.)

use arrayvec::ArrayVec;

use crate::object::{Access, ObjectId};
use crate::store::index::IdHash;
use crate::store::slot::{NO_SLOT, SlotIndex};

/// The most objects one message may touch.
pub const ADDRESSEES_MAX: usize = 64;

/// One object of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<Id> {
    pub(crate) id: Id,
    /// The id's hash in the partition's index, once it was looked up.
    pub(crate) hash: Option<IdHash>,
    /// Where the object was when it was last looked up, or [`NO_SLOT`] if it was absent. A slot may
    /// have been given away since, so it is trusted only if it still holds this id.
    pub(crate) slot: SlotIndex,
    pub(crate) access: Access,
    /// Whether the object was reserved for transactions when it was last looked up.
    pub(crate) is_reserved: bool,
    /// Whether this message may write the object and its before-image is kept.
    pub(crate) saved: bool,
}

impl<Id> Target<Id> {
    /// An object that needs no looking up.
    #[inline]
    pub(crate) fn found(id: Id, slot: SlotIndex, access: Access) -> Self {
        Target { id, hash: None, slot, access, is_reserved: false, saved: false }
    }

    /// It is here, and free.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.slot != NO_SLOT && !self.is_reserved
    }
}

/// The objects of a message behind its first.
pub(crate) type Others<Id> = ArrayVec<Target<Id>, { ADDRESSEES_MAX - 1 }>;

/// The objects a message is addressed to, at most [`ADDRESSEES_MAX`]. An id named twice counts
/// once, with the stronger access.
#[derive(Clone, Debug)]
pub struct Addressees<Id> {
    /// `None` only if there are no others either.
    pub(crate) first: Option<Target<Id>>,
    pub(crate) others: Others<Id>,
    /// More objects were named than fit: the message is refused.
    pub(crate) too_many: bool,
}

impl<Id: ObjectId> Addressees<Id> {
    /// An empty list.
    #[inline]
    pub fn new() -> Self {
        Addressees { first: None, others: ArrayVec::new(), too_many: false }
    }

    /// The message reads the object `id`. What is only read may belong to anyone. An entry of a
    /// collection stands for the collection.
    #[inline]
    pub fn read(&mut self, id: Id) {
        self.add(id, Access::Read);
    }

    /// The message may write the object `id`, which need not exist yet. An entry of a collection
    /// stands for the collection.
    #[inline]
    pub fn write(&mut self, id: Id) {
        self.add(id, Access::Write);
    }

    /// How many different objects there are.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// Whether no object was named.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The ids and what is done with them, in the order named.
    pub fn iter(&self) -> impl Iterator<Item = (Id, Access)> + '_ {
        self.targets().map(|target| (target.id, target.access))
    }

    /// Forgets all objects.
    #[inline]
    pub fn clear(&mut self) {
        self.first = None;
        self.others.clear();
        self.too_many = false;
    }

    #[inline]
    fn add(&mut self, id: Id, access: Access) {
        let id = id.collection().unwrap_or(id);
        let target = Target::found(id, NO_SLOT, access);
        match &mut self.first {
            None => self.first = Some(target),
            Some(first) if first.id == id => first.access = first.access.max(access),
            Some(_) => self.add_to_others(target),
        }
    }

    /// Adds a target whose id is not in the list.
    pub(crate) fn push_found(&mut self, target: Target<Id>) {
        match self.first {
            None => self.first = Some(target),
            Some(_) => self.others.push(target),
        }
    }

    #[inline]
    fn add_to_others(&mut self, target: Target<Id>) {
        match self.others.iter_mut().find(|other| other.id == target.id) {
            Some(same) => same.access = same.access.max(target.access),
            None => self.too_many |= self.others.try_push(target).is_err(),
        }
    }

    /// All of them.
    #[inline]
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target<Id>> {
        self.first.iter().chain(self.others.as_slice())
    }
}

impl<Id: ObjectId> Default for Addressees<Id> {
    fn default() -> Self {
        Addressees::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_named_twice_counts_once_with_the_stronger_access() {
        let mut to = Addressees::new();
        to.read(7_u64);
        to.write(8);
        to.write(7);
        to.read(8);
        assert_eq!(to.iter().collect::<Vec<_>>(), [(7, Access::Write), (8, Access::Write)]);
    }

    #[test]
    fn one_too_many_is_noticed() {
        let mut to = Addressees::new();
        (0..ADDRESSEES_MAX as u64).for_each(|id| to.read(id));
        to.write(0);
        assert!(!to.too_many);
        to.read(ADDRESSEES_MAX as u64);
        assert!(to.too_many);
        to.clear();
        assert!(!to.too_many && to.is_empty());
    }
}
