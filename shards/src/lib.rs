//! What one core of Freehold decides: objects, ownership, routing and turns.
//!
//! This crate is pure. A [`Shard`] takes what arrived and the time, and returns effects; it has no I/O, no thread, no clock and no
//! `unsafe`, so it runs under Miri and in a simulator as it runs in production. The crate `freehold` carries the effects out and
//! re-exports what an application needs; depend on that one.
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as freehold_shard;

mod actor;
mod addressees;
mod batches;
mod checkpoint;
mod coordinator;
mod counters;
mod debt;
mod desk;
mod epoch;
mod fault;
mod journal;
mod locks;
pub mod log;
mod message;
mod object;
mod objects;
mod placement;
mod recording;
mod resumed;
mod seal;
mod shard;
mod snapshot;
mod store;
mod sync;
mod time;
mod timer;
mod transaction;

#[cfg(test)]
#[path = "../tests/simulation/main.rs"]
mod simulation;

pub use actor::{AccessError, Actor};
pub use addressees::{ADDRESSEES_MAX, Access, Addressees};
pub use counters::Counters;
pub use epoch::durability::Durability;
pub use epoch::published::{Expired, Mvcc};
pub use epoch::{Epoch, Epochs, Line, TransactionId};
pub use journal::{Ack, Begun, Codec, LogStart, Write};
pub use log::migration::{Migrated, Migration, MigrationError, Migrations, NotMigrated, Reading};
pub use log::record::{Debt, RecordError, Unreadable, Value};
pub use log::schema::{Schema, SchemaError, SchemaPart, SchemaTypes, ShapeChange, Shapes, WrittenSchema};
pub use log::shape::Shape;
pub use log::{manifest, part, record, recovery};
pub use message::{AskError, Batch, BatchEntry, Envelope, Outcome, ReturnAddress};
pub use object::{ObjectId, OwnerId, Ownership};
pub use objects::Objects;
pub use placement::{Destination, PlacementKey, Router, SHARDS_MAX, ShardIndex, placement_hash};
pub use resumed::{UNDER_WAY_BYTES, UNDER_WAY_MAX, name_under_way, named_under_way};
pub use shard::{Effects, Inbox, Limits, NoPrefetch, Prefetch, Shard};
pub use time::Time;
pub use transaction::Transaction;
