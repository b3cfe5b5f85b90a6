//! Latencies over percentiles. Each nine takes the same room, and so does each power of ten of
//! time.

use freehold_workloads::{Latency, Measured, Run};
use maud::{Markup, html};

use super::chart::{Axis, Chart, Point, Scale, Series};
use super::measures::{grouped, is_closed, own};
use super::names::{self, Names};
use super::percentiles::merged;
use super::quantity::nanoseconds;

/// Lines of one chart; more could not be told apart. The table has them all.
const SERIES_MAX: usize = 8;

/// How many nines: 0.9 is at 1, 0.99 at 2. Of all `samples` none is told apart beyond the last.
fn nines(share: f64, samples: u64) -> f64 {
    -(1.0 - share).max(1.0 / samples.max(2) as f64).log10()
}

/// The distribution of one cell.
fn series(label: String, measured: &Measured) -> Option<Series> {
    let all = merged(measured.repetitions().iter().map(|repetition| &repetition.latency));
    if all.samples == 0 {
        return None;
    }
    let mut line: Vec<(f64, f64)> = Vec::new();
    let mut seen = 0;
    for (highest, count) in &all.buckets {
        let place = nines(seen as f64 / all.samples as f64, all.samples);
        seen += count;
        // Closer than this they are the same pixel.
        if line.last().is_none_or(|(last, _)| place - last > 0.02) || seen == all.samples {
            line.push((place, *highest as f64));
        }
    }
    let Latency { samples, p50, p90, p99, p999, max, .. } = all;
    let marks =
        [("p50", 0.5, p50), ("p90", 0.9, p90), ("p99", 0.99, p99), ("p99.9", 0.999, p999), ("max", 1.0, max)];
    let mark = |(name, share, value): (&str, f64, u64)| Point {
        x: nines(share, samples),
        y: value as f64,
        range: None,
        says: format!("{label}\n{name} {}\n{samples} samples", nanoseconds(value as f64)),
        is_disturbed: measured.is_disturbed(),
    };
    // A percentile beyond the samples there are would be drawn over the longest.
    let points = marks
        .into_iter()
        .filter(|(_, share, _)| *share == 1.0 || nines(*share, samples) < nines(1.0, samples));
    let points = points.map(mark).collect();
    line.push((nines(1.0, samples), max as f64));
    Some(Series { label, line, fit: Vec::new(), points })
}

