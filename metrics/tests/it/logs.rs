//! The numbers of a log and of its checkpoints, on a disk that waits when the test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold::{LogConfig, Runtime};
use freehold_metrics::serve;

use super::forgetful::Served;
use super::support::skip::skip;
use super::{Counter, Message, Numbers, config, until};

/// A disk that hangs for as long as this lives: a runtime that closes its log waits for it.
struct Hanging<'a>(&'a mut Served);

impl<'a> Hanging<'a> {
    fn new(disk: &'a mut Served) -> Self {
        disk.hang();
        Hanging(disk)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.go_on();
    }
}

/// One shard whose log is on this disk.
fn open(disk: &Served) -> Runtime<Counter> {
    let (segment_bytes, checkpoint_bytes) = (64 << 10, 64 << 10);
    let log = LogConfig { segment_bytes, checkpoint_bytes, ..LogConfig::at(disk.at()) };
    Runtime::open(config(1), log).expect("it starts on this machine")
}

#[test]
fn a_disk_that_hangs_shows_while_it_hangs() {
    let mut disk = match Served::mounted(1) {
        Ok(disk) => disk,
        Err(why) => return skip("a_disk_that_hangs_shows_while_it_hangs", &why),
    };
    let runtime = open(&disk);
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let add = |id| assert!(bank.ask(Message::Add(id)).wait().is_ok());
    (0..10).for_each(add);
    let writes = |numbers: &Numbers| numbers.sum("freehold_log_writes_total", "");
    let under_way = |numbers: &Numbers| {
        ["freehold_in_log_write_seconds", "freehold_durable_lag"].map(|name| numbers.sum(name, "") > 0.0)
    };
    let before = until(server.addr(), "all is written", |numbers| under_way(numbers) == [false; 2]);
    assert!(writes(&before) >= 10.0, "each answer waited for one");
    assert_eq!(writes(&before), before.sum("freehold_log_write_seconds_count", ""));
    let hanging = Hanging::new(&mut disk);
    let ask = bank.ask(Message::Add(1));
    let during = until(server.addr(), "a write goes on", |numbers| under_way(numbers) == [true; 2]);
    assert_eq!(during.sum("freehold_log_write_seconds_count", ""), writes(&before));
    assert_eq!(during.sum("freehold_asks_in_flight", ""), 1.0);
    drop(hanging);
    assert!(ask.wait().is_ok());
    let after = until(server.addr(), "all is written again", |numbers| under_way(numbers) == [false; 2]);
    assert_eq!(writes(&after), writes(&before) + 1.0);
    assert!(after.sum("freehold_epoch", "") > before.sum("freehold_epoch", ""));
}

/// A log that was idle said that 128 bytes wait: the header of a batch without records.
#[test]
fn what_waits_for_a_disk_shows_and_nothing_waits_for_an_idle_one() {
    let (runtime, _directory) = super::open();
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let backlog = |numbers: &Numbers| numbers.sum("freehold_log_backlog_bytes", "");
    let (ends, loaded) = (Arc::new(AtomicBool::new(false)), bank.clone());
    let seen = ends.clone();
    let load = std::thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            let asks: Vec<_> = (0..4000).map(|id| loaded.ask(Message::Add(id))).collect();
            asks.into_iter().for_each(|ask| drop(ask.wait()));
        }
    });
    until(server.addr(), "some waits", |numbers| backlog(numbers) > 0.0);
    ends.store(true, Ordering::Relaxed);
    load.join().expect("it asks");
    until(server.addr(), "nothing waits", |numbers| backlog(numbers) == 0.0);
}

#[test]
fn a_log_that_grows_faster_than_its_checkpoints_shows() {
    let disk = match Served::mounted(2) {
        Ok(disk) => disk,
        Err(why) => return skip("a_log_that_grows_faster_than_its_checkpoints_shows", &why),
    };
    let runtime = open(&disk);
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let made = |numbers: &Numbers| numbers.sum("freehold_checkpoints_total", "outcome=\"made\"");
    assert_eq!(
        (made(&Numbers::scraped(server.addr())), bank.stats().log.map(|log| log.held)),
        (0.0, Some(0))
    );
    let mut patience = super::support::patience::Patience::of(std::time::Duration::from_secs(60));
    while Numbers::scraped(server.addr()).sum("freehold_checkpoints_held_total", "") == 0.0 {
        assert!(!patience.is_over(), "no checkpoint was waited for: {:?}", bank.stats().log);
        let added = bank.ask_all((0..4000).map(Message::Add)).wait();
        assert!(added.iter().all(Result::is_ok));
    }
    let last = runtime.checkpoint().expect("there is a log");
    // One may have been begun meanwhile.
    let numbers = until(server.addr(), "it is the last", |numbers| {
        numbers.sum("freehold_checkpoint_bytes", "") == last.bytes as f64
    });
    assert_eq!(numbers.sum("freehold_checkpoint_took_seconds", ""), last.took.as_secs_f64());
    assert!(numbers.sum("freehold_checkpoint_age_seconds", "") > 0.0 && made(&numbers) >= 2.0);
    let bound = numbers.sum("freehold_log_max_bytes", "");
    assert!(bound >= 2.0 * 65_536.0 && numbers.sum("freehold_log_bytes", "") <= bound, "{:#?}", numbers.0);
}
