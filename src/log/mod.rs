//! Logs: how a runtime keeps what it acknowledged.
//!
//! What goes into a log, when an epoch is closed and who waits for it is decided in the shards
//! (`freehold_shard`); here is what touches files. [`contents`] reads a directory, and [`open`]
//! leaves it ready for another run. Two things are done above this layer, because they go on beside
//! a shard's messages: `core::writer` writes one shard's batches, and `runtime::checkpoint` writes
//! all objects down now and then, so that logs stay short. [`read_back`] makes sure that the next
//! start can read what was written then.
//!
//! ```text
//! lock            taken as long as a runtime has the directory open
//! manifest        what belongs to the database; manifest.old is the one before
//! log-L-S         segment S of log L (hexadecimal): batches, one after another
//! checkpoint-L    a part of a checkpoint, in the same format
//! spare-N         a segment that is not needed, kept to be used again, or one that is being made
//! under-way       which owed messages of earlier runs are under way
//! ```
//! The manifest comes first and goes last: files without one are a database that was damaged. A
//! segment has its full size before it has its name, so one that is shorter was cut.

pub mod backup;
pub(crate) mod commit;
pub(crate) mod contents;
pub(crate) mod demands;
pub(crate) mod growth;
pub mod inspect;
pub(crate) mod leaving;
pub(crate) mod local_log;
pub(crate) mod manifest_file;
pub(crate) mod names;
pub(crate) mod open;
pub mod owed;
pub(crate) mod read_back;
#[cfg(test)]
mod tests;
pub(crate) mod under_way;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_shard::log::{Bounds, SegmentId};
use freehold_shard::manifest::Manifest;
use freehold_shard::{Ack, Durability, Epoch, Migrated, Migration, Migrations, SchemaTypes, SendId, Time};

use manifest_file::ManifestFile;

use crate::disk::directory::{Absent, Directory, Options};
use crate::disk::error::LogError;
use crate::disk::faults::{WriteFault, WriteFaults};
use crate::disk::name::FileName;
pub(crate) use crate::disk::name::{MANIFEST, MANIFEST_OLD};
use crate::error::ConfigError;
use leaving::EpochSender;
use under_way::UnderWay;

/// What a runtime is told of a recovery that takes its time.
pub type Progress = Arc<dyn Fn(Recovery) + Send + Sync>;

/// How a runtime keeps a log. Start from [`LogConfig::at`] and change what matters:
///
/// ```
/// use freehold::{Ack, LogConfig};
///
/// let log = LogConfig { ack: Ack::Applied, ..LogConfig::at("/var/lib/ledger") };
/// assert!(log.check().is_ok());
/// ```
#[derive(Clone)]
pub struct LogConfig {
    /// Where. One runtime has it open at a time. A directory that is made, as its files are, is for
    /// its owner alone (0700, 0600).
    pub directory: PathBuf,
    /// What a start does where there is no database, or one. Default: [`Create::IfMissing`].
    pub create: Create,
    /// When messages are answered. Default: [`Ack::Durable`].
    pub ack: Ack,
    /// The size of the files a log is made of, which are written in full before they are used. It
    /// bounds how long a state may be, up to some 16 MiB: see [`LogConfig::value_bytes_max`]. A
    /// directory keeps the size it was made with. A multiple of 4,096, 64 KiB to 1 GiB. Default: 64
    /// MiB.
    pub segment_bytes: usize,
    /// After so many bytes of log a checkpoint is made. 64 KiB to 1 TiB. Default: 1 GiB. It bounds
    /// how long a recovery takes and the size of the logs: to twice as much, or, if the last
    /// checkpoint is larger than this, to this and that; and six segments a shard, which the ends
    /// of a log, the next segment and spare ones take. Messages from outside wait if the log would
    /// become longer; [`Stats::log`](crate::Stats::log) says whether they did. The bound holds as
    /// long as checkpoints do not fail. Work that needs no message from outside is not held up:
    /// timers, and messages that messages tell.
    pub checkpoint_bytes: u64,
    /// When there is log that is older than this, a checkpoint is made. At least a second. Default:
    /// `None`, only by size and on demand.
    pub checkpoint_age: Option<Duration>,
    /// Bytes that may wait for the disk in one shard before it takes no more messages from outside,
    /// and its tasks' are answered `Overloaded`. 64 KiB to 1 GiB. Default: 32 MiB.
    pub backlog_bytes: usize,
    /// A message that was told and is owed may end the process when it runs: it overflows the
    /// stack, say. When it was under way in so many runs that crashed, it is set aside: it stays
    /// owed and does not run, until [`owed::release`] or [`owed::drop_message`]. 2 to 1,000.
    /// Default: 3.
    pub poison_lives_max: u32,
    /// Is called, from several threads, as a recovery goes on.
    pub progress: Option<Progress>,
    /// Where its epochs leave for another log while it runs: see
    /// [`epoch_channel`](crate::epoch_channel). Default: `None`.
    ///
    /// Receive on another thread than the one that opens the runtime: a start may wait until the
    /// other log has acknowledged something. After a crash it does, for owed messages that were
    /// under way, and for a checkpoint that comes first.
    pub leaving: Option<EpochSender>,
    /// From earlier versions of the actor's types to this one: see [`LogConfig::migrate_from`].
    /// Default: none.
    pub migrations: Migrations,
    #[doc(hidden)]
    pub disk: DiskOptions,
}

