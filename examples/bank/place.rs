//! Where the log is: in the directory that was named, or in one that is removed in the end.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::{Builder, TempDir};

/// The directory of a log.
pub enum Place {
    Named(PathBuf),
    /// And the directory it is in. A runtime makes the one it is given, if its parent is there: so when that is removed none comes back.
    Temporary(PathBuf, #[expect(dead_code, reason = "it is removed when this is dropped")] TempDir),
}

impl Place {
    /// A new directory beside the program, which is on a disk, as the usual place for temporary files often is not; or where the program was
    /// started. It is removed when this is dropped, or when the program is told to end. A program that is killed leaves it there.
    ///
    /// # Errors
    /// If neither can be.
    pub fn temporary() -> io::Result<Self> {
        let make = |parent: &Path| Builder::new().prefix("bank-log-").tempdir_in(parent);
        // From here on none of these ends the program before its log is removed.
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let program = std::env::current_exe()?;
        let made = make(program.parent().unwrap_or(Path::new("."))).or_else(|_| make(Path::new(".")))?;
        let path = made.path().to_path_buf();
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // The log is still written, and there may be a file more while others are removed.
                while path.exists() && std::fs::remove_dir_all(&path).is_err() {}
                std::process::exit(128 + signal);
            }
        });
        Ok(Place::Temporary(made.path().join("log"), made))
    }

    pub fn path(&self) -> &Path {
        match self {
            Place::Named(path) | Place::Temporary(path, _) => path,
        }
    }
}
