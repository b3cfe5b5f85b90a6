//! Checkpoints in the object store, and a stream that is trimmed behind them: how nodes begin with
//! one, and what a crash or damage leaves.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use async_nats::jetstream;
use freehold::{Ack, CommitLog, Epoch, LocalLog};
use freehold_replica::{Login, Repair, ReplicaConfig, ReplicaError, Role, verify};
use futures_util::{StreamExt, TryStreamExt};
use rustix::process::Signal;

use super::bank::{Message, PAYMENTS, is_held, let_go};
use super::joining::as_another;
use super::servers::Servers;
use super::support::Watchdog;
use super::{LONG, SOON, assert_has, is, open, open_hasty, open_with_much_log, pay, refused, shown, until};

/// The first message of the stream.
fn first(servers: &Servers) -> u64 {
    as_another(servers, async |context, _| {
        let stream = context.get_stream("FREEHOLD_bank").await.expect("it is there");
        stream.cached_info().state.first_sequence
    })
}

/// The buckets of checkpoints.
fn buckets(servers: &Servers) -> Vec<String> {
    as_another(servers, async |context, _| {
        let all: Vec<String> = context.stream_names().try_collect().await.expect("they are listed");
        let mut all: Vec<_> =
            all.iter().filter_map(|name| name.strip_prefix("OBJ_")).map(str::to_string).collect();
        all.sort();
        all
    })
}

fn bucket(
    context: &jetstream::Context,
    name: &str,
) -> impl Future<Output = jetstream::object_store::ObjectStore> {
    let config = jetstream::object_store::Config { bucket: name.to_string(), ..Default::default() };
    let context = context.clone();
    async move { context.create_object_store(config).await.expect("it is made") }
}

#[test]
fn a_node_that_is_behind_begins_with_the_checkpoint() {
    let _watchdog = Watchdog::new("a_node_that_is_behind_begins_with_the_checkpoint");
    let Some(servers) = Servers::start("a_node_that_is_behind_begins_with_the_checkpoint", 1) else { return };
    let places = [(); 4].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..30);
    drop(open(places[1].path(), servers.config("b")).expect("it joins"));
    let live = open(places[2].path(), servers.config("live")).expect("it joins");
    assert!(matches!(live.checkpoint(), Err(ReplicaError::Role { .. })));
    // One that is busy with something else, as long as it is asked for its status.
    let (busy, is_busy) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (one, two) = std::thread::scope(|scope| {
        let live = &live;
        scope.spawn(move || {
            live.wait_until(
                |_| {
                    let _ = busy.send(());
                    may_go_on.recv().is_err()
                },
                LONG,
            )
        });
        is_busy.recv().expect("it is");
        let one = a.checkpoint().expect("it is made");
        pay(&bank, 30..40);
        let two = a.checkpoint().expect("it is made");
        drop(go_on);
        (one, two)
    });
    assert!(one.object != two.object && two.epoch > one.epoch && two.bytes > 0);
    assert_eq!((buckets(&servers), a.status().checkpoints), (vec![two.object.clone()], (2, 0)));
    assert!(first(&servers) > 30, "all before the second is let go of");
    pay(&bank, 40..50);
    let c = open(places[3].path(), servers.config("c")).expect("it begins with the checkpoint");
    let named = c.status().checkpoint.expect("it has taken it");
    assert_eq!((named.object, named.bytes, named.epoch), (two.object.clone(), two.bytes, two.epoch));
    let b = open(places[1].path(), servers.config("b")).expect("it was behind");
    for node in [&live, &b, &c] {
        until(node, |status| status.epoch >= a.status().epoch);
        assert_eq!(shown(node), (0..50).collect());
        assert_eq!((node.status().restored, node.status().set_aside), (1, Vec::new()), "{node:?}");
    }
    let found = verify(&servers.config("looks")).expect("it is whole");
    assert_eq!((found.checkpoint, found.term), (Some((two.object, two.bytes)), 1));
    // What was taken is all of the database: its runtime goes on with it.
    c.promote().expect("it can");
    pay(&c.handle().expect("it is the owner"), 50..60);
    c.checkpoint().expect("it is made");
    assert_has(&c, 0..60);
    drop((a, b, live));
    drop(c);
    for place in [&places[3], &places[0]] {
        let node = open(place.path(), servers.config("again")).expect("it goes on");
        until(&node, is(Role::Owner));
        assert_has(&node, 0..60);
    }
}

