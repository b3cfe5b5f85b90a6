//! Where the state of a watched object is handed over: one place, in which a later state takes the
//! place of an earlier one. So a slow watcher holds nobody up, and costs one state.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::transport::waiting;

/// What is handed over.
struct WatchPlace<T> {
    state: Mutex<WatchState<T>>,
}

struct WatchState<T> {
    latest: Option<T>,
    waker: Option<Waker>,
    /// Nothing comes any more.
    has_ended: bool,
}

impl<T> WatchPlace<T> {
    fn lock(&self) -> MutexGuard<'_, WatchState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shard's end. When it is dropped nothing comes any more.
pub(crate) struct WatchSender<T>(Arc<WatchPlace<T>>);

/// The watcher's end.
pub(crate) struct WatchReceiver<T>(Arc<WatchPlace<T>>);

/// A place with nothing in it.
pub(crate) fn watch_place<T>() -> (WatchSender<T>, WatchReceiver<T>) {
    let state = WatchState { latest: None, waker: None, has_ended: false };
    let place = Arc::new(WatchPlace { state: Mutex::new(state) });
    (WatchSender(place.clone()), WatchReceiver(place))
}

impl<T> WatchSender<T> {
    /// This is the latest now. Returns whom to wake, and what was the latest and nobody has taken:
    /// to drop it may be a user's code.
    pub(crate) fn put(&self, latest: T) -> (Option<Waker>, Option<T>) {
        let mut state = self.0.lock();
        let before = state.latest.replace(latest);
        (state.waker.take(), before)
    }

    /// Whether this is its other end.
    pub(crate) fn is_to(&self, receiver: &WatchToken<T>) -> bool {
        Arc::ptr_eq(&self.0, &receiver.0)
    }
}

impl<T> Drop for WatchSender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.has_ended = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Names a watch, for the shard.
pub(crate) struct WatchToken<T>(Arc<WatchPlace<T>>);

impl<T> WatchReceiver<T> {
    pub(crate) fn token(&self) -> WatchToken<T> {
        WatchToken(self.0.clone())
    }

    /// The latest, if it was not taken before; `None` in the end.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.lock();
        match state.latest.take() {
            Some(latest) => Poll::Ready(Some(latest)),
            None if state.has_ended => Poll::Ready(None),
            None => {
                let before = state.waker.replace(waiting::keep_here(cx.waker()));
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::transport::waiting::tests::Count;

    #[test]
    fn the_latest_is_seen_once_and_then_the_end() {
        let (sender, receiver) = watch_place();
        let wakes = Arc::new(Count::default());
        let waker = Waker::from(wakes.clone());
        let cx = &mut Context::from_waker(&waker);
        assert_eq!(receiver.poll(cx), Poll::Pending);
        let befores = [1, 2, 3].map(|state| {
            let (waker, before) = sender.put(state);
            waker.into_iter().for_each(Waker::wake);
            before
        });
        assert_eq!(befores, [None, Some(1), Some(2)]);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!((receiver.poll(cx), receiver.poll(cx)), (Poll::Ready(Some(3)), Poll::Pending));
        assert!(sender.put(4).0.is_some());
        drop(sender);
        assert_eq!((receiver.poll(cx), receiver.poll(cx)), (Poll::Ready(Some(4)), Poll::Ready(None)));
        let (sender, receiver) = watch_place::<u8>();
        assert_eq!(receiver.poll(cx), Poll::Pending);
        drop(sender);
        assert_eq!((wakes.0.load(Ordering::Relaxed), receiver.poll(cx)), (2, Poll::Ready(None)));
    }
}
