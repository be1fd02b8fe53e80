//! The fused operations, for models that they cover; elsewhere the caller computes the reference.

use crate::block::Block;
use crate::model::Transformer;
use basislab_config::ModelSpec;
use burn::tensor::{Device, Int, Tensor};

/// Whether the fused operations cover this architecture on this device.
#[cfg(feature = "fused")]
pub(crate) fn covers(spec: &ModelSpec, device: &Device) -> bool {
    use basislab_config::{Activation, Attention, Branches, Mask, Mlp, NormKind, NormPlace, Positions};
    // Every key is named, so that a new option of the architecture cannot count as covered by accident.
    let ModelSpec {
        n_ctx: _,
        n_layers: _,
        d_model: _,
        n_heads: _,
        n_kv_heads: _,
        d_head: _,
        d_mlp: _,
        mlp,
        activation,
        branches,
        norm,
        norm_place,
        norm_epsilon: _,
        positions,
        attention,
        mask,
        qk_norm,
        tied_head: _,
        biases,
        qkv_biases,
        init_std: _,
        param_dtype,
        compute_dtype,
    } = spec;
    basislab_fused::available(device, crate::product::dtype(*param_dtype))
        && compute_dtype == param_dtype
        && !(*biases || *qkv_biases || *qk_norm)
        && spec.n_kv_heads() == spec.n_heads
        && spec.n_heads * spec.d_head() == spec.d_model
        && *mlp == Mlp::Plain
        && *branches == Branches::Sequential
        && *norm_place == NormPlace::Pre
        && *mask == Mask::Causal
        && *activation == Activation::Gelu
        && *attention == Attention::Softmax
        && matches!(positions, Positions::Learned {})
        && matches!(norm, NormKind::Rms | NormKind::RmsScalar | NormKind::RmsGain)
}

/// The stream after the attention branch, `[N, D]`.
#[cfg(feature = "fused")]
pub(crate) fn attention(model: &Transformer, block: &Block, resid: &Tensor<2>, pos: usize) -> Tensor<2> {
    let Block { norm_1: norm, w_q, w_k, w_v, w_o, .. } = block;
    let weights = [w_q.out_of_stream(), w_k.out_of_stream(), w_v.out_of_stream(), w_o.in_stream()];
    let heads = model.spec.n_heads;
    basislab_fused::attention(resid.clone(), norm.gain_or_one(resid), weights, pos, heads, norm.epsilon)
}

/// The stream after the MLP branch, `[N, D]`.
#[cfg(feature = "fused")]
pub(crate) fn mlp(block: &Block, resid: &Tensor<2>, pos: usize) -> Tensor<2> {
    let Block { norm_2: norm, w_in, w_out, .. } = block;
    let gain = norm.gain_or_one(resid);
    basislab_fused::mlp(resid.clone(), gain, w_in.out_of_stream(), w_out.in_stream(), pos, norm.epsilon)
}

/// Mean loss over `targets [B, T]`, `[1]`.
#[cfg(feature = "fused")]
pub(crate) fn head_loss(model: &Transformer, resid: &Tensor<2>, targets: &Tensor<2, Int>) -> Option<Tensor<1>> {
    let (norm, w_u) = (&model.head.norm, model.head.w_u.as_ref()?);
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
pub(crate) fn attention(_: &Transformer, _: &Block, _: &Tensor<2>, _: usize) -> Tensor<2> {
    unreachable!("nothing is covered")
}

#[cfg(not(feature = "fused"))]
pub(crate) fn mlp(_: &Block, _: &Tensor<2>, _: usize) -> Tensor<2> {
    unreachable!("nothing is covered")
}

#[cfg(not(feature = "fused"))]
pub(crate) fn head_loss(_: &Transformer, _: &Tensor<2>, _: &Tensor<2, Int>) -> Option<Tensor<1>> {
    None
}
