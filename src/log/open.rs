//! Opens a directory: finds out what the database was when its last run ended, and begins the next
//! run.
//!
//! Until the new manifest is on disk nothing is changed that matters, so a crash in the middle
//! means to begin again. Logs are read by as many threads as there are CPUs. See
//! `freehold_shard::recovery` for what is decided, and docs/DURABILITY.md.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use freehold_shard::log::{LogBatch, SegmentId};
use freehold_shard::manifest::{Blamed, Fate, Manifest, Run, RunEnd};
use freehold_shard::recovery::{
    Home, Migrating, NotUnderstood, OldReplay, Over, RecoveredSend, Replay, Share,
};
use freehold_shard::{
    Ack, Actor, Codec, Durability, Epoch, LogStart, OwnerId, PlacementKey, Prefetch, Reading, Router, SendId,
    Shard, Time, WrittenSchema,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::contents::{
    Contents, Ended, SegmentPlace, Source, Surveyed, contents, cuts, is_strange, over, read,
    refuse_strangers, survey,
};
use super::growth::Growth;
use super::manifest_file::ManifestFile;
use super::names::{
    checkpoint_name, parse_checkpoint_name, parse_segment_name, parse_spare_name, segment_name,
};
use super::under_way::{UnderWay, under_way};
use super::{LogConfig, Progress, Recovery, SharedLogs, Spares, demands};
use crate::disk::directory::Directory;
use crate::disk::error::LogError;
use crate::disk::name::{PIN, UNFINISHED};
use crate::random::random;

/// A message that is owed, as it runs again.
pub(crate) struct RestoredSend<A: Actor> {
    pub(crate) send_id: SendId,
    pub(crate) sender: OwnerId,
    pub(crate) due: Option<Time>,
    /// `None` if it is set aside.
    pub(crate) message: Option<A::Message>,
    pub(crate) bytes: Box<[u8]>,
}

/// What a shard begins with.
pub(crate) struct Restored<A: Actor> {
    pub(crate) home: Home<A>,
    pub(crate) sends: Vec<RestoredSend<A>>,
    pub(crate) first: SegmentId,
    pub(crate) codec: Codec<A>,
}

impl<A: Actor> Restored<A> {
    /// Puts everything into a shard, which is empty.
    pub(crate) fn into_shard<P: Prefetch>(self, shard: Shard<A, P>, logs: &SharedLogs) -> Shard<A, P> {
        let mut shard = shard.with_objects(self.home).with_log(LogStart {
            codec: self.codec,
            ack: logs.config.ack,
            first: self.first,
            segment_bytes: logs.config.segment_bytes,
            first_send: logs.next_send,
            durability: logs.durability.clone(),
        });
        for RestoredSend { send_id, sender, due, message, bytes } in self.sends {
            match message {
                Some(message) => shard.restore_send(send_id, sender, due, message, &bytes),
                None => shard.keep_send(send_id, sender, due, &bytes),
            }
        }
        shard.hold_resumed(!logs.suspects.is_empty());
        shard
    }
}

/// A database, ready for another run.
pub(crate) struct Opened<A: Actor> {
    pub(crate) logs: SharedLogs,
    pub(crate) router: Router,
    /// By shard.
    pub(crate) restored: Vec<Restored<A>>,
}

/// How many threads can work at once.
fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get())
}

/// Does `work` for each of `items`, on as many threads as there are CPUs.
fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<R, E>>>> = Mutex::new(items.iter().map(|_| None).collect());
    let threads = cpus().min(items.len());
    let worker = || {
        while let Some((at, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
        {
            let result = work(item);
            results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
        }
    };
    on_threads(threads, &worker);
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|result| result.expect("every item was worked on")).collect()
}

/// Calls `worker` on so many threads, of which this is one, and waits for all.
fn on_threads(threads: usize, worker: &(dyn Fn() + Sync)) {
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(worker)));
        worker();
    });
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

impl Meter {
    /// What a recovery has read and found.
    fn found<A: Actor>(
        &self,
        homes: &[Home<A>],
        owed: &[Vec<RestoredSend<A>>],
        migrated_from: Option<u32>,
    ) -> Recovery {
        let count = |is_set_aside| {
            let sends = owed.iter().flatten();
            sends.filter(|sends| sends.message.is_none() == is_set_aside).count() as u64
        };
        Recovery {
            objects: homes.iter().map(|home| home.len() as u64).sum(),
            owed: count(false),
            set_aside: count(true),
            migrated_from,
            ..self.so_far()
        }
    }
}

