//! Where payments run: in a runtime alone, or in a node that owns the bank on several machines.
//!
//! A bank that finds another one owning the stream stands by. When that one is gone it takes over
//! and pays on, as after a crash: *decided-once* holds over takeovers, because the bookmark and
//! what was decided are objects, and so in the stream.

use freehold::{Config, Handle, LogConfig, Recovery, Runtime, StartError};
#[cfg(feature = "replicated")]
use freehold_replica::{ReplicaError, Replicated};
use thiserror::Error;

use crate::Failure;
use crate::arguments::Arguments;
use crate::ledger::Ledger;
use crate::place::{Place, opening};
use crate::progress::Progress;

/// What makes payments.
pub enum Opened {
    /// A runtime of this machine alone.
    Alone(Runtime<Ledger>),
    /// A node that owns the bank.
    #[cfg(feature = "replicated")]
    Node(Replicated<Ledger>),
}

/// Why the bank does not pay as a node of several.
#[derive(Debug, Error)]
pub enum NodeError {
    #[cfg(not(feature = "replicated"))]
    #[error(
        "this bank has no client of NATS: build it by `cargo run --release -p bank --features replicated -- ..`"
    )]
    NotBuilt,
    #[cfg(feature = "replicated")]
    #[error("this node does not join")]
    Join(#[from] ReplicaError),
    #[cfg(feature = "replicated")]
    #[error(
        "this node does not own the bank any more ({why}); what it was not answered may be made or not: run it again, and it stands by"
    )]
    NotOwner { why: String },
}

impl Opened {
    /// Opens what `arguments` ask for. A standby waits in here until it is the owner.
    pub fn open(arguments: &Arguments, place: Option<&Place>, config: Config) -> Result<Self, Failure> {
        match place {
            None => Ok(Opened::Alone(Runtime::start(config)?)),
            Some(place) if arguments.replicated.is_empty() => {
                Ok(Opened::Alone(open_alone(arguments, place, config)?))
            }
            #[cfg(not(feature = "replicated"))]
            Some(_) => Err(NodeError::NotBuilt)?,
            #[cfg(feature = "replicated")]
            Some(place) => Ok(Opened::Node(replicated::join(arguments, log_at(arguments, place), config)?)),
        }
    }

    pub fn handle(&self) -> Handle<Ledger> {
        match self {
            Opened::Alone(runtime) => runtime.handle(),
            #[cfg(feature = "replicated")]
            Opened::Node(node) => node.handle().expect("it is asked for when it has just become the owner"),
        }
    }

    /// Whether the bank is this node's still, as far as it knows.
    pub fn is_ours(&self) -> Result<(), NodeError> {
        match self {
            Opened::Alone(_) => Ok(()),
            #[cfg(feature = "replicated")]
            Opened::Node(node) => replicated::is_owner(node),
        }
    }

    /// What was in the log at the start, if there is one.
    pub fn recovery(&self) -> Option<Recovery> {
        match self {
            Opened::Alone(runtime) => runtime.recovery(),
            #[cfg(feature = "replicated")]
            Opened::Node(node) => node.with_runtime(Runtime::recovery).flatten(),
        }
    }

    pub fn shutdown(self) {
        match self {
            Opened::Alone(runtime) => drop(runtime.shutdown()),
            #[cfg(feature = "replicated")]
            Opened::Node(node) => drop(node.shutdown()),
        }
    }
}

fn log_at(arguments: &Arguments, place: &Place) -> LogConfig {
    LogConfig {
        segment_bytes: arguments.segment_bytes,
        checkpoint_bytes: arguments.checkpoint_bytes,
        ..LogConfig::at(place.path())
    }
}

/// The runtime with its log, and a bar as long as it reads it.
fn open_alone(arguments: &Arguments, place: &Place, config: Config) -> Result<Runtime<Ledger>, StartError> {
    let (progress, bar) = Progress::of_recovery();
    let log = LogConfig { progress: Some(progress), ..log_at(arguments, place) };
    let opened = {
        let _is_not_removed = opening();
        Runtime::open(config, log)
    };
    bar.finish_and_clear();
    opened
}

#[cfg(feature = "replicated")]
mod replicated {
    use std::time::Duration;

    use freehold::{Config, LogConfig, Phase};
    use freehold_replica::{Login, NodeStatus, Repair, ReplicaConfig, Replicated, Role, SyncCheck};

    use super::NodeError;
    use crate::arguments::Arguments;
    use crate::ledger::Ledger;

    /// A standby takes over when the owner was silent for so long.
    const SILENCE: Duration = Duration::from_secs(1);
    /// How often a standby that waits is looked at, at least.
    const LOOK_EVERY: Duration = Duration::from_secs(3600);

    /// Joins, and waits until it owns the bank.
    pub(super) fn join(
        arguments: &Arguments,
        log: LogConfig,
        config: Config,
    ) -> Result<Replicated<Ledger>, NodeError> {
        let replica = ReplicaConfig {
            replicas: arguments.allow_replicas,
            login: Login::of_environment(),
            sync_check: SyncCheck::of_environment(),
            takeover_after: Some(SILENCE),
            repair: if arguments.repair { Repair::FromThisLog } else { Repair::ByOwner },
            ..ReplicaConfig::new("bank", &arguments.node, arguments.replicated.clone())
        };
        let node = Replicated::open(config, log, replica)?;
        loop {
            let NodeStatus { role, term, owner, failure, .. } = node.status();
            match role {
                Role::Owner => {
                    eprintln!("bank: this node owns the bank in term {term}, and pays");
                    return Ok(node);
                }
                Role::Standby | Role::Joining => {
                    let owner = owner.unwrap_or_else(|| "nobody".to_string());
                    eprintln!("bank: standby in term {term}, in which {owner} owns the bank");
                    node.wait_until(|status| status.role != role, LOOK_EVERY);
                }
                _ => return Err(NodeError::NotOwner { why: failure.unwrap_or_default() }),
            }
        }
    }

    pub(super) fn is_owner(node: &Replicated<Ledger>) -> Result<(), NodeError> {
        // A runtime that was fenced is dead a moment before its node says why.
        let is_dead = node.with_runtime(|runtime| runtime.stats().phase == Phase::Dead).unwrap_or(true);
        if is_dead {
            node.wait_until(|status| status.role != Role::Owner, LOOK_EVERY);
        }
        let NodeStatus { role, failure, .. } = node.status();
        if role == Role::Owner {
            return Ok(());
        }
        Err(NodeError::NotOwner { why: failure.unwrap_or_default() })
    }
}
