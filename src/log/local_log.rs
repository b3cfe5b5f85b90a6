//! A log's directory as a [`CommitLog`], while no runtime has it open.
//!
//! It keeps to the formats of `freehold_shard::log` and `freehold_shard::manifest`, and adds none:
//! what [`LocalLog`] appends is a run with one log, all of whose epochs are complete by themselves.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use freehold_shard::log::{BatchWriter, DatedRecord, LogBatch, Marks, SegmentId, Tail};
use freehold_shard::manifest::{Manifest, RunEnd};
use freehold_shard::record::Record;
use freehold_shard::recovery::LogReader;
use freehold_shard::{Epoch, Time, WrittenSchema};

use super::commit::{CommitLog, CommitLogError, EpochBatch, EpochBatches};
use super::contents::{Contents, SegmentPlace, Surveyed, contents, cuts, read, refuse_strangers, survey};
use super::manifest_file::ManifestFile;
use super::names::segment_name;
use super::{Create, LogConfig};
use crate::disk::directory::Directory;
use crate::disk::error::LogError;
use crate::disk::name::FileName;
use crate::random::random;

/// A log's directory as a [`CommitLog`], as long as no runtime has it open. Dropping it writes down
/// where the log ends.
///
/// Appending begins a run with one log, and another where the schema changes, so a runtime with any
/// number of shards can go on with the directory. Reading keeps the log of one run in memory: at
/// most what [`LogConfig::checkpoint_bytes`] lets grow.
///
/// A log that is changed here after a runtime crashed counts as ended. That crash does not count
/// towards [`LogConfig::poison_lives_max`].
#[derive(Debug)]
pub struct LocalLog {
    directory: Directory,
    file: ManifestFile,
    manifest: Manifest,
    tail: Epoch,
    time: Time,
    run: Option<Appending>,
    /// Logs whose last segment is longer than they are, and where they end. It is cut there when
    /// the manifest on disk has the end.
    uncut: Vec<(String, u64)>,
    has_failed: bool,
}

/// The run that is being appended to.
#[derive(Debug)]
struct Appending {
    id: SegmentId,
    tail: Tail,
    offset: u64,
    file: File,
}

impl LocalLog {
    /// Opens the database of a directory, and reads all of it once; makes an empty one, with
    /// segments of the default size, if there is none. It is locked until this is dropped.
    ///
    /// # Errors
    /// See [`LogError`]: in use, above all, or damaged.
    pub fn open(directory: impl AsRef<Path>) -> Result<LocalLog, CommitLogError> {
        LocalLog::open_as(directory, Create::IfMissing)
    }

    /// [`open`](LocalLog::open), or otherwise where there is no database, or one: as `create` says.
    ///
    /// # Errors
    /// As [`open`](LocalLog::open), and as `create` says.
    pub fn open_as(directory: impl AsRef<Path>, create: Create) -> Result<LocalLog, CommitLogError> {
        LocalLog::open_with(&LogConfig { create, ..LogConfig::at(directory.as_ref()) })
    }

    /// [`open`](LocalLog::open) where and how `config` says: a database that is made has its
    /// segments' size.
    ///
    /// # Errors
    /// As [`open_as`](LocalLog::open_as).
    pub fn open_with(config: &LogConfig) -> Result<LocalLog, CommitLogError> {
        let directory = Directory::open_with(&config.directory, config.options())?;
        let (file, manifest) =
            ManifestFile::open(&directory, config.create, config.segment_bytes as u64, None, random)?;
        let (tail, time, run, uncut, has_failed) = (Epoch(0), Time(0), None, Vec::new(), false);
        let mut log = LocalLog { directory, file, manifest, tail, time, run, uncut, has_failed };
        let (contents, surveyed) = log.survey()?;
        let cuts = cuts(&log.directory, &contents, &surveyed)?;
        log.tail =
            cuts.into_iter().chain(log.first().map(|first| Epoch(first.0 - 1))).max().unwrap_or_default();
        let times = surveyed.iter().map(|surveyed| surveyed.survey.time);
        log.time = times.chain(log.manifest.checkpoint.iter().map(|it| it.time)).max().unwrap_or_default();
        let of_runs = contents.sources.iter().zip(&surveyed).filter(|(source, _)| source.run.is_some());
        let ends = of_runs.map(|(source, surveyed)| (&source.files, &surveyed.ended.at));
        let uncut = ends.filter(|(files, (name, end))| {
            files.iter().any(|file| file.name == *name && file.bytes.is_some_and(|bytes| bytes > *end))
        });
        log.uncut = uncut.map(|(_, end)| end.clone()).collect();
        if let Some(run) = log.manifest.runs.iter().rposition(|run| run.end.is_none()) {
            let of_run = contents.sources.iter().zip(&surveyed).filter(|(source, _)| source.run == Some(run));
            let logs = of_run.map(|(_, surveyed)| surveyed.ended.end).collect();
            // On disk with the next change; until then it is found again.
            log.manifest.runs[run].end = Some(RunEnd { cut: log.tail, logs });
        }
        Ok(log)
    }

