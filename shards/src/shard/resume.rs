//! A shard runs what earlier runs left owed, step by step, as the runtime asks for it: see
//! [`resumed`](crate::shard::resumed).

use crate::actor::Actor;
use crate::actor::destination::Destination;
use crate::actor::told::QueuedSend;
use crate::log::record::SendId;
use crate::object::OwnerId;
use crate::prefetch::Prefetch;
use crate::shard::Shard;
use crate::shard::resumed::ToResume;
use crate::time::Time;
use crate::transaction::effects::Effects;

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Takes over a pending send that a log has, and which is this shard's (its number modulo the
    /// shards): its message runs when it is due, or soon, by [`Shard::take_resumed`].
    pub fn restore_send(
        &mut self,
        send_id: SendId,
        sender: OwnerId,
        due: Option<Time>,
        message: A::Message,
        bytes: &[u8],
    ) {
        self.keep_send(send_id, sender, due, bytes);
        if A::is_action(&message) {
            return self.engine.keep_action(send_id, sender, message);
        }
        if let Some(journal) = &mut self.engine.journal {
            let due = due.map(|due| due.in_run(self.engine.run.wall_clock_began));
            journal.resumed.push(send_id, due, message, sender);
        }
    }

    /// From now on no message of an earlier run begins but by [`Shard::resume_alone`]; or all do.
    pub fn hold_resumed(&mut self, is_held: bool) {
        if let Some(journal) = &mut self.engine.journal {
            journal.resumed.is_held = is_held;
        }
    }

    /// Whether there are messages of an earlier run that have not run, or whose delivery is not on
    /// disk.
    pub fn has_resumed(&self) -> bool {
        self.engine.journal.as_ref().is_some_and(|journal| {
            !journal.resumed.waiting.is_empty() || !journal.resumed.under_way.is_empty()
        })
    }

    /// Whether the shard's log is idle, and no message of an earlier run runs soon or waits for
    /// a disk. A message that waits for its time does not count.
    pub fn has_come_to_rest(&self) -> bool {
        let is_resuming = self.engine.journal.as_ref().is_some_and(|journal| journal.resumed.is_going_on());
        self.is_log_idle() && !is_resuming
    }

    /// Takes the messages of earlier runs that may run at `now`. Says whether there are any: then
    /// those under way are to be written down, and [`Shard::run_resumed`] is to be called before
    /// the next turn.
    pub fn take_resumed(&mut self, now: Time) -> bool {
        let is_stopped = self.timers_stopped.is_some();
        let Some(journal) = &mut self.engine.journal else { return false };
        let resumed = &mut journal.resumed;
        while let Some((due, is_timed)) = resumed.next()
            && (!is_timed || due <= now && !is_stopped)
            && let Some(key) = resumed.waiting.first_key()
        {
            self.engine.run.counters.timers_fired += u64::from(is_timed);
            resumed.take(key);
        }
        !resumed.taken.is_empty()
    }

    /// Takes one message of an earlier run, whether it is due or not: it has been, in that run.
    /// Says whether it is owed; then everything is as after [`Shard::take_resumed`].
    pub fn resume_alone(&mut self, send_id: SendId) -> bool {
        let Some(journal) = &mut self.engine.journal else { return false };
        let resumed = &mut journal.resumed;
        let found = resumed.waiting.keys().find(|(_, of)| *of == send_id);
        found.is_some_and(|key| {
            resumed.take(key);
            true
        })
    }

    /// The messages of earlier runs that are under way.
    pub fn under_way(&self) -> impl Iterator<Item = SendId> {
        self.engine
            .journal
            .iter()
            .flat_map(|journal| journal.resumed.under_way.iter().map(|(send_id, _)| *send_id))
    }

    /// Sends what was taken to where it runs, in the next turn or by the outboxes.
    pub fn run_resumed(&mut self, effects: &mut Effects<A>) {
        let Some(journal) = &mut self.engine.journal else { return };
        for (send_id, ToResume { message, sender, .. }) in std::mem::take(&mut journal.resumed.taken) {
            let destination =
                self.engine.run.router.destination::<A>(&message, self.engine.run.scratch.get_mut());
            let to = match destination {
                Destination::One(to) | Destination::Several(to) => to,
                Destination::Nowhere => self.engine.run.shard,
            };
            self.engine.run.told.get_mut().send(QueuedSend {
                message,
                to,
                sender,
                due: None,
                is_action: false,
                staged: None,
                number: Some(send_id),
            });
        }
        self.engine.send_queued(effects);
    }
}
