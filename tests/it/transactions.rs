//! Transactions on real shards: money moves between them from every side at once and none is made
//! or lost, however many shards share the cores, and whenever the runtime stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use freehold::{AccessError, Actor, Addressees, AskError, Config, Handle, Objects, Runtime, Shards};

const ACCOUNTS: u64 = 64;
const OPENING: i64 = 1_000;

/// Accounts: what is on each, and how many payments went out of it.
struct Bank;

#[derive(Clone, Copy, Debug)]
enum Message {
    Open(u64),
    Pay(u64, u64, i64),
    Read(u64),
}

impl Actor for Bank {
    type Id = u64;
    type State = (i64, u64);
    type Message = Message;
    type Reply = (i64, u64);
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Open(id) => to.write(id),
            Message::Pay(from, into, _) => {
                to.write(from);
                to.write(into);
            }
            Message::Read(id) => to.read(id),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<(i64, u64), AccessError<u64>> {
        match *message {
            Message::Open(id) => objects.get_or_insert_with(id, || (OPENING, 0)).copied(),
            Message::Pay(from, into, amount) => {
                let (from, into) = objects.get_pair_mut(from, into)?;
                let (from, into) = (from.expect("it was opened"), into.expect("it was opened"));
                *from = (from.0 - amount, from.1 + 1);
                into.0 += amount;
                Ok(*from)
            }
            Message::Read(id) => Ok(objects.get(id)?.copied().unwrap_or_default()),
        }
    }
}

/// Payments that a seed decides.
struct Payments(u64);

impl Iterator for Payments {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (from, to) = ((self.0 >> 33) % ACCOUNTS, (self.0 >> 43) % ACCOUNTS);
        Some(Message::Pay(
            from,
            if from == to { (to + 1) % ACCOUNTS } else { to },
            (self.0 >> 53) as i64 % 100,
        ))
    }
}

fn open(shards: usize) -> (Runtime<Bank>, Handle<Bank>) {
    let config = Config { shards: Shards::Count(shards), ..Config::default() };
    let runtime = Runtime::start(config).expect("the machine can run us: see the doctor");
    let handle = runtime.handle();
    let opened = handle.ask_all((0..ACCOUNTS).map(Message::Open)).wait();
    assert!(opened.iter().all(Result::is_ok));
    (runtime, handle)
}

/// The money there is, and the payments made.
fn books(handle: &Handle<Bank>) -> (i64, u64) {
    let read = handle.ask_all((0..ACCOUNTS).map(Message::Read)).wait();
    read.into_iter()
        .map(|account| account.expect("reading succeeds"))
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Pays from threads, one by one and in batches, and from tasks on every shard. Returns how many
/// payments were answered as made.
fn pay(runtime: &Runtime<Bank>, rounds: u64) -> u64 {
    let made = Arc::new(AtomicU64::new(0));
    let count = |made: &AtomicU64, outcome: Result<(i64, u64), AskError<AccessError<u64>>>| {
        outcome.unwrap_or_else(|error| panic!("a payment ended with {error}"));
        made.fetch_add(1, Ordering::Relaxed);
    };
    let on_shards = runtime.on_each_shard({
        let made = made.clone();
        move |local| {
            let made = made.clone();
            async move {
                let payments = Payments(u64::from(local.shard().0) + 77).take(rounds as usize);
                for payment in payments {
                    count(&made, local.ask(payment).await);
                }
            }
        }
    });
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (handle, made) = (runtime.handle(), made.clone());
            scope.spawn(move || {
                let mut payments = Payments(thread);
                for round in 0..rounds / 10 {
                    if round % 2 == 0 {
                        let outcomes = handle.ask_all(payments.by_ref().take(40)).wait();
                        outcomes.into_iter().for_each(|outcome| count(&made, outcome));
                    } else {
                        let asked: Vec<_> =
                            payments.by_ref().take(10).map(|payment| handle.ask(payment)).collect();
                        asked.into_iter().for_each(|ask| count(&made, ask.wait()));
                    }
                }
            });
        }
    });
    assert!(on_shards.wait().iter().all(Result::is_ok));
    made.load(Ordering::Relaxed)
}

#[test]
fn no_money_is_made_or_lost() {
    let _watchdog = crate::support::Watchdog::new("no_money_is_made_or_lost");
    for shards in [2, 8] {
        let (runtime, handle) = open(shards);
        let made = pay(&runtime, 2_000);
        assert_eq!(books(&handle), (ACCOUNTS as i64 * OPENING, made), "{shards} shards");
        let counters: Vec<_> = handle.stats().shards.iter().map(|shard| shard.counters).collect();
        let consensus: u64 = counters.iter().map(|counters| counters.consensus).sum();
        assert!(consensus > made / 4, "most payments cross shards: {consensus} of {made}");
        let report = runtime.shutdown();
        assert!(report.drained && report.deaths.is_empty(), "{report}");
    }
}

// Whatever was answered as made was made, and nothing else was, though the runtime stops in the
// middle.
#[test]
fn stopping_in_the_middle_tells_the_truth() {
    let _watchdog = crate::support::Watchdog::new("stopping_in_the_middle_tells_the_truth");
    for shards in [2, 8] {
        let (runtime, handle) = open(shards);
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let (handle, stop, made) = (handle.clone(), stop.clone(), made.clone());
                std::thread::spawn(move || {
                    let mut payments = Payments(1_000 + thread);
                    while !stop.load(Ordering::Relaxed) {
                        for outcome in handle.ask_all(payments.by_ref().take(64)).wait() {
                            match outcome {
                                Ok(_) => {
                                    made.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(AskError::Stopped) => stop.store(true, Ordering::Relaxed),
                                Err(error) => panic!("a payment ended with {error}"),
                            }
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        let report = runtime.shutdown();
        threads.into_iter().for_each(|thread| thread.join().expect("every payment had a true answer"));
        assert!(report.drained && report.deaths.is_empty(), "{report}");
        let applied: u64 =
            report.stats.shards.iter().map(|shard| shard.counters.fast + shard.counters.consensus).sum();
        // The accounts were opened by messages of their own.
        assert_eq!(applied, made.load(Ordering::Relaxed) + ACCOUNTS, "{report}");
    }
}
