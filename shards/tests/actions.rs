//! Actions on a bench: performed in any order with whatever else goes on, and over crashes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

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
