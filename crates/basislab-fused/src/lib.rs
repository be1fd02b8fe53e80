//! The kernels of `basislab-kernels` as burn operations on burn-flex, each with its hand-written gradient.
//!
//! Results have the same bits with any number of threads. Operations need `f32` tensors on the flex device, with or
//! without autodiff ([`available`]); their references in burn's own operations are in the model.

mod kernel;
mod node;

use burn::backend::{
    Backend, Dispatch, ExtensionType, Flex, backend_extension, tensor::FloatTensor, tensor::IntTensor,
};
use burn::tensor::{DType, Device, Int, Tensor};
use kernel::{AttentionKernel, HeadKernel, MlpKernel};

/// Whether the operations run on this device with this type.
pub fn available(device: &Device, dtype: DType) -> bool {
    dtype == DType::F32 && device.clone().without_autodiff() == Device::flex()
}

/// `x + attention(rms_norm(x) gain) W_O`, causal, over sequences of `pos` rows.
///
/// # Shapes
/// `x [N, D]`; `gain [1, 1]` or `[1, D]`; `weights` `W_Q`, `W_K`, `W_V`, `W_O`, each `[D, D]` -> `[N, D]`
pub fn attention(
    x: Tensor<2>,
    gain: Tensor<2>,
    weights: [Tensor<2>; 4],
    pos: usize,
    heads: usize,
    epsilon: f64,
) -> Tensor<2> {
    let [w_q, w_k, w_v, w_o] = weights.map(Tensor::into_dispatch);
    let inputs = AttentionInputs { x: x.into_dispatch(), gain: gain.into_dispatch(), w_q, w_k, w_v, w_o };
    Tensor::from_dispatch(<Dispatch as Fused>::attention(inputs, pos, heads, epsilon as f32))
}

/// `x + gelu(rms_norm(x) gain W_in) W_out`. `pos` only decides how rows are divided into chunks.
///
/// # Shapes
/// `x [N, D]`; `gain [1, 1]` or `[1, D]`; `w_in [D, F]`; `w_out [F, D]` -> `[N, D]`
pub fn mlp(x: Tensor<2>, gain: Tensor<2>, w_in: Tensor<2>, w_out: Tensor<2>, pos: usize, epsilon: f64) -> Tensor<2> {
    let (x, gain) = (x.into_dispatch(), gain.into_dispatch());
    let inputs = MlpInputs { x, gain, w_in: w_in.into_dispatch(), w_out: w_out.into_dispatch() };
    Tensor::from_dispatch(<Dispatch as Fused>::mlp(inputs, pos, epsilon as f32))
}

/// Mean of `-log softmax(rms_norm(x) gain W_U)[target]` over rows, in nats.
///
/// # Shapes
/// `x [N, D]`; `gain [1, 1]` or `[1, D]`; `w_u [D, V]`; `targets [B, pos]` of 32-bit integers with `B pos = N` -> `[1]`
pub fn head_loss(x: Tensor<2>, gain: Tensor<2>, w_u: Tensor<2>, targets: Tensor<2, Int>, epsilon: f64) -> Tensor<1> {
    let (x, gain, w_u) = (x.into_dispatch(), gain.into_dispatch(), w_u.into_dispatch());
    let inputs = HeadInputs { x, gain, w_u, targets: targets.into_dispatch() };
    Tensor::from_dispatch(<Dispatch as Fused>::head_loss(inputs, epsilon as f32))
}

#[derive(ExtensionType)]
pub(crate) struct AttentionInputs<B: Backend> {
    x: FloatTensor<B>,
    gain: FloatTensor<B>,
    w_q: FloatTensor<B>,
    w_k: FloatTensor<B>,
    w_v: FloatTensor<B>,
    w_o: FloatTensor<B>,
}

#[derive(ExtensionType)]
pub(crate) struct MlpInputs<B: Backend> {
    x: FloatTensor<B>,
    gain: FloatTensor<B>,
    w_in: FloatTensor<B>,
    w_out: FloatTensor<B>,
}

#[derive(ExtensionType)]
pub(crate) struct HeadInputs<B: Backend> {
    x: FloatTensor<B>,
    gain: FloatTensor<B>,
    w_u: FloatTensor<B>,
    targets: IntTensor<B>,
}

#[backend_extension(Flex, Autodiff)]
pub(crate) trait Fused: Backend {
    fn attention(
        #[extension_type] inputs: AttentionInputs<Self>,
        pos: usize,
        heads: usize,
        epsilon: f32,
    ) -> FloatTensor<Self>;
    fn mlp(#[extension_type] inputs: MlpInputs<Self>, pos: usize, epsilon: f32) -> FloatTensor<Self>;
    fn head_loss(#[extension_type] inputs: HeadInputs<Self>, epsilon: f32) -> FloatTensor<Self>;
}

impl Fused for Flex {
    fn attention(inputs: AttentionInputs<Self>, pos: usize, heads: usize, epsilon: f32) -> FloatTensor<Self> {
        let AttentionInputs { x, gain, w_q, w_k, w_v, w_o } = inputs;
        node::untracked(&AttentionKernel { pos, heads, epsilon }, [x, gain, w_q, w_k, w_v, w_o])
    }

    fn mlp(inputs: MlpInputs<Self>, pos: usize, epsilon: f32) -> FloatTensor<Self> {
        let MlpInputs { x, gain, w_in, w_out } = inputs;
        node::untracked(&MlpKernel { pos, epsilon }, [x, gain, w_in, w_out])
    }

    fn head_loss(inputs: HeadInputs<Self>, epsilon: f32) -> FloatTensor<Self> {
        let HeadInputs { x, gain, w_u, targets } = inputs;
        node::untracked(&HeadKernel { targets, epsilon }, [x, gain, w_u])
    }
}
