//! Where those who want a checkpoint meet the thread that makes them, and what they hear of it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_shard::Epoch;

use crate::error::{CheckpointError, SnapshotError};

/// A checkpoint that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// It contains everything that was committed before this epoch.
    pub epoch: Epoch,
    /// How large it is.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Whoever wants a checkpoint asks here.
pub(crate) struct Demands {
    state: Mutex<DemandsState>,
    changed: Condvar,
}

#[derive(Default)]
struct DemandsState {
    asked: u64,
    is_over: bool,
    is_due: bool,
    done: u64,
    last: Option<Result<Checkpoint, Arc<CheckpointError>>>,
}

impl Demands {
    pub(crate) fn new() -> Self {
        Demands { state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, DemandsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are to be no more checkpoints.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// The runtime stops: no more checkpoints.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// There may be enough log for one.
    pub(crate) fn look(&self) {
        self.lock().is_due = true;
        self.changed.notify_all();
    }

    /// Waits for a checkpoint that begins from now on.
    pub(crate) fn ask(&self) -> Result<Checkpoint, Arc<CheckpointError>> {
        self.wait_for(self.demand())
    }

    /// Asks for a checkpoint, and says which one that is.
    pub(crate) fn demand(&self) -> u64 {
        let mut state = self.lock();
        state.asked += 1;
        self.changed.notify_all();
        state.asked
    }

    /// Waits for a checkpoint that was asked for.
    pub(crate) fn wait_for(&self, mine: u64) -> Result<Checkpoint, Arc<CheckpointError>> {
        let mut state = self.lock();
        while state.done < mine && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match &state.last {
            Some(last) if state.done >= mine => last.clone(),
            _ => Err(Arc::new(SnapshotError::Stopped.into())),
        }
    }

    /// The thread that makes checkpoints waits until one is asked for or may be due, and no longer
    /// than this. Returns how many were asked for and whether one of them has still to be made;
    /// `None` if there are to be no more.
    pub(crate) fn wait_until_due(&self, at_most: Duration) -> Option<(u64, bool)> {
        let waits = |state: &mut DemandsState| !state.is_over && !state.is_due && state.asked == state.done;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), at_most, waits)
            .unwrap_or_else(PoisonError::into_inner);
        if state.is_over {
            return None;
        }
        state.is_due = false;
        Some((state.asked, state.asked > state.done))
    }

    /// All that were asked for up to this one have their answer.
    pub(crate) fn answer(&self, asked: u64, made: Result<Checkpoint, Arc<CheckpointError>>) {
        let mut state = self.lock();
        state.done = asked;
        state.last = Some(made);
        self.changed.notify_all();
    }
}
