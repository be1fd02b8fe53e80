//! A model of ours in the form of Hugging Face: the architecture of `transformers` that computes the same function, and the
//! weights where the reader of that architecture looks for them.

use super::layout::{Layout, Stored};
use super::parse;
use basislab_config::{
    Activation, Attention, Branches, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions, RopePairs,
};
use basislab_store::{Dtype, NamedTensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The files of a model, apart from its card.
#[derive(Debug)]
pub struct HuggingFaceFiles {
    /// `config.json`.
    pub config: Value,
    /// The tensors of `model.safetensors`, in f32.
    pub tensors: Vec<NamedTensor>,
    /// The class of `transformers` that loads them.
    pub architecture: &'static str,
}

/// The model in the form of Hugging Face. `weight` gives the values of a parameter by its path, row-major `[in, out]`, in the
/// coordinates of the stream; `None` where the model has no such parameter.
///
/// # Errors
/// The keys of the configuration that no architecture of `transformers` has together, in words.
pub fn as_hugging_face(
    spec: &ModelSpec,
    d_vocab: usize,
    weight: &dyn Fn(&str) -> Option<Vec<f32>>,
) -> Result<HuggingFaceFiles, String> {
    let config = config(spec, d_vocab)?;
    let layout = parse(config.to_string().as_bytes())?;
    let mut tensors: BTreeMap<String, NamedTensor> = BTreeMap::new();
    for (path, stored) in &layout.parameters {
        let values = values(spec, path, stored, weight)?;
        put(&mut tensors, &layout, stored, &values);
    }
    let tensors = tensors.into_values().collect();
    Ok(HuggingFaceFiles { config, tensors, architecture: layout.architecture })
}

/// The values of a parameter of the architecture: ours, or what has the same effect where ours has none.
fn values(
    spec: &ModelSpec,
    path: &str,
    stored: &Stored,
    weight: &dyn Fn(&str) -> Option<Vec<f32>>,
) -> Result<Vec<f32>, String> {
    let [inputs, outputs] = stored.shape;
    let name = path.rsplit('.').next().unwrap_or(path);
    let values = match weight(path) {
        // A scalar gain is one gain for each dimension.
        Some(gain) if name == "gain" && gain.len() == 1 => vec![gain[0]; outputs],
        Some(values) => values,
        None if name == "gain" && spec.norm == NormKind::Rms => vec![1.0; outputs],
        None if name.starts_with("b_") || name == "bias" => vec![0.0; outputs],
        None if path == "w_u" && spec.tied_head => {
            let embedding = weight("w_e").unwrap_or_default();
            (0..inputs * outputs).map(|i| embedding[i % outputs * inputs + i / outputs]).collect()
        }
        None => return Err(format!("the model has no parameter {path}")),
    };
    match values.len() == inputs * outputs {
        true => Ok(values),
        false => Err(format!("{path}: found {} values, expected [{inputs}, {outputs}]", values.len())),
    }
}

/// Writes the values of a parameter where `HuggingFace::read` finds them.
fn put(tensors: &mut BTreeMap<String, NamedTensor>, layout: &Layout, stored: &Stored, values: &[f32]) {
    let [inputs, outputs] = stored.shape;
    let all = if stored.third.is_some() { 3 * outputs } else { outputs };
    let rows = inputs + stored.rows_after;
    let shape = match (stored.is_vector, stored.transposed) {
        (true, _) => vec![all],
        (false, true) => vec![all, inputs],
        (false, false) => vec![rows, all],
    };
    let prefix = if stored.tensor == layout.head { "" } else { layout.prefix };
    let name = format!("{prefix}{}", stored.tensor);
    let tensor = tensors.entry(name.clone()).or_insert_with(|| NamedTensor {
        name,
        dtype: Dtype::F32,
        bytes: vec![0; 4 * shape.iter().product::<usize>()],
        shape,
    });
    for (index, value) in values.iter().enumerate() {
        let (row, output) = (index / outputs, index % outputs);
        let column = stored.third.map_or(output, |third| third.output(output, outputs / third.heads));
        let at = if stored.transposed { column * inputs + row } else { row * all + column };
        tensor.bytes[4 * at..][..4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The `config.json` of the architecture that computes the same function.
fn config(spec: &ModelSpec, d_vocab: usize) -> Result<Value, String> {
    let is_rms = matches!(spec.norm, NormKind::Rms | NormKind::RmsScalar | NormKind::RmsGain);
    let (is_learned, is_gated) = (matches!(spec.positions, Positions::Learned {}), spec.mlp == Mlp::Swiglu);
    let mut config = match (is_rms, is_learned, is_gated) {
        (true, true, false) => imagegpt(spec, d_vocab),
        (true, false, true) => llama(spec, d_vocab),
        (false, true, false) => gpt2(spec, d_vocab),
        (false, false, false) => gpt_neox(spec, d_vocab),
        _ => {
            let (norm, positions) = (spec.norm, if is_learned { "learned" } else { "rope" });
            let (mlp, forms) = (
                spec.mlp,
                "rms norms with rope and swiglu (Llama), rms norms with learned positions and a plain \
                MLP (ImageGPT), or layernorm and a plain MLP with learned positions (GPT-2) or rope (GPT-NeoX)",
            );
            return Err(format!(
                "found model.norm = \"{norm}\" with positions.kind = \"{positions}\" and mlp = \"{mlp}\", which no architecture of \
                 transformers has together; expected {forms}"
            ));
        }
    }?;
    let common = [
        (spec.norm == NormKind::None, "norm = \"none\""),
        (spec.attention != Attention::Softmax, "attention = \"softmax-1\""),
        (spec.mask != Mask::Causal, "mask = \"bidirectional\""),
        (spec.norm_place != NormPlace::Pre, "norm_place = \"post\""),
        (!is_gated && spec.activation == Activation::Solu, "activation = \"solu\""),
    ];
    refuse(&config, &common)?;
    config["dtype"] = "float32".into();
    Ok(config)
}

/// Says which keys an architecture does not have.
fn refuse(config: &Value, against: &[(bool, &str)]) -> Result<(), String> {
    let found: Vec<&str> = against.iter().filter(|(is_against, _)| *is_against).map(|(_, key)| *key).collect();
    match found.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "found model.{}, which {} of transformers, the closest architecture, does not have; expected other values",
            found.join(" and model."),
            config["architectures"][0].as_str().unwrap_or_default()
        )),
    }
}

/// Whether heads are not those that share the width of the stream among them.
fn plain_heads(spec: &ModelSpec) -> [(bool, &'static str); 4] {
    [
        (spec.n_kv_heads() != spec.n_heads, "n_kv_heads"),
        (spec.d_head() * spec.n_heads != spec.d_model, "d_head"),
        (spec.qk_norm, "qk_norm = true"),
        (spec.qkv_biases && spec.norm == NormKind::None, "qkv_biases"),
    ]
}

/// The name of the non-linearity of a plain MLP.
fn activation(spec: &ModelSpec) -> &'static str {
    match spec.activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::Relu | Activation::Solu => "relu",
    }
}

