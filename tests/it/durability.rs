//! What a runtime with a log acknowledged is there after it was stopped or dropped, whatever the
//! number of shards: objects, ownership, what is published, and messages that were told. And what
//! is wrong with a log is said by name.

use std::path::Path;
use std::time::Duration;

use crate::support::{Watchdog, until};
use freehold::{
    AccessError, Ack, Actor, Addressees, AskError, Config, Idle, LogConfig, LogError, Objects, OwnerId,
    Runtime, Shards, StartError, glommio,
};
use serde::{Deserialize, Serialize};

/// Accounts with coins.
struct Ledger;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Put(u64, i64),
    Move(u64, u64, i64),
    Read(u64),
    Remove(u64),
    Share(u64),
    Freeze(u64),
    Give(u64, OwnerId),
    /// Adds now, and tells the second to add the same.
    Pass(u64, u64, i64),
    /// Adds to the second after so many milliseconds.
    Later(u64, u64, i64, u64),
    Long(u64, usize),
}

impl Actor for Ledger {
    type Id = u64;
    type State = (i64, Vec<u8>);
    type Message = Message;
    type Reply = Option<i64>;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Read(a) => to.read(a),
            Message::Move(a, b, _) => {
                to.write(a);
                to.write(b);
            }
            Message::Put(a, _)
            | Message::Remove(a)
            | Message::Share(a)
            | Message::Freeze(a)
            | Message::Give(a, _)
            | Message::Pass(a, ..)
            | Message::Later(a, ..)
            | Message::Long(a, _) => to.write(a),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Option<i64>, AccessError<u64>> {
        let add = |objects: &mut Objects<'_, Self>, id, coins| -> Result<i64, AccessError<u64>> {
            let account = objects.get_or_insert_with(id, || (0, Vec::new()))?;
            account.0 += coins;
            Ok(account.0)
        };
        match *message {
            Message::Put(id, coins) => add(objects, id, coins).map(Some),
            Message::Move(from, to, coins) => {
                add(objects, from, -coins)?;
                add(objects, to, coins).map(Some)
            }
            Message::Read(id) => Ok(objects.get(id)?.map(|account| account.0)),
            Message::Remove(id) => Ok(objects.remove(id)?.map(|account| account.0)),
            Message::Share(id) => objects.share(id).map(|()| None),
            Message::Freeze(id) => objects.freeze(id).map(|()| None),
            Message::Give(id, to) => objects.transfer(id, to).map(|()| None),
            Message::Pass(id, to, coins) => {
                objects.tell(Message::Put(to, coins))?;
                add(objects, id, coins).map(Some)
            }
            Message::Later(id, to, coins, milliseconds) => {
                objects.tell_after(Duration::from_millis(milliseconds), Message::Put(to, coins))?;
                add(objects, id, coins).map(Some)
            }
            Message::Long(id, bytes) => {
                objects.insert(id, (1, vec![7; bytes]))?;
                Ok(Some(1))
            }
        }
    }
}

fn config(shards: usize) -> Config {
    Config { shards: Shards::Count(shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() }
}

fn log(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory) }
}

fn open(shards: usize, directory: &Path) -> Runtime<Ledger> {
    Runtime::open(config(shards), log(directory)).expect("it opens")
}

fn read(runtime: &Runtime<Ledger>, id: u64) -> Option<i64> {
    runtime.handle().ask(Message::Read(id)).wait().expect("it can be read")
}

