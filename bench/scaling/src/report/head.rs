//! The page's head: what was run, on what, how, what has to be known before a figure is believed,
//! and the key figures.

use std::time::{Duration, UNIX_EPOCH};

use freehold_workloads::{Cache, Durability, Machine, Measured, Outcome, Run};
use maud::{Markup, html};

use super::measures::{self, is_closed, own};
use super::names::{self, Names};
use super::peers;
use super::quantity::{bytes, count, nanoseconds, number, percent};

/// Sentences of one kind after which the rest is counted.
const SAID_MAX: usize = 5;

/// Repetitions from which a range says something.
const REPETITIONS_MIN: u32 = 5;

fn date(seconds: u64) -> String {
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    // To the minute; nobody reads seconds.
    text.get(..16).unwrap_or(&text).replace('T', " ") + " UTC"
}

fn lasted(run: &Run) -> String {
    humantime::format_duration(Duration::from_secs(run.ended.saturating_sub(run.began))).to_string()
}

/// What was run and when.
pub fn title(run: &Run, names: &Names) -> Markup {
    let mut workloads: Vec<_> = names.specs().iter().map(|spec| spec.name()).collect();
    workloads.dedup();
    html! {
        header {
            p.over { "Freehold " (run.version) " · shard scaling" }
            h1 { (workloads.join(", ")) @if let Some(cpu) = &run.machine.cpu { span.on { " on " (cpu) } } }
            p.quiet { (date(run.began)) ", " (lasted(run)) " · commit " code { @if run.commit.is_empty() { "unknown" } @else { (run.commit) } } " · " (run.compiler) " · seed " code { (format!("{:#x}", run.seed)) } }
            pre.command { (command(run)) }
        }
    }
}

/// The command as it could be typed: what a shell would take apart is quoted.
fn command(run: &Run) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@%+".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    run.command.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn listed<'a>(names: &Names, cells: impl Iterator<Item = (&'a Measured, String)>) -> Markup {
    let cells: Vec<_> = cells.collect();
    html! {
        ul {
            @for (measured, says) in cells.iter().take(SAID_MAX) { li { (names.cell(measured)) @if !says.is_empty() { ": " (says) } } }
            @if cells.len() > SAID_MAX { li { "and " (cells.len() - SAID_MAX) " more; see the table" } }
        }
    }
}

/// What has to be known before a figure is believed.
pub fn notices(run: &Run, names: &Names) -> Markup {
    let (pending, partial) = measures::missing(run);
    let disturbed: Vec<_> = run.cells.iter().filter(|measured| measured.is_disturbed()).collect();
    let measured = run.cells.iter().filter(|measured| !measured.repetitions().is_empty()).count();
    let failed = || {
        run.cells.iter().filter_map(|measured| match &measured.outcome {
            Outcome::Failed(why) => Some((measured, why.clone())),
            _ => None,
        })
    };
    let took = |measured: &Measured| {
        let disturbance = measures::disturbance(measured);
        format!("others up to {}, stolen {}", percent(disturbance.others), percent(disturbance.stolen))
    };
    html! {
        @if run.is_debug {
            div.notice.bad { strong { "A debug build." } " Its figures say nothing about Freehold; run it with " code { "--release" } "." }
        }
        @if failed().next().is_some() {
            div.notice.bad { strong { (failed().count()) " of " (run.cells.len()) " cells failed" } " and have no figures." (listed(names, failed())) }
        }
        @if pending + partial > 0 {
            div.notice.warn { strong { "This run is not complete." } " Of " (run.cells.len()) " cells " (pending) " are pending"
                @if partial > 0 { ", and " (partial) " lack repetitions" } ". " code { "--resume" } " goes on with it." }
        }
        @if run.repetitions < REPETITIONS_MIN {
            div.notice.warn { strong { "Fewer than five repetitions were made" } " of each cell: " (run.repetitions)
                ". Ranges of so few say little, and whether two of them overlap says no more." }
        }
        @if !disturbed.is_empty() {
            div.notice.warn { strong { "The machine was busy" } " while " (disturbed.len()) " of " (measured) " measured cells ran: in at least one repetition others took more than "
                (percent(freehold_workloads::Disturbance::MAX)) " of its CPU time. Their points are hollow and their rows are marked; read them with care."
                (listed(names, disturbed.iter().map(|measured| (*measured, took(measured))))) }
        }
    }
}

struct Figure {
    name: String,
    value: String,
    about: String,
}

