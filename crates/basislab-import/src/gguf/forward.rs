use crate::description::Description;
use crate::gguf::header::{Header, Value};
use basislab_config::{
    Activation, Attention, Branches, Dtype, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions, RopePairs,
};
use std::collections::BTreeMap;

/// Tensor of factors by which the wavelengths of RoPE are multiplied (Llama 3.1).
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Parameters outside of the blocks, with their tensors.
const OUTER: [(&str, &str); 3] =
    [("w_e", "token_embd.weight"), ("norm.gain", "output_norm.weight"), ("w_u", "output.weight")];

/// Parameters of a block, with their tensors.
const BLOCK: [(&str, &str); 14] = [
    ("norm_1.gain", "attn_norm.weight"),
    ("w_q", "attn_q.weight"),
    ("w_k", "attn_k.weight"),
    ("w_v", "attn_v.weight"),
    ("b_q", "attn_q.bias"),
    ("b_k", "attn_k.bias"),
    ("b_v", "attn_v.bias"),
    ("q_norm.gain", "attn_q_norm.weight"),
    ("k_norm.gain", "attn_k_norm.weight"),
    ("w_o", "attn_output.weight"),
    ("norm_2.gain", "ffn_norm.weight"),
    ("w_gate", "ffn_gate.weight"),
    ("w_in", "ffn_up.weight"),
    ("w_out", "ffn_down.weight"),
];

/// Keys, behind the architecture's name, that are read or leave the forward pass as it is.
const KEYS: [&str; 15] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "pooling_type",
    "rope.dimension_count",
    "rope.freq_base",
    "tensor_data_layout",
    "vocab_size",
];

/// The forward pass and the size of a file whose every tensor is there, and no other one.
pub(super) fn describe(header: &Header) -> Result<Description, String> {
    let architecture = header.required("general.architecture", Value::text)?;
    let (pairs, qkv_biases, qk_norm) = match architecture {
        "llama" => (RopePairs::Interleaved, false, false),
        "qwen2" => (RopePairs::Halves, true, false),
        "qwen3" => (RopePairs::Halves, false, true),
        _ => return Err(format!("has architecture {architecture:?}; expected llama, qwen2 or qwen3")),
    };
    check_keys(header, architecture)?;
    let size = |name: &str| match header.required(&format!("{architecture}.{name}"), Value::size)? {
        0 => Err(format!("\"{architecture}.{name}\" is 0; expected a size")),
        size => Ok(size),
    };
    let optional_size = |name: &str| header.optional(&format!("{architecture}.{name}"), Value::size);
    let (d_model, n_heads) = (size("embedding_length")?, size("attention.head_count")?);
    // Defaults where a key is absent are those of the format's specification.
    let n_kv_heads = optional_size("attention.head_count_kv")?.unwrap_or(n_heads);
    let d_head = optional_size("attention.key_length")?.unwrap_or(d_model / n_heads);
    for (name, expected) in [("attention.value_length", d_head), ("rope.dimension_count", d_head)] {
        let found = optional_size(name)?.unwrap_or(expected);
        if found != expected {
            return Err(format!("\"{architecture}.{name}\" is {found}; expected the width of a head, {expected}"));
        }
    }
    if n_kv_heads == 0 || !n_heads.is_multiple_of(n_kv_heads) {
        return Err(format!("has {n_heads} heads and {n_kv_heads} of keys and values; expected a divisor"));
    }
    let is_derived = !header.metadata.contains_key(&format!("{architecture}.attention.key_length"));
    if d_head == 0 || !d_head.is_multiple_of(2) || (is_derived && !d_model.is_multiple_of(n_heads)) {
        return Err(format!("has width {d_model} and {n_heads} heads of {d_head}; expected an even width of heads"));
    }
    let epsilon = format!("{architecture}.attention.layer_norm_rms_epsilon");
    let norm_epsilon = header.required(&epsilon, Value::float)?;
    if !(norm_epsilon > 0.0 && norm_epsilon <= 1.0) {
        return Err(format!("{epsilon:?} is {norm_epsilon}; expected a number above 0, up to 1"));
    }
    let base = header.optional(&format!("{architecture}.rope.freq_base"), Value::float)?.unwrap_or(10_000.0);
    if !(1.0..=1e9).contains(&base) {
        return Err(format!("\"{architecture}.rope.freq_base\" is {base}; expected 1 to 1e9"));
    }
    let tied_head = !header.tensors.contains_key("output.weight");
    let spec = ModelSpec {
        n_ctx: size("context_length")?,
        n_layers: size("block_count")?,
        d_model,
        n_heads,
        n_kv_heads: (n_kv_heads != n_heads).then_some(n_kv_heads),
        d_head: (d_head * n_heads != d_model).then_some(d_head),
        d_mlp: size("feed_forward_length")?,
        mlp: Mlp::Swiglu,
        activation: Activation::Gelu,
        branches: Branches::Sequential,
        norm: NormKind::RmsGain,
        norm_place: NormPlace::Pre,
        norm_epsilon,
        positions: Positions::Rope { base, pairs, dims: None },
        attention: Attention::Softmax,
        mask: Mask::Causal,
        qk_norm,
        tied_head,
        biases: false,
        qkv_biases,
        init_std: 0.02,
        param_dtype: Dtype::F32,
        compute_dtype: Dtype::F32,
    };
    let d_vocab = vocabulary(header, architecture, d_model)?;
    Ok(Description {
        d_vocab,
        architecture: architecture.to_owned(),
        has_head: true,
        parameters: check_tensors(header, &spec, d_vocab)?,
        types: types(header),
        licence: header.metadata.get("general.license").and_then(Value::text).map(str::to_owned),
        spec,
    })
}

