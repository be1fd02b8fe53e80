//! Optimizer updates as one pass over memory.

use crate::simd::{dispatch, dot, fma};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Numbers that one task updates: four arrays of them fit the second-level cache.
const CHUNK: usize = 16_384;

/// An element-wise update rule with its numbers, which remembers `SLOTS` numbers of each weight.
///
/// Methods are compiled for the instruction set in use only where they are inlined: mark them `#[inline(always)]`.
pub trait Formula<const SLOTS: usize>: Copy + Sync {
    /// The update for one gradient, to be scaled by the learning rate and subtracted. Changes what is remembered.
    fn change<S: Simd>(&self, grad: f32, state: &mut [f32; SLOTS]) -> f32;
}

/// The update is the gradient.
#[derive(Debug, Clone, Copy)]
pub struct Unchanged;

impl Formula<0> for Unchanged {
    #[inline(always)]
    fn change<S: Simd>(&self, grad: f32, _: &mut [f32; 0]) -> f32 {
        grad
    }
}

/// What becomes of a weight: `keep w - lr change`, where the rule sees `grad + coupled w`.
#[derive(Debug, Clone, Copy)]
pub struct Descent {
    /// Decay inside the gradient.
    pub coupled: f32,
    /// 1 without decay outside the gradient.
    pub keep: f32,
    /// The learning rate.
    pub lr: f32,
}

/// The arrays that one update reads and writes, all of one length.
#[derive(Debug)]
pub struct Pass<'a> {
    /// The weights and what becomes of them; `None` leaves the update in the place of the gradient.
    pub weight: Option<(&'a mut [f32], Descent)>,
    /// The gradient. Unspecified afterwards where there are weights.
    pub grad: &'a mut [f32],
    /// What the rule remembers, one array per slot.
    pub state: &'a mut [Vec<f32>],
}

impl Pass<'_> {
    /// Updates all arrays by a rule.
    pub fn run<const SLOTS: usize>(self, formula: impl Formula<SLOTS>) {
        let Self { weight, grad, state } = self;
        let n = grad.len();
        let state: &mut [Vec<f32>; SLOTS] = state.try_into().expect("one array per slot");
        assert!(state.iter().all(|state| state.len() == n), "one number per gradient in each slot");
        let mut state = state.each_mut().map(|state| state.chunks_mut(CHUNK));
        let mut state = || state.each_mut().map(|chunks| chunks.next().expect("as many as of the gradient"));
        let grad = grad.chunks_mut(CHUNK);
        if let Some((weight, descent)) = weight {
            assert_eq!(weight.len(), n, "one weight per gradient");
            let chunks: Vec<_> = weight.chunks_mut(CHUNK).zip(grad).map(|(w, grad)| (w, grad, state())).collect();
            chunks.into_par_iter().for_each(|(w, grad, state)| {
                dispatch(Update { formula, descent, w, grad, state });
            });
        } else {
            let chunks: Vec<_> = grad.map(|grad| (grad, state())).collect();
            chunks.into_par_iter().for_each(|(grad, state)| dispatch(Change { formula, grad, state }));
        }
    }
}

struct Change<'a, F, const SLOTS: usize> {
    formula: F,
    grad: &'a mut [f32],
    state: [&'a mut [f32]; SLOTS],
}

impl<F: Formula<SLOTS>, const SLOTS: usize> WithSimd for Change<'_, F, SLOTS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { formula, grad, state } = self;
        let mut state = state;
        for state in &mut state {
            *state = &mut std::mem::take(state)[..grad.len()];
        }
        for (i, g) in grad.iter_mut().enumerate() {
            *g = at::<S, SLOTS>(formula, *g, &mut state, i);
        }
    }
}

struct Update<'a, F, const SLOTS: usize> {
    formula: F,
    descent: Descent,
    w: &'a mut [f32],
    grad: &'a [f32],
    state: [&'a mut [f32]; SLOTS],
}

impl<F: Formula<SLOTS>, const SLOTS: usize> WithSimd for Update<'_, F, SLOTS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { formula, descent: Descent { coupled, keep, lr }, w, grad, state } = self;
        let mut state = state;
        for state in &mut state {
            *state = &mut std::mem::take(state)[..w.len()];
        }
        for (i, (w, g)) in w.iter_mut().zip(grad).enumerate() {
            let g = if coupled == 0.0 { *g } else { *g + coupled * *w };
            let change = at::<S, SLOTS>(formula, g, &mut state, i);
            *w = fma::<S>(-lr, change, keep * *w);
        }
    }
}

/// The update of number `i`, whose state is read and written.
#[inline(always)]
fn at<S: Simd, const SLOTS: usize>(
    formula: impl Formula<SLOTS>,
    grad: f32,
    state: &mut [&mut [f32]; SLOTS],
    i: usize,
) -> f32 {
    // Loops, which are unrolled: `map` of an array is a call.
    let mut own = [0.0; SLOTS];
    for (own, state) in own.iter_mut().zip(&*state) {
        *own = state[i];
    }
    let change = formula.change::<S>(grad, &mut own);
    for (state, own) in state.iter_mut().zip(&own) {
        state[i] = *own;
    }
    change
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
