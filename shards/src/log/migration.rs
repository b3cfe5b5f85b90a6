//! Migrations: how records of an earlier version of an actor's types become those of this one.
//!
//! A *step* leads from one version to a later one. It takes bytes and gives bytes, so steps of any
//! types go behind one another. Which steps are needed is decided before any record is read
//! ([`Reading::check`]); then [`recovery`](crate::log::recovery) takes them.

use std::any::{TypeId, type_name};
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::log::bounds::ID_MAX;
use crate::log::fixed::Layout;
use crate::log::record::{Coded, Coding, Layouts, SendId, decode, encode};
use crate::log::refused::Value;
use crate::log::schema::{Schema, SchemaError, SchemaPart, SchemaTypes, WrittenSchema};
use crate::log::trust::encode_checked;
use crate::panics;

/// What a function of a [`Migration`] returns: the new value, or why there is none. Then nothing is
/// migrated, and nothing is changed.
pub type Migrated<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How values of an earlier version become values of a later one. Each function must be pure: a
/// start that crashes before its checkpoint is there migrates again, and must come to the same
/// values.
#[derive(Clone, Copy, Debug)]
pub struct Migration<I, S, M> {
    /// `Fn(Old::Id) -> Migrated<New::Id>`. Different ids stay different.
    pub id: I,
    /// `Fn(Old::Id, Old::State) -> Migrated<New::State>`: what the object holds. Objects that were
    /// removed are not migrated.
    pub state: S,
    /// `Fn(Old::Message) -> Migrated<New::Message>`: a message that was told and has not run.
    pub message: M,
}

/// Why a value could not be migrated. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the {part} of {of} could not be migrated from version {from} to {to} of the actor's types: {why}")]
pub struct MigrationError {
    /// The version of the value.
    pub from: u32,
    /// The version it should have become.
    pub to: u32,
    /// What it is.
    pub part: SchemaPart,
    /// Whose it is: an object, by its id as far as that can be read, or a pending send.
    pub of: String,
    /// Why.
    pub why: NotMigrated,
}

/// Why a value could not be migrated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotMigrated {
    /// The migration said so.
    #[error("the migration refused it: {0}; correct the migration, and start again")]
    Refused(String),
    /// The migration panicked.
    #[error("the migration panicked: {0}; correct the migration, and start again")]
    Panicked(String),
    /// The bytes are no value of the old type.
    #[error("its bytes are none of the old type: give the types as they were then")]
    NotRead,
    /// The new value cannot be written, or not be read again.
    #[error("the new value cannot be written and read again: {0}; change its type")]
    NotWritten(String),
    /// An id with its state, or a message, is longer than the database holds.
    #[error(
        "it has {bytes} bytes then, and this database holds at most {max}: let the migration make it shorter"
    )]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// The most there may be.
        max: usize,
    },
    /// Two objects would have one id.
    #[error("another object gets the same id: correct the migration, so that different ids stay different")]
    SameId,
}

/// One step, whatever its types.
#[derive(Clone)]
struct MigrationStep {
    schema: Schema,
    to: u32,
    /// Traces the old types.
    written: fn() -> WrittenSchema,
    old: Types,
    new: Types,
    values: Arc<dyn Values>,
}

/// Types, to be compared and named.
#[derive(Clone, Copy)]
struct Types {
    id: TypeId,
    name: &'static str,
}

impl Types {
    fn of<T: 'static>() -> Types {
        Types { id: TypeId::of::<T>(), name: type_name::<T>() }
    }
}

/// A value of the new type.
#[derive(Debug, PartialEq, Eq)]
struct Rewritten {
    /// By postcard.
    bytes: Vec<u8>,
    /// How many bytes it takes in a record that has it with a fixed width, if it can; else by
    /// postcard.
    recorded: usize,
}

