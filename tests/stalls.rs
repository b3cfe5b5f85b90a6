//! A message or a task that does not come back is seen while it does not, and holds up no shutdown.
//!
//! The story: a `receive` that did not end gave no warning while it lasted, statistics said `turns
//! = 0`, and `shutdown` never returned. `futures::executor::block_on` of an ask, in a `receive` or
//! a task, hung the shard and the shutdown without a word.

#[path = "support/logged.rs"]
mod logged;
mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Handle, Objects, ShardIndex, Snapshot, SnapshotError,
    glommio,
};
use logged::Logged;
use support::{Watchdog, start, until};

/// Messages that wait.
struct Waits;

#[derive(Clone)]
enum Message {
    Add(u64),
    /// Adds to both.
    Both(u64, u64),
    /// Does not come back before it is let go of.
    Hold(u64, Arc<AtomicBool>),
    /// Waits for an ask, from inside a message, by this handle.
    Ask(u64, Arc<Mutex<Option<Handle<Waits>>>>),
    /// Waits for a read of a snapshot, and for a batch.
    Read(u64, Arc<Mutex<Option<Snapshot<Waits>>>>, Arc<Mutex<Option<Handle<Waits>>>>),
}

#[derive(Clone, Debug, PartialEq)]
enum Reply {
    Number(u64),
    Asked(Box<Result<Reply, AskError<AccessError<u64>>>>),
    Read(Result<Option<u64>, SnapshotError>, Vec<Result<Reply, AskError<AccessError<u64>>>>),
}

impl Actor for Waits {
    type Id = u64;
    type State = u64;
    type Message = Message;
    type Reply = Reply;
    type Error = AccessError<u64>;

    const MESSAGE_NAMES: &'static [&'static str] = &["Hold"];

    fn message_index(message: &Message) -> usize {
        if matches!(message, Message::Hold(..)) { 0 } else { usize::MAX }
    }

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Add(id) | Message::Hold(id, _) | Message::Ask(id, _) | Message::Read(id, ..) => {
                to.write(*id)
            }
            Message::Both(one, other) => {
                to.write(*one);
                to.write(*other);
            }
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Reply, AccessError<u64>> {
        let handle = |handle: &Mutex<Option<Handle<Waits>>>| {
            handle.lock().expect("nobody panics").clone().expect("it was put there")
        };
        match message {
            Message::Add(id) => {
                let number = objects.get_or_insert_with(*id, || 0)?;
                *number += 1;
                Ok(Reply::Number(*number))
            }
            Message::Both(one, other) => {
                for id in [one, other] {
                    *objects.get_or_insert_with(*id, || 0)? += 1;
                }
                Ok(Reply::Number(2))
            }
            Message::Hold(id, let_go) => {
                while !let_go.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                objects.insert(*id, 1)?;
                Ok(Reply::Number(1))
            }
            Message::Ask(id, to) => {
                let ask = handle(to).ask(Message::Add(*id));
                Ok(Reply::Asked(Box::new(futures::executor::block_on(ask))))
            }
            Message::Read(id, snapshot, to) => {
                let snapshot = snapshot.lock().expect("nobody panics").clone().expect("it was put there");
                let read = futures::executor::block_on(snapshot.get(*id));
                let batch = handle(to).ask_all([Message::Add(*id)]);
                Ok(Reply::Read(read, futures::executor::block_on(batch)))
            }
        }
    }
}

fn config() -> Config {
    Config {
        drain_max: Duration::from_millis(50),
        tasks_grace: Duration::from_millis(50),
        stall_warning: Duration::from_millis(50),
        ..Config::default()
    }
}

/// What all runtimes of this process say.
fn logged() -> Logged {
    static LOGGED: OnceLock<Logged> = OnceLock::new();
    let begin = || {
        let logged = Logged::default();
        tracing::subscriber::set_global_default(logged.clone()).expect("nobody else listens");
        logged
    };
    LOGGED.get_or_init(begin).clone()
}

fn on(handle: &Handle<Waits>, shard: usize) -> u64 {
    (0..).find(|id| handle.home(id).index() == shard).expect("some live there")
}

