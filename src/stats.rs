//! What a runtime has done, as anyone may read it at any time.
//!
//! A shard counts in plain integers of its own and copies them here at the end of a turn, each with
//! one relaxed store; readers load them, so two numbers of one shard may be a turn apart. Gauges
//! are copied at most once a millisecond, and before a shard parks. A sampled latency (one message
//! of [`LATENCY_STRIDE`]) goes into a histogram whose lock only its shard and readers of statistics
//! take, and into a [`Distribution`], which has no lock.
//!
//! [`Stats::visit`] (`metric`) gives every number with its name, unit and meaning.

pub(crate) mod distribution;
pub(crate) mod hot;
pub(crate) mod message_trace;
pub(crate) mod metric;
#[cfg(test)]
pub(crate) mod said;
pub(crate) mod trace;

use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_shard::{Counters, Epoch, ShardIndex};
use hdrhistogram::Histogram;

use crate::error::Death;
use crate::log::growth::LogStats;
use crate::route::{GateStats, Route};

use distribution::{Distribution, SharedDistribution};
use hot::HotObject;
use message_trace::MessageTrace;

/// Of so many messages from outside threads one has its latency taken.
pub(crate) const LATENCY_STRIDE: u64 = 1024;

/// The longest latency told apart from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(60);

macro_rules! numbers {
    ($(#[$of:meta])* $numbers:ident { $($(#[$doc:meta])* $name:ident),* $(,)? }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $numbers {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl $numbers {
            const COUNT: usize = [$(stringify!($name)),*].len();

            fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$name),*]
            }

            fn from_values(values: [u64; Self::COUNT]) -> Self {
                let [$($name),*] = values;
                $numbers { $($name),* }
            }
        }
    };
}

numbers! {
    /// What a shard's runtime half has done since it started. What its messages did is in
    /// [`Counters`].
    Activity {
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
        /// Those of them in which more timers fired than messages came.
        slow_turns_timers,
        /// Those that went, by half or more, to jobs: walks over snapshots, and reads of them.
        slow_turns_jobs,
        /// Those that went, by half or more, to letting go of old versions.
        slow_turns_sweep,
        /// How often tasks kept the shard from its messages for at least `slow_turn`.
        slow_tasks,
        /// Bytes given to the disk for the log, padding and all.
        log_bytes,
        /// Writes of the log: each is one batch, and one sync.
        log_writes,
    }
}

numbers! {
    /// How much is under way on a shard, as of the last time it said so: at most a millisecond ago,
    /// or when it went to sleep.
    Gauges {
        /// Transactions that began here and have not come back.
        transactions,
        /// Transactions that wait here for a lock now.
        lock_queue,
        /// Locks that transactions had to wait for here since the start.
        lock_waits,
        /// Asks of this shard's own tasks that wait for their answer.
        calls,
        /// Bytes of log that wait for the disk.
        log_backlog_bytes,
        /// Actions that wait until they may begin.
        actions_waiting,
        /// Actions that are being performed.
        actions_under_way,
    }
}

/// One shard's numbers, where others can read them. To be padded by its owner: the shard writes it
/// every turn.
pub(crate) struct PublishedStats {
    counters: [AtomicU64; Counters::COUNT],
    activity: [AtomicU64; Activity::COUNT],
    gauges: [AtomicU64; Gauges::COUNT],
    latency: Mutex<Histogram<u64>>,
    /// By [`AnswerPath`].
    answers: [SharedDistribution; AnswerPath::ALL.len()],
    /// Of the log, written by its writer.
    pub(crate) log_writes: LogWrites,
    /// Messages that ran to an end, by their type.
    messages: Box<[AtomicU64]>,
    /// Messages and answers put into lanes, by receiving shard; stored when there were any.
    sent_to: Box<[AtomicU64]>,
    /// Kept by the tasks themselves, for they begin and end between turns.
    pub(crate) tasks: Arc<TaskCounts>,
}

/// Which way a message went whose latency is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerPath {
    /// Its objects live on one shard.
    Fast,
    /// They live on several.
    Consensus,
    /// It was one of a batch.
    Batch,
}

impl AnswerPath {
    const ALL: [AnswerPath; 3] = [AnswerPath::Fast, AnswerPath::Consensus, AnswerPath::Batch];
}

