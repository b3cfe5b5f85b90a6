//! A delayed message comes when it is due and in order, whether its shard sleeps or is busy, and is
//! reported if it had no chance to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Tally, Watchdog, ids, start, until};
use freehold::{AccessError, Actor, Addressees, Config, Handle, Idle, Objects, glommio};
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// Objects that keep a diary.
struct Diary;

#[derive(Clone, Debug)]
enum Message {
    /// Writes these numbers into another diary, each in a while. A delay begins with the turn that
    /// sets it, and so not before `sent`.
    Later { from: u64, to: u64, pages: Vec<Page>, sent: Instant, written: Tally },
    /// Writes a number, at once.
    Write { to: u64, page: Page, sent: Instant, written: Tally },
    /// Asks another object to ask this one, after a while, so many times.
    Bounce { at: u64, then: u64, after: Duration, times: u64, written: Tally },
    /// What is written.
    Read { of: u64 },
}

/// What is written in place of a number that came before its time.
const TOO_EARLY: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    number: u64,
    after: Duration,
}

impl Actor for Diary {
    type Id = u64;
    type State = Vec<u64>;
    type Message = Message;
    type Reply = Vec<u64>;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Later { from: id, .. }
            | Message::Write { to: id, .. }
            | Message::Bounce { at: id, .. } => to.write(*id),
            Message::Read { of } => to.read(*of),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Vec<u64>, AccessError<u64>> {
        match message {
            Message::Later { to, pages, sent, written, .. } => {
                for &page in pages {
                    let write = Message::Write { to: *to, page, sent: *sent, written: written.clone() };
                    objects.tell_after(page.after, write)?;
                }
                Ok(Vec::new())
            }
            Message::Write { to, page, sent, written } => {
                let number = if sent.elapsed() >= page.after { page.number } else { TOO_EARLY };
                objects.get_or_insert_with(*to, Vec::new)?.push(number);
                written.count();
                Ok(Vec::new())
            }
            Message::Bounce { at, then, after, times, written } => {
                if *times > 0 {
                    let (at, then, times) = (*then, *at, times - 1);
                    objects.tell_after(
                        *after,
                        Message::Bounce { at, then, after: *after, times, written: written.clone() },
                    )?;
                }
                written.count();
                Ok(Vec::new())
            }
            Message::Read { of } => Ok(objects.get(*of)?.cloned().unwrap_or_default()),
        }
    }
}

/// Pages in the order of their time, and within the same millisecond in the order they are set; and
/// the same pages as they are set.
fn pages(seed: u64, count: u64) -> (Vec<u64>, Vec<Page>) {
    let mut random = Pcg32::seed_from_u64(seed);
    let after = |random: &mut Pcg32| Duration::from_millis(u64::from(random.next_u32() % 8) * 5);
    let mut pages: Vec<Page> = (0..count).map(|number| Page { number, after: after(&mut random) }).collect();
    let set = pages.clone();
    pages.sort_by_key(|page| page.after);
    (pages.into_iter().map(|page| page.number).collect(), set)
}

fn read(handle: &Handle<Diary>, of: u64) -> Vec<u64> {
    handle.ask(Message::Read { of }).wait().unwrap()
}

#[test]
fn on_shards_that_sleep() {
    let _watchdog = Watchdog::new("timers::on_shards_that_sleep");
    let runtime = start::<Diary>(2, Config { idle: Idle::Spin(Duration::ZERO), ..Config::default() });
    let handle = runtime.handle();
    let ids = ids(&handle, 2);
    // On their own shard and to the other, both asleep: nothing else is sent until all is written.
    for (seed, (from, to)) in
        [(ids[0][0], ids[0][1]), (ids[0][0], ids[1][1]), (ids[1][0], ids[0][0])].into_iter().enumerate()
    {
        let (in_order, pages) = pages(seed as u64, 100);
        let written = Tally::default();
        handle
            .tell(Message::Later { from, to, pages, sent: Instant::now(), written: written.clone() })
            .unwrap();
        until(|| written.counted() == 100);
        assert_eq!(read(&handle, to), in_order);
    }
    let written = Tally::default();
    let after = Duration::from_micros(500);
    handle
        .tell(Message::Bounce { at: ids[0][0], then: ids[1][0], after, times: 200, written: written.clone() })
        .unwrap();
    until(|| written.counted() == 201);
    let report = runtime.shutdown();
    assert!(report.drained && report.timers_unfinished == 0, "{report}");
    let fired: u64 = report.stats.shards.iter().map(|shard| shard.counters.timers_fired).sum();
    assert_eq!(fired, 300 + 200);
    assert!(report.stats.shards.iter().all(|shard| shard.activity.parks > 50), "{report:?}");
}

