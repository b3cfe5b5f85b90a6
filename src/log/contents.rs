//! What a directory holds, and how it is read: which files belong to the database, and what is
//! wrong with any of them.
//!
//! Whoever reads a log reads it here: [`open`](super::open) for the next run, which stops at the
//! first damage, and [`inspect`](crate::inspect), which looks at what is behind it too. So the two
//! cannot be of different opinions. Nothing here writes.
//!
//! Of a run that was shut down it is known where each log ends, and whatever is missing before that
//! is damage. Of one that crashed it is not: there a last batch that cannot be read is a torn tail
//! (see `freehold_shard::log`), unless another log knows that what was in it had been durable.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::PathBuf;

use freehold_shard::Epoch;
use freehold_shard::log::{
    Bounds, Damage, HEADER, Invalid, LogBatch, Pieces, SegmentId, Tail, VERSION, batch_bytes,
    claimed_identity, identity,
};
use freehold_shard::manifest::{LogBegin, MANIFEST_VERSION, Manifest, NoManifest};
use freehold_shard::recovery::{LogReader, Over, Survey, last_complete};

use super::MANIFEST;
use super::names::{checkpoint_name, parse_checkpoint_name, parse_segment_name, segment_name};
use crate::disk::directory::Directory;
use crate::disk::error::LogError;
use crate::disk::name::{FileName, NEW};
use crate::disk::pieces::FilePieces;

/// A file of a log.
#[derive(Clone, Debug)]
pub(crate) struct LogFileFound {
    pub(crate) name: String,
    pub(crate) segment: u64,
    /// Its length; `None` if it is missing, and with it, perhaps, those that come next.
    pub(crate) bytes: Option<u64>,
}

/// A log to be read: of a run, or a part of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The number of the start that began it.
    pub(crate) start: u64,
    pub(crate) begin: LogBegin,
    /// The files it consists of, oldest first.
    pub(crate) files: Vec<LogFileFound>,
    /// Where it has to end, if that is known: its last segment, and what would come next.
    pub(crate) end: Option<(u64, Tail)>,
    /// Which run it is of; `None` for a checkpoint.
    pub(crate) run: Option<usize>,
}

impl Source {
    /// How long its files are.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.bytes).sum()
    }

    /// Whether a batch is behind its end. What a run that was killed had under way may have come to
    /// the disk after the next start had written down where its log ends.
    fn is_late(&self, batch: &LogBatch<'_>) -> bool {
        self.end.is_some_and(|(_, end)| batch.sequence >= end.sequence)
    }

    /// How much of its files is before its end: what was written.
    pub(crate) fn bytes_before(&self, ended: &Ended) -> u64 {
        let (last, end) = &ended.at;
        let before = self.files.iter().take_while(|file| file.name != *last);
        before.filter_map(|file| file.bytes).sum::<u64>() + end
    }
}

/// What a directory holds.
pub(crate) struct Contents {
    pub(crate) manifest: Manifest,
    /// The checkpoint's parts first, then runs from the oldest on.
    pub(crate) sources: Vec<Source>,
}

/// Where a log was found to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    /// Its last segment with a batch, and what would come next.
    pub(crate) end: (u64, Tail),
    /// Where its last batch ends: the file, and the byte.
    pub(crate) at: (String, u64),
}

/// What was found in a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surveyed {
    pub(crate) survey: Survey,
    pub(crate) ended: Ended,
}

/// The manifest of a directory, if it has one.
pub(crate) fn read_manifest(directory: &Directory) -> Result<Option<Manifest>, LogError> {
    let files = directory.list()?;
    if !files.iter().any(|(name, _)| name == MANIFEST) {
        // A start that was given up may have left `manifest.new`, and nothing else: the manifest
        // comes before any other file.
        let new = format!("{MANIFEST}{NEW}");
        return match files.iter().any(|(name, _)| *name != new) {
            true => Err(LogError::NoManifest { directory: directory.path().to_path_buf() }),
            false => Ok(None),
        };
    }
    let file = directory.file(MANIFEST);
    match Manifest::from_bytes(&directory.read(MANIFEST)?) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(NoManifest::Version { found }) => Err(LogError::Version { file, found, known: MANIFEST_VERSION }),
        Err(error) => Err(LogError::Damaged {
            file,
            offset: 0,
            what: error.to_string(),
            lost: "which logs belong to the database is not known".to_string(),
            advice: "bring the directory back from a backup; or, if nothing was started and no checkpoint made since it was replaced, \
                     copy manifest.old over it, which is the one before: a start loses nothing by it, and refuses it where it does not fit"
                .to_string(),
        }),
    }
}

