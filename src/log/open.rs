//! Opens a directory: finds out what the database was when its last run ended, and begins the next run.
//!
//! Until the new manifest is on disk nothing is changed that matters, so a crash in the middle means to begin again. Logs are read by as
//! many threads as there are CPUs, each log by one. See `freehold_shard::recovery` for what is decided, and docs/DURABILITY.md.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use freehold_shard::log::{Batch, SegmentId};
use freehold_shard::manifest::{Manifest, RunEnd};
use freehold_shard::recovery::{Owed, Replay};
use freehold_shard::{
    Actor, Codec, Debt, Durability, Effects, Epoch, LogStart, OwnerId, Ownership, PlacementKey, Prefetch,
    Router, Shard, Time,
};

use super::contents::{Contents, Place, Source, contents, cuts, read, read_manifest, survey};
use super::{
    LogConfig, Logs, MANIFEST, Progress, Recovery, Spares, checkpoint, checkpoint_name, parse_segment_name,
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

/// An object as a log has it.
type Object<A> = (<A as Actor>::Id, Ownership, <A as Actor>::State);

/// What a shard begins with.
pub(crate) struct Restored<A: Actor> {
    pub(crate) objects: Vec<Object<A>>,
    pub(crate) owes: Vec<Owes<A>>,
    pub(crate) first: SegmentId,
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
            first: self.first,
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
pub(crate) struct Meter {
    progress: Option<Progress>,
    began: Instant,
    bytes: u64,
    read: AtomicU64,
    records: AtomicU64,
}

impl Meter {
    pub(crate) fn new(progress: Option<Progress>, contents: &Contents) -> Self {
        let bytes = contents.sources.iter().map(Source::bytes).sum();
        Meter { progress, began: Instant::now(), bytes, read: AtomicU64::new(0), records: AtomicU64::new(0) }
    }

    fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        if let Some(progress) = &self.progress {
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

/// What a database was when its last run ended.
pub(crate) struct Recovered<A: Actor> {
    /// By the shard that is their home from now on.
    pub(crate) objects: Vec<Vec<Object<A>>>,
    pub(crate) owed: BTreeMap<Debt, Owed>,
    /// How the last run ended, if there was one.
    pub(crate) end: Option<RunEnd>,
    /// No epoch after this one is mentioned anywhere.
    pub(crate) latest: Epoch,
    /// How long the database had been running.
    pub(crate) time: Time,
    /// No debt has a number from here on.
    pub(crate) next_debt: u64,
}

/// Finds out what a database was when its last run ended, and changes nothing.
pub(crate) fn recover<A: Actor>(
    directory: &Directory,
    contents: &Contents,
    router: Router,
    meter: &Meter,
) -> Result<Recovered<A>, LogError> {
    let Contents { manifest, sources } = contents;
    let surveyed = in_parallel(sources, |source| {
        let surveyed = survey(directory, manifest, source, Err, |bytes| meter.read(bytes))?;
        meter.records.fetch_add(surveyed.survey.records, Ordering::Relaxed);
        Ok(surveyed)
    })?;
    let cuts = cuts(directory, contents, &surveyed)?;
    let from = manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| checkpoint.epoch);
    let replays = in_parallel(sources, |source| {
        let mut replay = Replay::<A>::new(router);
        // What a checkpoint holds is of no epoch; what is older than it in the logs is in it.
        let (from, cut) = source.run.map_or((Epoch(0), Epoch(0)), |run| (from, cuts[run]));
        let apply = |place: &Place<'_>, batch: &Batch<'_>| {
            replay.apply(batch, from, cut).map_err(|not| LogError::NotUnderstood {
                file: directory.file(place.name),
                offset: batch.offset as u64,
                record: not.record,
                what: not.what,
            })
        };
        read(directory, manifest, source, apply, Err, |bytes| meter.read(bytes))?;
        Ok(replay)
    })?;
    let mut all = Replay::<A>::new(router);
    replays.into_iter().for_each(|replay| all.follow(replay));
    let (objects, owed) = all.finish();

    let surveys = || surveyed.iter().map(|surveyed| &surveyed.survey);
    let latest = surveys().flat_map(|survey| [Some(survey.latest), survey.closed()]).flatten();
    let latest =
        latest.chain(cuts.iter().copied()).chain(manifest.runs.iter().map(|run| run.after)).chain([from]);
    let time = surveys()
        .map(|survey| survey.time)
        .chain(manifest.checkpoint.iter().map(|checkpoint| checkpoint.time));
    let debts =
        surveys().map(|survey| survey.next_debt).chain(manifest.checkpoint.iter().map(|it| it.next_debt));
    let end = manifest.runs.last().map(|run| match &run.end {
        Some(end) => end.clone(),
        None => {
            let number = manifest.runs.len() - 1;
            let of_run = sources.iter().zip(&surveyed).filter(|(source, _)| source.run == Some(number));
            RunEnd { cut: cuts[number], logs: of_run.map(|(_, surveyed)| surveyed.ended.end).collect() }
        }
    });
    Ok(Recovered {
        objects,
        owed,
        end,
        latest: latest.max().unwrap_or_default(),
        time: time.max().unwrap_or_default(),
        next_debt: debts.max().unwrap_or_default(),
    })
}

/// Opens the database for a run of `shards` shards; makes it if there is none. A `key` that is given is used from now on.
pub(crate) fn open<A: Actor>(
    config: &LogConfig,
    codec: &Codec<A>,
    key: Option<PlacementKey>,
    shards: usize,
    random: impl Fn() -> u64,
) -> Result<Opened<A>, LogError> {
    let disk = &config.disk;
    let options = Options { syncs: !disk.without_syncs, faults: disk.faults(), flips_part: disk.flips_part };
    let directory = Directory::open_with(&config.directory, options)?;
    let fresh = || {
        let key = key.unwrap_or_else(|| PlacementKey(random()));
        Manifest::new(random(), key, config.segment_bytes as u64)
    };
    let manifest = match read_manifest(&directory)? {
        Some(manifest) => manifest,
        None => {
            // Before any other file: a crash while the first logs are made must not leave files that nobody vouches for.
            let manifest = fresh();
            directory.replace(MANIFEST, &manifest.to_bytes())?;
            manifest
        }
    };
    let contents = contents(&directory, manifest)?;
    let router = Router::new(key.unwrap_or(contents.manifest.key()), shards);
    let meter = Meter::new(config.progress.clone(), &contents);
    let recovered = recover::<A>(&directory, &contents, router, &meter)?;
    let owed = understood(&directory, codec, recovered.owed, shards)?;
    let recovery = Recovery {
        objects: recovered.objects.iter().map(|objects| objects.len() as u64).sum(),
        owed: owed.iter().map(|owes| owes.len() as u64).sum(),
        ..meter.so_far()
    };
    let of_runs = contents.sources.iter().filter(|source| source.run.is_some());
    let since_checkpoint = of_runs.map(Source::bytes).sum();
    let Recovered { objects, end, latest, time, next_debt, .. } = recovered;
    let mut manifest = contents.manifest.clone();
    manifest.placement_key = key.unwrap_or(manifest.key()).0;
    manifest.begin_run(end, latest, shards, random());
    let run = manifest.runs.last().expect("it has just begun");
    let firsts: Vec<_> = run.logs.iter().map(|begin| manifest.segment_id(run.start, *begin)).collect();
    let numbers: Vec<u64> = firsts.iter().map(|first| first.log).collect();

    let logs = Logs {
        config: LogConfig { segment_bytes: manifest.segment_bytes as usize, ..config.clone() },
        durability: Arc::new(Durability::new(shards, latest)),
        manifest: Mutex::new(manifest),
        began: time,
        next_debt,
        recovery,
        since_checkpoint: AtomicU64::new(since_checkpoint),
        spares: Mutex::new(Spares::default()),
        checkpoints: checkpoint::Demands::new(),
        directory,
    };
    begin(&logs, &contents.manifest, &numbers)?;
    let restored = objects.into_iter().zip(owed).zip(firsts);
    let restored =
        restored.map(|((objects, owes), first)| Restored { objects, owes, first, codec: *codec }).collect();
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

/// Whether a file is one that this manifest names.
fn names(manifest: &Manifest, name: &str) -> bool {
    let is_segment = parse_segment_name(name).is_some_and(|(log, segment)| {
        let mut begins = manifest.runs.iter().flat_map(|run| &run.logs);
        begins.any(|begin| begin.log == log && segment >= begin.segment)
    });
    let mut parts = manifest.checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts);
    is_segment || parts.any(|part| checkpoint_name(part.log) == name)
}

/// Makes the first segments of the run's logs, writes the manifest in place of the one `before`, and lets go of what belongs to nothing.
fn begin(logs: &Logs, before: &Manifest, numbers: &[u64]) -> Result<(), LogError> {
    prepare(logs, before, numbers)?;
    logs.store(|_| {})?;
    // What only the manifest before named, as the logs of a run that left nothing.
    let manifest = logs.manifest().clone();
    discard(logs, numbers.len(), |name| names(&manifest, name))
}

/// Makes the first segments of the run's logs. What the manifest on disk names is as it was: a crash leaves a directory that can be opened.
fn prepare(logs: &Logs, before: &Manifest, numbers: &[u64]) -> Result<(), LogError> {
    let manifest = logs.manifest().clone();
    for (name, bytes) in logs.directory.list()? {
        if let Some(number) = parse_spare_name(&name) {
            match bytes == manifest.segment_bytes {
                true => logs.keep_spare(&name, number),
                false => logs.directory.remove(&name)?,
            }
        }
    }
    // Segments of a start that was given up may have the numbers of this run's.
    discard(logs, numbers.len(), |name| names(before, name))?;
    in_parallel(numbers, |log| {
        let name = segment_name(*log, 0);
        match logs.take_spare() {
            Some(spare) => logs.directory.rename(&spare, &name),
            None => logs.directory.create_zeroed(&name, manifest.segment_bytes),
        }
    })?;
    logs.directory.sync()
}

/// Segments that are not needed are kept to be used again, and parts of checkpoints that are not are removed.
fn discard(logs: &Logs, shards: usize, is_needed: impl Fn(&str) -> bool) -> Result<(), LogError> {
    for (name, bytes) in logs.directory.list()? {
        let is_checkpoint = name.starts_with("checkpoint-");
        if is_needed(&name) || !is_checkpoint && parse_segment_name(&name).is_none() {
            continue;
        }
        if bytes == logs.config.segment_bytes as u64 && !is_checkpoint {
            logs.discard(&name, shards)?;
        } else {
            logs.directory.remove(&name)?;
        }
    }
    Ok(())
}
