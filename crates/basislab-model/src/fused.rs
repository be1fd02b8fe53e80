//! Parts as kernels, where there are any; elsewhere the reference is computed.

use crate::model::Transformer;
use crate::part::{Part, PartName};
use basislab_config::{Dtype, ModelSpec};
use burn::tensor::{Device, Int, Tensor};

/// Whether parts of this model may run as kernels on this device.
#[cfg(feature = "fused")]
pub(crate) fn available(spec: &ModelSpec, device: &Device) -> bool {
    basislab_fused::available(device, crate::product::dtype(spec.param_dtype))
}

#[cfg(not(feature = "fused"))]
pub(crate) fn available(_: &ModelSpec, _: &Device) -> bool {
    false
}

/// Whether there is a kernel for a part of this model, where kernels are available at all.
pub(crate) fn has_kernel(spec: &ModelSpec, part: PartName) -> bool {
    match part {
        // Products in f16 have none.
        PartName::Projection | PartName::Attention => matches!(spec.compute_dtype, Dtype::F32 | Dtype::Bf16),
        PartName::Norm
        | PartName::HeadNorm
        | PartName::Rope
        | PartName::Activation
        | PartName::Residual
        | PartName::Loss => true,
    }
}

#[cfg(feature = "fused")]
pub(crate) use kernels::{loss, run};