/// RMS norms, learned positions, a plain MLP. Biases that ours has not are 0.
fn imagegpt(spec: &ModelSpec, d_vocab: usize) -> Result<Value, String> {
    let config = json!({
        "architectures": ["ImageGPTForCausalImageModeling"],
        "model_type": "imagegpt",
        "vocab_size": d_vocab + 1,
        "tie_word_embeddings": false,
    });
    like_gpt2(spec, config)
}

/// LayerNorm, learned positions, a plain MLP.
fn gpt2(spec: &ModelSpec, d_vocab: usize) -> Result<Value, String> {
    let config = json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": d_vocab,
        "tie_word_embeddings": spec.tied_head,
    });
    like_gpt2(spec, config)
}

fn like_gpt2(spec: &ModelSpec, mut config: Value) -> Result<Value, String> {
    refuse(&config, &plain_heads(spec))?;
    refuse(&config, &[(spec.branches == Branches::Parallel, "branches = \"parallel\"")])?;
    let rest = json!({
        "n_positions": spec.n_ctx, "n_embd": spec.d_model, "n_layer": spec.n_layers, "n_head": spec.n_heads,
        "n_inner": spec.d_mlp, "activation_function": activation(spec), "layer_norm_epsilon": spec.norm_epsilon,
        "scale_attn_weights": true, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
        "bos_token_id": null, "eos_token_id": null,
    });
    extend(&mut config, rest);
    Ok(config)
}

