//! No allocation per message: not by `ask_now`, `ask`, `tell`, between shards, nor in the middle of an `ask_all`.
//!
//! Every allocation of the process is counted, so this file is one test and nothing else runs beside it.

mod support;

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold::{Config, Handle, Idle, Local, Runtime, ShardIndex, glommio};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{Counter, Message, Tally, Watchdog, ids, start, until};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Counts from here how often memory is asked for, and takes the time.
struct Measure {
    region: Region<'static, System>,
    begin: Instant,
}

impl Measure {
    fn new() -> Self {
        Measure { region: Region::new(ALLOCATOR), begin: Instant::now() }
    }

    fn measured(&self) -> Measured {
        let (change, took) = (self.region.change(), self.begin.elapsed());
        Measured { allocations: change.allocations + change.reallocations, took }
    }
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    allocations: usize,
    took: Duration,
}

fn measure(run: impl FnOnce()) -> Measured {
    let measure = Measure::new();
    run();
    measure.measured()
}

/// What shards that are awake allocate as time goes by (timers of their executor, a handful a millisecond), whether they have messages or not.
#[derive(Clone, Copy)]
struct Housekeeping {
    per_second: f64,
}

impl Housekeeping {
    /// Of a runtime that has nothing to do and does not park.
    fn of(shards: usize) -> Self {
        let measured = measure(|| std::thread::sleep(Duration::from_millis(300)));
        let per_second = measured.allocations as f64 / measured.took.as_secs_f64();
        println!("housekeeping of {shards} idle shards: {per_second:.0} allocations a second");
        Housekeeping { per_second }
    }

    /// What messages cost beyond it, which is counted double: a shard may be denied its core at times.
    fn beyond(&self, measured: Measured) -> usize {
        let of_time = 2.0 * self.per_second * measured.took.as_secs_f64();
        measured.allocations.saturating_sub(of_time as usize)
    }

    /// Runs so many messages three times and asserts that one of the three was free of allocations, but for one in a thousand messages: a buffer that
    /// grows because a core was taken away and messages piled up. One a batch of a hundred would be too much.
    fn assert_none(&self, what: &str, messages: u64, mut run: impl FnMut(u64) -> Measured) {
        run(messages / 10);
        let runs: Vec<Measured> = (0..3).map(|_| run(messages)).collect();
        let beyond = runs.iter().map(|run| self.beyond(*run)).min().expect("there are three");
        println!("{what}: {beyond} allocations in {messages} messages ({runs:?})");
        assert!(beyond <= messages as usize / 1000, "{what}: {beyond} allocations in {messages} messages");
    }
}

/// Shards that do not park: parking has its own price, paid when there is nothing to do.
fn awake(shards: usize) -> (Runtime<Counter>, Handle<Counter>, Vec<Vec<u64>>, Housekeeping) {
    let idle = Idle::Spin(Duration::from_secs(60));
    let runtime = start::<Counter>(shards, Config { idle, ..Config::default() });
    let handle = runtime.handle();
    let ids = ids(&handle, 8);
    let all = ids.concat();
    handle.ask_all(all.into_iter().map(add)).wait();
    (runtime, handle, ids, Housekeeping::of(shards))
}

fn add(to: u64) -> Message {
    Message::Add { to, by: 1 }
}

#[test]
fn no_message_costs_an_allocation() {
    let watchdog = Watchdog::new("no_message_costs_an_allocation");
    let boxes = measure(|| (0..100).for_each(|number| drop(std::hint::black_box(Box::new(number)))));
    assert!((100..110).contains(&boxes.allocations), "what allocates is counted: {boxes:?}");

    let steps = [inline, asked_and_told, asked_together, between_shards];
    for step in steps {
        watchdog.feed();
        step();
    }
}

/// `ask_now`: none at all.
fn inline() {
    const MESSAGES: u64 = 100_000;
    let (runtime, _, ids, _) = awake(1);
    let counted = runtime.on_each_shard(move |local| {
        let ids = ids[0].clone();
        async move {
            let run = |messages| {
                for at in 0..messages {
                    local.ask_now(&add(ids[at as usize % ids.len()])).unwrap();
                }
            };
            run(1000);
            measure(|| run(MESSAGES)).allocations
        }
    });
    let counted = counted.wait();
    println!("ask_now: {counted:?} allocations in {MESSAGES} messages");
    assert_eq!(counted, [Ok(0)]);
    assert!(runtime.shutdown().drained);
}

