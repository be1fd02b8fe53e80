//! Claims that two quantities correlate over arms.

use super::permutation::{Method, PERMUTATION_DRAWS, TIE, drawn_p, enumerable, every_order};
use super::{Interval, Verdict, t_interval};
use crate::random::{Purpose, shuffle, stream};

/// Spearman's rank correlation: Pearson's correlation of the ranks, equal values sharing the mean of theirs. `None` for
/// lists of different lengths, fewer than two values, a value that is not finite, or a list of equal values.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let (x, y) = (centred_ranks(x)?, centred_ranks(y)?);
    let squares = |ranks: &[f64]| ranks.iter().map(|rank| rank * rank).sum::<f64>();
    let scale = (squares(&x) * squares(&y)).sqrt();
    (x.len() == y.len() && scale > 0.0).then(|| (product(&x, &y) / scale).clamp(-1.0, 1.0))
}

/// Two-sided p of "the pairs of x and y are matched at random" against Spearman's correlation: the share of permutations
/// of y whose correlation is as large in magnitude.
///
/// The values must be exchangeable. Arms that belong together, such as one rule at several rates, are not: give one value
/// for each block of them. All `n!` permutations are enumerated up to 9 values. Else p is
/// `(1 + extreme draws) / (1 + draws)` with [`PERMUTATION_DRAWS`] draws of a fixed stream. `None` where [`spearman`] is.
pub fn spearman_p(x: &[f64], y: &[f64]) -> Option<f64> {
    spearman(x, y)?;
    let (x, mut y) = (centred_ranks(x)?, centred_ranks(y)?);
    let scale: f64 = x.iter().zip(&y).map(|(x, y)| x.abs() * y.abs()).sum();
    let extreme = product(&x, &y).abs() - TIE * scale;
    if enumerable(x.len(), 1) {
        let (mut all, mut hits) = (0u32, 0u32);
        every_order(&mut y, &mut |y| {
            all += 1;
            hits += u32::from(product(&x, y).abs() >= extreme);
        });
        return Some(f64::from(hits) / f64::from(all));
    }
    let mut rng = stream(x.len() as u64, Purpose::Permutation, u64::MAX);
    let mut is_extreme = || {
        shuffle(&mut y, &mut rng);
        product(&x, &y).abs() >= extreme
    };
    Some(drawn_p((0..PERMUTATION_DRAWS).filter(|_| is_extreme()).count() as u32))
}

/// How [`spearman_p`] makes its p from that many pairs.
pub fn spearman_method(pairs: usize) -> Method {
    Method::of(pairs, 1)
}

/// The mean of the values at the places of each block. `None` where a block is empty or names a place that there is not.
pub fn block_means(values: &[f64], blocks: &[Vec<usize>]) -> Option<Vec<f64>> {
    let mean = |block: &Vec<usize>| {
        let members: Option<Vec<f64>> = block.iter().map(|at| values.get(*at).copied()).collect();
        members.filter(|members| !members.is_empty()).map(|members| members.iter().sum::<f64>() / members.len() as f64)
    };
    blocks.iter().map(mean).collect()
}

/// The smallest p that [`spearman_p`] gives for `n` distinct pairs: `2 / n!`, or that of no extreme draw.
pub fn smallest_spearman_p(n: usize) -> f64 {
    match n {
        0 | 1 => 1.0,
        n if enumerable(n, 1) => 2.0 / (2..=n).map(|factor| factor as f64).product::<f64>(),
        _ => drawn_p(0),
    }
}

/// Two-sided t interval of the mean of one correlation per seed, cut at -1 and 1. Correlations are averaged as they are,
/// not as Fisher's z: with few arms a seed often has a correlation of exactly 1, whose z is infinite. `None` for fewer
/// than two.
pub fn correlation_interval(per_seed: &[f64], confidence: f64) -> Option<Interval> {
    let Interval { estimate, low, high } = t_interval(per_seed, confidence)?;
    Some(Interval { estimate, low: low.max(-1.0), high: high.min(1.0) })
}

/// A claim that two quantities correlate over arms. `per_seed` holds the correlation within each seed, `tested` the
/// correlation that p belongs to. It is supported when the corrected p is at most `alpha`, the `1 - alpha` interval over
/// seeds leaves out 0, and its mean and `tested` have one sign, which is that of `sign` where the claim names one. It is
/// opposite when all this holds with the other sign, so only where the claim names one.
pub fn decide_correlation(
    per_seed: &[f64],
    tested: f64,
    p_holm: f64,
    alpha: f64,
    sign: Option<f64>,
    min_seeds: usize,
) -> Verdict {
    let Some(interval) = correlation_interval(per_seed, 1.0 - alpha) else { return Verdict::Exploratory };
    let side = if tested > 0.0 { interval.low > 0.0 } else { interval.high < 0.0 };
    if per_seed.len() < min_seeds {
        Verdict::Exploratory
    } else if !(p_holm <= alpha && side) {
        Verdict::Inconclusive
    } else if sign.is_none_or(|sign| sign * tested > 0.0) {
        Verdict::Supported
    } else {
        Verdict::Opposite
    }
}

/// Ranks less their mean, ties sharing the mean of theirs. `None` for fewer than two values or one that is not finite.
fn centred_ranks(values: &[f64]) -> Option<Vec<f64>> {
    if values.len() < 2 || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    // Twice the centred rank: how many are below, less how many are above.
    let of = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count() as f64;
        let above = values.iter().filter(|other| *other > value).count() as f64;
        0.5 * (below - above)
    };
    Some(values.iter().map(of).collect())
}

fn product(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}
