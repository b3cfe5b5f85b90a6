//! How long does a message take to another shard and back, and to a shard from another thread and
//! back? How many a second go through, by the size of a batch? What does an idle runtime cost?
//!
//! ```text
//! cargo bench --bench mailbox                   everything
//! cargo bench --bench mailbox -- idle           one part: hops, batches or idle
//! ```
//! *Hops*: one message at a time. Its reply is the time at which it was handled, so that the way
//! there is measured by itself; both shards (or the thread and the shard) read the same monotonic
//! clock. *Spinning*: whoever waits looks all the time. *Parked*: nothing happens between two
//! messages, so that everyone has to be woken. Beside them, in the same run: two threads that spin
//! on two `rtrb` rings (what the lanes are made of: the limit), and two threads over
//! `std::sync::mpsc` (what a program without a runtime would use).
//!
//! *Batches*: from another thread, `ask_all` with several batches under way; from a task on one
//! shard to another, so many `ask`s at once and then all their replies. Every reply is read, and in
//! the end the totals of all objects must add up to the messages sent.
//!
//! *Idle*: the CPU time of this process over two seconds in which nothing happens, beside that of
//! the process without a runtime.

mod workload;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use freehold::{
    AccessError, Actor, Addressees, Config, Idle, Local, LocalAsk, Objects, Runtime, ShardIndex, Shards,
    glommio,
};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use workload::report::{Conditions, Quantiles, Spread, millions_per_second, times};
use workload::{Asked, Counter, Draws, Message, SEED, Tally, add_in_batches, id_of, rings, totals};

/// Long enough that nobody who is measured as spinning parks.
const SPIN: Duration = Duration::from_millis(500);
/// Long enough that everybody who is measured as parked has parked.
const PAUSE: Duration = Duration::from_micros(300);
const BATCHES: [u64; 7] = [1, 4, 16, 64, 256, 1024, 4096];
const OBJECTS: u64 = 10_000;

