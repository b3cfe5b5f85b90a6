//! The benchmark `shard_scaling` does what it says: all workloads balance their books, a quick run
//! leaves all its results, an interrupted one can be gone on with, and what makes no sense is
//! refused with a sentence.

#[path = "../../../tests/support/patience.rs"]
#[allow(dead_code, reason = "of it only some")]
mod patience;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use freehold_workloads::{Cross, Durability, Load, Measured, Outcome, Run};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than any of these takes on a busy machine.
const HANGS_AFTER: Duration = Duration::from_secs(240);

/// Small and short, so that a debug build does many.
const SHORT: [&str; 8] = ["--rows", "1000", "--warm-up", "0.01", "--measure", "0.15", "--repetitions", "1"];

fn shard_scaling(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shard_scaling"));
    command.current_dir(directory).args(arguments).stdin(Stdio::null());
    command
}

/// One test at a time: each has its clients on all CPUs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs it to its end. If that does not come, it is killed.
fn finish(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let process = Pid::from_child(&child);
    let (ended, ends) = mpsc::channel();
    let reader = thread::spawn(move || ended.send(child.wait_with_output()));
    let Some(output) = patience::receive(&ends, HANGS_AFTER) else {
        kill_process(process, Signal::KILL).expect("it lives");
        panic!("{command:?} did not end in {HANGS_AFTER:?}");
    };
    reader.join().expect("it reads").expect("somebody listens");
    output.expect("it is ours")
}

