//! What a running message tells, and which timers it cancels: all of it happens when the message
//! succeeds, and nothing of it otherwise.

use std::fmt;
use std::vec::Drain;

use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::log::record::SendId;
use crate::object::OwnerId;
use crate::placement::ShardIndex;
use crate::time::Time;

/// A message that waits for its time, as [`Objects::tell_after`](crate::Objects::tell_after) names
/// it; [`Objects::cancel`](crate::Objects::cancel) takes it back.
///
/// It is its number and when it is due, so that an object can keep it, in a log as well. Both have
/// to be right, in memory and in the log: one that is made up cancels nothing, unless it guesses a
/// time to the nanosecond. An object that is read in a copy of its database still cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimerId {
    pub(crate) due: u64,
    pub(crate) number: u64,
}

impl TimerId {
    /// When the message is due.
    pub(crate) fn due(self) -> Time {
        Time(self.due)
    }

    /// Its number.
    pub(crate) fn number(self) -> SendId {
        SendId(self.number)
    }
}

/// An action, as [`Objects::perform`](crate::Objects::perform) names it.
///
/// With a log no other action of the database has its number, in any of its runs; without one no
/// other of this run has. An action that is performed once more, after a crash, has the number that
/// it had. So it serves the outside as an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionId(pub(crate) u64);

impl ActionId {
    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn send_id(self) -> SendId {
        SendId(self.0)
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "action {}", self.0)
    }
}

/// A message the running message sends if it succeeds.
pub(crate) struct QueuedSend<A: Actor> {
    pub(crate) message: A::Message,
    pub(crate) to: ShardIndex,
    pub(crate) sender: OwnerId,
    /// When, if later.
    pub(crate) due: Option<Time>,
    /// It goes to the program. `to` is the shard that hands it over.
    pub(crate) is_action: bool,
    /// While it is staged for the log: it in bytes.
    pub(crate) staged: Option<Box<[u8]>>,
    /// Its number. One that waits for its time has one, and one that a log has.
    pub(crate) number: Option<SendId>,
}

/// What the running message does with messages to come.
pub(crate) enum Queued<A: Actor> {
    Send(QueuedSend<A>),
    Cancel(TimerId),
}

/// What the running message tells and cancels, and how much of it there is: to tell is linear in
/// the number of messages.
pub(crate) struct Told<A: Actor> {
    queued: Vec<Queued<A>>,
    /// How many envelopes each shard gets of it.
    to: Box<[usize]>,
    /// How many messages wait for their time.
    pub(crate) timed: usize,
    /// How many actions there are.
    pub(crate) actions: usize,
    /// How many timers are cancelled.
    pub(crate) cancelled: usize,
}

impl<A: Actor> Told<A> {
    pub(crate) fn new(shards: usize) -> Self {
        Told { queued: Vec::new(), to: vec![0; shards].into(), timed: 0, actions: 0, cancelled: 0 }
    }

    /// In place of one that is being emptied. Nothing can be told to it.
    pub(crate) fn empty() -> Self {
        Told::new(0)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// How many envelopes `shard` gets at once.
    pub(crate) fn count_to(&self, shard: ShardIndex) -> usize {
        self.to[shard.index()]
    }

    pub(crate) fn send(&mut self, send: QueuedSend<A>) {
        match send.due {
            _ if send.is_action => self.actions += 1,
            Some(_) => self.timed += 1,
            None => self.to[send.to.index()] += 1,
        }
        self.queued.push(Queued::Send(send));
    }

    /// Cancels a timer that `keeper` has.
    pub(crate) fn cancel(&mut self, timer: TimerId, keeper: ShardIndex, here: ShardIndex) {
        self.cancelled += 1;
        if keeper != here {
            self.to[keeper.index()] += 1;
        }
        self.queued.push(Queued::Cancel(timer));
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued<A>> {
        self.queued.iter_mut()
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> Drain<'_, Queued<A>> {
        if !self.queued.is_empty() {
            self.to.fill(0);
            (self.timed, self.actions, self.cancelled) = (0, 0, 0);
        }
        self.queued.drain(..)
    }
}
