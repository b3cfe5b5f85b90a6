//! The example program `limiter`, run as a user runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use crate::example;

/// Sends a request, and reads the status and the body of the answer.
fn request(stream: &mut BufReader<TcpStream>, request: &str) -> (u16, String) {
    let request = format!("{request} HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).expect("it listens");
    let mut line = String::new();
    stream.read_line(&mut line).expect("it answers");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).expect("its headers have an end");
        if let Some((name, bytes)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("Content-Length")
        {
            length = bytes.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("it has a body");
    (status, String::from_utf8(body).expect("it is text"))
}

#[test]
fn the_limiter_serves_sessions_until_its_input_ends() {
    let mut child = example("limiter")
        .args(["127.0.0.1:0", "3", "3600"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it is text");
    let address = line.trim_end().strip_prefix("listening on http://").expect("it says where");
    let mut stream = BufReader::new(TcpStream::connect(address).expect("it listens"));
    let mut ask = |line: &str| request(&mut stream, line);

    let (status, body) = ask("POST /login/acme");
    let session = body.trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
    assert_eq!((status, &*body), (200, &*format!("{{\"session\":{session}}}")));
    let used = [(); 4].map(|()| ask(&format!("POST /use/acme/{session}")));
    let left = |left| (200, format!("{{\"left\":{left}}}"));
    assert_eq!(used[..3], [left(2), left(1), left(0)]);
    assert_eq!(used[3].0, 429, "{used:?}");
    let (status, body) = ask("GET /sessions/acme");
    assert_eq!((status, &*body), (200, &*format!("[{{\"session\":{session},\"uses\":3}}]")));
    assert_eq!(ask(&format!("POST /use/other/{session}")).0, 401, "a session is of one tenant");
    assert_eq!(ask(&format!("POST /logout/acme/{session}")).0, 200);
    assert_eq!(ask(&format!("POST /use/acme/{session}")).0, 401);
    assert_eq!(ask("GET /sessions/acme"), (200, "[]".to_owned()));
    assert_eq!(ask("GET /nothing").0, 404);

    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
    let mut report = String::new();
    said.read_to_string(&mut report).expect("it is text");
    assert!(report.contains("all of them to their end"), "{report}");
}

#[test]
fn a_limit_of_nothing_is_refused() {
    let output = example("limiter").args(["127.0.0.1:0", "0"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("limiter [ADDRESS [BURST [SECONDS]]]"), "{output:?}");
}
