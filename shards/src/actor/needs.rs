//! What a message needs of collections if it runs on another shard than they live on.

use std::ops::{Bound, RangeBounds};

use crate::actor::Actor;
use crate::actor::entries::EntryKind;
use crate::actor::kind::Kind;
use crate::actor::run::Need;
use crate::object::ObjectId;

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
    /// Of which collection, what, and how many entries at most.
    pub(crate) all: Vec<(A::Id, Need<A::Id>, usize)>,
}

impl<A: Actor> Needs<A> {
    pub(crate) fn new() -> Self {
        Needs { all: Vec::new() }
    }

    /// The message reads or writes this entry of a collection. An id that is no entry is not
    /// needed.
    pub fn entry(&mut self, id: A::Id) {
        let bounds = (Bound::Included(id), Bound::Included(id));
        self.all.extend(id.collection().map(|of| (of, Need { bounds, is_back: false }, 1)));
    }

    /// The message reads or writes the first `most` entries of a range of a collection.
    pub fn range(&mut self, collection: A::Id, ids: impl RangeBounds<A::Id>, most: usize) {
        self.push(collection, ids, most, false);
    }

    /// The message reads or writes the last `most` entries of a range of a collection.
    pub fn range_back(&mut self, collection: A::Id, ids: impl RangeBounds<A::Id>, most: usize) {
        self.push(collection, ids, most, true);
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
        let ids = (keys.start_bound().map(|key| E::id(*key)), keys.end_bound().map(|key| E::id(*key)));
        self.range(E::Header::id(collection), ids, most);
    }

    /// As [`Needs::range_back`], by kind and keys.
    pub fn range_back_of<E: EntryKind<A>>(
        &mut self,
        collection: <E::Header as Kind<A>>::Key,
        keys: impl RangeBounds<E::Key>,
        most: usize,
    ) {
        let ids = (keys.start_bound().map(|key| E::id(*key)), keys.end_bound().map(|key| E::id(*key)));
        self.range_back(E::Header::id(collection), ids, most);
    }

    fn push(&mut self, collection: A::Id, ids: impl RangeBounds<A::Id>, most: usize, is_back: bool) {
        let bounds = (ids.start_bound().cloned(), ids.end_bound().cloned());
        self.all.push((collection, Need { bounds, is_back }, most));
    }
}
