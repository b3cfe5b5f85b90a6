//! What goes wrong ends in the documented error, for everyone whom it concerns and for nobody else,
//! and never in a hang.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::support::held::{hold, hold_up};
use crate::support::skip::skip;
use crate::support::{Counter, Message, Tally, Watchdog, hush, ids, start, until};
use freehold::{
    AccessError, Actor, Addressees, AskError, Config, ConfigError, Death, DeathCause, Handle, Idle, Objects,
    Outcome, PlaceError, Runtime, ShardIndex, Shards, StartError, TaskError, TellError, Topology, glommio,
};
use futures::FutureExt;

fn add(to: u64, by: u64) -> Message {
    Message::Add { to, by }
}

#[test]
fn a_panicking_message_changes_nothing_and_its_shard_lives() {
    let _watchdog = Watchdog::new("a_panicking_message_changes_nothing_and_its_shard_lives");
    hush();
    let runtime = start::<Counter>(2, Config::default());
    let handle = runtime.handle();
    for id in ids(&handle, 1).concat() {
        assert_eq!(handle.ask(add(id, 5)).wait(), Ok(5));
        let Err(AskError::Panicked(panic)) = handle.ask(Message::Break { to: id }).wait() else {
            panic!("it panics")
        };
        assert_eq!((panic.object(), panic.text()), (id.to_string(), "broken on purpose".to_string()));
        handle.tell(Message::Break { to: id }).unwrap();
        let mixed = [add(id, 1), Message::Break { to: id }, add(id, 1), Message::Break { to: id }];
        let outcomes = handle.ask_all(mixed).wait();
        assert!(
            matches!(outcomes[..], [Ok(6), Err(AskError::Panicked(_)), Ok(7), Err(AskError::Panicked(_))]),
            "{outcomes:?}"
        );
        // An object that a panicking message would have made does not exist, and what it told was
        // not sent.
        let other = (1000..).find(|other| handle.home(other) == handle.home(&id)).unwrap();
        assert!(matches!(handle.ask(Message::Break { to: other }).wait(), Err(AskError::Panicked(_))));
        assert_eq!(handle.ask(Message::Read { of: other }).wait(), Ok(0));
        assert_eq!(handle.ask(Message::Read { of: id }).wait(), Ok(7));
    }
    let on_the_shard = runtime.on_each_shard(|local| async move {
        let id = (1..).find(|id| local.home(id) == local.shard()).unwrap();
        let broken = local.ask_now(&Message::Break { to: id });
        (broken, local.ask_now(&Message::Read { of: id }))
    });
    for here in on_the_shard.wait() {
        assert!(matches!(here, Ok((Err(AskError::Panicked(_)), Ok(7)))), "{here:?}");
    }
    let report = runtime.shutdown();
    assert!(report.drained && report.deaths.is_empty(), "{report}");
    for shard in &report.stats.shards {
        let counters = shard.counters;
        assert_eq!((counters.panicked, counters.told, counters.objects), (6, 0, 1), "{counters:?}");
    }
}

#[test]
fn a_panicking_task_is_its_own_affair() {
    let _watchdog = Watchdog::new("a_panicking_task_is_its_own_affair");
    hush();
    let runtime = start::<Counter>(2, Config::default());
    let handle = runtime.handle();
    let panicked = |message: &str| Err(TaskError::Panicked(message.to_string()));
    let in_the_task = runtime.on_each_shard(|local| async move {
        glommio::timer::sleep(Duration::from_millis(1)).await;
        if local.shard() == ShardIndex(1) {
            panic!("a task, on purpose");
        }
        local.shard()
    });
    let in_the_call = runtime.on_each_shard(|local| {
        if local.shard() == ShardIndex(0) {
            panic!("a call, on purpose");
        }
        async move { local.shard() }
    });
    let lives = runtime.on_each_shard(|local| async move {
        local.spawn(async { panic!("a spawned task, on purpose") });
        local.stopping().await;
        local.ask_now(&Message::Read { of: 0 }).is_ok()
    });
    assert_eq!(in_the_task.wait(), [Ok(ShardIndex(0)), panicked("a task, on purpose")]);
    assert_eq!(in_the_call.wait(), [panicked("a call, on purpose"), Ok(ShardIndex(1))]);
    until(|| runtime.stats().shards.iter().all(|shard| shard.tasks_panicked == 2));
    for id in ids(&handle, 1).concat() {
        assert_eq!(handle.ask(add(id, 1)).wait(), Ok(1), "the shards live on");
    }
    let report = runtime.shutdown();
    assert!(report.drained && report.deaths.is_empty() && report.tasks_cancelled == 0, "{report}");
    let read: Vec<bool> =
        lives.wait().into_iter().map(|result| result.expect("it ended by itself")).collect();
    assert_eq!(read.iter().filter(|read| **read).count(), 1, "object 0 lives on one of the shards");
}

