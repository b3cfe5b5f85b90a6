//! The bounds a shard keeps.

use std::time::Duration;

use crate::actor::addressees::ADDRESSEES_MAX;

/// The bounds a shard keeps. `freehold::Config::check` refuses a value outside its range.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Transactions that began on one shard and are under way. Beyond it the shard lets no more in
    /// from outside. Those of messages that were told count, and are not held back: an actor whose
    /// messages keep telling more transactions than this starves its callers. 1 to 1,048,576.
    /// Default: 4,096.
    pub transactions_max: usize,
    /// How often a message runs again because it touched an object that it had not declared. Beyond
    /// it the answer is [`AskError::AddresseesUnstable`](crate::AskError::AddresseesUnstable). A
    /// rerun has all that the run before missed: an object, or a write to one that was read. A
    /// message has 64 objects, so none that always needs the same misses more than 128 times. The
    /// rerun that makes a transaction of a fast message counts. 1 to 128. Default: 128.
    pub reruns_max: u32,
    /// Messages waiting in a shard for their time. 0 to 4,294,967,296. Default: 1,048,576.
    pub timers_max: usize,
    /// Actions that a shard owes: those that wait, and those that are being performed. 0 to
    /// 16,777,216. Default: 65,536.
    pub actions_owed_max: usize,
    /// Messages told to one other shard and not yet taken by its lane. 1 to 16,777,216.
    /// Default: 16,384.
    pub outbox_messages_max: usize,
    /// Messages a shard told itself and has not yet run. 1 to 16,777,216. Default: 16,384.
    pub own_messages_max: usize,
    /// Entries of collections that one message changes, with its other objects. Beyond it the call
    /// is refused ([`AccessError::TooManyEntries`](crate::AccessError::TooManyEntries)). 64 to
    /// 16,777,216. Default: 65,536.
    pub entries_max: usize,
    /// Bytes of entries that a message to several shards takes along from the homes of their
    /// collections: as large as they are in memory, and what
    /// [`Actor::pointed_bytes`](crate::Actor::pointed_bytes) says. Beyond it the message is refused
    /// ([`AccessError::TooMuchCarried`](crate::AccessError::TooMuchCarried)). 4 KiB to 64 MiB. Default: 64 KiB.
    pub carried_bytes_max: usize,
    /// Old versions of objects that a shard keeps for open snapshots. Beyond it the oldest
    /// snapshots are revoked. The same bound holds for states put aside for a checkpoint: beyond
    /// it messages from outside wait until the checkpoint has written them. 0 to 1,073,741,824.
    /// Default: 1,048,576.
    pub versions_max: usize,
    /// How long a snapshot may be open while a shard keeps old versions. Beyond it the snapshot is
    /// revoked. 0 to 1,000 hours. Default: 10 minutes.
    pub snapshot_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            transactions_max: 4096,
            reruns_max: 2 * ADDRESSEES_MAX as u32,
            timers_max: 1 << 20,
            actions_owed_max: 1 << 16,
            outbox_messages_max: 1 << 14,
            own_messages_max: 1 << 14,
            entries_max: 1 << 16,
            carried_bytes_max: 64 << 10,
            versions_max: 1 << 20,
            snapshot_age_max: Duration::from_secs(600),
        }
    }
}
