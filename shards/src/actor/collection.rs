//! Collections: objects that are larger than a message should copy.
//!
//! A collection is an object, its *header*, with any number of *entries*: objects whose ids say
//! that they belong to it ([`ObjectId::COLLECTION`]). A message changes some of the entries and
//! pays for those: each has its own before-image, its own record in the log and its own old
//! versions for snapshots.
//!
//! Invariant *one-lock-a-collection*: entries are not named by messages and not locked. A message
//! that has the header has its entries, as they are when it runs. It may read them if it may read
//! the header, and change them if it may write the header. So a range that a message has read stays
//! as it is until the message has ended, and there are no phantoms.
//!
//! An entry has no owner of its own; its record in a log is as short as that of an object of
//! owner 0.

mod walk;

use std::ops::{Bound, RangeBounds};

use crate::actor::addressees::Target;
use crate::actor::objects::Objects;
use crate::actor::run::{BeforeImage, CommitWork, MissedRange, Need, ObjectSlot};
use crate::actor::{AccessError, Actor};
use crate::fault::{self, Fault};
use crate::object::{Access, ObjectId, OwnerId, Ownership};
use crate::store::id_range::{IdBounds, RangeEnd, begins_before, ends_behind, is_range};
use crate::store::order::OrderIndex;
use crate::store::slot::{EntryPlace, NO_SLOT, SlotIndex};
use crate::store::tree::{Located, Range};

use walk::EntryRange;
pub use walk::{EntryMut, EntryWalk};

/// Ranges that one run of a message may miss; those beyond are missed by the next.
const MISSED_MAX: usize = 256;
/// How many entries a range wants at first that the message has not spoken of.
const AT_FIRST: usize = 16;
/// Up to so many entries are removed one by one when their collection is cleared: a turn drops as
/// many. Beyond it, it gives them away together. (Collections of tests are small.)
const CLEARED_SINGLY: usize = if cfg!(test) { 1 } else { 16 };

/// A collection, while a message runs that has it: its header, and its entries in the order of
/// their ids.
///
/// ```
/// use freehold_shard::{AccessError, Actor, Objects};
/// # use freehold_shard::{CollectionOf, ObjectId};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
/// # enum Id { Book(u64), Order { book: u64, price: u64, number: u64 } }
/// # impl ObjectId for Id {
/// #     const COLLECTION: Option<CollectionOf<Id>> = Some(|id| match *id {
/// #         Id::Book(_) => None,
/// #         Id::Order { book, .. } => Some(Id::Book(book)),
/// #     });
/// # }
///
/// /// Takes what is asked from the cheapest orders of the book 7. A state is a quantity.
/// fn buy<A: Actor<Id = Id, State = u64>>(
///     objects: &mut Objects<'_, A>,
///     mut wanted: u64,
/// ) -> Result<u64, AccessError<Id>> {
///     let mut orders = objects.collection(Id::Book(7))?;
///     let mut walk = orders.walk(..);
///     while wanted > 0 && let Some(mut order) = walk.next() {
///         let taken = wanted.min(*order.state());
///         wanted -= taken;
///         if taken == *order.state() {
///             order.remove()?;
///         } else {
///             *order.state_mut()? -= taken;
///         }
///     }
///     Ok(wanted)
/// }
/// ```
///
/// Each call that finds, adds or removes one entry takes time as the logarithm of their number, and
/// memory for the entries that it changes.
///
/// A message may run on another shard than the collection lives on, and not have what it asks for.
/// Then it runs again with that, whatever it does or returns: see [`Actor::needs`]. Until it has
/// ended, `get` and its like answer [`AccessError::Undeclared`], `len` is 0, and ranges end.
pub struct Collection<'c, 'a, A: Actor> {
    objects: &'c mut Objects<'a, A>,
    id: A::Id,
    /// `None` while it has no entries.
    order: Option<OrderIndex>,
    /// The message may change entries: asked once.
    may_write: bool,
    standing: Standing,
}

