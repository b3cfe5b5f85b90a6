//! What an owner has on its way to a replicated log, and what of it counts.
//!
//! The log appends an entry only behind the message that its writer expects to be the last. An
//! entry counts when the log has acknowledged it, and only then the next one is sent
//! (*one-at-a-time*). It has all the epochs that became complete meanwhile. So what leaves in a
//! second is bound by how long entries may be, and a log that takes twice as long for an entry gets
//! longer ones.
//!
//! Several at once were tried, each behind the one before it. The simulator found what is wrong
//! with that (`Fault::SendMany`). A takeover takes the place of a former owner's first entry, which
//! is refused, and then its second finds just the place that it expects.
//!
//! When no acknowledgement comes, or the log refuses an entry, the owner *looks*: it reads what
//! stands behind the last message that it knows of. An entry of its own that is there is not sent
//! again. It counts only when an append behind it was acknowledged, because that proves that the
//! database was this owner's still. Any other entry there means that the database is somebody
//! else's, and nothing counts any more.
//!
//! The log may be trimmed below a checkpoint when the entry that names the checkpoint counts, and
//! not before (*named-before-trimmed*): the next owner's readers have nothing else to begin with.

use std::collections::VecDeque;

use thiserror::Error;

use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::chain::{Body, Chain, NamedCheckpoint, read_entry};
use crate::log::schema::WrittenSchema;
use crate::time::Time;

/// An entry that is to stand in the log.
#[derive(Clone, Debug)]
struct Sent {
    entry: Vec<u8>,
    /// What counts when it is there, and all before it.
    epoch: Option<Epoch>,
}

/// What came of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log, for ever.
    Done,
    /// It is not: another entry stood where it was to stand.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// Why an owner is none any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotOurs {
    /// Another node took over.
    #[error("{owner} took the database over in term {term}")]
    Fenced {
        /// Which.
        owner: String,
        /// In which term.
        term: u64,
    },
    /// Something that is no entry was appended.
    #[error("message {sequence} of the log is no entry of a database")]
    Foreign {
        /// The number of the message.
        sequence: u64,
    },
    /// The log has less than it has acknowledged.
    #[error("the log ends with message {last}, and has acknowledged message {seen}")]
    Lost {
        /// Its last message.
        last: u64,
        /// The last that it acknowledged.
        seen: u64,
    },
}

/// What an owner has on its way.
#[derive(Debug)]
pub struct Appends {
    chain: Chain,
    /// The last message of the log that is known to be this owner's, or that it took over behind.
    last: u64,
    /// What stands behind it, or is to, the oldest first.
    entries: VecDeque<Sent>,
    /// How many of the first of them are on their way.
    sent: usize,
    /// What was sent was not acknowledged: the log is to be looked at.
    must_look: bool,
    /// The message that the log ended with when it was looked at.
    until: u64,
    /// What is in the log, and counts when an append behind it was acknowledged.
    found: Option<Epoch>,
    /// The message that names a checkpoint and does not count yet, and the message below which
    /// nothing is needed when it does.
    naming: Option<(u64, u64)>,
}

impl Appends {
    /// Nothing yet; the chain goes on behind message `last` of the log.
    pub fn new(chain: Chain, last: u64) -> Self {
        let entries = VecDeque::new();
        Appends { chain, last, entries, sent: 0, must_look: false, until: 0, found: None, naming: None }
    }

