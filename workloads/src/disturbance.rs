//! Who else used the CPUs meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What others took of the machine's CPU time, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disturbance {
    /// Other processes and the kernel's own threads; with a log these include those that write it.
    pub others: f64,
    /// Other guests of a shared host, as far as it says (steal).
    pub stolen: f64,
}

impl Disturbance {
    /// More than this of all CPU time, and what was measured is marked.
    pub const MAX: f64 = 0.05;

    /// Whether a figure measured meanwhile has to be marked.
    pub fn is_busy(&self) -> bool {
        self.others + self.stolen > Disturbance::MAX
    }
}

/// Watches the CPUs from a moment on.
pub struct Watch {
    begun: Instant,
    /// CPU time of this process.
    own: Duration,
    system: Option<System>,
}

/// Of all CPUs since the system started, in ticks.
#[derive(Clone, Copy)]
struct System {
    used: u64,
    stolen: u64,
    all: u64,
}

impl System {
    /// `/proc/stat`, proc(5): user, nice, system, idle, iowait, irq, softirq, steal.
    fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).take(8).collect();
        let [user, nice, system, idle, waiting, hard, soft, stolen] = ticks.try_into().ok()?;
        let used = user + nice + system + hard + soft;
        Some(System { used, stolen, all: used + stolen + idle + waiting })
    }
}

/// The CPU time of this process.
fn own() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("CPU time is not negative")
}

impl Watch {
    /// From now on.
    pub fn begin() -> Self {
        Watch { begun: Instant::now(), own: own(), system: System::now() }
    }

    /// Up to now: how long it was, the CPU time of this process, and what others took.
    pub fn end(&self) -> (Duration, Duration, Disturbance) {
        let (wall, own) = (self.begun.elapsed(), own().saturating_sub(self.own));
        let disturbance = self.system.zip(System::now()).map(|(before, after)| {
            let all = (after.all - before.all).max(1) as f64;
            let mine = own.as_secs_f64() * clock_ticks_per_second() as f64;
            Disturbance {
                others: (((after.used - before.used) as f64 - mine) / all).max(0.0),
                stolen: (after.stolen.saturating_sub(before.stolen)) as f64 / all,
            }
        });
        (wall, own, disturbance.unwrap_or_default())
    }
}
