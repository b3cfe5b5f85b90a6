//! Turns: order, stages, timers, what is told, and messages that came to the wrong place.

use std::cell::Cell;
use std::time::Duration;

use freehold_shard::*;

/// Appends to lists; a list's elements are what was appended, in order.
struct Lists;

#[derive(Clone, Debug, PartialEq)]
enum Message {
    Append(u64, u32),
    /// Removes the list and says how long it was.
    Take(u64),
    Both(u64, u64),
    /// Appends to the first list, and tells the second to append the same.
    Forward(u64, u64, u32),
    Later(u64, Duration, u32),
    Flood(u64, u32),
    Nobody,
    Many(u64),
}

/// The list, and ballast in the slot itself: 400 of them, 13 MB, are no longer cached, and turns
/// work in stages.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct List {
    elements: Vec<u32>,
    #[serde(skip, default = "ballast")]
    _ballast: [u64; 4096],
}

fn ballast() -> [u64; 4096] {
    [0; 4096]
}

impl Actor for Lists {
    type Id = u64;
    type State = List;
    type Message = Message;
    type Reply = Vec<u32>;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Append(id, _)
            | Message::Take(id)
            | Message::Forward(id, ..)
            | Message::Later(id, ..)
            | Message::Flood(id, _) => to.write(id),
            Message::Both(a, b) => {
                to.write(a);
                to.write(b);
            }
            Message::Nobody => {}
            Message::Many(ids) => (0..ids).for_each(|id| to.read(id)),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Vec<u32>, AccessError<u64>> {
        let new = || List { elements: Vec::new(), _ballast: ballast() };
        match *message {
            Message::Append(id, element) => {
                let list = objects.get_or_insert_with(id, new)?;
                list.elements.push(element);
                Ok(list.elements.clone())
            }
            Message::Take(id) => Ok(objects.remove(id)?.map_or(Vec::new(), |list| list.elements)),
            Message::Both(a, b) => {
                objects.get_or_insert_with(a, new)?;
                objects.get_or_insert_with(b, new)?;
                Ok(Vec::new())
            }
            Message::Forward(id, other, element) => {
                objects.get_or_insert_with(id, new)?.elements.push(element);
                objects.tell(Message::Append(other, element))?;
                Ok(Vec::new())
            }
            Message::Later(id, delay, element) => {
                objects.tell_after(delay, Message::Append(id, element))?;
                Ok(Vec::new())
            }
            Message::Flood(id, messages) => {
                (0..messages).try_for_each(|element| objects.tell(Message::Append(id, element)))?;
                Ok(Vec::new())
            }
            Message::Nobody | Message::Many(_) => Ok(Vec::new()),
        }
    }
}

/// A message to shard 0 that nobody waits for.
fn message(message: Message) -> Envelope<Lists> {
    Envelope::Message { message, sender: OwnerId(0), answer_to: ReturnAddress::Nobody }
}

struct Rig {
    shard: Shard<Lists>,
    inbox: Inbox<Lists>,
    effects: Effects<Lists>,
}

impl Rig {
    fn new(shards: usize, limits: Limits) -> Self {
        Rig::of(ShardIndex(0), shards, limits)
    }

    fn on(shard: ShardIndex, shards: usize) -> Self {
        Rig::of(shard, shards, Limits::default())
    }

    fn of(shard: ShardIndex, shards: usize, limits: Limits) -> Self {
        let mvcc = std::sync::Arc::new(Mvcc::new(shards));
        let shard = Shard::new(shard, Router::new(PlacementKey(3), shards), limits, 1, mvcc);
        Rig { shard, inbox: Inbox::new(), effects: Effects::new(shards) }
    }

    fn turn(&mut self, at: u64) {
        self.shard.turn(Time(at), &mut self.inbox, &mut self.effects);
        assert!(self.inbox.envelopes.is_empty() && self.inbox.batches.is_empty(), "a turn drains its inbox");
    }

    fn ask(&mut self, message: Message) -> Outcome<Lists> {
        self.shard.ask_now(Time(0), OwnerId(0), &message, &mut self.effects)
    }

    fn elements(&self, id: u64) -> Vec<u32> {
        let found = self.shard.objects().find(|(found, ..)| *found == id);
        found.map_or(Vec::new(), |(_, _, list)| list.elements.clone())
    }
}

