//! Opens a directory: finds out what the database was when its last run ended, and begins the next run.
//!
//! Until the new manifest is on disk nothing is changed that matters, so a crash in the middle means to begin again. Logs are read by as
//! many threads as there are CPUs, each log by one. See `freehold_shard::recovery` for what is decided, and docs/DURABILITY.md.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use freehold_shard::log::{Batch, Damage, Tail};
use freehold_shard::manifest::{LogBegin, MANIFEST_VERSION, Manifest, NoManifest, RunEnd};
use freehold_shard::recovery::{LogReader, Owed, Replay, Survey, last_complete};
use freehold_shard::{
    Actor, Codec, Debt, Durability, Effects, Epoch, LogStart, OwnerId, Ownership, PlacementKey, Prefetch,
    Router, Shard, Time,
};

use super::{
    LogConfig, Logs, MANIFEST, Recovery, Spares, checkpoint, checkpoint_name, parse_segment_name,
    parse_spare_name, segment_name,
};
use crate::disk::directory::{Directory, Options};
use crate::disk::error::LogError;

/// A message that is owed, as it runs again.
pub(crate) struct Owes<A: Actor> {
    pub(crate) debt: Debt,
    pub(crate) sender: OwnerId,
    pub(crate) due: Option<Time>,
    pub(crate) message: A::Message,
    pub(crate) bytes: Box<[u8]>,
}

/// What a shard begins with.
pub(crate) struct Restored<A: Actor> {
    pub(crate) objects: Vec<(A::Id, Ownership, A::State)>,
    pub(crate) owes: Vec<Owes<A>>,
    pub(crate) log: u64,
    pub(crate) codec: Codec<A>,
}

impl<A: Actor> Restored<A> {
    /// Puts everything into a shard, which is empty. Messages that are owed at once, to other shards, are in `effects` then.
    pub(crate) fn into_shard<P: Prefetch>(
        self,
        shard: Shard<A, P>,
        logs: &Logs,
        effects: &mut Effects<A>,
    ) -> Shard<A, P> {
        let mut shard = shard.with_log(LogStart {
            codec: self.codec,
            ack: logs.config.ack,
            database: logs.manifest().database,
            log: self.log,
            segment_bytes: logs.config.segment_bytes,
            first_debt: logs.next_debt,
            durability: logs.durability.clone(),
        });
        self.objects.into_iter().for_each(|(id, ownership, state)| shard.restore(id, ownership, state));
        for Owes { debt, sender, due, message, bytes } in self.owes {
            shard.restore_debt(debt, sender, due, message, &bytes, effects);
        }
        shard
    }
}

/// A database, ready for another run.
pub(crate) struct Opened<A: Actor> {
    pub(crate) logs: Logs,
    pub(crate) router: Router,
    /// By shard.
    pub(crate) restored: Vec<Restored<A>>,
}

/// A log to be read: of a run, or a part of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) begin: LogBegin,
    /// The files it consists of, oldest first.
    pub(crate) files: Vec<(String, u64)>,
    /// Where it has to end, if that is known: its last segment, and what would come next.
    pub(crate) end: Option<(u64, Tail)>,
    /// Which run it is of; `None` for a checkpoint.
    pub(crate) run: Option<usize>,
}

/// What was found in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surveyed {
    pub(crate) survey: Survey,
    pub(crate) end: (u64, Tail),
    /// Where its last batch ends: the file, and the byte.
    pub(crate) at: (String, u64),
}

/// What a directory holds.
pub(crate) struct Contents {
    pub(crate) manifest: Manifest,
    /// The checkpoint's parts first, then runs from the oldest on.
    pub(crate) sources: Vec<Source>,
}