/// What belongs to the database of this manifest.
pub(crate) fn contents(directory: &Directory, manifest: Manifest) -> Result<Contents, LogError> {
    let mut segments: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
    let mut checkpoints: BTreeMap<String, u64> = BTreeMap::new();
    for (name, bytes) in directory.list()? {
        match parse_segment_name(&name) {
            Some((log, segment)) => drop(segments.entry(log).or_default().insert(segment, bytes)),
            None => drop(checkpoints.insert(name, bytes)),
        }
    }
    let mut sources = Vec::new();
    let parts = manifest.checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts);
    for part in parts {
        let name = checkpoint_name(part.log);
        let bytes = checkpoints.get(&name).copied();
        sources.push(Source {
            start: part.start,
            begin: LogBegin { log: part.log, segment: 0, tail: Tail::default() },
            files: vec![LogFileFound { name, segment: 0, bytes }],
            end: Some((0, part.end)),
            run: None,
        });
    }
    for (number, run) in manifest.runs.iter().enumerate() {
        for (place, begin) in run.logs.iter().enumerate() {
            let end = run.end.as_ref().map(|end| end.logs[place]);
            let Some((_, last)) = run.segments(place) else {
                sources.push(Source {
                    start: run.start,
                    begin: *begin,
                    files: Vec::new(),
                    end,
                    run: Some(number),
                });
                continue;
            };
            let found = segments.get(&begin.log);
            let newest = found.and_then(|found| found.last_key_value()).map(|(last, _)| *last);
            let last = if end.is_some() { last } else { newest.unwrap_or_default().max(begin.segment) };
            let found = found.iter().flat_map(|found| found.range(begin.segment..=last));
            let file =
                |segment, bytes| LogFileFound { name: segment_name(begin.log, segment), segment, bytes };
            let (mut files, mut next) = (Vec::new(), Some(begin.segment));
            for (segment, bytes) in found {
                files.extend(next.filter(|next| next < segment).map(|missing| file(missing, None)));
                files.push(file(*segment, Some(*bytes)));
                next = segment.checked_add(1);
            }
            files.extend(next.filter(|next| *next <= last).map(|missing| file(missing, None)));
            sources.push(Source { start: run.start, begin: *begin, files, end, run: Some(number) });
        }
    }
    Ok(Contents { manifest, sources })
}

/// Refuses a directory with files that its manifest cannot know: recovery would not look at them,
/// and the next run would take their numbers, and their place.
pub(crate) fn refuse_strangers(directory: &Directory, contents: &Contents) -> Result<(), LogError> {
    strangers(directory, contents)?.map_or(Ok(()), Err)
}

/// What is wrong if there are such files: they were written after the manifest, or by another
/// database.
pub(crate) fn strangers(directory: &Directory, contents: &Contents) -> Result<Option<LogError>, LogError> {
    let others = of_others(directory, &contents.manifest)?;
    if !others.is_empty() {
        let manifest = directory.file(MANIFEST);
        return Ok(Some(LogError::OtherDatabase { manifest, files: others }));
    }
    let newer = newer(directory, contents)?;
    Ok((!newer.is_empty()).then(|| newer_files(directory, newer)))
}

/// The files that another database wrote, whether the manifest names them or not: its numbers may
/// be those of other logs.
fn of_others(directory: &Directory, manifest: &Manifest) -> Result<Vec<String>, LogError> {
    let mut others = Vec::new();
    for (name, _) in directory.list()? {
        let (log, segment) = match FileName::parse(&name) {
            Some(FileName::Segment { log, segment }) => (log, segment),
            Some(FileName::Part { log }) => (log, 0),
            _ => continue,
        };
        let Some(header) = if_there(directory.read_start(&name, HEADER))? else { continue };
        // Of what an earlier use of the file left, log and segment are others than its name says.
        let is_of_other =
            |id: &SegmentId| (id.log, id.segment) == (log, segment) && id.database != manifest.database;
        if claimed_identity(&header).is_some_and(|id| is_of_other(&id))
            && first_segment(directory, &name)?.is_some_and(|id| is_of_other(&id))
        {
            others.push(name);
        }
    }
    Ok(others)
}