/// Bytes of the old types to values of the new.
trait Values: Send + Sync {
    fn id(&self, id: &[u8]) -> Result<Rewritten, NotMigrated>;
    fn state(&self, id: &[u8], state: &[u8]) -> Result<Rewritten, NotMigrated>;
    fn message(&self, message: &[u8]) -> Result<Rewritten, NotMigrated>;
    /// A value of the old type with a fixed width, by postcard.
    fn postcard(&self, part: SchemaPart, fixed: Coded<'_>) -> Option<Vec<u8>>;
    /// Of an id of the old type, by postcard, the collection that it is an entry of.
    fn collection(&self, id: &[u8]) -> Option<Vec<u8>>;
    /// Whether the old types say which ids are entries.
    fn has_collections(&self) -> bool;
    /// The id, to be read by people.
    fn name(&self, id: &[u8]) -> String;
}

struct Typed<Old, New, I, S, M> {
    functions: Migration<I, S, M>,
    /// Of the new types.
    layouts: Layouts,
    types: std::marker::PhantomData<fn(Old) -> New>,
}

impl<Old, New, I, S, M> Values for Typed<Old, New, I, S, M>
where
    Old: SchemaTypes,
    New: SchemaTypes,
    I: Fn(Old::Id) -> Migrated<New::Id> + Send + Sync,
    S: Fn(Old::Id, Old::State) -> Migrated<New::State> + Send + Sync,
    M: Fn(Old::Message) -> Migrated<New::Message> + Send + Sync,
{
    fn id(&self, id: &[u8]) -> Result<Rewritten, NotMigrated> {
        let old = read::<Old::Id>(id)?;
        migrate(Value::Id, self.layouts.id, || (self.functions.id)(old))
    }

    fn state(&self, id: &[u8], state: &[u8]) -> Result<Rewritten, NotMigrated> {
        let (id, old) = (read::<Old::Id>(id)?, read::<Old::State>(state)?);
        migrate(Value::State, self.layouts.state, || (self.functions.state)(id, old))
    }

    fn message(&self, message: &[u8]) -> Result<Rewritten, NotMigrated> {
        let old = read::<Old::Message>(message)?;
        migrate(Value::Message, None, || (self.functions.message)(old))
    }

    fn postcard(&self, part: SchemaPart, fixed: Coded<'_>) -> Option<Vec<u8>> {
        fn again<T: Serialize + DeserializeOwned>(fixed: Coded<'_>) -> Option<Vec<u8>> {
            let mut bytes = Vec::new();
            let value = fixed.decode::<T>()?;
            // The old type's `Serialize`, which its migration did not need so far.
            catch_unwind(AssertUnwindSafe(|| encode(&value, &mut bytes))).ok()?.ok()?;
            Some(bytes)
        }
        match part {
            SchemaPart::Id => again::<Old::Id>(fixed),
            SchemaPart::State => again::<Old::State>(fixed),
            SchemaPart::Message => again::<Old::Message>(fixed),
        }
    }

    fn collection(&self, id: &[u8]) -> Option<Vec<u8>> {
        let (of, id) = (Old::COLLECTION?, decode::<Old::Id>(id)?);
        let mut bytes = Vec::new();
        // The old type's functions, as above.
        let written = catch_unwind(AssertUnwindSafe(|| encode(&of(&id)?, &mut bytes).ok()));
        written.ok().flatten().map(|()| bytes)
    }

    fn has_collections(&self) -> bool {
        Old::COLLECTION.is_some()
    }

    fn name(&self, id: &[u8]) -> String {
        match decode::<Old::Id>(id) {
            Some(id) => format!("object {id:?}"),
            None => format!("the object whose id is in bytes {id:?}"),
        }
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotMigrated> {
    decode(bytes).ok_or(NotMigrated::NotRead)
}

/// Calls a function of the user's, and writes what it returns. Records have such values as `layout`
/// says.
fn migrate<T: Serialize + DeserializeOwned>(
    what: Value,
    layout: Option<Layout>,
    function: impl FnOnce() -> Migrated<T>,
) -> Result<Rewritten, NotMigrated> {
    let migrate = || {
        let new = function().map_err(|refused| NotMigrated::Refused(refused.to_string()))?;
        let mut bytes = Vec::new();
        encode_checked(&new, what, &mut bytes).map_err(|error| NotMigrated::NotWritten(error.to_string()))?;
        let fixed = layout.filter(|layout| Layout::of_value(&new) == Ok(*layout));
        let recorded = fixed.map_or(bytes.len(), |layout| layout.bytes);
        Ok(Rewritten { bytes, recorded })
    };
    let migrated = catch_unwind(AssertUnwindSafe(migrate));
    migrated.unwrap_or_else(|payload| Err(NotMigrated::Panicked(panics::text(&*payload))))
}

/// The migrations that a program has.
#[derive(Clone, Default)]
pub struct Migrations {
    steps: Vec<MigrationStep>,
}

impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().map(|step| (step.schema.version(), step.to));
        f.debug_map().entries(steps).finish()
    }
}

impl Migrations {
    /// Adds a step from `Old` to `New`, which has a later version: that is checked when the program
    /// is compiled.
    pub fn add<Old, New, I, S, M>(&mut self, functions: Migration<I, S, M>)
    where
        Old: SchemaTypes,
        New: SchemaTypes,
        I: Fn(Old::Id) -> Migrated<New::Id> + Send + Sync + 'static,
        S: Fn(Old::Id, Old::State) -> Migrated<New::State> + Send + Sync + 'static,
        M: Fn(Old::Message) -> Migrated<New::Message> + Send + Sync + 'static,
    {
        const {
            assert!(
                Old::SCHEMA.version() < New::SCHEMA.version(),
                "a migration leads to a later version of the types"
            );
        }
        self.steps.push(MigrationStep {
            schema: Old::SCHEMA,
            to: New::SCHEMA.version(),
            written: WrittenSchema::of::<Old>,
            old: Types::of::<Old>(),
            new: Types::of::<New>(),
            values: Arc::new(Typed::<Old, New, I, S, M> {
                functions,
                layouts: Layouts::of::<New::Id, New::State>(),
                types: std::marker::PhantomData,
            }),
        });
    }

