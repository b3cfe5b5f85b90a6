//! What the pump and the tasks of a shard do for its log: they hand batches to its writer, let go
//! of what is durable, and hold what is not.

use std::task::Waker;

use freehold_shard::log::BatchWriter;
use freehold_shard::{Actor, AskError, Outcome, ReturnAddress, SendId, Time};

use super::jobs::{JobStep, Wait, job};
use super::{Core, LocalShard, reentered};
use crate::log::leaving::EpochSender;
use crate::stats::trace::Ran;
use crate::transport::each_shard::Reporter;

impl<A: Actor> LocalShard<A> {
    /// Whether so much waits for the disk, for another log, or for a checkpoint, that nothing more
    /// is to be run. What ends it wakes a parked pump: a write's end, room on the way to the other
    /// log, a slice of the checkpoint, or its end.
    pub(super) fn is_behind(&self, core: &Core<A>) -> bool {
        core.is_logged
            && self.shared.logs.as_ref().is_some_and(|logs| {
                let backlog = core.shard.log_backlog();
                // Of what waits in the others nobody here knows: about as much.
                let waiting = (backlog * self.shared.mailboxes.len()) as u64;
                let leaving = &logs.config.leaving;
                backlog > logs.config.backlog_bytes
                    || leaving.as_ref().is_some_and(EpochSender::holds_back)
                    || logs.growth.is_full(waiting)
                    || core.shard.checkpoint_backlog() > self.shared.config.limits.versions_max
            })
    }

    /// Before a turn: the messages of earlier runs that may run now are named, and then sent.
    #[cold]
    pub(super) fn resume(&self, core: &mut Core<A>, now: Time) {
        if core.shard.take_resumed(now) {
            self.name_under_way(core);
            core.shard.run_resumed(&mut core.effects);
        }
    }

    /// Has a message of an earlier run, which this shard owes, run now; others of earlier runs do
    /// not. `over` reports when its payment is on disk.
    pub(crate) fn resume_alone(&self, send_id: SendId, over: Reporter<()>) {
        {
            let Ok(mut core) = self.core.try_borrow_mut() else { reentered() };
            let core = &mut *core;
            if core.shard.resume_alone(send_id) {
                self.name_under_way(core);
                core.shard.run_resumed(&mut core.effects);
            }
        }
        self.enqueue(job(self.mailbox().permit_of_ours(), over, move |shard| {
            let shown = shard.shown();
            if shard.under_way().all(|other| other != send_id) {
                JobStep::Done(())
            } else if shard.want_durable(shown) {
                JobStep::GoesOn
            } else {
                JobStep::Waits(Wait::Durable(shown))
            }
        }));
    }

    fn name_under_way(&self, core: &mut Core<A>) {
        core.named = core.shard.under_way().count();
        if let Some(names) = self.shared.logs.as_ref().and_then(|logs| logs.under_way.as_ref()) {
            names.name(self.index, core.shard.under_way());
        }
    }

    /// Names those no more that are delivered on disk.
    #[cold]
    fn forget_resumed(&self, core: &mut Core<A>) {
        if core.shard.under_way().count() < core.named {
            self.name_under_way(core);
        }
        core.resumes = core.shard.has_resumed();
    }

    /// Gives a task the answer to a message that has run here: at once, or as an ask in flight,
    /// which waits until it is durable.
    pub(crate) fn answer_when_durable(&self, outcome: Outcome<A>) -> Result<Outcome<A>, u32> {
        let Ok(mut core) = self.core.try_borrow_mut() else { reentered() };
        if core.shard.undurable().is_none() {
            return Ok(outcome);
        }
        let Some(call) = self.in_flight.borrow_mut().begin() else { return Ok(Err(AskError::Unknown)) };
        core.shard.hold(ReturnAddress::Shard { shard: self.index, call }, outcome);
        Err(call)
    }

