//! Every limit, size and time of a runtime, with its default, checked before anything starts.
//!
//! A [`Config`] that passed [`Config::check`] can be started on any machine that has the CPUs it
//! names; what a machine lacks besides is [`doctor`](crate::doctor)'s to say. All queues are
//! bounded by what stands here, and so is memory: see [`Config::lane_entries`] for the lanes, whose
//! number grows with the square of the shards.

use std::ops::RangeInclusive;
use std::time::Duration;

use freehold_shard::{ADDRESSEES_MAX, Limits, PlacementKey, SHARDS_MAX};

use crate::error::ConfigError;

/// How a runtime is built. Start from the default and change what matters:
///
/// ```
/// use freehold::{Config, Idle, Shards};
/// use std::time::Duration;
///
/// let config = Config { shards: Shards::Count(2), idle: Idle::Spin(Duration::ZERO), ..Config::default() };
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// How many shards, and where. Default: one per allowed CPU.
    pub shards: Shards,
    /// What a shard does when it runs dry. Default: it spins for 50 microseconds, then parks.
    pub idle: Idle,
    /// The key of the placement hash, which decides the home of every id. Default: `None`, drawn at
    /// random, so that nobody who chooses ids can aim them all at one shard. Give one to have ids
    /// in the same places from run to run.
    pub placement_key: Option<PlacementKey>,
    /// What one shard may keep and how often it may try: transactions, reruns, delayed messages,
    /// messages told, old versions. The fields give ranges and defaults.
    pub limits: Limits,
    /// Entries (single messages, or batches of [`ask_all`](crate::Handle::ask_all)) that may wait
    /// in front of one shard; beyond it `ask` and `tell` answer `Overloaded`, and `ask_all`,
    /// `ask_waiting` and `ask_stream` wait.
    /// 16 to 1,048,576. Default: 1,024.
    pub ingress_entries_max: usize,
    /// Messages of one batch; `ask_all` splits longer ones. With the field above it bounds what
    /// waits in front of a shard. 1 to 65,536. Default: 1,024.
    pub batch_messages_max: usize,
    /// Messages a lane from one shard to another holds; fewer with many shards, see
    /// [`Config::lane_entries`]. What does not fit waits in the sender's outbox. 16 to 65,536.
    /// Default: 1,024.
    pub lane_entries_max: usize,
    /// Messages after which a shard stops taking more and takes its turn: from lanes, from outside,
    /// of those it told itself, and of those that have come due, so many each. 1 to 1,048,576.
    /// Default: 2,048.
    pub turn_messages_max: usize,
    /// Outside asks whose answers have not been picked up yet, in the whole runtime; beyond it
    /// `ask` answers `Overloaded`. Their reply slots are made when there were never as many in
    /// flight before, at first 16 and then twice as many each time; one takes some 80 bytes and the
    /// size of a reply or an error. A message of `ask_waiting` that waits for room is none of them
    /// yet: only its askers bound how many wait. 1 to 16,777,216. Default: 65,536.
    pub asks_in_flight_max: usize,
    /// Asks of one shard's own tasks to other shards, not answered yet; beyond it `ask` answers
    /// `Overloaded`. 1 to 1,048,576. Default: 65,536.
    pub calls_max: usize,
    /// Reads of snapshots, waits for durability and starts of tasks that wait in front of one shard
    /// or are under way there; beyond it they are answered `Overloaded`. A read of many objects at
    /// once is one. 16 to 16,777,216. Default: 65,536.
    pub jobs_max: usize,
    /// Watches of the whole runtime that are open at once. 0 to 16,777,216. Default: 65,536.
    pub watches_max: usize,
    /// Actions of one shard that are performed at once; others wait. 1 to 1,048,576. Default: 256.
    pub actions_max: usize,
    /// How long `shutdown` lets messages that were accepted run to their end. At most an hour.
    /// Default: 10 seconds.
    pub drain_max: Duration,
    /// How long `shutdown` then lets the tasks of [`on_each_shard`](crate::Runtime::on_each_shard)
    /// and [`Local::spawn`](crate::Local::spawn) finish before it cancels them. At most an hour.
    /// Default: 100 milliseconds.
    pub tasks_grace: Duration,
    /// A turn at least this long is reported by a warning, and so are tasks that keep a shard from
    /// its messages for as long. At least a microsecond. Default: 10 milliseconds.
    pub slow_turn: Duration,
    /// An ask of a thread, or a batch, that takes at least so long stands in
    /// [`Stats::slow`](crate::Stats::slow), with where its time went. A thread of the runtime wakes
    /// four times in so long and looks at the asks in flight, also while nothing happens: by
    /// default 40 times a second. 4 milliseconds to an hour. Default: 100 milliseconds.
    pub slow_message: Duration,
    /// A shard that takes no turn for so long though it is awake, because a message or a task of it
    /// does not come back, is warned of while that lasts: then, and each time it has lasted twice
    /// as long. 10 milliseconds to an hour. Default: 1 second.
    pub stall_warning: Duration,
    /// How often a busy shard looks at its timers, files and sockets. 100 microseconds to 100
    /// milliseconds. Default: 1 millisecond.
    pub preempt_timer: Duration,
    /// I/O buffers each shard registers with the kernel, in bytes: 64 KiB to 1 GiB. Default: 64
    /// KiB, enough for tasks that use the network. Give more if your tasks do direct file I/O.
    pub io_memory_bytes: usize,
    /// Operations each shard can submit to the kernel at once. 8 to 4,096. Default: 128.
    pub ring_depth: usize,
}

