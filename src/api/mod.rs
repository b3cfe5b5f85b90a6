//! What programs call while a runtime runs: from any thread, and from tasks on a shard.

pub(crate) mod ask_all;
pub(crate) mod ask_stream;
pub(crate) mod ask_waiting;
pub(crate) mod deadline;
pub(crate) mod flight;
pub(crate) mod handle;
pub(crate) mod local;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
pub(crate) mod watch;
