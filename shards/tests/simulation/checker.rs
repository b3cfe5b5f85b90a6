//! Judges a history: is there one order of everything that explains all that anyone saw, and agrees with real time?
//!
//! The order is claimed by the protocol and not searched for: by epoch; in an epoch, snapshots before messages; and messages by where they
//! ran, at their lock points, of which one thread has one after another. The history is replayed on a plain map in that order, and every
//! read, every refusal, every snapshot and the final state must come out the same. And what ended before something else began must not
//! come after it in the order.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use freehold_shard::{AccessError, AskError, Epoch, OwnerId, Ownership, TransactionId};

use super::world::{Refusal, Script, Seen, Value, apply};

/// One run of a message to the end of its script.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) script: Script,
    /// Its name; if it took effect, in this epoch.
    pub(crate) id: TransactionId,
    pub(crate) seen: Vec<Seen>,
    pub(crate) end: Result<(), Refusal>,
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
}

#[derive(Default)]
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
    pub(crate) unsettled: Cell<u64>,
}

/// Objects as the replay has them.
pub(crate) type Model = BTreeMap<u64, (Ownership, Value)>;

/// Something that has its place in the order.
#[derive(Clone, Copy)]
enum Event<'a> {
    Audit(&'a Audit),
    Run(&'a Run),
    Peek(&'a Peek),
}

/// A place in the order: the epoch; 0 for a snapshot and 1 for the rest; the lock point. Those of runs are odd, and even is between two.
type Key = (Epoch, u8, usize);

impl History {
    /// Replays the history; returns what must be left.
    pub(crate) fn explain(&self, told: impl Fn(u32) -> bool) -> Result<Model, String> {
        let mut events: Vec<(Key, Event<'_>)> = Vec::new();
        let (mut last, mut names) = (BTreeMap::new(), BTreeSet::new());
        for (at, run) in self.runs.iter().enumerate() {
            last.insert(run.script.message, at);
        }
        for (at, run) in self.runs.iter().enumerate() {
            if last[&run.script.message] == at && self.counts(run, &told)? {
                events.push(((run.id.epoch, 1, 2 * at + 1), Event::Run(run)));
                if run.end.is_ok() && !names.insert(run.id) {
                    return Err(format!("{:?} is the name of two messages that took effect", run.id));
                }
            }
        }
        events.extend(self.audits.iter().map(|audit| ((audit.epoch, 0, 0), Event::Audit(audit))));
        events.extend(self.peeks.iter().map(|peek| ((peek.epoch, 1, 2 * peek.at), Event::Peek(peek))));
        events.sort_by_key(|(key, _)| *key);
        self.check_real_time(&events)?;
        let mut model = Model::new();
        for (key, event) in &events {
            match event {
                Event::Audit(audit) => audit.check(&model)?,
                Event::Peek(peek) => peek.check(&model)?,
                Event::Run(run) => {
                    self.replay(run, &mut model).map_err(|error| format!("{key:?}: {error}"))?
                }
            }
        }
        Ok(model)
    }

    /// Whether a message's last run is one that its sender heard of.
    fn counts(&self, run: &Run, told: impl Fn(u32) -> bool) -> Result<bool, String> {
        let message = run.script.message;
        let answer = self.answers.get(&message);
        if answer.is_none() && !told(message) {
            return Err(format!("message {message} ran and was not answered"));
        }
        let never_settled = matches!(run.end, Err(Refusal::Access(AccessError::Undeclared { .. })));
        match answer {
            Some(Err(AskError::Busy)) => Ok(false),
            Some(Err(AskError::Unsettled)) => {
                self.unsettled.set(self.unsettled.get() + 1);
                Ok(false)
            }
            None if never_settled => {
                self.unsettled.set(self.unsettled.get() + 1);
                Ok(false)
            }
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

    fn replay(&self, run: &Run, model: &mut Model) -> Result<(), String> {
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
            Some(Err(AskError::Panicked)) if end == Err(Refusal::Panics) => {}
            None => {}
            other => {
                return Err(format!("message {message} ended with {end:?} and was answered {other:?}"));
            }
        }
        if end.is_ok() {
            *model = after;
        }
        Ok(())
    }
}

/// What anyone may read of an object without a message.
fn public(model: &Model, id: u64) -> Option<Value> {
    model.get(&id).filter(|object| !matches!(object.0, Ownership::Owned(_))).map(|object| object.1)
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
    /// What the message has written: having been allowed to once, it is to its end, whatever it does to the ownership.
    pub(crate) mine: BTreeSet<u64>,
}

impl<'a> Replay<'a> {
    fn new(model: &'a mut Model, sender: OwnerId) -> Self {
        Replay { model, sender, mine: BTreeSet::new() }
    }
}
