//! What a shard does for others beside its messages: steps after each turn, for so long that
//! messages do not wait.
//!
//! A job is *ready*, or it waits for an epoch to be closed or durable. Those that wait are kept by
//! that epoch, and only the first is looked at: what is not closed yet closes nothing later, and
//! what is not durable yet makes nothing later durable. So a round costs the same however many
//! wait. (A list of all of them was looked through in each round: 400,000 reads of a snapshot made
//! every message take 7 ms.)
//!
//! A job reports exactly once, and only when it is let go of: its result, what it panicked with, or
//! that it was cancelled. The pump lets go of one that is done when nothing of the shard is
//! borrowed, because whoever hears of it may do anything. One that nobody waits for any more is let
//! go of when its turn comes.
//!
//! How many there may be in front of and in one shard is bounded (`jobs_max`): each holds a
//! [`Permit`].

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use freehold_shard::{Actor, Epoch, Shard};

use crate::core::prefetch::Processor;
use crate::error::{TaskError, panic_message};
use crate::transport::each_shard::Reporter;

/// For how long jobs go on in one round, and at least one of them does.
const ROUND_MAX: Duration = Duration::from_micros(50);

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The shard has closed all epochs before this one.
    Closed(Epoch),
    /// Everything up to this epoch is on disk.
    Durable(Epoch),
}

/// How far a step has brought a job.
pub(crate) enum JobStep<T> {
    Done(T),
    /// It goes on after the next turn.
    GoesOn,
    Waits(Wait),
}

/// Something to be done on a shard.
pub(crate) trait Job<A: Actor>: Send {
    /// Goes on with it. What comes of it is reported when the job is dropped.
    fn step(&mut self, shard: &mut Shard<A, Processor>) -> JobStep<()>;

    /// Whether anybody waits for its report.
    fn is_awaited(&self) -> bool;
}

/// The right to have a job in front of a shard or in it, or several.
pub(crate) struct Permit {
    held: Arc<AtomicUsize>,
    jobs: usize,
}

impl Permit {
    /// One of at most `max`; `None` if as many are held.
    pub(crate) fn one_of(held: &Arc<AtomicUsize>, max: usize) -> Option<Permit> {
        (take_room(held, 1, max) == 1).then(|| Permit { held: held.clone(), jobs: 1 })
    }

    /// One that the runtime itself takes, which is never refused.
    pub(crate) fn unbounded(held: &Arc<AtomicUsize>) -> Permit {
        held.fetch_add(1, Ordering::Relaxed);
        Permit { held: held.clone(), jobs: 1 }
    }

    /// For `wanted` jobs more, or for as many as `max` has room for. For how many.
    pub(crate) fn grow(&mut self, wanted: usize, max: usize) -> usize {
        let grown = take_room(&self.held, wanted, max);
        self.jobs += grown;
        grown
    }

    /// For so many jobs less.
    pub(crate) fn shrink(&mut self, jobs: usize) {
        assert!(jobs <= self.jobs, "a permit for {} jobs is given back for {jobs}", self.jobs);
        self.jobs -= jobs;
        self.held.fetch_sub(jobs, Ordering::Relaxed);
    }
}

/// Adds `wanted` to `held`, or as much as `max` has room for. How much.
fn take_room(held: &AtomicUsize, wanted: usize, max: usize) -> usize {
    let room = |held: usize| wanted.min(max.saturating_sub(held));
    let more = |held: usize| (room(held) > 0).then(|| held + room(held));
    held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_or(0, room)
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.held.fetch_sub(self.jobs, Ordering::Relaxed);
    }
}

/// The jobs of a shard.
pub(crate) struct Jobs<A: Actor> {
    ready: VecDeque<Box<dyn Job<A>>>,
    closing: ByEpoch<Box<dyn Job<A>>>,
    durable: ByEpoch<Box<dyn Job<A>>>,
    /// To be let go of.
    done: Vec<Box<dyn Job<A>>>,
}

impl<A: Actor> Jobs<A> {
    pub(crate) fn new() -> Self {
        Jobs { ready: VecDeque::new(), closing: ByEpoch::new(), durable: ByEpoch::new(), done: Vec::new() }
    }

    pub(crate) fn enqueue(&mut self, job: Box<dyn Job<A>>) {
        self.ready.push_back(job);
    }

    /// Whether one could go on now. What those wait for that are not ready is for others to notice.
    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Goes on with them. Says how long that took.
    #[inline]
    pub(crate) fn run(&mut self, shard: &mut Shard<A, Processor>) -> Duration {
        if !(self.closing.is_empty() && self.durable.is_empty()) {
            self.wake(shard);
        }
        if self.ready.is_empty() { Duration::ZERO } else { self.run_ready(shard) }
    }

