//! The numbers of a runtime for a registry of `prometheus-client`.

use std::fmt;

use freehold::{Actor, Distribution, Handle, Label, Metric, MetricKind, MetricUnit, MetricValue};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// The longest value of a label, in characters: an id is as long as its `Debug` makes it.
const LABEL_CHARACTERS_MAX: usize = 120;

/// Collects numbers each time that a registry is encoded: those of a runtime, or of something else
/// that has its numbers visited as a runtime does.
pub struct StatsCollector<F> {
    visit: F,
}

/// Gives all numbers of something to what it is given.
type To<'a> = &'a mut dyn FnMut(&Metric<'_>);

impl StatsCollector<()> {
    /// Of the runtime that `handle` leads to, for a registry of your own.
    ///
    /// ```
    /// # use freehold::{Actor, Handle};
    /// use freehold_metrics::StatsCollector;
    /// use prometheus_client::registry::Registry;
    ///
    /// fn registry<A: Actor>(handle: Handle<A>) -> Registry {
    ///     let mut registry = Registry::default();
    ///     let freehold = registry.sub_registry_with_prefix("freehold");
    ///     freehold.register_collector(Box::new(StatsCollector::of(handle)));
    ///     registry
    /// }
    /// ```
    pub fn of<A: Actor>(handle: Handle<A>) -> StatsCollector<impl Fn(To<'_>) + Send + Sync + 'static> {
        StatsCollector { visit: move |to: To<'_>| handle.stats().visit(to) }
    }
}

impl<F: Fn(To<'_>) + Send + Sync + 'static> StatsCollector<F> {
    /// Of what `visit` goes through: numbers of one name one after another. The node of a
    /// replicated database has such a function.
    pub fn visiting(visit: F) -> Self {
        StatsCollector { visit }
    }
}

impl<F> fmt::Debug for StatsCollector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsCollector").finish_non_exhaustive()
    }
}

impl<F: Fn(To<'_>) + Send + Sync + 'static> Collector for StatsCollector<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Family::all(&self.visit).iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// The numbers of one name.
struct Family {
    name: &'static str,
    kind: MetricKind,
    unit: MetricUnit,
    help: &'static str,
    numbers: Vec<(Vec<(&'static str, String)>, Number)>,
}

enum Number {
    Whole(u64),
    Real(f64),
    Distribution(Distribution),
}

impl Family {
    fn all(visit: &dyn Fn(To<'_>)) -> Vec<Family> {
        let mut families: Vec<Family> = Vec::new();
        visit(&mut |&Metric { name, kind, unit, help, labels, value, .. }| {
            if families.last().is_none_or(|last| last.name != name) {
                families.push(Family { name, kind, unit, help, numbers: Vec::new() });
            }
            let number = match value {
                MetricValue::Whole(number) => Number::Whole(number),
                MetricValue::Real(number) => Number::Real(number),
                MetricValue::Distribution(times) => Number::Distribution(*times),
            };
            let labels = labels.iter().map(escaped).collect();
            families.last_mut().expect("one was pushed").numbers.push((labels, number));
        });
        families
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let unit = match self.unit {
            MetricUnit::Things => None,
            MetricUnit::Seconds => Some(Unit::Seconds),
            MetricUnit::Bytes => Some(Unit::Bytes),
        };
        let kind = match self.kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Histogram => MetricType::Histogram,
        };
        let mut encoder = encoder.encode_descriptor(self.name, self.help, unit.as_ref(), kind)?;
        for (labels, number) in &self.numbers {
            match labels.is_empty() {
                true => number.encode(self.kind, &mut encoder)?,
                false => number.encode(self.kind, &mut encoder.encode_family(labels)?)?,
            }
        }
        Ok(())
    }
}

impl Number {
    fn encode(&self, kind: MetricKind, to: &mut MetricEncoder<'_>) -> fmt::Result {
        match (kind, self) {
            (MetricKind::Counter, Number::Whole(number)) => {
                to.encode_counter::<NoLabelSet, _, f64>(number, None)
            }
            (MetricKind::Counter, Number::Real(number)) => {
                to.encode_counter::<NoLabelSet, _, f64>(number, None)
            }
            (_, Number::Whole(number)) => to.encode_gauge(number),
            (_, Number::Real(number)) => to.encode_gauge(number),
            (_, Number::Distribution(times)) => {
                // In place of a last bound, the library wants the largest number.
                let bounds = Distribution::BOUNDS.iter().map(|bound| bound.as_secs_f64()).chain([f64::MAX]);
                let buckets: Vec<(f64, u64)> = bounds.zip(times.counts).collect();
                to.encode_histogram::<NoLabelSet>(times.sum.as_secs_f64(), times.count(), &buckets, None)
            }
        }
    }
}

/// A label whose value may stand between quotes: `prometheus-client` 0.24 writes it as it is.
fn escaped(&(name, value): &Label<'_>) -> (&'static str, String) {
    let mut text = String::new();
    escape(value, &mut text);
    (name, text)
}

/// Writes a label's value as it may stand between quotes.
pub(crate) fn escape(value: &str, text: &mut String) {
    let is_plain = |byte| byte != b'\\' && byte != b'"' && byte != b'\n';
    if value.len() <= LABEL_CHARACTERS_MAX && value.bytes().all(is_plain) {
        return text.push_str(value);
    }
    for (at, character) in value.chars().enumerate() {
        if at == LABEL_CHARACTERS_MAX {
            text.push('…');
            break;
        }
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_may_have_any_text_and_is_not_too_long() {
        let plain = |value| escaped(&("id", value)).1;
        assert_eq!(plain("Account(7)"), "Account(7)");
        assert_eq!(plain("Key(\"a\\b\n\")"), "Key(\\\"a\\\\b\\n\\\")");
        assert_eq!(plain(&"é".repeat(500)).chars().count(), LABEL_CHARACTERS_MAX + 1);
    }
}
