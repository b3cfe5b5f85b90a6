//! Pages about a runtime, over HTTP: `/metrics`, `/healthz`, `/readyz` and `/slow`.
//!
//! One thread takes connections, and each has a thread of its own for one request, at most
//! [`CONNECTIONS_MAX`] at a time. A client has [`PATIENCE`] for its request and for taking the
//! answer. No shard takes part: a page is made from what shards have published, so it comes while a
//! shard is stuck, too. There is no TLS and no password: bind to an address that only your
//! Prometheus reaches.
//!
//! | page | answers |
//! |---|---|
//! | `/metrics` | 200 and OpenMetrics text; 503 before the runtime has started |
//! | `/slow` | 200 and JSON: the last slow messages, and where their time went; 503 before that |
//! | `/healthz` | 200, also while it starts or stops; 503 with the cause if a shard has died |
//! | `/readyz` | 200 while messages are taken; else 503: starting, draining, stopping or dead |

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freehold::{Actor, Handle, Metric, Phase, Progress, Recovery, Stats};

use crate::text::{MetricsText, text};
use crate::traces::slow_json;

/// Requests that are answered at a time; more are refused.
const CONNECTIONS_MAX: usize = 16;
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Bytes that are read and thrown away behind a request.
const REST_BYTES_MAX: u64 = 64 << 10;
/// The most header fields of a request.
const HEADERS_MAX: usize = 64;
/// How long a client may take to send its request, and to take each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// After an accept that failed, as without a free descriptor.
const PAUSE: Duration = Duration::from_millis(50);

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages are about.
enum Source {
    /// There is no runtime yet; how far its log has been read, if that has begun.
    Starting(Option<Recovery>),
    Runtime(Box<dyn Fn() -> Stats + Send>),
}

/// Gives all its numbers to what it is given.
type Visit = Box<dyn Fn(&mut dyn FnMut(&Metric<'_>)) + Send>;

struct Shared {
    source: Mutex<Source>,
    /// What else has numbers.
    others: Mutex<Vec<Visit>>,
    connections: AtomicUsize,
    stops: AtomicBool,
}

impl Shared {
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page of numbers, with those of a runtime if there is one; `None` if there are none.
    fn numbers(&self, stats: Option<&Stats>) -> Option<Page> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if stats.is_none() && others.is_empty() {
            return None;
        }
        let mut page = MetricsText::new();
        if let Some(stats) = stats {
            stats.visit(|metric| page.add(metric));
        }
        others.iter().for_each(|visit| visit(&mut |metric| page.add(metric)));
        Some(Page { status: OK, content_type: OPEN_METRICS, body: page.end() })
    }
}

/// Serves the pages until it is dropped. Requests that it has taken are still answered then.
#[must_use = "the pages are served as long as this lives"]
pub struct Server {
    shared: Arc<Shared>,
    addr: SocketAddr,
    /// Empty once it has stopped.
    thread: Option<JoinHandle<()>>,
}

/// Serves the pages of the runtime that `handle` leads to, on threads of their own.
///
/// ```no_run
/// # fn serve<A: freehold::Actor>(runtime: &freehold::Runtime<A>) -> std::io::Result<()> {
/// let server = freehold_metrics::serve(runtime.handle(), "127.0.0.1:9100")?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The system's, if the address cannot be had. Nothing runs then.
pub fn serve<A: Actor>(handle: Handle<A>, addr: impl ToSocketAddrs) -> io::Result<Server> {
    let server = Server::starting(addr)?;
    server.ready(handle);
    Ok(server)
}

impl Server {
    /// Serves the pages before there is a runtime: `/healthz` says that the program is alive, and
    /// `/readyz` how far its log has been read.
    ///
    /// ```no_run
    /// # use freehold::{Actor, Config, LogConfig, Runtime};
    /// # fn open<A: Actor>() -> Result<(), Box<dyn std::error::Error>>
    /// # where
    /// #     A::State: serde::Serialize + serde::de::DeserializeOwned,
    /// #     A::Message: serde::Serialize + serde::de::DeserializeOwned,
    /// # {
    /// let server = freehold_metrics::Server::starting("127.0.0.1:9100")?;
    /// let log = LogConfig { progress: Some(server.progress()), ..LogConfig::at("/var/lib/bank") };
    /// let runtime = Runtime::<A>::open(Config::default(), log)?;
    /// server.ready(runtime.handle());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`serve`].
    pub fn starting(addr: impl ToSocketAddrs) -> io::Result<Server> {
        let listener = TcpListener::bind(addr)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            source: Mutex::new(Source::Starting(None)),
            others: Mutex::default(),
            connections: AtomicUsize::new(0),
            stops: AtomicBool::new(false),
        });
        let takes = shared.clone();
        let thread =
            std::thread::Builder::new().name("metrics".into()).spawn(move || take(&listener, &takes))?;
        Ok(Server { shared, addr, thread: Some(thread) })
    }

    /// Hears how far the log has been read, for [`LogConfig::progress`](freehold::LogConfig).
    pub fn progress(&self) -> Progress {
        let shared = self.shared.clone();
        Arc::new(move |recovery| {
            if let Source::Starting(progress) = &mut *shared.source() {
                *progress = Some(recovery);
            }
        })
    }

    /// The runtime has started: from now on the pages are about it.
    pub fn ready<A: Actor>(&self, handle: Handle<A>) {
        *self.shared.source() = Source::Runtime(Box::new(move || handle.stats()));
    }

    /// Serves other numbers on `/metrics`, too, from now on: those that `visit` goes through, of
    /// one name one after another. It is called for each request, and must not block. A standby of
    /// a replicated database has no runtime, and has these alone.
    pub fn also(&self, visit: impl Fn(&mut dyn FnMut(&Metric<'_>)) + Send + 'static) {
        self.shared.others.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(visit));
    }

    /// Where it listens: the port that the system chose, if it was asked for port 0.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Release);
        // Its thread waits in `accept`, and sees on the next connection that it stops.
        let mut here = self.addr;
        if here.ip().is_unspecified() {
            here.set_ip(if here.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() });
        }
        let woken = TcpStream::connect_timeout(&here, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            thread.join().expect("it does not panic");
        }
    }
}

