//! Databases whose streams an earlier version of this program has written, or a later one.
//!
//! Version 1 of the chain had one entry on its way at a time, and takeovers of one entry. What is
//! here of it was written by hand, from the format's description.

use std::path::Path;
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderValue, NATS_EXPECTED_LAST_SEQUENCE};
use async_nats::jetstream;
use freehold::{CommitLog, Config, Epoch, EpochBatch, LocalLog, LogConfig, Runtime, Shards, WrittenSchema};
use freehold_replica::{ReplicaConfig, ReplicaError, Replicated, Role, verify};
use freehold_shard::log::chain::{
    Body, ChainError, ChainPlace, EntryError, EntryHash, Head, hash_entry, read_entry,
};

use super::bank::Bank;
use super::joining::{as_another, copy};
use super::servers::Servers;
use super::support::Watchdog;
use super::{LONG, assert_has, open, pay, shown, until};

/// The bytes of an entry before its head.
const FRAME: usize = 16;

/// An entry as a version of the format has it.
fn entry(version: u32, head: &Head, records: &[Box<[u8]>]) -> Vec<u8> {
    let mut bytes = postcard::to_extend(head, vec![0; FRAME]).expect("a vector takes everything");
    for record in records {
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(record);
    }
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(b"FHCE");
    bytes[4..8].copy_from_slice(&version.to_le_bytes());
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[FRAME..]);
    bytes[12..FRAME].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// An owner of the version before: one entry at a time.
struct Old {
    version: u32,
    number: u64,
    previous: EntryHash,
}

impl Old {
    /// The entry that comes next.
    fn next(&mut self, epoch: Epoch, body: Body, records: &[Box<[u8]>]) -> Vec<u8> {
        let (number, previous, time) = (self.number, self.previous, freehold_shard::Time(0));
        let head = Head { database: 7, term: 1, number, previous, epoch, time, body };
        let entry = entry(self.version, &head, records);
        (self.number, self.previous) = (number + 1, hash_entry(&entry));
        entry
    }

    fn takeover(&mut self) -> Vec<u8> {
        let (node, schema) = ("old/1".to_string(), Box::new(WrittenSchema::of::<Bank>()));
        self.next(Epoch(0), Body::Takeover { node, schema }, &[])
    }

    fn batch(&mut self, batch: &EpochBatch) -> Vec<u8> {
        self.next(batch.epoch, Body::Epochs { part: 0, parts: 1 }, &batch.records)
    }
}

/// The stream as that version made it: without atomic batches.
fn make_stream(servers: &Servers) {
    as_another(servers, async |context, _| {
        let config = jetstream::stream::Config {
            name: "FREEHOLD_bank".into(),
            subjects: vec!["freehold.bank.log".into(), "freehold.bank.checkpoint".into()],
            discard: jetstream::stream::DiscardPolicy::New,
            ..Default::default()
        };
        context.create_stream(config).await.expect("it is made");
    });
}

/// Appends an entry behind message `last`, and says whether it was taken.
fn append(servers: &Servers, entry: Vec<u8>, last: u64) -> bool {
    as_another(servers, async |context, _| {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, HeaderValue::from(last));
        let sent = context.publish_with_headers("freehold.bank.log", headers, entry.into()).await;
        sent.expect("it is sent").await.is_ok()
    })
}

/// What a runtime of one machine writes that pays so often, epoch by epoch.
fn epochs(directory: &Path) -> Vec<EpochBatch> {
    let config = Config { shards: Shards::Count(1), ..Config::default() };
    let runtime = Runtime::<Bank>::open(config, LogConfig::at(directory)).expect("it opens");
    pay(&runtime.handle(), 0..10);
    runtime.shutdown();
    let log = LocalLog::open(directory).expect("it is a log");
    log.read(Epoch(0)).expect("it can be read").map(|batch| batch.expect("it is whole")).collect()
}

fn node_file(directory: &Path) {
    let place = serde_json::to_value(ChainPlace::first(7)).expect("it is JSON");
    let file = serde_json::json!({ "version": 1, "node": "old/1", "term": 1, "sequence": 1, "place": place });
    std::fs::write(directory.join("node.json"), file.to_string()).expect("it is written");
}

