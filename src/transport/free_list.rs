//! Which places of a pool are free: a number that was given back last is given out first.
//!
//! So few in use stay few, in the cache and in memory: a place is new only when all before it are
//! in use. Any thread takes and gives back, without a lock; it is R. K. Treiber's stack ("Systems
//! programming: coping with parallelism", 1986), of numbers and not of pointers, with a tag against
//! the reuse of a head in the middle of a change. `models` runs it through every interleaving.
//!
//! Invariant *one-holder*: a number that was taken is not given out again before it was given back.

use super::sync::{AtomicU32, AtomicU64, Ordering};

/// No number.
const NONE: u32 = u32::MAX;

/// The free numbers below a bound.
pub(crate) struct FreeList {
    /// The number on top, and a tag that each change of it counts up.
    head: AtomicU64,
    /// Numbers from here on have never been taken.
    fresh: AtomicU32,
    max: u32,
}

fn pack(tag: u32, top: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(top)
}

fn unpack(head: u64) -> (u32, u32) {
    ((head >> 32) as u32, head as u32)
}

impl FreeList {
    /// All numbers below `max`, which is at most `u32::MAX`.
    pub(crate) fn new(max: u32) -> FreeList {
        FreeList { head: AtomicU64::new(pack(0, NONE)), fresh: AtomicU32::new(0), max }
    }

    /// Takes a number, which nobody else has then. `below` is the word that belongs to a number:
    /// the caller keeps one for each that was ever taken, and leaves it alone.
    #[inline]
    pub(crate) fn take<'a>(&self, below: impl Fn(u32) -> &'a AtomicU32) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let (tag, top) = unpack(head);
            if top == NONE {
                return self.take_fresh();
            }
            // Another may take it meanwhile, and give it back with another below it: then the tag
            // has changed.
            let next = pack(tag.wrapping_add(1), below(top).load(Ordering::Relaxed));
            match self.head.compare_exchange_weak(head, next, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(top),
                Err(now) => head = now,
            }
        }
    }

    #[cold]
    fn take_fresh(&self) -> Option<u32> {
        let mut fresh = self.fresh.load(Ordering::Relaxed);
        while fresh < self.max {
            match self.fresh.compare_exchange_weak(fresh, fresh + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(fresh),
                Err(now) => fresh = now,
            }
        }
        None
    }

    /// Gives back a number that was taken, with the word that belongs to it.
    #[inline]
    pub(crate) fn give_back(&self, number: u32, below: &AtomicU32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let (tag, top) = unpack(head);
            below.store(top, Ordering::Relaxed);
            let next = pack(tag.wrapping_add(1), number);
            // What the holder did with the place comes before it is free, and so does `below`.
            match self.head.compare_exchange_weak(head, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// How many numbers were ever taken: all others are of this number on.
    pub(crate) fn ever_taken(&self) -> u32 {
        self.fresh.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sync::explore;
    use super::*;

    #[test]
    fn the_last_given_back_is_the_first_given_out() {
        explore(|| {
            let below: Vec<AtomicU32> = (0..3).map(|_| AtomicU32::new(0)).collect();
            let list = FreeList::new(3);
            let take = || list.take(|number| &below[number as usize]);
            assert_eq!([take(), take(), take(), take()], [Some(0), Some(1), Some(2), None]);
            list.give_back(1, &below[1]);
            list.give_back(0, &below[0]);
            assert_eq!([take(), take(), take()], [Some(0), Some(1), None]);
            assert_eq!(list.ever_taken(), 3);
        });
    }
}
