//! A second order of the entries of a collection: by price, by expiry.
//!
//! It is a kind of entries of the same collection, one for each entry that is in it. So undo, log,
//! checkpoints and snapshots have it as they have all entries, and one lock is for both.
//!
//! Invariant *index-agrees*: between messages an entry that says where it is in the second order
//! has its place there, and no place is of another. [`IndexedEntries`] keeps both, and
//! [`KindEntries`](crate::KindEntries) changes no entries of such a kind: that does not compile.

use std::ops::RangeBounds;

use crate::actor::collection::Collection;
use crate::actor::entries::{EntryKind, Reached, to_ids};
use crate::actor::kind::{Kind, wrong_kind};
use crate::actor::objects::Objects;
use crate::actor::{AccessError, Actor};
use crate::fault::{self, Fault};
use crate::store::id_range::IdBounds;

/// A kind of entries that have a second order, which is declared by `by` in `freehold::actor!`:
/// `Session(tenant: u64, user: u64) in Tenant(tenant) by Expiry`.
///
/// The second order has places, which are entries as well: `Expiry(tenant: u64, ends: u64, user:
/// u64) in Tenant(tenant)`. The key of a place begins with what the order is by, and ends with what
/// tells two entries of one time apart.
pub trait Indexed<A: Actor>: EntryKind<A> {
    /// The kind of places: they hold nothing, so it is a type without fields.
    type Index: EntryKind<A, Header = Self::Header> + Default;

    /// Where an entry is in the second order; `None` if it is not in it. It must be a pure function
    /// of both. Two entries must never have the same place.
    fn place_of(key: Self::Key, entry: &Self) -> Option<<Self::Index as Kind<A>>::Key>;

    /// The key of the entry that has this place.
    fn key_at(place: <Self::Index as Kind<A>>::Key) -> Self::Key;
}

/// The key of a place in the second order of `E`.
pub(super) type PlaceKey<A, E> = <<E as Indexed<A>>::Index as Kind<A>>::Key;
/// The entries of one collection that have a second order, by their keys and by their places: see
/// [`Indexed`].
///
/// ```
/// use freehold_shard::{AccessError, Actor, Indexed, Kind, Objects};
///
/// /// Ends all sessions of the tenant 7 whose time is over, and says how many.
/// fn expire<A, Tenant, Session, Expiry>(
///     objects: &mut Objects<'_, A>,
///     now: u64,
/// ) -> Result<usize, AccessError<A::Id>>
/// where
///     A: Actor,
///     Tenant: Kind<A, Key = u64>,
///     Session: Indexed<A, Header = Tenant, Index = Expiry>,
///     // The tenant, an end, a user.
///     Expiry: freehold_shard::EntryKind<A, Header = Tenant, Key = (u64, u64, u64)> + Default,
/// {
///     let mut sessions = objects.indexed::<Session>(7)?;
///     let mut ended = 0;
///     while sessions.take_first_by((7, 0, 0)..(7, now, 0))?.is_some() {
///         ended += 1;
///     }
///     Ok(ended)
/// }
/// ```
pub struct IndexedEntries<'c, 'a, A: Actor, E: Indexed<A>> {
    collection: Collection<'c, 'a, A>,
    key: <E::Header as Kind<A>>::Key,
}

impl<'a, A: Actor> Objects<'a, A> {
    /// The entries of the kind `E`, which has a second order, of the collection whose header has
    /// this key: see [`IndexedEntries`].
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Indexed, Kind, Objects};
    /// # fn receive<A: Actor, Tenant: Kind<A, Key = u64>, Session: Indexed<A, Header = Tenant, Key = (u64, u64)>>(session: Session, objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// // The session of the user 8 of the tenant 7: it is in both orders now.
    /// objects.indexed::<Session>(7)?.put((7, 8), session)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::collection`].
    pub fn indexed<E: Indexed<A>>(
        &mut self,
        key: <E::Header as Kind<A>>::Key,
    ) -> Reached<A, IndexedEntries<'_, 'a, A, E>> {
        Ok(IndexedEntries { collection: self.collection(E::Header::id(key))?, key })
    }
}

impl<A: Actor, E: Indexed<A>> IndexedEntries<'_, '_, A, E> {
    /// The header's key.
    pub fn key(&self) -> <E::Header as Kind<A>>::Key {
        self.key
    }

    /// The entry with this key; `None` if it does not exist.
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as
    /// [`Collection::get`].
    pub fn read(&self, key: E::Key) -> Reached<A, Option<&E>> {
        let state = self.collection.get(E::id(key))?;
        state.map(|state| E::of(state).ok_or_else(|| wrong_kind::<A, E>(E::id(key)))).transpose()
    }

    /// The entries in a range of keys, in their order.
    pub fn range(&self, keys: impl RangeBounds<E::Key>) -> impl DoubleEndedIterator<Item = (E::Key, &E)> {
        let all = self.collection.range(to_ids::<A, E>(&keys));
        all.filter_map(|(id, state)| Some((E::key(id)?, E::of(state)?)))
    }

