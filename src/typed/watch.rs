//! An object that is watched, by its kind.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use freehold_shard::{AccessError, Actor, Kind};
use futures_core::Stream;

use crate::api::handle::Handle;
use crate::api::watch::Watch;
use crate::error::WatchError;

/// The latest states of an object of the kind `K`, as a stream: those of [`Watch`], as copies. Made
/// by [`Handle::watch`].
#[must_use = "states are seen while the stream is polled"]
pub struct KindWatch<A: Actor, K> {
    watch: Watch<A>,
    kind: PhantomData<fn() -> K>,
}

impl<A: Actor> Handle<A> {
    /// Watches the object of the kind `K` with this key, which need not exist: as
    /// [`Handle::watch_id`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// use futures::StreamExt;
    ///
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// let mut watch = bank.watch::<Account>(7)?;
    /// # futures::executor::block_on(async {
    /// assert_eq!(watch.next().await, Some(Ok(None)), "there is none yet");
    /// bank.call(Deposit { account: 7, cents: 5 }).await.unwrap();
    /// assert_eq!(watch.next().await, Some(Ok(Some(Account { cents: 5 }))));
    /// # });
    /// # Ok::<(), freehold::WatchError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handle::watch_id`]. An item of the stream is [`AccessError::WrongKind`] if the object
    /// is of another kind then.
    pub fn watch<K: Kind<A>>(&self, key: K::Key) -> Result<KindWatch<A, K>, WatchError> {
        Ok(KindWatch { watch: self.watch_id(K::id(key))?, kind: PhantomData })
    }
}

impl<A: Actor, K: Kind<A> + Clone> Stream for KindWatch<A, K> {
    type Item = Result<Option<K>, AccessError<A::Id>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.watch).poll_next(cx));
        let wrong_kind = AccessError::WrongKind { id: self.watch.id(), kind: K::NAME };
        let as_kind = |state: &A::State| K::of(state).cloned().ok_or(wrong_kind);
        Poll::Ready(next.map(|state| state.as_deref().map(as_kind).transpose()))
    }
}

impl<A: Actor, K> fmt::Debug for KindWatch<A, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.watch.fmt(f)
    }
}
