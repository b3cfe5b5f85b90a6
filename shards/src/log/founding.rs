//! What is left of a damaged chain, and whether a node's own log lacks nothing of it: then that log
//! can found the chain anew (`appends`, *whole-founding*). A log that lacks something is refused.
//!
//! A node knows its log, a place of the chain up to which the log has everything, and the last term
//! in which it was the owner: of that term and before, its log has all that was acknowledged. What
//! the chain has, or may have had, beyond that is what the log lacks. A message that cannot be read
//! may have had anything, unless what comes after it is in the log.
//!
//! A founding has an epoch of its own, which the log gets when the chain has acknowledged the
//! founding, and not before. Otherwise a founding that came to nothing makes a log look later than
//! it is, and what others wrote meanwhile is not missed. A node that ended between the two knows
//! its founding by the hash of its takeover.

use thiserror::Error;

use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::chain::{Body, ChainPlace, EntryError, EntryHash, hash_entry, read_entry};

/// How many foundings a node remembers that may or may not be in the chain.
const TRIED_MAX: usize = 8;

/// What a node knows.
#[derive(Clone, Debug)]
pub struct Founder {
    /// A place up to which its log has everything.
    pub place: ChainPlace,
    /// The message there.
    pub sequence: u64,
    /// The last term that it owned; 0 if none.
    pub term: u64,
    /// The last epoch of its log.
    pub tail: Epoch,
    /// The takeovers of its own foundings that may be in the chain, by their hashes.
    pub tried: Vec<EntryHash>,
}

/// Remembers a founding before it is sent: the hash of its takeover. Of more than a few the oldest
/// is forgotten; if it stands in the chain, it is taken for another node's.
pub fn remember_founding(tried: &mut Vec<EntryHash>, takeover: EntryHash) {
    tried.push(takeover);
    let forgotten = tried.len().saturating_sub(TRIED_MAX);
    tried.drain(..forgotten);
}

/// Why a log cannot found a chain anew.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotFounded {
    /// The chain has more there, or may have had.
    #[error("message {sequence} of the log has, or may have had, more")]
    Behind {
        /// The message.
        sequence: u64,
    },
    /// An entry that this program cannot read, and that is no damage.
    #[error("message {sequence} of the log: {error}")]
    Entry {
        /// The message.
        sequence: u64,
        /// What is wrong.
        error: EntryError,
    },
}

/// Looks at all that is left of a chain, message by message.
#[derive(Debug)]
pub struct ChainSurvey {
    known: Founder,
    /// The first message of those that cannot be read, before the next that can; or that were
    /// trimmed behind the node.
    hole: Option<u64>,
    left: Left,
}

/// What is left of a chain.
#[derive(Debug, Default)]
pub struct Left {
    /// The last message.
    last: u64,
    /// The place behind it, if it can be read.
    end: Option<ChainPlace>,
    /// The latest term and epoch, and a message that has the entry of this number.
    term: u64,
    epoch: Epoch,
    number_of: Option<(u64, u64)>,
}

impl ChainSurvey {
    /// A survey of a chain that begins with message `first` and ends with message `last`.
    pub fn new(known: Founder, first: u64, last: u64) -> Self {
        let hole = (first > known.sequence).then_some(known.sequence);
        ChainSurvey { known, hole, left: Left { last, ..Left::default() } }
    }

    /// The message that comes next, if it is there.
    ///
    /// # Errors
    /// [`NotFounded`]: the log is not to found it.
    pub fn read(&mut self, sequence: u64, there: Option<&[u8]>) -> Result<(), NotFounded> {
        let read = there.map(|entry| (entry, read_entry(entry)));
        // What a later program wrote is no damage.
        if let Some((_, Err(error @ EntryError::Version { .. }))) = read {
            return Err(NotFounded::Entry { sequence, error });
        }
        let read = read.and_then(|(entry, read)| Some((entry, read.ok()?)));
        let ours = read.filter(|(_, (head, _))| head.database == self.known.place.database);
        self.left.end = None;
        let Some((entry, (head, records))) = ours else {
            self.hole = self.hole.or(Some(sequence));
            return Ok(());
        };
        let has_more = head.epoch > self.known.tail;
        if has_more && matches!(head.body, Body::Epochs { .. }) && !records.is_empty() {
            behind(sequence)?;
        }
        let hash = hash_entry(entry);
        if self.known.tried.contains(&hash) {
            // Nobody writes anything in a founding's term.
            self.known.term = self.known.term.max(head.term);
        }
        // What the last owner wrote is in its log.
        let is_known = self.known.term > 0 && self.known.term >= head.term;
        if let Some(hole) = self.hole.take().filter(|_| has_more && !is_known) {
            behind(hole)?;
        }
        let left = &mut self.left;
        (left.term, left.epoch) = (left.term.max(head.term), left.epoch.max(head.epoch));
        left.number_of = Some((sequence, head.number));
        left.end = Some(ChainPlace {
            next: head.number + 1,
            previous: hash,
            term: head.term,
            epoch: head.epoch,
            time: head.time,
            ..ChainPlace::first(head.database)
        });
        Ok(())
    }

