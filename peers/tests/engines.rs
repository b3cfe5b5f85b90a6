//! Every engine runs what it can, and its books balance; what cannot balance is found out; what
//! cannot be done is said.

mod counters;
mod trial;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{sleep, yield_now};
use std::time::Duration;

use counters::{Counters, Step};
use freehold_peers::bytes::{Bytes, Desk, encode, not_writable, show};
use freehold_peers::groups::{self, GROUP_MAX, Grouped};
use freehold_peers::threads::{self, Session, Store};
use freehold_peers::{Fault, PEERS, Settled, answer, guarded, measure};
use freehold_shard::Access;
use freehold_workloads::{
    Answer, Durability, Load, Mix, Refused, Repetition, Rows, Skew, SmallBank, Tpcc, Trial, Workload, Ycsb,
};
use trial::trial;

const COUNTERS: Counters = Counters(40);

/// One test at a time: their clients are pinned to the same CPUs, and one that waits for its turn
/// there measures nothing.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures for longer and longer if a machine is so busy that nothing was answered meanwhile, or
/// nothing that was timed.
fn in_time(mut trial: Trial, measure: impl Fn(&Trial) -> Answer) -> Answer {
    for _ in 0..4 {
        match measure(&trial) {
            Answer::Failed(why) if why.contains("nothing was answered") => {}
            Answer::Measured(repetition) if repetition.latency.samples == 0 => {}
            answer => return answer,
        }
        trial.measure *= 4.0;
    }
    measure(&trial)
}

fn measured(who: &str, answer: Answer) -> Repetition {
    match answer {
        Answer::Measured(repetition) => *repetition,
        other => panic!("{who}: {other:?}"),
    }
}

fn check(who: &str, repetition: &Repetition) {
    println!(
        "{who}: {:.0}/s, {} aborted, {} reruns, p50 {} ns of {}",
        repetition.per_second,
        repetition.aborted,
        repetition.reruns,
        repetition.latency.p50,
        repetition.latency.samples
    );
    assert!(repetition.committed > 0, "{who} commits");
    assert!(repetition.per_second > 0.0 && repetition.seconds > 0.05, "{who} has a rate");
    assert!(repetition.latency.samples > 0 && repetition.latency.p50 > 0, "{who} has latencies");
    assert!(repetition.traffic_transactions >= repetition.committed + repetition.aborted, "{who} counts all");
}

/// Runs on every engine with every durability it has. Says how many it ran on.
fn on_all<W: Workload>(workload: &W) -> usize {
    let (directory, mut ran) = (tempfile::tempdir().expect("a directory"), 0);
    for peer in PEERS.iter().filter(|peer| workload.is_of_single_rows() || !peer.is_of_single_rows) {
        for &durability in peer.durabilities {
            let who = format!("{}, {durability}, {}", peer.name, workload.name());
            let trial = trial(peer.name, durability, directory.path());
            check(&who, &measured(&who, in_time(trial, |trial| measure(workload, trial))));
            let left = directory.path().read_dir().expect("a directory").count();
            assert_eq!(left, 0, "{who} left files");
            ran += 1;
        }
    }
    ran
}

#[test]
fn smallbank_balances_on_every_engine_with_transactions() {
    let _alone = alone();
    let bank = SmallBank { customers: 100, skew: Skew::Hotspot { rows: 4, share: 0.5 } };
    assert_eq!(on_all(&bank), 3 + 4 * 3);
}

#[test]
fn single_rows_balance_on_every_engine() {
    let _alone = alone();
    assert_eq!(on_all(&COUNTERS), 6 + 4 * 3);
}

#[test]
fn rows_of_every_kind_balance_on_every_engine() {
    let _alone = alone();
    // Inserts and renewed transactions; rows of a kilobyte, each by itself.
    assert_eq!(on_all(&Tpcc::small(4)), 3 + 4 * 3);
    assert_eq!(on_all(&Ycsb { mix: Mix::A, records: 2_000, skew: Skew::Zipf(0.99) }), 6 + 4 * 3);
}

#[test]
fn what_cannot_be_done_is_said() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let cannot = |engine, durability| match answer(&trial(engine, durability, directory.path())) {
        Answer::Cannot(why) => why,
        other => panic!("{engine}: {other:?}"),
    };
    for engine in ["tokio", "kameo", "actix"] {
        assert!(cannot(engine, Durability::None).contains("no transaction over several"));
    }
    for engine in ["mutex", "dashmap", "tokio", "kameo", "actix", "surrealmx"] {
        assert!(cannot(engine, Durability::Applied).contains("no log"));
        assert!(cannot(engine, Durability::Durable).contains("no log"));
    }
}

/// Arrivals a second in an open loop, and how long it is measured.
const RATE: f64 = 2_000.0;
const SECONDS: f64 = 0.5;

