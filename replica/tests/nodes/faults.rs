//! A link that is down, a disk that is full, one that hangs, and one that is slow all the time.
//! Servers are processes, a link is a proxy that stops forwarding (network namespaces need more
//! rights than tests have everywhere), and disks are file systems of their own.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use freehold_replica::{ReplicaConfig, Replicated, Role};
use futures_util::FutureExt;

use super::bank::{Bank, Message, PAYMENTS};
use super::forgetful::Served;
use super::mounts::{Mount, in_own_mounts};
use super::servers::{Servers, config};
use super::support::Watchdog;
use super::support::skip::skip;
use super::{SOON, assert_has, is, is_unanswered, open, open_hasty, pay, shown, until};

/// A link to a server. When it is cut nothing comes through, and neither end hears why. What was on
/// its way comes through later, as TCP would see to.
struct Link {
    port: u16,
    is_cut: Arc<(Mutex<bool>, Condvar)>,
}

impl Link {
    /// To the server at this address.
    fn to(url: &str) -> Link {
        let server = url.strip_prefix("nats://").expect("an address").to_string();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let is_cut = Arc::new((Mutex::new(false), Condvar::new()));
        let cut = is_cut.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&server) else { continue };
                let again = |stream: &TcpStream| stream.try_clone().expect("a second one");
                let pairs = [(again(&near), again(&far)), (far, near)];
                for (from, to) in pairs {
                    let cut = cut.clone();
                    std::thread::spawn(move || forward(from, to, &cut));
                }
            }
        });
        Link { port, is_cut }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn cut(&self) {
        self.now_is(true);
    }

    fn mend(&self) {
        self.now_is(false);
    }

    fn now_is(&self, is_cut: bool) {
        *self.is_cut.0.lock().expect("nobody panics with it") = is_cut;
        self.is_cut.1.notify_all();
    }
}

