//! File systems of a test's own, in mounts that nobody else sees and that end with the test,
//! however it ends.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::patience::{LOOK_EVERY, Patience};
pub use crate::support::skip::skip;

/// This program again, to run only this test, in a process of its own.
pub fn again(program: &[&str], test: &str) -> Command {
    let this = std::env::current_exe().expect("a test knows where it is");
    let mut command = match program {
        [] => Command::new(&this),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&this);
            command
        }
    };
    command.args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads", "1"]);
    command
}

/// Runs a test in a process that has mounts of its own. All of them are gone when it ends.
pub fn in_own_mounts(test: &str, body: impl FnOnce()) {
    const INSIDE: &str = "FREEHOLD_TEST_HAS_OWN_MOUNTS";
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        return body();
    }
    if let Err(why) = run("unshare", &["--mount", "--", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]) {
        return skip(test, &format!("it may not mount anything: {why}"));
    }
    let inside = again(&["unshare", "--mount", "--"], test).env(INSIDE, test).output();
    let inside = inside.expect("`unshare` ran a moment ago");
    // What it measured, and what of it was skipped.
    let _ = std::io::stderr().write_all(&inside.stderr);
    let printed = String::from_utf8_lossy(&inside.stdout);
    assert!(inside.status.success(), "{test} failed in mounts of its own ({}): {printed}", inside.status);
}

/// Runs a program of the system to its end. What it says when it fails, or that it cannot be had,
/// is the error.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test's paths are text")
}

/// Something that is mounted, as long as this lives.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Memory, of a size like "4m". With `read-only`, say, as an option more.
    pub fn memory(at: &Path, size: &str, options: &str) -> Result<Mount, String> {
        let options = format!("size={size}{options}");
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", text(at)])?;
        Ok(Mount { at: at.to_path_buf() })
    }

    /// The ext4 in an image.
    pub fn image(image: &Path, at: &Path) -> Result<Mount, String> {
        run("mount", &["-o", "loop", text(image), text(at)])?;
        Ok(Mount { at: at.to_path_buf() })
    }

    /// Mounts it anew with other options.
    pub fn change(&self, options: &str) -> Result<(), String> {
        run("mount", &["-o", &format!("remount,{options}"), text(&self.at)])
    }

    /// Unmounts it.
    ///
    /// # Panics
    /// If the file system stays in use. Its image must not be mounted a second time then: two file
    /// systems on one image lose what each other wrote, and a test takes that for lost payments.
    pub fn end(self) {
        let is_free = unmount(&self.at, Duration::from_secs(60));
        assert!(is_free, "{} is still in use, and what is on it cannot be judged", self.at.display());
        std::mem::forget(self);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !unmount(&self.at, Duration::from_secs(2)) {
            let lazily = run("umount", &["-l", text(&self.at)]);
            let at = self.at.display();
            let _ = writeln!(std::io::stderr(), "{at} is in use and unmounted lazily: {lazily:?}");
        }
    }
}

/// Unmounts the file system at `at` as soon as the processes that were killed have let go of it.
/// Says whether it did, within `at_most`.
pub fn unmount(at: &Path, at_most: Duration) -> bool {
    let mut patience = Patience::of(at_most);
    loop {
        for _ in 0..25 {
            if run("umount", &[text(at)]).is_ok() {
                return true;
            }
            std::thread::sleep(LOOK_EVERY / 25);
        }
        if patience.is_over() {
            return false;
        }
    }
}

/// Makes an ext4 of so many MiB in a file, which takes up only what is written to it.
pub fn make_image(image: &Path, megabytes: u64) -> Result<(), String> {
    let file = std::fs::File::create(image).map_err(|error| error.to_string())?;
    file.set_len(megabytes << 20).map_err(|error| error.to_string())?;
    run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", text(image)])
}
