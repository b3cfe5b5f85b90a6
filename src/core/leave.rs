//! The end of a shard: everyone who waits for it is answered, as truly as can be said, and what it
//! leaves behind is reported.

use std::task::Waker;

use freehold_shard::log::Tail;
use freehold_shard::{Actor, Effects, Envelope, Shard};

use super::LocalShard;
use super::jobs::let_go;
use crate::transport::lanes::Lanes;
use crate::transport::mailbox::{Ingress, refuse, unknown};

/// What a shard reports when it has left.
pub(crate) struct ShardExit<A: Actor> {
    pub(crate) timers: u64,
    /// Actions that have not ended.
    pub(crate) actions: u64,
    pub(crate) tasks_cancelled: u64,
    pub(crate) messages_unrun: u64,
    /// Transactions that began here and have not ended.
    pub(crate) transactions_unfinished: u64,
    /// Where its log ends, if all of it is on disk.
    pub(crate) log_end: Option<(u64, Tail)>,
    /// Other shards may still put something into them. To be drained when all have left.
    pub(crate) lanes: Option<Lanes<Envelope<A>>>,
}

impl<A: Actor> Default for ShardExit<A> {
    fn default() -> Self {
        ShardExit {
            timers: 0,
            actions: 0,
            tasks_cancelled: 0,
            messages_unrun: 0,
            transactions_unfinished: 0,
            log_end: None,
            lanes: None,
        }
    }
}

impl<A: Actor> ShardExit<A> {
    /// How many messages are left in its lanes, which are emptied.
    pub(crate) fn in_lanes(&mut self) -> u64 {
        let mut left = Vec::new();
        if let Some(lanes) = &mut self.lanes {
            lanes.drain(&mut left, usize::MAX);
        }
        left.iter().filter(|envelope| matches!(envelope, Envelope::Message { .. })).count() as u64
    }
}

impl<A: Actor> LocalShard<A> {
    /// Lets go of the shard's objects and queues, when it has left. A dead executor is never
    /// dropped, nor are its tasks, which hold this.
    pub(crate) fn let_objects_go(&self) {
        let shared = &self.shared;
        let mut core = self.core.borrow_mut();
        let router = shared.router;
        let empty = Shard::new(self.index, router, shared.config.limits, 0, shared.mvcc.clone());
        let gone = (
            std::mem::replace(&mut core.shard, empty),
            std::mem::take(&mut core.inbox),
            std::mem::replace(&mut core.effects, Effects::new(router.shards())),
        );
        drop(core);
        self.handoff.take();
        // What it drops is the user's, and may look at the shard again.
        drop(gone);
    }

    /// The last thing the shard does, whether it stops or has died: answers everyone who waits for
    /// it, as truly as can be said. What never ran is answered `Stopped`; what ran and has its
    /// outcome gets it; the rest `Unknown`.
    pub(crate) fn leave(&self) -> ShardExit<A> {
        self.has_left.set(true);
        let (mailbox, replies) = (self.mailbox(), &self.shared.replies);
        let mut unrun = mailbox.close(replies);
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        // A panic in the middle of a turn leaves what it had done. Of that nothing is durable;
        // whoever waits for it is answered `Unknown`.
        core.shard.hold_back(&mut core.effects);
        self.deliver(core);
        let outgoing = core.effects.outboxes.iter_mut().flat_map(|outbox| outbox.drain(..));
        for envelope in core.inbox.envelopes.drain(..).chain(outgoing) {
            unrun += usize::from(matches!(envelope, Envelope::Message { .. }));
            refuse(Ingress::One(envelope, 0), replies);
        }
        for batch in core.inbox.batches.drain(..) {
            unrun += batch.entries.len();
            let reply = core.batch_replies.remove(batch.tag as usize);
            refuse(Ingress::Batch(batch, reply), replies);
        }
        if let Some(held) = core.held.take() {
            unrun += 1;
            refuse(held, replies);
        }
        unrun += core.shard.own_messages();
        // Their messages may have run or not. A reply that is dropped says so.
        core.batch_replies.clear();
        core.wakers.drain(..).for_each(Waker::wake);
        let_go(core.jobs.drain());
        self.end_watches();
        let waiting = self.in_flight.borrow_mut().answer_all(unknown::<A>);
        debug_assert!(
            self.in_flight.borrow_mut().answer_all(unknown::<A>).is_empty(),
            "everyone-is-answered: a task of this shard waits"
        );
        // Tasks of an executor that runs no more are not woken, only let go of.
        drop(waiting);
        self.tasks.let_go();
        self.publish(core);
        ShardExit {
            timers: core.shard.timers() as u64,
            actions: (core.shard.actions().0 + core.shard.actions().1) as u64,
            tasks_cancelled: self.tasks.cancelled() + self.tasks.live(),
            messages_unrun: unrun as u64,
            transactions_unfinished: core.shard.transactions().0 as u64,
            log_end: core.shard.log_end().filter(|_| core.shard.is_log_idle()),
            lanes: Some(std::mem::replace(&mut core.lanes, Lanes::none())),
        }
    }
}
