//! Actions on a bench: performed in any order with whatever else goes on, and over crashes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use freehold_shard::log::SegmentId;
use freehold_shard::testing::Bench;
use freehold_shard::*;
use serde::{Deserialize, Serialize};

/// Counters, to which something outside adds.
struct Remote;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Message {
    /// Has one added to both, so many times, then fails, if it is to.
    Begin(u64, u64, u64, bool),
    /// The action, told as the message of this number.
    Add(u64, u64, u64),
    /// Its outcome.
    Added(u64, u64),
    /// Has this performed, which is no action.
    Mistake(u64),
}

impl Actor for Remote {
    type Id = u64;
    type State = u64;
    type Message = Message;
    type Reply = Vec<ActionId>;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Begin(a, b, ..) | Message::Added(a, b) => {
                to.write(a);
                to.write(b);
            }
            Message::Add(..) => {}
            Message::Mistake(a) => to.write(a),
        }
    }

    fn is_action(message: &Message) -> bool {
        matches!(message, Message::Add(..))
    }

    fn receive(
        message: &Message,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Vec<ActionId>, AccessError<u64>> {
        match *message {
            Message::Begin(a, b, times, fails) => {
                let ids = (0..times).map(|nth| objects.perform(Message::Add(a, b, nth)));
                let ids = ids.collect::<Result<_, _>>()?;
                if fails { Err(AccessError::Absent { id: a }) } else { Ok(ids) }
            }
            Message::Add(..) => panic!("an action is not for objects"),
            Message::Added(a, b) => {
                for id in [a, b] {
                    *objects.get_or_insert_with(id, || 0)? += 1;
                }
                Ok(Vec::new())
            }
            Message::Mistake(_) => objects.perform(message.clone()).map(|id| vec![id]),
        }
    }
}

type Performed = Rc<RefCell<BTreeMap<ActionId, Message>>>;

/// Somebody who performs actions, and keeps which: one number never means two actions.
fn performer(performed: &Performed) -> impl FnMut(ActionId, &Message) -> Message + 'static {
    let performed = performed.clone();
    move |id, message| {
        let Message::Add(a, b, _) = *message else { panic!("{message:?} is no action") };
        let before = performed.borrow_mut().insert(id, message.clone());
        assert!(before.is_none_or(|before| before == *message), "{id} is two actions");
        Message::Added(a, b)
    }
}

#[test]
fn each_action_of_a_message_that_took_effect_ends_once() {
    Bench::<Remote>::explore(0..20, |bench| {
        let performed = Performed::default();
        let shards = 1 + (bench.seed() % 4) as usize;
        let mut bench =
            Bench::<Remote>::shards(shards).with_seed(bench.seed()).with_performer(performer(&performed));
        let begin = |nth: u64| Message::Begin(nth % 5, 5 + nth % 7, nth % 4, nth.is_multiple_of(6));
        let begun: Vec<ActionId> =
            bench.ask_all((0..60).map(begin)).into_iter().flatten().flatten().collect();
        let ids: BTreeSet<_> = begun.iter().copied().collect();
        assert_eq!(ids.len(), begun.len(), "each has a number of its own");
        assert_eq!(ids, performed.borrow().keys().copied().collect(), "those, and none of a refused message");
        let sum: u64 = bench.objects().map(|(_, _, count)| *count).sum();
        assert_eq!(sum, 2 * begun.len() as u64);
    });
}

#[test]
fn an_action_outlives_a_crash_and_its_outcome_counts_once() {
    let mut again = 0;
    for seed in 0..30 {
        let performed = Performed::default();
        let runs = Rc::new(RefCell::new(0));
        let (mut perform, counts) = (performer(&performed), runs.clone());
        let mut bench = Bench::<Remote>::shards(1 + seed as usize % 3)
            .with_seed(seed)
            .with_log()
            .with_performer(move |id, message| {
                *counts.borrow_mut() += 1;
                perform(id, message)
            });
        for round in 0..3 {
            let begin = |nth: u64| Message::Begin(nth % 5, 5 + (nth + round) % 7, 1 + nth % 3, false);
            for outcome in bench.crash_while((0..20).map(begin)) {
                assert!(matches!(outcome, Ok(_) | Err(AskError::Unknown)), "{outcome:?}");
            }
        }
        // What was performed was told by a message that is durable, so it counts; and once.
        let sum: u64 = bench.objects().map(|(_, _, count)| *count).sum();
        assert_eq!(sum, 2 * performed.borrow().len() as u64, "seed {seed}");
        again += *runs.borrow() - performed.borrow().len();
    }
    assert!(again > 0, "some crash came between an action and its outcome");
}