/// An ask whose latency is taken: when it began, and which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskBegun {
    pub(crate) at: Instant,
    pub(crate) path: AnswerPath,
}

/// How long a shard's writes of its log take.
#[derive(Default)]
pub(crate) struct LogWrites {
    took: SharedDistribution,
    /// When the write began that goes on, in nanoseconds of the runtime's time and not 0; else 0.
    began: AtomicU64,
}

impl LogWrites {
    /// A write begins, so long after the runtime started.
    pub(crate) fn begin(&self, now: Duration) {
        self.began.store((now.as_nanos() as u64).max(1), Ordering::Relaxed);
    }

    /// It has ended.
    pub(crate) fn end(&self, now: Duration) {
        let began = Duration::from_nanos(self.began.swap(0, Ordering::Relaxed));
        self.took.record(now.saturating_sub(began), 1);
    }

    /// How long the write has been going on that is under way, if one is.
    pub(crate) fn under_way_for(&self, now: Duration) -> Option<Duration> {
        let began = Some(self.began.load(Ordering::Relaxed)).filter(|began| *began > 0)?;
        Some(now.saturating_sub(Duration::from_nanos(began)))
    }

    pub(crate) fn took(&self) -> Distribution {
        self.took.read()
    }
}

/// How many watched tasks a shard has and had.
#[derive(Debug, Default)]
pub(crate) struct TaskCounts {
    pub(crate) live: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    /// One more than the place, in `places`, of the task that is being polled; 0 between polls.
    polled: AtomicUsize,
    /// Where the program spawns tasks.
    places: Mutex<Vec<TaskPlace>>,
}

/// Where in the program a task was spawned.
pub(crate) type TaskPlace = &'static Location<'static>;

impl TaskCounts {
    /// The number of a place, from 1 on.
    pub(crate) fn number_of(&self, place: TaskPlace) -> usize {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let at = places.iter().position(|known| *known == place).unwrap_or(places.len());
        if at == places.len() {
            places.push(place);
        }
        at + 1
    }

    /// The task of this place is polled from now on; 0: none is.
    #[inline]
    pub(crate) fn polls(&self, number: usize) {
        self.polled.store(number, Ordering::Relaxed);
    }

    /// Where the task was spawned that is being polled.
    pub(crate) fn polled(&self) -> Option<TaskPlace> {
        let number = self.polled.load(Ordering::Relaxed);
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(number.checked_sub(1)?).copied()
    }
}

