//! The records of a log: what a message changed, as it reads afterwards, and never how.
//!
//! ```text
//! 1 epoch      u64                                   what follows in this batch was committed in it
//! 2 put        id length u16, id, state              the object is now this, and belongs to owner 0
//! 3 put owned  id length u16, id, owner u64, state
//! 4 put shared, 5 put immutable                      as 2
//! 6 remove     id                                    the object does not exist any more
//! 7 owe        debt u64, sender u64, message         a message was told, and is to be run
//! 8 owe later  debt u64, sender u64, due u64, message
//! 9 paid       debt u64                              that message has run
//! ```
//! Each begins with its number, one byte. Numbers are little-endian; ids, states and messages are what `postcard` makes of them
//! (<https://postcard.jamesmunns.com/wire-format>). Times are the database's own: nanoseconds that it has been running.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::epoch::Epoch;
use crate::log::bounds::{ID_MAX, TooLong};
use crate::log::encoder::Append;
use crate::log::trust::{Trust, check_id, decode_all};
use crate::object::{OwnerId, Ownership};
use crate::time::Time;

const EPOCH: u8 = 1;
const PUT: u8 = 2;
const PUT_OWNED: u8 = 3;
const PUT_SHARED: u8 = 4;
const PUT_IMMUTABLE: u8 = 5;
const REMOVE: u8 = 6;
const OWE: u8 = 7;
const OWE_LATER: u8 = 8;
const PAID: u8 = 9;

/// A message that was told and is owed until it has run: its number, unique in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Debt(pub u64);

/// A record as it was read. What is the user's is bytes, as postcard makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// What follows in this batch was committed in this epoch.
    Epoch(Epoch),
    /// The object is now this.
    Put {
        /// Its id.
        id: &'a [u8],
        /// Who may write it.
        ownership: Ownership,
        /// Its state.
        state: &'a [u8],
    },
    /// The object does not exist any more.
    Remove {
        /// Its id.
        id: &'a [u8],
    },
    /// A message was told, and is to be run.
    Owe {
        /// Its number.
        debt: Debt,
        /// Who sent it.
        sender: OwnerId,
        /// When it is to run, if not at once.
        due: Option<Time>,
        /// It.
        message: &'a [u8],
    },
    /// That message has run.
    Paid {
        /// Its number.
        debt: Debt,
    },
}

/// A value that cannot be written to the log. The message that was to leave it behind was undone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A state, with its id, or a told message that is longer than the log takes.
    #[error(
        "a state with its id, or a told message, has {bytes} bytes, and this database holds at most {max} (what \
         `LogConfig::value_bytes_max` says of its segment size): keep states and messages smaller"
    )]
    TooLong {
        /// How long it is as postcard writes it, in bytes.
        bytes: usize,
        /// The most there may be: [`Bounds::value`](crate::log::Bounds::value).
        max: usize,
    },
    /// An id that is longer than its length in a record can say.
    #[error("an id has {bytes} bytes, and the log holds at most {ID_MAX}: keep ids smaller")]
    IdTooLong {
        /// How long it is as postcard writes it, in bytes.
        bytes: usize,
    },
    /// Its `Serialize` refused.
    #[error("a value refused to be serialized: {0}")]
    Refused(String),
    /// What its `Serialize` wrote cannot be read again, so it would have been lost at the next start.
    #[error("{what} could be written and not read again: {why} (docs/GUIDE.md, \"What the log can hold\")")]
    NotReadable {
        /// What was to be written.
        what: Value,
        /// Why it cannot be read.
        why: Unreadable,
    },
}

/// What a user's value is, in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// An object's id.
    Id,
    /// An object's state.
    State,
    /// A message that was told.
    Message,
}

impl From<TooLong> for RecordError {
    fn from(TooLong { bytes, max }: TooLong) -> Self {
        RecordError::TooLong { bytes, max }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Value::Id => "an id",
            Value::State => "a state",
            Value::Message => "a message told",
        })
    }
}

