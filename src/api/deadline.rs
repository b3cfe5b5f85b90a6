//! Deadlines of asks: what is known of a message when its asker stops to wait.
//!
//! An asker that waits no longer is told one of two things. The message was not sent, so it never
//! runs: [`AskError::Overloaded`], for room did not come in time. Or it was sent, and may have run
//! or still run: [`AskError::TimedOut`]. An outcome that is there when the deadline passes counts.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use freehold_shard::{Actor, AskError, Outcome};

use crate::api::ask_waiting::AskWaiting;
use crate::api::local::LocalAsk;
use crate::transport::replies::Ask;
use crate::transport::waiting::{self, Patience};

/// An ask that can be given up.
pub trait GiveUp: Future<Output = Outcome<Self::Actor>> + Unpin + Sized {
    /// Of which actor the ask is.
    type Actor: Actor;

    /// The outcome of an ask whose asker waits no longer.
    fn give_up(self) -> Outcome<Self::Actor>;
}

/// An ask that a thread may wait for.
pub trait Blocking: GiveUp {
    /// Waits until the outcome is there.
    fn block(self) -> Outcome<Self::Actor>;

    /// Waits until the outcome is there, and no longer than `timeout`.
    fn block_for(self, timeout: Duration) -> Outcome<Self::Actor>;
}

impl<A: Actor> GiveUp for Ask<A> {
    type Actor = A;

    fn give_up(self) -> Outcome<A> {
        Err(AskError::TimedOut)
    }
}

impl<A: Actor> Blocking for Ask<A> {
    fn block(self) -> Outcome<A> {
        self.wait()
    }

    fn block_for(self, timeout: Duration) -> Outcome<A> {
        self.wait_timeout(timeout)
    }
}

impl<A: Actor> GiveUp for AskWaiting<A> {
    type Actor = A;

    fn give_up(self) -> Outcome<A> {
        Err(if self.is_sent() { AskError::TimedOut } else { AskError::Overloaded })
    }
}

impl<A: Actor> Blocking for AskWaiting<A> {
    fn block(self) -> Outcome<A> {
        self.wait()
    }

    fn block_for(self, timeout: Duration) -> Outcome<A> {
        self.wait_timeout(timeout)
    }
}

impl<A: Actor> GiveUp for LocalAsk<A> {
    type Actor = A;

    fn give_up(self) -> Outcome<A> {
        Err(AskError::TimedOut)
    }
}

/// Blocks the calling thread, which is no shard's, until the outcome is there, and no longer than
/// `timeout`.
fn wait_for<F: GiveUp>(mut ask: F, patience: Patience, timeout: Duration) -> Outcome<F::Actor> {
    // A timeout that no clock reaches is none.
    let Some(deadline) = Instant::now().checked_add(timeout) else {
        return waiting::block_on(ask, patience);
    };
    match waiting::block_on_until(&mut ask, patience, deadline) {
        Some(outcome) => outcome,
        None => ask.give_up(),
    }
}

impl<A: Actor> Ask<A> {
    /// The same ask, with a deadline: any future, such as a timer of the executor that awaits this.
    /// The deadline is boxed: one allocation.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn ask<A: freehold::Actor>(handle: freehold::Handle<A>, message: A::Message) {
    /// use freehold::AskError;
    ///
    /// match handle.ask(message).until(tokio::time::sleep(Duration::from_millis(20))).await {
    ///     Err(AskError::TimedOut) => println!("it was sent, and may have run or still run"),
    ///     outcome => println!("it ran: {}", outcome.is_ok()),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AskError::TimedOut`] if the deadline passes before the outcome is there. The message was
    /// sent: it may have run, or may still run.
    pub fn until<D: Future>(self, deadline: D) -> AskUntil<Ask<A>, D> {
        AskUntil::new(self, deadline)
    }