#[test]
fn a_message_that_does_not_come_back_is_seen_and_left_behind() {
    let _watchdog = Watchdog::new("a_message_that_does_not_come_back_is_seen_and_left_behind");
    let logged = logged();
    let runtime = start::<Waits>(3, config());
    let handle = runtime.handle();
    let (here, there) = (on(&handle, 0), on(&handle, 1));
    let let_go = Arc::new(AtomicBool::new(false));
    assert!(runtime.stats().shards.iter().all(|shard| shard.in_turn_for.is_none()));
    let held = handle.ask(Message::Hold(here, let_go.clone()));
    // While it lasts: in the statistics, and as a warning, more than once.
    until(|| runtime.stats().shards[0].in_turn_for.is_some_and(|turn| turn > Duration::from_millis(1)));
    until(|| logged.with("a message does not come back").len() >= 2);
    assert!(logged.with("a message does not come back").iter().all(|(level, text)| {
        *level == tracing::Level::WARN && text.contains("shard=0") && text.contains("message=\"Hold\"")
    }));
    // Nobody warns of a shard that is parked, however long. (Only this test has a shard 2. A busy
    // machine may keep it from its CPU once, before it parks.)
    until(|| logged.with("a message does not come back").len() >= 4);
    let of_parked = logged.with("a shard takes no turn");
    let of_parked = of_parked.iter().filter(|(_, text)| text.contains("shard=2"));
    assert!(of_parked.count() < 2);
    // The other shard goes on.
    assert_eq!(handle.ask(Message::Add(there)).wait(), Ok(Reply::Number(1)));
    // (An answer may come before its turn has ended.)
    until(|| runtime.stats().shards[1].in_turn_for.is_none());
    let stats = runtime.stats();
    assert_eq!((stats.shards[0].running, stats.shards[1].running), (Some("Hold"), None));
    let behind = handle.ask(Message::Add(here));
    let batch = handle.ask_all([Message::Add(here), Message::Add(there)]);

    let report = runtime.shutdown();
    assert!(!report.drained, "{report}");
    assert_eq!(report.stuck.iter().map(|stuck| stuck.shard).collect::<Vec<_>>(), [ShardIndex(0)]);
    assert!(
        report.stuck[0].in_turn_for.is_some() && report.to_string().contains("left behind: Hold has not"),
        "{report}"
    );
    // It may still take effect. What waited behind it never ran.
    assert_eq!(held.wait(), Err(AskError::Unknown));
    assert_eq!(behind.wait(), Err(AskError::Stopped));
    let batch = batch.wait();
    assert!(batch[0] == Err(AskError::Stopped) && batch[1].is_ok(), "{batch:?}");
    // Its thread ends when the message does.
    let_go.store(true, Ordering::Release);
    let threads = || {
        let threads = std::fs::read_dir("/proc/self/task").expect("/proc is mounted").flatten();
        let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
        names.filter(|name| name.trim() == "freehold-0").count()
    };
    until(|| threads() == 0);
}

/// What was begun may still take effect on the shard that does not come back, so it is neither
/// drained nor `Stopped`.
#[test]
fn a_transaction_that_waits_for_a_shard_left_behind_is_counted() {
    let _watchdog = Watchdog::new("a_transaction_that_waits_for_a_shard_left_behind_is_counted");
    let runtime = start::<Waits>(2, config());
    let handle = runtime.handle();
    let (here, there) = (on(&handle, 0), on(&handle, 1));
    let let_go = Arc::new(AtomicBool::new(false));
    let held = handle.ask(Message::Hold(there, let_go.clone()));
    until(|| runtime.stats().shards[1].in_turn_for.is_some());
    let both = handle.ask(Message::Both(here, there));
    // The lower shard took that before this one, so it has begun.
    let behind = (here + 1..).find(|id| handle.home(id).index() == 0).expect("some live there");
    assert_eq!(handle.ask(Message::Add(behind)).wait(), Ok(Reply::Number(1)));
    let report = runtime.shutdown();
    assert!(!report.drained && report.transactions_unfinished == 1, "{report}");
    assert_eq!((both.wait(), held.wait()), (Err(AskError::Unknown), Err(AskError::Unknown)));
    let_go.store(true, Ordering::Release);
}

