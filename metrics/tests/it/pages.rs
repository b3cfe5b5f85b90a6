//! The pages through a runtime's life, and requests that are none.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use freehold::{LogConfig, Runtime, glommio};
use freehold_metrics::{Page, Server, serve};
use futures::{AsyncReadExt, AsyncWriteExt};

use super::support::patience::Patience;
use super::{Counter, Message, config, get, ids, open, request};

#[test]
fn the_pages_follow_a_runtime_from_its_start_to_its_end() {
    let directory = tempfile::tempdir().expect("there is a place for a log");
    let server = Server::starting("127.0.0.1:0").expect("a port is free");
    assert_eq!(get(server.addr(), "/healthz"), (200, "starting\n".into()));
    assert_eq!(get(server.addr(), "/readyz"), (503, "starting\n".into()));
    assert_eq!(get(server.addr(), "/metrics"), (503, "starting\n".into()));

    let log = || LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory.path().join("log")) };
    let first = Runtime::<Counter>::open(config(1), log()).expect("it starts");
    first.handle().ask(Message::Add(1)).wait().expect("it is added");
    drop(first);
    // The log of the first is read, and the page says how far.
    let log = LogConfig { progress: Some(server.progress()), ..log() };
    let runtime = Runtime::<Counter>::open(config(1), log).expect("it starts again");
    let (status, text) = get(server.addr(), "/readyz");
    assert!(status == 503 && text.starts_with("starting: "), "{text}");

    server.ready(runtime.handle());
    assert_eq!(get(server.addr(), "/readyz"), (200, "running\n".into()));
    assert_eq!(get(server.addr(), "/healthz?verbose=1").0, 200);
    runtime.shutdown();
    assert_eq!(get(server.addr(), "/readyz"), (503, "stopping\n".into()));
    assert_eq!(get(server.addr(), "/healthz"), (200, "stopping\n".into()));
    let (status, text) = get(server.addr(), "/metrics");
    assert!(status == 200 && text.contains("freehold_phase{phase=\"stopping\"} 1"), "{text}");
}

/// A server in a task of a shard, which answers one request with the page of its path.
#[test]
fn a_task_of_a_shard_serves_pages() {
    let (runtime, _directory) = open();
    let (listens, addr) = std::sync::mpsc::channel();
    let served = runtime.on_each_shard(move |local| {
        let listens = listens.clone();
        async move {
            if local.shard().index() > 0 {
                return;
            }
            let listener = glommio::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
            listens.send(listener.local_addr().expect("it has one")).expect("the test waits for it");
            let mut stream = listener.accept().await.expect("one comes");
            let (mut head, mut bytes) = (Vec::new(), [0; 256]);
            while !head.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut bytes).await.expect("it is sent");
                head.extend_from_slice(&bytes[..read]);
            }
            let head = String::from_utf8(head).expect("it is text");
            let path = head.split(' ').nth(1).expect("it has a path");
            let page = Page::of(&local.handle().stats(), path);
            stream.write_all(page.response().as_bytes()).await.expect("it is read");
        }
    });
    let (status, text) = get(addr.recv().expect("it listens"), "/metrics?of=all");
    assert_eq!(status, 200);
    assert!(text.contains("freehold_tasks{shard=\"0\"} 1"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(served.wait().iter().all(Result::is_ok));
}

#[test]
fn a_runtime_whose_shard_has_died_is_not_healthy_and_says_why() {
    let (runtime, _directory) = open();
    let server = serve(runtime.handle(), "127.0.0.1:0").expect("a port is free");
    let killer = runtime.on_each_shard(|_| async {
        // A task past the runtime's watch: its panic is the shard's. Not in its first step, which
        // is a part of this task.
        let dies = async {
            glommio::timer::sleep(Duration::from_millis(1)).await;
            panic!("broken on purpose")
        };
        glommio::spawn_local(dies).detach();
        std::future::pending::<()>().await;
    });
    drop(killer.wait());
    let mut patience = Patience::of(Duration::from_secs(30));
    while get(server.addr(), "/healthz").0 == 200 {
        assert!(!patience.is_over(), "it does not die");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (_, text) = get(server.addr(), "/healthz");
    assert!(text.starts_with("dead\n") && text.contains("broken on purpose"), "{text}");
    let (_, text) = get(server.addr(), "/metrics");
    assert!(text.contains("freehold_phase{phase=\"dead\"} 1"), "{text}");
}

#[test]
fn what_is_no_request_for_a_page_gets_an_answer_that_says_so() {
    let (runtime, _directory) = open();
    let server = serve(runtime.handle(), "127.0.0.1:0").expect("a port is free");
    let addr = server.addr();
    assert_eq!(get(addr, "/"), (404, "/metrics, /healthz, /readyz and /slow are here\n".into()));
    assert_eq!(request(addr, "POST /metrics HTTP/1.1\r\n\r\n").0, 405);
    assert_eq!(request(addr, "what is this\r\n\r\n").0, 400);
    // Most of it lies unread when the answer is known, and must not cost the client the answer.
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n", "x".repeat(48 << 10));
    assert_eq!(request(addr, &long).0, 400);
    let many: String = (0..80).map(|at| format!("X-{at}: x\r\n")).collect();
    assert_eq!(request(addr, &format!("GET /metrics HTTP/1.1\r\n{many}\r\n")).0, 400);
}

/// Clients that say nothing take no more than their share, and nothing is left of them.
#[test]
fn silent_clients_do_not_stop_the_server_from_ending() {
    let (runtime, _directory) = open();
    let [[id], _] = ids::<1>(&runtime.handle());
    runtime.handle().ask(Message::Add(id)).wait().expect("it is added");
    let server = serve(runtime.handle(), "127.0.0.1:0").expect("a port is free");
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(server.addr()).expect("it listens")).collect();
    (&silent[0]).write_all(b"GET /met").expect("it reads");
    assert_eq!(get(server.addr(), "/readyz").0, 200);
    let addr = server.addr();
    drop(server);
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
}