/// Why a value that was written cannot be read again. The log's format, postcard, names no fields, variants or types: reading goes
/// by what `Deserialize` expects, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// Its `Deserialize` asks the format what comes next, and this format does not know.
    #[error(
        "its `Deserialize` asks what comes next (`deserialize_any`), and the log does not say: serde's `untagged`, `tag = ..` and \
         `flatten` do that, and types such as `serde_json::Value` and `rust_decimal::Decimal`"
    )]
    AsksWhatComes,
    /// A field was left out, and `Deserialize` reads the next in its place.
    #[error("a field was left out, and is expected when it is read: serde's `skip_serializing_if` does that")]
    LeftOut,
    /// Its `Deserialize` refused what was written.
    #[error(
        "its `Deserialize` refused: an enum's variant behind one with `skip` has another number when it is read; fields with \
         `skip_serializing` or `skip_serializing_if` are missing; `Serialize` and `Deserialize` by hand may not agree"
    )]
    Refused,
    /// It was read as another value.
    #[error(
        "it reads as another value: `Serialize` and `Deserialize` do not agree, or `Serialize` does not give the same twice; see \
         `skip_serializing`, `skip_serializing_if`, `serialize_with`, `deserialize_with`, `from`, `into`"
    )]
    OtherValue,
    /// An id was read as another id: objects that differ only in what is not written would become one.
    #[error(
        "it reads as another id: a field with `skip` or `default` is not written, and objects that differ only in that would \
         become one"
    )]
    OtherId,
}

impl Unreadable {
    /// What postcard said; `None` if something was left behind the value.
    #[cold]
    pub(crate) fn of(error: Option<postcard::Error>, has_left_out: bool) -> Self {
        match error {
            Some(postcard::Error::WontImplement | postcard::Error::NotYetImplemented) => {
                Unreadable::AsksWhatComes
            }
            _ if has_left_out => Unreadable::LeftOut,
            Some(_) => Unreadable::Refused,
            None => Unreadable::OtherValue,
        }
    }
}

