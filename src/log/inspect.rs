//! Looks at a log's directory without opening it: is it whole, and what is in it?
//!
//! Both functions only read. They take no lock and change nothing, so they may be used on a
//! directory that a runtime has open; what they say of a log that is being written is then of no
//! single moment, and its last batch may read as torn. On a directory that nobody has open they are
//! exact. They read with the same code as a recovery does, and no actor is needed: ids, states and
//! messages are bytes.
//!
//! ```no_run
//! use std::path::Path;
//!
//! let verified = freehold::inspect::verify(Path::new("/var/lib/ledger"))?;
//! for damage in &verified.damages {
//!     println!("{damage}");
//! }
//! freehold::inspect::dump(Path::new("/var/lib/ledger"), |entry| println!("{} {:?}", entry.epoch, entry.record))?;
//! # Ok::<(), freehold::LogError>(())
//! ```

use std::cell::RefCell;
use std::path::Path;

pub use freehold_shard::record::{Coded, Coding, Record, SendId};
pub use freehold_shard::{Epoch, Time};

use freehold_shard::log::DatedRecord;
use freehold_shard::manifest::{Fate, Manifest};

use super::contents::{
    Contents, SegmentPlace, Source, Surveyed, contents, cut, read, read_manifest, strangers, survey,
};
use super::names::parse_spare_name;
use super::{MANIFEST, MANIFEST_OLD};
use crate::disk::directory::Directory;
use crate::disk::error::LogError;
use crate::disk::name::UNDER_WAY;

/// What [`verify`] found in a directory.
#[derive(Debug)]
#[non_exhaustive]
pub struct Verified {
    /// The database's number, drawn at random when it was made.
    pub database: u64,
    /// The size of its segments.
    pub segment_bytes: u64,
    /// What its logs build on, if a checkpoint was ever made.
    pub checkpoint: Option<VerifiedCheckpoint>,
    /// The runs whose logs are needed, oldest first.
    pub runs: Vec<VerifiedRun>,
    /// Segments that are kept to be used again, or are being made.
    pub spares: usize,
    /// Messages that are owed and set aside: see [`owed`](crate::owed).
    pub set_aside: Vec<SendId>,
    /// Files of ours that belong to nothing, and how long they are: left over from a start, a
    /// checkpoint or a backup that was given up. The next start removes them.
    pub strays: Vec<(String, u64)>,
    /// Files that the log does not make, by their names, and how long they are. Nobody here reads
    /// them or removes them.
    pub others: Vec<(String, u64)>,
    /// Everything that is wrong, in the order of the files. Without any, the directory can be
    /// opened.
    pub damages: Vec<LogError>,
}

/// A checkpoint, as [`verify`] found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedCheckpoint {
    /// What was committed before this epoch is in it.
    pub epoch: Epoch,
    /// Of which version of the actor's types it is.
    pub schema_version: u32,
    /// How many files it has.
    pub parts: usize,
    /// How long they are.
    pub bytes: u64,
    /// How many objects are in it.
    pub objects: u64,
    /// How many messages are in it that were told and had not run.
    pub owed: u64,
}

/// The logs of one life of a runtime, as [`verify`] found them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedRun {
    /// All up to this epoch is older.
    pub after: Epoch,
    /// Of which version of the actor's types its records are.
    pub schema_version: u32,
    /// How many logs it had, one for each shard.
    pub logs: usize,
    /// How many segments of them there are.
    pub segments: usize,
    /// How long these are.
    pub bytes: u64,
    /// How many batches they hold.
    pub batches: u64,
    /// How many records, those of epochs among them.
    pub records: u64,
    /// The latest epoch that one of its batches closes; `None` without batches.
    pub closed: Option<Epoch>,
    /// The last complete epoch: records of later ones do not count. `None` if it cannot be told,
    /// because of a damage.
    pub cut: Option<Epoch>,
    /// Whether the runtime was shut down and wrote down where its logs end. Otherwise it runs, or
    /// it crashed.
    pub has_ended: bool,
}

