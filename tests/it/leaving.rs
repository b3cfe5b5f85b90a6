//! The epochs of a runtime that runs leave for another log, whole and in order, and answers wait
//! for what that log says.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::support::{Watchdog, until};
use freehold::{
    AccessError, Ack, Actor, Addressees, AskError, CheckpointError, CommitLog, Config, ConfigError,
    DeathCause, Epoch, EpochBatch, EpochReceiver, EpochSender, Idle, LocalLog, LogConfig, Objects, Phase,
    Runtime, Shards, StartError, epoch_channel,
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

/// Accounts with coins.
struct Purses;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Read(u64),
    Put(u64, i64),
    Move(u64, u64, i64),
    Long(u64, usize),
}

impl Actor for Purses {
    type Id = u64;
    type State = (i64, String);
    type Message = Message;
    type Reply = i64;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Read(id) => to.read(id),
            Message::Put(id, _) | Message::Long(id, _) => to.write(id),
            Message::Move(from, into, _) => {
                to.write(from);
                to.write(into);
            }
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<i64, AccessError<u64>> {
        let purse = |objects: &mut Objects<'_, Self>, id, coins| -> Result<i64, AccessError<u64>> {
            let purse = objects.get_or_insert_with(id, Default::default)?;
            purse.0 += coins;
            Ok(purse.0)
        };
        match *message {
            Message::Read(id) => Ok(objects.get(id)?.map_or(0, |purse| purse.0)),
            Message::Put(id, coins) => purse(objects, id, coins),
            Message::Move(from, into, coins) => {
                purse(objects, from, -coins)?;
                purse(objects, into, coins)
            }
            Message::Long(id, bytes) => {
                objects.insert(id, (0, "x".repeat(bytes)))?;
                Ok(0)
            }
        }
    }
}

fn open(shards: usize, log: LogConfig) -> Runtime<Purses> {
    let config =
        Config { shards: Shards::Count(shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() };
    Runtime::open(config, log).expect("it opens")
}

fn replicated(directory: &Path, sender: EpochSender) -> LogConfig {
    let (segment_bytes, ack) = (64 << 10, Ack::Replicated);
    LogConfig { segment_bytes, ack, leaving: Some(sender), ..LogConfig::at(directory) }
}

/// A way for epochs, and where a wake is heard of.
fn way(bytes_max: usize) -> (EpochSender, EpochReceiver, mpsc::Receiver<()>) {
    let (wake, woken) = mpsc::channel();
    let (sender, receiver) = epoch_channel(bytes_max, move || {
        let _ = wake.send(());
    });
    (sender, receiver, woken)
}

/// The next epochs, when they are there. Only a wake makes it look.
fn next(receiver: &mut EpochReceiver, woken: &mpsc::Receiver<()>) -> EpochBatch {
    loop {
        if let Some(batch) = receiver.try_next(1 << 20) {
            return batch;
        }
        woken.recv().expect("the runtime lives");
    }
}

// What comes out makes the same database of an empty one, and each answer was in it before it was
// given.
#[test]
fn what_leaves_is_the_database() {
    let _watchdog = Watchdog::new("what_leaves_is_the_database");
    let (here, there) = (tempfile::tempdir().expect("a place"), tempfile::tempdir().expect("a place"));
    let (sender, mut receiver, woken) = way(1 << 20);
    let runtime = open(2, replicated(here.path(), sender));
    let handle = runtime.handle();
    let clients = std::thread::spawn(move || {
        for round in 0..20 {
            let moves = (0..50).map(|id| Message::Move(id, (id + 1 + round) % 50, 1));
            assert!(handle.ask_all(moves).wait().iter().all(Result::is_ok));
            assert_eq!(handle.ask(Message::Put(1000, 1)).wait(), Ok(round as i64 + 1));
        }
        handle.ask(Message::Long(60, 30_000)).wait().expect("it is recorded");
        drop(runtime);
    });
    let mut copy = LocalLog::open(there.path()).expect("it opens");
    while !clients.is_finished() {
        if let Some(batch) = receiver.try_next(1 << 20) {
            let tail = copy.tail();
            assert!(batch.epoch > tail);
            copy.append(tail, &batch).expect("the epochs are whole, and in order");
            receiver.acknowledge(batch.epoch);
        } else {
            let _ = woken.recv_timeout(Duration::from_millis(10));
        }
    }
    clients.join().expect("all was answered");
    drop(copy);
    let log = |directory: &Path| LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory) };
    let read = |directory: &Path| {
        let runtime = open(2, log(directory));
        let ids = (0..61).chain([1000]).map(Message::Read);
        runtime.handle().ask_all(ids).wait().into_iter().map(|read| read.expect("it is read")).collect()
    };
    let (original, copied): (Vec<i64>, Vec<i64>) = (read(here.path()), read(there.path()));
    assert_eq!(original, copied);
    assert_eq!(original.last(), Some(&20));
}

