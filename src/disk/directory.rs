//! A directory that belongs to one runtime at a time, and its small files, which are replaced as a whole.
//!
//! - Who has opened it to write holds an exclusive lock on the file `lock` in it, until the last clone is dropped or the process ends,
//!   however it ends. The lock is of the open file description (`flock`), so a second runtime of the same process is kept out as well.
//! - [`replace`](Directory::replace) changes a file from one content to another with no moment between: after a crash the file is there
//!   and has either the old content or the new.
//! - What [`rename`](Directory::rename) and [`remove`](Directory::remove) did outlasts a power cut only after [`sync`](Directory::sync).
//!
//! Everything blocks, so it is called outside the executors, or on an executor's blocking thread.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::LogError;
use super::faults::Faults;

/// The file that is locked. It is always empty, and never removed: a lock on a removed file would keep nobody out.
const LOCK: &str = "lock";

/// The magic number of FUSE, and of virtiofs.
const FUSE: u64 = 0x6573_5546;

/// How a directory and its files are written.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Whether anything is synced. Without, a power cut loses what was acknowledged: for tests that must see that happen.
    pub(crate) syncs: bool,
    /// Writes of log files that are to fail.
    pub(crate) faults: Option<Arc<Faults>>,
    /// A byte of each file that is written once that comes to the disk as another.
    pub(crate) flips_part: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options { syncs: true, faults: None, flips_part: None }
    }
}

/// A directory of the log. Clones are the same directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Absolute, and without symbolic links: glommio opens by path from the root.
    path: PathBuf,
    /// Held for as long as this is; none if the directory is only read.
    lock: Option<File>,
    options: Options,
    /// Whether a program and not the kernel keeps the files.
    fuse: bool,
    /// Set when the file system first refuses direct I/O. From then on its files are opened without.
    buffered: AtomicBool,
}

impl Directory {
    /// Opens a directory to write, and makes it first if it is missing, with its parents.
    pub(crate) fn open(path: &Path) -> Result<Directory, LogError> {
        Directory::open_with(path, Options::default())
    }

    /// [`open`](Directory::open), otherwise than usual.
    pub(crate) fn open_with(path: &Path, options: Options) -> Result<Directory, LogError> {
        let path = std::path::absolute(path).map_err(|source| LogError::io("opening", path, source))?;
        make(&path, options.syncs)?;
        let path = fs::canonicalize(&path).map_err(|source| LogError::io("opening", &path, source))?;
        let file = path.join(LOCK);
        let lock = File::options().write(true).create(true).truncate(false).open(&file);
        let lock = lock.map_err(|source| LogError::io("opening", &file, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LogError::InUse { directory: path }),
            Err(TryLockError::Error(source)) => return Err(LogError::io("locking", &file, source)),
        }
        Directory::new(path, Some(lock), options)
    }

    /// Opens a directory to read, whoever has it open. Makes nothing and locks nothing: what is read may be changing.
    pub(crate) fn read_only(path: &Path) -> Result<Directory, LogError> {
        let path = fs::canonicalize(path).map_err(|source| LogError::io("opening", path, source))?;
        if !path.is_dir() {
            return Err(LogError::NotADirectory { directory: path });
        }
        Directory::new(path, None, Options::default())
    }

    fn new(path: PathBuf, lock: Option<File>, options: Options) -> Result<Directory, LogError> {
        let file_system =
            rustix::fs::statfs(&path).map_err(|error| LogError::io("opening", &path, error.into()))?;
        let fuse = file_system.f_type as u64 & 0xffff_ffff == FUSE;
        Ok(Directory {
            inner: Arc::new(Inner { path, lock, options, fuse, buffered: AtomicBool::new(false) }),
        })
    }

    /// Lets another have the directory, though somebody may still hold this.
    pub(crate) fn unlock(&self) {
        if let Some(lock) = &self.inner.lock
            && let Err(error) = lock.unlock()
        {
            tracing::warn!(%error, directory = %self.path().display(), "the directory stays locked until the process ends");
        }
    }

