//! How long a test waits before it says that something hangs: by what the process could do, not by
//! the clock on the wall.
//!
//! The story: the watchdog called a test hung after 30 s without a sign of life. Beside eight busy
//! loops on two CPUs a test that went on all the time was killed in every run. So the time does not
//! count in which a thread of the process, or of a child of it, was ready to run and had no CPU.
//! The kernel keeps account of that in `schedstat`. A process that sleeps in a deadlock is never
//! ready, so all of its time counts; one that spins for nothing is at least given its share.
//!
//! Several tests of one process share the account: a thread of one that waits for a CPU stretches
//! the patience with the others. So a test that hangs is found later, when those beside it have
//! ended, and it is still found.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often it is looked: a thread that waits for long shows it then.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A time that passes only while the process gets the CPUs that it could use.
pub struct Patience {
    left: Duration,
    looked: Instant,
    /// How long each thread has waited for a CPU, in nanoseconds.
    waited: BTreeMap<u32, u64>,
}

impl Patience {
    /// So long.
    pub fn of(time: Duration) -> Self {
        Patience { left: time, looked: Instant::now(), waited: waits() }
    }

    /// Whether it is over. To be asked about every [`LOOK_EVERY`].
    pub fn is_over(&mut self) -> bool {
        let waited = waits();
        let elapsed = self.looked.elapsed();
        self.looked = Instant::now();
        let starved = waited
            .iter()
            .map(|(thread, now)| now.saturating_sub(self.waited.get(thread).copied().unwrap_or_default()));
        let starved = Duration::from_nanos(starved.max().unwrap_or_default());
        self.waited = waited;
        self.left = self.left.saturating_sub(elapsed.saturating_sub(starved));
        self.left.is_zero()
    }
}

/// How long each thread of this process and of those it has started has waited for a CPU.
fn waits() -> BTreeMap<u32, u64> {
    let mut waits = BTreeMap::new();
    let mut processes = vec![std::process::id()];
    while let Some(process) = processes.pop() {
        for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let number = thread.file_name().to_str().and_then(|name| name.parse().ok());
            let waited = read("schedstat").split_whitespace().nth(1).and_then(|waited| waited.parse().ok());
            if let (Some(number), Some(waited)) = (number, waited) {
                waits.insert(number, waited);
            }
            processes
                .extend(read("children").split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    waits
}

/// What comes, or `None` when the patience of so long is over.
pub fn receive<T>(from: &Receiver<T>, at_most: Duration) -> Option<T> {
    let mut patience = Patience::of(at_most);
    loop {
        match from.recv_timeout(LOOK_EVERY) {
            Ok(came) => return Some(came),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if patience.is_over() => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
