//! A message on the consensus path, and the objects it takes along.
//!
//! A transaction is one envelope's content, the *transaction message*. It visits the shards of its
//! objects, its *participants*, in ascending order; each locks all it owns of the transaction's
//! objects in one step and adds copies of them. The last participant holds every lock and every
//! value: there is the *lock point*, where the message runs. Then the transaction goes back the way
//! it came, and each participant takes its objects' new states and unlocks; it ends where it began,
//! and its memory is used again. Two objects on two shards may be visited in the other order: see
//! [`pair`](crate::shard::pair).

pub(crate) mod carried;
pub(crate) mod effects;
pub(crate) mod lock_wait;
pub(crate) mod locks;
pub(crate) mod message;
pub(crate) mod pieces;

use std::mem::offset_of;
use std::ops::Range;

use crate::actor::Actor;
use crate::actor::addressees::ADDRESSEES_MAX;
use crate::actor::outcome::{Outcome, ReturnAddress};
use crate::epoch::Epoch;
use crate::object::{Access, OwnerId};
use crate::placement::{Router, ShardIndex};
use crate::store::slot::NO_SLOT;
use crate::transaction::carried::{Carried, CarriedList};
use crate::transaction::pieces::Piece;

/// A message on the consensus path.
///
/// Two cores take the lines of a transaction from each other, and that is most of what a
/// transaction costs. So it has lines of its own, and what only a log needs comes last.
#[repr(C, align(64))]
pub struct Transaction<A: Actor> {
    /// `None` only in a transaction that waits to be used again.
    pub(crate) message: Option<A::Message>,
    pub(crate) sender: OwnerId,
    pub(crate) answer_to: ReturnAddress,
    /// On the way up, the largest epoch among the participants so far; once it has run, the epoch
    /// it committed in.
    pub(crate) epoch: Epoch,
    /// The latest epoch something was committed in that it may have seen: see
    /// [`Journal`](crate::shard::journal::Journal).
    pub(crate) seen: Epoch,
    /// What came of it, once it has run.
    pub(crate) end: Option<TransactionEnd<A>>,
    /// How often it began anew because it touched an object that was not among them.
    pub(crate) reruns: u32,
    /// Where it began and where it returns.
    pub(crate) origin: ShardIndex,
    /// It is a pair that visits its higher home first: see [`pair`](crate::shard::pair).
    pub(crate) is_reverse: bool,
    /// How often it was sent from a hot object to its other home first.
    pub(crate) detours: u8,
    /// By home, ascending; each id once. A transaction that waits to be used again keeps two,
    /// without states, for the next pair to be written over.
    pub(crate) objects: CarriedList<A>,
    /// What the log is to have of the objects it wrote, as it was written at the lock point, if
    /// there is a log.
    pub(crate) records: Vec<u8>,
    /// What it missed beside the object in [`TransactionEnd::Again`], while it is to begin anew.
    pub(crate) also_missing: Vec<(A::Id, Access)>,
    /// What it takes along of collections. Empty if the actor has none.
    pub(crate) pieces: Vec<Piece<A>>,
}

/// What came of running a transaction.
pub(crate) enum TransactionEnd<A: Actor> {
    /// Its writes are to be applied, and its outcome was given to whoever waits, or is here if that
    /// is for the origin to do.
    Committed(Option<Outcome<A>>),
    /// Nothing is to be changed.
    Aborted(Option<Outcome<A>>),
    /// Nothing is to be changed, and it is to begin anew with this object as well.
    Again(A::Id, Access),
}

impl<A: Actor> Transaction<A> {
    /// How much of a transaction a pair without a log needs.
    pub(crate) const PAIR_BYTES: usize = offset_of!(Self, records);

    /// An empty transaction.
    pub(crate) fn new() -> Box<Self> {
        Box::new(Transaction {
            message: None,
            sender: OwnerId::default(),
            answer_to: ReturnAddress::Nobody,
            origin: ShardIndex(0),
            objects: CarriedList::new(),
            epoch: Epoch(0),
            seen: Epoch(0),
            records: Vec::new(),
            also_missing: Vec::new(),
            pieces: Vec::new(),
            reruns: 0,
            is_reverse: false,
            detours: 0,
            end: None,
        })
    }

