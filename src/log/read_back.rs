//! Reads a part of a checkpoint back from the disk before anything relies on it.
//!
//! When the manifest names a checkpoint, the logs and the checkpoint before it go; so it is proved
//! first that the next start can read this one. The thread that sees to checkpoints does that, not
//! a shard's, and keeps one batch in memory. A part is written past the page cache, so what is read
//! comes from the disk. Where direct I/O is refused, the kernel is asked to drop what it has
//! cached; on tmpfs there is nothing else. It costs a read of the whole checkpoint, and CPU time
//! for its checksums: see docs/DURABILITY.md.

use std::fs::File;
use std::io::Read;

use freehold_shard::log::{BLOCK, Bounds, SegmentId};
use freehold_shard::part::{PartEnd, PartFault, PartReader};
use rustix::fs::{Advice, fadvise};

use super::names::checkpoint_name;
use crate::disk::directory::Directory;
use crate::disk::error::LogError;

/// How much memory is kept from batch to batch.
const KEPT_MAX: usize = 2 << 20;

/// Reads all of the part `id` and checks that it is what was `written`. `goes_on` is asked before
/// each batch.
///
/// Returns `false` if `goes_on` said no: then nothing is known.
///
/// # Errors
/// [`LogError::Damaged`] if it cannot be read again, or what the system refused.
pub(crate) fn read_back(
    directory: &Directory,
    id: SegmentId,
    bounds: Bounds,
    written: PartEnd,
    mut goes_on: impl FnMut() -> bool,
) -> Result<bool, LogError> {
    let name = checkpoint_name(id.log);
    let path = directory.file(&name);
    let failed = |source| LogError::io("reading", &path, source);
    let damaged = |offset, what: String| LogError::Damaged {
        file: path.clone(),
        offset,
        what,
        lost: "nothing: the logs and the checkpoint before stay".to_string(),
        advice: "see whether the disk is failing (`dmesg`), and make another checkpoint".to_string(),
    };
    let mut file = directory.open_to_read(&name)?;
    // Advice, which a file system may not know.
    let forget = |file: &File| {
        let _ = fadvise(file, 0, None, Advice::DontNeed);
    };
    forget(&file);
    let length = file.metadata().map_err(failed)?.len();
    let mut reader = PartReader::new(id, bounds);
    let (mut batch, mut at) = (Vec::new(), 0);
    while at < length {
        if !goes_on() {
            return Ok(false);
        }
        let fault = |fault: PartFault| damaged(at, fault.to_string());
        // The first block says how long the batch is.
        let mut read_to = |batch: &mut Vec<u8>, bytes: usize| {
            let from = batch.len();
            if at + bytes as u64 > length {
                return Err(damaged(at, format!("the file ends at byte {length}, within a batch")));
            }
            batch.resize(bytes, 0);
            file.read_exact(&mut batch[from..]).map_err(failed)
        };
        batch.clear();
        batch.shrink_to(KEPT_MAX);
        read_to(&mut batch, BLOCK)?;
        let bytes = reader.batch_bytes(&batch).map_err(fault)?;
        read_to(&mut batch, bytes)?;
        reader.read(&batch).map_err(fault)?;
        at += bytes as u64;
    }
    forget(&file);
    reader.finish(written).map_err(|fault| damaged(at, fault.to_string()))?;
    Ok(true)
}
