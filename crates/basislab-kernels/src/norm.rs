use crate::part::{Heads, Input, Summed};
use crate::simd::{dispatch, dot, fma, sum};
use pulp::{Simd, WithSimd};

/// Normalises rows `[n, D]`: `y = g x / rms(x)`, or centred `y = g (x - mean) / std(x) + b`.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    /// Whether the mean is subtracted first (LayerNorm).
    pub is_centred: bool,
    /// Added to the mean square.
    pub epsilon: f32,
    /// `[1]` or `[D]`; without one the gain is 1.
    pub gain: Option<Input>,
    /// `[D]`
    pub bias: Option<Input>,
}

impl Norm {
    /// `1 / rms` of each row, and the mean where that is subtracted.
    pub(crate) fn kept(&self) -> usize {
        1 + usize::from(self.is_centred)
    }

    pub(crate) fn sums(&self, d: usize) -> usize {
        d * self.summed(d).len()
    }

    pub(crate) fn summed(&self, d: usize) -> Vec<Summed> {
        let all = [self.gain, self.bias].into_iter().flatten();
        all.zip(0..).map(|(input, i)| Summed { input, first: i * d, count: d }).collect()
    }

    /// `x [n, D]` -> `y [n, D]`; `kept [n, 1 or 2]`
    pub(crate) fn forward(&self, x: &[f32], inputs: &[&[f32]], y: &mut [f32], kept: &mut [f32]) {
        let gain = self.gain.map_or(&[1.0][..], |gain| inputs[gain]);
        let bias = self.bias.map_or(&[][..], |bias| inputs[bias]);
        let d = x.len() / (kept.len() / self.kept());
        dispatch(Forward { norm: *self, x, gain, bias, d, y, kept });
    }

    /// Adds the gradient of `x` to `dx`, and the sums for the gradients of gain and bias to `sums`. `dy` is overwritten.
    pub(crate) fn backward(
        &self,
        dy: &mut [f32],
        x: &[f32],
        inputs: &[&[f32]],
        kept: &[f32],
        dx: &mut [f32],
        sums: &mut [f32],
    ) {
        let gain = self.gain.map_or(&[1.0][..], |gain| inputs[gain]);
        let d = x.len() / (kept.len() / self.kept());
        let (of_gain, of_bias) = sums.split_at_mut(if self.gain.is_some() { d } else { 0 });
        dispatch(Backward { norm: *self, dy, x, gain, d, kept, dx, of_gain, of_bias });
    }
}

struct Forward<'a> {
    norm: Norm,
    x: &'a [f32],
    gain: &'a [f32],
    bias: &'a [f32],
    d: usize,
    y: &'a mut [f32],
    kept: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { norm, x, gain, bias, d, y, kept } = self;
        let rows = x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(kept.chunks_exact_mut(norm.kept()));
        for ((x, y), kept) in rows {
            let mean = if norm.is_centred { sum(x) / d as f32 } else { 0.0 };
            let inverse = if norm.is_centred {
                y.iter_mut().zip(x).for_each(|(y, x)| *y = x - mean);
                1.0 / (dot::<S>(y, y) / d as f32 + norm.epsilon).sqrt()
            } else {
                1.0 / (dot::<S>(x, x) / d as f32 + norm.epsilon).sqrt()
            };
            if let [gain] = gain {
                let scale = inverse * gain;
                y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - mean) * scale);
            } else {
                y.iter_mut().zip(x).zip(gain).for_each(|((y, x), gain)| *y = (x - mean) * inverse * gain);
            }
            y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            kept[0] = inverse;
            kept[1..].fill(mean);
        }
    }
}