/// What a database was when its last run ended.
pub(crate) struct Recovered<A: Actor> {
    /// The objects of each shard from now on.
    pub(crate) homes: Vec<Home<A>>,
    pub(crate) owed: BTreeMap<SendId, RecoveredSend>,
    pub(crate) summary: Summary,
    /// The earliest version of the actor's types that was migrated.
    pub(crate) migrated_from: Option<u32>,
}

/// How far a database was when its last run ended.
pub(crate) struct Summary {
    /// How the last run ended, if there was one.
    pub(crate) end: Option<RunEnd>,
    /// Where each of the sources ends.
    pub(crate) ended: Vec<Ended>,
    /// No epoch after this one is mentioned anywhere.
    pub(crate) latest: Epoch,
    /// How long the database had been running.
    pub(crate) time: Time,
    /// No pending send has a number from here on.
    pub(crate) next_send: u64,
}

/// The objects of each shard, and the messages that are owed.
type Replayed<A> = (Vec<Home<A>>, BTreeMap<SendId, RecoveredSend>);

/// What is done with a batch, of the epochs from one up to another.
type ApplyBatch<'a> = Box<dyn FnMut(&LogBatch<'_>, Epoch, Epoch) -> Result<(), NotUnderstood> + 'a>;

/// Finds out what a database was when its last run ended, and changes nothing. The tables of the
/// shards get `seeds`.
pub(crate) fn recover<A: Actor<State: DeserializeOwned>, P: Prefetch>(
    directory: &Directory,
    contents: &Contents,
    router: Router,
    seeds: &[u64],
    reading: &Reading,
    meter: &Meter,
) -> Result<Recovered<A>, LogError> {
    let mut surveyed = survey_all(directory, contents, meter)?;
    let cuts = cuts(directory, contents, &surveyed)?;
    let over = Arc::new(over(contents, &mut surveyed, &cuts));
    let migrated_from = understandable(directory, contents, &surveyed, reading)?;
    let recovering = Recovering { directory, contents, meter, surveyed, cuts, over };
    let (homes, owed) = recovering.replay_all::<A, P>(router, seeds, reading)?;
    Ok(Recovered { homes, owed, summary: recovering.sum_up(), migrated_from })
}

/// Looks through all sources.
fn survey_all(directory: &Directory, contents: &Contents, meter: &Meter) -> Result<Vec<Surveyed>, LogError> {
    in_parallel(&contents.sources, |source| {
        let surveyed = survey(directory, &contents.manifest, source, Err, |bytes| meter.read(bytes))?;
        meter.records.fetch_add(surveyed.survey.records, Ordering::Relaxed);
        Ok(surveyed)
    })
}

/// A database whose sources have all been looked through, and are read once more.
struct Recovering<'a> {
    directory: &'a Directory,
    contents: &'a Contents,
    meter: &'a Meter,
    /// By source.
    surveyed: Vec<Surveyed>,
    /// By run: its last complete epoch.
    cuts: Vec<Epoch>,
    /// Which messages are over.
    over: Arc<Over>,
}

