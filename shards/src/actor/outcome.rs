//! What comes of a message, and where that goes.

use std::fmt;

use thiserror::Error;

use crate::actor::Actor;
use crate::log::record::SendId;
use crate::log::refused::RecordError;
use crate::panics::ActorPanic;
use crate::placement::ShardIndex;

/// Why a message has no reply. Each variant says what happened to its effect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AskError<E> {
    /// `receive` refused the message. Nothing changed.
    #[error("the actor refused the message: {0}")]
    Aborted(E),
    /// `receive` panicked, or cloning a state did. Nothing changed.
    #[error("the actor panicked while handling the message; nothing was changed: {0}")]
    Panicked(ActorPanic),
    /// The message kept touching objects it had not declared, more often than `reruns_max`. Nothing
    /// changed.
    #[error(
        "the message kept touching objects that it had not declared: declare them in `addressees`, or raise `reruns_max`"
    )]
    AddresseesUnstable,
    /// The message named no object, so there is nobody to send it to. It never ran.
    #[error("the message has no addressee: `addressees` must name at least one object")]
    Unaddressed,
    /// Only from `ask_now`: the message's objects live on another shard. It never ran; `ask` sends
    /// it there.
    #[error("the message's objects live on {home}: use `ask`, which sends it there")]
    Elsewhere {
        /// Where they live.
        home: ShardIndex,
    },
    /// Only from `ask_now`: the message cannot run at once, because its objects live on several
    /// shards, or one is shared or locked by a transaction. It never ran; `ask` waits for what it
    /// needs.
    #[error("the message cannot run at once: use `ask`, which waits for its objects")]
    Busy,
    /// A queue on the way was full. The message never ran; send it again later.
    #[error("the runtime is overloaded; the message was not run")]
    Overloaded,
    /// The runtime is stopping or has stopped. The message never ran.
    #[error("the runtime has stopped; the message was not run")]
    Stopped,
    /// A state that the message left, or a message it told, cannot be written to the log. Nothing
    /// changed.
    #[error("the message was undone because the log cannot hold it: {0}")]
    NotRecorded(RecordError),
    /// The runtime died after accepting the message. It may or may not have been applied.
    #[error("the runtime died; whether the message was applied is not known")]
    Unknown,
    /// The deadline of the ask passed before the outcome was there. The message was sent: it may
    /// have run, or may still run.
    #[error("the deadline passed; the message was sent, and may have run or still run")]
    TimedOut,
    /// `wait` was called on a shard's thread, where it would block the very core that may have to
    /// answer. The message was sent and will be handled: only the waiting was refused. Await the
    /// future instead.
    #[error(
        "`wait` would block a shard's thread; the message was sent and will be handled: await it instead"
    )]
    WaitOnShard,
}

/// A message that nobody waits for, and that failed: it was told, at once or for later. Nothing of
/// it took effect, and it does not run again.
pub struct Failure<A: Actor> {
    /// What kind of message it was: see [`Actor::message_name`].
    pub message: &'static str,
    /// Why it failed.
    pub error: AskError<A::Error>,
}

impl<A: Actor> fmt::Debug for Failure<A>
where
    A::Error: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("message", &self.message).field("error", &self.error).finish()
    }
}

/// What came of a message.
pub type Outcome<A> = Result<<A as Actor>::Reply, AskError<<A as Actor>::Error>>;

/// Where an answer goes. Plain numbers: what they stand for is known to whoever issued them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnAddress {
    /// Nobody waits: a `tell`.
    Nobody,
    /// A thread outside the runtime, which waits on a reply slot. The generation tells a reused
    /// slot from the one meant.
    Outside {
        /// Index of the slot.
        slot: u32,
        /// Which use of the slot.
        generation: u32,
    },
    /// A task on `shard`, which waits for its call `call`.
    Shard {
        /// Where the task runs.
        shard: ShardIndex,
        /// The key that shard gave the call.
        call: u32,
    },
    /// A message that was told, and is owed until it has run: its number in the log.
    SendId(SendId),
    /// An entry of a batch that waits on the shard where the message began.
    Batch {
        /// The key that shard gave the batch.
        batch: u32,
        /// The entry's place in it.
        entry: u32,
    },
}
