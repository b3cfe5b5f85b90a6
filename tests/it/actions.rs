//! Actions are performed outside, in any of three places, and their outcomes come back as messages:
//! once each, whatever becomes of the runtime between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::support::{Watchdog, hush, until};
use freehold::{
    AccessError, Action, ActionId, ActionOf, AskError, Config, Embedding, Limits, LogConfig, Objects, Phase,
    Receive, Runtime, Shards, To, owed,
};
use serde::{Deserialize, Serialize};

freehold::actor! {
    actor Shop {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { Order(number: u64) }
        messages { Place -> ActionId, Ship -> (), Shipped -> u32, Look -> Order }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    action: Option<ActionId>,
    shipped: u32,
}

/// Places an order, and has it shipped.
#[derive(Serialize, Deserialize)]
struct Place(u64);

/// The action.
#[derive(Serialize, Deserialize)]
struct Ship(u64);

/// Its outcome.
#[derive(Serialize, Deserialize)]
struct Shipped(u64);

#[derive(Serialize, Deserialize)]
struct Look(u64);

/// An outcome that no message can be made of.
struct Garbled;

impl From<Garbled> for Message {
    fn from(_: Garbled) -> Self {
        panic!("on purpose")
    }
}

impl Receive<Shop> for Place {
    fn addressees(&self, to: &mut To<'_, Shop>) {
        to.write::<Order>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<ActionId, AccessError<Id>> {
        let action = objects.perform(Ship(self.0))?;
        objects.put(self.0, Order { action: Some(action), shipped: 0 })?;
        Ok(action)
    }
}

impl ActionOf<Shop> for Ship {}

impl Receive<Shop> for Shipped {
    fn addressees(&self, to: &mut To<'_, Shop>) {
        to.write::<Order>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<u32, AccessError<Id>> {
        let order = objects.write_or_insert_with(self.0, Order::default)?;
        order.shipped += 1;
        Ok(order.shipped)
    }
}

impl Receive<Shop> for Look {
    fn addressees(&self, to: &mut To<'_, Shop>) {
        to.read::<Order>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<Order, AccessError<Id>> {
        Ok(objects.read::<Order>(self.0)?.copied().unwrap_or_default())
    }
}

fn order(action: &Action<Shop>) -> u64 {
    let Message::Ship(Ship(order)) = action.message() else { panic!("it is no action") };
    *order
}

fn config(shards: usize) -> Config {
    Config { shards: Shards::Count(shards), ..Config::default() }
}

fn open(shards: usize, directory: &Path, embedding: Embedding<Shop>) -> Runtime<Shop> {
    Runtime::open_with(config(shards), LogConfig::at(directory), embedding).expect("it opens")
}

fn shipped(runtime: &Runtime<Shop>, order: u64) -> u32 {
    runtime.handle().call(Look(order)).wait().expect("it runs").shipped
}

/// How many are performed at once, and how many were at most.
#[derive(Default)]
struct AtOnce {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl AtOnce {
    fn begin(&self) {
        self.most.fetch_max(1 + self.now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
    }

    fn end(&self, action: Action<Shop>) {
        self.now.fetch_sub(1, Ordering::SeqCst);
        let order = order(&action);
        action.done(Shipped(order));
    }
}

#[test]
fn actions_are_performed_on_tokio_on_threads_and_on_shards() {
    let _watchdog = Watchdog::new("actions::actions_are_performed");
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
    let tokio = tokio.expect("it starts");
    let directory = tempfile::tempdir().expect("there is room");
    for (way, is_logged) in (0..3).flat_map(|way| [(way, false), (way, true)]) {
        let at_once = Arc::new(AtOnce::default());
        let (spawner, counts) = (tokio.handle().clone(), at_once.clone());
        let embedding = Embedding::new();
        let embedding = match way {
            0 => embedding.perform_with(move |action| {
                let counts = counts.clone();
                spawner.spawn(async move {
                    counts.begin();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    counts.end(action);
                });
            }),
            1 => embedding.perform_on_threads(3, move |action| {
                counts.begin();
                counts.end(action);
            }),
            _ => embedding.perform_on_shards(move |action| {
                let counts = counts.clone();
                async move {
                    counts.begin();
                    glommio::timer::sleep(Duration::from_millis(1)).await;
                    counts.end(action);
                }
            }),
        };
        let config = Config { actions_max: 4, ..config(2) };
        let log = LogConfig::at(directory.path().join(way.to_string()));
        let runtime = match is_logged {
            false => Runtime::start_with(config, embedding),
            true => Runtime::open_with(config, log, embedding),
        };
        let runtime = runtime.expect("it starts");
        let placed = runtime.handle().call_all((0..100).map(Place)).wait();
        let ids: BTreeMap<_, _> = placed.into_iter().map(|placed| (placed.expect("it runs"), ())).collect();
        assert_eq!(ids.len(), 100, "each has a number of its own");
        until(|| (0..100).all(|order| shipped(&runtime, order) == 1));
        let report = runtime.shutdown();
        assert_eq!((report.drained, report.actions_unfinished), (true, 0), "{report}");
        let (most, max) = (at_once.most.load(Ordering::SeqCst), if way == 1 { 3 } else { 8 });
        assert!((1..=max).contains(&most), "{most} at once");
    }
}

/// Nobody ends an action in the first life; the next ends each once, under the same number.
#[test]
fn an_action_that_did_not_end_is_performed_by_the_next_run_under_the_same_id() {
    let _watchdog = Watchdog::new("actions::an_action_that_did_not_end");
    let directory = tempfile::tempdir().expect("there is room");
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    let embedding =
        Embedding::new().perform_with(move |action| keep.lock().expect("nobody panics with it").push(action));
    let config = Config { actions_max: 3, drain_max: Duration::from_millis(1), ..config(2) };
    let log = LogConfig::at(directory.path());
    let runtime = Runtime::open_with(config, log, embedding).expect("it opens");
    let first: Vec<_> = (0..20).map(|order| runtime.handle().call(Place(order)).wait()).collect();
    until(|| kept.lock().expect("nobody panics with it").len() == 6);
    let report = runtime.shutdown();
    assert_eq!((report.drained, report.actions_unfinished), (false, 20), "{report}");
    // Too late: the shards have left.
    kept.lock().expect("nobody panics with it").drain(..).for_each(|action| action.done(Shipped(99)));
    assert_eq!(owed::list(directory.path()).expect("it can be read").len(), 20);

    // Without anybody to perform them they wait.
    let runtime = open(3, directory.path(), Embedding::new());
    let refused = runtime.handle().call(Place(20)).wait();
    assert_eq!(refused, Err(AskError::Aborted(AccessError::NoPerformer)));
    assert_eq!(runtime.shutdown().actions_unfinished, 20);

    let (send, performed) = mpsc::channel();
    let embedding = Embedding::new().perform_on_threads(2, move |action| {
        let order = order(&action);
        send.send((order, action.id())).expect("the test waits");
        action.done(Shipped(order));
    });
    let runtime = open(1, directory.path(), embedding);
    let mut again: Vec<_> = (0..20).map(|_| performed.recv().expect("it is performed")).collect();
    again.sort_unstable();
    let first: Vec<_> = (0..).zip(first).map(|(order, placed)| (order, placed.expect("it ran"))).collect();
    assert_eq!(again, first);
    until(|| (0..20).all(|order| shipped(&runtime, order) == 1));
    assert_eq!(shipped(&runtime, 99), 0);
    runtime.shutdown();
    assert_eq!(owed::list(directory.path()).expect("it can be read"), []);
}

#[test]
fn an_action_that_is_dropped_is_performed_once_more() {
    let _watchdog = Watchdog::new("actions::an_action_that_is_dropped");
    hush();
    let tries = Arc::new(AtomicUsize::new(0));
    let counts = tries.clone();
    let embedding = Embedding::new().perform_on_shards(move |action| {
        let nth = counts.fetch_add(1, Ordering::SeqCst);
        async move {
            let order = order(&action);
            match nth {
                0 => panic!("on purpose"),
                // It was lost for this run, and kept its place among those under way for ever.
                1 => action.done(Garbled),
                _ => action.done(Shipped(order)),
            }
        }
    });
    let runtime = Runtime::start_with(config(1), embedding).expect("it starts");
    runtime.handle().call(Place(7)).wait().expect("it runs");
    until(|| shipped(&runtime, 7) == 1);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert!(runtime.shutdown().drained);
}

#[test]
fn a_message_is_refused_while_too_many_actions_are_owed() {
    let _watchdog = Watchdog::new("actions::a_message_is_refused");
    let (send, begun) = mpsc::channel();
    let embedding = Embedding::new().perform_with(move |action| send.send(action).expect("the test waits"));
    let limits = Limits { actions_owed_max: 2, ..Limits::default() };
    let config = Config { limits, actions_max: 1, ..config(1) };
    let runtime = Runtime::start_with(config, embedding).expect("it starts");
    let bank = runtime.handle();
    let actions = || {
        let gauges = &bank.stats().shards[0].gauges;
        (gauges.actions_waiting, gauges.actions_under_way)
    };
    let placed: Vec<_> = (0..3).map(|order| bank.call(Place(order)).wait().err()).collect();
    assert_eq!(placed, [None, None, Some(AskError::Aborted(AccessError::NoRoom { waiting: 2 }))]);
    assert_eq!(bank.call(Look(2)).wait(), Ok(Order::default()), "nothing of it is left");
    // One is performed, and there is room.
    let action: Action<Shop> = begun.recv().expect("one has begun");
    assert!(begun.try_recv().is_err(), "one at once");
    until(|| actions() == (1, 1));
    let order = order(&action);
    action.done(Shipped(order));
    until(|| bank.call(Place(2)).wait().is_ok());
    begun.iter().take(2).for_each(|action| action.done(Shipped(0)));
    until(|| actions() == (0, 0));
    assert!(runtime.shutdown().drained);
    // An action is not for objects.
    assert_eq!(bank.call(Ship(7)).wait(), Err(AskError::Stopped));
}

#[test]
fn a_runtime_that_stops_waits_for_what_is_performed() {
    let _watchdog = Watchdog::new("actions::a_runtime_that_stops");
    let (send, begun) = mpsc::channel();
    let embedding = Embedding::new().perform_with(move |action| send.send(action).expect("the test waits"));
    let runtime = Runtime::start_with(config(2), embedding).expect("it starts");
    let shop = runtime.handle();
    shop.call(Place(7)).wait().expect("it runs");
    let action = begun.recv().expect("it is performed");
    let stops = std::thread::spawn(|| runtime.shutdown());
    until(|| shop.stats().phase != Phase::Running);
    // It would have left long before.
    std::thread::sleep(Duration::from_millis(50));
    action.done(Shipped(7));
    let report = stops.join().expect("it stops");
    assert_eq!((report.drained, report.actions_unfinished, report.stats.handled()), (true, 0, 2), "{report}");
}

#[test]
fn an_action_is_for_the_program_and_a_message_for_objects() {
    let _watchdog = Watchdog::new("actions::an_action_is_for_the_program");
    let embedding = Embedding::new().perform_with(|action| action.done(Ship(1)));
    let (send, heard) = mpsc::channel();
    let embedding = embedding.on_failed(move |failure| {
        let _ = send.send((failure.message, failure.error.clone()));
    });
    let runtime = Runtime::start_with(config(1), embedding).expect("it starts");
    let shop = runtime.handle();
    assert_eq!(shop.call(Ship(7)).wait(), Err(AskError::Unaddressed));
    // An outcome that is no message to objects ends the action, and the program hears of it.
    shop.call(Place(7)).wait().expect("it runs");
    assert_eq!(heard.recv(), Ok(("Ship", AskError::Unaddressed)));
    assert!(runtime.shutdown().drained);
}
