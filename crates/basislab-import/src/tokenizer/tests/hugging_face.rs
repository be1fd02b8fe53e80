use super::spelt;
use crate::ImportError;
use crate::gguf::tests::hostile::{Mutator, count};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::hugging_face::parse;
use serde_json::{Value, json};
use std::path::Path;

fn read(file: &[u8]) -> Result<Tokenizer, ImportError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, file).unwrap();
    Tokenizer::from_hugging_face(&path)
}

fn special(id: u32, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true})
}

/// As BERT has it, with truncation and padding.
fn bert() -> Value {
    json!({
        "version": "1.0",
        "truncation": {"max_length": 3, "stride": 0, "strategy": "LongestFirst", "direction": "Right"},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "the": 4, "cat": 5, "##s": 6, "[": 7, "]": 8,
                "sep": 9}}
    })
}

/// As Llama 2 has it: blanks as U+2581, bytes, one special token before.
fn llama() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>")],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "vocab": {"<unk>": 0, "<s>": 1, "<0xC3>": 2, "<0xA9>": 3, "\u{2581}": 4, "a": 5, "b": 6, "ab": 7,
                "\u{2581}ab": 8},
            "merges": ["a b", "\u{2581} ab"]}
    })
}

/// As GPT-2 has it.
fn gpt2() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special(5, "<|endoftext|>")],
        "normalizer": null, "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false,
            "use_regex": true},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false,
            "vocab": {"a": 0, "\u{120}": 1, "\u{120}a": 2, "\u{c3}": 3, "\u{a9}": 4, "<|endoftext|>": 5},
            "merges": [["\u{120}", "a"]]}
    })
}

#[test]
fn special_tokens_truncation_and_padding() {
    let tokenizer = read(bert().to_string().as_bytes()).unwrap();
    assert_eq!((&tokenizer.before[..], &tokenizer.after[..], tokenizer.d_vocab()), (&[2][..], &[3][..], 10));
    assert_eq!(spelt(&tokenizer, "The cats the cats the"), ["the", "cat", "##s", "the", "cat", "##s", "the"]);
    assert_eq!(tokenizer.encode("the [SEP]").unwrap(), [4, 7, 9, 8], "a special token that is spelt out is text");

    let tokenizer = read(llama().to_string().as_bytes()).unwrap();
    assert_eq!((&tokenizer.before[..], &tokenizer.after[..], tokenizer.d_vocab()), (&[1][..], &[][..], 9));
    assert_eq!(spelt(&tokenizer, "ab \u{e9}"), [" ab", " ", "\\xC3", "\\xA9"]);

    let tokenizer = read(gpt2().to_string().as_bytes()).unwrap();
    assert_eq!((&tokenizer.before[..], &tokenizer.after[..], tokenizer.d_vocab()), (&[][..], &[][..], 6));
    assert_eq!(spelt(&tokenizer, "a a\u{e9}"), ["a", " a", "\\xC3", "\\xA9"]);
    assert_eq!(tokenizer.spelling(5), "<|endoftext|>");
}

#[test]
fn files_that_are_no_tokenizers_are_refused() {
    let refused = |file: &str, expected: &str| {
        let error = read(file.as_bytes()).unwrap_err();
        assert!(error.what.contains(expected), "{error} does not say {expected:?}");
        assert!(!error.what.contains('\n'), "{error}");
    };
    refused("", "is no tokenizer.json of Hugging Face: EOF");
    refused("{}", "is no tokenizer.json of Hugging Face: ");
    refused("version https://git-lfs.github.com/spec/v1", "is no tokenizer.json of Hugging Face: ");
    let with = |pointer: &str, value: Value| {
        let mut file = llama();
        *file.pointer_mut(pointer).unwrap() = value;
        file.to_string()
    };
    for merge in [json!("a bb"), json!("ab"), json!(["a"]), json!(["b", "a"]), json!(7), json!("ab \u{2581}ab")] {
        refused(&with("/model/merges", json!([merge])), &format!("has the merge {merge}; expected two tokens"));
    }
    refused(&with("/model/continuing_subword_prefix", json!("##")), "has merges with continuing_subword_prefix");
    let piece = json!({"SpecialToken": {"id": "<x>", "type_id": 0}});
    refused(
        &with("/post_processor/single/0", piece),
        "has {\"SpecialToken\":{\"id\":\"<x>\",\"type_id\":0}} in its template",
    );
    let second = json!({"type": "Sequence", "processors": [{"type": "TemplateProcessing", "special_tokens": {},
        "single": [{"Sequence": {"id": "B", "type_id": 0}}], "pair": []}]});
    refused(&with("/post_processor", second), "in its template; expected sequence A");
    let missing = Tokenizer::from_hugging_face(Path::new("/nowhere/tokenizer.json")).unwrap_err();
    assert!(missing.what.starts_with("cannot be read: "));
}

/// The place of every value in a file.
fn places(value: &Value, place: &str, all: &mut Vec<String>) {
    all.push(place.to_owned());
    match value {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(k, value)| places(value, &format!("{place}/{k}"), all))
        }
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            places(value, &format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")), all);
        }),
        _ => (),
    }
}

#[test]
fn mutated_files_do_not_panic() {
    let files = [bert(), llama(), gpt2()];
    let others = ["", "\u{2581}", "[SEP]", "ab", "("].map(Value::from).into_iter();
    let others: Vec<Value> =
        others.chain([json!(null), json!(0), json!(-1), json!(4_294_967_295_u32), json!([])]).collect();
    let mut mutator = Mutator::new(5);
    let mut read_all = 0;
    for round in 0..count() / 10 {
        // Either the text is mutated, or a value is replaced by another one of the file, or by one of `others`.
        let mut file = files[round % 3].clone();
        let mut all = Vec::new();
        places(&file, "", &mut all);
        let (to, from) = (&all[mutator.below(all.len())], &all[mutator.below(all.len())]);
        let mut mutated = file.to_string().into_bytes();
        match mutator.below(4) {
            0 => mutator.mutate(&mut mutated),
            1 => {
                *file.pointer_mut(to).unwrap() = others[mutator.below(others.len())].clone();
                mutated = file.to_string().into_bytes();
            }
            _ => {
                *file.pointer_mut(to).unwrap() = file.pointer(from).unwrap().clone();
                mutated = file.to_string().into_bytes();
            }
        }
        if let Ok(tokenizer) = parse(&mutated, Path::new("x")) {
            let _ = tokenizer.encode("The cats ab \u{e9}");
            let _ = tokenizer.d_vocab();
            read_all += 1;
        }
    }
    assert!(read_all > count() / 100, "{read_all}");
}
