//! The numbers of a runtime for the facade `metrics`: for programs whose own numbers go that way.

use freehold::{Distribution, Metric, MetricKind, MetricUnit, MetricValue, Stats};
use metrics::{Key, Label, Level, Metadata, Recorder, SharedString, with_recorder};

/// Gives all numbers of a runtime to the recorder that the program has installed, by the names of
/// `docs/METRICS.md`. Call it every few seconds; between two calls the recorder has the numbers of
/// the last one. Without a recorder nothing happens.
///
/// The facade counts in whole numbers, and takes samples for histograms. So a counter of seconds is
/// a gauge there. A histogram is the counters `.._bucket`, with the label `le`, and `.._count`, and
/// the gauge `.._sum`.
///
/// ```
/// # fn every_few_seconds<A: freehold::Actor>(handle: &freehold::Handle<A>) {
/// freehold_metrics::record(&handle.stats());
/// # }
/// ```
pub fn record(stats: &Stats) {
    record_visited(|to| stats.visit(to));
}

/// As [`record`], for what else has its numbers visited, as the node of a replicated database.
pub fn record_visited(visit: impl Fn(&mut dyn FnMut(&Metric<'_>))) {
    with_recorder(|recorder| visit(&mut |metric| give(metric, recorder)));
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn give(metric: &Metric<'_>, recorder: &dyn Recorder) {
    let unit = match metric.unit {
        MetricUnit::Things => "",
        MetricUnit::Seconds => "_seconds",
        MetricUnit::Bytes => "_bytes",
    };
    let name = |end: &str| format!("freehold_{}{unit}{end}", metric.name);
    let label = |&(name, value): &(&'static str, &str)| Label::new(name, value.to_owned());
    let labels = || metric.labels.iter().map(label).collect::<Vec<_>>();
    let key = |end: &str, labels| Key::from_parts(SharedString::from(name(end)), labels);
    let count = |key: Key, count| recorder.register_counter(&key, &METADATA).absolute(count);
    let set = |key: Key, value| recorder.register_gauge(&key, &METADATA).set(value);
    match (metric.kind, metric.value) {
        (MetricKind::Counter, MetricValue::Whole(number)) => count(key("_total", labels()), number),
        (MetricKind::Counter, MetricValue::Real(number)) => set(key("_total", labels()), number),
        (_, MetricValue::Whole(number)) => set(key("", labels()), number as f64),
        (_, MetricValue::Real(number)) => set(key("", labels()), number),
        (_, MetricValue::Distribution(times)) => {
            let bounds = Distribution::BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string());
            let mut below = 0;
            for (bound, here) in bounds.chain(["+Inf".to_owned()]).zip(times.counts) {
                below += here;
                let mut labels = labels();
                labels.push(Label::new("le", bound));
                count(key("_bucket", labels), below);
            }
            count(key("_count", labels()), times.count());
            set(key("_sum", labels()), times.sum.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use freehold::MetricKind::{Counter, Gauge, Histogram};
    use freehold::MetricUnit::{Bytes, Seconds, Things};
    use metrics::{CounterFn, GaugeFn, HistogramFn, KeyName, Unit};

    use super::*;

    /// What a recorder was given: each number by its name and labels.
    #[derive(Clone, Default)]
    struct Given(Arc<Mutex<BTreeMap<String, f64>>>);

    /// One number of it.
    struct One(Given, String);

    impl One {
        fn of(given: &Given, key: &Key) -> Arc<One> {
            let labels: Vec<_> =
                key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(One(given.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
        }

        fn put(&self, value: f64) {
            let mut given = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(given.insert(self.1.clone(), value).is_none(), "{} came twice", self.1);
        }
    }

    impl CounterFn for One {
        fn increment(&self, _: u64) {
            panic!("the runtime has counted already");
        }

        fn absolute(&self, value: u64) {
            self.put(value as f64);
        }
    }

    impl GaugeFn for One {
        fn increment(&self, _: f64) {
            panic!("a gauge is set");
        }

        fn decrement(&self, _: f64) {
            panic!("a gauge is set");
        }

        fn set(&self, value: f64) {
            self.put(value);
        }
    }

    impl HistogramFn for One {
        fn record(&self, _: f64) {
            panic!("there are no samples");
        }
    }

    impl Recorder for Given {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
            metrics::Counter::from_arc(One::of(self, key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
            metrics::Gauge::from_arc(One::of(self, key))
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
            metrics::Histogram::from_arc(One::of(self, key))
        }
    }

    fn given(record: impl Fn()) -> BTreeMap<String, f64> {
        let recorder = Given::default();
        metrics::with_local_recorder(&recorder, record);
        let given = recorder.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.clone()
    }

    #[test]
    fn each_number_has_the_name_that_the_documents_give_it() {
        let mut times = Distribution::default();
        [1, 1, 3].iter().for_each(|seconds| times.note(Duration::from_secs(*seconds)));
        let labels = [("shard", "7")];
        let visit = |to: &mut dyn FnMut(&Metric<'_>)| {
            to(&Metric::new("turns", Counter, Things, "", &labels, MetricValue::Whole(5)));
            to(&Metric::new("busy", Counter, Seconds, "", &labels, MetricValue::Real(0.5)));
            to(&Metric::new("log", Gauge, Bytes, "", &[], MetricValue::Whole(9)));
            to(&Metric::new("answer", Histogram, Seconds, "", &labels, MetricValue::Distribution(&times)));
        };
        let given = given(|| record_visited(visit));
        let is = |name: &str, value: f64| assert_eq!(given.get(name), Some(&value), "{name}: {given:?}");
        is("freehold_turns_total{shard=7}", 5.0);
        is("freehold_busy_seconds_total{shard=7}", 0.5);
        is("freehold_log_bytes{}", 9.0);
        is("freehold_answer_seconds_bucket{shard=7,le=0.5}", 0.0);
        is("freehold_answer_seconds_bucket{shard=7,le=1}", 2.0);
        is("freehold_answer_seconds_bucket{shard=7,le=5}", 3.0);
        is("freehold_answer_seconds_bucket{shard=7,le=+Inf}", 3.0);
        is("freehold_answer_seconds_count{shard=7}", 3.0);
        is("freehold_answer_seconds_sum{shard=7}", 5.0);
    }

    #[test]
    fn all_numbers_of_a_runtime_are_given_once() {
        let stats = Stats::default();
        let mut numbers = 0;
        stats.visit(|_| numbers += 1);
        assert_eq!(given(|| record(&stats)).len(), numbers);
    }
}
