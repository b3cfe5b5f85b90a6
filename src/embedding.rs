//! What a program gives to its runtime beside limits and a log.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use freehold_shard::Actor;

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
    actor: std::marker::PhantomData<fn() -> A>,
}

impl<A: Actor> Embedding<A> {
    /// Nothing.
    pub fn new() -> Self {
        Embedding { context: Arc::new(()), actor: std::marker::PhantomData }
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
