//! What the entries of the table compute. Every sum has one fixed order and no fused multiply-add, so that a result has one
//! bit pattern, however wide the vectors are that a loop was compiled for.

use crate::residuals::Residuals;
use pulp::{Arch, Simd, WithSimd};

#[inline(always)]
pub(super) fn mean(x: &[f64]) -> f64 {
    sum(x, |v| v) / x.len() as f64
}

/// Biased `m4 / m2^2`; `None` without variance.
#[inline(always)]
pub(super) fn kurtosis(x: &[f64]) -> Option<f64> {
    if is_constant(x) {
        return None;
    }
    let centre = mean(x);
    let m2 = sum(x, |v| (v - centre) * (v - centre));
    ratio(sum(x, |v| fourth(v - centre)) * x.len() as f64, m2 * m2)
}

#[inline(always)]
pub(super) fn kurtosis_about_zero(x: &[f64]) -> Option<f64> {
    let s2 = sum(x, |v| v * v);
    ratio(sum(x, fourth) * x.len() as f64, s2 * s2)
}

#[inline(always)]
pub(super) fn excess_ddof_1(x: &[f64], about: f64) -> Option<f64> {
    if is_constant(x) {
        return None;
    }
    let n = x.len() as f64;
    let centre = mean(x);
    let variance = sum(x, |v| (v - centre) * (v - centre)) / (n - 1.0);
    let kurtosis = ratio(sum(x, |v| fourth(v - about)) / n, variance * variance)?;
    Some((kurtosis - 3.0).max(0.0))
}

/// Root mean square; `None` where the squares overflow.
#[inline(always)]
pub(super) fn rms(x: &[f64]) -> Option<f64> {
    let rms = (sum(x, |v| v * v) / x.len() as f64).sqrt();
    rms.is_finite().then_some(rms)
}

pub(super) fn max_over_median(x: &[f64]) -> Option<f64> {
    let largest = x.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
    ratio(largest, median_size(x))
}

pub(super) fn dim_rms_kurtosis(x: &Residuals) -> Option<f64> {
    let energy = columns(x, |sum, v| sum + v * v);
    ratio(sum(&energy, |s| s * s) / energy.len() as f64, mean(&energy) * mean(&energy))
}

pub(super) fn outlier_dims_6x_rms(x: &Residuals) -> Option<f64> {
    let rms: Vec<f64> = columns(x, |sum, v| sum + v * v).into_iter().map(f64::sqrt).collect();
    let middle = median_size(&rms);
    middle.is_normal().then(|| rms.iter().filter(|r| **r > 6.0 * middle).count() as f64)
}

pub(super) fn outlier_dims_abs6(x: &Residuals) -> Option<f64> {
    Some(columns(x, |largest, v| largest.max(v.abs())).iter().filter(|largest| **largest > 6.0).count() as f64)
}

pub(super) fn massive(x: &Residuals) -> Option<f64> {
    let mut large = x.values().iter().map(|v| v.abs()).filter(|v| *v > 100.0).peekable();
    // Most matrices have none, and the median of a whole matrix is the dearest step of all metrics.
    if large.peek().is_none() {
        return Some(0.0);
    }
    let middle = median_size(x.values());
    Some(large.filter(|v| *v >= 1000.0 * middle).count() as f64)
}

pub(super) fn max_dim_energy_share(x: &Residuals) -> Option<f64> {
    let energy = columns(x, |sum, v| sum + v * v);
    ratio(energy.iter().copied().fold(0.0, f64::max), sum(&energy, |s| s))
}

pub(super) fn dettmers(stack: &[Residuals]) -> Option<f64> {
    let first = stack.first()?;
    if stack.iter().any(|x| x.d_model() != first.d_model()) {
        return None;
    }
    let positions: usize = stack.iter().map(Residuals::n_tokens).sum();
    let counts: Vec<Vec<f64>> =
        stack.iter().map(|x| columns(x, |count, v| count + f64::from(u8::from(v.abs() >= 6.0)))).collect();
    let is_outlier = |j: &usize| {
        let layers = counts.iter().filter(|layer| layer[*j] > 0.0).count();
        let hits: f64 = counts.iter().map(|layer| layer[*j]).sum();
        layers as f64 >= 0.25 * stack.len() as f64 && hits >= 0.06 * positions as f64
    };
    Some((0..first.d_model()).filter(is_outlier).count() as f64)
}

/// `of` each token. Closures marked `inline(always)` are compiled for the widest vectors of the machine.
pub(super) fn per_token(x: &Residuals, of: impl Fn(&[f64]) -> Option<f64>) -> Option<Vec<f64>> {
    Arch::new().dispatch(PerToken { x, of })
}

struct PerToken<'a, F> {
    x: &'a Residuals,
    of: F,
}

impl<F: Fn(&[f64]) -> Option<f64>> WithSimd for PerToken<'_, F> {
    type Output = Option<Vec<f64>>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Option<Vec<f64>> {
        let mut values = Vec::with_capacity(self.x.n_tokens());
        for row in self.x.rows() {
            values.push((self.of)(row)?);
        }
        Some(values)
    }
}

pub(super) fn mean_of(x: &Residuals, of: impl Fn(&[f64]) -> Option<f64>) -> Option<f64> {
    per_token(x, of).map(|values| mean(&values)).filter(|value| value.is_finite())
}

/// The median magnitude; the mean of the two middle ones for an even count.
pub(super) fn median_size(x: &[f64]) -> f64 {
    // Bit patterns of magnitudes order as the magnitudes do, and integers compare faster.
    let mut bits: Vec<u64> = x.iter().map(|v| v.abs().to_bits()).collect();
    let half = bits.len() / 2;
    let (below, middle, _) = bits.select_nth_unstable(half);
    let middle = f64::from_bits(*middle);
    match below.iter().max() {
        Some(&previous) if x.len().is_multiple_of(2) => 0.5 * (middle + f64::from_bits(previous)),
        _ => middle,
    }
}

/// Folds every column from 0.
fn columns(x: &Residuals, fold: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut all = vec![0.0; x.d_model()];
    for row in x.rows() {
        for (so_far, value) in all.iter_mut().zip(row) {
            *so_far = fold(*so_far, *value);
        }
    }
    all
}

// Eight running sums: a single one would wait for its own last addition.
#[inline(always)]
fn sum(x: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let (chunks, rest) = x.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += of(*value);
        }
    }
    let tail: f64 = rest.iter().map(|value| of(*value)).sum();
    lanes.iter().sum::<f64>() + tail
}

#[inline(always)]
fn fourth(v: f64) -> f64 {
    (v * v) * (v * v)
}

// Equal values need not average to themselves (twelve times 0.1), and the dust would pass for a variance.
#[inline(always)]
fn is_constant(x: &[f64]) -> bool {
    x.iter().all(|value| *value == x[0])
}

/// `a / b` where that is a number, and `b` has not lost digits to underflow.
#[inline(always)]
fn ratio(a: f64, b: f64) -> Option<f64> {
    let quotient = a / b;
    (b.is_normal() && quotient.is_finite()).then_some(quotient)
}
