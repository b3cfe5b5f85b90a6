//! Freehold beside others on the same transactions: bars and figures, sorted by rate, so that who wins is seen first.
//! An engine that cannot do a workload says so in its row.

use freehold_workloads::{Cell, Measured, Outcome, Run, Spread};
use maud::{Markup, html};

use super::measures::{self, grouped};
use super::names::{self, Names, SUBJECT};
use super::quantity::{count, nanoseconds, number};

/// The same work, done by several engines.
struct Comparison<'a> {
    first: &'a Cell,
    /// Measured ones by rate, then the others.
    engines: Vec<&'a Measured>,
}

/// All comparisons of a run, in order.
fn comparisons(run: &Run) -> Vec<Comparison<'_>> {
    let groups =
        grouped(&run.cells, |cell| (&cell.spec, cell.shards, cell.cross, cell.durability, cell.load));
    let groups = groups.into_iter().map(|(_, mut engines)| {
        let rate = |measured: &Measured| measured.rate().map_or(-1.0, |rate| rate.median);
        engines.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
        Comparison { first: &engines[0].cell, engines }
    });
    groups.filter(|comparison| comparison.engines.len() > 1).collect()
}

impl Comparison<'_> {
    /// Freehold's rate and that of the fastest other.
    fn rates(&self) -> Option<(Spread, &str, Spread)> {
        let own = self.engines.iter().find(|measured| measured.cell.engine == SUBJECT)?.rate()?;
        let peer = self.engines.iter().find(|measured| measured.cell.engine != SUBJECT)?;
        Some((own, &peer.cell.engine, peer.rate()?))
    }

    /// Who is ahead, in words.
    fn verdict(&self) -> String {
        let Some((own, peer, other)) = self.rates() else {
            return "Nothing to compare: only one side has a figure.".to_owned();
        };
        let ratio = own.median / other.median;
        let overlaps = own.lowest <= other.highest && other.lowest <= own.highest;
        let note = if overlaps { "; their ranges overlap" } else { "" };
        match ratio >= 1.0 {
            true => format!("Freehold is first: {} × {peer}{note}", number(ratio)),
            false => format!("{peer} wins: {} × Freehold{note}", number(1.0 / ratio)),
        }
    }

    fn is_lost(&self) -> bool {
        self.rates().is_some_and(|(own, _, other)| own.median < other.median)
    }
}

/// Of how many comparisons Freehold is first, and how many there are with a figure on both sides.
pub fn standing(run: &Run) -> (usize, usize) {
    let all: Vec<_> =
        comparisons(run).into_iter().filter(|comparison| comparison.rates().is_some()).collect();
    (all.iter().filter(|comparison| !comparison.is_lost()).count(), all.len())
}

fn engine(measured: &Measured, most: f64) -> Markup {
    let name = &measured.cell.engine;
    let is_own = name == SUBJECT;
    let share = |rate: f64| if most > 0.0 { 100.0 * rate / most } else { 0.0 };
    html! {
        tr.own[is_own] {
            th scope="row" { (name) }
            @match (&measured.outcome, measured.rate()) {
                (Outcome::Measured(_), Some(rate)) => {
                    td.bar {
                        div.track title=(format!("{}/s ({} to {})", count(rate.median), count(rate.lowest), count(rate.highest))) {
                            div.fill.disturbed[measured.is_disturbed()] style=(format!("width:{:.2}%", share(rate.median))) {}
                            div.whisker style=(format!("left:{:.2}%;width:{:.2}%", share(rate.lowest), share(rate.highest - rate.lowest))) {}
                        }
                    }
                    td.number { strong { (count(rate.median)) } "/s" @if measured.is_disturbed() { (busy(measured)) } }
                    td.number { (measures::median(measured, measures::cpu_ns).map(nanoseconds).unwrap_or("–".into())) }
                    td.number { (measured.spread(|repetition| repetition.latency.p99 as f64).map(|p99| nanoseconds(p99.median)).unwrap_or("–".into())) }
                }
                (Outcome::Cannot(why), _) => { td.why colspan="4" { span.badge { "cannot" } " " (why) } }
                (Outcome::Failed(why), _) => { td.why colspan="4" { span.badge.bad { "failed" } " " (why) } }
                _ => { td.why colspan="4" { span.badge { "pending" } " not measured yet" } }
            }
        }
    }
}

/// The mark of a cell that was measured on a busy machine.
pub fn busy(measured: &Measured) -> Markup {
    let disturbance = measures::disturbance(measured);
    let says = format!(
        "The machine was busy: others took up to {:.0} % of its CPU time, and {:.0} % were stolen by other guests.",
        100.0 * disturbance.others,
        100.0 * disturbance.stolen
    );
    html! { span.badge.warn title=(says) { "busy" } }
}

/// Every comparison with bars and figures.
pub fn section(run: &Run, names: &Names) -> Markup {
    let comparisons = comparisons(run);
    let (won, of) = standing(run);
    let engines = run
        .engines
        .iter()
        .filter(|(name, _)| run.cells.iter().any(|measured| measured.cell.engine == **name));
    html! {
        @if comparisons.is_empty() {
            p.quiet { "This run has no peers. " code { "--peers" } " measures others on the same transactions." }
        } @else {
            p { "Freehold is first in " strong { (won) } " of " strong { (of) } " comparisons that have figures on both sides. Bars are medians; the thin line is the range of the repetitions." }
            div.row.wide {
                @for comparison in &comparisons {
                    @let first = comparison.first;
                    @let most = comparison.engines.iter().filter_map(|measured| measured.rate()).map(|rate| rate.highest).fold(0.0, f64::max);
                    div.panel.comparison {
                        h3 { (names.short(&first.spec)) span.conditions {
                            (first.shards) @if first.shards == 1 { " shard" } @else { " shards" } ", cross " (names::cross(first.cross)) ", " (names.conditions(first.durability, first.load)) } }
                        p.verdict.lost[comparison.is_lost()] { (comparison.verdict()) }
                        div.scroll { table.peers {
                            thead { tr { th { "engine" } th { "committed per second" } th.number { "" } th.number title="CPU time per transaction" { "CPU/tx" } th.number { "p99" } } }
                            tbody { @for measured in &comparison.engines { (engine(measured, most)) } }
                        } }
                    }
                }
            }
            details {
                summary { "Who they are" }
                dl.engines { @for (name, engine) in engines { dt { (name) " " span.quiet { (engine.version) } } dd { (engine.about) } } }
            }
        }
    }
}
