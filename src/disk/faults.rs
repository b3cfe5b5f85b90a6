//! Writes that fail on purpose, for tests: the disk's errors at the place where the disk would
//! report them.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

/// How a write fails. `written` bytes of it are on the disk all the same: whole blocks, and fewer
/// than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteFault {
    /// It reports this error.
    Error { errno: Errno, written: usize },
    /// It reports that so much was written, and no error.
    Short { written: usize },
}

/// Counts the writes of all [`LogFile`](super::file::LogFile)s of a directory, and makes one of
/// them fail. The ones after it succeed, so that a test sees whether any is still tried.
#[derive(Debug)]
pub(crate) struct WriteFaults {
    fault: WriteFault,
    after: u64,
    writes: AtomicU64,
}

impl WriteFaults {
    /// Lets `after` writes pass and makes the next one fail.
    pub(crate) fn new(fault: WriteFault, after: u64) -> WriteFaults {
        WriteFaults { fault, after, writes: AtomicU64::new(0) }
    }

    /// How many writes were tried, with the one that failed. The zeros a new file is filled with do
    /// not count.
    #[cfg(test)]
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Counts a write, and says how it is to fail, if it is.
    pub(super) fn strike(&self) -> Option<WriteFault> {
        let before = self.writes.fetch_add(1, Ordering::Relaxed);
        (before == self.after).then_some(self.fault)
    }
}
