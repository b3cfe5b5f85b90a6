//! Collections by kind: a kind of object whose entries are of one kind each, named by their keys.
//!
//! `freehold::actor!` declares a kind of entries by `in`: `Order(book: u64, price: u64) in
//! Book(book)` are the entries of the collection whose header is `Book(book)`.

use std::ops::{Bound, RangeBounds};

use crate::actor::collection::{Collection, EntryMut, EntryWalk};
use crate::actor::kind::{Kind, wrong_kind};
use crate::actor::objects::Objects;
use crate::actor::{AccessError, Actor};
use crate::store::id_range::RangeEnd;

/// A kind of entries of a collection, implemented by `freehold::actor!`. The type that implements
/// it is what an entry holds.
///
/// A collection should have entries of one kind. If there are several, `range`, `retain` and
/// `clear` of one kind pass by those of the others, `walk` refuses them, and `len` counts all. Two
/// collections at one place serve better.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no kind of entries of `{A}`",
    label = "not entries of a collection",
    note = "say of which it is in `kinds {{ .. }}` of the `actor!` that declares `{A}`: `{Self}(book: u64, price: u64) in Book(book)`"
)]
pub trait EntryKind<A: Actor>: Kind<A> {
    /// The kind of the header of the collection.
    type Header: Kind<A>;
    /// Whether entries have a second order, by [`Indexed`](crate::Indexed). Then
    /// [`Objects::indexed`] changes them, and what would here does not compile.
    const IS_INDEXED: bool = false;
    /// Whether entries are the places of a second order. [`Objects::indexed`] changes those, too.
    const IS_PLACE: bool = false;
}

/// To be refused when it is compiled: entries that have a second order are changed past it, or the
/// places of one past the entries.
const fn keeps_no_index<A: Actor, E: EntryKind<A>>() {
    assert!(
        !E::IS_INDEXED,
        "these entries have a second order (`by`), so they are changed through `objects.indexed::<..>`"
    );
    assert!(
        !E::IS_PLACE,
        "these entries are the places of a second order (`by`), which change with what has them: \
         through `objects.indexed::<..>`"
    );
}

/// The entries of one collection, by their keys, and its header: see
/// [`Collection`], which is the layer beneath.
///
/// ```
/// use freehold_shard::{AccessError, Actor, EntryKind, Kind, Objects};
/// # trait Quantity { fn quantity(&mut self) -> &mut u64; }
///
/// /// Takes what is asked from the cheapest orders of the book 7.
/// fn buy<A, Book, Order>(
///     objects: &mut Objects<'_, A>,
///     mut wanted: u64,
/// ) -> Result<u64, AccessError<A::Id>>
/// where
///     A: Actor,
///     Book: Kind<A, Key = u64>,
///     // The book, a price, a number.
///     Order: EntryKind<A, Header = Book, Key = (u64, u64, u64)> + Quantity,
/// {
///     let mut orders = objects.entries::<Order>(7)?;
///     let mut walk = orders.walk((7, 0, 0)..(7, 500, 0));
///     while wanted > 0 && let Some(mut order) = walk.next()? {
///         let has = order.write()?.quantity();
///         let taken = wanted.min(*has);
///         *has -= taken;
///         wanted -= taken;
///         if *has == 0 {
///             order.take()?;
///         }
///     }
///     Ok(wanted)
/// }
/// ```
pub struct KindEntries<'c, 'a, A: Actor, E: EntryKind<A>> {
    collection: Collection<'c, 'a, A>,
    key: <E::Header as Kind<A>>::Key,
}

/// What a key leads to, or why it does not.
pub(super) type Reached<A, T> = Result<T, AccessError<<A as Actor>::Id>>;

/// A range of keys as one of ids.
#[inline]
pub(super) fn to_ids<A: Actor, E: Kind<A>>(keys: &impl RangeBounds<E::Key>) -> (Bound<A::Id>, Bound<A::Id>) {
    (keys.start_bound().map(|key| E::id(*key)), keys.end_bound().map(|key| E::id(*key)))
}

impl<'a, A: Actor> Objects<'a, A> {
    /// The entries of the kind `E` of the collection whose header has this key: see
    /// [`KindEntries`].
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, EntryKind, Kind, Objects};
    /// # fn receive<A: Actor, Book: Kind<A, Key = u64>, Order: EntryKind<A, Header = Book, Key = (u64, u64)>>(order: Order, objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// // An order at the price 100 in the book 7; and the cheapest that is there.
    /// let mut orders = objects.entries::<Order>(7)?;
    /// orders.put((7, 100), order)?;
    /// let cheapest = orders.first().map(|((_book, price), _)| price);
    /// assert!(cheapest.is_some_and(|price| price <= 100));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::collection`].
    pub fn entries<E: EntryKind<A>>(
        &mut self,
        key: <E::Header as Kind<A>>::Key,
    ) -> Reached<A, KindEntries<'_, 'a, A, E>> {
        Ok(KindEntries { collection: self.collection(E::Header::id(key))?, key })
    }
}

