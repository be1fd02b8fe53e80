//! Words and tokens beside those of Python's `regex` and a plain loop over merges: scripts/gguf_fixture.py.

use crate::tokenizer::{ByteLevel, Tokenizer};
use serde_json::Value;
use std::path::Path;
use tokenizers::pre_tokenizers::byte_level::ByteLevel as Bytes;

pub(super) fn fixture() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/words.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub(super) fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// A byte-level tokenizer whose merges build each of these words, so that a word is one token exactly where it is cut out.
fn tokenizer_of(pre: &str, words: &[String]) -> Tokenizer {
    let letters = super::super::byte_level::bytes_of_letters();
    let letter = |byte: u8| letters.iter().find(|entry| *entry.1 == byte).map(|entry| *entry.0).unwrap();
    let mut tokens: Vec<String> = (0..=u8::MAX).map(|byte| letter(byte).to_string()).collect();
    let mut merges = Vec::new();
    for word in words {
        let spelt: Vec<char> = word.bytes().map(letter).collect();
        for end in 1..spelt.len() {
            let text = |range: std::ops::Range<usize>| spelt[range].iter().collect::<String>();
            let (head, tail, whole) = (text(0..end), text(end..end + 1), text(0..end + 1));
            if !tokens.contains(&whole) {
                merges.push(format!("{head} {tail}"));
                tokens.push(whole);
            }
        }
    }
    let parts = ByteLevel { tokens: &tokens, merges: &merges, user_defined: Vec::new(), pre };
    Tokenizer::from_byte_level(Path::new("x"), &parts, Vec::new(), Vec::new()).unwrap()
}

#[test]
fn texts_are_cut_into_the_words_of_the_reference() {
    let fixture = fixture();
    let texts_of_fixture = texts(&fixture["texts"]);
    let kinds = fixture["words"].as_object().unwrap();
    assert_eq!(kinds.len(), 4);
    for (pre, all) in kinds {
        for (text, words) in texts_of_fixture.iter().zip(all.as_array().unwrap()) {
            let words = texts(words);
            let tokenizer = tokenizer_of(pre, &words);
            let model = match &tokenizer.model {
                super::super::Model::HuggingFace(model) => model,
                super::super::Model::Scores(_) => unreachable!("byte-level"),
            };
            let mut pieces = tokenizers::PreTokenizedString::from(text.as_str());
            let pre_tokenizer = model.get_pre_tokenizer().unwrap();
            tokenizers::PreTokenizer::pre_tokenize(pre_tokenizer, &mut pieces).unwrap();
            let kind = tokenizers::OffsetType::Byte;
            let cut: Vec<&str> = pieces
                .get_splits(tokenizers::OffsetReferential::Original, kind)
                .into_iter()
                .map(|(_, (start, end), _)| &text[start..end])
                .collect();
            assert_eq!(cut, words, "{pre}");
            let spelt: String = words.concat();
            let tokens = tokenizer.encode(text).unwrap();
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| tokenizer.spellings[token].clone()).collect();
            assert_eq!(bytes, spelt.as_bytes(), "{pre}: no byte is lost");
        }
    }
}

#[test]
fn letters_are_those_of_the_crate_tokenizers() {
    let letters = super::super::byte_level::bytes_of_letters();
    assert_eq!(letters.len(), 256);
    assert_eq!(
        letters.keys().copied().collect::<std::collections::BTreeSet<char>>(),
        Bytes::alphabet().into_iter().collect()
    );
    assert_eq!((letters[&'\u{120}'], letters[&'\u{10A}'], letters[&'a']), (b' ', b'\n', b'a'));
}

#[test]
fn llama_3_leaves_words_that_are_tokens_whole_and_user_defined_tokens_are_cut_out() {
    let tokens = ["a", "b", "c", "ab", "bc", "abc", "<x>", "<y>", "<", ">", "x", "y"].map(str::to_owned);
    let merges = ["b c".to_owned()];
    let encode = |pre: &str, text: &str| {
        let parts = ByteLevel { tokens: &tokens, merges: &merges, user_defined: vec![6], pre };
        Tokenizer::from_byte_level(Path::new("x"), &parts, Vec::new(), Vec::new()).unwrap().encode(text).unwrap()
    };
    assert_eq!(encode("llama-bpe", "abc"), [5]);
    assert_eq!(encode("qwen2", "abc"), [0, 4]);
    assert_eq!(encode("gpt-2", "a<x>b<y>"), [0, 6, 1, 8, 11, 9]);
    assert_eq!(encode("gpt-2", "ad\u{e9}b"), [0, 1], "what has no token is dropped, as by llama.cpp and transformers");
}

#[test]
fn a_long_text_takes_seconds() {
    let words = ["the", " cat", " sat", "\n", " 1"].map(str::to_owned);
    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
        let tokenizer = tokenizer_of(pre, &words);
        for text in ["the cat sat 12\n".repeat(40_000), "a".repeat(300_000), " ".repeat(100_000) + "a"] {
            let begun = std::time::Instant::now();
            let tokens = tokenizer.encode(&text).unwrap();
            assert!(begun.elapsed().as_secs() < 60, "{pre}: {:?}", begun.elapsed());
            let bytes: usize = tokens.iter().map(|token| tokenizer.spellings[token].len()).sum();
            assert_eq!(bytes, text.len(), "{pre}");
        }
        let error = tokenizer.encode(&" ".repeat(100_001)).unwrap_err().what;
        assert!(error.contains("cannot encode more than 100000 bytes of white space in a row"), "{error}");
    }
}
