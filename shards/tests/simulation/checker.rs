//! Judges a history: is there one order of everything that explains all that anyone saw, and agrees
//! with real time?
//!
//! The order is claimed by the protocol and not searched for: by epoch; in an epoch, snapshots
//! before messages; and messages by where they ran, at their lock points, of which one thread has
//! one after another. The history is replayed on a plain map in that order, and every read, every
//! refusal, every snapshot and the final state must come out the same. And what ended before
//! something else began must not come after it in the order.
//!
//! In a life that ended in a crash, only what was committed up to an epoch, the *cut*, is left: the
//! replay leaves out the later messages, and still has to come to what was recovered. Nobody may
//! have been told for good what a message did that is left out, nor what it left behind: whatever
//! was answered for good must be explained by what is left. What was told is owed until it has run,
//! over all lives.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use freehold_shard::{AskError, Epoch, OwnerId, Ownership, Time, TimerId, TransactionId};

use super::script::{Refusal, Script, Seen, Value, apply, entry};

/// One run of a message to the end of its script.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) script: Script,
    /// Its name; if it took effect, in this epoch.
    pub(crate) id: TransactionId,
    pub(crate) seen: Vec<Seen>,
    pub(crate) end: Result<(), Refusal>,
    /// It ran without what it needs, whatever it says.
    pub(crate) misses: bool,
    pub(crate) timers: Timers,
    /// That is what came of the message: it did not begin anew.
    pub(crate) is_last: bool,
    pub(crate) time: Time,
}

/// What a run did with timers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timers {
    pub(crate) set: Option<TimerId>,
    pub(crate) cancelled: Option<TimerId>,
    /// The timer that it cancelled waits on the shard where it ran.
    pub(crate) is_kept_here: bool,
}

thread_local! {
    /// The timers of this thread's world that were set by messages that took effect.
    pub(crate) static SET: RefCell<BTreeMap<u32, TimerId>> = const { RefCell::new(BTreeMap::new()) };
}

/// What somebody read at a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audit {
    pub(crate) epoch: Epoch,
    /// The steps at which it was opened and last read.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) objects: Model,
    /// All shards were walked to their end.
    pub(crate) is_whole: bool,
    pub(crate) is_expired: bool,
    pub(crate) published: Vec<(u64, Option<Value>)>,
    /// The entries of collections that were read as ranges.
    pub(crate) ranges: Vec<(u64, Vec<(u64, Value)>)>,
    /// It waited until everything it could see was durable.
    pub(crate) is_durable: bool,
}

/// A read of a published object at its latest.
#[derive(Clone, Debug)]
pub(crate) struct Peek {
    pub(crate) id: u64,
    pub(crate) value: Option<Value>,
    /// How many runs there had been.
    pub(crate) at: usize,
    /// The epoch then.
    pub(crate) epoch: Epoch,
    pub(crate) step: u64,
    /// It was a read of what is durable; then `epoch` is how far that was.
    pub(crate) is_durable: bool,
}

#[derive(Clone, Default)]
pub(crate) struct History {
    /// In the order they ran; the last run of a message is the one that counts.
    pub(crate) runs: Vec<Run>,
    pub(crate) audits: Vec<Audit>,
    pub(crate) peeks: Vec<Peek>,
    /// By message: what its sender heard.
    pub(crate) answers: BTreeMap<u32, Result<Vec<Seen>, AskError<Refusal>>>,
    /// By message: the steps at which it was sent, and at which its sender heard of it.
    pub(crate) sent: BTreeMap<u32, u64>,
    pub(crate) answered: BTreeMap<u32, u64>,
    /// Found while explaining: messages that were given up because their objects did not settle.
    pub(crate) unstable: Cell<u64>,
    /// Messages whose answers a crash may make untrue.
    pub(crate) applied: BTreeSet<u32>,
    /// What there was in the beginning.
    pub(crate) start: Model,
    pub(crate) owed: Owed,
}

/// Objects as the replay has them.
pub(crate) type Model = BTreeMap<u64, (Ownership, Value)>;

/// Messages that were told and have not run, and when they are due.
pub(crate) type Owed = BTreeMap<u32, Time>;

