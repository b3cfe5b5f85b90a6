//! A database as a chain of entries, as it reads in a replicated log: the format, and the rules by
//! which a reader takes entries over.
//!
//! ```text
//!  0 magic "FHCE"      4 format version u32      8 length of all u32     12 crc32c of all but these four
//! 16 head: `Head`, by postcard
//!    records, or a piece of them: each its length as u32, then so many bytes
//! ```
//! All numbers are little-endian. An entry says which database it is of, its *number* (0, 1, 2 ..
//! without a gap) and the SHA-256 of the entry before it. So a reader finds damage, a
//! gap, an entry that was written twice, and a fork: two histories that went on from one entry.
//! Each is a [`ChainError`] that names the entry.
//!
//! *Ownership is the log.* A [`Body::Takeover`] begins a *term*, and what comes after it is of that
//! term until the next one. The log appends an entry only where its writer expects to append it,
//! and a takeover takes the places of all that a former owner has on its way (`appends` says how).
//! So a former owner's entries are refused from the takeover on.
//!
//! An entry of [`Body::Epochs`] has what the database committed up to an epoch, since the one
//! before. A batch that is longer than a message may be comes in *parts*, one entry each, cut
//! anywhere. It counts when its last part is there. A takeover lets go of parts without a last one,
//! because nobody was told of them, and so does a [`Body::Still`].
//!
//! A batch may have any length (*any-epoch-leaves*). The story: a reader took at most 1 GiB, its
//! writer asserted that, and nothing kept an epoch below it. An owner whose servers were away ended
//! no epoch for some seconds, died of that epoch, and died again whenever it was opened. An epoch
//! is one message at least, and a message may write more than any such bound. What it writes was in
//! the owner's memory, so it is in a reader's, once. What is bounded is a record.
//!
//! A [`Body::Checkpoint`] names a copy of the whole database that is kept elsewhere, and the place
//! in the chain from which a reader of the copy goes on. When that entry is in the log for ever,
//! the log may be trimmed below that place.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::batch::split_record;
use crate::log::bounds::{Bounds, LENGTH};
use crate::log::gathering::Gathered;
use crate::log::record::Record;
use crate::log::schema::WrittenSchema;
use crate::time::Time;

/// The version of the format that this code writes. It reads all up to this one.
///
/// Version 1 had one entry on its way at a time, and takeovers of one entry. A program of then does
/// not read what this one writes, so it takes nothing over from an owner with more on its way.
pub const CHAIN_VERSION: u32 = 2;
/// How many bytes an entry has before its head.
const FRAME: usize = 16;
const MAGIC: [u8; 4] = *b"FHCE";
/// How long a record of a batch may be: as long as in any log. The writer and the reader of a chain
/// keep to it.
pub const CHAINED_RECORD_MAX: usize = Bounds::of_segments(usize::MAX).record();
/// How long the head of an entry of records is at most.
const HEAD_MAX: usize = 96;
/// How many bytes an entry of `length` at most leaves to records.
const fn room(length: usize) -> usize {
    length - FRAME - HEAD_MAX
}
/// The shortest an entry may be bound to.
pub const ENTRY_BYTES_MIN: usize = 4096;
/// How far the epochs of a new term begin behind those before, so that no epoch of a former owner,
/// of which nothing is in the chain, is as late. It would take that owner more than a day to end so
/// many epochs without one of them leaving.
pub const EPOCHS_APART: u64 = 1 << 32;

/// SHA-256 of an entry.
pub type EntryHash = [u8; 32];

