//! A directory that belongs to one runtime at a time, and its small files, which are replaced as a
//! whole.
//!
//! - Everything goes by the directory's descriptor, and nothing by its path. A directory that is
//!   moved while it is open stays the one that is written, and whatever has the path then is not
//!   touched.
//! - Who has opened it to write holds an exclusive lock (`flock`) on the directory itself, until
//!   the last clone is dropped or the process ends, however it ends. The lock is of the open file
//!   description, so a second runtime of the same process is kept out as well. Earlier versions
//!   lock the file `lock` in it; that is locked too, so that they and this one keep each other out.
//! - [`replace`](Directory::replace) changes a file from one content to another with no moment
//!   between: after a crash the file is there and has either the old content or the new.
//! - What [`rename`](Directory::rename) and [`remove`](Directory::remove) did outlasts a power cut
//!   only after [`sync`](Directory::sync).
//! - [`list`](Directory::list) has the files whose names are ours (see [`name`](super::name)), and
//!   none of anybody else's. What has a name of ours and is no plain file is refused: a link would
//!   be read where it leads, and replaced where it stands.
//! - New files are the owner's alone to read and write (0600), and new directories too (0700).
//!
//! Everything blocks, so it is called outside the executors, or on an executor's blocking thread.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::LogError;
use super::faults::WriteFaults;
use super::name::{FileName, LOCK, MANIFEST, NEW, OLD, OLD_NEW};
use crate::fork::Birth;

/// What a new file may be used for: by its owner, and by nobody else.
pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// The same of a directory.
const DIRECTORY_MODE: u32 = 0o700;

/// The magic number of FUSE, and of virtiofs.
const FUSE: u64 = 0x6573_5546;

/// How a directory and its files are written.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Whether anything is synced. Without, a power cut loses what was acknowledged: for tests that
    /// must see that happen.
    pub(crate) syncs: bool,
    /// Writes of log files that are to fail.
    pub(crate) faults: Option<Arc<WriteFaults>>,
    /// A byte of each file that is written once that comes to the disk as another.
    pub(crate) flips_part: Option<u64>,
    /// What is done where there is nothing.
    pub(crate) absent: Absent,
}

/// What [`Directory::open_with`] does where there is no directory, or none with a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Makes the directory, with its parents.
    Made,
    /// Makes nothing, not even the file that is locked: it may be where a volume is to be mounted.
    LeftAlone,
}

impl Default for Options {
    fn default() -> Options {
        Options { syncs: true, faults: None, flips_part: None, absent: Absent::Made }
    }
}

/// A directory of the log. Clones are the same directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Where it was when it was opened: absolute, and without symbolic links. For what is said of
    /// it; nothing is opened by it.
    path: PathBuf,
    /// The directory. Locked for as long as this is, unless it is only read.
    handle: File,
    /// Its device and inode.
    identity: (u64, u64),
    /// The file that earlier versions lock; none if the directory is only read.
    lock: Option<File>,
    /// In a forked child the locks are the parent's.
    birth: Birth,
    options: Options,
    is_ours: bool,
    /// Whether a program and not the kernel keeps the files.
    fuse: bool,
    /// Set when the file system first refuses direct I/O. From then on its files are opened
    /// without.
    buffered: AtomicBool,
    /// Set when it was first found to have been moved.
    moved: AtomicBool,
}

impl Inner {
    fn unlock(&self) -> io::Result<()> {
        let locked = self.lock.iter().chain(self.is_ours.then_some(&self.handle));
        locked.map(File::unlock).fold(Ok(()), Result::and)
    }
}

/// To close the files is not enough. A child that another thread is forking has them, too, until it
/// runs its program, and a lock lasts as long as any of them. So a runtime that opened the
/// directory right after another had left it found it in use.
impl Drop for Inner {
    fn drop(&mut self) {
        if !self.birth.is_elsewhere() {
            let _ = self.unlock();
        }
    }
}

impl Directory {
    /// Opens a directory to write, and makes it first if it is missing, with its parents.
    pub(crate) fn open(path: &Path) -> Result<Directory, LogError> {
        Directory::open_with(path, Options::default())
    }

