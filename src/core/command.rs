//! What other threads ask of a shard beside messages, and how much of it there may be.

use std::rc::Rc;

use freehold_shard::Actor;

use super::LocalShard;
use super::jobs::{Job, Permit};
use crate::transport::mailbox::Mailbox;

/// What a shard is to call on its thread.
pub(crate) type ShardCall<A> = Box<dyn FnOnce(&Rc<LocalShard<A>>) + Send>;

/// Something to be done once on a shard's thread. Dropped undone if the shard has left.
pub(crate) enum Command<A: Actor> {
    /// To be called.
    Call(ShardCall<A>),
    /// To be gone on with beside messages.
    Job(Box<dyn Job<A>>),
}

impl<A: Actor> Mailbox<A, Command<A>> {
    /// A permit for a command or a job of a user's, of which there are at most `max`.
    pub(crate) fn permit(&self, max: usize) -> Option<Permit> {
        Permit::one_of(self.jobs(), max)
    }

    /// A permit for what the runtime itself does, which is not refused.
    pub(crate) fn permit_of_ours(&self) -> Permit {
        Permit::unbounded(self.jobs())
    }
}
