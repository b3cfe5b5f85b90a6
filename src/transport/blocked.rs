//! How a thread that waits for an answer sleeps, and is woken by whoever answers.
//!
//! The answer is published first and [`Blocked::wake`] called after; the thread looks for the
//! answer and calls [`Blocked::sleep`] if it has not come. Invariant *nobody-sleeps-through*: a
//! wake between the look and the sleep ends that sleep at once, and the flag's ordering makes the
//! answer visible to the look that follows. `models` runs it through every interleaving.

use super::sync::{AtomicBool, Ordering, Thread, current, park};

/// A thread that may sleep.
pub(crate) struct Blocked {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Blocked {
    /// The calling thread, which is the one that may [`sleep`](Blocked::sleep) on it.
    pub(crate) fn this_thread() -> Self {
        Blocked { thread: current(), is_woken: AtomicBool::new(false) }
    }

    /// Ends the thread's sleep, or its next if it is awake.
    pub(crate) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }

    /// Sleeps until woken since the last sleep ended.
    pub(crate) fn sleep(&self) {
        while !self.take_wake() {
            park();
        }
    }

    /// Whether it was woken since the last sleep ended: the thread that looks may sleep otherwise,
    /// and looks again.
    pub(crate) fn take_wake(&self) -> bool {
        self.is_woken.swap(false, Ordering::AcqRel)
    }
}
