//! The logs of a bench: disks in memory. A crash finds on them what they had written by then.
//!
//! All lives keep their logs, and a recovery reads them from the first on. So there are no
//! checkpoints here, and no manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::actor::Actor;
use crate::epoch::Epoch;
use crate::epoch::durability::Durability;
use crate::log::batch::{LogBatch, SegmentId, Tail};
use crate::log::bounds::Bounds;
use crate::log::record::SendId;
use crate::log::recovery::{LogReader, RecoveredSend, Replay, Survey, last_complete};
use crate::placement::Router;
use crate::shard::Shard;
use crate::shard::codec::Codec;
use crate::shard::journal::{Ack, LogStart, Write};
use crate::store::home::Home;

const SEGMENT_BYTES: usize = 1 << 20;

/// By segment: what a disk has of a log.
type Disk = BTreeMap<u64, Vec<u8>>;

/// The logs of one life.
struct Life {
    number: u64,
    /// All up to this epoch was of earlier lives.
    after: Epoch,
    /// The last epoch that counts of it, once it has ended.
    cut: Option<Epoch>,
    /// By shard.
    disks: Vec<Disk>,
}

impl Life {
    fn first_segment(&self, shard: usize) -> SegmentId {
        let log = self.number * self.disks.len() as u64 + shard as u64;
        // Far from those of other lives, as a runtime's random ones are.
        SegmentId { database: 1, log, segment: 0, start: self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    fn read(&self, shard: usize, mut each: impl FnMut(&LogBatch<'_>)) {
        let bounds = Bounds::of_segments(SEGMENT_BYTES);
        let mut reader = LogReader::new(self.first_segment(shard), bounds, Tail::default());
        while let Some(bytes) = self.disks[shard].get(&reader.segment()) {
            reader.read(bytes, |batch| each(&batch)).expect("the disks of a bench damage nothing");
        }
    }
}

/// What was recovered: the objects by shard, and the messages that are owed.
type Survivors<A> = (Vec<Home<A>>, BTreeMap<SendId, RecoveredSend>);

/// What is on the disks of these lives, for the shards of a router.
fn replay<A: Actor<State: DeserializeOwned>>(lives: &[Life], router: Router) -> Survivors<A> {
    let mut homes: Vec<Home<A>> = (0..router.shards()).map(|shard| Home::new(shard as u64)).collect();
    let mut all = Replay::<A>::new(router);
    for life in lives {
        let cut = life.cut.expect("it has ended");
        for shard in 0..router.shards() {
            let mut replay = Replay::<A>::new(router);
            life.read(shard, |batch| {
                let put = |home: usize, changes: &mut Vec<_>| homes[home].apply(changes.drain(..));
                let applied = replay.apply(batch, Epoch(0), cut, put);
                applied.unwrap_or_else(|error| panic!("a bench cannot read what it wrote: {error:?}"));
            });
            all.follow(replay);
        }
    }
    (homes, all.finish())
}

/// The logs of a bench, of all its lives.
pub(super) struct Logs<A: Actor> {
    pub(super) codec: Codec<A>,
    /// Reads the lives that have ended. Only `new` knows that states can be read.
    replay: fn(&[Life], Router) -> Survivors<A>,
    pub(super) durability: Arc<Durability>,
    lives: Vec<Life>,
    /// By shard: what its disk is writing.
    writing: Vec<Option<Write>>,
    next_send: u64,
}

impl<A: Actor> Logs<A> {
    pub(super) fn new(codec: Codec<A>) -> Self
    where
        A::State: DeserializeOwned,
    {
        Logs::empty(codec, replay::<A>)
    }

    fn empty(codec: Codec<A>, replay: fn(&[Life], Router) -> Survivors<A>) -> Self {
        let durability = Arc::new(Durability::new(1, Epoch(0)));
        Logs { codec, replay, durability, lives: Vec::new(), writing: Vec::new(), next_send: 0 }
    }

    /// Logs of the same types, with nothing in them.
    pub(super) fn emptied(&self) -> Self {
        Logs::empty(self.codec, self.replay)
    }

    /// Ends the life that there is, if there is one, and begins another with what is on the disks.
    pub(super) fn begin(&mut self, router: Router) -> Survivors<A> {
        let shards = router.shards();
        let mut latest = Epoch(0);
        if let Some(life) = self.lives.last_mut() {
            let surveys: Vec<Survey> = (0..shards)
                .map(|shard| {
                    let mut survey = Survey::default();
                    life.read(shard, |batch| {
                        survey.note(batch).expect("the disks of a bench damage nothing")
                    });
                    survey
                })
                .collect();
            let cut = last_complete(life.after, &surveys);
            life.cut = Some(cut);
            let closed = surveys.iter().filter_map(Survey::closed);
            latest = surveys
                .iter()
                .map(|survey| survey.latest)
                .chain(closed)
                .fold(cut.max(life.after), Epoch::max);
            self.next_send = surveys.iter().map(|survey| survey.next_send).fold(self.next_send, u64::max);
        }
        let survivors = (self.replay)(&self.lives, router);
        self.durability = Arc::new(Durability::new(shards, latest));
        self.writing = (0..shards).map(|_| None).collect();
        let disks = (0..shards).map(|_| Disk::new()).collect();
        self.lives.push(Life { number: self.lives.len() as u64 + 1, after: latest, cut: None, disks });
        survivors
    }

    /// What the log of a shard begins with in this life.
    pub(super) fn start(&self, shard: usize) -> LogStart<A> {
        LogStart {
            codec: self.codec,
            ack: Ack::Durable,
            first: self.life().first_segment(shard),
            segment_bytes: SEGMENT_BYTES,
            first_send: self.next_send,
            durability: self.durability.clone(),
        }
    }

    fn life(&self) -> &Life {
        self.lives.last().expect("a life has begun")
    }

    /// Gives a disk what its shard has for it.
    pub(super) fn write(&mut self, shard: usize, write: Write) {
        let before = self.writing[shard].replace(write);
        assert!(before.is_none(), "one write at a time");
    }

    pub(super) fn is_writing(&self, shard: usize) -> bool {
        self.writing[shard].is_some()
    }

    /// A disk has written what it was given.
    pub(super) fn complete(&mut self, at: usize, shard: &mut Shard<A>) {
        let Some(Write { segment, offset, batch, .. }) = self.writing[at].take() else { return };
        let life = self.lives.last_mut().expect("a life has begun");
        let file = life.disks[at].entry(segment).or_insert_with(|| vec![0; SEGMENT_BYTES]);
        let bytes = batch.sealed();
        file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        shard.written(batch);
    }
}
