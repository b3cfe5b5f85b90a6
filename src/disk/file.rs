//! A file of fixed size that one shard writes, on its executor: a write that has returned is on the
//! disk.
//!
//! - The file has its full size, all of it zero-written and synced, before it can be written. A
//!   write therefore changes no metadata, and is one operation of the ring: the file is open with
//!   `O_DSYNC`. (4 KiB on ext4: p50 137 us; write and fdatasync 207; into a file that is only
//!   allocated 314; at the end of a file that grows 4,000.)
//! - It goes past the page cache, where the file system lets it. Where not, it goes through, still
//!   with `O_DSYNC`. FUSE may pass that flag on and do nothing more about it when a write is direct
//!   (seen on kernel 6.18, though not of every writer), so there an fdatasync follows.
//! - Offsets and lengths are multiples of [`BLOCK_BYTES`], whatever less the device would take.
//! - A write is there, or there is an error. After an error, or when the future was dropped before
//!   its end, any part of what was being written may be on the disk.
//! - What is awaited here is a `dyn` (see [`Doing`]), so that it is compiled once.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::GlommioError;
use glommio::io::{BufferedFile, DmaFile, OpenOptions};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::directory::{Directory, FILE_MODE};
use super::error::LogError;
use super::faults::WriteFault;
use crate::spawn::LocalFuture;

/// What everything written is a multiple of, and begins at a multiple of.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// How much of a new file is zeroed at a time. Between two of these other tasks run.
const ZEROS_BYTES: usize = 1 << 20;

/// How much of a [`NewFile`] is written at a time: it is copied first, which takes some 50
/// microseconds.
const PIECE_BYTES: usize = 256 << 10;

/// What a file does. Boxed: an `async fn` is compiled where it is awaited, and these are awaited by
/// code that is generic over the actor. So each program compiled them anew, with all of glommio's
/// that they await. A box is little beside an operation of a disk.
type Doing<'a, T> = LocalFuture<'a, Result<T, LogError>>;

/// A file of the log, open to write. Keeps the directory locked.
#[derive(Debug)]
pub(crate) struct LogFile {
    handle: OpenFile,
    directory: Directory,
    path: PathBuf,
    bytes: u64,
}

impl LogFile {
    /// Makes a file of so many bytes, a multiple of [`BLOCK_BYTES`], all zero, and opens it. There
    /// must be none of that name. When this returns, the file is on the disk and so is its name.
    ///
    /// It may take long, and leaves room for other tasks. After an error there is no such file; if
    /// the future was dropped there may be a part of one, which is in nobody's way but has the
    /// name.
    pub(crate) fn create<'a>(directory: &'a Directory, name: &'a str, bytes: u64) -> Doing<'a, LogFile> {
        Box::pin(async move {
            directory.assert_ours();
            debug_assert!(
                bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES as u64),
                "{bytes} bytes are whole blocks"
            );
            make(directory, name).await?;
            let filled = async {
                fill(directory, name, bytes).await?;
                sync_name(directory).await?;
                LogFile::open(directory, name).await
            };
            let filled = filled.await;
            if filled.is_err() {
                // The error is told, and this one is not: the file is as good as absent.
                let _ = directory.remove(name);
            }
            filled
        })
    }

    /// Opens a file that [`create`](LogFile::create) made, under this name or one it was renamed
    /// from.
    pub(crate) fn open<'a>(directory: &'a Directory, name: &'a str) -> Doing<'a, LogFile> {
        Box::pin(async move {
            directory.assert_ours();
            let path = directory.file(name);
            let sync = if directory.syncs() { EachWrite::Synced } else { EachWrite::NotSynced };
            let failed = |source| LogError::io("opening", &path, source);
            let handle = OpenFile::open(directory, name, "opening", sync).await?;
            let bytes = handle.bytes().await.map_err(failed)?;
            Ok(LogFile { handle, directory: directory.clone(), path, bytes })
        })
    }

    /// Its size, which writes do not change.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is written past the page cache.
    #[cfg(test)]
    pub(crate) fn is_direct(&self) -> bool {
        self.handle.is_direct()
    }

    /// Writes at an offset. Both it and the length are multiples of [`BLOCK_BYTES`], and the end is
    /// within the file.
    pub(crate) fn write<'a>(&'a self, bytes: &'a [u8], offset: u64) -> Doing<'a, ()> {
        Box::pin(async move {
            debug_assert!(bytes.len().is_multiple_of(BLOCK_BYTES), "{} bytes are whole blocks", bytes.len());
            debug_assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "a block begins at byte {offset}");
            debug_assert!(offset + bytes.len() as u64 <= self.bytes, "the file does not grow");
            if bytes.is_empty() {
                return Ok(()); // glommio has no empty buffer
            }
            let failed = |source| LogError::io("writing", &self.path, source);
            let fault = self.directory.faults().and_then(|faults| faults.strike());
            let reaches_disk = match fault {
                None => bytes,
                Some(WriteFault::Error { written, .. } | WriteFault::Short { written }) => &bytes[..written],
            };
            let written = match reaches_disk {
                [] => 0,
                _ => self.handle.write(reaches_disk, offset).await.map_err(failed)?,
            };
            if let Some(WriteFault::Error { errno, .. }) = fault {
                return Err(failed(errno.into()));
            }
            if written != bytes.len() {
                return Err(LogError::ShortWrite {
                    file: self.path.clone(),
                    offset,
                    written,
                    wanted: bytes.len(),
                });
            }
            if self.directory.is_fuse() && self.directory.syncs() {
                let synced = self.handle.sync().await;
                synced.map_err(|source| LogError::io("syncing", &self.path, source))?;
            }
            Ok(())
        })
    }

    /// Closes it. There is nothing left to be synced.
    pub(crate) fn close(self) -> Doing<'static, ()> {
        Box::pin(async move {
            self.handle.close().await.map_err(|source| LogError::io("closing", &self.path, source))
        })
    }
}

