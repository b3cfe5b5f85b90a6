//! The slots of a shard: a slab in chunks, so that a slot never moves and growing copies no object.
//!
//! A chunk has all its slots from the beginning, so whoever looks for one asks for the chunk alone:
//! 8 instructions, and 13 when a chunk was a list that filled up. A pair looks a dozen times.

use crate::object::{ObjectId, Ownership};
use crate::store::slot::{NO_SLOT, Slot, SlotIndex};

/// Few, as all slots of a chunk are written when there is to be the first of them.
const CHUNK_BITS: u32 = 9;
pub(super) const CHUNK_SLOTS: usize = 1 << CHUNK_BITS;

type SlotChunk<I, S> = Box<[Slot<I, S>; CHUNK_SLOTS]>;

/// All slots, with objects or not.
pub(crate) struct Slots<I, S> {
    chunks: Vec<SlotChunk<I, S>>,
    /// How many of them are used, or were. Those behind are empty.
    len: usize,
}

impl<I: ObjectId, S> Slots<I, S> {
    pub(super) fn new() -> Self {
        Slots { chunks: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slots from `from` on, with their numbers.
    pub(super) fn from(&self, from: SlotIndex) -> impl Iterator<Item = (SlotIndex, &Slot<I, S>)> {
        let chunks = self.chunks.get((from >> CHUNK_BITS) as usize..).unwrap_or_default();
        let (first, others) = match chunks {
            [first, others @ ..] => (first.get(from as usize % CHUNK_SLOTS..).unwrap_or_default(), others),
            [] => (&[][..], &[][..]),
        };
        let slots = first.iter().chain(others.iter().flat_map(|chunk| chunk.as_slice()));
        (from..).zip(slots.take(self.len.saturating_sub(from as usize)))
    }

    #[inline]
    pub(crate) fn get(&self, slot: SlotIndex) -> &Slot<I, S> {
        &self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize % CHUNK_SLOTS]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: SlotIndex) -> &mut Slot<I, S> {
        &mut self.chunks[(slot >> CHUNK_BITS) as usize][slot as usize % CHUNK_SLOTS]
    }

    /// Two different slots at once.
    ///
    /// # Panics
    /// If they are the same.
    #[inline]
    pub(super) fn two_mut(&mut self, a: SlotIndex, b: SlotIndex) -> (&mut Slot<I, S>, &mut Slot<I, S>) {
        let (chunk_a, chunk_b) = ((a >> CHUNK_BITS) as usize, (b >> CHUNK_BITS) as usize);
        let (in_a, in_b) = (a as usize % CHUNK_SLOTS, b as usize % CHUNK_SLOTS);
        if chunk_a == chunk_b {
            let [a, b] =
                self.chunks[chunk_a].get_disjoint_mut([in_a, in_b]).expect("the slots differ and exist");
            (a, b)
        } else {
            let [a, b] =
                self.chunks.get_disjoint_mut([chunk_a, chunk_b]).expect("the chunks differ and exist");
            (&mut a[in_a], &mut b[in_b])
        }
    }

    /// Adds a slot behind all others.
    pub(super) fn push(&mut self, fresh: Slot<I, S>) -> SlotIndex {
        let slot = SlotIndex::try_from(self.len).expect("a partition of 2^32 objects outgrows memory first");
        if self.len == self.chunks.len() * CHUNK_SLOTS {
            self.chunks.push(chunk(fresh.id));
        }
        *self.get_mut(slot) = fresh;
        self.len += 1;
        slot
    }

    /// Different slots at once, in the order asked; `None` for each that is [`NO_SLOT`].
    ///
    /// # Panics
    /// If two are the same.
    pub(super) fn many_mut<const N: usize>(&mut self, slots: [SlotIndex; N]) -> [Option<&mut Slot<I, S>>; N] {
        let mut found = [const { None }; N];
        let mut ascending: [usize; N] = std::array::from_fn(|at| at);
        ascending.sort_unstable_by_key(|&at| slots[at]);
        // What is behind the last slot that was found: of its chunk, and whole chunks.
        let (mut slots_left, mut first_slot) = (&mut [][..], 0);
        let (mut chunks_left, mut first_chunk) = (self.chunks.as_mut_slice(), 0);
        for at in ascending {
            if slots[at] == NO_SLOT {
                break;
            }
            let (chunk, in_chunk) = ((slots[at] >> CHUNK_BITS) as usize, slots[at] as usize % CHUNK_SLOTS);
            if chunk >= first_chunk {
                let from = std::mem::take(&mut chunks_left).split_at_mut(chunk - first_chunk).1;
                let (slots, behind) = from.split_first_mut().expect("a slot's chunk exists");
                (chunks_left, first_chunk) = (behind, chunk + 1);
                (slots_left, first_slot) = (slots.as_mut_slice(), 0);
            }
            let skipped = in_chunk.checked_sub(first_slot).expect("the slots differ");
            let from = std::mem::take(&mut slots_left).split_at_mut(skipped).1;
            let (slot, behind) = from.split_first_mut().expect("a slot exists");
            (slots_left, first_slot) = (behind, in_chunk + 1);
            found[at] = Some(slot);
        }
        found
    }
}

/// Empty slots. Each has an id, but is not live.
fn chunk<I: ObjectId, S>(id: I) -> SlotChunk<I, S> {
    let empty = || {
        let mut slot = Slot::empty(id, Ownership::default());
        slot.let_go();
        slot
    };
    let slots: Box<[Slot<I, S>]> = std::iter::repeat_with(empty).take(CHUNK_SLOTS).collect();
    slots.try_into().ok().expect("so many were made")
}
