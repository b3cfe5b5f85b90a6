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
mod bounds;
mod checkpoint;
mod coordinator;
mod counters;
mod debt;
mod desk;
mod encoder;
mod epoch;
mod fault;
mod journal;
mod locks;
pub mod log;
pub mod manifest;
mod message;
mod migration;
mod object;
mod objects;
pub mod part;
mod placement;
pub mod record;
mod recording;
pub mod recovery;
mod resumed;
mod schema;
mod seal;
mod shape;
mod shard;
mod snapshot;
mod store;
mod sync;
mod time;
mod timer;
mod transaction;
mod trust;

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
pub use message::{AskError, Batch, BatchEntry, Envelope, Outcome, ReturnAddress};
pub use migration::{Migrated, Migration, MigrationError, Migrations, NotMigrated, Reading};
pub use object::{ObjectId, OwnerId, Ownership};
pub use objects::Objects;
pub use placement::{Destination, PlacementKey, Router, SHARDS_MAX, ShardIndex, placement_hash};
pub use record::{Debt, RecordError, Unreadable, Value};
pub use resumed::{UNDER_WAY_BYTES, UNDER_WAY_MAX, name_under_way, named_under_way};
pub use schema::{Schema, SchemaError, SchemaPart, SchemaTypes, ShapeChange, Shapes, WrittenSchema};
pub use shape::Shape;
pub use shard::{Effects, Inbox, Limits, NoPrefetch, Prefetch, Shard};
pub use time::Time;
pub use transaction::Transaction;
