//! Reads of single objects of a snapshot, carried to a shard many at a time.
//!
//! A snapshot has a queue of reads for each shard. The first read in a queue sends a job to the
//! shard, and the job takes all reads that are there. When each read was a job of its own, 80,000
//! of them took 150 ms, and one read of the same 80,000 objects took 5 ms.
//!
//! A queue that is not empty has exactly one job. A job ends after one slice, so that its answers
//! leave. It then sends a job for the reads that are left.

use std::collections::VecDeque;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use freehold_shard::{Actor, Shard, ShardIndex};
use futures_channel::oneshot;

use super::Snapshot;
use crate::core::command::Command;
use crate::core::jobs::{Job, Permit, Progress};
use crate::core::prefetch::Processor;
use crate::core::slice::Slice;
use crate::error::{SnapshotError, panic_message};

/// The most objects that are read between two turns.
const READS: usize = 256;

/// What a read answers.
pub(super) type Answer<A> = Result<Option<<A as Actor>::State>, SnapshotError>;

struct Read<A: Actor> {
    id: A::Id,
    to: oneshot::Sender<Answer<A>>,
}

/// The reads of one snapshot that wait for one shard.
pub(super) struct ReadQueue<A: Actor>(Mutex<QueuedReads<A>>);

struct QueuedReads<A: Actor> {
    reads: Vec<Read<A>>,
    /// For as many jobs as there are reads. `None` while there are none.
    permit: Option<Permit>,
    /// A job is on its way to the shard, or there.
    has_job: bool,
}

impl<A: Actor> ReadQueue<A> {
    pub(super) fn new() -> Self {
        ReadQueue(Mutex::new(QueuedReads { reads: Vec::new(), permit: None, has_job: false }))
    }

    fn lock(&self) -> MutexGuard<'_, QueuedReads<A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks `shard` for the object `id` of `snapshot`; `None` if the shard has as many jobs as it may
/// have.
pub(super) fn read<A: Actor>(
    snapshot: &Snapshot<A>,
    shard: ShardIndex,
    id: A::Id,
) -> Option<oneshot::Receiver<Answer<A>>> {
    let shared = &snapshot.open.shared;
    let (mailbox, max) = (&shared.mailboxes[shard.index()], shared.config.jobs_max);
    let (to, answer) = oneshot::channel();
    let is_first = {
        let waiting = &mut *snapshot.open.queue(shard).lock();
        match &mut waiting.permit {
            Some(permit) => permit.grow(max).then_some(())?,
            none => *none = Some(mailbox.permit(max)?),
        }
        waiting.reads.push(Read { id, to });
        !std::mem::replace(&mut waiting.has_job, true)
    };
    if is_first {
        ReadJob::send(snapshot.clone(), shard, VecDeque::new(), None);
    }
    Some(answer)
}

/// The job of a queue. It keeps the snapshot open for the reads that it answers.
struct ReadJob<A: Actor> {
    snapshot: Snapshot<A>,
    shard: ShardIndex,
    /// Taken from the queue.
    reads: VecDeque<Read<A>>,
    /// For the reads in `reads` and `answered`.
    permit: Option<Permit>,
    /// The answers of its one step. They are empty if the shard left before that step.
    answered: Vec<(oneshot::Sender<Answer<A>>, Answer<A>)>,
}

impl<A: Actor> ReadJob<A> {
    /// Sends a job for `reads`, and for those that are in the queue when it gets there.
    fn send(snapshot: Snapshot<A>, shard: ShardIndex, reads: VecDeque<Read<A>>, permit: Option<Permit>) {
        let shared = snapshot.open.shared.clone();
        let job = ReadJob { snapshot, shard, reads, permit, answered: Vec::new() };
        shared.mailboxes[shard.index()].command(Command::Job(Box::new(job)), &shared.replies);
    }

    /// Takes all reads out of the queue if this job has none. Says whether it has some now.
    fn take_more(&mut self) -> bool {
        if self.reads.is_empty() {
            let mut waiting = self.snapshot.open.queue(self.shard).lock();
            self.reads = take(&mut waiting.reads).into();
            self.permit = waiting.permit.take();
            waiting.has_job = !self.reads.is_empty();
        }
        !self.reads.is_empty()
    }
}

impl<A: Actor> Job<A> for ReadJob<A> {
    fn step(&mut self, shard: &mut Shard<A, Processor>) -> Progress<()> {
        let epoch = self.snapshot.open.epoch;
        let mut slice = Slice::begin();
        self.take_more();
        while self.answered.len() < READS
            && let Some(Read { id, to }) = self.reads.pop_front()
        {
            let read = || shard.read_at(epoch, &id).map(|object| object.map(|(_, state)| state.clone()));
            // The caller has dropped this read, and the answer goes nowhere.
            let answer = if to.is_canceled() {
                Ok(None)
            } else {
                match catch_unwind(AssertUnwindSafe(read)) {
                    Ok(state) => state.map_err(SnapshotError::from),
                    Err(payload) => Err(SnapshotError::Panicked(panic_message(payload))),
                }
            };
            self.answered.push((to, answer));
            if !slice.goes_on() {
                break;
            }
        }
        Progress::Done(())
    }

    fn is_awaited(&self) -> bool {
        // Each of its reads has a caller of its own, and `step` asks for each.
        true
    }
}

impl<A: Actor> Drop for ReadJob<A> {
    fn drop(&mut self) {
        let answered = take(&mut self.answered);
        if answered.is_empty() {
            // The shard has left. A sender that is dropped tells the caller so.
            let waiting = &mut *self.snapshot.open.queue(self.shard).lock();
            waiting.has_job = false;
            self.reads.extend(waiting.reads.drain(..));
            waiting.permit = None;
            return;
        }
        if let Some(permit) = &mut self.permit {
            permit.shrink(answered.len());
        }
        for (to, answer) in answered {
            // A user's waker or state may panic here. The queue must still get its next job.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(to.send(answer)))) {
                tracing::warn!(
                    panic = panic_message(payload),
                    "a state that was read from a snapshot panicked when it was dropped, or the waker of its task did"
                );
            }
        }
        if self.take_more() {
            ReadJob::send(self.snapshot.clone(), self.shard, take(&mut self.reads), self.permit.take());
        }
    }
}
