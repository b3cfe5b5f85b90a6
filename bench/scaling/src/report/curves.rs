//! Curves over shards and over the share that spans them: throughput, efficiency, messages.

use freehold_workloads::{Cross, Measured, Run, Spread};
use maud::{Markup, html};

use super::chart::{Axis, Chart, Point, Scale, Series};
use super::measures::{self, grouped, is_closed, own};
use super::names::{self, Names};
use super::quantity::{count, nanoseconds, number, percent};
use super::scaling::{self, Law};

/// Cells named in a sentence; the rest is counted.
const NAMED_MAX: usize = 3;

/// One curve over shards.
struct Curve<'a> {
    label: String,
    cells: Vec<&'a Measured>,
    /// The cell of one shard, if its rate was never 0.
    base: Option<&'a Measured>,
    law: Option<Law>,
}

fn rate_of(measured: &Measured) -> Spread {
    measured.rate().unwrap_or(Spread { median: 0.0, lowest: 0.0, highest: 0.0 })
}

fn point(x: f64, of: Spread, says: String, is_disturbed: bool) -> Point {
    Point {
        x,
        y: of.median,
        range: (of.lowest < of.highest).then_some((of.lowest, of.highest)),
        says,
        is_disturbed,
    }
}

/// What is said of a point: the figure and its range, and the figure's place.
fn says(measured: &Measured, of: Spread, name: impl Fn(f64) -> String) -> String {
    let mark = if measured.is_disturbed() { "\nThe machine was busy." } else { "" };
    let place = format!("{}, {}", names::shards(&measured.cell), names::spanned(measured));
    match measured.repetitions().len() {
        1 => format!("{place}\n{}, measured once{mark}", name(of.median)),
        times => format!(
            "{place}\n{} ({} to {}, {times} times){mark}",
            name(of.median),
            name(of.lowest),
            name(of.highest)
        ),
    }
}

