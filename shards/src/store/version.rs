//! Old states of objects, kept for the snapshots that need them.
//!
//! An object's newest state is in its slot. Its first write since a snapshot was opened moves the
//! state before it here: no snapshot, no cost. An object's versions are a chain, newest first; all
//! chains of a shard lie in one queue in the order they were kept, which is also, about, the order
//! in which they end. So what no snapshot needs any more is taken from the front, and nothing is
//! searched for.
//!
//! Beside the queue there is the number of the newest version for each slot that has one. (In the
//! slot it took 4 bytes of each object, with snapshots or without.)
//!
//! A version's number counts up and wraps. The number of an older one may be of one that is not
//! kept any more: as there are never 2^31 in the queue, it is then not in its range.

use std::collections::VecDeque;

use crate::epoch::Epoch;
use crate::object::{ObjectId, Ownership};
use crate::store::slot::{Slot, SlotIndex};

/// What an object was from one epoch to another. Snapshots see it that began after `epoch` and not
/// after `until`.
pub(crate) struct Version<S> {
    pub(crate) slot: SlotIndex,
    /// When it was written, or earlier: see [`Slot::epoch`].
    pub(crate) epoch: Epoch,
    /// When it was overwritten or removed.
    pub(crate) until: Epoch,
    pub(crate) ownership: Ownership,
    pub(crate) state: S,
    /// The number of the version before, which may not be kept any more.
    older: Option<u32>,
}

/// The versions of a shard's objects: a queue in chunks, so that it grows without copying what it
/// holds, and gives back what it does not.
pub(crate) struct Versions<S> {
    /// All but the last are full; of the first some are gone.
    chunks: VecDeque<Vec<Option<Version<S>>>>,
    /// How many of the first chunk are gone.
    gone: usize,
    len: usize,
    /// The number of the first version there is.
    first: u32,
    newest: Newest,
}

/// For slots whose objects have versions, the number of the newest. Others have any number.
struct Newest {
    /// By slot, in chunks. A chunk whose slots have had no version since there were none is empty.
    chunks: Vec<Vec<u32>>,
}

impl Newest {
    fn get(&self, slot: SlotIndex) -> Option<u32> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK).copied()
    }

    fn set(&mut self, slot: SlotIndex, number: u32) {
        let (chunk, at) = (slot as usize / CHUNK, slot as usize % CHUNK);
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, Vec::new);
        }
        if self.chunks[chunk].is_empty() {
            self.chunks[chunk] = vec![0; CHUNK];
        }
        self.chunks[chunk][at] = number;
    }
}

/// Versions in a chunk, and slots.
const CHUNK: usize = 512;

impl<S> Versions<S> {
    pub(crate) fn new() -> Self {
        let newest = Newest { chunks: Vec::new() };
        Versions { chunks: VecDeque::new(), gone: 0, len: 0, first: 0, newest }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn get(&self, number: u32) -> Option<&Version<S>> {
        let at = self.gone + number.wrapping_sub(self.first) as usize;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)?.as_ref()
    }

    fn push(&mut self, version: Version<S>) {
        if self.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push_back(Vec::with_capacity(CHUNK));
        }
        self.chunks.back_mut().expect("one was just made sure of").push(Some(version));
        self.len += 1;
    }

    /// Keeps what the object in `slot`, number `index`, was until its write in epoch `until`.
    pub(crate) fn keep<I: ObjectId>(
        &mut self,
        index: SlotIndex,
        slot: &mut Slot<I, S>,
        until: Epoch,
        ownership: Ownership,
        state: S,
    ) {
        let number = self.first.wrapping_add(self.len as u32);
        let older = slot.has_version().then(|| self.newest.get(index)).flatten();
        slot.set_has_version(true);
        self.newest.set(index, number);
        self.push(Version { slot: index, epoch: slot.epoch(), until, ownership, state, older });
    }

    /// What the object in `slot`, number `index`, was at the start of `snapshot`; `None` if it did
    /// not exist then.
    pub(crate) fn read<'a, I: ObjectId>(
        &'a self,
        index: SlotIndex,
        slot: &'a Slot<I, S>,
        snapshot: Epoch,
    ) -> Option<(Ownership, &'a S)> {
        if let Some(state) = &slot.state
            && slot.epoch() < snapshot
        {
            return Some((slot.ownership(), state));
        }
        let mut number = slot.has_version().then(|| self.newest.get(index)).flatten()?;
        loop {
            let version = self.get(number)?;
            if version.epoch < snapshot {
                // Between this one and the next it did not exist, if there is a gap.
                return (snapshot <= version.until).then_some((version.ownership, &version.state));
            }
            number = version.older?;
        }
    }

    /// The last snapshot that needs the version that was kept first.
    pub(crate) fn first_until(&self) -> Option<Epoch> {
        self.get(self.first).map(|version| version.until)
    }

    /// Takes the version out that was kept first, if no snapshot from `watermark` on needs it; and
    /// says whether it was the newest of what is in its slot, if that has versions.
    pub(crate) fn take_first(&mut self, watermark: Epoch) -> Option<(Version<S>, bool)> {
        if self.first_until()? >= watermark {
            return None;
        }
        let version = self.chunks.front_mut()?[self.gone].take()?;
        let is_newest = self.newest.get(version.slot) == Some(self.first);
        self.first = self.first.wrapping_add(1);
        self.gone += 1;
        self.len -= 1;
        if self.gone == CHUNK {
            self.chunks.pop_front();
            self.gone = 0;
        }
        if self.len == 0 {
            self.newest.chunks.clear();
        }
        Some((version, is_newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Numbers wrap after 2^32 versions, and the queue goes over many chunks.
    #[test]
    fn a_chain_is_found_whatever_its_numbers() {
        let epochs = if cfg!(miri) { 60 } else { 2_000 };
        for first in [0, u32::MAX - 20] {
            let mut versions = Versions { first, ..Versions::new() };
            let mut slot = Slot::empty(7_u64, Ownership::Shared);
            for epoch in 1..epochs {
                let before: Option<u64> = slot.state.replace(epoch);
                if let Some(before) = before {
                    versions.keep(3, &mut slot, Epoch(epoch), Ownership::Shared, before);
                }
                slot.stamp(Epoch(epoch));
                // Of every third version on, the oldest are dropped, two at a time.
                if epoch % 3 == 0 {
                    for _ in 0..2 {
                        versions.take_first(Epoch(u64::MAX)).expect("there are some");
                    }
                }
                let oldest = epoch - versions.len() as u64;
                for snapshot in [oldest, oldest + 1, oldest + 2, epoch / 2, epoch, epoch + 1] {
                    let seen = versions.read(3, &slot, Epoch(snapshot)).map(|(_, state)| *state);
                    let expected = (snapshot > oldest).then_some(snapshot.saturating_sub(1).min(epoch));
                    assert_eq!(seen, expected, "at {snapshot} of {oldest} to {epoch}");
                }
            }
            while versions.take_first(Epoch(u64::MAX)).is_some() {}
            assert_eq!((versions.len(), versions.chunks.len() <= 1), (0, true));
            assert!(versions.newest.chunks.is_empty(), "numbers are given back with the last version");
        }
    }
}
