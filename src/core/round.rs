//! A round of the pump: take, turn, log, deliver, account.
//!
//! ```text
//! lanes, then ingress ──> inbox ──> Shard::turn
//! ──> outboxes to lanes, answers to slots and tasks, batches to their replies ──> wakes
//! ```
//!
//! What a message costs here is its moves: no allocation, no reference count, no clock, no waker of
//! its own. The clock is read twice a turn, and the fence between shards is paid once a flush.
//!
//! Lanes are always taken from. Ingress is not while the outboxes are above half of their bound, so
//! that what a full lane holds back reaches those who send from outside. That slows a fast sender
//! down instead of failing its messages. But a shard that takes nothing at all for
//! [`HELD_BACK_MAX`] is held up, and holds nobody up who does not send to it.

use std::time::Duration;

use freehold_shard::{Actor, ReturnAddress, Time};

use super::command::Command;
use super::slice::Slice;
use super::{Core, Drain, LocalShard};
use crate::stats::trace::Ran;
use crate::stats::{AnswerPath, AskBegun, LATENCY_STRIDE};
use crate::transport::mailbox::{Ingress, Mailbox};
use crate::transport::parking::publish;
use crate::transport::replies::Claim;

/// How long full lanes that stay full keep a shard from taking more from outside.
const HELD_BACK_MAX: Duration = Duration::from_millis(1);

/// When what tasks did by themselves is worth a round, so that statistics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publish {
    /// With other work only.
    WithWork,
    Always,
}

/// What a round has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Something, which it has done.
    Work,
    /// Envelopes that full lanes still do not take.
    FullLanes,
    /// Nothing that can be done now. Something may be held back until an event of another.
    Nothing,
}

/// How long a turn spent beside its messages and timers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    jobs: Duration,
    sweep: Duration,
}

/// A turn that took `slow_turn` or more.
#[derive(Clone, Copy, Debug)]
struct SlowTurn {
    took: Duration,
    /// That came.
    messages: usize,
    /// Timers that fired.
    fired: u64,
    beside: Beside,
}

/// What most of a turn went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Messages,
    Timers,
    Jobs,
    Sweep,
}

impl SlowTurn {
    fn cause(&self) -> Cause {
        match self.beside {
            Beside { jobs, .. } if jobs * 2 >= self.took => Cause::Jobs,
            Beside { sweep, .. } if sweep * 2 >= self.took => Cause::Sweep,
            _ if self.fired > self.messages as u64 => Cause::Timers,
            _ => Cause::Messages,
        }
    }
}

impl<A: Actor> LocalShard<A> {
    /// One round: takes what has come, runs it, carries out what came of it. Says what there was to
    /// do.
    pub(crate) fn round(&self, publish: Publish) -> Found {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        if self.is_draining() && self.has_drained(core) {
            core.round_ended = None;
            self.tasks.forget_polled();
            return Found::Nothing;
        }
        let backlog = core.backlog;
        let taken = self.take(core);
        if taken == 0 && backlog == 0 && !core.has_own_work(publish) {
            core.round_ended = None;
            self.tasks.forget_polled();
            return Found::Nothing;
        }
        let begin = core.clock.read();
        let began = core.clock.last;
        if let Some(ended) = core.round_ended
            && began.saturating_duration_since(ended) >= self.shared.config.slow_turn
        {
            self.tasks_were_slow(core, began - ended, taken);
        }
        let pulse = &self.shared.pulses[self.index.index()];
        pulse.turn_begins(core.clock.real().0);
        core.arrived += taken as u64;
        if began >= core.touches_next {
            self.sample_touched(core);
        }
        let follows = self.shared.replies.traces.is_following();
        if follows || core.shard.notes_lock_waits() {
            core.shard.note_lock_waits(follows);
            if follows {
                self.follow_taken(core);
            }
        }
        let (held, fired) = (core.shard.held(), core.shard.counters().timers_fired);
        let beside = self.turn(core, begin);
        // A message may be followed since the turn began: it may be what took so long.
        if self.shared.replies.traces.is_following() {
            self.follow_run(core, Ran::InTurn(began), held);
        }
        self.see_to_log(core);
        // Only a round has done all that tasks asked for; what is delivered between rounds is the
        // log's.
        core.has_outgoing = false;
        self.deliver(core);
        core.clock.read();
        self.revoke_old_snapshots(core);
        if core.backlog < backlog || backlog == 0 {
            core.progressed = core.clock.last;
        }
        let took = core.clock.last - began;
        if took >= self.shared.config.slow_turn {
            let fired = core.shard.counters().timers_fired - fired;
            self.turn_was_slow(core, SlowTurn { took, messages: taken, fired, beside });
        }
        self.account(core, took);
        self.publish(core);
        self.tasks.forget_polled();
        pulse.turn_ends();
        // A round that could only try full lanes again did nothing. The pump then gives its CPU
        // away, and the time that takes is no task's.
        let works = taken > 0 || backlog == 0 || core.backlog < backlog;
        core.round_ended = works.then_some(core.clock.last);
        if works { Found::Work } else { Found::FullLanes }
    }

