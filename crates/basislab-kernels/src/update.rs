//! Optimizer updates as one pass over memory.

use crate::simd::{dispatch, dot, fma};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Numbers that one task updates: four arrays of them fit the second-level cache.
const CHUNK: usize = 16_384;

/// The numbers of one Adam update. Scalars are computed in f64 by the caller.
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// `1 - beta_1`
    pub new_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// `1 - beta_2`
    pub new_2: f32,
    /// `1 / (1 - beta_1^count)`
    pub scale_1: f32,
    /// `1 / sqrt(1 - beta_2^count)`
    pub scale_2: f32,
    /// Added to the root.
    pub epsilon: f32,
}

impl Adam {
    /// Updates both moments and replaces the gradient by the update.
    pub fn change(&self, grad: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        assert!(grad.len() == first.len() && grad.len() == second.len(), "one moment per gradient");
        grad.par_chunks_mut(CHUNK)
            .zip(first.par_chunks_mut(CHUNK))
            .zip(second.par_chunks_mut(CHUNK))
            .for_each(|((grad, first), second)| dispatch(AdamChange { adam: *self, grad, first, second }));
    }
}

struct AdamChange<'a> {
    adam: Adam,
    grad: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl WithSimd for AdamChange<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Adam { beta_1, new_1, beta_2, new_2, scale_1, scale_2, epsilon } = self.adam;
        for ((g, m), v) in self.grad.iter_mut().zip(self.first).zip(self.second) {
            *m = fma::<S>(*m, beta_1, *g * new_1);
            *v = fma::<S>(*v, beta_2, *g * *g * new_2);
            *g = *m * scale_1 / fma::<S>(v.sqrt(), scale_2, epsilon);
        }
    }
}

/// `x = x factor`
pub fn scale(x: &mut [f32], factor: f32) {
    x.par_chunks_mut(CHUNK).for_each(|x| x.iter_mut().for_each(|x| *x *= factor));
}

/// `sum x^2`: each run of 16,384 numbers in f32 over 16 partial sums, the runs in f64.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let runs: Vec<f32> = x.par_chunks(CHUNK).map(|x| dispatch(SumOfSquares(x))).collect();
    runs.into_iter().map(f64::from).sum()
}

struct SumOfSquares<'a>(&'a [f32]);

impl WithSimd for SumOfSquares<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        dot::<S>(self.0, self.0)
    }
}

/// `w = keep w - lr change`
pub fn descend(w: &mut [f32], change: &[f32], keep: f32, lr: f32) {
    assert_eq!(w.len(), change.len(), "one change per weight");
    w.par_chunks_mut(CHUNK)
        .zip(change.par_chunks(CHUNK))
        .for_each(|(w, change)| dispatch(Descend { w, change, keep, lr }));
}

struct Descend<'a> {
    w: &'a mut [f32],
    change: &'a [f32],
    keep: f32,
    lr: f32,
}

impl WithSimd for Descend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (w, change) in self.w.iter_mut().zip(self.change) {
            *w = fma::<S>(-self.lr, *change, self.keep * *w);
        }
    }
}