/// What an entry says beside its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of the database, drawn when its chain began.
    pub database: u64,
    /// How often the database was taken over, its first time included.
    pub term: u64,
    /// Which entry of the chain it is, from 0.
    pub number: u64,
    /// The hash of the entry before it; zeros for the first.
    pub previous: EntryHash,
    /// The last epoch that is complete with it.
    pub epoch: Epoch,
    /// The database's time then.
    pub time: Time,
    /// What it is.
    pub body: Body,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The database belongs to this node from now on.
    Takeover {
        /// Its name.
        node: String,
        /// Of which types the records of its term are.
        schema: Box<WrittenSchema>,
    },
    /// What the database committed up to the entry's epoch, or a part of that.
    Epochs {
        /// Which part, from 0.
        part: u32,
        /// How many there are.
        parts: u32,
    },
    /// The owner has stopped, and any node may take over.
    Resigned,
    /// Nothing: the owner wants to know whether it still is the owner.
    Still,
    /// A checkpoint is kept elsewhere, whole.
    Checkpoint(Box<NamedCheckpoint>),
}

/// A checkpoint of the database, as its chain names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedCheckpoint {
    /// What it is called where it is kept.
    pub object: String,
    /// Everything up to this epoch is in it, and nothing later.
    pub epoch: Epoch,
    /// How long it is.
    pub bytes: u64,
    /// The SHA-256 of its bytes.
    pub hash: EntryHash,
    /// Where a reader that has it goes on. What follows there may be in the checkpoint already, up
    /// to `epoch`: of one object the last record counts, so it does no harm twice.
    pub place: ChainPlace,
}

/// What is wrong with the bytes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EntryError {
    /// It does not begin as an entry does.
    #[error("no entry begins here")]
    NotAnEntry,
    /// It was written by another version of this program.
    #[error("format version {found}, and this program reads up to version {CHAIN_VERSION}: update it")]
    Version {
        /// Which.
        found: u32,
    },
    /// It has another length than it says.
    #[error("it has {bytes} bytes and says that it has {said}")]
    Length {
        /// How long it is.
        bytes: usize,
        /// How long it says it is.
        said: usize,
    },
    /// Its crc is not that of its bytes.
    #[error("the checksum does not match: it was changed since it was written")]
    Checksum,
    /// The crc vouches for a head that cannot be read.
    #[error("its head cannot be read")]
    Head,
}

/// Why an entry does not continue a chain. Nothing of it was taken over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// It cannot be read.
    #[error("entry {number} is damaged: {error}")]
    Damaged {
        /// Which entry it should be.
        number: u64,
        /// What is wrong.
        error: EntryError,
    },
    /// It is of another database.
    #[error("entry {number} is of database {found:#x}, and the chain is of {expected:#x}")]
    OtherDatabase {
        /// Which entry it should be.
        number: u64,
        /// The database it is of.
        found: u64,
        /// The database of the chain.
        expected: u64,
    },
    /// Entries are missing before it.
    #[error("entries {expected} to {} are missing", .found - 1)]
    Gap {
        /// The number that comes next.
        expected: u64,
        /// The number of the entry.
        found: u64,
    },
    /// An entry of its number, or a later one, was there before.
    #[error("entry {found} comes again where {expected} was expected")]
    Again {
        /// The number that comes next.
        expected: u64,
        /// The number of the entry.
        found: u64,
    },
    /// It follows another entry than the one before it.
    #[error("entry {number} does not follow the one before it: two histories went on from one entry")]
    Fork {
        /// Its number.
        number: u64,
    },
    /// It is of a term that does not follow.
    #[error("entry {number} is of term {found}, where only term {expected} can be")]
    Term {
        /// Its number.
        number: u64,
        /// Its term.
        found: u64,
        /// The term that it could be of.
        expected: u64,
    },
    /// Its epoch is not later than the one before.
    #[error("entry {number} is of {found}, and {before} was complete before")]
    NotLater {
        /// Its number.
        number: u64,
        /// Its epoch.
        found: Epoch,
        /// The last that was complete.
        before: Epoch,
    },
    /// It is no part that comes next.
    #[error("entry {number} is part {part} of {parts}, where part {expected} was expected")]
    Part {
        /// Its number.
        number: u64,
        /// Which part it is.
        part: u32,
        /// Of how many.
        parts: u32,
        /// Which would come next.
        expected: u32,
    },
    /// Something in a batch is no record of this version.
    #[error("record {record} of the batch in entry {number} is none of this version")]
    Record {
        /// The number of the entry where it ends, or where it is seen that it is none.
        number: u64,
        /// Which record.
        record: usize,
    },
    /// Nothing is said of the owner yet: a chain is read from a takeover on.
    #[error("entry {number} is of no term that is known: read from the takeover of term {term} on")]
    NoOwner {
        /// Its number.
        number: u64,
        /// Its term.
        term: u64,
    },
    /// It names a checkpoint of what the chain does not have before it.
    #[error("entry {number} names a checkpoint of {epoch}, which is not of what the chain has before it")]
    Checkpoint {
        /// Its number.
        number: u64,
        /// The checkpoint's epoch.
        epoch: Epoch,
    },
    /// The owner has resigned, and nobody else may append but by a takeover.
    #[error("entry {number} comes after the owner of term {term} had resigned")]
    Resigned {
        /// Its number.
        number: u64,
        /// The term.
        term: u64,
    },
}

