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

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::epoch::Epoch;
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
    /// A state or message that is longer than a segment of the log, or an id longer than 65,535 bytes.
    #[error(
        "{bytes} bytes do not fit a record of at most {max}: keep states smaller, or make segments larger"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most there may be.
        max: usize,
    },
    /// Its `Serialize` refused.
    #[error("a value refused to be serialized: {0}")]
    Refused(String),
}

/// Appends to a vector what postcard makes.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        match data {
            // Most numbers; a call to copy one byte costs more than the byte.
            [one] => self.0.push(*one),
            _ => self.0.extend_from_slice(data),
        }
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends a value of the user's.
///
/// # Errors
/// [`RecordError::Refused`]; something may have been appended.
#[inline]
pub(crate) fn encode<T: Serialize>(value: &T, to: &mut Vec<u8>) -> Result<(), RecordError> {
    postcard::serialize_with_flavor(value, Append(to))
        .map_err(|error| RecordError::Refused(error.to_string()))
}

/// Reads a value of the user's, which must be all there is.
///
/// # Errors
/// `None` if it is not one.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// Appends that what follows in the batch was committed in this epoch.
pub fn write_epoch(epoch: Epoch, to: &mut Vec<u8>) {
    to.push(EPOCH);
    to.extend_from_slice(&epoch.0.to_le_bytes());
}

/// Appends what an object is now.
#[inline]
pub(crate) fn write_object<I: Serialize, S: Serialize>(
    id: &I,
    ownership: Ownership,
    state: Option<&S>,
    to: &mut Vec<u8>,
) -> Result<(), RecordError> {
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
    let bytes = to.len() - from;
    let length =
        u16::try_from(bytes).map_err(|_| RecordError::TooLong { bytes, max: usize::from(u16::MAX) })?;
    to[from - 2..from].copy_from_slice(&length.to_le_bytes());
    if let (PUT_OWNED, Ownership::Owned(owner)) = (kind, ownership) {
        to.extend_from_slice(&owner.0.to_le_bytes());
    }
    encode(state, to)
}

/// Appends a message that is owed; `message` is it in bytes.
pub(crate) fn write_owe(debt: Debt, sender: OwnerId, due: Option<Time>, message: &[u8], to: &mut Vec<u8>) {
    to.push(if due.is_some() { OWE_LATER } else { OWE });
    to.extend_from_slice(&debt.0.to_le_bytes());
    to.extend_from_slice(&sender.0.to_le_bytes());
    if let Some(due) = due {
        to.extend_from_slice(&due.0.to_le_bytes());
    }
    to.extend_from_slice(message);
}

pub(crate) fn write_paid(debt: Debt, to: &mut Vec<u8>) {
    to.push(PAID);
    to.extend_from_slice(&debt.0.to_le_bytes());
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
            write_object(&id, ownership, Some(&"state".to_string()), &mut bytes).expect("it can be written");
            let Some(Record::Put { id: found, ownership: whose, state }) = Record::read(&bytes) else {
                panic!("{bytes:?} is a put")
            };
            assert_eq!((decode(found), whose), (Some(id), ownership));
            assert_eq!(decode::<String>(state).as_deref(), Some("state"));
        }
        let mut bytes = Vec::new();
        write_object(&id, Ownership::Shared, None::<&u8>, &mut bytes).expect("it can be written");
        let Some(Record::Remove { id: found }) = Record::read(&bytes) else {
            panic!("{bytes:?} is a removal")
        };
        assert_eq!(decode(found), Some(id));
        for due in [None, Some(Time(5))] {
            let mut bytes = Vec::new();
            write_owe(Debt(3), OwnerId(4), due, b"message", &mut bytes);
            let owe = Record::Owe { debt: Debt(3), sender: OwnerId(4), due, message: b"message" };
            assert_eq!(Record::read(&bytes), Some(owe));
        }
        let mut bytes = Vec::new();
        write_paid(Debt(8), &mut bytes);
        assert_eq!(Record::read(&bytes), Some(Record::Paid { debt: Debt(8) }));
        bytes.clear();
        write_epoch(Epoch(2), &mut bytes);
        assert_eq!(Record::read(&bytes), Some(Record::Epoch(Epoch(2))));
    }

    #[test]
    fn a_value_with_something_behind_it_is_not_that_value() {
        assert_eq!(decode::<u8>(&[1]), Some(1));
        assert_eq!(decode::<u8>(&[1, 2]), None);
        assert_eq!(decode::<u8>(&[]), None);
    }

    #[test]
    fn an_id_may_be_as_long_as_its_length_can_say() {
        let id = vec![1_u8; 1 << 16];
        let error = write_object(&id, Ownership::Shared, Some(&0_u8), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, RecordError::TooLong { max: 65_535, .. }), "{error}");
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
