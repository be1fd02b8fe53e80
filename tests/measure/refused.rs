//! What is no model, no tokenizer or no text ends in one line.

use super::{arguments, change, copy, fixture, folder, llama2c, text, tokenizer};
use crate::cli::refuses;
use std::fs;
use std::path::Path;

/// Measures a model on the folder's text and expects exit code 3 and one line that holds all of `parts`.
fn refused(at: &Path, model: &str, parts: &[&str]) {
    refuses(at, &arguments(&[model], &["--out", "o"]), 3, &[&[model], parts].concat());
}

#[test]
fn models_that_are_not_whole() {
    let dir = folder();
    let at = dir.path();
    copy("llama", &at.join("cut"));
    let weights = at.join("cut/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for length in [0, 7, 100, whole.len() - 1] {
        fs::write(&weights, &whole[..length]).unwrap();
        refused(at, "cut", &["model.safetensors"]);
    }
    fs::write(&weights, [&whole[..], b"x"].concat()).unwrap();
    refused(at, "cut", &["model.safetensors"]);
    copy("llama_sharded", &at.join("shards"));
    fs::remove_file(at.join("shards/model-00002-of-00004.safetensors")).unwrap();
    refused(at, "shards", &["model-00002-of-00004.safetensors"]);
    let bin = llama2c(61);
    fs::write(at.join("cut.bin"), &bin[..bin.len() - 4]).unwrap();
    refused(at, "cut.bin", &["it is cut off, or not llama2.c"]);
    fs::write(at.join("cut.gguf"), b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0").unwrap();
    refused(at, "cut.gguf", &[]);
    refused(at, "absent.gguf", &["cannot be read"]);
    assert!(!at.join("o").exists(), "nothing is written before all models are known to be whole");
}

#[test]
fn models_in_forms_that_are_not_read() {
    let dir = folder();
    let at = dir.path();
    let config = fs::read_to_string(fixture("llama").join("config.json")).unwrap();
    for (name, file) in
        [("pickle", "pytorch_model.bin"), ("adapter", "adapter_model.safetensors"), ("other", "notes.txt")]
    {
        fs::create_dir(at.join(name)).unwrap();
        fs::write(at.join(name).join(file), "data").unwrap();
    }
    fs::write(at.join("pickle/config.json"), &config).unwrap();
    refused(at, "pickle", &["pytorch_model.bin", "a pickle, which runs code", "safe_serialization=True"]);
    let zip = [b"PK\x03\x04".to_vec(), vec![0; 26], b"archive/data.pkl".to_vec(), vec![0; 64]].concat();
    fs::write(at.join("weights.bin"), zip).unwrap();
    refused(at, "weights.bin", &["a pickle, which runs code", "safe_serialization=True"]);
    fs::write(at.join("adapter/adapter_config.json"), "{}").unwrap();
    refused(at, "adapter", &["a LoRA adapter, whose base is elsewhere", "merge_and_unload()"]);
    refused(at, "other", &["has no config.json"]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n";
    fs::write(at.join("lfs.gguf"), pointer).unwrap();
    refused(at, "lfs.gguf", &["git lfs pull"]);
    copy("llama", &at.join("lfs"));
    fs::write(at.join("lfs/model.safetensors"), pointer).unwrap();
    refused(at, "lfs", &["git lfs pull"]);
    copy("llama", &at.join("key"));
    fs::write(at.join("key/config.json"), config.replacen('{', "{\"logit_softcap\": 30.0,", 1)).unwrap();
    refused(at, "key", &["config.json", "logit_softcap"]);
    let file = fixture("llama").join("model.safetensors");
    refused(at, file.to_str().unwrap(), &["expected its directory, with config.json in it"]);
    // A run's directory is no run, and its table no model.
    fs::create_dir_all(at.join("r/parts/adam/0")).unwrap();
    refuses(at, &["measure", "r/parts/adam/0"], 3, &["r/config.toml"]);
    assert!(!at.join("o").exists());
}

#[test]
fn weights_that_are_not_finite() {
    let dir = folder();
    let at = dir.path();
    copy("llama", &at.join("nan"));
    change(&at.join("nan"), "model.layers.1.mlp.up_proj.weight", |place, value| {
        if place == 30 {
            *value = f32::NAN;
        }
    });
    refused(at, "nan", &["model.layers.1.mlp.up_proj.weight", "NaN", "expected finite numbers"]);
    // Each weight is finite, what comes of them is not.
    copy("llama", &at.join("large"));
    change(&at.join("large"), "model.layers.1.mlp.down_proj.weight", |_, value| *value = 3e38 * value.signum());
    refuses(
        at,
        &arguments(&["large"], &["--out", "large-out"]),
        3,
        &["large: found an activation at blocks.1.resid_post that is not finite"],
    );
    for out in ["o", "large-out"] {
        assert!(!at.join(out).join("SHA256SUMS").exists(), "{out} counts as finished");
    }
}

#[test]
fn tokenizers_and_texts_that_do_not_fit() {
    let dir = folder();
    let at = dir.path();
    let model = fixture("llama");
    let model = model.to_str().unwrap();
    let on = |extra: &[&str], code: i32, parts: &[&str]| {
        refuses(at, &[&["measure", model, "--out", "o"], extra].concat(), code, parts);
    };
    on(&["--tokenizer", "tokenizer.json"], 2, &["needs a text to be measured on", "builtin:shakespeare-tragedies"]);
    on(&["--text", "text.txt"], 3, &["comes without a tokenizer", "--tokenizer"]);
    fs::write(at.join("large.json"), tokenizer(70)).unwrap();
    on(
        &["--text", "text.txt", "--tokenizer", "large.json"],
        3,
        &["large.json", "has 70 tokens, expected at most the model's 61"],
    );
    fs::write(at.join("no.json"), "{}").unwrap();
    on(&["--text", "text.txt", "--tokenizer", "no.json"], 3, &["no.json", "is no tokenizer.json of Hugging Face"]);
    on(&["--text", "text.txt", "--tokenizer", "absent.json"], 3, &["absent.json", "cannot be read"]);
    let with = |file: &str, extra: &[&str], code: i32, parts: &[&str]| {
        on(&[&["--tokenizer", "tokenizer.json", "--text", file], extra].concat(), code, parts);
    };
    fs::write(at.join("short.txt"), text(0..31)).unwrap();
    with("short.txt", &[], 3, &["short.txt", "found 31 tokens, expected at least one sequence of 32"]);
    with("short.txt", &["--window", "33"], 2, &["--window: found 33, expected at most 32"]);
    fs::write(at.join("empty.txt"), "").unwrap();
    with("empty.txt", &[], 3, &["empty.txt", "found 0 tokens"]);
    fs::write(at.join("latin.txt"), b"caf\xe9").unwrap();
    with("latin.txt", &[], 3, &["latin.txt", "not UTF-8 at offset 3"]);
    with("absent.txt", &[], 3, &["absent.txt", "cannot read"]);
    with("builtin:bible", &[], 3, &["no built-in text", "shakespeare-tragedies"]);
    fs::write(at.join("lfs.txt"), "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n").unwrap();
    with("lfs.txt", &[], 3, &["lfs.txt", "git lfs pull"]);
    assert!(!at.join("o").exists());
}