/// The ids at home on shard `home` of `shards`.
fn ids_on(home: u16, shards: usize) -> impl Iterator<Item = u64> {
    let router = Router::new(PlacementKey(3), shards);
    (0..).filter(move |id| router.home(id) == ShardIndex(home))
}

/// The `n`th of them.
fn id_on(home: u16, shards: usize, n: usize) -> u64 {
    ids_on(home, shards).nth(n).expect("ids do not run out")
}

#[test]
fn messages_run_in_the_order_they_arrived() {
    let mut rig = Rig::new(1, Limits::default());
    for round in 0..5 {
        for element in 0..100 {
            rig.inbox.envelopes.push(message(Message::Append(u64::from(element % 7), round * 100 + element)));
        }
        rig.turn(0);
    }
    for id in 0..7 {
        let elements = rig.elements(id);
        assert!(elements.is_sorted() && elements.len() >= 70, "list {id}: {elements:?}");
    }
}

// Large states: the same work in stages and one by one must come to the same, with objects that
// appear, vanish and reappear between being found and being run.
#[test]
fn stages_change_nothing() {
    let objects = if cfg!(miri) { 30 } else { 400 };
    let (mut staged, mut plain) = (Rig::new(1, Limits::default()), Rig::new(1, Limits::default()));
    for id in 0..objects {
        staged.ask(Message::Append(id, 0)).expect("an append succeeds");
        plain.ask(Message::Append(id, 0)).expect("an append succeeds");
    }
    let mut dice = 1_u64;
    let mut script = Vec::new();
    for element in 0..if cfg!(miri) { 200 } else { 3_000 } {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Few ids, so that a message often meets one that the messages just before it touched.
        let id = (dice >> 40) % 12;
        script.push(if dice >> 60 < 6 { Message::Take(id) } else { Message::Append(id, element) });
    }
    let expected: Vec<_> = script.iter().map(|message| plain.ask(message.clone())).collect();
    let entries = script.into_iter().map(BatchEntry::Waiting).collect();
    staged.inbox.batches.push(Batch { sender: OwnerId(0), entries, tag: 0 });
    staged.turn(0);
    let batch = staged.effects.batches.pop().expect("the batch comes back");
    for (at, (entry, expected)) in batch.entries.into_iter().zip(expected).enumerate() {
        let BatchEntry::Answered(outcome) = entry else { panic!("entry {at} was not answered") };
        assert_eq!(outcome, expected, "entry {at}");
    }
    for id in 0..12 {
        assert_eq!(staged.elements(id), plain.elements(id));
    }
}

thread_local! {
    static FETCHED: Cell<usize> = const { Cell::new(0) };
}

/// Counts what is fetched.
struct Counted;

impl Prefetch for Counted {
    fn prefetch<T>(_: &T, _: usize) {
        FETCHED.set(FETCHED.get() + 1);
    }
}

// A client that took its messages one by one waited for every line of memory: 6.8 million SmallBank
// transactions a second instead of 2.2, at a million customers.
#[test]
fn messages_about_to_run_are_fetched_for_if_the_objects_are_many_and_nothing_changes() {
    let objects = if cfg!(miri) { 170 } else { 400 };
    let mvcc = std::sync::Arc::new(Mvcc::new(1));
    let router = Router::new(PlacementKey(3), 1);
    let mut shard = Shard::<Lists, Counted>::new(ShardIndex(0), router, Limits::default(), 1, mvcc);
    let mut effects = Effects::new(1);
    let fetched_for = |shard: &mut Shard<Lists, Counted>, messages: &[Message]| {
        FETCHED.set(0);
        shard.prefetch(messages);
        FETCHED.get()
    };
    let append = |id| Message::Append(id, 1);
    shard.ask_now(Time(0), OwnerId(0), &append(0), &mut effects).expect("an append succeeds");
    assert_eq!(fetched_for(&mut shard, &[append(0)]), 0, "one object is cached");
    for id in 1..objects {
        shard.ask_now(Time(0), OwnerId(0), &append(id), &mut effects).expect("an append succeeds");
    }
    // Where the index has it, and where it is; what is not there has no place.
    assert_eq!(fetched_for(&mut shard, &[]), 0);
    assert_eq!(fetched_for(&mut shard, &[append(0), Message::Nobody, Message::Both(1, 2)]), 6);
    assert_eq!(fetched_for(&mut shard, &[append(objects), Message::Take(3)]), 3);
    let many: Vec<_> = (0..100).map(append).collect();
    assert_eq!(fetched_for(&mut shard, &many), 200);
    assert_eq!(shard.objects().count() as u64, objects);
    assert!(shard.objects().all(|(_, _, list)| list.elements == [1]), "a hint changes nothing");
}

