//! The file that says which owed messages of earlier runs are under way, for the start after this
//! process.
//!
//! Each shard names its own before they run, at a place of its own, and names fewer when they are
//! delivered on disk. Nothing is synced: the file is for a process that ends by one of them, and
//! what that has written the system keeps. After a power cut it may say anything; then nobody is
//! blamed, or somebody is suspected, and runs alone. See `freehold_shard`'s `resumed`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold_shard::{SendId, ShardIndex, UNDER_WAY_BYTES, name_under_way, named_under_way};

use crate::disk::directory::Directory;
use crate::disk::error::LogError;
use crate::disk::name::UNDER_WAY;

/// The file, as a run writes it. It is made when a run begins that owes something, and used again
/// by later ones.
#[derive(Debug)]
pub(crate) struct UnderWay {
    file: File,
    start: u64,
    has_failed: AtomicBool,
}

impl UnderWay {
    /// Opens it for the run of so many shards that `start` began. What an earlier run has written
    /// stays, and names nobody in this one.
    pub(crate) fn open(directory: &Directory, start: u64, shards: usize) -> Result<UnderWay, LogError> {
        let failed = |source| LogError::io("opening", &directory.file(UNDER_WAY), source);
        let file = directory.open_or_create(UNDER_WAY)?;
        let bytes = (shards * UNDER_WAY_BYTES) as u64;
        if file.metadata().map_err(failed)?.len() < bytes {
            file.set_len(bytes).map_err(failed)?;
        }
        Ok(UnderWay { file, start, has_failed: AtomicBool::new(false) })
    }

    /// Names the messages of this shard that are under way, instead of those named before. If that
    /// fails the runtime goes on: it only matters if one of them ends the process.
    pub(crate) fn name(&self, shard: ShardIndex, sends: impl Iterator<Item = SendId>) {
        let bytes = name_under_way(self.start, sends);
        let place = (shard.index() * UNDER_WAY_BYTES) as u64;
        if let Err(error) = self.file.write_all_at(&bytes, place)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %error,
                "the file `{UNDER_WAY}` cannot be written: an owed message that ends the process would run again at every start"
            );
        }
    }
}

/// The messages that were under way in the run that `start` began.
pub(crate) fn under_way(directory: &Directory, start: u64) -> Result<Vec<SendId>, LogError> {
    if !directory.list()?.iter().any(|(name, _)| name == UNDER_WAY) {
        return Ok(Vec::new());
    }
    let bytes = directory.read(UNDER_WAY)?;
    Ok(bytes.chunks(UNDER_WAY_BYTES).flat_map(|of_shard| named_under_way(start, of_shard)).collect())
}
