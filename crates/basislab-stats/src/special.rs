//! Dimensions that stand out, the largest values, and the tokens that hold most of the sum of squares.

use crate::metrics::median_of_bits;
use crate::metrics::shared::columns;
use crate::residuals::Residuals;

/// A dimension whose RMS over tokens is larger, against that of the median dimension, than a threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecialDimension {
    /// 0-based.
    pub dim: usize,
    /// Root mean square over all tokens but the first of each sequence.
    pub rms: f64,
    /// `rms` over the median over dimensions of the same.
    pub ratio: f64,
    /// Its place at the site by `rms`, the largest 1.
    pub rank: usize,
}

/// The dimensions of `x` `[n_tokens, d_model]` (sequences of `n_ctx` tokens one after another) whose ratio exceeds `threshold`,
/// the largest first. The first token of each sequence is left out. None where the median dimension is 0.
///
/// The threshold of a special basis is the largest [`largest_dimension_ratio`] of the same activations in random bases.
pub fn special_dimensions(x: &Residuals, n_ctx: usize, threshold: f64) -> Vec<SpecialDimension> {
    let (d, mut squares, mut n) = (x.d_model(), vec![0.0; x.d_model()], 0);
    for sequence in x.values().chunks(n_ctx.max(1) * d) {
        let rest = &sequence[d..];
        n += rest.len() / d;
        squares.iter_mut().zip(columns(rest, d).energy).for_each(|(sum, more)| *sum += more);
    }
    let rms: Vec<f64> = squares.iter().map(|sum| (sum / n.max(1) as f64).sqrt()).collect();
    let median = median(&rms);
    let mut found: Vec<SpecialDimension> = rms
        .iter()
        .enumerate()
        .map(|(dim, &rms)| SpecialDimension { dim, rms, ratio: rms / median, rank: 0 })
        .filter(|one| one.ratio.is_finite() && one.ratio > threshold)
        .collect();
    found.sort_by(|a, b| b.rms.total_cmp(&a.rms));
    found.iter_mut().zip(1..).for_each(|(one, rank)| one.rank = rank);
    found
}

/// The RMS of the largest dimension over that of the median one, over all tokens of `x`; `None` where the median is 0. For a
/// threshold `x` is a sample of tokens, without the first of each sequence, that was rotated already.
pub fn largest_dimension_ratio(x: &Residuals) -> Option<f64> {
    let sizes: Vec<f64> = x.energy().iter().map(|squares| squares.sqrt()).collect();
    let ratio = sizes.iter().copied().fold(0.0, f64::max) / median(&sizes);
    ratio.is_finite().then_some(ratio)
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
