//! One core's decisions: what arrives is turned into effects, with no I/O, thread or clock.
//!
//! [`Shard::turn`] takes what arrived and the time, runs every message to completion in the order
//! it arrived, and leaves answers, envelopes for other shards and answered batches in [`Effects`],
//! whose buffers the runtime empties and hands in again. When the objects no longer fit the cache,
//! a turn works on several messages at a time: it names the objects of one and prefetches their
//! index entries, finds those of another, [`AHEAD`] messages nearer, and prefetches their slots,
//! and runs a third.

pub(crate) mod actions;
mod answers;
mod batches;
mod checkpoint;
pub(crate) mod codec;
mod commit;
mod coordinator;
mod due;
mod engine;
mod in_doubt;
pub(crate) mod journal;
mod logging;
pub(crate) mod pair;
mod pieces;
mod resume;
mod resumed;
pub(crate) mod running;
mod sends;
mod snapshots;
mod timers;
mod watches;

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::actor::Actor;
use crate::actor::addressees::{Addressees, Target};
use crate::actor::limits::Limits;
use crate::actor::outcome::{AskError, Outcome, ReturnAddress};
use crate::counters::Counters;
use crate::epoch::published::Mvcc;
use crate::fault::{self, Fault};
use crate::object::{Access, OwnerId, Ownership};
use crate::placement::{Router, ShardIndex};
use crate::prefetch::{NoPrefetch, Prefetch};
use crate::shard::engine::{Admission, CallSite, Engine, Reason, RunOutcome};
use crate::shard::running::RunningMessage;
use crate::time::Time;
use crate::transaction::Transaction;
use crate::transaction::effects::{Effects, Inbox};
use crate::transaction::lock_wait::LockWait;
use crate::transaction::message::{Batch, BatchEntry, Envelope};

/// How many messages lie between two stages: enough for a miss to be served, too few for what was
/// fetched to be evicted again.
const AHEAD: usize = 6;
/// Messages under way at once, from the first stage to the last.
const UNDER_WAY: usize = 2 * AHEAD;
/// How many envelopes ahead a transaction is prefetched: it was last written by another
/// core.
const TRANSACTIONS_AHEAD: usize = 8;
/// The same in a turn that works in stages: the first of them reads it.
const TRANSACTIONS_AHEAD_STAGED: usize = UNDER_WAY + AHEAD;
/// Of a large transaction only the beginning is.
const BOX_BYTES_MAX: usize = 512;

/// What comes to a shard and has objects here.
trait HasObjects<A: Actor> {
    /// The first stage: names the objects, and prefetches where the index has them.
    fn name<P: Prefetch>(&self, engine: &Engine<A>, targets: &mut Addressees<A::Id>);
}

impl<A: Actor> HasObjects<A> for Envelope<A> {
    #[inline]
    fn name<P: Prefetch>(&self, engine: &Engine<A>, targets: &mut Addressees<A::Id>) {
        match self {
            Envelope::Message { message, .. } => engine.name::<P>(message, targets),
            Envelope::Lock(transaction) => engine.name_carried::<P>(transaction, targets),
            _ => targets.clear(),
        }
    }
}

impl<A: Actor> HasObjects<A> for BatchEntry<A> {
    #[inline]
    fn name<P: Prefetch>(&self, engine: &Engine<A>, targets: &mut Addressees<A::Id>) {
        match self {
            BatchEntry::Waiting(message) => engine.name::<P>(message, targets),
            _ => targets.clear(),
        }
    }
}

/// What came of a message.
enum TurnOutcome<A: Actor> {
    Done(Outcome<A>),
    /// It is to become a transaction, with this object as well.
    Later(Option<(A::Id, Access)>),
}

/// Prefetches the transaction an envelope brings, if it brings one.
#[inline]
fn prefetch_transaction<A: Actor, P: Prefetch>(envelope: &Envelope<A>) {
    if let Envelope::Lock(transaction) | Envelope::Apply(transaction) | Envelope::Finish(transaction) =
        envelope
    {
        P::prefetch_to_write::<Transaction<A>>(transaction, Transaction::<A>::PAIR_BYTES.min(BOX_BYTES_MAX));
    }
}

