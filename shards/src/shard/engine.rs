//! The engine of a shard runs one message at a time: its objects are found, it runs, and what it
//! did is kept or undone.
//!
//! Invariant *all-or-nothing*: after [`Engine::receive`] either everything a message did stands
//! (its writes, what it removed, what it told), or nothing of it is left. The before-images are
//! what makes the second possible; they exist only while a message runs.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::actor::addressees::{ADDRESSEES_MAX, Addressees, Others, Target};
use crate::actor::limits::Limits;
use crate::actor::objects::Objects;
use crate::actor::outcome::{AskError, Outcome, ReturnAddress};
use crate::actor::run::{BeforeImage, CommitWork, RunState};
use crate::actor::told::{Queued, QueuedSend, Told};
use crate::actor::{AccessError, Actor};
use crate::epoch::Epoch;
use crate::epoch::published::Mvcc;
use crate::fault::{self, Fault};
use crate::object::{Access, OwnerId, Ownership};
use crate::panics::{ActorPanic, drop_quietly};
use crate::placement::{Router, ShardIndex};
use crate::prefetch::Prefetch;
use crate::shard::actions::Actions;
use crate::shard::batches::Batches;
use crate::shard::in_doubt::InDoubt;
use crate::shard::journal::Journal;
#[cfg(test)]
use crate::shard::pair::WrittenBack;
use crate::shard::running::RunningMessage;
use crate::shard::timers::{Timer, Timers};
use crate::shard::watches::Watches;
use crate::store::home::Home;
use crate::store::slot::NO_SLOT;
use crate::store::version::Versions;
use crate::store::walk::Walk;
use crate::time::Time;
use crate::transaction::Transaction;
use crate::transaction::effects::Effects;
use crate::transaction::locks::Locks;
use crate::transaction::message::Envelope;

/// What came of running a message.
pub(crate) enum RunOutcome<A: Actor> {
    Done(Outcome<A>),
    /// Nothing: it needs this object as well.
    Missing(A::Id, Access),
}

/// What becomes of a message that is not plainly to be run.
pub(crate) enum Admission<A: Actor> {
    /// It is to be run all the same.
    Runs,
    Refused(AskError<A::Error>),
    /// It is to become a transaction.
    Later(Reason),
}

/// Why a message takes the consensus path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its objects live on several shards.
    Spans,
    /// One of its objects is locked by a transaction.
    Locked,
    /// One of its objects is shared.
    Shared,
    /// It touched an object which it had not declared and cannot have at once.
    Undeclared,
}

/// A transaction with the objects of a message that is to become a transaction.
pub(crate) struct Prepared<A: Actor> {
    pub(crate) transaction: Box<Transaction<A>>,
    pub(crate) start: Start,
}

/// Where a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Here, with the one object of a pair that is here and free.
    Here,
    /// At the other home of a pair, since its object here is hot.
    Elsewhere,
    /// At the lowest of its shards.
    Lowest,
}

/// Where in the program a message is run from: see [`Engine::receive`], which takes one as a
/// number, because an enum cannot be a constant parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallSite {
    /// By a task of the shard, with no queue.
    Inline,
    Turn,
    /// By a turn, for a message that came by itself.
    Envelope,
    /// A turn that works in stages.
    Staged,
    LockPoint,
    /// The lock point of a pair: see [`pair`](crate::shard::pair).
    Pair,
}

impl CallSite {
    /// Whether a message run from here is a transaction.
    const fn is_transaction(from: u8) -> bool {
        from == CallSite::LockPoint as u8 || from == CallSite::Pair as u8
    }
}