/// Whether a start makes a database.
///
/// A volume that is not mounted looks like an empty directory. So does one that somebody else has
/// cleared, or a path with a slip in it. A program that is not meant to begin from nothing says so:
///
/// ```
/// use freehold::{Create, LogConfig};
///
/// let log = LogConfig { create: Create::Never, ..LogConfig::at("/var/lib/ledger") };
/// assert!(log.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Create {
    /// Makes one, and its directory, where there is none; otherwise opens the one there is.
    #[default]
    IfMissing,
    /// Opens the one there is. Where there is none the start fails ([`LogError::NoDatabase`]), and
    /// nothing is made.
    Never,
    /// Makes one, and its directory. Where there is one the start fails ([`LogError::NotNew`]), and
    /// nothing is changed.
    New,
}

impl Create {
    fn absent(self) -> Absent {
        match self {
            Create::IfMissing | Create::New => Absent::Made,
            Create::Never => Absent::LeftAlone,
        }
    }
}

/// For tests: a disk that fails.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct DiskOptions {
    /// Leaves all syncs out, so that a power cut loses what was acknowledged.
    pub without_syncs: bool,
    /// No checkpoint is asked for after a migration.
    pub keeps_old_schemas: bool,
    /// After so many writes, one fails with this error of the system, or, without one, writes only
    /// a part.
    pub fails: Option<(u64, Option<i32>)>,
    /// A bit of this byte of each part of a checkpoint comes to the disk as another.
    pub flips_part: Option<u64>,
}

impl DiskOptions {
    fn faults(&self) -> Option<Arc<WriteFaults>> {
        let (after, errno) = self.fails?;
        let fault = match errno {
            Some(errno) => {
                WriteFault::Error { errno: rustix::io::Errno::from_raw_os_error(errno), written: 0 }
            }
            None => WriteFault::Short { written: 0 },
        };
        Some(Arc::new(WriteFaults::new(fault, after)))
    }
}