/// Forwards what comes, as long as the link is not cut.
fn forward(mut from: TcpStream, mut to: TcpStream, is_cut: &(Mutex<bool>, Condvar)) {
    let mut bytes = [0; 16 << 10];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        let cut = is_cut.0.lock().expect("nobody panics with it");
        drop(is_cut.1.wait_while(cut, |cut| *cut).expect("nobody panics with it"));
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            let _ = to.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

#[test]
fn an_owner_behind_a_link_that_is_down_waits_and_is_replaced() {
    let test = "an_owner_behind_a_link_that_is_down_waits_and_is_replaced";
    let _watchdog = Watchdog::new(test);
    let Some(servers) = Servers::start(test, 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let link = Link::to(&servers.urls()[0]);
    let behind_it = ReplicaConfig { answer_within: SOON, ..config(&[link.url()], "a") };
    let a = open_hasty(places[0].path(), &behind_it);
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..10);
    // It comes back: answers were only late.
    let down = || {
        let looks = a.status().latency.looks;
        link.cut();
        let asked: Vec<_> = (0..5).map(|more| bank.ask(Message::Pay { number: 10 + more })).collect();
        until(&a, |status| status.latency.looks > looks);
        asked
    };
    let asked = down();
    link.mend();
    asked.into_iter().for_each(|asked| assert_eq!(asked.wait(), Ok(1)));
    // It does not before another took over, which was told so by the silence.
    let vigilant = ReplicaConfig { takeover_after: Some(Duration::from_millis(400)), ..servers.config("b") };
    let b = open(places[1].path(), vigilant).expect("it joins");
    link.cut();
    let asked: Vec<_> = (0..5).map(|more| bank.ask(Message::Pay { number: 100 + more })).collect();
    let read = bank.ask(Message::Read(PAYMENTS));
    until(&b, is(Role::Owner));
    pay(&b.handle().expect("it is the owner"), 20..30);
    link.mend();
    // What it had sent comes through now, and is refused.
    asked.into_iter().for_each(|asked| assert!(is_unanswered(&asked.wait())));
    assert!(is_unanswered(&read.wait()), "a former owner shows nothing");
    until(&a, is(Role::Fenced));
    assert_has(&b, (0..15).chain(20..30));
    let read = |number| b.handle().expect("it is the owner").ask(Message::Read(PAYMENTS + number)).wait();
    assert!((100..105).all(|number| read(number) == Ok(0)), "nobody was told of these");
}

/// Fills a file system, but for less than a segment.
fn fill(at: &Path) {
    let mut file = std::fs::File::create(at.join("filler")).expect("it can be made");
    while file.write_all(&[1; 4096]).is_ok() {}
}

/// Pays until it is not answered. Returns what was.
fn pay_on(node: &Replicated<Bank>, from: u64) -> BTreeSet<u64> {
    let bank = node.handle().expect("it is the owner");
    let mut paid = BTreeSet::new();
    for number in from..from + 1_000 {
        match bank.ask(Message::Pay { number }).wait() {
            Ok(1) => assert!(paid.insert(number)),
            other => {
                assert!(is_unanswered(&other), "{other:?}");
                return paid;
            }
        }
    }
    panic!("the disk does not become full");
}

#[test]
fn a_node_whose_disk_is_full_stops_and_another_goes_on() {
    in_own_mounts("faults::a_node_whose_disk_is_full_stops_and_another_goes_on", || {
        let test = "a_node_whose_disk_is_full_stops_and_another_goes_on";
        let _watchdog = Watchdog::new(test);
        let Some(servers) = Servers::start(test, 1) else { return };
        let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
        let disk = places[0].path();
        let _mount = Mount::memory(disk, "2m", "").expect("it may mount here");
        let node = |name: &str| ReplicaConfig { checkpoint_bytes: 1 << 30, ..servers.config(name) };
        let a = open(&disk.join("a"), node("a")).expect("nobody owns it");
        pay(&a.handle().expect("it is the owner"), 0..10);
        fill(disk);
        let mut paid = pay_on(&a, 10);
        until(&a, is(Role::Failed));
        let failure = a.status().failure.expect("it says why");
        assert!(failure.contains("its log says why"), "{failure}");
        // (If it came before, a busy machine might keep the owner silent for as long.)
        let vigilant = ReplicaConfig { takeover_after: Some(Duration::from_millis(400)), ..node("b") };
        let b = open(places[1].path(), vigilant).expect("it joins");
        until(&b, is(Role::Owner));
        assert_has(&b, (0..10).chain(paid.iter().copied()));
        // There is room again: it comes back as a standby.
        drop(a);
        std::fs::remove_file(disk.join("filler")).expect("it is there");
        let a = open(&disk.join("a"), node("a")).expect("it joins");
        assert_eq!(a.role(), Role::Standby);
        paid.extend(0..10);
        assert!(shown(&a).is_superset(&paid));
        // A standby whose disk is full stops, and the owner does not notice.
        fill(disk);
        let bank = b.handle().expect("it is the owner");
        let mut number = 10_000;
        while a.role() == Role::Standby {
            pay(&bank, [number]);
            number += 1;
        }
        assert_eq!((a.role(), b.role()), (Role::Failed, Role::Owner));
        let failure = a.status().failure.expect("it says why");
        assert!(failure.contains("No space left"), "{failure}");
        drop(a);
        std::fs::remove_file(disk.join("filler")).expect("it is there");
        let a = open(&disk.join("a"), node("a")).expect("it joins");
        paid.extend(10_000..number);
        assert!(shown(&a).is_superset(&paid));
    });
}

// An answer waits for both: the stream has the payment, and the owner's own disk has not.
#[test]
fn an_answer_waits_for_a_disk_that_hangs() {
    let test = "an_answer_waits_for_a_disk_that_hangs";
    let _watchdog = Watchdog::new(test);
    let Some(servers) = Servers::start(test, 1) else { return };
    let mut disk = match Served::mounted(1) {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    std::os::unix::fs::symlink(disk.at(), places[0].path().join("log")).expect("it is made");
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..5);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    disk.hang();
    let mut asked = bank.ask(Message::Pay { number: 5 });
    while !shown(&b).contains(&5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    // A while in which a node that did not wait would have answered.
    for _ in 0..50 {
        assert!((&mut asked).now_or_never().is_none(), "its own disk does not have it");
        std::thread::sleep(Duration::from_millis(1));
    }
    disk.go_on();
    assert_eq!(asked.wait(), Ok(1));
    pay(&bank, 6..10);
    assert_has(&a, 0..10);
    drop(a);
}

// A standby on such a disk is behind and says so; an owner on it is as slow as its disk. Nothing is
// lost by either.
#[test]
fn a_disk_that_is_slow_all_the_time_costs_time_alone() {
    let test = "a_disk_that_is_slow_all_the_time_costs_time_alone";
    let _watchdog = Watchdog::new(test);
    let Some(servers) = Servers::start(test, 1) else { return };
    let mut disk = match Served::mounted(2) {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    let places = [(); 3].map(|()| tempfile::tempdir().expect("a place"));
    std::os::unix::fs::symlink(disk.at(), places[1].path().join("log")).expect("it is made");
    let node = |name: &str| ReplicaConfig { checkpoint_bytes: 1 << 30, ..servers.config(name) };
    let a = open(places[0].path(), node("a")).expect("nobody owns it");
    let b = open(places[1].path(), node("b")).expect("it joins");
    disk.slow(10);
    let (bank, is_seen) = (a.handle().expect("it is the owner"), AtomicBool::new(false));
    let paid = std::thread::scope(|threads| {
        let paying = threads.spawn(|| {
            let mut paid = 0;
            while !is_seen.load(Ordering::SeqCst) {
                pay(&bank, [paid]);
                paid += 1;
            }
            paid
        });
        until(&b, |status| status.lag.epochs > 0);
        is_seen.store(true, Ordering::SeqCst);
        paying.join().expect("all are paid")
    });
    let last = a.status().epoch;
    until(&b, |status| status.epoch >= last && status.lag.epochs == 0);
    assert_eq!((shown(&b), b.role()), ((0..paid).collect(), Role::Standby));
    drop(a);
    b.promote().expect("it can");
    let c = open(places[2].path(), node("c")).expect("it joins");
    pay(&b.handle().expect("it is the owner"), paid..paid + 5);
    let last = b.status().epoch;
    until(&c, |status| status.epoch >= last);
    assert_eq!(shown(&c), (0..paid + 5).collect());
    assert_has(&b, 0..paid + 5);
    disk.slow(0);
    drop(b);
}