#[test]
fn a_handle_outlives_its_runtime() {
    let _watchdog = Watchdog::new("a_handle_outlives_its_runtime");
    let runtime = start::<Counter>(2, Config::default());
    let handle = runtime.handle();
    let [a, b] = ids(&handle, 1).concat()[..] else { panic!("two shards") };
    let kept = (handle.ask(add(a, 3)), handle.ask_all([add(b, 4), add(a, 1)]));
    let home = handle.home(&a);
    assert!(runtime.shutdown().drained);
    assert_eq!(kept.0.wait(), Ok(3), "what ran before has its outcome");
    assert_eq!(kept.1.wait(), [Ok(4), Ok(4)]);
    let used = std::thread::spawn(move || {
        for id in [a, b] {
            assert_eq!(handle.ask(add(id, 1)).wait(), Err(AskError::Stopped));
            assert_eq!(futures::executor::block_on(handle.ask(add(id, 1))), Err(AskError::Stopped));
            let told = handle.tell(add(id, 77)).unwrap_err();
            assert!(matches!(told, TellError::Stopped(_)), "{told:?}");
            assert!(matches!(told.into_message(), Message::Add { by: 77, .. }), "the message comes back");
        }
        let outcomes = handle.ask_all((0..1000).map(|id| add(id, 1))).wait();
        assert!(outcomes.len() == 1000 && outcomes.iter().all(|outcome| *outcome == Err(AskError::Stopped)));
        assert_eq!(handle.ask_all([]).wait(), []);
        assert_eq!((handle.home(&a), handle.shards()), (home, 2));
        handle.stats()
    });
    assert_eq!(used.join().unwrap().handled(), 3);
}

#[test]
fn a_runtime_that_is_dropped_stops() {
    let _watchdog = Watchdog::new("a_runtime_that_is_dropped_stops");
    hush();
    let ran = Tally::default();
    let count = |to| Message::Count { to, ran: ran.clone() };
    let runtime = start::<Counter>(2, Config::default());
    let handle = runtime.handle();
    let each = runtime.on_each_shard(|_| pending::<()>());
    until(|| runtime.stats().shards.iter().all(|shard| shard.tasks == 1));
    let asks: Vec<_> = (0..100).map(|id| handle.ask(count(id))).collect();
    drop(runtime);
    assert_eq!(each.wait(), [Err(TaskError::Cancelled), Err(TaskError::Cancelled)]);
    assert!(asks.into_iter().all(|ask| ask.wait().is_ok()), "they were accepted before");
    assert_eq!(handle.ask(count(1)).wait(), Err(AskError::Stopped));

    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let runtime = start::<Counter>(2, Config::default());
        let handle = runtime.handle();
        (0..100).for_each(|id| drop(handle.ask(count(id))));
        panic!("its owner panics, on purpose");
    }));
    assert!(unwound.is_err());
    assert_eq!(ran.counted(), 200, "also by those whose answers nobody wants");
}

#[test]
fn a_start_that_cannot_be_is_refused_in_words() {
    let _watchdog = Watchdog::new("a_start_that_cannot_be_is_refused_in_words");
    let refused = |config: Config| Runtime::<Counter>::start(config).map(drop).unwrap_err();
    let on = |shards: Shards| refused(Config { shards, ..Config::default() });
    for (shards, said) in [(Shards::Count(0), 0), (Shards::Count(1000), 1000), (Shards::OnCpus(vec![]), 0)] {
        let error = on(shards);
        let StartError::Config(ConfigError::OutOfRange { field: "shards", value, min: 1, max: 256 }) = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(value, said);
        assert_eq!(error.to_string(), format!("configuration: `shards` is {said}, and it must be 1 to 256"));
    }
    let allowed = Topology::of_this_process().unwrap().cpus()[0].id;
    let error = on(Shards::OnCpus(vec![allowed, 9999]));
    assert!(matches!(error, StartError::Placement(PlaceError::Missing { cpu: 9999, .. })), "{error:?}");
    assert!(error.to_string().contains("this machine has no CPU 9999"), "{error}");
    let error = on(Shards::OnCpus(vec![allowed, allowed]));
    assert!(matches!(error, StartError::Placement(PlaceError::Twice { cpu }) if cpu == allowed), "{error:?}");
    assert!(error.to_string().contains(&format!("CPU {allowed} is listed twice")), "{error}");
    let error = refused(Config { idle: Idle::Spin(Duration::MAX), ..Config::default() });
    assert!(
        matches!(error, StartError::Config(ConfigError::TimeOutOfRange { field: "idle", .. })),
        "{error:?}"
    );
    let error = refused(Config { ring_depth: 0, ..Config::default() });
    assert!(
        matches!(error, StartError::Config(ConfigError::OutOfRange { field: "ring_depth", .. })),
        "{error:?}"
    );
    // None of this was in the way of one that can be.
    let runtime =
        Runtime::<Counter>::start(Config { shards: Shards::OnCpus(vec![allowed]), ..Config::default() });
    assert!(runtime.unwrap().shutdown().drained);
}

