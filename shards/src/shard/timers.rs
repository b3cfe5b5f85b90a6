//! Messages that wait for their time.

use std::cmp::Ordering;

use crate::actor::Actor;
use crate::placement::ShardIndex;
use crate::time::Time;
use crate::transaction::message::Envelope;

/// A message to be sent at a time. Ordered so that the first one due is the greatest, as a
/// `BinaryHeap` wants it.
pub(crate) struct Timer<A: Actor> {
    pub(crate) due: Time,
    /// Counts the timers of the shard, so that those due together go in the order they were set.
    pub(crate) set: u64,
    pub(crate) to: ShardIndex,
    pub(crate) envelope: Envelope<A>,
}

impl<A: Actor> Ord for Timer<A> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.set).cmp(&(self.due, self.set))
    }
}

impl<A: Actor> PartialOrd for Timer<A> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<A: Actor> PartialEq for Timer<A> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<A: Actor> Eq for Timer<A> {}
