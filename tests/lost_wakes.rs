//! No wake is lost: shards that park at once are woken by lanes, threads, tasks, timers and freed
//! room, for as long as you like.
//!
//! Each test is a *relay* in which little is under way, so that one lost wake ends it, and the
//! watchdog then ends the process. Together they take 10 seconds, or `FREEHOLD_SOAK_SECONDS`. What
//! they did is printed: `cargo test --release --test lost_wakes -- --nocapture`.
//!
//! The other way round, in a *crowd* as much is under way as may be, and sums tell what was lost or
//! done twice. It takes a second, or `FREEHOLD_SOAK_SECONDS`, on two shards, or
//! `FREEHOLD_SOAK_SHARDS`: `cargo test --release --test lost_wakes -- --nocapture crowd`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold::{
    AccessError, Actor, Addressees, Config, Counters, Handle, Idle, Local, Objects, Runtime, ShardIndex,
    glommio,
};
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};
use support::{Counter, Message, Tally, Watchdog, ids, start, until};

const RELAYS: u64 = 8;

fn number(variable: &str) -> Option<u64> {
    let parse = |value: String| value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}"));
    std::env::var(variable).ok().map(parse)
}

struct Relay {
    name: &'static str,
    watchdog: Watchdog,
    ends: Instant,
    rounds: AtomicU64,
}

impl Relay {
    fn new(name: &'static str) -> Arc<Self> {
        // The harness runs two at a time on two cores.
        let seconds = number("FREEHOLD_SOAK_SECONDS").unwrap_or(10);
        Relay::lasting(name, Duration::from_secs(2 * seconds) / RELAYS as u32)
    }

    fn lasting(name: &'static str, time: Duration) -> Arc<Self> {
        let (watchdog, ends) = (Watchdog::new(name), Instant::now() + time);
        Arc::new(Relay { name, watchdog, ends, rounds: AtomicU64::new(0) })
    }

    /// Another round was gone. Says whether to go another.
    fn goes_on(&self) -> bool {
        if self.rounds.fetch_add(1, Ordering::Relaxed).is_multiple_of(64) {
            self.watchdog.feed();
        }
        Instant::now() < self.ends
    }

    /// Stops the runtime; there must have been so many parks in a hundred rounds, for else nothing
    /// was tried.
    fn finish<A: Actor>(&self, runtime: Runtime<A>, parks_per_hundred: u64) {
        let report = runtime.shutdown();
        assert!(report.drained, "{report}");
        let rounds = self.rounds.load(Ordering::Relaxed);
        let parks: u64 = report.stats.shards.iter().map(|shard| shard.activity.parks).sum();
        let rings: u64 = report.stats.shards.iter().map(|shard| shard.rings).sum();
        println!("{}: {rounds} rounds, {parks} parks, {rings} rings", self.name);
        assert!(parks * 100 >= rounds * parks_per_hundred && parks > 100, "{parks} parks in {rounds} rounds");
    }
}

/// Two shards that park as soon as they run dry.
fn parking(config: Config) -> (Runtime<Counter>, Handle<Counter>, Vec<u64>) {
    let runtime = start::<Counter>(2, Config { idle: Idle::Spin(Duration::ZERO), ..config });
    let handle = runtime.handle();
    let ids = ids(&handle, 1).concat();
    (runtime, handle, ids)
}

/// Pauses of any length: none, less than a wake takes, and more.
#[derive(Clone)]
struct Pauses(Pcg32);

impl Pauses {
    fn new(seed: u64) -> Self {
        Pauses(Pcg32::seed_from_u64(seed))
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.0.next_u32() % bound
    }

    /// A time that moves what one side does across what the other does.
    fn next(&mut self) -> Duration {
        match self.below(4) {
            0 => Duration::ZERO,
            1..=2 => Duration::from_nanos(u64::from(self.below(20_000))),
            _ => Duration::from_nanos(u64::from(self.below(150_000))),
        }
    }

    fn pause(&mut self) {
        let (begin, pause) = (Instant::now(), self.next());
        while begin.elapsed() < pause {
            std::hint::spin_loop();
        }
    }
}

