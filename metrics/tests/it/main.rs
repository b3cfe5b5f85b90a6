//! The package as a program uses it: real runtimes, real requests, and the documents and rules
//! beside the code.

mod alerts;
mod counts;
mod gates;
mod logs;
mod names;
mod pages;
mod sends;
mod slow;

#[path = "../../../tests/support/forgetful.rs"]
mod forgetful;
#[path = "../../../tests/support/mounts.rs"]
mod mounts;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Handle, LogConfig, Objects, PlacementKey, Runtime,
    Shards,
};
use serde::{Deserialize, Serialize};

/// Objects that hold a number.
struct Counter;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Add(u64),
    AddBoth(u64, u64),
    /// Is refused, always.
    Refuse(u64),
    Break(u64),
    /// Does not come back before the test lets go of [`HOLD`].
    Hold(u64),
    /// Changes the others, too, and does not declare them.
    Reach(u64, Vec<u64>),
    /// Tells to add to the other.
    Tell(u64, u64),
    /// Tells to add to itself after so many milliseconds.
    TellAfter(u64, u64),
    /// Tells to do what takes [`LONG_TURN`], so much later.
    TellLong(u64),
    Long(u64),
    /// Has an action performed.
    Act(u64),
    Action,
}

/// Longer than a turn may be without being called slow.
const LONG_TURN: Duration = Duration::from_millis(30);

/// Tests that hold shards up take this: one at a time, as a message cannot carry a lock.
static HOLD: Mutex<()> = Mutex::new(());

impl Actor for Counter {
    const MESSAGE_NAMES: &'static [&'static str] = &["Add", "AddBoth", "Refuse", "Hold"];

    fn message_index(message: &Message) -> usize {
        match message {
            Message::Add(_) => 0,
            Message::AddBoth(..) => 1,
            Message::Refuse(_) => 2,
            Message::Hold(_) => 3,
            // The others are not counted apart.
            _ => usize::MAX,
        }
    }

    type Id = u64;
    type State = u64;
    type Message = Message;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Add(id) | Message::Refuse(id) | Message::Break(id) | Message::Hold(id) => to.write(*id),
            Message::Reach(id, _) | Message::Tell(id, _) | Message::TellAfter(id, _) => to.write(*id),
            Message::TellLong(id) | Message::Long(id) | Message::Act(id) => to.write(*id),
            Message::Action => {}
            Message::AddBoth(one, other) => [one, other].into_iter().for_each(|id| to.write(*id)),
        }
    }

    fn is_action(message: &Message) -> bool {
        matches!(message, Message::Action)
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        let mut add = |id: u64| {
            let number = objects.get_or_insert_with(id, || 0)?;
            *number += 1;
            Ok(*number)
        };
        match message {
            Message::Add(id) => add(*id),
            Message::AddBoth(one, other) => add(*one).and_then(|_| add(*other)),
            Message::Refuse(id) => Err(AccessError::Absent { id: *id }),
            Message::Break(_) => panic!("broken on purpose"),
            Message::Hold(id) => {
                drop(HOLD.lock().unwrap_or_else(PoisonError::into_inner));
                add(*id)
            }
            Message::Reach(id, others) => {
                others.iter().try_for_each(|other| add(*other).map(drop))?;
                add(*id)
            }
            Message::Tell(id, other) => {
                add(*id)?;
                objects.tell(Message::Add(*other)).map(|()| 0)
            }
            Message::TellAfter(id, milliseconds) => {
                add(*id)?;
                objects.tell_after(Duration::from_millis(*milliseconds), Message::Add(*id)).map(|_| 0)
            }
            Message::TellLong(id) => {
                add(*id)?;
                objects.tell_after(LONG_TURN, Message::Long(*id)).map(|_| 0)
            }
            Message::Long(id) => {
                std::thread::sleep(LONG_TURN);
                add(*id)
            }
            Message::Act(_) => objects.perform(Message::Action).map(|_| 0),
            Message::Action => Ok(0),
        }
    }
}

/// From here on a message is slow. So long that a shard on a busy machine begins with a message
/// before that: with 20 ms one that held its shard up had been noticed in the queue, now and then.
const SLOW: Duration = Duration::from_millis(200);

fn config(shards: usize) -> Config {
    Config {
        shards: Shards::Count(shards),
        placement_key: Some(PlacementKey(16)),
        slow_message: SLOW,
        ..Config::default()
    }
}

/// Not a test: a disk in a process of its own.
#[test]
#[ignore = "it is a disk, for other tests"]
fn a_disk() {
    forgetful::Served::serve();
}

/// A runtime of two shards with a log, which goes with the directory.
fn open() -> (Runtime<Counter>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("there is a place for a log");
    let log = LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory.path().join("log")) };
    (Runtime::open(config(2), log).expect("it starts on this machine"), directory)
}

/// Of each shard, ids that live there.
fn ids<const EACH: usize>(handle: &Handle<Counter>) -> [[u64; EACH]; 2] {
    let on = |shard| {
        let mut ids = (1..).filter(|id| handle.home(id).index() == shard);
        std::array::from_fn(|_| ids.next().expect("ids do not end"))
    };
    [on(0), on(1)]
}

fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    request(addr, &format!("GET {path} HTTP/1.1\r\nHost: freehold\r\n\r\n"))
}

/// The status and the text that come back for this.
fn request(addr: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a text");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {head}")), text.to_owned())
}

/// The numbers of a page, each by its name and labels.
struct Numbers(BTreeMap<String, f64>);

impl Numbers {
    fn of(text: &str) -> Numbers {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let number = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no number: {line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        };
        Numbers(lines.map(number).collect())
    }

    fn scraped(addr: SocketAddr) -> Numbers {
        let (status, text) = get(addr, "/metrics");
        assert_eq!(status, 200, "{text}");
        Numbers::of(&text)
    }

    /// The sum of a name's numbers that have this label.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let is_it = |key: &&String| key.split('{').next() == Some(name) && key.contains(label);
        self.0.keys().filter(is_it).map(|key| self.0[key]).sum()
    }
}

/// Scrapes until it is so.
fn until(addr: SocketAddr, what: &str, is_so: impl Fn(&Numbers) -> bool) -> Numbers {
    let mut patience = support::patience::Patience::of(Duration::from_secs(30));
    loop {
        let numbers = Numbers::scraped(addr);
        if is_so(&numbers) {
            return numbers;
        }
        assert!(!patience.is_over(), "never: {what}: {:#?}", numbers.0);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_refused(outcome: &freehold::Outcome<Counter>) -> bool {
    matches!(outcome, Err(AskError::Aborted(_)))
}
