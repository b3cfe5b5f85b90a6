//! What a shard does while messages are followed: it looks for them among those that it takes, runs
//! and answers, and says when. See [`trace`](crate::stats::trace) for which are, and why a shard
//! that follows none pays nothing.

use std::time::{Duration, Instant};

use freehold_shard::{Actor, Addressees, Destination, Envelope, ReturnAddress, Time};

use super::{Core, LocalShard};
use crate::route::Route;
use crate::stats::trace::{Ran, SeenWait};

/// Of the answers that wait until they are durable it looks at so many, the latest first.
const HELD_LOOKS_MAX: usize = 4_096;

/// The reply slot and generation of an ask from outside.
fn outside(to: ReturnAddress) -> Option<(u32, u32)> {
    match to {
        ReturnAddress::Outside { slot, generation } => Some((slot, generation)),
        _ => None,
    }
}

impl<A: Actor> LocalShard<A> {
    /// Before a turn: looks at what was taken, if something is followed.
    #[cold]
    pub(super) fn follow_taken(&self, core: &mut Core<A>) {
        let traces = &self.shared.replies.traces;
        let asks = core.inbox.envelopes.iter().filter_map(|envelope| {
            let (_, to) = envelope.asks()?;
            let (slot, generation) = outside(to)?;
            Some((envelope, slot, generation))
        });
        for (envelope, slot, generation) in traces.find(asks) {
            let Some((message, _)) = envelope.asks() else { continue };
            let mut named = Addressees::new();
            let route = match self.shared.router.destination::<A>(message, &mut named) {
                Destination::Several(_) => Route::Consensus,
                _ if matches!(envelope, Envelope::Lock(_)) => Route::Consensus,
                _ => Route::Fast,
            };
            let object = named.iter().next().map(|(id, _)| format!("{id:?}"));
            let name = A::message_name(message);
            traces.taken((slot, generation), core.clock.last, name, object, route);
        }
    }

    /// After a turn, or before answers that were held are let go of: looks at what has run, and at
    /// waits for locks that ended. So many answers and batches were `held` before.
    #[cold]
    pub(super) fn follow_run(&self, core: &mut Core<A>, how: Ran, held: usize) {
        let traces = &self.shared.replies.traces;
        let (now, last) = (core.clock.now, core.clock.last);
        let at =
            |time: Time| last.checked_sub(Duration::from_nanos(now.0.saturating_sub(time.0))).unwrap_or(last);
        for wait in core.shard.take_lock_waits() {
            let Some(ask) = outside(wait.answer_to) else { continue };
            let seen = SeenWait {
                shard: self.index,
                object: format!("{:?}", wait.object),
                ahead: wait.ahead,
                behind: wait.behind,
                began: at(wait.began),
                ended: at(wait.ended),
            };
            traces.waited(ask, wait.message, seen);
        }
        let now = Instant::now();
        let answers = core.effects.answers.iter().filter_map(|(to, _)| outside(*to));
        traces.ran(answers, how, now);
        let (new, old): (Vec<_>, Vec<_>) = core
            .shard
            .held_answers()
            .take(HELD_LOOKS_MAX)
            .filter_map(|(at, to)| Some((at, outside(to)?)))
            .partition(|(at, _)| *at >= held);
        traces.ran(new.into_iter().map(|(_, ask)| ask), how, now);
        traces.ran(old.into_iter().map(|(_, ask)| ask), Ran::Held, now);
    }

    /// Before answers are handed over: those of messages that are followed end them.
    #[cold]
    pub(super) fn follow_answers(&self, core: &Core<A>) {
        let answers = core.effects.answers.iter().filter_map(|(to, _)| outside(*to));
        let ended = self.shared.replies.traces.answered(answers, self.index, Instant::now());
        ended.iter().for_each(|ended| ended.say());
    }

    /// A batch of so many messages that began then took long.
    #[cold]
    pub(super) fn batch_was_slow(&self, begun: Instant, messages: usize) {
        self.shared.replies.traces.slow_batch(self.index, begun, Instant::now(), messages).say();
    }
}
