//! How the outcomes of a batch come back to the one `ask_all` that its messages are of.
//!
//! Invariant *one-answer-per-batch*: a batch travels with its [`Ticket`], and a ticket is redeemed exactly once: with
//! the outcomes, with a refusal, or by being dropped, which answers `Unknown`. So nothing a shard may do with a batch
//! leaves a caller waiting.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Instant;

use freehold_shard::{Actor, AskError, BatchEntry, Outcome};

/// The outcomes of one `ask_all` as they come in.
pub(crate) struct Gather<A: Actor> {
    begun: Instant,
    pub(crate) state: Mutex<GatherState<A>>,
}

pub(crate) struct GatherState<A: Actor> {
    /// By part, in the order the parts were made.
    pub(crate) parts: Vec<Option<Vec<BatchEntry<A>>>>,
    pub(crate) missing: usize,
    pub(crate) waker: Option<Waker>,
}

impl<A: Actor> Gather<A> {
    /// Of messages that are asked now, in so many parts.
    pub(crate) fn new(parts: usize) -> Self {
        let state = GatherState { parts: (0..parts).map(|_| None).collect(), missing: parts, waker: None };
        Gather { begun: Instant::now(), state: Mutex::new(state) }
    }
}

/// The right and the duty to answer one batch.
pub(crate) struct Ticket<A: Actor> {
    /// `None` once redeemed.
    gather: Option<Arc<Gather<A>>>,
    part: u32,
    messages: u32,
}

impl<A: Actor> Ticket<A> {
    /// For this part, of so many messages.
    pub(crate) fn new(gather: Arc<Gather<A>>, part: u32, messages: u32) -> Self {
        Ticket { gather: Some(gather), part, messages }
    }

    /// Which part of the whole its batch is.
    pub(crate) fn part(&self) -> u32 {
        self.part
    }

    /// When the messages were asked.
    pub(crate) fn begun(&self) -> Option<Instant> {
        self.gather.as_ref().map(|gather| gather.begun)
    }

    /// Hands the outcomes over. Returns whom to wake.
    pub(crate) fn redeem(mut self, entries: Vec<BatchEntry<A>>) -> Option<Waker> {
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
        let gather = self.gather.take()?;
        let mut state = gather.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.parts[self.part as usize] = Some(entries);
        state.missing -= 1;
        if state.missing == 0 { state.waker.take() } else { None }
    }
}

impl<A: Actor> Drop for Ticket<A> {
    fn drop(&mut self) {
        if self.gather.is_some() {
            let entries = (0..self.messages).map(|_| BatchEntry::Answered(Err(AskError::Unknown))).collect();
            if let Some(waker) = self.hand_over(entries) {
                waker.wake();
            }
        }
    }
}
