//! What a message sees of the objects while it runs: ownership is checked on every access, and a
//! before-image of each object is kept at its first write, so that the engine can undo the message.

use std::any::type_name;
use std::time::Duration;

use crate::actor::addressees::{ADDRESSEES_MAX, Others, Target};
use crate::actor::run::{BeforeImage, CommitWork, ObjectSlot, Outboxes, RunState};
use crate::actor::{AccessError, Actor};
use crate::epoch::TransactionId;
use crate::object::{Access, ObjectId, OwnerId, Ownership};
use crate::store::slot::{NO_SLOT, SlotIndex};

/// The objects a message may touch while it runs, and what it may send.
///
/// Every access checks the object's ownership. Ids that were not declared in [`Actor::addressees`]
/// work as long as they live on the shard that runs the message. A refused call changes nothing;
/// return its error with `?` to abort the message.
pub struct Objects<'a, A: Actor> {
    pub(crate) run: &'a mut RunState<A>,
    /// The message's first object. By value, and never handed by reference to a function that is
    /// not inlined, so that it can live in registers.
    pub(crate) first: Target<A::Id>,
    /// The others, and those the message touched without having declared them.
    pub(crate) others: &'a mut Others<A::Id>,
    pub(crate) outboxes: &'a dyn Outboxes,
    pub(crate) sender: OwnerId,
    /// The before-image of the first object written; the others' are on the run. Here it costs no
    /// memory but the stack.
    pub(crate) first_before: Option<BeforeImage<A>>,
}

/// Two states of one pair.
type StatePair<'a, A> = (Option<&'a mut <A as Actor>::State>, Option<&'a mut <A as Actor>::State>);

