//! Judges a history: is there one order of all messages that explains all they saw?
//!
//! The order is known and not searched for: a message takes effect where it runs to its end, at its lock point, and the simulation has
//! one thread. So the history is replayed on a plain map in that order, and every read, every refusal and the final state must come out the
//! same. As a message runs between being sent and being answered, the order also agrees with real time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use freehold_shard::{AccessError, AskError, OwnerId, Ownership};

use crate::world::{Refusal, Script, Seen, Value, apply};

/// One run of a message to the end of its script.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) script: Script,
    pub(crate) seen: Vec<Seen>,
    pub(crate) end: Result<(), Refusal>,
}

#[derive(Default)]
pub(crate) struct History {
    /// In the order they ran; the last run of a message is the one that counts.
    pub(crate) runs: Vec<Run>,
    /// By message: what its sender heard.
    pub(crate) answers: BTreeMap<u32, Result<Vec<Seen>, AskError<Refusal>>>,
    /// Found while explaining: messages that were given up because their objects did not settle.
    pub(crate) unsettled: Cell<u64>,
}

/// Objects as the replay has them.
pub(crate) type Model = BTreeMap<u64, (Ownership, Value)>;

impl History {
    /// Replays the history; returns what must be left.
    pub(crate) fn explain(&self, told: impl Fn(u32) -> bool) -> Result<Model, String> {
        let mut last = BTreeMap::new();
        for (at, run) in self.runs.iter().enumerate() {
            last.insert(run.script.message, at);
        }
        let mut model = Model::new();
        for (at, run) in self.runs.iter().enumerate() {
            let message = run.script.message;
            if last[&message] != at {
                continue;
            }
            let answer = self.answers.get(&message);
            if answer.is_none() && !told(message) {
                return Err(format!("message {message} ran and was not answered"));
            }
            let never_settled = matches!(run.end, Err(Refusal::Access(AccessError::Undeclared { .. })));
            if matches!(answer, Some(Err(AskError::Unsettled | AskError::Busy)))
                || answer.is_none() && never_settled
            {
                self.unsettled
                    .set(self.unsettled.get() + u64::from(!matches!(answer, Some(Err(AskError::Busy)))));
                continue;
            }
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
                model = after;
            }
        }
        Ok(model)
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