/// Runs the messages of one shard, and keeps what that takes.
pub(crate) struct Engine<A: Actor> {
    /// The objects, and what the running message does with them.
    pub(crate) run: RunState<A>,
    /// Shared by all shards.
    pub(crate) mvcc: Arc<Mvcc<A>>,
    /// This shard's side of its log, if it has one.
    pub(crate) journal: Option<Box<Journal<A>>>,
    /// Why the message that was last found to need the consensus path does. Here, and not with what
    /// [`Shard::turn`](crate::Shard::turn) hears of a message: that is passed on for every message,
    /// and being larger it cost the fast path 4 of 24 ns.
    pub(crate) reason: Reason,
    /// A transaction for the message that was last found to become a transaction, until it begins.
    pub(crate) prepared: Option<Prepared<A>>,
    /// Messages the shard sent to itself.
    own: VecDeque<Envelope<A>>,
    /// Messages that wait for their time.
    pub(super) timers: Timers<A>,
    /// How many of them are due by the wall clock.
    pub(super) wall_timers: usize,
    /// The objects of this shard that somebody watches.
    pub(super) watches: Box<Watches<A>>,
    /// Messages that have run to an end, by [`Actor::message_index`]; empty if nobody counts them.
    pub(super) message_counts: Box<[u64]>,
    /// Which type runs, for those who ask.
    pub(super) running: Arc<RunningMessage>,
    /// What the program does for objects of this shard.
    pub(super) actions: Actions<A>,
    pub(crate) locks: Locks<A>,
    /// Transactions that this shard passed on and that have not come back.
    pub(crate) in_doubt: InDoubt,
    /// Old states of objects.
    pub(crate) versions: Versions<A::State>,
    /// The way of a checkpoint through the objects.
    pub(crate) walk: Walk<A::Id, A::State>,
    /// How often this shard has published something.
    pub(crate) publications: u64,
    /// Published objects with versions to be trimmed when the watermark has passed an epoch.
    pub(crate) to_trim: VecDeque<(Epoch, A::Id)>,
    /// Transactions that began here and have not come back.
    pub(crate) in_flight: usize,
    /// Transactions that came back, kept for their memory.
    pub(crate) spare: Vec<Box<Transaction<A>>>,
    /// Batches with messages that became transactions.
    pub(crate) batches: Batches<A>,
    /// The objects of a transaction at its lock point; kept for its memory.
    pub(crate) targets: Option<Box<Addressees<A::Id>>>,
    /// What the pair that came back last wrote, for a fault.
    #[cfg(test)]
    pub(super) written_back: Option<WrittenBack<A>>,
}

impl<A: Actor> Engine<A> {
    pub(crate) fn new(
        shard: ShardIndex,
        router: Router,
        limits: Limits,
        table_seed: u64,
        mvcc: Arc<Mvcc<A>>,
    ) -> Self {
        Engine {
            run: RunState::new(shard, router, limits, table_seed, mvcc.epochs().state()),
            mvcc,
            journal: None,
            reason: Reason::Spans,
            prepared: None,
            own: VecDeque::new(),
            timers: Timers::new(),
            wall_timers: 0,
            watches: Box::default(),
            message_counts: vec![0; A::MESSAGE_NAMES.len()].into(),
            running: Arc::default(),
            actions: Actions::new(),
            locks: Locks::new(),
            in_doubt: InDoubt::default(),
            versions: Versions::new(),
            walk: Walk::new(),
            publications: 0,
            to_trim: VecDeque::new(),
            in_flight: 0,
            spare: Vec::new(),
            batches: Batches::new(),
            targets: None,
            #[cfg(test)]
            written_back: None,
        }
    }

    /// A message for this shard itself: it runs in a later turn.
    #[inline]
    pub(crate) fn push_own(&mut self, envelope: Envelope<A>) {
        self.own.push_back(envelope);
        self.run.own_waiting = self.own.len();
    }

    /// Takes the first `count` messages for this shard itself.
    pub(crate) fn take_own(&mut self, count: usize, to: &mut Vec<Envelope<A>>) {
        to.extend(self.own.drain(..count));
        self.run.own_waiting = self.own.len();
    }

    /// When the first message that waits for its time is due.
    #[inline]
    pub(crate) fn next_due(&self) -> Option<Time> {
        if self.run.timers_waiting == 0 {
            return None;
        }
        let first = self.timers.first_key().map(|(due, _)| due);
        if self.wall_timers == 0 { first } else { self.next_due_by_wall_clock(first) }
    }

    /// Takes the first message that waits for its time, and is due.
    #[inline]
    pub(crate) fn take_due(&mut self) -> Option<Timer<A>> {
        self.next_due().filter(|due| *due <= self.run.now)?;
        let timer =
            if self.wall_timers == 0 { self.timers.pop_first() } else { self.take_first_by_either_clock() };
        self.run.timers_waiting = self.timers.len();
        timer
    }

