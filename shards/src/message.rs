//! What arrives at a shard and what it sends: envelopes, batches, and the addresses answers go back to.

use thiserror::Error;

use crate::actor::Actor;
use crate::object::OwnerId;
use crate::router::ShardIndex;

/// Why a message has no reply. Each variant says what happened to its effect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AskError<E> {
    /// `receive` refused the message. Nothing changed.
    #[error("the actor refused the message: {0}")]
    Aborted(E),
    /// `receive` panicked. Nothing changed.
    #[error("the actor panicked while handling the message; nothing was changed")]
    Panicked,
    /// The message named no object, so there is nobody to send it to. It never ran.
    #[error("the message has no addressee: `addressees` must name at least one object")]
    Unaddressed,
    /// Only from `ask_now`: the message's objects live on another shard. It never ran; `ask` sends it there.
    #[error("the message's objects live on {home}: use `ask`, which sends it there")]
    Elsewhere {
        /// Where they live.
        home: ShardIndex,
    },
    /// A queue on the way was full. The message never ran; send it again later.
    #[error("the runtime is overloaded; the message was not run")]
    Overloaded,
    /// The runtime is stopping or has stopped. The message never ran.
    #[error("the runtime has stopped; the message was not run")]
    Stopped,
    /// The runtime died after accepting the message. It may or may not have been applied.
    #[error("the runtime died; whether the message was applied is not known")]
    Unknown,
    /// `wait` was called on a shard's thread, where it would block the very core that may have to answer. The message was
    /// sent and will be handled: only the waiting was refused. Await the future instead.
    #[error(
        "`wait` would block a shard's thread; the message was sent and will be handled: await it instead"
    )]
    WaitOnShard,
}

/// What came of a message.
pub type Outcome<A> = Result<<A as Actor>::Reply, AskError<<A as Actor>::Error>>;

/// Where an answer goes. Plain numbers: what they stand for is known to whoever issued them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnAddress {
    /// Nobody waits: a `tell`.
    Nobody,
    /// A thread outside the runtime, which waits on a reply slot. The generation tells a reused slot from the one meant.
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
}

/// What travels between shards, and from an outside thread to a shard.
pub enum Envelope<A: Actor> {
    /// A message for objects that live on the receiving shard.
    Message {
        /// The message.
        message: A::Message,
        /// Who sends it.
        sender: OwnerId,
        /// Where its outcome goes.
        answer_to: ReturnAddress,
    },
    /// The outcome of a message a task on the receiving shard sent.
    Answer {
        /// The key the receiving shard gave the call.
        call: u32,
        /// What came of it.
        outcome: Outcome<A>,
    },
}

/// One message of a batch; its outcome takes the message's place.
pub enum BatchEntry<A: Actor> {
    /// Not handled yet.
    Waiting(A::Message),
    /// Handled.
    Answered(Outcome<A>),
}

/// Messages from one sender to objects of one shard, answered together and in place: one allocation for all of them.
pub struct Batch<A: Actor> {
    /// Who sends them.
    pub sender: OwnerId,
    /// The messages, in order; after the turn, their outcomes.
    pub entries: Vec<BatchEntry<A>>,
    /// What the runtime knows the batch by.
    pub tag: u32,
}
