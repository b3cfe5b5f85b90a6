//! What two pages say of a process: rates between them, and how it is as of the later one.
//!
//! The words are those of `docs/METRICS.md`. A counter that has become less is one of another
//! process, so its rate is that since its start.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::page::Page;
use super::slow::SlowPicture;

/// By which column the shards are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Shard,
    Messages,
    Busy,
    Ingress,
    P99,
}

impl Sort {
    pub(super) fn next(self) -> Sort {
        match self {
            Sort::Shard => Sort::Messages,
            Sort::Messages => Sort::Busy,
            Sort::Busy => Sort::Ingress,
            Sort::Ingress => Sort::P99,
            Sort::P99 => Sort::Shard,
        }
    }
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct ShardPicture {
    pub(super) shard: u32,
    pub(super) messages_per_second: f64,
    /// Which part of the time it is in turns, 0 to 1.
    pub(super) busy: f64,
    pub(super) ingress: f64,
    pub(super) transactions_under_way: f64,
    pub(super) lock_queue: f64,
    pub(super) lock_waits_per_second: f64,
    pub(super) outbox_waiting: f64,
    pub(super) overloaded_per_second: f64,
    /// Half of the sampled answers took at most this long; `None` if none was sampled between the
    /// pages.
    pub(super) p50_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
    /// How long the turn has lasted that it is in.
    pub(super) in_turn_seconds: f64,
    /// The type of the message that it runs, if that has lasted long.
    pub(super) stuck_message: Option<String>,
    pub(super) in_log_write_seconds: f64,
    pub(super) log_write_p99_seconds: Option<f64>,
    pub(super) log_backlog_bytes: f64,
    pub(super) objects: f64,
    pub(super) versions: f64,
    /// Messages and answers in a second to each shard, by its number.
    pub(super) sent_to_per_second: BTreeMap<u32, f64>,
}

/// One of the hottest objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct HotPicture {
    pub(super) shard: String,
    pub(super) id: String,
    pub(super) per_second: f64,
}

/// The log and its checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LogPicture {
    pub(super) bytes: f64,
    pub(super) bytes_max: f64,
    pub(super) written_bytes_per_second: f64,
    pub(super) durable_lag_epochs: f64,
    pub(super) checkpoints: f64,
    pub(super) checkpoints_failed: f64,
    pub(super) checkpoint_age_seconds: Option<f64>,
    pub(super) checkpoint_took_seconds: Option<f64>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Picture {
    pub(super) phase: String,
    pub(super) uptime_seconds: f64,
    pub(super) messages_per_second: f64,
    pub(super) asks_in_flight: f64,
    pub(super) shards: Vec<ShardPicture>,
    pub(super) touched: Vec<HotPicture>,
    pub(super) waited: Vec<HotPicture>,
    /// Slow messages since the process started, and the last of them.
    pub(super) slow_messages: f64,
    pub(super) slow: Vec<SlowPicture>,
    pub(super) log: Option<LogPicture>,
    pub(super) epoch: f64,
    /// For how long `top` has seen this epoch.
    pub(super) epoch_age_seconds: f64,
    #[serde(skip)]
    pub(super) epoch_since: Instant,
    pub(super) snapshots_open: f64,
    pub(super) oldest_snapshot_seconds: f64,
}

/// Two pages, of which the first may be missing.
struct Between<'a> {
    before: Option<&'a Page>,
    now: &'a Page,
    seconds: f64,
}