fn main() {
    let Some(asked) = Asked::of_arguments() else { return };
    let size = if workload::is_a_test() { Size::TEST } else { Size::BENCH };
    println!("{}\nsettings    seed {SEED:#x}, shards on CPUs of their own\n", Conditions::now());
    if asked.has("hops") {
        hops(size);
    }
    if asked.has("batches") {
        batches(size);
    }
    if asked.has("idle") {
        idle(size);
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    hops: usize,
    parked_hops: usize,
    messages: u64,
    batches_max: u64,
    rounds: u64,
    idle: Duration,
}

impl Size {
    const BENCH: Size = Size {
        hops: 200_000,
        parked_hops: 2_000,
        messages: 1_000_000,
        batches_max: 50_000,
        rounds: 5,
        idle: Duration::from_secs(2),
    };
    const TEST: Size = Size {
        hops: 20,
        parked_hops: 5,
        messages: 500,
        batches_max: 500,
        rounds: 1,
        idle: Duration::from_millis(50),
    };

    /// How many batches of a size make a round; of small ones fewer messages, for they take longer.
    fn batches(self, batch: u64) -> u64 {
        self.messages.div_ceil(batch).min(self.batches_max)
    }
}

/// The actor of the hops: says when it was asked. A real actor reads no clock, for it may be run
/// again; this one is here for just that.
struct Post;

/// The state is the number of messages before, and so is the reply, with the time.
impl Actor for Post {
    type Id = u64;
    type State = u64;
    type Message = u64;
    type Reply = (u64, Instant);
    type Error = AccessError<u64>;

    fn addressees(&id: &u64, to: &mut Addressees<u64>) {
        to.write(id);
    }

    fn receive(&id: &u64, objects: &mut Objects<'_, Self>) -> Result<(u64, Instant), AccessError<u64>> {
        let handled = Instant::now();
        let messages = objects.get_or_insert_with(id, || 0)?;
        *messages += 1;
        Ok((*messages - 1, handled))
    }
}

/// What one message after another took.
struct Hops {
    there: Histogram<u64>,
    there_and_back: Histogram<u64>,
    messages: u64,
}

impl Hops {
    fn new() -> Self {
        Hops { there: times(), there_and_back: times(), messages: 0 }
    }

    /// A message was sent then, and handled as the reply says.
    fn record<E: std::fmt::Debug>(&mut self, sent: Instant, reply: Result<(u64, Instant), E>) {
        let back = Instant::now();
        let (before, handled) = reply.expect("every message is handled");
        assert_eq!(before, self.messages, "each message is handled once, in order");
        self.messages += 1;
        self.there.saturating_record((handled - sent).as_nanos() as u64);
        self.there_and_back.saturating_record((back - sent).as_nanos() as u64);
    }

    fn print(&self, name: &str) {
        println!("{:<44}{}", format!("{name}, there"), Quantiles(&self.there));
        println!("{:<44}{}", format!("{name}, and back"), Quantiles(&self.there_and_back));
    }
}

fn hops(size: Size) {
    println!("one message at a time                       {}", Quantiles::HEAD);
    hops_between_threads_by_rings(size.hops).print("two threads, rtrb, spinning");
    hops_between_threads_by_mpsc(size.parked_hops).print("two threads, mpsc, parked");
    hops_between_shards(size.hops, Idle::Spin(SPIN)).print("shard to shard, spinning");
    hops_between_shards(size.parked_hops, Idle::Spin(Duration::ZERO)).print("shard to shard, parked");
    hops_from_a_thread(size.hops, Idle::Spin(SPIN)).print("thread to shard, spinning");
    hops_from_a_thread(size.parked_hops, Idle::Spin(Duration::ZERO)).print("thread to shard, parked");
    println!();
}

fn start<A: Actor>(shards: usize, idle: Idle) -> Runtime<A> {
    Runtime::start(Config { shards: Shards::Count(shards), idle, ..Config::default() })
        .unwrap_or_else(|error| panic!("{error}"))
}

fn hops_between_shards(messages: usize, idle: Idle) -> Hops {
    let pauses = idle == Idle::Spin(Duration::ZERO);
    let runtime = start::<Post>(2, idle);
    let task = move |local: Local<Post>| async move {
        if local.shard() != ShardIndex(0) {
            return None;
        }
        let id = (0..).map(id_of).find(|id| local.home(id) == ShardIndex(1)).expect("both shards have ids");
        let mut hops = Hops::new();
        for _ in 0..messages {
            if pauses {
                glommio::timer::sleep(PAUSE).await;
            }
            let sent = Instant::now();
            let reply = local.ask(id).await;
            hops.record(sent, reply);
        }
        Some(hops)
    };
    let hops = runtime.on_each_shard(task).wait().swap_remove(0).expect("the task does not panic");
    runtime.shutdown();
    hops.expect("the first shard has the task")
}

fn hops_from_a_thread(messages: usize, idle: Idle) -> Hops {
    let runtime = start::<Post>(1, idle);
    let handle = runtime.handle();
    let mut hops = Hops::new();
    for _ in 0..messages {
        if idle == Idle::Spin(Duration::ZERO) {
            std::thread::sleep(PAUSE);
        }
        let sent = Instant::now();
        let reply = handle.ask(7).wait();
        hops.record(sent, reply);
    }
    runtime.shutdown();
    hops
}

fn hops_between_threads_by_rings(messages: usize) -> Hops {
    let mut hops = Hops::new();
    rings::round_trips(messages as u64, |sent, reply| hops.record(sent, Ok::<_, ()>(reply)));
    hops
}

fn hops_between_threads_by_mpsc(messages: usize) -> Hops {
    let (to, asked) = mpsc::channel();
    let (answer, back) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for message in asked {
                // Nobody who asks leaves before the answer.
                let _ = answer.send((message, Instant::now()));
            }
        });
        let mut hops = Hops::new();
        for message in 0..messages as u64 {
            std::thread::sleep(PAUSE);
            let sent = Instant::now();
            to.send(message).expect("the thread is there");
            hops.record(sent, back.recv());
        }
        drop(to);
        hops
    })
}

/// What batches of one size came to.
struct Batches {
    /// Millions of messages a second, round by round.
    rates: Vec<f64>,
    times: Histogram<u64>,
}

impl Batches {
    fn new() -> Self {
        Batches { rates: Vec::new(), times: times() }
    }

    fn print(&self, name: &str, batch: u64) {
        let rate = Spread::of(self.rates.iter().copied()).to_string();
        println!("{name:<16}{batch:>5} {rate:<35} {}", Quantiles(&self.times));
    }
}

