//! The asks of a shard's own tasks that are under way to other shards.
//!
//! An ask has a key, which travels with the message and comes back with the answer. It leaves the
//! list when both have happened: the answer has come, and the task has it or has gone. A key
//! carries a generation, so that an answer nobody expects any more cannot meet a later ask. All on
//! one thread; the list is bounded by `calls_max`.

use std::task::Waker;

use freehold_shard::{Actor, Outcome};
use slab::Slab;

/// The lower bits of a key are the place in the list; `calls_max` is at most this much. The others
/// are the generation.
const PLACE_BITS: u32 = 20;

/// The asks of one shard.
pub(crate) struct InFlight<A: Actor> {
    list: Slab<AskInFlight<A>>,
    calls_max: usize,
    next_generation: u32,
}

struct AskInFlight<A: Actor> {
    key: u32,
    state: InFlightState<A>,
}

enum InFlightState<A: Actor> {
    Waiting(Option<Waker>),
    Answered(Outcome<A>),
    /// The task has gone; the answer has still to come.
    Abandoned,
}

impl<A: Actor> InFlight<A> {
    pub(crate) fn new(calls_max: usize) -> Self {
        debug_assert!(calls_max <= 1 << PLACE_BITS);
        InFlight { list: Slab::new(), calls_max, next_generation: 0 }
    }

    /// Begins an ask; `None` if as many as may be are under way.
    pub(crate) fn begin(&mut self) -> Option<u32> {
        if self.list.len() >= self.calls_max {
            return None;
        }
        let entry = self.list.vacant_entry();
        let key = entry.key() as u32 | self.next_generation << PLACE_BITS;
        self.next_generation = self.next_generation.wrapping_add(1);
        entry.insert(AskInFlight { key, state: InFlightState::Waiting(None) });
        Some(key)
    }

    /// How many asks are under way, or answered and not picked up.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether another ask may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.list.len() < self.calls_max
    }

    /// The answer has come. Returns the task to wake.
    pub(crate) fn answer(&mut self, key: u32, outcome: Outcome<A>) -> Option<Waker> {
        let ask = self.list.get_mut(place(key)).filter(|ask| ask.key == key)?;
        match &mut ask.state {
            InFlightState::Waiting(waker) => {
                let waker = waker.take();
                ask.state = InFlightState::Answered(outcome);
                waker
            }
            InFlightState::Answered(_) => None,
            InFlightState::Abandoned => {
                self.list.remove(place(key));
                None
            }
        }
    }

    /// The outcome, if it has come, which ends the ask. Otherwise `waker` is woken when it comes.
    pub(crate) fn poll(&mut self, key: u32, waker: &Waker) -> Option<Outcome<A>> {
        let ask = self
            .list
            .get_mut(place(key))
            .filter(|ask| ask.key == key)
            .expect("an ask lasts until its task has the answer");
        if let InFlightState::Waiting(waiting) = &mut ask.state {
            if !waiting.as_ref().is_some_and(|waiting| waiting.will_wake(waker)) {
                *waiting = Some(waker.clone());
            }
            return None;
        }
        match self.list.remove(place(key)).state {
            InFlightState::Answered(outcome) => Some(outcome),
            InFlightState::Waiting(_) | InFlightState::Abandoned => {
                unreachable!("the task that polls has not gone")
            }
        }
    }

    /// The task does not wait any longer. Returns what is to be dropped.
    pub(crate) fn abandon(&mut self, key: u32) -> impl Sized + use<A> {
        let ask = self.list.get_mut(place(key)).filter(|ask| ask.key == key);
        let ask = ask.expect("an ask lasts until its task has gone");
        match ask.state {
            InFlightState::Waiting(_) => std::mem::replace(&mut ask.state, InFlightState::Abandoned),
            _ => self.list.remove(place(key)).state,
        }
    }

    /// Ends an ask whose message could not be sent.
    pub(crate) fn unsend(&mut self, key: u32) {
        self.list.remove(place(key));
    }

    /// Answers all that still wait: the shard leaves. Returns the tasks to wake.
    pub(crate) fn answer_all(&mut self, outcome: impl Fn() -> Outcome<A>) -> Vec<Waker> {
        let waiting = |(_, ask): (usize, &AskInFlight<A>)| {
            matches!(ask.state, InFlightState::Waiting(_)).then_some(ask.key)
        };
        let keys: Vec<u32> = self.list.iter().filter_map(waiting).collect();
        keys.into_iter().filter_map(|key| self.answer(key, outcome())).collect()
    }
}

fn place(key: u32) -> usize {
    (key & ((1 << PLACE_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use freehold_shard::AskError;

    use super::*;
    use crate::test_actor::Accounts;

    #[test]
    fn an_ask_ends_when_it_is_answered_and_picked_up() {
        let mut asks = InFlight::<Accounts>::new(1);
        let key = asks.begin().unwrap();
        assert_eq!(asks.begin(), None);
        assert!(asks.poll(key, Waker::noop()).is_none());
        assert!(asks.answer(key, Ok(7)).is_some());
        assert_eq!(asks.poll(key, Waker::noop()), Some(Ok(7)));
        assert!(asks.begin().is_some());
    }

    #[test]
    fn an_ask_whose_task_has_gone_ends_with_its_answer() {
        let mut asks = InFlight::<Accounts>::new(1);
        let key = asks.begin().unwrap();
        drop(asks.abandon(key));
        assert_eq!(asks.begin(), None, "its answer is under way");
        assert!(asks.answer(key, Ok(7)).is_none());
        let next = asks.begin().unwrap();
        assert_ne!(next, key);
        assert!(asks.answer(key, Ok(8)).is_none());
        assert!(asks.poll(next, Waker::noop()).is_none(), "an answer to an earlier ask changes nothing");
    }

    #[test]
    fn at_the_end_all_are_answered() {
        let mut asks = InFlight::<Accounts>::new(4);
        let [waits, gone, answered] = std::array::from_fn(|_| asks.begin().unwrap());
        drop(asks.abandon(gone));
        asks.answer(answered, Ok(1));
        asks.answer_all(|| Err(AskError::Unknown));
        assert_eq!(asks.poll(waits, Waker::noop()), Some(Err(AskError::Unknown)));
        assert_eq!(asks.poll(answered, Waker::noop()), Some(Ok(1)));
    }
}
