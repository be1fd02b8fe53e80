//! What is no model, or one whose forward pass is another, is refused in one line that says what to do.

use super::fixture;
use crate::{ImportError, Source, open};
use basislab_store::{Dtype, NamedTensor, decode_any, encode};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A copy of a fixture.
pub(crate) fn copy(family: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fixture(family).read_dir().unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "expected.safetensors" {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

/// Sets keys of `config.json`; `null` removes one.
fn configure(folder: &Path, keys: &Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in keys.as_object().unwrap() {
        match value {
            Value::Null => drop(config.as_object_mut().unwrap().remove(key)),
            value => config[key] = value.clone(),
        }
    }
    fs::write(path, config.to_string()).unwrap();
}

fn change_tensors(folder: &Path, change: impl FnOnce(&mut Vec<NamedTensor>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = decode_any(&fs::read(&path).unwrap()).unwrap();
    change(&mut tensors);
    fs::write(path, encode(&tensors)).unwrap();
}

fn tensor<'a>(tensors: &'a mut [NamedTensor], name: &str) -> &'a mut NamedTensor {
    tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

fn configured(family: &str, keys: &Value) -> Result<Source, ImportError> {
    let folder = copy(family);
    configure(folder.path(), keys);
    open(folder.path(), None)
}

#[track_caller]
pub(crate) fn refused(result: Result<Source, ImportError>, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    for part in parts {
        assert!(message.contains(part), "{message}\ndoes not contain {part}");
    }
}

#[test]
fn a_key_that_changes_the_forward_pass_is_named() {
    let cases = [
        ("llama", json!({"hidden_act": "gelu"}), r#"found hidden_act = "gelu", expected "silu""#),
        ("llama", json!({"attention_bias": true}), "found attention_bias = true, a key that is not supported"),
        ("llama", json!({"mlp_bias": true}), "mlp_bias = true"),
        ("llama", json!({"new\nkey\u{9b}": 2}), "found new key  = 2"),
        ("llama", json!({"new_key": 2}), "found new_key = 2, a key that is not supported"),
        ("llama", json!({"quantization_config": {"bits": 4}}), "quantization_config"),
        (
            "llama",
            json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
            r#"rope_scaling.type = "linear", expected "default""#,
        ),
        (
            "llama",
            json!({"rope_parameters": {"rope_type": "llama3"}}),
            r#"rope_parameters.rope_type = "llama3", expected "default""#,
        ),
        ("llama", json!({"rope_parameters": {"factor": 2.0}}), "rope_parameters.factor = 2.0"),
        ("llama", json!({"rope_theta": 600.0}), "as another key says"),
        ("llama", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor = 0.5, expected 1"),
        ("llama", json!({"head_dim": 5}), "heads of width 5, expected an even width"),
        ("llama", json!({"num_key_value_heads": 3}), "num_key_value_heads = 3, expected a divisor"),
        ("llama", json!({"hidden_size": null}), "found no hidden_size"),
        ("llama", json!({"hidden_size": 0}), "hidden_size = 0, expected an integer from 4 to 65536"),
        ("llama", json!({"hidden_size": 1e300}), "hidden_size = 1e+300, expected an integer"),
        ("llama", json!({"num_hidden_layers": 1025}), "num_hidden_layers = 1025, expected an integer from 1 to 1024"),
        ("llama", json!({"rms_norm_eps": 0}), "rms_norm_eps = 0, expected a number above 0"),
        ("llama", json!({"vocab_size": 62}), r#"has shape [61, 24], expected [62, 24]"#),
        ("llama", json!({"num_hidden_layers": 3}), r#"found no tensor "layers.2."#),
        ("llama", json!({"num_hidden_layers": 1}), "layers.1.input_layernorm.weight"),
        ("llama", json!({"architectures": ["LlamaForSequenceClassification"]}), "expected one of LlamaForCausalLM"),
        ("llama", json!({"architectures": null}), "found no architectures"),
        ("llama", json!({"model_type": "mamba"}), r#"model_type = "mamba", expected llama, mistral"#),
        ("llama", json!({"tie_word_embeddings": false}), r#"found no tensor "lm_head.weight""#),
        ("mistral", json!({"num_key_value_heads": null}), "found no num_key_value_heads"),
        ("qwen2", json!({"layer_types": ["linear_attention"]}), "layer_types"),
        ("qwen3", json!({"attention_bias": true}), "attention_bias = true"),
        ("gpt2", json!({"scale_attn_by_inverse_layer_idx": true}), "scale_attn_by_inverse_layer_idx = true"),
        ("gpt2", json!({"scale_attn_weights": false}), "scale_attn_weights = false, expected true"),
        ("gpt2", json!({"add_cross_attention": true}), "add_cross_attention = true"),
        ("gpt2", json!({"activation_function": "quick_gelu"}), r#"activation_function = "quick_gelu""#),
        ("gpt2", json!({"n_head": 5}), "found 5 attention heads, expected a divisor of the width 24"),
        ("gpt_neox", json!({"attention_bias": false}), "attention_bias = false, expected true"),
        ("gpt_neox", json!({"rope_parameters": {"partial_rotary_factor": 0.2}}), "found 3 rotary coordinates"),
        ("bert", json!({"position_embedding_type": "relative_key"}), "position_embedding_type = \"relative_key\""),
        ("bert", json!({"is_decoder": true}), "is_decoder = true"),
    ];
    for (family, keys, part) in cases {
        refused(configured(family, &keys), &[part]);
    }
}

#[test]
fn old_and_new_spellings_of_one_model_are_one() {
    let old_neox = json!({
        "rope_parameters": null, "dtype": null, "torch_dtype": "float16", "rotary_pct": 0.25, "rotary_emb_base": 500,
    });
    let same = [
        ("gpt_neox", old_neox),
        ("gpt_neox", json!({"tie_word_embeddings": null, "attention_bias": null, "use_parallel_residual": null})),
        ("llama", json!({"rope_parameters": null, "rope_theta": 500.0, "rope_scaling": null, "head_dim": null})),
        ("llama", json!({"rope_interleaved": false, "is_llama_config": true, "pruned_heads": {}, "_num_labels": 1})),
        ("gpt2", json!({"tie_word_embeddings": null, "n_inner": 96, "n_ctx": 16})),
        ("mistral", json!({"max_position_embeddings": 12, "sliding_window": 4096})),
        ("qwen2", json!({"sliding_window": 8, "use_sliding_window": false})),
    ];
    for (family, keys) in same {
        let expected = open(&fixture(family), None).unwrap().spec;
        assert_eq!(configured(family, &keys).unwrap().spec, expected, "{family} {keys}");
    }
    let n_ctx = |family, keys| configured(family, &keys).unwrap().spec.n_ctx;
    assert_eq!(n_ctx("qwen2", json!({"sliding_window": 8, "use_sliding_window": true})), 8);
    assert_eq!(n_ctx("qwen2", json!({"sliding_window": 8, "layer_types": ["sliding_attention"]})), 8);
    assert_eq!(n_ctx("mistral", json!({"sliding_window": null, "max_position_embeddings": 8192})), 4096);
    let base = |keys| configured("llama", &keys).unwrap().spec.positions;
    assert_eq!(base(json!({"rope_parameters": null})), super::rope(10_000.0, None));
}

#[test]
fn prefixes_and_buffers_do_not_matter() {
    for (family, prefix) in
        [("llama", "model."), ("gpt2", "transformer."), ("gpt_neox", "gpt_neox."), ("bert", "bert.")]
    {
        let folder = copy(family);
        change_tensors(folder.path(), |tensors| {
            for tensor in &mut *tensors {
                let name = tensor.name.strip_prefix(prefix).unwrap_or(&tensor.name);
                tensor.name =
                    name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            }
            let buffers = match family {
                "llama" => vec!["layers.0.self_attn.rotary_emb.inv_freq"],
                "gpt2" => vec!["h.1.attn.bias", "h.1.attn.masked_bias"],
                "gpt_neox" => vec!["layers.1.attention.bias", "layers.1.attention.rotary_emb.inv_freq"],
                _ => vec!["embeddings.position_ids"],
            };
            for name in buffers {
                tensors.push(NamedTensor { name: name.into(), dtype: Dtype::I64, shape: vec![1], bytes: vec![0; 8] });
            }
        });
        let (bare, whole) = (open(folder.path(), None).unwrap(), open(&fixture(family), None).unwrap());
        assert_eq!((bare.parameters, &bare.types), (whole.parameters, &whole.types));
        let d = bare.spec.d_model;
        let read = |parameter| open(folder.path(), None).unwrap().read(parameter, [1, d]).unwrap();
        assert_eq!(read("blocks.1.norm_2.gain"), whole.read("blocks.1.norm_2.gain", [1, d]).unwrap());
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let changed = |change: &dyn Fn(&mut Vec<NamedTensor>)| {
        let folder = copy("llama");
        change_tensors(folder.path(), |tensors| change(tensors));
        open(folder.path(), None)
    };
    let name = "model.layers.1.mlp.up_proj.weight";
    let more = |name: &str, dtype| NamedTensor { name: name.into(), dtype, shape: vec![1], bytes: vec![0; 8] };
    refused(
        changed(&|tensors| tensors.retain(|tensor| tensor.name != name)),
        &["\"layers.1.mlp.up_proj.weight\", expected one of shape [40, 24]"],
    );
    refused(changed(&|tensors| tensor(tensors, name).shape = vec![24, 40]), &[name, "[24, 40], expected [40, 24]"]);
    refused(
        changed(&|tensors| tensor(tensors, name).dtype = Dtype::I32),
        &[name, "type I32, expected F16, BF16, F32 or F64"],
    );
    refused(changed(&|tensors| tensors.push(more("model.extra", Dtype::I64))), &["\"model.extra\" is none of this"]);
    refused(changed(&|tensors| tensors.push(more("layers.0.input_layernorm.weight", Dtype::I64))), &["expected one"]);
    refused(
        changed(&|tensors| tensors.push(more("lm_head.weight", Dtype::F64))),
        &["lm_head.weight", "set tie_word_embeddings to false"],
    );
    let same = changed(&|tensors| {
        let embedding = tensor(tensors, "model.embed_tokens.weight").clone();
        tensors.push(NamedTensor { name: "lm_head.weight".into(), ..embedding });
    });
    assert!(same.unwrap().spec.tied_head);
}

#[test]
fn a_model_without_its_head_has_none() {
    let source = configured("llama", &json!({"architectures": ["LlamaModel"]})).unwrap();
    assert!(!source.has_head && source.spec.tied_head);
    refused(configured("mistral", &json!({"architectures": ["MistralModel"]})), &["lm_head.weight"]);
}

#[test]
fn the_licence_is_that_of_the_model_card() {
    let folder = copy("llama");
    let licence = |card: &str| {
        fs::write(folder.path().join("README.md"), card).unwrap();
        open(folder.path(), None).unwrap().licence
    };
    assert_eq!(licence("---\nlanguage: en\nlicense: \"mit\"\n---\n# A model\n").as_deref(), Some("mit"));
    assert_eq!(licence("---\nlanguage: en\n---\nlicense: mit\n"), None);
    assert_eq!(licence("license: mit\n"), None);
}

#[test]
fn types_are_not_mixed() {
    let folder = copy("llama");
    change_tensors(folder.path(), |tensors| to_f64(tensor(tensors, "model.layers.1.mlp.up_proj.weight")));
    let error = open(folder.path(), None).unwrap_err().to_string();
    let what = "tensor \"model.layers.1.mlp.up_proj.weight\" is F64 where most are F32, expected one type";
    assert!(error.contains(what) && error.contains("model.safetensors"), "{error}");
}

fn to_f64(tensor: &mut NamedTensor) {
    let values = tensor.bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
    tensor.bytes = values.flat_map(f64::to_le_bytes).collect();
    tensor.dtype = Dtype::F64;
}

#[test]
fn values_are_converted_and_must_be_finite() {
    let folder = copy("llama");
    let name = "model.layers.0.self_attn.k_proj.weight";
    let set = |value: f64| {
        change_tensors(folder.path(), |tensors| {
            tensors.iter_mut().filter(|tensor| tensor.dtype == Dtype::F32).for_each(to_f64);
            let tensor = tensor(tensors, name);
            tensor.bytes =
                (0..12 * 24).flat_map(|i| (if i == 5 * 24 + 7 { value } else { 0.25 }).to_le_bytes()).collect();
        });
        open(folder.path(), None).unwrap()
    };
    let source = set(-1.5);
    assert_eq!(source.types, [("F64".to_owned(), 20)]);
    let values = source.read("blocks.0.w_k", [24, 12]).unwrap();
    assert_eq!((values[7 * 12 + 5], values[0]), (-1.5, 0.25));
    for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (1e39, "inf")] {
        let error = set(value).read("blocks.0.w_k", [24, 12]).unwrap_err().to_string();
        assert!(error.contains(&format!("tensor {name:?} holds {text} at [5, 7]")), "{error}");
    }
}

#[test]
fn a_directory_that_is_no_whole_model_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let put = |name: &str, bytes: &[u8]| fs::write(at.join(name), bytes).unwrap();
    refused(open(&at.join("absent"), None), &["cannot be read"]);
    refused(open(at, None), &["has no config.json"]);
    put("a.gguf", b"GGUF");
    put("b.gguf", b"GGUF");
    refused(open(at, None), &["one of its files: \"a.gguf\", \"b.gguf\""]);
    put("config.json", &fs::read(fixture("llama").join("config.json")).unwrap());
    put("other.safetensors", b"");
    refused(open(at, None), &["has no model.safetensors or model.safetensors.index.json", "other.safetensors"]);
    put("pytorch_model.bin", b"PK");
    refused(open(at, None), &["\"pytorch_model.bin\" is a pickle", "save_pretrained(NEW, safe_serialization=True)"]);
    put("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    refused(open(at, None), &["model.safetensors\": is a Git LFS pointer", "git lfs pull"]);
    put("model.safetensors.index.json", b"{}");
    refused(open(at, None), &["expected one of both"]);
    put("adapter_config.json", b"{}");
    refused(open(at, None), &["LoRA adapter", "merge_and_unload()"]);
}

#[test]
fn a_damaged_index_is_refused() {
    let folder = copy("llama_sharded");
    let index = folder.path().join("model.safetensors.index.json");
    let good: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let with = |tensor: &str, file: Value| {
        let mut changed = good.clone();
        changed["weight_map"][tensor] = file;
        fs::write(&index, changed.to_string()).unwrap();
        open(folder.path(), None)
    };
    refused(with("lm_head.weight", json!("../x.safetensors")), &["found file \"../x.safetensors\"", "expected a name"]);
    refused(with("lm_head.weight", json!(["x"])), &["expected a name"]);
    refused(with("lm_head.weight", json!("x.safetensors")), &["the shard \"x.safetensors\", which is missing"]);
    refused(with("more", json!("model-00001-of-00004.safetensors")), &["tensor \"more\", which no shard holds"]);
    fs::write(&index, "{").unwrap();
    refused(open(folder.path(), None), &["found no JSON"]);
    fs::write(&index, "[]").unwrap();
    refused(open(folder.path(), None), &["found no weight_map"]);
    fs::write(&index, good.to_string()).unwrap();
    let (third, fourth) = ["3", "4"].map(|n| folder.path().join(format!("model-0000{n}-of-00004.safetensors"))).into();
    let kept = fs::read(&fourth).unwrap();
    fs::copy(&third, &fourth).unwrap();
    refused(open(folder.path(), None), &["is in", "as well; expected it once"]);
    fs::write(&fourth, &kept[..kept.len() - 1]).unwrap();
    refused(open(folder.path(), None), &["model-00004-of-00004.safetensors", "as its header says"]);
    fs::remove_file(&fourth).unwrap();
    refused(
        open(folder.path(), None),
        &["the shard \"model-00004-of-00004.safetensors\", which is missing: download it"],
    );
}

#[test]
fn a_file_that_is_no_model_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let with = |bytes: &[u8]| {
        let path = folder.path().join("x.bin");
        fs::write(&path, bytes).unwrap();
        open(&path, None)
    };
    refused(with(b"PK\x03\x04..........archive/data.pkl"), &["is a pickle", "AutoModelForCausalLM"]);
    refused(with(b"PK\x03\x04..........archive/readme"), &["is a zip file"]);
    refused(with(b"\x80\x02\x8a\x0al\xfc\x9cF"), &["is a pickle"]);
    refused(with(b"version https://git-lfs.github.com/spec/v1\n"), &["git lfs pull"]);
    refused(open(&fixture("llama").join("model.safetensors"), None), &["expected its directory"]);
    refused(
        open(&fixture("llama").join("config.json"), None),
        &["is no model", "a directory of Hugging Face with config.json"],
    );
    refused(with(b""), &["is no model"]);
}