// On a shard that has or had tasks of users the pump looks up every few milliseconds (see
// `src/core/stall_timer.rs`), so that a lane's wake that got lost would pass for a slow round here.
// What this relay is for are the wakes of the tasks; lanes have two of their own.
#[test]
fn a_task_asks_the_other_shard() {
    let relay = Relay::new("a task asks the other shard");
    let (runtime, _, ids) = parking(Config::default());
    let there = relay.clone();
    let tasks = runtime.on_each_shard(move |local| {
        let (relay, ids) = (there.clone(), ids.clone());
        async move {
            if local.shard() == ShardIndex(1) {
                return;
            }
            let (mut pauses, ran) = (Pauses::new(1), Tally::default());
            while relay.goes_on() {
                let toil = pauses.next() / 4;
                local.ask(Message::Toil { to: ids[1], toil, ran: ran.clone() }).await.unwrap();
            }
        }
    });
    assert_eq!(tasks.wait(), [Ok(()), Ok(())]);
    relay.finish(runtime, 50);
}

/// Finds the pause after which a shard that had work is just about to park, and stays around it:
/// where a wake can be lost.
#[derive(Clone)]
struct Brink {
    pauses: Pauses,
    pause_ns: u32,
}

impl Brink {
    /// Longer than waking the other side takes, so that the asking side does not park meanwhile.
    const SPIN: Duration = Duration::from_micros(300);
    /// A round trip that took longer has had to wake the other side.
    const WAKES: Duration = Duration::from_micros(30);
    const STEP_NS: u32 = 200;

    fn new(seed: u64) -> Self {
        Brink { pauses: Pauses::new(seed), pause_ns: 300_000 }
    }

    /// To be called when the other side has just answered.
    fn pause(&mut self) {
        let jitter = self.pauses.below(10 * Self::STEP_NS);
        let (begin, pause) = (Instant::now(), Duration::from_nanos(u64::from(self.pause_ns + jitter)));
        while begin.elapsed() < pause {
            std::hint::spin_loop();
        }
    }

    /// The round trip after that took so long.
    fn learn(&mut self, took: Duration) {
        self.pause_ns = match took > Self::WAKES {
            true => self.pause_ns.saturating_sub(Self::STEP_NS),
            false => (self.pause_ns + Self::STEP_NS).min(1_000_000),
        };
    }
}

/// Objects that throw a ball to and fro; the first waits a little with each throw.
struct Player;

#[derive(Clone)]
struct Ball {
    players: [u64; 2],
    /// Who has it.
    at: usize,
    thrown: Instant,
    brink: Brink,
    relay: Arc<Relay>,
    is_over: Tally,
}

impl Actor for Player {
    type Id = u64;
    type State = ();
    type Message = Ball;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(ball: &Ball, to: &mut Addressees<u64>) {
        to.write(ball.players[ball.at]);
    }

    fn receive(ball: &Ball, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        let mut ball = ball.clone();
        if ball.at == 0 {
            ball.brink.learn(ball.thrown.elapsed());
            if !ball.relay.goes_on() {
                ball.is_over.count();
                return Ok(());
            }
            ball.brink.pause();
            ball.thrown = Instant::now();
        }
        ball.at = 1 - ball.at;
        objects.tell(ball)
    }
}

#[test]
fn a_shard_sends_to_one_that_is_about_to_park() {
    let relay = Relay::new("a shard sends to one that is about to park");
    let runtime = start::<Player>(2, Config { idle: Idle::Spin(Brink::SPIN), ..Config::default() });
    let handle = runtime.handle();
    let players = ids(&handle, 1).concat().try_into().expect("two shards");
    let (thrown, brink, is_over) = (Instant::now(), Brink::new(13), Tally::default());
    handle
        .tell(Ball { players, at: 0, thrown, brink, relay: relay.clone(), is_over: is_over.clone() })
        .unwrap();
    until(|| is_over.counted() == 1);
    relay.finish(runtime, 5);
}

#[test]
fn a_thread_asks_a_shard_that_is_about_to_park() {
    let relay = Relay::new("a thread asks a shard that is about to park");
    let runtime = start::<Counter>(1, Config { idle: Idle::Spin(Brink::SPIN), ..Config::default() });
    let handle = runtime.handle();
    let mut brink = Brink::new(14);
    while relay.goes_on() {
        brink.pause();
        let begin = Instant::now();
        handle.ask(Message::Add { to: 1, by: 1 }).wait().unwrap();
        brink.learn(begin.elapsed());
    }
    relay.finish(runtime, 5);
}

#[test]
fn a_message_hops_from_shard_to_shard() {
    let relay = Relay::new("a message hops from shard to shard");
    let (runtime, handle, ids) = parking(Config::default());
    let (along, ran, mut pauses) = (Arc::from(ids), Tally::default(), Pauses::new(2));
    loop {
        let hops = u64::from(pauses.below(100));
        let before = ran.counted();
        handle.tell(Message::Hop { along: Arc::clone(&along), at: 0, hops, ran: ran.clone() }).unwrap();
        until(|| ran.counted() == before + 1 + hops);
        if !(0..=hops).all(|_| relay.goes_on()) {
            break;
        }
    }
    relay.finish(runtime, 50);
}