/// The figures one asks for first.
fn key_figures(run: &Run, names: &Names) -> Vec<Figure> {
    let rate = |measured: &&Measured| measured.rate().map_or(0.0, |rate| rate.median);
    let fastest = |is_wanted: &dyn Fn(&Measured) -> bool| {
        let cells = own(run).filter(|measured| is_closed(&measured.cell) && is_wanted(measured));
        cells.max_by(|a, b| rate(a).total_cmp(&rate(b)))
    };
    let place = |measured: &Measured| {
        let cell = &measured.cell;
        let mark = if measured.is_disturbed() { "; the machine was busy" } else { "" };
        format!(
            "{}, {}, cross {}, {}{mark}",
            names.short(&cell.spec),
            names::shards(cell),
            names::spanned(measured),
            names::durability(cell.durability)
        )
    };
    let mut figures = Vec::new();
    let mut say = |name: &str, value: String, about: String| {
        figures.push(Figure { name: name.to_owned(), value, about })
    };
    let best = fastest(&|_| true);
    if let Some(best) = best {
        say("best rate", format!("{}/s", count(rate(&best))), place(best));
        // Beside the same work at one shard; there nothing spans, so any share will do.
        let same = |measured: &&Measured| {
            let (one, other) = (&measured.cell, &best.cell);
            one.shards == 1
                && one.spec == other.spec
                && one.durability == other.durability
                && one.load == other.load
        };
        let cells: Vec<_> = own(run).filter(same).collect();
        let base = cells.iter().find(|measured| measured.cell.cross == best.cell.cross).or(cells.first());
        if let Some(base) = base.filter(|_| best.cell.shards > 1) {
            let efficiency = rate(&best) / (best.cell.shards as f64 * rate(base));
            // A base that is too low makes it look good.
            let mark = if base.is_disturbed() || best.is_disturbed() { "; the machine was busy" } else { "" };
            say(
                "efficiency there",
                number(efficiency),
                format!(
                    "of {} times {}/s at one shard, with the same rows in all{mark}",
                    best.cell.shards,
                    count(rate(base))
                ),
            );
        }
        if let Some(p99) = best.spread(|repetition| repetition.latency.p99 as f64) {
            say(
                "p99 there",
                nanoseconds(p99.median),
                format!(
                    "{}, from {} to {}",
                    best.cell.load,
                    nanoseconds(p99.lowest),
                    nanoseconds(p99.highest)
                ),
            );
        }
        if let Some(cpu) = measures::spread(best, measures::cpu_ns) {
            say("CPU per transaction", nanoseconds(cpu.median), "of the whole process, there".to_owned());
        }
    }
    let durable = fastest(&|measured| measured.cell.durability == Durability::Durable);
    if let Some(durable) = durable.filter(|durable| best.is_none_or(|best| best.cell != durable.cell)) {
        say("best rate, durable", format!("{}/s", count(rate(&durable))), place(durable));
    }
    let (won, of) = peers::standing(run);
    if of > 0 {
        say(
            "against peers",
            format!("{won} of {of}"),
            "comparisons of closed loops in which Freehold is first".to_owned(),
        );
    }
    figures
}

/// The key figures as tiles.
pub fn tiles(run: &Run, names: &Names) -> Markup {
    let figures = key_figures(run, names);
    html! {
        @if !figures.is_empty() {
            div.tiles {
                @for Figure { name, value, about } in figures {
                    div.tile { span.name { (name) } span.value { (value) } span.about { (about) } }
                }
            }
        }
    }
}

fn machine_rows(machine: &Machine) -> Vec<(&'static str, String)> {
    let told = |known: &Option<String>| known.clone().unwrap_or_else(|| "unknown".to_owned());
    let counted = |known: Option<usize>| known.map_or("unknown".to_owned(), |known| known.to_string());
    let cache = |cache: &Cache| {
        let shared =
            if cache.shared_by > 1 { format!(", shared by {} CPUs", cache.shared_by) } else { String::new() };
        format!("{} {}{shared}", cache.name, bytes(cache.bytes as f64))
    };
    let caches: Vec<_> = machine.caches.iter().map(cache).collect();
    let cpus = format!(
        "{} allowed, threads of {} cores; sockets: {}",
        machine.cpus.len(),
        counted(machine.cores),
        counted(machine.sockets)
    );
    let load = |load: Option<f64>| load.map_or("unknown".to_owned(), |load| format!("{load:.2}"));
    let us = |time: f64| nanoseconds(1e3 * time);
    vec![
        ("CPU", told(&machine.cpu)),
        ("CPUs", cpus),
        ("caches", if caches.is_empty() { "unknown".to_owned() } else { caches.join("; ") }),
        (
            "SMT",
            machine.smt.map_or("unknown", |smt| if smt { "yes: CPUs share cores" } else { "no" }).to_owned(),
        ),
        ("NUMA nodes", counted(machine.numa_nodes)),
        ("governor", told(&machine.governor)),
        ("virtualisation", told(&machine.virtualisation)),
        ("memory", machine.memory.map_or("unknown".to_owned(), |memory| bytes(memory as f64))),
        ("kernel", told(&machine.kernel)),
        ("system", told(&machine.system)),
        ("file system", told(&machine.file_system)),
        (
            "write and sync 4 KiB",
            machine.sync.map_or("unknown".to_owned(), |sync| {
                format!("median {}, p99 {}", us(sync.p50), us(sync.p99))
            }),
        ),
        ("load average", format!("{} before, {} after", load(machine.load_before), load(machine.load_after))),
    ]
}

/// The machine, the method and the workloads.
pub fn conditions(run: &Run, names: &Names) -> Markup {
    html! {
        div.row.wide {
            div.panel {
                h3 { "Machine" }
                dl.facts { @for (name, value) in machine_rows(&run.machine) { dt { (name) } dd { (value) } } }
            }
            div.panel {
                h3 { "Method" }
                p { "Each cell was to be measured " (run.repetitions) @if run.repetitions == 1 { " time" } @else { " times" } ": " (number(run.warm_up)) " s of warm-up, then " (number(run.measure))
                    " s measured. Figures are medians; bars and ranges go from the lowest to the highest repetition." }
                p { "There is one client a shard, with transactions drawn before the clock starts from the seed, so every engine gets the same ones. Each workload's invariant was checked at the end of each repetition; a cell whose books did not balance has failed and has no figure." }
                p { "A repetition is marked as disturbed when others, or other guests of the host, took more than " (percent(freehold_workloads::Disturbance::MAX)) " of the machine's CPU time meanwhile. With a log, the kernel's threads that write it count as others." }
                h3 { "Workloads" }
                ul { @for spec in names.specs() { li { (Names::full(spec)) } } }
            }
        }
    }
}
