//! The report of `shard_scaling`, made of runs that nobody measured. Its modules' own tests run
//! here as well. The pages are left in the target directory (`tmp/shard_scaling_report`), to be
//! looked at.

mod made_up;

use std::fs;
use std::path::PathBuf;

use freehold_scaling::report;
use freehold_workloads::{Cross, Durability, Load, Measured, Outcome, Run, Skew};
use made_up::{CLOSED, Plan, disturb, stopped};
use roxmltree::{Document, Node, ParsingOptions};

/// The page of a run, checked and left to be looked at.
fn page(name: &str, run: &Run) -> String {
    let page = report::html(run);
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("shard_scaling_report");
    fs::create_dir_all(&directory).expect("the target directory can be written");
    fs::write(directory.join(format!("{name}.html")), &page).expect("the target directory can be written");
    check(&page);
    page
}

/// The body, which is XML.
fn body(page: &str) -> &str {
    let begin = page.find("<body>").expect("there is a body");
    let end = page.find("</body>").expect("it ends") + "</body>".len();
    &page[begin..end]
}

/// What is to be read, without markup, with plain spaces.
fn text(page: &str) -> String {
    let document = parsed(page);
    let texts = document.descendants().filter(Node::is_text).filter_map(|node| node.text());
    texts.collect::<Vec<_>>().join("").replace('\u{a0}', " ")
}

fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { nodes_limit: u32::MAX, ..ParsingOptions::default() };
    Document::parse_with_options(body(page), options).expect("the body is well-formed")
}

/// What holds of every page: it is well-formed, fetches nothing, draws within its charts and has no
/// figure that is none.
fn check(page: &str) {
    for fetches in ["url(", "@import", "src=", "<link", "<script", "<img", "http://", "https://"] {
        assert!(!page.contains(fetches), "the page would fetch something: {fetches}");
    }
    for none in ["NaN", "inf ", ">inf<"] {
        assert!(!page.contains(none), "{none} on the page");
    }
    let document = parsed(page);
    let mut ids: Vec<_> = document.descendants().filter_map(|node| node.attribute("id")).collect();
    let links = document.descendants().filter_map(|node| node.attribute("href"));
    links.for_each(|link| assert!(ids.contains(&&link[1..]), "{link} leads nowhere"));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "ids are unique");
    for svg in document.descendants().filter(|node| node.has_tag_name("svg")) {
        let view: Vec<f64> = svg
            .attribute("viewBox")
            .expect("a drawing has a size")
            .split(' ')
            .map(|number| number.parse().expect("it is a number"))
            .collect();
        for text in svg.descendants().filter(|node| node.has_tag_name("text")) {
            let place = |name| text.attribute(name).and_then(|place| place.parse::<f64>().ok());
            let (Some(x), Some(y)) = (place("x"), place("y")) else { continue };
            // At the font's size of 11.5 a figure is some 6.4 wide.
            let width = text.text().unwrap_or_default().chars().count() as f64 * 6.4;
            let begin = x - width
                * match text.attribute("text-anchor") {
                    Some("end") => 1.0,
                    Some("middle") => 0.5,
                    _ => 0.0,
                };
            let in_map = svg.attribute("class") == Some("heat");
            assert!(in_map || (begin >= 0.0 && begin + width <= view[2]), "{:?} is cut off", text.text());
            assert!((0.0..=view[3]).contains(&y), "{:?} is outside", text.text());
        }
    }
}

fn measured(run: &mut Run, is_wanted: impl Fn(&Measured) -> bool) -> &mut Measured {
    run.cells.iter_mut().find(|cell| is_wanted(cell)).expect("there is such a cell")
}

