// N tokens, H heads, G heads with keys, K d_head, F d_mlp

use crate::activation::{Gelu, gelu_tanh, silu};
use crate::fused;
use crate::model::Transformer;
use crate::norm::{Norm, written};
use crate::product::{at_least_f32, dtype, product};
use crate::rope::rope;
use crate::weight::Weight;
use basislab_config::{Activation, Attention, Mask, ModelSpec, NormKind, Positions};
use burn::tensor::{Bool, Device, Tensor, activation};

/// One step of a branch. A branch is a list of them.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// The stream, normalised. `[N, D]` -> same
    Norm(&'a Norm),
    /// From the stream into the branch, through each weight. `[N, D]` -> `[N, out]` each
    Read(Vec<(&'a Weight, Option<&'a Weight>)>),
    /// The same through a matrix stored as a write: the tied head. `[N, D]` -> `[N, out]`
    ReadTransposed(&'a Weight),
    /// Queries and keys, normalised in each head. Queries `[N, H K]`, keys and values `[N, G K]` -> same
    HeadNorms(&'a [Norm; 2]),
    /// Queries and keys, rotated by their position. -> same
    Rope,
    /// Values, mixed by attention weights. -> `[N, H K]`
    Attention,
    /// The hidden layer, after the gate where there is one. `[N, F]` each -> `[N, F]`
    Activation,
    /// From the branch into the stream. `[N, in]` -> `[N, D]`
    Write(&'a Weight, Option<&'a Weight>),
    /// The residual connection: adds what the branch has read, or another stream. `[N, D]` -> same
    Add(Option<Box<Tensor<2>>>),
}

/// A part's name, as the program says what runs how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the part of its name")]
pub enum PartName {
    Norm,
    Projection,
    HeadNorm,
    Rope,
    Attention,
    Activation,
    Residual,
    Loss,
}

impl PartName {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Norm,
        Self::Projection,
        Self::HeadNorm,
        Self::Rope,
        Self::Attention,
        Self::Activation,
        Self::Residual,
        Self::Loss,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Norm => "norm",
            Self::Projection => "projections",
            Self::HeadNorm => "norms of queries and keys",
            Self::Rope => "rope",
            Self::Attention => "attention",
            Self::Activation => "activation",
            Self::Residual => "residual connections",
            Self::Loss => "loss",
        }
    }
}

/// The parts of a model, each with whether it runs as a fused kernel on this device; else burn's operations compute it.
pub fn parts(spec: &ModelSpec, device: &Device) -> Vec<(PartName, bool)> {
    let all = [
        (PartName::Norm, spec.norm != NormKind::None),
        (PartName::Projection, true),
        (PartName::HeadNorm, spec.qk_norm),
        (PartName::Rope, matches!(spec.positions, Positions::Rope { .. })),
        (PartName::Attention, true),
        (PartName::Activation, true),
        (PartName::Residual, true),
        (PartName::Loss, true),
    ];
    let has = all.into_iter().filter(|(_, has)| *has);
    has.map(|(name, _)| (name, fused::available(spec, device) && fused::has_kernel(spec, name))).collect()
}

impl Part<'_> {
    pub(crate) fn name(&self) -> PartName {
        match self {
            Self::Norm(_) => PartName::Norm,
            Self::Read(_) | Self::ReadTransposed(_) | Self::Write(..) => PartName::Projection,
            Self::HeadNorms(_) => PartName::HeadNorm,
            Self::Rope => PartName::Rope,
            Self::Attention => PartName::Attention,
            Self::Activation => PartName::Activation,
            Self::Add(_) => PartName::Residual,
        }
    }

    /// Whether no kernel computes it with these weights: they round what they multiply, or turning them would cost more than
    /// turning the stream.
    pub(crate) fn needs_reference(&self) -> bool {
        match self {
            Self::ReadTransposed(weight) => weight.rotation.is_some(),
            Self::Read(weights) => weights.iter().any(|(weight, _)| weight.rounding.is_some()),
            Self::Write(weight, _) => weight.rounding.is_some(),
            _ => false,
        }
    }

    /// In burn's operations: what a kernel must agree with.
    ///
    /// # Shapes
    /// `x` is what the part before gave; `read [N, D]` what the branch has read
    pub(crate) fn reference(
        &self,
        model: &Transformer,
        x: Vec<Tensor<2>>,
        read: &Tensor<2>,
        pos: usize,
    ) -> Vec<Tensor<2>> {
        let spec = &model.spec;
        let one = || x[0].clone();
        match self {
            Self::Norm(norm) => vec![norm.apply(one())],
            Self::Read(weights) => weights.iter().map(|(weight, bias)| plus(weight.read(one()), *bias)).collect(),
            Self::ReadTransposed(weight) => vec![weight.read_transposed(one())],
            Self::HeadNorms([q_norm, k_norm]) => {
                let [q, k, v] = three(x);
                vec![per_head(q_norm, q, spec.d_head()), per_head(k_norm, k, spec.d_head()), v]
            }
            Self::Rope => {
                let [q, k, v] = three(x);
                vec![rotated(spec, q, pos), rotated(spec, k, pos), v]
            }
            Self::Attention => vec![attention(spec, three(x), pos)],
            Self::Activation => vec![active(spec.activation, model.gelu, x)],
            Self::Write(weight, bias) => vec![written(weight.write(one()), *bias)],
            Self::Add(None) => vec![read.clone() + one()],
            Self::Add(Some(resid)) => vec![resid.as_ref().clone() + one()],
        }
    }
}

