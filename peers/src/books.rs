//! From what the clients found to an answer: the clock they share, and the books that must balance.

use std::thread::sleep;
use std::time::Duration;

use freehold_workloads::{
    Answer, Disturbance, Latency, Pace, Part, Phase, Repetition, Trial, Watch, Workload, latencies,
};

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
    let mut tally = W::Tally::default();
    let mut latency = latencies();
    let mut repetition = Repetition {
        seconds: trial.measure,
        cpu_seconds: used.cpu.as_secs_f64(),
        wanted_per_second: trial.per_second,
        disturbance: used.disturbance,
        ..Repetition::default()
    };
    let mut longest: f64 = 0.0;
    for Brought { part, answered, reruns } in brought {
        if let Some(why) = part.broken {
            return Answer::Failed(why);
        }
        repetition.traffic_transactions += answered;
        repetition.reruns += reruns;
        let seconds = part.seconds();
        // Who was kept from the CPU all the time that was measured has counted, but not then.
        if seconds > 0.0 {
            longest = longest.max(seconds);
            repetition.committed += part.committed;
            repetition.aborted += part.aborted;
            repetition.spanning += part.spanning;
            repetition.per_second += part.committed as f64 / seconds;
            latency.add(&part.latency).expect("all histograms have the same bounds");
        }
        tally += part.tally;
    }
    if longest > 0.0 {
        repetition.seconds = longest;
    }
    repetition.latency = Latency::from(&latency);
    match workload.verdict(&tally, found) {
        Ok(()) => Answer::Measured(Box::new(repetition)),
        Err(why) => Answer::Failed(why),
    }
}
