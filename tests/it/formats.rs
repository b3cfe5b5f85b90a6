//! Directories that earlier versions wrote still open, and hold what was put into them.
//!
//! `tests/formats/N-stopped` was shut down after a checkpoint, `tests/formats/N-crashed` was left
//! by a process that aborted; N is the version of the format. Both have accounts with names; those
//! called `N-numbers-..` have cells of numbers, which format 3 writes with a fixed width. A change
//! of the format adds four, written by the code before it:
//! `FREEHOLD_WRITE_FORMAT=tests/formats/N cargo test --test it formats::`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Watchdog, until};
use freehold::{
    AccessError, Actor, Addressees, Config, Idle, LogConfig, Migration, ObjectId, Objects, OwnerId,
    PlacementKey, Runtime, Schema, Shards,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where a test that is run again writes, instead of testing.
const WRITE: &str = "FREEHOLD_WRITE_FORMAT";

/// Accounts with an owner's name and coins.
struct Accounts;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    name: String,
    coins: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Put(u64, String, i64),
    Read(u64),
    Move {
        from: u64,
        to: u64,
        coins: i64,
    },
    Remove(u64),
    Share(u64),
    Freeze(u64),
    Give(u64, OwnerId),
    /// Adds to the second after so many milliseconds.
    Later(u64, u64, i64, u64),
}

impl Actor for Accounts {
    type Id = u64;
    type State = Account;
    type Message = Message;
    type Reply = Option<Account>;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Read(id) => to.read(id),
            Message::Move { from, to: other, .. } => [from, other].into_iter().for_each(|id| to.write(id)),
            Message::Put(id, ..)
            | Message::Remove(id)
            | Message::Share(id)
            | Message::Freeze(id)
            | Message::Give(id, _)
            | Message::Later(id, ..) => to.write(id),
        }
    }

    fn receive(
        message: &Message,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<Account>, AccessError<u64>> {
        let new = || Account { name: String::new(), coins: 0 };
        match message {
            Message::Put(id, name, coins) => {
                objects.insert(*id, Account { name: name.clone(), coins: *coins })
            }
            Message::Read(id) => Ok(objects.get(*id)?.cloned()),
            Message::Move { from, to, coins } => {
                objects.get_or_insert_with(*from, new)?.coins -= coins;
                objects.get_or_insert_with(*to, new)?.coins += coins;
                Ok(None)
            }
            Message::Remove(id) => objects.remove(*id),
            Message::Share(id) => objects.share(*id).map(|()| None),
            Message::Freeze(id) => objects.freeze(*id).map(|()| None),
            Message::Give(id, to) => objects.transfer(*id, *to).map(|()| None),
            Message::Later(id, to, coins, milliseconds) => {
                let message = Message::Move { from: *id, to: *to, coins: *coins };
                objects.tell_after(Duration::from_millis(*milliseconds), message)?;
                Ok(None)
            }
        }
    }
}

/// Cells of numbers.
struct Cells;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Place {
    row: u32,
    column: u16,
}

impl ObjectId for Place {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cell {
    value: i64,
    parts: [u32; 3],
    is_set: bool,
    mark: char,
    share: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Change {
    Put(Place, i64),
    Read(Place),
    Remove(Place),
}

impl Actor for Cells {
    type Id = Place;
    type State = Cell;
    type Message = Change;
    type Reply = Option<Cell>;
    type Error = AccessError<Place>;

    fn addressees(message: &Change, to: &mut Addressees<Place>) {
        match message {
            Change::Read(at) => to.read(*at),
            Change::Put(at, _) | Change::Remove(at) => to.write(*at),
        }
    }

