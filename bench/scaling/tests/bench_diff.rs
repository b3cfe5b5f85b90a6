//! The example `bench_diff`, run as CI runs it on runs that nobody measured: what is a regression,
//! what is not, and each exit status.

mod made_up;

use std::fs;
use std::process::Command;

use freehold_workloads::{Load, Measured, Outcome, Run, Skew};
use made_up::{Plan, disturb, stopped};

/// Runs it on two runs; says its status, its output and its complaint.
fn diff(before: &Run, after: &Run, more: &[&str]) -> (i32, String, String) {
    let directory = tempfile::tempdir().expect("there is room");
    for (name, run) in [("before", before), ("after", after)] {
        let at = directory.path().join(name);
        fs::create_dir(&at).expect("it is new");
        fs::write(at.join("run.json"), serde_json::to_vec(run).expect("it is data")).expect("there is room");
    }
    // One as a directory, the other as a file.
    run(Command::new(env!("CARGO_BIN_EXE_bench_diff"))
        .arg(directory.path().join("before"))
        .arg(directory.path().join("after/run.json"))
        .args(more))
}

fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("it starts");
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what it says is text");
    (output.status.code().expect("it ended by itself"), said(output.stdout), said(output.stderr))
}

/// Makes a cell so many times as fast.
fn speed(measured: &mut Measured, factor: f64) {
    let Outcome::Measured(repetitions) = &mut measured.outcome else { panic!("it was measured") };
    repetitions.iter_mut().for_each(|repetition| repetition.per_second *= factor);
}

#[test]
fn equal_runs_have_no_regression() {
    let run = Plan::SMALL.run();
    let (status, said, complained) = diff(&run, &run, &["--strict"]);
    assert_eq!((status, complained.as_str()), (0, ""), "{said}");
    assert!(said.contains("No regression in 3 cells (tolerance 5.0 %"), "{said}");
    assert!(said.contains("+0.0 %") && !said.contains("warning"), "{said}");
}

#[test]
fn slower_by_more_than_the_tolerance_is_a_regression() {
    let (before, mut after) = (Plan::SMALL.run(), Plan::SMALL.run());
    speed(&mut after.cells[1], 0.94);
    speed(&mut after.cells[2], 1.5);
    let (status, said, _) = diff(&before, &after, &[]);
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("1 of 3 cells are slower") && said.contains("SLOWER") && said.contains("-6.0 %"),
        "{said}"
    );
    assert!(said.contains("faster") && said.contains("+50.0 %"), "{said}");
    for tolerance in ["7%", "7 %", "7"] {
        assert_eq!(diff(&before, &after, &["--tolerance", tolerance]).0, 0);
    }
    assert_eq!(diff(&before, &after, &["--engine", "freehold"]).0, 1);
}

#[test]
fn slower_with_ranges_that_overlap_may_be_chance() {
    // Repetitions are within 2 % of their median: 3 % less overlaps, and is more than 1 %.
    let (before, mut after) = (Plan::SMALL.run(), Plan::SMALL.run());
    speed(&mut after.cells[1], 0.97);
    let (status, said, _) = diff(&before, &after, &["--tolerance", "1%", "--json"]);
    assert_eq!(status, 0, "{said}");
    let json: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(
        (&json["cells"][1]["verdict"], &json["regressions"]),
        (&"maybe_slower".into(), &0.into()),
        "{said}"
    );
    let change = json["cells"][1]["rate"]["change"].as_f64().expect("it is a number");
    assert!((change + 0.03).abs() < 1e-9, "{change}");
    assert!(json["cells"][1]["p99"]["before"]["median"].as_f64().is_some_and(|p99| p99 > 0.0), "{said}");
    assert!(json["cells"][1]["cpu"]["after"]["median"].as_f64().is_some_and(|cpu| cpu > 0.0), "{said}");
}

