//! Llama, and its relatives Mistral, Qwen2 (biases of queries, keys and values) and Qwen3 (norms of queries and keys).

use super::config::{AXIS, CONTEXT, Config, HEADS, LAYERS, WIDTH};
use super::layout::{Layout, Stored, head_width};
use basislab_config::{
    Activation, Attention, Branches, Dtype, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions, RopePairs,
};
use serde_json::json;
use std::collections::BTreeMap;

/// Window of attention where `config.json` has no such key.
const DEFAULT_WINDOW: usize = 4096;

/// Of the family `llama`, `mistral`, `qwen2` or `qwen3`.
pub(super) fn layout(config: &mut Config, family: &str) -> Result<Layout, String> {
    let architectures: &[&'static str] = match family {
        "mistral" => &["MistralForCausalLM", "MistralModel"],
        "qwen2" => &["Qwen2ForCausalLM", "Qwen2Model"],
        "qwen3" => &["Qwen3ForCausalLM", "Qwen3Model"],
        _ => &["LlamaForCausalLM", "LlamaModel"],
    };
    let architecture = config.architecture(architectures)?;
    let has_head = architecture == architectures[0];
    let (d_model, d_mlp) = (config.size("hidden_size", WIDTH)?, config.size("intermediate_size", AXIS)?);
    let n_heads = config.size("num_attention_heads", HEADS)?;
    let n_kv_heads = match family {
        "llama" => config.optional_size("num_key_value_heads", HEADS)?.unwrap_or(n_heads),
        _ => config.size("num_key_value_heads", HEADS)?,
    };
    let d_head = match family {
        "qwen3" => config.size("head_dim", HEADS)?,
        _ => config.optional_size("head_dim", HEADS)?.map_or_else(|| head_width(d_model, n_heads), Ok)?,
    };
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(format!("found num_key_value_heads = {n_kv_heads}, expected a divisor of {n_heads} heads"));
    }
    if !d_head.is_multiple_of(2) {
        return Err(format!("found heads of width {d_head}, expected an even width for rotary positions"));
    }
    let (base, part) = config.rope("rope_theta", "partial_rotary_factor", 1.0)?;
    if part != 1.0 {
        return Err(format!("found partial_rotary_factor = {part}, expected 1 in this family"));
    }
    config.expect("hidden_act", &json!("silu"))?;
    let tied_head = config.flag("tie_word_embeddings", false)? || !has_head;
    let n_layers = config.size("num_hidden_layers", LAYERS)?;
    let spec = ModelSpec {
        n_ctx: context(config, family)?,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: (n_kv_heads != n_heads).then_some(n_kv_heads),
        d_head: (d_head * n_heads != d_model).then_some(d_head),
        d_mlp,
        mlp: Mlp::Swiglu,
        activation: Activation::Gelu,
        branches: Branches::Sequential,
        norm: NormKind::RmsGain,
        norm_place: NormPlace::Pre,
        norm_epsilon: config.epsilon("rms_norm_eps")?,
        positions: Positions::Rope { base, pairs: RopePairs::Halves, dims: None },
        attention: Attention::Softmax,
        mask: Mask::Causal,
        qk_norm: family == "qwen3",
        tied_head,
        biases: false,
        qkv_biases: family == "qwen2",
        init_std: 0.02,
        param_dtype: Dtype::F32,
        compute_dtype: Dtype::F32,
    };
    let d_vocab = config.size("vocab_size", AXIS)?;
    let mut parameters = BTreeMap::new();
    let mut add = |ours: String, stored: Stored| drop(parameters.insert(ours, stored));
    for layer in 0..n_layers {
        let (block, theirs) = (format!("blocks.{layer}"), format!("layers.{layer}"));
        for (ours, norm) in [("norm_1", "input_layernorm"), ("norm_2", "post_attention_layernorm")] {
            add(format!("{block}.{ours}.gain"), Stored::vector(format!("{theirs}.{norm}.weight"), d_model));
        }
        for (part, heads) in [("q", n_heads), ("k", n_kv_heads), ("v", n_kv_heads)] {
            let (linear, width) = (format!("{theirs}.self_attn.{part}_proj"), heads * d_head);
            add(format!("{block}.w_{part}"), Stored::transposed(format!("{linear}.weight"), [d_model, width]));
            if spec.qkv_biases {
                add(format!("{block}.b_{part}"), Stored::vector(format!("{linear}.bias"), width));
            }
        }
        let linears = [
            ("w_o", "self_attn.o_proj", [n_heads * d_head, d_model]),
            ("w_gate", "mlp.gate_proj", [d_model, d_mlp]),
            ("w_in", "mlp.up_proj", [d_model, d_mlp]),
            ("w_out", "mlp.down_proj", [d_mlp, d_model]),
        ];
        for (ours, linear, shape) in linears {
            add(format!("{block}.{ours}"), Stored::transposed(format!("{theirs}.{linear}.weight"), shape));
        }
        for norm in ["q_norm", "k_norm"].iter().filter(|_| spec.qk_norm) {
            add(format!("{block}.{norm}.gain"), Stored::vector(format!("{theirs}.self_attn.{norm}.weight"), d_head));
        }
    }
    add("w_e".to_owned(), Stored::matrix("embed_tokens.weight".to_owned(), [d_vocab, d_model]));
    add("norm.gain".to_owned(), Stored::vector("norm.weight".to_owned(), d_model));
    if !tied_head {
        add("w_u".to_owned(), Stored::transposed("lm_head.weight".to_owned(), [d_model, d_vocab]));
    }
    Ok(Layout {
        spec,
        d_vocab,
        architecture,
        has_head,
        parameters,
        prefix: "model.",
        head: "lm_head.weight",
        buffers: &["layers.L.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"],
        ignored_keys: &["attention_dropout", "is_llama_config", "max_window_layers", "pretraining_tp"],
    })
}

/// Positions of a sequence. Attention in a window is full attention while the sequence is no longer than the window.
fn context(config: &mut Config, family: &str) -> Result<usize, String> {
    let n_ctx = config.size("max_position_embeddings", CONTEXT)?;
    if family == "llama" {
        return Ok(n_ctx);
    }
    let types = config.texts("layer_types", &["full_attention", "sliding_attention"])?;
    let is_used =
        family == "mistral" || config.flag("use_sliding_window", false)? || types.contains(&"sliding_attention");
    let has_key = config.has("sliding_window");
    let window = config.optional_size("sliding_window", CONTEXT)?.or((!has_key).then_some(DEFAULT_WINDOW));
    Ok(if is_used { window.map_or(n_ctx, |window| window.min(n_ctx)) } else { n_ctx })
}
