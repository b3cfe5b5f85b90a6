//! A file that is read piece by piece: a part of a checkpoint may be as large as all the objects of
//! a shard, and recovery is to need no more memory than these.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use freehold_shard::log::Pieces;

use super::directory::Directory;
use super::error::LogError;

/// What is read at once, or more if a batch is larger. Reading goes on forward, so a piece is read
/// once.
const PIECE_BYTES: usize = 2 << 20;

/// A file of the log, open to read.
#[derive(Debug)]
pub(crate) struct FilePieces {
    file: File,
    path: PathBuf,
    bytes: usize,
    /// What was read last, and where it begins.
    piece: Vec<u8>,
    at: usize,
}

impl FilePieces {
    pub(crate) fn open(directory: &Directory, name: &str) -> Result<FilePieces, LogError> {
        let path = directory.file(name);
        let file = directory.open_to_read(name)?;
        match file.metadata() {
            Ok(found) => {
                let bytes = found.len() as usize;
                Ok(FilePieces { file, path, bytes, piece: Vec::new(), at: 0 })
            }
            Err(source) => Err(LogError::io("reading", &path, source)),
        }
    }

    /// Reads `wanted` bytes, or as many as there are: whoever has it open to write may have cut it.
    fn fill(&mut self, offset: usize, wanted: usize) -> io::Result<()> {
        self.piece.resize(wanted, 0);
        self.piece.shrink_to(PIECE_BYTES);
        self.at = offset;
        let mut read = 0;
        while read < wanted {
            match self.file.read_at(&mut self.piece[read..], (offset + read) as u64) {
                Ok(0) => {
                    self.piece.truncate(read);
                    self.bytes = offset + read;
                    break;
                }
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.piece.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Pieces for FilePieces {
    type Error = LogError;

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn piece(&mut self, offset: usize, least: usize) -> Result<&[u8], LogError> {
        let least = least.min(self.bytes.saturating_sub(offset));
        let is_there = self.at <= offset && offset + least <= self.at + self.piece.len();
        if !is_there {
            let wanted = least.max(PIECE_BYTES).min(self.bytes.saturating_sub(offset));
            self.fill(offset, wanted).map_err(|source| LogError::io("reading", &self.path, source))?;
        }
        Ok(self.piece.get(offset - self.at..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_those_of_the_file_wherever_they_begin() {
        let place = tempfile::tempdir().expect("there is room");
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES + 17).map(|at| ((at * 31) >> 3) as u8).collect();
        std::fs::write(place.path().join("file"), &bytes).expect("there is room");
        let directory = Directory::read_only(place.path()).expect("it is there");
        let mut pieces = FilePieces::open(&directory, "file").expect("it is there");
        assert_eq!(pieces.bytes(), bytes.len());
        for (offset, least) in [
            (0, 10),
            (PIECE_BYTES - 5, 10),
            (7, 2 * PIECE_BYTES),
            (bytes.len() - 3, 10),
            (bytes.len(), 1),
            (2 * PIECE_BYTES, 4096),
            (0, bytes.len()),
        ] {
            let piece = pieces.piece(offset, least).expect("it can be read");
            assert!(piece.len() >= least.min(bytes.len() - offset), "{least} from {offset}");
            assert!(bytes[offset..].starts_with(piece), "{least} from {offset}");
        }
        // Cut while it is read.
        std::fs::write(place.path().join("file"), &bytes[..100]).expect("there is room");
        pieces.piece.clear();
        assert_eq!(pieces.piece(PIECE_BYTES, 8192).expect("nothing fails").len(), 0);
        assert_eq!(pieces.piece(50, 8192).expect("nothing fails").len(), 50);
        assert_eq!(pieces.bytes(), 100);
    }
}
