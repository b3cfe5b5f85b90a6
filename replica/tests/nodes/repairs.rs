//! Streams that are damaged, and who repairs them: the owner by itself, or an operator from a log.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use freehold::{Config, Epoch, LogConfig, Runtime, Shards};
use freehold_replica::{Login, Repair, ReplicaConfig, ReplicaError, Replicated, Role, verify};
use futures_util::StreamExt;

use super::bank::Bank;
use super::joining::as_another;
use super::servers::Servers;
use super::support::Watchdog;
use super::{LONG, SOON, assert_has, is, open, open_hasty, pay, refused, shown, until};

/// Deletes the message that is so many before the last, and says which.
fn lose(servers: &Servers, before_last: u64) -> u64 {
    as_another(servers, async |context, _| {
        let stream = context.get_stream("FREEHOLD_bank").await.expect("it is there");
        let sequence = stream.cached_info().state.last_sequence - before_last;
        assert!(stream.delete_message(sequence).await.expect("it can be deleted"));
        sequence
    })
}

fn hasty(servers: &Servers, node: &str) -> ReplicaConfig {
    ReplicaConfig { patience: Duration::from_millis(300), answer_within: SOON, ..servers.config(node) }
}

fn from_this_log(servers: &Servers, node: &str) -> ReplicaConfig {
    ReplicaConfig { repair: Repair::FromThisLog, ..hasty(servers, node) }
}

/// Keeps a node busy while `meanwhile` runs.
fn while_busy(node: &Replicated<Bank>, meanwhile: impl FnOnce()) {
    let (busy, is_busy) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            node.wait_until(
                |_| {
                    let _ = busy.send(());
                    may_go_on.recv().is_err()
                },
                LONG,
            )
        });
        is_busy.recv().expect("it is");
        meanwhile();
        drop(go_on);
    });
}

// Whoever reads says so, and the owner makes a checkpoint: of damage in the middle, at the end, and
// of the checkpoint itself.
#[test]
fn a_reader_that_finds_damage_has_the_owner_repair_it() {
    let _watchdog = Watchdog::new("a_reader_that_finds_damage_has_the_owner_repair_it");
    let Some(servers) = Servers::start("a_reader_that_finds_damage_has_the_owner_repair_it", 1) else {
        return;
    };
    let places = [(); 4].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..5);
    drop(open(places[1].path(), servers.config("b")).expect("it joins"));
    pay(&bank, 5..20);
    let lost = lose(&servers, 5);
    let found = refused(|| verify(&hasty(&servers, "looks")));
    assert!(matches!(found, ReplicaError::Missing { sequence } if sequence == lost), "{found}");
    // One that was there, and one that begins.
    for (place, name) in [(&places[1], "b"), (&places[2], "c")] {
        let standby = open(place.path(), servers.config(name)).expect("the owner repairs it");
        assert_eq!((standby.status().restored, shown(&standby)), (1, (0..20).collect()));
        assert_eq!(a.status().repaired, 1);
    }
    // One that follows, and the last messages of all.
    let live = open(places[3].path(), servers.config("live")).expect("it joins");
    while_busy(&live, || {
        pay(&bank, 20..25);
        lose(&servers, 0);
    });
    until(&live, |status| status.epoch >= a.status().epoch && status.restored == 2);
    assert_eq!((shown(&live), live.role()), ((0..25).collect(), Role::Standby));
    // The checkpoint.
    let object = a.checkpoint().expect("it is made").object;
    as_another(&servers, async |context, _| {
        context.delete_object_store(&object).await.expect("it can be deleted");
    });
    pay(&bank, 25..30);
    let standby = open(places[1].path(), servers.config("b")).expect("the owner makes another");
    assert_eq!(shown(&standby), (0..30).collect());
    // The owner says so when it is done, and the reader may be quicker.
    until(&a, |status| status.repaired == 3);
    // No node reads it, and somebody verifies it now and then. (The owner may have just looked.)
    pay(&bank, 30..35);
    lose(&servers, 1);
    while verify(&servers.config("looks")).is_err() {}
    until(&a, |status| status.repaired == 4);
    assert_has(&a, 0..35);
}