#[test]
fn what_was_acknowledged_is_there_again_whatever_the_number_of_shards() {
    let _watchdog = Watchdog::new("what_was_acknowledged_is_there_again");
    let directory = tempfile::tempdir().expect("there is room");
    let mut expected: Vec<Option<i64>> = vec![None; 200];
    for (life, shards) in [1, 2, 5, 1, 2].into_iter().enumerate() {
        let runtime = open(shards, directory.path());
        let handle = runtime.handle();
        for (id, expected) in expected.iter().enumerate() {
            assert_eq!(read(&runtime, id as u64), *expected, "object {id} in life {life}");
        }
        for id in 0..100 {
            handle.ask(Message::Put(id, life as i64 + 1)).wait().expect("it is put");
            *expected[id as usize].get_or_insert(0) += life as i64 + 1;
        }
        let moves = (0..100).map(|id| Message::Move(id, id + 100, 1));
        handle.ask_all(moves).wait().into_iter().for_each(|moved| assert!(moved.is_ok(), "{moved:?}"));
        (0..100).for_each(|id| *expected[id].get_or_insert(0) -= 1);
        (100..200).for_each(|id| *expected[id].get_or_insert(0) += 1);
        handle.ask(Message::Remove(life as u64)).wait().expect("it is removed");
        expected[life] = None;
        if life == 3 {
            drop(runtime);
        } else {
            let report = runtime.shutdown();
            assert!(report.drained, "{report}");
        }
    }
    let runtime = open(3, directory.path());
    let recovery = runtime.recovery().expect("there is a log");
    assert_eq!(recovery.objects, 199);
    assert_eq!((0..200).map(|id| read(&runtime, id)).collect::<Vec<_>>(), expected);
}

#[test]
fn messages_that_are_owed_run_after_the_next_start_and_once() {
    let _watchdog = Watchdog::new("messages_that_are_owed");
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = open(2, directory.path());
    let handle = runtime.handle();
    // One that runs at once, and two that are due later: one in this life, one in the next.
    handle.ask(Message::Pass(1, 2, 5)).wait().expect("it is put");
    handle.ask(Message::Later(1, 3, 7, 1)).wait().expect("it is put");
    for id in 10..60 {
        handle.ask(Message::Later(id, 1000 + id, 9, 60_000)).wait().expect("it is put");
    }
    until(|| read(&runtime, 2) == Some(5) && read(&runtime, 3) == Some(7));
    (2..=3).for_each(|id| _ = handle.ask(Message::Put(id, 0)).wait());
    assert_eq!(read(&runtime, 1010), None, "it is not due");
    let report = runtime.shutdown();
    assert_eq!(report.timers_unfinished, 50, "{report}");
    for shards in [1, 3] {
        let runtime = open(shards, directory.path());
        assert_eq!(runtime.recovery().expect("there is a log").owed, 50);
        assert_eq!(
            (read(&runtime, 2), read(&runtime, 3)),
            (Some(5), Some(7)),
            "what has run does not run again"
        );
        // Removing and putting, so that this life leaves something, too.
        runtime.handle().ask(Message::Put(5000, 1)).wait().expect("it is put");
        assert_eq!(runtime.shutdown().timers_unfinished, 50, "they wait on");
    }
}

#[test]
fn time_stands_still_while_nothing_runs() {
    let _watchdog = Watchdog::new("time_stands_still");
    let directory = tempfile::tempdir().expect("there is room");
    // A slow machine may take longer to stop, or to start, than there is time: then more of it.
    let has_stood_still = |times: u32| {
        let place = directory.path().join(times.to_string());
        let due = Duration::from_millis(300) * times;
        let runtime = open(1, &place);
        let later = Message::Later(1, 2, 7, due.as_millis() as u64);
        runtime.handle().ask(later).wait().expect("it is put");
        runtime.shutdown();
        std::thread::sleep(due + Duration::from_millis(100));
        let runtime = open(2, &place);
        let is_due = read(&runtime, 2).is_some();
        until(|| read(&runtime, 2) == Some(7));
        runtime.shutdown();
        (!is_due).then_some(place)
    };
    let place = [1, 4, 16].into_iter().find_map(has_stood_still);
    let place = place.expect("it was not due: its time did not go on");
    let runtime = open(1, &place);
    assert_eq!(runtime.recovery().expect("there is a log").owed, 0);
    assert_eq!(read(&runtime, 2), Some(7));
}

