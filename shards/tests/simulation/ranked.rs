//! Entries that have a second order, beside the others of each collection: the runtime keeps their
//! places, and the replay works them out anew.
//!
//! An entry's rank is by the message that wrote it last, so whoever writes an entry moves it. Those
//! of one rank in four are in no place.

use std::collections::BTreeSet;

use freehold_shard::*;
use serde::{Deserialize, Serialize};

use super::checker::{Model, Replay};
use super::script::{Name, Place, Refusal, Seen, Simulated, Value, collection_of, entry};

/// The keys of these entries begin here, and those of other entries end.
pub(super) const RANKED: u64 = 16;
/// The keys of places begin here.
const PLACES: u64 = 1 << 10;
/// Places of one rank.
const RANK: u64 = 1 << 5;
const RANKS: u64 = 3;

/// What a script does with the second order of a collection. Keys are below 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ranking {
    Put(u64),
    Change(u64),
    Take(u64),
    /// Takes the first entry from a rank on.
    TakeFirst(u64),
    /// Reads all entries from a rank on, in the second order.
    By(u64),
}

/// What such a step works on: shards, or the replay.
pub(crate) trait RankedPlace {
    fn rank(
        &mut self,
        collection: u64,
        step: Ranking,
        writer: u32,
        seen: &mut Vec<Seen>,
    ) -> Result<(), Refusal>;
}

/// The kind of headers, which nobody reads by kind.
pub(crate) enum Header {}

impl Kind<Simulated> for Header {
    type Key = u64;
    const NAME: &'static str = "Header";

    fn id(key: u64) -> Name {
        Name(key)
    }

    fn key(Name(id): Name) -> Option<u64> {
        collection_of(id).is_none().then_some(id)
    }

    fn into_state(self) -> Value {
        match self {}
    }

    fn from_state(state: Value) -> Result<Self, Value> {
        Err(state)
    }

    fn of(_: &Value) -> Option<&Self> {
        None
    }

    fn of_mut(_: &mut Value) -> Option<&mut Self> {
        None
    }
}

/// The collection and the key among its entries of an id, if the key is in this range.
fn key_in(Name(id): Name, keys: std::ops::Range<u64>) -> Option<(u64, u64)> {
    let collection = collection_of(id)?;
    let key = id - entry(collection, 0);
    keys.contains(&key).then(|| (collection, key - keys.start))
}

impl Kind<Simulated> for Value {
    type Key = (u64, u64);
    const NAME: &'static str = "Ranked";

    fn id((collection, key): (u64, u64)) -> Name {
        Name(entry(collection, RANKED + key))
    }

    fn key(id: Name) -> Option<(u64, u64)> {
        key_in(id, RANKED..PLACES)
    }

    fn into_state(self) -> Value {
        self
    }

    fn from_state(state: Value) -> Result<Self, Value> {
        Ok(state)
    }

    fn of(state: &Value) -> Option<&Self> {
        Some(state)
    }

    fn of_mut(state: &mut Value) -> Option<&mut Self> {
        Some(state)
    }
}

impl EntryKind<Simulated> for Value {
    type Header = Header;
    const IS_INDEXED: bool = true;
}

/// The kind of places.
#[derive(Default)]
pub(crate) struct Rank;

/// What a place holds.
const NOTHING: Value = Value { writer: 0, writes: 0 };

impl Kind<Simulated> for Rank {
    /// Collection, rank, and the key of the entry.
    type Key = (u64, u64, u64);
    const NAME: &'static str = "Rank";

    fn id((collection, rank, key): (u64, u64, u64)) -> Name {
        Name(entry(collection, PLACES + rank * RANK + key))
    }

    fn key(id: Name) -> Option<(u64, u64, u64)> {
        let (collection, place) = key_in(id, PLACES..u64::MAX)?;
        Some((collection, place / RANK, place % RANK))
    }

    fn into_state(self) -> Value {
        NOTHING
    }

    fn from_state(state: Value) -> Result<Self, Value> {
        if state == NOTHING { Ok(Rank) } else { Err(state) }
    }

    fn of(state: &Value) -> Option<&Self> {
        (*state == NOTHING).then_some(&Rank)
    }

    fn of_mut(_: &mut Value) -> Option<&mut Self> {
        None
    }
}

impl EntryKind<Simulated> for Rank {
    type Header = Header;
    const IS_PLACE: bool = true;
}

impl Indexed<Simulated> for Value {
    type Index = Rank;

    fn place_of((collection, key): (u64, u64), entry: &Value) -> Option<(u64, u64, u64)> {
        let rank = u64::from(entry.writer) % (RANKS + 1);
        (rank < RANKS).then_some((collection, rank, key))
    }

    fn key_at((collection, _, key): (u64, u64, u64)) -> (u64, u64) {
        (collection, key)
    }
}

/// What a step says that it needs, where its collection is at home elsewhere. Some say too little.
pub(super) fn needs(collection: u64, step: Ranking, message: u32, to: &mut Needs<Simulated>) {
    match step {
        Ranking::Put(key) | Ranking::Change(key) => {
            to.indexed_entry_of::<Value>((collection, key));
            let is = Value::place_of((collection, key), &Value { writer: message, writes: 0 });
            if message.is_multiple_of(2)
                && let Some(place) = is
            {
                to.entry_of::<Rank>(place);
            }
        }
        Ranking::Take(key) => to.indexed_entry_of::<Value>((collection, key)),
        Ranking::TakeFirst(rank) | Ranking::By(rank) => {
            to.range_by::<Value>(collection, (collection, rank, 0)..(collection, RANKS, 0), 2);
        }
    }
}

