//! What a turn takes and what it leaves.

use std::collections::VecDeque;

use crate::actor::Actor;
use crate::actor::outcome::{Failure, Outcome, ReturnAddress};
use crate::actor::run::Outboxes;
use crate::in_place;
use crate::placement::ShardIndex;
use crate::transaction::message::{Batch, Envelope};

/// What arrived at a shard since its last turn, in order of arrival. A turn drains it and keeps its
/// memory.
pub struct Inbox<A: Actor> {
    /// Single messages, and answers to the calls of this shard's tasks.
    pub envelopes: Vec<Envelope<A>>,
    /// Batches from outside.
    pub batches: Vec<Batch<A>>,
}

impl<A: Actor> Inbox<A> {
    /// An empty inbox.
    pub fn new() -> Self {
        Inbox { envelopes: Vec::new(), batches: Vec::new() }
    }
}

impl<A: Actor> Default for Inbox<A> {
    fn default() -> Self {
        Inbox::new()
    }
}

/// How many failures are kept until they are taken.
pub const FAILURES_MAX: usize = 1024;

/// What is to be done after a turn. The runtime takes what it can deliver; what it leaves, an
/// envelope a full lane cannot take say, stays for the next time.
pub struct Effects<A: Actor> {
    /// Envelopes for each shard, first to be sent first. This shard's own is always empty.
    pub outboxes: Vec<VecDeque<Envelope<A>>>,
    /// Outcomes for those who wait outside, and for calls of this shard's own tasks.
    pub answers: Vec<(ReturnAddress, Outcome<A>)>,
    /// Batches all of whose entries are answered.
    pub batches: Vec<Batch<A>>,
    /// Messages that failed and that nobody waits for, at most [`FAILURES_MAX`].
    pub failures: Vec<Failure<A>>,
    /// How many more there were.
    pub failures_unseen: u64,
}

impl<A: Actor> Effects<A> {
    /// No effects, for a runtime of `shards` shards.
    pub fn new(shards: usize) -> Self {
        Effects {
            outboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            answers: Vec::new(),
            batches: Vec::new(),
            failures: Vec::new(),
            failures_unseen: 0,
        }
    }

    /// Sends an envelope to another shard.
    #[inline(always)]
    pub(crate) fn send(&mut self, to: ShardIndex, envelope: impl FnOnce() -> Envelope<A>) {
        in_place::push_back(&mut self.outboxes[to.index()], envelope);
    }
}

impl<A: Actor> Outboxes for Effects<A> {
    fn waiting_for(&self, shard: ShardIndex) -> usize {
        self.outboxes[shard.index()].len()
    }
}
