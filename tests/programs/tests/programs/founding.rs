//! The founding benchmarks, run small, as a user runs them: what they print, that they prove their
//! work, and that a wrong setting is an error and not a default.

use std::process::Output;

use crate::example;

/// Names and values of environment variables.
type Settings<'a> = &'a [(&'a str, &'a str)];

/// Runs a benchmark with these settings and no others.
fn run(name: &str, settings: Settings<'_>) -> Output {
    run_with(name, settings, &[])
}

/// Runs a benchmark with these settings and arguments.
fn run_with(name: &str, settings: Settings<'_>, arguments: &[&str]) -> Output {
    let mut command = example(name);
    for setting in ["FAST_PATH_ITERS", "FAST_PATH_OBJECTS", "PARTITIONS", "OWNED_RATIO"] {
        command.env_remove(setting);
    }
    command.envs(settings.iter().copied()).args(arguments).output().expect("it starts")
}

/// Runs the mixed benchmark small, with these further settings and arguments, and gives what it
/// said.
fn run_mixed(settings: Settings<'_>, arguments: &[&str]) -> String {
    let small = [("FAST_PATH_ITERS", "5000"), ("FAST_PATH_OBJECTS", "100")];
    let output = run_with("mixed_path_bench", &[&small, settings].concat(), arguments);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    said
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
fn both_paths_are_measured_and_proved() {
    let said = run_mixed(&[], &[]);
    assert!(said.contains("2 shards, in each 7 rounds of 5,000 transactions and 100 accounts"), "{said}");
    assert!(said.contains("owned ratio 0.8: 80.0 % fast, 20.0 % cross-shard"), "{said}");
    let mut medians = Vec::new();
    for path in ["fast path", "cross-shard path", "both together", "ordered mutex pairs"] {
        let [median, lowest, highest, ..] = numbers(&said, path)[..] else { panic!("{said}") };
        assert!(0.0 <= lowest && lowest <= median && median <= highest, "{said}");
        medians.push(median);
    }
    assert!(medians[1] <= medians[0] && medians[0] <= medians[2], "four fast ones to one: {said}");
    assert_eq!(numbers(&said, "fast path")[3], 150.0, "{said}");
    assert_eq!(numbers(&said, "cross-shard path")[3], 0.377, "{said}");
    assert_eq!(numbers(&said, "0.51")[0], 0.51, "{said}");
    // A round more than is reported, to warm up.
    assert_eq!(numbers(&said, "verified")[..2], [80_000.0, 200.0], "{said}");
    let [fast, consensus] = ["on the fast path", "on the consensus path"].map(|path| numbers(&said, path)[0]);
    assert_eq!(fast + consensus, 70_000.0, "{said}");
    // A fifth, and those that found an account locked.
    assert!(consensus > 12_000.0 && fast > 0.0, "{said}");
}

#[test]
fn the_share_of_fast_transactions_is_as_told() {
    for said in [
        run_mixed(&[], &["--owned-ratio:0.2"]),
        run_mixed(&[], &["--owned-ratio=0.2"]),
        run_mixed(&[("OWNED_RATIO", "0.2")], &[]),
        run_mixed(&[("OWNED_RATIO", "0.9")], &["--owned-ratio:0.2"]),
    ] {
        assert!(said.contains("owned ratio 0.2: 20.0 % fast, 80.0 % cross-shard"), "{said}");
        let [_, consensus] =
            ["on the fast path", "on the consensus path"].map(|path| numbers(&said, path)[0]);
        assert!(consensus > 50_000.0, "four fifths of 70,000: {said}");
    }
}

#[test]
fn a_path_without_transactions_has_no_rate() {
    let fast = run_mixed(&[], &["--owned-ratio:1"]);
    assert!(!fast.contains("cross-shard path  "), "{fast}");
    assert_eq!(numbers(&fast, "on the fast path"), [70_000.0], "{fast}");
    assert_eq!(numbers(&fast, "envelopes in lanes"), [0.0], "{fast}");
    let cross = run_mixed(&[("PARTITIONS", "3")], &["--owned-ratio:0"]);
    assert!(!cross.contains("\nfast path"), "{cross}");
    assert_eq!(numbers(&cross, "on the consensus path"), [105_000.0], "{cross}");
}

#[test]
fn one_shard_has_no_cross_shard_path_and_says_so() {
    let said = run_mixed(&[("PARTITIONS", "1")], &["--owned-ratio:0.2"]);
    assert!(
        said.contains("one shard: there is no cross-shard path, and all transactions are fast"),
        "{said}"
    );
    assert_eq!(numbers(&said, "on the fast path"), [35_000.0], "{said}");
    assert_eq!(numbers(&said, "on the consensus path"), [0.0], "{said}");
}

#[test]
fn a_wrong_argument_is_an_error() {
    let unknown = |argument| {
        format!("unknown argument `{argument}`: the only one is --owned-ratio:R, with R from 0 to 1")
    };
    let wrong = |what| format!("{what} is not a number from 0 to 1");
    let cases: [(Settings<'_>, &[&str], String); 9] = [
        (&[], &["--ratio:0.2"], unknown("--ratio:0.2")),
        (&[], &["--owned-ratio", "0.2"], unknown("--owned-ratio")),
        (&[], &["--owned-ratios=0.2"], unknown("--owned-ratios=0.2")),
        (&[], &["--owned-ratio:0.2", "--help"], unknown("--help")),
        (&[], &["--owned-ratio:1.5"], wrong("--owned-ratio:1.5")),
        (&[], &["--owned-ratio=NaN"], wrong("--owned-ratio=NaN")),
        (&[("OWNED_RATIO", "80")], &[], wrong("OWNED_RATIO=80")),
        (&[("OWNED_RATIO", "")], &["--owned-ratio:0.2"], wrong("OWNED_RATIO=")),
        (&[], &["--owned-ratio:0.2", "--owned-ratio=0.2"], "--owned-ratio is given twice".to_string()),
    ];
    for (settings, arguments, sentence) in cases {
        let output = run_with("mixed_path_bench", settings, arguments);
        assert_eq!(output.status.code(), Some(2), "{settings:?} {arguments:?}");
        assert_eq!(output.stdout, b"", "nothing was measured");
        assert_eq!(text(&output.stderr), format!("mixed_path_bench: {sentence}\n"));
    }
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
        ("mixed_path_bench", "PARTITIONS", "two", "1 to 256"),
        ("mixed_path_bench", "FAST_PATH_OBJECTS", "1", "2 to 100000000"),
    ];
    for (name, setting, value, range) in wrong {
        let output = run(name, &[(setting, value)]);
        assert_eq!(output.status.code(), Some(2), "{setting}={value}");
        assert_eq!(output.stdout, b"", "nothing was measured");
        let sentence = format!("{name}: {setting}={value} is not a whole number from {range}\n");
        assert_eq!(text(&output.stderr), sentence);
    }
}
