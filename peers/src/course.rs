//! What a client asks next, and when.

use std::borrow::Cow;

use freehold_workloads::{Client, Drawn, Load, NoRow, Stream, Trial, Way, Workload};

use crate::peer::Fault;

/// Draws the streams of all clients, before any clock starts.
pub fn draw_all<W: Workload>(workload: &W, trial: &Trial) -> Result<Vec<Stream<W>>, NoRow> {
    let shards = trial.cell.shards;
    std::thread::scope(|scope| {
        let draw =
            |shard| Stream::draw(workload, &mut Client::new(trial.seed, shard, shards, trial.cell.cross));
        let drawing: Vec<_> = (0..shards).map(|shard| scope.spawn(move || draw(shard))).collect();
        let joined = drawing.into_iter().map(|drawing| drawing.join());
        joined.map(|drawn| drawn.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The transactions of a client, or those of every `step`-th turn of it, over and over.
pub struct Course<'a, W: Workload> {
    drawn: &'a [Drawn<W::Transaction>],
    /// Below the length of `drawn`, unless this course has no turn in a lap.
    next: usize,
    step: usize,
    lap: u64,
}

/// One transaction, and whether it spans shards.
pub struct Asked<'a, W: Workload> {
    /// What to run.
    pub transaction: Cow<'a, W::Transaction>,
    /// Whether its rows live on several shards, if there were any.
    pub spans: bool,
}

impl<'a, W: Workload> Course<'a, W> {
    /// All of them.
    pub fn new(stream: &'a Stream<W>) -> Self {
        Course::shared(stream, 0, 1)
    }

    /// Those of number `first`, `first + step`, and so on: one of `step` courses that share a
    /// stream.
    pub fn shared(stream: &'a Stream<W>, first: usize, step: usize) -> Self {
        assert!(first < step, "course {first} of {step}");
        let drawn = stream.drawn();
        Course { drawn, next: first % drawn.len(), step, lap: 0 }
    }

    /// Takes the next one.
    #[inline]
    pub fn take(&mut self) -> Asked<'a, W> {
        let drawn = &self.drawn[self.next];
        let lap = self.lap;
        self.next += self.step;
        while self.next >= self.drawn.len() {
            self.next -= self.drawn.len();
            self.lap += 1;
        }
        let mut transaction = Cow::Borrowed(&drawn.transaction);
        if W::RENEWS && lap > 0 {
            W::renew(transaction.to_mut(), lap);
        }
        Asked { transaction, spans: drawn.way == Way::Across }
    }
}

/// How transactions come, as far as a client is concerned.
#[derive(Clone, Copy, Debug)]
pub enum Loop {
    /// It keeps so many in flight, if it can.
    Closed {
        /// Not 0.
        in_flight: usize,
    },
    /// So many a second arrive at each client.
    Open {
        /// Above 0.
        per_second: f64,
    },
}

impl Loop {
    /// What the trial says.
    pub fn of(trial: &Trial) -> Result<Self, Fault> {
        match (trial.cell.load, trial.per_second) {
            (_, Some(all)) if all > 0.0 && all.is_finite() => {
                Ok(Loop::Open { per_second: all / trial.cell.shards as f64 })
            }
            (_, Some(all)) => Err(format!("{all} arrivals a second cannot be").into()),
            (Load::Closed { in_flight: 0 }, None) => Err("nothing in flight is no load".into()),
            (Load::Closed { in_flight }, None) => Ok(Loop::Closed { in_flight }),
            (_, None) => Err("an open loop needs a rate".into()),
        }
    }
}
