//! The messages that a database owes: those that were told, and have not run. For an operator who
//! has to decide about one.
//!
//! A message that ends the process when it runs (it overflows the stack, say, or aborts) would do
//! so at every start. After [`LogConfig::poison_lives_max`](crate::LogConfig::poison_lives_max)
//! crashes it is *set aside*: it stays owed, and does not run. Here it is [released](release), when
//! the actor has been mended, or [dropped](drop_message). A message that the actor cannot read, and
//! that keeps the directory from being opened, can be dropped too.
//!
//! These functions are for a directory that no runtime has open. What is decided counts from the
//! next start on.
//!
//! ```no_run
//! use std::path::Path;
//!
//! let directory = Path::new("/var/lib/ledger");
//! for message in freehold::owed::list(directory)?.into_iter().filter(|message| message.is_set_aside) {
//!     freehold::owed::release(directory, message.send_id)?;
//! }
//! # Ok::<(), freehold::LogError>(())
//! ```

use std::path::Path;
use std::sync::Arc;

pub use freehold_shard::record::SendId;
pub use freehold_shard::{OwnerId, Time};

use freehold_shard::Epoch;
use freehold_shard::log::LogBatch;
use freehold_shard::manifest::Fate;
use freehold_shard::recovery::Owing;

use super::contents::{Contents, SegmentPlace, contents, cuts, over, read, refuse_strangers, survey};
use super::inspect::look;
use super::manifest_file::ManifestFile;
use super::{Create, LogConfig};
use crate::disk::directory::Directory;
use crate::disk::error::LogError;
use crate::random::random;

/// A message that is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwedMessage {
    /// Its number, unique in the database.
    pub send_id: SendId,
    /// Who sent it.
    pub sender: OwnerId,
    /// When it is to run, in the database's own time or by the wall clock ([`Time::wall_clock`]);
    /// `None` for at once.
    pub due: Option<Time>,
    /// How many runs it was under way in when they crashed.
    pub lives: u32,
    /// It does not run, and stays owed until it is released or dropped.
    pub is_set_aside: bool,
    /// It, as postcard wrote it.
    pub message: Box<[u8]>,
}

/// The messages that are owed, by their numbers. Only reads, and takes no lock: if a runtime has
/// the directory open, it may be wrong.
///
/// # Errors
/// As [`verify`](crate::inspect::verify); and any damage.
pub fn list(directory: &Path) -> Result<Vec<OwedMessage>, LogError> {
    let (directory, contents) = look(directory)?;
    list_in(&directory, &contents)
}

fn list_in(directory: &Directory, contents: &Contents) -> Result<Vec<OwedMessage>, LogError> {
    let manifest = &contents.manifest;
    let survey = |source| survey(directory, manifest, source, Err, |_| {});
    let mut surveyed = contents.sources.iter().map(survey).collect::<Result<Vec<_>, _>>()?;
    let cuts = cuts(directory, contents, &surveyed)?;
    let from = manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| checkpoint.epoch);
    let mut owing = Owing::knowing(Arc::new(over(contents, &mut surveyed, &cuts)));
    for source in &contents.sources {
        let (from, cut) = source.run.map_or((Epoch(0), Epoch(0)), |run| (from, cuts[run]));
        let apply = |_: &SegmentPlace<'_>, batch: &LogBatch<'_>| {
            owing.apply(batch, from, cut);
            Ok(())
        };
        read(directory, manifest, source, apply, Err, |_| {})?;
    }
    let all = owing.finish().into_iter().map(|(send_id, (sender, due, message))| {
        let blamed = manifest.blamed(send_id);
        let lives = blamed.map_or(0, |blamed| blamed.lives);
        let fate = blamed.map(|blamed| blamed.fate);
        let is_set_aside = fate == Some(Fate::SetAside);
        (fate != Some(Fate::Dropped)).then_some(OwedMessage {
            send_id,
            sender,
            due,
            lives,
            is_set_aside,
            message,
        })
    });
    Ok(all.flatten().collect())
}

/// Has a message run again at the next start, as if it had never been under way in a crash.
///
/// # Errors
/// [`LogError::NotOwed`] if there is no such message, [`LogError::InUse`] if a runtime has the
/// directory open, or as [`list`]; nothing is changed then.
pub fn release(directory: &Path, send_id: SendId) -> Result<(), LogError> {
    decide(directory, send_id, None)
}

/// Gives a message up: it is owed no more, and never runs in this database, nor in a backup of it.
/// That cannot be taken back. A copy that is made by [`CommitLog`](crate::CommitLog) still owes it.
///
/// # Errors
/// As [`release`].
pub fn drop_message(directory: &Path, send_id: SendId) -> Result<(), LogError> {
    decide(directory, send_id, Some(Fate::Dropped))
}

fn decide(path: &Path, send_id: SendId, fate: Option<Fate>) -> Result<(), LogError> {
    // First, so that what is wrong is said as `list` says it.
    look(path)?;
    let config = LogConfig { create: Create::Never, ..LogConfig::at(path) };
    let directory = Directory::open_with(path, config.options())?;
    let (mut file, manifest) = ManifestFile::open(&directory, config.create, 0, None, random)?;
    let mut contents = contents(&directory, manifest)?;
    refuse_strangers(&directory, &contents)?;
    if !list_in(&directory, &contents)?.iter().any(|message| message.send_id == send_id) {
        return Err(LogError::NotOwed { directory: directory.path().to_path_buf(), send_id });
    }
    contents.manifest.decide(send_id, fate);
    file.replace(&contents.manifest)
}
