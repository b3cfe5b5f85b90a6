//! Why the log cannot hold a value: it is too long, or what was written of it cannot be read again.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thiserror::Error;

use crate::log::bounds::{ID_MAX, TooLong};
use crate::panics::drop_quietly;

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
    /// What one message changes on another shard is longer than a transaction can bring there.
    #[error(
        "what a message changes on another shard has {bytes} bytes, and at most {max} can be recorded: change fewer \
         entries in one message"
    )]
    TogetherTooLong {
        /// How long it is, in bytes, up to the record that was too much.
        bytes: usize,
        /// The most there may be.
        max: usize,
    },
    /// Its `Serialize` refused.
    #[error("a value refused to be serialized: {0}")]
    Refused(String),
    /// What its `Serialize` wrote cannot be read again, so it would have been lost at the next
    /// start.
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

impl From<TooLong> for Box<RecordError> {
    fn from(too_long: TooLong) -> Self {
        Box::new(too_long.into())
    }
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

/// Why a value that was written cannot be read again. The log's format, postcard, names no fields,
/// variants or types: reading goes by what `Deserialize` expects, in order.
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
    /// An id was read as another id: objects that differ only in what is not written would become
    /// one.
    #[error(
        "it reads as another id: a field with `skip` or `default` is not written, and objects that differ only in that would \
         become one"
    )]
    OtherId,
}

impl Unreadable {
    /// What postcard said; `None` if something was left behind the value.
    #[cold]
    pub(crate) fn of(error: Option<postcard::Error>) -> Self {
        match error {
            Some(postcard::Error::WontImplement | postcard::Error::NotYetImplemented) => {
                Unreadable::AsksWhatComes
            }
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

/// Does what calls a user's `Serialize` and `Deserialize`. The error is in a box: it is seldom, and
/// its absence fits a register so.
#[inline]
pub(crate) fn quietly(work: impl FnOnce() -> Result<(), Box<RecordError>>) -> Result<(), Box<RecordError>> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

#[cold]
fn panicked(payload: Box<dyn Any + Send>) -> Result<(), Box<RecordError>> {
    drop_quietly(payload);
    Err(Box::new(RecordError::Refused("its `Serialize` or `Deserialize` panicked".to_string())))
}