    /// The entries in a range of places, in the second order.
    ///
    /// # Errors
    /// Each item as [`IndexedEntries::read`].
    pub fn by(
        &self,
        places: impl RangeBounds<PlaceKey<A, E>>,
    ) -> impl DoubleEndedIterator<Item = Reached<A, (E::Key, &E)>> {
        let ids = to_ids::<A, E::Index>(&places);
        self.collection.range(ids).filter_map(move |(id, _)| {
            let key = E::key_at(E::Index::key(id)?);
            let entry = self.read(key).map(|entry| Some((key, entry?)));
            if let Err(AccessError::Undeclared { .. }) = entry {
                self.miss_all(ids);
            }
            entry.transpose()
        })
    }

    /// The message runs on another shard, and has places and not their entries: then it misses all
    /// of them, and not one in each run.
    #[cold]
    fn miss_all(&self, places: IdBounds<A::Id>) {
        let keys = self.collection.range(places).filter_map(|(id, _)| E::Index::key(id).map(E::key_at));
        for key in keys {
            let _missed = self.collection.get(E::id(key));
        }
    }

    /// The entry at the first place of a range, with its key; `None` if there is none.
    ///
    /// # Errors
    /// As [`IndexedEntries::read`].
    pub fn first_by(&self, places: impl RangeBounds<PlaceKey<A, E>>) -> Reached<A, Option<(E::Key, &E)>> {
        self.by(places).next().transpose()
    }

    /// Gives the entry with this key this value, and returns the one it had.
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as
    /// [`Collection::insert`]. The message must fail with it, as every message does that returns
    /// the error: else the second order may lack the entry.
    pub fn put(&mut self, key: E::Key, entry: E) -> Reached<A, Option<E>> {
        let was = self.read(key)?.and_then(|was| E::place_of(key, was));
        if !fault::is_on(Fault::LackPlace) {
            self.move_place(was, E::place_of(key, &entry))?;
        }
        let was = self.collection.insert(E::id(key), entry.into_state())?;
        was.map(|was| E::from_state(was).map_err(|_| wrong_kind::<A, E>(E::id(key)))).transpose()
    }

    /// Changes the entry with this key, and returns what `change` does; `None` if there is none.
    ///
    /// # Errors
    /// As [`IndexedEntries::put`].
    pub fn change<T>(&mut self, key: E::Key, change: impl FnOnce(&mut E) -> T) -> Reached<A, Option<T>> {
        let Some(state) = self.collection.get_mut(E::id(key))? else { return Ok(None) };
        let entry = E::of_mut(state).ok_or_else(|| wrong_kind::<A, E>(E::id(key)))?;
        let was = E::place_of(key, entry);
        let changed = change(entry);
        let is = E::place_of(key, entry);
        if !fault::is_on(Fault::UnmovedPlace) {
            self.move_place(was, is)?;
        }
        Ok(Some(changed))
    }

    /// Removes the entry with this key, and returns it; `None` if there is none.
    ///
    /// # Errors
    /// As [`IndexedEntries::put`].
    pub fn take(&mut self, key: E::Key) -> Reached<A, Option<E>> {
        let Some(was) = self.read(key)?.map(|was| E::place_of(key, was)) else { return Ok(None) };
        if !fault::is_on(Fault::LeavePlace) {
            self.move_place(was, None)?;
        }
        let was = self.collection.remove(E::id(key))?;
        was.map(|was| E::from_state(was).map_err(|_| wrong_kind::<A, E>(E::id(key)))).transpose()
    }

    /// Removes the first entry of a range of places, and returns it with its key; `None` if there
    /// is none.
    ///
    /// # Errors
    /// As [`IndexedEntries::put`].
    pub fn take_first_by(
        &mut self,
        places: impl RangeBounds<PlaceKey<A, E>>,
    ) -> Reached<A, Option<(E::Key, E)>> {
        let Some(key) = self.first_by(places)?.map(|(key, _)| key) else { return Ok(None) };
        Ok(self.take(key)?.map(|entry| (key, entry)))
    }

    /// Removes all entries of the collection, of whatever kind: as [`Collection::clear`].
    ///
    /// # Errors
    /// As [`Collection::clear`].
    pub fn clear(&mut self) -> Reached<A, ()> {
        self.collection.clear()
    }

    /// An entry that had a place has another now.
    fn move_place(&mut self, was: Option<PlaceKey<A, E>>, is: Option<PlaceKey<A, E>>) -> Reached<A, ()> {
        if was == is {
            return Ok(());
        }
        if let Some(was) = was {
            self.collection.remove(E::Index::id(was))?;
        }
        if let Some(is) = is {
            let before = self.collection.insert(E::Index::id(is), E::Index::default().into_state())?;
            debug_assert!(before.is_none(), "index-agrees: a place is of one entry");
            if fault::is_on(Fault::KeepPlace) {
                self.collection.forget_last_image();
            }
        }
        Ok(())
    }
}
