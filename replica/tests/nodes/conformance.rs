//! What every [`CommitLog`] must do, as one suite: it runs against the local log, the simulator's
//! replicated log, whose acknowledgements get lost, and a stream on a real server.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use freehold::{
    CommitLog, CommitLogError, Config, Epoch, EpochBatch, LocalLog, LogConfig, Runtime, Shards, WrittenSchema,
};
use freehold_replica::{ChainLog, Entries, ReplicaConfig, ReplicaError, StreamEntries, StreamLog};
use freehold_shard::log::appends::{Appended, Appends};
use freehold_shard::log::chain::{Chain, ChainPlace, ENTRY_BYTES_MIN, NamedCheckpoint, read_entry};
use tempfile::TempDir;

use super::bank::Bank;
use super::joining::copy;
use super::servers::Servers;
use super::support::Watchdog;
use super::{open, pay, stream::Stream};

/// The size of a local log's segments.
const SEGMENT_BYTES: usize = 64 << 10;
/// Who appends to a chain.
const NODE: &str = "suite";

/// Where a log is kept, and what may happen to it there.
trait Storage {
    type Log: CommitLog;

    /// The log, to be appended to, as its last writer left it.
    fn open(&mut self) -> Self::Log;
    /// The writer ends without a word.
    fn crash(&mut self, log: Self::Log);
    /// It ends while it appends this batch: only a part of it is there.
    fn tear(&mut self, log: Self::Log, batch: &EpochBatch);
    /// A checkpoint is made of all there is.
    fn checkpoint(&mut self, log: Self::Log);
    /// The next append fails.
    fn fail(&mut self, log: &mut Self::Log);
    /// What made it fail is gone, and the writer.
    fn heal(&mut self, log: Self::Log);
}

/// What a log must have: the epochs in which something was committed.
#[derive(Clone)]
struct Suite {
    records: Vec<Box<[u8]>>,
    schema: Arc<WrittenSchema>,
    /// The first epoch that can be read.
    first: Epoch,
    kept: Vec<EpochBatch>,
    /// How many were made.
    made: usize,
}

impl Suite {
    /// With records that a runtime has written.
    fn new() -> Suite {
        let place = tempfile::tempdir().expect("a place");
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        let runtime = Runtime::<Bank>::open(config, LogConfig::at(place.path())).expect("it opens");
        pay(&runtime.handle(), 0..20);
        runtime.shutdown();
        let log = LocalLog::open(place.path()).expect("it is a log");
        let batches: Vec<_> = log.read(Epoch(0)).and_then(Iterator::collect).expect("it can be read");
        let schema = batches[0].schema.clone();
        let records: Vec<_> = batches.into_iter().flat_map(|batch| batch.records).collect();
        assert!(records.len() >= 40);
        Suite { records, schema, first: Epoch(0), kept: Vec::new(), made: 0 }
    }

    /// A batch of so many records, each time others.
    fn batch(&mut self, epoch: Epoch, records: usize) -> EpochBatch {
        self.made += 1;
        let records = self.records.iter().cycle().skip(self.made).take(records).cloned().collect();
        EpochBatch { epoch, time: freehold_shard::Time(0), schema: self.schema.clone(), records }
    }

    /// Appends an epoch that comes so far behind the tail.
    #[track_caller]
    fn append(&mut self, log: &mut impl CommitLog, further: u64, records: usize) {
        let tail = log.tail();
        let batch = self.batch(Epoch(tail.0 + further), records);
        log.append(tail, &batch).expect("it is the next");
        assert_eq!(log.tail(), batch.epoch);
        if records > 0 {
            self.kept.push(batch);
        }
        self.has_from(log, [tail, tail.next(), log.tail()]);
    }

    /// Whether it has just what it must have, at each bound.
    #[track_caller]
    fn is_whole(&self, log: &impl CommitLog) {
        let around = |epoch: Epoch| [Epoch(epoch.0 - 1), epoch, epoch.next()];
        let bounds = self.kept.iter().flat_map(|batch| around(batch.epoch));
        self.has_from(log, bounds.chain([self.first, log.tail(), log.tail().next()]));
    }

