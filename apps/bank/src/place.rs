//! Where the log is: in the directory that was named, or in one that is removed in the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::{Builder, TempDir};

/// The directory of a log.
pub enum Place {
    Named(PathBuf),
    Temporary(TempDir),
}

impl Place {
    /// A new directory beside the program, which is on a disk, as the usual place for temporary
    /// files often is not; or where the program was started. It is removed when this is dropped, or
    /// when the program is told to end. A program that is killed leaves it there.
    ///
    /// # Errors
    /// If neither can be.
    pub fn temporary() -> io::Result<Self> {
        // From here on none of these ends the program before its log is removed.
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let make = |parent: &Path| Builder::new().prefix("bank-log-").tempdir_in(parent);
        let program = std::env::current_exe()?;
        let made = make(program.parent().unwrap_or(Path::new("."))).or_else(|_| make(Path::new(".")))?;
        let path = made.path().to_path_buf();
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _stays_gone = opening();
                // The log is still written, and there may be a file more while others are removed.
                while path.exists() && std::fs::remove_dir_all(&path).is_err() {}
                std::process::exit(128 + signal);
            }
        });
        Ok(Place::Temporary(made))
    }

    pub fn path(&self) -> &Path {
        match self {
            Place::Named(path) => path,
            Place::Temporary(made) => made.path(),
        }
    }
}

/// To be held while a log is opened. That makes a directory that is not there, and so must not
/// happen after one was removed.
pub fn opening() -> MutexGuard<'static, ()> {
    static OPENING: Mutex<()> = Mutex::new(());
    OPENING.lock().unwrap_or_else(PoisonError::into_inner)
}
