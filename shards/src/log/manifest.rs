//! What a database directory says of itself: which logs and which checkpoint make it up, and the
//! key that decides where objects live.
//!
//! A *run* is one life of a runtime, from start to stop or crash; it has one log for each shard it
//! had, and logs are never gone on with: the next run begins new ones. So the number of shards may
//! change from run to run, and what a crash left behind the last complete epoch of a run can never
//! be mistaken for a part of a later one.
//!
//! ```text
//! 0 magic "FHMANIF1"    8 format version u32    12 length of the body u32    16 checksum
//! 32 the body, by postcard
//! ```
//! The checksum is the XXH3-128 of bytes 8 to 16 and the body, one behind the other; in version 1,
//! of the body alone. Version 2 had no widths in its schemas.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use crate::epoch::Epoch;
use crate::log::batch::{SegmentId, Tail};
use crate::log::bounds::{BLOCK, Bounds};
use crate::log::record::SendId;
use crate::log::schema::{Shapes, WrittenSchema};
use crate::log::shape::{Shape, Width};
use crate::placement::{PlacementKey, SHARDS_MAX};
use crate::time::Time;

/// The version of the format that this code writes.
pub const MANIFEST_VERSION: u32 = 4;
/// The oldest version that this code reads.
pub const MANIFEST_VERSION_MIN: u32 = 1;

const MAGIC: [u8; 8] = *b"FHMANIF1";
const HEADER: usize = 32;

/// What a database is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The database's number, drawn at random when it was made.
    pub database: u64,
    /// The key of the placement hash.
    pub placement_key: u64,
    /// The size of every segment.
    pub segment_bytes: u64,
    /// The number of the next log or checkpoint part. None is ever used again.
    pub next_log: u64,
    /// What the logs build on.
    pub checkpoint: Option<CheckpointParts>,
    /// Oldest first. The last may still be going on, or have crashed.
    pub runs: Vec<Run>,
    /// The schemas of records: of the checkpoint, and of runs.
    pub schemas: Vec<WrittenSchema>,
    /// Which of them the checkpoint's records are of.
    pub checkpoint_schema: u32,
    /// The owed messages that do not simply run again.
    pub blamed: Vec<Blamed>,
}

/// A message that is owed and was under way when a run crashed, or that somebody has decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blamed {
    /// The number of its pending send.
    pub send_id: u64,
    /// How many runs it was under way in when they crashed.
    pub lives: u32,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of an owed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It runs while nothing else does.
    RunsAlone,
    /// It does not run, and stays owed.
    SetAside,
    /// It does not run, and is owed no more.
    Dropped,
}

/// All objects and pending sends as they were at the start of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointParts {
    /// The epoch: what was committed before it is in here.
    pub epoch: Epoch,
    /// The time then.
    pub time: Time,
    /// No pending send in here has a number from here on.
    pub next_send: u64,
    /// Its parts, in the format of a segment.
    pub parts: Vec<Part>,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its number.
    pub log: u64,
    /// The number of the start that wrote it: see [`Run::start`].
    pub start: u64,
    /// What would come behind its last batch.
    pub end: Tail,
    /// Its length.
    pub bytes: u64,
}

/// The logs of one life of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The number of the start that began it: random, and in every batch of its logs; 0 if version
    /// 1 began it.
    pub start: u64,
    /// Which of [`Manifest::schemas`] its records are of.
    pub schema: u32,
    /// All up to this epoch is older.
    pub after: Epoch,
    /// One for each shard.
    pub logs: Vec<LogBegin>,
    /// How it ended, if it is known.
    pub end: Option<RunEnd>,
}

/// The first segment of a log that is needed, and where the log goes on in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBegin {
    /// The log's number.
    pub log: u64,
    /// The segment's.
    pub segment: u64,
    /// What comes first in it.
    pub tail: Tail,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Its last complete epoch. Records of later ones are nothing.
    pub cut: Epoch,
    /// Where each log ends: its last segment, and what would come next in it.
    pub logs: Vec<(u64, Tail)>,
}

/// Why bytes are no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoManifest {
    /// They do not begin as one does, or their checksum is wrong.
    #[error("it is damaged: its checksum does not match")]
    Damaged,
    /// It was written by a version of this program that this one does not know.
    #[error(
        "it has format version {found}, and this program reads versions {MANIFEST_VERSION_MIN} to {MANIFEST_VERSION}"
    )]
    Version {
        /// The version.
        found: u32,
    },
}

