//! `freehold log`: what it prints of a directory that is whole, damaged, or owes a message that
//! ends the process.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use freehold::{
    AccessError, Actor, Addressees, CollectionOf, Config, LogConfig, ObjectId, Objects, Runtime, Shards,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::freehold;

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
fn it_prints_what_is_there_and_what_is_wrong() {
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
    let run = |task: &str| freehold(&["log", task, text(directory.path())]);

    let (code, said, _) = run("verify");
    assert_eq!(code, Some(0), "{said}");
    for part in ["segment bytes", "65536", "objects, messages owed", "1, 0", "shut down", "no damage"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said, _) = run("dump");
    let lines: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!(code, Some(0));
    let first = &lines[0];
    assert_eq!((&first["source"], &first["kind"]), (&"checkpoint".into(), &"put".into()), "{said}");
    let id = "0500000000000000";
    assert_eq!((&first["id"], &first["state"], &first["owner"]), (&id.into(), &"11".into(), &0.into()));
    assert_eq!([&first["id_coding"], &first["state_coding"]], ["fixed"; 2]);
    let last = lines.last().expect("there are lines");
    assert_eq!(
        (&last["source"], &last["kind"], &last["id"]),
        (&"log".into(), &"remove".into(), &"2c01000000000000".into())
    );
    let epochs: Vec<_> = lines.iter().filter_map(|line| line["epoch"].as_u64()).collect();
    assert!(lines.len() >= 22 && epochs.is_sorted(), "{said}");

    // A backup, and back; never over something.
    let place = tempfile::tempdir().expect("there is room");
    let (copy, back) = (place.path().join("copy"), place.path().join("back"));
    for (task, from, to) in [("backup", directory.path(), &copy), ("restore", &copy, &back)] {
        let (code, said, error) = freehold(&["log", task, text(from), text(to)]);
        assert!(code == Some(0) && said.contains("3 files"), "{task}: {said}{error}");
        let (code, _, error) = freehold(&["log", task, text(from), text(to)]);
        assert!(code == Some(1) && error.contains("name an empty directory"), "{task}: {error}");
    }
    let dumped = |directory: &Path| {
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

/// Numbers at places; odd ones are entries of the even one below them.
struct Rows;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Place(u64);

impl ObjectId for Place {
    const COLLECTION: Option<CollectionOf<Place>> = Some(|id| (id.0 % 2 == 1).then_some(Place(id.0 - 1)));
}

impl Actor for Rows {
    type Id = Place;
    type State = u8;
    type Message = (Place, u8);
    type Reply = ();
    type Error = AccessError<Place>;

    fn addressees((place, _): &(Place, u8), to: &mut Addressees<Place>) {
        to.write(*place);
    }

    fn receive(
        (place, number): &(Place, u8),
        objects: &mut Objects<'_, Self>,
    ) -> Result<(), AccessError<Place>> {
        match place.collection() {
            Some(row) => objects.collection(row)?.insert(*place, *number).map(drop),
            None => objects.collection(*place)?.clear(),
        }
    }
}

#[test]
fn it_prints_which_collection_was_cleared() {
    let directory = tempfile::tempdir().expect("there is room");
    let config = Config { shards: Shards::Count(1), ..Config::default() };
    let log = LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory.path()) };
    let runtime = Runtime::<Rows>::open(config, log).expect("it opens");
    for (place, number) in [(5, 1), (4, 0), (5, 2)] {
        runtime.handle().ask((Place(place), number)).wait().expect("it is done");
    }
    runtime.shutdown();
    let (code, said, error) = freehold(&["log", "dump", text(directory.path())]);
    assert_eq!(code, Some(0), "{error}");
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
    let found: Vec<_> = lines
        .map(|line| [&line["kind"], &line["collection"], &line["id_coding"]].map(Value::clone))
        .collect();
    let put = ["put".into(), Value::Null, "fixed".into()];
    assert_eq!(
        found,
        [put.clone(), ["cleared", "0400000000000000", "fixed"].map(Value::from), put],
        "{said}"
    );
    let (code, said, _) = freehold(&["log", "verify", text(directory.path())]);
    assert!(code == Some(0) && said.contains("no damage"), "{said}");
}