#[test]
fn answers_wait_for_the_other_log_and_reads_for_an_append_behind_them() {
    let _watchdog = Watchdog::new("answers_wait_for_the_other_log_and_reads_for_an_append_behind_them");
    let here = tempfile::tempdir().expect("a place");
    let (sender, mut receiver, woken) = way(1 << 20);
    let runtime = open(2, replicated(here.path(), sender));
    let handle = runtime.handle();
    let paid = handle.ask(Message::Put(1, 5));
    let batch = next(&mut receiver, &woken);
    assert_eq!(batch.records.len(), 1);
    until(|| runtime.stats().shards.iter().all(|shard| shard.in_log_write_for.is_none()));
    assert!(runtime.stats().durable < Some(batch.epoch), "it is on disk, and that is not enough");
    receiver.acknowledge(batch.epoch);
    assert_eq!(paid.wait(), Ok(5));
    // Nothing is under way. All the same, a later owner may have changed it.
    let read = handle.ask(Message::Read(1));
    let fence = next(&mut receiver, &woken);
    assert!(fence.records.is_empty() && fence.epoch > batch.epoch, "{fence:?}");
    receiver.acknowledge(Epoch(fence.epoch.0 - 1));
    assert!(receiver.try_next(1 << 20).is_none(), "one append for all that it answers");
    assert!(runtime.stats().asks_in_flight == 1);
    receiver.acknowledge(fence.epoch);
    assert_eq!(read.wait(), Ok(5));
    // So does a task's own, and a snapshot.
    let task = runtime.on_each_shard(|local| async move { local.ask(Message::Read(1)).await });
    let snapshot = handle.snapshot();
    let answered = std::thread::spawn(move || (task.wait(), snapshot.wait().map(|_| ())));
    let mut appends = 0;
    while !answered.is_finished() {
        if let Some(batch) = receiver.try_next(1 << 20) {
            appends += 1;
            receiver.acknowledge(batch.epoch);
        }
        let _ = woken.recv_timeout(Duration::from_millis(1));
    }
    let (task, snapshot) = answered.join().expect("nobody panics");
    assert!(task.into_iter().all(|read| read == Ok(Ok(5))) && snapshot == Ok(()) && appends > 0);
}

// With `Ack::Durable` only checkpoints wait: what the other log may never get stays out of them.
#[test]
fn a_checkpoint_has_nothing_that_the_other_log_has_not() {
    let _watchdog = Watchdog::new("a_checkpoint_has_nothing_that_the_other_log_has_not");
    let here = tempfile::tempdir().expect("a place");
    let (sender, mut receiver, woken) = way(1 << 20);
    let log = LogConfig { ack: Ack::Durable, ..replicated(here.path(), sender) };
    let runtime = open(1, log);
    assert_eq!(runtime.handle().ask(Message::Put(1, 5)).wait(), Ok(5), "its own disk has it");
    std::thread::scope(|scope| {
        let made = scope.spawn(|| runtime.checkpoint());
        let mut last = next(&mut receiver, &woken);
        while let Some(batch) = receiver.try_next(1 << 20) {
            last = batch;
        }
        assert!(!made.is_finished() && runtime.stats().log.expect("it has one").checkpoints == 0);
        while !made.is_finished() {
            receiver.acknowledge(last.epoch);
            let _ = woken.recv_timeout(Duration::from_millis(1));
            last = receiver.try_next(1 << 20).unwrap_or(last);
        }
        assert!(made.join().expect("nobody panics").is_ok());
        // One that can never be acknowledged ends with the runtime.
        runtime.handle().ask(Message::Put(1, 5)).wait().expect("it is on disk");
        let waits = scope.spawn(|| runtime.checkpoint());
        next(&mut receiver, &woken);
        receiver.fence("a test said so");
        until(|| runtime.stats().phase == Phase::Dead);
        let given_up = waits.join().expect("nobody panics").expect_err("nothing acknowledged it");
        assert!(matches!(*given_up, CheckpointError::Snapshot(_)), "{given_up}");
    });
}

