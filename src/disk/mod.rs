//! Files and directories for the log: what is synced, what is locked, and what is said when the
//! disk refuses.
//!
//! Here is what the files are called, and nothing of what they contain. A
//! [`Directory`](directory::Directory) belongs to one runtime at a time. A
//! [`LogFile`](file::LogFile) is written by one shard, and a write that has returned is on the
//! disk. Any error means that nothing more may be written: no sync is tried twice, because the
//! kernel reports a failed one once and forgets the data.

pub(crate) mod directory;
pub(crate) mod error;
pub(crate) mod faults;
pub(crate) mod file;
pub(crate) mod name;
pub(crate) mod pieces;
#[cfg(test)]
mod tests;
