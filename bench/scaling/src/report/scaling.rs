//! The Universal Scalability Law, fitted to rates over shards.
//!
//! Source: N. Gunther, "A General Theory of Computational Scalability Based on Rational Functions",
//! 2008 (arXiv:0808.1431). With N shards the rate is X(N) = λN / (1 + σ(N-1) + κN(N-1)): σ is the
//! share of work that is serial (contention), κ what it costs that a shard agrees with each other
//! one (coherence): a pair costs 2κ, as each of its two does.
//!
//! N / X(N) is a sum of 1, N-1 and N(N-1) with the coefficients 1/λ, σ/λ and κ/λ. So the fit is a
//! linear least-squares problem with coefficients that are not negative, solved exactly: each set
//! of coefficients that may be above zero is tried, and the best solution without negative ones is
//! the fit. A point weighs X/N, so residuals are relative: a percent at one shard is worth a
//! percent at sixteen.

use super::quantity::{count, percent};

/// A fit that is off by more is said to be bad.
const MISS_MAX: f64 = 0.1;

/// A fitted law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Law {
    /// λ: what one shard does alone, by the fit.
    pub single: f64,
    /// σ, at least 0.
    pub contention: f64,
    /// κ, at least 0.
    pub coherence: f64,
    /// By how much the fit misses the point it misses most, relative to that point.
    pub miss: f64,
    /// Different shard counts it was fitted to.
    pub counts: usize,
    /// The largest of them.
    pub shards_max: f64,
}

/// The solution of `matrix * x = vector` for the unknowns in `free`, the others being 0.
fn solve(matrix: &[[f64; 3]; 3], vector: &[f64; 3], free: &[usize]) -> Option<[f64; 3]> {
    // Gauss-Jordan with pivots; three unknowns at most.
    let mut rows: Vec<Vec<f64>> = free
        .iter()
        .map(|&row| free.iter().map(|&column| matrix[row][column]).chain([vector[row]]).collect())
        .collect();
    let size = free.len();
    for column in 0..size {
        let pivot =
            (column..size).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))?;
        rows.swap(column, pivot);
        let lead = rows[column].clone();
        // As good as singular: the points do not tell these unknowns apart.
        if lead[column].abs() < 1e-12 * matrix[free[column]][free[column]].abs().max(f64::MIN_POSITIVE) {
            return None;
        }
        for (_, row) in rows.iter_mut().enumerate().filter(|(number, _)| *number != column) {
            let factor = row[column] / lead[column];
            row.iter_mut().zip(&lead).for_each(|(value, lead)| *value -= factor * lead);
        }
    }
    let mut solution = [0.0; 3];
    free.iter().enumerate().for_each(|(row, &unknown)| solution[unknown] = rows[row][size] / rows[row][row]);
    Some(solution)
}

