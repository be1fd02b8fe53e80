//! Chains of `basislab-kernels` as burn operations on burn-flex, each with its hand-written gradient.
//!
//! Results have the same bits with any number of threads. Operations need `f32` tensors on the flex device, with or
//! without autodiff ([`available`]); their references in burn's own operations are in the model.

mod inputs;
mod node;

use burn::backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, Device, Tensor};
use inputs::Inputs;

pub use basislab_kernels::{
    Activation, Attention, Chain, HeadNorms, Heads, Input, Linear, Loss, Map, Norm, Part, Precision, Rope,
};

/// Whether the operations run on this device with this type.
pub fn available(device: &Device, dtype: DType) -> bool {
    dtype == DType::F32 && device.clone().without_autodiff() == Device::flex()
}

/// Runs a chain. The result is `[N, width]`, or `[1]` of a loss.
///
/// # Shapes
/// `inputs[0] [N, D]`, the others as the parts that name them say
pub fn run<const D: usize>(chain: Chain, inputs: Vec<Tensor<2>>) -> Tensor<D> {
    let inputs = Inputs(inputs.into_iter().map(Tensor::into_dispatch).collect());
    Tensor::from_dispatch(<Dispatch as Fused>::run(inputs, chain))
}

#[backend_extension(Flex, Autodiff)]
pub(crate) trait Fused: Backend {
    fn run(#[extension_type] inputs: Inputs<Self>, chain: Chain) -> FloatTensor<Self>;
}

impl Fused for Flex {
    fn run(inputs: Inputs<Self>, chain: Chain) -> FloatTensor<Self> {
        node::untracked(&chain, inputs.0)
    }
}
