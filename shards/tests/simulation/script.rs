//! What messages do in the simulated runtimes: a script, which runs on a shard and in the replay
//! alike.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use freehold_shard::*;
use serde::{Deserialize, Serialize};

use super::checker::{Replay, Run, Timers};

/// The last message that wrote an object, and how many did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(crate) struct Value {
    pub(crate) writer: u32,
    writes: u64,
}

/// A value as a log has it: some are long, so that there are batches of several blocks, and a few
/// as long as may be.
#[derive(Serialize, Deserialize)]
struct Written(u32, u64, Vec<u8>);

/// Bytes that a value and its id have at most beside the long part.
const REST: usize = 10 + 5 + 10 + 5;

thread_local! {
    /// How long the longest values of this thread's world are, with their ids.
    pub(crate) static LONGEST: Cell<usize> = const { Cell::new(2000) };
}

impl From<Value> for Written {
    fn from(Value { writer, writes }: Value) -> Self {
        let bytes = match writer % 32 {
            7 | 23 => 1500,
            21 => LONGEST.get() - REST,
            _ => 0,
        };
        Written(writer, writes, vec![writer as u8; bytes])
    }
}

impl From<Written> for Value {
    fn from(Written(writer, writes, _): Written) -> Self {
        Value { writer, writes }
    }
}

/// What a message saw of an object: its value, and whose it is.
pub(crate) type Seen = (u64, Option<Value>, Option<Ownership>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Read(u64),
    Write(u64),
    Remove(u64),
    Transfer(u64, OwnerId),
    Share(u64),
    Freeze(u64),
    /// Writes an object that the value of another decides.
    Follow(u64),
    /// Wants both at once.
    Want(u64, u64),
    /// Writes an object without looking whether it may.
    Careless(u64),
}

/// What an object is declared for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Use {
    Read,
    Write,
}

/// How a script ends that does not succeed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Asked,
    Panics,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Script {
    pub(crate) message: u32,
    pub(crate) sender: OwnerId,
    pub(crate) declared: Vec<(u64, Use)>,
    pub(crate) steps: Vec<Step>,
    pub(crate) end: Option<Failure>,
    pub(crate) objects: u64,
    pub(crate) tells: Option<Box<Script>>,
    /// A message that was told to run later, and is taken back if it has not run.
    pub(crate) cancels: Option<u32>,
    /// If it is told: how much later it is to run.
    pub(crate) delay: u64,
    /// It is told as an errand, whose outcome is the same script without this.
    pub(crate) is_errand: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Asked,
    Panics,
    NotOwner(u64),
    Access(AccessError<u64>),
}

impl From<AccessError<u64>> for Refusal {
    fn from(error: AccessError<u64>) -> Self {
        match error {
            AccessError::NotOwner { id, .. } => Refusal::NotOwner(id),
            other => Refusal::Access(other),
        }
    }
}

/// What a script can do, on a shard or in the replay.
pub(crate) trait Place {
    fn look(&self, id: u64) -> Result<Seen, Refusal>;
    fn write(&mut self, id: u64, writer: u32) -> Result<(), Refusal>;
    fn want(&self, ids: [u64; 2]) -> Result<(), Refusal>;
    fn remove(&mut self, id: u64) -> Result<(), Refusal>;
    fn give(&mut self, id: u64, to: Ownership) -> Result<(), Refusal>;
}

/// Runs a script.
pub(crate) fn apply(script: &Script, place: &mut impl Place, seen: &mut Vec<Seen>) -> Result<(), Refusal> {
    for step in &script.steps {
        match *step {
            Step::Read(id) => seen.push(place.look(id)?),
            Step::Write(id) => {
                seen.push(place.look(id)?);
                place.write(id, script.message)?;
            }
            Step::Remove(id) => place.remove(id)?,
            Step::Transfer(id, to) => place.give(id, Ownership::Owned(to))?,
            Step::Share(id) => place.give(id, Ownership::Shared)?,
            Step::Freeze(id) => place.give(id, Ownership::Immutable)?,
            Step::Follow(id) => {
                let found = place.look(id)?;
                seen.push(found);
                let next = found.1.map_or(id + 1, |value| u64::from(value.writer)) % script.objects;
                seen.push(place.look(next)?);
                place.write(next, script.message)?;
            }
            Step::Want(one, other) => place.want([one, other])?,
            Step::Careless(id) => {
                // Swallows the error that asks for another run.
                let _ = place.write(id, script.message);
            }
        }
    }
    match script.end {
        None => Ok(()),
        Some(Failure::Asked) => Err(Refusal::Asked),
        Some(Failure::Panics) => Err(Refusal::Panics),
    }
}