#[test]
fn a_cpu_that_is_not_allowed_is_refused() {
    let _watchdog = Watchdog::new("a_cpu_that_is_not_allowed_is_refused");
    let cpus: Vec<usize> = Topology::of_this_process().unwrap().cpus().iter().map(|cpu| cpu.id).collect();
    let [allowed, other, ..] = cpus[..] else {
        return skip("a_cpu_that_is_not_allowed_is_refused", "this process has one CPU only");
    };
    // What counts is the main thread's affinity, so this is tested in a process of its own.
    const CHILD: &str = "FREEHOLD_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::a_cpu_that_is_not_allowed_is_refused", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let mut only = rustix::thread::CpuSet::new();
    only.set(allowed);
    rustix::thread::sched_setaffinity(Some(rustix::process::getpid()), &only).unwrap();
    let config = Config { shards: Shards::OnCpus(vec![other]), ..Config::default() };
    let error = Runtime::<Counter>::start(config).map(drop).unwrap_err();
    assert!(
        matches!(error, StartError::Placement(PlaceError::NotAllowed { cpu, .. }) if cpu == other),
        "{error:?}"
    );
    // More shards than this process has CPUs run, bound to none.
    let runtime = start::<Counter>(2, Config::default());
    assert!(runtime.stats().shards.iter().all(|shard| shard.cpu.is_none()));
    assert!(runtime.shutdown().drained);
}

/// What callers of a dying runtime were told.
#[derive(Default)]
struct Told {
    ok: u64,
    unknown: u64,
    stopped: u64,
}

impl Told {
    fn note(&mut self, outcome: &Result<u64, AskError<AccessError<u64>>>) {
        match outcome {
            Ok(_) => self.ok += 1,
            Err(AskError::Unknown) => self.unknown += 1,
            Err(AskError::Stopped) => self.stopped += 1,
            Err(other) => panic!("not an answer of a dying runtime: {other:?}"),
        }
    }
}