impl Recovering<'_> {
    /// What is older is in the checkpoint.
    fn from(&self) -> Epoch {
        self.contents.manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| checkpoint.epoch)
    }

    /// Reads a source once more, and gives `apply` its batches. Of several readers of a source one
    /// has the meter.
    fn replay(
        &self,
        source: &Source,
        meter: Option<&Meter>,
        mut apply: ApplyBatch<'_>,
    ) -> Result<(), LogError> {
        let Recovering { directory, contents, cuts, .. } = self;
        // What a checkpoint holds is of no epoch; what is older than it in the logs is in it.
        let (from, cut) = source.run.map_or((Epoch(0), Epoch(0)), |run| (self.from(), cuts[run]));
        let each = |place: &SegmentPlace<'_>, batch: &LogBatch<'_>| {
            apply(batch, from, cut).map_err(|not| LogError::NotUnderstood {
                file: directory.file(place.name),
                offset: batch.offset as u64,
                record: not.record,
                what: not.what,
            })
        };
        let progress = |bytes| {
            if let Some(meter) = meter {
                meter.read(bytes)
            }
        };
        read(directory, &contents.manifest, source, each, Err, progress)?;
        Ok(())
    }

    /// The objects of each shard, and the messages that are owed.
    fn replay_all<A: Actor<State: DeserializeOwned>, P: Prefetch>(
        &self,
        router: Router,
        seeds: &[u64],
        reading: &Reading,
    ) -> Result<Replayed<A>, LogError> {
        let Contents { manifest, sources } = self.contents;
        let homes: Vec<Mutex<Home<A>>> = seeds.iter().map(|seed| Mutex::new(Home::new(*seed))).collect();
        let put = |home: usize, changes: &mut Vec<_>| {
            homes[home].lock().unwrap_or_else(PoisonError::into_inner).apply_all::<P>(changes);
        };
        let not_migrated = |error| {
            let directory = self.directory.path().to_path_buf();
            LogError::NotMigrated { directory, error }
        };
        let over = || self.over.clone();
        let mut all = Replay::<A>::new(router).knowing(over());
        let mut old = Migrating::new(reading, manifest);
        let pairs: Vec<_> = sources.iter().zip(&self.surveyed).collect();
        // The checkpoint, and then run after run: a later change is never overtaken.
        for of_run in pairs.chunk_by(|one, other| one.0.run == other.0.run) {
            let written = of_run.iter().find_map(|(source, surveyed)| schema(manifest, source, surveyed));
            match written.map(|schema| schema.version) {
                // There is nothing in it.
                None => of_run.iter().for_each(|(source, _)| self.meter.read(source.bytes())),
                Some(version) if version < reading.version() => {
                    let types = reading.old_types(version);
                    let replays = in_parallel(of_run, |(source, _)| {
                        let mut of_log = OldReplay::knowing(over());
                        let apply = |batch: &LogBatch<'_>, from, cut| of_log.apply(batch, from, cut, &types);
                        self.replay(source, Some(self.meter), Box::new(apply))?;
                        Ok(of_log)
                    })?;
                    old.follow(version, replays).map_err(not_migrated)?;
                }
                Some(_) => {
                    all.follow(old.finish(router, put).map_err(not_migrated)?);
                    // Of fewer logs than there are CPUs each is read by several.
                    let readers = (cpus() / of_run.len()).clamp(1, router.shards());
                    let shares = (0..readers).map(|reader| Share { reader, readers });
                    let sources = of_run.iter().map(|(source, _)| source);
                    let all_shares: Vec<_> =
                        sources.flat_map(|source| shares.clone().map(move |share| (source, share))).collect();
                    let replays = in_parallel(&all_shares, |(source, share)| {
                        let mut of_log = Replay::<A>::of_share(router, *share).knowing(over());
                        let apply = |batch: &LogBatch<'_>, from, cut| of_log.apply(batch, from, cut, put);
                        let meter = (share.reader == 0).then_some(self.meter);
                        self.replay(source, meter, Box::new(apply))?;
                        Ok(of_log)
                    })?;
                    replays.into_iter().for_each(|replay| all.follow(replay));
                }
            }
        }
        all.follow(old.finish(router, put).map_err(not_migrated)?);
        let owed = all.finish();
        in_parallel(&homes, |home| {
            home.lock().unwrap_or_else(PoisonError::into_inner).finish();
            Ok(())
        })?;
        let homes = homes.into_iter().map(|home| home.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok((homes.collect(), owed))
    }

    /// How far the database was.
    fn sum_up(self) -> Summary {
        let from = self.from();
        let Recovering { contents: Contents { manifest, sources }, surveyed, cuts, .. } = self;
        let surveys = || surveyed.iter().map(|surveyed| &surveyed.survey);
        let latest = surveys().flat_map(|survey| [Some(survey.latest), survey.closed()]).flatten();
        let latest =
            latest.chain(cuts.iter().copied()).chain(manifest.runs.iter().map(|run| run.after)).chain([from]);
        let time = surveys()
            .map(|survey| survey.time)
            .chain(manifest.checkpoint.iter().map(|checkpoint| checkpoint.time));
        let sends =
            surveys().map(|survey| survey.next_send).chain(manifest.checkpoint.iter().map(|it| it.next_send));
        let end = manifest.runs.last().map(|run| match &run.end {
            Some(end) => end.clone(),
            None => {
                let number = manifest.runs.len() - 1;
                let of_run = sources.iter().zip(&surveyed).filter(|(source, _)| source.run == Some(number));
                RunEnd { cut: cuts[number], logs: of_run.map(|(_, surveyed)| surveyed.ended.end).collect() }
            }
        });
        let (latest, time, next_send) = (latest.max(), time.max(), sends.max());
        Summary {
            end,
            ended: surveyed.into_iter().map(|surveyed| surveyed.ended).collect(),
            latest: latest.unwrap_or_default(),
            time: time.unwrap_or_default(),
            next_send: next_send.unwrap_or_default(),
        }
    }
}

