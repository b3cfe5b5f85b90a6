//! Distributions of latency: several repetitions as one, and the text that HdrHistogram's plotters
//! read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use freehold_workloads::{Latency, Measured};

use super::measures;
use super::names::{self, Names};
use super::quantity::percent;

/// What a cell's histogram is headed with: all that sets the cell apart, and whether the machine
/// was busy.
pub fn heading(measured: &Measured) -> String {
    let cell = &measured.cell;
    let mut text = format!(
        "{}, {}, {}, cross {}, {}, {}",
        cell.engine,
        Names::full(&cell.spec),
        names::shards(cell),
        names::spanned(measured),
        names::durability(cell.durability),
        cell.load
    );
    if measured.is_disturbed() {
        let disturbance = measures::disturbance(measured);
        let (others, stolen) = (percent(disturbance.others), percent(disturbance.stolen));
        write!(text, "\nbusy machine: others up to {others}, stolen {stolen}").expect("a string takes all");
    }
    text.replace('\u{a0}', " ")
}

/// Of all samples of several measurements.
pub fn merged<'a>(latencies: impl IntoIterator<Item = &'a Latency>) -> Latency {
    let (mut counts, mut sum) = (BTreeMap::new(), 0.0);
    for latency in latencies {
        sum += latency.mean * latency.samples as f64;
        latency.buckets.iter().for_each(|(highest, count)| *counts.entry(*highest).or_insert(0) += count);
    }
    let buckets: Vec<(u64, u64)> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    let samples = buckets.iter().map(|(_, count)| count).sum();
    let mut merged = Latency { samples, buckets, ..Latency::default() };
    if samples > 0 {
        merged.mean = sum / samples as f64;
        [merged.p50, merged.p90, merged.p99, merged.p999, merged.max] =
            [0.5, 0.9, 0.99, 0.999, 1.0].map(|quantile| at(&merged, quantile));
    }
    merged
}

/// The latency that so much of all samples, from 0 to 1, does not exceed.
fn at(latency: &Latency, quantile: f64) -> u64 {
    let wanted = (quantile * latency.samples as f64).ceil().max(1.0) as u64;
    let mut seen = 0;
    let bucket = latency.buckets.iter().find(|(_, count)| {
        seen += count;
        seen >= wanted
    });
    bucket.or(latency.buckets.last()).map_or(0, |(highest, _)| *highest)
}

/// The distribution as HdrHistogram prints it (`.hgrm`), which
/// <https://hdrhistogram.github.io/HdrHistogram/plotFiles.html> and others plot: value, percentile,
/// count up to it, 1/(1-percentile). One line a bucket; values are microseconds. Each line of
/// `heading` becomes a comment before the table: plotters skip lines that begin with `#`.
pub fn percentiles(heading: &str, latency: &Latency) -> String {
    const NS_PER_US: f64 = 1e3;
    let mut text = String::new();
    heading.lines().for_each(|line| writeln!(text, "#[cell {line}]").expect("a string takes all"));
    writeln!(text, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")
        .expect("a string takes all");
    let samples: u64 = latency.buckets.iter().map(|(_, count)| count).sum();
    let (mut seen, mut squares) = (0, 0.0);
    for (highest, count) in &latency.buckets {
        seen += count;
        let value = *highest as f64;
        squares += *count as f64 * (value - latency.mean).powi(2);
        let share = seen as f64 / samples as f64;
        let line = format!("{:>12.3} {share:.12} {seen:>10}", value / NS_PER_US);
        // Of the last there is none longer, and no quotient.
        let written = match seen < samples {
            true => writeln!(text, "{line} {:>14.2}", samples as f64 / (samples - seen) as f64),
            false => writeln!(text, "{line}"),
        };
        written.expect("a string takes all");
    }
    let deviation = if samples > 0 { (squares / samples as f64).sqrt() } else { 0.0 };
    let (mean, max) = (latency.mean / NS_PER_US, latency.max as f64 / NS_PER_US);
    write!(
        text,
        "#[Mean    = {mean:>12.3}, StdDeviation   = {:>12.3}]\n#[Max     = {max:>12.3}, Total count    = {samples:>12}]\n#[Buckets = {:>12}, SubBuckets     = {:>12}]\n",
        deviation / NS_PER_US,
        // Of buckets there are those above; they are not divided further.
        latency.buckets.len(),
        1,
    )
    .expect("a string takes all");
    text
}

#[cfg(test)]
mod tests {
    use freehold_workloads::latencies;

    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut times = latencies();
        values.into_iter().for_each(|value| times.record(value).expect("it is within the bounds"));
        Latency::from(&times)
    }

    #[test]
    fn the_text_has_the_columns_plotters_read() {
        let text = percentiles("one\ntwo", &of([1000, 2000, 3000, 4000]));
        let table = text.strip_prefix("#[cell one]\n#[cell two]\n").expect("the heading comes first");
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        assert!(lines[1].is_empty());
        let row = |line: &str| -> Vec<f64> {
            line.split_whitespace().map(|field| field.parse().expect("it is a number")).collect()
        };
        let second = row(lines[3]);
        assert_eq!(second[1..], [0.5, 2.0, 2.0], "{text}");
        assert!((second[0] - 2.0).abs() < 0.02, "{text}");
        assert_eq!(row(lines[5])[1..], [1.0, 4.0], "the last has no quotient: {text}");
        assert!(
            lines[6].starts_with("#[Mean    =        2.5") && lines[7].starts_with("#[Max     ="),
            "{text}"
        );
        assert!(lines[7].ends_with("Total count    =            4]"), "{text}");
        // The deviation of 1, 2, 3, 4 is the root of 1.25.
        assert!(lines[6].contains("StdDeviation   =        1.1"), "{text}");
        assert_eq!(percentiles("", &Latency::default()).lines().count(), 5, "of nothing there are no rows");
    }

    #[test]
    fn merged_is_as_if_measured_at_once() {
        let (low, high) = (of((1..=600).map(|n| n * 1000)), of((601..=1000).map(|n| n * 1000)));
        let (together, merged) = (of((1..=1000).map(|n| n * 1000)), merged([&low, &high]));
        assert_eq!(merged.buckets, together.buckets);
        assert_eq!((merged.p50, merged.p90, merged.p99), (together.p50, together.p90, together.p99));
        assert_eq!((merged.samples, merged.max), (1000, together.buckets.last().expect("some").0));
        assert!((merged.mean / together.mean - 1.0).abs() < 1e-9);
    }
}
