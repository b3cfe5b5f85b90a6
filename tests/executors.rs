//! One handle, every executor: plain threads, `futures`' block_on, tokio, and glommio tasks on the
//! shards themselves. And what they all may do to it: drop a future at any time.
//!
//! Tests that only send share one runtime, each with ids of its own; the one that holds a shard up
//! has its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use freehold::glommio::spawn_local;
use freehold::{
    AccessError, Actor, Addressees, Ask, AskError, Config, Handle, Objects, Runtime, ShardIndex, Shards,
    TaskError,
};
use futures::executor::block_on;
use futures::future::{join_all, select};

/// Numbers that are added to.
#[derive(Debug)]
struct Sums;

#[derive(Clone, Copy, Debug)]
enum Message {
    Add {
        id: u64,
        amount: u64,
    },
    /// Not what an actor should do: holds the shard up until the gate is open.
    AddBehindGate {
        id: u64,
        amount: u64,
    },
}

static GATE: Mutex<()> = Mutex::new(());

fn close_gate() -> MutexGuard<'static, ()> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(id: u64, amount: u64) -> Message {
    Message::Add { id, amount }
}

impl Actor for Sums {
    type Id = u64;
    type State = u64;
    type Message = Message;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        let (Message::Add { id, .. } | Message::AddBehindGate { id, .. }) = message;
        to.write(*id);
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        if let Message::AddBehindGate { .. } = message {
            drop(close_gate());
        }
        let (Message::Add { id, amount } | Message::AddBehindGate { id, amount }) = *message;
        let sum = objects.get_or_insert_with(id, || 0)?;
        *sum += amount;
        Ok(*sum)
    }
}

static RUNTIME: LazyLock<Runtime<Sums>> = LazyLock::new(|| {
    Runtime::start(Config { shards: Shards::Count(2), ..Config::default() }).expect("the runtime starts")
});

/// One of the ids of a test.
fn id(test: u64, at: u64) -> u64 {
    (test << 32) + at
}

/// An id of a test that lives on `shard`.
fn id_on(handle: &Handle<Sums>, test: u64, shard: ShardIndex) -> u64 {
    (id(test, 0)..).find(|id| handle.home(id) == shard).expect("each shard has its part of all ids")
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn plain_threads_wait() {
    let handle = RUNTIME.handle();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..100 {
                    handle.ask(add(id(1, round % 16), 1)).wait().expect("it is added");
                }
            });
        }
    });
    let sums = handle.ask_all((0..16).map(|at| add(id(1, at), 0))).wait();
    assert_eq!(sums.into_iter().map(Result::unwrap).sum::<u64>(), 400);
}

#[test]
fn block_on_waits_for_one_and_for_many() {
    let handle = RUNTIME.handle();
    assert_eq!(block_on(handle.ask(add(id(2, 0), 5))), Ok(5));
    let ids = id(2, 1)..=id(2, 100);
    let all = block_on(join_all(ids.clone().map(|id| handle.ask(add(id, id)))));
    assert_eq!(all, ids.clone().map(Ok).collect::<Vec<_>>());
    // In the order of the messages, though each comes from one of two shards.
    let all = block_on(handle.ask_all(ids.clone().map(|id| add(id, 1))));
    assert_eq!(all, ids.map(|id| Ok(id + 1)).collect::<Vec<_>>());
}

#[test]
fn the_same_future_moves_between_executors() {
    let handle = RUNTIME.handle();
    for amount in 1..=100 {
        let mut ask = handle.ask(add(id(3, 0), 1));
        // Polled here, by a waker that wakes nobody, and awaited elsewhere: the waker that counts
        // is the last.
        let here = poll(&mut ask);
        let sum = match here {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => thread::spawn(move || block_on(ask)).join().expect("it does not panic"),
        };
        assert_eq!(sum, Ok(amount));
    }
}

