//! Numbers nobody can guess: keys of placement, seeds of tables, names of runs.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number nobody can guess: the standard library draws its keys from the system, anew for each
/// process and changed for each use.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