impl<'c, 'a, A: Actor, E: EntryKind<A>> KindEntries<'c, 'a, A, E> {
    /// The header's key.
    pub fn key(&self) -> <E::Header as Kind<A>>::Key {
        self.key
    }

    /// The header; `None` if there is none.
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Collection::header`].
    pub fn header(&self) -> Reached<A, Option<&E::Header>> {
        let (state, id) = (self.collection.header()?, self.collection.id());
        state.map(|state| E::Header::of(state).ok_or_else(|| wrong_kind::<A, E::Header>(id))).transpose()
    }

    /// The header, to change it; `None` if there is none.
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Collection::header_mut`].
    pub fn header_mut(&mut self) -> Reached<A, Option<&mut E::Header>> {
        let id = self.collection.id();
        let state = self.collection.header_mut()?;
        state.map(|state| E::Header::of_mut(state).ok_or_else(|| wrong_kind::<A, E::Header>(id))).transpose()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.collection.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.collection.is_empty()
    }

    /// The entry with this key; `None` if it does not exist.
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Collection::get`].
    #[inline]
    pub fn read(&self, key: E::Key) -> Reached<A, Option<&E>> {
        let id = E::id(key);
        self.collection.get(id)?.map(|state| E::of(state).ok_or_else(|| wrong_kind::<A, E>(id))).transpose()
    }

    /// The entry with this key, to change it; `None` if it does not exist.
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Collection::get_mut`].
    #[inline]
    pub fn write(&mut self, key: E::Key) -> Reached<A, Option<&mut E>> {
        const { keeps_no_index::<A, E>() };
        let id = E::id(key);
        let state = self.collection.get_mut(id)?;
        state.map(|state| E::of_mut(state).ok_or_else(|| wrong_kind::<A, E>(id))).transpose()
    }

    /// Gives the entry with this key a new value, and returns the one it had.
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Collection::insert`].
    pub fn put(&mut self, key: E::Key, entry: E) -> Reached<A, Option<E>> {
        const { keeps_no_index::<A, E>() };
        let id = E::id(key);
        match self.collection.insert(id, entry.into_state())?.map(E::from_state) {
            None => Ok(None),
            Some(Ok(before)) => Ok(Some(before)),
            Some(Err(before)) => {
                self.collection.insert(id, before)?;
                Err(wrong_kind::<A, E>(id))
            }
        }
    }

    /// Removes the entry with this key and returns it; `None` if there is none.
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Collection::remove`].
    pub fn take(&mut self, key: E::Key) -> Reached<A, Option<E>> {
        const { keeps_no_index::<A, E>() };
        let id = E::id(key);
        match self.collection.remove(id)?.map(E::from_state) {
            None => Ok(None),
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(other)) => {
                self.collection.insert(id, other)?;
                Err(wrong_kind::<A, E>(id))
            }
        }
    }

    /// The entry with the lowest key.
    pub fn first(&self) -> Option<(E::Key, &E)> {
        self.range(..).next()
    }

    /// The entry with the highest key.
    pub fn last(&self) -> Option<(E::Key, &E)> {
        self.range(..).next_back()
    }

    /// The entries in a range of keys, in their order; from the end, too (`rev`).
    pub fn range(&self, keys: impl RangeBounds<E::Key>) -> impl DoubleEndedIterator<Item = (E::Key, &E)> {
        let of = |(id, state)| Some((E::key(id)?, E::of(state)?));
        self.collection.range(to_ids::<A, E>(&keys)).filter_map(of)
    }

    /// As [`Collection::wanted`], by keys.
    #[inline]
    pub(super) fn wanted(&self, keys: &impl RangeBounds<E::Key>, end: RangeEnd, at_first: usize) {
        self.collection.wanted(to_ids::<A, E>(keys), end, at_first);
    }

    /// Walks a range of keys, and changes or takes what it finds: see [`KindEntries`] for an
    /// example.
    pub fn walk(&mut self, keys: impl RangeBounds<E::Key>) -> KindWalk<'_, 'c, 'a, A, E> {
        KindWalk { walk: self.collection.walk(to_ids::<A, E>(&keys)), kind: std::marker::PhantomData }
    }

    /// Looks at no more than `most` entries of a range, and removes those that `keeps` says no to:
    /// as [`Collection::retain`]. Returns the key of the first that it has not looked at; `None` at
    /// the end of the range.
    ///
    /// # Errors
    /// As [`Collection::retain`].
    pub fn retain(
        &mut self,
        keys: impl RangeBounds<E::Key>,
        most: usize,
        mut keeps: impl FnMut(E::Key, &E) -> bool,
    ) -> Reached<A, Option<E::Key>> {
        const { keeps_no_index::<A, E>() };
        let (mut from, to) = to_ids::<A, E>(&keys);
        let (mut left, mut looks) = (most, most);
        loop {
            let keeps = |id, state: &A::State| match (E::key(id), E::of(state)) {
                (Some(key), Some(entry)) => {
                    left = left.saturating_sub(1);
                    keeps(key, entry)
                }
                _ => true,
            };
            let next = self.collection.retain((from, to), looks, keeps)?;
            match next.map(|id| (id, E::key(id))) {
                None => return Ok(None),
                Some((_, Some(key))) if left == 0 => return Ok(Some(key)),
                // Entries of other kinds do not count. One look at least passes them by.
                Some((id, _)) => (from, looks) = (Bound::Included(id), left.max(1)),
            }
        }
    }

    /// Removes all entries, however many: as [`Collection::clear`]. Of a collection that has
    /// entries of other kinds as well they are removed one by one.
    ///
    /// # Errors
    /// As [`Collection::clear`].
    pub fn clear(&mut self) -> Reached<A, ()> {
        const { keeps_no_index::<A, E>() };
        let is_of_kind = |entry: Option<(A::Id, _)>| entry.is_none_or(|(id, _)| E::key(id).is_some());
        // Ids of one kind lie together.
        if is_of_kind(self.collection.first()) && is_of_kind(self.collection.last()) {
            return self.collection.clear();
        }
        self.retain(.., usize::MAX, |_, _| false).map(drop)
    }
}