    fn receive(
        message: &Change,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<Cell>, AccessError<Place>> {
        match message {
            Change::Read(at) => Ok(objects.get(*at)?.cloned()),
            Change::Remove(at) => objects.remove(*at),
            Change::Put(at, value) => objects.insert(*at, cell(*value)),
        }
    }
}

fn place(row: u32) -> Place {
    Place { row, column: row as u16 % 3 }
}

fn cell(value: i64) -> Cell {
    Cell { value, parts: [value as u32, 7, u32::MAX], is_set: value > 3, mark: char::MAX, share: -0.5 }
}

fn put_cells(runtime: &Runtime<Cells>) {
    let handle = runtime.handle();
    let ask = |message| {
        handle.ask(message).wait().expect("it is done");
    };
    (0..20).for_each(|row| ask(Change::Put(place(row), i64::from(row) - 5)));
    runtime.checkpoint().expect("it is made");
    (10..30).for_each(|row| ask(Change::Put(place(row), i64::MIN + i64::from(row))));
    ask(Change::Remove(place(3)));
    ask(Change::Remove(place(12)));
}

fn check_cells(directory: &Path, shards: usize) {
    let runtime = open::<Cells>(directory, shards);
    assert_eq!(runtime.recovery().expect("there is a log").objects, 28);
    let handle = runtime.handle();
    for row in 0..30 {
        let found = handle.ask(Change::Read(place(row))).wait().expect("it can be read");
        let value = i64::from(row) + if row < 10 { -5 } else { i64::MIN };
        assert_eq!(found, (![3, 12].contains(&row)).then(|| cell(value)), "row {row}");
    }
    // One that was read is written once more, as this version has it.
    handle.ask(Change::Put(place(5), 0)).wait().expect("it is done");
    assert!(runtime.shutdown().drained);
}

fn open<A: Actor>(directory: &Path, shards: usize) -> Runtime<A>
where
    A::State: Serialize + DeserializeOwned,
    A::Message: Serialize + DeserializeOwned,
{
    let config = Config {
        shards: Shards::Count(shards),
        idle: Idle::Spin(Duration::ZERO),
        placement_key: Some(PlacementKey(7)),
        ..Config::default()
    };
    let log = LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory) };
    Runtime::open(config, log).expect("it opens")
}

/// What is put into each of the directories, some of it before a checkpoint and some of it behind.
fn put(runtime: &Runtime<Accounts>) {
    let handle = runtime.handle();
    let ask = |message| drop(handle.ask(message).wait().expect("it is done"));
    (0..40).for_each(|id| ask(Message::Put(id, format!("account {id}"), 100)));
    ask(Message::Remove(30));
    ask(Message::Share(31));
    ask(Message::Freeze(32));
    ask(Message::Give(33, OwnerId(5)));
    runtime.checkpoint().expect("it is made");
    (0..20).for_each(|id| ask(Message::Move { from: id, to: id + 1, coins: id as i64 }));
    ask(Message::Remove(29));
    // In its first second the next life finds that this one is due.
    ask(Message::Later(34, 35, 7, 1000));
    // A year.
    ask(Message::Later(36, 37, 7, 365 * 86_400_000));
}

fn check(directory: &Path, shards: usize) {
    let runtime = open::<Accounts>(directory, shards);
    let recovery = runtime.recovery().expect("there is a log");
    assert_eq!((recovery.objects, recovery.owed), (38, 2), "{recovery}");
    let handle = runtime.handle();
    let read = |id| handle.ask(Message::Read(id)).wait().expect("it can be read");
    let account = |id: u64, coins| Some(Account { name: format!("account {id}"), coins });
    for id in (0..=20).chain(21..29) {
        let moved = match id {
            0 => 0,
            1..=19 => -1,
            20 => 19,
            _ => 0,
        };
        assert_eq!(read(id), account(id, 100 + moved), "account {id}");
    }
    assert_eq!((read(29), read(30)), (None, None));
    assert_eq!(handle.ask(Message::Read(31)).wait().expect("it can be read"), account(31, 100));
    assert_eq!(handle.published(&31).map(|published| published.coins), Some(100));
    assert!(handle.ask(Message::Put(32, String::new(), 0)).wait().is_err(), "nobody writes it any more");
    assert!(handle.ask(Message::Put(33, String::new(), 0)).wait().is_err(), "it belongs to another");
    until(|| read(35) == account(35, 107));
    assert_eq!(read(34), account(34, 93));
    assert_eq!(read(36), account(36, 100), "a year is not over");
    assert!(runtime.shutdown().drained);
}

/// The cells when their values have become text, and their places numbers.
struct Texts;

impl Actor for Texts {
    const SCHEMA: Schema = Schema::new(2);
    type Id = u64;
    type State = String;
    type Message = u64;
    type Reply = Option<String>;
    type Error = AccessError<u64>;

    fn addressees(id: &u64, to: &mut Addressees<u64>) {
        to.read(*id);
    }

