//! Can the log be written in a directory, and past the page cache.
//!
//! It is tried: a block is written to a new file, directly or else buffered, and the file is
//! removed however that ends.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::check::{Check, Verdict};

/// Tries whether a block can be written in the directory, which is left as it was.
pub(super) fn examine(directory: &Path) -> Check {
    judge_direct_io(directory, &try_direct_io(directory))
}

const BLOCK_BYTES: usize = 4096;

/// A block as direct I/O wants it.
#[repr(align(4096))]
struct Block([u8; BLOCK_BYTES]);

/// What came of writing a block to a new file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DirectIo {
    /// Written past the page cache.
    Works(Medium),
    /// Only a buffered write was accepted; how the direct one was refused.
    Refused(Errno, Medium),
    /// Neither way; the step that failed.
    Impossible { step: &'static str, errno: Errno },
}

/// What a file system keeps its files on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    /// Gone with the next boot (or container).
    Memory,
    /// Anything else.
    Storage,
}

/// Writes a block to a new file in `directory`, directly or else buffered, and removes the file.
fn try_direct_io(directory: &Path) -> DirectIo {
    /// Removes the file however the attempt ends: a file system that refuses direct I/O may have
    /// made it all the same.
    struct Removed(PathBuf);
    impl Drop for Removed {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0); // absent if it could not be made
        }
    }

    let attempt = |flags: OFlags| -> Result<Medium, (&'static str, Errno)> {
        static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
        let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".freehold-doctor-{}-{attempt}", std::process::id()));
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, &path, new | flags, Mode::RUSR | Mode::WUSR);
        let _removed = match opened {
            Err(Errno::EXIST) => None, // somebody else's
            _ => Some(Removed(path)),
        };
        let file = File::from(opened.map_err(|errno| ("making a file", errno))?);
        let block = Box::new(Block([0; BLOCK_BYTES]));
        match file.write_at(&block.0, 0) {
            Ok(BLOCK_BYTES) => {}
            Ok(_) => return Err(("writing a block", Errno::NOSPC)),
            Err(error) => return Err(("writing a block", Errno::from_io_error(&error).unwrap_or(Errno::IO))),
        }
        Ok(rustix::fs::fstatfs(&file)
            .map_or(Medium::Storage, |file_system| medium(file_system.f_type as u64)))
    };
    match attempt(OFlags::DIRECT) {
        Ok(medium) => DirectIo::Works(medium),
        // What a file system without direct I/O answers, at the opening or at the write.
        Err((_, refused @ (Errno::INVAL | Errno::OPNOTSUPP))) => match attempt(OFlags::empty()) {
            Ok(medium) => DirectIo::Refused(refused, medium),
            Err((step, errno)) => DirectIo::Impossible { step, errno },
        },
        Err((step, errno)) => DirectIo::Impossible { step, errno },
    }
}

/// By the magic number of the file system: tmpfs and ramfs.
fn medium(magic: u64) -> Medium {
    match magic & 0xffff_ffff {
        0x0102_1994 | 0x8584_58f6 => Medium::Memory,
        _ => Medium::Storage,
    }
}