// It is not believed: nothing is damaged, and nothing is made.
#[test]
fn a_report_of_damage_that_there_is_none_changes_nothing() {
    let _watchdog = Watchdog::new("a_report_of_damage_that_there_is_none_changes_nothing");
    let test = "a_report_of_damage_that_there_is_none_changes_nothing";
    let Some(servers) = Servers::start(test, 1) else { return };
    let place = tempfile::tempdir().expect("a place");
    let a = open(place.path(), servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..5);
    let appended = a.status().latency.appends;
    as_another(&servers, async |_, client| {
        client.publish("freehold.bank.damage", "they say".into()).await.expect("it is sent");
        client.flush().await.expect("it is sent");
    });
    // It has read all of it, and asks whether it is the owner still.
    until(&a, |status| status.latency.appends > appended);
    // If it repaired something, it would be by this one.
    a.checkpoint().expect("it is made");
    until(&a, |status| status.checkpoints.0 > 0);
    assert_eq!((a.status().repaired, a.status().checkpoints), (0, (1, 0)));
}

// What was trimmed is in a checkpoint that is gone, and in the owner's log. A node that was behind
// finds nothing that it could compare, and must not think that it has all.
#[test]
fn a_log_that_is_behind_what_was_trimmed_founds_nothing() {
    let _watchdog = Watchdog::new("a_log_that_is_behind_what_was_trimmed_founds_nothing");
    let test = "a_log_that_is_behind_what_was_trimmed_founds_nothing";
    let Some(servers) = Servers::start(test, 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let by_hand = ReplicaConfig { repair: Repair::ByHand, ..servers.config("a") };
    let a = open(places[0].path(), by_hand).expect("nobody owns it");
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..5);
    drop(open(places[1].path(), servers.config("b")).expect("it joins"));
    // Once there is nothing behind it, and once something.
    for (before, behind) in [(5..10, 10..10), (10..15, 15..20)] {
        pay(&bank, before);
        // The message before the second one's place says nothing of what was paid.
        a.checkpoint().expect("it is made");
        let object = a.checkpoint().expect("it is made").object;
        pay(&bank, behind);
        as_another(&servers, async |context, _| {
            context.delete_object_store(&object).await.expect("it can be deleted");
        });
        let error = refused(|| open(places[1].path(), from_this_log(&servers, "b")));
        assert!(matches!(error, ReplicaError::LogIsBehind { .. }), "{error}");
    }
    a.checkpoint().expect("it is made");
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!(shown(&b), (0..20).collect());
}

// Nobody who lives has all of it, so an operator decides whose log is the database.
#[test]
fn a_dead_owners_log_repairs_the_stream() {
    let _watchdog = Watchdog::new("a_dead_owners_log_repairs_the_stream");
    let Some(mut servers) = Servers::start("a_dead_owners_log_repairs_the_stream", 1) else { return };
    let places = [(); 4].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    pay(&a.handle().expect("it is the owner"), 0..5);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!(shown(&b), (0..5).collect());
    drop(b);
    pay(&a.handle().expect("it is the owner"), 5..15);
    checkpoint(&a);
    pay(&a.handle().expect("it is the owner"), 15..20);
    drop(a);
    // The last message is lost, which a has seen; and one in the middle, which b has not.
    let last = lose(&servers, 0);
    let lost = lose(&servers, 5);
    let error = refused(|| open(places[0].path(), hasty(&servers, "a")));
    assert!(matches!(error, ReplicaError::Missing { sequence } if sequence == last), "{error}");
    assert!(error.to_string().contains("Repair::FromThisLog"), "{error}");
    let error = refused(|| open(places[1].path(), from_this_log(&servers, "b")));
    assert!(matches!(error, ReplicaError::LogIsBehind { .. }), "{error}");
    let found = refused(|| verify(&hasty(&servers, "looks")));
    assert!(matches!(found, ReplicaError::Missing { sequence } if sequence == lost), "{found}");
    // A login that may not trim is stopped when it is founded. The next start goes on.
    let notrim = Login::User { user: "notrim".into(), password: "secret".into() };
    let notrim = ReplicaConfig { login: notrim, ..from_this_log(&servers, "a") };
    open(places[0].path(), notrim).expect_err("it cannot trim");
    let a = open_hasty(places[0].path(), &from_this_log(&servers, "a"));
    assert_has(&a, 0..20);
    pay(&a.handle().expect("it is the owner"), 20..25);
    // Those that were behind join as they are, and what was not trimmed is repaired.
    for (place, name) in [(&places[1], "b"), (&places[2], "c")] {
        let node = open(place.path(), servers.config(name)).expect("it joins");
        assert_eq!((node.role(), shown(&node)), (Role::Standby, (0..25).collect()));
    }
    verify(&servers.config("looks")).expect("it is whole");
    // All of the stream is gone, and the checkpoint that it named.
    checkpoint(&a);
    a.checkpoint().expect("it is made");
    drop(a);
    servers.empty(0);
    let error = refused(|| open(places[0].path(), hasty(&servers, "a")));
    assert!(matches!(error, ReplicaError::Lost { .. }), "{error}");
    let a = open_hasty(places[0].path(), &from_this_log(&servers, "a"));
    pay(&a.handle().expect("it is the owner"), 25..30);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert_eq!((b.role(), shown(&b)), (Role::Standby, (0..30).collect()));
    b.promote().expect("it can");
    until(&b, is(Role::Owner));
    assert_has(&b, 0..30);
    verify(&servers.config("looks")).expect("it is whole");
}

