//! What a standby shows: the objects as of the last epoch that it has, in a map of which a copy
//! costs nothing.

use std::fmt;
use std::sync::Arc;

use freehold::{Actor, Epoch, WrittenSchema};
use freehold_shard::record::Record;
use rpds::HashTrieMapSync;
use serde::de::DeserializeOwned;

/// All objects of a standby.
pub(crate) struct Objects<A: Actor> {
    states: HashTrieMapSync<A::Id, Arc<A::State>>,
    epoch: Epoch,
    /// Records of other types than the actor's came: why nothing can be shown.
    strange: Option<&'static str>,
}

impl<A: Actor> Objects<A> {
    pub(crate) fn new() -> Self {
        Objects { states: HashTrieMapSync::new_sync(), epoch: Epoch(0), strange: None }
    }

    /// Takes over a record.
    pub(crate) fn note(&mut self, record: &[u8])
    where
        A::State: DeserializeOwned,
    {
        match Record::read(record) {
            Some(Record::Put { id, state, .. }) => match (id.decode::<A::Id>(), state.decode::<A::State>()) {
                (Some(id), Some(state)) => self.states.insert_mut(id, Arc::new(state)),
                _ => self.strange = Some("an object cannot be read as the actor's types have it"),
            },
            Some(Record::Remove { id }) => match id.decode::<A::Id>() {
                Some(id) => drop(self.states.remove_mut(&id)),
                None => self.strange = Some("an id cannot be read as the actor's types have it"),
            },
            _ => {}
        }
    }

    /// All up to this epoch is in it, of records of this schema.
    pub(crate) fn is_of(&mut self, epoch: Epoch, ours: &WrittenSchema, theirs: Option<&WrittenSchema>) {
        self.epoch = epoch;
        if theirs.is_some_and(|theirs| theirs != ours) {
            self.strange = Some("the owner's types are of another version than this program's");
        }
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