/// LayerNorm, rope, a plain MLP.
fn gpt_neox(spec: &ModelSpec, d_vocab: usize) -> Result<Value, String> {
    let Positions::Rope { base, pairs, dims } = spec.positions else { return Err("found no rope".to_owned()) };
    let mut config = json!({ "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox" });
    refuse(&config, &plain_heads(spec))?;
    refuse(&config, &[(pairs != RopePairs::Halves, "positions.pairs = \"interleaved\"")])?;
    let part = dims.unwrap_or(spec.d_head()) as f64 / spec.d_head() as f64;
    let rest = json!({
        "vocab_size": d_vocab, "tie_word_embeddings": spec.tied_head, "max_position_embeddings": spec.n_ctx,
        "hidden_size": spec.d_model, "intermediate_size": spec.d_mlp, "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads, "hidden_act": activation(spec), "layer_norm_eps": spec.norm_epsilon,
        "use_parallel_residual": spec.branches == Branches::Parallel, "attention_bias": true,
        "rope_parameters": { "rope_type": "default", "rope_theta": base, "partial_rotary_factor": part },
        "attention_dropout": 0.0, "hidden_dropout": 0.0, "bos_token_id": null, "eos_token_id": null,
    });
    extend(&mut config, rest);
    Ok(config)
}

/// RMS norms, rope, a gated MLP: Llama, with biases of queries, keys and values Qwen2, with their norms Qwen3.
fn llama(spec: &ModelSpec, d_vocab: usize) -> Result<Value, String> {
    let Positions::Rope { base, pairs, dims } = spec.positions else { return Err("found no rope".to_owned()) };
    let (architecture, family) = match (spec.qk_norm, spec.qkv_biases) {
        (true, _) => ("Qwen3ForCausalLM", "qwen3"),
        (false, true) => ("Qwen2ForCausalLM", "qwen2"),
        (false, false) => ("LlamaForCausalLM", "llama"),
    };
    let mut config = json!({ "architectures": [architecture], "model_type": family });
    let against = [
        (pairs != RopePairs::Halves, "positions.pairs = \"interleaved\""),
        (dims.is_some_and(|dims| dims != spec.d_head()), "positions.dims"),
        (spec.biases, "biases = true"),
        (spec.qk_norm && spec.qkv_biases, "qkv_biases = true"),
        (spec.branches == Branches::Parallel, "branches = \"parallel\""),
        (family == "qwen2" && spec.d_head() * spec.n_heads != spec.d_model, "d_head"),
    ];
    refuse(&config, &against)?;
    let rest = json!({
        "vocab_size": d_vocab, "tie_word_embeddings": spec.tied_head, "max_position_embeddings": spec.n_ctx,
        "hidden_size": spec.d_model, "intermediate_size": spec.d_mlp, "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads, "num_key_value_heads": spec.n_kv_heads(), "head_dim": spec.d_head(),
        "hidden_act": "silu", "rms_norm_eps": spec.norm_epsilon,
        "rope_parameters": { "rope_type": "default", "rope_theta": base },
        "attention_dropout": 0.0, "bos_token_id": null, "eos_token_id": null,
    });
    extend(&mut config, rest);
    Ok(config)
}

fn extend(config: &mut Value, rest: Value) {
    if let (Value::Object(config), Value::Object(rest)) = (config, rest) {
        config.extend(rest);
    }
}