impl<'a> Curve<'a> {
    /// The curves of one chart, one for each setting of the share.
    fn all(panel: &[&'a Measured]) -> Vec<Self> {
        // With one shard nothing spans shards: such a cell is the beginning of each curve that
        // lacks one of its own.
        let single = panel.iter().copied().find(|measured| measured.cell.shards == 1);
        let curve = |(cross, mut cells): (Cross, Vec<&'a Measured>)| {
            if let Some(single) = single
                && !cells.iter().any(|measured| measured.cell.shards == 1)
            {
                cells.push(single);
            }
            cells.sort_by_key(|measured| measured.cell.shards);
            let points: Vec<_> = cells
                .iter()
                .map(|measured| (measured.cell.shards as f64, rate_of(measured).median))
                .collect();
            let is_base = |measured: &&&Measured| measured.cell.shards == 1 && rate_of(measured).lowest > 0.0;
            let base = cells.first().filter(is_base).copied();
            Curve { label: names::spanned_by(cross, &cells), cells, base, law: scaling::fit(&points) }
        };
        // A setting that was only measured with one shard is no curve beside others.
        let groups = grouped(panel.iter().copied(), |cell| cell.cross);
        let is_only = groups.len() == 1;
        let spreads = |cells: &[&Measured]| cells.iter().any(|measured| measured.cell.shards > 1);
        groups.into_iter().filter(|(_, cells)| is_only || spreads(cells)).map(curve).collect()
    }

    fn shards_max(&self) -> f64 {
        self.cells.last().map_or(1.0, |measured| measured.cell.shards as f64)
    }

    /// The rate at one shard.
    fn single(&self) -> Option<f64> {
        self.base.map(|base| rate_of(base).median)
    }

    fn series(&self, figure: impl Fn(&Measured) -> Option<Spread>, name: impl Fn(f64) -> String) -> Series {
        let points = self.cells.iter().filter_map(|measured| {
            let of = figure(measured)?;
            let says = says(measured, of, &name);
            Some(point(measured.cell.shards as f64, of, says, measured.is_disturbed()))
        });
        let points: Vec<_> = points.collect();
        let line = points.iter().map(|point| (point.x, point.y)).collect();
        Series { label: self.label.clone(), line, fit: Vec::new(), points }
    }

    /// The law drawn from one shard to the most measured.
    fn fit(&self, of: impl Fn(&Law, f64) -> f64) -> Vec<(f64, f64)> {
        const STEPS: i32 = 48;
        let place = |step| 1.0 + (self.shards_max() - 1.0) * f64::from(step) / f64::from(STEPS);
        let along = |law: &Law| (0..=STEPS).map(|step| (place(step), of(law, place(step)))).collect();
        self.law.as_ref().map(along).unwrap_or_default()
    }

    /// Rate / (shards x rate at one shard). The range is of both rates: the lowest over the base's
    /// highest, and the reverse. Of the base itself it is 1, by definition.
    fn efficiency(&self, measured: &Measured) -> Option<Spread> {
        let (rate, base) = (measured.rate()?, self.base?);
        if std::ptr::eq(measured, base) {
            return Some(Spread { median: 1.0, lowest: 1.0, highest: 1.0 });
        }
        let (single, shards) = (rate_of(base), measured.cell.shards as f64);
        Some(Spread {
            median: rate.median / shards / single.median,
            lowest: rate.lowest / shards / single.highest,
            highest: rate.highest / shards / single.lowest,
        })
    }

    /// Efficiency over shards. A point is as disturbed as its base is: it follows from both.
    fn efficiencies(&self) -> Series {
        let mut series = self.series(|measured| self.efficiency(measured), number);
        if self.base.is_some_and(Measured::is_disturbed) {
            for point in series.points.iter_mut().filter(|point| !point.is_disturbed) {
                point.is_disturbed = true;
                point.says.push_str("\nThe machine was busy while one shard was measured.");
            }
        }
        series
    }
}

/// What efficiency does not tell apart, and where it shows.
fn efficiency_note(curves: &[Curve<'_>]) -> Markup {
    let cells = curves.iter().flat_map(|curve| curve.cells.iter().map(move |measured| (curve, measured)));
    let is_above = |(curve, measured): &(&Curve<'_>, &&Measured)| {
        curve.efficiency(measured).is_some_and(|efficiency| efficiency.median > 1.0)
    };
    let above: Vec<_> = cells
        .filter(is_above)
        .map(|(curve, measured)| format!("cross {} at {}", curve.label, names::shards(&measured.cell)))
        .collect();
    html! {
        p.quiet {
            "All cells have the same rows in total: with twice the shards each has half of them, so what its caches gain counts as scaling."
            @if !above.is_empty() {
                " Here it is above 1 (" (above.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; "))
                @if above.len() > NAMED_MAX { "; and " (above.len() - NAMED_MAX) " more" }
                "): that is caches or chance, not scaling."
            }
        }
    }
}

/// An axis of the shard counts that were measured.
fn shards_axis(panel: &[&Measured]) -> Axis {
    let mut counts: Vec<_> = panel.iter().map(|measured| measured.cell.shards).collect();
    counts.sort_unstable();
    counts.dedup();
    let to = counts.last().map_or(1.0, |most| *most as f64 * 1.06);
    let ticks = counts.iter().map(|shards| (*shards as f64, shards.to_string())).collect();
    Axis { label: "shards".to_owned(), scale: Scale::Linear, from: 0.0, to, ticks }
}

fn highest(series: &[Series]) -> f64 {
    let points = series.iter().flat_map(|series| &series.points);
    points.map(|point| point.range.map_or(point.y, |(_, highest)| highest)).fold(0.0, f64::max)
}

fn throughput(panel: &[&Measured], curves: &[Curve<'_>]) -> Chart {
    let series = |curve: &Curve<'_>| Series {
        fit: curve.fit(|law, shards| law.rate(shards)),
        ..curve.series(Measured::rate, |rate| format!("{}/s", count(rate)))
    };
    let series: Vec<_> = curves.iter().map(series).collect();
    let base = curves.iter().find_map(Curve::single);
    let shards_max = curves.iter().map(Curve::shards_max).fold(1.0, f64::max);
    // The ideal line may leave the chart: where it is far away, it must not press the measured ones
    // to the ground.
    let most = highest(&series);
    let y = Axis::from_zero(
        "committed per second",
        most.max((base.unwrap_or(0.0) * shards_max).min(1.5 * most)),
        count,
    );
    let ideal = base.filter(|_| shards_max > 1.0).map(|base| {
        let end = shards_max.min(y.to / base);
        ("ideal".to_owned(), vec![(0.0, 0.0), (end, base * end)])
    });
    Chart { title: "Throughput over shards".into(), x: shards_axis(panel), y, series, ideal }
}

fn efficiency(panel: &[&Measured], curves: &[Curve<'_>]) -> Chart {
    let series = |curve: &Curve<'_>| Series {
        fit: curve.fit(|law, shards| law.rate(shards) / shards / curve.single().unwrap_or(law.single)),
        ..curve.efficiencies()
    };
    let series: Vec<_> = curves.iter().filter(|curve| curve.base.is_some()).map(series).collect();
    let x = shards_axis(panel);
    let ideal = Some(("ideal".to_owned(), vec![(0.0, 1.0), (x.to, 1.0)]));
    let y = Axis::from_zero("rate ÷ (shards × rate at 1 shard)", highest(&series).max(1.0), number);
    Chart { title: "Efficiency".into(), x, y, series, ideal }
}

/// Efficiency at the most shards, and the law in words.
fn law(index: usize, curve: &Curve<'_>) -> Markup {
    let last = curve.cells.last().filter(|measured| measured.cell.shards > 1);
    let efficiency = last.and_then(|last| Some((last, curve.efficiency(last)?)));
    html! {
        details.law open=[(index == 0).then_some("open")] {
            summary {
                span class=(format!("dot s{}", index % 8)) {}
                strong { (curve.label) }
                @if let Some((last, efficiency)) = efficiency {
                    " · efficiency " strong { (number(efficiency.median)) } " at " (names::shards(&last.cell))
                }
            }
            @match &curve.law {
                Some(law) => { ul { @for sentence in law.words() { li { (sentence) } } } }
                None => {
                    p.quiet {
                        @let counts = curve.cells.iter().map(|measured| measured.cell.shards.to_string()).collect::<Vec<_>>();
                        "Measured at " (counts.join(" and ")) @if counts.len() == 1 && counts[0] == "1" { " shard" } @else { " shards" }
                        " only: the Universal Scalability Law has three coefficients, so with fewer than three shard counts there is nothing to fit."
                    }
                }
            }
        }
    }
}

/// Throughput and efficiency over shards with the law in words; for each workload, durability and
/// load.
pub fn over_shards(run: &Run, names: &Names) -> Markup {
    let cells = own(run).filter(|measured| is_closed(&measured.cell));
    let panels = grouped(cells, |cell| (&cell.spec, cell.durability, cell.load));
    html! {
        @if panels.is_empty() { p.quiet { "No closed-loop cell of Freehold has been measured yet." } }
        @for ((spec, durability, load), panel) in &panels {
            @let curves = Curve::all(panel);
            div.panel {
                h3 { (names.short(spec)) span.conditions { (names.conditions(*durability, *load)) } }
                div.row {
                    (throughput(panel, &curves).draw())
                    @if curves.iter().any(|curve| curve.base.is_some()) {
                        div.figure { (efficiency(panel, &curves).draw()) (efficiency_note(&curves)) }
                    }
                    @else { p.quiet { "Without a cell of one shard there is no efficiency." } }
                    div.laws {
                        h4 { "Universal Scalability Law, by cross-shard share" }
                        @for (index, curve) in curves.iter().enumerate() { (law(index, curve)) }
                    }
                }
            }
        }
    }
}

/// A chart over the share that spanned shards as it was measured.
fn over_share(
    panel: &[&Measured],
    title: &str,
    unit: &str,
    figure: impl Fn(&Measured) -> Option<Spread>,
    name: impl Fn(f64) -> String,
) -> Chart {
    let share = |measured: &Measured| measures::median(measured, measures::spanning);
    let is_swept = panel.iter().any(|measured| measured.cell.cross != panel[0].cell.cross);
    // Where the share was not swept, it still differs with the shards: one curve over all of them.
    let groups = grouped(panel.iter().copied(), |cell| if is_swept { cell.shards } else { 0 });
    let series = groups.into_iter().map(|(shards, cells)| {
        let points = cells.iter().filter_map(|measured| {
            let (of, share) = (figure(measured)?, share(measured)?);
            let says = format!("{}\nmeasured share {}", says(measured, of, &name), percent(share));
            Some(point(share, of, says, measured.is_disturbed()))
        });
        let mut points: Vec<_> = points.collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let line = points.iter().map(|point| (point.x, point.y)).collect();
        let label = match shards {
            0 => "one point for each shard count".to_owned(),
            shards => format!("{shards}\u{a0}shards"),
        };
        Series { label, line, fit: Vec::new(), points }
    });
    let series: Vec<_> = series.collect();
    let most = panel.iter().filter_map(|measured| share(measured)).fold(0.0, f64::max);
    Chart {
        title: title.to_owned(),
        x: Axis::from_zero("transactions that spanned shards, as measured", most, percent),
        y: Axis::from_zero(unit, highest(&series), &name),
        series,
        ideal: None,
    }
}

/// What crossing costs at the most shards, in figures.
fn at_most_shards(panel: &[&Measured]) -> Markup {
    let most = panel.iter().map(|measured| measured.cell.shards).max().unwrap_or(1);
    let figure = |measured: &Measured, figure: measures::Figure, name: fn(f64) -> String| {
        measures::median(measured, figure).map_or("–".to_owned(), name)
    };
    html! {
        div {
            h4 { "At " (most) " shards" }
            div.scroll { table.small {
                thead { tr { th { "share set" } th.number { "measured" } th.number { "rate /s" } th.number { "CPU/tx" }
                    th.number title="messages that waited for a lock, per 1000 transactions" { "waited" }
                    th.number title="messages begun anew, per 1000 transactions" { "rerun" } } }
                tbody { @for measured in panel.iter().filter(|measured| measured.cell.shards == most) { tr {
                    th scope="row" { (names::cross(measured.cell.cross)) }
                    td.number { (figure(measured, measures::spanning, percent)) }
                    td.number { (count(rate_of(measured).median)) }
                    td.number { (figure(measured, measures::cpu_ns, nanoseconds)) }
                    td.number { (figure(measured, measures::blocked, number)) }
                    td.number { (figure(measured, measures::reruns, number)) }
                } } }
            } }
            p.quiet { "Waited for a lock, and rerun: messages per 1000 transactions." }
        }
    }
}

/// Throughput and messages over the share that spans shards.
pub fn over_cross(run: &Run, names: &Names) -> Markup {
    let cells = own(run).filter(|measured| is_closed(&measured.cell) && measured.cell.shards > 1);
    let mut panels = grouped(cells, |cell| (&cell.spec, cell.durability, cell.load));
    let spans = |measured: &&Measured| {
        measures::median(measured, measures::spanning).is_some_and(|share| share > 0.0)
    };
    panels.retain(|(_, panel)| panel.iter().any(spans));
    html! {
        @if panels.is_empty() { p.quiet { "No transaction of this run spanned shards." } }
        @for ((spec, durability, load), panel) in &panels {
            div.panel {
                h3 { (names.short(spec)) span.conditions { (names.conditions(*durability, *load)) } }
                div.row {
                    (over_share(panel, "Throughput over cross-shard share", "committed per second", Measured::rate, count).draw())
                    (over_share(panel, "Messages", "envelopes between shards per transaction",
                        |measured| measures::spread(measured, measures::envelopes), number).draw())
                    (at_most_shards(panel))
                }
            }
        }
    }
}
