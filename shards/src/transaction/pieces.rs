//! What a transaction takes along of collections: the entries that it needs, and no others.
//!
//! A collection is too large to come along whole. So a transaction has *pieces*: for a collection
//! that is at home on a shard before the last, the ranges that the message needs, and the entries
//! in them. The home fills a piece when it passes the transaction on, while the header is locked
//! there; at the lock point the entries are lent slots and an order, as objects are lent slots; and
//! on the way back the home takes over those that were written.
//!
//! A range that the message needs and the transaction has not is a miss, like an object that was
//! not declared: the message is undone, and runs again with it. A need says how many entries it
//! wants at most, so a message that looks at the first few of a million gets those. A second miss
//! of the same range asks for more ([`MORE`] times as many).
//!
//! Invariant *known-or-missed*: at the lock point a message sees of a lent collection what its
//! pieces know, which is all that there is in those ranges; anything else is a miss.

use std::ops::Range;

use crate::actor::Actor;
use crate::actor::needs::Follow;
use crate::actor::run::{Guest, Need};
use crate::placement::ShardIndex;
use crate::store::id_range::IdBounds;

/// By how much it grows with each miss.
pub(crate) const MORE: usize = 4;

/// What a transaction takes along of one collection.
pub(crate) struct Piece<A: Actor> {
    pub(crate) collection: A::Id,
    pub(crate) home: ShardIndex,
    pub(crate) needs: Vec<Wanted<A>>,
    /// The ranges of which all entries are here, once the home has filled it.
    pub(crate) known: Vec<IdBounds<A::Id>>,
    /// How many entries the collection had then.
    pub(crate) len: usize,
    /// In no particular order; each once.
    pub(crate) entries: Vec<CarriedEntry<A>>,
    /// The transaction cleared the collection, before what it wrote of it: where in the
    /// transaction's records the record of that is.
    pub(crate) cleared: Option<Range<usize>>,
}

/// A range of a collection that the message needs.
pub(crate) struct Wanted<A: Actor> {
    pub(crate) need: Need<A::Id>,
    /// How many of its entries.
    pub(crate) most: usize,
    /// How often it was missed: never, as long as the message itself says how many.
    pub(crate) misses: u32,
    /// How many the piece had of it when it was filled last.
    pub(crate) had: usize,
    /// What goes along with each of them.
    pub(crate) follow: Option<Follow<A>>,
}

/// An entry of a collection in a transaction.
pub(crate) struct CarriedEntry<A: Actor> {
    pub(crate) id: A::Id,
    pub(crate) state: Option<A::State>,
    /// Where in the transaction's records its record is; empty if it needs none.
    pub(crate) record: Range<usize>,
    /// The transaction wrote it.
    pub(crate) is_written: bool,
}

impl<A: Actor> Piece<A> {
    /// Forgets what it was filled with.
    pub(crate) fn empty(&mut self) {
        self.known.clear();
        self.entries.clear();
        self.cleared = None;
    }

    /// Whether it is not filled, or its home had nothing for it.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.entries.is_empty() && self.cleared.is_none()
    }

    /// Whether the transaction wrote an entry of it, or cleared it, once it has run.
    pub(crate) fn is_written(&self) -> bool {
        self.cleared.is_some() || self.entries.iter().any(|entry| entry.is_written)
    }

    /// What the message may know of the collection.
    pub(crate) fn guest(&mut self) -> Guest<A::Id> {
        Guest {
            collection: self.collection,
            known: std::mem::take(&mut self.known),
            len: self.len,
            lent: self.entries.len(),
            is_cleared: false,
            clear_record: 0..0,
        }
    }
}

impl<A: Actor> Wanted<A> {
    /// The message said that it needs so many, and what goes along with each.
    pub(crate) fn say(&mut self, most: usize, follow: Option<Follow<A>>) {
        self.most = self.most.max(most);
        self.follow = self.follow.or(follow);
    }

    /// The message ran, and had too few, or none: then it wants so many at first.
    pub(crate) fn miss(&mut self, at_first: usize) {
        self.misses += 1;
        self.most = if self.most == 0 { at_first } else { self.most.saturating_mul(MORE) };
    }
}

/// A need in the pieces of a transaction: a new one wants nothing yet.
pub(crate) fn need_in<A: Actor>(
    pieces: &mut Vec<Piece<A>>,
    collection: A::Id,
    home: ShardIndex,
    need: Need<A::Id>,
) -> &mut Wanted<A> {
    let at = pieces.iter().position(|piece| piece.collection == collection).unwrap_or_else(|| {
        let (known, entries) = (Vec::new(), Vec::new());
        pieces.push(Piece { collection, home, needs: Vec::new(), known, len: 0, entries, cleared: None });
        pieces.len() - 1
    });
    let needs = &mut pieces[at].needs;
    let at = needs.iter().position(|wanted| wanted.need == need).unwrap_or_else(|| {
        needs.push(Wanted { need, most: 0, misses: 0, had: 0, follow: None });
        needs.len() - 1
    });
    &mut needs[at]
}