/// A file that is written once, from its begin to its end, and is nobody's before it is whole:
/// nothing of it is synced until then.
#[derive(Debug)]
pub(crate) struct NewFile {
    handle: OpenFile,
    directory: Directory,
    path: PathBuf,
    bytes: u64,
}

impl NewFile {
    /// Makes it, empty. There must be none of that name.
    pub(crate) fn create<'a>(directory: &'a Directory, name: &'a str) -> Doing<'a, NewFile> {
        Box::pin(async move {
            directory.assert_ours();
            make(directory, name).await?;
            let handle = OpenFile::open(directory, name, "making", EachWrite::NotSynced).await?;
            let path = directory.file(name);
            Ok(NewFile { handle, directory: directory.clone(), path, bytes: 0 })
        })
    }

    /// Writes on. The length is a multiple of [`BLOCK_BYTES`]. Other tasks run in between, after
    /// each piece.
    pub(crate) fn append<'a>(&'a mut self, bytes: &'a [u8]) -> Doing<'a, ()> {
        Box::pin(async move {
            debug_assert!(bytes.len().is_multiple_of(BLOCK_BYTES), "{} bytes are whole blocks", bytes.len());
            for piece in bytes.chunks(PIECE_BYTES) {
                let end = self.bytes + piece.len() as u64;
                let flips = self.directory.flips_part().filter(|at| (self.bytes..end).contains(at));
                let written = match flips {
                    None => self.handle.write(piece, self.bytes).await,
                    Some(at) => {
                        let mut flipped = piece.to_vec();
                        flipped[(at - self.bytes) as usize] ^= 1;
                        self.handle.write(&flipped, self.bytes).await
                    }
                };
                let written = written.map_err(|source| LogError::io("writing", &self.path, source))?;
                if written != piece.len() {
                    let (file, offset) = (self.path.clone(), self.bytes);
                    return Err(LogError::ShortWrite { file, offset, written, wanted: piece.len() });
                }
                self.bytes = end;
            }
            Ok(())
        })
    }

    /// Syncs it, and its name, and closes it. Returns its length.
    pub(crate) fn finish(self) -> Doing<'static, u64> {
        Box::pin(async move {
            let failed = |source| LogError::io("syncing", &self.path, source);
            if self.directory.syncs() {
                self.handle.sync().await.map_err(failed)?;
            }
            sync_name(&self.directory).await?;
            self.handle.close().await.map_err(failed)?;
            Ok(self.bytes)
        })
    }
}

/// Makes a file of no length that nobody has made yet.
async fn make(directory: &Directory, name: &str) -> Result<(), LogError> {
    let failed = |error| LogError::io("making", &directory.file(name), plain(error));
    let mut new = OpenOptions::new();
    new.write(true).create_new(true).mode(FILE_MODE.bits());
    let new = new.buffered_open(directory.by_descriptor(Some(name))?).await.map_err(failed)?;
    new.close().await.map_err(failed)
}

/// Writes zeros to all of a file of no length, and syncs it.
async fn fill(directory: &Directory, name: &str, bytes: u64) -> Result<(), LogError> {
    let path = &directory.file(name);
    loop {
        // Syncing each write would take a commit of the file system's journal each time: the file
        // grows.
        let handle = OpenFile::open(directory, name, "opening", EachWrite::NotSynced).await?;
        let is_direct = handle.is_direct();
        let zeroed = match handle.zero(bytes).await {
            Ok(()) if directory.syncs() => handle.sync().await,
            zeroed => zeroed,
        };
        let closed = handle.close().await;
        match zeroed {
            // Some file systems let a file be opened for direct I/O, and refuse the first write.
            Err(refusal) if is_direct && is_refusal(&refusal) => directory.note_buffered(&refusal),
            Err(source) => return Err(LogError::io("filling", path, source)),
            Ok(()) => return closed.map_err(|source| LogError::io("closing", path, source)),
        }
    }
}