/// Reads an entry: its head, and its records or its piece of them.
///
/// # Errors
/// See [`EntryError`].
pub fn read_entry(bytes: &[u8]) -> Result<(Head, &[u8]), EntryError> {
    let frame = bytes.first_chunk::<FRAME>().ok_or(EntryError::NotAnEntry)?;
    let number = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    if frame[..4] != MAGIC {
        return Err(EntryError::NotAnEntry);
    }
    if !(1..=CHAIN_VERSION).contains(&number(4)) {
        return Err(EntryError::Version { found: number(4) });
    }
    let said = number(8) as usize;
    if said != bytes.len() {
        return Err(EntryError::Length { bytes: bytes.len(), said });
    }
    if number(12) != checksum(bytes) {
        return Err(EntryError::Checksum);
    }
    postcard::take_from_bytes(&bytes[FRAME..]).map_err(|_| EntryError::Head)
}

/// Writes an entry.
fn write_entry(head: &Head, records: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; FRAME];
    bytes = postcard::to_extend(head, bytes).expect("a vector takes everything");
    bytes.extend_from_slice(records);
    let length = u32::try_from(bytes.len()).expect("an entry is bound far below 4 GiB");
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&CHAIN_VERSION.to_le_bytes());
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&bytes);
    bytes[12..FRAME].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The crc of all of an entry but the crc itself.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[FRAME..])
}

/// Whether an entry names a checkpoint. Its checksum is not looked at: this is for its writer.
pub fn names_checkpoint(bytes: &[u8]) -> bool {
    let head = bytes.get(FRAME..).and_then(|head| postcard::take_from_bytes::<Head>(head).ok());
    head.is_some_and(|(head, _)| matches!(head.body, Body::Checkpoint(_)))
}

/// The hash that the entry after this one has.
pub fn hash_entry(bytes: &[u8]) -> EntryHash {
    Sha256::digest(bytes).into()
}

/// A place in a chain: what comes before it, as far as an entry that follows depends on it. It can
/// be kept, to go on from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainPlace {
    /// The number of the database.
    pub database: u64,
    /// The number of the entry that comes next.
    pub next: u64,
    /// The hash of the entry before.
    pub previous: EntryHash,
    /// The term; 0 before the first.
    pub term: u64,
    /// The last complete epoch.
    pub epoch: Epoch,
    /// The database's time then.
    pub time: Time,
    /// Whose the database is; `None` before the first takeover, and when the owner has resigned.
    pub owner: Option<String>,
    /// Of which types records are; `None` before the first takeover.
    pub schema: Option<WrittenSchema>,
}

impl ChainPlace {
    /// Before the first entry of a database.
    pub fn first(database: u64) -> Self {
        ChainPlace {
            database,
            next: 0,
            previous: [0; 32],
            term: 0,
            epoch: Epoch(0),
            time: Time(0),
            owner: None,
            schema: None,
        }
    }
}

