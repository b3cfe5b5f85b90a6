//! Freehold: an embeddable, thread-per-core actor runtime for Linux.
//!
//! Every core runs one shared-nothing executor on io_uring, which owns one partition of your
//! objects outright. A message to an object runs to completion on the core that owns it. So no
//! mutex and no atomic guards an object, and a warm runtime allocates nothing for a message. An
//! ask from another thread pays for the trip: a bounded queue there, and back a reply slot, whose
//! mutex only the two sides of that ask take.
//!
//! You write an [`Actor`]: what objects hold, which objects a message is addressed to, and what it
//! does to them. A [`Runtime`] runs it; a [`Handle`] is the way to it from any thread and any
//! executor, a [`Local`] the way from tasks of your own on the shards. A message to objects of
//! several shards is one strictly serializable transaction, and a [`Snapshot`] reads all objects of
//! all shards as of one instant.
//!
//! ```no_run
//! use freehold::{AccessError, Actor, Addressees, Config, Objects, Runtime};
//!
//! struct Counter;
//!
//! impl Actor for Counter {
//!     type Id = u64;
//!     type State = i64;
//!     type Message = (u64, i64);
//!     type Reply = i64;
//!     type Error = AccessError<u64>;
//!
//!     fn addressees((counter, _): &(u64, i64), to: &mut Addressees<u64>) {
//!         to.write(*counter);
//!     }
//!
//!     fn receive((counter, by): &(u64, i64), objects: &mut Objects<'_, Self>) -> Result<i64, AccessError<u64>> {
//!         let count = objects.get_or_insert_with(*counter, || 0)?;
//!         *count += by;
//!         Ok(*count)
//!     }
//! }
//!
//! let runtime = Runtime::<Counter>::start(Config::default())?;
//! let counters = runtime.handle();
//! assert_eq!(counters.ask((7, 5)).wait(), Ok(5));
//! assert_eq!(counters.ask((7, -2)).wait(), Ok(3));
//! println!("{}", runtime.shutdown());
//! # Ok::<(), freehold::StartError>(())
//! ```
//!
//! What one core decides is in the crate `freehold-shard`, which is pure; this crate carries it
//! out. `docs/ARCHITECTURE.md` names every folder.

mod action;
#[cfg(test)]
extern crate self as freehold;

mod api;
mod config;
mod core;
mod disk;
pub mod doctor;
mod embedding;
mod error;
mod fork;
mod gate;
#[cfg(test)]
#[path = "../tests/support/held.rs"]
mod held;
mod log;
#[cfg(test)]
#[path = "../tests/support/patience.rs"]
#[allow(dead_code, reason = "of it only some")]
mod patience;
mod random;
mod route;
mod runtime;
mod spawn;
mod stats;
#[cfg(test)]
mod test_actor;
mod topology;
mod transport;
mod typed;

pub use self::core::tasks::Stopping;
pub use action::Action;
pub use api::ask_all::AskAll;
pub use api::ask_stream::{AskStream, AskStreamAsTheyCome};
pub use api::ask_waiting::AskWaiting;
pub use api::deadline::AskUntil;
pub use api::flight::Flight;
pub use api::handle::Handle;
pub use api::local::{Local, LocalAsk};
pub use api::snapshot::{Snapshot, SnapshotRead};
pub use api::watch::Watch;
pub use config::{Config, Idle, Shards};
pub use disk::error::LogError;
pub use embedding::Embedding;
pub use error::{
    CheckpointError, ConfigError, Death, DeathCause, SnapshotError, StartError, TaskError, TellError,
    WatchError,
};
/// Actors under test, without io_uring, threads or a clock.
pub use freehold_shard::testing;
pub use freehold_shard::{
    ADDRESSEES_MAX, Access, AccessError, Ack, ActionId, ActionOf, Actor, ActorPanic, Addressees, AskError,
    Blob, BlobPart, Collection, CollectionOf, Counters, EntryKind, EntryMut, EntryWalk, Epoch, FAILURES_MAX,
    Failure, Indexed, IndexedEntries, Key, Kind, KindEntries, KindEntry, KindPair, KindWalk, Limits,
    MessageOf, Migrated, Migration, MigrationError, Migrations, Named, Needs, NotMigrated, ObjectId, Objects,
    Outcome, OwnerId, Ownership, PANICS_KEPT_MAX, PlacementKey, Receive, RecordError, SHARDS_MAX, Schema,
    SchemaError, SchemaPart, SchemaTypes, Shape, ShapeChange, Shapes, ShardIndex, Tally, TimerId, To,
    TransactionId, Unreadable, Value, Width, WrittenSchema,
};
pub use gate::config::{GateConfig, GateStartError, Workers};
pub use gate::ticket::GateAsk;
pub use gate::{Gate, GateError, GateOutcome, Verifier};
/// The executor that tasks on a shard run on: its timers, files, sockets and locks are for their
/// use.
pub use glommio;
#[doc(hidden)]
pub use log::DiskOptions;
pub use log::commit::{CommitLog, CommitLogError, EpochBatch, EpochBatches};
pub use log::demands::Checkpoint;
pub use log::growth::LogStats;
pub use log::leaving::{EpochReceiver, EpochSender, epoch_channel};
pub use log::local_log::LocalLog;
pub use log::{Create, LogConfig, Progress, Recovery, backup, inspect, owed};
pub use route::{GateStats, Route};
pub use runtime::Runtime;
pub use runtime::report::{Report, Stuck};
pub use stats::distribution::Distribution;
pub use stats::hot::HotObject;
pub use stats::message_trace::{MessageTrace, Stage, TracedWait};
pub use stats::metric::{Label, Metric, MetricKind, MetricUnit, MetricValue};
pub use stats::{Activity, AnswerTimes, Gauges, Hot, Latency, Phase, ShardStats, Stats};
pub use topology::{Cpu, PlaceError, Placement, Topology};
pub use transport::each_shard::EachShard;
pub use transport::replies::Ask;
pub use typed::call::{Call, CallAll, CallOutcome, CallStream, CallStreamAsTheyCome};
pub use typed::snapshot::{KindFold, KindRead};
pub use typed::watch::KindWatch;

/// What the code that [`actor!`] writes calls.
#[doc(hidden)]
pub mod __typed {
    pub use serde;

    pub use crate::typed::codec::{
        HashPlace, OfVariants, Own, PlaceOf, Ref, SecondOrders, is_indexed, is_place, number_of, read,
    };
    pub use crate::typed::pointed::{Pointing, PointsToNothing, PointsToParts};
}
