//! BERT: an encoder without a head; the norms come after each sum. All tokens are of the first segment.

use super::config::{AXIS, CONTEXT, Config, HEADS, LAYERS, WIDTH};
use super::layout::{Layout, Stored, head_width};
use basislab_config::{Attention, Branches, Dtype, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions};
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn layout(config: &mut Config) -> Result<Layout, String> {
    let architecture = config.architecture(&["BertModel", "BertForMaskedLM", "BertForPreTraining"])?;
    let (d_model, d_mlp) = (config.size("hidden_size", WIDTH)?, config.size("intermediate_size", AXIS)?);
    let (n_layers, n_heads) = (config.size("num_hidden_layers", LAYERS)?, config.size("num_attention_heads", HEADS)?);
    let (n_ctx, d_vocab) = (config.size("max_position_embeddings", CONTEXT)?, config.size("vocab_size", AXIS)?);
    head_width(d_model, n_heads)?;
    config.expect("position_embedding_type", &json!("absolute"))?;
    config.expect("directionality", &json!("bidi"))?;
    // Of the head of masked tokens, which is not read.
    config.flag("tie_word_embeddings", true)?;
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
        branches: Branches::Sequential,
        norm: NormKind::Layernorm,
        norm_place: NormPlace::Post,
        norm_epsilon: config.epsilon("layer_norm_eps")?,
        positions: Positions::Learned {},
        attention: Attention::Softmax,
        mask: Mask::Bidirectional,
        qk_norm: false,
        tied_head: true,
        biases: true,
        qkv_biases: false,
        init_std: 0.02,
        param_dtype: Dtype::F32,
        compute_dtype: Dtype::F32,
    };
    let mut parameters = BTreeMap::new();
    let mut add = |ours: String, stored: Stored| drop(parameters.insert(ours, stored));
    for layer in 0..n_layers {
        let (block, theirs) = (format!("blocks.{layer}"), format!("encoder.layer.{layer}"));
        for (ours, norm) in [("norm_1", "attention.output.LayerNorm"), ("norm_2", "output.LayerNorm")] {
            for (gain, weight) in [("gain", "weight"), ("bias", "bias")] {
                add(format!("{block}.{ours}.{gain}"), Stored::vector(format!("{theirs}.{norm}.{weight}"), d_model));
            }
        }
        let linears = [
            ("q", "attention.self.query", [d_model, d_model]),
            ("k", "attention.self.key", [d_model, d_model]),
            ("v", "attention.self.value", [d_model, d_model]),
            ("o", "attention.output.dense", [d_model, d_model]),
            ("in", "intermediate.dense", [d_model, d_mlp]),
            ("out", "output.dense", [d_mlp, d_model]),
        ];
        for (ours, linear, shape) in linears {
            add(format!("{block}.w_{ours}"), Stored::transposed(format!("{theirs}.{linear}.weight"), shape));
            add(format!("{block}.b_{ours}"), Stored::vector(format!("{theirs}.{linear}.bias"), shape[1]));
        }
    }
    let embedding = |name: &str| format!("embeddings.{name}");
    let segments = (embedding("token_type_embeddings.weight"), config.size("type_vocab_size", AXIS)?);
    let positions = Stored::matrix(embedding("position_embeddings.weight"), [n_ctx, d_model]);
    add("w_pos".to_owned(), Stored { plus_first_row: Some(segments), ..positions });
    add("w_e".to_owned(), Stored::matrix(embedding("word_embeddings.weight"), [d_vocab, d_model]));
    add("norm_e.gain".to_owned(), Stored::vector(embedding("LayerNorm.weight"), d_model));
    add("norm_e.bias".to_owned(), Stored::vector(embedding("LayerNorm.bias"), d_model));
    Ok(Layout {
        spec,
        d_vocab,
        architecture,
        has_head: false,
        parameters,
        prefix: "bert.",
        head: "",
        buffers: &[
            "embeddings.position_ids",
            "embeddings.token_type_ids",
            "pooler.dense.weight",
            "pooler.dense.bias",
            "cls.predictions.bias",
            "cls.predictions.decoder.bias",
            "cls.predictions.decoder.weight",
            "cls.predictions.transform.dense.bias",
            "cls.predictions.transform.dense.weight",
            "cls.predictions.transform.LayerNorm.bias",
            "cls.predictions.transform.LayerNorm.weight",
            "cls.seq_relationship.bias",
            "cls.seq_relationship.weight",
        ],
        ignored_keys: &[
            "attention_probs_dropout_prob",
            "classifier_dropout",
            "hidden_dropout_prob",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
            "pooler_type",
        ],
    })
}
