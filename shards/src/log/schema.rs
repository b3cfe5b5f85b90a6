//! Which types an actor's records are of: what the actor states, what a directory has, and whether
//! they fit.
//!
//! Records are bytes, which say nothing of their types. Bytes of one type can often be read as
//! another, and give other values: `i64` as `u64`, fields that changed places, a variant in
//! front of others. So the manifest has the schema of each run and of the checkpoint, and a start
//! compares it with the actor's before it reads any record.

use std::fmt::{self, Debug};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::log::shape::Shape;
use crate::object::CollectionOf;

/// What an actor states of its ids, states and messages: which version of them its program has.
///
/// ```
/// use freehold_shard::Schema;
///
/// // The types were changed twice, and each time a migration was given.
/// const SCHEMA: Schema = Schema::new(3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    version: u32,
    accepted: &'static [u64],
}

impl Schema {
    /// This version. It begins with 1 and is raised with each change of the types. What was written
    /// before there were schemas is of version 1.
    ///
    /// # Panics
    /// If it is 0.
    pub const fn new(version: u32) -> Schema {
        assert!(version > 0, "versions begin with 1");
        Schema { version, accepted: &[] }
    }

    /// What was written by types of these fingerprints means the same as what these types write.
    /// Name the fingerprints that [`SchemaError::Changed`] says when the bytes are in truth
    /// compatible: a field was renamed, or a variant was added behind all others. In a type whose
    /// values vary in length `u32` may become `u64`, too. In one of fixed width (numbers only, see
    /// [`Shape::width`](crate::Shape::width)) no number may change its type or its place: that is
    /// [`SchemaError::OtherWidth`].
    ///
    /// Nothing checks that. If it is not so, values are read that nobody has written.
    #[must_use]
    pub const fn accepting(self, fingerprints: &'static [u64]) -> Schema {
        Schema { accepted: fingerprints, ..self }
    }

    /// Which version.
    pub const fn version(&self) -> u32 {
        self.version
    }
}

/// The types that a version of an actor writes into its logs. Every actor whose messages can be
/// written is one; for a version that is only to be read and migrated, name its types:
///
/// ```
/// use freehold_shard::{Schema, SchemaTypes};
///
/// /// Version 1 of the accounts: whole coins, by number.
/// struct AccountsV1;
///
/// impl SchemaTypes for AccountsV1 {
///     const SCHEMA: Schema = Schema::new(1);
///     type Id = u64;
///     type State = i64;
///     type Message = (u64, i64);
/// }
/// ```
pub trait SchemaTypes: 'static {
    /// The version.
    const SCHEMA: Schema;
    /// What identifies an object.
    type Id: Debug + Serialize + DeserializeOwned;
    /// What an object holds.
    type State: Serialize + DeserializeOwned;
    /// What is sent to objects.
    type Message: Serialize + DeserializeOwned;
    /// Which ids were entries of a collection, and of which one, as
    /// [`ObjectId::COLLECTION`](crate::ObjectId::COLLECTION) said it in that version. A log that
    /// has a collection cleared cannot be read without it.
    const COLLECTION: Option<CollectionOf<Self::Id>> = None;
}

/// One of the types of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaPart {
    /// The ids.
    Id,
    /// The states.
    State,
    /// The messages.
    Message,
}

impl fmt::Display for SchemaPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SchemaPart::Id => "id",
            SchemaPart::State => "state",
            SchemaPart::Message => "message",
        })
    }
}

/// The schema of records: what an actor stated, and the shapes of its types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenSchema {
    /// The version.
    pub version: u32,
    /// The shapes; `None` for what was written before there were schemas.
    pub shapes: Option<Shapes>,
}

/// The shapes of the types of a schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shapes {
    /// Of the ids.
    pub id: Shape,
    /// Of the states.
    pub state: Shape,
    /// Of the messages.
    pub message: Shape,
}

impl WrittenSchema {
    /// What was written before there were schemas.
    pub const UNSTATED: WrittenSchema = WrittenSchema { version: 1, shapes: None };

    /// Of these types. It runs `Deserialize` of each once for every variant, so it is for starts
    /// and not for messages.
    pub fn of<T: SchemaTypes>() -> WrittenSchema {
        let shapes = Shapes {
            id: Shape::of::<T::Id>(),
            state: Shape::of::<T::State>(),
            message: Shape::of::<T::Message>(),
        };
        WrittenSchema { version: T::SCHEMA.version, shapes: Some(shapes) }
    }

    /// The parts, with the shape of each.
    pub fn parts(&self) -> impl Iterator<Item = (SchemaPart, &Shape)> {
        self.shapes.iter().flat_map(|Shapes { id, state, message }| {
            [(SchemaPart::Id, id), (SchemaPart::State, state), (SchemaPart::Message, message)]
        })
    }

