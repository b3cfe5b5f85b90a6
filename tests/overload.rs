//! Where more comes than a shard can do, senders are refused or wait, memory stays bounded, and
//! what was accepted is done.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Limits, Objects, ShardIndex, TellError, glommio,
};
use futures::FutureExt;
use support::held::hold_up;
use support::{Counter, Message, Tally, Watchdog, ids, start, until};

/// Bounds so tight that anything fills them.
fn tight() -> Config {
    Config {
        ingress_entries_max: 16,
        batch_messages_max: 16,
        lane_entries_max: 16,
        asks_in_flight_max: 64,
        calls_max: 32,
        turn_messages_max: 64,
        limits: Limits { timers_max: 64, outbox_messages_max: 64, own_messages_max: 64, ..Limits::default() },
        drain_max: Duration::from_secs(60),
        ..Config::default()
    }
}

/// Messages that weigh a kilobyte each and take longer to handle than to send.
struct Freight;

#[derive(Clone)]
struct Crate {
    to: u64,
    load: Box<[u8; 1024]>,
    ran: Tally,
}

impl Crate {
    fn new(to: u64, ran: &Tally) -> Self {
        Crate { to, load: Box::new([7; 1024]), ran: ran.clone() }
    }
}

impl Actor for Freight {
    type Id = u64;
    type State = u64;
    type Message = Crate;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(message: &Crate, to: &mut Addressees<u64>) {
        to.write(message.to);
    }

    fn receive(message: &Crate, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_micros(30) {
            std::hint::spin_loop();
        }
        message.ran.count();
        let weight = objects.get_or_insert_with(message.to, || 0)?;
        *weight += u64::from(message.load[1023]);
        Ok(*weight)
    }
}

/// The memory this process has in use, in KiB.
fn resident_kib() -> u64 {
    let status =
        std::fs::read_to_string("/proc/self/status").expect("Linux says how much memory a process has");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a line says how much is resident");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A million attempts of a kilobyte each would be a gigabyte, were they kept. What the bounds allow
/// is some hundred kilobytes; the rest is what allocators keep per thread.
const GROWTH_MAX_KIB: u64 = 16 << 10;
const ATTEMPTS: u64 = 1_000_000;

#[test]
fn a_producer_that_is_too_fast_is_refused_in_bounded_memory_and_nothing_accepted_is_lost() {
    let watchdog = Arc::new(Watchdog::new("overload::a_producer_that_is_too_fast"));
    let runtime = start::<Freight>(2, tight());
    let handle = runtime.handle();
    let ran = Tally::default();
    let ids = ids(&handle, 4).concat();
    let (attempts, accepted, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (accepted_asks, waited) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let (mut base, mut most) = (None, 0);
    std::thread::scope(|scope| {
        for producer in 0..2_usize {
            let (handle, ids, ran, watchdog) = (handle.clone(), &ids, &ran, watchdog.clone());
            let (attempts, accepted, refused, is_over) = (&attempts, &accepted, &refused, &is_over);
            let accepted_asks = &accepted_asks;
            scope.spawn(move || {
                let mut attempt = producer;
                while attempts.fetch_add(1, Ordering::Relaxed) < ATTEMPTS {
                    attempt += 1;
                    let message = Crate::new(ids[attempt % ids.len()], ran);
                    let was_accepted = if attempt.is_multiple_of(2) {
                        match handle.tell(message) {
                            Ok(()) => true,
                            Err(TellError::Overloaded(message)) => {
                                assert_eq!(message.load[0], 7, "it comes back whole");
                                false
                            }
                            Err(error) => panic!("{error:?}"),
                        }
                    } else {
                        // Most answers are not waited for, and none may be kept for that.
                        match handle.ask(message).now_or_never() {
                            None | Some(Ok(_)) => {
                                accepted_asks.fetch_add(1, Ordering::Relaxed);
                                true
                            }
                            Some(Err(AskError::Overloaded)) => false,
                            Some(Err(error)) => panic!("{error:?}"),
                        }
                    };
                    let count = if was_accepted { accepted } else { refused };
                    count.fetch_add(1, Ordering::Relaxed);
                    if attempt.is_multiple_of(1 << 14) {
                        watchdog.feed();
                    }
                }
                is_over.store(true, Ordering::Release);
            });
        }
        // Another waits instead.
        let (handle, ids, ran, waited, is_over) = (handle.clone(), &ids, &ran, &waited, &is_over);
        scope.spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                let outcomes = handle.ask_all((0..100).map(|at| Crate::new(ids[at % ids.len()], ran))).wait();
                assert!(outcomes.iter().all(Result::is_ok), "`ask_all` waits for room and is not refused");
                waited.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
            }
        });
        while !is_over.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
            let resident = resident_kib();
            most = most.max(resident);
            // Once everything has been full for a while.
            if base.is_none() && attempts.load(Ordering::Relaxed) > ATTEMPTS / 50 {
                base = Some(resident);
            }
        }
    });
    let report = runtime.shutdown();
    let (accepted, waited) = (accepted.into_inner(), waited.into_inner());
    let (refused, growth) = (refused.into_inner(), most.saturating_sub(base.unwrap_or(most)));
    println!(
        "{ATTEMPTS} attempts, {accepted} accepted, {waited} by waiting; memory grew by {growth} KiB at most"
    );
    assert!(report.drained, "{report}");
    assert_eq!(accepted + refused, ATTEMPTS);
    assert_eq!(ran.counted(), accepted + waited, "what was accepted was done, and nothing else");
    assert_eq!(report.stats.handled(), accepted + waited);
    let counted: u64 = report.stats.shards.iter().map(|shard| shard.overloaded).sum();
    assert_eq!(counted, refused, "every refusal is counted");
    assert!(
        refused > ATTEMPTS / 2 && accepted > 1000 && waited > 0,
        "the producers were too fast: {refused} refused"
    );
    let accepted_asks = accepted_asks.into_inner();
    assert!(
        accepted_asks > 640,
        "{accepted_asks} asks with 64 reply slots: slots whose answers nobody wants are used again"
    );
    assert!(growth < GROWTH_MAX_KIB, "memory grew by {growth} KiB");
}