#[test]
fn a_shard_that_dies_leaves_nobody_waiting_and_nobody_deceived() {
    let _watchdog = Watchdog::new("a_shard_that_dies_leaves_nobody_waiting_and_nobody_deceived");
    hush();
    let ran = Tally::default();
    let small = Config { ingress_entries_max: 16, batch_messages_max: 4, ..Config::default() };
    let runtime = start::<Counter>(2, small);
    let handle = runtime.handle();
    let [lives, dies] = ids(&handle, 1).concat()[..] else { panic!("two shards") };

    // Shard 1 is held by a task that will have it die, so that what is sent to it stays where it
    // is.
    let (hold, held) = hold();
    let killer = runtime.on_each_shard(move |local| {
        let hold = hold.clone();
        async move {
            if local.shard() == ShardIndex(1) {
                hold.here();
                // Not in its first step, which is a part of this task.
                glommio::spawn_local(async {
                    glommio::timer::sleep(Duration::from_millis(1)).await;
                    panic!("this executor dies, on purpose")
                })
                .detach();
            }
            pending::<()>().await;
        }
    });
    held.wait_for(1);

    // Tasks of the living shard wait for the other, by either door. They end with their executor.
    let count = |to| Message::Count { to, ran: ran.clone() };
    let (message, handle_there) = (count(dies), handle.clone());
    let tasks = runtime.on_each_shard(move |local| {
        let (message, handle) = (message.clone(), handle_there.clone());
        async move {
            let by_local = local.ask(message.clone());
            let by_handle = handle.ask(message);
            (by_local.await, by_handle.await)
        }
    });
    until(|| runtime.stats().shards[0].activity.lane_sent > 0);
    let asks: Vec<_> = (0..6).map(|_| handle.ask(count(dies))).collect();
    assert!(handle.ask(count(dies)).now_or_never().is_none(), "nobody will hear of this one");
    let split = handle.ask_all([count(lives), count(dies), count(lives)]);
    // More than there is room for: most of it waits in the caller, where it must be refused too.
    let waits = std::thread::spawn({
        let (handle, messages) = (handle.clone(), vec![count(dies); 200]);
        move || handle.ask_all(messages).wait()
    });
    let hammers: Vec<_> = [lives, dies]
        .map(|id| {
            let (handle, message) = (handle.clone(), count(id));
            std::thread::spawn(move || {
                let mut told = Told::default();
                loop {
                    match handle.ask(message.clone()).wait() {
                        Err(AskError::Overloaded) => std::thread::yield_now(),
                        outcome => {
                            told.note(&outcome);
                            if outcome.is_err() {
                                return told;
                            }
                        }
                    }
                }
            })
        })
        .into();
    until(|| handle.ask(count(dies)).now_or_never() == Some(Err(AskError::Overloaded)));
    drop(held);

    let mut told = Told::default();
    asks.into_iter().for_each(|ask| told.note(&ask.wait()));
    split.wait().iter().for_each(|outcome| told.note(outcome));
    waits.join().unwrap().iter().for_each(|outcome| told.note(outcome));
    assert_eq!(told.ok + told.unknown + told.stopped, 6 + 3 + 200);
    for hammer in hammers {
        let more = hammer.join().unwrap();
        told = Told {
            ok: told.ok + more.ok,
            unknown: told.unknown + more.unknown,
            stopped: told.stopped + more.stopped,
        };
    }
    for (by_local, by_handle) in tasks.wait().into_iter().flatten() {
        told.note(&by_local);
        if by_handle != Err(AskError::Overloaded) {
            told.note(&by_handle);
        }
    }
    assert!(killer.wait().iter().all(|result| *result == Err(TaskError::Cancelled)));
    let late = runtime.on_each_shard(|_| async {});
    assert_eq!(late.wait(), [Err(TaskError::Cancelled), Err(TaskError::Cancelled)]);
    assert_eq!(handle.ask(count(lives)).wait(), Err(AskError::Stopped));
    assert!(matches!(handle.tell(count(dies)), Err(TellError::Stopped(_))));
    assert!(told.stopped > 0, "most of what waited never ran, and its callers can know that");

    let report = runtime.shutdown();
    let cause = DeathCause::Panicked("this executor dies, on purpose".into());
    assert_eq!(report.deaths, [Death { shard: ShardIndex(1), cause }]);
    assert!(!report.drained, "{report}");
    assert!(
        report.to_string().contains("shard 1 died of a panic: this executor dies, on purpose"),
        "{report}"
    );
    // Those that nobody heard of (the asks of the tasks, one abandoned, those of the last `until`)
    // may have run too.
    let unheard = 4 + 1 + 16;
    assert!(told.ok <= ran.counted(), "an `Ok` for what never ran: {} of {}", told.ok, ran.counted());
    assert!(ran.counted() <= told.ok + told.unknown + unheard, "`Stopped` for what ran");
}

/// An actor whose messages misbehave outside of `receive`.
struct Mine;

enum Trap {
    /// Panics where it is dropped on a shard.
    Drop(u64),
    /// Panics when it is asked for its addressees.
    Addressees,
    /// Is told to send the one above.
    Tell(u64),
    /// Does nothing.
    None(u64),
}

impl Drop for Trap {
    fn drop(&mut self) {
        if let Trap::Drop(_) = self
            && std::thread::current().name().is_some_and(|name| name.starts_with("freehold"))
        {
            panic!("dropped, on purpose");
        }
    }
}

impl Actor for Mine {
    type Id = u64;
    type State = ();
    type Message = Trap;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Trap, to: &mut Addressees<u64>) {
        match message {
            Trap::Drop(id) | Trap::Tell(id) | Trap::None(id) => to.write(*id),
            Trap::Addressees => panic!("no addressees, on purpose"),
        }
    }

    fn receive(message: &Trap, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        if let Trap::Tell(id) = message {
            objects.insert(*id, ())?;
            objects.tell(Trap::Addressees)?;
        }
        Ok(())
    }
}

