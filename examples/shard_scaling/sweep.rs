//! The sweep: all cells in turn, again and again, until each was measured as often as wanted.
//!
//! Repetitions go round all cells, so that what changes on the machine over time meets all of them; whatever ends the run, every cell has
//! about as many. What was found is kept after each trial, or, of a large run, a little later.

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
/// # Errors
/// If results cannot be kept, or the peers' process fails. What was found until then is kept.
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
    // Those that take a share of a closed loop's rate come when that is known, and does not change any more.
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
                Err(why) => Some(Answer::Cannot(why)),
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
            let Some(answer) = answer else { continue };
            bar.inc(1);
            take(&mut run.cells[number], answer, &bar, (wanted - round) as u64);
            run.ended = now();
            kept.keep(results, run)?;
        }
    }
    bar.finish_and_clear();
    Ok(Ended::Done)
}

/// When the run was last written. Writing takes at most a twentieth of the time: a large run is large, and goes to the disk that is measured.
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
        None => peers.insert(Peers::start()?),
    };
    peers.measure(trial).map(Some)
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

/// The rate of an open loop: a share of what the same cell reached in its closed loop, which comes before it.
fn rate(run: &Run, cell: &Cell) -> Result<Option<f64>, String> {
    match cell.load {
        Load::Closed { .. } => Ok(None),
        Load::Rate { per_second } => Ok(Some(per_second)),
        Load::Open { share } => {
            let same = |it: &&Measured| {
                matches!(it.cell.load, Load::Closed { .. })
                    && Cell { load: cell.load, ..it.cell.clone() } == *cell
            };
            let closed = run.cells.iter().find(same).and_then(Measured::rate);
            closed
                .map(|rate| Some(share * rate.median))
                .ok_or_else(|| "there is no rate of a closed loop to take a share of".to_owned())
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
