//! An object that is watched, as a stream of its latest states.
//!
//! The home of the object shows its states after its turns (`freehold-shard`, `watches`). A command
//! begins a watch there, and another ends it when the stream is dropped.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use freehold_shard::Actor;
use futures_core::Stream;

use crate::core::command::Command;
use crate::core::jobs::Permit;
use crate::core::shared::Shared;
use crate::core::watches::{Sight, Watcher};
use crate::error::WatchError;
use crate::transport::waiting;
use crate::transport::watching::{WatchReceiver, watch_place};

/// The latest states of an object, as a stream: first as it is, and then whenever it was written.
/// `None` is an object that does not exist, or does not any more. Made by
/// [`Handle::watch_id`](crate::Handle::watch_id), which says more.
///
/// The stream ends when the runtime stops or dies. Dropped, it ends the watch.
#[must_use = "states are seen while the stream is polled"]
pub struct Watch<A: Actor> {
    shared: Arc<Shared<A>>,
    id: A::Id,
    receiver: WatchReceiver<Sight<A>>,
}

impl<A: Actor> Watch<A> {
    pub(crate) fn begin(shared: &Arc<Shared<A>>, id: A::Id) -> Result<Self, WatchError> {
        if !shared.is_open() {
            return Err(WatchError::Stopped);
        }
        let max = shared.config.watches_max;
        let permit = Permit::one_of(&shared.watches, max).ok_or(WatchError::TooMany { max })?;
        let (sender, receiver) = watch_place();
        let watcher = Watcher { sender, _permit: permit };
        let watch = Watch { shared: shared.clone(), id, receiver };
        watch.command(Command::Call(Box::new(move |here| here.watch(id, watcher))));
        Ok(watch)
    }

    /// The object.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let watch = runtime.handle().watch_id(Id::Account(7)).unwrap();
    /// assert_eq!(watch.id(), Id::Account(7));
    /// ```
    pub fn id(&self) -> A::Id {
        self.id
    }

    fn command(&self, command: Command<A>) {
        let home = self.shared.router.home(&self.id);
        self.shared.mailboxes[home.index()].command(command, &self.shared.replies);
    }
}

// Nothing in it is pinned.
impl<A: Actor> Unpin for Watch<A> {}

impl<A: Actor> Stream for Watch<A> {
    type Item = Option<Arc<A::State>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Inside `receive` nothing can be waited for, and in a child of the process nothing comes.
        if waiting::in_receive() || self.shared.birth.is_elsewhere() {
            return Poll::Ready(None);
        }
        self.receiver.poll(cx)
    }
}

impl<A: Actor> Drop for Watch<A> {
    fn drop(&mut self) {
        if !self.shared.birth.is_elsewhere() {
            let (id, token) = (self.id, self.receiver.token());
            self.command(Command::Call(Box::new(move |here| here.unwatch(id, &token))));
        }
    }
}

impl<A: Actor> fmt::Debug for Watch<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).finish_non_exhaustive()
    }
}