impl LogConfig {
    /// A log in this directory, otherwise as by default.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        LogConfig {
            directory: directory.into(),
            create: Create::default(),
            ack: Ack::Durable,
            segment_bytes: 64 << 20,
            checkpoint_bytes: 1 << 30,
            checkpoint_age: None,
            backlog_bytes: 32 << 20,
            poison_lives_max: 3,
            progress: None,
            leaving: None,
            migrations: Migrations::default(),
            disk: DiskOptions::default(),
        }
    }

    /// Says how records of `Old` become records of `New`, a later version of the same actor's
    /// types: `New` is the actor itself, or where another migration begins. A start whose directory
    /// has records of `Old` migrates what is left of them: objects in their last state, and
    /// messages that are owed. The next checkpoint, which is asked for at once, makes it permanent;
    /// until then each start migrates again, so the functions are to be pure.
    ///
    /// If a function refuses or panics, or two objects get one id, the start is refused
    /// ([`LogError::NotMigrated`]) and nothing is changed.
    ///
    /// ```
    /// use freehold::{AccessError, Actor, Addressees, LogConfig, Migration, Objects, Schema, SchemaTypes};
    ///
    /// /// The types as they were: coins.
    /// struct CountersV1;
    ///
    /// impl SchemaTypes for CountersV1 {
    ///     const SCHEMA: Schema = Schema::new(1);
    ///     type Id = u32;
    ///     type State = i64;
    ///     type Message = (u32, i64);
    /// }
    ///
    /// /// As they are: cents.
    /// struct Counters;
    ///
    /// impl Actor for Counters {
    ///     const SCHEMA: Schema = Schema::new(2);
    ///     type Id = u64;
    ///     type State = i128;
    ///     type Message = (u64, i128);
    ///     type Reply = ();
    ///     type Error = AccessError<u64>;
    ///
    ///     fn addressees((counter, _): &(u64, i128), to: &mut Addressees<u64>) {
    ///         to.write(*counter);
    ///     }
    ///
    ///     fn receive((counter, by): &(u64, i128), objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
    ///         *objects.get_or_insert_with(*counter, || 0)? += by;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let log = LogConfig::at("/var/lib/counters").migrate_from::<CountersV1, Counters>(Migration {
    ///     id: |id| Ok(u64::from(id)),
    ///     state: |_, coins| Ok(i128::from(coins) * 100),
    ///     message: |(id, coins)| Ok((u64::from(id), i128::from(coins) * 100)),
    /// });
    /// # assert!(log.check().is_ok());
    /// ```
    #[must_use]
    pub fn migrate_from<Old: SchemaTypes, New: SchemaTypes>(
        mut self,
        migration: Migration<
            impl Fn(Old::Id) -> Migrated<New::Id> + Send + Sync + 'static,
            impl Fn(Old::Id, Old::State) -> Migrated<New::State> + Send + Sync + 'static,
            impl Fn(Old::Message) -> Migrated<New::Message> + Send + Sync + 'static,
        >,
    ) -> Self {
        self.migrations.add::<Old, New, _, _, _>(migration);
        self
    }

    /// The most bytes that an id and its state may have together, or a message that is told, as
    /// postcard writes them: by a message, a transaction, a checkpoint or a
    /// [`LocalLog`](crate::LocalLog), it is the same.
    ///
    /// That is 177 bytes less than `segment_bytes`, and less than 16 MiB where segments are larger:
    /// by default 16,777,039. A directory that exists keeps the segment size it was made with, and
    /// this then follows from that. What is longer is answered
    /// [`AskError::NotRecorded`](crate::AskError::NotRecorded), and changes nothing.
    pub const fn value_bytes_max(&self) -> usize {
        Bounds::of_segments(self.segment_bytes).value()
    }

    /// How its directory is opened.
    fn options(&self) -> Options {
        let absent = self.create.absent();
        Options {
            syncs: !self.disk.without_syncs,
            faults: self.disk.faults(),
            flips_part: self.disk.flips_part,
            absent,
        }
    }

    /// Checks every field against the range its description gives.
    ///
    /// # Errors
    /// The first field out of its range, with its value and the range.
    pub fn check(&self) -> Result<(), ConfigError> {
        use crate::config::{in_range, lasts};
        if self.ack == Ack::Replicated && self.leaving.is_none() {
            return Err(ConfigError::NotReplicated);
        }
        in_range("segment_bytes", self.segment_bytes, 64 << 10..=1 << 30)?;
        if !self.segment_bytes.is_multiple_of(freehold_shard::log::BLOCK) {
            return Err(ConfigError::NotAMultiple {
                field: "segment_bytes",
                value: self.segment_bytes,
                of: freehold_shard::log::BLOCK,
            });
        }
        in_range("checkpoint_bytes", self.checkpoint_bytes as usize, 64 << 10..=1 << 40)?;
        let age = self.checkpoint_age.unwrap_or(Duration::from_secs(1));
        lasts("checkpoint_age", age, Duration::from_secs(1)..=Duration::from_secs(10_000 * 3600))?;
        in_range("poison_lives_max", self.poison_lives_max as usize, 2..=1000)?;
        in_range("backlog_bytes", self.backlog_bytes, 64 << 10..=1 << 30)
    }
}

impl fmt::Debug for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogConfig")
            .field("directory", &self.directory)
            .field("create", &self.create)
            .field("ack", &self.ack)
            .field("segment_bytes", &self.segment_bytes)
            .finish_non_exhaustive()
    }
}

/// What a recovery has read, or read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Bytes of logs and checkpoint there are. They are read twice: to find out what is complete,
    /// and to take it over.
    pub bytes: u64,
    /// Bytes read, of twice as many.
    pub bytes_read: u64,
    /// Records read.
    pub records: u64,
    /// Objects found. 0 until it is done.
    pub objects: u64,
    /// Messages that were told and are still to run. 0 until it is done.
    pub owed: u64,
    /// Messages that were told and do not run, because they were under way in too many crashes
    /// ([`LogConfig::poison_lives_max`]): [`owed::list`] names them. 0 until it is done.
    pub set_aside: u64,
    /// The earliest version of the actor's types that records were migrated from, if any were.
    /// `None` until it is done.
    pub migrated_from: Option<u32>,
    /// How long it has taken.
    pub took: Duration,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recovery { bytes, records, objects, owed, set_aside, took, .. } = self;
        write!(
            f,
            "{objects} objects and {owed} messages owed, from {records} records in {bytes} bytes, in {took:?}"
        )?;
        if *set_aside > 0 { write!(f, "; {set_aside} messages are set aside") } else { Ok(()) }
    }
}

