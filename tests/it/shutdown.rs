//! A runtime that is shut down in the middle of its work finishes what it accepted, and tells
//! everyone the truth about it.

use std::future::pending;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::support::held::hold_up;
use crate::support::{Counter, Message, Tally, Watchdog, ids, start, until};
use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Handle, Idle, Objects, Report, Runtime, ShardIndex,
    TaskError, TellError, glommio,
};
use futures::FutureExt;

/// What a caller's messages came to.
#[derive(Debug, Default)]
struct Told {
    ok: u64,
    stopped: u64,
    overloaded: u64,
}

impl Told {
    fn note(&mut self, outcome: Result<u64, AskError<AccessError<u64>>>) {
        match outcome {
            Ok(_) => self.ok += 1,
            Err(AskError::Stopped) => self.stopped += 1,
            Err(AskError::Overloaded) => self.overloaded += 1,
            Err(other) => panic!("not an answer of a runtime that stops: {other:?}"),
        }
    }
}

/// Calls `send` until a runtime that stops has refused something, and sums up.
fn until_stopped(mut send: impl FnMut(&mut Told)) -> Told {
    let mut told = Told::default();
    while told.stopped == 0 {
        send(&mut told);
    }
    told
}

const HOPS: u64 = 7;

/// Shuts a runtime of `shards` shards down while threads send it all they can by every way there
/// is.
fn shut_down_in_the_middle(shards: usize, idle: Idle, watchdog: &Watchdog) {
    let config = Config { idle, ingress_entries_max: 64, lane_entries_max: 16, ..Config::default() };
    let runtime = start::<Counter>(shards, Config { drain_max: Duration::from_secs(60), ..config });
    let handle = runtime.handle();
    let ids = ids(&handle, 2).concat();
    let along: Arc<[u64]> = ids.clone().into();
    let tallies: [Tally; 5] = Default::default();
    let [asked, kept, together, told_of, hopped] = &tallies;
    let count = |at: usize, ran: &Tally| Message::Count { to: ids[at % ids.len()], ran: ran.clone() };

    let answers = std::thread::scope(|scope| {
        let callers = [
            scope.spawn(|| {
                let mut at = 0;
                until_stopped(|told| {
                    at += 1;
                    told.note(handle.ask(count(at, asked)).wait());
                })
            }),
            // Many at a time, and their answers later.
            scope.spawn(|| {
                until_stopped(|told| {
                    let asks: Vec<_> = (0..50).map(|at| handle.ask(count(at, kept))).collect();
                    asks.into_iter().for_each(|ask| told.note(ask.wait()));
                })
            }),
            scope.spawn(|| {
                until_stopped(|told| {
                    let outcomes = handle.ask_all((0..5000).map(|at| count(at, together))).wait();
                    outcomes.into_iter().for_each(|outcome| told.note(outcome));
                })
            }),
            scope.spawn(|| {
                let mut at = 0;
                until_stopped(|told| {
                    at += 1;
                    match handle.tell(count(at, told_of)) {
                        Ok(()) => told.ok += 1,
                        Err(TellError::Overloaded(_)) => std::thread::yield_now(),
                        Err(TellError::Stopped(_)) => told.stopped += 1,
                        Err(other) => panic!("{other:?}"),
                    }
                })
            }),
            // From shard to shard; what one begins the others must end.
            scope.spawn(|| {
                let mut at = 0;
                until_stopped(|told| {
                    at += 1;
                    let (along, at) = (along.clone(), at % along.len());
                    told.note(handle.ask(Message::Hop { along, at, hops: HOPS, ran: hopped.clone() }).wait());
                })
            }),
        ];
        // In the middle of it: all of them are at it.
        until(|| tallies.iter().all(|tally| tally.counted() > 200));
        let report = runtime.shutdown();
        let answers = callers.map(|caller| caller.join().expect("a caller hears the truth"));
        (report, answers)
    });
    let (report, [by_asks, by_kept, by_together, by_tells, by_hops]) = answers;
    assert!(report.drained && report.deaths.is_empty() && report.timers_unfinished == 0, "{report}");
    for (answers, tally) in [(&by_asks, asked), (&by_kept, kept), (&by_together, together)] {
        assert_eq!(
            tally.counted(),
            answers.ok,
            "`Ok` is what ran, and nothing else ran: {answers:?}, {report}"
        );
    }
    assert_eq!(
        hopped.counted(),
        by_hops.ok * (1 + HOPS),
        "all hops of what was begun: {by_hops:?}, {report}"
    );
    // One that was on its way into a queue when the last shard left was accepted and is reported as
    // not run.
    let unrun = by_tells.ok - told_of.counted();
    assert!(unrun <= report.messages_unrun, "{unrun} tells were accepted and lost: {report}");
    assert!(unrun <= 1, "{unrun} of one thread's tells were accepted and not run: {report}");
    assert_eq!(report.stats.handled(), tallies.iter().map(Tally::counted).sum::<u64>());
    watchdog.feed();
}

