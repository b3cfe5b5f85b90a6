//! What one client does and finds in a cell, with any engine.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::run::{Latency, Repetition};
use crate::workload::{Refused, Workload};

/// Of so many transactions that an engine runs at once, in the client's call, one is timed: looking
/// at the clock takes as long as a transaction.
pub const LATENCY_STRIDE: u64 = 64;

/// The longest latency told apart from longer ones, in nanoseconds: a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// An empty histogram of latencies in nanoseconds, with an error of 1 % at most.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 2).expect("the bounds are in order")
}

/// What clients are to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Work; it is not measured yet.
    WarmUp,
    /// Work, and count.
    Measure,
    /// Ask nothing more, read what is still to come, and end.
    Stop,
}

/// What tells all clients which phase it is. Only ever goes on.
#[derive(Debug, Default)]
pub struct Pace(AtomicU8);

impl Pace {
    /// The phase it is.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measure,
            _ => Phase::Stop,
        }
    }

    /// Begins a phase.
    pub fn begin(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }
}

/// One client's part of a cell. It tallies everything it hears of, and counts what it hears of
/// while measuring.
pub struct Part<W: Workload> {
    /// Of the whole cell, warm-up included.
    pub tally: W::Tally,
    /// While measuring: committed, aborted by the workload's rules, and of both those that spanned
    /// shards.
    pub committed: u64,
    /// See above.
    pub aborted: u64,
    /// See above.
    pub spanning: u64,
    /// Of those timed that were asked, or arrived, while measuring.
    pub latency: Histogram<u64>,
    /// What should not have happened, the first of it.
    pub broken: Option<String>,
    measuring: Option<(Instant, Option<Instant>)>,
    /// 1 until it has ended measuring, and then 0: what comes then is tallied and not counted.
    counts: u64,
}

impl<W: Workload> Default for Part<W> {
    fn default() -> Self {
        Part {
            tally: W::Tally::default(),
            committed: 0,
            aborted: 0,
            spanning: 0,
            latency: latencies(),
            broken: None,
            measuring: None,
            counts: 1,
        }
    }
}

impl<W: Workload> Part<W> {
    /// Looks which phase it is and turns to it. To be called every few transactions; says whether
    /// to go on.
    #[inline]
    pub fn turn_to(&mut self, pace: &Pace) -> bool {
        match (pace.phase(), &mut self.measuring) {
            (Phase::WarmUp, _) | (Phase::Measure, Some(_)) => true,
            (Phase::Measure, None) => {
                self.measuring = Some((Instant::now(), None));
                (self.committed, self.aborted, self.spanning) = (0, 0, 0);
                self.latency.reset();
                true
            }
            (Phase::Stop, Some((_, ended))) => {
                ended.get_or_insert_with(Instant::now);
                self.counts = 0;
                false
            }
            // It heard of nothing while the others measured.
            (Phase::Stop, None) => {
                let now = Instant::now();
                self.measuring = Some((now, Some(now)));
                self.counts = 0;
                (self.committed, self.aborted, self.spanning) = (0, 0, 0);
                self.latency.reset();
                false
            }
        }
    }

    /// Takes note of an outcome.
    #[inline]
    pub fn note(
        &mut self,
        transaction: &W::Transaction,
        spans: bool,
        outcome: Result<W::Reply, Refused<W::Id>>,
    ) {
        let counts = self.counts;
        match outcome {
            Ok(reply) => {
                W::tally(&mut self.tally, transaction, &reply);
                self.committed += counts;
            }
            Err(Refused::Aborted(_)) => self.aborted += counts,
            Err(error) => self.broke(&error.to_string()),
        }
        self.spanning += counts & u64::from(spans);
    }

    /// Takes note of a latency, until now. It counts for what was asked, or had arrived, while it
    /// was measured; so the answer may come when all have stopped, and none that came late is left
    /// out.
    #[inline]
    pub fn time(&mut self, since: Instant) {
        if let Some((begun, ended)) = self.measuring
            && since >= begun
            && ended.is_none_or(|ended| since < ended)
        {
            self.latency.saturating_record(since.elapsed().as_nanos().max(1) as u64);
        }
    }

    /// Takes note of what should not have happened.
    #[cold]
    pub fn broke(&mut self, why: &str) {
        self.broken.get_or_insert_with(|| why.to_owned());
    }

    /// What the parts of all clients come to: what was acknowledged, and what was counted while it
    /// was measured.
    ///
    /// # Errors What should not have happened to one of them; or that nothing was answered while it
    /// was measured.
    pub fn together(parts: impl IntoIterator<Item = Part<W>>) -> Result<(W::Tally, Repetition), String> {
        let (mut tally, mut sum, mut all) = (W::Tally::default(), Repetition::default(), latencies());
        for part in parts {
            if let Some(broken) = part.broken {
                return Err(broken);
            }
            tally += part.tally;
            match part.measuring {
                Some((begun, Some(ended))) if ended > begun => {
                    let seconds = (ended - begun).as_secs_f64();
                    sum.seconds = sum.seconds.max(seconds);
                    sum.per_second += part.committed as f64 / seconds;
                    sum.committed += part.committed;
                    sum.aborted += part.aborted;
                    sum.spanning += part.spanning;
                    all.add(&part.latency).expect("all histograms have the same bounds");
                }
                Some((_, None)) => {
                    return Err("a client did not hear that the measurement was over".to_owned());
                }
                // Who was kept from the CPU all that time has counted nothing.
                _ => {}
            }
        }
        if sum.committed + sum.aborted == 0 {
            return Err("nothing was answered while it was measured: the machine is overloaded, or the measurement too short; \
                        raise --measure, or lower --in-flight"
                .to_owned());
        }
        sum.latency = Latency::from(&all);
        Ok((tally, sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smallbank::SmallBank;

    fn together(phases: &[Phase]) -> Result<f64, String> {
        let (pace, mut part) = (Pace::default(), Part::<SmallBank>::default());
        for phase in phases {
            pace.begin(*phase);
            part.turn_to(&pace);
            part.committed += 1;
        }
        Part::together([part, Part::default()]).map(|(_, sum)| sum.per_second)
    }

    #[test]
    fn what_was_counted_while_it_was_measured_is_a_rate() {
        assert!(together(&[Phase::WarmUp, Phase::Measure, Phase::Stop]).expect("all phases") > 0.0);
    }

    // An open loop of tasks ended between two arrivals without a look at the pace. What it had
    // counted was left out; that of all clients now and then, and an engine that had answered
    // everything had no figure.
    #[test]
    fn a_client_that_does_not_hear_of_the_end_is_not_left_out() {
        let error = together(&[Phase::WarmUp, Phase::Measure]).expect_err("it did not end");
        assert!(error.contains("did not hear"), "{error}");
    }

    #[test]
    fn a_client_that_heard_of_nothing_counts_nothing() {
        let error = together(&[Phase::WarmUp]).expect_err("nothing was measured");
        assert!(error.contains("nothing was answered"), "{error}");
    }
}
