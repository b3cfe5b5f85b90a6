//! What a database directory says of itself: which logs and which checkpoint make it up, and the key that decides where objects live.
//!
//! A *run* is one life of a runtime, from start to stop or crash; it has one log for each shard it had, and logs are never gone on with: the
//! next run begins new ones. So the number of shards may change from run to run, and what a crash left behind the last complete epoch of a
//! run can never be mistaken for a part of a later one.
//!
//! ```text
//! 0 magic "FHMANIF1"    8 format version u32    12 length of the rest u32    16 XXH3-128 of the rest    32 the rest, by postcard
//! ```

use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

use crate::epoch::Epoch;
use crate::log::{BLOCK, Tail};
use crate::router::{PlacementKey, SHARDS_MAX};
use crate::time::Time;

/// What this code writes, and the only one it reads.
pub const MANIFEST_VERSION: u32 = 1;

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
    pub checkpoint: Option<Checkpoint>,
    /// Oldest first. The last may still be going on, or have crashed.
    pub runs: Vec<Run>,
}

/// All objects and debts as they were at the start of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The epoch: what was committed before it is in here.
    pub epoch: Epoch,
    /// The time then.
    pub time: Time,
    /// No debt in here has a number from here on.
    pub next_debt: u64,
    /// Its parts, in the format of a segment.
    pub parts: Vec<Part>,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its number.
    pub log: u64,
    /// What would come behind its last batch.
    pub end: Tail,
    /// Its length.
    pub bytes: u64,
}

/// The logs of one life of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
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
    #[error("it has format version {found}, and this program reads version {MANIFEST_VERSION}")]
    Version {
        /// The version.
        found: u32,
    },
}

impl Manifest {
    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = postcard::to_allocvec(self).expect("numbers and lists of them can be written");
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&MANIFEST_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&xxh3_128(&body).to_le_bytes());
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
        if number(8) != MANIFEST_VERSION {
            return Err(NoManifest::Version { found: number(8) });
        }
        let sum = u128::from_le_bytes(header[16..].try_into().expect("sixteen bytes"));
        if number(12) as usize != body.len() || xxh3_128(body) != sum {
            return Err(NoManifest::Damaged);
        }
        let manifest: Manifest = postcard::from_bytes(body).map_err(|_| NoManifest::Damaged)?;
        if manifest.is_sound() { Ok(manifest) } else { Err(NoManifest::Damaged) }
    }

    /// Whether it says nothing that cannot be: who reads it relies on that.
    fn is_sound(&self) -> bool {
        let is_sound = |run: &Run| {
            let ends = run.end.as_ref().map_or(run.logs.len(), |end| end.logs.len());
            ends == run.logs.len() && (1..=SHARDS_MAX).contains(&ends)
        };
        let checkpoint = self.checkpoint.as_ref();
        self.runs.iter().all(is_sound)
            && checkpoint.is_none_or(|checkpoint| checkpoint.epoch > Epoch(0))
            && self.segment_bytes.is_multiple_of(BLOCK as u64)
    }

    /// The key of the placement hash.
    pub fn key(&self) -> PlacementKey {
        PlacementKey(self.placement_key)
    }

    /// Ends the last run, and begins the next, with logs of its own for `shards` shards. A run that left nothing is forgotten.
    pub fn begin_run(&mut self, end: Option<RunEnd>, after: Epoch, shards: usize) {
        if let (Some(run), Some(end)) = (self.runs.last_mut(), end) {
            run.end = Some(end);
        }
        let is_something = |run: &Run| {
            // Of one whose end is not known nobody can say that it left nothing.
            let Some(end) = &run.end else { return true };
            run.logs
                .iter()
                .zip(&end.logs)
                .any(|(begin, (segment, tail))| (begin.segment, begin.tail) != (*segment, *tail))
        };
        self.runs.retain(is_something);
        let logs = (self.next_log..).take(shards);
        let logs = logs.map(|log| LogBegin { log, segment: 0, tail: Tail::default() }).collect();
        self.next_log += shards as u64;
        self.runs.push(Run { after, logs, end: None });
    }

    /// A checkpoint is on disk: what it contains is not needed any more. `logs` says from where the logs of this run are.
    pub fn switch(&mut self, checkpoint: Checkpoint, logs: Vec<LogBegin>) {
        self.checkpoint = Some(checkpoint);
        let mut run = self.runs.pop().expect("there is the run that made the checkpoint");
        run.logs = logs;
        self.runs = vec![run];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest {
            database: 7,
            placement_key: 9,
            segment_bytes: 1 << 20,
            next_log: 0,
            checkpoint: None,
            runs: Vec::new(),
        };
        manifest.begin_run(None, Epoch(0), 2);
        manifest
    }

    #[test]
    fn what_is_written_is_read_and_a_flipped_bit_is_noticed() {
        let bytes = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest()));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let found = Manifest::from_bytes(&flipped);
                assert!(found.is_err(), "byte {at}, bit {bit}");
                if (8..12).contains(&at) {
                    assert!(matches!(found, Err(NoManifest::Version { .. })), "{found:?}");
                }
            }
        }
        for length in 0..bytes.len() {
            assert_eq!(Manifest::from_bytes(&bytes[..length]), Err(NoManifest::Damaged));
        }
    }

    #[test]
    fn what_cannot_be_is_no_manifest() {
        let mut fewer_ends = manifest();
        fewer_ends.runs[0].end = Some(RunEnd { cut: Epoch(1), logs: vec![(0, Tail::default())] });
        let mut no_logs = manifest();
        no_logs.runs[0].logs.clear();
        let mut before_all = manifest();
        let checkpoint = Checkpoint { epoch: Epoch(0), time: Time(0), next_debt: 0, parts: Vec::new() };
        before_all.checkpoint = Some(checkpoint);
        for manifest in [fewer_ends, no_logs, before_all] {
            assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Err(NoManifest::Damaged), "{manifest:?}");
        }
    }

    #[test]
    fn a_run_that_left_nothing_is_forgotten_and_no_log_number_is_used_again() {
        let mut manifest = manifest();
        let nothing = RunEnd { cut: Epoch(0), logs: vec![(0, Tail::default()); 2] };
        manifest.begin_run(Some(nothing), Epoch(3), 1);
        assert_eq!(manifest.runs.len(), 1);
        assert_eq!(manifest.runs[0].logs[0].log, 2);
        let something = RunEnd { cut: Epoch(5), logs: vec![(0, Tail { sequence: 1, previous: 8 })] };
        manifest.begin_run(Some(something.clone()), Epoch(6), 2);
        assert_eq!(manifest.runs.len(), 2);
        assert_eq!(manifest.runs[0].end, Some(something));
        assert_eq!(manifest.runs[1].logs.iter().map(|log| log.log).collect::<Vec<_>>(), [3, 4]);
    }
}
