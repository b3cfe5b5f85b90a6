//! In a child that was forked, a runtime of the parent has stopped: every call says so at once, and
//! nothing of the parent's is touched.
//!
//! The story: in the child an ask hung, a tell was lost though it said `Ok`, and a shutdown
//! panicked inside the standard library.
#![allow(unsafe_code, reason = "a fork, and the end of the child, by libc: the standard library has neither")]

mod support;

use freehold::{AskError, Config, LogConfig, Runtime, Shards, SnapshotError, TaskError, TellError};
use support::{Counter, Message, Watchdog, start};

/// Runs this in a child, which ends with it, and says whether it went well.
fn in_a_child(work: impl FnOnce()) -> bool {
    // SAFETY: the child runs `work`, which may allocate (glibc's `malloc` is whole after a fork),
    // and ends without returning from here. `alarm` ends it if it hangs.
    unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(20);
                let went_well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
                libc::_exit(i32::from(!went_well))
            }
            -1 => panic!("no child can be had"),
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
            }
        }
    }
}

fn add(to: u64) -> Message {
    Message::Add { to, by: 1 }
}

#[test]
fn a_runtime_of_the_parent_has_stopped_in_the_child() {
    let _watchdog = Watchdog::new("a_runtime_of_the_parent_has_stopped_in_the_child");
    let runtime = start::<Counter>(2, Config::default());
    let handle = runtime.handle();
    assert_eq!(handle.ask(add(1)).wait(), Ok(1));
    let snapshot = handle.snapshot().wait().expect("it opens");
    let (ask, all) = (handle.ask(add(1)), handle.ask_all([add(2), add(3)]));
    let (read, tasks) = (snapshot.get(1), runtime.on_each_shard(|_| async {}));
    let mut given = Some((runtime, ask, all, read, tasks));
    let went_well = in_a_child(|| {
        let (runtime, ask, all, read, tasks) = given.take().expect("it was put there");
        assert_eq!(handle.ask(add(1)).wait(), Err(AskError::Stopped));
        assert_eq!(handle.ask_all([add(1), add(2)]).wait(), [Err(AskError::Stopped), Err(AskError::Stopped)]);
        assert!(matches!(handle.tell(add(1)), Err(TellError::Stopped(_))));
        assert_eq!(handle.snapshot().wait().map(drop), Err(SnapshotError::Stopped));
        assert_eq!(snapshot.get(1).wait(), Err(SnapshotError::Stopped));
        assert_eq!(snapshot.fold(|| 0, |_, _, _| {}, |a, b| a + b).wait(), Err(SnapshotError::Stopped));
        assert_eq!(handle.published(&1), None);
        let started = runtime.on_each_shard(|_| async {}).wait();
        assert_eq!(started, [Err(TaskError::Cancelled), Err(TaskError::Cancelled)]);
        assert!(runtime.checkpoint().is_err());
        assert_eq!(handle.stats().shards.len(), 2);
        // What was under way: nobody here will hear of it.
        assert_eq!(ask.wait(), Err(AskError::Unknown));
        assert_eq!(all.wait(), [Err(AskError::Unknown), Err(AskError::Unknown)]);
        assert_eq!(read.wait(), Err(SnapshotError::Stopped));
        assert_eq!(tasks.wait(), [Err(TaskError::Cancelled), Err(TaskError::Cancelled)]);
        drop(snapshot.clone());
        assert!(!runtime.shutdown().drained);
        // A runtime of its own works.
        let own = start::<Counter>(1, Config::default());
        assert_eq!(own.handle().ask(add(1)).wait(), Ok(1));
        assert!(own.shutdown().drained);
    });
    assert!(went_well);
    // The parent's goes on, and so does a second child's business with its copy of a runtime that
    // it drops.
    let (runtime, ask, all, read, tasks) = given.take().expect("the child took its own copy");
    assert_eq!(ask.wait(), Ok(2));
    assert!(all.wait().iter().all(Result::is_ok) && read.wait() == Ok(Some(1)));
    tasks.wait().into_iter().for_each(|task| task.expect("it ran"));
    let mut given = Some(runtime);
    assert!(in_a_child(|| drop(given.take())));
    let runtime = given.take().expect("the child took its own copy");
    assert_eq!(runtime.handle().ask(add(1)).wait(), Ok(3));
    assert!(runtime.shutdown().drained);
}

/// Numbers that last.
struct Kept;

impl freehold::Actor for Kept {
    type Id = u64;
    type State = u64;
    type Message = (u64, u64);
    type Reply = u64;
    type Error = freehold::AccessError<u64>;

    fn addressees((id, _): &(u64, u64), to: &mut freehold::Addressees<u64>) {
        to.write(*id);
    }

    fn receive(
        (id, by): &(u64, u64),
        objects: &mut freehold::Objects<'_, Self>,
    ) -> Result<u64, freehold::AccessError<u64>> {
        let number = objects.get_or_insert_with(*id, || 0)?;
        *number += by;
        Ok(*number)
    }
}

/// The sibling: the child's copy of a durable runtime lets go of nothing in its directory.
#[test]
fn a_child_does_not_touch_the_parents_log() {
    let _watchdog = Watchdog::new("a_child_does_not_touch_the_parents_log");
    let directory = tempfile::tempdir().expect("there is room");
    let open = || {
        let config = Config { shards: Shards::Count(2), ..Config::default() };
        let log = LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory.path()) };
        Runtime::<Kept>::open(config, log)
    };
    let runtime = open().expect("it opens");
    (0..100).for_each(|id| assert_eq!(runtime.handle().ask((id, 1)).wait(), Ok(1)));
    let mut given = Some(runtime);
    assert!(in_a_child(|| {
        let runtime = given.take().expect("it was put there");
        assert_eq!(runtime.handle().ask((1, 1)).wait(), Err(AskError::Stopped));
        assert!(!runtime.shutdown().drained);
    }));
    let runtime = given.take().expect("the child took its own copy");
    assert!(matches!(open(), Err(freehold::StartError::Log(freehold::LogError::InUse { .. }))));
    (0..100).for_each(|id| assert_eq!(runtime.handle().ask((id, 1)).wait(), Ok(2)));
    assert!(runtime.checkpoint().is_ok() && runtime.shutdown().drained);
    let runtime = open().expect("it opens");
    assert_eq!(runtime.recovery().expect("there is a log").objects, 100);
    (0..100).for_each(|id| assert_eq!(runtime.handle().ask((id, 0)).wait(), Ok(2)));
}
