//! The serializer of values of a fixed width: it measures a value, or writes it into its place.

use serde::Serialize;
use serde::ser::{Impossible, SerializeStruct, SerializeTuple, SerializeTupleStruct, Serializer};

use super::layout::{Layout, Leaf, NotFixed};

/// Takes the parts of a value, in their order.
pub(super) trait Sink {
    /// Takes a primitive value.
    fn put<const BYTES: usize>(&mut self, leaf: Leaf, value: [u8; BYTES]) -> Result<(), NotFixed>;
}

/// Measures only.
pub(super) struct Measure(pub(super) Layout);

impl Sink for Measure {
    #[inline(always)]
    fn put<const BYTES: usize>(&mut self, leaf: Leaf, _: [u8; BYTES]) -> Result<(), NotFixed> {
        self.0 = self.0.then(leaf, BYTES);
        Ok(())
    }
}

/// Writes into what is left of a place.
pub(super) struct FixedPlace<'a>(pub(super) &'a mut [u8]);

impl Sink for FixedPlace<'_> {
    #[inline(always)]
    fn put<const BYTES: usize>(&mut self, _: Leaf, value: [u8; BYTES]) -> Result<(), NotFixed> {
        let room = std::mem::take(&mut self.0);
        let (place, rest) = room.split_first_chunk_mut::<BYTES>().ok_or(NotFixed)?;
        *place = value;
        self.0 = rest;
        Ok(())
    }
}

impl Sink for Vec<u8> {
    fn put<const BYTES: usize>(&mut self, _: Leaf, value: [u8; BYTES]) -> Result<(), NotFixed> {
        self.extend_from_slice(&value);
        Ok(())
    }
}

/// Gives a value's parts to a sink. Also what serde asks for tuples and structs: there is nothing
/// to be kept of them.
pub(super) struct FixedSerializer<'s, S>(pub(super) &'s mut S);

type FixedResult = Result<(), NotFixed>;
type No = Impossible<(), NotFixed>;

impl<S: Sink> FixedSerializer<'_, S> {
    #[inline(always)]
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> FixedResult {
        value.serialize(FixedSerializer(&mut *self.0))
    }
}

macro_rules! leaves {
    ($($method:ident: $type:ty, $leaf:ident;)*) => {
        $(
            #[inline(always)]
            fn $method(self, value: $type) -> FixedResult {
                self.0.put(Leaf::$leaf, value.to_le_bytes())
            }
        )*
    };
}

impl<S: Sink> Serializer for FixedSerializer<'_, S> {
    type Ok = ();
    type Error = NotFixed;
    type SerializeSeq = No;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = Self;
    type SerializeStructVariant = No;

    #[inline(always)]
    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
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
    }

    #[inline(always)]
    fn serialize_bool(self, value: bool) -> FixedResult {
        self.0.put(Leaf::Bool, [u8::from(value)])
    }

    #[inline(always)]
    fn serialize_char(self, value: char) -> FixedResult {
        self.0.put(Leaf::Char, u32::from(value).to_le_bytes())
    }

    #[inline(always)]
    fn serialize_unit(self) -> FixedResult {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _: &'static str) -> FixedResult {
        Ok(())
    }

    #[inline(always)]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> FixedResult {
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_tuple(self, _: usize) -> Result<Self, NotFixed> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NotFixed> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NotFixed> {
        Ok(self)
    }

    fn serialize_str(self, _: &str) -> FixedResult {
        Err(NotFixed)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, _: &T) -> FixedResult {
        Err(NotFixed)
    }

    fn serialize_bytes(self, _: &[u8]) -> FixedResult {
        Err(NotFixed)
    }

    fn serialize_none(self) -> FixedResult {
        Err(NotFixed)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> FixedResult {
        Err(NotFixed)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> FixedResult {
        Err(NotFixed)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> FixedResult {
        Err(NotFixed)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<No, NotFixed> {
        Err(NotFixed)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, NotFixed> {
        Err(NotFixed)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<No, NotFixed> {
        Err(NotFixed)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, NotFixed> {
        Err(NotFixed)
    }
}

impl<S: Sink> SerializeTuple for FixedSerializer<'_, S> {
    type Ok = ();
    type Error = NotFixed;

    #[inline(always)]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> FixedResult {
        self.part(value)
    }

    #[inline(always)]
    fn end(self) -> FixedResult {
        Ok(())
    }
}

impl<S: Sink> SerializeTupleStruct for FixedSerializer<'_, S> {
    type Ok = ();
    type Error = NotFixed;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> FixedResult {
        self.part(value)
    }

    #[inline(always)]
    fn end(self) -> FixedResult {
        Ok(())
    }
}

impl<S: Sink> SerializeStruct for FixedSerializer<'_, S> {
    type Ok = ();
    type Error = NotFixed;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> FixedResult {
        self.part(value)
    }

    // It was not left out of the value that was made up.
    #[cold]
    fn skip_field(&mut self, _: &'static str) -> FixedResult {
        Err(NotFixed)
    }

    #[inline(always)]
    fn end(self) -> FixedResult {
        Ok(())
    }
}
