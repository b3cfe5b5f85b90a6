//! What shards do with the pieces of collections that a transaction takes along: see
//! [`pieces`](crate::transaction::pieces).

use std::ops::{Bound, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrayvec::ArrayVec;

use crate::actor::needs::{Follow, Needs, SaidRange};
use crate::actor::run::{MissedRange, Need};
use crate::actor::{AccessError, Actor};
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::object::{ObjectId, Ownership};
use crate::shard::engine::Engine;
use crate::store::id_range::RangeEnd;
use crate::store::slot::{NO_SLOT, SlotIndex};
use crate::store::tree::Range;
use crate::transaction::Transaction;
use crate::transaction::pieces::{CarriedEntry, Piece, Wanted, need_in};

impl<A: Actor> Engine<A> {
    /// Whether the actor has collections at all: code for pieces is behind it.
    pub(super) const HAS_PIECES: bool = A::Id::COLLECTION.is_some();

    /// Fills the pieces of the collections that are at home here and whose headers the transaction
    /// has locked.
    ///
    /// # Errors
    /// [`AccessError::TooMuchCarried`] if that is more than a transaction may take along.
    pub(super) fn fill_pieces(&self, transaction: &mut Transaction<A>) -> Result<(), AccessError<A::Id>> {
        let Transaction { pieces, objects, .. } = transaction;
        let max = self.run.limits.carried_bytes_max;
        debug_assert!(
            pieces.iter().all(|piece| piece.home != self.run.shard || piece.is_empty()),
            "filled-once: a way that leads back here leaves behind what it took along"
        );
        let carried = pieces.iter().flat_map(|piece| &piece.entries).map(|entry| Self::carried(&entry.state));
        let mut room = max.saturating_sub(carried.sum());
        for piece in pieces.iter_mut().filter(|piece| piece.home == self.run.shard) {
            if objects.iter().any(|object| object.id == piece.collection) {
                self.fill(piece, &mut room).ok_or(AccessError::TooMuchCarried { max })?;
            }
        }
        Ok(())
    }

    /// How many bytes an entry takes along.
    fn carried(state: &Option<A::State>) -> usize {
        size_of::<(A::Id, Option<A::State>)>() + state.as_ref().map_or(0, A::pointed_bytes)
    }

    /// Fills one; `None` if there is no room.
    fn fill(&self, piece: &mut Piece<A>, room: &mut usize) -> Option<()> {
        let orders = &self.run.partition.orders;
        piece.len = orders.number(&piece.collection).map_or(0, |order| orders.len(order));
        let mut needs = std::mem::take(&mut piece.needs);
        // First what the message said, and what it has missed in spite of all it had.
        needs.sort_by_key(|wanted| if wanted.misses == 0 { 0 } else { u32::MAX - wanted.misses });
        let filled = needs.iter_mut().try_for_each(|wanted| self.fill_need(wanted, piece, room));
        piece.needs = needs;
        filled
    }

    fn fill_need(&self, wanted: &mut Wanted<A>, piece: &mut Piece<A>, room: &mut usize) -> Option<()> {
        let Wanted { need: Need { bounds, end }, most, misses, had, follow } = wanted;
        let partition = &self.run.partition;
        let order = partition.orders.number(&piece.collection);
        let mut range = order.map_or_else(Range::empty, |order| partition.range(order, *bounds));
        let (mut seen, mut span, mut is_full) = (0, None, false);
        while seen < *most
            && let Some(slot) = match end {
                RangeEnd::Front => range.next(),
                RangeEnd::Back => range.next_back(),
            }
        {
            let id = partition.slot(slot).id;
            let follower = self.follower(slot, *follow).filter(|follower| *follower != id);
            let is_new = |id: &A::Id| !piece.known.iter().chain(&span).any(|known| known.contains(id));
            let here =
                |id: A::Id| order.and_then(|order| partition.find_live(order, &id)).map(|found| found.slot);
            let new = [Some((id, slot)), follower.and_then(|id| Some((id, here(id)?)))].into_iter().flatten();
            let new: ArrayVec<_, 2> = new.filter(|(id, _)| is_new(id)).collect();
            let bytes = new.iter().map(|(_, slot)| Self::carried(&partition.slot(*slot).state)).sum();
            is_full = *room < bytes;
            if is_full {
                break;
            }
            *room -= bytes;
            piece.entries.extend(new.into_iter().map(|(id, slot)| {
                let state = partition.slot(slot).state.clone();
                CarriedEntry { id, state, record: 0..0, is_written: false }
            }));
            piece.known.extend(follower.map(|id| (Bound::Included(id), Bound::Included(id))));
            seen += 1;
            span = Some(match end {
                RangeEnd::Front => (bounds.0, Bound::Included(id)),
                RangeEnd::Back => (Bound::Included(id), bounds.1),
            });
        }
        // The message did not say how many. As many as there is room for may do, if they are more
        // than it had. And what it missed once it may not need: it looked there while it lacked
        // something else.
        let has_more = seen > std::mem::replace(had, seen);
        if is_full && (*misses == 0 || *misses > 1 && !has_more) {
            return None;
        }
        piece.known.extend(if is_full || seen == *most { span } else { Some(*bounds) });
        Some(())
    }

    /// What goes along with an entry.
    fn follower(&self, slot: SlotIndex, follow: Option<Follow<A>>) -> Option<A::Id> {
        let slot = self.run.partition.slot(slot);
        let follower = follow?(&slot.id, slot.state.as_ref()?)?;
        (follower.collection() == slot.id.collection()).then_some(follower)
    }

    /// At the lock point: lends slots and an order to the entries of other shards.
    pub(super) fn lend_pieces(&mut self, pieces: &mut [Piece<A>]) {
        let (shard, epoch) = (self.run.shard, self.run.epoch_state.epoch);
        debug_assert!(self.run.guests.is_empty(), "known-or-missed: a message knows its own pieces only");
        for piece in pieces {
            // Filled, each need has left something that is known.
            if piece.home != shard && !piece.known.is_empty() {
                self.run.guests.push(piece.guest());
                for CarriedEntry { id, state, .. } in piece.entries.drain(..) {
                    self.run.partition.lend_entry(piece.collection, id, epoch, state);
                }
            }
        }
    }

    /// Takes them back into the transaction, those that the message wrote.
    pub(super) fn take_back_pieces(&mut self, pieces: &mut [Piece<A>]) {
        for guest in std::mem::take(&mut self.run.guests) {
            let Some(piece) = pieces.iter_mut().find(|piece| piece.collection == guest.collection) else {
                continue;
            };
            piece.cleared = guest.is_cleared.then_some(guest.clear_record);
            let lent = self.journal.as_ref().map(|journal| journal.lent.by_slot()).unwrap_or_default();
            for slot in self.run.partition.orders.take(&guest.collection) {
                let entry = self.run.partition.slot(slot);
                let (id, is_written) = (entry.id, entry.has_image());
                let (_, state) = self.run.partition.take_back(slot);
                if is_written {
                    let at = lent.binary_search_by_key(&slot, |(of, _)| *of);
                    let record = at.map_or(0..0, |at| lent[at].1.clone());
                    piece.entries.push(CarriedEntry { id, state, record, is_written });
                }
            }
        }
    }

    /// On the way back: takes over what was written of the collections that are at home here.
    pub(super) fn apply_pieces(&mut self, transaction: &mut Transaction<A>, epoch: Epoch) {
        let Transaction { pieces, records, .. } = transaction;
        let shard = self.run.shard;
        for piece in pieces.iter_mut().filter(|piece| piece.home == shard) {
            if let Some(record) = piece.cleared.take() {
                self.apply_cleared(piece.collection, &records[record], epoch);
            }
            for CarriedEntry { id, state, record, .. } in
                piece.entries.drain(..).filter(|entry| entry.is_written)
            {
                let partition = &mut self.run.partition;
                let slot = match partition.find(partition.hash(&id), &id).0 {
                    // It came and went.
                    NO_SLOT if state.is_none() => continue,
                    NO_SLOT => partition.insert(partition.hash(&id), id, Ownership::default()),
                    slot => slot,
                };
                let before = std::mem::replace(&mut partition.slot_mut(slot).state, state);
                let is_there = partition.slot(slot).state.is_some();
                if let Some(journal) = &mut self.journal
                    && (is_there || before.is_some())
                {
                    assert!(!record.is_empty(), "recorded-at-the-lock-point: {id:?} was written");
                    journal.record_applied(&records[record], epoch);
                }
                self.stamp(slot, epoch, Ownership::default(), before);
                self.run.partition.message_ended(slot);
            }
        }
    }

    /// Takes over that a collection was cleared that is at home here.
    fn apply_cleared(&mut self, collection: A::Id, record: &[u8], epoch: Epoch) {
        if let Some(journal) = &mut self.journal
            && !fault::is_on(Fault::ClearUnlogged)
        {
            assert!(!record.is_empty(), "recorded-at-the-lock-point: {collection:?} was cleared");
            journal.record_applied(record, epoch);
        }
        self.run.partition.orders.clear(collection, 0);
        self.commit_cleared(epoch);
    }

    /// A message becomes a transaction: with the pieces that it says it needs.
    #[cold]
    pub(super) fn begin_pieces(&mut self, message: &A::Message, transaction: &mut Transaction<A>) {
        transaction.pieces.clear();
        let mut needs = Needs::new();
        // The user's code. What it did not come to say is found by running the message.
        let _said = catch_unwind(AssertUnwindSafe(|| A::needs(message, &mut needs)));
        for SaidRange { collection, need, most, follow } in needs.all {
            let home = self.run.router.home(&collection);
            need_in(&mut transaction.pieces, collection, home, need).say(most.max(1), follow);
        }
    }

    /// A transaction is to begin anew: with what it missed of collections as well.
    pub(super) fn add_missing_pieces(&mut self, transaction: &mut Transaction<A>) {
        transaction.pieces.iter_mut().for_each(Piece::empty);
        for MissedRange { collection, need, at_first } in self.run.missing.pieces.get_mut().drain(..) {
            let home = self.run.router.home(&collection);
            need_in(&mut transaction.pieces, collection, home, need).miss(at_first);
        }
    }
}
