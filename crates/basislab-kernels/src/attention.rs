use crate::buffer::Buffer;
use crate::chunks::{WeightGradient, sequences, transposed, weight_gradients};
use crate::gemm::{Mat, Precision, matmul, transpose};
use crate::norm;
use crate::simd::{dispatch, dot, exp, max, sum};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Queries that share a matrix product. A block computes no score beyond its last query's key, so that little of what
/// causality masks is computed.
const QUERIES: usize = 32;

/// The attention branch: `out = x + attention(norm(x)) W_O`, causal, with an RMS norm.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Positions per sequence.
    pub pos: usize,
    /// Heads; divides `D`.
    pub heads: usize,
    /// Added to the mean square.
    pub epsilon: f32,
    /// `[1]` or `[D]`
    pub gain: &'a [f32],
    /// The projections.
    pub weights: AttentionWeights<'a>,
}

/// Projections to queries, keys and values, and the output projection, each `[D, D]`.
#[derive(Debug, Clone, Copy)]
pub struct AttentionWeights<'a> {
    /// `W_Q`
    pub q: &'a [f32],
    /// `W_K`
    pub k: &'a [f32],
    /// `W_V`
    pub v: &'a [f32],
    /// `W_O`
    pub o: &'a [f32],
}

/// What the backward pass needs of the forward pass.
#[derive(Debug)]
pub struct AttentionSaved {
    inverse: Buffer,
    normed: Buffer,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    /// `[sequences, heads, pos, pos]`; unspecified after the last key of a block of queries.
    pattern: Buffer,
    mixed: Buffer,
}

impl Attention<'_> {
    /// # Shapes
    /// `x [N, D]` -> `out [N, D]`, `N` a multiple of `pos`
    pub fn forward(&self, x: &[f32], d: usize, out: &mut [f32]) -> AttentionSaved {
        let (rows, pos) = (x.len() / d, self.pos);
        assert!(rows.is_multiple_of(pos) && d.is_multiple_of(self.heads), "whole sequences, whole heads");
        let stream = || Buffer::new(rows * d);
        let mut saved = AttentionSaved {
            inverse: Buffer::new(rows),
            normed: stream(),
            q: stream(),
            k: stream(),
            v: stream(),
            pattern: Buffer::new(rows * self.heads * pos),
            mixed: stream(),
        };
        let chunk = sequences(pos) * pos;
        let AttentionSaved { inverse, normed, q, k, v, pattern, mixed } = &mut saved;
        x.par_chunks(chunk * d)
            .zip(out.par_chunks_mut(chunk * d))
            .zip(inverse.par_chunks_mut(chunk))
            .zip(normed.par_chunks_mut(chunk * d))
            .zip(q.par_chunks_mut(chunk * d))
            .zip(k.par_chunks_mut(chunk * d))
            .zip(v.par_chunks_mut(chunk * d))
            .zip(pattern.par_chunks_mut(chunk * self.heads * pos))
            .zip(mixed.par_chunks_mut(chunk * d))
            .for_each(|((((((((x, out), inverse), normed), q), k), v), pattern), mixed)| {
                dispatch(Forward { op: self, d, x, out, inverse, normed, q, k, v, pattern, mixed });
            });
        saved
    }

    /// `dx` comes in as the gradient of `out` and leaves as the gradient of `x`.
    ///
    /// # Shapes
    /// `x`, `dx [N, D]`; `grads`: gain, `W_Q`, `W_K`, `W_V`, `W_O`, each like its parameter, overwritten
    pub fn backward(&self, x: &[f32], d: usize, saved: &AttentionSaved, dx: &mut [f32], grads: [&mut [f32]; 5]) {
        let (rows, pos) = (x.len() / d, self.pos);
        let [gain, w_q, w_k, w_v, w_o] = grads;
        let gradient = |x: &[f32], dy: &[f32], into: &mut [f32]| {
            weight_gradients(vec![WeightGradient {
                x: Mat::dense(x, d),
                dy: Mat::dense(dy, d),
                into,
                scale: 1.0,
                precision: Precision::F32,
            }]);
        };
        gradient(&saved.mixed, dx, w_o);
        let chunk = sequences(pos) * pos;
        let weights_t = [self.weights.q, self.weights.k, self.weights.v, self.weights.o].map(|w| transposed(w, d));
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| Buffer::new(rows * d));
        let mut gains = Buffer::new(rows.div_ceil(chunk) * d);
        gains.fill(0.0);
        x.par_chunks(chunk * d)
            .zip(dx.par_chunks_mut(chunk * d))
            .zip(saved.inverse.par_chunks(chunk))
            .zip(saved.q.par_chunks(chunk * d))
            .zip(saved.k.par_chunks(chunk * d))
            .zip(saved.v.par_chunks(chunk * d))
            .zip(saved.pattern.par_chunks(chunk * self.heads * pos))
            .zip(dq.par_chunks_mut(chunk * d))
            .zip(dk.par_chunks_mut(chunk * d))
            .zip(dv.par_chunks_mut(chunk * d))
            .zip(gains.par_chunks_mut(d))
            .for_each(|((((((((((x, dx), inverse), q), k), v), pattern), dq), dk), dv), d_gain)| {
                dispatch(Backward {
                    op: self,
                    weights_t: &weights_t,
                    x,
                    dx,
                    inverse,
                    q,
                    k,
                    v,
                    pattern,
                    dq,
                    dk,
                    dv,
                    d_gain,
                });
            });
        weight_gradients(
            [(&dq, w_q), (&dk, w_k), (&dv, w_v)]
                .into_iter()
                .map(|(dy, into)| WeightGradient {
                    x: Mat::dense(&saved.normed, d),
                    dy: Mat::dense(dy, d),
                    into,
                    scale: 1.0,
                    precision: Precision::F32,
                })
                .collect(),
        );
        norm::total_gain(&gains, d, gain);
    }

    /// Blocks of queries `first..end`, which attend to keys `0..end`.
    fn blocks(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> + use<> {
        let pos = self.pos;
        (0..pos.div_ceil(QUERIES)).map(move |i| (i * QUERIES, ((i + 1) * QUERIES).min(pos)))
    }

    /// Scores are divided by the root of a head's width.
    fn scale(&self, d: usize) -> f32 {
        1.0 / ((d / self.heads) as f32).sqrt()
    }
}

