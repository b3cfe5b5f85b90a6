//! What a shard writes can be read again, whatever the lengths: of states and of told messages near
//! every bound, in batches, segments and parts of checkpoints.
//!
//! The story: a part of a checkpoint had batches of any length, and the reader refused those above
//! 16 MiB. Two states of 9 MB, or 600,000 delayed messages, and one checkpoint that answered `Ok`
//! made a directory that could not be opened again. And a batch of a log that was full but for a
//! few bytes became too long when the epoch changed just then.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use freehold_shard::log::{BLOCK, Bounds, End, SegmentId, Tail};
use freehold_shard::part::{PartEnd, PartReader, PartWriter};
use freehold_shard::recovery::{Home, LogReader, Replay};
use freehold_shard::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Bytes by number.
struct Blobs;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    /// Objects, and how many bytes each is to have.
    Put(Vec<(u64, usize)>),
    /// Tells a message with so many bytes, to be run much later.
    Later(usize),
    Note(ByteBuf),
}

impl Actor for Blobs {
    type Id = u64;
    type State = ByteBuf; // one run of bytes, which a debug build would else write byte by byte
    type Message = Message;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Put(blobs) => blobs.iter().for_each(|(id, _)| to.write(*id)),
            Message::Later(_) | Message::Note(_) => to.write(0),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        match message {
            Message::Put(blobs) => {
                blobs.iter().try_for_each(|(id, bytes)| objects.insert(*id, vec![7; *bytes].into()).map(drop))
            }
            Message::Later(bytes) => objects
                .tell_after(Duration::from_secs(1_000_000), Message::Note(vec![3; *bytes].into()))
                .map(drop),
            Message::Note(_) => Ok(()),
        }
    }
}

/// How long a list of so many bytes is as postcard writes it.
fn written(bytes: usize) -> usize {
    bytes
        + if bytes < 1 << 7 {
            1
        } else if bytes < 1 << 14 {
            2
        } else {
            3
        }
}

/// What a test does.
#[derive(Clone, Debug)]
enum Step {
    /// A message that puts objects, each about as long as a bound.
    Put(Vec<(u64, Length)>),
    Later(Length),
    /// Another shard ends the epoch.
    NextEpoch,
    /// The disk writes a batch.
    Write,
}

/// A length near something.
#[derive(Clone, Copy, Debug)]
enum Length {
    Short(usize),
    /// Near the bound of a value, a record or a batch, or near a part of one.
    Near(usize, usize),
    /// So that about so many bytes are left in the batch that is being filled, if it has room.
    Leaves(usize),
}

/// A shard with a log, the log's segments, and what should be in them.
struct Rig {
    shard: Shard<Blobs, NoPrefetch>,
    mvcc: Arc<Mvcc<Blobs>>,
    bounds: Bounds,
    segment_bytes: usize,
    effects: Effects<Blobs>,
    segments: Vec<Vec<u8>>,
    objects: BTreeMap<u64, usize>,
    owed: usize,
}

const FIRST: SegmentId = SegmentId { database: 1, log: 0, segment: 0, start: 2 };

fn router() -> Router {
    Router::new(PlacementKey(1), 1)
}

impl Rig {
    fn new(segment_bytes: usize) -> Self {
        let durability = Arc::new(Durability::new(1, Epoch(0)));
        let mvcc = Arc::new(Mvcc::<Blobs>::logged(1, durability.clone()));
        let shard = Shard::new(ShardIndex(0), router(), Limits::default(), 0, mvcc.clone());
        let shard = shard.with_log(LogStart {
            codec: Codec::new(),
            ack: Ack::Applied,
            first: FIRST,
            segment_bytes,
            first_send: 0,
            durability,
        });
        let bounds = Bounds::of_segments(segment_bytes);
        let (segments, objects) = (Vec::new(), BTreeMap::new());
        Rig { shard, mvcc, bounds, segment_bytes, effects: Effects::new(1), segments, objects, owed: 0 }
    }

    fn length(&self, length: Length) -> usize {
        match length {
            Length::Short(bytes) => bytes,
            Length::Near(which, off) => {
                let (value, record, batch) = (self.bounds.value(), self.bounds.record(), self.bounds.batch());
                let all = [value, value, value, record, batch, value / 2, value / 3, batch / 2, batch / 3];
                (all[which % all.len()] + 8).saturating_sub(off)
            }
            // An object's record has its length, three bytes, and an id and a list's length of one
            // and two.
            Length::Leaves(bytes) => {
                // A batch has a header of 128 bytes before its first record.
                let used = self.shard.log_backlog().max(128) % self.bounds.batch() + 4 + 3 + 3 + bytes;
                self.bounds.batch().saturating_sub(used)
            }
        }
    }

