//! The fused operations, where they cover the model; `None` elsewhere, and the caller computes the reference.

use crate::model::{Block, Transformer};
use basislab_config::ModelSpec;
use burn::tensor::{Device, Int, Tensor};

/// Whether the fused operations cover this architecture on this device.
#[cfg(feature = "fused")]
pub(crate) fn covers(spec: &ModelSpec, device: &Device) -> bool {
    use basislab_config::{Activation, Attention, NormKind, Positions};
    // Every key is named, so that a new option of the architecture cannot count as covered by accident.
    let ModelSpec {
        n_ctx: _,
        n_layers: _,
        d_model: _,
        n_heads: _,
        d_mlp: _,
        activation,
        norm,
        norm_epsilon: _,
        positions,
        attention,
        tied_head: _,
        biases,
        init_std: _,
        param_dtype,
        compute_dtype,
    } = spec;
    basislab_fused::available(device, crate::product::dtype(*param_dtype))
        && compute_dtype == param_dtype
        && !biases
        && *activation == Activation::Gelu
        && *attention == Attention::Softmax
        && matches!(positions, Positions::Learned {})
        && matches!(norm, NormKind::Rms | NormKind::RmsScalar | NormKind::RmsGain)
}

/// The stream after the attention branch, `[N, D]`.
#[cfg(feature = "fused")]
pub(crate) fn attention(model: &Transformer, block: &Block, resid: &Tensor<2>, pos: usize) -> Option<Tensor<2>> {
    let Block { norm_1: norm, w_q, w_k, w_v, w_o, .. } = block;
    let weights = || [w_q.out_of_stream(), w_k.out_of_stream(), w_v.out_of_stream(), w_o.in_stream()];
    let (x, heads) = (resid.clone(), model.spec.n_heads);
    model.fused.then(|| basislab_fused::attention(x, norm.gain_or_one(resid), weights(), pos, heads, norm.epsilon))
}

/// The stream after the MLP branch, `[N, D]`.
#[cfg(feature = "fused")]
pub(crate) fn mlp(model: &Transformer, block: &Block, resid: &Tensor<2>, pos: usize) -> Option<Tensor<2>> {
    let Block { norm_2: norm, w_in, w_out, .. } = block;
    let (x, gain) = (resid.clone(), norm.gain_or_one(resid));
    model.fused.then(|| basislab_fused::mlp(x, gain, w_in.out_of_stream(), w_out.in_stream(), pos, norm.epsilon))
}

/// Mean loss over `targets [B, T]`, `[1]`.
#[cfg(feature = "fused")]
pub(crate) fn head_loss(model: &Transformer, resid: &Tensor<2>, targets: &Tensor<2, Int>) -> Option<Tensor<1>> {
    let (norm, w_u) = (&model.norm, model.w_u.as_ref()?);
    let (x, targets) = (resid.clone(), targets.clone());
    model
        .fused
        .then(|| basislab_fused::head_loss(x, norm.gain_or_one(resid), w_u.out_of_stream(), targets, norm.epsilon))
}

#[cfg(not(feature = "fused"))]
pub(crate) fn covers(_: &ModelSpec, _: &Device) -> bool {
    false
}

#[cfg(not(feature = "fused"))]
pub(crate) fn attention(_: &Transformer, _: &Block, _: &Tensor<2>, _: usize) -> Option<Tensor<2>> {
    None
}

#[cfg(not(feature = "fused"))]
pub(crate) fn mlp(_: &Transformer, _: &Block, _: &Tensor<2>, _: usize) -> Option<Tensor<2>> {
    None
}

#[cfg(not(feature = "fused"))]
pub(crate) fn head_loss(_: &Transformer, _: &Tensor<2>, _: &Tensor<2, Int>) -> Option<Tensor<1>> {
    None
}
