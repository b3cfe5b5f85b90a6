//! Snapshots: a consistent view of all objects as they were at one instant, for as long as one
//! needs it, blocking nobody.
//!
//! Opening one ends the epoch and asks every shard to say when it has closed the epochs before: a
//! turn or two. From then on every read is immediate: single objects and walks over all of them are
//! jobs of their shards, in slices between turns; published objects are read right here. What
//! writers overwrite meanwhile is kept until the last clone of the snapshot is dropped. One that is
//! forgotten is revoked when too much is kept for it or for too long (`limits.versions_max`,
//! `limits.snapshot_age_max`).

mod entries;
mod group;
mod placement;
mod single;

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use freehold_shard::{Actor, Epoch, Expired, ShardIndex, Tally, Time};

use crate::core::command::Command;
use crate::core::jobs::{JobStep, Wait, job};
use crate::core::shared::Shared;
use crate::core::slice::Slice;
use crate::error::{SnapshotError, TaskError};
use crate::fork::Birth;
use crate::transport::each_shard::EachShard;
use crate::transport::waiting;

/// The most slots a walk visits between two turns; see [`Slice`] for how long it takes.
const SLOTS: usize = 1024;
/// The most objects that are read one by one between two turns.
const READS: usize = 128;

/// All objects as they were at the start of one epoch. From
/// [`Handle::snapshot`](crate::Handle::snapshot) or [`Local::snapshot`](crate::Local::snapshot).
/// Clones are the same snapshot; when the last one is dropped it is closed.
///
/// It contains everything that had been answered before it was asked for, all or nothing of every
/// message, and nothing that was sent after it was there.
pub struct Snapshot<A: Actor> {
    open: Arc<Open<A>>,
}

struct Open<A: Actor> {
    shared: Arc<Shared<A>>,
    epoch: Epoch,
    /// A checkpoint reads nothing through it.
    whose: Whose,
    /// By shard; made by the first read of a single object.
    queues: OnceLock<Box<[single::ReadQueue<A>]>>,
}

impl<A: Actor> Open<A> {
    fn queue(&self, shard: ShardIndex) -> &single::ReadQueue<A> {
        let make = || (0..self.shared.mailboxes.len()).map(|_| single::ReadQueue::new()).collect();
        &self.queues.get_or_init(make)[shard.index()]
    }
}

impl<A: Actor> Drop for Open<A> {
    fn drop(&mut self) {
        // A child of the process has a copy of it that nobody knows of, and locks that may be held
        // for ever.
        if self.shared.birth.is_elsewhere() {
            return;
        }
        let epochs = self.shared.mvcc.epochs();
        match self.whose {
            Whose::User => epochs.close(self.epoch),
            Whose::Checkpoint => epochs.end_checkpoint(self.epoch),
        }
        self.shared.tell_epochs();
    }
}

/// Opens a snapshot. Where answers wait until they are durable, so does it.
pub(crate) fn open<A: Actor>(shared: &Arc<Shared<A>>) -> SnapshotRead<Snapshot<A>> {
    let readable = if shared.answers_when_durable() { Readable::Durable } else { Readable::Closed };
    open_when(shared, readable, Whose::User)
}

/// Begins a checkpoint, and waits until what it sees is durable. There is one at a time; it ends
/// when this is dropped.
pub(crate) fn open_for_checkpoint<A: Actor>(shared: &Arc<Shared<A>>) -> SnapshotRead<Snapshot<A>> {
    open_when(shared, Readable::Durable, Whose::Checkpoint)
}

/// Who asks shards for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// A user, whose jobs are bounded.
    User,
    /// The runtime itself, for a checkpoint: it is never refused and never revoked.
    Checkpoint,
}

/// When a snapshot may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readable {
    /// All shards have closed the epochs it sees.
    Closed,
    /// What it sees is durable, too.
    Durable,
}