struct Forward<'a> {
    op: &'a Attention<'a>,
    d: usize,
    x: &'a [f32],
    out: &'a mut [f32],
    inverse: &'a mut [f32],
    normed: &'a mut [f32],
    q: &'a mut [f32],
    k: &'a mut [f32],
    v: &'a mut [f32],
    pattern: &'a mut [f32],
    mixed: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, d, x, out, inverse, normed, q, k, v, pattern, mixed } = self;
        let (pos, d_head, scale) = (op.pos, d / op.heads, op.scale(d));
        norm::forward::<S>(x, op.gain, op.epsilon, normed, inverse);
        for (w, to) in [(op.weights.q, &mut *q), (op.weights.k, &mut *k), (op.weights.v, &mut *v)] {
            matmul(Mat::dense(normed, d), Mat::dense(w, d), to, d, false, 1.0);
        }
        let mut turned = Buffer::new(d_head * pos);
        for (number, pattern) in pattern.chunks_exact_mut(pos * pos).enumerate() {
            let at = number / op.heads * pos * d + number % op.heads * d_head;
            let head = |x: &'_ [f32], first: usize, end: usize| at + first * d..(at + end * d).min(x.len());
            let keys_t = transpose(Mat::new(&k[head(k, 0, pos)], pos, d_head, d), &mut turned);
            for (first, end) in op.blocks() {
                let queries = Mat::new(&q[head(q, first, end)], end - first, d_head, d);
                let block = &mut pattern[first * pos..end * pos];
                matmul(queries, keys_t.columns(0, end), block, pos, false, scale);
                for (i, row) in block.chunks_exact_mut(pos).enumerate() {
                    let (seen, hidden) = row[..end].split_at_mut(first + i + 1);
                    let most = max(seen);
                    for score in &mut *seen {
                        *score = exp::<S>(*score - most);
                    }
                    let share = 1.0 / sum(seen);
                    for score in &mut *seen {
                        *score *= share;
                    }
                    hidden.fill(0.0);
                }
                let pattern = Mat::new(block, end - first, end, pos);
                let values = Mat::new(&v[head(v, 0, end)], end, d_head, d);
                let range = head(mixed, first, end);
                matmul(pattern, values, &mut mixed[range], d, false, 1.0);
            }
        }
        out.copy_from_slice(x);
        matmul(Mat::dense(mixed, d), Mat::dense(op.weights.o, d), out, d, true, 1.0);
    }
}