fn newer_files(directory: &Directory, files: Vec<String>) -> LogError {
    LogError::NewerFiles { manifest: directory.file(MANIFEST), files }
}

/// Of the files that no source names, those that were written after the manifest.
fn newer(directory: &Directory, Contents { manifest, sources }: &Contents) -> Result<Vec<String>, LogError> {
    let needed: HashSet<&str> =
        sources.iter().flat_map(|source| &source.files).map(|file| &*file.name).collect();
    let mut newer = Vec::new();
    for (name, _) in directory.list()? {
        let segment = parse_segment_name(&name);
        if needed.contains(&*name) || segment.is_none() && parse_checkpoint_name(&name).is_none() {
            continue;
        }
        let goes_on = |source: &&Source| {
            source.run.is_some() && segment.is_some_and(|(log, _)| log == source.begin.log)
        };
        let is_newer = match sources.iter().find(goes_on) {
            Some(source) => {
                is_behind_the_end(directory, manifest, source, &name, segment.unwrap_or_default().1)?
            }
            None => first_segment(directory, &name)?.is_some_and(|first| manifest.is_older_than(first)),
        };
        if is_newer {
            newer.push(name);
        }
    }
    Ok(newer)
}

/// Whether a file begins with a batch that was written after the manifest, or by another database.
pub(crate) fn is_strange(directory: &Directory, manifest: &Manifest, name: &str) -> Result<bool, LogError> {
    let first = first_segment(directory, name)?;
    Ok(first.is_some_and(|first| first.database != manifest.database || manifest.is_older_than(first)))
}

/// Which segment a file says it is, if it begins with a whole batch, of whatever database.
fn first_segment(directory: &Directory, name: &str) -> Result<Option<SegmentId>, LogError> {
    let bounds = Bounds::of_segments(usize::MAX);
    let Some(header) = if_there(directory.read_start(name, HEADER))? else { return Ok(None) };
    let Ok(bytes) = batch_bytes(&header, bounds) else { return Ok(None) };
    Ok(if_there(directory.read_start(name, bytes))?.and_then(|first| identity(&first, bounds)))
}