    /// Of which types its records are: one, unless an older program has written some of them.
    pub fn schemas(&self) -> &[WrittenSchema] {
        &self.manifest.schemas
    }

    /// Gives `each` record that counts, of the checkpoint and of all complete epochs, in order: all
    /// that the database is. Of one object the last counts.
    ///
    /// ```no_run
    /// use freehold::LocalLog;
    /// use freehold::inspect::Record;
    ///
    /// let (log, mut puts) = (LocalLog::open("/var/lib/ledger")?, 0);
    /// log.restore(|record| puts += u64::from(matches!(Record::read(record), Some(Record::Put { .. }))))?;
    /// println!("{puts} states, of which some were overwritten");
    /// # Ok::<(), freehold::CommitLogError>(())
    /// ```
    ///
    /// # Errors
    /// Why it cannot be read; something may have been given.
    pub fn restore(&self, mut each: impl FnMut(&[u8])) -> Result<(), CommitLogError> {
        let contents = contents(&self.directory, self.manifest.clone())?;
        for part in contents.sources.iter().filter(|source| source.run.is_none()) {
            let give = |_: &SegmentPlace<'_>, batch: &LogBatch<'_>| {
                batch.records().for_each(&mut each);
                Ok(())
            };
            read(&self.directory, &self.manifest, part, give, Err, |_| {})?;
        }
        for batch in self.read(self.first().unwrap_or_default())? {
            batch?.records.iter().for_each(|record| each(record));
        }
        Ok(())
    }

