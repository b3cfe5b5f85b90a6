//! How many bytes an object of a kind points to: those of a blob's part, or none that we know of.
//!
//! `actor!` does not know which kinds are parts of blobs: that is an `impl` elsewhere. So it asks
//! for a method that two traits have, one for all kinds and one for parts. A method is looked for
//! on a type first, and then on a reference to it. So parts have theirs, and other kinds the other.

use std::marker::PhantomData;

use freehold_shard::{Actor, BlobPart};

/// An object of the kind `K` of the actor `A`.
pub struct Pointing<'o, A, K>(&'o K, PhantomData<A>);

impl<'o, A, K> Pointing<'o, A, K> {
    /// This object.
    pub fn new(object: &'o K) -> Self {
        Pointing(object, PhantomData)
    }
}

/// Of the parts of blobs.
pub trait PointsToParts {
    /// The bytes of a part.
    fn pointed_bytes(&self) -> usize;
}

impl<A: Actor, K: BlobPart<A>> PointsToParts for Pointing<'_, A, K> {
    fn pointed_bytes(&self) -> usize {
        self.0.bytes().len()
    }
}

/// Of all kinds.
pub trait PointsToNothing {
    /// None.
    fn pointed_bytes(&self) -> usize;
}

impl<A, K> PointsToNothing for &Pointing<'_, A, K> {
    fn pointed_bytes(&self) -> usize {
        0
    }
}
