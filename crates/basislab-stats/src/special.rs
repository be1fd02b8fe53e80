//! Dimensions that stand out, the largest values, and the tokens that hold most of the sum of squares.

use crate::inference::{mean_sd, quantile};
use crate::metrics::median_of_bits;
use crate::residuals::Residuals;

/// A dimension that is larger, against the median dimension, than a threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecialDimension {
    /// 0-based.
    pub dim: usize,
    /// Root mean square over tokens, each of which is scaled to a root mean square of 1.
    pub size: f64,
    /// `size` over its median over dimensions.
    pub ratio: f64,
    /// Its place at the site by `size`, the largest 1.
    pub rank: usize,
}

/// The dimensions of `x` `[n_tokens, d_model]` whose ratio exceeds `threshold`, the largest first. None where the median
/// dimension is 0. `x` is without the first token of each sequence, which is a massive one in many models.
///
/// The threshold of a special basis is the largest [`largest_dimension_ratio`] of the same tokens in random bases.
pub fn special_dimensions(x: &Residuals, threshold: f64) -> Vec<SpecialDimension> {
    standing_out(&sizes(x), threshold)
}

/// [`special_dimensions`] of the sizes of all dimensions, in order. Of equal ones the earlier is first.
pub fn standing_out(sizes: &[f64], threshold: f64) -> Vec<SpecialDimension> {
    let median = median(sizes);
    let mut found: Vec<SpecialDimension> = sizes
        .iter()
        .enumerate()
        .map(|(dim, &size)| SpecialDimension { dim, size, ratio: size / median, rank: 0 })
        .filter(|one| one.ratio.is_finite() && one.ratio > threshold)
        .collect();
    found.sort_by(|a, b| b.size.total_cmp(&a.size));
    found.iter_mut().zip(1..).for_each(|(one, rank)| one.rank = rank);
    found
}

/// What is compared with [`standing_out`] where only the share of energy (`max_dim_energy_share`) that the largest dimension has
/// in each random basis is known: the ratio to the median dimension that belongs to `share`.
pub fn ratio_of_share(sizes: &[f64], share: f64) -> f64 {
    (share * sizes.iter().map(|size| size * size).sum::<f64>()).sqrt() / median(sizes)
}

/// A limit that a statistic of one more random basis exceeds by chance in 1 to 3 of 100 cases, from its values in a few: the
/// largest of them, or their 99 % prediction limit where that is larger. Eight values alone are exceeded in one of nine cases.
/// The limit is Student's, of logarithms, of which the largest dimension's are nearly symmetric. `None` for fewer than two
/// values, and where one is not positive.
pub fn chance_limit(values: &[f64]) -> Option<f64> {
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let (mean, sd) = mean_sd(&logs)?;
    let n = logs.len();
    let limit = mean + quantile(n, 0.99) * sd * (1.0 + 1.0 / n as f64).sqrt();
    limit.is_finite().then(|| values.iter().copied().fold(limit.exp(), f64::max))
}

/// The size of the largest dimension over that of the median one; `None` where the median is 0.
pub fn largest_dimension_ratio(x: &Residuals) -> Option<f64> {
    let sizes = sizes(x);
    let ratio = sizes.iter().copied().fold(0.0, f64::max) / median(&sizes);
    ratio.is_finite().then_some(ratio)
}

/// Root mean square of every dimension over tokens, each scaled to a root mean square of 1: otherwise a single token of large
/// norm would decide alone. Tokens that are 0 count as they are.
fn sizes(x: &Residuals) -> Vec<f64> {
    let mut squares = vec![0.0; x.d_model()];
    for row in x.rows() {
        let mean = row.iter().map(|value| value * value).sum::<f64>() / row.len() as f64;
        if mean > 0.0 {
            squares.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * value / mean);
        }
    }
    squares.iter().map(|sum| (sum / x.n_tokens() as f64).sqrt()).collect()
}