#[cfg(not(feature = "fused"))]
pub(crate) fn run(
    _: &Transformer,
    _: &[Part<'_>],
    _: Vec<Tensor<2>>,
    _: &Tensor<2>,
    _: bool,
    _: usize,
) -> Vec<Tensor<2>> {
    unreachable!("nothing is available")
}

#[cfg(not(feature = "fused"))]
pub(crate) fn loss(_: &Transformer, _: &[Part<'_>], _: Tensor<2>, _: &Tensor<2, Int>) -> Tensor<1> {
    unreachable!("nothing is available")
}

#[cfg(feature = "fused")]
mod kernels {
    use super::*;
    use crate::weight::Weight;
    use basislab_config::{Activation, Attention, Mask, NormKind, Positions, RopePairs};
    use basislab_fused as fused;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    /// Runs parts that all have kernels. `is_first` says that `x` is what the branch has read.
    pub(crate) fn run(
        model: &Transformer,
        parts: &[Part<'_>],
        x: Vec<Tensor<2>>,
        read: &Tensor<2>,
        is_first: bool,
        pos: usize,
    ) -> Vec<Tensor<2>> {
        let mut columns: Vec<usize> = x.iter().map(|x| x.dims()[1]).collect();
        let x = if x.len() == 1 { x.into_iter().next().expect("one") } else { Tensor::cat(x, 1) };
        let mut chain = Builder::new(model, x, pos);
        for part in parts {
            chain.push(part, (!is_first).then_some(read));
            columns = part.columns(model, columns);
        }
        let out: Tensor<2> = chain.run();
        if columns.len() == 1 {
            return vec![out];
        }
        let mut first = 0;
        let mut next = |count: usize| {
            first += count;
            out.clone().narrow(1, first - count, count)
        };
        columns.into_iter().map(&mut next).collect()
    }

    /// The mean loss of `targets [B, T]` after parts that give logits, `[1]`.
    pub(crate) fn loss(model: &Transformer, parts: &[Part<'_>], x: Tensor<2>, targets: &Tensor<2, Int>) -> Tensor<1> {
        let pos = targets.dims()[1];
        let mut chain = Builder::new(model, x, pos);
        parts.iter().for_each(|part| chain.push(part, None));
        let targets = targets.clone().into_data().convert::<i32>().try_into_vec().expect("just converted to i32");
        chain.parts.push(fused::Part::Loss(fused::Loss { targets: targets.into() }));
        chain.run()
    }

    impl Part<'_> {
        /// The widths of the tensors that it gives, from those that it is given.
        fn columns(&self, model: &Transformer, given: Vec<usize>) -> Vec<usize> {
            match self {
                Self::Read(weights) => weights.iter().map(|(weight, _)| weight.value.dims()[1]).collect(),
                Self::ReadTransposed(weight) => vec![weight.value.dims()[0]],
                Self::Write(weight, _) => vec![weight.value.dims()[1]],
                Self::Attention => vec![model.spec.n_heads * model.spec.d_head()],
                Self::Activation => vec![given[0]],
                Self::Norm(_) | Self::HeadNorms(_) | Self::Rope | Self::Add(_) => given,
            }
        }
    }

    /// A chain under construction.
    struct Builder<'a> {
        model: &'a Transformer,
        pos: usize,
        inputs: Vec<Tensor<2>>,
        parts: Vec<fused::Part>,
    }

    impl Builder<'_> {
        fn new(model: &Transformer, x: Tensor<2>, pos: usize) -> Builder<'_> {
            Builder { model, pos, inputs: vec![x], parts: Vec::new() }
        }

        fn input(&mut self, tensor: Tensor<2>) -> fused::Input {
            self.inputs.push(tensor);
            self.inputs.len() - 1
        }

        fn vector(&mut self, vector: Option<&Weight>) -> Option<fused::Input> {
            vector.map(|vector| self.input(vector.in_stream()))
        }

        /// Adds a part; `read` is what the branch has read, where that is not the chain's own input.
        fn push(&mut self, part: &Part<'_>, read: Option<&Tensor<2>>) {
            let spec = &self.model.spec;
            let heads = fused::Heads { heads: spec.n_heads, kv_heads: spec.n_kv_heads(), d_head: spec.d_head() };
            let part = match part {
                Part::Norm(norm) => fused::Part::Norm(fused::Norm {
                    is_centred: norm.kind == NormKind::Layernorm,
                    epsilon: norm.epsilon as f32,
                    gain: self.vector(norm.gain.as_ref()),
                    bias: self.vector(norm.bias.as_ref()),
                }),
                Part::Read(weights) => {
                    let maps = weights.iter().map(|(weight, bias)| {
                        let bias = bias.map(|bias| self.input(bias.value.clone()));
                        self.map(weight.out_of_stream(), bias, false)
                    });
                    let maps = maps.collect();
                    self.linear(maps)
                }
                Part::ReadTransposed(weight) => {
                    let map = self.map(weight.in_stream(), None, true);
                    self.linear(vec![map])
                }
                Part::Write(weight, bias) => {
                    let bias = self.vector(*bias);
                    let map = self.map(weight.in_stream(), bias, false);
                    self.linear(vec![map])
                }
                Part::HeadNorms([of_queries, of_keys]) => fused::Part::HeadNorms(fused::HeadNorms {
                    heads,
                    epsilon: of_queries.epsilon as f32,
                    of_queries: self.vector(of_queries.gain.as_ref()).expect("it has a gain"),
                    of_keys: self.vector(of_keys.gain.as_ref()).expect("it has a gain"),
                }),
                Part::Rope => {
                    let Positions::Rope { base, pairs, dims } = spec.positions else {
                        unreachable!("a model without rope")
                    };
                    let tables = tables(base, dims.unwrap_or(spec.d_head()), self.pos);
                    fused::Part::Rope(fused::Rope { heads, is_interleaved: pairs == RopePairs::Interleaved, tables })
                }
                Part::Attention => fused::Part::Attention(fused::Attention {
                    heads,
                    is_causal: spec.mask == Mask::Causal,
                    has_nothing: spec.attention == Attention::SoftmaxOne,
                }),
                Part::Activation => fused::Part::Activation(match (spec.mlp, spec.activation) {
                    (basislab_config::Mlp::Swiglu, _) => fused::Activation::Swiglu,
                    (_, Activation::Gelu) => fused::Activation::Gelu,
                    (_, Activation::GeluTanh) => fused::Activation::GeluTanh,
                    (_, Activation::Relu) => fused::Activation::Relu,
                    (_, Activation::Solu) => fused::Activation::Solu,
                }),
                Part::Add(Some(resid)) => fused::Part::Add(self.input(resid.as_ref().clone())),
                Part::Add(None) => fused::Part::Add(read.map_or(0, |read| self.input(read.clone()))),
            };
            self.parts.push(part);
        }

        fn map(&mut self, weight: Tensor<2>, bias: Option<fused::Input>, is_transposed: bool) -> fused::Map {
            let [rows, columns] = weight.dims();
            let out = if is_transposed { rows } else { columns };
            fused::Map { weight: self.input(weight), is_transposed, bias, out }
        }

        fn linear(&self, maps: Vec<fused::Map>) -> fused::Part {
            let precision = match self.model.spec.compute_dtype {
                Dtype::Bf16 => fused::Precision::Bf16,
                _ => fused::Precision::F32,
            };
            fused::Part::Linear(fused::Linear { maps, precision })
        }

        fn run<const D: usize>(self) -> Tensor<D> {
            let d = self.inputs[0].dims()[1];
            fused::run(fused::Chain::new(self.pos, d, self.parts), self.inputs)
        }
    }

    /// Cosines and sines of rope's angles, `[pos, dims / 2]` each, made once for each base, width and length.
    fn tables(base: f64, dims: usize, pos: usize) -> Arc<[Vec<f32>; 2]> {
        type Known = BTreeMap<(u64, usize, usize), Arc<[Vec<f32>; 2]>>;
        static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().expect("no panic while held");
        let table = |of| crate::rope::table(base, dims, pos, of).into_iter().map(|x| x as f32).collect();
        let make = || Arc::new([f64::cos as fn(f64) -> f64, f64::sin].map(table));
        known.entry((base.to_bits(), dims, pos)).or_insert_with(make).clone()
    }
}