impl Place for Objects<'_, Simulated> {
    fn look(&self, id: u64) -> Result<Seen, Refusal> {
        Ok((id, self.get(id)?.copied(), self.ownership(id)?))
    }

    fn write(&mut self, id: u64, writer: u32) -> Result<(), Refusal> {
        let value = self.get_or_insert_with(id, || Value { writer: 0, writes: 0 })?;
        *value = Value { writer, writes: value.writes + 1 };
        Ok(())
    }

    fn want(&self, ids: [u64; 2]) -> Result<(), Refusal> {
        Ok(Objects::want(self, ids)?)
    }

    fn remove(&mut self, id: u64) -> Result<(), Refusal> {
        Objects::remove(self, id)?;
        Ok(())
    }

    fn give(&mut self, id: u64, to: Ownership) -> Result<(), Refusal> {
        match to {
            Ownership::Owned(owner) => self.transfer(id, owner)?,
            Ownership::Shared => self.share(id)?,
            Ownership::Immutable => self.freeze(id)?,
        }
        Ok(())
    }
}

impl Replay<'_> {
    fn may_write(&mut self, id: u64) -> Result<(), Refusal> {
        match self.model.get(&id) {
            Some((Ownership::Owned(owner), _)) if *owner != self.sender && !self.mine.contains(&id) => {
                return Err(Refusal::NotOwner(id));
            }
            Some((Ownership::Immutable, _)) if !self.mine.contains(&id) => {
                return Err(Refusal::Access(AccessError::Immutable { id }));
            }
            Some(_) => {
                self.mine.insert(id);
            }
            None => {}
        }
        Ok(())
    }
}

impl Place for Replay<'_> {
    fn look(&self, id: u64) -> Result<Seen, Refusal> {
        let found = self.model.get(&id);
        Ok((id, found.map(|found| found.1), found.map(|found| found.0)))
    }

    fn write(&mut self, id: u64, writer: u32) -> Result<(), Refusal> {
        self.may_write(id)?;
        let fresh = (Ownership::Owned(self.sender), Value { writer: 0, writes: 0 });
        let object = self.model.entry(id).or_insert(fresh);
        object.1 = Value { writer, writes: object.1.writes + 1 };
        self.mine.insert(id);
        Ok(())
    }

    fn want(&self, _: [u64; 2]) -> Result<(), Refusal> {
        Ok(())
    }

    fn remove(&mut self, id: u64) -> Result<(), Refusal> {
        self.may_write(id)?;
        self.model.remove(&id);
        Ok(())
    }

    fn give(&mut self, id: u64, to: Ownership) -> Result<(), Refusal> {
        self.may_write(id)?;
        match self.model.get_mut(&id) {
            Some(object) => object.0 = to,
            None => return Err(Refusal::Access(AccessError::Absent { id })),
        }
        Ok(())
    }
}

thread_local! {
    /// What has run in this thread, in its order.
    pub(crate) static RUNS: RefCell<Vec<Run>> = const { RefCell::new(Vec::new()) };
    /// The timers of this thread's world by the message that waits, each as the last run that set
    /// it has it.
    pub(crate) static TIMERS: RefCell<BTreeMap<u32, TimerId>> = const { RefCell::new(BTreeMap::new()) };
}

pub(crate) struct Simulated;

impl Actor for Simulated {
    type Id = u64;
    type State = Value;
    type Message = Script;
    type Reply = Vec<Seen>;
    type Error = Refusal;

    fn addressees(script: &Script, to: &mut Addressees<u64>) {
        for &(id, access) in &script.declared {
            match access {
                Use::Read => to.read(id),
                Use::Write => to.write(id),
            }
        }
    }

    fn is_errand(script: &Script) -> bool {
        script.is_errand
    }

    fn receive(script: &Script, objects: &mut Objects<'_, Self>) -> Result<Vec<Seen>, Refusal> {
        assert_eq!(objects.sender(), script.sender, "the sender is the one who sent");
        let mut seen = Vec::new();
        let end = apply(script, objects, &mut seen);
        let mut timers = Timers::default();
        if end.is_ok() {
            timers.cancelled =
                script.cancels.and_then(|message| TIMERS.with_borrow(|all| all.get(&message).copied()));
            if let Some(timer) = timers.cancelled {
                objects.cancel(timer)?;
                timers.is_kept_here = objects.run.keeper(timer.number()) == objects.run.shard;
            }
            match script.tells.as_ref().map(|told| (told, told.delay)) {
                None => {}
                Some((told, _)) if told.is_errand => drop(objects.perform((**told).clone())?),
                Some((told, 0)) => objects.tell((**told).clone())?,
                Some((told, delay)) => {
                    let timer = objects.tell_after(Duration::from_nanos(delay), (**told).clone())?;
                    TIMERS.with_borrow_mut(|all| all.insert(told.message, timer));
                    timers.set = Some(timer);
                }
            }
        }
        let id = objects.transaction_id();
        let run = Run {
            script: script.clone(),
            id,
            seen: seen.clone(),
            end: end.clone(),
            timers,
            is_last: false,
            time: Time(0),
        };
        RUNS.with_borrow_mut(|runs| runs.push(run));
        match end {
            Err(Refusal::Panics) => panic!("as the script says"),
            end => end.map(|()| seen),
        }
    }
}
