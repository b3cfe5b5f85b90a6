//! Every number of [`Stats`] with its name, kind, unit and meaning, for tools that pass them on.
//!
//! Names are those of Prometheus, without what its libraries add: the prefix `freehold_`, the unit,
//! and `_total` of a counter. `docs/METRICS.md` says of each what to do when it is high.

use std::time::Duration;

use super::distribution::Distribution;
use super::hot::HotObject;
use super::{Phase, ShardStats, Stats};
use crate::log::growth::LogStats;
use crate::route::GateStats;

/// What a number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows, from zero at the start.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is a [`Distribution`], which only grows.
    Histogram,
}

/// What a number is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricUnit {
    /// Things: its name says which.
    Things,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricValue<'a> {
    /// A whole one.
    Whole(u64),
    /// Another, as seconds are.
    Real(f64),
    /// How long things took.
    Distribution(&'a Distribution),
}

/// A label's name and value.
pub type Label<'a> = (&'static str, &'a str);

/// One number of a runtime, as [`Stats::visit`] gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric<'a> {
    /// Its name. Numbers of one name have the same kind, unit and help, and come one after another.
    pub name: &'static str,
    /// What it does.
    pub kind: MetricKind,
    /// What it is a number of.
    pub unit: MetricUnit,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Which of the numbers of this name it is.
    pub labels: &'a [Label<'a>],
    /// The number.
    pub value: MetricValue<'a>,
}

impl<'a> Metric<'a> {
    /// A number of another package than this one, for the same tools.
    ///
    /// ```
    /// use freehold::{Metric, MetricKind, MetricUnit, MetricValue};
    ///
    /// let value = MetricValue::Whole(7);
    /// let number = Metric::new("replica_term", MetricKind::Gauge, MetricUnit::Things, "the term", &[], value);
    /// assert_eq!(number.value, value);
    /// ```
    pub const fn new(
        name: &'static str,
        kind: MetricKind,
        unit: MetricUnit,
        help: &'static str,
        labels: &'a [Label<'a>],
        value: MetricValue<'a>,
    ) -> Self {
        Metric { name, kind, unit, help, labels, value }
    }
}

use MetricKind::{Counter, Gauge, Histogram};
use MetricUnit::{Bytes, Seconds, Things};
use MetricValue::{Real, Whole};

/// What the numbers of one name have in common.
struct Family(&'static str, MetricKind, MetricUnit, &'static str);

/// One number of each shard: a label and its value beside `shard`, and where it is.
type ByShard = (Option<Label<'static>>, fn(&ShardStats) -> MetricValue<'_>);
/// One number of each gate: a label and its value beside `gate`, and where it is.
type ByGate = (Option<Label<'static>>, fn(&GateStats) -> MetricValue<'static>);
/// A number of the runtime, if it has it.
type OfRuntime = (Option<Label<'static>>, fn(&Stats) -> Option<MetricValue<'_>>);

fn seconds<'a>(span: Duration) -> MetricValue<'a> {
    Real(span.as_secs_f64())
}

fn from_ns<'a>(nanoseconds: u64) -> MetricValue<'a> {
    seconds(Duration::from_nanos(nanoseconds))
}

/// A row of the tables below, shorter.
macro_rules! families {
    ($($name:literal $kind:ident $unit:ident $help:literal { $([$($label:literal = $value:literal)?] $read:expr),* $(,)? })*) => {
        &[$((
            Family($name, $kind, $unit, $help),
            &[$((families!(@label $($label $value)?), $read)),*],
        )),*]
    };
    (@label) => { None };
    (@label $label:literal $value:literal) => { Some(($label, $value)) };
}

