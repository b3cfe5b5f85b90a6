//! What a standby shows: the objects as of the last epoch that it has, in a map of which a copy
//! costs nothing.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use freehold::{Actor, Epoch, ObjectId, WrittenSchema};
use freehold_shard::record::Record;
use rpds::HashTrieMapSync;
use serde::de::DeserializeOwned;

/// Why nothing can be shown: an id of other types.
const STRANGE_ID: &str = "an id cannot be read as the actor's types have it";

/// All objects of a standby.
pub(crate) struct Objects<A: Actor> {
    states: HashTrieMapSync<A::Id, Arc<A::State>>,
    /// The entries among them, by their collections.
    entries: HashMap<A::Id, HashSet<A::Id>>,
    epoch: Epoch,
    /// Records of other types than the actor's came: why nothing can be shown.
    strange: Option<&'static str>,
}

impl<A: Actor> Objects<A> {
    pub(crate) fn new() -> Self {
        let (states, entries) = (HashTrieMapSync::new_sync(), HashMap::new());
        Objects { states, entries, epoch: Epoch(0), strange: None }
    }

    /// Takes over a record.
    pub(crate) fn note(&mut self, record: &[u8])
    where
        A::State: DeserializeOwned,
    {
        match Record::read(record) {
            Some(Record::Put { id, state, .. }) => match (id.decode::<A::Id>(), state.decode::<A::State>()) {
                (Some(id), Some(state)) => {
                    if let Some(collection) = id.collection() {
                        self.entries.entry(collection).or_default().insert(id);
                    }
                    self.states.insert_mut(id, Arc::new(state));
                }
                _ => self.strange = Some("an object cannot be read as the actor's types have it"),
            },
            Some(Record::Remove { id }) => match id.decode::<A::Id>() {
                Some(id) => self.remove(&id),
                None => self.strange = Some(STRANGE_ID),
            },
            Some(Record::Cleared { collection }) => match collection.decode::<A::Id>() {
                Some(id) => {
                    for entry in self.entries.remove(&id).unwrap_or_default() {
                        self.states.remove_mut(&entry);
                    }
                }
                None => self.strange = Some(STRANGE_ID),
            },
            _ => {}
        }
    }

    fn remove(&mut self, id: &A::Id) {
        self.states.remove_mut(id);
        if let Some(collection) = id.collection()
            && let Some(entries) = self.entries.get_mut(&collection)
        {
            entries.remove(id);
            if entries.is_empty() {
                self.entries.remove(&collection);
            }
        }
    }

    /// All up to this epoch is in it, of records of this schema.
    pub(crate) fn is_of(&mut self, epoch: Epoch, ours: &WrittenSchema, theirs: Option<&WrittenSchema>) {
        self.epoch = epoch;
        if theirs.is_some_and(|theirs| theirs != ours) {
            self.strange = Some("the owner's types are of another version than this program's");
        }
    }

    /// All up to this epoch is in it.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What there is now; or why it cannot be shown.
    pub(crate) fn snapshot(&self, lag: Lag) -> Result<StandbySnapshot<A>, &'static str> {
        match self.strange {
            Some(why) => Err(why),
            None => Ok(StandbySnapshot { states: self.states.clone(), epoch: self.epoch, lag }),
        }
    }
}

/// How far a standby is behind what it has heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// Entries of the stream that it knows of and has not taken over.
    pub entries: u64,
    /// About how many bytes those have: so many entries of the stream's mean length.
    pub bytes: u64,
    /// How many epochs the owner had acknowledged beyond the standby's last, when it last said so.
    pub epochs: u64,
    /// How long ago it had all that there was.
    pub since: std::time::Duration,
}

/// All objects as a standby had them: a consistent view, as old as its epoch.
pub struct StandbySnapshot<A: Actor> {
    states: HashTrieMapSync<A::Id, Arc<A::State>>,
    epoch: Epoch,
    lag: Lag,
}

impl<A: Actor> StandbySnapshot<A> {
    /// Everything up to this epoch is in it, and nothing later.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How far the standby was behind.
    pub fn lag(&self) -> Lag {
        self.lag
    }

    /// An object's state; `None` if it did not exist.
    pub fn get(&self, id: &A::Id) -> Option<&A::State> {
        self.states.get(id).map(|state| &**state)
    }

    /// All objects, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&A::Id, &A::State)> {
        self.states.iter().map(|(id, state)| (id, &**state))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.states.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

impl<A: Actor> fmt::Debug for StandbySnapshot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (epoch, objects) = (self.epoch, self.len());
        f.debug_struct("StandbySnapshot").field("epoch", &epoch).field("objects", &objects).finish()
    }
}

#[cfg(test)]
mod tests {
    use freehold::{AccessError, Addressees, CollectionOf};
    use serde::{Deserialize, Serialize};

    use super::*;

    /// Odd ones are entries of the multiple of ten below them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    struct Place(u64);

    impl ObjectId for Place {
        const COLLECTION: Option<CollectionOf<Place>> =
            Some(|id| (id.0 % 2 == 1).then_some(Place(id.0 / 10 * 10)));
    }

    struct Places;

    impl Actor for Places {
        type Id = Place;
        type State = u8;
        type Message = ();
        type Reply = ();
        type Error = AccessError<Place>;

        fn addressees(_: &(), to: &mut Addressees<Place>) {
            to.write(Place(0));
        }

        fn receive(_: &(), _: &mut freehold::Objects<'_, Self>) -> Result<(), AccessError<Place>> {
            Ok(())
        }
    }

    // What a collection had goes, and its header, other collections and what comes later stay.
    #[test]
    fn a_collection_that_was_cleared_is_shown_without_what_it_had() {
        let mut objects = Objects::<Places>::new();
        let put = |place: u8, state| vec![2, 1, 0, place, state];
        let (remove, clear) = (|place| vec![6, place], |place| vec![11, place]);
        let mut shown = |records: &[Vec<u8>]| {
            records.iter().for_each(|record| objects.note(record));
            let snapshot = objects.snapshot(Lag::default()).expect("it can be shown");
            let mut all: Vec<_> = snapshot.iter().map(|(id, state)| (id.0, *state)).collect();
            all.sort_unstable();
            (all, objects.entries.values().map(HashSet::len).sum::<usize>())
        };
        let all = [put(10, 1), put(11, 1), put(13, 1), put(15, 1), put(21, 1), remove(13)];
        assert_eq!(shown(&all), (vec![(10, 1), (11, 1), (15, 1), (21, 1)], 3));
        assert_eq!(shown(&[clear(10), put(15, 2), put(17, 2)]).0, [(10, 1), (15, 2), (17, 2), (21, 1)]);
        assert_eq!(shown(&[clear(20), clear(30), remove(15), remove(17)]), (vec![(10, 1)], 0));
    }
}
