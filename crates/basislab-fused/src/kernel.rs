//! The kernels applied to flex tensors.

use crate::node::{Kernel, Plain};
use basislab_kernels::{Attention, AttentionSaved, AttentionWeights, Head, HeadSaved, Mlp, MlpSaved, take};
use burn::backend::{Flex, tensor::IntTensor};
use burn::tensor::TensorData;

#[derive(Debug, Clone)]
pub(crate) struct AttentionKernel {
    pub(crate) pos: usize,
    pub(crate) heads: usize,
    pub(crate) epsilon: f32,
}

impl AttentionKernel {
    fn op<'a>(&self, [_, gain, q, k, v, o]: &'a [Plain; 6]) -> Attention<'a> {
        let weights = AttentionWeights { q: slice(q), k: slice(k), v: slice(v), o: slice(o) };
        Attention { pos: self.pos, heads: self.heads, epsilon: self.epsilon, gain: slice(gain), weights }
    }
}

impl Kernel<6> for AttentionKernel {
    type Saved = AttentionSaved;

    fn forward(&self, inputs: &[Plain; 6]) -> (Plain, AttentionSaved) {
        let x = &inputs[0];
        let mut out = buffer(x);
        let saved = self.op(inputs).forward(slice(x), width(x), &mut out);
        (tensor(out, x), saved)
    }

    fn backward(&self, inputs: &[Plain; 6], saved: &AttentionSaved, upstream: Plain) -> [Plain; 6] {
        let [x, gain, q, k, v, o] = inputs;
        let mut dx = owned(upstream);
        let [mut d_gain, mut d_q, mut d_k, mut d_v, mut d_o] = [gain, q, k, v, o].map(buffer);
        let grads = [&mut *d_gain, &mut d_q, &mut d_k, &mut d_v, &mut d_o];
        self.op(inputs).backward(slice(x), width(x), saved, &mut dx, grads);
        [tensor(dx, x), tensor(d_gain, gain), tensor(d_q, q), tensor(d_k, k), tensor(d_v, v), tensor(d_o, o)]
    }
}

#[derive(Debug, Clone)]
pub(crate) struct MlpKernel {
    pub(crate) pos: usize,
    pub(crate) epsilon: f32,
}

impl MlpKernel {
    fn op<'a>(&self, [_, gain, w_in, w_out]: &'a [Plain; 4]) -> Mlp<'a> {
        Mlp { pos: self.pos, epsilon: self.epsilon, gain: slice(gain), w_in: slice(w_in), w_out: slice(w_out) }
    }
}

impl Kernel<4> for MlpKernel {
    type Saved = MlpSaved;

    fn forward(&self, inputs: &[Plain; 4]) -> (Plain, MlpSaved) {
        let x = &inputs[0];
        let mut out = buffer(x);
        let saved = self.op(inputs).forward(slice(x), width(x), &mut out);
        (tensor(out, x), saved)
    }

    fn backward(&self, inputs: &[Plain; 4], saved: &MlpSaved, upstream: Plain) -> [Plain; 4] {
        let [x, gain, w_in, w_out] = inputs;
        let mut dx = owned(upstream);
        let [mut d_gain, mut d_in, mut d_out] = [gain, w_in, w_out].map(buffer);
        self.op(inputs).backward(slice(x), width(x), saved, &mut dx, [&mut d_gain, &mut d_in, &mut d_out]);
        [tensor(dx, x), tensor(d_gain, gain), tensor(d_in, w_in), tensor(d_out, w_out)]
    }
}

#[derive(Debug, Clone)]
pub(crate) struct HeadKernel {
    /// `[B, T]`
    pub(crate) targets: IntTensor<Flex>,
    pub(crate) epsilon: f32,
}

impl HeadKernel {
    fn op<'a>(&self, [_, gain, w_u]: &'a [Plain; 3]) -> Head<'a> {
        Head { pos: width(&self.targets), epsilon: self.epsilon, gain: slice(gain), w_u: slice(w_u) }
    }
}

impl Kernel<3> for HeadKernel {
    type Saved = HeadSaved;

    fn forward(&self, inputs: &[Plain; 3]) -> (Plain, HeadSaved) {
        let x = &inputs[0];
        let targets = self.targets.as_slice::<i32>().expect("contiguous 32-bit tokens");
        let (loss, saved) = self.op(inputs).forward(slice(x), width(x), targets);
        (Plain::from_data(TensorData::new(vec![loss], [1])), saved)
    }

    fn backward(&self, inputs: &[Plain; 3], saved: &HeadSaved, upstream: Plain) -> [Plain; 3] {
        let [x, gain, w_u] = inputs;
        let [mut dx, mut d_gain, mut d_u] = [x, gain, w_u].map(buffer);
        let upstream = slice(&upstream)[0];
        self.op(inputs).backward(slice(x), width(x), saved, upstream, &mut dx, [&mut d_gain, &mut d_u]);
        [tensor(dx, x), tensor(d_gain, gain), tensor(d_u, w_u)]
    }
}

fn slice(x: &Plain) -> &[f32] {
    x.as_slice().expect("inputs were made contiguous")
}

/// Length of the last axis.
fn width(x: &Plain) -> usize {
    *x.layout().shape().last().expect("a tensor has an axis")
}

/// As many numbers as `like` has, of unspecified value: kernels write all of them.
fn buffer(like: &Plain) -> Vec<f32> {
    take(slice(like).len())
}

fn owned(x: Plain) -> Vec<f32> {
    x.into_data().try_into_vec().expect("f32 as all inputs")
}

fn tensor(values: Vec<f32>, like: &Plain) -> Plain {
    Plain::from_data(TensorData::new(values, like.layout().shape().clone()))
}
