//! Where the time of slow messages went, from a real runtime to a program, to the page `/slow`, and
//! to a collector of OpenTelemetry.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use freehold::{Handle, MessageTrace, Route, Stats};
use freehold_metrics::{TraceExporter, serve};
use serde_json::Value;

use super::support::patience::Patience;
use super::{Counter, HOLD, Message, SLOW, get, ids, open, until};

/// Reads statistics until it is so.
fn seen(bank: &Handle<Counter>, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
    let mut patience = Patience::of(Duration::from_secs(30));
    loop {
        let stats = bank.stats();
        if is_so(&stats) {
            return stats;
        }
        assert!(!patience.is_over(), "never: {what}: {stats:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn stages(trace: &MessageTrace) -> Vec<&'static str> {
    trace.stages().map(|stage| stage.name).collect()
}

/// Holds a shard up until seven asks are slow, and lets go. The ids that were asked of, and the
/// statistics before and afterwards, these with the traces of those asks alone.
fn seven_slow(bank: &Handle<Counter>) -> ([u64; 2], Stats, Stats) {
    let [[here], [there]] = ids(bank);
    // The first ask of all is one of those that are followed from their begin.
    bank.ask(Message::Add(here)).wait().expect("it is added");
    // On a busy disk it may have been slow.
    let before = bank.stats();
    let first = before.slow.iter().chain(&before.sampled).map(|trace| trace.number).max().unwrap_or(0);
    let held = HOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let stuck = bank.ask(Message::Hold(there));
    seen(bank, "a turn goes on", |stats| stats.shards[1].in_turn_for.is_some());
    let batch = bank.ask_all([Message::Add(there), Message::Add(there)]);
    let mut asks: Vec<_> = (0..3).map(|_| bank.ask(Message::AddBoth(here, there))).collect();
    asks.extend((0..2).map(|_| bank.ask(Message::Add(there))));
    // They are counted while they last.
    seen(bank, "six are slow", |stats| stats.slow_messages - before.slow_messages == 6);
    drop(held);
    assert!(asks.into_iter().chain([stuck]).map(freehold::Ask::wait).all(|outcome| outcome.is_ok()));
    assert!(batch.wait().iter().all(Result::is_ok));
    let is_new = |trace: &Arc<MessageTrace>| trace.number > first;
    let all = |stats: &Stats| stats.slow.iter().filter(|trace| is_new(trace)).count() == 7;
    let mut after = seen(bank, "seven were answered", all);
    after.slow.retain(is_new);
    ([here, there], before, after)
}

#[test]
fn slow_messages_say_where_their_time_went() {
    let (runtime, _directory) = open();
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let ([here, there], before, stats) = seven_slow(&bank);
    assert_eq!(stats.slow_messages - before.slow_messages, 7, "{:#?}", stats.slow);
    assert!(stats.slow.iter().all(|trace| trace.took >= SLOW * 3 / 4));
    let of = |is_it: &dyn Fn(&MessageTrace) -> bool| -> Vec<Arc<MessageTrace>> {
        stats.slow.iter().filter(|trace| is_it(trace)).cloned().collect()
    };

    // Two of three waited for the lock that the first had, one behind the other.
    let waited = of(&|trace| !trace.waits.is_empty());
    let ahead: Vec<_> = waited.iter().map(|it| (it.waits.len(), it.waits[0].ahead)).collect();
    assert_eq!(ahead, [(1, 0), (1, 1)], "{waited:#?}");
    // The first waited for the one that had the lock, the second for the first: all of one kind.
    let behind = [waited[0].waits[0].behind, waited[1].waits[0].behind];
    assert_eq!(behind, [waited[0].message; 2], "{waited:#?}");
    for trace in &waited {
        let wait = &trace.waits[0];
        assert_eq!(
            (wait.shard.0, &*wait.object, trace.route),
            (0, &*here.to_string(), Some(Route::Consensus))
        );
        assert!(trace.message.is_some_and(|name| name.ends_with("Message")), "{trace:#?}");
        assert!(wait.from < wait.to && trace.ran >= Some(wait.to), "{trace:#?}");
        assert_eq!(stages(trace).last(), Some(&"durable"), "{trace:#?}");
    }

    // Two waited in the ingress for the turn to end.
    let there = there.to_string();
    let queued =
        of(&|trace| trace.route == Some(Route::Fast) && trace.object.as_ref().is_some_and(|id| *id == there));
    assert_eq!(queued.len(), 2, "{:#?}", stats.slow);
    for trace in &queued {
        let first = trace.stages().next().expect("it has some");
        assert!(first.name == "queued" && first.to >= SLOW && trace.shard.0 == 1, "{trace:#?}");
    }

    // One was run in that turn, and a batch waited for it.
    let ran = of(&|trace| trace.message.is_none() && trace.messages == 1);
    assert_eq!(ran.len(), 1, "{:#?}", stats.slow);
    let running = ran[0].stages().find(|stage| stage.name == "running").expect("it ran");
    assert!(running.to - running.from >= SLOW, "{ran:#?}");
    let batches = of(&|trace| trace.messages == 2);
    assert_eq!(batches.len(), 1, "{:#?}", stats.slow);

    // The page has the same, and metrics count them.
    let (status, page) = get(server.addr(), "/slow");
    let page: Value = serde_json::from_str(&page).expect("it is JSON");
    assert_eq!((status, &page["slow_messages"]), (200, &stats.slow_messages.into()));
    let numbers: Vec<_> = stats.slow.iter().map(|trace| trace.number).collect();
    let on_page = page["slow"].as_array().expect("a list").iter();
    let on_page: Vec<_> = on_page.map(|trace| trace["number"].as_u64().unwrap_or(0)).collect();
    assert!(on_page.ends_with(&numbers), "{on_page:?} {numbers:?}");
    let wait = page["slow"].as_array().into_iter().flatten().find_map(|trace| trace["waits"].get(0));
    assert_eq!(wait.expect("one waited")["object"], Value::from(here.to_string()));
    let counted = stats.slow_messages as f64;
    until(server.addr(), "they are counted", |page| page.sum("freehold_slow_messages_total", "") == counted);
}

#[test]
fn some_messages_that_are_not_slow_are_followed_from_their_begin_to_their_end() {
    let (runtime, _directory) = open();
    let bank = runtime.handle();
    let [[here], [there]] = ids(&bank);
    let route = |wanted: Route| {
        move |stats: &Stats| {
            let mut all = stats.sampled.iter();
            let is_it = |it: &&Arc<MessageTrace>| it.route == Some(wanted) && stages(it).len() == 3;
            all.find(is_it).cloned()
        }
    };
    let ask = |message: &dyn Fn() -> Message, wanted: Route| {
        let mut patience = Patience::of(Duration::from_secs(30));
        loop {
            let asks: Vec<_> = (0..512).map(|_| bank.ask(message())).collect();
            asks.into_iter().for_each(|ask| assert!(ask.wait().is_ok()));
            if let Some(trace) = route(wanted)(&bank.stats()) {
                return trace;
            }
            assert!(!patience.is_over(), "none of {wanted:?} is followed: {:#?}", bank.stats().sampled);
        }
    };
    for (wanted, trace) in [
        (Route::Fast, ask(&|| Message::Add(here), Route::Fast)),
        (Route::Consensus, ask(&|| Message::AddBoth(here, there), Route::Consensus)),
    ] {
        assert_eq!(stages(&trace), ["queued", "running", "durable"], "{wanted:?}");
        let ends: Vec<_> = trace.stages().map(|stage| stage.to).collect();
        assert!(ends.is_sorted() && ends[2] == trace.took && trace.is_exact, "{trace:#?}");
        assert_eq!(trace.object.as_deref(), Some(&*here.to_string()));
    }
}

/// Takes one request and answers it with this status. Its head and its body.
fn collect(listener: &TcpListener, status: &str) -> (String, Value) {
    let (mut stream, _) = listener.accept().expect("somebody comes");
    let mut request = Vec::new();
    let (head, length) = loop {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).expect("it sends");
        assert!(read > 0, "it ends too early");
        request.extend_from_slice(&bytes[..read]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
        break (head.to_owned(), length.parse::<usize>().expect("a number"));
    };
    let mut body = request.split_off(head.len() + 4);
    let read = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[read..]).expect("it sends all");
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{{}}");
    stream.write_all(answer.as_bytes()).expect("it reads");
    (head, serde_json::from_slice(&body).expect("it is JSON"))
}

fn hexadecimal(id: &Value, digits: usize) -> &str {
    let id = id.as_str().expect("an id is a string");
    let is_id = id.len() == digits && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_id && id.bytes().any(|byte| byte != b'0'), "{id}");
    id
}