/// Fits the law to points of (shards, rate). `None` if there are fewer than three different shard
/// counts: three coefficients cannot be told from two.
pub fn fit(points: &[(f64, f64)]) -> Option<Law> {
    let points: Vec<_> =
        points.iter().copied().filter(|(shards, rate)| *shards >= 1.0 && *rate > 0.0).collect();
    let mut different: Vec<_> = points.iter().map(|(shards, _)| *shards).collect();
    different.sort_by(f64::total_cmp);
    different.dedup();
    if different.len() < 3 {
        return None;
    }
    // The rates' size would be that of the unknowns as well: they are taken relative to one of
    // them.
    let unit = points[0].1 / points[0].0;
    let weighted = |&(shards, rate): &(f64, f64)| {
        let weight = rate / unit / shards;
        [weight, weight * (shards - 1.0), weight * shards * (shards - 1.0)]
    };
    let (mut matrix, mut vector) = ([[0.0; 3]; 3], [0.0; 3]);
    for basis in points.iter().map(weighted) {
        for row in 0..3 {
            vector[row] += basis[row];
            (0..3).for_each(|column| matrix[row][column] += basis[row] * basis[column]);
        }
    }
    let residual = |solution: &[f64; 3]| -> f64 {
        let miss = |basis: [f64; 3]| 1.0 - basis.iter().zip(solution).map(|(b, s)| b * s).sum::<f64>();
        points.iter().map(weighted).map(|basis| miss(basis).powi(2)).sum()
    };
    let sets: [&[usize]; 4] = [&[0], &[0, 1], &[0, 2], &[0, 1, 2]];
    let [inverse, serial, pairs] = sets
        .iter()
        .filter_map(|free| solve(&matrix, &vector, free))
        .filter(|solution| solution[0] > 0.0 && solution.iter().all(|unknown| *unknown >= 0.0))
        .min_by(|a, b| residual(a).total_cmp(&residual(b)))?;
    let shards_max = different[different.len() - 1];
    let mut law = Law {
        single: unit / inverse,
        contention: serial / inverse,
        coherence: pairs / inverse,
        miss: 0.0,
        counts: different.len(),
        shards_max,
    };
    let misses = points.iter().map(|(shards, rate)| (law.rate(*shards) / rate - 1.0).abs());
    law.miss = misses.fold(0.0, f64::max);
    Some(law)
}

impl Law {
    /// The rate with so many shards.
    pub fn rate(&self, shards: f64) -> f64 {
        let others = shards - 1.0;
        self.single * shards / (1.0 + self.contention * others + self.coherence * shards * others)
    }

    /// How many shards are best, if more are worse at some point.
    pub fn peak(&self) -> Option<f64> {
        // A coefficient this small is rounding: its peak would be at millions of shards.
        (self.coherence > 1e-9).then(|| ((1.0 - self.contention).max(0.0) / self.coherence).sqrt().max(1.0))
    }

