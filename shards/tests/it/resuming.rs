//! A shard runs what an earlier run left owed, some messages at a time, and says when it has come
//! to rest.

use std::sync::Arc;

use freehold_shard::log::SegmentId;
use freehold_shard::*;
use serde::{Deserialize, Serialize};

struct Counts;

#[derive(Serialize, Deserialize)]
struct Add(u64);

impl Actor for Counts {
    type Id = u64;
    type State = u64;
    type Message = Add;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Add, to: &mut Addressees<u64>) {
        to.write(message.0);
    }

    fn receive(message: &Add, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        *objects.get_or_insert_with(message.0, || 0)? += 1;
        Ok(())
    }
}

/// Messages that are owed wait for the disk of the shard where those before them run. Their own
/// shard has then nothing to run and nothing to write. It was taken for idle, and a runtime that
/// was shut down right after its start said that it had drained, with messages left in the log.
#[test]
fn a_shard_has_not_come_to_rest_while_it_resumes() {
    const OWED: u64 = 100;
    let durability = Arc::new(Durability::new(2, Epoch(0)));
    let mvcc = Arc::new(Mvcc::<Counts>::logged(2, durability.clone()));
    let router = Router::new(PlacementKey(1), 2);
    let mut shards = [0, 1].map(|at| {
        Shard::<Counts>::new(ShardIndex(at), router, Limits::default(), 0, mvcc.clone()).with_log(LogStart {
            codec: Codec::new(),
            ack: Ack::Durable,
            first: SegmentId { database: 1, log: u64::from(at), segment: 0, start: 2 },
            segment_bytes: 64 << 10,
            first_send: 2 * OWED,
            durability: durability.clone(),
        })
    });
    let there = (0..).find(|id| router.home(id) == ShardIndex(1)).expect("some live there");
    for number in 0..OWED {
        // Even numbers are the first shard's.
        let bytes = postcard::to_allocvec(&Add(there)).expect("it can be written");
        shards[0].restore_send(SendId(2 * number), OwnerId(0), None, Add(there), &bytes);
    }
    let mut inboxes = [Inbox::new(), Inbox::new()];
    let mut effects = [Effects::new(2), Effects::new(2)];
    let mut rounds = 0;
    while !shards[0].has_come_to_rest() {
        rounds += 1;
        assert!(rounds < 10, "it comes to rest");
        assert!(shards[0].take_resumed(Time(0)), "more may run: what was under way is on disk");
        shards[0].run_resumed(&mut effects[0]);
        // There and back.
        for (from, to) in [(0, 1), (1, 0)] {
            shards[from].turn(Time(0), &mut inboxes[from], &mut effects[from]);
            shards[from].release(&mut effects[from]);
            inboxes[to].envelopes.extend(effects[from].outboxes[to].drain(..));
        }
        shards[0].turn(Time(0), &mut inboxes[0], &mut effects[0]);
        shards[0].release(&mut effects[0]);
        assert!(shards[0].is_log_idle(), "nothing is to be written here");
        assert!(!shards[0].has_come_to_rest(), "the other shard's disk has nothing of it");
        assert!(!shards[0].take_resumed(Time(0)), "so no more may run");
        while let Some(write) = shards[1].next_write(Time(0)) {
            shards[1].written(write.batch);
            shards[1].release(&mut effects[1]);
        }
        shards[0].release(&mut effects[0]);
    }
    assert!(rounds > 1, "they do not all run at once");
    let (_, _, count) = shards[1].objects().find(|(id, ..)| *id == there).expect("it is there");
    assert_eq!(*count, OWED);
}