// A node's log had the epoch of a founding before the stream did. When the founding came to
// nothing, the log looked later than it was, the third time later than what another owner began
// with. So the node founded the stream without what that one wrote.
#[test]
fn a_founding_that_came_to_nothing_leaves_the_log_as_it_was() {
    let test = "a_founding_that_came_to_nothing_leaves_the_log_as_it_was";
    let _watchdog = Watchdog::new(test);
    let Some(servers) = Servers::start(test, 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let a = open(places[0].path(), servers.config("a")).expect("nobody owns it");
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    pay(&a.handle().expect("it is the owner"), 0..5);
    drop(a);
    until(&b, |status| status.owner.is_none());
    drop(b);
    lose(&servers, 0);
    // A login that may not append.
    let reads = Login::User { user: "reads".into(), password: "secret".into() };
    let reads = ReplicaConfig { login: reads, ..from_this_log(&servers, "b") };
    // It remembers what it was about to append.
    let tried = || {
        let file = std::fs::read(places[1].path().join("node.json")).expect("it remembers where it was");
        let file: serde_json::Value = serde_json::from_slice(&file).expect("it is JSON");
        file["tried"].as_array().map_or(0, Vec::len)
    };
    // Others begin behind two such epochs: they found it, and take it over.
    while tried() < 3 {
        open(places[1].path(), reads.clone()).expect_err("it cannot append");
    }
    let a = open_hasty(places[0].path(), &from_this_log(&servers, "a"));
    pay(&a.handle().expect("it is the owner"), 5..10);
    let object = a.status().checkpoint.expect("it is named").object;
    drop(a);
    // What it has founded is damaged, too.
    as_another(&servers, async |context, _| {
        context.delete_object_store(&object).await.expect("it can be deleted");
    });
    let error = refused(|| open(places[1].path(), from_this_log(&servers, "b")));
    assert!(matches!(error, ReplicaError::LogIsBehind { .. }), "{error}");
    let a = open(places[0].path(), servers.config("a")).expect("it goes on");
    pay(&a.handle().expect("it is the owner"), 10..15);
    let b = open(places[1].path(), servers.config("b")).expect("the owner makes another");
    assert_eq!((b.role(), shown(&b)), (Role::Standby, (0..15).collect()));
    assert_eq!(b.status().set_aside, []);
}

// It had to be without a checkpoint: a database of one machine that is to live on several.
#[test]
fn a_log_with_a_checkpoint_founds_a_database() {
    let _watchdog = Watchdog::new("a_log_with_a_checkpoint_founds_a_database");
    let Some(servers) = Servers::start("a_log_with_a_checkpoint_founds_a_database", 1) else { return };
    let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
    let runs = |directory: &Path| {
        let config = Config { shards: Shards::Count(2), ..Config::default() };
        let runtime = Runtime::<Bank>::open(config, LogConfig::at(directory)).expect("it opens");
        pay(&runtime.handle(), 0..10);
        runtime.checkpoint().expect("it is made");
        pay(&runtime.handle(), 10..15);
        runtime.shutdown();
    };
    runs(&places[0].path().join("log"));
    let a = open(places[0].path(), servers.config("a")).expect("it founds the database");
    assert_eq!(a.role(), Role::Owner);
    assert_has(&a, 0..15);
    let b = open(places[1].path(), servers.config("b")).expect("it joins");
    assert!(b.status().epoch > Epoch(0));
    assert_eq!((b.status().restored, shown(&b)), (1, (0..15).collect()));
    pay(&a.handle().expect("it is the owner"), 15..20);
    drop(a);
    let a = open(places[0].path(), servers.config("a")).expect("it goes on");
    b.promote().expect("it can");
    assert_has(&b, 0..20);
    drop(a);
    verify(&servers.config("looks")).expect("it is whole");
}

/// Kills the server, flips a bit of this entry of its file, and starts it. Alone it cuts its file
/// there. The owner ends meanwhile, so that it cannot say that it does.
fn cut<Owner>(servers: &mut Servers, entry: usize, owner: Owner) {
    servers.kill(0);
    drop(owner);
    let file = servers.blocks(0).remove(0);
    let mut bytes = std::fs::read(&file).expect("it is there");
    let begins = bytes.windows(4).enumerate().filter(|(_, four)| *four == b"FHCE").map(|(at, _)| at);
    let begins = begins.collect::<Vec<_>>()[entry];
    bytes[begins + 20] ^= 1;
    std::fs::write(file, bytes).expect("it is written");
    servers.run(0);
}

/// How many entries a takeover takes, and so the first payment's.
const FIRST: usize = 8;

// A server alone cuts its file at a bit that flipped, and says nothing: what was acknowledged is
// gone. A node took over without it, where it had read it, and its log had what no other had.
#[test]
fn a_node_that_has_read_further_finds_that_the_stream_was_cut() {
    let test = "a_node_that_has_read_further_finds_that_the_stream_was_cut";
    let watchdog = Watchdog::new(test);
    let Some(mut servers) = Servers::start(test, 1) else { return };
    let places = [(); 4].map(|()| tempfile::tempdir().expect("a place"));
    let a = open_hasty(places[0].path(), &hasty(&servers, "a"));
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..5);
    drop(open(places[1].path(), servers.config("stopped")).expect("it joins"));
    // An owner on a busy machine is silent for so long, too, and then it would be none any more.
    let silence = Some(Duration::from_secs(3));
    let automatic = ReplicaConfig { takeover_after: silence, ..hasty(&servers, "follows") };
    let follows = open_hasty(places[2].path(), &automatic);
    pay(&bank, 5..15);
    let all = a.status().epoch;
    until(&follows, |status| status.epoch >= all);
    // It ends as by a crash: its log has more than it remembers.
    let stops = open(places[1].path(), servers.config("stopped")).expect("it joins");
    let file = places[1].path().join("node.json");
    let remembered = std::fs::read(&file).expect("it remembers where it joined");
    pay(&bank, 15..20);
    let all = a.status().epoch;
    until(&stops, |status| status.epoch >= all);
    until(&follows, |status| status.epoch >= all);
    drop(stops);
    std::fs::write(&file, remembered).expect("it is written");
    cut(&mut servers, FIRST + 17, a);
    let left = verify(&servers.config("looks")).expect("what is left is whole");
    assert!(left.epoch < all, "{left:?}");
    // It says so and takes nothing over, by itself or when it is told.
    until(&follows, |status| status.failure.is_some());
    let error = refused(|| follows.promote());
    assert!(matches!(error, ReplicaError::Lost { .. }), "{error}");
    assert_eq!((follows.role(), follows.status().failure), (Role::Standby, Some(error.to_string())));
    assert_eq!(verify(&servers.config("looks")).expect("nothing was changed").epoch, left.epoch);
    watchdog.feed();
    drop(follows);
    let error = refused(|| open(places[2].path(), hasty(&servers, "follows")));
    assert!(matches!(error, ReplicaError::Lost { .. }), "{error}");
    let error = refused(|| open(places[1].path(), hasty(&servers, "stopped")));
    assert!(matches!(error, ReplicaError::Cut { acknowledged, .. } if acknowledged == all), "{error}");
    assert!(error.to_string().contains("this node's log has it"), "{error}");
    // Its log has all of it. Others that have it follow.
    let founds = open_hasty(places[2].path(), &from_this_log(&servers, "follows"));
    pay(&founds.handle().expect("it is the owner"), 20..25);
    for (at, name) in [(0, "a"), (1, "stopped"), (3, "new")] {
        let node = open(places[at].path(), servers.config(name)).expect("it joins");
        assert_eq!((node.role(), shown(&node)), (Role::Standby, (0..25).collect()), "{name}");
    }
    assert_has(&founds, 0..25);
    verify(&servers.config("looks")).expect("it is whole");
}

