//! ImageGPT: GPT-2 with norms that do not centre. Its embedding has one row more than its head, for the start of a sequence.

use super::config::{AXIS, CONTEXT, Config, HEADS, LAYERS, WIDTH};
use super::layout::{Layout, Stored, head_width};
use basislab_config::{Attention, Branches, Dtype, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions};
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn layout(config: &mut Config) -> Result<Layout, String> {
    let architecture = config.architecture(&["ImageGPTForCausalImageModeling"])?;
    let (d_model, n_heads) = (config.size("n_embd", WIDTH)?, config.size("n_head", HEADS)?);
    let (n_layers, n_ctx, vocabulary) =
        (config.size("n_layer", LAYERS)?, config.size("n_positions", CONTEXT)?, config.size("vocab_size", AXIS)?);
    head_width(d_model, n_heads)?;
    if vocabulary < 2 {
        return Err("found vocab_size = 1, expected the start of a sequence and at least one token more".to_owned());
    }
    let d_vocab = vocabulary - 1;
    config.expect("scale_attn_weights", &json!(true))?;
    config.expect("tie_word_embeddings", &json!(false))?;
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
        norm: NormKind::RmsGain,
        norm_place: NormPlace::Pre,
        norm_epsilon: config.epsilon("layer_norm_epsilon")?,
        positions: Positions::Learned {},
        attention: Attention::Softmax,
        mask: Mask::Causal,
        qk_norm: false,
        tied_head: false,
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
            add(format!("{block}.{ours}.gain"), Stored::vector(format!("{theirs}.{norm}.weight"), d_model));
        }
        super::gpt2::linears(&block, &theirs, d_model, d_mlp, &mut add);
    }
    let embedding = Stored::matrix("wte.weight".to_owned(), [d_vocab, d_model]);
    add("w_e".to_owned(), Stored { rows_after: 1, ..embedding });
    add("w_pos".to_owned(), Stored::matrix("wpe.weight".to_owned(), [n_ctx, d_model]));
    add("norm.gain".to_owned(), Stored::vector("ln_f.weight".to_owned(), d_model));
    add("w_u".to_owned(), Stored::transposed("lm_head.weight".to_owned(), [d_model, d_vocab]));
    Ok(Layout {
        spec,
        d_vocab,
        architecture,
        has_head: true,
        parameters,
        prefix: "transformer.",
        head: "lm_head.weight",
        buffers: &["h.L.attn.bias", "h.L.attn.masked_bias"],
        ignored_keys: &["attn_pdrop", "embd_pdrop", "resid_pdrop"],
    })
}
