//! Mutations of good inputs through every fuzz target: no panic, no hang. `BASISLAB_FUZZ` sets the count per target.

#[path = "fuzz/targets.rs"]
mod targets;

use crate::support::small;
use basislab_stats::{Purpose, below, stream, uniform};
use basislab_store::{Checkpoint, Dtype, Extent, NamedTensor, encode, save, sha256};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

fn count() -> usize {
    std::env::var("BASISLAB_FUZZ").map_or(10_000, |text| text.parse().unwrap())
}

/// What hostile input tends to hold.
const WORDS: [&[u8]; 16] = [
    b"\0",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\n",
    b"\"",
    b",",
    b"[",
    b"{",
    b"nan",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"../../x",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"'''",
    b"=cmd",
];

/// Feeds `target` with the inputs and mutations of them.
fn replay(target: fn(&[u8]), inputs: &[Vec<u8>]) {
    replay_times(count(), target, inputs);
}

fn replay_times<T>(count: usize, target: fn(&[u8]) -> T, inputs: &[Vec<u8>]) {
    let mut rng = stream(1, Purpose::Simulation, 7);
    for round in 0..count + inputs.len() {
        let mut data = inputs[round % inputs.len()].clone();
        let edits = if round < inputs.len() { 0 } else { 1 + below(&mut rng, 4) };
        for _ in 0..edits {
            let at = below(&mut rng, data.len() as u64 + 1) as usize;
            let to = at + below(&mut rng, (data.len() - at).min(64) as u64 + 1) as usize;
            match below(&mut rng, 6) {
                0 if at < data.len() => data[at] ^= 1 << below(&mut rng, 8),
                1 => data.truncate(at),
                2 => drop(data.drain(at..to)),
                3 => {
                    let again = data[at..to].to_vec();
                    data.splice(at..at, again);
                }
                4 if at < data.len() => data[at] = below(&mut rng, 256) as u8,
                _ => {
                    let word = WORDS[below(&mut rng, WORDS.len() as u64) as usize];
                    data.splice(at..at, word.iter().copied());
                }
            }
        }
        if uniform(&mut rng) < 0.001 {
            // Deep nesting.
            data = [b"[".repeat(5000), data].concat();
        }
        let begun = Instant::now();
        let fine = catch_unwind(|| target(&data)).is_ok();
        assert!(fine, "panicked on {:?}", String::from_utf8_lossy(&data));
        assert!(begun.elapsed() < Duration::from_secs(5), "hangs on {:?}", String::from_utf8_lossy(&data));
    }
}

#[test]
fn configs() {
    let built_in = std::fs::read(crate::support::EXPERIMENT).unwrap();
    replay(targets::config, &[built_in, small(&[]).to_toml().into_bytes()]);
}

#[test]
fn ends_of_runs() {
    let good =
        br#"{"state":"diverged","step":7,"tensor":"weight w_e","tables":{"steps.csv":{"bytes":9,"sha256":"ab"}}}"#;
    replay(targets::done, &[good.to_vec()]);
}

#[test]
fn tables() {
    let golden = crate::support::root().join("tests/golden");
    let head = |name: &str| {
        let bytes = std::fs::read(golden.join(name)).unwrap();
        bytes.split_inclusive(|byte| *byte == b'\n').take(6).flatten().copied().collect::<Vec<u8>>()
    };
    let files = [
        "steps.csv",
        "evals.csv",
        "residual.csv",
        "dimensions.csv",
        "dimension_steps.csv",
        "summary.csv",
        "verdicts.csv",
    ];
    replay(targets::csv, &files.map(head));
}

#[test]
fn checkpoints() {
    let root = tempfile::tempdir().unwrap();
    let owner = serde_json::json!({ "run": "e", "seed": 3 });
    let tables = BTreeMap::from([("steps.csv".to_owned(), Extent { bytes: 4, sha256: sha256(b"rows") })]);
    let files = BTreeMap::from([("weights.safetensors".to_owned(), b"weights".to_vec())]);
    save(root.path(), &owner, &Checkpoint { step: 3, files, tables }).unwrap();
    let manifest = std::fs::read(root.path().join("0000000003/manifest.json")).unwrap();
    assert_eq!(targets::resealed(&manifest), manifest, "a good manifest keeps its seal");
    replay(targets::checkpoint_dir, &[manifest]);
}

