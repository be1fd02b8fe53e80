use crate::buffer::Buffer;
use crate::chunks::{WeightGradient, sequences, transposed, weight_gradients};
use crate::gemm::{Mat, Precision, matmul};
use crate::norm;
use crate::simd::{dispatch, exp, max, sum};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// The head and the loss: mean over rows of `-log softmax(norm(x) W_U)[target]`, in nats.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Positions per sequence; only decides how rows are cut into chunks.
    pub pos: usize,
    /// Added to the mean square.
    pub epsilon: f32,
    /// `[1]` or `[D]`
    pub gain: &'a [f32],
    /// `[D, V]`
    pub w_u: &'a [f32],
}

/// What the backward pass needs of the forward pass.
#[derive(Debug)]
pub struct HeadSaved {
    inverse: Buffer,
    normed: Buffer,
    /// Gradient of the loss with respect to the logits, times the number of rows.
    d_logits: Buffer,
}

impl Head<'_> {
    /// Loss, and what its gradient needs.
    ///
    /// # Shapes
    /// `x [N, D]`, `targets [N]` below `V`
    pub fn forward(&self, x: &[f32], d: usize, targets: &[i32]) -> (f32, HeadSaved) {
        let (rows, d_vocab) = (x.len() / d, self.w_u.len() / d);
        assert_eq!(targets.len(), rows, "one target per row");
        let mut saved = HeadSaved {
            inverse: Buffer::new(rows),
            normed: Buffer::new(rows * d),
            d_logits: Buffer::new(rows * d_vocab),
        };
        let chunk = sequences(self.pos) * self.pos;
        let losses: Vec<f64> = x
            .par_chunks(chunk * d)
            .zip(targets.par_chunks(chunk))
            .zip(saved.inverse.par_chunks_mut(chunk))
            .zip(saved.normed.par_chunks_mut(chunk * d))
            .zip(saved.d_logits.par_chunks_mut(chunk * d_vocab))
            .map(|((((x, targets), inverse), normed), logits)| {
                dispatch(Forward { op: self, d, x, targets, inverse, normed, logits })
            })
            .collect();
        ((losses.iter().sum::<f64>() / rows as f64) as f32, saved)
    }

    /// `upstream` is the gradient of the loss itself; `dx` is overwritten.
    ///
    /// # Shapes
    /// `x`, `dx [N, D]`; `grads`: gain, `W_U`, each like its parameter, overwritten
    pub fn backward(
        &self,
        x: &[f32],
        d: usize,
        saved: &HeadSaved,
        upstream: f32,
        dx: &mut [f32],
        grads: [&mut [f32]; 2],
    ) {
        let (rows, d_vocab) = (x.len() / d, self.w_u.len() / d);
        let [gain, w_u] = grads;
        let scale = upstream / rows as f32;
        let d_logits = Mat::dense(&saved.d_logits, d_vocab);
        weight_gradients(vec![WeightGradient {
            x: Mat::dense(&saved.normed, d),
            dy: d_logits,
            into: w_u,
            scale,
            precision: Precision::F32,
        }]);
        let chunk = sequences(self.pos) * self.pos;
        let w_u_t = transposed(self.w_u, d_vocab);
        let mut gains = Buffer::new(rows.div_ceil(chunk) * d);
        gains.fill(0.0);
        x.par_chunks(chunk * d)
            .zip(dx.par_chunks_mut(chunk * d))
            .zip(saved.inverse.par_chunks(chunk))
            .zip(saved.d_logits.par_chunks(chunk * d_vocab))
            .zip(gains.par_chunks_mut(d))
            .for_each(|((((x, dx), inverse), d_logits), d_gain)| {
                dispatch(Backward { op: self, w_u_t: &w_u_t, x, dx, inverse, d_logits, d_gain, scale });
            });
        norm::total_gain(&gains, d, gain);
    }
}

struct Forward<'a> {
    op: &'a Head<'a>,
    d: usize,
    x: &'a [f32],
    targets: &'a [i32],
    inverse: &'a mut [f32],
    normed: &'a mut [f32],
    logits: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = f64;

    /// The sum of the losses; `logits` holds `softmax - one hot` in the end.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let Self { op, d, x, targets, inverse, normed, logits } = self;
        let d_vocab = op.w_u.len() / d;
        norm::forward::<S>(x, op.gain, op.epsilon, normed, inverse);
        matmul(Mat::dense(normed, d), Mat::dense(op.w_u, d_vocab), logits, d_vocab, false, 1.0);
        let mut loss = 0.0;
        for (logits, &target) in logits.chunks_exact_mut(d_vocab).zip(targets) {
            let target = usize::try_from(target).expect("tokens are not negative");
            let most = max(logits);
            let wanted = logits[target] - most;
            for logit in &mut *logits {
                *logit = exp::<S>(*logit - most);
            }
            let total = sum(logits);
            let share = 1.0 / total;
            for logit in &mut *logits {
                *logit *= share;
            }
            logits[target] -= 1.0;
            loss += f64::from(total).ln() - f64::from(wanted);
        }
        loss
    }
}

struct Backward<'a> {
    op: &'a Head<'a>,
    /// `W_Uᵀ [V, D]`
    w_u_t: &'a [f32],
    x: &'a [f32],
    dx: &'a mut [f32],
    inverse: &'a [f32],
    d_logits: &'a [f32],
    d_gain: &'a mut [f32],
    scale: f32,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, w_u_t, x, dx, inverse, d_logits, d_gain, scale } = self;
        let d = d_gain.len();
        let d_vocab = op.w_u.len() / d;
        let mut d_normed = Buffer::new(dx.len());
        matmul(Mat::dense(d_logits, d_vocab), Mat::dense(w_u_t, d), &mut d_normed, d, false, scale);
        dx.fill(0.0);
        norm::backward::<S>(&mut d_normed, x, op.gain, inverse, dx, d_gain);
    }
}
