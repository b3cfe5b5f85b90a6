//! Three servers: one at a time is killed, stopped, or comes back with an empty disk, while an
//! owner pays. Nothing acknowledged is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use freehold_replica::{ReplicaConfig, Role, SyncCheck};
use rustix::process::Signal;

use super::bank::Message;
use super::joining::as_another;
use super::servers::Servers;
use super::support::Watchdog;
use super::{SOON, assert_has, open_hasty, until};

/// Waits until each server says that it has all of the stream.
fn until_all_have_it(servers: &Servers) {
    as_another(servers, async |context, _| {
        loop {
            let stream = context.get_stream("FREEHOLD_bank").await;
            let cluster = stream.ok().and_then(|stream| stream.cached_info().cluster.clone());
            if cluster.is_some_and(|cluster| {
                cluster.leader.is_some() && cluster.replicas.iter().all(|server| server.current)
            }) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn one_of_three_servers_may_be_lost_at_any_time() {
    let watchdog = Watchdog::new("one_of_three_servers_may_be_lost_at_any_time");
    let Some(mut servers) = Servers::start("one_of_three_servers_may_be_lost_at_any_time", 3) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let node = |name: &str| ReplicaConfig { answer_within: SOON, ..servers.config(name) };
    let a = open_hasty(places[0].path(), &node("a"));
    let b = open_hasty(places[1].path(), &node("b"));
    let bank = a.handle().expect("it is the owner");
    let (paid, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(Ordering::SeqCst) {
                // No server that is lost makes an answer fail: it only comes later.
                let made = bank.ask(Message::Pay { number }).wait();
                assert_eq!(made, Ok(1), "payment {number}");
                number += 1;
                paid.store(number, Ordering::SeqCst);
            }
        });
        let more = |payments: u64| {
            let enough = paid.load(Ordering::SeqCst) + payments;
            let is_paying = || paid.load(Ordering::SeqCst) < enough && a.role() == Role::Owner;
            while is_paying() {
                std::thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(a.role(), Role::Owner, "{a:?}");
            // All of it takes as long as a watchdog waits, and each step a part of that.
            watchdog.feed();
        };
        more(20);
        for at in 0..servers.count() {
            servers.kill(at);
            more(20);
            servers.run(at);
            more(20);
        }
        servers.signal(1, Signal::STOP);
        more(20);
        servers.signal(1, Signal::CONT);
        more(20);
        // It comes back with nothing, and has all of it from the others.
        servers.empty(1);
        more(20);
        until_all_have_it(&servers);
        more(20);
        is_over.store(true, Ordering::SeqCst);
    });
    // One that is kept on three servers outlives one of them, too.
    while let Err(error) = a.checkpoint() {
        println!("a server has not come back yet: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
    servers.kill(2);
    let place = tempfile::tempdir().expect("a place");
    // A server that is lost does not say whether it syncs.
    let c = ReplicaConfig { sync_check: SyncCheck::Assumed, answer_within: SOON, ..servers.config("c") };
    let c = open_hasty(place.path(), &c);
    assert_eq!(c.status().restored, 1);
    watchdog.feed();
    let paid = paid.load(Ordering::SeqCst);
    assert!(a.status().latency.appends > 0);
    b.promote().expect("it can");
    until(&b, super::is(Role::Owner));
    assert_has(&b, 0..paid);
}
