//! Messages that wait for their time.

use crate::actor::Actor;
use crate::actor::told::TimerId;
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::record::SendId;
use crate::placement::ShardIndex;
use crate::shard::due::{DueKey, DueQueue};
use crate::shard::engine::Engine;
use crate::time::Time;
use crate::transaction::effects::Effects;
use crate::transaction::message::Envelope;

/// The messages of a shard that wait for their time, by when they are due; those due by the wall
/// clock come last. Those due together go in
/// the order they were set, which is that of their numbers. A heap would be a little faster, but a
/// timer in the middle of it could not be cancelled.
pub(crate) type Timers<A> = DueQueue<Timer<A>>;

/// A message to be sent at a time.
pub(crate) struct Timer<A: Actor> {
    pub(crate) to: ShardIndex,
    pub(crate) envelope: Envelope<A>,
}

impl<A: Actor> Engine<A> {
    pub(super) fn set_timer(&mut self, key: DueKey, timer: Timer<A>) {
        self.wall_timers += usize::from(key.0 >= Time::WALL_CLOCK);
        self.timers.insert(key, timer);
    }

    /// The first that is due by the wall clock.
    fn first_by_wall_clock(&self) -> Option<DueKey> {
        self.timers.first_key_from((Time::WALL_CLOCK, SendId(0)))
    }

    /// When the first timer is due, if `first` is when the first of all keys says, and some are due
    /// by the wall clock.
    #[cold]
    pub(super) fn next_due_by_wall_clock(&self, first: Option<Time>) -> Option<Time> {
        let by_wall_clock = self.first_by_wall_clock().map(|(due, _)| due.in_run(self.run.wall_clock_began));
        first.filter(|first| *first < Time::WALL_CLOCK).into_iter().chain(by_wall_clock).min()
    }

    /// Takes the timer that is due first, if some are due by the wall clock.
    #[cold]
    pub(super) fn take_first_by_either_clock(&mut self) -> Option<Timer<A>> {
        let began = self.run.wall_clock_began;
        let keys = self.timers.first_key().into_iter().chain(self.first_by_wall_clock());
        let key = keys.min_by_key(|(due, send_id)| (due.in_run(began), *send_id))?;
        self.wall_timers -= usize::from(key.0 >= Time::WALL_CLOCK);
        self.timers.remove(key)
    }

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
            let was_there = self.timers.remove((timer.due(), timer.number())).is_some();
            self.wall_timers -= usize::from(was_there && timer.due() >= Time::WALL_CLOCK);
        }
        self.run.timers_waiting = self.timers.len();
        if let Some(journal) = &mut self.journal {
            let due = timer.due().in_run(self.run.wall_clock_began);
            journal.cancelled(timer, due, epoch, &self.run.epoch_state);
        }
    }
}