/// Where a collection is at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Here, with all its entries.
    Home,
    /// Elsewhere: the message has what it took along, if it knew that it needs something. See
    /// `pieces`, which is where *known-or-missed* stands.
    Guest(Option<usize>),
}

/// Whether `sender` may write the object in `slot`: what [`BeforeImage::may_write`] asks too.
/// (One function for both cost an order of an exchange 74 instructions.)
fn check_writer<A: Actor>(slot: &ObjectSlot<A>, sender: OwnerId) -> Result<(), AccessError<A::Id>> {
    let id = slot.id;
    match slot.ownership() {
        Ownership::Owned(owner) if owner == sender || slot.state.is_none() => Ok(()),
        Ownership::Owned(owner) => Err(AccessError::NotOwner { id, owner, sender }),
        Ownership::Immutable if slot.state.is_some() => Err(AccessError::Immutable { id }),
        Ownership::Shared | Ownership::Immutable => Ok(()),
    }
}

impl<'a, A: Actor> Objects<'a, A> {
    /// The collection `id`: its entries, and its header if there is one. It need not exist: a
    /// collection without a header belongs to nobody, and anyone adds entries to it. To remove the
    /// header leaves the entries: [`clear`](Collection::clear) removes them.
    ///
    /// See [`Collection`] for an example.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<State = u64>>(book: A::Id, order: A::Id, objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// let mut orders = objects.collection(book)?;
    /// orders.insert(order, 5)?;
    /// assert!(!orders.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::Entry`] if `id` is an entry of another; otherwise as [`Objects::get`].
    pub fn collection(&mut self, id: A::Id) -> Result<Collection<'_, 'a, A>, AccessError<A::Id>> {
        if id.collection().is_some() {
            return Err(AccessError::Entry { id });
        }
        let slot = self.slot_of(id)?;
        let standing = if slot == NO_SLOT || self.run.partition.slot(slot).is_live() {
            Standing::Home
        } else {
            Standing::Guest(self.run.guests.iter().position(|guest| guest.collection == id))
        };
        let order = self.run.partition.orders.number(&id);
        Ok(Collection { objects: self, id, order, may_write: false, standing })
    }
}

impl<'c, 'a, A: Actor> Collection<'c, 'a, A> {
    /// The collection's id, which is its header's.
    pub fn id(&self) -> A::Id {
        self.id
    }

