//! Which way messages went, and what the gates of a runtime have done.
//!
//! A gate counts in words that its threads share. It works for microseconds a claim at least, so
//! they cost it nothing that could be measured.

use std::sync::atomic::{AtomicU64, Ordering};

/// The way that a message takes to its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// All its objects live on one shard, and it ran at once.
    Fast,
    /// It ran as a transaction.
    Consensus,
    /// It came through a [gate](crate::Gate), which verified it. It went on by one of the other
    /// two, and is counted there as well.
    Private,
}

macro_rules! gate_stats {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What one gate has done since it was opened. A claim is counted once among those that
        /// ended: `passed`, `refused`, `stale`, `panicked`, `stopped`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct GateStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same, as the gate counts it.
        #[derive(Debug, Default)]
        pub(crate) struct GateCounts {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl GateCounts {
            pub(crate) fn stats(&self) -> GateStats {
                GateStats { $($name: self.$name.load(Ordering::Relaxed)),* }
            }
        }
    };
}

gate_stats! {
    /// Claims that were verified and went on to their objects, whatever came of them there.
    passed,
    /// Claims that the verifier refused.
    refused,
    /// Claims whose probe was refused, so that nothing was verified.
    stale,
    /// Claims at which the verifier panicked.
    panicked,
    /// Claims that did not pass because the gate had closed, or had lost its verifier.
    stopped,
    /// Claims that found no room, and were never in the gate.
    overloaded,
    /// Batches that were verified, halves included.
    batches,
    /// Batches that failed and were halved.
    halved,
    /// Claims that were verified apart, because their sender had sent a bad one, or too many that
    /// objects refused.
    apart,
    /// Claims that passed and that their objects refused: each is a strike for its sender.
    struck,
    /// Claims that are in the gate now, from when they are asked until they are answered.
    waiting,
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