/// What it writes, and what it makes its checkpoint from, is in the directory that it opened.
#[test]
fn a_node_whose_directory_is_moved_stays_what_it_is() {
    let _watchdog = Watchdog::new("a_node_whose_directory_is_moved_stays_what_it_is");
    let Some(servers) = Servers::start("a_node_whose_directory_is_moved_stays_what_it_is", 1) else { return };
    let place = tempfile::tempdir().expect("a place");
    let [here, moved, new] = ["node", "node.old", "new"].map(|name| place.path().join(name));
    let a = open(&here, servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..10);
    std::fs::rename(&here, &moved).expect("it is moved");
    let b = open(&here, servers.config("b")).expect("it joins");
    pay(&a.handle().expect("it is the owner"), 10..20);
    a.checkpoint().expect("it is made");
    let node = |directory: &Path| {
        let file = std::fs::read_to_string(directory.join("node.json")).expect("it is there");
        ["a/", "b/"].map(|name| file.contains(&format!("\"node\": \"{name}")))
    };
    assert_eq!((node(&moved), node(&here)), ([true, false], [false, true]));
    let c = open(&new, servers.config("c")).expect("it begins with the checkpoint");
    assert_eq!(c.status().restored, 1);
    assert_eq!(shown(&c), (0..20).collect());
    a.shutdown().expect("it stops");
    drop(b);
    let a = open(&moved, servers.config("a")).expect("nobody has taken over");
    until(&a, is(Role::Owner));
    assert_has(&a, 0..20);
}

#[test]
fn a_stream_that_grows_is_trimmed_by_itself() {
    let _watchdog = Watchdog::new("a_stream_that_grows_is_trimmed_by_itself");
    let Some(servers) = Servers::start("a_stream_that_grows_is_trimmed_by_itself", 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    let mut paid = 0;
    while a.status().checkpoints.0 < 2 {
        pay(&bank, paid..paid + 50);
        paid += 50;
        assert_eq!(a.status().failure, None);
    }
    assert!(a.status().stream_bytes < 3 * (64 << 10), "{:?}", a.status());
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!((shown(&b), b.status().restored), ((0..paid).collect(), 1));
}

#[test]
fn what_a_stream_lost_is_repaired_from_the_owners_log() {
    let _watchdog = Watchdog::new("what_a_stream_lost_is_repaired_from_the_owners_log");
    let Some(servers) = Servers::start("what_a_stream_lost_is_repaired", 1) else { return };
    let places = [(); 3].map(|()| tempfile::tempdir().expect("a place"));
    let node = |name: &str| ReplicaConfig { patience: Duration::from_millis(300), ..servers.config(name) };
    let by_hand = ReplicaConfig { repair: Repair::ByHand, ..servers.config("a") };
    let a = open(places[0].path(), by_hand).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..5);
    drop(open(places[1].path(), node("b")).expect("it joins"));
    pay(&bank, 5..20);
    let sequence = as_another(&servers, async |context, _| {
        let stream = context.get_stream("FREEHOLD_bank").await.expect("it is there");
        let sequence = stream.cached_info().state.last_sequence - 5;
        assert!(stream.delete_message(sequence).await.expect("it can be deleted"));
        sequence
    });
    for (place, name) in [(&places[1], "b"), (&places[2], "c")] {
        let error = refused(|| open(place.path(), node(name)));
        assert!(matches!(error, ReplicaError::Missing { sequence: found } if found == sequence), "{error}");
    }
    assert!(verify(&node("looks")).is_err());
    a.checkpoint().expect("the owner's own log has all of it");
    assert!(first(&servers) > sequence, "what is left is whole");
    pay(&bank, 20..25);
    for (place, name) in [(&places[1], "b"), (&places[2], "c")] {
        let standby = open(place.path(), servers.config(name)).expect("it joins");
        assert_eq!((standby.status().restored, shown(&standby)), (1, (0..25).collect()));
    }
    verify(&node("looks")).expect("it is whole");
}

