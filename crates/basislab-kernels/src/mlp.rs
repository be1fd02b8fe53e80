use crate::buffer::Buffer;
use crate::chunks::{WeightGradient, sequences, transposed, weight_gradients};
use crate::gemm::{Mat, Precision, matmul};
use crate::norm;
use crate::simd::{dispatch, erf_and_gauss, fma};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::f32::consts::FRAC_1_SQRT_2;

/// The MLP branch: `out = x + gelu(norm(x) W_in) W_out` with the exact GELU and an RMS norm.
#[derive(Debug, Clone, Copy)]
pub struct Mlp<'a> {
    /// Positions per sequence; only decides how rows are cut into chunks.
    pub pos: usize,
    /// Added to the mean square.
    pub epsilon: f32,
    /// `[1]` or `[D]`
    pub gain: &'a [f32],
    /// `[D, F]`
    pub w_in: &'a [f32],
    /// `[F, D]`
    pub w_out: &'a [f32],
}

/// What the backward pass needs of the forward pass.
#[derive(Debug)]
pub struct MlpSaved {
    inverse: Buffer,
    normed: Buffer,
    /// The GELU's derivative at each hidden value.
    slope: Buffer,
    active: Buffer,
}

impl Mlp<'_> {
    fn d_mlp(&self, d: usize) -> usize {
        self.w_in.len() / d
    }

    /// # Shapes
    /// `x [N, D]` -> `out [N, D]`
    pub fn forward(&self, x: &[f32], d: usize, out: &mut [f32]) -> MlpSaved {
        let (rows, d_mlp) = (x.len() / d, self.d_mlp(d));
        let mut saved = MlpSaved {
            inverse: Buffer::new(rows),
            normed: Buffer::new(rows * d),
            slope: Buffer::new(rows * d_mlp),
            active: Buffer::new(rows * d_mlp),
        };
        let chunk = sequences(self.pos) * self.pos;
        x.par_chunks(chunk * d)
            .zip(out.par_chunks_mut(chunk * d))
            .zip(saved.inverse.par_chunks_mut(chunk))
            .zip(saved.normed.par_chunks_mut(chunk * d))
            .zip(saved.slope.par_chunks_mut(chunk * d_mlp))
            .zip(saved.active.par_chunks_mut(chunk * d_mlp))
            .for_each(|(((((x, out), inverse), normed), slope), active)| {
                dispatch(Forward { op: self, d, x, out, inverse, normed, slope, active });
            });
        saved
    }

    /// `dx` comes in as the gradient of `out` and leaves as the gradient of `x`.
    ///
    /// # Shapes
    /// `x`, `dx [N, D]`; `grads`: gain, `W_in`, `W_out`, each like its parameter, overwritten
    pub fn backward(&self, x: &[f32], d: usize, saved: &MlpSaved, dx: &mut [f32], grads: [&mut [f32]; 3]) {
        let (rows, d_mlp) = (x.len() / d, self.d_mlp(d));
        let [gain, w_in, w_out] = grads;
        weight_gradients(vec![WeightGradient {
            x: Mat::dense(&saved.active, d_mlp),
            dy: Mat::dense(dx, d),
            into: w_out,
            scale: 1.0,
            precision: Precision::F32,
        }]);
        let chunk = sequences(self.pos) * self.pos;
        let mut d_hidden = Buffer::new(rows * d_mlp);
        let (w_in_t, w_out_t) = (transposed(self.w_in, d_mlp), transposed(self.w_out, d));
        let mut gains = Buffer::new(rows.div_ceil(chunk) * d);
        gains.fill(0.0);
        x.par_chunks(chunk * d)
            .zip(dx.par_chunks_mut(chunk * d))
            .zip(saved.inverse.par_chunks(chunk))
            .zip(saved.slope.par_chunks(chunk * d_mlp))
            .zip(d_hidden.par_chunks_mut(chunk * d_mlp))
            .zip(gains.par_chunks_mut(d))
            .for_each(|(((((x, dx), inverse), slope), d_hidden), d_gain)| {
                dispatch(Backward {
                    op: self,
                    w_in_t: &w_in_t,
                    w_out_t: &w_out_t,
                    x,
                    dx,
                    inverse,
                    slope,
                    d_hidden,
                    d_gain,
                });
            });
        weight_gradients(vec![WeightGradient {
            x: Mat::dense(&saved.normed, d),
            dy: Mat::dense(&d_hidden, d_mlp),
            into: w_in,
            scale: 1.0,
            precision: Precision::F32,
        }]);
        norm::total_gain(&gains, d, gain);
    }
}

struct Forward<'a> {
    op: &'a Mlp<'a>,
    d: usize,
    x: &'a [f32],
    out: &'a mut [f32],
    inverse: &'a mut [f32],
    normed: &'a mut [f32],
    slope: &'a mut [f32],
    active: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, d, x, out, inverse, normed, slope, active } = self;
        let d_mlp = op.d_mlp(d);
        norm::forward::<S>(x, op.gain, op.epsilon, normed, inverse);
        matmul(Mat::dense(normed, d), Mat::dense(op.w_in, d_mlp), slope, d_mlp, false, 1.0);
        const DENSITY_AT_0: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
        for (active, slope) in active.iter_mut().zip(&mut *slope) {
            let h = *slope;
            let (erf, gauss) = erf_and_gauss::<S>(h * FRAC_1_SQRT_2);
            let share = fma::<S>(0.5, erf, 0.5);
            *active = h * share;
            *slope = fma::<S>(h * DENSITY_AT_0, gauss, share);
        }
        out.copy_from_slice(x);
        matmul(Mat::dense(active, d_mlp), Mat::dense(op.w_out, d), out, d, true, 1.0);
    }
}

struct Backward<'a> {
    op: &'a Mlp<'a>,
    /// `W_inᵀ [F, D]`
    w_in_t: &'a [f32],
    /// `W_outᵀ [D, F]`
    w_out_t: &'a [f32],
    x: &'a [f32],
    dx: &'a mut [f32],
    inverse: &'a [f32],
    slope: &'a [f32],
    d_hidden: &'a mut [f32],
    d_gain: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, w_in_t, w_out_t, x, dx, inverse, slope, d_hidden, d_gain } = self;
        let d = d_gain.len();
        let d_mlp = op.d_mlp(d);
        matmul(Mat::dense(dx, d), Mat::dense(w_out_t, d_mlp), d_hidden, d_mlp, false, 1.0);
        for (d_hidden, slope) in d_hidden.iter_mut().zip(slope) {
            *d_hidden *= slope;
        }
        let mut d_normed = Buffer::new(dx.len());
        matmul(Mat::dense(d_hidden, d_mlp), Mat::dense(w_in_t, d), &mut d_normed, d, false, 1.0);
        norm::backward::<S>(&mut d_normed, x, op.gain, inverse, dx, d_gain);
    }
}
