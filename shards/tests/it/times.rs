//! Messages that wait for a time of the wall clock, which goes on while the process is down; and
//! messages that are told to more than a queue has room for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use freehold_shard::testing::Bench;
use freehold_shard::*;
use serde::{Deserialize, Serialize};

struct Auctions;

/// What an auction has heard, and the timer that ends it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Auction {
    heard: Vec<u64>,
    timer: Option<TimerId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    /// Hears 1 so many hours after the beginning of 1970, and 2 after so many of the database.
    Open(u64, u64, u64),
    /// Takes the first back.
    Extend(u64),
    Hear(u64, u64),
    /// Tells so many others two numbers each, and fails, if it is to.
    Announce(u64, u64, bool),
}

const HOUR: Duration = Duration::from_secs(3600);

impl Actor for Auctions {
    type Id = u64;
    type State = Auction;
    type Message = Message;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        let (Message::Open(id, ..) | Message::Extend(id) | Message::Hear(id, _) | Message::Announce(id, ..)) =
            message;
        to.write(*id);
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        match *message {
            Message::Open(id, at, after) => {
                let at = SystemTime::UNIX_EPOCH + at as u32 * HOUR;
                let timer = objects.tell_at(at, Message::Hear(id, 1))?;
                objects.tell_after(after as u32 * HOUR, Message::Hear(id, 2))?;
                objects.get_or_insert_with(id, Auction::default)?.timer = Some(timer);
            }
            Message::Extend(id) => {
                if let Some(timer) = objects.get_mut(id)?.and_then(|auction| auction.timer.take()) {
                    objects.cancel(timer)?;
                }
            }
            Message::Hear(id, what) => {
                objects.get_or_insert_with(id, Auction::default)?.heard.push(what);
            }
            Message::Announce(id, to, fails) => {
                let all = (1..=to).map(|nth| id + nth);
                objects.publish(all.flat_map(|to| [Message::Hear(to, 3), Message::Hear(to, 4)]))?;
                if fails {
                    return Err(AccessError::Absent { id });
                }
            }
        }
        Ok(())
    }
}

fn heard(bench: &Bench<Auctions>, id: u64) -> &[u64] {
    bench.get(id).map_or(&[], |auction| &auction.heard)
}

#[test]
fn a_time_of_the_wall_clock_comes_while_nothing_runs_and_a_delay_does_not() {
    for seed in 0..10 {
        let shards = 1 + seed as usize % 3;
        let mut bench = Bench::<Auctions>::shards(shards).with_seed(seed).with_log();
        // By the wall clock in 2 hours or in 9, by the database's time in 5.
        (0..10).for_each(|id| assert_eq!(bench.ask(Message::Open(id, 2, 5)), Ok(())));
        (10..20).for_each(|id| assert_eq!(bench.ask(Message::Open(id, 9, 5)), Ok(())));
        assert_eq!(bench.timers(), 40);
        bench.pass(HOUR);
        bench.crash_for(HOUR / 2);
        assert!((0..20).all(|id| heard(&bench, id).is_empty()), "an hour and a half");
        // One that is over when it is set.
        assert_eq!(bench.ask(Message::Open(20, 1, 100)), Ok(()));
        assert_eq!(heard(&bench, 20), [1], "at once");
        bench.pass(HOUR / 2);
        assert!((0..10).all(|id| heard(&bench, id) == [1]), "two hours, of which the database ran one");
        // What is taken back does not come, whichever run set it.
        (10..15).for_each(|id| assert_eq!(bench.ask(Message::Extend(id)), Ok(())));
        bench.crash_for(10 * HOUR);
        assert!((10..15).all(|id| heard(&bench, id).is_empty()));
        assert!((15..20).all(|id| heard(&bench, id) == [1]), "it was over when this run began");
        bench.pass(4 * HOUR);
        assert!((0..10).all(|id| heard(&bench, id) == [1, 2]), "the database has run five hours and a half");
        assert!((10..15).all(|id| heard(&bench, id) == [2]));
        assert_eq!(bench.timers(), 1);
    }
}

#[test]
fn timers_of_both_clocks_come_in_their_order() {
    let mut bench = Bench::<Auctions>::shards(1);
    assert_eq!(bench.ask(Message::Open(1, 2, 1)), Ok(()));
    assert_eq!(bench.ask(Message::Open(1, 3, 4)), Ok(()));
    for heard_by_then in [&[][..], &[2], &[2, 1], &[2, 1, 1], &[2, 1, 1, 2]] {
        assert_eq!(heard(&bench, 1), heard_by_then);
        bench.pass(HOUR);
    }
    // Before 1970, and beyond all clocks.
    assert_eq!(Time(5).wall_clock(), None);
    assert_eq!(Time(u64::MAX).wall_clock().map(|since| since.as_secs() / (3600 * 24 * 365)), Some(292));
}

/// A publisher with more subscribers than its queues had room was undone, however often it tried.
#[test]
fn what_is_published_to_more_than_the_queues_hold_goes_in_slices() {
    let limits = Limits { own_messages_max: 10, outbox_messages_max: 10, ..Limits::default() };
    Bench::<Auctions>::explore(0..10, |bench| {
        let mut bench = Bench::<Auctions>::shards(1 + bench.seed() as usize % 4).with_limits(limits);
        assert!(bench.ask(Message::Announce(0, 1000, true)).is_err());
        assert_eq!((bench.timers(), bench.snapshot().len()), (0, 0), "nothing of it is left");
        assert_eq!(bench.ask(Message::Announce(0, 1000, false)), Ok(()));
        assert!((1..=1000).all(|id| heard(&bench, id) == [3, 4]), "each once, in the order told");
        assert_eq!(bench.timers(), 0);
    });
    let limits = Limits { timers_max: 100, ..limits };
    let mut bench = Bench::<Auctions>::shards(1).with_limits(limits);
    let refused = AskError::Aborted(AccessError::NoRoom { waiting: 100 });
    assert_eq!(bench.ask(Message::Announce(0, 1000, false)), Err(refused));
    assert_eq!((bench.timers(), bench.snapshot().len()), (0, 0));
    assert_eq!(bench.ask(Message::Announce(0, 55, false)), Ok(()));
    assert!((1..=55).all(|id| heard(&bench, id) == [3, 4]));
}

/// What a publisher found no room for was due when it was told. A runtime that stopped had stopped
/// its timers before, and such messages were lost.
#[test]
fn what_is_published_while_the_runtime_stops_goes_too() {
    let limits = Limits { own_messages_max: 10, ..Limits::default() };
    let router = Router::new(PlacementKey(1), 1);
    let mut shard =
        Shard::<Auctions, NoPrefetch>::new(ShardIndex(0), router, limits, 7, Arc::new(Mvcc::new(1)));
    let (mut inbox, mut effects) = (Inbox::new(), Effects::new(1));
    let message = Message::Announce(0, 100, false);
    let answer_to = ReturnAddress::Outside { slot: 0, generation: 0 };
    inbox.envelopes.push(Envelope::Message { message, sender: OwnerId(0), answer_to });
    shard.stop_timers();
    (1..50).for_each(|turn| shard.turn(Time(turn * 1000), &mut inbox, &mut effects));
    assert_eq!(shard.timers(), 0);
    let heard: Vec<_> = shard.objects().map(|(_, _, auction)| auction.heard.clone()).collect();
    assert_eq!(heard, vec![vec![3, 4]; 100]);
}
