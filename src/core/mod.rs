//! What the pump and the tasks of one shard share. [`round`] carries out what the shard decides.
//!
//! The state of the shard is owned by its thread and not by the pump's future. So when the executor
//! dies of a panic (of a task spawned past the runtime, or of a bug), the thread still has
//! everything it needs to answer those who wait: see [`LocalShard::leave`].

mod actions;
pub(crate) mod clock;
pub(crate) mod command;
mod durability;
mod failures;
mod follow;
mod gauge;
pub(crate) mod handoff;
pub(crate) mod in_flight;
pub(crate) mod jobs;
mod leave;
pub(crate) mod prefetch;
pub(crate) mod pulse;
pub(crate) mod pump;
mod round;
pub(crate) mod setup;
pub(crate) mod shard_waker;
pub(crate) mod shared;
pub(crate) mod slice;
pub(crate) mod stall_timer;
pub(crate) mod tasks;
pub(crate) mod watches;
pub(crate) mod writer;

pub(crate) use leave::ShardExit;
pub(crate) use round::{Found, Publish};

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use freehold_shard::{
    Actor, Addressees, Destination, Effects, Envelope, Inbox, Outcome, OwnerId, ReturnAddress, Shard,
    ShardIndex,
};
use slab::Slab;

use self::clock::Clock;
use self::command::Command;
use self::failures::Failures;
use self::gauge::Counted;
use self::handoff::Handoff;
use self::in_flight::InFlight;
use self::jobs::{Job, Jobs, let_go};
use self::prefetch::Processor;
use self::setup::ShardSetup;
use self::shared::Shared;
use self::tasks::Tasks;
use self::watches::Watchers;
use crate::error::TaskError;
use crate::stats::{Activity, AskBegun, Phase, TaskPlace};
use crate::topology::occupancy::CpuChange;
use crate::transport::batch_reply::BatchReply;
use crate::transport::lanes::Lanes;
use crate::transport::mailbox::{COMMANDS, DURABLE, EPOCHS, Ingress, Mailbox, PHASE, WAKE_TASKS};
use crate::transport::waiting;

/// How often a busy shard looks whether it is still on its CPU: a control group may take that from
/// the process.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the pump and the tasks of one shard share.
pub(crate) struct LocalShard<A: Actor> {
    pub(crate) index: ShardIndex,
    pub(crate) shared: Arc<Shared<A>>,
    /// Asks of this shard's own tasks.
    pub(crate) in_flight: RefCell<InFlight<A>>,
    pub(crate) tasks: Rc<Tasks>,
    pub(crate) scratch: RefCell<Addressees<A::Id>>,
    core: RefCell<Core<A>>,
    /// Never borrowed for long: dropping one may do anything.
    watchers: RefCell<Watchers<A>>,
    /// There are some.
    has_watchers: Cell<bool>,
    /// Where the next batch for the log lies.
    pub(crate) handoff: RefCell<Handoff>,
    pub(crate) pump: PumpState,
    pub(crate) segments_being_made: Cell<u32>,
    /// When the shard next looks where it runs.
    next_look: Cell<Instant>,
    /// Tasks of users have been let in, and some may still be here even if none is watched.
    may_have_user_tasks: Cell<bool>,
    drain: Cell<Drain>,
    has_left: Cell<bool>,
}

/// How far a shard is with ending what was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    NotYet,
    Begun,
    /// Nothing is taken from the ingress any more.
    Shut,
}