    /// The first epoch that is not in the checkpoint, if there is one.
    fn first(&self) -> Option<Epoch> {
        self.manifest.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch)
    }

    fn survey(&self) -> Result<(Contents, Vec<Surveyed>), LogError> {
        let contents = contents(&self.directory, self.manifest.clone())?;
        refuse_strangers(&self.directory, &contents)?;
        let sources = contents.sources.iter();
        let surveyed = sources.map(|source| survey(&self.directory, &self.manifest, source, Err, |_| {}));
        let surveyed = surveyed.collect::<Result<_, _>>()?;
        Ok((contents, surveyed))
    }

    /// What the logs of a run have of the epochs from `from` on, up to `cut`.
    fn epochs(
        &self,
        contents: &Contents,
        run: usize,
        from: Epoch,
        cut: Epoch,
    ) -> Result<BTreeMap<Epoch, EpochBatch>, LogError> {
        let mut epochs = BTreeMap::new();
        let schema = Arc::new(self.manifest.schema(Some(run)).clone());
        for source in contents.sources.iter().filter(|source| source.run == Some(run)) {
            let take = |_: &SegmentPlace<'_>, batch: &LogBatch<'_>| {
                let time = batch.marks.time;
                for DatedRecord { epoch, bytes, record, .. } in batch.dated() {
                    if matches!(record, Some(Record::Epoch(_))) || !(from..=cut).contains(&epoch) {
                        continue;
                    }
                    let empty = || EpochBatch { epoch, time, schema: schema.clone(), records: Vec::new() };
                    let of_epoch: &mut EpochBatch = epochs.entry(epoch).or_insert_with(empty);
                    of_epoch.time = of_epoch.time.max(time);
                    of_epoch.records.push(bytes.into());
                }
                Ok(())
            };
            read(&self.directory, &self.manifest, source, take, Err, |_| {})?;
        }
        Ok(epochs)
    }

    /// Makes a segment, and gives it its name when it has its size.
    fn make(&self, id: SegmentId) -> Result<File, LogError> {
        let (made, name) = (&FileName::Spare(0).to_string(), segment_name(id.log, id.segment));
        self.directory.create_zeroed(made, self.manifest.segment_bytes)?;
        self.directory.rename(made, &name)?;
        self.directory.sync()?;
        self.directory.open_to_write(&name)
    }

    fn store(&mut self, manifest: Manifest) -> Result<(), LogError> {
        let stored = self.file.replace(&manifest);
        self.note(stored)?;
        self.manifest = manifest;
        // Uncut, each opening that appends would keep a segment.
        self.uncut.drain(..).try_for_each(|(name, end)| self.directory.cut(&name, end))
    }

    /// Refuses to go on if the manifest on disk is another's. It is read once for each append,
    /// which waits for the disk anyway.
    fn check(&mut self) -> Result<(), LogError> {
        let checked = self.file.check();
        self.note(checked)
    }

    /// Once the manifest is another's nothing more is appended.
    fn note(&mut self, result: Result<(), LogError>) -> Result<(), LogError> {
        self.has_failed |= matches!(result, Err(LogError::Replaced { .. }));
        result
    }

    /// Begins a run with one log.
    fn begin(&mut self, schema: &WrittenSchema) -> Result<(), LogError> {
        let mut manifest = self.manifest.clone();
        // The run before has its end. What is later than the tail is of epochs that never became
        // complete. They may be appended now.
        let start = random();
        manifest.begin_run(None, self.tail, 1, start, schema.clone());
        let id = SegmentId { database: manifest.database, log: manifest.next_log - 1, segment: 0, start };
        let file = self.make(id)?;
        self.store(manifest)?;
        self.run = Some(Appending { id, tail: Tail::default(), offset: 0, file });
        Ok(())
    }

    fn write(&mut self, batch: &EpochBatch) -> Result<(), LogError> {
        if self.run.is_none() {
            self.begin(&batch.schema)?;
        }
        let mut records = batch.records.iter().peekable();
        let mut writer = BatchWriter::new(self.manifest.bounds());
        loop {
            writer.push_epoch(batch.epoch);
            let mut pushed = 0;
            while records.next_if(|record| writer.push(batch.epoch, record)).is_some() {
                pushed += 1;
            }
            assert!(pushed > 0 || records.peek().is_none(), "a-record-fits-a-batch: its length was checked");
            // It is complete with its last batch.
            let is_last = records.peek().is_none();
            let closed = if is_last { batch.epoch } else { self.tail };
            let time = self.time.max(batch.time);
            self.write_batch(&mut writer, Marks { closed, durable: self.tail, time, ..Marks::default() })?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Writes one batch, and syncs it: a later one is never there without it.
    fn write_batch(&mut self, writer: &mut BatchWriter, marks: Marks) -> Result<(), LogError> {
        let mut run = self.run.take().expect("a run was begun");
        if run.offset + writer.padded() as u64 > self.manifest.segment_bytes {
            run.id.segment += 1;
            run.offset = 0;
            run.file = self.make(run.id)?;
        }
        let path = self.directory.file(&segment_name(run.id.log, run.id.segment));
        writer.seal(run.id, &mut run.tail, &marks);
        let written = run.file.write_all_at(writer.sealed(), run.offset);
        written.map_err(|source| LogError::io("writing", &path, source))?;
        run.file.sync_data().map_err(|source| LogError::io("syncing", &path, source))?;
        run.offset += writer.sealed().len() as u64;
        writer.clear();
        self.run = Some(run);
        Ok(())
    }

    /// Writes down where the run ends that was appended to, if there is one.
    fn end(&mut self) -> Result<(), LogError> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let mut manifest = self.manifest.clone();
        let last = manifest.runs.last_mut().expect("the run that was begun");
        last.end = Some(RunEnd { cut: self.tail, logs: vec![(run.id.segment, run.tail)] });
        self.uncut.push((segment_name(run.id.log, run.id.segment), run.offset));
        // Without an end on disk nothing may follow.
        self.has_failed = true;
        self.store(manifest)?;
        self.has_failed = false;
        Ok(())
    }
}