/// Whether everything that was recorded is of types that the actor has, or that can be migrated.
/// Returns the earliest version that is to be.
fn understandable(
    directory: &Directory,
    contents: &Contents,
    surveyed: &[Surveyed],
    reading: &Reading,
) -> Result<Option<u32>, LogError> {
    let Contents { manifest, sources } = contents;
    let each = sources.iter().zip(surveyed);
    let schemas: Vec<_> = each.filter_map(|(source, surveyed)| schema(manifest, source, surveyed)).collect();
    reading.check(schemas.iter().copied()).map_err(|error| {
        let directory = directory.path().to_path_buf();
        LogError::Schema { directory, error }
    })?;
    Ok(schemas.iter().map(|schema| schema.version).min().filter(|version| *version < reading.version()))
}

/// The schema of the records of a log. A program that was tried and recorded nothing does not
/// matter: then it is `None`.
fn schema<'a>(manifest: &'a Manifest, source: &Source, surveyed: &Surveyed) -> Option<&'a WrittenSchema> {
    (surveyed.survey.records > 0).then(|| manifest.schema(source.run))
}

/// [`open`], of types that are known where it was named.
type OpenFn<A> = fn(&LogConfig, Option<PlacementKey>, usize) -> Result<Opened<A>, LogError>;

/// A log that is to be opened, for an actor whose types can be written and read. So a start without
/// a log asks for no `serde`.
pub(crate) struct ToOpen<A: Actor> {
    pub(crate) config: LogConfig,
    open: OpenFn<A>,
}

impl<A: Actor> ToOpen<A> {
    pub(crate) fn new<P: Prefetch>(config: LogConfig) -> ToOpen<A>
    where
        A::State: Serialize + DeserializeOwned,
        A::Message: Serialize + DeserializeOwned,
    {
        ToOpen { config, open: open::<A, P> }
    }

    /// Opens the database for a run of `shards` shards; makes it if there is none. A `key` that is
    /// given is used from now on.
    pub(crate) fn open(&self, key: Option<PlacementKey>, shards: usize) -> Result<Opened<A>, LogError> {
        (self.open)(&self.config, key, shards)
    }
}

fn open<A: Actor, P: Prefetch>(
    config: &LogConfig,
    key: Option<PlacementKey>,
    shards: usize,
) -> Result<Opened<A>, LogError>
where
    A::State: Serialize + DeserializeOwned,
    A::Message: Serialize + DeserializeOwned,
{
    let codec = &Codec::new();
    let directory = Directory::open_with(&config.directory, config.options())?;
    let (file, manifest) =
        ManifestFile::open(&directory, config.create, config.segment_bytes as u64, key, random)?;
    let contents = contents(&directory, manifest)?;
    refuse_strangers(&directory, &contents)?;
    mention_others(&directory)?;
    let router = Router::new(key.unwrap_or(contents.manifest.key()), shards);
    let meter = Meter::new(config.progress.clone(), &contents);
    let seeds: Vec<u64> = (0..shards).map(|_| random()).collect();
    let reading = Reading::new(codec, config.migrations.clone());
    mention_partly_seen(&reading);
    let recovered = recover::<A, P>(&directory, &contents, router, &seeds, &reading, &meter)?;
    let mut manifest = contents.manifest.clone();
    let Recovered { homes, owed, summary, migrated_from } = recovered;
    blame(config, &directory, &mut manifest, &owed)?;
    let owed = understood(&directory, codec, &manifest, owed, shards)?;
    let recovery = meter.found(&homes, &owed, migrated_from);
    manifest.placement_key = key.unwrap_or(manifest.key()).0;
    let next = NextRun { config, directory, file, manifest, contents: &contents, summary, recovery };
    let (logs, firsts) = next.begin(shards, reading.written)?;
    let restored = homes.into_iter().zip(owed).zip(firsts);
    let restored =
        restored.map(|((home, sends), first)| Restored { home, sends, first, codec: *codec }).collect();
    Ok(Opened { logs, router, restored })
}