/// The manifest of a directory, if it has one.
pub(crate) fn read_manifest(directory: &Directory) -> Result<Option<Manifest>, LogError> {
    let files = directory.list()?;
    if !files.iter().any(|(name, _)| name == MANIFEST) {
        // A first manifest that was being written when there was a crash is nothing yet: it comes before all other files.
        let is_ours = |(name, _): &(String, u64)| {
            ["manifest.old", "log-", "checkpoint-"].iter().any(|prefix| name.starts_with(prefix))
        };
        return match files.iter().any(is_ours) {
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
            advice: "bring the directory back from a copy; manifest.old beside it is the one before"
                .to_string(),
        }),
    }
}

/// What belongs to the database of this manifest.
pub(crate) fn contents(directory: &Directory, manifest: Manifest) -> Result<Contents, LogError> {
    let mut segments: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
    for (name, bytes) in directory.list()? {
        if let Some((log, segment)) = parse_segment_name(&name) {
            segments.entry(log).or_default().insert(segment, bytes);
        }
    }
    let mut sources = Vec::new();
    let parts = manifest.checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts);
    for part in parts {
        let name = checkpoint_name(part.log);
        sources.push(Source {
            begin: LogBegin { log: part.log, segment: 0, tail: Tail::default() },
            files: vec![(name, part.bytes)],
            end: Some((0, part.end)),
            run: None,
        });
    }
    for (number, run) in manifest.runs.iter().enumerate() {
        for (place, begin) in run.logs.iter().enumerate() {
            let end = run.end.as_ref().map(|end| end.logs[place]);
            let found = segments.remove(&begin.log).unwrap_or_default();
            let found: Vec<_> = found.into_iter().filter(|(segment, _)| *segment >= begin.segment).collect();
            let last = end.map_or(found.last().map_or(begin.segment, |(last, _)| *last), |(last, _)| last);
            let mut files = Vec::new();
            for segment in begin.segment..=last {
                let name = segment_name(begin.log, segment);
                match found.iter().find(|(number, _)| *number == segment) {
                    Some((_, bytes)) => files.push((name, *bytes)),
                    None => return Err(missing(directory, &name)),
                }
            }
            sources.push(Source { begin: *begin, files, end, run: Some(number) });
        }
    }
    Ok(Contents { manifest, sources })
}

fn missing(directory: &Directory, name: &str) -> LogError {
    LogError::Damaged {
        file: directory.file(name),
        offset: 0,
        what: "the file is missing".to_string(),
        lost: "all that was written to it".to_string(),
        advice: "bring it back, or the whole directory from a copy".to_string(),
    }
}

fn damaged(directory: &Directory, name: &str, offset: u64, what: String) -> LogError {
    LogError::Damaged {
        file: directory.file(name),
        offset,
        what,
        lost: "what was acknowledged from here on cannot be had from this directory".to_string(),
        advice: "bring the directory back from a copy; nothing in it was changed".to_string(),
    }
}