#[test]
fn a_task_that_is_too_fast_for_another_shard_is_refused_and_nothing_accepted_is_lost() {
    let _watchdog = Watchdog::new("overload::a_task_that_is_too_fast_for_another_shard");
    let runtime = start::<Counter>(2, tight());
    let handle = runtime.handle();
    let [_, slow] = ids(&handle, 1).concat()[..] else { panic!("two shards") };
    let ran = Tally::default();
    let message = Message::Toil { to: slow, toil: Duration::from_micros(30), ran: ran.clone() };
    let tasks = runtime.on_each_shard(move |local| {
        let message = message.clone();
        async move {
            if local.shard() == ShardIndex(1) {
                return (0, 0, 0);
            }
            let (mut told, mut refused, mut asks) = (0, 0, Vec::new());
            for attempt in 0..100_000 {
                let was_accepted = if attempt % 2 == 0 {
                    match local.tell(message.clone()) {
                        Ok(()) => true,
                        Err(TellError::Overloaded(Message::Toil { .. })) => false,
                        Err(error) => panic!("{error:?}"),
                    }
                } else {
                    let mut ask = local.ask(message.clone());
                    match (&mut ask).now_or_never() {
                        None => {
                            asks.push(ask);
                            true
                        }
                        Some(Err(AskError::Overloaded)) => false,
                        Some(outcome) => panic!("it cannot have run yet: {outcome:?}"),
                    }
                };
                *if was_accepted { &mut told } else { &mut refused } += 1;
                if attempt % 100 == 99 {
                    glommio::executor().yield_task_queue_now().await;
                    assert!(asks.len() <= 32, "no more calls than there may be");
                    // Half of them are awaited, the other half given up.
                    for (at, ask) in std::mem::take(&mut asks).into_iter().enumerate() {
                        if at % 2 == 0 {
                            ask.await.unwrap();
                        }
                    }
                }
            }
            (told, refused, asks.len())
        }
    });
    let [Ok((accepted, refused, 0)), Ok((0, 0, 0))] = tasks.wait()[..] else { panic!("both tasks end well") };
    let report = runtime.shutdown();
    assert!(report.drained, "{report}");
    assert_eq!(ran.counted(), accepted);
    assert!(refused > 1000 && accepted > 1000, "{refused} refused, {accepted} accepted");
}

