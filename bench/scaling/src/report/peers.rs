//! Freehold beside others on the same transactions: bars and figures, sorted by what decides, so
//! that who wins is seen first. An engine that cannot do a workload says so in its row.
//!
//! What decides follows from the load. In a closed loop the rate does. In an open loop whoever
//! keeps up has the rate that arrives, so the first place by rate would be chance: where all have
//! the same arrivals p99 decides, and where each has a share of its own closed loop's rate nothing
//! does.

use freehold_workloads::{Cell, Load, Measured, Outcome, Run, Spread};
use maud::{Markup, html};

use super::measures::{self, Figure, grouped};
use super::names::{self, Names, SUBJECT};
use super::quantity::{count, nanoseconds, number};

/// What engines are ranked by.
#[derive(Clone, Copy, PartialEq)]
enum Rank {
    /// More is better.
    Rate,
    /// Less is better.
    P99,
    /// They did not do the same.
    Nothing,
}

impl Rank {
    fn of(load: Load) -> Self {
        match load {
            Load::Closed { .. } => Rank::Rate,
            Load::Rate { .. } => Rank::P99,
            Load::Open { .. } => Rank::Nothing,
        }
    }

    /// What bars are drawn of: of an open loop the latency, as the rate was set.
    fn figure(self) -> Figure {
        match self {
            Rank::Rate => |repetition| Some(repetition.per_second),
            Rank::P99 | Rank::Nothing => measures::p99,
        }
    }

    fn spread(self, measured: &Measured) -> Option<Spread> {
        measures::spread(measured, self.figure())
    }

    fn name(self, value: f64) -> String {
        match self {
            Rank::Rate => format!("{}/s", count(value)),
            Rank::P99 | Rank::Nothing => nanoseconds(value),
        }
    }
}

/// The same work, done by several engines.
struct Comparison<'a> {
    first: &'a Cell,
    rank: Rank,
    /// The best first, then those without a figure; where nothing ranks them, as the run has them.
    engines: Vec<&'a Measured>,
}

/// All comparisons of a run, in order.
fn comparisons(run: &Run) -> Vec<Comparison<'_>> {
    let groups =
        grouped(&run.cells, |cell| (&cell.spec, cell.shards, cell.cross, cell.durability, cell.load));
    let groups = groups.into_iter().map(|(_, mut engines)| {
        let first = &engines[0].cell;
        let rank = Rank::of(first.load);
        let place = |measured: &Measured| match (rank.spread(measured), rank) {
            (None, _) => f64::INFINITY,
            (Some(rate), Rank::Rate) => -rate.median,
            (Some(p99), Rank::P99) => p99.median,
            (Some(_), Rank::Nothing) => 0.0,
        };
        // The sort is stable.
        engines.sort_by(|a, b| place(a).total_cmp(&place(b)));
        Comparison { first, rank, engines }
    });
    groups.filter(|comparison| comparison.engines.len() > 1).collect()
}

impl Comparison<'_> {
    /// Freehold's figure and that of the best other.
    fn best(&self) -> Option<(Spread, &str, Spread)> {
        let own = self.engines.iter().find(|measured| measured.cell.engine == SUBJECT)?;
        let peer = self.engines.iter().find(|measured| measured.cell.engine != SUBJECT)?;
        Some((self.rank.spread(own)?, &peer.cell.engine, self.rank.spread(peer)?))
    }

    /// Who is ahead, in words.
    fn verdict(&self) -> String {
        let Some((own, peer, other)) = self.best() else {
            return "Nothing to compare: only one side has a figure.".to_owned();
        };
        let overlaps = own.lowest <= other.highest && other.lowest <= own.highest;
        let note = if overlaps { "; their ranges overlap" } else { "" };
        let ratio = own.median / other.median;
        match (self.rank, self.is_lost()) {
            (Rank::Nothing, _) => {
                "No verdict: each engine has a share of its own rate, so they did not do the same.".to_owned()
            }
            (Rank::Rate, false) => format!("Freehold is first: {} × {peer}{note}", number(ratio)),
            (Rank::Rate, true) => format!("{peer} wins: {} × Freehold{note}", number(1.0 / ratio)),
            (Rank::P99, false) => {
                format!("Freehold is first by p99: {peer} takes {} × as long{note}", number(1.0 / ratio))
            }
            (Rank::P99, true) => {
                format!("{peer} wins by p99: Freehold takes {} × as long{note}", number(ratio))
            }
        }
    }

    fn is_judged(&self) -> bool {
        self.rank != Rank::Nothing && self.best().is_some()
    }

    fn is_lost(&self) -> bool {
        self.best().is_some_and(|(own, _, other)| match self.rank {
            Rank::Rate => own.median < other.median,
            Rank::P99 => own.median > other.median,
            Rank::Nothing => false,
        })
    }

    /// The setting of the share, with what was measured; of Freehold if it has a figure.
    fn cross(&self) -> String {
        let has_one = |measured: &&&Measured| measured.rate().is_some();
        let own = self.engines.iter().filter(has_one).find(|measured| measured.cell.engine == SUBJECT);
        let any = own.or(self.engines.iter().find(has_one));
        any.map_or_else(|| names::cross(self.first.cross), |measured| names::spanned(measured))
    }
}

