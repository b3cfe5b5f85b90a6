//! The records of a log: what a message changed, as it reads afterwards, and never how.
//!
//! ```text
//! 1 epoch      u64                                 what follows in this batch was committed in it
//! 2 put        id length u16, id, state            the object is now this, and belongs to owner 0
//! 3 put owned  id length u16, id, owner u64, state
//! 4 put shared, 5 put immutable                    as 2
//! 6 remove     id                                  the object does not exist any more
//! 7 send       number u64, sender u64, message     a message was told, and is to be run
//! 8 send later number u64, sender u64, due u64, message
//! 9 delivered  number u64                          that message has run, or was taken back
//! 10 cancelled number u64, due u64                 that message is not to run, if it is due then
//! 11 cleared   id of a collection                  the entries that it had do not exist any more
//! ```
//! Each begins with its number, one byte. Its bit 0x40 says that the id has a fixed width, bit 0x80
//! the same of the state (numbers, little-endian, one behind another). Without the bit they are
//! what `postcard` makes of them (<https://postcard.jamesmunns.com/wire-format>), as messages
//! always are. So a record can be read without knowing who wrote it. Format version 3 brought the
//! bits: earlier versions wrote everything by postcard.
//!
//! Numbers are little-endian. Times are the database's own: nanoseconds that it has been running.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::epoch::Epoch;
use crate::log::bounds::ID_MAX;
use crate::log::encoder::Append;
use crate::log::fixed::{self, Layout};
pub use crate::log::refused::{RecordError, Unreadable, Value};
use crate::log::shape::layout_of;
use crate::log::trust::{Trust, check_id, decode_all};
use crate::log::writer::Records;
use crate::object::{OwnerId, Ownership};
use crate::time::Time;

const EPOCH: u8 = 1;
const PUT: u8 = 2;
const PUT_OWNED: u8 = 3;
const PUT_SHARED: u8 = 4;
const PUT_IMMUTABLE: u8 = 5;
const REMOVE: u8 = 6;
const SEND: u8 = 7;
const SEND_LATER: u8 = 8;
const DELIVERED: u8 = 9;
const CANCELLED: u8 = 10;
const CLEARED: u8 = 11;
/// In the kind of a put, a removal or a clearing: the id has a fixed width.
const ID_FIXED: u8 = 0x40;
/// In the kind of a put: the state has a fixed width.
const STATE_FIXED: u8 = 0x80;
/// Bytes of a put before its id: the kind, and the id's length.
const PUT_FIELDS: usize = 3;

/// A message that was told and is owed until it has run: its number, unique in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub u64);

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// By postcard.
    #[default]
    Postcard,
    /// With a fixed width.
    Fixed,
}

/// An id or a state, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coded<'a> {
    /// How they are to be read.
    pub coding: Coding,
    /// They.
    pub bytes: &'a [u8],
}

impl Coded<'_> {
    /// The value, which must be all there is; `None` if it is none of this type.
    #[inline]
    pub fn decode<T: DeserializeOwned>(self) -> Option<T> {
        match self.coding {
            Coding::Fixed => fixed::read(self.bytes).ok(),
            Coding::Postcard => decode(self.bytes),
        }
    }
}

/// How ids and states are written with a fixed width, if they have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layouts {
    pub(crate) id: Option<Layout>,
    pub(crate) state: Option<Layout>,
}

impl Layouts {
    /// Of these types.
    pub(crate) fn of<I, S>() -> Layouts
    where
        I: Serialize + DeserializeOwned,
        S: Serialize + DeserializeOwned,
    {
        let id = layout_of::<I>().filter(|layout| layout.bytes <= ID_MAX);
        Layouts { id, state: layout_of::<S>() }
    }
}

/// A record as it was read. What is the user's is bytes; messages are as postcard makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// What follows in this batch was committed in this epoch.
    Epoch(Epoch),
    /// The object is now this.
    Put {
        /// Its id.
        id: Coded<'a>,
        /// Who may write it.
        ownership: Ownership,
        /// Its state.
        state: Coded<'a>,
    },
    /// The object does not exist any more.
    Remove {
        /// Its id.
        id: Coded<'a>,
    },
    /// The entries that a collection had do not exist any more. Its header is as it was.
    Cleared {
        /// The id of the collection.
        collection: Coded<'a>,
    },
    /// A message was told, and is to be run.
    Send {
        /// Its number.
        send_id: SendId,
        /// Who sent it.
        sender: OwnerId,
        /// When it is to run, if not at once.
        due: Option<Time>,
        /// It.
        message: &'a [u8],
    },
    /// That message has run, or was taken back.
    Delivered {
        /// Its number.
        send_id: SendId,
    },
    /// That message is not to run, if this is when it is due.
    Cancelled {
        /// Its number.
        send_id: SendId,
        /// When it is due.
        due: Time,
    },
}

