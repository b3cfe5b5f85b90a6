//! The way in for outside threads: ask, ask all, tell, snapshots, and reads of what is published.
//!
//! A handle finds a message's home on the caller's thread and puts it in front of that shard.
//! Nothing here waits (but a read of what is just being published, for a few steps of the
//! publisher). What finds no room is refused with `Overloaded`; only what `ask_all`, `ask_waiting`
//! and `ask_stream` send waits, in their futures. Messages of one thread to one object keep their
//! order, whichever of the calls sent them, as long as they are sent through handles (a task's
//! [`Local`](crate::Local) is another way, and overtakes) and what waits before them has found
//! room.

use std::fmt;
use std::sync::Arc;

use freehold_shard::{
    Actor, Addressees, AskError, Destination, Envelope, OwnerId, ReturnAddress, ShardIndex,
};
use futures_core::Stream;

use crate::api::ask_all::AskAll;
use crate::api::ask_stream::AskStream;
use crate::api::ask_waiting::AskWaiting;
use crate::api::snapshot::{self, Snapshot, SnapshotRead};
use crate::api::watch::Watch;
use crate::core::shared::Shared;
use crate::error::{TellError, WatchError};
use crate::stats::{AnswerPath, Stats};
use crate::transport::mailbox::Ingress;
use crate::transport::replies::Ask;
use crate::transport::waiting;

/// The way to the objects from any thread and any executor. Cheap to clone; lives as long as you
/// like: after the runtime has stopped every message is answered [`AskError::Stopped`].
pub struct Handle<A: Actor> {
    shared: Arc<Shared<A>>,
    sender: OwnerId,
}

impl<A: Actor> Handle<A> {
    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared<A> {
        &self.shared
    }

    pub(crate) fn new(shared: Arc<Shared<A>>) -> Self {
        Handle { shared, sender: OwnerId::default() }
    }

    /// Sends a message to its objects. It is on its way when this returns; the outcome comes by
    /// awaiting what is returned, or by its [`wait`](Ask::wait).
    ///
    /// ```
    /// # use freehold_example::*;
    /// use freehold::Outcome;
    ///
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// // `call` gives the message's own reply; `ask` is the layer beneath.
    /// let outcome: Outcome<Bank> = bank.ask(Deposit { account: 7, cents: 5 }.into()).wait();
    /// assert!(matches!(outcome, Ok(Reply::Deposit(5))));
    /// ```
    ///
    /// # Errors
    /// The outcome is [`AskError::Overloaded`] if the shard's ingress is full
    /// (`ingress_entries_max`) or too many asks are in flight (`asks_in_flight_max`), and
    /// [`AskError::Stopped`] once the runtime stops. Neither ran. The others are the message's own.
    #[inline]
    pub fn ask(&self, message: A::Message) -> Ask<A> {
        match self.ask_if_room(message) {
            Ok(ask) => ask,
            Err((_, home)) => {
                self.shared.mailboxes[home.index()].count_overloaded();
                Ask::known(Err(AskError::Overloaded))
            }
        }
    }

    /// Sends a message to its objects, and waits for room where there is none: for programs that
    /// have a bound of their own on what is under way, such as an HTTP service. It is on its way
    /// when this returns, if there is room; otherwise it is sent while the outcome is awaited.
    /// Dropped before that, it is not sent.
    ///
    /// A message that waits keeps no place: room goes to the first who looks. It waits in its
    /// future, whose memory is the caller's, so as many may wait as the program lets.
    ///
    /// ```no_run
    /// # async fn ask<A: freehold::Actor>(handle: freehold::Handle<A>, message: A::Message) {
    /// use std::time::Duration;
    ///
    /// use freehold::AskError;
    ///
    /// // Waits for room and for the answer, two seconds in all.
    /// match handle.ask_waiting(message).until(tokio::time::sleep(Duration::from_secs(2))).await {
    ///     Err(AskError::Overloaded) => println!("it was never sent"),
    ///     Err(AskError::TimedOut) => println!("it was sent, and may have run or still run"),
    ///     outcome => println!("it ran: {}", outcome.is_ok()),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// The outcome is that of [`Handle::ask`]. [`AskError::Overloaded`] says that it was never
    /// sent: its deadline came first, or it may not wait, on a shard's thread or inside `receive`.
    pub fn ask_waiting(&self, message: A::Message) -> AskWaiting<A> {
        match self.ask_if_room(message) {
            Ok(ask) => AskWaiting::sent(ask),
            Err((message, _)) => AskWaiting::waits(AskAll::send(self.shared.clone(), self.sender, [message])),
        }
    }