    /// The step that begins with this version, on the way to `to`.
    fn from(&self, version: u32, to: u32) -> Result<&MigrationStep, SchemaError> {
        let mut steps = self.steps.iter().filter(|step| step.schema.version() == version);
        match (steps.next(), steps.next()) {
            (Some(step), None) if step.to <= to => Ok(step),
            (Some(_), Some(_)) => Err(SchemaError::TwoMigrations { from: version }),
            _ => Err(SchemaError::NoMigration { from: version, to }),
        }
    }
}

/// How one start reads what a directory holds: with the actor's types, and with migrations that
/// lead to them.
#[derive(Clone)]
pub struct Reading {
    schema: Schema,
    /// The actor's, as records of this start have it.
    pub written: WrittenSchema,
    actor: Types,
    migrations: Migrations,
}

impl Reading {
    /// For the types `T`, whose schema is `schema` and, as it is written, `written`.
    pub(crate) fn of<T: 'static>(schema: Schema, written: WrittenSchema, migrations: Migrations) -> Reading {
        Reading { schema, written, actor: Types::of::<T>(), migrations }
    }

    /// The version of the actor's types.
    pub fn version(&self) -> u32 {
        self.schema.version()
    }

    /// Whether everything of these schemas can be read: those of a database's records, from the
    /// oldest on.
    ///
    /// # Errors
    /// [`SchemaError`]: the first that cannot.
    pub fn check<'a>(&self, written: impl IntoIterator<Item = &'a WrittenSchema>) -> Result<(), SchemaError> {
        let mut written: Vec<&WrittenSchema> = written.into_iter().collect();
        if let Some(disordered) = written.windows(2).find(|two| two[0].version > two[1].version) {
            let (earlier, later) = (disordered[0].version, disordered[1].version);
            return Err(SchemaError::OutOfOrder { earlier, later });
        }
        written.dedup();
        let now = self.version();
        for (at, schema) in written.iter().enumerate() {
            match schema.version {
                newer if newer > now => return Err(SchemaError::Newer { written: newer, known: now }),
                version if version == now => self.written.reads(self.schema, schema)?,
                version => {
                    let next = written[at..].iter().map(|it| it.version).find(|it| *it > version);
                    let step = self.path(version, next.unwrap_or(now))?;
                    (step.written)().reads(step.schema, schema)?;
                }
            }
        }
        Ok(())
    }

    /// The first step of those that lead from one version to another, which are all there.
    fn path(&self, from: u32, to: u32) -> Result<&MigrationStep, SchemaError> {
        let first = self.migrations.from(from, to)?;
        let mut step = first;
        loop {
            let wanted = match step.to == self.version() {
                true => self.actor,
                // Where `to` is not yet this version, the next of the schemas goes on from there.
                false => self.migrations.from(step.to, self.version())?.old,
            };
            if step.new.id != wanted.id {
                let (from, to) = (step.schema.version(), step.to);
                return Err(SchemaError::OtherTypes { from, to, found: step.new.name, wanted: wanted.name });
            }
            if step.to == to {
                return Ok(first);
            }
            step = self.migrations.from(step.to, to)?;
        }
    }

    /// The types of an earlier version of the actor's.
    ///
    /// # Panics
    /// If no step begins with it: the schemas are [checked](Reading::check) before.
    pub fn old_types(&self, version: u32) -> OldTypes<'_> {
        let step = self.migrations.from(version, self.version());
        OldTypes(step.expect("the schemas were checked before anything was read"))
    }

    /// The step that begins with this version, if it is not the actor's. Values of the actor's
    /// version have at most `value_max` bytes; those on the way to it may have more.
    pub(crate) fn step(&self, version: u32, value_max: usize) -> Option<Convert<'_>> {
        (version < self.version()).then(|| {
            let step = self.migrations.from(version, self.version());
            let step = step.expect("the schemas were checked before anything was read");
            let value_max = if step.to == self.version() { value_max } else { usize::MAX };
            Convert { step, value_max }
        })
    }
}

