//! One server, two nodes: which owns the database, and which does not any more.

use std::time::Duration;

use freehold::{Ack, LocalLog};
use freehold_replica::{ReplicaConfig, ReplicaError, Role};

use super::bank::Message;
use super::servers::Servers;
use super::support::Watchdog;
use super::{assert_has, is, is_unanswered, open, open_hasty, pay, shown, until};

#[test]
fn a_database_moves_from_node_to_node() {
    let _watchdog = Watchdog::new("a_database_moves_from_node_to_node");
    let Some(servers) = Servers::start("a_database_moves_from_node_to_node", 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    assert_eq!((a.role(), a.status().term), (Role::Owner, 1));
    pay(&a.handle().expect("it is the owner"), 0..50);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!(b.role(), Role::Standby);
    assert_eq!(shown(&b), (0..50).collect(), "all that was acknowledged before it joined");
    assert!(b.handle().is_none());
    assert!(matches!(a.promote(), Err(ReplicaError::Role { .. })) && a.snapshot().is_err());
    // So many that b has a checkpoint to make before its runtime is open, which waits for the
    // stream.
    pay(&a.handle().expect("it is the owner"), 50..90);
    until(&b, |status| status.epoch >= a.status().epoch);
    assert_eq!(shown(&b), (0..90).collect());
    b.promote().expect("it can");
    assert_eq!((b.role(), b.status().term), (Role::Owner, 2));
    pay(&b.handle().expect("it is the owner"), 90..100);
    // It does not know, and is asked for what has changed since: it must not answer from memory.
    let former = a.handle().expect("it believes so");
    let read = former.ask(Message::Read(super::PAYMENTS + 90)).wait();
    assert!(is_unanswered(&read), "{read:?}");
    until(&a, is(Role::Fenced));
    assert!(a.status().failure.expect("it says why").contains("term 2"));
    assert!(is_unanswered(&former.ask(Message::Pay { number: 100 }).wait()));
    drop(a);
    // It comes back, and has lost nothing that it had been told.
    let a = open(places[0].path(), servers.config("a")).expect("it joins");
    assert_eq!((a.role(), a.status().set_aside), (Role::Standby, Vec::new()));
    assert_eq!(shown(&a), (0..100).collect());
    // A node that stops gives it up, and one that waits takes over.
    let waits = ReplicaConfig { takeover_after: Some(Duration::from_secs(3600)), ..servers.config("a") };
    drop(a);
    let a = open(places[0].path(), waits).expect("it joins");
    assert!(b.shutdown().expect("there was a runtime").drained);
    until(&a, is(Role::Owner));
    assert_eq!(a.status().term, 3);
    assert_has(&a, 0..100);
}

// The same node is started again, after a stop and after what is as bad as a crash.
#[test]
fn an_owner_that_starts_again_goes_on() {
    let _watchdog = Watchdog::new("an_owner_that_starts_again_goes_on");
    let Some(servers) = Servers::start("an_owner_that_starts_again_goes_on", 1) else { return };
    let place = tempfile::tempdir().expect("a place");
    for term in 1..4 {
        let a = open(place.path(), servers.config("a")).expect("nobody else owns it");
        assert_eq!((a.role(), a.status().term), (Role::Owner, term));
        pay(&a.handle().expect("it is the owner"), (term - 1) * 10..term * 10);
        assert_has(&a, 0..term * 10);
        a.with_runtime(|runtime| runtime.checkpoint().map(drop))
            .expect("it is the owner")
            .expect("it is made");
        pay(&a.handle().expect("it is the owner"), [1000 + term]);
    }
}

// With `Ack::Durable` a node's own disk is enough. What the stream has not is then that node's
// alone: it brings it along when it owns the database still, and sets it aside when it does not.
#[test]
fn what_only_one_disk_has_comes_along_or_is_set_aside() {
    let _watchdog = Watchdog::new("what_only_one_disk_has_comes_along_or_is_set_aside");
    let Some(mut servers) = Servers::start("what_only_one_disk_has_comes_along_or_is_set_aside", 1) else {
        return;
    };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let durable = |config| ReplicaConfig { ack: Ack::Durable, ..config };
    let alone = |servers: &mut Servers, numbers: std::ops::Range<u64>| {
        let (patience, answer_within) = (Duration::from_millis(300), Duration::from_millis(100));
        let a = open(places[0].path(), durable(servers.config("a"))).expect("it is its own");
        drop(a);
        let hasty = ReplicaConfig { patience, answer_within, ..servers.config("a") };
        let a = open_hasty(places[0].path(), &durable(hasty));
        assert_eq!(a.role(), Role::Owner);
        servers.kill(0);
        pay(&a.handle().expect("it is the owner"), numbers);
        drop(a);
        servers.run(0);
    };
    alone(&mut servers, 0..5);
    let a = open(places[0].path(), durable(servers.config("a"))).expect("it is its own still");
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!(shown(&b), (0..5).collect(), "a brought along what it had");
    drop((a, b));
    alone(&mut servers, 5..8);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    b.promote().expect("it can");
    pay(&b.handle().expect("it is the owner"), 100..110);
    let a = open(places[0].path(), servers.config("a")).expect("it joins");
    let aside = a.status().set_aside;
    assert_eq!((a.role(), aside.len()), (Role::Standby, 1), "{aside:?}");
    assert!(aside[0].until > aside[0].after && aside[0].directory.starts_with(places[0].path()));
    let (kept, mut records) = (LocalLog::open(&aside[0].directory).expect("it is whole"), 0);
    kept.restore(|_| records += 1).expect("it can be read");
    assert!(records > 8, "what was set aside is there to be looked at");
    assert_eq!(shown(&a), (0..5).chain(100..110).collect(), "and is not in the database");
}