impl<A: Actor> Objects<'_, A> {
    /// Who sent the message.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// // The object says who wrote it last.
    /// objects.insert(7, objects.sender().0)?;
    /// # Ok(()) }
    /// ```
    pub fn sender(&self) -> OwnerId {
        self.sender
    }

    /// The name of this message, if it takes effect: no other has it. A run that is undone leaves
    /// its name to another.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let name = objects.transaction_id();
    /// println!("{name:?}");
    /// # Ok(()) }
    /// ```
    pub fn transaction_id(&self) -> TransactionId {
        self.run.transaction_id()
    }

    /// The state of the object `id`; `None` if it does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let balance: u64 = objects.get(7)?.copied().unwrap_or(0);
    /// # let _ = balance;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::Undeclared`] if it was not declared and lives on another shard or is locked:
    /// return it.
    #[inline]
    pub fn get(&self, id: A::Id) -> Result<Option<&A::State>, AccessError<A::Id>> {
        let slot = self.slot_of(id)?;
        if slot == NO_SLOT { Ok(None) } else { Ok(self.run.partition.slot(slot).state.as_ref()) }
    }

    /// Whether the object `id` exists.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// if !objects.contains(7)? {
    ///     objects.insert(7, 0)?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn contains(&self, id: A::Id) -> Result<bool, AccessError<A::Id>> {
        self.get(id).map(|state| state.is_some())
    }

    /// The state of the object `id`, to change it; `None` if it does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// if let Some(balance) = objects.get_mut(7)? {
    ///     *balance += 5;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::NotOwner`] and [`AccessError::Immutable`] if the sender may not write it;
    /// otherwise as [`Objects::get`].
    #[inline]
    pub fn get_mut(&mut self, id: A::Id) -> Result<Option<&mut A::State>, AccessError<A::Id>> {
        Ok(self.writable(id)?.and_then(|slot| slot.state.as_mut()))
    }

    /// The states of two different objects, to change both; `None` for one that does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// if let (Some(payer), Some(payee)) = objects.get_pair_mut(7, 8)? {
    ///     *payer -= 5;
    ///     *payee += 5;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::SameObject`] if the ids are equal; otherwise as [`Objects::get_mut`] for
    /// either.
    #[inline]
    pub fn get_pair_mut(&mut self, a: A::Id, b: A::Id) -> Result<StatePair<'_, A>, AccessError<A::Id>> {
        if a == b {
            return Err(AccessError::SameObject { id: a });
        }
        let first = match self.writable_index(a) {
            Ok(first) => first,
            Err(error) => {
                self.also_want(&[b]);
                return Err(error);
            }
        };
        let slots = (first, self.writable_index(b)?);
        let partition = &mut self.run.partition;
        Ok(match slots {
            (NO_SLOT, NO_SLOT) => (None, None),
            (a, NO_SLOT) => (partition.slot_mut(a).state.as_mut(), None),
            (NO_SLOT, b) => (None, partition.slot_mut(b).state.as_mut()),
            (a, b) => {
                let (a, b) = partition.slots_mut(a, b);
                (a.state.as_mut(), b.state.as_mut())
            }
        })
    }

    /// The states of `N` different objects, to change all of them, in the order of `ids`; `None`
    /// for one that does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let [payer, payee, bank] = objects.get_many_mut([7, 8, 0])?;
    /// # let _: [Option<&mut A::State>; 3] = [payer, payee, bank];
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::SameObject`] if two ids are equal; otherwise as [`Objects::get_mut`] for any.
    pub fn get_many_mut<const N: usize>(
        &mut self,
        ids: [A::Id; N],
    ) -> Result<[Option<&mut A::State>; N], AccessError<A::Id>> {
        if let Some((_, &id)) = ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(id)) {
            return Err(AccessError::SameObject { id });
        }
        let mut slots = [NO_SLOT; N];
        for (at, id) in ids.into_iter().enumerate() {
            let slot = self.writable_index(id);
            if slot.is_err() {
                self.also_want(&ids[at + 1..]);
            }
            slots[at] = slot?;
        }
        let slots = self.run.partition.many_slots_mut(slots);
        Ok(slots.map(|slot| slot.and_then(|slot| slot.state.as_mut())))
    }

    /// Makes sure that this message may write all of these objects, and have them at once. If it
    /// misses some, it runs again with all of them. So a message that finds out which objects it
    /// needs, and then names them here, runs twice and not once more for each.
    ///
    /// An object that the message has is not changed, and none is inserted.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = Vec<u64>>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let friends = objects.get(7)?.cloned().unwrap_or_default();
    /// objects.want(friends.iter().copied())?;
    /// for friend in friends {
    ///     objects.get_or_insert_with(friend, Vec::new)?.push(7);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::Undeclared`] if it misses one: return it.
    pub fn want(
        &self,
        ids: impl IntoIterator<Item = A::Id, IntoIter: Clone>,
    ) -> Result<(), AccessError<A::Id>> {
        self.want_for(Access::Write, ids)
    }

    /// As [`Objects::want`], for objects that the message only reads.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = Vec<u64>>>(objects: &mut Objects<'_, A>) -> Result<usize, AccessError<u64>> {
    /// let friends = objects.get(7)?.cloned().unwrap_or_default();
    /// objects.want_to_read(friends.iter().copied())?;
    /// let mut friends_of_friends = 0;
    /// for friend in friends {
    ///     friends_of_friends += objects.get(friend)?.map_or(0, Vec::len);
    /// }
    /// # Ok(friends_of_friends) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::want`].
    pub fn want_to_read(
        &self,
        ids: impl IntoIterator<Item = A::Id, IntoIter: Clone>,
    ) -> Result<(), AccessError<A::Id>> {
        self.want_for(Access::Read, ids)
    }

    fn want_for(
        &self,
        access: Access,
        ids: impl IntoIterator<Item = A::Id, IntoIter: Clone>,
    ) -> Result<(), AccessError<A::Id>> {
        // Who has a collection has its entries.
        let ids = ids.into_iter().map(|id| id.collection().unwrap_or(id));
        match ids.clone().find(|id| self.misses(*id, access)) {
            None => Ok(()),
            Some(missed) => Err(self.want_anew(missed, access, ids)),
        }
    }

    /// The message begins anew. It may run on another shard then, where it misses what it has here
    /// without having declared it. So it gets all of them.
    #[cold]
    fn want_anew(
        &self,
        missed: A::Id,
        access: Access,
        ids: impl Iterator<Item = A::Id>,
    ) -> AccessError<A::Id> {
        let error = self.run.missing.miss(missed, access);
        ids.filter(|id| *id != missed).for_each(|id| self.run.missing.also_want(id, access));
        error
    }

    /// Whether the message cannot have the object `id` at once.
    fn misses(&self, id: A::Id, access: Access) -> bool {
        let others = || self.others.iter().find(|target| target.id == id);
        match Some(&self.first).filter(|first| first.id == id).or_else(others) {
            Some(target) => {
                access == Access::Write
                    && target.access == Access::Read
                    && target.slot != NO_SLOT
                    && self.run.partition.slot(target.slot).is_held()
            }
            None => self.run.look_up(id).is_none(),
        }
    }

    /// The first of several objects is not to be had. If the message begins anew for that, it does
    /// with those of the others as well that it misses.
    #[cold]
    fn also_want(&self, others: &[A::Id]) {
        if self.run.missing.first.get().is_some() {
            others.iter().for_each(|id| self.run.missing.also_want(*id, Access::Write));
        }
    }

    /// The state of the object `id`, to change it; if there is none, it is first inserted with the
    /// state `make` returns, owned by the sender.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// *objects.get_or_insert_with(7, || 0)? += 5;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::get_mut`]; [`AccessError::TooManyObjects`] if an undeclared object would be
    /// one too many.
    #[inline]
    pub fn get_or_insert_with(
        &mut self,
        id: A::Id,
        make: impl FnOnce() -> A::State,
    ) -> Result<&mut A::State, AccessError<A::Id>> {
        let sender = self.sender;
        let slot = self.made_writable(id)?;
        if slot.state.is_none() {
            slot.set_ownership(Ownership::Owned(sender));
        }
        Ok(slot.state.get_or_insert_with(make))
    }

    /// Gives the object `id` this state, and returns the one it had. A new object is owned by the
    /// sender.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let before: Option<u64> = objects.insert(7, 100)?;
    /// # let _ = before;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::get_or_insert_with`].
    pub fn insert(&mut self, id: A::Id, state: A::State) -> Result<Option<A::State>, AccessError<A::Id>> {
        let sender = self.sender;
        let slot = self.made_writable(id)?;
        if slot.state.is_none() {
            slot.set_ownership(Ownership::Owned(sender));
        }
        Ok(slot.state.replace(state))
    }

    /// Removes the object `id` and returns its state; `None` if there is none.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let was: Option<u64> = objects.remove(7)?;
    /// # let _ = was;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::get_mut`].
    pub fn remove(&mut self, id: A::Id) -> Result<Option<A::State>, AccessError<A::Id>> {
        self.run.commit_work.add(CommitWork::CHANGES);
        Ok(self.writable(id)?.and_then(|slot| slot.state.take()))
    }

    /// Who may write the object `id`; `None` if it does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects, Ownership};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let is_shared = objects.ownership(7)? == Some(Ownership::Shared);
    /// # let _ = is_shared;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn ownership(&self, id: A::Id) -> Result<Option<Ownership>, AccessError<A::Id>> {
        let slot = self.slot_of(id)?;
        if slot == NO_SLOT {
            return Ok(None);
        }
        let slot = self.run.partition.slot(slot);
        Ok(slot.state.is_some().then_some(slot.ownership()))
    }

    /// Gives the object `id` to another owner. From the next message on only that owner writes it.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects, OwnerId};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// // From now on only owner 3 writes it.
    /// objects.transfer(7, OwnerId(3))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::Absent`] if it does not exist; otherwise as [`Objects::get_mut`].
    pub fn transfer(&mut self, id: A::Id, to: OwnerId) -> Result<(), AccessError<A::Id>> {
        self.set_ownership(id, Ownership::Owned(to))
    }

    /// Lets anyone write the object `id`.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// objects.insert(7, 100)?;
    /// objects.share(7)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::transfer`].
    pub fn share(&mut self, id: A::Id) -> Result<(), AccessError<A::Id>> {
        self.set_ownership(id, Ownership::Shared)
    }

    /// Makes the object `id` immutable, for good: nobody writes, removes or transfers it again.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// objects.insert(7, 100)?;
    /// objects.freeze(7)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::transfer`].
    pub fn freeze(&mut self, id: A::Id) -> Result<(), AccessError<A::Id>> {
        self.set_ownership(id, Ownership::Immutable)
    }

    /// The time of the turn that runs this message: how long the runtime has been running; with a
    /// log, how long its database has, in all its runs. It never goes back on one shard. Two shards
    /// may differ by as long as a turn takes. A message that a task runs by `ask_now` sees the time
    /// of the shard's last turn, unless timers wait there.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # use std::time::Duration;
    /// # fn receive<A: Actor<Id = u64, State = Duration>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let seen_last = objects.now();
    /// objects.insert(7, seen_last)?;
    /// # Ok(()) }
    /// ```
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.run.now.0)
    }

    /// The value that the runtime was started with: fees, limits, clients.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// struct Fees { cents: u64 }
    ///
    /// # fn receive<A: Actor<Id = u64, State = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let fee = objects.context::<Fees>()?.cents;
    /// # let _ = fee;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::NoContext`] if that is no `C`.
    pub fn context<C: 'static>(&self) -> Result<&C, AccessError<A::Id>> {
        self.run.context.downcast_ref().ok_or(AccessError::NoContext { wanted: type_name::<C>() })
    }

    fn set_ownership(&mut self, id: A::Id, ownership: Ownership) -> Result<(), AccessError<A::Id>> {
        let slot = self.writable(id)?.filter(|slot| slot.state.is_some());
        slot.ok_or(AccessError::Absent { id })?.set_ownership(ownership);
        self.run.commit_work.add(CommitWork::CHANGES);
        Ok(())
    }

    /// The slot of `id`, declared or not; [`NO_SLOT`] if it has none.
    #[inline]
    pub(super) fn slot_of(&self, id: A::Id) -> Result<SlotIndex, AccessError<A::Id>> {
        if self.first.id == id {
            return Ok(self.first.slot);
        }
        match self.others.iter().find(|target| target.id == id) {
            Some(target) => Ok(target.slot),
            None if id.collection().is_some() => Err(AccessError::Entry { id }),
            None => match self.run.look_up(id) {
                Some((_, slot)) => Ok(slot),
                None => Err(self.run.missing.miss(id, Access::Read)),
            },
        }
    }

    /// The object `id`, declared or not: if it was not, it is to be written now.
    pub(super) fn had_to_write(&mut self, id: A::Id) -> Result<&Target<A::Id>, AccessError<A::Id>> {
        if self.first.id == id { Ok(&self.first) } else { Ok(declared(self.run, self.others, id)?) }
    }

    /// The slot of `id`, once the sender may write it and its before-image is kept; `None` if it
    /// has none, and so does not exist.
    #[inline]
    fn writable(&mut self, id: A::Id) -> Result<Option<&mut ObjectSlot<A>>, AccessError<A::Id>> {
        if self.first.id == id {
            return if self.first.slot == NO_SLOT { Ok(None) } else { self.first_writable().map(Some) };
        }
        let slot = other_writable(self.run, self.others, id, self.sender)?;
        Ok(if slot == NO_SLOT { None } else { Some(self.run.partition.slot_mut(slot)) })
    }

    /// As [`Objects::writable`]; if `id` has no slot it is given one, without a state.
    #[inline]
    fn made_writable(&mut self, id: A::Id) -> Result<&mut ObjectSlot<A>, AccessError<A::Id>> {
        if self.first.id == id {
            if self.first.slot == NO_SLOT {
                self.first.slot = self.run.appear(Target { ..self.first }, self.sender);
                self.first.saved = true;
            }
            return self.first_writable();
        }
        let slot = other_made_writable(self.run, self.others, id, self.sender)?;
        Ok(self.run.partition.slot_mut(slot))
    }

    #[inline]
    fn writable_index(&mut self, id: A::Id) -> Result<SlotIndex, AccessError<A::Id>> {
        if self.first.id != id {
            return other_writable(self.run, self.others, id, self.sender);
        }
        if self.first.slot != NO_SLOT {
            self.first_writable()?;
        }
        Ok(self.first.slot)
    }

    /// The first object's slot, which it must have.
    #[inline]
    fn first_writable(&mut self) -> Result<&mut ObjectSlot<A>, AccessError<A::Id>> {
        let index = self.first.slot;
        let slot = self.run.partition.slot_mut(index);
        if !self.first.saved {
            if self.first.access == Access::Read && slot.is_held() {
                return Err(self.run.missing.miss(self.first.id, Access::Write));
            }
            let ownership = BeforeImage::<A>::may_write(slot, self.sender)?;
            self.first_before = Some(BeforeImage { slot: index, ownership, state: slot.state.clone() });
            self.first.saved = true;
            if slot.needs_commit(&self.run.epoch_state) {
                self.run.commit_work.add(CommitWork::CHANGES);
            }
        }
        Ok(slot)
    }
}

