//! Messages from tasks on a shard: each call is the one of [`Local`] without types.

use freehold_shard::{Actor, MessageOf};

use super::call::{Call, CallOutcome, own};
use crate::api::local::{Local, LocalAsk};
use crate::error::TellError;

impl<A: Actor> Local<A> {
    /// Runs a message for objects of this shard at once, inline: as [`Local::ask_now`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     // With several shards, an account of another is `Elsewhere`.
    ///     assert_eq!(local.call_now(Deposit { account: 7, cents: 5 }), Ok(5));
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Errors
    /// As [`Local::ask_now`].
    ///
    /// # Panics
    /// If it is called from inside `receive`.
    #[inline]
    pub fn call_now<M: MessageOf<A>>(&self, message: M) -> CallOutcome<A, M> {
        own::<A, M>(self.ask_now(&message.into_message()))
    }

    /// Sends a message to its objects, on this shard or another: as [`Local::ask`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     assert_eq!(local.call(Deposit { account: 7, cents: 5 }).await, Ok(5));
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Errors
    /// The outcome is that of [`Local::ask`].
    ///
    /// # Panics
    /// If it is called from inside `receive`.
    pub fn call<M: MessageOf<A>>(&self, message: M) -> Call<A, M, LocalAsk<A>> {
        Call::of(self.ask(message.into_message()))
    }

    /// Sends a message to its objects and waits for nothing: as [`Local::tell`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     local.send(Deposit { account: 7, cents: 5 }).expect("there is room");
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Errors
    /// [`TellError`], with the message, if it could not be sent.
    ///
    /// # Panics
    /// If it is called from inside `receive`.
    pub fn send<M: MessageOf<A>>(&self, message: M) -> Result<(), TellError<M>> {
        self.tell(message.into_message()).map_err(super::handle::own::<A, M>)
    }
}
