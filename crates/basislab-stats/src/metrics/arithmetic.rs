//! What the entries of the table compute. Every sum has one fixed order and no fused multiply-add, so that a result has one
//! bit pattern, however wide the vectors are that a loop was compiled for.

use crate::metrics::LargeValues;
use crate::residuals::Residuals;

#[inline(always)]
pub(super) fn mean(x: &[f64]) -> f64 {
    sum(x, |v| v) / x.len() as f64
}

/// Sums of the squares and fourth powers of deviations from the mean; `None` without variance.
#[inline(always)]
pub(super) fn central_sums(x: &[f64]) -> Option<(f64, f64)> {
    if is_constant(x) {
        return None;
    }
    let n = x.len() as f64;
    let (mut origin, mut centre) = (0.0, mean(x));
    let mut m2 = sum(x, |v| (v - centre) * (v - centre));
    if is_narrow((m2 / n).sqrt(), centre) {
        origin = x[0];
        centre = sum(x, |v| v - origin) / n;
        m2 = sum(x, |v| (v - origin - centre) * (v - origin - centre));
    }
    Some((m2, sum(x, |v| fourth(v - origin - centre))))
}

/// Whether values spread so little that the rounding of their mean would show in their moments. Then differences to one of
/// the values are taken first: they are exact, since such values lie within a factor of two of each other (Sterbenz).
#[inline(always)]
pub(crate) fn is_narrow(sd: f64, mean: f64) -> bool {
    sd < NARROW * mean.abs()
}

/// A standard deviation over the mean below which [`is_narrow`] holds.
const NARROW: f64 = 1e-6;

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
    Some(dims_above(x, 6.0))
}

pub(super) fn outlier_dims_abs6_normalised(x: &Residuals) -> Option<f64> {
    Some(dims_above(x, 6.0 * typical_rms(x)?))
}

fn dims_above(x: &Residuals, threshold: f64) -> f64 {
    x.columns().largest.iter().filter(|largest| **largest > threshold).count() as f64
}

/// The median token's RMS.
fn typical_rms(x: &Residuals) -> Option<f64> {
    Some(x.median_rms()).filter(|rms| rms.is_normal())
}

pub(super) fn max_median_ratio(x: &Residuals) -> Option<f64> {
    let mut mean = Mean::of(x.n_tokens());
    x.each_peak(|peak| mean.add(peak));
    mean.value()
}

pub(super) fn massive(x: &Residuals) -> Option<f64> {
    Some(massive_above(x, 100.0))
}

pub(super) fn massive_normalised(x: &Residuals) -> Option<f64> {
    Some(massive_above(x, 100.0 * typical_rms(x)?))
}

fn massive_above(x: &Residuals, threshold: f64) -> f64 {
    // Most matrices have none, and the median of a whole matrix takes long.
    if x.columns().largest.iter().all(|largest| *largest <= threshold) {
        return 0.0;
    }
    let middle = x.median_size();
    let is_massive = |v: &&f64| v.abs() > threshold && v.abs() >= 1000.0 * middle;
    x.values().iter().filter(is_massive).count() as f64
}

pub(super) fn max_dim_energy_share(x: &Residuals) -> Option<f64> {
    let energy = &x.columns().energy;
    ratio(energy.iter().copied().fold(0.0, f64::max), sum(energy, |s| s))
}

pub(super) fn dettmers(layers: &[LargeValues]) -> Option<f64> {
    let d_model = layers.first()?.counts.len();
    if layers.iter().any(|layer| layer.counts.len() != d_model) {
        return None;
    }
    let positions: usize = layers.iter().map(|layer| layer.tokens).sum();
    let is_outlier = |j: &usize| {
        let counts = || layers.iter().map(|layer| layer.counts[*j]);
        let with_hits = counts().filter(|count| *count > 0).count();
        with_hits as f64 >= 0.25 * layers.len() as f64 && counts().sum::<usize>() as f64 >= 0.06 * positions as f64
    };
    Some((0..d_model).filter(is_outlier).count() as f64)
}

/// The median magnitude; the mean of the two middle ones for an even count.
pub(super) fn median_size(x: &[f64]) -> f64 {
    median_of_bits(&mut x.iter().map(|v| v.abs().to_bits()).collect::<Vec<_>>())
}

/// [`median_of_bits`] in fewer steps where it is `near` a known number, which is at least 0: the values below some bound are
/// counted, which vector instructions do fast, until few remain between two bounds. `between` is memory to work in, as long
/// as `bits`.
#[inline(always)]
pub(super) fn median_near(bits: &[i64], near: f64, between: &mut [i64]) -> f64 {
    let (half, even) = (bits.len() / 2, bits.len().is_multiple_of(2));
    let few = 16 + bits.len() / 32;
    // `below` values are less than `low`, `until` are less than `high`, and the middle ones are neither.
    let (mut low, mut high) = (0, i64::MAX);
    let (mut below, mut until) = (0, bits.len());
    // A quarter of an octave.
    let (mut bound, mut step) = (near.to_bits() as i64, 1i64 << 50);
    for _ in 0..10 {
        if until - below <= few {
            break;
        }
        let count = bits.iter().map(|value| i64::from(*value < bound)).sum::<i64>() as usize;
        if count + usize::from(even) <= half {
            (low, below, bound) = (bound, count, bound.saturating_add(step));
        } else if count > half {
            (high, until, bound) = (bound, count, bound - step);
        } else {
            break;
        }
        step *= 2;
        if bound <= low || bound >= high {
            bound = low + (high - low) / 2;
        }
    }
    let mut kept = 0;
    for value in bits {
        // What is not kept is written over. One comparison, and no branch that would be mispredicted.
        between[kept] = *value;
        kept += usize::from(((*value - low) as u64) < (high - low) as u64);
    }
    let (smaller, middle, _) = between[..kept].select_nth_unstable(half - below);
    let middle = f64::from_bits(*middle as u64);
    match smaller.iter().max() {
        Some(&previous) if even => 0.5 * (middle + f64::from_bits(previous as u64)),
        _ => middle,
    }
}

