//! How a caller waits for an answer that another thread gives: as a blocked thread, as a task of
//! any executor, or as a task on a shard.
//!
//! - A thread that waits ([`block_on`]) parks itself; its waker is made once a thread, so waiting
//!   allocates nothing.
//! - A task of tokio or of any other executor hands its waker to whoever answers, as futures do.
//! - A task on a shard must not do that: a glommio waker that is woken or dropped by another thread
//!   goes through queues that lose wakes and can race with the end of its task. So the waker stays
//!   in a list of the shard's thread, and what goes out in its place is the *shard waker* of that
//!   shard ([`keep_here`]): one for the life of the shard, of the standard library's own making.
//!   Woken, it leaves a signal in the shard's mailbox and rings for the shard if it is parked; the
//!   shard then wakes everyone in the list ([`wake_kept`]), and those whose answer has not come
//!   wait again. That suits the few tasks that ask through a [`Handle`](crate::Handle) on a shard's
//!   thread; [`Local::ask`](crate::Local::ask) has no such cost.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::transport::blocked::Blocked;

/// What the thread of a shard knows of itself.
struct ShardThread {
    shard_waker: Waker,
    /// Whether a message runs right now; `None` until there is a shard.
    is_in_receive: Option<Box<dyn Fn() -> bool>>,
    /// Tasks of this thread that wait for other threads, each once, by what identifies its waker.
    kept: HashMap<(usize, usize), Waker>,
}

thread_local! {
    static SHARD: RefCell<Option<ShardThread>> = const { RefCell::new(None) };
    static PARKER: (Arc<Parker>, Waker) = Parker::of_this_thread();
}

/// Marks the calling thread as a shard's until it is dropped.
pub(crate) struct ShardThreadGuard(());

/// The calling thread becomes a shard's. Its tasks can be reached through `shard_waker`.
pub(crate) fn become_shard_thread(shard_waker: Waker) -> ShardThreadGuard {
    SHARD.with_borrow_mut(|shard| {
        *shard = Some(ShardThread { shard_waker, is_in_receive: None, kept: HashMap::new() })
    });
    ShardThreadGuard(())
}

impl Drop for ShardThreadGuard {
    fn drop(&mut self) {
        // Taken out before it is dropped: dropping a waker may drop a task, and that may look here.
        let shard = SHARD.with_borrow_mut(Option::take);
        drop(shard);
    }
}

/// Whether the calling thread is a shard's, where nothing may block.
pub(crate) fn on_shard_thread() -> bool {
    SHARD.try_with(|shard| shard.borrow().is_some()).unwrap_or(false)
}

/// From now on `is_in_receive` says whether this thread, which is a shard's, runs a message right
/// now.
pub(crate) fn ask_whether_in_receive(is_in_receive: impl Fn() -> bool + 'static) {
    SHARD.with_borrow_mut(|shard| {
        if let Some(shard) = shard {
            shard.is_in_receive = Some(Box::new(is_in_receive));
        }
    });
}

/// Whether the calling thread runs a message right now, so that its shard does nothing else until
/// that has ended. What is waited for there never comes.
pub(crate) fn in_receive() -> bool {
    SHARD
        .try_with(|shard| {
            let shard = shard.borrow();
            shard.as_ref().and_then(|shard| shard.is_in_receive.as_ref()).is_some_and(|is_in| is_in())
        })
        .unwrap_or(false)
}

/// The waker to give to other threads in place of `waker`, a task's of this thread: itself, but on
/// a shard's thread its shard waker.
pub(crate) fn keep_here(waker: &Waker) -> Waker {
    let shard_waker = SHARD.with_borrow_mut(|shard| {
        shard.as_mut().map(|shard| {
            let identity = (waker.data() as usize, std::ptr::from_ref(waker.vtable()) as usize);
            shard.kept.entry(identity).or_insert_with(|| waker.clone());
            shard.shard_waker.clone()
        })
    });
    shard_waker.unwrap_or_else(|| waker.clone())
}

/// Wakes the tasks of this thread that wait for other threads; the shard calls it when its shard
/// waker was woken.
pub(crate) fn wake_kept() {
    let kept = SHARD.with_borrow_mut(|shard| shard.as_mut().map(|shard| std::mem::take(&mut shard.kept)));
    for (_, waker) in kept.into_iter().flatten() {
        waker.wake();
    }
}

