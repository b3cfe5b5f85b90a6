//! Where the time of slow and sampled messages went: for people as JSON, and for a collector of
//! OpenTelemetry.
//!
//! The collector speaks OTLP over HTTP, in JSON (<https://opentelemetry.io/docs/specs/otlp/>): one
//! `POST` of an `ExportTraceServiceRequest`. In that encoding ids are hexadecimal, numbers of 64
//! bits are strings, and enums are numbers. A message is a trace of its own: one span for all of
//! its time, and below it a span for each stage and each wait for a lock.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freehold::{MessageTrace, Stats};
use serde_json::{Value, json};

/// How long the collector may take to be reached, and for each piece of its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most of its answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// The longest text that goes out, in characters: an id is as long as its `Debug` makes it.
const TEXT_CHARACTERS_MAX: usize = 256;

/// `SPAN_KIND_INTERNAL` and `SPAN_KIND_SERVER`.
const INTERNAL: u32 = 1;
const SERVER: u32 = 2;

/// [`Stats::slow`] and [`Stats::sampled`] as JSON: the page `/slow`.
///
/// ```
/// let json = freehold_metrics::slow_json(&freehold::Stats::default());
/// assert_eq!(json, r#"{"sampled":[],"slow":[],"slow_messages":0}"#);
/// ```
pub fn slow_json(stats: &Stats) -> String {
    let all = |traces: &[Arc<MessageTrace>]| traces.iter().map(|trace| of_trace(trace)).collect::<Value>();
    let page = json!({
        "slow_messages": stats.slow_messages,
        "slow": all(&stats.slow),
        "sampled": all(&stats.sampled),
    });
    page.to_string()
}

fn of_trace(trace: &MessageTrace) -> Value {
    let stages = trace.stages().map(|stage| {
        json!({"name": stage.name, "from_seconds": stage.from.as_secs_f64(), "to_seconds": stage.to.as_secs_f64()})
    });
    let waits = trace.waits.iter().map(|wait| {
        json!({
            "shard": wait.shard.0,
            "object": short(&wait.object),
            "ahead": wait.ahead,
            "behind": wait.behind,
            "from_seconds": wait.from.as_secs_f64(),
            "to_seconds": wait.to.as_secs_f64(),
        })
    });
    json!({
        "number": trace.number,
        "shard": trace.shard.0,
        "message": trace.message,
        "object": trace.object.as_deref().map(short),
        "route": trace.route.map(|route| format!("{route:?}").to_lowercase()),
        "messages": trace.messages,
        "answered_seconds": trace.answered.as_secs_f64(),
        "took_seconds": trace.took.as_secs_f64(),
        "is_exact": trace.is_exact,
        "stages": stages.collect::<Value>(),
        "waits": waits.collect::<Value>(),
    })
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARACTERS_MAX).collect()
}

/// Sends the traces of a runtime to an OpenTelemetry collector, each once.
///
/// The program calls [`TraceExporter::export`] now and then, from a thread of its own: it waits for
/// the collector, for five seconds at most.
///
/// ```no_run
/// # fn export<A: freehold::Actor>(runtime: &freehold::Runtime<A>) -> std::io::Result<()> {
/// use freehold_metrics::TraceExporter;
///
/// let mut exporter = TraceExporter::new("bank", "127.0.0.1:4318");
/// let handle = runtime.handle();
/// std::thread::spawn(move || {
///     loop {
///         std::thread::sleep(std::time::Duration::from_secs(1));
///         if let Err(error) = exporter.export(&handle.stats()) {
///             eprintln!("the collector does not take traces: {error}");
///         }
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub struct TraceExporter {
    service: String,
    collector: String,
    /// The first half of each trace's id, drawn at random: the other half is the trace's number.
    id: u64,
    last_number: u64,
}

impl fmt::Debug for TraceExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceExporter").field("collector", &self.collector).finish_non_exhaustive()
    }
}

impl TraceExporter {
    /// For a service of this name, to the collector at `HOST:PORT`: 4318 is the usual port of OTLP
    /// over HTTP. There is no TLS.
    pub fn new(service: impl Into<String>, collector: impl Into<String>) -> TraceExporter {
        // A hasher's keys are drawn from the system, and a half of zeros is no half of an id.
        let id = RandomState::new().hash_one(0) | 1;
        TraceExporter { service: service.into(), collector: collector.into(), id, last_number: 0 }
    }

