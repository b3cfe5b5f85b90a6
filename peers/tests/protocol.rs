//! The program speaks lines, whatever it is told.

mod trial;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use freehold_peers::PEERS;
use freehold_workloads::{Answer, Durability, Engine, Skew, SmallBank, Spec, Trial};
use trial::trial;

fn told(arguments: &[&str], input: &str) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_freehold-peers"));
    program.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().expect("the program starts");
    // One that only lists does not read.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends with its input")
}

#[test]
fn a_line_is_answered_by_a_line() {
    let directory = tempfile::tempdir().expect("a directory");
    // Long enough for an answer on a busy machine.
    let good = Trial { measure: 1.0, ..trial("dashmap", Durability::None, directory.path()) };
    let mut unknown = good.clone();
    unknown.cell.engine = "nobody".to_owned();
    // No customers: there is nothing to draw.
    let mut empty = good.clone();
    empty.cell.spec = Spec::SmallBank(SmallBank { customers: 0, skew: Skew::Uniform });
    let mut nobody = good.clone();
    nobody.cell.shards = 0;
    let line = |trial| serde_json::to_string(trial).expect("a trial is JSON") + "\n";
    let input = ["what?\n".to_owned(), line(&unknown), line(&empty), line(&nobody), line(&good)].concat();
    let output = told(&[], &input);
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let answers: Vec<Answer> =
        lines.lines().map(|line| serde_json::from_str(line).expect("an answer a line")).collect();
    let failed = |answer: &Answer, with: &str| {
        assert!(matches!(answer, Answer::Failed(why) if why.contains(with)), "{answer:?}, not {with}");
    };
    assert_eq!(answers.len(), 5, "{lines}");
    failed(&answers[0], "not a trial");
    failed(&answers[1], "no engine nobody");
    failed(&answers[2], "there are no rows");
    failed(&answers[3], "no shard");
    assert!(matches!(&answers[4], Answer::Measured(found) if found.committed > 0), "{:?}", answers[4]);
}

#[test]
fn it_lists_what_it_has_with_the_versions_it_was_built_with() {
    let output = told(&["--list"], "");
    assert!(output.status.success(), "{output:?}");
    let engines: BTreeMap<String, Engine> = serde_json::from_slice(&output.stdout).expect("engines");
    assert_eq!(engines.len(), PEERS.len());
    let lock = include_str!("../../Cargo.lock");
    for (name, Engine { version, about }) in &engines {
        assert!(!about.is_empty(), "{name} says what it is");
        let package = name.trim_end_matches("-grouped");
        let locked = lock.contains(&format!("name = \"{package}\"\nversion = \"{version}\"\n"));
        assert!(locked || (package == "mutex" && version == "std"), "{name} {version} is not what was built");
    }
    assert!(!told(&["--what"], "").status.success());
}