/// `ask` and `wait`, and `tell`, from another thread.
fn asked_and_told() {
    let (runtime, handle, ids, housekeeping) = awake(1);
    let message = |at: u64| add(ids[0][at as usize % ids[0].len()]);
    let ask = |messages| {
        for at in 0..messages {
            handle.ask(message(at)).wait().unwrap();
        }
    };
    let tell = |messages| {
        for at in 0..messages {
            while handle.tell(message(at)).is_err() {
                std::thread::yield_now();
            }
        }
        // Behind all of them.
        while handle.ask(message(0)).wait().is_err() {
            std::thread::yield_now();
        }
    };
    housekeeping.assert_none("ask", 10_000, |messages| measure(|| ask(messages)));
    housekeeping.assert_none("tell", 50_000, |messages| measure(|| tell(messages)));
    assert!(runtime.shutdown().drained);
}

/// `ask_all`: as many for 1,024 messages as for 256, and few.
fn asked_together() {
    const CALLS: usize = 50;
    for shards in [1, 2] {
        let (runtime, handle, ids, housekeeping) = awake(shards);
        let ids = ids.concat();
        let ask_all = |messages: usize| {
            for _ in 0..CALLS {
                let outcomes = handle.ask_all((0..messages).map(|at| add(ids[at % ids.len()]))).wait();
                assert!(outcomes.len() == messages && outcomes.iter().all(Result::is_ok));
            }
        };
        let [few, many] = [256, 1024].map(|messages| {
            ask_all(messages);
            let runs = (0..3).map(|_| housekeeping.beyond(measure(|| ask_all(messages))));
            runs.min().expect("there are three")
        });
        println!(
            "ask_all on {shards} shards: {few} allocations in {CALLS} calls of 256 messages, {many} of 1,024"
        );
        assert!(many <= few + CALLS, "{few} allocations in {CALLS} calls of 256 messages, {many} of 1,024");
        assert!(few <= CALLS * 16 * shards, "{few} allocations in {CALLS} calls");
        assert!(runtime.shutdown().drained);
    }
}

/// `Local::tell` and `Local::ask` to another shard, and messages that objects tell objects of another shard.
fn between_shards() {
    let (runtime, handle, ids, housekeeping) = awake(2);
    let far = ids[1].clone();
    let tasks = runtime.on_each_shard(move |local| {
        let far = far.clone();
        async move {
            let mut measured = [Vec::new(), Vec::new()];
            if local.shard() == ShardIndex(0) {
                for messages in [1_000, 10_000, 10_000, 10_000] {
                    let measure = Measure::new();
                    tell(&local, &far, messages).await;
                    measured[0].push(measure.measured());
                    let measure = Measure::new();
                    ask(&local, &far, messages).await;
                    measured[1].push(measure.measured());
                }
            }
            measured
        }
    });
    let Ok(measured) = &tasks.wait()[0] else { panic!("the task ends well") };
    for (what, runs) in
        ["a task's tell to another shard", "a task's ask of another shard"].iter().zip(measured)
    {
        let mut runs = runs.iter();
        housekeeping.assert_none(what, 10_000, |_| *runs.next().expect("one to warm up, and three"));
    }

    let (along, ran) = (Arc::from([ids[0][0], ids[1][0]]), Tally::default());
    housekeeping.assert_none("an object's tell to another shard", 20_000, |hops| {
        measure(|| {
            let before = ran.counted();
            handle.tell(Message::Hop { along: Arc::clone(&along), at: 0, hops, ran: ran.clone() }).unwrap();
            until(|| ran.counted() == before + 1 + hops);
        })
    });
    assert!(runtime.shutdown().drained);
}

async fn tell(local: &Local<Counter>, far: &[u64], messages: u64) {
    for at in 0..messages {
        while local.tell(add(far[at as usize % far.len()])).is_err() {
            glommio::executor().yield_task_queue_now().await;
        }
    }
    local.ask(add(far[0])).await.unwrap();
}

async fn ask(local: &Local<Counter>, far: &[u64], messages: u64) {
    for at in 0..messages {
        local.ask(add(far[at as usize % far.len()])).await.unwrap();
    }
}
