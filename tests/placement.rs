//! Shards keep to CPUs of their own: beside another runtime of the process, from any thread, and
//! while CPUs are taken away.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use freehold::{Config, Idle, Runtime, Shards, Topology};
use support::skip::skip;
use support::{Counter, Message, Watchdog, until};

const SPINS: Idle = Idle::Spin(Duration::from_secs(3600));

/// Runs a test in a process of its own, because other tests of this one have runtimes too. Says
/// whether this is that process.
fn is_alone(test: &str) -> bool {
    const CHILD: &str = "FREEHOLD_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let child = Command::new(std::env::current_exe().expect("a test knows where it is"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("a test can start itself");
    let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// CPUs that this process may use, if there are two.
fn two_cpus() -> Option<[usize; 2]> {
    let topology = Topology::of_this_process().expect("it runs somewhere");
    let cpus: Vec<usize> = topology.cpus().iter().map(|cpu| cpu.id).take(2).collect();
    if cpus.len() < 2 {
        skip("placement", "this process has one CPU only");
    }
    cpus.try_into().ok()
}

fn start(shards: usize, idle: Idle) -> Runtime<Counter> {
    let config = Config { shards: Shards::Count(shards), idle, ..Config::default() };
    Runtime::start(config).expect("it starts")
}

fn cpus(runtime: &Runtime<Counter>) -> Vec<Option<usize>> {
    runtime.stats().shards.iter().map(|shard| shard.cpu).collect()
}

fn parks(runtime: &Runtime<Counter>) -> Vec<u64> {
    runtime.stats().shards.iter().map(|shard| shard.activity.parks).collect()
}

/// Two runtimes of one process bound their shards to the same CPUs, spinning, without a word: a hop
/// took 4 ms.
#[test]
fn a_second_runtime_goes_where_there_is_room_or_neither_spins() {
    let Some([first, second]) = two_cpus() else { return };
    if !is_alone("a_second_runtime_goes_where_there_is_room_or_neither_spins") {
        return;
    }
    let _watchdog = Watchdog::new("a_second_runtime_goes_where_there_is_room");
    let one = start(1, SPINS);
    let other = start(1, SPINS);
    assert_eq!((cpus(&one), cpus(&other)), (vec![Some(first)], vec![Some(second)]));
    assert!(other.shutdown().drained);
    let handle = one.handle();
    drop(one);
    // The place of one that has stopped is free, though somebody still has a handle.
    let one = start(1, SPINS);
    assert_eq!(cpus(&one), [Some(first)]);
    drop((handle, one));

    // There is no room for both: each has a shard on each CPU. They work, and none takes the CPU
    // from the other.
    let topology = Topology::of_this_process().expect("it runs somewhere");
    let all = topology.cpus().len();
    let runtimes = [start(all, SPINS), start(all, SPINS)];
    let ask = |runtime: &Runtime<Counter>| {
        (0..64).for_each(|to| drop(runtime.handle().ask(Message::Add { to, by: 1 }).wait()));
    };
    runtimes.iter().for_each(ask);
    // Once each parks before its first message.
    let before = runtimes.each_ref().map(parks);
    until(|| {
        runtimes.iter().for_each(ask);
        let grows = |(runtime, before): (_, &Vec<u64>)| {
            parks(runtime).iter().zip(before).all(|(parks, before)| parks > before)
        };
        runtimes.iter().zip(&before).all(grows)
    });
    let [one, other] = runtimes;
    assert!(one.shutdown().drained);
    // Alone again, it spins.
    until(|| {
        let before = parks(&other);
        ask(&other);
        parks(&other) == before
    });
}

/// A thread that a task on a shard has started inherits the shard's one CPU. A runtime that it
/// started had one shard, or more on one CPU.
#[test]
fn a_runtime_started_by_a_thread_of_a_task_has_all_cpus_of_the_process() {
    let Some(_) = two_cpus() else { return };
    if !is_alone("a_runtime_started_by_a_thread_of_a_task_has_all_cpus_of_the_process") {
        return;
    }
    let _watchdog = Watchdog::new("a_runtime_started_by_a_thread_of_a_task");
    let expected = Topology::of_this_process().expect("it runs somewhere");
    let outer = start(1, Idle::Spin(Duration::ZERO));
    let (to, started) = mpsc::channel();
    let inner = outer.on_each_shard(move |_| {
        let to = to.clone();
        async move {
            std::thread::spawn(move || {
                to.send(Runtime::<Counter>::start(Config::default()).expect("it starts"))
            });
        }
    });
    inner.wait().into_iter().for_each(|ended| ended.expect("it starts a thread"));
    let inner = started.recv().expect("it was started");
    let mut found: Vec<_> = cpus(&inner).into_iter().flatten().collect();
    found.sort_unstable();
    let mut all: Vec<_> = expected.cpus().iter().map(|cpu| cpu.id).collect();
    all.sort_unstable();
    all.truncate(expected.shards_by_default());
    assert_eq!(found.len(), all.len(), "{found:?} of {all:?}");
    // A thread that is not bound, the executors' for blocking calls, may run wherever the process
    // may.
    let lists = fs::read_dir("/proc/self/task").expect("/proc is mounted").flatten().filter_map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        status.starts_with("Name:\tfreehold-").then(|| list.trim().to_string())
    });
    let unbound = lists.filter(|list| list.parse::<usize>().is_err()).count();
    assert!(unbound > found.len(), "{unbound} threads of executors are bound to no CPU");
}

