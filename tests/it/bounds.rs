//! What was acknowledged can be opened again, however long states are and however much is owed; and
//! there is one limit for the length of a state, which says itself by every way.
//!
//! The story: two objects of 9 MB, a checkpoint that answered `Ok`, an orderly stop, and the next
//! start said that the directory was damaged. So did 512 objects of 33 KB, and 600,000 delayed
//! messages. The reader refused a batch above 16 MiB, and the writer of a checkpoint looked at the
//! length only behind 512 objects, and never in what was owed.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::support::Watchdog;
use freehold::{
    AccessError, Actor, Addressees, AskError, CheckpointError, CommitLog, CommitLogError, Config,
    DiskOptions, Epoch, EpochBatch, Idle, LocalLog, LogConfig, LogError, Objects, RecordError, Runtime,
    Shards, inspect::Time,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Bytes by number.
struct Blobs;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Put(u64, u8, usize),
    /// The same to both.
    Both(u64, u64, u8, usize),
    /// Tells a message with so many bytes, to be run much later.
    Later(u64, usize),
    Note(u64, ByteBuf),
    Read(u64),
}

impl Actor for Blobs {
    type Id = u64;
    type State = ByteBuf;
    type Message = Message;
    type Reply = Option<(u8, usize)>;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Both(a, b, ..) => [a, b].into_iter().for_each(|id| to.write(id)),
            Message::Read(id) => to.read(id),
            Message::Put(id, ..) | Message::Later(id, _) | Message::Note(id, _) => to.write(id),
        }
    }

    fn receive(
        message: &Message,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<(u8, usize)>, AccessError<u64>> {
        match *message {
            Message::Put(id, byte, bytes) => {
                objects.insert(id, ByteBuf::from(vec![byte; bytes])).map(|_| None)
            }
            Message::Both(a, b, byte, bytes) => {
                objects.insert(a, ByteBuf::from(vec![byte; bytes]))?;
                objects.insert(b, ByteBuf::from(vec![byte; bytes])).map(|_| None)
            }
            Message::Later(id, bytes) => {
                let note = Message::Note(id, ByteBuf::from(vec![1; bytes]));
                objects.tell_after(Duration::from_secs(1_000_000), note).map(|_| None)
            }
            Message::Note(..) => Ok(None),
            Message::Read(id) => Ok(objects.get(id)?.map(|state| (state[0], state.len()))),
        }
    }
}

fn config(shards: usize) -> Config {
    Config { shards: Shards::Count(shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() }
}

/// With small segments, whose bounds are small as well.
fn small(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory) }
}

fn open(shards: usize, log: LogConfig) -> Runtime<Blobs> {
    Runtime::open(config(shards), log).expect("it opens")
}

fn read(runtime: &Runtime<Blobs>, id: u64) -> Option<(u8, usize)> {
    runtime.handle().ask(Message::Read(id)).wait().expect("it can be read")
}

fn place() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room")
}

#[test]
fn two_states_of_nine_megabytes_outlive_a_checkpoint() {
    let _watchdog = Watchdog::new("two_states_of_nine_megabytes");
    let directory = place();
    let runtime = open(1, LogConfig::at(directory.path()));
    for id in 0..2 {
        runtime.handle().ask(Message::Put(id, 5, 9_000_000)).wait().expect("it is put");
    }
    runtime.checkpoint().expect("it is made");
    assert!(runtime.shutdown().drained);
    let runtime = open(1, LogConfig::at(directory.path()));
    assert_eq!([0, 1].map(|id| read(&runtime, id)), [Some((5, 9_000_000)); 2]);
}

// As many as a slice of a checkpoint once was, and together longer than the longest batch.
#[test]
fn many_states_that_are_long_together_outlive_a_checkpoint() {
    let watchdog = Watchdog::new("many_states_that_are_long_together");
    for shards in [1, 2] {
        let directory = place();
        let runtime = open(shards, small(directory.path()));
        let puts = (0..512).map(|id| Message::Put(id, id as u8, 1_000));
        runtime.handle().ask_all(puts).wait().into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
        runtime.checkpoint().expect("it is made");
        assert!(runtime.shutdown().drained);
        watchdog.feed();
        let runtime = open(1, small(directory.path()));
        (0..512).for_each(|id| assert_eq!(read(&runtime, id), Some((id as u8, 1_000))));
    }
}

#[test]
fn many_messages_that_are_owed_outlive_a_checkpoint() {
    let watchdog = Watchdog::new("many_messages_that_are_owed");
    let directory = place();
    let runtime = open(2, small(directory.path()));
    for _ in 0..4 {
        let told = runtime.handle().ask_all((0..1_000).map(|id| Message::Later(id, 60))).wait();
        told.into_iter().for_each(|told| assert!(told.is_ok(), "{told:?}"));
        watchdog.feed();
    }
    let checkpoint = runtime.checkpoint().expect("it is made");
    assert!(checkpoint.bytes > 4 * (64 << 10), "more than a batch a shard: {checkpoint:?}");
    runtime.shutdown();
    let runtime = open(1, small(directory.path()));
    assert_eq!(runtime.recovery().expect("there is a log").owed, 4_000);
}

