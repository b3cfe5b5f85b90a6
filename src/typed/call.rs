//! Outcomes by type of message: a [`Call`] gives the reply of its own message.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use freehold_shard::{Actor, AskError, MessageOf, Outcome};
use futures_core::Stream;

use crate::api::ask_all::AskAll;
use crate::api::ask_stream::{AskStream, AskStreamAsTheyCome};
use crate::api::deadline::{AskUntil, Blocking, GiveUp};
use crate::api::handle::Handle;
use crate::transport::replies::Ask;

/// What came of a message: its own reply.
pub type CallOutcome<A, M> = Result<<M as MessageOf<A>>::Reply, AskError<<A as Actor>::Error>>;

/// The outcome of a message that [`Handle::call`](crate::Handle::call) and its siblings have sent:
/// a future, or a wait. Dropping it cancels what dropping the `F` in it cancels: nothing that was
/// sent.
///
/// `F` says how it was sent, and has the outcome of the actor's message: [`Ask`],
/// [`AskWaiting`](crate::AskWaiting), [`LocalAsk`](crate::LocalAsk) or one of them with a deadline,
/// [`AskUntil`].
#[must_use = "the message is sent, and its outcome comes by awaiting this or by `wait`; to send without an answer use `send`"]
pub struct Call<A: Actor, M, F = Ask<A>> {
    ask: F,
    message: PhantomData<fn(M) -> A>,
}

impl<A: Actor, M: MessageOf<A>, F> Call<A, M, F> {
    pub(super) fn of(ask: F) -> Self {
        Call { ask, message: PhantomData }
    }

    /// Blocks the calling thread until the outcome is there.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let deposit = runtime.handle().call(Deposit { account: 7, cents: 5 });
    /// assert_eq!(deposit.wait(), Ok(5));
    /// ```
    ///
    /// # Errors
    /// The message's own. On a shard's thread [`AskError::WaitOnShard`] at once, as
    /// [`Ask::wait`].
    pub fn wait(self) -> CallOutcome<A, M>
    where
        F: Blocking<Actor = A>,
    {
        own::<A, M>(self.ask.block())
    }

    /// Blocks the calling thread until the outcome is there, and no longer than `timeout`.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use std::time::Duration;
    ///
    /// use freehold::AskError;
    ///
    /// let runtime = start();
    /// let deposit = runtime.handle().call(Deposit { account: 7, cents: 5 });
    /// match deposit.wait_timeout(Duration::from_secs(1)) {
    ///     Err(AskError::TimedOut) => println!("it was sent, and may have run or still run"),
    ///     outcome => assert_eq!(outcome, Ok(5)),
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Call::wait`]; after `timeout` as [`Ask::wait_timeout`].
    pub fn wait_timeout(self, timeout: Duration) -> CallOutcome<A, M>
    where
        F: Blocking<Actor = A>,
    {
        own::<A, M>(self.ask.block_for(timeout))
    }

    /// The same call, with a deadline: see [`Ask::until`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// use std::time::Duration;
    ///
    /// # let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # tokio.block_on(async {
    /// let runtime = start();
    /// let deposit = runtime.handle().call(Deposit { account: 7, cents: 5 });
    /// let deadline = tokio::time::sleep(Duration::from_secs(1));
    /// assert_eq!(deposit.until(deadline).await, Ok(5));
    /// # });
    /// ```
    pub fn until<D: Future>(self, deadline: D) -> Call<A, M, AskUntil<F, D>>
    where
        F: GiveUp<Actor = A>,
    {
        Call::of(AskUntil::new(self.ask, deadline))
    }
}

// Nothing is pinned but by what an `F` that is `Unpin` pins itself.
impl<A: Actor, M, F: Unpin> Unpin for Call<A, M, F> {}

impl<A: Actor, M: MessageOf<A>, F: Future<Output = Outcome<A>> + Unpin> Future for Call<A, M, F> {
    type Output = CallOutcome<A, M>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(own::<A, M>(ready!(Pin::new(&mut self.ask).poll(cx))))
    }
}

impl<A: Actor, M, F> fmt::Debug for Call<A, M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

/// The outcomes of the messages that [`Handle::call_all`](crate::Handle::call_all) has sent, in
/// their order: a future, or a wait. It is an [`AskAll`], and when dropped does as that.
#[must_use = "the outcomes come by awaiting this or by `wait`, and a part may not be sent until then"]
pub struct CallAll<A: Actor, M> {
    all: AskAll<A>,
    message: PhantomData<fn(M) -> A>,
}

impl<A: Actor, M: MessageOf<A>> CallAll<A, M> {
    pub(super) fn of(all: AskAll<A>) -> Self {
        CallAll { all, message: PhantomData }
    }

