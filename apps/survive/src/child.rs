//! The process that is killed: it opens the log, says what it found, and pays until it is killed.
//! Nobody stops it otherwise.
//!
//! What it says, line by line, in this order:
//! ```text
//! recovered RECORDS OWED MICROSECONDS
//! account ID BALANCE PAID,PAID,.. GOT,GOT,..   each account, when nothing is owed; `-` is no list
//! running                                      from here on it pays, or stops if told so
//! ack NUMBER NEXT                              acknowledged; NEXT and later are sent after it
//! checkpoint                                   one was made
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold::{Ack, Ask, AskAll, Config, Handle, Idle, LogConfig, Outcome, Runtime, Shards};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

use crate::arguments::{Child, ToldAck};
use crate::ledger::{Account, LIFE_BITS, Ledger, Order, Payment};

/// Small, so that a life fills many: a batch of the log has to fit.
const SEGMENT_BYTES: usize = 128 << 10;
const CHECKPOINT_BYTES: u64 = 512 << 10;
/// In some lives checkpoints are asked for, so long after each other.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(7);
/// What is owed arrives in less.
const ARRIVED_AFTER: Duration = Duration::from_secs(10);
/// Payments that are sent together, and by themselves, and not answered.
const BATCH_MAX: u64 = 64;
const BATCHES_MAX: usize = 3;
const SINGLES_MAX: usize = 16;

type Error = Box<dyn std::error::Error>;

pub fn live(told: &Child) -> Result<(), Error> {
    let config =
        Config { shards: Shards::Count(told.shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() };
    let log = LogConfig {
        ack: if told.ack == ToldAck::Durable && !told.pretend { Ack::Durable } else { Ack::Applied },
        segment_bytes: SEGMENT_BYTES,
        checkpoint_bytes: CHECKPOINT_BYTES,
        ..LogConfig::at(&told.data)
    };
    let runtime = Runtime::<Ledger>::open(config, log)?;
    let recovery = runtime.recovery().ok_or("the runtime has no log")?;
    say(&format!("recovered {} {} {}\n", recovery.records, recovery.owed, recovery.took.as_micros()));
    let handle = runtime.handle();
    tell_of(&arrived(&handle)?);
    if told.stops {
        say("running\n");
        runtime.shutdown();
        return Ok(());
    }
    let clients = Clients { told, handle, next: AtomicU64::new(told.life << LIFE_BITS) };
    say("running\n");
    std::thread::scope(|scope| {
        scope.spawn(|| clients.pay_together());
        scope.spawn(|| clients.pay_singly());
        while told.life.is_multiple_of(2) {
            std::thread::sleep(CHECKPOINT_EVERY);
            match runtime.checkpoint() {
                Ok(_) => say("checkpoint\n"),
                Err(error) => fail(&format!("no checkpoint: {error}")),
            }
        }
    });
    Ok(())
}

/// All accounts, when everything that was paid has arrived, or should have.
fn arrived(handle: &Handle<Ledger>) -> Result<BTreeMap<u64, Account>, Error> {
    let begun = Instant::now();
    loop {
        let all = handle.snapshot().wait()?.fold(
            BTreeMap::new,
            |all, id, account| {
                all.insert(id, account.clone());
            },
            |mut all, more| {
                all.extend(more);
                all
            },
        );
        let all = all.wait()?;
        let numbers = |of: fn(&Account) -> &Vec<u64>| -> Vec<u64> {
            let mut numbers: Vec<u64> = all.values().flat_map(of).copied().collect();
            numbers.sort_unstable();
            numbers
        };
        // Of those that were checked some accounts may have let go and others not: that they
        // arrived was seen.
        let (paid, got) = (numbers(|account| &account.paid), numbers(|account| &account.got));
        let latest = |numbers: &[u64]| numbers.last().map(|number| number >> LIFE_BITS);
        let last = latest(&paid).max(latest(&got)).unwrap_or(0) << LIFE_BITS;
        let of_last =
            |numbers: &[u64]| numbers.iter().copied().filter(|number| *number >= last).collect::<Vec<_>>();
        if of_last(&paid) == of_last(&got) || begun.elapsed() > ARRIVED_AFTER {
            return Ok(all);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn tell_of(accounts: &BTreeMap<u64, Account>) {
    let mut text = String::new();
    let list = |numbers: &[u64]| match numbers {
        [] => "-".to_string(),
        _ => numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(","),
    };
    for (id, Account { balance, paid, got }) in accounts {
        let _ = writeln!(text, "account {id} {balance} {} {}", list(paid), list(got));
    }
    say(&text);
}

struct Clients<'a> {
    told: &'a Child,
    handle: Handle<Ledger>,
    /// The next payment.
    next: AtomicU64,
}

impl Clients<'_> {
    fn payment(&self) -> Payment {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        Payment::numbered(self.told.seed, number, self.told.accounts, self.told.checked)
    }

    /// In batches of any size, some in flight.
    fn pay_together(&self) {
        let mut random = Pcg64::seed_from_u64(self.told.seed ^ self.told.life);
        let mut flying: VecDeque<(Vec<u64>, AskAll<Ledger>)> = VecDeque::new();
        loop {
            if flying.len() == BATCHES_MAX
                && let Some((numbers, outcomes)) = flying.pop_front()
            {
                self.acknowledge(numbers.into_iter().zip(outcomes.wait()));
            }
            let size = 1 + random.next_u64() % BATCH_MAX;
            let payments: Vec<Payment> = (0..size).map(|_| self.payment()).collect();
            let numbers = payments.iter().map(|payment| payment.number).collect();
            flying.push_back((numbers, self.handle.ask_all(payments.into_iter().map(Order::Pay))));
        }
    }

    /// One by one, some in flight.
    fn pay_singly(&self) {
        let mut flying: VecDeque<(u64, Ask<Ledger>)> = VecDeque::new();
        loop {
            if flying.len() == SINGLES_MAX
                && let Some((number, outcome)) = flying.pop_front()
            {
                self.acknowledge([(number, outcome.wait())]);
            }
            let payment = self.payment();
            flying.push_back((payment.number, self.handle.ask(Order::Pay(payment))));
        }
    }

    fn acknowledge(&self, outcomes: impl IntoIterator<Item = (u64, Outcome<Ledger>)>) {
        let next = self.next.load(Ordering::SeqCst);
        let mut text = String::new();
        for (number, outcome) in outcomes {
            match outcome {
                Ok(()) => {
                    let _ = writeln!(text, "ack {number} {next}");
                }
                Err(error) => fail(&format!("payment {}: {error}", crate::check::as_text(number))),
            }
        }
        say(&text);
    }
}

/// Says it at once. Who hears nothing any more has been told enough.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

fn fail(what: &str) -> ! {
    eprintln!("survive: {what}");
    std::process::exit(2)
}
