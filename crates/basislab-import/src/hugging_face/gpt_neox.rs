//! GPT-NeoX and Pythia: queries, keys and values of each head side by side, positions rotate a part of each head.

use super::config::{AXIS, CONTEXT, Config, HEADS, LAYERS, WIDTH};
use super::layout::{Layout, Stored, head_width};
use basislab_config::{Attention, Branches, Dtype, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions, RopePairs};
use serde_json::json;
use std::collections::BTreeMap;

/// Part of each head that rotates where `config.json` has no such key.
const DEFAULT_ROTARY_PART: f64 = 0.25;

pub(super) fn layout(config: &mut Config) -> Result<Layout, String> {
    let architectures = ["GPTNeoXForCausalLM", "GPTNeoXModel"];
    let architecture = config.architecture(&architectures)?;
    let has_head = architecture == architectures[0];
    let (d_model, d_mlp) = (config.size("hidden_size", WIDTH)?, config.size("intermediate_size", AXIS)?);
    let (n_layers, n_heads) = (config.size("num_hidden_layers", LAYERS)?, config.size("num_attention_heads", HEADS)?);
    let (n_ctx, d_vocab) = (config.size("max_position_embeddings", CONTEXT)?, config.size("vocab_size", AXIS)?);
    let d_head = head_width(d_model, n_heads)?;
    let (base, part) = config.rope("rotary_emb_base", "rotary_pct", DEFAULT_ROTARY_PART)?;
    let dims = (d_head as f64 * part) as usize;
    if dims == 0 || !dims.is_multiple_of(2) {
        return Err(format!("found {dims} rotary coordinates of a head ({part} of {d_head}), expected an even number"));
    }
    config.expect("attention_bias", &json!(true))?;
    let tied_head = config.flag("tie_word_embeddings", false)? || !has_head;
    let is_parallel = config.flag("use_parallel_residual", true)?;
    let spec = ModelSpec {
        n_ctx,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: None,
        d_head: None,
        d_mlp,
        mlp: Mlp::Plain,
        activation: config.activation("hidden_act")?,
        branches: if is_parallel { Branches::Parallel } else { Branches::Sequential },
        norm: NormKind::Layernorm,
        norm_place: NormPlace::Pre,
        norm_epsilon: config.epsilon("layer_norm_eps")?,
        positions: Positions::Rope { base, pairs: RopePairs::Halves, dims: (dims != d_head).then_some(dims) },
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
        let (block, theirs) = (format!("blocks.{layer}"), format!("layers.{layer}"));
        for (ours, norm) in [("norm_1", "input_layernorm"), ("norm_2", "post_attention_layernorm")] {
            for (gain, weight) in [("gain", "weight"), ("bias", "bias")] {
                add(format!("{block}.{ours}.{gain}"), Stored::vector(format!("{theirs}.{norm}.{weight}"), d_model));
            }
        }
        for (index, part) in ["q", "k", "v"].iter().enumerate() {
            let fused = format!("{theirs}.attention.query_key_value");
            let weight = Stored::transposed(format!("{fused}.weight"), [d_model, d_model]);
            add(format!("{block}.w_{part}"), weight.third(index, n_heads));
            add(format!("{block}.b_{part}"), Stored::vector(format!("{fused}.bias"), d_model).third(index, n_heads));
        }
        let linears = [
            ("o", "attention.dense", [d_model, d_model]),
            ("in", "mlp.dense_h_to_4h", [d_model, d_mlp]),
            ("out", "mlp.dense_4h_to_h", [d_mlp, d_model]),
        ];
        for (ours, linear, shape) in linears {
            add(format!("{block}.w_{ours}"), Stored::transposed(format!("{theirs}.{linear}.weight"), shape));
            add(format!("{block}.b_{ours}"), Stored::vector(format!("{theirs}.{linear}.bias"), shape[1]));
        }
    }
    add("w_e".to_owned(), Stored::matrix("embed_in.weight".to_owned(), [d_vocab, d_model]));
    add("norm.gain".to_owned(), Stored::vector("final_layer_norm.weight".to_owned(), d_model));
    add("norm.bias".to_owned(), Stored::vector("final_layer_norm.bias".to_owned(), d_model));
    if !tied_head {
        add("w_u".to_owned(), Stored::transposed("embed_out.weight".to_owned(), [d_model, d_vocab]));
    }
    Ok(Layout {
        spec,
        d_vocab,
        architecture,
        has_head,
        parameters,
        prefix: "gpt_neox.",
        head: "embed_out.weight",
        buffers: &[
            "layers.L.attention.bias",
            "layers.L.attention.masked_bias",
            "layers.L.attention.rotary_emb.inv_freq",
            "rotary_emb.inv_freq",
        ],
        ignored_keys: &["attention_dropout", "classifier_dropout", "hidden_dropout"],
    })
}
