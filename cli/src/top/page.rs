//! The page `/metrics` of a process: how it is fetched, and what is on it.
//!
//! The format is that of OpenMetrics and of Prometheus before it, as far as numbers go: lines of a
//! name, labels in braces, and a number. Comments, times and exemplars are skipped. What is no such
//! line is an error: the address is of something else.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::slow::{SlowPicture, slow_of};

/// How long the process may take to answer, for each piece of the page.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest page, in bytes: that of 256 shards is some 10 MiB.
const PAGE_BYTES_MAX: u64 = 64 << 20;

/// Why a page could not be read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is no address.
    Address(String),
    /// The process cannot be reached.
    Unreachable(io::Error),
    /// It answered something else: the first line.
    Refused(String),
    /// It answered a page that has no numbers of Freehold.
    Other(&'static str),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Address(addr) => write!(f, "{addr} is no address: give HOST:PORT, as 127.0.0.1:9100"),
            Trouble::Unreachable(error) => write!(f, "the process does not answer: {error}"),
            Trouble::Refused(line) => write!(f, "the process answers: {line}"),
            Trouble::Other(why) => write!(f, "this is no page of Freehold's metrics: {why}"),
        }
    }
}

/// A number's labels.
pub(super) type Labels = BTreeMap<String, String>;

/// The numbers of one page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) read: Instant,
    /// The last slow messages, the latest first.
    pub(super) slow: Vec<SlowPicture>,
    numbers: BTreeMap<String, Vec<(Labels, f64)>>,
}

impl Page {
    /// Asks the process for its page.
    pub(super) fn fetch(addr: &str) -> Result<Page, Trouble> {
        let rest = addr.strip_prefix("http://").unwrap_or(addr);
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/metrics"),
        };
        let no_address = |_| Trouble::Address(addr.to_owned());
        let to = host.to_socket_addrs().map_err(no_address)?.next();
        let to = to.ok_or_else(|| Trouble::Address(addr.to_owned()))?;
        let answer = ask(to, host, path).map_err(Trouble::Unreachable)?;
        let (head, text) = answer.split_once("\r\n\r\n").ok_or(Trouble::Other("no answer of HTTP"))?;
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            let said = text.lines().next().unwrap_or_default();
            return Err(Trouble::Refused(format!("{status}: {said}")));
        }
        let page = Page::of(text, Instant::now())?;
        // Beside the page of the numbers.
        let beside = format!("{}/slow", path.rsplit_once('/').map_or("", |(folder, _)| folder));
        let slow = ask(to, host, &beside).unwrap_or_default();
        let slow = slow.split_once("\r\n\r\n").map_or_else(Vec::new, |(_, text)| slow_of(text));
        Ok(Page { slow, ..page })
    }

    /// The numbers of this text, which was read then.
    pub(super) fn of(text: &str, read: Instant) -> Result<Page, Trouble> {
        let mut numbers: BTreeMap<String, Vec<(Labels, f64)>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, labels, number) = number(line).ok_or(Trouble::Other("a line is no number"))?;
            if let Some(name) = name.strip_prefix("freehold_") {
                numbers.entry(name.to_owned()).or_default().push((labels, number));
            }
        }
        if numbers.is_empty() {
            return Err(Trouble::Other("no name begins with `freehold_`"));
        }
        Ok(Page { read, slow: Vec::new(), numbers })
    }

    /// The numbers of a name, which is without `freehold_`.
    pub(super) fn all(&self, name: &str) -> &[(Labels, f64)] {
        self.numbers.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sum of a name's numbers with these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has =
            |of: &Labels| labels.iter().all(|(name, value)| of.get(*name).is_some_and(|it| it == value));
        // Not by `sum`: that of nothing is -0.
        self.all(name).iter().filter(|(of, _)| has(of)).fold(0.0, |sum, (_, number)| sum + number)
    }

    /// The sum of a name's numbers, if it has any.
    pub(super) fn maybe(&self, name: &str) -> Option<f64> {
        (!self.all(name).is_empty()).then(|| self.sum(name, &[]))
    }
}

/// One request of HTTP 1.0, which is answered in one piece.
fn ask(to: std::net::SocketAddr, host: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// A line: its name, labels and number.
fn number(line: &str) -> Option<(&str, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"")?;
            let (value, behind) = unescaped(value)?;
            labels.insert(label.trim_start_matches(',').to_owned(), value);
            rest = behind;
        }
        rest = &rest[1..];
    }
    let number = rest.split_whitespace().next()?;
    Some((name, labels, number.parse().ok()?))
}

/// The value of a label up to its quote, and what comes behind that.
fn unescaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_labels_and_a_number() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        assert_eq!(number("a 1"), Some(("a", labels(&[]), 1.0)));
        assert_eq!(number("a{} 1.5 1700000000"), Some(("a", labels(&[]), 1.5)));
        let line = r#"a{id="K(\"x}\\\n\")",shard="0"} 2e3 # {trace="1"} 1"#;
        assert_eq!(number(line), Some(("a", labels(&[("id", "K(\"x}\\\n\")"), ("shard", "0")]), 2000.0)));
        for wrong in ["", "a", "a{", "a{b} 1", "a{b=\"c 1", "a x"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pages_of_others_are_refused() {
        let page = |text| Page::of(text, Instant::now()).map(drop).map_err(|trouble| trouble.to_string());
        assert!(page("<html>\n").is_err_and(|said| said.contains("a line is no number")));
        assert!(page("go_goroutines 7\n").is_err_and(|said| said.contains("freehold_")));
        assert_eq!(page("# HELP x y\nfreehold_objects{shard=\"0\"} 7\ngo_goroutines 7\n# EOF\n"), Ok(()));
    }
}
