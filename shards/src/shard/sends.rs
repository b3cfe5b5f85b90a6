//! Messages that a shard has sent and that have not run: its pending sends.
//!
//! A pending send has a number ([`SendId`]) that no other has, in the database's whole life; modulo
//! the number of shards it names the shard that keeps it now, the *sender shard*. That shard keeps
//! the message in bytes until it is delivered, so that a checkpoint can hold it. The shard where it
//! ran records that with what it did, and tells the sender shard. So does the shard where a message
//! took a timer back. What a checkpoint sees pending is kept until the checkpoint has ended.
//!
//! A send is delivered on any shard, and word of it takes its time. So before a checkpoint is
//! written every shard tells every other that it has told of all that was delivered there before (a
//! *mark*). Lanes are first in, first out: a shard that has all marks has all word.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use crate::epoch::{Epoch, EpochState};
use crate::log::bounds::ANY_VALUE;
use crate::log::part::PartWriter;
use crate::log::record::{SendId, write_send};
use crate::log::refused::RecordError;
use crate::object::OwnerId;
use crate::time::Time;

/// A message that was sent and has not run.
pub(crate) struct PendingSend {
    /// In which epoch it was told.
    pub(crate) told_in: Epoch,
    pub(crate) sender: OwnerId,
    pub(crate) due: Option<Time>,
    pub(crate) message: Box<[u8]>,
    /// When it was delivered, if a checkpoint sees it pending.
    delivered_in: Option<Epoch>,
}

impl PendingSend {
    pub(crate) fn new(told_in: Epoch, sender: OwnerId, due: Option<Time>, message: Box<[u8]>) -> Self {
        PendingSend { told_in, sender, due, message, delivered_in: None }
    }

    fn is_seen_by(&self, snapshot: Epoch) -> bool {
        self.told_in < snapshot && self.delivered_in.is_none_or(|delivered_in| delivered_in >= snapshot)
    }
}

/// The pending sends of a shard.
pub(crate) struct PendingSends {
    shards: usize,
    pending: BTreeMap<SendId, PendingSend>,
    /// Those that are delivered and kept for a checkpoint, in the order they were delivered.
    delivered: VecDeque<(Epoch, SendId)>,
    /// How many shards have said that they told of all that was delivered there before this epoch.
    marks: (Epoch, usize),
}

impl PendingSends {
    /// None yet, of a shard of so many.
    pub(crate) fn new(shards: usize) -> Self {
        PendingSends { shards, pending: BTreeMap::new(), delivered: VecDeque::new(), marks: (Epoch(0), 0) }
    }

    /// From now on this is pending.
    pub(crate) fn add(&mut self, send_id: SendId, send: PendingSend) {
        self.pending.insert(send_id, send);
    }

    /// A send of this shard's was delivered in `epoch`. It is kept if a checkpoint sees it pending.
    pub(crate) fn delivered(&mut self, send_id: SendId, epoch: Epoch, epoch_state: &EpochState) {
        let Some(send) = self.pending.get_mut(&send_id) else { return };
        if let Some(before) = send.delivered_in {
            // Two have cancelled it, or it was on its way when it was cancelled. It is over from
            // the first epoch on, and this shard may hear of that one last.
            send.delivered_in = Some(before.min(epoch));
            return;
        }
        if epoch_state.checkpoint_sees_before(epoch) && send.told_in < epoch_state.checkpoint {
            send.delivered_in = Some(epoch);
            self.delivered.push_back((epoch, send_id));
        } else {
            self.pending.remove(&send_id);
        }
    }

    /// A send of this shard's that is due then was cancelled in `epoch`: it is kept as one that was
    /// delivered.
    pub(crate) fn cancelled(&mut self, send_id: SendId, due: Time, epoch: Epoch, epoch_state: &EpochState) {
        if self.pending.get(&send_id).is_some_and(|send| send.due == Some(due)) {
            self.delivered(send_id, epoch, epoch_state);
        }
    }

    /// Whether some that are delivered are kept, and no checkpoint sees them any more.
    pub(crate) fn has_garbage(&self, epoch_state: &EpochState) -> bool {
        self.delivered.front().is_some_and(|(epoch, _)| !epoch_state.checkpoint_sees_before(*epoch))
    }