impl RecordError {
    /// What postcard said when a value was serialized.
    #[cold]
    pub(crate) fn refused(error: postcard::Error) -> Self {
        RecordError::Refused(match error {
            postcard::Error::SerializeSeqLengthUnknown => {
                "it has a map or list whose length it does not say, as serde's `flatten` makes".to_string()
            }
            error => error.to_string(),
        })
    }
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

/// Appends what an object is now. Its id and its state have at most `value_max` bytes together, whoever it belongs to. It can be
/// read again: see [`trust`](crate::log::trust).
#[inline]
pub(crate) fn write_object<I, S>(
    id: &I,
    id_is: IdIs,
    ownership: Ownership,
    state: Option<&S>,
    trust: &mut Trust,
    value_max: usize,
    to: &mut Vec<u8>,
) -> Result<(), RecordError>
where
    I: Serialize + DeserializeOwned + Eq,
    S: Serialize + DeserializeOwned,
{
    let Some(state) = state else {
        to.push(REMOVE);
        return encode(id, to);
    };
    let kind = match ownership {
        Ownership::Owned(OwnerId(0)) => PUT,
        Ownership::Owned(_) => PUT_OWNED,
        Ownership::Shared => PUT_SHARED,
        Ownership::Immutable => PUT_IMMUTABLE,
    };
    to.extend_from_slice(&[kind, 0, 0]);
    let from = to.len();
    encode(id, to)?;
    if id_is == IdIs::New || cfg!(debug_assertions) {
        check_id(id, &to[from..])?;
    }
    let bytes = to.len() - from;
    let length = u16::try_from(bytes).map_err(|_| RecordError::IdTooLong { bytes })?;
    to[from - 2..from].copy_from_slice(&length.to_le_bytes());
    if let (PUT_OWNED, Ownership::Owned(owner)) = (kind, ownership) {
        to.extend_from_slice(&owner.0.to_le_bytes());
    }
    let from = to.len();
    trust.encode(state, to)?;
    check_value(bytes + to.len() - from, value_max)
}

/// Appends a message that is owed; `message` is it in bytes, at most `value_max`.
pub(crate) fn write_owe(
    debt: Debt,
    sender: OwnerId,
    due: Option<Time>,
    message: &[u8],
    value_max: usize,
    to: &mut Vec<u8>,
) -> Result<(), RecordError> {
    check_value(message.len(), value_max)?;
    to.push(if due.is_some() { OWE_LATER } else { OWE });
    to.extend_from_slice(&debt.0.to_le_bytes());
    to.extend_from_slice(&sender.0.to_le_bytes());
    if let Some(due) = due {
        to.extend_from_slice(&due.0.to_le_bytes());
    }
    to.extend_from_slice(message);
    Ok(())
}

/// That message has run.
pub(crate) fn paid_record(debt: Debt) -> [u8; 9] {
    numbered(PAID, debt.0)
}

/// Takes a number off the front.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

impl<'a> Record<'a> {
    /// Reads a record. `None` if it is none that this version knows: then the program that wrote it, or the disk, was wrong.
    pub fn read(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (&kind, rest) = bytes.split_first()?;
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
                Record::Put { id, ownership, state }
            }
            REMOVE => Record::Remove { id: rest },
            OWE | OWE_LATER => {
                let (debt, rest) = number(rest)?;
                let (sender, rest) = number(rest)?;
                let (due, message) = if kind == OWE {
                    (None, rest)
                } else {
                    let (due, rest) = number(rest)?;
                    (Some(Time(due)), rest)
                };
                Record::Owe { debt: Debt(debt), sender: OwnerId(sender), due, message }
            }
            PAID => match number(rest)? {
                (debt, []) => Record::Paid { debt: Debt(debt) },
                _ => return None,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write<I: Serialize + DeserializeOwned + Eq, S: Serialize + DeserializeOwned>(
        id: &I,
        ownership: Ownership,
        state: Option<&S>,
        to: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        write_within(1 << 20, id, ownership, state, to)
    }

    fn write_within<I: Serialize + DeserializeOwned + Eq, S: Serialize + DeserializeOwned>(
        value_max: usize,
        id: &I,
        ownership: Ownership,
        state: Option<&S>,
        to: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        write_object(id, IdIs::New, ownership, state, &mut Trust::default(), value_max, to)
    }

    #[test]
    fn what_is_written_is_read() {
        let id = (7_u64, 9_u32);
        for ownership in [
            Ownership::Owned(OwnerId(0)),
            Ownership::Owned(OwnerId(u64::MAX)),
            Ownership::Shared,
            Ownership::Immutable,
        ] {
            let mut bytes = Vec::new();
            write(&id, ownership, Some(&"state".to_string()), &mut bytes).expect("it can be written");
            let Some(Record::Put { id: found, ownership: whose, state }) = Record::read(&bytes) else {
                panic!("{bytes:?} is a put")
            };
            assert_eq!((decode(found), whose), (Some(id), ownership));
            assert_eq!(decode::<String>(state).as_deref(), Some("state"));
        }
        let mut bytes = Vec::new();
        write(&id, Ownership::Shared, None::<&u8>, &mut bytes).expect("it can be written");
        let Some(Record::Remove { id: found }) = Record::read(&bytes) else {
            panic!("{bytes:?} is a removal")
        };
        assert_eq!(decode(found), Some(id));
        for due in [None, Some(Time(5))] {
            let mut bytes = Vec::new();
            write_owe(Debt(3), OwnerId(4), due, b"message", 7, &mut bytes).expect("it is short enough");
            let owe = Record::Owe { debt: Debt(3), sender: OwnerId(4), due, message: b"message" };
            assert_eq!(Record::read(&bytes), Some(owe));
        }
        assert_eq!(Record::read(&paid_record(Debt(8))), Some(Record::Paid { debt: Debt(8) }));
        assert_eq!(Record::read(&epoch_record(Epoch(2))), Some(Record::Epoch(Epoch(2))));
    }

    #[test]
    fn a_value_with_something_behind_it_is_not_that_value() {
        assert_eq!(decode::<u8>(&[1]), Some(1));
        assert_eq!(decode::<u8>(&[1, 2]), None);
        assert_eq!(decode::<u8>(&[]), None);
    }

    #[test]
    fn an_id_may_be_as_long_as_its_length_can_say() {
        // Three bytes are its length.
        for (bytes, is_written) in [(ID_MAX - 3, true), (ID_MAX - 2, false)] {
            let id = vec![1_u8; bytes];
            let written = write(&id, Ownership::Shared, Some(&0_u8), &mut Vec::new());
            assert_eq!(written.is_ok(), is_written);
            assert!(
                is_written || written == Err(RecordError::IdTooLong { bytes: ID_MAX + 1 }),
                "{written:?}"
            );
        }
    }

    #[test]
    fn a_value_may_be_as_long_as_the_bound_whoever_it_belongs_to() {
        let (id, state) = (7_u8, vec![1_u8; 99]);
        for ownership in [Ownership::Owned(OwnerId(0)), Ownership::Owned(OwnerId(1)), Ownership::Shared] {
            let write = |max| write_within(max, &id, ownership, Some(&state), &mut Vec::new());
            assert_eq!(
                (write(101), write(100)),
                (Ok(()), Err(RecordError::TooLong { bytes: 101, max: 100 }))
            );
        }
        let owe = |max| write_owe(Debt(1), OwnerId(1), Some(Time(1)), &state, max, &mut Vec::new());
        assert_eq!((owe(99), owe(98)), (Ok(()), Err(RecordError::TooLong { bytes: 99, max: 98 })));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 8 } else { 1024 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64), kind in 0_u8..12) {
            let _ = Record::read(&bytes);
            let mut bytes = bytes;
            bytes.insert(0, kind);
            let _ = Record::read(&bytes);
        }
    }
}