struct Backward<'a> {
    op: &'a Attention<'a>,
    /// `W_Qᵀ`, `W_Kᵀ`, `W_Vᵀ`, `W_Oᵀ`
    weights_t: &'a [Buffer; 4],
    x: &'a [f32],
    dx: &'a mut [f32],
    inverse: &'a [f32],
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    pattern: &'a [f32],
    dq: &'a mut [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
    d_gain: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { op, weights_t, x, dx, inverse, q, k, v, pattern, dq, dk, dv, d_gain } = self;
        let [w_q_t, w_k_t, w_v_t, w_o_t] = weights_t;
        let d = d_gain.len();
        let (pos, d_head, scale) = (op.pos, d / op.heads, op.scale(d));
        let mut d_mixed = Buffer::new(dx.len());
        matmul(Mat::dense(dx, d), Mat::dense(w_o_t, d), &mut d_mixed, d, false, 1.0);
        let mut d_scores = Buffer::new(QUERIES * pos);
        let mut turned = Buffer::new(d_head * pos);
        for (number, pattern) in pattern.chunks_exact(pos * pos).enumerate() {
            let at = number / op.heads * pos * d + number % op.heads * d_head;
            let head = |x: &'_ [f32], first: usize, end: usize| at + first * d..(at + end * d).min(x.len());
            let values_t = transpose(Mat::new(&v[head(v, 0, pos)], pos, d_head, d), &mut turned);
            // The last block attends to every key: it writes dk and dv, the others add to them.
            for (first, end) in op.blocks().rev() {
                let add = end < pos;
                let queries = end - first;
                let d_out = Mat::new(&d_mixed[head(&d_mixed, first, end)], queries, d_head, d);
                let block = &pattern[first * pos..end * pos];
                matmul(d_out, values_t.columns(0, end), &mut d_scores, pos, false, 1.0);
                for (ds, p) in d_scores.chunks_exact_mut(pos).zip(block.chunks_exact(pos)) {
                    let (ds, p) = (&mut ds[..end], &p[..end]);
                    let mean = dot::<S>(ds, p);
                    for (ds, p) in ds.iter_mut().zip(p) {
                        *ds = p * (*ds - mean) * scale;
                    }
                }
                let ds = Mat::new(&d_scores, queries, end, pos);
                let range = head(dv, 0, end);
                matmul(Mat::new(block, queries, end, pos).transposed(), d_out, &mut dv[range], d, add, 1.0);
                let keys = Mat::new(&k[head(k, 0, end)], end, d_head, d);
                let range = head(dq, first, end);
                matmul(ds, keys, &mut dq[range], d, false, 1.0);
                let queries = Mat::new(&q[head(q, first, end)], queries, d_head, d);
                let range = head(dk, 0, end);
                matmul(ds.transposed(), queries, &mut dk[range], d, add, 1.0);
            }
        }
        let mut d_normed = d_mixed;
        for (add, dy, w) in [(false, dq, w_q_t), (true, dk, w_k_t), (true, dv, w_v_t)] {
            matmul(Mat::dense(dy, d), Mat::dense(w, d), &mut d_normed, d, add, 1.0);
        }
        norm::backward::<S>(&mut d_normed, x, op.gain, inverse, dx, d_gain);
    }
}
