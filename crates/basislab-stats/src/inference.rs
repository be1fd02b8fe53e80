//! Statistics of paired seeds: the unit is the seed, never a token, batch or step.

mod bound;
mod exchange;
mod near;
mod ordered;
mod permutation;
mod spearman;

pub use bound::{Side, bound_p, decide_bound};
pub use exchange::{MaxT, exchange_method, exchange_p, max_t};
pub use near::{decide_near, near_margin, near_p};
pub use ordered::{ordered_method, ordered_p, rank_slope};
pub use permutation::{Method, PERMUTATION_DRAWS};
pub use spearman::{
    block_means, correlation_interval, decide_correlation, smallest_spearman_p, spearman, spearman_method, spearman_p,
};

use crate::random::{Purpose, stream};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::fmt;

/// Values whose signs are all enumerated by [`sign_flip_p`].
const MOST_FLIPPED: usize = 20;

/// Random draws of signs for more values.
const FLIP_DRAWS: u32 = 1 << 20;

/// How [`sign_flip_p`] makes its p from that many values.
pub fn sign_flip_method(n: usize) -> Method {
    if n <= MOST_FLIPPED { Method::Exact } else { Method::MonteCarlo { draws: FLIP_DRAWS } }
}

/// An estimate with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The mean.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Two one-sided tests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tost {
    /// The larger of the two one-sided p-values.
    pub p: f64,
    /// Lower end of the `1 - 2 alpha` interval.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// Whether the interval lies inside the margin.
    pub equivalent: bool,
}

/// What was decided about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The rule's conditions are met.
    Supported,
    /// A claim with a direction: its conditions are met on the other side.
    Opposite,
    /// A difference or a trend: surely smaller than the smallest one that counts.
    Negligible,
    /// An equality, a threshold or a self-test: what it says is surely wrong.
    Refuted,
    /// None of these, by enough seeds.
    Inconclusive,
    /// Too few seeds for any verdict.
    Exploratory,
    /// It holds by symmetry, and was measured to check the code and the statistics.
    Control,
}

impl Verdict {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Supported,
        Self::Opposite,
        Self::Negligible,
        Self::Refuted,
        Self::Inconclusive,
        Self::Exploratory,
        Self::Control,
    ];
    /// Their names, in that order.
    pub const NAMES: &'static [&'static str] =
        &["supported", "opposite", "negligible", "refuted", "inconclusive", "exploratory", "control"];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Mean and standard deviation (ddof 1), exact for equal values; `None` for fewer than two.
