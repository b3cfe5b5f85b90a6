//! What the enums that `actor!` writes share: how they are written into a log and read back, and
//! how an id is placed.
//!
//! Each variant holds one value, and is written as a derived `Serialize` writes such a variant. The
//! enums can be written if all of their values can be, and only then: an actor whose kinds or
//! messages are not `Serialize` runs in memory. A bound on a plain type that does not hold is an
//! error by itself, but not one that names a lifetime: hence [`Ref`] and [`Own`].

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, Unexpected, VariantAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use freehold_shard::{Actor, EntryKind, Indexed};

/// A value that is written.
pub struct Ref<'a, T>(pub &'a T);

impl<T: Serialize> Serialize for Ref<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A value that was read.
pub struct Own<'a, T>(pub T, PhantomData<&'a ()>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Own<'_, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Own(value, PhantomData))
    }
}

/// An enum each of whose variants holds one value.
pub trait OfVariants<'de>: Sized {
    /// What it is called.
    const NAME: &'static str;
    /// What its variants are called.
    const VARIANTS: &'static [&'static str];

    /// Reads the value of the variant of this number, which there is.
    fn read<V: VariantAccess<'de>>(number: usize, variant: V) -> Result<Self, V::Error>;
}

/// That entries have a second order, of that kind, as `by` says.
pub const fn is_indexed<A: Actor, E: Indexed<A, Index = I>, I: EntryKind<A>>() -> bool {
    true
}

/// An actor, some of whose entries may have a second order.
pub trait SecondOrders: Actor {
    /// What the kinds of places are called.
    const PLACES: &'static [&'static str];
}

/// Whether a kind is one of places: some entries are declared `by` it.
pub const fn is_place<A: SecondOrders>(kind: &str) -> bool {
    let mut at = 0;
    while at < A::PLACES.len() {
        if is_same(A::PLACES[at].as_bytes(), kind.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

/// The number of a variant.
pub const fn number_of(variants: &[&str], name: &str) -> usize {
    let mut at = 0;
    while !is_same(variants[at].as_bytes(), name.as_bytes()) {
        at += 1;
    }
    at
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Reads an enum.
pub fn read<'de, E: OfVariants<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<E, D::Error> {
    deserializer.deserialize_enum(E::NAME, E::VARIANTS, EnumVisitor(PhantomData))
}

struct EnumVisitor<E>(PhantomData<E>);

impl<'de, E: OfVariants<'de>> Visitor<'de> for EnumVisitor<E> {
    type Value = E;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enum {}", E::NAME)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<E, A::Error> {
        let (number, variant) = data.variant_seed(VariantNumber(E::VARIANTS))?;
        E::read(number, variant)
    }
}

/// Reads which variant it is.
struct VariantNumber(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for VariantNumber {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for VariantNumber {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("variant identifier")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<usize, E> {
        let number_of = usize::try_from(number).ok().filter(|number| *number < self.0.len());
        number_of.ok_or_else(|| no_variant(number, self.0.len()))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        let number = self.0.iter().position(|variant| *variant == name);
        number.ok_or_else(|| E::unknown_variant(name, self.0))
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<usize, E> {
        let number = self.0.iter().position(|variant| variant.as_bytes() == name);
        number.ok_or_else(|| E::unknown_variant(&String::from_utf8_lossy(name), self.0))
    }
}

/// There is no variant of this number, but so many. (Each value that was read wrote this text once,
/// and dropped it: that was a third to a half of what a recovery did.)
#[cold]
fn no_variant<E: Error>(number: u64, count: usize) -> E {
    let range = format!("variant index 0 <= i < {count}");
    E::invalid_value(Unexpected::Unsigned(number), &range.as_str())
}

/// An id that says by itself what of it decides its home.
pub trait HashPlace {
    /// Hashes that.
    fn hash_place<H: Hasher>(&self, hasher: &mut H);
}

/// What of an id decides its home.
pub struct PlaceOf<I>(pub I);

impl<I: HashPlace> Hash for PlaceOf<I> {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash_place(hasher);
    }
}
