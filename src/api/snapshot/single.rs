//! Reads of single objects of a snapshot, carried to a shard many at a time.
//!
//! A snapshot has a queue of reads for each shard. A read stays there until somebody polls or drops
//! a read of its group, or until the queue has [`UNSENT_MAX`] groups. Then a job goes to the shard,
//! and takes all reads that are there. When each read was a job of its own, 80,000 of them took
//! 150 ms, and one read of the same 80,000 objects took 5 ms. When the first read in an empty queue
//! sent the job, two shards got jobs of a few reads each, and all took twice as long as now.
//!
//! A queue has at most one job. A job ends after one slice, so that its answers leave. It then
//! sends a job for the reads that are left.

use std::collections::VecDeque;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use freehold_shard::{Actor, Shard, ShardIndex};

use super::Snapshot;
use super::group::{Answer, Answers, GROUP_MAX, UnsentGroup};
use crate::core::command::Command;
use crate::core::jobs::{Job, JobStep, Permit};
use crate::core::prefetch::Processor;
use crate::core::slice::Slice;
use crate::error::{SnapshotError, panic_message};
use crate::transport::mailbox::Mailbox;

/// The most objects that are read between two turns.
const READS: usize = GROUP_MAX;
/// A queue with so many groups does not wait until a read is polled: the shard begins.
const UNSENT_MAX: usize = 16;
/// A queue has at most so many permits more than reads: as many as its last group has reads, so one
/// that few reads come to takes few.
const SPARE_PERMITS_MAX: usize = 64;

/// What a read answers.
pub(super) type ReadOutcome<A> = Result<Option<<A as Actor>::State>, SnapshotError>;

/// Reads that are answered together.
struct Group<A: Actor> {
    /// At most [`GROUP_MAX`], by place.
    ids: Vec<A::Id>,
    to: Answers<ReadOutcome<A>>,
}

/// The reads of one snapshot that wait for one shard.
pub(super) struct ReadQueue<A: Actor>(Mutex<QueuedReads<A>>);

struct QueuedReads<A: Actor> {
    /// All but the last are full.
    groups: VecDeque<Group<A>>,
    /// For as many jobs as there are reads, and some more. `None` while there are none.
    permit: Option<Permit>,
    /// For so many more. Others count the permits too, so each read that takes one alone has to
    /// wait for their line of memory.
    spare_permits: usize,
    /// A job is on its way to the shard, or there.
    has_job: bool,
}

impl<A: Actor> QueuedReads<A> {
    /// Takes a permit for a read; `None` if the shard has as many jobs as it may have.
    fn take_permit(&mut self, mailbox: &Mailbox<A, Command<A>>, max: usize) -> Option<()> {
        if self.spare_permits == 0 {
            self.spare_permits = match &mut self.permit {
                Some(permit) => {
                    let reads = self.groups.back().map_or(1, |group| group.ids.len());
                    permit.grow(reads.clamp(1, SPARE_PERMITS_MAX), max)
                }
                none => {
                    *none = Some(mailbox.permit(max)?);
                    1
                }
            };
        }
        self.spare_permits = self.spare_permits.checked_sub(1)?;
        Some(())
    }

    /// What the job takes along: the reads, and a permit for as many.
    fn take_reads(&mut self) -> (VecDeque<Group<A>>, Option<Permit>) {
        let spare = take(&mut self.spare_permits);
        if let Some(permit) = &mut self.permit {
            permit.shrink(spare);
        }
        (take(&mut self.groups), self.permit.take())
    }

    fn push(&mut self, id: A::Id, unsent: impl FnOnce() -> Box<dyn UnsentGroup>) -> Answer<ReadOutcome<A>> {
        if self.groups.back().is_none_or(|group| group.ids.len() == GROUP_MAX) {
            self.groups.push_back(Group { ids: Vec::new(), to: Answers::new(unsent()) });
        }
        let group = self.groups.back_mut().expect("there is one now");
        group.ids.push(id);
        group.to.of(group.ids.len() - 1)
    }

    /// Whether there are reads and no job. Whoever asks sends the job then.
    fn wants_job(&mut self) -> bool {
        !self.groups.is_empty() && !std::mem::replace(&mut self.has_job, true)
    }
}