/// The median of sizes that are at least 0.
fn median(sizes: &[f64]) -> f64 {
    median_of_bits(&mut sizes.iter().map(|size| size.to_bits()).collect::<Vec<_>>())
}

/// One of the largest values of a site.
#[derive(Debug, Clone, PartialEq)]
pub struct LargestValue {
    /// The token's row, 0-based.
    pub token: usize,
    /// Whether it is the first of its sequence.
    pub first: bool,
    /// 0-based.
    pub dim: usize,
    /// With its sign.
    pub value: f64,
    /// Its magnitude over the median magnitude of all values; `None` where that is 0.
    pub ratio: Option<f64>,
}

/// The `count` values of largest magnitude at first tokens of sequences of `n_ctx` tokens, the largest first, then the
/// `count` largest at other tokens. Zeros are left out; of equal ones the earlier is kept.
pub fn largest_values(x: &Residuals, n_ctx: usize, count: usize) -> Vec<LargestValue> {
    let median = x.median_size();
    let mut groups = [Vec::new(), Vec::new()];
    for (token, row) in x.rows().enumerate() {
        let first = token.is_multiple_of(n_ctx.max(1));
        let kept = &mut groups[usize::from(!first)];
        let mut least = least_kept(kept, count, |one: &LargestValue| one.value.abs());
        for (dim, &value) in row.iter().enumerate() {
            if value.abs() > least {
                let ratio = Some(value.abs() / median).filter(|ratio| ratio.is_finite());
                keep(kept, LargestValue { token, first, dim, value, ratio }, count, |one| one.value.abs());
                least = least_kept(kept, count, |one| one.value.abs());
            }
        }
    }
    groups.concat()
}

/// A token that holds a large share of a site's sum of squares.
#[derive(Debug, Clone, PartialEq)]
pub struct DominantToken {
    /// The token's row, 0-based.
    pub token: usize,
    /// Whether it is the first of its sequence.
    pub first: bool,
    /// Its sum of squares over that of all tokens.
    pub share: f64,
    /// Its sum of squares over that of the tokens like it: the first of each sequence, or the others.
    pub share_of_group: f64,
}

/// The `count` first tokens of sequences of `n_ctx` tokens that have the largest sums of squares, the largest first, then the
/// `count` others. Tokens that are 0 are left out; of equal ones the earlier is kept.
pub fn dominant_tokens(x: &Residuals, n_ctx: usize, count: usize) -> Vec<DominantToken> {
    let (mut groups, mut sums) = ([Vec::new(), Vec::new()], [0.0, 0.0]);
    for (token, row) in x.rows().enumerate() {
        let first = token.is_multiple_of(n_ctx.max(1));
        let squares: f64 = row.iter().map(|value| value * value).sum();
        let group = usize::from(!first);
        sums[group] += squares;
        let kept = &mut groups[group];
        if squares > least_kept(kept, count, |one: &DominantToken| one.share) {
            keep(kept, DominantToken { token, first, share: squares, share_of_group: squares }, count, |one| one.share);
        }
    }
    for (kept, sum) in groups.iter_mut().zip(sums) {
        for one in kept {
            one.share /= sums[0] + sums[1];
            one.share_of_group /= sum;
        }
    }
    groups.concat()
}

/// What a size must exceed to be among the `count` largest.
fn least_kept<T>(kept: &[T], count: usize, size: impl Fn(&T) -> f64) -> f64 {
    match count {
        0 => f64::INFINITY,
        _ if kept.len() < count => 0.0,
        _ => kept.last().map_or(0.0, size),
    }
}

/// Inserts behind those that are at least as large, and drops what is beyond `count`.
fn keep<T>(kept: &mut Vec<T>, one: T, count: usize, size: impl Fn(&T) -> f64) {
    kept.insert(kept.partition_point(|other| size(other) >= size(&one)), one);
    kept.truncate(count);
}