/// A control group for CPUs, if this user may make one.
struct CpuSet(PathBuf);

impl CpuSet {
    fn with(cpus: [usize; 2]) -> Option<CpuSet> {
        let name = format!("freehold-test-{}", std::process::id());
        let old = Path::new("/sys/fs/cgroup/cpuset");
        let new = Path::new("/sys/fs/cgroup");
        let below = if old.join("cpuset.cpus").exists() { old } else { new };
        let set = CpuSet(below.join(name));
        fs::create_dir(&set.0).ok()?;
        let mems = fs::read_to_string(below.join("cpuset.mems")).ok();
        let made = set.allow(&cpus.map(|cpu| cpu.to_string()).join(","));
        let made = made.and_then(|()| fs::write(set.0.join("cpuset.mems"), mems.unwrap_or("0".into())));
        made.and_then(|()| fs::write(set.0.join("cgroup.procs"), std::process::id().to_string())).ok()?;
        Some(set)
    }

    fn allow(&self, cpus: &str) -> std::io::Result<()> {
        fs::write(self.0.join("cpuset.cpus"), cpus)
    }
}

impl Drop for CpuSet {
    fn drop(&mut self) {
        let above = self.0.parent().expect("it lies below one");
        let _ = fs::write(above.join("cgroup.procs"), std::process::id().to_string());
        let _ = fs::remove_dir(&self.0);
    }
}

/// A control group lost a CPU while shards spun: two spinning shards shared a CPU, and a hop took 4
/// ms instead of 0.8 us.
#[test]
fn shards_do_not_spin_while_their_cpus_are_taken_away() {
    let Some(both) = two_cpus() else { return };
    if !is_alone("shards_do_not_spin_while_their_cpus_are_taken_away") {
        return;
    }
    let _watchdog = Watchdog::new("shards_do_not_spin_while_their_cpus_are_taken_away");
    let Some(set) = CpuSet::with(both) else {
        let test = "shards_do_not_spin_while_their_cpus_are_taken_away";
        return skip(test, "no control group with a cpuset can be made here");
    };
    let runtime = start(2, SPINS);
    let ask = || {
        (0..64).for_each(|to| drop(runtime.handle().ask(Message::Add { to, by: 1 }).wait()));
    };
    // Each has a CPU of its own, and spins from its first message on.
    until(|| {
        let before = parks(&runtime);
        ask();
        parks(&runtime) == before
    });
    let before = parks(&runtime);
    set.allow(&both[0].to_string()).expect("it can be narrowed");
    until(|| {
        ask();
        parks(&runtime).iter().zip(&before).all(|(parks, before)| parks > before)
    });
    set.allow(&both.map(|cpu| cpu.to_string()).join(",")).expect("it can be widened");
    until(|| {
        let before = parks(&runtime);
        ask();
        parks(&runtime) == before
    });
    let of_shard = |shard: usize| {
        let threads = fs::read_dir("/proc/self/task").expect("/proc is mounted").flatten();
        threads
            .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
            .filter(|status| status.starts_with(&format!("Name:\tfreehold-{shard}\n")))
            .filter_map(|status| {
                let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
                list.trim().parse::<usize>().ok()
            })
            .collect::<Vec<_>>()
    };
    for (shard, cpu) in cpus(&runtime).into_iter().enumerate() {
        assert_eq!(of_shard(shard), [cpu.expect("it is bound")], "shard {shard}");
    }
    assert!(runtime.shutdown().drained);
}