/// A database that was read, and is to have another run. It names no actor: so it is compiled once.
struct NextRun<'a> {
    config: &'a LogConfig,
    directory: Directory,
    file: ManifestFile,
    /// As the next run has it, but for that run.
    manifest: Manifest,
    contents: &'a Contents,
    summary: Summary,
    recovery: Recovery,
}

impl NextRun<'_> {
    /// Begins the run. Says where the log of each shard begins.
    fn begin(self, shards: usize, written: WrittenSchema) -> Result<(SharedLogs, Vec<SegmentId>), LogError> {
        let NextRun { config, directory, file, mut manifest, contents, summary, recovery } = self;
        let Summary { end, ended, latest, time, next_send } = summary;
        let suspects = manifest.blamed.iter().filter(|blamed| blamed.fate == Fate::RunsAlone);
        let suspects: Vec<_> = suspects.map(|blamed| SendId(blamed.send_id)).collect();
        let of_runs = contents.sources.iter().zip(&ended).filter(|(source, _)| source.run.is_some());
        let since_checkpoint = of_runs.map(|(source, ended)| source.bytes_before(ended)).sum();
        let last = contents.manifest.checkpoint.iter();
        let last_bytes = last.flat_map(|checkpoint| &checkpoint.parts).map(|part| part.bytes).sum();
        manifest.begin_run(end, latest, shards, random(), written);
        let run = manifest.runs.last().expect("it has just begun");
        let firsts: Vec<_> = run.logs.iter().map(|begin| manifest.segment_id(run.start, *begin)).collect();
        let numbers: Vec<u64> = firsts.iter().map(|first| first.log).collect();
        let under_way = match recovery.owed {
            0 => None,
            _ => Some(UnderWay::open(&directory, run.start, shards)?),
        };
        let logs = SharedLogs {
            config: LogConfig { segment_bytes: manifest.segment_bytes as usize, ..config.clone() },
            durability: Arc::new(match config.ack {
                Ack::Replicated => Durability::replicated(shards, latest),
                Ack::Durable | Ack::Applied => Durability::new(shards, latest),
            }),
            began_after: latest,
            manifest: Mutex::new(manifest),
            manifest_file: Mutex::new(file),
            began: time,
            next_send,
            recovery,
            growth: Growth::new(config.checkpoint_bytes, since_checkpoint, last_bytes),
            suspects,
            under_way,
            spares: Mutex::new(Spares::default()),
            checkpoints: demands::Demands::new(),
            directory,
        };
        begin(&logs, contents, &ended, &numbers)?;
        Ok((logs, firsts))
    }
}

/// Says of which of the actor's types the shape does not show everything.
fn mention_partly_seen(reading: &Reading) {
    for (part, shape) in reading.written.parts().filter(|(_, shape)| !shape.is_whole) {
        tracing::info!(
            %part, shape = %shape.text,
            "of the actor's types this one can be seen in part only: a change of the rest is noticed if `Actor::SCHEMA` says so"
        );
    }
}

/// If the last run crashed, finds out which owed messages were under way, and sets those aside that
/// were so too often.
fn blame(
    config: &LogConfig,
    directory: &Directory,
    manifest: &mut Manifest,
    owed: &BTreeMap<SendId, RecoveredSend>,
) -> Result<(), LogError> {
    let crashed = manifest.runs.last().filter(|run| run.end.is_none());
    let named = crashed.map_or(Ok(Vec::new()), |run| under_way(directory, run.start))?;
    for Blamed { send_id, lives, .. } in
        manifest.blame(named, |send_id| owed.contains_key(&send_id), config.poison_lives_max)
    {
        let directory = directory.path().display();
        tracing::warn!(
            %directory, send_id, lives,
            "a message that is owed was under way whenever the process ended: it is set aside, and does not run (see `freehold log owed`)"
        );
    }
    Ok(())
}