/// How many shards a runtime has, and which CPUs they run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One on each CPU this process may use (the affinity of its main thread, and the cpuset), but
    /// no more than its quota of CPU time allows. The affinity of the thread that starts the
    /// runtime does not count: name CPUs to narrow them.
    PerAllowedCore,
    /// This many, each on a CPU of its own. If there are fewer allowed CPUs, none is pinned and
    /// nobody spins: that works, is slower, and is said by a warning.
    Count(usize),
    /// One on each of these CPUs, in this order.
    OnCpus(Vec<usize>),
}

/// What a shard with nothing to do does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It looks for work for this long and then parks until it is rung for. A spinning shard
    /// answers in about a microsecond, a parked one costs nothing and takes some 10 to 100
    /// microseconds to wake. [`Duration::ZERO`] parks at once. Shards that are not pinned to a CPU
    /// of their own do not spin: they would take the CPU from the one that has the work. Nor do
    /// shards of two runtimes of one process that are pinned to the same CPU, nor any shard while a
    /// control group has taken a shard's CPU from the process.
    Spin(Duration),
}

impl Default for Config {
    fn default() -> Self {
        Config {
            shards: Shards::PerAllowedCore,
            idle: Idle::Spin(Duration::from_micros(50)),
            placement_key: None,
            limits: Limits::default(),
            ingress_entries_max: 1024,
            batch_messages_max: 1024,
            lane_entries_max: 1024,
            turn_messages_max: 2048,
            asks_in_flight_max: 1 << 16,
            calls_max: 1 << 16,
            jobs_max: 1 << 16,
            watches_max: 1 << 16,
            actions_max: 256,
            drain_max: Duration::from_secs(10),
            tasks_grace: Duration::from_millis(100),
            stall_warning: Duration::from_secs(1),
            slow_turn: Duration::from_millis(10),
            slow_message: Duration::from_millis(100),
            preempt_timer: Duration::from_millis(1),
            io_memory_bytes: 64 << 10,
            ring_depth: 128,
        }
    }
}

/// Entries of all lanes together, beyond which each lane gets fewer: with messages of 64 bytes,
/// some 128 MiB.
const LANES_ENTRIES_MAX: usize = 1 << 21;

/// Each rerun adds an object to those of a message, or makes one of them written that was read.
const RERUNS_MAX: usize = 2 * ADDRESSEES_MAX;

const HOUR: Duration = Duration::from_secs(3600);

impl Config {
    /// Checks every field against the range its description gives.
    ///
    /// # Errors
    /// The first field out of its range, with its value and the range.
    pub fn check(&self) -> Result<(), ConfigError> {
        match &self.shards {
            Shards::PerAllowedCore => {}
            Shards::Count(shards) => in_range("shards", *shards, 1..=SHARDS_MAX)?,
            Shards::OnCpus(cpus) => in_range("shards", cpus.len(), 1..=SHARDS_MAX)?,
        }
        let Idle::Spin(spin) = self.idle;
        lasts("idle", spin, Duration::ZERO..=HOUR)?;
        in_range("limits.transactions_max", self.limits.transactions_max, 1..=1 << 20)?;
        in_range("limits.reruns_max", self.limits.reruns_max as usize, 1..=RERUNS_MAX)?;
        in_range("limits.timers_max", self.limits.timers_max, 0..=1 << 32)?;
        in_range("limits.carried_bytes_max", self.limits.carried_bytes_max, 4 << 10..=64 << 20)?;
        in_range("limits.entries_max", self.limits.entries_max, 64..=1 << 24)?;
        in_range("limits.actions_owed_max", self.limits.actions_owed_max, 0..=1 << 24)?;
        in_range("limits.outbox_messages_max", self.limits.outbox_messages_max, 1..=1 << 24)?;
        in_range("limits.own_messages_max", self.limits.own_messages_max, 1..=1 << 24)?;
        in_range("limits.versions_max", self.limits.versions_max, 0..=1 << 30)?;
        lasts("limits.snapshot_age_max", self.limits.snapshot_age_max, Duration::ZERO..=1000 * HOUR)?;
        in_range("ingress_entries_max", self.ingress_entries_max, 16..=1 << 20)?;
        in_range("batch_messages_max", self.batch_messages_max, 1..=1 << 16)?;
        in_range("lane_entries_max", self.lane_entries_max, 16..=1 << 16)?;
        in_range("turn_messages_max", self.turn_messages_max, 1..=1 << 20)?;
        in_range("asks_in_flight_max", self.asks_in_flight_max, 1..=1 << 24)?;
        in_range("jobs_max", self.jobs_max, 16..=1 << 24)?;
        in_range("watches_max", self.watches_max, 0..=1 << 24)?;
        in_range("actions_max", self.actions_max, 1..=1 << 20)?;
        in_range("calls_max", self.calls_max, 1..=1 << 20)?;
        lasts("drain_max", self.drain_max, Duration::ZERO..=HOUR)?;
        lasts("tasks_grace", self.tasks_grace, Duration::ZERO..=HOUR)?;
        lasts("stall_warning", self.stall_warning, Duration::from_millis(10)..=HOUR)?;
        lasts("slow_message", self.slow_message, Duration::from_millis(4)..=HOUR)?;
        lasts("slow_turn", self.slow_turn, Duration::from_micros(1)..=HOUR)?;
        lasts("preempt_timer", self.preempt_timer, Duration::from_micros(100)..=Duration::from_millis(100))?;
        in_range("io_memory_bytes", self.io_memory_bytes, 64 << 10..=1 << 30)?;
        in_range("ring_depth", self.ring_depth, 8..=4096)
    }