impl Run {
    /// The first and the last segment that are needed of the log at `place`, as far as it is known;
    /// `None` if nothing of the log is.
    pub fn segments(&self, place: usize) -> Option<(u64, u64)> {
        let begin = self.logs[place];
        match self.end.as_ref().map(|end| end.logs[place]) {
            None => Some((begin.segment, u64::MAX)),
            // Nothing came behind what is let go of.
            Some((_, tail)) if tail == begin.tail => None,
            Some((last, _)) => Some((begin.segment, last.max(begin.segment))),
        }
    }
}

impl Manifest {
    /// Whether a batch of this segment was written after the manifest. The manifest counts a number
    /// before any file gets it, so only an older manifest that was put beside newer files leaves
    /// such a batch.
    pub fn is_older_than(&self, segment: SegmentId) -> bool {
        segment.database == self.database && segment.log >= self.next_log
    }

    /// Of a database that nothing was ever in.
    pub fn new(database: u64, key: PlacementKey, segment_bytes: u64) -> Manifest {
        Manifest {
            database,
            placement_key: key.0,
            segment_bytes,
            next_log: 0,
            checkpoint: None,
            runs: Vec::new(),
            blamed: Vec::new(),
            schemas: Vec::new(),
            checkpoint_schema: 0,
        }
    }

    /// The schema of the records of a run, by its place; or of the checkpoint.
    pub fn schema(&self, run: Option<usize>) -> &WrittenSchema {
        &self.schemas[run.map_or(self.checkpoint_schema, |run| self.runs[run].schema) as usize]
    }

    /// As it is written.
    ///
    /// # Panics
    /// If [`Manifest::from_bytes`] would refuse it: it is about to take the place of one that can
    /// be read.
    pub fn to_bytes(&self) -> Vec<u8> {
        assert!(self.is_sound(), "readable-when-sealed: a manifest that says what cannot be: {self:?}");
        self.encode()
    }