/// A copy of the directory, which is what a crash would leave now.
fn crashed(directory: &Path) -> tempfile::TempDir {
    let copy = place();
    for file in fs::read_dir(directory).expect("it is there").flatten() {
        let copied = fs::copy(file.path(), copy.path().join(file.file_name()));
        // A spare becomes the next segment, with nothing in it yet, at any time.
        let is_spare = file.file_name().to_string_lossy().starts_with("spare-");
        let is_gone = copied.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
        assert!(copied.is_ok() || is_spare && is_gone, "{copied:?} {file:?}");
    }
    copy
}

/// How many bytes a state may have, of an object whose id is one byte. Three more are its length.
fn state_max(log: &LogConfig) -> usize {
    log.value_bytes_max() - 1 - 3
}

/// What was refused says how long it is, and how long it may be.
fn assert_refused(asked: Result<Option<(u8, usize)>, AskError<AccessError<u64>>>, max: usize) {
    let Err(AskError::NotRecorded(error)) = asked else { panic!("{asked:?}") };
    assert_eq!(error, RecordError::TooLong { bytes: max + 1, max });
    let said = error.to_string();
    assert!(said.contains(&max.to_string()) && said.contains(&(max + 1).to_string()), "{said}");
    assert!(said.contains("value_bytes_max"), "{said}");
}

#[test]
fn the_limit_of_a_state_is_one_and_the_same_by_every_way() {
    let watchdog = Watchdog::new("the_limit_of_a_state");
    let directory = place();
    let (max, most) = (small(directory.path()).value_bytes_max(), state_max(&small(directory.path())));
    assert_eq!(max, (64 << 10) - 177, "as its description says");
    let runtime = open(2, small(directory.path()));
    let handle = &runtime.handle();
    let on = |shard| (0..100).filter(move |id| usize::from(handle.home(id).0) == shard);
    let [mut here, mut there] = [on(0), on(1)];
    let next = |ids: &mut dyn Iterator<Item = u64>| ids.next().expect("half of them live there");
    let (a, b, c) = (next(&mut here), next(&mut here), next(&mut there));
    let (d, e) = (next(&mut here), next(&mut there));
    let ask = |message| handle.ask(message).wait();
    // The fast path: of an object that is new, and of one that is there.
    for (byte, before) in [(1, None), (2, Some((1, most)))] {
        assert_refused(ask(Message::Put(a, 9, most + 1)), max);
        assert_eq!(read(&runtime, a), before, "what was refused changed nothing");
        ask(Message::Put(a, byte, most)).expect("that is the limit");
    }
    // Two on one shard, more than a batch together.
    assert_refused(ask(Message::Both(a, b, 9, most + 1)), max);
    ask(Message::Both(a, b, 3, most)).expect("that is the limit");
    // A transaction across shards, whose objects are recorded each at home.
    assert_refused(ask(Message::Both(c, a, 9, most + 1)), max);
    assert_eq!((read(&runtime, a), read(&runtime, c)), (Some((3, most)), None));
    for (x, y) in [(c, d), (d, e)] {
        ask(Message::Both(x, y, 4, most)).expect("that is the limit");
    }
    // A told message: which of them it is takes a byte, its object one, its length three.
    assert_refused(ask(Message::Later(a, max - 5 + 1)), max);
    ask(Message::Later(a, max - 5)).expect("that is the limit");
    watchdog.feed();

    let expected = [(a, 3), (b, 3), (c, 4), (d, 4), (e, 4)];
    let check = |directory: &Path, shards| {
        let runtime = open(shards, small(directory));
        for (id, byte) in expected {
            assert_eq!(read(&runtime, id), Some((byte, most)), "object {id}");
        }
        assert_eq!(runtime.recovery().expect("there is a log").owed, 1);
        watchdog.feed();
        runtime
    };
    // By recovery of a log, by a checkpoint, by that and a log, and by a checkpoint of what was
    // recovered.
    let copy = crashed(directory.path());
    check(copy.path(), 1);
    runtime.checkpoint().expect("it is made");
    let copy = crashed(directory.path());
    check(copy.path(), 2);
    handle.ask(Message::Put(a, 3, most)).wait().expect("that is the limit");
    assert!(runtime.shutdown().drained);
    check(directory.path(), 3).checkpoint().expect("it is made");
    check(directory.path(), 1);
}