// A standby's log grew with all that was ever committed, as long as it followed.
#[test]
fn a_standbys_log_is_bounded_and_what_it_shows_does_not_go_back() {
    let _watchdog = Watchdog::new("a_standbys_log_is_bounded_and_what_it_shows_does_not_go_back");
    let Some(servers) = Servers::start("a_standbys_log_is_bounded", 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    let bank = a.handle().expect("it is the owner");
    let (mut paid, mut epoch) = (0, Epoch(0));
    while a.status().checkpoints.0 < 8 {
        let many = (paid..paid + 50).map(|number| Message::Pay { number: number % 100 });
        assert!(bank.ask_all(many).wait().iter().all(Result::is_ok));
        paid += 50;
        let now = b.snapshot().expect("it is a standby").epoch();
        assert!(now >= epoch, "{now} after {epoch}");
        epoch = now;
    }
    let last = a.status().epoch;
    until(&b, |status| status.epoch >= last);
    assert!(b.status().restored > 0, "{:?}", b.status());
    let files = std::fs::read_dir(places[1].path().join("log")).expect("it is there");
    let bytes: u64 = files.flatten().map(|file| file.metadata().expect("it is there").len()).sum();
    assert!(bytes < 6 * (64 << 10), "{bytes} bytes, after 8 times 64 KiB");
    drop(a);
    // It may be taking the owner's last checkpoint, and cannot be promoted until it has it.
    while let Err(error) = b.promote() {
        let is_busy = |needed: &str| needed.starts_with("up to date: it takes a checkpoint");
        assert!(matches!(error, ReplicaError::Role { needed } if is_busy(needed)), "{error}");
        std::thread::sleep(Duration::from_millis(1));
    }
    let read = |number| b.handle().expect("it is the owner").ask(Message::Read(PAYMENTS + number)).wait();
    assert!((0..100).all(|number| read(number) == Ok((paid / 100 + u64::from(paid % 100 > number)) as i64)));
}

// Reads end epochs in which nothing is committed. The stream has them, and the owner's own log has
// not: it had no checkpoint then, until somebody wrote something.
#[test]
fn a_database_that_is_only_read_has_checkpoints() {
    let _watchdog = Watchdog::new("a_database_that_is_only_read_has_checkpoints");
    let Some(servers) = Servers::start("a_database_that_is_only_read_has_checkpoints", 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..5);
    for _ in 0..2 {
        for id in 0..20 {
            bank.ask(Message::Read(id)).wait().expect("the owner answers");
        }
        let epoch = a.status().epoch;
        assert!(a.checkpoint().expect("it is made").epoch >= epoch);
    }
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!((b.status().restored, shown(&b)), (1, (0..5).collect()));
}

// A shard that is named for an epoch, and commits nothing, closes a later one when that has begun.
// So a log may have come further than anybody awaits. What is copied of it then was not named
// before somebody committed something, and who had asked for it waited as long.
#[test]
fn a_log_that_has_come_further_than_anybody_awaits_has_checkpoints() {
    let test = "a_log_that_has_come_further_than_anybody_awaits_has_checkpoints";
    let _watchdog = Watchdog::new(test);
    let Some(servers) = Servers::start(test, 1) else { return };
    let place = tempfile::tempdir().expect("a place");
    // Reads do not wait for the stream.
    let answer_within = Duration::from_secs(10);
    let config = ReplicaConfig { ack: Ack::Durable, answer_within, ..servers.config("a") };
    let a = open_with_much_log(place.path(), 2, config).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    let at = |shard| (0..).find(|id| bank.home(id).index() == shard).expect("each has some");
    let (first, second) = (at(0), at(1));
    let writes = |shard: usize| bank.stats().shards[shard].log_writes.count();
    let wrote = |shard, before| {
        while writes(shard) == before {
            std::thread::yield_now();
        }
    };
    for id in [first, second] {
        assert_eq!(bank.ask(Message::Touch(id)).wait(), Ok(0));
    }
    // Until neither is to write anything more of that.
    let is_settled = || {
        let stats = bank.stats();
        let is_writing = |shard: usize| stats.shards[shard].in_log_write_for.is_some();
        a.status().epoch.next() >= stats.epoch && !is_writing(0) && !is_writing(1)
    };
    while !is_settled() {
        std::thread::yield_now();
    }
    let before = [writes(0), writes(1)];
    let holds_second = bank.ask(Message::Hold(second));
    is_held(second);
    // It names the second shard, which is in a turn.
    let touched = bank.ask(Message::Touch(first));
    wrote(0, before[0]);
    let epoch = Epoch(bank.stats().epoch.0 - 1);
    // The first shard is in a turn as well when a later epoch begins, for which nobody waits any
    // more; and then the second closes the one before.
    let holds_first = bank.ask(Message::Hold(first));
    is_held(first);
    drop(bank.snapshot());
    let_go(second);
    wrote(1, before[1]);
    until(&a, |status| status.epoch >= epoch);
    let before = writes(0);
    let_go(first);
    wrote(0, before);
    for asked in [holds_second, touched, holds_first] {
        assert_eq!(asked.wait(), Ok(0));
    }
    assert_eq!(a.status().epoch, epoch);
    let made = a.checkpoint().expect("it is made");
    assert!(made.epoch > epoch, "its log has come no further than {epoch}: {made:?}");
}

// Under load something is always on its way. Nothing more is sent until a checkpoint has begun, so
// what waits then is behind its place.
#[test]
fn a_checkpoint_begins_while_much_waits() {
    let watchdog = Watchdog::new("a_checkpoint_begins_while_much_waits");
    let Some(servers) = Servers::start("a_checkpoint_begins_while_much_waits", 1) else { return };
    let place = tempfile::tempdir().expect("a place");
    // Nobody waits for the stream, and entries are short.
    let config = ReplicaConfig {
        ack: Ack::Applied,
        entry_bytes_max: 4 << 10,
        answer_within: Duration::from_secs(2),
        ..servers.config("a")
    };
    let a = open_with_much_log(place.path(), 1, config).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    servers.signal(0, Signal::STOP);
    while a.status().bytes_waiting < 512 << 10 {
        let many = (0..100).map(|number| Message::Pay { number });
        assert!(bank.ask_all(many).wait().iter().all(Result::is_ok));
    }
    servers.signal(0, Signal::CONT);
    watchdog.feed();
    let left = AtomicU64::new(0);
    let is_made = a.wait_until(
        |status| {
            left.store(status.stream_bytes, Ordering::SeqCst);
            status.checkpoints.0 > 0
        },
        LONG,
    );
    let left = left.into_inner();
    assert!(is_made && left > 256 << 10, "it begins after 64 KiB, and {left} bytes are behind it");
}

// Somebody removes a part of it as soon as it is there. Nothing may be let go of for it.
#[test]
fn a_checkpoint_that_is_not_whole_trims_nothing() {
    let watchdog = Watchdog::new("a_checkpoint_that_is_not_whole_trims_nothing");
    let Some(servers) = Servers::start("a_checkpoint_that_is_not_whole_trims_nothing", 1) else { return };
    let place = tempfile::tempdir().expect("a place");
    // Many messages, so that there is time.
    let many = ReplicaConfig { entry_bytes_max: 4 << 10, answer_within: SOON, ..servers.config("a") };
    let a = open_hasty(place.path(), &ReplicaConfig { checkpoint_bytes: 1 << 30, ..many });
    let bank = a.handle().expect("it is the owner");
    let (is_over, removed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            as_another(&servers, async |context, client| {
                let mut chunks = client.subscribe("$O.*.C.checkpoint").await.expect("it may");
                let mut last = String::new();
                while !is_over.load(Ordering::SeqCst) {
                    let wait = Duration::from_millis(50);
                    let Ok(Some(chunk)) = tokio::time::timeout(wait, chunks.next()).await else { continue };
                    let bucket = chunk.subject.split('.').nth(1).expect("a bucket").to_string();
                    if bucket != last {
                        last.clone_from(&bucket);
                        if let Ok(stream) = context.get_stream_no_info(format!("OBJ_{bucket}")).await {
                            let is_gone = stream.delete_message(1).await.is_ok_and(|is_gone| is_gone);
                            removed.fetch_add(u64::from(is_gone), Ordering::SeqCst);
                        }
                    }
                }
            });
        });
        // It may have come too late, and then it is made. Only what was removed before it was made
        // counts: on a busy machine that is rare.
        let (mut number, mut tries) = (0, 0);
        loop {
            pay(&bank, number..number + 5);
            number += 5;
            let (before, removed_before) = (first(&servers), removed.load(Ordering::SeqCst));
            match a.checkpoint() {
                Ok(_) if removed.load(Ordering::SeqCst) == removed_before => continue,
                Ok(_) => tries += 1,
                Err(error) => {
                    assert!(matches!(error, ReplicaError::NotCheckpointed { .. }), "{error}");
                    assert_eq!(first(&servers), before, "all of the stream is there");
                    // A slow disk is another reason.
                    if error.to_string().contains("messages, and was of") {
                        break;
                    }
                }
            }
            watchdog.feed();
            assert!(tries < 20, "a checkpoint that is not whole is taken for one that is");
        }
        is_over.store(true, Ordering::SeqCst);
    });
    // The next one is whole.
    let before = first(&servers);
    while let Err(error) = a.checkpoint() {
        println!("a disk is slow: {error}");
    }
    assert!(first(&servers) > before);
}

