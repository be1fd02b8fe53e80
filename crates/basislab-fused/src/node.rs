//! From a chain to a node of burn's autodiff graph.

use crate::Fused;
use crate::inputs::Inputs;
use basislab_kernels::{Chain, Saved, recycle};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Flex, tensor::FloatTensor};
use burn::tensor::TensorData;
use std::sync::Arc;

type Plain = FloatTensor<Flex>;

/// Outside autodiff.
pub(crate) fn untracked(chain: &Chain, inputs: Vec<Plain>) -> Plain {
    let inputs: Vec<Plain> = inputs.into_iter().map(contiguous).collect();
    let (out, _) = chain.forward(&slices(&inputs), false);
    let out = output(chain, out, &inputs[0]);
    inputs.into_iter().for_each(retire);
    out
}

impl<C: CheckpointStrategy> Fused for Autodiff<Flex, C> {
    /// burn's nodes have a number of parents that is known when they are compiled.
    fn run(inputs: Inputs<Self>, chain: Chain) -> FloatTensor<Self> {
        macro_rules! with_parents {
            ($($n:literal)*) => {
                match inputs.0.len() {
                    $($n => tracked::<$n, C>(chain, inputs.0),)*
                    n => unreachable!("{n} tensors in a chain"),
                }
            };
        }
        with_parents!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    }
}

/// A node of the graph whose parents are the inputs.
fn tracked<const N: usize, C: CheckpointStrategy>(
    chain: Chain,
    inputs: Vec<FloatTensor<Autodiff<Flex, C>>>,
) -> FloatTensor<Autodiff<Flex, C>> {
    #[derive(Debug)]
    struct Gradient(Chain);
    impl<const N: usize> Backward<Flex, N> for Gradient {
        type State = (Vec<Plain>, Arc<Saved>);

        fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
            let upstream = contiguous(grads.consume::<Flex>(&ops.node));
            let upstream = upstream.into_data().try_into_vec().expect("f32 as all inputs");
            let (inputs, saved) = ops.state;
            let all = self.0.backward(&slices(&inputs), &saved, upstream);
            for ((parent, grad), input) in ops.parents.into_iter().zip(all).zip(inputs) {
                match parent {
                    Some(parent) => grads.register::<Flex>(parent.id, tensor(grad, input.layout().shape().clone())),
                    None => recycle(grad),
                }
                retire(input);
            }
        }
    }
    let nodes: Vec<_> = inputs.iter().map(|input| input.node()).collect();
    let nodes: [_; N] = nodes.try_into().expect("as many as there are inputs");
    let plain: Vec<Plain> = inputs.into_iter().map(|input| contiguous(input.into_primitive())).collect();
    let (out, saved) = chain.forward(&slices(&plain), true);
    let out = output(&chain, out, &plain[0]);
    match Gradient(chain).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish((plain, Arc::new(saved.expect("asked to keep it"))), out),
        OpsKind::UnTracked(node) => node.finish(out),
    }
}

fn slices(inputs: &[Plain]) -> Vec<&[f32]> {
    inputs.iter().map(|input| input.as_slice().expect("inputs were made contiguous")).collect()
}

fn output(chain: &Chain, values: Vec<f32>, input: &Plain) -> Plain {
    if chain.is_loss() {
        return Plain::from_data(TensorData::new(values, [1]));
    }
    let rows = input.layout().shape()[0];
    Plain::from_data(TensorData::new(values, [rows, chain.width()]))
}

fn tensor(values: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> Plain {
    Plain::from_data(TensorData::new(values, shape.into()))
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