    /// First stage: names a message's objects, and prefetches where the index has them.
    #[inline]
    pub(crate) fn name<P: Prefetch>(&self, message: &A::Message, targets: &mut Addressees<A::Id>) {
        targets.clear();
        A::addressees(message, targets);
        self.prefetch_index::<P>(targets);
    }

    /// The same for a transaction's objects that are at home here and were not looked up yet.
    #[inline]
    pub(crate) fn name_carried<P: Prefetch>(
        &self,
        transaction: &Transaction<A>,
        targets: &mut Addressees<A::Id>,
    ) {
        targets.clear();
        for object in &transaction.objects[transaction.at_home(self.run.shard)] {
            if object.slot == NO_SLOT {
                targets.push_found(Target::found(object.id, NO_SLOT, object.access));
            }
        }
        self.prefetch_index::<P>(targets);
    }

    #[inline]
    fn prefetch_index<P: Prefetch>(&self, targets: &mut Addressees<A::Id>) {
        for target in targets.first.iter_mut().chain(targets.others.as_mut_slice()) {
            let hash = self.run.partition.hash(&target.id);
            target.hash = Some(hash);
            self.run.partition.prefetch_index::<P>(hash);
        }
    }

    /// Second stage: finds where the objects should be, and prefetches them.
    #[inline]
    pub(crate) fn seek<P: Prefetch>(&self, targets: &mut Addressees<A::Id>) {
        for target in targets.first.iter_mut().chain(targets.others.as_mut_slice()) {
            if let Some(hash) = target.hash {
                target.slot = self.run.partition.seek::<P>(hash);
            }
        }
    }

    /// Last stage: makes sure that each object is where [`Engine::seek`] said, and looks it up if
    /// not. Messages run since may have inserted or removed it, and two ids may share a hash.
    #[inline]
    pub(crate) fn find_again(&self, targets: &mut Addressees<A::Id>) {
        for target in targets.first.iter_mut().chain(targets.others.as_mut_slice()) {
            let is_trusted = fault::is_on(Fault::TrustStage);
            if target.slot == NO_SLOT || !is_trusted && !self.run.partition.holds(target.slot, &target.id) {
                self.run.find_one(target);
            }
        }
    }

    /// What a message found here without having declared it may be missed where it runs next. A
    /// transaction carries all others; what was looked up has a hash.
    #[cold]
    fn also_want_found(&self, others: &Others<A::Id>, from: u8) {
        let carries_all = CallSite::is_transaction(from);
        for target in others.iter().filter(|target| !carries_all || target.hash.is_some()) {
            self.run.missing.also_want(target.id, target.access);
        }
    }

    /// Says that a message begins to run, and of which type it is, if its actor has names of types.
    #[inline(always)]
    fn begins(&self, message: &A::Message) -> usize {
        if A::MESSAGE_NAMES.is_empty() {
            return 0;
        }
        let index = A::message_index(message);
        self.running.begins(index);
        index
    }

    /// Counts a message of this type that has run to an end, if its actor has names of types.
    #[inline(always)]
    fn count(&mut self, index: usize) {
        if !A::MESSAGE_NAMES.is_empty()
            && let Some(count) = self.message_counts.get_mut(index)
        {
            *count += 1;
        }
    }