    /// Sends a message, or gives it back with its home if there is no room.
    #[inline(always)]
    fn ask_if_room(&self, message: A::Message) -> Result<Ask<A>, (A::Message, ShardIndex)> {
        let shared = &*self.shared;
        if !shared.is_open() {
            return Ok(Ask::known(Err(AskError::Stopped)));
        }
        let (home, path) = match self.destination(&message) {
            Destination::One(home) => (home, AnswerPath::Fast),
            Destination::Several(home) => (home, AnswerPath::Consensus),
            Destination::Nowhere => return Ok(Ask::known(Err(AskError::Unaddressed))),
        };
        let mailbox = &shared.mailboxes[home.index()];
        let Some(claim) = shared.replies.claim(path) else { return Err((message, home)) };
        let answer_to = ReturnAddress::Outside { slot: claim.slot, generation: claim.generation };
        let envelope = Envelope::Message { message, sender: self.sender, answer_to };
        match mailbox.put(Ingress::One(envelope, 0)) {
            Ok(()) => {
                mailbox.notify(&shared.replies);
                Ok(Ask::sent(shared.replies.clone(), claim))
            }
            Err(Ingress::One(Envelope::Message { message, .. }, _)) => {
                shared.replies.unclaim(claim);
                Err((message, home))
            }
            Err(_) => unreachable!("what comes back is what was put in"),
        }
    }

    /// Sends many messages at once, one batch to each shard that is concerned, and gives their
    /// outcomes in the order of the messages. By far the cheapest way to send many: what is
    /// allocated and what passes between threads grows with the shards and not with the messages.
    ///
    /// What has room is on its way when this returns. If a shard's ingress is full, the rest for
    /// that shard is sent while the outcome is awaited: this call does not say `Overloaded`, it
    /// waits.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// let deposits = [1, 2, 3].map(|account| Deposit { account, cents: 5 }.into());
    /// assert!(bank.ask_all(deposits).wait().iter().all(Result::is_ok));
    /// ```
    ///
    /// # Errors
    /// Each outcome is its own message's: one refused message does not stop the others.
    pub fn ask_all(&self, messages: impl IntoIterator<Item = A::Message>) -> AskAll<A> {
        AskAll::send(self.shared.clone(), self.sender, messages)
    }

    /// Sends the messages of a stream, of which at most `under_way_max` (at least 1) are under way
    /// at a time. What comes is a stream of their outcomes, in the order of the messages. Those
    /// that are ready together are sent together, as by [`Handle::ask_all`], so `under_way_max` is
    /// best some thousands.
    ///
    /// What has no room waits in the stream: no outcome is `Overloaded` for it. For outcomes as
    /// they come, and not in order, map a stream by [`Handle::ask_waiting`] and take it
    /// `buffer_unordered` (of the crate `futures`).
    ///
    /// It works on a shard too, by the handle of a [`Local`](crate::Local): there a task has
    /// thousands of messages under way.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use futures::StreamExt;
    ///
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// let deposits = futures::stream::iter(1..=100).map(|cents| Deposit { account: 7, cents });
    /// let balances = bank.ask_stream(64, deposits.map(Message::from));
    /// let last = futures::executor::block_on(balances.fold(0, async |_, outcome| {
    ///     let Ok(Reply::Deposit(balance)) = outcome else { panic!("there is room") };
    ///     balance
    /// }));
    /// assert_eq!(last, 5050);
    /// ```
    pub fn ask_stream<S>(&self, under_way_max: usize, messages: S) -> AskStream<A, S>
    where
        S: Stream<Item = A::Message>,
    {
        AskStream::new(self.clone(), under_way_max, messages)
    }

    /// Sends a message to its objects and waits for nothing.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use freehold::TellError;
    ///
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// match bank.tell(Deposit { account: 7, cents: 5 }.into()) {
    ///     Ok(()) => println!("it runs"),
    ///     Err(TellError::Overloaded(message)) => drop(message), // or send it again
    ///     Err(refused) => println!("{refused}"),
    /// }
    /// ```
    ///
    /// # Errors
    /// [`TellError`], with the message, if it could not be sent. How it ends where it runs, nobody
    /// hears. What was sent runs, or is counted by the [`Report`](crate::Report) of a runtime that
    /// could not finish.
    #[inline]
    pub fn tell(&self, message: A::Message) -> Result<(), TellError<A::Message>> {
        let shared = &*self.shared;
        if !shared.is_open() {
            return Err(TellError::Stopped(message));
        }
        let home = match self.destination(&message) {
            Destination::One(home) | Destination::Several(home) => home,
            Destination::Nowhere => return Err(TellError::Unaddressed(message)),
        };
        let mailbox = &shared.mailboxes[home.index()];
        let envelope = Envelope::Message { message, sender: self.sender, answer_to: ReturnAddress::Nobody };
        let thread = waiting::thread_number();
        if let Err(Ingress::One(Envelope::Message { message, .. }, _)) =
            mailbox.put(Ingress::One(envelope, thread))
        {
            mailbox.count_overloaded();
            return Err(TellError::Overloaded(message));
        }
        match mailbox.notify_after_tell(thread, &shared.replies) {
            None => Ok(()),
            Some(message) => Err(TellError::Stopped(message)),
        }
    }

