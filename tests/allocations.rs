//! No allocation per message: not by `ask_now`, `ask`, `tell`, between shards, nor in the middle of
//! an `ask_all`.
//!
//! Every allocation of the process is counted, so this file is one test and nothing else runs
//! beside it.

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

/// How often it is measured at most.
const RUNS: usize = 8;

/// What shards that are awake allocate as time goes by, whether they have messages or not: timers
/// that guard their executor (`src/core/stall_timer.rs`), and those of glommio.
#[derive(Clone, Copy)]
struct Housekeeping {
    per_millisecond: f64,
}

impl Housekeeping {
    fn of(shards: usize) -> Self {
        Housekeeping { per_millisecond: 5.0 * shards as f64 }
    }

    /// What was allocated beyond it.
    fn beyond(&self, measured: Measured) -> usize {
        let of_time = self.per_millisecond * measured.took.as_secs_f64() * 1000.0;
        measured.allocations.saturating_sub(of_time as usize)
    }

    /// Asserts that in one of several runs there are no more than `most`: what a message allocates
    /// is there in each, and what a busy machine adds is not. After the first such run it stops.
    ///
    /// The story: all runs were made, and the one with the fewest was judged. Beside eight busy
    /// loops that took a quarter of an hour.
    fn assert_few(&self, what: &str, most: usize, runs: impl IntoIterator<Item = Measured>) {
        let mut each = runs.into_iter().map(|run| (self.beyond(run), run)).inspect(|(beyond, run)| {
            println!("{what}: {beyond} allocations, {run:?}");
        });
        assert!(each.any(|(beyond, _)| beyond <= most), "{what}: more than {most} allocations in each run");
    }

    /// Asserts that so many messages cost no allocation, but for one in a thousand: a buffer that
    /// grows because a core was taken away and messages piled up. One for each batch of a hundred
    /// would be too much.
    fn assert_none(&self, what: &str, messages: u64, mut run: impl FnMut(u64) -> Measured) {
        run(messages);
        let what = format!("{what}, {messages} messages");
        self.assert_few(&what, messages as usize / 1000, (0..RUNS).map(|_| run(messages)));
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
    // To be fed it would have to allocate in the middle of what is measured.
    let watchdog = Watchdog::with_patience("no_message_costs_an_allocation", Duration::from_secs(600));
    let boxes = || measure(|| (0..100).for_each(|number| drop(std::hint::black_box(Box::new(number)))));
    // The watchdog's thread allocates, too. It adds to some runs, and not to the least.
    let boxes = (0..RUNS).map(|_| boxes().allocations).min().expect("there are runs");
    assert!((100..110).contains(&boxes), "what allocates is counted: {boxes}");

    let steps = [inline, asked_and_told, asked_together, between_shards, across_shards];
    for step in steps {
        watchdog.feed();
        step();
    }
}

/// `ask_now`: none at all.
fn inline() {
    const MESSAGES: u64 = 5_000;
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
            // The watchdog's thread allocates, too: on a busy machine in every long run.
            let runs = (0..20).map(|_| measure(|| run(MESSAGES)).allocations);
            runs.min().expect("there are runs")
        }
    });
    let counted = counted.wait();
    println!("ask_now: {counted:?} allocations in {MESSAGES} messages");
    // None of the shard's; this thread may need one or two the first time it waits.
    assert!(matches!(counted[..], [Ok(..5)]), "{counted:?} allocations in {MESSAGES} messages");
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
    housekeeping.assert_none("ask", 5_000, |messages| measure(|| ask(messages)));
    housekeeping.assert_none("tell", 50_000, |messages| measure(|| tell(messages)));
    assert!(runtime.shutdown().drained);
}

/// `ask_all`: at most so many a call and shard, for 1,024 messages as for 256.
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
        for messages in [256, 1024] {
            ask_all(messages);
            let what = format!("{CALLS} calls of ask_all on {shards} shards, of {messages} messages");
            let runs = (0..RUNS).map(|_| measure(|| ask_all(messages)));
            housekeeping.assert_few(&what, 16 * CALLS * shards, runs);
        }
        assert!(runtime.shutdown().drained);
    }
}

/// `Local::tell` and `Local::ask` to another shard, and messages that objects tell objects of
/// another shard.
fn between_shards() {
    const MESSAGES: u64 = 3_000;
    const FEW: usize = MESSAGES as usize / 1000;
    let (runtime, handle, ids, housekeeping) = awake(2);
    let has_few = move |runs: &[Measured]| runs.iter().any(|run| housekeeping.beyond(*run) <= FEW);
    let far = ids[1].clone();
    let tasks = runtime.on_each_shard(move |local| {
        let far = far.clone();
        async move {
            let mut measured = [Vec::new(), Vec::new()];
            if local.shard() == ShardIndex(0) {
                tell(&local, &far, MESSAGES).await;
                ask(&local, &far, MESSAGES).await;
                while measured[0].len() < RUNS && !measured.iter().all(|runs| has_few(runs)) {
                    let measure = Measure::new();
                    tell(&local, &far, MESSAGES).await;
                    measured[0].push(measure.measured());
                    let measure = Measure::new();
                    ask(&local, &far, MESSAGES).await;
                    measured[1].push(measure.measured());
                }
            }
            measured
        }
    });
    let Ok(measured) = &tasks.wait()[0] else { panic!("the task ends well") };
    for (what, runs) in
        ["a task's tells to another shard", "a task's asks of another shard"].iter().zip(measured)
    {
        housekeeping.assert_few(what, FEW, runs.iter().copied());
    }

    let (along, ran) = (Arc::from([ids[0][0], ids[1][0]]), Tally::default());
    housekeeping.assert_none("an object's tell to another shard", 10_000, |hops| {
        measure(|| {
            let before = ran.counted();
            handle.tell(Message::Hop { along: Arc::clone(&along), at: 0, hops, ran: ran.clone() }).unwrap();
            until(|| ran.counted() == before + 1 + hops);
        })
    });
    assert!(runtime.shutdown().drained);
}

/// Transactions over two shards, one after the other and many at once: their boxes are used again.
fn across_shards() {
    let (runtime, handle, ids, housekeeping) = awake(2);
    let both = |at: u64| {
        let at = at as usize;
        Message::AddBoth { to: [ids[0][at % ids[0].len()], ids[1][at % ids[1].len()]] }
    };
    housekeeping.assert_none("a transaction", 3_000, |messages| {
        measure(|| assert!((0..messages).all(|at| handle.ask(both(at)).wait().is_ok())))
    });
    let mut window = Vec::with_capacity(256);
    housekeeping.assert_none("a transaction among 256", 20_480, |messages| {
        measure(|| {
            for at in 0..messages / 256 {
                window.extend((0..256).map(|other| handle.ask(both(at + other))));
                assert!(window.drain(..).all(|ask| ask.wait().is_ok()));
            }
        })
    });
    let consensus: u64 = handle.stats().shards.iter().map(|shard| shard.counters.consensus).sum();
    assert!(consensus > 40_000, "only {consensus} were transactions");
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