    /// While the shard drains: whether it has nothing to do, which it then says.
    #[cold]
    pub(super) fn has_drained(&self, core: &Core<A>) -> bool {
        let is_at_rest = core.shard.has_come_to_rest() && core.shard.actions().1 == 0;
        if !self.has_work(core) && is_at_rest {
            self.shared.progress(self.index).idle(core.lanes.sent, core.lanes.received);
            return true;
        }
        self.shared.progress(self.index).begin();
        false
    }

    /// Takes what has come into the inbox. Returns how many messages that was.
    #[inline]
    pub(super) fn take(&self, core: &mut Core<A>) -> usize {
        let max = self.shared.config.turn_messages_max;
        let mut taken = core.lanes.drain(&mut core.inbox.envelopes, max);
        if self.has_ingress(core) && !self.holds_back(core) {
            // Of an ingress that is shut there is one message at most: the one that was held.
            taken += core.take_ingress(self.mailbox(), if self.is_shut() { 1 } else { max });
        }
        taken
    }

    /// Runs what is in the inbox, and what goes on beside messages.
    #[inline]
    pub(super) fn turn(&self, core: &mut Core<A>, now: Time) -> Beside {
        if core.resumes {
            self.resume(core, now);
        }
        core.shard.turn(now, &mut core.inbox, &mut core.effects);
        core.jobs_due = false;
        let jobs = core.jobs.run(&mut core.shard);
        Beside { jobs, sweep: core.sweep() }
    }

    /// Revokes snapshots that have been open for too long, and tells the other shards of it.
    #[inline]
    pub(super) fn revoke_old_snapshots(&self, core: &mut Core<A>) {
        core.shard.revoke_old(core.clock.real());
        if core.shard.counters().revoked != core.revoked_told {
            core.revoked_told = core.shard.counters().revoked;
            self.shared.tell_epochs();
        }
    }

    /// Between two rounds, of which the second found work, tasks took as long as a slow turn.
    #[cold]
    fn tasks_were_slow(&self, core: &mut Core<A>, took: Duration, messages: usize) {
        core.activity.slow_tasks += 1;
        // One of them, or several together; those that were spawned past the runtime are not known.
        let tasks = self.tasks.take_polled();
        let tasks: Vec<_> = tasks.iter().map(ToString::to_string).collect();
        tracing::warn!(shard = self.index.0, ?took, messages, ?tasks, "tasks kept a shard from its messages");
    }

    /// Counts a turn that took `slow_turn` or more, by what most of it went to.
    #[cold]
    fn turn_was_slow(&self, core: &mut Core<A>, turn: SlowTurn) {
        let SlowTurn { took, messages, fired, .. } = turn;
        let cause = turn.cause();
        core.activity.slow_turns += 1;
        match cause {
            Cause::Messages => {}
            Cause::Timers => core.activity.slow_turns_timers += 1,
            Cause::Jobs => core.activity.slow_turns_jobs += 1,
            Cause::Sweep => core.activity.slow_turns_sweep += 1,
        }
        tracing::warn!(shard = self.index.0, ?took, messages, timers = fired, ?cause, "a turn was slow");
    }

    /// Counts a turn, and how long its sampled messages took.
    #[inline]
    pub(super) fn account(&self, core: &mut Core<A>, took: Duration) {
        core.activity.turns += 1;
        core.activity.busy_ns += took.as_nanos() as u64;
        if !core.samples.is_empty() {
            self.record_samples(core);
        }
    }

