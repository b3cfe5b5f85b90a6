//! What a runtime has done, as anyone may read it at any time.
//!
//! A shard counts in plain integers of its own and copies them here at the end of a turn, each with
//! one relaxed store; readers load them, so two numbers of one shard may be a turn apart. A sampled
//! latency (one message of [`LATENCY_STRIDE`]) goes into a histogram whose lock only its shard and
//! readers of statistics take.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_shard::{Counters, ShardIndex};
use hdrhistogram::Histogram;

use crate::log::growth::LogStats;
use crate::route::{GateStats, Route};

/// Of so many messages from outside threads one has its latency taken.
pub(crate) const LATENCY_STRIDE: u64 = 1024;

/// The longest latency told apart from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(60);

macro_rules! activity {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a shard's runtime half has done since it started. What its messages did is in
        /// [`Counters`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Activity {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Activity {
            const COUNT: usize = [$(stringify!($name)),*].len();

            fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$name),*]
            }

            fn from_values(values: [u64; Self::COUNT]) -> Self {
                let [$($name),*] = values;
                Activity { $($name),* }
            }
        }
    };
}

activity! {
    /// Turns that had something to do.
    turns,
    /// Batches of `ask_all` answered.
    batches,
    /// Messages and answers put into lanes to other shards.
    lane_sent,
    /// Messages and answers taken from lanes of other shards.
    lane_received,
    /// Messages and answers for other shards whose lanes were full at the end of the last turn.
    outbox_waiting,
    /// Messages that wait for their time now.
    timers_waiting,
    /// Times the shard ran dry, stopped spinning and waited for its doorbell or a timer.
    parks,
    /// Nanoseconds in turns.
    busy_ns,
    /// Nanoseconds parked; the shard's core was free for others.
    parked_ns,
    /// Turns that took at least `slow_turn`.
    slow_turns,
    /// Bytes given to the disk for the log, padding and all.
    log_bytes,
    /// Writes of the log: each is one batch, and one sync.
    log_writes,
}

/// One shard's numbers, where others can read them. To be padded by its owner: the shard writes it
/// every turn.
pub(crate) struct PublishedStats {
    counters: [AtomicU64; Counters::COUNT],
    activity: [AtomicU64; Activity::COUNT],
    latency: Mutex<Histogram<u64>>,
    /// Messages and answers put into lanes, by receiving shard; stored when there were any.
    sent_to: Box<[AtomicU64]>,
    /// Kept by the tasks themselves, for they begin and end between turns.
    pub(crate) tasks: Arc<TaskCounts>,
}

/// How many watched tasks a shard has and had.
#[derive(Debug, Default)]
pub(crate) struct TaskCounts {
    pub(crate) live: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) cancelled: AtomicU64,
}

impl PublishedStats {
    /// Of one shard of `shards`.
    pub(crate) fn new(shards: usize) -> Self {
        let nanoseconds_max = LATENCY_MAX.as_nanos() as u64;
        PublishedStats {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            activity: std::array::from_fn(|_| AtomicU64::new(0)),
            // Two digits: 1 % at worst, in some 30 KiB.
            latency: Mutex::new(
                Histogram::new_with_bounds(1, nanoseconds_max, 2).expect("the bounds are in order"),
            ),
            sent_to: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            tasks: Arc::default(),
        }
    }

    /// Publishes the numbers of this shard.
    #[inline]
    pub(crate) fn publish(&self, counters: &Counters, activity: &Activity) {
        for (to, value) in self.counters.iter().zip(counters.values()) {
            to.store(value, Ordering::Relaxed);
        }
        for (to, value) in self.activity.iter().zip(activity.values()) {
            to.store(value, Ordering::Relaxed);
        }
    }

    /// Publishes how much this shard has put into its lane to `shard`.
    #[inline]
    pub(crate) fn publish_sent(&self, shard: usize, sent: u64) {
        self.sent_to[shard].store(sent, Ordering::Relaxed);
    }

