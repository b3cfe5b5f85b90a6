//! Shelves, and the books of each as a collection.

use freehold_shard::{CollectionOf, ObjectId};
use serde::{Deserialize, Serialize};

/// Entries say nothing of their placement: they live with their shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Id {
    Shelf(u64),
    Book(u64, u64),
}

impl ObjectId for Id {
    const COLLECTION: Option<CollectionOf<Id>> = Some(|id| match *id {
        Id::Shelf(_) => None,
        Id::Book(shelf, _) => Some(Id::Shelf(shelf)),
    });
}
