//! Looks at a type by running its `Deserialize` on values that are made up: see [`shape`](super).

use std::any::type_name;
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use super::node::{Node, Seen, Variant};

/// So many values are made up at most for one type. That is far more than types have parts, and
/// bounds the time of a start.
pub(super) const VISITS_MAX: usize = 100_000;
/// A type that goes deeper is seen in part.
const DEPTH_MAX: usize = 64;

/// Where a value was made up: in which container (its visitor), in which variant and at which place
/// there, and for which visitor. Names of visitors tell places apart within one trace. They are not
/// in the text.
type Place = (&'static str, usize, usize, &'static str);

/// What a trace knows beside the tree.
#[derive(Default)]
struct Trace {
    visits: usize,
    depth: usize,
    /// The containers around, by their visitors: with the variant and the place in each.
    open: Vec<(&'static str, usize, usize)>,
    /// The variants around, by the visits that entered them.
    entered: Vec<usize>,
    /// Inside of a container that is in itself: it is only to end. Nothing is noted there.
    is_quiet: bool,
    /// The enums around that are only to end, with how many variants each has.
    ending: Vec<(&'static str, usize)>,
    /// The variant by which an enum ends, as far as it was tried.
    ends: HashMap<&'static str, usize>,
    /// The value a place gets, if not the first.
    values: HashMap<Place, usize>,
    /// Where the last value was made up, and how many there are for it.
    last: Option<(Place, usize)>,
    /// It is known why the value could not be made, and the next will not fail for that.
    is_to_repeat: bool,
    /// How many variants were seen.
    seen: usize,
}

/// What was seen of a type, and whether that is all of it. Each value that was made up is given to
/// `made_up`.
pub(super) fn trace<T: DeserializeOwned>(mut made_up: impl FnMut(T)) -> (Node, bool) {
    let (mut root, mut trace, mut made) = (Node::Unseen, Trace::default(), false);
    while trace.visits < VISITS_MAX {
        let seen = trace.seen;
        trace = Trace { open: Vec::new(), entered: Vec::new(), ending: Vec::new(), depth: 0, ..trace };
        (trace.is_quiet, trace.is_to_repeat, trace.last) = (false, false, None);
        let look = Look { node: &mut root, trace: &mut trace };
        // A user's `Deserialize` may panic at what it does not expect, which is a refusal as any
        // other.
        let value = || T::deserialize(look).map(&mut made_up).is_ok();
        made = catch_unwind(AssertUnwindSafe(value)).unwrap_or(false);
        if made {
            if !root.is_pending() || trace.seen == seen {
                break;
            }
        } else if !trace.is_to_repeat && !trace.try_another() && trace.seen == seen {
            // The innermost variant whose value was not complete.
            if !trace.entered.iter().rev().any(|visit| root.stick(*visit)) {
                break;
            }
        }
    }
    let is_whole = made && root.is_whole();
    (root, is_whole)
}

impl Trace {
    /// The place of the last value gets another, if there is one.
    fn try_another(&mut self) -> bool {
        let Some((place, values)) = self.last else { return false };
        let value = self.values.entry(place).or_default();
        *value += 1;
        if *value < values {
            return true;
        }
        *value = 0;
        false
    }

    fn visit(&mut self) -> Result<(), Refused> {
        self.visits += 1;
        if self.visits > VISITS_MAX || self.depth > DEPTH_MAX {
            self.last = None;
            return Err(Refused);
        }
        Ok(())
    }

    /// An enum is to end and is in itself: it, or one between, is to end by another variant.
    fn end_otherwise(&mut self) -> Refused {
        for (name, variants) in self.ending.iter().rev() {
            let end = self.ends.entry(name).or_default();
            if *end + 1 < *variants {
                *end += 1;
                self.is_to_repeat = true;
                return Refused;
            }
        }
        self.last = None;
        Refused
    }
}

/// A value was refused, or cannot be made.
#[derive(Debug)]
struct Refused;

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that was made up is refused")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: Display>(_: T) -> Self {
        Refused
    }
}

/// Makes a value up for one place, and notes what was asked for.
struct Look<'a> {
    node: &'a mut Node,
    trace: &'a mut Trace,
}

