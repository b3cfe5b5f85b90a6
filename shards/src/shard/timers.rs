//! Messages that wait for their time.

use std::collections::BTreeMap;

use crate::actor::Actor;
use crate::actor::told::TimerId;
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::record::Debt;
use crate::placement::ShardIndex;
use crate::shard::engine::Engine;
use crate::time::Time;
use crate::transaction::effects::Effects;
use crate::transaction::message::Envelope;

/// The messages of a shard that wait for their time, by when they are due. Those due together go in
/// the order they were set, which is that of their numbers. A heap would be a little faster, but a
/// timer in the middle of it could not be cancelled.
pub(crate) type Timers<A> = BTreeMap<(Time, Debt), Timer<A>>;

/// A message to be sent at a time.
pub(crate) struct Timer<A: Actor> {
    pub(crate) to: ShardIndex,
    pub(crate) envelope: Envelope<A>,
}

impl<A: Actor> Engine<A> {
    /// A message has cancelled a timer, in this epoch. This shard keeps it, or the one that does
    /// hears of it.
    #[cold]
    pub(super) fn cancel(&mut self, timer: TimerId, effects: &mut Effects<A>) {
        let (epoch, keeper) = (self.run.epoch_state.epoch, self.run.keeper(timer.number()));
        if keeper == self.run.shard {
            self.cancelled(timer, epoch);
        } else {
            effects.outboxes[keeper.index()].push_back(Envelope::Cancel { timer, epoch });
        }
    }

    /// A timer that this shard keeps was cancelled in `epoch`, and the log has that.
    pub(crate) fn cancelled(&mut self, timer: TimerId, epoch: Epoch) {
        if !fault::is_on(Fault::KeepCancelled) {
            self.timers.remove(&(timer.due(), timer.number()));
        }
        self.run.timers_waiting = self.timers.len();
        if let Some(journal) = &mut self.journal {
            journal.resumed.cancel(timer.due(), timer.number());
            journal.delivered(timer.number(), epoch, &self.run.epoch_state);
        }
    }
}