#[test]
fn of_an_open_loop_p99_decides() {
    // Its rate is what arrives: an engine that took ten times as long for each answer was once
    // called the same.
    let before = Plan { loads: &[Load::Rate { per_second: 1e5 }], ..Plan::SMALL }.run();
    let slow = |factor: f64| {
        let mut run = before.clone();
        let Outcome::Measured(repetitions) = &mut run.cells[1].outcome else { panic!("it was measured") };
        for latency in repetitions.iter_mut().map(|repetition| &mut repetition.latency) {
            latency.p99 = (latency.p99 as f64 * factor) as u64;
        }
        run
    };
    let (status, said, _) = diff(&before, &slow(2.0), &[]);
    assert!(status == 1 && said.contains("SLOWER by p99") && said.contains("1 of 3 cells"), "{said}");
    let (status, said, _) = diff(&before, &slow(0.5), &[]);
    assert!(status == 0 && said.contains("faster by p99"), "{said}");
    // The rate of an open loop decides nothing; of a closed loop p99 does not.
    let mut fast = before.clone();
    speed(&mut fast.cells[1], 1.5);
    let (status, said, _) = diff(&fast, &before, &["--json"]);
    assert!(status == 0 && said.contains(r#""decided_by": "p99""#) && !said.contains("faster"), "{said}");
}

#[test]
fn what_is_lost_is_a_regression_and_what_is_missing_is_said() {
    let (before, mut after) = (Plan::SMALL.run(), Plan::SMALL.run());
    after.cells[0].outcome = Outcome::Failed("3 cents are missing".into());
    let (status, said, _) = diff(&before, &after, &[]);
    assert!(status == 1 && said.contains("LOST") && said.contains("3 cents"), "{said}");

    let stopped = stopped(Plan::SMALL.run());
    let (status, said, _) = diff(&before, &stopped, &["--json"]);
    assert!(
        status == 0 && said.contains("after: not measured") && said.contains("after: 2 of 5 repetitions"),
        "{said}"
    );

    let mut fewer = Plan::SMALL.run();
    fewer.cells.remove(2);
    disturb(&mut fewer.cells[0]);
    let (status, said, _) = diff(&before, &fewer, &["--json"]);
    assert!(
        status == 0 && said.contains("only before") && said.contains("after: the machine was busy"),
        "{said}"
    );
    let (status, said, complained) = diff(&fewer, &before, &["--strict"]);
    assert!(status == 2 && said.is_empty(), "{said}");
    assert!(complained.contains("1 of the cells were measured on a busy machine"), "{complained}");
    assert!(complained.contains("1 of the cells have no figure"), "{complained}");
}

#[test]
fn what_an_engine_never_could_is_no_doubt() {
    // Uniform and skewed cells are told apart.
    let skews = &[Skew::Uniform, Skew::Hotspot { rows: 10, share: 0.9 }];
    let mut run = Plan { skews, peers: &["kameo"], ..Plan::SMALL }.run();
    let before = run.clone();
    let (status, said, complained) = diff(&before, &run, &["--strict"]);
    assert_eq!((status, complained.as_str()), (0, ""), "{said}");
    assert!(said.contains("6 cells are not shown") && said.contains("No regression in 6 cells"), "{said}");
    assert_eq!(
        said.matches("freehold, smallbank, skew hotspot rows 10 share 0.9, 2 shards,").count(),
        2,
        "{said}"
    );
    assert_eq!(said.matches("freehold, smallbank, skew uniform, 1 shard,").count(), 1, "{said}");
    let kameo = run.cells.iter_mut().find(|measured| measured.cell.engine == "kameo").expect("it is there");
    kameo.outcome = Outcome::Failed("it stopped".into());
    assert_eq!(diff(&before, &run, &["--strict"]).0, 2, "then something is wrong");
}

#[test]
fn other_machines_are_compared_with_a_warning_unless_strict() {
    let (before, mut after) = (Plan::SMALL.run(), Plan::SMALL.run());
    after.machine.cpu = Some("Another".into());
    after.is_debug = true;
    let (status, said, _) = diff(&before, &after, &[]);
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("warning: the machines differ in their CPUs: Example CPU @ 3.10GHz and Another"),
        "{said}"
    );
    assert!(said.contains("warning: after is of a debug build"), "{said}");
    let (status, said, complained) = diff(&before, &after, &["--strict"]);
    assert!(status == 2 && said.is_empty() && complained.contains("--strict was given"), "{complained}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let (run_of_one, mut other) = (Plan::SMALL.run(), Plan::SMALL.run());
    other.cells.iter_mut().for_each(|measured| measured.cell.engine = "other".into());
    let (status, _, complained) = diff(&run_of_one, &other, &[]);
    assert!(status == 2 && complained.contains("no measured cell in common"), "{complained}");
    other.format += 1;
    let (status, _, complained) = diff(&run_of_one, &other, &[]);
    assert!(status == 2 && complained.contains("has form 2 of run.json"), "{complained}");
    assert_eq!(diff(&run_of_one, &run_of_one, &["--tolerance", "much"]).0, 2);
    assert_eq!(diff(&run_of_one, &run_of_one, &["--engine", "nobody"]).0, 2);

    let directory = tempfile::tempdir().expect("there is room");
    let complaint = |text: Option<&str>| {
        if let Some(text) = text {
            fs::write(directory.path().join("run.json"), text).expect("there is room");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench_diff"));
        let (status, said, complained) = run(command.arg(directory.path()).arg(directory.path()));
        assert!(status == 2 && said.is_empty(), "{said}");
        complained
    };
    assert!(complaint(None).contains("run.json cannot be read"), "it is not there");
    assert!(complaint(Some("{")).contains("is not a run of shard_scaling"), "it is no JSON");
    assert!(complaint(Some(r#"{"format": 1}"#)).contains("missing field"), "it is no run");
}
