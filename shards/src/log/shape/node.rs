//! What was seen of a type, as a tree; its `Display` is the text of the shape.

use std::fmt::{self, Display, Write as _};

use crate::log::fixed::Layout;

/// What was seen at one place of a type.
#[derive(Debug, Default)]
pub(super) enum Node {
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
pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) seen: Seen,
    /// The visit that last entered it.
    pub(super) entered: usize,
    /// `None` for a unit.
    pub(super) content: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
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
    pub(super) fn or_new(&mut self, is: impl Fn(&Node) -> bool, new: Node) -> &mut Node {
        if !is(self) {
            *self = new;
        }
        self
    }

    pub(super) fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match self {
            Node::Unseen | Node::Leaf(_) | Node::Again(_) => Box::new([].iter()),
            Node::Option(node) | Node::Seq(node) => Box::new(std::iter::once(&**node)),
            Node::Map(nodes) => Box::new(nodes.iter()),
            Node::Tuple(nodes) | Node::Struct(_, nodes) => Box::new(nodes.iter()),
            Node::Enum(variants) => Box::new(variants.iter().filter_map(|variant| variant.content.as_ref())),
        }
    }

    /// How values are written behind what `before` has, if with a fixed width.
    pub(super) fn layout(&self, before: Layout) -> Option<Layout> {
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
    pub(super) fn is_pending(&self) -> bool {
        match self {
            Node::Enum(variants) => variants.iter().any(Variant::is_pending),
            node => node.children().any(Node::is_pending),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        let is_stuck = match self {
            Node::Enum(variants) => variants.iter().any(|it| matches!(it.seen, Seen::Stuck | Seen::NotYet)),
            Node::Unseen => true,
            _ => false,
        };
        !is_stuck && self.children().all(Node::is_whole)
    }

    /// No value can be made of the variant that was entered by this visit. Says whether that is
    /// news.
    pub(super) fn stick(&mut self, visit: usize) -> bool {
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
    pub(super) fn is_pending(&self) -> bool {
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
