//! What a program gives to its runtime beside limits and a log.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;

use freehold_shard::{Actor, Failure};

use crate::action::{Action, Performer};

/// What a program gives to its runtime at the start, for
/// [`Runtime::start_with`](crate::Runtime::start_with) and
/// [`Runtime::open_with`](crate::Runtime::open_with).
///
/// ```
/// use freehold::{Config, Embedding, Runtime, Shards};
/// # use freehold_example::Bank;
///
/// struct Fees { cents: u64 }
///
/// let config = Config { shards: Shards::Count(1), ..Config::default() };
/// let embedding = Embedding::new().context(Fees { cents: 5 });
/// let runtime = Runtime::<Bank>::start_with(config, embedding).expect("it starts");
/// // A message now has them by `objects.context::<Fees>()?`.
/// # drop(runtime);
/// ```
pub struct Embedding<A: Actor> {
    pub(crate) context: Arc<dyn Any + Send + Sync>,
    pub(crate) on_failed: Option<OnFailed<A>>,
    pub(crate) performer: Option<Performer<A>>,
}

/// A hook for failures.
type OnFailed<A> = Arc<dyn Fn(&Failure<A>) + Send + Sync>;

impl<A: Actor> Embedding<A> {
    /// Nothing.
    pub fn new() -> Self {
        Embedding { context: Arc::new(()), on_failed: None, performer: None }
    }

    /// The value that [`Objects::context`](crate::Objects::context) gives every message: fees,
    /// limits, clients. A message may run again, on any shard and after a crash, so the value is
    /// the same for all of them and does not change.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use freehold::Embedding;
    ///
    /// struct Fees { cents: u64 }
    ///
    /// let embedding = Embedding::<Bank>::new().context(Fees { cents: 5 });
    /// ```
    #[must_use]
    pub fn context(mut self, context: impl Any + Send + Sync) -> Self {
        self.context = Arc::new(context);
        self
    }

    /// A function that is called for every message that fails and that nobody waits for: one that
    /// was told, at once or for later, by a message or by [`Handle::tell`](crate::Handle::tell).
    /// Without it a `tracing` event says once a second and shard that messages fail, and with it,
    /// too.
    ///
    /// It is called on the shard's thread, so it must not block: it counts, or it sends on a
    /// channel. If it panics, an event says so, and nothing else happens. Of one turn it hears of
    /// [1,024](freehold_shard::FAILURES_MAX) failures at most.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use freehold::Embedding;
    ///
    /// let embedding = Embedding::<Bank>::new()
    ///     .on_failed(|failure| eprintln!("{} failed: {}", failure.message, failure.error));
    /// ```
    #[must_use]
    pub fn on_failed(mut self, on_failed: impl Fn(&Failure<A>) + Send + Sync + 'static) -> Self {
        self.on_failed = Some(Arc::new(on_failed));
        self
    }

    /// A function that gets every [`Action`] of the objects and sees to it that it is performed: it
    /// spawns a task on an async runtime of the program's, or sends the action to somebody. It is
    /// called on the shard's thread, so it must not block.
    ///
    /// ```
    /// # use freehold_example::*;
    /// # tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
    /// use freehold::{Embedding, Action};
    ///
    /// let tokio = tokio::runtime::Handle::current();
    /// let embedding = Embedding::new().perform_with(move |action: Action<Bank>| {
    ///     tokio.spawn(async move {
    ///         // Here a web service is called.
    ///         action.done(Deposit { account: 7, cents: 5 });
    ///     });
    /// });
    /// # drop(embedding);
    /// # });
    /// ```
    #[must_use]
    pub fn perform_with(mut self, perform: impl Fn(Action<A>) + Send + Sync + 'static) -> Self {
        self.performer = Some(Performer::With(Arc::new(perform)));
        self
    }

    /// Performs every [`Action`] as a task on the shard that owes it, beside the shard's messages;
    /// the task may use [`freehold::glommio`](crate::glommio) freely.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use std::time::Duration;
    ///
    /// use freehold::{Embedding, Action};
    ///
    /// let embedding = Embedding::new().perform_on_shards(|action: Action<Bank>| async move {
    ///     freehold::glommio::timer::sleep(Duration::from_millis(5)).await;
    ///     action.done(Deposit { account: 7, cents: 5 });
    /// });
    /// ```
    #[must_use]
    #[track_caller]
    pub fn perform_on_shards<F, Fut>(mut self, perform: F) -> Self
    where
        F: Fn(Action<A>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let task = Arc::new(move |action| Box::pin(perform(action)) as Pin<Box<dyn Future<Output = ()>>>);
        self.performer = Some(Performer::OnShards(task, Location::caller()));
        self
    }

    /// Performs every [`Action`] on one of so many threads, where it may block. They are spawned
    /// when the runtime starts, and end when nothing of it is left.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use freehold::{Embedding, Action};
    ///
    /// let embedding = Embedding::new().perform_on_threads(4, |action: Action<Bank>| {
    ///     // Here something takes its time.
    ///     action.done(Deposit { account: 7, cents: 5 });
    /// });
    /// ```
    #[must_use]
    pub fn perform_on_threads(
        mut self,
        threads: usize,
        perform: impl Fn(Action<A>) + Send + Sync + 'static,
    ) -> Self {
        self.performer = Some(Performer::OnThreads(threads.max(1), Arc::new(perform)));
        self
    }

    /// Spawns its threads, if it has any.
    pub(crate) fn begin(mut self) -> io::Result<Self> {
        self.performer = self.performer.map(Performer::begin).transpose()?;
        Ok(self)
    }
}

impl<A: Actor> Default for Embedding<A> {
    fn default() -> Self {
        Embedding::new()
    }
}

impl<A: Actor> fmt::Debug for Embedding<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedding").finish_non_exhaustive()
    }
}