fn batches(size: Size) {
    println!("                batch million messages a second           time of a batch, there and back");
    println!("                         median   (lowest to highest)     {}", Quantiles::HEAD);
    let runtime = start::<Counter>(1, Idle::Spin(SPIN));
    open_all(&runtime);
    let mut sent = 0;
    for batch in BATCHES {
        let (measured, messages) = batches_from_a_thread(&runtime, size, batch);
        measured.print("thread to shard", batch);
        sent += messages;
    }
    check(runtime, sent);
    let runtime = start::<Counter>(2, Idle::Spin(SPIN));
    open_all(&runtime);
    let mut sent = 0;
    for batch in BATCHES {
        let (measured, messages) = batches_between_shards(&runtime, size, batch);
        measured.print("shard to shard", batch);
        sent += messages;
    }
    check(runtime, sent);
    println!();
}

fn batches_from_a_thread(runtime: &Runtime<Counter>, size: Size, batch: u64) -> (Batches, u64) {
    let (handle, mut draws) = (runtime.handle(), Draws::new(OBJECTS, batch));
    let (mut measured, batches) = (Batches::new(), size.batches(batch));
    for _ in 0..size.rounds {
        let begun = Instant::now();
        let tally = add_in_batches(&handle, &mut draws, batch, batches, |asked| {
            measured.times.saturating_record(asked.elapsed().as_nanos() as u64);
        });
        measured.rates.push(millions_per_second(batches * batch, begun.elapsed()));
        assert_eq!(tally.refused, 0, "nothing is refused");
    }
    (measured, size.rounds * batches * batch)
}

fn batches_between_shards(runtime: &Runtime<Counter>, size: Size, batch: u64) -> (Batches, u64) {
    let batches = size.batches(batch);
    let task = move |local: Local<Counter>| async move {
        let is_there = |id: &u64| local.home(id) != local.shard();
        let ids: Vec<u64> = (0..OBJECTS).map(id_of).filter(is_there).collect();
        let mut draws = Draws::new(ids.len() as u64, batch);
        let mut measured = Batches::new();
        let mut asks: Vec<LocalAsk<Counter>> = Vec::with_capacity(batch as usize);
        if local.shard() != ShardIndex(0) {
            return measured;
        }
        for _ in 0..size.rounds {
            let (mut tally, begun) = (Tally::default(), Instant::now());
            for _ in 0..batches {
                let asked = Instant::now();
                let add = |_| local.ask(Message::Add { id: ids[draws.next_object() as usize], amount: 1 });
                asks.extend((0..batch).map(add));
                for ask in asks.drain(..) {
                    tally.add(ask.await);
                }
                measured.times.saturating_record(asked.elapsed().as_nanos() as u64);
            }
            measured.rates.push(millions_per_second(batches * batch, begun.elapsed()));
            assert_eq!(tally.refused, 0, "nothing is refused");
        }
        measured
    };
    let measured = runtime.on_each_shard(task).wait().swap_remove(0).expect("the task does not panic");
    (measured, size.rounds * batches * batch)
}

fn open_all(runtime: &Runtime<Counter>) {
    let opened =
        runtime.handle().ask_all((0..OBJECTS).map(|object| Message::Open { id: id_of(object) })).wait();
    assert!(opened.iter().all(Result::is_ok), "every object is opened");
}

fn check(runtime: Runtime<Counter>, sent: u64) {
    assert_eq!(
        totals(&runtime.handle(), OBJECTS),
        Tally { checksum: sent, refused: 0 },
        "each message is applied once"
    );
    let report = runtime.shutdown();
    assert!(report.drained, "{report}");
    println!("verified        {sent} messages applied");
}

fn idle(size: Size) {
    let without = cpu_share(size.idle);
    let runtime = start::<Counter>(2, Config::default().idle);
    open_all(&runtime);
    // Far beyond the time it spins.
    std::thread::sleep(Duration::from_millis(50));
    let parks = || runtime.stats().shards.iter().map(|shard| shard.activity.parks).sum::<u64>();
    let parked = parks();
    let with = cpu_share(size.idle);
    let woken = parks() - parked;
    runtime.shutdown();
    println!("CPU time of an idle process, percent of one CPU, over {:?}", size.idle);
    println!("without a runtime        {without:>8.3} %");
    println!("with one of 2 shards     {with:>8.3} %   (its shards woke and parked again {woken} times)");
}

/// The CPU time of this process in a while, in percent of one CPU.
fn cpu_share(duration: Duration) -> f64 {
    let used =
        || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("CPU time is not negative");
    let (begun, before) = (Instant::now(), used());
    std::thread::sleep(duration);
    (used() - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0
}
