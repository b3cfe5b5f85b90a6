//! The bounds a shard keeps.

use std::time::Duration;

/// The bounds a shard keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Transactions that began on one shard and are under way, beyond which it lets no more in from
    /// outside.
    pub transactions_max: usize,
    /// How often a message runs again because it touched an object it had not declared.
    pub reruns_max: u32,
    /// Messages waiting in a shard for their time.
    pub timers_max: usize,
    /// Messages told to one other shard and not yet taken by its lane.
    pub outbox_messages_max: usize,
    /// Messages a shard told itself and has not yet run.
    pub own_messages_max: usize,
    /// Old versions of objects a shard keeps for open snapshots, beyond which the oldest snapshots
    /// are revoked. And states that are put aside for a checkpoint, beyond which messages from
    /// outside wait until it has written them.
    pub versions_max: usize,
    /// How long a snapshot may be open while a shard keeps old versions; then it is revoked.
    pub snapshot_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            transactions_max: 4096,
            reruns_max: 8,
            timers_max: 1 << 20,
            outbox_messages_max: 1 << 14,
            own_messages_max: 1 << 14,
            versions_max: 1 << 20,
            snapshot_age_max: Duration::from_secs(600),
        }
    }
}