/// A record, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// Its log, or part of a checkpoint.
    pub log: u64,
    /// Its segment of the log.
    pub segment: u64,
    /// Where its batch begins in the segment, in bytes.
    pub offset: u64,
    /// The number of its batch in the log.
    pub sequence: u64,
    /// The epoch it was committed in; epoch 0 for all of a checkpoint.
    pub epoch: Epoch,
    /// Whether it is of a checkpoint, and not of a log.
    pub is_checkpoint: bool,
    /// Of a message that is owed: that it is set aside, and does not run (see
    /// [`owed`](crate::owed)).
    pub is_set_aside: bool,
    /// What it says. [`Record::Epoch`] does not come: it is in `epoch`.
    pub record: Record<'a>,
}

/// Reads everything in a directory that belongs to its database, and says what there is and what is
/// wrong with it.
///
/// # Errors
/// What keeps it from looking any further: there is no such directory, no manifest, or none that
/// can be read; or the system refuses. Everything else that is wrong is in [`Verified::damages`].
pub fn verify(directory: &Path) -> Result<Verified, LogError> {
    let (directory, contents) = look(directory)?;
    let mut damages = Vec::new();
    damages.extend(verify_strangers(&directory, &contents)?);
    let (surveyed, is_whole) = survey_all(&directory, &contents, &mut damages)?;
    let checkpoint = verify_checkpoint(&directory, &contents)?;
    let runs = verify_runs(&directory, &contents, &surveyed, &is_whole, &mut damages);
    let (spares, strays) = sort_unnamed(&directory, &contents)?;
    let manifest = &contents.manifest;
    let set_aside = manifest.blamed.iter().filter(|blamed| blamed.fate == Fate::SetAside);
    let set_aside = set_aside.map(|blamed| SendId(blamed.send_id)).collect();
    let others = directory.list_others()?;
    let (database, segment_bytes) = (manifest.database, manifest.segment_bytes);
    Ok(Verified { database, segment_bytes, checkpoint, runs, spares, set_aside, strays, others, damages })
}

/// Files of another database, or of a later time.
fn verify_strangers(directory: &Directory, contents: &Contents) -> Result<Option<LogError>, LogError> {
    let strangers = strangers(directory, contents)?;
    // A start or a checkpoint makes files, and then the manifest that names them.
    if strangers.is_some() && read_manifest(directory)?.as_ref() == Some(&contents.manifest) {
        return Ok(strangers);
    }
    Ok(None)
}

/// Reads every log and part of a checkpoint. Says of each run whether it is whole.
fn survey_all(
    directory: &Directory,
    contents: &Contents,
    damages: &mut Vec<LogError>,
) -> Result<(Vec<Surveyed>, Vec<bool>), LogError> {
    let Contents { manifest, sources } = contents;
    let mut surveyed = Vec::with_capacity(sources.len());
    let mut is_whole = vec![true; manifest.runs.len()];
    for source in sources {
        let found = RefCell::new(Vec::new());
        let collect = |damage| {
            found.borrow_mut().push(damage);
            Ok(())
        };
        surveyed.push(survey(directory, manifest, source, collect, |_| {})?);
        let found = found.into_inner();
        if let Some(run) = source.run {
            is_whole[run] &= found.is_empty();
        }
        damages.extend(found);
    }
    Ok((surveyed, is_whole))
}

/// What the checkpoint holds, if the manifest names one. What is wrong with it, [`survey_all`] has
/// told.
fn verify_checkpoint(
    directory: &Directory,
    contents: &Contents,
) -> Result<Option<VerifiedCheckpoint>, LogError> {
    let Some(named) = &contents.manifest.checkpoint else { return Ok(None) };
    let mut found = VerifiedCheckpoint {
        epoch: named.epoch,
        schema_version: contents.manifest.schema(None).version,
        parts: named.parts.len(),
        ..Default::default()
    };
    for source in contents.sources.iter().filter(|source| source.run.is_none()) {
        found.bytes += source.bytes();
        let count = |entry: Entry<'_>| match entry.record {
            Record::Put { .. } => found.objects += 1,
            Record::Send { .. } => found.owed += 1,
            _ => {}
        };
        each_record(directory, contents, source, |_| Ok(()), count)?;
    }
    Ok(Some(found))
}

