//! Numbers are driven to known values, and read from the page.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use freehold_metrics::serve;

use super::support::patience::Patience;
use super::{HOLD, Message, Numbers, ids, is_refused, open, until};

#[test]
fn counters_come_to_what_was_done() {
    let (runtime, _directory) = open();
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let [[here], [there]] = ids(&bank);
    for _ in 0..30 {
        assert!(bank.ask(Message::Add(here)).wait().is_ok());
    }
    for _ in 0..20 {
        assert!(bank.ask(Message::AddBoth(here, there)).wait().is_ok());
    }
    for _ in 0..5 {
        assert!(is_refused(&bank.ask(Message::Refuse(there)).wait()));
    }
    assert!(bank.ask_all((0..4).map(|_| Message::Add(there))).wait().iter().all(Result::is_ok));
    let snapshot = bank.snapshot().wait().expect("it is ready");
    runtime.checkpoint().expect("there is a log");

    let of_type = |numbers: &Numbers| {
        ["Add", "AddBoth", "Refuse"]
            .map(|name| numbers.sum("freehold_messages_by_type_total", &format!("message=\"{name}\"")))
    };
    // A transaction is counted once, where it ran; types are said less often than turns.
    let wanted = |numbers: &Numbers| {
        numbers.sum("freehold_messages_total", "outcome=\"consensus\"") == 20.0
            && of_type(numbers) == [34.0, 20.0, 5.0]
    };
    let numbers = until(server.addr(), "twenty transactions, and all types", wanted);
    let is =
        |name, label, value| assert_eq!(numbers.sum(name, label), value, "{name} {label}: {:#?}", numbers.0);
    is("freehold_messages_total", "outcome=\"fast\"", 34.0);
    is("freehold_messages_total", "outcome=\"aborted\"", 5.0);
    is("freehold_messages_total", "outcome=\"panicked\"", 0.0);
    is("freehold_transactions_begun_total", "reason=\"spanning\"", 20.0);
    is("freehold_batches_total", "", 1.0);
    is("freehold_objects", "", 2.0);
    is("freehold_objects", "shard=\"1\"", 1.0);
    is("freehold_snapshots_open", "", 1.0);
    is("freehold_checkpoints_total", "outcome=\"made\"", 1.0);
    is("freehold_asks_in_flight", "", 0.0);
    is("freehold_phase", "phase=\"running\"", 1.0);
    is("freehold_phase", "", 1.0);
    let writes = numbers.sum("freehold_log_write_seconds_count", "");
    assert!(writes > 0.0 && writes == numbers.sum("freehold_log_write_seconds_bucket", "le=\"+Inf\""));
    for name in
        ["freehold_oldest_snapshot_seconds", "freehold_uptime_seconds", "freehold_log_written_bytes_total"]
    {
        assert!(numbers.sum(name, "") > 0.0, "{name}");
    }
    drop(snapshot);
    until(server.addr(), "the snapshot is closed", |numbers| {
        numbers.sum("freehold_snapshots_open", "") == 0.0
    });
}

/// A task's message is a call, with no queue that could be looked at.
#[test]
fn the_hottest_object_of_a_task_is_found_too() {
    let (runtime, _directory) = open();
    let server = serve(runtime.handle(), "127.0.0.1:0").expect("a port is free");
    let [[here], _] = ids(&runtime.handle());
    let ends = Arc::new(AtomicBool::new(false));
    let seen = ends.clone();
    let toil = runtime.on_each_shard(move |local| {
        let ends = seen.clone();
        async move {
            while local.shard().0 == 0 && !ends.load(Ordering::Relaxed) {
                assert!(local.ask_now(&Message::Add(here)).is_ok());
                freehold::glommio::yield_if_needed().await;
            }
        }
    });
    until(server.addr(), "it is found", |numbers| {
        numbers.sum("freehold_hot_touches", &format!("id=\"{here}\"")) > 0.0
    });
    ends.store(true, Ordering::Relaxed);
    assert!(toil.wait().into_iter().all(|task| task.is_ok()));
}

