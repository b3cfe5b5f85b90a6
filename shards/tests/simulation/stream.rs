//! A replicated log in memory: what its leader has, and what was put beside it. `freehold-replica`
//! has its tests of logs run over it, too.

use std::collections::BTreeMap;

use freehold_shard::log::appends::Appended;
use freehold_shard::log::chain::{Body, NamedCheckpoint, read_entry};

/// The log. A message that was lost is empty.
#[derive(Default)]
pub struct Stream {
    pub messages: Vec<Vec<u8>>,
    /// A message was lost, or another is in its place.
    pub is_damaged: bool,
    /// How many of the first messages were let go of.
    pub trimmed: usize,
    /// Checkpoints that were put beside it, by term and number: what the counters were.
    pub checkpoints: BTreeMap<(u64, u64), Counts>,
}

/// What the counters are.
pub type Counts = BTreeMap<u64, u64>;

impl Stream {
    pub fn last(&self) -> u64 {
        self.messages.len() as u64
    }

    pub fn append<E: AsRef<[u8]>>(&mut self, entries: &[E], behind: u64) -> Appended {
        if behind != self.last() {
            return Appended::Refused;
        }
        self.messages.extend(entries.iter().map(|entry| entry.as_ref().to_vec()));
        Appended::Done
    }

    /// The checkpoint that was named last, and the message from which its reader goes on.
    pub fn named(&self) -> Option<(u64, NamedCheckpoint)> {
        let named = |at: usize| {
            let (head, _) = read_entry(&self.messages[at]).ok()?;
            let Body::Checkpoint(named) = head.body else { return None };
            Some((at as u64 + 1 - (head.number - named.place.next), *named))
        };
        (self.trimmed..self.messages.len()).rev().find_map(named)
    }

    /// Lets go of the messages before message `below`, and of checkpoints that an owner of this
    /// term knows to be replaced.
    pub fn trim(&mut self, below: u64, named: (u64, u64)) {
        self.trimmed = self.trimmed.max((below as usize).saturating_sub(1));
        self.messages[..self.trimmed].iter_mut().for_each(Vec::clear);
        self.checkpoints.retain(|checkpoint, _| *checkpoint == named || checkpoint.0 > named.0);
    }
}