    /// Runs a message whose objects are here and its own to use. Across a call its first object
    /// would go through memory, so it is always inlined; and so is what it has caught, which the
    /// compiler does only if that is called from one place. This is all that `FROM` is for (4 ns of
    /// 20, measured).
    #[inline(always)]
    pub(crate) fn receive<const FROM: u8>(
        &mut self,
        message: &A::Message,
        sender: OwnerId,
        first: Option<Target<A::Id>>,
        others: &mut Others<A::Id>,
        effects: &mut Effects<A>,
    ) -> RunOutcome<A> {
        let Some(first) = first else { return RunOutcome::Done(Err(AskError::Unaddressed)) };
        debug_assert_eq!(self.run.own_waiting, self.own.len(), "the run knows how many wait");
        debug_assert_eq!(self.run.timers_waiting, self.timers.len(), "the run knows how many wait");
        let index = self.begins(message);
        let mut objects =
            Objects { run: &mut self.run, outboxes: effects, sender, first, others, first_before: None };
        let result = catch_unwind(AssertUnwindSafe(|| A::receive(message, &mut objects)));
        // By reference: moving the before-image would load what was stored a moment ago, in other
        // pieces, and wait for it.
        let Objects { first, first_before, .. } = &mut objects;
        // Only a transaction asks for it.
        if FROM == CallSite::LockPoint as u8 {
            self.run.first_saved = first.saved;
        }
        if let Some((id, access)) = self.run.missing.first.get() {
            self.run.missing.first.set(None);
            self.undo(first_before.take());
            self.also_want_found(others, FROM);
            // Neither a result nor a panic counts: it ran without what it needs.
            drop_quietly(result);
            return RunOutcome::Missing(id, access);
        }
        self.count(index);
        RunOutcome::Done(match result {
            Ok(Ok(reply)) => {
                if self.run.commit_work != CommitWork::NONE {
                    let committed = if self.run.commit_work == CommitWork::RECORDS
                        && self.run.told.get_mut().is_empty()
                    {
                        let recorded = self.record(first_before.as_ref().map(BeforeImage::written));
                        recorded.map_err(|error| self.not_recorded(first_before.take(), error))
                    } else {
                        self.commit(first_before.take())
                    };
                    if let Err(error) = committed {
                        drop_quietly(reply);
                        return RunOutcome::Done(Err(error));
                    }
                }
                self.run.before.clear();
                if !self.run.told.get_mut().is_empty() {
                    self.send_queued(effects);
                }
                if CallSite::is_transaction(FROM) {
                    self.run.counters.consensus += 1;
                    self.run.counters.pairs += u64::from(FROM == CallSite::Pair as u8);
                } else {
                    self.run.counters.fast += 1;
                }
                Ok(reply)
            }
            Ok(Err(error)) => {
                self.undo(first_before.take());
                self.run.counters.aborted += 1;
                Err(AskError::Aborted(error))
            }
            Err(payload) => {
                self.undo(first_before.take());
                Err(self.panicked(first.id, payload))
            }
        })
    }

    /// What becomes of a message some of whose objects are absent or reserved, or that names none
    /// or too many.
    #[cold]
    pub(crate) fn admit(
        &mut self,
        first: Option<Target<A::Id>>,
        targets: &Addressees<A::Id>,
    ) -> Admission<A> {
        let others = &targets.others;
        if targets.too_many {
            self.run.counters.aborted += 1;
            let error = AccessError::TooManyObjects { max: ADDRESSEES_MAX };
            return Admission::Refused(AskError::Aborted(error.into()));
        }
        if let (Some(one), [other]) = (&first, others.as_slice())
            && let Some(pair) = self.transaction_of_pair(one, other)
        {
            self.prepared = Some(pair);
            return Admission::Later(Reason::Spans);
        }
        let Some(named) = &first else {
            self.run.counters.unaddressed += 1;
            return Admission::Refused(AskError::Unaddressed);
        };
        // What is in the partition is at home here; only what is not may be at home elsewhere.
        let home_of = |target: &Target<A::Id>| {
            if target.slot == NO_SLOT { self.run.router.home(&target.id) } else { self.run.shard }
        };
        let homes: ArrayVec<ShardIndex, ADDRESSEES_MAX> =
            std::iter::once(named).chain(others).map(home_of).collect();
        if homes.iter().any(|home| *home != self.run.shard) {
            if let Some(home) = homes.first().filter(|first| homes.iter().all(|home| home == *first)) {
                self.run.counters.elsewhere += 1;
                return Admission::Refused(AskError::Elsewhere { home: *home });
            }
            self.prepare(first, others, &homes);
            return Admission::Later(Reason::Spans);
        }
        let is_shared = |target: &Target<A::Id>| {
            target.slot != NO_SLOT && self.run.partition.slot(target.slot).ownership() == Ownership::Shared
        };
        if first.iter().chain(others).any(is_shared) {
            self.prepare(first, others, &homes);
            return Admission::Later(Reason::Shared);
        }
        // Who only reads goes together with others who only read.
        let mut is_watched = false;
        let may_run = |target: &Target<A::Id>| {
            if target.slot == NO_SLOT || !target.is_reserved {
                return true;
            }
            let slot = self.run.partition.slot(target.slot);
            is_watched |= slot.is_watched();
            slot.may_lock(target.access)
        };
        if first.iter().chain(others).all(may_run) {
            self.run.commit_work.add_if(is_watched, CommitWork::CHANGES);
            Admission::Runs
        } else {
            self.prepare(first, others, &homes);
            Admission::Later(Reason::Locked)
        }
    }

