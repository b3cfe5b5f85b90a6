//! Messages that an earlier run told and that are owed still: they run again, and the runtime knows which of them run.
//!
//! A message may end the process: it overflows the stack, or something that it calls aborts. If it is owed, it would do so at every
//! start. So whoever runs the shard writes down which owed messages are *under way* before they run, and the next start finds out
//! which may be guilty: see [`Manifest::blame`](crate::manifest::Manifest::blame).
//!
//! A message is under way until its payment is on disk: what it told runs at once, and if that ends the process before the disk has
//! it, then only the first can be named. At most [`UNDER_WAY_MAX`] of a shard are under way, so few are suspected. A runtime that has
//! suspects lets each run while nothing else does ([`Shard::resume_alone`]); who survives that is innocent.
//!
//! A message that this run told is not written down. If it ends the process, it is one of an earlier run at the next start.

use std::collections::BTreeMap;

use crate::actor::Actor;
use crate::desk::Told;
use crate::epoch::Epoch;
use crate::object::OwnerId;
use crate::record::Debt;
use crate::router::Destination;
use crate::shard::{Effects, Prefetch, Shard};
use crate::time::Time;

/// Owed messages of one shard that are under way at once.
pub const UNDER_WAY_MAX: usize = 64;

struct Waiting<A: Actor> {
    message: A::Message,
    sender: OwnerId,
    is_timed: bool,
}

/// The messages that a shard owes from earlier runs.
pub(crate) struct Resumed<A: Actor> {
    /// By when they are due; those that were told to run at once come first.
    waiting: BTreeMap<(Time, Debt), Waiting<A>>,
    timed: usize,
    /// None begins but by [`Shard::resume_alone`].
    is_held: bool,
    /// Taken from those that wait, and not sent yet.
    taken: Vec<(Debt, Waiting<A>)>,
    /// Named by the runtime: taken, sent, or run and not yet paid on disk. With the epoch in which it was paid.
    under_way: Vec<(Debt, Option<Epoch>)>,
}

impl<A: Actor> Resumed<A> {
    pub(crate) fn new() -> Self {
        Resumed {
            waiting: BTreeMap::new(),
            timed: 0,
            is_held: false,
            taken: Vec::new(),
            under_way: Vec::new(),
        }
    }

    fn push(&mut self, debt: Debt, due: Option<Time>, message: A::Message, sender: OwnerId) {
        let is_timed = due.is_some();
        self.timed += usize::from(is_timed);
        self.waiting.insert((due.unwrap_or_default(), debt), Waiting { message, sender, is_timed });
    }

    /// How many wait for their time.
    pub(crate) fn timed(&self) -> usize {
        self.timed
    }

    /// When the next may run, and whether it waits for its time; `None` if none may.
    fn next(&self) -> Option<(Time, bool)> {
        if self.is_held || self.under_way.len() >= UNDER_WAY_MAX {
            return None;
        }
        self.waiting.first_key_value().map(|((due, _), waiting)| (*due, waiting.is_timed))
    }

    /// When the next that waits for its time may run; `None` if another comes first.
    pub(crate) fn next_timed(&self) -> Option<Time> {
        self.next().and_then(|(due, is_timed)| is_timed.then_some(due))
    }

    /// Whether one may run that waits for nothing.
    pub(crate) fn has_next_untimed(&self) -> bool {
        self.next().is_some_and(|(_, is_timed)| !is_timed)
    }

    /// This has run, and what it did is committed in `epoch`.
    pub(crate) fn is_paid(&mut self, debt: Debt, epoch: Epoch) {
        if let Some((_, paid_in)) = self.under_way.iter_mut().find(|(of, _)| *of == debt) {
            *paid_in = Some(epoch);
        }
    }

    /// The first epoch that has to be durable for one under way to be paid on disk.
    pub(crate) fn wanted(&self) -> Option<Epoch> {
        self.under_way.iter().filter_map(|(_, paid_in)| *paid_in).min()
    }

