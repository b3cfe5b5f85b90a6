//! How words pass between threads: messages into a shard, answers out of it, and wakes both ways.
//!
//! Nothing here knows what a shard does with a message, or when its pump runs.

pub(crate) mod batch_reply;
pub(crate) mod blocked;
pub(crate) mod each_shard;
pub(crate) mod free_list;
mod in_bulk;
pub(crate) mod lanes;
pub(crate) mod mailbox;
pub(crate) mod parking;
pub(crate) mod replies;
pub(crate) mod sync;
pub(crate) mod waiting;
pub(crate) mod watching;
