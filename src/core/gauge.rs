//! What a shard says of itself now and then, and not after each turn: how much is under way, and
//! which objects are hot.
//!
//! Nothing here is on the way of a message. Gauges are published at most once a millisecond and
//! before the shard parks; so often, too, one of the messages that have just come is counted for
//! all that came since the last one, and one that a task runs inline for all that tasks ran.

use std::sync::PoisonError;
use std::time::Instant;

use freehold_shard::{Actor, Addressees, AskError, BatchEntry};

use super::{Core, LocalShard};
use crate::stats::Gauges;
use crate::stats::hot::{Heat, SAMPLE_EVERY};

/// What samples of touched objects stand for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// `arrived` of the shard when a message of a turn was last counted.
    in_turns: u64,
    /// `arrived`, and what the shard had handled, when a message of a task was last counted.
    arrived: u64,
    handled: u64,
}

impl<A: Actor> LocalShard<A> {
    /// Before a task's message runs, on a shard that has something to look at then.
    #[inline]
    pub(super) fn attend(&self, core: &mut Core<A>, message: &A::Message) -> Result<(), AskError<A::Error>> {
        if core.probes {
            self.count_probed(core, message);
        }
        if self.is_behind(core) { Err(AskError::Overloaded) } else { Ok(()) }
    }

    /// Publishes how much is under way, and which objects were waited for.
    pub(super) fn publish_gauges(&self, now: Instant) {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        let (transactions, lock_queue) = core.shard.transactions();
        let lock_waits = core.shard.lock_waits();
        let (actions_waiting, actions_under_way) = core.shard.actions();
        let gauges = Gauges {
            transactions: transactions as u64,
            lock_queue: lock_queue as u64,
            lock_waits,
            calls: self.in_flight.borrow().len() as u64,
            log_backlog_bytes: core.shard.log_backlog() as u64,
            actions_waiting: actions_waiting as u64,
            actions_under_way: actions_under_way as u64,
        };
        self.shared.published[self.index.index()].publish_gauges(&gauges, core.shard.message_counts());
        (core.probes, core.attends) = (true, true);
        let waits = lock_waits - core.waits_counted;
        if waits > 0 {
            core.waits_counted = lock_waits;
            self.count_waited(core, now, waits);
        }
    }

    /// Counts the objects that were waited for, `waits` times in all.
    #[cold]
    fn count_waited(&self, core: &mut Core<A>, now: Instant, waits: u64) {
        let mut hot = self.shared.hot[self.index.index()].lock().unwrap_or_else(PoisonError::into_inner);
        let waited = core.shard.take_waited_for();
        let (remembered, _) = waited.size_hint();
        let weight = waits.div_ceil(remembered.max(1) as u64);
        waited.for_each(|id| hot.count(now, Heat::Waited, id, weight));
    }

    /// Counts one of the messages in the inbox for all that have come since the last time.
    #[cold]
    pub(super) fn sample_touched(&self, core: &mut Core<A>) {
        let now = core.clock.last;
        let batches = &core.inbox.batches;
        let entries: usize = batches.iter().map(|batch| batch.entries.len()).sum();
        let waiting = core.inbox.envelopes.len() + entries;
        core.touches_next = now + SAMPLE_EVERY;
        if waiting == 0 {
            return;
        }
        let weight = core.arrived - std::mem::replace(&mut core.counted.in_turns, core.arrived);
        // The low bits of the time are as good as dice; a multiplier spreads them (Knuth).
        let dice = (core.clock.now.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
        let mut at = dice % waiting;
        let mut named = Addressees::new();
        if let Some(envelope) = core.inbox.envelopes.get(at) {
            envelope.name_objects(&mut named);
        } else {
            at -= core.inbox.envelopes.len();
            let mut entries = batches.iter().flat_map(|batch| &batch.entries);
            if let Some(BatchEntry::Waiting(message)) = entries.nth(at) {
                A::addressees(message, &mut named);
            }
        }
        self.count_touched(now, &named, weight);
    }

    /// Counts a message of a task for all that tasks have run since the last time: what the shard
    /// has handled, less what has come to turns.
    #[cold]
    fn count_probed(&self, core: &mut Core<A>, message: &A::Message) {
        (core.probes, core.attends) = (false, core.is_logged);
        let handled = core.shard.counters().handled();
        let (all, in_turns) = (handled - core.counted.handled, core.arrived - core.counted.arrived);
        (core.counted.handled, core.counted.arrived) = (handled, core.arrived);
        let mut named = Addressees::new();
        A::addressees(message, &mut named);
        self.count_touched(core.clock.last, &named, all.saturating_sub(in_turns).max(1));
    }

    /// Counts those of a message's objects that are at home here.
    fn count_touched(&self, now: Instant, named: &Addressees<A::Id>, weight: u64) {
        let mut hot = self.shared.hot[self.index.index()].lock().unwrap_or_else(PoisonError::into_inner);
        for (id, _) in named.iter().filter(|(id, _)| self.shared.router.home(id) == self.index) {
            hot.count(now, Heat::Touched, id, weight);
        }
    }
}