// Of a transaction's objects those that live here, and are still to be found, are fetched like a
// message's: 1.2 to 1.3 times as many transactions over two shards of a million objects.
#[test]
fn what_transactions_lock_is_fetched_for_them() {
    let mut origin = Rig::new(2, Limits::default());
    let (here, there) = (id_on(0, 2, 0), id_on(1, 2, 0));
    let mvcc = std::sync::Arc::new(Mvcc::new(2));
    let router = Router::new(PlacementKey(3), 2);
    let mut shard = Shard::<Lists, Counted>::new(ShardIndex(1), router, Limits::default(), 1, mvcc);
    let (mut inbox, mut effects) = (Inbox::new(), Effects::new(2));
    let mut fetched_for_lock = |shard: &mut Shard<Lists, Counted>| {
        origin.inbox.envelopes.push(message(Message::Both(here, there)));
        origin.turn(0);
        inbox.envelopes.push(origin.effects.outboxes[1].pop_front().expect("it locks the list there, too"));
        FETCHED.set(0);
        shard.turn(Time(0), &mut inbox, &mut effects);
        let settled = effects.outboxes[0].pop_front().expect("its transaction goes back");
        let fetched = FETCHED.get();
        origin.inbox.envelopes.push(settled);
        origin.turn(0);
        fetched
    };
    assert_eq!(fetched_for_lock(&mut shard), 1, "its transaction");
    let mut others = Effects::new(2);
    for id in ids_on(1, 2).take(if cfg!(miri) { 170 } else { 400 }) {
        let put = Message::Append(id, 1);
        shard.ask_now(Time(0), OwnerId(0), &put, &mut others).expect("an append succeeds");
    }
    assert_eq!(fetched_for_lock(&mut shard), 3, "where the index has the list here, and the list");
}

// LOCKs and messages mixed in long turns come to the same in a partition that is worked in stages
// as in one that is not.
#[test]
fn stages_change_nothing_for_transactions() {
    let lists = |others: usize| {
        let (mut origin, mut rig) = (Rig::new(2, Limits::default()), Rig::on(ShardIndex(1), 2));
        for id in ids_on(1, 2).skip(12).take(others) {
            rig.ask(Message::Append(id, 0)).expect("an append succeeds");
        }
        let ids_here: Vec<_> = ids_on(0, 2).take(12).collect();
        let ids_there: Vec<_> = ids_on(1, 2).take(12).collect();
        let mut dice = 1_u64;
        for round in 0..if cfg!(miri) { 1 } else { 5 } {
            for element in 0..if cfg!(miri) { 30 } else { 100 } {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let there = ids_there[(dice >> 40) as usize % 12];
                let here = ids_here[(dice >> 50) as usize % 12];
                match dice >> 60 {
                    0..6 => {
                        origin.inbox.envelopes.push(message(Message::Both(here, there)));
                        origin.turn(round);
                        rig.inbox.envelopes.extend(origin.effects.outboxes[1].drain(..));
                    }
                    6..9 => rig.inbox.envelopes.push(message(Message::Take(there))),
                    _ => rig.inbox.envelopes.push(message(Message::Append(there, element))),
                }
            }
            // Until all transactions have ended: some waited for others.
            loop {
                rig.turn(round);
                origin.inbox.envelopes.extend(rig.effects.outboxes[0].drain(..));
                if origin.inbox.envelopes.is_empty() {
                    break;
                }
                origin.turn(round);
                rig.inbox.envelopes.extend(origin.effects.outboxes[1].drain(..));
            }
        }
        let lists: Vec<_> = ids_there.iter().map(|id| rig.elements(*id)).collect();
        (lists, rig.shard.objects().count() - others)
    };
    let plain = lists(0);
    assert!(plain.0.iter().any(|list| !list.is_empty()), "something is left");
    assert_eq!(lists(if cfg!(miri) { 170 } else { 400 }), plain);
}

