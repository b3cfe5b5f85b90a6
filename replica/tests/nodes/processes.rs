//! Owners that are processes of their own: killed, stopped and continued, with takeovers in
//! between.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use freehold_replica::{ReplicaConfig, Replicated, Role};
use rustix::process::Signal;

use super::bank::{Bank, Message, PAYMENTS};
use super::servers::{LOGINS, Servers, config, send};
use super::support::Watchdog;
use super::{LONG, assert_has, is, open, until};

/// In the environment of a process that is to be a node: its directory and the servers.
const NODE: &str = "FREEHOLD_TEST_NODE";
/// How many payments a node has under way at once.
const UNDER_WAY: usize = 16;

/// Not a test: the life of a node in a process of its own. It pays when it is told to, and says
/// what was acknowledged.
#[test]
fn a_node() {
    let Ok(told) = std::env::var(NODE) else { return };
    let mut told = told.split(' ').map(str::to_string);
    let directory = told.next().expect("it is told where");
    let urls: Vec<String> = told.collect();
    let node = open(Path::new(&directory), config(&urls, "child")).expect("it joins");
    assert_eq!(node.role(), Role::Owner);
    println!("\nowner");
    for line in std::io::stdin().lines() {
        let line = line.expect("it is told more");
        let (what, number) = line.split_once(' ').expect("a word and a number");
        let number = number.parse().expect("a number");
        match what {
            "pay" => pay_for_ever(&node, number),
            "read" => {
                let read = node.handle().map(|bank| bank.ask(Message::Read(PAYMENTS + number)).wait());
                println!("read {read:?}");
            }
            "role" => {
                node.wait_until(is(Role::Fenced), LONG);
                println!("role {:?}", node.role());
            }
            _ => unreachable!("{line}"),
        }
    }
}

/// Pays from `number` on, until it is not answered.
fn pay_for_ever(node: &Replicated<Bank>, mut number: u64) {
    let bank = node.handle().expect("it is the owner");
    loop {
        let asked: Vec<_> = (0..UNDER_WAY as u64)
            .map(|more| (number + more, bank.ask(Message::Pay { number: number + more })))
            .collect();
        number += UNDER_WAY as u64;
        for (number, asked) in asked {
            match asked.wait() {
                Ok(1) => println!("paid {number}"),
                other => return println!("unpaid {number} {other:?}"),
            }
        }
    }
}

/// A process that is a node.
struct Process {
    child: Child,
    told: ChildStdin,
    says: mpsc::Receiver<String>,
    paid: BTreeSet<u64>,
}

impl Process {
    fn start(servers: &Servers, directory: &Path) -> Process {
        let me = std::env::current_exe().expect("this program");
        let told = format!("{} {}", directory.display(), servers.urls().join(" "));
        let mut child = Command::new(me)
            .args(["--exact", "processes::a_node", "--nocapture"])
            .env(NODE, told)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it can be started");
        let (told, out) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let (say, says) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
        });
        let mut process = Process { child, told, says, paid: BTreeSet::new() };
        process.hear("owner");
        process
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.told, "{line}").expect("it listens");
    }

    /// The next line that begins so; payments on the way are noted.
    fn hear(&mut self, word: &str) -> String {
        loop {
            let line = self.says.recv_timeout(LONG).expect("it says something");
            self.note(&line);
            if line.starts_with(word) {
                return line;
            }
        }
    }

    fn note(&mut self, line: &str) {
        if let Some(number) = line.strip_prefix("paid ") {
            self.paid.insert(number.parse().expect("a number"));
        }
    }

    /// Waits until it has made so many payments more.
    fn pays(&mut self, more: usize) {
        let enough = self.paid.len() + more;
        while self.paid.len() < enough {
            self.hear("paid");
        }
    }

    /// All that it has said, after its end.
    fn ended(mut self) -> BTreeSet<u64> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        while let Ok(line) = self.says.recv_timeout(LONG) {
            self.note(&line);
        }
        self.paid
    }
}

/// A standby that takes over by itself.
fn vigilant(servers: &Servers) -> ReplicaConfig {
    ReplicaConfig { takeover_after: Some(Duration::from_millis(400)), ..servers.config("standby") }
}

