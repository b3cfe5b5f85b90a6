//! All cells with all figures, and what the benchmark itself costs.

use freehold_workloads::{Measured, Outcome, Run, Spread};
use maud::{Markup, html};

use super::measures::{self, grouped};
use super::names::{self, Names, SUBJECT};
use super::peers::busy;
use super::quantity::{bytes, count, nanoseconds, number, percent};

/// Rows above which a workload's table is folded.
const ROWS_OPEN_MAX: usize = 200;
/// Columns of figures.
const FIGURES: &str = "11";

fn figure(value: Option<f64>, name: impl Fn(f64) -> String) -> String {
    value.map_or("–".to_owned(), name)
}

fn latency(measured: &Measured, of: fn(&freehold_workloads::Latency) -> u64) -> String {
    let is_timed =
        |measured: &&Measured| measured.repetitions().iter().any(|repetition| repetition.latency.samples > 0);
    let spread =
        Some(measured).filter(is_timed).and_then(|it| it.spread(|repetition| of(&repetition.latency) as f64));
    figure(spread.map(|spread| spread.median), nanoseconds)
}

fn figures(run: &Run, measured: &Measured, rate: Spread) -> Markup {
    let median = |of| measures::median(measured, of);
    let times = measured.repetitions().len();
    let wanted = measured
        .spread(|repetition| repetition.wanted_per_second.unwrap_or(0.0))
        .map_or(0.0, |wanted| wanted.median);
    html! {
        td.number { strong { (count(rate.median)) } }
        td.number.range { @if times > 1 { (count(rate.lowest)) " – " (count(rate.highest)) } @else { "once" } }
        td.number { (figure(median(measures::cpu_ns), nanoseconds)) }
        td.number { (latency(measured, |latency| latency.p50)) }
        td.number { (latency(measured, |latency| latency.p99)) }
        td.number { (latency(measured, |latency| latency.p999)) }
        td.number { (figure(median(measures::spanning), percent)) }
        td.number { (figure(median(measures::aborted), percent)) }
        td.number { (figure(median(measures::envelopes), number)) }
        td.number { (figure(median(measures::log_bytes), bytes)) }
        td {
            @if measured.is_disturbed() { (busy(measured)) }
            @if times < run.repetitions as usize { span.badge.warn { (times) " of " (run.repetitions) } }
            // What arrives and is not answered piles up: the latencies are then of the queue.
            // Poisson arrivals vary by some percent.
            @if wanted > 0.0 && rate.median < 0.95 * wanted { span.badge.bad title=(format!("{}/s arrived", count(wanted))) { "not kept up" } }
        }
    }
}

fn row(run: &Run, measured: &Measured) -> Markup {
    let cell = &measured.cell;
    html! {
        tr.own[cell.engine == SUBJECT] {
            th scope="row" { (cell.engine) }
            td.number { (cell.shards) }
            td.number { (names::cross(cell.cross)) }
            td { (cell.durability) }
            td { (cell.load) }
            @match (&measured.outcome, measured.rate()) {
                (Outcome::Measured(_), Some(rate)) => (figures(run, measured, rate)),
                (Outcome::Cannot(why), _) => { td.why colspan=(FIGURES) { span.badge { "cannot" } " " (why) } }
                (Outcome::Failed(why), _) => { td.why colspan=(FIGURES) { span.badge.bad { "failed" } " " (why) } }
                _ => { td.why colspan=(FIGURES) { span.badge { "pending" } " not measured yet" } }
            }
        }
    }
}

/// The table of all cells, one for each workload.
pub fn section(run: &Run) -> Markup {
    html! {
        p.quiet { "Medians over repetitions. Aborts are by the workload's rules. Shares, CPU time and bytes are per transaction, committed or aborted; envelopes and log bytes count warm-up and drain as well." }
        @for (spec, cells) in grouped(&run.cells, |cell| &cell.spec) {
            details open=[(cells.len() <= ROWS_OPEN_MAX).then_some("open")] {
                summary { strong { (Names::full(spec)) } " " span.quiet { (cells.len()) @if cells.len() == 1 { " cell" } @else { " cells" } } }
                div.scroll { table.cells {
                    thead { tr {
                        th { "engine" } th.number { "shards" } th.number { "cross" } th { "durability" } th { "load" }
                        th.number { "rate /s" } th.number { "lowest – highest" } th.number { "CPU/tx" } th.number { "p50" } th.number { "p99" } th.number { "p99.9" }
                        th.number { "spanning" } th.number { "aborts" } th.number { "envelopes/tx" } th.number { "log/tx" } th { "" }
                    } }
                    tbody { @for measured in cells { (row(run, measured)) } }
                } }
            }
        }
    }
}

/// The benchmark's own time beside the cells' CPU time per transaction.
pub fn overhead(run: &Run) -> Markup {
    /// The project's aim: the tool takes less of a cell's CPU time.
    const AIM: f64 = 0.05;
    let cells = |workload: &str| -> Vec<f64> {
        let cells = measures::own(run).filter(|measured| measured.cell.spec.name() == workload);
        cells.filter_map(|measured| measures::median(measured, measures::cpu_ns)).collect()
    };
    html! {
        @if run.overhead_ns.is_empty() { p.quiet { "The tool's own time was not measured in this run." } }
        @else {
            p.quiet { "What a client costs that takes transactions from its stream and notes answers, without any engine, beside the CPU time of Freehold's cells. The aim is under " (percent(AIM)) "." }
            div.scroll { table.overhead {
                thead { tr { th { "workload" } th.number { "tool per transaction" } th.number { "cells per transaction" } th.number { "share of the cheapest cell" } th.number { "of the median cell" } th { "" } } }
                tbody { @for (workload, ns) in &run.overhead_ns {
                    @let spread = Spread::of(cells(workload));
                    tr {
                        th scope="row" { (workload) }
                        td.number { (nanoseconds(*ns)) }
                        @match spread {
                            Some(cpu) => {
                                td.number { (nanoseconds(cpu.lowest)) " – " (nanoseconds(cpu.highest)) }
                                td.number { (percent(ns / cpu.lowest)) }
                                td.number { (percent(ns / cpu.median)) }
                                td { @if ns / cpu.lowest < AIM { span.badge.good { "within the aim" } } @else { span.badge.warn { "above the aim" } } }
                            }
                            None => { td.number { "–" } td.number { "–" } td.number { "–" } td {} }
                        }
                    }
                } }
            } }
        }
    }
}
