//! When transactions arrive in an open loop: at random and independent of each other (Poisson),
//! whether those before were answered or not. All engines get the same arrivals from the same seed.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_distr::{Distribution, Exp};
use rand_pcg::Pcg64;

use crate::part::Part;
use crate::workload::Workload;

/// Parts the random numbers of arrivals from those the transactions are drawn from
/// ([`Client`](crate::Client)), which begin with the same seed: gaps and rows drawn from the same
/// numbers would go together.
const ARRIVALS: u64 = 0x6A09_E667_F3BC_C909;

/// The longest gap: longer ones, at rates as low, are as good as that.
const GAP_MAX: Duration = Duration::from_secs(1 << 30);

/// The arrivals at one client, in order, without end.
#[derive(Clone, Debug)]
pub struct Arrivals {
    begin: Instant,
    /// Since then.
    due: Duration,
    gaps: Exp<f64>,
    random: Pcg64,
}

impl Arrivals {
    /// Of the trial with this seed, at this client, so many a second from `begin` on: its part of
    /// the rate of all clients.
    ///
    /// # Panics
    /// If the rate is not above 0, or has no end. The command line is checked before.
    pub fn new(seed: u64, client: usize, per_second: f64, begin: Instant) -> Self {
        assert!(per_second > 0.0 && per_second.is_finite(), "a rate of {per_second} a second");
        let gaps = Exp::new(per_second).expect("a rate above 0 is one of the law");
        // Makes both state and stream of the generator from the number, so no two clients share a
        // stream.
        let seed = seed ^ (client as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ARRIVALS;
        let mut arrivals = Arrivals { begin, due: Duration::ZERO, gaps, random: Pcg64::seed_from_u64(seed) };
        arrivals.take();
        arrivals
    }

    /// When the next one is due.
    pub fn due(&self) -> Instant {
        self.begin + self.due
    }

    /// Takes the next one. Says when it was due. The first is due a gap after the beginning.
    pub fn take(&mut self) -> Instant {
        let gap = Duration::try_from_secs_f64(self.gaps.sample(&mut self.random)).unwrap_or(GAP_MAX);
        let next = self.due + gap.min(GAP_MAX);
        self.begin + std::mem::replace(&mut self.due, next)
    }

    /// Notes, when all have stopped, what had arrived by then and was not asked: one of `stride` of
    /// it, as what has waited at least until now.
    pub fn leave_behind<W: Workload>(&mut self, stride: u64, part: &mut Part<W>) {
        let now = Instant::now();
        for number in 0_u64.. {
            if self.due() >= now {
                break;
            }
            let arrived = self.take();
            if number.is_multiple_of(stride) {
                part.time(arrived);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Client, Cross, SEED};

    #[test]
    fn gaps_have_the_mean_and_the_spread_of_a_poisson_process() {
        const ARRIVALS: usize = 100_000;
        let begin = Instant::now();
        let mut arrivals = Arrivals::new(7, 1, 1_000.0, begin);
        let times: Vec<_> = (0..ARRIVALS).map(|_| (arrivals.take() - begin).as_secs_f64()).collect();
        assert!(times[0] > 0.0, "the first comes a gap after the beginning");
        let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.001).abs() < 0.000_02, "a gap of {mean} s at 1000 a second");
        // The standard deviation of exponential gaps is their mean.
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{} of {mean}", variance.sqrt());
    }

    #[test]
    fn arrivals_are_the_seeds_and_the_clients_own() {
        let begin = Instant::now();
        let first = |seed, client| {
            let mut arrivals = Arrivals::new(seed, client, 50.0, begin);
            (0..100).map(|_| arrivals.take()).collect::<Vec<_>>()
        };
        assert_eq!(first(7, 1), first(7, 1));
        assert_ne!(first(7, 1), first(7, 2));
        assert_ne!(first(7, 1), first(8, 1));
        let mut arrivals = Arrivals::new(7, 0, 1.0, begin);
        assert_eq!(arrivals.due(), arrivals.take());
    }

    #[test]
    fn arrivals_are_not_drawn_from_the_numbers_of_the_transactions() {
        for client in 0..4 {
            let arrivals = Arrivals::new(SEED, client, 1.0, Instant::now());
            assert_ne!(arrivals.random, Client::new(SEED, client, 4, Cross::Natural).random);
        }
    }

    #[test]
    fn the_lowest_rates_have_arrivals_that_never_come() {
        let begin = Instant::now();
        let mut arrivals = Arrivals::new(7, 0, f64::MIN_POSITIVE, begin);
        for number in 1..10 {
            assert_eq!(arrivals.take() - begin, number * GAP_MAX);
        }
    }
}