    /// Forgets up to `most` of those.
    pub(crate) fn forget_delivered(&mut self, epoch_state: &EpochState, most: usize) {
        for _ in 0..most {
            let Some((_, send_id)) =
                self.delivered.front().filter(|(epoch, _)| !epoch_state.checkpoint_sees_before(*epoch))
            else {
                return;
            };
            self.pending.remove(send_id);
            self.delivered.pop_front();
        }
    }

    /// Another shard has told of everything that was delivered there before `epoch`.
    pub(crate) fn mark(&mut self, epoch: Epoch) {
        match epoch.cmp(&self.marks.0) {
            // For a checkpoint that was given up; of some shards the mark for the next has come
            // already.
            Ordering::Less => {}
            Ordering::Equal => self.marks.1 += 1,
            Ordering::Greater => self.marks = (epoch, 1),
        }
    }

    /// Whether every other shard has told of everything that was delivered there before `epoch`.
    pub(crate) fn has_marks(&self, epoch: Epoch) -> bool {
        let others = self.shards - 1;
        others == 0 || self.marks == (epoch, others)
    }

    /// Goes on with writing what was pending at the start of `snapshot`, from number `from` on,
    /// until `part` is full or `goes_on` says no. Returns where to go on; `None` at the end. What
    /// the snapshot sees stays while it is open, so between two slices anything may be sent and
    /// delivered.
    ///
    /// # Errors
    /// A message that cannot be written again.
    pub(crate) fn write(
        &self,
        snapshot: Epoch,
        from: SendId,
        part: &mut PartWriter,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Option<SendId>, RecordError> {
        for (send_id, send) in self.pending.range(from..) {
            // To go by what was told since takes its time, too.
            if send.is_seen_by(snapshot) {
                part.push(|to| write_send(*send_id, send.sender, send.due, &send.message, ANY_VALUE, to))?;
            }
            if part.is_full() || !goes_on() {
                return Ok(send_id.0.checked_add(1).map(SendId));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Epochs;

    /// What was cancelled before a checkpoint, and once more during it, was written as pending.
    #[test]
    fn what_is_cancelled_twice_was_cancelled_first() {
        let epochs = Epochs::new();
        let mut sends = PendingSends::new(1);
        sends.add(SendId(7), PendingSend::new(Epoch(1), OwnerId(0), Some(Time(9)), Box::new([1])));
        sends.cancelled(SendId(7), Time(8), epochs.epoch(), &epochs.state());
        assert!(sends.pending.contains_key(&SendId(7)), "that is not when it is due");
        let first = epochs.begin_checkpoint();
        sends.cancelled(SendId(7), Time(9), epochs.epoch(), &epochs.state());
        assert!(sends.pending[&SendId(7)].is_seen_by(first));
        epochs.end_checkpoint(first);
        let second = epochs.begin_checkpoint();
        // Or it was on its way when it was cancelled, and has run.
        sends.delivered(SendId(7), epochs.epoch(), &epochs.state());
        assert!(!sends.pending[&SendId(7)].is_seen_by(second));
    }
    /// Another shard had cancelled it in an earlier epoch, and this one heard of that last: it was
    /// pending in a checkpoint that came after the first. (Found by seed 14000044195.)
    #[test]
    fn what_is_cancelled_twice_was_cancelled_first_whoever_is_heard_first() {
        let epochs = Epochs::new();
        let mut sends = PendingSends::new(2);
        sends.add(SendId(7), PendingSend::new(Epoch(1), OwnerId(0), Some(Time(9)), Box::new([1])));
        let before = epochs.epoch();
        let checkpoint = epochs.begin_checkpoint();
        sends.cancelled(SendId(7), Time(9), epochs.epoch(), &epochs.state());
        assert!(sends.pending[&SendId(7)].is_seen_by(checkpoint));
        sends.cancelled(SendId(7), Time(9), before, &epochs.state());
        assert!(!sends.pending[&SendId(7)].is_seen_by(checkpoint));
    }
}
