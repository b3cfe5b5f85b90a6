//! Are the system calls allowed that a log makes on its directory and its files.
//!
//! Each is tried by itself, as in [`calls`](super::calls), on two new files that are removed again.
//! What an io_uring ring does with files is no system call of its own.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::calls::{Attempt, judge};
use super::check::Check;

/// Tries every call. `None` if no file can be made there: [`directory`](super::directory) says why.
pub(super) fn examine(directory: &Path) -> Option<Check> {
    attempts(directory).map(|attempts| judge("calls on files", &attempts))
}

fn attempts(path: &Path) -> Option<Vec<Attempt>> {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    let number = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let [one, other] = ["a", "b"].map(|end| format!(".freehold-doctor-{}-{number}{end}", std::process::id()));
    let read = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, read, Mode::empty()).ok()?;
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, &one, new, Mode::RUSR | Mode::WUSR).ok()?;
    let mut file = File::from(file);
    // Whoever has a log open there holds the lock: then the call was allowed all the same.
    let locked = match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Ok(()),
        locked => locked,
    };
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let listed = Dir::read_from(&directory).and_then(|mut entries| entries.next().transpose());
    let linked = rustix::fs::linkat(&directory, &one, &directory, &other, AtFlags::empty());
    let attempts = [
        ("flock", "the directory is locked", locked.err()),
        (
            "readlink",
            "its path is found, whatever links lead to it",
            path.canonicalize().map_err(errno).err(),
        ),
        ("fstatfs", "it is asked which file system it is", rustix::fs::fstatfs(&directory).err()),
        ("statfs", "glommio asks it of a file's path", rustix::fs::statfs(path).err()),
        ("getdents64", "it is listed", listed.err()),
        ("write", "a manifest is written", file.write_all(b"freehold").map_err(errno).err()),
        ("ftruncate", "an old segment is cut to what it holds", file.set_len(4).map_err(errno).err()),
        ("fsync", "what a name leads to is synced", file.sync_all().map_err(errno).err()),
        ("renameat", "a manifest takes the place of another", {
            rustix::fs::renameat(&directory, &one, &directory, &other).err()
        }),
        ("unlinkat", "what is not needed is removed", {
            // Renaming one name of a file to another of the same file does nothing.
            let name = if linked.is_ok() { &one } else { &other };
            rustix::fs::unlinkat(&directory, name, AtFlags::empty()).err()
        }),
    ];
    for name in [&one, &other] {
        let _ = rustix::fs::unlinkat(&directory, name, AtFlags::empty()); // one at most is there
    }
    Some(attempts.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        for _ in 0..2 {
            let attempts = attempts(directory.path()).expect("a file can be made there");
            assert!(attempts.iter().all(|(.., errno)| errno.is_none()), "{attempts:?}");
            let left = std::fs::read_dir(directory.path()).expect("it can be read").count();
            assert_eq!(left, 0);
        }
        assert!(attempts(&directory.path().join("missing")).is_none());
    }

    #[test]
    fn a_directory_that_another_has_locked_can_be_examined() {
        let directory = tempfile::tempdir().expect("a directory");
        let locked = File::open(directory.path()).expect("it can be opened");
        locked.lock().expect("nobody else has it");
        let attempts = attempts(directory.path()).expect("a file can be made there");
        assert!(attempts.iter().all(|(.., errno)| errno.is_none()), "{attempts:?}");
    }
}