#[test]
fn corpora() {
    let text = "the cat sat on a mat; d\u{e9}j\u{e0} vu \u{1f600}\u{2028} ".repeat(20);
    // A tokenizer is trained each time.
    replay_times(
        count() / 20,
        targets::corpus,
        &[[b"\x01".to_vec(), text.clone().into_bytes()].concat(), [b"\x10".to_vec(), text.into_bytes()].concat()],
    );
}

#[test]
fn matrices() {
    let mut header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }".to_owned();
    header += &" ".repeat(117 - header.len());
    header.push('\n');
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend([0u8; 32]);
    replay(targets::npy, &[npy]);
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 4], &[0; 32]).unwrap();
    let file = safetensors::serialize([("x", view)], None).unwrap();
    replay(targets::safetensors, &[file]);
}

// Models are opened from files, which takes longer. The crate that reads them mutates headers without files, 100,000 of each.

/// As [`replay`], of inputs that open as models.
fn replay_models(target: fn(&[u8]) -> bool, inputs: &[Vec<u8>]) {
    assert!(inputs.iter().all(|input| target(input)), "an input that does not open tests little");
    replay_times(count() / 4, target, inputs);
}

#[test]
fn models_of_llama2c() {
    replay_models(targets::llama2c, &[crate::measure::llama2c(5)]);
}

/// A Llama of one block, of width 4, that is mostly header.
fn small_llama() -> Vec<u8> {
    let config = serde_json::json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4, "intermediate_size": 6,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5,
        "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "hidden_act": "silu", "tie_word_embeddings": true,
    });
    let block = "model.layers.0.";
    let shapes = [
        ("model.embed_tokens.weight".to_owned(), vec![5, 4]),
        ("model.norm.weight".to_owned(), vec![4]),
        (format!("{block}input_layernorm.weight"), vec![4]),
        (format!("{block}post_attention_layernorm.weight"), vec![4]),
        (format!("{block}self_attn.q_proj.weight"), vec![4, 4]),
        (format!("{block}self_attn.k_proj.weight"), vec![2, 4]),
        (format!("{block}self_attn.v_proj.weight"), vec![2, 4]),
        (format!("{block}self_attn.o_proj.weight"), vec![4, 4]),
        (format!("{block}mlp.gate_proj.weight"), vec![6, 4]),
        (format!("{block}mlp.up_proj.weight"), vec![6, 4]),
        (format!("{block}mlp.down_proj.weight"), vec![4, 6]),
    ];
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        NamedTensor { name, dtype: Dtype::F32, shape, bytes }
    };
    in_one(config.to_string().as_bytes(), &encode(&shapes.map(tensor)))
}

/// As the target takes a directory.
fn in_one(config: &[u8], weights: &[u8]) -> Vec<u8> {
    [&(config.len() as u16).to_le_bytes(), config, weights].concat()
}

#[test]
fn models_of_hugging_face() {
    let model = |family: &str| {
        let folder = crate::support::root().join("tests/import").join(family);
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
        in_one(&read("config.json"), &read("model.safetensors"))
    };
    let small = small_llama();
    let [gpt2, neox, bert] = ["gpt2", "gpt_neox", "bert"].map(model);
    replay_models(targets::hugging_face, &[small.clone(), gpt2, small.clone(), neox, small, bert]);
}

#[test]
fn models_of_gguf() {
    replay_models(targets::gguf, &[crate::measure::gguf::small()]);
}

#[test]
fn tokenizers_of_models() {
    let spellings =
        ["<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "a", "b", " ", "ab", "The", "c", "t", "s", "e", "h", "T"];
    let json = crate::measure::tokenizer(16).into_bytes();
    replay_models(targets::tokenizer, &[json, crate::measure::llama2c_tokenizer(&spellings)]);
}
