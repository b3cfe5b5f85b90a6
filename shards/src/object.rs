//! An object: a state with an id, owned by one shard.
//!
//! This file promises what identifies an object ([`ObjectId`]), what it is made of ([`Stored`]) and
//! who may write it ([`Ownership`]). Every message carries its sender, an [`OwnerId`]; the shard
//! compares the two on every access.

use std::fmt::{self, Debug};
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What identifies an object.
///
/// Ids are small values that are copied freely: `u64`, `u128`, `[u8; 32]` and tuples of them work
/// as they are. A type of your own derives the bounds and says `impl ObjectId for MyId {}`. For
/// texts there is `Key`.
///
/// ```
/// use freehold_shard::ObjectId;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
/// struct Seat { tenant: u32, row: u16, number: u16 }
///
/// impl ObjectId for Seat {
///     // All seats of one tenant live on one shard: a message about several takes the fast path.
///     fn placement(&self) -> impl std::hash::Hash { self.tenant }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot identify an object",
    label = "not an id",
    note = "a type of your own derives `Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize`, and says `impl ObjectId for {Self} {{}}`",
    note = "a text is no id, because ids are copied: use `freehold::Key`, made by `Key::new(\"user:42\")`"
)]
pub trait ObjectId:
    Copy + Eq + Ord + Hash + Debug + Send + Sync + Serialize + DeserializeOwned + 'static
{
    /// The part of the id that decides which shard is the object's home. By default all of it.
    ///
    /// Objects whose ids have the same placement always share a shard, whatever the number of
    /// shards. It must be a pure function of the id.
    fn placement(&self) -> impl Hash {
        *self
    }

    /// Which ids are entries of a collection, and of which one. By default none is.
    ///
    /// An entry is an object that belongs to another, its collection. It is reached by
    /// `Objects::collection` only. A message that has the collection has its entries, in the order
    /// of their ids. The function must be pure, and a collection is no entry. An entry lives with
    /// its collection, whatever [`placement`](Self::placement) says of it.
    ///
    /// ```
    /// use freehold_shard::{CollectionOf, ObjectId};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    /// enum Id { Book(u64), Order { book: u64, price: u64, number: u64 } }
    ///
    /// impl ObjectId for Id {
    ///     const COLLECTION: Option<CollectionOf<Id>> = Some(|id| match *id {
    ///         Id::Book(_) => None,
    ///         Id::Order { book, .. } => Some(Id::Book(book)),
    ///     });
    /// }
    /// assert_eq!(Id::Order { book: 7, price: 100, number: 1 }.collection(), Some(Id::Book(7)));
    /// ```
    // A constant, so that a type without entries has no code for them.
    const COLLECTION: Option<CollectionOf<Self>> = None;

    /// The collection that the object is an entry of, if it is one: what
    /// [`COLLECTION`](Self::COLLECTION) says.
    #[inline]
    fn collection(&self) -> Option<Self> {
        Self::COLLECTION.and_then(|of| of(self))
    }
}

/// Says which collection an id is an entry of; `None` if it is no entry.
pub type CollectionOf<Id> = fn(&Id) -> Option<Id>;

macro_rules! plain_ids {
    ($($id:ty),* $(,)?) => { $(impl ObjectId for $id {})* };
}
plain_ids!(
    u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, [u8; 8], [u8; 12], [u8; 16], [u8; 20], [u8; 24],
    [u8; 32]
);

impl<X: ObjectId, Y: ObjectId> ObjectId for (X, Y) {}
impl<X: ObjectId, Y: ObjectId, Z: ObjectId> ObjectId for (X, Y, Z) {}

/// Who sends a message, and who owns an object.
///
/// Owner 0, the default of both, is nobody in particular: an application that ignores ownership
/// sends everything as owner 0 and owns everything as owner 0, and never meets it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct OwnerId(pub u64);

impl Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "owner {}", self.0)
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "owner {}", self.0)
    }
}

/// Who may write an object. Reading is free to everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Ownership {
    /// Only messages sent as this owner write it. New objects are owned by the sender that inserted
    /// them.
    Owned(OwnerId),
    /// Anyone writes it, through the coordinator; and any thread reads it without a message, as it
    /// is published.
    Shared,
    /// Nobody writes it, ever again; and it is published, too.
    Immutable,
}

impl Default for Ownership {
    fn default() -> Self {
        Ownership::Owned(OwnerId::default())
    }
}

/// What a message declares it will do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Only read it. It may belong to anyone.
    Read,
    /// Read and write it. The sender must be allowed to.
    Write,
}

/// What an object is made of, for all that stores objects and knows no more of an actor. Every
/// `Actor` is one.
pub trait Stored: Sized + 'static {
    /// What identifies an object.
    type Id: ObjectId;
    /// What one object holds.
    type State: Clone + Send + Sync + 'static;
}

/// What became of an object, or of the entries of a collection.
pub enum Change<A: Stored> {
    /// The object is now this.
    Put(A::Id, Ownership, A::State),
    /// The object does not exist any more.
    Remove(A::Id),
    /// The entries of this collection do not exist any more.
    Clear(A::Id),
}

impl<A: Stored> Change<A> {
    /// Whose.
    #[inline]
    pub(crate) fn id(&self) -> &A::Id {
        let (Change::Put(id, ..) | Change::Remove(id) | Change::Clear(id)) = self;
        id
    }
}