    #[track_caller]
    fn has_from(&self, log: &impl CommitLog, bounds: impl IntoIterator<Item = Epoch>) {
        for from in bounds.into_iter().filter(|from| *from >= self.first) {
            let read = log.read(from).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let read = read.unwrap_or_else(|error| panic!("from {from}: {error}"));
            let of = |batch: &EpochBatch| (batch.epoch, batch.records.clone(), batch.schema.clone());
            let expected = self.kept.iter().filter(|batch| batch.epoch >= from).map(of);
            assert_eq!(read.iter().map(of).collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "from {from}");
            assert!(read.is_sorted_by_key(|batch| batch.time), "time goes on");
        }
    }

    /// Each refusal, and that it changes nothing.
    #[track_caller]
    fn refuses(&mut self, log: &mut impl CommitLog) {
        let tail = log.tail();
        let next = self.batch(tail.next(), 3);
        let with = |change: &dyn Fn(&mut EpochBatch)| {
            let mut batch = next.clone();
            change(&mut batch);
            batch
        };
        let mut refused =
            |expected, batch: EpochBatch| log.append(expected, &batch).expect_err("it is refused");
        for expected in [Epoch(tail.0 - 1), tail.next()] {
            let error = refused(expected, next.clone());
            let CommitLogError::NotTheTail { expected: told, found } = error else { panic!("{error}") };
            assert_eq!((told, found), (expected, tail));
        }
        let error = refused(tail, with(&|batch| batch.epoch = tail));
        assert!(matches!(error, CommitLogError::NotLater { epoch, .. } if epoch == tail), "{error}");
        let error = refused(tail, with(&|batch| batch.records[1] = Box::from(&b"none"[..])));
        assert!(matches!(error, CommitLogError::NotARecord { at: 1, .. }), "{error}");
        // The record that says which epoch the others are of: the log's own.
        let epoch = [&[0_u8][..], &7_u64.to_le_bytes()].concat();
        let error = refused(tail, with(&|batch| batch.records[2] = epoch.clone().into()));
        assert!(matches!(error, CommitLogError::NotARecord { at: 2, .. }), "{error}");
        let error = refused(tail, with(&|batch| batch.records[0] = vec![0; 17 << 20].into()));
        let CommitLogError::TooLong { at: 0, bytes, max, .. } = error else { panic!("{error}") };
        assert!(bytes == 17 << 20 && max < 16 << 20, "{max}");
        let older = WrittenSchema { version: 0, ..(*self.schema).clone() };
        let error = refused(tail, with(&|batch| batch.schema = Arc::new(older.clone())));
        assert!(matches!(error, CommitLogError::OlderSchema { version: 0, .. }), "{error}");
        let error = log.trim(tail.next()).expect_err("it is in no checkpoint");
        assert!(matches!(error, CommitLogError::NotInACheckpoint { .. }), "{error}");
        assert_eq!(log.tail(), tail);
        self.is_whole(log);
    }

    fn run<S: Storage>(&mut self, storage: &mut S) {
        let mut log = storage.open();
        assert_eq!(log.tail(), Epoch(0));
        self.is_whole(&log);
        log.trim(Epoch(1)).expect("there is nothing");
        for (further, records) in [(1, 2), (1, 1), (3, 7), (1, 0), (1, 5), (1_000, 1), (1, 0)] {
            self.append(&mut log, further, records);
        }
        // Longer than a segment of the one log, and than a message of the other.
        self.append(&mut log, 1, 3_200);
        self.refuses(&mut log);
        self.append(&mut log, 1, 3);
        self.outlives(storage, log);
        self.lets_go(storage);
        self.gives_up(storage);
    }

    /// Whoever opens it again finds all that was appended, however its writer ended.
    fn outlives<S: Storage>(&mut self, storage: &mut S, log: S::Log) {
        let tail = log.tail();
        drop(log);
        let mut log = storage.open();
        assert_eq!(log.tail(), tail);
        self.is_whole(&log);
        self.append(&mut log, 1, 2);
        self.append(&mut log, 2, 0);
        let tail = log.tail();
        storage.crash(log);
        let mut log = storage.open();
        assert_eq!(log.tail(), tail, "also the last epoch, in which nothing was committed");
        self.is_whole(&log);
        self.append(&mut log, 1, 2);
        let tail = log.tail();
        let torn = self.batch(tail.next(), 200);
        storage.tear(log, &torn);
        let mut log = storage.open();
        assert_eq!(log.tail(), tail, "an epoch is there as a whole, or not at all");
        self.is_whole(&log);
        // Its number is free.
        self.append(&mut log, 1, 2);
        self.append(&mut log, 1, 300);
        storage.crash(log);
        self.is_whole(&storage.open());
    }