/// Something that has its place in the order.
#[derive(Clone, Copy)]
enum Event<'a> {
    Audit(&'a Audit),
    Run(&'a Run),
    Peek(&'a Peek),
}

/// A place in the order: the epoch; 0 for a snapshot, 2 for a read of what is durable, and 1 for
/// the rest; the lock point. Those of runs are odd, and even is between two.
type Key = (Epoch, u8, usize);

impl History {
    /// Replays the history; returns what must be left, of objects and of what is owed. Of what was
    /// committed after `cut` nothing is.
    pub(crate) fn explain(
        &self,
        told: impl Fn(u32) -> bool,
        cut: Option<Epoch>,
    ) -> Result<(Model, Owed), String> {
        let mut events: Vec<(Key, Event<'_>)> = Vec::new();
        let (mut last, mut names) = (BTreeMap::new(), BTreeSet::new());
        let is_gone = |epoch: Epoch| cut.is_some_and(|cut| epoch > cut);
        for (at, run) in self.runs.iter().enumerate() {
            last.insert(run.script.message, at);
        }
        for (at, run) in self.runs.iter().enumerate() {
            let is_it = last[&run.script.message] == at && self.counts(run, &told, cut.is_some())?;
            if is_it && (!is_gone(run.id.epoch) || self.is_for_good(run)) {
                events.push(((run.id.epoch, 1, 2 * at + 1), Event::Run(run)));
                if run.end.is_ok() && !names.insert(run.id) {
                    return Err(format!("{:?} is the name of two messages that took effect", run.id));
                }
            }
        }
        let audits =
            self.audits.iter().filter(|audit| audit.is_durable || !is_gone(Epoch(audit.epoch.0 - 1)));
        events.extend(audits.map(|audit| ((audit.epoch, 0, 0), Event::Audit(audit))));
        let peeks = self.peeks.iter().filter(|peek| peek.is_durable || !is_gone(peek.epoch));
        events.extend(peeks.map(|peek| {
            let key = if peek.is_durable { (peek.epoch, 2, 0) } else { (peek.epoch, 1, 2 * peek.at) };
            (key, Event::Peek(peek))
        }));
        events.sort_by_key(|(key, _)| *key);
        self.check_real_time(&events)?;
        let (mut model, mut owed) =
            (self.start.clone(), Owing { owed: self.owed.clone(), ..Owing::default() });
        // Those that changed something and were answered for good: when, and in which epoch.
        let mut acknowledged = Vec::new();
        for (key, event) in &events {
            match event {
                Event::Audit(audit) => audit.check(&model)?,
                Event::Peek(peek) => peek.check(&model)?,
                Event::Run(run) => {
                    let cancelled = run.takes_back(&owed.owed);
                    let has_changed =
                        self.replay(run, &mut model).map_err(|error| format!("{key:?}: {error}"))?
                            || cancelled.is_some();
                    let message = run.script.message;
                    if is_gone(run.id.epoch) && has_changed {
                        return Err(format!(
                            "{key:?}: message {message} was acknowledged, and is lost: {cut:?}"
                        ));
                    }
                    if has_changed && self.is_for_good(run) {
                        acknowledged.push((self.answered[&message], run.id.epoch));
                    }
                    run.follow(told(message), cancelled, &mut owed)
                        .map_err(|error| format!("{key:?}: {error}"))?;
                }
            }
        }
        for peek in self.peeks.iter().filter(|peek| peek.is_durable) {
            if acknowledged.iter().any(|(step, epoch)| *step < peek.step && *epoch > peek.epoch) {
                return Err(format!("{peek:?} does not see all that was acknowledged before"));
            }
        }
        let mut owed = owed.owed;
        owed.retain(|message, _| {
            // Nobody hears that what was told was given up.
            !last.get(message).is_some_and(|at| self.never_stable(&self.runs[*at])) || cut.is_some()
        });
        Ok((model, owed))
    }

    /// What a copy must explain that was begun at this step, when these messages had been answered,
    /// and has come to its end now.
    pub(crate) fn as_copied(&self, begun: u64, answered: &BTreeSet<u32>) -> History {
        let mut history = self.clone();
        // What had no effect has none, whenever its sender hears of it.
        let is_none =
            |answer: &Result<_, _>| matches!(answer, Err(AskError::Busy | AskError::AddresseesUnstable));
        history.answers.retain(|message, answer| answered.contains(message) || is_none(answer));
        history.answered.retain(|message, _| answered.contains(message));
        history.audits.retain(|audit| audit.ended <= begun);
        history.peeks.retain(|peek| peek.step <= begun);
        history
    }

    /// Whether somebody was told what came of it, and that no crash can change that.
    fn is_for_good(&self, run: &Run) -> bool {
        let message = &run.script.message;
        self.answers.contains_key(message) && !self.applied.contains(message)
    }

    fn never_stable(&self, run: &Run) -> bool {
        run.misses
    }

    /// Whether a told message may have been given up in this life.
    pub(crate) fn may_be_given_up(&self, message: u32) -> bool {
        let run = self.runs.iter().rfind(|run| run.script.message == message);
        run.is_some_and(|run| self.never_stable(run))
    }

    /// Whether a message's last run is one that its sender heard of.
    fn counts(&self, run: &Run, told: impl Fn(u32) -> bool, is_crashed: bool) -> Result<bool, String> {
        let message = run.script.message;
        let answer = self.answers.get(&message);
        if answer.is_none() && !told(message) {
            if is_crashed {
                return Ok(run.is_last);
            }
            return Err(format!("message {message} ran and was not answered"));
        }
        let never_stable = self.never_stable(run);
        match answer {
            Some(Err(AskError::Busy)) => Ok(false),
            Some(Err(AskError::AddresseesUnstable)) => {
                self.unstable.set(self.unstable.get() + 1);
                Ok(false)
            }
            None if never_stable => {
                self.unstable.set(self.unstable.get() + 1);
                Ok(false)
            }
            _ if !run.is_last => Err(format!("message {message} began anew and did not run again")),
            _ => Ok(true),
        }
    }

    /// What ended before another began does not come after it.
    fn check_real_time(&self, events: &[(Key, Event<'_>)]) -> Result<(), String> {
        // Of those that come later in the order: which ended first?
        let mut first_end = (u64::MAX, (Epoch(0), 0, 0));
        for (key, event) in events.iter().rev() {
            let (began, ended) = match event {
                Event::Audit(audit) => (audit.began, audit.ended),
                // What is durable is behind: see [`History::explain`].
                Event::Peek(peek) if peek.is_durable => (u64::MAX, peek.step),
                Event::Peek(peek) => (peek.step, peek.step),
                // What a message tells begins and ends unseen.
                Event::Run(run) => {
                    let message = run.script.message;
                    let ended = self.answered.get(&message).copied().unwrap_or(u64::MAX);
                    (self.sent.get(&message).copied().unwrap_or(u64::MAX), ended)
                }
            };
            // Two snapshots of one epoch would see the same.
            if first_end.0 < began && began != u64::MAX && first_end.1 != *key {
                return Err(format!(
                    "against real time: {key:?}, begun at step {began}, comes before {:?}, ended at step {}",
                    first_end.1, first_end.0
                ));
            }
            if ended < first_end.0 {
                first_end = (ended, *key);
            }
        }
        Ok(())
    }

    /// Says whether it has changed anything.
    fn replay(&self, run: &Run, model: &mut Model) -> Result<bool, String> {
        let message = run.script.message;
        let answer = self.answers.get(&message);
        let mut after = model.clone();
        let mut seen = Vec::new();
        let end = apply(&run.script, &mut Replay::new(&mut after, run.script.sender), &mut seen);
        if (&seen, &end) != (&run.seen, &run.end) {
            return Err(format!(
                "message {message} {:?}\n saw      {:?} {:?}\n expected {seen:?} {end:?}\n answered {answer:?}",
                run.script, run.seen, run.end
            ));
        }
        match answer {
            Some(Ok(replied)) if end.is_ok() && *replied == seen => {}
            Some(Err(AskError::Aborted(refusal))) if end == Err(refusal.clone()) => {}
            Some(Err(AskError::Panicked(_))) if end == Err(Refusal::Panics) => {}
            None => {}
            other => {
                return Err(format!("message {message} ended with {end:?} and was answered {other:?}"));
            }
        }
        let has_changed = end.is_ok() && (*model != after || run.script.tells.is_some());
        if end.is_ok() {
            *model = after;
        }
        Ok(has_changed)
    }
}

/// What anyone may read of an object without a message.
fn public(model: &Model, id: u64) -> Option<Value> {
    model.get(&id).filter(|object| !matches!(object.0, Ownership::Owned(_))).map(|object| object.1)
}

/// Messages that were told, while a history is replayed.
#[derive(Default)]
struct Owing {
    owed: Owed,
    /// Those that were taken back too late, perhaps: they were due, or kept elsewhere.
    on_their_way: Owed,
}

impl Run {
    /// What it does with messages that were told; it may be one itself, and take one back.
    fn follow(&self, is_told: bool, takes_back: Option<u32>, owing: &mut Owing) -> Result<(), String> {
        let Owing { owed, on_their_way } = owing;
        let message = self.script.message;
        if is_told {
            let due = owed.remove(&message).or_else(|| on_their_way.remove(&message));
            if due.is_none_or(|due| due > self.time) {
                return Err(format!("message {message} ran at {:?}, and was to run at {due:?}", self.time));
            }
        }
        if let Some(message) = takes_back {
            let is_late = |due: &Time| *due <= self.time || !self.timers.is_kept_here;
            let due = owed.remove(&message).filter(is_late);
            on_their_way.extend(due.map(|due| (message, due)));
        }
        if let (Ok(()), Some(told)) = (&self.end, &self.script.tells) {
            let set = self.timers.set.map(|timer| (told.message, timer));
            SET.with_borrow_mut(|all| all.extend(set));
            owed.insert(told.message, Time(self.time.0 + told.delay));
        }
        Ok(())
    }

    /// The message that it takes back, of those that are owed.
    fn takes_back(&self, owed: &Owed) -> Option<u32> {
        let (message, cancelled) = self.script.cancels.zip(self.timers.cancelled)?;
        let is_set = SET.with_borrow(|all| all.get(&message) == Some(&cancelled));
        (self.end.is_ok() && is_set && owed.contains_key(&message)).then_some(message)
    }
}

impl Audit {
    fn check(&self, model: &Model) -> Result<(), String> {
        // One that expired half way saw a part.
        let is_right = if self.is_whole {
            self.objects == *model
        } else {
            self.objects.iter().all(|(id, object)| model.get(id) == Some(object))
        };
        if !is_right {
            return Err(format!(
                "the snapshot of {}\n saw      {:?}\n expected {model:?}",
                self.epoch, self.objects
            ));
        }
        for (collection, found) in &self.ranges {
            let ids = entry(*collection, 0)..entry(*collection + 1, 0);
            let expected: Vec<_> = model.range(ids).map(|(id, object)| (*id, object.1)).collect();
            if *found != expected {
                return Err(format!(
                    "the snapshot of {} saw {found:?} of collection {collection}, expected {expected:?}",
                    self.epoch
                ));
            }
        }
        for (id, value) in &self.published {
            if *value != public(model, *id) {
                return Err(format!(
                    "the snapshot of {} saw {value:?} published of object {id}, expected {:?}",
                    self.epoch,
                    model.get(id)
                ));
            }
        }
        Ok(())
    }
}

impl Peek {
    fn check(&self, model: &Model) -> Result<(), String> {
        if self.value == public(model, self.id) {
            return Ok(());
        }
        Err(format!("{self:?} of a published object, expected {:?}", model.get(&self.id)))
    }
}

/// What a script works on in the replay.
pub(crate) struct Replay<'a> {
    pub(crate) model: &'a mut Model,
    pub(crate) sender: OwnerId,
    /// What the message has written: having been allowed to once, it is to its end, whatever it
    /// does to the ownership.
    pub(crate) mine: BTreeSet<u64>,
}

impl<'a> Replay<'a> {
    fn new(model: &'a mut Model, sender: OwnerId) -> Self {
        Replay { model, sender, mine: BTreeSet::new() }
    }
}