/// Makes the messages that are owed of what the logs have, by the shard that owes them from now on.
/// Those that do not run need not be understood.
fn understood<A: Actor>(
    directory: &Directory,
    codec: &Codec<A>,
    manifest: &Manifest,
    owed: BTreeMap<SendId, RecoveredSend>,
    shards: usize,
) -> Result<Vec<Vec<RestoredSend<A>>>, LogError> {
    let mut by_shard: Vec<Vec<RestoredSend<A>>> = (0..shards).map(|_| Vec::new()).collect();
    for (send_id, (sender, due, bytes)) in owed {
        let message = match manifest.blamed(send_id).map(|blamed| blamed.fate) {
            Some(Fate::Dropped) => continue,
            Some(Fate::SetAside) => None,
            Some(Fate::RunsAlone) | None => {
                let directory = directory.path().to_path_buf();
                let message = codec.decode(&bytes);
                Some(message.ok_or(LogError::OwedNotUnderstood { directory, send_id })?)
            }
        };
        by_shard[(send_id.0 % shards as u64) as usize].push(RestoredSend {
            send_id,
            sender,
            due,
            message,
            bytes,
        });
    }
    Ok(by_shard)
}

/// Says what is in the directory that is not ours: nobody here reads it or removes it.
fn mention_others(directory: &Directory) -> Result<(), LogError> {
    let others = directory.list_others()?;
    if others.is_empty() {
        return Ok(());
    }
    let (directory, count) = (directory.path().display(), others.len());
    let first: Vec<_> = others.iter().take(OTHERS_NAMED).map(|(name, _)| name).collect();
    tracing::info!(%directory, count, ?first, "files that are not the log's are left as they are");
    Ok(())
}

/// How many of them are named.
const OTHERS_NAMED: usize = 8;

/// Whether a file is one that this manifest names.
fn names(manifest: &Manifest, name: &str) -> bool {
    let is_segment = parse_segment_name(name).is_some_and(|(log, segment)| {
        let needed = |run: &Run| {
            let place = run.logs.iter().position(|begin| begin.log == log)?;
            run.segments(place).filter(|(first, last)| (*first..=*last).contains(&segment))
        };
        manifest.runs.iter().any(|run| needed(run).is_some())
    });
    let mut parts = manifest.checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts);
    is_segment || parts.any(|part| checkpoint_name(part.log) == name)
}

/// Makes the first segments of the run's logs, writes the manifest in place of the one before, and
/// lets go of what belongs to nothing. `ended` says where each of the sources ends.
fn begin(logs: &SharedLogs, before: &Contents, ended: &[Ended], numbers: &[u64]) -> Result<(), LogError> {
    prepare(logs, &before.manifest, numbers)?;
    logs.store(|_| {})?;
    // What only the manifest before named, as the logs of a run that left nothing.
    let manifest = logs.manifest().clone();
    discard(logs, numbers.len(), |name| names(&manifest, name))?;
    // Of a backup that ended when it had its manifest already.
    for name in [UNFINISHED, PIN] {
        logs.directory.remove_if_there(name)?;
    }
    // The manifest has all ends now, so a log is whole without the rest of its last segment. Uncut,
    // each crash would keep a segment a shard.
    let of_runs = before.sources.iter().zip(ended).filter(|(source, _)| source.run.is_some());
    for (_, Ended { at: (name, end), .. }) in of_runs.filter(|(_, ended)| names(&manifest, &ended.at.0)) {
        logs.directory.cut(name, *end)?;
    }
    Ok(())
}

/// Makes the first segments of the run's logs. What the manifest on disk names is as it was: a
/// crash leaves a directory that can be opened.
fn prepare(logs: &SharedLogs, before: &Manifest, numbers: &[u64]) -> Result<(), LogError> {
    let manifest = logs.manifest().clone();
    for (name, bytes) in logs.directory.list()? {
        if let Some(number) = parse_spare_name(&name) {
            // What a newer copy of the directory wrote, or another database, must not look like a
            // part of a log that will have its number.
            let is_fit = bytes == manifest.segment_bytes && !is_strange(&logs.directory, before, &name)?;
            if !is_fit || !logs.keep_spare(&name, number, numbers.len()) {
                logs.directory.remove(&name)?;
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

/// Segments that are not needed are kept to be used again, and parts of checkpoints that are not
/// are removed.
fn discard(logs: &SharedLogs, shards: usize, is_needed: impl Fn(&str) -> bool) -> Result<(), LogError> {
    for (name, bytes) in logs.directory.list()? {
        let is_checkpoint = parse_checkpoint_name(&name).is_some();
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