/// Reads all of a log, and gives each batch with its file to `each`.
pub(crate) fn read(
    directory: &Directory,
    database: u64,
    source: &Source,
    mut each: impl FnMut(&str, &Batch<'_>) -> Result<(), LogError>,
    mut progress: impl FnMut(u64),
) -> Result<((u64, Tail), (String, u64)), LogError> {
    let mut reader = LogReader::new(database, source.begin);
    let mut at = (source.files.first().map_or_else(String::new, |(name, _)| name.clone()), 0);
    for (name, _) in &source.files {
        let bytes = directory.read(name)?;
        let mut failed = None;
        let read = reader.read(&bytes, |batch| {
            if failed.is_none() {
                failed = each(name, &batch).err();
                at = (name.clone(), batch.end() as u64);
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if let Err(damage @ Damage { offset, .. }) = read {
            return Err(damaged(directory, name, offset as u64, damage.to_string()));
        }
        progress(bytes.len() as u64);
    }
    let end = reader.end();
    if let Some(expected) = source.end
        && end != expected
    {
        let what = format!(
            "it ends before batch {}, and was written up to batch {}",
            end.1.sequence, expected.1.sequence
        );
        return Err(damaged(directory, &at.0, at.1, what));
    }
    Ok((end, at))
}

/// Looks through a log.
pub(crate) fn survey(
    directory: &Directory,
    database: u64,
    source: &Source,
    progress: impl FnMut(u64),
) -> Result<Surveyed, LogError> {
    let mut survey = Survey::default();
    let note = |name: &str, batch: &Batch<'_>| {
        survey.note(batch).map_err(|record| {
            let what = format!("record {record} of batch {} is none of this version", batch.sequence);
            damaged(directory, name, batch.offset as u64, what)
        })
    };
    let (end, at) = read(directory, database, source, note, progress)?;
    Ok(Surveyed { survey, end, at })
}

/// How each run ended: its last complete epoch.
pub(crate) fn cuts(
    directory: &Directory,
    contents: &Contents,
    surveyed: &[Surveyed],
) -> Result<Vec<Epoch>, LogError> {
    let runs = contents.manifest.runs.iter().enumerate();
    let floor =
        contents.manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| Epoch(checkpoint.epoch.0 - 1));
    runs.map(|(number, run)| {
        let of_run = contents.sources.iter().zip(surveyed).filter(|(source, _)| source.run == Some(number));
        let logs: Vec<Surveyed> = of_run.map(|(_, surveyed)| surveyed.clone()).collect();
        if let Some(end) = &run.end {
            return Ok(end.cut);
        }
        let surveys: Vec<Survey> = logs.iter().map(|log| log.survey.clone()).collect();
        let cut = last_complete(run.after.max(floor), &surveys);
        let durable = surveys.iter().map(|log| log.durable).max().unwrap_or_default();
        if durable > cut {
            // Some log lacks what had been acknowledged: one that has not closed that epoch.
            let behind = logs.iter().min_by_key(|log| log.survey.closed()).expect("a run has a log");
            let what = format!("it ends here, and another log knows of {durable} being durable");
            return Err(damaged(directory, &behind.at.0, behind.at.1, what));
        }
        Ok(cut)
    })
    .collect()
}

/// Does `work` for each of `items`, on as many threads as there are CPUs.
fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<R, E>>>> = Mutex::new(items.iter().map(|_| None).collect());
    let threads = std::thread::available_parallelism().map_or(1, |cpus| cpus.get()).min(items.len());
    let worker = || {
        while let Some((at, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
        {
            let result = work(item);
            results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(worker)));
        worker();
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|result| result.expect("every item was worked on")).collect()
}

/// Counts what was read and lets the user know.
struct Meter<'a> {
    config: &'a LogConfig,
    began: Instant,
    bytes: u64,
    read: AtomicU64,
    records: AtomicU64,
}

impl Meter<'_> {
    fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        if let Some(progress) = &self.config.progress {
            progress(self.so_far());
        }
    }

    fn so_far(&self) -> Recovery {
        Recovery {
            bytes: self.bytes,
            bytes_read: self.read.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            took: self.began.elapsed(),
            ..Recovery::default()
        }
    }
}