impl PublishedStats {
    /// Of one shard of `shards`, whose actor counts so many types of messages.
    pub(crate) fn new(shards: usize, messages: usize) -> Self {
        let nanoseconds_max = LATENCY_MAX.as_nanos() as u64;
        PublishedStats {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            activity: std::array::from_fn(|_| AtomicU64::new(0)),
            gauges: std::array::from_fn(|_| AtomicU64::new(0)),
            answers: std::array::from_fn(|_| SharedDistribution::default()),
            log_writes: LogWrites::default(),
            // Two digits: 1 % at worst, in some 30 KiB.
            latency: Mutex::new(
                Histogram::new_with_bounds(1, nanoseconds_max, 2).expect("the bounds are in order"),
            ),
            messages: (0..messages).map(|_| AtomicU64::new(0)).collect(),
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

    /// Publishes how much is under way on this shard, and what it has run by type of message.
    pub(crate) fn publish_gauges(&self, gauges: &Gauges, messages: &[u64]) {
        for (to, value) in self.messages.iter().zip(messages) {
            to.store(*value, Ordering::Relaxed);
        }
        for (to, value) in self.gauges.iter().zip(gauges.values()) {
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
    pub(crate) fn sample(&self, now: Instant, begun: &mut Vec<(AskBegun, u64)>) {
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        for (begun, samples) in begun.drain(..) {
            let took = now.saturating_duration_since(begun.at);
            latency.saturating_record_n((took.as_nanos() as u64).max(1), samples);
            self.answers[begun.path as usize].record(took, samples);
        }
    }

    pub(crate) fn gauges(&self) -> Gauges {
        Gauges::from_values(std::array::from_fn(|at| self.gauges[at].load(Ordering::Relaxed)))
    }

    pub(crate) fn answers(&self) -> AnswerTimes {
        let [fast, consensus, batch] = &self.answers;
        AnswerTimes { fast: fast.read(), consensus: consensus.read(), batch: batch.read() }
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters::from_values(std::array::from_fn(|at| self.counters[at].load(Ordering::Relaxed)))
    }

    pub(crate) fn activity(&self) -> Activity {
        Activity::from_values(std::array::from_fn(|at| self.activity[at].load(Ordering::Relaxed)))
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = u64> {
        self.messages.iter().map(|count| count.load(Ordering::Relaxed))
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

/// How far a runtime is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// It takes messages.
    #[default]
    Running,
    /// It takes none any more, and what it has accepted runs to its end.
    Draining,
    /// What is left is given up, or it has stopped.
    Stopping,
    /// A shard has died, and the others left.
    Dead,
}

/// What a runtime has done since it started. [`Stats::visit`] goes through all of it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// How far the runtime is.
    pub phase: Phase,
    /// The shards that died, and of what.
    pub deaths: Vec<Death>,
    /// How long ago it started.
    pub uptime: Duration,
    /// Shard by shard, in order.
    pub shards: Vec<ShardStats>,
    /// How long outside callers waited.
    pub latency: Latency,
    /// Single asks from outside that have not been answered or whose answer was not picked up;
    /// beyond 4,096 an estimate.
    pub asks_in_flight: u64,
    /// The epoch now.
    pub epoch: Epoch,
    /// The last epoch that is durable; `None` without a log.
    pub durable: Option<Epoch>,
    /// Snapshots that are open.
    pub snapshots: u64,
    /// How long ago the oldest of them was opened.
    pub oldest_snapshot: Option<Duration>,
    /// How long the log is, and what its checkpoints came to; `None` without a log.
    pub log: Option<LogStats>,
    /// The objects that were touched and waited for most in the last seconds, at most
    /// [`HOT_MAX`](Stats::HOT_MAX) of each; the hottest first.
    pub hot: Hot,
    /// Asks of threads, and batches, that took at least
    /// [`slow_message`](crate::Config::slow_message). An ask is counted while it lasts, when the
    /// runtime's watching thread has seen it for so long: so up to a quarter later than it is slow.
    pub slow_messages: u64,
    /// The last [`TRACES_MAX`](Stats::TRACES_MAX) of them that were answered, with where their time
    /// went; the latest last. Some took a little less, since the watching thread knows the begin of
    /// an ask to a quarter of that time. Missing are asks beyond 128 that were slow at once, asks
    /// of a shard's own tasks, messages that were told, and, where more than 4,096 asks were ever
    /// in flight at once, those in later reply slots.
    pub slow: Vec<Arc<MessageTrace>>,
    /// The last asks of threads that were followed from their begin, however long they took: one of
    /// 1,024, and at most ten in a second.
    pub sampled: Vec<Arc<MessageTrace>>,
    /// What its gates have done, in the order they were opened.
    pub gates: Vec<GateStats>,
}

/// The hottest objects of a runtime.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hot {
    /// By messages to them.
    pub touched: Vec<HotObject>,
    /// By transactions that had to wait for their locks.
    pub waited: Vec<HotObject>,
}

/// How long outside callers waited for a shard's answers, by the way that their messages went. Of
/// one message in 1,024.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerTimes {
    /// Single asks whose objects live on one shard. (A lock that one of them met is in here.)
    pub fast: Distribution,
    /// Single asks whose objects live on several shards.
    pub consensus: Distribution,
    /// Messages of `ask_all`, `ask_stream` and `ask_waiting`: the time of their batch.
    pub batch: Distribution,
}

/// What one shard has done since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// Which shard.
    pub shard: ShardIndex,
    /// The CPU it is bound to, if it is.
    pub cpu: Option<usize>,
    /// What its messages did.
    pub counters: Counters,
    /// What its runtime half did.
    pub activity: Activity,
    /// How much is under way.
    pub gauges: Gauges,
    /// Single messages and batches that wait in its ingress now.
    pub ingress: u64,
    /// How long its answers took.
    pub answers: AnswerTimes,
    /// How long its writes of the log took; empty without a log.
    pub log_writes: Distribution,
    /// How long the write of its log has been going on that is under way, if one is.
    pub in_log_write_for: Option<Duration>,
    /// Messages that ran to an end on it, whatever came of them, by their type: those of
    /// [`Actor::MESSAGE_NAMES`](freehold_shard::Actor::MESSAGE_NAMES). As fresh as the gauges.
    pub messages: Vec<(&'static str, u64)>,
    /// Messages and answers it put into lanes, by receiving shard.
    pub sent_to: Vec<u64>,
    /// How long the turn has been going on that it is in; `None` between turns. A message that does
    /// not come back shows here while it runs.
    pub in_turn_for: Option<Duration>,
    /// The type of the message that this turn runs, or has run last: one of
    /// [`Actor::MESSAGE_NAMES`](freehold_shard::Actor::MESSAGE_NAMES). `None` between turns, and for
    /// an actor without names.
    pub running: Option<&'static str>,
    /// Times a sender found it parked and rang its doorbell.
    pub rings: u64,
    /// Single messages from outside it refused because its ingress was full.
    pub overloaded: u64,
    /// Tasks of `on_each_shard` and `spawn` that live now.
    pub tasks: u64,
    /// Tasks that ended in a panic.
    pub tasks_panicked: u64,
    /// Where the program spawned the task that runs now, if one does: that task is in the way of
    /// the shard's messages.
    pub task_polled: Option<&'static Location<'static>>,
}

impl Stats {
    /// The most objects that [`Stats::hot`] has in each of its lists.
    pub const HOT_MAX: usize = 10;

    /// The most traces that [`Stats::slow`] and [`Stats::sampled`] have each.
    pub const TRACES_MAX: usize = trace::KEPT;

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
        let published = PublishedStats::new(1, 0);
        let counters = Counters { fast: 7, objects: 3, ..Counters::default() };
        let activity = Activity { turns: 5, parks: 1, ..Activity::default() };
        let gauges = Gauges { calls: 4, ..Gauges::default() };
        published.publish(&counters, &activity);
        published.publish_gauges(&gauges, &[]);
        assert_eq!(published.counters(), counters);
        assert_eq!(published.gauges(), gauges);
        assert_eq!(published.activity(), activity);
    }

    #[test]
    fn latency_is_that_of_all_shards_together() {
        let shards = [PublishedStats::new(1, 0), PublishedStats::new(1, 0)];
        assert_eq!(Latency::of(shards.iter()), Latency::default());
        let now = Instant::now() + Duration::from_secs(1);
        let begun = |at, path| AskBegun { at, path };
        let short = begun(now - Duration::from_micros(10), AnswerPath::Fast);
        shards[0].sample(now, &mut vec![(short, 99)]);
        let long = begun(now - Duration::from_millis(2), AnswerPath::Consensus);
        let backwards = begun(now + Duration::from_secs(1), AnswerPath::Batch);
        shards[1].sample(now, &mut vec![(long, 1), (backwards, 0)]);
        let latency = Latency::of(shards.iter());
        assert_eq!(latency.samples, 100);
        assert!(latency.p50.abs_diff(Duration::from_micros(10)) < Duration::from_nanos(200), "{latency}");
        assert!(latency.max.abs_diff(Duration::from_millis(2)) < Duration::from_micros(40), "{latency}");
        let answers = [shards[0].answers(), shards[1].answers()];
        assert_eq!(
            answers.map(|it| [it.fast, it.consensus, it.batch].map(|it| it.count())),
            [[99, 0, 0], [0, 1, 0]]
        );
    }

    #[test]
    fn a_write_of_the_log_is_seen_while_it_lasts_and_counted_when_it_ends() {
        let writes = LogWrites::default();
        let seconds = Duration::from_secs;
        assert_eq!(writes.under_way_for(seconds(1)), None);
        writes.begin(seconds(1));
        assert_eq!(writes.under_way_for(seconds(3)), Some(seconds(2)));
        assert_eq!(writes.took().count(), 0);
        writes.end(seconds(5));
        assert_eq!(writes.under_way_for(seconds(9)), None);
        assert_eq!((writes.took().count(), writes.took().sum), (1, seconds(4)));
    }
}