#[test]
fn threads_ask_with_pauses() {
    let relay = Relay::new("threads ask with pauses");
    let (runtime, handle, ids) = parking(Config::default());
    let ask = |seed: u64| {
        let mut pauses = Pauses::new(seed);
        while relay.goes_on() {
            let at = pauses.below(2) as usize;
            let add = |at: usize| Message::Add { to: ids[at], by: 1 };
            match pauses.below(4) {
                0 => assert!(futures::executor::block_on(handle.ask(add(at))).is_ok()),
                1 => {
                    assert!(handle.ask_all([add(at), add(1 - at), add(at)]).wait().iter().all(Result::is_ok))
                }
                2 => {
                    handle.tell(add(at)).unwrap();
                    handle.ask(add(at)).wait().unwrap();
                }
                _ => assert!(handle.ask(add(at)).wait().is_ok()),
            }
            pauses.pause();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| ask(3));
        ask(4);
    });
    relay.finish(runtime, 25);
}

#[test]
fn tasks_ask_through_a_handle() {
    let relay = Relay::new("tasks ask through a handle");
    let (runtime, _, ids) = parking(Config::default());
    let there = relay.clone();
    let tasks = runtime.on_each_shard(move |local| {
        let (relay, ids) = (there.clone(), ids.clone());
        async move {
            let other = ids[1 - local.shard().index()];
            let ask_on_and_on = |seed| {
                let (relay, handle, mut pauses) = (relay.clone(), local.handle(), Pauses::new(seed));
                async move {
                    while relay.goes_on() {
                        handle.ask(Message::Add { to: other, by: 1 }).await.unwrap();
                        if pauses.below(8) == 0 {
                            let add = |_| Message::Add { to: other, by: 1 };
                            assert!(handle.ask_all((0..3).map(add)).await.iter().all(Result::is_ok));
                        }
                    }
                }
            };
            // Two tasks wait on shard 0 and one on shard 1, all for the other shard.
            if local.shard() == ShardIndex(0) {
                futures::join!(ask_on_and_on(5), ask_on_and_on(6));
            } else {
                ask_on_and_on(7).await;
            }
        }
    });
    assert_eq!(tasks.wait(), [Ok(()), Ok(())]);
    relay.finish(runtime, 5);
}

#[test]
fn senders_wait_for_room() {
    let relay = Relay::new("senders wait for room");
    let narrow =
        Config { ingress_entries_max: 16, batch_messages_max: 1, lane_entries_max: 16, ..Config::default() };
    let (runtime, handle, ids) = parking(narrow);
    let ask = |seed: u64| {
        let mut pauses = Pauses::new(seed);
        while relay.goes_on() {
            let many = 1 + pauses.below(100) as usize;
            let outcomes = handle.ask_all((0..many).map(|at| Message::Add { to: ids[at % 2], by: 1 })).wait();
            assert!(outcomes.iter().all(Result::is_ok));
            pauses.pause();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| ask(8));
        ask(9);
    });
    relay.finish(runtime, 10);
}

#[test]
fn timers_and_tasks_end_a_park_now_and_then() {
    let relay = Relay::new("timers and tasks end a park now and then");
    let (runtime, handle, ids) = parking(Config::default());
    let there = (relay.clone(), ids.clone());
    let tasks = runtime.on_each_shard(move |local| {
        let (relay, ids) = there.clone();
        async move {
            let here = ids[local.shard().index()];
            let mut pauses = Pauses::new(10 + u64::from(local.shard().0));
            while relay.goes_on() {
                glommio::timer::sleep(pauses.next() + Duration::from_micros(20)).await;
                add_here(&local, here);
            }
        }
    });
    let (ran, mut later, mut pauses) = (Tally::default(), 0, Pauses::new(12));
    while relay.goes_on() {
        let at = pauses.below(2) as usize;
        let after = pauses.next() * 4;
        handle
            .ask(Message::Later { from: ids[at], to: ids[1 - at], after, ran: ran.clone() })
            .wait()
            .unwrap();
        later += 1;
        if pauses.below(4) == 0 {
            until(|| ran.counted() == later);
        }
        pauses.pause();
    }
    until(|| ran.counted() == later);
    assert_eq!(tasks.wait(), [Ok(()), Ok(())]);
    relay.finish(runtime, 8);
}