/// What a message sees of an entry.
fn seen_of((collection, key): (u64, u64), value: Option<Value>) -> Seen {
    (entry(collection, RANKED + key), value, value.map(|_| Ownership::default()))
}

/// An entry that is written once more.
fn written(was: Option<Value>, writer: u32) -> Value {
    Value { writer, writes: was.map_or(0, |was| was.writes) + 1 }
}

impl RankedPlace for Objects<'_, Simulated> {
    fn rank(
        &mut self,
        collection: u64,
        step: Ranking,
        writer: u32,
        seen: &mut Vec<Seen>,
    ) -> Result<(), Refusal> {
        let mut entries = self.indexed::<Value>(collection)?;
        match step {
            Ranking::Put(key) => {
                let key = (collection, key);
                let was = entries.read(key)?.copied();
                let before = entries.put(key, written(was, writer))?;
                assert_eq!(before, was, "what was there is handed back");
                seen.push(seen_of(key, was));
            }
            Ranking::Change(key) => {
                let change = |entry: &mut Value| {
                    let was = *entry;
                    *entry = written(Some(was), writer);
                    was
                };
                let was = entries.change((collection, key), change)?;
                seen.push(seen_of((collection, key), was));
            }
            Ranking::Take(key) => seen.push(seen_of((collection, key), entries.take((collection, key))?)),
            Ranking::TakeFirst(rank) => {
                let taken = entries.take_first_by((collection, rank, 0)..(collection, RANKS, 0))?;
                seen.extend(taken.map(|(key, value)| seen_of(key, Some(value))));
            }
            Ranking::By(rank) => {
                let ranks = (collection, rank, 0)..(collection, RANKS, 0);
                for found in entries.by(ranks) {
                    let (key, value) = found?;
                    seen.push(seen_of(key, Some(*value)));
                }
            }
        }
        Ok(())
    }
}

/// The entries of a collection from a rank on, in the second order, worked out from the entries
/// alone.
fn ranked(model: &Model, collection: u64, rank: u64) -> Vec<((u64, u64, u64), Value)> {
    let ids = entry(collection, RANKED)..entry(collection, PLACES);
    let with_place = |(id, object): (&u64, &(Ownership, Value))| {
        let place = Value::place_of(Value::key(Name(*id))?, &object.1)?;
        (place.1 >= rank).then_some((place, object.1))
    };
    let mut all = Vec::from_iter(model.range(ids).filter_map(with_place));
    all.sort_by_key(|(place, _)| *place);
    all
}

impl Replay<'_> {
    /// Removes an entry, and its place.
    fn take_ranked(&mut self, key: (u64, u64), seen: &mut Vec<Seen>) -> Result<(), Refusal> {
        let Name(id) = Value::id(key);
        let was = self.model.get(&id).map(|object| object.1);
        self.remove(id)?;
        self.move_place(key, was, None);
        seen.push(seen_of(key, was));
        Ok(())
    }

    fn move_place(&mut self, key: (u64, u64), was: Option<Value>, is: Option<Value>) {
        let place = |value: Option<Value>| Some(Rank::id(Value::place_of(key, &value?)?).0);
        if let Some(was) = place(was) {
            self.model.remove(&was);
        }
        self.model.extend(place(is).map(|is| (is, (Ownership::default(), NOTHING))));
    }
}

impl RankedPlace for Replay<'_> {
    fn rank(
        &mut self,
        collection: u64,
        step: Ranking,
        writer: u32,
        seen: &mut Vec<Seen>,
    ) -> Result<(), Refusal> {
        match step {
            Ranking::Put(key) | Ranking::Change(key) => {
                let key = (collection, key);
                let Name(id) = Value::id(key);
                let was = self.model.get(&id).map(|object| object.1);
                if was.is_some() || matches!(step, Ranking::Put(_)) {
                    self.write(id, writer)?;
                    self.move_place(key, was, Some(written(was, writer)));
                }
                seen.push(seen_of(key, was));
            }
            Ranking::Take(key) => self.take_ranked((collection, key), seen)?,
            Ranking::TakeFirst(rank) => {
                if let Some(((_, _, key), _)) = ranked(self.model, collection, rank).first() {
                    self.take_ranked((collection, *key), seen)?;
                }
            }
            Ranking::By(rank) => {
                let found = ranked(self.model, collection, rank);
                seen.extend(
                    found.into_iter().map(|((.., key), value)| seen_of((collection, key), Some(value))),
                );
            }
        }
        Ok(())
    }
}

/// index-agrees: each entry that is to have a place has it, and no place is of another.
pub(super) fn check_index(objects: &Model) -> Result<(), String> {
    let places: BTreeSet<_> = objects.keys().filter_map(|id| Rank::key(Name(*id))).collect();
    let has_key = |(id, object): (&u64, &(Ownership, Value))| {
        Value::key(Name(*id)).and_then(|key| Value::place_of(key, &object.1))
    };
    let expected: BTreeSet<_> = objects.iter().filter_map(has_key).collect();
    if places == expected {
        return Ok(());
    }
    Err(format!("index-agrees: there are places {places:?}, and entries are at {expected:?}"))
}
