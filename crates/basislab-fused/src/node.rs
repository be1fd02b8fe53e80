//! From a kernel to a node of burn's autodiff graph.

use crate::kernel::{AttentionKernel, HeadKernel, MlpKernel};
use crate::{AttentionInputs, Fused, HeadInputs, MlpInputs};
use basislab_kernels::recycle;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Flex, tensor::FloatTensor};
use std::fmt::Debug;
use std::sync::Arc;

pub(crate) type Plain = FloatTensor<Flex>;

/// A function of `N` tensors with a hand-written gradient.
pub(crate) trait Kernel<const N: usize>: Debug + Clone + Send + 'static {
    /// What the backward pass needs of the forward pass.
    type Saved: Debug + Send + Sync + 'static;

    fn forward(&self, inputs: &[Plain; N]) -> (Plain, Self::Saved);

    /// Gradients with respect to the inputs.
    fn backward(&self, inputs: &[Plain; N], saved: &Self::Saved, upstream: Plain) -> [Plain; N];
}

/// Outside autodiff.
pub(crate) fn untracked<const N: usize, K: Kernel<N>>(kernel: &K, inputs: [Plain; N]) -> Plain {
    let inputs = inputs.map(contiguous);
    let (out, _) = kernel.forward(&inputs);
    inputs.into_iter().for_each(retire);
    out
}

/// A node of the graph whose parents are the inputs.
fn tracked<const N: usize, K: Kernel<N>, C: CheckpointStrategy>(
    kernel: K,
    inputs: [FloatTensor<Autodiff<Flex, C>>; N],
) -> FloatTensor<Autodiff<Flex, C>> {
    #[derive(Debug)]
    struct Gradient<K>(K);
    impl<const N: usize, K: Kernel<N>> Backward<Flex, N> for Gradient<K> {
        type State = ([Plain; N], Arc<K::Saved>);

        fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
            let upstream = contiguous(grads.consume::<Flex>(&ops.node));
            let (inputs, saved) = ops.state;
            let all = self.0.backward(&inputs, &saved, upstream);
            inputs.into_iter().for_each(retire);
            for (parent, grad) in ops.parents.into_iter().zip(all) {
                if let Some(parent) = parent {
                    grads.register::<Flex>(parent.id, grad);
                }
            }
        }
    }
    let nodes = inputs.each_ref().map(|input| input.node());
    let plain = inputs.map(|input| contiguous(input.into_primitive()));
    let (out, saved) = kernel.forward(&plain);
    match Gradient(kernel).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish((plain, Arc::new(saved)), out),
        OpsKind::UnTracked(node) => node.finish(out),
    }
}

/// Reuses the memory of a tensor with no other owner (the stream between two branches).
fn retire(x: Plain) {
    if x.is_unique()
        && let Ok(values) = x.into_data().try_into_vec()
    {
        recycle(values);
    }
}

fn contiguous(x: Plain) -> Plain {
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

impl<C: CheckpointStrategy> Fused for Autodiff<Flex, C> {
    fn attention(inputs: AttentionInputs<Self>, pos: usize, heads: usize, epsilon: f32) -> FloatTensor<Self> {
        let AttentionInputs { x, gain, w_q, w_k, w_v, w_o } = inputs;
        tracked::<6, AttentionKernel, C>(AttentionKernel { pos, heads, epsilon }, [x, gain, w_q, w_k, w_v, w_o])
    }

    fn mlp(inputs: MlpInputs<Self>, pos: usize, epsilon: f32) -> FloatTensor<Self> {
        let MlpInputs { x, gain, w_in, w_out } = inputs;
        tracked::<4, MlpKernel, C>(MlpKernel { pos, epsilon }, [x, gain, w_in, w_out])
    }

    fn head_loss(inputs: HeadInputs<Self>, epsilon: f32) -> FloatTensor<Self> {
        let HeadInputs { x, gain, w_u, targets } = inputs;
        tracked::<3, HeadKernel, C>(HeadKernel { targets, epsilon }, [x, gain, w_u])
    }
}