const BY_SHARD: &[(Family, &[ByShard])] = families! {
    "messages" Counter Things "Messages handled, by how they ended." {
        ["outcome" = "fast"] |s| Whole(s.counters.fast),
        ["outcome" = "consensus"] |s| Whole(s.counters.consensus),
        ["outcome" = "aborted"] |s| Whole(s.counters.aborted),
        ["outcome" = "panicked"] |s| Whole(s.counters.panicked),
        ["outcome" = "unstable"] |s| Whole(s.counters.unstable),
        ["outcome" = "unaddressed"] |s| Whole(s.counters.unaddressed),
        ["outcome" = "elsewhere"] |s| Whole(s.counters.elsewhere),
    }
    "transactions_begun" Counter Things "Messages that became transactions, by the reason." {
        ["reason" = "spanning"] |s| Whole(s.counters.spanning),
        ["reason" = "blocked"] |s| Whole(s.counters.blocked),
        ["reason" = "shared"] |s| Whole(s.counters.shared),
        ["reason" = "undeclared"] |s| Whole(s.counters.undeclared),
    }
    "pairs" Counter Things "Transactions of two free objects on two shards: the shortest way." {
        [] |s| Whole(s.counters.pairs),
    }
    "reruns" Counter Things "Transactions that began anew with objects they had not declared." {
        [] |s| Whole(s.counters.reruns),
    }
    "transactions_under_way" Gauge Things "Transactions that began on the shard and have not come back." {
        [] |s| Whole(s.gauges.transactions),
    }
    "actions" Gauge Things "Actions that a shard owes, by whether they are being performed." {
        ["state" = "waiting"] |s| Whole(s.gauges.actions_waiting),
        ["state" = "under_way"] |s| Whole(s.gauges.actions_under_way),
    }
    "lock_queue" Gauge Things "Transactions that wait for a lock." { [] |s| Whole(s.gauges.lock_queue), }
    "lock_waits" Counter Things "Locks that transactions had to wait for." { [] |s| Whole(s.gauges.lock_waits), }
    "messages_told" Counter Things "Messages told by messages, and timers taken back." { [] |s| Whole(s.counters.told), }
    "timers_fired" Counter Things "Delayed messages that came due." { [] |s| Whole(s.counters.timers_fired), }
    "timers_waiting" Gauge Things "Messages that wait for their time." { [] |s| Whole(s.activity.timers_waiting), }
    "objects" Gauge Things "Objects on the shard." { [] |s| Whole(s.counters.objects), }
    "versions" Gauge Things "Old versions kept for open snapshots." { [] |s| Whole(s.counters.versions), }
    "snapshots_revoked" Counter Things "Snapshots that the shard revoked." { [] |s| Whole(s.counters.revoked), }
    "ingress" Gauge Things "Messages and batches from outside that wait for the shard." { [] |s| Whole(s.ingress), }
    "overloaded" Counter Things "Messages from outside that were refused: the ingress was full." {
        [] |s| Whole(s.overloaded),
    }
    "calls_in_flight" Gauge Things "Asks of the shard's own tasks that wait for their answer." {
        [] |s| Whole(s.gauges.calls),
    }
    "batches" Counter Things "Batches answered." { [] |s| Whole(s.activity.batches), }
    "turns" Counter Things "Turns that had something to do." { [] |s| Whole(s.activity.turns), }
    "slow_tasks" Counter Things "How often tasks kept a shard from its messages for at least `slow_turn`." { [] |s| Whole(s.activity.slow_tasks), }
    "slow_turns" Counter Things "Turns that took at least `slow_turn`, by what most of one went to." {
        ["cause" = "messages"] |s| {
            let of_others = s.activity.slow_turns_timers + s.activity.slow_turns_jobs + s.activity.slow_turns_sweep;
            Whole(s.activity.slow_turns.saturating_sub(of_others))
        },
        ["cause" = "timers"] |s| Whole(s.activity.slow_turns_timers),
        ["cause" = "jobs"] |s| Whole(s.activity.slow_turns_jobs),
        ["cause" = "sweep"] |s| Whole(s.activity.slow_turns_sweep),
    }
    "busy" Counter Seconds "Time in turns." { [] |s| from_ns(s.activity.busy_ns), }
    "parked" Counter Seconds "Time asleep." { [] |s| from_ns(s.activity.parked_ns), }
    "parks" Counter Things "Times the shard went to sleep." { [] |s| Whole(s.activity.parks), }
    "rings" Counter Things "Times a sender woke the shard." { [] |s| Whole(s.rings), }
    "in_turn" Gauge Seconds "How long the turn has lasted that goes on; 0 between turns." {
        [] |s| seconds(s.in_turn_for.unwrap_or_default()),
    }
    "lane_sent" Counter Things "Messages and answers sent to other shards." { [] |s| Whole(s.activity.lane_sent), }
    "lane_received" Counter Things "Messages and answers received from other shards." {
        [] |s| Whole(s.activity.lane_received),
    }
    "outbox_waiting" Gauge Things "Messages and answers that full lanes did not take." {
        [] |s| Whole(s.activity.outbox_waiting),
    }
    "tasks" Gauge Things "Tasks of `on_each_shard` and `spawn` that live." { [] |s| Whole(s.tasks), }
    "tasks_panicked" Counter Things "Tasks that ended in a panic." { [] |s| Whole(s.tasks_panicked), }
    "log_written" Counter Bytes "Bytes given to the disk for the log." { [] |s| Whole(s.activity.log_bytes), }
    "log_writes" Counter Things "Writes of the log: each is one batch, and one sync." {
        [] |s| Whole(s.activity.log_writes),
    }
    "log_backlog" Gauge Bytes "Bytes of log that wait for the disk." { [] |s| Whole(s.gauges.log_backlog_bytes), }
    "log_write" Histogram Seconds "How long writes of the log took, sync included." {
        [] |s| MetricValue::Distribution(&s.log_writes),
    }
    "in_log_write" Gauge Seconds "How long the write of the log has lasted that goes on; 0 if none does." {
        [] |s| seconds(s.in_log_write_for.unwrap_or_default()),
    }
    "answer" Histogram Seconds "Time from an ask to its answer, of one message in 1,024, by path." {
        ["path" = "fast"] |s| MetricValue::Distribution(&s.answers.fast),
        ["path" = "consensus"] |s| MetricValue::Distribution(&s.answers.consensus),
        ["path" = "batch"] |s| MetricValue::Distribution(&s.answers.batch),
    }
};

