//! A user's tasks on a shard: watched, so that what goes wrong in one is that task's affair.
//!
//! A watched task that panics ends, is counted, and is reported to whoever waits for it; without
//! this a panic would end its executor, and with it the runtime. A task can be told that the
//! runtime is stopping ([`Stopping`]) and is cancelled if it has not finished in time: its future
//! is dropped at its next step, on its own executor, as glommio's types want it. All of this stays
//! on one thread.
//!
//! Who waits for a task's end is kept here and not in the task: an executor that died never drops
//! its tasks, and those who wait for them are to hear of it ([`Tasks::let_go`]).
//!
//! A task is a `dyn` [`TaskBody`] here, so that what is around it is compiled once and not once a
//! type of tasks.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::error::{TaskError, panic_message};
use crate::stats::{TaskCounts, TaskPlace};

/// The most places of tasks that are remembered between two rounds.
const POLLED_MAX: usize = 8;

/// The watched tasks of one shard.
pub(crate) struct Tasks {
    counts: Arc<TaskCounts>,
    /// Where those tasks were spawned that have been polled since the last round: the first few.
    polled: RefCell<Vec<TaskPlace>>,
    /// For each task, those who wait for its end.
    awaited: RefCell<Slab<Rc<dyn TellEnd>>>,
    /// The runtime is stopping.
    pub(crate) stopping: Event,
    /// Tasks still there are to end now.
    pub(crate) cancel: Event,
}

impl Tasks {
    pub(crate) fn new(counts: Arc<TaskCounts>) -> Self {
        let (polled, awaited) = (RefCell::default(), RefCell::new(Slab::new()));
        Tasks { counts, polled, awaited, stopping: Event::new(), cancel: Event::new() }
    }

    /// Where tasks were spawned that have been polled since this was asked last: the first few.
    #[cold]
    pub(crate) fn take_polled(&self) -> Vec<TaskPlace> {
        self.polled.take()
    }

    /// A round has ended: what was polled before it kept nobody.
    #[inline]
    pub(crate) fn forget_polled(&self) {
        self.polled.borrow_mut().clear();
    }

    /// Polls the task that was spawned at `place`.
    fn poll<T>(&self, place: TaskPlace, number: usize, poll: impl FnOnce() -> T) -> T {
        let mut polled = self.polled.borrow_mut();
        // By address: a comparison of file names is no matter for each poll.
        if polled.len() < POLLED_MAX && !polled.iter().any(|before| std::ptr::eq(*before, place)) {
            polled.push(place);
        }
        drop(polled);
        self.counts.polls(number);
        let result = poll();
        self.counts.polls(0);
        result
    }

    /// How many there are.
    #[inline]
    pub(crate) fn live(&self) -> u64 {
        self.counts.live.load(Ordering::Relaxed)
    }

    /// How many were cancelled.
    pub(crate) fn cancelled(&self) -> u64 {
        self.counts.cancelled.load(Ordering::Relaxed)
    }

