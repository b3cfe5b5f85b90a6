//! What a node says of itself as numbers, with the names that Prometheus has for them.
//! `docs/METRICS.md` says of each what to do when it is high.

use std::time::Duration;

use freehold::{Label, Metric, MetricKind, MetricUnit, MetricValue};

use crate::status::{NodeStatus, Role};

use MetricKind::{Counter, Gauge, Histogram};
use MetricUnit::{Bytes, Seconds, Things};
use MetricValue::{Real, Whole};

/// The roles, and what each is called.
const ROLES: [(Role, &str); 6] = [
    (Role::Joining, "joining"),
    (Role::Standby, "standby"),
    (Role::Owner, "owner"),
    (Role::Fenced, "fenced"),
    (Role::Failed, "failed"),
    (Role::Stopped, "stopped"),
];

/// A name, what it does, its unit and what it says; then its numbers, each with a label if it has
/// one. One that the node does not have is left out.
type Row = (
    &'static str,
    MetricKind,
    MetricUnit,
    &'static str,
    &'static [(Option<Label<'static>>, fn(&NodeStatus) -> Option<MetricValue<'_>>)],
);

fn seconds<'a>(span: Duration) -> Option<MetricValue<'a>> {
    Some(Real(span.as_secs_f64()))
}

const fn outcome(name: &'static str) -> Option<Label<'static>> {
    Some(("outcome", name))
}

/// All but the role.
const ROWS: &[Row] = &[
    (
        "replica_term",
        Gauge,
        Things,
        "how often the database was taken over",
        &[(None, |it| Some(Whole(it.term)))],
    ),
    (
        "replica_epoch",
        Gauge,
        Things,
        "the last epoch that the node knows to be in the stream",
        &[(None, |it| Some(Whole(it.epoch.0)))],
    ),
    (
        "replica_lag_epochs",
        Gauge,
        Things,
        "how many epochs a standby is behind the owner's last beat",
        &[(None, |it| Some(Whole(it.lag.epochs)))],
    ),
    (
        "replica_lag_entries",
        Gauge,
        Things,
        "entries of the stream that a standby has not taken over",
        &[(None, |it| Some(Whole(it.lag.entries)))],
    ),
    (
        "replica_lag",
        Gauge,
        Bytes,
        "about how many bytes those have",
        &[(None, |it| Some(Whole(it.lag.bytes)))],
    ),
    (
        "replica_lag_for",
        Gauge,
        Seconds,
        "how long ago a standby had all that there was",
        &[(None, |it| seconds(it.lag.since))],
    ),
    (
        "replica_append",
        Histogram,
        Seconds,
        "how long appends took until they were acknowledged",
        &[(None, |it| Some(MetricValue::Distribution(&it.latency.times)))],
    ),
    (
        "replica_looks",
        Counter,
        Things,
        "how often an append was not acknowledged, and the stream was looked at",
        &[(None, |it| Some(Whole(it.latency.looks)))],
    ),
    (
        "replica_under_way",
        Gauge,
        Bytes,
        "entries on their way to the stream",
        &[(None, |it| Some(Whole(it.bytes_under_way as u64)))],
    ),
    (
        "replica_waiting",
        Gauge,
        Bytes,
        "batches that wait for that",
        &[(None, |it| Some(Whole(it.bytes_waiting as u64)))],
    ),
    (
        "replica_stream",
        Gauge,
        Bytes,
        "what the stream takes on each of its servers",
        &[(None, |it| Some(Whole(it.stream_bytes)))],
    ),
    (
        "replica_checkpoints",
        Counter,
        Things,
        "checkpoints of the stream that this node made, or gave up",
        &[
            (outcome("made"), |it| Some(Whole(it.checkpoints.0))),
            (outcome("failed"), |it| Some(Whole(it.checkpoints.1))),
        ],
    ),
    (
        "replica_checkpoint",
        Gauge,
        Bytes,
        "size of the last one that the stream names",
        &[(None, |it| it.checkpoint.as_ref().map(|named| Whole(named.bytes)))],
    ),
    (
        "replica_checkpoint_age",
        Gauge,
        Seconds,
        "how long ago it was named",
        &[(None, |it| it.checkpoint.as_ref().and_then(|named| seconds(named.age())))],
    ),
    (
        "replica_repaired",
        Counter,
        Things,
        "how often this node found the stream damaged, and repaired it by a checkpoint",
        &[(None, |it| Some(Whole(it.repaired)))],
    ),
    (
        "replica_restored",
        Counter,
        Things,
        "checkpoints that this node took, because it was behind what was trimmed",
        &[(None, |it| Some(Whole(it.restored)))],
    ),
    (
        "replica_set_aside",
        Gauge,
        Things,
        "logs of this node that were set aside since it was opened",
        &[(None, |it| Some(Whole(it.set_aside.len() as u64)))],
    ),
    (
        "replica_takeovers",
        Counter,
        Things,
        "how often this node took over",
        &[(None, |it| Some(Whole(it.takeovers)))],
    ),
    (
        "replica_takeover_took",
        Gauge,
        Seconds,
        "how long the last of these took",
        &[(None, |it| it.takeover_took.and_then(seconds))],
    ),
];

impl NodeStatus {
    /// Gives every number to `to`, with its name, unit and meaning, and numbers of one name one
    /// after another; as [`Stats::visit`](freehold::Stats::visit) does with those of a runtime. A
    /// number that the node does not have is left out.
    ///
    /// ```
    /// use freehold_replica::NodeStatus;
    ///
    /// let mut names = Vec::new();
    /// NodeStatus::default().visit(|metric| names.push(metric.name));
    /// assert!(names.contains(&"replica_term"));
    /// ```
    pub fn visit(&self, mut to: impl FnMut(&Metric<'_>)) {
        let help = "1 for what the node is to its database";
        for (role, name) in ROLES {
            let labels = [("role", name)];
            let value = Whole(u64::from(self.role == role));
            to(&Metric::new("replica_role", Gauge, Things, help, &labels, value));
        }
        for (name, kind, unit, help, numbers) in ROWS {
            for (label, read) in *numbers {
                if let Some(value) = read(self) {
                    to(&Metric::new(name, *kind, *unit, help, label.as_slice(), value));
                }
            }
        }
    }
}
