//! Two runs, cell by cell: what became faster or slower, and what makes that doubtful. Cells are
//! the same if all of [`Cell`] is equal.

use freehold_workloads::{Cell, Machine, Measured, Outcome, Repetition, Run, Spread};
use serde::Serialize;

use freehold_scaling::report::measures::{self, is_closed};
use freehold_scaling::report::names::Names;
use freehold_scaling::report::quantity::count;

/// What became of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Slower by more than the tolerance, and the ranges do not overlap. What is slower [`Measure`]
    /// says.
    Regression,
    /// It had a rate, and now it failed or cannot be done.
    Lost,
    /// Slower by more than the tolerance, but the ranges overlap: it may be chance.
    MaybeSlower,
    /// Within the tolerance.
    Same,
    /// Faster by more than the tolerance, and the ranges do not overlap.
    Faster,
    /// Faster by more than the tolerance, but the ranges overlap.
    MaybeFaster,
    /// The engine cannot do it, then and now. Nothing is wrong with that.
    Neither,
    /// There is nothing to compare, as the note says.
    Incomparable,
}

/// Which figure decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Of closed loops: less is slower.
    Rate,
    /// Of open loops, whose rate is what arrives as long as they keep up: more is slower.
    P99,
}

/// A figure of several repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl From<Spread> for Range {
    fn from(Spread { median, lowest, highest }: Spread) -> Self {
        Range { median, lowest, highest }
    }
}

impl Range {
    fn overlaps(&self, other: &Range) -> bool {
        self.lowest <= other.highest && other.lowest <= self.highest
    }
}

/// A figure before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    pub before: Range,
    pub after: Range,
    /// (after - before) / before, of the medians.
    pub change: f64,
}

/// A cell in both runs, or in one.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The cell in words.
    pub name: String,
    pub cell: Cell,
    pub verdict: Verdict,
    /// What the verdict is by.
    pub decided_by: Measure,
    /// Committed a second.
    pub rate: Option<Change>,
    /// Nanoseconds.
    pub p99: Option<Change>,
    /// CPU nanoseconds per transaction.
    pub cpu: Option<Change>,
    /// The machine was busy during one of them.
    pub is_disturbed: bool,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// All of two runs.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// How much slower a cell may be, from 0 to 1.
    pub tolerance: f64,
    /// Cells that are slower or lost.
    pub regressions: usize,
    /// What makes the comparison doubtful.
    pub doubts: Vec<String>,
    /// In the order of the first run, then what only the second has.
    pub cells: Vec<Compared>,
}

fn change(before: &Measured, after: &Measured, of: fn(&Repetition) -> Option<f64>) -> Option<Change> {
    let range =
        |measured: &Measured| Spread::of(measured.repetitions().iter().filter_map(of)).map(Range::from);
    let (before, after) = (range(before)?, range(after)?);
    // Without anything before there is no change to tell.
    (before.median > 0.0).then(|| Change { before, after, change: after.median / before.median - 1.0 })
}

/// Why a cell has no figure.
fn without_figure(run: &str, outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Measured(repetitions) if !repetitions.is_empty() => None,
        Outcome::Measured(_) | Outcome::Pending => Some(format!("{run}: not measured")),
        Outcome::Cannot(why) => Some(format!("{run}: cannot: {why}")),
        Outcome::Failed(why) => Some(format!("{run}: failed: {why}")),
    }
}

/// What decides for a cell.
fn measure(cell: &Cell) -> Measure {
    if is_closed(cell) { Measure::Rate } else { Measure::P99 }
}

fn verdict(before: &Measured, after: &Measured, decides: Option<&Change>, tolerance: f64) -> Verdict {
    let Some(Change { before: earlier, after: later, change }) = decides else {
        let cannot = |measured: &Measured| matches!(measured.outcome, Outcome::Cannot(_));
        if cannot(before) && cannot(after) {
            return Verdict::Neither;
        }
        let is_lost = matches!(after.outcome, Outcome::Failed(_) | Outcome::Cannot(_));
        let had_one = before.rate().is_some();
        return if had_one && is_lost { Verdict::Lost } else { Verdict::Incomparable };
    };
    let gain = match measure(&before.cell) {
        Measure::Rate => *change,
        Measure::P99 => -change,
    };
    match (earlier.overlaps(later), gain) {
        (false, gain) if gain < -tolerance => Verdict::Regression,
        (true, gain) if gain < -tolerance => Verdict::MaybeSlower,
        (false, gain) if gain > tolerance => Verdict::Faster,
        (true, gain) if gain > tolerance => Verdict::MaybeFaster,
        _ => Verdict::Same,
    }
}

/// A terminal's lines may be broken anywhere, so spaces are plain.
fn name(names: &Names, measured: &Measured) -> String {
    names.cell(measured).replace('\u{a0}', " ")
}

