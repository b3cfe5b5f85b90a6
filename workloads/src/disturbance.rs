//! Who else used the CPUs meanwhile: of those that this process may use, whatever goes on on the
//! others.
//!
//! The kernel counts others in ticks, of 10 ms mostly, and this process to the nanosecond. So the
//! difference may be wrong by a tick of each CPU at the beginning, and by another at the end; in a
//! tenth of a second one tick is already more than [`Disturbance::MAX`]. These two ticks of each
//! CPU are taken off what others took: what cannot be told from a tick is not counted.

use std::fs;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::thread::{CpuSet, Pid, sched_getaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Ticks of each CPU that cannot be told from what others took.
const UNSURE: f64 = 2.0;

/// What others took of the time of the CPUs this process may use, from 0 to 1, less what cannot be
/// told from a tick.
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

/// Of the CPUs this process may use, since the system started, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct System {
    used: u64,
    stolen: u64,
    all: u64,
    cpus: u64,
}

impl System {
    fn now() -> Option<Self> {
        // Of the main thread: the one that asks may be pinned to its shard's CPU.
        let process = Pid::from_raw(std::process::id().try_into().ok()?)?;
        let allowed = sched_getaffinity(Some(process)).ok()?;
        let is_allowed = |cpu| cpu < CpuSet::MAX_CPU && allowed.is_set(cpu);
        System::parse(&fs::read_to_string("/proc/stat").ok()?, is_allowed)
    }

    /// `/proc/stat`, proc(5): a line `cpuN` for each CPU that is on, with user, nice, system, idle,
    /// iowait, irq, softirq, steal. `None` if there is none of an allowed CPU, or one cannot be
    /// read.
    fn parse(text: &str, is_allowed: impl Fn(usize) -> bool) -> Option<Self> {
        let mut sum = System::default();
        for line in text.lines() {
            let mut fields = line.split_whitespace();
            // The line `cpu` is all of them together.
            let cpu = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
            if !cpu.is_some_and(&is_allowed) {
                continue;
            }
            let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).take(8).collect();
            let [user, nice, system, idle, waiting, hard, soft, stolen] = ticks.try_into().ok()?;
            let used = user + nice + system + hard + soft;
            sum.used += used;
            sum.stolen += stolen;
            sum.all += used + stolen + idle + waiting;
            sum.cpus += 1;
        }
        (sum.cpus > 0).then_some(sum)
    }

    /// What others took since `before`, while this process used `own` ticks. The kernel's counts
    /// may go down: those of waiting do (proc(5)), and all do where a CPU is turned off.
    fn taken_since(&self, before: &System, own: f64) -> Disturbance {
        let since = |count: fn(&System) -> u64| count(self).saturating_sub(count(before)) as f64;
        let all = since(|system| system.all).max(1.0);
        let unsure = UNSURE * self.cpus as f64;
        let others = (since(|system| system.used) - own).max(0.0);
        let stolen = since(|system| system.stolen);
        // Taken off once, from both together.
        let left = (unsure - others).max(0.0);
        Disturbance { others: (others - unsure).max(0.0) / all, stolen: (stolen - left).max(0.0) / all }
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
        let ticks = own.as_secs_f64() * clock_ticks_per_second() as f64;
        let both = self.system.zip(System::now());
        let disturbance = both.map(|(before, after)| after.taken_since(&before, ticks));
        (wall, own, disturbance.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
cpu  1000 0 500 9000 100 0 0 0 0 0
cpu0 400 0 200 4000 50 0 0 0 0 0
cpu1 300 1 100 2000 50 2 3 4 0 0
cpu10 300 0 200 3000 0 0 0 0 0 0
intr 1 2 3
ctxt 12345
";

    fn of(text: &str, cpus: &[usize]) -> Option<System> {
        System::parse(text, |cpu| cpus.contains(&cpu))
    }

    /// Two CPUs of which each had 100 ticks, `used` and `stolen` of both together; how long was
    /// waited for a disk goes down by 20.
    fn later(used: u64, stolen: u64) -> System {
        let text = format!(
            "cpu0 {} 0 200 4120 30 0 0 0\ncpu1 300 1 100 {} 50 2 3 {}",
            400 + used,
            2000 + 100 - used - stolen,
            4 + stolen
        );
        of(&text, &[0, 1]).expect("two CPUs")
    }

    fn taken(used: u64, stolen: u64, own: f64) -> Disturbance {
        let before = of(BEFORE, &[0, 1]).expect("two CPUs");
        later(used, stolen).taken_since(&before, own)
    }

    #[test]
    fn the_allowed_cpus_are_counted_and_no_others() {
        assert_eq!(of(BEFORE, &[1]), Some(System { used: 406, stolen: 4, all: 2460, cpus: 1 }));
        assert_eq!(of(BEFORE, &[0, 10]), Some(System { used: 1100, stolen: 0, all: 8150, cpus: 2 }));
        // One that is allowed and off has no line.
        assert_eq!(of(BEFORE, &[1, 2]), of(BEFORE, &[1]));
        assert_eq!(of(BEFORE, &[2]), None);
        assert_eq!(of("cpu0 1 2 three", &[0]), None);
        assert_eq!(of("", &[0]), None);
    }

    #[test]
    fn what_others_took_is_counted_but_for_two_ticks_of_each_cpu() {
        assert_eq!(taken(80, 0, 50.0), Disturbance { others: 26.0 / 200.0, stolen: 0.0 });
        assert_eq!(taken(80, 6, 50.0), Disturbance { others: 26.0 / 200.0, stolen: 6.0 / 200.0 });
        // What the others leave of the four ticks is taken off what was stolen.
        assert_eq!(taken(51, 6, 50.0), Disturbance { others: 0.0, stolen: 3.0 / 200.0 });
        assert_eq!(taken(54, 0, 50.0), Disturbance::default());
        // The ticks come after the nanoseconds.
        assert_eq!(taken(48, 0, 50.0), Disturbance::default());
    }

    #[test]
    fn a_tick_does_not_make_a_short_measurement_busy() {
        let before = System { used: 100, stolen: 0, all: 1000, cpus: 2 };
        let after = |used: u64| System { used: 100 + used, all: 1020, ..before };
        // A tenth of a second: the threshold is one tick.
        assert!(!after(14).taken_since(&before, 10.0).is_busy());
        assert!(!after(15).taken_since(&before, 10.0).is_busy());
        assert!(after(16).taken_since(&before, 10.0).is_busy());
    }

    #[test]
    fn counts_that_went_down_are_nothing() {
        let before = of(BEFORE, &[0, 1]).expect("two CPUs");
        assert_eq!(of(BEFORE, &[0]).expect("a CPU").taken_since(&before, 0.0), Disturbance::default());
    }
}
