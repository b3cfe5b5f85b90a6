//! The sweep: all cells in turn, again and again, until each was measured as often as wanted.
//!
//! Repetitions go round all cells, so that what changes on the machine over time meets all of them;
//! whatever ends the run, every cell has about as many. What was found is kept after each trial,
//! or, of a large run, a little later.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use freehold_workloads::{Answer, Cell, Load, Measured, Outcome, Run, Spec, Trial};
use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::{self, Watcher};
use crate::overhead::Overhead;
use crate::peers::{Peers, PeersError};
use crate::results::{Results, ResultsError};

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error(transparent)]
    Results(#[from] ResultsError),
    #[error(transparent)]
    Peers(#[from] PeersError),
}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All was measured.
    Done,
    /// Somebody wanted it to end.
    Interrupted,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Measures what is missing in `run`.
///
/// # Errors If results cannot be kept, or the peers' process cannot be started. What was found
/// until then is kept.
pub fn sweep(run: &mut Run, results: &Results, interrupted: &AtomicBool) -> Result<Ended, SweepError> {
    let wanted = run.repetitions as usize;
    let is_missing = |measured: &Measured, round: usize| match &measured.outcome {
        Outcome::Pending => true,
        Outcome::Measured(repetitions) => repetitions.len() <= round,
        Outcome::Cannot(_) | Outcome::Failed(_) => false,
    };
    let missing: u64 = (0..wanted)
        .map(|round| run.cells.iter().filter(|measured| is_missing(measured, round)).count() as u64)
        .sum();
    let bar = ProgressBar::new(missing);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {eta} to go  {wide_msg}");
    bar.set_style(style.expect("the template is right"));
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut peers = None;
    // Those that take a share of a closed loop's rate come when that is known, and does not change
    // any more.
    let is_late = |measured: &Measured| matches!(measured.cell.load, Load::Open { .. });
    let rounds = (0..wanted).map(|round| (round, false)).chain((0..wanted).map(|round| (round, true)));
    let mut kept = Kept::default();
    for (round, late) in rounds {
        for number in 0..run.cells.len() {
            if is_late(&run.cells[number]) != late || !is_missing(&run.cells[number], round) {
                continue;
            }
            if interrupted.load(Ordering::Relaxed) {
                bar.abandon_with_message("interrupted");
                return Ok(Ended::Interrupted);
            }
            let cell = run.cells[number].cell.clone();
            bar.set_message(format!("{cell}"));
            let answer = match rate(run, &cell) {
                Err(answer) => Some(answer),
                Ok(per_second) => {
                    let trial = Trial {
                        seed: run.seed,
                        warm_up: run.warm_up,
                        measure: run.measure,
                        per_second,
                        directory: run.data.clone(),
                        cell: cell.clone(),
                    };
                    measure(&trial, &mut peers, &bar, interrupted)?
                }
            };
            // Only who was interrupted has no answer.
            let Some(answer) = answer else {
                bar.abandon_with_message("interrupted");
                return Ok(Ended::Interrupted);
            };
            bar.inc(1);
            take(&mut run.cells[number], answer, &bar, (wanted - round) as u64);
            run.ended = now();
            kept.keep(results, run)?;
        }
    }
    bar.finish_and_clear();
    Ok(Ended::Done)
}

/// When the run was last written. Writing takes at most a twentieth of the time: a large run is
/// large, and goes to the disk that is measured.
#[derive(Default)]
struct Kept(Option<(Instant, Duration)>);

impl Kept {
    fn keep(&mut self, results: &Results, run: &Run) -> Result<(), ResultsError> {
        if self.0.is_some_and(|(at, took)| at.elapsed() < 20 * took) {
            return Ok(());
        }
        let begun = Instant::now();
        results.keep(run)?;
        self.0 = Some((Instant::now(), begun.elapsed()));
        Ok(())
    }
}

fn measure(
    trial: &Trial,
    peers: &mut Option<Peers>,
    bar: &ProgressBar,
    interrupted: &AtomicBool,
) -> Result<Option<Answer>, PeersError> {
    if trial.cell.engine == engine::NAME {
        let cell = &trial.cell;
        let rate = |rate: f64| bar.set_message(format!("{:.2} M/s  {cell}", rate / 1e6));
        return Ok(engine::measure(trial, &Watcher { interrupted, rate: &rate }));
    }
    let peers = match peers {
        Some(peers) => peers,
        None => peers.insert(Peers::new()?),
    };
    peers.measure(trial, interrupted)
}

/// Takes an answer in. A cell that has none has no trials left, of `left` rounds.
fn take(measured: &mut Measured, answer: Answer, bar: &ProgressBar, left: u64) {
    match answer {
        Answer::Measured(repetition) => match &mut measured.outcome {
            Outcome::Measured(repetitions) => repetitions.push(*repetition),
            outcome => *outcome = Outcome::Measured(vec![*repetition]),
        },
        Answer::Cannot(why) => {
            measured.outcome = Outcome::Cannot(why);
            bar.dec_length(left - 1);
        }
        Answer::Failed(why) => {
            bar.suspend(|| eprintln!("shard_scaling: {}: {why}", measured.cell));
            measured.outcome = Outcome::Failed(why);
            bar.dec_length(left - 1);
        }
    }
}

/// The rate of an open loop: a share of what the same cell reached in its closed loop, which comes
/// before it. If that has none, neither has this, and for the same reason.
fn rate(run: &Run, cell: &Cell) -> Result<Option<f64>, Answer> {
    match cell.load {
        Load::Closed { .. } => Ok(None),
        Load::Rate { per_second } => Ok(Some(per_second)),
        Load::Open { share } => {
            let same = |it: &&Measured| {
                matches!(it.cell.load, Load::Closed { .. })
                    && Cell { load: cell.load, ..it.cell.clone() } == *cell
            };
            let closed = run.cells.iter().find(same);
            match closed.map(|closed| (&closed.outcome, closed.rate())) {
                Some((_, Some(rate))) => Ok(Some(share * rate.median)),
                Some((Outcome::Cannot(why), _)) => Err(Answer::Cannot(why.clone())),
                Some((Outcome::Failed(why), _)) => Err(Answer::Failed(why.clone())),
                _ => Err(Answer::Cannot("there is no rate of a closed loop to take a share of".to_owned())),
            }
        }
    }
}

/// Measures what the benchmark itself costs; of a workload with several sizes or skews the most.
pub fn overheads(run: &mut Run) {
    let mut specs: Vec<&Spec> = Vec::new();
    for measured in &run.cells {
        if !specs.contains(&&measured.cell.spec) {
            specs.push(&measured.cell.spec);
        }
    }
    let mut most = BTreeMap::<String, f64>::new();
    for spec in specs {
        if let Some(ns) = spec.visit(Overhead { seed: run.seed }) {
            let known = most.entry(spec.name().to_owned()).or_default();
            *known = known.max(ns);
        }
    }
    run.overhead_ns = most;
}

#[cfg(test)]
mod tests {
    use freehold_workloads::{Cross, Durability, Machine, RUN_FORMAT, SEED, Skew, SmallBank};

    use super::*;

    fn cell(load: Load) -> Cell {
        Cell {
            engine: "somebody".to_owned(),
            spec: Spec::SmallBank(SmallBank { customers: 100, skew: Skew::Uniform }),
            shards: 1,
            cross: Cross::Natural,
            durability: Durability::Durable,
            load,
        }
    }

    fn run(outcome: Outcome) -> Run {
        Run {
            format: RUN_FORMAT,
            command: Vec::new(),
            began: 0,
            ended: 0,
            version: String::new(),
            commit: String::new(),
            compiler: String::new(),
            is_debug: true,
            data: ".".into(),
            seed: SEED,
            warm_up: 0.0,
            measure: 0.1,
            repetitions: 1,
            machine: Machine::default(),
            engines: BTreeMap::new(),
            overhead_ns: BTreeMap::new(),
            cells: vec![Measured { cell: cell(Load::Closed { in_flight: 8 }), outcome }],
        }
    }

    #[test]
    fn an_open_loop_ends_as_its_closed_loop_did_and_says_why() {
        let open = cell(Load::Open { share: 0.5 });
        let why = "it has no log".to_owned();
        let cannot = rate(&run(Outcome::Cannot(why.clone())), &open);
        assert_eq!(cannot, Err(Answer::Cannot(why.clone())));
        let failed = rate(&run(Outcome::Failed(why.clone())), &open);
        assert_eq!(failed, Err(Answer::Failed(why)));
        let none = rate(&run(Outcome::Pending), &open);
        assert!(
            matches!(&none, Err(Answer::Cannot(why)) if why.contains("no rate of a closed loop")),
            "{none:?}"
        );
    }
}
