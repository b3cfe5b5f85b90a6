//! Lanes: what shards send each other.
//!
//! A *lane* is a ring of one writer and one reader, one for each ordered pair of shards. A shard
//! writes and reads it in bulk once a turn; what a full lane cannot take stays in the writer's
//! outbox and keeps its order.

use std::collections::VecDeque;

use rtrb::{Consumer, Producer, RingBuffer};

use super::in_bulk;

/// One shard's ends of all lanes it has.
pub(crate) struct Lanes<T> {
    /// By receiving shard; none to the shard itself.
    to: Vec<Option<Producer<T>>>,
    /// From each other shard.
    from: Vec<Consumer<T>>,
    /// Where the next drain begins, so that no lane is always first.
    first: usize,
    pub(crate) sent: u64,
    /// The same by receiving shard.
    pub(crate) sent_to: Vec<u64>,
    pub(crate) received: u64,
}

impl<T> Lanes<T> {
    /// No lanes.
    pub(crate) fn none() -> Self {
        Lanes { to: Vec::new(), from: Vec::new(), first: 0, sent: 0, sent_to: Vec::new(), received: 0 }
    }
}

/// The lanes of a runtime, each with room for `entries`: by shard, its own ends.
pub(crate) fn lanes<T>(shards: usize, entries: usize) -> Vec<Lanes<T>> {
    let mut all: Vec<_> = (0..shards).map(|_| Lanes::none()).collect();
    for from in 0..shards {
        for to in 0..shards {
            let producer = (from != to).then(|| {
                let (producer, consumer) = RingBuffer::new(entries);
                all[to].from.push(consumer);
                producer
            });
            all[from].to.push(producer);
            all[from].sent_to.push(0);
        }
    }
    all
}

impl<T> Lanes<T> {
    /// Moves what has come, and no more than `max` of each lane, into `inbox`. Returns how much
    /// that was.
    #[inline]
    pub(crate) fn drain(&mut self, inbox: &mut Vec<T>, max: usize) -> usize {
        let (before, lanes) = (inbox.len(), self.from.len());
        let (last, first) = self.from.split_at_mut(self.first);
        for part in [first, last] {
            // Most are empty where there are many.
            part.iter_mut().for_each(|lane| {
                if !lane.is_empty() {
                    in_bulk::pop(lane, inbox, max);
                }
            });
        }
        let drained = inbox.len() - before;
        if drained > 0 {
            self.first = if self.first + 1 < lanes { self.first + 1 } else { 0 };
            self.received += drained as u64;
        }
        drained
    }

    /// Moves as much of the outboxes into the lanes as these take. Notes to which shards there was
    /// any, and returns how much is left.
    #[inline]
    pub(crate) fn flush(&mut self, outboxes: &mut [VecDeque<T>], flushed: &mut Vec<usize>) -> usize {
        let mut left = 0;
        for (to, outbox) in outboxes.iter_mut().enumerate() {
            if outbox.is_empty() {
                continue;
            }
            let lane = self.to[to].as_mut().expect("nothing is sent to oneself by lane");
            let room = in_bulk::push(lane, outbox);
            if room > 0 {
                self.sent += room as u64;
                self.sent_to[to] += room as u64;
                flushed.push(to);
            }
            left += outbox.len();
        }
        left
    }

    /// Whether nothing has come.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.from.iter().all(Consumer::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lane_cannot_take_stays_in_order() {
        let mut shards = lanes::<u64>(2, 16);
        let mut outboxes = vec![VecDeque::new(), (0..40).collect()];
        let (mut flushed, mut inbox) = (Vec::new(), Vec::new());
        assert_eq!(shards[0].flush(&mut outboxes, &mut flushed), 24);
        assert_eq!(flushed, [1]);
        assert_eq!(shards[0].flush(&mut outboxes, &mut flushed), 24, "the lane is full");
        assert_eq!(flushed, [1], "nothing was flushed, so there is nobody to look after");
        assert_eq!(shards[1].drain(&mut inbox, 10), 10);
        assert_eq!(shards[0].flush(&mut outboxes, &mut flushed), 14);
        while shards[1].drain(&mut inbox, 100) > 0 {
            shards[0].flush(&mut outboxes, &mut flushed);
        }
        assert_eq!(inbox, Vec::from_iter(0..40));
        assert_eq!((shards[0].sent, shards[1].received), (40, 40));
        assert_eq!(shards[0].sent_to, [0, 40]);
        assert!(shards[1].is_empty());
    }

    #[test]
    fn every_pair_of_shards_has_a_lane_each_way() {
        let mut shards = lanes(3, 16);
        for (from, shard) in shards.iter_mut().enumerate() {
            let mut outboxes: Vec<_> =
                (0..3).map(|to| if to == from { VecDeque::new() } else { [from].into() }).collect();
            assert_eq!(shard.flush(&mut outboxes, &mut Vec::new()), 0);
            assert_eq!(shard.sent_to, (0..3).map(|to| u64::from(to != from)).collect::<Vec<_>>());
        }
        for (to, shard) in shards.iter_mut().enumerate() {
            let mut inbox = Vec::new();
            shard.drain(&mut inbox, 100);
            inbox.sort_unstable();
            assert_eq!(inbox, (0..3).filter(|from| *from != to).collect::<Vec<_>>());
        }
    }
}
