//! The numbers as OpenMetrics text, written as they are visited.
//!
//! It is the text that `prometheus-client` makes of a [`StatsCollector`](crate::StatsCollector),
//! byte for byte, and a test compares the two. The library keeps no more than the registries of
//! programs: it writes the labels of a histogram anew for each of its buckets, and it needs every
//! number twice, once in a list of families. A page of 16 shards, which is scraped every second,
//! cost several times as much that way.

use std::sync::LazyLock;

use freehold::{Distribution, Metric, MetricKind, MetricUnit, MetricValue, Stats};

use crate::collector::escape;

/// What a page begins with room for.
const PAGE_BYTES: usize = 64 << 10;
/// Before each name.
const PREFIX: &str = "freehold_";

/// `le="..."` of each bucket.
static BOUNDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let seconds = Distribution::BOUNDS.iter().map(|bound| format_real(bound.as_secs_f64()));
    seconds.chain(["+Inf".to_owned()]).map(|bound| format!("le=\"{bound}\"")).collect()
});

fn format_real(number: f64) -> String {
    dtoa::Buffer::new().format(number).to_owned()
}

/// The statistics as OpenMetrics text, with the prefix `freehold_` before each name.
///
/// ```
/// let text = freehold_metrics::text(&freehold::Stats::default());
/// assert!(text.contains("freehold_phase{phase=\"running\"} 1"));
/// assert!(text.ends_with("# EOF\n"));
/// ```
pub fn text(stats: &Stats) -> String {
    let mut page = MetricsText::new();
    stats.visit(|metric| page.add(metric));
    page.end()
}

/// A page that is being written.
pub(crate) struct MetricsText {
    text: String,
    /// The name of the last number, as it was visited.
    family: &'static str,
    /// The same with its prefix and unit.
    name: String,
    /// The labels of the last number, without braces.
    labels: String,
}

impl MetricsText {
    pub(crate) fn new() -> Self {
        let text = String::with_capacity(PAGE_BYTES);
        MetricsText { text, family: "", name: String::new(), labels: String::new() }
    }

    /// Writes a number. Numbers of one name come one after another.
    pub(crate) fn add(&mut self, metric: &Metric<'_>) {
        if self.family != metric.name {
            self.begin(metric);
        }
        self.labels.clear();
        for (at, (name, value)) in metric.labels.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            push(&mut self.labels, [comma, name, "=\""]);
            escape(value, &mut self.labels);
            self.labels.push('"');
        }
        let suffix = if metric.kind == MetricKind::Counter { "_total" } else { "" };
        match metric.value {
            MetricValue::Whole(number) => self.line(suffix, "", itoa::Buffer::new().format(number)),
            MetricValue::Real(number) => self.line(suffix, "", dtoa::Buffer::new().format(number)),
            MetricValue::Distribution(times) => self.histogram(times),
        }
    }

    /// The head of a name.
    fn begin(&mut self, &Metric { name, kind, unit, help, .. }: &Metric<'_>) {
        let unit = match unit {
            MetricUnit::Things => None,
            MetricUnit::Seconds => Some("seconds"),
            MetricUnit::Bytes => Some("bytes"),
        };
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        self.family = name;
        self.name.clear();
        push(&mut self.name, [PREFIX, name]);
        if let Some(unit) = unit {
            push(&mut self.name, ["_", unit]);
        }
        let name = &self.name;
        push(&mut self.text, ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"]);
        if let Some(unit) = unit {
            push(&mut self.text, ["# UNIT ", name, " ", unit, "\n"]);
        }
    }

    fn histogram(&mut self, times: &Distribution) {
        self.line("_sum", "", dtoa::Buffer::new().format(times.sum.as_secs_f64()));
        self.line("_count", "", itoa::Buffer::new().format(times.count()));
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(times.counts) {
            below += count;
            self.line("_bucket", bound, itoa::Buffer::new().format(below));
        }
    }

    /// A line, with a label before the others.
    fn line(&mut self, suffix: &str, first: &str, number: &str) {
        let MetricsText { text, name, labels, .. } = self;
        push(text, [name, suffix]);
        if !first.is_empty() || !labels.is_empty() {
            let comma = if first.is_empty() || labels.is_empty() { "" } else { "," };
            push(text, ["{", first, comma, labels, "}"]);
        }
        push(text, [" ", number, "\n"]);
    }

    /// The whole page.
    pub(crate) fn end(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }
}

fn push<const N: usize>(to: &mut String, pieces: [&str; N]) {
    pieces.into_iter().for_each(|piece| to.push_str(piece));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freehold::Label;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::StatsCollector;

    /// Numbers of every kind, unit and number of labels.
    fn visit(to: &mut dyn FnMut(&Metric<'_>)) {
        use MetricKind::{Counter, Gauge, Histogram};
        use MetricUnit::{Bytes, Seconds, Things};
        let mut times = Distribution::default();
        for micros in [0, 3, 3, 40, 20_000_000] {
            times.note(Duration::from_micros(micros));
        }
        let labels: [&[Label<'_>]; 4] = [
            &[],
            &[("shard", "0")],
            &[("shard", "1"), ("id", "Key(\"a\\b\n\")")],
            &[("shard", ""), ("id", "é"), ("to", "2")],
        ];
        for labels in labels {
            to(&Metric::new("turns", Counter, Things, "Turns.", labels, MetricValue::Whole(u64::MAX / 2)));
        }
        for (labels, seconds) in labels.into_iter().zip([0.0, 1e-9, 12.5, 1e21]) {
            to(&Metric::new("busy", Counter, Seconds, "Busy.", labels, MetricValue::Real(seconds)));
        }
        for labels in labels {
            to(&Metric::new("log", Gauge, Bytes, "Log.", labels, MetricValue::Whole(7)));
        }
        for labels in labels {
            to(&Metric::new(
                "answer",
                Histogram,
                Seconds,
                "Took.",
                labels,
                MetricValue::Distribution(&times),
            ));
        }
        to(&Metric::new("hot", Gauge, Things, "Hot.", labels[1], MetricValue::Real(0.25)));
    }

    #[test]
    fn it_is_what_the_library_writes() {
        let mut registry = Registry::default();
        let freehold = registry.sub_registry_with_prefix("freehold");
        freehold.register_collector(Box::new(StatsCollector::visiting(visit)));
        let mut of_the_library = String::new();
        encode(&mut of_the_library, &registry).expect("a string takes any text");
        let mut page = MetricsText::new();
        visit(&mut |metric| page.add(metric));
        assert_eq!(page.end(), of_the_library);
    }
}
