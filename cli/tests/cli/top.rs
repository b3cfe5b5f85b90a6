//! `freehold top --once`, of a runtime and of nothing.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold::{AccessError, Actor, Addressees, Config, Objects, Runtime, Shards};

use super::freehold;

/// A visit there takes 40 milliseconds.
const SLOW_PAGE: u64 = 13;

struct Visits;

impl Actor for Visits {
    type Id = u64;
    type State = u64;
    type Message = u64;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(page: &u64, to: &mut Addressees<u64>) {
        to.write(*page);
    }

    fn receive(page: &u64, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        if *page == SLOW_PAGE {
            std::thread::sleep(std::time::Duration::from_millis(40));
        }
        let visits = objects.get_or_insert_with(*page, || 0)?;
        *visits += 1;
        Ok(*visits)
    }
}

#[test]
fn it_prints_what_a_runtime_does_for_people_and_for_programs() {
    let slow_message = std::time::Duration::from_millis(4);
    let config = Config { shards: Shards::Count(2), slow_message, ..Config::default() };
    let runtime = Runtime::<Visits>::start(config).expect("it starts on this machine");
    let server = freehold_metrics::serve(runtime.handle(), "127.0.0.1:0").expect("a port is free");
    let addr = server.addr().to_string();
    let ends = AtomicBool::new(false);
    // Long enough for the list of slow messages.
    assert!(runtime.handle().ask(SLOW_PAGE).wait().is_ok());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                assert!(runtime.handle().ask(7).wait().is_ok());
            }
        });
        let (status, json, said) = freehold(&["top", &addr, "--every", "0.2", "--once", "--json"]);
        let (also, paper, _) =
            freehold(&["top", &format!("http://{addr}/metrics"), "--every", "0.2", "--once"]);
        ends.store(true, Ordering::Relaxed);
        assert_eq!((status, also), (Some(0), Some(0)), "{said}");
        let picture: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        assert!(picture["messages_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{json}");
        assert_eq!(picture["shards"].as_array().map(Vec::len), Some(2), "{json}");
        assert_eq!((&picture["touched"][0]["id"], &picture["log"]), (&"7".into(), &serde_json::Value::Null));
        // On a busy machine others are slow, too.
        let slow = picture["slow"].as_array().expect("a list");
        let is_it = |trace: &serde_json::Value| trace["took_seconds"].as_f64() >= Some(0.03);
        assert!(slow.iter().any(is_it) && picture["slow_messages"].as_f64() >= Some(1.0), "{json}");
        assert!(paper.contains("messages/s") && paper.contains("no stalls"), "{paper}");
    });
}

#[test]
fn it_says_what_is_wrong_with_an_address() {
    // A port that nobody listens on.
    let addr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let (status, _, said) = freehold(&["top", &addr.to_string(), "--every", "0.1", "--once"]);
    assert!(status == Some(1) && said.contains("the process does not answer"), "{said}");
    let (status, _, said) = freehold(&["top", "nowhere", "--every", "0.1", "--once"]);
    assert!(status == Some(1) && said.contains("give HOST:PORT"), "{said}");
    let (status, _, said) = freehold(&["top", "nowhere", "--json"]);
    assert!(status == Some(2) && said.contains("--once"), "{said}");
}
