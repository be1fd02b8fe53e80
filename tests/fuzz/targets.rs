//! What hostile bytes meet: none of these may panic, hang or allocate without bound.
//!
//! `cargo test` replays mutations of good inputs (`tests/fuzz.rs`); `cargo +nightly fuzz run --fuzz-dir tests/fuzz config`
//! explores.

use basislab_config::{Library, TextSpec, TokenizerKind, load};
use basislab_data::Text;
use basislab_import::open;
use basislab_store::{MatrixFile, newest};
use basislab_tables::{
    DimensionRow, DimensionStepRow, EvalRow, ResidualRow, RunEnd, StepRow, SummaryRow, TimingRow, VerdictRow,
    parse_table,
};
use std::io::Cursor;
use std::path::Path;

pub(crate) fn config(data: &[u8]) {
    let library = Library { rules: basislab_optim::rule_keys(), base: &|_| Err("no base".to_owned()) };
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(loaded) = load(text, "f.toml", &[], library)
    {
        let again =
            load(&loaded.experiment.to_toml(), "again.toml", &[], library).expect("what was loaded loads again");
        assert_eq!(again.experiment, loaded.experiment);
    }
}

pub(crate) fn done(data: &[u8]) {
    let _ = RunEnd::parse(data);
}

pub(crate) fn csv(data: &[u8]) {
    let _ = parse_table::<StepRow>("steps.csv", data);
    let _ = parse_table::<EvalRow>("evals.csv", data);
    let _ = parse_table::<ResidualRow>("residual.csv", data);
    let _ = parse_table::<DimensionRow>("dimensions.csv", data);
    let _ = parse_table::<DimensionStepRow>("dimension_steps.csv", data);
    let _ = parse_table::<TimingRow>("timing.csv", data);
    let _ = parse_table::<SummaryRow>("summary.csv", data);
    let _ = parse_table::<VerdictRow>("verdicts.csv", data);
}

/// The bytes as a checkpoint's manifest, beside files of a good one.
pub(crate) fn checkpoint_dir(data: &[u8]) {
    let root = tempfile::tempdir().expect("a temporary folder");
    let folder = root.path().join("0000000003");
    std::fs::create_dir(&folder).expect("writable");
    std::fs::write(folder.join("manifest.json"), resealed(data)).expect("writable");
    std::fs::write(folder.join("weights.safetensors"), data).expect("writable");
    let owner = serde_json::json!({ "run": "e", "seed": 3 });
    let _ = newest(root.path(), &owner, &mut |_| Ok(None), &mut |_| {});
}

/// A mutated manifest with the hash of its mutation, so that what lies behind the seal is reached; other bytes as they are.
pub(crate) fn resealed(data: &[u8]) -> Vec<u8> {
    let Ok(mut manifest) = serde_json::from_slice::<serde_json::Value>(data) else { return data.to_vec() };
    if !manifest.is_object() {
        return data.to_vec();
    }
    manifest["sha256"] = "".into();
    let sum = basislab_store::sha256(format!("{manifest:#}\n").as_bytes());
    manifest["sha256"] = sum.into();
    format!("{manifest:#}\n").into_bytes()
}

pub(crate) fn corpus(data: &[u8]) {
    // The first byte chooses the tokenizer; a tokenizer is trained for one input in sixteen.
    let (first, text) = data.split_first().unwrap_or((&1, &[]));
    let bpe = first.is_multiple_of(16);
    let (tokenizer, d_vocab) = if bpe { (TokenizerKind::Bpe, 260) } else { (TokenizerKind::Bytes, 256) };
    let spec = TextSpec { path: "f.txt".to_owned(), tokenizer, d_vocab, held_out: 0.1 };
    if let Ok(text) = Text::from_bytes(text, &spec, 5) {
        assert!(text.training_tokens() >= 5 && text.held_out_tokens() >= 5);
    }
}

pub(crate) fn npy(data: &[u8]) {
    read_all(MatrixFile::npy(Cursor::new(data)));
}

pub(crate) fn safetensors(data: &[u8]) {
    read_all(MatrixFile::safetensors(Cursor::new(data), None));
    let _ = basislab_store::decode(data, &[("x".to_owned(), basislab_store::Dtype::F32, vec![2, 4])]);
}

/// A header that was accepted fits its file.
fn read_all(file: Result<MatrixFile<Cursor<&[u8]>>, String>) {
    if let Ok(mut file) = file {
        let [rows, columns] = file.shape();
        assert_eq!(file.read().expect("as long as its header says").len(), rows * columns);
    }
}

/// Whether it is a model that opens.
pub(crate) fn gguf(data: &[u8]) -> bool {
    model("model.gguf", data, None)
}

/// Whether it is a model that opens.
pub(crate) fn llama2c(data: &[u8]) -> bool {
    model("model.bin", data, None)
}

/// A directory of Hugging Face: the length of `config.json` in two bytes, `config.json`, `model.safetensors`.
pub(crate) fn hugging_face(data: &[u8]) -> bool {
    let (length, rest) = data.split_first_chunk::<2>().unwrap_or((&[0; 2], &[]));
    let (config, weights) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
    let root = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(root.path().join("config.json"), config).expect("writable");
    std::fs::write(root.path().join("model.safetensors"), weights).expect("writable");
    read_model(root.path(), None)
}

/// A small model of llama2.c whose `tokenizer.json` or `tokenizer.bin` is the input.
pub(crate) fn tokenizer(data: &[u8]) -> bool {
    let sizes = [2_i32, 1, 1, 1, 1, 16, 1];
    // Embedding, three norms, six matrices, cosine and sine of position 0.
    let weights = [vec![0.0_f32; 16 * 2 + 3 * 2 + 4 * 4 + 3 * 2], vec![1.0, 0.0]].concat();
    let header = sizes.iter().flat_map(|size| size.to_le_bytes());
    let bytes: Vec<u8> = header.chain(weights.iter().flat_map(|weight| weight.to_le_bytes())).collect();
    model("model.bin", &bytes, Some(data))
}

fn model(name: &str, data: &[u8], tokenizer: Option<&[u8]>) -> bool {
    let root = tempfile::tempdir().expect("a temporary folder");
    let (path, beside) = (root.path().join(name), root.path().join("tokenizer"));
    std::fs::write(&path, data).expect("writable");
    if let Some(tokenizer) = tokenizer {
        std::fs::write(&beside, tokenizer).expect("writable");
    }
    read_model(&path, tokenizer.is_some().then_some(beside.as_path()))
}

/// What is opened has some of the parameters that it says it has, and a tokenizer that encodes or says why not.
fn read_model(path: &Path, tokenizer: Option<&Path>) -> bool {
    let Ok(source) = open(path, tokenizer) else { return false };
    let (d, vocabulary) = (source.spec.d_model, source.d_vocab);
    if let Ok(values) = source.read("w_e", [vocabulary, d]) {
        assert_eq!(values.len(), vocabulary * d);
    }
    let _ = source.read("blocks.0.w_q", [d, d]);
    if let Some(tokenizer) = &source.tokenizer {
        assert!(tokenizer.d_vocab() <= vocabulary);
        for token in tokenizer.encode("The cats ab \u{e9}\u{2581}").unwrap_or_default() {
            let _ = (tokenizer.spelling(token), tokenizer.bytes(token));
        }
    }
    true
}
