//! What a node says of itself to those who watch it: its numbers, and the command for its stream.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use freehold_metrics::Server;
use freehold_replica::Replicated;

use super::bank::Bank;
use super::servers::{LOGINS, Servers};
use super::support::Watchdog;
use super::{open, pay, until};

/// The numbers of a node, as its page has them.
fn page(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.addr()).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it reads");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("it answers");
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("# EOF\n"), "{page}");
    page
}

fn number(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
}

fn serve(node: &Replicated<Bank>) -> Server {
    let server = Server::starting("127.0.0.1:0").expect("a port is free");
    server.also(node.metrics());
    if let Some(bank) = node.handle() {
        server.ready(bank);
    }
    server
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every name of a node's numbers in a text; of a histogram without what its parts add.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_lowercase() && character != '_');
    let names = words.filter(|word| word.starts_with("freehold_replica_"));
    names
        .map(|name| {
            ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
        })
        .map(str::to_string)
        .collect()
}

#[test]
fn a_nodes_numbers_are_on_its_page_and_in_the_documents() {
    let _watchdog = Watchdog::new("a_nodes_numbers_are_on_its_page_and_in_the_documents");
    let Some(servers) = Servers::start("a_nodes_numbers_are_on_its_page_and_in_the_documents", 1) else {
        return;
    };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..10);
    let made = a.checkpoint().expect("it is made");
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    until(&b, |status| status.epoch >= a.status().epoch && status.stream_bytes > 0);
    let (owner, standby) = (page(&serve(&a)), page(&serve(&b)));
    assert_eq!(number(&owner, "freehold_replica_role{role=\"owner\"}"), 1.0);
    assert_eq!(number(&standby, "freehold_replica_role{role=\"standby\"}"), 1.0);
    assert!(owner.contains("freehold_phase{") && !standby.contains("freehold_phase{"), "it has no runtime");
    for page in [&owner, &standby] {
        assert_eq!(number(page, "freehold_replica_term"), 1.0);
        assert_eq!(number(page, "freehold_replica_checkpoint_bytes"), made.bytes as f64);
        assert!(number(page, "freehold_replica_checkpoint_age_seconds") >= 0.0);
        assert!(number(page, "freehold_replica_stream_bytes") > 0.0);
    }
    assert!(number(&owner, "freehold_replica_append_seconds_count") >= 10.0);
    assert!(number(&owner, "freehold_replica_append_seconds_sum") > 0.0);
    assert_eq!(number(&owner, "freehold_replica_checkpoints_total{outcome=\"made\"}"), 1.0);
    assert_eq!(number(&standby, "freehold_replica_restored_total"), 1.0);
    assert_eq!(number(&standby, "freehold_replica_lag_entries"), 0.0);
    // A page names all that the document has, and no other; and what dashboard and rules ask for.
    let family = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(if kind == "counter" { format!("{name}_total") } else { name.to_string() })
    };
    let is_ours = |name: &String| name.starts_with("freehold_replica_");
    let on_page: BTreeSet<_> = owner.lines().filter_map(family).filter(is_ours).collect();
    let document = read("docs/METRICS.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `freehold_replica_"));
    let rows: Vec<_> =
        rows.map(|row| format!("freehold_replica_{}", row.split('`').next().unwrap())).collect();
    assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), on_page);
    assert_eq!(rows.len(), on_page.len(), "a row comes twice");
    for (path, least) in [("metrics/grafana/dashboard.json", 8), ("metrics/prometheus/alerts.yml", 3)] {
        let asked = named(&read(path));
        assert!(asked.len() >= least && asked.is_subset(&on_page), "{path}: {asked:?}");
    }
}

/// What the command says of the stream.
fn command(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freehold-stream"));
    command.args(arguments).envs(LOGINS).output().expect("it runs")
}

#[test]
fn the_command_reads_a_stream_and_says_what_is_wrong_with_it() {
    let _watchdog = Watchdog::new("the_command_reads_a_stream_and_says_what_is_wrong_with_it");
    let test = "the_command_reads_a_stream_and_says_what_is_wrong_with_it";
    let Some(servers) = Servers::start(test, 1) else { return };
    let place = tempfile::tempdir().expect("a place");
    let a = open(place.path(), servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..5);
    let made = a.checkpoint().expect("it is made");
    pay(&a.handle().expect("it is the owner"), 5..10);
    drop(a);
    let url = &servers.urls()[0];
    let whole = command(&["verify", "bank", url]);
    let said = String::from_utf8_lossy(&whole.stdout);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    assert!(said.contains(&format!("checkpoint {}: {} bytes, whole", made.object, made.bytes)), "{said}");
    assert!(said.contains("term 1,") && said.contains("its owner has given it up"), "{said}");
    let last = super::joining::as_another(&servers, async |context, _| {
        let stream = context.get_stream("FREEHOLD_bank").await.expect("it is there");
        let last = stream.cached_info().state.last_sequence - 2;
        assert!(stream.delete_message(last).await.expect("it can be deleted"));
        last
    });
    let damaged = command(&["verify", "bank", url]);
    let said = String::from_utf8_lossy(&damaged.stderr);
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    assert!(said.contains(&format!("message {last} of the stream is not there")), "{said}");
    let none = command(&["verify", "other", url]);
    assert!(
        none.status.code() == Some(1) && String::from_utf8_lossy(&none.stderr).contains("FREEHOLD_other")
    );
    assert_eq!(command(&["verify", "bank"]).status.code(), Some(2));
}
