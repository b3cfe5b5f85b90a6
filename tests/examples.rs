//! The example programs, run as a user runs them: `hello` and `freehold_log`.
//!
//! `cargo test` builds the examples before it runs this. `cargo test --test examples` does not;
//! then they are as they were built last.

mod support;

use std::process::Command;

use freehold::{AccessError, Actor, Addressees, Config, LogConfig, Objects, Runtime, Shards};
use support::example;

#[test]
fn hello_counts_one_visit() {
    let output = Command::new(example("hello")).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.starts_with("visits to page 7: 1\n1 messages on "), "{said}");
    assert!(said.contains("all of them to their end"), "{said}");
}

/// Numbers by number.
struct Numbers;

impl Actor for Numbers {
    type Id = u64;
    type State = u8;
    type Message = (u64, u8);
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees((id, _): &(u64, u8), to: &mut Addressees<u64>) {
        to.write(*id);
    }

    fn receive((id, number): &(u64, u8), objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        match number {
            0 => objects.remove(*id).map(drop),
            _ => objects.insert(*id, *number).map(drop),
        }
    }
}

#[test]
fn freehold_log_prints_what_is_there_and_what_is_wrong() {
    let directory = tempfile::tempdir().expect("there is room");
    let config = Config { shards: Shards::Count(1), ..Config::default() };
    let log = LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory.path()) };
    let runtime = Runtime::<Numbers>::open(config, log).expect("it opens");
    let put = |id, number| runtime.handle().ask((id, number)).wait().expect("it is done");
    put(5, 17);
    runtime.checkpoint().expect("it can be made");
    (1..=20).for_each(|number| put(300, number));
    put(300, 0);
    runtime.shutdown();
    let run = |task: &str| {
        let output = Command::new(example("freehold_log")).arg(task).arg(directory.path()).output();
        let output = output.expect("it starts");
        let said = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("what it says is text");
        (output.status.code(), said(&output.stdout), said(&output.stderr))
    };

    let (code, said, _) = run("verify");
    assert_eq!(code, Some(0), "{said}");
    for part in ["segment bytes", "65536", "objects, messages owed", "1, 0", "shut down", "no damage"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said, _) = run("dump");
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!(code, Some(0));
    let first = &lines[0];
    assert_eq!((&first["source"], &first["kind"]), (&"checkpoint".into(), &"put".into()), "{said}");
    assert_eq!((&first["id"], &first["state"], &first["owner"]), (&"05".into(), &"11".into(), &0.into()));
    let last = lines.last().expect("there are lines");
    assert_eq!(
        (&last["source"], &last["kind"], &last["id"]),
        (&"log".into(), &"remove".into(), &"ac02".into())
    );
    let epochs: Vec<_> = lines.iter().filter_map(|line| line["epoch"].as_u64()).collect();
    assert!(lines.len() >= 22 && epochs.is_sorted(), "{said}");

    // A backup, and back; never over something.
    let place = tempfile::tempdir().expect("there is room");
    let (copy, back) = (place.path().join("copy"), place.path().join("back"));
    let run_two = |task: &str, from: &std::path::Path, to: &std::path::Path| {
        let output = Command::new(example("freehold_log")).arg(task).args([from, to]).output();
        let output = output.expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("what it says is text"))
    };
    for (task, from, to) in [("backup", directory.path(), &copy), ("restore", &copy, &back)] {
        let (code, said) = run_two(task, from, to);
        assert!(code == Some(0) && said.contains("3 files"), "{task}: {said}");
        let (code, said) = run_two(task, from, to);
        assert!(code == Some(1) && said.contains("name an empty directory"), "{task}: {said}");
    }
    let dumped = |directory: &std::path::Path| {
        let mut records = Vec::new();
        freehold::inspect::dump(directory, |entry| records.push(format!("{:?}", entry.record)))
            .expect("it is whole");
        records
    };
    assert_eq!(dumped(&back), dumped(directory.path()));

    // Bits of two batches flip: both are named, and all else is printed.
    let (name, mut bytes) = std::fs::read_dir(directory.path())
        .expect("it is there")
        .map(|file| file.expect("it can be listed").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-")))
        .map(|path| (path.clone(), std::fs::read(path).expect("it can be read")))
        .min()
        .expect("there is a log");
    (bytes[4096 * 2 + 130], bytes[4096 * 5 + 60]) = (0xff, 0xff);
    std::fs::write(&name, bytes).expect("it can be written");
    let (code, said, _) = run("verify");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is damaged at byte 8192") && said.contains("is damaged at byte 20480"), "{said}");
    assert!(said.contains("2 damaged"), "{said}");
    let (code, said, error) = run("dump");
    assert!(code == Some(1) && error.contains("is damaged at byte 8192"), "{error}");
    assert_eq!(said.lines().count(), lines.len() - 2);

    std::fs::remove_file(directory.path().join("manifest")).expect("it is there");
    let (code, _, error) = run("verify");
    assert!(code == Some(1) && error.contains("has no manifest"), "{error}");
}
