//! The way in for tasks on a shard: no queue and no lock between a task and the objects of its own
//! shard.
//!
//! A task and the pump of its shard run on one thread and share the shard in a `RefCell`. Neither
//! holds it across an `await`, so it is free whenever a task runs; the one way to find it taken is
//! to call in here from inside `receive`, which is a bug that panics with a clear sentence (and,
//! being in `receive`, undoes that message and nothing else).

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use freehold_shard::{Actor, AskError, Destination, Outcome, OwnerId, ReturnAddress, ShardIndex};

use crate::api::handle::Handle;
use crate::api::snapshot::{self, Snapshot, SnapshotRead};
use crate::core::LocalShard;
use crate::core::jobs::{JobStep, Wait, job};
use crate::core::tasks::Stopping;
use crate::error::{TaskError, TellError};
use crate::transport::each_shard::EachShard;

/// A task's way to the objects, from the thread of a shard. Cheap to clone; it stays on its thread.
///
/// See [`Runtime::on_each_shard`](crate::Runtime::on_each_shard) for where it comes from.
pub struct Local<A: Actor> {
    pub(super) here: Rc<LocalShard<A>>,
    pub(super) sender: OwnerId,
}

impl<A: Actor> Local<A> {
    pub(crate) fn new(here: Rc<LocalShard<A>>) -> Self {
        Local { here, sender: OwnerId::default() }
    }

    /// The shard this is.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     println!("a task on {}", local.shard());
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    pub fn shard(&self) -> ShardIndex {
        self.here.index
    }

    /// How many shards the runtime has.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     assert_eq!(local.shards(), 1);
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    pub fn shards(&self) -> usize {
        self.here.shared.router.shards()
    }

    /// The shard that owns the object `id`, whether it exists or not.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     if local.home(&Id::Account(7)) == local.shard() {
    ///         local.call_now(Deposit { account: 7, cents: 5 }).unwrap();
    ///     }
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    #[inline]
    pub fn home(&self, id: &A::Id) -> ShardIndex {
        self.here.shared.router.home(id)
    }

    /// The same `Local`, for messages sent as `owner`.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let one = local.sending_as(freehold::OwnerId(1));
    ///     assert_eq!(one.call_now(Deposit { account: 7, cents: 5 }), Ok(5));
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    pub fn sending_as(&self, owner: OwnerId) -> Local<A> {
        Local { here: self.here.clone(), sender: owner }
    }

    /// A handle for other threads, which sends as this one does.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let handle = local.handle();
    ///     std::thread::spawn(move || handle.call(Deposit { account: 7, cents: 5 }).wait());
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    pub fn handle(&self) -> Handle<A> {
        Handle::new(self.here.shared.clone()).sending_as(self.sender)
    }

    /// Opens a snapshot of all objects of all shards: as [`Handle::snapshot`], and to be awaited
    /// here.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let snapshot = local.snapshot().await.unwrap();
    ///     assert_eq!(snapshot.read::<Account>(7).await, Ok(None));
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    pub fn snapshot(&self) -> SnapshotRead<Snapshot<A>> {
        snapshot::open(&self.here.shared)
    }

    /// The latest state of the object `id`, if it is `Shared` or `Immutable`: as
    /// [`Handle::published`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     assert!(local.published(&Id::Account(7)).is_none());
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    pub fn published(&self, id: &A::Id) -> Option<Arc<A::State>> {
        self.here.shared.published(id)
    }

    /// Runs a message for objects of this shard at once, inline: no queue, no future, no
    /// allocation.
    ///
    /// With a log, what it did is not durable yet when this returns, whatever [`Ack`](crate::Ack)
    /// says: use [`Local::ask`], or [`Local::durable`] before telling others of it.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let outcome = local.ask_now(&Deposit { account: 7, cents: 5 }.into());
    ///     assert!(matches!(outcome, Ok(Reply::Deposit(5))));
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Errors
    /// [`AskError::Elsewhere`] for objects of another shard: use [`Local::ask`]. The others are the
    /// message's own, and after any of them nothing has changed.
    ///
    /// # Panics
    /// If it is called from inside `receive`.
    #[inline]
    pub fn ask_now(&self, message: &A::Message) -> Outcome<A> {
        self.here.ask_now(self.sender, message)
    }