#[test]
fn in_the_middle_of_load() {
    let watchdog = Watchdog::new("shutdown::in_the_middle_of_load");
    for round in 0..3 {
        shut_down_in_the_middle(2, Idle::Spin(Duration::from_micros(50 * round)), &watchdog);
    }
}

#[test]
fn in_the_middle_of_load_with_more_shards_than_cores() {
    let watchdog = Watchdog::new("shutdown::in_the_middle_of_load_with_more_shards_than_cores");
    for _ in 0..3 {
        shut_down_in_the_middle(8, Idle::Spin(Duration::ZERO), &watchdog);
    }
}

#[test]
fn tasks_are_told_have_time_and_are_cancelled() {
    let _watchdog = Watchdog::new("shutdown::tasks_are_told_have_time_and_are_cancelled");
    let runtime = start::<Counter>(3, Config { tasks_grace: Duration::from_secs(3600), ..Config::default() });
    let handle = runtime.handle();
    let ids = ids(&handle, 1).concat();
    let ran = Tally::default();
    let message = move |to: usize, ran: &Tally| Message::Count { to: ids[to % ids.len()], ran: ran.clone() };
    let counted = ran.clone();
    // These finish what they have begun when they are told, with the help of other shards.
    let finish = runtime.on_each_shard(move |local| {
        let (message, ran) = (message.clone(), counted.clone());
        async move {
            local.stopping().await;
            let next = local.shard().index() + 1;
            for _ in 0..100 {
                local.ask(message(next, &ran)).await.unwrap();
                local.tell(message(next, &ran)).unwrap();
            }
            let outside = local.handle().ask(message(next, &ran)).await;
            assert_eq!(outside, Err(AskError::Stopped), "a handle is for outside, and that is closed");
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
    });
    until(|| runtime.stats().shards.iter().all(|shard| shard.tasks == 1));
    let report = runtime.shutdown();
    assert!(report.drained && report.tasks_cancelled == 0, "{report}");
    // The grace, an hour, is not waited for when nobody needs it: the watchdog would say so.
    assert_eq!(finish.wait(), [Ok(()), Ok(()), Ok(())]);
    assert_eq!(ran.counted(), 3 * 200, "the last message of a task is a message too");

    let runtime = start::<Counter>(3, Config { tasks_grace: Duration::from_millis(20), ..Config::default() });
    // These do not end: one waits for ever, one works for ever, and one has spawned another.
    let waits = runtime.on_each_shard(|_| pending::<()>());
    let works = runtime.on_each_shard(|_| async {
        loop {
            glommio::executor().yield_task_queue_now().await;
        }
    });
    let spawns = runtime.on_each_shard(|local| async move { local.spawn(pending()) });
    assert_eq!(spawns.wait(), [Ok(()), Ok(()), Ok(())]);
    until(|| runtime.stats().shards.iter().all(|shard| shard.tasks == 3));
    let report = runtime.shutdown();
    assert_eq!(report.tasks_cancelled, 9, "{report}");
    assert!(report.drained, "what was accepted has run all the same: {report}");
    assert!(waits.wait().iter().all(|result| *result == Err(TaskError::Cancelled)));
    assert!(works.wait().iter().all(|result: &Result<(), _>| *result == Err(TaskError::Cancelled)));
}

/// Runs a runtime whose shards are held up until it has begun to stop, with no time to drain, and
/// returns what was answered and reported.
fn without_time(
    fill: impl FnOnce(&Handle<Counter>, &[u64], &Tally) -> Vec<freehold::Ask<Counter>>,
) -> (Told, u64, Report) {
    let config = Config {
        ingress_entries_max: 64,
        drain_max: Duration::ZERO,
        tasks_grace: Duration::ZERO,
        ..Config::default()
    };
    let runtime = start::<Counter>(2, config);
    let handle = runtime.handle();
    let held = [0, 1].map(|shard| hold_up(&runtime, ShardIndex(shard)));
    let ran = Tally::default();
    let asks = fill(&handle, &ids(&handle, 1).concat(), &ran);
    let stop = std::thread::spawn(move || runtime.shutdown());
    until(|| handle.ask(Message::Read { of: 1 }).now_or_never() == Some(Err(AskError::Stopped)));
    // The phase after draining comes at once, and the shards find it when they come back.
    std::thread::sleep(Duration::from_millis(20));
    drop(held);
    let mut told = Told::default();
    asks.into_iter().for_each(|ask| told.note(ask.wait()));
    (told, ran.counted(), stop.join().unwrap())
}

#[test]
fn without_time_to_drain_what_waits_is_refused_and_reported() {
    let _watchdog = Watchdog::new("shutdown::without_time_to_drain_what_waits_is_refused_and_reported");
    let (told, ran, report) = without_time(|handle, ids, ran| {
        let all = handle.ask_all(ids.iter().map(|to| Message::Count { to: *to, ran: ran.clone() }));
        drop(all);
        ids.iter()
            .flat_map(|&to| (0..30).map(move |_| Message::Count { to, ran: ran.clone() }))
            .map(|message| handle.ask(message))
            .collect()
    });
    assert_eq!(told.ok + told.stopped, 60, "{told:?}");
    assert!(told.ok <= ran && ran <= told.ok + 2, "{told:?}, {ran} ran");
    if ran < 62 {
        assert!(!report.drained && report.messages_unrun > 0, "{report}");
    }
}

#[test]
fn what_goes_on_for_ever_is_cut_off() {
    let _watchdog = Watchdog::new("shutdown::what_goes_on_for_ever_is_cut_off");
    let runtime = start::<Counter>(2, Config { drain_max: Duration::from_millis(30), ..Config::default() });
    let handle = runtime.handle();
    let ids = ids(&handle, 1).concat();
    for at in &ids {
        handle.ask(Message::Forever { at: *at }).wait().unwrap();
    }
    let (along, ran) = (Arc::from(ids), Tally::default());
    handle.ask(Message::Hop { along, at: 0, hops: u64::MAX, ran: ran.clone() }).wait().unwrap();
    until(|| ran.counted() > 1000);
    let report = runtime.shutdown();
    assert!(!report.drained && report.messages_unrun == 3, "{report}");
}

/// An actor one of whose messages can be held up in `addressees`, which a sender calls between
/// finding the door open and putting the message into a queue.
struct Doorway;

struct Visit {
    threshold: Option<Arc<Threshold>>,
    ran: Tally,
}

struct Threshold {
    is_reached: Mutex<Option<mpsc::Sender<()>>>,
    may_cross: Mutex<mpsc::Receiver<()>>,
}

impl Visit {
    /// A visit that stops on the threshold, how to know that it has, and how to let it cross.
    fn held(ran: &Tally) -> (Self, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (reached, is_reached) = mpsc::channel();
        let (cross, may_cross) = mpsc::channel();
        let threshold = Threshold { is_reached: Mutex::new(Some(reached)), may_cross: Mutex::new(may_cross) };
        (Visit { threshold: Some(Arc::new(threshold)), ran: ran.clone() }, is_reached, cross)
    }
}

impl Actor for Doorway {
    type Id = u64;
    type State = ();
    type Message = Visit;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(visit: &Visit, to: &mut Addressees<u64>) {
        if let Some(threshold) = &visit.threshold
            && let Some(reached) = threshold.is_reached.lock().unwrap().take()
        {
            reached.send(()).unwrap();
            let _ = threshold.may_cross.lock().unwrap().recv();
        }
        to.write(1);
    }

    fn receive(visit: &Visit, _: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        visit.ran.count();
        Ok(())
    }
}

/// Sends a visit by `send`, which finds the door open and reaches the queue after the runtime has
/// stopped.
fn caught_in_the_doorway<T: Send>(
    send: impl FnOnce(&Handle<Doorway>, Visit) -> T + Send,
) -> (T, u64, Report) {
    let runtime: Runtime<Doorway> = start(2, Config::default());
    let handle = runtime.handle();
    let ran = Tally::default();
    let (visit, is_reached, cross) = Visit::held(&ran);
    std::thread::scope(|scope| {
        let sends = scope.spawn(|| send(&handle, visit));
        is_reached.recv().unwrap();
        let report = runtime.shutdown();
        drop(cross);
        (sends.join().unwrap(), ran.counted(), report)
    })
}

#[test]
fn whoever_is_caught_in_the_doorway_is_told_that_it_has_closed() {
    let _watchdog = Watchdog::new("shutdown::whoever_is_caught_in_the_doorway");
    let (asked, ran, _) = caught_in_the_doorway(|handle, visit| handle.ask(visit).wait());
    assert_eq!((asked, ran), (Err(AskError::Stopped), 0));
    let (asked, ran, _) = caught_in_the_doorway(|handle, visit| {
        let more = Visit { threshold: None, ran: visit.ran.clone() };
        handle.ask_all([visit, more]).wait()
    });
    assert_eq!((asked, ran), (vec![Err(AskError::Stopped), Err(AskError::Stopped)], 0));
}

/// `tell` says `Ok` for what was accepted, and everything accepted runs or is reported: nobody else
/// hears of it.
#[test]
fn whoever_tells_in_the_doorway_is_told_that_it_has_closed() {
    let _watchdog = Watchdog::new("shutdown::whoever_tells_in_the_doorway");
    let (told, ran, report) = caught_in_the_doorway(|handle, visit| handle.tell(visit).map_err(drop));
    assert_eq!(ran, 0);
    assert!(told.is_err() || report.messages_unrun == 1, "accepted, not run and not reported: {report}");
}
