//! The comparison as a table, the worst first.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use crate::comparison::{Change, Compared, Comparison, Measure, Range, Verdict};
use freehold_scaling::report::quantity::{count, nanoseconds};

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Regression => "SLOWER",
        Verdict::Lost => "LOST",
        Verdict::MaybeSlower => "slower? (ranges overlap)",
        Verdict::Same => "same",
        Verdict::MaybeFaster => "faster? (ranges overlap)",
        Verdict::Faster => "faster",
        Verdict::Neither | Verdict::Incomparable => "-",
    }
}

/// The verdict; of an open loop with what it is by, as its rate may say otherwise.
fn judged(cell: &Compared) -> String {
    match (cell.verdict, cell.decided_by) {
        (Verdict::Lost | Verdict::Neither | Verdict::Incomparable, _) | (_, Measure::Rate) => {
            word(cell.verdict).to_owned()
        }
        (verdict, Measure::P99) => format!("{} by p99", word(verdict)),
    }
}

/// A terminal's lines may be broken anywhere, so spaces are plain.
fn plain(text: String) -> String {
    text.replace('\u{a0}', " ")
}

fn range(Range { median, lowest, highest }: Range) -> String {
    plain(format!("{} ({} to {})", count(median), count(lowest), count(highest)))
}

fn change(change: Option<Change>) -> String {
    change.map_or("-".to_owned(), |change| format!("{:+.1} %", 100.0 * change.change))
}

fn figures(of: Option<Change>) -> String {
    of.map_or("-".to_owned(), |it| {
        plain(format!(
            "{} → {} ({})",
            nanoseconds(it.before.median),
            nanoseconds(it.after.median),
            change(of)
        ))
    })
}

/// Prints the doubts, the table and the sum.
pub fn print(comparison: &Comparison) {
    for doubt in &comparison.doubts {
        println!("warning: {doubt}");
    }
    let is_shown = |cell: &&Compared| cell.verdict != Verdict::Neither;
    let mut cells: Vec<_> = comparison.cells.iter().filter(is_shown).collect();
    let left_out = comparison.cells.len() - cells.len();
    let order = [
        Verdict::Lost,
        Verdict::Regression,
        Verdict::MaybeSlower,
        Verdict::Same,
        Verdict::MaybeFaster,
        Verdict::Faster,
        Verdict::Incomparable,
    ];
    // The sort is stable: cells of one verdict stay in the order of the runs.
    cells.sort_by_key(|cell| order.iter().position(|verdict| *verdict == cell.verdict));
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "cell",
        "verdict",
        "rate before",
        "rate after",
        "rate",
        "p99",
        "CPU per transaction",
        "notes",
    ]);
    for cell in cells {
        let side = |of: fn(Change) -> Range| cell.rate.map_or("-".to_owned(), |rate| range(of(rate)));
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(&cell.name),
            Cell::new(judged(cell)),
            right(side(|rate| rate.before)),
            right(side(|rate| rate.after)),
            right(change(cell.rate)),
            right(figures(cell.p99)),
            right(figures(cell.cpu)),
            Cell::new(cell.notes.join("; ")),
        ]);
    }
    println!("{table}");
    if left_out > 0 {
        println!("{left_out} cells are not shown: their engines can do them in neither run.");
    }
    let tolerance = format!("{:.1} %", 100.0 * comparison.tolerance);
    let of = comparison.compared();
    match comparison.regressions {
        0 => println!(
            "No regression in {of} cells (tolerance {tolerance}; a regression's ranges do not overlap)."
        ),
        some => println!(
            "{some} of {of} cells are slower by more than {tolerance}, with ranges that do not overlap, or have no rate any more."
        ),
    }
}
