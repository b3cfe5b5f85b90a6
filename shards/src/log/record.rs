//! The records of a log: what a message changed, as it reads afterwards, and never how.
//!
//! ```text
//! 1 epoch      u64                                 what follows in this batch was committed in it
//! 2 put        id length u16, id, state            the object is now this, and belongs to owner 0
//! 3 put owned  id length u16, id, owner u64, state
//! 4 put shared, 5 put immutable                    as 2
//! 6 remove     id                                  the object does not exist any more
//! 7 owe        debt u64, sender u64, message       a message was told, and is to be run
//! 8 owe later  debt u64, sender u64, due u64, message
//! 9 paid       debt u64                            that message has run
//! ```
//! Each begins with its number, one byte. Numbers are little-endian; ids, states and messages are
//! what `postcard` makes of them (<https://postcard.jamesmunns.com/wire-format>). Times are the
//! database's own: nanoseconds that it has been running.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::epoch::Epoch;
use crate::log::encoder::Append;
pub use crate::log::refused::{RecordError, Unreadable, Value};
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

/// Appends what an object is now. Its id and its state have at most `value_max` bytes together,
/// whoever it belongs to. It can be read again: see [`trust`](crate::log::trust).
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
    /// Reads a record. `None` if it is none that this version knows: then the program that wrote
    /// it, or the disk, was wrong.
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
    use crate::log::bounds::ID_MAX;

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