    /// Records the latencies of what was just answered.
    #[cold]
    pub(super) fn record_samples(&self, core: &mut Core<A>) {
        let now = core.clock.last;
        for (begun, samples) in &core.samples {
            tracing::trace!(shard = self.index.0, latency = ?now.saturating_duration_since(begun.at), samples, "sampled");
        }
        self.shared.published[self.index.index()].sample(now, &mut core.samples);
    }

    /// Whether nothing is taken from the ingress any more.
    #[inline]
    fn is_shut(&self) -> bool {
        self.drain.get() == Drain::Shut
    }

    /// Whether messages from outside wait, and are not refused when the shard leaves.
    #[inline]
    pub(super) fn has_ingress(&self, core: &Core<A>) -> bool {
        self.mailbox().has_ingress() && !self.is_shut() || core.held.is_some()
    }

    /// Whether none of them is taken for now. Each reason ends by an event that wakes a parked
    /// pump: transactions come back through lanes, a write of the log ends, and while full lanes
    /// keep a backlog the pump does not park.
    #[inline]
    pub(super) fn holds_back(&self, core: &Core<A>) -> bool {
        core.shard.is_congested()
            || self.is_behind(core)
            || core.backlog > self.shared.config.limits.outbox_messages_max / 2 && !core.is_stalled()
    }

    /// Delivers the effects of a turn.
    #[inline]
    pub(super) fn deliver(&self, core: &mut Core<A>) {
        core.told_flushed = core.shard.counters().told;
        core.backlog = core.lanes.flush(&mut core.effects.outboxes, &mut core.flushed);
        if !core.flushed.is_empty() {
            publish();
            let published = &self.shared.published[self.index.index()];
            for shard in core.flushed.drain(..) {
                published.publish_sent(shard, core.lanes.sent_to[shard]);
                self.shared.mailboxes[shard].wake_if_parked(&self.shared.replies);
            }
        }
        if self.shared.replies.traces.is_following() {
            self.follow_answers(core);
        }
        for (to, outcome) in core.effects.answers.drain(..) {
            match to {
                ReturnAddress::Outside { slot, generation } => {
                    let handover = self.shared.replies.answer(Claim { slot, generation }, outcome);
                    core.wakers.extend(handover.waker);
                    core.samples.extend(handover.begun.map(|begun| (begun, 1)));
                }
                ReturnAddress::Shard { call, .. } => {
                    core.wakers.extend(self.in_flight.borrow_mut().answer(call, outcome));
                }
                // An entry of a batch is answered in its batch.
                ReturnAddress::Nobody | ReturnAddress::SendId(_) | ReturnAddress::Batch { .. } => {}
            }
        }
        if !core.effects.failures.is_empty() {
            let (now, embedding) = (core.clock.last, &self.shared.embedding);
            core.failures.take(self.index, now, &mut core.effects, embedding);
        }
        for batch in core.effects.batches.drain(..) {
            let reply = core.batch_replies.remove(batch.tag as usize);
            core.activity.batches += 1;
            core.unsampled += batch.entries.len() as u64;
            if core.unsampled >= LATENCY_STRIDE {
                let begun = reply.begun().map(|at| AskBegun { at, path: AnswerPath::Batch });
                core.samples.extend(begun.map(|begun| (begun, core.unsampled / LATENCY_STRIDE)));
                core.unsampled %= LATENCY_STRIDE;
            }
            if let Some(begun) = reply.begun()
                && self.shared.replies.traces.is_slow(core.clock.last.saturating_duration_since(begun))
            {
                self.batch_was_slow(begun, batch.entries.len());
            }
            core.wakers.extend(reply.complete(batch.entries));
        }
    }

    pub(super) fn publish(&self, core: &mut Core<A>) {
        let activity = &mut core.activity;
        activity.lane_sent = core.lanes.sent;
        activity.lane_received = core.lanes.received;
        activity.outbox_waiting = core.backlog as u64;
        activity.timers_waiting = core.shard.timers() as u64;
        (activity.log_bytes, activity.log_writes) = core.shard.log_written();
        core.handled_published = core.shard.counters().handled();
        self.shared.published[self.index.index()].publish(&core.shard.counters(), activity);
    }

    /// Whether there is anything left to do, now or later.
    pub(super) fn has_work(&self, core: &Core<A>) -> bool {
        self.has_ingress(core) || self.can_work(core)
    }

