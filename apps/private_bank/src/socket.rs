//! What processes say to the ledger, and how: frames of a length (u32) and bytes, over a socket of
//! the file system.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest frame: 16 accounts with all the pending credits there may be.
const FRAME_MAX: usize = 1 << 20;
/// A ledger that is not there for so long does not come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// A claim is made.
pub const CLAIM: u8 = 0;
/// An account is shown, as of now.
pub const SHOW: u8 = 1;
/// An amount is deposited, by the operator: what only the operator knows comes first.
pub const DEPOSIT: u8 = 2;
/// All accounts are shown, as of one instant.
pub const ALL: u8 = 3;

/// It was done; what was asked for follows.
pub const DONE: u8 = 0;
/// It was refused; the reason follows as text.
pub const REFUSED: u8 = 1;

pub fn write(stream: &mut UnixStream, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let mut frame = ((bytes.len() + 1) as u32).to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend(bytes);
    stream.write_all(&frame)
}

pub fn read(stream: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long, or empty"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok((bytes[0], bytes.split_off(1)))
}

/// A way to the ledger that outlives the ledger's process.
pub struct Client {
    path: PathBuf,
    stream: Option<UnixStream>,
}

impl Client {
    pub fn new(path: &Path) -> Client {
        Client { path: path.to_path_buf(), stream: None }
    }

    /// Asks once; an error says that the ledger may have done it or not.
    pub fn try_ask(&mut self, kind: u8, bytes: &[u8]) -> io::Result<Result<Vec<u8>, String>> {
        let begun = Instant::now();
        let mut stream = loop {
            match self.stream.take().map_or_else(|| UnixStream::connect(&self.path), Ok) {
                Ok(stream) => break stream,
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        write(&mut stream, kind, bytes)?;
        let (kind, answer) = read(&mut stream)?;
        self.stream = Some(stream);
        Ok(if kind == DONE { Ok(answer) } else { Err(String::from_utf8_lossy(&answer).into_owned()) })
    }

    /// Asks until there is an answer: for what may be asked twice.
    pub fn ask(&mut self, kind: u8, bytes: &[u8]) -> io::Result<Result<Vec<u8>, String>> {
        let begun = Instant::now();
        loop {
            match self.try_ask(kind, bytes) {
                Err(_) if begun.elapsed() < PATIENCE => {}
                answer => return answer,
            }
        }
    }
}
