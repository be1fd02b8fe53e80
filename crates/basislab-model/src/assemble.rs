//! Which parameters a model has: one list for fresh weights and for weights from a file.

use crate::block::{Biases, Block};
use crate::norm::Norm;
use crate::weight::Weight;
use basislab_config::{Mlp, ModelSpec, NormKind, NormPlace, Positions};

/// How a parameter of a fresh model starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    /// Independent Gaussians of this standard deviation.
    Gaussian(f64),
    /// All of this value.
    Constant(f64),
}

/// Makes a parameter: its path, how it starts in a fresh model, its shape.
pub(crate) type Make<'a, E> = &'a mut dyn FnMut(&str, Start, [usize; 2]) -> Result<Weight, E>;

/// What is written before the first block.
#[derive(Debug, Clone)]
pub(crate) struct Embeddings {
    pub(crate) w_e: Weight,
    pub(crate) w_pos: Option<Weight>,
    /// Of a post-norm model.
    pub(crate) norm: Option<Norm>,
}

/// What reads the stream after the last block.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Of a pre-norm model.
    pub(crate) norm: Norm,
    pub(crate) w_u: Option<Weight>,
}

impl Embeddings {
    pub(crate) fn make<E>(spec: &ModelSpec, d_vocab: usize, make: Make<'_, E>) -> Result<Self, E> {
        let start = Start::Gaussian(spec.init_std);
        let w_e = make("w_e", start, [d_vocab, spec.d_model])?;
        let is_learned = matches!(spec.positions, Positions::Learned {});
        let w_pos = is_learned.then(|| make("w_pos", start, [spec.n_ctx, spec.d_model])).transpose()?;
        let is_post = spec.norm_place == NormPlace::Post;
        let norm = is_post.then(|| norm(spec, spec.norm, spec.d_model, "norm_e", make)).transpose()?;
        Ok(Self { w_e, w_pos, norm })
    }
}

impl Block {
    pub(crate) fn make<E>(spec: &ModelSpec, layer: usize, make: Make<'_, E>) -> Result<Self, E> {
        let ModelSpec { d_model, d_mlp, init_std, .. } = *spec;
        let (d_q, d_kv) = (spec.n_heads * spec.d_head(), spec.n_kv_heads() * spec.d_head());
        let make: Make<'_, E> = &mut |name, start, shape| make(&format!("blocks.{layer}.{name}"), start, shape);
        let read = Start::Gaussian(init_std);
        let write = Start::Gaussian(init_std / (2.0 * spec.n_layers as f64).sqrt());
        let norm_1 = norm(spec, spec.norm, d_model, "norm_1", make)?;
        let w_q = make("w_q", read, [d_model, d_q])?;
        let w_k = make("w_k", read, [d_model, d_kv])?;
        let w_v = make("w_v", read, [d_model, d_kv])?;
        let qk_norms = match spec.qk_norm {
            true => {
                let mut of_heads = |name| norm(spec, NormKind::RmsGain, spec.d_head(), name, make);
                Some([of_heads("q_norm")?, of_heads("k_norm")?])
            }
            false => None,
        };
        let w_o = make("w_o", write, [d_q, d_model])?;
        let norm_2 = norm(spec, spec.norm, d_model, "norm_2", make)?;
        let w_gate = (spec.mlp == Mlp::Swiglu).then(|| make("w_gate", read, [d_model, d_mlp])).transpose()?;
        let w_in = make("w_in", read, [d_model, d_mlp])?;
        let w_out = make("w_out", write, [d_mlp, d_model])?;
        let mut bias =
            |has: bool, name: &str, n: usize| has.then(|| make(name, Start::Constant(0.0), [1, n])).transpose();
        let (of_qkv, of_others) = (spec.biases || spec.qkv_biases, spec.biases);
        let biases = Biases {
            q: bias(of_qkv, "b_q", d_q)?,
            k: bias(of_qkv, "b_k", d_kv)?,
            v: bias(of_qkv, "b_v", d_kv)?,
            o: bias(of_others, "b_o", d_model)?,
            inner: bias(of_others, "b_in", d_mlp)?,
            outer: bias(of_others, "b_out", d_model)?,
        };
        Ok(Self { norm_1, w_q, w_k, w_v, qk_norms, w_o, norm_2, w_gate, w_in, w_out, biases })
    }
}

impl Head {
    /// The last norm, and the matrix of the head for a vocabulary of `d_vocab` where it has one of its own.
    pub(crate) fn make<E>(spec: &ModelSpec, d_vocab: Option<usize>, make: Make<'_, E>) -> Result<Self, E> {
        let kind = if spec.norm_place == NormPlace::Post { NormKind::None } else { spec.norm };
        let norm = norm(spec, kind, spec.d_model, "norm", make)?;
        let start = Start::Gaussian(spec.init_std);
        let d_vocab = d_vocab.filter(|_| !spec.tied_head);
        let w_u = d_vocab.map(|d_vocab| make("w_u", start, [spec.d_model, d_vocab])).transpose()?;
        Ok(Self { norm, w_u })
    }
}

fn norm<E>(spec: &ModelSpec, kind: NormKind, width: usize, name: &str, make: Make<'_, E>) -> Result<Norm, E> {
    let n = match kind {
        NormKind::None | NormKind::Rms => None,
        NormKind::RmsScalar => Some(1),
        NormKind::RmsGain | NormKind::Layernorm => Some(width),
    };
    let gain = n.map(|n| make(&format!("{name}.gain"), Start::Constant(1.0), [1, n])).transpose()?;
    let has_bias = kind == NormKind::Layernorm;
    let bias = has_bias.then(|| make(&format!("{name}.bias"), Start::Constant(0.0), [1, width])).transpose()?;
    Ok(Norm { kind, epsilon: spec.norm_epsilon, gain, bias })
}