/// Opens the database for a run of `shards` shards; makes it if there is none. A `key` that is given is used from now on.
pub(crate) fn open<A: Actor>(
    config: &LogConfig,
    codec: &Codec<A>,
    key: Option<PlacementKey>,
    shards: usize,
    random: impl Fn() -> u64,
) -> Result<Opened<A>, LogError> {
    let began = Instant::now();
    let options = Options { syncs: !config.disk.without_syncs, faults: config.disk.faults() };
    let directory = Directory::open_with(&config.directory, options)?;
    let fresh = || Manifest {
        database: random(),
        placement_key: key.map_or_else(&random, |key| key.0),
        segment_bytes: config.segment_bytes as u64,
        next_log: 0,
        checkpoint: None,
        runs: Vec::new(),
    };
    let manifest = match read_manifest(&directory)? {
        Some(manifest) => manifest,
        None => {
            // Before there is any other file: one that is found without a manifest is of a database that has lost it.
            let fresh = fresh();
            directory.replace(MANIFEST, &fresh.to_bytes())?;
            fresh
        }
    };
    let contents = contents(&directory, manifest)?;
    let Contents { manifest, sources } = &contents;
    let router = Router::new(key.unwrap_or(manifest.key()), shards);
    let bytes = sources.iter().flat_map(|source| &source.files).map(|(_, bytes)| bytes).sum();
    let meter = Meter { config, began, bytes, read: AtomicU64::new(0), records: AtomicU64::new(0) };

    let surveyed = in_parallel(sources, |source| {
        let surveyed = survey(&directory, manifest.database, source, |bytes| meter.read(bytes))?;
        meter.records.fetch_add(surveyed.survey.records, Ordering::Relaxed);
        Ok(surveyed)
    })?;
    let cuts = cuts(&directory, &contents, &surveyed)?;
    let from = manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| checkpoint.epoch);
    let replays = in_parallel(sources, |source| {
        let mut replay = Replay::<A>::new(router);
        // What a checkpoint holds is of no epoch; what is older than it in the logs is in it.
        let (from, cut) = source.run.map_or((Epoch(0), Epoch(0)), |run| (from, cuts[run]));
        let apply = |name: &str, batch: &Batch<'_>| {
            replay.apply(batch, from, cut).map_err(|not| LogError::NotUnderstood {
                file: directory.file(name),
                offset: batch.offset as u64,
                record: not.record,
                what: not.what,
            })
        };
        read(&directory, manifest.database, source, apply, |bytes| meter.read(bytes))?;
        Ok(replay)
    })?;
    let mut all = Replay::<A>::new(router);
    replays.into_iter().for_each(|replay| all.follow(replay));
    let (objects, owed) = all.finish();
    let owed = understood(&directory, codec, owed, shards)?;

    let surveys = || surveyed.iter().map(|surveyed| &surveyed.survey);
    let latest = surveys().flat_map(|survey| [Some(survey.latest), survey.closed()]).flatten();
    let latest =
        latest.chain(cuts.iter().copied()).chain(manifest.runs.iter().map(|run| run.after)).chain([from]);
    let latest = latest.max().unwrap_or_default();
    let time = surveys()
        .map(|survey| survey.time)
        .chain(manifest.checkpoint.iter().map(|checkpoint| checkpoint.time));
    let began_at = time.max().unwrap_or_default();
    let debts =
        surveys().map(|survey| survey.next_debt).chain(manifest.checkpoint.iter().map(|it| it.next_debt));
    let next_debt = debts.max().unwrap_or_default();
    let recovery = Recovery {
        objects: objects.iter().map(|objects| objects.len() as u64).sum(),
        owed: owed.iter().map(|owes| owes.len() as u64).sum(),
        ..meter.so_far()
    };
    let log_bytes = sources.iter().filter(|source| source.run.is_some()).flat_map(|source| &source.files);
    let since_checkpoint = log_bytes.map(|(_, bytes)| bytes).sum();

    let end = contents.manifest.runs.last().map(|run| match &run.end {
        Some(end) => end.clone(),
        None => {
            let number = contents.manifest.runs.len() - 1;
            let of_run = sources.iter().zip(&surveyed).filter(|(source, _)| source.run == Some(number));
            RunEnd { cut: cuts[number], logs: of_run.map(|(_, surveyed)| surveyed.end).collect() }
        }
    });
    let mut manifest = contents.manifest.clone();
    manifest.placement_key = key.unwrap_or(manifest.key()).0;
    manifest.begin_run(end, latest, shards);
    let numbers: Vec<u64> =
        manifest.runs.last().map_or_else(Vec::new, |run| run.logs.iter().map(|log| log.log).collect());

    let logs = Logs {
        config: LogConfig { segment_bytes: manifest.segment_bytes as usize, ..config.clone() },
        durability: Arc::new(Durability::new(shards, latest)),
        manifest: Mutex::new(manifest),
        began: began_at,
        next_debt,
        recovery,
        since_checkpoint: AtomicU64::new(since_checkpoint),
        spares: Mutex::new(Spares::default()),
        checkpoints: checkpoint::Demands::new(),
        directory,
    };
    begin(&logs, &contents.manifest, &numbers)?;
    let restored = objects.into_iter().zip(owed).zip(numbers);
    let restored =
        restored.map(|((objects, owes), log)| Restored { objects, owes, log, codec: *codec }).collect();
    Ok(Opened { logs, router, restored })
}