#[test]
fn on_shards_that_are_busy() {
    let _watchdog = Watchdog::new("timers::on_shards_that_are_busy");
    let runtime = start::<Diary>(2, Config::default());
    let handle = runtime.handle();
    let ids = ids(&handle, 2);
    let is_over = AtomicBool::new(false);
    let mut diaries = Vec::new();
    std::thread::scope(|scope| {
        // Messages from outside until all is written; their queues are never empty for long.
        for thread in 0..2 {
            let (handle, ids, is_over) = (&handle, &ids, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let reads = (0..1000).map(|at| Message::Read { of: ids[at % 2][thread] });
                    assert!(handle.ask_all(reads).wait().iter().all(Result::is_ok));
                }
            });
        }
        // And a task that never waits for anything but its turn.
        let busy = runtime.on_each_shard(|local| async move {
            let (mut stopping, mut here) = (std::pin::pin!(local.stopping()), 0);
            while futures::poll!(stopping.as_mut()).is_pending() {
                here += (0..100).filter(|of| local.ask_now(&Message::Read { of: *of }).is_ok()).count();
                glommio::yield_if_needed().await;
            }
            here
        });
        for (seed, (from, to)) in [(ids[0][0], ids[0][1]), (ids[0][0], ids[1][1])].into_iter().enumerate() {
            let (in_order, pages) = pages(10 + seed as u64, 100);
            let written = Tally::default();
            handle
                .ask(Message::Later { from, to, pages, sent: Instant::now(), written: written.clone() })
                .wait()
                .unwrap();
            until(|| written.counted() == 100);
            diaries.push((read(&handle, to), in_order));
        }
        is_over.store(true, Ordering::Relaxed);
        drop(busy);
    });
    let report = runtime.shutdown();
    assert!(report.drained && report.timers_unfinished == 0 && report.tasks_cancelled == 0, "{report}");
    for (diary, in_order) in diaries {
        assert_eq!(diary, in_order);
    }
}

#[test]
fn what_is_not_due_at_the_end_is_reported_and_never_runs() {
    let _watchdog = Watchdog::new("timers::what_is_not_due_at_the_end_is_reported");
    let runtime = start::<Diary>(2, Config::default());
    let handle = runtime.handle();
    let ids = ids(&handle, 2);
    let (written, unwritten) = (Tally::default(), Tally::default());
    let page = |number, seconds| Page { number, after: Duration::from_secs(seconds) };
    let later = |from, to, pages: &[Page], written: &Tally| {
        handle
            .ask(Message::Later {
                from,
                to,
                pages: pages.to_vec(),
                sent: Instant::now(),
                written: written.clone(),
            })
            .wait()
            .unwrap();
    };
    later(ids[0][0], ids[0][1], &[page(1, 0)], &written);
    later(ids[1][0], ids[0][1], &[page(2, 0)], &written);
    until(|| written.counted() == 2);
    later(ids[0][0], ids[0][1], &[page(3, 3600), page(4, 3600)], &unwritten);
    later(ids[0][0], ids[1][1], &[page(5, 3600)], &unwritten);
    // Beyond the end of time.
    later(ids[1][0], ids[1][1], &[page(6, u64::MAX)], &unwritten);
    until(|| runtime.stats().shards.iter().map(|shard| shard.activity.timers_waiting).sum::<u64>() == 4);
    let report = runtime.shutdown();
    assert!(report.drained, "{report}");
    assert_eq!(report.timers_unfinished, 4, "{report}");
    assert!(report.to_string().contains("4 before their time"), "{report}");
    assert_eq!((written.counted(), unwritten.counted()), (2, 0));
}
