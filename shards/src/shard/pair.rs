//! The common transaction, on the shortest way: two objects on two shards, both free.
//!
//! ```text
//! first home: locks its object, copies it ─── LOCK ──> second home: finds its own free, and runs
//! first home: takes over what was written, unlocks <── APPLY ──
//! ```
//!
//! It is the protocol of [`coordinator`](crate::shard::coordinator), and its box, with two
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
use crate::object::{OwnerId, Ownership};
use crate::shard::engine::{CallSite, Engine, Prepared, RunOutcome, Start};
use crate::store::slot::{NO_SLOT, SlotIndex};
use crate::transaction::effects::Effects;
use crate::transaction::message::Envelope;
use crate::transaction::pieces::Piece;
use crate::transaction::{Carried, Transaction, TransactionEnd};

/// How often a transaction gives a lock back that it waited for. Then it keeps it, so that it does
/// not wait for ever.
const DETOURS_MAX: u8 = 3;

impl<A: Actor> Engine<A> {
    /// A box with these two objects of a message, if one is free here and the other is at home on
    /// another shard.
    #[inline]
    pub(super) fn box_of_pair(&mut self, one: &Target<A::Id>, other: &Target<A::Id>) -> Option<Prepared<A>> {
        let (here, there) = match (one.is_clear(), other.is_clear()) {
            (true, false) => (one, other),
            (false, true) => (other, one),
            _ => return None,
        };
        if there.slot != NO_SLOT {
            return None;
        }
        let (shard, home) = (self.run.shard, self.run.router.home(&there.id));
        if home == shard {
            return None;
        }
        // A crowd at the higher home does no harm: who waits there has its other object already.
        let is_higher = home < shard;
        let is_hot = !is_higher && self.run.partition.slot(here.slot).is_hot();
        let mut transaction = self.spare.pop().unwrap_or_else(Transaction::new);
        transaction.is_reverse = is_higher || is_hot;
        match transaction.objects.as_mut_slice() {
            // Written in place: made apart and moved there they cost a hundred instructions more.
            [lower, higher] => {
                let (mine, its) = if is_higher { (higher, lower) } else { (lower, higher) };
                mine.name(here.id, shard, here.access, here.slot);
                its.name(there.id, home, there.access, NO_SLOT);
            }
            _ => {
                transaction.objects.push(Carried::new(here.id, shard, here.access, here.slot));
                let its = Carried::new(there.id, home, there.access, NO_SLOT);
                transaction.objects.insert(usize::from(!is_higher), its);
            }
        }
        let start = if is_hot { Start::Elsewhere } else { Start::Here };
        Some(Prepared { transaction, start })
    }

    /// Begins the pair of this message: the rare parts of [`Engine::begin`] are left out.
    #[inline(always)]
    pub(super) fn begin_prepared_pair(
        &mut self,
        pair: Prepared<A>,
        message: A::Message,
        sender: OwnerId,
        answer_to: ReturnAddress,
        effects: &mut Effects<A>,
    ) {
        let Prepared { mut transaction, start } = pair;
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
        let place = usize::from(transaction.is_reverse);
        let [lower, higher] = transaction.objects.as_mut_slice() else {
            unreachable!("a pair has two objects")
        };
        let (here, next) = if place == 0 { (lower, higher.home) } else { (higher, lower.home) };
        let slot = self.run.partition.slot_mut(here.slot);
        debug_assert!(
            slot.id == here.id && slot.may_lock(here.access),
            "locked-until-applied: {:?} was free a moment ago",
            here.id
        );
        slot.cool_down(self.run.counters.consensus);
        if !fault::is_on(Fault::PairUnlocked) {
            slot.lock(here.access);
        }
        if Self::HAS_PIECES && !transaction.pieces.is_empty() {
            return self.pass_on_to(next, transaction, place..place + 1, effects);
        }
        (here.passed_in, here.ownership) = (self.run.epoch_state.epoch, slot.ownership());
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
        let (shard, is_reverse) = (self.run.shard, transaction.is_reverse);
        let [lower, higher] = transaction.objects.as_mut_slice() else { return Some(transaction) };
        let (guest, here) = if is_reverse { (higher, lower) } else { (lower, higher) };
        if guest.home == shard || here.home != shard {
            return Some(transaction);
        }
        let mut target = Target::found(here.id, NO_SLOT, here.access);
        self.run.find_one(&mut target);
        here.slot = target.slot;
        if !target.is_clear() {
            return Some(transaction);
        }
        self.run.partition.slot_mut(target.slot).cool_down(self.run.counters.consensus);
        if let Some(journal) = &mut self.journal {
            journal.lent.clear();
        }
        self.run.commit_work.add_if(guest.ownership == Ownership::Shared, CommitWork::CHANGES);
        let (epoch, state) = (self.run.epoch_state.epoch, guest.state.take());
        let lent = self.run.partition.lend_to_guest(guest.id, epoch, guest.ownership, state);
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
        guest.state = slot.state.take();
        if Self::HAS_PIECES {
            self.take_back_pieces(&mut transaction.pieces);
        }
        if let Some(journal) = &mut self.journal {
            guest.record = journal.lent.of(lent);
            std::mem::swap(&mut journal.lent.bytes, &mut transaction.records);
        }
        let back = guest.home;
        self.end(&mut transaction, ran, Some(back), effects);
        effects.outboxes[back.index()].push_back(Envelope::Apply(transaction));
        None
    }

