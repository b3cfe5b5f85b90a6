//! What a shard owes: messages that were told and have not run.
//!
//! A debt has a number that no other has, in the database's whole life; modulo the number of shards it says who owes it now. Who owes keeps
//! the message in bytes until it is paid, so that a checkpoint can hold it. The shard where it ran records that it is paid, with what it did,
//! and tells the one that owes. What a checkpoint sees still owed is kept until it has ended.
//!
//! A debt is paid on any shard, and word of it takes its time. So before a checkpoint is written every shard tells every other that it has
//! told of all it paid before (a *mark*): lanes are first in, first out, so whoever has all marks has all word.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use crate::epoch::{Epoch, EpochState};
use crate::log::bounds::ANY_VALUE;
use crate::log::part::PartWriter;
use crate::log::record::{Debt, write_owe};
use crate::log::refused::RecordError;
use crate::object::OwnerId;
use crate::placement::ShardIndex;
use crate::time::Time;

/// A message that is owed.
pub(crate) struct Owed {
    /// In which epoch it was told.
    pub(crate) told_in: Epoch,
    pub(crate) sender: OwnerId,
    pub(crate) due: Option<Time>,
    pub(crate) message: Box<[u8]>,
    /// When it was paid, if a checkpoint sees it still owed.
    paid_in: Option<Epoch>,
}

impl Owed {
    pub(crate) fn new(told_in: Epoch, sender: OwnerId, due: Option<Time>, message: Box<[u8]>) -> Self {
        Owed { told_in, sender, due, message, paid_in: None }
    }

    fn is_seen_by(&self, snapshot: Epoch) -> bool {
        self.told_in < snapshot && self.paid_in.is_none_or(|paid_in| paid_in >= snapshot)
    }
}

/// The debts of a shard.
pub(crate) struct Debts {
    shards: u64,
    next: u64,
    owed: BTreeMap<Debt, Owed>,
    /// Those that are paid and kept for a checkpoint, in the order they were paid.
    paid: VecDeque<(Epoch, Debt)>,
    /// How many shards have said that they told of all they paid before this epoch.
    marks: (Epoch, usize),
}

impl Debts {
    /// None yet, of a shard of so many; numbers begin at `first`.
    pub(crate) fn new(shard: ShardIndex, shards: usize, first: u64) -> Self {
        let shards = shards as u64;
        let next = first.next_multiple_of(shards) + u64::from(shard.0);
        Debts { shards, next, owed: BTreeMap::new(), paid: VecDeque::new(), marks: (Epoch(0), 0) }
    }

    /// A number for a debt of this shard's.
    pub(crate) fn number(&mut self) -> Debt {
        let number = Debt(self.next);
        self.next += self.shards;
        number
    }

    /// A number from which on no debt of this shard has one.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Which shard owes `debt`.
    pub(crate) fn debtor(&self, debt: Debt) -> ShardIndex {
        ShardIndex((debt.0 % self.shards) as u16)
    }

    /// From now on this is owed.
    pub(crate) fn owe(&mut self, debt: Debt, owed: Owed) {
        self.owed.insert(debt, owed);
    }

    /// A debt of this shard's was paid in `epoch`. It is kept if a checkpoint sees it owed.
    pub(crate) fn is_paid(&mut self, debt: Debt, epoch: Epoch, epoch_state: &EpochState) {
        let Some(owed) = self.owed.get_mut(&debt) else { return };
        if epoch_state.checkpoint_sees_before(epoch) && owed.told_in < epoch_state.checkpoint {
            owed.paid_in = Some(epoch);
            self.paid.push_back((epoch, debt));
        } else {
            self.owed.remove(&debt);
        }
    }

    /// Whether some that are paid are kept, and no checkpoint sees them any more.
    pub(crate) fn has_garbage(&self, epoch_state: &EpochState) -> bool {
        self.paid.front().is_some_and(|(epoch, _)| !epoch_state.checkpoint_sees_before(*epoch))
    }

    /// Forgets up to `most` of those.
    pub(crate) fn forget_paid(&mut self, epoch_state: &EpochState, most: usize) {
        for _ in 0..most {
            let Some((_, debt)) =
                self.paid.front().filter(|(epoch, _)| !epoch_state.checkpoint_sees_before(*epoch))
            else {
                return;
            };
            self.owed.remove(debt);
            self.paid.pop_front();
        }
    }

    /// Another shard has told of everything it paid before `epoch`.
    pub(crate) fn mark(&mut self, epoch: Epoch) {
        match epoch.cmp(&self.marks.0) {
            // For a checkpoint that was given up; of some shards the mark for the next has come already.
            Ordering::Less => {}
            Ordering::Equal => self.marks.1 += 1,
            Ordering::Greater => self.marks = (epoch, 1),
        }
    }

    /// Whether every other shard has told of everything it paid before `epoch`.
    pub(crate) fn has_marks(&self, epoch: Epoch) -> bool {
        let others = self.shards as usize - 1;
        others == 0 || self.marks == (epoch, others)
    }

    /// Goes on with writing what was owed at the start of `snapshot`, from the debt `from` on, until `part` is full or
    /// `goes_on` says no. Returns where to go on; `None` at the end. What the snapshot sees stays while it is open, so
    /// between two slices anything may be owed and paid.
    ///
    /// # Errors
    /// A message that cannot be written again.
    pub(crate) fn write(
        &self,
        snapshot: Epoch,
        from: Debt,
        part: &mut PartWriter,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Option<Debt>, RecordError> {
        for (debt, owed) in self.owed.range(from..) {
            // To go by what was told since takes its time, too.
            if owed.is_seen_by(snapshot) {
                part.push(|to| write_owe(*debt, owed.sender, owed.due, &owed.message, ANY_VALUE, to))?;
            }
            if part.is_full() || !goes_on() {
                return Ok(debt.0.checked_add(1).map(Debt));
            }
        }
        Ok(None)
    }
}
