//! The founding benchmarks, run small, as a user runs them: what they print, that they prove their work, and
//! that a wrong setting is an error and not a default.
//!
//! `cargo test` builds the examples before it runs this. `cargo test --test founding_benchmarks` does not;
//! then they are as they were built last.

use std::path::PathBuf;
use std::process::{Command, Output};

fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a test is in target/<profile>/deps");
    let example = profile.join("examples").join(name);
    assert!(
        example.exists(),
        "{} is not there: build it first, by `cargo build --examples`",
        example.display()
    );
    example
}

/// Runs a benchmark with these settings and no others.
fn run(name: &str, settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(example(name));
    for setting in ["FAST_PATH_ITERS", "FAST_PATH_OBJECTS", "PARTITIONS"] {
        command.env_remove(setting);
    }
    command.envs(settings.iter().copied()).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The numbers of the line that begins with `name`.
fn numbers(said: &str, name: &str) -> Vec<f64> {
    let line = said.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no line begins with {name:?} in:\n{said}"));
    let words = line.split(|at: char| !at.is_ascii_digit() && at != '.' && at != ',');
    words.filter_map(|word| word.replace(',', "").parse().ok()).collect()
}

#[test]
fn one_shard_is_measured_and_proved() {
    let output = run("fast_path_bench", &[("FAST_PATH_ITERS", "5000"), ("FAST_PATH_OBJECTS", "100")]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains("7 rounds of 5,000 transactions, 100 objects of 64 bytes, seed 0x"), "{said}");
    for work in ["transactions", "plain hash map"] {
        let [median, lowest, highest, ..] = numbers(&said, work)[..] else { panic!("{said}") };
        assert!(0.0 < lowest && lowest <= median && median <= highest, "{said}");
    }
    assert_eq!(numbers(&said, "founding claim"), [28.57, 35.0], "{said}");
    // A round more than is reported, to warm up.
    assert_eq!(numbers(&said, "verified")[..2], [40_000.0, 1.0], "{said}");
    assert!(said.contains("checksum    0x"), "{said}");
}

#[test]
fn several_shards_are_measured_and_proved() {
    let settings = [("PARTITIONS", "3"), ("FAST_PATH_ITERS", "5000"), ("FAST_PATH_OBJECTS", "100")];
    let output = run("partitioned_fast_path_bench", &settings);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for partition in ["0 ", "1 ", "2 ", "together"] {
        assert!(numbers(&said, partition).iter().all(|number| *number >= 0.0), "{said}");
    }
    assert!(said.contains("none for 3 partitions"), "{said}");
    assert_eq!(numbers(&said, "verified")[..2], [40_000.0, 3.0], "{said}");
}

#[test]
fn two_partitions_are_set_beside_their_claim() {
    let output =
        run("partitioned_fast_path_bench", &[("FAST_PATH_ITERS", "5000"), ("FAST_PATH_OBJECTS", "100")]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert_eq!(numbers(&said, "claim"), [50.0, 2.0], "{said}");
}

#[test]
fn a_wrong_setting_is_an_error() {
    let wrong = [
        ("fast_path_bench", "FAST_PATH_ITERS", "2e6", "1 to 1099511627776"),
        ("fast_path_bench", "FAST_PATH_ITERS", "0", "1 to 1099511627776"),
        ("fast_path_bench", "FAST_PATH_OBJECTS", "", "1 to 100000000"),
        ("partitioned_fast_path_bench", "PARTITIONS", "0", "1 to 256"),
        ("partitioned_fast_path_bench", "PARTITIONS", "257", "1 to 256"),
        ("partitioned_fast_path_bench", "FAST_PATH_OBJECTS", "-5", "1 to 100000000"),
    ];
    for (name, setting, value, range) in wrong {
        let output = run(name, &[(setting, value)]);
        assert_eq!(output.status.code(), Some(2), "{setting}={value}");
        assert_eq!(output.stdout, b"", "nothing was measured");
        let sentence = format!("{name}: {setting}={value} is not a whole number from {range}\n");
        assert_eq!(text(&output.stderr), sentence);
    }
}