#[test]
fn a_message_that_tells_more_than_fits_fails_whole() {
    let _watchdog = Watchdog::new("overload::a_message_that_tells_more_than_fits_fails_whole");
    let runtime = start::<Counter>(2, tight());
    let handle = runtime.handle();
    let ids = ids(&handle, 2);
    let (from, own, far) = (ids[0][0], ids[0][1], ids[1][0]);
    let ran = Tally::default();
    let fan = |to, copies| Message::Fan { from, to, copies, ran: ran.clone() };
    let no_room = |waiting| Err(AskError::Aborted(AccessError::NoRoom { waiting }));
    assert_eq!(handle.ask(fan(own, 65)).wait(), no_room(64));
    assert_eq!(handle.ask(fan(far, 65)).wait(), no_room(64));
    assert_eq!(handle.ask(Message::Read { of: from }).wait(), Ok(0), "nothing of them is left");
    assert_eq!(handle.ask(fan(own, 64)).wait(), Ok(1));
    assert_eq!(handle.ask(fan(far, 64)).wait(), Ok(2));

    // The receiver is held up, so that the lane of 16 and the outbox of 64 fill: the first that
    // does not fit fails, and it alone.
    until(|| ran.counted() == 128);
    let held = hold_up(&runtime, ShardIndex(1));
    let counted = ran.clone();
    let (filled, is_filled) = mpsc::channel();
    let fill = runtime.on_each_shard(move |local| {
        let (filled, ran) = (filled.clone(), counted.clone());
        async move {
            if local.shard() == ShardIndex(1) {
                return;
            }
            let mut accepted = 0;
            let refusal = loop {
                match local.ask_now(&Message::Fan { from, to: far, copies: 10, ran: ran.clone() }) {
                    Ok(_) => accepted += 10,
                    Err(error) => break error,
                }
                glommio::executor().yield_task_queue_now().await;
            };
            let read = local.ask_now(&Message::Read { of: from });
            let after = Duration::from_secs(3600);
            let later = |_| local.ask_now(&Message::Later { from, to: own, after, ran: ran.clone() });
            filled.send((accepted, refusal, read, (0..70).map(later).collect::<Vec<_>>())).unwrap();
        }
    });
    let (accepted, refusal, read, timers) = is_filled.recv().unwrap();
    assert!(
        matches!(refusal, AskError::Aborted(AccessError::NoRoom { waiting: 55..=64 })),
        "the last of its ten was one too many: {refusal:?}"
    );
    assert!((60..=80).contains(&accepted), "{accepted} found room in a lane of 16 and an outbox of 64");
    assert_eq!(read, Ok(2 + accepted / 10));
    assert!(timers[..64].iter().all(Result::is_ok), "{timers:?}");
    assert!(timers[64..].iter().all(|timer| *timer == no_room(64)), "{timers:?}");

    // Those who ask something of the shard whose lane is full, and nothing of the one held up, are
    // answered.
    assert_eq!(handle.ask(Message::Read { of: from }).wait(), read.map(|number| number + 64));
    drop(held);
    assert_eq!(fill.wait(), [Ok(()), Ok(())]);
    let report = runtime.shutdown();
    assert!(report.drained && report.timers_unfinished == 64, "{report}");
    assert_eq!(ran.counted(), 128 + accepted);
    assert_eq!(report.stats.handled(), 5 + 128 + accepted / 10 + 1 + 1 + 70 + 1 + accepted, "{report}");
}