    /// The chain, with all that is on its way.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The last message of the log that is known to be this owner's.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// How many entries are on their way, or are to be sent.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is on its way, and all that is there counts.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.found.is_none()
    }

    /// How many bytes are on their way, or are to be sent.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|sent| sent.entry.len()).sum()
    }

    /// How many bytes the oldest entry has that is on its way, or is to be sent.
    pub fn bytes_of_first(&self) -> usize {
        self.entries.front().map_or(0, |sent| sent.entry.len())
    }

    fn put(&mut self, entry: Vec<u8>, epoch: Option<Epoch>) {
        self.entries.push_back(Sent { entry, epoch });
    }

    /// Appends a batch, in entries of at most `entry_bytes_max` bytes. Its epoch counts when it is
    /// there.
    ///
    /// # Panics
    /// As [`Chain::append`].
    pub fn append(&mut self, epoch: Epoch, time: Time, records: &[Box<[u8]>], entry_bytes_max: usize) {
        let entries = self.chain.append(epoch, time, records, entry_bytes_max);
        let last = entries.len() - 1;
        for (part, entry) in entries.into_iter().enumerate() {
            self.put(entry, (part == last).then_some(epoch));
        }
    }

    /// Appends a takeover: see [`Chain::take_over`].
    pub fn take_over(&mut self, node: &str, schema: WrittenSchema, seen: Epoch) {
        let entry = self.chain.take_over(node, schema, seen);
        self.put(entry, None);
    }

    /// Appends an entry that lets go of a batch without an end, and says nothing else.
    pub fn still(&mut self) {
        let entry = self.chain.still();
        self.put(entry, None);
    }

    /// Appends the entry by which the owner gives the database up.
    pub fn resign(&mut self) {
        let entry = self.chain.resign();
        self.put(entry, None);
    }

    /// Appends the entry that names a checkpoint. When it counts, [`Appends::trims_below`] says so.
    ///
    /// # Panics
    /// If the checkpoint is of what the chain does not have yet (*named-before-trimmed*).
    pub fn name_checkpoint(&mut self, named: NamedCheckpoint) {
        let place = self.chain.place();
        let (next, of) = (place.next, named.place.next);
        assert!(of <= next, "named-before-trimmed: entry {of} is to be the first, and {next} comes next");
        let (epoch, since) = (place.epoch, next - of);
        let entry = self.chain.name_checkpoint(named);
        // It counts as a batch does: what is only found in the log may be another owner's past.
        self.put(entry, Some(epoch));
        let message = self.last + self.entries.len() as u64;
        // The message before the place stays: a node that was there compares it with what it knows.
        self.naming = Some((message, (message - since).saturating_sub(1)));
    }

    /// The message below which the log may be trimmed, once: when the last checkpoint that was
    /// named counts.
    pub fn trims_below(&mut self) -> Option<u64> {
        let (message, below) = self.naming?;
        let counts = self.last >= message && self.found.is_none();
        if counts || fault::is_on(Fault::TrimUnnamed) {
            self.naming = None;
            return Some(below);
        }
        None
    }

    /// The next entry to be sent, and the message that it is to stand behind. It counts as sent.
    /// `None` as long as one is on its way, or the log is to be looked at.
    pub fn next_to_send(&mut self) -> Option<(&[u8], u64)> {
        if self.must_look || self.sent > 0 && !fault::is_on(Fault::SendMany) {
            return None;
        }
        let behind = self.last + self.sent as u64;
        let next = self.entries.get(self.sent)?;
        self.sent += 1;
        Some((&next.entry, behind))
    }

    /// Takes note of what came of the oldest entry that was sent. Returns the epoch that counts
    /// now, if that is more than before. When it does not count, nothing that was sent does before
    /// the log was looked at.
    pub fn came(&mut self, appended: Appended) -> Option<Epoch> {
        if appended != Appended::Done {
            self.must_look = true;
            self.sent = 0;
            return None;
        }
        let sent = self.entries.pop_front()?;
        self.sent -= 1;
        self.last += 1;
        self.found.take().max(sent.epoch)
    }

    /// Whether the log is to be looked at.
    pub fn must_look(&self) -> bool {
        self.must_look
    }

    /// A look begins: the log ends with message `last`. It goes on with [`Appends::unread`].
    ///
    /// # Errors
    /// [`NotOurs::Lost`]; it may be looked at again.
    pub fn look(&mut self, last: u64) -> Result<(), NotOurs> {
        if last < self.last {
            return Err(NotOurs::Lost { last, seen: self.last });
        }
        self.until = last;
        self.look_on();
        Ok(())
    }

    /// The message that the look is to read next; `None` when it is over.
    pub fn unread(&self) -> Option<u64> {
        (self.must_look && self.last < self.until).then_some(self.last + 1)
    }

    /// The message that was to be read.
    ///
    /// # Errors
    /// The database is not this owner's any more: nothing more counts.
    pub fn read(&mut self, there: &[u8]) -> Result<(), NotOurs> {
        let sequence = self.last + 1;
        if self.entries.front().is_none_or(|sent| sent.entry != there) {
            return Err(NotOurs::of(sequence, there));
        }
        let ours = self.entries.pop_front().expect("it was just looked at");
        self.found = self.found.max(ours.epoch);
        self.last = sequence;
        self.look_on();
        Ok(())
    }

    /// Ends the look if everything is read: the rest is sent again.
    fn look_on(&mut self) {
        if self.last < self.until {
            return;
        }
        self.must_look = false;
        if self.entries.is_empty() && self.found.is_some() {
            self.still();
        }
    }
}