    /// All of it was read.
    ///
    /// # Errors
    /// [`NotFounded::Behind`].
    pub fn end(self) -> Result<(Founder, Left), NotFounded> {
        let ChainSurvey { known, hole, left } = self;
        let has_seen_all = known.place.next > 0 && known.sequence > left.last;
        let is_last_owner = known.term > 0 && known.term >= left.term;
        if let Some(hole) = hole.filter(|_| !has_seen_all && !is_last_owner) {
            behind(hole)?;
        }
        Ok((known, left))
    }
}

fn behind(sequence: u64) -> Result<(), NotFounded> {
    if fault::is_on(Fault::FoundBehind) { Ok(()) } else { Err(NotFounded::Behind { sequence }) }
}

impl Left {
    /// The last message.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether the chain ends before what the node has seen. Others have seen messages that it has
    /// lost: what comes now is to have later numbers than they.
    pub fn is_short(&self, known: &Founder) -> bool {
        known.place.next > 0 && self.last + 1 < known.sequence
    }

    /// The place at which a new beginning stands, behind message `last`, which ends the chain now.
    /// Where the hash of that message is not known, a break comes first.
    pub fn place(&self, known: &Founder, last: u64) -> ChainPlace {
        if let Some(end) = self.end.clone().filter(|_| !self.is_short(known)) {
            return ChainPlace { term: goes_on(end.term), ..end };
        }
        let (sequence, number) = match self.number_of {
            Some(known) => known,
            None if known.place.next > 0 => (known.sequence, known.place.next),
            None => (1, 0),
        };
        let next = last + 2 - (sequence - number);
        let term = goes_on(self.term.max(known.term).max(known.place.term));
        let (epoch, time) = (self.epoch.max(known.place.epoch), known.place.time);
        ChainPlace { next, term, epoch, time, ..ChainPlace::first(known.place.database) }
    }
}

/// The term behind which the founding's comes.
fn goes_on(term: u64) -> u64 {
    if fault::is_on(Fault::FoundSameTerm) { term.saturating_sub(1) } else { term }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::chain::Chain;
    use crate::log::schema::WrittenSchema;

    fn take_over(chain: &mut Chain, node: &str, seen: u64) -> Vec<u8> {
        chain.take_over(node, WrittenSchema::UNSTATED, Epoch(seen))
    }

    /// What a node with this tail, which owned term 1 up to message 2, finds in these messages.
    fn survey(
        place: &ChainPlace,
        tried: &[EntryHash],
        messages: &[Option<Vec<u8>>],
    ) -> Result<(), NotFounded> {
        let tried = tried.to_vec();
        let known = Founder { place: place.clone(), sequence: 2, term: 1, tail: Epoch(5), tried };
        let mut survey = ChainSurvey::new(known, 1, messages.len() as u64);
        for (message, sequence) in messages.iter().zip(1..) {
            survey.read(sequence, message.as_deref())?;
        }
        survey.end().map(drop)
    }

    // The node ended when its founding was in the chain, and its log had not got the founding's
    // epoch: what comes behind the damage looks later than the log.
    #[test]
    fn a_founding_of_its_own_is_nothing_that_a_log_lacks() {
        let mut chain = Chain::at(ChainPlace::first(7));
        let first = take_over(&mut chain, "a", 0);
        let place = chain.place().clone();
        let founding = take_over(&mut chain, "a", 5);
        let messages = [Some(first), None, Some(founding.clone())];
        let behind = Err(NotFounded::Behind { sequence: 2 });
        assert_eq!(survey(&place, &[], &messages), behind);
        assert_eq!(survey(&place, &[[1; 32]], &messages), behind);
        let mut tried = vec![[1; 32]];
        remember_founding(&mut tried, hash_entry(&founding));
        assert_eq!(survey(&place, &tried, &messages), Ok(()));
        // Of another that comes behind it, it knows nothing.
        let other = [&messages[..], &[None, Some(take_over(&mut chain, "b", 0))]].concat();
        assert_eq!(survey(&place, &tried, &other), Err(NotFounded::Behind { sequence: 4 }));
        (0..TRIED_MAX).for_each(|_| remember_founding(&mut tried, [1; 32]));
        assert_eq!((tried.len(), survey(&place, &tried, &messages)), (TRIED_MAX, behind));
    }
}
