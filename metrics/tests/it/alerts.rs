//! The alert rules, by Prometheus itself: a healthy run and sick ones, each recognised by its own
//! alert and by no other. And a real Prometheus that scrapes a real runtime.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use freehold::{LogConfig, Runtime, ShardStats};
use freehold_metrics::{serve, text};
use serde_json::Value;

use super::forgetful::Served;
use super::support::patience::Patience;
use super::support::skip::skip;
use super::{Counter, HOLD, Message, config, ids, open, request};

/// A program of the package prometheus: `promtool`, or `prometheus`.
fn program(name: &str, test: &str) -> Option<Command> {
    // PROMETHEUS_BIN names a folder that has them, if they are not installed.
    let folder = std::env::var_os("PROMETHEUS_BIN").unwrap_or_default();
    let command = Path::new(&folder).join(name);
    if Command::new(&command).arg("--version").output().is_err() {
        skip(test, &format!("there is no `{name}` (of the package prometheus)"));
        return None;
    }
    Some(Command::new(command))
}

fn promtool(test: &str) -> Option<Command> {
    program("promtool", test)
}

/// A Prometheus that ends with the test.
struct Prometheus {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes this page five times a second, and goes by our rules with these words replaced.
    fn start(mut program: Command, at: &Path, page: SocketAddr, replaced: &[(&str, &str)]) -> Prometheus {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus/alerts.yml");
        let mut rules = std::fs::read_to_string(rules).expect("the rules are there");
        for (words, others) in replaced {
            assert!(rules.contains(words), "{words}");
            rules = rules.replace(words, others);
        }
        std::fs::write(at.join("alerts.yml"), rules).expect("there is room");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs: [{{job_name: bank, static_configs: [{{targets: ['{page}']}}]}}]\n",
        );
        std::fs::write(at.join("prometheus.yml"), config).expect("there is room");
        let addr =
            TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port is free");
        let child = program
            .current_dir(at)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={addr}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("it was there a moment ago");
        Prometheus { child, addr }
    }

    /// Waits until these alerts fire, and no other.
    fn until_firing(&self, what: &str, alerts: &[&str]) {
        self.until("/api/v1/alerts", what, |data| data["alerts"].is_array() && firing(data) == alerts);
    }

    /// Asks its API until the answer's `data` is as wanted.
    fn until(&self, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
        let mut patience = Patience::of(Duration::from_secs(60));
        loop {
            let answer = std::net::TcpStream::connect(self.addr)
                .map(|_| request(self.addr, &format!("GET {path} HTTP/1.0\r\n\r\n")).1);
            let json: Value =
                answer.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            if is_so(&json["data"]) {
                return;
            }
            assert!(!patience.is_over(), "never: {what}: {json}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The names of the alerts that fire.
fn firing(data: &Value) -> Vec<&str> {
    let alerts = data["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    let fire = alerts.iter().filter(|alert| alert["state"] == "firing");
    fire.filter_map(|alert| alert["labels"]["alertname"].as_str()).collect()
}

#[test]
fn a_real_prometheus_scrapes_a_runtime_and_raises_the_alert_of_a_stuck_handler() {
    let test = "a_real_prometheus_scrapes_a_runtime_and_raises_the_alert_of_a_stuck_handler";
    let Some(prometheus) = program("prometheus", test) else { return };
    let (runtime, directory) = open();
    let bank = runtime.handle();
    let [[here], _] = ids(&bank);
    bank.ask(Message::Add(here)).wait().expect("it is added");
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");

    // As the rules are, but for the seconds after which a handler is stuck.
    let soon = [("freehold_in_turn_seconds > 5", "freehold_in_turn_seconds > 0.5")];
    let prometheus = Prometheus::start(prometheus, directory.path(), server.addr(), &soon);

    prometheus.until("/api/v1/query?query=freehold_messages_total", "it has our numbers", |data| {
        data["result"].as_array().is_some_and(|series| series.len() == 2 * 7)
    });
    prometheus.until("/api/v1/rules", "it evaluates the rules", |data| {
        let rules = data["groups"][0]["rules"].as_array();
        rules.is_some_and(|rules| rules.len() == 14 && rules.iter().all(|rule| rule["health"] == "ok"))
    });
    prometheus.until_firing("a healthy run has no alert", &[]);
    let held = HOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let stuck = bank.ask(Message::Hold(here));
    prometheus.until_firing("the handler is stuck", &["FreeholdStuckHandler"]);
    drop(held);
    stuck.wait().expect("it comes back");
    prometheus.until_firing("all is well again", &[]);
}

/// Rates of some seconds, and not of minutes.
const SOON: [(&str, &str); 4] =
    [("[5m]", "[5s]"), ("[1m]", "[5s]"), ("for: 2m", "for: 1s"), ("for: 1m", "for: 1s")];

/// Does this on a thread of its own again and again, until what is returned is dropped.
struct Load {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn of(mut work: impl FnMut() + Send + 'static) -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let seen = ends.clone();
        let work = move || {
            while !seen.load(Ordering::Relaxed) {
                work();
            }
        };
        Load { ends, thread: Some(std::thread::spawn(work)) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

#[test]
fn a_hot_object_raises_its_alert_and_no_other() {
    let test = "a_hot_object_raises_its_alert_and_no_other";
    let Some(prometheus) = program("prometheus", test) else { return };
    let (runtime, directory) = open();
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let [[hot, ..], others] = ids::<256>(&bank);
    let prometheus = Prometheus::start(prometheus, directory.path(), server.addr(), &SOON);
    let _load = Load::of(move || {
        let outcomes = bank.ask_all(others.map(|other| Message::AddBoth(hot, other))).wait();
        assert!(outcomes.iter().all(Result::is_ok));
    });
    prometheus.until_firing("an object is hot", &["FreeholdHotObject"]);
    let query = "/api/v1/query?query=freehold_hot_waits";
    let id = hot.to_string();
    prometheus.until(query, "it is that one", |data| {
        let series = data["result"].as_array();
        series.is_some_and(|them| them.iter().any(|one| one["metric"]["id"] == *id))
    });
}

#[test]
fn a_slow_disk_raises_its_alert_and_no_other() {
    let test = "a_slow_disk_raises_its_alert_and_no_other";
    let Some(prometheus) = program("prometheus", test) else { return };
    let mut disk = match Served::mounted(1) {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    let directory = tempfile::tempdir().expect("there is room");
    let runtime =
        Runtime::<Counter>::open(config(1), LogConfig::at(disk.at())).expect("it starts on this machine");
    let bank = runtime.handle();
    let server = serve(bank.clone(), "127.0.0.1:0").expect("a port is free");
    let prometheus = Prometheus::start(prometheus, directory.path(), server.addr(), &SOON);
    let _load = Load::of(move || {
        disk.hang();
        let ask = bank.ask(Message::Add(1));
        let takes = |shard: &ShardStats| shard.in_log_write_for > Some(Duration::from_millis(150));
        while !takes(&bank.stats().shards[0]) {
            std::thread::sleep(Duration::from_millis(5));
        }
        disk.go_on();
        assert!(ask.wait().is_ok());
    });
    prometheus.until_firing("the disk is slow", &["FreeholdSlowDisk"]);
}

#[test]
fn prometheus_takes_the_rules_and_tells_sick_runs_apart() {
    let Some(mut promtool) = promtool("prometheus_takes_the_rules_and_tells_sick_runs_apart") else { return };
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus");
    let output = promtool
        .current_dir(rules)
        .args(["test", "rules", "alerts_test.yml"])
        .output()
        .expect("it was there a moment ago");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_reads_the_page() {
    let Some(mut promtool) = promtool("prometheus_reads_the_page") else { return };
    let (runtime, _directory) = open();
    let bank = runtime.handle();
    let [[here], [there]] = ids(&bank);
    bank.ask(Message::AddBoth(here, there)).wait().expect("they are added");
    let mut child = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was there a moment ago");
    // It reads the older text format, which has no end mark and no units, and is else the same.
    let page = text(&bank.stats());
    let lines = page.lines().filter(|line| !line.starts_with("# UNIT") && *line != "# EOF");
    let older: String = lines.map(|line| format!("{line}\n")).collect();
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(older.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("error while linting"), "{said}");
}
