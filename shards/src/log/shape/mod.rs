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

use std::fmt::{self, Display, Write as _};
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

/// What was seen at one place of a type.
#[derive(Debug, Default)]
enum Node {
    #[default]
    Unseen,
    Leaf(&'static str),
    Option(Box<Node>),
    Seq(Box<Node>),
    Map(Box<[Node; 2]>),
    Tuple(Vec<Node>),
    Struct(&'static [&'static str], Vec<Node>),
    Enum(Vec<Variant>),
    /// The container so many levels above.
    Again(usize),
}

#[derive(Debug)]
struct Variant {
    name: &'static str,
    seen: Seen,
    /// The visit that last entered it.
    entered: usize,
    /// `None` for a unit.
    content: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    NotYet,
    /// A value of it was made.
    Once,
    /// The type has no variant of this number: its list has the names of aliases, too.
    Absent,
    /// No value of it could be made.
    Stuck,
}

impl Node {
    /// The node, when it holds something of this kind; otherwise `new`.
    fn or_new(&mut self, is: impl Fn(&Node) -> bool, new: Node) -> &mut Node {
        if !is(self) {
            *self = new;
        }
        self
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match self {
            Node::Unseen | Node::Leaf(_) | Node::Again(_) => Box::new([].iter()),
            Node::Option(node) | Node::Seq(node) => Box::new(std::iter::once(&**node)),
            Node::Map(nodes) => Box::new(nodes.iter()),
            Node::Tuple(nodes) | Node::Struct(_, nodes) => Box::new(nodes.iter()),
            Node::Enum(variants) => Box::new(variants.iter().filter_map(|variant| variant.content.as_ref())),
        }
    }

    /// How values are written behind what `before` has, if with a fixed width.
    fn layout(&self, before: Layout) -> Option<Layout> {
        match self {
            Node::Leaf(name) => before.then_named(name),
            Node::Tuple(nodes) | Node::Struct(_, nodes) => {
                nodes.iter().try_fold(before, |before, node| node.layout(before))
            }
            Node::Unseen | Node::Option(_) | Node::Seq(_) | Node::Map(_) | Node::Enum(_) | Node::Again(_) => {
                None
            }
        }
    }

    /// Whether a variant in here is yet to be seen.
    fn is_pending(&self) -> bool {
        match self {
            Node::Enum(variants) => variants.iter().any(Variant::is_pending),
            node => node.children().any(Node::is_pending),
        }
    }

    fn is_whole(&self) -> bool {
        let is_stuck = match self {
            Node::Enum(variants) => variants.iter().any(|it| matches!(it.seen, Seen::Stuck | Seen::NotYet)),
            Node::Unseen => true,
            _ => false,
        };
        !is_stuck && self.children().all(Node::is_whole)
    }

    /// No value can be made of the variant that was entered by this visit. Says whether that is
    /// news.
    fn stick(&mut self, visit: usize) -> bool {
        match self {
            Node::Unseen | Node::Leaf(_) | Node::Again(_) => false,
            Node::Option(node) | Node::Seq(node) => node.stick(visit),
            Node::Map(nodes) => nodes.iter_mut().any(|node| node.stick(visit)),
            Node::Tuple(nodes) | Node::Struct(_, nodes) => nodes.iter_mut().any(|node| node.stick(visit)),
            Node::Enum(variants) => variants.iter_mut().any(|variant| {
                if variant.entered == visit {
                    return std::mem::replace(&mut variant.seen, Seen::Stuck) != Seen::Stuck;
                }
                variant.content.as_mut().is_some_and(|content| content.stick(visit))
            }),
        }
    }
}

impl Variant {
    fn is_pending(&self) -> bool {
        match self.seen {
            Seen::NotYet => true,
            Seen::Once => self.content.as_ref().is_some_and(Node::is_pending),
            Seen::Absent | Seen::Stuck => false,
        }
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Unseen => f.write_char('_'),
            Node::Leaf(kind) => f.write_str(kind),
            Node::Option(node) => write!(f, "?{node}"),
            Node::Seq(node) => write!(f, "[{node}]"),
            Node::Map(nodes) => write!(f, "map({}, {})", nodes[0], nodes[1]),
            Node::Tuple(nodes) => write!(f, "({})", Several(nodes)),
            Node::Struct(names, nodes) => write!(f, "{{{}}}", Fields(names, nodes)),
            Node::Enum(variants) => {
                f.write_char('<')?;
                for (at, variant) in variants.iter().enumerate() {
                    write!(f, "{}{variant}", if at == 0 { "" } else { ", " })?;
                }
                f.write_char('>')
            }
            Node::Again(levels) => write!(f, "^{levels}"),
        }
    }
}

impl Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match &self.content {
            None => {}
            Some(content @ (Node::Struct(..) | Node::Tuple(_))) => content.fmt(f)?,
            Some(content) => write!(f, "({content})")?,
        }
        match self.seen {
            Seen::Once => Ok(()),
            Seen::Absent => f.write_char('-'),
            Seen::Stuck | Seen::NotYet => f.write_char('!'),
        }
    }
}

/// Types, with a number where one is there several times in a row.
struct Several<'a>(&'a [Node]);

impl Display for Several<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Node::to_string).collect();
        for (at, same) in texts.chunk_by(|a, b| a == b).enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            f.write_str(&same[0])?;
            if same.len() > 1 {
                write!(f, "*{}", same.len())?;
            }
        }
        Ok(())
    }
}

struct Fields<'a>(&'a [&'static str], &'a [Node]);

impl Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields(names, nodes) = self;
        if names.len() != nodes.len() {
            return write!(f, "{}: {}", names.join("|"), Several(nodes));
        }
        for (at, (name, node)) in names.iter().zip(*nodes).enumerate() {
            write!(f, "{}{name}: {node}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
mod trace;