impl NotOurs {
    /// What it means that this stands where an entry of an owner's was to stand.
    pub fn of(sequence: u64, there: &[u8]) -> NotOurs {
        match read_entry(there) {
            Ok((head, _)) => {
                let owner = match head.body {
                    Body::Takeover { node, .. } => node,
                    _ => "another node".to_string(),
                };
                NotOurs::Fenced { owner, term: head.term }
            }
            Err(_) => NotOurs::Foreign { sequence },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::chain::{ChainPlace, ENTRY_BYTES_MIN, names_checkpoint};

    /// An owner in term 1, whose takeover is message 1.
    fn owner() -> (Appends, Vec<Vec<u8>>) {
        let mut owner = Appends::new(Chain::at(ChainPlace::first(7)), 0);
        owner.take_over("a", WrittenSchema::UNSTATED, Epoch(0));
        let (takeover, behind) = owner.next_to_send().expect("it is to be sent");
        let log = vec![takeover.to_vec()];
        assert_eq!((behind, owner.came(Appended::Done), owner.last()), (0, None, 1));
        (owner, log)
    }

    fn append(owner: &mut Appends, epoch: u64) {
        owner.append(Epoch(epoch), Time(0), &[], ENTRY_BYTES_MIN);
    }

    fn send(owner: &mut Appends) -> Vec<(Vec<u8>, u64)> {
        std::iter::from_fn(|| owner.next_to_send().map(|(entry, behind)| (entry.to_vec(), behind))).collect()
    }

    #[test]
    fn a_log_is_trimmed_when_the_entry_that_names_a_checkpoint_counts() {
        let (mut owner, _) = owner();
        (1..3).for_each(|epoch| append(&mut owner, epoch));
        for _ in 0..2 {
            send(&mut owner);
            owner.came(Appended::Done);
        }
        let place = owner.chain().place().clone();
        append(&mut owner, 3);
        let (object, hash) = ("one".to_string(), [1; 32]);
        owner.name_checkpoint(NamedCheckpoint { object, epoch: Epoch(2), bytes: 1, hash, place });
        assert_eq!(owner.trims_below(), None, "the batch is on its way, and the name is not");
        send(&mut owner);
        owner.came(Appended::Done);
        let name = send(&mut owner).pop().expect("it is to be sent").0;
        assert!(names_checkpoint(&name));
        assert_eq!((owner.came(Appended::Unknown), owner.trims_below()), (None, None));
        owner.look(5).expect("it is there");
        owner.read(&name).expect("it is its own");
        assert_eq!(owner.trims_below(), None, "it is found, and does not count yet");
        send(&mut owner);
        assert_eq!(owner.came(Appended::Done), Some(Epoch(3)));
        // The next message at the place is 4, and the one before it stays.
        assert_eq!((owner.trims_below(), owner.trims_below()), (Some(3), None));
    }

    #[test]
    fn one_is_on_its_way_and_they_count_in_order() {
        let (mut owner, _) = owner();
        (1..4).for_each(|epoch| append(&mut owner, epoch));
        for epoch in 1..4 {
            assert_eq!(send(&mut owner).iter().map(|(_, behind)| *behind).collect::<Vec<_>>(), [epoch]);
            assert_eq!(owner.came(Appended::Done), Some(Epoch(epoch)));
        }
        assert!(owner.is_empty());
    }

    // The acknowledgement was lost. The entry is there, and nobody may say so before an append
    // behind it: another may have taken over since it was read.
    #[test]
    fn what_is_found_counts_when_an_append_behind_it_does() {
        let (mut owner, _) = owner();
        (1..3).for_each(|epoch| append(&mut owner, epoch));
        let first = send(&mut owner).pop().expect("it is to be sent").0;
        assert_eq!(owner.came(Appended::Unknown), None);
        assert!(owner.must_look() && owner.next_to_send().is_none());
        owner.look(2).expect("there is one more");
        assert_eq!(owner.unread(), Some(2));
        owner.read(&first).expect("it is its own");
        assert!(!owner.must_look());
        assert_eq!(send(&mut owner)[0].1, 2);
        assert_eq!(owner.came(Appended::Done), Some(Epoch(2)), "both count");
        // With nothing to be sent, it asks.
        append(&mut owner, 4);
        let fourth = send(&mut owner).pop().expect("it is to be sent").0;
        owner.came(Appended::Unknown);
        owner.look(4).expect("it is there");
        owner.read(&fourth).expect("it is its own");
        assert!(!owner.is_empty());
        assert_eq!(send(&mut owner)[0].1, 4);
        assert_eq!(owner.came(Appended::Done), Some(Epoch(4)));
        assert!(owner.is_empty());
    }

    #[test]
    fn what_did_not_arrive_is_sent_again_and_what_another_appended_ends_it() {
        let (mut owner, _) = owner();
        let mut other = Appends::new(owner.chain().clone(), 1);
        (1..3).for_each(|epoch| append(&mut owner, epoch));
        let first = send(&mut owner);
        owner.came(Appended::Refused);
        owner.look(1).expect("there is nothing");
        assert_eq!(send(&mut owner), first);
        owner.came(Appended::Unknown);
        assert_eq!(owner.look(0), Err(NotOurs::Lost { last: 0, seen: 1 }));
        other.take_over("b", WrittenSchema::UNSTATED, Epoch(0));
        let (takeover, _) = other.next_to_send().expect("it is to be sent");
        owner.look(2).expect("there is one");
        let fenced = NotOurs::Fenced { owner: "b".into(), term: 2 };
        assert_eq!(owner.read(takeover), Err(fenced));
        assert_eq!(owner.read(b"junk"), Err(NotOurs::Foreign { sequence: 2 }));
    }
}