fn nanoseconds(time: &Value) -> u64 {
    time.as_str().and_then(|time| time.parse().ok()).expect("64 bits are a string")
}

/// The traces of a request, as the specification has them: each by its id, with its spans by their
/// names.
fn traces(request: &Value) -> BTreeMap<String, Vec<&Value>> {
    let of_service = &request["resourceSpans"][0];
    let name = &of_service["resource"]["attributes"][0];
    assert_eq!((&name["key"], &name["value"]["stringValue"]), (&"service.name".into(), &"bank".into()));
    let mut traces: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for span in of_service["scopeSpans"][0]["spans"].as_array().expect("there are spans") {
        let id = hexadecimal(&span["traceId"], 32);
        hexadecimal(&span["spanId"], 16);
        assert!(nanoseconds(&span["startTimeUnixNano"]) <= nanoseconds(&span["endTimeUnixNano"]), "{span}");
        assert!(span["name"].is_string() && span["kind"].is_u64(), "{span}");
        traces.entry(id.to_owned()).or_default().push(span);
    }
    for spans in traces.values() {
        let ids: BTreeSet<_> = spans.iter().map(|span| span["spanId"].as_str()).collect();
        assert_eq!(ids.len(), spans.len(), "each span has its own id: {spans:#?}");
        let (roots, below): (Vec<&Value>, Vec<&Value>) =
            spans.iter().copied().partition(|span| span["parentSpanId"] == "");
        assert_eq!(roots.len(), 1, "{spans:#?}");
        assert!(below.iter().all(|span| span["parentSpanId"] == roots[0]["spanId"]), "{spans:#?}");
    }
    traces
}