    /// How many messages each lane holds in a runtime of `shards` shards: `lane_entries_max`, or an
    /// equal part of about two million in all lanes together, whichever is less, and never below
    /// 16.
    pub fn lane_entries(&self, shards: usize) -> usize {
        let lanes = (shards * shards.saturating_sub(1)).max(1);
        (LANES_ENTRIES_MAX / lanes).clamp(16, self.lane_entries_max)
    }

    /// How long a shard spins, given whether each has a CPU of its own.
    pub(crate) fn spin(&self, pinned: bool) -> Duration {
        let Idle::Spin(spin) = self.idle;
        if pinned { spin } else { Duration::ZERO }
    }
}

pub(crate) fn in_range(
    field: &'static str,
    value: usize,
    range: RangeInclusive<usize>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { field, value, min: *range.start(), max: *range.end() })
}

pub(crate) fn lasts(
    field: &'static str,
    value: Duration,
    range: RangeInclusive<Duration>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::TimeOutOfRange { field, value, min: *range.start(), max: *range.end() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_passes() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn no_shards_and_a_thousand_are_refused_with_the_range() {
        for (shards, value) in
            [(Shards::Count(0), 0), (Shards::Count(1000), 1000), (Shards::OnCpus(Vec::new()), 0)]
        {
            let error = Config { shards, ..Config::default() }.check().unwrap_err();
            assert_eq!(error, ConfigError::OutOfRange { field: "shards", value, min: 1, max: 256 });
            assert!(error.to_string().contains("1 to 256"), "{error}");
        }
    }

    /// At each bound, and one beyond it. `reruns_max` was not checked at all: a `u32::MAX` was
    /// taken for "no limit", and 0 still let a fast message run again.
    #[test]
    fn reruns_are_refused_with_the_range() {
        let check = |reruns_max| {
            let limits = Limits { reruns_max, ..Limits::default() };
            Config { limits, ..Config::default() }.check()
        };
        for reruns in [1, RERUNS_MAX as u32] {
            assert_eq!(check(reruns), Ok(()));
        }
        for reruns in [0, RERUNS_MAX as u32 + 1, u32::MAX] {
            let (field, value) = ("limits.reruns_max", reruns as usize);
            let refused = ConfigError::OutOfRange { field, value, min: 1, max: 128 };
            assert_eq!(check(reruns), Err(refused));
        }
    }

    #[test]
    fn times_are_refused_with_the_range() {
        let error =
            Config { preempt_timer: Duration::from_secs(1), ..Config::default() }.check().unwrap_err();
        assert!(matches!(error, ConfigError::TimeOutOfRange { field: "preempt_timer", .. }), "{error:?}");
        assert_eq!(error.to_string(), "`preempt_timer` is 1s, and it must be 100µs to 100ms");
    }

    #[test]
    fn all_lanes_together_stay_bounded() {
        let config = Config::default();
        assert_eq!(config.lane_entries(1), 1024);
        assert_eq!(config.lane_entries(2), 1024);
        assert_eq!(config.lane_entries(8), 1024);
        for shards in 2..=SHARDS_MAX {
            let entries = config.lane_entries(shards);
            assert!((16..=1024).contains(&entries));
            assert!(entries * shards * (shards - 1) <= LANES_ENTRIES_MAX);
        }
    }

    #[test]
    fn shards_without_a_cpu_of_their_own_never_spin() {
        let config = Config { idle: Idle::Spin(Duration::from_millis(3)), ..Config::default() };
        assert_eq!(config.spin(true), Duration::from_millis(3));
        assert_eq!(config.spin(false), Duration::ZERO);
    }
}