fn of_log(stats: &Stats, read: fn(&LogStats) -> u64) -> Option<MetricValue<'_>> {
    stats.log.as_ref().map(|log| Whole(read(log)))
}

fn is_in<'a>(stats: &Stats, phase: Phase) -> Option<MetricValue<'a>> {
    Some(Whole(u64::from(stats.phase == phase)))
}

const OF_RUNTIME: &[(Family, &[OfRuntime])] = families! {
    "phase" Gauge Things "1 for the phase that the runtime is in." {
        ["phase" = "running"] |s| is_in(s, Phase::Running),
        ["phase" = "draining"] |s| is_in(s, Phase::Draining),
        ["phase" = "stopping"] |s| is_in(s, Phase::Stopping),
        ["phase" = "dead"] |s| is_in(s, Phase::Dead),
    }
    "uptime" Gauge Seconds "How long ago the runtime started." { [] |s| Some(seconds(s.uptime)), }
    "asks_in_flight" Gauge Things "Single asks from outside that are not answered." {
        [] |s| Some(Whole(s.asks_in_flight)),
    }
    "slow_messages" Counter Things "Asks and batches that took at least `slow_message`." {
        [] |s| Some(Whole(s.slow_messages)),
    }
    "epoch" Gauge Things "The epoch now." { [] |s| Some(Whole(s.epoch.0)), }
    "durable_lag" Gauge Things "Epochs that have ended and are not durable." {
        [] |s| s.durable.map(|durable| Whole(s.epoch.0.saturating_sub(1 + durable.0))),
    }
    "snapshots_open" Gauge Things "Snapshots that are open." { [] |s| Some(Whole(s.snapshots)), }
    "oldest_snapshot" Gauge Seconds "How long ago the oldest open snapshot was opened; 0 if none is." {
        [] |s| Some(seconds(s.oldest_snapshot.unwrap_or_default())),
    }
    "log" Gauge Bytes "Bytes of log since the last checkpoint began." { [] |s| of_log(s, |log| log.bytes), }
    "log_max" Gauge Bytes "Bytes of log that there may be." { [] |s| of_log(s, |log| log.bytes_max), }
    "checkpoints" Counter Things "Checkpoints, by what came of them." {
        ["outcome" = "made"] |s| of_log(s, |log| log.checkpoints),
        ["outcome" = "failed"] |s| of_log(s, |log| log.failed),
    }
    "checkpoints_held" Counter Things "Checkpoints that messages from outside had to wait for." {
        [] |s| of_log(s, |log| log.held),
    }
    "checkpoint" Gauge Bytes "Bytes of the last checkpoint that was made." {
        [] |s| s.log.as_ref()?.last.map(|last| Whole(last.bytes)),
    }
    "checkpoint_took" Gauge Seconds "How long the last checkpoint took." {
        [] |s| s.log.as_ref()?.last.map(|last| seconds(last.took)),
    }
    "checkpoint_age" Gauge Seconds "How long ago the last checkpoint ended." {
        [] |s| s.log.as_ref()?.last_age.map(seconds),
    }
};

