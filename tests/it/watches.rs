//! Objects that are watched: from threads, from tokio and from shards, whatever writes them, until
//! the runtime ends.

use std::time::Duration;

use crate::support::{Watchdog, hush, until};
use freehold::{
    AccessError, Config, Handle, KindWatch, LogConfig, Objects, Receive, Runtime, Shards, To, WatchError,
};
use futures::StreamExt;
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

freehold::actor! {
    actor Bank {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { Account(number: u64) }
        messages { Add -> u64, Move -> (), AddQuietly -> (), Close -> () }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account(u64);

#[derive(Serialize, Deserialize)]
struct Add(u64);

/// One cent from the first to the second.
#[derive(Serialize, Deserialize)]
struct Move(u64, u64);

/// Adds to the second account, which it does not name.
#[derive(Serialize, Deserialize)]
struct AddQuietly(u64, u64);

#[derive(Serialize, Deserialize)]
struct Close(u64);

type Refused = AccessError<Id>;

fn add(objects: &mut Objects<'_, Bank>, account: u64) -> Result<u64, Refused> {
    let account = objects.write_or_insert_with(account, Account::default)?;
    account.0 += 1;
    Ok(account.0)
}

impl Receive<Bank> for Add {
    fn addressees(&self, to: &mut To<'_, Bank>) {
        to.write::<Account>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<u64, Refused> {
        add(objects, self.0)
    }
}

impl Receive<Bank> for Move {
    fn addressees(&self, to: &mut To<'_, Bank>) {
        to.write::<Account>(self.0);
        to.write::<Account>(self.1);
    }

    fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<(), Refused> {
        objects.write_or_insert_with(self.0, Account::default)?.0 -= 1;
        add(objects, self.1).map(|_| ())
    }
}

impl Receive<Bank> for AddQuietly {
    fn addressees(&self, to: &mut To<'_, Bank>) {
        to.write::<Account>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<(), Refused> {
        add(objects, self.1).map(|_| ())
    }
}

impl Receive<Bank> for Close {
    fn addressees(&self, to: &mut To<'_, Bank>) {
        to.write::<Account>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<(), Refused> {
        objects.take::<Account>(self.0).map(|_| ())
    }
}

fn config(shards: usize) -> Config {
    Config { shards: Shards::Count(shards), ..Config::default() }
}

/// The runtimes that a test is about: without a log and with one.
fn runtimes(directory: &tempfile::TempDir) -> [Runtime<Bank>; 2] {
    [Runtime::start(config(2)), Runtime::open(config(2), LogConfig::at(directory.path()))]
        .map(|runtime| runtime.expect("it starts"))
}

/// What a watcher saw until it saw this.
async fn seen_until(watch: &mut KindWatch<Bank, Account>, last: Option<u64>) -> Vec<Option<u64>> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let next = watch.next().await.expect("the runtime runs").expect("there is one kind");
        seen.push(next.map(|account| account.0));
    }
    seen
}

fn add_often(bank: &Handle<Bank>, account: u64, times: u64) {
    for added in bank.call_all((0..times).map(|_| Add(account))).wait() {
        added.expect("it runs");
    }
}

#[test]
fn every_way_to_write_an_object_is_seen() {
    let _watchdog = Watchdog::new("watches::every_way_to_write");
    let directory = tempfile::tempdir().expect("there is room");
    for runtime in runtimes(&directory) {
        let bank = runtime.handle();
        let elsewhere = (0..).find(|other| bank.home(&Id::Account(*other)) != bank.home(&Id::Account(100)));
        let elsewhere = elsewhere.expect("there are two shards");
        let mut watch = bank.watch::<Account>(100).expect("there is room");
        assert_eq!(block_on(seen_until(&mut watch, None)), [None], "it does not exist yet");
        // By one message, by many, by transactions from either side, and by one that did not name
        // it.
        bank.call(Add(100)).wait().expect("it runs");
        assert_eq!(block_on(seen_until(&mut watch, Some(1))), [Some(1)]);
        add_often(&bank, 100, 1000);
        let seen = block_on(seen_until(&mut watch, Some(1001)));
        assert!(seen.is_sorted(), "{seen:?}");
        add_often(&bank, elsewhere, 10);
        for _ in 0..10 {
            bank.call(Move(elsewhere, 100)).wait().expect("it runs");
        }
        block_on(seen_until(&mut watch, Some(1011)));
        bank.call(Move(100, elsewhere)).wait().expect("it runs");
        block_on(seen_until(&mut watch, Some(1010)));
        bank.call(AddQuietly(elsewhere, 100)).wait().expect("it runs");
        block_on(seen_until(&mut watch, Some(1011)));
        // By a task on its shard, whose pump sleeps.
        std::thread::sleep(Duration::from_millis(5));
        let tasks = runtime.on_each_shard(|local| async move { drop(local.call_now(Add(100))) });
        assert!(tasks.wait().iter().all(Result::is_ok));
        block_on(seen_until(&mut watch, Some(1012)));
        bank.call(Close(100)).wait().expect("it runs");
        assert_eq!(block_on(seen_until(&mut watch, None)), [None]);
        // One that does not write it is not seen.
        bank.call(Add(elsewhere)).wait().expect("it runs");
        runtime.shutdown();
        assert_eq!(block_on(watch.next()), None, "that was all");
    }
}

/// Of eight accounts.
fn watches(bank: &Handle<Bank>) -> Vec<KindWatch<Bank, Account>> {
    (0..8).map(|id| bank.watch::<Account>(id).expect("there is room")).collect()
}

#[test]
fn many_watch_from_tokio_and_from_shards_and_all_see_the_last() {
    let _watchdog = Watchdog::new("watches::many_watch");
    let directory = tempfile::tempdir().expect("there is room");
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
    let tokio = tokio.expect("it starts");
    for runtime in runtimes(&directory) {
        let bank = runtime.handle();
        let outside: Vec<_> = watches(&bank)
            .into_iter()
            .map(|mut watch| tokio.spawn(async move { seen_until(&mut watch, Some(500)).await }))
            .collect();
        let handle = bank.clone();
        let inside = runtime.on_each_shard(move |_| {
            let watches = watches(&handle);
            async move {
                let mut all = Vec::new();
                for mut watch in watches {
                    all.push(seen_until(&mut watch, Some(500)).await);
                }
                all
            }
        });
        (0..8).for_each(|id| add_often(&bank, id, 500));
        let inside = inside.wait().into_iter().flat_map(|seen| seen.expect("it ends"));
        let outside = outside.into_iter().map(|task| tokio.block_on(task).expect("it ends"));
        let all: Vec<_> = outside.chain(inside).collect();
        assert_eq!(all.len(), 24);
        assert!(all.iter().all(|seen| seen.is_sorted()), "{all:?}");
    }
}

#[test]
fn watches_are_bounded_and_leave_nothing_behind() {
    let _watchdog = Watchdog::new("watches::watches_are_bounded");
    let config = Config { watches_max: 3, ..config(2) };
    let runtime = Runtime::<Bank>::start(config).expect("it starts");
    let bank = runtime.handle();
    let mut open: Vec<_> = (0..3).map(|id| bank.watch_id(Id::Account(id)).expect("there is room")).collect();
    let refused = bank.watch_id(Id::Account(3)).map(|watch| watch.id());
    assert_eq!(refused, Err(WatchError::TooMany { max: 3 }));
    open.pop();
    until(|| bank.watch_id(Id::Account(3)).is_ok());
    // Two of one object: one goes, and the other sees.
    let mut other = None;
    until(|| {
        other = bank.watch_id(Id::Account(0)).ok();
        other.is_some()
    });
    let first = open.swap_remove(0);
    drop(first);
    bank.call(Add(0)).wait().expect("it runs");
    let mut other = other.expect("there was room");
    until(|| matches!(block_on(other.next()), Some(Some(_))));
    drop((open, other));
    bank.call(Close(0)).wait().expect("it runs");
    // The last watch of a shard, which is let go of at once: its slot was to be shown for ever, and
    // the shard neither parked nor drained.
    (0..4).for_each(|id| drop(bank.watch_id(Id::Account(id))));
    let report = runtime.shutdown();
    assert!(report.drained, "{report}");
    assert_eq!(report.stats.shards.iter().map(|shard| shard.counters.objects).sum::<u64>(), 0);
    assert_eq!(bank.watch_id(Id::Account(0)).map(|watch| watch.id()), Err(WatchError::Stopped));
}

#[test]
fn a_watch_ends_with_a_runtime_that_dies() {
    let _watchdog = Watchdog::new("watches::a_watch_ends");
    hush();
    let runtime = Runtime::<Bank>::start(config(2)).expect("it starts");
    let bank = runtime.handle();
    let mut watches: Vec<_> = (0..10).map(|id| bank.watch::<Account>(id).expect("there is room")).collect();
    // The first are all there, so all have begun.
    watches.iter_mut().for_each(|watch| drop(block_on(seen_until(watch, None))));
    drop(runtime.on_each_shard(|_| async {
        // The first step would be this task's.
        glommio::spawn_local(async {
            glommio::timer::sleep(Duration::from_millis(1)).await;
            panic!("on purpose");
        })
        .detach();
    }));
    watches.iter_mut().for_each(|watch| assert_eq!(block_on(watch.next()), None));
}
