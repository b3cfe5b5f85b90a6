//! What clients see over takeovers is strictly serializable: a client asks two nodes, each a
//! process of its own, while owners are killed, stopped and continued, or replaced while they live.
//! `adya`, a checker of transactional isolation, judges what it was answered. Objects are lists: a
//! read shows every append before it, in order.
//!
//! The client writes a request down before it sends it, and an answer when it has it. So the judge
//! knows the order in real time, over all nodes. What a node that ended left unanswered may have
//! happened, at any time. In the end every list is read, so that an append that was lost is missed.
//!
//! Three takeovers, one of each kind, or `FREEHOLD_TAKEOVERS=100 cargo test -p freehold-replica
//! --test nodes histories::`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use adya::{History, Opts, Valid, Workload};
use freehold::{AccessError, Actor, Addressees, AskError, Objects, Outcome};
use freehold_replica::{ReplicaConfig, Replicated};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::servers::{Servers, config, send};
use super::support::Watchdog;
use super::{LONG, open_of};

/// In the environment of a process that is to be a node: its directory, its name and the servers.
const NODE: &str = "FREEHOLD_TEST_NODE_OF_LISTS";
/// So many lists are in use at a time,
const LISTS: u64 = 3;
/// and one of them gives way to a new one after so many messages, so that lists stay short.
const MESSAGES_PER_LIST: u64 = 30;
/// The most steps of a message.
const STEPS_MAX: u64 = 3;
/// How many messages a node has under way at once.
const UNDER_WAY_MAX: usize = 4;

/// Objects that are lists.
struct Scrolls;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Stroke {
    Read(u64),
    /// Appends to a list an element that no other step appends.
    Append(u64, u64),
}

impl Actor for Scrolls {
    type Id = u64;
    type State = Vec<u64>;
    type Message = Vec<Stroke>;
    /// What each `Read` saw.
    type Reply = Vec<Vec<u64>>;
    type Error = AccessError<u64>;

    fn addressees(message: &Vec<Stroke>, to: &mut Addressees<u64>) {
        for step in message {
            match *step {
                Stroke::Append(list, _) => to.write(list),
                Stroke::Read(list) => to.read(list),
            }
        }
    }

    fn receive(
        message: &Vec<Stroke>,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Vec<Vec<u64>>, AccessError<u64>> {
        let mut seen = Vec::new();
        for step in message {
            match *step {
                Stroke::Read(list) => seen.push(objects.get(list)?.cloned().unwrap_or_default()),
                Stroke::Append(list, element) => objects.get_or_insert_with(list, Vec::new)?.push(element),
            }
        }
        Ok(seen)
    }
}

/// Not a test: the life of a node in a process of its own. It does what it is told, says what came
/// of it, and says what its role is.
#[test]
fn a_node_of_lists() {
    let Ok(told) = std::env::var(NODE) else { return };
    let mut told = told.split(' ').map(str::to_string);
    let (directory, name) = (told.next().expect("where"), told.next().expect("who"));
    let urls: Vec<String> = told.collect();
    let takeover_after = Some(Duration::from_millis(400));
    let replica = ReplicaConfig { takeover_after, ..config(&urls, &name) };
    let node: Replicated<Scrolls> = open_of(Path::new(&directory), replica).expect("it joins");
    let (asks, asked) = mpsc::channel::<(String, freehold::Ask<Scrolls>)>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut role = node.role();
            loop {
                println!("\nrole {role:?}");
                while !node.wait_until(|status| status.role != role, LONG) {}
                role = node.role();
            }
        });
        scope.spawn(move || {
            asked.into_iter().for_each(|(number, asked)| println!("did {number} {}", said(asked.wait())))
        });
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match line.split_once(' ').expect("a word, and more") {
                ("promote", _) => {
                    let node = &node;
                    scope.spawn(move || node.promote().expect("it can"));
                }
                (number, message) => {
                    let message = serde_json::from_str(message).expect("a message");
                    match node.handle() {
                        Some(lists) => asks.send((number.to_string(), lists.ask(message))).expect("it waits"),
                        None => println!("did {number} fail"),
                    }
                }
            }
        }
        // Nobody tells it anything any more.
        std::process::exit(0);
    });
}