/// Every key of the architecture is one that is understood.
fn check_keys(header: &Header, architecture: &str) -> Result<(), String> {
    for (key, value) in &header.metadata {
        let Some(name) = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let is_understood = match name {
            "attention.causal" => *value == Value::Bool(true),
            "expert_count" | "expert_used_count" => *value == Value::Integer(0),
            "rope.scaling.type" => *value == Value::Text("none".to_owned()),
            _ => KEYS.contains(&name),
        };
        if !is_understood {
            let value = match value {
                Value::Texts(_) | Value::Floats(_) | Value::Integers(_) | Value::Others => "an array".to_owned(),
                Value::Bool(value) => value.to_string(),
                Value::Integer(value) => value.to_string(),
                Value::Float(value) => value.to_string(),
                Value::Text(value) => format!("{value:?}"),
            };
            return Err(format!("{key:?} is {value}: such a forward pass is not computed here"));
        }
    }
    Ok(())
}

/// Rows of the embedding; what the metadata says of them must agree.
fn vocabulary(header: &Header, architecture: &str, d_model: usize) -> Result<usize, String> {
    let name = OUTER[0].1;
    let shape = &header.tensors.get(name).ok_or_else(|| format!("has no tensor {name:?}"))?.shape;
    let &[width, d_vocab] = &shape[..] else {
        return Err(format!("tensor {name:?} has shape {shape:?}; expected [{d_model}, vocabulary]"));
    };
    if width != d_model || d_vocab > 1 << 20 {
        return Err(format!("tensor {name:?} has shape {shape:?}; expected [{d_model}, up to 2^20]"));
    }
    let declared = header.optional(&format!("{architecture}.vocab_size"), Value::size)?.unwrap_or(d_vocab);
    if declared != d_vocab {
        return Err(format!("\"{architecture}.vocab_size\" is {declared}; {name:?} has {d_vocab} rows"));
    }
    Ok(d_vocab)
}

/// Every parameter's tensor is there with its shape, and there is no other one. Returns the numbers in all of them.
fn check_tensors(header: &Header, spec: &ModelSpec, d_vocab: usize) -> Result<u64, String> {
    let expected = std::iter::once((OUTER[0].1.to_owned(), vec![spec.d_model, d_vocab]))
        .chain([(OUTER[1].1.to_owned(), vec![spec.d_model])])
        .chain((!spec.tied_head).then(|| (OUTER[2].1.to_owned(), vec![spec.d_model, d_vocab])))
        .chain((0..spec.n_layers).flat_map(|layer| {
            BLOCK.iter().filter_map(move |(parameter, tensor)| {
                Some((format!("blk.{layer}.{tensor}"), block_shape(spec, parameter)?))
            })
        }));
    let (mut seen, mut parameters) = (0, 0);
    for (name, shape) in expected {
        let Some(tensor) = header.tensors.get(&name) else {
            return Err(format!("has no tensor {name:?}; expected one of shape {shape:?}"));
        };
        if tensor.shape != shape {
            return Err(format!("tensor {name:?} has shape {:?}; expected {shape:?}", tensor.shape));
        }
        seen += 1;
        parameters += tensor.numbers();
    }
    let others = header.tensors.len() - usize::from(header.tensors.contains_key(ROPE_FACTORS));
    if seen == others {
        return Ok(parameters);
    }
    let is_known = |name: &str| {
        let block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        name == ROPE_FACTORS
            || OUTER.iter().any(|(_, tensor)| *tensor == name)
            || block.is_some_and(|(layer, name)| {
                let parameter = BLOCK.iter().find(|(_, tensor)| *tensor == name);
                layer.parse::<usize>().is_ok_and(|layer| layer < spec.n_layers)
                    && parameter.is_some_and(|(parameter, _)| block_shape(spec, parameter).is_some())
            })
    };
    let name = header.tensors.keys().find(|name| !is_known(name)).map_or("", String::as_str);
    Err(format!("has tensor {name:?}, which this architecture has not; such a forward pass is not computed here"))
}

/// Sizes of a tensor of a block as GGUF gives them, the input's first; `None` where the model has it not.
fn block_shape(spec: &ModelSpec, parameter: &str) -> Option<Vec<usize>> {
    let (d, h, k, f) = (spec.d_model, spec.n_heads * spec.d_head(), spec.n_kv_heads() * spec.d_head(), spec.d_mlp);
    match parameter {
        "w_q" => Some(vec![d, h]),
        "w_k" | "w_v" => Some(vec![d, k]),
        "b_q" => spec.qkv_biases.then(|| vec![h]),
        "b_k" | "b_v" => spec.qkv_biases.then(|| vec![k]),
        "q_norm.gain" | "k_norm.gain" => spec.qk_norm.then(|| vec![spec.d_head()]),
        "w_o" => Some(vec![h, d]),
        "w_gate" | "w_in" => Some(vec![d, f]),
        "w_out" => Some(vec![f, d]),
        _ => Some(vec![d]),
    }
}

/// The tensor that holds a parameter of the model.
pub(super) fn tensor_name(parameter: &str) -> Option<String> {
    let find =
        |names: &[(&str, &'static str)], name: &str| names.iter().find(|entry| entry.0 == name).map(|entry| entry.1);
    match parameter.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        Some((layer, name)) => Some(format!("blk.{layer}.{}", find(&BLOCK, name)?)),
        None => find(&OUTER, parameter).map(str::to_owned),
    }
}

/// Types of the tensors with their number, the most frequent one first.
fn types(header: &Header) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for tensor in header.tensors.values() {
        *counts.entry(tensor.kind.name()).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