#[test]
fn a_collector_of_opentelemetry_gets_each_trace_once() {
    let (runtime, _directory) = open();
    let bank = runtime.handle();
    let (_, _, stats) = seven_slow(&bank);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr: SocketAddr = listener.local_addr().expect("it has one");
    let mut exporter = TraceExporter::new("bank", addr.to_string());
    let mut exported = |stats: &Stats, status: &str| {
        std::thread::scope(|scope| {
            let collector = scope.spawn(|| collect(&listener, status));
            (exporter.export(stats), collector.join().expect("it gets a request"))
        })
    };
    // Refused, they are sent again.
    let (refused, (_, first)) = exported(&stats, "503 Service Unavailable");
    assert!(refused.is_err_and(|error| error.to_string().contains("503")));
    let (sent, (head, request)) = exported(&stats, "200 OK");
    let count = stats.slow.iter().chain(&stats.sampled).map(|it| it.number).collect::<BTreeSet<_>>().len();
    assert_eq!(sent.ok(), Some(count));
    assert!(head.starts_with("POST /v1/traces HTTP/1.1") && head.contains("application/json"), "{head}");
    let ids = |request| traces(request).into_keys().collect::<Vec<_>>();
    assert_eq!((ids(&first), ids(&request).len()), (ids(&request), count));
    // The spans of one are its stages and its waits.
    for trace in &stats.slow {
        let id = format!("{:016x}", trace.number);
        let all = traces(&request);
        let (_, spans) = all.iter().find(|(of, _)| of.ends_with(&id)).expect("it was sent");
        let names: Vec<&str> = spans.iter().filter_map(|span| span["name"].as_str()).skip(1).collect();
        let waits = trace.waits.iter().map(|_| "lock wait");
        assert_eq!(names, stages(trace).into_iter().chain(waits).collect::<Vec<_>>());
        let lasts =
            |span: &Value| nanoseconds(&span["endTimeUnixNano"]) - nanoseconds(&span["startTimeUnixNano"]);
        assert_eq!(u128::from(lasts(spans[0])), trace.took.as_nanos());
    }
    // What was sent is not sent again, and nobody is asked.
    drop(listener);
    assert_eq!(exporter.export(&stats).ok(), Some(0));
}
