//! What a runtime with a log acknowledged is there after it was stopped or dropped, whatever the number of shards: objects, ownership, what
//! is published, and messages that were told. And what is wrong with a log is said by name.

mod support;

use std::path::Path;
use std::time::Duration;

use freehold::{
    AccessError, Ack, Actor, Addressees, AskError, Config, Idle, LogConfig, LogError, Objects, OwnerId,
    Runtime, Shards, StartError,
};
use serde::{Deserialize, Serialize};
use support::{Watchdog, until};

/// Accounts with coins.
struct Ledger;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Put(u64, i64),
    Move(u64, u64, i64),
    Read(u64),
    Remove(u64),
    Share(u64),
    Freeze(u64),
    Give(u64, OwnerId),
    /// Adds now, and tells the second to add the same.
    Pass(u64, u64, i64),
    /// Adds to the second after so many milliseconds.
    Later(u64, u64, i64, u64),
    Long(u64, usize),
}

impl Actor for Ledger {
    type Id = u64;
    type State = (i64, Vec<u8>);
    type Message = Message;
    type Reply = Option<i64>;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Read(a) => to.read(a),
            Message::Move(a, b, _) => {
                to.write(a);
                to.write(b);
            }
            Message::Put(a, _)
            | Message::Remove(a)
            | Message::Share(a)
            | Message::Freeze(a)
            | Message::Give(a, _)
            | Message::Pass(a, ..)
            | Message::Later(a, ..)
            | Message::Long(a, _) => to.write(a),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Option<i64>, AccessError<u64>> {
        let add = |objects: &mut Objects<'_, Self>, id, coins| -> Result<i64, AccessError<u64>> {
            let account = objects.get_or_insert_with(id, || (0, Vec::new()))?;
            account.0 += coins;
            Ok(account.0)
        };
        match *message {
            Message::Put(id, coins) => add(objects, id, coins).map(Some),
            Message::Move(from, to, coins) => {
                add(objects, from, -coins)?;
                add(objects, to, coins).map(Some)
            }
            Message::Read(id) => Ok(objects.get(id)?.map(|account| account.0)),
            Message::Remove(id) => Ok(objects.remove(id)?.map(|account| account.0)),
            Message::Share(id) => objects.share(id).map(|()| None),
            Message::Freeze(id) => objects.freeze(id).map(|()| None),
            Message::Give(id, to) => objects.transfer(id, to).map(|()| None),
            Message::Pass(id, to, coins) => {
                objects.tell(Message::Put(to, coins))?;
                add(objects, id, coins).map(Some)
            }
            Message::Later(id, to, coins, milliseconds) => {
                objects.tell_after(Duration::from_millis(milliseconds), Message::Put(to, coins))?;
                add(objects, id, coins).map(Some)
            }
            Message::Long(id, bytes) => {
                objects.insert(id, (1, vec![7; bytes]))?;
                Ok(Some(1))
            }
        }
    }
}

fn config(shards: usize) -> Config {
    Config { shards: Shards::Count(shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() }
}

fn log(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory) }
}

fn open(shards: usize, directory: &Path) -> Runtime<Ledger> {
    Runtime::open(config(shards), log(directory)).expect("it opens")
}

fn read(runtime: &Runtime<Ledger>, id: u64) -> Option<i64> {
    runtime.handle().ask(Message::Read(id)).wait().expect("it can be read")
}

#[test]
fn what_was_acknowledged_is_there_again_whatever_the_number_of_shards() {
    let _watchdog = Watchdog::new("what_was_acknowledged_is_there_again");
    let directory = tempfile::tempdir().expect("there is room");
    let mut expected: Vec<Option<i64>> = vec![None; 200];
    for (life, shards) in [1, 2, 5, 1, 2].into_iter().enumerate() {
        let runtime = open(shards, directory.path());
        let handle = runtime.handle();
        for (id, expected) in expected.iter().enumerate() {
            assert_eq!(read(&runtime, id as u64), *expected, "object {id} in life {life}");
        }
        for id in 0..100 {
            handle.ask(Message::Put(id, life as i64 + 1)).wait().expect("it is put");
            *expected[id as usize].get_or_insert(0) += life as i64 + 1;
        }
        let moves = (0..100).map(|id| Message::Move(id, id + 100, 1));
        handle.ask_all(moves).wait().into_iter().for_each(|moved| assert!(moved.is_ok(), "{moved:?}"));
        (0..100).for_each(|id| *expected[id].get_or_insert(0) -= 1);
        (100..200).for_each(|id| *expected[id].get_or_insert(0) += 1);
        handle.ask(Message::Remove(life as u64)).wait().expect("it is removed");
        expected[life] = None;
        if life == 3 {
            drop(runtime);
        } else {
            let report = runtime.shutdown();
            assert!(report.drained, "{report}");
        }
    }
    let runtime = open(3, directory.path());
    let recovery = runtime.recovery().expect("there is a log");
    assert_eq!(recovery.objects, 199);
    assert_eq!((0..200).map(|id| read(&runtime, id)).collect::<Vec<_>>(), expected);
}