    /// Sends the traces that have ended since the last call, and returns how many they were. If
    /// more ended than [`Stats`] keeps, the oldest are missed.
    ///
    /// # Errors
    /// The system's, or [`io::ErrorKind::Other`] with the collector's first line, if it refused
    /// them. The same traces are sent by the next call then.
    pub fn export(&mut self, stats: &Stats) -> io::Result<usize> {
        let Some((body, count, last_number)) = self.request(stats, SystemTime::now()) else { return Ok(0) };
        self.post(&body)?;
        self.last_number = last_number;
        Ok(count)
    }

    /// The request for traces that were not sent, how many, and the last of their numbers.
    fn request(&self, stats: &Stats, now: SystemTime) -> Option<(String, usize, u64)> {
        let started = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(stats.uptime);
        let all = stats.slow.iter().chain(&stats.sampled);
        let mut new: Vec<&Arc<MessageTrace>> = all.filter(|trace| trace.number > self.last_number).collect();
        new.sort_by_key(|trace| trace.number);
        // A slow one that was followed from its begin is in both lists.
        new.dedup_by_key(|trace| trace.number);
        let last = new.last()?.number;
        let spans: Vec<Value> = new.iter().flat_map(|trace| self.spans(trace, started)).collect();
        let request = json!({"resourceSpans": [{
            "resource": {"attributes": [text("service.name", &self.service)]},
            "scopeSpans": [{
                "scope": {"name": "freehold", "version": env!("CARGO_PKG_VERSION")},
                "spans": spans,
            }],
        }]});
        Some((request.to_string(), new.len(), last))
    }

    fn spans(&self, trace: &MessageTrace, started: Duration) -> Vec<Value> {
        let trace_id = format!("{:016x}{:016x}", self.id, trace.number);
        let begun = (started + trace.answered).saturating_sub(trace.took);
        let mut spans: Vec<Value> = Vec::new();
        let mut add = |name: &str, kind: u32, from: Duration, to: Duration, attributes: Vec<Value>| {
            let number = spans.len() as u64 + 1;
            let parent = if number > 1 { format!("{:016x}", 1) } else { String::new() };
            spans.push(json!({
                "traceId": trace_id,
                "spanId": format!("{number:016x}"),
                "parentSpanId": parent,
                "name": name,
                "kind": kind,
                "startTimeUnixNano": (begun + from).as_nanos().to_string(),
                "endTimeUnixNano": (begun + to).as_nanos().to_string(),
                "attributes": attributes,
            }));
        };
        let name = trace.message.filter(|name| !name.is_empty()).unwrap_or("message");
        let mut attributes = vec![
            number("freehold.shard", u64::from(trace.shard.0)),
            number("freehold.messages", u64::from(trace.messages)),
            json!({"key": "freehold.is_exact", "value": {"boolValue": trace.is_exact}}),
        ];
        attributes.extend(trace.object.as_deref().map(|object| text("freehold.object", object)));
        let route = trace.route.map(|route| format!("{route:?}").to_lowercase());
        attributes.extend(route.map(|route| text("freehold.route", &route)));
        add(name, SERVER, Duration::ZERO, trace.took, attributes);
        for stage in trace.stages() {
            add(stage.name, INTERNAL, stage.from, stage.to, Vec::new());
        }
        for wait in &trace.waits {
            let mut attributes = vec![
                number("freehold.shard", u64::from(wait.shard.0)),
                text("freehold.object", &wait.object),
                number("freehold.ahead", u64::from(wait.ahead)),
            ];
            attributes.extend(wait.behind.map(|kind| text("freehold.behind", kind)));
            add("lock wait", INTERNAL, wait.from, wait.to, attributes);
        }
        spans
    }

    fn post(&self, body: &str) -> io::Result<()> {
        let addr = self.collector.to_socket_addrs()?.next();
        let addr = addr.ok_or_else(|| io::Error::other(format!("{} is no address", self.collector)))?;
        let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.collector,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let line = answer.lines().next().unwrap_or_default();
        let status = line.split(' ').nth(1).unwrap_or_default();
        if status.len() == 3 && status.starts_with('2') {
            return Ok(());
        }
        Err(io::Error::other(format!("the collector answers: {line}")))
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": short(value)}})
}

fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}
