//! Messages that an earlier run told and that are owed still: they run again, and the runtime knows which of them run.
//!
//! A message may end the process: it overflows the stack, or something that it calls aborts. If it is owed, it would do so at every
//! start. So whoever runs the shard writes down which owed messages are *under way* before they run, and the next start finds out
//! which may be guilty: see [`Manifest::blame`](crate::log::manifest::Manifest::blame).
//!
//! A message is under way until its payment is on disk: what it told runs at once, and if that ends the process before the disk has
//! it, then only the first can be named. At most [`UNDER_WAY_MAX`] of a shard are under way, so few are suspected. A runtime that has
//! suspects lets each run while nothing else does ([`Shard::resume_alone`]); who survives that is innocent.
//!
//! A message that this run told is not written down. If it ends the process, it is one of an earlier run at the next start.

use std::collections::BTreeMap;

use crate::actor::Actor;
use crate::actor::destination::Destination;
use crate::epoch::Epoch;
use crate::log::record::Debt;
use crate::object::OwnerId;
use crate::prefetch::Prefetch;
use crate::shard::engine::Told;
use crate::shard::{Effects, Shard};
use crate::time::Time;

/// Owed messages of one shard that are under way at once.
pub const UNDER_WAY_MAX: usize = 64;

/// The bytes that name the messages of one shard that are under way. They are written in place, in one piece, and never synced: they
/// are for a process that ends, and the system keeps what that has written.
///
/// ```text
/// 0 crc32c of what follows    4 how many u32    8 start u64    16 the debts, u64 each, and zeros
/// ```
pub const UNDER_WAY_BYTES: usize = 1024;

const _: () = assert!(16 + 8 * UNDER_WAY_MAX <= UNDER_WAY_BYTES);

/// Names these messages of the run that `start` began.
pub fn name_under_way(start: u64, debts: impl Iterator<Item = Debt>) -> [u8; UNDER_WAY_BYTES] {
    let mut bytes = [0; UNDER_WAY_BYTES];
    let mut many = 0_u32;
    for (Debt(debt), place) in debts.zip(bytes[16..].chunks_exact_mut(8)) {
        place.copy_from_slice(&debt.to_le_bytes());
        many += 1;
    }
    bytes[4..8].copy_from_slice(&many.to_le_bytes());
    bytes[8..16].copy_from_slice(&start.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The messages that [`name_under_way`] named in the run that `start` began. Bytes of another run, and bytes that are none, name nobody.
pub fn named_under_way(start: u64, bytes: &[u8]) -> Vec<Debt> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let [head, of, debts @ ..] = numbers else { return Vec::new() };
    let (crc, many) = (u64::from_le_bytes(*head) as u32, (u64::from_le_bytes(*head) >> 32) as usize);
    let is_whole =
        bytes.len() == UNDER_WAY_BYTES && many <= UNDER_WAY_MAX && crc32c::crc32c(&bytes[4..]) == crc;
    if !is_whole || u64::from_le_bytes(*of) != start {
        return Vec::new();
    }
    debts[..many].iter().map(|debt| Debt(u64::from_le_bytes(*debt))).collect()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written_and_only_in_their_run() {
        for many in [0, 1, UNDER_WAY_MAX as u64] {
            let debts: Vec<Debt> = (0..many).map(|debt| Debt(debt * 7 + 1)).collect();
            let bytes = name_under_way(5, debts.iter().copied());
            assert_eq!(named_under_way(5, &bytes), debts);
            assert_eq!(named_under_way(6, &bytes), []);
            let mut torn = bytes;
            torn[20] ^= 1;
            assert_eq!(named_under_way(5, &torn), []);
            assert_eq!(named_under_way(5, &bytes[..512]), []);
        }
        assert_eq!(named_under_way(0, &[0; UNDER_WAY_BYTES]), [], "a hole in the file names nobody");
    }
}