fn open(engine: &str, directory: &std::path::Path) -> Trial {
    let trial = trial(engine, Durability::None, directory);
    Trial { per_second: Some(RATE), measure: SECONDS, ..trial }
}

#[test]
fn an_open_loop_keeps_its_rate_with_every_kind_of_engine() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    for engine in ["mutex", "tokio", "actix", "redb-grouped"] {
        let repetition = measured(engine, measure(&COUNTERS, &open(engine, directory.path())));
        check(engine, &repetition);
        let arrived = (repetition.committed + repetition.aborted) as f64;
        let wanted = RATE * SECONDS;
        // A machine that is busy keeps a client from what has arrived for it; more than have
        // arrived there are never.
        assert!(arrived > 0.0 && arrived < 1.3 * wanted, "{engine}: {arrived} of {wanted} arrivals");
        // Of those that were answered all but those that had arrived before; and those that nobody
        // came to ask.
        let timed = repetition.latency.samples as f64;
        assert!(timed > 0.9 * arrived && timed < 1.3 * wanted, "{engine}: {timed} of {arrived} are timed");
        assert_eq!(repetition.wanted_per_second, Some(RATE));
    }
}

/// A map that goes wrong in a way of its choice.
struct Crooked<const HOW: u8> {
    rows: Mutex<HashMap<u32, i64>>,
    has_stalled: AtomicBool,
}

const LOSES: u8 = 0;
const PANICS: u8 = 1;
const STALLS: u8 = 2;
const FAILS: u8 = 3;

/// How long one that stalls does, once.
const STALL: Duration = Duration::from_millis(150);

struct Copied(HashMap<u32, i64>);

impl Rows<Counters> for Copied {
    fn get(&mut self, id: u32) -> Result<Option<&i64>, Refused<u32>> {
        Ok(self.0.get(&id))
    }
    fn get_mut(&mut self, id: u32) -> Result<Option<&mut i64>, Refused<u32>> {
        Ok(self.0.get_mut(&id))
    }
    fn insert(&mut self, id: u32, row: i64) -> Result<(), Refused<u32>> {
        self.0.insert(id, row);
        Ok(())
    }
    fn remove(&mut self, id: u32) -> Result<bool, Refused<u32>> {
        Ok(self.0.remove(&id).is_some())
    }
}

impl<const HOW: u8> Store<Counters> for Crooked<HOW> {
    type Session<'a> = &'a Self;

    fn open(workload: &Counters, _: &Trial) -> Result<Self, Fault> {
        let mut rows = HashMap::new();
        workload.load(&mut |id, row| assert!(rows.insert(id, row).is_none()));
        Ok(Crooked { rows: Mutex::new(rows), has_stalled: AtomicBool::new(false) })
    }

    fn session(&self) -> &Self {
        self
    }

    fn show(&self, see: &mut dyn FnMut(&u32, &i64)) -> Result<(), Fault> {
        self.rows.lock().expect("a lock").iter().for_each(|(id, row)| see(id, row));
        Ok(())
    }
}

impl<const HOW: u8> Session<Counters> for &Crooked<HOW> {
    fn run(&mut self, step: &Step) -> Result<Settled<Counters>, Fault> {
        match HOW {
            PANICS => panic!("crooked"),
            FAILS => return Err("the disk is gone".into()),
            STALLS if !self.has_stalled.swap(true, Ordering::Relaxed) => sleep(STALL),
            _ => {}
        }
        // The lock is held for reading and for writing, and not between them.
        let mut held = self.rows.lock().expect("a lock");
        if HOW == STALLS {
            let mut copied = Copied(std::mem::take(&mut *held));
            let settled = Counters::run(step, &mut copied);
            *held = copied.0;
            return Ok(settled);
        }
        let mut copied = Copied(held.clone());
        drop(held);
        yield_now();
        let settled = Counters::run(step, &mut copied);
        *self.rows.lock().expect("a lock") = copied.0;
        Ok(settled)
    }
}

fn crooked<const HOW: u8>(trial: Trial) -> Answer {
    in_time(trial, |trial| guarded(|| threads::measure::<Counters, Crooked<HOW>>(&COUNTERS, trial)))
}

fn failed(answer: Answer) -> String {
    match answer {
        Answer::Failed(why) => why,
        other => panic!("it has failed, and {other:?} was said"),
    }
}

#[test]
fn lost_updates_panics_and_faults_give_no_figure() {
    let _alone = alone();
    let closed = || trial("crooked", Durability::None, "".as_ref());
    assert!(failed(crooked::<LOSES>(closed())).contains("in all counters"));
    assert_eq!(failed(crooked::<PANICS>(closed())), "panicked: crooked");
    assert_eq!(failed(crooked::<FAILS>(closed())), "the disk is gone");
    assert!(failed(measure(&COUNTERS, &closed())).contains("no engine crooked"));
}

