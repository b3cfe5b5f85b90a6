//! Which messages are over: those that have run, and those that were taken back. It is known before
//! a log is replayed, so of a message that is over nothing is kept.
//!
//! The story: a replay kept every message that a log has, in bytes, until all was read, and a start
//! after a gigabyte of short messages took a gigabyte and a half where the running database had a
//! few megabytes. A message and its delivery are in different logs as a rule, so none of their
//! readers could let go of it. The survey reads every log anyway, before any is replayed. What it
//! keeps of a message that is over is a bit, and a number of one that was taken back.

use std::collections::{BTreeMap, HashSet};

use crate::epoch::Epoch;
use crate::log::record::SendId;
use crate::time::Time;

/// Bits of a chunk.
const CHUNK: u64 = 256;

/// Numbers of pending sends. Those of one shard lie close together, so a bit each is kept, by
/// chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SendIds(BTreeMap<u64, [u64; (CHUNK / 64) as usize]>);

impl SendIds {
    fn place(send_id: SendId) -> (u64, usize, u64) {
        (send_id.0 / CHUNK, (send_id.0 % CHUNK / 64) as usize, 1 << (send_id.0 % 64))
    }

    fn insert(&mut self, send_id: SendId) {
        let (chunk, word, bit) = Self::place(send_id);
        self.0.entry(chunk).or_default()[word] |= bit;
    }

    fn contains(&self, send_id: SendId) -> bool {
        let (chunk, word, bit) = Self::place(send_id);
        self.0.get(&chunk).is_some_and(|words| words[word] & bit != 0)
    }

    fn extend(&mut self, others: SendIds) {
        for (chunk, words) in others.0 {
            let all = self.0.entry(chunk).or_default();
            all.iter_mut().zip(words).for_each(|(all, word)| *all |= word);
        }
    }
}

/// Which messages are over, of those that logs say so of.
#[derive(Clone, Debug, Default)]
pub struct Over {
    delivered: SendIds,
    /// With when they are due. Of no other time they are owed all the same.
    cancelled: HashSet<(SendId, Time), ahash::RandomState>,
}

impl Over {
    /// The message has run; or, if `due` says when it was due, it was taken back.
    pub(super) fn note(&mut self, send_id: SendId, due: Option<Time>) {
        match due {
            None => self.delivered.insert(send_id),
            Some(due) => drop(self.cancelled.insert((send_id, due))),
        }
    }

    /// Whether a message that is due then has run or is not to.
    pub(super) fn has(&self, send_id: SendId, due: Option<Time>) -> bool {
        self.delivered.contains(send_id) || due.is_some_and(|due| self.cancelled.contains(&(send_id, due)))
    }

    /// Takes over what another log says.
    pub fn extend(&mut self, other: Over) {
        self.delivered.extend(other.delivered);
        self.cancelled.extend(other.cancelled);
    }
}

/// What a log says of messages that are over, while it is not known which of its epochs count.
#[derive(Clone, Debug, Default)]
pub(super) struct OverSoFar {
    /// Of epochs that are known to be complete.
    over: Over,
    /// Of later epochs, in the order they were read.
    later: Vec<(Epoch, SendId, Option<Time>)>,
    /// With so many it is looked which of them are known to be complete by now.
    looks_at: usize,
}

/// So many are kept at least before it is looked again.
const LOOKS_AT: usize = 1024;

impl OverSoFar {
    /// A message is over as of an epoch; all up to `durable` are complete.
    pub(super) fn note(&mut self, epoch: Epoch, durable: Epoch, send_id: SendId, due: Option<Time>) {
        if epoch <= durable {
            return self.over.note(send_id, due);
        }
        if self.later.len() >= self.looks_at.max(LOOKS_AT) {
            self.decide(durable);
            self.looks_at = self.later.len() * 2;
        }
        self.later.push((epoch, send_id, due));
    }

    /// All up to this epoch is complete.
    fn decide(&mut self, complete: Epoch) {
        let over = &mut self.over;
        self.later.retain(|(epoch, send_id, due)| {
            let is_later = *epoch > complete;
            if !is_later {
                over.note(*send_id, *due);
            }
            is_later
        });
    }

    /// What counts: all up to `cut`, and nothing later.
    pub(super) fn finish(mut self, cut: Epoch) -> Over {
        self.decide(cut);
        self.over
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_found_and_no_others(
            one in proptest::collection::hash_set(0_u64..2000, 0..300),
            other in proptest::collection::hash_set(prop_oneof![0_u64..2000, any::<u64>()], 0..300),
        ) {
            let all = |numbers: &HashSet<u64>| {
                let mut ids = SendIds::default();
                numbers.iter().for_each(|number| ids.insert(SendId(*number)));
                ids
            };
            let mut ids = all(&one);
            ids.extend(all(&other));
            for number in (0..2000).chain(other.iter().copied()).chain(other.iter().map(|it| it ^ 1)) {
                let is_there = one.contains(&number) || other.contains(&number);
                prop_assert_eq!(ids.contains(SendId(number)), is_there, "{}", number);
            }
        }

        // Whatever was known when: what counts is of the epochs that count.
        #[test]
        fn what_is_over_is_of_the_epochs_that_count(
            notes in proptest::collection::vec((1_u64..60, 0_u64..3, any::<bool>()), 0..5000),
            more in 0_u64..40,
        ) {
            let (mut so_far, mut durable) = (OverSoFar::default(), 0);
            for (at, (epoch, further, is_timer)) in (0..).zip(&notes) {
                durable = (durable + further / 2).min(20);
                let due = is_timer.then_some(Time(at));
                so_far.note(Epoch(*epoch), Epoch(durable), SendId(at), due);
            }
            let cut = durable + more;
            let over = so_far.finish(Epoch(cut));
            for (at, (epoch, _, is_timer)) in (0..).zip(&notes) {
                let due = is_timer.then_some(Time(at));
                prop_assert_eq!(over.has(SendId(at), due), *epoch <= cut, "{}", at);
                let later = Some(Time(at + 1));
                prop_assert_eq!(over.has(SendId(at), later), *epoch <= cut && !is_timer, "{}", at);
            }
        }
    }
}
