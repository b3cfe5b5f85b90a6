//! Which segments of its log a shard lets go of when there is a checkpoint.

use std::sync::Arc;

use freehold_shard::log::SegmentId;
use freehold_shard::*;
use serde::{Deserialize, Serialize};

struct Blobs;

#[derive(Serialize, Deserialize)]
struct Put(u64, u32);

impl Actor for Blobs {
    type Id = u64;
    type State = Vec<u8>;
    type Message = Put;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Put, to: &mut Addressees<u64>) {
        to.write(message.0);
    }

    fn receive(message: &Put, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        objects.insert(message.0, vec![7; message.1 as usize]).map(drop)
    }
}

/// A segment was let go of when all its records were older than the checkpoint, though a batch in
/// it closed a later epoch, and the batch that came next, in the next segment, was still being
/// written. When that write failed, or the power did, nothing in the log said any more that the
/// epoch was closed. Another shard had closed it too, awaiting this one, and its clients had been
/// answered; at the next start the epoch counted as incomplete, and the directory was refused as
/// damaged.
#[test]
fn a_segment_is_kept_while_it_closes_an_epoch_that_no_checkpoint_holds() {
    let durability = Arc::new(Durability::new(2, Epoch(0)));
    let mvcc = Arc::new(Mvcc::<Blobs>::logged(2, durability.clone()));
    let router = Router::new(PlacementKey(1), 2);
    let mut shard =
        Shard::new(ShardIndex(0), router, Limits::default(), 0, mvcc.clone()).with_log(LogStart {
            codec: Codec::new(),
            ack: Ack::Durable,
            first: SegmentId { database: 1, log: 0, segment: 0, start: 2 },
            segment_bytes: 64 << 10,
            first_send: 0,
            durability,
        });
    let (mut inbox, mut effects) = (Inbox::new(), Effects::new(2));
    let id = (0..).find(|id| router.home(id) == ShardIndex(0)).expect("some live there");
    let mut put = |shard: &mut Shard<Blobs, NoPrefetch>, bytes| {
        let (sender, answer_to) = (OwnerId(0), ReturnAddress::Nobody);
        inbox.envelopes.push(Envelope::Message { message: Put(id, bytes), sender, answer_to });
        shard.turn(Time(0), &mut inbox, &mut effects);
    };
    put(&mut shard, 40_000);
    let before = mvcc.epochs().epoch();
    let checkpoint = mvcc.epochs().open(Time(0));
    assert_eq!(checkpoint, before.next());
    // Another shard ends that epoch as well, before this one writes.
    mvcc.epochs().advance(checkpoint);
    let first = shard.next_write(Time(0)).expect("there is something to write");
    shard.written(first.batch);
    put(&mut shard, 40_000);
    let second = shard.next_write(Time(0)).expect("there is something to write");
    assert_eq!((first.segment, second.segment), (0, 1));
    let needed =
        |shard: &mut Shard<Blobs, NoPrefetch>, epoch| shard.trim_log(epoch).map(|begun| begun.segment);
    // And a manifest once named a segment as the first that is needed which was still being made:
    // the batch that begins it had been sealed, and its write waited for the file. After a crash
    // then the file was missing, and the directory could not be opened.
    assert_eq!(needed(&mut shard, checkpoint.next()), Some(0), "nothing of the second is on disk");
    shard.written(second.batch);
    assert_eq!(needed(&mut shard, checkpoint), Some(0), "it closed the epoch {checkpoint}");
    assert_eq!(needed(&mut shard, checkpoint.next()), Some(1));
}
