//! What a shard knows and keeps for snapshots: when it has closed the epochs before one, what an
//! object was then, and when that may be forgotten.
//!
//! Invariant *closed-before-read*: a shard has closed the epochs before a snapshot when it has
//! entered the snapshot's epoch and nothing that it passed on in an earlier one is in doubt. Then
//! nothing can commit here any more that the snapshot would have to see: what is passed on from now
//! on commits in this epoch or a later one. When all shards have closed them, the snapshot is
//! *ready*, and every read of it is immediate.

use std::ops::{Bound, ControlFlow};

use crate::actor::Actor;
use crate::actor::run::RunState;
use crate::epoch::Epoch;
use crate::epoch::published::Expired;
use crate::fault::{self, Fault};
use crate::object::Ownership;
use crate::prefetch::Prefetch;
use crate::shard::Shard;
use crate::shard::engine::Engine;
use crate::store::slot::NO_SLOT;
use crate::store::version::Version;
use crate::time::Time;

/// Old versions, published objects and delivered sends let go of at each turn. Few, because a state
/// may be large and take long to drop: whoever has a clock goes on by [`Shard::sweep`].
const SWEPT_PER_TURN: usize = 16;
/// Of the entries that were cleared, a turn frees one in so many if that is more: so what is there
/// does not grow without end, however many come at each turn.
const FREED_ONE_IN: usize = 4096;
/// But no more than these at each turn.
const FREED_PER_TURN_MAX: usize = 256;

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Takes over what all shards know of epochs and snapshots, without a turn.
    pub fn enter(&mut self) {
        self.engine.enter();
    }

    /// Whether nothing can commit here any more that `snapshot` would have to see. Once true it
    /// stays so.
    pub fn has_closed(&self, snapshot: Epoch) -> bool {
        self.engine.has_closed(snapshot)
    }

    /// The object `id` as it was at the start of `snapshot`, with who could write it; `None` if it
    /// did not exist. All shards must have closed the epochs before.
    ///
    /// # Errors
    /// [`Expired`] if the snapshot is closed or was revoked.
    pub fn read_at(&self, snapshot: Epoch, id: &A::Id) -> Result<Option<(Ownership, &A::State)>, Expired> {
        let engine = &self.engine;
        engine.may_read(snapshot)?;
        let partition = &engine.run.partition;
        let (slot, _) = partition.find(partition.hash(id), id);
        let read = |slot| partition.read_at(&engine.versions, slot, snapshot);
        let found = if slot == NO_SLOT { None } else { read(slot) };
        Ok(found.or_else(|| partition.all_cleared(id).find_map(read)))
    }

    /// Goes on with a walk over all objects as they were at the start of `snapshot`, by at most
    /// `most` slots from `from` on, or until `each` breaks it off behind an object. Returns where
    /// to go on; `None` at the end. All shards must have closed the epochs before. Between two
    /// slices anything may run: an object that existed then stays in its slot as long as the
    /// snapshot is open, so each comes once.
    ///
    /// # Errors
    /// As [`Shard::read_at`].
    pub fn walk_at(
        &self,
        snapshot: Epoch,
        from: u32,
        most: usize,
        mut each: impl FnMut(A::Id, Ownership, &A::State) -> ControlFlow<()>,
    ) -> Result<Option<u32>, Expired> {
        let engine = &self.engine;
        engine.may_read(snapshot)?;
        let mut next = None;
        for (at, slot) in engine.run.partition.slots(from, most) {
            next = Some(at + 1);
            if slot.is_live()
                && let Some((ownership, state)) = engine.run.partition.read_at(&engine.versions, at, snapshot)
                && each(slot.id, ownership, state).is_break()
            {
                break;
            }
        }
        Ok(next)
    }

    /// Goes on with a walk over the entries of a collection as they were at the start of
    /// `snapshot`: those of the range `ids` in their order, until it has looked at `most`, or
    /// `each` breaks it off behind an entry. Returns the id behind which to go on; `None` at the
    /// end. All shards must have closed the epochs before, and the collection is at home here.
    /// Between two slices anything may run.
    ///
    /// # Errors
    /// As [`Shard::read_at`].
    pub fn range_at(
        &self,
        snapshot: Epoch,
        collection: &A::Id,
        ids: (Bound<A::Id>, Bound<A::Id>),
        most: usize,
        mut each: impl FnMut(A::Id, &A::State) -> ControlFlow<()>,
    ) -> Result<Option<A::Id>, Expired> {
        let Engine { versions, run: RunState { partition, .. }, .. } = &self.engine;
        self.engine.may_read(snapshot)?;
        let mut slots = partition.range_of_all(collection, ids).peekable();
        let (mut seen, mut ends) = (0, false);
        while let Some(slot) = slots.next() {
            let id = partition.slot(slot).id;
            if let Some((_, state)) = partition.read_at(versions, slot, snapshot) {
                ends = each(id, state).is_break();
            }
            seen += 1;
            // Of several of one id, which the snapshot sees one of, it looks at all.
            let is_behind = slots.peek().is_none_or(|next| partition.slot(*next).id != id);
            if (ends || seen >= most) && is_behind {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Revokes the snapshots that are open for too long at `now`, if the shard keeps anything for
    /// them. `now` is by the clock by which snapshots are opened, which need not be the shard's
    /// own.
    #[inline]
    pub fn revoke_old(&mut self, now: Time) {
        let age_max = self.engine.run.limits.snapshot_age_max;
        if self.engine.kept() > 0 && self.engine.mvcc.epochs().has_older(now, age_max) {
            let snapshots = self.engine.mvcc.epochs().revoke_old(now, age_max);
            self.engine.revoked(snapshots);
        }
    }

    /// Lets go of what no snapshot needs any more, one after another, as long as there is some and
    /// `goes_on` says so. A turn does the same with a few.
    pub fn sweep(&mut self, mut goes_on: impl FnMut() -> bool) {
        while self.has_garbage() && goes_on() {
            self.engine.drop_some(1);
        }
        self.engine.run.counters.versions = self.engine.old_states();
    }

    /// Whether the shard keeps something that no snapshot needs any more: while it does, it wants
    /// another turn.
    pub fn has_garbage(&self) -> bool {
        let (engine, watermark) = (&self.engine, self.engine.run.epoch_state.watermark);
        engine.journal.as_ref().is_some_and(|journal| journal.sends.has_garbage(&engine.run.epoch_state))
            || engine.versions.first_until().is_some_and(|until| until < watermark)
            || engine.walk.has_waste(&engine.run.epoch_state)
            || engine
                .to_trim
                .front()
                .is_some_and(|(until, _)| *until < watermark && engine.mvcc.is_past(*until))
    }
}

impl<A: Actor> Engine<A> {
    fn may_read(&self, snapshot: Epoch) -> Result<(), Expired> {
        let is_open = self.run.epoch_state.watermark <= snapshot || fault::is_on(Fault::ReadExpired);
        debug_assert!(
            !is_open || self.has_closed(snapshot),
            "closed-before-read: something may still commit before {snapshot}"
        );
        if is_open { Ok(()) } else { Err(Expired) }
    }

    fn has_closed(&self, snapshot: Epoch) -> bool {
        let is_in_doubt = self.in_doubt.oldest().is_some_and(|oldest| oldest < snapshot);
        // With a log, a shard that is idle is in no epoch, and the next it enters is not before the
        // one that is now.
        let epoch = if self.is_idle() { self.mvcc.epochs().epoch() } else { self.run.epoch_state.epoch };
        epoch >= snapshot && (!is_in_doubt || fault::is_on(Fault::CloseBlind))
    }

    /// Once a turn: lets go of what no snapshot needs any more, and of snapshots that need too
    /// much.
    #[inline]
    pub(crate) fn sweep(&mut self) {
        self.run.counters.versions = self.old_states();
        let has_delivered =
            self.journal.as_ref().is_some_and(|journal| journal.sends.has_garbage(&self.run.epoch_state));
        if self.run.counters.versions > 0 || has_delivered {
            self.sweep_some();
        }
    }

    /// Lets go of up to `most` versions, published objects' old states, and delivered sends that no
    /// snapshot needs, and of some of what was put aside for a checkpoint that was given up.
    fn drop_some(&mut self, most: usize) {
        self.walk.follow(&self.run.epoch_state);
        self.walk.drop_stale();
        if let Some(journal) = &mut self.journal {
            journal.sends.forget_delivered(&self.run.epoch_state, most);
        }
        self.drop_versions(most);
        self.free_cleared(most);
        for _ in 0..most {
            match self.to_trim.front() {
                Some((until, _)) if *until < self.run.epoch_state.watermark && self.mvcc.is_past(*until) => {}
                _ => break,
            }
            if let Some((_, id)) = self.to_trim.pop_front() {
                self.to_trim.extend(self.mvcc.trim_noted(id).map(|until| (until, id)));
            }
        }
    }

    #[cold]
    fn sweep_some(&mut self) {
        self.drop_some(SWEPT_PER_TURN);
        self.free_cleared((self.walk.cleared_len() / FREED_ONE_IN).min(FREED_PER_TURN_MAX));
        let cleared = self.walk.first_cleared().filter(|epoch| *epoch >= self.run.epoch_state.watermark);
        let kept = self.kept() + cleared.map_or(0, |_| self.walk.cleared_len());
        if kept > self.run.limits.versions_max {
            let first = [self.versions.first_until(), self.to_trim.front().map(|(until, _)| *until), cleared];
            let through = first.into_iter().flatten().min().unwrap_or_default();
            self.revoked(self.mvcc.epochs().revoke(through));
        }
        self.run.counters.versions = self.old_states();
    }

    /// Frees up to `most` of the entries that were cleared and that nobody sees any more.
    fn free_cleared(&mut self, most: usize) {
        for _ in 0..most {
            let Some(collection) = self.walk.unseen(&self.run.epoch_state) else { return };
            let is_last = self.run.partition.free_cleared(collection);
            self.walk.freed();
            if is_last {
                self.walk.freed_all();
            }
        }
    }

    /// Old states kept here for snapshots, published ones included.
    fn kept(&self) -> usize {
        self.versions.len() + self.to_trim.len()
    }

    /// Old states there are here, for whatever reason.
    #[inline]
    fn old_states(&self) -> u64 {
        (self.kept() + self.walk.len()) as u64
    }

    fn revoked(&mut self, snapshots: usize) {
        if snapshots > 0 {
            self.run.counters.revoked += snapshots as u64;
            self.enter();
        }
    }

    /// Drops up to `most` versions that no snapshot needs, and the slots that only they kept. A
    /// version that the checkpoint has yet to write is put aside for it.
    pub(crate) fn drop_versions(&mut self, most: usize) {
        self.walk.follow(&self.run.epoch_state);
        for _ in 0..most {
            let early = u64::from(fault::is_on(Fault::DropEarly));
            let watermark = Epoch(self.run.epoch_state.watermark.0 + early);
            let Some((version, is_newest)) = self.versions.take_first(watermark) else { return };
            let Version { slot: index, epoch, until, ownership, state, .. } = version;
            let slot = self.run.partition.slot_mut(index);
            if self.walk.has_ahead(index, epoch, until) && !fault::is_on(Fault::DropUnpassed) {
                self.walk.set_aside(slot.id, ownership, state);
            }
            if slot.has_version() && is_newest {
                slot.set_has_version(false);
                if slot.is_left() {
                    self.run.partition.release(index);
                }
            }
        }
    }
}
