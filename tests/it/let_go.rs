//! What a runtime leaves behind: nothing when it is dropped, but for words, and little when a shard
//! of it has died.

use std::sync::Arc;
use std::time::Duration;

use crate::logged::Logged;
use crate::support::{Counter, Message, Watchdog, hush, start, until};
use freehold::{AccessError, Actor, Addressees, Config, Objects, Runtime, ShardIndex, glommio};
use serde::{Deserialize, Serialize};

/// Objects that are counted.
struct Counted;

/// As many live as there are references to what is in it.
#[derive(Clone, Serialize, Deserialize)]
struct Held(#[serde(skip)] Arc<()>);

#[derive(Clone)]
struct Put(u64, Held);

impl Actor for Counted {
    type Id = u64;
    type State = Held;
    type Message = Put;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(Put(id, _): &Put, to: &mut Addressees<u64>) {
        to.write(*id);
    }

    fn receive(Put(id, held): &Put, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        objects.insert(*id, held.clone())?;
        objects.tell_after(Duration::from_secs(3600), Put(*id, held.clone())).map(drop)
    }
}

/// Has one shard's executor die.
fn kill<A: Actor>(runtime: &Runtime<A>, shard: u16) {
    let tasks = runtime.on_each_shard(move |local| async move {
        if local.shard() == ShardIndex(shard) {
            // Not in its first step, which is a part of this task.
            glommio::spawn_local(async {
                glommio::timer::sleep(Duration::from_millis(1)).await;
                panic!("this executor dies, on purpose")
            })
            .detach();
        }
    });
    drop(tasks.wait());
}

/// A dead executor is never dropped, because its tasks cannot be. All objects, timers and queues of
/// the shard stayed with it: 149 MiB in one of the tries, each time that a service started a new
/// runtime in place of a dead one.
#[test]
fn a_shard_that_has_died_lets_go_of_its_objects() {
    let _watchdog = Watchdog::new("a_shard_that_has_died_lets_go_of_its_objects");
    hush();
    for shard in [0, 1] {
        let runtime = start::<Counted>(2, Config::default());
        let held = Held(Arc::new(()));
        let puts = (0..1000).map(|id| Put(id, held.clone()));
        runtime.handle().ask_all(puts).wait().into_iter().for_each(|put| put.expect("it is put"));
        assert_eq!(Arc::strong_count(&held.0), 1 + 2 * 1000, "an object and a timer each");
        kill(&runtime, shard);
        until(|| runtime.handle().ask(Put(1, held.clone())).wait().is_err());
        let report = runtime.shutdown();
        assert_eq!(report.deaths.len(), 1, "{report}");
        assert_eq!(Arc::strong_count(&held.0), 1, "shard {shard} died");
    }
}

/// At which level a dropped runtime says that it was not shut down.
fn level(drop_it: impl FnOnce()) -> tracing::Level {
    let logged = Logged::default();
    tracing::subscriber::with_default(logged.clone(), drop_it);
    let found = logged.with("not shut down");
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].0
}

/// The sentence came as a warning from every program that let go of a runtime on an error path.
#[test]
fn a_dropped_runtime_warns_only_of_what_is_lost() {
    let _watchdog = Watchdog::new("a_dropped_runtime_warns_only_of_what_is_lost");
    hush();
    let idle = start::<Counter>(2, Config::default());
    assert_eq!(idle.handle().ask(Message::Add { to: 1, by: 1 }).wait(), Ok(1));
    assert_eq!(level(|| drop(idle)), tracing::Level::INFO);

    // All that was accepted runs to its end.
    let busy = start::<Counter>(1, Config::default());
    (0..100).for_each(|to| busy.handle().tell(Message::Add { to, by: 1 }).expect("there is room"));
    assert_eq!(level(|| drop(busy)), tracing::Level::INFO);

    let ran = crate::support::Tally::default();
    let owing = start::<Counter>(1, Config::default());
    let later = Message::Later { from: 1, to: 2, after: Duration::from_secs(3600), ran };
    owing.handle().ask(later).wait().expect("it is sent");
    assert_eq!(level(|| drop(owing)), tracing::Level::WARN);

    let serving = start::<Counter>(1, Config { tasks_grace: Duration::ZERO, ..Config::default() });
    let task = serving.on_each_shard(|_| std::future::pending::<()>());
    until(|| serving.stats().shards[0].tasks == 1);
    assert_eq!(level(|| drop(serving)), tracing::Level::WARN);
    drop(task);

    let dead = start::<Counter>(1, Config::default());
    kill(&dead, 0);
    until(|| dead.handle().ask(Message::Add { to: 1, by: 1 }).wait().is_err());
    assert_eq!(level(|| drop(dead)), tracing::Level::WARN);
}