    /// Runs `future` as a task that was spawned at `place`, until it is ready, panics or is
    /// cancelled, and tells `ended` which. If the executor dies before, `ended` is dropped.
    pub(crate) fn spawn<F: Future + 'static>(
        self: Rc<Self>,
        place: TaskPlace,
        future: F,
        ended: impl FnOnce(Result<F::Output, TaskError>) + 'static,
    ) {
        let (body, ended) = task(future, ended);
        self.spawn_body(place, body, ended);
    }

    fn spawn_body(self: Rc<Self>, place: TaskPlace, body: Box<dyn TaskBody>, ended: Rc<dyn TellEnd>) {
        // Into the queue, not at once as `spawn_local` would: whoever spawns may be in the middle
        // of something.
        let queue = glommio::executor().current_task_queue();
        let task = self.watch(place, body, ended);
        glommio::spawn_local_into(task, queue).expect("the queue of a running task exists").detach();
    }

    /// Runs a task until it is ready, panics or is cancelled, and tells how it `ended`.
    fn watch(
        self: Rc<Self>,
        place: TaskPlace,
        body: Box<dyn TaskBody>,
        ended: Rc<dyn TellEnd>,
    ) -> impl Future<Output = ()> {
        let awaited = self.awaited.borrow_mut().insert(ended.clone());
        let one = One::new(self.counts.clone());
        async move {
            let _one = one;
            let result = self.run(place, body).await;
            match &result {
                Ok(()) => {}
                Err(TaskError::Panicked(message)) => {
                    self.counts.panicked.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(panic = %message, "a task on a shard panicked");
                }
                Err(_) => drop(self.counts.cancelled.fetch_add(1, Ordering::Relaxed)),
            }
            let let_go = self.awaited.borrow_mut().try_remove(awaited);
            drop(let_go);
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| ended.tell(result))) {
                tracing::warn!(
                    panic = panic_message(payload),
                    "the result of a task panicked when it was handed over"
                );
            }
        }
    }

    async fn run(&self, place: TaskPlace, mut body: Box<dyn TaskBody>) -> Result<(), TaskError> {
        let number = self.counts.number_of(place);
        let mut waits = None;
        let result = poll_fn(|cx| {
            if self.cancel.poll(&mut waits, cx).is_ready() {
                return Poll::Ready(Err(TaskError::Cancelled));
            }
            let poll = || catch_unwind(AssertUnwindSafe(|| body.poll(cx)));
            match self.poll(place, number, poll) {
                Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
                Ok(Poll::Pending) => Poll::Pending,
                Err(payload) => Poll::Ready(Err(TaskError::Panicked(panic_message(payload)))),
            }
        })
        .await;
        self.cancel.forget(&mut waits);
        // What it holds is the user's, and may panic when dropped.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(body))) {
            tracing::warn!(panic = panic_message(payload), "a task panicked when it was dropped");
        }
        result
    }

    /// Lets go of all who wait for the end of a task: no task will run any more.
    pub(crate) fn let_go(&self) {
        let mut awaited = std::mem::take(&mut *self.awaited.borrow_mut());
        awaited.drain().for_each(|ended| ended.let_go());
    }
}

/// A task of its parts: what it does, and who waits for its end.
fn task<F: Future + 'static>(
    future: F,
    ended: impl FnOnce(Result<F::Output, TaskError>) + 'static,
) -> (Box<dyn TaskBody>, Rc<dyn TellEnd>) {
    let ended = Rc::new(TaskEnd { output: Cell::new(None), tell: Cell::new(Some(ended)) });
    (Box::new(WatchedTask { future: Box::pin(future), ended: ended.clone() }), ended)
}

/// What a task does, whatever comes of it.
trait TaskBody {
    /// Goes on with it. When it is ready, what came of it is with those who wait for its end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Those who wait for the end of a task.
trait TellEnd {
    /// Tells them, if they were not let go of: what came of the task, or what went wrong.
    fn tell(&self, result: Result<(), TaskError>);

    fn let_go(&self);
}

struct TaskEnd<T, E> {
    /// What came of the task, until it is told.
    output: Cell<Option<T>>,
    tell: Cell<Option<E>>,
}

impl<T, E: FnOnce(Result<T, TaskError>)> TellEnd for TaskEnd<T, E> {
    fn tell(&self, result: Result<(), TaskError>) {
        let output = self.output.take();
        if let Some(tell) = self.tell.take() {
            tell(result.map(|()| output.expect("a task that is ready has its output")));
        }
    }

    fn let_go(&self) {
        drop(self.tell.take());
    }
}

struct WatchedTask<F: Future, E> {
    future: Pin<Box<F>>,
    ended: Rc<TaskEnd<F::Output, E>>,
}

impl<F: Future, E> TaskBody for WatchedTask<F, E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(cx).map(|output| self.ended.output.set(Some(output)))
    }
}

/// Counts a task for as long as it lives.
struct One(Arc<TaskCounts>);

