//! The web service that has meals, and how it is called.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::{EntityNo, MEAL};

/// Asks the service for a meal.
pub(super) fn forage(
    service: SocketAddr,
    connection: &mut Option<BufReader<TcpStream>>,
    no: EntityNo,
) -> Option<u32> {
    if connection.is_none() {
        *connection = TcpStream::connect(service).ok().map(BufReader::new);
    }
    let stream = connection.as_mut()?;
    // In one piece: several small writes wait for each other's acknowledgement.
    let request = format!("GET /forage/{no} HTTP/1.1\r\nHost: world\r\n\r\n");
    let asked = stream.get_mut().write_all(request.as_bytes());
    let meal = asked.ok().and_then(|()| read_message(stream)).and_then(|(_, body)| body.parse().ok());
    if meal.is_none() {
        // The next call connects anew.
        *connection = None;
    }
    meal
}

/// Reads a request or an answer: its first line, and its body.
pub(super) fn read_message(stream: &mut impl BufRead) -> Option<(String, String)> {
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    stream.read_line(&mut first).ok().filter(|bytes| *bytes > 0)?;
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        if let Some(bytes) = line.strip_prefix("Content-Length: ") {
            length = bytes.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, String::from_utf8(body).ok()?))
}

/// The service: a meal for every request.
pub(super) fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            while read_message(&mut stream).is_some() {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{MEAL}");
                stream.get_mut().write_all(answer.as_bytes()).ok()?;
            }
            Some(())
        });
    }
}
