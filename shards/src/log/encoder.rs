//! Writes a user's value as postcard does, and notes its *shape*: which calls its `Serialize` made,
//! and where in the type.
//!
//! postcard writes no names, types or lengths of structs, so bytes say nothing of how they were
//! made. Whether a value can be read again depends, nearly always, on its shape alone: an enum with
//! `untagged`, a field that `skip_serializing_if` left out and a variant behind a skipped one are
//! all calls that a readable value of the type does not make.
//!
//! A shape is cut into *units*: the value itself, and the content of each option, variant, element
//! and entry in it. The hash of a unit says where it is in the type, and which calls were made in
//! it, outside of the units inside it. So a type has about as many units as it has options and
//! variants, however long its lists are. [`Trust`](crate::log::trust::Trust) knows the units that
//! were read back before.

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Tuples up to this length may hold a different type in each place; all places of a longer one are
/// one unit, as of a list.
const TUPLE_MAX: usize = 16;

/// What a call to a serializer was, as it goes into a hash.
type Mark = u64;
const BOOL: Mark = 1;
const I8: Mark = 2;
const I16: Mark = 3;
const I32: Mark = 4;
const I64: Mark = 5;
const I128: Mark = 6;
const U8: Mark = 7;
const U16: Mark = 8;
const U32: Mark = 9;
const U64: Mark = 10;
const U128: Mark = 11;
const F32: Mark = 12;
const F64: Mark = 13;
const CHAR: Mark = 14;
const STR: Mark = 15;
const BYTES: Mark = 16;
const UNIT: Mark = 17;
const OPTION: Mark = 18;
const NONE: Mark = 19;
const SOME: Mark = 20;
const ENUM: Mark = 21;
const SEQ: Mark = 22;
const MAP: Mark = 23;
const KEY: Mark = 24;
const VALUE: Mark = 25;
const LEFT_OUT: Mark = 26;
/// With a number behind it: the length of a tuple or struct, or which variant it is.
const TUPLE: Mark = 1 << 40;
const STRUCT: Mark = 2 << 40;
const VARIANT: Mark = 3 << 40;

#[inline(always)]
fn fold(at: u64, mark: Mark) -> u64 {
    (at.rotate_left(5) ^ mark).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Units that are known already.
pub(crate) trait Known {
    /// Whether this one is.
    fn knows(&self, unit: u64) -> bool;
}

/// What an [`Encoder`] has noted of a value.
#[derive(Debug, Default)]
pub(crate) struct ValueShape {
    /// Of all units; of the elements of a list, of those that differ from the one before.
    pub(crate) sum: u64,
    /// The units that were not known.
    pub(crate) fresh: Vec<u64>,
    /// A field was left out, as `skip_serializing_if` does.
    pub(crate) has_left_out: bool,
}

/// Appends to a vector what postcard makes.
pub(crate) struct Append<'a>(pub(crate) &'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    #[inline(always)]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        match data {
            // Most numbers; a call to copy one byte costs more than the byte.
            [one] => self.0.push(*one),
            _ => self.0.extend_from_slice(data),
        }
        Ok(())
    }

    #[inline(always)]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// A serializer that writes what postcard writes.
pub(crate) struct Encoder<'a, K> {
    postcard: postcard::Serializer<Append<'a>>,
    known: &'a K,
    /// Of the unit that is being written, so far.
    at: u64,
    shape: ValueShape,
    /// Whether the elements of lists and the entries of maps are put into the order of their bytes,
    /// so that two maps with the same entries are the same bytes, in whatever order they were gone
    /// through.
    is_sorted: bool,
}

type Done = Result<(), postcard::Error>;

impl<'a, K: Known> Encoder<'a, K> {
    #[inline(always)]
    pub(crate) fn new(known: &'a K, to: &'a mut Vec<u8>) -> Self {
        let postcard = postcard::Serializer { output: Append(to) };
        Encoder { postcard, known, at: 0, shape: ValueShape::default(), is_sorted: false }
    }

    /// One that sorts: not what is to be read, but what can be compared.
    pub(crate) fn sorted(known: &'a K, to: &'a mut Vec<u8>) -> Self {
        Encoder { is_sorted: true, ..Encoder::new(known, to) }
    }

    /// The value is written.
    #[inline(always)]
    pub(crate) fn finish(mut self) -> ValueShape {
        self.end_unit();
        self.shape
    }

    #[inline(always)]
    fn note(&mut self, mark: Mark) {
        self.at = fold(self.at, mark);
    }

    #[inline(always)]
    fn end_unit(&mut self) {
        let unit = self.at;
        self.shape.sum = self.shape.sum.wrapping_add(unit);
        if !self.known.knows(unit) {
            self.note_fresh(unit);
        }
    }

    #[cold]
    fn note_fresh(&mut self, unit: u64) {
        self.shape.fresh.push(unit);
    }

    /// Begins a unit; what comes behind it goes on as if it had been empty. Returns where that is.
    #[inline(always)]
    fn begin_unit(&mut self, place: Mark, mark: Mark) -> u64 {
        let behind = fold(self.at, place);
        self.at = fold(behind, mark);
        behind
    }

