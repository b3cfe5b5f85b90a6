//! The document, the dashboard and the rules name the numbers that there are.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use freehold::{Epoch, GateStats, Stats};
use freehold_metrics::text;

use super::{Message, ids, open};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names that Prometheus has: of a counter with `_total`, of a histogram without what its parts
/// add.
fn in_code() -> BTreeSet<String> {
    let (runtime, _directory) = open();
    let bank = runtime.handle();
    let [[here], _] = ids(&bank);
    bank.ask(Message::Add(here)).wait().expect("it is added");
    runtime.checkpoint().expect("there is a log");
    let mut stats = bank.stats();
    // Nobody waited, and so no object is named for that.
    stats.hot.waited = stats.hot.touched.clone();
    // Nor is a message stuck, or has this runtime a gate.
    (stats.shards[0].in_turn_for, stats.shards[0].running) = (Some(Duration::from_secs(9)), Some("Add"));
    stats.gates = vec![GateStats::default()];
    assert!(stats.epoch > Epoch(0) && !stats.hot.waited.is_empty());
    let name = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
    };
    text(&stats).lines().filter_map(name).collect()
}

/// Every word in `text` that begins as our names do.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_lowercase() && character != '_');
    words.filter(|word| is_of_a_runtime(word)).map(str::to_owned).collect()
}

/// Numbers of a node are that package's, whose own test looks at these files, too.
fn is_of_a_runtime(name: &str) -> bool {
    name.starts_with("freehold_") && !name.starts_with("freehold_replica_")
}

/// The same, of a histogram by its own name.
fn in_queries(text: &str) -> BTreeSet<String> {
    let histogram = |name: String| {
        let part = ["_bucket", "_count", "_sum"].into_iter().find_map(|part| name.strip_suffix(part));
        part.map(str::to_owned).unwrap_or(name)
    };
    named(text).into_iter().map(histogram).collect()
}

#[test]
fn the_document_has_each_number_in_a_row_of_its_own_and_no_other() {
    let page = read("docs/METRICS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `freehold_"));
    let documented = rows.map(|row| format!("freehold_{}", row.split('`').next().unwrap_or_default()));
    let documented: Vec<String> = documented.filter(|name| is_of_a_runtime(name)).collect();
    let once: BTreeSet<String> = documented.iter().cloned().collect();
    assert_eq!(once.len(), documented.len(), "a row comes twice");
    let in_code = in_code();
    let missing: Vec<_> = in_code.difference(&once).collect();
    let gone: Vec<_> = once.difference(&in_code).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in METRICS.md: {missing:?}; only there: {gone:?}");
    for row in page.lines().filter(|line| line.starts_with("| `freehold_")) {
        assert_eq!(row.matches('|').count(), 5, "a row has four columns: {row}");
    }
}

#[test]
fn dashboard_and_rules_ask_for_numbers_that_there_are() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("metrics/grafana/dashboard.json")).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let mut asked = BTreeSet::new();
    for panel in panels {
        let targets = panel["targets"].as_array().expect("a panel asks for something");
        for target in targets {
            let names = in_queries(target["expr"].as_str().expect("it has a query"));
            assert!(
                !names.is_empty() || target["expr"].to_string().contains("freehold_replica_"),
                "{target}"
            );
            asked.extend(names);
        }
    }
    let rules = in_queries(&read("metrics/prometheus/alerts.yml"));
    assert!(asked.len() > 15 && rules.len() > 8, "{asked:?} {rules:?}");
    let in_code = in_code();
    for name in asked.iter().chain(&rules) {
        assert!(in_code.contains(name), "{name} is not a number of Freehold");
    }
}

/// A number that is always zero looks like health.
#[test]
fn each_number_is_driven_by_a_test() {
    let driving = ["alerts", "counts", "gates", "logs", "sends"];
    let driven = driving.map(|file| in_queries(&read(&format!("metrics/tests/it/{file}.rs"))));
    let rest: Vec<_> =
        in_code().into_iter().filter(|name| !driven.iter().any(|names| names.contains(name))).collect();
    assert!(rest.is_empty(), "no test drives {rest:?}");
}

#[test]
fn a_query_for_a_part_of_a_histogram_is_one_for_the_histogram() {
    let query =
        "histogram_quantile(0.99, rate(freehold_answer_seconds_bucket[5m])) / freehold_objects{a=\"b\"}";
    assert_eq!(Vec::from_iter(in_queries(query)), ["freehold_answer_seconds", "freehold_objects"]);
}

/// A runtime that has done nothing has the same names, but for those of objects and of the log.
#[test]
fn numbers_are_there_from_the_start() {
    let of_nothing: BTreeSet<_> = named(&text(&Stats::default()));
    assert!(of_nothing.contains("freehold_uptime_seconds"));
    assert!(!of_nothing.contains("freehold_hot_touches"));
}