#[test]
fn ownership_and_what_is_published_are_there_again() {
    let _watchdog = Watchdog::new("ownership_and_what_is_published");
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = open(2, directory.path());
    let handle = runtime.handle();
    for id in 0..30 {
        handle.ask(Message::Put(id, id as i64)).wait().expect("it is put");
    }
    (0..10).for_each(|id| _ = handle.ask(Message::Share(id)).wait().expect("it is shared"));
    (10..20).for_each(|id| _ = handle.ask(Message::Freeze(id)).wait().expect("it is frozen"));
    (20..30).for_each(|id| _ = handle.ask(Message::Give(id, OwnerId(7))).wait().expect("it is given"));
    // As it is, over a stop, and over a checkpoint.
    let check = |runtime: &Runtime<Ledger>| {
        let handle = runtime.handle();
        for id in 0..20 {
            assert_eq!(handle.published(&id).map(|state| state.0), Some(id as i64), "object {id}");
        }
        let frozen = handle.ask(Message::Put(12, 1)).wait();
        assert_eq!(frozen, Err(AskError::Aborted(AccessError::Immutable { id: 12 })));
        let not_ours = handle.ask(Message::Put(22, 1)).wait();
        assert!(
            matches!(not_ours, Err(AskError::Aborted(AccessError::NotOwner { id: 22, .. }))),
            "{not_ours:?}"
        );
        handle.sending_as(OwnerId(7)).ask(Message::Put(22, 0)).wait().expect("it is its own");
    };
    check(&runtime);
    runtime.shutdown();
    for shards in [3, 1] {
        let runtime = open(shards, directory.path());
        check(&runtime);
        runtime.checkpoint().expect("it is made");
        runtime.shutdown();
    }
}

#[test]
fn checkpoints_bound_the_logs_while_messages_run() {
    let watchdog = Watchdog::new("checkpoints_bound_the_logs");
    let directory = tempfile::tempdir().expect("there is room");
    let log =
        LogConfig { segment_bytes: 256 << 10, checkpoint_bytes: 1 << 20, ..LogConfig::at(directory.path()) };
    let runtime = Runtime::<Ledger>::open(config(2), log.clone()).expect("it opens");
    let handle = runtime.handle();
    let sizes = || -> u64 {
        let files = std::fs::read_dir(directory.path()).expect("it can be listed");
        files.map(|file| file.expect("it can be listed").metadata().map_or(0, |file| file.len())).sum()
    };
    let mut largest = 0;
    for round in 0..400_u64 {
        let messages = (0..500).map(|id| match round % 2 {
            0 => Message::Put(id, 1),
            _ => Message::Move(id, (id * 7 + round) % 500, 1),
        });
        handle.ask_all(messages).wait().into_iter().for_each(|done| assert!(done.is_ok(), "{done:?}"));
        largest = largest.max(sizes());
        watchdog.feed();
    }
    // Some 6 MB were written. (Two checkpoints' worth of log, segments that are prepared or spare,
    // and the checkpoints themselves.)
    assert!(largest < 6 << 20, "{largest} bytes");
    let asked = runtime.checkpoint().expect("it is made");
    assert!(asked.bytes > 0, "{asked:?}");
    let total: i64 = (0..500).filter_map(|id| read(&runtime, id)).sum();
    assert_eq!(total, 200 * 500);
    runtime.shutdown();
    let runtime = Runtime::<Ledger>::open(config(3), log).expect("it opens");
    assert_eq!((0..500).filter_map(|id| read(&runtime, id)).sum::<i64>(), total);
    assert!(runtime.recovery().expect("there is a log").records < 20_000, "{:?}", runtime.recovery());
}

#[test]
fn a_checkpoint_is_made_when_there_is_log_that_is_old() {
    let _watchdog = Watchdog::new("a_checkpoint_is_made_when_there_is_log");
    let directory = tempfile::tempdir().expect("there is room");
    let log = LogConfig { checkpoint_age: Some(Duration::from_secs(1)), ..log(directory.path()) };
    let runtime = Runtime::<Ledger>::open(config(1), log).expect("it opens");
    let has_checkpoint = || {
        let verified = freehold::inspect::verify(directory.path());
        verified.is_ok_and(|verified| verified.checkpoint.is_some())
    };
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!has_checkpoint(), "there is nothing to be written down");
    runtime.handle().ask(Message::Put(1, 1)).wait().expect("it is put");
    until(has_checkpoint);
}

