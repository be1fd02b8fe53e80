//! What hostile bytes meet: none of these may panic, hang or allocate without bound.
//!
//! `cargo test` replays mutations of good inputs (`tests/fuzz.rs`); `cargo +nightly fuzz run --fuzz-dir tests/fuzz config`
//! explores.

use basislab_config::{Library, TextSpec, TokenizerKind, load};
use basislab_data::Text;
use basislab_store::{MatrixFile, newest};
use basislab_tables::{
    DimensionRow, EvalRow, ResidualRow, RunEnd, StepRow, SummaryRow, TimingRow, VerdictRow, parse_table,
};
use std::io::Cursor;

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