    fn receive(id: &u64, objects: &mut Objects<'_, Self>) -> Result<Option<String>, AccessError<u64>> {
        Ok(objects.get(*id)?.cloned())
    }
}

// Version 2 wrote ids by postcard and version 3 writes them with a fixed width. A migration knows
// objects by the bytes of their ids, and must not take one object for two.
#[test]
fn an_object_of_two_formats_is_migrated_once() {
    let _watchdog = Watchdog::new("an_object_of_two_formats_is_migrated_once");
    for name in ["2-numbers-stopped", "2-numbers-crashed"] {
        let directory = tempfile::tempdir().expect("there is room");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name), directory.path());
        let config = || Config { shards: Shards::Count(2), ..Config::default() };
        let log = || LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory.path()) };
        let runtime = Runtime::<Cells>::open(config(), log()).expect("it opens");
        let ask = |message| runtime.handle().ask(message).wait().expect("it is done");
        for row in 0..10 {
            ask(Change::Put(place(row), 1000 + i64::from(row)));
        }
        ask(Change::Remove(place(20)));
        assert!(runtime.shutdown().drained);
        let migrating = log().migrate_from::<Cells, Texts>(Migration {
            id: |at: Place| Ok(u64::from(at.row)),
            state: |_, cell: Cell| Ok(cell.value.to_string()),
            message: |_| Err("there is none".into()),
        });
        let runtime = Runtime::<Texts>::open(config(), migrating).expect("it opens");
        let recovery = runtime.recovery().expect("there is a log");
        // Row 3 is there again; 12 and 20 are not.
        assert_eq!((recovery.objects, recovery.migrated_from), (28, Some(1)), "{name}");
        for row in 0..30_i64 {
            let value = if row < 10 { 1000 + row } else { i64::MIN + row };
            let expected = (![12, 20].contains(&row)).then(|| value.to_string());
            let found = runtime.handle().ask(row as u64).wait().expect("it can be read");
            assert_eq!(found, expected, "{name}, row {row}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).expect("it is a directory") {
        let file = file.expect("it can be read");
        fs::copy(file.path(), to.join(file.file_name())).expect("there is room");
    }
}

/// The directories that are kept, by name.
fn kept() -> Vec<String> {
    let all = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats"));
    let names = all.expect("it is a directory").map(|kept| kept.expect("it can be read").file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("we named it")).collect();
    names.sort();
    names
}

#[test]
fn directories_of_earlier_versions_open() {
    if let Ok(to) = std::env::var(WRITE) {
        return write(&to);
    }
    let _watchdog = Watchdog::new("directories_of_earlier_versions_open");
    assert!(kept().len() >= 10, "{:?}", kept());
    // Each waits for a timer: all wait together.
    std::thread::scope(|scope| {
        for name in kept() {
            scope.spawn(move || opens(&name));
        }
    });
}

fn opens(name: &str) {
    for shards in [1, 2, 3] {
        let directory = tempfile::tempdir().expect("there is room");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name), directory.path());
        let verified = freehold::inspect::verify(directory.path()).expect("it can be looked at");
        assert!(verified.damages.is_empty(), "{name}: {verified:?}");
        // And what this version made of it.
        if name.contains("numbers") {
            check_cells(directory.path(), shards);
            let runtime = open::<Cells>(directory.path(), shards);
            assert_eq!(runtime.recovery().expect("there is a log").objects, 28, "{name}");
        } else {
            check(directory.path(), shards);
            let runtime = open::<Accounts>(directory.path(), shards);
            assert_eq!(runtime.recovery().expect("there is a log").objects, 38, "{name}");
        }
    }
}

/// Writes all directories: two in this process, the others in children that abort.
fn write(to: &str) {
    if to.ends_with("-numbers-crashed") {
        put_cells(&open(Path::new(to), 2));
        std::process::abort();
    }
    if to.ends_with("-crashed") {
        put(&open(Path::new(to), 2));
        std::process::abort();
    }
    let runtime = open(Path::new(&format!("{to}-stopped")), 2);
    put(&runtime);
    assert!(runtime.shutdown().drained);
    let runtime = open(Path::new(&format!("{to}-numbers-stopped")), 2);
    put_cells(&runtime);
    assert!(runtime.shutdown().drained);
    for name in ["crashed", "numbers-crashed"] {
        let again = std::env::current_exe().expect("a test knows where it is");
        let child = Command::new(again)
            .args(["--exact", "formats::directories_of_earlier_versions_open"])
            .env(WRITE, format!("{to}-{name}"))
            .status();
        assert!(!child.expect("it runs").success(), "it aborts");
    }
}
