//! A checkpoint as bytes: the files of a database's directory, one behind another.
//!
//! ```text
//! magic "FHCA", version u32
//! of each file: length of its name u16, name, length u64, bytes
//! a name of length 0
//! ```
//! All numbers are little-endian. Its hash is named in the stream, so nothing here has one of its
//! own. Neither side keeps more than a chunk in memory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use freehold_shard::log::chain::EntryHash;
use sha2::{Digest, Sha256};

const MAGIC: [u8; 4] = *b"FHCA";
const VERSION: u32 = 1;
/// The longest name of a file.
const NAME_MAX: usize = 64;

/// Gives the bytes of a directory's files to `each`, in chunks of this size, as long as it says so.
/// Returns how many bytes there were, and their hash.
///
/// # Errors
/// The system's; or `each` said no.
pub(crate) fn pack(
    directory: &Path,
    chunk_bytes: usize,
    each: impl FnMut(Vec<u8>) -> bool,
) -> io::Result<(u64, EntryHash)> {
    let mut packing =
        Packing { chunk: Vec::with_capacity(chunk_bytes), chunk_bytes, each, bytes: 0, hash: Sha256::new() };
    packing.put(&mut &[&MAGIC[..], &VERSION.to_le_bytes()].concat()[..])?;
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !is_name(name) {
            return Err(io::Error::other(format!("{} is no file of a database", path.display())));
        }
        let mut file = File::open(&path)?;
        let length = file.metadata()?.len();
        let head = [&(name.len() as u16).to_le_bytes()[..], name.as_bytes(), &length.to_le_bytes()].concat();
        packing.put(&mut &head[..])?;
        let before = packing.bytes;
        packing.put(&mut (&mut file).take(length))?;
        if packing.bytes - before != length {
            return Err(io::Error::other(format!("{} became shorter", path.display())));
        }
    }
    packing.put(&mut &0_u16.to_le_bytes()[..])?;
    packing.give()?;
    Ok((packing.bytes, packing.hash.finalize().into()))
}

struct Packing<F> {
    chunk: Vec<u8>,
    chunk_bytes: usize,
    each: F,
    bytes: u64,
    hash: Sha256,
}

impl<F: FnMut(Vec<u8>) -> bool> Packing<F> {
    fn put(&mut self, from: &mut impl Read) -> io::Result<()> {
        loop {
            let room = self.chunk_bytes - self.chunk.len();
            let read = from.by_ref().take(room as u64).read_to_end(&mut self.chunk)?;
            self.bytes += read as u64;
            if read < room {
                return Ok(());
            }
            self.give()?;
        }
    }

    fn give(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(self.chunk_bytes));
        self.hash.update(&chunk);
        match chunk.is_empty() || (self.each)(chunk) {
            true => Ok(()),
            false => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

/// Whether a file of a database may be called so: it names no other directory.
fn is_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('.')
}

/// Writes the files of an archive into a directory that it makes.
pub(crate) struct Unpacking {
    directory: PathBuf,
    /// What has come of the head that is being read.
    head: Vec<u8>,
    state: State,
    bytes: u64,
    hash: Sha256,
}

enum State {
    /// The magic and the version.
    Begin,
    /// What is said of a file.
    Head,
    /// A file, and how much of it is to come.
    File(File, u64),
    End,
}

/// Why bytes are no archive.
fn is_none(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is no checkpoint of this version: {why}"))
}

impl Unpacking {
    /// Into this directory, which must not be there. It and its files are their owner's alone, as
    /// those of every log.
    pub(crate) fn into(directory: &Path) -> io::Result<Unpacking> {
        fs::DirBuilder::new().mode(0o700).create(directory)?;
        let (directory, head) = (directory.to_path_buf(), Vec::new());
        Ok(Unpacking { directory, head, state: State::Begin, bytes: 0, hash: Sha256::new() })
    }

    /// How many bytes have come.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the bytes that come next.
    ///
    /// # Errors
    /// They are not those of an archive ([`io::ErrorKind::InvalidData`]), or the system's.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
        while !bytes.is_empty() {
            match &mut self.state {
                State::Begin => {
                    let Some(begin) = gather(&mut self.head, &mut bytes, 8) else { return Ok(()) };
                    if begin != [&MAGIC[..], &VERSION.to_le_bytes()].concat() {
                        return Err(is_none("its first bytes are others"));
                    }
                    self.state = State::Head;
                }
                State::Head => self.head_of_file(&mut bytes)?,
                State::File(file, left) => {
                    let (of_file, rest) =
                        bytes.split_at(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
                    file.write_all(of_file)?;
                    *left -= of_file.len() as u64;
                    bytes = rest;
                    if *left == 0 {
                        file.sync_all()?;
                        self.state = State::Head;
                    }
                }
                State::End => return Err(is_none("something is behind its end")),
            }
        }
        Ok(())
    }