fn compared(
    names: &Names,
    (before, after): (&Measured, &Measured),
    (earlier, later): (&Run, &Run),
    tolerance: f64,
) -> Compared {
    let rate = change(before, after, |repetition| Some(repetition.per_second));
    let p99 = change(before, after, measures::p99);
    let decided_by = measure(&before.cell);
    let decides = match decided_by {
        Measure::Rate => rate.as_ref(),
        Measure::P99 => p99.as_ref(),
    };
    let mut notes: Vec<_> = without_figure("before", &before.outcome)
        .into_iter()
        .chain(without_figure("after", &after.outcome))
        .collect();
    for (name, run, measured) in [("before", earlier, before), ("after", later, after)] {
        let times = measured.repetitions().len();
        if times > 0 && times < run.repetitions as usize {
            notes.push(format!("{name}: {times} of {} repetitions", run.repetitions));
        }
        if measured.is_disturbed() {
            notes.push(format!("{name}: the machine was busy"));
        }
    }
    if rate.is_some() && decides.is_none() {
        notes.push("no latency was taken, and p99 decides".to_owned());
    }
    // A share of the closed loop's rate: who became faster there has more to do here.
    let arrivals = change(before, after, |repetition| repetition.wanted_per_second);
    if let Some(Change { before, after, change }) = arrivals
        && change.abs() > tolerance
    {
        let (earlier, later) = (count(before.median), count(after.median));
        notes.push(format!("{earlier}/s arrived before, {later}/s after").replace('\u{a0}', " "));
    }
    Compared {
        name: name(names, before),
        cell: before.cell.clone(),
        verdict: verdict(before, after, decides, tolerance),
        decided_by,
        rate,
        p99,
        cpu: change(before, after, measures::cpu_ns),
        is_disturbed: before.is_disturbed() || after.is_disturbed(),
        notes,
    }
}

fn alone(names: &Names, measured: &Measured, run: &str) -> Compared {
    Compared {
        name: name(names, measured),
        cell: measured.cell.clone(),
        verdict: Verdict::Incomparable,
        decided_by: measure(&measured.cell),
        rate: None,
        p99: None,
        cpu: None,
        is_disturbed: measured.is_disturbed(),
        notes: vec![format!("only {run}")],
    }
}

/// What two runs were not made alike in.
fn differences(before: &Run, after: &Run) -> Vec<String> {
    let mut doubts = Vec::new();
    for (run, name) in [(before, "before"), (after, "after")] {
        if run.is_debug {
            doubts.push(format!("{name} is of a debug build"));
        }
    }
    let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    type Fact = (&'static str, fn(&Machine) -> Option<String>);
    let facts: [Fact; 8] = [
        ("CPUs", |machine| machine.cpu.clone()),
        ("numbers of CPUs", |machine| Some(machine.cpus.len().to_string())),
        ("cores", |machine| machine.cores.map(|cores| cores.to_string())),
        ("memory", |machine| machine.memory.map(|memory| format!("{} MiB", memory >> 20))),
        ("governors", |machine| machine.governor.clone()),
        ("virtualisation", |machine| machine.virtualisation.clone()),
        ("kernels", |machine| machine.kernel.clone()),
        ("file systems", |machine| machine.file_system.clone()),
    ];
    for (name, fact) in facts {
        let (one, other) = (fact(&before.machine), fact(&after.machine));
        if one != other {
            doubts.push(format!("the machines differ in their {name}: {} and {}", told(&one), told(&other)));
        }
    }
    if before.compiler != after.compiler {
        doubts.push(format!("the compilers differ: {} and {}", before.compiler, after.compiler));
    }
    if before.seed != after.seed {
        doubts.push(format!("the seeds differ: {:#x} and {:#x}", before.seed, after.seed));
    }
    if (before.warm_up, before.measure) != (after.warm_up, after.measure) {
        doubts.push("they were not measured for the same time".to_owned());
    }
    doubts
}

impl Comparison {
    /// Of two runs; of one engine only, if it is named.
    pub fn of(before: &Run, after: &Run, tolerance: f64, engine: Option<&str>) -> Self {
        let names = Names::of(&[before, after]);
        let is_wanted = |measured: &&Measured| engine.is_none_or(|engine| measured.cell.engine == engine);
        let find = |run: &'_ Run, wanted: &Measured| -> Option<usize> {
            run.cells.iter().position(|measured| measured.cell == wanted.cell)
        };
        let of_both = before.cells.iter().filter(is_wanted).map(|measured| match find(after, measured) {
            Some(other) => compared(&names, (measured, &after.cells[other]), (before, after), tolerance),
            None => alone(&names, measured, "before"),
        });
        let of_after =
            after.cells.iter().filter(is_wanted).filter(|measured| find(before, measured).is_none());
        let cells: Vec<_> =
            of_both.chain(of_after.map(|measured| alone(&names, measured, "after"))).collect();
        let mut doubts = differences(before, after);
        let count =
            |is_counted: &dyn Fn(&Compared) -> bool| cells.iter().filter(|cell| is_counted(cell)).count();
        let disturbed = count(&|cell| cell.is_disturbed && cell.rate.is_some());
        if disturbed > 0 {
            doubts.push(format!("{disturbed} of the cells were measured on a busy machine"));
        }
        let incomparable = count(&|cell| cell.verdict == Verdict::Incomparable);
        if incomparable > 0 {
            doubts.push(format!("{incomparable} of the cells have no figure to compare in one of the runs"));
        }
        let regressions = count(&|cell| matches!(cell.verdict, Verdict::Regression | Verdict::Lost));
        Comparison { tolerance, regressions, doubts, cells }
    }

    /// How many cells were in both runs and had a figure at least before.
    pub fn compared(&self) -> usize {
        let is_compared =
            |cell: &&Compared| !matches!(cell.verdict, Verdict::Incomparable | Verdict::Neither);
        self.cells.iter().filter(is_compared).count()
    }
}