/// Waits until the owner has said that this epoch is acknowledged.
fn hear_of(servers: &Servers, epoch: Epoch) {
    as_another(servers, async |context, _| {
        let beats = context.client().subscribe("freehold.bank.beat").await;
        let mut beats = beats.expect("it may be heard");
        loop {
            let beat = beats.next().await.expect("it goes on");
            let beat: serde_json::Value = serde_json::from_slice(&beat.payload).expect("it is JSON");
            if beat["epoch"].as_u64().is_some_and(|said| said >= epoch.0) {
                return;
            }
        }
    });
}

// It had not read what the stream has lost, and has heard that it was acknowledged. A node that
// begins has not, and nothing is there that could say so. The owner's log has it, and is set aside.
#[test]
fn a_node_that_has_heard_of_more_finds_that_the_stream_was_cut() {
    let test = "a_node_that_has_heard_of_more_finds_that_the_stream_was_cut";
    let _watchdog = Watchdog::new(test);
    let Some(mut servers) = Servers::start(test, 1) else { return };
    let places = [(); 3].map(|()| tempfile::tempdir().expect("a place"));
    let a = open_hasty(places[0].path(), &hasty(&servers, "a"));
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..5);
    let b = open_hasty(places[1].path(), &hasty(&servers, "b"));
    let mut all = Epoch(0);
    while_busy(&b, || {
        pay(&bank, 5..20);
        all = a.status().epoch;
        hear_of(&servers, all);
        cut(&mut servers, FIRST + 10, a);
    });
    until(&b, |status| status.failure.is_some());
    let error = refused(|| b.promote());
    assert!(matches!(error, ReplicaError::Cut { acknowledged, .. } if acknowledged == all), "{error}");
    assert!(error.to_string().contains("the owner has said"), "{error}");
    assert_eq!((b.role(), shown(&b)), (Role::Standby, (0..10).collect()));
    // By hand: that node knows of no more.
    let c = open(places[2].path(), servers.config("c")).expect("it joins");
    c.promote().expect("it can");
    assert_has(&c, 0..10);
    pay(&c.handle().expect("it is the owner"), 20..25);
    until(&b, |status| status.epoch >= c.status().epoch && status.failure.is_none());
    assert_eq!(shown(&b), (0..10).chain(20..25).collect());
    let a = open(places[0].path(), servers.config("a")).expect("it joins");
    assert_eq!((a.role(), shown(&a)), (Role::Standby, (0..10).chain(20..25).collect()));
    let aside = &a.status().set_aside;
    assert!(aside.len() == 1 && aside[0].until >= all, "{aside:?}");
}