    #[inline(always)]
    fn elements(&mut self, mark: Mark) -> ElementEncoder<'_, 'a, K> {
        self.note(mark);
        let at = self.at;
        ElementEncoder { last: [0; 2], begins: Vec::new(), at, encoder: self }
    }

    #[inline(always)]
    fn variant(&mut self, variant: u32) -> Result<VariantEncoder<'_, 'a, K>, postcard::Error> {
        let behind = self.begin_unit(ENUM, VARIANT | Mark::from(variant));
        // As postcard writes which variant it is.
        Serializer::serialize_u32(&mut self.postcard, variant)?;
        Ok(VariantEncoder { behind, encoder: self })
    }
}

macro_rules! leaves {
    ($($method:ident: $type:ty, $mark:ident;)*) => {
        $(
            #[inline(always)]
            fn $method(self, value: $type) -> Done {
                self.note($mark);
                Serializer::$method(&mut self.postcard, value)
            }
        )*
    };
}

impl<'e, 'a, K: Known> Serializer for &'e mut Encoder<'a, K> {
    type Ok = ();
    type Error = postcard::Error;
    type SerializeSeq = ElementEncoder<'e, 'a, K>;
    type SerializeTuple = Tuple<'e, 'a, K>;
    type SerializeTupleStruct = FieldEncoder<'e, 'a, K>;
    type SerializeTupleVariant = VariantEncoder<'e, 'a, K>;
    type SerializeMap = ElementEncoder<'e, 'a, K>;
    type SerializeStruct = FieldEncoder<'e, 'a, K>;
    type SerializeStructVariant = VariantEncoder<'e, 'a, K>;

    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        serialize_bool: bool, BOOL;
        serialize_i8: i8, I8;
        serialize_i16: i16, I16;
        serialize_i32: i32, I32;
        serialize_i64: i64, I64;
        serialize_i128: i128, I128;
        serialize_u8: u8, U8;
        serialize_u16: u16, U16;
        serialize_u32: u32, U32;
        serialize_u64: u64, U64;
        serialize_u128: u128, U128;
        serialize_f32: f32, F32;
        serialize_f64: f64, F64;
        serialize_char: char, CHAR;
        serialize_str: &str, STR;
        serialize_bytes: &[u8], BYTES;
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Done {
        self.note(STR);
        Serializer::collect_str(&mut self.postcard, value)
    }

    #[inline(always)]
    fn serialize_none(self) -> Done {
        let behind = self.begin_unit(OPTION, NONE);
        self.end_unit();
        self.at = behind;
        Serializer::serialize_none(&mut self.postcard)
    }

    #[inline(always)]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        let behind = self.begin_unit(OPTION, SOME);
        // As postcard writes that there is something.
        Serializer::serialize_u8(&mut self.postcard, 1)?;
        value.serialize(&mut *self)?;
        self.end_unit();
        self.at = behind;
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit(self) -> Done {
        self.note(UNIT);
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.note(UNIT);
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_variant(self, _: &'static str, variant: u32, _: &'static str) -> Done {
        self.variant(variant)?.finish()
    }

    #[inline(always)]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        value: &T,
    ) -> Done {
        let mut of = self.variant(variant)?;
        of.field(value)?;
        of.finish()
    }

    #[inline(always)]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, postcard::Error> {
        Serializer::serialize_seq(&mut self.postcard, len)?;
        Ok(self.elements(SEQ))
    }

    #[inline(always)]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, postcard::Error> {
        let mark = TUPLE | len as Mark;
        Ok(match len {
            0..=TUPLE_MAX => {
                self.note(mark);
                Tuple::Places(FieldEncoder { encoder: self })
            }
            _ => Tuple::Elements(self.elements(mark)),
        })
    }

    #[inline(always)]
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, postcard::Error> {
        self.note(STRUCT | len as Mark);
        Ok(FieldEncoder { encoder: self })
    }

    #[inline(always)]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        variant: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, postcard::Error> {
        let of = self.variant(variant)?;
        of.encoder.note(STRUCT | len as Mark);
        Ok(of)
    }

    #[inline(always)]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, postcard::Error> {
        Serializer::serialize_map(&mut self.postcard, len)?;
        Ok(self.elements(MAP))
    }

    #[inline(always)]
    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Self::SerializeStruct, postcard::Error> {
        self.note(STRUCT | len as Mark);
        Ok(FieldEncoder { encoder: self })
    }

    #[inline(always)]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        variant: u32,
        of: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, postcard::Error> {
        self.serialize_tuple_variant(name, variant, of, len)
    }
}

/// The fields of a struct, or the places of a tuple: they are of the unit around them.
pub(crate) struct FieldEncoder<'e, 'a, K> {
    encoder: &'e mut Encoder<'a, K>,
}

impl<K: Known> FieldEncoder<'_, '_, K> {
    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut *self.encoder)
    }
}

/// The fields of a variant, which are a unit.
pub(crate) struct VariantEncoder<'e, 'a, K> {
    encoder: &'e mut Encoder<'a, K>,
    behind: u64,
}