/// What an entry brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// A term began. Its epoch counts as one in which nothing was committed.
    Takeover,
    /// Epochs are complete.
    Epochs(Gathered),
    /// A part of a batch, and not the last.
    Part,
    /// The owner has resigned.
    Resigned,
    /// The owner still was the owner.
    Still,
    /// A checkpoint is kept elsewhere.
    Checkpoint(Box<NamedCheckpoint>),
}

/// A chain, read or written up to a place.
#[derive(Clone, Debug)]
pub struct Chain {
    place: ChainPlace,
    /// What came of a batch whose last part has not: how many parts of how many, and of which
    /// epoch.
    parts: Option<(u32, u32, Epoch)>,
    pieces: BatchSoFar,
}

impl Chain {
    /// A chain that goes on at this place.
    pub fn at(place: ChainPlace) -> Self {
        Chain { place, parts: None, pieces: BatchSoFar::default() }
    }

    /// Where it goes on.
    pub fn place(&self) -> &ChainPlace {
        &self.place
    }

    /// Whether a batch has begun whose last part has not come.
    pub fn is_inside(&self) -> bool {
        self.parts.is_some()
    }

    /// Takes over the entry that comes next.
    ///
    /// # Errors
    /// See [`ChainError`]; the chain is as before.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Followed, ChainError> {
        let number = self.place.next;
        let (head, records) = read_entry(bytes).map_err(|error| ChainError::Damaged { number, error })?;
        self.check(&head)?;
        let followed = match head.body {
            Body::Takeover { .. } => Followed::Takeover,
            Body::Resigned => Followed::Resigned,
            Body::Still => Followed::Still,
            Body::Checkpoint(ref named) => Followed::Checkpoint(named.clone()),
            Body::Epochs { part, parts } => {
                if part == 0 {
                    self.pieces = BatchSoFar::default();
                }
                let is_last = part + 1 >= parts;
                let taken = self.pieces.take(records, is_last);
                taken.map_err(|record| ChainError::Record { number, record })?;
                if is_last {
                    let records = std::mem::take(&mut self.pieces).records;
                    Followed::Epochs(Gathered { epoch: head.epoch, time: head.time, records })
                } else {
                    Followed::Part
                }
            }
        };
        self.advance(head, hash_entry(bytes));
        Ok(followed)
    }

    /// Whether an entry with this head may come next.
    fn check(&self, head: &Head) -> Result<(), ChainError> {
        let ChainPlace { database, next, previous, term, epoch, .. } = self.place;
        let number = head.number;
        if head.database != database {
            return Err(ChainError::OtherDatabase { number: next, found: head.database, expected: database });
        }
        if fault::is_on(Fault::TrustChain) {
            return Ok(());
        }
        if number > next {
            return Err(ChainError::Gap { expected: next, found: number });
        }
        if number < next {
            return Err(ChainError::Again { expected: next, found: number });
        }
        if head.previous != previous {
            return Err(ChainError::Fork { number });
        }
        let is_takeover = matches!(head.body, Body::Takeover { .. });
        let expected = term + u64::from(is_takeover);
        if head.term != expected {
            return Err(ChainError::Term { number, found: head.term, expected });
        }
        if !is_takeover && term == 0 {
            return Err(ChainError::NoOwner { number, term: head.term });
        }
        if !is_takeover && self.place.owner.is_none() {
            return Err(ChainError::Resigned { number, term });
        }
        let is_later = match head.body {
            Body::Takeover { .. } => next == 0 || head.epoch > epoch,
            Body::Epochs { .. } => head.epoch > epoch,
            Body::Resigned | Body::Still | Body::Checkpoint(_) => head.epoch == epoch,
        };
        if !is_later {
            return Err(ChainError::NotLater { number, found: head.epoch, before: epoch });
        }
        if let (Body::Resigned | Body::Checkpoint(_), Some((expected, parts, _))) = (&head.body, self.parts) {
            return Err(ChainError::Part { number, part: 0, parts, expected });
        }
        if let Body::Checkpoint(named) = &head.body {
            let NamedCheckpoint { epoch: of, place, .. } = &**named;
            let is_before = place.database == database && place.next <= number && place.term <= term;
            if !is_before || *of > epoch || *of < place.epoch {
                return Err(ChainError::Checkpoint { number, epoch: *of });
            }
        }
        if let Body::Epochs { part, parts } = head.body {
            let (expected, of, of_epoch) = self.parts.unwrap_or((0, parts, head.epoch));
            if part != expected || parts != of || part >= parts || head.epoch != of_epoch {
                return Err(ChainError::Part { number, part, parts, expected });
            }
        }
        Ok(())
    }

    /// Goes on behind an entry: the same for a reader and for its writer.
    fn advance(&mut self, head: Head, hash: EntryHash) {
        let place = &mut self.place;
        (place.next, place.previous, place.term) = (head.number + 1, hash, head.term);
        match head.body {
            Body::Epochs { part, parts } if part + 1 < parts => {
                self.parts = Some((part + 1, parts, head.epoch));
                return;
            }
            Body::Epochs { .. } | Body::Still | Body::Checkpoint(_) => {}
            Body::Takeover { node, schema } => {
                (place.owner, place.schema) = (Some(node), Some(*schema));
            }
            Body::Resigned => place.owner = None,
        }
        (place.epoch, place.time) = (head.epoch, place.time.max(head.time));
        self.parts = None;
        self.pieces = BatchSoFar::default();
    }

    /// Writes the entry that comes next, and goes on behind it.
    fn write(&mut self, term: u64, epoch: Epoch, time: Time, body: Body, records: &[u8]) -> Vec<u8> {
        let ChainPlace { database, next, previous, .. } = self.place;
        let head = Head { database, term, number: next, previous, epoch, time, body };
        debug_assert_eq!(self.check(&head), Ok(()), "readable-when-sealed: an entry continues its chain");
        let bytes = write_entry(&head, records);
        self.advance(head, hash_entry(&bytes));
        bytes
    }

    /// The entry by which `node` takes the database over. `seen` is the last epoch it knows of, in
    /// its own log; the new term's come behind it.
    pub fn take_over(&mut self, node: &str, schema: WrittenSchema, seen: Epoch) -> Vec<u8> {
        let ChainPlace { next, epoch, time, term, .. } = self.place;
        let begins = if next == 0 { Epoch(0) } else { Epoch(epoch.max(seen).0 + EPOCHS_APART) };
        let body = Body::Takeover { node: node.to_string(), schema: Box::new(schema) };
        self.write(term + 1, begins, time, body, &[])
    }

    /// The entry by which the owner gives the database up.
    pub fn resign(&mut self) -> Vec<u8> {
        let ChainPlace { epoch, time, term, .. } = self.place;
        self.write(term, epoch, time, Body::Resigned, &[])
    }

    /// The entry by which the owner finds out whether it still is. It lets go of parts without a
    /// last one.
    pub fn still(&mut self) -> Vec<u8> {
        let ChainPlace { epoch, time, term, .. } = self.place;
        self.write(term, epoch, time, Body::Still, &[])
    }

    /// The entry by which the owner names a checkpoint.
    ///
    /// # Panics
    /// If the checkpoint is not of what the chain has so far, in a debug build.
    pub fn name_checkpoint(&mut self, named: NamedCheckpoint) -> Vec<u8> {
        let ChainPlace { epoch, time, term, .. } = self.place;
        self.write(term, epoch, time, Body::Checkpoint(Box::new(named)), &[])
    }

    /// The entries of a batch, each of at most `entry_bytes_max` bytes.
    ///
    /// # Panics
    /// If `entry_bytes_max` is less than [`ENTRY_BYTES_MIN`], a record is longer than
    /// [`CHAINED_RECORD_MAX`], or the epoch is not later than the last.
    pub fn append(
        &mut self,
        epoch: Epoch,
        time: Time,
        records: &[Box<[u8]>],
        entry_bytes_max: usize,
    ) -> Vec<Vec<u8>> {
        assert!(entry_bytes_max >= ENTRY_BYTES_MIN, "an entry has room for some of a batch");
        let time = time.max(self.place.time);
        let room = room(entry_bytes_max);
        let bytes: usize = records.iter().map(|record| LENGTH + record.len()).sum();
        let parts = bytes.div_ceil(room).max(1);
        let parts = u32::try_from(parts).expect("any-epoch-leaves: 16 TiB fit the shortest entries");
        let (mut entries, mut piece) =
            (Vec::with_capacity(parts as usize), Vec::with_capacity(room.min(bytes)));
        let mut put = |chain: &mut Chain, piece: &mut Vec<u8>| {
            let (term, body) = (chain.place.term, Body::Epochs { part: entries.len() as u32, parts });
            let entry = chain.write(term, epoch, time, body, piece);
            debug_assert!(entry.len() <= entry_bytes_max, "an entry keeps to its bound");
            entries.push(entry);
            piece.clear();
        };
        for record in records {
            let length = record.len();
            assert!(length <= CHAINED_RECORD_MAX, "readable-when-sealed: a record of {length} bytes");
            for mut bytes in [&(length as u32).to_le_bytes()[..], record] {
                while !bytes.is_empty() {
                    if piece.len() == room {
                        put(self, &mut piece);
                    }
                    let (now, later) = bytes.split_at(bytes.len().min(room - piece.len()));
                    piece.extend_from_slice(now);
                    bytes = later;
                }
            }
        }
        put(self, &mut piece);
        entries
    }
}