    /// Tells the processor of messages that [`Local::ask_now`] will run next: what it then reads
    /// from memory it reads for many of them at once, and not for one after the other. Worth it for
    /// some 8 to 32 messages at hand, if the shard's objects do not fit its caches; if they do this
    /// does nothing. It is a hint: messages may come in another order, be asked in another way, or
    /// not come.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let messages: Vec<Message> = (0..16).map(|account| Deposit { account, cents: 5 }.into()).collect();
    ///     local.prefetch(&messages);
    ///     for message in &messages {
    ///         assert!(local.ask_now(message).is_ok());
    ///     }
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Panics
    /// If it is called from inside `receive`, or if what gives the messages uses this `Local`.
    pub fn prefetch<'m>(&self, messages: impl IntoIterator<Item = &'m A::Message>)
    where
        A::Message: 'm,
    {
        self.here.prefetch(messages);
    }

    /// Sends a message to its objects, on this shard or another, and gives the outcome as a future.
    /// For objects of this shard it has run when this returns; to another shard it is sent then.
    /// Dropping the future cancels nothing.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let outcome = local.ask(Deposit { account: 7, cents: 5 }.into()).await;
    ///     assert!(matches!(outcome, Ok(Reply::Deposit(5))));
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Panics
    /// If it is called from inside `receive`.
    pub fn ask(&self, message: A::Message) -> LocalAsk<A> {
        // An answer that has to wait for the disk is of an ask in flight, too: there is room for
        // it, or the message does not run.
        if self.here.shared.logs.is_some() && !self.here.has_room_for_ask() {
            return LocalAsk { state: LocalAskState::Known(Err(AskError::Overloaded)) };
        }
        let destination = match self.run_or_route(&message) {
            Routed::Done(outcome) => {
                let state = match self.here.answer_when_durable(outcome) {
                    Ok(outcome) => LocalAskState::Known(outcome),
                    Err(call) => LocalAskState::Sent { here: self.here.clone(), call },
                };
                return LocalAsk { state };
            }
            Routed::To(destination) => destination,
        };
        let Some(call) = self.here.in_flight.borrow_mut().begin() else {
            return LocalAsk { state: LocalAskState::Known(Err(AskError::Overloaded)) };
        };
        let answer_to = ReturnAddress::Shard { shard: self.here.index, call };
        let state = match self.here.send(destination, self.sender, message, answer_to) {
            Ok(()) => LocalAskState::Sent { here: self.here.clone(), call },
            Err(_) => {
                self.here.in_flight.borrow_mut().unsend(call);
                LocalAskState::Known(Err(AskError::Overloaded))
            }
        };
        LocalAsk { state }
    }

    /// Sends a message to its objects, on this shard or another, and waits for nothing. For objects
    /// of this shard it has run when this returns.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     local.tell(Deposit { account: 7, cents: 5 }.into()).expect("there is room");
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Errors
    /// [`TellError`], with the message, if it could not be sent. How it ends where it runs, nobody
    /// hears.
    ///
    /// # Panics
    /// If it is called from inside `receive`.
    pub fn tell(&self, message: A::Message) -> Result<(), TellError<A::Message>> {
        let destination = match self.run_or_route(&message) {
            Routed::Done(Err(AskError::Stopped)) => return Err(TellError::Stopped(message)),
            Routed::Done(Err(AskError::Unaddressed)) => return Err(TellError::Unaddressed(message)),
            // Whoever tells does not ask how it ends.
            Routed::Done(_) => return Ok(()),
            Routed::To(destination) => destination,
        };
        self.here
            .send(destination, self.sender, message, ReturnAddress::Nobody)
            .map_err(TellError::Overloaded)
    }

    /// Runs a message for objects of this shard at once, if that can be; otherwise says where to
    /// send it.
    pub(super) fn run_or_route(&self, message: &A::Message) -> Routed<A> {
        if self.here.has_left() {
            return Routed::Done(Err(AskError::Stopped));
        }
        let destination =
            self.here.shared.router.destination::<A>(message, &mut self.here.scratch.borrow_mut());
        match destination {
            Destination::Nowhere => Routed::Done(Err(AskError::Unaddressed)),
            // What was sent to the shard itself before is not overtaken.
            Destination::One(home) if home == self.here.index && !self.here.has_sent_itself() => {
                match self.ask_now(message) {
                    // A transaction holds an object, or one is shared: the message becomes a
                    // transaction in the shard.
                    Err(AskError::Busy) => Routed::To(destination),
                    outcome => Routed::Done(outcome),
                }
            }
            Destination::One(_) | Destination::Several(_) => Routed::To(destination),
        }
    }

    /// Ready when everything this shard has run so far is on disk, with everything it depends on;
    /// at once without a log.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     local.call_now(Deposit { account: 7, cents: 5 }).unwrap();
    ///     // Without a log it is ready at once.
    ///     local.durable().await.unwrap();
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Errors
    /// [`TaskError::Cancelled`] if the runtime stopped or died before;
    /// [`TaskError::Overloaded`] at once if `jobs_max` wait on this shard already.
    pub fn durable(&self) -> impl Future<Output = Result<(), TaskError>> + use<A> {
        let need = self.here.with_core(|shard, _| shard.shown());
        let (each, reporters) = EachShard::new(1);
        for reporter in reporters {
            match self.here.mailbox().permit(self.here.shared.config.jobs_max) {
                Some(permit) => self.here.enqueue(job(permit, reporter, move |shard| {
                    if shard.want_durable(need) {
                        JobStep::Done(())
                    } else {
                        JobStep::Waits(Wait::Durable(need))
                    }
                })),
                None => reporter.report(Err(TaskError::Overloaded)),
            }
        }
        async move { each.await.pop().expect("one shard was asked") }
    }

    /// Ready when the runtime begins to stop. A task that serves for ever waits for it beside its
    /// work.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// runtime.on_each_shard(|local| async move {
    ///     local.stopping().await;
    ///     println!("{} goes", local.shard());
    /// });
    /// runtime.shutdown();
    /// ```
    pub fn stopping(&self) -> Stopping {
        Stopping::new(self.here.tasks.clone())
    }

    /// Runs a task on this shard, beside its messages. If it panics it ends, and is counted; the
    /// shard lives on. If it has not finished some time after the runtime began to stop
    /// (`tasks_grace`), it is cancelled.
    ///
    /// Prefer this to `glommio::spawn_local`: a panic in a task spawned past the runtime takes the
    /// runtime down.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let done = runtime.on_each_shard(|local| async move {
    ///     let task = local.clone();
    ///     local.spawn(async move {
    ///         task.call(Deposit { account: 7, cents: 5 }).await.unwrap();
    ///     });
    /// });
    /// assert!(done.wait().iter().all(Result::is_ok));
    /// ```
    #[track_caller]
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.here.spawn_watched(Location::caller(), future, |_| {});
    }
}