/// A walk through entries of one kind: see [`KindEntries::walk`].
pub struct KindWalk<'w, 'c, 'a, A: Actor, E: EntryKind<A>> {
    walk: EntryWalk<'w, 'c, 'a, A>,
    kind: std::marker::PhantomData<E>,
}

impl<'c, 'a, A: Actor, E: EntryKind<A>> KindWalk<'_, 'c, 'a, A, E> {
    /// The next entry of the range.
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] if the next is of another kind: it was put there past the kinds,
    /// or the collection has entries of several.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend what it walks")]
    pub fn next(&mut self) -> Reached<A, Option<KindEntry<'_, 'c, 'a, A, E>>> {
        self.walk.next().map(KindEntry::new).transpose()
    }

    /// The last entry of what is left of the range.
    ///
    /// # Errors
    /// As [`KindWalk::next`].
    pub fn next_back(&mut self) -> Reached<A, Option<KindEntry<'_, 'c, 'a, A, E>>> {
        self.walk.next_back().map(KindEntry::new).transpose()
    }
}

/// An entry of a kind that a walk has come to.
pub struct KindEntry<'e, 'c, 'a, A: Actor, E: EntryKind<A>> {
    entry: EntryMut<'e, 'c, 'a, A>,
    key: E::Key,
}

impl<'e, 'c, 'a, A: Actor, E: EntryKind<A>> KindEntry<'e, 'c, 'a, A, E> {
    fn new(entry: EntryMut<'e, 'c, 'a, A>) -> Reached<A, Self> {
        match E::key(entry.id()).filter(|_| E::of(entry.state()).is_some()) {
            Some(key) => Ok(KindEntry { entry, key }),
            None => Err(wrong_kind::<A, E>(entry.id())),
        }
    }

    /// Its key.
    pub fn key(&self) -> E::Key {
        self.key
    }

    /// What it holds.
    ///
    /// # Panics
    /// If [`KindEntry::take`] took it.
    pub fn read(&self) -> &E {
        E::of(self.entry.state()).expect("its kind was looked at")
    }

    /// What it holds, to change it.
    ///
    /// # Errors
    /// As [`Collection::get_mut`].
    ///
    /// # Panics
    /// As [`KindEntry::read`].
    pub fn write(&mut self) -> Reached<A, &mut E> {
        const { keeps_no_index::<A, E>() };
        Ok(E::of_mut(self.entry.state_mut()?).expect("its kind was looked at"))
    }

    /// Removes it and returns it; `None` if it was taken before.
    ///
    /// # Errors
    /// As [`Collection::get_mut`].
    pub fn take(&mut self) -> Reached<A, Option<E>> {
        const { keeps_no_index::<A, E>() };
        Ok(self.entry.remove()?.and_then(|state| E::from_state(state).ok()))
    }
}