    /// Whether types of this schema, which the program has as `stated`, can read what `written`
    /// says.
    ///
    /// # Errors
    /// [`SchemaError::Changed`]. Versions are not compared.
    pub(crate) fn reads(&self, stated: Schema, written: &WrittenSchema) -> Result<(), SchemaError> {
        let pairs = self.parts().zip(written.parts());
        let is_other = |known: &Shape, written: &Shape| {
            known.fingerprint != written.fingerprint && !stated.accepted.contains(&written.fingerprint)
        };
        let changes = pairs.filter(|((_, known), (_, written))| is_other(known, written));
        let change = |((part, known), (_, written)): ((SchemaPart, &Shape), (SchemaPart, &Shape))| {
            ShapeChange { part, written: written.clone(), known: known.clone() }
        };
        let changes: Vec<_> = changes.map(change).collect();
        if !changes.is_empty() {
            return Err(SchemaError::Changed { version: self.version, changes });
        }
        // What is accepted is to have the same numbers in the same order. What has the same shape
        // has: a type that refuses all values that were made up has no width of its own to compare.
        // Messages are never written in a fixed width.
        for ((part, known), (_, written)) in self.parts().zip(written.parts()) {
            let is_accepted = known.fingerprint != written.fingerprint && part != SchemaPart::Message;
            let Some(width) = written.width.filter(|_| is_accepted) else { continue };
            if !known.width.is_some_and(|known| known.reads(width)) {
                let now = known.width.map(|width| width.bytes);
                let (version, bytes) = (self.version, width.bytes);
                return Err(SchemaError::OtherWidth { version, part, bytes, now });
            }
        }
        Ok(())
    }
}

/// A type has another shape than the one that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeChange {
    /// Which type.
    pub part: SchemaPart,
    /// Its shape when the records were written.
    pub written: Shape,
    /// Its shape in this program.
    pub known: Shape,
}

impl fmt::Display for ShapeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShapeChange { part, written, known } = self;
        let [was, is] = excerpts(&written.text, &known.text);
        write!(f, "{part} was `{was}` (fingerprint {:#018x}) and is `{is}`", written.fingerprint)
    }
}

/// Where two texts begin to differ, with what is around.
fn excerpts<'a>(was: &'a str, is: &'a str) -> [std::borrow::Cow<'a, str>; 2] {
    const AROUND: usize = 60;
    let differ = was.bytes().zip(is.bytes()).take_while(|(a, b)| a == b).count();
    [was, is].map(|text| {
        let from = match differ {
            ..=AROUND => 0,
            _ => text.floor_char_boundary(differ - AROUND / 2),
        };
        let to = text.ceil_char_boundary((differ + AROUND).min(text.len()));
        if (from, to) == (0, text.len()) {
            return text.into();
        }
        let before = if from > 0 { ".." } else { "" };
        let behind = if to < text.len() { ".." } else { "" };
        format!("{before}{}{behind}", &text[from..to]).into()
    })
}

/// Why records cannot be read by the types of this program. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The types are others than those that wrote the records, and the version is the same.
    #[error(
        "it was written by version {version} of the actor's types, which have changed: {}; raise `Actor::SCHEMA` and migrate (`LogConfig::migrate_from`), or, if the bytes mean the same, name the fingerprint in `Schema::accepting`",
        .changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Changed {
        /// The version.
        version: u32,
        /// The types that have changed; at least one.
        changes: Vec<ShapeChange>,
    },
    /// A type that is [accepted](Schema::accepting) was written with a fixed width, and the type of
    /// this program has another, or none, or other numbers, or the same in another order.
    #[error(
        "it was written by version {version} of the actor's types, and its {part} took {bytes} bytes, where that of this program takes {}: such bytes cannot be accepted, so raise `Actor::SCHEMA` and migrate (`LogConfig::migrate_from`)",
        match now {
            None => "now more and now fewer".to_string(),
            Some(now) if now == bytes => "as many for other numbers, or for the same in another order".to_string(),
            Some(now) => now.to_string(),
        }
    )]
    OtherWidth {
        /// The version.
        version: u32,
        /// The type.
        part: SchemaPart,
        /// How many bytes each of its values took.
        bytes: u32,
        /// How many they take in this program; `None` if that depends on the value.
        now: Option<u32>,
    },
    /// A program with a later version of the types wrote the records.
    #[error(
        "it was written by version {written} of the actor's types, and this program has version {known}: open it with a program that has version {written} or a later one"
    )]
    Newer {
        /// The version of the records.
        written: u32,
        /// The version of this program.
        known: u32,
    },
    /// No migration leads from the records' version to the one that is needed next.
    #[error(
        "it was written by version {from} of the actor's types, and no migration leads from there to version {to}: give each step (`LogConfig::migrate_from`), or open it with a program that has the steps and let that make a checkpoint"
    )]
    NoMigration {
        /// The version of the records.
        from: u32,
        /// The version that is needed: of later records, or of this program.
        to: u32,
    },
    /// Two migrations begin with the same version.
    #[error("two migrations lead away from version {from} of the actor's types: give one for each version")]
    TwoMigrations {
        /// The version.
        from: u32,
    },
    /// A migration leads to a version of the types, but not to the types that are there.
    #[error(
        "the migration from version {from} of the actor's types leads to types `{found}`, and those of version {to} are `{wanted}`: name the same types where one migration ends and the next begins, and in the end the actor itself"
    )]
    OtherTypes {
        /// Where the migration begins.
        from: u32,
        /// Where it leads.
        to: u32,
        /// The types it leads to.
        found: &'static str,
        /// The types it should lead to.
        wanted: &'static str,
    },
    /// Records of an earlier version come behind those of a later one: two copies of a database
    /// were mixed.
    #[error(
        "records of version {later} of the actor's types come behind records of version {earlier}: bring the directory back from a copy"
    )]
    OutOfOrder {
        /// The version of the records that come first.
        earlier: u32,
        /// The version of the records behind.
        later: u32,
    },
}
