//! Objects in memory: where each is, what it was before, and the way of a checkpoint through them.

mod equal;
pub(crate) mod home;
pub(crate) mod id_range;
pub(crate) mod index;
pub(crate) mod order;
pub(crate) mod partition;
mod removed;
pub(crate) mod slot;
pub(crate) mod slots;
pub(crate) mod tree;
mod unordered;
pub(crate) mod version;
pub(crate) mod walk;