/// What was read of a file that no source names. Where a directory is only read, the runtime that
/// writes it may have let go of the file.
fn if_there(read: Result<Vec<u8>, LogError>) -> Result<Option<Vec<u8>>, LogError> {
    match read {
        Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Whether the log goes on in this segment, behind where it ended as the manifest has it. See
/// [`LATE_MAX`].
fn is_behind_the_end(
    directory: &Directory,
    manifest: &Manifest,
    source: &Source,
    name: &str,
    segment: u64,
) -> Result<bool, LogError> {
    let Some((_, end)) = source.end.filter(|_| segment >= source.begin.segment) else { return Ok(false) };
    let id = SegmentId { segment, ..manifest.segment_id(source.start, source.begin) };
    if first_segment(directory, name)? != Some(id) {
        return Ok(false);
    }
    let mut late = 0;
    let Some(bytes) = if_there(directory.read(name))? else { return Ok(false) };
    let read = LogReader::new(id, manifest.bounds(), end).read(&bytes, |_| late += 1);
    Ok(late > LATE_MAX || read.is_err_and(|damage| damage.later > end.sequence))
}

/// How many whole batches may lie behind the place where the manifest has a log end: the one that
/// the disk was writing when the run was killed, and which came to it after the next start had
/// looked.
const LATE_MAX: u64 = 1;

fn missing(file: PathBuf) -> LogError {
    LogError::Damaged {
        file,
        offset: 0,
        what: "the file is missing".to_string(),
        lost: "all that was written to it".to_string(),
        advice: "bring it back, or the whole directory from a copy".to_string(),
    }
}

pub(crate) fn damaged(directory: &Directory, name: &str, offset: u64, what: String) -> LogError {
    LogError::Damaged {
        file: directory.file(name),
        offset,
        what,
        lost: "what was acknowledged from here on cannot be had from this directory".to_string(),
        advice: "bring the directory back from a copy; nothing in it was changed".to_string(),
    }
}

/// A batch that is whole, and has a record of a kind that there is none of: most likely one of a
/// later version.
fn later_version(directory: &Directory, name: &str, batch: &LogBatch<'_>, record: usize) -> LogError {
    LogError::Damaged {
        file: directory.file(name),
        offset: batch.offset as u64,
        what: format!("record {record} of batch {} is none of this version", batch.sequence),
        lost: "nothing, if a later version wrote it".to_string(),
        advice: "open the directory with the latest version that has opened it, or bring it back from a copy; nothing in it was changed".to_string(),
    }
}

/// How a batch is given to whoever reads a log.
pub(crate) struct SegmentPlace<'a> {
    /// Its file.
    pub(crate) name: &'a str,
    pub(crate) segment: u64,
}

/// Reads all of a log, and gives each batch with its place to `each`. What is damaged is given to
/// `damage`; if that lets it pass, reading goes on behind it. `progress` is told how many bytes
/// were read.
pub(crate) fn read(
    directory: &Directory,
    manifest: &Manifest,
    source: &Source,
    mut each: impl FnMut(&SegmentPlace<'_>, &LogBatch<'_>) -> Result<(), LogError>,
    mut damage: impl FnMut(LogError) -> Result<(), LogError>,
    mut progress: impl FnMut(u64),
) -> Result<Ended, LogError> {
    // What follows is compiled once, and not for each of twelve readers.
    read_batches(directory, manifest, source, &mut each, &mut damage, &mut progress)
}

fn read_batches(
    directory: &Directory,
    manifest: &Manifest,
    source: &Source,
    each: &mut dyn FnMut(&SegmentPlace<'_>, &LogBatch<'_>) -> Result<(), LogError>,
    damage: &mut dyn FnMut(LogError) -> Result<(), LogError>,
    progress: &mut dyn FnMut(u64),
) -> Result<Ended, LogError> {
    let first = manifest.segment_id(source.start, source.begin);
    let mut reader = LogReader::new(first, manifest.bounds(), source.begin.tail);
    let mut at = (source.files.first().map_or_else(String::new, |file| file.name.clone()), 0);
    // What comes next is not known, because of a damage that was told.
    let mut is_lost = false;
    for LogFileFound { name, segment, bytes } in &source.files {
        let Some(expected) = *bytes else {
            damage(missing(directory.file(name)))?;
            is_lost = true;
            continue;
        };
        reader.skip_to(*segment);
        let mut pieces = FilePieces::open(directory, name)?;
        let place = SegmentPlace { name, segment: *segment };
        // The closure keeps both while the loop looks at them.
        let (failed, seen, late) = (RefCell::new(None), Cell::new(None), Cell::new(0));
        let mut take = |batch: LogBatch<'_>| {
            let mut failed = failed.borrow_mut();
            let is_late = source.is_late(&batch);
            late.set(late.get() + u64::from(is_late));
            if failed.is_none() && !is_late {
                *failed = each(&place, &batch).err();
                seen.set(Some(batch.end() as u64));
            }
        };
        let mut read = reader.read_pieces(&mut pieces, None, &mut take)?;
        while let Err(found) = read {
            if failed.borrow().is_some() {
                break;
            }
            if tell_damage(directory, name, &at, is_lost, &found, damage)?.is_break() {
                is_lost = true;
                break;
            }
            is_lost = false;
            read = reader.read_pieces(&mut pieces, Some(&found), &mut take)?;
        }
        let bytes = pieces.bytes() as u64;
        failed.into_inner().map_or(Ok(()), Err)?;
        if late.get() > LATE_MAX {
            damage(newer_files(directory, vec![name.clone()]))?;
        }
        if let Some(end) = seen.into_inner() {
            is_lost &= read.is_err();
            // Of a file that was cut, the padding behind the last batch may be missing.
            at = (name.clone(), end.min(bytes));
        }
        if source.end.is_none() && bytes < manifest.segment_bytes && !is_lost {
            // A file has its full size before it has the name of a segment.
            let what = format!("the file ends here, and segments have {} bytes", manifest.segment_bytes);
            damage(damaged(directory, name, expected.min(bytes), what))?;
            is_lost = true;
        }
        progress(bytes);
    }
    let end = reader.end();
    if !is_lost && let Some(what) = ends_early(source, end) {
        damage(damaged(directory, &at.0, at.1, what))?;
    }
    Ok(Ended { end, at })
}

