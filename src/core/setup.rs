//! What a shard is made of, before a thread brings it to life.

use std::sync::Arc;

use freehold_shard::{Actor, ShardIndex};

use super::shared::Shared;
use crate::log::open::Restored;
use crate::transport::lanes::Lanes;

/// What a shard is made of.
pub(crate) struct ShardSetup<A: Actor> {
    pub(crate) shard: ShardIndex,
    pub(crate) shared: Arc<Shared<A>>,
    pub(crate) lanes: Lanes<A>,
    pub(crate) table_seed: u64,
    /// What its log has, if it has one.
    pub(crate) restored: Option<Restored<A>>,
}