    /// What [`RunState::commit_work`] is between messages.
    #[inline]
    pub(crate) fn least_commit_work(&self) -> CommitWork {
        if self.journal.is_some() { CommitWork::RECORDS } else { CommitWork::NONE }
    }

    /// Takes over what all shards know of epochs and snapshots.
    #[inline]
    pub(crate) fn enter(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.activate();
        }
        self.run.epoch_state = self.mvcc.epochs().state();
    }

    /// Takes the objects over as the logs have them.
    pub(crate) fn restore(&mut self, home: Home<A>) {
        for (id, ownership, state) in home.objects() {
            if !matches!(ownership, Ownership::Owned(_)) {
                self.mvcc.restore(id, Arc::new(state.clone()));
            }
        }
        self.run.partition = home.into_partition();
    }

    /// A user's code has panicked in a message to this object, which was undone.
    #[cold]
    pub(crate) fn panicked(&mut self, id: A::Id, payload: Box<dyn Any + Send>) -> AskError<A::Error> {
        self.run.counters.panicked += 1;
        AskError::Panicked(ActorPanic::caught(&id, payload))
    }

    /// Puts everything back as it was before the message.
    #[cold]
    pub(crate) fn undo(&mut self, first_before: Option<BeforeImage<A>>) {
        self.run.commit_work = self.least_commit_work();
        self.run.to_publish.clear();
        self.run.told.get_mut().drain();
        while let Some(clearing) = self.run.partition.orders.pop_clearing() {
            let since: Vec<_> = self.run.before.drain(clearing.images..).collect();
            since.into_iter().for_each(|before| self.put_back(before));
            self.run.partition.put_back_cleared(clearing);
        }
        // Its memory is used again.
        let mut others = std::mem::take(&mut self.run.before);
        first_before.into_iter().chain(others.drain(..)).for_each(|before| self.put_back(before));
        self.run.before = others;
        debug_assert!(
            self.journal.as_ref().is_none_or(|journal| journal.staged.is_empty()),
            "all-or-nothing: records of a message that was undone are staged"
        );
    }

    /// Puts an object back as it was before the message.
    fn put_back(&mut self, before: BeforeImage<A>) {
        let slot = self.run.partition.slot_mut(before.slot);
        slot.set_ownership(before.ownership);
        slot.state = before.state;
        self.run.partition.message_ended(before.slot);
    }

    #[cold]
    pub(crate) fn send_queued(&mut self, effects: &mut Effects<A>) {
        let mut told = std::mem::replace(self.run.told.get_mut(), Told::empty());
        for queued in told.drain() {
            let QueuedSend { message, to, due, sender, number, .. } = match queued {
                Queued::Send(send) if send.is_action => {
                    // As of a cancelled timer: there is something to see to.
                    self.run.counters.told += 1;
                    self.add_action(send);
                    continue;
                }
                Queued::Send(send) => send,
                Queued::Cancel(timer) => {
                    // The runtime looks at this to find out that there is something to deliver.
                    self.run.counters.told += 1;
                    self.cancel(timer, effects);
                    continue;
                }
            };
            let owed = number.filter(|_| self.journal.is_some());
            let answer_to = owed.map_or(ReturnAddress::Nobody, ReturnAddress::SendId);
            let envelope = Envelope::Message { message, sender, answer_to };
            self.run.counters.told += 1;
            match due.zip(number) {
                Some(key) => self.set_timer(key, Timer { to, envelope }),
                None if to == self.run.shard => self.own.push_back(envelope),
                None => effects.outboxes[to.index()].push_back(envelope),
            }
        }
        *self.run.told.get_mut() = told;
        self.run.own_waiting = self.own.len();
        self.run.timers_waiting = self.timers.len();
    }
}