#[test]
fn what_is_told_runs_in_the_next_turn_in_order() {
    let mut rig = Rig::new(1, Limits::default());
    for element in 0..3 {
        rig.inbox.envelopes.push(message(Message::Forward(1, 2, element)));
    }
    rig.turn(0);
    assert_eq!(rig.elements(1), [0, 1, 2]);
    assert_eq!(rig.elements(2), [0, 1, 2], "what was told in a turn is run at its end");
    assert_eq!((rig.shard.own_messages(), rig.shard.counters().told), (0, 3));
}

#[test]
fn what_is_told_to_another_shard_goes_into_its_outbox() {
    let mut rig = Rig::new(2, Limits::default());
    let (here, there) = (id_on(0, 2, 0), id_on(1, 2, 0));
    rig.ask(Message::Forward(here, there, 9)).expect("both lists have room");
    let sent = rig.effects.outboxes[1].pop_front();
    assert!(
        matches!(sent, Some(Envelope::Message { message: Message::Append(id, 9), answer_to: ReturnAddress::Nobody, .. }) if id == there)
    );
}

#[test]
fn a_message_that_tells_more_than_fits_is_undone() {
    let limits = Limits { own_messages_max: 10, outbox_messages_max: 10, timers_max: 1, ..Limits::default() };
    let mut rig = Rig::new(2, limits);
    let (here, there) = (id_on(0, 2, 0), id_on(1, 2, 0));
    for id in [here, there] {
        // Addressed to this shard, as its message is about `here`; it floods `id`.
        let flood = |messages| Message::Flood(id, messages);
        if id == there {
            assert_eq!(rig.ask(flood(1)), Err(AskError::Elsewhere { home: ShardIndex(1) }));
            continue;
        }
        assert_eq!(rig.ask(flood(11)), Err(AskError::Aborted(AccessError::NoRoom { waiting: 10 })));
        assert_eq!(rig.shard.own_messages(), 0, "nothing of it was sent");
        rig.ask(flood(10)).expect("ten fit");
        rig.turn(0);
    }
    for element in 0..10 {
        rig.ask(Message::Forward(here, there, element)).expect("there is room");
    }
    let before = rig.elements(here);
    assert_eq!(
        rig.ask(Message::Forward(here, there, 10)),
        Err(AskError::Aborted(AccessError::NoRoom { waiting: 10 }))
    );
    assert_eq!(rig.elements(here), before);
    rig.ask(Message::Later(here, Duration::ZERO, 0)).expect("one timer fits");
    assert_eq!(
        rig.ask(Message::Later(here, Duration::ZERO, 0)),
        Err(AskError::Aborted(AccessError::NoRoom { waiting: 1 }))
    );
}

#[test]
fn timers_fire_in_order_however_busy_the_shard() {
    let mut rig = Rig::new(1, Limits::default());
    for (delay, element) in [(30, 3), (10, 1), (20, 2), (10, 11)] {
        rig.ask(Message::Later(5, Duration::from_nanos(delay), element)).expect("there is room");
    }
    assert_eq!((rig.shard.timers(), rig.shard.next_timer()), (4, Some(Time(10))));
    for now in 0..40 {
        // Busy at every turn with another list.
        (0..50).for_each(|element| rig.inbox.envelopes.push(message(Message::Append(6, element))));
        rig.turn(now);
        let due = [10, 10, 20, 30].iter().filter(|&&due| due <= now).count();
        assert_eq!(rig.elements(5).len(), due, "at {now}");
    }
    assert_eq!(rig.elements(5), [1, 11, 2, 3]);
    assert_eq!((rig.shard.next_timer(), rig.shard.counters().timers_fired), (None, 4));
}

// 500,000 timers that came due together ran in one turn, of 426 ms. What a shard tells itself had
// no bound in a turn either.
#[test]
fn a_turn_is_bounded_and_what_is_left_keeps_its_order() {
    const MAX: usize = 10;
    let mut rig = Rig::new(1, Limits::default());
    rig.shard = rig.shard.with_turn_messages_max(MAX);
    for element in 0..95 {
        rig.ask(Message::Later(5, Duration::from_nanos(1), element)).expect("there is room");
    }
    let mut turns = 0;
    while rig.shard.next_timer().is_some() || rig.shard.own_messages() > 0 {
        let (fired, length) = (rig.shard.counters().timers_fired, rig.elements(5).len());
        rig.turn(1);
        turns += 1;
        assert!(rig.shard.counters().timers_fired - fired <= MAX as u64, "timers in turn {turns}");
        assert!(rig.elements(5).len() - length <= MAX, "messages in turn {turns}");
    }
    assert_eq!((turns, rig.elements(5)), (10, (0..95).collect::<Vec<_>>()));

    // What it tells itself in one turn.
    rig.ask(Message::Flood(6, 35)).expect("there is room");
    let mut turns = 0;
    while rig.shard.own_messages() > 0 {
        rig.turn(1);
        turns += 1;
    }
    assert_eq!((turns, rig.elements(6)), (4, (0..35).collect::<Vec<_>>()));
}