#[test]
fn pending_sends_outlive_checkpoints() {
    let _watchdog = Watchdog::new("pending_sends_outlive_checkpoints");
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = open(2, directory.path());
    let handle = runtime.handle();
    for id in 0..20 {
        handle.ask(Message::Later(id, 100 + id, 9, 120_000)).wait().expect("it is put");
        handle.ask(Message::Later(id, 200 + id, 9, 1)).wait().expect("it is put");
        handle.ask(Message::Pass(id, 300 + id, 9)).wait().expect("it is put");
    }
    runtime.checkpoint().expect("it is made");
    until(|| (0..20).all(|id| read(&runtime, 200 + id) == Some(9) && read(&runtime, 300 + id) == Some(9)));
    runtime.checkpoint().expect("it is made");
    runtime.shutdown();
    let runtime = open(1, directory.path());
    assert_eq!(runtime.recovery().expect("there is a log").owed, 20);
    for id in 0..20 {
        assert_eq!(
            (read(&runtime, 200 + id), read(&runtime, 300 + id)),
            (Some(9), Some(9)),
            "once, and not again"
        );
    }
}

#[test]
fn a_state_that_no_segment_holds_is_refused_and_changes_nothing() {
    let _watchdog = Watchdog::new("a_state_that_no_segment_holds");
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = open(2, directory.path());
    let handle = runtime.handle();
    handle.ask(Message::Put(1, 5)).wait().expect("it is put");
    let refused = handle.ask(Message::Long(1, 2 << 20)).wait();
    assert!(matches!(refused, Err(AskError::NotRecorded(_))), "{refused:?}");
    assert_eq!(read(&runtime, 1), Some(5));
    // As large as it may be, and many of them: a batch for each.
    let longs = (0..8).map(|id| Message::Long(id, (1 << 20) - 4096));
    handle.ask_all(longs).wait().into_iter().for_each(|done| assert!(done.is_ok(), "{done:?}"));
    runtime.shutdown();
    let runtime = open(1, directory.path());
    assert_eq!((0..8).map(|id| read(&runtime, id)).collect::<Vec<_>>(), [Some(1); 8]);
}

#[test]
fn a_snapshot_sees_what_is_durable_and_tasks_can_wait_for_it() {
    let _watchdog = Watchdog::new("a_snapshot_sees_what_is_durable");
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = open(2, directory.path());
    let handle = runtime.handle();
    let done = runtime.on_each_shard(|local| async move {
        let mine: Vec<u64> = (0..1000).filter(|id| local.home(id) == local.shard()).collect();
        for id in &mine {
            local.ask_now(&Message::Put(*id, 1)).expect("it is put");
        }
        local.durable().await.expect("it becomes durable");
        local.durable().await.expect("it is at once");
        for id in &mine {
            assert_eq!(local.ask(Message::Put(*id, 1)).await, Ok(Some(2)));
        }
        mine.len()
    });
    assert_eq!(done.wait().into_iter().map(|mine| mine.expect("it ends")).sum::<usize>(), 1000);
    let snapshot = handle.snapshot().wait().expect("it opens");
    assert_eq!(snapshot.fold(|| 0, |sum, _, account| *sum += account.0, |a, b| a + b).wait(), Ok(2000));
}

#[test]
fn applied_answers_do_not_wait_and_a_stop_loses_none() {
    let _watchdog = Watchdog::new("applied_answers_do_not_wait");
    let directory = tempfile::tempdir().expect("there is room");
    let log = LogConfig { ack: Ack::Applied, ..log(directory.path()) };
    let runtime = Runtime::<Ledger>::open(config(2), log.clone()).expect("it opens");
    let moves = (0..5000).map(|id| Message::Move(id % 100, (id + 1) % 100, 1));
    runtime.handle().ask_all(moves).wait().into_iter().for_each(|done| assert!(done.is_ok(), "{done:?}"));
    runtime.handle().ask(Message::Put(7, 3)).wait().expect("it is put");
    assert!(runtime.shutdown().drained);
    let runtime = Runtime::<Ledger>::open(config(1), log).expect("it opens");
    assert_eq!((0..100).filter_map(|id| read(&runtime, id)).sum::<i64>(), 3);
}