struct Backward<'a> {
    norm: Norm,
    dy: &'a mut [f32],
    x: &'a [f32],
    gain: &'a [f32],
    d: usize,
    kept: &'a [f32],
    dx: &'a mut [f32],
    of_gain: &'a mut [f32],
    of_bias: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { norm, dy, x, gain, d, kept, dx, of_gain, of_bias } = self;
        let rows = dy.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(dx.chunks_exact_mut(d));
        for (((dy, x), dx), kept) in rows.zip(kept.chunks_exact(norm.kept())) {
            let inverse = kept[0];
            of_bias.iter_mut().zip(&*dy).for_each(|(sum, dy)| *sum += dy);
            if norm.is_centred {
                let mean = kept[1];
                for ((sum, dy), x) in of_gain.iter_mut().zip(&*dy).zip(x) {
                    *sum = fma::<S>(dy * inverse, x - mean, *sum);
                }
                apply(dy, gain);
                // With z = (x - mean) r, r = inverse: dx = r (dz - mean(dz) - z mean(dz z)).
                let level = sum(dy) / d as f32;
                let mut along = 0.0;
                for (dy, x) in dy.iter().zip(x) {
                    along = fma::<S>(*dy, x - mean, along);
                }
                let along = along / d as f32 * inverse * inverse;
                for ((dx, dy), x) in dx.iter_mut().zip(&*dy).zip(x) {
                    *dx = fma::<S>(fma::<S>(-along, x - mean, dy - level), inverse, *dx);
                }
            } else {
                for ((sum, dy), x) in of_gain.iter_mut().zip(&*dy).zip(x) {
                    *sum = fma::<S>(dy * inverse, *x, *sum);
                }
                apply(dy, gain);
                // x / rms(x) = x r with r = inverse: its gradient is r dy - x r^3 mean(dy x).
                let along = dot::<S>(dy, x) / d as f32 * inverse * inverse;
                for ((dx, dy), x) in dx.iter_mut().zip(&*dy).zip(x) {
                    *dx = fma::<S>(fma::<S>(-along, *x, *dy), inverse, *dx);
                }
            }
        }
    }
}

/// `dy = gain dy`
#[inline(always)]
fn apply(dy: &mut [f32], gain: &[f32]) {
    if let [gain] = gain {
        dy.iter_mut().for_each(|dy| *dy *= gain);
    } else {
        dy.iter_mut().zip(gain).for_each(|(dy, gain)| *dy *= gain);
    }
}

/// Divides each head's queries and keys by their root mean square; the values stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorms {
    /// How a row is divided.
    pub heads: Heads,
    /// Added to the mean square.
    pub epsilon: f32,
    /// `[d_head]`, for the queries of all heads.
    pub of_queries: Input,
    /// `[d_head]`, for the keys of all heads.
    pub of_keys: Input,
}

impl HeadNorms {
    /// `1 / rms` of the queries and keys of each head.
    pub(crate) fn kept(&self) -> usize {
        self.heads.heads + self.heads.kv_heads
    }

    pub(crate) fn sums(&self) -> usize {
        2 * self.heads.d_head
    }

    pub(crate) fn summed(&self) -> Vec<Summed> {
        let count = self.heads.d_head;
        let of_keys = Summed { input: self.of_keys, first: count, count };
        vec![Summed { input: self.of_queries, first: 0, count }, of_keys]
    }

    fn norm(&self, gain: Input) -> Norm {
        Norm { is_centred: false, epsilon: self.epsilon, gain: Some(gain), bias: None }
    }

    /// `x [n, queries keys values]` -> `y`, same; `kept [n, heads]`
    pub(crate) fn forward(&self, x: &[f32], inputs: &[&[f32]], y: &mut [f32], kept: &mut [f32]) {
        let (width, queries, keys) = (self.heads.width(), self.heads.queries(), self.heads.keys());
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(kept.chunks_exact_mut(self.kept()));
        for ((x, y), kept) in rows {
            let (of_queries, of_keys) = kept.split_at_mut(self.heads.heads);
            self.norm(self.of_queries).forward(&x[..queries], inputs, &mut y[..queries], of_queries);
            let at = queries..queries + keys;
            self.norm(self.of_keys).forward(&x[at.clone()], inputs, &mut y[at], of_keys);
            y[queries + keys..].copy_from_slice(&x[queries + keys..]);
        }
    }

    /// `dy` -> `dx`, and the sums for the gradients of the gains. `dy` is overwritten.
    pub(crate) fn backward(
        &self,
        dy: &mut [f32],
        x: &[f32],
        inputs: &[&[f32]],
        kept: &[f32],
        dx: &mut [f32],
        sums: &mut [f32],
    ) {
        let (width, queries, keys) = (self.heads.width(), self.heads.queries(), self.heads.keys());
        let (to_queries, to_keys) = sums.split_at_mut(self.heads.d_head);
        let rows = dy.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((dy, x), dx), kept) in rows.zip(kept.chunks_exact(self.kept())) {
            let (of_queries, of_keys) = kept.split_at(self.heads.heads);
            let at = queries..queries + keys;
            dx.copy_from_slice(dy);
            dx[..at.end].fill(0.0);
            let norm = self.norm(self.of_queries);
            norm.backward(&mut dy[..queries], &x[..queries], inputs, of_queries, &mut dx[..queries], to_queries);
            let norm = self.norm(self.of_keys);
            norm.backward(&mut dy[at.clone()], &x[at.clone()], inputs, of_keys, &mut dx[at], to_keys);
        }
    }
}