impl<K: Known> VariantEncoder<'_, '_, K> {
    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut *self.encoder)
    }

    #[inline(always)]
    fn finish(self) -> Done {
        self.encoder.end_unit();
        self.encoder.at = self.behind;
        Ok(())
    }
}

/// The elements of a list, or the keys and values of a map: each is a unit, and all of them are in
/// one place of the type.
pub(crate) struct ElementEncoder<'e, 'a, K> {
    encoder: &'e mut Encoder<'a, K>,
    at: u64,
    /// The units before, of keys and of values or elements.
    last: [u64; 2],
    /// Where elements or entries begin, if they are to be sorted.
    begins: Vec<usize>,
}

impl<K: Known> ElementEncoder<'_, '_, K> {
    #[inline(always)]
    fn element<T: Serialize + ?Sized>(&mut self, mark: Mark, value: &T) -> Done {
        if self.encoder.is_sorted {
            self.begin(mark);
        }
        self.encoder.at = fold(self.at, mark);
        value.serialize(&mut *self.encoder)?;
        let last = &mut self.last[usize::from(mark == KEY)];
        if self.encoder.at != *last || self.encoder.is_sorted {
            *last = self.encoder.at;
            self.encoder.end_unit();
        }
        Ok(())
    }

    /// A value is of the entry of its key.
    #[cold]
    fn begin(&mut self, mark: Mark) {
        let is_of_entry = mark == VALUE;
        if !is_of_entry {
            self.begins.push(self.encoder.postcard.output.0.len());
        }
    }

    #[inline(always)]
    fn finish(self) -> Done {
        self.encoder.at = self.at;
        if !self.begins.is_empty() {
            sort(self.encoder.postcard.output.0, &self.begins);
        }
        Ok(())
    }
}

/// Puts the pieces of `bytes` that begin there into the order of their bytes.
#[cold]
fn sort(bytes: &mut Vec<u8>, begins: &[usize]) {
    let mut pieces: Vec<Vec<u8>> = Vec::with_capacity(begins.len());
    begins.iter().rev().for_each(|begin| pieces.push(bytes.split_off(*begin)));
    pieces.sort_unstable();
    bytes.extend(pieces.into_iter().flatten());
}

/// A tuple, or an array, which serde takes for one.
pub(crate) enum Tuple<'e, 'a, K> {
    Places(FieldEncoder<'e, 'a, K>),
    Elements(ElementEncoder<'e, 'a, K>),
}

impl<K: Known> SerializeSeq for ElementEncoder<'_, '_, K> {
    type Ok = ();
    type Error = postcard::Error;

    #[inline(always)]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.element(SEQ, value)
    }

    #[inline(always)]
    fn end(self) -> Done {
        self.finish()
    }
}

impl<K: Known> SerializeMap for ElementEncoder<'_, '_, K> {
    type Ok = ();
    type Error = postcard::Error;

    #[inline(always)]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.element(KEY, key)
    }

    #[inline(always)]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.element(VALUE, value)
    }

    #[inline(always)]
    fn end(self) -> Done {
        self.finish()
    }
}

impl<K: Known> SerializeTuple for Tuple<'_, '_, K> {
    type Ok = ();
    type Error = postcard::Error;

    #[inline(always)]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        match self {
            Tuple::Places(places) => places.field(value),
            Tuple::Elements(elements) => elements.element(SEQ, value),
        }
    }

    #[inline(always)]
    fn end(self) -> Done {
        match self {
            Tuple::Places(_) => Ok(()),
            Tuple::Elements(mut elements) => {
                // Their order is not by chance.
                elements.begins.clear();
                elements.finish()
            }
        }
    }
}

macro_rules! fields {
    ($($trait:ident for $type:ident, $method:ident;)*) => {
        $(
            impl<K: Known> $trait for $type<'_, '_, K> {
                type Ok = ();
                type Error = postcard::Error;

                #[inline(always)]
                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                    self.field(value)
                }

                #[inline(always)]
                fn end(self) -> Done {
                    self.finish()
                }
            }
        )*
    };
    (named $($trait:ident for $type:ident;)*) => {
        $(
            impl<K: Known> $trait for $type<'_, '_, K> {
                type Ok = ();
                type Error = postcard::Error;

                #[inline(always)]
                fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Done {
                    self.field(value)
                }

                #[cold]
                fn skip_field(&mut self, _: &'static str) -> Done {
                    self.encoder.note(LEFT_OUT);
                    self.encoder.shape.has_left_out = true;
                    Ok(())
                }

                #[inline(always)]
                fn end(self) -> Done {
                    self.finish()
                }
            }
        )*
    };
}

impl<K: Known> FieldEncoder<'_, '_, K> {
    #[inline(always)]
    fn finish(self) -> Done {
        Ok(())
    }
}

fields! {
    SerializeTupleStruct for FieldEncoder, serialize_field;
    SerializeTupleVariant for VariantEncoder, serialize_field;
}
fields! {
    named
    SerializeStruct for FieldEncoder;
    SerializeStructVariant for VariantEncoder;
}
