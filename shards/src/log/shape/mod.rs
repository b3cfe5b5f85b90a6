//! The shape of a type: what its `Deserialize` asks for, as one line of text and a number made of
//! it.
//!
//! The text names primitive types, fields and variants in their order, and nothing else. Two types
//! of one shape read the same bytes of postcard to values whose parts have the same names. It does
//! not name types: an old type may be kept under another name. It does not show newtypes, because
//! bytes do not show them either.
//!
//! ```text
//! bool i8 .. i128 u8 .. u128 f32 f64 char str bytes unit   primitives
//! ?T   [T]   map(K, V)   (T, U*3)          option, sequence, map, tuple: the second three times
//! {name: T, other: U}   {name|alias: T}    struct; with aliases, names and types are apart
//! <First, Second(T), Third{name: U}>       enum
//! ^2                                       the second container around: a type that holds itself
//! _   !                                    not seen; seen in part
//! ```
//!
//! The text is made by *tracing*: `Deserialize` runs on values that are made up, once for each
//! variant that is yet to be seen. A type may refuse a value: then it is given others. A type that
//! refuses all of them, or asks for "any value", is seen in part. The result depends on the type
//! and on serde's derive alone, and is never an error.
//!
//! The fingerprint is the XXH3-64 of the text. It is on disk, so both must stay as they are: tests
//! have golden values.
//!
//! `serde-reflection` traces too. It knows containers by their names, so `Pair<u8>` and `Pair<u16>`
//! are one to it. `postcard-schema` and `schemars` want a derive of their own on every type.

mod node;
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::log::fixed::Layout;

/// A text that is longer is kept in part; the fingerprint is of all of it.
const TEXT_MAX: usize = 2048;

/// The shape of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The XXH3-64 of the whole text.
    pub fingerprint: u64,
    /// Whether every part of the type was seen. A change in a part that was not seen is not
    /// noticed.
    pub is_whole: bool,
    /// The text, or its first 2,048 bytes.
    pub text: String,
    /// What a value takes, if its values have a fixed width: then records may have them so. `None`
    /// for what was written before format version 3.
    pub width: Option<Width>,
}

/// What the values of a type of fixed width take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Width {
    /// How many bytes.
    pub bytes: u32,
    /// A number made of the primitive types in their order. `None` for what format version 3 wrote.
    pub order: Option<u64>,
}

impl Width {
    /// Whether bytes of `written` are values of this type, as far as `written` says.
    pub(crate) fn reads(self, written: Width) -> bool {
        self.bytes == written.bytes && written.order.is_none_or(|order| self.order == Some(order))
    }
}

impl Shape {
    /// Of a type.
    pub fn of<T: DeserializeOwned>() -> Shape {
        let (root, is_whole) = trace::trace::<T>(drop);
        let mut text = root.to_string();
        let fingerprint = xxh3_64(text.as_bytes());
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        let layout = root.layout(Layout::default()).filter(|_| is_whole);
        let width = layout.and_then(|Layout { bytes, leaves }| {
            Some(Width { bytes: u32::try_from(bytes).ok()?, order: Some(leaves) })
        });
        Shape { fingerprint, is_whole, text, width }
    }
}

/// How values of a type are written with a fixed width; `None` if they vary, or if a value that was
/// made up is written otherwise than it is asked for.
pub(crate) fn layout_of<T: Serialize + DeserializeOwned>() -> Option<Layout> {
    let (root, is_whole) = trace::trace::<T>(drop);
    let asked = root.layout(Layout::default()).filter(|_| is_whole)?;
    let mut written = None;
    trace::trace::<T>(|value| {
        // A user's `Serialize` may panic, and that says nothing of the shape.
        let layout = catch_unwind(AssertUnwindSafe(|| Layout::of_value(&value)));
        written = layout.ok().and_then(Result::ok);
    });
    (written == Some(asked)).then_some(asked)
}

#[cfg(test)]
mod tests;
