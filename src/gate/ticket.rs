//! The two ends of a claim's answer: the gate's ticket, and the future of the one who asked.
//!
//! A ticket is answered exactly once. One that is dropped without an answer, by a thread that ends
//! for whatever reason, answers itself by what is true: the claim did not pass, or nobody knows.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use freehold_shard::{Actor, AskError};
use futures_channel::oneshot;

use super::senders::SenderShare;
use super::{GateError, GateOutcome};
use crate::error::panic_message;
use crate::fork::Birth;
use crate::route::{GateCounts, count};
use crate::transport::waiting::{self, Patience};

/// The gate's end.
pub(super) struct Ticket<A: Actor, R> {
    /// `None` once it is answered.
    answer: Option<oneshot::Sender<GateOutcome<A, R>>>,
    is_passed: bool,
    counts: Arc<GateCounts>,
    /// Until it is answered.
    share: Option<SenderShare>,
}

/// Takes a place in the gate; `None` if `claims_max` are in it.
fn enter(waiting: &AtomicU64, claims_max: usize) -> Option<()> {
    let one_more = |waiting| (waiting < claims_max as u64).then_some(waiting + 1);
    waiting.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).ok().map(drop)
}

impl<A: Actor, R> Ticket<A, R> {
    /// Both ends, for a claim that has this part of its sender's share; `None` if `claims_max`
    /// claims are in the gate.
    pub(super) fn new(
        counts: &Arc<GateCounts>,
        claims_max: usize,
        share: SenderShare,
    ) -> Option<(Self, GateAsk<A, R>)> {
        enter(&counts.waiting, claims_max)?;
        let (to, answer) = oneshot::channel();
        let ticket =
            Ticket { answer: Some(to), is_passed: false, counts: counts.clone(), share: Some(share) };
        Some((ticket, GateAsk(Answering::Sent(answer, Birth::now()))))
    }

    /// Whose claim it is, until it is answered.
    pub(super) fn sender(&self) -> Option<u64> {
        self.share.as_ref().map(SenderShare::sender)
    }

    /// From now on its message may run.
    pub(super) fn pass(&mut self) {
        self.is_passed = true;
        count(&self.counts.passed);
    }

    pub(super) fn answer(mut self, outcome: GateOutcome<A, R>) {
        self.answer_once(outcome);
    }

    fn answer_once(&mut self, outcome: GateOutcome<A, R>) {
        let Some(answer) = self.answer.take() else { return };
        // The caller that has its answer finds room for another claim.
        self.counts.waiting.fetch_sub(1, Ordering::AcqRel);
        drop(self.share.take());
        match &outcome {
            _ if self.is_passed => {}
            Err(GateError::Refused(_)) => count(&self.counts.refused),
            Err(GateError::Probe(_)) => count(&self.counts.stale),
            Err(GateError::Panicked(_)) => count(&self.counts.panicked),
            // Counted where it was refused.
            Err(GateError::Overloaded) => {}
            _ => count(&self.counts.stopped),
        }
        // Its caller may not wait any more. Its waker is anyone's code, and this thread has other
        // claims to answer.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(answer.send(outcome)))) {
            tracing::warn!(panic = panic_message(payload), "the waker of a claim's task panicked");
        }
    }
}

impl<A: Actor, R> Drop for Ticket<A, R> {
    fn drop(&mut self) {
        let outcome = if self.is_passed { GateError::Message(AskError::Unknown) } else { GateError::Stopped };
        self.answer_once(Err(outcome));
    }
}

/// The answer to a claim that [`Gate::ask`](crate::Gate::ask) has taken: a future, or a wait.
///
/// Dropping it does not withdraw the claim; its outcome is then dropped.
#[must_use = "the outcome of the claim comes by awaiting this or by `wait`"]
pub struct GateAsk<A: Actor, R>(Answering<A, R>);

enum Answering<A: Actor, R> {
    Sent(oneshot::Receiver<GateOutcome<A, R>>, Birth),
    /// Known when it was asked: the claim is not in the gate.
    Known(GateOutcome<A, R>),
    Done,
}

impl<A: Actor, R> GateAsk<A, R> {
    pub(super) fn known(error: GateError<A::Error, R>) -> Self {
        GateAsk(Answering::Known(Err(error)))
    }

    /// Blocks the calling thread until the outcome is there.
    ///
    /// # Errors
    /// See [`GateError`]. On a shard's thread [`AskError::WaitOnShard`] at once, in a
    /// [`GateError::Message`]: the claim is in the gate all the same.
    pub fn wait(self) -> GateOutcome<A, R> {
        if waiting::on_shard_thread() && matches!(self.0, Answering::Sent(..)) {
            return Err(GateError::Message(AskError::WaitOnShard));
        }
        waiting::block_on(self, Patience::Park)
    }
}

// The outcome is never pinned: it is moved out whole.
impl<A: Actor, R> Unpin for GateAsk<A, R> {}

impl<A: Actor, R> Future for GateAsk<A, R> {
    type Output = GateOutcome<A, R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match std::mem::replace(&mut self.0, Answering::Done) {
            Answering::Known(outcome) => outcome,
            Answering::Sent(_, birth) if birth.is_elsewhere() => Err(GateError::Message(AskError::Unknown)),
            Answering::Sent(..) if waiting::in_receive() => Err(GateError::Message(AskError::WaitOnShard)),
            Answering::Sent(mut answer, birth) => {
                let waker = waiting::keep_here(cx.waker());
                match Pin::new(&mut answer).poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(outcome) => outcome.expect("everyone-is-answered: a ticket answers itself"),
                    Poll::Pending => {
                        self.0 = Answering::Sent(answer, birth);
                        return Poll::Pending;
                    }
                }
            }
            Answering::Done => panic!("a `GateAsk` was polled after it had given its outcome"),
        };
        Poll::Ready(outcome)
    }
}

impl<A: Actor, R> fmt::Debug for GateAsk<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateAsk").finish_non_exhaustive()
    }
}
