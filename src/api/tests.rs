//! Asks that wait for room, and asks with deadlines, where a shard is held up.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use freehold_shard::{AccessError, Actor, Addressees, AskError, Objects, Outcome, ShardIndex};
use futures::{Stream, StreamExt};

use super::handle::Handle;
use crate::config::{Config, Shards};
use crate::held::hold_up;
use crate::log::LogConfig;
use crate::runtime::Runtime;
use crate::test_actor::{Accounts, Message};

/// The least there may be.
const INGRESS: usize = 16;
const SOON: Duration = Duration::from_millis(20);

fn start(config: Config) -> Runtime<Accounts> {
    let config = Config { shards: Shards::Count(1), ingress_entries_max: INGRESS, ..config };
    Runtime::start(config).expect("it starts")
}

fn add(coins: u64) -> Message {
    Message::Add { account: 1, coins }
}

fn coins(handle: &Handle<Accounts>) -> Outcome<Accounts> {
    handle.ask(Message::Count { account: 1 }).wait()
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Fills the ingress; each of these asks adds a coin.
fn fill(handle: &Handle<Accounts>) -> Vec<crate::Ask<Accounts>> {
    let asks: Vec<_> = (0..INGRESS).map(|_| handle.ask(add(1))).collect();
    assert_eq!(handle.ask(add(1000)).wait(), Err(AskError::Overloaded));
    asks
}

#[test]
fn a_message_that_finds_no_room_waits_and_runs_once() {
    let runtime = start(Config { asks_in_flight_max: 2 * INGRESS, ..Config::default() });
    let handle = runtime.handle();
    let held_up = hold_up(&runtime, ShardIndex(0));
    let filling = fill(&handle);
    (0..4 * INGRESS).for_each(|_| drop(handle.ask_waiting(add(1000))));
    let mut waiting = handle.ask_waiting(add(100));
    assert!(!waiting.is_sent());
    assert!(poll(&mut waiting).is_pending() && !waiting.is_sent());
    let (dropped, timed) = (handle.ask_waiting(add(1000)), handle.ask_waiting(add(1000)));
    drop(dropped);
    assert_eq!(timed.wait_timeout(SOON), Err(AskError::Overloaded), "it was never sent");
    let timed = handle.ask_waiting(add(1000)).until(ready(()));
    assert_eq!(futures::executor::block_on(timed), Err(AskError::Overloaded));
    // Only who still waits is to be woken: the others' wakers were kept until the shard went on.
    assert_eq!(handle.shared().mailboxes[0].waiting_for_room(), 1);
    drop(held_up);
    assert_eq!(waiting.wait(), Ok(INGRESS as u64 + 100));
    assert!(filling.into_iter().all(|ask| ask.wait().is_ok()));
    assert_eq!(coins(&handle), Ok(INGRESS as u64 + 100), "of what was not sent nothing ran");
    assert_eq!(handle.stats().shards[0].overloaded, 1, "what waits was not refused");
    // Each gave its slot back: there are as many as ever for answers that nobody picks up.
    let answered = (0..2 * INGRESS).map(|_| {
        let ask = handle.ask(add(0));
        assert!(handle.ask_all([add(0)]).wait()[0].is_ok());
        ask
    });
    let answered: Vec<_> = answered.collect();
    assert!(answered.into_iter().all(|ask| ask.wait().is_ok()));
}

#[test]
fn a_message_that_has_room_is_sent_at_once_whatever_becomes_of_its_future() {
    let runtime = start(Config::default());
    let handle = runtime.handle();
    let held_up = hold_up(&runtime, ShardIndex(0));
    let sent = handle.ask_waiting(add(1));
    assert!(sent.is_sent());
    drop(sent);
    drop(held_up);
    assert_eq!(coins(&handle), Ok(1));
}

#[test]
fn a_deadline_says_that_a_sent_message_may_run() {
    let runtime = start(Config::default());
    let handle = runtime.handle();
    let held_up = hold_up(&runtime, ShardIndex(0));
    let begin = Instant::now();
    assert_eq!(handle.ask(add(1)).wait_timeout(SOON), Err(AskError::TimedOut));
    assert_eq!(handle.ask_waiting(add(2)).wait_timeout(SOON), Err(AskError::TimedOut));
    assert!(begin.elapsed() >= 2 * SOON, "it was waited for");
    assert_eq!(futures::executor::block_on(handle.ask(add(4)).until(ready(()))), Err(AskError::TimedOut));
    let mut patient = handle.ask(add(8)).until(std::future::pending::<()>());
    assert!(poll(&mut patient).is_pending());
    drop(held_up);
    assert_eq!(futures::executor::block_on(patient), Ok(15), "all of them ran");
    assert_eq!(handle.ask(add(0)).wait_timeout(Duration::MAX), Ok(15), "no clock goes so far");
}

#[test]
fn an_outcome_that_is_there_counts_though_the_deadline_has_passed() {
    let runtime = start(Config::default());
    let handle = runtime.handle();
    let ask = handle.ask(add(1));
    let waiting = handle.ask_waiting(add(1));
    // Behind them in the queue, so they have been answered as well.
    assert_eq!(coins(&handle), Ok(2));
    assert_eq!(futures::executor::block_on(ask.until(ready(()))), Ok(1));
    assert_eq!(waiting.wait_timeout(Duration::ZERO), Ok(2));
}

/// An ask that needs no slot is a batch of one.
#[test]
fn a_message_waits_for_no_slot() {
    let runtime = start(Config { asks_in_flight_max: 1, ..Config::default() });
    let handle = runtime.handle();
    let held_up = hold_up(&runtime, ShardIndex(0));
    let only = handle.ask(add(1));
    assert_eq!(handle.ask(add(1000)).wait(), Err(AskError::Overloaded));
    let second = handle.ask_waiting(add(2));
    assert!(second.is_sent());
    drop(held_up);
    assert_eq!((only.wait(), second.wait()), (Ok(1), Ok(3)));
}

#[test]
fn a_message_that_waits_is_answered_when_the_runtime_stops() {
    let runtime = start(Config { drain_max: Duration::from_secs(20), ..Config::default() });
    let handle = runtime.handle();
    let held_up = hold_up(&runtime, ShardIndex(0));
    let filling = fill(&handle);
    let waiting = handle.ask_waiting(add(1000));
    let waits = std::thread::spawn(move || waiting.wait());
    let stops = std::thread::spawn(move || runtime.shutdown());
    while handle.ask(Message::Nobody).wait() != Err(AskError::Stopped) {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(held_up);
    assert!(stops.join().expect("it stops").drained);
    assert_eq!(waits.join().expect("it is woken"), Err(AskError::Stopped));
    assert!(filling.into_iter().all(|ask| ask.wait().is_ok()), "what was accepted has run");
    assert_eq!(handle.ask_waiting(add(1)).wait(), Err(AskError::Stopped));
    assert_eq!(handle.ask_waiting(Message::Nobody).wait(), Err(AskError::Stopped));
}

/// On a shard's thread nothing blocks, and a task that awaits room lets its shard make some.
#[test]
fn a_task_on_the_shard_itself_may_wait_for_room() {
    let runtime = start(Config::default());
    let asked = runtime.on_each_shard(|local| async move {
        let handle = local.handle();
        let filling = fill(&handle);
        let refused = handle.ask_waiting(add(1000)).wait();
        assert_eq!(refused, Err(AskError::Overloaded), "it was not sent, and would block the shard");
        assert_eq!(handle.ask_waiting(add(1000)).wait_timeout(SOON), Err(AskError::Overloaded));
        let late = handle.ask_waiting(add(100)).until(std::future::pending::<()>()).await;
        drop(filling);
        let timed = local.ask(add(1)).until(ready(())).await;
        (late, timed)
    });
    let asked = asked.wait().pop().expect("there is a shard");
    assert_eq!(asked, Ok((Ok(INGRESS as u64 + 100), Ok(INGRESS as u64 + 101))));
}

/// As an HTTP service has them: far more tasks than there is room. With `ask` most are refused.
#[test]
fn thousands_of_tasks_wait_and_none_is_refused() {
    const TASKS: u64 = 5000;
    let runtime = start(Config::default());
    let mut held_up = Some(hold_up(&runtime, ShardIndex(0)));
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let tokio = tokio.expect("it starts");
    let handle = runtime.handle();
    let asked = tokio.block_on(async {
        let task = |_| {
            let ask = handle.ask_waiting(add(1)).until(tokio::time::sleep(Duration::from_secs(60)));
            tokio::spawn(ask)
        };
        let tasks: Vec<_> = (0..TASKS).map(task).collect();
        // Most of them find the ingress full, and wait.
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(held_up.take());
        let mut asked = 0;
        for task in tasks {
            asked += u64::from(task.await.expect("it ends").is_ok());
        }
        asked
    });
    assert_eq!((asked, coins(&handle)), (TASKS, Ok(TASKS)));
    assert_eq!(handle.stats().shards[0].overloaded, 0);
}

/// Numbered deposits, so that the sum of a stream tells which of them have run.
fn deposits(messages: std::ops::Range<u64>) -> impl Stream<Item = Message> {
    futures::stream::iter(messages.map(add))
}

#[test]
fn a_stream_is_answered_in_order_with_so_many_under_way() {
    let runtime = start(Config::default());
    let handle = runtime.handle();
    for under_way_max in [0, 1, 2, 3, 1000, 5000] {
        let before = coins(&handle).expect("it is counted");
        let outcomes = handle.ask_stream(under_way_max, deposits(1..4001));
        assert_eq!(outcomes.size_hint(), (4000, Some(4000)));
        let outcomes: Vec<_> = futures::executor::block_on(outcomes.collect());
        let sums = (1..4001).scan(before, |sum, coins| {
            *sum += coins;
            Some(Ok(*sum))
        });
        assert!(outcomes.into_iter().eq(sums), "{under_way_max}");
    }
}

#[test]
fn a_stream_takes_no_more_than_may_be_under_way() {
    let runtime = start(Config { batch_messages_max: 1, ..Config::default() });
    let handle = runtime.handle();
    let taken = std::cell::Cell::new(0);
    let held_up = hold_up(&runtime, ShardIndex(0));
    let messages = deposits(1..1001).inspect(|_| taken.set(taken.get() + 1));
    // More than the ingress takes: the rest of the first batch waits for room.
    let mut outcomes = handle.ask_stream(100, messages);
    for _ in 0..3 {
        assert!(poll(&mut outcomes.next()).is_pending());
        assert_eq!(taken.get(), 100);
    }
    drop(held_up);
    for at in 1..=1000 {
        let outcome = futures::executor::block_on(outcomes.next());
        assert_eq!(outcome, Some(Ok(at * (at + 1) / 2)));
        // It is filled again when half of them have been given.
        assert!(taken.get() <= at + 100 && taken.get() >= (at + 49).min(1000), "{at}: {}", taken.get());
    }
    assert_eq!(futures::executor::block_on(outcomes.next()), None);
    assert_eq!(futures::executor::block_on(outcomes.next()), None, "and again");
}

/// A message that comes alone is not kept for others, and a pause is not the end.
#[test]
fn a_stream_of_messages_that_come_one_by_one() {
    let runtime = start(Config::default());
    let handle = runtime.handle();
    let (send, receive) = futures::channel::mpsc::unbounded();
    let mut outcomes = handle.ask_stream(64, receive);
    for at in 1..=10 {
        assert!(poll(&mut outcomes.next()).is_pending());
        send.unbounded_send(add(1)).expect("it is taken");
        assert_eq!(futures::executor::block_on(outcomes.next()), Some(Ok(at)));
    }
    drop(send);
    assert_eq!(futures::executor::block_on(outcomes.next()), None);
}

/// There is room again when later messages are taken, and earlier ones still wait for it.
#[test]
fn messages_of_a_stream_do_not_overtake_each_other() {
    let runtime = start(Config { batch_messages_max: 1, ..Config::default() });
    let handle = runtime.handle();
    let (send, receive) = futures::channel::mpsc::unbounded();
    let mut outcomes = handle.ask_stream(64, receive);
    let held_up = hold_up(&runtime, ShardIndex(0));
    let tell = |coins: std::ops::Range<u64>| {
        coins.for_each(|coins| send.unbounded_send(add(coins)).expect("it is taken"));
    };
    tell(1..21);
    assert!(poll(&mut outcomes.next()).is_pending(), "{INGRESS} of 20 were sent");
    tell(21..26);
    drop(held_up);
    while coins(&handle) != Ok(16 * 17 / 2) {
        std::thread::sleep(Duration::from_millis(1));
    }
    for at in 1..26 {
        assert_eq!(futures::executor::block_on(outcomes.next()), Some(Ok(at * (at + 1) / 2)));
    }
}

/// While an asker had outcomes in hand, messages that waited for room were not sent though there
/// was some.
#[test]
fn a_stream_sends_what_waited_for_room_while_outcomes_are_left() {
    let runtime = start(Config::default());
    let handle = runtime.handle();
    let (send, receive) = futures::channel::mpsc::unbounded();
    let mut outcomes = handle.ask_stream(64, receive);
    let tell = |coins| send.unbounded_send(add(coins)).expect("it is taken");
    (0..3).for_each(|_| tell(1));
    assert_eq!(futures::executor::block_on(outcomes.next()), Some(Ok(1)));
    let held_up = hold_up(&runtime, ShardIndex(0));
    let filling = fill(&handle);
    tell(100);
    assert_eq!(poll(&mut outcomes.next()), Poll::Ready(Some(Ok(2))), "and 100 coins wait for room");
    drop(held_up);
    assert!(filling.into_iter().all(|ask| ask.wait().is_ok()));
    assert_eq!(coins(&handle), Ok(3 + INGRESS as u64));
    assert_eq!(poll(&mut outcomes.next()), Poll::Ready(Some(Ok(3))));
    assert_eq!(coins(&handle), Ok(103 + INGRESS as u64), "they were sent");
}

/// A task on the shard that the messages are for: it must not be what they wait for.
#[test]
fn a_task_on_the_shard_itself_may_have_a_stream() {
    let runtime = start(Config { batch_messages_max: 1, ..Config::default() });
    let asked = runtime.on_each_shard(|local| async move {
        let outcomes = local.handle().ask_stream(100, deposits(1..1001));
        outcomes.enumerate().all(|(at, sum)| ready(sum == Ok((at as u64 + 1) * (at as u64 + 2) / 2))).await
    });
    assert_eq!(asked.wait(), [Ok(true)]);
}

#[test]
fn a_stream_that_is_dropped_or_stopped_loses_nothing_that_was_sent() {
    let runtime = start(Config::default());
    let handle = runtime.handle();
    let mut dropped = handle.ask_stream(8, deposits(1..1001));
    assert_eq!(futures::executor::block_on(dropped.next()), Some(Ok(1)));
    drop(dropped);
    assert_eq!(coins(&handle), Ok(36), "of 1,000 messages 8 were sent");
    let mut stopped = handle.ask_stream(8, deposits(1..17));
    assert_eq!(futures::executor::block_on(stopped.next()), Some(Ok(37)));
    runtime.shutdown();
    let rest: Vec<_> = futures::executor::block_on(stopped.collect());
    assert_eq!(rest.len(), 15);
    assert_eq!(rest[..7].iter().filter(|outcome| outcome.is_ok()).count(), 7, "they had been sent");
    assert!(rest[7..].iter().all(|outcome| *outcome == Err(AskError::Stopped)), "{rest:?}");
}

/// An account of shard 0 and one of shard 1.
fn one_each<A: Actor<Id = u64>>(handle: &Handle<A>) -> [u64; 2] {
    [0, 1].map(|shard| (0..).find(|id| handle.home(id).index() == shard).expect("both have some"))
}

#[test]
fn outcomes_that_come_as_they_come_do_not_wait_for_a_shard_that_is_held_up() {
    let config = Config { shards: Shards::Count(2), ..Config::default() };
    let runtime = Runtime::<Accounts>::start(config).expect("it starts");
    let handle = runtime.handle();
    let [slow, free] = one_each(&handle);
    let held = hold_up(&runtime, ShardIndex(0));
    let (send, receive) = futures::channel::mpsc::unbounded();
    let mut outcomes = handle.ask_stream(64, receive).as_they_come();
    for (account, coins) in [(slow, 1), (free, 2), (free, 3)] {
        send.unbounded_send(Message::Add { account, coins }).expect("it is taken");
        if account == slow {
            assert!(poll(&mut outcomes.next()).is_pending());
        }
    }
    let mut next = || futures::executor::block_on(outcomes.next());
    assert_eq!([next(), next()], [Some((1, Ok(2))), Some((2, Ok(5)))]);
    drop((held, send));
    assert_eq!([next(), next()], [Some((0, Ok(1))), None]);
    // Each once, with its own number.
    let fresh = slow + free + 1;
    let add = |_| Message::Add { account: fresh, coins: 1 };
    let many = handle.ask_stream(100, futures::stream::iter((0..1000).map(add))).as_they_come();
    let mut many: Vec<_> = futures::executor::block_on(many.collect());
    many.sort_by_key(|(number, _)| *number);
    assert!(many.into_iter().eq((0..1000).map(|at| (at, Ok(at + 1)))), "in the order sent, to one account");
}

/// Counts how often each object was named.
struct Sums;

impl Actor for Sums {
    type Id = u64;
    type State = u64;
    type Message = Vec<u64>;
    type Reply = usize;
    type Error = AccessError<u64>;

    fn addressees(ids: &Vec<u64>, to: &mut Addressees<u64>) {
        ids.iter().for_each(|id| to.write(*id));
    }

    fn receive(ids: &Vec<u64>, objects: &mut Objects<'_, Self>) -> Result<usize, AccessError<u64>> {
        for id in ids {
            *objects.get_or_insert_with(*id, || 0)? += 1;
        }
        Ok(ids.len())
    }
}

#[test]
fn a_flight_has_many_transactions_under_way_for_one_task() {
    let directory = tempfile::tempdir().expect("there is room");
    for is_logged in [false, true] {
        let config = Config { shards: Shards::Count(2), ..Config::default() };
        let runtime = match is_logged {
            false => Runtime::<Sums>::start(config),
            true => Runtime::<Sums>::open(config, LogConfig::at(directory.path())),
        };
        let runtime = runtime.expect("it starts");
        let [a, b] = one_each(&runtime.handle());
        let counts = runtime.on_each_shard(move |local| async move {
            let (mut flight, mut asked, mut sum) = (local.flight(1000), 0, 0);
            loop {
                // To here, to the other shard, and to both.
                while flight.has_room() && asked < 3000 {
                    let objects = [vec![a], vec![b], vec![a, b]][asked % 3].clone();
                    if flight.ask(asked as u64, objects).is_err() {
                        break;
                    }
                    asked += 1;
                }
                let Some((tag, outcome)) = flight.next().await else { break };
                assert_eq!(outcome, Ok(if tag % 3 == 2 { 2 } else { 1 }), "{tag}");
                sum += tag;
            }
            assert_eq!((asked, sum), (3000, 3000 * 2999 / 2), "each came once");
            // One that is dropped cancels nothing.
            let mut dropped = local.flight(2);
            dropped.ask(0, vec![a, b]).expect("there is room");
            dropped.ask(1, vec![a, b]).expect("there is room");
            assert!(matches!(dropped.ask(2, vec![a]), Err(crate::TellError::Overloaded(of)) if of == [a]));
        });
        assert!(counts.wait().iter().all(Result::is_ok));
        let expected = 2 * (3000 / 3 * 2 + 2);
        let count =
            |id| runtime.handle().snapshot().wait().expect("it runs").get(id).wait().expect("it is open");
        while [a, b].map(count) != [Some(expected); 2] {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(runtime.shutdown().drained);
    }
}