impl Between<'_> {
    /// How much a counter has grown.
    fn growth(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let now = self.now.sum(name, labels);
        let before = self.before.map_or(now, |page| page.sum(name, labels));
        if now < before { now } else { now - before }
    }

    fn rate(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.growth(name, labels) / self.seconds
    }

    /// What this part of the things of a histogram took at most, as Prometheus estimates it: evenly
    /// spread within a bucket.
    fn quantile(&self, name: &str, shard: &str, part: f64) -> Option<f64> {
        let buckets = format!("{name}_bucket");
        let bounds: std::collections::BTreeSet<&str> = self
            .now
            .all(&buckets)
            .iter()
            .filter_map(|(labels, _)| Some(labels.get("le")?.as_str()))
            .collect();
        let mut counts: Vec<(f64, f64)> = bounds
            .into_iter()
            .filter_map(|le| Some((le.parse().ok()?, self.growth(&buckets, &[("shard", shard), ("le", le)]))))
            .collect();
        counts.sort_by(|(bound, _), (other, _)| bound.total_cmp(other));
        let wanted = counts.last().filter(|(_, all)| *all > 0.0)?.1 * part;
        let at = counts.iter().position(|(_, count)| *count >= wanted)?;
        let (lower, below) = if at == 0 { (0.0, 0.0) } else { counts[at - 1] };
        let (upper, count) = counts[at];
        if upper.is_infinite() {
            return Some(lower);
        }
        Some(lower + (upper - lower) * (wanted - below) / (count - below).max(f64::MIN_POSITIVE))
    }

    fn shard(&self, shard: &str) -> ShardPicture {
        let of = [("shard", shard)];
        let now = |name| self.now.sum(name, &of);
        let sent = self.now.all("lane_sent_to_total").iter();
        let receivers = sent.filter(|(labels, _)| labels.get("shard").is_some_and(|from| from == shard));
        let to = receivers.filter_map(|(labels, _)| labels.get("to"));
        ShardPicture {
            shard: shard.parse().unwrap_or_default(),
            messages_per_second: self.rate("messages_total", &of),
            busy: self.rate("busy_seconds_total", &of).min(1.0),
            ingress: now("ingress"),
            transactions_under_way: now("transactions_under_way"),
            lock_queue: now("lock_queue"),
            lock_waits_per_second: self.rate("lock_waits_total", &of),
            outbox_waiting: now("outbox_waiting"),
            overloaded_per_second: self.rate("overloaded_total", &of),
            p50_seconds: self.quantile("answer_seconds", shard, 0.5),
            p99_seconds: self.quantile("answer_seconds", shard, 0.99),
            in_turn_seconds: now("in_turn_seconds"),
            stuck_message: {
                let mut stuck = self.now.all("stuck_message").iter().map(|(labels, _)| labels);
                let here = stuck.find(|labels| labels.get("shard").is_some_and(|at| at == shard));
                here.and_then(|labels| labels.get("message")).cloned()
            },
            in_log_write_seconds: now("in_log_write_seconds"),
            log_write_p99_seconds: self.quantile("log_write_seconds", shard, 0.99),
            log_backlog_bytes: now("log_backlog_bytes"),
            objects: now("objects"),
            versions: now("versions"),
            sent_to_per_second: to
                .map(|to| {
                    let rate = self.rate("lane_sent_to_total", &[("shard", shard), ("to", to)]);
                    (to.parse().unwrap_or_default(), rate)
                })
                .collect(),
        }
    }

    fn log(&self) -> Option<LogPicture> {
        Some(LogPicture {
            bytes: self.now.maybe("log_bytes")?,
            bytes_max: self.now.sum("log_max_bytes", &[]),
            written_bytes_per_second: self.rate("log_written_bytes_total", &[]),
            durable_lag_epochs: self.now.sum("durable_lag", &[]),
            checkpoints: self.now.sum("checkpoints_total", &[("outcome", "made")]),
            checkpoints_failed: self.now.sum("checkpoints_total", &[("outcome", "failed")]),
            checkpoint_age_seconds: self.now.maybe("checkpoint_age_seconds"),
            checkpoint_took_seconds: self.now.maybe("checkpoint_took_seconds"),
        })
    }
}

fn hottest(page: &Page, name: &str) -> Vec<HotPicture> {
    let label = |labels: &super::page::Labels, name| labels.get(name).cloned().unwrap_or_default();
    let mut hottest: Vec<_> = page
        .all(name)
        .iter()
        .map(|(labels, rate)| HotPicture {
            shard: label(labels, "shard"),
            id: label(labels, "id"),
            per_second: *rate,
        })
        .collect();
    hottest.sort_by(|a, b| b.per_second.total_cmp(&a.per_second).then_with(|| a.id.cmp(&b.id)));
    hottest
}

impl Picture {
    /// Of a page and the one before it, and of the epoch that was seen before, with since when.
    pub(super) fn of(before: Option<&Page>, now: &Page, seen: Option<(f64, Instant)>) -> Picture {
        let since =
            before.map_or(0.0, |before| now.read.saturating_duration_since(before.read).as_secs_f64());
        let between = Between { before, now, seconds: since.max(1e-3) };
        let mut numbers: Vec<&str> = now
            .all("turns_total")
            .iter()
            .filter_map(|(labels, _)| Some(labels.get("shard")?.as_str()))
            .collect();
        numbers.sort_by_key(|number| number.parse::<u32>().unwrap_or_default());
        let epoch = now.sum("epoch", &[]);
        let epoch_since = seen.filter(|(seen, _)| *seen == epoch).map_or(now.read, |(_, since)| since);
        let phases = now.all("phase").iter();
        let phase = phases.filter(|(_, is_in)| *is_in == 1.0).find_map(|(labels, _)| labels.get("phase"));
        Picture {
            phase: phase.cloned().unwrap_or_else(|| "unknown".into()),
            uptime_seconds: now.sum("uptime_seconds", &[]),
            messages_per_second: between.rate("messages_total", &[]),
            asks_in_flight: now.sum("asks_in_flight", &[]),
            shards: numbers.into_iter().map(|shard| between.shard(shard)).collect(),
            touched: hottest(now, "hot_touches"),
            waited: hottest(now, "hot_waits"),
            slow_messages: now.sum("slow_messages_total", &[]),
            slow: now.slow.clone(),
            log: between.log(),
            epoch,
            epoch_age_seconds: now.read.saturating_duration_since(epoch_since).as_secs_f64(),
            epoch_since,
            snapshots_open: now.sum("snapshots_open", &[]),
            oldest_snapshot_seconds: now.sum("oldest_snapshot_seconds", &[]),
        }
    }

    /// The shards in this order; the largest first, but for their numbers.
    pub(super) fn sorted(&self, sort: Sort) -> Vec<&ShardPicture> {
        let mut shards: Vec<&ShardPicture> = self.shards.iter().collect();
        let key = |shard: &ShardPicture| match sort {
            Sort::Shard => -f64::from(shard.shard),
            Sort::Messages => shard.messages_per_second,
            Sort::Busy => shard.busy,
            Sort::Ingress => shard.ingress,
            Sort::P99 => shard.p99_seconds.unwrap_or_default(),
        };
        shards.sort_by(|a, b| key(b).total_cmp(&key(a)));
        shards
    }
}