    /// What is in a checkpoint cannot be read epoch by epoch any more.
    fn lets_go<S: Storage>(&mut self, storage: &mut S) {
        let log = storage.open();
        let tail = log.tail();
        storage.checkpoint(log);
        let mut log = storage.open();
        let let_go = |log: &S::Log, from| match log.read(from).map(drop) {
            Err(CommitLogError::LetGo { first }) => first,
            other => panic!("from {from}: {other:?}"),
        };
        self.first = let_go(&log, Epoch(1));
        assert!(self.first > tail && self.first <= log.tail().next(), "{} and {}", self.first, log.tail());
        assert_eq!(let_go(&log, Epoch(self.first.0 - 1)), self.first);
        self.kept.clear();
        self.is_whole(&log);
        log.trim(Epoch(1)).and_then(|()| log.trim(self.first)).expect("it is in the checkpoint");
        self.is_whole(&log);
        self.append(&mut log, 1, 2);
        self.append(&mut log, 1, 2);
        self.refuses(&mut log);
        log.trim(self.first).expect("it is in the checkpoint");
        self.is_whole(&log);
        storage.crash(log);
        let log = storage.open();
        self.is_whole(&log);
        assert_eq!(let_go(&log, Epoch(self.first.0 - 1)), self.first);
    }

    /// After an append that failed nothing more is appended; and who opens it again finds all that
    /// was acknowledged.
    fn gives_up<S: Storage>(&mut self, storage: &mut S) {
        let mut log = storage.open();
        self.append(&mut log, 1, 2);
        storage.fail(&mut log);
        let tail = log.tail();
        let batch = self.batch(tail.next(), 2);
        let error = log.append(tail, &batch).expect_err("it fails");
        assert!(!matches!(error, CommitLogError::Failed), "it says why: {error}");
        assert_eq!(log.tail(), tail);
        let error = log.append(tail, &batch).expect_err("it has failed");
        assert!(matches!(error, CommitLogError::Failed), "{error}");
        let error = log.trim(self.first).expect_err("it has failed");
        assert!(matches!(error, CommitLogError::Failed), "{error}");
        storage.heal(log);
        let mut log = storage.open();
        self.is_whole(&log);
        self.append(&mut log, 1, 2);
    }
}

/// A directory.
struct OnDisk {
    place: TempDir,
    /// How often it was copied.
    copies: u32,
}

impl OnDisk {
    fn path(&self) -> PathBuf {
        self.place.path().join(self.copies.to_string())
    }

    /// What a crash leaves is what is there while it is open.
    fn leave(&mut self, log: LocalLog) {
        let from = self.path();
        self.copies += 1;
        copy(&from, &self.path());
        drop(log);
    }

    fn config(&self) -> LogConfig {
        LogConfig { segment_bytes: SEGMENT_BYTES, ..LogConfig::at(self.path()) }
    }
}

/// Cuts off the end of the last batch in a log's directory.
fn cut_end(directory: &Path) {
    let files = std::fs::read_dir(directory).expect("it is there").flatten().map(|file| file.path());
    let is_segment = |path: &PathBuf| path.to_string_lossy().contains("/log-");
    let last = files.filter(is_segment).max().expect("it has a segment");
    let mut bytes = std::fs::read(&last).expect("it can be read");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("it has a batch");
    bytes[end - 50..=end].fill(0);
    std::fs::write(&last, bytes).expect("it can be written");
}

impl Storage for OnDisk {
    type Log = LocalLog;

    fn open(&mut self) -> LocalLog {
        LocalLog::open_with(&self.config()).expect("it opens")
    }

    fn crash(&mut self, log: LocalLog) {
        self.leave(log);
    }

    fn tear(&mut self, mut log: LocalLog, batch: &EpochBatch) {
        log.append(log.tail(), batch).expect("it is the next");
        self.leave(log);
        cut_end(&self.path());
    }

    fn checkpoint(&mut self, log: LocalLog) {
        drop(log);
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        let runtime = Runtime::<Bank>::open(config, self.config()).expect("it opens");
        runtime.checkpoint().expect("it is made");
        runtime.shutdown();
    }

