//! Values of a fixed width: numbers, and tuples and structs of them, as their bytes one behind
//! another.
//!
//! ```text
//! bool i8 u8  1 byte      i16 u16  2      i32 u32 f32 char  4      i64 u64 f64  8      i128 u128  16
//! unit  none              tuple, array, struct, newtype   what is in them, in its order
//! ```
//! Numbers are little-endian, a `bool` is 0 or 1, a `char` its number. Everything else (text,
//! options, enums, lists, maps) takes more bytes for one value than for another, and is written by
//! postcard.
//!
//! A type has a [`Layout`] if two things agree: what its `Deserialize` asks for
//! ([`Shape`](crate::log::shape::Shape) sees that), and what its `Serialize` writes of a value that
//! was made up. That is decided once, at a start. A hand-written `Serialize` may write another
//! value in another way; such a value goes by postcard, and its record says so
//! ([`record`](crate::log::record)). So no type needs to declare anything. A value that
//! only postcard reads again (by a hand-written `Deserialize`) is refused when it is read back.
//!
//! A value is measured before it is written. For a type that derives `Serialize` the measure is the
//! same for all values, and the compiler knows it: nothing is left of the measuring, nor of the
//! checks that a place is long enough. (docs/BENCHMARKS.md has what a record costs.)

mod layout;
mod read;
mod write;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::layout::Layout;
use self::layout::NotFixed;
use self::read::Reader;
use self::write::{FixedPlace, FixedSerializer, Measure};

impl Layout {
    /// How this value is written.
    ///
    /// # Errors
    /// Not with a fixed width.
    #[inline(always)]
    pub(crate) fn of_value<T: Serialize>(value: &T) -> Result<Layout, NotFixed> {
        let mut measure = Measure(Layout::default());
        value.serialize(FixedSerializer(&mut measure))?;
        Ok(measure.0)
    }
}

/// Appends a value, if it is written as `layout` says. Says whether it was; otherwise nothing is
/// appended.
pub(crate) fn append<T: Serialize>(value: &T, layout: Option<Layout>, to: &mut Vec<u8>) -> bool {
    let Some(layout) = layout else { return false };
    let Ok(found) = Layout::of_value(value) else { return false };
    if found != layout {
        return false;
    }
    let from = to.len();
    let is_written = value.serialize(FixedSerializer(&mut *to)).is_ok() && to.len() == from + found.bytes;
    if !is_written {
        to.truncate(from);
    }
    is_written
}

/// Writes a value into `place`, which is as long as the value.
///
/// # Errors
/// The value is longer or shorter; something may have been written.
#[inline(always)]
pub(crate) fn write<T: Serialize>(value: &T, place: &mut [u8]) -> Result<(), NotFixed> {
    let mut room = FixedPlace(place);
    value.serialize(FixedSerializer(&mut room))?;
    if room.0.is_empty() { Ok(()) } else { Err(NotFixed) }
}

/// Reads a value that must be all there is.
///
/// # Errors
/// The bytes are none of this type, or too many.
#[inline]
pub(crate) fn read<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, NotFixed> {
    let value = T::deserialize(Reader(&mut bytes))?;
    if bytes.is_empty() { Ok(value) } else { Err(NotFixed) }
}

#[cfg(test)]
mod tests;
