//! A wait for locks that has ended, for the traces of slow messages.

use crate::actor::outcome::ReturnAddress;
use crate::time::Time;

/// A transaction that waited for locks on a shard, and has got them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockWait<I> {
    /// Where the answer of the transaction's message goes: by that the waiter is known.
    pub answer_to: ReturnAddress,
    /// What kind of message waited: see [`Actor::message_name`](crate::Actor::message_name).
    pub message: &'static str,
    /// The object that it waited for; of several, the first.
    pub object: I,
    /// How many transactions waited for that object before it, beside those that had the lock.
    pub ahead: u32,
    /// What kind of message it waited for: the one that waited just before it; if none did, the one
    /// that had the lock, and of several the last that gave it back. `None` if that was a
    /// transaction that gave way and went on elsewhere.
    pub behind: Option<&'static str>,
    /// When the turn began in which the wait began.
    pub began: Time,
    /// When the turn began in which it ended.
    pub ended: Time,
}