    /// Reads on in what is said of the next file.
    fn head_of_file(&mut self, bytes: &mut &[u8]) -> io::Result<()> {
        if self.head.len() < 2 {
            let needed = 2 - self.head.len();
            let (more, rest) = bytes.split_at(needed.min(bytes.len()));
            self.head.extend_from_slice(more);
            *bytes = rest;
            if self.head.len() < 2 {
                return Ok(());
            }
        }
        let length = usize::from(u16::from_le_bytes([self.head[0], self.head[1]]));
        if length == 0 {
            self.state = State::End;
            return Ok(());
        }
        if length > NAME_MAX {
            return Err(is_none("a name is too long"));
        }
        let Some(head) = gather(&mut self.head, bytes, 2 + length + 8) else { return Ok(()) };
        let name = std::str::from_utf8(&head[2..2 + length]).ok().filter(|name| is_name(name));
        let name = name.ok_or_else(|| is_none("a file is called as none is"))?;
        let left = u64::from_le_bytes(head[2 + length..].try_into().expect("these are eight bytes"));
        let file =
            File::options().write(true).create_new(true).mode(0o600).open(self.directory.join(name))?;
        self.state = if left == 0 { State::Head } else { State::File(file, left) };
        Ok(())
    }

    /// All has come: has it on disk, and returns how many bytes it was, and their hash.
    ///
    /// # Errors
    /// It has no end, or the system's.
    pub(crate) fn finish(self) -> io::Result<(u64, EntryHash)> {
        if !matches!(self.state, State::End) {
            return Err(is_none("it has no end"));
        }
        File::open(&self.directory)?.sync_all()?;
        Ok((self.bytes, self.hash.finalize().into()))
    }
}

/// Gathers `length` bytes; `None` if they have not all come.
fn gather(head: &mut Vec<u8>, bytes: &mut &[u8], length: usize) -> Option<Vec<u8>> {
    let (more, rest) = bytes.split_at((length - head.len()).min(bytes.len()));
    head.extend_from_slice(more);
    *bytes = rest;
    (head.len() == length).then(|| std::mem::take(head))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn packed(directory: &Path, chunk_bytes: usize) -> (Vec<Vec<u8>>, (u64, EntryHash)) {
        let mut chunks = Vec::new();
        let said = pack(directory, chunk_bytes, |chunk| {
            chunks.push(chunk);
            true
        });
        (chunks, said.expect("it is packed"))
    }

    fn unpacked(to: &Path, bytes: &[u8], piece: usize) -> io::Result<(u64, EntryHash)> {
        let mut unpacking = Unpacking::into(to)?;
        bytes.chunks(piece).try_for_each(|piece| unpacking.take(piece))?;
        unpacking.finish()
    }

    #[test]
    fn what_is_packed_is_unpacked_whatever_the_pieces() {
        let place = tempfile::tempdir().expect("a place");
        let from = place.path().join("from");
        fs::create_dir(&from).expect("it is made");
        let files =
            [("manifest", vec![7; 1000]), ("log-00000001-00000000", (0..=255).collect()), ("lock", vec![])];
        for (name, bytes) in &files {
            fs::write(from.join(name), bytes).expect("it is written");
        }
        let (chunks, said) = packed(&from, 100);
        assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() == 100) && chunks.len() > 10);
        let all = chunks.concat();
        assert_eq!(said, packed(&from, 1 << 20).1);
        for piece in [1, 3, 64, 1 << 20] {
            let to = place.path().join(format!("to-{piece}"));
            assert_eq!(unpacked(&to, &all, piece).expect("it is whole"), said);
            for (name, bytes) in &files {
                assert_eq!(fs::read(to.join(name)).expect("it is there"), *bytes);
            }
            assert_eq!(fs::read_dir(&to).expect("it is there").count(), files.len());
            // Nobody else reads what a standby has taken.
            let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
            assert_eq!((mode(&to), mode(&to.join("manifest"))), (0o700, 0o600));
        }
        let to = |name: &str| place.path().join(name);
        for (at, length) in [0, 7, 9, 20, all.len() - 1].into_iter().enumerate() {
            unpacked(&to(&format!("cut-{at}")), &all[..length], 9).expect_err("it is cut");
        }
        unpacked(&to("longer"), &[&all[..], &[0]].concat(), 9).expect_err("something is behind it");
        let stopped = pack(&from, 100, |_| false).expect_err("nobody takes it");
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let place = tempfile::tempdir().expect("a place");
        for (at, name) in ["../out", "/out", "..", ".", "a/b", ""].into_iter().enumerate() {
            let head =
                [&(name.len() as u16).to_le_bytes()[..], name.as_bytes(), &0_u64.to_le_bytes()].concat();
            let bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &head, &[0, 0]].concat();
            unpacked(&place.path().join(format!("to-{at}")), &bytes, 99).expect_err("it is refused");
        }
        assert!(!place.path().join("out").exists());
    }
}
