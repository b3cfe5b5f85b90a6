//! What workloads and cells are called on the page: short, and different where they differ.

use freehold_workloads::{Cell, Cross, Durability, Load, Measured, Run, Spec};
use serde_json::Value;

use super::measures;
use super::quantity::percent;

/// The engine a run is about; all others are peers.
pub const SUBJECT: &str = "freehold";

/// The names of the workloads of a run, or of two that are compared.
pub struct Names {
    specs: Vec<Spec>,
    loads: Vec<Load>,
}

/// A setting's value in words; those of new workloads need no change here.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => match number.as_u64() {
            Some(large) if large >= 10_000 => indicatif::HumanCount(large).to_string(),
            _ => number.to_string(),
        },
        Value::String(text) => text.replace('_', " "),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let field =
                |(name, value): (&String, &Value)| format!("{} {}", name.replace('_', " "), words(value));
            fields.iter().map(field).collect::<Vec<_>>().join(" ")
        }
    }
}

/// The settings of a workload, by name.
fn settings(spec: &Spec) -> Vec<(String, Value)> {
    // A variant is an object with its name as the only field, and its settings within.
    let value = serde_json::to_value(spec).unwrap_or_default();
    let inner = value.as_object().and_then(|variant| variant.values().next());
    let fields = inner.and_then(Value::as_object).into_iter().flatten();
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn named(spec: &Spec, settings: impl Iterator<Item = (String, Value)>) -> String {
    let settings: Vec<_> =
        settings.map(|(name, value)| format!("{} {}", name.replace('_', " "), words(&value))).collect();
    match settings.is_empty() {
        true => spec.name().to_owned(),
        false => format!("{}, {}", spec.name(), settings.join(", ")),
    }
}

impl Names {
    /// Of everything in `runs`.
    pub fn of(runs: &[&Run]) -> Self {
        let mut names = Names { specs: Vec::new(), loads: Vec::new() };
        for cell in runs.iter().flat_map(|run| &run.cells).map(|measured| &measured.cell) {
            if !names.specs.contains(&cell.spec) {
                names.specs.push(cell.spec.clone());
            }
            if !names.loads.contains(&cell.load) {
                names.loads.push(cell.load);
            }
        }
        names
    }

    /// Every workload with its settings, in order.
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// The workload, with what sets it apart from the others of its name.
    pub fn short(&self, spec: &Spec) -> String {
        let others: Vec<_> =
            self.specs.iter().filter(|other| other.name() == spec.name()).map(settings).collect();
        let varies = |setting: &(String, Value)| others.iter().any(|other| !other.contains(setting));
        named(spec, settings(spec).into_iter().filter(varies))
    }

    /// The workload with all its settings.
    pub fn full(spec: &Spec) -> String {
        named(spec, settings(spec).into_iter())
    }

    /// The whole cell. Its own [`Display`](std::fmt::Display) leaves the workload's settings out.
    pub fn cell(&self, measured: &Measured) -> String {
        let Cell { engine, spec, durability, load, .. } = &measured.cell;
        let (spec, shards, cross) = (self.short(spec), shards(&measured.cell), spanned(measured));
        format!("{engine}, {spec}, {shards}, cross {cross}, {durability}, {load}")
    }

    /// What holds of a whole chart: durability, and the load where there is more than one.
    pub fn conditions(&self, durability: Durability, load: Load) -> String {
        match self.loads.len() {
            0 | 1 => self::durability(durability).to_owned(),
            _ => format!("{}; {load}", self::durability(durability)),
        }
    }
}

/// What is kept, in words.
pub fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::None => "durability none",
        Durability::Applied => "durability applied",
        Durability::Durable => "durability durable",
    }
}

/// How much was to span shards.
pub fn cross(cross: Cross) -> String {
    match cross {
        Cross::Natural => "natural".to_owned(),
        Cross::Percent(percent) => format!("{percent}\u{a0}%"),
    }
}

/// How much was to span shards, and how much did.
pub fn spanned(measured: &Measured) -> String {
    spanned_by(measured.cell.cross, &[measured])
}

/// The same of cells that share the setting: `100 % (40 % span)`, since of most workloads only some
/// transactions can span. What was measured is left out where the setting says it already, and
/// where there is one shard.
pub fn spanned_by(setting: Cross, cells: &[&Measured]) -> String {
    let spread = cells.iter().filter(|measured| measured.cell.shards > 1);
    let shares = spread.filter_map(|measured| measures::median(measured, measures::spanning));
    let (lowest, highest) =
        shares.fold((f64::INFINITY, 0.0), |(low, high), share| (share.min(low), share.max(high)));
    // What is drawn at random differs by some percent of itself.
    let is_near = |one: f64, other: f64| (one - other).abs() <= 0.03 * other;
    let is_said = match setting {
        Cross::Natural => false,
        Cross::Percent(wanted) => is_near(lowest, wanted / 100.0) && is_near(highest, wanted / 100.0),
    };
    match lowest <= highest && !is_said {
        false => cross(setting),
        true if is_near(lowest, highest) => format!("{} ({} span)", cross(setting), percent(highest)),
        true => format!("{} ({} to {} span)", cross(setting), percent(lowest), percent(highest)),
    }
}

/// `1 shard`, `4 shards`; of an engine without shards, threads.
pub fn shards(cell: &Cell) -> String {
    let unit = if cell.engine == SUBJECT { "shard" } else { "thread" };
    format!("{}\u{a0}{unit}{}", cell.shards, if cell.shards == 1 { "" } else { "s" })
}
