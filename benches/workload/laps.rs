//! Work that all shards begin together: where they wait for each other, and what it took by two
//! clocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold::glommio;
use rustix::time::{ClockId, clock_gettime};

/// Where shards wait for each other.
#[derive(Default)]
pub struct StartingLine {
    arrived: AtomicU64,
}

impl StartingLine {
    /// Waits for the `time`-th time, beginning with 1, that all of `shards` are here. The shard
    /// goes on with its own work meanwhile.
    pub async fn wait(&self, time: u64, shards: usize) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < time * shards as u64 {
            // With more shards than CPUs somebody else needs this one.
            std::thread::yield_now();
            glommio::executor().yield_task_queue_now().await;
        }
    }
}

/// An instant, by the clock on the wall and by the CPU time of the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub wall: Instant,
    pub cpu: Duration,
}

impl Moment {
    pub fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Moment { wall: Instant::now(), cpu: Duration::try_from(cpu).expect("CPU time is not negative") }
    }
}

/// What one shard's part took.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub begun: Moment,
    pub ended: Moment,
}

/// What the parts of all shards took together: from the first start to the last end, and the CPU
/// time of all cores meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    pub wall: Duration,
    pub cpu: Duration,
}

impl Took {
    /// Of at least one part.
    pub fn together(parts: impl Iterator<Item = Span> + Clone) -> Self {
        let first = parts.clone().map(|part| part.begun).min_by_key(|begun| begun.wall);
        let last = parts.map(|part| part.ended).max_by_key(|ended| ended.wall);
        let (Some(first), Some(last)) = (first, last) else { panic!("there is at least one part") };
        Took { wall: last.wall - first.wall, cpu: last.cpu.saturating_sub(first.cpu) }
    }
}