/// What came of a message, in a line.
fn said(outcome: Outcome<Scrolls>) -> String {
    match outcome {
        Ok(seen) => format!("ok {}", serde_json::to_string(&seen).expect("it is JSON")),
        // It never ran.
        Err(AskError::Overloaded) => "fail".to_string(),
        Err(AskError::Unknown | AskError::Stopped) => "info".to_string(),
        Err(error) => panic!("a message ended with {error:?}"),
    }
}

/// A process that is a node.
struct Peer {
    child: Child,
    told: ChildStdin,
    /// Which of all processes.
    number: usize,
    role: String,
    is_stopped: bool,
}

/// A client of two nodes, and what it has seen.
struct Client<'a> {
    servers: &'a Servers,
    places: [TempDir; 2],
    peers: [Peer; 2],
    started: usize,
    says: mpsc::Receiver<(usize, Option<String>)>,
    say: mpsc::Sender<(usize, Option<String>)>,
    history: String,
    /// Of each message without an answer: the process that it was sent to, and what it is.
    under_way: BTreeMap<u64, (usize, Vec<Stroke>)>,
    messages: u64,
    random: u64,
    /// How many messages ended how.
    ended: BTreeMap<String, u64>,
    takeovers: u64,
}

fn start(
    servers: &Servers,
    directory: &Path,
    name: &str,
    number: usize,
    say: &mpsc::Sender<(usize, Option<String>)>,
) -> Peer {
    let me = std::env::current_exe().expect("this program");
    let told = format!("{} {name} {}", directory.display(), servers.urls().join(" "));
    let mut child = Command::new(me)
        .args(["--exact", "histories::a_node_of_lists", "--nocapture"])
        .env(NODE, told)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("it can be started");
    let (told, out) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let say = say.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = say.send((number, Some(line)));
        }
        let _ = say.send((number, None));
    });
    Peer { child, told, number, role: String::new(), is_stopped: false }
}

impl<'a> Client<'a> {
    fn new(servers: &'a Servers, seed: u64) -> Client<'a> {
        let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
        let (say, says) = mpsc::channel();
        let first = start(servers, places[0].path(), "node-0", 0, &say);
        // The other one joins when there is an owner.
        while says.recv_timeout(LONG).expect("it goes on") != (0, Some("role Owner".to_string())) {}
        let second = start(servers, places[1].path(), "node-1", 1, &say);
        let mut peers = [first, second];
        peers[0].role = "Owner".to_string();
        let mut client = Client {
            servers,
            places,
            peers,
            started: 2,
            says,
            say,
            history: String::new(),
            under_way: BTreeMap::new(),
            messages: 0,
            random: seed,
            ended: BTreeMap::new(),
            takeovers: 0,
        };
        client.until(|client| client.peers[1].role == "Standby");
        client
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.random >> 33) % bound
    }

