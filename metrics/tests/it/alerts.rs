//! The alert rules, by Prometheus itself: a healthy run and sick ones, each recognised by its own
//! alert and by no other.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use freehold_metrics::text;

use super::skip::skip;
use super::{Message, ids, open};

fn promtool(test: &str) -> Option<Command> {
    let command = std::env::var_os("PROMTOOL").unwrap_or("promtool".into());
    if Command::new(&command).arg("--version").output().is_err() {
        skip(test, "there is no `promtool` (of the package prometheus; or name it by PROMTOOL)");
        return None;
    }
    Some(Command::new(command))
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
