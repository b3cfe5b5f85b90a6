//! Snapshots step by step: what each anomaly would take, and that it does not come about.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::rig::{Message, Rig};
use freehold_shard::*;

impl Rig {
    /// Opens a snapshot, and has no shard look at it.
    fn open(&self) -> Epoch {
        self.mvcc.epochs().open(Time(0))
    }

    /// By shard: whether it has closed the epochs before a snapshot, once it has looked.
    fn closed(&mut self, snapshot: Epoch) -> Vec<bool> {
        self.shards.iter_mut().for_each(Shard::enter);
        self.shards.iter().map(|shard| shard.has_closed(snapshot)).collect()
    }

    /// What a snapshot, which is ready, sees in some accounts.
    fn at<const N: usize>(&mut self, snapshot: Epoch, accounts: [u64; N]) -> [Option<i64>; N] {
        assert!(self.closed(snapshot).into_iter().all(|closed| closed), "it is ready");
        accounts.map(|id| {
            let read = self.shards[self.router.home(&id).index()].read_at(snapshot, &id);
            read.expect("it is open").map(|(_, balance)| *balance)
        })
    }

    fn versions(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.counters().versions).collect()
    }
}

/// Two shards with an account of 100 on each.
fn two() -> (Rig, u64, u64) {
    let mut rig = Rig::new(2);
    let (a, b) = (rig.account(0, 0), rig.account(1, 0));
    for account in [a, b] {
        rig.ask(Message::Add(account, 100)).expect("it opens");
    }
    (rig, a, b)
}

// A payment is on its way up when a snapshot is opened: its first shard does not know in
// which epoch it will commit.
#[test]
fn a_snapshot_waits_for_what_is_on_its_way_up() {
    let (mut rig, a, b) = two();
    rig.send(0, Message::Pay { from: a, to: b, amount: 30 });
    rig.turn(0);
    let snapshot = rig.open();
    assert_eq!(rig.closed(snapshot), [false, true]);
    rig.run_until_idle();
    // The other shard had entered the epoch before the lock point.
    assert_eq!(rig.at(snapshot, [a, b]), [Some(100), Some(100)]);
    let later = rig.open();
    assert_eq!(rig.at(later, [a, b]), [Some(70), Some(130)]);
}

// It is on its way back: paid there, not yet here.
#[test]
fn a_snapshot_waits_for_what_is_on_its_way_back() {
    let (mut rig, a, b) = two();
    rig.send(0, Message::Pay { from: a, to: b, amount: 30 });
    rig.turn(0);
    rig.deliver(0, 1);
    rig.turn(1);
    let snapshot = rig.open();
    assert_eq!(rig.closed(snapshot), [false, true]);
    rig.run_until_idle();
    assert_eq!(rig.at(snapshot, [a, b]), [Some(70), Some(130)]);
}

// One message ends, another is sent after that to a shard that has not heard of the epoch yet: a
// snapshot that does not see the first must not see the second.
#[test]
fn no_snapshot_sees_the_later_and_not_the_earlier() {
    let (mut rig, a, b) = two();
    let snapshot = rig.open();
    for (slot, account) in [(0, a), (1, b)] {
        rig.send(slot, Message::Add(account, 1));
        rig.turn(rig.router.home(&account).index());
        assert_eq!(rig.answers.pop().expect("it is answered").0, slot);
    }
    assert_eq!(rig.at(snapshot, [a, b]), [Some(100), Some(100)]);
}

// Two messages on two shards, two snapshots: what one sees, the later one sees as well, in
// whichever order they are read.
#[test]
fn no_long_fork() {
    let (mut rig, a, b) = two();
    let first = rig.open();
    rig.ask(Message::Add(a, 1)).expect("it is there");
    let second = rig.open();
    rig.ask(Message::Add(b, 1)).expect("it is there");
    let third = rig.open();
    let seen = [third, first, second, first].map(|snapshot| rig.at(snapshot, [a, b]));
    assert_eq!(seen, [[Some(101), Some(101)], [Some(100); 2], [Some(101), Some(100)], [Some(100); 2]]);
}