    #[cold]
    fn wake(&mut self, shard: &mut Shard<A, Processor>) {
        while let Some(jobs) = self.closing.take_first_if(|epoch| shard.has_closed(epoch)) {
            self.ready.extend(jobs);
        }
        while let Some(jobs) = self.durable.take_first_if(|epoch| shard.want_durable(epoch)) {
            self.ready.extend(jobs);
        }
    }

    #[cold]
    fn run_ready(&mut self, shard: &mut Shard<A, Processor>) -> Duration {
        let begun = Instant::now();
        // Each at most once in a round.
        for _ in 0..self.ready.len() {
            let Some(mut job) = self.ready.pop_front() else { break };
            if !job.is_awaited() {
                self.done.push(job);
                continue;
            }
            match job.step(shard) {
                JobStep::Done(()) => self.done.push(job),
                JobStep::GoesOn => self.ready.push_back(job),
                JobStep::Waits(Wait::Closed(epoch)) => self.closing.push(epoch, job),
                JobStep::Waits(Wait::Durable(epoch)) => self.durable.push(epoch, job),
            }
            if begun.elapsed() >= ROUND_MAX {
                break;
            }
        }
        begun.elapsed()
    }

    /// Those that are to be let go of.
    #[inline]
    pub(crate) fn take_done(&mut self) -> Vec<Box<dyn Job<A>>> {
        std::mem::take(&mut self.done)
    }

    /// All there are.
    pub(crate) fn drain(&mut self) -> Vec<Box<dyn Job<A>>> {
        let mut all: Vec<_> = self.ready.drain(..).collect();
        while let Some(jobs) = self.closing.take_first_if(|_| true) {
            all.extend(jobs);
        }
        while let Some(jobs) = self.durable.take_first_if(|_| true) {
            all.extend(jobs);
        }
        all.append(&mut self.done);
        all
    }
}

/// Those that wait for an epoch each, by that. The first is the last of the list, so that it is
/// taken off at no cost. There are few epochs at a time. (A tree of them would be a twentieth of
/// the code that each actor brings.)
struct ByEpoch<T> {
    lists: Vec<(Epoch, Vec<T>)>,
}

impl<T> ByEpoch<T> {
    fn new() -> Self {
        ByEpoch { lists: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    fn push(&mut self, epoch: Epoch, one: T) {
        let at = self.lists.partition_point(|(of, _)| *of > epoch);
        match self.lists.get_mut(at) {
            Some((of, list)) if *of == epoch => list.push(one),
            _ => self.lists.insert(at, (epoch, vec![one])),
        }
    }

    /// Takes those of the first epoch, in the order they came, if `takes` says so of it.
    fn take_first_if(&mut self, takes: impl FnOnce(Epoch) -> bool) -> Option<Vec<T>> {
        let first = self.lists.pop_if(|(epoch, _)| takes(*epoch))?;
        Some(first.1)
    }
}

/// Lets go of jobs, which report then. What they were given to work with is a user's, and may panic
/// when it is dropped.
pub(crate) fn let_go<A: Actor>(jobs: impl IntoIterator<Item = Box<dyn Job<A>>>) {
    for job in jobs {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(job))) {
            tracing::warn!(
                panic = panic_message(payload),
                "what a snapshot was read with panicked when it was dropped"
            );
        }
    }
}

struct Steps<T, F> {
    step: F,
    result: Option<Result<T, TaskError>>,
    /// `None` only while it is dropped.
    reporter: Option<Reporter<T>>,
    /// Given back when the job is let go of.
    _permit: Permit,
}

/// A job that is done when `step` says so, with what `reporter` is to report.
pub(crate) fn job<A, T, F>(permit: Permit, reporter: Reporter<T>, step: F) -> Box<dyn Job<A>>
where
    A: Actor,
    T: Send + 'static,
    F: FnMut(&mut Shard<A, Processor>) -> JobStep<T> + Send + 'static,
{
    Box::new(Steps { step, result: None, reporter: Some(reporter), _permit: permit })
}

impl<A, T, F> Job<A> for Steps<T, F>
where
    A: Actor,
    T: Send,
    F: FnMut(&mut Shard<A, Processor>) -> JobStep<T> + Send,
{
    fn step(&mut self, shard: &mut Shard<A, Processor>) -> JobStep<()> {
        let result = match catch_unwind(AssertUnwindSafe(|| (self.step)(shard))) {
            Ok(JobStep::GoesOn) => return JobStep::GoesOn,
            Ok(JobStep::Waits(wait)) => return JobStep::Waits(wait),
            Ok(JobStep::Done(result)) => Ok(result),
            Err(payload) => Err(TaskError::Panicked(panic_message(payload))),
        };
        self.result = Some(result);
        JobStep::Done(())
    }

    fn is_awaited(&self) -> bool {
        self.reporter.as_ref().is_some_and(Reporter::is_awaited)
    }
}

