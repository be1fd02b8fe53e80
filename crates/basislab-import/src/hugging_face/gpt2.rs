//! GPT-2: matrices are stored [in, out], queries, keys and values side by side.

use super::config::{AXIS, CONTEXT, Config, HEADS, LAYERS, WIDTH};
use super::layout::{Layout, Stored, head_width};
use basislab_config::{Attention, Branches, Dtype, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions};
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn layout(config: &mut Config) -> Result<Layout, String> {
    let architectures = ["GPT2LMHeadModel", "GPT2Model"];
    let architecture = config.architecture(&architectures)?;
    let has_head = architecture == architectures[0];
    let (d_model, n_heads) = (config.size("n_embd", WIDTH)?, config.size("n_head", HEADS)?);
    let (n_layers, n_ctx, d_vocab) =
        (config.size("n_layer", LAYERS)?, config.size("n_positions", CONTEXT)?, config.size("vocab_size", AXIS)?);
    head_width(d_model, n_heads)?;
    config.expect("scale_attn_weights", &json!(true))?;
    let tied_head = config.flag("tie_word_embeddings", true)? || !has_head;
    let d_mlp = config.optional_size("n_inner", AXIS)?.unwrap_or(4 * d_model);
    let spec = ModelSpec {
        n_ctx,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: None,
        d_head: None,
        d_mlp,
        mlp: Mlp::Plain,
        activation: config.activation("activation_function")?,
        branches: Branches::Sequential,
        norm: NormKind::Layernorm,
        norm_place: NormPlace::Pre,
        norm_epsilon: config.epsilon("layer_norm_epsilon")?,
        positions: Positions::Learned {},
        attention: Attention::Softmax,
        mask: Mask::Causal,
        qk_norm: false,
        tied_head,
        biases: true,
        qkv_biases: false,
        init_std: 0.02,
        param_dtype: Dtype::F32,
        compute_dtype: Dtype::F32,
    };
    let mut parameters = BTreeMap::new();
    let mut add = |ours: String, stored: Stored| drop(parameters.insert(ours, stored));
    for layer in 0..n_layers {
        let (block, theirs) = (format!("blocks.{layer}"), format!("h.{layer}"));
        for (ours, norm) in [("norm_1", "ln_1"), ("norm_2", "ln_2")] {
            for (gain, weight) in [("gain", "weight"), ("bias", "bias")] {
                add(format!("{block}.{ours}.{gain}"), Stored::vector(format!("{theirs}.{norm}.{weight}"), d_model));
            }
        }
        linears(&block, &theirs, d_model, d_mlp, &mut add);
    }
    add("w_e".to_owned(), Stored::matrix("wte.weight".to_owned(), [d_vocab, d_model]));
    add("w_pos".to_owned(), Stored::matrix("wpe.weight".to_owned(), [n_ctx, d_model]));
    add("norm.gain".to_owned(), Stored::vector("ln_f.weight".to_owned(), d_model));
    add("norm.bias".to_owned(), Stored::vector("ln_f.bias".to_owned(), d_model));
    if !tied_head {
        add("w_u".to_owned(), Stored::transposed("lm_head.weight".to_owned(), [d_model, d_vocab]));
    }
    Ok(Layout {
        spec,
        d_vocab,
        architecture,
        has_head,
        parameters,
        prefix: "transformer.",
        head: "lm_head.weight",
        buffers: &["h.L.attn.bias", "h.L.attn.masked_bias"],
        ignored_keys: &[
            "attn_pdrop",
            "embd_pdrop",
            "n_ctx",
            "resid_pdrop",
            "summary_activation",
            "summary_first_dropout",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        ],
    })
}

/// The matrices of a block and their biases.
pub(super) fn linears(block: &str, theirs: &str, d_model: usize, d_mlp: usize, add: &mut impl FnMut(String, Stored)) {
    for (index, part) in ["q", "k", "v"].iter().enumerate() {
        let (weight, bias) = (format!("{theirs}.attn.c_attn.weight"), format!("{theirs}.attn.c_attn.bias"));
        add(format!("{block}.w_{part}"), Stored::matrix(weight, [d_model, d_model]).third(index, 1));
        add(format!("{block}.b_{part}"), Stored::vector(bias, d_model).third(index, 1));
    }
    let linears = [
        ("o", "attn.c_proj", [d_model, d_model]),
        ("in", "mlp.c_fc", [d_model, d_mlp]),
        ("out", "mlp.c_proj", [d_mlp, d_model]),
    ];
    for (ours, linear, shape) in linears {
        add(format!("{block}.w_{ours}"), Stored::matrix(format!("{theirs}.{linear}.weight"), shape));
        add(format!("{block}.b_{ours}"), Stored::vector(format!("{theirs}.{linear}.bias"), shape[1]));
    }
}