#[test]
fn who_arrives_while_an_engine_stalls_is_timed_from_the_arrival() {
    let _alone = alone();
    // The latencies of those that arrived during the stall fall evenly from its length to none: a
    // third waits for more than two thirds of it. One of two clients stalls.
    let waited = STALL.as_nanos() as u64 / 3;
    let wanted = RATE / 2.0 * STALL.as_secs_f64() * 2.0 / 3.0;
    let late = || {
        let repetition =
            measured("stalls", crooked::<STALLS>(Trial { warm_up: 0.0, ..open("", "".as_ref()) }));
        let waited = repetition.latency.buckets.iter().filter(|(upto, _)| *upto > waited);
        waited.map(|(_, count)| count).sum::<u64>()
    };
    // On a busy machine a client may stall before it hears that the measurement has begun.
    let mut found = Vec::new();
    while !found.iter().any(|late| *late as f64 > 0.6 * wanted) {
        assert!(found.len() < 10, "{found:?} of {wanted} waited for a third of the stall or more");
        found.push(late());
    }
}

/// Rows in a map, in groups. Says what is wrong with a group that it is asked to commit.
struct Watched {
    rows: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    is_large: AtomicBool,
}

/// All rows, for one transaction.
struct Borrowed<'a>(MutexGuard<'a, HashMap<Vec<u8>, Vec<u8>>>, Access);

impl Bytes for Borrowed<'_> {
    fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Fault> {
        Ok(self.0.get(key).map(|value| read(value)))
    }
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        if self.1 == Access::Read {
            return Err(not_writable());
        }
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
    fn remove(&mut self, key: &[u8]) -> Result<(), Fault> {
        if self.1 == Access::Read {
            return Err(not_writable());
        }
        self.0.remove(key);
        Ok(())
    }
}

impl Watched {
    fn lend(&self, access: Access) -> Borrowed<'_> {
        Borrowed(self.rows.lock().expect("a lock"), access)
    }
}

impl<W: Workload> Grouped<W> for Watched {
    fn open(workload: &W, _: &Trial) -> Result<Self, Fault> {
        let (mut rows, mut key, mut value) = (HashMap::new(), Vec::new(), Vec::new());
        workload.load(&mut |id, row| {
            encode(&id, &mut key).and_then(|()| encode(&row, &mut value)).expect("it is encoded");
            rows.insert(key.clone(), value.clone());
        });
        Ok(Watched { rows: Mutex::new(rows), is_large: AtomicBool::new(false) })
    }

    fn commit<'a>(
        &self,
        group: impl Iterator<Item = &'a W::Transaction>,
        desk: &mut Desk<W>,
        answers: &mut Vec<Settled<W>>,
    ) -> Result<(), Fault> {
        let mut rows = self.lend(Access::Write);
        for transaction in group {
            if desk.only_reads(transaction) {
                return Err("one that only reads came to the writer".into());
            }
            answers.push(desk.run(transaction, &mut rows)?);
        }
        if answers.len() > GROUP_MAX {
            return Err(format!("a group of {}", answers.len()).into());
        }
        self.is_large.fetch_or(answers.len() == GROUP_MAX, Ordering::Relaxed);
        // The clients catch up: what waits next is all there can be.
        drop(rows);
        sleep(Duration::from_millis(5));
        Ok(())
    }

    fn read(&self, transaction: &W::Transaction, desk: &mut Desk<W>) -> Result<Settled<W>, Fault> {
        desk.run(transaction, &mut self.lend(Access::Read))
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        if !self.is_large.load(Ordering::Relaxed) {
            return Err("no group was as large as it may be".into());
        }
        let rows = self.rows.lock().expect("a lock");
        rows.iter().try_for_each(|(key, value)| show::<W>(key, value, see))
    }
}

#[test]
fn groups_are_of_those_that_write_and_no_larger_than_they_may() {
    let _alone = alone();
    let mut trial = trial("watched", Durability::None, "".as_ref());
    trial.cell.load = Load::Closed { in_flight: 2 * GROUP_MAX };
    let answer = in_time(trial, |trial| guarded(|| groups::measure::<Counters, Watched>(&COUNTERS, trial)));
    check("watched", &measured("watched", answer));
}

#[test]
fn a_workload_that_only_reads_ends_with_group_commit_too() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let reads = Ycsb { mix: Mix::C, records: 2_000, skew: Skew::Uniform };
    for engine in ["fjall-grouped", "redb-grouped"] {
        let closed = trial(engine, Durability::None, directory.path());
        check(engine, &measured(engine, in_time(closed, |trial| measure(&reads, trial))));
        let repetition = measured(engine, measure(&reads, &open(engine, directory.path())));
        check(engine, &repetition);
        assert_eq!(repetition.aborted, 0, "{engine}");
    }
}
