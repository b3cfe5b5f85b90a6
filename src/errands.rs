//! What a shard does for others beside its messages: a step after each turn, so that no errand holds up the messages for long.
//!
//! An errand reports exactly once, and only when it is let go of: its result, what it panicked with, or that it was cancelled. The pump
//! lets go of one that is done when nothing of the shard is borrowed, because whoever hears of it may do anything.

use std::panic::{AssertUnwindSafe, catch_unwind};

use freehold_shard::{Actor, Shard};

use crate::each_shard::Reporter;
use crate::error::{TaskError, panic_message};
use crate::prefetch::Processor;

/// Something to be done on a shard.
pub(crate) trait Errand<A: Actor>: Send {
    /// Goes on with it. Says whether it is done.
    fn step(&mut self, shard: &mut Shard<A, Processor>) -> bool;

    /// Whether it goes on only when messages have: it is no reason for a round of its own.
    fn waits(&self) -> bool;
}

/// Lets go of errands, which report then. What they were given to work with is a user's, and may panic when it is dropped.
pub(crate) fn let_go<A: Actor>(errands: impl IntoIterator<Item = Box<dyn Errand<A>>>) {
    for errand in errands {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(errand))) {
            tracing::warn!(
                panic = panic_message(payload),
                "what a snapshot was read with panicked when it was dropped"
            );
        }
    }
}

struct Steps<T, F> {
    step: F,
    waits: bool,
    result: Option<Result<T, TaskError>>,
    /// `None` only while it is dropped.
    reporter: Option<Reporter<T>>,
}

/// An errand that is done when `step` returns something, which `reporter` is to report.
pub(crate) fn errand<A, T, F>(reporter: Reporter<T>, waits: bool, step: F) -> Box<dyn Errand<A>>
where
    A: Actor,
    T: Send + 'static,
    F: FnMut(&mut Shard<A, Processor>) -> Option<T> + Send + 'static,
{
    Box::new(Steps { step, waits, result: None, reporter: Some(reporter) })
}

impl<A, T, F> Errand<A> for Steps<T, F>
where
    A: Actor,
    T: Send,
    F: FnMut(&mut Shard<A, Processor>) -> Option<T> + Send,
{
    fn step(&mut self, shard: &mut Shard<A, Processor>) -> bool {
        let result = catch_unwind(AssertUnwindSafe(|| (self.step)(shard)));
        self.result = result.map_err(|payload| TaskError::Panicked(panic_message(payload))).transpose();
        self.result.is_some()
    }

    fn waits(&self) -> bool {
        self.waits
    }
}

impl<T, F> Drop for Steps<T, F> {
    fn drop(&mut self) {
        if let (Some(result), Some(reporter)) = (self.result.take(), self.reporter.take()) {
            reporter.report(result);
        }
    }
}