/// What is done to a checkpoint.
type Damage = fn(&jetstream::Context, String) -> futures_util::future::BoxFuture<'static, ()>;

/// A bit of it flips.
fn changed(context: &jetstream::Context, object: String) -> futures_util::future::BoxFuture<'static, ()> {
    let context = context.clone();
    Box::pin(async move {
        let store = context.get_object_store(&object).await.expect("it is there");
        let mut was = Vec::new();
        let mut read = store.get("checkpoint").await.expect("it is there");
        tokio::io::AsyncReadExt::read_to_end(&mut read, &mut was).await.expect("it is read");
        let middle = was.len() / 2;
        was[middle] ^= 1;
        store.put("checkpoint", &mut was.as_slice()).await.expect("it is put there");
    })
}

/// Its first chunk is not there.
fn cut(context: &jetstream::Context, object: String) -> futures_util::future::BoxFuture<'static, ()> {
    let context = context.clone();
    Box::pin(async move {
        let stream = context.get_stream(format!("OBJ_{object}")).await.expect("it is there");
        assert!(stream.delete_message(1).await.expect("it can be deleted"));
    })
}

/// It is not there.
fn gone(context: &jetstream::Context, object: String) -> futures_util::future::BoxFuture<'static, ()> {
    let context = context.clone();
    Box::pin(async move { context.delete_object_store(&object).await.expect("it can be deleted") })
}