    /// Writes an event down, as the judge reads it: Jepsen's histories, one line of JSON for each.
    fn note(&mut self, kind: &str, number: u64, message: &[Stroke], seen: &[Vec<u64>]) {
        let mut seen = seen.iter();
        let step = |step: &Stroke| match step {
            Stroke::Append(list, element) => format!("[\"append\",{list},{element}]"),
            Stroke::Read(list) => match seen.next() {
                Some(seen) => format!("[\"r\",{list},{seen:?}]"),
                None => format!("[\"r\",{list},null]"),
            },
        };
        let steps = message.iter().map(step).collect::<Vec<_>>().join(",");
        writeln!(self.history, r#"{{"type":"{kind}","process":{number},"value":[{steps}]}}"#)
            .expect("a string takes everything");
        *self.ended.entry(kind.to_string()).or_default() += 1;
    }

    fn is_full(&self, at: usize) -> bool {
        let number = self.peers[at].number;
        self.under_way.values().filter(|(of, _)| *of == number).count() >= UNDER_WAY_MAX
    }

    fn ask(&mut self, at: usize, message: Vec<Stroke>) {
        let number = self.messages;
        self.messages += 1;
        self.note("invoke", number, &message, &[]);
        let line = serde_json::to_string(&message).expect("it is JSON");
        self.under_way.insert(number, (self.peers[at].number, message));
        // One that has just ended says so elsewhere.
        let _ = writeln!(self.peers[at].told, "{number} {line}");
    }

    /// Asks a node something new.
    fn ask_anything(&mut self, at: usize) {
        let number = self.messages;
        let steps = 1 + self.below(STEPS_MAX);
        let message = (0..steps).map(|step| {
            let list = number / MESSAGES_PER_LIST + self.below(LISTS);
            if self.below(2) == 0 {
                Stroke::Read(list)
            } else {
                Stroke::Append(list, number * STEPS_MAX + step)
            }
        });
        let message = message.collect();
        self.ask(at, message);
    }

    fn owner(&self) -> Option<usize> {
        self.peers.iter().position(|peer| peer.role == "Owner" && !peer.is_stopped)
    }

    /// Waits for a line, and takes note of it.
    fn hear(&mut self) {
        let (from, line) = self.says.recv_timeout(LONG).expect("somebody says something");
        let Some(line) = line else {
            // It has ended, and nobody hears of these.
            let left: Vec<u64> =
                self.under_way.iter().filter(|(_, (of, _))| *of == from).map(|(number, _)| *number).collect();
            left.into_iter().for_each(|number| self.end(number, "info", &[]));
            return;
        };
        match line.split_once(' ') {
            Some(("role", role)) => {
                for peer in self.peers.iter_mut().filter(|peer| peer.number == from) {
                    peer.role = role.to_string();
                }
            }
            Some(("did", what)) => {
                let (number, what) = what.split_once(' ').expect("a number, and more");
                let (kind, seen) = what.split_once(' ').unwrap_or((what, "[]"));
                let seen: Vec<Vec<u64>> = serde_json::from_str(seen).expect("lists");
                self.end(number.parse().expect("a number"), kind, &seen);
            }
            _ => {}
        }
    }

    fn end(&mut self, number: u64, kind: &str, seen: &[Vec<u64>]) {
        let (_, message) = self.under_way.remove(&number).expect("each is answered once");
        self.note(kind, number, &message, seen);
    }

    fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.hear();
        }
    }

    /// Has so many messages answered; now and then it asks who is not the owner.
    fn work(&mut self, more: u64) {
        let answered = |client: &Self| client.ended.get("ok").copied().unwrap_or_default();
        let enough = answered(self) + more;
        while answered(self) < enough {
            let other = self.below(8) == 0;
            match self.owner() {
                Some(owner) if other && !self.is_full(1 - owner) && !self.peers[1 - owner].is_stopped => {
                    self.ask_anything(1 - owner);
                }
                Some(owner) if !self.is_full(owner) => self.ask_anything(owner),
                _ => self.hear(),
            }
            self.tend();
        }
    }

    /// Starts a node again that was replaced: also one that was only slow.
    fn tend(&mut self) {
        for at in 0..2 {
            if matches!(&*self.peers[at].role, "Fenced" | "Failed") {
                self.start_again(at);
            }
        }
    }

    fn start_again(&mut self, at: usize) {
        let number = self.peers[at].number;
        self.peers[at]
            .child
            .kill()
            .and_then(|()| self.peers[at].child.wait().map(drop))
            .expect("it is there");
        // All that it had said before.
        self.until(|client| client.under_way.values().all(|(of, _)| *of != number));
        let name = format!("node-{at}");
        self.peers[at] = start(self.servers, self.places[at].path(), &name, self.started, &self.say);
        self.started += 1;
    }

    /// A takeover of this kind, in the midst of messages.
    fn takeover(&mut self, kind: u64) {
        self.work(20);
        self.until(|client| client.owner().is_some_and(|owner| client.peers[1 - owner].role == "Standby"));
        let owner = self.owner().expect("there is one");
        let other = 1 - owner;
        // The worst of former owners rests: nothing that it has under way could tell it.
        let rests = kind % 6 == 1;
        if rests {
            self.until(|client| client.under_way.is_empty());
        }
        while !rests && !self.is_full(owner) {
            self.ask_anything(owner);
        }
        match kind % 3 {
            0 => {
                self.peers[owner].child.kill().expect("it is there");
                self.peers[owner].role = "killed".to_string();
                self.until(|client| client.peers[other].role == "Owner");
            }
            1 => {
                send(&self.peers[owner].child, Signal::STOP);
                self.peers[owner].is_stopped = true;
                self.until(|client| client.peers[other].role == "Owner");
                self.work(20);
                // It finds these first when it goes on, and does not know that it slept.
                let first = self.messages / MESSAGES_PER_LIST;
                for list in first..first + LISTS {
                    self.ask(owner, vec![Stroke::Read(list)]);
                }
                if !rests {
                    self.ask_anything(owner);
                }
                send(&self.peers[owner].child, Signal::CONT);
                self.peers[owner].is_stopped = false;
            }
            _ => {
                writeln!(self.peers[other].told, "promote now").expect("it listens");
                self.until(|client| client.peers[other].role == "Owner");
            }
        }
        if !kind.is_multiple_of(3) {
            // Reads alone, because a turn that also writes answers nothing before that is there.
            let number = self.peers[owner].number;
            self.until(|client| client.under_way.values().all(|(of, _)| *of != number));
            // One that rests does not know. It hears of it when it has something to append.
            let (number, list) = (self.messages, self.messages / MESSAGES_PER_LIST);
            self.ask(owner, vec![Stroke::Append(list, number * STEPS_MAX)]);
            self.until(|client| client.peers[owner].role == "Fenced");
        }
        self.takeovers += 1;
        self.start_again(owner);
    }

    /// Reads every list there can be.
    fn read_all(&mut self) {
        self.until(|client| client.under_way.is_empty() && client.owner().is_some());
        let lists: Vec<u64> = (0..self.messages / MESSAGES_PER_LIST + LISTS).collect();
        for some in lists.chunks(STEPS_MAX as usize) {
            let owner = self.owner().expect("nobody disturbs it");
            self.ask(owner, some.iter().map(|list| Stroke::Read(*list)).collect());
            self.until(|client| client.under_way.is_empty());
        }
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            let _ = peer.child.kill();
            let _ = peer.child.wait();
        }
    }
}