const BY_GATE: &[(Family, &[ByGate])] = families! {
    "gate_claims" Counter Things "Claims that a gate has answered or sent on, by what came of them." {
        ["outcome" = "passed"] |g| Whole(g.passed),
        ["outcome" = "refused"] |g| Whole(g.refused),
        ["outcome" = "stale"] |g| Whole(g.stale),
        ["outcome" = "panicked"] |g| Whole(g.panicked),
        ["outcome" = "stopped"] |g| Whole(g.stopped),
        ["outcome" = "overloaded"] |g| Whole(g.overloaded),
    }
    "gate_batches" Counter Things "Batches that were verified, halves included." { [] |g| Whole(g.batches), }
    "gate_batches_halved" Counter Things "Batches that failed and were halved." { [] |g| Whole(g.halved), }
    "gate_claims_apart" Counter Things "Claims of suspects, verified apart." { [] |g| Whole(g.apart), }
    "gate_claims_struck" Counter Things "Claims that passed and that their objects refused." {
        [] |g| Whole(g.struck),
    }
    "gate_waiting" Gauge Things "Claims that are in a gate." { [] |g| Whole(g.waiting), }
};

const MESSAGES: Family = Family(
    "messages_by_type",
    Counter,
    Things,
    "Messages that ran to an end, whatever came of them, by their type.",
);
/// A turn that has lasted so long is stuck: its message is named.
const STUCK_AFTER: Duration = Duration::from_secs(1);
const STUCK: Family = Family(
    "stuck_message",
    Gauge,
    Things,
    "1 for the type of the message that a turn runs which has lasted a second or more.",
);
const SENT: Family =
    Family("lane_sent_to", Counter, Things, "Messages and answers sent, by the shard that they are for.");
const HOT_TOUCHES: Family =
    Family("hot_touches", Gauge, Things, "Messages in a second to the hottest objects, lately.");
const HOT_WAITS: Family = Family(
    "hot_waits",
    Gauge,
    Things,
    "Transactions in a second that waited for the most contended objects, lately.",
);

impl Family {
    fn metric<'a>(&self, labels: &'a [Label<'a>], value: MetricValue<'a>) -> Metric<'a> {
        let Family(name, kind, unit, help) = *self;
        Metric { name, kind, unit, help, labels, value }
    }
}