    /// [`open`](Directory::open), otherwise than usual.
    pub(crate) fn open_with(path: &Path, options: Options) -> Result<Directory, LogError> {
        let path = std::path::absolute(path).map_err(|source| LogError::io("opening", path, source))?;
        match options.absent {
            Absent::Made => make(&path, options.syncs)?,
            Absent::LeftAlone => match fs::metadata(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(LogError::NoDatabase { directory: path });
                }
                _ => {}
            },
        }
        let (path, handle) = open_directory(&path)?;
        lock(&handle, &path, &path)?;
        let mut directory = Directory::new(path, handle, options)?;
        let inner = Arc::get_mut(&mut directory.inner).expect("nobody else has it yet");
        inner.is_ours = true;
        directory.lock_for_earlier_versions()?;
        Ok(directory)
    }

    /// Opens a directory to read, whoever has it open. Makes nothing and locks nothing: what is
    /// read may be changing.
    pub(crate) fn read_only(path: &Path) -> Result<Directory, LogError> {
        let (path, handle) = open_directory(path)?;
        Directory::new(path, handle, Options::default())
    }

    fn new(path: PathBuf, handle: File, options: Options) -> Result<Directory, LogError> {
        let failed = |error: Errno| LogError::io("opening", &path, error.into());
        let file_system = rustix::fs::fstatfs(&handle).map_err(failed)?;
        let identity = identity(&rustix::fs::fstat(&handle).map_err(failed)?);
        let fuse = file_system.f_type as u64 & 0xffff_ffff == FUSE;
        let (buffered, moved) = (AtomicBool::new(false), AtomicBool::new(false));
        let (lock, is_ours, birth) = (None, false, Birth::now());
        let inner = Inner { path, handle, identity, lock, birth, options, is_ours, fuse, buffered, moved };
        Ok(Directory { inner: Arc::new(inner) })
    }

    /// Takes the lock that earlier versions take. They make the file if it is missing.
    fn lock_for_earlier_versions(&mut self) -> Result<(), LogError> {
        let is_to_be_made = self.inner.options.absent == Absent::Made || self.has(MANIFEST)?;
        let create = if is_to_be_made { OFlags::CREATE } else { OFlags::empty() };
        let file = match self.open_file(LOCK, OFlags::WRONLY | create) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && !is_to_be_made => return Ok(()),
            Err(source) => return Err(self.failed("opening", LOCK, source)),
        };
        lock(&file, &self.file(LOCK), self.path())?;
        Arc::get_mut(&mut self.inner).expect("nobody else has it yet").lock = Some(file);
        Ok(())
    }

    /// The descriptors that have its locks, as a forked child has them.
    #[cfg(test)]
    pub(super) fn copies(&self) -> Vec<File> {
        let locked = self.inner.lock.iter().chain([&self.inner.handle]);
        locked.map(|file| file.try_clone().expect("there is room")).collect()
    }

    /// Lets another have the directory, though somebody may still hold this.
    pub(crate) fn unlock(&self) {
        if let Err(error) = self.inner.unlock() {
            tracing::warn!(%error, directory = %self.path().display(), "the directory stays locked until the process ends");
        }
    }

    /// The directory's absolute path, as it was when it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The absolute path of a file in it, to be told. Nothing is opened by it: see
    /// [`Directory::open_to_read`].
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        debug_assert!(!name.contains('/') && !name.is_empty(), "{name} names a file of the directory");
        self.inner.path.join(name)
    }

    /// A path that leads to a file in it, or to the directory itself, wherever the directory is by
    /// now: for what takes a path only, as glommio does. It holds as long as this is open.
    ///
    /// # Errors
    /// [`LogError::NoProc`]: there is no such path without /proc.
    pub(super) fn by_descriptor(&self, name: Option<&str>) -> Result<PathBuf, LogError> {
        // Before Linux 5.12 the thread that opens a file for a ring was no thread of the process,
        // and `self` another one's. Where /proc is of another name space than the process, its
        // number there is unknown, and `self` right.
        let processes = [std::process::id().to_string(), "self".to_string()];
        self.by_descriptor_in(Path::new("/proc"), &processes, name)
    }

    /// [`Directory::by_descriptor`], for tests: with another place for /proc, and other processes.
    pub(super) fn by_descriptor_in(
        &self,
        proc: &Path,
        processes: &[String],
        name: Option<&str>,
    ) -> Result<PathBuf, LogError> {
        let descriptor = self.inner.handle.as_raw_fd().to_string();
        let paths = processes.iter().map(|process| proc.join(process).join("fd").join(&descriptor));
        let is_it = |path: &PathBuf| {
            rustix::fs::stat(path).is_ok_and(|found| identity(&found) == self.inner.identity)
        };
        let Some(path) = paths.into_iter().find(is_it) else {
            return Err(LogError::NoProc { directory: self.path().to_path_buf() });
        };
        Ok(name.map_or(path.clone(), |name| path.join(name)))
    }

    /// Opens a file of it, and follows no link.
    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.inner.handle, name, flags, FILE_MODE)?.into())
    }

    /// A file, open to read.
    pub(crate) fn open_to_read(&self, name: &str) -> Result<File, LogError> {
        self.open_file(name, OFlags::RDONLY).map_err(|source| self.failed("opening", name, source))
    }

    /// A file that is there, open to write.
    pub(crate) fn open_to_write(&self, name: &str) -> Result<File, LogError> {
        self.assert_ours();
        self.open_file(name, OFlags::WRONLY).map_err(|source| self.failed("opening", name, source))
    }

    /// A file, open to write. It is made if it is missing.
    pub(crate) fn open_or_create(&self, name: &str) -> Result<File, LogError> {
        self.assert_ours();
        let opened = self.open_file(name, OFlags::WRONLY | OFlags::CREATE);
        opened.map_err(|source| self.failed("opening", name, source))
    }

    /// A file that nobody has made yet, open to write.
    fn create_new(&self, name: &str) -> io::Result<File> {
        self.assert_ours();
        self.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    /// What the system said of an `action` on a file of it.
    fn failed(&self, action: &'static str, name: &str, source: io::Error) -> LogError {
        match Errno::from_io_error(&source) {
            // It was opened so that no link is followed.
            Some(Errno::LOOP) => LogError::NotAFile { file: self.file(name), what: "a symbolic link" },
            _ => LogError::io(action, &self.file(name), source),
        }
    }

    /// What is known of a file, or that there is none.
    fn stat(&self, name: &str) -> Result<Option<Stat>, LogError> {
        match rustix::fs::statat(&self.inner.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("looking at", name, error.into())),
        }
    }

    /// Whether there is anything of that name.
    fn has(&self, name: &str) -> Result<bool, LogError> {
        Ok(self.stat(name)?.is_some())
    }

    /// All that is in it: names, and what has them.
    fn entries(&self) -> Result<Vec<(String, FileType, u64)>, LogError> {
        let failed = |error: Errno| LogError::io("listing", self.path(), error.into());
        let mut entries = Vec::new();
        // From a descriptor of its own: another that reads at the same time goes on from where this
        // one is.
        for entry in Dir::read_from(&self.inner.handle).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match rustix::fs::statat(&self.inner.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => {
                    let kind = FileType::from_raw_mode(found.st_mode);
                    entries.push((name.to_string_lossy().into_owned(), kind, found.st_size as u64));
                }
                // Somebody else's, or it is only read here: removed since.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(self.failed("listing", &name.to_string_lossy(), error.into())),
            }
        }
        entries.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        Ok(entries)
    }

    /// The files whose names are ours and their lengths in bytes, by name; without the one that is
    /// locked.
    ///
    /// # Errors
    /// [`LogError::NotAFile`]: one that has a name of ours is no plain file.
    pub(crate) fn list(&self) -> Result<Vec<(String, u64)>, LogError> {
        let mut files = Vec::new();
        for (name, kind, bytes) in self.entries()? {
            let Some(parsed) = FileName::parse(&name) else { continue };
            let what = match kind {
                FileType::RegularFile => {
                    if parsed != FileName::Fixed(LOCK) {
                        files.push((name, bytes));
                    }
                    continue;
                }
                FileType::Symlink => "a symbolic link",
                FileType::Directory => "a directory",
                _ => "no plain file",
            };
            return Err(LogError::NotAFile { file: self.file(&name), what });
        }
        Ok(files)
    }

    /// What is in it that is not ours, but for directories (as `lost+found`), and how long it is.
    /// Nobody here touches it.
    pub(crate) fn list_others(&self) -> Result<Vec<(String, u64)>, LogError> {
        let is_other = |(name, kind, _): &(String, FileType, u64)| {
            FileName::parse(name).is_none() && *kind != FileType::Directory
        };
        let others = self.entries()?.into_iter().filter(is_other);
        Ok(others.map(|(name, _, bytes)| (name, bytes)).collect())
    }

    /// All of a file.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, LogError> {
        let mut bytes = Vec::new();
        let read = self.open_to_read(name)?.read_to_end(&mut bytes);
        read.map_err(|source| self.failed("reading", name, source))?;
        Ok(bytes)
    }

    /// The first bytes of a file: `most`, or as many as it has.
    pub(crate) fn read_start(&self, name: &str, most: usize) -> Result<Vec<u8>, LogError> {
        // `most` may be what a file says of itself, and that may be anything: so no memory is taken
        // for it in advance.
        let mut bytes = Vec::new();
        let read = self.open_to_read(name)?.take(most as u64).read_to_end(&mut bytes);
        read.map_err(|source| self.failed("reading", name, source))?;
        Ok(bytes)
    }

    /// Copies a file of a directory, this one or another, and syncs the copy, but not its name.
    /// There must be none of that name.
    pub(crate) fn copy_in(&self, from: &Directory, original: &str, name: &str) -> Result<u64, LogError> {
        let mut original = from.open_to_read(original)?;
        let failed = |source| self.failed("writing", name, source);
        let mut copy = self.create_new(name).map_err(failed)?;
        // The standard library has the kernel do it, or the file system, where that can.
        let bytes = io::copy(&mut original, &mut copy).map_err(failed)?;
        if self.syncs() {
            copy.sync_all().map_err(|source| self.failed("syncing", name, source))?;
        }
        Ok(bytes)
    }

    /// Gives a file of another directory a name in this one too. Says `false` where that cannot be
    /// had: on another file system, above all.
    ///
    /// # Errors
    /// There is no such file.
    pub(crate) fn link_in(&self, from: &Directory, original: &str, name: &str) -> Result<bool, LogError> {
        self.assert_ours();
        match self.link(from, original, name) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Err(from.failed("linking", original, Errno::NOENT.into())),
            Err(_) => Ok(false),
        }
    }

    fn link(&self, from: &Directory, original: &str, name: &str) -> Result<(), Errno> {
        rustix::fs::linkat(&from.inner.handle, original, &self.inner.handle, name, AtFlags::empty())
    }

    /// How many names a file has: more than one if somebody keeps it, as a backup does.
    pub(crate) fn names_of(&self, name: &str) -> Result<u64, LogError> {
        let found = self.stat(name)?;
        let found = found.ok_or_else(|| self.failed("looking at", name, Errno::NOENT.into()))?;
        // It is narrower on some architectures.
        #[allow(clippy::useless_conversion, reason = "it is of another size elsewhere")]
        Ok(found.st_nlink.into())
    }

    /// Cuts a file to its first `bytes` bytes, unless it has other names: who keeps it under
    /// another keeps it as it is. A crash may leave it uncut.
    pub(crate) fn cut(&self, name: &str, bytes: u64) -> Result<(), LogError> {
        let open = self.open_to_write(name)?;
        let cut = || {
            let found = open.metadata()?;
            if found.len() > bytes && found.nlink() == 1 { open.set_len(bytes) } else { Ok(()) }
        };
        cut().map_err(|source| self.failed("cutting", name, source))
    }

    /// Makes a file hold these bytes and nothing else. What it held before is kept as `name.old`.
    ///
    /// When this returns, both are on the disk. After an error or a crash `name` holds the old
    /// content or the new, as a whole, and `name.old` what it held before, or what `name` does;
    /// `name.new` and `name.old.new` may be left over.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), LogError> {
        let [current, new, old, old_new] = ["", NEW, OLD, OLD_NEW].map(|end| format!("{name}{end}"));
        self.write(&new, bytes)?;
        if self.second_name(&current, &old_new)? {
            self.rename(&old_new, &old)?;
            // Renaming one name of a file to another of the same file does nothing (rename(2)).
            // They are the same when the last replacement got as far as here.
            self.remove_if_there(&old_new)?;
        }
        self.rename(&new, &current)?;
        self.sync()
    }

    /// Writes and syncs a new file, but not its name. One that has the name is left as it is under
    /// its other names, if it has any.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), LogError> {
        self.remove_if_there(name)?;
        let failed = |source| self.failed("writing", name, source);
        let mut file = self.create_new(name).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        if self.syncs() {
            file.sync_all().map_err(|source| self.failed("syncing", name, source))?;
        }
        Ok(())
    }

    /// Makes a file of so many bytes, all zero, and syncs it, but not its name. What has the name
    /// already is replaced.
    pub(crate) fn create_zeroed(&self, name: &str, bytes: u64) -> Result<(), LogError> {
        self.remove_if_there(name)?;
        let failed = |source| self.failed("making", name, source);
        let mut file = self.create_new(name).map_err(failed)?;
        let mut zeros = io::repeat(0).take(bytes);
        let filled =
            io::copy(&mut zeros, &mut file).and_then(|_| if self.syncs() { file.sync_all() } else { Ok(()) });
        if filled.is_err() {
            // The error is told, and what this one says would change nothing.
            let _ = self.remove(name);
        }
        filled.map(drop).map_err(failed)
    }

    /// Gives a file a second name, and takes that from whatever had it; or says that there is no
    /// such file. Where the file system has no hard links the second name is of a copy.
    fn second_name(&self, name: &str, second: &str) -> Result<bool, LogError> {
        self.remove_if_there(second)?;
        match self.link(self, name, second) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(_) => self.write(second, &self.read(name)?).map(|()| true),
        }
    }

    /// Gives a file another name, and takes that from whatever had it.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), LogError> {
        self.assert_ours();
        let directory = &self.inner.handle;
        let renamed = rustix::fs::renameat(directory, from, directory, to);
        renamed.map_err(|error| self.failed("renaming", from, error.into()))
    }

    /// Removes a file, which must be there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), LogError> {
        self.assert_ours();
        let removed = rustix::fs::unlinkat(&self.inner.handle, name, AtFlags::empty());
        removed.map_err(|error| self.failed("removing", name, error.into()))
    }

    pub(crate) fn remove_if_there(&self, name: &str) -> Result<(), LogError> {
        match self.remove(name) {
            Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Puts on the disk which names there are, and of which files.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        if !self.syncs() {
            return Ok(());
        }
        self.inner.handle.sync_all().map_err(|source| LogError::io("syncing", self.path(), source))
    }

    /// Warns once if the path it was opened by leads elsewhere by now: it was moved, and another
    /// may be in its place. Nothing is lost by it: what is written goes to where the directory is.
    pub(crate) fn note_moved(&self) {
        let is_there =
            rustix::fs::stat(self.path()).is_ok_and(|found| identity(&found) == self.inner.identity);
        if is_there || self.inner.moved.swap(true, Ordering::Relaxed) {
            return;
        }
        let now = self.by_descriptor(None).ok().and_then(|path| fs::read_link(path).ok());
        tracing::warn!(
            directory = %self.path().display(), ?now,
            "the log's directory was moved while a runtime has it open: the runtime goes on in it, and a start by its old path does not find it"
        );
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
    pub(super) fn faults(&self) -> Option<&WriteFaults> {
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
        assert!(self.inner.is_ours, "{} is open to read only", self.path().display());
    }
}

/// Makes a directory, unless it is there, and its parents. Those it makes are there after a power
/// cut too.
fn make(path: &Path, syncs: bool) -> Result<(), LogError> {
    let parent = path.parent().unwrap_or(path);
    let create = || DirBuilder::new().mode(DIRECTORY_MODE).create(path);
    let made = match create() {
        Err(error) if error.kind() == ErrorKind::NotFound && parent != path => {
            make(parent, syncs)?;
            create()
        }
        made => made,
    };
    match made {
        Ok(()) if syncs => sync_directory(parent),
        Ok(()) => Ok(()),
        // Also where it is there and may not be made: at the root of a mount that is read-only,
        // say.
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

/// Opens a directory, and says where it is.
fn open_directory(path: &Path) -> Result<(PathBuf, File), LogError> {
    let path = fs::canonicalize(path).map_err(|source| LogError::io("opening", path, source))?;
    let flags = (OFlags::DIRECTORY | OFlags::CLOEXEC).bits() as i32;
    match File::options().read(true).custom_flags(flags).open(&path) {
        Ok(handle) => Ok((path, handle)),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(LogError::NotADirectory { directory: path })
        }
        Err(source) => Err(LogError::io("opening", &path, source)),
    }
}

/// Locks a file of a directory, or the directory itself.
fn lock(file: &File, path: &Path, directory: &Path) -> Result<(), LogError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { directory: directory.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(LogError::io("locking", path, source)),
    }
}

/// Which file it is: its device and inode.
fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}
