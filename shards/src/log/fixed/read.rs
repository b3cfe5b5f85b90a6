//! The deserializer of values of a fixed width.

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::layout::NotFixed;

/// Reads from the front of what is left of a value's bytes.
pub(super) struct Reader<'r, 'b>(pub(super) &'r mut &'b [u8]);

impl Reader<'_, '_> {
    #[inline(always)]
    fn take<const BYTES: usize>(self) -> Result<[u8; BYTES], NotFixed> {
        let (taken, rest) = self.0.split_first_chunk::<BYTES>().ok_or(NotFixed)?;
        *self.0 = rest;
        Ok(*taken)
    }
}

macro_rules! leaves {
    ($($deserialize:ident $visit:ident $type:ty;)*) => {$(
        #[inline(always)]
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotFixed> {
            visitor.$visit(<$type>::from_le_bytes(self.take()?))
        }
    )*};
}

macro_rules! none {
    ($($deserialize:ident($($type:ty),*);)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, $(_: $type,)* _: V) -> Result<V::Value, NotFixed> {
            Err(NotFixed)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_, '_> {
    type Error = NotFixed;

    #[inline(always)]
    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    none! {
        deserialize_any();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_seq();
        deserialize_map();
        deserialize_enum(&'static str, &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    #[inline(always)]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotFixed> {
        match self.take()? {
            [0] => visitor.visit_bool(false),
            [1] => visitor.visit_bool(true),
            _ => Err(NotFixed),
        }
    }

    #[inline(always)]
    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotFixed> {
        visitor.visit_char(char::from_u32(u32::from_le_bytes(self.take()?)).ok_or(NotFixed)?)
    }

    #[inline(always)]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotFixed> {
        visitor.visit_unit()
    }

    #[inline(always)]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NotFixed> {
        visitor.visit_unit()
    }

    #[inline(always)]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NotFixed> {
        visitor.visit_newtype_struct(self)
    }

    #[inline(always)]
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, NotFixed> {
        visitor.visit_seq(Parts { reader: self, left: length })
    }

    #[inline(always)]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, NotFixed> {
        self.deserialize_tuple(length, visitor)
    }

    #[inline(always)]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NotFixed> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}

/// The parts of a tuple or struct.
struct Parts<'r, 'b> {
    reader: Reader<'r, 'b>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_, '_> {
    type Error = NotFixed;

    #[inline(always)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, NotFixed> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(Reader(&mut *self.reader.0)).map(Some)
    }

    #[inline(always)]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}
