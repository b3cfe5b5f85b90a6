//! Loads that are larger than any queue or log can take at once come to their end, whatever a shard
//! waits for.
//!
//! The story: a durable runtime was given 200,000 messages with states of 1 KB. Its log fell behind
//! `backlog_bytes` while messages waited in the ingress, and the shard hung at 100 % CPU for ever:
//! it took nothing, did not park because something waited, and so never looked at its ring, where
//! the end of the disk's write was to be seen. Every bulk load that was tried hung, and no test had
//! set `backlog_bytes`.

mod support;

use std::path::Path;
use std::time::Duration;

use freehold::{
    AccessError, Ack, Actor, Addressees, AskError, Config, Handle, Idle, Limits, LogConfig, Objects, Outcome,
    Runtime, Shards,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use support::Watchdog;

/// Objects of any size.
struct Blobs;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    /// Makes an object of so many bytes.
    Put(u64, usize),
    /// Makes two, which may be anywhere.
    PutBoth([u64; 2], usize),
    /// Makes one and tells others to be made.
    Fan(u64, u64, usize),
}

impl Actor for Blobs {
    type Id = u64;
    type State = ByteBuf; // one run of bytes, which a debug build would else write byte by byte
    type Message = Message;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Put(id, _) | Message::Fan(id, ..) => to.write(*id),
            Message::PutBoth(ids, _) => ids.iter().for_each(|id| to.write(*id)),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        let mut put = |id, bytes| objects.insert(id, vec![7; bytes].into()).map(drop);
        match *message {
            Message::Put(id, bytes) => put(id, bytes),
            Message::PutBoth([one, other], bytes) => put(one, bytes).and_then(|()| put(other, bytes)),
            Message::Fan(id, copies, bytes) => {
                put(id, bytes)?;
                (1..=copies).try_for_each(|copy| objects.tell(Message::Put(id + copy * 1_000_003, bytes)))
            }
        }
    }
}

const SPINS: [Idle; 3] = [
    Idle::Spin(Duration::ZERO),
    Idle::Spin(Duration::from_micros(50)),
    Idle::Spin(Duration::from_secs(3600)),
];

fn config(shards: usize, idle: Idle) -> Config {
    Config { shards: Shards::Count(shards), idle, ..Config::default() }
}

/// A log in which little may wait.
fn log(directory: &Path) -> LogConfig {
    LogConfig { segment_bytes: 1 << 20, backlog_bytes: 64 << 10, ..LogConfig::at(directory) }
}

/// Whether there was no room for a message, or for what it was to tell. Nothing was done then.
fn is_full(answer: &Outcome<Blobs>) -> bool {
    matches!(answer, Err(AskError::Overloaded | AskError::Aborted(AccessError::NoRoom { .. })))
}

/// Asks for all of it at once, in batches and one by one, and says how many were done. One that
/// finds no room is asked again.
fn load(handle: &Handle<Blobs>, messages: &[Message], watchdog: &Watchdog) {
    let (batches, singles) = messages.split_at(messages.len() / 2);
    let batches: Vec<_> = batches.chunks(256).map(|chunk| handle.ask_all(chunk.iter().cloned())).collect();
    let singles: Vec<_> = singles.iter().map(|message| (message, handle.ask(message.clone()))).collect();
    for answer in batches.into_iter().flat_map(|batch| batch.wait()) {
        assert!(answer.is_ok() || is_full(&answer), "{answer:?}");
        watchdog.feed();
    }
    for (message, ask) in singles {
        let mut answer = ask.wait();
        while is_full(&answer) {
            answer = handle.ask(message.clone()).wait();
        }
        assert!(answer.is_ok(), "{answer:?}");
        watchdog.feed();
    }
}

#[test]
fn a_log_that_is_behind_catches_up() {
    let watchdog = Watchdog::new("a_log_that_is_behind_catches_up");
    for shards in [1, 2] {
        for idle in SPINS {
            for ack in [Ack::Durable, Ack::Applied] {
                for bytes in [1 << 10, 4 << 10, 16 << 10] {
                    let directory = tempfile::tempdir().expect("there is room");
                    let log = LogConfig { ack, ..log(directory.path()) };
                    let runtime = Runtime::<Blobs>::open(config(shards, idle), log).expect("it opens");
                    let count = (2 << 20) / bytes as u64;
                    let messages: Vec<_> = (0..count).map(|id| Message::Put(id, bytes)).collect();
                    load(&runtime.handle(), &messages, &watchdog);
                    let report = runtime.shutdown();
                    assert!(report.drained, "{report}");
                    assert_eq!(report.stats.objects(), count);
                }
            }
        }
    }
}

/// The siblings: what transactions under way, full lanes and tells hold back.
#[test]
fn what_else_holds_messages_back_ends_too() {
    let watchdog = Watchdog::new("what_else_holds_messages_back_ends_too");
    let limits = Limits { transactions_max: 2, outbox_messages_max: 16, ..Limits::default() };
    for idle in SPINS {
        for is_logged in [false, true] {
            let directory = tempfile::tempdir().expect("there is room");
            let config = Config { limits, lane_entries_max: 16, ingress_entries_max: 64, ..config(2, idle) };
            let runtime = match is_logged {
                true => Runtime::<Blobs>::open(config, log(directory.path())),
                false => Runtime::<Blobs>::start(config),
            }
            .expect("it starts");
            let handle = runtime.handle();
            let both = (0..2000).map(|id| Message::PutBoth([id, id + 7], 512));
            let fans = (0..500).map(|id| Message::Fan(id, 4, 512));
            let messages: Vec<_> = both.chain(fans).collect();
            load(&handle, &messages, &watchdog);
            // A runtime that drains runs what was let in, and finds an end.
            let more: Vec<_> =
                (0..200).map(|id| handle.ask(Message::PutBoth([id, id + 9], 4 << 10))).collect();
            let report = runtime.shutdown();
            assert!(report.drained, "{report}");
            more.into_iter().for_each(|ask| drop(ask.wait()));
        }
    }
}