#[test]
fn a_checkpoint_that_is_damaged_is_named_and_nothing_is_touched() {
    let _watchdog = Watchdog::new("a_checkpoint_that_is_damaged_is_named_and_nothing_is_touched");
    let test = "a_checkpoint_that_is_damaged_is_named_and_nothing_is_touched";
    let Some(servers) = Servers::start(test, 1) else { return };
    let places = [(); 4].map(|()| tempfile::tempdir().expect("a place"));
    let by_hand = ReplicaConfig { repair: Repair::ByHand, ..servers.config("a") };
    let a = open(places[0].path(), by_hand).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..10);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    let epoch = b.status().epoch;
    drop(b);
    pay(&bank, 10..20);
    // What does not come is waited for, for four times as long.
    let (patience, answer_within) = (Duration::from_millis(200), SOON);
    let hasty = |node: &str| ReplicaConfig { patience, answer_within, ..servers.config(node) };
    let is_refused = |place: &Path, object: &str, words: &[&str]| {
        let error = refused(|| open(place, hasty("b")));
        let found = refused(|| verify(&hasty("looks")));
        for error in [error, found] {
            let said = error.to_string();
            assert!(
                matches!(error, ReplicaError::Checkpoint { object: ref named, .. } if named == object),
                "{said}"
            );
            assert!(
                words.iter().any(|words| said.contains(words)) && said.contains("make another"),
                "{said}"
            );
        }
    };
    for (place, damage, words) in [
        (&places[1], changed as Damage, &["SHA-256 is not"][..]),
        (&places[2], cut, &["does not come", "digest", "bytes, and"]),
        (&places[3], gone, &["stream not found"]),
    ] {
        let object = a.checkpoint().expect("it is made").object;
        as_another(&servers, async |context, _| damage(&context, object.clone()).await);
        is_refused(place.path(), &object, words);
    }
    // The node that had something has it still, and joins when there is a checkpoint again.
    let log = LocalLog::open(places[1].path().join("log")).expect("it is as it was");
    assert_eq!(log.tail(), epoch);
    drop(log);
    pay(&bank, 20..30);
    a.checkpoint().expect("it is made");
    for place in &places[1..] {
        let node = open(place.path(), servers.config("b")).expect("it joins");
        assert_eq!(shown(&node), (0..30).collect());
    }
}

