//! What the entries of the table compute. Every sum has one fixed order and no fused multiply-add, so that a result has one
//! bit pattern, however wide the vectors are that a loop was compiled for.

use crate::residuals::Residuals;

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

pub(super) fn dim_rms_kurtosis(x: &Residuals) -> Option<f64> {
    let energy = &x.columns().energy;
    ratio(sum(energy, |s| s * s) / energy.len() as f64, mean(energy) * mean(energy))
}

pub(super) fn outlier_dims_6x_rms(x: &Residuals) -> Option<f64> {
    let rms: Vec<f64> = x.columns().energy.iter().map(|energy| energy.sqrt()).collect();
    let middle = median_size(&rms);
    middle.is_normal().then(|| rms.iter().filter(|r| **r > 6.0 * middle).count() as f64)
}

pub(super) fn outlier_dims_abs6(x: &Residuals) -> Option<f64> {
    Some(x.columns().largest.iter().filter(|largest| **largest > 6.0).count() as f64)
}

pub(super) fn massive(x: &Residuals) -> Option<f64> {
    // Most matrices have none, and the median of a whole matrix is the dearest step of all metrics.
    if x.columns().largest.iter().all(|largest| *largest <= 100.0) {
        return Some(0.0);
    }
    let middle = median_size(x.values());
    let is_massive = |v: &&f64| v.abs() > 100.0 && v.abs() >= 1000.0 * middle;
    Some(x.values().iter().filter(is_massive).count() as f64)
}

pub(super) fn max_dim_energy_share(x: &Residuals) -> Option<f64> {
    let energy = &x.columns().energy;
    ratio(energy.iter().copied().fold(0.0, f64::max), sum(energy, |s| s))
}

pub(super) fn dettmers(stack: &[Residuals]) -> Option<f64> {
    let first = stack.first()?;
    if stack.iter().any(|x| x.d_model() != first.d_model()) {
        return None;
    }
    let positions: usize = stack.iter().map(Residuals::n_tokens).sum();
    let counts: Vec<Vec<f64>> = stack.iter().map(large_values).collect();
    let is_outlier = |j: &usize| {
        let layers = counts.iter().filter(|layer| layer[*j] > 0.0).count();
        let hits: f64 = counts.iter().map(|layer| layer[*j]).sum();
        layers as f64 >= 0.25 * stack.len() as f64 && hits >= 0.06 * positions as f64
    };
    Some((0..first.d_model()).filter(is_outlier).count() as f64)
}

/// The mean over tokens of what `of` reads; `None` if one token has no value.
pub(super) fn mean_of<T>(tokens: &[T], of: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    Some(mean(&all(tokens, of)?)).filter(|value| value.is_finite())
}

/// What `of` reads of each token; `None` if one token has no value.
pub(super) fn all<T>(tokens: &[T], of: impl Fn(&T) -> Option<f64>) -> Option<Vec<f64>> {
    tokens.iter().map(of).collect()
}

/// The median magnitude; the mean of the two middle ones for an even count.
pub(super) fn median_size(x: &[f64]) -> f64 {
    median_size_in(x, &mut Vec::with_capacity(x.len()))
}

/// [`median_size`] with memory to work in.
pub(super) fn median_size_in(x: &[f64], bits: &mut Vec<u64>) -> f64 {
    // Bit patterns of magnitudes order as the magnitudes do, and integers compare faster.
    bits.clear();
    bits.extend(x.iter().map(|v| v.abs().to_bits()));
    let half = bits.len() / 2;
    let (below, middle, _) = bits.select_nth_unstable(half);
    let middle = f64::from_bits(*middle);
    match below.iter().max() {
        Some(&previous) if x.len().is_multiple_of(2) => 0.5 * (middle + f64::from_bits(previous)),
        _ => middle,
    }
}

/// Values of at least 6 in every dimension.
fn large_values(x: &Residuals) -> Vec<f64> {
    let mut counts = vec![0.0; x.d_model()];
    for row in x.rows() {
        for (count, value) in counts.iter_mut().zip(row) {
            *count += f64::from(u8::from(value.abs() >= 6.0));
        }
    }
    counts
}

// Eight running sums: a single one would wait for its own last addition.
#[inline(always)]
pub(super) fn sum(x: &[f64], of: impl Fn(f64) -> f64) -> f64 {
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
pub(super) fn fourth(v: f64) -> f64 {
    (v * v) * (v * v)
}

// Equal values need not average to themselves (twelve times 0.1), and the dust would pass for a variance.
#[inline(always)]
pub(super) fn is_constant(x: &[f64]) -> bool {
    x.iter().all(|value| *value == x[0])
}

/// `a / b` where that is a number, and `b` has not lost digits to underflow.
#[inline(always)]
pub(super) fn ratio(a: f64, b: f64) -> Option<f64> {
    let quotient = a / b;
    (b.is_normal() && quotient.is_finite()).then_some(quotient)
}