/// The types of an earlier version, to bring what they wrote into one form.
pub struct OldTypes<'a>(&'a MigrationStep);

impl OldTypes<'_> {
    /// The bytes of an id or a state, by postcard whatever the record has: what is one object in
    /// two runs has one id here. `None` if they are none of the old type.
    pub(crate) fn postcard(&self, part: SchemaPart, coded: Coded<'_>) -> Option<Box<[u8]>> {
        match coded.coding {
            Coding::Postcard => Some(coded.bytes.into()),
            Coding::Fixed => self.0.values.postcard(part, coded).map(Vec::into_boxed_slice),
        }
    }

    /// Of an id by postcard, the collection that it is an entry of, if it is one.
    pub(crate) fn collection(&self, id: &[u8]) -> Option<Box<[u8]>> {
        self.0.values.collection(id).map(Vec::into_boxed_slice)
    }

    /// Whether the old types say which ids are entries.
    pub(crate) fn has_collections(&self) -> bool {
        self.0.values.has_collections()
    }
}

/// Takes one step with values.
pub(crate) struct Convert<'a> {
    step: &'a MigrationStep,
    /// The longest value of the step's last version, an id and its state together, or a message.
    value_max: usize,
}

impl Convert<'_> {
    pub(crate) fn to(&self) -> u32 {
        self.step.to
    }

    fn error(&self, part: SchemaPart, of: String, why: NotMigrated) -> MigrationError {
        MigrationError { from: self.step.schema.version(), to: self.step.to, part, of, why }
    }

    pub(crate) fn object(&self, id: &[u8], state: &[u8]) -> Result<(Vec<u8>, Vec<u8>), MigrationError> {
        let values = &self.step.values;
        let not = |part| move |why| self.error(part, values.name(id), why);
        // A record has a value with a fixed width, or, where that is too long, by postcard: what
        // was written once at the bound is written again.
        let fits = |fixed: usize, postcard: usize, max| match fixed.min(postcard) {
            bytes if bytes > max => Err(NotMigrated::TooLong { bytes, max }),
            _ => Ok(()),
        };
        let new_id = values.id(id).map_err(not(SchemaPart::Id))?;
        let id_max = ID_MAX.min(self.value_max);
        fits(new_id.recorded, new_id.bytes.len(), id_max).map_err(not(SchemaPart::Id))?;
        let new_state = values.state(id, state).map_err(not(SchemaPart::State))?;
        let fixed = new_id.recorded + new_state.recorded;
        let postcard = new_id.bytes.len() + new_state.bytes.len();
        fits(fixed, postcard, self.value_max).map_err(not(SchemaPart::State))?;
        Ok((new_id.bytes, new_state.bytes))
    }

    /// An object gets the id of another.
    pub(crate) fn same_id(&self, id: &[u8]) -> MigrationError {
        self.error(SchemaPart::Id, self.step.values.name(id), NotMigrated::SameId)
    }

    pub(crate) fn message(&self, SendId(send_id): SendId, message: &[u8]) -> Result<Vec<u8>, MigrationError> {
        let not = |why| self.error(SchemaPart::Message, format!("pending send {send_id}"), why);
        let Rewritten { bytes: new, .. } = self.step.values.message(message).map_err(not)?;
        if new.len() > self.value_max {
            return Err(not(NotMigrated::TooLong { bytes: new.len(), max: self.value_max }));
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serializer};

    use super::*;
    use crate::log::shape::layout_of;

    /// As postcard cannot read it again: the second may be taken for the first.
    #[derive(Serialize, Deserialize)]
    struct LeftOut {
        #[serde(skip_serializing_if = "Option::is_none")]
        first: Option<u8>,
        second: Option<Option<u8>>,
    }

    #[derive(Deserialize)]
    struct Panics;

    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("on purpose")
        }
    }

    #[test]
    fn what_is_migrated_is_held_to_what_a_message_is_held_to() {
        for second in [None, Some(None), Some(Some(1))] {
            let migrated = migrate(Value::State, None, || Ok(LeftOut { first: None, second }));
            assert!(matches!(migrated, Err(NotMigrated::NotWritten(_))), "{migrated:?}");
        }
        let layout = layout_of::<u64>();
        for (value, bytes, recorded) in [(7_u64, 1, 8), (u64::MAX, 10, 8)] {
            let migrated = migrate(Value::State, layout, || Ok(value)).expect("it can be written");
            assert_eq!((migrated.bytes.len(), migrated.recorded), (bytes, recorded));
        }
        let panicked = migrate(Value::State, None, || Ok(Panics));
        assert_eq!(panicked, Err(NotMigrated::Panicked("on purpose".to_string())));
    }
}
