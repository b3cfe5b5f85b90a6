//! A whole runtime, started and stopped: that the parts fit. The long runs and the faults are in
//! `tests/`.

use std::time::{Duration, Instant};

use futures::FutureExt;

use super::drain::{Ingresses, is_quiet, wait_until_quiet};
use super::*;
use crate::config::{Idle, Shards};
use crate::core::shared::DrainProgress;
use crate::error::{ConfigError, Death, DeathCause, TaskError, TellError};
use crate::held::hold_up;
use crate::patience::Patience;
use crate::stats::said::{SaidSpan, SaidSpans};
use crate::stats::{AnswerPath, Phase};
use crate::test_actor::{Accounts, Message};
use crate::transport::mailbox::Ingress;
use crate::transport::replies::Ask;
use freehold_shard::{AskError, Envelope, OwnerId, PlacementKey, ReturnAddress, ShardIndex};

fn start(shards: usize) -> Runtime<Accounts> {
    start_with(Config { shards: Shards::Count(shards), ..Config::default() })
}

fn start_with(config: Config) -> Runtime<Accounts> {
    Runtime::start(Config { placement_key: Some(PlacementKey(7)), asks_in_flight_max: 1024, ..config })
        .unwrap()
}

/// The first account of each shard.
fn accounts(handle: &Handle<Accounts>) -> Vec<u64> {
    let on =
        |shard| (1..).find(|account| handle.home(account).index() == shard).expect("there are many accounts");
    (0..handle.shards()).map(on).collect()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut patience = Patience::of(Duration::from_secs(30));
    while !is_so() {
        assert!(!patience.is_over(), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn messages_reach_their_objects_from_outside_and_from_other_shards() {
    for idle in [Idle::Spin(Duration::ZERO), Idle::Spin(Duration::from_micros(200))] {
        let runtime = start_with(Config { shards: Shards::Count(2), idle, ..Config::default() });
        let handle = runtime.handle();
        let [a, b] = accounts(&handle)[..] else { panic!("two shards") };

        assert_eq!(handle.ask(Message::Add { account: a, coins: 3 }).wait(), Ok(3));
        assert_eq!(handle.ask(Message::Pass { account: a, to: b, coins: 4 }).wait(), Ok(4));
        eventually("the coins arrive on the other shard", || {
            handle.ask(Message::Count { account: b }).wait() == Ok(4)
        });
        handle.tell(Message::Add { account: a, coins: 1 }).unwrap();
        assert_eq!(handle.ask(Message::Count { account: a }).wait(), Ok(4), "sent behind the tell");
        assert_eq!(futures::executor::block_on(handle.ask(Message::Count { account: b })), Ok(4));
        assert_eq!(
            handle.ask(Message::Empty { from: a, into: b }).wait(),
            Ok(8),
            "a transaction over both shards"
        );
        assert_eq!(handle.ask(Message::Nobody).wait(), Err(AskError::Unaddressed));
        assert!(matches!(handle.ask(Message::Break { account: a }).wait(), Err(AskError::Panicked(_))));

        let asked = runtime.on_each_shard(move |local| async move {
            let other = if local.shard() == ShardIndex(0) { b } else { a };
            let mine = if local.shard() == ShardIndex(0) { a } else { b };
            local.prefetch(&[
                Message::Count { account: other },
                Message::Nobody,
                Message::Count { account: mine },
            ]);
            let elsewhere = local.ask_now(&Message::Count { account: other });
            assert_eq!(elsewhere, Err(AskError::Elsewhere { home: local.home(&other) }));
            let handle = local.handle();
            assert_eq!(handle.ask(Message::Count { account: other }).wait(), Err(AskError::WaitOnShard));
            let by_handle = handle.ask(Message::Count { account: other }).await;
            assert_eq!(local.ask(Message::Count { account: other }).await, by_handle);
            drop(local.ask(Message::Count { account: other }));
            (
                local.ask_now(&Message::Count { account: mine }),
                local.ask(Message::Count { account: other }).await,
            )
        });
        assert_eq!(asked.wait(), [Ok((Ok(0), Ok(8))), Ok((Ok(8), Ok(0)))]);

        let report = runtime.shutdown();
        assert!(report.drained, "{report}");
        assert_eq!(
            (report.messages_unrun, report.tasks_cancelled, report.deaths.len()),
            (0, 0, 0),
            "{report}"
        );
        assert_eq!(report.stats.objects(), 2);
        assert_eq!(handle.ask(Message::Count { account: a }).wait(), Err(AskError::Stopped));
        assert!(matches!(handle.tell(Message::Count { account: a }), Err(TellError::Stopped(_))));
        assert_eq!(handle.ask_all([Message::Count { account: a }]).wait(), [Err(AskError::Stopped)]);
    }
}

/// Messages that are followed, and batches that were slow, are said as spans by their shards.
#[test]
fn shards_say_traces_as_spans() {
    let said = SaidSpans::default();
    tracing::subscriber::set_global_default(said.clone()).expect("no other unit test listens everywhere");
    let slow_message = Duration::from_millis(4);
    let runtime = start_with(Config { shards: Shards::Count(1), slow_message, ..Config::default() });
    let handle = runtime.handle();
    // Other tests say spans too, and none of them has this account.
    let account = 1 << 50;
    // The first ask of all is followed from its begin.
    handle.ask(Message::Add { account, coins: 1 }).wait().expect("it runs");
    let found = |field, value: &str| said.find("message", field, value);
    eventually("the ask is said", || found("object", &account.to_string()).is_some());
    eventually("the ask has its parts", || {
        let (message, parts) = found("object", &account.to_string()).expect("it was said");
        assert!(message.fields["message"].ends_with("Message") && message.fields["shard"] == "0");
        parts.iter().filter(|part| part.name == "stage").any(|stage| stage.fields["stage"] == "running")
    });

    // A batch has no object. It is slow, as a task keeps the shard from it.
    let is_batch = |span: &SaidSpan| span.name == "message" && span.fields["object"] == "?";
    let batches = || said.all().iter().filter(|span| is_batch(span)).count();
    let before = batches();
    let held = hold_up(&runtime, ShardIndex(0));
    let batch = handle.ask_all([Message::Add { account, coins: 1 }, Message::Add { account, coins: 1 }]);
    std::thread::sleep(slow_message * 2);
    drop(held);
    assert!(batch.wait().iter().all(Result::is_ok));
    eventually("the batch is said", || batches() > before);
}

#[test]
fn outcomes_of_many_come_in_the_order_of_the_messages() {
    let runtime = start_with(Config { shards: Shards::Count(2), batch_messages_max: 7, ..Config::default() });
    let handle = runtime.handle();
    let [a, b] = accounts(&handle)[..] else { panic!("two shards") };
    assert_eq!(handle.ask_all([]).wait(), []);
    assert_eq!(handle.ask_all([Message::Nobody]).wait(), [Err(AskError::Unaddressed)]);
    for messages in [1, 6, 7, 8, 100] {
        let on_one = (0..messages).map(|_| Message::Add { account: a, coins: 1 });
        let before = handle.ask(Message::Count { account: a }).wait().unwrap();
        let expected: Vec<_> = (1..=messages).map(|at| Ok(before + at)).collect();
        assert_eq!(handle.ask_all(on_one).wait(), expected);

        // One in five to nobody, the others to both shards in no simple order.
        let mut held = [a, b].map(|account| handle.ask(Message::Count { account }).wait().unwrap());
        let mut expected = Vec::new();
        let mixed: Vec<_> = (0..messages)
            .map(|at| match at % 5 {
                0 => {
                    expected.push(Err(AskError::Unaddressed));
                    Message::Nobody
                }
                rest => {
                    let shard = usize::from(rest > 2);
                    held[shard] += at;
                    expected.push(Ok(held[shard]));
                    Message::Add { account: [a, b][shard], coins: at }
                }
            })
            .collect();
        assert_eq!(futures::executor::block_on(handle.ask_all(mixed)), expected);
    }
    assert!(runtime.shutdown().drained);
}

#[test]
fn ask_all_waits_where_ask_is_refused_and_nothing_is_lost() {
    let config = Config { ingress_entries_max: 16, batch_messages_max: 1, ..Config::default() };
    let runtime = start_with(Config { shards: Shards::Count(1), ..config });
    let handle = runtime.handle();
    // The shard is kept busy, so that its ingress fills.
    let held = hold_up(&runtime, ShardIndex(0));
    eventually("the shard is busy", || {
        std::iter::repeat_with(|| handle.tell(Message::Add { account: 1, coins: 1 }))
            .take(16)
            .any(|told| told.is_err())
    });
    assert_eq!(handle.ask(Message::Count { account: 1 }).wait(), Err(AskError::Overloaded));
    let before = runtime.stats().shards[0].counters.fast;
    let mut all = handle.ask_all((0..100).map(|_| Message::Add { account: 2, coins: 1 }));
    assert!((&mut all).now_or_never().is_none());
    drop(held);
    assert_eq!(all.wait().last(), Some(&Ok(100)));
    let report = runtime.shutdown();
    assert_eq!(report.stats.shards[0].counters.fast - before, 100 + 16);
    assert!(report.stats.shards[0].overloaded > 0);
}

#[test]
fn delayed_messages_come_when_they_are_due_even_if_a_task_sent_them_long_after_a_turn() {
    let runtime = start(1);
    let handle = runtime.handle();
    std::thread::sleep(Duration::from_millis(60));
    let local = runtime.on_each_shard(|local| async move {
        let begin = Instant::now();
        local.ask_now(&Message::PassAfter { account: 1, to: 2, coins: 5, after_ms: 40 }).unwrap();
        while local.ask_now(&Message::Count { account: 2 }) == Ok(0) {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        begin.elapsed()
    });
    let took = local.wait().pop().unwrap().unwrap();
    assert!(took >= Duration::from_millis(40), "{took:?}");
    handle.ask(Message::PassAfter { account: 1, to: 2, coins: 5, after_ms: 30 }).wait().unwrap();
    eventually("the shard wakes by itself", || handle.ask(Message::Count { account: 2 }).wait() == Ok(10));
    handle.ask(Message::PassAfter { account: 1, to: 2, coins: 5, after_ms: 60_000 }).wait().unwrap();
    assert_eq!(runtime.shutdown().timers_unfinished, 1);
}

#[test]
fn a_task_that_panics_is_reported_and_one_that_does_not_end_is_cancelled() {
    let runtime = start(2);
    let panics = runtime.on_each_shard(|local| async move {
        assert_ne!(local.shard(), ShardIndex(1), "on purpose");
        local.shard()
    });
    let mut results = panics.wait();
    assert!(
        matches!(results.pop(), Some(Err(TaskError::Panicked(message))) if message.contains("on purpose"))
    );
    assert_eq!(results, [Ok(ShardIndex(0))]);
    let stops = runtime.on_each_shard(|local| async move { local.stopping().await });
    let lasts = runtime.on_each_shard(|_| std::future::pending::<()>());
    let handle = runtime.handle();
    assert_eq!(handle.ask(Message::Add { account: 1, coins: 1 }).wait(), Ok(1), "the shards live on");
    eventually("the tasks run", || runtime.stats().shards.iter().all(|shard| shard.tasks == 2));
    let report = runtime.shutdown();
    assert_eq!(report.tasks_cancelled, 2, "{report}");
    assert_eq!(stops.wait(), [Ok(()), Ok(())]);
    assert_eq!(lasts.wait(), [Err(TaskError::Cancelled), Err(TaskError::Cancelled)]);
}

#[test]
fn a_shard_that_dies_takes_the_runtime_down_and_nobody_waits_for_ever() {
    let runtime = start(2);
    let handle = runtime.handle();
    let [a, b] = accounts(&handle)[..] else { panic!("two shards") };
    let waits = runtime.on_each_shard(|_| std::future::pending::<()>());
    let asking = std::thread::spawn({
        let handle = handle.clone();
        move || {
            let mut asks = 0_u64;
            loop {
                asks += 1;
                let all =
                    handle.ask_all([Message::Count { account: a }, Message::Count { account: b }]).wait();
                match handle.ask(Message::Count { account: a }).wait() {
                    Ok(_) => {}
                    Err(error) => return (asks, all, error),
                }
            }
        }
    });
    std::thread::sleep(Duration::from_millis(20));
    drop(runtime.on_each_shard(|local| async move {
        if local.shard() == ShardIndex(1) {
            let task = async {
                // The first step is taken inside `spawn_local`, and so inside a task that the
                // runtime watches.
                glommio::executor().yield_now().await;
                panic!("this executor dies on purpose")
            };
            glommio::spawn_local(task).detach();
        }
    }));
    let (asks, _, error) = asking.join().unwrap();
    assert!(matches!(error, AskError::Stopped | AskError::Unknown), "{error:?} after {asks}");
    assert_eq!(waits.wait().len(), 2);
    assert_eq!(handle.ask(Message::Count { account: a }).wait(), Err(AskError::Stopped));
    let report = runtime.shutdown();
    let cause = DeathCause::Panicked("this executor dies on purpose".into());
    assert_eq!(report.deaths, [Death { shard: ShardIndex(1), cause }]);
    assert!(!report.drained && report.to_string().contains("dies on purpose"), "{report}");
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let start =
        |shards| Runtime::<Accounts>::start(Config { shards, ..Config::default() }).map(drop).unwrap_err();
    assert!(matches!(start(Shards::Count(0)), StartError::Config(ConfigError::OutOfRange { .. })));
    assert!(matches!(start(Shards::Count(1000)), StartError::Config(ConfigError::OutOfRange { .. })));
    assert!(matches!(start(Shards::OnCpus(vec![9999])), StartError::Placement(_)));
}

#[test]
fn more_shards_than_cpus_run_unpinned() {
    let runtime = start(5);
    let handle = runtime.handle();
    let outcomes = handle.ask_all((0..1000).map(|account| Message::Add { account, coins: account })).wait();
    assert!(outcomes.iter().enumerate().all(|(account, outcome)| *outcome == Ok(account as u64)));
    let passes = (0..1000).map(|account| Message::Pass { account, to: account + 1000, coins: 1 });
    assert!(handle.ask_all(passes).wait().iter().all(Result::is_ok));
    let report = runtime.shutdown();
    assert!(report.drained, "{report}");
    assert_eq!(report.stats.objects(), 2000, "everything told before the stop has arrived");
}

#[test]
fn quiet_is_what_does_not_change_and_adds_up() {
    let idle = |begun, sent, received| DrainProgress { is_idle: true, is_shut: false, begun, sent, received };
    let quiet = [idle(1, 5, 2), idle(3, 1, 4)];
    assert!(is_quiet(&quiet, &quiet, Ingresses::Open));
    assert!(!is_quiet(&quiet, &quiet, Ingresses::Shut), "no shard knows that its ingress is shut");
    assert!(!is_quiet(&[idle(1, 5, 2), idle(2, 1, 4)], &quiet, Ingresses::Open), "a shard worked in between");
    let under_way = [idle(1, 6, 2), idle(3, 1, 4)];
    assert!(!is_quiet(&under_way, &under_way, Ingresses::Open), "an envelope is in a lane");
    let mut works = quiet;
    works[0].begin();
    assert!(!is_quiet(&works, &works, Ingresses::Open), "a shard is at work");
    assert!(
        !is_quiet(&[DrainProgress::default()], &[DrainProgress::default()], Ingresses::Open),
        "a shard has not looked yet"
    );
}

/// The story: a caller saw an open runtime, and was late with its message. A shard ran it after all
/// had been quiet, and what it told another shard was never run.
#[test]
fn a_message_that_comes_late_runs_to_its_end_or_not_at_all() {
    let runtime = start(2);
    let (handle, shared) = (runtime.handle(), runtime.shared.clone());
    let [a, b] = accounts(&handle)[..] else { panic!("two shards") };
    let ask_late = || {
        let claim = shared.replies.claim(AnswerPath::Fast).unwrap();
        let answer_to = ReturnAddress::Outside { slot: claim.slot, generation: claim.generation };
        let message = Message::Pass { account: a, to: b, coins: 4 };
        let mailbox = &shared.mailboxes[handle.home(&a).index()];
        let envelope = Envelope::Message { message, sender: OwnerId(0), answer_to };
        assert!(mailbox.put(Ingress::One(envelope, 0)).is_ok());
        mailbox.notify(&shared.replies);
        Ask::<Accounts>::sent(shared.replies.clone(), claim)
    };
    let far = Instant::now() + Duration::from_secs(60);
    shared.advance(Phase::Draining);
    assert!(wait_until_quiet(&shared, far));
    assert_eq!(ask_late().wait(), Ok(4), "the ingresses are open");
    shared.shut_ingresses();
    assert!(wait_until_quiet(&shared, far));
    let handled = shared.stats().handled();
    assert_eq!(handled, 2, "what it told the other shard has run");
    let refused = ask_late();
    let report = runtime.shutdown();
    assert_eq!(refused.wait(), Err(AskError::Stopped));
    assert_eq!((report.drained, report.messages_unrun, report.stats.handled()), (true, 1, handled));
}

/// Checked by the compiler.
#[test]
fn what_crosses_threads_may_and_futures_can_be_moved() {
    fn crosses<T: Send + Sync>() {}
    fn moves<T: Send + Unpin>() {}
    crosses::<Runtime<Accounts>>();
    crosses::<Handle<Accounts>>();
    moves::<Ask<Accounts>>();
    moves::<crate::AskAll<Accounts>>();
    moves::<EachShard<u64>>();
}

/// A task that blocked for less than `stall_warning` was seen by nobody, though messages waited.
#[test]
fn tasks_that_keep_a_shard_from_its_messages_are_counted() {
    let runtime = start_with(Config {
        shards: Shards::Count(1),
        slow_turn: Duration::from_millis(5),
        ..Config::default()
    });
    let handle = runtime.handle();
    // The task and the pump take turns, and the message of the turn before waits while the task
    // blocks. It sends it itself: another thread may be late by more than that, each time.
    let tasks = runtime.on_each_shard(|local| async move {
        let mut asks = Vec::new();
        for _ in 0..10 {
            asks.push(local.handle().ask(Message::Add { account: 1, coins: 1 }));
            std::thread::sleep(Duration::from_millis(6));
            glommio::executor().yield_task_queue_now().await;
        }
        for ask in asks {
            assert!(ask.await.is_ok());
        }
    });
    assert_eq!(tasks.wait(), [Ok(())]);
    eventually("a task was slow", || handle.stats().shards[0].activity.slow_tasks > 0);
}

/// A walk over a snapshot takes steps of its shard's turns. It was blamed on messages.
#[test]
fn a_turn_that_a_walk_made_slow_is_counted_as_that() {
    let slow_turn = Duration::from_millis(5);
    let runtime = start_with(Config { shards: Shards::Count(1), slow_turn, ..Config::default() });
    let handle = runtime.handle();
    handle.ask(Message::Add { account: 1, coins: 1 }).wait().expect("it runs");
    let snapshot = handle.snapshot().wait().expect("it opens");
    let each = move |(): &mut (), _, _: &_| std::thread::sleep(slow_turn * 2);
    snapshot.fold(|| (), each, |(), ()| ()).wait().expect("it is read");
    eventually("it is counted", || handle.stats().shards[0].activity.slow_turns_jobs > 0);
}

/// The time that a shard sleeps is nobody's: a message that wakes it finds no task that kept it. It
/// fails if both the round before the park and the park leave the last round's end as it is.
#[test]
fn a_shard_that_sleeps_is_not_blamed_for_slow_tasks() {
    let slow_turn = Duration::from_millis(5);
    let idle = Idle::Spin(Duration::ZERO);
    let runtime = start_with(Config { shards: Shards::Count(1), idle, slow_turn, ..Config::default() });
    let handle = runtime.handle();
    for _ in 0..10 {
        handle.ask(Message::Add { account: 1, coins: 1 }).wait().expect("it runs");
        // Only then: a shard that is kept from its CPU between two rounds is blamed, and may be.
        eventually("it sleeps", || runtime.shared.mailboxes[0].parking().is_parked());
        std::thread::sleep(slow_turn * 2);
    }
    let activity = &handle.stats().shards[0].activity;
    assert!(activity.slow_tasks == 0 && activity.parks >= 9, "{activity:?}");
}
