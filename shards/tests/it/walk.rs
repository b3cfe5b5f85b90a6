//! A checkpoint's walk step by step: what is written while it is under way, and what is kept for it
//! meanwhile.

use std::collections::BTreeMap;

use crate::rig::{Message, Rig};
use freehold_shard::log::{Bounds, SegmentId, Tail};
use freehold_shard::part::{PartError, PartWriter};
use freehold_shard::record::Record;
use freehold_shard::recovery::LogReader;
use freehold_shard::*;

const ID: SegmentId = SegmentId { database: 1, log: 0, segment: 0, start: 0 };
const BOUNDS: Bounds = Bounds::of_segments(1 << 20);

fn part() -> PartWriter {
    PartWriter::new(ID, BOUNDS, usize::MAX)
}

/// One shard with ten accounts of 100, in ten slots.
fn ten() -> Rig {
    let mut rig = Rig::new(1);
    (0..10).for_each(|account| _ = rig.ask(Message::Add(account, 100)).expect("it opens"));
    rig
}

/// The walk of a checkpoint through the only shard there is, and what it has written.
struct Walk {
    snapshot: Epoch,
    from: Option<u32>,
    wrote: BTreeMap<u64, Vec<i64>>,
}

impl Walk {
    fn begin(rig: &mut Rig) -> Walk {
        let snapshot = rig.mvcc.epochs().begin_checkpoint();
        rig.shards[0].enter();
        assert!(rig.shards[0].has_closed(snapshot));
        Walk { snapshot, from: Some(0), wrote: BTreeMap::new() }
    }

    /// One slice of it. Says where it goes on.
    fn go_on(&mut self, rig: &mut Rig, most: usize) -> Option<u32> {
        let mut part = part();
        let from = self.from.expect("it has not come to its end");
        let shard = &mut rig.shards[0];
        let walked = shard.checkpoint_objects(&Codec::new(), self.snapshot, from, most, &mut part, || true);
        self.from = walked.expect("it is under way");
        while let Some(bytes) = part.last_batch() {
            let each = |batch: log::LogBatch<'_>| {
                for record in batch.records() {
                    let Some(Record::Put { id, state, .. }) = Record::read(record) else {
                        panic!("a checkpoint has objects")
                    };
                    let id = id.decode().expect("an id");
                    let state = state.decode().expect("an amount");
                    self.wrote.entry(id).or_default().push(state);
                }
            };
            LogReader::new(ID, BOUNDS, Tail::default()).read(bytes, each).expect("it was just written");
        }
        self.from
    }
}

fn kept(rig: &mut Rig) -> (u64, usize) {
    // Nothing goes before a turn.
    rig.turn(0);
    (rig.shards[0].counters().versions, rig.shards[0].checkpoint_backlog())
}

/// All that was overwritten since a checkpoint began was kept until it ended, or until there was so
/// much that it was revoked.
#[test]
fn what_is_overwritten_is_kept_until_it_is_written_and_no_longer() {
    let mut rig = ten();
    let mut walk = Walk::begin(&mut rig);
    // Ahead of the walk: the first write of an object counts.
    for _ in 0..3 {
        rig.ask(Message::Add(1, 1)).expect("it is there");
        rig.ask(Message::Add(9, 1)).expect("it is there");
    }
    assert_eq!(kept(&mut rig), (2, 2));
    // That comes first.
    assert_eq!(walk.go_on(&mut rig, 2), Some(0));
    assert_eq!(walk.wrote, BTreeMap::from([(1, vec![100]), (9, vec![100])]));
    assert_eq!(kept(&mut rig), (0, 0));
    assert_eq!(walk.go_on(&mut rig, 5), Some(5));
    // Behind the walk.
    (0..5).for_each(|account| _ = rig.ask(Message::Add(account, 1)).expect("it is there"));
    assert_eq!(kept(&mut rig), (0, 0));
    // Objects that go and come, in slots behind and ahead.
    rig.ask(Message::Remove(0, 6)).expect("they are there");
    rig.ask(Message::Add(20, 7)).expect("it opens");
    rig.ask(Message::Add(21, 7)).expect("it opens");
    rig.ask(Message::Add(22, 7)).expect("it opens");
    rig.ask(Message::Add(6, 8)).expect("it opens");
    assert_eq!(kept(&mut rig), (1, 1));
    assert_eq!(walk.go_on(&mut rig, 1), Some(5));
    assert_eq!(walk.go_on(&mut rig, 100), Some(12));
    assert_eq!(walk.go_on(&mut rig, 100), None);
    assert_eq!(walk.wrote, (0..10).map(|account| (account, vec![100])).collect());
    // At its end it is behind all there is, and all that comes.
    (5..60).for_each(|account| _ = rig.ask(Message::Add(account, 1)).expect("it is there"));
    assert_eq!(kept(&mut rig), (0, 0));
}