/// What all threads of a runtime share of its logs.
pub(crate) struct SharedLogs {
    pub(crate) config: LogConfig,
    pub(crate) directory: Directory,
    pub(crate) durability: Arc<Durability>,
    /// All up to this epoch is of earlier runs.
    pub(crate) began_after: Epoch,
    /// As it is on disk.
    manifest: Mutex<Manifest>,
    manifest_file: Mutex<ManifestFile>,
    /// The runtime's time when it started: its database's, from all runs before.
    pub(crate) began: Time,
    pub(crate) next_send: u64,
    pub(crate) recovery: Recovery,
    pub(crate) growth: growth::Growth,
    /// Messages that are owed and were under way in a crash: each is to run while nothing else
    /// does.
    pub(crate) suspects: Vec<SendId>,
    /// Which owed messages are under way; none if nothing is owed.
    pub(crate) under_way: Option<UnderWay>,
    spares: Mutex<Spares>,
    pub(crate) checkpoints: demands::Demands,
}

/// How many segments that are not needed are kept for each shard.
const SPARES_MAX: usize = 2;

/// Segments that are not needed.
#[derive(Default)]
struct Spares {
    names: Vec<String>,
    made: u64,
}

impl Spares {
    fn next_name(&mut self) -> String {
        self.made += 1;
        FileName::Spare(self.made).to_string()
    }
}

impl SharedLogs {
    /// The manifest, to be changed by [`SharedLogs::store`].
    pub(crate) fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part of a checkpoint that this run makes, as a segment.
    pub(crate) fn part_id(&self, log: u64) -> SegmentId {
        let manifest = self.manifest();
        let run = manifest.runs.last().expect("a runtime has begun a run");
        SegmentId { database: manifest.database, log, segment: 0, start: run.start }
    }

    /// How long batches, records and values may be.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds::of_segments(self.config.segment_bytes)
    }

    /// Changes the manifest, on disk first.
    ///
    /// # Errors
    /// After [`LogError::Replaced`] nothing more may be acknowledged: see [`ManifestFile`].
    pub(crate) fn store(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), LogError> {
        let mut manifest = self.manifest();
        let mut changed = manifest.clone();
        change(&mut changed);
        self.manifest_file().replace(&changed)?;
        *manifest = changed;
        Ok(())
    }

    /// Refuses to go on if the manifest on disk is another's.
    ///
    /// # Errors
    /// [`LogError::Replaced`]; or it cannot be read.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        self.manifest_file().check()
    }

    fn manifest_file(&self) -> MutexGuard<'_, ManifestFile> {
        self.manifest_file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment that is not needed any more, to be renamed and used again.
    pub(crate) fn take_spare(&self) -> Option<String> {
        loop {
            let spare = self.spares.lock().unwrap_or_else(PoisonError::into_inner).names.pop()?;
            match self.directory.names_of(&spare) {
                Ok(1) => return Some(spare),
                // A backup shows it under another name, and must go on to show what was in it.
                _ => drop(self.directory.remove(&spare)),
            }
        }
    }

    /// The name of a segment that is yet to be made.
    pub(crate) fn name_spare(&self) -> String {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).next_name()
    }

    /// A file is not needed any more: it is kept to be used again, or, if there are enough,
    /// removed.
    pub(crate) fn discard(&self, name: &str, shards: usize) -> Result<(), LogError> {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.names.len() >= SPARES_MAX * shards {
            return self.directory.remove(name);
        }
        let spare = spares.next_name();
        self.directory.rename(name, &spare)?;
        spares.names.push(spare);
        Ok(())
    }

    /// There is a spare from an earlier run. Says whether it is kept: there may be enough.
    fn keep_spare(&self, name: &str, number: u64, shards: usize) -> bool {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        spares.made = spares.made.max(number);
        let is_kept = spares.names.len() < SPARES_MAX * shards;
        if is_kept {
            spares.names.push(name.to_string());
        }
        is_kept
    }

    /// So many bytes of log are about to be written, or are left empty at a segment's end.
    pub(crate) fn count_written(&self, bytes: u64) {
        if self.growth.count(bytes) {
            self.checkpoints.look();
        }
    }
}