impl Look<'_> {
    fn leaf<T: Copy, R>(
        self,
        kind: &'static str,
        visitor: &'static str,
        values: &[T],
        visit: impl FnOnce(T) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        self.trace.visit()?;
        *self.node = Node::Leaf(kind);
        let (container, variant, at) = self.trace.open.last().copied().unwrap_or_default();
        let place = (container, variant, at, visitor);
        self.trace.last = Some((place, values.len()));
        visit(values[self.trace.values.get(&place).copied().unwrap_or(0)])
    }

    /// Goes into a container. One that is in itself is made as small as can be, and not looked at
    /// again.
    fn container<R>(
        self,
        visitor: &'static str,
        is: impl Fn(&Node) -> bool,
        new: Node,
        go: impl FnOnce(Look<'_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        let Look { node, trace } = self;
        trace.visit()?;
        let was_quiet = trace.is_quiet;
        let mut hidden;
        let around = trace.open.iter().rposition(|(open, ..)| *open == visitor);
        let node = match around.filter(|_| !was_quiet) {
            Some(at) => {
                *node = Node::Again(trace.open.len() - at);
                trace.is_quiet = true;
                hidden = new;
                &mut hidden
            }
            None => node.or_new(is, new),
        };
        trace.open.push((visitor, 0, 0));
        trace.depth += 1;
        let result = go(Look { node, trace });
        if result.is_ok() {
            // After a failure all of it begins anew.
            trace.open.pop();
            trace.depth -= 1;
            trace.is_quiet = was_quiet;
        }
        result
    }

    fn tuple<'de, V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        let is = |node: &Node| matches!(node, Node::Tuple(_));
        self.container(type_name::<V>(), is, Node::Tuple(Vec::new()), |look| look.elements(length, visitor))
    }

    /// Gives the elements of a tuple or struct.
    fn elements<'de, V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        let Look { node, trace } = self;
        match node {
            Node::Tuple(nodes) | Node::Struct(_, nodes) => {
                visitor.visit_seq(Elements { nodes, trace, at: 0, length })
            }
            _ => unreachable!("the node was made a tuple or struct"),
        }
    }
}

macro_rules! leaves {
    ($($deserialize:ident $kind:literal $values:expr, $visit:ident;)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.leaf($kind, type_name::<V>(), &$values, |value| visitor.$visit(value))
        }
    )*};
}

/// What a type that reads text may want: nothing, a word, a number, dates, a unique id, addresses,
/// a zone, a currency.
const TEXTS: [&str; 14] = [
    "a",
    "",
    "0",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00",
    "1970-01-01",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "127.0.0.1:80",
    "a@b.cd",
    "https://a.bc/",
    "UTC",
    "USD",
];
const BYTES: [&[u8]; 8] = [&[], &[0], &[0; 4], &[0; 8], &[0; 16], &[0; 20], &[0; 32], &[0; 64]];