impl<T, F> Drop for Steps<T, F> {
    fn drop(&mut self) {
        if let (Some(result), Some(reporter)) = (self.result.take(), self.reporter.take()) {
            reporter.report(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use freehold_shard::{Limits, Mvcc, PlacementKey, Router, ShardIndex, Time};

    use super::*;
    use crate::test_actor::Accounts;
    use crate::transport::each_shard::EachShard;

    fn shard() -> (Shard<Accounts, Processor>, Arc<Mvcc<Accounts>>) {
        let mvcc = Arc::new(Mvcc::new(1));
        let router = Router::new(PlacementKey(1), 1);
        (Shard::new(ShardIndex(0), router, Limits::default(), 1, mvcc.clone()), mvcc)
    }

    /// A job that counts its steps and waits for an epoch that is not yet.
    fn counting(steps: &Arc<AtomicUsize>, wait: Wait) -> (Box<dyn Job<Accounts>>, EachShard<()>) {
        let (each, mut reporters) = EachShard::new(1);
        let (steps, permit) = (steps.clone(), Permit::unbounded(&Arc::default()));
        let step = move |shard: &mut Shard<Accounts, Processor>| {
            steps.fetch_add(1, Ordering::Relaxed);
            match wait {
                Wait::Closed(epoch) if shard.has_closed(epoch) => JobStep::Done(()),
                wait => JobStep::Waits(wait),
            }
        };
        (job(permit, reporters.next().expect("one"), step), each)
    }

    fn run_all(jobs: &mut Jobs<Accounts>, shard: &mut Shard<Accounts, Processor>) {
        jobs.run(shard);
        while jobs.has_ready() {
            jobs.run(shard);
        }
    }

    /// All that waited were looked at in each round: with 400,000 of them an ask took 7 ms.
    #[test]
    fn what_waits_is_not_looked_at_until_it_can_go_on() {
        let ((mut shard, mvcc), mut jobs) = (shard(), Jobs::new());
        let now = mvcc.epochs().epoch();
        let (steps, mut each) = (Arc::new(AtomicUsize::new(0)), Vec::new());
        for late in 0..1000 {
            // The last ones first.
            let epoch = Epoch(now.0 + 1000 - late);
            let (job, awaited) = counting(&steps, Wait::Closed(epoch));
            jobs.enqueue(job);
            each.push(awaited);
        }
        run_all(&mut jobs, &mut shard);
        assert_eq!(steps.load(Ordering::Relaxed), 1000);
        (0..100).for_each(|_| _ = jobs.run(&mut shard));
        assert_eq!(steps.load(Ordering::Relaxed), 1000, "nothing has happened");
        for opened in 1..=1000 {
            mvcc.epochs().open(Time(0));
            shard.enter();
            run_all(&mut jobs, &mut shard);
            assert_eq!(steps.load(Ordering::Relaxed), 1000 + opened, "one could go on");
            let_go(jobs.take_done());
        }
        each.into_iter().for_each(|awaited| assert_eq!(awaited.wait(), [Ok(())]));
    }

    type Noted = Arc<Mutex<Vec<u32>>>;

    /// A job that notes its name, takes as long as a round, and says this once.
    fn noting(noted: &Noted, name: u32, first: JobStep<()>) -> (Box<dyn Job<Accounts>>, EachShard<()>) {
        let (each, mut reporters) = EachShard::new(1);
        let (noted, mut first) = (noted.clone(), Some(first));
        let step = move |_: &mut Shard<Accounts, Processor>| {
            noted.lock().expect("no job panics").push(name);
            let begun = Instant::now();
            while begun.elapsed() < ROUND_MAX {}
            first.take().unwrap_or(JobStep::Done(()))
        };
        (job(Permit::unbounded(&Arc::default()), reporters.next().expect("one"), step), each)
    }

    fn took(noted: &Noted) -> Vec<u32> {
        std::mem::take(&mut *noted.lock().expect("no job panics"))
    }

    #[test]
    fn those_of_all_epochs_that_have_ended_go_on_in_the_order_they_came() {
        let ((mut shard, mvcc), mut jobs) = (shard(), Jobs::new());
        let (noted, now) = (Noted::default(), mvcc.epochs().epoch());
        let closed = |epochs| JobStep::Waits(Wait::Closed(Epoch(now.0 + epochs)));
        // Everything is durable where there is no log.
        let firsts = [closed(1), closed(1), closed(2), JobStep::Waits(Wait::Durable(now))];
        let mut awaited = Vec::new();
        for (name, first) in (0..).zip(firsts) {
            let (job, each) = noting(&noted, name, first);
            jobs.enqueue(job);
            awaited.push(each);
        }
        run_all(&mut jobs, &mut shard);
        run_all(&mut jobs, &mut shard);
        assert_eq!(took(&noted), [0, 1, 2, 3, 3]);
        for _ in 0..2 {
            mvcc.epochs().open(Time(0));
        }
        shard.enter();
        jobs.wake(&mut shard);
        assert_eq!(jobs.ready.len(), 3, "those of both epochs");
        run_all(&mut jobs, &mut shard);
        assert_eq!(took(&noted), [0, 1, 2]);
        let_go(jobs.take_done());
        awaited.into_iter().for_each(|awaited| assert_eq!(awaited.wait(), [Ok(())]));
    }

    #[test]
    fn a_round_ends_after_its_time_and_what_goes_on_is_behind_the_others() {
        let ((mut shard, _), mut jobs) = (shard(), Jobs::new());
        let noted = Noted::default();
        let mut awaited = Vec::new();
        for name in 0..3 {
            let (job, each) = noting(&noted, name, JobStep::GoesOn);
            jobs.enqueue(job);
            awaited.push(each);
        }
        for name in [0, 1, 2, 0, 1, 2] {
            jobs.run(&mut shard);
            assert_eq!(took(&noted), [name], "one takes a whole round");
        }
        assert_eq!((jobs.has_ready(), jobs.take_done().len()), (false, 3));
    }

    #[test]
    fn all_of_them_are_let_go_of_at_the_end() {
        let ((mut shard, mvcc), mut jobs) = (shard(), Jobs::new());
        let (noted, later) = (Noted::default(), Epoch(mvcc.epochs().epoch().0 + 1));
        let firsts = [
            JobStep::Done(()),
            JobStep::Waits(Wait::Closed(later)),
            JobStep::Waits(Wait::Durable(later)),
            JobStep::GoesOn,
        ];
        let mut awaited = Vec::new();
        for first in firsts {
            let (job, each) = noting(&noted, 0, first);
            jobs.enqueue(job);
            awaited.push(each);
        }
        // One of each: the last has had no turn.
        for _ in 0..3 {
            jobs.run(&mut shard);
        }
        let places = (jobs.done.len(), jobs.closing.lists.len(), jobs.durable.lists.len(), jobs.ready.len());
        assert_eq!(places, (1, 1, 1, 1));
        let all = jobs.drain();
        assert_eq!(all.len(), 4);
        let_go(all);
        let outcomes: Vec<_> = awaited.into_iter().flat_map(EachShard::wait).collect();
        assert_eq!(outcomes[0], Ok(()));
        assert!(outcomes[1..].iter().all(|outcome| *outcome == Err(TaskError::Cancelled)), "{outcomes:?}");
    }

    #[test]
    fn what_nobody_waits_for_is_let_go_of_without_a_step() {
        let ((mut shard, _), mut jobs) = (shard(), Jobs::new());
        let steps = Arc::new(AtomicUsize::new(0));
        for _ in 0..1000 {
            let (job, awaited) = counting(&steps, Wait::Closed(Epoch(0)));
            drop(awaited);
            jobs.enqueue(job);
        }
        run_all(&mut jobs, &mut shard);
        assert_eq!((steps.load(Ordering::Relaxed), jobs.take_done().len()), (0, 1000));
    }

    #[test]
    fn a_permit_is_given_back_when_its_job_is_let_go_of() {
        let held = Arc::new(AtomicUsize::new(0));
        let mut permits: Vec<_> = std::iter::from_fn(|| Permit::one_of(&held, 3)).collect();
        assert_eq!(permits.len(), 3);
        // The runtime's own comes on top.
        let ours = Permit::unbounded(&held);
        assert!(Permit::one_of(&held, 3).is_none());
        let mut first = permits.pop().expect("three");
        let grown = [first.grow(1, 4), first.grow(1, 6), first.grow(3, 6), first.grow(1, 6)];
        assert_eq!(grown, [0, 1, 1, 0], "as many as there is room for");
        first.shrink(2);
        assert_eq!(held.load(Ordering::Relaxed), 4);
        drop((permits, first));
        assert_eq!(held.load(Ordering::Relaxed), 1);
        drop(ours);
        assert!(Permit::one_of(&held, 1).is_some());
    }
}