    fn fail(&mut self, _log: &mut LocalLog) {
        let manifest = self.path().join("manifest");
        std::fs::rename(&manifest, self.place.path().join("aside")).expect("it is moved");
    }

    fn heal(&mut self, log: LocalLog) {
        drop(log);
        std::fs::rename(self.place.path().join("aside"), self.path().join("manifest")).expect("it is moved");
    }
}

/// Where a chain's entries are kept, and how a checkpoint is made of it.
trait Keeps {
    type Entries: Entries;

    fn entries(&self) -> Self::Entries;
    /// The owner has resigned.
    fn checkpoint(&self);
}

/// A chain.
struct InChain<K>(K, WrittenSchema);

/// A writer of a chain that does as it likes, behind all there is.
fn writer(entries: &impl Entries) -> Appends {
    let (first, last) = entries.ends().expect("it says so");
    let (place, begins) = match entries.named().expect("it says so") {
        Some((named, begins)) => (named.place, begins),
        None => {
            let entry = entries.read(first, first).expect("it is there").remove(0);
            (ChainPlace::first(read_entry(&entry).expect("an entry").0.database), first)
        }
    };
    let (mut chain, mut next) = (Chain::at(place), begins);
    while next <= last {
        for entry in entries.read(next, last).expect("they are there") {
            chain.follow(&entry).expect("it goes on");
            next += 1;
        }
    }
    Appends::new(chain, last)
}

/// Appends the next so many entries.
fn send(entries: &impl Entries, writer: &mut Appends, count: usize) {
    for _ in 0..count {
        let (sent, behind) = writer.next_to_send().expect("it is to be sent");
        // Until it is there, whatever is heard of it.
        while entries.ends().expect("it says so").1 == behind {
            entries.append(&sent, behind);
        }
        writer.came(Appended::Done);
    }
}

impl<K: Keeps> Storage for InChain<K> {
    type Log = ChainLog<K::Entries>;

    fn open(&mut self) -> Self::Log {
        let mut log = ChainLog::open(self.0.entries(), NODE).expect("it is whole");
        log.own(&self.1).expect("nobody else does");
        log
    }

    /// It has nothing that it could still say.
    fn crash(&mut self, log: Self::Log) {
        drop(log);
    }

    fn tear(&mut self, log: Self::Log, batch: &EpochBatch) {
        drop(log);
        let entries = self.0.entries();
        let mut writer = writer(&entries);
        writer.append(batch.epoch, batch.time, &batch.records, ENTRY_BYTES_MIN);
        assert!(writer.len() > 1, "it has several parts");
        send(&entries, &mut writer, 1);
    }

    fn checkpoint(&mut self, log: Self::Log) {
        log.resign().expect("it is its own");
        self.0.checkpoint();
    }

    fn fail(&mut self, _log: &mut Self::Log) {
        let entries = self.0.entries();
        let mut thief = writer(&entries);
        thief.take_over("thief", self.1.clone(), Epoch(0));
        send(&entries, &mut thief, 1);
    }

    fn heal(&mut self, log: Self::Log) {
        drop(log);
        let mut log = ChainLog::open(self.0.entries(), NODE).expect("it is whole");
        let error = log.own(&self.1).expect_err("another does");
        assert!(matches!(&error, ReplicaError::Owned { owner, .. } if owner == "thief"), "{error}");
        let entries = self.0.entries();
        let mut thief = writer(&entries);
        thief.resign();
        send(&entries, &mut thief, 1);
    }
}

/// The simulator's log, behind a network that loses one message in four, on the way there or back.
#[derive(Clone)]
struct Simulated(Rc<RefCell<(Stream, u64)>>);

impl Simulated {
    fn draw(&self, below: u64) -> u64 {
        let seed = &mut self.0.borrow_mut().1;
        *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (*seed >> 33) % below
    }
}

impl Entries for Simulated {
    fn ends(&self) -> Result<(u64, u64), ReplicaError> {
        let stream = &self.0.borrow().0;
        Ok((stream.trimmed as u64 + 1, stream.last()))
    }

