//! The words that all shards share: epochs and open snapshots, how far the logs have come, and what
//! is published.

pub(crate) mod durability;
mod epochs;
pub(crate) mod published;

pub(crate) use epochs::NO_CHECKPOINT;
pub use epochs::{Epoch, EpochState, Epochs, TransactionId};