    fn encode(&self) -> Vec<u8> {
        let body = postcard::to_allocvec(self).expect("numbers and lists of them can be written");
        let length = u32::try_from(body.len()).expect("a manifest lists some logs, and not 4 GiB of them");
        let head = [MANIFEST_VERSION, length].map(u32::to_le_bytes).concat();
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&checksum(&head, &body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads what [`Manifest::to_bytes`] has written.
    ///
    /// # Errors
    /// [`NoManifest`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, NoManifest> {
        let (header, body) = bytes.split_at_checked(HEADER).ok_or(NoManifest::Damaged)?;
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        if header[..8] != MAGIC {
            return Err(NoManifest::Damaged);
        }
        // First: what comes behind it may be another thing in another version.
        let version = number(8);
        if !(MANIFEST_VERSION_MIN..=MANIFEST_VERSION).contains(&version) {
            return Err(NoManifest::Version { found: version });
        }
        let sum = u128::from_le_bytes(header[16..].try_into().expect("sixteen bytes"));
        let found = if version == 1 { xxh3_128(body) } else { checksum(&header[8..16], body) };
        if number(12) as usize != body.len() || found != sum {
            return Err(NoManifest::Damaged);
        }
        let manifest: Manifest = match version {
            1 => postcard::from_bytes(body).map(ManifestV1::upgraded),
            2 => postcard::from_bytes(body).map(ManifestBefore4::<ShapeV2>::upgraded),
            3 => postcard::from_bytes(body).map(ManifestBefore4::<ShapeV3>::upgraded),
            _ => postcard::from_bytes(body),
        }
        .map_err(|_| NoManifest::Damaged)?;
        if manifest.is_sound() { Ok(manifest) } else { Err(NoManifest::Damaged) }
    }

    /// Whether it says nothing that cannot be: who reads it relies on that.
    fn is_sound(&self) -> bool {
        let is_sound = |run: &Run| {
            let ends = run.end.as_ref().map_or(run.logs.len(), |end| end.logs.len());
            ends == run.logs.len() && (1..=SHARDS_MAX).contains(&ends)
        };
        let checkpoint = self.checkpoint.as_ref();
        let mut schemas =
            self.runs.iter().map(|run| run.schema).chain(checkpoint.map(|_| self.checkpoint_schema));
        self.runs.iter().all(is_sound)
            && schemas.all(|schema| (schema as usize) < self.schemas.len())
            && checkpoint.is_none_or(|checkpoint| checkpoint.epoch > Epoch(0))
            && self.segment_bytes.is_multiple_of(BLOCK as u64)
            && self.segment_bytes > 0
    }

    /// The key of the placement hash.
    pub fn key(&self) -> PlacementKey {
        PlacementKey(self.placement_key)
    }

    /// How long batches, records and values may be.
    pub fn bounds(&self) -> Bounds {
        Bounds::of_segments(usize::try_from(self.segment_bytes).unwrap_or(usize::MAX))
    }

    /// The first segment of a log that is needed, of the run that `start` began.
    pub fn segment_id(&self, start: u64, begin: LogBegin) -> SegmentId {
        SegmentId { database: self.database, log: begin.log, segment: begin.segment, start }
    }

    /// Ends the last run, and begins the next, with logs of its own for `shards` shards and the
    /// random number `start`; its records are of `schema`. A run that left nothing is forgotten.
    pub fn begin_run(
        &mut self,
        end: Option<RunEnd>,
        after: Epoch,
        shards: usize,
        start: u64,
        schema: WrittenSchema,
    ) {
        if let (Some(run), Some(end)) = (self.runs.last_mut(), end) {
            run.end = Some(end);
        }
        // Of one whose end is not known nobody can say that it left nothing.
        let is_something = |run: &Run| (0..run.logs.len()).any(|place| run.segments(place).is_some());
        self.runs.retain(is_something);
        let logs = (self.next_log..).take(shards);
        let logs = logs.map(|log| LogBegin { log, segment: 0, tail: Tail::default() }).collect();
        self.next_log += shards as u64;
        self.schemas.push(schema);
        self.runs.push(Run { start, schema: self.schemas.len() as u32 - 1, after, logs, end: None });
        self.forget_schemas();
    }

    /// The last run crashed, and these messages were under way. Each that is still owed has lost a
    /// life, and is set aside when it has lost `lives_max`. What is not owed any more is forgotten.
    /// Returns those that were set aside now.
    ///
    /// Under way in a crash means suspected, not guilty: others may have been under way, and
    /// somebody from outside may have ended the process. So one that has lost a life runs alone,
    /// and loses the next only if the process ends just then.
    pub fn blame(
        &mut self,
        under_way: impl IntoIterator<Item = SendId>,
        is_owed: impl Fn(SendId) -> bool,
        lives_max: u32,
    ) -> Vec<Blamed> {
        self.blamed.retain(|blamed| is_owed(SendId(blamed.send_id)));
        let mut set_aside = Vec::new();
        for SendId(send_id) in under_way.into_iter().filter(|send_id| is_owed(*send_id)) {
            let at = self.blamed.iter().position(|blamed| blamed.send_id == send_id).unwrap_or_else(|| {
                self.blamed.push(Blamed { send_id, lives: 0, fate: Fate::RunsAlone });
                self.blamed.len() - 1
            });
            let blamed = &mut self.blamed[at];
            if blamed.fate == Fate::RunsAlone {
                blamed.lives += 1;
                if blamed.lives >= lives_max {
                    blamed.fate = Fate::SetAside;
                    set_aside.push(*blamed);
                }
            }
        }
        set_aside
    }

    /// What was decided about a message that is owed; `None` if it simply runs again.
    pub fn blamed(&self, send_id: SendId) -> Option<Blamed> {
        self.blamed.iter().find(|blamed| blamed.send_id == send_id.0).copied()
    }

    /// Decides about an owed message; without a fate it simply runs again.
    pub fn decide(&mut self, send_id: SendId, fate: Option<Fate>) {
        let lives = self.blamed(send_id).map_or(0, |blamed| blamed.lives);
        self.blamed.retain(|blamed| blamed.send_id != send_id.0);
        self.blamed.extend(fate.map(|fate| Blamed { send_id: send_id.0, lives, fate }));
    }

    /// Each schema that records are of stays, once.
    fn forget_schemas(&mut self) {
        let all = std::mem::take(&mut self.schemas);
        let mut keep = |schema: &mut u32| {
            let of = &all[*schema as usize];
            let place = self.schemas.iter().position(|kept| kept == of).unwrap_or_else(|| {
                self.schemas.push(of.clone());
                self.schemas.len() - 1
            });
            *schema = place as u32;
        };
        match self.checkpoint {
            Some(_) => keep(&mut self.checkpoint_schema),
            None => self.checkpoint_schema = 0,
        }
        self.runs.iter_mut().for_each(|run| keep(&mut run.schema));
    }

    /// A checkpoint is on disk, of the last run's schema: what it contains is not needed any more.
    /// `logs` says from where the logs of this run are.
    pub fn switch(&mut self, checkpoint: CheckpointParts, logs: Vec<LogBegin>) {
        self.checkpoint = Some(checkpoint);
        let mut run = self.runs.pop().expect("there is the run that made the checkpoint");
        run.logs = logs;
        self.checkpoint_schema = run.schema;
        self.runs = vec![run];
        self.forget_schemas();
    }
}

/// Of version, length and body.
fn checksum(head: &[u8], body: &[u8]) -> u128 {
    let mut hasher = Xxh3Default::new();
    hasher.update(head);
    hasher.update(body);
    hasher.digest128()
}

/// A manifest as versions 2 and 3 wrote it: `S` is the shape of a type.
#[derive(Serialize, Deserialize)]
struct ManifestBefore4<S> {
    database: u64,
    placement_key: u64,
    segment_bytes: u64,
    next_log: u64,
    checkpoint: Option<CheckpointParts>,
    runs: Vec<Run>,
    schemas: Vec<WrittenSchemaBefore4<S>>,
    checkpoint_schema: u32,
    blamed: Vec<Blamed>,
}

#[derive(Serialize, Deserialize)]
struct WrittenSchemaBefore4<S> {
    version: u32,
    /// Of ids, states and messages.
    shapes: Option<[S; 3]>,
}

/// Without a width.
#[derive(Serialize, Deserialize)]
struct ShapeV2 {
    fingerprint: u64,
    is_whole: bool,
    text: String,
}

/// With the bytes of a width, and without the order of what is in them.
#[derive(Serialize, Deserialize)]
struct ShapeV3 {
    fingerprint: u64,
    is_whole: bool,
    text: String,
    width: Option<u32>,
}

impl From<ShapeV2> for Shape {
    fn from(ShapeV2 { fingerprint, is_whole, text }: ShapeV2) -> Shape {
        Shape { fingerprint, is_whole, text, width: None }
    }
}

impl From<ShapeV3> for Shape {
    fn from(ShapeV3 { fingerprint, is_whole, text, width }: ShapeV3) -> Shape {
        Shape { fingerprint, is_whole, text, width: width.map(|bytes| Width { bytes, order: None }) }
    }
}

impl<S: Into<Shape>> ManifestBefore4<S> {
    fn upgraded(self) -> Manifest {
        let shapes = |shapes: [S; 3]| {
            let [id, state, message] = shapes.map(Into::into);
            Shapes { id, state, message }
        };
        let schema = |it: WrittenSchemaBefore4<S>| WrittenSchema {
            version: it.version,
            shapes: it.shapes.map(shapes),
        };
        Manifest {
            next_log: self.next_log,
            checkpoint: self.checkpoint,
            runs: self.runs,
            schemas: self.schemas.into_iter().map(schema).collect(),
            checkpoint_schema: self.checkpoint_schema,
            blamed: self.blamed,
            ..Manifest::new(self.database, PlacementKey(self.placement_key), self.segment_bytes)
        }
    }
}

/// A manifest as version 1 wrote it: without the numbers of starts and without schemas.
#[derive(Serialize, Deserialize)]
struct ManifestV1 {
    database: u64,
    placement_key: u64,
    segment_bytes: u64,
    next_log: u64,
    checkpoint: Option<CheckpointV1>,
    runs: Vec<RunV1>,
}

#[derive(Serialize, Deserialize)]
struct CheckpointV1 {
    epoch: Epoch,
    time: Time,
    next_send: u64,
    parts: Vec<PartV1>,
}

#[derive(Serialize, Deserialize)]
struct PartV1 {
    log: u64,
    end: Tail,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct RunV1 {
    after: Epoch,
    logs: Vec<LogBegin>,
    end: Option<RunEnd>,
}

impl ManifestV1 {
    fn upgraded(self) -> Manifest {
        let part = |PartV1 { log, end, bytes }| Part { log, start: 0, end, bytes };
        let checkpoint = |CheckpointV1 { epoch, time, next_send, parts }| {
            let parts = parts.into_iter().map(part).collect();
            CheckpointParts { epoch, time, next_send, parts }
        };
        let run = |RunV1 { after, logs, end }| Run { start: 0, schema: 0, after, logs, end };
        Manifest {
            next_log: self.next_log,
            checkpoint: self.checkpoint.map(checkpoint),
            runs: self.runs.into_iter().map(run).collect(),
            schemas: vec![WrittenSchema::UNSTATED],
            ..Manifest::new(self.database, PlacementKey(self.placement_key), self.segment_bytes)
        }
    }
}

#[cfg(test)]
mod tests;