pub fn mean_sd(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    if values.len() >= 2 && values.iter().all(|v| *v == values[0]) {
        return Some((values[0], 0.0));
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (values.len() >= 2).then(|| (mean, (squares / (n - 1.0)).sqrt()))
}

/// Two-sided t interval of the mean. Without spread it is a point. `None` for fewer than two values.
pub fn t_interval(values: &[f64], confidence: f64) -> Option<Interval> {
    let (estimate, half) =
        (mean_sd(values)?.0, standard_error(values)? * quantile(values.len(), 0.5 + 0.5 * confidence));
    Some(Interval { estimate, low: estimate - half, high: estimate + half })
}

/// Two-sided p of "the mean is 0" over sign flips: all `2^n` of them up to 20 values, else 2^20 random ones with the
/// observed one counted among them (a fixed stream, so that the same values give the same p). `None` for no value.
///
/// Its smallest value is `2 / 2^n`: 0.0078 with 8 seeds, 0.0625 with 5.
pub fn sign_flip_p(values: &[f64]) -> Option<f64> {
    let scale: f64 = values.iter().map(|v| v.abs()).sum();
    let observed = values.iter().sum::<f64>().abs();
    let as_extreme = |flips: &dyn Fn(usize) -> bool| {
        let signed = |(i, v): (usize, &f64)| if flips(i) { -v } else { *v };
        // Sums of the same numbers in another order of signs may differ in the last bits: ties count as extreme.
        values.iter().enumerate().map(signed).sum::<f64>().abs() >= observed - 1e-12 * scale
    };
    match values.len() {
        0 => None,
        n @ 1..=MOST_FLIPPED => {
            let all = 1u32 << n;
            Some((0..all).filter(|flips| as_extreme(&|i| flips >> i & 1 == 1)).count() as f64 / f64::from(all))
        }
        n => {
            let mut rng = stream(n as u64, Purpose::Simulation, u64::MAX);
            let mut hits = 0;
            for first in (0..FLIP_DRAWS).step_by(AT_ONCE) {
                let sums = flipped_sums(values, &mut rng);
                let drawn = sums.iter().take((FLIP_DRAWS - first) as usize);
                hits += drawn.filter(|sum| sum.abs() >= observed - 1e-12 * scale).count() as u32;
            }
            Some(f64::from(1 + hits) / f64::from(1 + FLIP_DRAWS))
        }
    }
}

/// Draws of which sums are made side by side: one sum alone waits for each of its additions.
const AT_ONCE: usize = 8;

/// The sums of the values with random signs, each in the order of the values. A draw takes one bit of the stream per value.
fn flipped_sums(values: &[f64], rng: &mut ChaCha8Rng) -> [f64; AT_ONCE] {
    let blocks = values.len().div_ceil(64);
    let words: Vec<u64> = (0..AT_ONCE * blocks).map(|_| rng.next_u64()).collect();
    let mut sums = [0.0; AT_ONCE];
    for (block, values) in values.chunks(64).enumerate() {
        let flips: [u64; AT_ONCE] = std::array::from_fn(|draw| words[draw * blocks + block]);
        for (bit, value) in values.iter().enumerate() {
            for (sum, flips) in sums.iter_mut().zip(flips) {
                *sum += f64::from_bits(value.to_bits() ^ ((flips >> bit) << 63));
            }
        }
    }
    sums
}

/// Equivalence of the mean with 0 within `margin` (Schuirmann's two one-sided t tests). Without spread `p` is 0 inside
/// the margin and 1 at or beyond it. `None` for fewer than two values.
pub fn tost(values: &[f64], margin: f64, alpha: f64) -> Option<Tost> {
    let (mean, error) = (mean_sd(values)?.0, standard_error(values)?);
    let half = error * quantile(values.len(), 1.0 - alpha);
    let (low, high) = (mean - half, mean + half);
    let beyond = |distance: f64| match (error > 0.0, distance > 0.0) {
        (true, _) => students(values.len()).sf(distance / error),
        (false, inside) => f64::from(u8::from(!inside)),
    };
    let p = beyond(mean + margin).max(beyond(margin - mean));
    Some(Tost { p, low, high, equivalent: low > -margin && high < margin })
}

/// Holm's adjusted p-values, in the given order: the family-wise error is held under any dependence (Holm 1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0f64;
    for (rank, &at) in order.iter().enumerate() {
        largest = largest.max(((p.len() - rank) as f64 * p[at]).min(1.0));
        adjusted[at] = largest;
    }
    adjusted
}

/// A claim of difference. It is supported when the corrected p is at most `alpha`, the t interval leaves out 0, the mean
/// reaches `smallest_effect` and lies on the claimed side (`sign` 1 or -1; `None` for either), and opposite when all but the
/// side holds. It is negligible when the `1 - 2 alpha` interval lies inside the smallest effect.
pub fn decide_difference(
    values: &[f64],
    p_holm: f64,
    alpha: f64,
    smallest_effect: f64,
    sign: Option<f64>,
    min_seeds: usize,
) -> Verdict {
    let (Some(interval), Some(tost)) = (t_interval(values, 1.0 - alpha), tost(values, smallest_effect, alpha)) else {
        return Verdict::Exploratory;
    };
    let clear = interval.low > 0.0 || interval.high < 0.0;
    if values.len() < min_seeds {
        Verdict::Exploratory
    } else if p_holm <= alpha && clear && interval.estimate.abs() >= smallest_effect {
        if sign.is_none_or(|sign| sign * interval.estimate > 0.0) { Verdict::Supported } else { Verdict::Opposite }
    } else if tost.equivalent {
        Verdict::Negligible
    } else {
        Verdict::Inconclusive
    }
}

/// A claim of equality: supported when the `1 - 2 alpha` interval lies inside the margin, refuted when it lies wholly
/// outside.
pub fn decide_equivalence(values: &[f64], margin: f64, alpha: f64, min_seeds: usize) -> Verdict {
    let Some(tost) = tost(values, margin, alpha) else { return Verdict::Exploratory };
    if values.len() < min_seeds {
        Verdict::Exploratory
    } else if tost.equivalent {
        Verdict::Supported
    } else if tost.low >= margin || tost.high <= -margin {
        Verdict::Refuted
    } else {
        Verdict::Inconclusive
    }
}

fn standard_error(values: &[f64]) -> Option<f64> {
    Some(mean_sd(values)?.1 / (values.len() as f64).sqrt())
}

fn students(n: usize) -> StudentsT {
    StudentsT::new(0.0, 1.0, (n - 1) as f64).expect("at least one degree of freedom")
}

/// Of Student's distribution for `n` values.
pub(crate) fn quantile(n: usize, probability: f64) -> f64 {
    students(n).inverse_cdf(probability)
}
