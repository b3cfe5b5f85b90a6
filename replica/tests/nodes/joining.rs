//! What a node refuses: servers that lose what they acknowledge, streams that are not the
//! database's, and directories that are not the stream's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use freehold::{CommitLog, Config, Epoch, EpochBatch, LocalLog, LogConfig, Runtime, Shards, WrittenSchema};
use freehold_replica::{Login, ReplicaConfig, ReplicaError, Role, SyncCheck, verify};

use super::bank::Bank;
use super::servers::Servers;
use super::support::Watchdog;
use super::{is, open, open_hasty, pay, refused, shown, until};

/// Does something to the servers as another of their clients.
pub fn as_another<R>(
    servers: &Servers,
    with: impl AsyncFnOnce(jetstream::Context, async_nats::Client) -> R,
) -> R {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it is made");
    executor.block_on(async {
        let options = async_nats::ConnectOptions::with_user_and_password("app".into(), "secret".into());
        let client = options.connect(&servers.urls()).await.expect("they answer");
        with(jetstream::new(client.clone()), client).await
    })
}

#[test]
fn servers_and_streams_that_lose_what_they_acknowledge_are_refused() {
    let _watchdog = Watchdog::new("servers_and_streams_that_lose_what_they_acknowledge_are_refused");
    let test = "servers_and_streams_that_lose_what_they_acknowledge_are_refused";
    let Some(servers) = Servers::start(test, 1) else { return };
    let place = tempfile::tempdir().expect("a place");
    let short = |config| ReplicaConfig { patience: Duration::from_millis(300), ..config };
    let refused = |config: ReplicaConfig| refused(|| open(place.path(), config.clone()));
    let wrong = Login::User { user: "app".into(), password: "wrong".into() };
    let no_entry = short(ReplicaConfig { login: wrong.clone(), ..servers.config("a") });
    let no_entry = open(place.path(), no_entry).expect_err("it is refused");
    assert!(matches!(no_entry, ReplicaError::Servers { .. }), "{no_entry}");
    assert!(!no_entry.to_string().contains("secret"));
    let app = SyncCheck::By(Login::User { user: "app".into(), password: "secret".into() });
    let unknown = refused(short(ReplicaConfig { sync_check: app, ..servers.config("a") }));
    assert!(matches!(unknown, ReplicaError::SyncUnknown { said: 0, needed: 1 }), "{unknown}");
    let more = refused(ReplicaConfig { replicas: 3, ..servers.config("a") });
    assert!(matches!(more, ReplicaError::Stream { field: "replicas", .. }), "{more}");
    let make = |change: fn(&mut jetstream::stream::Config)| {
        as_another(&servers, async |context, _| {
            let mut config = jetstream::stream::Config {
                name: "FREEHOLD_bank".into(),
                subjects: vec!["freehold.bank.log".into(), "freehold.bank.checkpoint".into()],
                ..Default::default()
            };
            change(&mut config);
            let _ = context.delete_stream("FREEHOLD_bank").await;
            // A server may still be removing the one before.
            while context.create_stream(config.clone()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    };
    type Change = fn(&mut jetstream::stream::Config);
    let changes: [(&str, Change); 7] = [
        ("storage", |config| config.storage = jetstream::stream::StorageType::Memory),
        ("max age", |config| config.max_age = Duration::from_secs(3600)),
        ("max messages", |config| config.max_messages = 1000),
        ("max bytes", |config| config.max_bytes = 1 << 20),
        ("max messages per subject", |config| config.max_messages_per_subject = 1000),
        ("max message size", |config| config.max_message_size = 10_000),
        ("acknowledgements", |config| config.no_ack = true),
    ];
    for (named, change) in changes {
        make(change);
        let error = refused(servers.config("a"));
        assert!(matches!(error, ReplicaError::Stream { field, .. } if field == named), "{named}: {error}");
    }
    make(|_| {});
    as_another(&servers, async |context, _| {
        let mut stream = context.get_stream("FREEHOLD_bank").await.expect("it is there");
        let config = stream.info().await.expect("it says so").config.clone();
        let sealed = jetstream::stream::Config { sealed: true, ..config };
        context.update_stream(sealed).await.expect("it can be sealed");
    });
    let error = refused(servers.config("a"));
    assert!(matches!(error, ReplicaError::Stream { field: "sealed", .. }), "{error}");
    drop(servers);
    let Some(hasty) = Servers::start_with(test, 1, "2m") else { return };
    let error = refused(hasty.config("a"));
    assert!(matches!(&error, ReplicaError::NotSynced { server } if server == "s0"), "{error}");
    let assumed = ReplicaConfig { sync_check: SyncCheck::Assumed, ..hasty.config("a") };
    assert_eq!(open(place.path(), assumed).expect("somebody has said so").role(), Role::Owner);
}

#[test]
fn a_stream_that_lost_something_and_one_of_another_database_are_named() {
    let _watchdog = Watchdog::new("a_stream_that_lost_something_and_one_of_another_database_are_named");
    let test = "a_stream_that_lost_something_and_one_of_another_database_are_named";
    let Some(servers) = Servers::start(test, 1) else { return };
    let places = [(); 4].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..5);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    drop((b, a));
    let found = verify(&servers.config("looks")).expect("it is whole");
    assert_eq!((found.term, found.owner.clone()), (1, None), "{found:?}");
    assert!(found.batches >= 5 && found.records >= 15, "{found:?}");
    let elsewhere = ReplicaConfig { database: "none".into(), ..servers.config("looks") };
    assert!(matches!(verify(&elsewhere), Err(ReplicaError::NoStream { .. })));
    // A message in the middle is gone: a reader of all of it sees that.
    as_another(&servers, async |context, _| {
        let stream = context.get_stream("FREEHOLD_bank").await.expect("it is there");
        assert!(stream.delete_message(3).await.expect("it can be deleted"));
    });
    let patience = Duration::from_millis(300);
    let error = refused(|| open(places[2].path(), ReplicaConfig { patience, ..servers.config("c") }));
    assert!(matches!(error, ReplicaError::Missing { sequence: 3 }), "{error}");
    let found = verify(&servers.config("looks")).expect_err("a gap");
    assert!(matches!(found, ReplicaError::Missing { sequence: 3 }), "{found}");
    // All of it is gone, and a node remembers more.
    as_another(&servers, async |context, _| {
        context.delete_stream("FREEHOLD_bank").await.expect("it can be deleted");
    });
    let error = open(places[0].path(), servers.config("a")).expect_err("it is lost");
    assert!(matches!(error, ReplicaError::Lost { last: 0, seen } if seen > 5), "{error}");
    let c = open(places[3].path(), servers.config("c")).expect("a new database");
    pay(&c.handle().expect("it is the owner"), 0..20);
    let error = open(places[0].path(), servers.config("a")).expect_err("it is another");
    assert!(matches!(error, ReplicaError::OtherDatabase { .. }), "{error}");
}

// Whoever is quicker founds it, and the others have nothing that could get lost.
#[test]
fn nodes_that_found_a_database_at_once_agree_on_one() {
    let _watchdog = Watchdog::new("nodes_that_found_a_database_at_once_agree_on_one");
    let Some(servers) = Servers::start("nodes_that_found_a_database_at_once_agree_on_one", 1) else { return };
    for round in 0..3 {
        let at = |node: &str| {
            let config = servers.config(node);
            ReplicaConfig { database: format!("bank-{round}"), ..config }
        };
        let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
        let nodes = std::thread::scope(|scope| {
            let [a, b] = [("a", &places[0]), ("b", &places[1])].map(|(node, place)| {
                let config = at(node);
                scope.spawn(move || open(place.path(), config))
            });
            [a, b].map(|opened| opened.join().expect("nobody panics").expect("it joins"))
        });
        let mut roles = nodes.each_ref().map(|node| node.role());
        roles.sort_by_key(|role| *role == Role::Owner);
        assert_eq!(roles, [Role::Standby, Role::Owner]);
    }
    // One that has drawn a number, and then ended, joins as well.
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..5);
    let place = serde_json::to_value(freehold_shard::log::chain::ChainPlace::first(7)).expect("it is JSON");
    let drawn = serde_json::json!({ "version": 1, "node": "b/1", "term": 1, "sequence": 1, "place": place });
    std::fs::write(places[1].path().join("node.json"), drawn.to_string()).expect("it is written");
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!((b.role(), shown(&b)), (Role::Standby, (0..5).collect()));
}

// Between the renaming of its log and what it remembers then, a node may end.
#[test]
fn a_node_without_its_log_reads_all_of_the_stream() {
    let _watchdog = Watchdog::new("a_node_without_its_log_reads_all_of_the_stream");
    let Some(servers) = Servers::start("a_node_without_its_log_reads_all_of_the_stream", 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..5);
    drop(open(places[1].path(), servers.config("b")).expect("it joins"));
    std::fs::rename(places[1].path().join("log"), places[1].path().join("aside")).expect("it is moved");
    pay(&a.handle().expect("it is the owner"), 5..10);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!((b.role(), shown(&b)), (Role::Standby, (0..10).collect()));
    // On a thread of an executor they only wait.
    as_another(&servers, async |_, _| {
        b.promote().expect("it can");
        drop(a);
        assert!(b.shutdown().expect("there was a runtime").drained);
    });
}

// A log that was there before becomes a database's first. The first start ends in the middle.
#[test]
fn a_founding_that_was_interrupted_goes_on() {
    let _watchdog = Watchdog::new("a_founding_that_was_interrupted_goes_on");
    let Some(servers) = Servers::start("a_founding_that_was_interrupted_goes_on", 1) else { return };
    let [place, whole] = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let runs = |directory: &Path, numbers: std::ops::Range<u64>| {
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        let runtime = Runtime::<Bank>::open(config, LogConfig::at(directory)).expect("it opens");
        pay(&runtime.handle(), numbers);
        runtime.shutdown();
    };
    let log = place.path().join("log");
    runs(&log, 0..5);
    copy(&log, &whole.path().join("log"));
    let mut odd = LocalLog::open(&log).expect("it is a log");
    let (tail, schema) = (odd.tail(), Arc::new(WrittenSchema::UNSTATED));
    let last = odd.read(Epoch(0)).expect("it can be read").last().expect("it has some").expect("it is whole");
    let batch = EpochBatch { epoch: tail.next(), schema, ..last };
    odd.append(tail, &batch).expect("it is written");
    drop(odd);
    let error = open(place.path(), servers.config("a")).expect_err("it ends there");
    assert!(matches!(error, ReplicaError::OlderTypes { .. }), "{error}");
    std::fs::remove_dir_all(&log).expect("it can be removed");
    runs(&whole.path().join("log"), 5..10);
    copy(&whole.path().join("log"), &log);
    let a = open(place.path(), servers.config("a")).expect("it goes on");
    assert_eq!(a.role(), Role::Owner);
    let b = open(whole.path(), servers.config("b")).expect_err("it has a log of its own");
    assert!(matches!(b, ReplicaError::NotAMember { .. }), "{b}");
    let place = tempfile::tempdir().expect("a place");
    let c = open(place.path(), servers.config("c")).expect("it joins");
    assert_eq!(shown(&c), (0..10).collect());
}

/// Copies the files of a directory.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("it can be made");
    for file in std::fs::read_dir(from).expect("it is there").flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).expect("it can be copied");
    }
}

