//! A Freehold database on several machines: its log in a replicated stream of [NATS JetStream],
//! standbys that follow it, and a takeover in seconds.
//!
//! The application's code does not change. A database that is opened by [`Replicated::open`] has an
//! *owner*, whose runtime runs messages, and *standbys*, which follow the stream into logs of their
//! own. With [`Ack::Replicated`](freehold::Ack), the default here, an answer leaves when it is on
//! the owner's disk and on a majority of the stream's servers.
//!
//! *Ownership is the log.* A node owns the database when its takeover is in the stream, behind all
//! that it has read of it. The stream refuses whatever a former owner appends after that; so the
//! former owner learns that it is *fenced*, and answers nobody. No clock is trusted for that.
//! Answers of reads wait for an append too, so a former owner shows nothing stale.
//! (`Handle::published` and `Local::ask_now` do not wait for anything, as without replication.)
//!
//! ```no_run
//! # use freehold_replica::{Login, Replicated, ReplicaConfig, SyncCheck};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use serde::{Deserialize, Serialize};
//! # use freehold::{AccessError, Actor, Addressees, Objects};
//! # struct Counters;
//! # impl Actor for Counters {
//! #     type Id = u64;
//! #     type State = u64;
//! #     type Message = u64;
//! #     type Reply = u64;
//! #     type Error = AccessError<u64>;
//! #     fn addressees(id: &u64, to: &mut Addressees<u64>) { to.write(*id); }
//! #     fn receive(id: &u64, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
//! #         Ok(*objects.get_or_insert_with(*id, || 0)?)
//! #     }
//! # }
//! use freehold::{Config, LogConfig};
//!
//! let log = LogConfig::at("/var/lib/counters");
//! let replica = ReplicaConfig {
//!     sync_check: SyncCheck::By(Login::User { user: "sys".into(), password: "secret".into() }),
//!     ..ReplicaConfig::new("counters", "host-a", ["nats://10.0.0.1:4222"])
//! };
//! let node = Replicated::<Counters>::open(Config::default(), log, replica)?;
//! if let Some(counters) = node.handle() {
//!     println!("{:?}", counters.ask(7).wait());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [NATS JetStream]: https://docs.nats.io/nats-concepts/jetstream

mod appender;
mod archive;
mod chain_log;
mod checkpoint_store;
mod config;
mod error;
mod follower;
mod metrics;
mod node;
mod node_directory;
mod node_file;
mod objects;
mod replicated;
mod status;
mod stream;
mod stream_log;
mod verify;

pub use appender::Latency;
pub use chain_log::{ChainLog, Entries};
pub use config::{Login, Repair, ReplicaConfig, SyncCheck, Tls};
pub use error::ReplicaError;
pub use objects::{Lag, StandbySnapshot};
pub use replicated::Replicated;
pub use status::{NodeStatus, Role, SetAside, StreamCheckpoint};
pub use stream_log::{StreamEntries, StreamLog};
pub use verify::{Verified, verify};