/// A copy by epochs takes what the original's log took: the record of an epoch and a header are
/// beside it there, too.
#[test]
fn a_copy_by_epochs_takes_the_longest_state() {
    let _watchdog = Watchdog::new("a_copy_by_epochs");
    let [from, to] = [(); 2].map(|()| place());
    let (max, most) = (small(from.path()).value_bytes_max(), state_max(&small(from.path())));
    let runtime = open(1, small(from.path()));
    runtime.handle().ask(Message::Put(1, 8, most)).wait().expect("that is the limit");
    runtime.handle().ask(Message::Later(1, max - 5)).wait().expect("that is the limit");
    runtime.shutdown();
    // Made with segments of that size; by itself `LocalLog` makes larger ones.
    open(1, small(to.path())).shutdown();
    let source = LocalLog::open(from.path()).expect("it opens");
    let mut copy = LocalLog::open(to.path()).expect("it opens");
    let mut schema = None;
    for batch in source.read(Epoch(0)).expect("it can be read") {
        let batch = batch.expect("it is whole");
        copy.append(copy.tail(), &batch).expect("it takes it");
        schema = Some(batch.schema);
    }
    let schema = schema.expect("there was one at least");
    // And the longest record there can be, whatever it says, and one byte more.
    let record_max = max + 32;
    let mut record = vec![2, 1, 0, 2, 0];
    let list = record_max - record.len() - 2;
    record[4] = (list & 0x7f) as u8 | 0x80;
    record.extend([(list >> 7 & 0x7f) as u8 | 0x80, (list >> 14) as u8]);
    record.resize(record_max, 6);
    let longer = [&record[..], &[6]].concat();
    let batch = |record: &[u8]| EpochBatch {
        epoch: copy.tail().next(),
        time: Time(0),
        schema: schema.clone(),
        records: vec![record.into(), record.into()],
    };
    let (longest, too_long) = (batch(&record), batch(&longer));
    let refused = copy.append(copy.tail(), &too_long).expect_err("it is too long");
    assert!(
        matches!(refused, CommitLogError::TooLong { at: 0, bytes, max, .. } if (bytes, max) == (record_max + 1, record_max)),
        "{refused}"
    );
    copy.append(copy.tail(), &longest).expect("that is the limit, and it goes on");
    drop(copy);
    let runtime = open(1, small(to.path()));
    assert_eq!(read(&runtime, 1), Some((8, most)));
    assert_eq!(read(&runtime, 2), Some((6, list)));
    assert_eq!(runtime.recovery().expect("there is a log").owed, 1);
    // What a log took a checkpoint takes, though no message could write it now.
    runtime.checkpoint().expect("it is made");
    runtime.shutdown();
    assert_eq!(read(&open(1, small(to.path())), 2), Some((6, list)));
}

// A disk that keeps other bytes than it was given: the checkpoint was named all the same, and what
// it should replace was removed. The next start found the damage, when nothing else was left.
#[test]
fn a_checkpoint_that_cannot_be_read_back_takes_nothing_away() {
    let watchdog = Watchdog::new("a_checkpoint_that_cannot_be_read_back");
    let directory = place();
    let runtime = open(2, small(directory.path()));
    let put = |runtime: &Runtime<Blobs>, byte| {
        let puts = (0..300).map(|id| Message::Put(id, byte, 700));
        runtime.handle().ask_all(puts).wait().into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
    };
    put(&runtime, 1);
    runtime.checkpoint().expect("it is made");
    put(&runtime, 2);
    runtime.shutdown();
    // In a header, in a record of the first batch, in a later batch.
    for (flips, byte) in [(Some(9), 3), (Some(1_000), 4), (Some(70_000), 5), (None, 6)] {
        watchdog.feed();
        let disk = DiskOptions { flips_part: flips, ..DiskOptions::default() };
        let runtime = open(2, LogConfig { disk, ..small(directory.path()) });
        (0..300).for_each(|id| assert_eq!(read(&runtime, id), Some((byte - 1, 700)), "object {id}"));
        put(&runtime, byte);
        let Some(at) = flips else {
            runtime.checkpoint().expect("it is made");
            break;
        };
        let error = runtime.checkpoint().expect_err("it is damaged");
        let CheckpointError::NotReadBack(LogError::Damaged { file, offset, .. }) = &*error else {
            panic!("{error}")
        };
        assert!(*offset <= at && at < offset + (64 << 10), "{error}");
        assert!(!file.exists(), "it is removed: {error}");
        // The runtime goes on, and so does the next.
        assert_eq!(read(&runtime, 1), Some((byte, 700)));
        assert!(runtime.shutdown().drained);
        assert!(freehold::inspect::verify(directory.path()).expect("it can be read").damages.is_empty());
    }
    let runtime = open(1, small(directory.path()));
    (0..300).for_each(|id| assert_eq!(read(&runtime, id), Some((6, 700)), "object {id}"));
}