    fn read(&self, from: u64, until: u64) -> Result<Vec<Vec<u8>>, ReplicaError> {
        let some = until.min(from + self.draw(5));
        Ok(self.0.borrow().0.messages[from as usize - 1..some as usize].to_vec())
    }

    fn append(&self, entries: &[&[u8]], behind: u64) -> Appended {
        let fate = self.draw(8);
        if fate == 0 {
            return Appended::Unknown;
        }
        let appended = self.0.borrow_mut().0.append(entries, behind);
        if fate == 1 { Appended::Unknown } else { appended }
    }

    fn named(&self) -> Result<Option<(NamedCheckpoint, u64)>, ReplicaError> {
        Ok(self.0.borrow().0.named().map(|(sequence, named)| (named, sequence)))
    }

    fn trim(&self, below: u64, named: &NamedCheckpoint) -> Result<(), ReplicaError> {
        self.0.borrow_mut().0.trim(below, (named.place.term, named.bytes));
        Ok(())
    }

    fn entry_bytes_max(&self) -> usize {
        ENTRY_BYTES_MIN
    }

    fn pause(&self, times: u32) -> bool {
        times < 100
    }
}

impl Keeps for Simulated {
    type Entries = Simulated;

    fn entries(&self) -> Simulated {
        self.clone()
    }

    fn checkpoint(&self) {
        let mut owner = writer(self);
        owner.take_over("owner", WrittenSchema::of::<Bank>(), Epoch(0));
        let place = owner.chain().place().clone();
        let (object, term) = ("it".to_string(), place.term);
        self.0.borrow_mut().0.checkpoints.insert((term, 1), Default::default());
        let named = NamedCheckpoint { object, epoch: place.epoch, bytes: 1, hash: [0; 32], place };
        owner.name_checkpoint(named);
        owner.resign();
        send(self, &mut owner, 3);
        let below = owner.trims_below().expect("it counts");
        self.0.borrow_mut().0.trim(below, (term, 1));
    }
}

/// A stream on a server.
struct OnServer<'a>(&'a Servers);

impl OnServer<'_> {
    fn config(&self) -> ReplicaConfig {
        ReplicaConfig { entry_bytes_max: 16 << 10, ..self.0.config(NODE) }
    }
}

impl Keeps for OnServer<'_> {
    type Entries = StreamEntries;

    fn entries(&self) -> StreamEntries {
        StreamEntries::open(&self.config()).expect("it is there")
    }

    /// A node does that.
    fn checkpoint(&self) {
        let place = tempfile::tempdir().expect("a place");
        let node = open(place.path(), self.0.config("owner")).expect("nobody owns it");
        node.checkpoint().expect("it is made");
        assert!(node.shutdown().expect("there was a runtime").drained);
    }
}

#[test]
fn a_local_log_conforms() {
    let _watchdog = Watchdog::new("a_local_log_conforms");
    Suite::new().run(&mut OnDisk { place: tempfile::tempdir().expect("a place"), copies: 0 });
}

#[test]
fn a_simulated_log_conforms() {
    let _watchdog = Watchdog::new("a_simulated_log_conforms");
    let (suite, seeds) = (Suite::new(), std::env::var("FREEHOLD_SEEDS"));
    let seeds = seeds.map_or(3, |seeds| seeds.parse().expect("FREEHOLD_SEEDS is a whole number"));
    for seed in 0..seeds {
        let simulated = Simulated(Rc::new(RefCell::new((Stream::default(), seed))));
        suite.clone().run(&mut InChain(simulated, WrittenSchema::of::<Bank>()));
    }
}

#[test]
fn a_stream_conforms() {
    let _watchdog = Watchdog::new("a_stream_conforms");
    let Some(servers) = Servers::start("a_stream_conforms", 1) else { return };
    Suite::new().run(&mut InChain(OnServer(&servers), WrittenSchema::of::<Bank>()));
    // Anybody may read it, and nobody else may append.
    let mut other = StreamLog::of(&servers.config("other")).expect("it can be read");
    let tail = other.tail();
    let last: Vec<_> = other.read(tail).and_then(Iterator::collect).expect("it can be read");
    assert_eq!(last.len(), 1);
    let batch = EpochBatch { epoch: tail.next(), ..last[0].clone() };
    let error = other.append(tail, &batch).expect_err("it is not its own");
    assert!(error.to_string().contains("suite owns the database in term"), "{error}");
}