fn three(x: Vec<Tensor<2>>) -> [Tensor<2>; 3] {
    x.try_into().expect("queries, keys and values")
}

/// Adds a bias that never meets the stream.
fn plus(x: Tensor<2>, bias: Option<&Weight>) -> Tensor<2> {
    match bias {
        Some(bias) => x + bias.value.clone(),
        None => x,
    }
}

/// Normalises each head by itself. `[N, H K]` -> same
fn per_head(norm: &Norm, x: Tensor<2>, d_head: usize) -> Tensor<2> {
    let [tokens, width] = x.dims();
    norm.apply(x.reshape([tokens * (width / d_head), d_head])).reshape([tokens, width])
}

/// `[N, H K]` -> `[B, H, T, K]`
fn split(x: Tensor<2>, pos: usize, d_head: usize) -> Tensor<4> {
    let [tokens, width] = x.dims();
    x.reshape([tokens / pos, pos, width / d_head, d_head]).swap_dims(1, 2)
}

/// `[B, H, T, K]` -> `[N, H K]`
fn joined(x: Tensor<4>) -> Tensor<2> {
    let [batch, heads, pos, d_head] = x.dims();
    x.swap_dims(1, 2).reshape([batch * pos, heads * d_head])
}

/// Rotated by position. `[N, H K]` -> same
fn rotated(spec: &ModelSpec, x: Tensor<2>, pos: usize) -> Tensor<2> {
    let Positions::Rope { base, pairs, dims } = spec.positions else { return x };
    joined(rope(split(x, pos, spec.d_head()), base, pairs, dims.unwrap_or(spec.d_head())))
}

fn attention(spec: &ModelSpec, [q, k, v]: [Tensor<2>; 3], pos: usize) -> Tensor<2> {
    let (heads, d_head) = (spec.n_heads, spec.d_head());
    let [q, k, v] = [q, k, v].map(|x| shared(split(x, pos, d_head), heads));
    let compute = dtype(spec.compute_dtype);
    let batch = q.dims()[0];
    let mut scores = at_least_f32(product(q, k.transpose(), compute)).mul_scalar((d_head as f64).powf(-0.5)); // [B, H, T, T]
    if spec.mask == Mask::Causal {
        let hidden = causal_mask(pos, &scores.device()).expand([batch, heads, pos, pos]);
        scores = scores.mask_fill(hidden, f32::NEG_INFINITY);
    }
    let pattern = match spec.attention {
        Attention::Softmax => activation::softmax(scores, 3),
        Attention::SoftmaxOne => activation::quiet_softmax(scores, 3),
    };
    joined(product(pattern.cast(v.dtype()), v, compute))
}

/// Queries as they are; keys or values of `G` heads for all `heads`: each serves as many neighbours.
/// `[B, G, T, K]` -> `[B, H, T, K]`
fn shared(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, kv_heads, pos, d_head] = x.dims();
    if kv_heads == heads {
        return x;
    }
    let wide = x.unsqueeze_dim::<5>(2).expand([batch, kv_heads, heads / kv_heads, pos, d_head]);
    wide.reshape([batch, heads, pos, d_head])
}

/// `true` where a query must not attend to a key, `[1, 1, T, T]`; computed on the device, without a transfer.
fn causal_mask(pos: usize, device: &Device) -> Tensor<4, Bool> {
    let positions = Tensor::<1, burn::tensor::Int>::arange(0..pos as i64, device);
    let (queries, keys) = (positions.clone().reshape([1, 1, pos, 1]), positions.reshape([1, 1, 1, pos]));
    keys.greater(queries)
}

/// A gated hidden layer is `[gate, hidden]`.
fn active(activation: Activation, gelu: Gelu, mut x: Vec<Tensor<2>>) -> Tensor<2> {
    let hidden = x.pop().expect("a hidden layer");
    match (x.pop(), activation) {
        (Some(gate), _) => silu(gate) * hidden,
        (None, Activation::Gelu) => gelu.apply(hidden),
        (None, Activation::GeluTanh) => gelu_tanh(hidden),
        (None, Activation::Relu) => activation::relu(hidden),
        (None, Activation::Solu) => {
            hidden.clone() * activation::softmax(at_least_f32(hidden.clone()), 1).cast(hidden.dtype())
        }
    }
}
