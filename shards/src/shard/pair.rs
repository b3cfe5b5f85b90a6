//! The common transaction, on the shortest way: two objects on two shards, both free.
//!
//! ```text
//! first home: locks its object, copies it ─── LOCK ──> second home: finds its own free, and runs
//! first home: takes over what was written, unlocks <── APPLY ──
//! ```
//!
//! It is the protocol of [`coordinator`](crate::shard::coordinator), and its message, with two
//! shortcuts. The second home takes no lock of its own: it runs the message at once, so nobody
//! could meet that lock. And a pair may visit its higher home first: where a task asks for it
//! there.
//!
//! A pair that finds its second object locked, shared or absent goes on as a transaction of any
//! size does. If it began at the higher home it must not wait with a lock there (*no-cycle*). So it
//! becomes a transaction that has just come to its lower home, its first. A RELEASE goes back to
//! unlock the other object, and nothing holds that up.
//!
//! The first home keeps its lock for a round trip, the second for no time. So an object that many
//! had to wait for lately is *hot*, and pairs that begin at its home go to their other home first.
//! A pair that waited for a hot object gives its lock back and takes the same *detour*.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::actor::Actor;
use crate::actor::addressees::{Others, Target};
use crate::actor::outcome::ReturnAddress;
use crate::actor::run::CommitWork;
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::in_place::{clone_into, take_into};
use crate::object::{Access, ObjectId, OwnerId, Ownership};
use crate::placement::ShardIndex;
use crate::shard::coordinator::doubted_in;
use crate::shard::engine::{CallSite, Engine, Prepared, RunOutcome, Start};
#[cfg(test)]
use crate::store::partition::Partition;
use crate::store::slot::{NO_SLOT, Slot, SlotIndex};
use crate::transaction::carried::Carried;
use crate::transaction::effects::Effects;
use crate::transaction::message::Envelope;
use crate::transaction::pieces::Piece;
use crate::transaction::{Transaction, TransactionEnd};

/// How often a transaction gives a lock back that it waited for. Then it keeps it, so that it does
/// not wait for ever.
const DETOURS_MAX: u8 = 3;

/// Two objects of a message: one is free here, and the other is at home on another shard.
pub(super) struct Pair<'t, Id> {
    here: &'t Target<Id>,
    there: &'t Target<Id>,
    home: ShardIndex,
}

/// Locks the object in a slot, which is free, for a pair: the `nth` transaction of this shard.
#[inline(always)]
fn take<Id: ObjectId, S>(slot: &mut Slot<Id, S>, id: Id, access: Access, nth: u64) {
    debug_assert!(
        slot.id == id && slot.may_lock(access),
        "locked-until-applied: {id:?} was free a moment ago"
    );
    slot.cool_down(nth);
    if !fault::is_on(Fault::PairUnlocked) {
        slot.lock(access);
    }
}

impl<Id: ObjectId> Pair<'_, Id> {
    /// The places of its two objects in a transaction: that of `shard` first.
    #[inline(always)]
    fn places<'b, A: Actor<Id = Id>>(
        &self,
        transaction: &'b mut Transaction<A>,
        shard: ShardIndex,
    ) -> [&'b mut Carried<A>; 2] {
        if transaction.objects.two_mut().is_none() {
            self.make_room(transaction);
        }
        let (lower, higher) = transaction.objects.two_mut().expect("there are two places now");
        if self.home < shard { [higher, lower] } else { [lower, higher] }
    }

    /// Gives a transaction that had other objects, or none, places for two.
    #[cold]
    fn make_room<A: Actor<Id = Id>>(&self, transaction: &mut Transaction<A>) {
        transaction.objects.clear();
        for target in [self.here, self.there] {
            transaction.objects.push(Carried::new(target.id, self.home, target.access, NO_SLOT));
        }
    }
}

