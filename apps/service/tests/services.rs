//! The services, run as a user runs them, each from its start to its end.

#[path = "../../../tests/support/patience.rs"]
#[allow(dead_code, reason = "of it only some")]
mod patience;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use patience::Patience;
use rustix::process::{Pid, Signal, kill_process};

/// Where a service's program lies.
fn program(name: &str) -> &'static str {
    match name {
        "tokio_service" => env!("CARGO_BIN_EXE_tokio_service"),
        "tcp_per_core" => env!("CARGO_BIN_EXE_tcp_per_core"),
        _ => panic!("{name} is none of the services"),
    }
}

/// Nothing here takes a second. Whatever takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running service that has said where it listens. Killed if the test fails before its end.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program(name))
            .args(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let mut output = BufReader::new(child.stdout.take().expect("its output was piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("what it says is text");
        let address = line.split([' ', '/', ',']).find_map(|word| word.trim().parse().ok());
        let address = address.unwrap_or_else(|| panic!("{name} says {line:?} and not where it listens"));
        Server { child, output, address }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Client { reader: BufReader::new(stream) }
    }

    /// Sends a signal, waits for the end, and returns what else it said.
    fn stop(mut self, signal: Signal) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        let mut patience = Patience::of(PATIENCE);
        let status = loop {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None => assert!(!patience.is_over(), "it does not stop"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("what it says is text");
        (status, said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended, or its test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn send(&self, bytes: &[u8]) {
        self.reader.get_ref().write_all(bytes).expect("it reads");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("an answer comes");
        assert_eq!(line.pop(), Some('\n'), "the connection ended in {line:?}");
        line
    }

    fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\n").as_bytes());
        self.line()
    }

    fn assert_ended(mut self) {
        assert_eq!(self.reader.read(&mut [0]).expect("it ends in order"), 0);
    }
}

/// One request on a connection of its own: its status and the body of the answer.
fn http(server: &Server, method: &str, path: &str) -> (u16, String) {
    let mut client = server.connect();
    client.send(
        format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .as_bytes(),
    );
    let mut answer = String::new();
    client.reader.read_to_string(&mut answer).expect("the answer is text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {head:?}")), body.to_owned())
}

#[test]
fn tokio_service_counts() {
    let server = Server::start("tokio_service", &["--shards", "1"]);
    let counter = |id: u64, count: i64| (200, format!(r#"{{"id":{id},"count":{count}}}"#));

    assert_eq!(http(&server, "POST", "/counters/7/add/5"), counter(7, 5));
    assert_eq!(http(&server, "POST", "/counters/7/add/-8"), counter(7, -3));
    assert_eq!(http(&server, "GET", "/counters/7"), counter(7, -3));

    // What the actor refuses is left as it was.
    let (status, sentence) = http(&server, "GET", "/counters/8");
    assert!(status == 404 && sentence.contains("no counter 8"), "{status} {sentence}");
    assert_eq!(http(&server, "POST", &format!("/counters/9/add/{}", i64::MAX)), counter(9, i64::MAX));
    let (status, sentence) = http(&server, "POST", "/counters/9/add/1");
    assert!(status == 409 && sentence.contains("overflow"), "{status} {sentence}");
    assert_eq!(http(&server, "GET", "/counters/9"), counter(9, i64::MAX));
    assert_eq!(http(&server, "POST", "/counters/seven/add/1").0, 400);
    assert_eq!(http(&server, "GET", "/counters/7/add/1").0, 405);

    // Requests at the same time: none is lost.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                (0..20).for_each(|_| assert_eq!(http(&server, "POST", "/counters/10/add/1").0, 200))
            });
        }
    });
    assert_eq!(http(&server, "GET", "/counters/10"), counter(10, 160));

    // An answer may come before the statistics that count it.
    let mut patience = Patience::of(PATIENCE);
    let stats = loop {
        let (status, stats) = http(&server, "GET", "/stats");
        assert_eq!(status, 200, "{stats}");
        if stats.contains(r#""messages":168,"#) {
            break stats;
        }
        assert!(!patience.is_over(), "{stats}");
    };
    assert!(stats.starts_with(r#"{"objects":3,"messages":168,"overloaded":0"#), "{stats}");

    // A connection that is kept open and says nothing more does not keep the service from stopping.
    // It has had an answer: one that was never accepted is reset with the listener's queue and does
    // not end in order.
    let mut idle = server.connect();
    idle.send(b"GET /counters/7 HTTP/1.1\r\nHost: test\r\n\r\n");
    let head: Vec<String> = std::iter::repeat_with(|| idle.line()).take_while(|line| line != "\r").collect();
    assert_eq!(head[0], "HTTP/1.1 200 OK\r");
    idle.reader.read_exact(&mut vec![0; counter(7, -3).1.len()]).expect("the answer has a body");
    let (status, said) = server.stop(Signal::INT);
    assert!(
        status.success() && said.contains("169 messages on 1 shards, all of them to their end"),
        "{said}"
    );
    idle.assert_ended();
}

/// `STATS`, as numbers by their names.
fn stats(client: &mut Client) -> BTreeMap<String, u64> {
    let line = client.ask("STATS");
    let field = |field: &str| {
        let (name, value) = field.split_once('=').unwrap_or_else(|| panic!("not a field: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
    };
    line.split(' ').map(field).collect()
}

#[test]
fn tcp_per_core_stores() {
    let server = Server::start("tcp_per_core", &["--shards", "2"]);
    let mut client = server.connect();
    assert_eq!(client.ask("GET greeting"), "NONE");
    assert_eq!(client.ask("SET greeting hello  world "), "OK");
    assert_eq!(client.ask("GET greeting\r"), "hello  world ");
    assert_eq!(client.ask("INCR visits"), "1");
    assert_eq!(client.ask("INCR greeting"), "ERR the value is not a number");
    assert_eq!(client.ask("DEL greeting"), "OK");
    assert_eq!(client.ask("DEL greeting"), "NONE");
    assert_eq!(client.ask(&format!("SET limit {}", i64::MAX)), "OK");
    assert_eq!(client.ask("INCR limit"), "ERR the number is as large as it gets");

    // What is no command is answered, and the connection goes on.
    for bad in ["", "get x", "HELLO", "STATS now", "QUIT now"] {
        assert!(client.ask(bad).starts_with("ERR unknown command"), "{bad:?}");
    }
    for bad in ["GET", "GET ", "GET a b", "SET", "SET  x", &format!("GET {}", "k".repeat(33))] {
        assert!(client.ask(bad).starts_with("ERR a key"), "{bad:?}");
    }
    client.send(b"SET x \xff\xfe\n");
    assert_eq!(client.line(), "ERR a line is text in UTF-8");
    assert_eq!(client.ask(&format!("SET {} {}", "k".repeat(32), "v".repeat(4096 - 37))), "OK");
    for length in [4097, 5000, 8192, 8193, 100_000] {
        assert_eq!(client.ask(&"x".repeat(length)), "ERR a line is at most 4096 bytes", "{length}");
        assert_eq!(client.ask("GET visits"), "1", "after a line of {length}");
    }

    // Commands sent ahead are answered in their order, in whatever pieces they come.
    let ahead: String =
        (0..500).map(|number| format!("SET ahead{number} {number}\nGET ahead{number}\n")).collect();
    let mut answers = Vec::new();
    for piece in ahead.as_bytes().chunks(1000) {
        client.send(piece);
    }
    answers.extend((0..1000).map(|_| client.line()));
    let expected: Vec<_> = (0..500).flat_map(|number| ["OK".to_owned(), number.to_string()]).collect();
    assert_eq!(answers, expected);
    client.send(b"INCR visits\nQUIT\n");
    assert_eq!(client.line(), "2");
    client.assert_ended();

    // A client that has said all, as `nc` does at the end of its input, still gets its answers.
    let mut client = server.connect();
    client.send(b"INCR visits\nGET visits\nGET half a comm");
    client.reader.get_ref().shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!((client.line(), client.line()), ("3".into(), "3".into()));
    client.assert_ended();

    // Many connections at once, on both listeners; each sees what the others did, wherever they
    // were accepted.
    let mut clients: Vec<_> = (0..24).map(|_| server.connect()).collect();
    std::thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                assert_eq!(client.ask(&format!("SET client{number} {number}")), "OK");
                (0..25).for_each(|_| assert!(client.ask("INCR shared").parse::<u32>().is_ok()));
            });
        }
    });
    let mut by_shard = BTreeMap::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let other = (number + 7) % 24;
        assert_eq!(client.ask(&format!("GET client{other}")), other.to_string());
        assert_eq!(client.ask("GET shared"), "600");
        let stats = stats(client);
        by_shard.insert(stats["shard"], stats);
    }
    assert_eq!(by_shard.keys().collect::<Vec<_>>(), [&0, &1], "the kernel spreads connections over both");
    for stats in by_shard.values() {
        assert!(stats["here"] > 0 && stats["elsewhere"] > 0, "each shard runs what is its own: {stats:?}");
    }

    // It stops though connections are open, and each of them ends.
    let (status, said) = server.stop(Signal::TERM);
    assert!(status.success(), "{said}");
    assert!(said.contains("all of them to their end") && said.contains(" 0 tasks cancelled"), "{said}");
    clients.into_iter().for_each(Client::assert_ended);
}

#[test]
fn tcp_per_core_says_that_an_address_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = Command::new(program("tcp_per_core"))
        .args(["--shards", "1", "--listen", &address])
        .output()
        .expect("it starts");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use"), "{output:?}");
}
