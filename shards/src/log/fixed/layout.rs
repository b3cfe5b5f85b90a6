//! How values of a type are written with a fixed width, and that one has none.

use std::fmt;

use serde::{de, ser};

/// A primitive type of fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Bool = 1,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
}

/// All of them, by the names that shapes have for them.
const LEAVES: [(&str, Leaf, usize); 14] = [
    ("bool", Leaf::Bool, 1),
    ("i8", Leaf::I8, 1),
    ("i16", Leaf::I16, 2),
    ("i32", Leaf::I32, 4),
    ("i64", Leaf::I64, 8),
    ("i128", Leaf::I128, 16),
    ("u8", Leaf::U8, 1),
    ("u16", Leaf::U16, 2),
    ("u32", Leaf::U32, 4),
    ("u64", Leaf::U64, 8),
    ("u128", Leaf::U128, 16),
    ("f32", Leaf::F32, 4),
    ("f64", Leaf::F64, 8),
    ("char", Leaf::Char, 4),
];

/// How values of a type are written with a fixed width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// How many bytes a value takes.
    pub(crate) bytes: usize,
    /// A hash of its primitive types, in their order. It is on disk
    /// ([`Width`](crate::log::shape::Width)), so it stays as it is.
    pub(crate) leaves: u64,
}

impl Layout {
    /// With a primitive type behind it.
    #[inline(always)]
    pub(super) const fn then(self, leaf: Leaf, bytes: usize) -> Layout {
        let leaves = (self.leaves.rotate_left(5) ^ leaf as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Layout { bytes: self.bytes + bytes, leaves }
    }

    /// With a primitive type behind it, which a shape calls `name`; `None` if values of that vary.
    pub(crate) fn then_named(self, name: &str) -> Option<Layout> {
        if name == "unit" {
            return Some(self);
        }
        let (_, leaf, bytes) = LEAVES.iter().find(|(of, ..)| *of == name)?;
        Some(self.then(*leaf, *bytes))
    }
}

/// A value has no fixed width, or bytes are no value of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotFixed;

impl fmt::Display for NotFixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a value of this fixed width")
    }
}

impl std::error::Error for NotFixed {}

impl ser::Error for NotFixed {
    #[cold]
    fn custom<T: fmt::Display>(_: T) -> Self {
        NotFixed
    }
}

impl de::Error for NotFixed {
    #[cold]
    fn custom<T: fmt::Display>(_: T) -> Self {
        NotFixed
    }
}