impl One {
    fn new(counts: Arc<TaskCounts>) -> Self {
        counts.live.fetch_add(1, Ordering::Relaxed);
        One(counts)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Something that happens once, and that tasks of this thread wait for.
pub(crate) struct Event {
    has_happened: Cell<bool>,
    waiting: RefCell<Slab<Waker>>,
}

impl Event {
    fn new() -> Self {
        Event { has_happened: Cell::new(false), waiting: RefCell::new(Slab::new()) }
    }

    /// It happens.
    pub(crate) fn happen(&self) {
        self.has_happened.set(true);
        let mut waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.drain().for_each(Waker::wake);
    }

    /// Ready when it has happened. `waits` is `None` at first and belongs to one wait; give it to
    /// [`Event::forget`] in the end.
    fn poll(&self, waits: &mut Option<usize>, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_happened.get() {
            // `happen` has emptied the list.
            *waits = None;
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        match *waits {
            Some(key) if waiting[key].will_wake(cx.waker()) => {}
            Some(key) => waiting[key] = cx.waker().clone(),
            None => *waits = Some(waiting.insert(cx.waker().clone())),
        }
        Poll::Pending
    }

    fn forget(&self, waits: &mut Option<usize>) {
        if let Some(key) = waits.take()
            && !self.has_happened.get()
        {
            let waker = self.waiting.borrow_mut().remove(key);
            drop(waker);
        }
    }
}

/// Ready when the runtime begins to stop. A task that serves for ever waits for this beside its
/// work and finishes what it has begun.
#[must_use = "the future does nothing unless it is awaited"]
pub struct Stopping {
    tasks: Rc<Tasks>,
    waits: Option<usize>,
}

impl Stopping {
    pub(crate) fn new(tasks: Rc<Tasks>) -> Self {
        Stopping { tasks, waits: None }
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.tasks.stopping.poll(&mut this.waits, cx)
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.tasks.stopping.forget(&mut self.waits);
    }
}

impl std::fmt::Debug for Stopping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopping").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::panic::Location;

    use futures::FutureExt;

    use super::*;

    fn run<T: 'static>(
        tasks: &Rc<Tasks>,
        future: impl Future<Output = T> + 'static,
    ) -> Option<Result<T, TaskError>> {
        let result = Rc::new(RefCell::new(None));
        let to = result.clone();
        let (body, ended) = task(future, move |ended| *to.borrow_mut() = Some(ended));
        let mut task = Box::pin(tasks.clone().watch(Location::caller(), body, ended));
        let cx = &mut Context::from_waker(Waker::noop());
        if task.as_mut().poll(cx).is_pending() {
            assert_eq!(tasks.live(), 1);
            tasks.cancel.happen();
            assert!(task.as_mut().poll(cx).is_ready());
        }
        assert_eq!(tasks.live(), 0);
        result.take()
    }

    #[test]
    fn a_task_ends_with_its_output_its_panic_or_its_cancellation() {
        let tasks = Rc::new(Tasks::new(Arc::default()));
        assert_eq!(run(&tasks, async { 7 }), Some(Ok(7)));
        let panics = async { panic!("on purpose") };
        assert_eq!(run::<()>(&tasks, panics), Some(Err(TaskError::Panicked("on purpose".into()))));
        assert_eq!(run(&tasks, pending::<()>()), Some(Err(TaskError::Cancelled)));
        assert_eq!((tasks.counts.panicked.load(Ordering::Relaxed), tasks.cancelled()), (1, 1));
    }

    #[test]
    fn a_future_that_panics_when_dropped_is_no_more_than_that() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let tasks = Rc::new(Tasks::new(Arc::default()));
        let future = async {
            let _bomb = Bomb;
            pending::<()>().await;
        };
        assert_eq!(run(&tasks, future), Some(Err(TaskError::Cancelled)));
    }

    #[test]
    fn those_who_wait_for_a_task_that_is_never_dropped_are_let_go() {
        let tasks = Rc::new(Tasks::new(Arc::default()));
        let waits = Rc::new(());
        let kept = waits.clone();
        let (body, ended) = task(pending::<()>(), move |_| drop(kept));
        std::mem::forget(tasks.clone().watch(Location::caller(), body, ended));
        assert_eq!(Rc::strong_count(&waits), 2);
        tasks.let_go();
        assert_eq!(Rc::strong_count(&waits), 1);
    }

    #[test]
    fn those_who_wait_for_the_stop_are_woken_and_those_who_do_not_are_forgotten() {
        let tasks = Rc::new(Tasks::new(Arc::default()));
        let mut stopping = Stopping::new(tasks.clone());
        let mut forgotten = Stopping::new(tasks.clone());
        assert!((&mut stopping).now_or_never().is_none());
        assert!((&mut forgotten).now_or_never().is_none());
        drop(forgotten);
        assert_eq!(tasks.stopping.waiting.borrow().len(), 1);
        tasks.stopping.happen();
        assert!((&mut stopping).now_or_never().is_some());
        assert!(Stopping::new(tasks.clone()).now_or_never().is_some());
    }
}