#[test]
fn a_task_that_blocks_its_thread_is_seen_and_left_behind() {
    let _watchdog = Watchdog::new("a_task_that_blocks_its_thread_is_seen_and_left_behind");
    let logged = logged();
    let runtime = start::<Waits>(2, config());
    let handle = runtime.handle();
    let asked = handle.clone();
    let (begins, has_begun) = std::sync::mpsc::channel();
    let line = line!() + 1;
    let tasks = runtime.on_each_shard(move |local| {
        let (handle, begins) = (asked.clone(), begins.clone());
        async move {
            if local.shard() == ShardIndex(1) {
                begins.send(()).expect("the test waits for it");
                let here = on(&handle, 1);
                // It waits for its own shard, which waits for it.
                futures::executor::block_on(handle.ask(Message::Add(here))).map(drop)
            } else {
                Ok(())
            }
        }
    });
    let place = format!("{}:{line}:", file!());
    has_begun.recv().expect("it begins");
    // It is named while it lasts, by where it was spawned.
    let polled = || runtime.stats().shards[1].task_polled.map(|place| place.to_string());
    until(|| polled().is_some_and(|polled| polled.starts_with(&place)));
    let is_named = |(_, text): &(_, String)| text.contains("shard=1") && text.contains(&place);
    until(|| logged.with("a task of it does not give way").iter().any(is_named));
    let (here, there) = (on(&handle, 0), on(&handle, 1));
    let behind = handle.ask(Message::Add(there));
    assert_eq!(handle.ask(Message::Add(here)).wait(), Ok(Reply::Number(1)));
    let report = runtime.shutdown();
    assert_eq!(report.stuck.iter().map(|stuck| stuck.shard).collect::<Vec<_>>(), [ShardIndex(1)], "{report}");
    assert_eq!(report.stuck[0].in_turn_for, None, "{report}");
    let behind = behind.wait();
    assert!(matches!(behind, Err(AskError::Stopped | AskError::Unknown)), "{behind:?}");
    // What the task waits for it never hears of, as its shard would have to tell it: it stays where
    // it is.
    drop(tasks);
}

/// A task that took `slow_turn` was warned of, and nothing said which.
#[test]
fn tasks_that_keep_messages_waiting_are_named() {
    let _watchdog = Watchdog::new("tasks_that_keep_messages_waiting_are_named");
    let (logged, slow_turn, line) = (logged(), Duration::from_millis(5), Arc::new(AtomicU32::new(0)));
    let runtime = start::<Waits>(1, Config { slow_turn, ..Config::default() });
    let is_over = Arc::new(AtomicBool::new(false));
    let (until_over, spawned_at) = (is_over.clone(), line.clone());
    let tasks = runtime.on_each_shard(move |local| {
        let (is_over, spawned_at) = (until_over.clone(), spawned_at.clone());
        async move {
            while !is_over.load(Ordering::Relaxed) {
                spawned_at.store(line!() + 1, Ordering::Relaxed);
                local.spawn(async { std::thread::sleep(Duration::from_millis(6)) });
                glommio::timer::sleep(Duration::from_micros(10)).await;
            }
        }
    });
    // Messages always wait. (With one at a time the shard had mostly found nothing before the task
    // began, and then no message was kept waiting since a round.)
    let (teller, told_enough) = (runtime.handle(), is_over.clone());
    let teller = std::thread::spawn(move || {
        while !told_enough.load(Ordering::Relaxed) {
            drop(teller.tell(Message::Add(1)));
        }
    });
    until(|| {
        let place = format!("{}:{}:", file!(), line.load(Ordering::Relaxed));
        let named = logged.with("tasks kept a shard from its messages");
        named.iter().any(|(_, text)| text.contains(&place))
    });
    is_over.store(true, Ordering::Relaxed);
    teller.join().expect("it only tells");
    assert_eq!(tasks.wait(), [Ok(())]);
    assert!(runtime.shutdown().drained);
}

#[test]
fn what_is_waited_for_in_a_message_is_refused() {
    let _watchdog = Watchdog::new("what_is_waited_for_in_a_message_is_refused");
    for shards in [1, 2] {
        let runtime = start::<Waits>(shards, Config::default());
        let handle = runtime.handle();
        let snapshot = Arc::new(Mutex::new(Some(handle.snapshot().wait().expect("it opens"))));
        let inside = Arc::new(Mutex::new(Some(handle.clone())));
        for id in 0..8 {
            let refused = Reply::Asked(Box::new(Err(AskError::WaitOnShard)));
            assert_eq!(handle.ask(Message::Ask(id, inside.clone())).wait(), Ok(refused));
            let refused = Reply::Read(Err(SnapshotError::WaitOnShard), vec![Err(AskError::WaitOnShard)]);
            assert_eq!(handle.ask(Message::Read(id, snapshot.clone(), inside.clone())).wait(), Ok(refused));
            // What was sent runs all the same.
            until(|| handle.ask(Message::Add(id)).wait().is_ok_and(|reply| reply != Reply::Number(1)));
        }
        (*inside.lock().expect("nobody panics"), *snapshot.lock().expect("nobody panics")) = (None, None);
        assert!(runtime.shutdown().drained);
    }
}