// A crash may come after each step. It is played here by what it leaves.
#[test]
fn what_a_crash_leaves_of_a_checkpoint_does_no_harm() {
    let _watchdog = Watchdog::new("what_a_crash_leaves_of_a_checkpoint_does_no_harm");
    let Some(servers) = Servers::start("what_a_crash_leaves_of_a_checkpoint_does_no_harm", 1) else { return };
    let places = [(); 4].map(|()| tempfile::tempdir().expect("a place"));
    let notrim = Login::User { user: "notrim".into(), password: "secret".into() };
    let a = ReplicaConfig { login: notrim, ..servers.config("a") };
    let a = open(places[0].path(), a).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..10);
    // In part, or whole, and not named; and one of an owner that is to come.
    let database = verify(&servers.config("looks")).expect("it is whole").database;
    let left = [(1, 7), (1, 8), (9, 9)]
        .map(|(term, number)| format!("FREEHOLD_bank_checkpoint_{database:016x}_{term}_{number:016x}"));
    as_another(&servers, async |context, _| {
        for (at, name) in left.iter().enumerate() {
            let store = bucket(&context, name).await;
            if at > 0 {
                store.put("checkpoint", &mut &b"some"[..]).await.expect("it is put there");
            }
        }
    });
    // Named, and nothing is let go of.
    let error = a.checkpoint().expect_err("it may not trim");
    assert!(matches!(error, ReplicaError::Servers { doing: "trimming the stream", .. }), "{error}");
    assert_eq!((a.role(), first(&servers), a.status().checkpoints), (Role::Owner, 1, (0, 1)));
    pay(&a.handle().expect("it is the owner"), 10..20);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!((shown(&b), b.status().restored), ((0..20).collect(), 0));
    drop((a, b));
    for junk in ["checkpoint-copy", "checkpoint-taken", "log.old"] {
        let junk = places[0].path().join(junk);
        std::fs::create_dir(&junk)
            .and_then(|()| std::fs::write(junk.join("log-1"), "some"))
            .expect("it is made");
    }
    let a = open(places[0].path(), servers.config("a")).expect("it goes on");
    let there = || std::fs::read_dir(places[0].path()).expect("it is there").count();
    assert_eq!((a.role(), there()), (Role::Owner, 2), "a log, and what the node remembers");
    pay(&a.handle().expect("it is the owner"), 20..30);
    let made = a.checkpoint().expect("it is made");
    assert!(first(&servers) > 20);
    let kept = [made.object, left[2].clone()];
    assert_eq!((buckets(&servers), there()), (kept.to_vec(), 2), "the others were of this term or before");
    // If it ends now, it goes on with its own log from a place that is there still.
    let remembers = std::fs::read(places[0].path().join("node.json")).expect("it is there");
    let remembers: serde_json::Value = serde_json::from_slice(&remembers).expect("it is JSON");
    assert_eq!(remembers["sequence"].as_u64(), Some(first(&servers) + 1), "and the one before it, too");
    // A standby ended when its log had given way, and when the checkpoint had taken its place.
    for at in 0..2 {
        let place = &places[1 + at];
        let log = place.path().join("log");
        let node = open(place.path(), servers.config("b")).expect("it joins");
        let remembers = std::fs::read(place.path().join("node.json")).expect("it is there");
        pay(&a.handle().expect("it is the owner"), [100 + at as u64]);
        until(&node, |status| status.epoch >= a.status().epoch);
        drop(node);
        a.checkpoint().expect("it is made");
        if at == 0 {
            std::fs::remove_dir_all(&log).expect("it can be removed");
        } else {
            std::fs::write(place.path().join("node.json"), remembers).expect("it is written");
        }
        let node = open(place.path(), servers.config("b")).expect("it takes it again");
        assert_eq!(shown(&node), (0..30).chain(100..=100 + at as u64).collect());
    }
}

