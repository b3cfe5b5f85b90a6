//! When has everything that was accepted run to its end?
//!
//! Found by Mattern's method of four counters (F. Mattern, "Algorithms for distributed termination
//! detection", Distributed Computing 2, 1987): in two rounds of asking, one after the other, every
//! shard was idle both times, none had worked in between, and as many envelopes had been taken from
//! lanes as put in.
//!
//! A caller may have seen an open runtime and put its message into an ingress after all was quiet.
//! A shard that ran it then left in the middle of what it had begun on other shards. So the
//! ingresses are shut once all is quiet, and it is asked again. What was taken before has run to
//! its end then; what lies in an ingress is refused when its shard leaves.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use freehold_shard::{Actor, ShardIndex};

use crate::core::shared::{DrainProgress, Shared};
use crate::stats::Phase;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ingresses {
    Open,
    Shut,
}

/// Whether nothing was under way between two rounds of asking, and every shard knows whether its
/// ingress is shut.
pub(super) fn is_quiet(before: &[DrainProgress], after: &[DrainProgress], ingresses: Ingresses) -> bool {
    let is_shut = ingresses == Ingresses::Shut;
    let sent: u64 = after.iter().map(|shard| shard.sent).sum();
    let received: u64 = after.iter().map(|shard| shard.received).sum();
    before == after && after.iter().all(|shard| shard.is_idle && shard.is_shut == is_shut) && sent == received
}

/// Waits until nothing is under way, or `deadline`. Says which.
pub(super) fn wait_until_quiet<A: Actor>(shared: &Shared<A>, deadline: Instant) -> bool {
    let ask = || -> Vec<DrainProgress> {
        (0..shared.mailboxes.len()).map(|shard| *shared.progress(ShardIndex(shard as u16))).collect()
    };
    let mut pause = Duration::from_micros(50);
    let mut before = ask();
    loop {
        std::thread::sleep(pause);
        let after = ask();
        let is_shut = shared.ingresses_shut.load(Ordering::Relaxed);
        if is_quiet(&before, &after, if is_shut { Ingresses::Shut } else { Ingresses::Open }) {
            return true;
        }
        if Instant::now() >= deadline || shared.phase() == Phase::Dead {
            return false;
        }
        before = after;
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}