#[inline(always)]
fn run_found<A: Actor, const FROM: u8>(
    engine: &mut Engine<A>,
    message: &A::Message,
    sender: OwnerId,
    first: Option<Target<A::Id>>,
    targets: &mut Addressees<A::Id>,
    effects: &mut Effects<A>,
) -> TurnOutcome<A> {
    let is_clear = first.as_ref().is_some_and(Target::is_clear)
        && targets.others.iter().all(Target::is_clear)
        && !targets.too_many;
    if !is_clear {
        match engine.admit(first, targets) {
            Admission::Runs => {}
            Admission::Refused(error) => return TurnOutcome::Done(Err(error)),
            Admission::Later(reason) => {
                engine.reason = reason;
                return TurnOutcome::Later(None);
            }
        }
    }
    match engine.receive::<FROM>(message, sender, first, &mut targets.others, effects) {
        RunOutcome::Done(outcome) => TurnOutcome::Done(outcome),
        RunOutcome::Missing(id, access) => {
            engine.reason = Reason::Undeclared;
            TurnOutcome::Later(Some((id, access)))
        }
    }
}

/// One core's objects and the turns it takes.
pub struct Shard<A: Actor, P: Prefetch = NoPrefetch> {
    pub(crate) engine: Engine<A>,
    /// The objects of the messages under way: message `n`'s are at `n % UNDER_WAY`.
    under_way: [Addressees<A::Id>; UNDER_WAY],
    /// The shard's messages to itself, while they run.
    own: Vec<Envelope<A>>,
    /// When no more timers came due, if that has been said.
    timers_stopped: Option<Time>,
    /// Timers that come due in one turn, and messages to itself that run in one, at most.
    turn_messages_max: usize,
    prefetch: PhantomData<P>,
}

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// An empty shard. `table_seed` keys its table, and nothing else: draw it at random, so that
    /// nobody can choose ids that collide. `mvcc` is the same for all shards of a runtime.
    pub fn new(
        index: ShardIndex,
        router: Router,
        limits: Limits,
        table_seed: u64,
        mvcc: Arc<Mvcc<A>>,
    ) -> Self {
        assert!(index.index() < router.shards(), "{index} does not exist among {} shards", router.shards());
        Shard {
            engine: Engine::new(index, router, limits, table_seed, mvcc),
            under_way: std::array::from_fn(|_| Addressees::new()),
            own: Vec::new(),
            timers_stopped: None,
            turn_messages_max: usize::MAX,
            prefetch: PhantomData,
        }
    }

    /// Bounds a turn: at most so many timers come due in it, and at most so many messages run that
    /// the shard told itself. The rest waits for the next turn, in order. (What `inbox` holds is
    /// the caller's to bound.)
    pub fn with_turn_messages_max(mut self, turn_messages_max: usize) -> Self {
        self.turn_messages_max = turn_messages_max;
        self
    }

    /// Gives the shard what the runtime was started with, for
    /// [`Objects::context`](crate::Objects::context).
    #[must_use]
    pub fn with_context(mut self, context: Arc<dyn Any + Send + Sync>) -> Self {
        self.engine.run.context = context;
        self
    }

    /// Runs everything in `inbox`, the timers that are due at `now` and what the shard told itself
    /// before, and drains `inbox`. All of it runs in the epoch that is now, when it has arrived:
    /// what is put into `inbox` must have been there before the call.
    pub fn turn(&mut self, now: Time, inbox: &mut Inbox<A>, effects: &mut Effects<A>) {
        self.engine.run.now = now;
        if !fault::is_on(Fault::LoadBefore) {
            self.engine.enter();
        }
        // To go through nothing costs forty instructions, and most turns have but one of the two.
        if !inbox.envelopes.is_empty() {
            self.run_envelopes(&mut inbox.envelopes, effects);
        }
        if !inbox.batches.is_empty() {
            for batch in inbox.batches.drain(..) {
                self.run_batch(batch, effects);
            }
        }
        self.fire_timers(effects);
        if self.engine.run.own_waiting > 0 {
            // What these tell the shard itself waits for the next turn, so that a turn ends.
            let mut own = std::mem::take(&mut self.own);
            let count = self.engine.run.own_waiting.min(self.turn_messages_max);
            self.engine.take_own(count, &mut own);
            self.run_envelopes(&mut own, effects);
            self.own = own;
        }
        if fault::is_on(Fault::LoadBefore) {
            self.engine.enter();
        }
        self.engine.sweep();
        self.engine.run.partition.grow();
        if let Some(journal) = &mut self.engine.journal {
            journal.hold(self.engine.run.epoch_state.epoch, effects);
        }
    }

    /// Runs one message at once, with no queue.
    ///
    /// # Errors
    /// [`AskError::Elsewhere`] if its objects live on another shard;
    /// otherwise what came of it. After an error nothing has changed.
    #[inline]
    pub fn ask_now(
        &mut self,
        now: Time,
        sender: OwnerId,
        message: &A::Message,
        effects: &mut Effects<A>,
    ) -> Outcome<A> {
        self.engine.run.now = now;
        // A task's message follows what the task has seen, which may be of an epoch that began
        // since the last turn.
        if self.engine.run.epoch_state.epoch != self.engine.mvcc.epochs().epoch() {
            self.engine.enter();
        }
        match self.run::<{ CallSite::Inline as u8 }>(message, sender, effects) {
            TurnOutcome::Done(outcome) => outcome,
            TurnOutcome::Later(_) => {
                self.engine.unprepare();
                Err(AskError::Busy)
            }
        }
    }

    /// Begins a message of a task to two objects, of which one is free here and the other at home
    /// on another shard, at once and with no queue. It is on its way when this returns.
    ///
    /// # Errors
    /// The message, if it is another, or has to wait for its object here. Nothing has changed; a
    /// turn of its objects' lowest shard takes any.
    pub fn begin_pair(
        &mut self,
        now: Time,
        sender: OwnerId,
        message: A::Message,
        answer_to: ReturnAddress,
        effects: &mut Effects<A>,
    ) -> Result<(), A::Message> {
        self.engine.run.now = now;
        if self.engine.run.epoch_state.epoch != self.engine.mvcc.epochs().epoch() {
            self.engine.enter();
        }
        let mut targets = Addressees::new();
        let first = self.engine.run.find(&message, &mut targets);
        let (Some(first), [other]) = (&first, targets.others.as_slice()) else { return Err(message) };
        let Some(pair) = self.engine.pair_of(first, other) else { return Err(message) };
        self.engine.begin_pair_of(pair, message, sender, answer_to, effects);
        Ok(())
    }

    /// Whether a turn prefetches the objects of its messages: the shard's do not fit the cache.
    pub fn prefetches(&self) -> bool {
        self.engine.run.partition.outgrew_the_cache()
    }

    /// Prefetches where the objects of these messages are likely kept, as a turn does for its own.
    /// Nothing changes.
    pub fn prefetch<'m>(&mut self, messages: impl IntoIterator<Item = &'m A::Message>)
    where
        A::Message: 'm,
    {
        if !self.prefetches() {
            return;
        }
        let mut named = 0;
        for message in messages {
            self.engine.name::<P>(message, &mut self.under_way[named % UNDER_WAY]);
            named += 1;
            if named > AHEAD {
                self.engine.seek::<P>(&mut self.under_way[(named - AHEAD - 1) % UNDER_WAY]);
            }
        }
        for at in named.saturating_sub(AHEAD)..named {
            self.engine.seek::<P>(&mut self.under_way[at % UNDER_WAY]);
        }
    }

    /// Says in `running` which type of message runs, for those who ask from other threads.
    #[must_use]
    pub fn with_running_message(mut self, running: Arc<RunningMessage>) -> Self {
        self.engine.running = running;
        self
    }

    fn run_envelopes(&mut self, envelopes: &mut Vec<Envelope<A>>, effects: &mut Effects<A>) {
        let staged = self.engine.run.partition.outgrew_the_cache();
        // To begin and end a list takes 50 instructions, and one envelope has nothing ahead of it.
        if envelopes.len() == 1
            && !staged
            && let Some(only) = envelopes.pop()
        {
            prefetch_transaction::<A, P>(&only);
            return self.take(only, None, effects);
        }
        let transactions_ahead = if staged { TRANSACTIONS_AHEAD_STAGED } else { TRANSACTIONS_AHEAD };
        envelopes.iter().take(transactions_ahead).for_each(prefetch_transaction::<A, P>);
        if staged {
            (0..UNDER_WAY).for_each(|at| self.stage(at, envelopes.as_slice(), at));
        }
        let mut envelopes = envelopes.drain(..);
        let mut at = 0;
        while let Some(envelope) = envelopes.next() {
            if let Some(ahead) = envelopes.as_slice().get(transactions_ahead - 1) {
                prefetch_transaction::<A, P>(ahead);
            }
            self.take(envelope, staged.then_some(at), effects);
            if staged {
                self.stage(at + UNDER_WAY, envelopes.as_slice(), UNDER_WAY - 1);
            }
            at += 1;
        }
    }

    /// Goes on with what an envelope brings. `staged` is its number if the turn works in stages.
    /// Apart from the loop, which would otherwise ask of each envelope what is left of it.
    #[inline(always)]
    fn take(&mut self, envelope: Envelope<A>, staged: Option<usize>, effects: &mut Effects<A>) {
        match envelope {
            Envelope::Message { message, sender, answer_to } => {
                self.run_message(message, staged, sender, answer_to, effects);
            }
            Envelope::Lock(transaction) => self.engine.lock(transaction, effects),
            Envelope::Apply(transaction) => self.engine.apply(transaction, effects),
            Envelope::Release { slot, passed_in } => self.engine.release(slot, passed_in, effects),
            Envelope::Finish(transaction) => self.engine.finish(transaction, effects),
            Envelope::Restart(transaction) => self.engine.send(transaction, effects),
            Envelope::Answer { call, outcome } => {
                let to = ReturnAddress::Shard { shard: self.engine.run.shard, call };
                match &mut self.engine.journal {
                    // It waited where it comes from.
                    Some(journal) => journal.arrived(to, outcome),
                    None => effects.answers.push((to, outcome)),
                }
            }
            Envelope::Delivered { send_id, epoch } => {
                if let Some(journal) = &mut self.engine.journal {
                    journal.delivered(send_id, epoch, &self.engine.run.epoch_state);
                }
            }
            Envelope::Cancel { timer, epoch } => self.engine.cancelled(timer, epoch),
            Envelope::Mark(epoch) => {
                if let Some(journal) = &mut self.engine.journal {
                    journal.sends.mark(epoch);
                }
            }
        }
    }

    /// Runs a message that came by itself, or begins it.
    fn run_message(
        &mut self,
        message: A::Message,
        staged: Option<usize>,
        sender: OwnerId,
        answer_to: ReturnAddress,
        effects: &mut Effects<A>,
    ) {
        let mut named = Addressees::new();
        let (first, targets) = match staged {
            None => (self.engine.run.find(&message, &mut named), &mut named),
            Some(at) => {
                let targets = &mut self.under_way[at % UNDER_WAY];
                self.engine.find_again(targets);
                (targets.first, targets)
            }
        };
        if let (Some(first), [other]) = (&first, targets.others.as_slice())
            && let Some(pair) = self.engine.pair_of(first, other)
        {
            return self.engine.begin_pair_of(pair, message, sender, answer_to, effects);
        }
        const FROM: u8 = CallSite::Envelope as u8;
        match run_found::<A, FROM>(&mut self.engine, &message, sender, first, targets, effects) {
            TurnOutcome::Done(outcome) => self.engine.answer(answer_to, || &message, outcome, effects),
            TurnOutcome::Later(extra) => self.engine.begin(message, sender, answer_to, extra, effects),
        }
    }

    fn run_batch(&mut self, mut batch: Batch<A>, effects: &mut Effects<A>) {
        let staged = self.engine.run.partition.outgrew_the_cache();
        if staged {
            (0..UNDER_WAY).for_each(|at| self.stage(at, batch.entries.as_slice(), at));
        }
        for at in 0..batch.entries.len() {
            if let BatchEntry::Waiting(message) = &batch.entries[at] {
                let outcome = if staged {
                    self.run_staged(at, message, batch.sender, effects)
                } else {
                    self.run::<{ CallSite::Turn as u8 }>(message, batch.sender, effects)
                };
                match outcome {
                    // Apart, so that a reply goes from where it was stored to its place in pieces
                    // of the same size: loaded in larger ones a moment later, the processor would
                    // wait.
                    TurnOutcome::Done(Ok(reply)) => batch.entries[at] = BatchEntry::Answered(Ok(reply)),
                    TurnOutcome::Done(Err(error)) => batch.entries[at] = BatchEntry::Answered(Err(error)),
                    TurnOutcome::Later(extra) => self.begin_entry(&mut batch, at, extra, effects),
                }
            }
            if staged {
                self.stage(at + UNDER_WAY, batch.entries.as_slice(), at + UNDER_WAY);
            }
        }
        self.engine.batches.close(batch, effects);
    }

    /// Takes message `at`, which stands at `place` of `list`, through the first stage, and the one
    /// [`AHEAD`] before it through the second.
    #[inline]
    fn stage(&mut self, at: usize, list: &[impl HasObjects<A>], place: usize) {
        let targets = &mut self.under_way[at % UNDER_WAY];
        match list.get(place) {
            Some(entry) => entry.name::<P>(&self.engine, targets),
            None => targets.clear(),
        }
        self.engine.seek::<P>(&mut self.under_way[(at + UNDER_WAY - AHEAD) % UNDER_WAY]);
    }

    #[inline]
    fn run<const FROM: u8>(
        &mut self,
        message: &A::Message,
        sender: OwnerId,
        effects: &mut Effects<A>,
    ) -> TurnOutcome<A> {
        let mut targets = Addressees::new();
        let first = self.engine.run.find(message, &mut targets);
        run_found::<A, FROM>(&mut self.engine, message, sender, first, &mut targets, effects)
    }

    /// The same for message `at`, which has gone through both stages.
    #[inline]
    fn run_staged(
        &mut self,
        at: usize,
        message: &A::Message,
        sender: OwnerId,
        effects: &mut Effects<A>,
    ) -> TurnOutcome<A> {
        const FROM: u8 = CallSite::Staged as u8;
        let targets = &mut self.under_way[at % UNDER_WAY];
        self.engine.find_again(targets);
        run_found::<A, FROM>(&mut self.engine, message, sender, targets.first, targets, effects)
    }

    #[cold]
    fn begin_entry(
        &mut self,
        batch: &mut Batch<A>,
        at: usize,
        extra: Option<(A::Id, Access)>,
        effects: &mut Effects<A>,
    ) {
        let BatchEntry::Waiting(message) = std::mem::replace(&mut batch.entries[at], BatchEntry::Taken)
        else {
            unreachable!("it was waiting")
        };
        let answer_to = ReturnAddress::Batch { batch: self.engine.batches.open(), entry: at as u32 };
        self.engine.begin(message, batch.sender, answer_to, extra, effects);
    }

    #[inline]
    fn fire_timers(&mut self, effects: &mut Effects<A>) {
        if self.engine.run.timers_waiting > 0 {
            self.fire_due(effects);
        }
    }

    #[inline(never)]
    fn fire_due(&mut self, effects: &mut Effects<A>) {
        let mut left = self.turn_messages_max;
        while left > 0
            && self.may_come_due(self.engine.next_due())
            && let Some(timer) = self.engine.take_due()
        {
            left -= 1;
            self.engine.run.counters.timers_fired += 1;
            if timer.to == self.engine.run.shard {
                self.engine.push_own(timer.envelope);
            } else {
                effects.outboxes[timer.to.index()].push_back(timer.envelope);
            }
        }
    }

    /// Whether what is due then comes due, or timers were stopped before.
    #[inline]
    fn may_come_due(&self, due: Option<Time>) -> bool {
        self.timers_stopped.is_none_or(|stopped| due.is_some_and(|due| due <= stopped))
    }

    /// When the first waiting message is due that comes due: see [`Shard::stop_timers`]. `None` if
    /// none waits.
    #[inline]
    pub fn next_timer(&self) -> Option<Time> {
        if self.timers_stopped.is_some() {
            return self.engine.next_due().filter(|due| self.may_come_due(Some(*due)));
        }
        let told = self.engine.next_due();
        let resumed = self.engine.journal.as_ref().and_then(|journal| journal.resumed.next_timed());
        match (told, resumed) {
            (Some(told), Some(resumed)) => Some(told.min(resumed)),
            (told, resumed) => told.or(resumed),
        }
    }

    /// From now on no waiting message comes due, but those that are: the runtime is stopping.
    pub fn stop_timers(&mut self) {
        self.timers_stopped = Some(self.engine.run.now);
    }

    /// Says that the wall clock showed so much, since the beginning of 1970, when the shard's time
    /// was 0; for messages that wait for a time of the wall clock
    /// ([`Objects::tell_at`](crate::Objects::tell_at)). Before it takes any over from a log.
    #[must_use]
    pub fn with_wall_clock(mut self, began: Duration) -> Self {
        self.engine.run.wall_clock_began = began;
        self
    }

    /// The shard's time stood still while the wall clock went on for so long.
    pub fn stood_still(&mut self, time: Duration) {
        self.engine.run.wall_clock_began += time;
    }

    /// How many messages wait for their time.
    pub fn timers(&self) -> usize {
        self.engine.run.timers_waiting
            + self.engine.journal.as_ref().map_or(0, |journal| journal.resumed.timed())
    }

    /// How many transactions began here and have not come back, and how many wait here for locks.
    pub fn transactions(&self) -> (usize, usize) {
        (self.engine.in_flight, self.engine.locks.waiting())
    }

    /// How many locks transactions had to wait for here since the start.
    pub fn lock_waits(&self) -> u64 {
        self.engine.locks.waits()
    }

    /// The objects that transactions had to wait for here since this was last called: a sample of
    /// at most 64 waits, one entry each.
    pub fn take_waited_for(&mut self) -> impl Iterator<Item = A::Id> + '_ {
        self.engine.locks.take_remembered()
    }

    /// Whether the shard notes waits for locks that end.
    #[inline]
    pub fn notes_lock_waits(&self) -> bool {
        self.engine.locks.notes()
    }

    /// From now on the shard notes waits for locks that end, or does not.
    pub fn note_lock_waits(&mut self, notes: bool) {
        self.engine.locks.note(notes);
    }

    /// The waits for locks that were noted since this was last called: at most 64, later ones are
    /// lost.
    pub fn take_lock_waits(&mut self) -> impl Iterator<Item = LockWait<A::Id>> + '_ {
        self.engine.locks.take_noted()
    }

    /// How many answers and batches wait until they are durable.
    #[inline]
    pub fn held(&self) -> usize {
        self.engine.journal.as_ref().map_or(0, |journal| journal.held.len())
    }

    /// Where those answers go, with their places among the [`Shard::held`], the latest first.
    /// Batches are left out.
    pub fn held_answers(&self) -> impl Iterator<Item = (usize, ReturnAddress)> + '_ {
        self.engine.journal.iter().flat_map(|journal| journal.held_answers())
    }

    /// Whether so many transactions that began here are under way that no more should be let in
    /// from outside.
    pub fn is_congested(&self) -> bool {
        self.engine.in_flight >= self.engine.run.limits.transactions_max
    }

    /// How many messages the shard told itself and has not run yet: while there are any, it wants
    /// another turn at once.
    pub fn own_messages(&self) -> usize {
        let has_next = self.engine.journal.as_ref().is_some_and(|journal| journal.resumed.has_next_untimed());
        self.engine.run.own_waiting + usize::from(has_next)
    }

    /// What the shard has done so far.
    #[inline]
    pub fn counters(&self) -> Counters {
        Counters { objects: self.engine.run.partition.len() as u64, ..self.engine.run.counters }
    }

    /// How many messages of each of [`Actor::MESSAGE_NAMES`] have run to an end here, whatever came
    /// of them.
    pub fn message_counts(&self) -> &[u64] {
        &self.engine.message_counts
    }

    /// Every object of the shard with who may write it and its state, in no particular order.
    pub fn objects(&self) -> impl Iterator<Item = (A::Id, Ownership, &A::State)> {
        self.engine
            .run
            .partition
            .iter()
            .filter_map(|slot| Some((slot.id, slot.ownership(), slot.state.as_ref()?)))
    }
}
