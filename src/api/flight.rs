//! Many asks of one task on a shard, answered as they come.
//!
//! An ask of its own costs a task a future, a waker and a wake. Those of a flight share one of
//! each: what comes back lies in one queue, and the task is woken once for all that a turn brings.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use freehold_shard::{Actor, Outcome, ReturnAddress};
use futures_core::Stream;

use crate::api::local::{Local, Routed};
use crate::error::TellError;

/// Many asks of one task on a shard: a stream of their outcomes as they come, each with the tag
/// that it was asked by. Made by [`Local::flight`].
///
/// The stream ends when nothing is under way, and goes on when more was asked. Dropped, it cancels
/// nothing: what was sent runs.
#[must_use = "outcomes come while the stream is polled"]
pub struct Flight<A: Actor> {
    local: Local<A>,
    number: u32,
    under_way_max: usize,
}

impl<A: Actor> Local<A> {
    /// The fast way for one task to have many messages under way, above all transactions: no task,
    /// future or waker for each. At most `under_way_max` are asked and not taken from the stream.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use futures::StreamExt;
    ///
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let mut flight = local.flight(64);
    ///     let mut deposits = (0..1000).map(|account| Deposit { account, cents: 5 });
    ///     let mut paid = 0;
    ///     loop {
    ///         // As many as may be, and then what has come.
    ///         while flight.has_room() && let Some(deposit) = deposits.next() {
    ///             flight.ask(deposit.account, deposit.into()).expect("there is room");
    ///         }
    ///         let Some((account, outcome)) = flight.next().await else { break };
    ///         assert!(outcome.is_ok(), "{account}");
    ///         paid += 1;
    ///     }
    ///     assert_eq!(paid, 1000);
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    pub fn flight(&self, under_way_max: usize) -> Flight<A> {
        let number = self.here.in_flight.borrow_mut().begin_flight();
        Flight { local: self.clone(), number, under_way_max: under_way_max.max(1) }
    }
}

impl<A: Actor> Flight<A> {
    /// How many were asked and not taken from the stream.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     assert_eq!(local.flight(64).under_way(), 0);
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    pub fn under_way(&self) -> usize {
        self.local.here.in_flight.borrow().len_of_flight(self.number)
    }

    /// Whether one more may be asked.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let mut flight = local.flight(1);
    ///     flight.ask(0, Deposit { account: 7, cents: 5 }.into()).expect("there is room");
    ///     assert!(!flight.has_room());
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    pub fn has_room(&self) -> bool {
        self.under_way() < self.under_way_max
    }

    /// Sends a message to its objects, on this shard or another: as [`Local::ask`]. Its outcome
    /// comes out of the stream, with `tag`. Tags need not differ.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use futures::StreamExt;
    ///
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let mut flight = local.flight(2);
    ///     flight.ask(7, Deposit { account: 7, cents: 5 }.into()).expect("there is room");
    ///     assert!(matches!(flight.next().await, Some((7, Ok(Reply::Deposit(5))))));
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Errors
    /// [`TellError::Overloaded`] with the message if as many are under way as may be, or a queue on
    /// the way is full (`calls_max`, `outbox_messages_max`): take outcomes first. Any other failure
    /// is an outcome.
    ///
    /// # Panics
    /// If it is called from inside `receive`.
    pub fn ask(&mut self, tag: u64, message: A::Message) -> Result<(), TellError<A::Message>> {
        let here = &self.local.here;
        if !self.has_room() || !here.has_room_for_ask() {
            return Err(TellError::Overloaded(message));
        }
        let destination = match self.local.run_or_route(&message) {
            Routed::Done(outcome) => {
                here.answer_flight_when_durable(self.number, tag, outcome);
                return Ok(());
            }
            Routed::To(destination) => destination,
        };
        let Some(call) = here.in_flight.borrow_mut().begin_in_flight(self.number, tag) else {
            return Err(TellError::Overloaded(message));
        };
        let answer_to = ReturnAddress::Shard { shard: here.index, call };
        here.send(destination, self.local.sender, message, answer_to).map_err(|message| {
            here.in_flight.borrow_mut().unsend_in_flight(self.number, call);
            TellError::Overloaded(message)
        })
    }
}

impl<A: Actor> Stream for Flight<A> {
    type Item = (u64, Outcome<A>);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut in_flight = self.local.here.in_flight.borrow_mut();
        match in_flight.poll_flight(self.number, cx.waker()) {
            Some(answer) => Poll::Ready(Some(answer)),
            None if in_flight.len_of_flight(self.number) == 0 => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<A: Actor> Drop for Flight<A> {
    fn drop(&mut self) {
        let dropped = self.local.here.in_flight.borrow_mut().abandon_flight(self.number);
        // What it drops is the user's, and may look at the shard again.
        drop(dropped);
    }
}

impl<A: Actor> fmt::Debug for Flight<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("under_way_max", &self.under_way_max).finish_non_exhaustive()
    }
}