// What one client sees never goes back: by snapshots, by messages, and of what is published.
#[test]
fn a_client_never_goes_back() {
    let (mut rig, a, b) = two();
    rig.ask(Message::Share(a)).expect("it is there");
    let mut last = 0;
    let rounds = if cfg!(miri) { 12 } else { 50 };
    for round in 1..rounds {
        rig.send(round, Message::Pay { from: b, to: a, amount: 1 });
        // Somewhere on its way.
        for _ in 0..round % 4 {
            rig.turn(0);
            rig.deliver(0, 1);
            rig.turn(1);
        }
        let published = rig.mvcc.latest(&a).map(|balance| *balance).expect("it is shared");
        let snapshot = rig.open();
        rig.run_until_idle();
        let [seen] = rig.at(snapshot, [a]);
        assert_eq!(rig.mvcc.at(&a, snapshot).expect("it is open").as_deref().copied(), seen);
        let now = rig.ask(Message::Read(vec![a])).expect("it is there")[0];
        for seen in [published, seen.expect("it is there"), now] {
            assert!(seen >= last, "{seen} after {last}");
            last = seen;
        }
        rig.mvcc.epochs().close(snapshot);
    }
    assert_eq!(last, 99 + i64::from(rounds));
}

// Objects come and go while a walk is under way: what was there comes once, and what was not does
// not come.
#[test]
fn a_walk_sees_what_was_there_once() {
    let mut rig = Rig::new(1);
    let objects = if cfg!(miri) { 30 } else { 100 };
    for id in 0..objects {
        rig.ask(Message::Add(id, 1)).expect("it opens");
    }
    let snapshot = rig.open();
    let mut seen = BTreeMap::new();
    let (mut next, mut round) = (Some(0), 0);
    while let Some(from) = next {
        rig.shards[0].enter();
        next = rig.shards[0]
            .walk_at(snapshot, from, 7, |id, _, balance| {
                assert!(seen.insert(id, *balance).is_none(), "{id} twice");
                ControlFlow::Continue(())
            })
            .expect("it is open");
        for id in [round, objects - 1 - round] {
            rig.ask(Message::Remove(id, id + 1_000)).expect("it may go");
            rig.ask(Message::Add(200 + id, 5)).expect("another comes");
            rig.ask(Message::Add((id + objects / 2) % objects, 7)).expect("it changes, or comes again");
        }
        round += 1;
    }
    assert_eq!(seen, (0..objects).map(|id| (id, 1)).collect());
    // When it is closed, everything that was kept for it goes.
    assert!(rig.versions()[0] > 0);
    rig.mvcc.epochs().close(snapshot);
    rig.run_until_idle();
    assert_eq!((rig.versions(), rig.shards[0].has_garbage()), (vec![0], false));
    assert_eq!(rig.shards[0].counters().objects, rig.shards[0].objects().count() as u64);
}

// A snapshot that is open for long beside ones that are renewed: what is published is noted to be
// trimmed once, however often it is written.
#[test]
fn what_is_published_is_noted_once() {
    let (mut rig, a, _) = two();
    rig.ask(Message::Share(a)).expect("it is there");
    let long = rig.open();
    for _ in 0..if cfg!(miri) { 10 } else { 100 } {
        let short = rig.open();
        rig.ask(Message::Add(a, 1)).expect("it is there");
        rig.mvcc.epochs().close(short);
    }
    // A hundred old states in the shard, which go when the long one closes; and one note.
    assert!(rig.versions()[0] <= 101, "{:?}", rig.versions());
    assert_eq!(rig.at(long, [a]), [Some(100)]);
    assert_eq!(rig.mvcc.at(&a, long).expect("it is open").as_deref(), Some(&100));
    rig.mvcc.epochs().close(long);
    rig.run_until_idle();
    assert_eq!(rig.versions(), [0, 0]);
}

#[test]
fn too_much_kept_revokes_the_oldest() {
    let limits = Limits { versions_max: 10, ..Limits::default() };
    let mut rig = Rig::with(1, limits);
    for id in 0..20 {
        rig.ask(Message::Add(id, 1)).expect("it opens");
    }
    let old = rig.open();
    for id in 0..5 {
        rig.ask(Message::Add(id, 1)).expect("it is there");
    }
    let new = rig.open();
    for id in 5..15 {
        rig.ask(Message::Add(id, 1)).expect("it is there");
    }
    rig.run_until_idle();
    assert_eq!(rig.shards[0].read_at(old, &0), Err(Expired));
    assert_eq!(rig.shards[0].counters().revoked, 1);
    assert_eq!(rig.at(new, [0, 5, 19]), [Some(2), Some(1), Some(1)]);
    assert!(rig.versions()[0] <= 10);
}
