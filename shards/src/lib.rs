//! What one core of Freehold decides: objects, ownership, routing and turns.
//!
//! This crate is pure. A [`Shard`] takes what arrived and the time, and returns effects; it has no
//! I/O, no thread, no clock and no `unsafe`, so it runs under Miri and in a simulator as it runs in
//! production. The crate `freehold` carries the effects out and re-exports what an application
//! needs; depend on that one.
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as freehold_shard;

mod actor;
mod counters;
mod epoch;
mod fault;
mod in_place;
mod key;
pub mod log;
mod object;
mod panics;
mod placement;
mod prefetch;
mod shard;
mod store;
mod sync;
mod tally;
pub mod testing;
mod time;
mod transaction;

/// What a database was when its last run ended: how its logs are read, and what comes of them.
pub mod recovery {
    pub use crate::log::recovery::*;
    pub use crate::store::home::Home;
}

#[cfg(test)]
#[path = "../tests/simulation/main.rs"]
mod simulation;

pub use actor::addressees::{ADDRESSEES_MAX, Addressees};
pub use actor::blob::{Blob, BlobPart};
pub use actor::collection::{Collection, EntryMut, EntryWalk};
pub use actor::destination::Destination;
pub use actor::entries::{EntryKind, KindEntries, KindEntry, KindWalk};
pub use actor::indexed::{Indexed, IndexedEntries};
pub use actor::kind::{Kind, KindPair};
pub use actor::limits::Limits;
pub use actor::needs::Needs;
pub use actor::objects::Objects;
pub use actor::outcome::{AskError, Failure, Outcome, ReturnAddress};
pub use actor::receive::{ActionOf, MessageOf, Receive, To};
pub use actor::told::{ActionId, TimerId};
pub use actor::{AccessError, Actor};
pub use counters::Counters;
pub use epoch::durability::Durability;
pub use epoch::published::{Expired, Mvcc};
pub use epoch::{Epoch, EpochState, Epochs, TransactionId};
pub use key::{Key, Named};
pub use log::migration::{Migrated, Migration, MigrationError, Migrations, NotMigrated, OldTypes, Reading};
pub use log::record::SendId;
pub use log::refused::{RecordError, Unreadable, Value};
pub use log::schema::{Schema, SchemaError, SchemaPart, SchemaTypes, ShapeChange, Shapes, WrittenSchema};
pub use log::shape::{Shape, Width};
pub use log::under_way::{UNDER_WAY_BYTES, UNDER_WAY_MAX, name_under_way, named_under_way};
pub use log::{manifest, part, record};
pub use object::{Access, CollectionOf, ObjectId, OwnerId, Ownership, Stored};
pub use panics::{ActorPanic, PANICS_KEPT_MAX};
pub use placement::{PlacementKey, Router, SHARDS_MAX, ShardIndex, ShardSet, placement_hash};
pub use prefetch::{NoPrefetch, Prefetch};
pub use shard::Shard;
pub use shard::actions::BegunAction;
pub use shard::codec::Codec;
pub use shard::journal::{Ack, Begun, LogStart, Write};
pub use shard::running::RunningMessage;
pub use tally::Tally;
pub use time::Time;
pub use transaction::Transaction;
pub use transaction::effects::{Effects, FAILURES_MAX, Inbox};
pub use transaction::lock_wait::LockWait;
pub use transaction::message::{Batch, BatchEntry, Envelope};
