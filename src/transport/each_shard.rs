//! One task on every shard, and their results together.
//!
//! A task's [`Reporter`] reports exactly once: its result, or, when it is dropped without one, that
//! it was cancelled. So whatever becomes of a command to start a task, its caller hears of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::TaskError;
use crate::fork::Birth;
use crate::transport::waiting::{self, Patience};

struct Each<T> {
    state: Mutex<EachState<T>>,
    /// Nobody waits for the results any more.
    is_abandoned: AtomicBool,
}

struct EachState<T> {
    results: Vec<Option<Result<T, TaskError>>>,
    missing: usize,
    waker: Option<Waker>,
}

/// The results of the tasks that [`Runtime::on_each_shard`](crate::Runtime::on_each_shard) has
/// started, by shard: a future, or a wait. Dropping it cancels nothing.
pub struct EachShard<T> {
    each: Arc<Each<T>>,
    shards: usize,
    birth: Birth,
}

/// Reports the result of one shard's task.
pub(crate) struct Reporter<T> {
    each: Arc<Each<T>>,
    shard: usize,
    has_reported: bool,
}

impl<T> EachShard<T> {
    /// A result for each of `shards` shards, and who reports it.
    pub(crate) fn new(shards: usize) -> (Self, impl Iterator<Item = Reporter<T>>) {
        let results = (0..shards).map(|_| None).collect();
        let state = Mutex::new(EachState { results, missing: shards, waker: None });
        let each = Arc::new(Each { state, is_abandoned: AtomicBool::new(false) });
        let reporters = {
            let each = each.clone();
            (0..shards).map(move |shard| Reporter { each: each.clone(), shard, has_reported: false })
        };
        (EachShard { each, shards, birth: Birth::now() }, reporters)
    }

    /// Blocks the calling thread until every task has ended.
    ///
    /// # Errors
    /// Each result is its own task's. On a shard's thread all are [`TaskError::WaitOnShard`] at
    /// once; the tasks run all the same.
    pub fn wait(mut self) -> Vec<Result<T, TaskError>> {
        if waiting::on_shard_thread() {
            return (0..self.shards).map(|_| Err(TaskError::WaitOnShard)).collect();
        }
        waiting::block_on(&mut self, Patience::Park)
    }
}

impl<T> Future for EachShard<T> {
    type Output = Vec<Result<T, TaskError>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.birth.is_elsewhere() {
            return Poll::Ready((0..self.shards).map(|_| Err(TaskError::Cancelled)).collect());
        }
        if waiting::in_receive() {
            return Poll::Ready((0..self.shards).map(|_| Err(TaskError::WaitOnShard)).collect());
        }
        let mut state = self.each.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.missing > 0 {
            state.waker = Some(waiting::keep_here(cx.waker()));
            return Poll::Pending;
        }
        let results = state.results.drain(..);
        Poll::Ready(results.map(|result| result.expect("none is missing")).collect())
    }
}

impl<T> Drop for EachShard<T> {
    fn drop(&mut self) {
        self.each.is_abandoned.store(true, Ordering::Relaxed);
    }
}

impl<T> Reporter<T> {
    /// Whether anybody waits for the results.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.each.is_abandoned.load(Ordering::Relaxed)
    }

    pub(crate) fn report(mut self, result: Result<T, TaskError>) {
        self.report_once(result);
    }

    fn report_once(&mut self, result: Result<T, TaskError>) {
        self.has_reported = true;
        let mut state = self.each.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.results[self.shard] = Some(result);
        state.missing -= 1;
        let waker = if state.missing == 0 { state.waker.take() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Reporter<T> {
    fn drop(&mut self) {
        if !self.has_reported {
            self.report_once(Err(TaskError::Cancelled));
        }
    }
}

impl<T> fmt::Debug for EachShard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EachShard").field("shards", &self.shards).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_heard_of() {
        let (each, reporters) = EachShard::new(3);
        for (at, reporter) in reporters.enumerate() {
            match at {
                0 => reporter.report(Ok(7)),
                1 => drop(reporter),
                _ => reporter.report(Err(TaskError::Panicked("on purpose".into()))),
            }
        }
        let results = each.wait();
        assert_eq!(
            results,
            [Ok(7), Err(TaskError::Cancelled), Err(TaskError::Panicked("on purpose".into()))]
        );
    }
}
