//! Which rows are popular.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};
use serde::{Deserialize, Serialize};

use crate::stream::NoRow;

/// How unevenly rows are used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skew {
    /// Each as often as any other.
    Uniform,
    /// By Zipf's law: the `k`-th most popular row in proportion to `1 / k^theta`. YCSB's own is
    /// 0.99.
    Zipf(f64),
    /// So many rows share so much of the use, evenly; the others share the rest.
    Hotspot {
        /// How many are hot.
        rows: u64,
        /// How much of all use is theirs, from 0 to 1.
        share: f64,
    },
}

impl std::fmt::Display for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Skew::Uniform => write!(f, "uniform"),
            Skew::Zipf(theta) => write!(f, "zipf:{theta}"),
            Skew::Hotspot { rows, share } => write!(f, "hotspot:{rows}:{share}"),
        }
    }
}

/// Draws numbers of rows, 0 being the most popular one.
#[derive(Clone, Copy, Debug)]
pub struct Popularity {
    rows: u64,
    law: Law,
}

#[derive(Clone, Copy, Debug)]
enum Law {
    Uniform,
    Zipf(Zipf<f64>),
    Hotspot { rows: u64, share: f64 },
}

impl Popularity {
    /// Of `rows` rows.
    ///
    /// # Errors
    /// If there is no row, or none that is not hot.
    ///
    /// # Panics If the skew is none: a negative `theta`, a share outside 0 to 1, no hot row. The
    /// command line is checked before.
    pub fn new(rows: u64, skew: Skew) -> Result<Self, NoRow> {
        if rows == 0 {
            return Err(NoRow::Loaded("rows"));
        }
        let law = match skew {
            Skew::Uniform => Law::Uniform,
            Skew::Zipf(theta) => Law::Zipf(Zipf::new(rows as f64, theta).expect("theta is not negative")),
            Skew::Hotspot { rows: hot, share } => {
                assert!(hot > 0 && (0.0..=1.0).contains(&share), "a hotspot has rows and a share of the use");
                if hot >= rows {
                    return Err(NoRow::Cold { hot, rows });
                }
                Law::Hotspot { rows: hot, share }
            }
        };
        Ok(Popularity { rows, law })
    }

    /// The number of a row.
    pub fn draw(&self, random: &mut impl Rng) -> u64 {
        match self.law {
            Law::Uniform => random.random_range(0..self.rows),
            Law::Zipf(law) => (law.sample(random) as u64 - 1).min(self.rows - 1),
            Law::Hotspot { rows, share } => {
                if random.random_bool(share) {
                    random.random_range(0..rows)
                } else {
                    random.random_range(rows..self.rows)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    use super::*;

    #[test]
    fn each_law_draws_what_it_says() {
        const DRAWS: usize = 100_000;
        let share_of_first = |skew, first: u64| {
            let (popularity, mut random) =
                (Popularity::new(1000, skew).expect("rows"), Pcg64::seed_from_u64(7));
            let draws = (0..DRAWS).map(|_| popularity.draw(&mut random));
            draws.inspect(|row| assert!(*row < 1000)).filter(|row| *row < first).count() as f64 / DRAWS as f64
        };
        let near =
            |found: f64, wanted: f64| assert!((found - wanted).abs() < 0.01, "{found} is not {wanted}");
        near(share_of_first(Skew::Uniform, 100), 0.1);
        near(share_of_first(Skew::Hotspot { rows: 10, share: 0.9 }, 10), 0.9);
        // The sums of 1 / k^0.99 over 1 to 10 and 1 to 1000.
        let sum = |to: u32| (1..=to).map(|k| f64::from(k).powf(-0.99)).sum::<f64>();
        near(share_of_first(Skew::Zipf(0.99), 10), sum(10) / sum(1000));
    }
}
