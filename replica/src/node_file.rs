//! What a node remembers beside its log: who it is, which term it owned, and a place in the stream
//! from which it can go on.
//!
//! The file is JSON, replaced by write, sync, rename and a sync of the directory. Its place is a
//! hint that is checked: it may be old, and is never ahead of the node's log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use freehold_shard::log::chain::{ChainPlace, EntryHash};
use serde::{Deserialize, Serialize};

use crate::error::ReplicaError;

const NAME: &str = "node.json";
const NEW: &str = "node.json.new";
const VERSION: u32 = 1;

/// What a node remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeFile {
    version: u32,
    /// The node's name in the stream: what it is called, and a random number.
    pub(crate) node: String,
    /// The last term that it owned, or was about to; 0 if none. Epochs in its log that are not in
    /// the stream are of that term.
    pub(crate) term: u64,
    /// The message of the stream that comes next at `place`.
    pub(crate) sequence: u64,
    pub(crate) place: ChainPlace,
    /// Foundings of its own that may be in the stream, by the hashes of their takeovers.
    #[serde(default)]
    pub(crate) tried: Vec<EntryHash>,
}

impl NodeFile {
    pub(crate) fn new(node: String, sequence: u64, place: ChainPlace) -> Self {
        NodeFile { version: VERSION, node, term: 0, sequence, place, tried: Vec::new() }
    }

    /// The file of a node's directory; `None` if it has none yet.
    pub(crate) fn read(directory: &Path) -> Result<Option<NodeFile>, ReplicaError> {
        let path = directory.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ReplicaError::File { path, source }),
        };
        let damaged = |why: String| ReplicaError::NodeFile { path: path.clone(), why };
        let file: NodeFile = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if file.version != VERSION {
            let why = format!("it is of version {}, and this program reads version {VERSION}", file.version);
            return Err(damaged(why));
        }
        Ok(Some(file))
    }

    /// Replaces the file. After an error it is as before, or as it was to be.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), ReplicaError> {
        let (path, new) = (directory.join(NAME), directory.join(NEW));
        let at = |path: &Path| {
            let path: PathBuf = path.to_path_buf();
            move |source| ReplicaError::File { path, source }
        };
        let bytes = serde_json::to_vec_pretty(self).expect("all of it can be JSON");
        let mut file = File::create(&new).map_err(at(&new))?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(at(&new))?;
        fs::rename(&new, &path).map_err(at(&path))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_was_not_is_refused() {
        let directory = tempfile::tempdir().expect("a place");
        assert_eq!(NodeFile::read(directory.path()).expect("none"), None);
        let file = NodeFile { term: 3, ..NodeFile::new("a/1".into(), 9, ChainPlace::first(7)) };
        file.write(directory.path()).expect("it is written");
        assert_eq!(NodeFile::read(directory.path()).expect("it is there"), Some(file.clone()));
        let path = directory.path().join(NAME);
        for bytes in [&b"{"[..], b"{\"version\":1}"] {
            fs::write(&path, bytes).expect("it is written");
            assert!(matches!(NodeFile::read(directory.path()), Err(ReplicaError::NodeFile { .. })));
        }
        NodeFile { version: 2, ..file }.write(directory.path()).expect("it is written");
        let refused = NodeFile::read(directory.path()).expect_err("another version");
        assert!(refused.to_string().contains("version 2"), "{refused}");
    }
}