#[test]
fn perform_is_refused_without_a_performer_or_an_action_or_room() {
    let mut bench = Bench::<Remote>::shards(2);
    let refused = |error| Err(AskError::Aborted(error));
    assert_eq!(bench.ask(Message::Begin(1, 2, 1, false)), refused(AccessError::NoPerformer));
    assert_eq!(bench.ask(Message::Mistake(1)), refused(AccessError::NotAnAction));
    assert_eq!(bench.ask(Message::Add(1, 2, 3)), Err(AskError::Unaddressed));
    let performed = Performed::default();
    let limits = Limits { actions_owed_max: 3, ..Limits::default() };
    let mut bench = Bench::<Remote>::shards(2).with_limits(limits).with_performer(performer(&performed));
    assert_eq!(bench.ask(Message::Begin(1, 2, 4, false)), refused(AccessError::NoRoom { waiting: 3 }));
    assert!(performed.borrow().is_empty() && bench.snapshot().is_empty(), "nothing of it is left");
    // Those that end make room.
    for times in 1..10 {
        assert!(bench.ask(Message::Begin(1, 2, 3, false)).is_ok());
        assert_eq!(bench.get(1), Some(&(3 * times)));
    }
}

/// Which of the actions of its message an action is.
fn nth(action: &BegunAction<Remote>) -> u64 {
    match action.message {
        Message::Add(.., nth) => nth,
        ref other => panic!("{other:?} is no action"),
    }
}

#[test]
fn actions_begin_in_their_order_and_one_that_has_no_outcome_waits_behind_the_others() {
    let limits = Limits { actions_owed_max: 5, ..Limits::default() };
    let (router, mvcc) = (Router::new(PlacementKey(1), 1), Arc::new(Mvcc::new(1)));
    let mut shard: Shard<Remote> = Shard::new(ShardIndex(0), router, limits, 1, mvcc).with_performer();
    // A log has two.
    for (number, nth) in [(1, 10), (2, 11)] {
        shard.restore_send(SendId(number), OwnerId(0), None, Message::Add(1, 2, nth), &[]);
    }
    let (mut inbox, mut effects) = (Inbox::new(), Effects::new(1));
    let mut ask = |shard: &mut Shard<Remote>, times| {
        inbox.envelopes.push(Envelope::Message {
            message: Message::Begin(1, 2, times, false),
            sender: OwnerId(0),
            answer_to: ReturnAddress::Outside { slot: 0, generation: 0 },
        });
        shard.turn(Time(0), &mut inbox, &mut effects);
        effects.answers.pop().expect("it is answered").1
    };
    let no_room = Err(AskError::Aborted(AccessError::NoRoom { waiting: 5 }));
    assert_eq!(ask(&mut shard, 4), no_room, "those of the log are owed, too");
    assert!(ask(&mut shard, 3).is_ok());
    let mut begin = || shard.begin_action().expect("there are some");
    let (first, second) = (begin(), begin());
    assert_eq!((nth(&first), nth(&second), shard.actions()), (10, 11, (3, 2)));
    shard.put_action_back(first);
    assert_eq!(ask(&mut shard, 1), no_room, "what has begun is owed until it ends");
    let order: Vec<_> = std::iter::from_fn(|| shard.begin_action()).map(|begun| nth(&begun)).collect();
    assert_eq!((order, shard.actions()), (vec![0, 1, 2, 10], (0, 5)));
}

/// A message of an earlier run that may end the process is looked at alone.
#[test]
fn no_action_begins_while_a_message_is_looked_at_alone() {
    let (router, durability) = (Router::new(PlacementKey(1), 1), Arc::new(Durability::new(1, Epoch(0))));
    let mvcc = Arc::new(Mvcc::logged(1, durability.clone()));
    let shard: Shard<Remote> = Shard::new(ShardIndex(0), router, Limits::default(), 1, mvcc);
    let mut shard = shard.with_performer().with_log(LogStart {
        codec: Codec::new(),
        ack: Ack::Durable,
        first: SegmentId { database: 1, log: 0, segment: 0, start: 2 },
        segment_bytes: 64 << 10,
        first_send: 2,
        durability,
    });
    let action = Message::Add(1, 2, 0);
    let bytes = postcard::to_allocvec(&action).expect("it can be written");
    shard.restore_send(SendId(1), OwnerId(0), None, action, &bytes);
    shard.hold_resumed(true);
    assert!(shard.begin_action().is_none());
    shard.hold_resumed(false);
    assert!(shard.begin_action().is_some());
}
