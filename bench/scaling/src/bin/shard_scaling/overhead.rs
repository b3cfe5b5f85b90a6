//! What the benchmark itself costs: a client that takes transactions from its stream and notes
//! answers, without any engine.
//!
//! The answers were given by a plain map before. What is left is what the client of an engine does
//! beside asking: it walks through its stream, renews transactions that need it, looks at the pace,
//! times one transaction of many, tallies and counts. (To keep futures and to poll them is what any
//! client does who asks.)

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use freehold_workloads::{
    Client, Cross, Drawn, LATENCY_STRIDE, Pace, Part, Phase, Spread, Stream, Visitor, Way, Workload,
};

/// Times all is gone through; the median counts.
const TIMES: usize = 5;
/// Transactions between two looks at the clock, whose answers the plain map has given.
const CHUNK: usize = 512;

/// Nanoseconds a transaction; `None` if a stream of the workload cannot be drawn.
pub struct Overhead {
    /// What the stream is drawn from.
    pub seed: u64,
}

impl Visitor for Overhead {
    type Result = Option<f64>;

    fn visit<W: Workload>(self, workload: &W) -> Option<f64> {
        let mut client = Client::new(self.seed, 0, 1, Cross::Percent(0.0));
        let stream = Stream::draw(workload, &mut client).ok()?;
        let mut rows = HashMap::new();
        workload.load(&mut |id, row| drop(rows.insert(id, row)));
        // Answers come from another copy, so that the stream is as cold as in a cell.
        let asked = stream.clone();
        let mut all = Vec::with_capacity(TIMES);
        for lap in 0..TIMES as u64 {
            let mut answer = |drawn: &Drawn<W::Transaction>| {
                let mut transaction = drawn.transaction.clone();
                if lap > 0 {
                    W::renew(&mut transaction, lap);
                }
                W::run(&transaction, &mut rows)
            };
            let (pace, mut part) = (Pace::default(), Part::<W>::default());
            pace.begin(Phase::Measure);
            let mut took = Duration::ZERO;
            let (mut answers, mut until_timed) = (Vec::with_capacity(CHUNK), LATENCY_STRIDE);
            for (asked, noted) in asked.drawn().chunks(CHUNK).zip(stream.drawn().chunks(CHUNK)) {
                answers.extend(asked.iter().map(&mut answer));
                let begun = Instant::now();
                for (number, (drawn, answer)) in noted.iter().zip(answers.drain(..)).enumerate() {
                    if number.is_multiple_of(64) {
                        part.turn_to(&pace);
                    }
                    until_timed -= 1;
                    let at = (until_timed == 0).then(Instant::now);
                    if until_timed == 0 {
                        until_timed = LATENCY_STRIDE;
                    }
                    if W::RENEWS && lap > 0 {
                        let mut transaction = drawn.transaction.clone();
                        W::renew(&mut transaction, lap);
                        black_box(&transaction);
                    }
                    let outcome = black_box(answer);
                    at.into_iter().for_each(|at| part.time(at));
                    part.note(black_box(&drawn.transaction), drawn.way == Way::Across, outcome);
                }
                took += begun.elapsed();
            }
            all.push(took.as_nanos() as f64 / stream.drawn().len() as f64);
            black_box(&part.tally);
        }
        Spread::of(all).map(|spread| spread.median)
    }
}