/// The median of magnitudes by their bit patterns, which order as they do, and integers compare faster.
pub(crate) fn median_of_bits(bits: &mut [u64]) -> f64 {
    let even = bits.len().is_multiple_of(2);
    let half = bits.len() / 2;
    let (below, middle, _) = bits.select_nth_unstable(half);
    let middle = f64::from_bits(*middle);
    match below.iter().max() {
        Some(&previous) if even => 0.5 * (middle + f64::from_bits(previous)),
        _ => middle,
    }
}

/// [`median_size`] of a slice too long to be copied: the bounds that a sample gives to it leave few values, and only those
/// are copied. Two middle values that are equal are not added, since their sum could overflow.
pub(crate) fn median_size_in_place(x: &[f64]) -> f64 {
    /// Of so many values one is sampled; a prime, so that the sample is no column of a matrix.
    const SAMPLED: usize = 251;
    /// Values that are tested for room at a time.
    const CHUNK: usize = 4096;
    let mut sample: Vec<u64> = x.iter().step_by(SAMPLED).map(|v| v.abs().to_bits()).collect();
    // Four standard deviations of the sample's median.
    let (middle, margin) = (sample.len() / 2, 2 * sample.len().isqrt());
    if margin >= middle {
        return median_by_digits(x);
    }
    let low = *sample.select_nth_unstable(middle - margin).1;
    let high = *sample.select_nth_unstable(middle + margin).1;
    drop(sample);
    let mut between = vec![0u64; x.len() / 4 + CHUNK];
    let (mut below, mut kept) = (0, 0);
    for chunk in x.chunks(CHUNK) {
        // Many equal values, or a sample that is unlike the rest.
        let Some(room) = between.get_mut(kept..kept + chunk.len()) else { return median_by_digits(x) };
        let mut here = 0;
        for value in chunk {
            let bits = value.abs().to_bits();
            room[here] = bits;
            // One comparison, and no branch that would be mispredicted.
            here += usize::from(bits.wrapping_sub(low) <= high - low);
            below += usize::from(bits < low);
        }
        kept += here;
    }
    let (half, even) = (x.len() / 2, x.len().is_multiple_of(2));
    if half < below + usize::from(even) || half >= below + kept {
        return median_by_digits(x);
    }
    let (smaller, middle, _) = between[..kept].select_nth_unstable(half - below);
    let middle = f64::from_bits(*middle);
    match smaller.iter().max().map(|&bits| f64::from_bits(bits)) {
        Some(previous) if even && previous < middle => 0.5 * (middle + previous),
        _ => middle,
    }
}

/// [`median_size_in_place`], whatever the values: digit after digit of the bit pattern, the values that share the digits
/// found so far are counted by their next one.
fn median_by_digits(x: &[f64]) -> f64 {
    const DIGIT: u32 = 13;
    let bits = || x.iter().map(|v| v.abs().to_bits());
    // Five digits hold the 63 bits of a magnitude.
    let (mut rank, mut found) = (x.len() / 2, 0);
    let mut counts = vec![0usize; 1 << DIGIT];
    for shift in (0..5).rev().map(|digit| digit * DIGIT) {
        counts.fill(0);
        for value in bits().filter(|value| (value >> shift) >> DIGIT == found) {
            counts[(value >> shift) as usize & ((1 << DIGIT) - 1)] += 1;
        }
        let mut digit = 0;
        while rank >= counts[digit] {
            rank -= counts[digit];
            digit += 1;
        }
        found = (found << DIGIT) | digit as u64;
    }
    let middle = f64::from_bits(found);
    // `rank` is now the number of values before it that are equal to it.
    match bits().filter(|value| *value < found).max() {
        _ if x.len() % 2 == 1 || rank > 0 => middle,
        Some(previous) => 0.5 * (middle + f64::from_bits(previous)),
        None => middle,
    }
}

/// Values of at least 6 in every dimension.
pub(super) fn large_values(x: &Residuals) -> LargeValues {
    let mut counts = vec![0; x.d_model()];
    for row in x.rows() {
        for (count, value) in counts.iter_mut().zip(row) {
            *count += usize::from(value.abs() >= 6.0);
        }
    }
    LargeValues { counts, tokens: x.n_tokens() }
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

/// The mean of values that come one after another: the bits of [`mean`] of them all.
pub(super) struct Mean {
    lanes: [f64; 8],
    tail: f64,
    seen: usize,
    n: usize,
}

impl Mean {
    /// Of `n` values.
    pub(super) fn of(n: usize) -> Self {
        Self { lanes: [0.0; 8], tail: 0.0, seen: 0, n }
    }

    /// One more value.
    pub(super) fn add(&mut self, value: f64) {
        let to = if self.seen < self.n - self.n % 8 { &mut self.lanes[self.seen % 8] } else { &mut self.tail };
        *to += value;
        self.seen += 1;
    }

    /// `None` if one of the values was NaN.
    pub(super) fn value(&self) -> Option<f64> {
        finite((self.lanes.iter().sum::<f64>() + self.tail) / self.n as f64)
    }
}

/// A number, or `None` for NaN and infinities.
pub(super) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// `a / b` where that is a number, and `b` has not lost digits to underflow.
#[inline(always)]
pub(super) fn ratio(a: f64, b: f64) -> Option<f64> {
    let quotient = a / b;
    (b.is_normal() && quotient.is_finite()).then_some(quotient)
}
