//! When transactions arrive in an open loop: at random and independent of each other (Poisson), whether those before were answered
//! or not. All engines get the same arrivals from the same seed.

use std::time::Duration;

use rand::SeedableRng;
use rand_distr::{Distribution, Exp};
use rand_pcg::Pcg64;

/// Parts the random numbers of arrivals from those the transactions are drawn from ([`Client`](crate::Client)), which begin with the
/// same seed: gaps and rows drawn from the same numbers would go together.
const ARRIVALS: u64 = 0x6A09_E667_F3BC_C909;

/// The arrivals at one client, in order, without end.
#[derive(Clone, Debug)]
pub struct Arrivals {
    due: Duration,
    gaps: Exp<f64>,
    random: Pcg64,
}

impl Arrivals {
    /// Of the trial with this seed, at this client, so many a second: its part of the rate of all clients.
    ///
    /// # Panics
    /// If the rate is not above 0, or has no end. The command line is checked before.
    pub fn new(seed: u64, client: usize, per_second: f64) -> Self {
        assert!(per_second > 0.0 && per_second.is_finite(), "a rate of {per_second} a second");
        let gaps = Exp::new(per_second).expect("a rate above 0 is one of the law");
        // Makes both state and stream of the generator from the number, so no two clients share a stream.
        let seed = seed ^ (client as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ARRIVALS;
        let mut arrivals = Arrivals { due: Duration::ZERO, gaps, random: Pcg64::seed_from_u64(seed) };
        arrivals.take();
        arrivals
    }

    /// When the next one is due, since the beginning.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Takes the next one. Says when it was due, since the beginning. The first is due a gap after the beginning.
    pub fn take(&mut self) -> Duration {
        let gap = Duration::try_from_secs_f64(self.gaps.sample(&mut self.random));
        // A gap of more than the age of the world, at a rate as low, is as good as the longest.
        let next = self.due.saturating_add(gap.unwrap_or(Duration::MAX));
        std::mem::replace(&mut self.due, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Client, Cross, SEED};

    #[test]
    fn gaps_have_the_mean_and_the_spread_of_a_poisson_process() {
        const ARRIVALS: usize = 100_000;
        let mut arrivals = Arrivals::new(7, 1, 1_000.0);
        let times: Vec<_> = (0..ARRIVALS).map(|_| arrivals.take().as_secs_f64()).collect();
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
        let first = |seed, client| {
            let mut arrivals = Arrivals::new(seed, client, 50.0);
            (0..100).map(|_| arrivals.take()).collect::<Vec<_>>()
        };
        assert_eq!(first(7, 1), first(7, 1));
        assert_ne!(first(7, 1), first(7, 2));
        assert_ne!(first(7, 1), first(8, 1));
        let mut arrivals = Arrivals::new(7, 0, 1.0);
        assert_eq!(arrivals.due(), arrivals.take());
    }

    #[test]
    fn arrivals_are_not_drawn_from_the_numbers_of_the_transactions() {
        for client in 0..4 {
            let arrivals = Arrivals::new(SEED, client, 1.0);
            assert_ne!(arrivals.random, Client::new(SEED, client, 4, Cross::Natural).random);
        }
    }

    #[test]
    fn the_lowest_rates_have_arrivals_that_never_come() {
        let mut arrivals = Arrivals::new(7, 0, f64::MIN_POSITIVE);
        for _ in 0..10 {
            arrivals.take();
        }
        assert_eq!(arrivals.due(), Duration::MAX);
    }
}