/// The shard and what goes in and out of it.
struct Core<A: Actor> {
    shard: Shard<A, Processor>,
    inbox: Inbox<A>,
    effects: Effects<A>,
    lanes: Lanes<Envelope<A>>,
    /// The batches in the shard, by their tags.
    batch_replies: Slab<BatchReply<A>>,
    /// An entry of the ingress that must wait for the next turn to keep its order.
    held: Option<Ingress<A>>,
    /// Envelopes that full lanes left in the outboxes.
    backlog: usize,
    /// When lanes last took something of it, or it began.
    progressed: Instant,
    /// A task put something into an outbox.
    has_outgoing: bool,
    /// `counters().told` as of the last flush: a message run by a task may have told something
    /// since.
    told_flushed: u64,
    /// `counters().handled()` as of the last publication.
    handled_published: u64,
    clock: Clock,
    /// When the last round ended, if it found something to do. Otherwise what time passes is
    /// nobody's.
    round_ended: Option<Instant>,
    activity: Activity,
    /// Latencies to be recorded, and messages of batches not yet counted as a sample.
    samples: Vec<(AskBegun, u64)>,
    unsampled: u64,
    /// Something is to be looked at before a task's message runs: the log, or a sample is taken.
    /// One word for both, so that a shard without a log pays for neither.
    attends: bool,
    /// What has come to turns, in all; and when one of it is next counted as touching its objects.
    arrived: u64,
    touches_next: Instant,
    /// The next message that a task runs is counted as touching its objects.
    probes: bool,
    /// What had come when one was last counted, and what the shard had handled when a task's was.
    counted: Counted,
    /// `lock_waits` of the shard as of when the objects that were waited for were last counted.
    waits_counted: u64,
    /// What is done for others.
    jobs: Jobs<A>,
    /// What jobs wait for that nothing else is a reason to look for has happened.
    jobs_due: bool,
    is_logged: bool,
    /// What a task's message did is looked at by the pump: there is a log, or somebody watches.
    looks_after: bool,
    /// There are messages that an earlier run told, and so many of them are named as under way.
    resumes: bool,
    named: usize,
    /// `counters().revoked` as of when the other shards were last told of it.
    revoked_told: u64,
    failures: Failures,
    /// Reused: who is to be woken, and which shards were flushed to.
    wakers: Vec<Waker>,
    flushed: Vec<usize>,
}

/// What tasks know of the pump.
pub(crate) struct PumpState {
    /// It must be woken for what a task sends. What tasks run here by themselves it will publish
    /// without that.
    pub(crate) is_parked: Cell<bool>,
    pub(crate) waker: RefCell<Option<Waker>>,
}

impl<A: Actor> LocalShard<A> {
    pub(crate) fn new(mut setup: ShardSetup<A>) -> Self {
        let shard = setup.make_shard();
        let ShardSetup { shard: index, shared, lanes, .. } = setup;
        let config = &shared.config;
        let effects = Effects::new(shared.router.shards());
        let here = LocalShard {
            index,
            in_flight: RefCell::new(InFlight::new(config.calls_max)),
            tasks: Rc::new(Tasks::new(shared.published[index.index()].tasks.clone())),
            scratch: RefCell::new(Addressees::new()),
            core: RefCell::new(Core {
                resumes: shard.has_resumed(),
                named: 0,
                shard,
                inbox: Inbox::new(),
                effects,
                lanes,
                batch_replies: Slab::new(),
                held: None,
                backlog: 0,
                progressed: shared.started,
                has_outgoing: false,
                told_flushed: 0,
                handled_published: 0,
                clock: Clock::new(shared.started, shared.began()),
                round_ended: None,
                activity: Activity::default(),
                samples: Vec::new(),
                unsampled: 0,
                attends: shared.logs.is_some(),
                arrived: 0,
                touches_next: shared.started,
                probes: false,
                counted: Counted::default(),
                waits_counted: 0,
                jobs: Jobs::new(),
                jobs_due: false,
                is_logged: shared.logs.is_some(),
                looks_after: shared.logs.is_some(),
                revoked_told: 0,
                failures: Failures::default(),
                wakers: Vec::new(),
                flushed: Vec::new(),
            }),
            watchers: RefCell::new(Watchers::<A>::new()),
            has_watchers: Cell::new(false),
            handoff: RefCell::default(),
            segments_being_made: Cell::new(0),
            next_look: Cell::new(shared.started),
            pump: PumpState { is_parked: Cell::new(false), waker: RefCell::new(None) },
            may_have_user_tasks: Cell::new(false),
            drain: Cell::new(Drain::NotYet),
            has_left: Cell::new(false),
            shared,
        };
        // Owed messages that wait for their time are no reason for a round, and are to be counted
        // from the start.
        here.publish(&mut here.core.borrow_mut());
        here
    }

