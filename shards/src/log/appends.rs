//! What an owner has on its way to a replicated log, and what of it counts.
//!
//! The log appends an entry only behind the message that its writer expects to be the last. Up to
//! [`FLIGHT_MAX`] entries are on their way at once, each behind the one before it. An entry counts
//! when the log has acknowledged it and all before it. So what leaves in a second is bound by what
//! the log takes in a second, and not by how long it takes for an entry.
//!
//! A takeover takes the place of a former owner's first entry, which is refused. The former owner's
//! second would then find just the place that it expects. So a takeover takes room for all that a
//! former owner may have on its way: it is appended with [`FLIGHT_MAX`] - 1 entries that say
//! nothing, all of them or none (*wide-takeover*). An owner that goes on in its own term after a
//! crash makes the same room first, because its entries are cut otherwise now than those that may
//! still come. An owner's entries have their places for ever, so what it sends twice is the same at
//! each place.
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
use crate::log::chain::{Body, Chain, ChainPlace, NamedCheckpoint, read_entry};
use crate::log::schema::WrittenSchema;
use crate::time::Time;

/// How many entries an owner has on its way, at most. It belongs to the format of a chain
/// (`CHAIN_VERSION`): an owner that sends more is safe only from takeovers that take more room.
pub const FLIGHT_MAX: usize = 8;
/// What stands where nobody can go on.
const BREAK: &[u8] = b"a break";
/// How many bytes of entries an owner has on its way, at most; one entry may always be.
pub const FLIGHT_BYTES_MAX: usize = 16 << 20;

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
    /// So many of the first of them are to be appended together, all or none, and by themselves.
    together: usize,
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
        let (entries, sent, together) = (VecDeque::new(), 0, 0);
        Appends {
            chain,
            last,
            entries,
            sent,
            together,
            must_look: false,
            until: 0,
            found: None,
            naming: None,
        }
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

    /// How many bytes the oldest has that is on its way, or is to be sent: an entry, or several
    /// that go together.
    pub fn bytes_of_first(&self) -> usize {
        self.entries.iter().take(self.together.max(1)).map(|sent| sent.entry.len()).sum()
    }

    /// Whether more can be sent at once: all that was put down is on its way, and that is not as
    /// much as there may be.
    pub fn has_room(&self) -> bool {
        let is_all_sent = self.sent == self.entries.len() && self.together == 0;
        is_all_sent && !self.must_look && self.sent < FLIGHT_MAX && self.bytes() < FLIGHT_BYTES_MAX
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

    /// Appends a takeover: see [`Chain::take_over`]. It takes room for all that a former owner may
    /// have on its way.
    ///
    /// # Panics
    /// If something else is to be sent before it (*wide-takeover*).
    pub fn take_over(&mut self, node: &str, schema: WrittenSchema, seen: Epoch) {
        assert!(self.entries.is_empty(), "wide-takeover: all before it is in the log");
        let entry = self.chain.take_over(node, schema, seen);
        self.put(entry, None);
        self.take_room(Fault::NarrowTakeover);
    }

    /// Goes on in the term that the owner has had, after a crash: takes room for all that it had on
    /// its way then. It lets go of a batch without an end.
    ///
    /// # Panics
    /// If something else is to be sent before it (*wide-takeover*).
    pub fn resume(&mut self) {
        assert!(self.entries.is_empty(), "wide-takeover: all before it is in the log");
        self.still();
        self.take_room(Fault::NarrowResume);
    }

    /// Takes a database over behind a checkpoint of all of it, because what is before cannot be
    /// read from its begin. The checkpoint's place is the one behind the takeover
    /// ([`Appends::founded`]). All of it is appended together, so that no reader finds the one
    /// without the other (*whole-founding*). If the hash of the message before is not known, a
    /// message that is none stands in its place: a node that has seen that message does not go on
    /// behind it.
    ///
    /// # Panics
    /// If something else is to be sent before it (*wide-takeover*), or the checkpoint is of another
    /// place (*whole-founding*).
    pub fn found(&mut self, node: &str, schema: WrittenSchema, seen: Epoch, named: NamedCheckpoint) {
        assert!(self.entries.is_empty(), "wide-takeover: all before it is in the log");
        if self.chain.place().previous == [0; 32] {
            self.put(BREAK.to_vec(), None);
        }
        let entry = self.chain.take_over(node, schema, seen);
        self.put(entry, None);
        let place = self.chain.place();
        assert!(*place == named.place && place.epoch == named.epoch, "whole-founding: nothing is missing");
        self.name_checkpoint(named);
        self.take_room(Fault::NarrowTakeover);
    }

    /// The place behind the takeover of [`Appends::found`].
    pub fn founded(&self, node: &str, schema: WrittenSchema, seen: Epoch) -> ChainPlace {
        let mut chain = self.chain.clone();
        chain.take_over(node, schema, seen);
        chain.place().clone()
    }

    fn take_room(&mut self, narrow: Fault) {
        if !fault::is_on(narrow) {
            (1..FLIGHT_MAX).for_each(|_| self.still());
        }
        self.together = self.entries.len();
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

    /// The next entries to be sent, and the message that they are to stand behind: one, or several
    /// that are to be appended together, all or none. They count as sent. `None` as long as so many
    /// are on their way as may be, or the log is to be looked at.
    pub fn next_to_send(&mut self) -> Option<(Vec<&[u8]>, u64)> {
        let count = self.together.max(1);
        let is_alone = self.together == 0 || self.sent == 0;
        if self.must_look || !is_alone || self.sent >= FLIGHT_MAX || self.sent == self.entries.len() {
            return None;
        }
        let (sent, behind) = (self.sent, self.last + self.sent as u64);
        let bytes: usize = self.entries.range(..sent + count).map(|sent| sent.entry.len()).sum();
        if sent > 0 && bytes > FLIGHT_BYTES_MAX {
            return None;
        }
        self.sent += count;
        Some((self.entries.range(sent..sent + count).map(|sent| &*sent.entry).collect(), behind))
    }

    /// Takes note of what came of the oldest that was sent. Returns the epoch that counts now, if
    /// that is more than before. When it does not count, nothing that was sent does before the log
    /// was looked at.
    pub fn came(&mut self, appended: Appended) -> Option<Epoch> {
        if appended != Appended::Done {
            self.must_look = true;
            self.sent = 0;
            return None;
        }
        let count = std::mem::take(&mut self.together).max(1);
        let epoch = self.entries.drain(..count).fold(None, |epoch, sent| sent.epoch.max(epoch));
        self.sent -= count;
        self.last += count as u64;
        self.found.take().max(epoch)
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
        self.together = self.together.saturating_sub(1);
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
    use crate::log::chain::{ENTRY_BYTES_MIN, Followed, hash_entry, names_checkpoint};

    /// The last message of a takeover that is the first.
    const TAKEN: u64 = FLIGHT_MAX as u64;

    /// Entries that were sent, and the message that they are to stand behind.
    type Group = (Vec<Vec<u8>>, u64);

    /// An owner in term 1, whose takeover is the first messages.
    fn owner() -> Appends {
        let mut owner = Appends::new(Chain::at(ChainPlace::first(7)), 0);
        owner.take_over("a", WrittenSchema::UNSTATED, Epoch(0));
        let sent = send(&mut owner);
        assert_eq!((sent.len(), sent[0].0.len(), sent[0].1), (1, FLIGHT_MAX, 0));
        assert_eq!((owner.came(Appended::Done), owner.last()), (None, TAKEN));
        owner
    }

    fn append(owner: &mut Appends, epoch: u64) {
        owner.append(Epoch(epoch), Time(0), &[], ENTRY_BYTES_MIN);
    }

    fn send(owner: &mut Appends) -> Vec<Group> {
        std::iter::from_fn(|| {
            let (entries, behind) = owner.next_to_send()?;
            Some((entries.iter().map(|entry| entry.to_vec()).collect(), behind))
        })
        .collect()
    }

    /// The messages that entries are to stand behind.
    fn places(sent: &[Group]) -> Vec<u64> {
        sent.iter().map(|(_, behind)| behind - TAKEN).collect()
    }

    #[test]
    fn a_log_is_trimmed_when_the_entry_that_names_a_checkpoint_counts() {
        let mut owner = owner();
        (1..3).for_each(|epoch| append(&mut owner, epoch));
        assert_eq!(send(&mut owner).len(), 2);
        let came: Vec<_> = (1..3).map(|_| owner.came(Appended::Done)).collect();
        assert_eq!(came, [Some(Epoch(1)), Some(Epoch(2))]);
        let place = owner.chain().place().clone();
        append(&mut owner, 3);
        let (object, hash) = ("one".to_string(), [1; 32]);
        owner.name_checkpoint(NamedCheckpoint { object, epoch: Epoch(2), bytes: 1, hash, place });
        let name = send(&mut owner).pop().expect("it is to be sent").0.pop().expect("it is one");
        assert!(names_checkpoint(&name));
        assert_eq!(owner.came(Appended::Done), Some(Epoch(3)));
        assert_eq!(owner.trims_below(), None, "the batch counts, and the name does not");
        assert_eq!((owner.came(Appended::Unknown), owner.trims_below()), (None, None));
        owner.look(TAKEN + 4).expect("it is there");
        owner.read(&name).expect("it is its own");
        assert_eq!(owner.trims_below(), None, "it is found, and does not count yet");
        send(&mut owner);
        assert_eq!(owner.came(Appended::Done), Some(Epoch(3)));
        // The next message at the place is the third, and the one before it stays.
        assert_eq!((owner.trims_below(), owner.trims_below()), (Some(TAKEN + 2), None));
    }

    #[test]
    fn so_many_are_on_their_way_and_they_count_in_order() {
        let mut owner = owner();
        let many = 2 * TAKEN;
        (1..=many).for_each(|epoch| append(&mut owner, epoch));
        let sent = send(&mut owner);
        assert_eq!(places(&sent), (0..TAKEN).collect::<Vec<_>>());
        assert!(!owner.has_room(), "something waits");
        for epoch in 1..=many {
            assert_eq!(owner.came(Appended::Done), Some(Epoch(epoch)));
            let next = epoch + TAKEN - 1;
            let next = if next < many { vec![next] } else { Vec::new() };
            assert_eq!(places(&send(&mut owner)), next);
        }
        assert!(owner.is_empty() && owner.has_room());
        append(&mut owner, many + 1);
        assert!(!owner.has_room(), "it is not sent");
        send(&mut owner);
        assert!(owner.has_room());
    }

    #[test]
    fn so_many_bytes_are_on_their_way() {
        let mut owner = owner();
        let record: Box<[u8]> = vec![0; FLIGHT_BYTES_MAX * 2 / 5].into();
        for epoch in 1..5 {
            owner.append(Epoch(epoch), Time(0), std::slice::from_ref(&record), 2 * record.len());
        }
        assert_eq!(send(&mut owner).len(), 2);
        owner.came(Appended::Done);
        assert_eq!(send(&mut owner).len(), 1);
    }

    // The acknowledgement was lost. The entry is there, and nobody may say so before an append
    // behind it: another may have taken over since it was read.
    #[test]
    fn what_is_found_counts_when_an_append_behind_it_does() {
        let mut owner = owner();
        (1..4).for_each(|epoch| append(&mut owner, epoch));
        let sent = send(&mut owner);
        assert_eq!(owner.came(Appended::Unknown), None);
        assert!(owner.must_look() && owner.next_to_send().is_none());
        owner.look(TAKEN + 2).expect("there are two more");
        assert_eq!(owner.unread(), Some(TAKEN + 1));
        owner.read(&sent[0].0[0]).expect("it is its own");
        assert!(owner.must_look());
        owner.read(&sent[1].0[0]).expect("it is its own");
        assert!(!owner.must_look());
        assert_eq!(send(&mut owner), sent[2..], "the same, at the same place");
        assert_eq!(owner.came(Appended::Done), Some(Epoch(3)), "all of them count");
        // With nothing to be sent, it asks.
        append(&mut owner, 4);
        let fourth = send(&mut owner).pop().expect("it is to be sent").0;
        owner.came(Appended::Unknown);
        owner.look(TAKEN + 4).expect("it is there");
        owner.read(&fourth[0]).expect("it is its own");
        assert!(!owner.is_empty());
        assert_eq!(places(&send(&mut owner)), [4]);
        assert_eq!(owner.came(Appended::Done), Some(Epoch(4)));
        assert!(owner.is_empty());
    }

    #[test]
    fn what_did_not_arrive_is_sent_again_and_what_another_appended_ends_it() {
        let mut owner = owner();
        let mut other = Appends::new(owner.chain().clone(), TAKEN);
        (1..3).for_each(|epoch| append(&mut owner, epoch));
        let both = send(&mut owner);
        owner.came(Appended::Refused);
        owner.look(TAKEN).expect("there is nothing");
        assert_eq!(send(&mut owner), both);
        owner.came(Appended::Unknown);
        let lost = NotOurs::Lost { last: TAKEN - 1, seen: TAKEN };
        assert_eq!(owner.look(TAKEN - 1), Err(lost));
        other.take_over("b", WrittenSchema::UNSTATED, Epoch(0));
        let takeover = send(&mut other).remove(0).0;
        let last = TAKEN + takeover.len() as u64;
        assert!(both.iter().all(|(_, behind)| *behind < last), "wide-takeover: none of them fits");
        owner.look(last).expect("there are some");
        let fenced = NotOurs::Fenced { owner: "b".into(), term: 2 };
        assert_eq!(owner.read(&takeover[0]), Err(fenced));
        assert_eq!(owner.read(b"junk"), Err(NotOurs::Foreign { sequence: TAKEN + 1 }));
    }

    // Somebody who was there before the damage follows if what it saw last is known, and otherwise
    // finds a break. Whoever has the checkpoint goes on behind the takeover.
    #[test]
    fn a_founding_is_whole_and_goes_on_only_where_the_last_entry_is_known() {
        let before = owner().chain().clone();
        for is_known in [true, false] {
            let mut place = before.place().clone();
            if !is_known {
                (place.next, place.previous) = (place.next + 1, [0; 32]);
            }
            let mut owner = Appends::new(Chain::at(place), TAKEN);
            let place = owner.founded("b", WrittenSchema::UNSTATED, Epoch(9));
            let (object, hash) = ("one".to_string(), [1; 32]);
            let named = NamedCheckpoint { object, epoch: place.epoch, bytes: 1, hash, place: place.clone() };
            owner.found("b", WrittenSchema::UNSTATED, Epoch(9), named.clone());
            let sent = send(&mut owner).remove(0).0;
            assert_eq!(sent.len(), FLIGHT_MAX + 1 + usize::from(!is_known), "wide-takeover");
            assert_eq!(before.clone().follow(&sent[0]).is_ok(), is_known);
            let takeover = &sent[usize::from(!is_known)];
            assert_eq!(hash_entry(takeover), place.previous);
            let mut reader = Chain::at(place);
            for (at, entry) in sent[1 + usize::from(!is_known)..].iter().enumerate() {
                let named =
                    if at == 0 { Followed::Checkpoint(named.clone().into()) } else { Followed::Still };
                assert_eq!(reader.follow(entry), Ok(named));
            }
            assert_eq!(owner.trims_below(), None);
            owner.came(Appended::Done);
            let message = TAKEN + 1 + u64::from(!is_known);
            assert_eq!(owner.trims_below(), Some(message), "the takeover stays");
        }
    }

    // A takeover is appended as a whole, and before anything else.
    #[test]
    fn a_takeover_goes_alone() {
        let mut owner = Appends::new(Chain::at(ChainPlace::first(7)), 0);
        owner.take_over("a", WrittenSchema::UNSTATED, Epoch(0));
        append(&mut owner, 1);
        let first = send(&mut owner);
        assert_eq!(first.len(), 1);
        owner.came(Appended::Unknown);
        owner.look(0).expect("there is nothing");
        assert_eq!(send(&mut owner), first);
        assert_eq!((owner.came(Appended::Done), owner.last()), (None, TAKEN));
        assert_eq!(places(&send(&mut owner)), [0]);
        // Behind a crash it takes the same room in its own term.
        let mut again = Appends::new(owner.chain().clone(), TAKEN + 1);
        again.resume();
        append(&mut again, 2);
        assert_eq!(send(&mut again)[0].0.len(), FLIGHT_MAX);
    }
}