#[test]
fn the_page_of_sixteen_shards_shows_all_that_is_to_be_shown() {
    let mut run = Plan::LARGE.run();
    disturb(measured(&mut run, |cell| cell.cell.shards == 8 && cell.cell.cross == Cross::Percent(10.0)));
    let page = page("sixteen", &run);
    let text = text(&page);
    for said in [
        // The head.
        "--name 'two words'",
        "commit 0123abcd4567+",
        "rustc 1.92.0",
        "seed 0xf2ee401d0000005",
        "2026-11-1",
        "Example CPU @ 3.10GHz",
        "L3 36 MiB, shared by 16 CPUs",
        "governorunknown",
        "kvm",
        "64 GiB",
        "6.12.0",
        "Debian GNU/Linux 13",
        "ext4 on /srv/freehold",
        "median 85 µs, p99 1.45 ms",
        "0.12 before, 15.4",
        "SMTno",
        "0.5 s of warm-up",
        "customers 100,000",
        "hotspot rows 100 share 0.9",
        // Figures and charts.
        "best rate",
        "efficiency there",
        "p99 there",
        "CPU per transaction",
        "best rate, durable",
        "Throughput over shards",
        "ideal",
        "Efficiency",
        "Universal Scalability Law",
        "Contention: 2 % of the work is serial (σ = 0.0200)",
        "Coherence: each shard's agreeing with each other one costs 0.08 %",
        "(κ = 0.000800; 2κ a pair)",
        "what its caches gain counts as scaling",
        // Of SmallBank's transactions 40 % can span.
        "100 % (40 % span)",
        "The peak would be at 35 shards",
        "Throughput over cross-shard share",
        "as measured",
        "envelopes between shards per transaction",
        "Closed loop",
        "Open loop",
        "open at 90 %",
        "99.9 %",
        "p99.9",
        "to shard",
        "envelopes per 10,000 transactions",
        "Waited for a lock",
        // The tool and the table.
        "What the tool itself costs",
        "within the aim",
        "log/tx",
        "61 B",
        "no peers",
        // The mark.
        "The machine was busy while 1 of",
        "others up to 23 %, stolen 4 %",
        "hollow: the machine was busy",
        "busy",
    ] {
        assert!(text.contains(said), "{said} is not on the page");
    }
    assert!(!text.contains("not complete") && !text.contains("cells failed"), "it is complete");
    // Throughput and efficiency over shards, throughput and messages over the share; it is in no
    // chart of latency.
    assert_eq!(
        page.matches(r#"<g class="point disturbed"><title>"#).count(),
        4,
        "each of its points is marked"
    );
    assert!(
        text.contains("from shard 0 to shard 1: 37.5 envelopes per 10,000 transactions"),
        "the map has numbers"
    );
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
    // A row of the table for each cell.
    let document = parsed(&page);
    let table = document
        .descendants()
        .filter(|node| node.attribute("class") == Some("cells") && node.has_tag_name("table"));
    let bodies = table.flat_map(|table| table.children().filter(|part| part.has_tag_name("tbody")));
    let rows: usize = bodies.map(|rows| rows.children().filter(|row| row.has_tag_name("tr")).count()).sum();
    assert_eq!(rows, run.cells.len());
    // Errors of 2 % around each median.
    assert!(text.contains("(2.35 M/s to 2.45 M/s, 5 times)"), "the range is told");
}

#[test]
fn with_two_shards_nothing_is_fitted() {
    let text = text(&page("two", &Plan::SMALL.run()));
    assert!(
        text.contains("Measured at 1 and 2 shards only") && text.contains("there is nothing to fit"),
        "{text}"
    );
    assert!(!text.contains("Contention") && !text.contains("hollow"));
    assert!(text.contains("This run has no open loop"), "{text}");
}

#[test]
fn one_shard_alone_is_a_page_as_well() {
    let run = Plan { shards: &[1], repetitions: 1, ..Plan::SMALL }.run();
    let text = text(&page("one", &run));
    assert!(text.contains("No transaction of this run spanned shards"), "{text}");
    assert!(
        text.contains("Nothing was sent from shard to shard") && text.contains("measured once"),
        "{text}"
    );
    assert!(text.contains("Measured at 1 shard only"), "{text}");
}

#[test]
fn a_run_that_was_stopped_says_so() {
    let run = stopped(Plan::LARGE.run());
    let pending = run.cells.iter().filter(|cell| cell.outcome == Outcome::Pending).count();
    let text = text(&page("stopped", &run));
    let said =
        format!("This run is not complete. Of {} cells {pending} are pending, and 1 lack", run.cells.len());
    assert!(text.contains(&said) && text.contains("2 of 5") && text.contains("not measured yet"), "{said}");

    let mut nothing = Plan::SMALL.run();
    nothing.cells.iter_mut().for_each(|cell| cell.outcome = Outcome::Pending);
    page("nothing", &nothing);
    nothing.cells.clear();
    nothing.is_debug = true;
    assert!(self::text(&page("empty", &nothing)).contains("A debug build."));
}

#[test]
fn who_wins_stays_visible_and_who_cannot_says_why() {
    let mut run = Plan::PEERS.run();
    disturb(measured(&mut run, |cell| cell.cell.engine == "mutex"));
    let text = text(&page("peers", &run));
    assert!(text.contains("dashmap wins: 1.7 × Freehold"), "{text}");
    assert!(text.contains("Freehold is first: 2613 × redb") || text.contains("× redb"), "{text}");
    assert!(text.contains("Freehold is first in 2 of 4 comparisons of closed loops"), "{text}");
    // In the comparisons and in the table.
    let cannot = run.cells.iter().filter(|cell| cell.cell.engine == "kameo").count();
    let sentence = "cannot An actor of kameo has no transactions: two accounts cannot change together.";
    assert_eq!(text.matches(sentence).count(), 2 * cannot, "{text}");
    assert!(text.contains("failed 42 cents are missing: <lost update> & \"more\""), "{text}");
    assert!(text.contains("cells failed and have no figures"), "{text}");
}

#[test]
fn in_an_open_loop_the_rate_does_not_decide() {
    // Who keeps up has the rate that arrives: once the first place by that was counted as won.
    let open = [Load::Open { share: 0.5 }, Load::Rate { per_second: 1e5 }];
    let plan = Plan {
        peers: &["dashmap", "tokio-mpsc"],
        shards: &[4],
        durabilities: &[Durability::None],
        ..Plan::PEERS
    };
    let run = Plan { loads: &[CLOSED, open[0], open[1]], ..plan }.run();
    let said = |run: &Run, name| text(&page(name, run));
    let before = said(&run, "open");
    assert!(before.contains("Freehold is first in 0 of 1 comparisons of closed loops"), "{before}");
    assert_eq!(before.matches("No verdict: each engine has a share of its own rate").count(), 1, "{before}");
    assert_eq!(
        page("open", &run).matches(r#"<p class="verdict none">"#).count(),
        1,
        "it has no winner's colour"
    );
    // Freehold has a little more of the same rate, and a p99 ten times as long; then the reverse.
    for (rate, p99, verdict) in
        [(1.01, 1_000_000_000, "wins by p99: Freehold takes "), (0.9, 1, "Freehold is first by p99: ")]
    {
        let mut run = run.clone();
        let own = measured(&mut run, |cell| cell.cell.engine == "freehold" && cell.cell.load == open[1]);
        let Outcome::Measured(repetitions) = &mut own.outcome else { panic!("it was measured") };
        for repetition in repetitions {
            repetition.per_second *= rate;
            repetition.latency.p99 = p99;
        }
        let after = said(&run, "open_p99");
        assert!(after.contains(verdict), "{verdict}: {after}");
        assert!(after.contains("Freehold is first in 0 of 1 comparisons of closed loops"), "{after}");
    }
}

#[test]
fn efficiency_is_as_uncertain_as_its_base() {
    let mut run = Plan::SMALL.run();
    disturb(measured(&mut run, |cell| cell.cell.shards == 1));
    let page = page("base", &run);
    // Two shards, in both curves.
    assert_eq!(page.matches("The machine was busy while one shard was measured.").count(), 2);
    let text = text(&page);
    assert!(text.contains("with the same rows in all; the machine was busy"), "{text}");
    // 2 % either way of each rate: 0.98 / 1.02 and the reverse, of 0.979.
    assert!(text.contains("0.979 (0.94 to 1.02, 5 times)"), "{text}");
    assert!(!text.contains("Here it is above 1"), "{text}");

    // Twice the rate of two shards is above 1, and that is said.
    let own = measured(&mut run, |cell| cell.cell.shards == 2 && cell.cell.cross == Cross::Percent(0.0));
    let Outcome::Measured(repetitions) = &mut own.outcome else { panic!("it was measured") };
    repetitions.iter_mut().for_each(|repetition| repetition.per_second *= 2.0);
    let text = self::text(&self::page("above", &run));
    assert!(text.contains("Here it is above 1 (cross 0 % at 2 shards): that is caches or chance"), "{text}");
}

#[test]
fn few_repetitions_are_said_to_be_few() {
    let said = "Fewer than five repetitions were made of each cell: 4.";
    assert!(text(&page("few", &Plan { repetitions: 4, ..Plan::SMALL }.run())).contains(said));
    assert!(!text(&page("two", &Plan::SMALL.run())).contains("Fewer than five"));
}

#[test]
fn a_histogram_says_of_which_cell_it_is() {
    let mut run = Plan { cross: &[Cross::Percent(100.0)], ..Plan::SMALL }.run();
    let cell = measured(&mut run, |cell| cell.cell.shards == 2);
    let heading = "freehold, smallbank, customers 100,000, skew uniform, 2 shards, cross 100 % (40 % span), durability none, closed, 64 in flight";
    assert_eq!(report::heading(cell), heading);
    disturb(cell);
    let text = report::percentiles(&report::heading(cell), &cell.repetitions()[0].latency);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(format!("#[cell {heading}]").as_str()));
    assert_eq!(lines.next(), Some("#[cell busy machine: others up to 23 %, stolen 4 %]"));
    assert!(lines.next().is_some_and(|line| line.trim_start().starts_with("Value")), "{text}");
}

#[test]
fn what_a_run_says_cannot_change_the_page() {
    let mut run = Plan::SMALL.run();
    let evil = "</style><script>alert(1)</script>\"'&";
    run.command = vec![evil.into()];
    (run.version, run.commit, run.compiler) = (evil.into(), evil.into(), evil.into());
    run.machine.cpu = Some(evil.into());
    run.cells[0].outcome = Outcome::Failed(evil.into());
    run.cells[1].cell.engine = evil.into();
    run.overhead_ns.insert(evil.into(), 1.0);
    let page = page("evil", &run);
    assert!(text(&page).matches("alert(1)").count() >= 6);
}

#[test]
fn a_cells_histogram_is_of_all_its_repetitions() {
    let run = Plan::SMALL.run();
    let latencies = || run.cells[0].repetitions().iter().map(|repetition| &repetition.latency);
    let text = report::percentiles("one cell", &report::merged(latencies()));
    assert!(text.starts_with("#[cell one cell]\n"), "{text}");
    let samples: u64 = latencies().map(|latency| latency.samples).sum();
    let last = text.lines().rfind(|line| !line.starts_with('#')).expect("there are rows");
    assert_eq!(last.split_whitespace().nth(2), Some(samples.to_string().as_str()), "{text}");
}

#[test]
fn the_csv_has_one_row_a_repetition_and_stays_in_its_columns() {
    let skews = &[Skew::Hotspot { rows: 10, share: 0.9 }];
    let mut run = Plan { skews, durabilities: &[Durability::Durable], ..Plan::SMALL }.run();
    run.cells[0].outcome = Outcome::Failed("it said \"no\",\nand stopped".into());
    run.cells[1].outcome = Outcome::Pending;
    let text = report::csv(&run);
    assert!(
        text.starts_with("engine,workload,spec,shards,cross,durability,load,outcome,why,repetition,"),
        "{text}"
    );
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().expect("there is one").clone();
    let column = |name: &str| header.iter().position(|other| other == name).expect("there is such a column");
    let rows: Vec<csv::StringRecord> =
        reader.records().map(|row| row.expect("all rows are as long")).collect();
    assert_eq!(rows.len(), 2 + 5 * (run.cells.len() - 2));
    assert_eq!(&rows[0][column("why")], "it said \"no\",\nand stopped");
    assert_eq!((&rows[1][column("outcome")], &rows[1][column("seconds")]), ("pending", ""));
    let repetition = &run.cells[2].repetitions()[0];
    assert_eq!(rows[2][column("committed_per_second")], repetition.per_second.to_string());
    assert_eq!(rows[2][column("latency_max_ns")], repetition.latency.max.to_string());
    assert_eq!(rows[2][column("log_writes")], repetition.log_writes.to_string());
    assert_eq!((&rows[2][column("disturbed")], &rows[3][column("repetition")]), ("false", "2"));
    assert!(rows[2][column("spec")].contains("\"hotspot\""), "{:?}", rows[2]);
    // Columns are only ever added at the end; the histogram is numbered by the cell, whatever rows
    // it has.
    assert_eq!(column("histogram"), header.len() - 1);
    assert_eq!((&rows[0][column("histogram")], &rows[1][column("histogram")]), ("", ""));
    assert_eq!(
        (&rows[2][column("histogram")], &rows[6][column("histogram")]),
        ("latency/0002.hgrm", &report::histogram(2)[..])
    );
}
