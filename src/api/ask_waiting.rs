//! A message that waits for room.
//!
//! A message that has room goes as every ask. One that finds none becomes a batch of its own: that
//! waits for room in the ingress in its future, and needs no reply slot, as its outcome lies in
//! memory of its own. So asks cost nothing for those that wait, and those that wait allocate.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use freehold_shard::{Actor, Outcome};

use crate::api::ask_all::AskAll;
use crate::transport::replies::Ask;
use crate::transport::waiting::Patience;

/// The answer to a message that [`Handle::ask_waiting`](crate::Handle::ask_waiting) has sent, or
/// sends when there is room: a future, or a wait.
///
/// Dropping it does not cancel a message that was sent. A message that still waits for room is then
/// not sent.
#[must_use = "the outcome comes by awaiting this or by `wait`, and the message may not be sent until then"]
pub struct AskWaiting<A: Actor>(WaitState<A>);

enum WaitState<A: Actor> {
    Sent(Ask<A>),
    /// Of one message.
    Waits(AskAll<A>),
}

impl<A: Actor> AskWaiting<A> {
    pub(crate) fn sent(ask: Ask<A>) -> Self {
        AskWaiting(WaitState::Sent(ask))
    }

    pub(crate) fn waits(all: AskAll<A>) -> Self {
        AskWaiting(WaitState::Waits(all))
    }

    /// Whether the message was sent, so that it may run whatever becomes of this, or refused at
    /// once. `false` only while it waits for room.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let deposit = runtime.handle().ask_waiting(Deposit { account: 7, cents: 5 }.into());
    /// assert!(deposit.is_sent(), "there was room");
    /// ```
    pub fn is_sent(&self) -> bool {
        match &self.0 {
            WaitState::Sent(_) => true,
            WaitState::Waits(all) => all.is_sent(),
        }
    }

    /// How a thread that waits for it may wait.
    pub(crate) fn patience(&self) -> Patience {
        match &self.0 {
            WaitState::Sent(ask) => ask.patience(),
            WaitState::Waits(all) => all.patience(),
        }
    }

    /// Blocks the calling thread until there was room and the outcome is there.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let deposit = runtime.handle().ask_waiting(Deposit { account: 7, cents: 5 }.into());
    /// assert!(matches!(deposit.wait(), Ok(Reply::Deposit(5))));
    /// ```
    ///
    /// # Errors
    /// As the message's outcome. On a shard's thread at once
    /// [`AskError::WaitOnShard`](crate::AskError::WaitOnShard) if the message was sent, and
    /// [`AskError::Overloaded`](crate::AskError::Overloaded) if it was not: then it never runs.
    pub fn wait(self) -> Outcome<A> {
        match self.0 {
            WaitState::Sent(ask) => ask.wait(),
            WaitState::Waits(all) => only::<A>(all.wait()),
        }
    }
}

fn only<A: Actor>(mut outcomes: Vec<Outcome<A>>) -> Outcome<A> {
    outcomes.pop().expect("one message was asked")
}

impl<A: Actor> Future for AskWaiting<A> {
    type Output = Outcome<A>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<A>> {
        match &mut self.0 {
            WaitState::Sent(ask) => Pin::new(ask).poll(cx),
            WaitState::Waits(all) => Poll::Ready(only::<A>(ready!(Pin::new(all).poll(cx)))),
        }
    }
}

impl<A: Actor> fmt::Debug for AskWaiting<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskWaiting").field("is_sent", &self.is_sent()).finish_non_exhaustive()
    }
}