#[test]
fn addressees_that_panic_are_the_senders_affair() {
    let _watchdog = Watchdog::new("addressees_that_panic_are_the_senders_affair");
    hush();
    let runtime = start::<Mine>(2, Config { asks_in_flight_max: 1, ..Config::default() });
    let handle = runtime.handle();
    for _ in 0..3 {
        assert!(catch_unwind(AssertUnwindSafe(|| handle.ask(Trap::Addressees).wait())).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| handle.tell(Trap::Addressees))).is_err());
        let all = [Trap::None(1), Trap::None(2), Trap::Addressees, Trap::None(3)];
        assert!(catch_unwind(AssertUnwindSafe(|| handle.ask_all(all).wait())).is_err());
        let told = handle.ask(Trap::Tell(1)).wait();
        assert!(matches!(told, Err(AskError::Panicked(_))), "an object is the sender here");
        assert_eq!(handle.ask(Trap::None(1)).wait(), Ok(()), "no reply slot was lost");
    }
    let report = runtime.shutdown();
    assert!(report.drained && report.stats.objects() == 0 && report.deaths.is_empty(), "{report}");
}

/// How a message is sent whose outcome is heard later, if ever.
type Way = fn(&Handle<Mine>, u64) -> Box<dyn FnOnce() -> Vec<Outcome<Mine>>>;

#[test]
fn a_message_that_panics_when_dropped_ends_in_a_reported_death() {
    let _watchdog = Watchdog::new("a_message_that_panics_when_dropped_ends_in_a_reported_death");
    hush();
    let ways: [Way; 3] = [
        |handle, id| {
            let ask = handle.ask(Trap::Drop(id));
            Box::new(|| vec![ask.wait()])
        },
        |handle, id| {
            let all = handle.ask_all([Trap::None(id), Trap::Drop(id), Trap::None(id)]);
            Box::new(|| all.wait())
        },
        |handle, id| {
            handle.tell(Trap::Drop(id)).unwrap();
            Box::new(Vec::new)
        },
    ];
    for way in ways {
        let runtime = start::<Mine>(2, Config::default());
        let handle = runtime.handle();
        let [a, b] = ids(&handle, 1).concat()[..] else { panic!("two shards") };
        // Shard 1 is held, so that what is sent to it is there when it comes to the message that
        // kills it.
        let held = hold_up(&runtime, ShardIndex(1));
        let none = || handle.ask(Trap::None(b));
        let all = || handle.ask_all([Trap::None(a), Trap::None(b)]);
        let (asks_before, all_before) = ([none(), none()], all());
        let told = way(&handle, b);
        let (asks_behind, all_behind) = ([none(), none()], all());
        drop(held);
        let outcomes = asks_before.into_iter().chain(asks_behind).map(|ask| ask.wait());
        let outcomes = outcomes.chain(all_before.wait()).chain(told()).chain(all_behind.wait());
        for outcome in outcomes {
            assert!(matches!(outcome, Ok(()) | Err(AskError::Unknown | AskError::Stopped)), "{outcome:?}");
        }
        until(|| handle.ask(Trap::None(a)).wait() == Err(AskError::Stopped));
        let report = runtime.shutdown();
        let cause = DeathCause::Panicked("dropped, on purpose".into());
        assert_eq!(report.deaths, [Death { shard: ShardIndex(1), cause }], "{report}");
    }
}

#[test]
fn a_runtime_that_its_own_task_shuts_down_stops() {
    let _watchdog = Watchdog::new("a_runtime_that_its_own_task_shuts_down_stops");
    let runtime = start::<Counter>(2, Config::default());
    let handle = runtime.handle();
    let owner = Arc::new(Mutex::new(None::<Runtime<Counter>>));
    let (given, is_given) = mpsc::channel::<()>();
    let is_given = Arc::new(Mutex::new(is_given));
    let there = owner.clone();
    let tasks = runtime.on_each_shard(move |local| {
        let (owner, is_given) = (there.clone(), is_given.clone());
        async move {
            if local.shard() == ShardIndex(0) {
                is_given.lock().unwrap().recv().unwrap();
                let runtime = owner.lock().unwrap().take().expect("the runtime was given");
                return Some(runtime.shutdown().drained);
            }
            local.stopping().await;
            None
        }
    });
    *owner.lock().unwrap() = Some(runtime);
    given.send(()).unwrap();
    assert_eq!(tasks.wait(), [Ok(Some(false)), Ok(None)]);
    until(|| handle.ask(add(1, 1)).wait() == Err(AskError::Stopped));
}