fn add_here(local: &Local<Counter>, id: u64) {
    local.ask_now(&Message::Add { to: id, by: 1 }).unwrap();
}

/// Which objects the relays of a crowd are drawn from: so few that transactions meet.
const CROWD: usize = 24;

/// How many messages a task has under way at once.
const AT_ONCE: u32 = 48;

/// Everything that may span, mixed: pairs that begin at either home, pairs at one hot object, three
/// objects, one. What each message adds is kept beside, and every sum is exact in the end.
/// `FREEHOLD_SOAK_SHARDS` says of how many shards; it is two.
#[test]
fn a_crowd_of_pairs_and_others_adds_up() {
    let time = Duration::from_secs(number("FREEHOLD_SOAK_SECONDS").unwrap_or(1));
    let relay = Relay::lasting("a crowd of pairs and others adds up", time);
    let shards = number("FREEHOLD_SOAK_SHARDS").unwrap_or(2) as usize;
    let runtime = start::<Counter>(shards, Config::default());
    let handle = runtime.handle();
    let all = ids(&handle, CROWD).concat();
    let added: Arc<[AtomicU64]> = all.iter().map(|_| AtomicU64::new(0)).collect();
    let there = (relay.clone(), all.clone(), added.clone());
    let tasks = runtime.on_each_shard(move |local| {
        let (relay, ids, added) = there.clone();
        async move {
            let mut draws = Pauses::new(20 + u64::from(local.shard().0));
            let here = local.shard().index();
            while relay.goes_on() {
                let asks = (0..AT_ONCE).map(|_| local.ask(one_of_a_crowd(&mut draws, here, &ids, &added)));
                let outcomes = futures::future::join_all(asks).await;
                assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
            }
        }
    });
    let mut draws = Pauses::new(19);
    while relay.goes_on() {
        let messages: Vec<_> =
            (0..AT_ONCE).map(|at| one_of_a_crowd(&mut draws, at as usize % shards, &all, &added)).collect();
        assert!(handle.ask_all(messages).wait().iter().all(Result::is_ok));
    }
    assert!(tasks.wait().iter().all(Result::is_ok));
    for (id, added) in all.iter().zip(added.iter()) {
        let found = handle.ask(Message::Read { of: *id }).wait().unwrap();
        assert_eq!(found, added.load(Ordering::Relaxed), "what was added to {id}");
    }
    let report = runtime.shutdown();
    assert!(report.drained, "{report}");
    let sum = |count: fn(&Counters) -> u64| -> u64 {
        report.stats.shards.iter().map(|shard| count(&shard.counters)).sum()
    };
    let (pairs, consensus, blocked) =
        (sum(|all| all.pairs), sum(|all| all.consensus), sum(|all| all.blocked));
    println!(
        "{}: {} rounds on {shards} shards, {} fast, {consensus} transactions, {pairs} of them pairs, {blocked} met a lock",
        relay.name,
        relay.rounds.load(Ordering::Relaxed),
        sum(|all| all.fast),
    );
    assert!(shards == 1 || pairs > 0 && consensus > pairs, "{pairs} pairs of {consensus}");
}

/// A message for a task or thread that has the objects of shard `here` at hand. What it adds is
/// counted.
fn one_of_a_crowd(draws: &mut Pauses, here: usize, ids: &[u64], added: &[AtomicU64]) -> Message {
    let mut any = || draws.below(ids.len() as u32) as usize;
    let (hot, mine) = (here * CROWD, here * CROWD + any() % CROWD);
    // All different: those after the first are the ones behind it, if they are the same.
    let (mut one, mut another) = (any(), any());
    while one == mine || one == hot {
        one = (one + 1) % ids.len();
    }
    while another == mine || another == one {
        another = (another + 1) % ids.len();
    }
    let add = |places: &[usize], by| {
        for place in places {
            added[*place].fetch_add(by, Ordering::Relaxed);
        }
    };
    let both = |places: [usize; 2]| Message::AddBoth { to: places.map(|place| ids[place]) };
    match draws.below(10) {
        0..=1 => {
            add(&[mine], 3);
            Message::Add { to: ids[mine], by: 3 }
        }
        2..=5 => {
            add(&[mine, one], 1);
            both([mine, one])
        }
        6 => {
            add(&[one, mine], 1);
            both([one, mine])
        }
        7 => {
            add(&[hot, one], 1);
            both([hot, one])
        }
        _ => {
            add(&[mine, one, another], 1);
            Message::AddAll { to: [mine, one, another].map(|place| ids[place]) }
        }
    }
}