    /// What the coefficients mean, in words.
    pub fn words(&self) -> Vec<String> {
        let contention = match self.contention {
            small if small < 5e-5 => "Contention: none was found (σ = 0).".to_owned(),
            share => format!("Contention: {} of the work is serial (σ = {share:.4}).", percent(share)),
        };
        let coherence = match self.coherence {
            small if small < 5e-7 => "Coherence: no cost of agreeing was found (κ = 0).".to_owned(),
            share => format!(
                "Coherence: each shard's agreeing with each other one costs {} of a transaction's work (κ = {share:.6}; 2κ a pair).",
                percent(share)
            ),
        };
        let limit = match self.peak() {
            Some(peak) => {
                let far = if peak > 2.0 * self.shards_max { ", far beyond what was measured" } else { "" };
                format!("The peak would be at {peak:.0} shards with {}/s{far}.", count(self.rate(peak)))
            }
            None if self.contention >= 5e-5 => format!(
                "There would be no peak: the rate would approach {}/s.",
                count(self.single / self.contention)
            ),
            None => "By these points it would grow without limit, which no machine does.".to_owned(),
        };
        let trust = match self.counts {
            3 => "Three shard counts determine three coefficients: nothing is left to check the fit by."
                .to_owned(),
            counts if self.miss > MISS_MAX => format!(
                "Fitted to {counts} shard counts, and badly: it is off by up to {}, so the coefficients say little.",
                percent(self.miss)
            ),
            counts => format!("Fitted to {counts} shard counts; off by {} at most.", percent(self.miss)),
        };
        vec![contention, coherence, limit, trust]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(single: f64, contention: f64, coherence: f64, shards: &[f64]) -> Vec<(f64, f64)> {
        let law = Law { single, contention, coherence, miss: 0.0, counts: 0, shards_max: 0.0 };
        shards.iter().map(|shards| (*shards, law.rate(*shards))).collect()
    }

    #[track_caller]
    fn near(found: f64, wanted: f64, error: f64) {
        assert!((found - wanted).abs() <= error, "{found} is not {wanted}");
    }

    #[test]
    fn what_was_put_in_is_found() {
        let all = [1.0, 2.0, 4.0, 8.0, 16.0];
        let laws =
            [(1e6, 0.0, 0.0), (3e6, 0.03, 0.0), (5e5, 0.0, 0.002), (2e6, 0.05, 0.001), (10.0, 0.9, 0.1)];
        for (single, contention, coherence) in laws {
            let found = fit(&points(single, contention, coherence, &all)).expect("five counts are enough");
            near(found.single / single, 1.0, 1e-6);
            near(found.contention, contention, 1e-6);
            near(found.coherence, coherence, 1e-6);
            near(found.miss, 0.0, 1e-6);
        }
        let law = fit(&points(1e6, 0.04, 0.0024, &all)).expect("enough");
        near(law.peak().expect("it has one"), 20.0, 1e-3);
    }

    #[test]
    fn noise_moves_it_little_and_its_miss_is_told() {
        let mut noisy = points(1e6, 0.05, 0.002, &[1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0]);
        noisy.iter_mut().enumerate().for_each(|(n, point)| point.1 *= if n % 2 == 0 { 1.01 } else { 0.99 });
        let law = fit(&noisy).expect("enough");
        near(law.contention, 0.05, 0.02);
        near(law.coherence, 0.002, 0.001);
        assert!((0.005..0.02).contains(&law.miss), "{law:?}");
    }

    #[test]
    fn coefficients_are_never_negative() {
        // Superlinear, and with a dent in the middle: least squares without bounds would have
        // negative coefficients.
        let superlinear = fit(&[(1.0, 100.0), (2.0, 230.0), (4.0, 520.0), (8.0, 1200.0)]).expect("enough");
        assert_eq!((superlinear.contention, superlinear.coherence), (0.0, 0.0));
        assert!(superlinear.words()[2].contains("without limit"), "{superlinear:?}");
        let dent = fit(&[(1.0, 100.0), (2.0, 120.0), (4.0, 390.0), (8.0, 700.0)]).expect("enough");
        assert!(dent.contention >= 0.0 && dent.coherence >= 0.0 && dent.single > 0.0, "{dent:?}");
        let convex = fit(&[(1.0, 100.0), (2.0, 190.0), (4.0, 200.0), (8.0, 100.0)]).expect("enough");
        assert!(convex.contention >= 0.0 && convex.coherence > 0.0, "{convex:?}");
        assert!(convex.peak().is_some_and(|peak| (1.0..8.0).contains(&peak)), "{convex:?}");
    }

    #[test]
    fn two_shard_counts_are_not_enough() {
        assert_eq!(fit(&[]), None);
        assert_eq!(fit(&[(1.0, 100.0), (2.0, 190.0)]), None);
        // However often they were measured.
        assert_eq!(fit(&[(1.0, 100.0), (2.0, 190.0), (2.0, 195.0), (1.0, 99.0)]), None);
        assert_eq!(fit(&[(1.0, 100.0), (2.0, 190.0), (4.0, 0.0)]), None, "no rate is no point");
    }

    #[test]
    fn the_words_say_the_coefficients() {
        let words = fit(&points(1e6, 0.03, 0.0, &[1.0, 2.0, 4.0, 8.0])).expect("enough").words();
        let words = words.join(" ").replace('\u{a0}', " ");
        assert!(words.contains("3 % of the work is serial (σ = 0.0300)"), "{words}");
        assert!(words.contains("κ = 0") && words.contains("approach 33.3 M/s"), "{words}");
        // N shards are N(N-1)/2 pairs, and κ is multiplied by N(N-1): it is half a pair's cost.
        let words = fit(&points(1e6, 0.0, 0.002, &[1.0, 2.0, 4.0, 8.0])).expect("enough").words();
        let words = words.join(" ").replace('\u{a0}', " ");
        assert!(words.contains("each other one costs 0.2 %") && words.contains("2κ a pair"), "{words}");
    }
}