    /// Where a message goes. Panics where `A::addressees` does.
    #[inline]
    pub(crate) fn destination(&self, message: &A::Message) -> Destination {
        self.shared.router.destination::<A>(message, &mut Addressees::new())
    }

    /// The same handle, for messages sent as `owner`: they may write what `owner` owns.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use freehold::OwnerId;
    ///
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// let one = bank.sending_as(OwnerId(1));
    /// assert_eq!(one.call(Deposit { account: 7, cents: 5 }).wait(), Ok(5));
    /// // The account belongs to owner 1, and others may not write it.
    /// assert!(bank.call(Deposit { account: 7, cents: 5 }).wait().is_err());
    /// ```
    pub fn sending_as(&self, owner: OwnerId) -> Handle<A> {
        Handle { shared: self.shared.clone(), sender: owner }
    }

    /// Opens a snapshot of all objects of all shards. It takes a turn or two of each shard to be
    /// ready, and disturbs nobody.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// bank.call(Deposit { account: 7, cents: 5 }).wait().unwrap();
    /// let snapshot = bank.snapshot().wait().unwrap();
    /// bank.call(Deposit { account: 7, cents: 5 }).wait().unwrap();
    /// assert_eq!(snapshot.read::<Account>(7).wait(), Ok(Some(Account { cents: 5 })));
    /// ```
    ///
    /// # Errors
    /// [`SnapshotError::Stopped`](crate::SnapshotError::Stopped) once the runtime stops.
    pub fn snapshot(&self) -> SnapshotRead<Snapshot<A>> {
        snapshot::open(&self.shared)
    }

    /// The latest state of the object `id`, if it is `Shared` or `Immutable`: read right here,
    /// without a message. `None` if it does not exist or belongs to an owner; then ask.
    ///
    /// It sees every message that was answered before, and what it sees is never undone: with a log
    /// and [`Ack::Durable`](crate::Ack) it is the latest state that is on disk. Two reads may fall
    /// before and after a message; for several objects as of one instant use
    /// [`Snapshot::published`]. It works as long as the handle lives, also after the runtime has
    /// stopped.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// bank.call(Deposit { account: 7, cents: 5 }).wait().unwrap();
    /// // Only what was shared or frozen is published.
    /// assert!(bank.published(&Id::Account(7)).is_none());
    /// ```
    pub fn published(&self, id: &A::Id) -> Option<Arc<A::State>> {
        self.shared.published(id)
    }

    /// Watches the object `id`, which need not exist: a stream of its latest states, for any thread
    /// and any executor. The first is the state as it is when the watch begins.
    ///
    /// It sees the latest state that a message left when its shard has time to look. A watcher that
    /// is slow sees fewer steps in between, and always the last one; a state may come twice. With a
    /// log and [`Ack::Durable`](crate::Ack) what it sees is on disk, and no crash takes it back.
    /// Two watches may be of different instants.
    ///
    /// A watched object is never simply free: a message to it costs some ten nanoseconds more, and
    /// a transaction over two shards may need a way there and back more. Messages should name it
    /// among their addressees. One that does not begins anew with it.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use futures::StreamExt;
    ///
    /// let runtime = start();
    /// let mut watch = runtime.handle().watch_id(Id::Account(7))?;
    /// # futures::executor::block_on(async {
    /// assert_eq!(watch.next().await.map(|state| state.is_some()), Some(false), "there is none");
    /// runtime.shutdown();
    /// assert!(watch.next().await.is_none());
    /// # });
    /// # Ok::<(), freehold::WatchError>(())
    /// ```
    ///
    /// # Errors
    /// [`WatchError::TooMany`] if `watches_max` are open, [`WatchError::Stopped`] once the runtime
    /// stops.
    pub fn watch_id(&self, id: A::Id) -> Result<Watch<A>, WatchError> {
        Watch::begin(&self.shared, id)
    }

    /// The shard that owns the object `id`, whether it exists or not.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// assert!(bank.home(&Id::Account(7)).index() < bank.shards());
    /// ```
    #[inline]
    pub fn home(&self, id: &A::Id) -> ShardIndex {
        self.shared.router.home(id)
    }

    /// How many shards the runtime has.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// assert_eq!(bank.shards(), 1);
    /// ```
    pub fn shards(&self) -> usize {
        self.shared.router.shards()
    }

    /// What the runtime has done so far. Takes a few microseconds a shard and disturbs none; a
    /// shard's numbers are those of its last turn, and what its own tasks did may be missing for 20
    /// milliseconds. [`Stats::visit`] names them all; the package `freehold-metrics` has them for
    /// Prometheus.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// bank.call(Deposit { account: 7, cents: 5 }).wait().unwrap();
    /// for shard in bank.stats().shards {
    ///     println!("{:?}: {} messages", shard.shard, shard.counters.fast + shard.counters.consensus);
    /// }
    /// ```
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

impl<A: Actor> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Handle { shared: self.shared.clone(), sender: self.sender }
    }
}

impl<A: Actor> fmt::Debug for Handle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("sender", &self.sender).finish_non_exhaustive()
    }
}