// Its own disk has what nobody else was told of, and the stream was trimmed since.
#[test]
fn what_a_former_owner_has_of_its_own_is_set_aside_before_it_takes_a_checkpoint() {
    let test = "what_a_former_owner_has_of_its_own_is_set_aside_before_it_takes_a_checkpoint";
    let _watchdog = Watchdog::new(test);
    let Some(mut servers) = Servers::start(test, 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let (patience, answer_within) = (Duration::from_millis(300), Duration::from_millis(100));
    let durable = |servers: &Servers| ReplicaConfig { ack: Ack::Durable, ..servers.config("a") };
    drop(open(places[0].path(), durable(&servers)).expect("nobody owns it"));
    let hasty = ReplicaConfig { patience, answer_within, ..durable(&servers) };
    let a = open_hasty(places[0].path(), &hasty);
    servers.kill(0);
    pay(&a.handle().expect("it is the owner"), 0..5);
    drop(a);
    servers.run(0);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    b.promote().expect("it can");
    pay(&b.handle().expect("it is the owner"), 10..20);
    b.checkpoint().expect("it is made");
    let a = open(places[0].path(), servers.config("a")).expect("it takes the checkpoint");
    let aside = a.status().set_aside;
    assert_eq!((a.role(), a.status().restored, aside.len()), (Role::Standby, 1, 1), "{aside:?}");
    let (kept, mut records) = (LocalLog::open(&aside[0].directory).expect("it is whole"), 0);
    kept.restore(|_| records += 1).expect("it can be read");
    assert!(records >= 5 && aside[0].until > aside[0].after);
    assert_eq!(shown(&a), (10..20).collect());
}