// Standbys are updated first. One follows an owner of version 1, takes over from it, and fences it.
#[test]
fn a_stream_of_version_1_is_followed_and_taken_over() {
    let _watchdog = Watchdog::new("a_stream_of_version_1_is_followed_and_taken_over");
    let Some(servers) = Servers::start("a_stream_of_version_1_is_followed_and_taken_over", 1) else { return };
    let places = [(); 4].map(|()| tempfile::tempdir().expect("a place"));
    let log = places[0].path().join("log");
    let batches = epochs(&log);
    let (few, rest) = batches.split_at(batches.len() / 2);
    make_stream(&servers);
    let mut owner = Old { version: 1, number: 0, previous: [0; 32] };
    assert!(append(&servers, owner.takeover(), 0));
    for (last, batch) in (1..).zip(few) {
        assert!(append(&servers, owner.batch(batch), last));
    }
    let b = open(places[1].path(), servers.config("b")).expect("it follows");
    assert_eq!((b.role(), b.status().owner), (Role::Standby, Some("old/1".to_string())));
    assert!(shown(&b).len() < 10);
    for (last, batch) in (1 + few.len() as u64..).zip(rest) {
        assert!(append(&servers, owner.batch(batch), last));
    }
    let last = 1 + batches.len() as u64;
    until(&b, |status| status.epoch >= batches[batches.len() - 1].epoch);
    assert_eq!(shown(&b), (0..10).collect());
    b.promote().expect("it can");
    assert!(!append(&servers, owner.batch(&batches[0]), last), "the owner of before is fenced");
    pay(&b.handle().expect("it is the owner"), 10..15);
    // What a reader of version 1 finds: it says that it is to be updated.
    let version = as_another(&servers, async |context, _| {
        let stream = context.get_stream("FREEHOLD_bank").await.expect("it is there");
        let message = stream.get_raw_message(last + 1).await.expect("it is there");
        read_entry(&message.payload).expect("it is whole");
        u32::from_le_bytes(message.payload[4..8].try_into().expect("it has four bytes"))
    });
    assert_eq!(version, 2);
    // The former owner is updated, with its directory as it is.
    node_file(places[0].path());
    let a = open(places[0].path(), servers.config("a")).expect("it joins");
    assert_eq!((a.role(), shown(&a)), (Role::Standby, (0..15).collect()));
    assert_eq!(a.status().set_aside, []);
    b.checkpoint().expect("it is made");
    let c = open(places[2].path(), servers.config("c")).expect("it joins");
    assert_eq!(shown(&c), (0..15).collect());
    assert_has(&b, 0..15);
    verify(&servers.config("looks")).expect("it is whole");
}

// A database of one node: it ended before all of its log was in the stream, and was updated.
#[test]
fn an_owner_of_version_1_is_updated_where_it_is() {
    let _watchdog = Watchdog::new("an_owner_of_version_1_is_updated_where_it_is");
    let Some(servers) = Servers::start("an_owner_of_version_1_is_updated_where_it_is", 1) else { return };
    let places = [(); 3].map(|()| tempfile::tempdir().expect("a place"));
    let batches = epochs(&places[2].path().join("log"));
    copy(&places[2].path().join("log"), &places[0].path().join("log"));
    make_stream(&servers);
    let mut owner = Old { version: 1, number: 0, previous: [0; 32] };
    assert!(append(&servers, owner.takeover(), 0));
    let few = batches.len() / 2;
    for (last, batch) in (1..).zip(&batches[..few]) {
        assert!(append(&servers, owner.batch(batch), last));
    }
    // It had one more on its way, which must not fit behind what comes now.
    let late = owner.batch(&batches[few]);
    node_file(places[0].path());
    let a = open(places[0].path(), servers.config("a")).expect("it goes on");
    assert!(!append(&servers, late, 1 + few as u64), "it comes too late");
    assert_eq!(a.role(), Role::Owner);
    assert_has(&a, 0..10);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!(shown(&b), (0..10).collect());
    verify(&servers.config("looks")).expect("it is whole");
}

// A node that is older than the owner says so at once, and touches nothing.
#[test]
fn a_stream_of_a_later_version_is_refused_by_its_name() {
    let _watchdog = Watchdog::new("a_stream_of_a_later_version_is_refused_by_its_name");
    let test = "a_stream_of_a_later_version_is_refused_by_its_name";
    let Some(servers) = Servers::start(test, 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    make_stream(&servers);
    let mut owner = Old { version: 2, number: 0, previous: [0; 32] };
    assert!(append(&servers, owner.takeover(), 0));
    let b: Replicated<Bank> = open(places[0].path(), servers.config("b")).expect("it follows");
    owner.version = 3;
    let still = owner.next(Epoch(0), Body::Still, &[]);
    assert!(append(&servers, still, 1));
    until(&b, |status| status.role == Role::Failed);
    let failure = b.status().failure.expect("it says why");
    assert!(failure.contains("format version 3") && failure.contains("update it"), "{failure}");
    // Its patience is not for that.
    let patient = ReplicaConfig { patience: LONG + Duration::from_secs(600), ..servers.config("c") };
    let error = open(places[1].path(), patient).expect_err("it cannot be read");
    let is_version = |error: &ReplicaError| {
        matches!(
            error,
            ReplicaError::Chain {
                sequence: 2,
                error: ChainError::Damaged { number: 1, error: EntryError::Version { found: 3 } }
            }
        )
    };
    assert!(is_version(&error), "{error}");
}
