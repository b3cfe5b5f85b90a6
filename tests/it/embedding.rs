//! A timer that is taken back is gone from memory and from the log, in the run that set it and in a
//! later one with another number of shards. And a runtime uses what it was started with: messages
//! find the context, and the hook hears of those that fail and that nobody waits for.

use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::support::{Watchdog, until};
use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Embedding, LogConfig, Objects, Runtime, Shards,
    TimerId, owed,
};
use serde::{Deserialize, Serialize};

/// Orders that expire.
struct Orders;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    /// Places two orders that expire together, after as long as the context says.
    Place(u64, u64),
    Expire(u64),
    /// Fills an order, so that neither expires.
    Fill(u64),
    IsOpen(u64),
    /// Tells a message that fails, at once and in a moment.
    Doom(u64),
    Fail(u64),
}

struct Lifetime(Duration);

impl Actor for Orders {
    type Id = u64;
    type State = Option<TimerId>;
    type Message = Message;
    type Reply = bool;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Place(one, other) => {
                to.write(one);
                to.write(other);
            }
            Message::Expire(id) | Message::Fill(id) | Message::Doom(id) | Message::Fail(id) => to.write(id),
            Message::IsOpen(id) => to.read(id),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<bool, AccessError<u64>> {
        match *message {
            Message::Place(one, other) => {
                let lifetime = objects.context::<Lifetime>()?.0;
                let timer = objects.tell_after(lifetime, Message::Expire(one))?;
                objects.insert(one, Some(timer))?;
                objects.insert(other, Some(timer))?;
                Ok(true)
            }
            Message::Expire(id) => Ok(objects.remove(id)?.is_some()),
            Message::Fill(id) => {
                let timer = objects.get_mut(id)?.and_then(Option::take);
                timer.map(|timer| objects.cancel(timer)).transpose()?;
                Ok(timer.is_some())
            }
            Message::IsOpen(id) => objects.contains(id),
            Message::Doom(id) => {
                objects.tell(Message::Fail(id + 1))?;
                objects.tell_after(Duration::from_millis(1), Message::Fail(id + 2))?;
                Ok(true)
            }
            // It does not exist.
            Message::Fail(id) => objects.share(id).map(|()| true),
        }
    }
}

fn open(shards: usize, directory: &Path, lifetime: Duration) -> Runtime<Orders> {
    let config = Config { shards: Shards::Count(shards), ..Config::default() };
    let embedding = Embedding::new().context(Lifetime(lifetime));
    Runtime::open_with(config, LogConfig::at(directory), embedding).expect("it opens")
}

fn timers(runtime: &Runtime<Orders>) -> u64 {
    runtime.stats().shards.iter().map(|shard| shard.activity.timers_waiting).sum()
}

#[test]
fn a_timer_that_is_taken_back_is_gone_from_memory_and_from_the_log() {
    let _watchdog = Watchdog::new("embedding::a_timer_that_is_taken_back");
    let directory = tempfile::tempdir().expect("there is room");
    let fill = |runtime: &Runtime<Orders>, id| {
        assert_eq!(runtime.handle().ask(Message::Fill(id)).wait(), Ok(true), "order {id}");
    };
    let runtime = open(3, directory.path(), Duration::from_secs(3600));
    for id in 0..30 {
        assert_eq!(runtime.handle().ask(Message::Place(id, 1000 + id)).wait(), Ok(true));
    }
    until(|| timers(&runtime) == 30);
    // From the shard of one object and of the other, so also from one that does not keep the timer.
    (0..10).for_each(|id| fill(&runtime, id));
    (10..20).for_each(|id| fill(&runtime, 1000 + id));
    until(|| timers(&runtime) == 10);
    runtime.shutdown();
    assert_eq!(owed::list(directory.path()).expect("it can be read").len(), 10);

    let runtime = open(2, directory.path(), Duration::ZERO);
    // A shard says what it has after its first round.
    until(|| timers(&runtime) == 10);
    (20..25).for_each(|id| fill(&runtime, id));
    runtime.checkpoint().expect("there is room");
    (25..30).for_each(|id| fill(&runtime, 1000 + id));
    until(|| timers(&runtime) == 0);
    // With another context: at once.
    assert_eq!(runtime.handle().ask(Message::Place(50, 51)).wait(), Ok(true));
    until(|| runtime.handle().ask(Message::IsOpen(50)).wait() == Ok(false));
    let all_are_open = (0..30).all(|id| runtime.handle().ask(Message::IsOpen(id)).wait() == Ok(true));
    assert!(all_are_open, "none has expired");
    runtime.shutdown();
    assert_eq!(owed::list(directory.path()).expect("it can be read"), []);
}

#[test]
fn the_program_hears_of_messages_that_fail_and_that_nobody_waits_for() {
    let _watchdog = Watchdog::new("embedding::the_program_hears_of_messages_that_fail");
    let directory = tempfile::tempdir().expect("there is room");
    for log in [None, Some(LogConfig::at(directory.path()))] {
        let (send, heard) = mpsc::channel();
        let send = Mutex::new(send);
        let embedding = Embedding::<Orders>::new().on_failed(move |failure| {
            let send = send.lock().expect("nobody panics with it");
            send.send((failure.message, failure.error.clone())).expect("the test waits");
        });
        let config = Config { shards: Shards::Count(2), ..Config::default() };
        let runtime = match log {
            None => Runtime::start_with(config, embedding),
            Some(log) => Runtime::open_with(config, log, embedding),
        };
        let runtime = runtime.expect("it starts");
        let handle = runtime.handle();
        // One who waits hears of it, and nobody else.
        let absent = |id| AskError::Aborted(AccessError::Absent { id });
        assert_eq!(handle.ask(Message::Fail(7)).wait(), Err(absent(7)));
        assert_eq!(handle.ask(Message::Doom(10)).wait(), Ok(true));
        handle.tell(Message::Fail(13)).expect("there is room");
        let mut failures: Vec<_> = (0..3).map(|_| heard.recv().expect("it is heard")).collect();
        failures.sort_by_key(|(_, error)| error.to_string());
        let expected = [11, 12, 13].map(|id| (std::any::type_name::<Message>(), absent(id)));
        assert_eq!(failures, expected);
        runtime.shutdown();
        assert!(heard.try_recv().is_err(), "that was all");
    }
}