    /// Forgets those under way whose payment is on disk. Says whether there were any.
    pub(crate) fn end(&mut self, durable: Epoch) -> bool {
        let before = self.under_way.len();
        self.under_way.retain(|(_, paid_in)| paid_in.is_none_or(|paid_in| paid_in > durable));
        self.under_way.len() < before
    }

    fn take(&mut self, key: (Time, Debt)) {
        let Some(waiting) = self.waiting.remove(&key) else { return };
        self.timed -= usize::from(waiting.is_timed);
        self.under_way.push((key.1, None));
        self.taken.push((key.1, waiting));
    }
}

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Takes over a debt that a log has, and which is this shard's (its number modulo the shards): its message runs when it is due, or
    /// soon, by [`Shard::take_resumed`].
    pub fn restore_debt(
        &mut self,
        debt: Debt,
        sender: OwnerId,
        due: Option<Time>,
        message: A::Message,
        bytes: &[u8],
    ) {
        self.keep_debt(debt, sender, due, bytes);
        if let Some(journal) = &mut self.desk.journal {
            journal.resumed.push(debt, due, message, sender);
        }
    }

    /// From now on no message of an earlier run begins but by [`Shard::resume_alone`]; or all do.
    pub fn hold_resumed(&mut self, is_held: bool) {
        if let Some(journal) = &mut self.desk.journal {
            journal.resumed.is_held = is_held;
        }
    }

    /// Whether there are messages of an earlier run that have not run, or whose payment is not on disk.
    pub fn has_resumed(&self) -> bool {
        self.desk.journal.as_ref().is_some_and(|journal| {
            !journal.resumed.waiting.is_empty() || !journal.resumed.under_way.is_empty()
        })
    }

    /// Takes the messages of earlier runs that may run at `now`. Says whether there are any: then those under way are to be written
    /// down, and [`Shard::run_resumed`] is to be called before the next turn.
    pub fn take_resumed(&mut self, now: Time) -> bool {
        let is_stopped = self.timers_stopped();
        let Some(journal) = &mut self.desk.journal else { return false };
        let resumed = &mut journal.resumed;
        while let Some((due, is_timed)) = resumed.next()
            && (!is_timed || due <= now && !is_stopped)
            && let Some((key, _)) = resumed.waiting.first_key_value()
        {
            self.desk.counters.timers_fired += u64::from(is_timed);
            resumed.take(*key);
        }
        !resumed.taken.is_empty()
    }

    /// Takes one message of an earlier run, whether it is due or not: it has been, in that run. Says whether it is owed; then
    /// everything is as after [`Shard::take_resumed`].
    pub fn resume_alone(&mut self, debt: Debt) -> bool {
        let Some(journal) = &mut self.desk.journal else { return false };
        let resumed = &mut journal.resumed;
        let found = resumed.waiting.keys().find(|(_, of)| *of == debt).copied();
        found.is_some_and(|key| {
            resumed.take(key);
            true
        })
    }

    /// The messages of earlier runs that are under way.
    pub fn under_way(&self) -> impl Iterator<Item = Debt> {
        self.desk.journal.iter().flat_map(|journal| journal.resumed.under_way.iter().map(|(debt, _)| *debt))
    }

    /// Sends what was taken to where it runs, in the next turn or by the outboxes.
    pub fn run_resumed(&mut self, effects: &mut Effects<A>) {
        let Some(journal) = &mut self.desk.journal else { return };
        for (debt, Waiting { message, sender, .. }) in std::mem::take(&mut journal.resumed.taken) {
            let destination = self.desk.router.destination::<A>(&message, &mut self.desk.scratch);
            let to = match destination {
                Destination::One(to) | Destination::Several(to) => to,
                Destination::Nowhere => self.desk.shard,
            };
            self.desk.told.push(Told { message, to, sender, due: None, owed: None, debt: Some(debt) });
        }
        self.desk.send_told(effects);
    }
}