/// Directories of tests are of text.
fn text(path: &Path) -> &str {
    path.to_str().expect("a test's paths are text")
}

/// An actor whose one message ends the process, later.
struct Bomb;

impl Actor for Bomb {
    type Id = u64;
    type State = u64;
    type Message = bool;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(_: &bool, to: &mut Addressees<u64>) {
        to.write(7);
    }

    fn receive(goes_off: &bool, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        if *goes_off {
            std::process::abort();
        }
        objects.tell_after(Duration::from_millis(20), true)?;
        Ok(())
    }
}

fn open(directory: &str) -> Runtime<Bomb> {
    let config = Config { shards: Shards::Count(1), ..Config::default() };
    Runtime::open(config, LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory) }).expect("it opens")
}

const DIRECTORY: &str = "FREEHOLD_TEST_LIVES_IN";

/// The life of a process that does not come to its end as long as the message runs.
#[test]
#[ignore = "another test runs it, each time in a process of its own"]
fn a_life() {
    let runtime = open(&std::env::var(DIRECTORY).expect("it is told where to live"));
    let set_aside = runtime.recovery().expect("it has a log").set_aside;
    if set_aside == 0 {
        // The message is told once, in the first life.
        if runtime.recovery().is_some_and(|recovery| recovery.owed == 0) {
            let _ = runtime.handle().ask(false).wait();
        }
        std::thread::sleep(Duration::from_secs(60));
        panic!("the message has not run");
    }
    runtime.shutdown();
}

/// Whether a life comes to its end.
fn lives(directory: &str) -> bool {
    let life = Command::new(std::env::current_exe().expect("a test knows where it is"))
        .args(["--exact", "log::a_life", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&[life.stdout, life.stderr].concat()).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    assert!(said.contains("running 1 test"), "there is such a test: {said}");
    life.status.success()
}

#[test]
fn a_message_that_is_set_aside_is_listed_released_and_dropped() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = text(directory.path());
    let until_it_lives = || (1..8).find(|_| lives(directory)).expect("it is set aside after some lives");
    assert!(until_it_lives() > 2, "it runs again before it is set aside");

    let owed = || {
        let (code, said, error) = freehold(&["log", "owed", directory]);
        assert_eq!(code, Some(0), "{error}");
        said
    };
    let listed: Value = serde_json::from_str(&owed()).expect("it is one line of JSON");
    assert_eq!((&listed["set_aside"], &listed["message"]), (&true.into(), &"01".into()), "{listed}");
    let number = listed["send_id"].as_u64().expect("it has a number").to_string();
    let (code, dumped, _) = freehold(&["log", "dump", directory]);
    assert!(code == Some(0) && dumped.contains("\"set_aside\":true"), "{dumped}");
    let (code, verified, _) = freehold(&["log", "verify", directory]);
    let row = verified.lines().find(|line| line.contains("messages set aside")).expect("it says how many");
    assert!(code == Some(0) && row.contains(" 1 "), "{verified}");

    let decide = |decision: &str| freehold(&["log", "owed", directory, decision, &number]);
    let (code, said, error) = decide("--release");
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(said, format!("message {number} runs again at the next start\n"));
    assert!(owed().contains("\"set_aside\":false"), "{}", owed());
    assert!(until_it_lives() > 1, "it runs again");

    let (code, said, error) = decide("--drop");
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(said, format!("message {number} is owed no more\n"));
    assert_eq!(owed(), "");
    let (code, _, error) = decide("--drop");
    assert!(code == Some(1) && error.contains("no message is owed under number"), "{error}");
    let (code, _, error) = freehold(&["log", "owed", directory, "--drop", &number, "--release", &number]);
    assert!(code == Some(2) && error.contains("cannot be used with"), "{error}");
}
