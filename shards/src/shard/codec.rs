//! How an actor's types are written into a log and read back.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::Actor;
use crate::actor::run::Written;
use crate::log::migration::{Migrations, Reading};
use crate::log::record::{Layouts, PushObject, decode};
use crate::log::refused::RecordError;
use crate::log::schema::{Schema, SchemaTypes, WrittenSchema};
use crate::log::trust::encode_told;
use crate::log::writer::Records;
use crate::object::{CollectionOf, ObjectId};
use crate::shard::engine::Engine;

/// How an actor's types are written into a log and read back. A runtime without a log has none, so
/// its states and messages need no `serde`.
pub struct Codec<A: Actor> {
    pub(super) push_object: PushObject<A::Id, A::State>,
    /// Records a message that did no more than change states. A call for each message and not for
    /// each object, or `Serialize` is no part of it: 35 instructions.
    pub(super) record: fn(&mut Engine<A>, Option<Written>) -> Result<(), RecordError>,
    pub(super) encode: fn(&A::Message, &mut Vec<u8>) -> Result<(), RecordError>,
    decode: fn(&[u8]) -> Option<A::Message>,
    schema: fn() -> WrittenSchema,
    /// How ids and states are written.
    pub(super) layouts: Layouts,
}

impl<A: Actor> Codec<A>
where
    A::State: Serialize + DeserializeOwned,
    A::Message: Serialize + DeserializeOwned,
{
    /// For these types. Finds out which of them have a fixed width, so it is for starts.
    pub fn new() -> Self {
        Codec {
            push_object: Records::push_object::<A::Id, A::State>,
            record: Engine::record_changes,
            encode: encode_told::<A::Message>,
            decode: decode::<A::Message>,
            schema: WrittenSchema::of::<A>,
            layouts: Layouts::of::<A::Id, A::State>(),
        }
    }
}

impl<A: Actor> Default for Codec<A>
where
    A::State: Serialize + DeserializeOwned,
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
    A::State: Serialize + DeserializeOwned,
    A::Message: Serialize + DeserializeOwned,
{
    const SCHEMA: Schema = <A as Actor>::SCHEMA;
    type Id = <A as Actor>::Id;
    type State = <A as Actor>::State;
    type Message = <A as Actor>::Message;
    const COLLECTION: Option<CollectionOf<Self::Id>> = <A::Id as ObjectId>::COLLECTION;
}

impl Reading {
    /// For an actor.
    pub fn new<A: Actor>(codec: &Codec<A>, migrations: Migrations) -> Reading {
        Reading::of::<A>(A::SCHEMA, codec.schema(), migrations)
    }
}