/// Appends a value of the user's.
///
/// # Errors
/// [`RecordError::Refused`]; something may have been appended.
#[inline]
pub(crate) fn encode<T: Serialize>(value: &T, to: &mut Vec<u8>) -> Result<(), RecordError> {
    postcard::serialize_with_flavor(value, Append(to)).map_err(RecordError::refused)
}

/// Reads a value of the user's, which must be all there is.
///
/// # Errors
/// `None` if it is not one.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    decode_all(bytes).ok()
}

/// A record of a number.
#[inline]
fn numbered(kind: u8, number: u64) -> [u8; 9] {
    let mut record = [kind; 9];
    record[1..].copy_from_slice(&number.to_le_bytes());
    record
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdIs {
    /// It was never recorded: it is read back.
    New,
    /// It was recorded, or read from a record.
    Known,
}

/// What follows in the batch was committed in this epoch.
#[inline]
pub(crate) fn epoch_record(epoch: Epoch) -> [u8; 9] {
    numbered(EPOCH, epoch.0)
}

/// Whether the user's part of a record, so many bytes, is within `value_max`.
#[inline]
fn check_value(bytes: usize, value_max: usize) -> Result<(), RecordError> {
    if bytes > value_max { Err(RecordError::TooLong { bytes, max: value_max }) } else { Ok(()) }
}

/// Appends an id, and says how.
#[inline]
fn encode_id<I: Serialize + DeserializeOwned + Eq>(
    id: &I,
    id_is: IdIs,
    layout: Option<Layout>,
    to: &mut Vec<u8>,
) -> Result<Coding, RecordError> {
    let from = to.len();
    let coding = if fixed::append(id, layout, to) {
        Coding::Fixed
    } else {
        encode(id, to)?;
        Coding::Postcard
    };
    if id_is == IdIs::New || cfg!(debug_assertions) {
        check_id(id, Coded { coding, bytes: &to[from..] })?;
    }
    Ok(coding)
}

/// Which put it is, whose object has this ownership.
#[inline]
fn put_kind(ownership: Ownership) -> u8 {
    match ownership {
        Ownership::Owned(OwnerId(0)) => PUT,
        Ownership::Owned(_) => PUT_OWNED,
        Ownership::Shared => PUT_SHARED,
        Ownership::Immutable => PUT_IMMUTABLE,
    }
}

impl Records {
    /// Adds what an object is now. Its id and its state have at most `value_max` bytes together,
    /// whoever it belongs to. It can be read again: see [`trust`](crate::log::trust).
    ///
    /// # Errors
    /// [`RecordError`]; the records are then as before.
    pub(crate) fn push_object<I, S>(
        &mut self,
        id: &I,
        id_is: IdIs,
        ownership: Ownership,
        state: Option<&S>,
        trust: &mut Trust,
        value_max: usize,
    ) -> Result<(), RecordError>
    where
        I: Serialize + DeserializeOwned + Eq,
        S: Serialize + DeserializeOwned,
    {
        let layouts = trust.layouts;
        let pushed = self.push(|to| write_object(id, id_is, ownership, state, layouts, trust, value_max, to));
        match pushed {
            // postcard writes small numbers shorter, and bounds are of what postcard writes.
            Err(RecordError::TooLong { .. }) if layouts != Layouts::default() => self.push(|to| {
                write_object(id, id_is, ownership, state, Layouts::default(), trust, value_max, to)
            }),
            pushed => pushed,
        }
    }

    /// Adds that the entries of a collection do not exist any more. Its id has at most `value_max`
    /// bytes. As the collection may have no header, it is read back.
    ///
    /// # Errors
    /// [`RecordError`]; the records are then as before.
    pub(crate) fn push_cleared<I>(
        &mut self,
        collection: &I,
        layout: Option<Layout>,
        value_max: usize,
    ) -> Result<(), RecordError>
    where
        I: Serialize + DeserializeOwned + Eq,
    {
        match self.push(|to| write_cleared(collection, layout, value_max, to)) {
            // As of an object.
            Err(RecordError::TooLong { .. }) if layout.is_some() => {
                self.push(|to| write_cleared(collection, None, value_max, to))
            }
            pushed => pushed,
        }
    }

    /// Adds what an object is now whose id is known and that belongs to owner 0, if both have a
    /// fixed width. Says whether it was added; if not, it is to be added by
    /// [`Records::push_object`], which makes the same record.
    ///
    /// Here the compiler knows how long the record is. It is called from one place only, so that
    /// `Serialize` becomes a part of it: a call costs 40 instructions more.
    ///
    /// # Errors
    /// The state cannot be read again; the records are then as before.
    #[inline(always)]
    pub(crate) fn push_fixed<I, S>(
        &mut self,
        id: &I,
        state: &S,
        trust: &mut Trust,
    ) -> Result<bool, Box<RecordError>>
    where
        I: Serialize + DeserializeOwned + Eq,
        S: Serialize + DeserializeOwned,
    {
        let (Ok(id_layout), Ok(state_layout)) = (Layout::of_value(id), Layout::of_value(state)) else {
            return Ok(false);
        };
        if !trust.is_fixed(id_layout, state_layout) {
            return Ok(false);
        }
        let mark = self.mark();
        let is_written = self.push_place(PUT_FIELDS + id_layout.bytes + state_layout.bytes, |place| {
            let (fields, place) = place.split_at_mut(PUT_FIELDS);
            let [low, high] = (id_layout.bytes as u16).to_le_bytes();
            fields.copy_from_slice(&[PUT | ID_FIXED | STATE_FIXED, low, high]);
            let (id_place, state_place) = place.split_at_mut(id_layout.bytes);
            fixed::write(id, id_place).is_ok() && fixed::write(state, state_place).is_ok()
        });
        if is_written && trust.is_to_read_back() {
            let record = self.last_record(mark);
            let (before, state_bytes) = record.split_at(record.len() - state_layout.bytes);
            let id_bytes = &before[before.len() - id_layout.bytes..];
            let checked = check_id(id, Coded { coding: Coding::Fixed, bytes: id_bytes })
                .and_then(|()| trust.read_back_fixed(state, state_bytes));
            checked.inspect_err(|_| self.truncate(mark))?;
        }
        Ok(is_written)
    }
}

/// Appends what an object is now, as [`Records::push_object`] has it; what has no layout, by
/// postcard.
#[expect(clippy::too_many_arguments, reason = "they are the parts of a record, and where it goes")]
fn write_object<I, S>(
    id: &I,
    id_is: IdIs,
    ownership: Ownership,
    state: Option<&S>,
    layouts: Layouts,
    trust: &mut Trust,
    value_max: usize,
    to: &mut Vec<u8>,
) -> Result<(), RecordError>
where
    I: Serialize + DeserializeOwned + Eq,
    S: Serialize + DeserializeOwned,
{
    let begin = to.len();
    let Some(state) = state else {
        to.push(REMOVE);
        let coding = encode_id(id, IdIs::Known, layouts.id, to)?;
        to[begin] |= if coding == Coding::Fixed { ID_FIXED } else { 0 };
        return Ok(());
    };
    let mut kind = put_kind(ownership);
    to.extend_from_slice(&[0; PUT_FIELDS]);
    let from = to.len();
    let id_coding = encode_id(id, id_is, layouts.id, to)?;
    let bytes = to.len() - from;
    let length = u16::try_from(bytes).map_err(|_| RecordError::IdTooLong { bytes })?;
    if let (PUT_OWNED, Ownership::Owned(owner)) = (kind, ownership) {
        to.extend_from_slice(&owner.0.to_le_bytes());
    }
    let from = to.len();
    let state_coding = trust.encode(state, layouts.state, to)?;
    check_value(bytes + to.len() - from, value_max)?;
    kind |= if id_coding == Coding::Fixed { ID_FIXED } else { 0 };
    kind |= if state_coding == Coding::Fixed { STATE_FIXED } else { 0 };
    let [low, high] = length.to_le_bytes();
    to[begin..begin + PUT_FIELDS].copy_from_slice(&[kind, low, high]);
    Ok(())
}

/// Appends that a collection was cleared, as [`Records::push_cleared`] has it.
fn write_cleared<I>(
    collection: &I,
    layout: Option<Layout>,
    value_max: usize,
    to: &mut Vec<u8>,
) -> Result<(), RecordError>
where
    I: Serialize + DeserializeOwned + Eq,
{
    let begin = to.len();
    to.push(CLEARED);
    let coding = encode_id(collection, IdIs::New, layout, to)?;
    let bytes = to.len() - begin - 1;
    if bytes > ID_MAX {
        return Err(RecordError::IdTooLong { bytes });
    }
    check_value(bytes, value_max)?;
    to[begin] |= if coding == Coding::Fixed { ID_FIXED } else { 0 };
    Ok(())
}

/// As [`Records::push_object`], for types that are known where the log is opened.
pub(crate) type PushObject<I, S> =
    fn(&mut Records, &I, IdIs, Ownership, Option<&S>, &mut Trust, usize) -> Result<(), RecordError>;

/// Appends a message that is owed; `message` is it in bytes, at most `value_max`.
pub(crate) fn write_send(
    send_id: SendId,
    sender: OwnerId,
    due: Option<Time>,
    message: &[u8],
    value_max: usize,
    to: &mut Vec<u8>,
) -> Result<(), RecordError> {
    check_value(message.len(), value_max)?;
    to.push(if due.is_some() { SEND_LATER } else { SEND });
    to.extend_from_slice(&send_id.0.to_le_bytes());
    to.extend_from_slice(&sender.0.to_le_bytes());
    if let Some(due) = due {
        to.extend_from_slice(&due.0.to_le_bytes());
    }
    to.extend_from_slice(message);
    Ok(())
}

/// That message has run.
pub(crate) fn delivered_record(send_id: SendId) -> [u8; 9] {
    numbered(DELIVERED, send_id.0)
}

/// That message is not to run, if it is due then: a message that cancels it names both, and neither
/// by itself makes another message one that is not owed.
pub(crate) fn cancelled_record(send_id: SendId, due: Time) -> [u8; 17] {
    let mut record = [0; 17];
    record[..9].copy_from_slice(&numbered(CANCELLED, send_id.0));
    record[9..].copy_from_slice(&due.0.to_le_bytes());
    record
}

/// Takes a number off the front.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// A record's kind without the bits that say how id and state are written, and these; `None` for
/// bits that the kind does not have.
fn codings(kind: u8) -> Option<(u8, Coding, Coding)> {
    let coding = |bit: u8| if kind & bit == 0 { Coding::Postcard } else { Coding::Fixed };
    let (id, state) = (coding(ID_FIXED), coding(STATE_FIXED));
    let kind = kind & !(ID_FIXED | STATE_FIXED);
    let has_bits = match kind {
        PUT | PUT_OWNED | PUT_SHARED | PUT_IMMUTABLE => true,
        REMOVE | CLEARED => state == Coding::Postcard,
        _ => (id, state) == (Coding::Postcard, Coding::Postcard),
    };
    has_bits.then_some((kind, id, state))
}

impl<'a> Record<'a> {
    /// Reads a record. `None` if it is none that this version knows: then the program that wrote
    /// it, or the disk, was wrong.
    pub fn read(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (&kind, rest) = bytes.split_first()?;
        let (kind, id_coding, state_coding) = codings(kind)?;
        Some(match kind {
            EPOCH => match number(rest)? {
                (epoch, []) => Record::Epoch(Epoch(epoch)),
                _ => return None,
            },
            PUT | PUT_OWNED | PUT_SHARED | PUT_IMMUTABLE => {
                let (length, rest) = rest.split_first_chunk::<2>()?;
                let (id, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
                let (ownership, state) = match kind {
                    PUT => (Ownership::Owned(OwnerId(0)), rest),
                    PUT_SHARED => (Ownership::Shared, rest),
                    PUT_IMMUTABLE => (Ownership::Immutable, rest),
                    _ => {
                        let (owner, rest) = number(rest)?;
                        (Ownership::Owned(OwnerId(owner)), rest)
                    }
                };
                let id = Coded { coding: id_coding, bytes: id };
                Record::Put { id, ownership, state: Coded { coding: state_coding, bytes: state } }
            }
            REMOVE => Record::Remove { id: Coded { coding: id_coding, bytes: rest } },
            CLEARED if rest.len() <= ID_MAX => {
                Record::Cleared { collection: Coded { coding: id_coding, bytes: rest } }
            }
            SEND | SEND_LATER => {
                let (send_id, rest) = number(rest)?;
                let (sender, rest) = number(rest)?;
                let (due, message) = if kind == SEND {
                    (None, rest)
                } else {
                    let (due, rest) = number(rest)?;
                    (Some(Time(due)), rest)
                };
                Record::Send { send_id: SendId(send_id), sender: OwnerId(sender), due, message }
            }
            DELIVERED => match number(rest)? {
                (send_id, []) => Record::Delivered { send_id: SendId(send_id) },
                _ => return None,
            },
            CANCELLED => {
                let (send_id, rest) = number(rest)?;
                match number(rest)? {
                    (due, []) => Record::Cancelled { send_id: SendId(send_id), due: Time(due) },
                    _ => return None,
                }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