fn open_when<A: Actor>(
    shared: &Arc<Shared<A>>,
    readable: Readable,
    whose: Whose,
) -> SnapshotRead<Snapshot<A>> {
    if !shared.is_open() {
        return SnapshotRead::known(Err(SnapshotError::Stopped));
    }
    let now = Time(u64::try_from(shared.started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let epochs = shared.mvcc.epochs();
    let epoch = match whose {
        Whose::User => epochs.open(now),
        Whose::Checkpoint => epochs.begin_checkpoint(),
    };
    let before = Epoch(epoch.0 - 1);
    let snapshot =
        Snapshot { open: Arc::new(Open { shared: shared.clone(), epoch, whose, queues: OnceLock::new() }) };
    let shards = (0..shared.mailboxes.len()).map(|shard| ShardIndex(shard as u16));
    let closed = snapshot.on_shards(shards, whose, move |_| {
        move |shard: &mut freehold_shard::Shard<A, _>| {
            if !shard.has_closed(epoch) {
                JobStep::Waits(Wait::Closed(epoch))
            } else if readable == Readable::Durable && !shard.want_durable(before) {
                JobStep::Waits(Wait::Durable(before))
            } else {
                JobStep::Done(())
            }
        }
    });
    SnapshotRead::new(async move {
        for closed in closed.await {
            closed.map_err(SnapshotError::of)?;
        }
        Ok(snapshot)
    })
}

impl<A: Actor> Snapshot<A> {
    /// The epoch at whose start the view is. A later snapshot has a later one.
    pub fn epoch(&self) -> Epoch {
        self.open.epoch
    }

    /// The state of the object `id` as it was; `None` if it did not exist.
    ///
    /// Reads of one shard go there together: when one of them is polled, waited for or dropped, or
    /// when some thousands are under way. Until then the read keeps the snapshot open.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn get(&self, id: A::Id) -> SnapshotRead<Option<A::State>> {
        let shared = &self.open.shared;
        if shared.birth.is_elsewhere() {
            return SnapshotRead::known(Err(SnapshotError::Stopped));
        }
        match single::read(self, shared.router.home(&id), id) {
            Some(answer) => SnapshotRead(ReadState::One(answer, shared.birth)),
            None => SnapshotRead::known(Err(SnapshotError::Overloaded)),
        }
    }

    /// The states of many objects, in the order of `ids`, one job for each shard concerned.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn get_all(&self, ids: impl IntoIterator<Item = A::Id>) -> SnapshotRead<Vec<Option<A::State>>> {
        let router = self.open.shared.router;
        let mut by_shard: Vec<Vec<(usize, A::Id)>> = vec![Vec::new(); router.shards()];
        let mut objects = 0;
        for id in ids {
            by_shard[router.home(&id).index()].push((objects, id));
            objects += 1;
        }
        let concerned: Vec<_> = (0..by_shard.len()).filter(|&shard| !by_shard[shard].is_empty()).collect();
        let shards = concerned.iter().map(|&shard| ShardIndex(shard as u16));
        let reads = self.on_shards(shards, Whose::User, |shard| {
            let ids = std::mem::take(&mut by_shard[shard.index()]);
            let (snapshot, mut read) = (self.clone(), Vec::with_capacity(ids.len()));
            move |shard: &mut freehold_shard::Shard<A, _>| {
                let mut slice = Slice::begin();
                for (at, id) in ids.iter().skip(read.len()).take(READS) {
                    match shard.read_at(snapshot.open.epoch, id) {
                        Ok(object) => read.push((*at, object.map(|(_, state)| state.clone()))),
                        Err(expired) => return JobStep::Done(Err(expired)),
                    }
                    if !slice.goes_on() {
                        break;
                    }
                }
                if read.len() < ids.len() {
                    return JobStep::GoesOn;
                }
                JobStep::Done(Ok(std::mem::take(&mut read)))
            }
        });
        SnapshotRead::new(async move {
            let mut states: Vec<Option<A::State>> = (0..objects).map(|_| None).collect();
            for read in reads.await {
                for (at, state) in read.map_err(SnapshotError::of)?? {
                    states[at] = state;
                }
            }
            Ok(states)
        })
    }

    /// Folds all objects of all shards into one value. Each shard begins with what `make` returns,
    /// here, and takes `each` of its objects into it, in no particular order and in slices between
    /// its turns; `merge` brings the shards' values together, where this is awaited.
    ///
    /// ```no_run
    /// # fn sum<A: freehold::Actor<State = u64>>(handle: freehold::Handle<A>) -> Result<u64, freehold::SnapshotError> {
    /// let snapshot = handle.snapshot().wait()?;
    /// snapshot.fold(|| 0, |sum, _id, coins| *sum += coins, |a, b| a + b).wait()
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`SnapshotError`]; what was folded until then is lost.
    pub fn fold<T, M, F, G>(&self, make: M, each: F, merge: G) -> SnapshotRead<T>
    where
        T: Send + 'static,
        M: Fn() -> T,
        F: Fn(&mut T, A::Id, &A::State) + Clone + Send + 'static,
        G: Fn(T, T) -> T + Send + 'static,
    {
        let shards = (0..self.open.shared.mailboxes.len()).map(|shard| ShardIndex(shard as u16));
        let folds = self.on_shards(shards, Whose::User, |_| {
            let (snapshot, mut value, each, mut from) = (self.clone(), Some(make()), each.clone(), 0);
            move |shard: &mut freehold_shard::Shard<A, _>| {
                let mut folded = value.take().expect("a fold that is done takes no further step");
                let mut slice = Slice::begin();
                let next = shard.walk_at(snapshot.open.epoch, from, SLOTS, |id, _, state| {
                    each(&mut folded, id, state);
                    if slice.goes_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                match next {
                    Ok(Some(next)) => {
                        (value, from) = (Some(folded), next);
                        JobStep::GoesOn
                    }
                    Ok(None) => JobStep::Done(Ok(folded)),
                    Err(expired) => JobStep::Done(Err(expired)),
                }
            }
        });
        SnapshotRead::new(async move {
            let mut all: Option<T> = None;
            for fold in folds.await {
                let folded = fold.map_err(SnapshotError::of)??;
                all = Some(match all {
                    Some(before) => merge(before, folded),
                    None => folded,
                });
            }
            Ok(all.expect("a runtime has a shard"))
        })
    }

    /// Counts and sums over all objects, by name: a [`fold`](Snapshot::fold) that needs no value of
    /// its own. A test has the same of a [`Bench`](crate::testing::Bench::tally).
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// bank.call(Deposit { account: 7, cents: 5 }).wait().unwrap();
    /// let count = |tally: &mut freehold::Tally, _: Id, state: &State| {
    ///     let State::Account(account) = state;
    ///     tally.add("accounts", 1).add("cents", account.cents);
    /// };
    /// let tally = bank.snapshot().wait().unwrap().tally(count).wait().unwrap();
    /// assert_eq!((tally.get("accounts"), tally.get("cents")), (1, 5));
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::fold`].
    pub fn tally<F>(&self, each: F) -> SnapshotRead<Tally>
    where
        F: Fn(&mut Tally, A::Id, &A::State) + Clone + Send + 'static,
    {
        self.fold(Tally::default, each, Tally::merge)
    }

    /// The state of the object `id` as it was, if it was `Shared` or `Immutable`: read right here,
    /// without a message. `None` if it did not exist or belonged to an owner.
    ///
    /// # Errors
    /// [`SnapshotError::Expired`].
    pub fn published(&self, id: &A::Id) -> Result<Option<Arc<A::State>>, SnapshotError> {
        Ok(self.open.shared.mvcc.at(id, self.open.epoch)?)
    }

    /// Has each of these shards run a job of its own; the results are in their order. A job that
    /// reads holds a clone of the snapshot: what it reads is kept as long as it reads.
    fn on_shards<T, F>(
        &self,
        shards: impl ExactSizeIterator<Item = ShardIndex>,
        whose: Whose,
        mut steps: impl FnMut(ShardIndex) -> F,
    ) -> EachShard<T>
    where
        T: Send + 'static,
        F: FnMut(&mut freehold_shard::Shard<A, crate::core::prefetch::Processor>) -> JobStep<T>
            + Send
            + 'static,
    {
        let shared = &self.open.shared;
        let (each, reporters) = EachShard::new(shards.len());
        for (shard, reporter) in shards.zip(reporters) {
            if shared.birth.is_elsewhere() {
                reporter.report(Err(TaskError::Cancelled));
                continue;
            }
            let mailbox = &shared.mailboxes[shard.index()];
            let permit = match whose {
                Whose::User => mailbox.permit(shared.config.jobs_max),
                Whose::Checkpoint => Some(mailbox.permit_of_ours()),
            };
            match permit {
                Some(permit) => {
                    mailbox.command(Command::Job(job(permit, reporter, steps(shard))), &shared.replies);
                }
                None => reporter.report(Err(TaskError::Overloaded)),
            }
        }
        each
    }
}

impl<A: Actor> Clone for Snapshot<A> {
    fn clone(&self) -> Self {
        Snapshot { open: self.open.clone() }
    }
}

impl<A: Actor> fmt::Debug for Snapshot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("epoch", &self.open.epoch.0).finish_non_exhaustive()
    }
}

impl SnapshotError {
    pub(crate) fn of(error: TaskError) -> Self {
        match error {
            TaskError::Panicked(message) => SnapshotError::Panicked(message),
            TaskError::Cancelled => SnapshotError::Stopped,
            TaskError::WaitOnShard => SnapshotError::WaitOnShard,
            TaskError::Overloaded => SnapshotError::Overloaded,
        }
    }
}

impl From<Expired> for SnapshotError {
    fn from(_: Expired) -> Self {
        SnapshotError::Expired
    }
}

/// Something that is read from a snapshot: a future, or a wait. Dropped, it is read no further;
/// what was read until then has been read.
#[must_use = "what the shards say comes by awaiting this, or by its `wait`"]
pub struct SnapshotRead<T>(ReadState<T>);

enum ReadState<T> {
    /// `None` once it was taken.
    Known(Option<Result<T, SnapshotError>>),
    One(group::Answer<Result<T, SnapshotError>>, Birth),
    Joined(Pin<Box<dyn Future<Output = Result<T, SnapshotError>> + Send>>),
}

// No variant is pinned in place.
impl<T> Unpin for SnapshotRead<T> {}

impl<T: Send + 'static> SnapshotRead<T> {
    fn new(read: impl Future<Output = Result<T, SnapshotError>> + Send + 'static) -> Self {
        SnapshotRead(ReadState::Joined(Box::pin(read)))
    }

    fn known(result: Result<T, SnapshotError>) -> Self {
        SnapshotRead(ReadState::Known(Some(result)))
    }

    /// Blocks the calling thread until it is there.
    ///
    /// # Errors
    /// As awaiting it; on a shard's thread [`SnapshotError::WaitOnShard`] at once.
    pub fn wait(mut self) -> Result<T, SnapshotError> {
        if waiting::on_shard_thread() {
            return Err(SnapshotError::WaitOnShard);
        }
        // Of reads that went together all are there when the first is, and to get ready to sleep
        // would take longer than the rest of the read.
        if let ReadState::One(answer, birth) = &mut self.0
            && !birth.is_elsewhere()
            && let Some(answer) = answer.take_if_there()
        {
            return answer.unwrap_or(Err(SnapshotError::Stopped));
        }
        waiting::block_on(self, waiting::Patience::Park)
    }
}

impl<T> Future for SnapshotRead<T> {
    type Output = Result<T, SnapshotError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            ReadState::Known(result) => {
                Poll::Ready(result.take().expect("a read is not polled after it was ready"))
            }
            ReadState::One(..) if waiting::in_receive() => Poll::Ready(Err(SnapshotError::WaitOnShard)),
            ReadState::One(_, birth) if birth.is_elsewhere() => Poll::Ready(Err(SnapshotError::Stopped)),
            ReadState::One(answer, _) => {
                let answer = answer.poll(|| waiting::keep_here(cx.waker()));
                answer.map(|answer| answer.unwrap_or(Err(SnapshotError::Stopped)))
            }
            ReadState::Joined(read) => read.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for SnapshotRead<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotRead").finish_non_exhaustive()
    }
}