/// Gives what is damaged in a segment to `damage`. Breaks if nothing more of the segment can be
/// read. What was read before ends `at`.
fn tell_damage(
    directory: &Directory,
    name: &str,
    at: &(String, u64),
    is_lost: bool,
    found: &Damage,
    damage: &mut dyn FnMut(LogError) -> Result<(), LogError>,
) -> Result<ControlFlow<()>, LogError> {
    match found {
        Damage { found: Invalid::Version { found }, .. } => {
            let file = directory.file(name);
            damage(LogError::Version { file, found: *found, known: VERSION })?;
            return Ok(ControlFlow::Break(()));
        }
        Damage { found: found @ Invalid::OtherStart, .. } => {
            damage(damaged(directory, name, 0, found.to_string()))?;
            return Ok(ControlFlow::Break(()));
        }
        // It follows from what was told already.
        Damage { found: Invalid::OutOfOrder { .. }, .. } if is_lost => {}
        // The gap is behind what was read of the segment before.
        Damage { offset: 0, found: Invalid::OutOfOrder { found, expected }, .. } if at.0 != name => {
            let what = format!("batch {expected} cannot be read, and batch {found} follows in {name}");
            damage(damaged(directory, &at.0, at.1, what))?;
        }
        Damage { offset, .. } => {
            damage(damaged(directory, name, *offset as u64, found.to_string()))?;
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// What is wrong with a log that ends here, if the manifest says that it ends later.
fn ends_early(source: &Source, end: (u64, Tail)) -> Option<String> {
    let (_, expected) =
        source.end.filter(|expected| end.1.sequence <= expected.1.sequence && end != *expected)?;
    // Of a log with nothing in it no file is needed.
    (!source.files.is_empty()).then(|| {
        format!("it ends before batch {}, and was written up to batch {}", end.1.sequence, expected.sequence)
    })
}

/// Looks through a log. What is damaged is given to `damage`, as by [`read`].
pub(crate) fn survey(
    directory: &Directory,
    manifest: &Manifest,
    source: &Source,
    damage: impl Fn(LogError) -> Result<(), LogError>,
    progress: impl FnMut(u64),
) -> Result<Surveyed, LogError> {
    let from = manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| checkpoint.epoch);
    let mut survey = Survey::from(from);
    let note = |place: &SegmentPlace<'_>, batch: &LogBatch<'_>| match survey.note(batch) {
        Ok(()) => Ok(()),
        Err(record) => damage(later_version(directory, place.name, batch, record)),
    };
    let ended = read(directory, manifest, source, note, &damage, progress)?;
    Ok(Surveyed { survey, ended })
}

/// How each run ended: its last complete epoch.
pub(crate) fn cuts(
    directory: &Directory,
    contents: &Contents,
    surveyed: &[Surveyed],
) -> Result<Vec<Epoch>, LogError> {
    (0..contents.manifest.runs.len()).map(|run| cut(directory, contents, surveyed, run)).collect()
}

/// Which messages are over, as all logs say.
pub(crate) fn over(contents: &Contents, surveyed: &mut [Surveyed], cuts: &[Epoch]) -> Over {
    let mut over = Over::default();
    for (source, surveyed) in contents.sources.iter().zip(surveyed) {
        // A part of a checkpoint says so of none.
        over.extend(surveyed.survey.take_over(source.run.map_or(Epoch(0), |run| cuts[run])));
    }
    over
}

/// The last epoch that is in the checkpoint.
pub(crate) fn floor(manifest: &Manifest) -> Epoch {
    manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| Epoch(checkpoint.epoch.0 - 1))
}

/// How one of the runs ended.
pub(crate) fn cut(
    directory: &Directory,
    contents: &Contents,
    surveyed: &[Surveyed],
    number: usize,
) -> Result<Epoch, LogError> {
    let run = &contents.manifest.runs[number];
    if let Some(end) = &run.end {
        return Ok(end.cut);
    }
    let floor = floor(&contents.manifest);
    let of_run = contents.sources.iter().zip(surveyed).filter(|(source, _)| source.run == Some(number));
    let logs: Vec<&Surveyed> = of_run.map(|(_, surveyed)| surveyed).collect();
    let surveys: Vec<&Survey> = logs.iter().map(|log| &log.survey).collect();
    let cut = last_complete(run.after.max(floor), &surveys);
    let durable = surveys.iter().map(|log| log.durable).max().unwrap_or_default();
    if durable > cut {
        // Some log lacks what had been acknowledged: one that has not closed that epoch.
        let behind = logs.iter().min_by_key(|log| log.survey.closed()).expect("a run has a log");
        let what = format!("it ends here, and another log knows of {durable} being durable");
        return Err(damaged(directory, &behind.ended.at.0, behind.ended.at.1, what));
    }
    Ok(cut)
}