/// A snapshot that is open at the same time has its versions, by its own rules. What the checkpoint
/// needs of them it gets, when it comes to them or when the snapshot needs them no more.
#[test]
fn snapshots_and_a_checkpoint_each_keep_what_they_need() {
    let mut rig = ten();
    let older = rig.mvcc.epochs().open(Time(0));
    rig.ask(Message::Add(1, 1)).expect("it is there");
    let mut walk = Walk::begin(&mut rig);
    let newer = rig.mvcc.epochs().open(Time(0));
    for account in [1, 2, 7, 8] {
        rig.ask(Message::Add(account, 10)).expect("it is there");
    }
    assert_eq!(kept(&mut rig), (5, 0), "two of the first, one each of the others");
    // From its version.
    walk.go_on(&mut rig, 3);
    assert_eq!(walk.wrote, BTreeMap::from([(0, vec![100]), (1, vec![101]), (2, vec![100])]));
    rig.mvcc.epochs().close(older);
    assert_eq!(kept(&mut rig), (4, 0));
    // What nobody else needs any more is put aside if it is ahead.
    rig.mvcc.epochs().close(newer);
    assert_eq!(kept(&mut rig), (2, 2));
    // A snapshot that comes later needs what was written since the checkpoint began, and the
    // checkpoint does not.
    let later = rig.mvcc.epochs().open(Time(0));
    for account in [7, 8, 9] {
        rig.ask(Message::Add(account, 100)).expect("it is there");
    }
    assert_eq!(kept(&mut rig), (5, 2));
    while walk.go_on(&mut rig, 4).is_some() {}
    let expected = |account| (account, vec![if account == 1 { 101 } else { 100 }]);
    assert_eq!(walk.wrote, (0..10).map(expected).collect());
    rig.mvcc.epochs().close(later);
    assert_eq!(kept(&mut rig), (0, 0), "the walk has passed them");
}

#[test]
fn a_checkpoint_that_is_given_up_leaves_nothing() {
    let mut rig = ten();
    let walk = Walk::begin(&mut rig);
    rig.ask(Message::Add(3, 1)).expect("it is there");
    rig.mvcc.epochs().end_checkpoint(walk.snapshot);
    rig.shards[0].enter();
    assert!(rig.shards[0].has_garbage());
    assert_eq!(kept(&mut rig), (0, 0));
    assert!(!rig.shards[0].has_garbage());
    let walked = rig.shards[0].checkpoint_objects(&Codec::new(), walk.snapshot, 0, 10, &mut part(), || true);
    assert_eq!(walked, Err(PartError::Expired));
    // Nor does it confuse the next.
    let _ = Walk::begin(&mut rig);
    rig.ask(Message::Add(4, 1)).expect("it is there");
    rig.mvcc.epochs().end_checkpoint(rig.mvcc.epochs().epoch());
    let mut next = Walk::begin(&mut rig);
    rig.ask(Message::Add(4, 1)).expect("it is there");
    while next.go_on(&mut rig, 3).is_some() {}
    let expected = |account| (account, vec![if account == 3 || account == 4 { 101 } else { 100 }]);
    assert_eq!(next.wrote, (0..10).map(expected).collect());
}
