//! Messages that an earlier run told and that are owed still: they run again, and the runtime knows
//! which of them run.
//!
//! A message may end the process: it overflows the stack, or something that it calls aborts. If it
//! is owed, it would do so at every start. So the runtime writes down which owed messages are
//! *under way* before they run, and the next start finds out which may be guilty: see
//! [`Manifest::blame`](crate::log::manifest::Manifest::blame).
//!
//! A message is under way until its delivery is on disk: what it told runs at once, and if that
//! ends the process before the disk has it, then only the first can be named. At most
//! [`UNDER_WAY_MAX`] of a shard are under way, so few are suspected. A runtime that has suspects
//! lets each run while nothing else does ([`Shard::resume_alone`](crate::Shard::resume_alone)). A
//! message that the process survives is innocent.
//!
//! A message that this run told is not written down. If it ends the process, it is one of an
//! earlier run at the next start.

use crate::actor::Actor;
use crate::epoch::Epoch;
use crate::log::record::SendId;
use crate::log::under_way::UNDER_WAY_MAX;
use crate::object::OwnerId;
use crate::shard::due::{DueKey, DueQueue};
use crate::time::Time;

pub(super) struct ToResume<A: Actor> {
    pub(super) message: A::Message,
    pub(super) sender: OwnerId,
    is_timed: bool,
}

/// The messages that a shard owes from earlier runs.
pub(crate) struct Resumed<A: Actor> {
    /// By when they are due; those that were told to run at once come first.
    pub(super) waiting: DueQueue<ToResume<A>>,
    timed: usize,
    /// None begins but by [`Shard::resume_alone`](crate::Shard::resume_alone).
    pub(super) is_held: bool,
    /// Taken from those that wait, and not sent yet.
    pub(super) taken: Vec<(SendId, ToResume<A>)>,
    /// Named by the runtime: taken, sent, or run and not yet delivered on disk. With the epoch in
    /// which it was delivered.
    pub(super) under_way: Vec<(SendId, Option<Epoch>)>,
}

impl<A: Actor> Resumed<A> {
    pub(crate) fn new() -> Self {
        Resumed {
            waiting: DueQueue::new(),
            timed: 0,
            is_held: false,
            taken: Vec::new(),
            under_way: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, send_id: SendId, due: Option<Time>, message: A::Message, sender: OwnerId) {
        let is_timed = due.is_some();
        self.timed += usize::from(is_timed);
        self.waiting.insert((due.unwrap_or_default(), send_id), ToResume { message, sender, is_timed });
    }

    /// How many wait for their time.
    pub(crate) fn timed(&self) -> usize {
        self.timed
    }

    /// Whether a message runs soon, or has run and its delivery is not on disk.
    pub(super) fn is_going_on(&self) -> bool {
        self.waiting.len() > self.timed || !self.under_way.is_empty()
    }

    /// When the next may run, and whether it waits for its time; `None` if none may.
    pub(super) fn next(&self) -> Option<(Time, bool)> {
        if self.is_held || self.under_way.len() >= UNDER_WAY_MAX {
            return None;
        }
        let key = self.waiting.first_key()?;
        self.waiting.get(key).map(|waiting| (key.0, waiting.is_timed))
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
    pub(crate) fn delivered(&mut self, send_id: SendId, epoch: Epoch) {
        if let Some((_, delivered_in)) = self.under_way.iter_mut().find(|(of, _)| *of == send_id) {
            *delivered_in = Some(epoch);
        }
    }

    /// The first epoch that has to be durable for one under way to be delivered on disk.
    pub(crate) fn wanted(&self) -> Option<Epoch> {
        self.under_way.iter().filter_map(|(_, delivered_in)| *delivered_in).min()
    }

    /// Forgets those under way whose delivery is on disk. Says whether there were any.
    pub(crate) fn end(&mut self, durable: Epoch) -> bool {
        let before = self.under_way.len();
        self.under_way
            .retain(|(_, delivered_in)| delivered_in.is_none_or(|delivered_in| delivered_in > durable));
        self.under_way.len() < before
    }

    /// One that waits for its time does not run any more.
    pub(super) fn cancel(&mut self, due: Time, send_id: SendId) {
        // Of those that were told to run at once the time says nothing.
        if self.waiting.get((due, send_id)).is_some_and(|waiting| waiting.is_timed) {
            self.waiting.remove((due, send_id));
            self.timed -= 1;
        }
    }

    pub(super) fn take(&mut self, key: DueKey) {
        let Some(waiting) = self.waiting.remove(key) else { return };
        self.timed -= usize::from(waiting.is_timed);
        self.under_way.push((key.1, None));
        self.taken.push((key.1, waiting));
    }
}
