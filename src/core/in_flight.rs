//! The asks of a shard's own tasks that are under way to other shards.
//!
//! An ask has a key, which travels with the message and comes back with the answer. It leaves the
//! list when both have happened: the answer has come, and the task has it or has gone. A key
//! carries a generation, so that an answer nobody expects any more cannot meet a later ask. All on
//! one thread; the list is bounded by `calls_max`.
//!
//! Asks of a *flight* belong together: one task waits for all of them, and takes their answers from
//! one queue in the order they come. So none of them has a waker or a future of its own.

use std::collections::VecDeque;
use std::task::Waker;

use freehold_shard::{Actor, Outcome};
use slab::Slab;

/// The lower bits of a key are the place in the list; `calls_max` is at most this much. The others
/// are the generation.
const PLACE_BITS: u32 = 20;

/// The asks of one shard.
pub(crate) struct InFlight<A: Actor> {
    list: Slab<AskInFlight<A>>,
    flights: Slab<FlightState<A>>,
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
    /// Of this flight, by this tag.
    OfFlight(u32, u64),
}

/// What is known of a flight.
struct FlightState<A: Actor> {
    /// Asks that were not answered.
    under_way: usize,
    answers: VecDeque<(u64, Outcome<A>)>,
    waker: Option<Waker>,
    /// Its task has gone; answers have still to come.
    is_abandoned: bool,
}

impl<A: Actor> InFlight<A> {
    pub(crate) fn new(calls_max: usize) -> Self {
        debug_assert!(calls_max <= 1 << PLACE_BITS);
        InFlight { list: Slab::new(), flights: Slab::new(), calls_max, next_generation: 0 }
    }

    /// Begins an ask; `None` if as many as may be are under way.
    pub(crate) fn begin(&mut self) -> Option<u32> {
        self.begin_as(InFlightState::Waiting(None))
    }

    fn begin_as(&mut self, state: InFlightState<A>) -> Option<u32> {
        if self.list.len() >= self.calls_max {
            return None;
        }
        let entry = self.list.vacant_entry();
        let key = entry.key() as u32 | self.next_generation << PLACE_BITS;
        self.next_generation = self.next_generation.wrapping_add(1);
        entry.insert(AskInFlight { key, state });
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
            InFlightState::OfFlight(flight, tag) => {
                let (flight, tag) = (*flight, *tag);
                self.list.remove(place(key));
                self.flights[flight as usize].under_way -= 1;
                self.answer_in_flight(flight, tag, outcome)
            }
        }
    }

    /// Begins a flight, of no asks.
    pub(crate) fn begin_flight(&mut self) -> u32 {
        let state = FlightState { under_way: 0, answers: VecDeque::new(), waker: None, is_abandoned: false };
        self.flights.insert(state) as u32
    }

    /// Begins an ask of a flight; `None` if as many as may be are under way.
    pub(crate) fn begin_in_flight(&mut self, flight: u32, tag: u64) -> Option<u32> {
        let key = self.begin_as(InFlightState::OfFlight(flight, tag))?;
        self.flights[flight as usize].under_way += 1;
        Some(key)
    }

    /// Ends an ask of a flight whose message could not be sent.
    pub(crate) fn unsend_in_flight(&mut self, flight: u32, key: u32) {
        self.unsend(key);
        self.flights[flight as usize].under_way -= 1;
    }

    /// The answer to an ask of a flight that is not in the list. Returns the task to wake.
    pub(crate) fn answer_in_flight(&mut self, flight: u32, tag: u64, outcome: Outcome<A>) -> Option<Waker> {
        let state = &mut self.flights[flight as usize];
        if state.is_abandoned {
            if state.under_way == 0 {
                self.flights.remove(flight as usize);
            }
            return None;
        }
        state.answers.push_back((tag, outcome));
        state.waker.take()
    }

    /// How many asks of a flight were not answered, or their answers not taken.
    pub(crate) fn len_of_flight(&self, flight: u32) -> usize {
        let state = &self.flights[flight as usize];
        state.under_way + state.answers.len()
    }

    /// Takes the next answer of a flight. Without one, `waker` is woken when it comes.
    pub(crate) fn poll_flight(&mut self, flight: u32, waker: &Waker) -> Option<(u64, Outcome<A>)> {
        let state = &mut self.flights[flight as usize];
        let answer = state.answers.pop_front();
        if answer.is_none() && !state.waker.as_ref().is_some_and(|waiting| waiting.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        answer
    }

    /// The task of a flight has gone. Returns what is to be dropped.
    pub(crate) fn abandon_flight(&mut self, flight: u32) -> impl Sized + use<A> {
        let state = &mut self.flights[flight as usize];
        state.is_abandoned = true;
        let dropped = (std::mem::take(&mut state.answers), state.waker.take());
        if state.under_way == 0 {
            self.flights.remove(flight as usize);
        }
        dropped
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
            InFlightState::Waiting(_) | InFlightState::Abandoned | InFlightState::OfFlight(..) => {
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
            matches!(ask.state, InFlightState::Waiting(_) | InFlightState::OfFlight(..)).then_some(ask.key)
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
    fn a_flight_has_its_answers_as_they_come_and_one_waker() {
        let mut asks = InFlight::<Accounts>::new(3);
        let flight = asks.begin_flight();
        let keys: Vec<u32> = [10, 11, 12].map(|tag| asks.begin_in_flight(flight, tag).unwrap()).into();
        assert_eq!((asks.begin_in_flight(flight, 13), asks.begin()), (None, None), "all are bounded");
        assert!(asks.poll_flight(flight, Waker::noop()).is_none());
        assert!(asks.answer(keys[2], Ok(2)).is_some());
        assert!(asks.answer(keys[0], Ok(0)).is_none(), "it was woken");
        assert!(asks.answer(keys[0], Ok(9)).is_none(), "an answer comes once");
        assert_eq!((asks.len_of_flight(flight), asks.len()), (3, 1));
        let next = |asks: &mut InFlight<_>| asks.poll_flight(flight, Waker::noop());
        let answers = [next(&mut asks), next(&mut asks), next(&mut asks)];
        assert_eq!(answers, [Some((12, Ok(2))), Some((10, Ok(0))), None]);
        // Its task goes, and one answer has still to come.
        drop(asks.abandon_flight(flight));
        assert_eq!((asks.flights.len(), asks.len()), (1, 1));
        assert!(asks.answer(keys[1], Ok(1)).is_none());
        assert_eq!((asks.flights.len(), asks.len()), (0, 0));
        // The shard leaves.
        let flight = asks.begin_flight();
        asks.begin_in_flight(flight, 7).unwrap();
        asks.answer_all(|| Err(AskError::Unknown));
        assert_eq!(asks.poll_flight(flight, Waker::noop()), Some((7, Err(AskError::Unknown))));
        drop(asks.abandon_flight(flight));
        assert!(asks.flights.is_empty());
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