impl<A: Actor> ReadQueue<A> {
    pub(super) fn new() -> Self {
        ReadQueue(Mutex::new(QueuedReads {
            groups: VecDeque::new(),
            permit: None,
            spare_permits: 0,
            has_job: false,
        }))
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
) -> Option<Answer<ReadOutcome<A>>> {
    let shared = &snapshot.open.shared;
    let (mailbox, max) = (&shared.mailboxes[shard.index()], shared.config.jobs_max);
    let (answer, wants_job) = {
        let waiting = &mut *snapshot.open.queue(shard).lock();
        waiting.take_permit(mailbox, max)?;
        let answer = waiting.push(id, || Box::new(UnsentReads { snapshot: snapshot.clone(), shard }));
        (answer, waiting.groups.len() >= UNSENT_MAX && waiting.wants_job())
    };
    if wants_job {
        ReadJob::send(ReadJob::new(snapshot.clone(), shard));
    }
    Some(answer)
}

/// What each group in the queue has until one of its reads is polled or dropped. It keeps the
/// snapshot open for them.
struct UnsentReads<A: Actor> {
    snapshot: Snapshot<A>,
    shard: ShardIndex,
}

impl<A: Actor> UnsentGroup for UnsentReads<A> {
    fn send(self: Box<Self>) {
        let open = &self.snapshot.open;
        // In a forked child there is no shard to send it to.
        if !open.shared.birth.is_elsewhere() && open.queue(self.shard).lock().wants_job() {
            ReadJob::send(ReadJob::new(self.snapshot, self.shard));
        }
    }
}

type AnsweredGroup<A> = (Answers<ReadOutcome<A>>, Vec<Option<ReadOutcome<A>>>);

/// The job of a queue. It keeps the snapshot open for the reads that it answers.
struct ReadJob<A: Actor> {
    snapshot: Snapshot<A>,
    shard: ShardIndex,
    /// Taken from the queue.
    groups: VecDeque<Group<A>>,
    /// For the reads in `groups` and `answered`.
    permit: Option<Permit>,
    /// The answers of the first of `groups`, so far.
    outcomes: Vec<Option<ReadOutcome<A>>>,
    /// The groups that its one step has finished.
    answered: Vec<AnsweredGroup<A>>,
    /// Whether it has taken that step. It has not if the shard left before.
    has_run: bool,
}

impl<A: Actor> ReadJob<A> {
    fn new(snapshot: Snapshot<A>, shard: ShardIndex) -> Self {
        let (groups, outcomes) = (VecDeque::new(), Vec::new());
        ReadJob { snapshot, shard, groups, permit: None, outcomes, answered: Vec::new(), has_run: false }
    }

    /// Sends the job for its reads, and for those that are in the queue when it gets there.
    fn send(self) {
        let shared = self.snapshot.open.shared.clone();
        shared.mailboxes[self.shard.index()].command(Command::Job(Box::new(self)), &shared.replies);
    }

    /// Takes all reads out of the queue if this job has none. Says whether it has some now.
    fn take_more(&mut self) -> bool {
        if self.groups.is_empty() {
            let mut waiting = self.snapshot.open.queue(self.shard).lock();
            (self.groups, self.permit) = waiting.take_reads();
            waiting.has_job = !self.groups.is_empty();
        }
        !self.groups.is_empty()
    }

    fn read(&self, shard: &mut Shard<A, Processor>, id: &A::Id) -> ReadOutcome<A> {
        let epoch = self.snapshot.open.epoch;
        let read = || shard.read_at(epoch, id).map(|object| object.map(|(_, state)| state.clone()));
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(state) => state.map_err(SnapshotError::from),
            Err(payload) => Err(SnapshotError::Panicked(panic_message(payload))),
        }
    }
}

impl<A: Actor> Job<A> for ReadJob<A> {
    fn step(&mut self, shard: &mut Shard<A, Processor>) -> JobStep<()> {
        let (mut slice, mut reads) = (Slice::begin(), 0);
        self.has_run = true;
        self.take_more();
        let mut has_time = true;
        while has_time && let Some(group) = self.groups.pop_front() {
            // Nobody waits for these, and their answers go nowhere.
            let dropped = group.to.dropped();
            self.outcomes.reserve_exact(group.ids.len() - self.outcomes.len());
            while has_time && let Some(id) = group.ids.get(self.outcomes.len()) {
                let is_wanted = !dropped.contains(self.outcomes.len());
                let outcome = is_wanted.then(|| self.read(shard, id));
                self.outcomes.push(outcome);
                reads += 1;
                has_time = slice.goes_on() && reads < READS;
            }
            if self.outcomes.len() == group.ids.len() {
                self.answered.push((group.to, take(&mut self.outcomes)));
            } else {
                self.groups.push_front(group);
            }
        }
        JobStep::Done(())
    }

    fn is_awaited(&self) -> bool {
        // Each of its reads has a caller of its own, and `step` asks for each.
        true
    }
}

impl<A: Actor> Drop for ReadJob<A> {
    fn drop(&mut self) {
        if !self.has_run {
            // The shard has left. A group that is dropped tells the callers so.
            let waiting = &mut *self.snapshot.open.queue(self.shard).lock();
            waiting.has_job = false;
            self.groups.extend(waiting.take_reads().0);
            return;
        }
        for (to, outcomes) in take(&mut self.answered) {
            if let Some(permit) = &mut self.permit {
                permit.shrink(outcomes.len());
            }
            // If all callers have gone meanwhile, the states are dropped here, and a user's may
            // panic. The queue must still get its next job.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| to.hand_over(outcomes))) {
                let panic = panic_message(payload);
                tracing::warn!(panic, "a state that was read from a snapshot panicked when it was dropped");
            }
        }
        if self.take_more() {
            let mut next = ReadJob::new(self.snapshot.clone(), self.shard);
            (next.groups, next.permit) = (take(&mut self.groups), self.permit.take());
            next.outcomes = take(&mut self.outcomes);
            next.send();
        }
    }
}