impl<'de> de::Deserializer<'de> for Look<'_> {
    type Error = Refused;

    // What postcard says.
    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        deserialize_bool "bool" [false, true], visit_bool;
        deserialize_i8 "i8" [1, 0, 2, -1], visit_i8;
        deserialize_i16 "i16" [1, 0, 2, -1, 100], visit_i16;
        deserialize_i32 "i32" [1, 0, 2, -1, 100, 1970], visit_i32;
        deserialize_i64 "i64" [1, 0, 2, -1, 100, 1970], visit_i64;
        deserialize_i128 "i128" [1, 0, 2, -1, 100, 1970], visit_i128;
        deserialize_u8 "u8" [1, 0, 2, 100], visit_u8;
        deserialize_u16 "u16" [1, 0, 2, 100], visit_u16;
        deserialize_u32 "u32" [1, 0, 2, 100, 1970], visit_u32;
        deserialize_u64 "u64" [1, 0, 2, 100, 1970], visit_u64;
        deserialize_u128 "u128" [1, 0, 2, 100, 1970], visit_u128;
        deserialize_f32 "f32" [1.0, 0.0, 0.5], visit_f32;
        deserialize_f64 "f64" [1.0, 0.0, 0.5], visit_f64;
        deserialize_char "char" ['a', 'A', '0'], visit_char;
        deserialize_str "str" TEXTS, visit_borrowed_str;
        deserialize_string "str" TEXTS, visit_str;
        deserialize_bytes "bytes" BYTES, visit_borrowed_bytes;
        deserialize_byte_buf "bytes" BYTES, visit_bytes;
    }

    // Postcard refuses these three.
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        self.trace.last = None;
        Err(Refused)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf("unit", type_name::<V>(), &[()], |()| visitor.visit_unit())
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let is = |node: &Node| matches!(node, Node::Option(_));
        self.container(
            type_name::<V>(),
            is,
            Node::Option(Box::default()),
            |Look { node, trace }| match node {
                Node::Option(node) if !trace.is_quiet => visitor.visit_some(Look { node, trace }),
                _ => visitor.visit_none(),
            },
        )
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let is = |node: &Node| matches!(node, Node::Seq(_));
        self.container(type_name::<V>(), is, Node::Seq(Box::default()), |Look { node, trace }| match node {
            Node::Seq(node) => {
                let length = usize::from(!trace.is_quiet);
                let nodes = std::slice::from_mut(&mut **node);
                visitor.visit_seq(Entries { nodes, trace, at: 0, length })
            }
            _ => unreachable!("the node was made a sequence"),
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let is = |node: &Node| matches!(node, Node::Map(_));
        self.container(type_name::<V>(), is, Node::Map(Box::default()), |Look { node, trace }| match node {
            Node::Map(nodes) => {
                let length = if trace.is_quiet { 0 } else { 2 };
                visitor.visit_map(Entries { nodes: &mut **nodes, trace, at: 0, length })
            }
            _ => unreachable!("the node was made a map"),
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        self.tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let is = |node: &Node| matches!(node, Node::Struct(..));
        let new = Node::Struct(fields, Vec::new());
        self.container(type_name::<V>(), is, new, |look| look.elements(fields.len(), visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let name = type_name::<V>();
        let new = |name: &&'static str| Variant { name, seen: Seen::NotYet, entered: 0, content: None };
        let new = Node::Enum(variants.iter().map(new).collect());
        self.container(
            name,
            |node| matches!(node, Node::Enum(_)),
            new,
            |Look { node, trace }| {
                let Node::Enum(variants) = node else { unreachable!("the node was made an enum") };
                let at = if trace.is_quiet {
                    let is_around = trace.ending.iter().any(|(ending, _)| *ending == name);
                    if is_around {
                        return Err(trace.end_otherwise());
                    }
                    trace.ending.push((name, variants.len()));
                    trace.ends.get(name).copied().unwrap_or(0)
                } else {
                    let find = |is: fn(&Variant) -> bool| variants.iter().position(is);
                    let is_next = find(|variant| variant.seen == Seen::NotYet);
                    let is_known = || find(|variant| variant.seen == Seen::Once);
                    is_next.or_else(|| find(Variant::is_pending)).or_else(is_known).unwrap_or(0)
                };
                let Some(variant) = variants.get_mut(at) else {
                    trace.last = None;
                    return Err(Refused);
                };
                let visit = trace.visits;
                trace.open.last_mut().expect("the enum is open").1 = at;
                if !trace.is_quiet {
                    variant.entered = visit;
                    trace.entered.push(visit);
                }
                let result = visitor.visit_enum(Chosen { at, variant, trace });
                if result.is_ok() {
                    if trace.is_quiet {
                        trace.ending.pop();
                    } else {
                        trace.entered.pop();
                        trace.seen += usize::from(variant.seen == Seen::NotYet);
                        variant.seen = Seen::Once;
                    }
                }
                result
            },
        )
    }
}

/// The elements of a tuple or struct, which are each a type of their own.
struct Elements<'a> {
    nodes: &'a mut Vec<Node>,
    trace: &'a mut Trace,
    at: usize,
    length: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        if self.at == self.length {
            return Ok(None);
        }
        if self.nodes.len() == self.at {
            self.nodes.push(Node::Unseen);
        }
        if let Some((.., at)) = self.trace.open.last_mut() {
            *at = self.at;
        }
        let look = Look { node: &mut self.nodes[self.at], trace: self.trace };
        self.at += 1;
        seed.deserialize(look).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.length - self.at)
    }
}

/// The entries of a sequence or map: one, or none.
struct Entries<'a> {
    nodes: &'a mut [Node],
    trace: &'a mut Trace,
    at: usize,
    length: usize,
}

impl Entries<'_> {
    fn next<'de, T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        if self.at == self.length {
            return Ok(None);
        }
        let look = Look { node: &mut self.nodes[self.at], trace: self.trace };
        self.at += 1;
        seed.deserialize(look).map(Some)
    }
}

impl<'de> de::SeqAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        self.next(seed)
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        self.next(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        self.next(seed)?.ok_or(Refused)
    }
}

/// The variant that an enum is asked to be.
struct Chosen<'a> {
    at: usize,
    variant: &'a mut Variant,
    trace: &'a mut Trace,
}

impl<'a> Chosen<'a> {
    fn content(self, is: impl Fn(&Node) -> bool, new: Node) -> Look<'a> {
        let content = self.variant.content.get_or_insert_default();
        Look { node: content.or_new(is, new), trace: self.trace }
    }
}

impl<'de> de::EnumAccess<'de> for Chosen<'_> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Refused> {
        // A number, as postcard has it.
        let number: de::value::U32Deserializer<Refused> = (self.at as u32).into_deserializer();
        match seed.deserialize(number) {
            Ok(value) => Ok((value, self)),
            Err(refused) => {
                if self.trace.is_quiet {
                    return Err(self.trace.end_otherwise());
                }
                self.trace.is_to_repeat = self.variant.seen != Seen::Absent;
                self.trace.last = None;
                self.variant.seen = Seen::Absent;
                Err(refused)
            }
        }
    }
}

impl<'de> de::VariantAccess<'de> for Chosen<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        self.variant.content = None;
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refused> {
        seed.deserialize(self.content(|_| true, Node::Unseen))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        let is = |node: &Node| matches!(node, Node::Tuple(_));
        self.content(is, Node::Tuple(Vec::new())).elements(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let is = |node: &Node| matches!(node, Node::Struct(..));
        self.content(is, Node::Struct(fields, Vec::new())).elements(fields.len(), visitor)
    }
}
