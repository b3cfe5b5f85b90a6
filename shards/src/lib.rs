//! What one core of Freehold decides: objects, ownership, routing and turns.
//!
//! This crate is pure. A [`Shard`] takes what arrived and the time, and returns effects; it has no I/O, no thread, no clock and no
//! `unsafe`, so it runs under Miri and in a simulator as it runs in production. The crate `freehold` carries the effects out and
//! re-exports what an application needs; depend on that one.
#![forbid(unsafe_code)]

mod actor;
mod addressees;
mod batches;
mod coordinator;
mod desk;
mod index;
mod locks;
mod message;
mod object;
mod objects;
mod partition;
mod router;
mod shard;
mod statistics;
mod timer;
mod transaction;

pub use actor::{AccessError, Actor};
pub use addressees::{ADDRESSEES_MAX, Access, Addressees};
pub use message::{AskError, Batch, BatchEntry, Envelope, Outcome, ReturnAddress};
pub use object::{ObjectId, OwnerId, Ownership};
pub use objects::Objects;
pub use router::{Destination, PlacementKey, Router, SHARDS_MAX, ShardIndex, placement_hash};
pub use shard::{Effects, Inbox, Limits, NoPrefetch, Prefetch, Shard, Time};
pub use statistics::Counters;
pub use transaction::Transaction;