/// Runs it to its end, which is to be a good one, and reads the run. On a machine that is so busy
/// that clients hardly ran while a cell was measured, it does what the benchmark advises, and
/// measures for longer.
fn measure(directory: &Path, arguments: &[&str]) -> (Run, Output) {
    let out = directory.join("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut arguments = arguments.to_vec();
    let mut longer = ["1", "5"].into_iter();
    loop {
        let output = finish(shard_scaling(directory, &arguments).arg("--out").arg(&out));
        let run = output.status.success().then(|| read(&out));
        let nobody_was_timed = |it: &Measured| it.repetitions().iter().any(|it| it.latency.samples == 0);
        let is_too_short = match &run {
            Some(run) => run.cells.iter().any(nobody_was_timed),
            None => text(&output.stderr).contains("raise --measure"),
        };
        let Some(seconds) = longer.next().filter(|_| is_too_short) else {
            let said = [&output.stdout, &output.stderr].map(|it| text(it)).join("\n");
            return (run.unwrap_or_else(|| panic!("{}\n{said}", output.status)), output);
        };
        std::fs::remove_dir_all(&out).expect("it has left what it had");
        if let Some(at) = arguments.iter().position(|it| *it == "--measure") {
            arguments.drain(at..at + 2);
        }
        arguments.extend(["--measure", seconds]);
    }
}

fn read(out: &Path) -> Run {
    let text = std::fs::read(out.join("run.json")).expect("there is a run");
    serde_json::from_slice(&text).expect("it reads as a run")
}

fn assert_measured(measured: &Measured, repetitions: usize) {
    let Outcome::Measured(found) = &measured.outcome else {
        panic!("{}: {:?}", measured.cell, measured.outcome)
    };
    assert_eq!(found.len(), repetitions, "{}", measured.cell);
    for repetition in found {
        assert!(repetition.committed > 0 && repetition.per_second > 0.0, "{}", measured.cell);
        assert!(repetition.latency.samples > 0 && repetition.cpu_seconds > 0.0, "{}", measured.cell);
        // What was handled before the time began, or is not in the statistics yet, may be answered
        // in it: of each client as much as is in flight, on either side.
        let in_flight = match measured.cell.load {
            Load::Closed { in_flight } => 2 * in_flight * measured.cell.shards,
            Load::Open { .. } | Load::Rate { .. } => continue,
        };
        let handled = repetition.traffic_transactions + in_flight as u64;
        assert!(handled >= repetition.committed, "{}: {handled}", measured.cell);
    }
}

#[test]
fn a_quick_run_leaves_all_its_results() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let (run, output) = measure(directory.path(), &["--quick", "--shards", "1,2"]);
    assert_eq!(run.cells.len(), 6);
    for measured in &run.cells {
        assert_measured(measured, 5);
        let cell = &measured.cell;
        for repetition in measured.repetitions() {
            let envelopes: u64 = repetition.traffic.iter().flatten().sum();
            let spans = cell.shards > 1 && cell.cross == Cross::Percent(100.0);
            assert_eq!(envelopes > 0, spans, "{cell}");
            // Four in ten have two customers. A busy machine may answer fewer than are in flight,
            // and then the quick ones alone.
            let answered = repetition.committed + repetition.aborted;
            let share = repetition.spanning as f64 / answered as f64;
            let is_enough = matches!(cell.load, Load::Closed { in_flight } if answered > in_flight as u64);
            // In so short a time, those that waited for the disk when it began and when it ended
            // make a difference.
            let about = if cell.durability == Durability::None { 0.05 } else { 0.2 };
            // And on a busy machine there are few of them: four standard deviations.
            let about = about + 2.0 / (answered as f64).sqrt();
            let is_about = if spans { (share - 0.4).abs() < about } else { share == 0.0 };
            assert!(is_about || spans && !is_enough, "{cell}: {share} of {answered}");
            assert_eq!(repetition.log_bytes > 0, cell.durability == Durability::Durable, "{cell}");
        }
    }
    assert!(run.is_debug == cfg!(debug_assertions) && !run.machine.cpus.is_empty());
    assert!(run.overhead_ns["smallbank"] > 0.0);

    let out = directory.path().join("run");
    let csv = std::fs::read_to_string(out.join("cells.csv")).expect("there is a table");
    assert_eq!(csv.lines().count(), 1 + 6 * 5, "a row for each repetition");
    let page = std::fs::read_to_string(out.join("report.html")).expect("there is a report");
    assert!(page.contains("<svg") && page.trim_end().ends_with("</html>"));
    let latency = std::fs::read_to_string(out.join("latency/0000.hgrm")).expect("there are latencies");
    assert!(latency.contains("#[Mean"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("report.html") && (!run.is_debug || said.contains("debug build")), "{said}");
    // Logs, which are written there, are gone.
    let mut left: Vec<_> =
        std::fs::read_dir(&out).expect("it reads").map(|it| it.expect("it reads").file_name()).collect();
    left.sort();
    assert_eq!(left, ["cells.csv", "latency", "report.html", "run.json"]);

    let again = finish(shard_scaling(directory.path(), &["--quick"]).arg("--out").arg(&out));
    assert_eq!(again.status.code(), Some(2), "a run is not written over");
    assert!(String::from_utf8_lossy(&again.stderr).contains("--resume"));

    // The report of what is there, once more.
    std::fs::remove_file(out.join("report.html")).expect("it was there");
    let again = finish(shard_scaling(directory.path(), &["--report"]).arg(&out));
    assert!(again.status.success() && out.join("report.html").exists());
}

#[test]
fn every_workload_balances_on_two_shards_with_a_log() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let names = "smallbank,micro,ycsb-a,ycsb-b,ycsb-c,ycsb-d,ycsb-e,ycsb-f,ycsb-t,tatp";
    let dimensions = [
        "--workload",
        names,
        "--shards",
        "2",
        "--cross",
        "50",
        "--durability",
        "durable",
        "--aborts",
        "5",
        // A debug build answers some of these workloads at 5,000 a second. With a log 16,384 are in
        // flight otherwise, and a short measurement may end before the first answer.
        "--in-flight",
        "256",
    ];
    let (run, _) = measure(directory.path(), &[&SHORT[..], &dimensions, &["--skew", "zipf:0.9"]].concat());
    assert_eq!(run.cells.len(), 10);
    run.cells.iter().for_each(|measured| assert_measured(measured, 1));
    let aborted = |name| {
        let of = run.cells.iter().filter(|it| it.cell.spec.name() == name);
        of.flat_map(Measured::repetitions).map(|it| it.aborted).sum::<u64>()
    };
    assert!(aborted("micro") > 0 && aborted("ycsb-t") == 0);
}

#[test]
fn tpcc_balances_with_remote_items_and_logs() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let dimensions = ["--quick", "--workload", "tpcc", "--remote-items", "1,10", "--repetitions", "1"];
    let sizes = ["--shards", "2", "--rows", "8"];
    let (run, output) = measure(directory.path(), &[&dimensions[..], &sizes].concat());
    assert_eq!(run.cells.len(), 2 * 2);
    run.cells.iter().for_each(|measured| assert_measured(measured, 1));
    // What sets rows of the table apart is in them.
    let table = String::from_utf8_lossy(&output.stdout);
    for row in ["tpcc, remote items 1.0", "tpcc, remote items 10.0"] {
        assert_eq!(table.matches(row).count(), 2, "{row}:\n{table}");
    }
}

// What ran inline waited for the disk without bound: 26,000 where 16,384 were asked for.
#[test]
fn durable_answers_of_the_own_shard_count_as_in_flight() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let dimensions = ["--shards", "1,2", "--cross", "0", "--durability", "durable", "--in-flight", "200"];
    let more = ["--rows", "1000", "--measure", "0.5", "--repetitions", "1"];
    let (run, _) = measure(directory.path(), &[&dimensions[..], &more].concat());
    for measured in &run.cells {
        assert_measured(measured, 1);
        let repetition = &measured.repetitions()[0];
        // Little's law.
        let in_flight = repetition.per_second * repetition.latency.mean / 1e9;
        let most = 200.0 * measured.cell.shards as f64;
        assert!(in_flight < 1.3 * most, "{}: {in_flight} of {most} are in flight", measured.cell);
    }
}

