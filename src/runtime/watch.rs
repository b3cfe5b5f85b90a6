//! Warns while a shard takes no turn, because a message or a task of it does not come back; and
//! finds asks that have waited for long.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use freehold_shard::Actor;

use crate::core::pulse::Standstill;
use crate::core::shared::Shared;
use crate::stats::trace::{LOOKS, Looks};

/// The life of the thread that sees to it that shards take turns. It ends when `stop` is let go of.
pub(super) fn watch<A: Actor>(shared: &Shared<A>, stop: &mpsc::Receiver<()>) {
    let first = shared.config.stall_warning;
    let now = Instant::now();
    let mut standstills: Vec<_> = shared.pulses.iter().map(|_| Standstill::new(now)).collect();
    let mut looks = Looks::default();
    let every = (first / 2).min(shared.config.slow_message / LOOKS);
    while stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        shared.replies.look_for_slow(&mut looks, Instant::now());
        for (shard, standstill) in standstills.iter_mut().enumerate() {
            let (pulse, now) = (&shared.pulses[shard], Instant::now());
            if shared.mailboxes[shard].parking().is_parked() {
                standstill.excuse(pulse, now);
            }
            let still = standstill.look(pulse, now);
            if standstill.warns(still, first) {
                match shared.in_turn_for(shard) {
                    Some(turn) => {
                        let message = shared.running(shard);
                        tracing::warn!(shard, ?turn, message, "a turn goes on: a message does not come back")
                    }
                    None => {
                        let task = shared.published[shard].tasks.polled().map(tracing::field::display);
                        tracing::warn!(
                            shard,
                            ?still,
                            task,
                            "a shard takes no turn: a task of it does not give way"
                        )
                    }
                }
            }
        }
    }
}
