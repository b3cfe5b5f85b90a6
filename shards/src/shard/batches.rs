//! Batches some of whose messages became transactions: they wait on their shard until the last of
//! those has ended.

use slab::Slab;

use crate::actor::Actor;
use crate::actor::outcome::Outcome;
use crate::transaction::effects::Effects;
use crate::transaction::message::{Batch, BatchEntry};

/// The batches of a shard that are not answered yet.
pub(crate) struct Batches<A: Actor> {
    /// `None` for the one that runs now.
    list: Slab<Option<Pending<A>>>,
    /// The key of the one that runs now, once it needs one.
    running: Option<u32>,
    /// Outcomes for the one that runs now.
    answered: Vec<(u32, Outcome<A>)>,
}

struct Pending<A: Actor> {
    batch: Batch<A>,
    /// Entries without an outcome.
    missing: usize,
}

impl<A: Actor> Batches<A> {
    pub(crate) fn new() -> Self {
        Batches { list: Slab::new(), running: None, answered: Vec::new() }
    }

    /// The key of the batch that runs now.
    pub(crate) fn open(&mut self) -> u32 {
        *self.running.get_or_insert_with(|| self.list.insert(None) as u32)
    }

    /// The batch has run: it goes back if all its entries are answered, and waits otherwise.
    pub(crate) fn close(&mut self, mut batch: Batch<A>, effects: &mut Effects<A>) {
        let Some(key) = self.running.take() else { return effects.batches.push(batch) };
        for (entry, outcome) in self.answered.drain(..) {
            batch.entries[entry as usize] = BatchEntry::Answered(outcome);
        }
        let missing = batch.entries.iter().filter(|entry| matches!(entry, BatchEntry::Taken)).count();
        if missing == 0 {
            self.list.remove(key as usize);
            effects.batches.push(batch);
        } else {
            self.list[key as usize] = Some(Pending { batch, missing });
        }
    }

    /// The outcome of an entry that became a transaction.
    pub(crate) fn answer(&mut self, key: u32, entry: u32, outcome: Outcome<A>, effects: &mut Effects<A>) {
        if self.running == Some(key) {
            return self.answered.push((entry, outcome));
        }
        let pending =
            self.list[key as usize].as_mut().expect("a batch waits until its last entry is answered");
        pending.batch.entries[entry as usize] = BatchEntry::Answered(outcome);
        pending.missing -= 1;
        if pending.missing == 0
            && let Some(pending) = self.list.remove(key as usize)
        {
            effects.batches.push(pending.batch);
        }
    }
}