impl<A: Actor> Engine<A> {
    /// The pair of these two objects of a message, if one is free here and the other is at home on
    /// another shard.
    #[inline(always)]
    pub(super) fn pair_of<'t>(
        &self,
        one: &'t Target<A::Id>,
        other: &'t Target<A::Id>,
    ) -> Option<Pair<'t, A::Id>> {
        let (here, there) = match (one.is_clear(), other.is_clear()) {
            (true, false) => (one, other),
            (false, true) => (other, one),
            _ => return None,
        };
        if there.slot != NO_SLOT {
            return None;
        }
        let home = self.run.router.home(&there.id);
        (home != self.run.shard).then_some(Pair { here, there, home })
    }

    /// A transaction with these two objects of a message, if they are a pair.
    pub(super) fn transaction_of_pair(
        &mut self,
        one: &Target<A::Id>,
        other: &Target<A::Id>,
    ) -> Option<Prepared<A>> {
        let pair = self.pair_of(one, other)?;
        Some(self.transaction_for(&pair))
    }

    /// A transaction with its two objects.
    fn transaction_for(&mut self, pair: &Pair<'_, A::Id>) -> Prepared<A> {
        let shard = self.run.shard;
        // A crowd at the higher home does no harm: who waits there has its other object already.
        let is_higher = pair.home < shard;
        let is_hot = !is_higher && self.run.partition.slot(pair.here.slot).is_hot();
        let mut transaction = self.spare.pop().unwrap_or_else(Transaction::new);
        transaction.is_reverse = is_higher || is_hot;
        let [mine, its] = pair.places(&mut transaction, shard);
        mine.name(pair.here.id, shard, pair.here.access, pair.here.slot);
        its.name(pair.there.id, pair.home, pair.there.access, NO_SLOT);
        let start = if is_hot { Start::Elsewhere } else { Start::Here };
        Prepared { transaction, start }
    }

    /// Begins the pair of this message, in one step if it has no pieces, and its object here is not
    /// hot. The rare parts of [`Engine::begin`] are left out.
    #[inline(always)]
    pub(super) fn begin_pair_of(
        &mut self,
        pair: Pair<'_, A::Id>,
        message: A::Message,
        sender: OwnerId,
        answer_to: ReturnAddress,
        effects: &mut Effects<A>,
    ) {
        let Pair { here, there, home } = pair;
        let (shard, epoch) = (self.run.shard, self.run.epoch_state.epoch);
        let is_higher = home < shard;
        let slot = self.run.partition.slot_mut(here.slot);
        if Self::HAS_PIECES && !fault::skips_pieces() || !is_higher && slot.is_hot() {
            return self.begin_rare_pair(pair, message, sender, answer_to, effects);
        }
        let _path = fault::on_pairs_path();
        take(slot, here.id, here.access, self.run.counters.consensus);
        let mut transaction = self.spare.pop().unwrap_or_else(Transaction::new);
        transaction.is_reverse = is_higher;
        transaction.address(message, sender, answer_to, shard);
        let [mine, its] = pair.places(&mut transaction, shard);
        // Written in place: made apart and moved there they cost a hundred instructions more.
        mine.name(here.id, shard, here.access, here.slot);
        its.name(there.id, home, there.access, NO_SLOT);
        (mine.passed_in, mine.ownership) = (doubted_in(epoch), slot.ownership());
        self.run.counters.spanning += 1;
        self.in_flight += 1;
        // In place: what is returned and caught is copied twice.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| clone_into(&slot.state, &mut mine.state))) {
            return self.not_copied(transaction, usize::from(is_higher), payload, effects);
        }
        if fault::is_on(Fault::EarlyRelease) {
            self.locks.unlock(&mut self.run.partition, here.slot, None);
        }
        self.passes_on(home, transaction, effects);
    }

    /// The same for a pair that may have pieces, or whose object here is hot.
    fn begin_rare_pair(
        &mut self,
        pair: Pair<'_, A::Id>,
        message: A::Message,
        sender: OwnerId,
        answer_to: ReturnAddress,
        effects: &mut Effects<A>,
    ) {
        let Prepared { mut transaction, start } = self.transaction_for(&pair);
        self.run.counters.spanning += 1;
        if Self::HAS_PIECES {
            self.begin_pieces(&message, &mut transaction);
        }
        transaction.address(message, sender, answer_to, self.run.shard);
        self.in_flight += 1;
        match start {
            Start::Elsewhere => self.detour(transaction, effects),
            _ => self.begin_pair(transaction, effects),
        }
    }

    /// Begins a pair: one of its objects is here, and free.
    #[inline]
    pub(super) fn begin_pair(&mut self, mut transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        let _path = fault::on_pairs_path();
        let place = usize::from(transaction.is_reverse);
        let (lower, higher) = transaction.objects.two_mut().expect("a pair has two objects");
        let (here, next) = if place == 0 { (lower, higher.home) } else { (higher, lower.home) };
        let slot = self.run.partition.slot_mut(here.slot);
        take(slot, here.id, here.access, self.run.counters.consensus);
        if Self::HAS_PIECES && !transaction.pieces.is_empty() {
            return self.pass_on_to(next, transaction, place..place + 1, effects);
        }
        (here.passed_in, here.ownership) = (doubted_in(self.run.epoch_state.epoch), slot.ownership());
        match catch_unwind(AssertUnwindSafe(|| slot.state.clone())) {
            Ok(state) => here.state = state,
            Err(payload) => return self.not_copied(transaction, place, payload, effects),
        }
        if fault::is_on(Fault::EarlyRelease) {
            self.locks.unlock(&mut self.run.partition, here.slot, None);
        }
        self.passes_on(next, transaction, effects);
    }

    /// A pair cannot begin: to copy its object has panicked.
    #[cold]
    fn not_copied(
        &mut self,
        transaction: Box<Transaction<A>>,
        place: usize,
        payload: Box<dyn Any + Send>,
        effects: &mut Effects<A>,
    ) {
        let error = self.panicked(transaction.objects[place].id, payload);
        self.conclude(transaction, &(place..place + 1), RunOutcome::Done(Err(error)), effects);
    }

    /// Runs a pair that has come to its second home, if its object is free here, without a lock.
    /// Returns it if it has to wait, or is another transaction.
    #[inline]
    pub(super) fn run_if_free_pair(
        &mut self,
        mut transaction: Box<Transaction<A>>,
        effects: &mut Effects<A>,
    ) -> Option<Box<Transaction<A>>> {
        let _path = fault::on_pairs_path();
        let (shard, is_reverse) = (self.run.shard, transaction.is_reverse);
        let Some((lower, higher)) = transaction.objects.two_mut() else { return Some(transaction) };
        let (guest, here) = if is_reverse { (higher, lower) } else { (lower, higher) };
        if guest.home == shard || here.home != shard {
            return Some(transaction);
        }
        let (target, is_warm) = self.run.found_of_pair(here.id, here.access);
        here.slot = target.slot;
        if !target.is_clear() {
            return Some(transaction);
        }
        if is_warm {
            self.run.partition.slot_mut(target.slot).cool_down(self.run.counters.consensus);
        }
        if let Some(journal) = &mut self.journal {
            journal.lent.clear();
        }
        self.run.commit_work.add_if(guest.ownership == Ownership::Shared, CommitWork::CHANGES);
        let epoch = self.run.epoch_state.epoch;
        let lent = self.run.partition.lend_to_guest(guest.id, epoch, guest.ownership, &mut guest.state);
        if Self::HAS_PIECES {
            self.lend_pieces(&mut transaction.pieces);
        }
        let mut others = Others::new();
        others.push(Target::found(guest.id, lent, guest.access));
        let message = transaction.message.as_ref().expect("a transaction under way has its message");
        let ran = self.receive::<{ CallSite::Pair as u8 }>(
            message,
            transaction.sender,
            Some(target),
            &mut others,
            effects,
        );
        // By reference, and not as what a function returns: the state is copied once, not thrice.
        let slot = self.run.partition.slot_mut(lent);
        (guest.ownership, guest.is_written) = (slot.ownership(), others[0].saved);
        take_into(&mut slot.state, &mut guest.state);
        if Self::HAS_PIECES {
            self.take_back_pieces(&mut transaction.pieces);
        }
        if let Some(journal) = &mut self.journal {
            guest.record = journal.lent.of(lent);
            std::mem::swap(&mut journal.lent.bytes, &mut transaction.records);
        }
        let (back, passed_in) = (guest.home, guest.passed_in);
        self.end(&mut transaction, ran, Some(back), effects);
        if fault::is_on(Fault::CommitEarly) {
            transaction.epoch = passed_in;
        }
        effects.send(back, || Envelope::Apply(transaction));
        None
    }

    /// Takes over what a pair wrote here, at its first home, and unlocks, in one step, if it has
    /// only changed a state that nobody else needs: no log, snapshot, checkpoint or watcher.
    /// Returns it if there is more to do, or if it is another transaction.
    #[inline]
    pub(super) fn apply_pair(
        &mut self,
        mut transaction: Box<Transaction<A>>,
        effects: &mut Effects<A>,
    ) -> Option<Box<Transaction<A>>> {
        let path = fault::on_pairs_path();
        let is_blind = fault::is_on(Fault::ApplyBlind);
        let needs_old = self.run.epoch_state.needs_old() && !is_blind;
        let has_pieces = Self::HAS_PIECES && !transaction.pieces.is_empty();
        let is_committed = matches!(transaction.end, Some(TransactionEnd::Committed(_)));
        if !is_committed || has_pieces || self.journal.is_some() || self.versions.len() > 0 || needs_old {
            return Some(transaction);
        }
        let (shard, epoch) = (self.run.shard, transaction.epoch);
        let Some((lower, higher)) = transaction.objects.two_mut() else { return Some(transaction) };
        let (here, there) = if lower.home == shard { (lower, higher) } else { (higher, lower) };
        let slot = self.run.partition.slot_mut(here.slot);
        let is_plain = !here.is_written || slot.state.is_some() && here.state.is_some();
        if there.home == shard || slot.is_watched() && !is_blind || !is_plain {
            return Some(transaction);
        }
        debug_assert!(
            slot.id == here.id && slot.is_held() || fault::is_on(Fault::EarlyRelease),
            "locked-until-applied: {:?}",
            here.id
        );
        #[cfg(test)]
        if fault::is_on(Fault::WriteBackTwice) && here.is_written {
            let late = self.written_back.replace((here.slot, here.id, here.state.clone()));
            write_late::<A>(&mut self.run.partition, late);
        }
        #[cfg(test)]
        let slot = self.run.partition.slot_mut(here.slot);
        if here.is_written {
            slot.set_ownership(here.ownership);
            take_into(&mut here.state, &mut slot.state);
            slot.stamp(if fault::is_on(Fault::ApplyLocally) { self.run.epoch_state.epoch } else { epoch });
        } else {
            here.state = None;
        }
        // A run that was undone, or a detour, may have left one.
        there.state = None;
        if !fault::is_on(Fault::EarlyRelease) && slot.unlock_for_next() {
            self.locks.grant(&mut self.run.partition, here.slot, transaction.message.as_ref());
        }
        self.in_doubt.came_back(here.passed_in);
        if transaction.origin == shard {
            if let Some(TransactionEnd::Committed(kept)) = &mut transaction.end
                && let Some(outcome) = kept.take()
            {
                self.answer_for(&transaction, outcome, effects);
            }
            self.in_flight -= 1;
            transaction.message = None;
            self.put_away(transaction);
        } else {
            effects.send(transaction.origin, || Envelope::Finish(transaction));
        }
        path.leave();
        self.run_ready(effects);
        None
    }

    /// A pair that was at its higher home first has to wait here, at the lower. It lets go of the
    /// other object, and goes on as if it had come here first.
    #[cold]
    pub(super) fn turn_ahead(&mut self, transaction: &mut Transaction<A>, effects: &mut Effects<A>) {
        let _path = fault::on_pairs_path();
        if fault::is_on(Fault::WaitDownwards) {
            return;
        }
        transaction.is_reverse = false;
        // They are filled again at the higher home.
        transaction.pieces.iter_mut().for_each(Piece::empty);
        let higher = &mut transaction.objects[1];
        let Carried { id, home, access, slot, passed_in, .. } = *higher;
        *higher = Carried::new(id, home, access, NO_SLOT);
        effects.send(home, || Envelope::Release { slot, passed_in });
    }

    /// Sends a pair whose object here, at its lower home, is hot to its higher home first. It keeps
    /// no lock here.
    #[cold]
    pub(super) fn detour(&mut self, mut transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        debug_assert!(transaction.is_reverse, "no-cycle: a detour is to the higher home");
        transaction.detours += 1;
        transaction.objects.iter_mut().for_each(|object| object.slot = NO_SLOT);
        debug_assert!(
            transaction.pieces.iter().all(Piece::is_empty),
            "filled-once: it has not begun, or waited here and took nothing along for that"
        );
        let higher = transaction.objects[1].home;
        effects.send(higher, || Envelope::Lock(transaction));
    }

    /// A pair has got the lock it waited for here. If it would hold that for a round trip, it gives
    /// it back and goes to its other home first. Otherwise it is returned.
    pub(super) fn detour_if_hot(
        &mut self,
        mut transaction: Box<Transaction<A>>,
        effects: &mut Effects<A>,
    ) -> Option<Box<Transaction<A>>> {
        let [lower, higher] = &*transaction.objects else { return Some(transaction) };
        if lower.home != self.run.shard
            || higher.home == self.run.shard
            || transaction.detours >= DETOURS_MAX
            || !self.run.partition.slot(lower.slot).is_hot()
            // One that is watched is locked when the pair comes back: the way was in vain.
            || self.run.partition.slot(lower.slot).is_watched()
            || self.run.partition.slot(lower.slot).state.is_none()
        {
            return Some(transaction);
        }
        self.locks.unlock(&mut self.run.partition, lower.slot, transaction.message.as_ref());
        transaction.is_reverse = true;
        self.detour(transaction, effects);
        None
    }

    /// A pair that began here waits at its lower home: it holds nothing here any more.
    pub(crate) fn release(&mut self, slot: SlotIndex, passed_in: Epoch, effects: &mut Effects<A>) {
        self.in_doubt.came_back(passed_in);
        self.locks.unlock(&mut self.run.partition, slot, None);
        self.run_ready(effects);
    }
}

/// What a pair wrote, and where: the slot and the object in it.
#[cfg(test)]
pub(crate) type WrittenBack<A> = (SlotIndex, <A as Actor>::Id, Option<<A as Actor>::State>);

/// Writes what a pair wrote once more ([`Fault::WriteBackTwice`]).
#[cfg(test)]
fn write_late<A: Actor>(partition: &mut Partition<A::Id, A::State>, late: Option<WrittenBack<A>>) {
    let Some((slot, id, state)) = late else { return };
    let slot = partition.slot_mut(slot);
    if slot.id == id && slot.state.is_some() {
        slot.state = state;
    }
}
