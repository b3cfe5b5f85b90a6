//! Nodes over real servers: takeovers, fences, what is set aside, and nothing acknowledged lost.
//!
//! Each test waits for progress, and not for a time to pass.

mod bank;
mod checkpoints;
mod conformance;
mod faults;
mod histories;
mod joining;
mod logins;
mod losses;
mod numbers;
mod processes;
mod repairs;
mod servers;
mod takeovers;
mod upgrades;

#[path = "../../../tests/support/forgetful.rs"]
mod forgetful;
#[path = "../../../tests/support/mounts.rs"]
mod mounts;
#[path = "../../../shards/tests/simulation/stream.rs"]
#[allow(dead_code, reason = "here nobody damages it")]
mod stream;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bank::{ACCOUNTS, Bank, Message, PAYMENTS};
use freehold::{Actor, AskError, Config, Handle, Idle, LogConfig, Shards};
use freehold_replica::{NodeStatus, ReplicaConfig, ReplicaError, Replicated, Role};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Not a test: a disk in a process of its own.
#[test]
#[ignore = "it is a disk, for other tests"]
fn a_disk() {
    forgetful::Served::serve();
}

/// How long a test waits for what is to come, on a machine however busy.
const LONG: Duration = Duration::from_secs(120);

/// Opens a node that keeps what it has in this directory.
fn open(directory: &Path, replica: ReplicaConfig) -> Result<Replicated<Bank>, ReplicaError> {
    open_of(directory, replica)
}

/// The same for any actor.
fn open_of<A>(directory: &Path, replica: ReplicaConfig) -> Result<Replicated<A>, ReplicaError>
where
    A: Actor<State: Serialize + DeserializeOwned, Message: Serialize + DeserializeOwned>,
{
    let config = Config {
        shards: Shards::Count(1),
        idle: Idle::Spin(Duration::ZERO),
        drain_max: Duration::from_millis(500),
        ..Config::default()
    };
    // So little that a start makes a checkpoint before it returns.
    let checkpoint_bytes = 64 << 10;
    let log = LogConfig { segment_bytes: 64 << 10, checkpoint_bytes, ..LogConfig::at(directory) };
    Replicated::open(config, log, replica)
}

/// A node on so many shards, whose own log is so long that it makes no checkpoint by itself.
fn open_with_much_log(
    directory: &Path,
    shards: usize,
    replica: ReplicaConfig,
) -> Result<Replicated<Bank>, ReplicaError> {
    let idle = Idle::Spin(Duration::ZERO);
    let config = Config { shards: Shards::Count(shards), idle, ..Config::default() };
    Replicated::open(config, LogConfig::at(directory), replica)
}

/// How long nodes wait for an answer where servers do not give any.
const SOON: Duration = Duration::from_millis(500);

/// Opens a node that has little patience. A busy machine may be too slow for it once.
fn open_hasty(directory: &Path, replica: &ReplicaConfig) -> Replicated<Bank> {
    loop {
        match open(directory, replica.clone()) {
            Err(ReplicaError::Servers { .. }) => {}
            opened => return opened.expect("it opens"),
        }
    }
}

/// What the servers, once they are reached, make of a node that has little patience. A busy machine
/// may take longer than that to reach them.
fn refused<T: std::fmt::Debug>(mut opens: impl FnMut() -> Result<T, ReplicaError>) -> ReplicaError {
    loop {
        match opens().expect_err("it is refused") {
            ReplicaError::Servers { .. } => {}
            error => return error,
        }
    }
}

/// Waits until the node's status is so.
#[track_caller]
fn until(node: &Replicated<Bank>, is_so: impl Fn(&NodeStatus) -> bool) {
    assert!(node.wait_until(is_so, LONG), "it does not come to that: {node:?}");
}

/// Pays so many times, one after the other.
fn pay(bank: &Handle<Bank>, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        assert_eq!(bank.ask(Message::Pay { number }).wait(), Ok(1), "payment {number}");
    }
}

/// Whether an owner has just these payments, each once, and the sum is right.
#[track_caller]
fn assert_has(node: &Replicated<Bank>, paid: impl IntoIterator<Item = u64>) {
    let bank = node.handle().expect("it is the owner");
    let read = |id| bank.ask(Message::Read(id)).wait().expect("the owner answers");
    assert_eq!((0..ACCOUNTS).map(read).sum::<i64>(), 0, "no coin is made or lost");
    let paid: Vec<_> = paid.into_iter().collect();
    // Many at once: each read waits for an append, and a hundred rounds leave many.
    for numbers in paid.chunks(500) {
        let asked = bank.ask_all(numbers.iter().map(|number| Message::Read(PAYMENTS + number)));
        for (number, read) in numbers.iter().zip(asked.wait()) {
            assert_eq!(read, Ok(1), "payment {number} is there once");
        }
    }
}

/// Which payments a standby shows.
fn shown(node: &Replicated<Bank>) -> BTreeSet<u64> {
    let snapshot = node.snapshot().expect("it is a standby");
    assert_eq!(snapshot.iter().filter(|(id, _)| **id < ACCOUNTS).map(|(_, coins)| coins).sum::<i64>(), 0);
    let payments = snapshot.iter().filter(|(id, _)| **id >= PAYMENTS);
    payments
        .map(|(id, times)| (*id - PAYMENTS, *times))
        .map(|(number, times)| {
            assert_eq!(times, 1);
            number
        })
        .collect()
}

/// What an owner answers that does not know yet that it is none.
fn is_unanswered(outcome: &Result<i64, AskError<freehold::AccessError<u64>>>) -> bool {
    matches!(outcome, Err(AskError::Unknown | AskError::Stopped))
}

fn is(role: Role) -> impl Fn(&NodeStatus) -> bool {
    move |status| status.role == role
}
