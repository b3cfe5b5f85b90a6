//! A node's directory, held by its descriptor.
//!
//! Somebody may move it while the node lives, and put another node's in its place. What the node
//! writes goes to the directory that it opened, wherever that is, as a runtime's log does.

use std::fs::{self, DirBuilder, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::ReplicaError;

/// A node's directory.
pub(crate) struct NodeDirectory {
    held: File,
}

impl NodeDirectory {
    /// Opens the directory. If it is not there it is made, for its owner alone.
    pub(crate) fn open(path: &Path) -> Result<Self, ReplicaError> {
        let opened =
            DirBuilder::new().recursive(true).mode(0o700).create(path).and_then(|()| File::open(path));
        let held = opened.map_err(|source| ReplicaError::File { path: path.to_path_buf(), source })?;
        Ok(NodeDirectory { held })
    }

    /// A path that leads to it as long as it is held, whatever it is called: for what takes long.
    pub(crate) fn reach(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.held.as_raw_fd()))
    }

    /// What it is called now: for what is done at once, and for what people read.
    pub(crate) fn name(&self) -> PathBuf {
        let reach = self.reach();
        let place = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let named = fs::read_link(&reach).ok().filter(|named| place(named) == place(&reach));
        named.unwrap_or(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_wherever_it_is_moved_and_whatever_takes_its_place() {
        let place = tempfile::tempdir().expect("a place");
        let [here, there] = ["here", "there"].map(|name| place.path().join(name));
        let directory = NodeDirectory::open(&here).expect("it is made");
        assert_eq!(directory.name(), here.canonicalize().expect("it is there"));
        fs::rename(&here, &there).expect("it is moved");
        let other = NodeDirectory::open(&here).expect("it is made");
        fs::write(directory.name().join("one"), b"1").expect("it is written");
        fs::write(directory.reach().join("two"), b"2").expect("it is written");
        assert_eq!(fs::read_dir(&there).expect("it is there").count(), 2);
        assert_eq!(fs::read_dir(other.reach()).expect("it is there").count(), 0);
        // Nobody reaches one that was removed, and no path of before leads elsewhere.
        fs::remove_dir_all(&there).expect("it is removed");
        fs::create_dir(&there).expect("it is made");
        assert_eq!(directory.name(), directory.reach());
        fs::write(directory.name().join("three"), b"3").expect_err("it is gone");
    }
}