// Its log had what the stream has lost, and another history has gone on since.
#[test]
fn a_log_with_what_the_stream_has_lost_is_set_aside() {
    let test = "a_log_with_what_the_stream_has_lost_is_set_aside";
    let _watchdog = Watchdog::new(test);
    let Some(mut servers) = Servers::start(test, 1) else { return };
    let places = [(); 4].map(|()| tempfile::tempdir().expect("a place"));
    let a = open_hasty(places[0].path(), &hasty(&servers, "a"));
    let bank = a.handle().expect("it is the owner");
    pay(&bank, 0..5);
    let mut files = Vec::new();
    for place in &places[1..3] {
        let b = open(place.path(), servers.config("b")).expect("it joins");
        files.push(std::fs::read(place.path().join("node.json")).expect("it remembers where it was"));
        drop(b);
    }
    pay(&bank, 5..20);
    let all = a.status().epoch;
    // They remember where they end, and one of them does not.
    for place in &places[1..3] {
        drop(open(place.path(), servers.config("b")).expect("it joins"));
    }
    std::fs::write(places[1].path().join("node.json"), &files[0]).expect("it is written");
    cut(&mut servers, FIRST + 10, a);
    let c = open(places[3].path(), servers.config("c")).expect("it joins");
    c.promote().expect("it knows of no more");
    pay(&c.handle().expect("it is the owner"), 20..35);
    for place in &places[1..3] {
        let b = open(place.path(), servers.config("b")).expect("it joins");
        assert_eq!((b.role(), shown(&b)), (Role::Standby, (0..10).chain(20..35).collect()));
        let aside = &b.status().set_aside;
        assert!(aside.len() == 1 && aside[0].until >= all, "{aside:?}");
    }
    // A stream that is gone is not founded by a standby that crashed after it had joined.
    drop(c);
    servers.empty(0);
    std::fs::write(places[1].path().join("node.json"), &files[0]).expect("it is written");
    let error = refused(|| open(places[1].path(), hasty(&servers, "b")));
    assert!(matches!(error, ReplicaError::Lost { last: 0, .. }), "{error}");
}

