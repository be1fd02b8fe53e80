use super::{Source, open};
use crate::gguf::tests::build::{array, text, texts, u32s, with_merges};
use crate::hugging_face::tests::refusals::{copy, refused};
use crate::llama2c;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A tokenizer of whole words; the model's tiny vocabulary has none of its own.
fn words(count: usize) -> String {
    let words: serde_json::Map<_, _> = (0..count).map(|id| (format!("w{id}"), json!(id))).collect();
    let model = json!({"type": "WordLevel", "vocab": words, "unk_token": "w0"});
    json!({"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": [], "model": model}).to_string()
}

fn file_names(source: &Source) -> Vec<&str> {
    source.files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect()
}

#[test]
fn the_content_decides_which_format_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let gguf = open(&put(at, "one.bin", &with_merges().bytes()), None).unwrap();
    assert_eq!((gguf.name.as_str(), gguf.format, gguf.d_vocab), ("one", "gguf", 5));
    assert_eq!((file_names(&gguf), gguf.licence.as_deref()), (vec!["one.bin"], Some("mit")));
    assert_eq!(gguf.tokenizer.as_ref().unwrap().encode("ab").unwrap(), [4]);
    assert_eq!(gguf.read("norm.gain", [1, 4]).unwrap(), [100.0, 101.0, 102.0, 103.0]);

    let llama2c = open(&put(at, "two.gguf", &llama2c::tests::model(true)), None).unwrap();
    assert_eq!((llama2c.name.as_str(), llama2c.format, llama2c.has_head), ("two", "llama2.c", true));
    assert!(llama2c.tokenizer.is_none());
    assert_eq!(llama2c.read("w_e", [5, 4]).unwrap()[..3], [0.0, 1.0, 2.0]);
    refused(open(&put(at, "cut", &llama2c::tests::model(true)[..100]), None), &["100 bytes", "cut off"]);
}

#[test]
fn a_tokenizer_comes_with_the_model_or_is_named() {
    let folder = copy("llama");
    let at = folder.path();
    assert!(open(at, None).unwrap().tokenizer.is_none());
    put(at, "tokenizer.json", words(61).as_bytes());
    let own = open(at, None).unwrap();
    assert_eq!(own.tokenizer.as_ref().unwrap().encode("w60 w3").unwrap(), [60, 3]);
    assert_eq!(file_names(&own), ["config.json", "model.safetensors", "tokenizer.json"]);
    let other = put(at, "other.json", words(7).as_bytes());
    let named = open(at, Some(&other)).unwrap();
    assert_eq!(named.tokenizer.as_ref().unwrap().d_vocab(), 7);
    assert_eq!(file_names(&named), ["config.json", "model.safetensors", "other.json"]);

    // Three special tokens, then a blank and a letter, with scores of 0.
    let mut pieces = 5_u32.to_le_bytes().to_vec();
    for piece in ["<unk>", "\n<s>\n", "\n</s>\n", " ", "a"] {
        pieces.extend([&[0; 4], &(piece.len() as i32).to_le_bytes()[..], piece.as_bytes()].concat());
    }
    let pieces = put(at, "tok5.bin", &pieces);
    let model = put(at, "model.bin", &llama2c::tests::model(true));
    assert_eq!(open(&model, Some(&pieces)).unwrap().tokenizer.unwrap().encode("a").unwrap(), [3, 4]);
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = copy("llama");
    let at = folder.path();
    put(at, "tokenizer.json", words(62).as_bytes());
    refused(open(at, None), &["tokenizer.json\": has 62 tokens, expected at most the model's 61"]);
    put(at, "tokenizer.json", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    refused(open(at, None), &["tokenizer.json\": is a Git LFS pointer"]);
    put(at, "tokenizer.json", b"{}");
    refused(open(at, None), &["tokenizer.json"]);
    refused(open(at, Some(&at.join("absent.json"))), &["absent.json\": cannot be read"]);
    let tokens = ["<s>", "a", "b", "\u{120}", "ab", "c"];
    let gguf = with_merges().without("tokenizer.ggml.tokens").value("tokenizer.ggml.tokens", 9, &texts(&tokens));
    let gguf = gguf.without("tokenizer.ggml.token_type");
    let gguf = gguf.value("tokenizer.ggml.token_type", 9, &array(5, &[3, 1, 1, 1, 1, 1].map(u32s)));
    refused(open(&put(at, "x.gguf", &gguf.bytes()), None), &["x.gguf", "6"]);
    let gguf = with_merges().without("tokenizer.ggml.model").value("tokenizer.ggml.model", 8, &text("other"));
    refused(open(&put(at, "y.gguf", &gguf.bytes()), None), &["other"]);
}

#[test]
fn a_directory_has_a_name_however_it_is_spelt() {
    let folder = copy("llama");
    fs::create_dir(folder.path().join("x")).unwrap();
    let source = open(&folder.path().join("x/.."), None).unwrap();
    assert_eq!(source.name, folder.path().file_name().unwrap().to_string_lossy());
}