#[test]
fn who_is_fenced_answers_nobody() {
    let _watchdog = Watchdog::new("who_is_fenced_answers_nobody");
    let here = tempfile::tempdir().expect("a place");
    let (sender, mut receiver, woken) = way(1 << 20);
    let runtime = open(2, replicated(here.path(), sender));
    let handle = runtime.handle();
    let (paid, read) = (handle.ask(Message::Put(1, 5)), handle.ask(Message::Read(2)));
    next(&mut receiver, &woken);
    receiver.fence("node b took over in term 2");
    assert_eq!((paid.wait(), read.wait()), (Err(AskError::Unknown), Err(AskError::Unknown)));
    assert_eq!(handle.ask(Message::Read(2)).wait(), Err(AskError::Stopped));
    let deaths = runtime.stats().deaths;
    assert!(matches!(&deaths[0].cause, DeathCause::Fenced(why) if why.contains("term 2")), "{deaths:?}");
}

// The story: a checkpoint waited for ever for a receiver that was gone, and at the growth limit
// every ask from outside with it, without a word.
#[test]
fn without_its_receiver_a_runtime_goes_on_and_makes_no_checkpoint() {
    let _watchdog = Watchdog::new("without_its_receiver_a_runtime_goes_on_and_makes_no_checkpoint");
    let here = tempfile::tempdir().expect("a place");
    let (sender, mut receiver, woken) = way(1 << 20);
    let log = |leaving| {
        let checkpoint_bytes = 64 << 10;
        LogConfig { checkpoint_bytes, ack: Ack::Durable, leaving, ..LogConfig::at(here.path()) }
    };
    let log = |leaving| LogConfig { segment_bytes: 64 << 10, ..log(leaving) };
    let runtime = open(1, log(Some(sender)));
    let handle = runtime.handle();
    assert_eq!(handle.ask(Message::Put(1, 5)).wait(), Ok(5));
    next(&mut receiver, &woken);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| runtime.checkpoint());
        drop(receiver);
        let error = waits.join().expect("nobody panics").expect_err("the other log lacks something");
        assert!(matches!(*error, CheckpointError::NotLeaving), "{error}");
    });
    // More log than may be, as long as checkpoints can be made.
    for round in 0..40 {
        handle.ask(Message::Long(round, 30_000)).wait().expect("nothing waits");
    }
    let stats = runtime.stats().log.expect("it has one");
    assert!(stats.bytes > 1 << 20 && stats.failed > 0 && stats.checkpoints == 0, "{stats:?}");
    assert!(runtime.checkpoint().is_err());
    assert_eq!(runtime.stats().phase, Phase::Running);
    drop((handle, runtime));
    // Its log has all of it, and one that leaves for nowhere is let go of.
    let runtime = open(1, log(None));
    assert_eq!(runtime.recovery().expect("it has a log").objects, 40);
    runtime.checkpoint().expect("it can be made");
}

// The story: an owner's thread had panicked, and all that waited for it waited for ever.
#[test]
fn without_its_receiver_a_replicated_runtime_answers_nobody() {
    let _watchdog = Watchdog::new("without_its_receiver_a_replicated_runtime_answers_nobody");
    let here = tempfile::tempdir().expect("a place");
    let (sender, mut receiver, woken) = way(1 << 20);
    let runtime = open(2, replicated(here.path(), sender));
    let (paid, read) = (runtime.handle().ask(Message::Put(1, 5)), runtime.handle().ask(Message::Read(2)));
    next(&mut receiver, &woken);
    drop(receiver);
    assert_eq!((paid.wait(), read.wait()), (Err(AskError::Unknown), Err(AskError::Unknown)));
    assert_eq!(runtime.handle().ask(Message::Read(2)).wait(), Err(AskError::Stopped));
    let deaths = runtime.stats().deaths;
    assert!(
        matches!(&deaths[0].cause, DeathCause::Fenced(why) if why.contains("nobody receives")),
        "{deaths:?}"
    );
    drop(runtime);
    // Nor does one that is opened when it is gone.
    let (sender, receiver, _woken) = way(1 << 20);
    drop(receiver);
    let runtime = open(2, replicated(here.path(), sender));
    assert_eq!(runtime.handle().ask(Message::Read(2)).wait(), Err(AskError::Stopped));
}

