//! The waker that other threads have of a shard's tasks.

use std::sync::{Arc, Weak};
use std::task::Wake;

use freehold_shard::Actor;

use super::shared::Shared;
use crate::transport::mailbox::WAKE_TASKS;

/// A waker that reaches the tasks of a shard from any thread: it leaves a signal and notifies the
/// shard.
pub(crate) struct ShardWaker<A: Actor> {
    pub(crate) shared: Weak<Shared<A>>,
    pub(crate) shard: usize,
}

impl<A: Actor> Wake for ShardWaker<A> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.mailboxes[self.shard].signal(WAKE_TASKS, &shared.replies);
        }
    }
}