/// Flips a bit of the message in the middle of a server's file.
fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).expect("it is there");
    let middle = bytes.len() / 2;
    let begins = bytes[middle..].windows(4).position(|four| four == b"FHCE").expect("an entry is there");
    bytes[middle + begins + 20] ^= 1;
    std::fs::write(file, bytes).expect("it is written");
}

// A server cuts its file where the bit is. Alone it has lost what it acknowledged, and the owner
// has it; of three, the others have it.
#[test]
fn a_bit_that_flips_in_a_servers_file_loses_nothing() {
    let watchdog = Watchdog::new("a_bit_that_flips_in_a_servers_file_loses_nothing");
    for (count, makes_checkpoint) in [(1, false), (1, true), (3, false)] {
        let test = "a_bit_that_flips_in_a_servers_file_loses_nothing";
        let Some(mut servers) = Servers::start(test, count) else { return };
        let places = [(); 2].map(|()| tempfile::tempdir().expect("a place"));
        // Alone it gives up soon what it cannot bring to the stream.
        let config = if count == 1 { hasty(&servers, "a") } else { servers.config("a") };
        let mut a = open_hasty(places[0].path(), &config);
        pay(&a.handle().expect("it is the owner"), 0..20);
        if makes_checkpoint {
            checkpoint(&a);
        }
        // Of three, one that has not all of it may not be asked.
        let block = || servers.blocks(0).into_iter().next();
        while block().is_none_or(|file| !holds(&file, a.status().latency.appends as usize)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        servers.kill(0);
        flip(&servers.blocks(0)[0]);
        servers.run(0);
        let mut paid = 20;
        if count == 1 {
            let found = verify(&servers.config("looks")).expect("what is left is whole");
            assert!(found.epoch < a.status().epoch, "it has lost something: {found:?}");
            drop(a);
            a = open(places[0].path(), servers.config("a")).expect("its own log has all of it");
        } else {
            pay(&a.handle().expect("it is the owner"), 20..25);
            paid = 25;
        }
        assert_has(&a, 0..paid);
        let b = open(places[1].path(), servers.config("b")).expect("it joins");
        assert_eq!(shown(&b), (0..paid).collect());
        assert!(b.status().restored > 0 || !makes_checkpoint, "it could not be read from its begin");
        verify(&servers.config("looks")).expect("it is whole");
        watchdog.feed();
    }
}

/// Makes a checkpoint of the owner's own log.
fn checkpoint(node: &Replicated<Bank>) {
    let made = node.with_runtime(|runtime| runtime.checkpoint().map(drop));
    made.expect("it is the owner").expect("it is made");
}

/// Whether a file of a server has so many entries.
fn holds(file: &Path, entries: usize) -> bool {
    let bytes = std::fs::read(file).expect("it is there");
    bytes.windows(4).filter(|four| four == b"FHCE").count() >= entries
}
