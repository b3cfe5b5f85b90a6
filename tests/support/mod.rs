//! What the tests of whole runtimes share: a watchdog, an actor that keeps
//! count, and the ids to address it by.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod held;
pub mod patience;
pub mod skip;

use std::io::Write;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use patience::{LOOK_EVERY, Patience};

use freehold::{AccessError, Actor, Addressees, Config, Handle, Objects, PlacementKey, Runtime, Shards};

/// How long a test may go without a sign of life, by the time that it had the CPUs it could use.
const PATIENCE: Duration = Duration::from_secs(30);

/// Aborts the process when a test hangs: it lives as long as the test, and is fed by one that runs
/// for long.
pub struct Watchdog {
    food: mpsc::Sender<()>,
}

impl Watchdog {
    pub fn new(test: &'static str) -> Self {
        Watchdog::with_patience(test, PATIENCE)
    }

    /// For a test that cannot feed it often enough.
    pub fn with_patience(test: &'static str, time: Duration) -> Self {
        let (food, eaten) = mpsc::channel();
        std::thread::spawn(move || {
            let mut patience = Patience::of(time);
            loop {
                match eaten.recv_timeout(LOOK_EVERY) {
                    Ok(()) => patience = Patience::of(time),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) if patience.is_over() => hangs(test, time),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                }
            }
        });
        Watchdog { food }
    }

    /// A sign of life.
    pub fn feed(&self) {
        self.food.send(()).expect("a watchdog lives until it is dropped");
    }
}

fn hangs(test: &str, time: Duration) -> ! {
    // Not by `eprintln`, which a test's harness would keep to itself.
    let _ = writeln!(std::io::stderr(), "\n{test}: no sign of life for {time:?}, it hangs");
    std::process::abort()
}

/// Keeps panics out of the output that say they are on purpose.
pub fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|message| message.contains("on purpose")) {
                loud(info);
            }
        }));
    });
}

/// Waits until it is so. That it ever is, the test's watchdog sees to.
pub fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How often something ran, counted by `receive` itself: readable when no runtime is left to ask.
/// (An actor of an application has no business doing that: what it does must go through its
/// objects.)
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<AtomicU64>);

impl Tally {
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn counted(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Objects that hold a number.
pub struct Counter;

#[derive(Clone, Debug)]
pub enum Message {
    /// Adds to the number; the reply is what it is then.
    Add { to: u64, by: u64 },
    /// Adds one to two numbers; the reply is what the first is then.
    AddBoth { to: [u64; 2] },
    /// Adds one to three numbers; the reply is what the first is then.
    AddAll { to: [u64; 3] },
    /// Adds one and is counted.
    Count { to: u64, ran: Tally },
    /// The same, after keeping the shard's core busy.
    Toil { to: u64, toil: Duration, ran: Tally },
    /// What the number is.
    Read { of: u64 },
    /// Adds one, tells itself to add more, and panics.
    Break { to: u64 },
    /// Adds one to the number of its first object and goes on to the next, so many times; each is
    /// counted.
    Hop { along: Arc<[u64]>, at: usize, hops: u64, ran: Tally },
    /// Adds one and tells another object to count, so many times.
    Fan { from: u64, to: u64, copies: u64, ran: Tally },
    /// Adds one and has another object count in a while.
    Later { from: u64, to: u64, after: Duration, ran: Tally },
    /// Goes on for ever: an object that tells itself.
    Forever { at: u64 },
}

impl Actor for Counter {
    type Id = u64;
    type State = u64;
    type Message = Message;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Read { of } => to.read(*of),
            Message::Add { to: id, .. }
            | Message::Count { to: id, .. }
            | Message::Toil { to: id, .. }
            | Message::Break { to: id }
            | Message::Fan { from: id, .. }
            | Message::Later { from: id, .. }
            | Message::Forever { at: id } => to.write(*id),
            Message::AddBoth { to: both } => both.iter().for_each(|id| to.write(*id)),
            Message::AddAll { to: all } => all.iter().for_each(|id| to.write(*id)),
            Message::Hop { along, at, .. } => to.write(along[*at]),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        let mut add = |id: u64, by: u64| {
            let number = objects.get_or_insert_with(id, || 0)?;
            *number += by;
            Ok(*number)
        };
        match message {
            Message::Read { of } => Ok(objects.get(*of)?.copied().unwrap_or(0)),
            Message::Add { to, by } => add(*to, *by),
            Message::AddBoth { to: [one, other] } => {
                add(*other, 1)?;
                add(*one, 1)
            }
            Message::AddAll { to: [one, others @ ..] } => {
                for other in others {
                    add(*other, 1)?;
                }
                add(*one, 1)
            }
            Message::Count { to, ran } => {
                ran.count();
                add(*to, 1)
            }
            Message::Toil { to, toil, ran } => {
                let begin = Instant::now();
                while begin.elapsed() < *toil {
                    std::hint::spin_loop();
                }
                ran.count();
                add(*to, 1)
            }
            Message::Break { to } => {
                add(*to, 1)?;
                objects.tell(Message::Add { to: *to, by: 1000 })?;
                panic!("broken on purpose")
            }
            Message::Hop { along, at, hops, ran } => {
                let number = add(along[*at], 1)?;
                if *hops > 0 {
                    let at = (at + 1) % along.len();
                    objects.tell(Message::Hop {
                        along: along.clone(),
                        at,
                        hops: hops - 1,
                        ran: ran.clone(),
                    })?;
                }
                ran.count();
                Ok(number)
            }
            Message::Fan { from, to, copies, ran } => {
                let number = add(*from, 1)?;
                for _ in 0..*copies {
                    objects.tell(Message::Count { to: *to, ran: ran.clone() })?;
                }
                Ok(number)
            }
            Message::Later { from, to, after, ran } => {
                let number = add(*from, 1)?;
                objects.tell_after(*after, Message::Count { to: *to, ran: ran.clone() })?;
                Ok(number)
            }
            Message::Forever { at } => {
                let number = add(*at, 1)?;
                objects.tell(Message::Forever { at: *at })?;
                Ok(number)
            }
        }
    }
}

/// A runtime of so many shards whose ids have the same homes every time.
pub fn start<A: Actor>(shards: usize, config: Config) -> Runtime<A> {
    let config =
        Config { shards: Shards::Count(shards), placement_key: Some(PlacementKey(0xF2EE)), ..config };
    Runtime::start(config)
        .expect("a runtime starts on this machine; if not, `cargo run -p freehold-cli -- doctor` says why")
}

/// Of each shard in turn, the first `each` ids that live there.
pub fn ids<A: Actor<Id = u64>>(handle: &Handle<A>, each: usize) -> Vec<Vec<u64>> {
    let on = |shard| (1..).filter(|id| handle.home(id).index() == shard).take(each).collect();
    (0..handle.shards()).map(on).collect()
}