    /// Takes over what a pair wrote here, at its first home, and unlocks, in one step, if it has
    /// only changed a state that nobody else needs: no log, snapshot, checkpoint or watcher.
    /// Returns it if there is more to do, or if it is another transaction.
    #[inline]
    pub(super) fn settle_pair(
        &mut self,
        mut transaction: Box<Transaction<A>>,
        effects: &mut Effects<A>,
    ) -> Option<Box<Transaction<A>>> {
        let is_blind = fault::is_on(Fault::SettleBlind);
        let needs_old = self.run.epoch_state.needs_old() && !is_blind;
        let has_pieces = Self::HAS_PIECES && !transaction.pieces.is_empty();
        if has_pieces || self.journal.is_some() || self.versions.len() > 0 || needs_old {
            return Some(transaction);
        }
        let (shard, epoch) = (self.run.shard, transaction.epoch);
        let Some(TransactionEnd::Committed(kept)) = &mut transaction.end else { return Some(transaction) };
        let [lower, higher] = transaction.objects.as_mut_slice() else { return Some(transaction) };
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
        if here.is_written {
            slot.set_ownership(here.ownership);
            slot.state = here.state.take();
            slot.stamp(if fault::is_on(Fault::ApplyLocally) { self.run.epoch_state.epoch } else { epoch });
        }
        if !fault::is_on(Fault::EarlyRelease) && slot.unlock_for_next() {
            self.locks.grant(&mut self.run.partition, here.slot, transaction.message.as_ref());
        }
        let kept = kept.take();
        self.came_back(here.passed_in);
        if transaction.origin == shard {
            if let Some(outcome) = kept {
                self.answer_for(&transaction, outcome, effects);
            }
            transaction.end = None;
            self.in_flight -= 1;
            self.keep_spare(transaction);
        } else {
            transaction.end = Some(TransactionEnd::Committed(kept));
            effects.outboxes[transaction.origin.index()].push_back(Envelope::Finish(transaction));
        }
        self.run_ready(effects);
        None
    }

    /// A pair that was at its higher home first has to wait here, at the lower. It lets go of the
    /// other object, and goes on as if it had come here first.
    #[cold]
    pub(super) fn turn_ahead(&mut self, transaction: &mut Transaction<A>, effects: &mut Effects<A>) {
        if fault::is_on(Fault::WaitDownwards) {
            return;
        }
        transaction.is_reverse = false;
        // They are filled again at the higher home.
        transaction.pieces.iter_mut().for_each(Piece::empty);
        let higher = &mut transaction.objects[1];
        let Carried { id, home, access, slot, passed_in, .. } = *higher;
        *higher = Carried::new(id, home, access, NO_SLOT);
        effects.outboxes[home.index()].push_back(Envelope::Release { slot, passed_in });
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
        effects.outboxes[higher.index()].push_back(Envelope::Lock(transaction));
    }

    /// A pair has got the lock it waited for here. If it would hold that for a round trip, it gives
    /// it back and goes to its other home first. Otherwise it is returned.
    pub(super) fn detour_if_hot(
        &mut self,
        mut transaction: Box<Transaction<A>>,
        effects: &mut Effects<A>,
    ) -> Option<Box<Transaction<A>>> {
        let [lower, higher] = transaction.objects.as_slice() else { return Some(transaction) };
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
        self.came_back(passed_in);
        self.locks.unlock(&mut self.run.partition, slot, None);
        self.run_ready(effects);
    }
}