// It may read the stream and not append: so it fails to take over again and again.
#[test]
fn a_node_that_cannot_take_over_can_be_stopped() {
    let _watchdog = Watchdog::new("a_node_that_cannot_take_over_can_be_stopped");
    let Some(servers) = Servers::start("a_node_that_cannot_take_over_can_be_stopped", 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    let b = ReplicaConfig {
        login: Login::User { user: "reads".into(), password: "secret".into() },
        takeover_after: Some(Duration::from_secs(3600)),
        patience: Duration::from_millis(300),
        ..servers.config("b")
    };
    let b = open_hasty(places[1].path(), &b);
    a.shutdown().expect("there was a runtime");
    until(&b, |status| status.owner.is_none());
    let error = b.promote().expect_err("it cannot append");
    assert!(matches!(error, ReplicaError::Servers { .. }), "{error}");
    assert_eq!((b.role(), b.shutdown().is_none()), (Role::Standby, true));
}

// Somebody else publishes to the subject. What is behind that cannot be trusted.
#[test]
fn what_a_stranger_appends_is_named() {
    let _watchdog = Watchdog::new("what_a_stranger_appends_is_named");
    let Some(servers) = Servers::start("what_a_stranger_appends_is_named", 1) else { return };
    let places = [(); 3].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..3);
    let hasty = |node| ReplicaConfig { patience: Duration::from_millis(300), ..servers.config(node) };
    let b = open_hasty(places[1].path(), &hasty("b"));
    let bank = a.handle().expect("it is the owner");
    as_another(&servers, async |context, _| {
        let published = context.publish("freehold.bank.log", "junk".into()).await.expect("it is sent");
        published.await.expect("it is in the stream");
    });
    until(&b, is(Role::Failed));
    let failure = b.status().failure.expect("it says why");
    assert!(failure.contains("is damaged: no entry begins here"), "{failure}");
    // Its reader has said so: the owner looks, and stops before anybody asks it for anything.
    let unpaid = bank.ask(super::Message::Pay { number: 3 }).wait();
    assert!(super::is_unanswered(&unpaid), "{unpaid:?}");
    until(&a, is(Role::Failed));
    assert!(a.status().failure.expect("it says why").contains("not this database's"));
    let error = refused(|| open(places[2].path(), hasty("c")));
    assert!(matches!(error, ReplicaError::Chain { .. }), "{error}");
}