    /// Whether a round would find something that it can do. Messages that are held back are not, or
    /// a shard that waits for its disk would not park, and its executor not look at its ring.
    pub(super) fn can_work(&self, core: &Core<A>) -> bool {
        let timer_is_due = core.shard.next_timer().is_some_and(|due| due <= core.clock.now);
        !core.lanes.is_empty()
            || self.has_ingress(core) && !self.holds_back(core)
            || core.backlog > 0
            || core.has_outgoing
            || core.shard.counters().told != core.told_flushed
            || core.shard.own_messages() > 0
            || core.has_jobs()
            || core.shard.has_garbage()
            || core.shard.has_log_work()
            || core.shard.has_to_show()
            || timer_is_due
    }
}

impl<A: Actor> Core<A> {
    /// Lets go of what no snapshot needs any more, for a while. Says how long it took.
    #[inline]
    pub(super) fn sweep(&mut self) -> Duration {
        if !self.shard.has_garbage() {
            return Duration::ZERO;
        }
        let mut slice = Slice::begin();
        self.shard.sweep(|| slice.goes_on());
        slice.took()
    }

    /// Moves entries of the ingress into the inbox until it is empty or there are `max` messages.
    /// Returns how many messages came.
    ///
    /// A turn runs all single messages before all batches. So that one sender's messages stay in
    /// order, a single message that comes behind a batch waits for the next turn.
    #[inline]
    pub(super) fn take_ingress(&mut self, mailbox: &Mailbox<A, Command<A>>, max: usize) -> usize {
        let mut messages = 0;
        let mut popped = false;
        while messages < max {
            let entry = match self.held.take() {
                Some(entry) => entry,
                None => match mailbox.take() {
                    Some(entry) => {
                        popped = true;
                        entry
                    }
                    None => break,
                },
            };
            match entry {
                Ingress::One(envelope, _) if self.inbox.batches.is_empty() => {
                    self.inbox.envelopes.push(envelope);
                    messages += 1;
                }
                Ingress::One(..) => {
                    self.held = Some(entry);
                    break;
                }
                Ingress::Batch(mut batch, reply) => {
                    messages += batch.entries.len();
                    batch.tag = self.batch_replies.insert(reply) as u32;
                    self.inbox.batches.push(batch);
                }
            }
        }
        if popped {
            mailbox.wake_for_room(&mut self.wakers);
        }
        messages
    }

    /// Whether the shards that lanes are full to have taken nothing for a while: one of them is
    /// held up, and those who ask of others are not to wait for it.
    pub(super) fn is_stalled(&self) -> bool {
        self.clock.last.saturating_duration_since(self.progressed) >= HELD_BACK_MAX
    }

    /// Whether there is something to do for others now.
    #[inline]
    pub(super) fn has_jobs(&self) -> bool {
        self.jobs_due || self.jobs.has_ready()
    }

    /// Whether there is something to do though nothing has come.
    #[inline]
    pub(super) fn has_own_work(&mut self, publish: Publish) -> bool {
        self.has_outgoing
            || self.shard.own_messages() > 0
            || self.has_jobs()
            || self.shard.has_garbage()
            || self.is_logged && self.shard.has_log_work()
            || self.shard.has_to_show()
            || self.shard.counters().told != self.told_flushed
            || self.shard.next_timer().is_some_and(|due| due <= self.clock.read())
            || publish == Publish::Always && self.shard.counters().handled() != self.handled_published
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_turn_is_of_what_took_half_of_it() {
        let (took, half) = (Duration::from_millis(10), Duration::from_millis(5));
        let cause = |messages, fired, jobs, sweep| {
            SlowTurn { took, messages, fired, beside: Beside { jobs, sweep } }.cause()
        };
        let none = Duration::ZERO;
        assert_eq!(cause(1, 0, none, none), Cause::Messages);
        assert_eq!(cause(0, 0, none, none), Cause::Messages, "such as those that were told");
        assert_eq!(cause(3, 3, none, none), Cause::Messages);
        assert_eq!(cause(3, 4, none, none), Cause::Timers);
        let less = half - Duration::from_nanos(1);
        assert_eq!((cause(3, 4, half, none), cause(3, 4, less, less)), (Cause::Jobs, Cause::Timers));
        assert_eq!(cause(3, 4, less, half), Cause::Sweep);
    }
}
