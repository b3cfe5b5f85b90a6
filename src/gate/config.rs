//! The bounds of a gate, and where its threads run.

use freehold_shard::OwnerId;
use thiserror::Error;

use crate::config::in_range;
use crate::error::ConfigError;
use crate::topology::PlaceError;

/// The most claims that are verified at once.
pub(super) const BATCH_MAX: usize = 256;
/// The most threads that one gate may have.
const WORKERS_MAX: usize = 256;

/// How a gate is built. Start from the default and change what matters:
///
/// ```
/// use freehold::{GateConfig, Workers};
///
/// let config = GateConfig { workers: Workers::Shared(2), claims_max: 1000, ..GateConfig::default() };
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct GateConfig {
    /// How many threads verify, and where. Default: one that shares the CPUs with the shards.
    pub workers: Workers,
    /// Claims that may be in the gate, from when each is asked until it is answered; beyond it
    /// `ask` answers [`GateError::Overloaded`](crate::GateError::Overloaded). Claims of suspects,
    /// which are verified apart, get a quarter of it, and those of one suspect a quarter of that.
    /// 4 to 1,048,576. Default: 4,096.
    pub claims_max: usize,
    /// Claims of these that one sender may have, so that none takes all the room. A program that
    /// asks all claims as one sender, of one line, raises it. 1 to 1,048,576. Default: 1,024.
    pub sender_claims_max: usize,
    /// Claims that are verified at once, if so many wait. 1 to 256. Default: 256.
    pub batch_max: usize,
    /// Senders of bad claims that the gate remembers; the one remembered for longest is forgotten
    /// first. As many senders with strikes are remembered, too. 1 to 1,048,576. Default: 4,096.
    pub suspects_max: usize,
    /// Strikes that make a sender a suspect: a claim that passed and that its objects refused
    /// ([`AskError::Aborted`](crate::AskError::Aborted)) is one, and each claim that they apply
    /// takes one away. The sender is a suspect until it has none, and has no more than these. Raise
    /// it where honest claims are refused more often than applied. 1 to 1,048,576. Default: 8.
    pub strikes_max: usize,
    /// As whom the gate sends: only that owner's messages write what it owns. Give the gate an
    /// owner of its own, and its objects cannot be written past it. Default: owner 0, as handles.
    pub sends_as: OwnerId,
}

/// The threads of a gate that verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workers {
    /// This many, on any CPU of the process. They give way to shards: they run at nice 10.
    Shared(usize),
    /// One on each of these CPUs, and on any of them the thread that passes messages on. Leave them
    /// out of the shards' own, or a shard and a worker take turns there; the shard then does not
    /// spin.
    OnCpus(Vec<usize>),
}

impl Workers {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Workers::Shared(workers) => *workers,
            Workers::OnCpus(cpus) => cpus.len(),
        }
    }
}

impl Default for GateConfig {
    fn default() -> Self {
        GateConfig {
            workers: Workers::Shared(1),
            claims_max: 4096,
            sender_claims_max: 1024,
            batch_max: BATCH_MAX,
            suspects_max: 4096,
            strikes_max: 8,
            sends_as: OwnerId::default(),
        }
    }
}

impl GateConfig {
    /// Checks every field against the range its description gives.
    ///
    /// # Errors
    /// The first field out of its range, with its value and the range.
    pub fn check(&self) -> Result<(), ConfigError> {
        in_range("workers", self.workers.count(), 1..=WORKERS_MAX)?;
        in_range("claims_max", self.claims_max, 4..=1 << 20)?;
        in_range("sender_claims_max", self.sender_claims_max, 1..=1 << 20)?;
        in_range("batch_max", self.batch_max, 1..=BATCH_MAX)?;
        in_range("suspects_max", self.suspects_max, 1..=1 << 20)?;
        in_range("strikes_max", self.strikes_max, 1..=1 << 20)
    }
}

/// Why a gate was not opened. Whatever had been started for it was stopped again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GateStartError {
    /// The configuration asks for something that cannot be.
    #[error("configuration of the gate: {0}")]
    Config(#[from] ConfigError),
    /// The configuration names CPUs that workers cannot run on.
    #[error("placement of the gate's workers: {0}")]
    Placement(#[from] PlaceError),
    /// The allowed CPUs could not be found out.
    #[error("cannot tell which CPUs this process may use")]
    Topology(#[source] std::io::Error),
    /// The system has no room for another thread.
    #[error("the system has no room for a thread of the gate")]
    Thread(#[source] std::io::Error),
    /// Making the verifier panicked, and this is what it said.
    #[error("the verifier could not be made, it panicked: {0}")]
    Broken(String),
    /// The runtime is stopping or has stopped.
    #[error("the runtime has stopped; the gate was not opened")]
    Stopped,
}