/// Makes the messages that are owed of what the logs have, by the shard that owes them from now on.
fn understood<A: Actor>(
    directory: &Directory,
    codec: &Codec<A>,
    owed: BTreeMap<Debt, Owed>,
    shards: usize,
) -> Result<Vec<Vec<Owes<A>>>, LogError> {
    let mut by_shard: Vec<Vec<Owes<A>>> = (0..shards).map(|_| Vec::new()).collect();
    for (debt, (sender, due, bytes)) in owed {
        let message = codec.decode(&bytes).ok_or_else(|| LogError::NotUnderstood {
            file: directory.path().to_path_buf(),
            offset: 0,
            record: debt.0 as usize,
            what: "a message that is owed",
        })?;
        by_shard[(debt.0 % shards as u64) as usize].push(Owes { debt, sender, due, message, bytes });
    }
    Ok(by_shard)
}

/// Removes what belongs to nothing, makes the first segments of the run's logs, and writes the manifest. What only the manifest `before` names,
/// which counts until then, is removed afterwards.
fn begin(logs: &Logs, before: &Manifest, numbers: &[u64]) -> Result<(), LogError> {
    let shards = numbers.len();
    let manifest = logs.manifest().clone();
    let names = |manifest: &Manifest, name: &str| {
        let is_segment = parse_segment_name(name).is_some_and(|(log, segment)| {
            let begins = manifest.runs.iter().flat_map(|run| &run.logs);
            begins.into_iter().any(|begin| begin.log == log && segment >= begin.segment)
        });
        let mut parts = manifest.checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts);
        is_segment || parts.any(|part| checkpoint_name(part.log) == name)
    };
    // Of a start that was given up, with the numbers that this one has.
    let is_left_over = |name: &str| parse_segment_name(name).is_some_and(|(log, _)| numbers.contains(&log));
    for (name, bytes) in logs.directory.list()? {
        if let Some(number) = parse_spare_name(&name) {
            match bytes == manifest.segment_bytes {
                true => logs.keep_spare(&name, number),
                false => logs.directory.remove(&name)?,
            }
        }
    }
    let is_needed = |name: &str| names(before, name) || names(&manifest, name) && !is_left_over(name);
    clear(logs, shards, is_needed)?;
    in_parallel(numbers, |log| {
        let name = segment_name(*log, 0);
        match logs.take_spare() {
            Some(spare) => logs.directory.rename(&spare, &name),
            None => logs.directory.create_zeroed(&name, manifest.segment_bytes),
        }
    })?;
    logs.directory.sync()?;
    logs.store(|_| {})?;
    clear(logs, shards, |name| names(&manifest, name))
}

/// Removes segments and parts of checkpoints that are not needed, or keeps them as spares.
fn clear(logs: &Logs, shards: usize, is_needed: impl Fn(&str) -> bool) -> Result<(), LogError> {
    for (name, bytes) in logs.directory.list()? {
        let is_segment = parse_segment_name(&name).is_some();
        if !(is_segment || name.starts_with("checkpoint-")) || is_needed(&name) {
            continue;
        }
        // Segments of what the manifest does not name any more, or of a start that was given up, are used again.
        if is_segment && bytes == logs.config.segment_bytes as u64 {
            logs.discard(&name, shards)?;
        } else {
            logs.directory.remove(&name)?;
        }
    }
    Ok(())
}