/// Of how many comparisons of closed loops Freehold is first, and how many there are with a figure
/// on both sides.
pub fn standing(run: &Run) -> (usize, usize) {
    let is_counted =
        |comparison: &Comparison<'_>| comparison.rank == Rank::Rate && comparison.best().is_some();
    let all: Vec<_> = comparisons(run).into_iter().filter(is_counted).collect();
    (all.iter().filter(|comparison| !comparison.is_lost()).count(), all.len())
}

fn engine(measured: &Measured, rank: Rank, most: f64) -> Markup {
    let name = &measured.cell.engine;
    let is_own = name == SUBJECT;
    let share = |value: f64| if most > 0.0 { 100.0 * value / most } else { 0.0 };
    let p99 = measures::median(measured, measures::p99).map_or("–".into(), nanoseconds);
    html! {
        tr.own[is_own] {
            th scope="row" { (name) }
            @match (&measured.outcome, measured.rate()) {
                (Outcome::Measured(_), Some(rate)) => {
                    td.bar {
                        @if let Some(of) = rank.spread(measured) {
                            div.track title=(format!("{} ({} to {})", rank.name(of.median), rank.name(of.lowest), rank.name(of.highest))) {
                                div.fill.disturbed[measured.is_disturbed()] style=(format!("width:{:.2}%", share(of.median))) {}
                                div.whisker style=(format!("left:{:.2}%;width:{:.2}%", share(of.lowest), share(of.highest - of.lowest))) {}
                            }
                        }
                    }
                    td.number { @if rank == Rank::Rate { strong { (count(rate.median)) } "/s" } @else { (count(rate.median)) "/s" } @if measured.is_disturbed() { (busy(measured)) } }
                    td.number { (measures::median(measured, measures::cpu_ns).map_or("–".into(), nanoseconds)) }
                    td.number { @if rank == Rank::Rate { (p99) } @else { strong { (p99) } } }
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
            p { "Freehold is first in " strong { (won) } " of " strong { (of) } " comparisons of closed loops that have figures on both sides. Bars are medians; the thin line is the range of the repetitions. In an open loop bars are of p99, and shorter is better: the rate was set." }
            div.row.wide {
                @for comparison in &comparisons {
                    @let first = comparison.first;
                    @let most = comparison.engines.iter().filter_map(|measured| comparison.rank.spread(measured)).map(|of| of.highest).fold(0.0, f64::max);
                    div.panel.comparison {
                        h3 { (names.short(&first.spec)) span.conditions {
                            (first.shards) @if first.shards == 1 { " shard" } @else { " shards" } ", cross " (comparison.cross()) ", " (names.conditions(first.durability, first.load)) } }
                        p.verdict.lost[comparison.is_lost()].none[!comparison.is_judged()] { (comparison.verdict()) }
                        div.scroll { table.peers {
                            thead { tr { th { "engine" } th { @if comparison.rank == Rank::Rate { "committed per second" } @else { "p99" } } th.number { @if comparison.rank != Rank::Rate { "committed" } } th.number title="CPU time per transaction" { "CPU/tx" } th.number { "p99" } } }
                            tbody { @for measured in &comparison.engines { (engine(measured, comparison.rank, most)) } }
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