    /// The state of the header; `None` if there is none.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn header(&self) -> Result<Option<&A::State>, AccessError<A::Id>> {
        self.objects.get(self.id)
    }

    /// The state of the header, to change it; `None` if there is none. `Objects::insert` makes one.
    ///
    /// # Errors
    /// As [`Objects::get_mut`].
    pub fn header_mut(&mut self) -> Result<Option<&mut A::State>, AccessError<A::Id>> {
        self.objects.get_mut(self.id)
    }

    /// How many entries there are.
    #[inline]
    pub fn len(&self) -> usize {
        let here = self.order.map_or(0, |order| self.objects.run.partition.orders.len(order));
        match self.standing {
            Standing::Home => here,
            Standing::Guest(Some(guest)) => {
                let guest = &self.objects.run.guests[guest];
                guest.len - guest.lent + here
            }
            Standing::Guest(None) => {
                // The header is no entry: this is a range without any.
                self.miss(Need {
                    bounds: (Bound::Included(self.id), Bound::Included(self.id)),
                    end: RangeEnd::Front,
                });
                0
            }
        }
    }

    /// Whether there are no entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The state of the entry `id`; `None` if it does not exist.
    ///
    /// # Errors
    /// [`AccessError::NotAnEntry`] if `id` is not of this collection.
    #[inline]
    pub fn get(&self, id: A::Id) -> Result<Option<&A::State>, AccessError<A::Id>> {
        Ok(self.find(id)?.and_then(|found| self.slot(found.slot).state.as_ref()))
    }

    /// The state of the entry `id`, to change it; `None` if it does not exist.
    ///
    /// # Errors
    /// [`AccessError::NotAnEntry`] if `id` is not of this collection;
    /// [`AccessError::TooManyEntries`] if the message has changed as many as it may;
    /// [`AccessError::NotOwner`], [`AccessError::Immutable`] and [`AccessError::Undeclared`] as
    /// [`Objects::get_mut`] says of the header.
    #[inline]
    pub fn get_mut(&mut self, id: A::Id) -> Result<Option<&mut A::State>, AccessError<A::Id>> {
        match self.find(id)? {
            None => Ok(None),
            Some(found) => Ok(self.writable(found.slot)?.state.as_mut()),
        }
    }

    /// Gives the entry `id` this state, and returns the one it had.
    ///
    /// # Errors
    /// As [`Collection::get_mut`].
    pub fn insert(&mut self, id: A::Id, state: A::State) -> Result<Option<A::State>, AccessError<A::Id>> {
        self.check_is_entry(id)?;
        self.check_known(id)?;
        self.own()?;
        let has_room = self.check_room();
        let run = &mut *self.objects.run;
        let (slot, existed) = match (self.standing, &has_room) {
            (Standing::Home, Ok(())) => run.partition.find_or_insert_entry(&self.id, id),
            _ => {
                let find = |order| run.partition.find_entry(order, &id);
                let slot = self.order.map_or(NO_SLOT, find);
                (slot, slot != NO_SLOT)
            }
        };
        if !existed {
            has_room?;
            let slot = if self.standing == Standing::Home {
                slot
            } else {
                run.partition.lend_entry(self.id, id, run.epoch_state.epoch, None)
            };
            let image = run.before.len();
            let new = run.partition.slot_mut(slot);
            new.state = Some(state);
            new.set_image(image);
            run.before.push(BeforeImage { slot, ownership: Ownership::default(), state: None });
            run.commit_work.add(CommitWork::CHANGES);
            self.order = run.partition.orders.number(&self.id);
            return Ok(None);
        }
        let before = self.writable(slot)?.state.replace(state);
        if before.is_none() {
            self.objects.run.partition.place(slot, &self.id, EntryPlace::Live);
        }
        Ok(before)
    }

    /// Removes the entry `id` and returns its state; `None` if there is none.
    ///
    /// # Errors
    /// As [`Collection::get_mut`].
    pub fn remove(&mut self, id: A::Id) -> Result<Option<A::State>, AccessError<A::Id>> {
        match self.find(id)? {
            None => Ok(None),
            Some(found) => self.remove_located(found),
        }
    }

    /// The entry with the lowest id.
    #[inline]
    pub fn first(&self) -> Option<(A::Id, &A::State)> {
        self.range(..).next()
    }

    /// The entry with the highest id.
    #[inline]
    pub fn last(&self) -> Option<(A::Id, &A::State)> {
        self.range(..).next_back()
    }

    /// The entries in a range of ids, in their order; from the end, too (`rev`). A range that ends
    /// before it begins is empty.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = (u64, u64), State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// let orders = objects.collection((7, 0))?;
    /// let cheapest = orders.range((7, 100)..(7, 200)).next();
    /// let dearest = orders.range((7, 100)..(7, 200)).next_back();
    /// # let _ = (cheapest, dearest);
    /// # Ok(()) }
    /// ```
    pub fn range(&self, ids: impl RangeBounds<A::Id>) -> impl DoubleEndedIterator<Item = (A::Id, &A::State)> {
        let bounds = (ids.start_bound().cloned(), ids.end_bound().cloned());
        let partition = &self.objects.run.partition;
        let here = match (self.standing, self.order) {
            (Standing::Home, Some(order)) => partition.range(order, bounds),
            _ => Range::empty(),
        };
        EntryRange { collection: self, here, asked: bounds, left: bounds }
    }

    /// Walks a range of ids, and changes or removes what it finds: see [`Collection`] for an
    /// example. Each step takes time as the logarithm of the number of entries.
    pub fn walk(&mut self, ids: impl RangeBounds<A::Id>) -> EntryWalk<'_, 'c, 'a, A> {
        let bounds = (ids.start_bound().cloned(), ids.end_bound().cloned());
        EntryWalk { collection: self, asked: bounds, left: bounds }
    }

    /// Looks at no more than `most` entries of a range, and removes those that `keeps` says no to.
    /// Returns the first that it has not looked at; `None` at the end of the range. So a message
    /// that has to look at many goes on in another, which it tells itself.
    ///
    /// # Errors
    /// As [`Collection::get_mut`]; what was removed before is removed.
    pub fn retain(
        &mut self,
        ids: impl RangeBounds<A::Id>,
        most: usize,
        mut keeps: impl FnMut(A::Id, &A::State) -> bool,
    ) -> Result<Option<A::Id>, AccessError<A::Id>> {
        let mut walk = self.walk(ids);
        for _ in 0..most {
            let Some(entry) = walk.next() else { return Ok(None) };
            if !keeps(entry.id(), entry.state()) {
                entry.collection.drop_located(entry.found)?;
            }
        }
        Ok(walk.next().map(|entry| entry.id()))
    }

    /// Removes all entries, however many. The header stays: whoever wants the whole collection gone
    /// removes that as well.
    ///
    /// It takes no longer for a million than for a few: the log has one record of it, and the
    /// states are dropped by later turns, some at each. Only entries that the same message changed
    /// before are gone through. A message that clears a collection twice leaves one record, too.
    ///
    /// # Errors
    /// As [`Collection::get_mut`]; some entries may be removed then.
    pub fn clear(&mut self) -> Result<(), AccessError<A::Id>> {
        if self.is_empty() {
            return Ok(());
        }
        self.own()?;
        let run = &*self.objects.run;
        let here = self.order.map_or(0, |order| run.partition.orders.len(order));
        let room = run.limits.entries_max.saturating_sub(run.before.len());
        let is_small = self.standing == Standing::Home && here <= CLEARED_SINGLY.min(room);
        // What it has changed has a before-image, and stays by itself.
        for slot in self.live_entries(|slot| is_small || self.has_image(slot)) {
            self.remove_at(slot)?;
        }
        let run = &mut *self.objects.run;
        if run.partition.orders.is_clearing(&self.id) {
            debug_assert!(self.is_empty(), "cleared-once: what came since has before-images");
            return Ok(());
        }
        run.partition.orders.clear(self.id, run.before.len());
        run.commit_work.add(CommitWork::CHANGES);
        if let Standing::Guest(Some(guest)) = self.standing {
            // It knows all there is now.
            let guest = &mut run.guests[guest];
            (guest.len, guest.lent) = (0, 0);
            guest.known = vec![(Bound::Unbounded, Bound::Unbounded)];
        }
        Ok(())
    }

    /// The slots of the entries that there are, of which `is_one` says that. There are as few looks
    /// as there can be if it says so only of those that the message has changed.
    fn live_entries(&self, is_one: impl Fn(SlotIndex) -> bool) -> Vec<SlotIndex> {
        let run = &*self.objects.run;
        let Some(order) = self.order else { return Vec::new() };
        let orders = &run.partition.orders;
        if orders.len(order) <= CLEARED_SINGLY.max(run.before.len()) {
            return orders.live(order).iter().filter(|slot| is_one(*slot)).collect();
        }
        let is_of_this = |slot: &SlotIndex| {
            let slot = self.slot(*slot);
            slot.id.collection() == Some(self.id) && slot.state.is_some()
        };
        run.before.iter().map(|before| before.slot).filter(is_of_this).collect()
    }

    #[inline]
    fn slot(&self, slot: SlotIndex) -> &ObjectSlot<A> {
        self.objects.run.partition.slot(slot)
    }

    #[inline]
    fn check_is_entry(&self, id: A::Id) -> Result<(), AccessError<A::Id>> {
        if id.collection() == Some(self.id) { Ok(()) } else { Err(AccessError::NotAnEntry { id }) }
    }

    /// Where the entry `id` is, if it exists.
    #[inline]
    fn find(&self, id: A::Id) -> Result<Option<Located>, AccessError<A::Id>> {
        self.check_is_entry(id)?;
        self.check_known(id)?;
        Ok(self.order.and_then(|order| self.objects.run.partition.find_live(order, &id)))
    }

    /// The message needs what it has not taken along: it runs again with it. Until it has ended, it
    /// sees that there is nothing.
    #[cold]
    fn miss(&self, need: Need<A::Id>) -> AccessError<A::Id> {
        let missing = &self.objects.run.missing;
        let mut pieces = missing.pieces.borrow_mut();
        // What is missed twice in one run is not wanted in greater number.
        let is_this = |missed: &MissedRange<A::Id>| missed.collection == self.id && missed.need == need;
        if pieces.len() < MISSED_MAX && !pieces.iter().any(is_this) {
            pieces.push(MissedRange { collection: self.id, need, at_first: AT_FIRST });
        }
        drop(pieces);
        missing.miss(self.id, Access::Read)
    }

    /// The message has looked at a range: it wants so many entries of it at first, if it missed it.
    /// Said afterwards, it costs nothing where the collection is at home.
    #[inline]
    pub(super) fn wanted(&self, bounds: IdBounds<A::Id>, end: RangeEnd, at_first: usize) {
        if self.standing != Standing::Home {
            let need = Need { bounds, end };
            let mut missed = self.objects.run.missing.pieces.borrow_mut();
            let of_this =
                missed.iter_mut().filter(|missed| missed.collection == self.id && missed.need == need);
            of_this.for_each(|missed| missed.at_first = at_first);
        }
    }

    #[inline]
    fn check_known(&self, id: A::Id) -> Result<(), AccessError<A::Id>> {
        if self.standing == Standing::Home { Ok(()) } else { self.check_known_of_guest(id) }
    }

    #[cold]
    fn check_known_of_guest(&self, id: A::Id) -> Result<(), AccessError<A::Id>> {
        let bounds = (Bound::Included(id), Bound::Included(id));
        if self.knows(&bounds) { Ok(()) } else { Err(self.miss(Need { bounds, end: RangeEnd::Front })) }
    }

    /// Whether all entries of this range are here.
    fn knows(&self, (from, to): &IdBounds<A::Id>) -> bool {
        let known = match self.standing {
            Standing::Home => return true,
            Standing::Guest(guest) => guest.map(|guest| &self.objects.run.guests[guest].known),
        };
        let has_all = |known: &IdBounds<A::Id>| begins_before(&known.0, from) && ends_behind(&known.1, to);
        known.is_some_and(|known| known.iter().any(has_all)) || fault::is_on(Fault::MissNothing)
    }

    /// The next entry of a range of which `left` is left, and where it is; from the end, or from
    /// the beginning. What was `asked` for is what the message takes along if it is not known here.
    fn step(
        &self,
        asked: &IdBounds<A::Id>,
        left: &mut IdBounds<A::Id>,
        end: RangeEnd,
    ) -> Option<(A::Id, Located)> {
        let found = self.order.and_then(|order| {
            let found = self.objects.run.partition.end_of_range(order, left, end)?;
            Some((self.slot(found.slot).id, found))
        });
        if self.standing != Standing::Home {
            let met = found.map(|(id, _)| Bound::Included(id));
            let span = match end {
                RangeEnd::Front => (left.0, met.unwrap_or(left.1)),
                RangeEnd::Back => (met.unwrap_or(left.0), left.1),
            };
            if is_range(left) && !self.knows(&span) {
                self.miss(Need { bounds: *asked, end });
                return None;
            }
        }
        let (id, found) = found?;
        match end {
            RangeEnd::Front => left.0 = Bound::Excluded(id),
            RangeEnd::Back => left.1 = Bound::Excluded(id),
        }
        Some((id, found))
    }

    /// Removes an entry that was just found.
    #[inline]
    fn remove_located(&mut self, found: Located) -> Result<Option<A::State>, AccessError<A::Id>> {
        let before = self.writable(found.slot)?.state.take();
        if before.is_some() {
            self.place_removed(found);
        }
        Ok(before)
    }

    /// The same of an entry whose state nobody wants: that is the before-image, and is not copied.
    fn drop_located(&mut self, found: Located) -> Result<(), AccessError<A::Id>> {
        self.keep_image(found.slot, Option::take)?.state = None;
        self.place_removed(found);
        Ok(())
    }

    #[inline]
    fn place_removed(&mut self, found: Located) {
        let run = &mut *self.objects.run;
        run.commit_work.add(CommitWork::CHANGES);
        run.partition.place_removed(self.order.expect("an entry that was found is in an order"), found);
    }

    fn remove_at(&mut self, slot: SlotIndex) -> Result<Option<A::State>, AccessError<A::Id>> {
        let before = self.writable(slot)?.state.take();
        if before.is_some() {
            let run = &mut *self.objects.run;
            run.commit_work.add(CommitWork::CHANGES);
            run.partition.place(slot, &self.id, EntryPlace::Removed);
        }
        Ok(before)
    }

    /// Makes sure that the message may change entries.
    #[inline]
    fn own(&mut self) -> Result<(), AccessError<A::Id>> {
        if !self.may_write {
            self.own_now()?;
        }
        Ok(())
    }

    #[cold]
    fn own_now(&mut self) -> Result<(), AccessError<A::Id>> {
        let (id, sender) = (self.id, self.objects.sender);
        let Target { slot, access, saved, .. } = *self.objects.had_to_write(id)?;
        // Having been allowed to write the header once, it is to its end.
        if slot != NO_SLOT && !saved {
            let run = &mut *self.objects.run;
            let header = run.partition.slot(slot);
            if access == Access::Read && header.is_held() {
                return Err(run.missing.miss(id, Access::Write));
            }
            check_writer::<A>(header, sender)?;
        }
        self.may_write = true;
        Ok(())
    }

    /// Whether the message may change one more.
    fn check_room(&self) -> Result<(), AccessError<A::Id>> {
        let max = self.objects.run.limits.entries_max;
        if self.objects.run.before.len() < max { Ok(()) } else { Err(AccessError::TooManyEntries { max }) }
    }

    /// Whether the before-image of the entry in this slot is kept.
    #[inline]
    fn has_image(&self, index: SlotIndex) -> bool {
        self.objects.run.before.get(self.slot(index).image()).is_some_and(|before| before.slot == index)
    }

    /// What the message wrote last is not undone: see [`Fault::KeepPlace`].
    #[cold]
    pub(super) fn forget_last_image(&mut self) {
        self.objects.run.before.pop();
    }

    /// An entry's slot, once the message may write it and its before-image is kept.
    #[inline]
    fn writable(&mut self, index: SlotIndex) -> Result<&mut ObjectSlot<A>, AccessError<A::Id>> {
        self.keep_image(index, |state| state.clone())
    }

    /// The same, with a before-image that is made in this way, if there is none.
    #[inline]
    fn keep_image(
        &mut self,
        index: SlotIndex,
        image_of: impl FnOnce(&mut Option<A::State>) -> Option<A::State>,
    ) -> Result<&mut ObjectSlot<A>, AccessError<A::Id>> {
        self.own()?;
        let slot = self.slot(index);
        debug_assert_eq!(slot.id.collection(), Some(self.id), "one-lock-a-collection: the header is had");
        if !self.has_image(index) && !fault::is_on(Fault::ForgetEntry) {
            self.check_room()?;
            let run = &mut *self.objects.run;
            let slot = run.partition.slot_mut(index);
            if slot.needs_commit(&run.epoch_state) {
                run.commit_work.add(CommitWork::CHANGES);
            }
            let state = image_of(&mut slot.state);
            slot.set_image(run.before.len());
            run.before.push(BeforeImage { slot: index, ownership: slot.ownership(), state });
        }
        Ok(self.objects.run.partition.slot_mut(index))
    }
}
