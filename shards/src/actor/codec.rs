//! How an actor's types are written into a log and read back.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::Actor;
use crate::log::migration::{Migrations, Reading};
use crate::log::record::{Layouts, decode};
use crate::log::refused::RecordError;
use crate::log::schema::{Schema, SchemaTypes, WrittenSchema};
use crate::log::trust::encode_told;

/// How an actor's messages are written into a log and read back.
pub struct Codec<A: Actor> {
    pub(crate) encode: fn(&A::Message, &mut Vec<u8>) -> Result<(), RecordError>,
    decode: fn(&[u8]) -> Option<A::Message>,
    schema: fn() -> WrittenSchema,
    /// How ids and states are written.
    pub(crate) layouts: Layouts,
}

impl<A: Actor> Codec<A>
where
    A::Message: Serialize + DeserializeOwned,
{
    /// For these types. Finds out which of them have a fixed width, so it is for starts.
    pub fn new() -> Self {
        Codec {
            encode: encode_told::<A::Message>,
            decode: decode::<A::Message>,
            schema: WrittenSchema::of::<A>,
            layouts: Layouts::of::<A::Id, A::State>(),
        }
    }
}

impl<A: Actor> Default for Codec<A>
where
    A::Message: Serialize + DeserializeOwned,
{
    fn default() -> Self {
        Codec::new()
    }
}

impl<A: Actor> Clone for Codec<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Actor> Copy for Codec<A> {}

impl<A: Actor> Codec<A> {
    /// The message that these bytes are; `None` if they are none.
    pub fn decode(&self, bytes: &[u8]) -> Option<A::Message> {
        (self.decode)(bytes)
    }

    /// The schema of what is written.
    pub fn schema(&self) -> WrittenSchema {
        (self.schema)()
    }
}

impl<A: Actor> SchemaTypes for A
where
    A::Message: Serialize + DeserializeOwned,
{
    const SCHEMA: Schema = <A as Actor>::SCHEMA;
    type Id = <A as Actor>::Id;
    type State = <A as Actor>::State;
    type Message = <A as Actor>::Message;
}

impl Reading {
    /// For an actor.
    pub fn new<A: Actor>(codec: &Codec<A>, migrations: Migrations) -> Reading {
        Reading::of::<A>(A::SCHEMA, codec.schema(), migrations)
    }
}