/// A handler does not come back. What waits behind it, and for it, can be read meanwhile, and no
/// scrape waits for the shard.
#[test]
fn gauges_say_what_waits_for_a_shard_that_is_stuck() {
    let (runtime, _directory) = open();
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let [[here], [there]] = ids(&bank);
    let held = HOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let stuck = bank.ask(Message::Hold(there));
    until(server.addr(), "a turn goes on", |numbers| {
        numbers.sum("freehold_in_turn_seconds", "shard=\"1\"") > 0.0
    });
    until(server.addr(), "its message is named", |numbers| {
        numbers.sum("freehold_stuck_message", "message=\"Hold\"") == 1.0
    });
    // The first has locked what it needs here, and the others wait for that.
    let asks: Vec<_> = (0..3).map(|_| bank.ask(Message::AddBoth(here, there))).collect();
    let more: Vec<_> = (0..7).map(|_| bank.ask(Message::Add(there))).collect();
    let numbers = until(server.addr(), "two wait for a lock", |numbers| {
        numbers.sum("freehold_lock_queue", "shard=\"0\"") == 2.0
    });
    assert_eq!(numbers.sum("freehold_transactions_under_way", "shard=\"0\""), 3.0);
    assert_eq!(numbers.sum("freehold_lock_waits_total", ""), 2.0);
    assert_eq!(numbers.sum("freehold_ingress", "shard=\"1\""), 7.0);
    assert_eq!(numbers.sum("freehold_asks_in_flight", ""), 11.0);
    assert!(numbers.sum("freehold_hot_waits", &format!("id=\"{here}\"")) > 0.0, "{:#?}", numbers.0);
    drop(held);
    let asks = asks.into_iter().chain(more).chain([stuck]);
    assert!(asks.map(freehold::Ask::wait).all(|outcome| outcome.is_ok()));
    let numbers = until(server.addr(), "all is quiet", |numbers| {
        let quiet = ["freehold_lock_queue", "freehold_transactions_under_way", "freehold_in_turn_seconds"];
        quiet.iter().all(|name| numbers.sum(name, "") == 0.0)
    });
    assert_eq!(numbers.sum("freehold_asks_in_flight", "") + numbers.sum("freehold_ingress", ""), 0.0);
}

#[test]
fn latencies_are_told_apart_by_path_and_the_hottest_object_has_its_name() {
    let (runtime, _directory) = open();
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let [[here, cold], [there, _]] = ids(&bank);
    // One ask in 1,024 is sampled; each path has its own.
    let is_there = |path: &str| {
        let label = format!("path=\"{path}\"");
        Numbers::scraped(server.addr()).sum("freehold_answer_seconds_count", &label) > 0.0
    };
    let ask = |message: &dyn Fn() -> Message, path: &str| {
        let mut patience = Patience::of(Duration::from_secs(30));
        while !is_there(path) {
            assert!(!patience.is_over(), "no latency of {path} is taken");
            let asks: Vec<_> = (0..512).map(|_| bank.ask(message())).collect();
            asks.into_iter().for_each(|ask| assert!(ask.wait().is_ok()));
        }
    };
    ask(&|| Message::Add(here), "fast");
    ask(&|| Message::AddBoth(here, there), "consensus");
    assert!(!is_there("batch"));
    assert!(bank.ask_all((0..2048).map(|_| Message::Add(here))).wait().iter().all(Result::is_ok));
    let numbers = until(server.addr(), "batches were sampled", |numbers| {
        numbers.sum("freehold_answer_seconds_count", "path=\"batch\"") > 0.0
    });
    let rate = |id: u64| numbers.sum("freehold_hot_touches", &format!("id=\"{id}\""));
    assert!(rate(here) > 0.0 && rate(here) >= rate(there) && rate(cold) == 0.0, "{:#?}", numbers.0);
    let hottest = numbers.0.keys().filter(|key| key.starts_with("freehold_hot_touches{")).count();
    assert!(hottest <= freehold::Stats::HOT_MAX);
}
