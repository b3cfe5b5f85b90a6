//! Which payments of one account were decided, so that one that comes again changes nothing.
//!
//! The payments that an account is to make are numbered from 0, in the order of the input. They are
//! decided nearly in that order, so it is enough to keep below which number all are, and a bit for
//! each from there on: as the receiver of a network's packets tells those it had before (RFC 6479).
//! It stays as short as payments overtake each other, however many there are.

use serde::{Deserialize, Serialize};

const WORD: u64 = u64::BITS as u64;

/// The numbers of the payments that were decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// All below are decided. A multiple of 64.
    below: u64,
    /// Those from there on: the first 64, of which one is missing at least,
    first: u64,
    /// and those behind.
    more: Vec<u64>,
}

impl Decided {
    /// Payment `nth` is decided now. Says whether it was not before.
    pub fn insert(&mut self, nth: u64) -> bool {
        let Some(place) = nth.checked_sub(self.below) else { return false };
        let (word, bit) = ((place / WORD) as usize, 1 << (place % WORD));
        let word = match word {
            0 => &mut self.first,
            _ => {
                self.more.resize(self.more.len().max(word), 0);
                &mut self.more[word - 1]
            }
        };
        let is_new = *word & bit == 0;
        *word |= bit;
        while self.first == u64::MAX {
            self.first = if self.more.is_empty() { 0 } else { self.more.remove(0) };
            self.below += WORD;
        }
        is_new
    }
}