/// The slot of an object that is not the first, once the sender may write it and its before-image
/// is kept; [`NO_SLOT`] if it has none. An object that was not declared is now.
fn other_writable<A: Actor>(
    run: &mut RunState<A>,
    others: &mut Others<A::Id>,
    id: A::Id,
    sender: OwnerId,
) -> Result<SlotIndex, AccessError<A::Id>> {
    let target = declared(run, others, id)?;
    if !target.saved && target.slot != NO_SLOT {
        let slot = run.partition.slot(target.slot);
        if target.access == Access::Read && slot.is_held() {
            return Err(run.missing.miss(id, Access::Write));
        }
        let ownership = BeforeImage::<A>::may_write(slot, sender)?;
        if slot.needs_commit(&run.epoch_state) {
            run.commit_work.add(CommitWork::CHANGES);
        }
        run.before.push(BeforeImage { slot: target.slot, ownership, state: slot.state.clone() });
        target.saved = true;
    }
    Ok(target.slot)
}

/// As [`other_writable`]; if the object has no slot it is given one, without a state.
fn other_made_writable<A: Actor>(
    run: &mut RunState<A>,
    others: &mut Others<A::Id>,
    id: A::Id,
    sender: OwnerId,
) -> Result<SlotIndex, AccessError<A::Id>> {
    let target = declared(run, others, id)?;
    if target.slot == NO_SLOT {
        target.slot = run.appear(*target, sender);
        target.saved = true;
    }
    other_writable(run, others, id, sender)
}

#[inline]
fn declared<'a, A: Actor>(
    run: &RunState<A>,
    others: &'a mut Others<A::Id>,
    id: A::Id,
) -> Result<&'a mut Target<A::Id>, AccessError<A::Id>> {
    let at = match others.iter().position(|target| target.id == id) {
        Some(at) => at,
        None if id.collection().is_some() => return Err(AccessError::Entry { id }),
        None => {
            let Some((hash, slot)) = run.look_up(id) else {
                return Err(run.missing.miss(id, Access::Write));
            };
            let target = Target { hash: Some(hash), ..Target::found(id, slot, Access::Write) };
            others.try_push(target).map_err(|_| AccessError::TooManyObjects { max: ADDRESSEES_MAX })?;
            others.len() - 1
        }
    };
    Ok(&mut others[at])
}