#[test]
fn open_loops_keep_to_their_rates() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let dimensions =
        ["--shards", "2", "--cross", "20", "--durability", "none,durable", "--rate", "2000", "--open", "20"];
    let more = ["--rows", "1000", "--measure", "0.5", "--repetitions", "1"];
    let (run, _) = measure(directory.path(), &[&dimensions[..], &more].concat());
    assert_eq!(run.cells.len(), 2 * 3);
    for measured in &run.cells {
        assert_measured(measured, 1);
        let repetition = &measured.repetitions()[0];
        let closed = run.cells.iter().find(|it| {
            it.cell.durability == measured.cell.durability && matches!(it.cell.load, Load::Closed { .. })
        });
        let closed = closed.and_then(Measured::rate).expect("there is a closed loop").median;
        let wanted = match measured.cell.load {
            Load::Closed { .. } => {
                assert_eq!(repetition.wanted_per_second, None);
                continue;
            }
            Load::Open { share } => share * closed,
            Load::Rate { per_second } => per_second,
        };
        let found = repetition.wanted_per_second.expect("an open loop has a rate");
        assert!((found / wanted - 1.0).abs() < 1e-9, "{found} for {wanted}");
        // A machine that is busy may not keep up, and works off what came while it warmed up.
        let came = (repetition.committed + repetition.aborted) as f64 / repetition.seconds;
        assert!(came < 2.0 * wanted, "{}: {came} of {wanted}", measured.cell);
    }
}

#[test]
fn an_interrupted_run_keeps_what_it_has_and_is_gone_on_with() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("run");
    let dimensions = ["--shards", "1,2", "--cross", "0", "--durability", "none", "--rows", "500"];
    let long = ["--warm-up", "0.01", "--measure", "0.4", "--repetitions", "4"];
    let mut child = shard_scaling(directory.path(), &[&dimensions[..], &long].concat())
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let done = |run: &Run| run.cells.iter().map(|it| it.repetitions().len()).sum::<usize>();
    while !out.join("run.json").exists() || done(&read(&out)) < 2 {
        assert_eq!(child.try_wait().expect("it is ours"), None, "it ended by itself");
        thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it lives");
    assert_eq!(child.wait().expect("it is ours").code(), Some(130));
    let kept = read(&out);
    assert!((2..8).contains(&done(&kept)), "{} of 8 repetitions", done(&kept));
    assert!(out.join("report.html").exists(), "a report of what there is");

    let resumed = finish(shard_scaling(directory.path(), &["--resume"]).arg(&out));
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let all = read(&out);
    all.cells.iter().for_each(|measured| assert_measured(measured, 4));
    for (kept, all) in kept.cells.iter().zip(&all.cells) {
        assert!(all.repetitions().starts_with(kept.repetitions()), "what was measured stays");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    let directory = tempfile::tempdir().expect("a directory");
    let refused = [
        (&["--skew", "steep"][..], "zipf:THETA"),
        (&["--cross", "101"], "percentage from 0 to 100"),
        (&["--durability", "forever"], "`none`, `applied` or `durable`"),
        (&["--shards", "0"], "1..=256"),
        (&["--workload", "tpch"], "possible values"),
        (&["--rows", "70000", "--workload", "tpcc"], "at most 65535"),
        (&["--rows", "100", "--skew", "hotspot:100:0.9"], "hotspot of 100 rows needs more than the 100"),
        (&["--resume", "/nonexistent"], "/nonexistent/run.json"),
        (&["--data", "/nonexistent"], "must be a directory"),
        (&["--data", ".", "--resume", "x"], "cannot be used with"),
    ];
    for (arguments, sentence) in refused {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shard_scaling"));
        let output = finish(command.args(arguments).current_dir(directory.path()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }
}

#[test]
fn a_shard_that_owns_no_row_fails_its_cell_and_not_the_run() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("run");
    let dimensions =
        ["--workload", "tpcc", "--quick", "--shards", "1,2", "--durability", "none", "--repetitions", "1"];
    let mut command = shard_scaling(directory.path(), &dimensions);
    // One warehouse cannot be on both shards.
    let output = finish(command.args(["--rows", "1"]).arg("--out").arg(&out));
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let run = read(&out);
    assert_measured(&run.cells[0], 1);
    let Outcome::Failed(why) = &run.cells[1].outcome else { panic!("{:?}", run.cells[1].outcome) };
    assert!(why.contains("too few rows"), "{why}");
}
