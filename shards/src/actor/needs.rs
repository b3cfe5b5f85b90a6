//! What a message needs of collections if it runs on another shard than they live on.

use std::ops::{Bound, RangeBounds};

use crate::actor::Actor;
use crate::actor::entries::{EntryKind, to_ids};
use crate::actor::indexed::{Indexed, PlaceKey};
use crate::actor::kind::Kind;
use crate::actor::run::Need;
use crate::object::ObjectId;
use crate::store::id_range::{IdBounds, RangeEnd};

/// The entries that a message to several shards takes along from the homes of their collections:
/// what [`Actor::needs`] says.
///
/// ```
/// # use freehold_shard::{Actor, Needs};
/// # fn needs<A: Actor<Id = (u64, u64)>>(to: &mut Needs<A>) {
/// // One entry, which need not exist yet.
/// to.entry((7, 100));
/// // The first ten of those that cost less.
/// to.range((7, 0), ..(7, 100), 10);
/// # }
/// ```
pub struct Needs<A: Actor> {
    pub(crate) all: Vec<SaidRange<A>>,
}

/// A range of a collection that a message says it needs.
pub(crate) struct SaidRange<A: Actor> {
    pub(crate) collection: A::Id,
    pub(crate) need: Need<A::Id>,
    /// How many of its entries, at most.
    pub(crate) most: usize,
    pub(crate) follow: Option<Follow<A>>,
}

/// Which other entry of the collection goes along with one.
pub(crate) type Follow<A> = fn(&<A as Actor>::Id, &<A as Actor>::State) -> Option<<A as Actor>::Id>;

impl<A: Actor> Needs<A> {
    pub(crate) fn new() -> Self {
        Needs { all: Vec::new() }
    }

    /// The message reads or writes this entry of a collection. An id that is no entry is not
    /// needed.
    pub fn entry(&mut self, id: A::Id) {
        if let Some(collection) = id.collection() {
            self.range(collection, id..=id, 1);
        }
    }

    /// The message reads or writes the first `most` entries of a range of a collection.
    pub fn range(&mut self, collection: A::Id, ids: impl RangeBounds<A::Id>, most: usize) {
        self.push(collection, to_bounds(ids), most, RangeEnd::Front, None);
    }

    /// The message reads or writes the last `most` entries of a range of a collection.
    pub fn range_back(&mut self, collection: A::Id, ids: impl RangeBounds<A::Id>, most: usize) {
        self.push(collection, to_bounds(ids), most, RangeEnd::Back, None);
    }

    /// As [`Needs::entry`], by kind and key.
    pub fn entry_of<E: EntryKind<A>>(&mut self, key: E::Key) {
        self.entry(E::id(key));
    }

    /// As [`Needs::range`], by kind and keys.
    pub fn range_of<E: EntryKind<A>>(
        &mut self,
        collection: <E::Header as Kind<A>>::Key,
        keys: impl RangeBounds<E::Key>,
        most: usize,
    ) {
        self.range(E::Header::id(collection), to_ids::<A, E>(&keys), most);
    }

    /// As [`Needs::range_back`], by kind and keys.
    pub fn range_back_of<E: EntryKind<A>>(
        &mut self,
        collection: <E::Header as Kind<A>>::Key,
        keys: impl RangeBounds<E::Key>,
        most: usize,
    ) {
        self.range_back(E::Header::id(collection), to_ids::<A, E>(&keys), most);
    }

    /// As [`Needs::entry_of`], of an entry that has a second order: with its place there.
    pub fn indexed_entry_of<E: Indexed<A>>(&mut self, key: E::Key) {
        let id = E::id(key);
        if let Some(collection) = id.collection() {
            let bounds = (Bound::Included(id), Bound::Included(id));
            self.push(collection, bounds, 1, RangeEnd::Front, Some(place_of::<A, E>));
        }
    }

    /// As [`Needs::range_of`], by the second order: the message reads or writes the entries at the
    /// first `most` places of a range.
    pub fn range_by<E: Indexed<A>>(
        &mut self,
        collection: <E::Header as Kind<A>>::Key,
        places: impl RangeBounds<PlaceKey<A, E>>,
        most: usize,
    ) {
        let bounds = to_ids::<A, E::Index>(&places);
        self.push(E::Header::id(collection), bounds, most, RangeEnd::Front, Some(entry_at::<A, E>));
    }

    fn push(
        &mut self,
        collection: A::Id,
        bounds: IdBounds<A::Id>,
        most: usize,
        end: RangeEnd,
        follow: Option<Follow<A>>,
    ) {
        self.all.push(SaidRange { collection, need: Need { bounds, end }, most, follow });
    }
}

fn to_bounds<I: Copy>(ids: impl RangeBounds<I>) -> IdBounds<I> {
    (ids.start_bound().cloned(), ids.end_bound().cloned())
}

/// The place of an entry in its second order.
fn place_of<A: Actor, E: Indexed<A>>(id: &A::Id, state: &A::State) -> Option<A::Id> {
    let key = E::key(*id)?;
    E::place_of(key, E::of(state)?).map(E::Index::id)
}

/// The entry that has a place.
fn entry_at<A: Actor, E: Indexed<A>>(id: &A::Id, _: &A::State) -> Option<A::Id> {
    E::Index::key(*id).map(|place| E::id(E::key_at(place)))
}