    fn ask(&mut self, message: &Message) -> Outcome<Blobs> {
        self.shard.ask_now(Time(0), OwnerId(0), message, &mut self.effects)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(blobs) => {
                let blobs: BTreeMap<u64, usize> =
                    blobs.iter().map(|(id, length)| (*id, self.length(*length))).collect();
                let asked = self.ask(&Message::Put(blobs.clone().into_iter().collect()));
                // An id below 128 is one byte.
                let lengths = blobs.values().map(|bytes| 1 + written(*bytes));
                let too_long: Vec<usize> = lengths.filter(|bytes| *bytes > self.bounds.value()).collect();
                if too_long.is_empty() {
                    self.objects.extend(blobs);
                }
                self.judge(asked, too_long);
            }
            Step::Later(length) => {
                let bytes = self.length(*length);
                let asked = self.ask(&Message::Later(bytes));
                // Which message it is takes one byte.
                let is_too_long = 1 + written(bytes) > self.bounds.value();
                self.judge(asked, is_too_long.then_some(1 + written(bytes)).into_iter().collect());
                self.owed += usize::from(!is_too_long);
            }
            Step::NextEpoch => {
                self.mvcc.epochs().advance(self.mvcc.epochs().epoch());
                self.shard.enter();
            }
            Step::Write => {
                self.write();
            }
        }
    }

    /// It was refused if something in it is too long, and the error says what, and what may be.
    fn judge(&self, asked: Outcome<Blobs>, too_long: Vec<usize>) {
        match asked {
            Ok(()) => assert!(too_long.is_empty(), "{too_long:?} bytes were taken"),
            Err(AskError::NotRecorded(RecordError::TooLong { bytes, max })) => {
                assert!(max == self.bounds.value() && too_long.contains(&bytes), "{bytes} of {too_long:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn write(&mut self) -> bool {
        let Some(write) = self.shard.next_write(Time(0)) else { return false };
        let (segment, offset, bytes) = (write.segment as usize, write.offset as usize, write.batch.sealed());
        if segment == self.segments.len() {
            self.segments.push(vec![0; self.segment_bytes]);
        }
        self.segments[segment][offset..offset + bytes.len()].copy_from_slice(bytes);
        self.shard.written(write.batch);
        true
    }

    /// Reads the log as a recovery does.
    fn read_log(&self) -> Read {
        let mut reader = LogReader::new(FIRST, self.bounds, Tail::default());
        let mut found = Read::new();
        for segment in &self.segments {
            let read = reader.read(segment, |batch| {
                found.apply(&batch, Epoch(u64::MAX));
            });
            read.expect("nothing is missing");
        }
        assert_eq!(reader.end(), self.shard.log_end().expect("there is a log"), "all of it was read");
        found
    }

    /// Writes a part by slices, and reads it back, and again as a recovery does.
    fn checkpoint(&mut self, enough: usize, mut slices: impl FnMut() -> usize) -> Read {
        let snapshot = self.mvcc.epochs().begin_checkpoint();
        self.shard.enter();
        let id = SegmentId { log: 9, ..FIRST };
        let (mut part, mut bytes) = (PartWriter::new(id, self.bounds, enough), Vec::new());
        let (mut objects, mut sends) = (Some(0), Some(SendId(0)));
        while objects.is_some() || sends.is_some() {
            let mut left = slices();
            let goes_on = || {
                left = left.saturating_sub(1);
                left > 0
            };
            if let Some(from) = objects {
                let next =
                    self.shard.checkpoint_objects(&Codec::new(), snapshot, from, 4, &mut part, goes_on);
                objects = next.expect("the snapshot is open");
            } else if let Some(from) = sends {
                let next = self.shard.checkpoint_sends(snapshot, from, &mut part, goes_on);
                sends = next.expect("the snapshot is open");
            }
            while let Some(batch) = part.next_batch() {
                bytes.extend_from_slice(batch);
            }
        }
        while let Some(batch) = part.last_batch() {
            bytes.extend_from_slice(batch);
        }
        self.mvcc.epochs().end_checkpoint(snapshot);
        let end = part.end();
        self.read_back(id, &bytes, end);
        let (mut reader, mut found) = (LogReader::new(id, self.bounds, Tail::default()), Read::new());
        let read = reader.read(&bytes, |batch| {
            assert!(batch.end() - batch.offset <= self.bounds.batch().next_multiple_of(BLOCK));
            found.apply(&batch, Epoch(0));
        });
        assert_eq!((read, reader.end()), (Ok(End::Full), (0, end.tail)));
        found
    }

    fn read_back(&self, id: SegmentId, bytes: &[u8], end: PartEnd) {
        let (mut reader, mut rest) = (PartReader::new(id, self.bounds), bytes);
        while !rest.is_empty() {
            let (batch, behind) = rest.split_at(reader.batch_bytes(rest).expect("a batch is next"));
            reader.read(batch).expect("it is whole");
            rest = behind;
        }
        reader.finish(end).expect("it is all that was written");
    }

    /// What was read is what was taken.
    fn judge_read(&self, read: Read) {
        let owed = read.replay.finish();
        let found: BTreeMap<u64, usize> =
            read.home.objects().map(|(id, _, state)| (id, state.len())).collect();
        assert_eq!((found, owed.len()), (self.objects.clone(), self.owed));
    }
}

/// What a recovery has read.
struct Read {
    replay: Replay<Blobs>,
    home: Home<Blobs>,
}

impl Read {
    fn new() -> Read {
        Read { replay: Replay::new(router()), home: Home::new(0) }
    }

    fn apply(&mut self, batch: &log::LogBatch<'_>, cut: Epoch) {
        let put = |_: usize, changes: &mut Vec<_>| self.home.apply(changes.drain(..));
        self.replay.apply(batch, Epoch(0), cut, put).expect("it can be understood");
    }
}

fn length() -> impl Strategy<Value = Length> {
    prop_oneof![
        (0_usize..300).prop_map(Length::Short),
        (0_usize..9, 0_usize..50).prop_map(|(which, off)| Length::Near(which, off)),
        (0_usize..20).prop_map(Length::Leaves),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec((0_u64..40, length()), 1..4).prop_map(Step::Put),
        2 => length().prop_map(Step::Later),
        2 => Just(Step::NextEpoch),
        1 => Just(Step::Write),
    ]
}

fn run(segment_bytes: usize, steps: &[Step], enough: usize, slices: Range<usize>) {
    let mut rig = Rig::new(segment_bytes);
    steps.iter().for_each(|step| rig.step(step));
    while rig.write() {}
    rig.judge_read(rig.read_log());
    let mut slices = slices.cycle();
    let read = rig.checkpoint(enough, || slices.next().expect("it is not empty"));
    rig.judge_read(read);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_taken_is_read_again_whatever_the_lengths(
        blocks in 1_usize..5,
        steps in proptest::collection::vec(step(), 1..60),
        enough in prop_oneof![Just(0), Just(3000), Just(usize::MAX)],
        slice in 1_usize..30,
    ) {
        run(blocks * BLOCK, &steps, enough, slice..slice + 3);
    }
}

// A batch that is full to the last byte, and then another epoch: its record was put behind all the
// same, the batch had up to 13 bytes more than a reader takes, and a segment as long as that batch
// had no room for it.
#[test]
fn an_epoch_that_begins_when_a_batch_is_full_is_said_in_the_next() {
    for left in 0..20 {
        let steps = [
            Step::Put(vec![(3, Length::Short(10))]),
            Step::Put(vec![(1, Length::Leaves(left))]),
            Step::NextEpoch,
            // It is there already: by the path that writes right into the batch.
            Step::Put(vec![(3, Length::Short(100))]),
        ];
        run(BLOCK, &steps, usize::MAX, 1..9);
    }
}

// Pending sends of a shard were one batch, whatever their number.
#[test]
fn any_number_of_messages_owed_fits_a_checkpoint() {
    let sends = if cfg!(miri) { 200 } else { 3_000 };
    let steps = vec![Step::Later(Length::Short(40)); sends];
    run(BLOCK, &steps, usize::MAX, 1..200);
    let longest = vec![Step::Later(Length::Near(0, 11)); 10];
    let mut rig = Rig::new(BLOCK);
    longest.iter().for_each(|step| rig.step(step));
    assert_eq!(rig.owed, 10, "that is the longest");
    rig.step(&Step::Later(Length::Near(0, 10)));
    assert_eq!(rig.owed, 10, "one byte more is too long");
    run(BLOCK, &longest, usize::MAX, 1..3);
}