/// A number that no other thread has; not 0.
#[inline]
pub(crate) fn thread_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    thread_local! {
        static NUMBER: u32 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // While a thread exits this may be gone; then it is nobody in particular.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

/// Wakes a thread that waits in [`block_on`].
struct Parker(Blocked);

impl Parker {
    fn of_this_thread() -> (Arc<Parker>, Waker) {
        let parker = Arc::new(Parker(Blocked::this_thread()));
        let waker = Waker::from(parker.clone());
        (parker, waker)
    }
}

impl Parker {
    /// Sleeps until woken since the last sleep ended; false if `deadline` came first.
    fn sleep_until(&self, deadline: Instant) -> bool {
        while !self.0.take_wake() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::park_timeout(left);
        }
        true
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// How long [`block_on`] looks for the answer before it parks, if it may: an answer from a shard
/// that is awake comes within it, and waking a parked thread costs the shard a system call.
const LOOK: Duration = Duration::from_micros(20);

/// Whether a waiting thread may look for the answer for a moment before it parks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// There are more CPUs than shards, so looking takes no CPU from the one that answers.
    Look,
    /// Every CPU has a shard.
    Park,
}

/// Blocks the calling thread until `future` is ready. Not for a shard's thread.
///
/// `futures::executor::block_on` would panic inside another `block_on`, and whoever waits in there
/// is a caller of ours.
pub(crate) fn block_on<F: Future + Unpin>(future: F, patience: Patience) -> F::Output {
    block(future, patience, None).expect("without a deadline it waits until there is an outcome")
}

/// As [`block_on`], and no longer than until `deadline`: `None` then.
pub(crate) fn block_on_until<F: Future + Unpin>(
    future: F,
    patience: Patience,
    deadline: Instant,
) -> Option<F::Output> {
    block(future, patience, Some(deadline))
}

fn block<F: Future + Unpin>(
    mut future: F,
    patience: Patience,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    debug_assert!(!on_shard_thread(), "a shard's thread never blocks");
    if patience == Patience::Look {
        let cx = &mut Context::from_waker(Waker::noop());
        let begin = Instant::now();
        loop {
            if let Poll::Ready(output) = Pin::new(&mut future).poll(cx) {
                return Some(output);
            }
            if begin.elapsed() >= LOOK || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            for _ in 0..8 {
                std::hint::spin_loop();
            }
        }
    }
    // While the thread exits its own parker may be gone.
    let (parker, waker) = PARKER.try_with(Clone::clone).unwrap_or_else(|_| Parker::of_this_thread());
    let cx = &mut Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(cx) {
            return Some(output);
        }
        match deadline {
            None => parker.0.sleep(),
            // Whoever is woken again and again may not sleep at all.
            Some(deadline) if Instant::now() >= deadline || !parker.sleep_until(deadline) => return None,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
pub(in crate::transport) mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    pub(in crate::transport) struct Count(pub(in crate::transport) AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn on_a_shard_only_the_shard_waker_goes_out() {
        let (shard, task) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let task_waker = Waker::from(task.clone());
        assert!(!on_shard_thread());
        assert!(keep_here(&task_waker).will_wake(&task_waker));

        let guard = become_shard_thread(Waker::from(shard.clone()));
        assert!(on_shard_thread());
        let out = keep_here(&task_waker);
        let again = keep_here(&task_waker);
        assert!(!out.will_wake(&task_waker) && out.will_wake(&again));
        out.wake();
        assert_eq!((shard.0.load(Ordering::Relaxed), task.0.load(Ordering::Relaxed)), (1, 0));
        wake_kept();
        assert_eq!(task.0.load(Ordering::Relaxed), 1, "kept twice, woken once");
        wake_kept();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);

        drop(guard);
        assert!(!on_shard_thread());
    }

    #[test]
    fn a_thread_waits_inside_another_wait() {
        let inner = std::future::poll_fn(|_| Poll::Ready(block_on(std::future::ready(7), Patience::Park)));
        assert_eq!(futures::executor::block_on(inner), 7);
    }

    #[test]
    fn a_thread_waits_no_longer_than_its_deadline() {
        for patience in [Patience::Look, Patience::Park] {
            let deadline = Instant::now() + Duration::from_millis(20);
            assert_eq!(block_on_until(std::future::pending::<()>(), patience, deadline), None);
            assert!(Instant::now() >= deadline);
            // What is ready is there, though the deadline has passed; and a wake is not the end.
            assert_eq!(block_on_until(std::future::ready(7), patience, deadline), Some(7));
            let mut polls = 0;
            let third = std::future::poll_fn(|cx| {
                polls += 1;
                cx.waker().wake_by_ref();
                if polls == 3 { Poll::Ready(polls) } else { Poll::Pending }
            });
            assert_eq!(block_on_until(third, patience, Instant::now() + Duration::from_secs(60)), Some(3));
            // Nor does who is woken whenever it would sleep: it went on for ever.
            let woken = std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            });
            assert_eq!(block_on_until(woken, patience, deadline), None);
        }
    }

    #[test]
    fn a_thread_that_parks_is_woken() {
        for patience in [Patience::Look, Patience::Park] {
            let answer: Arc<std::sync::Mutex<(bool, Option<Waker>)>> = Arc::default();
            let other = answer.clone();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                let mut answer = other.lock().unwrap();
                answer.0 = true;
                if let Some(waker) = answer.1.take() {
                    waker.wake();
                }
            });
            block_on(
                std::future::poll_fn(|cx| {
                    let mut answer = answer.lock().unwrap();
                    answer.1 = Some(cx.waker().clone());
                    if answer.0 { Poll::Ready(()) } else { Poll::Pending }
                }),
                patience,
            );
            thread.join().unwrap();
        }
    }
}
