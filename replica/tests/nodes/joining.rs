//! What a node refuses: servers that lose what they acknowledge, streams that are not the
//! database's, and directories that are not the stream's.

use std::time::Duration;

use async_nats::jetstream;
use freehold_replica::{Login, ReplicaConfig, ReplicaError, Role, SyncCheck, verify};

use super::servers::Servers;
use super::support::Watchdog;
use super::{is, open, pay, until};

/// Does something to the servers as another of their clients.
fn as_another<R>(
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
    let refused = |config| open(place.path(), config).expect_err("it is refused");
    let wrong = Login::User { user: "app".into(), password: "wrong".into() };
    let no_entry = refused(short(ReplicaConfig { login: wrong.clone(), ..servers.config("a") }));
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
                subjects: vec!["freehold.bank.log".into()],
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
    let changes: [(&str, Change); 4] = [
        ("storage", |config| config.storage = jetstream::stream::StorageType::Memory),
        ("max age", |config| config.max_age = Duration::from_secs(3600)),
        ("max messages", |config| config.max_messages = 1000),
        ("max bytes", |config| config.max_bytes = 1 << 20),
    ];
    for (named, change) in changes {
        make(change);
        let error = refused(servers.config("a"));
        assert!(matches!(error, ReplicaError::Stream { field, .. } if field == named), "{named}: {error}");
    }
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
    let error = open(places[2].path(), ReplicaConfig { patience, ..servers.config("c") }).expect_err("a gap");
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

// Somebody else publishes to the subject. What is behind that cannot be trusted.
#[test]
fn what_a_stranger_appends_is_named() {
    let _watchdog = Watchdog::new("what_a_stranger_appends_is_named");
    let Some(servers) = Servers::start("what_a_stranger_appends_is_named", 1) else { return };
    let places = [(); 3].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..3);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    as_another(&servers, async |context, _| {
        let published = context.publish("freehold.bank.log", "junk".into()).await.expect("it is sent");
        published.await.expect("it is in the stream");
    });
    until(&b, is(Role::Failed));
    let failure = b.status().failure.expect("it says why");
    assert!(failure.contains("is damaged: no entry begins here"), "{failure}");
    let unpaid = a.handle().expect("it is the owner").ask(super::Message::Pay { number: 3 }).wait();
    assert!(super::is_unanswered(&unpaid), "{unpaid:?}");
    until(&a, is(Role::Failed));
    assert!(a.status().failure.expect("it says why").contains("not this database's"));
    let error = open(places[2].path(), servers.config("c")).expect_err("it cannot be read");
    assert!(matches!(error, ReplicaError::Chain { .. }), "{error}");
}
