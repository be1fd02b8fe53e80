//! GGUF files made by hand: a Llama of `tests/import`, as llama.cpp converts it, and one to be mutated.

use super::{fixture, floats, folder, saved, text};
use crate::cli::{basislab, stderr};
use crate::import::expected;
use crate::support::relative;
use basislab_store::decode_any;
use std::collections::BTreeMap;
use std::fs;

/// Key, type of the value, its bytes.
type Entry = (String, u32, Vec<u8>);
/// Name, sizes with the innermost first, numbers.
type TensorEntry = (String, Vec<usize>, Vec<f32>);

fn bytes_of(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn number(key: &str, value: u32) -> Entry {
    (key.to_owned(), 4, value.to_le_bytes().to_vec())
}

fn list(key: &str, kind: u32, elements: &[Vec<u8>]) -> Entry {
    let head = [kind.to_le_bytes().to_vec(), (elements.len() as u64).to_le_bytes().to_vec()].concat();
    (key.to_owned(), 9, [head, elements.concat()].concat())
}

/// A file of version 3 whose tensors are all float32.
fn file(entries: &[Entry], tensors: &[TensorEntry]) -> Vec<u8> {
    let counts = [tensors.len() as u64, entries.len() as u64].map(u64::to_le_bytes).concat();
    let mut head = [b"GGUF\x03\0\0\0".to_vec(), counts].concat();
    for (key, kind, value) in entries {
        head.extend([bytes_of(key), kind.to_le_bytes().to_vec(), value.clone()].concat());
    }
    let mut data = Vec::new();
    for (name, sizes, values) in tensors {
        head.extend([bytes_of(name), (sizes.len() as u32).to_le_bytes().to_vec()].concat());
        sizes.iter().for_each(|size| head.extend((*size as u64).to_le_bytes()));
        head.extend([&[0; 4], &(data.len() as u64).to_le_bytes()[..]].concat());
        values.iter().for_each(|value| data.extend(value.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    head.resize(head.len().next_multiple_of(32), 0);
    [head, data].concat()
}

/// Sizes of a Llama.
struct Sizes {
    blocks: u32,
    context: u32,
    d: u32,
    mlp: u32,
    heads: u32,
    kv_heads: u32,
}

fn entries(of: &Sizes, rope_base: f32) -> Vec<Entry> {
    let mut all = vec![("general.architecture".to_owned(), 8, bytes_of("llama"))];
    all.extend([
        number("llama.block_count", of.blocks),
        number("llama.context_length", of.context),
        number("llama.embedding_length", of.d),
        number("llama.feed_forward_length", of.mlp),
        number("llama.attention.head_count", of.heads),
        number("llama.attention.head_count_kv", of.kv_heads),
    ]);
    all.push(("llama.attention.layer_norm_rms_epsilon".to_owned(), 6, 1e-5_f32.to_le_bytes().to_vec()));
    all.push(("llama.rope.freq_base".to_owned(), 6, rope_base.to_le_bytes().to_vec()));
    all
}

/// Names of Hugging Face and of GGUF, within a block.
const NAMES: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// A Llama of width 4 with one block and a tokenizer of pieces with scores.
pub(crate) fn small() -> Vec<u8> {
    let sizes = Sizes { blocks: 1, context: 8, d: 4, mlp: 6, heads: 2, kv_heads: 1 };
    let tokens = ["<unk>", "<s>", "</s>", "\u{2581}", "a", "b", "ab", "\u{2581}ab"];
    let mut all = entries(&sizes, 10_000.0);
    all.push(("tokenizer.ggml.model".to_owned(), 8, bytes_of("llama")));
    all.push(list("tokenizer.ggml.tokens", 8, &tokens.map(bytes_of)));
    all.push(list("tokenizer.ggml.scores", 6, &[0.0_f32; 8].map(|score| score.to_le_bytes().to_vec())));
    all.push(list(
        "tokenizer.ggml.token_type",
        5,
        &[2_i32, 3, 3, 1, 1, 1, 1, 1].map(|kind| kind.to_le_bytes().to_vec()),
    ));
    all.push(number("tokenizer.ggml.bos_token_id", 1));
    let tensor = |name: &str, shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        (name.to_owned(), shape.to_vec(), (0..count).map(|place| place as f32 / 8.0).collect())
    };
    let mut tensors = vec![tensor("token_embd.weight", &[4, 8]), tensor("output_norm.weight", &[4])];
    let shapes: [&[usize]; 9] = [&[4], &[4, 4], &[4, 2], &[4, 2], &[4, 4], &[4], &[4, 6], &[4, 6], &[6, 4]];
    let in_block = NAMES.iter().zip(shapes).map(|((_, name), shape)| tensor(&format!("blk.0.{name}.weight"), shape));
    tensors.extend(in_block);
    file(&all, &tensors)
}

/// The Llama of `tests/import`. llama.cpp rotates neighbours where Hugging Face rotates halves, and so the rows of each head of
/// queries and keys are stored as 0, n/2, 1, n/2 + 1, ...
fn converted() -> Vec<u8> {
    let weights = decode_any(&fs::read(fixture("llama").join("model.safetensors")).unwrap()).unwrap();
    let weights: BTreeMap<String, (Vec<usize>, Vec<f32>)> = weights
        .into_iter()
        .map(|one| (one.name, (one.shape, floats(&one.bytes).into_iter().map(|value| value as f32).collect())))
        .collect();
    let tensor = |from: &str, to: String| {
        let (shape, mut values) = weights[from].clone();
        if from.contains("q_proj") || from.contains("k_proj") {
            let (d, width) = (shape[1], 6);
            let stored = values.clone();
            for row in 0..shape[0] {
                let (head, place) = (row / width, row % width);
                let other = head * width + place / 2 + place % 2 * width / 2;
                values[row * d..(row + 1) * d].copy_from_slice(&stored[other * d..(other + 1) * d]);
            }
        }
        (to, shape.into_iter().rev().collect(), values)
    };
    let mut tensors = vec![
        tensor("model.embed_tokens.weight", "token_embd.weight".to_owned()),
        tensor("model.norm.weight", "output_norm.weight".to_owned()),
    ];
    for layer in 0..2 {
        for (from, to) in NAMES {
            tensors.push(tensor(&format!("model.layers.{layer}.{from}.weight"), format!("blk.{layer}.{to}.weight")));
        }
    }
    file(&entries(&Sizes { blocks: 2, context: 32, d: 24, mlp: 40, heads: 4, kv_heads: 2 }, 500.0), &tensors)
}

#[test]
fn a_llama_in_gguf_is_the_one_of_transformers() {
    let dir = folder();
    let at = dir.path();
    fs::write(at.join("tiny.gguf"), converted()).unwrap();
    let (expected, (tokens, _)) = expected("llama");
    fs::write(at.join("text.txt"), text(tokens.iter().map(|token| *token as u32))).unwrap();
    let sites: Vec<&String> = expected.keys().filter(|name| *name != "logits").collect();
    let saves: Vec<String> = sites.iter().map(|site| format!("{site}={site}.npy")).collect();
    let save: Vec<&str> = saves.iter().flat_map(|save| ["--save", save]).collect();
    let args = super::arguments(&["tiny.gguf"], &save);
    let output = basislab(at, &args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for site in sites {
        let error = relative(&saved(&at.join(format!("{site}.npy"))), &expected[site]);
        assert!(error < 1e-4, "{site}: off by {error:e}");
    }
}

#[test]
fn a_gguf_is_measured_by_the_tokenizer_inside() {
    let dir = folder();
    let at = dir.path();
    fs::write(at.join("small.gguf"), small()).unwrap();
    fs::write(at.join("a.txt"), "ab ab b a ab a b aa bb").unwrap();
    let all = [
        "measure",
        "small.gguf",
        "--text",
        "a.txt",
        "--save",
        "tokens=t.npy",
        "--null-tokens",
        "2",
        "--out",
        "o",
        "-q",
    ];
    let output = basislab(at, &all);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let tokens: Vec<i32> =
        super::npy(&at.join("t.npy")).1.as_chunks().0.iter().map(|id| i32::from_le_bytes(*id)).collect();
    // <s>, then " ab ab b a": sequences of 8, the length of its context.
    assert_eq!(tokens[..7], [1, 7, 7, 3, 5, 3, 4]);
    assert_eq!((tokens.len() % 8, tokens[8]), (0, 1));
    assert_eq!(super::only(&at.join("o/models.csv"))["format"], "gguf");
}
