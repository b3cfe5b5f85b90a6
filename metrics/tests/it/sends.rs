//! What messages send, between shards and later; and what waits for a shard, in numbers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold::{AskError, Config, Embedding, Limits, Runtime};
use freehold_metrics::serve;

use super::{Counter, HOLD, LONG_TURN, Message, Numbers, config, ids, until};

fn start(config: Config) -> Runtime<Counter> {
    Runtime::start(config).expect("it starts on this machine")
}

#[test]
fn pairs_reruns_and_what_goes_between_shards_are_counted() {
    let runtime = start(config(2));
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let [[here, near], [there, far]] = ids(&bank);
    for id in [here, near, there, far] {
        assert!(bank.ask(Message::Add(id)).wait().is_ok());
    }
    for _ in 0..20 {
        assert!(bank.ask(Message::AddBoth(here, there)).wait().is_ok());
    }
    // The first object it did not declare makes it a transaction, which runs there. The second is
    // not there, so it runs again.
    assert!(bank.ask(Message::Reach(here, vec![far, near])).wait().is_ok());
    for _ in 0..6 {
        assert!(bank.ask(Message::Tell(here, there)).wait().is_ok());
    }
    let numbers = until(server.addr(), "six were told, and all is quiet", |numbers| {
        let ended = numbers.sum("freehold_messages_total", "");
        let (sent, received) =
            (numbers.sum("freehold_lane_sent_total", ""), numbers.sum("freehold_lane_received_total", ""));
        numbers.sum("freehold_messages_told_total", "shard=\"0\"") == 6.0
            && ended == 4.0 + 20.0 + 1.0 + 6.0 + 6.0
            && sent == received
    });
    let is = |name, label, value| assert_eq!(numbers.sum(name, label), value, "{name}: {:#?}", numbers.0);
    is("freehold_pairs_total", "", 20.0);
    is("freehold_transactions_begun_total", "reason=\"undeclared\"", 1.0);
    is("freehold_reruns_total", "", 1.0);
    is("freehold_versions", "", 0.0);
    for (shard, other) in [(0, 1), (1, 0)] {
        let sent = numbers.sum("freehold_lane_sent_total", &format!("shard=\"{shard}\""));
        let label = format!("shard=\"{shard}\",to=\"{other}\"");
        assert_eq!(numbers.sum("freehold_lane_sent_to_total", &label), sent);
        assert!(sent >= 20.0, "a pair goes and comes back: {:#?}", numbers.0);
    }
}

#[test]
fn timers_and_actions_that_wait_are_shown() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    let embedding =
        Embedding::new().perform_with(move |action| keep.lock().expect("nobody panics with it").push(action));
    let config = Config { actions_max: 1, ..config(1) };
    let runtime = Runtime::<Counter>::start_with(config, embedding).expect("it starts on this machine");
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    for milliseconds in [0, 0, 0, 3_600_000, 3_600_000] {
        assert!(bank.ask(Message::TellAfter(1, milliseconds)).wait().is_ok());
    }
    for _ in 0..3 {
        assert!(bank.ask(Message::Act(1)).wait().is_ok());
    }
    let actions = |numbers: &Numbers| {
        ["waiting", "under_way"].map(|state| numbers.sum("freehold_actions", &format!("state=\"{state}\"")))
    };
    let numbers = until(server.addr(), "three timers fire, and one action is performed", |numbers| {
        numbers.sum("freehold_timers_fired_total", "") == 3.0 && actions(numbers) == [2.0, 1.0]
    });
    assert_eq!(numbers.sum("freehold_timers_waiting", ""), 2.0);
    until(server.addr(), "no action is owed", |numbers| {
        kept.lock().expect("nobody panics with it").drain(..).for_each(|action| action.done(Message::Add(1)));
        actions(numbers) == [0.0, 0.0]
    });
    // It comes due while nothing else does. (On a slow machine one of the three may have been slow,
    // too.)
    let slow = |numbers: &Numbers| numbers.sum("freehold_slow_turns_total", "cause=\"timers\"");
    let before = slow(&numbers);
    assert!(bank.ask(Message::TellLong(1)).wait().is_ok());
    until(server.addr(), "a timer made a turn slow", |numbers| slow(numbers) > before);
}