/// Answers that wait for the disk are sent when it is done, which is no turn of the shard. The
/// statistics were published by turns only, so the last answers were missing for as long as nothing
/// more came: more had been received than sent.
#[test]
fn answers_sent_between_turns_are_in_the_statistics() {
    let _watchdog = Watchdog::new("answers_sent_between_turns");
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = open(2, directory.path());
    let moves = runtime.on_each_shard(|local| async move {
        for round in 0..50 {
            let ids = (0..64).map(|id| id * 50 + round).collect::<Vec<u64>>();
            let asks: Vec<_> = ids.iter().map(|&id| local.ask(Message::Move(id, id + 10_000, 1))).collect();
            for ask in asks {
                ask.await.expect("it is moved");
            }
        }
    });
    moves.wait().into_iter().for_each(|moved| moved.expect("the task does not panic"));
    until(|| {
        let shards = runtime.stats().shards;
        let sum = |of: fn(&freehold::ShardStats) -> u64| shards.iter().map(of).sum::<u64>();
        let (sent, received) = (sum(|it| it.activity.lane_sent), sum(|it| it.activity.lane_received));
        sent > 0 && sent == received && sent == sum(|it| it.sent_to.iter().sum())
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    let _watchdog = Watchdog::new("what_cannot_be_opened");
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = open(1, directory.path());
    let again = Runtime::<Ledger>::open(config(1), log(directory.path()));
    assert!(matches!(again, Err(StartError::Log(LogError::InUse { .. }))), "{again:?}");
    runtime.handle().ask(Message::Put(1, 1)).wait().expect("it is put");
    runtime.shutdown();
    let odd = LogConfig { segment_bytes: 100_000, ..log(directory.path()) };
    assert!(matches!(Runtime::<Ledger>::open(config(1), odd), Err(StartError::Config(_))));
    // Another actor, of other types.
    let other = Runtime::<Words>::open(config(1), log(directory.path()));
    assert!(matches!(other, Err(StartError::Log(LogError::Schema { .. }))), "{other:?}");
    // And nothing came of all that.
    assert_eq!(read(&open(1, directory.path()), 1), Some(1));
}

/// Another actor.
struct Words;

impl Actor for Words {
    type Id = [u8; 32];
    type State = String;
    type Message = u64;
    type Reply = ();
    type Error = AccessError<[u8; 32]>;

    fn addressees(word: &u64, to: &mut Addressees<[u8; 32]>) {
        to.read([*word as u8; 32]);
    }

    fn receive(_: &u64, _: &mut Objects<'_, Self>) -> Result<(), AccessError<[u8; 32]>> {
        Ok(())
    }
}

#[test]
fn a_database_keeps_its_segment_size() {
    let _watchdog = Watchdog::new("a_database_keeps_its_segment_size");
    let directory = tempfile::tempdir().expect("there is room");
    open(1, directory.path()).shutdown();
    let larger = LogConfig { segment_bytes: 4 << 20, ..log(directory.path()) };
    let runtime = Runtime::<Ledger>::open(config(1), larger).expect("it opens");
    runtime.handle().ask(Message::Put(1, 1)).wait().expect("it is put");
    runtime.shutdown();
    let segments = std::fs::read_dir(directory.path()).expect("it can be listed").filter_map(|file| {
        let file = file.ok()?;
        file.file_name().to_str()?.starts_with("log-").then(|| file.metadata().map_or(0, |file| file.len()))
    });
    assert!(segments.into_iter().all(|bytes| bytes == 1 << 20));
}

/// A write that ended between a task's request and the pump's next round carried out effects, and
/// thereby forgot that there was a request: a task that waited for the disk, or a message the shard
/// had sent itself, then waited for as long as nothing else came.
#[test]
fn a_write_that_ends_hides_no_request() {
    let _watchdog = Watchdog::new("a_write_that_ends_hides_no_request");
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = open(2, directory.path());
    let tasks = runtime.on_each_shard(|local| async move {
        let here: Vec<u64> = (0..).filter(|id| local.home(id) == local.shard()).take(100).collect();
        for round in 0..if cfg!(debug_assertions) { 500 } else { 2_000 } {
            // Writes begin and end meanwhile, the last of them now or a moment later.
            for &id in &here[..1 + round % 100] {
                local.ask_now(&Message::Put(id, 1)).expect("it is put");
                glommio::yield_if_needed().await;
            }
            local.durable().await.expect("the disk keeps up");
        }
    });
    tasks.wait().into_iter().for_each(|done| done.expect("the task does not panic"));
}