    /// It begins at `origin`, for this message.
    #[inline(always)]
    pub(crate) fn address(
        &mut self,
        message: A::Message,
        sender: OwnerId,
        answer_to: ReturnAddress,
        origin: ShardIndex,
    ) {
        self.message = Some(message);
        (self.sender, self.answer_to, self.origin) = (sender, answer_to, origin);
        (self.seen, self.reruns, self.detours) = (Epoch(0), 0, 0);
    }

    /// Adds an object, or strengthens the access to one that is there.
    pub(crate) fn add(&mut self, id: A::Id, home: ShardIndex, access: Access) {
        if let Some(same) = self.objects.iter_mut().find(|object| object.id == id) {
            same.access = same.access.max(access);
            return;
        }
        let at = self.objects.partition_point(|object| object.home <= home);
        self.objects.insert(at, Carried::new(id, home, access, NO_SLOT));
    }

    /// Whether it may have what it also missed beside what it has.
    pub(crate) fn has_room(&self) -> bool {
        let is_new = |id: &A::Id| self.objects.iter().all(|object| object.id != *id);
        let new = self.also_missing.iter().filter(|(id, _)| is_new(id)).count();
        self.objects.len() + new <= ADDRESSEES_MAX
    }

    /// Adds of what it also missed as many as a message may have. It may not even need them: it
    /// asked for them when it did not have what it missed first.
    #[cold]
    pub(crate) fn add_also_missing(&mut self, router: &Router) {
        for (id, access) in std::mem::take(&mut self.also_missing) {
            if self.objects.len() < ADDRESSEES_MAX {
                self.add(id, router.home(&id), access);
            }
        }
    }

    /// Which of the objects are at home on `shard`. Mostly there are few.
    #[inline]
    pub(crate) fn at_home(&self, shard: ShardIndex) -> Range<usize> {
        if let [one, other] = &*self.objects {
            let count = |is_it: fn(&ShardIndex, &ShardIndex) -> bool| {
                usize::from(is_it(&one.home, &shard)) + usize::from(is_it(&other.home, &shard))
            };
            return count(ShardIndex::lt)..count(ShardIndex::le);
        }
        let from = self.objects.iter().take_while(|object| object.home < shard).count();
        let here = self.objects[from..].iter().take_while(|object| object.home == shard).count();
        from..from + here
    }

    /// The participant after the one where `at_home` are.
    #[inline]
    pub(crate) fn after(&self, at_home: &Range<usize>) -> Option<ShardIndex> {
        if self.is_reverse {
            return self.objects[..at_home.start].first().map(|object| object.home);
        }
        self.objects.get(at_home.end).map(|object| object.home)
    }

    /// The participant before it. A pair that visited its higher home first has been at the
    /// lower.
    #[inline]
    pub(crate) fn before(&self, at_home: &Range<usize>) -> Option<ShardIndex> {
        if self.is_reverse {
            return None;
        }
        self.objects[..at_home.start].last().map(|object| object.home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::AccessError;
    use crate::actor::addressees::Addressees;
    use crate::actor::objects::Objects;
    use crate::transaction::message::Envelope;

    pub(super) struct Ledger;

    impl Actor for Ledger {
        type Id = u64;
        type State = [u64; 8];
        type Message = [u64; 3];
        type Reply = u64;
        type Error = AccessError<u64>;

        fn addressees(_: &[u64; 3], _: &mut Addressees<u64>) {}

        fn receive(_: &[u64; 3], _: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
            Ok(0)
        }
    }

    // Each line of a transaction is one that two cores take from each other, and each byte of an
    // envelope is moved four times.
    #[test]
    fn transactions_and_envelopes_do_not_grow_unseen() {
        assert_eq!(
            (Transaction::<Ledger>::PAIR_BYTES, size_of::<Carried<Ledger>>(), size_of::<Envelope<Ledger>>()),
            (6 * 64 - 8, 120, 48)
        );
    }
}