// The other log is out of reach: what waits for it is bounded, and the runtime can still be
// stopped.
#[test]
fn a_way_that_is_full_holds_up_and_does_not_keep_the_runtime_from_stopping() {
    let _watchdog = Watchdog::new("a_way_that_is_full_holds_up_and_does_not_keep_the_runtime_from_stopping");
    let here = tempfile::tempdir().expect("a place");
    let (sender, mut receiver, _woken) = way(10_000);
    let config =
        Config { shards: Shards::Count(1), drain_max: Duration::from_millis(50), ..Config::default() };
    let runtime = Runtime::<Purses>::open(config, replicated(here.path(), sender)).expect("it opens");
    let handle = runtime.handle();
    // An epoch that is complete, so that something could leave.
    let mut asked = vec![handle.ask(Message::Long(0, 5000))];
    until(|| receiver.backlog() > 0);
    asked.extend((1..40).map(|id| handle.ask(Message::Long(id, 5000))));
    // All have run, and what they wrote waits.
    until(|| receiver.backlog() >= 10_000 && runtime.stats().handled() == 40);
    let most = 10_000 + (64 << 10);
    assert!(receiver.backlog() <= most, "{}", receiver.backlog());
    let report = runtime.shutdown();
    assert!(!report.drained && receiver.backlog() <= most && receiver.is_cut());
    assert!(asked.into_iter().all(|asked| asked.wait() == Err(AskError::Unknown)));
    assert!(receiver.try_next(1 << 20).is_none(), "of what is there a batch may lack");
    // Its own log has all of it. (What waits, and how far it is, is the runtime's still.)
    drop((receiver, handle));
    let runtime = open(1, LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(here.path()) });
    assert_eq!(runtime.recovery().expect("it has a log").objects, 40);
}

// The story: its shard waited for room, the receiver for an epoch that is complete, and neither
// came.
#[test]
fn an_epoch_that_is_longer_than_the_way_leaves() {
    let _watchdog = Watchdog::new("an_epoch_that_is_longer_than_the_way_leaves");
    let here = tempfile::tempdir().expect("a place");
    let (sender, mut receiver, woken) = way(10_000);
    let runtime = open(2, replicated(here.path(), sender));
    let handle = runtime.handle();
    let asked = std::thread::spawn(move || {
        let all = handle.ask_all((0..60).map(|id| Message::Long(id, 5000))).wait();
        let again = handle.ask_all((0..60).map(|id| Message::Long(id, 6000))).wait();
        all.into_iter().chain(again).all(|answer| answer == Ok(0))
    });
    let mut records = 0;
    while records < 120 {
        let batch = next(&mut receiver, &woken);
        records += batch.records.len();
        receiver.acknowledge(batch.epoch);
    }
    while !asked.is_finished() {
        let _ = woken.recv_timeout(Duration::from_millis(1));
        if let Some(batch) = receiver.try_next(1 << 20) {
            receiver.acknowledge(batch.epoch);
        }
    }
    assert!(asked.join().expect("nobody panics"), "all are answered");
}

