//! What a shard is made of, before a thread brings it to life.

use std::sync::Arc;

use freehold_shard::{Actor, Envelope, Shard, ShardIndex};

use super::prefetch::Processor;
use super::shared::Shared;
use crate::log::open::Restored;
use crate::transport::lanes::Lanes;

/// What a shard is made of.
pub(crate) struct ShardSetup<A: Actor> {
    pub(crate) shard: ShardIndex,
    pub(crate) shared: Arc<Shared<A>>,
    pub(crate) lanes: Lanes<Envelope<A>>,
    pub(crate) table_seed: u64,
    /// What its log has, if it has one.
    pub(crate) restored: Option<Restored<A>>,
}

impl<A: Actor> ShardSetup<A> {
    /// The shard itself, with what its log has.
    pub(super) fn make_shard(&mut self) -> Shard<A, Processor> {
        let (shared, index) = (&self.shared, self.shard);
        let config = &shared.config;
        let mut shard = Shard::new(index, shared.router, config.limits, self.table_seed, shared.mvcc.clone())
            .with_turn_messages_max(config.turn_messages_max)
            .with_context(shared.embedding.context.clone())
            .with_running_message(shared.running[index.index()].clone())
            .with_wall_clock(shared.wall_clock_began);
        if shared.embedding.performer.is_some() {
            shard = shard.with_performer();
        }
        match (self.restored.take(), &shared.logs) {
            (Some(restored), Some(logs)) => restored.into_shard(shard, logs),
            _ => shard,
        }
    }
}