/// [`Directory::sync`] without blocking the executor. It is an fdatasync; the names are a
/// directory's data. (Seen to hold on ext4 when the power is cut after a file was made, and after
/// one was renamed.)
async fn sync_name(directory: &Directory) -> Result<(), LogError> {
    if !directory.syncs() {
        return Ok(());
    }
    let path = directory.by_descriptor(None)?;
    let synced = async {
        let names = glommio::io::Directory::open(path).await?;
        names.sync().await?;
        names.close().await
    };
    synced.await.map_err(|error| LogError::io("syncing", directory.path(), plain(error)))
}

/// Whether each write is on the disk when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EachWrite {
    Synced,
    NotSynced,
}

/// An open file, in one of glommio's two ways.
#[derive(Debug)]
enum OpenFile {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

impl OpenFile {
    /// Opens a file that is there, for direct I/O if that is to be had. An error says that it came
    /// of this `action`.
    async fn open(
        directory: &Directory,
        name: &str,
        action: &'static str,
        each_write: EachWrite,
    ) -> Result<OpenFile, LogError> {
        let path = directory.by_descriptor(Some(name))?;
        let opened = OpenFile::open_by(directory, &path, each_write).await;
        opened.map_err(|source| LogError::io(action, &directory.file(name), source))
    }

    async fn open_by(directory: &Directory, path: &Path, each_write: EachWrite) -> io::Result<OpenFile> {
        let mut options = OpenOptions::new();
        options.write(true);
        // glommio adds these to the flags of openat(2). What it sets later, O_DIRECT, leaves them
        // as they are.
        let sync = if each_write == EachWrite::Synced { OFlags::DSYNC } else { OFlags::empty() };
        options.custom_flags((OFlags::NOFOLLOW | sync).bits() as i32);
        if !directory.is_buffered() {
            match options.dma_open(path).await.map_err(plain) {
                Ok(file) => {
                    let why = if file.alignment() > BLOCK_BYTES as u64 {
                        "its blocks are larger than 4 KiB"
                    } else if !rustix::fs::fcntl_getfl(&file)?.contains(OFlags::DIRECT) {
                        "it is in memory" // glommio does not try on tmpfs, and does not say so
                    } else {
                        return Ok(OpenFile::Direct(file));
                    };
                    directory.note_buffered(&why);
                    file.close().await.map_err(plain)?;
                }
                Err(refusal) if is_refusal(&refusal) => directory.note_buffered(&refusal),
                Err(error) => return Err(error),
            }
        }
        options.buffered_open(path).await.map(OpenFile::Buffered).map_err(plain)
    }

    fn is_direct(&self) -> bool {
        matches!(self, OpenFile::Direct(_))
    }

    async fn bytes(&self) -> io::Result<u64> {
        match self {
            OpenFile::Direct(file) => file.file_size().await,
            OpenFile::Buffered(file) => file.file_size().await,
        }
        .map_err(plain)
    }

    /// One write. Returns how much of it was done.
    async fn write(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match self {
            OpenFile::Direct(file) => {
                let mut buffer = file.alloc_dma_buffer(bytes.len());
                buffer.as_bytes_mut().copy_from_slice(bytes);
                file.write_at(buffer, offset).await
            }
            OpenFile::Buffered(file) => file.write_at(bytes.to_vec(), offset).await,
        }
        .map_err(plain)
    }

    /// Writes zeros from the begin to byte `end`.
    async fn zero(&self, end: u64) -> io::Result<()> {
        let piece = end.min(ZEROS_BYTES as u64) as usize;
        let zeros = match self {
            OpenFile::Direct(file) => {
                let mut zeros = file.alloc_dma_buffer(piece);
                zeros.as_bytes_mut().fill(0);
                Some(Rc::new(zeros))
            }
            OpenFile::Buffered(_) => None,
        };
        let mut offset = 0;
        while offset < end {
            let left = (end - offset).min(piece as u64) as usize;
            let written = match (self, &zeros) {
                (OpenFile::Direct(file), Some(zeros)) if zeros.len() == left => {
                    file.write_rc_at(zeros.clone(), offset).await.map_err(plain)?
                }
                _ => self.write(&vec![0; left], offset).await?,
            };
            // A short write is followed by the one that says why.
            let blocks = written - written % BLOCK_BYTES;
            if blocks == 0 {
                return Err(Errno::NOSPC.into());
            }
            offset += blocks as u64;
            glommio::yield_if_needed().await;
        }
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        match self {
            OpenFile::Direct(file) => file.fdatasync().await,
            OpenFile::Buffered(file) => file.fdatasync().await,
        }
        .map_err(plain)
    }

    async fn close(self) -> io::Result<()> {
        match self {
            OpenFile::Direct(file) => file.close().await,
            OpenFile::Buffered(file) => file.close().await,
        }
        .map_err(plain)
    }
}

/// Whether this is how a file system says that it has no direct I/O.
fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

/// The system's error in glommio's. Its own conversion keeps the kind of the error and loses the
/// number, and a full quota or a failing disk have no kind.
fn plain(error: GlommioError<()>) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => error.into(),
    }
}