    /// Gives a flight the answer to a message that has run here: at once, or when it is durable.
    pub(crate) fn answer_flight_when_durable(&self, flight: u32, tag: u64, outcome: Outcome<A>) {
        let Ok(mut core) = self.core.try_borrow_mut() else { reentered() };
        let mut in_flight = self.in_flight.borrow_mut();
        let mut outcome = outcome;
        if core.shard.undurable().is_some() {
            if let Some(call) = in_flight.begin_in_flight(flight, tag) {
                return core.shard.hold(ReturnAddress::Shard { shard: self.index, call }, outcome);
            }
            outcome = Err(AskError::Unknown);
        }
        let waker = in_flight.answer_in_flight(flight, tag, outcome);
        drop((in_flight, core));
        waker.into_iter().for_each(Waker::wake);
    }

    /// Whether another ask of this shard's own tasks can wait for its answer.
    pub(crate) fn has_room_for_ask(&self) -> bool {
        self.in_flight.borrow().has_room()
    }

    /// A batch of the log is on disk.
    pub(crate) fn written(&self, batch: BatchWriter) {
        {
            let mut core = self.core.borrow_mut();
            let core = &mut *core;
            core.shard.written(batch);
            self.let_go(core);
            // It says that it is through, if it drains; goes on with what full lanes left; and
            // spins, as after any round: whoever was answered may soon ask again.
            if self.pump.is_parked.get() {
                self.wake_pump();
            }
        }
        self.wake_answered();
    }

    /// Other logs have got further.
    pub(super) fn is_further(&self) {
        self.let_go(&mut self.core.borrow_mut());
        self.wake_answered();
    }

    /// Actions wait until they are durable, if there are any: the log is told.
    pub(super) fn want_actions(&self) {
        let mut core = self.core.borrow_mut();
        if core.is_logged && core.shard.actions().0 > 0 {
            self.let_go(&mut core);
            drop(core);
            self.wake_answered();
        }
    }

    /// Goes on writing and answers what is durable, outside a round.
    pub(super) fn let_go(&self, core: &mut Core<A>) {
        if self.shared.replies.traces.is_following() {
            self.follow_run(core, Ran::Held, usize::MAX);
        }
        self.see_to_log(core);
        self.deliver(core);
        // No round may come for long, and answers were sent: the story is of a latency that was
        // taken in the next round with work, 200 ms later.
        if !core.samples.is_empty() {
            core.clock.read();
            self.record_samples(core);
        }
        self.publish(core);
    }

    /// Gives the writer the next batch, if there is one, and lets go of what is durable.
    #[inline]
    pub(super) fn see_to_log(&self, core: &mut Core<A>) {
        if core.is_logged {
            self.see_to_the_log(core);
        }
    }

    fn see_to_the_log(&self, core: &mut Core<A>) {
        loop {
            if let Some(write) = core.shard.next_write(core.clock.now) {
                self.handoff.borrow_mut().put(write);
            }
            if core.shard.release(&mut core.effects) {
                core.jobs_due = true;
                if self.pump.is_parked.get() {
                    self.tell_pump(core);
                }
            }
            // It could not rest, because another shard awaits it: then there is a close to be
            // written.
            if !core.shard.has_log_work() {
                break;
            }
        }
        if core.resumes {
            self.forget_resumed(core);
        }
        self.shared.tell_durable(Some(self.index));
    }

    /// Whether something has still to be written, or waits for others to write it: other shards,
    /// and not a replicated log, for which the draining has waited.
    pub(crate) fn has_unwritten(&self) -> bool {
        let core = self.core.borrow();
        let leaves = self.shared.logs.as_ref().is_some_and(|logs| logs.config.leaving.is_some());
        core.is_logged && !if leaves { core.shard.is_log_written() } else { core.shard.is_log_idle() }
    }

    /// Whether something goes on beside the pump that the runtime itself has begun.
    pub(crate) fn has_work_of_its_own(&self) -> bool {
        self.is_writing()
            || self.segments_being_made.get() > 0
            || self.tasks.live() > 0 && !self.may_have_user_tasks()
    }

    /// Whether the disk writes a batch of its log.
    #[inline]
    pub(crate) fn is_writing(&self) -> bool {
        let core = self.core.borrow();
        core.is_logged && core.shard.is_writing()
    }
}