impl CommitLog for LocalLog {
    fn tail(&self) -> Epoch {
        self.tail
    }

    fn append(&mut self, expected_tail: Epoch, batch: &EpochBatch) -> Result<(), CommitLogError> {
        if self.has_failed {
            return Err(CommitLogError::Failed);
        }
        let runs = (0..self.manifest.runs.len()).map(Some);
        let places = runs.chain(self.manifest.checkpoint.iter().map(|_| None));
        let versions = places.map(|place| self.manifest.schema(place).version);
        batch.check_place(expected_tail, self.tail, versions.max())?;
        batch.check_records(self.manifest.bounds().record())?;
        let last = self.manifest.runs.len().checked_sub(1);
        if self.run.is_some() && *self.manifest.schema(last) != *batch.schema {
            // A run is of one schema.
            self.end()?;
        }
        self.check()?;
        self.has_failed = true;
        self.write(batch)?;
        self.has_failed = false;
        self.tail = batch.epoch;
        self.time = self.time.max(batch.time);
        Ok(())
    }

    fn read(&self, from: Epoch) -> Result<EpochBatches<'_>, CommitLogError> {
        if let Some(first) = self.first().filter(|first| from < *first) {
            return Err(CommitLogError::LetGo { first });
        }
        let (contents, surveyed) = self.survey()?;
        let cuts = cuts(&self.directory, &contents, &surveyed)?;
        let runs = cuts.into_iter().enumerate().flat_map(move |(run, cut)| -> EpochBatches<'_> {
            match self.epochs(&contents, run, from, cut) {
                Ok(epochs) => Box::new(epochs.into_values().map(Ok)),
                Err(error) => Box::new(std::iter::once(Err(error.into()))),
            }
        });
        Ok(Box::new(runs))
    }

    fn trim(&mut self, below: Epoch) -> Result<(), CommitLogError> {
        let first = self.first().unwrap_or(Epoch(1));
        if below > first {
            return Err(CommitLogError::NotInACheckpoint { first });
        }
        if self.has_failed {
            return Err(CommitLogError::Failed);
        }
        // So that where each log ends, and which epochs are complete, is known without the segments
        // that go.
        self.end()?;
        let contents = contents(&self.directory, self.manifest.clone())?;
        let mut manifest = self.manifest.clone();
        let mut let_go = Vec::new();
        for source in &contents.sources {
            let Some(run) = source.run else { continue };
            let mut reader = LogReader::new(
                manifest.segment_id(source.start, source.begin),
                manifest.bounds(),
                source.begin.tail,
            );
            let place = manifest.runs[run].logs.iter().position(|begin| begin.log == source.begin.log);
            let begin = &mut manifest.runs[run].logs[place.expect("a source is of a log")];
            let (mut latest, mut older) = (Epoch(0), Vec::new());
            for file in &source.files {
                if latest >= below {
                    break;
                }
                (begin.segment, begin.tail) = (file.segment, reader.end().1);
                let_go.append(&mut older);
                let read = reader.read(&self.directory.read(&file.name)?, |batch| {
                    latest = batch.dated().map(|dated| dated.epoch).fold(latest, Epoch::max);
                });
                // It was read when the directory was opened, or written since.
                if read.is_err() {
                    self.survey()?;
                    return Err(CommitLogError::Failed);
                }
                older.push(file.name.clone());
            }
        }
        self.store(manifest)?;
        for name in let_go {
            self.directory.remove(&name)?;
        }
        Ok(())
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "the end of the log could not be written: the next start recovers as from a crash");
        }
    }
}
