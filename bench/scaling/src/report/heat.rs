//! Who sends to whom: envelopes from shard to shard as a map of colours with numbers.

use freehold_workloads::{Measured, Run};
use maud::{Markup, html};

use super::measures::{self, grouped, is_closed, own};
use super::names::{self, Names};
use super::quantity::{number, percent};

/// Maps of one workload; more would repeat themselves.
const MAPS_MAX: usize = 3;

/// Envelopes of all repetitions, per so many transactions that the most are at least ten; and how
/// many these are.
fn map_of(measured: &Measured) -> Option<(Vec<Vec<f64>>, u64)> {
    let repetitions = measured.repetitions();
    let transactions: u64 = repetitions.iter().map(|repetition| repetition.traffic_transactions).sum();
    let size =
        repetitions.iter().map(|repetition| repetition.traffic.len()).max().filter(|size| *size > 1)?;
    if transactions == 0 {
        return None;
    }
    let mut map = vec![vec![0.0; size]; size];
    for repetition in repetitions {
        for (from, row) in repetition.traffic.iter().enumerate() {
            row.iter().enumerate().take(size).for_each(|(to, envelopes)| {
                map[from][to] += *envelopes as f64 / transactions as f64;
            });
        }
    }
    let most = map.iter().flatten().copied().fold(0.0, f64::max);
    let units = [1_000, 10_000, 100_000, 1_000_000];
    let unit = units.into_iter().find(|unit| most * *unit as f64 >= 10.0).unwrap_or(units[3]);
    map.iter_mut().flatten().for_each(|value| *value *= unit as f64);
    Some((map, unit))
}

/// Short enough for a square of the map.
fn short(value: f64) -> String {
    match value {
        0.0 => "·".to_owned(),
        large if large >= 10.0 => format!("{large:.0}"),
        some => format!("{some:.1}"),
    }
}

fn draw(map: &[Vec<f64>], unit: u64, title: &str) -> Markup {
    const LEFT: f64 = 30.0;
    const TOP: f64 = 30.0;
    const SIDE: f64 = 384.0;
    let square = (SIDE / map.len() as f64).min(72.0);
    let side = square * map.len() as f64;
    let most = map.iter().flatten().copied().fold(0.0, f64::max);
    let text = (square * 0.36).clamp(7.0, 15.0);
    let middle = |index: usize| (index as f64 + 0.5) * square;
    html! {
        svg.heat viewBox=(format!("0 0 {} {}", LEFT + side + 4.0, TOP + side + 4.0)) role="img" aria-label=(title) style=(format!("max-width:{}px", LEFT + side + 4.0)) {
            text.label x=(LEFT + side / 2.0) y="10" text-anchor="middle" { "to shard" }
            text.label transform=(format!("translate(10 {}) rotate(-90)", TOP + side / 2.0)) text-anchor="middle" { "from shard" }
            @for (from, row) in map.iter().enumerate() {
                text.tick x=(LEFT - 5.0) y=(TOP + middle(from) + 4.0) text-anchor="end" { (from) }
                text.tick x=(LEFT + middle(from)) y=(TOP - 5.0) text-anchor="middle" { (from) }
                @for (to, value) in row.iter().enumerate() {
                    @let heat = if most > 0.0 { value / most } else { 0.0 };
                    g class=(if heat > 0.55 { "hot" } else { "cool" }) {
                        title { "from shard " (from) " to shard " (to) ": " (number(*value)) " envelopes per " (indicatif::HumanCount(unit)) " transactions" }
                        rect.square x=(LEFT + to as f64 * square + 1.0) y=(TOP + from as f64 * square + 1.0) width=(square - 2.0) height=(square - 2.0)
                            rx="3" style=(format!("fill-opacity:{:.3}", 0.08 + 0.92 * heat)) {}
                        text x=(LEFT + middle(to)) y=(TOP + middle(from) + text * 0.36) text-anchor="middle" style=(format!("font-size:{text:.1}px")) { (short(*value)) }
                    }
                }
            }
        }
    }
}

fn share(measured: &Measured) -> f64 {
    measures::median(measured, measures::spanning).unwrap_or(0.0)
}

/// Of a workload's cells those with the most shards, with the smallest share that spans, the
/// largest, and one between.
fn chosen(mut cells: Vec<&Measured>) -> Vec<&Measured> {
    let most = cells.iter().map(|measured| measured.cell.shards).max().unwrap_or(0);
    // One durability is enough: it does not change who sends to whom.
    let durability = cells[0].cell.durability;
    cells.retain(|measured| measured.cell.shards == most && measured.cell.durability == durability);
    cells.sort_by(|a, b| share(a).total_cmp(&share(b)));
    let last = cells.len().saturating_sub(1);
    let mut places: Vec<_> = (0..MAPS_MAX).map(|place| place * last / (MAPS_MAX - 1)).collect();
    places.dedup();
    places.into_iter().filter_map(|place| cells.get(place).copied()).collect()
}

/// The maps of each workload.
pub fn section(run: &Run, names: &Names) -> Markup {
    let cells = own(run)
        .filter(|measured| is_closed(&measured.cell) && measured.cell.shards > 1 && share(measured) > 0.0);
    let workloads = grouped(cells.filter(|measured| map_of(measured).is_some()), |cell| &cell.spec);
    html! {
        @if workloads.is_empty() { p.quiet { "Nothing was sent from shard to shard." } }
        @else { p.quiet { "Envelopes from shard to shard; many messages travel in one. A row that is stronger than the others sends more, a column receives more." } }
        @for (spec, cells) in workloads {
            div.panel {
                h3 { (names.short(spec)) }
                div.row {
                    @for measured in chosen(cells) {
                        @if let Some((map, unit)) = map_of(measured) {
                            figure.map {
                                figcaption {
                                    strong { (names::shards(&measured.cell)) ", cross " (names::cross(measured.cell.cross)) }
                                    span.unit { (percent(share(measured))) " spanned; envelopes per " (indicatif::HumanCount(unit)) " transactions" }
                                }
                                (draw(&map, unit, &measured.cell.to_string()))
                            }
                        }
                    }
                }
            }
        }
    }
}