/// What each run has left.
fn verify_runs(
    directory: &Directory,
    contents: &Contents,
    surveyed: &[Surveyed],
    is_whole: &[bool],
    damages: &mut Vec<LogError>,
) -> Vec<VerifiedRun> {
    let Contents { manifest, sources } = contents;
    let mut runs = Vec::new();
    for (number, run) in manifest.runs.iter().enumerate() {
        let mut found = VerifiedRun {
            after: run.after,
            schema_version: manifest.schema(Some(number)).version,
            logs: run.logs.len(),
            has_ended: run.end.is_some(),
            ..Default::default()
        };
        for (source, Surveyed { survey, .. }) in sources.iter().zip(surveyed) {
            if source.run == Some(number) {
                found.segments += source.files.iter().filter(|file| file.bytes.is_some()).count();
                found.bytes += source.bytes();
                found.batches += survey.batches;
                found.records += survey.records;
                found.closed = found.closed.max(survey.closed());
            }
        }
        if is_whole[number] || run.end.is_some() {
            match cut(directory, contents, surveyed, number) {
                Ok(cut) => found.cut = Some(cut),
                Err(damage) => damages.push(damage),
            }
        }
        runs.push(found);
    }
    runs
}

/// Files that the manifest does not name: how many are spares, and those that belong to nothing,
/// with their lengths.
fn sort_unnamed(directory: &Directory, contents: &Contents) -> Result<(usize, Vec<(String, u64)>), LogError> {
    let mut spares = 0;
    let belongs = |name: &str| {
        [MANIFEST, MANIFEST_OLD, UNDER_WAY].contains(&name)
            || contents.sources.iter().flat_map(|source| &source.files).any(|file| file.name == name)
    };
    let mut strays = directory.list()?;
    strays.retain(|(name, _)| {
        let is_spare = parse_spare_name(name).is_some();
        spares += usize::from(is_spare);
        !is_spare && !belongs(name)
    });
    Ok((spares, strays))
}

/// Gives every record of a directory that can be read to `each`, also those behind a damage and
/// those that do not count: the checkpoint's first, then log after log, from the oldest run on,
/// each in the order it was written.
///
/// # Errors
/// As [`verify`], or the first damage; when all that can be read has been given.
pub fn dump(directory: &Path, mut each: impl FnMut(Entry<'_>)) -> Result<(), LogError> {
    let (directory, contents) = look(directory)?;
    let first = RefCell::new(None);
    let keep = |damage| {
        first.borrow_mut().get_or_insert(damage);
        Ok(())
    };
    for source in &contents.sources {
        each_record(&directory, &contents, source, keep, &mut each)?;
    }
    first.into_inner().map_or(Ok(()), Err)
}

/// What the directory says it holds.
pub(super) fn look(directory: &Path) -> Result<(Directory, Contents), LogError> {
    let directory = Directory::read_only(directory)?;
    let manifest = read_manifest(&directory)?;
    let manifest =
        manifest.ok_or_else(|| LogError::NoManifest { directory: directory.path().to_path_buf() })?;
    let contents = contents(&directory, manifest)?;
    Ok((directory, contents))
}

fn is_set_aside(manifest: &Manifest, record: &Record<'_>) -> bool {
    let Record::Send { send_id, .. } = record else { return false };
    manifest.blamed(*send_id).is_some_and(|blamed| blamed.fate == Fate::SetAside)
}

/// Gives each record of a log. Records that are none of this version are left out.
fn each_record(
    directory: &Directory,
    contents: &Contents,
    source: &Source,
    damage: impl FnMut(LogError) -> Result<(), LogError>,
    mut each: impl FnMut(Entry<'_>),
) -> Result<(), LogError> {
    let give = |place: &SegmentPlace<'_>, batch: &freehold_shard::log::LogBatch<'_>| {
        for DatedRecord { epoch, record, .. } in batch.dated() {
            let Some(record) = record else { continue };
            if let Record::Epoch(_) = record {
                continue;
            }
            each(Entry {
                log: source.begin.log,
                segment: place.segment,
                offset: batch.offset as u64,
                sequence: batch.sequence,
                epoch,
                is_checkpoint: source.run.is_none(),
                is_set_aside: is_set_aside(&contents.manifest, &record),
                record,
            });
        }
        Ok(())
    };
    read(directory, &contents.manifest, source, give, damage, |_| {})?;
    Ok(())
}
