//! The sweep: all cells in turn, again and again, until each was measured as often as wanted.
//!
//! Repetitions go round all cells, so that what changes on the machine over time meets all of them; whatever ends the run, every cell has
//! about as many. What was found is kept after each trial.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use freehold_workloads::{Answer, Cell, Load, Measured, Outcome, Run, Trial};
use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::{self, Watcher};
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
pub fn sweep(
    run: &mut Run,
    results: &Results,
    data: &Path,
    interrupted: &AtomicBool,
) -> Result<Ended, SweepError> {
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
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let mut peers = None;
    for round in 0..wanted {
        for number in 0..run.cells.len() {
            if !is_missing(&run.cells[number], round) {
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
                        directory: data.to_owned(),
                        cell: cell.clone(),
                    };
                    measure(&trial, &mut peers, &bar, interrupted)?
                }
            };
            let Some(answer) = answer else { continue };
            bar.inc(1);
            take(&mut run.cells[number], answer, &bar, (wanted - round) as u64);
            run.ended = now();
            results.keep(run)?;
        }
    }
    bar.finish_and_clear();
    Ok(Ended::Done)
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

/// Names and sentences of all workloads' overhead, measured now.
pub fn overheads(run: &mut Run) {
    let mut found = BTreeMap::new();
    for measured in &run.cells {
        let spec = &measured.cell.spec;
        if !found.contains_key(spec.name()) {
            found.insert(spec.name().to_owned(), spec.visit(crate::overhead::Overhead { seed: run.seed }));
        }
    }
    run.overhead_ns = found.into_iter().filter_map(|(name, ns)| Some((name, ns?))).collect();
}