    pub(crate) fn mailbox(&self) -> &Mailbox<A, Command<A>> {
        &self.shared.mailboxes[self.index.index()]
    }

    /// Whether the shard runs no messages any more.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.get()
    }

    /// Runs a task's message at once.
    #[inline]
    pub(crate) fn ask_now(&self, sender: OwnerId, message: &A::Message) -> Outcome<A> {
        let Ok(mut core) = self.core.try_borrow_mut() else { reentered() };
        let core = &mut *core;
        if core.attends {
            self.attend(core, message)?;
        }
        let timers = core.shard.timers();
        if timers > 0 {
            core.clock.read();
        }
        let reply = core.shard.ask_now(core.clock.now, sender, message, &mut core.effects);
        // What a message tells, at once or later, is counted: one comparison says that there is
        // neither a first timer nor anything to send.
        if core.shard.counters().told != core.told_flushed {
            self.has_told(core, timers);
        }
        if core.looks_after && self.pump.is_parked.get() {
            self.tell_pump(core);
        }
        reply
    }

    /// Prefetches the objects of messages that a task is about to run.
    pub(crate) fn prefetch<'m>(&self, messages: impl IntoIterator<Item = &'m A::Message>)
    where
        A::Message: 'm,
    {
        let Ok(mut core) = self.core.try_borrow_mut() else { reentered() };
        core.shard.prefetch(messages);
    }

    /// Does something with the shard, for a task of the runtime's own; and sees to it that the pump
    /// carries it out.
    pub(crate) fn with_core<R>(
        &self,
        work: impl FnOnce(&mut Shard<A, Processor>, &mut Effects<A>) -> R,
    ) -> R {
        let Ok(mut core) = self.core.try_borrow_mut() else { reentered() };
        let core = &mut *core;
        let result = work(&mut core.shard, &mut core.effects);
        core.has_outgoing = true;
        if self.pump.is_parked.get() {
            self.tell_pump(core);
        }
        result
    }

    #[cold]
    fn has_told(&self, core: &mut Core<A>, timers_before: usize) {
        if timers_before == 0 && core.shard.timers() > 0 {
            let stood = core.clock.stand_still();
            core.shard.stood_still(stood);
        }
        if self.pump.is_parked.get() {
            self.tell_pump(core);
        }
    }

    /// Whether a task has put something before this shard's own next turn.
    pub(crate) fn has_sent_itself(&self) -> bool {
        let Ok(core) = self.core.try_borrow() else { reentered() };
        !core.inbox.envelopes.is_empty()
    }

    /// Puts a task's message on its way: to another shard, or into this one's next turn. Or begins
    /// it, if it is a pair. Gives it back if there is no room.
    pub(crate) fn send(
        &self,
        destination: Destination,
        sender: OwnerId,
        message: A::Message,
        answer_to: ReturnAddress,
    ) -> Result<(), A::Message> {
        let Ok(mut core) = self.core.try_borrow_mut() else { reentered() };
        let core = &mut *core;
        if let Err(message) = self.begin_pair(core, destination, sender, message, answer_to) {
            let limits = &self.shared.config.limits;
            let to = match destination {
                Destination::Nowhere => unreachable!("a message without an object is refused before"),
                Destination::One(to) => to,
                // A turn here finds the object, and prefetches it first.
                Destination::Several(_) if core.shard.prefetches() && self.is_home_of_pair() => self.index,
                Destination::Several(lowest) => lowest,
            };
            let (waiting, max) = match to == self.index {
                // To run in a turn and not inline: it needs other shards, or waits for an object.
                true => (core.inbox.envelopes.len(), limits.own_messages_max),
                false => (core.effects.outboxes[to.index()].len(), limits.outbox_messages_max),
            };
            if waiting >= max {
                return Err(message);
            }
            let envelope = Envelope::Message { message, sender, answer_to };
            match to == self.index {
                true => core.inbox.envelopes.push(envelope),
                false => core.effects.outboxes[to.index()].push_back(envelope),
            }
        }
        core.has_outgoing = true;
        if self.pump.is_parked.get() {
            self.tell_pump(core);
        }
        Ok(())
    }

    /// Begins a task's message at once, if its objects are a pair and one of them is free here. It
    /// spares the message a trip to its lowest shard, or through this one's inbox.
    fn begin_pair(
        &self,
        core: &mut Core<A>,
        destination: Destination,
        sender: OwnerId,
        message: A::Message,
        answer_to: ReturnAddress,
    ) -> Result<(), A::Message> {
        let spans = matches!(destination, Destination::Several(_));
        // What was sent to the shard itself before is not overtaken; and what is under way is
        // bounded. Objects that are not in the cache are found in a turn, which prefetches them.
        if !spans || !core.inbox.envelopes.is_empty() || core.shard.is_congested() || core.shard.prefetches()
        {
            return Err(message);
        }
        core.shard.begin_pair(core.clock.now, sender, message, answer_to, &mut core.effects)
    }

    /// Whether the message that was routed last has two objects, and one is at home here.
    fn is_home_of_pair(&self) -> bool {
        let named = self.scratch.borrow();
        named.len() == 2 && named.iter().any(|(id, _)| self.shared.router.home(&id) == self.index)
    }

    /// The pump is awake.
    #[inline]
    pub(crate) fn beat(&self) {
        self.shared.pulses[self.index.index()].beat();
    }

    /// Whether a message runs right now.
    pub(crate) fn is_in_receive(&self) -> bool {
        self.core.try_borrow_mut().is_err()
    }

    /// Looks now and then whether the shard is still on the CPU it was bound to.
    pub(crate) fn look_where_it_runs(&self, now: Instant) {
        if now < self.next_look.get() {
            return;
        }
        self.next_look.set(now + LOOK_EVERY);
        let (shard, cpu) = (self.index.0, self.shared.cpus[self.index.index()]);
        match self.shared.seats.look(self.index.index()) {
            CpuChange::InPlace => {}
            CpuChange::Moved { to } => tracing::warn!(
                shard,
                cpu,
                to,
                "this shard's CPU was taken from the process, and the kernel moved the shard: no shard spins until it is back"
            ),
            CpuChange::Back => tracing::info!(shard, cpu, "the shard is back on its CPU"),
        }
    }

    /// Wakes the pump if a task sent something.
    #[cold]
    fn tell_pump(&self, core: &Core<A>) {
        if core.has_outgoing
            || core.jobs_due
            || core.shard.counters().told != core.told_flushed
            || core.shard.has_log_work()
            || core.shard.has_to_show()
        {
            self.wake_pump();
        }
    }

    fn wake_pump(&self) {
        self.pump.is_parked.set(false);
        if let Some(waker) = &*self.pump.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Wakes those whom the last round answered. Apart from the round, because a waker is anyone's
    /// code and nothing may be borrowed then. Says whether there were any.
    pub(crate) fn wake_answered(&self) -> bool {
        let mut wakers = std::mem::take(&mut self.core.borrow_mut().wakers);
        let woke = !wakers.is_empty();
        wakers.drain(..).for_each(Waker::wake);
        let mut core = self.core.borrow_mut();
        core.wakers = wakers;
        let done = core.jobs.take_done();
        if !done.is_empty() {
            drop(core);
            let_go(done);
        }
        woke
    }

    /// Whether there is nothing the pump could do.
    pub(crate) fn is_idle(&self) -> bool {
        !self.mailbox().has_signals() && !self.can_work(&self.core.borrow())
    }

    /// Whether the shard drains.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.get() != Drain::NotYet
    }

    /// From now on there may be tasks of users.
    pub(crate) fn expect_user_tasks(&self) {
        self.may_have_user_tasks.set(true);
    }

    /// Does something for others, a step after each round.
    pub(crate) fn enqueue(&self, job: Box<dyn Job<A>>) {
        let Ok(mut core) = self.core.try_borrow_mut() else { reentered() };
        core.jobs.enqueue(job);
        core.has_outgoing = true;
        if self.pump.is_parked.get() {
            self.tell_pump(&core);
        }
    }

    /// Runs a task on this shard that was spawned at `place`, and tells `ended` how it ended.
    pub(crate) fn spawn_watched<F>(
        &self,
        place: TaskPlace,
        future: F,
        ended: impl FnOnce(Result<F::Output, TaskError>) + 'static,
    ) where
        F: Future + 'static,
    {
        self.tasks.clone().spawn(place, future, ended);
    }

    /// Whether there may be tasks of users.
    pub(crate) fn may_have_user_tasks(&self) -> bool {
        self.may_have_user_tasks.get()
    }

    /// When the clock was last read.
    #[inline]
    pub(crate) fn last_clock(&self) -> Instant {
        self.core.borrow().clock.last
    }

    /// How long it is until the first timer is due.
    pub(crate) fn until_timer(&self) -> Option<Duration> {
        let mut core = self.core.borrow_mut();
        let now = core.clock.read();
        core.shard.next_timer().map(|due| Duration::from_nanos(due.0.saturating_sub(now.0)))
    }

    /// Counts a park that began `since`.
    pub(crate) fn count_park(&self, since: Instant) {
        let mut core = self.core.borrow_mut();
        core.clock.read();
        // It slept: its tasks have not kept it.
        core.round_ended = None;
        core.activity.parks += 1;
        core.activity.parked_ns += (core.clock.last - since).as_nanos() as u64;
    }

    /// Does what the signals that other threads left ask for. Breaks if the shard is to leave.
    #[cold]
    pub(crate) fn poll_signals(self: &Rc<Self>) -> ControlFlow<()> {
        let signals = self.mailbox().take_signals();
        if signals & WAKE_TASKS != 0 {
            waiting::wake_kept();
        }
        if signals & EPOCHS != 0 {
            self.core.borrow_mut().shard.enter();
        }
        if signals & DURABLE != 0 {
            self.is_further();
        }
        if signals & COMMANDS != 0 {
            for command in self.mailbox().take_commands() {
                match command {
                    Command::Call(call) => call(self),
                    Command::Job(job) => self.enqueue(job),
                }
            }
        }
        if signals & PHASE != 0 {
            match self.shared.phase() {
                Phase::Running => {}
                Phase::Draining => self.drain(),
                Phase::Stopping | Phase::Dead => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }

    /// The runtime drains, or shuts its ingresses after that.
    fn drain(&self) {
        if self.drain.replace(Drain::Begun) == Drain::NotYet {
            self.core.borrow_mut().shard.stop_timers();
            self.tasks.stopping.happen();
        }
        if self.shared.ingresses_shut.load(Ordering::Acquire) {
            self.drain.set(Drain::Shut);
            self.shared.progress(self.index).is_shut = true;
        }
    }

    /// Ends the tasks that are left.
    pub(crate) async fn cancel_tasks(&self) {
        self.tasks.stopping.happen();
        self.tasks.cancel.happen();
        let begin = Instant::now();
        // Each ends at its next step; this lets every queue make one. The limit is for a task that
        // never comes back from a step.
        while self.tasks.live() > 0 && begin.elapsed() < Duration::from_secs(1) {
            self.beat();
            glommio::executor().yield_task_queue_now().await;
        }
    }
}

#[cold]
fn reentered() -> ! {
    panic!(
        "a message's `receive` called back into its own shard through a `Local`; use `Objects::tell` to send from inside a message"
    )
}
