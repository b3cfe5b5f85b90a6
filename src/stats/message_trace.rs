//! What is known of one message: when it was taken, ran and was answered, and what it waited for.

use std::time::Duration;

use freehold_shard::ShardIndex;

use crate::route::Route;

/// A part of the time that a message took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// `queued` until the first shard took it; `running`, which has the waits for locks in it,
    /// until it ran at its lock point; `durable` until the log had it; `answered` if the parts are
    /// not known.
    pub name: &'static str,
    /// When it began, since the message was asked.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
}

/// A wait for a lock, of a message that spans shards or met a locked object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedWait {
    /// Where it waited.
    pub shard: ShardIndex,
    /// The object that it waited for, as `Debug` writes its id.
    pub object: String,
    /// How many messages waited for that object before it, beside those that had its lock.
    pub ahead: u32,
    /// What kind of message it waited for: the one that waited just before it; if none did, the one
    /// that had the lock, and of several that read together the last to give it back. `None` if
    /// that was a transaction that gave way and went on elsewhere.
    pub behind: Option<&'static str>,
    /// When it began, since the message was asked.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
}

/// Where the time of one message went: see [`Stats::slow`](crate::Stats::slow).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageTrace {
    /// Traces are numbered from 1, in the order they ended. A reader that comes again and again
    /// knows by it which are new, and by a gap how many it has missed.
    pub number: u64,
    /// The shard that answered.
    pub shard: ShardIndex,
    /// What kind of message, if it was seen before it ran:
    /// [`Actor::message_name`](crate::Actor::message_name). Empty for an actor that names none.
    pub message: Option<&'static str>,
    /// The first object that it names, as `Debug` writes its id, if that was seen.
    pub object: Option<String>,
    /// The way that it went, if that was seen.
    pub route: Option<Route>,
    /// How many messages: more than one if it is a batch of `ask_all`.
    pub messages: u32,
    /// When it was answered, since the runtime started.
    pub answered: Duration,
    /// How long it took from the ask to the answer.
    pub took: Duration,
    /// It was followed from its begin, or is a batch. Otherwise it began up to a quarter of
    /// `slow_message` earlier than its times say.
    pub is_exact: bool,
    /// When the first shard took it, since the ask; of one that was followed late, when a shard was
    /// first seen to have it. `None` if none was.
    pub taken: Option<Duration>,
    /// When it had run at its lock point, since the ask; `None` if that was not seen.
    pub ran: Option<Duration>,
    /// Its waits for locks, at most 16.
    pub waits: Vec<TracedWait>,
}

impl MessageTrace {
    /// The parts of its time that are known, in their order, without gaps.
    pub fn stages(&self) -> impl Iterator<Item = Stage> + '_ {
        let marks = [("queued", self.taken), ("running", self.ran)];
        let mut from = Duration::ZERO;
        let known: Vec<Stage> = marks
            .into_iter()
            .filter_map(|(name, to)| {
                let to = to?.max(from);
                Some(Stage { name, from: std::mem::replace(&mut from, to), to })
            })
            .collect();
        let last = if self.ran.is_some() { "durable" } else { "answered" };
        known.into_iter().chain((from < self.took).then_some(Stage { name: last, from, to: self.took }))
    }
}
