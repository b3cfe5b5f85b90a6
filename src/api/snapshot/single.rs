//! Reads of one object of a snapshot each, carried to a shard many at a time.
//!
//! A read by itself was a job: a box, a command, and a doorbell for each. 80,000 of them took 150
//! ms, and one read of the same 80,000 objects 5 ms. Now the first read of a snapshot sends a job
//! to the shard. Those that follow are put into the snapshot's queue for that shard, and the job
//! takes whatever is there.
//!
//! A queue that is not empty has a job, and only one. The job ends with each slice, so that its
//! answers leave; it then sends itself again if reads are left.

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
    /// One read, one permit. `None` while there are no reads.
    permit: Option<Permit>,
    /// A job will look here.
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
        let job = ReadJob {
            snapshot: snapshot.clone(),
            shard,
            reads: VecDeque::new(),
            permit: None,
            answered: Vec::new(),
        };
        job.send();
    }
    Some(answer)
}

/// The job of a queue. It keeps the snapshot open for the reads that it answers.
struct ReadJob<A: Actor> {
    snapshot: Snapshot<A>,
    shard: ShardIndex,
    /// Taken from the queue.
    reads: VecDeque<Read<A>>,
    /// Of those in `reads` and `answered`.
    permit: Option<Permit>,
    /// What the last step read. Empty in a job that has taken no step: that one was cancelled.
    answered: Vec<(oneshot::Sender<Answer<A>>, Answer<A>)>,
}

impl<A: Actor> ReadJob<A> {
    fn send(self) {
        let (shared, shard) = (self.snapshot.open.shared.clone(), self.shard.index());
        shared.mailboxes[shard].command(Command::Job(Box::new(self)), &shared.replies);
    }

    /// Takes what waits in the queue; whether there is anything to read now.
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
            // Nobody waits for it any more: it is let go of without being read.
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
        // Its reads may be, each by itself.
        true
    }
}

impl<A: Actor> Drop for ReadJob<A> {
    fn drop(&mut self) {
        let answered = take(&mut self.answered);
        if answered.is_empty() {
            // The shard leaves, and takes no step. A sender that is dropped says so.
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
            // What nobody waits for is dropped here, and is the user's. The queue must not be left
            // without its job.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(to.send(answer)))) {
                tracing::warn!(
                    panic = panic_message(payload),
                    "a state read from a snapshot panicked when it was dropped"
                );
            }
        }
        if self.take_more() {
            ReadJob {
                snapshot: self.snapshot.clone(),
                shard: self.shard,
                reads: take(&mut self.reads),
                permit: self.permit.take(),
                answered: Vec::new(),
            }
            .send();
        }
    }
}