    /// The directory's absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The absolute path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        debug_assert!(!name.contains('/') && !name.is_empty(), "{name} names a file of the directory");
        self.inner.path.join(name)
    }

    /// Its files and their lengths in bytes, by name. Without the lock, without directories, and without names that are not UTF-8 and so
    /// not ours.
    pub(crate) fn list(&self) -> Result<Vec<(String, u64)>, LogError> {
        let failed = |source| LogError::io("listing", self.path(), source);
        let mut files = Vec::new();
        for entry in fs::read_dir(self.path()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(file) if file.is_file() && name != LOCK => files.push((name, file.len())),
                Ok(_) => {}
                // Somebody else's, or it is only read here: removed since.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(LogError::io("listing", &entry.path(), error)),
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// All of a file.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, LogError> {
        let file = self.file(name);
        fs::read(&file).map_err(|source| LogError::io("reading", &file, source))
    }

    /// The first bytes of a file: `most`, or as many as it has.
    pub(crate) fn read_start(&self, name: &str, most: usize) -> Result<Vec<u8>, LogError> {
        let file = self.file(name);
        let mut bytes = Vec::with_capacity(most);
        let read = File::open(&file).and_then(|open| open.take(most as u64).read_to_end(&mut bytes));
        read.map_err(|source| LogError::io("reading", &file, source))?;
        Ok(bytes)
    }

    /// Copies a file of another directory, and syncs the copy, but not its name. There must be none of that name.
    pub(crate) fn copy_in(&self, from: &Path, name: &str) -> Result<u64, LogError> {
        self.assert_ours();
        let path = self.file(name);
        let mut original = File::open(from).map_err(|source| LogError::io("reading", from, source))?;
        let failed = |source| LogError::io("writing", &path, source);
        let mut copy = File::create_new(&path).map_err(failed)?;
        // The standard library has the kernel do it, or the file system, where that can.
        let bytes = std::io::copy(&mut original, &mut copy).map_err(failed)?;
        if self.syncs() {
            copy.sync_all().map_err(|source| LogError::io("syncing", &path, source))?;
        }
        Ok(bytes)
    }

    /// Gives a file of another directory a name in this one too. Says `false` where that cannot be had: on another file system, above all.
    ///
    /// # Errors
    /// There is no such file.
    pub(crate) fn link_in(&self, from: &Path, name: &str) -> Result<bool, LogError> {
        self.assert_ours();
        match fs::hard_link(from, self.file(name)) {
            Ok(()) => Ok(true),
            Err(source) if source.kind() == ErrorKind::NotFound => Err(LogError::io("linking", from, source)),
            Err(_) => Ok(false),
        }
    }

    /// How many names a file has: more than one if somebody keeps it, as a backup does.
    pub(crate) fn names_of(&self, name: &str) -> Result<u64, LogError> {
        let file = self.file(name);
        let found = fs::metadata(&file).map_err(|source| LogError::io("looking at", &file, source))?;
        Ok(found.nlink())
    }

    /// Cuts a file to its first `bytes` bytes, unless it has other names: who keeps it under another keeps it as it is. A crash may leave
    /// it uncut.
    pub(crate) fn cut(&self, name: &str, bytes: u64) -> Result<(), LogError> {
        self.assert_ours();
        let file = self.file(name);
        let cut = || {
            let open = File::options().write(true).open(&file)?;
            let found = open.metadata()?;
            if found.len() > bytes && found.nlink() == 1 { open.set_len(bytes) } else { Ok(()) }
        };
        cut().map_err(|source| LogError::io("cutting", &file, source))
    }

    /// Makes a file hold these bytes and nothing else. What it held before is kept as `name.old`.
    ///
    /// When this returns, both are on the disk. After an error or a crash `name` holds the old content or the new, as a whole, and
    /// `name.old` what it held before, or what `name` does; `name.new` and `name.old.new` may be left over.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), LogError> {
        let [current, new, old, old_new] = ["", ".new", ".old", ".old.new"].map(|end| format!("{name}{end}"));
        self.write(&new, bytes)?;
        if self.second_name(&current, &old_new)? {
            self.rename(&old_new, &old)?;
            // Renaming one name of a file to another of the same file does nothing (rename(2)). They are the same when the last
            // replacement got as far as here.
            self.remove_if_there(&old_new)?;
        }
        self.rename(&new, &current)?;
        self.sync()
    }

    /// Writes and syncs a new file, but not its name. One that has the name is left as it is under its other names, if it has any.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), LogError> {
        self.remove_if_there(name)?;
        let path = self.file(name);
        let failed = |source| LogError::io("writing", &path, source);
        let mut file = File::create_new(&path).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        if self.syncs() {
            file.sync_all().map_err(|source| LogError::io("syncing", &path, source))?;
        }
        Ok(())
    }

    /// Makes a file of so many bytes, all zero, and syncs it, but not its name. What has the name already is replaced.
    pub(crate) fn create_zeroed(&self, name: &str, bytes: u64) -> Result<(), LogError> {
        self.remove_if_there(name)?;
        let path = self.file(name);
        let failed = |source| LogError::io("making", &path, source);
        let mut file = File::create_new(&path).map_err(failed)?;
        let mut zeros = std::io::repeat(0).take(bytes);
        let filled = std::io::copy(&mut zeros, &mut file)
            .and_then(|_| if self.syncs() { file.sync_all() } else { Ok(()) });
        if filled.is_err() {
            // The error is told, and what this one says would change nothing.
            let _ = fs::remove_file(&path);
        }
        filled.map_err(failed)
    }

    /// Gives a file a second name, and takes that from whatever had it; or says that there is no such file. Where the file system has no
    /// hard links the second name is of a copy.
    fn second_name(&self, name: &str, second: &str) -> Result<bool, LogError> {
        self.remove_if_there(second)?;
        match fs::hard_link(self.file(name), self.file(second)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(_) => self.write(second, &self.read(name)?).map(|()| true),
        }
    }

    /// Gives a file another name, and takes that from whatever had it.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), LogError> {
        self.assert_ours();
        let file = self.file(from);
        fs::rename(&file, self.file(to)).map_err(|source| LogError::io("renaming", &file, source))
    }

    /// Removes a file, which must be there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), LogError> {
        self.assert_ours();
        let file = self.file(name);
        fs::remove_file(&file).map_err(|source| LogError::io("removing", &file, source))
    }

    pub(crate) fn remove_if_there(&self, name: &str) -> Result<(), LogError> {
        match self.remove(name) {
            Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Puts on the disk which names there are, and of which files.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        if self.syncs() { sync_directory(self.path()) } else { Ok(()) }
    }

    /// Whether anything is synced.
    pub(super) fn syncs(&self) -> bool {
        self.inner.options.syncs
    }

    /// Whether it is on FUSE, where `O_DSYNC` is not enough.
    pub(super) fn is_fuse(&self) -> bool {
        self.inner.fuse
    }

    /// Writes that are to fail.
    pub(super) fn faults(&self) -> Option<&Faults> {
        self.inner.options.faults.as_deref()
    }

    /// The byte of a [`NewFile`](super::file::NewFile) that comes to the disk as another.
    pub(super) fn flips_part(&self) -> Option<u64> {
        self.inner.options.flips_part
    }

    /// Whether direct I/O was refused here.
    pub(super) fn is_buffered(&self) -> bool {
        self.inner.buffered.load(Ordering::Relaxed)
    }

    /// Notes that direct I/O is refused here, and warns of it the first time.
    pub(super) fn note_buffered(&self, why: &dyn std::fmt::Display) {
        if !self.inner.buffered.swap(true, Ordering::Relaxed) {
            let directory = self.path().display();
            tracing::warn!(%directory, %why, "no direct I/O: the log is written through the page cache");
        }
    }

    /// Who only reads must not change anything under the one who writes.
    pub(super) fn assert_ours(&self) {
        assert!(self.inner.lock.is_some(), "{} is open to read only", self.path().display());
    }
}

/// Makes a directory, unless it is there, and its parents. Those it makes are there after a power cut too.
fn make(path: &Path, syncs: bool) -> Result<(), LogError> {
    let parent = path.parent().unwrap_or(path);
    let made = match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && parent != path => {
            make(parent, syncs)?;
            fs::create_dir(path)
        }
        made => made,
    };
    match made {
        Ok(()) if syncs => sync_directory(parent),
        Ok(()) => Ok(()),
        // Also where it is there and may not be made: at the root of a mount that is read-only, say.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotADirectory) => {
            Err(LogError::NotADirectory { directory: path.to_path_buf() })
        }
        Err(source) => Err(LogError::io("making", path, source)),
    }
}

/// By fsync and not by fdatasync.
fn sync_directory(path: &Path) -> Result<(), LogError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|source| LogError::io("syncing", path, source))
}