fn chart(title: String, series: Vec<Series>) -> Option<Chart> {
    let points = || series.iter().flat_map(|series| &series.line);
    let to = points().map(|(place, _)| *place).fold(1.0, f64::max);
    let min = points().map(|(_, time)| *time).fold(f64::INFINITY, f64::min);
    let max = points().map(|(_, time)| *time).fold(0.0, f64::max);
    points().next()?;
    let names = ["50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let places = [0.5f64.log10().abs(), 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
    let ticks = places.into_iter().zip(names).filter(|(place, _)| *place <= to);
    let ticks = ticks.map(|(place, name)| (place, name.replace(' ', "\u{a0}"))).collect();
    Some(Chart {
        title,
        x: Axis {
            label: "percentile; the last point is the longest".into(),
            scale: Scale::Linear,
            from: 0.0,
            to: to * 1.02,
            ticks,
        },
        y: Axis::powers("latency", min, max, nanoseconds),
        series,
        ideal: None,
    })
}

/// Draws cells, each with its label.
fn drawn(title: &str, cells: &[(String, &Measured)]) -> Markup {
    let left_out = cells.len().saturating_sub(SERIES_MAX);
    let series =
        cells.iter().take(SERIES_MAX).filter_map(|(label, measured)| series(label.clone(), measured));
    html! {
        @if let Some(chart) = chart(title.to_owned(), series.collect()) {
            div.figure {
                (chart.draw())
                @if left_out > 0 { p.quiet { "And " (left_out) " more, in the table." } }
            }
        }
    }
}

/// The same in figures, of all repetitions together.
fn figures(parts: &[&[(String, &Measured)]]) -> Markup {
    html! {
        div.scroll { table.small {
            thead { tr { th { "" } @for name in ["p50", "p90", "p99", "p99.9", "max"] { th.number { (name) } } } }
            @for part in parts.iter().filter(|part| !part.is_empty()) { tbody { @for (label, measured) in *part {
                @let all = merged(measured.repetitions().iter().map(|repetition| &repetition.latency));
                tr {
                    th scope="row" { (label) }
                    @for time in [all.p50, all.p90, all.p99, all.p999, all.max] {
                        td.number { @if all.samples > 0 { (nanoseconds(time as f64)) } @else { "–" } }
                    }
                }
            } } }
        } }
    }
}

/// Cells over shards at the first share that spans, and over that share at the most shards.
fn closed(panel: &[&Measured]) -> Markup {
    let most = panel.iter().map(|measured| measured.cell.shards).max().unwrap_or(1);
    let first_of_most = panel.iter().find(|measured| measured.cell.shards == most);
    let first = first_of_most.map(|measured| measured.cell.cross);
    let is_by_shards =
        |measured: &&&Measured| Some(measured.cell.cross) == first || measured.cell.shards == 1;
    let by_shards: Vec<_> =
        panel.iter().filter(is_by_shards).map(|it| (names::shards(&it.cell), *it)).collect();
    let by_cross: Vec<_> = panel
        .iter()
        .filter(|measured| measured.cell.shards == most)
        .map(|measured| (format!("cross {}", names::spanned(measured)), *measured))
        .collect();
    // Of one share only, the chart over shards has it already.
    let by_cross = if by_cross.len() > 1 { by_cross } else { Vec::new() };
    html! {
        (drawn(&format!("By shards, cross-shard share {}", first_of_most.map(|measured| names::spanned(measured)).unwrap_or_default()), &by_shards))
        (drawn(&format!("By cross-shard share, {most} shards"), &by_cross))
        (figures(&[&by_shards, &by_cross]))
    }
}

fn open(panel: &[&Measured]) -> Markup {
    let most = panel.iter().map(|measured| measured.cell.shards).max().unwrap_or(1);
    let cells: Vec<_> = panel
        .iter()
        .filter(|measured| measured.cell.shards == most)
        .map(|measured| (format!("{}, cross {}", measured.cell.load, names::spanned(measured)), *measured))
        .collect();
    html! {
        (drawn(&format!("Over percentiles, {most} shard{}", if most == 1 { "" } else { "s" }), &cells))
        (figures(&[&cells]))
    }
}

/// Latencies of closed and of open loops, apart.
pub fn section(run: &Run, names: &Names) -> Markup {
    let panels = grouped(own(run).filter(|measured| is_closed(&measured.cell)), |cell| {
        (&cell.spec, cell.durability, cell.load)
    });
    let open_panels =
        grouped(own(run).filter(|measured| !is_closed(&measured.cell)), |cell| (&cell.spec, cell.durability));
    html! {
        h3.kind { "Closed loop" }
        p.quiet { "A client waits for answers before it asks again. Who is slow is asked less, so these latencies belong to their throughput and flatter a system that stalls." }
        @if panels.is_empty() { p.quiet { "No closed loop has been measured yet." } }
        @for ((spec, durability, load), panel) in &panels {
            div.panel {
                h4 { (names.short(spec)) span.conditions { (names.conditions(*durability, *load)) } }
                div.row { (closed(panel)) }
            }
        }
        h3.kind { "Open loop" }
        p.quiet { "Transactions arrive at random at a fixed rate, whether those before were answered or not. Latency counts from the arrival: nothing is omitted by waiting." }
        @if open_panels.is_empty() { p.quiet { "This run has no open loop." } }
        @for ((spec, durability), panel) in &open_panels {
            div.panel {
                h4 { (names.short(spec)) span.conditions { (names::durability(*durability)) } }
                div.row { (open(panel)) }
            }
        }
    }
}