    /// Adds sampled latencies: of messages that were begun then, each with how many samples it
    /// stands for. All ended at `now`.
    pub(crate) fn sample(&self, now: Instant, begun: &mut Vec<(Instant, u64)>) {
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        for (begun, samples) in begun.drain(..) {
            let nanoseconds = now.saturating_duration_since(begun).as_nanos() as u64;
            latency.saturating_record_n(nanoseconds.max(1), samples);
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters::from_values(std::array::from_fn(|at| self.counters[at].load(Ordering::Relaxed)))
    }

    pub(crate) fn activity(&self) -> Activity {
        Activity::from_values(std::array::from_fn(|at| self.activity[at].load(Ordering::Relaxed)))
    }

    pub(crate) fn sent_to(&self) -> Vec<u64> {
        self.sent_to.iter().map(|sent| sent.load(Ordering::Relaxed)).collect()
    }

    /// Adds this shard's sampled latencies to those of others.
    pub(crate) fn add_latency_to(&self, all: &mut Histogram<u64>) {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(&*latency).expect("all histograms have the same bounds");
    }
}

/// What a runtime has done since it started.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Shard by shard, in order.
    pub shards: Vec<ShardStats>,
    /// How long outside callers waited.
    pub latency: Latency,
    /// How long the log is, and what its checkpoints came to; `None` without a log.
    pub log: Option<LogStats>,
    /// What its gates have done, in the order they were opened.
    pub gates: Vec<GateStats>,
}

/// What one shard has done since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStats {
    /// Which shard.
    pub shard: ShardIndex,
    /// The CPU it is bound to, if it is.
    pub cpu: Option<usize>,
    /// What its messages did.
    pub counters: Counters,
    /// What its runtime half did.
    pub activity: Activity,
    /// Messages and answers it put into lanes, by receiving shard.
    pub sent_to: Vec<u64>,
    /// How long the turn has been going on that it is in; `None` between turns. A message that does
    /// not come back shows here while it runs.
    pub in_turn_for: Option<Duration>,
    /// Times a sender found it parked and rang its doorbell.
    pub rings: u64,
    /// Single messages from outside it refused because its ingress was full.
    pub overloaded: u64,
    /// Tasks of `on_each_shard` and `spawn` that live now.
    pub tasks: u64,
    /// Tasks that ended in a panic.
    pub tasks_panicked: u64,
}

impl Stats {
    /// Messages handled by all shards, whatever came of them.
    pub fn handled(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.handled()).sum()
    }

    /// Messages that went this way. Those of [`Route::Private`] are among the others, too.
    pub fn routed(&self, route: Route) -> u64 {
        match route {
            Route::Fast => self.shards.iter().map(|shard| shard.counters.fast).sum(),
            Route::Consensus => self.shards.iter().map(|shard| shard.counters.consensus).sum(),
            Route::Private => self.gates.iter().map(|gate| gate.passed).sum(),
        }
    }

    /// Objects on all shards now.
    pub fn objects(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.objects).sum()
    }
}

/// Quantiles of the time from `ask` or `ask_all` to the answer being ready, over a sample of one
/// message in 1,024 and with an error of at most 1 %. All zero while nothing was sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many messages were sampled.
    pub samples: u64,
    /// Half of the messages took at most this long.
    pub p50: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
    /// 999 of 1,000 took at most this long.
    pub p999: Duration,
    /// The longest that was sampled.
    pub max: Duration,
}

impl Latency {
    pub(crate) fn of<'a>(shards: impl Iterator<Item = &'a PublishedStats>) -> Self {
        let mut all = None;
        for shard in shards {
            match &mut all {
                Some(all) => shard.add_latency_to(all),
                None => all = Some(shard.latency.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            }
        }
        let Some(all) = all.filter(|all| !all.is_empty()) else { return Latency::default() };
        let quantile = |quantile| Duration::from_nanos(all.value_at_quantile(quantile));
        Latency {
            samples: all.len(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: Duration::from_nanos(all.max()),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { samples, p50, p99, p999, max } = self;
        write!(f, "p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}, max {max:?} ({samples} samples)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_is_read() {
        let published = PublishedStats::new(1);
        let counters = Counters { fast: 7, objects: 3, ..Counters::default() };
        let activity = Activity { turns: 5, parks: 1, ..Activity::default() };
        published.publish(&counters, &activity);
        assert_eq!(published.counters(), counters);
        assert_eq!(published.activity(), activity);
    }

    #[test]
    fn latency_is_that_of_all_shards_together() {
        let shards = [PublishedStats::new(1), PublishedStats::new(1)];
        assert_eq!(Latency::of(shards.iter()), Latency::default());
        let now = Instant::now() + Duration::from_secs(1);
        shards[0].sample(now, &mut vec![(now - Duration::from_micros(10), 99)]);
        shards[1]
            .sample(now, &mut vec![(now - Duration::from_millis(2), 1), (now + Duration::from_secs(1), 0)]);
        let latency = Latency::of(shards.iter());
        assert_eq!(latency.samples, 100);
        assert!(latency.p50.abs_diff(Duration::from_micros(10)) < Duration::from_nanos(200), "{latency}");
        assert!(latency.max.abs_diff(Duration::from_millis(2)) < Duration::from_micros(40), "{latency}");
    }
}
