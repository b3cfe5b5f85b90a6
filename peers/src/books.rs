//! From what the clients found to an answer: the clock they share, and the books that must balance.

use std::thread::sleep;
use std::time::Duration;

use freehold_workloads::{Answer, Disturbance, Pace, Part, Phase, Repetition, Trial, Watch, Workload};

/// What one client brings home.
pub struct Brought<W: Workload> {
    /// What it found.
    pub part: Part<W>,
    /// Transactions it was answered, warm-up and drain included.
    pub answered: u64,
    /// Those it had to begin anew, as often as it had to.
    pub reruns: u64,
}

impl<W: Workload> Default for Brought<W> {
    fn default() -> Self {
        Brought { part: Part::default(), answered: 0, reruns: 0 }
    }
}

/// What the process used while it measured, and others.
pub struct Used {
    cpu: Duration,
    disturbance: Disturbance,
}

/// Lets the clients warm up, measure, and stop.
pub fn conduct(pace: &Pace, trial: &Trial) -> Used {
    sleep(Duration::from_secs_f64(trial.warm_up));
    pace.begin(Phase::Measure);
    let watch = Watch::begin();
    sleep(Duration::from_secs_f64(trial.measure));
    pace.begin(Phase::Stop);
    let (_, cpu, disturbance) = watch.end();
    Used { cpu, disturbance }
}

/// Merges what all clients brought and compares it with the rows there are.
pub fn balance<W: Workload>(
    workload: &W,
    trial: &Trial,
    brought: Vec<Brought<W>>,
    used: &Used,
    found: &W::Audit,
) -> Answer {
    let answered = brought.iter().map(|brought| brought.answered).sum();
    let reruns = brought.iter().map(|brought| brought.reruns).sum();
    let (tally, counted) = match Part::together(brought.into_iter().map(|brought| brought.part)) {
        Ok(together) => together,
        Err(why) => return Answer::Failed(why),
    };
    if let Err(why) = workload.verdict(&tally, found) {
        return Answer::Failed(why);
    }
    Answer::Measured(Box::new(Repetition {
        cpu_seconds: used.cpu.as_secs_f64(),
        wanted_per_second: trial.per_second,
        traffic_transactions: answered,
        reruns,
        disturbance: used.disturbance,
        ..counted
    }))
}