/// What came of a batch whose last part has not.
#[derive(Clone, Debug, Default)]
struct BatchSoFar {
    /// Records that are whole.
    records: Vec<Box<[u8]>>,
    /// The begin of the next one, with its length.
    rest: Vec<u8>,
}

impl BatchSoFar {
    /// Takes over the next piece. With the last one all records are whole.
    ///
    /// # Errors
    /// Which record is none; then nothing was taken over.
    fn take(&mut self, piece: &[u8], is_last: bool) -> Result<(), usize> {
        let (records, rest) = (self.records.len(), self.rest.len());
        let mut ended = None;
        let taken = self.try_take(piece, &mut ended);
        let at = self.records.len();
        if taken.is_some() && (self.rest.is_empty() || !is_last) {
            return Ok(());
        }
        self.records.truncate(records);
        self.rest = ended.unwrap_or_else(|| std::mem::take(&mut self.rest));
        self.rest.truncate(rest);
        Err(at)
    }

    /// Takes over records up to one that is none. What was under way goes to `ended` if the piece
    /// ends it.
    fn try_take(&mut self, mut piece: &[u8], ended: &mut Option<Vec<u8>>) -> Option<()> {
        while !piece.is_empty() {
            if self.rest.is_empty()
                && let Some((record, later)) = split_record(piece)
            {
                self.put(record)?;
                piece = later;
                continue;
            }
            let length = self.rest.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
            if length > CHAINED_RECORD_MAX {
                return None;
            }
            let (now, later) = piece.split_at(piece.len().min(LENGTH + length - self.rest.len()));
            self.rest.extend_from_slice(now);
            piece = later;
            let rest = std::mem::take(&mut self.rest);
            match split_record(&rest).map(|(record, _)| self.put(record)) {
                None => self.rest = rest,
                Some(put) => {
                    ended.get_or_insert(rest);
                    put?;
                }
            }
        }
        Some(())
    }

    fn put(&mut self, record: &[u8]) -> Option<()> {
        if let None | Some(Record::Epoch(_)) = Record::read(record) {
            return None;
        }
        self.records.push(record.into());
        Some(())
    }
}

#[cfg(test)]
mod tests;
