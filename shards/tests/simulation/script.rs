//! What messages do in the simulated runtimes: a script, which runs on a shard and in the replay
//! alike.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use freehold_shard::*;
use serde::{Deserialize, Serialize};

use super::checker::{Replay, Run, Timers};
use super::ranked::{self, RANKED, RankedPlace, Ranking};

/// The last message that wrote an object, and how many did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(crate) struct Value {
    pub(crate) writer: u32,
    pub(super) writes: u64,
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

/// The id of an object: a number. Large ones are entries of the collection that a small one is the
/// header of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Name(pub(crate) u64);

/// In the number of an entry: the collection begins here.
const COLLECTION: u64 = 1 << 20;

/// In place of how many entries are removed: all, at once.
pub(crate) const ALL: usize = 3;

/// An entry of a collection; `key` is below 16.
pub(crate) fn entry(collection: u64, key: u64) -> u64 {
    (collection + 1) * COLLECTION + key
}

/// The collection of an entry.
pub(crate) fn collection_of(id: u64) -> Option<u64> {
    (id / COLLECTION).checked_sub(1)
}

impl ObjectId for Name {
    const COLLECTION: Option<CollectionOf<Name>> = Some(|id| collection_of(id.0).map(Name));

    fn placement(&self) -> impl std::hash::Hash {
        collection_of(self.0).unwrap_or(self.0)
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
    /// Reads the entries of a collection from one key to another.
    Range(u64, u64, u64),
    /// Writes the first entry of a collection, and removes the last.
    Ends(u64),
    /// Removes so many of the entries of a collection, or all at once if it is [`ALL`].
    Clear(u64, usize),
    /// Does something with the entries of a collection that have a second order.
    Ranked(u64, Ranking),
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
    /// It is told as an action, whose outcome is the same script without this.
    pub(crate) is_action: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Asked,
    Panics,
    NotOwner(u64),
    Access(AccessError<Name>),
}

impl From<AccessError<Name>> for Refusal {
    fn from(error: AccessError<Name>) -> Self {
        match error {
            AccessError::NotOwner { id, .. } => Refusal::NotOwner(id.0),
            other => Refusal::Access(other),
        }
    }
}

/// What a script can do, on a shard or in the replay.
pub(crate) trait Place: RankedPlace {
    fn look(&mut self, id: u64) -> Result<Seen, Refusal>;
    fn write(&mut self, id: u64, writer: u32) -> Result<(), Refusal>;
    fn want(&self, ids: [u64; 2]) -> Result<(), Refusal>;
    fn remove(&mut self, id: u64) -> Result<(), Refusal>;
    fn give(&mut self, id: u64, to: Ownership) -> Result<(), Refusal>;
    /// The entries of a collection between two.
    fn range(&mut self, collection: u64, keys: Range<u64>) -> Result<Vec<u64>, Refusal>;
    /// Removes all entries of a collection.
    fn clear(&mut self, collection: u64) -> Result<(), Refusal>;
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
            Step::Range(collection, from, to) => {
                for id in place.range(collection, from..to)? {
                    seen.push(place.look(id)?);
                }
            }
            Step::Ends(collection) => {
                let all = place.range(collection, 0..RANKED)?;
                if let (Some(first), Some(last)) = (all.first(), all.last()) {
                    seen.push(place.look(*first)?);
                    place.write(*first, script.message)?;
                    place.remove(*last)?;
                }
            }
            Step::Clear(collection, ALL) => place.clear(collection)?,
            Step::Clear(collection, most) => {
                for id in place.range(collection, 0..RANKED)?.into_iter().take(most) {
                    place.remove(id)?;
                }
            }
            Step::Ranked(collection, step) => place.rank(collection, step, script.message, seen)?,
        }
    }
    match script.end {
        None => Ok(()),
        Some(Failure::Asked) => Err(Refusal::Asked),
        Some(Failure::Panics) => Err(Refusal::Panics),
    }
}

impl Place for Objects<'_, Simulated> {
    fn look(&mut self, id: u64) -> Result<Seen, Refusal> {
        if let Some(collection) = collection_of(id) {
            let value = self.collection(Name(collection))?.get(Name(id))?.copied();
            return Ok((id, value, value.map(|_| Ownership::default())));
        }
        Ok((id, self.get(Name(id))?.copied(), self.ownership(Name(id))?))
    }

    fn write(&mut self, id: u64, writer: u32) -> Result<(), Refusal> {
        if let Some(collection) = collection_of(id) {
            let mut entries = self.collection(Name(collection))?;
            let _ = entries.len();
            match entries.get_mut(Name(id))? {
                Some(value) => *value = Value { writer, writes: value.writes + 1 },
                None => drop(entries.insert(Name(id), Value { writer, writes: 1 })?),
            }
            return Ok(());
        }
        let value = self.get_or_insert_with(Name(id), || Value { writer: 0, writes: 0 })?;
        *value = Value { writer, writes: value.writes + 1 };
        Ok(())
    }

    fn want(&self, ids: [u64; 2]) -> Result<(), Refusal> {
        Ok(Objects::want(self, ids.map(Name))?)
    }

    fn remove(&mut self, id: u64) -> Result<(), Refusal> {
        match collection_of(id) {
            Some(collection) => drop(self.collection(Name(collection))?.remove(Name(id))?),
            None => drop(Objects::remove(self, Name(id))?),
        }
        Ok(())
    }

    fn clear(&mut self, collection: u64) -> Result<(), Refusal> {
        Ok(self.collection(Name(collection))?.clear()?)
    }

    fn give(&mut self, id: u64, to: Ownership) -> Result<(), Refusal> {
        match to {
            Ownership::Owned(owner) => self.transfer(Name(id), owner)?,
            Ownership::Shared => self.share(Name(id))?,
            Ownership::Immutable => self.freeze(Name(id))?,
        }
        Ok(())
    }

    fn range(&mut self, collection: u64, keys: Range<u64>) -> Result<Vec<u64>, Refusal> {
        let entries = self.collection(Name(collection))?;
        let ids = Name(entry(collection, keys.start))..Name(entry(collection, keys.end));
        let forwards: Vec<u64> = entries.range(ids.clone()).map(|(id, _)| id.0).collect();
        let mut backwards: Vec<u64> = entries.range(ids).rev().map(|(id, _)| id.0).collect();
        backwards.reverse();
        assert!(
            forwards == backwards || self.run.missing.first.get().is_some(),
            "a range is the same from both ends"
        );
        Ok(forwards)
    }
}