    /// Blocks the calling thread until all outcomes are there.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let deposits = runtime.handle().call_all([1, 2].map(|cents| Deposit { account: 7, cents }));
    /// assert_eq!(deposits.wait(), [Ok(1), Ok(3)]);
    /// ```
    ///
    /// # Errors
    /// As [`AskAll::wait`].
    pub fn wait(self) -> Vec<CallOutcome<A, M>> {
        self.all.wait().into_iter().map(own::<A, M>).collect()
    }
}

impl<A: Actor, M> Unpin for CallAll<A, M> {}

impl<A: Actor, M: MessageOf<A>> Future for CallAll<A, M> {
    type Output = Vec<CallOutcome<A, M>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcomes = ready!(Pin::new(&mut self.all).poll(cx));
        Poll::Ready(outcomes.into_iter().map(own::<A, M>).collect())
    }
}

impl<A: Actor, M> fmt::Debug for CallAll<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallAll").finish_non_exhaustive()
    }
}

/// The outcomes of a stream's messages, made by [`Handle::call_stream`](crate::Handle::call_stream).
/// It is an [`AskStream`], and when dropped does as that.
#[must_use = "messages are taken and sent while the outcomes are awaited"]
pub struct CallStream<A: Actor, S> {
    stream: AskStream<A, IntoMessages<A, S>>,
}

impl<A: Actor, S: Stream<Item: MessageOf<A>>> CallStream<A, S> {
    pub(super) fn new(handle: &Handle<A>, under_way_max: usize, messages: S) -> Self {
        let messages = IntoMessages { messages: Box::pin(messages), actor: PhantomData };
        CallStream { stream: handle.ask_stream(under_way_max, messages) }
    }

    /// The same outcomes as they come, each with the number of its message, from 0 on: as
    /// [`AskStream::as_they_come`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// use futures::StreamExt;
    ///
    /// let runtime = start();
    /// let deposits = futures::stream::iter(0..100).map(|account| Deposit { account, cents: account });
    /// let outcomes = runtime.handle().call_stream(64, deposits).as_they_come();
    /// let balances: Vec<_> = futures::executor::block_on(outcomes.collect());
    /// assert!(balances.len() == 100 && balances.into_iter().all(|(number, cents)| cents == Ok(number)));
    /// ```
    pub fn as_they_come(self) -> CallStreamAsTheyCome<A, S> {
        CallStreamAsTheyCome { stream: self.stream.as_they_come() }
    }
}

/// The outcomes of a stream's messages as they come, each with the number of its message; made by
/// [`CallStream::as_they_come`]. When dropped it does as [`AskStream`].
#[must_use = "messages are taken and sent while the outcomes are awaited"]
pub struct CallStreamAsTheyCome<A: Actor, S> {
    stream: AskStreamAsTheyCome<A, IntoMessages<A, S>>,
}

impl<A: Actor, S: Stream<Item: MessageOf<A>>> Stream for CallStreamAsTheyCome<A, S> {
    type Item = (u64, CallOutcome<A, S::Item>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let numbered = ready!(Pin::new(&mut self.stream).poll_next(cx));
        Poll::Ready(numbered.map(|(number, outcome)| (number, own::<A, S::Item>(outcome))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

impl<A: Actor, S> fmt::Debug for CallStreamAsTheyCome<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallStreamAsTheyCome").finish_non_exhaustive()
    }
}

impl<A: Actor, S: Stream<Item: MessageOf<A>>> Stream for CallStream<A, S> {
    type Item = CallOutcome<A, S::Item>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let outcome = ready!(Pin::new(&mut self.stream).poll_next(cx));
        Poll::Ready(outcome.map(own::<A, S::Item>))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

impl<A: Actor, S> fmt::Debug for CallStream<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallStream").finish_non_exhaustive()
    }
}

/// A stream of messages of one type, as the actor's messages.
struct IntoMessages<A, S> {
    messages: Pin<Box<S>>,
    actor: PhantomData<fn() -> A>,
}

impl<A: Actor, S: Stream<Item: MessageOf<A>>> Stream for IntoMessages<A, S> {
    type Item = A::Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<A::Message>> {
        let message = ready!(self.messages.as_mut().poll_next(cx));
        Poll::Ready(message.map(MessageOf::into_message))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.messages.size_hint()
    }
}

/// The outcome of a message, with the message's own reply.
#[inline]
pub(super) fn own<A: Actor, M: MessageOf<A>>(outcome: Outcome<A>) -> CallOutcome<A, M> {
    outcome.map(|reply| M::from_reply(reply).expect("`actor!` answers a message with its own reply"))
}