#[test]
fn stopped_timers_stay_but_those_that_are_due() {
    let mut rig = Rig::new(1, Limits::default());
    rig.ask(Message::Later(5, Duration::from_nanos(1), 1)).expect("there is room");
    rig.ask(Message::Later(5, Duration::ZERO, 2)).expect("there is room");
    rig.shard.stop_timers();
    assert!(rig.shard.next_timer().is_some());
    rig.turn(1_000);
    rig.turn(1_000);
    assert_eq!((rig.shard.next_timer(), rig.shard.timers(), rig.elements(5)), (None, 1, vec![2]));
}

#[test]
fn a_delay_beyond_time_never_ends() {
    assert_eq!(Time(5).after(Duration::MAX), Time(u64::MAX));
}

// The seed system sent what it did not know down the fast path.
#[test]
fn what_does_not_belong_here_is_refused_and_counted() {
    let mut rig = Rig::new(2, Limits::default());
    let (here, there) = (id_on(0, 2, 0), id_on(1, 2, 0));
    assert_eq!(rig.ask(Message::Nobody), Err(AskError::Unaddressed));
    assert_eq!(rig.ask(Message::Append(there, 1)), Err(AskError::Elsewhere { home: ShardIndex(1) }));
    assert_eq!(rig.ask(Message::Both(here, there)), Err(AskError::Busy), "a transaction does not run inline");
    assert_eq!(rig.ask(Message::Many(65)), Err(AskError::Aborted(AccessError::TooManyObjects { max: 64 })));
    assert_eq!(rig.shard.objects().count(), 0);
    let counters = rig.shard.counters();
    assert_eq!((counters.unaddressed, counters.elsewhere, counters.aborted, counters.fast), (1, 1, 1, 0));
}

#[test]
fn answers_go_where_they_are_awaited() {
    let mut rig = Rig::new(2, Limits::default());
    let here = id_on(0, 2, 0);
    let back = [
        ReturnAddress::Outside { slot: 4, generation: 2 },
        ReturnAddress::Shard { shard: ShardIndex(0), call: 8 },
        ReturnAddress::Shard { shard: ShardIndex(1), call: 9 },
        ReturnAddress::Nobody,
    ];
    for answer_to in back {
        let message = Message::Append(here, 1);
        rig.inbox.envelopes.push(Envelope::Message { message, sender: OwnerId(0), answer_to });
    }
    rig.inbox.envelopes.push(Envelope::Answer { call: 77, outcome: Ok(vec![5]) });
    rig.turn(0);
    let answers: Vec<_> = rig.effects.answers.drain(..).collect();
    let called = ReturnAddress::Shard { shard: ShardIndex(0), call: 77 };
    assert_eq!(answers, [(back[0], Ok(vec![1])), (back[1], Ok(vec![1, 1])), (called, Ok(vec![5]))]);
    let sent = rig.effects.outboxes[1].pop_front();
    assert!(matches!(sent, Some(Envelope::Answer { call: 9, outcome: Ok(elements) }) if elements.len() == 3));
}

#[test]
fn a_removed_object_leaves_nothing_behind() {
    let mut rig = Rig::new(1, Limits::default());
    let (rounds, ids) = if cfg!(miri) { (2, 20) } else { (10, 100) };
    for round in 0..rounds {
        for id in 0..ids {
            rig.ask(Message::Append(id, round)).expect("an append succeeds");
        }
        for id in 0..ids {
            assert_eq!(rig.ask(Message::Take(id)), Ok(vec![round]));
            assert_eq!(rig.ask(Message::Take(id)), Ok(vec![]));
        }
        rig.turn(0);
        assert_eq!((rig.shard.objects().count(), rig.shard.counters().objects), (0, 0));
    }
}