fn judge_direct_io(directory: &Path, outcome: &DirectIo) -> Check {
    let place = directory.display();
    let volume = format!(
        "container: docker run -v /srv/freehold:{0} IMAGE   # a volume on ext4 or XFS of the host\n\
         host: choose a directory on ext4 or XFS; check: findmnt -T {0}",
        quoted(directory)
    );
    let memory = "a file system in memory, so that nothing survives a reboot";
    let (verdict, found, fix) = match outcome {
        DirectIo::Works(Medium::Storage) => (Verdict::Passed, format!("works in {place}"), String::new()),
        DirectIo::Works(Medium::Memory) => {
            (Verdict::Warned, format!("works in {place}, which is {memory}"), volume)
        }
        DirectIo::Refused(errno, medium) => {
            let memory =
                if *medium == Medium::Memory { format!(", which is {memory}") } else { String::new() };
            (Verdict::Warned, format!("refused in {place}{memory} ({errno}); works buffered"), volume)
        }
        DirectIo::Impossible { step, errno } => {
            let fix = match *errno {
                Errno::NOENT => {
                    format!("host: mkdir -p {}   # writable for the user who runs this", quoted(directory))
                }
                Errno::NOTDIR => format!("host: {place} lies on or below a plain file; name a directory"),
                Errno::ACCESS | Errno::PERM => format!(
                    "host: chown USER {0}   # as root\n\
                     container: chown the volume to the container's user, or docker run --user UID IMAGE\n\
                     systemd: add [Service] ReadWritePaths={0} where ProtectSystem= is set",
                    quoted(directory)
                ),
                Errno::ROFS => format!(
                    "host: mount -o remount,rw THE_MOUNT   # findmnt -T {0} names it\n\
                     container: docker run -v /srv/freehold:{0} IMAGE\n\
                     systemd: add [Service] ReadWritePaths={0} where ProtectSystem= is set",
                    quoted(directory)
                ),
                Errno::NOSPC | Errno::DQUOT => {
                    format!("host: make room; check: df -h {0}; df -i {0}", quoted(directory))
                }
                _ => format!(
                    "host: repair the file system; check: dmesg | tail; findmnt -T {}",
                    quoted(directory)
                ),
            };
            (Verdict::Failed, format!("{step} in {place} failed: {errno}"), fix)
        }
    };
    Check::new("direct I/O", verdict, found)
        .because(
            "The log writes blocks past the page cache, so that a write that has returned takes a \
             predictable time and no memory of others.",
        )
        .fixed_by(|| fix)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+@%".contains(character);
    if !path.is_empty() && path.chars().all(plain) {
        path
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{fix, verdict};

    #[test]
    fn direct_io_warns_where_buffered_works_and_fails_where_nothing_does() {
        let judge = |outcome| judge_direct_io(Path::new("/srv/it's here"), &outcome);
        assert_eq!(verdict(&judge(DirectIo::Works(Medium::Storage))), Verdict::Passed);
        let refused = judge(DirectIo::Refused(Errno::INVAL, Medium::Storage));
        assert_eq!(verdict(&refused), Verdict::Warned);
        assert!(refused.found.ends_with("works buffered") && !refused.found.contains("memory"));
        assert!(fix(&refused).contains(r"findmnt -T '/srv/it'\''s here'"), "{}", fix(&refused));
        for outcome in [DirectIo::Works(Medium::Memory), DirectIo::Refused(Errno::INVAL, Medium::Memory)] {
            let check = judge(outcome);
            assert_eq!(verdict(&check), Verdict::Warned);
            assert!(check.found.contains("nothing survives a reboot"));
        }
        for (errno, advice) in [
            (Errno::NOENT, "mkdir -p"),
            (Errno::NOTDIR, "name a directory"),
            (Errno::ACCESS, "chown USER"),
            (Errno::ROFS, "remount,rw"),
            (Errno::NOSPC, "df -h"),
            (Errno::IO, "dmesg"),
        ] {
            let check = judge(DirectIo::Impossible { step: "making a file", errno });
            assert_eq!(verdict(&check), Verdict::Failed);
            assert!(fix(&check).contains(advice), "{errno}: {}", fix(&check));
        }
        assert_eq!([0x0102_1994, 0x8584_58f6, 0xffff_ffff_8584_58f6].map(medium), [Medium::Memory; 3]);
        assert_eq!(medium(0xef53), Medium::Storage);
    }

    #[test]
    fn a_directory_is_tried_and_left_empty() {
        let directory = tempfile::tempdir().expect("a test can make a directory");
        let outcome = try_direct_io(directory.path());
        assert!(!matches!(outcome, DirectIo::Impossible { .. }), "{outcome:?}");
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 0);

        let missing = try_direct_io(&directory.path().join("missing"));
        assert!(matches!(missing, DirectIo::Impossible { errno: Errno::NOENT, .. }), "{missing:?}");
        let file = directory.path().join("file");
        fs::write(&file, "").expect("a test can write a file");
        let below = try_direct_io(&file);
        assert!(matches!(below, DirectIo::Impossible { errno: Errno::NOTDIR, .. }), "{below:?}");
    }
}
