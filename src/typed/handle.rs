//! Messages from outside threads: each call is the one of [`Handle`] without types.

use freehold_shard::{Actor, MessageOf};
use futures_core::Stream;

use super::call::{Call, CallAll, CallStream};
use crate::api::ask_waiting::AskWaiting;
use crate::api::handle::Handle;
use crate::error::TellError;

impl<A: Actor> Handle<A> {
    /// Sends a message to its objects: as [`Handle::ask`], and the outcome has the message's own
    /// reply. [`actor!`](crate::actor) has an example.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// assert_eq!(bank.call(Deposit { account: 7, cents: 5 }).wait(), Ok(5));
    /// ```
    ///
    /// # Errors
    /// The outcome is that of [`Handle::ask`].
    #[inline]
    pub fn call<M: MessageOf<A>>(&self, message: M) -> Call<A, M> {
        Call::of(self.ask(message.into_message()))
    }

    /// Sends a message to its objects, and waits for room where there is none: as
    /// [`Handle::ask_waiting`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// use std::time::Duration;
    ///
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// let deposit = bank.call_waiting(Deposit { account: 7, cents: 5 });
    /// // Waits a second at most, for room and for the answer.
    /// assert_eq!(deposit.wait_timeout(Duration::from_secs(1)), Ok(5));
    /// ```
    ///
    /// # Errors
    /// The outcome is that of [`Handle::ask_waiting`].
    pub fn call_waiting<M: MessageOf<A>>(&self, message: M) -> Call<A, M, AskWaiting<A>> {
        Call::of(self.ask_waiting(message.into_message()))
    }

    /// Sends many messages of one type at once: as [`Handle::ask_all`], which takes those of
    /// several.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// let deposits = [1, 2, 3].map(|cents| Deposit { account: 7, cents });
    /// assert_eq!(bank.call_all(deposits).wait(), [Ok(1), Ok(3), Ok(6)]);
    /// ```
    ///
    /// # Errors
    /// Each outcome is its own message's.
    pub fn call_all<M: MessageOf<A>>(&self, messages: impl IntoIterator<Item = M>) -> CallAll<A, M> {
        CallAll::of(self.ask_all(messages.into_iter().map(M::into_message)))
    }

    /// Sends the messages of a stream, which are of one type: as [`Handle::ask_stream`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// use futures::StreamExt;
    ///
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// let deposits = futures::stream::iter(1..=3).map(|cents| Deposit { account: 7, cents });
    /// let balances: Vec<_> = futures::executor::block_on(bank.call_stream(64, deposits).collect());
    /// assert_eq!(balances, [Ok(1), Ok(3), Ok(6)]);
    /// ```
    pub fn call_stream<S: Stream<Item: MessageOf<A>>>(
        &self,
        under_way_max: usize,
        messages: S,
    ) -> CallStream<A, S> {
        CallStream::new(self, under_way_max, messages)
    }

    /// Sends a message to its objects and waits for nothing: as [`Handle::tell`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// bank.send(Deposit { account: 7, cents: 5 }).expect("there is room");
    /// ```
    ///
    /// # Errors
    /// [`TellError`], with the message, if it could not be sent.
    #[inline]
    pub fn send<M: MessageOf<A>>(&self, message: M) -> Result<(), TellError<M>> {
        self.tell(message.into_message()).map_err(own)
    }
}

/// Why a message was not sent, with the message.
pub(super) fn own<A: Actor, M: MessageOf<A>>(error: TellError<A::Message>) -> TellError<M> {
    error.map(|message| M::from_message(message).expect("what comes back is what was sent"))
}