// Two rounds, or `FREEHOLD_KILLS=100 cargo test -p freehold-replica --test nodes is_killed`.
#[test]
fn an_owner_is_killed_and_a_standby_takes_over_by_itself() {
    let watchdog = Watchdog::new("an_owner_is_killed_and_a_standby_takes_over_by_itself");
    let test = "an_owner_is_killed_and_a_standby_takes_over_by_itself";
    let Some(servers) = Servers::start(test, 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let mut paid = BTreeSet::new();
    let rounds = std::env::var("FREEHOLD_KILLS").map_or(2, |kills| kills.parse().expect("a whole number"));
    for round in 0..rounds {
        watchdog.feed();
        let mut owner = Process::start(&servers, places[0].path());
        let standby = open(places[1].path(), vigilant(&servers)).expect("it joins");
        assert_eq!(standby.role(), Role::Standby);
        owner.tell(&format!("pay {}", round * 1_000_000));
        owner.pays(100);
        paid.extend(owner.ended());
        until(&standby, is(Role::Owner));
        assert_has(&standby, paid.iter().copied());
        // It gives the database up, and the other, which comes back, takes it.
    }
}

// The worst of former owners: it does not know that it was asleep, and believes what it has.
#[test]
fn an_owner_that_was_stopped_answers_nobody_when_it_goes_on() {
    let _watchdog = Watchdog::new("an_owner_that_was_stopped_answers_nobody_when_it_goes_on");
    let test = "an_owner_that_was_stopped_answers_nobody_when_it_goes_on";
    let Some(servers) = Servers::start(test, 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let mut owner = Process::start(&servers, places[0].path());
    let standby = open(places[1].path(), servers.config("standby")).expect("it joins");
    // It rests: nothing is under way that could tell it.
    owner.tell("read 0");
    assert!(owner.hear("read").contains("Some(Ok(0))"));
    send(&owner.child, Signal::STOP);
    standby.promote().expect("it can");
    super::pay(&standby.handle().expect("it is the owner"), 0..10);
    // The entry that replaced it is trimmed when it looks.
    standby.checkpoint().expect("it is made");
    // It is asked before it goes on, so it runs that first.
    owner.tell("read 0");
    send(&owner.child, Signal::CONT);
    let read = owner.hear("read");
    assert!(read.contains("Unknown") || read.contains("Stopped") || read.contains("None"), "stale: {read}");
    owner.tell("role 0");
    assert_eq!(owner.hear("role"), "role Fenced");
    drop(owner.ended());
    // The same while it pays: what it said before counts, and what it could not say does not.
    drop(standby);
    let mut owner = Process::start(&servers, places[0].path());
    let standby = open(places[1].path(), servers.config("standby")).expect("it joins");
    owner.tell("pay 1000");
    owner.pays(50);
    send(&owner.child, Signal::STOP);
    standby.promote().expect("it can");
    super::pay(&standby.handle().expect("it is the owner"), 10..20);
    send(&owner.child, Signal::CONT);
    owner.hear("unpaid");
    let paid = owner.ended();
    assert_has(&standby, paid.into_iter().chain(0..20));
}

/// The program to try it with, as a node of these servers.
fn bank_replicated(servers: &Servers, directory: &Path, node: &str) -> (Child, mpsc::Receiver<String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bank_replicated"))
        .args([&*directory.to_string_lossy(), node, "1"])
        .args(servers.urls())
        .envs(LOGINS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let out = child.stdout.take().expect("a pipe");
    let (say, says) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
    });
    (child, says)
}

/// Waits for a line with these words.
fn hear(says: &mpsc::Receiver<String>, words: &str) -> String {
    loop {
        let line = says.recv_timeout(LONG).expect("it goes on");
        if line.contains(words) {
            return line;
        }
    }
}

#[test]
fn the_program_to_try_it_with_goes_on_when_its_owner_is_killed() {
    let test = "the_program_to_try_it_with_goes_on_when_its_owner_is_killed";
    let _watchdog = Watchdog::new(test);
    let Some(servers) = Servers::start(test, 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let (mut a, a_says) = bank_replicated(&servers, places[0].path(), "a");
    hear(&a_says, "owner of term 1");
    let (mut b, b_says) = bank_replicated(&servers, places[1].path(), "b");
    assert!(hear(&b_says, "standby in term 1").contains("the sum is Some(0)"));
    a.kill().and_then(|()| a.wait().map(drop)).expect("it can be killed");
    let owns = hear(&b_says, "owner of term 2");
    assert!(!owns.contains(": 0 payments"), "{owns}");
    // It ends when its input does, in good order.
    drop(b.stdin.take());
    assert!(b.wait().expect("it ends").success());
}