    /// Blocks the calling thread until the outcome is there, and no longer than `timeout`.
    ///
    /// ```no_run
    /// # fn ask<A: freehold::Actor>(handle: freehold::Handle<A>, message: A::Message) {
    /// use std::time::Duration;
    ///
    /// let outcome = handle.ask(message).wait_timeout(Duration::from_secs(1));
    /// # drop(outcome);
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Ask::wait`]; after `timeout` [`AskError::TimedOut`]. The message was sent: it may have
    /// run, or may still run.
    pub fn wait_timeout(self, timeout: Duration) -> Outcome<A> {
        let patience = self.patience();
        if waiting::on_shard_thread() { self.wait() } else { wait_for(self, patience, timeout) }
    }
}

impl<A: Actor> LocalAsk<A> {
    /// The same ask, with a deadline: as [`Ask::until`], by a timer of
    /// [`glommio`].
    ///
    /// ```no_run
    /// # async fn ask<A: freehold::Actor>(local: freehold::Local<A>, message: A::Message) {
    /// use std::time::Duration;
    ///
    /// use freehold::glommio::timer::sleep;
    ///
    /// let outcome = local.ask(message).until(sleep(Duration::from_millis(20))).await;
    /// # drop(outcome);
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Ask::until`].
    pub fn until<D: Future>(self, deadline: D) -> AskUntil<LocalAsk<A>, D> {
        AskUntil::new(self, deadline)
    }
}

impl<A: Actor> AskWaiting<A> {
    /// The same ask, with a deadline: as [`Ask::until`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// use freehold::AskError;
    ///
    /// let runtime = start();
    /// let deposit = runtime.handle().ask_waiting(Deposit { account: 7, cents: 5 }.into());
    /// // A deadline that has passed already.
    /// match futures::executor::block_on(deposit.until(std::future::ready(()))) {
    ///     Err(AskError::Overloaded) => println!("it was never sent"),
    ///     Err(AskError::TimedOut) => println!("it was sent, and may have run or still run"),
    ///     outcome => assert!(outcome.is_ok()),
    /// }
    /// ```
    ///
    /// # Errors
    /// [`AskError::Overloaded`] if the deadline passes before there was room: the message was not
    /// sent, and never runs. [`AskError::TimedOut`] if it was sent: it may have run, or may still
    /// run.
    pub fn until<D: Future>(self, deadline: D) -> AskUntil<AskWaiting<A>, D> {
        AskUntil::new(self, deadline)
    }

    /// Blocks the calling thread until the outcome is there, and no longer than `timeout`.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use std::time::Duration;
    ///
    /// let runtime = start();
    /// let deposit = runtime.handle().ask_waiting(Deposit { account: 7, cents: 5 }.into());
    /// assert!(deposit.wait_timeout(Duration::from_secs(10)).is_ok());
    /// ```
    ///
    /// # Errors
    /// As [`AskWaiting::wait`]; after `timeout` as [`AskWaiting::until`].
    pub fn wait_timeout(self, timeout: Duration) -> Outcome<A> {
        let patience = self.patience();
        if waiting::on_shard_thread() { self.wait() } else { wait_for(self, patience, timeout) }
    }
}

/// An ask with a deadline, made by [`Ask::until`] and its siblings.
#[must_use = "the outcome comes by awaiting this"]
pub struct AskUntil<F, D> {
    /// `None` once the outcome was given.
    ask: Option<F>,
    deadline: Pin<Box<D>>,
}

impl<F, D: Future> AskUntil<F, D> {
    pub(crate) fn new(ask: F, deadline: D) -> Self {
        AskUntil { ask: Some(ask), deadline: Box::pin(deadline) }
    }
}

// The ask is not pinned, and the deadline is pinned where it is.
impl<F: Unpin, D> Unpin for AskUntil<F, D> {}

impl<F: GiveUp, D: Future> Future for AskUntil<F, D> {
    type Output = Outcome<F::Actor>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ask = self.ask.as_mut().expect("an ask is not polled after it has given its outcome");
        if let Poll::Ready(outcome) = Pin::new(ask).poll(cx) {
            self.ask = None;
            return Poll::Ready(outcome);
        }
        if self.deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(self.ask.take().expect("it was polled a moment ago").give_up())
    }
}

impl<F, D> fmt::Debug for AskUntil<F, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskUntil").finish_non_exhaustive()
    }
}