/// Takes connections until the server stops.
fn take(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stops.load(Ordering::Acquire) {
            return;
        }
        let Ok((stream, _)) = accepted else {
            std::thread::sleep(PAUSE);
            continue;
        };
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            // Closed without an answer: whoever holds the others may be the reason.
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let answers = shared.clone();
        let answer = move || {
            // A client that has gone, or is too slow, has no answer.
            let _ = answer(stream, &answers);
            answers.connections.fetch_sub(1, Ordering::Relaxed);
        };
        if std::thread::Builder::new().name("metrics-page".into()).spawn(answer).is_err() {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Reads one request and answers it.
fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let page = match Request::read(&mut stream)? {
        Request::Get(path) => page(&path, shared),
        Request::Other => Page { status: 405, content_type: PLAIN, body: "GET only\n".into() },
        Request::Bad => Page { status: 400, content_type: PLAIN, body: "no request of HTTP\n".into() },
    };
    stream.write_all(page.response().as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    // A socket that is closed with bytes unread is reset, and the client may lose the answer.
    let mut rest = stream.take(REST_BYTES_MAX);
    io::copy(&mut rest, &mut io::sink()).map(drop)
}

enum Request {
    /// For this path, without what follows a `?`.
    Get(String),
    Other,
    Bad,
}

impl Request {
    fn read(stream: &mut TcpStream) -> io::Result<Request> {
        let deadline = Instant::now() + PATIENCE;
        let mut head = Vec::new();
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&head) {
                Ok(httparse::Status::Complete(_)) => {
                    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
                    let is_get = request.method == Some("GET");
                    return Ok(if is_get { Request::Get(path.to_owned()) } else { Request::Other });
                }
                Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES_MAX => {}
                Ok(httparse::Status::Partial) | Err(_) => return Ok(Request::Bad),
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 1024];
            match stream.read(&mut bytes)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => head.extend_from_slice(&bytes[..read]),
            }
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// A page as a server of the program's own gives it to a client: one on tokio, or in a task of a
/// shard.
///
/// ```
/// # fn answer(stats: &freehold::Stats, path: &str) -> String {
/// let page = freehold_metrics::Page::of(stats, path);
/// page.response()
/// # }
/// # let response = answer(&freehold::Stats::default(), "/healthz?of=it");
/// # assert!(response.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain"), "{response}");
/// # assert!(answer(&freehold::Stats::default(), "/").starts_with("HTTP/1.1 404 Not Found\r\n"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status of HTTP: 200, 404 or 503; of [`Server`] also 400 and 405.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Page {
    /// The page of this path about a runtime: `/metrics`, `/slow`, `/healthz` or `/readyz`. What
    /// follows a `?` in the path is ignored.
    pub fn of(stats: &Stats, path: &str) -> Page {
        let path = path.split('?').next().unwrap_or_default();
        of_runtime(stats, path, || text(stats))
    }

    /// The whole response: head and body, behind which the connection is closed.
    pub fn response(&self) -> String {
        let Page { status, content_type, body } = self;
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Service Unavailable",
        };
        let length = body.len();
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }
}

fn page(path: &str, shared: &Shared) -> Page {
    let stats = match &*shared.source() {
        Source::Starting(recovery) => return starting(path, *recovery, shared),
        Source::Runtime(stats) => stats(),
    };
    let numbers = || shared.numbers(Some(&stats)).map(|page| page.body).unwrap_or_default();
    of_runtime(&stats, path, numbers)
}

fn of_runtime(stats: &Stats, path: &str, numbers: impl FnOnce() -> String) -> Page {
    let phase = match stats.phase {
        Phase::Running => "running",
        Phase::Draining => "draining: what it has accepted runs to its end",
        Phase::Stopping => "stopping",
        Phase::Dead => "dead",
    };
    let mut text_of_phase = format!("{phase}\n");
    for death in &stats.deaths {
        let _ = writeln!(text_of_phase, "{death}");
    }
    match path {
        "/metrics" => Page { status: OK, content_type: OPEN_METRICS, body: numbers() },
        "/slow" => Page { status: OK, content_type: JSON, body: slow_json(stats) },
        "/healthz" => says(if stats.phase != Phase::Dead { OK } else { UNAVAILABLE }, text_of_phase),
        "/readyz" => says(if stats.phase == Phase::Running { OK } else { UNAVAILABLE }, text_of_phase),
        _ => not_found(),
    }
}

fn starting(path: &str, recovery: Option<Recovery>, shared: &Shared) -> Page {
    let text = match recovery {
        None => "starting\n".to_owned(),
        Some(recovery) => format!("starting: {recovery}\n"),
    };
    match path {
        "/healthz" => says(OK, text),
        "/readyz" | "/slow" => says(UNAVAILABLE, text),
        "/metrics" => shared.numbers(None).unwrap_or_else(|| says(UNAVAILABLE, text)),
        _ => not_found(),
    }
}

const OK: u16 = 200;
const UNAVAILABLE: u16 = 503;

fn says(status: u16, body: String) -> Page {
    Page { status, content_type: PLAIN, body }
}

fn not_found() -> Page {
    let body = "/metrics, /healthz, /readyz and /slow are here\n".to_owned();
    Page { status: 404, content_type: PLAIN, body }
}
