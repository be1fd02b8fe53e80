//! Root-mean-square norm: `y = g x / rms(x)`, with one gain (`[1]`), a gain per dimension (`[D]`), or the gain 1.

use crate::simd::{dot, fma};
use pulp::Simd;

/// Normalises rows of `x` into `y` and keeps `1 / rms` of each.
#[inline(always)]
pub(crate) fn forward<S: Simd>(x: &[f32], gain: &[f32], epsilon: f32, y: &mut [f32], inverse: &mut [f32]) {
    let d = x.len() / inverse.len();
    for ((x, y), inverse) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(inverse) {
        *inverse = 1.0 / (dot::<S>(x, x) / d as f32 + epsilon).sqrt();
        if let [gain] = gain {
            let scale = *inverse * gain;
            for (y, x) in y.iter_mut().zip(x) {
                *y = x * scale;
            }
        } else {
            for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
                *y = x * *inverse * gain;
            }
        }
    }
}

/// Adds the gradient of rows of `x` to `dx`, and that of the gain, per dimension, to `d_gain [D]`. `dy` is overwritten.
#[inline(always)]
pub(crate) fn backward<S: Simd>(
    dy: &mut [f32],
    x: &[f32],
    gain: &[f32],
    inverse: &[f32],
    dx: &mut [f32],
    d_gain: &mut [f32],
) {
    let d = d_gain.len();
    for (((dy, x), dx), inverse) in
        dy.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(dx.chunks_exact_mut(d)).zip(inverse)
    {
        for ((d_gain, dy), x) in d_gain.iter_mut().zip(&*dy).zip(x) {
            *d_gain = fma::<S>(dy * inverse, *x, *d_gain);
        }
        if let [gain] = gain {
            for dy in &mut *dy {
                *dy *= gain;
            }
        } else {
            for (dy, gain) in dy.iter_mut().zip(gain) {
                *dy *= gain;
            }
        }
        // x / rms(x) = x r with r = inverse: its gradient is r dy - x r^3 mean(dy x).
        let along = dot::<S>(dy, x) / d as f32 * inverse * inverse;
        for ((dx, dy), x) in dx.iter_mut().zip(&*dy).zip(x) {
            *dx = fma::<S>(fma::<S>(-along, *x, *dy), *inverse, *dx);
        }
    }
}

/// The gain's gradient from those of the chunks, added in order: one number, or one per dimension.
pub(crate) fn total_gain(per_chunk: &[f32], d: usize, into: &mut [f32]) {
    let column = |j: usize| per_chunk.chunks_exact(d).map(|chunk| f64::from(chunk[j])).sum::<f64>();
    if let [one] = into {
        *one = (0..d).map(column).sum::<f64>() as f32;
    } else {
        for (j, into) in into.iter_mut().enumerate() {
            *into = column(j) as f32;
        }
    }
}