#[test]
fn tokio_tasks_await() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("tokio starts");
    tokio.block_on(async {
        let handle = RUNTIME.handle();
        let tasks: Vec<_> = (0..200_u64)
            .map(|task| {
                let handle = handle.clone();
                tokio::spawn(async move {
                    for round in 0..10 {
                        handle.ask(add(id(4, (task + round) % 32), 1)).await.expect("it is added");
                    }
                    handle.ask_all((0..32).map(|at| add(id(4, at), 1))).await.len()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.expect("it does not panic"), 32);
        }
        let sums = handle.ask_all((0..32).map(|at| add(id(4, at), 0))).await;
        assert_eq!(sums.into_iter().map(Result::unwrap).sum::<u64>(), 200 * (10 + 32));
        // A worker of tokio is no shard: blocking it is tokio's affair, and allowed.
        assert_eq!(handle.ask(add(id(5, 0), 1)).wait(), Ok(1));
    });
}

#[test]
fn tasks_on_a_shard_await_other_shards() {
    const ROUNDS: u64 = 200;
    let results = RUNTIME
        .on_each_shard(|local| async move {
            let handle = local.handle();
            let here = id_on(&handle, 6, local.shard());
            let there = id_on(&handle, 7, ShardIndex(1 - local.shard().0));
            // Through the handle: to the other shard, to this one, and to both at once.
            for round in 1..=ROUNDS {
                assert_eq!(handle.ask(add(there, 1)).await, Ok(3 * round - 2));
                assert_eq!(handle.ask(add(here, 1)).await, Ok(2 * round - 1));
                assert_eq!(
                    handle.ask_all([add(there, 1), add(here, 1)]).await,
                    [Ok(3 * round - 1), Ok(2 * round)]
                );
                // And by the shorter way, which may be mixed with it when each is awaited.
                assert_eq!(local.ask(add(there, 1)).await, Ok(3 * round));
            }
            // From a task that the runtime knows nothing of, several at once.
            let asks = join_all((0..8).map(|_| handle.ask(add(there, 1))));
            spawn_local(asks).await.into_iter().map(Result::unwrap).max()
        })
        .wait();
    assert_eq!(results, [Ok(Some(3 * ROUNDS + 8)), Ok(Some(3 * ROUNDS + 8))]);
}

#[test]
fn waiting_on_a_shards_thread_is_refused_and_the_message_runs() {
    let results = RUNTIME
        .on_each_shard(|local| async move {
            let handle = local.handle();
            let ids: Vec<_> = [ShardIndex(0), ShardIndex(1)]
                .into_iter()
                .map(|home| id_on(&handle, 8 + u64::from(local.shard().0), home))
                .collect();
            for id in &ids {
                assert_eq!(handle.ask(add(*id, 1)).wait(), Err(AskError::WaitOnShard));
            }
            let both = handle.ask_all(ids.iter().map(|id| add(*id, 1))).wait();
            assert_eq!(both, [Err(AskError::WaitOnShard), Err(AskError::WaitOnShard)]);
            assert_eq!(RUNTIME.on_each_shard(|_| async {}).wait(), vec![Err(TaskError::WaitOnShard); 2]);
            handle.ask_all(ids.iter().map(|id| add(*id, 0))).await
        })
        .wait();
    assert_eq!(results, vec![Ok(vec![Ok(2), Ok(2)]); 2], "only the waiting was refused");
}

#[test]
fn a_future_that_loses_a_race_is_dropped_and_its_message_runs() {
    let handle = RUNTIME.handle();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("tokio starts");
    tokio.block_on(async {
        for _ in 0..500 {
            // Both are sent; whichever comes later is dropped, with the waker of this task in it.
            let first = select(handle.ask(add(id(10, 0), 1)), handle.ask(add(id(10, 1), 1))).await;
            drop(first);
        }
        assert_eq!(handle.ask(add(id(10, 0), 0)).await, Ok(500));
        assert_eq!(handle.ask(add(id(10, 1), 0)).await, Ok(500));
    });
}

/// Few, so that a leak of one in a few asks is found.
const ASKS_IN_FLIGHT_MAX: usize = 16;

#[test]
fn dropped_futures_leak_no_slot() {
    let config =
        Config { shards: Shards::Count(1), asks_in_flight_max: ASKS_IN_FLIGHT_MAX, ..Config::default() };
    let runtime = Runtime::<Sums>::start(config).expect("the runtime starts");
    let handle = runtime.handle();
    let mut sent = 0;

    // Dropped before the answer: the message holds its slot until the shard has answered, and then
    // no longer.
    for round in 0..8 {
        let gate = close_gate();
        let held = handle.ask(Message::AddBehindGate { id: 1, amount: 1 });
        let mut asks: Vec<_> = (1..ASKS_IN_FLIGHT_MAX).map(|_| handle.ask(add(1, 1))).collect();
        sent += asks.len() as u64 + 1;
        // Half of them leave a waker behind.
        for ask in &mut asks[..ASKS_IN_FLIGHT_MAX / 2] {
            assert!(poll(ask).is_pending(), "round {round}: every slot is free again");
        }
        assert_eq!(handle.ask(add(1, 1)).wait(), Err(AskError::Overloaded));
        drop(asks);
        assert_eq!(handle.ask(add(1, 1)).wait(), Err(AskError::Overloaded), "the messages are under way");
        drop(gate);
        held.wait().expect("it is added");
        assert_eq!(wait_for_room(&handle).wait(), Ok(sent), "what was dropped has run");
    }

    // Dropped after the answer, unread.
    for _ in 0..10 * ASKS_IN_FLIGHT_MAX {
        let unread = handle.ask(add(1, 1));
        assert_eq!(handle.ask(add(1, 1)).wait(), Ok(sent + 2), "which comes after the other");
        sent += 2;
        drop(unread);
    }

    // Dropped at any time, by threads of their own.
    let accepted: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    (0..2000)
                        .filter(|_| {
                            !matches!(
                                poll(&mut handle.ask(add(1, 1))),
                                Poll::Ready(Err(AskError::Overloaded))
                            )
                        })
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic") as u64).sum()
    });
    sent += accepted;
    assert_eq!(wait_for_room(&handle).wait(), Ok(sent));

    // All slots are there: as many asks are answered at once as ever.
    let gate = close_gate();
    let held = handle.ask(Message::AddBehindGate { id: 1, amount: 1 });
    let asks: Vec<_> = (1..ASKS_IN_FLIGHT_MAX).map(|_| handle.ask(add(1, 1))).collect();
    drop(gate);
    assert!(block_on(held).is_ok() && block_on(join_all(asks)).into_iter().all(|outcome| outcome.is_ok()));

    // A future outlives its runtime, and so does a handle.
    let late = handle.ask(add(1, 0));
    let report = runtime.shutdown();
    assert!(report.drained, "{report}");
    assert_eq!(late.wait(), Ok(sent + ASKS_IN_FLIGHT_MAX as u64));
    assert_eq!(handle.ask(add(1, 1)).wait(), Err(AskError::Stopped));
}

/// An ask that found a slot: those of dropped asks come free as the shard answers them. If they do
/// not, the watchdog says so.
fn wait_for_room(handle: &Handle<Sums>) -> Ask<Sums> {
    loop {
        let mut ask = handle.ask(add(1, 0));
        if poll(&mut ask).is_pending() {
            return ask;
        }
        thread::yield_now();
    }
}