impl Stats {
    /// Gives every number to `to`, with its name, unit and meaning, and numbers of one name one
    /// after another. What this runtime does not have is left out, as the log's of one without a
    /// log.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use freehold::MetricValue;
    ///
    /// let runtime = start();
    /// let mut objects = 0;
    /// runtime.stats().visit(|metric| {
    ///     if let ("objects", MetricValue::Whole(count)) = (metric.name, metric.value) {
    ///         objects += count;
    ///     }
    /// });
    /// assert_eq!(objects, 0);
    /// ```
    pub fn visit(&self, mut to: impl FnMut(&Metric<'_>)) {
        let shards: Vec<String> = self.shards.iter().map(|shard| shard.shard.0.to_string()).collect();
        for (family, numbers) in OF_RUNTIME {
            for (label, read) in *numbers {
                if let Some(value) = read(self) {
                    to(&family.metric(label.as_slice(), value));
                }
            }
        }
        for (family, numbers) in BY_SHARD {
            for (shard, number) in self.shards.iter().zip(&shards) {
                for (label, read) in *numbers {
                    let of_shard = [("shard", number.as_str())];
                    let value = read(shard);
                    match label {
                        None => to(&family.metric(&of_shard, value)),
                        Some(label) => to(&family.metric(&[of_shard[0], *label], value)),
                    }
                }
            }
        }
        for (shard, number) in self.shards.iter().zip(&shards) {
            for (message, count) in &shard.messages {
                to(&MESSAGES.metric(&[("shard", number), ("message", message)], Whole(*count)));
            }
        }
        for (shard, number) in self.shards.iter().zip(&shards) {
            if let Some(message) = shard.running.filter(|_| shard.in_turn_for >= Some(STUCK_AFTER)) {
                to(&STUCK.metric(&[("shard", number), ("message", message)], Whole(1)));
            }
        }
        for (shard, number) in self.shards.iter().zip(&shards) {
            for (sent, other) in shard.sent_to.iter().zip(&shards).filter(|(_, other)| *other != number) {
                to(&SENT.metric(&[("shard", number), ("to", other)], Whole(*sent)));
            }
        }
        for (family, numbers) in BY_GATE {
            for (at, gate) in self.gates.iter().enumerate() {
                let number = at.to_string();
                for (label, read) in *numbers {
                    let labels = [Some(("gate", number.as_str())), *label];
                    let labels: Vec<_> = labels.into_iter().flatten().collect();
                    to(&family.metric(&labels, read(gate)));
                }
            }
        }
        for (family, objects) in [(HOT_TOUCHES, &self.hot.touched), (HOT_WAITS, &self.hot.waited)] {
            for HotObject { shard, id, per_second } in objects {
                let shard = shard.0.to_string();
                to(&family.metric(&[("shard", &shard), ("id", id)], Real(*per_second)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use freehold_shard::{Counters, Epoch, ShardIndex};

    use super::*;
    use crate::log::demands::Checkpoint;
    use crate::stats::{Activity, AnswerTimes, Gauges, Hot};

    /// One that has done nothing.
    fn shard(index: u16) -> ShardStats {
        ShardStats {
            shard: ShardIndex(index),
            cpu: None,
            counters: Counters::default(),
            activity: Activity::default(),
            gauges: Gauges::default(),
            ingress: 0,
            answers: AnswerTimes::default(),
            log_writes: Distribution::default(),
            in_log_write_for: None,
            messages: Vec::new(),
            sent_to: Vec::new(),
            in_turn_for: None,
            running: None,
            rings: 0,
            overloaded: 0,
            tasks: 0,
            tasks_panicked: 0,
            task_polled: None,
        }
    }

    /// Two shards, of which the second has a number of its own in every place.
    fn stats() -> Stats {
        let mut shards = vec![shard(0), shard(1)];
        let second = &mut shards[1];
        second.counters = Counters::from_values(std::array::from_fn(|at| 1_000 + at as u64));
        second.activity = Activity::from_values(std::array::from_fn(|at| 2_000 + at as u64));
        // Slow turns are told by cause, so of the whole what is left is shown.
        let Activity { slow_turns_timers, slow_turns_jobs, slow_turns_sweep, .. } = second.activity;
        second.activity.slow_turns += slow_turns_timers + slow_turns_jobs + slow_turns_sweep;
        second.gauges = Gauges::from_values(std::array::from_fn(|at| 3_000 + at as u64));
        (second.ingress, second.overloaded, second.rings) = (4_000, 4_001, 4_002);
        (second.tasks, second.tasks_panicked) = (4_003, 4_004);
        second.in_turn_for = Some(Duration::from_secs(4_005));
        second.running = Some("Pay");
        second.in_log_write_for = Some(Duration::from_secs(4_006));
        second.sent_to = vec![4_007, 0];
        second.messages = vec![("Pay", 4_012), ("Open", 4_013)];
        second.log_writes.sum = Duration::from_secs(4_008);
        second.answers.fast.sum = Duration::from_secs(4_009);
        second.answers.consensus.sum = Duration::from_secs(4_010);
        second.answers.batch.sum = Duration::from_secs(4_011);
        let hot = |per_second| vec![HotObject { shard: ShardIndex(1), id: "Account(7)".into(), per_second }];
        Stats {
            uptime: Duration::from_secs(5_000),
            shards,
            asks_in_flight: 5_001,
            epoch: Epoch(6_000),
            durable: Some(Epoch(5_999 - 5_002)),
            snapshots: 5_003,
            oldest_snapshot: Some(Duration::from_secs(5_004)),
            log: Some(LogStats {
                bytes: 5_005,
                bytes_max: 5_006,
                checkpoints: 5_007,
                failed: 5_008,
                held: 5_009,
                last: Some(Checkpoint { epoch: Epoch(1), bytes: 5_010, took: Duration::from_secs(5_011) }),
                last_age: Some(Duration::from_secs(5_012)),
            }),
            hot: Hot { touched: hot(5_013.0), waited: hot(5_014.0) },
            gates: vec![
                GateStats::default(),
                GateStats {
                    passed: 7_000,
                    refused: 7_001,
                    stale: 7_002,
                    panicked: 7_003,
                    stopped: 7_004,
                    overloaded: 7_005,
                    batches: 7_006,
                    halved: 7_007,
                    apart: 7_008,
                    struck: 7_009,
                    waiting: 7_010,
                },
            ],
            ..Stats::default()
        }
    }

    /// Every number, whatever it is, as a whole one.
    fn values(stats: &Stats) -> Vec<u64> {
        let mut values = Vec::new();
        stats.visit(|metric| {
            values.push(match metric.value {
                Whole(value) => value,
                Real(value) => value as u64,
                MetricValue::Distribution(it) => it.sum.as_secs(),
            });
        });
        values
    }

    #[test]
    fn every_number_is_visited_once() {
        let values = values(&stats());
        let once = |value| values.iter().filter(|found| **found == value).count() == 1;
        for value in (1_000..).take(Counters::COUNT) {
            assert!(once(value), "{}", Counters::NAMES[value as usize - 1_000]);
        }
        // Times of `Activity` are in nanoseconds, and too short to be seen as seconds.
        let activity: Vec<u64> = (2_000..).take(Activity::COUNT).filter(|value| !once(*value)).collect();
        let Activity { busy_ns, parked_ns, .. } = stats().shards[1].activity;
        assert_eq!(activity, [busy_ns, parked_ns]);
        assert!((3_000..).take(Gauges::COUNT).all(once));
        assert!((4_000..=4_013).all(once) && (5_000..=5_014).all(once), "{values:?}");
        assert!((7_000..=7_010).all(once), "{values:?}");
    }

    #[test]
    fn times_are_in_seconds() {
        let mut stats = stats();
        stats.shards.truncate(1);
        stats.shards[0].activity.busy_ns = 2_500_000_000;
        stats.shards[0].activity.parked_ns = 500_000_000;
        let mut found = Vec::new();
        stats.visit(|metric| {
            if let ("busy" | "parked", Real(seconds)) = (metric.name, metric.value) {
                assert_eq!((metric.unit, metric.labels), (Seconds, &[("shard", "0")][..]));
                found.push(seconds);
            }
        });
        assert_eq!(found, [2.5, 0.5]);
    }

    #[test]
    fn numbers_of_one_name_come_together_agree_and_differ_in_their_labels() {
        let mut families: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
        let mut last = "";
        stats().visit(|metric| {
            assert!(
                metric.name == last || !families.contains_key(metric.name),
                "{} comes again",
                metric.name
            );
            last = metric.name;
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            let labels: Vec<String> =
                metric.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let family = families.entry(metric.name).or_default();
            assert!(!family.contains(&labels), "{} {labels:?} comes twice", metric.name);
            family.push(labels);
        });
        assert_eq!(families["lane_sent_to"], [["shard=1", "to=0"]]);
        assert_eq!(families["gate_waiting"], [["gate=0"], ["gate=1"]]);
        assert_eq!(families["hot_waits"], [["shard=1", "id=Account(7)"]]);
    }

    #[test]
    fn the_message_of_a_turn_is_named_when_it_has_lasted_a_second() {
        let named = |lasted| {
            let (mut stats, mut named) = (stats(), Vec::new());
            stats.shards[1].in_turn_for = lasted;
            stats.visit(|metric| {
                if metric.name == "stuck_message" {
                    named
                        .push(metric.labels.iter().map(|(_, value)| (*value).to_owned()).collect::<Vec<_>>());
                }
            });
            named
        };
        assert_eq!(named(Some(Duration::from_secs(1))), [["1", "Pay"]]);
        assert!(named(Some(Duration::from_millis(999))).is_empty() && named(None).is_empty());
    }

    #[test]
    fn a_runtime_without_a_log_has_no_numbers_of_one() {
        let stats = Stats { log: None, durable: None, ..stats() };
        stats.visit(|metric| {
            let of_log = ["log", "log_max", "durable_lag", "checkpoints", "checkpoint_age"];
            assert!(!of_log.contains(&metric.name), "{}", metric.name);
        });
    }
}