// What has left the writers and not the way is bounded, too: at twice as many bytes as may wait no
// shard takes a message from outside, and room wakes them.
#[test]
fn at_twice_what_may_wait_no_shard_takes_messages_until_there_is_room() {
    let _watchdog = Watchdog::new("at_twice_what_may_wait_no_shard_takes_messages_until_there_is_room");
    let here = tempfile::tempdir().expect("a place");
    let (sender, mut receiver, woken) = way(10_000);
    let runtime = open(2, replicated(here.path(), sender));
    let handle = runtime.handle();
    // One batch, so it fits whatever waits.
    let long = handle.ask(Message::Long(0, 30_000));
    until(|| receiver.backlog() >= 20_000);
    until(|| runtime.stats().shards.iter().all(|shard| shard.in_log_write_for.is_none()));
    // Ids of both shards, and not the long one: with it what ran first would fill the way again.
    let held: Vec<_> = (1..17).map(|id| handle.ask(Message::Put(id, 1))).collect();
    // Each task has a round of its shard to itself, and the messages were there before.
    for _ in 0..20 {
        assert!(runtime.on_each_shard(|_| async {}).wait().iter().all(Result::is_ok));
    }
    assert_eq!(runtime.stats().handled(), 1, "both shards hold messages back");
    let batch = next(&mut receiver, &woken);
    assert_eq!(batch.records.len(), 1, "the long one");
    // There is room, and that is enough: nothing was acknowledged.
    let mut newest = batch.epoch;
    until(|| {
        newest = receiver.try_next(1 << 20).map_or(newest, |batch| batch.epoch);
        runtime.stats().handled() == 17
    });
    receiver.acknowledge(newest);
    let answered = std::thread::spawn(move || {
        held.into_iter().chain([long]).map(|asked| asked.wait()).collect::<Vec<_>>()
    });
    while !answered.is_finished() {
        if let Some(batch) = receiver.try_next(1 << 20) {
            receiver.acknowledge(batch.epoch);
        }
        let _ = woken.recv_timeout(Duration::from_millis(1));
    }
    assert!(answered.join().expect("nobody panics").iter().all(Result::is_ok));
}

#[test]
fn a_way_is_of_one_runtime_and_replicated_answers_need_one() {
    let here = tempfile::tempdir().expect("a place");
    let (sender, _receiver, _woken) = way(1 << 20);
    let lacks = LogConfig { leaving: None, ..replicated(here.path(), sender.clone()) };
    assert_eq!(lacks.check(), Err(ConfigError::NotReplicated));
    drop(open(1, LogConfig { ack: Ack::Durable, ..replicated(here.path(), sender.clone()) }));
    let config = Config { shards: Shards::Count(1), ..Config::default() };
    let again = Runtime::<Purses>::open(config, replicated(here.path(), sender));
    assert!(matches!(again, Err(StartError::Config(ConfigError::LeavingTaken))));
}

/// No answer of a flight leaves before it is durable, whether its message ran here or elsewhere.
#[test]
fn a_flight_holds_answers_until_the_other_log_has_them() {
    let _watchdog = Watchdog::new("a_flight_holds_answers_until_the_other_log_has_them");
    let here = tempfile::tempdir().expect("a place");
    let (sender, mut receiver, woken) = way(1 << 20);
    let runtime = open(2, replicated(here.path(), sender));
    let (says, heard) = mpsc::channel();
    let taken = Arc::new(AtomicUsize::new(0));
    let flights = runtime.on_each_shard({
        let taken = taken.clone();
        move |local| {
            let (says, taken) = (says.clone(), taken.clone());
            async move {
                let mut flight = local.flight(8);
                // Of both shards.
                (0..8).for_each(|id| flight.ask(id, Message::Put(id, 1)).expect("there is room"));
                assert!(futures::poll!(flight.next()).is_pending(), "what ran here is not durable");
                says.send(()).expect("the test listens");
                while let Some((_, outcome)) = flight.next().await {
                    assert!(outcome.is_ok());
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    (0..2).for_each(|_| heard.recv().expect("no flight has answers"));
    until(|| runtime.stats().handled() == 16);
    let batch = next(&mut receiver, &woken);
    until(|| runtime.stats().shards.iter().all(|shard| shard.in_log_write_for.is_none()));
    // Tasks have had their turns.
    assert!(runtime.on_each_shard(|_| async {}).wait().iter().all(Result::is_ok));
    assert_eq!(taken.load(Ordering::Relaxed), 0, "they are on disk, and that is not enough");
    receiver.acknowledge(batch.epoch);
    let answered = std::thread::spawn(move || flights.wait());
    while !answered.is_finished() {
        if let Some(batch) = receiver.try_next(1 << 20) {
            receiver.acknowledge(batch.epoch);
        }
        let _ = woken.recv_timeout(Duration::from_millis(1));
    }
    assert!(answered.join().expect("nobody panics").iter().all(Result::is_ok));
    assert_eq!(taken.load(Ordering::Relaxed), 16);
}