/// What became of a message of a task.
pub(super) enum Routed<A: Actor> {
    /// It has run here, or will not run anywhere.
    Done(Outcome<A>),
    To(Destination),
}

impl<A: Actor> Clone for Local<A> {
    fn clone(&self) -> Self {
        Local { here: self.here.clone(), sender: self.sender }
    }
}

impl<A: Actor> fmt::Debug for Local<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("shard", &self.here.index)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

/// The outcome of a message that [`Local::ask`] has sent. Dropping it cancels nothing.
#[must_use = "the message is sent, and its outcome comes by awaiting this; to send without an answer use `tell`"]
pub struct LocalAsk<A: Actor> {
    state: LocalAskState<A>,
}

enum LocalAskState<A: Actor> {
    Sent { here: Rc<LocalShard<A>>, call: u32 },
    Known(Outcome<A>),
    Done,
}

// The outcome is never pinned: it is moved out whole.
impl<A: Actor> Unpin for LocalAsk<A> {}

impl<A: Actor> Future for LocalAsk<A> {
    type Output = Outcome<A>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<A>> {
        if let LocalAskState::Sent { here, call } = &self.state {
            let outcome = here.in_flight.borrow_mut().poll(*call, cx.waker());
            let Some(outcome) = outcome else { return Poll::Pending };
            self.state = LocalAskState::Done;
            return Poll::Ready(outcome);
        }
        match std::mem::replace(&mut self.state, LocalAskState::Done) {
            LocalAskState::Known(outcome) => Poll::Ready(outcome),
            _ => panic!("a `LocalAsk` was polled after it had given its outcome"),
        }
    }
}

impl<A: Actor> Drop for LocalAsk<A> {
    fn drop(&mut self) {
        if let LocalAskState::Sent { here, call } = &self.state {
            let unread = here.in_flight.borrow_mut().abandon(*call);
            // A reply's own `Drop` may do anything, so it comes when nothing is borrowed.
            drop(unread);
        }
    }
}

impl<A: Actor> fmt::Debug for LocalAsk<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAsk").finish_non_exhaustive()
    }
}
