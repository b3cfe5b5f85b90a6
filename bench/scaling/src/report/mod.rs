//! The report of a run: `report.html`, one file that needs nothing else, `cells.csv`, and
//! histograms of latency.
//!
//! The page is written with no script and no colour of its own: charts are inline SVG with classes,
//! the style sheet within it has the colours for light, dark and print. All text goes through
//! `maud`, which escapes it. Elements without content have an end tag where XML wants one, so that
//! the body can be checked by a strict parser.

mod cells;
mod chart;
mod curves;
mod head;
mod heat;
mod latency;
pub mod measures;
pub mod names;
mod peers;
mod percentiles;
pub mod quantity;
mod scaling;
mod table;

use freehold_workloads::Run;
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use self::cells::{csv, histogram};
pub use self::names::Names;
pub use self::percentiles::{heading, merged, percentiles};

const STYLE: &str = include_str!("style.css");

fn section(id: &str, title: &str, content: &Markup) -> Markup {
    html! { section id=(id) { h2 { (title) } (content) } }
}

/// The page of a run, complete or not.
pub fn html(run: &Run) -> String {
    let names = Names::of(&[run]);
    let sections = [
        ("scaling", "Scaling over shards", curves::over_shards(run, &names)),
        ("cross", "Cross-shard transactions", curves::over_cross(run, &names)),
        ("latency", "Latency", latency::section(run, &names)),
        ("traffic", "Traffic between shards", heat::section(run, &names)),
        ("peers", "Peers", peers::section(run, &names)),
        ("overhead", "What the tool itself costs", table::overhead(run)),
        ("conditions", "Machine and method", head::conditions(run, &names)),
        ("cells", "All cells", table::section(run)),
    ];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Freehold " (run.version) ": shard scaling" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head::title(run, &names))
                    (head::notices(run, &names))
                    (head::tiles(run, &names))
                    nav { @for (id, title, _) in &sections { a href=(format!("#{id}")) { (title) } } }
                    @for (id, title, content) in &sections { (section(id, title, content)) }
                    footer { p.quiet { "Made by Freehold's example " code { "shard_scaling" } "; every figure is in " code { "run.json" } " beside it." } }
                }
            }
        }
    };
    page.into_string()
}