#[test]
fn what_clients_see_over_takeovers_is_strictly_serializable() {
    let test = "what_clients_see_over_takeovers_is_strictly_serializable";
    let watchdog = Watchdog::new(test);
    let Some(servers) = Servers::start(test, 1) else { return };
    let takeovers = std::env::var("FREEHOLD_TAKEOVERS")
        .map_or(3, |takeovers| takeovers.parse().expect("FREEHOLD_TAKEOVERS is a whole number"));
    let mut client = Client::new(&servers, takeovers);
    for kind in 0..takeovers {
        client.takeover(kind);
        watchdog.feed();
    }
    client.work(20);
    client.read_all();
    println!("{} messages, {} takeovers: {:?}", client.messages, client.takeovers, client.ended);
    let history = History::from_json(&client.history).expect("it is written as Jepsen writes it");
    let opts = Opts { models: vec!["strict-serializable".into()], ..Opts::default() };
    let report = adya::check(&history, Workload::ListAppend, &opts);
    if report.valid != Valid::True {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("history-of-takeovers.jsonl");
        std::fs::write(&file, &client.history).expect("the target's directory can be written");
        let found = report.anomalies.iter().filter_map(|(kind, found)| Some((kind, found.first()?)));
        let said: String = found.map(|(kind, found)| format!("{kind}: {}\n", found.explanation)).collect();
        panic!("{:?}, see {}\n{said}", report.valid, file.display());
    }
    // A history in which nothing was lost would be valid too.
    let unheard = client.ended.get("info").copied().unwrap_or_default();
    assert!(unheard >= takeovers && client.ended.contains_key("fail"), "{:?}", client.ended);
}