/// What waits for a shard whose handler does not come back: its ingress, its lanes, calls of tasks.
#[test]
fn what_does_not_get_to_a_stuck_shard_is_shown() {
    // Each turn and all that is between two is slow, so what is called so is known.
    let slow_turn = Duration::from_micros(1);
    let runtime = start(Config { ingress_entries_max: 16, lane_entries_max: 16, slow_turn, ..config(2) });
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let [on_first, [there, ..]] = ids::<40>(&bank);
    let held = HOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let stuck = bank.ask(Message::Hold(there));
    until(server.addr(), "a turn goes on", |numbers| {
        numbers.sum("freehold_in_turn_seconds", "shard=\"1\"") > 0.0
    });
    let began = Instant::now();
    let waiting: Vec<_> = (0..16).map(|_| bank.ask(Message::Add(there))).collect();
    for _ in 0..3 {
        assert!(matches!(bank.ask(Message::Add(there)).wait(), Err(AskError::Overloaded)));
    }
    let calls = runtime.on_each_shard(move |local| async move {
        if local.shard().index() == 0 {
            let asks: Vec<_> = (0..5).map(|_| local.ask(Message::Add(there))).collect();
            for ask in asks {
                assert!(ask.await.is_ok());
            }
        }
    });
    let both = bank.ask_all(on_first.map(|here| Message::AddBoth(here, there)));
    // Each of the forty, and of the five, is one message in the lane, which has room for sixteen.
    let numbers = until(server.addr(), "the lane is full", |numbers| {
        numbers.sum("freehold_outbox_waiting", "shard=\"0\"") == 40.0 + 5.0 - 16.0
            && numbers.sum("freehold_calls_in_flight", "shard=\"0\"") == 5.0
            && numbers.sum("freehold_turns_total", "shard=\"0\"") > 500.0
            // The one that holds the shard up, and those behind it.
            && numbers.sum("freehold_slow_messages_total", "") == 17.0
    });
    let is = |name, label, value| assert_eq!(numbers.sum(name, label), value, "{name}: {:#?}", numbers.0);
    is("freehold_tasks", "shard=\"0\"", 1.0);
    is("freehold_ingress", "shard=\"1\"", 16.0);
    is("freehold_overloaded_total", "shard=\"1\"", 3.0);
    is("freehold_overloaded_total", "shard=\"0\"", 0.0);
    // It has tried the lane hundreds of times, and between that it gave its CPU away.
    assert!(numbers.sum("freehold_slow_tasks_total", "shard=\"0\"") < 100.0);
    let lasted = began.elapsed();
    drop(held);
    assert!(waiting.into_iter().chain([stuck]).all(|ask| ask.wait().is_ok()));
    assert!(both.wait().iter().all(Result::is_ok) && calls.wait().iter().all(Result::is_ok));
    let numbers = until(server.addr(), "nothing waits", |numbers| {
        let waits = ["freehold_outbox_waiting", "freehold_calls_in_flight", "freehold_ingress"];
        waits.iter().all(|name| numbers.sum(name, "") == 0.0)
    });
    assert!(numbers.sum("freehold_slow_turns_total", "shard=\"1\",cause=\"messages\"") > 0.0);
    assert!(numbers.sum("freehold_busy_seconds_total", "shard=\"1\"") >= lasted.as_secs_f64());
}

#[test]
fn turns_sleep_and_tasks_of_a_shard_are_counted() {
    let runtime = start(config(1));
    let server = serve(runtime.handle(), "127.0.0.1:0").expect("a port is free");
    let bank = runtime.handle();
    let parks = |numbers: &Numbers| numbers.sum("freehold_parks_total", "");
    let before = Numbers::scraped(server.addr());
    let mut after = Numbers::scraped(server.addr());
    for _ in 0..10 {
        // It says so when it is awake again. Between two looks it has gone to sleep.
        let slept = parks(&after);
        after = until(server.addr(), "it sleeps, and is woken", |numbers| {
            assert!(bank.ask(Message::Add(1)).wait().is_ok());
            parks(numbers) > slept
        });
    }
    let grown = |name| after.sum(name, "") - before.sum(name, "");
    assert!(grown("freehold_turns_total") >= 10.0 && grown("freehold_rings_total") >= 10.0, "{:#?}", after.0);
    assert!(grown("freehold_parks_total") >= 10.0 && grown("freehold_parked_seconds_total") > 0.0);

    let tasks = runtime.on_each_shard(|_| async { panic!("on purpose") });
    assert!(tasks.wait().iter().all(Result::is_err));
    until(server.addr(), "one task panicked", |numbers| {
        numbers.sum("freehold_tasks_panicked_total", "") == 1.0
    });
    // The task and the pump take turns, and the message of the turn before waits while the task
    // blocks. It sends it itself: another thread may be late by more than that, each time.
    let tasks = runtime.on_each_shard(|local| async move {
        let mut asks = Vec::new();
        for _ in 0..10 {
            asks.push(local.handle().ask(Message::Add(1)));
            std::thread::sleep(LONG_TURN);
            freehold::glommio::executor().yield_task_queue_now().await;
        }
        for ask in asks {
            assert!(ask.await.is_ok());
        }
    });
    assert!(tasks.wait().iter().all(Result::is_ok));
    until(server.addr(), "a task is slow", |numbers| numbers.sum("freehold_slow_tasks_total", "") > 0.0);
}

#[test]
fn old_versions_and_revoked_snapshots_are_counted() {
    let limits = Limits { versions_max: 5, ..Limits::default() };
    let runtime = start(Config { limits, ..config(1) });
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let add = |id| assert!(bank.ask(Message::Add(id)).wait().is_ok());
    (0..10).for_each(add);
    let snapshot = bank.snapshot().wait().expect("it is ready");
    (0..4).for_each(add);
    let numbers = until(server.addr(), "a version of each of four objects", |numbers| {
        numbers.sum("freehold_versions", "") == 4.0
    });
    assert_eq!(numbers.sum("freehold_snapshots_revoked_total", ""), 0.0);
    (4..10).for_each(add);
    until(server.addr(), "the snapshot is revoked, and its versions are let go of", |numbers| {
        numbers.sum("freehold_snapshots_revoked_total", "") == 1.0
            && numbers.sum("freehold_versions", "") == 0.0
    });
    drop(snapshot);
}
