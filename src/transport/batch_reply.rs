//! How the outcomes of a batch come back to the one `ask_all` that its messages are of.
//!
//! Invariant *one-answer-per-batch*: a batch travels with its [`BatchReply`], and a reply is
//! completed exactly once: with the outcomes, with a refusal, or by being dropped, which answers
//! `Unknown`. So nothing a shard may do with a batch leaves a caller waiting.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Instant;

use freehold_shard::{Actor, AskError, BatchEntry, Outcome};

/// The outcomes of one `ask_all` as they come in.
pub(crate) struct Outcomes<A: Actor> {
    begun: Instant,
    pub(crate) state: Mutex<OutcomesState<A>>,
}

pub(crate) struct OutcomesState<A: Actor> {
    /// By part, in the order the parts were made.
    pub(crate) parts: Vec<Option<Vec<BatchEntry<A>>>>,
    pub(crate) missing: usize,
    pub(crate) waker: Option<Waker>,
}

impl<A: Actor> Outcomes<A> {
    /// Of messages that are asked now, in so many parts.
    pub(crate) fn new(parts: usize) -> Self {
        let state = OutcomesState { parts: (0..parts).map(|_| None).collect(), missing: parts, waker: None };
        Outcomes { begun: Instant::now(), state: Mutex::new(state) }
    }
}

/// The right and the duty to answer one batch.
pub(crate) struct BatchReply<A: Actor> {
    /// `None` once completed.
    outcomes: Option<Arc<Outcomes<A>>>,
    part: u32,
    messages: u32,
}

impl<A: Actor> BatchReply<A> {
    /// For this part, of so many messages.
    pub(crate) fn new(outcomes: Arc<Outcomes<A>>, part: u32, messages: u32) -> Self {
        BatchReply { outcomes: Some(outcomes), part, messages }
    }

    /// Which part of the whole its batch is.
    pub(crate) fn part(&self) -> u32 {
        self.part
    }

    /// When the messages were asked.
    pub(crate) fn begun(&self) -> Option<Instant> {
        self.outcomes.as_ref().map(|outcomes| outcomes.begun)
    }

    /// Hands the outcomes over. Returns whom to wake.
    pub(crate) fn complete(mut self, entries: Vec<BatchEntry<A>>) -> Option<Waker> {
        debug_assert_eq!(
            entries.len(),
            self.messages as usize,
            "one-answer-per-batch: all of a batch is answered"
        );
        self.hand_over(entries)
    }

    /// Answers every message of the batch with `outcome`. Returns whom to wake.
    pub(crate) fn refuse(mut self, outcome: impl Fn() -> Outcome<A>) -> Option<Waker> {
        self.hand_over((0..self.messages).map(|_| BatchEntry::Answered(outcome())).collect())
    }

    fn hand_over(&mut self, entries: Vec<BatchEntry<A>>) -> Option<Waker> {
        let outcomes = self.outcomes.take()?;
        let mut state = outcomes.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.parts[self.part as usize] = Some(entries);
        state.missing -= 1;
        if state.missing == 0 { state.waker.take() } else { None }
    }
}

impl<A: Actor> Drop for BatchReply<A> {
    fn drop(&mut self) {
        if self.outcomes.is_some() {
            let entries = (0..self.messages).map(|_| BatchEntry::Answered(Err(AskError::Unknown))).collect();
            if let Some(waker) = self.hand_over(entries) {
                waker.wake();
            }
        }
    }
}