impl Replay<'_> {
    fn may_write(&mut self, id: u64) -> Result<(), Refusal> {
        if let Some(collection) = collection_of(id) {
            let mine = self.mine.clone();
            self.may_write(collection)?;
            // It has not written the header.
            self.mine = mine;
            return Ok(());
        }
        match self.model.get(&id) {
            Some((Ownership::Owned(owner), _)) if *owner != self.sender && !self.mine.contains(&id) => {
                return Err(Refusal::NotOwner(id));
            }
            Some((Ownership::Immutable, _)) if !self.mine.contains(&id) => {
                return Err(Refusal::Access(AccessError::Immutable { id: Name(id) }));
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
    fn look(&mut self, id: u64) -> Result<Seen, Refusal> {
        let found = self.model.get(&id);
        Ok((id, found.map(|found| found.1), found.map(|found| found.0)))
    }

    fn write(&mut self, id: u64, writer: u32) -> Result<(), Refusal> {
        self.may_write(id)?;
        let owner = if collection_of(id).is_some() { OwnerId::default() } else { self.sender };
        let fresh = (Ownership::Owned(owner), Value { writer: 0, writes: 0 });
        let object = self.model.entry(id).or_insert(fresh);
        object.1 = Value { writer, writes: object.1.writes + 1 };
        self.mine.insert(id);
        Ok(())
    }

    fn want(&self, _: [u64; 2]) -> Result<(), Refusal> {
        Ok(())
    }

    fn remove(&mut self, id: u64) -> Result<(), Refusal> {
        // An entry that does not exist is removed by anyone.
        if collection_of(id).is_some() && !self.model.contains_key(&id) {
            return Ok(());
        }
        self.may_write(id)?;
        self.model.remove(&id);
        Ok(())
    }

    fn clear(&mut self, collection: u64) -> Result<(), Refusal> {
        for id in self.range(collection, 0..COLLECTION)? {
            self.remove(id)?;
        }
        Ok(())
    }

    fn give(&mut self, id: u64, to: Ownership) -> Result<(), Refusal> {
        self.may_write(id)?;
        match self.model.get_mut(&id) {
            Some(object) => object.0 = to,
            None => return Err(Refusal::Access(AccessError::Absent { id: Name(id) })),
        }
        Ok(())
    }

    fn range(&mut self, collection: u64, keys: Range<u64>) -> Result<Vec<u64>, Refusal> {
        let ids = entry(collection, keys.start)..entry(collection, keys.end);
        Ok(self.model.range(ids).map(|(id, _)| *id).collect())
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
    type Id = Name;
    type State = Value;
    type Message = Script;
    type Reply = Vec<Seen>;
    type Error = Refusal;

    fn addressees(script: &Script, to: &mut Addressees<Name>) {
        for &(id, access) in &script.declared {
            match access {
                Use::Read => to.read(Name(id)),
                Use::Write => to.write(Name(id)),
            }
        }
    }

    fn needs(script: &Script, to: &mut Needs<Self>) {
        // Two of three say it, and not always enough.
        if script.message.is_multiple_of(3) {
            return;
        }
        for step in &script.steps {
            match *step {
                Step::Write(id) | Step::Remove(id) | Step::Read(id) => to.entry(Name(id)),
                Step::Range(id, from, till) => {
                    to.range(Name(id), Name(entry(id, from))..Name(entry(id, till)), 2);
                }
                Step::Ends(id) | Step::Clear(id, _) => {
                    let plain = Name(entry(id, 0))..Name(entry(id, RANKED));
                    to.range(Name(id), plain.clone(), 9);
                    to.range_back(Name(id), plain, 1);
                }
                Step::Ranked(id, step) => ranked::needs(id, step, script.message, to),
                _ => {}
            }
        }
    }

    fn is_action(script: &Script) -> bool {
        script.is_action
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
                Some((told, _)) if told.is_action => drop(objects.perform((**told).clone())?),
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
            misses: objects.run.missing.first.get().is_some(),
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
